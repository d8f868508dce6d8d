"""Where one scan lies in another: rigid and affine registration, and the middle between several scans.

Every transform here maps points of the *fixed* image's world to points of the *moving* image's world (RAS, mm), which
is what `resample.resample` takes to bring the moving image onto the fixed one's grid.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from .resample import resample

_FWHM_PER_SD = 2 * np.sqrt(2 * np.log(2))
_MIN_OVERLAP = 0.5  # share of the fixed mask that must lie within the moving image
_ROUNDS = 5  # of shading and similarity at a level
_MAX_POINTS = 75_000  # at which images are compared; more make it slower and not better
_TUKEY = 4.685  # standard deviations; 95 % efficient for normal residuals
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world has x to the left and y to the back


@dataclass(frozen=True)
class RigidFit:
    """Result of `register_rigid`.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        From the fixed image's world to the moving one's, mm.
    n_iterations : int
        Gauss-Newton steps over all levels.
    residual : float
        Root mean square of what the fit leaves at the finest level over that of the fixed image, in the mask.
    correlation : float
        Of the fixed image with the moving one, resampled and corrected for bias, at the finest level in the mask.
    overlap : float
        Share of the mask that lies within the moving image.
    """

    matrix: np.ndarray
    n_iterations: int
    residual: float
    correlation: float
    overlap: float


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


@dataclass(frozen=True)
class MidSpace:
    """Result of `mid_space`; lists have one entry a scan, in the order given.

    Attributes
    ----------
    affine : ndarray, shape (4, 4)
        From the grid's voxels to the mid-space's world, mm.
    shape : tuple of int
        Voxels of the grid.
    transforms : list of ndarray, shape (4, 4), or None
        From the mid-space's world to the scan's, mm; None for a scan that could not be registered.
    causes : list of str or None
        Why a scan could not be registered.
    average : ndarray of float32, shape `shape`
        Mean of the scans, each divided by its median in its mask; 0 where no scan reaches.
    mask : ndarray of bool, shape `shape`
        Where at least half of the scans' masks are.
    residuals : list of float
        See `mid_space`, mm; NaN for a scan that could not be registered.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]
    transforms: list
    causes: list
    average: np.ndarray
    mask: np.ndarray
    residuals: list


# ----------------------------------------------------------------------------------------------------------
# Same contrast: least squares
# ----------------------------------------------------------------------------------------------------------


def register_rigid(
    moving,
    moving_affine,
    fixed,
    fixed_affine,
    *,
    fixed_mask,
    start=None,
    fwhm=(12.0, 6.0, 3.0),
    bias_degree=3,
    tolerance=2e-3,
    max_iterations=50,
    min_correlation=0.5,
):
    """Find the rigid transform between two images of one contrast.

    Minimises Σ ρ(f(x) - b(x) m(T x)) over voxels x of the fixed image's mask, evenly taken. f and m are the images,
    smoothed by the same Gaussian, and b is a polynomial in x: the global scale and what receive coils do differently
    in two scanners or head positions. Gauss-Newton steps take the gradient of the fixed image (inverse composition),
    and solve for the polynomial and the motion together; ρ is Tukey's biweight, so that vessels, dropout and what
    moves on its own lose their say. Coarse to fine, on grids of half the smoothing's width.

    The coarsest level begins at `start`, and also where the images' centres of intensity agree, and goes on with what
    fits better.

    Parameters
    ----------
    moving : ndarray, shape (x, y, z)
        Image to be moved, any unit.
    moving_affine : ndarray, shape (4, 4)
        From its voxels to its world, mm.
    fixed : ndarray, shape (u, v, w)
        Image to move onto.
    fixed_affine : ndarray, shape (4, 4)
        From its voxels to its world, mm.
    fixed_mask : ndarray of bool, shape (u, v, w)
        Where the images are compared, such as the brain.
    start : ndarray, shape (4, 4), optional
        Rigid transform to start from; the identity by default.
    fwhm : sequence of float
        Full width at half maximum of the smoothing, mm, coarse to fine.
    bias_degree : int
        Degree of the polynomial; 0 is a global scale alone.
    tolerance : float
        Stop the finest level at steps below this, mm (root mean square over the mask); the others at ten times as much.
    max_iterations : int
        Steps of a level.
    min_correlation : float
        What the correlation must reach at the end.

    Returns
    -------
    RigidFit

    Raises
    ------
    ValueError
        If the input is unusable (shapes, values that are not finite, an empty mask), or the registration failed: the
        images do not overlap, the steps do not become small, or the images do not correlate at the end.

    References
    ----------
    Friston et al., Hum Brain Mapp 3:165-189 (1995), for least squares with an intensity model; Baker & Matthews,
    Int J Comput Vis 56:221-255 (2004), section 3.2, for inverse composition.
    """
    start = _rigid_start(start)
    _check(moving, fixed, fixed_mask)
    levels = list(
        zip(_pyramid(moving, moving_affine, fwhm), _pyramid(fixed, fixed_affine, fwhm, fixed_mask), strict=True)
    )
    samples = [_Samples.of(f, m, bias_degree) for m, f in levels]
    candidates = [start, _centred(start, levels[0][0], levels[0][1])]
    fits = [_try(_gauss_newton, samples[0], c, 10 * tolerance, max_iterations) for c in candidates]
    found = [fit for fit in fits if not isinstance(fit, ValueError)]
    if not found:
        raise fits[0]
    fit = min(found, key=lambda f: f.residual)
    n_iterations = fit.n_iterations
    for level, sample in enumerate(samples[1:], start=2):
        last = level == len(samples)
        fit = _gauss_newton(sample, fit.matrix, tolerance if last else 10 * tolerance, max_iterations)
        n_iterations += fit.n_iterations
    if fit.correlation < min_correlation:
        raise ValueError(
            f"the images correlate by no more than {fit.correlation:.2f} after registration (at least "
            f"{min_correlation:g} is asked): they do not show the same object in one contrast, or it started too far"
        )
    return RigidFit(fit.matrix, n_iterations, fit.residual, fit.correlation, fit.overlap)


