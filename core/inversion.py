"""Susceptibility from the local field: the deterministic and the iterative inversion of the 2015 study."""

from dataclasses import dataclass
from functools import cached_property

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

# Weight of any known voxel in the iterative inversion. A standard error of ten times the median and more comes of phase
# that bends in time, as around a haemorrhage, and says little of how wrong the field is. On heads with a haemorrhage of
# R2* 15 to 200/s, a tenth reads it within 10 %, none 5 to 15 % too low, a fifth too high; heads without do not change.
SMALLEST_WEIGHT = 0.1

KERNEL_THRESHOLD = 0.2  # of thresholded k-space division, as published

# λ of the iterative inversion is about so many times that of the closed form, which cannot leave edges free.
EDGES_LAMBDA = 2.5


@dataclass(frozen=True)
class Inversion:
    """Result of an inversion.

    Attributes
    ----------
    chi : ndarray of float32, shape (x, y, z)
        Susceptibility, ppm, up to a constant; zero outside the mask.
    lam : LambdaChoice or None
        The regularisation parameter and how it was chosen; None of an inversion that has none.
    iterations : int
        Iterations of the last solve; 0 for a closed form.
    residual : float
        Root mean square over the mask of the field that χ leaves unexplained, ppm.
    """

    chi: np.ndarray
    lam: LambdaChoice | None
    iterations: int
    residual: float


