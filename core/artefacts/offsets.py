"""Detect constants added to real and imaginary images, from the air and from the signal's decay."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..robust import robust_sd
from .echoes import equally_spaced

# Fraction of the voxels that are assumed to have no signal.
_AIR = 0.1

# Largest SD of the background, as a fraction of the strongest signals. In air it is a twentieth of
# that if the signal-to-noise ratio is 20.
_SCATTER = 0.05

# The background is off zero if its level exceeds this fraction of the strongest signals, and this
# many of its own SDs.
_OFF_ZERO = 0.05
_OFF_NOISE = 5

# Limits for offsets from the signal's decay. Of 2700 simulated sets of echoes without an offset,
# none was reported to have one (benchmarks/offsets.py: spreads of the field from 1 to 60 Hz, echo
# spacings of 1 to 10 ms, signal-to-noise ratios of 10 to 200, two compartments, half of them
# bipolar).

# Least slope. It is 1 if the echoes of a voxel are a geometric sequence, and lower if noise
# dominates.
_GEOMETRIC = 0.5
# Greatest phase of the slope, rad. It is zero unless the readout is bipolar.
_BIPOLAR = 0.2
# Greatest ratio of the disagreements of the echoes after and before an offset is removed.
_CURED = 0.25


@dataclass(frozen=True)
class Background:
    """Values of real and imaginary images in voxels without signal.

    Attributes
    ----------
    level : ndarray, shape (images,)
        Median of each image; 0 if nothing was added to it.
    noise : ndarray, shape (images,)
        Robust standard deviation of each image; the same for all images of a scan if their scales
        are the same.
    is_off_zero : ndarray of bool, shape (images,)
        Whether the level is significantly different from 0, and few voxels of the image are near 0.
    """

    level: np.ndarray
    noise: np.ndarray
    is_off_zero: np.ndarray


def signal_background(images: np.ndarray) -> Background | None:
    """Determine level and noise of images in voxels without signal, whatever was added to them.

    The densest tenth of an image's values is its background, or else some tissue. To find out
    which, each image is examined at the voxels where all other images have values of their densest
    tenth. In background these are noise about one level. In tissue that happens to be uniform in
    the other images, they scatter more widely: there is no background then, as in an image of the
    inside of a head.

    Parameters
    ----------
    images : ndarray, shape (images, voxels)
        Real and imaginary parts of all echoes, at least two images, at the same voxels all over the
        volume.

    Returns
    -------
    Background or None
        None if the images have no background.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 1, (4, 4000))
    >>> noise[:, :2000] += 100 * np.cos(np.arange(2000) + np.arange(4)[:, None])
    >>> signal_background(noise + [[0], [500], [0], [0]]).is_off_zero.tolist()
    [False, True, False, False]
    """
    densest = np.array(list(map(_densest_value, images)))[:, None]
    strongest = np.percentile(np.abs(images - densest), 99, axis=1)
    if not strongest.all():
        return None
    distance = np.abs(images - densest) / strongest[:, None]
    level = np.zeros(len(images))
    noise = np.zeros(len(images))
    for index in range(len(images)):
        level[index], noise[index] = _where_others_are_dense(images, distance, index)
    if not (noise < _SCATTER * strongest).all():
        return None
    is_far = np.abs(level) > np.maximum(_OFF_NOISE * noise, _OFF_ZERO * strongest)
    near_level = _fraction_near(images, level, noise)
    near_zero = _fraction_near(images, np.zeros_like(level), noise)
    return Background(level, noise, is_far & (near_zero < _AIR * near_level))


def _densest_value(image):
    """Return the middle of the shortest interval that contains a tenth of the values."""
    ordered = np.sort(image)
    n = max(2, int(_AIR * len(ordered)))
    first = np.argmin(ordered[n - 1 :] - ordered[: len(ordered) - n + 1])
    return (ordered[first] + ordered[first + n - 1]) / 2


def _where_others_are_dense(images, distance, index):
    """Return median and robust SD of an image, at the voxels where the others are at their densest.

    `distance` is that of each value from the densest of its image. The voxels are the tenth for
    which the largest distance in the other images is least.
    """
    farthest = np.delete(distance, index, axis=0).max(axis=0)
    n = max(2, int(_AIR * len(farthest)))
    values = images[index, np.argpartition(farthest, n - 1)[:n]]
    level = np.median(values)
    return level, robust_sd(values - level)


def _fraction_near(images, level, noise):
    """Return the fraction of each image's values within three SDs of a level."""
    is_near = np.abs(images - level[:, None]) <= 3 * noise[:, None]
    return is_near.mean(axis=1)


