"""Quality control: does a map look as physics says it must?"""

import numpy as np
from skimage.measure import block_reduce

from .fieldfit import fit_field
from .highpass import high_pass
from .inversion import deterministic
from .mask import EmptyMaskError, brain_mask, erode
from .unwrap import unwrap_echoes

COARSE = 3.0  # mm; nuclei are still several voxels, and a map takes a second
SMALLEST_BRAIN = 400e3  # mm³; a piece of a brain may hold no nuclei
DEEP = 10.0  # mm; nearer to the brain's surface, what background removal has left would decide


def sign_asymmetry(chi, mask, voxel_size):
    """Tell a map of wrong sign: how much further its bright values reach than its dark ones.

    Deep grey nuclei and veins are paramagnetic and stand far above the brain's median; nothing healthy stands so
    far below. A phase of the wrong sign turns that around.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm, any reference.
    mask : ndarray of bool, shape (x, y, z)
        Brain mask; what lies deeper than 10 mm counts, or all of it where nothing does.
    voxel_size : sequence of 3 floats
        Voxel size, mm.

    Returns
    -------
    float
        (p99 + p1 - 2 p50) / (p99 - p1) of the percentiles: positive where bright values reach further, between
        -1 and 1.

    Examples
    --------
    >>> chi = np.zeros((10, 10, 10))
    >>> chi[:2] = np.linspace(0, 1, 200).reshape(2, 10, 10)
    >>> sign_asymmetry(chi, np.ones(chi.shape, bool), (1, 1, 1))
    1.0
    """
    deep = erode(mask, voxel_size, DEEP)
    low, middle, high = np.percentile(chi[deep if deep.any() else mask], [1, 50, 99])
    return float((high + low - 2 * middle) / (high - low)) if high > low else 0.0


def coarse_signal(signal, voxel_size, size=COARSE):
    """Average an echo's complex signal over blocks of voxels.

    Parameters
    ----------
    signal : ndarray of complex, shape (x, y, z)
        Any unit.
    voxel_size : sequence of 3 floats
        mm.
    size : float
        What the blocks' sides come to at most, mm; a voxel that is larger stays as it is.

    Returns
    -------
    signal : ndarray of complex64
        Blocks that reach over the end are filled with 0.
    voxel_size : tuple of 3 floats
        Of the blocks.

    Examples
    --------
    >>> blocks, sides = coarse_signal(np.ones((10, 9, 4)), (1, 1.2, 2.5))
    >>> blocks.shape, sides
    ((4, 5, 4), (3.0, 2.4, 2.5))
    """
    factors = [max(1, int(size / side + 1e-3)) for side in voxel_size]
    coarse = block_reduce(np.asarray(signal, np.complex64), tuple(factors), np.mean)
    return coarse, tuple(factor * float(side) for factor, side in zip(factors, voxel_size, strict=True))


def quick_sign_asymmetry(signal, echo_times, voxel_size, *, b0_dir):
    """Tell a phase of wrong sign from the echoes alone: `sign_asymmetry` of a coarse map that takes a second.

    The map comes of `brain_mask`, `unwrap_echoes`, `fit_field`, `high_pass` and `deterministic`. The wrong sign turns
    the map and the asymmetry round.

    Parameters
    ----------
    signal : ndarray of complex, shape (x, y, z, n_echoes)
        Of all echoes, coarse as from `coarse_signal`; its phase grows with the field if the sign is right.
    echo_times : sequence of float
        s.
    voxel_size : sequence of 3 floats
        mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.

    Returns
    -------
    float or None
        None if less than 400 mL of brain are found.
    """
    magnitude, phase = np.abs(signal), np.angle(signal)
    try:
        mask = brain_mask(magnitude, phase, voxel_size)
    except EmptyMaskError:
        return None
    if np.count_nonzero(mask) * np.prod(voxel_size) < SMALLEST_BRAIN:
        return None
    unwrapped = unwrap_echoes(phase, mask, echo_times, mode="temporal")
    # The asymmetry is a ratio: any frequency will do.
    field = fit_field(unwrapped, magnitude, echo_times, mask, centre_frequency=1e8).field
    local = high_pass(field, mask, voxel_size, b0_dir=b0_dir).local_field
    return sign_asymmetry(deterministic(local, mask, voxel_size, b0_dir=b0_dir).chi, mask, voxel_size)
