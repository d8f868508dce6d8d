"""The working grid: the volume cropped to the mask's bounding box and padded.

Dipole fields reach far, and a discrete Fourier transform wraps around: a brain that touches the
ends of its slab would act on itself through the border. Every convolution with the dipole kernel is
therefore done on a grid that holds the mask's bounding box, a margin in mm on each side, and no
more than that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import fft

Vector = Sequence[float] | np.ndarray  # a number for each axis, such as a voxel size

SAME_PLACE = 0.05  # of the smallest voxel side: corners of two grids closer than this coincide


@dataclass(frozen=True)
class WorkingGrid:
    """A padded box around a mask.

    Attributes
    ----------
    volume_shape : tuple of int
        Shape of the volume that the box was cut from.
    box : tuple of slice
        The mask's bounding box in the volume.
    shape : tuple of int
        Shape of the working grid, sizes that the FFT likes.
    inner : tuple of slice
        Where the box lies in the working grid.
    """

    volume_shape: tuple[int, ...]
    box: tuple[slice, ...]
    shape: tuple[int, ...]
    inner: tuple[slice, ...]

    @classmethod
    def around(cls, mask, voxel_size, margin):
        """Lay a grid around `mask` with at least `margin` mm on each side.

        Parameters
        ----------
        mask : ndarray of bool, shape (x, y, z)
            Region of interest.
        voxel_size : sequence of 3 floats
            Voxel size, mm.
        margin : float
            Padding on each side of the bounding box, mm.

        Raises
        ------
        ValueError
            If the mask is empty.

        Examples
        --------
        >>> mask = np.zeros((64, 64, 33), bool)
        >>> mask[20:40, 20:40, :] = True
        >>> WorkingGrid.around(mask, (1, 1, 2), margin=10).shape
        (40, 40, 45)
        """
        if not mask.any():
            raise ValueError("the mask is empty: there is no voxel to work on")
        occupied = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
        box = tuple(slice(int(places[0]), int(places[-1]) + 1) for places in occupied)
        size = [s.stop - s.start for s in box]
        wanted = [n + 2 * int(np.ceil(margin / v)) for n, v in zip(size, voxel_size, strict=True)]
        shape = tuple(fft.next_fast_len(n, real=True) for n in wanted)
        start = [(n - m) // 2 for n, m in zip(shape, size, strict=True)]
        inner = tuple(slice(a, a + m) for a, m in zip(start, size, strict=True))
        return cls(mask.shape, box, shape, inner)

    def embed(self, volume):
        """Carry a volume onto the grid, zero in the padding, keeping its dtype."""
        out = np.zeros(self.shape, volume.dtype)
        out[self.inner] = volume[self.box]
        return out

    def extract(self, padded):
        """Carry the grid's box back into a volume, zero outside the box."""
        out = np.zeros(self.volume_shape, padded.dtype)
        out[self.box] = padded[self.inner]
        return out


def field_in_mask(mask, field):
    """A field in the mask, as every method that solves for sources takes it: in single precision,
    zero outside.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Where the field is known.
    field : ndarray, shape (x, y, z)
        Field, any unit; what it holds outside the mask does not matter.

    Returns
    -------
    ndarray of float32, shape (x, y, z)

    Raises
    ------
    ValueError
        If it is not finite everywhere in the mask.
    """
    known = np.where(mask, field, 0).astype(np.float32, copy=False)
    if not np.isfinite(known).all():
        raise ValueError("the field holds values inside the mask that are not finite")
    return known


def neighbours(axis):
    """Slices of a volume's voxels that have a next one along an axis, and of those next ones.

    Examples
    --------
    >>> near, far = neighbours(2)
    >>> volume = np.arange(3).reshape(1, 1, 3)
    >>> volume[near].ravel().tolist(), volume[far].ravel().tolist()
    ([0, 1], [1, 2])
    """
    near = [slice(None)] * 3
    far = [slice(None)] * 3
    near[axis] = slice(None, -1)
    far[axis] = slice(1, None)
    return tuple(near), tuple(far)


def voxel_size_of(affine):
    """Voxel size of a grid.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        From voxels to world coordinates, mm.

    Returns
    -------
    ndarray, shape (3,)
        mm.
    """
    return np.linalg.norm(affine[:3, :3], axis=0)


def grid_shift(shape, affine, other):
    """How far two affines put the voxels of a grid apart.

    Parameters
    ----------
    shape : sequence of 3 ints
        Of the grid.
    affine, other : ndarray, shape (4, 4)
        From voxels to world coordinates, mm.

    Returns
    -------
    float
        The greatest distance between the two places of a voxel, mm: that of a corner.
    """
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in shape))])
    return float(np.linalg.norm((corners @ (affine - other).T)[:, :3], axis=1).max())


def is_same_place(shape, affine, other):
    """Whether two affines put the voxels of a grid at the same places, but for what rounding makes
    of them.

    Parameters
    ----------
    shape, affine, other
        As of `grid_shift`.

    Returns
    -------
    bool
        Whether no voxel is moved by more than a twentieth of the smallest voxel side.
    """
    return grid_shift(shape, affine, other) <= SAME_PLACE * voxel_size_of(other).min()


def box_around(region, margin=(0, 0, 0)):
    """Box around the voxels of a region, with a margin as far as the volume reaches.

    Parameters
    ----------
    region : ndarray of bool, shape (x, y, z)
        Not empty.
    margin : sequence of 3 ints
        In voxels.

    Returns
    -------
    tuple of 3 slices

    Examples
    --------
    >>> region = np.zeros((9, 9, 9), bool)
    >>> region[4, 2:5, 8] = True
    >>> box_around(region, (1, 0, 1))
    (slice(3, 6, None), slice(2, 5, None), slice(7, 10, None))
    """
    box = []
    for axis, room in enumerate(margin):
        used = np.flatnonzero(region.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(int(used[0]) - room, 0), int(used[-1]) + 1 + room))
    return tuple(box)


def check_shapes(**arrays):
    """Refuse arrays of different shapes.

    Parameters
    ----------
    **arrays
        Arrays by the names that the error tells.

    Raises
    ------
    ValueError
        If their shapes differ.
    """
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{listed} must have one shape: bring them onto one grid")
