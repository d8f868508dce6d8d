"""Defects of a phantom as built and scanned: tilted tubes, air bubbles, ghosts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from ..phantom import HEIGHT, RADIUS, TUBE_LENGTH, TUBE_RADIUS, Bubble, Build, tube_centres
from ..protocol import Protocol
from .lines import LINE_AXES, PHASE_AXIS, frequencies, line_times, of_lines


@dataclass(frozen=True)
class PhantomDefects:
    """How far a phantom and its images are from perfect.

    Tilt and bubbles belong to the phantom and are the same in all its scans. They limit how well
    the field of a real phantom agrees with theory (Kim et al., PLoS One 14:e0220639, 2019: trapped
    air bubbles, the material of the support). Ghosts are drawn for each scan.

    Parameters
    ----------
    tilt : float
        Standard deviation of each tube's tilt about either axis across it, degrees. Our choice:
        1 mm of play over the height of the vessel is 0.36 degrees.
    bubbles : float
        Mean number of air bubbles at the top of the vessel, which lies in the scanner.
    bubble_radius : tuple of float
        Smallest and largest radius, mm. Number and size: our choice, what is left after filling
        and shaking.
    tube_bubbles : float
        Probability that a tube has a bubble, of up to half this size, near one of its ends.
    gain : float
        Amplitude of a periodic instability of the signal during the scan, relative to the signal.
        Two ghosts of half this amplitude lie before and behind the phantom. 1 % is within the
        2.5 % of signal that the ACR's phantom test allows (Phantom Test Guidance, percent signal
        ghosting).
    vibration : float
        Amplitude of a periodic shift of frequency during the scan, Hz. Its ghosts grow with the
        echo time, to 1 % of the signal at 30 ms. Our choice, of the size of the ghosts above.
    """

    tilt: float = 0.4
    bubbles: float = 2.0
    bubble_radius: tuple[float, float] = (1.5, 4.0)
    tube_bubbles: float = 0.3
    gain: float = 0.01
    vibration: float = 0.1


def draw_build(defects: PhantomDefects, rng: np.random.Generator) -> Build:
    """Draw the tilts of a phantom's tubes and its air bubbles.

    Parameters
    ----------
    defects : PhantomDefects
        Their sizes.
    rng : numpy.random.Generator
        Draws them.
    """
    centres = tube_centres()
    tilts = defects.tilt * rng.standard_normal((len(centres), 2))
    bubbles = []
    for _ in range(rng.poisson(defects.bubbles)):
        radius = rng.uniform(*defects.bubble_radius)
        angle = np.deg2rad(90 + 3 * rng.standard_normal())  # of the top
        distance = RADIUS - radius
        z = rng.uniform(-1, 1) * (HEIGHT / 2 - radius)
        centre = (float(distance * np.cos(angle)), float(distance * np.sin(angle)), float(z))
        bubbles.append(Bubble(centre, float(radius)))
    for x, y in centres.tolist():
        radius = rng.uniform(*defects.bubble_radius) / 2
        end = rng.choice([-1, 1]) * (TUBE_LENGTH / 2 - rng.uniform(5, 30))
        if rng.random() < defects.tube_bubbles:
            top = float(y + TUBE_RADIUS - radius)
            bubbles.append(Bubble((x, top, float(end)), float(radius)))
    return Build(tilts=tuple(map(tuple, tilts.tolist())), bubbles=tuple(bubbles))


def build_record(build: Build) -> dict[str, object]:
    """Return what the truth's sidecar states of a phantom: degrees and mm in its coordinates."""
    return {
        "TubeTilts": [list(tilt) for tilt in build.tilts],
        "BubbleCentres": [list(bubble.centre) for bubble in build.bubbles],
        "BubbleRadii": [bubble.radius for bubble in build.bubbles],
    }


def add_ghosts(
    images: np.ndarray,
    echo_times: Sequence[float],
    defects: PhantomDefects,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Add the ghosts of periodic instabilities to the images of a scan, in place.

    Parameters
    ----------
    images : ndarray of complex64, shape (n_echoes, x, y, z)
        Images of all echoes.
    echo_times : sequence of float
        Echo times, s.
    defects : PhantomDefects
        Amplitudes of the instabilities.
    rng : numpy.random.Generator
        Draws their period and phase.

    Returns
    -------
    dict
        ``GhostShift``, the distance of the ghosts from the phantom in voxels.
    """
    n = images.shape[1 + PHASE_AXIS]
    shift = rng.uniform(0.1, 0.5) * n
    wave = np.cos(2 * np.pi * shift * frequencies(n) / n + rng.uniform(0, 2 * np.pi))[:, None]
    modulate_lines(images, echo_times, 1 + defects.gain * wave, defects.vibration * wave)
    return {"GhostShift": float(shift)}


def drift_lines(
    images: np.ndarray, protocol: Protocol, sampled: np.ndarray, field_drift: float
) -> None:
    """Let the field drift during a scan, in place: the images are of the centre of k-space.

    Parameters
    ----------
    images : ndarray of complex64, shape (n_echoes, x, y, z)
        Images of all echoes.
    protocol : Protocol
        The sequence.
    sampled : ndarray of bool, shape (n_phase, n_slice)
        Lines that are acquired, in the order of the FFT.
    field_drift : float
        Change of the field from the first to the last line, ppm.
    """
    times = line_times(sampled, protocol.repetition_time)
    fraction = (times - times[0, 0]) / times.max()
    frequency = field_drift * protocol.imaging_frequency * fraction
    modulate_lines(images, protocol.echo_times, np.ones(times.shape), frequency)


def modulate_lines(
    images: np.ndarray, echo_times: Sequence[float], gain: np.ndarray, frequency: np.ndarray
) -> None:
    """Change the signal from line to line of k-space, in place.

    Parameters
    ----------
    images : ndarray of complex64, shape (n_echoes, x, y, z)
        Images of all echoes.
    echo_times : sequence of float
        Echo times, s.
    gain, frequency : ndarray, shape (n_phase, n_slice) or (n_phase, 1)
        Factor and frequency offset (Hz) of each line, in the order of the FFT.
    """
    for image, te in zip(images, echo_times, strict=True):
        kspace = fft.fftn(image, axes=LINE_AXES)
        kspace *= of_lines(gain * np.exp(2j * np.pi * te * frequency))
        image[:] = fft.ifftn(kspace, axes=LINE_AXES)
