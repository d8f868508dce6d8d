"""How much to regularise, and where: gradients, the edge mask W_e and the rules for λ."""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse

from ..dipole import frequencies
from ..grid import neighbours
from ..robust import SD_PER_MEDIAN

# An edge of the magnitude exceeds so many standard deviations of its differences. A noisy phantom
# hardly minds from 1.5 to 5; a head's squared-gradient map is best with more edges (1.5), its
# nuclei with 2.
EDGE_SDS = 2.0

# A jump of a first map exceeds so many standard deviations of its differences where a haemorrhage
# or a calcification begins; tissue reaches about 10. With 20 to 40, heads with both lose no
# accuracy, and heads without do not change.
JUMP_SDS = 30.0


def gradient_power(shape, voxel_size):
    """Power |E|² = |Ex|² + |Ey|² + |Ez|² of the forward difference's transfer function, 1/mm².

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
    Lin et al., AJNR 36:1644 (2015), eq. 3.
    """
    k = frequencies(shape, voxel_size)
    return sum(
        ((2 / v * np.sin(np.pi * v * ki)) ** 2).astype(np.float32)
        for ki, v in zip(k, voxel_size, strict=True)
    )


def edge_mask(magnitude, mask, *, fraction=None):
    """Find where the magnitude has an edge: the differences that regularisation must leave alone.

    Each axis on its own, from the differences between neighbours that are both inside the mask.
    Most of these are noise, so their median tells how large noise is, and what exceeds it clearly
    is an edge. A noisy image has few edges then and a clear one many, which a fixed fraction of
    them cannot know.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z)
        Magnitude image, any unit.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    fraction : float, optional
        Fraction of the differences that are edges, the steepest, 0 to 1, as MEDI has it. Without
        it, an edge is a difference of more than two robust standard deviations (1.4826 times the
        median of their sizes).

    Returns
    -------
    ndarray of bool, shape (3, x, y, z)
        True where the difference between a voxel and the next along axis 0, 1 or 2 is an edge (W_e
        = 0).

    Raises
    ------
    ValueError
        If `fraction` is not between 0 and 1.

    References
    ----------
    Liu et al., NeuroImage 59:2560-2568 (2012), eq. 4; Black et al., IEEE Trans Image Process
    7:421-432 (1998), sec. V, for the robust scale.
    """
    if fraction is not None and not 0 <= fraction <= 1:
        raise ValueError(f"the fraction of edges must lie between 0 and 1, got {fraction}")
    if fraction is None:
        return _steep_differences(magnitude, mask, lambda slopes: EDGE_SDS * _robust_sd(slopes))
    return _steep_differences(magnitude, mask, lambda slopes: _quantile(slopes, 1 - fraction))


def jump_mask(chi, mask):
    """Find the jumps that no penalty of gradients should flatten: where a strong source begins.

    The surroundings of a strong source are dephased, so that the magnitude tells of its outline
    badly. The penalty is in proportion to the usual gradient, and a jump far beyond would be
    smeared over all voxels whose data have little weight.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        A first map of susceptibility, any unit, such as the deterministic inversion's.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.

    Returns
    -------
    ndarray of bool, shape (3, x, y, z)
        As of `edge_mask`: True where a difference exceeds thirty robust standard deviations of its
        axis'.
    """
    return _steep_differences(chi, mask, lambda slopes: JUMP_SDS * _robust_sd(slopes))


def _steep_differences(volume, mask, limit):
    """Differences inside the mask whose size exceeds a limit, which a function takes from all sizes
    along an axis.
    """
    steep = np.zeros((3, *mask.shape), bool)
    for axis in range(3):
        near, far = neighbours(axis)
        slope = np.abs(np.diff(volume, axis=axis))
        inside = mask[near] & mask[far]
        steep[axis][near] = inside & (slope > limit(slope[inside]))
    return steep


def _robust_sd(sizes):
    """Standard deviation of normally distributed differences with this median size."""
    return SD_PER_MEDIAN * _quantile(sizes, 0.5)


def edge_differences(edges, voxel_size):
    """Gradient restricted to the edges, as a sparse matrix acting on a flattened volume, 1/mm.

    Parameters
    ----------
    edges : ndarray of bool, shape (3, x, y, z)
        From `edge_mask`; differences wrap around at the volume's end as the Fourier transform does.
    voxel_size : sequence of 3 floats
        Voxel size, mm.

    Returns
    -------
    scipy.sparse.csr_array of float32, shape (n_edges, x * y * z)
    """
    shape = edges.shape[1:]
    here = [np.flatnonzero(e).astype(np.int32) for e in edges]
    there = []
    for h, size, stride in zip(here, shape, (shape[1] * shape[2], shape[2], 1), strict=True):
        last = h // stride % size == size - 1
        there.append(h + stride - np.int32(size * stride) * last)
    n = sum(h.size for h in here)
    slopes = np.concatenate(
        [np.full(h.size, 1 / v, np.float32) for h, v in zip(here, voxel_size, strict=True)]
    )
    values = np.stack([-slopes, slopes], axis=1).ravel()
    columns = np.stack([np.concatenate(here), np.concatenate(there)], axis=1).ravel()
    return sparse.csr_array(
        (values, columns, np.arange(0, 2 * n + 1, 2, dtype=np.int32)),
        shape=(n, int(np.prod(shape))),
    )


# Beyond these the closed form is an unregularised inverse or a constant.
LAMBDA_RANGE = (1e-3, 1e1)


