"""The region whose mean susceptibility is zero: CSF of the lateral ventricles, found by itself or
by its label.
"""

import re
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..grid import box_around
from ..mask.shapes import dilate, erode
from ..robust import robust_sd

# Tissue has an R2* of 15 to 20/s at 3 T, CSF of 2 to 3/s: a third of the brain's median lies
# between the two, and follows field strength and shim, which raise both.
_SHARE_OF_TISSUE = 1 / 3

# R2* is averaged by a Gaussian of so many mm, small against the body of a ventricle (radius 6 mm
# and more); as wide as it takes to bring noise down to this share of the threshold.
_SMOOTHING = (1.0, 2.0)
_NOISE_SHARE = 1 / 3

# The voxels at the border are left out, in every direction one, and as many as lie within this
# distance in mm.
_RIM = 1.5

# Where lateral ventricles lie, mm: from the mask's surface (sulci and Sylvian fissures are nearer);
# from the mask's centroid; and from the midsagittal plane, near which are third ventricle, cisterns
# and the fissure between the hemispheres.
_DEPTH = 15.0
_REACH = 50.0
_LATERAL_REACH = 35.0
_MIDLINE = 4.0
_USUAL_OFFSET = 8.0
_ROOM = 15.0  # looked at beyond the reach, so that components are seen whole where it matters

# Signal in the ventricles may be low, but not that low a share of the median: below, R2* means
# nothing.
_SIGNAL = 0.1

# Components below this volume in mL are no part of a ventricle that one would measure in.
_SPECK = 0.05
_CSF = (
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
        Of this, mL.
    volume_left, volume_right : float
        Of its parts on either side of the mask's centroid, mL.
    mean_r2star : float
        Over the mask, 1/s.
    threshold : float
        R2* below which a voxel was taken for CSF, 1/s.
    """

    mask: np.ndarray
    volume: float
    volume_left: float
    volume_right: float
    mean_r2star: float
    threshold: float


def find_csf(
    r2star,
    magnitude,
    mask,
    voxel_size,
    *,
    right=(1, 0, 0),
    threshold=None,
    minimum=0.3,
    maximum=150.0,
):
    """Find the CSF of the lateral ventricles by R2* and position.

    1. Candidates: voxels with signal, and R2* below ``threshold`` after smoothing by a Gaussian of
       1 mm, or up to 2 mm as noise demands.
    2. Opening: the border of the candidates, 1.5 mm and at least one voxel, is taken off, and what
       is left is grown back by as much. Sulci, and bridges of noise between ventricles and
       cisterns, are gone.
    3. Position: of the components, those that come within 50 mm of the mask's centroid and have at
       least half of their voxels 8 mm or more off the midsagittal plane. Third and fourth ventricle
       and the cisterns are in the middle.
    4. Of these without their border, what is deeper than 15 mm and 4 to 35 mm off the plane.

    Parameters
    ----------
    r2star : ndarray, shape (x, y, z)
        R2*, 1/s.
    magnitude : ndarray, shape (x, y, z)
        Magnitude, echoes combined, any unit.
    mask : ndarray of bool, shape (x, y, z)
        The brain with its ventricles. A slab must hold the brain's middle, and its volume's faces
        are no border.
    voxel_size : sequence of 3 floats
        In mm.
    right : sequence of 3 floats
        Direction of the head's right in voxel axes, see `right_direction`. A head turned or tilted
        by 6 degrees does no harm; one tilted by 10 may let a little of the fissure between the
        hemispheres in.
    threshold : float, optional
        In 1/s. By default a third of the mask's median, near 5/s at 3 T.
    minimum, maximum : float
        Plausible volumes without border, mL. The ventricles of the young have 10 to 20 mL, half of
        them border.

    Returns
    -------
    VentricularCsf

    Raises
    ------
    ValueError
        If nothing plausible is found, with what was; if shapes disagree or the mask is empty.

    References
    ----------
    Liu et al., Magn Reson Med 79:2795-2803 (2018), who take what has an R2* below 5/s within 30 mm
    of the centroid.
    """
    mask = np.asarray(mask, bool)
    if not (r2star.shape == magnitude.shape == mask.shape):
        raise ValueError(
            f"R2* {r2star.shape}, magnitude {magnitude.shape} and mask {mask.shape} must have one "
            "shape"
        )
    if not mask.any():
        raise ValueError("the mask is empty: there is no brain to find ventricles in")
    if not np.isfinite(r2star[mask]).all():
        raise ValueError("R2* is not finite within the mask")
    tissue = float(np.median(r2star[mask]))
    if tissue <= 0:
        raise ValueError(
            f"the median of R2* in the mask is {tissue:.3g}/s: no CSF can be told from tissue by it"
        )
    threshold = tissue * _SHARE_OF_TISSUE if threshold is None else float(threshold)

    deep = erode(mask, voxel_size, _DEPTH)
    signal = magnitude > _SIGNAL * np.median(magnitude[mask])
    distance, offset = _position(mask, voxel_size, right)
    # What lies far from the centroid needs no look.
    box = box_around(distance < _REACH + _ROOM)
    inside = mask[box]
    distance = distance[box]
    offset = offset[box]
    smooth = _denoise(np.clip(r2star[box], -tissue, 3 * tissue), inside, threshold, voxel_size)
    candidates = inside & signal[box] & (smooth < threshold)
    core = _without_rim(candidates, voxel_size)
    ventricles = _lateral_components(
        candidates & dilate(core, voxel_size, _thickness(voxel_size)), distance, offset
    )
    ventricles &= core & deep[box] & (distance < _REACH)
    ventricles &= (np.abs(offset) > _MIDLINE) & (np.abs(offset) < _LATERAL_REACH)
    ventricles = _without_specks(ventricles, voxel_size)

    millilitres = float(np.prod(voxel_size)) / 1000
    volume = int(np.count_nonzero(ventricles)) * millilitres
    if not minimum <= volume <= maximum:
        candidate_volume, core_volume = (
            np.count_nonzero(voxels) * millilitres for voxels in (candidates, core)
        )
        raise ValueError(
            f"No plausible lateral ventricles: {volume:.2f} mL where {minimum:g} to {maximum:g} mL "
            "are expected. "
            f"R2* (median of the mask: {tissue:.3g}/s) is below {threshold:.2g}/s in "
            f"{candidate_volume:.1f} mL around "
            f"the brain's middle, of which {core_volume:.1f} mL are no border. Look at the R2* "
            "map, draw the reference "
            "by hand, or refer to the whole brain."
        )
    found = np.zeros(mask.shape, bool)
    found[box] = ventricles
    values = r2star[found].astype(np.float64)
    return VentricularCsf(
        mask=found,
        volume=volume,
        volume_left=int(np.count_nonzero(ventricles & (offset < 0))) * millilitres,
        volume_right=int(np.count_nonzero(ventricles & (offset > 0))) * millilitres,
        mean_r2star=float(values.mean()),
        threshold=threshold,
    )


def right_direction(affine):
    """Direction of the head's right (the scanner's x axis) in voxel axes.

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


