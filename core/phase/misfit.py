"""Systematic misfit: how far the slope of phase in echo time is wrong because phase is no line."""

from __future__ import annotations

import numpy as np
from scipy import ndimage, stats

from ..grid import Vector
from .line import weighted_line

# Misfit counts if it is this improbable as noise.
IMPROBABLE = 1e-3

# Side length, mm, of the box over which misfit is averaged, since the few echoes of one voxel
# hardly determine it; and its fewest voxels along each axis, which are also those if no voxel size
# is given.
_BOX = 6.0
_FEWEST_VOXELS = 3

# Echoes that are left out together, as a fraction of all.
_LEFT_OUT = 0.25

# Without them the slope must keep this fraction of its information.
_LEAST_INFORMATION = 0.05


def systematic_variance(
    phase: np.ndarray,
    weight: np.ndarray,
    echo_times: np.ndarray,
    mask: np.ndarray,
    noise_sd: float,
    *,
    voxel_size: Vector | None = None,
) -> np.ndarray:
    """Return the variance that misfit adds to that of the noise.

    It is what remains of the jackknife variance of the slope after subtracting what noise
    contributes to it. The jackknife asks how the slope changes if successive echoes, a quarter of
    all, are left out. Single residuals would show too little: departures from the line are smooth
    in time, so that they mostly change the line. The variance is averaged over neighbouring voxels,
    except those in which it is far above the typical.

    Parameters
    ----------
    phase, weight : ndarray, shape (n_voxels, n_echoes)
        Unwrapped phase of the mask's voxels, rad, and squared magnitude.
    echo_times : ndarray, shape (n_echoes,)
        In s.
    mask : ndarray of bool, shape (x, y, z)
        Where these voxels are.
    noise_sd : float
        Standard deviation of the noise of the signal's real part.
    voxel_size : sequence of 3 floats, optional
        mm.

    Returns
    -------
    ndarray, shape (n_voxels,)
        In the unit of `noise_sd`, squared. Zero with fewer than three echoes, and where noise
        explains the misfit.

    References
    ----------
    Künsch, Ann Stat 17:1217-1241 (1989).
    """
    if len(echo_times) < 3 or not len(phase):
        return np.zeros(len(phase), np.float32)
    variance, of_noise = _jackknife(phase, weight, echo_times)
    ratio = np.divide(variance, of_noise, out=np.zeros_like(variance), where=of_noise > 0)
    # One degree of freedom, that of three echoes, has the widest distribution.
    limit = np.median(ratio) * stats.chi2.isf(IMPROBABLE, 1) / stats.chi2.median(1)
    box = _box(voxel_size)
    inside = ndimage.uniform_filter(mask.astype(np.float32), box, mode="constant")[mask]
    usual = np.zeros(mask.shape, np.float32)
    usual[mask] = np.minimum(ratio, limit)
    local = ndimage.uniform_filter(usual, box, mode="constant")[mask] / inside
    n_voxels = np.rint(inside * np.prod(box)).astype(int)
    counts = np.arange(1, np.prod(box) + 1)
    improbable = stats.chi2.isf(IMPROBABLE, counts) / counts
    excess = np.where(local > improbable[n_voxels - 1] * noise_sd**2, local - noise_sd**2, 0)
    own = np.maximum(ratio - noise_sd**2, 0)
    return np.where(ratio > limit, np.maximum(own, excess), excess) * of_noise


def _jackknife(phase, weight, te):
    """Return the delete-block jackknife variance of the slope, and its expectation for noise of
    unit standard deviation, both over the slope's own variance for such noise.
    """
    n = len(te)
    n_left_out = max(1, round(_LEFT_OUT * n))
    n_blocks = n - n_left_out + 1
    _, slope, information = weighted_line(phase, weight, te)
    variance = np.zeros_like(slope)
    of_noise = np.zeros_like(slope)
    for first in range(n_blocks):
        others = np.delete(np.arange(n), slice(first, first + n_left_out))
        _, without, remaining = weighted_line(phase[:, others], weight[:, others], te[others])
        is_determined = remaining > _LEAST_INFORMATION * information
        variance += np.where(is_determined, (without - slope) ** 2 * information, 0)
        gain = np.divide(information, remaining, out=np.ones_like(slope), where=is_determined)
        of_noise += gain - 1
    factor = (n - n_left_out) / n_left_out / n_blocks
    return factor * variance, factor * of_noise


def _box(voxel_size):
    """Return the number of voxels, odd, along each axis over which misfit is averaged."""
    if voxel_size is None:
        return (_FEWEST_VOXELS,) * 3
    sides = []
    for side in voxel_size:
        sides.append(max(_FEWEST_VOXELS, 2 * int(_BOX / side / 2) + 1))
    return tuple(sides)
