"""Susceptibility from the local field by weighted least squares: the iterative inversion of the
2015 study.
"""

from functools import cached_property

import numpy as np
from scipy import fft

from ..grid import neighbours
from ..linear_systems import conjugate_gradients, inner
from .problem import QuadraticProblem, checked_variance, fixed_lambda
from .regularization import edge_differences, minimise_gcv

# A λ is judged by residuals, which are known well enough long before χ has converged, and by a
# trace that is known still earlier: its error goes with the square of the solution's.
ROUGH = 2e-2
ROUGH_TRACE = 0.1

# Weight of any known voxel in the iterative inversion. A standard error of ten times the median and
# more comes of phase that bends in time, as around a haemorrhage, and says little of how wrong the
# field is. On heads with a haemorrhage of R2* 15 to 200/s, a tenth reads it within 10 %, none 5 to
# 15 % too low, a fifth too high; heads without do not change.
SMALLEST_WEIGHT = 0.1

# λ of the iterative inversion is about so many times that of the closed form, which cannot leave
# edges free.
EDGES_LAMBDA = 2.5


def iterative(
    field,
    mask,
    voxel_size,
    *,
    edges,
    data_weight=None,
    exterior_weight=1.0,
    b0_dir=(0, 0, 1),
    lam=None,
    rule="gcv",
    noise_variance=None,
    tolerance=5e-3,
    max_iterations=100,
    seed=0,
):
    r"""Invert the local field with edges left free, min ‖W (Fᴴ D F χ - b)‖² + λ²‖W_e G χ‖².

    W says how far to believe the field: inside the mask by its noise, outside, where b is set to
    zero, as far as that can be true.

    Write M = D² + λ²|E|² for the deterministic operator, H = (1 - W²)^½ Fᴴ D F for the field where
    it is not known, and G_e for the gradient across the edges, where W_e = 0. The normal equations
    are

        (M - HᴴH - λ² G_eᴴG_e) χ = D W² b,    so with    y = H χ  and  z = λ G_e χ

        χ = M⁻¹ (D W² b + Hᴴ y + λ G_eᴴ z),    (1 - B M⁻¹ Bᴴ) (y, z) = B M⁻¹ D W² b,    B = (H, λ
        G_e).

    In words: fill in the field that is not known and the gradient across the edges, and the closed
    form gives the rest. The operator on (y, z) is symmetric positive definite with eigenvalues in
    (0, 1]; zero is the deterministic solution; conjugate gradients need a handful of iterations of
    two pairs of Fourier transforms, or of one pair where W = 1 everywhere.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, lam, rule, noise_variance
        As for `multiqsm.core.inversion.closed_form.deterministic`. Both rules judge λ by the
        weighted field, so that voxels without weight have no say.
    edges : ndarray of bool, shape (3, x, y, z)
        Differences inside the mask that are not regularised, from `regularization.edge_mask`. Those
        across the mask's surface never are.
    data_weight : ndarray, shape (x, y, z), optional
        W inside the mask, 0 to 1; see `fieldfit.noise_weight`. 1 without it, as in the study.
        Enclosed voxels whose field is not known belong to the mask, with weight 0.
    exterior_weight : float
        W outside the mask, 0 to 1; see `zero_field_weight`. 1 is the study's equation: the field of
        the brain is then taken to end at the mask's surface.
    tolerance : float
        Stop when the residual in (y, z) has fallen to this share of the right-hand side.
    max_iterations : int
        Stop after so many iterations in any case.
    seed : int
        Seed of the random probe that estimates the trace for generalised cross-validation.

    Returns
    -------
    Inversion

    Raises
    ------
    ValueError
        As `multiqsm.core.inversion.closed_form.deterministic`, or if a weight is not between 0 and
        1.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), eq. 1; Hutchinson, Commun Stat Simul Comput 19:433-450 (1990).
    """
    problem = _EdgeProblem(field, mask, voxel_size, b0_dir, edges, max_iterations, seed)
    problem.weigh(data_weight, exterior_weight)
    if lam is not None:
        choice = fixed_lambda(lam)
    elif rule == "gcv":
        choice = problem.choose_by_gcv()
    else:
        choice = problem.choose_by_discrepancy(checked_variance(rule, noise_variance))
    spectrum, iterations = problem.converge(choice.value, tolerance)
    return problem.result(spectrum, choice, iterations)


def zero_field_weight(field, mask, noise_variance):
    """How far to believe that the field outside the mask is zero: the weight for `iterative`.

    The brain's field does not end at its surface, and an inversion that believes so loses a tenth
    of the susceptibility of deep nuclei. But without any belief susceptibility outside the mask may
    explain what is inside. The field is continuous, so just outside it is about as large as at the
    mask's surface, and falls off from there. Where it is lost in the noise already at the surface
    (less than twice as large), a zero is as good as a measurement; where it stands far above, next
    to nothing.

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
        Noise over what the field's root mean square at the surface has beyond it, 0.1 to 1.
    """
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
    size = float(np.sqrt(np.mean(np.square(field[surface]), dtype=np.float64)))
    return float(np.clip(noise / (size - noise), 0.1, 1)) if size > noise else 1.0


