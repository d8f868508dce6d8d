"""Register images of different contrast: rigid and affine registration by mutual information.

See `transforms` for the direction of the transforms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from .least_squares import solve_weighted, tukey_weight, value_or_error
from .multiscale import (
    Image,
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
from .transforms import affine_about, displacement

_ROUNDS = 5  # of shading and similarity at a level
_DIFFERENCE = 1e-4  # mm, half the step of central differences by the transform's parameters


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
        Fraction of the mask that lies within the moving image.
    """

    matrix: np.ndarray
    n_evaluations: int
    nmi: float
    overlap: float


def register_rigid_nmi(
    moving: np.ndarray,
    moving_affine: np.ndarray,
    fixed: np.ndarray,
    fixed_affine: np.ndarray,
    *,
    fixed_mask: np.ndarray,
    start: ArrayLike | None = None,
    **options: Any,
) -> NmiFit:
    """Find the rigid transform between two images of different contrast.

    An example is FLAIR and gradient echo. Parameters, result and errors are those of
    `register_affine_nmi`, without `degrees_of_freedom`.
    """
    return register_affine_nmi(
        moving,
        moving_affine,
        fixed,
        fixed_affine,
        fixed_mask=fixed_mask,
        start=start,
        degrees_of_freedom=6,
        **options,
    )


def register_affine_nmi(
    moving: np.ndarray,
    moving_affine: np.ndarray,
    fixed: np.ndarray,
    fixed_affine: np.ndarray,
    *,
    fixed_mask: np.ndarray,
    start: ArrayLike | None = None,
    degrees_of_freedom: Literal[6, 9, 12] = 12,
    fwhm: Sequence[float] = (12.0, 6.0, 3.0),
    bins: int = 32,
    bias_degree: int = 2,
    seed: int = 0,
    min_nmi: float = 1.01,
) -> NmiFit:
    """Find the affine transform between two images of different contrast.

    It maximises the normalised mutual information (H(f) + H(m)) / H(f, m) of the fixed image's
    values f in its mask and the moving image's values m at the transformed points. Both images are
    smoothed by the same Gaussian. The entropies H are those of a joint histogram with Parzen
    windows (linear in f, cubic B-spline in m), which has a derivative by the transform.
    Quasi-Newton steps (L-BFGS) follow it, from coarse to fine. The images are compared at the
    mask's voxels, each displaced at random within its voxel with a fixed seed: on the grid itself
    the similarity jumps where the two grids coincide.

    Receive coils shade images, and shading that differs between the two images shifts the maximum,
    by a millimetre if it is strong. Each image's logarithm is therefore corrected by a polynomial
    that is fitted to what the other image, in its current position, does not explain. Shading and
    transform are estimated alternately at each level, until the points move by less than a
    hundredth of the smoothing's width, at most five times. A polynomial of higher degree can absorb
    a misregistration, which then remains.

    The coarsest level is fitted twice with a rigid transform: from `start`, and from where the
    images' centres of intensity agree. The better fit continues.

    Parameters
    ----------
    moving, moving_affine, fixed, fixed_affine, fixed_mask
        As of `registration.least_squares.register_rigid`.
    start : ndarray, shape (4, 4), optional
        Transform to start from; the identity by default.
    degrees_of_freedom : {6, 9, 12}
        6 are rotation and translation; 9 add scales along the fixed world's axes; 12 add shears.
        All are relative to `start`.
    fwhm : sequence of float
        Full width at half maximum of the smoothing, mm, coarse to fine.
    bins : int
        Bins of the histogram along each axis, between the 0.5th and 99.5th percentile of the
        values.
    bias_degree : int
        Degree of the polynomial of the shading; 0 means no correction.
    seed : int
        Seed of the points' random displacements.
    min_nmi : float
        Lowest similarity at the end with which the registration is accepted.

    Returns
    -------
    NmiFit

    Raises
    ------
    ValueError
        If the input is unusable (shapes, values that are not finite, an empty mask, another number
        of degrees of freedom), or the registration failed: the images do not overlap, one of them
        is constant, or they share too little information.

    References
    ----------
    Studholme et al., Pattern Recognit 32:71-86 (1999), for the similarity; Mattes et al., IEEE
    Trans Med Imaging 22:120-128 (2003), for the windows and the derivative; Pluim et al., Comput
    Vis Image Underst 77:211-232 (2000), for the jumps of the similarity on a grid.
    """
    if degrees_of_freedom not in (6, 9, 12):
        raise ValueError(f"degrees of freedom must be 6, 9 or 12, not {degrees_of_freedom}")
    initial = affine_start(start)
    check_images(moving, fixed, fixed_mask)
    moving_levels = pyramid(moving, moving_affine, fwhm)
    fixed_levels = pyramid(fixed, fixed_affine, fwhm, fixed_mask)
    rng = np.random.default_rng(seed)
    levels = []
    for fixed_level, moving_level in zip(fixed_levels, moving_levels, strict=True):
        levels.append(_NmiLevel.of(fixed_level, moving_level, bias_degree, rng))
    candidates = [initial, centred_start(initial, moving_levels[0], fixed_levels[0])]
    fit, n_evaluations = _better_fit(levels[0], candidates, bins)
    for level, width in zip(levels, fwhm, strict=True):
        # The better the images are aligned, the better the shading is known, and conversely.
        for _ in range(_ROUNDS):
            previous = fit.matrix
            fit = _maximise_nmi(level, previous, degrees_of_freedom, bins)
            n_evaluations += fit.n_evaluations
            if displacement(previous, fit.matrix, level.points) < 0.01 * width:
                break
    if fit.nmi < min_nmi:
        raise ValueError(
            f"the normalised mutual information of the images is {fit.nmi:.3f} after registration, "
            f"below {min_nmi:g}: they do not show the same object, or the start was too far away"
        )
    return NmiFit(fit.matrix, n_evaluations, fit.nmi, fit.overlap)


