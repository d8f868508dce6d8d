"""The reference region: ventricles that were put into a head, found by R2* and position, and labels
by their name.
"""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from multiqsm.core.dipole import b0_direction
from multiqsm.core.regions.reference import find_csf, reference_region, right_direction

TISSUE, CSF = 17.0, 2.0  # R2*, 1/s


def ellipsoid(points, centre, axes):
    scaled = (points - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(axes, (3, 1, 1, 1))
    return (scaled**2).sum(axis=0) < 1


def head(
    voxel_size, *, rotation=(0, 0, 0), noise=0.0, ventricle=7.0, extent=(150, 180, 130), seed=0
):
    """A brain with lateral ventricles, third ventricle, a cistern, a fissure and sulci, as R2*.

    Coordinates are mm to the right, front and top from the brain's middle. `rotation` (degrees)
    turns the image's axes in it, and `ventricle` is the smallest semi-axis of a lateral ventricle.
    """
    shape = tuple(int(n / side) for n, side in zip(extent, voxel_size, strict=True))
    turn = Rotation.from_euler("xyz", rotation, degrees=True).as_matrix()
    index = np.stack(np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij"))
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(voxel_size)
    points = np.tensordot(affine[:3, :3], index, axes=1)
    x, y, z = points
    mask = ellipsoid(points, (0, 0, 0), (70, 85, 62))
    lateral = np.zeros(shape, bool)
    for side in (-1, 1):
        lateral |= ellipsoid(points, (side * 14, 5, 10), (ventricle, 35, ventricle + 1))
    third = ellipsoid(points, (0, 0, -8), (3, 14, 10))
    cistern = ellipsoid(points, (0, -25, -14), (10, 9, 8))
    fissure = (np.abs(x) < 2) & (z > 25)
    sulci = mask & ~ellipsoid(points, (0, 0, 0), (62, 77, 54)) & (np.sin(y / 3) > 0.3)
    rng = np.random.default_rng(seed)
    csf = lateral | third | cistern | fissure | sulci
    r2star = np.where(
        mask, np.where(csf, CSF, TISSUE) + noise * rng.standard_normal(shape), 0
    ).astype(np.float32)
    return {"r2star": r2star, "magnitude": np.where(mask, 100, 1), "mask": mask}, lateral, affine


@pytest.mark.parametrize("voxel_size", [(1, 1, 2), (2, 2, 2), (2, 2, 2.5)])
@pytest.mark.parametrize("noise", [0, 4])
def test_lateral_ventricles_are_found_and_nothing_else(voxel_size, noise):
    images, lateral, _ = head(voxel_size, noise=noise)
    found = find_csf(**images, voxel_size=voxel_size)
    millilitres = np.prod(voxel_size) / 1000
    assert not (found.mask & ~lateral).any()
    assert 2 < found.volume < 0.8 * lateral.sum() * millilitres
    assert found.volume == pytest.approx(found.mask.sum() * millilitres)
    assert found.volume_left == pytest.approx(found.volume_right, rel=0.15)
    assert found.volume_left + found.volume_right == pytest.approx(found.volume)
    # Voxels were chosen by their R2*, so that noise bends its mean.
    assert found.mean_r2star == pytest.approx(CSF, abs=0.01 + 0.25 * noise)
    assert images["r2star"][found.mask].std() == pytest.approx(noise, rel=0.15, abs=1e-3)
    assert found.threshold == pytest.approx(TISSUE / 3, rel=0.05)
    n_pieces = ndimage.label(found.mask)[1]
    assert n_pieces == 2 if not noise else 2 <= n_pieces <= 4


@pytest.mark.slow
def test_fine_voxels_with_much_noise():
    images, lateral, _ = head((0.5, 0.5, 2), noise=12)
    found = find_csf(**images, voxel_size=(0.5, 0.5, 2))
    assert not (found.mask & ~lateral).any()
    assert found.volume > 2


@pytest.mark.parametrize("rotation", [(25, 0, 0), (10, -15, 20), (0, 90, 0)])
def test_oblique_slices(rotation):
    images, lateral, affine = head((2, 2, 2), rotation=rotation, noise=2, extent=(190, 190, 190))
    found = find_csf(**images, voxel_size=(2, 2, 2), right=right_direction(affine))
    assert not (found.mask & ~lateral).any()
    assert found.volume > 3
    assert found.volume_left == pytest.approx(found.volume_right, rel=0.25)


@pytest.mark.parametrize("rotation", [(0, 0, 10), (0, 6, 0), (5, -5, 5)])
def test_a_head_turned_in_the_scanner(rotation):
    images, lateral, _ = head((2, 2, 2), rotation=rotation, extent=(170, 180, 150))
    found = find_csf(**images, voxel_size=(2, 2, 2))
    assert not (found.mask & ~lateral).any()
    assert found.volume_left == pytest.approx(found.volume_right, rel=0.15)


def test_left_and_right_are_the_heads():
    images, lateral, _ = head((2, 2, 2))
    images["r2star"][: images["r2star"].shape[0] // 2][lateral[: lateral.shape[0] // 2]] = TISSUE
    found = find_csf(**images, voxel_size=(2, 2, 2))
    assert found.volume_left == 0
    assert found.volume_right == found.volume > 1
    mirrored = find_csf(
        **{k: v[::-1] for k, v in images.items()}, voxel_size=(2, 2, 2), right=(-1, 0, 0)
    )
    assert mirrored.volume_right == found.volume_right


def test_a_slab_cut_through_the_ventricles():
    images, lateral, _ = head((2, 2, 2))
    cut = (..., slice(lateral.shape[2] // 2 + 3, None))
    found = find_csf(**{name: image[cut] for name, image in images.items()}, voxel_size=(2, 2, 2))
    assert found.volume > 2
    assert not (found.mask & ~lateral[cut]).any()
    assert found.mask[..., 0].any()


def test_field_strength_does_not_matter():
    images, _, _ = head((2, 2, 2))
    usual = find_csf(**images, voxel_size=(2, 2, 2))
    stronger = find_csf(**{**images, "r2star": 2 * images["r2star"]}, voxel_size=(2, 2, 2))
    np.testing.assert_array_equal(usual.mask, stronger.mask)


def test_voids_without_signal_are_no_csf():
    images, lateral, _ = head((2, 2, 2))
    images["magnitude"] = np.where(lateral, 2, images["magnitude"])
    with pytest.raises(ValueError, match=r"No plausible lateral ventricles: 0.00 mL"):
        find_csf(**images, voxel_size=(2, 2, 2))


def test_implausible_heads_are_refused_with_the_cause():
    images, _, _ = head((2, 2, 2), ventricle=1.5)
    with pytest.raises(
        ValueError,
        match=r"0.00 mL where 0.3 to 150 mL .* below 5.7/s .* draw the reference by hand",
    ):
        find_csf(**images, voxel_size=(2, 2, 2))
    with pytest.raises(ValueError, match="to 1 mL are expected"):
        find_csf(**head((2, 2, 2))[0], voxel_size=(2, 2, 2), maximum=1)
    with pytest.raises(ValueError, match="median of R2\\* in the mask is -17/s"):
        find_csf(**{**images, "r2star": -images["r2star"]}, voxel_size=(2, 2, 2))
    with pytest.raises(ValueError, match="mask is empty"):
        find_csf(**{**images, "mask": np.zeros_like(images["mask"])}, voxel_size=(2, 2, 2))
    with pytest.raises(ValueError, match="one shape"):
        find_csf(**{**images, "magnitude": np.ones((2, 2, 2))}, voxel_size=(2, 2, 2))
    with pytest.raises(ValueError, match="not finite"):
        find_csf(**{**images, "r2star": images["r2star"] * np.nan}, voxel_size=(2, 2, 2))


def test_right_is_across_the_direction_of_b0():
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (20, 30, 40), degrees=True).as_matrix() @ np.diag(
        [-0.5, 1, 3]
    )
    right = right_direction(affine)
    assert right @ b0_direction(affine) == pytest.approx(0, abs=1e-12)
    # A step of so many mm along the voxel axes leads that far along the scanner's x axis.
    assert (affine[:3, :3] @ (right / [0.5, 1, 3]))[0] == pytest.approx(1)


LABELS = np.array([0, 1, 2, 3, 4, 4]).reshape(6, 1, 1)
MASK = np.array([1, 1, 1, 1, 1, 0], bool).reshape(6, 1, 1)


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("brain", {}, [1, 1, 1, 1, 1, 0]),
        ("putamen", {4: "putamen", 1: "csf"}, [0, 0, 0, 0, 1, 0]),
        ("csf", {1: "CSF", 4: "putamen"}, [0, 1, 0, 0, 0, 0]),
        (
            "CSF",
            {1: "left_lateral_ventricle", 2: "right_lateral_ventricle", 3: "wm"},
            [0, 1, 1, 0, 0, 0],
        ),
        (
            "csf",
            {1: "Left-Lateral-Ventricle", 2: "lateral ventricles R", 3: "3rd-Ventricle"},
            [0, 1, 1, 0, 0, 0],
        ),
        ("csf", {1: "csf", 2: "lateral_ventricle"}, [0, 1, 0, 0, 0, 0]),
        ("brain", {3: "brain"}, [0, 0, 0, 1, 0, 0]),
    ],
)
def test_reference_by_name(name, names, expected):
    assert reference_region(name, LABELS, names, MASK).astype(int).ravel().tolist() == expected


def test_a_reference_that_is_not_there():
    with pytest.raises(ValueError, match=r"no label 'csf' to refer to; the labels are: putamen"):
        reference_region("csf", LABELS, {1: "putamen"}, MASK)
    with pytest.raises(ValueError, match="labels are: none"):
        reference_region("splenium", LABELS, {}, MASK)
    with pytest.raises(ValueError, match="no voxel within the mask"):
        reference_region("csf", LABELS, {9: "csf"}, MASK)
