"""Standard error of susceptibility from that of the field.

The deterministic inversion is a convolution, χ = a ∗ b with a = F⁻¹[D/M]. Noise that is independent
from voxel to voxel, with standard errors σ, therefore leaves in χ the variance a² ∗ σ²: exact, at
the price of one convolution. The same holds for a region's mean, with all correlation between its
voxels: a is even, so that weights r give Σ_j σ_j² (a ∗ r)_j². For other inversions the variance is
estimated from their response to random noise.

All of it is for a given λ, mask and edges, and for the noise of the field alone: not for what the
inversion loses to regularisation, nor for errors of the background field.
"""

from functools import partial

import numpy as np
from scipy import fft, ndimage

from ..dipole import convolve, dipole_kernel
from ..grid import WorkingGrid
from ..holes import interpolate_unmeasured
from ..phase.fieldfit import noise_weight
from .problem import MARGIN, regularised_power
from .regularization import gradient_power

# SD in voxels of the Gaussian that averages estimated variances: as good as twice the draws, and
# edges are kept.
AVERAGED = 0.5


def susceptibility_standard_error(
    standard_error, mask, voxel_size, *, lam, b0_dir=(0, 0, 1), reference=None
):
    """Standard error of each voxel of `inversion.closed_form.deterministic` at a given λ.

    Parameters
    ----------
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, ppm, its errors being independent. Where it is infinite the
        field is not known but continued from around, and so are standard errors
        (`holes.interpolate_unmeasured`).
    mask : ndarray of bool, shape (x, y, z)
        Where the field was inverted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    lam : float
        λ of the inversion, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    reference : ndarray, shape (x, y, z), optional
        Weights (or a mask) of the region whose mean susceptibility is zero. Without it the mean
        over the inversion's padded grid is.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        Standard error of susceptibility, ppm, zero outside the mask.

    Raises
    ------
    ValueError
        If the mask is empty, a standard error inside it negative or not a number, or none finite,
        or if the reference has no weight in the mask.
    """
    operator = _ClosedForm(mask, voxel_size, b0_dir, lam)
    variance = operator.grid.embed(
        _continued(standard_error, mask, voxel_size).astype(np.float64) ** 2
    )
    result = convolve(operator.squared(), variance)
    if reference is not None:
        # Var(χ - χ_R) = Var(χ) - 2 Cov(χ, χ_R) + Var(χ_R)
        weights = operator.transposed(_shares(reference, mask))
        result -= 2 * convolve(operator.spectrum, variance * weights) - np.sum(
            variance * weights**2
        )
    return np.where(mask, operator.grid.extract(np.sqrt(np.maximum(result, 0))), 0).astype(
        np.float32
    )


def region_standard_errors(
    standard_error, mask, voxel_size, regions, *, lam, b0_dir=(0, 0, 1), reference=None, scale=None
):
    """Standard error of regions' means of susceptibility, correlation between voxels included.

    Parameters
    ----------
    standard_error, mask, voxel_size, lam, b0_dir, reference
        As of `susceptibility_standard_error`.
    regions : iterable of ndarray, shape (x, y, z)
        Weights (or a mask) of each region; what lies outside the mask does not count.
    scale : ndarray, shape (x, y, z), optional
        For another inversion than the deterministic: standard error of its map over that of
        `susceptibility_standard_error`. Its noise is then taken to be the closed form's, times
        this.

    Returns
    -------
    ndarray, shape (n,)
        In ppm; not a number for a region without weight in the mask.

    Raises
    ------
    ValueError
        As `susceptibility_standard_error`.
    """
    operator = _ClosedForm(mask, voxel_size, b0_dir, lam)
    sigma = operator.grid.embed(_continued(standard_error, mask, voxel_size))
    zero = 0 if reference is None else _shares(reference, mask)
    found = []
    for region in regions:
        if not np.any(region[mask]):
            found.append(np.nan)
            continue
        weights = _shares(region, mask) - zero
        response = sigma * operator.transposed(weights if scale is None else weights * scale)
        found.append(np.sqrt(np.sum(np.square(response), dtype=np.float64)))
    return np.array(found, float)