@dataclass(frozen=True)
class _Image:
    """A smoothed image on a grid no finer than needed, with the voxels of its mask."""

    volume: np.ndarray
    affine: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class _Samples:
    """What Gauss-Newton needs of a level: values, points (mm) and derivatives by motion of the fixed image; m."""

    points: np.ndarray
    values: np.ndarray
    motion: np.ndarray  # by rotation (rad) and translation (mm) about `centre`
    basis: np.ndarray
    centre: np.ndarray
    moment: np.ndarray  # mean of the points' homogeneous outer products
    coefficients: np.ndarray
    into: np.ndarray

    @classmethod
    def of(cls, fixed, moving, degree):
        """Sample the fixed image at voxels of its mask."""
        index = _sampled_voxels(fixed.mask)
        points = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
        at = tuple(index.T)
        gradient = np.stack([slope[at] for slope in _slopes(fixed.volume)], axis=1)
        gradient = gradient @ np.linalg.inv(fixed.affine[:3, :3])
        centre = points.mean(axis=0)
        offset = points - centre
        return cls(
            points=points,
            values=fixed.volume[at].astype(np.float64),
            motion=np.concatenate([np.cross(offset, gradient), gradient], axis=1),
            basis=_polynomials(points, degree),
            centre=centre,
            moment=_moment(points),
            coefficients=ndimage.spline_filter(moving.volume, 3, output=np.float32),
            into=np.linalg.inv(moving.affine),
        )

    def moved(self, matrix):
        """Moving image at the transformed points, and which of them it covers."""
        into = self.into @ matrix
        voxels = into[:3, :3] @ self.points.T + into[:3, 3:]
        inside = _within(voxels, self.coefficients.shape)
        values = ndimage.map_coordinates(self.coefficients, voxels, order=3, mode="mirror", prefilter=False)
        return values.astype(np.float64), inside


def _gauss_newton(samples, matrix, tolerance, max_iterations):
    """Fit one level from a transform on."""
    weight = np.ones(len(samples.values))
    limit = np.sqrt(np.var(samples.points, axis=0).sum()) / 4
    for iteration in range(1, max_iterations + 1):
        values, inside = samples.moved(matrix)
        _check_overlap(inside)
        design = np.concatenate([samples.basis * values[:, None], -samples.motion], axis=1)
        solution = _weighted_solve(design, samples.values, weight * inside)
        weight = _tukey_weight(samples.values - design @ solution, inside)
        rotation, translation = solution[-6:-3], solution[-3:]
        step = _about(samples.centre, Rotation.from_rotvec(rotation).as_matrix(), translation)
        moved = _rms_displacement(step, samples.moment)
        if moved > limit:  # beyond what a linearised image can tell
            step = _about(
                samples.centre, Rotation.from_rotvec(rotation * limit / moved).as_matrix(), translation * limit / moved
            )
        matrix = matrix @ np.linalg.inv(step)
        if moved < tolerance and iteration > 1:  # the first step knows no weights
            return _judge(samples, matrix, weight, iteration)
    raise ValueError(
        f"the registration does not converge: after {max_iterations} steps they still move the mask by {moved:.2g} mm; "
        "check that both images show the same object in one contrast"
    )


def _judge(samples, matrix, weight, iterations):
    """Residual and correlation at a transform."""
    values, inside = samples.moved(matrix)
    design = samples.basis * values[:, None]
    fitted = design @ _weighted_solve(design, samples.values, weight * inside)
    misfit, fixed, fitted = (samples.values - fitted)[inside], samples.values[inside], fitted[inside]
    residual = float(np.sqrt(np.mean(misfit**2) / np.mean(fixed**2)))
    spread = fixed.std() * fitted.std()
    correlation = float(np.mean((fixed - fixed.mean()) * (fitted - fitted.mean())) / spread) if spread > 0 else 0.0
    return RigidFit(matrix, iterations, residual, correlation, float(inside.mean()))


