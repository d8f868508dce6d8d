"""The region whose mean susceptibility is set to zero.

It is CSF of the lateral ventricles, found automatically, or a label.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ..grid import Vector, box_around
from ..mask.shapes import dilate, erode
from ..robust import robust_sd

# At 3 T, tissue has an R2* of 15 to 20/s and CSF of 2 to 3/s. A third of the brain's median lies
# between the two, and scales with field strength and shim, which affect both.
_FRACTION_OF_TISSUE = 1 / 3

# Width in mm of the Gaussian that smooths R2*: small compared with the body of a ventricle (radius
# 6 mm and more), and just wide enough to reduce noise to this fraction of the threshold.
_SMOOTHING = (1.0, 2.0)
_NOISE_FRACTION = 1 / 3

# Voxels within this distance of the border in mm are left out, at least one voxel in each
# direction: they contain tissue.
_RIM = 1.5

# Position of the lateral ventricles, in mm. They are deeper below the mask's surface than sulci and
# Sylvian fissures, and within a reach of the mask's centroid. They lie off the midsagittal plane,
# near which are the third ventricle, cisterns and the interhemispheric fissure.
_DEPTH = 15.0
_REACH = 50.0
_LATERAL_REACH = 35.0
_MIDLINE = 4.0
_USUAL_OFFSET = 8.0
_MARGIN = 15.0  # searched beyond the reach, so that components near it are complete

# Below this fraction of the median signal, which is lower than that of CSF, R2* is meaningless.
_SIGNAL = 0.1

# Smaller components, in mL, are noise.
_SPECK = 0.05

_CSF_LABELS = (
    "csf",
    "cerebrospinal_fluid",
    "lateral_ventricle",
    "lateral_ventricles",
    "ventricle",
    "ventricles",
)
_SIDE = re.compile(r"^(left|right|lh|rh|l|r)_|_(left|right|lh|rh|l|r)$")


@dataclass(frozen=True)
class VentricularCsf:
    """Result of `find_csf`.

    Attributes
    ----------
    mask : ndarray of bool, shape (x, y, z)
        CSF in the lateral ventricles, without its border.
    volume : float
        Its volume, mL.
    volume_left, volume_right : float
        Volume on either side of the brain mask's centroid, mL.
    mean_r2star : float
        Mean R2* in it, 1/s.
    threshold : float
        R2* below which voxels were considered CSF, 1/s.
    """

    mask: np.ndarray
    volume: float
    volume_left: float
    volume_right: float
    mean_r2star: float
    threshold: float


def find_csf(
    r2star: np.ndarray,
    magnitude: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    right: Vector = (1, 0, 0),
    threshold: float | None = None,
    minimum: float = 0.3,
    maximum: float = 150.0,
) -> VentricularCsf:
    """Find the CSF of the lateral ventricles by R2* and position.

    1. Candidates are voxels with signal, whose R2* is below ``threshold`` after smoothing by a
       Gaussian of 1 mm, or up to 2 mm depending on noise.
    2. The candidates are opened: their border, 1.5 mm and at least one voxel, is removed, and the
       rest is dilated by as much. This removes sulci, and bridges of noise between ventricles and
       cisterns.
    3. Of the components, those are selected that come within 50 mm of the mask's centroid and have
       at least half of their voxels 8 mm or more off the midsagittal plane. This excludes the third
       and fourth ventricle and the cisterns.
    4. Of these components without their border, the result is what is deeper than 15 mm and 4 to
       35 mm off the plane.

    Parameters
    ----------
    r2star : ndarray, shape (x, y, z)
        R2*, 1/s.
    magnitude : ndarray, shape (x, y, z)
        Magnitude of combined echoes, any unit.
    mask : ndarray of bool, shape (x, y, z)
        The brain with its ventricles. A slab must contain the middle of the brain. The faces of the
        volume are not borders.
    voxel_size : sequence of 3 floats
        In mm.
    right : sequence of 3 floats
        Direction of the head's right in voxel axes, see `right_direction`. A rotation of the head
        by 6 degrees has no effect; with 10 degrees, the result may include a small part of the
        interhemispheric fissure.
    threshold : float, optional
        In 1/s. By default a third of the mask's median, near 5/s at 3 T.
    minimum, maximum : float
        Plausible volumes without border, mL. The ventricles of young people have 10 to 20 mL, half
        of which is border.

    Returns
    -------
    VentricularCsf

    Raises
    ------
    ValueError
        If the volume is implausible, shapes disagree or the mask is empty.

    References
    ----------
    Liu et al., Magn Reson Med 79:2795-2803 (2018), who select voxels with an R2* below 5/s within
    30 mm of the centroid.
    """
    mask = np.asarray(mask, bool)
    if not (r2star.shape == magnitude.shape == mask.shape):
        raise ValueError(
            f"R2* {r2star.shape}, magnitude {magnitude.shape} and mask {mask.shape} must have one "
            "shape"
        )
    if not mask.any():
        raise ValueError("the mask is empty: there is no brain in which to find ventricles")
    if not np.isfinite(r2star[mask]).all():
        raise ValueError("R2* is not finite within the mask")
    tissue = float(np.median(r2star[mask]))
    if tissue <= 0:
        raise ValueError(
            f"the median of R2* in the mask is {tissue:.3g}/s, which must be positive to "
            "distinguish CSF from tissue: check the echo times and the magnitude"
        )
    threshold = tissue * _FRACTION_OF_TISSUE if threshold is None else float(threshold)

    deep = erode(mask, voxel_size, _DEPTH)
    signal = magnitude > _SIGNAL * np.median(magnitude[mask])
    distance, offset = _position(mask, voxel_size, right)
    box = box_around(distance < _REACH + _MARGIN)
    inside = mask[box]
    distance = distance[box]
    offset = offset[box]
    smooth = _denoise(np.clip(r2star[box], -tissue, 3 * tissue), inside, threshold, voxel_size)
    candidates = inside & signal[box] & (smooth < threshold)
    core = _without_rim(candidates, voxel_size)
    opened = candidates & dilate(core, voxel_size, _rim_thickness(voxel_size))
    ventricles = _lateral_components(opened, distance, offset)
    ventricles &= core & deep[box] & (distance < _REACH)
    ventricles &= (np.abs(offset) > _MIDLINE) & (np.abs(offset) < _LATERAL_REACH)
    ventricles = _without_specks(ventricles, voxel_size)

    millilitres = float(np.prod(voxel_size)) / 1000
    volume = int(np.count_nonzero(ventricles)) * millilitres
    if not minimum <= volume <= maximum:
        candidate_volume = np.count_nonzero(candidates) * millilitres
        core_volume = np.count_nonzero(core) * millilitres
        raise ValueError(
            f"No plausible lateral ventricles: {volume:.2f} mL where {minimum:g} to {maximum:g} mL "
            f"are expected. R2* (median of the mask: {tissue:.3g}/s) is below {threshold:.2g}/s in "
            f"{candidate_volume:.1f} mL around the brain's middle, {core_volume:.1f} mL of which "
            "remain without border. Check the R2* map, draw the reference by hand, or use the "
            "whole brain as reference."
        )
    csf = np.zeros(mask.shape, bool)
    csf[box] = ventricles
    values = r2star[csf].astype(np.float64)
    return VentricularCsf(
        mask=csf,
        volume=volume,
        volume_left=int(np.count_nonzero(ventricles & (offset < 0))) * millilitres,
        volume_right=int(np.count_nonzero(ventricles & (offset > 0))) * millilitres,
        mean_r2star=float(values.mean()),
        threshold=threshold,
    )


def right_direction(affine: ArrayLike) -> np.ndarray:
    """Return the direction of the head's right (the scanner's x axis) in voxel axes.

    Parameters
    ----------
    affine : array_like, shape (4, 4)
        Voxel-to-scanner affine (NIfTI, mm).

    Returns
    -------
    ndarray, shape (3,)
        Unit vector.

    Examples
    --------
    >>> right_direction(np.diag([-1, 1, 2, 1])).tolist()
    [-1.0, 0.0, 0.0]
    """
    columns = np.asarray(affine, float)[:3, :3]
    direction = (columns / np.linalg.norm(columns, axis=0))[0]
    return direction / np.linalg.norm(direction)


def reference_region(
    name: str, labels: np.ndarray, names: Mapping[int, str], mask: np.ndarray
) -> np.ndarray:
    """Return the reference region with a given name.

    Parameters
    ----------
    name : str
        ``brain`` for the whole mask; the name of a label; or ``csf`` in any case, which stands for
        all labels called CSF, (lateral) ventricle or ventricles together, with or without a side. A
        label of exactly this name has precedence.
    labels : ndarray of int, shape (x, y, z)
        Label image.
    names : mapping of int to str
        Name of each label.
    mask : ndarray of bool, shape (x, y, z)
        The brain.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        The region within the mask.

    Raises
    ------
    ValueError
        If there is no such label, or no voxel of it lies in the mask.

    Examples
    --------
    >>> labels = np.array([[[1, 2, 3]]])
    >>> names = {1: "Left-Lateral-Ventricle", 2: "Right-Lateral-Ventricle", 3: "putamen"}
    >>> reference_region("csf", labels, names, labels > 0).astype(int).tolist()
    [[[1, 1, 0]]]
    """
    mask = np.asarray(mask, bool)
    indices = [index for index, label in names.items() if label == name]
    if not indices and name == "brain":
        return mask
    if not indices and name.lower() == "csf":
        indices = [index for index, label in names.items() if _is_csf(label)]
    if not indices:
        raise ValueError(
            f"no label {name!r} for the reference; the labels are: "
            f"{', '.join(names.values()) or 'none'}"
        )
    region = np.isin(labels, indices) & mask
    if not region.any():
        raise ValueError(f"label {name!r} has no voxel within the mask: choose another reference")
    return region


def _is_csf(label):
    name = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return _SIDE.sub("", name) in _CSF_LABELS


def _noise_sd(image, mask):
    """Return the standard deviation of noise, estimated from differences between neighbours.

    Tissue contributes little to these differences.
    """
    differences = []
    for axis in range(3):
        inside = np.moveaxis(mask, axis, 0)
        are_inside = inside[1:] & inside[:-1]
        differences.append(np.diff(np.moveaxis(image, axis, 0), axis=0)[are_inside])
    difference = np.concatenate(differences)
    return robust_sd(difference) / np.sqrt(2) if difference.size else 0.0


def _denoise(image, mask, threshold, voxel_size):
    """Smooth within the mask, just wide enough for the noise.

    A Gaussian averages over a volume of (2 √π width)³.
    """
    image = np.where(mask, image, 0).astype(np.float32)
    target_sd = max(threshold, 1e-6) * _NOISE_FRACTION
    volume = np.prod(voxel_size) * (_noise_sd(image, mask) / target_sd) ** 2
    width = np.cbrt(volume) / (2 * np.sqrt(np.pi))
    sigma = [float(np.clip(width, *_SMOOTHING)) / side for side in voxel_size]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(image, sigma)
    return np.divide(total, weight, out=np.zeros_like(total), where=mask & (weight > 0))


def _without_rim(candidates, voxel_size):
    cross = ndimage.generate_binary_structure(3, 1)
    inside = ndimage.binary_erosion(candidates, cross, border_value=1)
    return inside & erode(candidates, voxel_size, _RIM)


def _rim_thickness(voxel_size):
    """Return how much `_without_rim` removes, mm."""
    return max(_RIM, *voxel_size)


def _position(mask, voxel_size, right):
    """Return the distance of each voxel from the mask's centroid, and its offset to the right.

    Both are in mm.
    """
    right = np.asarray(right, float) / np.linalg.norm(right)
    coordinates = []
    for axis, side in enumerate(voxel_size):
        counts = np.moveaxis(mask, axis, 0).sum(axis=(1, 2))
        index = np.arange(mask.shape[axis])
        coordinates.append(np.float32((index - counts @ index / counts.sum()) * side))
    x, y, z = np.ix_(*coordinates)
    right_x, right_y, right_z = np.float32(right)
    offset = right_x * x + right_y * y + right_z * z
    return np.sqrt(x**2 + y**2 + z**2), offset


def _lateral_components(mask, distance, offset):
    """Return components near the centroid, most voxels of which lie off the midsagittal plane."""
    components, n = ndimage.label(mask)
    if n == 0:
        return mask
    index = np.arange(1, n + 1)
    near = ndimage.minimum(distance, components, index) < _REACH
    lateral = ndimage.median(np.abs(offset), components, index) >= _USUAL_OFFSET
    return np.concatenate([[False], near & lateral])[components]


def _without_specks(mask, voxel_size):
    """Return the mask without its smallest components."""
    components, _ = ndimage.label(mask)
    is_large = np.bincount(components.ravel()) * np.prod(voxel_size) / 1000 >= _SPECK
    is_large[0] = False
    return is_large[components]
