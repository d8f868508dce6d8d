"""Remove the phase that a readout of alternating polarity adds to every second echo.

Delays and eddy currents shift the centre of k-space, in opposite directions for the two polarities.
Even echoes then have an offset and a linear ramp of phase relative to odd ones. Both differ from
the field, which changes phase linearly in echo time: they appear in the second difference of the
phase in time, with a sign that changes from one echo to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..artefacts.coherence import central_block
from ..artefacts.echoes import EchoAlternation, echo_alternation
from ..robust import robust_sd
from .encoding import wrap_phase

# Voxels above this fraction of the strongest signals (95th percentile) determine the phase.
_STRONG = 0.3

# Times that the plane is fitted. After each, a voxel's weight is reduced by its deviation, so that
# flow, veins and fat lose their influence.
_FITS = 10

# The second difference is a contrast of these echoes: the first of them are used, since late ones
# have less signal. Four rather than three: see `echo_alternation`.
_ECHOES = 4


@dataclass(frozen=True)
class ReadoutPhase:
    """Phase of even echoes relative to odd ones: a plane.

    Attributes
    ----------
    offset : float
        Phase in the middle of the image, rad, from -π/2 to π/2.
    ramp : tuple of float
        Its change over the field of view along each axis, rad.
    scatter : float
        Robust standard deviation of single voxels from the plane, rad.
    """

    offset: float
    ramp: tuple[float, float, float]
    scatter: float


def fit_readout_phase(
    magnitude: np.ndarray, phase: np.ndarray, echo_times: Sequence[float]
) -> ReadoutPhase | None:
    """Fit a plane to the phase that even echoes have in addition to odd ones.

    `echo_alternation` has the principle, and gives a first estimate from a block of voxels. It is
    subtracted; a plane is then fitted to what remains in all voxels with signal. Weights are the
    squared magnitudes, divided by 1 + (deviation / robust SD)² to be robust to outliers.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (x, y, z, n_echoes)
        Phase wrapped, rad.
    echo_times : sequence of n_echoes floats
        Echo times, s, increasing.

    Returns
    -------
    ReadoutPhase or None
        None if `echo_alternation` cannot measure it: with fewer than three echoes, or if the first
        four (or three) are not equally spaced, or noise.

    Notes
    -----
    The phase is determined up to π: an even echo with another π and a field that is higher by half
    a cycle per echo spacing have the same signal. A uniform field is background.

    References
    ----------
    Li et al., MAGMA 28:347-355 (2015).
    """
    shape = magnitude.shape[:3]
    first = echo_alternation(_block(magnitude), _block(phase), echo_times, shape)
    if first is None:
        return None
    weakest = magnitude[..., :_ECHOES].min(axis=-1)
    strong = weakest > _STRONG * np.percentile(weakest, 95)
    basis = _basis(shape, strong)
    remainder = _remainder(phase[strong][:, :_ECHOES], basis, first)
    weight = weakest[strong].astype(np.float64) ** 2
    inlying = np.ones(len(weight))
    for _ in range(_FITS):
        plane = _plane(basis, remainder, weight * inlying)
        deviation = remainder - basis @ plane
        scatter = robust_sd(deviation)
        # phase without noise has no scatter
        inlying = 1 / (1 + (deviation / max(scatter, np.finfo(float).eps)) ** 2)
    plane += _as_plane(first)
    offset = wrap_phase(2 * plane[:1]) / 2
    x, y, z = plane[1:].tolist()
    return ReadoutPhase(float(offset[0]), (x, y, z), scatter)


def remove_readout_phase(phase: np.ndarray, readout: ReadoutPhase) -> np.ndarray:
    """Subtract the phase of the readout from the second echo and every second one after it.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase, rad.
    readout : ReadoutPhase
        As fitted to these echoes.

    Returns
    -------
    ndarray of float32, shape (x, y, z, n_echoes)
        Wrapped.

    Examples
    --------
    >>> phase = np.zeros((4, 1, 1, 3))
    >>> remove_readout_phase(phase, ReadoutPhase(0.5, (0.4, 0, 0), 0.0))[:, 0, 0, 1].tolist()
    [-0.3499999940395355, -0.44999998807907104, -0.550000011920929, -0.6499999761581421]
    """
    corrected = np.array(phase, np.float32)
    added = np.full(phase.shape[:3], readout.offset)
    for place, change in zip(_places(phase.shape[:3]), readout.ramp, strict=True):
        added += change * place
    corrected[..., 1::2] = wrap_phase(corrected[..., 1::2] - added[..., None].astype(np.float32))
    return corrected


def _block(echoes):
    """Return the middle of each echo, echoes along the first axis."""
    return np.stack([central_block(echo) for echo in np.moveaxis(echoes, -1, 0)])


def _places(shape):
    """Return the place of each voxel along each axis, from -1/2 to 1/2 over the field of view."""
    places = []
    for axis, n in enumerate(shape):
        place = (np.arange(n) + 0.5) / n - 0.5
        places.append(place.reshape([-1 if other == axis else 1 for other in range(3)]))
    return places


def _basis(shape, mask):
    """Return a row for each voxel of a mask: 1 and its places along the three axes."""
    columns = [np.ones(np.count_nonzero(mask))]
    for place in _places(shape):
        columns.append(np.broadcast_to(place, shape)[mask])
    return np.stack(columns, axis=-1)


def _remainder(phase, basis, first: EchoAlternation):
    """Return by how much even echoes depart from odd ones beyond a first estimate, rad."""
    twice = 2 * (basis @ _as_plane(first))
    second = phase[:, 0] - 2 * phase[:, 1] + phase[:, 2]  # -2 d for an additional phase d
    departure = -wrap_phase(second + twice) / 2
    if phase.shape[1] < _ECHOES:
        return departure
    following = phase[:, 1] - 2 * phase[:, 2] + phase[:, 3]  # 2 d
    return (departure + wrap_phase(following - twice) / 2) / 2


def _as_plane(alternation: EchoAlternation) -> np.ndarray:
    return np.array([alternation.offset, *alternation.ramp])


def _plane(basis, values, weight):
    """Return the coefficients of a weighted least-squares fit of the columns of a basis.

    An axis of a single voxel has no ramp; the least of all solutions is taken.
    """
    weighted = basis * weight[:, None]
    return np.linalg.lstsq(weighted.T @ basis, weighted.T @ values, rcond=None)[0]
