"""Coordinates of a person's head in MNI space: an affine transform and a mild warp."""

from collections.abc import Sequence

import numpy as np

from .grid import affine_row, index_grid


def warped_coordinates(
    box: Sequence[slice],
    to_head: np.ndarray,
    affine: np.ndarray,
    wave_vectors: np.ndarray,
    amplitudes: np.ndarray,
    phases: np.ndarray,
) -> np.ndarray:
    """Return the MNI coordinates of the voxels in a box.

    Parameters
    ----------
    box : sequence of slice
        Voxels of a grid.
    to_head : ndarray, shape (4, 4)
        From the grid's voxels to the head's coordinates, mm.
    affine, wave_vectors, amplitudes, phases : ndarray
        The person's transform from the head's coordinates to MNI space, see
        `multiqsm.simulation.head.Subject`.

    Returns
    -------
    ndarray of float32, shape (3, x, y, z)
        mm.
    """
    grid = index_grid(box)
    linear = affine @ to_head
    points = np.stack([affine_row(row, grid) for row in linear[:3]])
    waves = wave_vectors @ to_head[:3]
    waves[:, 3] += phases
    for wave, amplitude in zip(waves, amplitudes.astype(np.float32), strict=True):
        displacement = np.sin(affine_row(wave, grid))
        for axis in range(3):
            points[axis] += amplitude[axis] * displacement
    return points
