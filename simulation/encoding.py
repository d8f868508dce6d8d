"""Integer encodings of complex images, as vendors' files have them."""

import numpy as np


def siemens_encoding(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode a complex signal as magnitude and phase in 12-bit integers.

    Parameters
    ----------
    signal : ndarray of complex
        All echoes of a scan: they share one scale of the magnitude.

    Returns
    -------
    magnitude, phase : ndarray of uint16
        Both in 0...4095; a phase of p radians in [-π, π) is (p + π) · 4096 / 2π rounded, 4096 being
        0 again.
    """
    magnitude = np.abs(signal)
    magnitude *= 4095 / magnitude.max()
    phase = np.rint((np.angle(signal) + np.pi) * (4096 / (2 * np.pi))).astype(np.uint16) % 4096
    return np.rint(magnitude).astype(np.uint16), phase


def ge_encoding(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encode a complex signal as real and imaginary parts in 16-bit integers.

    The imaginary part is negated: the phase falls where the field is higher.

    Parameters
    ----------
    signal : ndarray of complex
        All echoes of a scan: they share one scale.

    Returns
    -------
    real, imaginary : ndarray of int16
    """
    scale = 32767 / np.abs(signal).max()
    real = np.rint(signal.real * scale).astype(np.int16)
    imaginary = np.rint(-signal.imag * scale).astype(np.int16)
    return real, imaginary
