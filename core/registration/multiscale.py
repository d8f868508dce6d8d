"""Images smoothed to several widths, and the voxels at which registration compares them."""

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy import ndimage

from ..grid import voxel_size_of

_FWHM_PER_SD = 2 * np.sqrt(2 * np.log(2))
_MIN_OVERLAP = 0.5  # share of the fixed mask that must lie within the moving image
_MAX_POINTS = 75_000  # at which images are compared; more make it slower and not better


@dataclass(frozen=True)
class Image:
    """A smoothed image on a grid no finer than needed, with the voxels of its mask."""

    volume: np.ndarray
    affine: np.ndarray
    mask: np.ndarray | None


def pyramid(volume, affine, fwhm, mask=None):
    """Smooth an image to several widths (mm, coarse to fine) on grids of about half the width.

    Each level is made from the next finer one: the variances of Gaussians add up.
    """
    affine = np.asarray(affine, float)
    levels = []
    reached = 0.0
    volume = np.asarray(volume, np.float32)
    mask = None if mask is None else np.asarray(mask, bool)
    for width in reversed(fwhm):
        voxel_size = voxel_size_of(affine)
        sigma = np.sqrt(max(width**2 - reached**2, 0)) / _FWHM_PER_SD / voxel_size
        volume = ndimage.gaussian_filter(volume, sigma, mode="nearest")
        stride = np.maximum((width / 2 / voxel_size + 1e-6).astype(int), 1)
        # A few voxels must be left along each axis to interpolate between.
        stride = np.minimum(stride, np.maximum(np.array(volume.shape) // 8, 1))
        every = tuple(slice(None, None, s) for s in stride.tolist())
        volume = volume[every]
        mask = None if mask is None else mask[every]
        affine = affine @ np.diag([*stride, 1])
        reached = width
        if mask is not None and not mask.any():
            raise ValueError(f"the mask is too small to register images smoothed by {width:g} mm")
        levels.append(Image(volume, affine, mask))
    return levels[::-1]


def slopes_of(volume):
    """Derivatives of the cubic spline through a volume along its axes, at the voxels."""
    return tuple(
        ndimage.correlate1d(
            ndimage.spline_filter1d(volume, axis=a, output=np.float32),
            [-0.5, 0, 0.5],
            axis=a,
            mode="mirror",
        )
        for a in range(3)
    )


def sampled_voxels(mask):
    """Indices of voxels of a mask, shape (n, 3): every k-th of them, so that they are not too
    many.
    """
    index = np.argwhere(mask)
    return index[:: -(-len(index) // _MAX_POINTS)]


def within(voxels, shape):
    """Which voxel coordinates, shape (3, n), lie between a volume's voxel centres."""
    return np.all((voxels >= 0) & (voxels <= np.reshape(shape, (3, 1)) - 1), axis=0)


def centred_start(start, moving, fixed):
    """The start shifted so that the images' centres of intensity agree."""
    centres = []
    for image in (moving, fixed):
        bright = np.clip(image.volume - image.volume.mean(), 0, None)
        centre = (
            ndimage.center_of_mass(bright) if bright.any() else (np.array(bright.shape) - 1) / 2
        )
        centres.append(image.affine[:3, :3] @ centre + image.affine[:3, 3])
    shifted = start.copy()
    shifted[:3, 3] = centres[0] - start[:3, :3] @ centres[1]
    return shifted


def polynomials(points, degree):
    """All monomials of three coordinates (scaled to ±1) up to a degree, shape (points, terms)."""
    offset = points - points.mean(axis=0)
    offset /= np.abs(offset).max(axis=0).clip(1e-6)
    powers = [c for d in range(degree + 1) for c in combinations_with_replacement(range(3), d)]
    return np.stack([np.prod(offset[:, list(p)], axis=1) for p in powers], axis=1)


def affine_start(start):
    """The transform to start from as an array: the identity by default."""
    start = np.eye(4) if start is None else np.asarray(start, float)
    if start.shape != (4, 4) or np.linalg.matrix_rank(start) < 4:
        raise ValueError(f"start must be an invertible 4 x 4 matrix, got {start.tolist()}")
    return start


def check_images(moving, fixed, fixed_mask):
    """Refuse images that cannot be registered, with a ValueError that says why."""
    if np.ndim(moving) != 3 or np.ndim(fixed) != 3 or np.shape(fixed_mask) != np.shape(fixed):
        raise ValueError(
            f"moving {np.shape(moving)} and fixed image {np.shape(fixed)} must have three "
            "dimensions, and the mask "
            f"{np.shape(fixed_mask)} the fixed image's shape"
        )
    if not (np.isfinite(moving).all() and np.isfinite(fixed).all()):
        raise ValueError("the images hold values that are not finite")
    if not np.any(fixed_mask):
        raise ValueError("the mask is empty: there is nothing to register")


class NoOverlapError(ValueError):
    """A transform takes too much of one image out of the other."""


def check_overlap(inside):
    """Refuse a transform that takes too many of the points compared out of the moving image."""
    if inside.mean() < _MIN_OVERLAP:
        raise NoOverlapError(
            f"the images do not overlap: {100 * inside.mean():.0f} % of the mask lie within the "
            "moving image; check "
            "the affines or give a start"
        )
