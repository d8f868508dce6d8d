"""From the signal in the magnet to the images that a scanner gives: gradients and coils."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..harmonics import polynomial
from ..protocol import Protocol, Receiver
from . import Effects, Records, effect_generator


@dataclass(frozen=True)
class Reception:
    """What gradients and coils have done to the images of a scan.

    Parameters
    ----------
    records : mapping
        What was drawn, by the effect's name.
    phases : mapping of str to ndarray of float32, shape (x, y, z)
        Phase (rad) by the effect's name: that of eddy currents and of the coils' combination in the
        first echo, and that of bipolar readouts in the second.
    noise_level : ndarray of float32, shape (x, y, z), or None
        Standard deviation of the noise in units of one channel's; None if it is the same
        throughout.
    """

    records: Records
    phases: Mapping[str, np.ndarray]
    noise_level: np.ndarray | None


def receive(
    images: np.ndarray,
    protocol: Protocol,
    affine: np.ndarray,
    receiver: Receiver,
    effects: Effects,
    seed: int | Sequence[int],
) -> Reception:
    """Add the phase of gradients and of reception to images, in place.

    Parameters
    ----------
    images : ndarray of complex64, shape (n_echoes, x, y, z)
        Images of all echoes.
    protocol : Protocol
        The sequence.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    receiver : Receiver
        Channels, and how they are combined.
    effects : Effects
        Effects of the scan, of which those of this module are applied.
    seed : int or sequence of int
        Seed of what the scans of a session share.

    Returns
    -------
    Reception
    """
    records: Records = {}
    phases = {}
    shape = images.shape[1:]
    if effects.eddy_currents is not None:
        rng = effect_generator(seed, "eddy_currents")
        drawn = effects.eddy_currents.apply(images, protocol.echo_times, affine, rng)
        records["eddy_currents"] = drawn
        phases["eddy_currents"] = polynomial(drawn["HarmonicPhaseOfFirstEcho"], affine, shape)
    if effects.bipolar is not None:
        records["bipolar"] = effects.bipolar.apply(images)
        phases["bipolar"] = effects.bipolar.phase(shape)
    if effects.coils is None:
        return Reception(records, phases, None)
    rng = effect_generator(seed, "coils")
    before = images[0].copy()
    level, records["coils"] = effects.coils.apply(
        images, affine, protocol.imaging_frequency, receiver, rng
    )
    phases["coils"] = np.angle(images[0] * before.conj())
    return Reception(records, phases, level)
