"""Detect echoes of noise, steps of the decay, alternating phase offsets and scaled phase."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .coherence import neighbour_coherence, neighbour_product

# Echo spacings that differ by less than this fraction count as equal.
EQUAL_SPACING = 0.01

# Second differences of phase whose neighbours are less coherent than this are noise.
_COHERENT = 0.5

# An echo is noise if the coherence of neighbours is below the first, and another echo exceeds the
# second.
_NOISE = 0.1
_SIGNAL = 0.5

# Voxels above this fraction of the strongest magnitudes (95th percentile) have signal.
_STRONG = 0.3

# Phase differences between neighbours up to this, half of the range, have certainly not wrapped.
_CERTAIN_STEP = np.pi / 2

# The steps of two echoes must share at least this fraction of their variance.
_COMMON = 0.5


def noise_echoes(magnitude: np.ndarray, phase: np.ndarray) -> tuple[int, ...]:
    """Find echoes whose phase is noise although that of another echo is not.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        A block; phase in radians.

    Returns
    -------
    tuple of int
        Indices, from 0, of echoes whose `neighbour_coherence` is below 0.1 along each axis, if that
        of another echo is above 0.5.
    """
    coherence = np.array(list(map(neighbour_coherence, magnitude, phase)))
    highest = np.nan_to_num(np.abs(coherence)).max(axis=1)
    if not (highest > _SIGNAL).any():
        return ()
    return tuple(np.flatnonzero(highest < _NOISE).tolist())


def decay_steps(magnitude: np.ndarray, echo_times: Sequence[float]) -> np.ndarray:
    """Return how far each echo's magnitude deviates from the decay between its neighbours in time.

    Parameters
    ----------
    magnitude : ndarray, shape (echoes, x, y, z)
        A block, not negative.
    echo_times : sequence of float
        Echo times, s, increasing.

    Returns
    -------
    ndarray, shape (echoes - 2,)
        For all echoes but the first and the last: the logarithm of the magnitude minus its linear
        interpolation between the neighbours, as the median over voxels with signal. 0 for an
        exponential decay, NaN without signal.
    """
    first = magnitude[0]
    strong = (first > _STRONG * np.percentile(first, 95)) & (magnitude > 0).all(axis=0)
    if not strong.any():
        return np.full(max(len(magnitude) - 2, 0), np.nan)
    log = np.log(magnitude[:, strong])
    times = np.asarray(echo_times)
    fraction = ((times[1:-1] - times[:-2]) / (times[2:] - times[:-2]))[:, None]
    deviation = log[1:-1] - (1 - fraction) * log[:-2] - fraction * log[2:]
    return np.median(deviation, axis=1)


@dataclass(frozen=True)
class EchoAlternation:
    """Phase of the even echoes relative to a line in echo time through the odd ones.

    Attributes
    ----------
    offset : float
        Phase in the middle of the signal, radians, from -π/2 to π/2. It is determined up to π.
    ramp : tuple of float
        Its change from one end of the image to the other along each axis, radians.
    """

    offset: float
    ramp: tuple[float, float, float]


def echo_alternation(
    magnitude: np.ndarray, phase: np.ndarray, echo_times: Sequence[float], shape: Sequence[int]
) -> EchoAlternation | None:
    """Measure the phase that a bipolar readout adds to every second echo.

    With readout gradients of alternating polarity, delays and eddy currents give even and odd
    echoes an offset and a ramp along the readout of opposite signs. Phase that is linear in echo
    time has no second difference φ1 - 2 φ2 + φ3; an additional phase d of the second echo changes
    it by -2 d. With four echoes or more, the second difference of an alternating phase changes sign
    from one echo to the next, and any part that does not is disregarded.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        A block; phase in radians.
    echo_times : sequence of float
        Echo times, s, increasing.
    shape : tuple of int
        Voxels of the whole image along each axis.

    Returns
    -------
    EchoAlternation or None
        None if there are fewer than three echoes, if the first four (or three) are not equally
        spaced, or if noise dominates.

    References
    ----------
    Li J, Chang S, Liu T, Jiang H, Dong F, Pei M, Wang Q, Wang Y. Phase-corrected bipolar gradients
    in multi-echo gradient-echo sequences for quantitative susceptibility mapping. MAGMA
    2015;28:347-355.
    """
    spacing = np.diff(echo_times)
    if len(spacing) < 2 or np.ptp(spacing[:3]) > EQUAL_SPACING * spacing[0]:
        return None
    signal = magnitude * np.exp(1j * phase)
    measured = []
    for triple in (signal[:3], signal[1:4]):
        if len(triple) == 3:
            measured.append(_offset_and_ramp(_second_difference(triple), shape))
    if None in measured:
        return None
    (offset, ramp), *following = measured
    # The next second difference has the opposite sign. Half of their difference is free of phase
    # that does not alternate.
    for next_offset, next_ramp in following:
        offset = _wrapped(offset - next_offset) / 2
        ramp = (ramp - next_ramp) / 2
    return EchoAlternation(offset=float(-offset / 2), ramp=tuple((-ramp / 2).tolist()))


def _second_difference(signal):
    """Return a complex signal with the phase φ1 - 2 φ2 + φ3 and the least of the magnitudes."""
    product = signal[0] * signal[2] * signal[1].conj() ** 2
    modulus = np.abs(product)
    unit = np.divide(product, modulus, out=np.zeros_like(product), where=modulus > 0)
    return unit * np.abs(signal).min(axis=0)


def _offset_and_ramp(difference, shape):
    """Return the phase of the mean signal, and its mean gradient times the length of each axis.

    None if the signal is noise: if its neighbours are not coherent.
    """
    sums = []
    total_modulus = 0.0
    for axis in range(3):
        product = neighbour_product(difference, axis)
        sums.append(product.sum())
        total_modulus += np.abs(product).sum()
    if not np.abs(sums).sum() > _COHERENT * total_modulus:
        return None
    return np.angle(difference.sum()), np.angle(sums) * shape


def _wrapped(angle):
    return np.angle(np.exp(1j * angle))


def phase_scale(
    magnitude: np.ndarray, phase: np.ndarray, echo_times: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return bounds for the scale of each echo's phase relative to that of the preceding echo.

    Differences between neighbours need no unwrapping, and grow in proportion to echo time; any
    further growth is a scale. It could be estimated in two ways, and noise biases them in opposite
    directions. The ratio of the standard deviations is too small, because noise adds more to the
    smaller variance of the earlier echo in proportion. The inverse slope of the regression of the
    earlier echo on the later one is too large, because noise of the later one flattens the slope.
    The mean difference along each axis, a linear phase, may be due to the readout and is
    subtracted.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        A block; phase in radians.
    echo_times : sequence of float
        Echo times, s, increasing.

    Returns
    -------
    lowest, highest : ndarray, shape (echoes - 1,)
        They enclose 1 for phase that is linear in echo time, and s if the later echo was multiplied
        by s; without noise, both are equal to it. NaN without signal. `highest` is infinite if the
        two echoes share less than half of their variance: it would be too small if the phase also
        had steps that do not grow with echo time, as between materials.

    Examples
    --------
    >>> field = np.random.default_rng(0).uniform(-50, 50, (6, 6, 6))  # Hz
    >>> phase = 2 * np.pi * field * np.array([0.002, 0.004]).reshape(-1, 1, 1, 1)
    >>> phase_scale(np.ones_like(phase), phase * [[[[0.5]]], [[[1]]]], [0.002, 0.004])
    (array([2.]), array([2.]))
    """
    unit_signal = np.exp(1j * phase)
    steps = []  # of each axis: (echoes, ...)
    for axis in range(3):
        steps.append(np.array([np.angle(neighbour_product(echo, axis)) for echo in unit_signal]))
    n_pairs = max(len(echo_times) - 1, 0)
    lowest = np.full(n_pairs, np.nan)
    highest = np.full(n_pairs, np.nan)
    for first, ratio in enumerate(np.divide(echo_times[:-1], echo_times[1:])):
        pair = slice(first, first + 2)
        covariance = _covariance(magnitude[pair].min(axis=0), [step[pair] for step in steps])
        (earlier, shared), (_, later) = covariance
        if not (earlier > 0 and later > 0):
            continue
        lowest[first] = ratio * np.sqrt(later / earlier)
        is_common = shared > np.sqrt(_COMMON * earlier * later)
        highest[first] = ratio * later / shared if is_common else np.inf
    return lowest, highest


