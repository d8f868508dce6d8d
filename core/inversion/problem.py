"""The quadratic problem, in the Fourier domain, that `deterministic` and `iterative` solve."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from ..dipole import dipole_kernel, inverse_transform
from ..grid import Vector, WorkingGrid, check_grid, field_in_mask
from ..linear_systems import inner
from .error_spectrum import ErrorSpectrum
from .parameters import LambdaChoice
from .regularization import (
    RatioSpectrum,
    gradient_power,
    meet_discrepancy,
    minimise_gcv,
)

# Margin around the mask's bounding box, mm, over which the field of sources inside falls off.
MARGIN = 10.0


@dataclass(frozen=True)
class Inversion:
    """Result of an inversion.

    Attributes
    ----------
    chi : ndarray of float32, shape (x, y, z)
        Susceptibility, ppm, up to a constant; zero outside the mask.
    lambda_choice : LambdaChoice or None
        The regularisation parameter and how it was chosen; None if the inversion has none.
    iterations : int
        Iterations of the last solve; 0 for a closed form.
    residual : float
        Root mean square of the field's residual over voxels of the mask with weight, ppm.
    converged : bool
        Whether the last solve met its tolerance within the iterations allowed.
    """

    chi: np.ndarray
    lambda_choice: LambdaChoice | None
    iterations: int
    residual: float
    converged: bool = True


def regularised_power(kernel: np.ndarray, gradient: np.ndarray, lambda_value: float) -> np.ndarray:
    """Return the denominator of the closed form, M = D² + λ²|E|².

    At k = 0 both terms vanish and χ is undetermined; M is set to 1 there, so that the mean of χ
    over the grid is zero.

    Parameters
    ----------
    kernel, gradient : ndarray, shape (x, y, z // 2 + 1)
        D of `dipole_kernel` and |E|² of `gradient_power`, on the half spectrum.
    lambda_value : float
        λ, mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z // 2 + 1)
    """
    power = np.float32(lambda_value**2) * gradient
    power += kernel**2
    power[0, 0, 0] = 1
    return power


def working_grid(mask: np.ndarray, voxel_size: Vector) -> WorkingGrid:
    """Return the grid on which an inversion works: the mask's bounding box with a margin.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.

    Returns
    -------
    WorkingGrid

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    return WorkingGrid.around(mask, voxel_size, MARGIN)


class QuadraticProblem:
    """The field and the operators on the working grid, in the Fourier domain.

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
    """

    def __init__(
        self, field: np.ndarray, mask: np.ndarray, voxel_size: Vector, b0_dir: Vector
    ) -> None:
        check_grid(mask, field=field)
        self.mask = mask
        self.voxel_size = voxel_size
        self.field = field_in_mask(mask, field)
        self.grid = working_grid(mask, voxel_size)
        self.inside = self.grid.embed(mask)
        self.weight = self.inside.astype(np.float32)  # of the residuals that λ is chosen by
        self.kernel = dipole_kernel(self.grid.shape, voxel_size, b0_dir)
        self.gradient = gradient_power(self.grid.shape, voxel_size)
        self.data = fft.rfftn(self.grid.embed(self.field))

    @property
    def n_weighted(self) -> int:
        """Number of voxels of the mask whose weight is not zero."""
        return int(np.count_nonzero(self.weight[self.inside]))

    def regularised(self, lambda_value: float) -> np.ndarray:
        """Return `regularised_power` of this problem."""
        return regularised_power(self.kernel, self.gradient, lambda_value)

    def closed_form(self, lambda_value: float, data: np.ndarray) -> np.ndarray:
        """Return the spectrum of χ for the spectrum of a field that is valid on the whole grid."""
        return self.kernel / self.regularised(lambda_value) * data

    def solve(self, lambda_value: float) -> np.ndarray:
        """Return the spectrum of χ for a λ, accurately enough to judge λ."""
        return self.closed_form(lambda_value, self.data)

    def volume(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the volume of a spectrum, on the grid. The spectrum is overwritten."""
        return inverse_transform(spectrum, self.grid.shape)

    def explained(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the field of a spectrum of χ, as a vector over the voxels of the mask."""
        return self.volume(self.kernel * spectrum)[self.inside]

    def unexplained(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the residual of the field for a spectrum of χ, over the voxels of the mask."""
        return self.field[self.mask] - self.explained(spectrum)

    def mean_square(self, lambda_value: float) -> float:
        """Return the mean square of the weighted residual in the mask for a λ, ppm²."""
        residual = self.weight[self.inside] * self.unexplained(self.solve(lambda_value))
        return inner(residual, residual) / self.n_weighted

    def choose(
        self, lambda_value: float | None, lambda_rule: str, noise_variance: float | None
    ) -> LambdaChoice:
        """Choose λ: the one that the user has fixed, or else by a rule.

        Parameters
        ----------
        lambda_value : float or None
            Fixed λ, mm.
        lambda_rule : {"whitened", "gcv", "discrepancy"}
            Rule for λ if none is fixed.
        noise_variance : float or None
            Variance of the weighted field's noise, ppm²; for the discrepancy principle only.

        Returns
        -------
        LambdaChoice

        Raises
        ------
        ValueError
            See `fixed_lambda` and `checked_variance`.
        """
        if lambda_value is not None:
            return fixed_lambda(lambda_value)
        if lambda_rule == "whitened":
            return self.choose_by_whitened_gcv()
        if lambda_rule == "gcv":
            return self.choose_by_gcv()
        return self.choose_by_discrepancy(checked_variance(lambda_rule, noise_variance))

    def choose_by_gcv(self) -> LambdaChoice:
        """Choose λ by generalised cross-validation."""
        return minimise_gcv(self._spectrum().gcv, start=0.1, factor=1.1)

    def choose_by_whitened_gcv(self) -> LambdaChoice:
        """Choose the larger λ of two cross-validations of the closed form.

        One is of the field over its error's spectrum, the other of the field itself. The spectrum
        is measured away from the mask's surface, so that the first does not see that the field ends
        there; the second does, but takes smooth errors for susceptibility. Each is too small if it
        misses the larger error.
        """
        field = self.weight * self.grid.embed(self.field)
        weight = self.weight * self.inside
        error = ErrorSpectrum(field, weight, self.kernel, self.voxel_size)
        shape = self.grid.shape
        whitened = RatioSpectrum(error.whitened(field), self.kernel, self.gradient, shape[2])
        choices = []
        for spectrum in (self._spectrum(), whitened):
            choices.append(minimise_gcv(spectrum.gcv, start=0.1, factor=1.1))
        larger = max(choices, key=lambda choice: choice.value)
        return replace(larger, rule="whitened", error_amplitudes=error.amplitudes)

    def choose_by_discrepancy(self, noise_variance: float) -> LambdaChoice:
        """Choose the λ whose mean squared residual equals the error variance of the field.

        A residual of the GCV solution divided by its degrees of freedom estimates that variance,
        including errors that are not noise. The larger of this and the noise variance is used.
        """
        best = self.choose_by_gcv().value
        inferred = self.mean_square(best) / self.residual_dof_fraction(best)
        return meet_discrepancy(self.mean_square, max(noise_variance, inferred))

    def residual_dof_fraction(self, lambda_value: float) -> float:
        """Return the residual's fraction of the field's degrees of freedom."""
        return self._spectrum().residual_dof_fraction(lambda_value)

    def result(
        self,
        spectrum: np.ndarray,
        choice: LambdaChoice | None,
        iterations: int,
        converged: bool = True,
    ) -> Inversion:
        """Return the inversion for a spectrum of χ, which is overwritten."""
        residual = self.unexplained(spectrum)[self.weight[self.inside] > 0]
        rms = float(np.sqrt(np.mean(np.square(residual), dtype=np.float64)))
        chi = np.zeros(self.mask.shape, np.float32)
        chi[self.mask] = self.volume(spectrum)[self.inside]
        return Inversion(chi, choice, iterations, rms, converged)

    def _spectrum(self):
        power = (self.data.real**2 + self.data.imag**2) / float(np.prod(self.grid.shape))
        return RatioSpectrum(power, self.kernel, self.gradient, self.grid.shape[2])


def fixed_lambda(lambda_value: float) -> LambdaChoice:
    """Return the choice of a λ that the user has fixed.

    Parameters
    ----------
    lambda_value : float
        λ, mm.

    Returns
    -------
    LambdaChoice

    Raises
    ------
    ValueError
        If λ is not positive.
    """
    if not lambda_value > 0:
        raise ValueError(f"λ must be positive, got {lambda_value}")
    return LambdaChoice(float(lambda_value), "fixed")


def checked_variance(lambda_rule: str, noise_variance: float | None) -> float:
    """Return the noise variance for the discrepancy principle after checking it and the rule.

    Parameters
    ----------
    lambda_rule : str
        Rule for λ: ``discrepancy``, as all others have been dealt with.
    noise_variance : float or None
        In ppm².

    Returns
    -------
    float
        In ppm².

    Raises
    ------
    ValueError
        If the rule is unknown, or the noise variance missing or not positive.
    """
    if lambda_rule != "discrepancy":
        raise ValueError(
            f"unknown rule for λ {lambda_rule!r}: use 'whitened', 'gcv' or 'discrepancy'"
        )
    if noise_variance is None or not noise_variance > 0:
        raise ValueError(
            "the discrepancy principle needs a positive noise variance in ppm², got "
            f"{noise_variance}"
        )
    return noise_variance
