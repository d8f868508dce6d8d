"""Regions of interest: their susceptibility, the veins in them, and the reference that it is given relative to."""

import numpy as np
import pandas as pd
from scipy import ndimage

from .mask import erode


def subtract_reference(chi, mask, region):
    """Give susceptibility relative to a region's mean: an inversion leaves a constant open.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Where `chi` is known; it stays zero elsewhere.
    region : ndarray of bool, shape (x, y, z)
        Reference region; its voxels outside the mask do not count.

    Returns
    -------
    referenced : ndarray of float32, shape (x, y, z)
        Susceptibility relative to the region's mean, ppm.
    offset : float
        The mean that was subtracted, ppm.
    spread : float
        Standard deviation of the susceptibility in the region, ppm.

    Raises
    ------
    ValueError
        If no voxel of the region lies inside the mask.

    Examples
    --------
    >>> chi = np.array([[[0.1, 0.3, 0.0]]])
    >>> mask = np.array([[[True, True, False]]])
    >>> subtract_reference(chi, mask, mask)[0].round(2).tolist()
    [[[-0.10000000149011612, 0.10000000149011612, 0.0]]]
    """
    values = chi[region & mask]
    if not values.size:
        raise ValueError("the reference region has no voxel inside the mask")
    offset = float(values.mean(dtype=np.float64))
    return np.where(mask, chi - offset, 0).astype(np.float32), offset, float(values.std(dtype=np.float64))


def roi_statistics(chi, labels, names, mask, voxel_size, *, erosion=0.0, exclude=None):
    """Summarise susceptibility in every named region.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    labels : ndarray of int, shape (x, y, z)
        Label image; 0 is no region.
    names : mapping of int to str
        Name of each label. Labels that share a name, such as a nucleus's left and right part, are one region.
    mask : ndarray of bool, shape (x, y, z)
        Where `chi` is known; a region's voxels outside it do not count.
    voxel_size : sequence of 3 floats
        In mm.
    erosion : float
        Voxels within this distance in mm of a region's outside do not count, see `multiqsm.core.mask.erode`.
    exclude : ndarray of bool, shape (x, y, z), optional
        Voxels that do not count, such as those of `vein_mask`.

    Returns
    -------
    pandas.DataFrame
        One row a name, in the order of `names`, with the columns

        * ``roi``: the name;
        * ``mean``, ``sd``, ``median`` in ppm: over the voxels that count; ``sd`` is the sample's (n - 1);
        * ``n_voxels``: how many they are;
        * ``volume`` in mL: of these;
        * ``n_excluded``: how many more `exclude` took away.

        A region without voxels has ``n_voxels`` and ``volume`` 0 and not-a-number for the rest.

    Raises
    ------
    ValueError
        If shapes disagree, there is no name, or `chi` is not finite in a voxel that counts.

    Examples
    --------
    >>> chi, labels = np.array([[[0.1, 0.3, 0.5]]]), np.array([[[1, 1, 0]]])
    >>> table = roi_statistics(chi, labels, {1: "putamen", 2: "caudate"}, labels > 0, (1, 1, 2))
    >>> table[["roi", "mean", "n_voxels"]].to_numpy().tolist()
    [['putamen', 0.2, 2], ['caudate', nan, 0]]
    """
    arrays = {"chi": chi, "labels": labels, "mask": mask}
    if exclude is not None:
        arrays["exclude"] = exclude
    _check_shapes(**arrays)
    if not names:
        raise ValueError("no label has a name: give at least one")
    if erosion < 0:
        raise ValueError(f"an erosion of {erosion:g} mm would grow the regions; give 0 or more")
    rows = []
    for name, box, kept, n_excluded in regions_measured(
        labels, names, mask, voxel_size, erosion=erosion, exclude=exclude
    ):
        rows.append({"roi": name, **_summary(name, chi[box][kept], voxel_size), "n_excluded": n_excluded})
    return pd.DataFrame(rows)


def regions_measured(labels, names, mask, voxel_size, *, erosion=0.0, exclude=None):
    """Voxels of every named region that count.

    Parameters
    ----------
    labels, names, mask, voxel_size, erosion, exclude
        As of `roi_statistics`.

    Yields
    ------
    name : str
        Of the region, in the order of `names`.
    box : tuple of slice
        Part of the volume that holds it.
    kept : ndarray of bool
        Its voxels that count, in the box.
    n_excluded : int
        How many more `exclude` took away.
    """
    indices = {}
    for index, name in names.items():
        indices.setdefault(name, []).append(index)
    for name, members in indices.items():
        box, region = _region_of(labels, members)
        region = region & mask[box] if erosion == 0 else erode(region, voxel_size, erosion) & mask[box]
        kept = region if exclude is None else region & ~exclude[box]
        yield name, box, kept, int(np.count_nonzero(region) - np.count_nonzero(kept))


