"""Susceptibility from the local field: the deterministic and the iterative inversion of the 2015 study."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from .conjugate_gradients import conjugate_gradients, inner
from .dipole import dipole_kernel, inverse_transform
from .grid import WorkingGrid, neighbours, within
from .regularization import (
    LambdaChoice,
    RatioSpectrum,
    edge_differences,
    gradient_power,
    meet_discrepancy,
    minimise_gcv,
)

# Room around the mask's bounding box, mm: the field of what is inside has fallen off by then.
MARGIN = 10.0

# A λ is judged by residuals, which are known well enough long before χ has converged, and by a trace that is known
# still earlier: its error goes with the square of the solution's.
ROUGH = 2e-2
ROUGH_TRACE = 0.1


@dataclass(frozen=True)
class Inversion:
    """Result of an inversion.

    Attributes
    ----------
    chi : ndarray of float32, shape (x, y, z)
        Susceptibility, ppm, up to a constant; zero outside the mask.
    lam : LambdaChoice
        The regularisation parameter and how it was chosen.
    iterations : int
        Iterations of the last solve; 0 for a closed form.
    residual : float
        Root mean square over the mask of the field that χ leaves unexplained, ppm.
    """

    chi: np.ndarray
    lam: LambdaChoice
    iterations: int
    residual: float


def deterministic(field, mask, voxel_size, *, b0_dir=(0, 0, 1), lam=None, rule="gcv", noise_variance=None):
    """Invert the local field in closed form, χ = Fᴴ (D² + λ²|E|²)⁻¹ D F b.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Local field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    lam : float, optional
        Fixed λ, mm. Without it λ is chosen by `rule`.
    rule : {"gcv", "discrepancy"}
        Generalised cross-validation, or the study's discrepancy principle.
    noise_variance : float, optional
        Expected variance of the field, ppm²; the discrepancy principle needs it.

    Returns
    -------
    Inversion

    Raises
    ------
    ValueError
        If the mask is empty, the field not finite, λ not positive, the rule unknown, or the discrepancy
        principle lacks its noise variance.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), eq. 3.
    """
    problem = _Problem(field, mask, voxel_size, b0_dir)
    choice = _fixed(lam) if lam is not None else problem.choose_closed_form(rule, noise_variance)
    return problem.result(problem.closed_form(choice.value, problem.data), choice, 0)


def iterative(
    field,
    mask,
    voxel_size,
    *,
    edges,
    data_weight=None,
    outside_weight=1.0,
    b0_dir=(0, 0, 1),
    lam=None,
    rule="gcv",
    noise_variance=None,
    tolerance=5e-3,
    max_iterations=100,
    seed=0,
):
    r"""Invert the local field with edges left free, min ‖W (Fᴴ D F χ - b)‖² + λ²‖W_e G χ‖².

    W says how far to believe the field: inside the mask by its noise, outside, where b is set to zero, as far as
    that can be true.

    Write M = D² + λ²|E|² for the deterministic operator, H = (1 - W²)^½ Fᴴ D F for the field where it is not
    known, and G_e for the gradient across the edges, where W_e = 0. The normal equations are

        (M - HᴴH - λ² G_eᴴG_e) χ = D W² b,    so with    y = H χ  and  z = λ G_e χ

        χ = M⁻¹ (D W² b + Hᴴ y + λ G_eᴴ z),    (1 - B M⁻¹ Bᴴ) (y, z) = B M⁻¹ D W² b,    B = (H, λ G_e).

    In words: fill in the field that is not known and the gradient across the edges, and the closed form
    gives the rest. The operator on (y, z) is symmetric positive definite with eigenvalues in (0, 1]; zero is the
    deterministic solution; conjugate gradients need a handful of iterations of two pairs of Fourier transforms,
    or of one pair where W = 1 everywhere.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, lam, rule, noise_variance
        As for `deterministic`. Cross-validation judges λ by the field as far as it is believed, so that voxels which
        no susceptibility explains have no say; the discrepancy principle is the study's, with W = 1.
    edges : ndarray of bool, shape (3, x, y, z)
        Differences inside the mask that are not regularised, from `regularization.edge_mask`. Those across the
        mask's surface never are.
    data_weight : ndarray, shape (x, y, z), optional
        W inside the mask, 0 to 1; see `fieldfit.noise_weight`. 1 without it, as in the study.
    outside_weight : float
        W outside the mask, 0 to 1; see `zero_field_weight`. 1 is the study's equation: the field of the brain
        is then taken to end at the mask's surface.
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
        As `deterministic`, or if a weight is not between 0 and 1.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), eq. 1; Hutchinson, Commun Stat Simul Comput 19:433-450 (1990).
    """
    problem = _EdgeProblem(field, mask, voxel_size, b0_dir, edges, max_iterations)
    if lam is not None:
        choice = _fixed(lam)
    elif rule != "gcv":
        choice = problem.choose_by_discrepancy(_variance(rule, noise_variance))
    problem.weigh(data_weight, outside_weight)
    if lam is None and rule == "gcv":
        choice = problem.choose_by_gcv(seed)
    spectrum, iterations = problem.solve(choice.value, tolerance)
    return problem.result(spectrum, choice, iterations)


def zero_field_weight(field, mask, noise_variance):
    """How far to believe that the field outside the mask is zero: the weight for `iterative`.

    The brain's field does not end at its surface, and an inversion that believes so loses a tenth of the
    susceptibility of deep nuclei. But without any belief susceptibility outside the mask may explain what is
    inside. The field is continuous, so just outside it is about as large as at the mask's surface, and falls off from
    there. Where it is lost in the noise already at the surface (less than twice as large), a zero is as good as
    a measurement; where it stands far above, next to nothing.

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
    noise, size = np.sqrt(noise_variance), float(np.sqrt(np.mean(np.square(field[surface]), dtype=np.float64)))
    return float(np.clip(noise / (size - noise), 0.1, 1)) if size > noise else 1.0


