"""Between a subject and a template such as MNI152: an affine transform, and a small smooth warp if
one likes.

A point s of the subject's world and a point t of the template's world (RAS, mm) that show the same
anatomy are related by the affine ``matrix`` A, which maps the subject's world to the template's,
and by two displacement fields d and e, which are one another's inverses and both live in the
template's world::

    t = A s + d(A s)            s = A⁻¹ (t + e(t))

d (`to_template`) is what brings labels of the template onto a subject's grid, whose voxels ask
where in the template they lie; e (`from_template`) brings a subject's map onto the template's grid.
Images are interpolated once in either. A map that was made in a scan's own space is brought to the
template at once, too: with ``A @ inv(T)``, where T maps the subject's world to the scan's (as of
`midspace.mid_space`).
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..grid import voxel_size_of
from .mutual_information import register_affine_nmi
from .resampling import extend, resample

_MARGIN = 8.0  # mm around the template's mask in which the warp fades
_SLAB = 8  # planes at a time, whose coordinates fit in memory easily


@dataclass(frozen=True)
class DisplacementField:
    """How far points are moved, sampled on a grid in their world; nothing moves beyond the grid.

    Attributes
    ----------
    vectors : ndarray of float32, shape (x, y, z, 3)
        RAS, mm.
    affine : ndarray, shape (4, 4)
        From the grid's voxels to the world, mm.
    """

    vectors: np.ndarray
    affine: np.ndarray

    def at(self, points):
        """Displacement at points, shape (3, n), interpolated linearly."""
        into = np.linalg.inv(self.affine)
        voxels = into[:3, :3] @ points + into[:3, 3:]
        return np.stack(
            [ndimage.map_coordinates(v, voxels, order=1) for v in np.moveaxis(self.vectors, 3, 0)]
        )


@dataclass(frozen=True)
class TemplateFit:
    """Result of `register_template`.

    Attributes
    ----------
    matrix : ndarray, shape (4, 4)
        From the subject's world to the template's, mm.
    to_template, from_template : DisplacementField or None
        d and e of the module's text; None without a warp.
    nmi : float
        Normalised mutual information of the affine registration.
    """

    matrix: np.ndarray
    to_template: DisplacementField | None
    from_template: DisplacementField | None
    nmi: float


def register_template(
    template,
    template_affine,
    template_mask,
    image,
    image_affine,
    mask,
    *,
    start=None,
    nonlinear=False,
    spacing=2.0,
    iterations=(20, 10),
    radius=2,
    smoothness=2.0,
):
    """Find where a subject's brain lies in a template.

    The affine transform is that of `mutual_information.register_affine_nmi`. The warp is then
    dipy's symmetric diffeomorphic registration, which maximises the squared correlation of the
    images within small neighbourhoods; it does not ask which tissue is bright in which image. Both
    images enter it on a grid in the template's world, with what is outside their masks at their
    median: at 0, the brain's surface would be an edge of one direction in both images, though fluid
    is dark in one and bright in the other, and the warp would go astray.

    Parameters
    ----------
    template : ndarray, shape (u, v, w)
        A brain without its skull, such as the T1-weighted MNI152.
    template_affine : ndarray, shape (4, 4)
        From its voxels to its world, mm.
    template_mask : ndarray of bool, shape (u, v, w)
        Of the brain.
    image : ndarray, shape (x, y, z)
        The subject's, of any contrast, such as the average magnitude of gradient echoes.
    image_affine : ndarray, shape (4, 4)
        From its voxels to the subject's world, mm.
    mask : ndarray of bool, shape (x, y, z)
        Of the subject's brain.
    start : ndarray, shape (4, 4), optional
        Affine to start from, from the subject's world to the template's; the identity by default.
    nonlinear : bool
        Whether to find a warp as well; this needs dipy.
    spacing : float
        Voxel size of the warp's grid, mm.
    iterations : sequence of int
        Steps of the warp, coarse to fine; the grid's spacing halves from one to the next. Still
        coarser levels show too little of each tissue: where contrasts differ they lead away from
        what the affine found. Without them the warp refines the affine by about a millimetre, and
        finds no larger differences of anatomy.
    radius : int
        Of the neighbourhoods in which images are correlated, voxels of each level. Large ones
        mistake the globus pallidus, whose contrast to its surroundings differs in kind between
        T1-weighted and gradient-echo images.
    smoothness : float
        Standard deviation of the Gaussian that smooths each step of the warp, voxels of each level.

    Returns
    -------
    TemplateFit

    Raises
    ------
    ModuleNotFoundError
        If a warp is asked for and dipy is not installed.
    ValueError
        If the input is unusable or the affine registration fails; see `register_affine_nmi`.

    References
    ----------
    Avants et al., Med Image Anal 12:26-41 (2008), for the warp; Garyfallidis et al., Front
    Neuroinform 8:8 (2014), for its implementation.
    """
    if nonlinear:
        _import_dipy()  # to fail before the work
    if np.shape(template_mask) != np.shape(template) or not np.any(template_mask):
        raise ValueError(
            f"the template's mask must have its shape {np.shape(template)} and hold voxels, got "
            f"{np.shape(template_mask)} with {np.count_nonzero(template_mask)}"
        )
    template = np.where(template_mask, template, 0).astype(np.float32)
    fit = register_affine_nmi(
        template, template_affine, image, image_affine, fixed_mask=mask, start=start
    )
    if not nonlinear:
        return TemplateFit(fit.matrix, None, None, fit.nmi)
    grid = _grid_around(template_mask, template_affine, spacing)
    back = np.linalg.inv(fit.matrix)
    seen = resample(np.ones(image.shape, np.float32), image_affine, *grid, transform=back, order=0)
    fixed = _contrast(template, template_mask, template_affine, grid, np.eye(4)) * seen
    moving = _contrast(image, mask, image_affine, grid, back)
    fields = _warp(
        fixed, moving, grid[0], iterations=iterations, radius=radius, smoothness=smoothness
    )
    return TemplateFit(fit.matrix, *fields, fit.nmi)


def labels_from_template(
    labels, labels_affine, target_affine, target_shape, matrix, *, to_template=None
):
    """Bring labels of a template onto a subject's grid: in each voxel the label with the largest
    share.

    The share of a label at a point is its indicator in the template, interpolated linearly once, as
    of `resample.resample_labels`.

    Parameters
    ----------
    labels : ndarray of int, shape (u, v, w)
        0 is background, which also lies beyond the field of view.
    labels_affine : ndarray, shape (4, 4)
        From their voxels to the template's world, mm. Their grid need not be that of the template's
        image.
    target_affine : ndarray, shape (4, 4)
        From the subject's voxels to the subject's world, mm.
    target_shape : sequence of 3 ints
        Voxels of the subject's grid.
    matrix : ndarray, shape (4, 4)
        From the subject's world to the template's, mm.
    to_template : DisplacementField, optional
        The warp of that direction; none by default.

    Returns
    -------
    ndarray, shape `target_shape`
        Of the labels' type. Where shares are equal background comes first, then the smaller label.

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
    dense = np.where(labels != 0, np.searchsorted(values, labels) + 1, 0)
    boxes = [
        tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        for box in ndimage.find_objects(dense)
    ]
    indicators = [
        (dense[box] == index).astype(np.float32) for index, box in enumerate(boxes, start=1)
    ]
    into = np.linalg.inv(labels_affine)
    out = np.zeros(target_shape, labels.dtype)
    for planes, points in _planes(target_affine, target_shape):
        points = _moved(points, matrix)
        points = points if to_template is None else points + to_template.at(points)
        voxels = _moved(points, into)
        out[planes] = _largest_shares(indicators, boxes, values, voxels).reshape(out[planes].shape)
    return out


