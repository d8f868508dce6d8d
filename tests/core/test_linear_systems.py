"""Conjugate gradients agree with elimination from any start, and a good preconditioner helps."""

import numpy as np
import pytest

from multiqsm.core.linear_systems import conjugate_gradients

RNG = np.random.default_rng(0)
BASIS = np.linalg.qr(RNG.normal(size=(40, 40)))[0]
MATRIX = (BASIS * np.geomspace(1, 300, 40)) @ BASIS.T
RIGHT_SIDE = RNG.normal(size=40)
SOLUTION = np.linalg.solve(MATRIX, RIGHT_SIDE)


def solve(**options):
    return conjugate_gradients(
        MATRIX.dot, RIGHT_SIDE.copy(), tolerance=1e-6, max_iterations=200, **options
    )


@pytest.mark.parametrize("guess", [None, "ones"])
@pytest.mark.parametrize("precondition", [None, (1 / np.diag(MATRIX)).__mul__])
def test_agrees_with_elimination(guess, precondition):
    start = None if guess is None else np.ones(40)  # overwritten
    solution, iterations, residual = solve(guess=start, precondition=precondition)
    np.testing.assert_allclose(solution, SOLUTION, atol=1e-5 * np.abs(SOLUTION).max())
    assert 1 < iterations < 200
    assert residual <= 1e-6


def test_the_inverse_as_preconditioner_and_the_solution_as_guess_leave_nothing_to_do():
    assert solve(precondition=np.linalg.inv(MATRIX).dot)[1] <= 2
    assert solve(guess=SOLUTION.copy())[1] == 0


def test_stops_at_the_maximum_of_iterations_or_at_a_zero_residual():
    _, iterations, residual = conjugate_gradients(
        MATRIX.dot, RIGHT_SIDE.copy(), tolerance=1e-6, max_iterations=3
    )
    assert iterations == 3
    assert residual > 1e-6
    solution, iterations, residual = conjugate_gradients(
        MATRIX.dot, np.zeros(40), tolerance=1e-6, max_iterations=3
    )
    assert (iterations, residual) == (0, 0)
    assert not solution.any()
