"""Quadratic inversions in the Fourier domain: what the deterministic and the iterative one
share.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from ..dipole import dipole_kernel, inverse_transform
from ..grid import WorkingGrid, field_in_mask
from ..linear_systems import inner
from .regularization import (
    LambdaChoice,
    RatioSpectrum,
    gradient_power,
    meet_discrepancy,
    minimise_gcv,
)

# Room around the mask's bounding box, mm: the field of what is inside has fallen off by then.
MARGIN = 10.0


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


def regularised_power(kernel, gradient, lam):
    """The closed form's denominator M = D² + λ²|E|², with 1 at k = 0, where both vanish and χ is
    undetermined.

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


class QuadraticProblem:
    """The field and the operators on the working grid, in the Fourier domain."""

    def __init__(self, field, mask, voxel_size, b0_dir):
        self.mask = mask
        self.field = field_in_mask(mask, field)
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
        """`regularised_power` of this problem."""
        return regularised_power(self.kernel, self.gradient, lam)

    def closed_form(self, lam, data):
        """Spectrum of χ that explains a field's spectrum, were the field known everywhere."""
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
        """The inversion whose χ has this spectrum; uses up the spectrum."""
        left = self.unexplained(spectrum)[self.weight[self.inside] > 0]
        residual = float(np.sqrt(np.mean(np.square(left), dtype=np.float64)))
        chi = np.zeros(self.mask.shape, np.float32)
        chi[self.mask] = self.volume(spectrum)[self.inside]
        return Inversion(chi, choice, iterations, residual)

    def _spectrum(self):
        power = (self.data.real**2 + self.data.imag**2) / float(np.prod(self.grid.shape))
        return RatioSpectrum(power, self.kernel, self.gradient, self.grid.shape[2])


def fixed_lambda(lam):
    """A λ that the user has chosen; a ValueError if it is not positive."""
    if not lam > 0:
        raise ValueError(f"λ must be positive, got {lam}")
    return LambdaChoice(float(lam), "fixed")


def checked_variance(rule, noise_variance):
    """The noise variance in ppm² that the discrepancy principle meets; a ValueError if the rule is
    another.
    """
    if rule != "discrepancy":
        raise ValueError(f"unknown rule for λ {rule!r}: use 'gcv' or 'discrepancy'")
    if noise_variance is None or not noise_variance > 0:
        raise ValueError(
            "the discrepancy principle needs a positive noise variance in ppm², got "
            f"{noise_variance}"
        )
    return noise_variance
