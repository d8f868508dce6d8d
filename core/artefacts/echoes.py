"""Echoes that are not what they should be: noise alone, rising signal, offsets that alternate."""

from dataclasses import dataclass

import numpy as np

from .coherence import neighbour_coherence, neighbour_product

# Echo spacings within so much of each other count as equal.
EQUAL_SPACING = 0.01

# Second differences whose neighbours agree less are noise.
_COHERENT = 0.5

# Coherence of neighbours' phases: noise has less than the one, an echo that can be told from noise
# more than the other.
_NOISE, _SIGNAL = 0.1, 0.5

# Share of the strongest magnitudes above which a voxel counts as signal.
_STRONG = 0.3

# Steps of phase from voxel to voxel that come near half a turn may have wrapped.
_CERTAIN_STEP = np.pi / 2

# Share of the variance of two echoes' differences that is common to them, above which it counts.
_COMMON = 0.5


def noise_echoes(magnitude, phase):
    """Echoes whose phase is noise where that of others is not.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        Of a block; phase in radians.

    Returns
    -------
    tuple of int
        Their places, from 0: `neighbour_coherence` is below 0.1 along each axis, and above 0.5 in
        some other echo.
    """
    coherence = np.array(
        [np.abs(neighbour_coherence(*echo)) for echo in zip(magnitude, phase, strict=True)]
    )
    highest = np.nan_to_num(coherence).max(axis=1)
    return tuple(np.flatnonzero(highest < _NOISE).tolist()) if (highest > _SIGNAL).any() else ()


def decay_steps(magnitude, echo_times):
    """By how much each echo's magnitude lies off the decay that its neighbours in time have.

    Parameters
    ----------
    magnitude : ndarray, shape (echoes, x, y, z)
        Of a block, not negative.
    echo_times : sequence of float
        s, rising.

    Returns
    -------
    ndarray, shape (echoes - 2,)
        Of the second echo to the last but one: median over voxels with signal of the logarithm of
        the magnitude, minus that on the line through its neighbours. 0 for an exponential decay.
        NaN without signal.
    """
    first = magnitude[0]
    strong = (first > _STRONG * np.percentile(first, 95)) & (magnitude > 0).all(axis=0)
    if not strong.any():
        return np.full(max(len(magnitude) - 2, 0), np.nan)
    log = np.log(magnitude[:, strong])
    times = np.asarray(echo_times)
    share = ((times[1:-1] - times[:-2]) / (times[2:] - times[:-2]))[:, None]
    return np.median(log[1:-1] - (1 - share) * log[:-2] - share * log[2:], axis=1)


@dataclass(frozen=True)
class EchoAlternation:
    """Phase by which even echoes depart from the line through the odd ones.

    Attributes
    ----------
    offset : float
        In the middle of the signal, radians, from -π/2 to π/2: half a turn more cannot be told.
    ramp : tuple of float
        Its change from one end of the image to the other along each axis, radians.
    """

    offset: float
    ramp: tuple[float, float, float]


