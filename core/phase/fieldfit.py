"""Fit the field to unwrapped phase and R2* to magnitude, by weighted least squares in echo time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..grid import check_grid, neighbours

ECHOES_FOR_R2STAR = 3  # fewest for a map: a line through two points leaves no residual to judge by

# Which multiple of 2π belongs to an echo is ambiguous if its residual exceeds this fraction of the
# residual at which the next multiple would fit equally well.
_AMBIGUITY = 0.5

# The ambiguity matters if the next multiple would change the field by more than this many standard
# errors.
_WRAP_MATTERS = 3.0

# With a higher leverage, an echo alone determines the fit, and its residual shows nothing.
_HIGHEST_LEVERAGE = 0.95

# Seconds. No gradient echo has signal that late, but every echo time in milliseconds is above it.
_LONGEST_ECHO_TIME = 1.0


@dataclass(frozen=True)
class FieldFit:
    """Result of `fit_field`.

    Maps have shape (x, y, z), are zero outside the mask, and float32 unless stated otherwise.

    Attributes
    ----------
    field : ndarray
        Field relative to B0, ppm.
    phase_offset : ndarray
        Phase at TE = 0, φ0, rad.
    standard_error : ndarray
        Standard error of the field, ppm.
    residual : ndarray
        Magnitude-weighted root mean square of measured minus fitted phase, rad.
    unresolved : ndarray of bool
        Voxels whose phase is ambiguous by multiples of 2π, in time or in space.
    noise_sd : float
        Standard deviation of the noise of the real (or imaginary) part, in units of the magnitude.
    noise_source : str
        How `noise_sd` was determined.
    """

    field: np.ndarray
    phase_offset: np.ndarray
    standard_error: np.ndarray
    residual: np.ndarray
    unresolved: np.ndarray
    noise_sd: float
    noise_source: str


def fit_field(
    phase: np.ndarray,
    magnitude: np.ndarray,
    echo_times: ArrayLike,
    mask: np.ndarray,
    *,
    centre_frequency: float,
) -> FieldFit:
    r"""Fit φ(TE) = φ0 + 2π f₀ f TE in every voxel by weighted least squares.

    The weights are the inverse variances of the phase, proportional to the squared magnitude. With
    three or more echoes the noise level is estimated from the residuals of the fit: their median
    over the mask, which flow and partial volume do not inflate. With fewer echoes there are no
    residuals, and it is estimated from the finest differences of the first echo's complex signal. A
    single echo is fitted with φ0 = 0.

    Where phase deviates from linearity in time by more than noise explains (flow, dephasing, an
    unwrapping error), the standard error is increased in proportion to the misfit. Methods that
    weight by it then give these voxels less weight.

    Voxels are marked as unresolved where unwrapping is ambiguous:

    * In time, with three or more echoes: the residual of an echo is more than half of the residual
      at which adding ±2π would fit equally well, and this would change the field noticeably.
    * In space: the fitted phase at the first echo differs by more than π from that of a neighbour.
      Such steps cannot be distinguished from smaller ones, so both neighbours are unresolved.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Unwrapped phase, consistent across echoes, rad.
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude, any unit.
    echo_times : sequence of n_echoes floats
        Echo times, s.
    mask : ndarray of bool, shape (x, y, z)
        Voxels to fit.
    centre_frequency : float
        The scanner's centre frequency, MHz.

    Returns
    -------
    FieldFit

    Raises
    ------
    ValueError
        If shapes or the number of echo times disagree, or echo times are equal or above 1 s.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015); Kressler et al., IEEE Trans Med Imaging 29:273-281 (2010),
    eq. 4-5.
    """
    te = np.asarray(echo_times, np.float64)
    _check_echoes(te, phase, magnitude, mask)
    y = phase[mask]
    m = magnitude[mask]
    w = m.astype(np.float32) ** 2
    intercept, slope, slope_information = _weighted_line(y, w, te)
    residual = y - (intercept[:, None] + slope[:, None] * te.astype(np.float32))
    misfit = np.einsum("ij,ij,ij->i", w, residual, residual)  # Σ w (φ - φ̂)²
    noise_sd, noise_source = _noise_level(misfit, phase, magnitude, mask)

    per_ppm = 2 * np.pi * centre_frequency  # one ppm in rad/s
    with np.errstate(divide="ignore", invalid="ignore"):
        se = (
            noise_sd
            / np.sqrt(slope_information)
            / per_ppm
            * _misfit_factor(misfit, noise_sd, te.size - 2)
        )
        rms = np.sqrt(misfit / w.sum(axis=1))
    unresolved = _jumps(_into(mask, slope * np.float32(te.min())), mask)
    unresolved[mask] |= _is_ambiguous(residual, w, te, slope_information, noise_sd)
    return FieldFit(
        field=_into(mask, slope / per_ppm),
        phase_offset=_into(mask, intercept),
        standard_error=_into(mask, se),  # infinite where there is no signal at all
        residual=_into(mask, np.nan_to_num(rms)),
        unresolved=unresolved,
        noise_sd=noise_sd,
        noise_source=noise_source,
    )


def fit_r2star(magnitude: np.ndarray, echo_times: ArrayLike, mask: np.ndarray) -> np.ndarray:
    """Fit log magnitude = log S0 - R2* TE in every voxel by weighted least squares.

    Weights are the inverse variances of the logarithm, proportional to the squared magnitude.
    Echoes without signal have no weight; a voxel with signal in fewer than two echoes gets 0.
    Values are not clipped: a negative R2* indicates noise or inflow.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude, any unit.
    echo_times : sequence of n_echoes floats
        Echo times, s.
    mask : ndarray of bool, shape (x, y, z)
        Voxels to fit.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        R2*, 1/s, zero outside the mask.

    Raises
    ------
    ValueError
        If there are fewer than two echoes, shapes disagree, or echo times are equal or above 1 s.
    """
    te = np.asarray(echo_times, np.float64)
    _check_echoes(te, magnitude, magnitude, mask)
    if te.size < 2:
        raise ValueError(f"R2* needs at least two echoes, got {te.size}")
    m = np.maximum(magnitude[mask], 0).astype(np.float32)
    w = m**2
    log_m = np.log(m, out=np.zeros_like(m), where=m > 0)
    _, slope, information = _weighted_line(log_m, w, te)
    return _into(mask, np.where(information > 0, -slope, 0))


def combine_magnitude(magnitude: np.ndarray) -> np.ndarray:
    """Return the root sum of squares over the echoes (last axis), float32."""
    return np.linalg.norm(magnitude, axis=-1).astype(np.float32)


def noise_weight(
    standard_error: np.ndarray | None, mask: np.ndarray, smallest: float = 0.0
) -> np.ndarray:
    """Return data weights from 0 to 1 that decrease with the noise of the field.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z), or None
        Standard error of the field, any unit; infinite where the field is not measured. With None
        all voxels of the mask have weight 1.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    smallest : float
        Lower bound for the weight of voxels with a finite standard error.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        The median of the finite standard errors divided by the voxel's own, at most 1: half of the
        voxels have full weight. Zero where the standard error is infinite, and outside the mask.

    Raises
    ------
    ValueError
        If shapes differ, a standard error inside the mask is zero, negative or not a number, or
        none is finite.

    Examples
    --------
    >>> se = np.array([[[1.0, 2.0, 4.0, np.inf, 1.0]]])
    >>> noise_weight(se, np.array([[[True, True, True, True, False]]])).tolist()
    [[[1.0, 1.0, 0.5, 0.0, 0.0]]]
    """
    check_grid(mask, standard_error=standard_error)
    if standard_error is None:
        return mask.astype(np.float32)
    inside = standard_error[mask]
    if not (inside > 0).all():
        raise ValueError("standard errors inside the mask must be positive")
    is_measured = np.isfinite(inside)
    if not is_measured.any():
        raise ValueError(
            "the standard error is infinite in all of the mask: no voxel has any signal. Check the "
            "magnitude images and the mask."
        )
    median = np.median(inside[is_measured])
    weight = np.zeros(mask.shape, np.float32)
    weight[mask] = np.where(
        is_measured, np.maximum(median / np.maximum(inside, median), smallest), 0
    )
    return weight


def uniform_weight(standard_error: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return data weights of 1 where the field is measured, and 0 elsewhere.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, any unit; infinite where the field is not measured.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
    """
    return (mask & np.isfinite(standard_error)).astype(np.float32)


