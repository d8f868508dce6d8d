"""Thresholded k-space division (TKD): the simplest inversion, as a baseline."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from .dipole import convolve, dipole_kernel, inverse_transform
from .grid import WorkingGrid, within
from .inversion import MARGIN

THRESHOLD = 0.2  # as published


@dataclass(frozen=True)
class DividedField:
    """Result of the division.

    Attributes
    ----------
    chi : ndarray of float32, shape (x, y, z)
        Susceptibility, ppm, up to a constant; zero outside the mask.
    residual : float
        Root mean square over the mask of the field that χ leaves unexplained, ppm.
    """

    chi: np.ndarray
    residual: float


def divide_field(field, mask, voxel_size, *, b0_dir=(0, 0, 1), threshold=THRESHOLD):
    r"""Invert the local field by thresholded k-space division.

    χ = F⁻¹[F b / D'] with D' = D where |D| exceeds the threshold, and sign(D) times the threshold elsewhere. What lies
    near the cone of small D comes out too small, so that susceptibility is underestimated. Nothing is chosen by the
    data.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Local field, ppm. There are no data weights: where it is not known it needs to be filled in, as by
        `holes.interpolate_unknown`.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    threshold : float
        Of the dipole kernel, between 0 and 2/3.

    Returns
    -------
    DividedField

    Raises
    ------
    ValueError
        If the mask is empty, the field in it not finite, or the threshold not between 0 and 2/3.

    References
    ----------
    Shmueli et al., Magn Reson Med 62:1510-1522 (2009), eq. 6 and 7.
    """
    if not 0 < threshold < 2 / 3:
        raise ValueError(f"the threshold must lie between 0 and 2/3, got {threshold}")
    local = within(mask, field)
    grid = WorkingGrid.around(mask, voxel_size, MARGIN)
    kernel = dipole_kernel(grid.shape, voxel_size, b0_dir)
    divisor = np.where(np.abs(kernel) > threshold, kernel, np.copysign(np.float32(threshold), kernel))
    chi = inverse_transform(fft.rfftn(grid.embed(local)) / divisor, grid.shape)
    left = (local - grid.extract(convolve(kernel, chi)))[mask]
    residual = float(np.sqrt(np.mean(np.square(left), dtype=np.float64)))
    return DividedField(np.where(mask, grid.extract(chi), np.float32(0)), residual)
