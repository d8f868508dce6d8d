"""Decode stored phase to radians; the sign of phase; units of the field.

Every vendor stores phase in its own way, and a wrong scale or sign gives a map that looks plausible
but is wrong. An encoding is therefore recognised by the sidecar's metadata and the ranges that
vendors write. All echoes are decoded with the same scale, and no image is stretched to fill 2π. An
encoding that is not recognised is refused, with a message that describes the stored values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .encodings import (
    BOTH_RADIANS,
    DEGREES,
    MILLIRADIANS,
    PHILIPS_UNSIGNED,
    POSITIVE_DEGREES,
    POSITIVE_MILLIRADIANS,
    POSITIVE_RADIANS,
    RADIANS,
    SIEMENS_SIGNED,
    SIEMENS_UNSIGNED,
    PhaseEncoding,
    phase_units,
)
from .vendors import vendor

#: Gyromagnetic ratio of the proton over 2π, in MHz/T (CODATA 2018).
GYROMAGNETIC_RATIO = 42.577478

# Radians that were converted from 12-bit integers may exceed ±π by one step of 2π/4096.
_ROUNDING = 2 * np.pi / 4096

# Smallest plausible range of a phase image, rad. Noise covers all of 2π, and even a masked head
# spans more than a radian at the shortest echo times.
_SMALLEST_SPAN = 0.5

# Milliradians are rounded to whole numbers, or scaled from 12 bits with an intercept of -3142.
_MILLIRADIAN_ROUNDING = 2e-3  # rad

# Values that cover this fraction of an encoding's range identify it without metadata.
_NEARLY_ALL = 0.95


@dataclass(frozen=True)
class _Reason:
    """Why values are refused, and the remedy: for an array, and for an image with a sidecar."""

    cause: str
    for_array: str
    for_image: str


_INTEGERS = _Reason(
    "Integers cannot be radians:",
    "pass the units and the manufacturer of the stored values.",
    "correct Units in the sidecar, or replace the image.",
)
_RANGE = _Reason(
    "Wrapped phase in radians does not have such a range:",
    "check the units.",
    "correct Units in the sidecar, or replace the image.",
)
_UNITS = _Reason(
    "Phase cannot have these units:",
    "pass 'rad' or 'arbitrary', or else 'mrad' or 'deg'.",
    "correct Units in the sidecar.",
)
_OTHER_UNITS = _Reason(
    "Wrapped phase in these units does not have such a range:",
    "check the units.",
    "correct Units in the sidecar, or replace the image.",
)
_SIEMENS_MILLIRADIANS = _Reason(
    "A Siemens scanner's phase does not fill this range, but that of milliradians does:",
    "pass units='mrad' if that is their unit.",
    "set Units to 'mrad' in the sidecar if that is their unit; otherwise convert the image to "
    "radians and set Units to 'rad'.",
)
_UNIDENTIFIED = _Reason(
    "This does not identify an encoding. If you know the vendor's scale,",
    "convert to radians and pass units='rad'.",
    "convert the image to radians and set Units to 'rad' in its sidecar.",
)


class PhaseEncodingError(ValueError):
    """The stored values are in no supported phase encoding.

    Parameters
    ----------
    message : str
        For the caller of a function of arrays.
    for_image : str, optional
        For the user whose image and sidecar hold the values and their units. By default, the
        message.
    """

    def __init__(self, message: str, for_image: str | None = None) -> None:
        super().__init__(message)
        self.for_image = message if for_image is None else for_image


# Manufacturers whose phase images are in milliradians.
_IN_MILLIRADIANS = ("GE", "Philips")


def wrap_phase(phase: np.ndarray) -> np.ndarray:
    """Wrap phase to the range from -π to π by subtracting the nearest multiple of 2π.

    Parameters
    ----------
    phase : ndarray of floats
        Phase in radians, any shape.

    Returns
    -------
    ndarray
        Phase from -π to π, in the dtype of the input.

    Examples
    --------
    >>> wrap_phase(np.array([7.0, -3.0])).round(3).tolist()
    [0.717, -3.0]
    """
    period = phase.dtype.type(2 * np.pi)
    return phase - period * np.rint(phase / period)


def decode_phase(
    stored: np.ndarray,
    *,
    units: str | None = None,
    manufacturer: str | None = None,
    echo_axis: int | None = None,
) -> tuple[np.ndarray, PhaseEncoding]:
    """Recognise the encoding of stored phase and convert it to radians.

    Parameters
    ----------
    stored : ndarray
        Phase images of all echoes of a scan, any shape. All echoes have the same encoding.
    units : str, optional
        Of the stored values, as in BIDS sidecars: 'rad' or 'arbitrary'. 'mrad' and 'deg' are
        accepted as well.
    manufacturer : str, optional
        The sidecar's ``Manufacturer``.
    echo_axis : int, optional
        The axis of the echoes. With it, some echoes in radians may range from -π to π and others
        from 0 to 2π.

    Returns
    -------
    phase : ndarray of float32
        Phase in radians, shape of ``stored``. Only scale and offset are applied.
    encoding : PhaseEncoding
        The encoding that was recognised.

    Raises
    ------
    PhaseEncodingError
        If values are not finite, range and metadata contradict each other, or the encoding is not
        recognised.

    Notes
    -----
    Units 'rad' are accepted if all values are possible for radians, and so are 'mrad' and 'deg'.
    Integers of a Siemens scanner, and milliradians of GE and Philips, are recognised by their
    range, of which they may cover only a part. Without ``units`` or ``manufacturer``, and for
    milliradians of other manufacturers, the values themselves must identify the encoding: they must
    cover at least 95 % of its range.

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
    echoes = stored[np.newaxis] if echo_axis is None else np.moveaxis(stored, echo_axis, 0)
    radians = _encoding_of_radians(echoes)
    encoding = _recognise(stored, units, manufacturer, radians)
    _refuse_tiny_span(stored, encoding, units, manufacturer)
    return encoding.radians(stored), encoding