def common_offset(signal: np.ndarray, echo_times: Sequence[float]) -> complex | None:
    """Determine a constant that was added to the complex signal of all echoes.

    At three equally spaced echoes, the signals of a voxel are a geometric sequence, whatever its
    decay and field: (S1 - S2)(S3 - S2) = S2 d with d = 2 S2 - S1 - S3. If a constant c was added to
    the signals, this becomes k S2 d - c d with k = 1. A regression over voxels gives k and c, with
    or without background. If the differences between echoes are noise, k is far from 1.

    A bipolar readout could be mistaken for an offset. It is recognised by the phase of S1 S3
    relative to S2²: an offset contributes to the regression of S1 S3 by terms of its own.

    Parameters
    ----------
    signal : ndarray of complex, shape (echoes, voxels)
        Any unit.
    echo_times : sequence of float
        Echo times, s, increasing.

    Returns
    -------
    complex or None
        If nothing was added, 0 to within a quarter of the signal. None if it cannot be determined,
        or if no three successive echoes are equally spaced.

    Examples
    --------
    >>> rate = 2j * np.pi * np.linspace(-50, 50, 101) - 20  # 1/s
    >>> times = np.array([0.004, 0.008, 0.012])
    >>> complex(np.round(common_offset(np.exp(rate * times[:, None]) + 2 - 1j, times), 6))
    (2-1j)
    """
    triples = [signal[first : first + 3] for first in equally_spaced(echo_times)]
    if not triples:
        return None
    for s1, s2, s3 in triples:
        k = _regress(s1 * s3, s2**2, s1 + s3, s2, np.ones_like(s2))[0]
        if abs(np.angle(k)) > _BIPOLAR:
            return None
    s1, s2, s3 = np.concatenate(triples, axis=1)
    difference = 2 * s2 - s1 - s3
    slope, offset = _regress((s1 - s2) * (s3 - s2), s2 * difference, -difference)
    is_geometric = slope.real > _GEOMETRIC and abs(slope.imag) < _BIPOLAR
    return offset / slope if is_geometric else None


def echo_offsets(signal: np.ndarray, echo_times: Sequence[float]) -> np.ndarray:
    """Determine for each echo a constant that was added to its signal, if it is the only such echo.

    At three equally spaced echoes S1 S3 = k S2², with k = 1, or with another phase of k if the
    readout is bipolar. With a constant c added to the first echo alone, this becomes S1 S3 = k S2²
    + c S3; to the second, S2² = k S1 S3 + 2 c S2 - c². An echo is reported to have an offset if all
    triples of echoes that include it agree much better once it is removed.

    Parameters
    ----------
    signal : ndarray of complex, shape (echoes, voxels)
        Any unit.
    echo_times : sequence of float
        Echo times, s, increasing.

    Returns
    -------
    ndarray of complex, shape (echoes,)
        0 for echoes without an offset, or if it cannot be determined.

    Examples
    --------
    >>> rate = 2j * np.pi * np.linspace(-50, 50, 101) - 20  # 1/s
    >>> times = np.array([0.004, 0.008, 0.012])
    >>> signal = np.exp(rate * times[:, None]) + [[0], [2 - 1j], [0]]
    >>> echo_offsets(signal, times).round(6).tolist()
    [0j, (2-1j), 0j]
    """
    offsets = np.zeros(len(signal), complex)
    first_echoes = np.array(equally_spaced(echo_times), int)
    for echo in range(len(signal)):
        is_included = (first_echoes <= echo) & (echo <= first_echoes + 2)
        offsets[echo] = _offset_in_triples(signal, echo, first_echoes[is_included])
    return offsets


def _offset_in_triples(signal, echo, first_echoes):
    """Return the offset of an echo, or 0, from the triples that begin at some echoes."""
    # Of all triples, the one whose slope k is closest to 1 in modulus determines the offset.
    best_slope = 0
    best_offset = 0
    least_deviation = np.inf
    for first in first_echoes:
        slope, offset = _own_offset(signal[first : first + 3], echo - first)
        deviation = abs(abs(slope) - 1)
        if deviation < least_deviation:
            best_slope = slope
            best_offset = offset
            least_deviation = deviation
    if not abs(best_slope) > _GEOMETRIC:
        return 0
    corrected = signal.copy()
    corrected[echo] -= best_offset
    for first in first_echoes:
        triple = slice(first, first + 3)
        if not _disagreement(corrected[triple]) < _CURED * _disagreement(signal[triple]):
            return 0
    return best_offset


def _own_offset(signal, index):
    """Return the slope k, and the offset of one of three echoes."""
    s1, s2, s3 = signal
    if index == 1:
        slope, twice, _ = _regress(s2**2, s1 * s3, s2, np.ones_like(s2))
        return slope, twice / 2
    return _regress(s1 * s3, s2**2, s3 if index == 0 else s1)


def _disagreement(signal):
    """Return the fraction of the power of S1 S3 that S2² times a constant does not explain."""
    square = signal[1] ** 2
    product = signal[0] * signal[2]
    power = np.vdot(square, square).real * np.vdot(product, product).real
    return 1 - np.abs(np.vdot(square, product)) ** 2 / power if power else 1.0


def _regress(values, *predictors):
    """Return the coefficients of predictors in a least-squares fit to values.

    Predictors are scaled to unit norm for the fit, as they may differ by orders of magnitude.
    """
    norms = np.array([np.linalg.norm(predictor) or 1 for predictor in predictors])
    return np.linalg.lstsq(np.transpose(predictors) / norms, values, rcond=None)[0] / norms
