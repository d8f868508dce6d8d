"""Where one image lies in another of a different contrast: rigid and affine registration by mutual
information.

See `transforms` for the direction of the transforms.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from .least_squares import solve_weighted, tukey_weight, value_or_error
from .multiscale import (
    NoOverlapError,
    affine_start,
    centred_start,
    check_images,
    check_overlap,
    polynomials,
    pyramid,
    sampled_voxels,
    slopes_of,
    within,
)
from .transforms import about, displacement

_ROUNDS = 5  # of shading and similarity at a level


@dataclass(frozen=True)
class NmiFit:
    """Result of `register_rigid_nmi` and `register_affine_nmi`.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        From the fixed image's world to the moving one's, mm.
    n_evaluations : int
        How often the similarity was computed, over all levels.
    nmi : float
        Normalised mutual information at the finest level, from 1 (independent) to 2.
    overlap : float
        Share of the mask that lies within the moving image.
    """

    matrix: np.ndarray
    n_evaluations: int
    nmi: float
    overlap: float


def register_rigid_nmi(
    moving, moving_affine, fixed, fixed_affine, *, fixed_mask, start=None, **options
):
    """Find the rigid transform between two images of different contrast, such as FLAIR and gradient
    echo.

    Parameters, result and errors are those of `register_affine_nmi`, without `degrees_of_freedom`.
    """
    fitted = (moving, moving_affine, fixed, fixed_affine)
    return register_affine_nmi(
        *fitted, fixed_mask=fixed_mask, start=start, degrees_of_freedom=6, **options
    )


def register_affine_nmi(
    moving,
    moving_affine,
    fixed,
    fixed_affine,
    *,
    fixed_mask,
    start=None,
    degrees_of_freedom=12,
    fwhm=(12.0, 6.0, 3.0),
    bins=32,
    bias_degree=2,
    seed=0,
    min_nmi=1.01,
):
    """Find the affine transform that makes two images of different contrast explain one another
    best.

    Maximises the normalised mutual information (H(f) + H(m)) / H(f, m) of the fixed image's values
    in its mask and the moving image's where the transform takes them, both smoothed by the same
    Gaussian. Entropies are those of a joint histogram with Parzen windows (linear in f, cubic
    B-spline in m), which has a derivative; quasi-Newton (L-BFGS) steps follow it, coarse to fine.
    The points of comparison are the mask's voxels, each displaced within its voxel by chance with a
    fixed seed: on the grid itself the similarity jumps where the two grids fall onto one another.

    Receive coils shade images, and shading that differs between the two pulls the maximum aside, by
    a millimetre if it is strong. A polynomial is therefore taken out of each image's logarithm,
    fitted to what the other image, as it lies by then, does not explain. The two steps take turns
    at each level, until the points move by less than a hundredth of the smoothing's width, or five
    times. A polynomial of higher degree can pass for a misplacement and keep it.

    The coarsest level begins at `start`, and also where the images' centres of intensity agree,
    with a rigid transform; what explains more goes on.

    Parameters
    ----------
    moving, moving_affine, fixed, fixed_affine, fixed_mask
        As of `registration.least_squares.register_rigid`.
    start : ndarray, shape (4, 4), optional
        Transform to start from; the identity by default.
    degrees_of_freedom : {6, 9, 12}
        Rotation and translation; scales along the fixed world's axes as well; shears as well. They
        are relative to `start`.
    fwhm : sequence of float
        Full width at half maximum of the smoothing, mm, coarse to fine.
    bins : int
        Of the histogram along each axis, between the 0.5th and 99.5th percentile of the values.
    bias_degree : int
        Degree of the polynomial of the shading; 0 leaves the images as they are.
    seed : int
        Of the points' displacement.
    min_nmi : float
        What the similarity must reach at the end.

    Returns
    -------
    NmiFit

    Raises
    ------
    ValueError
        If the input is unusable (shapes, values that are not finite, an empty mask, no such number
        of degrees of freedom), or the registration failed: the images do not overlap, one of them
        is constant, or they do not explain one another.

    References
    ----------
    Studholme et al., Pattern Recognit 32:71-86 (1999), for the similarity; Mattes et al., IEEE
    Trans Med Imaging 22:120-128 (2003), for the windows and the derivative.
    """
    if degrees_of_freedom not in (6, 9, 12):
        raise ValueError(f"there are 6, 9 or 12 degrees of freedom, not {degrees_of_freedom}")
    start = affine_start(start)
    check_images(moving, fixed, fixed_mask)
    moving_levels = pyramid(moving, moving_affine, fwhm)
    fixed_levels = pyramid(fixed, fixed_affine, fwhm, fixed_mask)
    rng = np.random.default_rng(seed)
    levels = [
        _NmiLevel.of(f, m, bias_degree, rng)
        for f, m in zip(fixed_levels, moving_levels, strict=True)
    ]
    candidates = [start, centred_start(start, moving_levels[0], fixed_levels[0])]
    fits = [value_or_error(_maximise_nmi, levels[0], c, 6, bins) for c in candidates]
    found = [fit for fit in fits if not isinstance(fit, ValueError)]
    if not found:
        raise fits[0]
    fit = max(found, key=lambda f: f.nmi)
    n_evaluations = sum(f.n_evaluations for f in found)
    for level, width in zip(levels, fwhm, strict=True):
        for _ in range(_ROUNDS):  # the shading is known the better, the better the images lie
            before = fit.matrix
            fit = _maximise_nmi(level, before, degrees_of_freedom, bins)
            n_evaluations += fit.n_evaluations
            if displacement(before, fit.matrix, level.points) < 0.01 * width:
                break
    if fit.nmi < min_nmi:
        raise ValueError(
            "the images do not explain one another: their normalised mutual information is "
            f"{fit.nmi:.3f} after "
            f"registration (at least {min_nmi:g} is asked); they do not show the same object, or "
            "it started too far"
        )
    return NmiFit(fit.matrix, n_evaluations, fit.nmi, fit.overlap)


@dataclass(frozen=True)
class _NmiLevel:
    """What the similarity needs of a level."""

    points: np.ndarray
    values: np.ndarray  # of the fixed image there
    basis: np.ndarray
    coefficients: np.ndarray
    slopes: tuple
    into: np.ndarray

    @classmethod
    def of(cls, fixed, moving, degree, rng):
        """Sample the fixed image near voxels of its mask."""
        index = sampled_voxels(fixed.mask)
        index = index + rng.uniform(-0.5, 0.5, index.shape)
        points = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
        values = ndimage.map_coordinates(fixed.volume, index.T, order=3, mode="nearest").astype(
            np.float64
        )
        coefficients = ndimage.spline_filter(moving.volume, 3, output=np.float32)
        into = np.linalg.inv(moving.affine)
        return cls(
            points,
            values,
            polynomials(points, degree),
            coefficients,
            slopes_of(moving.volume),
            into,
        )

    def moved(self, matrix):
        """Moving voxels of the transformed points that it covers, which these are, and its values
        there.
        """
        into = self.into @ matrix
        voxels = into[:3, :3] @ self.points.T + into[:3, 3:]
        inside = within(voxels, self.coefficients.shape)
        check_overlap(inside)
        voxels = voxels[:, inside]
        values = ndimage.map_coordinates(
            self.coefficients, voxels, order=3, mode="mirror", prefilter=False
        )
        return voxels, inside, values.astype(np.float64)

    def windows(self, matrix, bins):
        """Take the coils' shading out of both images as they lie now, and spread the fixed values
        over bins.
        """
        _, inside, moving = self.moved(matrix)
        fixed_gain = np.exp(self.basis @ _shading(self.values[inside], moving, self.basis[inside]))
        fixed = self.values / fixed_gain
        moving_gain = np.exp(self.basis @ _shading(moving, fixed[inside], self.basis[inside]))
        position = _scaled(fixed, _usual_range(fixed[inside], "fixed")) * (bins - 1)
        first = np.minimum(position.astype(int), bins - 2)
        return _Windows(
            first,
            position - first,
            moving_gain,
            _usual_range(moving / moving_gain[inside], "moving"),
            bins,
        )

    def similarity(self, matrix, windows):
        """Normalised mutual information and its derivative by the elements of the transform, shape
        (3, 4).
        """
        voxels, inside, values = self.moved(matrix)
        bins = windows.bins
        (low, high) = windows.limits
        gain = windows.gain[inside]
        first = windows.first[inside]
        share = windows.share[inside]
        width = bins - 3  # the cubic window reaches one bin below and two above
        scaled = _scaled(values / gain, windows.limits)
        position = 1 + scaled * (width - 1e-6)
        lower = position.astype(int)
        shares, slopes = _cubic_windows(position - lower)
        cells = [
            ((first + a) * bins + lower + b - 1, weight, shares[b], slopes[b])
            for (a, weight), b in product(enumerate((1 - share, share)), range(4))
        ]
        joint = sum(
            np.bincount(cell, weight * window, bins**2) for cell, weight, window, _ in cells
        ) / len(values)
        nmi, by_joint = _nmi(joint.reshape(bins, bins))
        by_joint = by_joint.ravel()
        by_position = sum(
            by_joint[cell] * weight * slope for cell, weight, _, slope in cells
        ) / len(values)
        by_value = by_position * ((scaled > 0) & (scaled < 1)) * width / (high - low) / gain
        gradient = np.stack(
            [ndimage.map_coordinates(s, voxels, order=1, mode="nearest") for s in self.slopes]
        )
        by_point = self.into[:3, :3].T @ (gradient * by_value)
        return nmi, np.concatenate(
            [by_point @ self.points[inside], by_point.sum(axis=1, keepdims=True)], axis=1
        )


@dataclass(frozen=True)
class _Windows:
    """Of each fixed value the first bin and the share of the next; the moving image's shading and
    limits.
    """

    first: np.ndarray
    share: np.ndarray
    gain: np.ndarray
    limits: tuple
    bins: int


def _maximise_nmi(level, matrix, degrees_of_freedom, bins):
    """Maximise the similarity at one level from a transform on."""
    windows = level.windows(matrix, bins)
    centre = level.points.mean(axis=0)
    radius = float(np.sqrt(np.var(level.points, axis=0).sum()))

    def cost(parameters):
        try:
            nmi, by_matrix = level.similarity(matrix @ _affine(parameters, centre, radius), windows)
        except (
            NoOverlapError
        ):  # a first step may go far; this is worse than any similarity, and leads back
            return 0.5 * float(parameters @ parameters), parameters.copy()
        by_parameter = [
            matrix
            @ (_affine(parameters + s, centre, radius) - _affine(parameters - s, centre, radius))
            / 2e-4
            for s in 1e-4 * np.eye(len(parameters))
        ]
        # Per mille: the optimiser's thresholds are absolute.
        return -1e3 * nmi, np.array([-1e3 * np.sum(by_matrix * d[:3]) for d in by_parameter])

    # The derivative takes the image's slope as linear between voxels, so that line searches need
    # not be exact.
    options = {"ftol": 1e-6, "maxls": 8}
    found = optimize.minimize(
        cost, np.zeros(degrees_of_freedom), jac=True, method="L-BFGS-B", options=options
    )
    best = matrix @ _affine(found.x, centre, radius)
    return NmiFit(
        best, int(found.nfev), -float(found.fun) / 1e3, float(level.moved(best)[1].mean())
    )


def _shading(values, other, basis):
    """Polynomial (without its constant) in log values that another image of the same points does
    not explain.

    Points of similar brightness in the other image are one kind of tissue, with a mean of its own;
    what is left is fitted robustly. Points that are dark in either image have no say.
    """
    usable = (values > 0.1 * np.percentile(values, 99)) & (other > 0.1 * np.percentile(other, 99))
    coefficients = np.zeros(basis.shape[1])
    if np.count_nonzero(usable) < 10 * basis.shape[1] or basis.shape[1] < 2:
        return coefficients
    target = np.log(values[usable])
    design = basis[usable, 1:]
    kinds = np.searchsorted(np.percentile(other[usable], np.arange(2, 100, 2)), other[usable])
    weight = np.ones(len(target))
    for _ in range(5):
        both = np.column_stack([target, design])
        both = both - _kind_means(both, kinds, weight)
        solution = solve_weighted(both[:, 1:], both[:, 0], weight)
        weight = tukey_weight(both[:, 0] - both[:, 1:] @ solution, slice(None))
    coefficients[1:] = solution
    return coefficients


def _kind_means(columns, kinds, weight):
    """Weighted mean of each column over the points of a point's kind."""
    total = np.bincount(kinds, weight)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    return np.stack([(np.bincount(kinds, weight * c) * scale)[kinds] for c in columns.T], axis=1)


