"""MEDI recovers what is there, solves what it says it solves, and is not led astray by impossible
voxels.
"""

import numpy as np
import pytest
from helpers.analytic import ball_in_head
from scipy import fft, optimize

from multiqsm.core.dipole import dipole_kernel
from multiqsm.core.grid import WorkingGrid
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.problem import MARGIN
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.core.inversion.weighted import iterative

TILTED = (0, 0.34, 0.94)
GEOMETRIES = pytest.mark.parametrize(
    ("voxel_size", "b0_dir", "odd"),
    [((1, 1, 1), (0, 0, 1), 0), ((1, 1, 2), TILTED, 1), ((1.5, 1.25, 2), (1, 1, 1), 1)],
)


def noisy(field, sd, seed=0):
    return field + np.random.default_rng(seed).normal(0, sd, field.shape).astype(np.float32)


def contrast(chi, inside, outside):
    return chi[inside].mean() - chi[outside].mean()


@GEOMETRIES
@pytest.mark.parametrize("period", [None, 1.0])
def test_ball_keeps_its_susceptibility(voxel_size, b0_dir, odd, period):
    field, mask, magnitude, inside, outside = ball_in_head(voxel_size, b0_dir, odd)
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    found = medi(noisy(field, 0.001), mask, voxel_size, edges=edges, b0_dir=b0_dir, period=period)
    # 4 %: partial volume of the ball's surface, where its field is not a voxel's own.
    assert contrast(found.chi, inside, outside) == pytest.approx(0.1, rel=0.04)
    assert found.chi[outside].std() < 0.004
    assert not found.chi[~mask].any()


def test_what_the_magnitude_does_not_show_keeps_its_edges():
    # Squared gradients smooth a ball that has no edge in the magnitude; sparse ones let it jump.
    field, mask, _, inside, outside = ball_in_head()
    truth, known = np.where(inside, 0.1, 0.0), inside | outside
    edges = edge_mask(noisy(np.ones(mask.shape), 0.01), mask)
    field = noisy(field, 0.003)
    sparse, squared, closed = (
        np.std((found.chi - truth)[known])
        for found in (
            medi(field, mask, (1, 1, 1), edges=edges),
            iterative(field, mask, (1, 1, 1), edges=edges),
            deterministic(field, mask, (1, 1, 1)),
        )
    )
    assert sparse < 0.6 * min(squared, closed)


