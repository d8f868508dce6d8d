"""The iterative inversion of the 2015 study: susceptibility from the local field by weighted least
squares.
"""

from dataclasses import replace
from functools import cached_property

import numpy as np
from scipy import fft

from ..grid import Vector, check_grid, neighbours
from ..linear_systems import conjugate_gradients, inner
from .parameters import LambdaChoice
from .problem import Inversion, QuadraticProblem
from .regularization import edge_differences, minimise_gcv

# Tolerances while λ is chosen. The residuals that λ is judged by are accurate long before χ has
# converged. The trace is accurate even earlier, as its error is quadratic in that of the solution.
ROUGH_TOLERANCE = 2e-2
TRACE_TOLERANCE = 0.1

# λ of the iterative inversion over that of the closed form, which regularises across edges too. On
# an ellipsoid, simulated heads and two heads in vivo the error is within 2 points of its minimum.
EDGES_LAMBDA = 2.0


def iterative(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    edges: np.ndarray,
    data_weight: np.ndarray | None = None,
    exterior_weight: float = 1.0,
    b0_dir: Vector = (0, 0, 1),
    lambda_value: float | None = None,
    lambda_rule: str = "whitened",
    noise_variance: float | None = None,
    tolerance: float = 5e-3,
    max_iterations: int = 100,
    seed: int = 0,
) -> Inversion:
    r"""Invert the local field without regularising across edges, min ‖W (Fᴴ D F χ - b)‖² + λ²‖W_e G
    χ‖².

    The defaults are the published equation, with W = 1 everywhere. The command line derives W from
    the noise: for its result, pass as `data_weight` that of `noise_weight` with `SMALLEST_WEIGHT`,
    as `exterior_weight` that of `zero_field_weight`, and edges that include `jump_mask`.

    W is the data weighting: inside the mask by the noise of the field; outside, where b is set to
    zero, the exterior weight.

    Write M = D² + λ²|E|² for the operator of the closed form, H = (1 - W²)^½ Fᴴ D F for the field
    that the weighting leaves out, and G_e for the gradient across edges, where W_e = 0. The normal
    equations are

        (M - HᴴH - λ² G_eᴴG_e) χ = D W² b,    so with    y = H χ  and  z = λ G_e χ

        χ = M⁻¹ (D W² b + Hᴴ y + λ G_eᴴ z),    (1 - B M⁻¹ Bᴴ) (y, z) = B M⁻¹ D W² b,    B = (H, λ
        G_e).

    In other words: once the left-out field y and the gradient z across edges are determined, the
    closed form gives χ. The operator on (y, z) is symmetric and positive definite with eigenvalues
    in (0, 1], and (y, z) = 0 gives the deterministic solution. Conjugate gradients therefore need
    only a handful of iterations, of two pairs of Fourier transforms each, or of one pair if W = 1
    everywhere.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, lambda_value, lambda_rule, noise_variance
        As for `multiqsm.core.inversion.closed_form.deterministic`. All rules judge λ by the
        weighted field, so that voxels with zero weight have no influence. ``whitened`` takes twice
        the λ that it chooses for the closed form, which costs no solution.
    edges : ndarray of bool, shape (3, x, y, z)
        Differences inside the mask that are not regularised, from `regularization.edge_mask`.
        Differences across the mask's surface are never regularised.
    data_weight : ndarray, shape (x, y, z), optional
        W inside the mask, 0 to 1; see `fieldfit.noise_weight`. 1 by default, as in Lin et al.
        (2015). Enclosed voxels whose field is not measured belong to the mask, with weight 0.
    exterior_weight : float
        W outside the mask, 0 to 1; see `zero_field_weight`. 1 is the equation of Lin et al. (2015),
        in which the brain's field is zero outside the mask.
    tolerance : float
        Stop when the residual in (y, z) has fallen to this fraction of the right-hand side.
    max_iterations : int
        Maximum number of iterations.
    seed : int
        Seed of the random probe that estimates the trace for generalised cross-validation.

    Returns
    -------
    Inversion

    Raises
    ------
    ValueError
        As `multiqsm.core.inversion.closed_form.deterministic`, or if the edges or the weight are on
        another grid, a weight is not between 0 and 1, or all weights in the mask are zero.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), eq. 1; Hutchinson, Commun Stat Simul Comput 19:433-450
    (1990).
    """
    problem = _EdgeProblem(field, mask, voxel_size, b0_dir, edges, max_iterations, seed)
    problem.set_weights(data_weight, exterior_weight)
    choice = problem.choose(lambda_value, lambda_rule, noise_variance)
    spectrum, iterations, relative_residual = problem.converge(choice.value, tolerance)
    return problem.result(spectrum, choice, iterations, relative_residual <= tolerance)


