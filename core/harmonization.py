"""Reduce scans to a common resolution by cropping k-space.

Interpolating the images instead would alias structure finer than the new grid, and interpolated
phase is wrong wherever it wraps. The complex image has neither problem: its Fourier transform is
what the scanner sampled, and a coarser scan of the same field of view samples the centre of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft

from .grid import Vector


def cropped_matrix(matrix: Sequence[int], voxel_size: Vector, target: Vector) -> tuple[int, ...]:
    """Return the matrix size that comes closest to a voxel size in the same field of view.

    It is never larger than the original matrix.

    Parameters
    ----------
    matrix : sequence of 3 ints
        Voxels along each axis.
    voxel_size, target : sequence of 3 floats
        Present and desired voxel size, mm.

    Returns
    -------
    tuple of int
        Voxels along each axis. These are whole numbers, so the target is met approximately: with n
        voxels, the voxel size differs from a coarser target by at most 1/(2n) of it.

    Raises
    ------
    ValueError
        If a size is not positive and finite.

    Examples
    --------
    >>> cropped_matrix((320, 320, 54), (0.8, 0.8, 2.4), (1.2, 1.2, 2.4))
    (213, 213, 54)
    """
    present = _positive_vector("matrix", matrix)
    field_of_view = present * _positive_vector("voxel size", voxel_size)
    nearest = np.rint(field_of_view / _positive_vector("target voxel size", target))
    return tuple(np.clip(nearest, 1, present).astype(int).tolist())


def _positive_vector(name, values):
    vector = np.asarray(values, float)
    if vector.shape != (3,) or not (np.isfinite(vector).all() and (vector > 0).all()):
        raise ValueError(f"the {name} must be three positive numbers, not {vector.tolist()}")
    return vector


def crop_kspace(image: np.ndarray, matrix: Sequence[int]) -> np.ndarray:
    """Crop an image to the centre of its k-space: larger voxels in the same field of view.

    The borders of the field of view do not move, so the first voxel's centre moves from half an old
    voxel to half a new voxel from the border (see `cropped_affine`). A linear phase over k-space
    shifts the samples accordingly.

    For an even number n of samples, the frequencies -n/2 to n/2 - 1 are kept, as a scanner acquires
    them. There is no apodisation: a scan acquired with the coarser voxels has none either, and the
    cropped image should show the same Gibbs ringing.

    Parameters
    ----------
    image : ndarray of complex, shape (x, y, z) or more axes after these
        Complex images, such as the echoes of a scan along the fourth axis.
    matrix : sequence of 3 ints
        Voxels along each axis after cropping, at most those of the image.

    Returns
    -------
    ndarray of complex, shape (\\*matrix, ...)
        In the image's units: the mean over the field of view is preserved. Axes that keep their
        size are not transformed.

    Raises
    ------
    ValueError
        If the image is real, or `matrix` is larger than the image's or smaller than one voxel.

    Examples
    --------
    >>> crop_kspace(np.full((4, 4, 2), 3.0 + 4.0j), (3, 2, 2))[0, 0, 0].round(6).tolist()
    (3+4j)
    """
    if not np.iscomplexobj(image):
        raise ValueError("k-space is that of a complex image: combine magnitude and phase first")
    present = image.shape[:3]
    if len(matrix) != 3 or np.less(matrix, 1).any() or np.greater(matrix, present).any():
        raise ValueError(f"a matrix of {present} cannot be cropped to {tuple(matrix)}")
    for axis, n_cropped in enumerate(matrix):
        if n_cropped != image.shape[axis]:
            image = _crop_axis(image, axis, n_cropped)
    return image


def _crop_axis(image, axis, n_cropped):
    n = image.shape[axis]
    k = np.rint(np.fft.fftfreq(n_cropped, 1 / n_cropped)).astype(int)
    # From the first old voxel's centre to the first new one's, as a fraction of the field of view.
    shift = 0.5 / n_cropped - 0.5 / n
    # The inverse transform divides by the number of samples, which is smaller than before.
    ramp = np.exp(2j * np.pi * k * shift) * (n_cropped / n)
    along_axis = [1] * image.ndim
    along_axis[axis] = -1
    ramp = ramp.reshape(along_axis).astype(image.dtype)
    kspace = fft.fft(image, axis=axis).take(k % n, axis) * ramp
    return fft.ifft(kspace, axis=axis, overwrite_x=True)


def cropped_affine(affine: ArrayLike, matrix: Sequence[int], cropped: Sequence[int]) -> np.ndarray:
    """Return the affine of an image whose k-space was cropped; the field of view stays in place.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        From the original image's voxels to world coordinates, mm.
    matrix, cropped : sequence of 3 ints
        Voxels along each axis before and after.

    Returns
    -------
    ndarray, shape (4, 4)

    Examples
    --------
    >>> cropped_affine(np.eye(4), (4, 4, 4), (2, 4, 4))[0].tolist()
    [2.0, 0.0, 0.0, 0.5]
    """
    scale = np.divide(matrix, cropped)
    enlarged = np.diag([*scale, 1.0])
    enlarged[:3, 3] = (scale - 1) / 2
    return np.asarray(affine, float) @ enlarged