def echo_alternation(magnitude, phase, echo_times, shape):
    """Measure what a bipolar readout adds to the phase of every second echo.

    With readout gradients of alternating polarity, delays and eddy currents give even and odd
    echoes an offset and a ramp along the readout of opposite signs. Phase that is linear in echo
    time has no second difference φ1 - 2 φ2 + φ3; the alternating phase d has twice itself. From
    four echoes on, the second difference must change its sign from echo to echo; what keeps it is
    no alternation.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        Of a block; phase in radians.
    echo_times : sequence of float
        s, rising.
    shape : tuple of int
        Voxels of the whole image along each axis.

    Returns
    -------
    EchoAlternation or None
        None if there are fewer than three echoes, they are not equally spaced, or there is more
        noise than signal.

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
    differences = [
        _second_difference(signal[first : first + 3]) for first in range(min(2, len(signal) - 2))
    ]
    measured = [_offset_and_ramp(difference, shape) for difference in differences]
    if None in measured:
        return None
    # Twice the departure with one sign, then with the other: their half difference is free of what
    # does not alternate.
    (offset, ramp), *second = measured
    for other_offset, other_ramp in second:
        offset = _wrapped(offset - other_offset) / 2
        ramp = (ramp - other_ramp) / 2
    return EchoAlternation(offset=float(-offset / 2), ramp=tuple((-ramp / 2).tolist()))


def _second_difference(signal):
    """Phase φ1 - 2 φ2 + φ3 with the weight of the weakest echo."""
    product = signal[0] * signal[2] * signal[1].conj() ** 2
    modulus = np.abs(product)
    turned = np.divide(product, modulus, out=np.zeros_like(product), where=modulus > 0)
    return turned * np.abs(signal).min(axis=0)


def _offset_and_ramp(difference, shape):
    """Phase of the mean, and the phase that the mean product of neighbours makes of the whole
    length.
    """
    products = [neighbour_product(difference, axis) for axis in range(3)]
    agreeing = sum(np.abs(product.sum()) for product in products)
    if not agreeing > _COHERENT * sum(np.abs(product).sum() for product in products):
        return None
    return np.angle(difference.sum()), np.angle([product.sum() for product in products]) * shape


def _wrapped(angle):
    return np.angle(np.exp(1j * angle))


def phase_scale(magnitude, phase, echo_times):
    """Between what bounds each echo's phase is scaled against that of the echo before.

    Differences of neighbours need no unwrapping, and grow with echo time; what they grow beyond
    that is a scale. Noise hides it. It adds more to the earlier echo's variance, for its share, so
    that the ratio of standard deviations is too small; and it flattens the regression of the
    earlier echo on the later one, so that its inverse is too large. The mean difference along each
    axis, a linear phase, may come of the readout and does not count.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        Of a block; phase in radians.
    echo_times : sequence of float
        s, rising.

    Returns
    -------
    lowest, highest : ndarray, shape (echoes - 1,)
        1 lies between them for phase that is linear in echo time, s where the later echo was
        multiplied by s; all are 1 and s without noise. NaN without signal; infinite where the two
        have less than half of their variance in common: steps between materials, that do not grow,
        would make the second too small.

    Examples
    --------
    >>> field = np.random.default_rng(0).uniform(-50, 50, (6, 6, 6))  # Hz
    >>> phase = 2 * np.pi * field * np.array([0.002, 0.004]).reshape(-1, 1, 1, 1)
    >>> phase_scale(np.ones_like(phase), phase * [[[[0.5]]], [[[1]]]], [0.002, 0.004])
    (array([2.]), array([2.]))
    """
    turned = np.exp(1j * phase)
    bounds = []
    steps = [
        np.array([np.angle(neighbour_product(echo, axis)) for echo in turned]) for axis in range(3)
    ]
    for first, ratio in enumerate(np.divide(echo_times[:-1], echo_times[1:])):
        pair = slice(first, first + 2)
        (earlier, shared), (_, later) = _covariance(
            magnitude[pair].min(axis=0), [step[pair] for step in steps]
        )
        if not (earlier > 0 and later > 0):
            bounds.append((np.nan, np.nan))
            continue
        is_common = shared > np.sqrt(_COMMON * earlier * later)
        bounds.append(
            (ratio * np.sqrt(later / earlier), ratio * later / shared if is_common else np.inf)
        )
    lowest, highest = np.transpose(bounds) if bounds else (np.empty(0), np.empty(0))
    return lowest, highest


def _covariance(magnitude, steps):
    """Covariance of two echoes' differences of neighbours, about their mean along each axis, summed
    over the axes.
    """
    total = np.zeros((2, 2))
    for axis, both in enumerate(steps):
        strength = np.minimum(
            *(np.moveaxis(magnitude, axis, 0)[part] for part in (slice(1, None), slice(-1)))
        )
        known = (np.abs(both) < _CERTAIN_STEP).all(axis=0)
        if strength.size:
            known &= strength > _STRONG * np.percentile(strength, 95)
        if known.any():
            total += np.count_nonzero(known) * np.cov(both[:, known], bias=True)
    return total


def equally_spaced(echo_times):
    """The first of each three successive echoes that are equally spaced."""
    spacing = np.diff(echo_times)
    pairs = ((first, spacing[first : first + 2]) for first in range(len(spacing) - 1))
    return [first for first, two in pairs if np.ptp(two) <= EQUAL_SPACING * two[0]]
