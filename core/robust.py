"""Spread of values that include outliers."""

import numpy as np

# Standard deviation of a normal distribution over the median of its absolute deviations.
SD_PER_MEDIAN = 1.4826


def robust_sd(deviations: np.ndarray) -> float:
    """Return the standard deviation of the bulk of the values, robust to outliers.

    Parameters
    ----------
    deviations : ndarray
        Deviations from a typical value, such as a median or a fit; not empty.

    Returns
    -------
    float
        1.4826 times the median absolute deviation, in the unit of the deviations.

    Examples
    --------
    >>> deviations = np.random.default_rng(0).normal(0, 2, 10_000)
    >>> deviations[:500] = 1000
    >>> round(robust_sd(deviations), 1)
    2.1
    """
    return SD_PER_MEDIAN * float(np.median(np.abs(deviations)))
