"""Background field removal by projection onto dipole fields (PDF): what sources outside the mask do
inside it.
"""

import numpy as np

from ..dipole import convolve, dipole_kernel
from ..grid import WorkingGrid, field_in_mask
from ..linear_systems import inner
from ..phase.fieldfit import noise_weight
from .removal import BackgroundRemoval


def pdf(
    field,
    mask,
    voxel_size,
    *,
    b0_dir=(0, 0, 1),
    standard_error=None,
    margin=10.0,
    tolerance=1e-3,
    max_iterations=200,
):
    """Projection onto dipole fields.

    Finds the susceptibility outside the mask whose field explains the field inside best, min ‖W M
    (D∗χ_out - f)‖², by conjugate gradients (CGLS), and subtracts its field. Stopping early is part
    of the method: a converged projection also explains noise and the tissue's own field near the
    edge.

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
        Standard error of the field, ppm, for the weights W, see `noise_weight`. Uniform weights
        without it.
    margin : float
        Room for sources around the mask's bounding box, mm. A layer of sources around the head can
        mimic any source beyond it, so the result does not change from 10 to 40 mm; without room the
        field wraps around onto the brain.
    tolerance : float
        Stop when an iteration takes less than this share off the (weighted) power of the local
        field: what is asked for no longer changes. The normal equations' residual says less, as it
        starts higher the larger the background is.
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
    Liu et al., NMR Biomed 24:1129-1136 (2011), eq. 4; de Rochefort et al., Magn Reson Med
    63:194-206 (2010).
    """
    grid = WorkingGrid.around(mask, voxel_size, margin)
    weight = grid.embed(noise_weight(standard_error, mask))
    outside = (~grid.embed(mask)).astype(np.float32)
    kernel = dipole_kernel(grid.shape, voxel_size, b0_dir)
    target = grid.embed(field_in_mask(mask, field))

    misfit = weight * target  # of what is left: the local field
    gradient = convolve(kernel, weight * misfit)
    gradient *= outside
    source = np.zeros_like(target)
    direction = gradient.copy()
    scratch = np.empty_like(target)
    left = inner(misfit, misfit)
    power = inner(gradient, gradient)
    start = power
    removed = left
    iterations = 0
    while power > 0 and removed > tolerance * left and iterations < max_iterations:
        response = convolve(kernel, direction)
        response *= weight
        step = np.float32(power / inner(response, response))
        source += np.multiply(direction, step, out=scratch)
        response *= step
        misfit -= response
        previous_left = left
        left = inner(misfit, misfit)
        removed = previous_left - left
        gradient = convolve(kernel, np.multiply(weight, misfit, out=scratch))
        gradient *= outside
        previous = power
        power = inner(gradient, gradient)
        direction *= np.float32(power / previous)
        direction += gradient
        iterations += 1

    local = np.where(mask, grid.extract(target - convolve(kernel, source)), np.float32(0))
    return BackgroundRemoval(
        local, mask, iterations, float(np.sqrt(power / start)) if start else 0.0
    )
