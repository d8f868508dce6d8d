"""From unwrapped phases to a field map, and from magnitudes to R2*: weighted linear least squares
in TE.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..grid import neighbours

ECHOES_FOR_R2STAR = 3  # for a map: a line through two points says nothing of its error

# A residual this far on the way to where another turn fits equally well leaves the turn open.
_AMBIGUITY = 0.5
_TURN_MATTERS = 3.0  # standard errors of the field: a turn that moves it by less need not be known
_OWN_SHARE = 0.95  # leverage above which an echo has nothing to be compared with


@dataclass(frozen=True)
class FieldFit:
    """Result of `fit_field`; maps have shape (x, y, z) and are zero outside the mask, float32
    unless said otherwise.

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
        Voxels whose phase might as well be whole turns elsewhere, by time or by space.
    noise_sd : float
        Standard deviation of the noise of the real (or imaginary) part, in units of the magnitude.
    noise_source : str
        What `noise_sd` was taken from.
    """

    field: np.ndarray
    phase_offset: np.ndarray
    standard_error: np.ndarray
    residual: np.ndarray
    unresolved: np.ndarray
    noise_sd: float
    noise_source: str


def fit_field(phase, magnitude, echo_times, mask, *, centre_frequency):
    r"""Fit φ(TE) = φ0 + 2π f₀ f TE in every voxel by weighted least squares.

    The weights are the inverse variances of the phase, proportional to the squared magnitude. The
    noise level comes from the fit's own residuals where there are three echoes or more (their
    median over the mask, so that flow and partial volume do not inflate it); with fewer echoes
    nothing is left over and it comes from the finest differences of the first echo's complex
    signal. A single echo is fitted with φ0 = 0.

    Where phase is not linear in time beyond what noise explains (flow, dephasing, a wrong turn of
    unwrapping), the standard error grows with the misfit, so that whoever weights by it believes
    these voxels less.

    A voxel is unresolved by time if one echo's residual is more than half way to where that echo
    fits as well when it is moved by a turn, and the turn matters (three echoes or more). It is
    unresolved by space if the fitted phase at the first echo differs by more than π from a
    neighbour's: steps that size cannot be told from smaller ones. Both neighbours are then
    unresolved. No truth is needed to know.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Unwrapped phase, consistent across echoes, rad.
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude, any unit.
    echo_times : sequence of n_echoes floats
        Echo times, s.
    mask : ndarray of bool, shape (x, y, z)
        Where to fit.
    centre_frequency : float
        The scanner's centre frequency, MHz.

    Returns
    -------
    FieldFit

    Raises
    ------
    ValueError
        If the shapes or the number of echo times do not fit together, or echo times are equal.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015); Kressler et al., IEEE Trans Med Imaging 29:273-281 (2010), eq.
    4-5.
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

    per_ppm = 2 * np.pi * centre_frequency  # rad/s of one ppm
    with np.errstate(divide="ignore", invalid="ignore"):
        se = (
            noise_sd
            / np.sqrt(slope_information)
            / per_ppm
            * _misfit_factor(misfit, noise_sd, te.size - 2)
        )
        rms = np.sqrt(misfit / w.sum(axis=1))
    unresolved = _jumps(_into(mask, slope * np.float32(te.min())), mask)
    unresolved[mask] |= _turn_open(residual, w, te, slope_information, noise_sd)
    return FieldFit(
        field=_into(mask, slope / per_ppm),
        phase_offset=_into(mask, intercept),
        standard_error=_into(mask, se),  # infinite where there is no signal at all
        residual=_into(mask, np.nan_to_num(rms)),
        unresolved=unresolved,
        noise_sd=noise_sd,
        noise_source=noise_source,
    )


def fit_r2star(magnitude, echo_times, mask):
    """Fit log magnitude = log S0 - R2* TE in every voxel by weighted least squares.

    Weights are the inverse variances of the log, proportional to the squared magnitude. Echoes
    without signal have no weight; a voxel with fewer than two echoes of signal gets 0. Values are
    not clipped: a negative R2* is noise or inflow and says so.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude, any unit.
    echo_times : sequence of n_echoes floats
        Echo times, s.
    mask : ndarray of bool, shape (x, y, z)
        Where to fit.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        R2*, 1/s, zero outside the mask.

    Raises
    ------
    ValueError
        With fewer than two echoes, or shapes that do not fit together.
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


def combine_magnitude(magnitude):
    """Root sum of squares over the echoes (last axis), float32."""
    return np.linalg.norm(magnitude, axis=-1).astype(np.float32)


def noise_weight(standard_error, mask, smallest=0.0):
    """How far to believe the field of each voxel, from 0 to 1.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z), or None
        Standard error of the field, any unit; infinite where nothing is known. Without it all
        voxels are alike.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    smallest : float
        Weight of any voxel with a finite standard error is at least this.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        The median (finite) standard error over the voxel's own, at most 1: half of the voxels are
        believed fully. Zero where it is infinite and outside the mask.

    Raises
    ------
    ValueError
        If a standard error inside the mask is zero, negative or not a number, or none is finite.

    Examples
    --------
    >>> se = np.array([[[1.0, 2.0, 4.0, np.inf, 1.0]]])
    >>> noise_weight(se, np.array([[[True, True, True, True, False]]])).tolist()
    [[[1.0, 1.0, 0.5, 0.0, 0.0]]]
    """
    if standard_error is None:
        return mask.astype(np.float32)
    inside = standard_error[mask]
    if not (inside > 0).all():
        raise ValueError("standard errors inside the mask must be positive")
    known = inside[np.isfinite(inside)]
    if not known.size:
        raise ValueError("no voxel of the mask has any signal: its field is unknown everywhere")
    usual = np.median(known)
    weight = np.zeros(mask.shape, np.float32)
    believed = np.maximum(usual / np.maximum(inside, usual), smallest)
    weight[mask] = np.where(np.isfinite(inside), believed, 0)
    return weight


def uniform_weight(standard_error, mask):
    """Weight 1 where the field is known, 0 where its standard error is infinite and outside the
    mask.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, any unit.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
    """
    return (mask & np.isfinite(standard_error)).astype(np.float32)


def weighted_variance(standard_error, weight):
    """Variance of the field's noise as an inversion with data weights sees it, mean (W σ)² where W
    is not zero.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field; infinite only where the weight is zero.
    weight : ndarray, shape (x, y, z)
        W, 0 to 1.

    Returns
    -------
    float
        In the squared unit of the standard error.

    Examples
    --------
    >>> weighted_variance(np.array([1.0, 2.0, np.inf]), np.array([1.0, 0.5, 0.0]))
    1.0
    """
    used = weight > 0
    return float(np.mean((weight[used] * standard_error[used]) ** 2, dtype=np.float64))


def _weighted_line(y, w, te):
    """Fit y = a + b·te to each row by weighted least squares; a single echo gives a = 0.

    Returns intercept, slope and Σ w (te - t̄)², the information on the slope per unit noise
    variance.
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