def _weighted_solve(design, target, weight):
    """Weighted least squares by the normal equations; columns are scaled, and what nothing determines stays 0."""
    scale = np.sqrt(np.einsum("ij,ij,i->j", design, design, weight))
    scale[scale == 0] = 1
    weighted = design * weight[:, None]
    normal = np.einsum("ij,ik->jk", weighted, design) / np.outer(scale, scale)
    return (
        np.linalg.pinv(normal, rcond=1e-10, hermitian=True) @ (np.einsum("ij,i->j", weighted, target) / scale) / scale
    )


def _tukey_weight(residual, inside):
    """Weights of Tukey's biweight, its scale from the median absolute residual."""
    scale = 1.4826 * np.median(np.abs(residual[inside]))
    if scale == 0:
        return np.ones_like(residual)
    return np.clip(1 - (residual / (_TUKEY * scale)) ** 2, 0, None) ** 2


def _polynomials(points, degree):
    """All monomials of three coordinates (scaled to ±1) up to a degree, shape (points, terms)."""
    offset = points - points.mean(axis=0)
    offset /= np.abs(offset).max(axis=0).clip(1e-6)
    powers = [c for d in range(degree + 1) for c in combinations_with_replacement(range(3), d)]
    return np.stack([np.prod(offset[:, list(p)], axis=1) for p in powers], axis=1)


# ----------------------------------------------------------------------------------------------------------
# Other contrasts: normalised mutual information
# ----------------------------------------------------------------------------------------------------------


def register_rigid_nmi(moving, moving_affine, fixed, fixed_affine, *, fixed_mask, start=None, **options):
    """Find the rigid transform between two images of different contrast, such as FLAIR and gradient echo.

    Parameters, result and errors are those of `register_affine_nmi`, without `degrees_of_freedom`.
    """
    fitted = (moving, moving_affine, fixed, fixed_affine)
    return register_affine_nmi(*fitted, fixed_mask=fixed_mask, start=start, degrees_of_freedom=6, **options)


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
    """Find the affine transform that makes two images of different contrast explain one another best.

    Maximises the normalised mutual information (H(f) + H(m)) / H(f, m) of the fixed image's values in its mask and the
    moving image's where the transform takes them, both smoothed by the same Gaussian. Entropies are those of a joint
    histogram with Parzen windows (linear in f, cubic B-spline in m), which has a derivative; quasi-Newton (L-BFGS)
    steps follow it, coarse to fine. The points of comparison are the mask's voxels, each displaced within its voxel by
    chance with a fixed seed: on the grid itself the similarity jumps where the two grids fall onto one another.

    Receive coils shade images, and shading that differs between the two pulls the maximum aside, by a millimetre
    if it is strong. A polynomial is therefore taken out of each image's logarithm, fitted to what the other image, as
    it lies by then, does not explain. The two steps take turns at each level, until the points move by less than a
    hundredth of the smoothing's width, or five times. A polynomial of higher degree can pass for a misplacement and
    keep it.

    The coarsest level begins at `start`, and also where the images' centres of intensity agree, with a rigid
    transform; what explains more goes on.

    Parameters
    ----------
    moving, moving_affine, fixed, fixed_affine, fixed_mask
        As of `register_rigid`.
    start : ndarray, shape (4, 4), optional
        Transform to start from; the identity by default.
    degrees_of_freedom : {6, 9, 12}
        Rotation and translation; scales along the fixed world's axes as well; shears as well. They are relative to
        `start`.
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
        If the input is unusable (shapes, values that are not finite, an empty mask, no such number of degrees of
        freedom), or the registration failed: the images do not overlap, one of them is constant, or they do not
        explain one another.

    References
    ----------
    Studholme et al., Pattern Recognit 32:71-86 (1999), for the similarity; Mattes et al., IEEE Trans Med Imaging
    22:120-128 (2003), for the windows and the derivative.
    """
    if degrees_of_freedom not in (6, 9, 12):
        raise ValueError(f"there are 6, 9 or 12 degrees of freedom, not {degrees_of_freedom}")
    start = _affine_start(start)
    _check(moving, fixed, fixed_mask)
    moving_levels = _pyramid(moving, moving_affine, fwhm)
    fixed_levels = _pyramid(fixed, fixed_affine, fwhm, fixed_mask)
    rng = np.random.default_rng(seed)
    levels = [_NmiLevel.of(f, m, bias_degree, rng) for f, m in zip(fixed_levels, moving_levels, strict=True)]
    candidates = [start, _centred(start, moving_levels[0], fixed_levels[0])]
    fits = [_try(_maximise_nmi, levels[0], c, 6, bins) for c in candidates]
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
            f"the images do not explain one another: their normalised mutual information is {fit.nmi:.3f} after "
            f"registration (at least {min_nmi:g} is asked); they do not show the same object, or it started too far"
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
        index = _sampled_voxels(fixed.mask)
        index = index + rng.uniform(-0.5, 0.5, index.shape)
        points = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
        values = ndimage.map_coordinates(fixed.volume, index.T, order=3, mode="nearest").astype(np.float64)
        coefficients = ndimage.spline_filter(moving.volume, 3, output=np.float32)
        into = np.linalg.inv(moving.affine)
        return cls(points, values, _polynomials(points, degree), coefficients, _slopes(moving.volume), into)

    def moved(self, matrix):
        """Moving voxels of the transformed points that it covers, which these are, and its values there."""
        into = self.into @ matrix
        voxels = into[:3, :3] @ self.points.T + into[:3, 3:]
        inside = _within(voxels, self.coefficients.shape)
        _check_overlap(inside)
        voxels = voxels[:, inside]
        values = ndimage.map_coordinates(self.coefficients, voxels, order=3, mode="mirror", prefilter=False)
        return voxels, inside, values.astype(np.float64)

    def windows(self, matrix, bins):
        """Take the coils' shading out of both images as they lie now, and spread the fixed values over bins."""
        _, inside, moving = self.moved(matrix)
        fixed_gain = np.exp(self.basis @ _shading(self.values[inside], moving, self.basis[inside]))
        fixed = self.values / fixed_gain
        moving_gain = np.exp(self.basis @ _shading(moving, fixed[inside], self.basis[inside]))
        position = _scaled(fixed, _usual_range(fixed[inside], "fixed")) * (bins - 1)
        first = np.minimum(position.astype(int), bins - 2)
        return _Windows(
            first, position - first, moving_gain, _usual_range(moving / moving_gain[inside], "moving"), bins
        )

    def similarity(self, matrix, windows):
        """Normalised mutual information and its derivative by the elements of the transform, shape (3, 4)."""
        voxels, inside, values = self.moved(matrix)
        bins, (low, high), gain = windows.bins, windows.limits, windows.gain[inside]
        first, share = windows.first[inside], windows.share[inside]
        width = bins - 3  # the cubic window reaches one bin below and two above
        scaled = _scaled(values / gain, windows.limits)
        position = 1 + scaled * (width - 1e-6)
        lower = position.astype(int)
        shares, slopes = _cubic_windows(position - lower)
        cells = [
            ((first + a) * bins + lower + b - 1, weight, shares[b], slopes[b])
            for (a, weight), b in product(enumerate((1 - share, share)), range(4))
        ]
        joint = sum(np.bincount(cell, weight * window, bins**2) for cell, weight, window, _ in cells) / len(values)
        nmi, by_joint = _nmi(joint.reshape(bins, bins))
        by_joint = by_joint.ravel()
        by_position = sum(by_joint[cell] * weight * slope for cell, weight, _, slope in cells) / len(values)
        by_value = by_position * ((scaled > 0) & (scaled < 1)) * width / (high - low) / gain
        gradient = np.stack([ndimage.map_coordinates(s, voxels, order=1, mode="nearest") for s in self.slopes])
        by_point = self.into[:3, :3].T @ (gradient * by_value)
        return nmi, np.concatenate([by_point @ self.points[inside], by_point.sum(axis=1, keepdims=True)], axis=1)


