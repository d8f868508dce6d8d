"""The unit dipole in the Fourier domain, for any direction of B0 and any voxel size."""

import numpy as np
from scipy import fft


def b0_direction(affine):
    """Direction of B0 (the scanner's z axis) in voxel axes.

    Parameters
    ----------
    affine : array_like, shape (4, 4)
        Voxel-to-scanner affine (NIfTI, mm). Its columns are normalised first, so that anisotropic
        voxels do not bend the direction.

    Returns
    -------
    ndarray, shape (3,)
        Unit vector.

    Raises
    ------
    ValueError
        If the affine has a column of zero length or its axes are not independent.

    Examples
    --------
    >>> b0_direction(np.diag([1, 1, 2, 1])).tolist()
    [0.0, 0.0, 1.0]
    """
    direction = _axes(affine)[2]
    return direction / np.linalg.norm(direction)


def turn_between(affine, other):
    """Angle by which an affine turns voxels against another, whatever their sizes and places.

    Parameters
    ----------
    affine, other : array_like, shape (4, 4)
        Affines of the same voxels.

    Returns
    -------
    float
        Degrees; the directions of B0 that the two give differ by no more. 180 if one mirrors what
        the other does not.

    Raises
    ------
    ValueError
        As of `b0_direction`.

    Examples
    --------
    >>> round(turn_between(np.eye(4), [[0, -2, 0, 9], [2, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]), 6)
    90.0
    """
    # that of a unit vector: the chord of the angle
    longest = np.linalg.norm(_axes(affine) - _axes(other), 2)
    return float(np.degrees(2 * np.arcsin(min(1, longest / 2))))


def _axes(affine):
    """Directions of the voxel axes, in columns."""
    if not spans_space(affine):
        raise ValueError(f"the affine does not span three dimensions:\n{affine}")
    columns = np.asarray(affine, float)[:3, :3]
    return columns / np.linalg.norm(columns, axis=0)


def spans_space(affine):
    """Tell whether an affine's voxel axes have lengths, and directions that are independent.

    Parameters
    ----------
    affine : array_like, shape (4, 4)
        Voxel to mm.

    Returns
    -------
    bool
    """
    columns = np.asarray(affine, float)[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    return bool(
        np.isfinite(lengths).all()
        and lengths.all()
        and abs(np.linalg.det(columns / lengths)) >= 1e-3
    )


def dipole_kernel(shape, voxel_size, b0_dir=(0, 0, 1)):
    """Field of a unit dipole: D(k) = 1/3 - (k·b)²/|k|², D(0) = 0.

    Parameters
    ----------
    shape : tuple of 3 ints
        Shape of the volume.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes; normalised here.

    Returns
    -------
    ndarray of float32, shape (x, y, z // 2 + 1)
        The kernel on the half spectrum of ``scipy.fft.rfftn``.

    Notes
    -----
    At the Nyquist frequency of an even axis k and -k are the same sample, so the mixed terms k_i
    k_j of an oblique B0 average to zero there. Leaving them in would make the operator slightly
    non-symmetric, which conjugate gradients do not forgive.

    References
    ----------
    Salomir et al., Concepts Magn Reson 19B:26-34 (2003), eq. 5;
    Marques & Bowtell, Concepts Magn Reson 25B:65-78 (2005), eq. 11.

    Examples
    --------
    >>> kernel = dipole_kernel((4, 4, 4), (1, 1, 1))
    >>> along, across = kernel[0, 0, 1:], kernel[1:, 0, 0]
    >>> bool(np.allclose(along, 1 / 3 - 1)), bool(np.allclose(across, 1 / 3))
    (True, True)
    """
    b = (np.asarray(b0_dir, float) / np.linalg.norm(b0_dir)).astype(np.float32)
    k = frequencies(shape, voxel_size)
    signed = [np.where(_is_nyquist(n, ki.shape), 0, ki) for n, ki in zip(shape, k, strict=True)]
    k2 = _sum_of_squares(k)
    k2[0, 0, 0] = 1
    along = sum(bi * si for bi, si in zip(b, signed, strict=True)) ** 2
    along += sum(bi**2 * (ki**2 - si**2) for bi, ki, si in zip(b, k, signed, strict=True))
    along /= k2
    kernel = np.subtract(np.float32(1 / 3), along, out=along)
    kernel[0, 0, 0] = 0
    return kernel


def frequencies(shape, voxel_size):
    """Spatial frequencies of the half spectrum, cycles per mm, as three broadcastable float32
    arrays.
    """
    axes = [
        fft.fftfreq(shape[0], voxel_size[0]),
        fft.fftfreq(shape[1], voxel_size[1]),
        fft.rfftfreq(shape[2], voxel_size[2]),
    ]
    return tuple(a.astype(np.float32) for a in np.ix_(*axes))


def convolve(kernel, volume):
    """Circular convolution of a real volume with a half-spectrum kernel."""
    return inverse_transform(kernel * fft.rfftn(volume), volume.shape)


def inverse_transform(spectrum, shape):
    """The real volume of a half spectrum that is used up: ``scipy.fft.irfftn`` would make a copy of
    it first.
    """
    return fft.irfft(fft.ifftn(spectrum, axes=(0, 1), overwrite_x=True), shape[2])


def _sum_of_squares(components):
    return sum(c**2 for c in components)


def _is_nyquist(n, shape):
    """Mark the Nyquist sample of an axis of length `n` whose frequencies have the given broadcast
    shape.
    """
    marks = np.zeros(max(shape), bool)
    if n % 2 == 0:
        marks[n // 2] = True
    return marks.reshape(shape)