def _turn_open(residual, w, te, information, noise_sd):
    """Voxels with an echo that fits about as well one turn elsewhere, where this would change the
    slope.

    A turn added to echo i changes Σ w (φ - φ̂)² by 4π wᵢ (π (1 - hᵢ) - |rᵢ|), h being its leverage
    and r its residual.
    """
    found = np.zeros(len(w), bool)
    if te.size < 3:
        return found
    total = w.sum(axis=1)
    known = (total > 0) & (information > 0)
    scale, slope_scale = (
        np.divide(1, v, out=np.zeros_like(total), where=known) for v in (total, information)
    )
    t = te.astype(np.float32)
    t_mean = (w @ t) * scale
    turn_matters = np.float32(_TURN_MATTERS * noise_sd / (2 * np.pi)) * np.sqrt(information)
    for i in range(te.size):
        dt = t[i] - t_mean
        compared = 1 - w[:, i] * (scale + dt * dt * slope_scale)
        found |= (
            (np.abs(residual[:, i]) > np.float32(_AMBIGUITY * np.pi) * compared)
            & (compared > 1 - _OWN_SHARE)
            & (w[:, i] * np.abs(dt) > turn_matters)
        )
    return found


def _jumps(phase, mask):
    """Voxels of the mask whose phase differs by more than π from a neighbour's in the mask."""
    found = np.zeros(mask.shape, bool)
    for axis in range(3):
        near, far = neighbours(axis)
        jump = np.abs(phase[far] - phase[near]) > np.float32(np.pi)
        jump &= mask[near] & mask[far]
        found[near] |= jump
        found[far] |= jump
    return found


def _noise_level(misfit, phase, magnitude, mask):
    spare = phase.shape[-1] - 2  # echoes beyond the two parameters
    if spare >= 1:
        # Σ w (φ - φ̂)² / σ² follows χ² with `spare` degrees of freedom.
        return float(
            np.sqrt(np.median(misfit) / stats.chi2.median(spare))
        ), "residual of the field fit"
    signal = magnitude[..., 0] * np.exp(1j * phase[..., 0])
    return _noise_of_differences(signal, mask), "finest differences of the first echo"


def _misfit_factor(misfit, noise_sd, spare):
    """How much larger than noise the misfit is, where it is so beyond chance (P < 0.001); 1
    elsewhere.
    """
    if spare < 1 or noise_sd == 0:
        return 1
    chi2 = misfit / np.float32(noise_sd**2)
    return np.sqrt(np.where(chi2 > stats.chi2.isf(1e-3, spare), chi2 / spare, 1))


def _noise_of_differences(signal, mask):
    """Noise of a complex image from its finest 3D Haar coefficients, by the median of their
    absolute values.

    Anatomy and coil phase hardly reach the difference of differences of differences in a block of 2
    x 2 x 2 voxels; blocks that are not wholly inside the mask are left out.

    References
    ----------
    Donoho & Johnstone, Biometrika 81:425-455 (1994), section 4.2.
    """
    detail = signal
    whole = mask
    for axis in range(3):
        near, far = neighbours(axis)
        detail = detail[far] - detail[near]
        whole = whole[far] & whole[near]
    parts = np.concatenate([detail[whole].real, detail[whole].imag]) / np.sqrt(8)
    return float(np.median(np.abs(parts)) / stats.norm.ppf(0.75)) if parts.size else 0.0


def _into(mask, values):
    out = np.zeros(mask.shape, np.float32)
    out[mask] = values
    return out


def _check_echoes(te, phase, magnitude, mask):
    if phase.shape != magnitude.shape or phase.shape != (*mask.shape, te.size):
        raise ValueError(
            f"phase {phase.shape}, magnitude {magnitude.shape}, mask {mask.shape} and {te.size} "
            "echo times "
            "do not fit together"
        )
    if np.unique(te).size < te.size:
        raise ValueError(f"echo times must differ, got {te.tolist()} s")
