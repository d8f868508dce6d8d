"""How rough the phase is: smooth where there is signal, random where there is none."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from ..phase.encoding import wrap_phase

# Phase quality is averaged over about the width of the thinnest skull (FWHM 3.5 mm), so that it
# means the same for small voxels as for large ones, and a single vein does not count.
_QUALITY_SMOOTHING = 1.5

# Roughness in rad of pure noise, which is uniform in ±π.
_NOISE_ROUGHNESS = np.pi / np.sqrt(3)


def phase_roughness(phase, signal, voxel_size):
    """Local root mean square of phase's second differences: how far phase is from smooth.

    The phase change between the first two echoes is taken, free of the coils' own phase, or the
    phase of an only echo. Second differences between neighbours are taken modulo 2π, so nothing is
    unwrapped and a steep but steady field does not count. They are averaged over the axes and over
    3.5 mm of voxels with signal.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians.
    signal : ndarray of bool, shape (x, y, z)
        Voxels that count.
    voxel_size : tuple of 3 floats
        In mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        In radians. Noise gives π/√3 = 1.8, brain at 3 T less than 0.2. Infinite far from any
        signal.

    Examples
    --------
    >>> ramp = wrap_phase(np.arange(8.0)[:, None, None, None] * np.ones((8, 8, 8, 1)))
    >>> float(phase_roughness(ramp, np.ones((8, 8, 8), bool), (1, 1, 1)).max()) < 1e-5
    True
    """
    phase = np.asarray(phase, dtype=np.float32)
    change = phase[..., 1] - phase[..., 0] if phase.shape[3] > 1 else phase[..., 0]
    square = np.zeros(change.shape, np.float32)
    for axis in range(3):
        if change.shape[axis] > 2:
            square += _second_difference(change, axis) ** 2
    sigma = [_QUALITY_SMOOTHING / size for size in voxel_size]
    weight = ndimage.gaussian_filter(signal.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(signal, square / 3, np.float32(0)), sigma)
    return np.sqrt(np.divide(total, weight, out=np.full_like(total, np.inf), where=weight > 1e-6))


def checked_echoes(magnitude, phase):
    """Magnitude and phase as arrays, if both are finite and of one shape (x, y, z, n_echoes); else
    a ValueError.
    """
    magnitude = np.asarray(magnitude)
    phase = np.asarray(phase)
    if magnitude.ndim != 4 or magnitude.shape != phase.shape:
        raise ValueError(
            f"magnitude {magnitude.shape} and phase {phase.shape} must be (x, y, z, n_echoes) both"
        )
    if not (np.isfinite(magnitude).all() and np.isfinite(phase).all()):
        raise ValueError("magnitude and phase must be finite")
    return magnitude, phase


def usual_roughness(roughness):
    """The limit between tissue's roughness and that of scalp, skull and drop-outs, from all voxels
    with signal.
    """
    if not roughness.size:
        return 0.0
    # Otsu's threshold would cut through tissue where there is nothing else; the geometric mean
    # never does.
    return max(
        float(threshold_otsu(roughness)), float(np.sqrt(np.median(roughness) * _NOISE_ROUGHNESS))
    )


def weak_signal_roughness(combined, roughness):
    """The limit between the roughness of a phantom and that of noise, if its signal is weak."""
    levels = np.log(combined[combined > 0])
    if not levels.size:
        return 0.0
    # Of logarithms, since parts of a phantom may differ more from each other than the dimmest from
    # noise.
    signal = combined > np.exp(threshold_otsu(levels))
    return float(np.sqrt(np.median(roughness[signal]) * _NOISE_ROUGHNESS)) if signal.any() else 0.0


def _second_difference(phase, axis):
    """Wrapped second difference along an axis; the ends take their neighbour's."""
    first = wrap_phase(np.diff(phase, axis=axis))
    pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    return np.pad(wrap_phase(np.diff(first, axis=axis)), pad, mode="edge")
