"""How alike the phases of neighbouring voxels are: blocks of an image, and axes along which the
sign alternates.
"""

import numpy as np

#: Voxels along each axis of the block that the judgements are made on.
BLOCK = (64, 64, 64)

# A sign that alternates makes the coherence -1; what a head's field leaves of it is far on the
# positive side.
_ALTERNATING = -0.5


def central_block(volume, size=BLOCK):
    """Cut a block out of the middle of a volume.

    Parameters
    ----------
    volume : ndarray
        3-D.
    size : tuple of int
        Voxels along each axis; one more where that brings the block to the middle; an axis with
        fewer is kept whole.

    Returns
    -------
    ndarray
        A view; that of the mirrored volume is its mirror image.

    Examples
    --------
    >>> central_block(np.zeros((100, 10, 71)), (64, 64, 64)).shape
    (64, 10, 65)
    """
    starts = [max(0, (have - want) // 2) for have, want in zip(volume.shape, size, strict=True)]
    return volume[
        tuple(slice(start, have - start) for start, have in zip(starts, volume.shape, strict=True))
    ]


def neighbour_coherence(magnitude, phase):
    """How far the phases of neighbours agree, along each axis.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z)
        In any unit, not negative.
    phase : ndarray, shape (x, y, z)
        In radians.

    Returns
    -------
    ndarray, shape (3,)
        The sum of S*(i) S(i+1) over the sum of its moduli, real part, with S the complex signal: 1
        for a constant phase, 0 for noise, -1 where the sign alternates. NaN along an axis without
        neighbours that have signal.

    Examples
    --------
    >>> alternating = np.pi * (np.arange(8) % 2) * np.ones((5, 5, 1))
    >>> neighbour_coherence(np.ones((5, 5, 8)), alternating).round(3).tolist()
    [1.0, 1.0, -1.0]
    """
    signal = magnitude * np.exp(1j * phase)
    found = []
    for axis in range(3):
        product = neighbour_product(signal, axis)
        total = np.abs(product).sum()
        found.append(product.sum().real / total if total > 0 else np.nan)
    return np.array(found)


def alternating_axes(magnitude, phase):
    """Axes along which every second voxel's phase is turned by π.

    Along the slices that is RF chopping which the reconstruction has not undone (GE); along an axis
    in the plane it is k-space shifted by half its width, as if the centre had been taken for the
    corner.

    Parameters
    ----------
    magnitude, phase : ndarray, shape (x, y, z)
        As of `neighbour_coherence`; of the first echo, whose phase is the smoothest.

    Returns
    -------
    tuple of int
        The axes.
    """
    return tuple(np.flatnonzero(neighbour_coherence(magnitude, phase) < _ALTERNATING).tolist())


def neighbour_product(signal, axis):
    """Each voxel's next one along an axis times its own complex conjugate: its phase is the
    difference of theirs.
    """
    following = np.moveaxis(signal, axis, 0)
    return following[1:] * following[:-1].conj()
