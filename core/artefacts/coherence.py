"""Coherence of the phases of neighbouring voxels, which reveals alternating signs and noise."""

from collections.abc import Sequence

import numpy as np

#: Voxels along each axis of the central block, which the checks of a scan examine.
BLOCK = (64, 64, 64)

# The coherence is -1 if signs alternate. Without alternation it is far above zero in a head, even
# though the field varies.
_ALTERNATING = -0.5

# An echo in which no axis has a coherence above this, of either sign, is noise.
_COHERENT = 0.5


def central_block(volume: np.ndarray, size: Sequence[int] = BLOCK) -> np.ndarray:
    """Return a view of the block in the middle of a volume.

    Parameters
    ----------
    volume : ndarray
        3-D.
    size : tuple of int
        Voxels along each axis. An axis gets one more if the block could not be central otherwise,
        and stays whole if it has fewer.

    Returns
    -------
    ndarray
        Its mirror image is the block of the mirrored volume.

    Examples
    --------
    >>> central_block(np.zeros((100, 10, 71)), (64, 64, 64)).shape
    (64, 10, 65)
    """
    block = []
    for n, n_block in zip(volume.shape, size, strict=True):
        start = max(0, (n - n_block) // 2)
        block.append(slice(start, n - start))
    return volume[tuple(block)]


def neighbour_coherence(magnitude: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Return how well the phases of neighbouring voxels agree along each axis.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z)
        Any unit, not negative.
    phase : ndarray, shape (x, y, z)
        In radians.

    Returns
    -------
    ndarray, shape (3,)
        Real part of Σ S*(i) S(i+1) / Σ |S*(i) S(i+1)|, with S the complex signal: 1 for a constant
        phase, 0 for noise, -1 if the sign alternates. NaN along an axis on which no neighbours have
        signal.

    Examples
    --------
    >>> alternating = np.pi * (np.arange(8) % 2) * np.ones((5, 5, 1))
    >>> neighbour_coherence(np.ones((5, 5, 8)), alternating).round(3).tolist()
    [1.0, 1.0, -1.0]
    """
    signal = magnitude * np.exp(1j * phase)
    coherence = []
    for axis in range(3):
        product = neighbour_product(signal, axis)
        total = np.abs(product).sum()
        coherence.append(product.sum().real / total if total > 0 else np.nan)
    return np.array(coherence)


def alternating_axes(magnitude: np.ndarray, phase: np.ndarray) -> tuple[int, ...]:
    """Find axes along which the sign of the signal alternates from voxel to voxel.

    Across slices, the cause is RF chopping that the reconstruction has not undone (GE). Along an
    axis in the plane, k-space is shifted by half its width: its centre was treated as its corner.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (x, y, z)
        As of `neighbour_coherence`. The first echo is best, as its phase is the smoothest.

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> alternating = np.pi * (np.arange(8) % 2) * np.ones((5, 5, 1))
    >>> alternating_axes(np.ones((5, 5, 8)), alternating)
    (2,)
    """
    return tuple(np.flatnonzero(neighbour_coherence(magnitude, phase) < _ALTERNATING).tolist())


def common_alternation(magnitude: np.ndarray, phase: np.ndarray) -> tuple[tuple[int, ...], bool]:
    """Find axes along which the sign alternates in the echoes of a scan.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (echoes, x, y, z)
        As of `neighbour_coherence`.

    Returns
    -------
    axes : tuple of int
        Axes along which the sign alternates in the first echo, or else in the first later one.
    is_common : bool
        Whether it alternates along the same axes in all echoes, apart from those that are noise.
        The sign then cancels between echoes, whereas the phase of a steep field grows with them.
    """
    coherence = []
    axes: tuple[int, ...] = ()
    for echo in zip(magnitude, phase, strict=True):
        along_axes = np.nan_to_num(neighbour_coherence(*echo))
        if np.abs(along_axes).max() > _COHERENT:
            coherence.append(along_axes)
            axes = axes or alternating_axes(*echo)
    others = [axis for axis in range(3) if axis not in axes]
    is_common = bool(axes) and all(
        (along[list(axes)] < 0).all() and (along[others] > _ALTERNATING).all()
        for along in coherence
    )
    return axes, is_common


def undo_alternation(phase: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Add π to the phase of every second voxel along some axes.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, ...)
        In radians.
    axes : sequence of int
        From `common_alternation`.

    Returns
    -------
    ndarray
        From -π to π.

    Examples
    --------
    >>> alternating = np.pi * (np.arange(8) % 2) * np.ones((5, 5, 1))
    >>> float(np.abs(undo_alternation(alternating, [2])).max().round(9))
    0.0
    """
    parity = np.zeros(phase.shape[:3], bool)
    for axis in axes:
        is_odd = np.arange(phase.shape[axis]) % 2 == 1
        parity ^= np.moveaxis(is_odd.reshape(-1, 1, 1), 0, axis)
    shifted = phase + np.where(parity, np.pi, 0).reshape(*parity.shape, *[1] * (phase.ndim - 3))
    period = 2 * np.pi
    return (shifted - period * np.rint(shifted / period)).astype(phase.dtype)


def neighbour_product(signal: np.ndarray, axis: int) -> np.ndarray:
    """Multiply each voxel's conjugate by the next voxel along an axis.

    The phase of the product is the wrapped difference between the two phases.

    Parameters
    ----------
    signal : ndarray of complex
        Any shape.
    axis : int

    Returns
    -------
    ndarray of complex
        The axis comes first, and is shorter by one.
    """
    following = np.moveaxis(signal, axis, 0)
    return following[1:] * following[:-1].conj()
