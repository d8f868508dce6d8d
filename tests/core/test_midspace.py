"""The mid-space favours no scan, and the average in it is the head."""

import numpy as np
import pytest
from helpers.analytic_head import FLIPPED, POSES, SHAPE, VOXEL, affine_of, anatomy, points_of, scan
from scipy import linalg

from multiqsm.core.registration.midspace import first_space, mid_space, register_to_space
from multiqsm.core.registration.transforms import displacement


@pytest.fixture(scope="module")
def three_scans():
    poses = [np.eye(4), *POSES]
    wheres = [
        affine_of(),
        affine_of((3, -5, 4), POSES[0][:3, 3]),
        affine_of((-6, 2, 1), POSES[1][:3, 3]),
    ]
    made = [
        scan(p, w, bias=0.2, noise=0.02, seed=k)
        for k, (p, w) in enumerate(zip(poses, wheres, strict=True))
    ]
    return poses, [list(x) for x in zip(*made, strict=True)]


@pytest.mark.slow
def test_mid_space_favours_no_scan(three_scans):
    """Transforms are those put in, their logarithms sum to nothing, and the order of the scans does
    not matter.
    """
    poses, (images, affines, masks) = three_scans
    found = mid_space(images, affines, masks)
    assert found.causes == [None] * 3
    np.testing.assert_allclose(sum(linalg.logm(t).real for t in found.transforms), 0, atol=1e-6)
    first = points_of(affines[0], masks[0])
    for transform, pose in zip(found.transforms, poses, strict=True):
        assert displacement(transform @ np.linalg.inv(found.transforms[0]), pose, first) < 0.05
    assert max(found.residuals) < 0.05
    np.testing.assert_allclose(np.linalg.norm(found.affine[:3, :3], axis=0), VOXEL)
    inner = points_of(found.affine, found.mask)
    backward = mid_space(images[::-1], affines[::-1], masks[::-1])
    for one, other in zip(found.transforms, backward.transforms[::-1], strict=True):
        assert displacement(one, other, inner) < 0.05


def test_first_space_is_the_first_registered_scan(three_scans):
    """Its grid is the scan's, the scans keep their positions to one another, and its average is the
    scan's head.
    """
    _, (images, affines, masks) = three_scans
    empty = np.zeros_like(images[0])
    images, affines, masks = (
        [empty, *images[:2]],
        [affines[0], *affines[:2]],
        [masks[0], *masks[:2]],
    )
    middle = mid_space(images, affines, masks)
    found = first_space(middle, images, affines, masks)
    assert found.transforms[0] is None
    np.testing.assert_array_equal(found.transforms[1], np.eye(4))
    np.testing.assert_allclose(
        found.transforms[2] @ middle.transforms[1], middle.transforms[2], atol=1e-9
    )
    np.testing.assert_array_equal(found.affine, affines[1])
    assert found.average.shape == found.shape == images[1].shape
    inside = found.mask & masks[1]
    assert inside.sum() > 0.97 * masks[1].sum()
    assert np.corrcoef(found.average[inside], images[1][inside])[0, 1] > 0.97


def test_a_scan_follows_into_the_space_of_another(three_scans):
    """Its transform is that put in, the space stays as it was, and what is no scan is refused."""
    poses, (images, affines, masks) = three_scans
    space = mid_space(images[:1], affines[:1], masks[:1])
    found = register_to_space(space, images[1], affines[1], masks[1])
    assert displacement(found, poses[1], points_of(affines[0], masks[0])) < 0.1
    with pytest.raises(ValueError, match="no signal in its mask"):
        register_to_space(space, np.zeros_like(images[1]), affines[1], masks[1])
    noise = np.random.default_rng(0).uniform(50, 100, images[1].shape)
    with pytest.raises(ValueError, match="do not overlap"):
        register_to_space(space, noise, affines[1], masks[1])


def test_mid_space_average_is_the_head(three_scans):
    """The average holds all masks, has less noise than a scan, and lies where its affine says."""
    _, (images, affines, masks) = three_scans
    found = mid_space(images, affines, masks, voxel_size=(2.5, 2.5, 2.5))
    np.testing.assert_allclose(np.linalg.norm(found.affine[:3, :3], axis=0), 2.5)
    assert found.average.shape == found.mask.shape == found.shape
    volume = found.mask.sum() * 2.5**3
    np.testing.assert_allclose(volume, masks[0].sum() * np.prod(VOXEL), rtol=0.01)
    assert not any(found.mask.take(end, axis).any() for axis in range(3) for end in (0, -1))
    world = points_of(found.affine, found.mask).T
    to_head = found.transforms[0]  # the first scan's pose is the identity
    truth = anatomy(to_head[:3, :3] @ world + to_head[:3, 3:])
    assert np.corrcoef(truth, found.average[found.mask])[0, 1] > 0.97


@pytest.mark.slow
def test_scan_that_fails_does_not_take_down_the_others(three_scans):
    poses, (images, affines, masks) = three_scans
    noise = np.random.default_rng(0).uniform(0.5, 1, SHAPE).astype(np.float32)
    blank = np.full(SHAPE, np.nan, np.float32)
    # The first scan is the reference at first: it is noise.
    found = mid_space(
        [noise, *images, blank], [affine_of(), *affines, affine_of()], [masks[0], *masks, masks[0]]
    )
    assert [t is None for t in found.transforms] == [True, False, False, False, True]
    assert [c is None for c in found.causes] == [False, True, True, True, False]
    assert "not registered to scan 2" in found.causes[0]
    assert "not finite" in found.causes[4]
    assert np.isnan(found.residuals[0])
    between = found.transforms[2] @ np.linalg.inv(found.transforms[1])
    assert displacement(between, poses[1], points_of(affines[0], masks[0])) < 0.05


def test_one_scan_stays_as_it_is():
    image, affine, mask = scan(POSES[0])
    found = mid_space([image], [affine], [mask])
    np.testing.assert_array_equal(found.affine, affine)
    np.testing.assert_array_equal(found.transforms[0], np.eye(4))
    np.testing.assert_allclose(found.average * np.median(image[mask]), image, rtol=1e-5)
    np.testing.assert_array_equal(found.mask, mask)
    assert found.shape == SHAPE
    assert found.residuals == [0.0]


def test_axes_in_another_order_do_not_turn_the_grid():
    shape = (64, 44, 60)
    one, two = (
        scan(),
        scan(POSES[1], affine_of((2, 1, 3), POSES[1][:3, 3], shape, FLIPPED), shape=shape),
    )
    found = mid_space(*zip(one, two, strict=True))
    assert found.causes == [None, None]
    assert np.all(np.diag(found.affine)[:3] > 0.9 * np.array(VOXEL))


def test_mid_space_of_nothing():
    image, affine, mask = scan()
    with pytest.raises(ValueError, match="at least one"):
        mid_space([], [], [])
    with pytest.raises(ValueError, match="none of the scans can be used"):
        mid_space([image], [affine], [~np.ones(SHAPE, bool)])
    noise = np.random.default_rng(0).uniform(0.5, 1, SHAPE).astype(np.float32)
    with pytest.raises(ValueError, match="no two"):
        mid_space([image, noise], [affine, affine], [mask, mask])
