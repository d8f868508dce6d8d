"""A phantom that is not at the temperature of the room: frequency and susceptibility drift."""

from dataclasses import dataclass, replace

import numpy as np

from ...core.grid import Vector
from ..grid import affine_row, block_mean, index_grid, subgrid_affine
from ..phantom import RADIUS
from ..protocol import Protocol
from ..specimen import Specimen

ROOM = 293.15  # K, at which the solutions have their nominal susceptibility


@dataclass(frozen=True)
class Temperature:
    """How a phantom's temperature differs from that of the room, and drifts towards it.

    Parameters
    ----------
    start_sd : float
        Standard deviation of the phantom's temperature less the room's at the beginning of a
        session, K. Our choice: a store and a magnet room differ by that much.
    time_constant : float
        Time in which the difference falls to 37 %, s. Five litres of water with 0.16 m² of surface
        in still air (8 W/m² K) need 4.5 h.
    core_excess : float
        Difference between the axis and the rim of the water, relative to the mean difference from
        the room. Our choice: without convection it would be about one half.
    coefficient : float
        Change of the water's frequency, ppm/K (Ishihara et al., Magn Reson Med 34:814, 1995;
        Hindman, J Chem Phys 44:4582, 1966).
    pause : float
        Time between two scans, s.
    """

    start_sd: float = 2.0
    time_constant: float = 16000.0
    core_excess: float = 0.2
    coefficient: float = -0.01
    pause: float = 60.0


@dataclass(frozen=True)
class ThermalState:
    """A phantom's temperature during one scan.

    Parameters
    ----------
    start, excess, change : float
        Mean temperature less the room's, K: at the beginning of the session, when the centre
        frequency was set, and in the middle of the scan; and its change during the scan.
    core_excess, coefficient : float
        See `Temperature`.
    """

    start: float
    excess: float
    change: float
    core_excess: float
    coefficient: float

    @property
    def susceptibility_factor(self) -> float:
        """Susceptibility of gadolinium relative to its nominal one, by Curie's law."""
        return ROOM / (ROOM + self.excess)

    @property
    def offset(self) -> float:
        """Mean offset of the frequency since the session began, ppm."""
        return self.coefficient * (self.excess - self.start)

    @property
    def drift(self) -> float:
        """Change of the frequency from the first to the last line of k-space, ppm."""
        return self.coefficient * self.change

    @property
    def record(self) -> dict[str, float]:
        """What the truth's sidecar states."""
        return {
            "TemperatureAboveRoom": self.excess,
            "FrequencyOffset": self.offset,
            "FrequencyDrift": self.drift,
            "SusceptibilityFactor": self.susceptibility_factor,
        }

    def warm(self, specimen: Specimen, pose: np.ndarray) -> Specimen:
        """Add the frequency of water that is warmer on the axis than at the rim.

        Its mean over a cross-section is 0: the mean is `offset`.

        Parameters
        ----------
        specimen : Specimen
            The phantom in the magnet.
        pose : ndarray, shape (4, 4)
            Rigid transform from the phantom's coordinates to the scanner's axes.
        """
        corner: Vector = specimen.corner
        fine = subgrid_affine(specimen.affine, specimen.oversampling, corner)
        to_phantom = np.linalg.inv(pose) @ fine
        grid = index_grid(tuple(map(slice, (0, 0, 0), specimen.total_field.shape)))
        x, y = (affine_row(row / RADIUS, grid) for row in to_phantom[:2])
        amplitude = self.coefficient * self.core_excess * self.excess
        profile = np.float32(amplitude) * (np.float32(0.5) - x * x - y * y)
        added = profile * (specimen.tissue.pd > 0)
        effect_fields = {
            **specimen.effect_fields,
            "temperature": block_mean(added, specimen.oversampling),
        }
        return replace(
            specimen, total_field=specimen.total_field + added, effect_fields=effect_fields
        )


def thermal_state(
    temperature: Temperature, protocol: Protocol, run: int, rng: np.random.Generator
) -> ThermalState:
    """Return the temperature of a phantom in one scan of a session.

    Parameters
    ----------
    temperature : Temperature
        Its distribution and course.
    protocol : Protocol
        The sequence, one excitation for each line of k-space.
    run : int
        Number of the scan in its session, from 1.
    rng : numpy.random.Generator
        Draws the temperature at the beginning of the session.
    """
    start = temperature.start_sd * float(rng.standard_normal())
    duration = protocol.repetition_time * protocol.shape[1] * protocol.shape[2]
    begin = (run - 1) * (duration + temperature.pause)

    def excess(time: float) -> float:
        return start * float(np.exp(-time / temperature.time_constant))

    return ThermalState(
        start=start,
        excess=excess(begin + duration / 2),
        change=excess(begin + duration) - excess(begin),
        core_excess=temperature.core_excess,
        coefficient=temperature.coefficient,
    )
