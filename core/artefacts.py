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
# A mirror image of the magnitude counts if its misfit is less than so much of the image's own. In mirrored scans it is
# up to a half; in one phantom that is nearly its own mirror image, as it is, nine tenths.
_CLEARLY = 0.7

# Mean cosine of second differences of echoes that fit. A bipolar readout can look mirrored, but fits neither way.
_FITTING = 0.9

# Coherence of neighbours' phases: noise has less than the one, an echo that can be told from noise more than the other.
_NOISE, _SIGNAL = 0.1, 0.5

# Share of the strongest magnitudes above which a voxel counts as signal.
_STRONG = 0.3

# Steps of phase from voxel to voxel that come near half a turn may have wrapped.
_CERTAIN_STEP = np.pi / 2

# Share of the variance of two echoes' differences that is common to them, above which it counts.
_COMMON = 0.5

# Share of voxels that have one and the same value if the background was set to it; integers have 4096 to share.
_BACKGROUND = 0.01

# Share of the voxels that are taken to be without signal, and how far their values may scatter: as a share of what
# the strongest signals reach. Air has a twentieth of that in a scan with a signal-to-noise ratio of 20.
_AIR, _SCATTER = 0.1, 0.05

# An intercept is lost where the background lies by so much of the strongest signals, and of its own scatter, off 0.
_OFF_ZERO, _OFF_NOISE = 0.05, 5

# Slope, 1 for echoes that are a geometric sequence, below which noise makes it, and its turn (rad), above which a
# bipolar readout does. An offset is one if the disagreement of the echoes falls to so much of what it was. Of 2700
# simulated sets of echoes without one (spreads of the field from 1 to 60 Hz, spacings of 1 to 10 ms, signal-to-noise
# ratios of 10 to 200, two compartments, half of them bipolar) one passed for having one.
_GEOMETRIC, _TURNED, _CURED = 0.5, 0.2, 0.25

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
        None if no echo fits clearly better when mirrored, or there are fewer than three.
    """
    means = magnitude.mean(axis=(1, 2, 3), keepdims=True)
    if len(magnitude) < 3 or not means.all():
        return None
    scaled = magnitude / means
    total, found = scaled.sum(axis=0), []
    for echo, own in enumerate(scaled):
        others = (total - own) / (len(scaled) - 1)
        fit = partial(_likeness, others)
        found += _gains(fit, own, echo=echo, least=_CLEARLY * fit(own).mean())
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


def phase_scale(magnitude, phase, echo_times):
    """Between what bounds each echo's phase is scaled against that of the echo before.

    Differences of neighbours need no unwrapping, and grow with echo time; what they grow beyond that is a scale. Noise
    hides it. It adds more to the earlier echo's variance, for its share, so that the ratio of standard deviations is
    too small; and it flattens the regression of the earlier echo on the later one, so that its inverse is too large.
    The mean difference along each axis, a linear phase, may come of the readout and does not count.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        Of a block; phase in radians.
    echo_times : sequence of float
        s, rising.

    Returns
    -------
    lowest, highest : ndarray, shape (echoes - 1,)
        1 lies between them for phase that is linear in echo time, s where the later echo was multiplied by s; all are
        1 and s without noise. NaN without signal; infinite where the two have less than half of their variance in
        common: steps between materials, that do not grow, would make the second too small.

    Examples
    --------
    >>> field = np.random.default_rng(0).uniform(-50, 50, (6, 6, 6))  # Hz
    >>> phase = 2 * np.pi * field * np.array([0.002, 0.004]).reshape(-1, 1, 1, 1)
    >>> phase_scale(np.ones_like(phase), phase * [[[[0.5]]], [[[1]]]], [0.002, 0.004])
    (array([2.]), array([2.]))
    """
    turned, bounds = np.exp(1j * phase), []
    steps = [np.array([np.angle(_neighbour_product(echo, axis)) for echo in turned]) for axis in range(3)]
    for first, ratio in enumerate(np.divide(echo_times[:-1], echo_times[1:])):
        pair = slice(first, first + 2)
        (earlier, shared), (_, later) = _covariance(magnitude[pair].min(axis=0), [step[pair] for step in steps])
        if not (earlier > 0 and later > 0):
            bounds.append((np.nan, np.nan))
            continue
        is_common = shared > np.sqrt(_COMMON * earlier * later)
        bounds.append((ratio * np.sqrt(later / earlier), ratio * later / shared if is_common else np.inf))
    lowest, highest = np.transpose(bounds) if bounds else (np.empty(0), np.empty(0))
    return lowest, highest


def _covariance(magnitude, steps):
    """Covariance of two echoes' differences of neighbours, about their mean along each axis, summed over the axes."""
    total = np.zeros((2, 2))
    for axis, both in enumerate(steps):
        strength = np.minimum(*(np.moveaxis(magnitude, axis, 0)[part] for part in (slice(1, None), slice(-1))))
        known = (np.abs(both) < _CERTAIN_STEP).all(axis=0)
        if strength.size:
            known &= strength > _STRONG * np.percentile(strength, 95)
        if known.any():
            total += np.count_nonzero(known) * np.cov(both[:, known], bias=True)
    return total


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


