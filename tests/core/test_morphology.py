"""MEDI recovers susceptibility, minimises its cost, and down-weights inconsistent voxels."""

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
@pytest.mark.parametrize("medi_data", ["linear", "nonlinear"])
def test_ball_keeps_its_susceptibility(voxel_size, b0_dir, odd, medi_data):
    field, mask, magnitude, inside, outside = ball_in_head(voxel_size, b0_dir, odd)
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    options = {"edges": edges, "b0_dir": b0_dir, "medi_data": medi_data, "period": 1.0}
    chi = medi(noisy(field, 0.001), mask, voxel_size, **options).chi
    # 4 %: partial volume at the ball's surface.
    assert contrast(chi, inside, outside) == pytest.approx(0.1, rel=0.04)
    assert chi[outside].std() < 0.004
    assert not chi[~mask].any()


def test_ball_that_the_magnitude_does_not_show_keeps_its_edges():
    # A penalty of squared gradients smooths it, a sparse one allows steps.
    field, mask, _, inside, outside = ball_in_head()
    truth = np.where(inside, 0.1, 0.0)
    compared = inside | outside
    edges = edge_mask(noisy(np.ones(mask.shape), 0.01), mask)
    field = noisy(field, 0.003)
    inversions = (
        medi(field, mask, (1, 1, 1), edges=edges, medi_data="linear"),
        iterative(field, mask, (1, 1, 1), edges=edges),
        deterministic(field, mask, (1, 1, 1)),
    )
    sparse, squared, closed = (np.std((each.chi - truth)[compared]) for each in inversions)
    assert sparse < 0.6 * min(squared, closed)


