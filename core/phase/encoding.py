"""Phase as scanners store it, turned into radians; its sign; field units.

Every vendor stores phase in its own way, and a wrong scale or sign gives a map that looks plausible
and is wrong. So an encoding is recognised from what the sidecar says and from the ranges that
vendors are known to write, one scale serves all echoes, no image is ever stretched to fill the
circle, and what is not recognised is refused with a message that says what was found.
"""

from dataclasses import dataclass

import numpy as np

#: Gyromagnetic ratio of the proton over 2π, in MHz/T (CODATA 2018).
GYROMAGNETIC_RATIO = 42.577478

# Radians that a converter made from 12-bit integers can pass ±π by one step of 2π/4096.
_ROUNDING = 2 * np.pi / 4096

# Noise fills the circle, and even a masked head spans more than a radian at the shortest echo
# times.
_SMALLEST_SPAN = 0.5

# A range that fills this much of an encoding identifies it without help from the sidecar.
_NEARLY_ALL = 0.95
_KNOWN = (
    "Known encodings: radians within -π to π or 0 to 2π (Units 'rad'); Siemens integers 0 to 4095 "
    "and "
    "-4096 to 4095 (Units 'arbitrary', Manufacturer 'Siemens'); real and imaginary images."
)


class PhaseEncodingError(ValueError):
    """The stored numbers are not in a phase encoding that is known here."""


@dataclass(frozen=True)
class PhaseEncoding:
    """How stored numbers become radians: ``radians = scale * stored + offset``.

    Attributes
    ----------
    name : str
        Description for the sidecars of derivatives.
    kind : str
        In a word.
    scale : float
        Radians per stored unit.
    offset : float
        Radians that a stored zero stands for.
    """

    name: str
    kind: str
    scale: float
    offset: float

    def radians(self, stored):
        """Stored numbers, an ndarray of any shape, as phase in radians (float32)."""
        phase = stored.astype(np.float32)
        phase *= np.float32(self.scale)
        phase += np.float32(self.offset)
        return phase


RADIANS = PhaseEncoding("radians, -π to π", "radians", 1.0, 0.0)

# Kept as stored: phase is modulo 2π, and unwrapping does not care where the circle is cut.
POSITIVE_RADIANS = PhaseEncoding("radians, 0 to 2π", "radians", 1.0, 0.0)
BOTH_RADIANS = PhaseEncoding("radians, -π to π and 0 to 2π", "radians", 1.0, 0.0)
SIEMENS_UNSIGNED = PhaseEncoding("Siemens integers, 0 to 4095", "Siemens", 2 * np.pi / 4096, -np.pi)
SIEMENS_SIGNED = PhaseEncoding("Siemens integers, -4096 to 4095", "Siemens", np.pi / 4096, 0.0)
ENCODINGS = (RADIANS, POSITIVE_RADIANS, BOTH_RADIANS, SIEMENS_UNSIGNED, SIEMENS_SIGNED)


def wrap_phase(phase):
    """Subtract the nearest multiple of 2π.

    Parameters
    ----------
    phase : ndarray of floats
        Phase in radians, any shape.

    Returns
    -------
    ndarray
        Phase from -π to π, dtype as given.

    Examples
    --------
    >>> wrap_phase(np.array([7.0, -3.0])).round(3).tolist()
    [0.717, -3.0]
    """
    full_turn = phase.dtype.type(2 * np.pi)
    return phase - full_turn * np.rint(phase / full_turn)


