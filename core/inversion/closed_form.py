"""Susceptibility from the local field in closed form: the deterministic inversion of the 2015
study, and TKD.
"""

import numpy as np

from ..grid import Vector, check_grid
from .problem import Inversion, QuadraticProblem

KERNEL_THRESHOLD = 0.2  # as published


def deterministic(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    b0_dir: Vector = (0, 0, 1),
    measured: np.ndarray | None = None,
    lambda_value: float | None = None,
    lambda_rule: str = "whitened",
    noise_variance: float | None = None,
) -> Inversion:
    """Invert the local field in closed form, χ = Fᴴ (D² + λ²|E|²)⁻¹ D F b.

    The closed form has no data weighting: where the field is not measured, it must be filled in
    first, for example by `holes.interpolate_unmeasured`.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Local field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    measured : ndarray of bool, shape (x, y, z), optional
        Voxels whose field was measured: only their residuals count for the choice of λ. By default,
        all of the mask.
    lambda_value : float, optional
        Fixed λ, mm. By default, λ is chosen by `lambda_rule`.
    lambda_rule : {"whitened", "gcv", "discrepancy"}
        ``gcv``: generalised cross-validation, as if the error of the field were white; λ is too
        small if it is smooth in space. ``whitened``: the larger λ of this and of cross-validation
        of the field over the spectrum of its error, which is read on the dipole kernel's cone (see
        `error_spectrum`).
        ``discrepancy``: the discrepancy principle of Lin et al. (2015), the λ whose mean squared
        residual in the mask equals the variance of the field's error. This is the larger of the
        noise variance and the error variance that ``gcv`` infers from the field. With the noise
        alone, λ would decrease until χ fits errors that are inconsistent with the dipole model.
    noise_variance : float, optional
        Variance of the field's noise, ppm², needed by the discrepancy principle. With data weights,
        that of the weighted noise.

    Returns
    -------
    Inversion

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field in it not finite, λ not positive, the rule
        unknown, or the noise variance missing or not positive for the discrepancy principle.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), eq. 3.
    """
    problem = QuadraticProblem(field, mask, voxel_size, b0_dir)
    check_grid(mask, measured=measured)
    if measured is not None:
        problem.weight = problem.grid.embed((mask & measured).astype(np.float32))
    choice = problem.choose(lambda_value, lambda_rule, noise_variance)
    return problem.result(problem.solve(choice.value), choice, 0)


def divide_field(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    b0_dir: Vector = (0, 0, 1),
    threshold: float = KERNEL_THRESHOLD,
) -> Inversion:
    r"""Invert the local field by thresholded k-space division (TKD), a simple baseline.

    χ = F⁻¹[F b / D'] with D' = D where |D| exceeds the threshold, and sign(D) times the threshold
    elsewhere. Spatial frequencies near the cone D = 0 are attenuated, so that susceptibility is
    underestimated. No parameter is chosen from the data, and there is no data weighting: where the
    field is not measured, it must be filled in first.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As of `deterministic`.
    threshold : float
        Threshold of the dipole kernel, between 0 and 2/3.

    Returns
    -------
    Inversion
        Without a λ.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field in it not finite, or the threshold not
        between 0 and 2/3.

    References
    ----------
    Shmueli et al., Magn Reson Med 62:1510-1522 (2009), eq. 6 and 7.
    """
    if not 0 < threshold < 2 / 3:
        raise ValueError(f"the threshold must lie between 0 and 2/3, got {threshold}")
    problem = QuadraticProblem(field, mask, voxel_size, b0_dir)
    kernel = problem.kernel
    divisor = np.where(
        np.abs(kernel) > threshold, kernel, np.copysign(np.float32(threshold), kernel)
    )
    return problem.result(problem.data / divisor, None, 0)
