"""Holes: voxels enclosed by a mask whose field is not measured.

A strong source, such as a haemorrhage, dephases its surroundings until their phase cannot be
unwrapped. These voxels stay in the mask, but their data have no weight. If they were left out of
it, background field removal and total field inversion would treat them as outside, where sources
are unconstrained, and would assign the field of the source to the background.
"""

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from .grid import Vector, neighbours

# Relative residual of the linear system at which the solver stops: far below the noise of any
# field.
_TOLERANCE = 1e-4
_MAX_ITERATIONS = 1000


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fill the holes of a mask, including those that are open at a face of the volume.

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
    # A slab's first slice may cut through a hole. Close each face with a lid: the outermost plane
    # of the mask, itself filled in two dimensions.
    closed = np.pad(mask, 1)
    for axis in range(3):
        for face, nearest in ((0, 1), (-1, -2)):
            plane = np.moveaxis(closed, axis, 0)
            plane[face] = ndimage.binary_fill_holes(plane[nearest])
    return ndimage.binary_fill_holes(closed)[1:-1, 1:-1, 1:-1]


def interpolate_unmeasured(
    values: np.ndarray, measured: np.ndarray, mask: np.ndarray, voxel_size: Vector
) -> np.ndarray:
    """Fill in the unmeasured voxels of a mask by the smoothest continuation of the measured ones.

    Solve Laplace's equation in the unmeasured voxels, with the measured ones as boundary values and
    no flux through the mask's surface. A background field obeys this equation, so its continuation
    is exact; that of a local field is a guess. Each filled value is a weighted mean of measured
    ones: the weights are positive and sum to 1. Standard errors interpolated with the same weights
    are therefore never smaller than the standard errors of the filled values.

    Parameters
    ----------
    values : ndarray, shape (x, y, z)
        Any unit. Only used where `measured`.
    measured : ndarray of bool, shape (x, y, z)
        Where `values` are valid.
    mask : ndarray of bool, shape (x, y, z)
        Voxels to return values for.
    voxel_size : sequence of 3 floats
        In mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        The values in the mask, zero outside. Unmeasured voxels that are not connected to a measured
        one get the median of the measured ones.

    Raises
    ------
    ValueError
        If no voxel of the mask is measured.

    Examples
    --------
    >>> line = np.array([[[0.0, 9.0, 9.0, 3.0]]])
    >>> interpolate_unmeasured(line, line != 9, line >= 0, (1, 1, 2)).ravel().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    measured = measured & mask
    unmeasured = mask & ~measured
    if not measured.any():
        raise ValueError(
            "no voxel of the mask is measured: check the mask, and the images for signal"
        )
    filled = np.where(measured, values, 0).astype(np.float32)
    if not unmeasured.any():
        return filled
    # Solve for the difference from the median: where no measured voxel is connected the solution is
    # zero, and the voxel gets the median.
    median = np.median(filled[measured])
    laplacian, inflow = _laplace(filled - median, measured, unmeasured, voxel_size)
    diagonal = laplacian.diagonal()
    precondition = sparse.diags_array(1 / diagonal)
    solution, _ = cg(laplacian, inflow, rtol=_TOLERANCE, maxiter=_MAX_ITERATIONS, M=precondition)
    filled[unmeasured] = median + solution
    return filled


def _laplace(values, measured, unmeasured, voxel_size):
    """Set up Laplace's equation in the unmeasured voxels.

    Returns its matrix, and the right-hand side: what the measured neighbours contribute. Neighbours
    are connected with a conductance of 1/h², h being their distance, as in the finite-difference
    Laplacian; no connection leads out of the mask, so nothing flows through its surface.
    """
    n = int(np.count_nonzero(unmeasured))
    number = np.zeros(unmeasured.shape, np.int32)  # of each unmeasured voxel, its row of the matrix
    number[unmeasured] = np.arange(n)
    diagonal = np.zeros(n)
    inflow = np.zeros(n)
    rows = []
    columns = []
    conductances = []
    for axis, size in enumerate(voxel_size):
        conductance = 1 / float(size) ** 2
        lower, upper = neighbours(axis)
        for voxel, neighbour in ((lower, upper), (upper, lower)):
            beside_measured = unmeasured[voxel] & measured[neighbour]
            row = number[voxel][beside_measured]
            diagonal += conductance * np.bincount(row, minlength=n)
            inflow += conductance * np.bincount(row, values[neighbour][beside_measured], n)
            beside_unmeasured = unmeasured[voxel] & unmeasured[neighbour]
            row = number[voxel][beside_unmeasured]
            diagonal += conductance * np.bincount(row, minlength=n)
            rows.append(row)
            columns.append(number[neighbour][beside_unmeasured])
            conductances.append(np.full(row.size, -conductance))
    diagonal[diagonal == 0] = 1  # a voxel without neighbours: any number keeps the matrix regular
    off_diagonal = sparse.coo_array(
        (np.concatenate(conductances), (np.concatenate(rows), np.concatenate(columns))),
        shape=(n, n),
    )
    return off_diagonal.tocsr() + sparse.diags_array(diagonal).tocsr(), inflow
