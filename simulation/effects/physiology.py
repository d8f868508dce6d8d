"""Breathing and the pulse: between lines of k-space the field changes, and tissue moves."""

from dataclasses import dataclass, replace

import numpy as np

from ..field import point_dipole
from ..grid import coordinates
from .lines import SLICE_AXIS, frequencies, modulate


@dataclass(frozen=True)
class Breathing:
    """The field of the lungs, which changes with every breath.

    The lungs act as a dipole along B0 far below the brain, so that the change is greatest in the
    lower brain. How much it changes is mostly a property of the person. Each breath has its own
    duration and depth.

    Parameters
    ----------
    field : float
        Change of the field from expiration to inspiration at the brain's centre, ppm. The median of
        all people; 0.005 ppm are 0.6 Hz at 3 T.
    field_spread, scan_spread : float
        Standard deviation of this change's logarithm between people and between a person's scans.
    rate, rate_spread : float
        Breaths per second, mean and standard deviation between scans.
    breath_spread : float
        Relative standard deviation of the duration and of the depth from breath to breath.
    distance : float
        From the brain's centre down to that of the lungs, mm.

    Notes
    -----
    Size: at 3 T the field of the lower cervical cord, close to the lungs, fluctuates by about 5 Hz
    (standard deviation; Beghini et al. 2024). With the cube of the distance, 100 mm there and
    300 mm in the brain, this is 0.2 Hz, or 0.6 Hz from peak to peak. In a model of the body, too,
    the change falls from inferior to superior (Lee et al. 2019). Its effects on QSM and their
    correction: Wen et al. 2015. The spreads are our choice.

    References
    ----------
    Beghini L et al. Navigator-based correction of breathing-induced B0 fluctuations in the spinal
    cord. medRxiv 2024.12.05.24318389.
    Lee SH, Barg JS, Yeo SJ, Lee SK. Proc ISMRM 27:1472 (2019).
    Wen J, Cross AH, Yablonskiy DA. Magn Reson Med 73:195-203 (2015).
    """

    field: float = 0.005
    field_spread: float = 0.3
    scan_spread: float = 0.1
    rate: float = 0.25
    rate_spread: float = 0.03
    breath_spread: float = 0.15
    distance: float = 300.0

    def pattern(self, affine: np.ndarray, shape: tuple, centre: np.ndarray) -> np.ndarray:
        """Return the field of the lungs relative to that at the brain's centre.

        Parameters
        ----------
        affine : ndarray, shape (4, 4)
            From voxels to the scanner's axes, mm.
        shape : tuple of int
            Voxels of the image.
        centre : ndarray, shape (3,)
            The brain's centre in the scanner's axes, mm.

        Returns
        -------
        ndarray of float32, shape (x, y, z)
            (3 cos²θ - 1)/2 · (distance/r)³, r and θ being those from the lungs.
        """
        lungs = np.subtract(centre, (0, 0, self.distance))
        return point_dipole(affine, shape, lungs, (self.distance / 100) ** 3 / 2)

    def of_person(self, rng: np.random.Generator) -> "Breathing":
        """Draw how strongly a person breathes: return the breathing with the field of theirs."""
        return replace(self, field=self.field * float(np.exp(self.field_spread * rng.normal())))

    def draw(
        self, rng: np.random.Generator, times: np.ndarray
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Draw the breathing of one scan of a person.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws the scan's strength, the rate and each breath.
        times : ndarray
            Times of the lines, s from the scan's beginning.

        Returns
        -------
        field : ndarray
            The field at the brain's centre at these times, ppm. It is 0 midway between expiration
            and inspiration of a breath of average depth.
        record : dict
            What was drawn.
        """
        field = self.field * np.exp(self.scan_spread * rng.standard_normal())
        rate, place, size = _cycles(rng, times, self.rate, self.rate_spread, self.breath_spread)
        wave = size * (1 - np.cos(2 * np.pi * place)) / 2 - 0.5
        record = {
            "FieldPeakToPeak": round(float(field), 6),
            "Rate": round(float(rate), 4),
            "FieldStandardDeviation": round(float(field * wave.std()), 6),
        }
        return field * wave, record


@dataclass(frozen=True)
class Pulsation:
    """Motion of the lower brain with the pulse.

    In every systole the brain stem moves down quickly and then returns slowly. Its place changes
    between lines, and its phase too, as it moves through the field of the skull and the shim, which
    stay.

    Parameters
    ----------
    displacement : float
        Greatest displacement of the brain stem from head to feet, mm.
    rate, rate_spread : float
        Beats per second, mean and standard deviation between scans.
    beat_spread : float
        Relative standard deviation of the duration from beat to beat.
    depth : float
        From the brain's centre down to the brain stem, mm.
    extent : float
        Standard deviation of the Gaussian by which the motion falls around the brain stem, mm.

    Notes
    -----
    Size: velocities up to 2 mm/s and displacements of at most 0.5 mm in the caudal brain stem
    (Poncelet et al. 1992), 0.13 mm in the thalamus (Soellinger et al. 2009). The displacement of
    0.2 mm has a peak velocity of 1.9 mm/s, and 0.1 mm at the thalamus, 45 mm away. Where the field
    changes by 0.01 ppm per mm, the displacement is that of the phase of 0.002 ppm. Motion along
    the other axes is left out, and so are the gradients' first moments, which are the same for all
    echoes of a unipolar train.

    References
    ----------
    Poncelet BP et al. Brain parenchyma motion. Radiology 185:645-651 (1992).
    Soellinger M et al. Magn Reson Med 61:153-162 (2009).
    """

    displacement: float = 0.2
    rate: float = 1.1
    rate_spread: float = 0.15
    beat_spread: float = 0.05
    depth: float = 45.0
    extent: float = 40.0

    def pattern(self, affine: np.ndarray, shape: tuple, centre: np.ndarray) -> np.ndarray:
        """Return the size of the motion relative to the brain stem's, see `Breathing.pattern`."""
        stem = np.subtract(centre, (0, 0, self.depth)) / 100
        width = np.float32(self.extent / 100)
        squared = np.zeros(shape, np.float32)
        for axis, place in zip(coordinates(affine, shape), stem, strict=True):
            squared += ((axis - np.float32(place)) / width) ** 2
        return np.exp(squared / -2)

    def draw(
        self, rng: np.random.Generator, times: np.ndarray
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Draw the pulse of one scan.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws the rate and each beat.
        times : ndarray
            Times of the lines, s from the scan's beginning.

        Returns
        -------
        displacement : ndarray
            Displacement of the brain stem towards the feet at these times, mm.
        record : dict
            What was drawn.
        """
        rate, place, _ = _cycles(rng, times, self.rate, self.rate_spread, self.beat_spread)
        # Greatest after a fifth of the beat, nearly over at its end.
        fraction = place / 0.2
        displacement = self.displacement * fraction**2 * np.exp(2 * (1 - fraction))
        return displacement, {"Rate": round(float(rate), 4)}


def slice_displacement(affine: np.ndarray, downwards: np.ndarray) -> np.ndarray:
    """Return displacements towards the feet as voxels along the slice direction."""
    direction = affine[:3, SLICE_AXIS]
    return -downwards * direction[2] / (direction @ direction)


def displace(
    image: np.ndarray,
    pattern: np.ndarray,
    shift: np.ndarray,
    gradient: np.ndarray,
    cycle: float,
    *,
    workers: int = 1,
) -> np.ndarray:
    """Return the image of tissue that moves along the slice direction through a field at rest.

    Parameters
    ----------
    image : ndarray of complex64, shape (x, y, z)
        Image of the tissue in its place.
    pattern : ndarray of float32, shape (x, y, z)
        Relative size of the displacement.
    shift : ndarray, shape (n_phase, n_slice)
        Displacement where the pattern is 1, in voxels, for each line in the order of the FFT.
    gradient : ndarray of float32, shape (x, y, z)
        Change of the field at rest from one slice to the next, ppm.
    cycle : float
        Phase (rad) of 1 ppm at the echo time.
    workers : int
        Number of threads of the Fourier transforms.

    Returns
    -------
    ndarray of complex64, shape (x, y, z)
    """
    n_slice = image.shape[SLICE_AXIS]
    ramp = -2 * np.pi * frequencies(n_slice) / n_slice * shift
    moved = modulate(image, pattern, ramp, 0.5, workers=workers)
    # The phase has moved with the tissue: that of the field at rest has to stay.
    return modulate(moved, pattern * gradient, cycle * shift, 0.0, workers=workers)


def _cycles(rng, times, mean_rate, rate_spread, spread):
    """Draw a rhythm: return its rate, how far each time is in its cycle (0 to 1), and the cycle's
    relative size.
    """
    rate = max(mean_rate + rate_spread * rng.standard_normal(), mean_rate / 2)
    phase = rng.random()
    period = 1 / rate
    n_cycles = int(np.ceil(1.5 * times.max() / period)) + 10
    # Each cycle has its own row of numbers, so that a longer scan begins with the same cycles.
    factors = np.maximum(1 + spread * rng.standard_normal((n_cycles, 2)), 0.3)
    durations = period * factors[:, 0]
    starts = np.cumsum(durations) - durations - phase * durations[0]
    cycle = np.searchsorted(starts, times, side="right") - 1
    place = (times - starts[cycle]) / durations[cycle]
    return rate, place, factors[cycle, 1]
