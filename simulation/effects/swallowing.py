"""Swallowing: the pharynx closes, and the field of its air is gone for a moment."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from ..field import point_dipole
from .lines import LINE_AXES

AIR = 9.4  # ppm, susceptibility of air relative to tissue as in ``head.json``
NEAREST = 20.0  # mm from the air's middle, where there is no brain


@dataclass(frozen=True)
class Swallowing:
    """The pharynx, an airway otherwise, is closed while someone swallows.

    Its air, a few centimetres below the brain stem, has the field of a dipole, which is missing in
    the lines of k-space that are acquired meanwhile. The change is greatest in the lower brain.

    Parameters
    ----------
    volume : float
        Air that leaves the pharynx, mL; the mean of all people.
    volume_spread : float
        Relative standard deviation between people.
    rate : float
        Swallows per minute, the median of all people. Swallows are independent of each other.
    rate_spread : float
        Standard deviation of the rate's logarithm between people.
    duration : float
        How long the pharynx is closed, s.
    ahead, depth : float
        From the brain's centre to the front and down to the middle of that air, mm.

    Notes
    -----
    Size: young healthy people swallow 0.98 times a minute without food (meta-analysis of Bulmer et
    al. 2021; confidence interval 0.67 to 1.42). In real-time images the pharynx closes from the
    soft palate to the epiglottis (Olthoff et al. 2014). Its volume of 8 mL, 1.5 cm² times 5 cm, the
    duration and all spreads are our choice. On the axis, at 60 mm, the field of 8 mL is
    2 · 9.4 ppm · 8000 mm³ / (4π · 60³ mm³) = 0.055 ppm. That swallowing changes the field of the
    lower brain: Birn et al. 1998.

    What is left out: movements of tongue, jaw and larynx, and of the head with them.

    References
    ----------
    Birn RM et al. Magnetic field changes in the human brain due to swallowing or speaking. Magn
    Reson Med 40:55-60 (1998).
    Bulmer JM et al. Evaluation of spontaneous swallow frequency. Gerontol Geriatr Med 7 (2021).
    doi:10.1177/23337214211041801
    Olthoff A et al. On the physiology of normal swallowing as revealed by magnetic resonance
    imaging in real time. Gastroenterol Res Pract 2014:493174 (2014).
    """

    volume: float = 8.0
    volume_spread: float = 0.2
    rate: float = 0.98
    rate_spread: float = 0.4
    duration: float = 0.8
    ahead: float = 12.0
    depth: float = 75.0

    def of_person(self, rng: np.random.Generator) -> "Swallowing":
        """Draw a person's pharynx and rate: return the swallowing with these."""
        volume = self.volume * max(1 + self.volume_spread * float(rng.standard_normal()), 0.2)
        rate = self.rate * float(np.exp(self.rate_spread * rng.standard_normal()))
        return replace(self, volume=volume, rate=rate)

    def change(self, affine: np.ndarray, shape: tuple, centre: np.ndarray) -> np.ndarray:
        """Return what the field changes by while the pharynx is closed.

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
            -Δχ V (3 cos²θ - 1) / (4π r³), ppm, r and θ being those from the middle of the air.
        """
        place = np.add(centre, (0, self.ahead, -self.depth))
        moment = -AIR * self.volume * 1e3 / 1e6 / (4 * np.pi)  # ppm · (100 mm)³
        return point_dipole(affine, shape, place, moment, nearest=NEAREST)

    def draw(
        self, rng: np.random.Generator, times: np.ndarray
    ) -> tuple[np.ndarray, dict[str, object]]:
        """Draw the swallows of one scan.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws when they begin.
        times : ndarray
            Times of the lines, s from the scan's beginning.

        Returns
        -------
        is_closed : ndarray of bool
            Whether the pharynx is closed at these times.
        record : dict
            What was drawn.
        """
        last = float(times.max())
        begins = [float(rng.exponential(60 / self.rate)) - self.duration]
        while begins[-1] <= last:
            begins.append(begins[-1] + float(rng.exponential(60 / self.rate)))
        begins.pop()
        is_closed = np.zeros(times.shape, bool)
        for begin in begins:
            is_closed |= (times >= begin) & (times < begin + self.duration)
        record = {
            "Volume": round(self.volume, 3),
            "Rate": round(self.rate, 3),
            "Times": np.round(begins, 2).tolist(),
        }
        return is_closed, record


def close_pharynx(
    image: np.ndarray,
    change: np.ndarray,
    is_closed: np.ndarray,
    cycle: float,
    *,
    workers: int = 1,
) -> np.ndarray:
    """Return an image of which some lines of k-space were acquired in another field.

    Parameters
    ----------
    image : ndarray of complex64, shape (x, y, z)
        Image in the usual field.
    change : ndarray of float32, shape (x, y, z)
        What the field of those lines has in addition, ppm.
    is_closed : ndarray of bool, shape (n_phase, n_slice)
        Those lines, in the order of the FFT.
    cycle : float
        Phase (rad) of 1 ppm at the echo time.
    workers : int
        Number of threads of the Fourier transforms.

    Returns
    -------
    ndarray of complex64, shape (x, y, z)
    """
    phase = np.float32(cycle) * change
    turned = image * (np.cos(phase) + 1j * np.sin(phase))
    kspace = fft.fftn(image, axes=LINE_AXES, workers=workers)
    other = fft.fftn(turned, axes=LINE_AXES, workers=workers, overwrite_x=True)
    np.copyto(kspace, other, where=is_closed[:, None, :])
    return fft.ifftn(kspace, axes=LINE_AXES, workers=workers, overwrite_x=True)
