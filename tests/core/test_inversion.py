"""Both inversions recover susceptibility in any geometry, and choose a good λ."""

import numpy as np
import pytest
from helpers.analytic import ball_in_head, centred_coordinates, sphere_field
from scipy import fft
from scipy.sparse.linalg import LinearOperator, cg

from multiqsm.core.dipole import dipole_kernel
from multiqsm.core.grid import WorkingGrid
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.problem import MARGIN
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.core.inversion.weighted import iterative, zero_field_weight
from multiqsm.core.phase.fieldfit import noise_weight

TILTED = (0, np.sin(np.radians(20)), np.cos(np.radians(20)))


@pytest.mark.slow
@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("b0_dir", [(0, 0, 1), TILTED, (1, 1, 1)])
@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (1, 1, 2), (0.5, 0.5, 2)])
def test_ball_keeps_its_susceptibility(voxel_size, b0_dir, odd):
    # Without noise, hardly any regularisation is needed. The deterministic map loses up to 3 πR²/L²
    # = 3.5 % if B0 is diagonal (R is the ball's radius, L the size of the grid): the three axes of
    # k-space then lie on the cone D = 0.
    field, mask, magnitude, inside, outside = ball_in_head(
        voxel_size, b0_dir, odd, radius=7.0, head=48.0
    )
    edges = edge_mask(magnitude, mask, edge_fraction=0.1)
    closed = deterministic(field, mask, voxel_size, b0_dir=b0_dir, lambda_value=0.01).chi
    iterated = iterative(field, mask, voxel_size, edges=edges, b0_dir=b0_dir, lambda_value=0.02).chi
    for chi in (closed, iterated):
        assert chi[inside].mean() - chi[outside].mean() == pytest.approx(0.1, rel=0.05)


class Converged:
    """The iterative inversion's equation, solved to convergence in double precision.

    Only the kernel is shared with the package: χ on the full volume, np.roll, scipy's CG.
    """

    def __init__(self, mask, edges, voxel_size, b0_dir, data_weight, exterior_weight):
        self.grid = WorkingGrid.around(mask, voxel_size, MARGIN)
        self.kernel = dipole_kernel(self.grid.shape, voxel_size, b0_dir).astype(float)
        self.inside = self.grid.embed(mask)
        self.voxel_size = voxel_size
        self.weight = np.where(self.inside, self.grid.embed(data_weight), exterior_weight)
        self.is_penalised = []
        for axis, axis_edges in enumerate(edges):
            surface = self.inside ^ np.roll(self.inside, -1, axis)
            self.is_penalised.append(~(self.grid.embed(axis_edges) | surface))

    def dipole(self, x):
        return np.fft.irfftn(self.kernel * np.fft.rfftn(x), self.grid.shape, axes=(0, 1, 2))

    def solve(self, weighted_field, lambda_value):
        """Return χ on the grid for W b."""

        def normal_operator(flat):
            x = flat.reshape(self.grid.shape)
            # pins the undetermined constant
            out = self.dipole(self.weight**2 * self.dipole(x)) + x.mean()
            for axis, size in enumerate(self.voxel_size):
                gradient = self.is_penalised[axis] * (np.roll(x, -1, axis) - x) / size**2
                out += lambda_value**2 * (np.roll(gradient, 1, axis) - gradient)
            return out.ravel()

        size = int(np.prod(self.grid.shape))
        right_side = self.dipole(self.weight * weighted_field).ravel()
        flat, failed = cg(
            LinearOperator((size, size), normal_operator), right_side, rtol=1e-9, maxiter=2000
        )
        assert not failed
        return flat.reshape(self.grid.shape)


def noise_in_a_box(shape):
    """A field and a magnitude of noise, their mask, edges, and weights of the field."""
    rng = np.random.default_rng(3)
    mask = np.zeros(shape, bool)
    mask[3:-3, 3:-3, 2:-2] = True
    field = rng.normal(0, 0.01, shape) * mask
    magnitude = rng.normal(100, 10, shape) * mask
    return field, mask, edge_mask(magnitude, mask, edge_fraction=0.3), rng.uniform(0.3, 1, shape)


