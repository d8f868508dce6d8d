"""Register a subject to a template such as MNI152: affinely, and optionally with a smooth warp.

A point s of the subject's world and a point t of the template's world (RAS, mm) at the same anatomy
are related by the affine ``matrix`` A from the subject's world to the template's, and by two
displacement fields d and e. Both fields are defined in the template's world, and they are inverse
to each other::

    t = A s + d(A s)            s = A⁻¹ (t + e(t))

d (`to_template`) is needed to resample labels of the template on a subject's grid, since each voxel
of that grid must be mapped to the template. e (`from_template`) is needed to resample a subject's
map on the template's grid. Either way, images are interpolated once. That also holds for a map in a
scan's own space: use ``A @ inv(T)``, where T maps the subject's world to the scan's (see
`midspace.mid_space`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..grid import voxel_size_of
from .mutual_information import register_affine_nmi
from .resampling import ROUNDING, check_volume, extend, resample, with_border

_MARGIN = 8.0  # mm around the template's mask in which the warp fades
_SLAB = 8  # planes whose coordinates are in memory at a time


@dataclass(frozen=True)
class DisplacementField:
    """Displacements of points, sampled on a grid in their world and zero beyond the grid.

    Attributes
    ----------
    vectors : ndarray of float32, shape (x, y, z, 3)
        RAS, mm.
    affine : ndarray, shape (4, 4)
        From the grid's voxels to the world, mm.
    """

    vectors: np.ndarray
    affine: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the displacement at points, shape (3, n), interpolated linearly."""
        voxels = _transformed(points, np.linalg.inv(self.affine))
        components = np.moveaxis(self.vectors, 3, 0)
        displacements = np.empty(points.shape, components.dtype)
        for displacement, component in zip(displacements, components, strict=True):
            ndimage.map_coordinates(component, voxels, output=displacement, order=1)
        return displacements


@dataclass(frozen=True)
class TemplateFit:
    """Result of `register_template`.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        From the subject's world to the template's, mm.
    to_template, from_template : DisplacementField or None
        d and e in the module's docstring; None without a warp.
    nmi : float
        Normalised mutual information of the affine registration.
    """

    matrix: np.ndarray
    to_template: DisplacementField | None
    from_template: DisplacementField | None
    nmi: float


def register_template(
    template: np.ndarray,
    template_affine: np.ndarray,
    template_mask: np.ndarray,
    image: np.ndarray,
    image_affine: np.ndarray,
    mask: np.ndarray,
    *,
    start: ArrayLike | None = None,
    template_warp: bool = False,
    spacing: float = 2.0,
    iterations: Sequence[int] = (20, 10),
    radius: int = 2,
    smoothness: float = 2.0,
) -> TemplateFit:
    """Register a subject's brain to a template.

    The affine transform is that of `mutual_information.register_affine_nmi`. The warp is dipy's
    symmetric diffeomorphic registration. It maximises the squared correlation of the images within
    small neighbourhoods, which does not depend on which tissue is bright in which image. For the
    warp, both images are resampled on a grid in the template's world, and voxels outside their
    masks are set to the median inside. With zeros, the brain's surface would be an edge of the same
    sign in both images although fluid is dark in one and bright in the other, which would distort
    the warp.

    Parameters
    ----------
    template : ndarray, shape (u, v, w)
        Image of a brain, such as the T1-weighted MNI152; values outside the mask are ignored.
    template_affine : ndarray, shape (4, 4)
        From its voxels to its world, mm.
    template_mask : ndarray of bool, shape (u, v, w)
        Mask of its brain.
    image : ndarray, shape (x, y, z)
        The subject's image of any contrast, such as the average magnitude of gradient echoes.
    image_affine : ndarray, shape (4, 4)
        From its voxels to the subject's world, mm.
    mask : ndarray of bool, shape (x, y, z)
        Mask of the subject's brain.
    start : ndarray, shape (4, 4), optional
        Affine to start from, from the subject's world to the template's; the identity by default.
    template_warp : bool
        Whether to find a warp as well; this needs dipy.
    spacing : float
        Voxel size of the warp's grid, mm.
    iterations : sequence of int
        Iterations of the warp at each level, from coarse to fine. The spacing halves from level to
        level. The default has no coarser levels, which show too little of each tissue: with
        different contrasts they degrade the affine registration. The warp therefore refines the
        affine by about a millimetre and cannot match larger anatomical differences.
    radius : int
        Radius of the neighbourhoods in which images are correlated, in voxels of each level. Large
        neighbourhoods misregister the globus pallidus, whose contrast to its surroundings differs
        in kind between T1-weighted and gradient-echo images.
    smoothness : float
        Standard deviation of the Gaussian that smooths each update of the warp, in voxels of each
        level.

    Returns
    -------
    TemplateFit

    Raises
    ------
    ModuleNotFoundError
        If `template_warp` is true and dipy is not installed.
    ValueError
        If the input is unusable or the affine registration fails; see `register_affine_nmi`.

    References
    ----------
    Avants et al., Med Image Anal 12:26-41 (2008), for the warp; Garyfallidis et al., Front
    Neuroinform 8:8 (2014), for its implementation.
    """
    if template_warp:
        _import_dipy()  # to fail before the long computation
    if np.shape(template_mask) != np.shape(template) or not np.any(template_mask):
        raise ValueError(
            f"the template's mask must have the template's shape {np.shape(template)} and at least "
            f"one voxel, but has shape {np.shape(template_mask)} and "
            f"{np.count_nonzero(template_mask)} voxels"
        )
    template = np.where(template_mask, template, 0).astype(np.float32)
    fit = register_affine_nmi(
        template, template_affine, image, image_affine, fixed_mask=mask, start=start
    )
    if not template_warp:
        return TemplateFit(fit.matrix, None, None, fit.nmi)
    grid = _grid_around(template_mask, template_affine, spacing)
    to_subject = np.linalg.inv(fit.matrix)
    fixed = _contrast(template, template_mask, template_affine, grid, np.eye(4))
    moving = _contrast(image, mask, image_affine, grid, to_subject)
    # Beyond the subject's field of view there is nothing to match.
    field_of_view = np.ones(image.shape, np.float32)
    fixed = fixed * resample(field_of_view, image_affine, *grid, transform=to_subject, order=0)
    to_template, from_template = _warp(
        fixed, moving, grid[0], iterations=iterations, radius=radius, smoothness=smoothness
    )
    return TemplateFit(fit.matrix, to_template, from_template, fit.nmi)


