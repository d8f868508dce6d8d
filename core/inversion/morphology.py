"""Morphology-enabled dipole inversion (MEDI): sparse gradients except at edges of the magnitude.

The same solver inverts the local field, or the total field if sources outside the mask are
unpenalised (total field inversion).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import fft

from ..dipole import convolve, dipole_kernel
from ..grid import Vector, WorkingGrid, check_grid, field_in_mask, neighbours
from ..phase.fieldfit import noise_weight
from ..robust import robust_sd
from .closed_form import deterministic
from .parameters import MERIT_THRESHOLD, LambdaChoice
from .problem import MARGIN, Inversion
from .regularization import gradient_power

# Penalties of the splitting, ρ and η. They affect how fast it converges, but not the solution.
FIELD_PENALTY = 0.3
GRADIENT_PENALTY = 0.1  # mm²
# Between 1 and 2. Values around 1.7 speed up alternating directions.
OVER_RELAXATION = np.float32(1.7)

# λ over the product of the field's noise and the mean voxel size. With this λ, noise of the
# differences along an axis seldom exceeds the soft threshold. On an ellipsoid and a head of known
# truth, the error is within 8 % of its minimum from 0.1 to 0.2.
NOISE_TO_LAMBDA = 0.14
ROUND = 5  # iterations between updates of λ and weights and tests of convergence
SLAB = 8  # planes that one thread works on at a time; few enough to fit into the processor's cache


def medi(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    edges: np.ndarray,
    standard_error: np.ndarray | None = None,
    b0_dir: Vector = (0, 0, 1),
    medi_lambda: float | None = None,
    lambda_rule: str = "scaled",
    medi_data: str = "nonlinear",
    period: float | None = None,
    merit: bool = True,
    quadratic_penalty: float = 0.0,
    tolerance: float = 2e-2,
    max_iterations: int = 100,
) -> Inversion:
    r"""Invert the local field with sparse gradients, min ½ ‖W (exp(i p D∗χ) - exp(i p b))/p‖² + λ
    ‖W_e G χ‖₁.

    For the command line's result, pass as `period` 1/(f₀ ΔTE) of the two closest echoes, and edges
    that include `jump_mask`.

    W is the inverse standard error of the field b relative to its median, at most 1, and 0 outside
    the mask; W_e is 0 at edges of the magnitude and across the mask's surface, 1 elsewhere; p =
    2π/period converts field to phase. The linear data term is ½ ‖W (D∗χ - b)‖²; the nonlinear one
    approaches it if all fields are small relative to the period.

    Solved by split Bregman iterations (alternating directions) with v = D∗χ and z = G χ as separate
    variables. Each iteration costs two pairs of Fourier transforms, and has three steps: the closed
    form of the deterministic inversion,

        χ = Fᴴ (ρ D² + η |E|²)⁻¹ (ρ D F (v - s) + η F Gᴴ (z - u)),

    Newton's method for v in each voxel, and soft thresholding for z. The multipliers s and u
    accumulate the remaining differences D∗χ - v and G χ - z.

    The iterations start at the deterministic χ. From zero, voxels of low weight would take many
    iterations to reproduce the field of a strong source, and MERIT would meanwhile mistake their
    residual for an error of the model.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Local field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    edges : ndarray of bool, shape (3, x, y, z)
        Differences that are not penalised, from `regularization.edge_mask`.
    standard_error : ndarray, shape (x, y, z), optional
        Standard error of the field, ppm, for W; see `noise_weight`. By default, W = 1 in the mask.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    medi_lambda : float, optional
        Fixed λ, ppm·mm. By default, λ is chosen by `lambda_rule`.
    lambda_rule : {"scaled", "discrepancy"}
        ``scaled``: λ in proportion to the root mean square of the weighted residual and the mean
        voxel size, so that it needs neither a search nor the noise level (the scaled lasso).
        ``discrepancy``: the λ for which the weighted residual equals the noise, as in Lin et al.
        (2015). Both update λ during the iterations, so that the problem is solved only once.
    medi_data : {"nonlinear", "linear"}
        Data term: complex phase factors, which are insensitive to wraps, or the field.
    period : float, optional
        Difference of field over which phase wraps, ppm: 1/(f₀ ΔTE). Needed by the nonlinear data
        term; the linear one does not use it.
    merit : bool
        Whether to down-weight voxels that are inconsistent with the dipole model (MERIT, model
        error reduction through iterative tuning), with Cauchy's weights: by half at
        `MERIT_THRESHOLD`, and more for larger residuals.
    quadratic_penalty : float
        μ, mm²: adds ½ μ ‖W_e G χ‖² to the objective. It keeps maps from becoming piecewise constant
        where the field's error is large and λ with it.
    tolerance : float
        Stop when the change of χ over five iterations is less than this fraction of its standard
        deviation.
    max_iterations : int
        Maximum number of iterations.

    Returns
    -------
    Inversion

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field in it not finite, λ or the period not
        positive, the rule or the data term unknown, the standard error missing for the discrepancy
        principle, or the period for the nonlinear data term.

    References
    ----------
    Liu et al., NeuroImage 59:2560-2568 (2012), eq. 3; Liu et al., Magn Reson Med 69:467-476 (2013),
    eq. 3 and 6, for the nonlinear term and reweighting; Goldstein & Osher, SIAM J Imaging Sci
    2:323-343 (2009), sec. 3; Sun & Zhang, Biometrika 99:879-898 (2012), eq. 4, for the rule.
    """
    solver = SparseGradients(
        field,
        mask,
        voxel_size,
        edges=edges,
        standard_error=standard_error,
        b0_dir=b0_dir,
        lambda_value=medi_lambda,
        lambda_rule=lambda_rule,
        period=_checked_period(medi_data, period),
        merit=merit,
        quadratic_penalty=quadratic_penalty,
        margin=MARGIN,
    )
    solver.start(deterministic(field, mask, voxel_size, b0_dir=b0_dir).chi)
    return solver.inversion(solver.converge(tolerance, max_iterations))


class SparseGradients:
    """State of the split Bregman iterations.

    Parameters
    ----------
    field, mask, voxel_size, edges, standard_error, b0_dir, lambda_rule, merit, quadratic_penalty
        As for `medi`.
    lambda_value : float, optional
        Fixed λ, ppm·mm. By default, λ is chosen by `lambda_rule`.
    period : float, optional
        Period of the nonlinear data term, ppm. By default, the data term is linear.
    margin : float
        Margin around the mask's bounding box, mm.
    free_outside : bool
        Whether gradients outside the mask are unpenalised, so that sources there can explain a
        background field.
    field_penalty, gradient_penalty : float
        ρ, and η in mm².
    """

    def __init__(
        self,
        field: np.ndarray,
        mask: np.ndarray,
        voxel_size: Vector,
        *,
        edges: np.ndarray,
        standard_error: np.ndarray | None = None,
        b0_dir: Vector = (0, 0, 1),
        lambda_value: float | None = None,
        lambda_rule: str = "scaled",
        period: float | None = None,
        merit: bool = True,
        quadratic_penalty: float = 0.0,
        margin: float,
        free_outside: bool = False,
        field_penalty: float = FIELD_PENALTY,
        gradient_penalty: float = GRADIENT_PENALTY,
    ) -> None:
        check_grid(mask, edges=edges, field=field, standard_error=standard_error)
        if period is not None and not period > 0:
            raise ValueError(f"the period of the field must be positive, got {period} ppm")
        self.lambda_rule = _checked_rule(lambda_rule, lambda_value, standard_error)
        self.mask = mask
        self.period = period
        if not quadratic_penalty >= 0:
            raise ValueError(f"the quadratic penalty must not be negative, got {quadratic_penalty}")
        self.merit = merit
        self.quadratic_penalty = np.float32(quadratic_penalty)
        self.field_penalty = np.float32(field_penalty)
        self.gradient_penalty = np.float32(gradient_penalty)
        self.voxel_size = tuple(np.float32(v) for v in voxel_size)
        self.grid = grid = WorkingGrid.around(mask, voxel_size, margin)
        self.inside = grid.embed(mask)
        self.kernel = dipole_kernel(grid.shape, voxel_size, b0_dir)
        power = self.field_penalty * self.kernel**2 + self.gradient_penalty * gradient_power(
            grid.shape, voxel_size
        )
        power[0, 0, 0] = 1  # both terms vanish and χ is undetermined: its mean will be zero
        self.inverse = 1 / power

        self.field = grid.embed(field_in_mask(mask, field))
        weight = noise_weight(standard_error, mask)
        self.weight = weight[mask]  # W
        self.data_weight = grid.embed(weight**2)  # W², times the weight of MERIT
        self.noise = None if standard_error is None else _noise_level(standard_error, mask)
        self.is_penalised = self._penalised(edges, free_outside)
        self.lambda_value = (
            float(lambda_value)
            if lambda_value is not None
            else NOISE_TO_LAMBDA * self._mean_size() * (self.noise or 0.0)
        )

        self.converged = False
        self.chi = np.zeros(grid.shape, np.float32)
        self.explained = np.zeros(grid.shape, np.float32)  # D∗χ
        # v. It starts at zero or at the field of a first χ, and not at the measured field: the data
        # term is periodic, and would preserve errors of the field by whole periods.
        self.split_field = np.zeros(grid.shape, np.float32)
        self.field_multiplier = np.zeros(grid.shape, np.float32)  # s
        self.split_gradient = np.zeros((3, *grid.shape), np.float32)  # z
        self.gradient_multiplier = np.zeros((3, *grid.shape), np.float32)  # u
        self.divergence = np.zeros(grid.shape, np.float32)  # Gᴴ (z - u)

    def start(self, chi: np.ndarray) -> None:
        """Initialise χ, v and z from a susceptibility inside the mask.

        Parameters
        ----------
        chi : ndarray, shape (x, y, z)
            Susceptibility, ppm.
        """
        self.chi = self.grid.embed(chi)
        self.split_field = convolve(self.kernel, self.chi)
        slabs = self._slabs()
        for slab in slabs:
            for axis in range(3):
                self.split_gradient[axis][slab] = self._slope(slab, axis)
        for slab in slabs:
            self._diverge(slab)

    def converge(
        self,
        tolerance: float,
        max_iterations: int,
        *,
        watch: Callable[[], np.ndarray] | None = None,
    ) -> int:
        """Iterate until a quantity no longer changes.

        Parameters
        ----------
        tolerance : float
            Stop when the SD of its change over five iterations is at most this fraction of its own
            SD.
        max_iterations : int
            Maximum number of iterations.
        watch : callable, optional
            Returns the quantity. By default, χ in the mask.

        Returns
        -------
        int
            Number of iterations.
        """
        watch = watch or (lambda: self.chi[self.inside])
        iterations = 0
        self.converged = False
        previous = watch()
        with ThreadPoolExecutor(fft.get_workers()) as pool:
            while iterations < max_iterations:
                for _ in range(min(ROUND, max_iterations - iterations)):
                    self._iterate(pool)
                    iterations += 1
                self._adapt(iterations)
                current = watch()
                if np.std(current - previous) <= tolerance * np.std(current):
                    self.converged = True
                    break
                previous = current
        return iterations

    def susceptibility(self) -> np.ndarray:
        """Return χ in the mask, ppm."""
        return np.where(self.mask, self.grid.extract(self.chi), np.float32(0))

    def local_field(self) -> np.ndarray:
        """Return the field minus that of sources outside the mask, over its voxels, ppm."""
        spectrum = fft.rfftn(np.where(self.inside, np.float32(0), self.chi))
        spectrum *= self.kernel
        return self.field[self.inside] - fft.irfftn(spectrum, self.grid.shape)[self.inside]

    def unexplained(self) -> np.ndarray:
        """Return the field minus that of all sources, over the voxels of the mask, ppm."""
        return self.field[self.inside] - self.explained[self.inside]

    def inversion(self, iterations: int) -> Inversion:
        """Return the result after a number of iterations."""
        residual = self.unexplained()[self.weight > 0]
        rms = float(np.sqrt(np.mean(np.square(residual), dtype=np.float64)))
        return Inversion(
            self.susceptibility(),
            LambdaChoice(self.lambda_value, self.lambda_rule),
            iterations,
            rms,
            self.converged,
        )

    def _iterate(self, pool):
        # Release two volumes before transforms allocate new ones.
        del self.chi, self.explained
        spectrum = fft.rfftn(self.split_field - self.field_multiplier)
        sparse = fft.rfftn(self.divergence)
        spectrum *= self.kernel
        spectrum *= self.field_penalty
        sparse *= self.gradient_penalty
        spectrum += sparse
        del sparse
        spectrum *= self.inverse
        self.chi = fft.irfftn(spectrum, self.grid.shape)
        spectrum *= self.kernel
        self.explained = fft.irfftn(spectrum, self.grid.shape)
        slabs = self._slabs()
        # The divergence of a slab needs z and u of the plane before it, so all are updated first.
        list(pool.map(self._split, slabs))
        list(pool.map(self._diverge, slabs))

    def _slabs(self):
        return [slice(start, start + SLAB) for start in range(0, len(self.field), SLAB)]

    def _split(self, slab):
        """Update v, s, z and u of some planes."""
        # Over-relaxation replaces D∗χ by a point beyond it, as seen from the previous v.
        target = (
            OVER_RELAXATION * self.explained[slab]
            + (1 - OVER_RELAXATION) * self.split_field[slab]
            + self.field_multiplier[slab]
        )
        self.split_field[slab] = self._data_step(target, self.field[slab], self.data_weight[slab])
        self.field_multiplier[slab] = target - self.split_field[slab]

        threshold = np.float32(self.lambda_value) / self.gradient_penalty
        for axis in range(3):
            slope = self._slope(slab, axis)
            slope *= OVER_RELAXATION
            slope += (1 - OVER_RELAXATION) * self.split_gradient[axis][slab]
            slope += self.gradient_multiplier[axis][slab]
            # Soft thresholding splits the slope in two: the part up to the threshold is the new
            # multiplier u, and the rest is z. The limit is zero where nothing is penalised.
            limit = threshold * self.is_penalised[axis][slab]
            clipped = np.clip(slope, -limit, limit, out=self.gradient_multiplier[axis][slab])
            np.subtract(slope, clipped, out=self.split_gradient[axis][slab])
            if self.quadratic_penalty > 0:
                # Its minimiser is a fraction of the rest; u takes what it leaves.
                share = self.quadratic_penalty / self.gradient_penalty
                self.split_gradient[axis][slab] /= 1 + share * self.is_penalised[axis][slab]
                np.subtract(slope, self.split_gradient[axis][slab], out=clipped)

    def _data_step(self, target, field, weight):
        """Return the v that minimises ½ W² |exp(ipv) - exp(ipb)|²/p² + ½ ρ (v - target)².

        `field` is b, and `weight` W².
        """
        offset = target - field
        penalty = self.field_penalty
        if self.period is None:
            return field + penalty * offset / (weight + penalty)
        # The data term has a minimum at b plus every whole period. It cannot tell which is true;
        # the target, which comes from χ, can. So v is sought around the one nearest to the target.
        periods = np.float32(self.period) * np.rint(offset / np.float32(self.period))
        offset -= periods
        p = np.float32(2 * np.pi / self.period)
        # v - b. The linear problem's solution differs from the nonlinear one by terms of third
        # order only, as sin does from its argument, so two Newton steps from there are enough.
        deviation = penalty * offset / (weight + penalty)
        for _ in range(2):
            slope = weight * np.sin(p * deviation) / p + penalty * (deviation - offset)
            # The true curvature has W² cos. Beyond a quarter of a period the cosine is negative:
            # the sum might vanish or change sign, and the step would diverge or lead uphill. With
            # the cosine cut off at zero, the curvature is at least ρ, and steps go downhill.
            curvature = np.maximum(weight * np.cos(p * deviation), 0) + penalty
            deviation -= slope / curvature
        return field + periods + deviation

    def _slope(self, slab, axis):
        """Return the slope of χ along an axis, which wraps around as the Fourier transform does."""
        if axis:
            following = np.roll(self.chi[slab], -1, axis)
        else:
            planes = range(slab.start + 1, min(slab.stop, len(self.chi)) + 1)
            following = np.take(self.chi, planes, axis=0, mode="wrap")
        following -= self.chi[slab]
        following *= 1 / self.voxel_size[axis]
        return following

    def _diverge(self, slab):
        """Update Gᴴ (z - u) of some planes."""
        total = np.zeros_like(self.divergence[slab])
        for axis, size in enumerate(self.voxel_size):
            gradient = self.split_gradient[axis]
            multiplier = self.gradient_multiplier[axis]
            difference = gradient[slab] - multiplier[slab]
            if axis:
                preceding = np.roll(difference, 1, axis)
            else:
                # For the first slab, index -1 is the last plane: the slope wraps around.
                plane_before = gradient[slab.start - 1] - multiplier[slab.start - 1]
                preceding = np.concatenate([plane_before[None], difference[:-1]])
            preceding -= difference
            preceding *= 1 / size
            total += preceding
        self.divergence[slab] = total

    def _adapt(self, iterations):
        """Update MERIT's weights and λ from the residual."""
        weighted = self.weight * self.unexplained()
        merit_weight = np.ones_like(weighted)
        # In the first rounds, residuals are still those of an unfinished solution.
        if self.merit and iterations > 2 * ROUND:
            threshold = MERIT_THRESHOLD * robust_sd(weighted)
            if threshold > 0:
                merit_weight = 1 / (1 + np.square(weighted / np.float32(threshold)))
            self.data_weight[self.inside] = np.square(self.weight) * merit_weight
        rms = float(np.sqrt(np.mean(merit_weight * np.square(weighted), dtype=np.float64)))
        if self.lambda_rule == "scaled":
            self.lambda_value = NOISE_TO_LAMBDA * self._mean_size() * max(rms, self.noise or 0.0)
        elif self.lambda_rule == "discrepancy" and rms > 0:
            self.lambda_value *= self.noise / rms

    def _penalised(self, edges, free_outside):
        """Return where W_e is 1: away from edges, the mask's surface and, if free, the outside."""
        is_penalised = np.empty((3, *self.grid.shape), bool)
        for axis in range(3):
            is_penalised[axis] = self.inside if free_outside else True
            near, far = neighbours(axis)
            is_penalised[axis][near] &= ~(self.inside[near] ^ self.inside[far])
            is_penalised[axis] &= ~self.grid.embed(edges[axis])
        return is_penalised

    def _mean_size(self):
        return float(np.prod(self.voxel_size) ** (1 / 3))


def _checked_period(medi_data, period):
    """Return the period of the nonlinear data term; None of the linear one."""
    if medi_data == "linear":
        return None
    if medi_data != "nonlinear":
        raise ValueError(f"unknown data term {medi_data!r}: use 'nonlinear' or 'linear'")
    if period is None:
        raise ValueError(
            "the nonlinear data term needs the period of the field: give it, or use medi_data "
            "'linear'"
        )
    return period


def _checked_rule(lambda_rule, lambda_value, standard_error):
    if lambda_value is not None:
        if not lambda_value > 0:
            raise ValueError(f"λ must be positive, got {lambda_value}")
        return "fixed"
    if lambda_rule not in ("scaled", "discrepancy"):
        raise ValueError(
            f"unknown rule for MEDI's λ {lambda_rule!r}: use 'scaled' or 'discrepancy'"
        )
    if lambda_rule == "discrepancy" and standard_error is None:
        raise ValueError(
            "the discrepancy principle needs the field's standard error: give it, or use 'scaled'"
        )
    return lambda_rule


def _noise_level(standard_error, mask):
    """Return the median standard error, which has the weight 1."""
    measured = mask & np.isfinite(standard_error)
    return float(np.median(standard_error[measured]))
