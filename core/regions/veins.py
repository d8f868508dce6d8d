"""Veins in a susceptibility map: long, thin and paramagnetic."""

import numpy as np
from scipy import ndimage

from ..grid import box_around, check_shapes
from ..mask.shapes import CORNERS
from ..robust import robust_sd


def vein_mask(chi, labels, mask, voxel_size, *, contrast=3.0, radius=1.0, length=6.0):
    """Find the voxels of regions that a vein passes through.

    A voxel is a vein's if

    1. it is part of something thin and bright in all directions but one: minus the middle
       eigenvalue of the Hessian of `chi`, smoothed to the vein's width, exceeds ``contrast`` robust
       standard deviations within the mask (a sheet has no second curvature, and the inside of a
       nucleus none at all);
    2. what is connected with it like that is at least ``length`` long, which noise and small bleeds
       are not; and
    3. it is brighter than its own region's median by more than ``contrast`` robust standard
       deviations.

    The third rule protects thin nuclei, which are not brighter than they are themselves. It also
    means that a region must be mostly tissue: a label drawn around a vein keeps it. Robust standard
    deviations are 1.4826 times the median absolute deviation.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    labels : ndarray of int, shape (x, y, z)
        Regions to look in; 0 is no region.
    mask : ndarray of bool, shape (x, y, z)
        Where `chi` is known.
    voxel_size : sequence of 3 floats
        In mm.
    contrast : float
        In robust standard deviations. The default leaves a nucleus with noise but no vein as it is.
    radius : float
        Of the veins, mm. The default is that of the internal cerebral and basal veins; twice as
        wide ones are found as well.
    length : float
        Of the shortest piece of vein that counts, mm: diagonal of the box around it.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        To be given to `multiqsm.core.regions.statistics.roi_statistics` as ``exclude``.

    Raises
    ------
    ValueError
        If shapes disagree or the mask is empty.

    References
    ----------
    Sato et al., Med Image Anal 2:143-168 (1998), for tubes by the eigenvalues of the Hessian.
    """
    check_shapes(chi=chi, labels=labels, mask=mask)
    if not np.any(mask):
        raise ValueError("the mask is empty: there is nowhere to look for veins")
    found = np.zeros(mask.shape, bool)
    inside = np.asarray(mask, bool) & (labels > 0)
    if not inside.any():
        return found
    # Veins are followed a little beyond the regions: what matters is how long they are, not how
    # long in here.
    margin = [int(np.ceil((length + 3 * radius) / side)) for side in voxel_size]
    box = box_around(inside, margin)
    tubes = mask[box] & _is_tube(
        np.where(mask, chi, 0)[box], mask[box], voxel_size, radius, contrast
    )
    tubes = _long_components(tubes, voxel_size, length)
    for label in np.unique(labels[inside]):
        region = inside[box] & (labels[box] == label)
        values = chi[box][region]
        median = np.median(values)
        found[box] |= region & tubes & (chi[box] > median + contrast * robust_sd(values - median))
    return found


def _is_tube(chi, mask, voxel_size, radius, contrast):
    """Voxels where susceptibility curves down in two directions at least."""
    sigma = [radius / side for side in voxel_size]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(chi.astype(np.float32), sigma) / np.maximum(
        weight, np.float32(1e-3)
    )
    curvature = -np.linalg.eigvalsh(_hessian(smooth, voxel_size))[..., 1]
    usual = curvature[mask]
    return curvature > contrast * robust_sd(usual - np.median(usual))


def _hessian(image, voxel_size):
    """Second derivatives, shape (x, y, z, 3, 3); not by smoothing's own, which fail for coarse
    voxels.
    """
    hessian = np.empty((*image.shape, 3, 3), np.float32)
    for i, side in enumerate(voxel_size):
        hessian[..., i, i] = (
            ndimage.correlate1d(image, [1, -2, 1], axis=i, mode="nearest") / side**2
        )
        slope = ndimage.correlate1d(image, [-0.5, 0, 0.5], axis=i, mode="nearest") / side
        for j in range(i + 1, 3):
            mixed = (
                ndimage.correlate1d(slope, [-0.5, 0, 0.5], axis=j, mode="nearest") / voxel_size[j]
            )
            hessian[..., i, j] = hessian[..., j, i] = mixed
    return hessian


def _long_components(mask, voxel_size, length):
    """Components, corners included, in a box whose diagonal is long enough."""
    components, _ = ndimage.label(mask, CORNERS)
    kept = np.zeros_like(mask)
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        extent = [
            (part.stop - part.start) * side for part, side in zip(box, voxel_size, strict=True)
        ]
        if np.linalg.norm(extent) >= length:
            kept[box] |= components[box] == index
    return kept