def labels_from_template(
    labels: np.ndarray,
    labels_affine: np.ndarray,
    target_affine: np.ndarray,
    target_shape: Sequence[int],
    matrix: np.ndarray,
    *,
    to_template: DisplacementField | None = None,
) -> np.ndarray:
    """Resample labels of a template on a subject's grid.

    Each voxel gets the label with the largest volume fraction. As in `resampling.resample_labels`,
    this is the label's indicator in the template, interpolated linearly once.

    Parameters
    ----------
    labels : ndarray of int, shape (u, v, w)
        0 is background, also beyond the field of view.
    labels_affine : ndarray, shape (4, 4)
        From their voxels to the template's world, mm. Their grid may differ from that of the
        template's image.
    target_affine : ndarray, shape (4, 4)
        From the subject's voxels to the subject's world, mm.
    target_shape : sequence of 3 ints
        Shape of the subject's grid.
    matrix : ndarray, shape (4, 4)
        From the subject's world to the template's, mm.
    to_template : DisplacementField, optional
        The warp in this direction; none by default.

    Returns
    -------
    ndarray, shape `target_shape`
        Of the labels' type. Where fractions are equal, background has precedence, then the smaller
        label.

    Raises
    ------
    ValueError
        If the labels are not integers in three dimensions.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub" or labels.ndim != 3:
        raise ValueError(
            f"labels must be integers in three dimensions, got {labels.dtype} of shape "
            f"{labels.shape}"
        )
    values = np.unique(labels[labels != 0])
    numbers = np.where(labels != 0, np.searchsorted(values, labels) + 1, 0)  # without gaps
    boxes = list(map(with_border, ndimage.find_objects(numbers)))
    indicators = []
    for number, box in enumerate(boxes, start=1):
        indicators.append((numbers[box] == number).astype(np.float32))
    world_to_label = np.linalg.inv(labels_affine)
    out = np.zeros(target_shape, labels.dtype)
    for planes, subject_points in _planes(target_affine, target_shape):
        points = _transformed(subject_points, matrix)
        if to_template is not None:
            points = points + to_template.at(points)
        voxels = _transformed(points, world_to_label)
        largest = _largest_fractions(indicators, boxes, values, voxels)
        out[planes] = largest.reshape(out[planes].shape)
    return out


def map_to_template(
    volume: np.ndarray,
    affine: np.ndarray,
    target_affine: np.ndarray,
    target_shape: Sequence[int],
    matrix: np.ndarray,
    *,
    from_template: DisplacementField | None = None,
    mask: np.ndarray | None = None,
    order: int = 3,
    fill: float = 0.0,
) -> np.ndarray:
    """Resample a subject's map on a grid in the template's world, with one interpolation.

    Parameters
    ----------
    volume : ndarray, shape (x, y, z)
        The subject's map; it must be finite in its mask.
    affine : ndarray, shape (4, 4)
        From its voxels to the subject's world, mm.
    target_affine : ndarray, shape (4, 4)
        From the grid's voxels to the template's world, mm.
    target_shape : sequence of 3 ints
        Shape of the grid.
    matrix : ndarray, shape (4, 4)
        From the subject's world to the template's, mm.
    from_template : DisplacementField, optional
        The warp in this direction; none by default.
    mask, order, fill
        As in `resampling.resample`: values outside the mask have no influence, and voxels outside
        it become `fill`.

    Returns
    -------
    ndarray of float32, shape `target_shape`

    Raises
    ------
    ValueError
        If shapes disagree, the mask is empty, or the volume is not finite in it.
    """
    to_subject = np.linalg.inv(matrix)
    if from_template is None:
        return resample(
            volume,
            affine,
            target_affine,
            target_shape,
            transform=to_subject,
            order=order,
            mask=mask,
            fill=fill,
        )
    valid = np.ones(np.shape(volume), bool) if mask is None else np.asarray(mask, bool)
    if np.ndim(volume) != 3 or valid.shape != np.shape(volume):
        raise ValueError(
            f"the map {np.shape(volume)} and its mask {valid.shape} must have one shape of three "
            "dimensions"
        )
    check_volume(volume, valid)
    extended = extend(np.asarray(volume, np.float32), valid, affine)
    if order > 1:
        extended = ndimage.spline_filter(extended, order, output=np.float32, mode="nearest")
    indicator = valid.astype(np.float32)
    to_voxel = np.linalg.inv(affine) @ to_subject
    out = np.full(target_shape, fill, np.float32)
    for planes, points in _planes(target_affine, target_shape):
        voxels = _transformed(points + from_template.at(points), to_voxel)
        valid_fraction = ndimage.map_coordinates(indicator, voxels, order=1, mode="grid-constant")
        inside = valid_fraction > 0.5 - ROUNDING
        values = np.full(points.shape[1], fill, np.float32)
        values[inside] = ndimage.map_coordinates(
            extended, voxels[:, inside], order=order, mode="nearest", prefilter=False
        )
        out[planes] = values.reshape(out[planes].shape)
    return out


def _planes(affine, shape):
    """Yield a few planes of a grid at a time, as a slice and the world coordinates of their voxels.

    The coordinates have the shape (3, n).
    """
    for first in range(0, shape[0], _SLAB):
        planes = slice(first, min(first + _SLAB, shape[0]))
        index = np.indices((planes.stop - first, *shape[1:])).reshape(3, -1)
        index[0] += first
        yield planes, _transformed(index, affine)


def _transformed(points, matrix):
    return matrix[:3, :3] @ points + matrix[:3, 3:]


def _largest_fractions(indicators, boxes, values, voxels):
    """Return the label with the largest fraction at each of n voxel coordinates, shape (3, n)."""
    largest = np.zeros(voxels.shape[1], np.float32)
    background = np.ones(voxels.shape[1], np.float32)
    out = np.zeros(voxels.shape[1], values.dtype)
    for indicator, box, value in zip(indicators, boxes, values, strict=True):
        in_box = voxels - np.array([[part.start] for part in box])
        shape = np.reshape(indicator.shape, (3, 1))
        near = np.flatnonzero(np.all((in_box > -1) & (in_box < shape), axis=0))
        fraction = ndimage.map_coordinates(
            indicator, in_box[:, near], order=1, mode="grid-constant"
        )
        background[near] -= fraction  # the fractions of all labels and background add up to 1
        wins = fraction > largest[near] + ROUNDING
        out[near[wins]] = value
        largest[near[wins]] = fraction[wins]
    out[background > largest - ROUNDING] = 0
    return out


def _import_dipy():
    try:
        from dipy.align import imwarp, metrics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "a nonlinear registration needs dipy, which is not installed: pip install "
            "'multiqsm[template]'"
        ) from error
    return imwarp, metrics


def _grid_around(mask, affine, spacing):
    """Return affine and shape of a grid along the world's axes that covers a mask and a margin."""
    points = _transformed(np.argwhere(mask).T, affine)
    low = points.min(axis=1) - _MARGIN
    high = points.max(axis=1) + _MARGIN
    grid = np.diag([spacing, spacing, spacing, 1.0])
    grid[:3, 3] = low
    return grid, tuple((np.ceil((high - low) / spacing).astype(int) + 1).tolist())


