"""Register scans of the same contrast: rigid registration by least squares.

See `transforms` for the direction of the transforms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import ParamSpec, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..robust import robust_sd
from .multiscale import (
    Image,
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
from .transforms import affine_about

_TUKEY = 4.685  # standard deviations; 95 % efficient for normal residuals

_P = ParamSpec("_P")
_Result = TypeVar("_Result")


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
        Root mean square of the residuals over that of the fixed image, in the mask at the finest
        level.
    correlation : float
        Correlation of the fixed image with the resampled and bias-corrected moving image, in the
        mask at the finest level.
    overlap : float
        Fraction of the mask that lies within the moving image.
    """

    matrix: np.ndarray
    n_iterations: int
    residual: float
    correlation: float
    overlap: float


def register_rigid(
    moving: np.ndarray,
    moving_affine: np.ndarray,
    fixed: np.ndarray,
    fixed_affine: np.ndarray,
    *,
    fixed_mask: np.ndarray,
    start: ArrayLike | None = None,
    fwhm: Sequence[float] = (12.0, 6.0, 3.0),
    bias_degree: int = 3,
    tolerance: float = 2e-3,
    max_iterations: int = 50,
    min_correlation: float = 0.5,
) -> RigidFit:
    """Find the rigid transform between two images of one contrast.

    It minimises Σ ρ(f(x) - b(x) m(T x)) over evenly chosen voxels x of the fixed image's mask. f
    and m are the fixed and the moving image, smoothed by the same Gaussian. b is a polynomial in x:
    the global scale, and differences in receive sensitivity between two scanners or head positions.
    Gauss-Newton steps use the gradient of the fixed image (inverse composition), and solve for the
    polynomial and the motion together. ρ is Tukey's biweight, which down-weights vessels, drop-outs
    and tissue that moves independently. The levels go from coarse to fine, on grids of half the
    smoothing's width.

    The coarsest level is fitted twice: from `start`, and from where the images' centres of
    intensity agree. The better fit continues to the next level.

    Parameters
    ----------
    moving : ndarray, shape (x, y, z)
        Moving image, any unit.
    moving_affine : ndarray, shape (4, 4)
        From its voxels to its world, mm.
    fixed : ndarray, shape (u, v, w)
        Fixed image, any unit.
    fixed_affine : ndarray, shape (4, 4)
        From its voxels to its world, mm.
    fixed_mask : ndarray of bool, shape (u, v, w)
        Where the images are compared, such as the brain.
    start : ndarray, shape (4, 4), optional
        Rigid transform to start from; the identity by default.
    fwhm : sequence of float
        Full width at half maximum of the smoothing, mm, coarse to fine.
    bias_degree : int
        Degree of the polynomial; with 0 it is a global scale alone.
    tolerance : float
        The finest level stops at steps below this, mm (root mean square over the mask), and the
        other levels at ten times as much.
    max_iterations : int
        Largest number of steps at a level.
    min_correlation : float
        Lowest correlation at the end with which the registration is accepted.

    Returns
    -------
    RigidFit

    Raises
    ------
    ValueError
        If the input is unusable (shapes, values that are not finite, an empty mask), or the
        registration failed: the images do not overlap, the steps do not converge, or the images do
        not correlate at the end.

    References
    ----------
    Friston et al., Hum Brain Mapp 3:165-189 (1995), for least squares with an intensity model;
    Baker & Matthews, Int J Comput Vis 56:221-255 (2004), section 3.2, for inverse composition.
    """
    initial = _rigid_start(start)
    check_images(moving, fixed, fixed_mask)
    moving_levels = pyramid(moving, moving_affine, fwhm)
    fixed_levels = pyramid(fixed, fixed_affine, fwhm, fixed_mask)
    levels = []
    for fixed_level, moving_level in zip(fixed_levels, moving_levels, strict=True):
        levels.append(_Level.of(fixed_level, moving_level, bias_degree))
    candidates = [initial, centred_start(initial, moving_levels[0], fixed_levels[0])]
    fit = _better_fit(levels[0], candidates, 10 * tolerance, max_iterations)
    n_iterations = fit.n_iterations
    for level in levels[1:]:
        level_tolerance = tolerance if level is levels[-1] else 10 * tolerance
        fit = _gauss_newton(level, fit.matrix, level_tolerance, max_iterations)
        n_iterations += fit.n_iterations
    if fit.correlation < min_correlation:
        raise ValueError(
            f"the images correlate by only {fit.correlation:.2f} after registration, below "
            f"{min_correlation:g}: they do not show the same object in one contrast, or the start "
            "was too far away"
        )
    return replace(fit, n_iterations=n_iterations)


