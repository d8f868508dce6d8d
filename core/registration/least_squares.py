"""Where one scan lies in another of the same contrast: rigid registration by least squares.

See `transforms` for the direction of the transforms.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..robust import robust_sd
from .multiscale import (
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
from .transforms import about

_TUKEY = 4.685  # standard deviations; 95 % efficient for normal residuals


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
        Root mean square of what the fit leaves at the finest level over that of the fixed image, in
        the mask.
    correlation : float
        Of the fixed image with the moving one, resampled and corrected for bias, at the finest
        level in the mask.
    overlap : float
        Share of the mask that lies within the moving image.
    """

    matrix: np.ndarray
    n_iterations: int
    residual: float
    correlation: float
    overlap: float


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

    Minimises Σ ρ(f(x) - b(x) m(T x)) over voxels x of the fixed image's mask, evenly taken. f and m
    are the images, smoothed by the same Gaussian, and b is a polynomial in x: the global scale and
    what receive coils do differently in two scanners or head positions. Gauss-Newton steps take the
    gradient of the fixed image (inverse composition), and solve for the polynomial and the motion
    together; ρ is Tukey's biweight, so that vessels, dropout and what moves on its own lose their
    say. Coarse to fine, on grids of half the smoothing's width.

    The coarsest level begins at `start`, and also where the images' centres of intensity agree, and
    goes on with what fits better.

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
        Stop the finest level at steps below this, mm (root mean square over the mask); the others
        at ten times as much.
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
        If the input is unusable (shapes, values that are not finite, an empty mask), or the
        registration failed: the images do not overlap, the steps do not become small, or the images
        do not correlate at the end.

    References
    ----------
    Friston et al., Hum Brain Mapp 3:165-189 (1995), for least squares with an intensity model;
    Baker & Matthews, Int J Comput Vis 56:221-255 (2004), section 3.2, for inverse composition.
    """
    start = _rigid_start(start)
    check_images(moving, fixed, fixed_mask)
    levels = list(
        zip(
            pyramid(moving, moving_affine, fwhm),
            pyramid(fixed, fixed_affine, fwhm, fixed_mask),
            strict=True,
        )
    )
    samples = [_Samples.of(f, m, bias_degree) for m, f in levels]
    candidates = [start, centred_start(start, levels[0][0], levels[0][1])]
    fits = [
        value_or_error(_gauss_newton, samples[0], c, 10 * tolerance, max_iterations)
        for c in candidates
    ]
    found = [fit for fit in fits if not isinstance(fit, ValueError)]
    if not found:
        raise fits[0]
    fit = min(found, key=lambda f: f.residual)
    n_iterations = fit.n_iterations
    for level, sample in enumerate(samples[1:], start=2):
        last = level == len(samples)
        fit = _gauss_newton(
            sample, fit.matrix, tolerance if last else 10 * tolerance, max_iterations
        )
        n_iterations += fit.n_iterations
    if fit.correlation < min_correlation:
        raise ValueError(
            f"the images correlate by no more than {fit.correlation:.2f} after registration (at "
            "least "
            f"{min_correlation:g} is asked): they do not show the same object in one contrast, or "
            "it started too far"
        )
    return RigidFit(fit.matrix, n_iterations, fit.residual, fit.correlation, fit.overlap)


@dataclass(frozen=True)
class _Samples:
    """What Gauss-Newton needs of a level: values, points (mm) and derivatives by motion of the
    fixed image; m.
    """

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
        index = sampled_voxels(fixed.mask)
        points = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
        at = tuple(index.T)
        gradient = np.stack([slope[at] for slope in slopes_of(fixed.volume)], axis=1)
        gradient = gradient @ np.linalg.inv(fixed.affine[:3, :3])
        centre = points.mean(axis=0)
        offset = points - centre
        return cls(
            points=points,
            values=fixed.volume[at].astype(np.float64),
            motion=np.concatenate([np.cross(offset, gradient), gradient], axis=1),
            basis=polynomials(points, degree),
            centre=centre,
            moment=_moment(points),
            coefficients=ndimage.spline_filter(moving.volume, 3, output=np.float32),
            into=np.linalg.inv(moving.affine),
        )

    def moved(self, matrix):
        """Moving image at the transformed points, and which of them it covers."""
        into = self.into @ matrix
        voxels = into[:3, :3] @ self.points.T + into[:3, 3:]
        inside = within(voxels, self.coefficients.shape)
        values = ndimage.map_coordinates(
            self.coefficients, voxels, order=3, mode="mirror", prefilter=False
        )
        return values.astype(np.float64), inside


def _gauss_newton(samples, matrix, tolerance, max_iterations):
    """Fit one level from a transform on."""
    weight = np.ones(len(samples.values))
    limit = np.sqrt(np.var(samples.points, axis=0).sum()) / 4
    for iteration in range(1, max_iterations + 1):
        values, inside = samples.moved(matrix)
        check_overlap(inside)
        design = np.concatenate([samples.basis * values[:, None], -samples.motion], axis=1)
        solution = solve_weighted(design, samples.values, weight * inside)
        weight = tukey_weight(samples.values - design @ solution, inside)
        rotation = solution[-6:-3]
        translation = solution[-3:]
        step = about(samples.centre, Rotation.from_rotvec(rotation).as_matrix(), translation)
        moved = _rms_displacement(step, samples.moment)
        if moved > limit:  # beyond what a linearised image can tell
            step = about(
                samples.centre,
                Rotation.from_rotvec(rotation * limit / moved).as_matrix(),
                translation * limit / moved,
            )
        matrix = matrix @ np.linalg.inv(step)
        if moved < tolerance and iteration > 1:  # the first step knows no weights
            return _judge(samples, matrix, weight, iteration)
    raise ValueError(
        f"the registration does not converge: after {max_iterations} steps they still move the "
        f"mask by {moved:.2g} mm; "
        "check that both images show the same object in one contrast"
    )


def _judge(samples, matrix, weight, iterations):
    """Residual and correlation at a transform."""
    values, inside = samples.moved(matrix)
    design = samples.basis * values[:, None]
    fitted = design @ solve_weighted(design, samples.values, weight * inside)
    misfit = (samples.values - fitted)[inside]
    fixed = samples.values[inside]
    fitted = fitted[inside]
    residual = float(np.sqrt(np.mean(misfit**2) / np.mean(fixed**2)))
    spread = fixed.std() * fitted.std()
    correlation = (
        float(np.mean((fixed - fixed.mean()) * (fitted - fitted.mean())) / spread)
        if spread > 0
        else 0.0
    )
    return RigidFit(matrix, iterations, residual, correlation, float(inside.mean()))


def solve_weighted(design, target, weight):
    """Weighted least squares by the normal equations; columns are scaled, and what nothing
    determines stays 0.
    """
    scale = np.sqrt(np.einsum("ij,ij,i->j", design, design, weight))
    scale[scale == 0] = 1
    weighted = design * weight[:, None]
    normal = np.einsum("ij,ik->jk", weighted, design) / np.outer(scale, scale)
    return (
        np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
        @ (np.einsum("ij,i->j", weighted, target) / scale)
        / scale
    )


def tukey_weight(residual, inside):
    """Weights of Tukey's biweight, its scale from the median absolute residual."""
    scale = robust_sd(residual[inside])
    if scale == 0:
        return np.ones_like(residual)
    return np.clip(1 - (residual / (_TUKEY * scale)) ** 2, 0, None) ** 2


def _moment(points):
    """Mean outer product of points in homogeneous coordinates, shape (4, 4)."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    return homogeneous.T @ homogeneous / len(points)


def _rms_displacement(transform, moment):
    """Root mean square of how far a transform moves points of which the `_moment` is known, mm."""
    difference = transform[:3] - np.eye(4)[:3]
    return float(np.sqrt(max(np.trace(difference @ moment @ difference.T), 0)))


def _rigid_start(start):
    start = affine_start(start)
    turn = start[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) or np.linalg.det(turn) < 0:
        raise ValueError(f"start must be a rigid transform, got {start.tolist()}")
    return start


def value_or_error(function, *arguments, **options):
    """Result of a function or the ValueError it raised: failing is a finding."""
    try:
        return function(*arguments, **options)
    except ValueError as error:
        return error
