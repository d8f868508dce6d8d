"""Lines of k-space: when each is acquired, and what changes from one to the next.

The scan is three-dimensional and Cartesian. One repetition reads one line, along the image's second
axis; the first axis is the phase direction and the third the slice direction. Lines are acquired in
linear order, from the most negative frequency to the most positive: all of the phase direction
(inner loop) for each step of the slice direction (outer loop). This is the axial head scan with the
phase direction from right to left.

A reconstruction takes all lines for those of one object. If the object differs between lines by a
phase w(r)·g(t), the image is

    F⁻¹ exp(i w₀ g) Σₙ (i g)ⁿ/n! F (w - w₀)ⁿ I

with g at the time of each line. The sum ends at n = 2, which leaves a relative error of at most
|(w - w₀) g|³/6.
"""

import numpy as np
from scipy import fft

PHASE_AXIS = 0
READOUT_AXIS = 1
SLICE_AXIS = 2
LINE_AXES = (PHASE_AXIS, SLICE_AXIS)
ORDER = 2  # of the expansion


def frequencies(n: int) -> np.ndarray:
    """Return the frequencies of `n` samples in the order of the FFT, cycles per field of view."""
    return np.fft.fftfreq(n, 1 / n)


def line_times(sampled: np.ndarray, repetition_time: float) -> np.ndarray:
    """Return the time of each line of k-space.

    Parameters
    ----------
    sampled : ndarray of bool, shape (n_phase, n_slice)
        Lines that are acquired, in the order of the FFT. The others take no time.
    repetition_time : float
        s.

    Returns
    -------
    ndarray, shape (n_phase, n_slice)
        Time from the first line, s, in the order of the FFT. A line that is not acquired has the
        time of the next one that is.

    Examples
    --------
    >>> np.fft.fftshift(line_times(np.ones((4, 2), bool), 1.0)).T
    array([[0., 1., 2., 3.],
           [4., 5., 6., 7.]])
    """
    in_order = np.fft.fftshift(sampled).T  # slices, phases
    before = np.cumsum(in_order).reshape(in_order.shape) - in_order
    return np.fft.ifftshift(before.T * repetition_time)


def modulate(
    image: np.ndarray,
    weight: np.ndarray,
    modulation: np.ndarray,
    reference: float,
    *,
    workers: int = 1,
) -> np.ndarray:
    """Return the image of an object whose phase differs from line to line of k-space.

    Parameters
    ----------
    image : ndarray of complex64, shape (x, y, z)
        Image of the object without this phase.
    weight : ndarray of float32, shape (x, y, z)
        Pattern of the phase.
    modulation : ndarray, shape (n_phase, n_slice)
        Phase of each line (rad) where the pattern is 1, in the order of the FFT.
    reference : float
        Value of the pattern around which it is expanded: there the phase is exact.
    workers : int
        Number of threads of the Fourier transforms.

    Returns
    -------
    ndarray of complex64, shape (x, y, z)
    """
    deviation = weight - np.float32(reference)
    kspace = fft.fftn(image, axes=LINE_AXES, workers=workers)
    term = image
    factor = np.ones_like(modulation, complex)
    for order in range(1, ORDER + 1):
        term = term * deviation
        factor = factor * (1j * modulation / order)
        kspace += of_lines(factor) * fft.fftn(term, axes=LINE_AXES, workers=workers)
    kspace *= of_lines(np.exp(1j * reference * modulation))
    return fft.ifftn(kspace, axes=LINE_AXES, workers=workers, overwrite_x=True)


def of_lines(values: np.ndarray) -> np.ndarray:
    """Reshape values of lines, shape (n_phase, n_slice), so that they broadcast to k-space."""
    single = np.complex64 if np.iscomplexobj(values) else np.float32
    return values.astype(single)[:, None, :]
