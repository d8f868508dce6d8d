"""The field of voxels without any shortcut: what the simulator's faster sum is compared with."""

import numpy as np
from scipy import fft

from multiqsm.simulation.field import convolve_padded, cyclic_kernel, even_spectrum, near_kernel


def forward_field(chi, voxel_size, *, b0_dir=(0, 0, 1), workers=1):
    """Field of voxels of given susceptibility, at their centres, in empty surroundings.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility relative to that of the surroundings, ppm.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float
        Unit vector of B0 in voxel axes.
    workers : int
        Threads of the Fourier transforms.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        Lorentz-corrected relative field, ppm.

    Notes
    -----
    The sum over voxels of exact prism fields, point dipoles beyond eight voxels where the two
    agree, is a convolution on a grid padded to twice the size: nothing wraps.
    """
    padded = [fft.next_fast_len(2 * n, real=True) for n in chi.shape]
    reach = [
        min(round(8 * max(voxel_size) / h), n - 1)
        for n, h in zip(chi.shape, voxel_size, strict=True)
    ]
    kernel = cyclic_kernel(padded, voxel_size, b0_dir, 0.0)
    kernel += near_kernel(padded, reach, voxel_size, 0.0, b0_dir)
    return convolve_padded(chi.astype(np.float32), even_spectrum(kernel, workers), padded, workers)
