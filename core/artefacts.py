"""Signs of what scanners and converters do to multi-echo images before anyone maps anything.

All of it is judged on a block of voxels, from products of neighbours: no unwrapping, no fit, no mask.
"""

from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

#: Voxels along each axis of the block that the judgements are made on.
BLOCK = (64, 64, 64)

# A sign that alternates makes the coherence -1; what a head's field leaves of it is far on the positive side.
_ALTERNATING = -0.5

# Echo spacings within so much of each other count as equal.
_EQUAL_SPACING = 0.01

# Second differences whose neighbours agree less are noise.
_COHERENT = 0.5

# Ways to mirror an image.
_MIRRORED_AXES = tuple(axes for n in (1, 2, 3) for axes in combinations(range(3), n))

# By so many standard errors must a mirrored image fit better: an image that is right fits worse when mirrored, and
# interpolation, by which neighbours are correlated, doubles what chance can do.
_BETTER = 6

# Mean cosine of second differences of echoes that fit. A bipolar readout can look mirrored, but fits neither way.
_FITTING = 0.9

# Coherence of neighbours' phases: noise has less than the one, an echo that can be told from noise more than the other.
_NOISE, _SIGNAL = 0.1, 0.5

# Share of the strongest magnitudes above which a voxel counts as signal.
_STRONG = 0.3

# Phase between neighbours that jumps by so much of the range has wrapped, or is noise.
_JUMP = 0.8