def vein_mask(chi, labels, mask, voxel_size, *, contrast=3.0, radius=1.0, length=6.0):
    """Find the voxels of regions that a vein passes through.

    A voxel is a vein's if

    1. it is part of something thin and bright in all directions but one: minus the middle eigenvalue of the
       Hessian of `chi`, smoothed to the vein's width, exceeds ``contrast`` robust standard deviations within the mask
       (a sheet has no second curvature, and the inside of a nucleus none at all);
    2. what is connected with it like that is at least ``length`` long, which noise and small bleeds are not; and
    3. it is brighter than its own region's median by more than ``contrast`` robust standard deviations.

    The third rule protects thin nuclei, which are not brighter than they are themselves. It also means that a region
    must be mostly tissue: a label drawn around a vein keeps it. Robust standard deviations are 1.4826 times
    the median absolute deviation.

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
        Of the veins, mm. The default is that of the internal cerebral and basal veins; twice as wide ones
        are found as well.
    length : float
        Of the shortest piece of vein that counts, mm: diagonal of the box around it.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        To be given to `roi_statistics` as ``exclude``.

    Raises
    ------
    ValueError
        If shapes disagree or the mask is empty.

    References
    ----------
    Sato et al., Med Image Anal 2:143-168 (1998), for tubes by the eigenvalues of the Hessian.
    """
    _check_shapes(chi=chi, labels=labels, mask=mask)
    if not np.any(mask):
        raise ValueError("the mask is empty: there is nowhere to look for veins")
    found = np.zeros(mask.shape, bool)
    inside = np.asarray(mask, bool) & (labels > 0)
    if not inside.any():
        return found
    # Veins are followed a little beyond the regions: what matters is how long they are, not how long in here.
    margin = [int(np.ceil((length + 3 * radius) / side)) for side in voxel_size]
    box = _box_around(inside, margin)
    tubes = mask[box] & _is_tube(np.where(mask, chi, 0)[box], mask[box], voxel_size, radius, contrast)
    tubes = _long_components(tubes, voxel_size, length)
    for label in np.unique(labels[inside]):
        region = inside[box] & (labels[box] == label)
        values = chi[box][region]
        found[box] |= region & tubes & (chi[box] > np.median(values) + contrast * _robust_sd(values))
    return found


def _check_shapes(**arrays):
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{listed} must have one shape: bring them onto one grid")


def _region_of(labels, members):
    """A box around some labels and their voxels in it; erosion in it is that in the whole volume."""
    region = np.isin(labels, members)
    if not region.any():
        return (slice(0, 0),) * 3, np.zeros((0, 0, 0), bool)
    box = _box_around(region, (1, 1, 1))
    return box, region[box]


def _box_around(region, margin):
    """Slices around the voxels of a region, with a margin as far as the volume reaches."""
    box = []
    for axis, room in enumerate(margin):
        used = np.flatnonzero(region.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(max(used[0] - room, 0), used[-1] + 1 + room))
    return tuple(box)


def _summary(name, values, voxel_size):
    n = values.size
    if n == 0:
        return {"mean": np.nan, "sd": np.nan, "median": np.nan, "n_voxels": 0, "volume": 0.0}
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: susceptibility is not finite in {np.count_nonzero(~np.isfinite(values))} voxels")
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if n > 1 else np.nan,
        "median": float(np.median(values)),
        "n_voxels": n,
        "volume": float(n * np.prod(voxel_size) / 1000),
    }


def _robust_sd(values):
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _is_tube(chi, mask, voxel_size, radius, contrast):
    """Voxels where susceptibility curves down in two directions at least."""
    sigma = [radius / side for side in voxel_size]
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    smooth = ndimage.gaussian_filter(chi.astype(np.float32), sigma) / np.maximum(weight, np.float32(1e-3))
    curvature = -np.linalg.eigvalsh(_hessian(smooth, voxel_size))[..., 1]
    return curvature > contrast * _robust_sd(curvature[mask])


def _hessian(image, voxel_size):
    """Second derivatives, shape (x, y, z, 3, 3); not by smoothing's own, which fail for coarse voxels."""
    hessian = np.empty((*image.shape, 3, 3), np.float32)
    for i, side in enumerate(voxel_size):
        hessian[..., i, i] = ndimage.correlate1d(image, [1, -2, 1], axis=i, mode="nearest") / side**2
        slope = ndimage.correlate1d(image, [-0.5, 0, 0.5], axis=i, mode="nearest") / side
        for j in range(i + 1, 3):
            mixed = ndimage.correlate1d(slope, [-0.5, 0, 0.5], axis=j, mode="nearest") / voxel_size[j]
            hessian[..., i, j] = hessian[..., j, i] = mixed
    return hessian


def _long_components(mask, voxel_size, length):
    """Components, corners included, in a box whose diagonal is long enough."""
    components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    kept = np.zeros_like(mask)
    for index, box in enumerate(ndimage.find_objects(components), start=1):
        extent = [(part.stop - part.start) * side for part, side in zip(box, voxel_size, strict=True)]
        if np.linalg.norm(extent) >= length:
            kept[box] |= components[box] == index
    return kept
