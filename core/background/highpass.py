"""Background field removal by a high-pass filter: what varies slowly is taken for background."""

import numpy as np
from scipy import ndimage

from ..grid import WorkingGrid, field_in_mask
from .removal import BackgroundRemoval


def high_pass(field, mask, voxel_size, *, b0_dir=(0, 0, 1), cutoff=16.0):
    """Subtract the field's Gaussian mean.

    Kept for comparison. The tissue's own slow variation goes as well, and what of the background
    varies fast, near the air in the skull base, stays.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region whose local field is wanted; the mean is taken over voxels inside it.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Not used, as the filter has no direction; here so that methods can take each other's place.
    cutoff : float
        Wavelength of which half is left, mm. 16 is that of the central 32 of 256 lines in a field
        of view of 256 mm.

    Returns
    -------
    multiqsm.core.background.removal.BackgroundRemoval

    Raises
    ------
    ValueError
        If the mask is empty or the field in it not finite.

    References
    ----------
    Haacke et al., Magn Reson Med 52:612-618 (2004), there as a window on k-space.
    """
    grid = WorkingGrid.around(mask, voxel_size, 0)
    inside = grid.embed(mask.astype(np.float32))
    total = grid.embed(field_in_mask(mask, field))
    sigma = [np.sqrt(np.log(2) / 2) / np.pi * cutoff / size for size in voxel_size]
    weight, mean = (
        ndimage.gaussian_filter(volume, sigma, mode="constant") for volume in (inside, total)
    )
    slow = np.divide(mean, weight, out=np.zeros_like(mean), where=inside > 0)
    return BackgroundRemoval(grid.extract(inside * (total - slow)), mask)