@dataclass(frozen=True)
class _Windows:
    """Of each fixed value the first bin and the share of the next; the moving image's shading and limits."""

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
        nmi, by_matrix = level.similarity(matrix @ _affine(parameters, centre, radius), windows)
        by_parameter = [
            matrix @ (_affine(parameters + s, centre, radius) - _affine(parameters - s, centre, radius)) / 2e-4
            for s in 1e-4 * np.eye(len(parameters))
        ]
        # Per mille: the optimiser's thresholds are absolute.
        return -1e3 * nmi, np.array([-1e3 * np.sum(by_matrix * d[:3]) for d in by_parameter])

    # The derivative takes the image's slope as linear between voxels, so that line searches need not be exact.
    options = {"ftol": 1e-6, "maxls": 8}
    found = optimize.minimize(cost, np.zeros(degrees_of_freedom), jac=True, method="L-BFGS-B", options=options)
    best = matrix @ _affine(found.x, centre, radius)
    return NmiFit(best, int(found.nfev), -float(found.fun) / 1e3, float(level.moved(best)[1].mean()))


def _shading(values, other, basis):
    """Polynomial (without its constant) in log values that another image of the same points does not explain.

    Points of similar brightness in the other image are one kind of tissue, with a mean of its own; what is left is
    fitted robustly. Points that are dark in either image have no say.
    """
    usable = (values > 0.1 * np.percentile(values, 99)) & (other > 0.1 * np.percentile(other, 99))
    coefficients = np.zeros(basis.shape[1])
    if np.count_nonzero(usable) < 10 * basis.shape[1] or basis.shape[1] < 2:
        return coefficients
    target, design = np.log(values[usable]), basis[usable, 1:]
    kinds = np.searchsorted(np.percentile(other[usable], np.arange(2, 100, 2)), other[usable])
    weight = np.ones(len(target))
    for _ in range(5):
        both = np.column_stack([target, design])
        both = both - _kind_means(both, kinds, weight)
        solution = _weighted_solve(both[:, 1:], both[:, 0], weight)
        weight = _tukey_weight(both[:, 0] - both[:, 1:] @ solution, slice(None))
    coefficients[1:] = solution
    return coefficients


