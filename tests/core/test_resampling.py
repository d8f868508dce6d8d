"""Resampled images agree with an analytic function evaluated on the other grid.

Values outside a mask have no influence.
"""

import numpy as np
import pytest
from helpers.analytic import world
from scipy.spatial.transform import Rotation

from multiqsm.core.registration.resampling import resample, resample_labels, resample_weights

SHAPE = (44, 40, 30)
ROTATION = Rotation.from_rotvec([0.15, -0.1, 0.2]).as_matrix()


def affine_of(voxel_size, shape, rotation=None, centre=(0, 0, 0)):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) * voxel_size
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


PLAIN = affine_of((1.5, 1.5, 2.0), SHAPE)
OBLIQUE = affine_of((1.2, 1.6, 2.2), SHAPE, ROTATION, (1, 2, -1))
# Axes in another order, two of them reversed.
FLIPPED = affine_of((1.5, 2.0, 1.5), SHAPE, np.array([[0, 0, -1.0], [-1, 0, 0], [0, 1, 0]]))
GRIDS = [PLAIN, OBLIQUE, FLIPPED]
MOTION = np.eye(4)
MOTION[:3, :3] = Rotation.from_rotvec([-0.1, 0.05, 0.2]).as_matrix()
MOTION[:3, 3] = 1.3, -2.2, 0.7


def smooth(points):
    x, y, z = points
    return 2 + np.sin(x / 9 + 0.3) * np.cos(y / 8) + 0.5 * np.sin(z / 7)


def sampled(affine, function=smooth, shape=SHAPE):
    return function(world(affine, shape)).reshape(shape).astype(np.float32)


def radius(points):
    return np.linalg.norm(points, axis=0)


def source_points(transform, affine):
    """Return the target's voxels in the source's world."""
    return transform[:3, :3] @ world(affine, SHAPE) + transform[:3, 3:]


@pytest.mark.parametrize("target", GRIDS)
@pytest.mark.parametrize("source", GRIDS)
def test_resampled_image_is_the_moved_function(source, target):
    resampled = resample(sampled(source), source, target, SHAPE, transform=MOTION)
    points = source_points(MOTION, target)
    assert resampled.dtype == np.float32
    deep = (radius(points) < 18).reshape(SHAPE)
    np.testing.assert_allclose(resampled[deep], smooth(points).reshape(SHAPE)[deep], atol=2e-3)


def test_own_grid_returns_the_same_image():
    image = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    np.testing.assert_allclose(resample(image, OBLIQUE, OBLIQUE, SHAPE), image, atol=1e-4)


def test_beyond_the_field_of_view_is_fill():
    """Voxels up to half a voxel beyond the last centre belong to the image."""
    target = PLAIN.copy()
    target[0, 3] -= 4.4 * 1.5
    resampled = resample(np.ones(SHAPE), PLAIN, target, SHAPE, fill=-7)
    np.testing.assert_array_equal(resampled[:4], -7)
    np.testing.assert_allclose(resampled[4:], 1, atol=1e-6)
    target[0, 3] = 1e4
    assert np.all(resample(np.ones(SHAPE), PLAIN, target, SHAPE, fill=-7) == -7)


@pytest.mark.parametrize("source", GRIDS)
def test_edge_of_the_mask_does_not_ring(source):
    """A constant within a ball stays constant, and the ball keeps its volume."""
    ball = (radius(world(source, SHAPE)) < 20).reshape(SHAPE)
    image = np.where(ball, np.float32(3.3), np.nan)
    resampled = resample(image, source, PLAIN, SHAPE, transform=MOTION, mask=ball, fill=np.nan)
    inside = np.isfinite(resampled)
    np.testing.assert_allclose(resampled[inside], 3.3, rtol=1e-3)
    np.testing.assert_allclose(inside.sum() * 4.5, 4 / 3 * np.pi * 20**3, rtol=0.02)


def test_values_near_the_edge_of_the_mask():
    """Replaced values outside the mask cost little accuracy, even in its outermost voxels."""
    ball = (radius(world(PLAIN, SHAPE)) < 20).reshape(SHAPE)
    image = np.where(ball, sampled(PLAIN), 1e6)
    resampled = resample(image, PLAIN, OBLIQUE, SHAPE, mask=ball, fill=np.nan)
    error = np.abs(resampled - sampled(OBLIQUE))
    assert np.nanmax(error) < 0.15
    assert np.sqrt(np.nanmean(error**2)) < 0.015


def test_linear_and_nearest_neighbour_interpolation():
    image = sampled(PLAIN)
    shifted = PLAIN.copy()
    shifted[0, 3] += 0.75  # half a voxel
    linear = resample(image, PLAIN, shifted, SHAPE, order=1)
    np.testing.assert_allclose(linear[:-1], (image[1:] + image[:-1]) / 2, atol=1e-5)
    assert set(np.unique(resample(image > 2, PLAIN, OBLIQUE, SHAPE, order=0))) == {0.0, 1.0}


