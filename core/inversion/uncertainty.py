"""Standard error of susceptibility, propagated from that of the field.

The deterministic inversion is a convolution, χ = a ∗ b with a = F⁻¹[D/M]. Noise with standard
errors σ that is independent between voxels therefore gives χ the variance a² ∗ σ², exactly and at
the cost of one convolution. The same holds for the mean of a region, including all correlations
between its voxels: a is even, so that weights r give Σ_j σ_j² (a ∗ r)_j². For other inversions, the
variance is estimated from their response to random noise.

All standard errors are for a fixed λ, mask and edges, and for the noise of the field alone. They
include neither the bias of regularisation nor errors of background field removal.
"""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from scipy import fft, ndimage

from ..dipole import convolve, dipole_kernel
from ..grid import Vector
from ..holes import interpolate_unmeasured
from ..phase.fieldfit import noise_weight
from .problem import regularised_power, working_grid
from .regularization import gradient_power

# SD in voxels of the Gaussian that smooths estimated variances. It reduces their error as much as
# twice the draws would, and preserves edges.
SMOOTHING_SD = 0.5


def susceptibility_standard_error(
    standard_error: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    lambda_value: float,
    b0_dir: Vector = (0, 0, 1),
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Return the standard error of each voxel of the deterministic inversion for a given λ.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, ppm; errors are assumed to be independent between voxels. Where
        it is infinite, the field is not measured but interpolated from its surroundings, and so is
        the standard error (`holes.interpolate_unmeasured`).
    mask : ndarray of bool, shape (x, y, z)
        Where the field was inverted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    lambda_value : float
        λ of the inversion, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    reference : ndarray, shape (x, y, z), optional
        Weights (or a mask) of the region whose mean susceptibility is zero. By default, the mean
        over the inversion's padded grid is zero.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        Standard error of susceptibility, ppm, zero outside the mask.

    Raises
    ------
    ValueError
        If the mask is empty, a standard error inside it negative or NaN, or none finite, or if the
        reference has no weight in the mask.
    """
    operator = _ClosedForm(mask, voxel_size, b0_dir, lambda_value)
    sigma = _interpolated_errors(standard_error, mask, voxel_size).astype(np.float64)
    variance = operator.grid.embed(sigma**2)
    result = convolve(operator.squared(), variance)
    if reference is not None:
        # Var(χ - χ_R) = Var(χ) - 2 Cov(χ, χ_R) + Var(χ_R)
        weights = operator.transposed(_mean_weights(reference, mask))
        covariance = convolve(operator.spectrum, variance * weights)
        result -= 2 * covariance - np.sum(variance * weights**2)
    # Rounding may leave a variance of zero slightly negative.
    error = operator.grid.extract(np.sqrt(np.maximum(result, 0)))
    return np.where(mask, error, 0).astype(np.float32)


def region_standard_errors(
    standard_error: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    regions: Iterable[np.ndarray],
    *,
    lambda_value: float,
    b0_dir: Vector = (0, 0, 1),
    reference: np.ndarray | None = None,
    scale: np.ndarray | None = None,
) -> np.ndarray:
    """Return standard errors of regions' mean susceptibilities, with correlations between voxels.

    Parameters
    ----------
    standard_error, mask, voxel_size, lambda_value, b0_dir, reference
        As of `susceptibility_standard_error`.
    regions : iterable of ndarray, shape (x, y, z)
        Weights (or a mask) of each region. Voxels outside the mask are ignored.
    scale : ndarray, shape (x, y, z), optional
        For inversions other than the deterministic one: the standard error of their map over that
        of `susceptibility_standard_error`. Their noise is then approximated by that of the closed
        form, multiplied by this in each voxel.

    Returns
    -------
    ndarray, shape (n,)
        In ppm; NaN for a region without weight in the mask.

    Raises
    ------
    ValueError
        As `susceptibility_standard_error`.
    """
    operator = _ClosedForm(mask, voxel_size, b0_dir, lambda_value)
    sigma = operator.grid.embed(_interpolated_errors(standard_error, mask, voxel_size))
    reference_weights = 0 if reference is None else _mean_weights(reference, mask)
    errors = []
    for region in regions:
        if not np.any(region[mask]):
            errors.append(np.nan)
            continue
        weights = _mean_weights(region, mask) - reference_weights
        response = sigma * operator.transposed(weights if scale is None else weights * scale)
        errors.append(np.sqrt(np.sum(np.square(response), dtype=np.float64)))
    return np.array(errors, float)


def monte_carlo_standard_error(
    respond: Callable[[np.ndarray], np.ndarray],
    standard_error: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    gaussian: bool = False,
    draws: int = 16,
    seed: int = 0,
) -> np.ndarray:
    """Return the standard error of each voxel of any inversion, from its response to random noise.

    For a linear inversion, the noise is plus or minus the standard error: this has the required
    variance, and its sample variance scatters less than that of Gaussian noise. The response of a
    nonlinear inversion depends on the distribution: with such noise, MEDI's standard error would be
    a fifth too large.

    The variance of the responses is smoothed over each voxel and its neighbours by a geometric
    mean. Next to a free edge the variance may be several times that of the surroundings, and would
    dominate an arithmetic mean.

    Parameters
    ----------
    respond : callable
        Computes the change of susceptibility, ppm, caused by noise of the field, ppm, which is an
        ndarray of float32 of shape (x, y, z), zero outside the mask. For a linear inversion this is
        the inversion itself.
    standard_error, mask, voxel_size
        As of `susceptibility_standard_error`.
    gaussian : bool
        Whether the noise is Gaussian, as it should be for a nonlinear inversion.
    draws : int
        Number of responses. The relative error of a standard error from n responses is 1/√(2n), and
        less after smoothing.
    seed : int
        Seed of the noise.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        Standard error of susceptibility relative to its mean over the mask, ppm, zero outside the
        mask.

    Raises
    ------
    ValueError
        As `susceptibility_standard_error`, or if `draws` is less than 1.

    References
    ----------
    Hutchinson, Commun Stat Simul Comput 19:433-450 (1990), for noise of plus or minus one.
    """
    if draws < 1:
        raise ValueError(f"the noise must be drawn at least once, got {draws} draws")
    sigma = _interpolated_errors(standard_error, mask, voxel_size)
    rng = np.random.default_rng(seed)
    draw = (
        partial(rng.standard_normal, dtype=np.float32)
        if gaussian
        else partial(rng.choice, np.array([-1, 1], np.float32))
    )
    variance = np.zeros(mask.shape, np.float32)
    for _ in range(draws):
        noise = sigma.copy()
        noise[mask] *= draw(int(mask.sum()))
        change = respond(noise)[mask]
        variance[mask] += np.square(change - change.mean(dtype=np.float64)) / draws
    level = np.log(variance, out=np.zeros_like(variance), where=variance > 0)
    level = ndimage.gaussian_filter(level, SMOOTHING_SD)
    # Normalise by the part of the Gaussian that lies inside the mask.
    inside = ndimage.gaussian_filter(mask.astype(np.float32), SMOOTHING_SD)
    return np.where(mask, np.exp(0.5 * level / np.maximum(inside, 1e-6)), np.float32(0))


def weighted_standard_error(
    standard_error: np.ndarray, mask: np.ndarray, smallest: float = 0.0
) -> np.ndarray:
    """Return the standard error of the weighted field, W²σ, for an inversion with data weighting.

    The inversion works on W² times the field, with W of `fieldfit.noise_weight`.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Where the field was inverted.
    smallest : float
        As of `fieldfit.noise_weight`.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        In ppm; zero where the weight is zero.

    Raises
    ------
    ValueError
        As `fieldfit.noise_weight`.

    Examples
    --------
    >>> sigma = np.array([[[1.0, 2.0, 4.0, np.inf]]])
    >>> weighted_standard_error(sigma, sigma > 0).tolist()
    [[[1.0, 2.0, 1.0, 0.0]]]
    """
    weight = noise_weight(standard_error, mask, smallest)
    return (weight**2 * np.where(weight > 0, standard_error, 0)).astype(np.float32)


class _ClosedForm:
    """The deterministic inversion for one λ as a linear operator on its working grid."""

    def __init__(self, mask, voxel_size, b0_dir, lambda_value):
        self.grid = working_grid(mask, voxel_size)
        kernel = dipole_kernel(self.grid.shape, voxel_size, b0_dir)
        self.spectrum = kernel / regularised_power(
            kernel, gradient_power(self.grid.shape, voxel_size), lambda_value
        )

    def squared(self):
        """Return the spectrum of a² in double precision.

        Variances differ by many powers of ten between voxels, and the rounding error of a
        convolution is relative to the largest.
        """
        impulse = np.zeros(self.grid.shape, np.float64)
        impulse[0, 0, 0] = 1
        return fft.rfftn(convolve(self.spectrum, impulse) ** 2)

    def transposed(self, weights):
        """Return the weights of the field, on the grid, in a weighted sum of χ: a ∗ r."""
        return convolve(self.spectrum, self.grid.embed(weights.astype(np.float32)))


def _interpolated_errors(standard_error, mask, voxel_size):
    """Return standard errors in the mask, interpolated where they are infinite; zero outside."""
    inside = standard_error[mask]
    if not (inside >= 0).all():
        raise ValueError("standard errors inside the mask must not be negative or not-a-number")
    measured = np.isfinite(standard_error)
    if not (measured & mask).any():
        raise ValueError(
            "the standard error is infinite in all of the mask: no voxel has any signal. Check the "
            "images, and the mask"
        )
    return interpolate_unmeasured(standard_error, measured, mask, voxel_size)


def _mean_weights(region, mask):
    """Return the weights of voxels in a region's mean over the mask; they sum to 1."""
    weights = np.where(mask, region, 0).astype(np.float32)
    total = weights.sum(dtype=np.float64)
    if not total > 0:
        raise ValueError(
            "the reference region has no voxel inside the mask: check that both are of this scan"
        )
    return weights / np.float32(total)