def _kind_means(columns, kinds, weight):
    """Weighted mean of each column over the points of a point's kind."""
    total = np.bincount(kinds, weight)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    return np.stack([(np.bincount(kinds, weight * c) * scale)[kinds] for c in columns.T], axis=1)


def _nmi(joint):
    """Normalised mutual information of a joint histogram that sums to 1, and its derivative by the histogram.

    A constant is left out of the derivative, since what moves in the histogram sums to nothing.
    """
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    entropies = [-np.sum(p[p > 0] * np.log(p[p > 0])) for p in (rows, columns, joint)]
    nmi = (entropies[0] + entropies[1]) / entropies[2]
    log_rows, log_columns, log_joint = (np.log(np.maximum(p, 1e-12)) for p in (rows, columns, joint))
    return nmi, (nmi * log_joint - log_rows[:, None] - log_columns) / entropies[2]


def _cubic_windows(t):
    """Shares of four bins of a value `t` after the second, a cubic B-spline, and their derivatives by `t`."""
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
    """Transform of parameters in mm: shift, then turn, after stretch and shear about a centre, each at a radius."""
    p = np.zeros(12)
    p[: len(parameters)] = parameters
    p[3:] /= radius
    linear = Rotation.from_rotvec(p[3:6]).as_matrix()
    if len(parameters) > 6:
        x, y, z, xy, xz, yz = p[6:]
        linear = linear @ (np.eye(3) + np.array([[x, xy, xz], [xy, y, yz], [xz, yz, z]]))
    return _about(centre, linear, p[:3])


# ----------------------------------------------------------------------------------------------------------
# The middle between scans
# ----------------------------------------------------------------------------------------------------------


def mid_space(images, affines, masks, *, voxel_size=None, margin=5.0):
    """Find the space in the middle of several scans of one subject, in which none of them is favoured.

    1. Every scan is registered to one of them: the first, or, if most others do not register to it, the one
       that most others register to.
    2. The mid-space's world is the intrinsic mean of the scans' worlds: the transforms Tₖ from it to the scans have
       Σ log Tₖ = 0.
    3. The scans, resampled with one interpolation each and divided by their medians, are averaged; every scan is
       registered to the average; the transforms are centred again as in 2. The average returned is made with these.

    The grid's axes have the scans' mean orientation (those of a scan that lists its axes in other order or direction
    are matched to the first's), and its field of view covers all masks and a margin. A scan that cannot be registered
    is left out from there on, and its cause given. One scan alone stays as it is: its own grid and the identity.

    The residual of a scan is the mean distance, over the voxels of the mid-space's mask, between where its transform of
    step 3 and that of step 2, both centred over the scans that are left, take a point: how far apart the scan's
    registration to one scan and that to the average are. It tells of inconsistency (of noise, motion within a scan,
    distortion), not of errors that both registrations share.

    Parameters
    ----------
    images : sequence of ndarray, shape (x, y, z)
        Scans of one contrast; shapes may differ.
    affines : sequence of ndarray, shape (4, 4)
        From their voxels to their worlds, mm.
    masks : sequence of ndarray of bool
        Of the brain, shaped as the images.
    voxel_size : sequence of 3 floats, optional
        mm, along the first scan's axes; that of the first scan that can be used by default.
    margin : float
        Between masks and the edge of the field of view, mm.

    Returns
    -------
    MidSpace

    Raises
    ------
    ValueError
        If there is no scan, lists differ in length, no scan can be used, or no two of several register.

    References
    ----------
    Reuter et al., NeuroImage 61:1402-1418 (2012), for why no scan may be favoured; Pennec & Arsigny, in: Matrix
    Information Geometry (2013), pp. 123-166, for the mean of rigid transforms.
    """
    if not len(images) or not len(images) == len(affines) == len(masks):
        raise ValueError(
            f"as many images, affines and masks are needed, at least one: got {len(images)}, {len(affines)} and "
            f"{len(masks)}"
        )
    scans = [
        (np.asarray(i, np.float32), np.asarray(a, float), np.asarray(m, bool))
        for i, a, m in zip(images, affines, masks, strict=True)
    ]
    causes = [_unusable(*scan) for scan in scans]
    usable = [k for k, cause in enumerate(causes) if cause is None]
    if not usable:
        raise ValueError(f"none of the scans can be used; the first: {causes[0]}")
    first = _register_to_one(scans, usable, causes)
    first = _centred_mean(first)
    size = np.linalg.norm(scans[usable[0]][1][:3, :3], axis=0) if voxel_size is None else np.asarray(voxel_size, float)
    if len(scans) == 1 and voxel_size is None:
        grid = (scans[0][1], scans[0][0].shape)
    else:
        grid = _common_grid(scans, first, size, margin)
    average, mask = _average(scans, first, grid)
    refined = first
    if len(first) > 1:
        refined = _register_to_average(scans, first, average, mask, grid[0], causes)
        first = _centred_mean({k: first[k] for k in refined})
        refined = _centred_mean(refined)
        average, mask = _average(scans, refined, grid)
    points = np.argwhere(mask) @ grid[0][:3, :3].T + grid[0][:3, 3]
    numbers = range(len(scans))
    return MidSpace(
        affine=grid[0],
        shape=grid[1],
        transforms=[refined.get(k) for k in numbers],
        causes=causes,
        average=average,
        mask=mask,
        residuals=[displacement(first[k], refined[k], points) if k in refined else float("nan") for k in numbers],
    )


