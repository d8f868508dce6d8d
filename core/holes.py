"""Voxels inside a mask whose field is not known: they belong to the inside, and data there have no
weight.

A strong source, such as a haemorrhage, dephases its surroundings until their phase cannot be
unwrapped. If these voxels were left out of the mask, background field removal and total field
inversion would take them for the outside, where sources are free, and the source's own field would
be given to the background.
"""

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from .grid import neighbours

# Of the linear system's residual: far below the noise of any field.
_TOLERANCE = 1e-4
_MAX_ITERATIONS = 1000


def fill_holes(mask):
    """Fill what a mask encloses, also where a face of the volume cuts through the hole.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)

    Returns
    -------
    ndarray of bool, shape (x, y, z)

    Examples
    --------
    >>> mask = np.ones((3, 3, 3), bool)
    >>> mask[1, 1, 1] = False
    >>> bool(fill_holes(mask).all())
    True
    """
    closed = np.pad(mask, 1)
    for axis in range(3):
        for face, nearest in ((0, 1), (-1, -2)):
            plane = np.moveaxis(closed, axis, 0)
            plane[face] = ndimage.binary_fill_holes(plane[nearest])
    return ndimage.binary_fill_holes(closed)[1:-1, 1:-1, 1:-1]


def interpolate_unknown(values, known, mask, voxel_size):
    """Fill in what is not known inside a mask by the smoothest continuation of what is around it.

    It solves Laplace's equation in the unknown voxels, with the known ones as boundary values and
    no flux through the mask's surface. A background field obeys this equation, so its continuation
    is exact; that of a local field is a guess. The weights of the known values are positive and sum
    to 1, so that standard errors continued in the same way are never smaller than those of the
    continued values.

    Parameters
    ----------
    values : ndarray, shape (x, y, z)
        Any unit. Used where `known` alone.
    known : ndarray of bool, shape (x, y, z)
        Where `values` hold.
    mask : ndarray of bool, shape (x, y, z)
        Where values are wanted.
    voxel_size : sequence of 3 floats
        In mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        The values in the mask, zero outside. Unknown voxels without any way to a known one have the
        known ones' median.

    Raises
    ------
    ValueError
        If nothing in the mask is known.

    Examples
    --------
    >>> line = np.array([[[0.0, 9.0, 9.0, 3.0]]])
    >>> interpolate_unknown(line, line != 9, line >= 0, (1, 1, 2)).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    known = known & mask
    unknown = mask & ~known
    if not known.any():
        raise ValueError("no voxel of the mask is known")
    filled = np.where(known, values, 0).astype(np.float32)
    if not unknown.any():
        return filled
    # About the median, so that voxels which nothing reaches take it.
    middle = np.median(filled[known])
    laplacian, inflow = _laplace(filled - middle, known, unknown, voxel_size)
    diagonal = laplacian.diagonal()
    precondition = sparse.diags_array(1 / diagonal)
    solution, _ = cg(laplacian, inflow, rtol=_TOLERANCE, maxiter=_MAX_ITERATIONS, M=precondition)
    filled[unknown] = middle + solution
    return filled


def _laplace(values, known, unknown, voxel_size):
    """Laplace's equation for the unknown voxels: its matrix, and what the known neighbours
    contribute.
    """
    n = int(np.count_nonzero(unknown))
    place = np.zeros(unknown.shape, np.int32)
    place[unknown] = np.arange(n)
    diagonal = np.zeros(n)
    inflow = np.zeros(n)
    rows = []
    columns = []
    conductances = []
    for axis, size in enumerate(voxel_size):
        conductance = 1 / float(size) ** 2
        near, far = neighbours(axis)
        for here, there in ((near, far), (far, near)):
            beside_known = unknown[here] & known[there]
            at = place[here][beside_known]
            diagonal += conductance * np.bincount(at, minlength=n)
            inflow += conductance * np.bincount(at, values[there][beside_known], n)
            beside_unknown = unknown[here] & unknown[there]
            at = place[here][beside_unknown]
            diagonal += conductance * np.bincount(at, minlength=n)
            rows.append(at)
            columns.append(place[there][beside_unknown])
            conductances.append(np.full(at.size, -conductance))
    diagonal[diagonal == 0] = 1  # a voxel by itself
    off_diagonal = sparse.coo_array(
        (np.concatenate(conductances), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n, n),
    )
    return off_diagonal.tocsr() + sparse.diags_array(diagonal).tocsr(), inflow