def central_block(volume, size=BLOCK):
    """Cut a block out of the middle of a volume.

    Parameters
    ----------
    volume : ndarray
        3-D.
    size : tuple of int
        Voxels along each axis; one more where that brings the block to the middle; an axis with fewer is kept whole.

    Returns
    -------
    ndarray
        A view; that of the mirrored volume is its mirror image.

    Examples
    --------
    >>> central_block(np.zeros((100, 10, 71)), (64, 64, 64)).shape
    (64, 10, 65)
    """
    starts = [max(0, (have - want) // 2) for have, want in zip(volume.shape, size, strict=True)]
    return volume[tuple(slice(start, have - start) for start, have in zip(starts, volume.shape, strict=True))]


def neighbour_coherence(magnitude, phase):
    """How far the phases of neighbours agree, along each axis.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z)
        In any unit, not negative.
    phase : ndarray, shape (x, y, z)
        In radians.

    Returns
    -------
    ndarray, shape (3,)
        The sum of S*(i) S(i+1) over the sum of its moduli, real part, with S the complex signal: 1 for a constant
        phase, 0 for noise, -1 where the sign alternates. NaN along an axis without neighbours that have signal.

    Examples
    --------
    >>> alternating = np.pi * (np.arange(8) % 2) * np.ones((5, 5, 1))
    >>> neighbour_coherence(np.ones((5, 5, 8)), alternating).round(3).tolist()
    [1.0, 1.0, -1.0]
    """
    signal = magnitude * np.exp(1j * phase)
    found = []
    for axis in range(3):
        product = _neighbour_product(signal, axis)
        total = np.abs(product).sum()
        found.append(product.sum().real / total if total > 0 else np.nan)
    return np.array(found)


def alternating_axes(magnitude, phase):
    """Axes along which every second voxel's phase is turned by π.

    Along the slices that is RF chopping which the reconstruction has not undone (GE); along an axis in the plane it
    is k-space shifted by half its width, as if the centre had been taken for the corner.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (x, y, z)
        As of `neighbour_coherence`; of the first echo, whose phase is the smoothest.

    Returns
    -------
    tuple of int
        The axes.
    """
    return tuple(np.flatnonzero(neighbour_coherence(magnitude, phase) < _ALTERNATING).tolist())


def _neighbour_product(signal, axis):
    following = np.moveaxis(signal, axis, 0)
    return following[1:] * following[:-1].conj()


def noise_echoes(magnitude, phase):
    """Echoes whose phase is noise where that of others is not.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        Of a block; phase in radians.

    Returns
    -------
    tuple of int
        Their places, from 0: `neighbour_coherence` is below 0.1 along each axis, and above 0.5 in some other echo.
    """
    coherence = np.array([np.abs(neighbour_coherence(*echo)) for echo in zip(magnitude, phase, strict=True)])
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
        Of the second echo to the last but one: median over voxels with signal of the logarithm of the magnitude, minus
        that on the line through its neighbours. 0 for an exponential decay. NaN without signal.
    """
    first = magnitude[0]
    strong = (first > _STRONG * np.percentile(first, 95)) & (magnitude > 0).all(axis=0)
    if not strong.any():
        return np.full(max(len(magnitude) - 2, 0), np.nan)
    log, times = np.log(magnitude[:, strong]), np.asarray(echo_times)
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

    With readout gradients of alternating polarity, delays and eddy currents give even and odd echoes an offset and a
    ramp along the readout of opposite signs. Phase that is linear in echo time has no second difference
    φ1 - 2 φ2 + φ3; the alternating phase d has twice itself. From four echoes on, the second difference must change
    its sign from echo to echo; what keeps it is no alternation.

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
        None if there are fewer than three echoes, they are not equally spaced, or there is more noise than signal.

    References
    ----------
    Li J, Chang S, Liu T, Jiang H, Dong F, Pei M, Wang Q, Wang Y. Phase-corrected bipolar gradients in multi-echo
    gradient-echo sequences for quantitative susceptibility mapping. MAGMA 2015;28:347-355.
    """
    spacing = np.diff(echo_times)
    if len(spacing) < 2 or np.ptp(spacing[:3]) > _EQUAL_SPACING * spacing[0]:
        return None
    signal = magnitude * np.exp(1j * phase)
    differences = [_second_difference(signal[first : first + 3]) for first in range(min(2, len(signal) - 2))]
    measured = [_offset_and_ramp(difference, shape) for difference in differences]
    if None in measured:
        return None
    # Twice the departure with one sign, then with the other: their half difference is free of what does not alternate.
    (offset, ramp), *second = measured
    for other_offset, other_ramp in second:
        offset, ramp = _wrapped(offset - other_offset) / 2, (ramp - other_ramp) / 2
    return EchoAlternation(offset=float(-offset / 2), ramp=tuple((-ramp / 2).tolist()))


@dataclass(frozen=True)
class MirroredEcho:
    """An echo whose image fits those of the others when it is mirrored.

    Attributes
    ----------
    echo : int
        Its place among the echoes, from 0.
    axes : tuple of int
        Along which it is to be mirrored.
    """

    echo: int
    axes: tuple[int, ...]


def mirrored_phase(magnitude, phase, echo_times):
    """Find an echo whose phase lies mirrored in its voxels, as after a conversion that has lost an axis's direction.

    Of three equally spaced echoes, phase that is linear in echo time has no second difference. Each of the three is
    mirrored in each way; the voxels' cosines of the second difference, weighted with the inverse of its variance,
    are compared with those of the phase as it is.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        Of a block in the middle of the image; phase in radians.
    echo_times : sequence of float
        s, rising.

    Returns
    -------
    MirroredEcho or None
        None if no echo fits better when mirrored, or no three successive echoes are equally spaced.
    """
    spacing, turned = np.diff(echo_times), np.exp(1j * phase)
    found = []
    for first in range(len(spacing) - 1):
        if np.ptp(spacing[first : first + 2]) > _EQUAL_SPACING * spacing[first]:
            continue
        three = slice(first, first + 3)
        weight = magnitude[three].min(axis=0) ** 2
        weight = weight / (weight.mean() or 1)
        factors = [turned[first], turned[first + 1].conj() ** 2, turned[first + 2]]
        for place, factor in enumerate(factors):
            others = weight * np.prod([f for i, f in enumerate(factors) if i != place], axis=0)
            found += _gains(partial(_cosine, others), factor, echo=first + place, least=_FITTING)
    return _best(found)


def mirrored_magnitude(magnitude):
    """Find an echo whose magnitude lies mirrored in its voxels.

    Parameters
    ----------
    magnitude : ndarray, shape (echoes, x, y, z)
        Of a block in the middle of the image. Each echo is compared with the mean of the others, all of mean 1.

    Returns
    -------
    MirroredEcho or None
        None if no echo fits better when mirrored, or there are fewer than three.
    """
    means = magnitude.mean(axis=(1, 2, 3), keepdims=True)
    if len(magnitude) < 3 or not means.all():
        return None
    scaled = magnitude / means
    total, found = scaled.sum(axis=0), []
    for echo, own in enumerate(scaled):
        others = (total - own) / (len(scaled) - 1)
        found += _gains(partial(_likeness, others), own, echo=echo)
    return _best(found)


def _cosine(others, image):
    return (others * image).real


def _likeness(others, image):
    return -((others - image) ** 2)


def _gains(fit, image, *, echo, least=-np.inf):
    """By how much each mirror image fits better than the image, where it fits at all and that is no chance."""
    as_it_is, gains = fit(image), []
    for axes in _MIRRORED_AXES:
        mirrored = fit(np.flip(image, axes))
        gain = mirrored - as_it_is
        if mirrored.mean() > least and gain.mean() > _BETTER * gain.std() / np.sqrt(gain.size):
            gains.append((gain.mean(), MirroredEcho(echo, axes)))
    return gains


def _best(gains):
    return max(gains, key=lambda pair: pair[0])[1] if gains else None


def _second_difference(signal):
    """Phase φ1 - 2 φ2 + φ3 with the weight of the weakest echo."""
    product = signal[0] * signal[2] * signal[1].conj() ** 2
    modulus = np.abs(product)
    turned = np.divide(product, modulus, out=np.zeros_like(product), where=modulus > 0)
    return turned * np.abs(signal).min(axis=0)


def _offset_and_ramp(difference, shape):
    """Phase of the mean, and the phase that the mean product of neighbours makes of the whole length."""
    products = [_neighbour_product(difference, axis) for axis in range(3)]
    agreeing = sum(np.abs(product.sum()) for product in products)
    if not agreeing > _COHERENT * sum(np.abs(product).sum() for product in products):
        return None
    return np.angle(difference.sum()), np.angle([product.sum() for product in products]) * shape


def _wrapped(angle):
    return np.angle(np.exp(1j * angle))


def jump_share(values, low, high):
    """Share of neighbours between which values jump by most of their range, as a wrapped phase does.

    Parameters
    ----------
    values : ndarray
        A block of an image, 3-D.
    low, high : float
        Range of the whole image.

    Returns
    -------
    float
        0 for a magnitude, whose neighbours are alike; 0.04 for uniform noise; some thousandths for wraps.

    Examples
    --------
    >>> wrapped = np.linspace(0, 40, 101).reshape(-1, 1, 1) % 6
    >>> round(jump_share(wrapped, 0, 6), 2)
    0.06
    """
    steps = [np.abs(np.diff(values, axis=axis)) for axis in range(values.ndim)]
    n_steps = sum(step.size for step in steps)
    if n_steps == 0 or not high > low:
        return 0.0
    return float(sum(np.count_nonzero(step > _JUMP * (high - low)) for step in steps) / n_steps)
