"""Find voxels with signal, by the magnitude."""

import numpy as np
from scipy import ndimage

from ..grid import Vector
from .shapes import depth_in

# Side in mm of the box in which signals are compared: the sensitivity of receive coils varies over
# some 5 cm. Tissue has at least this fraction of the mean signal in the box; skull, even in a voxel
# that is half tissue, has less.
_NEIGHBOURHOOD = 50.0
_SIGNAL_FRACTION = 0.5

# Fraction of the typical signal that a phantom's parts exceed. Ghosts and ringing reach a sixth of
# the signal next to them.
_ABOVE_GHOSTS = 0.25

# Each pass extends the local estimate of typical signal by 25 mm: enough for any phantom.
_MOST_PASSES = 20


def tissue_signal(combined: np.ndarray, floor: float, voxel_size: Vector) -> np.ndarray:
    """Mark voxels with at least half of the mean signal of nearby tissue.

    Parameters
    ----------
    combined : ndarray, shape (x, y, z)
        Combined magnitude, any unit.
    floor : float
        Tissue has more signal than this, in the unit of the magnitude.
    voxel_size : sequence of 3 floats
        In mm.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
    """
    tissue = combined > floor
    size = _box_size(voxel_size)
    fraction = ndimage.uniform_filter(tissue.astype(np.float32), size, mode="constant")
    mean = ndimage.uniform_filter(np.where(tissue, combined, np.float32(0)), size, mode="constant")
    # The mean over tissue alone is mean / fraction; multiplied out, there is no division by zero.
    return tissue & (combined * fraction > _SIGNAL_FRACTION * mean)


def signal_above_ghosts(
    combined: np.ndarray, region: np.ndarray, noise: float, voxel_size: Vector, opening: float
) -> tuple[np.ndarray, np.ndarray]:
    """Separate the signal of a phantom from ghosts and noise.

    Parameters
    ----------
    combined : ndarray, shape (x, y, z)
        Combined magnitude, any unit.
    region : ndarray of bool, shape (x, y, z)
        Region of smooth phase.
    noise : float
        Magnitude of noise, in the same unit.
    voxel_size : sequence of 3 floats
        In mm.
    opening : float
        Voxels deeper than this, in mm, are regarded as the phantom's.

    Returns
    -------
    signal : ndarray of bool, shape (x, y, z)
        Voxels with the signal of a phantom.
    deep : ndarray of bool, shape (x, y, z)
        Those of them in the region, and deep in it.
    """
    typical = _typical_signal(combined[region])
    deep = np.zeros_like(region)
    for _ in range(_MOST_PASSES):
        # The square root of noise times typical signal lies half-way between them in logarithms.
        signal = combined > typical * np.maximum(_ABOVE_GHOSTS, np.sqrt(noise / typical))
        previous = deep
        deep = depth_in(region & signal, voxel_size) > opening
        if not deep.any() or np.array_equal(previous, deep):
            break
        typical = _local_mean(combined, deep, voxel_size)
    return signal, deep


def _typical_signal(values):
    """Return the value above and below which the square roots of the values have the same sum.

    A mean would be dominated by a few bright tubes, and a median by extended ghosts. The weighting
    by square roots is a compromise.
    """
    values = np.sort(values)
    total = np.cumsum(np.sqrt(values), dtype=np.float64)
    return values[np.searchsorted(total, total[-1] / 2)]


def _local_mean(combined, selected, voxel_size):
    """Return the geometric mean of the selected voxels' signal around each voxel.

    It is infinite where no voxel within the box is selected.
    """
    size = _box_size(voxel_size)
    fraction = ndimage.uniform_filter(selected.astype(np.float32), size, mode="constant")
    logarithms = np.where(
        selected, np.log(combined, where=selected, out=np.zeros_like(combined)), np.float32(0)
    )
    mean = ndimage.uniform_filter(logarithms, size, mode="constant")
    # Half a voxel: the running sums of the filter leave rounding errors instead of zeros.
    has_voxels = fraction > 0.5 / np.prod(size)
    return np.exp(np.divide(mean, fraction, out=np.full_like(mean, np.inf), where=has_voxels))


def _box_size(voxel_size):
    """Return the side lengths in voxels of the box in which signals are compared."""
    return [max(1, round(_NEIGHBOURHOOD / side)) for side in voxel_size]
