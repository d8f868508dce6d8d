"""Grids in the scanner: their affines, finer and coarser versions, coordinates of their voxels."""

import numpy as np


def subgrid_affine(affine, factor, corner=(0, 0, 0)):
    """Affine of the grid with `factor` voxels per voxel of `affine`, from its voxel `corner` on.

    Voxel edges coincide, so that the mean of `factor` fine voxels is a voxel of the original grid.
    """
    factor = np.asarray(factor, float)
    scale = np.diag([*(1 / factor), 1.0])
    scale[:3, 3] = (np.asarray(corner) + 0.5) / factor - 0.5
    return affine @ scale


def scan_affine(
    shape,
    voxel_size,
    *,
    rotation=None,
    centre=(0.0, 0.0, 0.0),
):
    """Affine of an image whose middle lies at `centre`, turned by `rotation` from the scanner's
    axes.

    Parameters
    ----------
    shape : sequence of int
        Voxels.
    voxel_size : sequence of float
        mm.
    rotation : ndarray, shape (3, 3), optional
        Columns are the image's axes in the scanner's; an axial image by default.
    centre : sequence of float
        mm, in the scanner's axes.

    Returns
    -------
    ndarray, shape (4, 4)
    """
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) * np.asarray(voxel_size)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def block_mean(values, factor):
    """Mean over blocks of `factor` voxels, which must divide the shape."""
    for axis, n in enumerate(factor):
        split = (*values.shape[:axis], values.shape[axis] // n, n, *values.shape[axis + 1 :])
        values = values.reshape(split).mean(axis=axis + 1)
    return values


def block_mode(labels, factor):
    """Most frequent label in blocks of `factor` voxels, which must divide the shape."""
    counts, mode = 0, 0
    offsets = [
        labels[i :: factor[0], j :: factor[1], k :: factor[2]] for i, j, k in np.ndindex(*factor)
    ]
    for candidate in offsets:
        votes = sum((candidate == other).view(np.uint8) for other in offsets)
        mode = np.where(votes > counts, candidate, mode)
        counts = np.maximum(votes, counts)
    return mode.astype(labels.dtype)


def affine_row(row, grid):
    """One coordinate of a grid's voxels: a row of an affine applied to open index arrays, as
    float32.
    """
    return sum(np.float32(r) * g for r, g in zip(row, grid, strict=False)) + np.float32(row[3])


def coordinates(affine, shape):
    """Coordinates of a grid along the scanner's axes in units of 100 mm, as float32."""
    grid = np.ix_(*(np.arange(n, dtype=np.float32) for n in shape))
    return [affine_row(row / 100, grid) for row in affine[:3]]


def across(values, axis):
    """A vector laid along one axis of three, to broadcast."""
    return values.reshape([-1 if a == axis else 1 for a in range(3)])
