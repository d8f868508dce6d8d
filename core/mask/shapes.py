"""Morphology of masks: depth below the surface, erosion, connected components, filling of holes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..grid import Vector

# Structure for labelling in which voxels that share only a corner are connected.
CORNERS = np.ones((3, 3, 3), int)

# Dark or noisy specks below this volume in mm³ are vessels or small bleeds. Skull, sinuses and air
# are connected and far larger.
_SPECK = 300.0

# A pocket of rough phase is compact if its volume is less than this multiple of the largest ball
# inside it. The multiple is 1.2 to 1.6 where a strong source dephases its surroundings, and 8 in
# the largest pocket of a real skull, which is thin.
_COMPACT = 3.0
_LARGEST_POCKET = 15.0  # mm, radius of that ball; larger where all of the brain's phase is noise


class EmptyMaskError(ValueError):
    """A mask has no voxel, or none remains."""


def erode(mask: np.ndarray, voxel_size: Vector, distance: float) -> np.ndarray:
    """Remove voxels that lie within a distance of the outside.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    voxel_size : tuple of 3 floats
        In mm.
    distance : float
        In mm, from a voxel's centre to the nearest centre outside. Nothing is removed at the faces
        of the volume.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        May be empty.

    Examples
    --------
    >>> mask = np.zeros((1, 1, 7), bool)
    >>> mask[..., 1:6] = True
    >>> erode(mask, (1, 1, 2), 2).astype(int).ravel().tolist()
    [0, 0, 1, 1, 1, 0, 0]
    """
    # Slightly more than the distance: voxel sizes are read as float32, and a distance of n voxels
    # must remove n voxels whatever the rounding.
    return np.asarray(mask, dtype=bool) & (depth_in(mask, voxel_size) > distance * (1 + 1e-5))


def largest_component(mask: np.ndarray, structure: ArrayLike | None = None) -> np.ndarray:
    """Return the largest connected component.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    structure : ndarray of bool, shape (3, 3, 3), optional
        Which neighbours are connected; by default voxels that share a face.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        Empty if the mask is.
    """
    labels, n_labels = ndimage.label(mask, structure)
    if n_labels == 0:
        return np.zeros_like(labels, dtype=bool)
    return labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1


def depth_in(mask: np.ndarray, voxel_size: Vector) -> np.ndarray:
    """Return the distance in mm of each voxel of the mask from the outside.

    It is infinite if the mask fills the volume.
    """
    if np.all(mask):
        return np.full(mask.shape, np.inf, np.float32)
    return ndimage.distance_transform_edt(mask, sampling=voxel_size)


def heaviest_component(mask: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the connected component with the largest sum of weights."""
    labels, _ = ndimage.label(mask)
    sums = np.bincount(labels.ravel(), weights=weight.ravel())
    return labels == np.argmax(sums[1:]) + 1


def dilate(mask: np.ndarray, voxel_size: Vector, distance: float) -> np.ndarray:
    """Add voxels that lie within a distance in mm of the mask."""
    return depth_in(~mask, voxel_size) <= distance * (1 + 1e-5)


def fill_pockets(mask: np.ndarray, voxel_size: Vector) -> np.ndarray:
    """Fill specks and pockets in a mask of smooth phase.

    A pocket is enclosed, compact and not too large. This holds for a dephased region in the brain,
    but not for a skull, which is thin and extended.
    """
    # With connected corners: otherwise a thin skull in coarse voxels would break up into specks.
    labels, n_labels = ndimage.label(~mask, CORNERS)
    volume = np.bincount(labels.ravel(), minlength=n_labels + 1) * np.prod(voxel_size)
    is_filled = volume < _SPECK
    is_enclosed = ~is_filled
    for axis in range(3):
        is_enclosed[np.unique(np.take(labels, (0, -1), axis))] = False
    is_filled[0] = False  # label 0 is the mask itself
    is_enclosed[0] = False
    if is_enclosed.any():
        depth = depth_in(is_enclosed[labels], voxel_size)
        radius = ndimage.maximum(depth, labels, index=np.arange(n_labels + 1))
        is_compact = volume < _COMPACT * 4 / 3 * np.pi * radius**3
        is_filled |= is_enclosed & is_compact & (radius < _LARGEST_POCKET)
    return mask | is_filled[labels]


def fill_body(
    body: np.ndarray, has_signal: np.ndarray, voxel_size: Vector, opening: float
) -> np.ndarray:
    """Fill the holes of a body, and its openings such as the inside of a tube.

    Parameters
    ----------
    body : ndarray of bool, shape (x, y, z)
    has_signal : ndarray of bool, shape (x, y, z)
        Voxels that are not noise.
    voxel_size : sequence of 3 floats
        In mm.
    opening : float
        In mm. Parts that are enclosed in a plane of voxels only, not in all directions, are filled
        if they are no wider than twice this, or most of their voxels have signal. Otherwise they
        are air.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
    """
    filled = body.copy()
    for axis in range(3):
        planes = np.moveaxis(filled, axis, 0)
        for plane, body_plane in zip(planes, np.moveaxis(body, axis, 0), strict=True):
            plane |= ndimage.binary_fill_holes(body_plane)  # in place, in `filled`
    labels, n_labels = ndimage.label(filled & ~ndimage.binary_fill_holes(body))
    depth = depth_in(labels > 0, voxel_size)
    deepest = ndimage.maximum(depth, labels, index=np.arange(n_labels + 1))
    # Only the middle of a part is judged: phase is rough beside a wall, which has no signal.
    is_middle = depth > deepest[labels] / 2
    n_middle = np.bincount(labels[is_middle], minlength=n_labels + 1)
    n_signal = np.bincount(labels[is_middle & has_signal], minlength=n_labels + 1)
    is_air = (deepest > opening) & (2 * n_signal < n_middle)
    return filled & ~is_air[labels]
