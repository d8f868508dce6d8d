"""Measure phase quality: phase is smooth where there is signal, and rough where there is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage.filters import threshold_otsu

from ..grid import Vector
from ..phase.encoding import wrap_phase

# Standard deviation in mm of the Gaussian over which phase quality is averaged (FWHM 3.5 mm, about
# the width of the thinnest skull). With a width in mm, a threshold applies to voxels of any size,
# and a single vein has little effect.
_QUALITY_SMOOTHING = 1.5

# Roughness in rad of pure noise: the standard deviation of a uniform distribution over ±π.
_NOISE_ROUGHNESS = np.pi / np.sqrt(3)


def phase_roughness(phase: np.ndarray, signal: np.ndarray, voxel_size: Vector) -> np.ndarray:
    """Compute the local root mean square of second differences of phase.

    It is computed from the phase change between the first two echoes, which does not contain the
    phase of the coils, or from the phase of a single echo. Second differences between neighbours
    are wrapped to ±π. Phase therefore need not be unwrapped, and a field that is steep but linear
    does not count as rough. Their squares are averaged over the axes, and over voxels with signal
    by a Gaussian with a FWHM of 3.5 mm.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians.
    signal : ndarray of bool, shape (x, y, z)
        Voxels with signal; others are left out of the average.
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
    sigma = _QUALITY_SMOOTHING / np.asarray(voxel_size)
    weight = ndimage.gaussian_filter(signal.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(signal, square / 3, np.float32(0)), sigma)
    return np.sqrt(np.divide(total, weight, out=np.full_like(total, np.inf), where=weight > 1e-6))


def checked_echoes(magnitude: ArrayLike, phase: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return magnitude and phase as arrays.

    Raises
    ------
    ValueError
        If they are not finite, or do not have the same shape (x, y, z, n_echoes).
    """
    magnitude = np.asarray(magnitude)
    phase = np.asarray(phase)
    if magnitude.ndim != 4 or magnitude.shape != phase.shape:
        raise ValueError(
            f"magnitude {magnitude.shape} and phase {phase.shape} must have the same shape (x, y, "
            "z, n_echoes)"
        )
    if not (np.isfinite(magnitude).all() and np.isfinite(phase).all()):
        raise ValueError("magnitude and phase must be finite: set NaN and infinite values to 0")
    return magnitude, phase


def tissue_roughness_limit(roughness: np.ndarray) -> float:
    """Return the threshold between the roughness of tissue and that of scalp, skull and drop-outs.

    Parameters
    ----------
    roughness : ndarray, shape (n,)
        From `phase_roughness`, of the voxels with signal; 0 is returned if there are none.
    """
    if not roughness.size:
        return 0.0
    # Otsu's threshold separates two classes. Where nearly all voxels are tissue it would split
    # tissue, and the geometric mean, which always lies above its median, is larger.
    return max(
        float(threshold_otsu(roughness)), float(np.sqrt(np.median(roughness) * _NOISE_ROUGHNESS))
    )


def weak_signal_roughness_limit(combined: np.ndarray, roughness: np.ndarray) -> float:
    """Return the threshold between the roughness of a phantom of weak signal and that of noise.

    Parameters
    ----------
    combined : ndarray, shape (x, y, z)
        Combined magnitude, any unit.
    roughness : ndarray, shape (x, y, z)
        From `phase_roughness`.
    """
    levels = np.log(combined[combined > 0])
    if not levels.size:
        return 0.0
    # Otsu's threshold of the logarithms, since the bright and dim parts of a phantom may differ by
    # more than the dim parts differ from noise.
    signal = combined > np.exp(threshold_otsu(levels))
    return float(np.sqrt(np.median(roughness[signal]) * _NOISE_ROUGHNESS)) if signal.any() else 0.0


def _second_difference(phase, axis):
    """Return wrapped second differences along an axis; both ends repeat their neighbour's."""
    first = wrap_phase(np.diff(phase, axis=axis))
    pad = [(0, 0)] * 3
    pad[axis] = (1, 1)
    return np.pad(wrap_phase(np.diff(first, axis=axis)), pad, mode="edge")
