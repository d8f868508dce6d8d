"""The reference of the thalamus study: small spheres in the CSF of the atrium of each lateral
ventricle.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..grid import voxel_size_of
from ..mask.shapes import CORNERS, largest_component

SIDES = ("left", "right")
POSTERIOR = 1 / 3  # share of a ventricle's length, from its back, in which its atrium is looked for
_EQUAL = 0.1  # mm of depth that voxels may differ by and pass for equally deep


@dataclass(frozen=True)
class Atria:
    """Result of `find_atria`.

    Attributes
    ----------
    mask : ndarray of bool, shape (x, y, z)
        The spheres, as far as they lie in the ventricles.
    centres : ndarray, shape (2, 3)
        Of the left and the right one in world coordinates, mm.
    depths : ndarray, shape (2,)
        Distance of the centres from the ventricle's wall, mm.
    n_voxels : tuple of int
        Voxels on each side.
    """

    mask: np.ndarray
    centres: np.ndarray
    depths: np.ndarray
    n_voxels: tuple[int, int]


def find_atria(ventricles, affine, mask, *, radius=2.5):
    """Place a sphere in the atrium of each lateral ventricle.

    The atrium, or trigone, is where body, temporal and occipital horn meet, the widest place of the
    ventricle's back. The centre is the voxel farthest from the ventricle's wall in the posterior
    third of its length; of equals the one in their middle.

    Parameters
    ----------
    ventricles : ndarray of bool, shape (x, y, z)
        Lateral ventricles.
    affine : ndarray, shape (4, 4)
        From voxels to world coordinates, mm, x to the right and y to the front (NIfTI).
    mask : ndarray of bool, shape (x, y, z)
        The brain, whose centre tells left from right; spheres lie in it.
    radius : float
        Of the spheres, mm.

    Returns
    -------
    Atria

    Raises
    ------
    ValueError
        If the mask is empty, the radius is not positive, or a side has no voxel; a ventricle is
        thinner than a voxel or not labelled then.

    References
    ----------
    Chiang et al., AJNR Am J Neuroradiol 39:467-472 (2018).
    """
    if not radius > 0:
        raise ValueError(f"a radius of {radius:g} mm holds no voxel: give a positive one")
    if not np.any(mask):
        raise ValueError("the mask is empty: there is no brain to find ventricles in")
    ventricles = np.asarray(ventricles, bool) & mask
    x, y = (_along(affine, mask.shape, axis) for axis in (0, 1))
    middle = x[np.asarray(mask, bool)].mean()
    voxel_size = voxel_size_of(affine)
    depth = ndimage.distance_transform_edt(ventricles, sampling=voxel_size)
    found = np.zeros(mask.shape, bool)
    chosen = []
    for side, on_side in zip(SIDES, (x < middle, x > middle), strict=True):
        ventricle = largest_component(ventricles & on_side, CORNERS)
        if not ventricle.any():
            raise ValueError(
                f"no voxel of the {side} lateral ventricle: give coordinates or a label of the "
                "atria"
            )
        index = _widest(ventricle, depth, y)
        sphere = (
            ventricles & on_side & sphere_mask(affine @ [*index, 1], affine, mask.shape, radius)
        )
        found |= sphere
        chosen.append((index, depth[index], int(np.count_nonzero(sphere))))
    indices, depths, n_voxels = zip(*chosen, strict=True)
    centres = np.array(indices) @ affine[:3, :3].T + affine[:3, 3]
    return Atria(found, centres, np.array(depths), n_voxels)


def sphere_mask(centre, affine, shape, radius):
    """Voxels of a sphere.

    Parameters
    ----------
    centre : array_like, at least the 3 floats x, y and z
        World coordinates, mm.
    affine : ndarray, shape (4, 4)
        From voxels to world coordinates, mm.
    shape : sequence of 3 ints
        Of the volume.
    radius : float
        mm.

    Returns
    -------
    ndarray of bool, shape `shape`
        Voxels whose centres lie within the radius, and the one that the sphere's centre lies in.

    Raises
    ------
    ValueError
        If the centre lies outside the volume.

    Examples
    --------
    >>> sphere_mask((2, 0, 0), np.eye(4), (5, 1, 1), 1.0).ravel().astype(int).tolist()
    [0, 1, 1, 1, 0]
    """
    centre = np.asarray(centre, float)[:3]
    index = np.rint(np.linalg.inv(affine) @ [*centre, 1])[:3].astype(int)
    if (index < 0).any() or (index >= shape).any():
        raise ValueError(
            f"the point {', '.join(f'{value:.1f}' for value in centre)} mm lies outside the image: "
            "check that the "
            "coordinates are mm of its space (RAS+)"
        )
    squares = sum((_along(affine, shape, axis) - value) ** 2 for axis, value in enumerate(centre))
    sphere = squares <= radius**2
    sphere[tuple(index)] = True
    return sphere


def _along(affine, shape, axis):
    """World coordinate of every voxel along an axis."""
    x, y, z = np.ix_(*(np.arange(n) for n in shape))
    row = affine[axis]
    return row[0] * x + row[1] * y + row[2] * z + row[3]


def _widest(ventricle, depth, y):
    """Voxel of greatest depth in the ventricle's back."""
    back = y[ventricle].min()
    front = y[ventricle].max()
    candidates = np.argwhere(ventricle & (y <= back + POSTERIOR * (front - back)))
    at = tuple(candidates.T)
    deepest = candidates[depth[at] >= depth[at].max() - _EQUAL]
    middle = np.argmin(np.linalg.norm(deepest - deepest.mean(axis=0), axis=1))
    return tuple(int(i) for i in deepest[middle])
