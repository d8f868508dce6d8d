"""What all methods of background field removal give."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BackgroundRemoval:
    """Result of a background field removal.

    Attributes
    ----------
    local_field : ndarray of float32, shape (x, y, z)
        Field of the sources inside the mask, ppm, zero where it is not known.
    mask : ndarray of bool, shape (x, y, z)
        Where it is known: all of the mask given or, with some methods, less.
    iterations : int
        Iterations of the solver, if there is one.
    relative_residual : float
        Norm of the normal equations' residual relative to its start, if there is a solver.
    """

    local_field: np.ndarray
    mask: np.ndarray
    iterations: int = 0
    relative_residual: float = 0.0