def monte_carlo_standard_error(
    respond, standard_error, mask, voxel_size, *, gaussian=False, draws=16, seed=0
):
    """Standard error of each voxel of any inversion, from its response to random noise.

    For an inversion that is linear the noise is plus or minus the standard error, which has its
    variance and lets chance do less than a Gaussian. Another one tells them apart: MEDI's spread
    comes out a fifth too large. The variance of the responses is averaged over each voxel and its
    next neighbours, geometrically: next to a free edge it may be several times what it is
    elsewhere, and should not spread.

    Parameters
    ----------
    respond : callable
        Gives for noise of the field, ppm, ndarray of float32 of shape (x, y, z), zero outside the
        mask, what it changes of susceptibility, ppm. Of a linear inversion this is the inversion
        itself.
    standard_error, mask, voxel_size
        As of `susceptibility_standard_error`.
    gaussian : bool
        Whether the noise is Gaussian; give it for an inversion that is not linear.
    draws : int
        How many responses. A standard error from n of them is off by 1/√(2n) of itself, and less
        once averaged.
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
        As `susceptibility_standard_error`, or if there is to be no draw.

    References
    ----------
    Hutchinson, Commun Stat Simul Comput 19:433-450 (1990), for noise of plus or minus one.
    """
    if draws < 1:
        raise ValueError(f"the noise must be drawn at least once, got {draws} draws")
    sigma = _continued(standard_error, mask, voxel_size)
    rng = np.random.default_rng(seed)
    draw = (
        partial(rng.standard_normal, dtype=np.float32)
        if gaussian
        else partial(rng.choice, np.float32([-1, 1]))
    )
    variance = np.zeros(mask.shape, np.float32)
    for _ in range(draws):
        noise = sigma.copy()
        noise[mask] *= draw(int(mask.sum()))
        change = respond(noise)[mask]
        variance[mask] += np.square(change - change.mean(dtype=np.float64)) / draws
    level = np.log(variance, out=np.zeros_like(variance), where=variance > 0)
    level, share = (ndimage.gaussian_filter(v, AVERAGED) for v in (level, mask.astype(np.float32)))
    return np.where(mask, np.exp(0.5 * level / np.maximum(share, 1e-6)), np.float32(0))


def weighted_standard_error(standard_error, mask, smallest=0.0):
    """Noise that enters an inversion weighted by `fieldfit.noise_weight`: W²σ, since it works on W²
    times the field.

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
        In ppm; zero where the weight is.

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
    """The deterministic inversion at one λ as a linear operator on its working grid."""

    def __init__(self, mask, voxel_size, b0_dir, lam):
        self.grid = WorkingGrid.around(mask, voxel_size, MARGIN)
        kernel = dipole_kernel(self.grid.shape, voxel_size, b0_dir)
        self.spectrum = kernel / regularised_power(
            kernel, gradient_power(self.grid.shape, voxel_size), lam
        )

    def squared(self):
        """Spectrum of a², in double precision, as its convolution must be: variances differ by many
        powers of ten.
        """
        impulse = np.zeros(self.grid.shape, np.float64)
        impulse[0, 0, 0] = 1
        return fft.rfftn(convolve(self.spectrum, impulse) ** 2)

    def transposed(self, weights):
        """How much each voxel's field counts in a weighted sum of χ; on the grid."""
        return convolve(self.spectrum, self.grid.embed(weights.astype(np.float32)))


def _continued(standard_error, mask, voxel_size):
    """Standard errors inside the mask, zero outside; where they are infinite, those of the
    continued field.
    """
    inside = standard_error[mask]
    if not (inside >= 0).all():
        raise ValueError("standard errors inside the mask must not be negative or not-a-number")
    known = np.isfinite(standard_error)
    if not (known & mask).any():
        raise ValueError("no voxel of the mask has any signal: its field is unknown everywhere")
    return interpolate_unmeasured(standard_error, known, mask, voxel_size)


def _shares(region, mask):
    """Weights of a region's mean over its part of the mask."""
    weights = np.where(mask, region, 0).astype(np.float32)
    total = weights.sum(dtype=np.float64)
    if not total > 0:
        raise ValueError("the reference region has no voxel inside the mask")
    return weights / np.float32(total)
