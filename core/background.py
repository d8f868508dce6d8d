"""Background field removal: what sources outside the mask do inside it."""

from dataclasses import dataclass

import numpy as np

from .dipole import convolve, dipole_kernel
from .fieldfit import noise_weight
from .grid import WorkingGrid


@dataclass(frozen=True)
class BackgroundRemoval:
    """Result of a background field removal.

    Attributes
    ----------
    local_field : ndarray of float32, shape (x, y, z)
        Field of the sources inside the mask, ppm, zero outside the mask.
    iterations : int
        Iterations of the solver.
    relative_residual : float
        Norm of the normal equations' residual relative to its start.
    """

    local_field: np.ndarray
    iterations: int
    relative_residual: float


def pdf(
    field,
    mask,
    voxel_size,
    *,
    b0_dir=(0, 0, 1),
    standard_error=None,
    margin=10.0,
    tolerance=2e-3,
    max_iterations=100,
):
    """Projection onto dipole fields.

    Finds the susceptibility outside the mask whose field explains the field inside best,
    min ‖W M (D∗χ_out - f)‖², by conjugate gradients (CGLS), and subtracts its field. Stopping early is part of
    the method: a converged projection also explains noise and the tissue's own field near the edge.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region whose local field is wanted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    standard_error : ndarray, shape (x, y, z), optional
        Standard error of the field, ppm, for the weights W, see `noise_weight`. Uniform weights without it.
    margin : float
        Room for sources around the mask's bounding box, mm. A layer of sources around the head can mimic any source
        beyond it, so the result does not change from 10 to 40 mm; without room the field wraps around
        onto the brain.
    tolerance : float
        Stop when the residual of the normal equations has fallen to this share of its start.
    max_iterations : int
        Stop after so many iterations in any case.

    Returns
    -------
    BackgroundRemoval

    Raises
    ------
    ValueError
        If the mask is empty, the field in it not finite, or a standard error in it not positive.

    References
    ----------
    Liu et al., NMR Biomed 24:1129-1136 (2011), eq. 4; de Rochefort et al., Magn Reson Med 63:194-206 (2010).
    """
    grid = WorkingGrid.around(mask, voxel_size, margin)
    weight = grid.embed(mask.astype(np.float32) if standard_error is None else noise_weight(standard_error, mask))
    outside = ~grid.embed(mask)
    kernel = dipole_kernel(grid.shape, voxel_size, b0_dir)
    target = grid.embed(np.where(mask, field, 0).astype(np.float32))
    if not np.isfinite(target).all():
        raise ValueError("the field holds values inside the mask that are not finite")

    misfit = weight * target
    gradient = outside * convolve(kernel, weight * misfit)
    source, direction = np.zeros_like(target), gradient.copy()
    power = start = _power(gradient)
    iterations = 0
    while power > tolerance**2 * start and iterations < max_iterations:
        response = weight * convolve(kernel, direction)
        step = np.float32(power / _power(response))
        source += step * direction
        misfit -= step * response
        gradient = outside * convolve(kernel, weight * misfit)
        previous, power = power, _power(gradient)
        direction *= np.float32(power / previous)
        direction += gradient
        iterations += 1

    local = np.where(mask, grid.extract(target - convolve(kernel, source)), np.float32(0))
    return BackgroundRemoval(local, iterations, float(np.sqrt(power / start)) if start else 0.0)


def _power(x):
    """Sum of squares in double precision; not BLAS, whose result depends on the number of threads."""
    return float(np.sum(np.square(x), dtype=np.float64))
