"""Quality control: does a map look as physics says it must?"""

import numpy as np

from .mask import erode

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