def _better_fit(level, starts, tolerance, max_iterations):
    """Fit a level from each start, and return the fit with the smallest residual."""
    fits = []
    errors = []
    for start in starts:
        fit = value_or_error(_gauss_newton, level, start, tolerance, max_iterations)
        if isinstance(fit, ValueError):
            errors.append(fit)
        else:
            fits.append(fit)
    if not fits:
        raise errors[0]
    return min(fits, key=attrgetter("residual"))


@dataclass(frozen=True)
class _Level:
    """The samples of a level that Gauss-Newton steps need.

    The fixed image is sampled once, at m points. The moving image is interpolated at each step.

    Attributes
    ----------
    points : ndarray, shape (m, 3)
        World coordinates of the fixed image's samples, mm.
    values : ndarray, shape (m,)
        The fixed image there.
    derivatives : ndarray, shape (m, 6)
        Derivatives of the fixed image by rotation (rad) about `centre` and by translation (mm).
    basis : ndarray, shape (m, terms)
        The polynomials of the bias there.
    centre : ndarray, shape (3,)
        Mean of the points.
    moment : ndarray, shape (4, 4)
        Second moment of the points, see `_second_moment`.
    coefficients : ndarray, shape (x, y, z)
        B-spline coefficients of the moving image.
    world_to_voxel : ndarray, shape (4, 4)
        From the moving image's world to its voxels.
    """

    points: np.ndarray
    values: np.ndarray
    derivatives: np.ndarray
    basis: np.ndarray
    centre: np.ndarray
    moment: np.ndarray
    coefficients: np.ndarray
    world_to_voxel: np.ndarray

    @classmethod
    def of(cls, fixed: Image, moving: Image, degree: int) -> Self:
        """Sample the fixed image at voxels of its mask."""
        index = sampled_voxels(fixed.mask)
        points = index @ fixed.affine[:3, :3].T + fixed.affine[:3, 3]
        sampled = tuple(index.T)
        slope_x, slope_y, slope_z = slopes_of(fixed.volume)
        gradient = np.stack([slope_x[sampled], slope_y[sampled], slope_z[sampled]], axis=1)
        gradient = gradient @ np.linalg.inv(fixed.affine[:3, :3])  # per mm along the world's axes
        centre = points.mean(axis=0)
        offset = points - centre
        return cls(
            points=points,
            values=fixed.volume[sampled].astype(np.float64),
            derivatives=np.concatenate([np.cross(offset, gradient), gradient], axis=1),
            basis=polynomials(points, degree),
            centre=centre,
            moment=_second_moment(points),
            coefficients=ndimage.spline_filter(moving.volume, 3, output=np.float32),
            world_to_voxel=np.linalg.inv(moving.affine),
        )

    def moving_values(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Interpolate the moving image at the transformed points.

        The second array says which of the points lie within the moving image.
        """
        to_voxel = self.world_to_voxel @ matrix
        voxels = to_voxel[:3, :3] @ self.points.T + to_voxel[:3, 3:]
        inside = within(voxels, self.coefficients.shape)
        values = ndimage.map_coordinates(
            self.coefficients, voxels, order=3, mode="mirror", prefilter=False
        )
        return values.astype(np.float64), inside


def _gauss_newton(level, matrix, tolerance, max_iterations):
    """Fit one level from a transform on.

    The step is a motion of the *fixed* image, b(x) m(T x) = f(S x), so that the derivatives need
    not be computed again at each step (inverse composition). T is then updated to T S⁻¹.
    """
    weight = np.ones(len(level.values))
    # An image is not linear over long distances: no step may be longer than a quarter of the
    # points' standard deviation.
    longest_step = np.sqrt(np.var(level.points, axis=0).sum()) / 4
    for iteration in range(1, max_iterations + 1):
        values, inside = level.moving_values(matrix)
        check_overlap(inside)
        design = np.concatenate([level.basis * values[:, None], -level.derivatives], axis=1)
        solution = solve_weighted(design, level.values, weight * inside)
        weight = tukey_weight(level.values - design @ solution, inside)
        rotation = solution[-6:-3]
        translation = solution[-3:]
        step = _motion(level.centre, rotation, translation)
        length = _rms_displacement(step, level.moment)
        if length > longest_step:
            step = _motion(
                level.centre,
                rotation * longest_step / length,
                translation * longest_step / length,
            )
        matrix = matrix @ np.linalg.inv(step)
        if length < tolerance and iteration > 1:  # the first step is not robust yet
            return _rigid_fit(level, matrix, weight, iteration)
    raise ValueError(
        f"the registration does not converge: after {max_iterations} steps, a step still moves the "
        f"mask by {length:.2g} mm; check that both images show the same object in one contrast"
    )


def _motion(centre, rotation, translation):
    return affine_about(centre, Rotation.from_rotvec(rotation).as_matrix(), translation)


def _rigid_fit(level, matrix, weight, n_iterations):
    """Return a transform with its residual and correlation."""
    values, inside = level.moving_values(matrix)
    design = level.basis * values[:, None]
    fitted = design @ solve_weighted(design, level.values, weight * inside)
    misfit = (level.values - fitted)[inside]
    fixed = level.values[inside]
    fitted = fitted[inside]
    residual = float(np.sqrt(np.mean(misfit**2) / np.mean(fixed**2)))
    spread = fixed.std() * fitted.std()
    correlation = (
        float(np.mean((fixed - fixed.mean()) * (fitted - fitted.mean())) / spread)
        if spread > 0
        else 0.0
    )
    return RigidFit(matrix, n_iterations, residual, correlation, float(inside.mean()))


def solve_weighted(design: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Solve weighted least squares by the normal equations.

    Coefficients that the data do not determine are 0.
    """
    # Columns are scaled to unit norm: rotations (rad), translations (mm) and intensities differ by
    # orders of magnitude, and the cut-off of the pseudoinverse is relative.
    scale = np.sqrt(np.einsum("ij,ij,i->j", design, design, weight))
    scale[scale == 0] = 1
    weighted = design * weight[:, None]
    normal = np.einsum("ij,ik->jk", weighted, design) / np.outer(scale, scale)
    return (
        np.linalg.pinv(normal, rcond=1e-10, hermitian=True)
        @ (np.einsum("ij,i->j", weighted, target) / scale)
        / scale
    )


def tukey_weight(residual: np.ndarray, inside: np.ndarray | slice) -> np.ndarray:
    """Return weights of Tukey's biweight for residuals.

    The scale is a robust standard deviation of the residuals that `inside` selects.
    """
    scale = robust_sd(residual[inside])
    if scale == 0:
        return np.ones_like(residual)
    return np.clip(1 - (residual / (_TUKEY * scale)) ** 2, 0, None) ** 2


def _second_moment(points):
    """Return the mean outer product of points in homogeneous coordinates, shape (4, 4)."""
    homogeneous = np.column_stack([points, np.ones(len(points))])
    return homogeneous.T @ homogeneous / len(points)


def _rms_displacement(transform, moment):
    """Return the root mean square distance that a transform moves points, mm.

    Their `_second_moment` suffices, so that not every point needs to be transformed.
    """
    difference = transform[:3] - np.eye(4)[:3]
    return float(np.sqrt(max(np.trace(difference @ moment @ difference.T), 0)))


def _rigid_start(start):
    start = affine_start(start)
    rotation = start[:3, :3]
    is_orthogonal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4)
    if not is_orthogonal or np.linalg.det(rotation) < 0:
        raise ValueError(f"start must be a rigid transform, got {start.tolist()}")
    return start


def value_or_error(
    function: Callable[_P, _Result], *args: _P.args, **kwargs: _P.kwargs
) -> _Result | ValueError:
    """Return the value of a function, or the ValueError that it raised.

    A registration that fails is a result too, which is reported with the others.
    """
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        return error
