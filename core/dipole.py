"""The unit dipole in the Fourier domain, for any direction of B0 and any voxel size."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft

from .grid import Vector


def b0_direction(affine: ArrayLike) -> np.ndarray:
    """Return the direction of B0 (the scanner's z axis) in voxel axes.

    Parameters
    ----------
    affine : array_like, shape (4, 4)
        Voxel-to-scanner affine (NIfTI, mm). Its columns are normalised first: otherwise
        anisotropic voxels would change the direction.

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


def rotation_between(affine: ArrayLike, reference: ArrayLike) -> float:
    """Return the angle between the voxel axes of two affines, whatever their sizes and origins.

    Parameters
    ----------
    affine, reference : array_like, shape (4, 4)
        Affines of the same voxels.

    Returns
    -------
    float
        Degrees. It is an upper bound of the angle between the two directions of B0. 180 if one of
        the affines mirrors the image and the other does not.

    Raises
    ------
    ValueError
        As of `b0_direction`.

    Examples
    --------
    >>> rotated = [[0, -2, 0, 9], [2, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]
    >>> round(rotation_between(np.eye(4), rotated), 6)
    90.0
    """
    # The spectral norm is the longest distance that any unit vector's end moves: the chord of the
    # rotation angle, 2 sin(angle / 2).
    chord = float(np.linalg.norm(_axes(affine) - _axes(reference), 2))
    return float(np.degrees(2 * np.arcsin(min(1.0, chord / 2))))


def _axes(affine):
    """Return unit vectors along the voxel axes, as columns."""
    if not spans_space(affine):
        raise ValueError(f"the affine does not span three dimensions:\n{affine}")
    columns = np.asarray(affine, float)[:3, :3]
    return columns / np.linalg.norm(columns, axis=0)


def spans_space(affine: ArrayLike) -> bool:
    """Check that an affine's voxel axes have non-zero lengths and are linearly independent.

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


def dipole_kernel(
    shape: tuple[int, ...], voxel_size: Vector, b0_dir: Vector = (0, 0, 1)
) -> np.ndarray:
    """Return the spectrum of the unit dipole field, D(k) = 1/3 - (k·b)²/|k|² with D(0) = 0.

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
    k_j of an oblique B0 average to zero there. With them the operator would not be exactly
    symmetric, and conjugate gradients need a symmetric one.

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
    k2[0, 0, 0] = 1  # any number: D(0) is set below
    along = sum(bi * si for bi, si in zip(b, signed, strict=True)) ** 2
    # The squares b_i² k_i² remain at the Nyquist frequency, only the mixed terms vanish.
    along += sum(bi**2 * (ki**2 - si**2) for bi, ki, si in zip(b, k, signed, strict=True))
    along /= k2
    kernel = np.subtract(np.float32(1 / 3), along, out=along)
    kernel[0, 0, 0] = 0
    return kernel


def frequencies(shape: tuple[int, ...], voxel_size: Vector) -> tuple[np.ndarray, ...]:
    """Return the spatial frequencies of the half spectrum of ``scipy.fft.rfftn``.

    Parameters
    ----------
    shape : tuple of 3 ints
        Shape of the volume.
    voxel_size : sequence of 3 floats
        Voxel size, mm.

    Returns
    -------
    tuple of 3 ndarrays of float32, broadcastable to shape (x, y, z // 2 + 1)
        Cycles per mm along each axis.
    """
    axes = [
        fft.fftfreq(shape[0], voxel_size[0]),
        fft.fftfreq(shape[1], voxel_size[1]),
        fft.rfftfreq(shape[2], voxel_size[2]),
    ]
    return tuple(axis.astype(np.float32) for axis in np.ix_(*axes))


def convolve(kernel: np.ndarray, volume: np.ndarray) -> np.ndarray:
    """Convolve a real volume with a half-spectrum kernel; the convolution is circular."""
    return inverse_transform(kernel * fft.rfftn(volume), volume.shape)


def inverse_transform(spectrum: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the real volume of a half spectrum, which is overwritten to save memory.

    ``scipy.fft.irfftn`` would copy the spectrum first.
    """
    return fft.irfft(fft.ifftn(spectrum, axes=(0, 1), overwrite_x=True), shape[2])


def _sum_of_squares(components):
    return sum(c**2 for c in components)


def _is_nyquist(n, shape):
    """Mark the Nyquist sample of an axis of `n` samples; `shape` is that of its frequencies, which
    broadcast.
    """
    is_nyquist = np.zeros(max(shape), bool)
    if n % 2 == 0:
        is_nyquist[n // 2] = True
    return is_nyquist.reshape(shape)
