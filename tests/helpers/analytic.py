"""Analytic fields: a truth that is independent of discretised operators."""

import numpy as np
import pytest


def centred_coordinates(shape, voxel_size):
    """Return voxel centres in mm from the volume's middle, three arrays of the given shape."""
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape, voxel_size, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


IRON = ((14, 10, 0), (-14, 10, 2), (0, -12, -5))  # mm


def iron_head(shape, voxel_size, b0_dir, *, chi=0.2, radius=50):
    """Return the field (ppm) of three balls of iron in a ball of brain.

    Also return the fraction of each voxel that is brain.
    """
    total = 0
    for center in IRON:
        field, _ = sphere_field(shape, voxel_size, b0_dir, radius=6, chi=chi, center=center)
        total = total + field
    _, brain_fraction = sphere_field(shape, voxel_size, b0_dir, radius=radius, chi=0)
    return total, brain_fraction


def sphere_field(shape, voxel_size, b0_dir, *, radius, chi, center=(0, 0, 0)):
    """Return the field (ppm) of a ball of susceptibility `chi` (ppm).

    It is (χ/3)(a/r)³(3cos²θ - 1) outside and 0 inside, averaged over each voxel as in a scan (4 x 4
    x 4 samples). Also return the fraction of each voxel that the ball fills.
    """
    b_x, b_y, b_z = np.asarray(b0_dir, float) / np.linalg.norm(b0_dir)
    samples = 4
    field = np.zeros(shape, np.float32)
    fraction = np.zeros(shape, np.float32)
    grid = centred_coordinates(shape, voxel_size)
    for sample in np.ndindex(samples, samples, samples):
        within_voxel = (np.array(sample) + 0.5) / samples - 0.5
        shift_x, shift_y, shift_z = within_voxel * voxel_size - center
        x = grid[0] + shift_x
        y = grid[1] + shift_y
        z = grid[2] + shift_z
        r = np.sqrt(x**2 + y**2 + z**2)
        cosine = (b_x * x + b_y * y + b_z * z) / np.maximum(r, 1e-9)
        outside = chi / 3 * (radius / np.maximum(r, radius)) ** 3 * (3 * cosine**2 - 1)
        field += np.where(r > radius, outside, 0) / samples**3
        fraction += (r <= radius) / samples**3
    return field, fraction


TILTED = (0, 0.34, 0.94)


def distance_from_middle(shape, voxel_size):
    x, y, z = centred_coordinates(shape, voxel_size)
    return np.sqrt(x**2 + y**2 + z**2)


def head(shape, voxel_size, radius=26.0):
    """Return the masks of a ball and of a ball that is 6 mm smaller."""
    r = distance_from_middle(shape, voxel_size)
    return r < radius, r < radius - 6


GEOMETRIES = pytest.mark.parametrize(
    ("shape", "voxel_size", "b0_dir"),
    [
        ((60, 60, 60), (1, 1, 1), (0, 0, 1)),
        ((59, 61, 33), (1, 1, 2), TILTED),
        ((40, 41, 31), (1.5, 1.5, 2), (1, 1, 1)),
    ],
)


def ball_in_head(voxel_size=(1, 1, 1), b0_dir=(0, 0, 1), odd=0, *, radius=6.0, head=24.0, chi=0.1):
    """Return the analytic local field of a ball in a spherical head, and related arrays.

    These are the head's mask, a magnitude that shows the ball, and masks of voxels inside and
    outside the ball. `odd` is 1 for an odd number of voxels.
    """
    shape = tuple((2 * np.rint((head + 2) / np.array(voxel_size)).astype(int) + odd).tolist())
    field, fraction = sphere_field(shape, voxel_size, b0_dir, radius=radius, chi=chi)
    r = distance_from_middle(shape, voxel_size)
    mask = r < head
    inside = r < radius - max(voxel_size)
    outside = mask & (r > radius + max(voxel_size))
    return field, mask, (1 + 0.3 * fraction) * mask, inside, outside


def world(affine, shape):
    """Return the world coordinates of a grid's voxels, shape (3, n)."""
    return affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]
