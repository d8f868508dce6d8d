"""Phase that gradients leave in single echoes: eddy currents, and readouts of either polarity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..grid import along_axis
from ..harmonics import polynomial
from .lines import READOUT_AXIS


@dataclass(frozen=True)
class EddyCurrents:
    """Smooth phase of single echoes, greatest at the first one.

    The gradients before the first echo differ from those between echoes. Their eddy currents add
    the phase a(x) exp(-(TE - TE1)/τ), a being a sum of solid harmonics to second order. That
    errors are greatest at the first echo of a unipolar train is known from fat-water imaging
    (Hernando et al., Magn Reson Med 67:638, 2012).

    Parameters
    ----------
    amplitude : float
        Standard deviation (rad) of each harmonic's coefficient, in units of 100 mm. With `decay`,
        it gives the second difference of phase that we measured in a real unipolar scan of echoes
        at 4, 8 and 12 ms (the test data of ROMEO, Dymerska et al., Magn Reson Med 85:2294, 2021):
        .018 rad in the mean and .02 to .03 rad from end to end of a region of 40 mm.
    decay : float
        Time constant τ, s; our choice.
    """

    amplitude: float = 0.08
    decay: float = 0.006

    def apply(
        self,
        images: np.ndarray,
        echo_times: Sequence[float],
        affine: np.ndarray,
        rng: np.random.Generator,
    ) -> Mapping[str, list[float]]:
        """Add the phase to images in place, and return what was drawn.

        Parameters
        ----------
        images : ndarray of complex64, shape (n_echoes, x, y, z)
            Images of all echoes.
        echo_times : sequence of float
            Echo times, s.
        affine : ndarray, shape (4, 4)
            From voxels to the scanner's axes, mm.
        rng : numpy.random.Generator
            Draws the coefficients.
        """
        coefficients = self.amplitude * rng.standard_normal(9)
        phase = polynomial(coefficients, affine, images.shape[1:])
        for image, echo_time in zip(images, echo_times, strict=True):
            remainder = np.exp((echo_times[0] - echo_time) / self.decay)
            image *= unit_phasor(phase * np.float32(remainder))
        return {"HarmonicPhaseOfFirstEcho": coefficients.tolist()}


@dataclass(frozen=True)
class Bipolar:
    """Readout gradients of alternating polarity, with the phase of their delays.

    The second echo and every second one after it has the phase of an offset and of a linear ramp
    along the readout (Li et al., MAGMA 28:347, 2015, who found this form in vivo). The shift of
    these echoes by the field, in the opposite direction, is left out.

    Parameters
    ----------
    offset : float
        Phase in the middle of the image, rad; our choice.
    ramp : float
        Its change from end to end of the image, rad; our choice.
    axis : int
        Axis of the readout.
    """

    offset: float = 0.6
    ramp: float = 1.2
    axis: int = READOUT_AXIS

    def apply(self, images: np.ndarray) -> Mapping[str, object]:
        """Add the phase to images, shape (n_echoes, x, y, z), in place, and return its size."""
        images[1::2] *= along_axis(unit_phasor(self._line(images.shape[1:])), self.axis)
        return {"Offset": self.offset, "Ramp": self.ramp, "Axis": self.axis}

    def phase(self, shape: Sequence[int]) -> np.ndarray:
        """Return the phase (rad) of the even echoes of an image of some shape, as float32."""
        return np.broadcast_to(along_axis(self._line(shape), self.axis), shape)

    def _line(self, shape):
        n = shape[self.axis]
        place = ((np.arange(n) + 0.5) / n - 0.5).astype(np.float32)
        return np.float32(self.offset) + np.float32(self.ramp) * place


def unit_phasor(phase: np.ndarray) -> np.ndarray:
    """Return exp(i · phase) as complex64; its parts take less time than the complex function."""
    phasor = np.empty(phase.shape, np.complex64)
    phasor.real = np.cos(phase)
    phasor.imag = np.sin(phase)
    return phasor
