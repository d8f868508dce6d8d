"""Images on another grid, with one interpolation and nothing from beyond the mask in it."""

import numpy as np
from scipy import ndimage

from ..grid import voxel_size_of


def resample(
    volume,
    affine,
    target_affine,
    target_shape,
    *,
    transform=None,
    order=3,
    mask=None,
    fill=0.0,
):
    """Evaluate a volume at the voxels of another grid, by B-splines.

    The value at a target voxel is that of the source at ``inv(affine) @ transform @ target_affine``
    times the voxel's index: affines and transform are joined before the only interpolation. Nothing
    is smoothed: on a grid coarser than its own the volume keeps its noise, and what is finer than
    the grid aliases.

    A spline rings at an edge. With a mask, values outside it therefore do not enter: they are
    replaced by that of the nearest voxel inside before the interpolation, so that the edge of the
    mask is no edge of the image.

    Parameters
    ----------
    volume : ndarray, shape (x, y, z)
        Image of the source; it must be finite where it is used.
    affine : ndarray, shape (4, 4)
        From the source's voxels to its world, mm.
    target_affine : ndarray, shape (4, 4)
        From the target's voxels to its world, mm.
    target_shape : sequence of 3 ints
        Voxels of the target.
    transform : ndarray, shape (4, 4), optional
        From the target's world (mm) to the source's world (mm): where in the source to look for a
        point of the target. Both share one world by default.
    order : int
        Of the B-spline, 0 to 5.
    mask : ndarray of bool, shape (x, y, z), optional
        Where the source is known; everywhere in its field of view by default.
    fill : float
        Value of target voxels where the mask, interpolated linearly and 0 beyond the field of view,
        is below one half.

    Returns
    -------
    ndarray of float32, shape `target_shape`

    Raises
    ------
    ValueError
        If shapes do not fit together, an affine or the transform is singular, the mask is empty, or
        the volume is not finite where it is used.

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
    known = np.ones(np.shape(volume), bool) if mask is None else np.asarray(mask, bool)
    into = _voxel_to_voxel(affine, target_affine, target_shape, transform, volume, known)
    if not known.any():
        raise ValueError("the mask is empty: no value of the volume is known")
    if not np.isfinite(volume[known]).all():
        raise ValueError(
            "the volume holds values that are not finite; leave these voxels out of the mask"
        )
    target_shape = tuple(int(n) for n in target_shape)
    out = np.full(target_shape, fill, np.float32)
    found = ndimage.find_objects(known.view(np.uint8))[0]
    box = _image_of_box(found, into, target_shape)
    if box is None:
        return out
    shape, offset = _of_box(box, into)
    offset = offset - [s.start for s in found]
    options = {
        "matrix": into[:3, :3],
        "offset": offset,
        "output_shape": shape,
        "output": np.float32,
    }
    share = ndimage.affine_transform(
        known[found].astype(np.float32), order=1, mode="grid-constant", **options
    )
    extended = extend(np.asarray(volume[found], np.float32), known[found], affine)
    values = ndimage.affine_transform(extended, order=order, mode="nearest", **options)
    # Weights of a linear interpolation at the middle between two voxels may add up to a little less
    # than a half.
    out[box] = np.where(share > 0.5 - 1e-5, values, np.float32(fill))
    return out


def resample_labels(labels, affine, target_affine, target_shape, *, transform=None):
    """Evaluate a label image at the voxels of another grid: in each the label with the largest
    share.

    The share of a label is its indicator, interpolated linearly. Surfaces are therefore those of
    partial volumes of one half where two labels meet, not the source's voxel edges that a nearest
    neighbour copies.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
        0 is background, which also lies beyond the field of view.
    affine, target_affine, target_shape, transform
        As of `resample`.

    Returns
    -------
    ndarray, shape `target_shape`
        Of the labels' type. Where shares are equal background comes first, then the smaller label.

    Raises
    ------
    ValueError
        If the labels are not integers, shapes do not fit together, or an affine or the transform is
        singular.

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
    into = _voxel_to_voxel(affine, target_affine, target_shape, transform, labels, labels)
    target_shape = tuple(int(n) for n in target_shape)
    values = np.unique(labels[labels != 0])
    dense = np.where(labels != 0, np.searchsorted(values, labels) + 1, 0)
    largest = np.zeros(target_shape, np.float32)
    background = np.ones(target_shape, np.float32)
    out = np.zeros(target_shape, labels.dtype)
    for index, found in enumerate(ndimage.find_objects(dense), start=1):
        box = _image_of_box(found, into, target_shape)
        if box is None:
            continue
        shape, offset = _of_box(box, into)
        around = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in found)
        share = ndimage.affine_transform(
            (dense[around] == index).astype(np.float32),
            into[:3, :3],
            offset - [s.start for s in around],
            shape,
            order=1,
            mode="grid-constant",
        )
        # Rounding must not decide between equal shares.
        wins = share > largest[box] + 1e-5
        out[box] = np.where(wins, values[index - 1], out[box])
        largest[box] = np.where(wins, share, largest[box])
        background[box] -= share  # linear interpolation shares out exactly one
    out[background > largest - 1e-5] = 0
    return out