def regularised_power(kernel, gradient, lam):
    """The closed form's denominator M = D² + λ²|E|², with 1 at k = 0, where both vanish and χ is undetermined.

    Parameters
    ----------
    kernel, gradient : ndarray, shape (x, y, z // 2 + 1)
        D of `dipole_kernel` and |E|² of `gradient_power`, on the half spectrum.
    lam : float
        λ, mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z // 2 + 1)
    """
    m = np.float32(lam**2) * gradient
    m += kernel**2
    m[0, 0, 0] = 1
    return m


class _Problem:
    """The field and the operators on the working grid, in the Fourier domain."""

    def __init__(self, field, mask, voxel_size, b0_dir):
        self.mask, self.field = mask, within(mask, field)
        self.grid = WorkingGrid.around(mask, voxel_size, MARGIN)
        self.inside = self.grid.embed(mask)
        self.kernel = dipole_kernel(self.grid.shape, voxel_size, b0_dir)
        self.gradient = gradient_power(self.grid.shape, voxel_size)
        self.data = fft.rfftn(self.grid.embed(self.field))
        self.n_mask = int(mask.sum())

    def regularised(self, lam):
        return regularised_power(self.kernel, self.gradient, lam)

    def closed_form(self, lam, data):
        return self.kernel / self.regularised(lam) * data

    def volume(self, spectrum):
        """The volume on the grid; uses up the spectrum."""
        return inverse_transform(spectrum, self.grid.shape)

    def explained(self, spectrum):
        """Field of a susceptibility, on the mask as a vector."""
        return self.volume(self.kernel * spectrum)[self.inside]

    def unexplained(self, spectrum):
        """What the field has beyond that."""
        return self.field[self.mask] - self.explained(spectrum)

    def choose_closed_form(self, rule, noise_variance):
        power = (self.data.real**2 + self.data.imag**2) / float(np.prod(self.grid.shape))
        spectrum = RatioSpectrum(power, self.kernel, self.gradient, self.grid.shape[2])
        if rule == "gcv":
            return minimise_gcv(spectrum.gcv, start=0.1, factor=1.1)
        return meet_discrepancy(lambda lam: spectrum.residual(lam) / self.n_mask, _variance(rule, noise_variance))

    def result(self, spectrum, choice, iterations):
        left = self.unexplained(spectrum)
        residual = float(np.sqrt(np.mean(np.square(left), dtype=np.float64)))
        chi = np.zeros(self.mask.shape, np.float32)
        chi[self.mask] = self.volume(spectrum)[self.inside]
        return Inversion(chi, choice, iterations, residual)


