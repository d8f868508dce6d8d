"""The region of interest of the thalamus: smooth labels, without the veins on its surface."""

import numpy as np
from scipy import ndimage

from ..grid import Vector, check_shapes
from ..mask.shapes import CORNERS
from ..robust import robust_sd

_FWHM = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian of standard deviation 1
_FACING = 0.5  # cosine of 60 degrees, the largest angle at which a surface faces a direction
_NORMAL_SD = 1.5  # mm, of the Gaussian that smooths a surface before its normals are computed
_MIN_VOXELS = 20  # from which a region's median and standard deviation can be estimated


def smooth_labels(labels: np.ndarray, voxel_size: Vector, smoothing: float) -> np.ndarray:
    """Smooth the surfaces of labels that were drawn slice by slice or follow voxel edges.

    The indicator of each label is smoothed by a Gaussian. Each voxel gets the label with the
    largest smoothed indicator, background included. A surface to background therefore lies where
    the indicator is one half, and two adjacent labels remain adjacent. A ball shrinks slightly, by
    the Gaussian's variance divided by the ball's radius.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
        0 is background.
    voxel_size : sequence of 3 floats
        In mm.
    smoothing : float
        Full width at half maximum of the Gaussian, mm; with 0 the labels are unchanged.

    Returns
    -------
    ndarray, shape (x, y, z)
        Of the labels' type.

    Raises
    ------
    ValueError
        If `smoothing` is negative.

    Examples
    --------
    >>> labels = np.zeros((9, 9, 1), int)
    >>> labels[2:7, 2:7] = 3
    >>> labels[4, 7] = 3
    >>> smooth_labels(labels, (1, 1, 1), 2.0)[4, :, 0].tolist()
    [0, 0, 3, 3, 3, 3, 3, 0, 0]
    """
    if smoothing < 0:
        raise ValueError(f"the width of the smoothing must not be negative, got {smoothing:g} mm")
    labels = np.asarray(labels)
    if smoothing == 0:
        return labels
    sigma = [smoothing / _FWHM / side for side in voxel_size]
    margin = [int(np.ceil(4 * width)) for width in sigma]  # beyond it, the Gaussian is cut off
    values = np.unique(labels[labels != 0])
    numbers = np.where(labels != 0, np.searchsorted(values, labels) + 1, 0)  # without gaps
    largest = np.zeros(labels.shape, np.float32)
    background = np.ones(labels.shape, np.float32)
    out = np.zeros_like(labels)
    for number, label_box in enumerate(ndimage.find_objects(numbers), start=1):
        box = _with_margin(label_box, margin)
        fraction = ndimage.gaussian_filter((numbers[box] == number).astype(np.float32), sigma)
        wins = fraction > largest[box]
        out[box] = np.where(wins, values[number - 1], out[box])
        largest[box] = np.where(wins, fraction, largest[box])
        background[box] -= fraction
    out[background >= largest] = 0
    return out


def _with_margin(box, margin):
    wider = []
    for part, width in zip(box, margin, strict=True):
        wider.append(slice(max(part.start - width, 0), part.stop + width))
    return tuple(wider)


def surface_veins(
    chi: np.ndarray,
    region: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    right: Vector,
    up: Vector,
    contrast: float = 3.0,
    depth: float = 3.0,
) -> np.ndarray:
    """Find voxels of the thalamus that contain veins along its medial and lower surface.

    The internal cerebral veins run along the medial edge of the thalamus, and the basal veins below
    it. A voxel is considered part of a vein, or of its blur in a susceptibility map, if

    1. it lies within `depth` of the region's surface,
    2. that surface faces the midline or downwards, within 60 degrees, and
    3. it exceeds the median of the deeper part of the region by `contrast` robust standard
       deviations of that part, or exceeds it by half as much and is connected to such a voxel.

    If the region is darker than its surroundings, voxels with partial volume at these surfaces are
    found as well.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    region : ndarray of bool, shape (x, y, z)
        The region, on one side or both.
    mask : ndarray of bool, shape (x, y, z)
        Brain mask, whose centre defines the midline.
    voxel_size : sequence of 3 floats
        In mm.
    right, up : sequence of 3 floats
        Directions of the head's right and up in voxel axes, see
        `multiqsm.core.regions.reference.right_direction`.
    contrast : float
        Threshold, in robust standard deviations.
    depth : float
        Largest distance from the surface, mm.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        The region's voxels to leave out.

    Raises
    ------
    ValueError
        If shapes disagree, or the mask is empty.

    References
    ----------
    Chiang et al., AJNR Am J Neuroradiol 39:467-472 (2018), who left out the internal cerebral and
    basal veins by hand.
    """
    check_shapes(chi=chi, region=region, mask=mask)
    if not np.any(mask):
        raise ValueError("the mask is empty: there is no midline")
    veins = np.zeros(np.shape(region), bool)
    region = np.asarray(region, bool) & mask
    if not region.any():
        return veins
    box = ndimage.find_objects(region.view(np.uint8))[0]
    inside = region[box]
    values = np.asarray(chi)[box]
    distance, outward = _depth_and_normals(inside, voxel_size)
    medial = -np.sign(_offset(mask, voxel_size, right)[box])
    faces_midline = medial * (outward @ _unit(right))
    faces_down = -(outward @ _unit(up))
    is_facing = np.maximum(faces_midline, faces_down) >= _FACING
    deep = inside & (distance > depth)
    tissue = values[deep if np.count_nonzero(deep) >= _MIN_VOXELS else inside]
    median = np.median(tissue)
    threshold = contrast * robust_sd(tissue - median)
    superficial = inside & (distance <= depth) & is_facing
    veins[box] = _connected_to(
        superficial & (values > median + threshold),
        superficial & (values > median + threshold / 2),
    )
    return veins


def _depth_and_normals(inside, voxel_size):
    """Return the distance in mm of each voxel from the nearest one outside, and surface normals.

    The normals point outwards and have the shape (x, y, z, 3). Away from the surface they are those
    of the nearby surface.
    """
    margin = [int(np.ceil(4 * _NORMAL_SD / side)) for side in voxel_size]
    sigma = [_NORMAL_SD / side for side in voxel_size]
    padded = np.pad(inside, [(width, width) for width in margin])
    distance = ndimage.distance_transform_edt(padded, sampling=voxel_size)
    smooth = ndimage.gaussian_filter(padded.astype(np.float32), sigma)
    outward = -np.stack(np.gradient(smooth, *voxel_size), axis=-1)
    normals = outward / np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-12)
    inner = tuple(slice(width, width + n) for width, n in zip(margin, inside.shape, strict=True))
    return distance[inner], normals[inner]


def _offset(mask, voxel_size, right):
    """Return how far each voxel lies to the right of the mask's centre, mm."""
    step_x, step_y, step_z = _unit(right) * np.asarray(voxel_size)
    x, y, z = np.ix_(*map(np.arange, np.shape(mask)))
    position = step_x * x + step_y * y + step_z * z
    return position - position[np.asarray(mask, bool)].mean()


def _unit(direction):
    return np.asarray(direction, float) / np.linalg.norm(direction)


def _connected_to(seeds, candidates):
    components, n = ndimage.label(candidates, CORNERS)
    has_seed = np.zeros(n + 1, bool)
    has_seed[components[seeds]] = True
    has_seed[0] = False
    return has_seed[components]
