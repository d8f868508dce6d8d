"""Both inversions recover what is there, for any geometry, and λ is found without the truth."""

import numpy as np
import pytest
from helpers.analytic import ball_in_head, centred_coordinates, sphere_field
from scipy import fft
from scipy.sparse.linalg import LinearOperator, cg

from multiqsm.core.dipole import dipole_kernel
from multiqsm.core.grid import WorkingGrid
from multiqsm.core.inversion.closed_form import deterministic
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
    # Noiseless, so hardly any regularisation is needed. The deterministic map loses up to 3 πR²/L²
    # = 3.5 % where B0 is diagonal: the three axes of k-space then lie on the cone of zeros (R the
    # ball's radius, L the grid).
    field, mask, magnitude, inside, outside = ball_in_head(
        voxel_size, b0_dir, odd, radius=7.0, head=48.0
    )
    edges = edge_mask(magnitude, mask, fraction=0.1)
    closed = deterministic(field, mask, voxel_size, b0_dir=b0_dir, lam=0.01).chi
    iterated = iterative(field, mask, voxel_size, edges=edges, b0_dir=b0_dir, lam=0.02).chi
    for chi in (closed, iterated):
        assert chi[inside].mean() - chi[outside].mean() == pytest.approx(0.1, rel=0.05)


class Converged:
    """The iterative inversion's equation, solved to the end in double precision.

    It shares nothing but the kernel: full-volume unknown, differences by np.roll, scipy's CG.
    """

    def __init__(self, mask, edges, voxel_size, b0_dir, data_weight, exterior_weight):
        self.grid = WorkingGrid.around(mask, voxel_size, MARGIN)
        self.kernel = dipole_kernel(self.grid.shape, voxel_size, b0_dir).astype(float)
        self.inside, self.voxel_size = self.grid.embed(mask), voxel_size
        self.weight = np.where(self.inside, self.grid.embed(data_weight), exterior_weight)
        self.smooth = [
            ~(self.grid.embed(e) | (self.inside ^ np.roll(self.inside, -1, axis)))
            for axis, e in enumerate(edges)
        ]

    def dipole(self, x):
        return np.fft.irfftn(self.kernel * np.fft.rfftn(x), self.grid.shape, axes=(0, 1, 2))

    def solve(self, weighted_field, lam):
        """χ on the grid that explains W b."""

        def normal_operator(flat):
            x = flat.reshape(self.grid.shape)
            # pins the undetermined constant
            out = self.dipole(self.weight**2 * self.dipole(x)) + x.mean()
            for axis, (w, v) in enumerate(zip(self.smooth, self.voxel_size, strict=True)):
                g = w * (np.roll(x, -1, axis) - x) / v**2
                out += lam**2 * (np.roll(g, 1, axis) - g)
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
    return field, mask, edge_mask(magnitude, mask, fraction=0.3), rng.uniform(0.3, 1, shape)


@pytest.mark.parametrize(("weighted", "exterior_weight"), [(False, 1.0), (False, 0.3), (True, 0.3)])
@pytest.mark.parametrize("shape", [(24, 25, 18), (25, 24, 17)])
def test_iterative_agrees_with_a_converged_double_precision_solution(
    shape, weighted, exterior_weight
):
    voxel_size, b0_dir, lam = (1, 1, 1.5), (0.2, -0.3, 0.9), 0.15
    field, mask, edges, data_weight = noise_in_a_box(shape)
    data_weight = data_weight if weighted else np.ones(shape)
    converged = Converged(mask, edges, voxel_size, b0_dir, data_weight, exterior_weight)
    expected = converged.grid.extract(
        converged.solve(converged.weight * converged.grid.embed(field), lam)
    )[mask]
    options = {
        "edges": edges,
        "b0_dir": b0_dir,
        "lam": lam,
        "data_weight": data_weight,
        "exterior_weight": exterior_weight,
    }
    found = iterative(field, mask, voxel_size, **options).chi[mask]
    assert found.dtype == np.float32
    assert np.linalg.norm(found - expected) <= 0.01 * np.linalg.norm(expected)