class _EdgeProblem(_Problem):
    """The same with free edges and a field that is believed only so far."""

    def __init__(self, field, mask, voxel_size, b0_dir, edges, max_iterations):
        super().__init__(field, mask, voxel_size, b0_dir)
        on_grid = np.stack([self.grid.embed(e) for e in edges])
        for axis, free in enumerate(on_grid):
            # Nothing is known of what lies beyond the mask's surface: differences across it are free too.
            near, far = neighbours(axis)
            free[near] |= self.inside[near] ^ self.inside[far]
        self.edge_gradient = edge_differences(on_grid, voxel_size)
        self.edge_divergence = self.edge_gradient.T
        self.weight, self.unknown = None, None
        self.max_iterations = max_iterations
        self.solved = {}  # (y, z) of the data by λ

    def weigh(self, data_weight, outside_weight):
        """Set W; until then the field is believed everywhere alike."""
        self.solved = {}
        weight = np.full(self.grid.shape, outside_weight, np.float32)
        weight[self.inside] = 1 if data_weight is None else data_weight[self.mask]
        if not ((weight >= 0) & (weight <= 1)).all():
            raise ValueError("weights of the field must lie between 0 and 1")
        self.weight = weight
        if weight.min() < 1:
            self.unknown = np.sqrt(1 - weight**2)
        if data_weight is not None:
            self.data = fft.rfftn(weight**2 * self.grid.embed(self.field))

    def solve(self, lam, tolerance):
        """Solve for (y, z) at one λ, starting from the nearest solved; returns the spectrum of χ and the iterations."""
        system = _EdgeSystem(self, lam)
        right_side, guess = system.filled(system.closed_form(self.data)), None
        if self.solved:
            nearest = min(self.solved, key=lambda other: abs(np.log(other / lam)))
            guess = self.solved[nearest].copy()
            guess[system.fields :] *= np.float32(lam / nearest)  # z = λ G_e χ
        u, iterations, _ = conjugate_gradients(
            system.operator, right_side, tolerance=tolerance, max_iterations=self.max_iterations, guess=guess
        )
        self.solved[lam] = u
        return system.susceptibility(u, self.data), iterations

    def choose_by_discrepancy(self, noise_variance):
        """The λ whose residual is the noise's."""

        def mean_square(lam):
            left = self.unexplained(self.solve(lam, ROUGH)[0])
            return inner(left, left) / self.n_mask

        return meet_discrepancy(mean_square, noise_variance)

    def choose_by_gcv(self, seed):
        """The λ that cross-validation prefers for W b and W Fᴴ D F, the trace estimated by a random probe."""
        weight = self.weight[self.inside]
        probe = np.zeros(self.grid.shape, np.float32)
        probe[self.inside] = np.random.default_rng(seed).choice(np.float32([-1, 1]), self.n_mask) * weight
        probe_data = fft.rfftn(probe)

        def score(lam):
            left = weight * self.unexplained(self.solve(lam, ROUGH)[0])
            return inner(left, left) / self.n_mask / (1 - self.influence(lam, probe, probe_data) / self.n_mask) ** 2

        return minimise_gcv(score, start=self.choose_closed_form("gcv", None).value * 2.5, factor=1.6)

    def influence(self, lam, probe, probe_data):
        """The product of a weighted probe p and what of it is explained, which needs no χ.

        With b = p it is pᵀ Fᴴ D χ = pᵀ Fᴴ D M⁻¹ D p + (B M⁻¹ D p)ᵀ (y, z).
        """
        system = _EdgeSystem(self, lam)
        closed = system.closed_form(probe_data)
        by_closed_form = inner(probe, self.volume(self.kernel * closed))
        right_side = system.filled(closed)
        u, _, _ = conjugate_gradients(
            system.operator, right_side.copy(), tolerance=ROUGH_TRACE, max_iterations=self.max_iterations
        )
        return by_closed_form + inner(right_side, u)


class _EdgeSystem:
    """The equations for (y, z) at one λ."""

    def __init__(self, problem, lam):
        self.problem, self.lam = problem, np.float32(lam)
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
        problem, n = self.problem, self.fields
        u = np.empty(n + problem.edge_gradient.shape[0], np.float32)
        if n:
            field = problem.volume(problem.kernel * spectrum)
            np.multiply(field.ravel(), problem.unknown.ravel(), out=u[:n])
        np.multiply(problem.edge_gradient @ problem.volume(spectrum).ravel(), self.lam, out=u[n:])
        return u

    def susceptibility(self, u, data=None):
        """M⁻¹ (D b + Bᴴ (y, z)), of no data M⁻¹ Bᴴ (y, z)."""
        problem, n = self.problem, self.fields
        spectrum = fft.rfftn((problem.edge_divergence @ (self.lam * u[n:])).reshape(problem.grid.shape))
        if data is not None:
            spectrum += problem.kernel * data
        if n:
            field = fft.rfftn(problem.unknown * u[:n].reshape(problem.grid.shape))
            field *= problem.kernel
            spectrum += field
        spectrum *= self.inverse
        return spectrum


def _fixed(lam):
    if not lam > 0:
        raise ValueError(f"λ must be positive, got {lam}")
    return LambdaChoice(float(lam), "fixed")


def _variance(rule, noise_variance):
    if rule != "discrepancy":
        raise ValueError(f"unknown rule for λ {rule!r}: use 'gcv' or 'discrepancy'")
    if noise_variance is None or not noise_variance > 0:
        raise ValueError(f"the discrepancy principle needs a positive noise variance in ppm², got {noise_variance}")
    return noise_variance