def from_real_imaginary(real: ArrayLike, imaginary: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Compute magnitude and phase from real and imaginary images.

    Parameters
    ----------
    real, imaginary : ndarray
        Images of the same shape, in the same (arbitrary) unit.

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
            f"Real {real.shape} and imaginary {imaginary.shape} images differ in shape. Check that "
            "they belong together."
        )
    _refuse_not_finite(real)
    _refuse_not_finite(imaginary)
    return np.hypot(real, imaginary), np.arctan2(imaginary, real)


def default_sign(manufacturer: str | None = None) -> tuple[int, str]:
    """Return the sign with which a vendor's phase increases with the field.

    Parameters
    ----------
    manufacturer : str, optional
        The sidecar's ``Manufacturer``.

    Returns
    -------
    sign : int
        -1 for GE, whose phase decreases with the field, otherwise +1.
    reason : str
        Explanation, for the sidecars of derivatives.

    Examples
    --------
    >>> default_sign("GE MEDICAL SYSTEMS")
    (-1, "-1: Manufacturer is 'GE MEDICAL SYSTEMS', whose phase falls where the field is higher")
    """
    if not manufacturer:
        return 1, "+1: assumed, since the sidecar names no Manufacturer"
    if vendor(manufacturer) == "GE":
        return (
            -1,
            f"-1: Manufacturer is {manufacturer!r}, whose phase falls where the field is higher",
        )
    return 1, f"+1: the default for Manufacturer {manufacturer!r}"


def apply_sign(phase: np.ndarray, sign: int) -> np.ndarray:
    """Multiply phase by +1 or -1.

    Parameters
    ----------
    phase : ndarray
        Phase in radians, any shape.
    sign : {1, -1}
        From `default_sign` or from the user.

    Returns
    -------
    ndarray
        Shape and dtype of ``phase``.

    Raises
    ------
    ValueError
        If the sign is neither 1 nor -1.
    """
    if sign not in (1, -1):
        raise ValueError(f"a phase sign is 1 or -1, not {sign!r}")
    return phase if sign == 1 else -phase