def weighted_variance(standard_error: np.ndarray, weight: np.ndarray) -> float:
    """Return the noise variance of the weighted field, mean (W σ)² over voxels of non-zero weight.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field; infinite only where the weight is zero.
    weight : ndarray, shape (x, y, z)
        W, 0 to 1.

    Returns
    -------
    float
        In the unit of the standard error, squared.

    Examples
    --------
    >>> weighted_variance(np.array([1.0, 2.0, np.inf]), np.array([1.0, 0.5, 0.0]))
    1.0
    """
    used = weight > 0
    return float(np.mean((weight[used] * standard_error[used]) ** 2, dtype=np.float64))


def _weighted_line(y, w, te):
    """Fit y = a + b·te to each row by weighted least squares; with a single echo a = 0.

    Returns the intercept a, the slope b and Σ w (te - t̄)², with which the variance of the slope is
    σ² / Σ w (te - t̄)². Rows without weight get 0.
    """
    t = te.astype(np.float32)
    if te.size == 1:
        return np.zeros(len(y), np.float32), y[:, 0] / t[0], w[:, 0] * t[0] ** 2
    total = w.sum(axis=1)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    t_mean = (w @ t) * scale
    y_mean = np.einsum("ij,ij->i", w, y) * scale
    dt = t - t_mean[:, None]
    information = np.einsum("ij,ij,ij->i", w, dt, dt)
    covariance = np.einsum("ij,ij,ij->i", w, dt, y - y_mean[:, None])
    slope = np.divide(covariance, information, out=np.zeros_like(total), where=information > 0)
    return y_mean - slope * t_mean, slope, information


