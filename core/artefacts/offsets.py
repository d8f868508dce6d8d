"""Offsets of real and imaginary parts: what the air around the object and the decay of the signal
tell of zero.
"""

from dataclasses import dataclass

import numpy as np

from ..robust import robust_sd
from .echoes import equally_spaced

# Share of the voxels that are taken to be without signal, and how far their values may scatter: as
# a share of what the strongest signals reach. Air has a twentieth of that in a scan with a
# signal-to-noise ratio of 20.
_AIR, _SCATTER = 0.1, 0.05

# An intercept is lost where the background lies by so much of the strongest signals, and of its own
# scatter, off 0.
_OFF_ZERO, _OFF_NOISE = 0.05, 5

# Slope, 1 for echoes that are a geometric sequence, below which noise makes it, and its turn (rad),
# above which a bipolar readout does. An offset is one if the disagreement of the echoes falls to so
# much of what it was. Of 2700 simulated sets of echoes without one (spreads of the field from 1 to
# 60 Hz, spacings of 1 to 10 ms, signal-to-noise ratios of 10 to 200, two compartments, half of them
# bipolar) one passed for having one.
_GEOMETRIC, _TURNED, _CURED = 0.5, 0.2, 0.25


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

    The densest tenth of an image's values is its background, or else some tissue. Background is
    where all other images have theirs as well: there the image holds noise about one level. Tissue
    that is alike in all other images has values that scatter more widely; where that is so, there
    is no background, as in an image of the inside of a head.

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
    level, noise = np.transpose(
        [_where_others_are_near(images, distance, own) for own in range(len(images))]
    )
    if not (noise < _SCATTER * strongest).all():
        return None
    near_level, near_zero = (
        (np.abs(images - place[:, None]) <= 3 * noise[:, None]).mean(axis=1)
        for place in (level, 0 * level)
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
    """Median and robust standard deviation of an image at the tenth of voxels where the others are
    at their densest.
    """
    farthest = np.delete(distance, own, axis=0).max(axis=0)
    n = max(2, int(_AIR * len(farthest)))
    values = images[own, np.argpartition(farthest, n - 1)[:n]]
    level = np.median(values)
    return level, robust_sd(values - level)


def common_offset(signal, echo_times):
    """Constant that was added to the complex signal of all echoes.

    Of three equally spaced echoes the signals of one voxel are a geometric sequence, at whatever
    decay and field: (S1 - S2)(S3 - S2) = S2 d with d = 2 S2 - S1 - S3. With c added to them it is k
    S2 d - c d, with k = 1: a regression over voxels, with or without background. Where differences
    of echoes are noise k is far from 1. A bipolar readout would pass for an offset; it turns S1 S3
    against S2², which an offset, with terms of its own, does not.

    Parameters
    ----------
    signal : ndarray of complex, shape (echoes, voxels)
        In any unit.
    echo_times : sequence of float
        s, rising.

    Returns
    -------
    complex or None
        0 within a quarter of the signal where nothing was added. None if it cannot be told, or no
        three successive echoes are equally spaced.

    Examples
    --------
    >>> rate = 2j * np.pi * np.linspace(-50, 50, 101) - 20  # 1/s
    >>> times = np.array([0.004, 0.008, 0.012])
    >>> complex(np.round(common_offset(np.exp(rate * times[:, None]) + 2 - 1j, times), 6))
    (2-1j)
    """
    triples = [signal[first : first + 3] for first in equally_spaced(echo_times)]
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
    """Constant that was added to the complex signal of one echo, for each echo as if it were the
    only one.

    Of three equally spaced echoes S1 S3 = k S2², with k = 1; a bipolar readout turns k. With c
    added to the first echo alone it is k S2² + c S3, and to the second S2² = k S1 S3 + 2 c S2 - c².
    An echo has such an offset if without it all echoes around agree much better.

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
        around = [
            slice(first, first + 3)
            for first in equally_spaced(echo_times)
            if first <= echo <= first + 2
        ]
        found = [_own_offset(signal[three], echo - three.start) for three in around]
        slope, offset = min(found, key=lambda pair: abs(abs(pair[0]) - 1), default=(0, 0))
        corrected = signal.copy()
        corrected[echo] -= offset
        agrees = [
            _disagreement(corrected[three]) < _CURED * _disagreement(signal[three])
            for three in around
        ]
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
    square = signal[1] ** 2
    product = signal[0] * signal[2]
    power = np.vdot(square, square).real * np.vdot(product, product).real
    return 1 - np.abs(np.vdot(square, product)) ** 2 / power if power else 1.0


def _regressed(values, *predictors):
    """Coefficients of the predictors that fit values best; predictors may differ by orders of
    magnitude.
    """
    sizes = np.array([np.linalg.norm(predictor) or 1 for predictor in predictors])
    return np.linalg.lstsq(np.transpose(predictors) / sizes, values, rcond=None)[0] / sizes
