"""Find mirrored echoes, as after a conversion that forgot to reverse alternate readouts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from operator import itemgetter

import numpy as np

from .echoes import equally_spaced

# All combinations of axes along which an image may be mirrored.
_MIRRORED_AXES = tuple(chain.from_iterable(combinations(range(3), n) for n in (1, 2, 3)))

# A mirrored image must fit better by this many standard errors. This is strict because correct
# images fit worse when mirrored, and because interpolation correlates neighbouring voxels, which
# doubles the fluctuations.
_BETTER = 6

# The misfit of a mirrored magnitude must be less than this fraction of the original image's. In
# mirrored scans it is up to a half. In a correct scan of a phantom that is nearly its own mirror
# image, it is nine tenths.
_CLEARLY = 0.7

# Least mean cosine of second differences for phase that fits. A bipolar readout can fit better when
# mirrored, but it does not fit well either way.
_FITTING = 0.9


@dataclass(frozen=True)
class MirroredEcho:
    """An echo whose image is consistent with the rest of the scan only when mirrored.

    Attributes
    ----------
    echo : int
        Index of the echo, from 0.
    axes : tuple of int
        Axes along which its image must be mirrored to correct it.
    """

    echo: int
    axes: tuple[int, ...]


def mirrored_phase(
    magnitude: np.ndarray, phase: np.ndarray, echo_times: Sequence[float]
) -> MirroredEcho | None:
    """Find an echo whose phase image is mirrored, as when a conversion loses an axis's direction.

    Over three equally spaced echoes, phase that is linear in echo time has a second difference of
    zero, and its cosine is 1. For each of the three echoes and each way of mirroring it, the
    cosines are compared with those of the original phase, voxel by voxel and weighted by the
    inverse of their variance.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        Block in the middle of the image; phase in radians.
    echo_times : sequence of float
        Echo times, s, increasing.

    Returns
    -------
    MirroredEcho or None
        None if no echo fits better when mirrored, or if no three successive echoes are equally
        spaced.
    """
    unit_signal = np.exp(1j * phase)
    candidates = []
    for first in equally_spaced(echo_times):
        triple = slice(first, first + 3)
        weight = magnitude[triple].min(axis=0) ** 2
        weight = weight / (weight.mean() or 1)
        # exp(i (φ1 - 2 φ2 + φ3)) is the product of these.
        factors = [
            unit_signal[first],
            unit_signal[first + 1].conj() ** 2,
            unit_signal[first + 2],
        ]
        for index, factor in enumerate(factors):
            remaining = weight * np.prod(factors[:index] + factors[index + 1 :], axis=0)
            fit = partial(_cosine, remaining)
            candidates += _better_mirrored(fit, factor, echo=first + index, least=_FITTING)
    return _best(candidates)


def mirrored_magnitude(magnitude: np.ndarray) -> MirroredEcho | None:
    """Find an echo whose magnitude image is mirrored.

    Parameters
    ----------
    magnitude : ndarray, shape (echoes, x, y, z)
        Block in the middle of the image. Each echo is compared with the mean of the others, after
        scaling all echoes to a mean of 1.

    Returns
    -------
    MirroredEcho or None
        None if no echo fits clearly better when mirrored, or if there are fewer than three.
    """
    means = magnitude.mean(axis=(1, 2, 3), keepdims=True)
    if len(magnitude) < 3 or not means.all():
        return None
    scaled = magnitude / means
    total = scaled.sum(axis=0)
    candidates = []
    for echo, image in enumerate(scaled):
        mean_of_rest = (total - image) / (len(scaled) - 1)
        fit = partial(_negative_misfit, mean_of_rest)
        candidates += _better_mirrored(fit, image, echo=echo, least=_CLEARLY * fit(image).mean())
    return _best(candidates)


def _cosine(remaining, factor):
    """Return the weighted cosine of the second difference, from one factor and the product of the
    other two.
    """
    return (remaining * factor).real


def _negative_misfit(expected, image):
    return -((expected - image) ** 2)


def _better_mirrored(
    fit: Callable[[np.ndarray], np.ndarray], image: np.ndarray, *, echo: int, least: float
) -> list[tuple[float, MirroredEcho]]:
    """Return gains and axes of the mirror images that fit better than the image, beyond chance.

    `fit` returns the goodness of fit in each voxel, whose mean must be greater than `least`.
    """
    original = fit(image)
    candidates = []
    for axes in _MIRRORED_AXES:
        mirrored = fit(np.flip(image, axes))
        gain = mirrored - original
        if mirrored.mean() > least and gain.mean() > _BETTER * gain.std() / np.sqrt(gain.size):
            candidates.append((gain.mean(), MirroredEcho(echo, axes)))
    return candidates


def _best(candidates):
    return max(candidates, key=itemgetter(0))[1] if candidates else None
