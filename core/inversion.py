"""Susceptibility from the local field: the deterministic and the iterative inversion of the 2015 study."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from .dipole import dipole_kernel
from .grid import WorkingGrid
from .regularization import (
    LambdaChoice,
    RatioSpectrum,
    edge_differences,
    gradient_power,
    meet_discrepancy,
    minimise_gcv,
)

MARGIN = 10.0  # mm around the mask's bounding box; the dipole field has fallen off by then


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
    b0_dir=(0, 0, 1),
    lam=None,
    rule="gcv",
    noise_variance=None,
    tolerance=3e-3,
    max_iterations=100,
    seed=0,
):
    r"""Invert the local field with edges left free, min ‖Fᴴ D F χ - b‖² + λ²‖W_e G χ‖².

    Write M = D² + λ²|E|², the deterministic operator, and G_e for the gradient across the edges alone, where
    W_e = 0. The normal equations are (M - λ² G_eᴴ G_e) χ = D b, so with z = G_e χ

        χ = M⁻¹ (D b + λ² G_eᴴ z)    and    (I - λ² G_e M⁻¹ G_eᴴ) z = G_e M⁻¹ D b.

    The unknown z lives on the edges only, its operator is symmetric positive definite with eigenvalues in
    (0, 1], and z = 0 is the deterministic solution. Conjugate gradients on z need one pair of Fourier
    transforms and a few short vectors per iteration, and a handful of iterations.

    Parameters
    ----------
    field, mask, voxel_size, b0_dir, lam, rule, noise_variance
        As for `deterministic`.
    edges : ndarray of bool, shape (3, x, y, z)
        Differences that are not regularised, from `regularization.edge_mask`.
    tolerance : float
        Stop when the residual in z has fallen to this share of the right-hand side.
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
        As `deterministic`.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), eq. 1; Hutchinson, Commun Stat Simul Comput 19:433-450 (1990).
    """
    problem = _EdgeProblem(field, mask, voxel_size, b0_dir, edges, max_iterations)
    choice = _fixed(lam) if lam is not None else problem.choose_iterative(rule, noise_variance, seed)
    spectrum, iterations = problem.solve(choice.value, problem.data, "field", tolerance)
    return problem.result(spectrum, choice, iterations)


class _Problem:
    """The field and the operators on the working grid, in the Fourier domain."""

    def __init__(self, field, mask, voxel_size, b0_dir):
        self.mask, self.field = mask, np.where(mask, field, 0).astype(np.float32)
        if not np.isfinite(self.field).all():
            raise ValueError("the field holds values inside the mask that are not finite")
        self.grid = WorkingGrid.around(mask, voxel_size, MARGIN)
        self.kernel = dipole_kernel(self.grid.shape, voxel_size, b0_dir)
        self.gradient = gradient_power(self.grid.shape, voxel_size)
        self.data = fft.rfftn(self.grid.embed(self.field))
        self.n_mask = int(mask.sum())

    def regularised(self, lam):
        """M = D² + λ²|E|², with 1 at k = 0, where both vanish and χ is undetermined."""
        m = self.kernel**2 + np.float32(lam**2) * self.gradient
        m[0, 0, 0] = 1
        return m

    def closed_form(self, lam, data):
        return self.kernel / self.regularised(lam) * data

    def volume(self, spectrum):
        return fft.irfftn(spectrum, self.grid.shape)

    def unexplained(self, spectrum, data):
        """Data minus the field of a susceptibility, on the mask as a vector."""
        return self.grid.extract(self.volume(data - self.kernel * spectrum))[self.mask]

    def choose_closed_form(self, rule, noise_variance):
        n = np.prod(self.grid.shape)
        power = (self.data.real**2 + self.data.imag**2) / n
        spectrum = RatioSpectrum(power, self.kernel, self.gradient, self.grid.shape[2])
        if rule == "gcv":
            return minimise_gcv(spectrum.gcv, start=0.1, factor=1.1)
        return meet_discrepancy(lambda lam: spectrum.residual(lam) / self.n_mask, _variance(rule, noise_variance))

    def result(self, spectrum, choice, iterations):
        residual = float(np.sqrt(np.mean(np.square(self.unexplained(spectrum, self.data)), dtype=np.float64)))
        chi = np.where(self.mask, self.grid.extract(self.volume(spectrum)), np.float32(0))
        return Inversion(chi, choice, iterations, residual)


class _EdgeProblem(_Problem):
    """The same with free edges; remembers the last z of each right-hand side to start the next λ from."""

    def __init__(self, field, mask, voxel_size, b0_dir, edges, max_iterations):
        super().__init__(field, mask, voxel_size, b0_dir)
        on_grid = np.stack([self.grid.embed(e) for e in edges])
        self.edge_gradient = edge_differences(on_grid, voxel_size)
        self.edge_divergence = self.edge_gradient.T
        self.max_iterations = max_iterations
        self.last = {}

    def solve(self, lam, data, name, tolerance):
        """Conjugate gradients on z for one λ; returns the spectrum of χ and the iterations."""
        inverse = 1 / self.regularised(lam)
        spread = np.float32(lam**2) * inverse

        def edges_of(spectrum):
            return self.edge_gradient @ self.volume(spectrum).ravel()

        def susceptibility_of(z):
            return spread * fft.rfftn((self.edge_divergence @ z).reshape(self.grid.shape))

        start = inverse * self.kernel * data
        right_side = edges_of(start)
        z = self.last.get(name, np.zeros_like(right_side))
        residual = right_side - (z - edges_of(susceptibility_of(z))) if z.any() else right_side
        direction, power = residual.copy(), _dot(residual, residual)
        target = tolerance**2 * _dot(right_side, right_side)
        iterations = 0
        while power > target and iterations < self.max_iterations:
            response = direction - edges_of(susceptibility_of(direction))
            step = np.float32(power / _dot(direction, response))
            z = z + step * direction
            residual = residual - step * response
            previous, power = power, _dot(residual, residual)
            direction = residual + np.float32(power / previous) * direction
            iterations += 1
        self.last[name] = z
        return start + susceptibility_of(z), iterations

    def choose_iterative(self, rule, noise_variance, seed):
        # A λ is judged by residuals that are known well enough long before χ has converged.
        rough = 1e-2

        def mean_square(lam):
            left = self.unexplained(self.solve(lam, self.data, "field", rough)[0], self.data)
            return _dot(left, left) / self.n_mask

        if rule != "gcv":
            return meet_discrepancy(mean_square, _variance(rule, noise_variance))

        probe = np.zeros(self.mask.shape, np.float32)
        probe[self.mask] = np.random.default_rng(seed).choice(np.float32([-1, 1]), self.n_mask)
        probe_data = fft.rfftn(self.grid.embed(probe))

        def score(lam):
            left = self.unexplained(self.solve(lam, probe_data, "probe", rough)[0], probe_data)
            return mean_square(lam) / (_dot(probe[self.mask], left) / self.n_mask) ** 2

        return minimise_gcv(score, start=self.choose_closed_form("gcv", None).value * 2, factor=2)


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


def _dot(a, b):
    """Inner product in double precision; not BLAS, whose result depends on the number of threads."""
    return float(np.sum(a * b, dtype=np.float64))
