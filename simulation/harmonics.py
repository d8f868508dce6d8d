"""Solid harmonics: the smooth fields and phases that coils outside an object can make in it."""

from collections.abc import Sequence

import numpy as np

from .grid import coordinates


def solid_harmonics(points: Sequence[np.ndarray] | np.ndarray) -> list[np.ndarray]:
    """Return the solid harmonics up to second order, the fields of shim coils.

    Their order is 1, x, y, z, xy, yz, xz, z² - (x² + y²)/2, x² - y².

    Parameters
    ----------
    points : sequence of three ndarrays
        Coordinates along the scanner's axes, in units of 100 mm.
    """
    x, y, z = points
    return [
        np.ones_like(x),
        x,
        y,
        z,
        x * y,
        y * z,
        x * z,
        z * z - (x * x + y * y) / 2,
        x * x - y * y,
    ]


def polynomial(
    coefficients: Sequence[float] | np.ndarray, affine: np.ndarray, shape: Sequence[int]
) -> np.ndarray:
    """Return a weighted sum of solid harmonics on a grid.

    Parameters
    ----------
    coefficients : sequence of up to nine floats
        Weights of `solid_harmonics`, of the first ones if there are fewer.
    affine : ndarray, shape (4, 4)
        From the grid's voxels to the scanner's axes, mm.
    shape : sequence of int
        Voxels of the grid.

    Returns
    -------
    ndarray of float32
    """
    return weighted_harmonics(coefficients, coordinates(affine, shape))


def weighted_harmonics(
    coefficients: Sequence[float] | np.ndarray, points: Sequence[np.ndarray] | np.ndarray
) -> np.ndarray:
    """Return a weighted sum of solid harmonics at some points, given as in `solid_harmonics`."""
    total = np.zeros(np.shape(points[0]), np.float32)
    for coefficient, harmonic in zip(coefficients, solid_harmonics(points), strict=False):
        total = total + np.float32(coefficient) * harmonic
    return total
