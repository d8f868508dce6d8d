"""Whether stored phase wraps where it should, by the jumps between neighbouring voxels."""

import numpy as np

# Share of voxels that have one and the same value if the background was set to it; integers have
# 4096 to share.
_BACKGROUND = 0.01

# Phase between neighbours that jumps by so much of the range has wrapped, or is noise.
_JUMP = 0.8


def jump_fraction(values, low, high):
    """Share of neighbours between which values jump by most of their range, as a wrapped phase
    does.

    Parameters
    ----------
    values : ndarray
        A block of an image, 3-D.
    low, high : float
        Range of the whole image.

    Returns
    -------
    float
        0 for a magnitude, whose neighbours are alike; 0.04 for uniform noise; some thousandths for
        wraps.

    Examples
    --------
    >>> wrapped = np.linspace(0, 40, 101).reshape(-1, 1, 1) % 6
    >>> round(jump_fraction(wrapped, 0, 6), 2)
    0.06
    """
    steps = [np.abs(np.diff(values, axis=axis)) for axis in range(values.ndim)]
    n_steps = sum(step.size for step in steps)
    if n_steps == 0 or not high > low:
        return 0.0
    return float(sum(np.count_nonzero(step > _JUMP * (high - low)) for step in steps) / n_steps)


def wrapped_range(values, least):
    """Range within which a phase turns around: stored as it may be, that is a whole turn.

    Parameters
    ----------
    values : ndarray
        A block of an image, 3-D. What more than a hundredth of its voxels have alike is background
        and not looked at.
    least : float
        Share of neighbours that jump by most of the range, as of `jump_fraction`, above which it is
        wrapped.

    Returns
    -------
    float or None
        None if it does not turn around.

    Examples
    --------
    >>> wrapped_range(np.linspace(0, 40000, 101).reshape(-1, 1, 1) % 4096, 0.002) > 3800
    True
    """
    found, counts = np.unique(values, return_counts=True)
    known = np.where(np.isin(values, found[counts > _BACKGROUND * values.size]), np.nan, values)
    if np.isnan(known).all():
        return None
    low = np.nanmin(known)
    high = np.nanmax(known)
    return float(high - low) if jump_fraction(known, low, high) > least else None
