"""Resample images, labels and regions on another grid."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from ..grid import voxel_size_of

# Weights of a linear interpolation half-way between two voxels may add up to slightly less than one
# half, and equal fractions of two labels may differ slightly.
ROUNDING = 1e-5


def resample(
    volume: np.ndarray,
    affine: np.ndarray,
    target_affine: np.ndarray,
    target_shape: Sequence[int],
    *,
    transform: np.ndarray | None = None,
    order: int = 3,
    mask: np.ndarray | None = None,
    fill: float = 0.0,
) -> np.ndarray:
    """Resample a volume on another grid by B-splines.

    The value at a target voxel is that of the source at ``inv(affine) @ transform @ target_affine``
    times the voxel's index. Affines and transform are combined before the only interpolation.
    Nothing is smoothed: on a grid coarser than its own, the volume keeps its noise, and details
    finer than the grid alias.

    A spline rings at an edge. With a mask, values outside it are therefore replaced by that of the
    nearest voxel inside before the interpolation: they have no influence, and the edge of the mask
    is no edge of the image.

    Parameters
    ----------
    volume : ndarray, shape (x, y, z)
        Source volume; it must be finite in the mask.
    affine : ndarray, shape (4, 4)
        From the source's voxels to its world, mm.
    target_affine : ndarray, shape (4, 4)
        From the target's voxels to its world, mm.
    target_shape : sequence of 3 ints
        Voxels of the target.
    transform : ndarray, shape (4, 4), optional
        From the target's world (mm) to the source's world (mm). By default both worlds are the
        same.
    order : int
        Order of the B-spline, 0 to 5.
    mask : ndarray of bool, shape (x, y, z), optional
        Where the source is valid; everywhere in its field of view by default.
    fill : float
        Value of target voxels where the mask, interpolated linearly and 0 beyond the field of view,
        is below one half.

    Returns
    -------
    ndarray of float32, shape `target_shape`

    Raises
    ------
    ValueError
        If shapes disagree, an affine or the transform is singular, the mask is empty, or the volume
        is not finite in the mask.

    References
    ----------
    Unser et al., IEEE Trans Signal Process 41:821-833 (1993).

    Examples
    --------
    >>> volume = np.arange(4, dtype=np.float32).reshape(4, 1, 1)
    >>> shifted = np.eye(4)
    >>> shifted[0, 3] = 1.0
    >>> grid = np.eye(4), (4, 1, 1)
    >>> resample(volume, np.eye(4), *grid, transform=shifted, order=1).ravel().tolist()
    [1.0, 2.0, 3.0, 0.0]
    """
    valid = np.ones(np.shape(volume), bool) if mask is None else np.asarray(mask, bool)
    to_source = _voxel_to_voxel(affine, target_affine, target_shape, transform, volume, valid)
    check_volume(volume, valid)
    target_shape = tuple(map(int, target_shape))
    out = np.full(target_shape, fill, np.float32)
    # Only the mask's bounding box is interpolated, and only where it lies in the target.
    source_box = ndimage.find_objects(valid.view(np.uint8))[0]
    box = _box_in_target(source_box, to_source, target_shape)
    if box is None:
        return out
    shape, offset = _shape_and_offset(box, to_source)
    options = {
        "matrix": to_source[:3, :3],
        "offset": offset - _first_voxel(source_box),
        "output_shape": shape,
        "output": np.float32,
    }
    valid_fraction = ndimage.affine_transform(
        valid[source_box].astype(np.float32), order=1, mode="grid-constant", **options
    )
    extended = extend(np.asarray(volume[source_box], np.float32), valid[source_box], affine)
    values = ndimage.affine_transform(extended, order=order, mode="nearest", **options)
    out[box] = np.where(valid_fraction > 0.5 - ROUNDING, values, np.float32(fill))
    return out


def check_volume(volume: np.ndarray, mask: np.ndarray) -> None:
    """Raise a ValueError if a mask is empty or a volume is not finite in it."""
    if not mask.any():
        raise ValueError("the mask is empty: there are no values to resample")
    if not np.isfinite(volume[mask]).all():
        raise ValueError(
            "the volume contains values that are not finite: leave these voxels out of the mask"
        )


def resample_labels(
    labels: np.ndarray,
    affine: np.ndarray,
    target_affine: np.ndarray,
    target_shape: Sequence[int],
    *,
    transform: np.ndarray | None = None,
) -> np.ndarray:
    """Resample a label image on another grid.

    Each voxel gets the label with the largest volume fraction, which is the label's indicator,
    interpolated linearly. The surface between two labels therefore lies where their fractions are
    equal. It does not follow the source's voxel edges, which nearest-neighbour interpolation would
    copy.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
        0 is background, also beyond the field of view.
    affine, target_affine, target_shape, transform
        As in `resample`.

    Returns
    -------
    ndarray, shape `target_shape`
        Of the labels' type. Where fractions are equal, background has precedence, then the smaller
        label.

    Raises
    ------
    ValueError
        If the labels are not integers, shapes disagree, or an affine or the transform is singular.

    Examples
    --------
    >>> labels = np.array([0, 7, 7, 3], np.int16).reshape(4, 1, 1)
    >>> fine = np.diag([0.5, 1, 1, 1])
    >>> resample_labels(labels, np.eye(4), fine, (7, 1, 1)).ravel().tolist()
    [0, 0, 7, 7, 7, 3, 3]
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iub":
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    to_source = _voxel_to_voxel(affine, target_affine, target_shape, transform, labels, labels)
    target_shape = tuple(map(int, target_shape))
    values = np.unique(labels[labels != 0])
    numbers = np.where(labels != 0, np.searchsorted(values, labels) + 1, 0)  # without gaps
    largest = np.zeros(target_shape, np.float32)
    background = np.ones(target_shape, np.float32)
    out = np.zeros(target_shape, labels.dtype)
    for number, source_box in enumerate(ndimage.find_objects(numbers), start=1):
        box = _box_in_target(source_box, to_source, target_shape)
        if box is None:
            continue
        shape, offset = _shape_and_offset(box, to_source)
        wider_box = with_border(source_box)
        fraction = ndimage.affine_transform(
            (numbers[wider_box] == number).astype(np.float32),
            to_source[:3, :3],
            offset - _first_voxel(wider_box),
            shape,
            order=1,
            mode="grid-constant",
        )
        wins = fraction > largest[box] + ROUNDING
        out[box] = np.where(wins, values[number - 1], out[box])
        largest[box] = np.where(wins, fraction, largest[box])
        background[box] -= fraction  # the fractions of all labels and background add up to 1
    out[background > largest - ROUNDING] = 0
    return out


