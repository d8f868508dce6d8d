"""The encodings in which scanners and converters store phase, and the names of its units."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PhaseEncoding:
    """Conversion of stored values to radians: ``radians = scale * stored + offset``.

    Attributes
    ----------
    name : str
        Description for the sidecars of derivatives.
    kind : str
        Short name: 'radians', 'mrad', 'degrees' or the vendor.
    scale : float
        Radians per stored unit.
    offset : float
        Phase of a stored zero, radians.
    """

    name: str
    kind: str
    scale: float
    offset: float

    def radians(self, stored: np.ndarray) -> np.ndarray:
        """Convert stored values, an ndarray of any shape, to phase in radians (float32)."""
        phase = stored.astype(np.float32)
        phase *= np.float32(self.scale)
        phase += np.float32(self.offset)
        return phase


RADIANS = PhaseEncoding("radians, -π to π", "radians", 1.0, 0.0)

# Both ranges of radians are used as stored: unwrapping gives the same field for either.
POSITIVE_RADIANS = PhaseEncoding("radians, 0 to 2π", "radians", 1.0, 0.0)
BOTH_RADIANS = PhaseEncoding("radians, -π to π and 0 to 2π", "radians", 1.0, 0.0)
SIEMENS_UNSIGNED = PhaseEncoding("Siemens integers, 0 to 4095", "Siemens", 2 * np.pi / 4096, -np.pi)
SIEMENS_SIGNED = PhaseEncoding("Siemens integers, -4096 to 4095", "Siemens", np.pi / 4096, 0.0)
PHILIPS_UNSIGNED = PhaseEncoding("Philips integers, 0 to 4095", "Philips", 2 * np.pi / 4095, -np.pi)
MILLIRADIANS = PhaseEncoding("milliradians, -3142 to 3142", "mrad", 1e-3, 0.0)
POSITIVE_MILLIRADIANS = PhaseEncoding("milliradians, 0 to 6283", "mrad", 1e-3, 0.0)
DEGREES = PhaseEncoding("degrees, -180 to 180", "degrees", np.pi / 180, 0.0)
POSITIVE_DEGREES = PhaseEncoding("degrees, 0 to 360", "degrees", np.pi / 180, 0.0)
ENCODINGS = (
    RADIANS,
    POSITIVE_RADIANS,
    BOTH_RADIANS,
    SIEMENS_UNSIGNED,
    SIEMENS_SIGNED,
    PHILIPS_UNSIGNED,
    MILLIRADIANS,
    POSITIVE_MILLIRADIANS,
    DEGREES,
    POSITIVE_DEGREES,
)

# The ways to write a unit, by its symbol.
_UNITS_OF_WORD = {
    "rad": "rad",
    "radian": "rad",
    "radians": "rad",
    "mrad": "mrad",
    "milliradian": "mrad",
    "milliradians": "mrad",
    "deg": "deg",
    "degree": "deg",
    "degrees": "deg",
    "°": "deg",
    "arbitrary": "arbitrary",
    "arb": "arbitrary",
    "au": "arbitrary",
    "a.u.": "arbitrary",
}


def phase_units(units: str | None) -> str | None:
    """Return the symbol of a unit of phase, whatever the way in which it is written.

    Parameters
    ----------
    units : str or None
        The sidecar's ``Units``.

    Returns
    -------
    str or None
        'rad', 'mrad', 'deg' or 'arbitrary'; an unknown unit as it is, and None if there is none.

    Examples
    --------
    >>> phase_units("Radians"), phase_units("rad"), phase_units("Hz")
    ('rad', 'rad', 'Hz')
    """
    if units is None or not units.strip():
        return None
    return _UNITS_OF_WORD.get(units.strip().casefold(), units)
