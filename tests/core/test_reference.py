"""The reference region: simulated ventricles found by R2* and position, and labels by name."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from multiqsm.core.dipole import b0_direction
from multiqsm.core.regions.reference import find_csf, reference_region, right_direction

TISSUE = 17.0  # R2*, 1/s
CSF = 2.0


def ellipsoid(points, centre, axes):
    scaled = (points - np.reshape(centre, (3, 1, 1, 1))) / np.reshape(axes, (3, 1, 1, 1))
    return (scaled**2).sum(axis=0) < 1


def head(
    voxel_size, *, rotation=(0, 0, 0), noise=0.0, ventricle=7.0, extent=(150, 180, 130), seed=0
):
    """Return R2*, magnitude and mask of a brain, its lateral ventricles and its affine.

    The brain has lateral ventricles, third ventricle, a cistern, a fissure and sulci. Coordinates
    are mm to the right, front and top of the brain's middle. `rotation` (degrees) rotates the
    image's axes, and `ventricle` is the smallest semi-axis of a lateral ventricle.
    """
    shape = tuple(np.divide(extent, voxel_size).astype(int).tolist())
    index = np.indices(shape) - (np.reshape(shape, (3, 1, 1, 1)) - 1) / 2
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rotation, degrees=True).as_matrix()
    affine[:3, :3] = affine[:3, :3] @ np.diag(voxel_size)
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
    noisy = np.where(csf, CSF, TISSUE) + noise * rng.standard_normal(shape)
    r2star = np.where(mask, noisy, 0).astype(np.float32)
    return {"r2star": r2star, "magnitude": np.where(mask, 100, 1), "mask": mask}, lateral, affine


@pytest.mark.parametrize("voxel_size", [(1, 1, 2), (2, 2, 2), (2, 2, 2.5)])
@pytest.mark.parametrize("noise", [0, 4])
def test_only_lateral_ventricles_are_found(voxel_size, noise):
    images, lateral, _ = head(voxel_size, noise=noise)
    csf = find_csf(**images, voxel_size=voxel_size)
    millilitres = np.prod(voxel_size) / 1000
    assert not (csf.mask & ~lateral).any()
    assert 2 < csf.volume < 0.8 * lateral.sum() * millilitres
    assert csf.volume == pytest.approx(csf.mask.sum() * millilitres)
    assert csf.volume_left == pytest.approx(csf.volume_right, rel=0.15)
    assert csf.volume_left + csf.volume_right == pytest.approx(csf.volume)
    # Voxels were selected by R2*, so that its mean is biased by noise.
    assert csf.mean_r2star == pytest.approx(CSF, abs=0.01 + 0.25 * noise)
    assert images["r2star"][csf.mask].std() == pytest.approx(noise, rel=0.15, abs=1e-3)
    assert csf.threshold == pytest.approx(TISSUE / 3, rel=0.05)
    n_pieces = ndimage.label(csf.mask)[1]
    assert n_pieces == 2 if not noise else 2 <= n_pieces <= 4


@pytest.mark.slow
def test_fine_voxels_with_much_noise():
    images, lateral, _ = head((0.5, 0.5, 2), noise=12)
    csf = find_csf(**images, voxel_size=(0.5, 0.5, 2))
    assert not (csf.mask & ~lateral).any()
    assert csf.volume > 2


@pytest.mark.parametrize("rotation", [(25, 0, 0), (10, -15, 20), (0, 90, 0)])
def test_oblique_slices(rotation):
    images, lateral, affine = head((2, 2, 2), rotation=rotation, noise=2, extent=(190, 190, 190))
    csf = find_csf(**images, voxel_size=(2, 2, 2), right=right_direction(affine))
    assert not (csf.mask & ~lateral).any()
    assert csf.volume > 3
    assert csf.volume_left == pytest.approx(csf.volume_right, rel=0.25)


@pytest.mark.parametrize("rotation", [(0, 0, 10), (0, 6, 0), (5, -5, 5)])
def test_a_rotated_head(rotation):
    images, lateral, _ = head((2, 2, 2), rotation=rotation, extent=(170, 180, 150))
    csf = find_csf(**images, voxel_size=(2, 2, 2))
    assert not (csf.mask & ~lateral).any()
    assert csf.volume_left == pytest.approx(csf.volume_right, rel=0.15)


def test_left_and_right_are_those_of_the_head():
    images, lateral, _ = head((2, 2, 2))
    images["r2star"][: images["r2star"].shape[0] // 2][lateral[: lateral.shape[0] // 2]] = TISSUE
    csf = find_csf(**images, voxel_size=(2, 2, 2))
    assert csf.volume_left == 0
    assert csf.volume_right == csf.volume > 1
    flipped = {name: image[::-1] for name, image in images.items()}
    mirrored = find_csf(**flipped, voxel_size=(2, 2, 2), right=(-1, 0, 0))
    assert mirrored.volume_right == csf.volume_right


def test_a_slab_that_cuts_through_the_ventricles():
    images, lateral, _ = head((2, 2, 2))
    cut = (..., slice(lateral.shape[2] // 2 + 3, None))
    slab = {name: image[cut] for name, image in images.items()}
    csf = find_csf(**slab, voxel_size=(2, 2, 2))
    assert csf.volume > 2
    assert not (csf.mask & ~lateral[cut]).any()
    assert csf.mask[..., 0].any()


def test_field_strength_does_not_matter():
    images, _, _ = head((2, 2, 2))
    csf = find_csf(**images, voxel_size=(2, 2, 2))
    images["r2star"] *= 2
    csf_at_twice_the_field = find_csf(**images, voxel_size=(2, 2, 2))
    np.testing.assert_array_equal(csf.mask, csf_at_twice_the_field.mask)


def test_voids_without_signal_are_not_csf():
    images, lateral, _ = head((2, 2, 2))
    images["magnitude"] = np.where(lateral, 2, images["magnitude"])
    with pytest.raises(ValueError, match=r"No plausible lateral ventricles: 0.00 mL"):
        find_csf(**images, voxel_size=(2, 2, 2))


def test_implausible_ventricles_are_refused_with_the_cause():
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


def test_right_is_perpendicular_to_b0():
    rotation = Rotation.from_euler("xyz", (20, 30, 40), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([-0.5, 1, 3])
    right = right_direction(affine)
    assert right @ b0_direction(affine) == pytest.approx(0, abs=1e-12)
    # A step of 1 mm in this direction is a step of 1 mm along the scanner's x axis.
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


def test_a_missing_reference_is_refused():
    with pytest.raises(
        ValueError, match=r"no label 'csf' for the reference; the labels are: putamen"
    ):
        reference_region("csf", LABELS, {1: "putamen"}, MASK)
    with pytest.raises(ValueError, match="labels are: none"):
        reference_region("splenium", LABELS, {}, MASK)
    with pytest.raises(ValueError, match="no voxel within the mask"):
        reference_region("csf", LABELS, {9: "csf"}, MASK)
