"""Effects that act on lines of k-space, applied to the images of a scan."""

from collections.abc import Sequence

import numpy as np

from ..protocol import Protocol
from . import Effects, Records, effect_generator
from .lines import SLICE_AXIS, line_times, modulate
from .motion import move
from .physiology import displace, slice_displacement
from .swallowing import close_pharynx

STEEPEST = 0.2  # ppm from slice to slice; steeper fields are at the surface of air, without signal


def sampled_lines(effects: Effects, vendor: str, shape: Sequence[int]) -> np.ndarray:
    """Return the lines of k-space that a scan acquires: all, unless its k-space is truncated.

    Returns
    -------
    ndarray of bool, shape (n_phase, n_slice)
        In the order of the FFT.
    """
    if effects.truncation is None:
        return np.ones((shape[0], shape[2]), bool)
    return effects.truncation.of(vendor).sampled(tuple(shape))


def distort_lines(
    signal: np.ndarray,
    protocol: Protocol,
    affine: np.ndarray,
    centre: np.ndarray,
    background: np.ndarray,
    effects: Effects,
    seed: int | Sequence[int],
    *,
    person_seed: int | Sequence[int] | None = None,
    vendor: str = "siemens",
    workers: int = 1,
) -> Records:
    """Add the effects of breathing, swallowing, pulse and movements to a scan's images.

    Lines that are not acquired are left out later, with the noise, by `truncate`.

    One effect after the other is applied to the images. Products of two effects are approximate.

    Parameters
    ----------
    signal : ndarray of complex64, shape (n_echoes, x, y, z)
        Images, which are changed.
    protocol : Protocol
        The sequence.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    centre : ndarray, shape (3,)
        The brain's centre in the scanner's axes, mm.
    background : ndarray of float32, shape (x, y, z)
        Field of the sources outside the brain, shim included, ppm.
    effects : Effects
        Effects of the scan, of which those of this module are applied.
    seed : int or sequence of int
        Seed of the scan.
    person_seed : int or sequence of int, optional
        Seed of what stays the same in all scans of a person; by default `seed`.
    vendor : {'siemens', 'ge'}
        Vendor of the scanner, whose k-space has lines that are not acquired and take no time.
    workers : int
        Number of threads. The result does not depend on it.

    Returns
    -------
    dict
        What was drawn, by the effect's name.
    """
    records: Records = {}
    times = line_times(sampled_lines(effects, vendor, protocol.shape), protocol.repetition_time)
    cycles = 2 * np.pi * protocol.imaging_frequency * np.array(protocol.echo_times)  # rad per ppm
    of_person = seed if person_seed is None else person_seed
    if effects.breathing is not None:
        breathing = effects.breathing.of_person(_own_generator(of_person, "breathing"))
        pattern = breathing.pattern(affine, protocol.shape, centre)
        rng = effect_generator(seed, "breathing")
        field, records["breathing"] = breathing.draw(rng, times)
        for echo, cycle in zip(signal, cycles, strict=True):
            echo[:] = modulate(echo, pattern, cycle * field, 1.0, workers=workers)
    if effects.swallowing is not None:
        swallowing = effects.swallowing.of_person(_own_generator(of_person, "swallowing"))
        change = swallowing.change(affine, protocol.shape, centre)
        rng = effect_generator(seed, "swallowing")
        is_closed, records["swallowing"] = swallowing.draw(rng, times)
        for echo, cycle in zip(signal, cycles, strict=True):
            echo[:] = close_pharynx(echo, change, is_closed, cycle, workers=workers)
    if effects.pulsation is not None:
        pattern = effects.pulsation.pattern(affine, protocol.shape, centre)
        rng = effect_generator(seed, "pulsation")
        downwards, records["pulsation"] = effects.pulsation.draw(rng, times)
        shift = slice_displacement(affine, downwards)
        gradient = np.clip(np.gradient(background, axis=SLICE_AXIS), -STEEPEST, STEEPEST)
        for echo, cycle in zip(signal, cycles, strict=True):
            echo[:] = displace(echo, pattern, shift, gradient, cycle, workers=workers)
    if effects.motion is not None:
        path = effects.motion.draw(effect_generator(seed, "motion"), times)
        records["motion"] = path.record
        path = path.refined(min(protocol.voxel_size))
        ramp = path.ramp(times, affine, signal.shape[2])
        for echo in signal:
            echo[:] = move(echo, path, times, affine, ramp, centre, workers=workers)
    if effects.truncation is not None:
        part = effects.truncation.of(vendor)
        records["truncation"] = {
            "PartialFourier": part.partial_fourier,
            "PhaseResolution": part.phase_resolution,
            "SliceResolution": part.slice_resolution,
            "Elliptical": part.elliptical,
        }
    return records


def _own_generator(person_seed, name):
    """Return the generator of what is a person's: not a scan's, even if it has the same seed."""
    return effect_generator(person_seed, name).spawn(1)[0]