def _better_fit(level, starts, bins):
    """Fit a rigid transform from each start.

    Return the fit with the greatest similarity, and the number of evaluations of all fits.
    """
    fits = []
    errors = []
    for start in starts:
        fit = value_or_error(_maximise_nmi, level, start, 6, bins)
        if isinstance(fit, ValueError):
            errors.append(fit)
        else:
            fits.append(fit)
    if not fits:
        raise errors[0]
    return max(fits, key=attrgetter("nmi")), sum(map(attrgetter("n_evaluations"), fits))


@dataclass(frozen=True)
class _Binning:
    """How the values of n points are assigned to bins of the joint histogram.

    Attributes
    ----------
    first_bin : ndarray of int, shape (n,)
        The first of the two bins in which a fixed value counts.
    fraction : ndarray, shape (n,)
        How much of it counts in the second.
    moving_gain : ndarray, shape (n,)
        Shading by which moving values are divided.
    moving_limits : tuple of 2 floats
        Values of the moving image, without shading, that the bins resolve.
    bins : int
        Along each axis.
    """

    first_bin: np.ndarray
    fraction: np.ndarray
    moving_gain: np.ndarray
    moving_limits: tuple[float, float]
    bins: int


@dataclass(frozen=True)
class _NmiLevel:
    """The samples of a level from which the similarity is computed.

    Attributes
    ----------
    points : ndarray, shape (n, 3)
        World coordinates of the fixed image's samples, mm.
    values : ndarray, shape (n,)
        The fixed image there.
    basis : ndarray, shape (n, terms)
        The polynomials of the shading there.
    coefficients : ndarray, shape (x, y, z)
        B-spline coefficients of the moving image.
    slopes : tuple of 3 ndarrays, shape (x, y, z)
        Derivatives of the moving image along its voxel axes.
    world_to_voxel : ndarray, shape (4, 4)
        From the moving image's world to its voxels.
    """

    points: np.ndarray
    values: np.ndarray
    basis: np.ndarray
    coefficients: np.ndarray
    slopes: tuple
    world_to_voxel: np.ndarray

    @classmethod
    def of(cls, fixed: Image, moving: Image, degree: int, rng: np.random.Generator) -> Self:
        """Sample the fixed image near voxels of its mask."""
        index = sampled_voxels(fixed.mask)
        # Interpolation averages noise between voxels but not at voxels. If the points were those of
        # a grid, the similarity would jump where it coincides with the other grid (Pluim 2000).
        index = index + rng.uniform(-0.5, 0.5, index.shape)
        points = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
        values = ndimage.map_coordinates(fixed.volume, index.T, order=3, mode="nearest")
        return cls(
            points=points,
            values=values.astype(np.float64),
            basis=polynomials(points, degree),
            coefficients=ndimage.spline_filter(moving.volume, 3, output=np.float32),
            slopes=slopes_of(moving.volume),
            world_to_voxel=np.linalg.inv(moving.affine),
        )

    def moving_values(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Interpolate the moving image at those transformed points that lie within it.

        Return their voxel coordinates, shape (3, k), which of the n points they are, and the k
        values.
        """
        to_voxel = self.world_to_voxel @ matrix
        voxels = to_voxel[:3, :3] @ self.points.T + to_voxel[:3, 3:]
        inside = within(voxels, self.coefficients.shape)
        check_overlap(inside)
        voxels = voxels[:, inside]
        values = ndimage.map_coordinates(
            self.coefficients, voxels, order=3, mode="mirror", prefilter=False
        )
        return voxels, inside, values.astype(np.float64)

    def binning(self, matrix: np.ndarray, bins: int) -> _Binning:
        """Correct both images' shading in their current position, and lay out the histogram."""
        _, inside, moving = self.moving_values(matrix)
        fixed_shading = _shading(self.values[inside], moving, self.basis[inside])
        fixed = self.values / np.exp(self.basis @ fixed_shading)
        moving_shading = _shading(moving, fixed[inside], self.basis[inside])
        moving_gain = np.exp(self.basis @ moving_shading)
        position = _scaled(fixed, _usual_range(fixed[inside], "fixed")) * (bins - 1)
        first_bin = np.minimum(position.astype(int), bins - 2)
        return _Binning(
            first_bin=first_bin,
            fraction=position - first_bin,
            moving_gain=moving_gain,
            moving_limits=_usual_range(moving / moving_gain[inside], "moving"),
            bins=bins,
        )

    def similarity(self, matrix: np.ndarray, binning: _Binning) -> tuple[float, np.ndarray]:
        """Return the normalised mutual information and its derivative by the transform.

        The derivative has the shape (3, 4), without the transform's constant last row.

        A fixed value counts in two bins (linear window), a moving value in four (cubic B-spline).
        With hard bins, the histogram would change in jumps as the transform changes. The window is
        cubic for the moving values, since only these depend on the transform, and the derivative of
        a cubic B-spline is continuous.
        """
        voxels, inside, values = self.moving_values(matrix)
        bins = binning.bins
        low, high = binning.moving_limits
        gain = binning.moving_gain[inside]
        first_bin = binning.first_bin[inside]
        fraction = binning.fraction[inside]
        # A cubic window reaches one bin below the value's own and two above: values are scaled to
        # the bins from the second to the last but two. The 1e-6 keeps the highest value there.
        width = bins - 3
        scaled = _scaled(values / gain, binning.moving_limits)
        position = 1 + scaled * (width - 1e-6)
        own_bin = position.astype(int)
        windows, slopes = _cubic_windows(position - own_bin)
        # Each point adds to 2 x 4 cells of the histogram, which is stored as a vector.
        cells = []
        for row, linear_window in enumerate((1 - fraction, fraction)):
            for column in range(4):
                cell = (first_bin + row) * bins + own_bin + column - 1
                cells.append((cell, linear_window, windows[column], slopes[column]))
        joint = np.zeros(bins**2)
        for cell, linear_window, cubic_window, _ in cells:
            joint += np.bincount(cell, linear_window * cubic_window, bins**2)
        joint /= len(values)
        nmi, by_joint = _nmi(joint.reshape(bins, bins))
        # The chain rule, from the histogram's cells to each point's position among the bins, its
        # value, its place in the moving image, and last the transform's elements.
        by_joint = by_joint.ravel()
        by_position = np.zeros(len(values))
        for cell, linear_window, _, slope in cells:
            by_position += by_joint[cell] * linear_window * slope
        by_position /= len(values)
        # Values beyond the limits are clipped, so that small changes of them have no effect.
        by_value = by_position * ((scaled > 0) & (scaled < 1)) * width / (high - low) / gain
        gradient = np.empty(voxels.shape, np.float32)
        for axis, volume in enumerate(self.slopes):
            gradient[axis] = ndimage.map_coordinates(volume, voxels, order=1, mode="nearest")
        by_point = self.world_to_voxel[:3, :3].T @ (gradient * by_value)
        by_linear = by_point @ self.points[inside]
        by_translation = by_point.sum(axis=1, keepdims=True)
        return nmi, np.concatenate([by_linear, by_translation], axis=1)


def _maximise_nmi(level, matrix, degrees_of_freedom, bins):
    """Maximise the similarity at one level from a transform on."""
    binning = level.binning(matrix, bins)  # fixed, so that the objective is
    centre = level.points.mean(axis=0)
    radius = float(np.sqrt(np.var(level.points, axis=0).sum()))
    steps = _DIFFERENCE * np.eye(degrees_of_freedom)

    def cost(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        trial = matrix @ _affine(parameters, centre, radius)
        try:
            nmi, by_matrix = level.similarity(trial, binning)
        except NoOverlapError:
            # The first step of a line search may go far. This cost exceeds that of any similarity,
            # all of which are negative, and its slope leads back to the start.
            return 0.5 * float(parameters @ parameters), parameters.copy()
        by_parameters = np.empty(degrees_of_freedom)
        for k, step in enumerate(steps):
            above = _affine(parameters + step, centre, radius)
            below = _affine(parameters - step, centre, radius)
            by_parameter = matrix @ (above - below) / (2 * _DIFFERENCE)
            by_parameters[k] = -1e3 * np.sum(by_matrix * by_parameter[:3])
        # Per mille, since the optimiser's thresholds are absolute.
        return -1e3 * nmi, by_parameters

    # The derivative is only approximate: it interpolates the image's slope linearly between voxels.
    # An exact line search would therefore waste evaluations.
    options = {"ftol": 1e-6, "maxls": 8}
    optimum = optimize.minimize(
        cost, np.zeros(degrees_of_freedom), jac=True, method="L-BFGS-B", options=options
    )
    best = matrix @ _affine(optimum.x, centre, radius)
    _, inside, _ = level.moving_values(best)
    return NmiFit(best, int(optimum.nfev), -float(optimum.fun) / 1e3, float(inside.mean()))


def _shading(values, reference, basis):
    """Fit a polynomial to log values that a reference image of the same points does not explain.

    Points of similar brightness in the reference are one kind of tissue, which has its own mean.
    The polynomial is fitted robustly to the deviations from these means. Points that are dark in
    either image are left out. Return the polynomial's coefficients; that of the constant is 0.
    """
    usable = values > 0.1 * np.percentile(values, 99)
    usable &= reference > 0.1 * np.percentile(reference, 99)
    coefficients = np.zeros(basis.shape[1])
    if np.count_nonzero(usable) < 10 * basis.shape[1] or basis.shape[1] < 2:
        return coefficients
    target = np.log(values[usable])  # shading multiplies: in the logarithm it adds
    design = basis[usable, 1:]
    # Fifty kinds with equal numbers of points keep tissues and their partial volumes apart.
    limits = np.percentile(reference[usable], np.arange(2, 100, 2))
    kinds = np.searchsorted(limits, reference[usable])
    weight = np.ones(len(target))
    for _ in range(5):
        # To subtract the kinds' means from target and design is the same as to fit one constant for
        # each kind along with the polynomial (Frisch-Waugh-Lovell), without their 50 columns.
        columns = np.column_stack([target, design])
        columns = columns - _kind_means(columns, kinds, weight)
        solution = solve_weighted(columns[:, 1:], columns[:, 0], weight)
        weight = tukey_weight(columns[:, 0] - columns[:, 1:] @ solution, slice(None))
    coefficients[1:] = solution
    return coefficients


def _kind_means(columns, kinds, weight):
    """Return for each point the weighted mean of each column over points of the same kind."""
    total = np.bincount(kinds, weight)
    scale = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    means = np.empty_like(columns)
    for k, column in enumerate(columns.T):
        means[:, k] = (np.bincount(kinds, weight * column) * scale)[kinds]
    return means


def _nmi(joint):
    """Return the normalised mutual information of a joint histogram, and its derivative.

    The histogram sums to 1. The derivative by its cells leaves out a constant, which has no effect:
    the histogram's sum does not change when points move between cells.
    """
    rows = joint.sum(axis=1)
    columns = joint.sum(axis=0)
    joint_entropy = _entropy(joint)
    nmi = (_entropy(rows) + _entropy(columns)) / joint_entropy
    # With -∂H/∂p = log p + 1, by the quotient rule.
    derivative = nmi * _log(joint) - _log(rows)[:, None] - _log(columns)
    return nmi, derivative / joint_entropy


def _entropy(probabilities):
    positive = probabilities[probabilities > 0]
    return -np.sum(positive * np.log(positive))


def _log(probabilities):
    return np.log(np.maximum(probabilities, 1e-12))  # finite in empty cells


def _cubic_windows(t):
    """Return cubic B-spline weights of four bins, and their derivatives by `t`.

    `t` is how far a value lies beyond the second bin, from 0 to 1.
    """
    s = 1 - t
    windows = (s**3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - s**2 + s**3 / 2, t**3 / 6)
    return windows, (-(s**2) / 2, -2 * t + 1.5 * t**2, 2 * s - 1.5 * s**2, t**2 / 2)


def _usual_range(values, image_name):
    """Return the percentiles between which the histogram resolves values.

    A few very bright voxels, such as vessels, would otherwise leave tissue only a few bins.
    """
    low, high = np.percentile(values, (0.5, 99.5))
    if not high > low:
        raise ValueError(
            f"the {image_name} image is constant where the images are compared: check the image "
            "and the mask"
        )
    return float(low), float(high)


def _scaled(values, limits):
    return np.clip((values - limits[0]) / (limits[1] - limits[0]), 0, 1)


def _affine(parameters, centre, radius):
    """Return the transform of 6, 9 or 12 parameters.

    They are translation, rotation, scales and shears about a centre. All are in mm: rotations,
    scales and shears are the displacements that they cause at a radius. A step of 1 then means
    about the same for each, as quasi-Newton steps need it at first.
    """
    p = np.zeros(12)
    p[: len(parameters)] = parameters
    p[3:] /= radius
    linear = Rotation.from_rotvec(p[3:6]).as_matrix()
    if len(parameters) > 6:
        x, y, z, xy, xz, yz = p[6:]
        linear = linear @ (np.eye(3) + np.array([[x, xy, xz], [xy, y, yz], [xz, yz, z]]))
    return affine_about(centre, linear, p[:3])