def reference_region(name, labels, names, mask):
    """Take the region that is to be the reference by its name.

    Parameters
    ----------
    name : str
        ``brain`` for the whole mask; the name of a label; or ``csf``, in whatever case, which is
        also a label called CSF, (lateral) ventricle or ventricles, with or without a side, all of
        them together. A label of exactly this name comes first.
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
        If there is no such label, or it has no voxel in the mask.

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
        indices = [index for index, label in names.items() if _plain(label) in _CSF]
    if not indices:
        raise ValueError(
            f"no label {name!r} to refer to; the labels are: {', '.join(names.values()) or 'none'}"
        )
    region = np.isin(labels, indices) & mask
    if not region.any():
        raise ValueError(f"label {name!r} has no voxel within the mask to refer to")
    return region


def _plain(label):
    """The label's name in lower case and without its side."""
    return _SIDE.sub("", re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_"))


def _noise_sd(image, mask):
    """Standard deviation of what differs between neighbours, of which tissue has little."""
    differences = []
    for axis in range(3):
        both = np.minimum(*(np.moveaxis(mask, axis, 0)[part] for part in (np.s_[1:], np.s_[:-1])))
        differences.append(np.diff(np.moveaxis(image, axis, 0), axis=0)[both])
    difference = np.concatenate(differences)
    return robust_sd(difference) / np.sqrt(2) if difference.size else 0.0


def _denoise(image, mask, threshold, voxel_size):
    """Smooth over the mask alone, as wide as noise demands: a Gaussian averages over (2 √π width)³
    of volume.
    """
    image = np.where(mask, image, 0).astype(np.float32)
    wanted = max(threshold, 1e-6) * _NOISE_SHARE
    width = np.cbrt(np.prod(voxel_size) * (_noise_sd(image, mask) / wanted) ** 2) / (
        2 * np.sqrt(np.pi)
    )
    sigma = [float(np.clip(width, *_SMOOTHING)) / side for side in voxel_size]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(image, sigma)
    return np.divide(total, weight, out=np.zeros_like(total), where=mask & (weight > 0))


def _without_rim(candidates, voxel_size):
    cross = ndimage.generate_binary_structure(3, 1)
    inside = ndimage.binary_erosion(candidates, cross, border_value=1)
    return inside & erode(candidates, voxel_size, _RIM)


def _thickness(voxel_size):
    """How far in mm `_without_rim` reaches in."""
    return max(_RIM, *voxel_size)


def _position(mask, voxel_size, right):
    """Distance in mm of each voxel from the mask's centroid, and how far to the right of it."""
    right = np.asarray(right, float) / np.linalg.norm(right)
    square = np.float32(0)
    offset = np.float32(0)
    for axis, (side, share) in enumerate(zip(voxel_size, right, strict=True)):
        counts = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        index = np.arange(mask.shape[axis])
        along = np.float32((index - counts @ index / counts.sum()) * side)
        along = along.reshape([-1 if a == axis else 1 for a in range(3)])
        square = square + along**2
        offset = offset + np.float32(share) * along
    return np.sqrt(square), np.broadcast_to(offset, mask.shape)


def _lateral_components(mask, distance, offset):
    """Components near the centroid that lie to the side of the midsagittal plane for the most
    part.
    """
    components, n = ndimage.label(mask)
    if n == 0:
        return mask
    index = np.arange(1, n + 1)
    near = ndimage.minimum(distance, components, index) < _REACH
    lateral = ndimage.median(np.abs(offset), components, index) >= _USUAL_OFFSET
    return np.concatenate([[False], near & lateral])[components]


def _without_specks(mask, voxel_size):
    """The mask's components of some size."""
    components, _ = ndimage.label(mask)
    kept = np.bincount(components.ravel()) * np.prod(voxel_size) / 1000 >= _SPECK
    kept[0] = False
    return kept[components]