def test_solution_is_the_minimum():
    """A convex problem: the cost of an independent minimiser, smooth but close to |x|, is no
    lower.
    """
    shape, voxel_size, lam = (12, 11, 10), (1, 1, 1.5), 2e-3
    mask = np.zeros(shape, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    rng = np.random.default_rng(1)
    field = rng.normal(0, 0.01, shape) * mask
    edges = edge_mask(rng.normal(100, 10, shape), mask, fraction=0.2)
    found = medi(
        field,
        mask,
        voxel_size,
        edges=edges,
        lam=lam,
        merit=False,
        tolerance=1e-6,
        max_iterations=3000,
    )

    grid = WorkingGrid.around(mask, voxel_size, MARGIN)
    kernel, inside = dipole_kernel(grid.shape, voxel_size).astype(float), grid.embed(mask)
    target = grid.embed(field)
    smooth = [
        ~(grid.embed(e) | (inside ^ np.roll(inside, -1, axis))) for axis, e in enumerate(edges)
    ]

    def cost_and_slope(x, roundness):
        x = x.reshape(grid.shape)
        left = inside * (fft.irfftn(kernel * fft.rfftn(x), grid.shape) - target)
        cost, slope = 0.5 * np.sum(left**2), fft.irfftn(kernel * fft.rfftn(left), grid.shape)
        for axis, size in enumerate(voxel_size):
            g = smooth[axis] * (np.roll(x, -1, axis) - x) / size
            size_of = np.sqrt(g**2 + roundness**2)
            cost += lam * np.sum(size_of - roundness)
            s = lam * g / size_of / size
            slope += np.roll(s, 1, axis) - s
        return cost, slope.ravel()

    best, x = np.inf, np.zeros(grid.shape).ravel()
    for roundness in (1e-3, 1e-4, 1e-5):
        result = optimize.minimize(
            cost_and_slope,
            x,
            (roundness,),
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": 3000, "maxfun": 6000},
        )
        x = result.x
    best = cost_and_slope(x, 1e-9)[0]
    reached = x.reshape(grid.shape)
    ours = grid.extract(reached)[mask]
    assert np.corrcoef(ours, found.chi[mask])[0, 1] > 0.99
    assert np.std(ours - ours.mean() - found.chi[mask] + found.chi[mask].mean()) < 0.1 * np.std(
        ours
    )
    assert best < 0.5 * np.sum(field**2)  # the minimiser did find something


def test_lambda_grows_with_noise_and_is_not_searched():
    field, mask, magnitude, *_ = ball_in_head()
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    quiet, loud = (
        medi(noisy(field, sd), mask, (1, 1, 1), edges=edges).lam for sd in (0.002, 0.008)
    )
    assert quiet.rule == loud.rule == "scaled"
    # the residual is nearly all noise
    assert loud.value / quiet.value == pytest.approx(4, rel=0.15)


def test_discrepancy_meets_the_noise():
    field, mask, magnitude, *_ = ball_in_head()
    edges, sd = edge_mask(noisy(magnitude, 0.01), mask), 0.004
    standard_error = np.full(mask.shape, sd, np.float32)
    found = medi(
        noisy(field, sd),
        mask,
        (1, 1, 1),
        edges=edges,
        standard_error=standard_error,
        rule="discrepancy",
        merit=False,
    )
    assert found.lam.rule == "discrepancy"
    assert found.residual == pytest.approx(sd, rel=0.02)


def test_voxels_a_turn_off_do_no_harm_where_the_data_term_knows_of_turns():
    field, mask, magnitude, *_ = ball_in_head()
    edges, period = edge_mask(noisy(magnitude, 0.01), mask), 0.5
    field = noisy(field, 0.002)
    wrong = field.copy()
    wrong[np.random.default_rng(2).random(mask.shape) < 0.01] += period
    options = {"edges": edges, "merit": False, "lam": 3e-4}
    right = medi(field, mask, (1, 1, 1), period=period, **options).chi
    nonlinear = medi(wrong, mask, (1, 1, 1), period=period, **options).chi
    linear = medi(wrong, mask, (1, 1, 1), **options).chi
    assert np.std((nonlinear - right)[mask]) < 0.001
    assert np.std((linear - right)[mask]) > 0.02


def test_model_error_reduction_believes_impossible_voxels_less():
    field, mask, magnitude, inside, outside = ball_in_head()
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    wrong = noisy(field, 0.002)
    wrong[np.random.default_rng(2).random(mask.shape) < 0.005] += 0.2
    plain = medi(wrong, mask, (1, 1, 1), edges=edges, merit=False, lam=3e-4).chi
    reduced = medi(wrong, mask, (1, 1, 1), edges=edges, lam=3e-4).chi
    assert reduced[outside].std() < 0.5 * plain[outside].std()
    assert contrast(reduced, inside, outside) == pytest.approx(0.1, rel=0.05)


def test_threads_change_nothing():
    field, mask, magnitude, *_ = ball_in_head((1, 1, 2), TILTED, 1)
    edges = edge_mask(magnitude, mask)
    maps = []
    for workers in (1, 3):
        with fft.set_workers(workers):
            maps.append(medi(field, mask, (1, 1, 2), edges=edges, b0_dir=TILTED).chi)
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": -1.0}, "positive"),
        ({"rule": "gcv"}, "unknown rule"),
        ({"rule": "discrepancy"}, "standard error"),
        ({"period": 0.0}, "period"),
    ],
)
def test_bad_choices_are_refused(options, message):
    mask = np.ones((8, 8, 8), bool)
    with pytest.raises(ValueError, match=message):
        medi(
            np.zeros(mask.shape), mask, (1, 1, 1), edges=np.zeros((3, *mask.shape), bool), **options
        )


def test_bad_input_is_refused():
    mask = np.ones((8, 8, 8), bool)
    edges = np.zeros((3, *mask.shape), bool)
    with pytest.raises(ValueError, match="not finite"):
        medi(np.full(mask.shape, np.nan), mask, (1, 1, 1), edges=edges)
    with pytest.raises(ValueError, match="empty"):
        medi(np.zeros(mask.shape), ~mask, (1, 1, 1), edges=edges)