def decode_phase(stored, *, units=None, manufacturer=None, echo_axis=None):
    """Turn stored phase into radians.

    Parameters
    ----------
    stored : ndarray
        The phase images of all echoes of a scan together, any shape: one encoding is decided on for
        all.
    units : str, optional
        The sidecar's ``Units``: 'rad' or 'arbitrary'.
    manufacturer : str, optional
        The sidecar's ``Manufacturer``.
    echo_axis : int, optional
        The axis along which echoes lie: of radians, some may be cut at ±π and others at 0.

    Returns
    -------
    phase : ndarray of float32
        Phase in radians, shape of ``stored``. Nothing but scale and offset is applied.
    encoding : PhaseEncoding
        What was decided.

    Raises
    ------
    PhaseEncodingError
        If values are not finite, if range and sidecar contradict each other, or if the encoding is
        unknown.

    Notes
    -----
    Units 'rad' are believed if the range is one that radians can have. Integers of a Siemens
    scanner are recognised by their range, which need not be used to its ends. Without ``units`` or
    ``manufacturer`` the range itself must identify the encoding, by filling at least 95 % of it.

    Examples
    --------
    >>> stored = np.array([[0, 1024], [2048, 4095]])
    >>> phase, encoding = decode_phase(stored, units="arbitrary", manufacturer="Siemens")
    >>> encoding.name
    'Siemens integers, 0 to 4095'
    >>> phase.round(3).tolist()
    [[-3.1419999599456787, -1.5709999799728394], [0.0, 3.140000104904175]]
    """
    stored = np.asarray(stored)
    _refuse_not_finite(stored)
    found = _describe(stored, units, manufacturer)
    echoes = [stored] if echo_axis is None else np.moveaxis(stored, echo_axis, 0)
    radians = _radians([(float(echo.min()), float(echo.max())) for echo in echoes])
    encoding = _recognise(stored, units, manufacturer, radians, found)
    _refuse_tiny_span(stored, encoding, found)
    return encoding.radians(stored), encoding


def from_real_imaginary(real, imaginary):
    """Magnitude and phase of real and imaginary images.

    Parameters
    ----------
    real, imaginary : ndarray
        Images of one shape, in one (any) unit.

    Returns
    -------
    magnitude : ndarray of float32
        In the images' unit.
    phase : ndarray of float32
        In radians, -π to π.

    Raises
    ------
    PhaseEncodingError
        If shapes differ or values are not finite.

    Examples
    --------
    >>> magnitude, phase = from_real_imaginary(np.array([3.0]), np.array([4.0]))
    >>> float(magnitude[0]), round(float(phase[0]), 4)
    (5.0, 0.9273)
    """
    real = np.asarray(real, dtype=np.float32)
    imaginary = np.asarray(imaginary, dtype=np.float32)
    if real.shape != imaginary.shape:
        raise PhaseEncodingError(
            f"Real {real.shape} and imaginary {imaginary.shape} images differ in shape."
        )
    _refuse_not_finite(real)
    _refuse_not_finite(imaginary)
    return np.hypot(real, imaginary), np.arctan2(imaginary, real)


def default_sign(manufacturer=None):
    """Sign that makes phase grow with a positive field, by vendor.

    Parameters
    ----------
    manufacturer : str, optional
        The sidecar's ``Manufacturer``.

    Returns
    -------
    sign : int
        -1 for GE, whose phase runs the other way, otherwise +1.
    reason : str
        How it was decided, for the sidecars of derivatives.

    Examples
    --------
    >>> default_sign("GE MEDICAL SYSTEMS")
    (-1, "-1: Manufacturer is 'GE MEDICAL SYSTEMS', whose phase falls where the field is higher")
    """
    if not manufacturer:
        return 1, "+1: assumed, since the sidecar names no Manufacturer"
    if manufacturer.strip().upper().split()[:1] in (["GE"], ["GENERAL"]):
        return (
            -1,
            f"-1: Manufacturer is {manufacturer!r}, whose phase falls where the field is higher",
        )
    return 1, f"+1: the default for Manufacturer {manufacturer!r}"


def apply_sign(phase, sign):
    """Phase times +1 or -1.

    Parameters
    ----------
    phase : ndarray
        Phase in radians, any shape.
    sign : {1, -1}
        As from `default_sign` or from the user.

    Returns
    -------
    ndarray
        Shape and dtype of ``phase``.

    Raises
    ------
    ValueError
        If the sign is neither.
    """
    if sign not in (1, -1):
        raise ValueError(f"a phase sign is 1 or -1, not {sign!r}")
    return phase if sign == 1 else -phase


