"""How much a map varies between repeated scans, voxel by voxel."""

import numpy as np


def map_variability(maps, sites, numbers):
    """Standard deviations of repeated maps within and across sites, as the 2015 study defines them
    for regions.

    With χ[a, i] the map of site a and scan i: within sites, the mean over sites of the SD over i;
    across sites, the mean over i of the SD over a. Sample SDs, n - 1.

    Parameters
    ----------
    maps : sequence of ndarray, shape (x, y, z)
        Maps in one space; not-a-number where a map is not known.
    sites : sequence of str
        Site of each map.
    numbers : sequence of int
        Number of each map's scan at its site.

    Returns
    -------
    within, across : ndarray of float32, shape (x, y, z), or None
        In the maps' unit; not-a-number where fewer than two maps of any site (any number) are
        known. None if no site (no number) has two maps.

    Raises
    ------
    ValueError
        If the lists differ in length, or two maps have the same site and number.

    References
    ----------
    Lin et al., AJNR 36:1644 (2015), Statistical analysis.

    Examples
    --------
    >>> maps = [np.full((1, 1, 1), v) for v in (0.0, 2.0, 1.0, 3.0)]
    >>> within, across = map_variability(maps, ["A", "A", "B", "B"], [1, 2, 1, 2])
    >>> within.round(3).item(), across.round(3).item()
    (1.4140000343322754, 0.7070000171661377)
    """
    if not len(maps) == len(sites) == len(numbers):
        raise ValueError(
            f"{len(maps)} maps, {len(sites)} sites and {len(numbers)} numbers: there must be one "
            "of each"
        )
    keys = list(zip(sites, numbers, strict=True))
    if len(set(keys)) < len(keys):
        raise ValueError("two maps have the same site and number")
    return tuple(_mean_deviation(maps, kept) for kept in (sites, numbers))


def _mean_deviation(maps, groups):
    """Mean over groups of the SD within each, of voxels that two of its maps know."""
    total, known = 0.0, 0
    for group in dict.fromkeys(groups):
        members = [m for m, g in zip(maps, groups, strict=True) if g == group]
        if len(members) > 1:
            deviation, enough = _deviation(members)
            total = total + deviation
            known = known + enough
    if np.ndim(known) == 0:
        return None
    return np.where(known > 0, total / np.maximum(known, 1), np.nan).astype(np.float32)


def _deviation(maps):
    """Sample SD of the maps (0 where it is not known), and where it is."""
    stack = np.stack(maps).astype(np.float64)
    present = np.isfinite(stack)
    n = present.sum(axis=0)
    enough = n > 1
    mean = np.where(present, stack, 0).sum(axis=0) / np.maximum(n, 1)
    square = np.where(present, (stack - mean) ** 2, 0).sum(axis=0)
    return np.where(enough, np.sqrt(square / np.maximum(n - 1, 1)), 0), enough
