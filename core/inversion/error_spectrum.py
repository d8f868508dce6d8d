"""Spectrum of the field's error, read where no susceptibility has a field.

Rules for λ tell the error of the field from the field itself. Cross-validation assumes that errors
of neighbouring voxels are independent ("white"). In measured fields they are not: what remains of
the background, motion, flow and tissue microstructure vary smoothly in space. On the cone of the
dipole kernel, D = 0, lies no field of any susceptibility, so that what is measured there is error.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from ..dipole import frequencies
from ..grid import Vector

# |D| up to which a spatial frequency counts as on the cone. λ changes by less than 5 % if it is .04
# or .1, on simulated and on measured fields.
CONE = 0.06
# mm. Depth at which the field has full weight in the spectrum; it falls to zero at the surface of
# the mask. A sharp edge would spread the field's low frequencies onto the cone, and the background
# that was not removed is near the surface.
TAPER_DEPTH = 4.0
SHELL = 0.03  # 1/mm, width of the shells of |k| in which the error is averaged
FEWEST = 50  # frequencies on the cone in a shell; shells with fewer are joined with the next


class ErrorSpectrum:
    """The power N(|k|) of the field's error, and powers of fields relative to it.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Field on the working grid, ppm, times its data weight.
    weight : ndarray, shape (x, y, z)
        Data weight, zero outside the mask.
    kernel : ndarray, shape (x, y, z // 2 + 1)
        D of `dipole_kernel`.
    voxel_size : sequence of 3 floats
        Voxel size, mm.

    Attributes
    ----------
    amplitudes : tuple of (float, float)
        Standard deviation of the error in a voxel, ppm, if all frequencies had the power of the
        lowest shell, and of the highest one. They are equal if the error is white.

    References
    ----------
    Golub, Heath & Wahba, Technometrics 21:215-223 (1979), eq. 1.4: the score, here of the whitened
    residual.
    """

    def __init__(
        self, field: np.ndarray, weight: np.ndarray, kernel: np.ndarray, voxel_size: Vector
    ) -> None:
        self._taper = surface_taper(weight > 0, voxel_size)
        self._squares = float(np.sum(np.square(self._taper), dtype=np.float64))
        self._multiplicity = multiplicity(field.shape[2])
        power = self.power(field)
        shells, errors = self._shells(power, kernel, voxel_size)
        self.amplitudes = (float(np.sqrt(errors[0])), float(np.sqrt(errors[-1])))
        self._inverse = (1 / errors).astype(np.float32)[shells]

    def power(self, field: np.ndarray) -> np.ndarray:
        """Return the power spectrum of a field that falls off to zero at the mask's surface.

        Parameters
        ----------
        field : ndarray, shape (x, y, z)
            Field or residual on the working grid, ppm.

        Returns
        -------
        ndarray of float32, shape (x, y, z // 2 + 1)
            In ppm²: the variance of white noise in a voxel.
        """
        mean = float(np.sum(self._taper * field, dtype=np.float64) / self._taper.sum())
        spectrum = fft.rfftn(self._taper * (field - np.float32(mean)))
        return (spectrum.real**2 + spectrum.imag**2) / np.float32(self._squares)

    def whitened(self, field: np.ndarray) -> np.ndarray:
        """Return the power spectrum of a field over that of its error.

        Parameters
        ----------
        field : ndarray, shape (x, y, z)
            Field or residual on the working grid, ppm.

        Returns
        -------
        ndarray of float32, shape (x, y, z // 2 + 1)
            About 1 where there is nothing but error.
        """
        return self.power(field) * self._inverse

    def _shells(self, power, kernel, voxel_size):
        """Return the shell of each frequency, and the error's mean power of each shell."""
        length = np.sqrt(sum(k**2 for k in frequencies(self._taper.shape, voxel_size)))
        shells = (length / np.float32(SHELL)).astype(np.int32)
        n_shells = int(shells.max()) + 1
        on_cone = np.abs(kernel) < CONE
        on_cone[0, 0, 0] = False  # D(0) = 0, but k = 0 lies on no cone
        weight = np.broadcast_to(self._multiplicity, kernel.shape)[on_cone]
        counts = np.bincount(shells[on_cone], weight, n_shells)
        sums = np.bincount(shells[on_cone], weight * power[on_cone], n_shells)
        joined = _joined(counts)
        mean = np.bincount(joined, sums) / np.maximum(np.bincount(joined, counts), 1)
        # A field without any error on the cone, as of a noiseless simulation, has no spectrum.
        lowest = np.finfo(np.float32).eps * max(float(power.mean()), np.finfo(np.float32).tiny)
        return joined[shells], np.maximum(mean, lowest)


def _joined(counts):
    """Return the new index of each shell after joining those with few frequencies."""
    joined = np.zeros(len(counts), np.int32)
    index = 0
    content = 0.0
    for shell, count in enumerate(counts):
        if content >= FEWEST and counts[shell:].sum() >= FEWEST:
            index += 1
            content = 0.0
        joined[shell] = index
        content += count
    return joined


def surface_taper(mask: np.ndarray, voxel_size: Vector) -> np.ndarray:
    """Return weights that rise from zero at a mask's surface to one at a depth of 4 mm.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Region of interest. What lies beyond the volume is not inside.
    voxel_size : sequence of 3 floats
        Voxel size, mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        sin² (π d / 8 mm) at a depth of d below a flat surface. If the mask is too thin to have a
        depth, 1 inside.
    """
    sides = [2 * round(TAPER_DEPTH / size) + 1 for size in voxel_size]
    # The share of a box around a voxel that lies inside: a half at a flat surface, one from a depth
    # of half the box.
    share = ndimage.uniform_filter(mask.astype(np.float32), sides, mode="constant")
    depth = np.clip(2 * share - 1, 0, 1)
    taper = np.square(np.sin(np.pi / 2 * depth)) * mask
    return taper if taper.any() else mask.astype(np.float32)


def multiplicity(last_axis: int) -> np.ndarray:
    """Return how many frequencies of the whole spectrum each plane of the half spectrum stands for.

    The half spectrum omits k whose complex conjugate -k it has, except in the planes of zero and
    Nyquist frequency, which contain both.

    Parameters
    ----------
    last_axis : int
        Length of the volume's last axis.

    Returns
    -------
    ndarray of float32, shape (last_axis // 2 + 1,)
    """
    counts = np.full(last_axis // 2 + 1, 2, np.float32)
    counts[0] = 1
    if last_axis % 2 == 0:
        counts[-1] = 1
    return counts
