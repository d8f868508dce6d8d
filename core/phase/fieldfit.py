"""Fit the field to unwrapped phase and R2* to magnitude, by weighted least squares in echo time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from ..grid import Vector, check_grid, neighbours
from .line import remainders, weighted_line
from .misfit import IMPROBABLE, systematic_variance
from .noise import Noise, noise_of_air, noise_of_differences

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
        Standard error of the field if all misfit were noise of one level, ppm. Methods weight the
        voxels by it.
    total_error : ndarray
        Standard error of the field, of noise and systematic misfit together, ppm.
    noise_error : ndarray
        Part of `total_error` that noise explains, ppm.
    residual : ndarray
        Magnitude-weighted root mean square of measured minus fitted phase, rad.
    unresolved : ndarray of bool
        Voxels whose phase is ambiguous by multiples of 2π, in time or in space.
    noise : Noise
        Noise of the real (or imaginary) part, in units of the magnitude.
    """

    field: np.ndarray
    phase_offset: np.ndarray
    standard_error: np.ndarray
    total_error: np.ndarray
    noise_error: np.ndarray
    residual: np.ndarray
    unresolved: np.ndarray
    noise: Noise

    @property
    def systematic_error(self) -> np.ndarray:
        """Part of `total_error` that noise does not explain, ppm."""
        variance = self.total_error**2 - self.noise_error**2
        finite = np.isfinite(self.total_error)
        return np.sqrt(np.where(finite, np.maximum(variance, 0), 0)).astype(np.float32)


