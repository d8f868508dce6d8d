"""Regions of interest: hand-worked statistics, erosion in mm, and veins that are found where one
was put.
"""

import numpy as np
import pytest

from multiqsm.core.regions.statistics import roi_statistics, subtract_reference
from multiqsm.core.regions.veins import vein_mask

COLUMNS = ["roi", "mean", "sd", "median", "n_voxels", "volume", "n_excluded"]


def grid(shape, voxel_size):
    """Coordinates in mm from the middle, shape (3, x, y, z)."""
    axes = [(np.arange(n) - (n - 1) / 2) * side for n, side in zip(shape, voxel_size, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def tube_distance(points, direction):
    """Distance from a line through the middle."""
    direction = np.asarray(direction, float) / np.linalg.norm(direction)
    along = np.tensordot(direction, points, axes=1)
    return np.sqrt(np.maximum((points**2).sum(axis=0) - along**2, 0))


def test_reference_is_subtracted_within_the_mask_alone():
    chi = np.array([1.0, 2.0, 4.0, 8.0]).reshape(1, 1, 4)
    mask, region = np.array([[[True, True, True, False]]]), np.array([[[True, False, True, True]]])
    referenced, offset, spread = subtract_reference(chi, mask, region)
    assert (offset, spread) == (2.5, 1.5)
    assert referenced.ravel().tolist() == [-1.5, -0.5, 1.5, 0]
    with pytest.raises(ValueError, match="no voxel inside the mask"):
        subtract_reference(chi, mask, ~mask)


def test_hand_worked_statistics():
    chi = np.array([0.1, 0.2, 0.6, 5.0, 0.4, 9.0]).reshape(6, 1, 1)
    labels = np.array([3, 3, 3, 3, 5, 0]).reshape(6, 1, 1)
    mask = np.array([1, 1, 1, 0, 1, 1], bool).reshape(6, 1, 1)
    table = roi_statistics(
        chi, labels, {5: "single", 3: "putamen", 8: "elsewhere"}, mask, (1, 2, 0.5)
    )
    assert list(table.columns) == COLUMNS
    assert table["roi"].tolist() == ["single", "putamen", "elsewhere"]
    single, putamen, elsewhere = table.to_dict("records")
    assert [putamen[c] for c in COLUMNS[1:]] == pytest.approx(
        [0.3, np.sqrt(0.14 / 2), 0.2, 3, 0.003, 0]
    )
    assert (single["mean"], single["n_voxels"]) == (0.4, 1)
    assert np.isnan(single["sd"])
    assert [elsewhere[c] for c in ("n_voxels", "volume", "n_excluded")] == [0, 0, 0]
    assert np.isnan([elsewhere[c] for c in ("mean", "sd", "median")]).all()


def test_labels_of_one_name_are_one_region():
    chi = np.array([1.0, 3.0, 8.0]).reshape(3, 1, 1)
    labels = np.array([1, 2, 0]).reshape(3, 1, 1)
    (row,) = roi_statistics(chi, labels, {1: "nigra", 2: "nigra"}, labels >= 0, (1, 1, 1)).to_dict(
        "records"
    )
    assert (row["mean"], row["n_voxels"]) == (2, 2)


@pytest.mark.parametrize("voxel_size", [(1, 1, 2), (2, 2, 2), (0.5, 0.5, 2)])
def test_erosion_of_a_ball_is_in_mm(voxel_size):
    """Volume of a ball of 10 mm radius after an erosion of 3 mm: that of a ball of 7 mm."""
    shape = tuple(int(26 / side) for side in voxel_size)
    ball = (np.linalg.norm(grid(shape, voxel_size), axis=0) < 10).astype(int)
    table = roi_statistics(np.zeros(shape), ball, {1: "ball"}, ball >= 0, voxel_size, erosion=3.0)
    # Distances are between centres: half a voxel more may go at the surface.
    assert 4 / 3 * np.pi * 6.2**3 < 1000 * table["volume"][0] < 4 / 3 * np.pi * 7.3**3


def test_each_region_is_eroded_by_itself_and_not_at_the_volumes_faces():
    labels = np.repeat([1, 2], 5).reshape(10, 1, 1) * np.ones((10, 4, 4), int)
    table = roi_statistics(
        np.zeros(labels.shape), labels, {1: "a", 2: "b"}, labels > 0, (1, 1, 1), erosion=1.0
    )
    assert table["n_voxels"].tolist() == [4 * 16, 4 * 16]


def test_a_region_that_erosion_leaves_nothing_of_is_kept_in_the_table():
    labels = np.zeros((5, 5, 5), int)
    labels[2, 2, 2] = 1
    (row,) = roi_statistics(
        np.zeros(labels.shape), labels, {1: "dot"}, labels >= 0, (1, 1, 1), erosion=1
    ).to_dict("records")
    assert row["n_voxels"] == 0
    assert np.isnan(row["mean"])


def test_excluded_voxels_are_counted():
    chi = np.arange(8.0).reshape(8, 1, 1)
    labels = np.array([1] * 6 + [0] * 2).reshape(8, 1, 1)
    exclude = chi > 3
    mask = chi != 5
    (row,) = roi_statistics(chi, labels, {1: "x"}, mask, (1, 1, 1), exclude=exclude).to_dict(
        "records"
    )
    assert (row["n_voxels"], row["n_excluded"], row["mean"]) == (4, 1, 1.5)


def test_what_makes_no_sense_is_refused():
    zeros = np.zeros((2, 2, 2))
    labels, mask = np.ones((2, 2, 2), int), np.ones((2, 2, 2), bool)
    with pytest.raises(ValueError, match=r"labels \(3, 2, 2\).*one grid"):
        roi_statistics(zeros, np.ones((3, 2, 2), int), {1: "x"}, mask, (1, 1, 1))
    with pytest.raises(ValueError, match="no label has a name"):
        roi_statistics(zeros, labels, {}, mask, (1, 1, 1))
    with pytest.raises(ValueError, match="would grow"):
        roi_statistics(zeros, labels, {1: "x"}, mask, (1, 1, 1), erosion=-1)
    with pytest.raises(ValueError, match="x: susceptibility is not finite in 8 voxels"):
        roi_statistics(zeros * np.nan, labels, {1: "x"}, mask, (1, 1, 1))
    with pytest.raises(ValueError, match="mask is empty"):
        vein_mask(zeros, labels, ~mask, (1, 1, 1))


def thalamus_with_vein(voxel_size, *, direction=(1, 0.3, 0.4), noise=0.01, vein=0.3, seed=0):
    """An ellipsoid of 0 ppm in tissue of -0.03 ppm with a vein of 1 mm radius through it, drawn as
    voxels' means.
    """
    factor = [max(1, round(2 * side)) for side in voxel_size]
    fine = tuple(int(36 / side) for side in voxel_size)
    points = grid([n * f for n, f in zip(fine, factor, strict=True)], np.divide(voxel_size, factor))
    inside = np.linalg.norm(points / np.array([9, 12, 14]).reshape(3, 1, 1, 1), axis=0) < 1
    chi = np.where(tube_distance(points, direction) < 1, vein, np.where(inside, 0.0, -0.03))

    def mean(image):
        for axis, f in enumerate(factor):
            image = image.reshape(*image.shape[:axis], -1, f, *image.shape[axis + 1 :]).mean(
                axis=axis + 1
            )
        return image

    labels = (mean(inside.astype(float)) > 0.5).astype(int)
    share = mean((tube_distance(points, direction) < 1).astype(float))
    rng = np.random.default_rng(seed)
    return mean(chi) + noise * rng.standard_normal(fine), labels, share


@pytest.mark.parametrize("voxel_size", [(1, 1, 2), (0.5, 0.5, 2)])
@pytest.mark.parametrize("direction", [(1, 0.3, 0.4), (0, 0, 1), (0, 1, 0)])
def test_a_vein_through_a_nucleus_is_excluded(voxel_size, direction):
    chi, labels, share = thalamus_with_vein(voxel_size, direction=direction)
    mask, region = np.ones(labels.shape, bool), labels == 1
    veins = vein_mask(chi, labels, mask, voxel_size)
    assert veins[region & (share > share[region].max() / 2)].mean() > 0.95
    assert veins[region & (share == 0)].mean() < 0.01
    assert not veins[~region].any()
    with_vein, without = (
        roi_statistics(chi, labels, {1: "thalamus"}, mask, voxel_size, erosion=1, exclude=exclude)[
            "mean"
        ][0]
        for exclude in (None, veins)
    )
    assert with_vein > 0.002
    assert abs(without) < 0.15 * with_vein


def test_a_vein_in_coarse_voxels_is_excluded_where_it_takes_much_of_them():
    chi, labels, share = thalamus_with_vein((2, 2, 2))
    veins = vein_mask(chi, labels, labels >= 0, (2, 2, 2))
    assert veins[(labels == 1) & (share > 0.4)].all()
    assert not veins[share == 0].any()


@pytest.mark.parametrize("voxel_size", [(1, 1, 2), (2, 2, 2)])
def test_a_nucleus_without_vein_is_left_alone(voxel_size):
    chi, labels, _ = thalamus_with_vein(voxel_size, vein=0.0, noise=0.02)
    assert (
        vein_mask(chi, labels, np.ones(labels.shape, bool), voxel_size)[labels == 1].mean() < 2e-3
    )


def test_thin_nuclei_and_gradients_are_no_veins():
    """A sheet as thin as the substantia nigra (4 mm), bright as it is, and a nucleus that is
    brighter at one end.
    """
    voxel_size, rng = (1.0, 1.0, 2.0), np.random.default_rng(1)
    points = grid((40, 40, 16), voxel_size)
    sheet = np.linalg.norm(points / np.array([2, 6, 8]).reshape(3, 1, 1, 1), axis=0) < 1
    ball = np.linalg.norm(points - np.array([12, 0, 0]).reshape(3, 1, 1, 1), axis=0) < 6
    labels = sheet + 2 * (ball & ~sheet)
    chi = np.where(
        sheet, 0.15, np.where(ball, 0.05 + 0.01 * points[1], -0.03)
    ) + 0.01 * rng.standard_normal(sheet.shape)
    veins = vein_mask(chi, labels, np.ones(sheet.shape, bool), voxel_size)
    assert veins[sheet].mean() < 0.01
    assert veins[ball].mean() < 0.01


def test_without_regions_there_is_nothing_to_exclude():
    zeros = np.zeros((4, 4, 4))
    assert not vein_mask(zeros, zeros.astype(int), zeros == 0, (1, 1, 1)).any()