def rigid_mean(transforms):
    """Intrinsic mean of rigid transforms: the M with Σ log(M⁻¹ Tₖ) = 0.

    It does not depend on the origin of coordinates, nor on which of two directions transforms are given in.

    Parameters
    ----------
    transforms : sequence of ndarray, shape (4, 4)
        Rigid, their rotations within half a turn of one another.

    Returns
    -------
    ndarray, shape (4, 4)

    References
    ----------
    Pennec & Arsigny, in: Matrix Information Geometry (2013), pp. 123-166, algorithm 1.
    """
    mean = np.array(transforms[0], float)
    for _ in range(50):
        step = np.mean([_rigid_log(np.linalg.inv(mean) @ t) for t in transforms], axis=0)
        mean = mean @ _rigid_exp(step)
        if np.abs(step).max() < 1e-9:
            break
    return mean


def displacement(transform_a, transform_b, points):
    """Mean distance between where two transforms take points.

    Parameters
    ----------
    transform_a, transform_b : ndarray, shape (4, 4)
        mm.
    points : ndarray, shape (n, 3)
        mm.

    Returns
    -------
    float
        mm.

    Examples
    --------
    >>> displacement(np.eye(4), np.diag([2.0, 1, 1, 1]), np.array([[0.0, 5, 5], [3, 0, 0]]))
    1.5
    """
    difference = np.asarray(transform_a) - np.asarray(transform_b)
    return float(np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1).mean())


def _rigid_log(transform):
    """Logarithm of a rigid transform: rotation vector (rad) and velocity (mm), shape (6,)."""
    turn = Rotation.from_matrix(transform[:3, :3]).as_rotvec()
    return np.concatenate([turn, np.linalg.solve(_drift(turn), transform[:3, 3])])


def _rigid_exp(twist):
    """Rigid transform of a logarithm."""
    return _about(np.zeros(3), Rotation.from_rotvec(twist[:3]).as_matrix(), _drift(twist[:3]) @ twist[3:])


def _drift(turn):
    """Matrix that takes a steady velocity during a turn to the translation it ends in."""
    angle = np.linalg.norm(turn)
    cross = np.cross(np.eye(3), turn)  # as a matrix, turn × what it is applied to
    # The series' first terms are exact to 1e-16 below this angle, where the quotients lose digits.
    small = angle < 1e-4
    first = 0.5 - angle**2 / 24 if small else (1 - np.cos(angle)) / angle**2
    second = 1 / 6 - angle**2 / 120 if small else (angle - np.sin(angle)) / angle**3
    return np.eye(3) + first * cross + second * cross @ cross


def _register_to_one(scans, usable, causes):
    """Transforms from one scan's world to the others', by scan; the causes of failures are entered."""
    best = None
    for reference in usable:
        fixed, affine, mask = scans[reference]
        fits = {k: np.eye(4) if k == reference else _try(_register_scan, scans[k], fixed, affine, mask) for k in usable}
        found = {k: fit for k, fit in fits.items() if not isinstance(fit, ValueError)}
        if best is None or len(found) > len(best[0]):
            best = found, {k: fit for k, fit in fits.items() if isinstance(fit, ValueError)}, reference
        if 2 * len(found) > len(usable):
            break
    found, failed, reference = best
    if len(found) == 1 < len(usable):
        cause = next(iter(failed.values()))
        raise ValueError(f"no two of the {len(usable)} scans register with one another; the first to fail: {cause}")
    for k, error in failed.items():
        causes[k] = f"not registered to scan {reference + 1}: {error}"
    return found


def _register_to_average(scans, transforms, average, mask, affine, causes):
    """Transforms from the mid-space's world to the scans', by scan; the causes of failures are entered."""
    found = {}
    for k, start in transforms.items():
        fit = _try(_register_scan, scans[k], average, affine, mask, start=start, fwhm=(6.0, 3.0))
        if isinstance(fit, ValueError):
            causes[k] = f"not registered to the average of the scans: {fit}"
        else:
            found[k] = fit
    if not found:
        raise ValueError(f"no scan registers to the average of the scans; the first: {causes[next(iter(transforms))]}")
    return found


def _register_scan(scan, fixed, affine, mask, **options):
    return register_rigid(scan[0], scan[1], fixed, affine, fixed_mask=mask, **options).matrix


def _centred_mean(transforms):
    """Move the common origin of transforms into their middle, where their logarithms sum to nothing."""
    middle = rigid_mean([np.linalg.inv(t) for t in transforms.values()])
    return {k: t @ middle for k, t in transforms.items()}