def fit_field(
    phase: np.ndarray,
    magnitude: np.ndarray,
    echo_times: ArrayLike,
    mask: np.ndarray,
    *,
    centre_frequency: float,
    voxel_size: Vector | None = None,
) -> FieldFit:
    r"""Fit φ(TE) = φ0 + 2π f₀ f TE in every voxel by weighted least squares.

    The weights are the inverse variances of the phase, proportional to the squared magnitude. A
    single echo is fitted with φ0 = 0.

    The total error has two parts:

    * Noise. Its level is that of the air around the object (`noise_of_air`). If the image has no
      air, it is that of the finest differences (`noise_of_differences`) of the fit's residual, or,
      with one or two echoes, which leave no residual, of the first echo's complex signal.
    * Systematic misfit (`systematic_variance`), with three or more echoes: phase that is not linear
      in time, from flow, dephasing, partial volume, truncation or eddy currents.

    The standard error by which methods weight the voxels takes all misfit for noise of one level,
    the median over the mask, which flow and partial volume do not inflate. It is increased only
    where the misfit of a voxel is improbable at this level (flow, dephasing, an unwrapping error),
    in proportion. Maps weighted by the total error, which varies from region to region, had larger
    errors.

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
    voxel_size : sequence of 3 floats, optional
        Voxel size, mm, to average misfit over about 6 mm. By default over three voxels.

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
    intercept, slope, slope_information = weighted_line(y, w, te)
    residual = y - (intercept[:, None] + slope[:, None] * te.astype(np.float32))
    misfit = np.einsum("ij,ij,ij->i", w, residual, residual)  # Σ w (φ - φ̂)²
    remainder = remainders(w, te, slope_information)
    noise = _noise_level(phase, magnitude, mask, residual, remainder)
    systematic = systematic_variance(y, w, te, mask, noise.sd, voxel_size=voxel_size)
    freedom = te.size - 2  # degrees of freedom: echoes less the two parameters
    scatter = _scatter(misfit, freedom) if freedom >= 1 else noise.sd

    per_ppm = 2 * np.pi * centre_frequency  # one ppm in rad/s
    with np.errstate(divide="ignore", invalid="ignore"):
        error_of_unit_noise = 1 / np.sqrt(slope_information) / per_ppm
        noise_error = noise.sd * error_of_unit_noise
        both = np.sqrt(noise.sd**2 + systematic) * error_of_unit_noise
        se = scatter * error_of_unit_noise * _misfit_factor(misfit, scatter, freedom)
        rms = np.sqrt(misfit / w.sum(axis=1))
    total_error = np.where(systematic > 0, both, noise_error)  # the same but for rounding
    unresolved = _jumps(_into(mask, slope * np.float32(te.min())), mask)
    unresolved[mask] |= _is_ambiguous(residual, w, te, slope_information, remainder, scatter)
    return FieldFit(
        field=_into(mask, slope / per_ppm),
        phase_offset=_into(mask, intercept),
        standard_error=_into(mask, se),  # infinite where there is no signal at all
        total_error=_into(mask, total_error),
        noise_error=_into(mask, noise_error),
        residual=_into(mask, np.nan_to_num(rms)),
        unresolved=unresolved,
        noise=noise,
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
    _, slope, information = weighted_line(log_m, w, te)
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


def _is_ambiguous(residual, w, te, information, remainder, noise_sd):
    """Mark voxels where an echo fits about as well after adding ±2π, if this changes the slope.

    Adding ±2π to echo i changes Σ w (φ - φ̂)² by 4π wᵢ (π (1 - hᵢ) - |rᵢ|), with its leverage hᵢ and
    its residual rᵢ. The fits are equally good where |rᵢ| = π (1 - hᵢ). The slope changes by
    2π wᵢ (tᵢ - t̄) / Σ w (t - t̄)², and its standard error is σ / sqrt(Σ w (t - t̄)²).
    """
    is_ambiguous = np.zeros(len(w), bool)
    if te.size < 3:  # a line fits two echoes exactly, whatever multiple of 2π is added
        return is_ambiguous
    total = w.sum(axis=1)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    t = te.astype(np.float32)
    t_mean = (w @ t) * scale
    limit = np.float32(_WRAP_MATTERS * noise_sd / (2 * np.pi)) * np.sqrt(information)
    for i in range(te.size):
        dt = t[i] - t_mean
        is_ambiguous |= (
            (np.abs(residual[:, i]) > np.float32(_AMBIGUITY * np.pi) * remainder[:, i])
            & (remainder[:, i] > 1 - _HIGHEST_LEVERAGE)
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


def _scatter(misfit, freedom):
    """Return the noise level that would explain the median misfit."""
    # Σ w (φ - φ̂)² / σ² follows a χ² distribution with these degrees of freedom.
    return float(np.sqrt(np.median(misfit) / stats.chi2.median(freedom)))


def _misfit_factor(misfit, noise_sd, freedom):
    """Return the ratio of misfit to noise where it is significant, and 1 elsewhere."""
    if freedom < 1 or noise_sd == 0:
        return 1
    chi2 = misfit / np.float32(noise_sd**2)
    return np.sqrt(np.where(chi2 > stats.chi2.isf(IMPROBABLE, freedom), chi2 / freedom, 1))


def _noise_level(phase, magnitude, mask, residual, remainder):
    """Return the noise of the signal."""
    noise = noise_of_air(magnitude)
    if noise is not None:
        return noise
    n_echoes = phase.shape[-1]
    if n_echoes < 3:
        signal = magnitude[..., 0] * np.exp(1j * phase[..., 0])
        sd = noise_of_differences(signal, mask)
        return Noise(sd, (sd,), "finest differences of the first echo")
    # residuals in units of the magnitude; a residual has the variance of noise times 1 - leverage
    # an echo that alone determines the fit has no residual
    scaled = magnitude[mask] * residual / np.sqrt(np.maximum(remainder, 1 - _HIGHEST_LEVERAGE))
    of_echoes = []
    for echo in range(n_echoes):
        of_echoes.append(noise_of_differences(_into(mask, scaled[:, echo]), mask))
    sd = float(np.sqrt(np.mean(np.square(of_echoes))))
    return Noise(sd, tuple(of_echoes), "finest differences of the field fit's residual")


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
