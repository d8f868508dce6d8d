"""One resolution for scans of several: the centre of k-space, as a scanner with fewer steps would
have taken it.

Interpolated images would keep their noise and alias what is finer than the new grid, and
interpolated phase breaks at its wraps. The complex image has neither fault: its Fourier transform
is what the scanner sampled, and the part of it that a coarser scan of the same field of view takes
gives that scan's image.
"""

import numpy as np
from scipy import fft


def cropped_matrix(matrix, voxel_size, target):
    """Size of the image that comes nearest to a voxel size in the same field of view, and is no
    larger.

    Parameters
    ----------
    matrix : sequence of 3 ints
        Voxels along each axis.
    voxel_size, target : sequence of 3 floats
        Voxel size, and that to come near to, mm.

    Returns
    -------
    tuple of int
        A whole number n of voxels along each axis: voxels of the field of view's nth part differ
        from a target that is no finer than `voxel_size` by at most its (2n)th part.

    Raises
    ------
    ValueError
        If a size is not positive and finite.

    Examples
    --------
    >>> cropped_matrix((320, 320, 54), (0.8, 0.8, 2.4), (1.2, 1.2, 2.4))
    (213, 213, 54)
    """
    matrix, voxel_size, target = (
        np.asarray(values, float) for values in (matrix, voxel_size, target)
    )
    for name, values in (
        ("matrix", matrix),
        ("voxel size", voxel_size),
        ("target voxel size", target),
    ):
        if values.shape != (3,) or not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError(f"the {name} must be three positive numbers, not {values.tolist()}")
    wanted = np.rint(matrix * voxel_size / target)
    return tuple(int(n) for n in np.clip(wanted, 1, matrix))


def crop_kspace(image, matrix):
    """Keep the centre of an image's k-space: fewer and larger voxels in the same field of view.

    The voxels of the result lie where those of a scan with that matrix would: the field of view
    begins and ends where it did, so that a voxel's centre lies half a new voxel, no longer half an
    old one, from its border (see `cropped_affine`). A linear phase over k-space moves the samples
    there.

    Of an even number n of steps the frequencies -n/2 to n/2 - 1 are kept, as a scanner samples
    them. There is no apodisation: a scan that was taken with the coarser voxels has none either,
    and one that is brought to them should ring at edges as that does.

    Parameters
    ----------
    image : ndarray of complex, shape (x, y, z) or more axes after these
        Complex images, such as the echoes of a scan along the fourth axis.
    matrix : sequence of 3 ints
        Voxels to keep along each axis, none more than the image has.

    Returns
    -------
    ndarray of complex, shape (\\*matrix, ...)
        In the image's units: the mean over the field of view stays. An axis that keeps its size is
        not touched.

    Raises
    ------
    ValueError
        If the image is real, or `matrix` asks for more voxels than there are or fewer than one.

    Examples
    --------
    >>> crop_kspace(np.full((4, 4, 2), 3.0 + 4.0j), (3, 2, 2))[0, 0, 0].round(6).tolist()
    (3+4j)
    """
    image = np.asarray(image)
    if not np.iscomplexobj(image):
        raise ValueError("k-space is that of a complex image: combine magnitude and phase first")
    if len(matrix) != 3 or any(
        not 1 <= kept <= n for kept, n in zip(matrix, image.shape[:3], strict=True)
    ):
        raise ValueError(
            f"a matrix of {tuple(matrix)} cannot be cut out of one of {image.shape[:3]}"
        )
    for axis, kept in enumerate(matrix):
        if kept != image.shape[axis]:
            image = _crop_axis(image, axis, kept)
    return image


def _crop_axis(image, axis, kept):
    n = image.shape[axis]
    k = np.rint(np.fft.fftfreq(kept, 1 / kept)).astype(int)
    # From the first old voxel's centre to the first new one's, as a share of the field of view.
    shift = 0.5 / kept - 0.5 / n
    ramp = np.exp(2j * np.pi * k * shift) * (kept / n)
    ramp = ramp.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    kspace = fft.fft(image, axis=axis).take(k % n, axis) * ramp.astype(image.dtype)
    return fft.ifft(kspace, axis=axis, overwrite_x=True)


def cropped_affine(affine, matrix, cropped):
    """Affine of an image after its k-space was cropped: the edges of the field of view stay where
    they are.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        From the image's voxels to its world, mm.
    matrix, cropped : sequence of 3 ints
        Voxels before and after.

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