def map_to_template(
    volume,
    affine,
    target_affine,
    target_shape,
    matrix,
    *,
    from_template=None,
    mask=None,
    order=3,
    fill=0.0,
):
    """Bring a subject's map onto a grid in the template's world, with one interpolation.

    Parameters
    ----------
    volume : ndarray, shape (x, y, z)
        The subject's map; it must be finite in its mask.
    affine : ndarray, shape (4, 4)
        From its voxels to the subject's world, mm.
    target_affine : ndarray, shape (4, 4)
        From the grid's voxels to the template's world, mm.
    target_shape : sequence of 3 ints
        Voxels of the grid.
    matrix : ndarray, shape (4, 4)
        From the subject's world to the template's, mm.
    from_template : DisplacementField, optional
        The warp of that direction; none by default.
    mask, order, fill
        As of `resample.resample`: values outside the mask do not enter, and voxels outside it get
        `fill`.

    Returns
    -------
    ndarray of float32, shape `target_shape`

    Raises
    ------
    ValueError
        If shapes do not fit together, the mask is empty, or the volume is not finite in it.
    """
    back = np.linalg.inv(matrix)
    if from_template is None:
        return resample(
            volume,
            affine,
            target_affine,
            target_shape,
            transform=back,
            order=order,
            mask=mask,
            fill=fill,
        )
    known = np.ones(np.shape(volume), bool) if mask is None else np.asarray(mask, bool)
    if np.ndim(volume) != 3 or known.shape != np.shape(volume) or not known.any():
        raise ValueError(
            f"the map {np.shape(volume)} and its mask {known.shape} must have one shape of three "
            "dimensions, and the "
            "mask must not be empty"
        )
    if not np.isfinite(volume[known]).all():
        raise ValueError(
            "the map holds values that are not finite; leave these voxels out of the mask"
        )
    extended = extend(np.asarray(volume, np.float32), known, affine)
    if order > 1:
        extended = ndimage.spline_filter(extended, order, output=np.float32, mode="nearest")
    share = known.astype(np.float32)
    into = np.linalg.inv(affine) @ back
    out = np.full(target_shape, fill, np.float32)
    for planes, points in _planes(target_affine, target_shape):
        voxels = _moved(points + from_template.at(points), into)
        inside = ndimage.map_coordinates(share, voxels, order=1, mode="grid-constant") > 0.5 - 1e-5
        part = np.full(points.shape[1], fill, np.float32)
        part[inside] = ndimage.map_coordinates(
            extended, voxels[:, inside], order=order, mode="nearest", prefilter=False
        )
        out[planes] = part.reshape(out[planes].shape)
    return out


