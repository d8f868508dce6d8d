"""Spread of values among which some do not belong."""

import numpy as np

# A normal distribution's standard deviation is so many times the median size of its deviations.
SD_PER_MEDIAN = 1.4826


def robust_sd(deviations):
    """Standard deviation of most values, whatever the others are.

    Parameters
    ----------
    deviations : ndarray
        Deviations from what is usual, such as a median or a fit; not empty.

    Returns
    -------
    float
        1.4826 times the median of their sizes, in their unit.

    Examples
    --------
    >>> deviations = np.random.default_rng(0).normal(0, 2, 10_000)
    >>> deviations[:500] = 1000
    >>> round(robust_sd(deviations), 1)
    2.1
    """
    return SD_PER_MEDIAN * float(np.median(np.abs(deviations)))
