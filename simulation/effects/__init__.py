"""What makes a simulated scan rougher than the ideal one: physiology, the scanner, the object.

Each effect is a frozen dataclass of amplitudes with their sources, and can be switched on alone.
Its random numbers depend on the seed of the scan (or of the session or the person, for what stays
the same) and the effect's name only, so that switching one effect on or off leaves the others, and
the ideal part of the scan, as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from ..names import EFFECTS, HEAD_ONLY, PHANTOM_ONLY
from .coils import Coils, MultichannelNoise
from .flow import Flow
from .gradients import Bipolar, EddyCurrents
from .motion import Motion
from .pathology import Pathology
from .phantom_defects import PhantomDefects
from .physiology import Breathing, Pulsation
from .skull_base import SkullBase
from .swallowing import Swallowing
from .temperature import Temperature
from .truncation import Truncation
from .white_matter import Anisotropy, Microstructure

IDEAL_DRAWS = 4  # shim, coil, flow and noise of the ideal scan have the first seeds


@dataclass(frozen=True)
class Effects:
    """The effects of a scan; None, the default of each, leaves one out."""

    breathing: Breathing | None = None
    pulsation: Pulsation | None = None
    motion: Motion | None = None
    truncation: Truncation | None = None
    flow: Flow | None = None
    eddy_currents: EddyCurrents | None = None
    bipolar: Bipolar | None = None
    coils: Coils | None = None
    noise: MultichannelNoise | None = None
    anisotropy: Anisotropy | None = None
    microstructure: Microstructure | None = None
    pathology: Pathology | None = None
    skull_base: SkullBase | None = None
    phantom_defects: PhantomDefects | None = None
    temperature: Temperature | None = None
    swallowing: Swallowing | None = None

    def only(self, *names: str) -> "Effects":
        """Return these effects with all but the named ones left out.

        Raises
        ------
        ValueError
            If no effect has one of these names.
        """
        return self.without(*(set(self.amplitudes()) - self._checked(names)))

    def without(self, *names: str) -> "Effects":
        """Return these effects with the named ones left out.

        Raises
        ------
        ValueError
            If no effect has one of these names.
        """
        return replace(self, **dict.fromkeys(self._checked(names)))

    def of(self, model: str) -> "Effects":
        """Return the effects that an object has, a ``head`` or a ``phantom``."""
        if model != "phantom":
            return self.without(*PHANTOM_ONLY)
        effects = self.without(*HEAD_ONLY)
        if effects.coils is None:
            return effects
        return replace(effects, coils=effects.coils.around_phantom())

    def amplitudes(self) -> dict[str, object]:
        """Return the parameters of each effect by its name; None where it is left out."""
        return {effect.name: getattr(self, effect.name) for effect in fields(self)}

    def switched_on(self) -> list[str]:
        """Return the names of the effects that are not left out."""
        return [name for name, effect in self.amplitudes().items() if effect is not None]

    def _checked(self, names):
        unknown = set(names) - set(self.amplitudes())
        if unknown:
            raise ValueError(
                f"no effect is called {', '.join(sorted(unknown))}: choose from "
                f"{', '.join(self.amplitudes())}"
            )
        return set(names)


IDEAL = Effects()
ROUGH = Effects(
    breathing=Breathing(),
    pulsation=Pulsation(),
    motion=Motion(),
    truncation=Truncation(),
    flow=Flow(),
    eddy_currents=EddyCurrents(),
    coils=Coils(),
    noise=MultichannelNoise(),
    anisotropy=Anisotropy(),
    microstructure=Microstructure(),
    pathology=Pathology(),
    skull_base=SkullBase(),
    phantom_defects=PhantomDefects(),
    temperature=Temperature(),
)

# Also those that are there on request only: the readout of the studies is unipolar, and a swallow
# while the middle of k-space is acquired spoils a scan.
ALL = replace(ROUGH, bipolar=Bipolar(), swallowing=Swallowing())


def effect_generator(seed: int | Sequence[int], name: str) -> np.random.Generator:
    """Return the random generator of one effect of a scan, independent of all other draws.

    Parameters
    ----------
    seed : int or sequence of int
        Seed of the scan.
    name : str
        Name of the effect, one of `multiqsm.simulation.names.EFFECTS`.
    """
    key = (IDEAL_DRAWS + EFFECTS.index(name),)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


Records = dict[str, Mapping[str, object]]
