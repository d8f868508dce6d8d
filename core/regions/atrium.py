"""The reference region of the thalamus study: a sphere of CSF in the atrium of each ventricle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..grid import voxel_size_of
from ..mask.shapes import CORNERS, largest_component

SIDES = ("left", "right")
POSTERIOR = 1 / 3  # fraction of a ventricle's length, from its back, that contains its atrium
_EQUAL = 0.1  # mm, depths that differ by less are considered equal


@dataclass(frozen=True)
class Atria:
    """Result of `find_atria`.

    Attributes
    ----------
    mask : ndarray of bool, shape (x, y, z)
        The spheres, restricted to the ventricles.
    centres : ndarray, shape (2, 3)
        World coordinates of the left and the right sphere's centre, mm.
    depths : ndarray, shape (2,)
        Distance of the centres from the ventricle's wall, mm.
    n_voxels : tuple of int
        Number of voxels in the left and the right sphere.
    """

    mask: np.ndarray
    centres: np.ndarray
    depths: np.ndarray
    n_voxels: tuple[int, int]


def find_atria(
    ventricles: np.ndarray, affine: np.ndarray, mask: np.ndarray, *, radius: float = 2.5
) -> Atria:
    """Place a sphere in the atrium of each lateral ventricle.

    The atrium, or trigone, is where the body and the temporal and occipital horns meet. It is the
    widest part of the posterior ventricle. The centre of the sphere is the voxel farthest from the
    ventricle's wall in the posterior third of its length. Of several such voxels, it is the one
    nearest to their mean.

    Parameters
    ----------
    ventricles : ndarray of bool, shape (x, y, z)
        Lateral ventricles.
    affine : ndarray, shape (4, 4)
        From voxels to world coordinates, mm, with x to the right and y to the front (NIfTI).
    mask : ndarray of bool, shape (x, y, z)
        Brain mask. Its centre divides left from right, and the spheres are restricted to it.
    radius : float
        Radius of the spheres, mm.

    Returns
    -------
    Atria

    Raises
    ------
    ValueError
        If the mask is empty, the radius is not positive, or a side has no voxel of a ventricle,
        which is then thinner than a voxel or not labelled.

    References
    ----------
    Chiang et al., AJNR Am J Neuroradiol 39:467-472 (2018).
    """
    if not radius > 0:
        raise ValueError(f"the radius of the spheres must be positive, got {radius:g} mm")
    if not np.any(mask):
        raise ValueError("the mask is empty: there is no brain in which to find ventricles")
    mask = np.asarray(mask, bool)
    ventricles = np.asarray(ventricles, bool) & mask
    x = _world_coordinate(affine, mask.shape, 0)
    y = _world_coordinate(affine, mask.shape, 1)
    middle = x[mask].mean()
    depth = ndimage.distance_transform_edt(ventricles, sampling=voxel_size_of(affine))
    atria = np.zeros(mask.shape, bool)
    indices = []
    depths = []
    n_voxels = []
    for side, on_side in zip(SIDES, (x < middle, x > middle), strict=True):
        ventricle = largest_component(ventricles & on_side, CORNERS)
        if not ventricle.any():
            raise ValueError(
                f"no voxel of the {side} lateral ventricle: give coordinates or a label of the "
                "atria"
            )
        index = _deepest_posterior_voxel(ventricle, depth, y)
        sphere = sphere_mask(affine @ [*index, 1], affine, mask.shape, radius)
        sphere &= ventricles & on_side
        atria |= sphere
        indices.append(index)
        depths.append(depth[index])
        n_voxels.append(int(np.count_nonzero(sphere)))
    centres = np.array(indices) @ affine[:3, :3].T + affine[:3, 3]
    return Atria(atria, centres, np.array(depths), (n_voxels[0], n_voxels[1]))


def sphere_mask(
    centre: ArrayLike, affine: np.ndarray, shape: Sequence[int], radius: float
) -> np.ndarray:
    """Return the mask of a sphere.

    Parameters
    ----------
    centre : array_like, at least 3 floats
        World coordinates x, y and z, mm; further numbers are ignored.
    affine : ndarray, shape (4, 4)
        From voxels to world coordinates, mm.
    shape : sequence of 3 ints
        Shape of the volume.
    radius : float
        mm.

    Returns
    -------
    ndarray of bool, shape `shape`
        Voxels whose centres lie within the radius, and the voxel that contains the sphere's centre.

    Raises
    ------
    ValueError
        If the centre lies outside the volume.

    Examples
    --------
    >>> sphere_mask((2, 0, 0), np.eye(4), (5, 1, 1), 1.0).ravel().astype(int).tolist()
    [0, 1, 1, 1, 0]
    """
    point = np.asarray(centre, float)[:3]
    index = np.rint(np.linalg.inv(affine) @ [*point, 1])[:3].astype(int)
    if (index < 0).any() or (index >= shape).any():
        x, y, z = point
        raise ValueError(
            f"the point {x:.1f}, {y:.1f}, {z:.1f} mm lies outside the image: check that its "
            "coordinates are in mm in the image's space (RAS+)"
        )
    square = np.zeros(shape)
    for axis, value in enumerate(point):
        square += (_world_coordinate(affine, shape, axis) - value) ** 2
    sphere = square <= radius**2
    sphere[tuple(index)] = True
    return sphere


def _world_coordinate(affine, shape, axis):
    """Return the world coordinate of every voxel along an axis, mm."""
    x, y, z = np.ix_(*map(np.arange, shape))
    row = affine[axis]
    return row[0] * x + row[1] * y + row[2] * z + row[3]


def _deepest_posterior_voxel(ventricle, depth, y):
    """Return the voxel of greatest depth in the posterior part of a ventricle."""
    back = y[ventricle].min()
    front = y[ventricle].max()
    posterior = np.argwhere(ventricle & (y <= back + POSTERIOR * (front - back)))
    depths = depth[tuple(posterior.T)]
    deepest = posterior[depths >= depths.max() - _EQUAL]
    middle = np.argmin(np.linalg.norm(deepest - deepest.mean(axis=0), axis=1))
    return tuple(deepest[middle].tolist())
