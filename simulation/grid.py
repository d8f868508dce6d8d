"""Grids in the scanner: their affines, finer and coarser versions, coordinates of their voxels."""

from collections.abc import Mapping, Sequence

import numpy as np

from ..core.grid import Vector


def subgrid_affine(affine: np.ndarray, factor: Vector, corner: Vector = (0, 0, 0)) -> np.ndarray:
    """Return the affine of a grid with `factor` voxels per voxel of `affine`.

    The grid starts at its voxel `corner`. Voxel edges coincide, so that the mean of `factor` fine
    voxels is a voxel of the original grid.

    Examples
    --------
    The first of two fine voxels per voxel of 1 mm is centred a quarter of a millimetre before it.

    >>> subgrid_affine(np.eye(4), (2, 2, 1))[:3].tolist()
    [[0.5, 0.0, 0.0, -0.25], [0.0, 0.5, 0.0, -0.25], [0.0, 0.0, 1.0, 0.0]]
    """
    factor = np.asarray(factor, float)
    scale = np.diag([*(1 / factor), 1.0])
    scale[:3, 3] = (np.asarray(corner) + 0.5) / factor - 0.5
    return affine @ scale


def scan_affine(
    shape: Vector,
    voxel_size: Vector,
    *,
    rotation: np.ndarray | None = None,
    centre: Vector = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Return the affine of an image by its middle and its rotation from the scanner's axes.

    Parameters
    ----------
    shape : sequence of int
        Voxels of the image.
    voxel_size : sequence of float
        Voxel size, mm.
    rotation : ndarray, shape (3, 3), optional
        Its columns are the image's axes in those of the scanner; an axial image by default.
    centre : sequence of float
        Middle of the image in the scanner's axes, mm.

    Returns
    -------
    ndarray, shape (4, 4)

    Examples
    --------
    >>> scan_affine((3, 5, 4), (1, 1, 2), centre=(0, 10, 0))[:3, 3].tolist()
    [-1.0, 8.0, -3.0]
    """
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) * np.asarray(voxel_size)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def block_mean(values: np.ndarray, factor: Vector) -> np.ndarray:
    """Average blocks of `factor` voxels, which must divide the shape."""
    for axis, n in enumerate(factor):
        split = (*values.shape[:axis], values.shape[axis] // n, n, *values.shape[axis + 1 :])
        values = values.reshape(split).mean(axis=axis + 1)
    return values


def block_mode(
    labels: np.ndarray, factor: Sequence[int], whole_of: Mapping[int, int] | None = None
) -> np.ndarray:
    """Return the most frequent label in blocks of `factor` voxels, which must divide the shape.

    A label that is a part of a tissue counts as this tissue. A block of this tissue has the part's
    label if the part is most of the tissue in it: without the part, all other labels are the same.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
    factor : sequence of int
        Voxels of a block along each axis.
    whole_of : mapping of int to int, optional
        For each label that is a part of a tissue, the label of this tissue.

    Examples
    --------
    Label 4 is a part of tissue 3.

    >>> block_mode(np.array([[[2, 2, 1, 3, 3, 3]]]), (1, 1, 3)).tolist()
    [[[2, 3]]]
    >>> block_mode(np.array([[[2, 4, 4, 3, 4, 3]]]), (1, 1, 3), {4: 3}).tolist()
    [[[4, 3]]]
    """
    whole = labels
    for part, tissue in (whole_of or {}).items():
        whole = np.where(whole == part, labels.dtype.type(tissue), whole)
    mode = _most_frequent(_strided(whole, factor))
    for part, tissue in (whole_of or {}).items():
        n_part = sum((voxels == part).astype(np.uint8) for voxels in _strided(labels, factor))
        n_tissue = sum((voxels == tissue).astype(np.uint8) for voxels in _strided(whole, factor))
        mode[(mode == tissue) & (2 * n_part > n_tissue)] = part
    return mode


def _strided(labels, factor):
    """Return each voxel of all blocks as an array: the first ones, the second ones and so on."""
    return [
        labels[i :: factor[0], j :: factor[1], k :: factor[2]] for i, j, k in np.ndindex(*factor)
    ]


def _most_frequent(strided):
    mode = np.zeros_like(strided[0])
    most = np.zeros(mode.shape, np.uint8)
    for candidate in strided:
        votes = np.zeros(mode.shape, np.uint8)
        for voter in strided:
            votes += candidate == voter
        mode = np.where(votes > most, candidate, mode)
        most = np.maximum(votes, most)
    return mode


def index_grid(box: Sequence[slice]) -> tuple[np.ndarray, ...]:
    """Return the voxel indices of a box as open arrays of float32, one for each axis."""
    return np.ix_(*(np.arange(side.start, side.stop, dtype=np.float32) for side in box))


def affine_row(row: np.ndarray, grid: Sequence[np.ndarray]) -> np.ndarray:
    """Return one coordinate of a grid's voxels as float32.

    Parameters
    ----------
    row : ndarray, shape (4,)
        Row of an affine.
    grid : sequence of three ndarrays of float32
        Open arrays of voxel indices, see `index_grid`.
    """
    x, y, z, shift = row.astype(np.float32)
    i, j, k = grid
    return x * i + y * j + z * k + shift


def coordinates(affine: np.ndarray, shape: Vector) -> list[np.ndarray]:
    """Return a grid's coordinates along the scanner's axes in units of 100 mm, as float32."""
    grid = index_grid(tuple(map(slice, (0, 0, 0), shape)))
    return [affine_row(row / 100, grid) for row in affine[:3]]


def along_axis(values: np.ndarray, axis: int) -> np.ndarray:
    """Reshape a vector to lie along one of three axes, so that it broadcasts.

    Examples
    --------
    >>> along_axis(np.arange(4), 1).shape
    (1, 4, 1)
    """
    shape = [1, 1, 1]
    shape[axis] = -1
    return values.reshape(shape)
