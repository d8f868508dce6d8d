"""Determine from jumps between neighbouring voxels whether phase wraps, and at which period."""

import math

import numpy as np

# If more than this fraction of the voxels have the same value, it is a background that was set to a
# constant. The values of stored phase are spread over about 4096 integers.
_BACKGROUND = 0.01

# A difference between neighbours of more than this fraction of the range is a wrap, or noise.
_JUMP = 0.8

# Percentiles of fewer voxels are not meaningful.
_FEWEST = 20


def jump_fraction(values: np.ndarray, low: float, high: float) -> float:
    """Return the fraction of neighbours whose difference is most of the range, as at a phase wrap.

    Parameters
    ----------
    values : ndarray
        A block of an image, 3-D.
    low, high : float
        Least and greatest value of the whole image.

    Returns
    -------
    float
        0 for a magnitude image, whose neighbours are similar; 0.04 for uniform noise; a few
        thousandths for wrapped phase.

    Examples
    --------
    >>> wrapped = np.linspace(0, 40, 101).reshape(-1, 1, 1) % 6
    >>> round(jump_fraction(wrapped, 0, 6), 2)
    0.06
    """
    if not high > low:
        return 0.0
    n_steps = 0
    n_jumps = 0
    for axis in range(values.ndim):
        # In 64 bits, since the difference of two values may exceed the range of 32-bit floats.
        steps = np.abs(np.diff(values.astype(float), axis=axis))
        n_steps += steps.size
        n_jumps += int(np.count_nonzero(steps > _JUMP * (high - low)))
    return n_jumps / n_steps if n_steps else 0.0


def wrapped_range(values: np.ndarray, least: float) -> float | None:
    """Return the range of a wrapped phase, which is one period in whatever unit it is stored.

    Parameters
    ----------
    values : ndarray
        A block of an image, 3-D. A value that more than a hundredth of its voxels share is regarded
        as background and ignored.
    least : float
        The phase counts as wrapped if its `jump_fraction` is greater than this.

    Returns
    -------
    float or None
        None if the phase does not wrap.

    Examples
    --------
    >>> wrapped_range(np.linspace(0, 40000, 101).reshape(-1, 1, 1) % 4096, 0.002) > 3800
    True
    """
    distinct, counts = np.unique(values, return_counts=True)
    background = distinct[counts > _BACKGROUND * values.size]
    phase = np.where(np.isin(values, background), np.nan, values)
    if np.isnan(phase).all():
        return None
    low = np.nanmin(phase)
    high = np.nanmax(phase)
    return float(high - low) if jump_fraction(phase, low, high) > least else None


def without_background(values: np.ndarray) -> np.ndarray:
    """Replace a background that was set to a constant by NaN.

    Parameters
    ----------
    values : ndarray
        A block of an image, any shape. The commonest value is regarded as background if more than
        a hundredth of the voxels share it.

    Returns
    -------
    ndarray of floats
        Shape of ``values``.

    Examples
    --------
    >>> without_background(np.array([2.0, 0.0, 3.0, 0.0]))
    array([ 2., nan,  3., nan])
    """
    distinct, counts = np.unique(values, return_counts=True)
    if not counts.size or counts.max() <= _BACKGROUND * values.size:
        return values.astype(float)
    return np.where(values == distinct[counts.argmax()], np.nan, values.astype(float))


def spread(values: np.ndarray) -> float:
    """Return how far values are spread, regardless of a constant background and of outliers.

    Parameters
    ----------
    values : ndarray
        Voxels of an image, any shape.

    Returns
    -------
    float
        Distance from the 5th to the 95th percentile; NaN if fewer than 20 voxels are left.

    Examples
    --------
    >>> spread(np.concatenate([np.zeros(500), np.linspace(1, 2, 1001), [90]])) < 0.91
    True
    """
    varied = without_background(values)
    varied = varied[~np.isnan(varied)]
    if varied.size < _FEWEST:
        return math.nan
    return float(np.subtract(*np.percentile(varied, (95, 5))))