def _contrast(image, mask, affine, grid, transform):
    """Return the relative deviation of an image from its median, in its mask and on a grid.

    The image is smoothed first if the grid is coarser.
    """
    spacing = grid[0][0, 0]
    voxel_size = voxel_size_of(affine)
    sigma = np.sqrt(np.maximum(spacing**2 - voxel_size**2, 0)) / voxel_size / np.sqrt(8 * np.log(2))
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float32), sigma, mode="nearest")
    fraction = resample(np.asarray(mask, np.float32), affine, *grid, transform=transform, order=1)
    values = resample(smooth, affine, *grid, transform=transform, mask=mask)
    return (values / np.median(values[fraction > 0.5]) - 1) * fraction


def _warp(fixed, moving, affine, *, iterations, radius, smoothness):
    """Return displacement fields from the moving image to the fixed one and back.

    Both images are on one grid.
    """
    imwarp, metrics = _import_dipy()
    metric = metrics.CCMetric(3, sigma_diff=smoothness, radius=radius)
    optimiser = imwarp.SymmetricDiffeomorphicRegistration(metric, level_iters=list(iterations))
    optimiser.verbosity = imwarp.VerbosityLevels.NONE
    mapping = optimiser.optimize(fixed, moving, static_grid2world=affine, moving_grid2world=affine)
    # dipy's forward field maps a point of the fixed image to the moving one.
    from_fixed = np.asarray(mapping.get_forward_field(), np.float32)
    to_fixed = np.asarray(mapping.get_backward_field(), np.float32)
    return DisplacementField(to_fixed, affine), DisplacementField(from_fixed, affine)