def _common_grid(scans, transforms, voxel_size, margin):
    """Affine and shape of a grid in the mid-space that covers all masks."""
    axes, corners = [], []
    for k, transform in transforms.items():
        _, affine, mask = scans[k]
        into = np.linalg.inv(transform) @ affine
        turned = _nearest_rotation(into[:3, :3] / np.linalg.norm(into[:3, :3], axis=0))
        axes.append(turned if not axes else _matched(turned, axes[0]))
        index = np.argwhere(mask)
        corners.append(index @ into[:3, :3].T + into[:3, 3])
    mean = _nearest_rotation(np.mean(axes, axis=0))
    along = np.concatenate(corners) @ mean  # coordinates along the axes
    low, high = along.min(axis=0), along.max(axis=0)
    shape = np.ceil((high - low + 2 * margin) / voxel_size).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = mean * voxel_size
    affine[:3, 3] = mean @ ((low + high) / 2 - voxel_size * (shape - 1) / 2)
    return affine, tuple(shape.tolist())


def _nearest_rotation(matrix):
    """Orthogonal matrix nearest to a matrix, of the same handedness."""
    u, _, v = np.linalg.svd(matrix)
    return u @ v


def _matched(axes, model):
    """Axes in that order and direction in which they are nearest to others."""
    cosine = axes.T @ model
    rows, columns = optimize.linear_sum_assignment(-np.abs(cosine))
    out = np.empty_like(axes)
    out[:, columns] = axes[:, rows] * np.sign(cosine[rows, columns])
    return out


def _average(scans, transforms, grid):
    """Mean of the scans where they reach, and where at least half of the masks are."""
    total, count, share = (np.zeros(grid[1], np.float32) for _ in range(3))
    for k, transform in transforms.items():
        image, affine, mask = scans[k]
        scaled = image / np.float32(np.median(image[mask]))
        own = len(scans) == 1 and np.array_equal(affine, grid[0]) and image.shape == grid[1]
        moved = scaled if own else resample(scaled, affine, *grid, transform=transform, fill=np.nan)
        known = np.isfinite(moved)
        total += np.where(known, moved, 0)
        count += known
        share += resample(mask.astype(np.float32), affine, *grid, transform=transform, order=1)
    return total / np.maximum(count, 1), share >= 0.5 * len(transforms) - 1e-4


def _unusable(image, affine, mask):
    """Why a scan cannot be used, or None."""
    if image.ndim != 3 or mask.shape != image.shape:
        return f"image {image.shape} and mask {mask.shape} must have one shape of three dimensions"
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        return f"the affine must be an invertible 4 x 4 matrix, got {affine.tolist()}"
    if not mask.any():
        return "the mask is empty"
    if not np.isfinite(image).all():
        return "the image holds values that are not finite"
    if not np.median(image[mask]) > 0:
        return "the image has no signal in its mask"
    return None


# ----------------------------------------------------------------------------------------------------------
# ITK's text format
# ----------------------------------------------------------------------------------------------------------


def itk_text(matrix):
    """Write a transform as the text of an ITK transform file (``.txt``, ``.tfm``).

    Parameters
    ----------
    matrix : ndarray, shape (4, 4)
        From the fixed image's world to the moving one's in RAS mm, as found here. ITK's transforms have the same
        direction, in LPS.

    Returns
    -------
    str

    Examples
    --------
    >>> shift = np.eye(4)
    >>> shift[:3, 3] = 1, 2, 3
    >>> itk_text(shift).splitlines()[3]
    'Parameters: 1.0 0.0 0.0 0.0 1.0 0.0 0.0 0.0 1.0 -1.0 -2.0 3.0'
    """
    lps = _LPS @ np.asarray(matrix, float) @ _LPS + 0.0  # no negative zeros
    numbers = " ".join(repr(float(v)) for v in [*lps[:3, :3].ravel(), *lps[:3, 3]])
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0.0 0.0 0.0\n"
    )


