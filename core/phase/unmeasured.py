"""Find voxels without phase: a background that other programs set to NaN or to a constant."""

import numpy as np
from scipy import ndimage

# A value that more of the voxels than this share in all echoes is a background. Of stored integers,
# one in 4096 has a given value by chance, and in two echoes one in 4096².
_SHARED = 0.01


def background_without_phase(stored: np.ndarray) -> np.ndarray:
    """Find the background in which the phase of all echoes is not finite or one constant.

    Parameters
    ----------
    stored : ndarray, shape (x, y, z, n_echoes)
        Phase as it is stored, in any unit.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        Regions that reach the edge of the image; single voxels inside the head, which may have the
        same phase by chance, are none.

    Examples
    --------
    >>> phase = np.random.default_rng(0).normal(size=(6, 6, 6, 2))
    >>> phase[:2] = 0
    >>> phase[4, 4, 4] = 0
    >>> int(background_without_phase(phase).sum())
    72
    """
    first = stored[..., 0]
    is_finite = np.isfinite(first)
    is_constant = is_finite & (stored == first[..., np.newaxis]).all(axis=-1)
    values, counts = np.unique(first[is_constant], return_counts=True)
    common = values[counts > _SHARED * first.size]
    background = ~np.isfinite(stored).any(axis=-1)
    for value in common:
        background |= is_constant & (first == value)
    return reaching_the_edge(background)


def reaching_the_edge(region: np.ndarray) -> np.ndarray:
    """Keep those parts of a region that reach the edge of the volume.

    Parameters
    ----------
    region : ndarray of bool, shape (x, y, z)

    Returns
    -------
    ndarray of bool, shape (x, y, z)

    Examples
    --------
    >>> region = np.zeros((5, 5, 5), bool)
    >>> region[0, 0, 0] = region[2, 2, 2] = True
    >>> int(reaching_the_edge(region).sum())
    1
    """
    if not region.any():
        return region
    parts, _ = ndimage.label(region)
    at_the_edge = np.zeros(region.shape, bool)
    for axis in range(3):
        for side in (0, -1):
            np.moveaxis(at_the_edge, axis, 0)[side] = True
    numbers = np.unique(parts[at_the_edge & region])
    return np.isin(parts, numbers[numbers > 0])
