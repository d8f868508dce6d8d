"""The working grid: the volume cropped to the mask's bounding box and padded.

A dipole field reaches far, and a discrete Fourier transform wraps around: the field of a brain that
touches the ends of its slab would re-enter at the opposite end. Every convolution with the dipole
kernel is therefore done on a grid that holds the mask's bounding box with a margin on each side.
Cropping to the box keeps the grid, and so memory and time, as small as possible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft

Vector = Sequence[float] | np.ndarray  # a number for each axis, such as a voxel size

# Two grids coincide if their corners are closer than this fraction of the smallest voxel side.
SAME_PLACE = 0.05


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
        Shape of the working grid: sizes for which the FFT is fast.
    inner : tuple of slice
        The box in the working grid.
    """

    volume_shape: tuple[int, ...]
    box: tuple[slice, ...]
    shape: tuple[int, ...]
    inner: tuple[slice, ...]

    @classmethod
    def around(cls, mask: np.ndarray, voxel_size: Vector, margin: float) -> WorkingGrid:
        """Lay a grid around `mask` with at least `margin` mm on each side.

        Parameters
        ----------
        mask : ndarray of bool, shape (x, y, z)
            Region of interest.
        voxel_size : sequence of 3 floats
            Voxel size, mm.
        margin : float
            Padding on each side of the bounding box, mm.

        Returns
        -------
        WorkingGrid

        Raises
        ------
        ValueError
            If the mask is empty, or the voxel size not three numbers.

        Examples
        --------
        >>> mask = np.zeros((64, 64, 33), bool)
        >>> mask[20:40, 20:40, :] = True
        >>> WorkingGrid.around(mask, (1, 1, 2), margin=10).shape
        (40, 40, 45)
        """
        if not mask.any():
            raise ValueError("the mask is empty: check the image or threshold that it comes from")
        if np.shape(voxel_size) != (3,):
            raise ValueError(f"the voxel size must be three numbers in mm, got {voxel_size}")
        box = box_around(mask)
        shape = []
        inner = []
        for extent, size in zip(box, voxel_size, strict=True):
            n = extent.stop - extent.start
            padding = int(np.ceil(margin / size))
            padded = fft.next_fast_len(n + 2 * padding, real=True)
            start = (padded - n) // 2
            shape.append(padded)
            inner.append(slice(start, start + n))
        return cls(mask.shape, box, tuple(shape), tuple(inner))

    def embed(self, volume: np.ndarray) -> np.ndarray:
        """Copy the box of a volume into the grid, with zeros in the padding; the dtype stays."""
        padded = np.zeros(self.shape, volume.dtype)
        padded[self.inner] = volume[self.box]
        return padded

    def extract(self, padded: np.ndarray) -> np.ndarray:
        """Copy the box of the grid back into a volume, with zeros outside the box."""
        volume = np.zeros(self.volume_shape, padded.dtype)
        volume[self.box] = padded[self.inner]
        return volume


def field_in_mask(mask: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Return the field in single precision with zeros outside the mask, as all solvers expect it.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Where the field is valid.
    field : ndarray, shape (x, y, z)
        Field, any unit. Its values outside the mask are ignored.

    Returns
    -------
    ndarray of float32, shape (x, y, z)

    Raises
    ------
    ValueError
        If the field is not finite everywhere in the mask.
    """
    masked = np.where(mask, field, 0).astype(np.float32, copy=False)
    if not np.isfinite(masked).all():
        raise ValueError(
            "the field has values inside the mask that are not finite: check the input images, or "
            "leave these voxels out of the mask"
        )
    return masked


def neighbours(axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return slices that pair each voxel of a volume with the next one along an axis.

    Parameters
    ----------
    axis : int
        0, 1 or 2.

    Returns
    -------
    near, far : tuple of 3 slices
        All voxels but the last along the axis, and all but the first.

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


def voxel_size_of(affine: np.ndarray) -> np.ndarray:
    """Return the voxel size of a grid.

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


def grid_shift(shape: Sequence[int], affine: np.ndarray, reference: np.ndarray) -> float:
    """Return the greatest distance between the positions that two affines give to one voxel.

    Parameters
    ----------
    shape : sequence of 3 ints
        Shape of the grid.
    affine, reference : ndarray, shape (4, 4)
        From voxels to world coordinates, mm.

    Returns
    -------
    float
        In mm; infinite if an affine is not finite. The distance is greatest at one of the grid's
        corners, so only these are compared.

    Examples
    --------
    >>> shifted = np.eye(4)
    >>> shifted[0, 3] = 2
    >>> grid_shift((5, 5, 5), shifted, np.eye(4))
    2.0
    """
    if not (np.isfinite(affine).all() and np.isfinite(reference).all()):
        return np.inf
    ends = [(0, size - 1) for size in shape]
    corners = np.array(list(product(*ends, [1])))  # homogeneous coordinates
    return float(np.linalg.norm((corners @ (affine - reference).T)[:, :3], axis=1).max())


def is_same_place(shape: Sequence[int], affine: np.ndarray, reference: np.ndarray) -> bool:
    """Check that two affines put the voxels of a grid at the same positions, up to rounding.

    Parameters
    ----------
    shape, affine, reference
        As of `grid_shift`.

    Returns
    -------
    bool
        True if no voxel moves by more than a twentieth of the smallest voxel side.
    """
    return bool(grid_shift(shape, affine, reference) <= SAME_PLACE * voxel_size_of(reference).min())


def box_around(region: np.ndarray, margin: Sequence[int] = (0, 0, 0)) -> tuple[slice, ...]:
    """Return the bounding box of a region, enlarged by a margin as far as the volume reaches.

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
    for axis, axis_margin in enumerate(margin):
        across = tuple({0, 1, 2} - {axis})
        occupied = np.flatnonzero(region.any(axis=across))
        first = max(int(occupied[0]) - axis_margin, 0)
        box.append(slice(first, int(occupied[-1]) + 1 + axis_margin))
    return tuple(box)


def check_grid(
    mask: np.ndarray, *, edges: np.ndarray | None = None, **volumes: np.ndarray | None
) -> None:
    """Raise an error unless all volumes are on the grid of the mask.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    edges : ndarray, shape (3, x, y, z), optional
        From `regularization.edge_mask`.
    **volumes
        Arrays of shape (x, y, z), or None, under the names that the error message gives them.

    Raises
    ------
    ValueError
        If a shape differs from that of the mask, or the mask has not three axes.

    Examples
    --------
    >>> check_grid(np.zeros((4, 5, 6), bool), field=np.zeros((4, 5, 7)))
    Traceback (most recent call last):
    ...
    ValueError: field has the shape (4, 5, 7), but the mask (4, 5, 6): resample them onto one grid
    """
    if mask.ndim != 3:
        raise ValueError(f"the mask has the shape {mask.shape}: it must have three axes")
    for name, volume in volumes.items():
        if volume is not None and volume.shape != mask.shape:
            raise ValueError(
                f"{name} has the shape {volume.shape}, but the mask {mask.shape}: resample them "
                "onto one grid"
            )
    if edges is not None and edges.shape != (3, *mask.shape):
        raise ValueError(
            f"edges has the shape {edges.shape}, but the mask {mask.shape}: it must be "
            f"{(3, *mask.shape)}, with one volume for each axis, as from edge_mask"
        )


def check_shapes(**arrays: ArrayLike) -> None:
    """Raise an error unless all arrays have the same shape.

    Parameters
    ----------
    **arrays
        The arrays, under the names that the error message gives them.

    Raises
    ------
    ValueError
        If their shapes differ.
    """
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{listed} must have the same shape: resample them onto one grid")
