"""Regularisation of the inversions: gradients, the edge mask W_e and the rules for λ."""

from collections.abc import Callable

import numpy as np
from scipy import optimize, sparse

from ..dipole import frequencies
from ..grid import Vector, check_grid, neighbours
from ..robust import SD_PER_MEDIAN
from .error_spectrum import multiplicity
from .parameters import EDGE_SDS, JUMP_SDS, LambdaChoice


def gradient_power(shape: tuple[int, ...], voxel_size: Vector) -> np.ndarray:
    """Return the power |E|² = |Ex|² + |Ey|² + |Ez|² of the gradient's transfer function, in 1/mm².

    The gradient consists of forward differences, whose transfer function has the modulus 2/v
    |sin(π v k)|, v being the voxel size.

    Parameters
    ----------
    shape : tuple of 3 ints
        Shape of the volume.
    voxel_size : sequence of 3 floats
        Voxel size, mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z // 2 + 1)
        On the half spectrum of ``scipy.fft.rfftn``.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), eq. 3.
    """
    power = np.zeros((), np.float32)
    for k, size in zip(frequencies(shape, voxel_size), voxel_size, strict=True):
        power = power + ((2 / size * np.sin(np.pi * size * k)) ** 2).astype(np.float32)
    return power


def edge_mask(
    magnitude: np.ndarray, mask: np.ndarray, *, edge_fraction: float | None = None
) -> np.ndarray:
    """Find the edges of the magnitude: differences between neighbours that are not regularised.

    Each axis is treated separately, from the differences between neighbours that are both inside
    the mask. Most of these are noise, so that their median measures the noise, and differences that
    clearly exceed it are edges. The number of edges then adapts to the image: few if it is noisy,
    many if it is clear. A fixed fraction of the differences cannot adapt in this way.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z)
        Magnitude image, any unit.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    edge_fraction : float, optional
        Fraction of the differences, the steepest, that are edges, 0 to 1, as in MEDI. By default,
        an edge is a difference of more than two robust standard deviations (1.4826 times the median
        absolute difference).

    Returns
    -------
    ndarray of bool, shape (3, x, y, z)
        True where the difference between a voxel and the next along axis 0, 1 or 2 is an edge (W_e
        = 0).

    Raises
    ------
    ValueError
        If shapes differ, or `edge_fraction` is not between 0 and 1.

    References
    ----------
    Liu et al., NeuroImage 59:2560-2568 (2012), eq. 4; Black et al., IEEE Trans Image Process
    7:421-432 (1998), sec. V, for the robust scale.
    """
    check_grid(mask, magnitude=magnitude)
    if edge_fraction is None:
        return _steep_differences(magnitude, mask, lambda sizes: EDGE_SDS * _robust_sd(sizes))
    if not 0 <= edge_fraction <= 1:
        raise ValueError(f"the fraction of edges must lie between 0 and 1, got {edge_fraction}")
    return _steep_differences(magnitude, mask, lambda sizes: _quantile(sizes, 1 - edge_fraction))