def read_itk_text(text):
    """Read the text of an ITK transform file with one affine or rigid transform given as a matrix.

    Parameters
    ----------
    text : str
        Of types ``AffineTransform`` and ``MatrixOffsetTransformBase`` in three dimensions.

    Returns
    -------
    ndarray, shape (4, 4)
        From the fixed image's world to the moving one's in RAS mm.

    Raises
    ------
    ValueError
        If it is no such text.
    """
    lines = [line.split(":", 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not text.startswith("#Insight Transform File V1.0") or any(len(line) < 2 for line in lines):
        raise ValueError("this is not the text of an ITK transform file: it must begin with its header")
    keys = [key.strip() for key, _ in lines]
    fields = {key.strip(): value.split() for key, value in lines}
    if sorted(keys) != ["FixedParameters", "Parameters", "Transform"]:
        raise ValueError("the ITK file must hold one transform with its parameters and fixed parameters")
    kind = " ".join(fields["Transform"])
    if kind.rsplit("_", 3)[0] not in ("AffineTransform", "MatrixOffsetTransformBase") or not kind.endswith("_3_3"):
        raise ValueError(f"the ITK file holds a transform of type {kind!r}; only affine ones of 3 dimensions are read")
    parameters, centre = np.array(fields["Parameters"], float), np.array(fields["FixedParameters"], float)
    if parameters.shape != (12,) or centre.shape != (3,):
        raise ValueError(f"12 parameters and 3 fixed ones are needed, got {parameters.size} and {centre.size}")
    return _LPS @ _about(centre, parameters[:9].reshape(3, 3), parameters[9:]) @ _LPS


# ----------------------------------------------------------------------------------------------------------
# Common to all
# ----------------------------------------------------------------------------------------------------------


def _check(moving, fixed, fixed_mask):
    if np.ndim(moving) != 3 or np.ndim(fixed) != 3 or np.shape(fixed_mask) != np.shape(fixed):
        raise ValueError(
            f"moving {np.shape(moving)} and fixed image {np.shape(fixed)} must have three dimensions, and the mask "
            f"{np.shape(fixed_mask)} the fixed image's shape"
        )
    if not (np.isfinite(moving).all() and np.isfinite(fixed).all()):
        raise ValueError("the images hold values that are not finite")
    if not np.any(fixed_mask):
        raise ValueError("the mask is empty: there is nothing to register")


def _affine_start(start):
    start = np.eye(4) if start is None else np.asarray(start, float)
    if start.shape != (4, 4) or np.linalg.matrix_rank(start) < 4:
        raise ValueError(f"start must be an invertible 4 x 4 matrix, got {start.tolist()}")
    return start


def _rigid_start(start):
    start = _affine_start(start)
    turn = start[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) or np.linalg.det(turn) < 0:
        raise ValueError(f"start must be a rigid transform, got {start.tolist()}")
    return start


def _pyramid(volume, affine, fwhm, mask=None):
    """Smooth an image to several widths (mm, coarse to fine) on grids of about half the width.

    Each level is made from the next finer one: the variances of Gaussians add up.
    """
    affine, levels, reached = np.asarray(affine, float), [], 0.0
    volume = np.asarray(volume, np.float32)
    mask = None if mask is None else np.asarray(mask, bool)
    for width in reversed(fwhm):
        voxel_size = np.linalg.norm(affine[:3, :3], axis=0)
        sigma = np.sqrt(max(width**2 - reached**2, 0)) / _FWHM_PER_SD / voxel_size
        volume = ndimage.gaussian_filter(volume, sigma, mode="nearest")
        stride = np.maximum((width / 2 / voxel_size + 1e-6).astype(int), 1)
        # A few voxels must be left along each axis to interpolate between.
        stride = np.minimum(stride, np.maximum(np.array(volume.shape) // 8, 1))
        every = tuple(slice(None, None, s) for s in stride.tolist())
        volume, mask = volume[every], None if mask is None else mask[every]
        affine, reached = affine @ np.diag([*stride, 1]), width
        if mask is not None and not mask.any():
            raise ValueError(f"the mask is too small to register images smoothed by {width:g} mm")
        levels.append(_Image(volume, affine, mask))
    return levels[::-1]


def _centred(start, moving, fixed):
    """The start shifted so that the images' centres of intensity agree."""
    centres = []
    for image in (moving, fixed):
        bright = np.clip(image.volume - image.volume.mean(), 0, None)
        centre = ndimage.center_of_mass(bright) if bright.any() else (np.array(bright.shape) - 1) / 2
        centres.append(image.affine[:3, :3] @ centre + image.affine[:3, 3])
    shifted = start.copy()
    shifted[:3, 3] = centres[0] - start[:3, :3] @ centres[1]
    return shifted


def _about(centre, linear, translation):
    """Linear map about a centre, then a translation, as a transform."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre + translation - linear @ centre
    return matrix


def _slopes(volume):
    """Derivatives of the cubic spline through a volume along its axes, at the voxels."""
    return tuple(
        ndimage.correlate1d(
            ndimage.spline_filter1d(volume, axis=a, output=np.float32), [-0.5, 0, 0.5], axis=a, mode="mirror"
        )
        for a in range(3)
    )


def _sampled_voxels(mask):
    """Indices of voxels of a mask, shape (n, 3): every k-th of them, so that they are not too many."""
    index = np.argwhere(mask)
    return index[:: -(-len(index) // _MAX_POINTS)]


def _moment(points):
    """Mean outer product of points in homogeneous coordinates, shape (4, 4)."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    return homogeneous.T @ homogeneous / len(points)


def _rms_displacement(transform, moment):
    """Root mean square of how far a transform moves points of which the `_moment` is known, mm."""
    difference = transform[:3] - np.eye(4)[:3]
    return float(np.sqrt(max(np.trace(difference @ moment @ difference.T), 0)))


def _within(voxels, shape):
    """Which voxel coordinates, shape (3, n), lie between a volume's voxel centres."""
    return np.all((voxels >= 0) & (voxels <= np.reshape(shape, (3, 1)) - 1), axis=0)


def _check_overlap(inside):
    if inside.mean() < _MIN_OVERLAP:
        raise ValueError(
            f"the images do not overlap: {100 * inside.mean():.0f} % of the mask lie within the moving image; check "
            "the affines or give a start"
        )


def _try(function, *arguments, **options):
    """Result of a function or the ValueError it raised: failing is a finding."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        return error
