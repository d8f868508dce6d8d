"""Background field removal by a high-pass filter, which regards slow variation as background."""

import numpy as np
from scipy import ndimage

from ..grid import Vector, WorkingGrid, check_grid, field_in_mask
from .removal import BackgroundRemoval


def high_pass(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    b0_dir: Vector = (0, 0, 1),
    cutoff: float = 16.0,
) -> BackgroundRemoval:
    """Subtract the Gaussian mean of the field.

    For comparison only. The filter also removes slow variation of the tissue's own field, and it
    leaves rapidly varying background, as near the air of the skull base.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest. The mean is taken over voxels inside it.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Ignored, as the filter has no direction. Accepted so that all methods have one interface.
    cutoff : float
        Wavelength at which the filter halves the amplitude, mm. 16 corresponds to the central 32 of
        256 lines in a field of view of 256 mm.

    Returns
    -------
    BackgroundRemoval

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty or the field in it not finite.

    References
    ----------
    Haacke et al., Magn Reson Med 52:612-618 (2004), there as a window on k-space.
    """
    check_grid(mask, field=field)
    grid = WorkingGrid.around(mask, voxel_size, 0)
    inside = grid.embed(mask.astype(np.float32))
    total = grid.embed(field_in_mask(mask, field))
    # A Gaussian of this SD halves a wave of the cutoff: exp(-2 π² σ²/λ²) = ½.
    sigma = [np.sqrt(np.log(2) / 2) / np.pi * cutoff / size for size in voxel_size]
    # Normalise by the part of the Gaussian that lies inside the mask.
    weight = ndimage.gaussian_filter(inside, sigma, mode="constant")
    weighted_sum = ndimage.gaussian_filter(total, sigma, mode="constant")
    mean = np.divide(weighted_sum, weight, out=np.zeros_like(weighted_sum), where=inside > 0)
    return BackgroundRemoval(grid.extract(inside * (total - mean)), mask)
