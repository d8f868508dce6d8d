"""Regions of interest: their susceptibility, and the reference that it is given relative to."""

import numpy as np
import pandas as pd

from ..grid import box_around, check_shapes
from ..mask.shapes import erode


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
    return (
        np.where(mask, chi - offset, 0).astype(np.float32),
        offset,
        float(values.std(dtype=np.float64)),
    )


def roi_statistics(chi, labels, names, mask, voxel_size, *, erosion=0.0, exclude=None):
    """Summarise susceptibility in every named region.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    labels : ndarray of int, shape (x, y, z)
        Label image; 0 is no region.
    names : mapping of int to str
        Name of each label. Labels that share a name, such as a nucleus's left and right part, are
        one region.
    mask : ndarray of bool, shape (x, y, z)
        Where `chi` is known; a region's voxels outside it do not count.
    voxel_size : sequence of 3 floats
        In mm.
    erosion : float
        Voxels within this distance in mm of a region's outside do not count, see
        `multiqsm.core.mask.shapes.erode`.
    exclude : ndarray of bool, shape (x, y, z), optional
        Voxels that do not count, such as those of `multiqsm.core.regions.veins.vein_mask`.

    Returns
    -------
    pandas.DataFrame
        One row a name, in the order of `names`, with the columns

        * ``roi``: the name;
        * ``mean``, ``sd``, ``median`` in ppm: over the voxels that count; ``sd`` is the sample's (n
          - 1);
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
    check_shapes(**arrays)
    if not names:
        raise ValueError("no label has a name: give at least one")
    if erosion < 0:
        raise ValueError(f"an erosion of {erosion:g} mm would grow the regions; give 0 or more")
    rows = []
    for name, box, kept, n_excluded in regions_measured(
        labels, names, mask, voxel_size, erosion=erosion, exclude=exclude
    ):
        rows.append(
            {"roi": name, **_summary(name, chi[box][kept], voxel_size), "n_excluded": n_excluded}
        )
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
        region = (
            region & mask[box] if erosion == 0 else erode(region, voxel_size, erosion) & mask[box]
        )
        kept = region if exclude is None else region & ~exclude[box]
        yield name, box, kept, int(np.count_nonzero(region) - np.count_nonzero(kept))


def _region_of(labels, members):
    """A box around some labels and their voxels in it; erosion in it is that in the whole
    volume.
    """
    region = np.isin(labels, members)
    if not region.any():
        return (slice(0, 0),) * 3, np.zeros((0, 0, 0), bool)
    box = box_around(region, (1, 1, 1))
    return box, region[box]


def _summary(name, values, voxel_size):
    n = values.size
    if n == 0:
        return {"mean": np.nan, "sd": np.nan, "median": np.nan, "n_voxels": 0, "volume": 0.0}
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name}: susceptibility is not finite in {np.count_nonzero(~np.isfinite(values))} "
            "voxels"
        )
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if n > 1 else np.nan,
        "median": float(np.median(values)),
        "n_voxels": n,
        "volume": float(n * np.prod(voxel_size) / 1000),
    }
