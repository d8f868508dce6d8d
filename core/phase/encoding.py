"""Decode stored phase to radians; the sign of phase; units of the field.

Every vendor stores phase in its own way, and a wrong scale or sign gives a map that looks plausible
but is wrong. An encoding is therefore recognised by the sidecar's metadata and the ranges that
vendors write. All echoes are decoded with the same scale, and no image is stretched to fill 2π. An
encoding that is not recognised is refused, with a message that describes the stored values.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

#: Gyromagnetic ratio of the proton over 2π, in MHz/T (CODATA 2018).
GYROMAGNETIC_RATIO = 42.577478

# Radians that were converted from 12-bit integers may exceed ±π by one step of 2π/4096.
_ROUNDING = 2 * np.pi / 4096

# Smallest plausible range of a phase image, rad. Noise covers all of 2π, and even a masked head
# spans more than a radian at the shortest echo times.
_SMALLEST_SPAN = 0.5

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
    "pass 'rad' or 'arbitrary'.",
    "correct Units in the sidecar.",
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


@dataclass(frozen=True)
class PhaseEncoding:
    """Conversion of stored values to radians: ``radians = scale * stored + offset``.

    Attributes
    ----------
    name : str
        Description for the sidecars of derivatives.
    kind : str
        Short name: 'radians' or the vendor.
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
ENCODINGS = (RADIANS, POSITIVE_RADIANS, BOTH_RADIANS, SIEMENS_UNSIGNED, SIEMENS_SIGNED)


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
        Of the stored values, as in BIDS sidecars: 'rad' or 'arbitrary'.
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
    Units 'rad' are accepted if all values are possible for radians. Integers of a Siemens scanner
    are recognised by their range, of which they may cover only a part. Without ``units`` or
    ``manufacturer`` the values themselves must identify the encoding: they must cover at least 95 %
    of its range.

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
    if manufacturer.strip().upper().split()[:1] in (["GE"], ["GENERAL"]):
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
    if units == "rad":
        if radians and not is_integer:
            return radians
        raise _refusal(stored, units, manufacturer, _INTEGERS if is_integer else _RANGE)
    if units not in (None, "arbitrary"):
        raise _refusal(stored, units, manufacturer, _UNITS)
    if units is None and not is_integer and high - low >= _NEARLY_ALL * 2 * np.pi and radians:
        return radians
    if is_integer and (encoding := _siemens(low, high, manufacturer)):
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


def _siemens(low, high, manufacturer):
    """Return the Siemens encoding of integers in this range, or None if they have another."""
    is_siemens = bool(manufacturer) and manufacturer.strip().upper().startswith("SIEMENS")
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
        f"Known encodings: radians within -π to π or 0 to 2π ({units}'rad'); Siemens integers 0 to "
        f"4095 and -4096 to 4095 ({units}'arbitrary', {manufacturer}'Siemens'); real and imaginary "
        "images."
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