def _covariance(magnitude, steps):
    """Return the covariance of two echoes' differences between neighbours, summed over the axes.

    It is that about the mean along each axis, over voxels with signal whose differences have
    certainly not wrapped, times their number.
    """
    total = np.zeros((2, 2))
    for axis, pair in enumerate(steps):
        along = np.moveaxis(magnitude, axis, 0)
        strength = np.minimum(along[1:], along[:-1])
        is_certain = (np.abs(pair) < _CERTAIN_STEP).all(axis=0)
        if strength.size:
            is_certain &= strength > _STRONG * np.percentile(strength, 95)
        if is_certain.any():
            total += np.count_nonzero(is_certain) * np.cov(pair[:, is_certain], bias=True)
    return total


def equally_spaced(echo_times: Sequence[float]) -> list[int]:
    """Return the index of the first of each three successive echoes that are equally spaced.

    Parameters
    ----------
    echo_times : sequence of float
        Echo times, s, increasing.

    Returns
    -------
    list of int

    Examples
    --------
    >>> equally_spaced([0.004, 0.008, 0.012, 0.020, 0.028])
    [0, 2]
    """
    spacing = np.diff(echo_times)
    is_equal = np.abs(np.diff(spacing)) <= EQUAL_SPACING * spacing[:-1]
    return np.flatnonzero(is_equal).tolist()
