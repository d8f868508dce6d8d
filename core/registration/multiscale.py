"""Smooth images to several widths, and choose the voxels at which registration compares them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..grid import voxel_size_of

_FWHM_PER_SD = 2 * np.sqrt(2 * np.log(2))
_MIN_OVERLAP = 0.5  # fraction of the fixed mask that must lie within the moving image
_MAX_POINTS = 75_000  # points of comparison; with more, registration is slower but not better
_MIN_VOXELS = 8  # along each axis of a level, so that there is something to interpolate


@dataclass(frozen=True)
class Image:
    """A smoothed image on a grid no finer than needed.

    Attributes
    ----------
    volume : ndarray of float32, shape (x, y, z)
        The smoothed image.
    affine : ndarray, shape (4, 4)
        From its voxels to its world, mm.
    mask : ndarray of bool, shape (x, y, z)
        Where images are compared.
    """

    volume: np.ndarray
    affine: np.ndarray
    mask: np.ndarray


def pyramid(
    volume: np.ndarray,
    affine: np.ndarray,
    fwhm: Sequence[float],
    mask: np.ndarray | None = None,
) -> list[Image]:
    """Smooth an image to several widths (mm, coarse to fine) on grids of about half the width.

    The mask is everywhere by default.
    """
    affine = np.asarray(affine, float)
    volume = np.asarray(volume, np.float32)
    mask = np.ones(volume.shape, bool) if mask is None else np.asarray(mask, bool)
    levels = []
    # Each level is made from the next finer one. The variances of Gaussians add, so that only the
    # difference needs to be added, and on a grid that is already coarser.
    previous_width = 0.0
    for width in reversed(fwhm):
        voxel_size = voxel_size_of(affine)
        sigma = np.sqrt(max(width**2 - previous_width**2, 0)) / _FWHM_PER_SD / voxel_size
        volume = ndimage.gaussian_filter(volume, sigma, mode="nearest")
        stride = np.maximum((width / 2 / voxel_size + 1e-6).astype(int), 1)
        stride = np.minimum(stride, np.maximum(np.array(volume.shape) // _MIN_VOXELS, 1))
        x, y, z = stride.tolist()
        volume = volume[::x, ::y, ::z]
        mask = mask[::x, ::y, ::z]
        affine = affine @ np.diag([*stride, 1])
        previous_width = width
        if not mask.any():
            raise ValueError(
                f"the mask is too small to register images that are smoothed by {width:g} mm: "
                "smooth less or check the mask"
            )
        levels.append(Image(volume, affine, mask))
    return levels[::-1]


def slopes_of(volume: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the derivatives, at the voxels, of the cubic spline through a volume along each axis.

    The units are those of the volume per voxel.
    """
    return _slope(volume, 0), _slope(volume, 1), _slope(volume, 2)


def _slope(volume, axis):
    # At a voxel, a cubic spline's derivative is the central difference of its coefficients.
    coefficients = ndimage.spline_filter1d(volume, axis=axis, output=np.float32)
    return ndimage.correlate1d(coefficients, [-0.5, 0, 0.5], axis=axis, mode="mirror")


def sampled_voxels(mask: np.ndarray) -> np.ndarray:
    """Return indices of evenly chosen voxels of a mask, shape (n, 3), at most 75,000."""
    index = np.argwhere(mask)
    stride = -(-len(index) // _MAX_POINTS)  # rounded up
    return index[::stride]


def within(voxels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return which voxel coordinates, shape (3, n), lie between a volume's voxel centres."""
    return np.all((voxels >= 0) & (voxels <= np.reshape(shape, (3, 1)) - 1), axis=0)


def centred_start(start: np.ndarray, moving: Image, fixed: Image) -> np.ndarray:
    """Return the start, shifted so that the images' centres of intensity agree."""
    shifted = start.copy()
    shifted[:3, 3] = _bright_centre(moving) - start[:3, :3] @ _bright_centre(fixed)
    return shifted


def _bright_centre(image):
    """Return the world coordinates of the centre of mass of what is brighter than the mean."""
    bright = np.clip(image.volume - image.volume.mean(), 0, None)
    centre = ndimage.center_of_mass(bright) if bright.any() else (np.array(bright.shape) - 1) / 2
    return image.affine[:3, :3] @ centre + image.affine[:3, 3]


def polynomials(points: np.ndarray, degree: int) -> np.ndarray:
    """Return all monomials up to a degree of three coordinates, shape (points, terms).

    Coordinates are centred and scaled to ±1, so that the monomials have similar sizes. The first
    term is the constant.
    """
    offset = points - points.mean(axis=0)
    offset /= np.abs(offset).max(axis=0).clip(1e-6)
    terms = []
    for total_degree in range(degree + 1):
        # (0, 0, 2) stands for x²z.
        for factors in combinations_with_replacement(range(3), total_degree):
            terms.append(np.prod(offset[:, list(factors)], axis=1))
    return np.stack(terms, axis=1)


def affine_start(start: ArrayLike | None) -> np.ndarray:
    """Return the transform to start from as an array, which is the identity by default."""
    start = np.eye(4) if start is None else np.asarray(start, float)
    if start.shape != (4, 4) or np.linalg.matrix_rank(start) < 4:
        raise ValueError(f"start must be an invertible 4 x 4 matrix, got {start.tolist()}")
    return start


def check_images(moving: np.ndarray, fixed: np.ndarray, fixed_mask: np.ndarray) -> None:
    """Raise a ValueError that says why, if images cannot be registered."""
    if np.ndim(moving) != 3 or np.ndim(fixed) != 3 or np.shape(fixed_mask) != np.shape(fixed):
        raise ValueError(
            f"moving image {np.shape(moving)} and fixed image {np.shape(fixed)} must have three "
            f"dimensions, and the mask {np.shape(fixed_mask)} must have the fixed image's shape"
        )
    if not (np.isfinite(moving).all() and np.isfinite(fixed).all()):
        raise ValueError("the images contain values that are not finite: set these voxels to 0")
    if not np.any(fixed_mask):
        raise ValueError("the mask is empty: there is nothing to register")


class NoOverlapError(ValueError):
    """A transform maps too much of the fixed image's mask outside the moving image."""


def check_overlap(inside: np.ndarray) -> None:
    """Raise a `NoOverlapError` if too few of the compared points lie within the moving image."""
    if inside.mean() < _MIN_OVERLAP:
        raise NoOverlapError(
            f"the images do not overlap: only {100 * inside.mean():.0f} % of the mask lie within "
            "the moving image; check the affines or give a start"
        )
