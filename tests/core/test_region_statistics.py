"""Regions of interest: statistics by hand, erosion in mm, and simulated veins."""

import numpy as np
import pytest

from multiqsm.core.regions.statistics import roi_statistics, subtract_reference
from multiqsm.core.regions.veins import vein_mask

COLUMNS = ["roi", "mean", "sd", "median", "n_voxels", "volume", "n_excluded"]


def grid(shape, voxel_size):
    """Return coordinates in mm from the middle, shape (3, x, y, z)."""
    middle = (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2
    return (np.indices(tuple(shape)) - middle) * np.reshape(voxel_size, (3, 1, 1, 1))


def tube_distance(points, direction):
    """Return the distance from a line through the middle."""
    direction = np.asarray(direction, float) / np.linalg.norm(direction)
    along = np.tensordot(direction, points, axes=1)
    return np.sqrt(np.maximum((points**2).sum(axis=0) - along**2, 0))


def test_reference_is_subtracted_within_the_mask_only():
    chi = np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 1, 4)
    mask = np.array([[[True, True, True, False]]])
    region = np.array([[[True, False, True, True]]])
    referenced, offset, spread = subtract_reference(chi, mask, region)
    assert (offset, spread) == (2.5, 1.5)
    assert referenced.ravel().tolist() == [-1.5, -0.5, 1.5, 0]
    with pytest.raises(ValueError, match="no voxel inside the mask"):
        subtract_reference(chi, mask, ~mask)


def test_statistics_by_hand():
    chi = np.array([0.1, 0.2, 0.6, 5.0, 0.4, 9.0]).reshape(6, 1, 1)
    labels = np.array([3, 3, 3, 3, 5, 0]).reshape(6, 1, 1)
    mask = np.array([1, 1, 1, 0, 1, 1], bool).reshape(6, 1, 1)
    names = {5: "single", 3: "putamen", 8: "absent"}
    table = roi_statistics(chi, labels, names, mask, (1, 2, 0.5))
    assert list(table.columns) == COLUMNS
    table = table.set_index("roi")
    assert table.index.tolist() == ["single", "putamen", "absent"]
    putamen = [0.3, np.sqrt(0.14 / 2), 0.2, 3, 0.003, 0]
    assert table.loc["putamen"].tolist() == pytest.approx(putamen)
    assert table.loc["single", "mean"] == 0.4
    assert table.loc["single", "n_voxels"] == 1
    assert np.isnan(table.loc["single", "sd"])
    assert table.loc["absent", ["n_voxels", "volume", "n_excluded"]].tolist() == [0, 0, 0]
    assert table.loc["absent", ["mean", "sd", "median"]].isna().all()


def test_labels_of_one_name_are_one_region():
    chi = np.array([1.0, 3.0, 8.0]).reshape(3, 1, 1)
    labels = np.array([1, 2, 0]).reshape(3, 1, 1)
    names = {1: "nigra", 2: "nigra"}
    table = roi_statistics(chi, labels, names, labels >= 0, (1, 1, 1))
    assert table["mean"].tolist() == [2]
    assert table["n_voxels"].tolist() == [2]


@pytest.mark.parametrize("voxel_size", [(1, 1, 2), (2, 2, 2), (0.5, 0.5, 2)])
def test_erosion_of_a_ball_is_in_mm(voxel_size):
    """A ball of 10 mm radius has the volume of a ball of 7 mm after an erosion of 3 mm."""
    shape = np.divide(26, voxel_size).astype(int)
    ball = (np.linalg.norm(grid(shape, voxel_size), axis=0) < 10).astype(int)
    table = roi_statistics(np.zeros(shape), ball, {1: "ball"}, ball >= 0, voxel_size, erosion=3.0)
    # Distances are between voxel centres, so that half a voxel more may be removed.
    assert 4 / 3 * np.pi * 6.2**3 < 1000 * table["volume"][0] < 4 / 3 * np.pi * 7.3**3


def test_each_region_is_eroded_separately_and_not_at_faces_of_the_volume():
    labels = np.repeat([1, 2], 5).reshape(10, 1, 1) * np.ones((10, 4, 4), int)
    names = {1: "a", 2: "b"}
    chi = np.zeros(labels.shape)
    table = roi_statistics(chi, labels, names, labels > 0, (1, 1, 1), erosion=1.0)
    assert table["n_voxels"].tolist() == [4 * 16, 4 * 16]


def test_a_region_without_voxels_after_erosion_remains_in_the_table():
    labels = np.zeros((5, 5, 5), int)
    labels[2, 2, 2] = 1
    chi = np.zeros(labels.shape)
    table = roi_statistics(chi, labels, {1: "dot"}, labels >= 0, (1, 1, 1), erosion=1)
    assert table["n_voxels"].tolist() == [0]
    assert table["mean"].isna().all()


def test_excluded_voxels_are_counted():
    chi = np.arange(8.0).reshape(8, 1, 1)
    labels = np.array([1] * 6 + [0] * 2).reshape(8, 1, 1)
    exclude = chi > 3
    mask = chi != 5
    table = roi_statistics(chi, labels, {1: "x"}, mask, (1, 1, 1), exclude=exclude)
    assert table[["n_voxels", "n_excluded", "mean"]].to_numpy().tolist() == [[4, 1, 1.5]]


