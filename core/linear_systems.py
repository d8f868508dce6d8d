"""Linear systems whose operator is symmetric and positive definite."""

import numpy as np


def conjugate_gradients(
    operator, right_side, *, tolerance, max_iterations, guess=None, precondition=None
):
    """Solve operator(u) = right_side.

    Parameters
    ----------
    operator : callable
        Symmetric and positive definite; takes and returns an array like `right_side`.
    right_side : ndarray
        Used up.
    tolerance : float
        Stop when the norm of the residual has fallen to this share of the right-hand side's.
    max_iterations : int
        Stop after so many iterations in any case.
    guess : ndarray, optional
        Where to start, used up; zero without it.
    precondition : callable, optional
        Symmetric and positive (semi)definite, close to the operator's inverse. Norms are then
        relative to it.

    Returns
    -------
    u : ndarray
        The solution.
    iterations : int
        Iterations taken.
    reached : float
        Norm of the residual relative to the right-hand side's.

    References
    ----------
    Hestenes & Stiefel, J Res Natl Bur Stand 49:409-436 (1952), eq. 3:1.
    """
    precondition = precondition or (lambda residual: residual)
    residual = right_side
    descent = precondition(right_side)
    start = size = inner(residual, descent)
    u = np.zeros_like(right_side) if guess is None else guess
    if guess is not None:
        residual -= operator(guess)
        descent = precondition(residual)
        size = inner(residual, descent)
    direction = descent.copy()
    scratch = np.empty_like(residual)
    iterations = 0
    while size > tolerance**2 * start and iterations < max_iterations:
        response = operator(direction)
        step = np.float32(size / inner(direction, response))
        u += np.multiply(direction, step, out=scratch)
        residual -= np.multiply(response, step, out=scratch)
        descent = precondition(residual)
        previous = size
        size = inner(residual, descent)
        direction *= np.float32(size / previous)
        direction += descent
        iterations += 1
    return u, iterations, float(np.sqrt(size / start)) if start else 0.0


def inner(x, y):
    """Inner product by numpy's pairwise sum; not BLAS, whose result depends on the number of
    threads.
    """
    return float(np.sum(x * y))