def test_solution_is_the_minimum():
    """An independent minimiser, of a smooth approximation of |x|, arrives at the same χ."""
    shape = (12, 11, 10)
    voxel_size = (1, 1, 1.5)
    lambda_value = 2e-3
    mask = np.zeros(shape, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    rng = np.random.default_rng(1)
    field = rng.normal(0, 0.01, shape) * mask
    edges = edge_mask(rng.normal(100, 10, shape), mask, edge_fraction=0.2)
    chi = medi(
        field,
        mask,
        voxel_size,
        edges=edges,
        medi_lambda=lambda_value,
        medi_data="linear",
        merit=False,
        tolerance=1e-6,
        max_iterations=3000,
    ).chi[mask]

    grid = WorkingGrid.around(mask, voxel_size, MARGIN)
    kernel = dipole_kernel(grid.shape, voxel_size).astype(float)
    inside = grid.embed(mask)
    target = grid.embed(field)
    is_penalised = []
    for axis in range(3):
        surface = inside ^ np.roll(inside, -1, axis)
        is_penalised.append(~(grid.embed(edges[axis]) | surface))

    def cost_and_slope(x, roundness):
        x = x.reshape(grid.shape)
        residual = inside * (fft.irfftn(kernel * fft.rfftn(x), grid.shape) - target)
        cost = 0.5 * np.sum(residual**2)
        slope = fft.irfftn(kernel * fft.rfftn(residual), grid.shape)
        for axis, size in enumerate(voxel_size):
            gradient = is_penalised[axis] * (np.roll(x, -1, axis) - x) / size
            modulus = np.sqrt(gradient**2 + roundness**2)
            cost += lambda_value * np.sum(modulus - roundness)
            weighted = lambda_value * gradient / modulus / size
            slope += np.roll(weighted, 1, axis) - weighted
        return cost, slope.ravel()

    x = np.zeros(grid.shape).ravel()
    for roundness in (1e-3, 1e-4, 1e-5):
        x = optimize.minimize(
            cost_and_slope,
            x,
            (roundness,),
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": 3000, "maxfun": 6000},
        ).x
    expected = grid.extract(x.reshape(grid.shape))[mask]
    assert np.corrcoef(expected, chi)[0, 1] > 0.99
    difference = expected - expected.mean() - chi + chi.mean()
    assert np.std(difference) < 0.1 * np.std(expected)
    # The minimiser did explain some of the field.
    assert cost_and_slope(x, 1e-9)[0] < 0.5 * np.sum(field**2)


def test_lambda_increases_with_noise():
    field, mask, magnitude, *_ = ball_in_head()
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    low = medi(noisy(field, 0.002), mask, (1, 1, 1), edges=edges, medi_data="linear").lambda_choice
    high = medi(noisy(field, 0.008), mask, (1, 1, 1), edges=edges, medi_data="linear").lambda_choice
    assert low.rule == high.rule == "scaled"
    # the residual is nearly all noise
    assert high.value / low.value == pytest.approx(4, rel=0.15)


def test_discrepancy_meets_the_noise():
    field, mask, magnitude, *_ = ball_in_head()
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    sd = 0.004
    standard_error = np.full(mask.shape, sd, np.float32)
    inversion = medi(
        noisy(field, sd),
        mask,
        (1, 1, 1),
        edges=edges,
        standard_error=standard_error,
        lambda_rule="discrepancy",
        medi_data="linear",
        merit=False,
    )
    assert inversion.lambda_choice.rule == "discrepancy"
    assert inversion.residual == pytest.approx(sd, rel=0.02)


def test_field_errors_by_a_period_are_harmless_with_the_nonlinear_data_term():
    field, mask, magnitude, *_ = ball_in_head()
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    period = 0.5
    field = noisy(field, 0.002)
    wrong = field.copy()
    wrong[np.random.default_rng(2).random(mask.shape) < 0.01] += period
    options = {"edges": edges, "merit": False, "medi_lambda": 3e-4}
    right = medi(field, mask, (1, 1, 1), period=period, **options).chi
    nonlinear = medi(wrong, mask, (1, 1, 1), period=period, **options).chi
    linear = medi(wrong, mask, (1, 1, 1), medi_data="linear", **options).chi
    assert np.std((nonlinear - right)[mask]) < 0.001
    assert np.std((linear - right)[mask]) > 0.02


def test_merit_down_weights_inconsistent_voxels():
    field, mask, magnitude, inside, outside = ball_in_head()
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    wrong = noisy(field, 0.002)
    wrong[np.random.default_rng(2).random(mask.shape) < 0.005] += 0.2
    options = {"edges": edges, "medi_data": "linear", "medi_lambda": 3e-4}
    plain = medi(wrong, mask, (1, 1, 1), merit=False, **options).chi
    merit = medi(wrong, mask, (1, 1, 1), merit=True, **options).chi
    assert merit[outside].std() < 0.5 * plain[outside].std()
    assert contrast(merit, inside, outside) == pytest.approx(0.1, rel=0.05)


def test_quadratic_penalty_alone_gives_the_iterative_map():
    field, mask, magnitude, *_ = ball_in_head((1, 1, 2), TILTED, 1)
    field = noisy(field, 0.003)
    edges = edge_mask(noisy(magnitude, 0.01), mask)
    options = {"edges": edges, "b0_dir": TILTED}
    quadratic = iterative(
        field, mask, (1, 1, 2), exterior_weight=0.0, lambda_value=0.3, tolerance=1e-4, **options
    ).chi[mask]
    chi = medi(
        field,
        mask,
        (1, 1, 2),
        medi_lambda=1e-9,
        quadratic_penalty=0.3**2,
        medi_data="linear",
        merit=False,
        tolerance=1e-4,
        max_iterations=300,
        **options,
    ).chi[mask]
    difference = (chi - chi.mean()) - (quadratic - quadratic.mean())
    assert np.std(difference) < 0.03 * np.std(quadratic)


def test_threads_change_nothing():
    field, mask, magnitude, *_ = ball_in_head((1, 1, 2), TILTED, 1)
    edges = edge_mask(magnitude, mask)
    options = {"edges": edges, "b0_dir": TILTED, "period": 1.0}
    maps = []
    for workers in (1, 3):
        with fft.set_workers(workers):
            maps.append(medi(field, mask, (1, 1, 2), **options).chi)
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"medi_lambda": -1.0}, "positive"),
        ({"lambda_rule": "gcv"}, "unknown rule"),
        ({"quadratic_penalty": -1.0}, "must not be negative"),
        ({"lambda_rule": "discrepancy"}, "standard error"),
        ({"period": 0.0}, "positive"),
        ({"period": None}, "needs the period"),
        ({"medi_data": "complex"}, "unknown data term"),
    ],
)
def test_bad_choices_are_refused(options, message):
    mask = np.ones((8, 8, 8), bool)
    options = {"edges": np.zeros((3, *mask.shape), bool), "period": 1.0, **options}
    with pytest.raises(ValueError, match=message):
        medi(np.zeros(mask.shape), mask, (1, 1, 1), **options)


def test_bad_input_is_refused():
    mask = np.ones((8, 8, 8), bool)
    edges = np.zeros((3, *mask.shape), bool)
    with pytest.raises(ValueError, match="not finite"):
        medi(np.full(mask.shape, np.nan), mask, (1, 1, 1), edges=edges, period=1.0)
    with pytest.raises(ValueError, match="empty"):
        medi(np.zeros(mask.shape), ~mask, (1, 1, 1), edges=edges, period=1.0)