def test_unusable_input_is_refused():
    zeros = np.zeros((2, 2, 2))
    labels = np.ones((2, 2, 2), int)
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(ValueError, match=r"labels \(3, 2, 2\).*one grid"):
        roi_statistics(zeros, np.ones((3, 2, 2), int), {1: "x"}, mask, (1, 1, 1))
    with pytest.raises(ValueError, match="no label has a name"):
        roi_statistics(zeros, labels, {}, mask, (1, 1, 1))
    with pytest.raises(ValueError, match="must not be negative"):
        roi_statistics(zeros, labels, {1: "x"}, mask, (1, 1, 1), erosion=-1)
    with pytest.raises(ValueError, match="x: susceptibility is not finite in 8 voxels"):
        roi_statistics(zeros * np.nan, labels, {1: "x"}, mask, (1, 1, 1))
    with pytest.raises(ValueError, match="mask is empty"):
        vein_mask(zeros, labels, ~mask, (1, 1, 1))


def thalamus_with_vein(voxel_size, *, direction=(1, 0.3, 0.4), noise=0.01, vein=0.3, seed=0):
    """Return susceptibility, labels, and the fraction of each voxel that a vein fills.

    The thalamus is an ellipsoid of 0 ppm in tissue of -0.03 ppm, and the vein has a radius of 1 mm.
    Values are means over a finer grid.
    """
    factor = np.maximum(np.rint(np.multiply(2, voxel_size)).astype(int), 1)
    shape = np.divide(36, voxel_size).astype(int)
    points = grid(shape * factor, np.divide(voxel_size, factor))
    inside = np.linalg.norm(points / np.array([9, 12, 14]).reshape(3, 1, 1, 1), axis=0) < 1
    chi = np.where(tube_distance(points, direction) < 1, vein, np.where(inside, 0.0, -0.03))

    def mean(image):
        x, y, z = shape
        a, b, c = factor
        return image.reshape(x, a, y, b, z, c).mean(axis=(1, 3, 5))

    labels = (mean(inside.astype(float)) > 0.5).astype(int)
    vein_fraction = mean((tube_distance(points, direction) < 1).astype(float))
    rng = np.random.default_rng(seed)
    return mean(chi) + noise * rng.standard_normal(shape), labels, vein_fraction


@pytest.mark.parametrize("voxel_size", [(1, 1, 2), (0.5, 0.5, 2)])
@pytest.mark.parametrize("direction", [(1, 0.3, 0.4), (0, 0, 1), (0, 1, 0)])
def test_a_vein_through_a_nucleus_is_excluded(voxel_size, direction):
    chi, labels, vein_fraction = thalamus_with_vein(voxel_size, direction=direction)
    mask = np.ones(labels.shape, bool)
    region = labels == 1
    veins = vein_mask(chi, labels, mask, voxel_size)
    assert veins[region & (vein_fraction > vein_fraction[region].max() / 2)].mean() > 0.95
    assert veins[region & (vein_fraction == 0)].mean() < 0.01
    assert not veins[~region].any()
    arguments = (chi, labels, {1: "thalamus"}, mask, voxel_size)
    mean_with_vein = roi_statistics(*arguments, erosion=1)["mean"][0]
    mean_without = roi_statistics(*arguments, erosion=1, exclude=veins)["mean"][0]
    assert mean_with_vein > 0.002
    assert abs(mean_without) < 0.15 * mean_with_vein


def test_a_vein_is_excluded_from_coarse_voxels_that_it_largely_fills():
    chi, labels, vein_fraction = thalamus_with_vein((2, 2, 2))
    veins = vein_mask(chi, labels, labels >= 0, (2, 2, 2))
    assert veins[(labels == 1) & (vein_fraction > 0.4)].all()
    assert not veins[vein_fraction == 0].any()


@pytest.mark.parametrize("voxel_size", [(1, 1, 2), (2, 2, 2)])
def test_hardly_any_voxel_of_a_nucleus_without_vein_is_excluded(voxel_size):
    chi, labels, _ = thalamus_with_vein(voxel_size, vein=0.0, noise=0.02)
    veins = vein_mask(chi, labels, np.ones(labels.shape, bool), voxel_size)
    assert veins[labels == 1].mean() < 2e-3


def test_thin_nuclei_and_gradients_are_not_veins():
    """One nucleus is as thin (4 mm) and bright as the substantia nigra, one has a gradient."""
    voxel_size = (1.0, 1.0, 2.0)
    rng = np.random.default_rng(1)
    points = grid((40, 40, 16), voxel_size)
    sheet = np.linalg.norm(points / np.array([2, 6, 8]).reshape(3, 1, 1, 1), axis=0) < 1
    ball = np.linalg.norm(points - np.array([12, 0, 0]).reshape(3, 1, 1, 1), axis=0) < 6
    labels = sheet + 2 * (ball & ~sheet)
    surroundings = np.where(ball, 0.05 + 0.01 * points[1], -0.03)
    chi = np.where(sheet, 0.15, surroundings) + 0.01 * rng.standard_normal(sheet.shape)
    veins = vein_mask(chi, labels, np.ones(sheet.shape, bool), voxel_size)
    assert veins[sheet].mean() < 0.01
    assert veins[ball].mean() < 0.01


def test_without_regions_nothing_is_excluded():
    zeros = np.zeros((4, 4, 4))
    assert not vein_mask(zeros, zeros.astype(int), zeros == 0, (1, 1, 1)).any()