def zero_field_weight(field: np.ndarray, mask: np.ndarray, noise_variance: float) -> float:
    """Return the exterior weight for `iterative`: how well a zero field holds outside the mask.

    The brain's field does not end at its surface. If it is forced to zero outside (weight 1), deep
    nuclei lose a tenth of their susceptibility; if it is free (weight 0), sources outside the mask
    may explain the field inside. The field is continuous, so just outside the mask it is about as
    large as at the surface, and it falls off from there. If the field at the surface is less than
    twice the noise, a field of zero outside is within the error of a measurement and gets full
    weight. The more the field at the surface exceeds the noise, the greater is the error of that
    zero, and the smaller its weight.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Local field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    noise_variance : float
        Variance of the field's noise, ppm².

    Returns
    -------
    float
        σ / (s - σ), with σ the noise SD and s the root mean square of the field at the surface;
        between 0.1 and 1.
    """
    check_grid(mask, field=field)
    surface = np.zeros_like(mask)
    for axis in range(3):
        near, far = neighbours(axis)
        across = mask[near] ^ mask[far]
        surface[near] |= across
        surface[far] |= across
    surface &= mask
    if not surface.any():
        return 1.0
    noise = np.sqrt(noise_variance)
    rms = float(np.sqrt(np.mean(np.square(field[surface]), dtype=np.float64)))
    return float(np.clip(noise / (rms - noise), 0.1, 1)) if rms > noise else 1.0


class _EdgeProblem(QuadraticProblem):
    """The quadratic problem with data weights, and without regularisation across edges."""

    def __init__(self, field, mask, voxel_size, b0_dir, edges, max_iterations, seed):
        super().__init__(field, mask, voxel_size, b0_dir)
        check_grid(mask, edges=edges)
        grid_edges = np.stack([self.grid.embed(axis_edges) for axis_edges in edges])
        for axis, axis_edges in enumerate(grid_edges):
            # Susceptibility just outside the mask is not determined by the data, and need not be
            # similar to that inside.
            near, far = neighbours(axis)
            axis_edges[near] |= self.inside[near] ^ self.inside[far]
        self.edge_gradient = edge_differences(grid_edges, voxel_size)
        self.edge_divergence = self.edge_gradient.T
        self.complement = None  # (1 - W²)^½, the weight of H; None if W = 1 everywhere
        self.max_iterations = max_iterations
        self.seed = seed
        self.solutions = {}  # (y, z) of the data by λ

    def set_weights(self, data_weight, exterior_weight):
        """Set W; until then it is 1 inside the mask and outside."""
        check_grid(self.mask, data_weight=data_weight)
        self.solutions = {}
        weight = np.full(self.grid.shape, exterior_weight, np.float32)
        weight[self.inside] = 1 if data_weight is None else data_weight[self.mask]
        if not ((weight >= 0) & (weight <= 1)).all():
            raise ValueError("weights of the field must lie between 0 and 1")
        if not weight[self.inside].any():
            raise ValueError(
                "all weights in the mask are zero: check that its voxels have signal in the images"
            )
        self.weight = weight
        if weight.min() < 1:
            self.complement = np.sqrt(1 - weight**2)
        if data_weight is not None:
            # The data enter the equations as W² b. Without data weights this is b itself, as b = 0
            # outside the mask.
            self.data = fft.rfftn(weight**2 * self.grid.embed(self.field))

    def converge(self, lambda_value, tolerance):
        """Solve for a λ; return the spectrum of χ, the iterations and the relative residual.

        Starts from the solution of the nearest λ among those solved before.
        """
        system = _EdgeSystem(self, lambda_value)
        right_side = system.apply(system.closed_form(self.data))
        guess = None
        if self.solutions:
            nearest = min(self.solutions, key=lambda solved: abs(np.log(solved / lambda_value)))
            guess = self.solutions[nearest].copy()
            # χ hardly changes between neighbouring λ, but z = λ G_e χ does; y = H χ has no λ.
            guess[system.n_field :] *= np.float32(lambda_value / nearest)
        solution, iterations, relative_residual = conjugate_gradients(
            system.operator,
            right_side,
            tolerance=tolerance,
            max_iterations=self.max_iterations,
            guess=guess,
        )
        self.solutions[lambda_value] = solution
        return system.susceptibility(solution, self.data), iterations, relative_residual

    def solve(self, lambda_value):
        """Return the spectrum of χ for a λ, accurately enough to judge λ."""
        return self.converge(lambda_value, ROUGH_TOLERANCE)[0]

    def choose_by_gcv(self) -> LambdaChoice:
        """Choose λ by generalised cross-validation of W b and W Fᴴ D F."""
        # The closed form's optimum costs no solution here, and is a good place to start.
        start = super().choose_by_gcv().value * EDGES_LAMBDA

        def score(lambda_value: float) -> float:
            return self.mean_square(lambda_value) / self.residual_dof_fraction(lambda_value) ** 2

        return minimise_gcv(score, start=start, factor=1.6)

    def choose_by_whitened_gcv(self) -> LambdaChoice:
        """Choose λ in proportion to that of the closed form, which costs no solution."""
        closed_form = super().choose_by_whitened_gcv()
        value = EDGES_LAMBDA * closed_form.value
        return replace(closed_form, value=value)

    def residual_dof_fraction(self, lambda_value):
        """Return the residual's fraction of the weighted field's degrees of freedom.

        The trace of the influence matrix, which has no closed form with weights and edges, is the
        expected inner product of a weighted random probe p and its explained part (Hutchinson).
        With b = p this is pᵀ Fᴴ D χ = pᵀ Fᴴ D M⁻¹ D p + (B M⁻¹ D p)ᵀ (y, z). The second form needs
        no χ, and is accurate to second order if conjugate gradients start at zero: the vector that
        (y, z) is multiplied by is the right-hand side of its own equations.
        """
        probe, probe_spectrum = self._probe
        system = _EdgeSystem(self, lambda_value)
        closed_form = system.closed_form(probe_spectrum)
        explained = inner(probe, self.volume(self.kernel * closed_form))
        right_side = system.apply(closed_form)
        solution, _, _ = conjugate_gradients(
            system.operator,
            right_side.copy(),
            tolerance=TRACE_TOLERANCE,
            max_iterations=self.max_iterations,
        )
        return 1 - (explained + inner(right_side, solution)) / self.n_weighted

    @cached_property
    def _probe(self):
        """Random signs times W, and their spectrum; the same for all λ, so that scores compare."""
        probe = np.zeros(self.grid.shape, np.float32)
        plus_minus = np.array([-1, 1], np.float32)
        signs = np.random.default_rng(self.seed).choice(plus_minus, int(self.mask.sum()))
        probe[self.inside] = signs * self.weight[self.inside]
        return probe, fft.rfftn(probe)