def _planes(affine, shape):
    """Parts of a grid one after the other: which planes, and their voxels' points in the world,
    shape (3, n).
    """
    for first in range(0, shape[0], _SLAB):
        planes = slice(first, min(first + _SLAB, shape[0]))
        index = np.indices((planes.stop - first, *shape[1:])).reshape(3, -1)
        index[0] += first
        yield planes, _moved(index, affine)


def _moved(points, matrix):
    return matrix[:3, :3] @ points + matrix[:3, 3:]


def _largest_shares(indicators, boxes, values, voxels):
    """The label with the largest share at voxel coordinates, shape (3, n)."""
    largest = np.zeros(voxels.shape[1], np.float32)
    background = np.ones(voxels.shape[1], np.float32)
    out = np.zeros(voxels.shape[1], values.dtype)
    for indicator, box, value in zip(indicators, boxes, values, strict=True):
        inside = voxels - np.array([[s.start] for s in box])
        near = np.flatnonzero(
            np.all((inside > -1) & (inside < np.reshape(indicator.shape, (3, 1))), axis=0)
        )
        share = ndimage.map_coordinates(indicator, inside[:, near], order=1, mode="grid-constant")
        background[near] -= share  # linear interpolation shares out exactly one
        wins = share > largest[near] + 1e-5  # rounding must not decide between equal shares
        out[near[wins]] = value
        largest[near[wins]] = share[wins]
    out[background > largest - 1e-5] = 0
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
    """Affine and shape of a grid along the world's axes that covers a mask and a margin."""
    points = _moved(np.argwhere(mask).T, affine)
    low = points.min(axis=1) - _MARGIN
    high = points.max(axis=1) + _MARGIN
    grid = np.diag([spacing, spacing, spacing, 1.0])
    grid[:3, 3] = low
    return grid, tuple((np.ceil((high - low) / spacing).astype(int) + 1).tolist())


def _contrast(image, mask, affine, grid, transform):
    """How far an image is from its median, on a grid and in its mask; smoothed first if the grid is
    coarser.
    """
    spacing = grid[0][0, 0]
    voxel_size = voxel_size_of(affine)
    sigma = np.sqrt(np.maximum(spacing**2 - voxel_size**2, 0)) / voxel_size / np.sqrt(8 * np.log(2))
    smooth = ndimage.gaussian_filter(np.asarray(image, np.float32), sigma, mode="nearest")
    share = resample(np.asarray(mask, np.float32), affine, *grid, transform=transform, order=1)
    values = resample(smooth, affine, *grid, transform=transform, mask=mask)
    return (values / np.median(values[share > 0.5]) - 1) * share


def _warp(fixed, moving, affine, *, iterations, radius, smoothness):
    """Displacement fields from the moving image to the fixed one and back, both images on one
    grid.
    """
    imwarp, metrics = _import_dipy()
    metric = metrics.CCMetric(3, sigma_diff=smoothness, radius=radius)
    optimiser = imwarp.SymmetricDiffeomorphicRegistration(metric, level_iters=list(iterations))
    optimiser.verbosity = imwarp.VerbosityLevels.NONE
    found = optimiser.optimize(fixed, moving, static_grid2world=affine, moving_grid2world=affine)
    # The forward field says where in the moving image a point of the fixed one is found.
    forward, backward = (
        np.asarray(f, np.float32) for f in (found.get_forward_field(), found.get_backward_field())
    )
    return DisplacementField(backward, affine), DisplacementField(forward, affine)