def ppm_to_hz(field: np.ndarray | float, centre_frequency: float) -> np.ndarray | float:
    """Convert a field from ppm of B0 to Hz.

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


def _recognise(stored, units, manufacturer, radians):
    """Return the encoding; `radians` is the one for values in radians, None if they cannot be."""
    low = float(stored.min())
    high = float(stored.max())
    is_integer = _holds_integers(stored)
    written_units = units
    units = phase_units(units)
    if units == "rad":
        if radians and not is_integer:
            return radians
        raise _refusal(stored, units, manufacturer, _INTEGERS if is_integer else _RANGE)
    if units in ("mrad", "deg"):
        if encoding := _encoding_in_units(low, high, units):
            return encoding
        raise _refusal(stored, written_units, manufacturer, _OTHER_UNITS)
    if units not in (None, "arbitrary"):
        raise _refusal(stored, units, manufacturer, _UNITS)
    if units is None and not is_integer and high - low >= _NEARLY_ALL * 2 * np.pi and radians:
        return radians
    if encoding := _milliradians(low, high, manufacturer):
        if vendor(manufacturer) == "Siemens":
            raise _refusal(stored, units, manufacturer, _SIEMENS_MILLIRADIANS)
        return encoding
    if is_integer and (encoding := _integers_of_vendor(low, high, manufacturer)):
        return encoding
    raise _refusal(stored, units, manufacturer, _UNIDENTIFIED)


def _encoding_of_radians(echoes):
    """Return the encoding of values in radians, or None if they exceed its range.

    The first axis of `echoes` is that of the echoes.
    """
    image_axes = tuple(range(1, echoes.ndim))
    low = echoes.min(axis=image_axes).astype(float)
    high = echoes.max(axis=image_axes).astype(float)
    is_symmetric = (low >= -np.pi - _ROUNDING) & (high <= np.pi + _ROUNDING)
    is_positive = (low >= -_ROUNDING) & (high <= 2 * np.pi + _ROUNDING)
    if is_symmetric.all():
        return RADIANS
    if is_positive.all():
        return POSITIVE_RADIANS
    return BOTH_RADIANS if (is_symmetric | is_positive).all() else None


def _encoding_in_units(low, high, units):
    """Return the encoding of phase in milliradians or degrees; None if its range is impossible."""
    symmetric, positive = (
        (MILLIRADIANS, POSITIVE_MILLIRADIANS) if units == "mrad" else (DEGREES, POSITIVE_DEGREES)
    )
    rounding = max(_ROUNDING, _MILLIRADIAN_ROUNDING)
    lowest = low * symmetric.scale
    highest = high * symmetric.scale
    if lowest >= -np.pi - rounding and highest <= np.pi + rounding:
        return symmetric
    if lowest >= -rounding and highest <= 2 * np.pi + rounding:
        return positive
    return None


def _milliradians(low, high, manufacturer):
    """Return the encoding of milliradians if range and manufacturer identify it, or None."""
    encoding = _encoding_in_units(low, high, "mrad")
    if encoding == MILLIRADIANS:  # as for Siemens, smaller values may be another 12 bits
        is_certain = low < 0 < high and max(-low, high) > 2048
    else:
        is_certain = high > 4096
    if encoding is None or not is_certain:
        return None
    is_filled = (high - low) * encoding.scale >= _NEARLY_ALL * 2 * np.pi
    return encoding if is_filled or vendor(manufacturer) in _IN_MILLIRADIANS else None


def _integers_of_vendor(low, high, manufacturer):
    """Return the vendor's encoding of integers in this range, or None if they have another."""
    is_siemens = vendor(manufacturer) == "Siemens"
    if vendor(manufacturer) == "Philips" and 0 <= low < 2048 < high <= 4095:
        return PHILIPS_UNSIGNED
    if manufacturer and not is_siemens:
        return None
    # Phase lies on both sides of the middle of its encoding. Values on one side only belong to
    # another encoding, and values within ±2048 may be the 12 bits of another vendor or converter.
    if 0 <= low < 2048 < high <= 4095:
        encoding = SIEMENS_UNSIGNED
        fraction = (high - low) / 4095
    elif -4096 <= low < 0 < high <= 4096 and max(-low, high) > 2048:
        encoding = SIEMENS_SIGNED
        fraction = (high - low) / 8190
    else:
        return None
    return encoding if is_siemens or fraction >= _NEARLY_ALL else None


def _holds_integers(stored):
    if np.issubdtype(stored.dtype, np.integer):
        return True
    return bool(stored.any()) and np.array_equal(stored, np.rint(stored))


def _refusal(stored, units, manufacturer, reason):
    """Return the error with what was stored, why it is refused, and the remedy."""
    for_array, for_image = _describe(stored, units, manufacturer)
    return PhaseEncodingError(
        f"{for_array} {reason.cause} {reason.for_array} {_known('units=', 'manufacturer=')}",
        f"{for_image} {reason.cause} {reason.for_image} {_known('Units ', 'Manufacturer ')}",
    )


def _describe(stored, units, manufacturer):
    """Describe the values and their metadata: of an array, and of an image with a sidecar."""
    kind = "integers" if _holds_integers(stored) else "values"
    values = f"Phase holds {kind} from {stored.min():.6g} to {stored.max():.6g};"
    return (
        f"{values} units={units!r}, manufacturer={manufacturer!r}.",
        f"{values} the sidecar has Units {units!r}, Manufacturer {manufacturer!r}.",
    )


def _known(units, manufacturer):
    """List the encodings that are recognised, by the names that the metadata have."""
    return (
        f"Known encodings: radians within -π to π or 0 to 2π ({units}'rad'); milliradians within "
        f"-3142 to 3142 or 0 to 6283 ({units}'mrad', or {manufacturer}'GE' or 'Philips'); degrees "
        f"({units}'deg'); Siemens integers 0 to 4095 and -4096 to 4095 ({units}'arbitrary', "
        f"{manufacturer}'Siemens'); Philips integers 0 to 4095; real and imaginary images."
    )


def _refuse_not_finite(stored):
    if stored.size == 0:
        raise PhaseEncodingError("The image is empty: it has no voxel.")
    if n_bad := stored.size - np.count_nonzero(np.isfinite(stored)):
        raise PhaseEncodingError(
            f"{n_bad} of {stored.size} values are NaN or infinite. Set them to 0 in phase and "
            "magnitude: these voxels are then left out of the mask."
        )


def _refuse_tiny_span(stored, encoding, units, manufacturer):
    span = float(stored.max() - stored.min()) * encoding.scale
    if span < _SMALLEST_SPAN:
        for_array, for_image = _describe(stored, units, manufacturer)
        cause = (
            f"Read as {encoding.name}, this is a span of {span:.3g} rad, too little for a phase "
            "image. The usual cause is a wrong scl_slope in the NIfTI header: remove it, or "
            "convert the image to radians."
        )
        raise PhaseEncodingError(f"{for_array} {cause}", f"{for_image} {cause}")
