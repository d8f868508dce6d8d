"""Echoes that are mirrored against the others, as where a converter forgets to reverse every other
readout.
"""

from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np

from .echoes import EQUAL_SPACING

# Ways to mirror an image.
_MIRRORED_AXES = tuple(axes for n in (1, 2, 3) for axes in combinations(range(3), n))

# By so many standard errors must a mirrored image fit better: an image that is right fits worse
# when mirrored, and interpolation, by which neighbours are correlated, doubles what chance can do.
_BETTER = 6

# A mirror image of the magnitude counts if its misfit is less than so much of the image's own. In
# mirrored scans it is up to a half; in one phantom that is nearly its own mirror image, as it is,
# nine tenths.
_CLEARLY = 0.7

# Mean cosine of second differences of echoes that fit. A bipolar readout can look mirrored, but
# fits neither way.
_FITTING = 0.9


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
    """Find an echo whose phase lies mirrored in its voxels, as after a conversion that has lost an
    axis's direction.

    Of three equally spaced echoes, phase that is linear in echo time has no second difference. Each
    of the three is mirrored in each way; the voxels' cosines of the second difference, weighted
    with the inverse of its variance, are compared with those of the phase as it is.

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
    spacing = np.diff(echo_times)
    turned = np.exp(1j * phase)
    found = []
    for first in range(len(spacing) - 1):
        if np.ptp(spacing[first : first + 2]) > EQUAL_SPACING * spacing[first]:
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
        Of a block in the middle of the image. Each echo is compared with the mean of the others,
        all of mean 1.

    Returns
    -------
    MirroredEcho or None
        None if no echo fits clearly better when mirrored, or there are fewer than three.
    """
    means = magnitude.mean(axis=(1, 2, 3), keepdims=True)
    if len(magnitude) < 3 or not means.all():
        return None
    scaled = magnitude / means
    total = scaled.sum(axis=0)
    found = []
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
    """By how much each mirror image fits better than the image, where it fits at all and that is no
    chance.
    """
    as_it_is = fit(image)
    gains = []
    for axes in _MIRRORED_AXES:
        mirrored = fit(np.flip(image, axes))
        gain = mirrored - as_it_is
        if mirrored.mean() > least and gain.mean() > _BETTER * gain.std() / np.sqrt(gain.size):
            gains.append((gain.mean(), MirroredEcho(echo, axes)))
    return gains


def _best(gains):
    return max(gains, key=lambda pair: pair[0])[1] if gains else None
