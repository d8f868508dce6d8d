"""The result of background field removal."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BackgroundRemoval:
    """Result of a background field removal.

    Attributes
    ----------
    local_field : ndarray of float32, shape (x, y, z)
        Field of the sources inside the mask, ppm, zero outside `mask`.
    mask : ndarray of bool, shape (x, y, z)
        Where the local field is valid: the input mask or, with some methods, a part of it.
    iterations : int
        Iterations of the solver; 0 if there is none.
    relative_residual : float
        Norm of the normal equations' residual relative to its initial value; 0 without a solver.
    lambda_value : float or None
        λ that was chosen, ppm·mm; None without a penalty.
    """

    local_field: np.ndarray
    mask: np.ndarray
    iterations: int = 0
    relative_residual: float = 0.0
    lambda_value: float | None = None