@pytest.mark.parametrize("exterior_weight", [1.0, 0.3])
def test_gcv_scores_are_those_of_converged_solutions(exterior_weight):
    voxel_size, b0_dir = (1, 1, 1.5), (0.2, -0.3, 0.9)
    field, mask, edges, data_weight = noise_in_a_box((20, 21, 16))
    options = {
        "edges": edges,
        "b0_dir": b0_dir,
        "data_weight": data_weight,
        "exterior_weight": exterior_weight,
    }
    tried = iterative(field, mask, voxel_size, seed=1, **options).lam.tried
    converged = Converged(mask, edges, voxel_size, b0_dir, data_weight, exterior_weight)
    inside, weight = converged.inside, converged.weight
    sign = np.zeros(inside.shape)
    sign[inside] = np.random.default_rng(1).choice(np.float32([-1, 1]), mask.sum())
    for lam, score in tried[::3]:
        of_data, of_sign = (
            weight * converged.dipole(converged.solve(b, lam))
            for b in (weight * converged.grid.embed(field), sign)
        )
        left = np.mean((weight * converged.grid.embed(field) - of_data)[inside] ** 2)
        assert score == pytest.approx(left / (1 - np.mean((sign * of_sign)[inside])) ** 2, rel=0.02)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirrored_scan_gives_the_mirrored_map(axis):
    # Also where the mask is cut flat inside the volume and where it touches the volume's end.
    voxel_size, shape = (2, 2, 3), (33, 32, 21)
    field, share = sphere_field(shape, voxel_size, (0, 0, 1), radius=6, chi=0.1)
    mask = sum(c**2 for c in centred_coordinates(shape, voxel_size)) < 28**2
    mask[..., :3] = mask[..., -1:] = False
    mask[: shape[0] // 3] = False
    magnitude = (1 + 0.3 * share) * mask

    def invert(turn):
        m = turn(mask)
        edges = edge_mask(turn(magnitude), m, fraction=0.1)
        return turn(iterative(turn(field), m, voxel_size, edges=edges, lam=0.1, tolerance=1e-4).chi)

    plain, mirrored = invert(lambda x: x), invert(lambda x: np.flip(x, axis))
    assert np.abs(plain - mirrored).max() < 1e-3 * np.abs(plain).max()


@pytest.fixture(scope="module")
def noisy_balls():
    """Two balls, only one of which the magnitude shows, and noise: too much smoothing costs the
    other one.
    """
    voxel_size, shape = (1.5, 1.5, 2), (50, 51, 38)
    shown, share = sphere_field(shape, voxel_size, (0, 0, 1), radius=8, chi=0.1, center=(-12, 0, 0))
    hidden, other = sphere_field(
        shape, voxel_size, (0, 0, 1), radius=6, chi=-0.1, center=(14, 4, 0)
    )
    mask = sum(c**2 for c in centred_coordinates(shape, voxel_size)) < 36**2
    noise = np.random.default_rng(0).normal(0, 0.004, shape).astype(np.float32)
    edges = edge_mask((1 + 0.3 * share) * mask, mask, fraction=0.1)
    return (shown + hidden + noise) * mask, mask, voxel_size, edges, 0.1 * share - 0.1 * other


def error(chi, mask, truth):
    return np.std((chi - truth)[mask])


def test_ball_near_the_surface_needs_the_field_outside_to_be_unknown():
    # Its field is cut off at the mask's surface; believing in zeros beyond costs an eighth of its
    # susceptibility.
    voxel_size, shape, noise = (1.5, 1.5, 2), (50, 51, 38), 0.0005
    field, share = sphere_field(shape, voxel_size, (0, 0, 1), radius=6, chi=0.1, center=(0, 0, 24))
    mask = sum(c**2 for c in centred_coordinates(shape, voxel_size)) < 33**2
    field = (field + np.random.default_rng(0).normal(0, noise, shape).astype(np.float32)) * mask
    edges = edge_mask((1 + 0.3 * share) * mask, mask, fraction=0.2)
    weight = zero_field_weight(field, mask, noise**2)
    assert 0.1 < weight < 0.3
    ball, elsewhere = share == 1, mask & (share == 0)
    loss, spread = {}, {}
    for w in (1, weight):
        chi = iterative(field, mask, voxel_size, edges=edges, lam=0.1, exterior_weight=w).chi
        loss[w] = 0.1 - (chi[ball].mean() - chi[elsewhere].mean())
        spread[w] = error(chi, mask, 0.1 * share)
    assert loss[weight] < 0.6 * loss[1]
    assert spread[weight] < 0.8 * spread[1]


def with_wrong_voxels(field, off):
    """A field with a patch that is `off` (ppm) by chance, and its standard error, which says so."""
    spoilt, standard_error = field.copy(), np.full(field.shape, 0.004, np.float32)
    patch = np.zeros(field.shape, bool)
    patch[20:24, 36:40, 18:21] = True
    spoilt[patch] += np.random.default_rng(1).normal(0, off, np.count_nonzero(patch))
    standard_error[patch] = off
    return spoilt, standard_error


def test_voxels_that_are_not_believed_have_no_say_in_lambda(noisy_balls):
    field, mask, voxel_size, edges, _ = noisy_balls
    spoilt, standard_error = with_wrong_voxels(field, 2.0)
    clean = iterative(field, mask, voxel_size, edges=edges)
    plain = iterative(spoilt, mask, voxel_size, edges=edges)
    weighted = iterative(
        spoilt, mask, voxel_size, edges=edges, data_weight=noise_weight(standard_error, mask)
    )
    assert weighted.lam.value == pytest.approx(clean.lam.value, rel=0.1)
    assert plain.lam.value != pytest.approx(clean.lam.value, rel=0.2)


def test_wrong_voxels_do_little_harm_when_weighted(noisy_balls):
    # A patch of the field is off by fifty times the noise.
    field, mask, voxel_size, edges, truth = noisy_balls
    spoilt, standard_error = with_wrong_voxels(field, 0.2)
    options = {"edges": edges, "lam": 0.2}
    clean = iterative(field, mask, voxel_size, **options).chi
    plain = iterative(spoilt, mask, voxel_size, **options).chi
    weighted = iterative(
        spoilt, mask, voxel_size, data_weight=noise_weight(standard_error, mask), **options
    ).chi
    assert error(plain, mask, clean) > 5 * error(weighted, mask, clean)
    assert error(weighted, mask, truth) < 1.1 * error(clean, mask, truth)


def test_outside_weight_is_one_where_the_surface_holds_only_noise():
    mask = np.zeros((20, 20, 20), bool)
    mask[4:-4, 4:-4, 4:-4] = True
    field = np.random.default_rng(0).normal(0, 0.01, mask.shape) * mask
    assert zero_field_weight(field, mask, 0.01**2) == pytest.approx(1, abs=0.02)
    assert zero_field_weight(field, mask, 1e-12) == pytest.approx(0.1)


@pytest.mark.parametrize("method", ["deterministic", "iterative"])
def test_gcv_comes_close_to_the_best_lambda(noisy_balls, method):
    field, mask, voxel_size, edges, truth = noisy_balls

    def invert(lam=None):
        if method == "deterministic":
            return deterministic(field, mask, voxel_size, lam=lam)
        return iterative(field, mask, voxel_size, edges=edges, lam=lam)

    chosen = invert()
    best = min(error(invert(lam).chi, mask, truth) for lam in np.geomspace(0.02, 2, 15))
    assert chosen.lam.rule == "gcv"
    assert not chosen.lam.at_bound
    assert error(chosen.chi, mask, truth) < 1.1 * best


@pytest.mark.parametrize("method", ["deterministic", "iterative"])
def test_discrepancy_principle_leaves_the_noise_unexplained(noisy_balls, method):
    field, mask, voxel_size, edges, _ = noisy_balls
    options = {"rule": "discrepancy", "noise_variance": 0.004**2}
    if method == "deterministic":
        found = deterministic(field, mask, voxel_size, **options)
    else:
        found = iterative(field, mask, voxel_size, edges=edges, **options)
    # 3 %: the closed form's rule counts the margin too, where a little of the field is left.
    assert found.residual == pytest.approx(0.004, rel=0.03)


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
        ({"lam": 0}, "λ must be positive"),
        ({"rule": "l-curve"}, "unknown rule"),
        ({"rule": "discrepancy"}, "positive noise variance"),
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
