"""Linear systems whose operator is symmetric and positive definite."""

from collections.abc import Callable

import numpy as np


def conjugate_gradients(
    operator: Callable[[np.ndarray], np.ndarray],
    right_side: np.ndarray,
    *,
    tolerance: float,
    max_iterations: int,
    guess: np.ndarray | None = None,
    precondition: Callable[[np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, int, float]:
    """Solve operator(u) = right_side by preconditioned conjugate gradients.

    Parameters
    ----------
    operator : callable
        Symmetric and positive definite; takes and returns an array like `right_side`.
    right_side : ndarray
        Overwritten.
    tolerance : float
        Stop when the norm of the residual has fallen to this fraction of the right-hand side's.
    max_iterations : int
        Maximum number of iterations.
    guess : ndarray, optional
        Starting point, overwritten. Zero by default.
    precondition : callable, optional
        Symmetric and positive (semi)definite, close to the operator's inverse. Norms are then those
        that it induces.

    Returns
    -------
    u : ndarray
        The solution.
    iterations : int
        Number of iterations.
    relative_residual : float
        Norm of the residual relative to the right-hand side's.

    References
    ----------
    Hestenes & Stiefel, J Res Natl Bur Stand 49:409-436 (1952), eq. 3:1.
    """
    precondition = precondition or (lambda residual: residual)
    residual = right_side
    descent = precondition(right_side)
    squared_norm = inner(residual, descent)
    initial = squared_norm
    if guess is None:
        u = np.zeros_like(right_side)
    else:
        u = guess
        residual -= operator(guess)
        descent = precondition(residual)
        squared_norm = inner(residual, descent)
    direction = descent.copy()
    scratch = np.empty_like(residual)
    iterations = 0
    while squared_norm > tolerance**2 * initial and iterations < max_iterations:
        response = operator(direction)
        step = np.float32(squared_norm / inner(direction, response))
        u += np.multiply(direction, step, out=scratch)
        residual -= np.multiply(response, step, out=scratch)
        descent = precondition(residual)
        previous = squared_norm
        squared_norm = inner(residual, descent)
        direction *= np.float32(squared_norm / previous)
        direction += descent
        iterations += 1
    relative_residual = np.sqrt(squared_norm / initial) if initial else 0.0
    return u, iterations, float(relative_residual)


def inner(x: np.ndarray, y: np.ndarray) -> float:
    """Return the inner product of two arrays, independent of the number of threads.

    numpy sums pairwise in one thread. The rounding of BLAS's dot product would depend on how the
    arrays are divided among threads, and so would the number of iterations.
    """
    return float(np.sum(x * y))
