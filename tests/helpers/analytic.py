"""Fields that have a formula: the truth that no discretised operator has touched."""

import numpy as np
import pytest


def centred_coordinates(shape, voxel_size):
    """Voxel centres in mm from the volume's middle, three arrays of the given shape."""
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape, voxel_size, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


IRON = ((14, 10, 0), (-14, 10, 2), (0, -12, -5))  # mm


def iron_head(shape, voxel_size, b0_dir, *, chi=0.2, radius=50):
    """Field (ppm) of three balls of iron in a ball of brain, and the brain's share of each
    voxel.
    """
    fields = [
        sphere_field(shape, voxel_size, b0_dir, radius=6, chi=chi, center=center)[0]
        for center in IRON
    ]
    return sum(fields), sphere_field(shape, voxel_size, b0_dir, radius=radius, chi=0)[1]


def sphere_field(shape, voxel_size, b0_dir, *, radius, chi, center=(0, 0, 0)):
    """Field (ppm) of a ball of susceptibility `chi` (ppm): (χ/3)(a/r)³(3cos²θ - 1) outside, 0
    inside.

    Averaged over each voxel, as a scan does (4 x 4 x 4 samples). Also returns the ball's share of
    each voxel.
    """
    b = np.asarray(b0_dir, float) / np.linalg.norm(b0_dir)
    fine = 4
    field, share = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for offset in np.ndindex(fine, fine, fine):
        shift = [
            ((o + 0.5) / fine - 0.5) * v - c
            for o, v, c in zip(offset, voxel_size, center, strict=True)
        ]
        x = [c + s for c, s in zip(centred_coordinates(shape, voxel_size), shift, strict=True)]
        r = np.sqrt(sum(c**2 for c in x))
        cosine = sum(bi * c for bi, c in zip(b, x, strict=True)) / np.maximum(r, 1e-9)
        outside = chi / 3 * (radius / np.maximum(r, radius)) ** 3 * (3 * cosine**2 - 1)
        field += np.where(r > radius, outside, 0) / fine**3
        share += (r <= radius) / fine**3
    return field, share


TILTED = (0, 0.34, 0.94)


def head(shape, voxel_size, radius=26.0):
    r = np.sqrt(sum(c**2 for c in centred_coordinates(shape, voxel_size)))
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
    """A ball's analytic local field in a spherical head, a magnitude that shows it, and where it is
    and is not.
    """
    shape = tuple(2 * round((head + 2) / v) + odd for v in voxel_size)
    field, share = sphere_field(shape, voxel_size, b0_dir, radius=radius, chi=chi)
    r = np.sqrt(sum(c**2 for c in centred_coordinates(shape, voxel_size)))
    mask, step = r < head, max(voxel_size)
    return field, mask, (1 + 0.3 * share) * mask, r < radius - step, mask & (r > radius + step)


def world(affine, shape):
    """World coordinates of a grid's voxels, shape (3, n)."""
    return affine[:3, :3] @ np.indices(shape).reshape(3, -1) + affine[:3, 3:]
