"""Where there is signal, by the magnitude."""

import numpy as np
from scipy import ndimage

from .shapes import depth_in

# Receive coils vary smoothly over some 5 cm; tissue is what gives half the signal usual around it.
# Skull, at half a voxel of partial volume, does not.
_NEIGHBOURHOOD = 50.0
_SIGNAL_FRACTION = 0.5

# Ghosts and ringing have up to a sixth of the signal beside them.
_ABOVE_GHOSTS = 0.25

# After so many passes of 25 mm what is usual has followed the coils across any phantom.
_MOST_PASSES = 20


def tissue_signal(combined, floor, voxel_size):
    """Voxels with at least half of the mean of nearby tissue, tissue being what exceeds the
    floor.
    """
    tissue = combined > floor
    size = [max(1, round(_NEIGHBOURHOOD / side)) for side in voxel_size]
    share = ndimage.uniform_filter(tissue.astype(np.float32), size, mode="constant")
    mean = ndimage.uniform_filter(np.where(tissue, combined, np.float32(0)), size, mode="constant")
    return tissue & (combined * share > _SIGNAL_FRACTION * mean)


def signal_above_ghosts(combined, region, noise, voxel_size, opening):
    """Voxels with the signal of a phantom, and those of them in a region of smooth phase that lie
    deep in it.
    """
    usual = _usual_signal(combined[region])
    deep = np.zeros_like(region)
    for _ in range(_MOST_PASSES):
        signal = combined > usual * np.maximum(_ABOVE_GHOSTS, np.sqrt(noise / usual))
        known = deep
        deep = depth_in(region & signal, voxel_size) > opening
        if not deep.any() or np.array_equal(known, deep):
            break
        usual = _signal_around(combined, deep, voxel_size)
    return signal, deep


def _usual_signal(values):
    """The value that halves the sum of square roots: neither wide ghosts nor a few bright tubes
    decide it.
    """
    values = np.sort(values)
    share = np.cumsum(np.sqrt(values), dtype=np.float64)
    return values[np.searchsorted(share, share[-1] / 2)]


def _signal_around(combined, where, voxel_size):
    """Geometric mean of a signal, as far as it is there, in each voxel's neighbourhood; infinite
    far from it.
    """
    size = [max(1, round(_NEIGHBOURHOOD / side)) for side in voxel_size]
    share = ndimage.uniform_filter(where.astype(np.float32), size, mode="constant")
    logarithms = np.where(
        where, np.log(combined, where=where, out=np.zeros_like(combined)), np.float32(0)
    )
    mean = ndimage.uniform_filter(logarithms, size, mode="constant")
    any_voxel = share > 0.5 / np.prod(size)
    return np.exp(np.divide(mean, share, out=np.full_like(mean, np.inf), where=any_voxel))