def resample_weights(
    region: np.ndarray,
    affine: np.ndarray,
    target_affine: np.ndarray,
    target_shape: Sequence[int],
    *,
    transform: np.ndarray | None = None,
) -> np.ndarray:
    """Resample a region as weights with which voxels of another grid contribute to its sum.

    This is the transpose of linear interpolation. The sum over the region of an image that was
    resampled linearly from the target's grid equals the weighted sum of the image itself.

    Parameters
    ----------
    region : ndarray of bool, shape (x, y, z)
    affine, target_affine : ndarray, shape (4, 4)
        From the region's and from the target's voxels to their worlds, mm.
    target_shape : sequence of 3 ints
        Voxels of the target.
    transform : ndarray, shape (4, 4), optional
        From the region's world (mm) to the target's world (mm). By default both worlds are the
        same.

    Returns
    -------
    ndarray of float32, shape `target_shape`
        Their sum is the region's number of voxels, unless it extends beyond the target.

    Raises
    ------
    ValueError
        If shapes disagree, or an affine or the transform is singular.

    Examples
    --------
    >>> region = np.array([True, False]).reshape(2, 1, 1)
    >>> shifted = np.eye(4)
    >>> shifted[0, 3] = 0.25
    >>> grid = np.eye(4), (3, 1, 1)
    >>> resample_weights(region, np.eye(4), *grid, transform=shifted).ravel().tolist()
    [0.75, 0.25, 0.0]
    """
    to_target = _voxel_to_voxel(target_affine, affine, target_shape, transform, region, region)
    position = np.argwhere(region) @ to_target[:3, :3].T + to_target[:3, 3]
    first = np.floor(position).astype(int)
    beyond = position - first
    weights = np.zeros(tuple(target_shape), np.float32)
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, beyond, 1 - beyond).prod(axis=1)
        index = first + corner
        inside = ((index >= 0) & (index < target_shape)).all(axis=1)
        np.add.at(weights, tuple(index[inside].T), weight[inside])
    return weights


def extend(volume: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Replace values outside a mask by that of the nearest voxel (in mm) inside."""
    if mask.all():
        return volume
    voxel_size = voxel_size_of(affine)
    nearest = ndimage.distance_transform_edt(
        ~mask, sampling=voxel_size, return_distances=False, return_indices=True
    )
    return volume[tuple(nearest)]


def with_border(box: tuple[slice, ...]) -> tuple[slice, ...]:
    """Extend a box by one voxel on each side, except below index 0.

    A linear interpolation of what fills the box is zero beyond that border.
    """
    return tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)


def _voxel_to_voxel(affine, target_affine, target_shape, transform, volume, mask):
    """Return the matrix from the target's voxels to the source's, shape (4, 4)."""
    if np.ndim(volume) != 3 or np.shape(mask) != np.shape(volume) or len(target_shape) != 3:
        raise ValueError(
            f"the volume {np.shape(volume)} and its mask {np.shape(mask)} must have one shape of "
            f"three dimensions, and the target {tuple(target_shape)} must have three dimensions"
        )
    transform = np.eye(4) if transform is None else transform
    _check_invertible("affine", affine)
    _check_invertible("target_affine", target_affine)
    _check_invertible("transform", transform)
    return np.linalg.inv(affine) @ transform @ target_affine


def _check_invertible(name, matrix):
    is_finite = np.shape(matrix) == (4, 4) and np.isfinite(matrix).all()
    if not is_finite or np.linalg.matrix_rank(matrix) < 4:
        raise ValueError(
            f"{name} must be an invertible 4 x 4 matrix, got {np.asarray(matrix).tolist()}"
        )


def _box_in_target(source_box, to_source, target_shape):
    """Return the part of the target in which values of a box of the source may appear, or None.

    Interpolation spreads them by up to one voxel: the box is extended by that.
    """
    ends = [(part.start - 1.0, part.stop) for part in source_box]
    corners = np.stack(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    to_target = np.linalg.inv(to_source)
    target_corners = to_target[:3, :3] @ corners + to_target[:3, 3:]
    low = np.clip(np.floor(target_corners.min(axis=1)), 0, target_shape).astype(int)
    high = np.clip(np.ceil(target_corners.max(axis=1)) + 1, 0, target_shape).astype(int)
    if (high <= low).any():
        return None
    return tuple(map(slice, low.tolist(), high.tolist()))


def _shape_and_offset(box, to_source):
    """Return the shape of a part of the target, and the source voxel at its first voxel."""
    start = _first_voxel(box)
    shape = np.array([part.stop for part in box]) - start
    return tuple(shape.tolist()), to_source[:3, :3] @ start + to_source[:3, 3]


def _first_voxel(box):
    return np.array([part.start for part in box])
