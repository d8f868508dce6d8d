"""The volume of interest of the thalamus: edges smoothed, and the veins along its surface left
out.
"""

import numpy as np
from scipy import ndimage

from ..mask.shapes import CORNERS
from ..robust import robust_sd

_FWHM = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian of standard deviation 1
_FACING = (
    0.5  # cosine of the greatest angle, 60 degrees, at which a surface still faces a direction
)
# mm, standard deviation of the Gaussian that surfaces are smoothed by to see where they face
_NORMAL = 1.5
_FEWEST = 20  # voxels that tell what is usual in a region


def smooth_labels(labels, voxel_size, fwhm):
    """Smooth the surfaces of labels, as contours that are drawn slice by slice or follow voxel
    edges need it.

    The indicator of each label is smoothed by a Gaussian, and in each voxel the label with the
    largest share wins, background included: where one label meets background the surface lies at a
    share of one half, and two labels that touch still do. A ball shrinks a little, by the
    Gaussian's variance over its radius.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
        0 is background.
    voxel_size : sequence of 3 floats
        In mm.
    fwhm : float
        Full width at half maximum of the Gaussian, mm; 0 leaves everything as it is.

    Returns
    -------
    ndarray, shape (x, y, z)
        Of the labels' type.

    Raises
    ------
    ValueError
        If `fwhm` is negative.

    Examples
    --------
    >>> labels = np.zeros((9, 9, 1), int)
    >>> labels[2:7, 2:7], labels[4, 7] = 3, 3
    >>> smooth_labels(labels, (1, 1, 1), 2.0)[4, :, 0].tolist()
    [0, 0, 3, 3, 3, 3, 3, 0, 0]
    """
    if fwhm < 0:
        raise ValueError(f"a width of {fwhm:g} mm smooths nothing; give 0 or more")
    labels = np.asarray(labels)
    if fwhm == 0:
        return labels
    sigma = [fwhm / _FWHM / side for side in voxel_size]
    margin = [int(np.ceil(4 * s)) for s in sigma]
    values = np.unique(labels[labels != 0])
    dense = np.where(labels != 0, np.searchsorted(values, labels) + 1, 0)
    largest = np.zeros(labels.shape, np.float32)
    background = np.ones(labels.shape, np.float32)
    out = np.zeros_like(labels)
    for index, found in enumerate(ndimage.find_objects(dense), start=1):
        box = tuple(
            slice(max(s.start - m, 0), s.stop + m) for s, m in zip(found, margin, strict=True)
        )
        share = ndimage.gaussian_filter((dense[box] == index).astype(np.float32), sigma)
        wins = share > largest[box]
        out[box] = np.where(wins, values[index - 1], out[box])
        largest[box] = np.where(wins, share, largest[box])
        background[box] -= share
    out[background >= largest] = 0
    return out


def surface_veins(chi, region, mask, voxel_size, *, right, up, contrast=3.0, depth=3.0):
    """Find voxels of a deep region that veins along its medial and its lower surface reach into.

    The internal cerebral veins run along the thalamus's medial edge, the basal veins below it. A
    voxel is taken for theirs, or for the blur of theirs in a map of susceptibility, if

    1. it lies within `depth` of the region's surface,
    2. where that surface faces the midline or down, within 60 degrees, and
    3. it exceeds the region's median by `contrast` robust standard deviations, both of what lies
       deeper; or it exceeds half of that and is connected to such a voxel.

    Where a region is darker than what surrounds it, the mixed voxels of these surfaces go as well.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    region : ndarray of bool, shape (x, y, z)
        The region, on one side or both.
    mask : ndarray of bool, shape (x, y, z)
        The brain, whose centre tells where the midline is.
    voxel_size : sequence of 3 floats
        In mm.
    right, up : sequence of 3 floats
        The head's right and up in voxel axes, see
        `multiqsm.core.regions.reference.right_direction`.
    contrast : float
        In robust standard deviations.
    depth : float
        In mm.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        Voxels of the region to leave out.

    Raises
    ------
    ValueError
        If shapes disagree, or the mask is empty.

    References
    ----------
    Chiang et al., AJNR Am J Neuroradiol 39:467-472 (2018), who left the internal cerebral and basal
    veins out by hand.
    """
    if not np.shape(chi) == np.shape(region) == np.shape(mask):
        raise ValueError(
            f"chi {np.shape(chi)}, region {np.shape(region)} and mask {np.shape(mask)} must have "
            "one shape: bring them "
            "onto one grid"
        )
    if not np.any(mask):
        raise ValueError("the mask is empty: there is no midline to find veins by")
    found = np.zeros(np.shape(region), bool)
    region = np.asarray(region, bool) & mask
    if not region.any():
        return found
    box = ndimage.find_objects(region.view(np.uint8))[0]
    inside = region[box]
    values = np.asarray(chi)[box]
    distance, outward = _depth(inside, voxel_size)
    medial = -np.sign(_offset(mask, voxel_size, right)[box])
    facing = np.maximum(medial * (outward @ _unit(right)), -(outward @ _unit(up))) >= _FACING
    deep = inside & (distance > depth)
    usual = values[deep if np.count_nonzero(deep) >= _FEWEST else inside]
    median = np.median(usual)
    threshold = contrast * robust_sd(usual - median)
    near = inside & (distance <= depth) & facing
    found[box] = _connected_to(
        near & (values > median + threshold), near & (values > median + threshold / 2)
    )
    return found


def _depth(inside, voxel_size):
    """Distance in mm of each voxel from the nearest one outside, and the surface's normal there,
    (x, y, z, 3).
    """
    margin = [int(np.ceil(4 * _NORMAL / side)) for side in voxel_size]
    padded = np.pad(inside, [(m, m) for m in margin])
    inner = tuple(slice(m, m + n) for m, n in zip(margin, inside.shape, strict=True))
    distance = ndimage.distance_transform_edt(padded, sampling=voxel_size)
    share = ndimage.gaussian_filter(
        padded.astype(np.float32), [_NORMAL / side for side in voxel_size]
    )
    outward = -np.stack(np.gradient(share, *voxel_size), axis=-1)
    return distance[inner], (
        outward / np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-12)
    )[inner]


def _offset(mask, voxel_size, right):
    """How far each voxel lies to the right of the mask's centre, mm."""
    step = _unit(right) * np.asarray(voxel_size)
    index = np.ix_(*(np.arange(n) for n in np.shape(mask)))
    along = sum(s * i for s, i in zip(step, index, strict=True))
    return along - along[np.asarray(mask, bool)].mean()


def _unit(direction):
    return np.asarray(direction, float) / np.linalg.norm(direction)


def _connected_to(seeds, candidates):
    pieces, n = ndimage.label(candidates, CORNERS)
    kept = np.zeros(n + 1, bool)
    kept[pieces[seeds]] = True
    kept[0] = False
    return kept[pieces]
