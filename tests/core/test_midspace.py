"""The mid-space favours no scan, and the average in it shows the head."""

import numpy as np
import pytest
from helpers.analytic_head import FLIPPED, POSES, SHAPE, VOXEL, affine_of, anatomy, points_of, scan
from scipy import linalg

from multiqsm.core.registration.midspace import first_space, mid_space, register_to_space
from multiqsm.core.registration.transforms import displacement


@pytest.fixture(scope="module")
def three_scans():
    """Return poses of the head, and a list each of images, affines and masks."""
    poses = [np.eye(4), *POSES]
    prescriptions = [
        affine_of(),
        affine_of((3, -5, 4), POSES[0][:3, 3]),
        affine_of((-6, 2, 1), POSES[1][:3, 3]),
    ]
    scans = []
    for seed, (pose, prescription) in enumerate(zip(poses, prescriptions, strict=True)):
        scans.append(scan(pose, prescription, bias=0.2, noise=0.02, seed=seed))
    return poses, list(map(list, zip(*scans, strict=True)))


@pytest.mark.slow
def test_mid_space_favours_no_scan(three_scans):
    """Transforms are those simulated, their logarithms add up to 0, and order has no effect."""
    poses, (images, affines, masks) = three_scans
    space = mid_space(images, affines, masks)
    assert space.causes == [None] * 3
    logarithms = [linalg.logm(transform).real for transform in space.transforms]
    np.testing.assert_allclose(sum(logarithms), 0, atol=1e-6)
    first = points_of(affines[0], masks[0])
    for transform, pose in zip(space.transforms, poses, strict=True):
        assert displacement(transform @ np.linalg.inv(space.transforms[0]), pose, first) < 0.05
    assert max(space.residuals) < 0.05
    np.testing.assert_allclose(np.linalg.norm(space.affine[:3, :3], axis=0), VOXEL)
    points = points_of(space.affine, space.mask)
    reversed_space = mid_space(images[::-1], affines[::-1], masks[::-1])
    for transform, reversed_transform in zip(
        space.transforms, reversed_space.transforms[::-1], strict=True
    ):
        assert displacement(transform, reversed_transform, points) < 0.05


def test_first_space_is_the_first_registered_scan(three_scans):
    """It has that scan's grid, its average shows that scan's head, and scans keep their relation.

    The very first scan is empty and cannot be registered.
    """
    _, (images, affines, masks) = three_scans
    images = [np.zeros_like(images[0]), *images[:2]]
    affines = [affines[0], *affines[:2]]
    masks = [masks[0], *masks[:2]]
    middle = mid_space(images, affines, masks)
    space = first_space(middle, images, affines, masks)
    assert space.transforms[0] is None
    np.testing.assert_array_equal(space.transforms[1], np.eye(4))
    np.testing.assert_allclose(
        space.transforms[2] @ middle.transforms[1], middle.transforms[2], atol=1e-9
    )
    np.testing.assert_array_equal(space.affine, affines[1])
    assert space.average.shape == space.shape == images[1].shape
    inside = space.mask & masks[1]
    assert inside.sum() > 0.97 * masks[1].sum()
    assert np.corrcoef(space.average[inside], images[1][inside])[0, 1] > 0.97


def test_another_scan_is_registered_to_a_space(three_scans):
    """Its transform is that simulated, and images without a head are refused."""
    poses, (images, affines, masks) = three_scans
    space = mid_space(images[:1], affines[:1], masks[:1])
    transform = register_to_space(space, images[1], affines[1], masks[1])
    assert displacement(transform, poses[1], points_of(affines[0], masks[0])) < 0.1
    with pytest.raises(ValueError, match="no signal in its mask"):
        register_to_space(space, np.zeros_like(images[1]), affines[1], masks[1])
    noise = np.random.default_rng(0).uniform(50, 100, images[1].shape)
    with pytest.raises(ValueError, match="do not overlap"):
        register_to_space(space, noise, affines[1], masks[1])


def test_mid_space_average_is_the_head(three_scans):
    """The average contains all masks, and its affine gives its position."""
    _, (images, affines, masks) = three_scans
    space = mid_space(images, affines, masks, voxel_size=(2.5, 2.5, 2.5))
    np.testing.assert_allclose(np.linalg.norm(space.affine[:3, :3], axis=0), 2.5)
    assert space.average.shape == space.mask.shape == space.shape
    volume = space.mask.sum() * 2.5**3
    np.testing.assert_allclose(volume, masks[0].sum() * np.prod(VOXEL), rtol=0.01)
    inner = np.pad(space.mask[1:-1, 1:-1, 1:-1], 1)
    np.testing.assert_array_equal(space.mask, inner)  # the mask does not reach the faces
    world = points_of(space.affine, space.mask).T
    to_head = space.transforms[0]  # the first scan's pose is the identity
    truth = anatomy(to_head[:3, :3] @ world + to_head[:3, 3:])
    assert np.corrcoef(truth, space.average[space.mask])[0, 1] > 0.97


@pytest.mark.slow
def test_a_scan_that_fails_does_not_affect_the_others(three_scans):
    poses, (images, affines, masks) = three_scans
    noise = np.random.default_rng(0).uniform(0.5, 1, SHAPE).astype(np.float32)
    blank = np.full(SHAPE, np.nan, np.float32)
    # The first reference scan is noise.
    space = mid_space(
        [noise, *images, blank], [affine_of(), *affines, affine_of()], [masks[0], *masks, masks[0]]
    )
    assert [transform is None for transform in space.transforms] == [
        True,
        False,
        False,
        False,
        True,
    ]
    assert space.causes[1:4] == [None] * 3
    assert "not registered to scan 2" in space.causes[0]
    assert "not finite" in space.causes[4]
    assert np.isnan(space.residuals[0])
    between = space.transforms[2] @ np.linalg.inv(space.transforms[1])
    assert displacement(between, poses[1], points_of(affines[0], masks[0])) < 0.05


def test_a_single_scan_is_unchanged():
    image, affine, mask = scan(POSES[0])
    space = mid_space([image], [affine], [mask])
    np.testing.assert_array_equal(space.affine, affine)
    np.testing.assert_array_equal(space.transforms[0], np.eye(4))
    np.testing.assert_allclose(space.average * np.median(image[mask]), image, rtol=1e-5)
    np.testing.assert_array_equal(space.mask, mask)
    assert space.shape == SHAPE
    assert space.residuals == [0.0]


def test_axes_in_another_order_do_not_rotate_the_grid():
    shape = (64, 44, 60)
    flipped = affine_of((2, 1, 3), POSES[1][:3, 3], shape, FLIPPED)
    space = mid_space(*zip(scan(), scan(POSES[1], flipped, shape=shape), strict=True))
    assert space.causes == [None, None]
    assert np.all(np.diag(space.affine)[:3] > 0.9 * np.array(VOXEL))


def test_unusable_scans_are_refused():
    image, affine, mask = scan()
    with pytest.raises(ValueError, match="at least one"):
        mid_space([], [], [])
    with pytest.raises(ValueError, match="none of the scans can be used"):
        mid_space([image], [affine], [~np.ones(SHAPE, bool)])
    noise = np.random.default_rng(0).uniform(0.5, 1, SHAPE).astype(np.float32)
    with pytest.raises(ValueError, match="no two"):
        mid_space([image, noise], [affine, affine], [mask, mask])