def wrapped_range(values, least):
    """Range within which a phase turns around: stored as it may be, that is a whole turn.

    Parameters
    ----------
    values : ndarray
        A block of an image, 3-D. What more than a hundredth of its voxels have alike is background and not looked at.
    least : float
        Share of neighbours that jump by most of the range, as of `jump_share`, above which it is wrapped.

    Returns
    -------
    float or None
        None if it does not turn around.

    Examples
    --------
    >>> wrapped_range(np.linspace(0, 40000, 101).reshape(-1, 1, 1) % 4096, 0.002) > 3800
    True
    """
    found, counts = np.unique(values, return_counts=True)
    known = np.where(np.isin(values, found[counts > _BACKGROUND * values.size]), np.nan, values)
    if np.isnan(known).all():
        return None
    low, high = np.nanmin(known), np.nanmax(known)
    return float(high - low) if jump_share(known, low, high) > least else None


@dataclass(frozen=True)
class Background:
    """What real and imaginary images hold where there is no signal.

    Attributes
    ----------
    level : ndarray, shape (images,)
        Median of each image there; 0 if its scale is right.
    noise : ndarray, shape (images,)
        Robust standard deviation there: one and the same in all images of a scan.
    is_off_zero : ndarray of bool, shape (images,)
        The level cannot be 0, and hardly any voxel of the image is.
    """

    level: np.ndarray
    noise: np.ndarray
    is_off_zero: np.ndarray


def signal_background(images):
    """Find what the images hold where there is no signal, whatever was added to them.

    The densest tenth of an image's values is its background, or else some tissue. Background is where all other images
    have theirs as well: there the image holds noise about one level. Tissue that is alike in all other images has
    values that scatter more widely; where that is so, there is no background, as in an image of the inside of a head.

    Parameters
    ----------
    images : ndarray, shape (images, voxels)
        Real and imaginary parts of all echoes, two at least, at the same voxels all over the image.

    Returns
    -------
    Background or None
        None if there is no background.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 1, (4, 4000))
    >>> noise[:, :2000] += 100 * np.cos(np.arange(2000) + np.arange(4)[:, None])
    >>> signal_background(noise + [[0], [500], [0], [0]]).is_off_zero.tolist()
    [False, True, False, False]
    """
    middle = np.array([_densest(image) for image in images])[:, None]
    strongest = np.percentile(np.abs(images - middle), 99, axis=1)
    if not strongest.all():
        return None
    distance = np.abs(images - middle) / strongest[:, None]
    level, noise = np.transpose([_where_others_are_near(images, distance, own) for own in range(len(images))])
    if not (noise < _SCATTER * strongest).all():
        return None
    near_level, near_zero = (
        (np.abs(images - place[:, None]) <= 3 * noise[:, None]).mean(axis=1) for place in (level, 0 * level)
    )
    is_far = np.abs(level) > np.maximum(_OFF_NOISE * noise, _OFF_ZERO * strongest)
    return Background(level, noise, is_far & (near_zero < _AIR * near_level))


def _densest(image):
    """Middle of the shortest interval that holds a tenth of the values."""
    ordered = np.sort(image)
    n = max(2, int(_AIR * len(ordered)))
    first = np.argmin(ordered[n - 1 :] - ordered[: len(ordered) - n + 1])
    return (ordered[first] + ordered[first + n - 1]) / 2


def _where_others_are_near(images, distance, own):
    """Median and robust standard deviation of an image at the tenth of voxels where the others are at their densest."""
    farthest = np.delete(distance, own, axis=0).max(axis=0)
    n = max(2, int(_AIR * len(farthest)))
    values = images[own, np.argpartition(farthest, n - 1)[:n]]
    level = np.median(values)
    return level, 1.4826 * np.median(np.abs(values - level))


