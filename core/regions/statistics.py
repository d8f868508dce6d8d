"""Susceptibility of regions of interest, relative to that of a reference region."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from ..grid import Vector, box_around, check_shapes
from ..mask.shapes import erode


def subtract_reference(
    chi: np.ndarray, mask: np.ndarray, region: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """Subtract a reference region's mean susceptibility.

    An inversion determines susceptibility only up to a constant.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Where `chi` is valid. It remains zero elsewhere.
    region : ndarray of bool, shape (x, y, z)
        Reference region. Its voxels outside the mask are ignored.

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
    spread = float(values.std(dtype=np.float64))
    return np.where(mask, chi - offset, 0).astype(np.float32), offset, spread


def roi_statistics(
    chi: np.ndarray,
    labels: np.ndarray,
    names: Mapping[int, str],
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    erosion: float = 0.0,
    exclude: np.ndarray | None = None,
) -> pd.DataFrame:
    """Summarise susceptibility in every named region.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility, ppm.
    labels : ndarray of int, shape (x, y, z)
        Label image; 0 is no region.
    names : mapping of int to str
        Name of each label. Labels with the same name, such as a nucleus's left and right part, are
        one region.
    mask : ndarray of bool, shape (x, y, z)
        Where `chi` is valid. A region's voxels outside it are ignored.
    voxel_size : sequence of 3 floats
        In mm.
    erosion : float
        Voxels within this distance in mm of a region's outside are ignored, see
        `multiqsm.core.mask.shapes.erode`.
    exclude : ndarray of bool, shape (x, y, z), optional
        Voxels to ignore, such as those of `multiqsm.core.regions.veins.vein_mask`.

    Returns
    -------
    pandas.DataFrame
        One row per name, in the order of `names`, with the columns

        * ``roi``: the name;
        * ``mean``, ``sd``, ``median``: of the measured voxels, ppm; ``sd`` is the sample's (with
          n - 1);
        * ``n_voxels``: number of measured voxels;
        * ``volume``: of these, mL;
        * ``n_excluded``: number of voxels that only `exclude` removed.

        A region without voxels has ``n_voxels`` and ``volume`` 0, and NaN for the statistics.

    Raises
    ------
    ValueError
        If shapes disagree, there is no name, or `chi` is not finite in a measured voxel.

    Examples
    --------
    >>> chi = np.array([[[0.1, 0.3, 0.5]]])
    >>> labels = np.array([[[1, 1, 0]]])
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
        raise ValueError(f"the erosion must not be negative, got {erosion:g} mm")
    rows = []
    for name, box, measured, n_excluded in measured_regions(
        labels, names, mask, voxel_size, erosion=erosion, exclude=exclude
    ):
        summary = _summary(name, chi[box][measured], voxel_size)
        rows.append({"roi": name, **summary, "n_excluded": n_excluded})
    return pd.DataFrame(rows)


def measured_regions(
    labels: np.ndarray,
    names: Mapping[int, str],
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    erosion: float = 0.0,
    exclude: np.ndarray | None = None,
) -> Iterator[tuple[str, tuple[slice, ...], np.ndarray, int]]:
    """Yield the voxels of each named region that are measured.

    Parameters
    ----------
    labels, names, mask, voxel_size, erosion, exclude
        As in `roi_statistics`.

    Yields
    ------
    name : str
        Name of the region, in the order of `names`.
    box : tuple of slice
        Part of the volume that contains the region.
    measured : ndarray of bool
        The region's measured voxels in the box.
    n_excluded : int
        Number of voxels that only `exclude` removed.
    """
    indices_of: dict[str, list[int]] = {}
    for index, name in names.items():
        indices_of.setdefault(name, []).append(index)
    for name, indices in indices_of.items():
        box, region = _region(labels, indices)
        if erosion > 0:
            region = erode(region, voxel_size, erosion)
        region = region & mask[box]
        measured = region if exclude is None else region & ~exclude[box]
        n_excluded = int(np.count_nonzero(region) - np.count_nonzero(measured))
        yield name, box, measured, n_excluded


def _region(labels, indices):
    """Return a box around some labels, and their voxels in it.

    The box has a border of one voxel, so that erosion in it is the same as in the volume.
    """
    region = np.isin(labels, indices)
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
            "voxels: leave them out of the mask"
        )
    return {
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if n > 1 else np.nan,
        "median": float(np.median(values)),
        "n_voxels": n,
        "volume": float(n * np.prod(voxel_size) / 1000),
    }
