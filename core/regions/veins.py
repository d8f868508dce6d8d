"""Find veins in a susceptibility map: they are long, thin and paramagnetic."""

import numpy as np
from scipy import ndimage

from ..grid import Vector, box_around, check_shapes
from ..mask.shapes import CORNERS
from ..robust import robust_sd


def vein_mask(
    chi: np.ndarray,
    labels: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    contrast: float = 3.0,
    radius: float = 1.0,
    length: float = 6.0,
) -> np.ndarray:
    """Find the voxels of regions through which a vein passes.

    A voxel belongs to a vein if

    1. it is part of a bright tube: minus the middle eigenvalue of the Hessian of `chi`, smoothed to
       the vein's width, exceeds ``contrast`` robust standard deviations within the mask (a sheet is
       curved in one direction only, and the inside of a nucleus in none);
    2. the connected tube is at least ``length`` long, unlike noise and small bleeds; and
    3. it exceeds the median of its own region by more than ``contrast`` robust standard deviations.

    The third condition protects thin nuclei, which are not brighter than their own median. It also
    requires that a region is mostly tissue: in a label drawn around a vein, the vein is not found.
    Robust standard deviations are 1.4826 times the median absolute deviation.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    labels : ndarray of int, shape (x, y, z)
        Regions in which to find veins; 0 is no region.
    mask : ndarray of bool, shape (x, y, z)
        Where `chi` is valid.
    voxel_size : sequence of 3 floats
        In mm.
    contrast : float
        Threshold, in robust standard deviations. With the default, hardly any voxel is found in a
        noisy nucleus without a vein.
    radius : float
        Radius of the veins, mm. The default is that of the internal cerebral and basal veins. Veins
        of twice this radius are found as well.
    length : float
        Length of the shortest vein, mm, measured by the diagonal of its bounding box.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        For the argument ``exclude`` of `multiqsm.core.regions.statistics.roi_statistics`.

    Raises
    ------
    ValueError
        If shapes disagree or the mask is empty.

    References
    ----------
    Sato et al., Med Image Anal 2:143-168 (1998), for tubes from eigenvalues of the Hessian.
    """
    check_shapes(chi=chi, labels=labels, mask=mask)
    if not np.any(mask):
        raise ValueError("the mask is empty: there is no susceptibility")
    veins = np.zeros(mask.shape, bool)
    inside = np.asarray(mask, bool) & (labels > 0)
    if not inside.any():
        return veins
    # A short part of a long vein may lie within a region: tubes are searched beyond the regions.
    margin = [int(np.ceil((length + 3 * radius) / side)) for side in voxel_size]
    box = box_around(inside, margin)
    inside_mask = np.where(mask, chi, 0)[box]
    tubes = mask[box] & _is_tube(inside_mask, mask[box], voxel_size, radius, contrast)
    tubes = _long_components(tubes, voxel_size, length)
    for label in np.unique(labels[inside]):
        region = inside[box] & (labels[box] == label)
        values = chi[box][region]
        median = np.median(values)
        threshold = median + contrast * robust_sd(values - median)
        veins[box] |= region & tubes & (chi[box] > threshold)
    return veins


def _is_tube(chi, mask, voxel_size, radius, contrast):
    """Return voxels where susceptibility curves downwards in at least two directions."""
    sigma = [radius / side for side in voxel_size]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(chi.astype(np.float32), sigma) / np.maximum(
        weight, np.float32(1e-3)
    )
    curvature = -np.linalg.eigvalsh(_hessian(smooth, voxel_size))[..., 1]
    typical = curvature[mask]
    return curvature > contrast * robust_sd(typical - np.median(typical))


def _hessian(image, voxel_size):
    """Return the second derivatives, shape (x, y, z, 3, 3).

    They are finite differences, since the derivatives of a sampled Gaussian are inaccurate with
    coarse voxels.
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
    """Return components in a bounding box whose diagonal is long enough.

    Voxels that share a corner are connected.
    """
    components, _ = ndimage.label(mask, CORNERS)
    long = np.zeros_like(mask)
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        size = np.array([part.stop - part.start for part in box])
        if np.linalg.norm(size * voxel_size) >= length:
            long[box] |= components[box] == index
    return long
