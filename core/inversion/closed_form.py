"""Susceptibility from the local field in closed form: the deterministic inversion of the 2015
study, and TKD.
"""

import numpy as np

from .problem import QuadraticProblem, checked_variance, fixed_lambda

KERNEL_THRESHOLD = 0.2  # of thresholded k-space division, as published


def deterministic(
    field,
    mask,
    voxel_size,
    *,
    b0_dir=(0, 0, 1),
    measured=None,
    lam=None,
    rule="gcv",
    noise_variance=None,
):
    """Invert the local field in closed form, χ = Fᴴ (D² + λ²|E|²)⁻¹ D F b.

    A closed form has no data weights: where the field is not measured, it must be filled in first,
    for example by `holes.interpolate_unmeasured`.

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
        Voxels whose field was measured; residuals of others are not judged. All of the mask without
        it.
    lam : float, optional
        Fixed λ, mm. Without it λ is chosen by `rule`.
    rule : {"gcv", "discrepancy"}
        Generalised cross-validation, or the study's discrepancy principle: the λ whose mean squared
        residual in the mask equals the variance of the field's error. That is the noise's or, where
        it is larger, what cross-validation infers from the field: else λ would fall until it
        explains what no susceptibility does.
    noise_variance : float, optional
        Variance of the field's noise, ppm²; the discrepancy principle needs it. With weights, of
        the weighted noise.

    Returns
    -------
    Inversion

    Raises
    ------
    ValueError
        If the mask is empty, the field not finite, λ not positive, the rule unknown, or the
        discrepancy principle lacks its noise variance.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), eq. 3.
    """
    problem = QuadraticProblem(field, mask, voxel_size, b0_dir)
    if measured is not None:
        problem.weight = problem.grid.embed((mask & measured).astype(np.float32))
    if lam is not None:
        choice = fixed_lambda(lam)
    elif rule == "gcv":
        choice = problem.choose_by_gcv()
    else:
        choice = problem.choose_by_discrepancy(checked_variance(rule, noise_variance))
    return problem.result(problem.solve(choice.value), choice, 0)


def divide_field(field, mask, voxel_size, *, b0_dir=(0, 0, 1), threshold=KERNEL_THRESHOLD):
    r"""Invert the local field by thresholded k-space division (TKD), the simplest inversion and a
    baseline.

    χ = F⁻¹[F b / D'] with D' = D where |D| exceeds the threshold, and sign(D) times the threshold
    elsewhere. What lies near the cone of small D comes out too small, so that susceptibility is
    underestimated. Nothing is chosen by the data, and there are no data weights: where the field is
    not measured, it needs one that is filled in.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As of `deterministic`.
    threshold : float
        Of the dipole kernel, between 0 and 2/3.

    Returns
    -------
    Inversion
        Without a λ.

    Raises
    ------
    ValueError
        If the mask is empty, the field in it not finite, or the threshold not between 0 and 2/3.

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