def _is_ambiguous(residual, w, te, information, noise_sd):
    """Mark voxels where an echo fits about as well after adding ±2π, if this changes the slope.

    Adding ±2π to echo i changes Σ w (φ - φ̂)² by 4π wᵢ (π (1 - hᵢ) - |rᵢ|), with its leverage hᵢ and
    its residual rᵢ. The fits are equally good where |rᵢ| = π (1 - hᵢ). The slope changes by
    2π wᵢ (tᵢ - t̄) / Σ w (t - t̄)², and its standard error is σ / sqrt(Σ w (t - t̄)²).
    """
    is_ambiguous = np.zeros(len(w), bool)
    if te.size < 3:  # a line fits two echoes exactly, whatever multiple of 2π is added
        return is_ambiguous
    total = w.sum(axis=1)
    has_signal = (total > 0) & (information > 0)
    scale = np.divide(1, total, out=np.zeros_like(total), where=has_signal)
    slope_scale = np.divide(1, information, out=np.zeros_like(total), where=has_signal)
    t = te.astype(np.float32)
    t_mean = (w @ t) * scale
    limit = np.float32(_WRAP_MATTERS * noise_sd / (2 * np.pi)) * np.sqrt(information)
    for i in range(te.size):
        dt = t[i] - t_mean
        remainder = 1 - w[:, i] * (scale + dt * dt * slope_scale)  # 1 - leverage
        is_ambiguous |= (
            (np.abs(residual[:, i]) > np.float32(_AMBIGUITY * np.pi) * remainder)
            & (remainder > 1 - _HIGHEST_LEVERAGE)
            & (w[:, i] * np.abs(dt) > limit)
        )
    return is_ambiguous


def _jumps(phase, mask):
    """Mark voxels of the mask whose phase differs by more than π from that of a neighbour."""
    jumps = np.zeros(mask.shape, bool)
    for axis in range(3):
        lower, upper = neighbours(axis)
        jump = np.abs(phase[upper] - phase[lower]) > np.float32(np.pi)
        jump &= mask[lower] & mask[upper]
        jumps[lower] |= jump
        jumps[upper] |= jump
    return jumps


def _noise_level(misfit, phase, magnitude, mask):
    """Return the noise standard deviation of the signal, and how it was determined."""
    freedom = phase.shape[-1] - 2  # degrees of freedom: echoes less the two parameters
    if freedom >= 1:
        # Σ w (φ - φ̂)² / σ² follows a χ² distribution with these degrees of freedom.
        noise_sd = float(np.sqrt(np.median(misfit) / stats.chi2.median(freedom)))
        return noise_sd, "residual of the field fit"
    signal = magnitude[..., 0] * np.exp(1j * phase[..., 0])
    return _noise_of_differences(signal, mask), "finest differences of the first echo"


def _misfit_factor(misfit, noise_sd, freedom):
    """Return the ratio of misfit to noise where it is significant (P < 0.001), and 1 elsewhere."""
    if freedom < 1 or noise_sd == 0:
        return 1
    chi2 = misfit / np.float32(noise_sd**2)
    return np.sqrt(np.where(chi2 > stats.chi2.isf(1e-3, freedom), chi2 / freedom, 1))


def _noise_of_differences(signal, mask):
    """Estimate the noise of a complex image by the median absolute value of its finest 3-D Haar
    coefficients.

    A coefficient is the difference along x of the difference along y of the difference along z, in
    a block of 2 x 2 x 2 voxels. Anatomy and coil phase have little of it. Blocks that are not
    entirely inside the mask are left out.

    References
    ----------
    Donoho & Johnstone, Biometrika 81:425-455 (1994), section 4.2.
    """
    detail = signal
    is_inside = mask
    for axis in range(3):
        lower, upper = neighbours(axis)
        detail = detail[upper] - detail[lower]
        is_inside = is_inside[upper] & is_inside[lower]
    # The sum of eight independent values has eight times their variance.
    parts = np.concatenate([detail[is_inside].real, detail[is_inside].imag]) / np.sqrt(8)
    return float(np.median(np.abs(parts)) / stats.norm.ppf(0.75)) if parts.size else 0.0


def _into(mask, values):
    out = np.zeros(mask.shape, np.float32)
    out[mask] = values
    return out


def _check_echoes(te, phase, magnitude, mask):
    if phase.shape != magnitude.shape or phase.shape != (*mask.shape, te.size):
        raise ValueError(
            f"shapes disagree: phase {phase.shape}, magnitude {magnitude.shape}, mask "
            f"{mask.shape} and {te.size} echo times"
        )
    if np.unique(te).size < te.size:
        raise ValueError(f"echo times must differ, got {te.tolist()} s")
    if te.max() > _LONGEST_ECHO_TIME:
        raise ValueError(
            f"echo times are in seconds, got {te.tolist()}: divide milliseconds by 1000"
        )