def _nmi(joint):
    """Normalised mutual information of a joint histogram that sums to 1, and its derivative by the
    histogram.

    A constant is left out of the derivative, since what moves in the histogram sums to nothing.
    """
    rows = joint.sum(axis=1)
    columns = joint.sum(axis=0)
    entropies = [-np.sum(p[p > 0] * np.log(p[p > 0])) for p in (rows, columns, joint)]
    nmi = (entropies[0] + entropies[1]) / entropies[2]
    log_rows, log_columns, log_joint = (
        np.log(np.maximum(p, 1e-12)) for p in (rows, columns, joint)
    )
    return nmi, (nmi * log_joint - log_rows[:, None] - log_columns) / entropies[2]


def _cubic_windows(t):
    """Shares of four bins of a value `t` after the second, a cubic B-spline, and their derivatives
    by `t`.
    """
    s = 1 - t
    shares = (s**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - s**2 + s**3 / 2, t**3 / 6)
    return shares, (-(s**2) / 2, -2 * t + 1.5 * t**2, 2 * s - 1.5 * s**2, t**2 / 2)


def _usual_range(values, which):
    """Percentiles between which the histogram resolves values."""
    low, high = np.percentile(values, (0.5, 99.5))
    if not high > low:
        raise ValueError(f"the {which} image is constant where the images are compared")
    return float(low), float(high)


def _scaled(values, limits):
    return np.clip((values - limits[0]) / (limits[1] - limits[0]), 0, 1)


def _affine(parameters, centre, radius):
    """Transform of parameters in mm: shift, then turn, after stretch and shear about a centre, each
    at a radius.
    """
    p = np.zeros(12)
    p[: len(parameters)] = parameters
    p[3:] /= radius
    linear = Rotation.from_rotvec(p[3:6]).as_matrix()
    if len(parameters) > 6:
        x, y, z, xy, xz, yz = p[6:]
        linear = linear @ (np.eye(3) + np.array([[x, xy, xz], [xy, y, yz], [xz, yz, z]]))
    return about(centre, linear, p[:3])
