"""Background field removal by projection onto dipole fields (PDF).

The background is approximated by the field of sources outside the mask.
"""

import numpy as np

from ..dipole import convolve, dipole_kernel
from ..grid import Vector, WorkingGrid, check_grid, field_in_mask
from ..linear_systems import inner
from ..phase.fieldfit import noise_weight
from .removal import BackgroundRemoval


def pdf(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    b0_dir: Vector = (0, 0, 1),
    standard_error: np.ndarray | None = None,
    margin: float = 10.0,
    tolerance: float = 1e-3,
    max_iterations: int = 200,
) -> BackgroundRemoval:
    """Subtract the field of sources outside the mask that best explains the field inside.

    Their susceptibility minimises ‖W M (D∗χ_out - f)‖², with M the mask, and is found by conjugate
    gradients (CGLS). Early stopping is part of the method: a converged projection would also
    explain noise, and the tissue's own field near the mask's surface.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    standard_error : ndarray, shape (x, y, z), optional
        Standard error of the field, ppm, for the weights W; see `noise_weight`. Uniform weights by
        default.
    margin : float
        Margin for sources around the mask's bounding box, mm. A layer of sources around the head
        can produce the field of any source beyond it, so the result is the same from 10 to 40 mm.
        Without a margin, the field wraps around onto the brain.
    tolerance : float
        Stop when an iteration reduces the (weighted) power of the local field by less than this
        fraction.
    max_iterations : int
        Maximum number of iterations.

    Returns
    -------
    BackgroundRemoval

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field in it not finite, or a standard error in it
        not positive.

    References
    ----------
    Liu et al., NMR Biomed 24:1129-1136 (2011), eq. 4; de Rochefort et al., Magn Reson Med
    63:194-206 (2010).
    """
    check_grid(mask, field=field, standard_error=standard_error)
    grid = WorkingGrid.around(mask, voxel_size, margin)
    weight = grid.embed(noise_weight(standard_error, mask))
    outside = (~grid.embed(mask)).astype(np.float32)
    kernel = dipole_kernel(grid.shape, voxel_size, b0_dir)
    target = grid.embed(field_in_mask(mask, field))

    # CGLS for A χ = W f with A = W D∗, restricted to sources outside the mask. The residual W (f -
    # D∗χ) is the weighted local field, and the gradient the residual of the normal equations.
    residual = weight * target
    gradient = convolve(kernel, weight * residual)  # Aᵀ residual: D is its own transpose
    gradient *= outside
    source = np.zeros_like(target)
    direction = gradient.copy()
    scratch = np.empty_like(target)
    power = inner(residual, residual)
    gradient_power = inner(gradient, gradient)
    initial_gradient_power = gradient_power
    removed_power = power
    iterations = 0
    # The stopping rule compares successive local fields, the result that is asked for. The norm of
    # the gradient would be relative to its initial value, which depends on the background: the
    # stronger the background, the sooner the iterations would stop.
    while gradient_power > 0 and removed_power > tolerance * power and iterations < max_iterations:
        response = convolve(kernel, direction)
        response *= weight
        step = np.float32(gradient_power / inner(response, response))
        source += np.multiply(direction, step, out=scratch)
        response *= step
        residual -= response
        previous_power = power
        power = inner(residual, residual)
        removed_power = previous_power - power
        gradient = convolve(kernel, np.multiply(weight, residual, out=scratch))
        gradient *= outside
        previous_gradient_power = gradient_power
        gradient_power = inner(gradient, gradient)
        direction *= np.float32(gradient_power / previous_gradient_power)
        direction += gradient
        iterations += 1

    # Not the residual, which is weighted and would be zero in voxels without weight.
    local = np.where(mask, grid.extract(target - convolve(kernel, source)), np.float32(0))
    relative = np.sqrt(gradient_power / initial_gradient_power) if initial_gradient_power else 0.0
    return BackgroundRemoval(local, mask, iterations, float(relative))