class _EdgeProblem(QuadraticProblem):
    """The same with free edges and a field that is believed only so far."""

    def __init__(self, field, mask, voxel_size, b0_dir, edges, max_iterations, seed):
        super().__init__(field, mask, voxel_size, b0_dir)
        on_grid = np.stack([self.grid.embed(e) for e in edges])
        for axis, free in enumerate(on_grid):
            # Nothing is known of what lies beyond the mask's surface: differences across it are
            # free too.
            near, far = neighbours(axis)
            free[near] |= self.inside[near] ^ self.inside[far]
        self.edge_gradient = edge_differences(on_grid, voxel_size)
        self.edge_divergence = self.edge_gradient.T
        self.unknown = None
        self.max_iterations = max_iterations
        self.seed = seed
        self.solved = {}  # (y, z) of the data by λ

    def weigh(self, data_weight, exterior_weight):
        """Set W; until then the field is believed everywhere alike."""
        self.solved = {}
        weight = np.full(self.grid.shape, exterior_weight, np.float32)
        weight[self.inside] = 1 if data_weight is None else data_weight[self.mask]
        if not ((weight >= 0) & (weight <= 1)).all():
            raise ValueError("weights of the field must lie between 0 and 1")
        if not weight[self.inside].any():
            raise ValueError("no voxel of the mask has any weight")
        self.weight = weight
        if weight.min() < 1:
            self.unknown = np.sqrt(1 - weight**2)
        if data_weight is not None:
            self.data = fft.rfftn(weight**2 * self.grid.embed(self.field))

    def converge(self, lam, tolerance):
        """Solve for (y, z) at one λ, starting from the nearest solved; returns the spectrum of χ
        and the iterations.
        """
        system = _EdgeSystem(self, lam)
        right_side = system.filled(system.closed_form(self.data))
        guess = None
        if self.solved:
            nearest = min(self.solved, key=lambda other: abs(np.log(other / lam)))
            guess = self.solved[nearest].copy()
            guess[system.fields :] *= np.float32(lam / nearest)  # z = λ G_e χ
        u, iterations, _ = conjugate_gradients(
            system.operator,
            right_side,
            tolerance=tolerance,
            max_iterations=self.max_iterations,
            guess=guess,
        )
        self.solved[lam] = u
        return system.susceptibility(u, self.data), iterations

    def solve(self, lam):
        return self.converge(lam, ROUGH)[0]

    def choose_by_gcv(self):
        """The λ that cross-validation prefers for W b and W Fᴴ D F."""
        start = super().choose_by_gcv().value * EDGES_LAMBDA
        return minimise_gcv(
            lambda lam: self.mean_square(lam) / self.freedom(lam) ** 2, start=start, factor=1.6
        )

    def freedom(self, lam):
        """Share of the weighted field's degrees of freedom that are left to its error, by a random
        probe.

        The trace of the influence matrix is the expected product of a weighted probe p and what of
        it is explained. With b = p it is pᵀ Fᴴ D χ = pᵀ Fᴴ D M⁻¹ D p + (B M⁻¹ D p)ᵀ (y, z), which
        needs no χ.
        """
        probe, probe_data = self._probe
        system = _EdgeSystem(self, lam)
        closed = system.closed_form(probe_data)
        by_closed_form = inner(probe, self.volume(self.kernel * closed))
        right_side = system.filled(closed)
        u, _, _ = conjugate_gradients(
            system.operator,
            right_side.copy(),
            tolerance=ROUGH_TRACE,
            max_iterations=self.max_iterations,
        )
        return 1 - (by_closed_form + inner(right_side, u)) / self.n_weighted

    @cached_property
    def _probe(self):
        """Random signs times W, and their spectrum."""
        probe = np.zeros(self.grid.shape, np.float32)
        signs = np.random.default_rng(self.seed).choice(np.float32([-1, 1]), int(self.mask.sum()))
        probe[self.inside] = signs * self.weight[self.inside]
        return probe, fft.rfftn(probe)


class _EdgeSystem:
    """The equations for (y, z) at one λ."""

    def __init__(self, problem, lam):
        self.problem = problem
        self.lam = np.float32(lam)
        self.inverse = 1 / problem.regularised(lam)
        self.fields = 0 if problem.unknown is None else problem.unknown.size

    def closed_form(self, data):
        """M⁻¹ D b."""
        return self.inverse * self.problem.kernel * data

    def operator(self, u):
        """(1 - B M⁻¹ Bᴴ) (y, z)."""
        response = self.filled(self.susceptibility(u))
        return np.subtract(u, response, out=response)

    def filled(self, spectrum):
        """(y, z) of a susceptibility: B χ; uses up its spectrum."""
        problem = self.problem
        n = self.fields
        u = np.empty(n + problem.edge_gradient.shape[0], np.float32)
        if n:
            field = problem.volume(problem.kernel * spectrum)
            np.multiply(field.ravel(), problem.unknown.ravel(), out=u[:n])
        np.multiply(problem.edge_gradient @ problem.volume(spectrum).ravel(), self.lam, out=u[n:])
        return u

    def susceptibility(self, u, data=None):
        """M⁻¹ (D b + Bᴴ (y, z)), of no data M⁻¹ Bᴴ (y, z)."""
        problem = self.problem
        n = self.fields
        spectrum = fft.rfftn(
            (problem.edge_divergence @ (self.lam * u[n:])).reshape(problem.grid.shape)
        )
        if data is not None:
            spectrum += problem.kernel * data
        if n:
            field = fft.rfftn(problem.unknown * u[:n].reshape(problem.grid.shape))
            field *= problem.kernel
            spectrum += field
        spectrum *= self.inverse
        return spectrum
