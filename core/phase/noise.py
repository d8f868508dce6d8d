"""The noise of magnitude and phase: from the air around the object, or from finest differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import gammaln

from ..grid import neighbours

# Voxels along each axis of the blocks in which air is searched for.
_BLOCK = 4
# Blocks of pure noise that must agree on its level.
_FEWEST_BLOCKS = 30
# Their levels may differ from the common one by this multiple of the standard deviation expected.
_AGREEMENT = 2.0
# The power of noise does not change from echo to echo: its relative standard deviation over echoes
# may be this multiple of that expected in a block. Signal, its ringing and ghosts decay.
_STEADY = 2.0
# Air has a lower level than this fraction of the strongest voxels (95th percentile).
_FAINT = 0.2
# Squared mean over mean square of the magnitude of noise: π/4 for one channel, nearer to 1 for the
# root sum of squares of several. Structure lowers it; tissue has more.
_LEAST_UNIFORM = 0.75
_MOST_UNIFORM = 0.992  # 32 channels
_CHANNELS = np.geomspace(1, 64, 200)


@dataclass(frozen=True)
class Noise:
    """Noise of an image series.

    Attributes
    ----------
    sd : float
        Standard deviation of the noise of the real (or imaginary) part, in units of the magnitude.
    of_echoes : tuple of float
        The same of each echo.
    source : str
        How it was determined.
    """

    sd: float
    of_echoes: tuple[float, ...]
    source: str


def noise_of_air(magnitude: np.ndarray) -> Noise | None:
    """Determine the noise from the magnitude in air.

    The image is divided into blocks. Those of pure noise have the same power in all echoes, and the
    ratio of mean and mean square that the Rayleigh distribution has, or the chi distribution if the
    magnitude is the root sum of squares of several channels (Constantinides et al.). Near the
    object the ringing of its signal adds to the noise, so the lowest level on which many blocks
    agree is taken.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Whole image, not only the object.

    Returns
    -------
    Noise or None
        None if there is no air, as in crops of the inside of a head, or none with noise, as in
        masked images; or if there is a single echo.

    References
    ----------
    Constantinides et al., Magn Reson Med 38:852-857 (1997); Gudbjartsson & Patz, Magn Reson Med
    34:910-914 (1995).
    """
    n_echoes = magnitude.shape[-1]
    if n_echoes < 2 or min(magnitude.shape[:3]) < _BLOCK:
        return None
    power, mean = _block_means(magnitude)
    level = np.sqrt(power.mean(axis=-1))
    positive = (power > 0).all(axis=-1)
    uniformity = np.divide(
        mean.mean(axis=-1) ** 2, level**2, out=np.zeros_like(level), where=positive
    )
    spread = np.divide(
        power.std(axis=-1, ddof=1), level**2, out=np.ones_like(level), where=positive
    )
    is_noise = (uniformity > _LEAST_UNIFORM) & (uniformity < _MOST_UNIFORM)
    is_noise &= spread < _STEADY * _BLOCK**-1.5
    is_noise &= level < _FAINT * np.percentile(level, 95)
    if np.count_nonzero(is_noise) < _FEWEST_BLOCKS:
        return None
    # relative: the level is the root of the mean of independent squares
    expected_sd = 0.5 / np.sqrt(_BLOCK**3 * n_echoes)
    agreeing = is_noise & _near_lowest_level(level, is_noise, _AGREEMENT * expected_sd)
    if np.count_nonzero(agreeing) < _FEWEST_BLOCKS:
        return None
    channels = _channels(float(np.median(uniformity[agreeing])))
    of_echoes = np.sqrt(power[agreeing].mean(axis=0) / (2 * channels))
    return Noise(float(np.sqrt(np.mean(of_echoes**2))), tuple(of_echoes.tolist()), "air")


def noise_of_differences(signal: np.ndarray, mask: np.ndarray) -> float:
    """Estimate the noise of an image by the median absolute value of its finest 3-D Haar
    coefficients.

    A coefficient is the difference along x of the difference along y of the difference along z, in
    a block of 2 x 2 x 2 voxels. Anatomy and coil phase have little of it. Blocks that are not
    entirely inside the mask are left out.

    Parameters
    ----------
    signal : ndarray, shape (x, y, z)
        Real or complex.
    mask : ndarray of bool, shape (x, y, z)

    Returns
    -------
    float
        Standard deviation (of the real or the imaginary part); 0 if no block is inside the mask.

    References
    ----------
    Donoho & Johnstone, Biometrika 81:425-455 (1994), section 4.2.
    """
    detail = signal
    is_inside = mask
    for axis in range(3):
        lower, upper = neighbours(axis)
        detail = detail[upper] - detail[lower]
        is_inside = is_inside[upper] & is_inside[lower]
    values = detail[is_inside]
    parts = np.concatenate([values.real, values.imag]) if np.iscomplexobj(values) else values
    # The sum of eight independent values has eight times their variance.
    return (
        float(np.median(np.abs(parts)) / np.sqrt(8) / stats.norm.ppf(0.75)) if parts.size else 0.0
    )


def _block_means(magnitude):
    """Return mean square and mean of each block and echo, shape (blocks, n_echoes)."""
    counts = [n // _BLOCK for n in magnitude.shape[:3]]
    whole = magnitude[tuple(slice(n * _BLOCK) for n in counts)]
    shape = []
    for n in counts:
        shape += [n, _BLOCK]
    means = []
    for values in (whole**2, whole):
        blocks = values.reshape(*shape, magnitude.shape[-1]).mean(axis=(1, 3, 5), dtype=np.float64)
        means.append(blocks.reshape(-1, magnitude.shape[-1]))
    return means


def _near_lowest_level(level, is_noise, agreement):
    """Mark blocks near the lowest level at which their levels are densest."""
    levels = np.sort(level[is_noise])
    centre = np.median(levels[:_FEWEST_BLOCKS])
    for _ in range(20):
        near = levels[np.abs(levels / centre - 1) < agreement]
        if not near.size or np.isclose(near.mean(), centre, rtol=1e-4):
            break
        centre = near.mean()
    return np.abs(level / centre - 1) < agreement


def _channels(uniformity):
    """Return the number of channels of noise whose squared mean is this fraction of its power."""
    expected = np.exp(2 * (gammaln(_CHANNELS + 0.5) - gammaln(_CHANNELS))) / _CHANNELS
    return float(np.interp(uniformity, expected, _CHANNELS))