def deterministic(field, mask, voxel_size, *, b0_dir=(0, 0, 1), known=None, lam=None, rule="gcv", noise_variance=None):
    """Invert the local field in closed form, χ = Fᴴ (D² + λ²|E|²)⁻¹ D F b.

    A closed form has no data weights: where the field is not known, it needs one that is filled in, as by
    `holes.interpolate_unknown`.

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
    known : ndarray of bool, shape (x, y, z), optional
        Voxels whose field was measured; residuals of others are not judged. All of the mask without it.
    lam : float, optional
        Fixed λ, mm. Without it λ is chosen by `rule`.
    rule : {"gcv", "discrepancy"}
        Generalised cross-validation, or the study's discrepancy principle: the λ whose mean squared residual in the
        mask equals the variance of the field's error. That is the noise's or, where it is larger, what
        cross-validation infers from the field: else λ would fall until it explains what no susceptibility does.
    noise_variance : float, optional
        Variance of the field's noise, ppm²; the discrepancy principle needs it. With weights, of the weighted noise.

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
    if known is not None:
        problem.weight = problem.grid.embed((mask & known).astype(np.float32))
    if lam is not None:
        choice = _fixed(lam)
    elif rule == "gcv":
        choice = problem.choose_by_gcv()
    else:
        choice = problem.choose_by_discrepancy(_variance(rule, noise_variance))
    return problem.result(problem.solve(choice.value), choice, 0)


def divide_field(field, mask, voxel_size, *, b0_dir=(0, 0, 1), threshold=KERNEL_THRESHOLD):
    r"""Invert the local field by thresholded k-space division (TKD), the simplest inversion and a baseline.

    χ = F⁻¹[F b / D'] with D' = D where |D| exceeds the threshold, and sign(D) times the threshold elsewhere. What lies
    near the cone of small D comes out too small, so that susceptibility is underestimated. Nothing is chosen by the
    data, and there are no data weights: where the field is not known, it needs one that is filled in.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir
        As of `deterministic`.
    threshold : float
        Of the dipole kernel, between 0 and 2/3.

    Returns
    -------
    Inversion
        Without a λ.

    Raises
    ------
    ValueError
        If the mask is empty, the field in it not finite, or the threshold not between 0 and 2/3.

    References
    ----------
    Shmueli et al., Magn Reson Med 62:1510-1522 (2009), eq. 6 and 7.
    """
    if not 0 < threshold < 2 / 3:
        raise ValueError(f"the threshold must lie between 0 and 2/3, got {threshold}")
    problem = _Problem(field, mask, voxel_size, b0_dir)
    kernel = problem.kernel
    divisor = np.where(np.abs(kernel) > threshold, kernel, np.copysign(np.float32(threshold), kernel))
    return problem.result(problem.data / divisor, None, 0)


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
        As for `deterministic`. Both rules judge λ by the weighted field, so that voxels without weight have no say.
    edges : ndarray of bool, shape (3, x, y, z)
        Differences inside the mask that are not regularised, from `regularization.edge_mask`. Those across the
        mask's surface never are.
    data_weight : ndarray, shape (x, y, z), optional
        W inside the mask, 0 to 1; see `fieldfit.noise_weight`. 1 without it, as in the study. Enclosed voxels whose
        field is not known belong to the mask, with weight 0.
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
    problem = _EdgeProblem(field, mask, voxel_size, b0_dir, edges, max_iterations, seed)
    problem.weigh(data_weight, outside_weight)
    if lam is not None:
        choice = _fixed(lam)
    elif rule == "gcv":
        choice = problem.choose_by_gcv()
    else:
        choice = problem.choose_by_discrepancy(_variance(rule, noise_variance))
    spectrum, iterations = problem.converge(choice.value, tolerance)
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
        self.weight = self.inside.astype(np.float32)  # of the residuals by which λ is judged
        self.kernel = dipole_kernel(self.grid.shape, voxel_size, b0_dir)
        self.gradient = gradient_power(self.grid.shape, voxel_size)
        self.data = fft.rfftn(self.grid.embed(self.field))

    @property
    def n_judged(self):
        """How many voxels of the mask have a weight."""
        return int(np.count_nonzero(self.weight[self.inside]))

    def regularised(self, lam):
        return regularised_power(self.kernel, self.gradient, lam)

    def closed_form(self, lam, data):
        return self.kernel / self.regularised(lam) * data

    def solve(self, lam):
        """Spectrum of χ at one λ, good enough to judge it."""
        return self.closed_form(lam, self.data)

    def volume(self, spectrum):
        """The volume on the grid; uses up the spectrum."""
        return inverse_transform(spectrum, self.grid.shape)

    def explained(self, spectrum):
        """Field of a susceptibility, on the mask as a vector."""
        return self.volume(self.kernel * spectrum)[self.inside]

    def unexplained(self, spectrum):
        """What the field has beyond that."""
        return self.field[self.mask] - self.explained(spectrum)

    def mean_square(self, lam):
        """Mean square of the weighted residual in the mask, ppm²."""
        left = self.weight[self.inside] * self.unexplained(self.solve(lam))
        return inner(left, left) / self.n_judged

    def choose_by_gcv(self):
        """The λ that cross-validation prefers."""
        return minimise_gcv(self._spectrum().gcv, start=0.1, factor=1.1)

    def choose_by_discrepancy(self, noise_variance):
        """The λ whose residual in the mask is the error of the field."""
        best = self.choose_by_gcv().value
        inferred = self.mean_square(best) / self.freedom(best)
        return meet_discrepancy(self.mean_square, max(noise_variance, inferred))

    def freedom(self, lam):
        """Share of the field's degrees of freedom that are left to its error."""
        return self._spectrum().freedom(lam)

    def result(self, spectrum, choice, iterations):
        left = self.unexplained(spectrum)[self.weight[self.inside] > 0]
        residual = float(np.sqrt(np.mean(np.square(left), dtype=np.float64)))
        chi = np.zeros(self.mask.shape, np.float32)
        chi[self.mask] = self.volume(spectrum)[self.inside]
        return Inversion(chi, choice, iterations, residual)

    def _spectrum(self):
        power = (self.data.real**2 + self.data.imag**2) / float(np.prod(self.grid.shape))
        return RatioSpectrum(power, self.kernel, self.gradient, self.grid.shape[2])


class _EdgeProblem(_Problem):
    """The same with free edges and a field that is believed only so far."""

    def __init__(self, field, mask, voxel_size, b0_dir, edges, max_iterations, seed):
        super().__init__(field, mask, voxel_size, b0_dir)
        on_grid = np.stack([self.grid.embed(e) for e in edges])
        for axis, free in enumerate(on_grid):
            # Nothing is known of what lies beyond the mask's surface: differences across it are free too.
            near, far = neighbours(axis)
            free[near] |= self.inside[near] ^ self.inside[far]
        self.edge_gradient = edge_differences(on_grid, voxel_size)
        self.edge_divergence = self.edge_gradient.T
        self.unknown = None
        self.max_iterations, self.seed = max_iterations, seed
        self.solved = {}  # (y, z) of the data by λ

    def weigh(self, data_weight, outside_weight):
        """Set W; until then the field is believed everywhere alike."""
        self.solved = {}
        weight = np.full(self.grid.shape, outside_weight, np.float32)
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

    def solve(self, lam):
        return self.converge(lam, ROUGH)[0]

    def choose_by_gcv(self):
        """The λ that cross-validation prefers for W b and W Fᴴ D F."""
        start = super().choose_by_gcv().value * EDGES_LAMBDA
        return minimise_gcv(lambda lam: self.mean_square(lam) / self.freedom(lam) ** 2, start=start, factor=1.6)

    def freedom(self, lam):
        """Share of the weighted field's degrees of freedom that are left to its error, by a random probe.

        The trace of the influence matrix is the expected product of a weighted probe p and what of it is explained.
        With b = p it is pᵀ Fᴴ D χ = pᵀ Fᴴ D M⁻¹ D p + (B M⁻¹ D p)ᵀ (y, z), which needs no χ.
        """
        probe, probe_data = self._probe
        system = _EdgeSystem(self, lam)
        closed = system.closed_form(probe_data)
        by_closed_form = inner(probe, self.volume(self.kernel * closed))
        right_side = system.filled(closed)
        u, _, _ = conjugate_gradients(
            system.operator, right_side.copy(), tolerance=ROUGH_TRACE, max_iterations=self.max_iterations
        )
        return 1 - (by_closed_form + inner(right_side, u)) / self.n_judged

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
