"""Bring magnitudes of any unit to a range in which sums of squares neither overflow nor vanish."""

import numpy as np

# Largest values between which nothing needs to be scaled. Fourth powers of magnitudes within five
# orders of magnitude of them are then far from the limits of 32-bit floats, 1e-38 and 3e38.
_LEAST = 1e-2
_GREATEST = 1e6
_TARGET = 1024.0


def comfortable_scale(largest: float) -> float:
    """Return the factor that brings magnitudes to a range that is safe for 32-bit floats.

    Parameters
    ----------
    largest : float
        Largest magnitude, in any unit.

    Returns
    -------
    float
        A power of two, so that multiplying by it is exact; 1 if the magnitudes are in the range.

    Examples
    --------
    >>> comfortable_scale(4095.0), comfortable_scale(2.0**-30)
    (1.0, 1099511627776.0)
    """
    if not (np.isfinite(largest) and largest > 0) or _LEAST <= largest <= _GREATEST:
        return 1.0
    return float(2.0 ** np.round(np.log2(_TARGET / largest)))
