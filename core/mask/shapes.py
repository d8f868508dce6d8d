"""Masks as shapes: depth below the surface, erosion, connected components, enclosed holes."""

import numpy as np
from scipy import ndimage

CORNERS = np.ones((3, 3, 3), int)  # of voxels that share no more than a corner, for labelling

# Dark or noisy specks below this volume in mm³ are vessels or small bleeds. Skull, sinuses and air
# hang together and are far larger.
_SPECK = 300.0

# A pocket of rough phase is compact if its volume is below so many times that of the largest ball
# in it. Where a strong source dephases its surroundings it is 1.2 to 1.6 times; the largest pocket
# of a real skull, which is thin, has 8.
_COMPACT = 3.0
_LARGEST_POCKET = 15.0  # mm, radius of that ball; a brain whose phase is all noise is none


class EmptyMaskError(ValueError):
    """No voxel is left in a mask."""


def erode(mask, voxel_size, distance):
    """Remove voxels within a distance of the outside.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    voxel_size : tuple of 3 floats
        In mm.
    distance : float
        In mm, from voxel centre to the nearest centre outside. The volume's faces are not outside.

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
    # A little more: voxel sizes are read as float32, and a distance of whole voxels should take
    # these.
    return np.asarray(mask, dtype=bool) & (depth_in(mask, voxel_size) > distance * (1 + 1e-5))


def largest_component(mask, structure=None):
    """Keep the largest component of connected voxels.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    structure : ndarray of bool, shape (3, 3, 3), optional
        What connects; by default voxels that share faces.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        Empty if the mask is.
    """
    labels, n_labels = ndimage.label(mask, structure)
    if n_labels == 0:
        return np.zeros_like(labels, dtype=bool)
    return labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1


def depth_in(mask, voxel_size):
    """Distance of each voxel in the mask from the outside, in mm; infinite if the volume has no
    outside.
    """
    if np.all(mask):
        return np.full(mask.shape, np.inf, np.float32)
    return ndimage.distance_transform_edt(mask, sampling=voxel_size)


def heaviest_component(mask, weight):
    """The component of voxels that share faces whose weights have the largest sum."""
    labels, _ = ndimage.label(mask)
    sums = np.bincount(labels.ravel(), weights=weight.ravel())
    return labels == np.argmax(sums[1:]) + 1


def dilate(mask, voxel_size, distance):
    """Voxels no further than a distance in mm from the mask."""
    return depth_in(~mask, voxel_size) <= distance * (1 + 1e-5)


def fill_pockets(mask, voxel_size):
    """Fill specks and pockets: what is enclosed, compact and not large, as a dephased region is and
    a skull is not.
    """
    # Corners connect here: a thin skull in coarse voxels must not fall into specks.
    labels, n_labels = ndimage.label(~mask, CORNERS)
    volume = np.bincount(labels.ravel(), minlength=n_labels + 1) * np.prod(voxel_size)
    is_filled = volume < _SPECK
    is_enclosed = ~is_filled
    for axis in range(3):
        is_enclosed[np.unique(np.take(labels, (0, -1), axis))] = False
    is_filled[0] = is_enclosed[0] = False
    if is_enclosed.any():
        depth = depth_in(is_enclosed[labels], voxel_size)
        radius = ndimage.maximum(depth, labels, index=np.arange(n_labels + 1))
        is_compact = volume < _COMPACT * 4 / 3 * np.pi * radius**3
        is_filled |= is_enclosed & is_compact & (radius < _LARGEST_POCKET)
    return mask | is_filled[labels]


def fill_body(body, measured, voxel_size, opening):
    """Fill what the body encloses, and what it encloses in a plane if that is thin or was
    measured.
    """
    filled = body.copy()
    for axis in range(3):
        planes = np.moveaxis(filled, axis, 0)
        for plane, of_body in zip(planes, np.moveaxis(body, axis, 0), strict=True):
            plane |= ndimage.binary_fill_holes(of_body)
    labels, n_labels = ndimage.label(filled & ~ndimage.binary_fill_holes(body))
    depth = depth_in(labels > 0, voxel_size)
    deepest = ndimage.maximum(depth, labels, index=np.arange(n_labels + 1))
    # Noise of a wall makes the phase rough at its sides, so that the middle is judged.
    middle = depth > deepest[labels] / 2
    n_middle, n_measured = (
        np.bincount(labels[v], minlength=n_labels + 1) for v in (middle, middle & measured)
    )
    is_air = (deepest > opening) & (2 * n_measured < n_middle)
    return filled & ~is_air[labels]