# ------------------------------------------------------------------------------
# Labels
# ------------------------------------------------------------------------------


def nested(points):
    """Return labels of two balls within a third."""
    x, y, z = points
    labels = np.where(radius(points) < 20, 300, 0)
    labels[radius((x - 8, y, z)) < 7] = 11
    labels[radius((x + 8, y - 2, z)) < 6] = -4
    return labels.astype(np.int16)


@pytest.mark.parametrize("source", GRIDS)
def test_labels_keep_their_shape(source):
    labels = nested(world(source, SHAPE)).reshape(SHAPE)
    fine_shape = (60, 60, 60)
    fine = affine_of((0.8, 0.8, 0.8), fine_shape, ROTATION)
    resampled = resample_labels(labels, source, fine, fine_shape)
    truth = nested(world(fine, fine_shape)).reshape(fine_shape)
    assert resampled.dtype == np.int16
    assert set(np.unique(resampled)) == {-4, 0, 11, 300}
    for label in (-4, 11, 300):
        n_common = np.sum((resampled == label) & (truth == label))
        dice = 2 * n_common / (np.sum(resampled == label) + np.sum(truth == label))
        assert dice > 0.92
    # Nearest-neighbour interpolation copies voxel corners, and more voxels are wrong.
    nearest = resample(labels.astype(np.float32), source, fine, fine_shape, order=0)
    assert np.sum(resampled != truth) < 0.9 * np.sum(nearest != truth)


def test_largest_fraction_wins():
    """Fractions of a voxel's labels, by hand."""
    labels = np.array([[[2], [5]], [[0], [9]]], np.uint8)
    target = np.eye(4)
    target[:2, 3] = 0.0, 0.25
    assert resample_labels(labels, np.eye(4), target, (1, 1, 1)).item() == 2
    target[:2, 3] = 0.4, 0.6  # fractions .24 of 2, .36 of 5, .16 of 0 and .24 of 9
    assert resample_labels(labels, np.eye(4), target, (1, 1, 1)).item() == 5
    target[:2, 3] = 0.0, -0.6  # beyond the field of view
    assert resample_labels(labels, np.eye(4), target, (1, 1, 1)).item() == 0


def test_labels_on_their_own_grid_are_unchanged():
    labels = np.random.default_rng(1).integers(0, 5, SHAPE)
    np.testing.assert_array_equal(resample_labels(labels, OBLIQUE, OBLIQUE, SHAPE), labels)
    assert not resample_labels(np.zeros(SHAPE, np.uint8), OBLIQUE, PLAIN, SHAPE).any()


# ------------------------------------------------------------------------------
# Weights
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("target", GRIDS)
@pytest.mark.parametrize("source", GRIDS)
def test_weights_are_the_transpose_of_a_linear_interpolation(source, target):
    rng = np.random.default_rng(0)
    image = rng.normal(size=SHAPE).astype(np.float32)
    region = np.zeros(SHAPE, bool)
    region[18:26, 16:24, 12:18] = rng.random((8, 8, 6)) > 0.3
    resampled = resample(image, target, source, SHAPE, transform=MOTION, order=1)
    weights = resample_weights(region, source, target, SHAPE, transform=MOTION)
    assert weights.sum() == pytest.approx(region.sum(), rel=1e-5)
    assert np.sum(weights * image) == pytest.approx(resampled[region].sum(), abs=1e-3)


def test_weights_beyond_the_field_of_view_are_lost():
    region = np.ones((2, 1, 1), bool)
    shift = np.eye(4)
    shift[0, 3] = 0.5
    weights = resample_weights(region, np.eye(4), np.eye(4), (2, 1, 1), transform=shift)
    assert weights.ravel().tolist() == [0.5, 1]


# ------------------------------------------------------------------------------
# Unusable input
# ------------------------------------------------------------------------------


def test_unusable_input_is_refused():
    image = np.ones(SHAPE)
    with pytest.raises(ValueError, match="mask is empty"):
        resample(image, PLAIN, PLAIN, SHAPE, mask=np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match="not finite"):
        resample(np.full(SHAPE, np.nan), PLAIN, PLAIN, SHAPE)
    with pytest.raises(ValueError, match="transform must be an invertible"):
        resample(image, PLAIN, PLAIN, SHAPE, transform=np.zeros((4, 4)))
    with pytest.raises(ValueError, match="one shape"):
        resample(image, PLAIN, PLAIN, SHAPE, mask=np.ones((3, 3, 3), bool))
    with pytest.raises(ValueError, match="integers"):
        resample_labels(image, PLAIN, PLAIN, SHAPE)