def resample_weights(region, affine, target_affine, target_shape, *, transform=None):
    """Carry a region to another grid as weights: those with which a mean over it takes in the
    voxels there.

    The transpose of a linear interpolation. An image on the target grid, brought linearly to the
    region's grid, has there the sum over the region that the image itself has with these weights.

    Parameters
    ----------
    region : ndarray of bool, shape (x, y, z)
        The region.
    affine, target_affine : ndarray, shape (4, 4)
        From the region's and from the target's voxels to their worlds, mm.
    target_shape : sequence of 3 ints
        Voxels of the target.
    transform : ndarray, shape (4, 4), optional
        From the region's world (mm) to the target's world (mm). Both share one world by default.

    Returns
    -------
    ndarray of float32, shape `target_shape`
        Weights, whose sum is the region's number of voxels unless it reaches beyond the target.

    Raises
    ------
    ValueError
        If shapes do not fit together, or an affine or the transform is singular.

    Examples
    --------
    >>> region = np.array([True, False]).reshape(2, 1, 1)
    >>> shifted = np.eye(4)
    >>> shifted[0, 3] = 0.25
    >>> grid = np.eye(4), (3, 1, 1)
    >>> resample_weights(region, np.eye(4), *grid, transform=shifted).ravel().tolist()
    [0.75, 0.25, 0.0]
    """
    into = _voxel_to_voxel(target_affine, affine, target_shape, transform, region, region)
    place = np.argwhere(region) @ into[:3, :3].T + into[:3, 3]
    first = np.floor(place).astype(int)
    beyond = place - first
    weights = np.zeros(tuple(target_shape), np.float32)
    for corner in np.ndindex(2, 2, 2):
        share = np.where(corner, beyond, 1 - beyond).prod(axis=1)
        index = first + corner
        inside = ((index >= 0) & (index < target_shape)).all(axis=1)
        np.add.at(weights, tuple(index[inside].T), share[inside])
    return weights


def _voxel_to_voxel(affine, target_affine, target_shape, transform, volume, mask):
    """From the target's voxels to the source's, shape (4, 4)."""
    if np.ndim(volume) != 3 or np.shape(mask) != np.shape(volume) or len(target_shape) != 3:
        raise ValueError(
            "a volume and its mask must have three dimensions and one shape, and the target too: "
            "got "
            f"{np.shape(volume)}, {np.shape(mask)} and {tuple(target_shape)}"
        )
    transform = np.eye(4) if transform is None else transform
    for name, matrix in {
        "affine": affine,
        "target_affine": target_affine,
        "transform": transform,
    }.items():
        if (
            np.shape(matrix) != (4, 4)
            or not np.isfinite(matrix).all()
            or np.linalg.matrix_rank(matrix) < 4
        ):
            raise ValueError(
                f"{name} must be an invertible 4 x 4 matrix, got {np.asarray(matrix).tolist()}"
            )
    return np.linalg.inv(affine) @ transform @ target_affine


def _image_of_box(box, into, target_shape):
    """Part of the target that voxels of a box in the source, with one more around, may reach; None
    if there is none.
    """
    ends = np.array([[s.start - 1.0, s.stop] for s in box])
    corners = np.stack(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    back = np.linalg.inv(into)
    reached = back[:3, :3] @ corners + back[:3, 3:]
    low = np.clip(np.floor(reached.min(axis=1)), 0, target_shape).astype(int)
    high = np.clip(np.ceil(reached.max(axis=1)) + 1, 0, target_shape).astype(int)
    if (high <= low).any():
        return None
    return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _of_box(box, into):
    """Shape of a part of the target, and the source voxel of its first voxel."""
    start = [s.start for s in box]
    return tuple(s.stop - s.start for s in box), into[:3, :3] @ start + into[:3, 3]


def extend(volume, mask, affine):
    """Replace what is outside the mask by the value of the nearest voxel (in mm) inside."""
    if mask.all():
        return volume
    voxel_size = voxel_size_of(affine)
    nearest = ndimage.distance_transform_edt(
        ~mask, sampling=voxel_size, return_distances=False, return_indices=True
    )
    return volume[tuple(nearest)]