class _EdgeSystem:
    """The equations (1 - B M⁻¹ Bᴴ) (y, z) = B M⁻¹ D W² b for one λ.

    They are solved for (y, z) and not for χ because M is then inverted exactly, by a division in
    k-space, and the iterations only have to account for what M lacks: weights and free edges. The
    eigenvalues of M itself differ by orders of magnitude between the cone D = 0 and the rest of
    k-space, so that conjugate gradients on χ would need many more iterations.

    (y, z) is one vector: y, the left-out field on the whole grid, which is absent if W = 1
    everywhere, followed by z, one value for each edge.
    """

    def __init__(self, problem, lambda_value):
        self.problem = problem
        self.lambda_value = np.float32(lambda_value)
        self.inverse = 1 / problem.regularised(lambda_value)
        self.n_field = 0 if problem.complement is None else problem.complement.size

    def closed_form(self, data):
        """M⁻¹ D b, from the spectrum of b."""
        return self.inverse * self.problem.kernel * data

    def operator(self, solution):
        """(1 - B M⁻¹ Bᴴ) (y, z)."""
        response = self.apply(self.susceptibility(solution))
        return np.subtract(solution, response, out=response)

    def apply(self, spectrum):
        """B χ = (H χ, λ G_e χ), from the spectrum of χ, which is overwritten."""
        problem = self.problem
        n = self.n_field
        result = np.empty(n + problem.edge_gradient.shape[0], np.float32)
        if n:
            field = problem.volume(problem.kernel * spectrum)
            np.multiply(field.ravel(), problem.complement.ravel(), out=result[:n])
        # The sparse matrix computes the gradient only at the edges, which are few.
        gradient = problem.edge_gradient @ problem.volume(spectrum).ravel()
        np.multiply(gradient, self.lambda_value, out=result[n:])
        return result

    def susceptibility(self, solution, data=None):
        """Spectrum of χ = M⁻¹ (D b + Bᴴ (y, z)); without data, of M⁻¹ Bᴴ (y, z) alone."""
        problem = self.problem
        n = self.n_field
        divergence = problem.edge_divergence @ (self.lambda_value * solution[n:])
        spectrum = fft.rfftn(divergence.reshape(problem.grid.shape))
        if data is not None:
            spectrum += problem.kernel * data
        if n:
            field = fft.rfftn(problem.complement * solution[:n].reshape(problem.grid.shape))
            field *= problem.kernel
            spectrum += field
        spectrum *= self.inverse
        return spectrum