def jump_mask(chi: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Find the outlines of strong sources: jumps of χ that are not regularised.

    The signal around a strong source is dephased, so that the magnitude shows its outline poorly,
    and `edge_mask` may miss it. The penalty is scaled to typical gradients, and would smear a much
    larger jump over all voxels whose data have little weight.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        A first map of susceptibility, any unit, such as that of the deterministic inversion.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.

    Returns
    -------
    ndarray of bool, shape (3, x, y, z)
        As of `edge_mask`: True where a difference exceeds thirty robust standard deviations of the
        differences along its axis.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    check_grid(mask, chi=chi)
    return _steep_differences(chi, mask, lambda sizes: JUMP_SDS * _robust_sd(sizes))


def _steep_differences(volume, mask, limit):
    """Find differences inside the mask that exceed a limit.

    `limit` computes it from the absolute differences along an axis.
    """
    is_steep = np.zeros((3, *mask.shape), bool)
    for axis in range(3):
        near, far = neighbours(axis)
        size = np.abs(np.diff(volume, axis=axis))
        inside = mask[near] & mask[far]
        is_steep[axis][near] = inside & (size > limit(size[inside]))
    return is_steep


def _robust_sd(sizes):
    """Return the SD of zero-mean normal differences from their absolute values."""
    return SD_PER_MEDIAN * _quantile(sizes, 0.5)


def edge_differences(edges: np.ndarray, voxel_size: Vector) -> sparse.csr_array:
    """Return the gradient across edges as a sparse matrix that acts on a flattened volume, 1/mm.

    Parameters
    ----------
    edges : ndarray of bool, shape (3, x, y, z)
        From `edge_mask`. Differences wrap around at the end of the volume, as the Fourier transform
        does.
    voxel_size : sequence of 3 floats
        Voxel size, mm.

    Returns
    -------
    scipy.sparse.csr_array of float32, shape (n_edges, x * y * z)
        Each row subtracts a voxel from the next along the axis, and divides by their distance.
    """
    shape = edges.shape[1:]
    strides = (shape[1] * shape[2], shape[2], 1)
    near = []
    far = []
    slopes = []
    for axis, size in enumerate(voxel_size):
        index = np.flatnonzero(edges[axis]).astype(np.int32)
        is_last = index // strides[axis] % shape[axis] == shape[axis] - 1
        wrap = np.int32(shape[axis] * strides[axis])
        near.append(index)
        far.append(index + strides[axis] - wrap * is_last)
        slopes.append(np.full(index.size, 1 / size, np.float32))
    slope = np.concatenate(slopes)
    n = slope.size
    values = np.stack([-slope, slope], axis=1).ravel()
    columns = np.stack([np.concatenate(near), np.concatenate(far)], axis=1).ravel()
    return sparse.csr_array(
        (values, columns, np.arange(0, 2 * n + 1, 2, dtype=np.int32)),
        shape=(n, int(np.prod(shape))),
    )


# mm. The closed form is practically an unregularised inverse below, and a constant above.
LAMBDA_RANGE = (1e-3, 1e1)


class RatioSpectrum:
    """Residual and degrees of freedom of the deterministic inversion for any λ, without solving it.

    The deterministic solution leaves the fraction λ²/(λ² + q) of each spatial frequency
    unexplained, which depends on the frequency only through q = D²/|E|². Two histograms over log q,
    one of the field's power and one of the number of frequencies, are therefore all that a rule for
    λ needs.

    Parameters
    ----------
    power : ndarray, shape (x, y, z // 2 + 1)
        Power spectrum of the field.
    kernel, gradient : ndarray, shape (x, y, z // 2 + 1)
        D and |E|² on the half spectrum.
    last_axis : int
        Length of the volume's last axis, which determines the multiplicity of the frequencies of
        the half spectrum.
    """

    def __init__(
        self, power: np.ndarray, kernel: np.ndarray, gradient: np.ndarray, last_axis: int
    ) -> None:
        q = kernel**2
        np.divide(q, gradient, out=q, where=gradient > 0)
        # Frequencies with q below 2^-30 are never explained, those above 2^30 always.
        low = -30
        high = 30
        per_octave = 8
        level = np.log2(q, out=np.full_like(q, low), where=q > 0)
        bins = np.rint((np.clip(level, low, high) - low) * per_octave).astype(np.int32)
        weight = multiplicity(last_axis)
        n_bins = (high - low) * per_octave + 1
        flat = bins.ravel()
        self._power = np.bincount(flat, (power * weight).ravel(), n_bins)
        self._count = np.bincount(flat, np.broadcast_to(weight, kernel.shape).ravel(), n_bins)
        self._q = 2.0 ** (low + np.arange(n_bins) / per_octave)

    def residual(self, lambda_value: float) -> float:
        """Return the sum over the spectrum of the squared residual."""
        return float(self._power @ self._unexplained(lambda_value) ** 2)

    def gcv(self, lambda_value: float) -> float:
        """Return the GCV score: the residual over its squared degrees of freedom."""
        return (
            self.residual(lambda_value) / float(self._count @ self._unexplained(lambda_value)) ** 2
        )

    def residual_dof_fraction(self, lambda_value: float) -> float:
        """Return the residual's fraction of all degrees of freedom."""
        return float(self._count @ self._unexplained(lambda_value)) / float(self._count.sum())

    def _unexplained(self, lambda_value):
        """Return the unexplained fraction of each bin's frequencies."""
        return lambda_value**2 / (lambda_value**2 + self._q)


def minimise_gcv(score: Callable[[float], float], start: float, *, factor: float) -> LambdaChoice:
    """Find the λ of least generalised cross-validation score.

    Walk downhill in steps of `factor` until the minimum is bracketed, then return the vertex of the
    parabola in log λ through the three lowest scores. The score is flat around its minimum, so no
    more accuracy is needed.

    Parameters
    ----------
    score : callable
        Computes the score of a λ.
    start : float
        First λ.
    factor : float
        Ratio of successive λ.

    Returns
    -------
    LambdaChoice

    References
    ----------
    Golub, Heath & Wahba, Technometrics 21:215-223 (1979), eq. 1.4.
    """
    scores: dict[int, float] = {}  # by step

    def at(step: int) -> float:
        if step not in scores:
            scores[step] = score(start * factor**step)
        return scores[step]

    step = 0 if at(0) < at(1) else 1
    direction = -1 if step == 0 else 1
    low, high = (np.log(np.array(LAMBDA_RANGE) / start) / np.log(factor)).tolist()
    while low < step + direction < high and at(step + direction) < at(step):
        step += direction
    at_bound = not low < step + direction < high
    vertex = 0.0  # relative to `step`
    if not at_bound:
        before = at(step - 1)
        least = at(step)
        after = at(step + 1)
        curvature = before - 2 * least + after
        vertex = (before - after) / (2 * curvature) if curvature > 0 else 0.0
    tried = []
    for tried_step, value in sorted(scores.items()):
        tried.append((start * factor**tried_step, float(value)))
    return LambdaChoice(start * factor ** (step + vertex), "gcv", at_bound, tuple(tried))


def meet_discrepancy(mean_square: Callable[[float], float], noise_variance: float) -> LambdaChoice:
    """Find the λ whose mean squared residual equals the expected noise variance.

    Parameters
    ----------
    mean_square : callable
        Computes the mean squared residual over the mask for a λ, ppm²; it increases with λ.
    noise_variance : float
        Expected variance of the field, ppm².

    Returns
    -------
    LambdaChoice

    References
    ----------
    Morozov, Soviet Math Dokl 7:414-417 (1966); Lin et al., AJNR 36:467-474 (2015).
    """
    residuals: dict[float, float] = {}  # by λ

    def excess(log_lambda: float) -> float:
        lambda_value = np.exp(log_lambda)
        residual = float(mean_square(lambda_value))
        residuals[float(lambda_value)] = residual
        return np.log(residual / noise_variance)

    def choice(log_lambda: float, at_bound: bool) -> LambdaChoice:
        return LambdaChoice(
            float(np.exp(log_lambda)), "discrepancy", at_bound, tuple(sorted(residuals.items()))
        )

    octave = np.log(2)
    lowest, highest = np.log(LAMBDA_RANGE)
    log_lambda = np.log(0.3)  # the solution for most scans lies within an octave or two
    first_excess = excess(log_lambda)
    direction = -1 if first_excess > 0 else 1
    while lowest < log_lambda + direction * octave < highest:
        previous = log_lambda
        log_lambda = log_lambda + direction * octave
        if excess(log_lambda) * first_excess <= 0:
            bracket = sorted((previous, log_lambda))
            return choice(optimize.brentq(excess, *bracket, xtol=0.02), at_bound=False)
    return choice(log_lambda, at_bound=True)


def _quantile(values, fraction):
    """Return the order statistic at a fraction of the values; infinity if there are none.

    A partial sort is faster than the interpolation of ``numpy.quantile``.
    """
    if not values.size:
        return np.inf
    rank = round(fraction * (values.size - 1))
    return np.partition(values, rank)[rank]