@dataclass(frozen=True)
class LambdaChoice:
    """A regularisation parameter and where it came from.

    Attributes
    ----------
    value : float
        λ, in mm (it multiplies a gradient per mm).
    rule : str
        ``gcv``, ``discrepancy`` or ``fixed``.
    at_bound : bool
        The rule wanted to leave the range of sensible values; λ is the range's end.
    tried : tuple of (float, float)
        Every λ tried and the rule's figure for it: the GCV score, or the mean squared residual in
        ppm².
    """

    value: float
    rule: str
    at_bound: bool = False
    tried: tuple[tuple[float, float], ...] = ()


class RatioSpectrum:
    """Residual and degrees of freedom of the deterministic inversion for every λ, at the cost of
    none.

    The deterministic solution leaves the share λ²/(λ² + q) of each spatial frequency unexplained,
    and that share depends on the frequency through q = D²/|E|² alone. So a histogram over log q,
    once of the field's power and once of the number of frequencies, is all that a rule for λ needs.

    Parameters
    ----------
    power : ndarray, shape (x, y, z // 2 + 1)
        Power spectrum of the field.
    kernel, gradient : ndarray, shape (x, y, z // 2 + 1)
        D and |E|² on the half spectrum.
    last_axis : int
        Length of the volume's last axis, which says how often a frequency of the half spectrum
        counts.
    """

    def __init__(self, power, kernel, gradient, last_axis):
        q = kernel**2
        np.divide(q, gradient, out=q, where=gradient > 0)
        # q below 2^-30 is never explained, above 2^30 always
        low = -30
        high = 30
        per_octave = 8
        level = np.log2(q, out=np.full_like(q, low), where=q > 0)
        bins = np.rint((np.clip(level, low, high) - low) * per_octave).astype(np.int32)
        multiplicity = np.full(kernel.shape[2], 2, np.float32)
        multiplicity[0] = 1
        if last_axis % 2 == 0:
            multiplicity[-1] = 1
        n_bins = (high - low) * per_octave + 1
        flat = bins.ravel()
        self._power = np.bincount(flat, (power * multiplicity).ravel(), n_bins)
        self._count = np.bincount(flat, np.broadcast_to(multiplicity, kernel.shape).ravel(), n_bins)
        self._q = 2.0 ** (low + np.arange(n_bins) / per_octave)

    def residual(self, lam):
        """Sum over the spectrum of the squared residual."""
        return float(self._power @ self._unexplained(lam) ** 2)

    def gcv(self, lam):
        """Generalised cross-validation score: residual over squared residual degrees of freedom."""
        return self.residual(lam) / float(self._count @ self._unexplained(lam)) ** 2

    def freedom(self, lam):
        """Share of all degrees of freedom that are left to the residual."""
        return float(self._count @ self._unexplained(lam)) / float(self._count.sum())

    def _unexplained(self, lam):
        return lam**2 / (lam**2 + self._q)


def minimise_gcv(score, start, *, factor):
    """Find the λ of least generalised cross-validation score.

    Walks downhill in steps of `factor` until the minimum is bracketed, then takes the vertex of the
    parabola through the lowest three in log λ. The score is flat around its minimum, so this is as
    close as it needs.

    Parameters
    ----------
    score : callable
        Score of a λ.
    start : float
        Where to begin.
    factor : float
        Ratio of successive λ.

    Returns
    -------
    LambdaChoice

    References
    ----------
    Golub, Heath & Wahba, Technometrics 21:215-223 (1979), eq. 1.4.
    """
    tried = {}

    def at(step):
        if step not in tried:
            tried[step] = score(start * factor**step)
        return tried[step]

    step = 0 if at(0) < at(1) else 1
    direction = -1 if step == 0 else 1
    low, high = (np.log(np.array(LAMBDA_RANGE) / start) / np.log(factor)).tolist()
    while low < step + direction < high and at(step + direction) < at(step):
        step += direction
    at_bound = not low < step + direction < high
    vertex = 0.0
    if not at_bound:
        before = at(step - 1)
        here = at(step)
        after = at(step + 1)
        bend = before - 2 * here + after
        vertex = (before - after) / (2 * bend) if bend > 0 else 0.0
    figures = tuple((start * factor**s, float(v)) for s, v in sorted(tried.items()))
    return LambdaChoice(start * factor ** (step + vertex), "gcv", at_bound, figures)


def meet_discrepancy(mean_square, noise_variance):
    """Find the λ whose mean squared residual equals the expected noise variance.

    Parameters
    ----------
    mean_square : callable
        Mean squared residual over the mask of a λ, ppm²; grows with λ.
    noise_variance : float
        Expected variance of the field, ppm².

    Returns
    -------
    LambdaChoice

    References
    ----------
    Morozov, Soviet Math Dokl 7:414-417 (1966); Lin et al., AJNR 36:1644 (2015).
    """
    tried = {}

    def excess(log_lam):
        tried[float(np.exp(log_lam))] = value = float(mean_square(np.exp(log_lam)))
        return np.log(value / noise_variance)

    octave = np.log(2)
    (lowest, highest) = np.log(LAMBDA_RANGE)
    here = np.log(0.3)  # most scans end within an octave or two of this
    missing = excess(here)
    direction = -1 if missing > 0 else 1
    while lowest < here + direction * octave < highest:
        previous = here
        here = here + direction * octave
        if excess(here) * missing <= 0:
            root = optimize.brentq(excess, *sorted((previous, here)), xtol=0.02)
            return LambdaChoice(
                float(np.exp(root)), "discrepancy", False, tuple(sorted(tried.items()))
            )
    return LambdaChoice(float(np.exp(here)), "discrepancy", True, tuple(sorted(tried.items())))


def _quantile(values, share):
    """The order statistic at a share of the values; infinite where there are none. Faster than
    interpolation.
    """
    if not values.size:
        return np.inf
    rank = round(share * (values.size - 1))
    return np.partition(values, rank)[rank]