@pytest.mark.parametrize(("weighted", "exterior_weight"), [(False, 1.0), (False, 0.3), (True, 0.3)])
@pytest.mark.parametrize("shape", [(24, 25, 18), (25, 24, 17)])
def test_iterative_agrees_with_a_converged_double_precision_solution(
    shape, weighted, exterior_weight
):
    voxel_size = (1, 1, 1.5)
    b0_dir = (0.2, -0.3, 0.9)
    lambda_value = 0.15
    field, mask, edges, data_weight = noise_in_a_box(shape)
    data_weight = data_weight if weighted else np.ones(shape)
    converged = Converged(mask, edges, voxel_size, b0_dir, data_weight, exterior_weight)
    weighted_field = converged.weight * converged.grid.embed(field)
    expected = converged.grid.extract(converged.solve(weighted_field, lambda_value))[mask]
    options = {
        "edges": edges,
        "b0_dir": b0_dir,
        "lambda_value": lambda_value,
        "data_weight": data_weight,
        "exterior_weight": exterior_weight,
    }
    chi = iterative(field, mask, voxel_size, **options).chi[mask]
    assert chi.dtype == np.float32
    assert np.linalg.norm(chi - expected) <= 0.01 * np.linalg.norm(expected)


@pytest.mark.parametrize("exterior_weight", [1.0, 0.3])
def test_gcv_scores_are_those_of_converged_solutions(exterior_weight):
    voxel_size = (1, 1, 1.5)
    b0_dir = (0.2, -0.3, 0.9)
    field, mask, edges, data_weight = noise_in_a_box((20, 21, 16))
    options = {
        "edges": edges,
        "b0_dir": b0_dir,
        "data_weight": data_weight,
        "exterior_weight": exterior_weight,
        "lambda_rule": "gcv",
    }
    tried = iterative(field, mask, voxel_size, seed=1, **options).lambda_choice.tried
    converged = Converged(mask, edges, voxel_size, b0_dir, data_weight, exterior_weight)
    inside = converged.inside
    weight = converged.weight
    weighted_field = weight * converged.grid.embed(field)
    probe = np.zeros(inside.shape)
    probe[inside] = np.random.default_rng(1).choice(np.float32([-1, 1]), mask.sum())
    for lambda_value, score in tried[::3]:
        explained = weight * converged.dipole(converged.solve(weighted_field, lambda_value))
        mean_square = np.mean((weighted_field - explained)[inside] ** 2)
        explained_probe = weight * converged.dipole(converged.solve(probe, lambda_value))
        freedom = 1 - np.mean((probe * explained_probe)[inside])
        assert score == pytest.approx(mean_square / freedom**2, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirrored_scan_gives_the_mirrored_map(axis):
    # The mask also has flat faces, inside the volume and at its end.
    voxel_size = (2, 2, 3)
    shape = (33, 32, 21)
    field, fraction = sphere_field(shape, voxel_size, (0, 0, 1), radius=6, chi=0.1)
    mask = sum(c**2 for c in centred_coordinates(shape, voxel_size)) < 28**2
    mask[..., :3] = mask[..., -1:] = False
    mask[: shape[0] // 3] = False
    magnitude = (1 + 0.3 * fraction) * mask

    def invert(field, mask, magnitude):
        edges = edge_mask(magnitude, mask, edge_fraction=0.1)
        return iterative(field, mask, voxel_size, edges=edges, lambda_value=0.1, tolerance=1e-4).chi

    plain = invert(field, mask, magnitude)
    mirrored = invert(np.flip(field, axis), np.flip(mask, axis), np.flip(magnitude, axis))
    assert np.abs(plain - np.flip(mirrored, axis)).max() < 1e-3 * np.abs(plain).max()


@pytest.fixture(scope="module")
def noisy_balls():
    """Two balls and noise. The magnitude shows only one: too much smoothing blurs the other."""
    voxel_size = (1.5, 1.5, 2)
    shape = (50, 51, 38)
    visible_field, visible = sphere_field(
        shape, voxel_size, (0, 0, 1), radius=8, chi=0.1, center=(-12, 0, 0)
    )
    hidden_field, hidden = sphere_field(
        shape, voxel_size, (0, 0, 1), radius=6, chi=-0.1, center=(14, 4, 0)
    )
    mask = sum(c**2 for c in centred_coordinates(shape, voxel_size)) < 36**2
    noise = np.random.default_rng(0).normal(0, 0.004, shape).astype(np.float32)
    edges = edge_mask((1 + 0.3 * visible) * mask, mask, edge_fraction=0.1)
    field = (visible_field + hidden_field + noise) * mask
    return field, mask, voxel_size, edges, 0.1 * visible - 0.1 * hidden


def error(chi, mask, truth):
    return np.std((chi - truth)[mask])


def test_ball_near_the_surface_needs_a_low_exterior_weight():
    # Its field does not end at the mask's surface. Full weight for zeros outside costs an eighth of
    # its susceptibility.
    voxel_size = (1.5, 1.5, 2)
    shape = (50, 51, 38)
    noise = 0.0005
    field, fraction = sphere_field(
        shape, voxel_size, (0, 0, 1), radius=6, chi=0.1, center=(0, 0, 24)
    )
    mask = sum(c**2 for c in centred_coordinates(shape, voxel_size)) < 33**2
    field = (field + np.random.default_rng(0).normal(0, noise, shape).astype(np.float32)) * mask
    edges = edge_mask((1 + 0.3 * fraction) * mask, mask, edge_fraction=0.2)
    weight = zero_field_weight(field, mask, noise**2)
    assert 0.1 < weight < 0.3
    ball = fraction == 1
    elsewhere = mask & (fraction == 0)
    loss = {}
    spread = {}
    for exterior_weight in (1, weight):
        chi = iterative(
            field, mask, voxel_size, edges=edges, lambda_value=0.1, exterior_weight=exterior_weight
        ).chi
        loss[exterior_weight] = 0.1 - (chi[ball].mean() - chi[elsewhere].mean())
        spread[exterior_weight] = error(chi, mask, 0.1 * fraction)
    assert loss[weight] < 0.6 * loss[1]
    assert spread[weight] < 0.8 * spread[1]


def with_wrong_voxels(field, sd):
    """Return a field with errors (ppm) of this SD in a patch, and its standard error."""
    spoilt = field.copy()
    standard_error = np.full(field.shape, 0.004, np.float32)
    patch = np.zeros(field.shape, bool)
    patch[20:24, 36:40, 18:21] = True
    spoilt[patch] += np.random.default_rng(1).normal(0, sd, np.count_nonzero(patch))
    standard_error[patch] = sd
    return spoilt, standard_error


def test_voxels_of_low_weight_do_not_affect_lambda(noisy_balls):
    field, mask, voxel_size, edges, _ = noisy_balls
    spoilt, standard_error = with_wrong_voxels(field, 2.0)
    clean = iterative(field, mask, voxel_size, edges=edges)
    plain = iterative(spoilt, mask, voxel_size, edges=edges)
    weighted = iterative(
        spoilt, mask, voxel_size, edges=edges, data_weight=noise_weight(standard_error, mask)
    )
    assert weighted.lambda_choice.value == pytest.approx(clean.lambda_choice.value, rel=0.1)
    assert plain.lambda_choice.value != pytest.approx(clean.lambda_choice.value, rel=0.2)


def test_wrong_voxels_do_little_harm_when_weighted(noisy_balls):
    # The errors of a patch of the field are fifty times the noise.
    field, mask, voxel_size, edges, truth = noisy_balls
    spoilt, standard_error = with_wrong_voxels(field, 0.2)
    options = {"edges": edges, "lambda_value": 0.2}
    clean = iterative(field, mask, voxel_size, **options).chi
    plain = iterative(spoilt, mask, voxel_size, **options).chi
    weighted = iterative(
        spoilt, mask, voxel_size, data_weight=noise_weight(standard_error, mask), **options
    ).chi
    assert error(plain, mask, clean) > 5 * error(weighted, mask, clean)
    assert error(weighted, mask, truth) < 1.1 * error(clean, mask, truth)


def test_exterior_weight_is_one_if_the_surface_has_only_noise():
    mask = np.zeros((20, 20, 20), bool)
    mask[4:-4, 4:-4, 4:-4] = True
    field = np.random.default_rng(0).normal(0, 0.01, mask.shape) * mask
    assert zero_field_weight(field, mask, 0.01**2) == pytest.approx(1, abs=0.02)
    assert zero_field_weight(field, mask, 1e-12) == pytest.approx(0.1)


@pytest.mark.parametrize("method", ["deterministic", "iterative"])
def test_gcv_comes_close_to_the_best_lambda(noisy_balls, method):
    field, mask, voxel_size, edges, truth = noisy_balls

    def invert(**rule):
        if method == "deterministic":
            return deterministic(field, mask, voxel_size, **rule)
        return iterative(field, mask, voxel_size, edges=edges, **rule)

    best = min(
        error(invert(lambda_value=lambda_value).chi, mask, truth)
        for lambda_value in np.geomspace(0.02, 2, 15)
    )
    for rule in ("whitened", "gcv"):
        chosen = invert(lambda_rule=rule)
        assert chosen.lambda_choice.rule == rule
        assert not chosen.lambda_choice.at_bound
        assert error(chosen.chi, mask, truth) < 1.1 * best


@pytest.mark.parametrize("method", ["deterministic", "iterative"])
def test_discrepancy_principle_leaves_the_noise_unexplained(noisy_balls, method):
    field, mask, voxel_size, edges, _ = noisy_balls
    options = {"lambda_rule": "discrepancy", "noise_variance": 0.004**2}
    if method == "deterministic":
        inversion = deterministic(field, mask, voxel_size, **options)
    else:
        inversion = iterative(field, mask, voxel_size, edges=edges, **options)
    # 3 %: the closed form's rule includes the margin, where the field is not quite zero.
    assert inversion.residual == pytest.approx(0.004, rel=0.03)


def test_same_seed_same_map_whatever_the_number_of_threads(noisy_balls):
    field, mask, voxel_size, edges, _ = noisy_balls
    maps = []
    for workers in (1, 2):
        with fft.set_workers(workers):
            maps.append(iterative(field, mask, voxel_size, edges=edges).chi)
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_value": 0}, "λ must be positive"),
        ({"lambda_rule": "l-curve"}, "unknown rule"),
        ({"lambda_rule": "discrepancy"}, "positive noise variance"),
    ],
)
def test_bad_options_are_refused(noisy_balls, options, message):
    field, mask, voxel_size, _, _ = noisy_balls
    with pytest.raises(ValueError, match=message):
        deterministic(field, mask, voxel_size, **options)


def test_not_a_number_in_the_mask_is_refused(noisy_balls):
    field, mask, voxel_size, _, _ = noisy_balls
    broken = field.copy()
    broken[tuple(np.argwhere(mask)[0])] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        deterministic(broken, mask, voxel_size)


def test_an_inversion_says_whether_it_met_its_tolerance(noisy_balls):
    field, mask, voxel_size, edges, _ = noisy_balls
    weights = {"edges": edges, "lambda_value": 0.3, "exterior_weight": 0.5}
    assert iterative(field, mask, voxel_size, **weights).converged
    assert not iterative(field, mask, voxel_size, **weights, max_iterations=1).converged
    start = medi(
        field,
        mask,
        voxel_size,
        edges=edges,
        medi_data="linear",
        medi_lambda=1.0,
        max_iterations=5,
    )
    assert not start.converged
