"""How much a map varies between repeated scans, voxel by voxel."""

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np


def map_variability(
    maps: Sequence[np.ndarray], sites: Sequence[str], numbers: Sequence[int]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the standard deviations of repeated maps within and across sites, voxel by voxel.

    The 2015 study defines them for regions. With χ[a, i] the map of site a and scan i, the SD
    within sites is the mean over sites of the SD over i, and the SD across sites is the mean over i
    of the SD over a. Both are sample SDs (n - 1).

    Parameters
    ----------
    maps : sequence of ndarray, shape (x, y, z)
        Maps in one space, with NaN where a map has no value.
    sites : sequence of str
        Site of each map.
    numbers : sequence of int
        Number of each map's scan at its site.

    Returns
    -------
    within, across : ndarray of float32, shape (x, y, z), or None
        In the maps' unit. NaN in voxels where no site (no number) has two maps with a value. None
        if no site (no number) has two maps.

    Raises
    ------
    ValueError
        If the lists differ in length, or two maps have the same site and number.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), Statistical analysis.

    Examples
    --------
    >>> maps = [np.full((1, 1, 1), v) for v in (0.0, 2.0, 1.0, 3.0)]
    >>> within, across = map_variability(maps, ["A", "A", "B", "B"], [1, 2, 1, 2])
    >>> within.round(3).item(), across.round(3).item()
    (1.4140000343322754, 0.7070000171661377)
    """
    if not len(maps) == len(sites) == len(numbers):
        raise ValueError(
            f"{len(maps)} maps, {len(sites)} sites and {len(numbers)} numbers: give one site and "
            "one number for each map"
        )
    keys = list(zip(sites, numbers, strict=True))
    if len(set(keys)) < len(keys):
        raise ValueError("two maps have the same site and number")
    return _mean_deviation(maps, sites), _mean_deviation(maps, numbers)


def _mean_deviation(maps: Sequence[np.ndarray], groups: Sequence[Hashable]) -> np.ndarray | None:
    """Return the mean over groups of the SD within each, over voxels with two values in a group."""
    members = defaultdict(list)
    for group, volume in zip(groups, maps, strict=True):
        members[group].append(volume)
    total = np.zeros(())
    n_groups = np.zeros((), int)
    for volumes in members.values():
        if len(volumes) > 1:
            deviation, is_repeated = _deviation(volumes)
            total = total + deviation
            n_groups = n_groups + is_repeated
    if n_groups.ndim == 0:
        return None
    mean = total / np.maximum(n_groups, 1)
    return np.where(n_groups > 0, mean, np.nan).astype(np.float32)


def _deviation(maps):
    """Return the sample SD of maps, and which voxels have one: at least two values."""
    stack = np.stack(maps).astype(np.float64)
    is_finite = np.isfinite(stack)
    n = is_finite.sum(axis=0)
    is_repeated = n > 1
    mean = np.where(is_finite, stack, 0).sum(axis=0) / np.maximum(n, 1)
    square = np.where(is_finite, (stack - mean) ** 2, 0).sum(axis=0)
    return np.where(is_repeated, np.sqrt(square / np.maximum(n - 1, 1)), 0), is_repeated
