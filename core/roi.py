"""Regions of interest: the reference that susceptibility is given relative to."""

import numpy as np


def subtract_reference(chi, mask, region):
    """Give susceptibility relative to a region's mean: an inversion leaves a constant open.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Where `chi` is known; it stays zero elsewhere.
    region : ndarray of bool, shape (x, y, z)
        Reference region; its voxels outside the mask do not count.

    Returns
    -------
    referenced : ndarray of float32, shape (x, y, z)
        Susceptibility relative to the region's mean, ppm.
    offset : float
        The mean that was subtracted, ppm.
    spread : float
        Standard deviation of the susceptibility in the region, ppm.

    Raises
    ------
    ValueError
        If no voxel of the region lies inside the mask.

    Examples
    --------
    >>> chi = np.array([[[0.1, 0.3, 0.0]]])
    >>> mask = np.array([[[True, True, False]]])
    >>> subtract_reference(chi, mask, mask)[0].round(2).tolist()
    [[[-0.10000000149011612, 0.10000000149011612, 0.0]]]
    """
    values = chi[region & mask]
    if not values.size:
        raise ValueError("the reference region has no voxel inside the mask")
    offset = float(values.mean(dtype=np.float64))
    return np.where(mask, chi - offset, 0).astype(np.float32), offset, float(values.std(dtype=np.float64))