def common_offset(signal, echo_times):
    """Constant that was added to the complex signal of all echoes.

    Of three equally spaced echoes the signals of one voxel are a geometric sequence, at whatever decay and field:
    (S1 - S2)(S3 - S2) = S2 d with d = 2 S2 - S1 - S3. With c added to them it is k S2 d - c d, with k = 1: a regression
    over voxels, with or without background. Where differences of echoes are noise k is far from 1. A bipolar readout
    would pass for an offset; it turns S1 S3 against S2², which an offset, with terms of its own, does not.

    Parameters
    ----------
    signal : ndarray of complex, shape (echoes, voxels)
        In any unit.
    echo_times : sequence of float
        s, rising.

    Returns
    -------
    complex or None
        0 within a quarter of the signal where nothing was added. None if it cannot be told, or no three successive
        echoes are equally spaced.

    Examples
    --------
    >>> rate = 2j * np.pi * np.linspace(-50, 50, 101) - 20  # 1/s
    >>> times = np.array([0.004, 0.008, 0.012])
    >>> complex(np.round(common_offset(np.exp(rate * times[:, None]) + 2 - 1j, times), 6))
    (2-1j)
    """
    triples = [signal[first : first + 3] for first in _equally_spaced(echo_times)]
    for one, two, three in triples:
        turn = _regressed(one * three, two**2, one + three, two, np.ones_like(two))[0]
        if abs(np.angle(turn)) > _TURNED:
            return None
    if not triples:
        return None
    one, two, three = np.concatenate(triples, axis=1)
    difference = 2 * two - one - three
    slope, offset = _regressed((one - two) * (three - two), two * difference, -difference)
    return offset / slope if slope.real > _GEOMETRIC and abs(slope.imag) < _TURNED else None


def echo_offsets(signal, echo_times):
    """Constant that was added to the complex signal of one echo, for each echo as if it were the only one.

    Of three equally spaced echoes S1 S3 = k S2², with k = 1; a bipolar readout turns k. With c added to the first echo
    alone it is k S2² + c S3, and to the second S2² = k S1 S3 + 2 c S2 - c². An echo has such an offset if without it
    all echoes around agree much better.

    Parameters
    ----------
    signal : ndarray of complex, shape (echoes, voxels)
        In any unit.
    echo_times : sequence of float
        s, rising.

    Returns
    -------
    ndarray of complex, shape (echoes,)
        0 for echoes that have none, and where it cannot be told.

    Examples
    --------
    >>> rate = 2j * np.pi * np.linspace(-50, 50, 101) - 20  # 1/s
    >>> times = np.array([0.004, 0.008, 0.012])
    >>> signal = np.exp(rate * times[:, None]) + [[0], [2 - 1j], [0]]
    >>> echo_offsets(signal, times).round(6).tolist()
    [0j, (2-1j), 0j]
    """
    offsets = np.zeros(len(signal), complex)
    for echo in range(len(signal)):
        around = [slice(first, first + 3) for first in _equally_spaced(echo_times) if first <= echo <= first + 2]
        found = [_own_offset(signal[three], echo - three.start) for three in around]
        slope, offset = min(found, key=lambda pair: abs(abs(pair[0]) - 1), default=(0, 0))
        corrected = signal.copy()
        corrected[echo] -= offset
        agrees = [_disagreement(corrected[three]) < _CURED * _disagreement(signal[three]) for three in around]
        if abs(slope) > _GEOMETRIC and all(agrees):
            offsets[echo] = offset
    return offsets


def _own_offset(signal, place):
    """Slope k, and the offset of one of three echoes."""
    one, two, three = signal
    if place == 1:
        slope, twice, _ = _regressed(two**2, one * three, two, np.ones_like(two))
        return slope, twice / 2
    return _regressed(one * three, two**2, three if place == 0 else one)


def _disagreement(signal):
    """Share of the power of S1 S3 that S2² times a constant does not explain."""
    square, product = signal[1] ** 2, signal[0] * signal[2]
    power = np.vdot(square, square).real * np.vdot(product, product).real
    return 1 - np.abs(np.vdot(square, product)) ** 2 / power if power else 1.0


def _equally_spaced(echo_times):
    """The first of each three successive echoes that are equally spaced."""
    spacing = np.diff(echo_times)
    pairs = ((first, spacing[first : first + 2]) for first in range(len(spacing) - 1))
    return [first for first, two in pairs if np.ptp(two) <= _EQUAL_SPACING * two[0]]


def _regressed(values, *predictors):
    """Coefficients of the predictors that fit values best; predictors may differ by orders of magnitude."""
    sizes = np.array([np.linalg.norm(predictor) or 1 for predictor in predictors])
    return np.linalg.lstsq(np.transpose(predictors) / sizes, values, rcond=None)[0] / sizes
