"""The field of voxels by direct convolution, with which the simulator's faster sum is compared."""

import numpy as np
from scipy import fft

from multiqsm.simulation.field import convolve_padded, cyclic_kernel, even_spectrum, near_kernel


def forward_field(chi, voxel_size, *, b0_dir=(0, 0, 1), workers=1):
    """Return the field of voxels at their centres, in empty surroundings.

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
    The field is a sum over voxels of exact prism fields, or of point dipoles beyond eight voxels,
    where the two agree. It is computed as a convolution on a grid padded to twice the size, so that
    nothing wraps around.
    """
    padded = [fft.next_fast_len(2 * n, real=True) for n in chi.shape]
    reach = np.rint(8 * max(voxel_size) / np.array(voxel_size)).astype(int)
    reach = np.minimum(reach, np.array(chi.shape) - 1).tolist()
    kernel = cyclic_kernel(padded, voxel_size, b0_dir, 0.0)
    kernel += near_kernel(padded, reach, voxel_size, 0.0, b0_dir)
    return convolve_padded(chi.astype(np.float32), even_spectrum(kernel, workers), padded, workers)