def ppm_to_hz(field, centre_frequency):
    """Field in ppm of B0 to Hz.

    Parameters
    ----------
    field : ndarray or float
        In ppm.
    centre_frequency : float
        In MHz: the sidecar's ``ImagingFrequency``, or `GYROMAGNETIC_RATIO` times the field
        strength.

    Returns
    -------
    ndarray or float
        In Hz.

    Examples
    --------
    >>> ppm_to_hz(0.5, 123.2)
    61.6
    """
    return field * centre_frequency


def _recognise(stored, units, manufacturer, radians, found):
    """The encoding; `radians` is the one that it would be if the values were radians, or None."""
    low = float(stored.min())
    high = float(stored.max())
    whole = _holds_integers(stored)
    if units == "rad":
        if whole:
            raise PhaseEncodingError(
                f"{found} Integers are no radians: correct Units or image. {_KNOWN}"
            )
        if radians:
            return radians
        raise PhaseEncodingError(
            f"{found} Radians of a wrapped phase do not reach so far. {_KNOWN}"
        )
    if units not in (None, "arbitrary"):
        raise PhaseEncodingError(f"{found} These Units mean nothing for phase. {_KNOWN}")
    if units is None and not whole and high - low >= _NEARLY_ALL * 2 * np.pi and radians:
        return radians
    if whole and (encoding := _siemens(low, high, manufacturer)):
        return encoding
    raise PhaseEncodingError(
        f"{found} This does not identify an encoding. If the vendor's scale is known, convert the "
        "image to "
        f"radians and set Units to 'rad' in its sidecar. {_KNOWN}"
    )


def _radians(ranges):
    """The encoding that radians of these lowest and highest values are in, echo by echo, or
    None.
    """
    around_zero = [-np.pi - _ROUNDING <= low and high <= np.pi + _ROUNDING for low, high in ranges]
    positive = [low >= -_ROUNDING and high <= 2 * np.pi + _ROUNDING for low, high in ranges]
    if all(around_zero):
        return RADIANS
    if all(positive):
        return POSITIVE_RADIANS
    return BOTH_RADIANS if all(map(any, zip(around_zero, positive, strict=True))) else None


def _siemens(low, high, manufacturer):
    named = bool(manufacturer) and manufacturer.strip().upper().startswith("SIEMENS")
    if manufacturer and not named:
        return None
    # Phase lies around the encoding's centre; a range on one side of it belongs to some other
    # encoding, and one within ±2048 may be another vendor's or converter's 12 bits.
    if 0 <= low < 2048 < high <= 4095:
        encoding = SIEMENS_UNSIGNED
        filled = (high - low) / 4095
    elif -4096 <= low < 0 < high <= 4096 and max(-low, high) > 2048:
        encoding = SIEMENS_SIGNED
        filled = (high - low) / 8190
    else:
        return None
    return encoding if named or filled >= _NEARLY_ALL else None


def _holds_integers(stored):
    if np.issubdtype(stored.dtype, np.integer):
        return True
    return bool(stored.any()) and np.array_equal(stored, np.rint(stored))


def _describe(stored, units, manufacturer):
    kind = "integers" if _holds_integers(stored) else "values"
    return (
        f"Phase holds {kind} from {stored.min():.6g} to {stored.max():.6g}; the sidecar says "
        f"Units {units!r}, Manufacturer {manufacturer!r}."
    )


def _refuse_not_finite(stored):
    if stored.size == 0:
        raise PhaseEncodingError("The image is empty.")
    if n_bad := stored.size - np.count_nonzero(np.isfinite(stored)):
        raise PhaseEncodingError(
            f"{n_bad} of {stored.size} values are NaN or infinite. Set them to 0 in phase and "
            "magnitude: the "
            "mask then leaves these voxels out."
        )


def _refuse_tiny_span(stored, encoding, found):
    span = float(stored.max() - stored.min()) * encoding.scale
    if span < _SMALLEST_SPAN:
        raise PhaseEncodingError(
            f"{found} As {encoding.name} that is a span of {span:.3g} rad, which no phase image "
            "has. A stray "
            "scl_slope in the NIfTI header is the usual cause: remove it, or convert the image to "
            "radians."
        )
