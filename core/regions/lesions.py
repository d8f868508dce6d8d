"""Lesions that are bright in FLAIR images: grown from seeds, counted and measured."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import flood

from ..grid import Vector, box_around
from ..mask.shapes import CORNERS
from ..robust import robust_sd

# A seed must exceed the median of tissue within this distance in mm. Even with a hundred lesions,
# most of that tissue is healthy, and shading by receive coils varies little within it.
_NEIGHBOURHOOD = 40.0
_CONTRAST = 3.0  # robust standard deviations by which it must

# Tissue around a lesion is sampled between these distances in mm: nearer voxels are mixed.
_SHELL = (2.0, 8.0)
_ROUNDS = 10  # of growth and update of the intensities, which converge within three or four


def grow_lesions(
    flair: np.ndarray,
    seeds: ArrayLike,
    voxel_size: Vector,
    *,
    reach: float = 40.0,
    fraction: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Grow lesions from seeds by similar intensity.

    A lesion consists of the voxels that are connected with its seed and brighter than a threshold
    between the intensities of tissue and of the lesion. With a fraction of one half, a voxel
    belongs to the lesion if more than half of its volume does, so that partial volumes balance.

    The lesion's intensity is first that of the seed, then the median of the grown region. The
    tissue's intensity is first the median within 40 mm of the seed, then that of a shell 2 to 8 mm
    around the region. Growth is repeated until the region does not change. Air and fluid, which are
    dark by Otsu's threshold, are not tissue.

    Parameters
    ----------
    flair : ndarray, shape (x, y, z)
        Image in which lesions are brighter than tissue, and fluid is dark; any unit.
    seeds : array_like of int, shape (n, 3)
        Voxel indices of a seed in each lesion; a lesion may have several.
    voxel_size : sequence of 3 floats
        In mm.
    reach : float
        How far from its seed a lesion may extend, mm.
    fraction : float
        Where the threshold lies between the intensities of tissue (0) and of the lesion (1).

    Returns
    -------
    lesions : ndarray of bool, shape (x, y, z)
        All lesions.
    grown : ndarray of bool, shape (n,)
        Which seeds grew. A seed does not grow if it exceeds its surroundings by less than three
        robust standard deviations.

    Raises
    ------
    ValueError
        If a seed lies outside the image, the image is not finite, or `fraction` is not between 0
        and 1.

    References
    ----------
    Chiang et al., AJNR Am J Neuroradiol 39:467-472 (2018), for regions grown from a seed at each
    lesion's centre; Adams & Bischof, IEEE Trans Pattern Anal Mach Intell 16:641-647 (1994), for
    growth by a region's own intensity.

    Examples
    --------
    >>> flair = np.full((20, 1, 1), 100.0)
    >>> flair[:4], flair[10:13, 0, 0] = 0, [160, 200, 120]
    >>> lesions, _ = grow_lesions(flair, [[11, 0, 0]], (1, 1, 1))
    >>> np.flatnonzero(lesions).tolist()
    [10, 11]
    """
    indices = _checked_seeds(flair, seeds, fraction)
    lesions = np.zeros(flair.shape, bool)
    grown = np.zeros(len(indices), bool)
    tissue = flair > _otsu(flair)
    for number, seed in enumerate(indices):
        box, distance = _box_around_seed(seed, flair.shape, voxel_size, max(reach, _NEIGHBOURHOOD))
        image = flair[box]
        centre = tuple(seed - [part.start for part in box])
        near = tissue[box] & (distance <= _NEIGHBOURHOOD)
        if _stands_out(image[centre], image[near]):
            grown[number] = True
            lesions[box] |= _grow(image, centre, near, distance <= reach, voxel_size, fraction)
    return lesions, grown


def lesion_table(
    lesions: np.ndarray, affine: np.ndarray, *, seeds: ArrayLike = ()
) -> tuple[pd.DataFrame, np.ndarray]:
    """Count lesions and measure their volumes.

    Parameters
    ----------
    lesions : ndarray of bool, shape (x, y, z)
        All lesions. Voxels that share at least a corner belong to the same lesion.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's coordinates, mm.
    seeds : array_like of int, shape (n, 3)
        Voxel indices of seeds, which are counted.

    Returns
    -------
    table : pandas.DataFrame
        One row per lesion, the largest first, and the total in the last row, with the columns

        * ``lesion``: number, starting from 1, or ``total``;
        * ``volume``: mL;
        * ``n_voxels``: number of voxels;
        * ``x``, ``y``, ``z``: centre of mass in the scanner's coordinates, mm, NaN in the total;
        * ``n_seeds``: number of seeds in the lesion.
    labels : ndarray of int32, shape (x, y, z)
        The lesions' numbers in the table.

    Examples
    --------
    >>> lesions = np.array([1, 0, 1, 1], bool).reshape(4, 1, 1)
    >>> table, labels = lesion_table(lesions, np.diag([10.0, 10, 10, 1]))
    >>> table[["lesion", "n_voxels", "x"]].to_numpy().tolist()
    [['1', 2, 25.0], ['2', 1, 0.0], ['total', 3, nan]]
    """
    pieces, n = ndimage.label(lesions, CORNERS)
    counts = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
    order = np.argsort(-counts, kind="stable")
    number_of = np.zeros(n + 1, np.int32)
    number_of[order + 1] = np.arange(1, n + 1)
    labels = number_of[pieces]
    volume = abs(np.linalg.det(affine[:3, :3])) / 1000
    centres = np.reshape(ndimage.center_of_mass(lesions, labels, range(1, n + 1)), (n, 3))
    points = centres @ affine[:3, :3].T + affine[:3, 3]
    x, y, z = points.T
    indices = np.reshape(np.asarray(seeds, int), (-1, 3))
    n_seeds = np.bincount(labels[tuple(indices.T)], minlength=n + 1)[1:]
    table = pd.DataFrame(
        {
            "lesion": [*map(str, range(1, n + 1)), "total"],
            "volume": volume * np.append(counts[order], counts.sum()),
            "n_voxels": np.append(counts[order], counts.sum()),
            "x": np.append(x, np.nan),
            "y": np.append(y, np.nan),
            "z": np.append(z, np.nan),
            "n_seeds": np.append(n_seeds, n_seeds.sum()),
        }
    )
    return table, labels


def _checked_seeds(flair, seeds, fraction):
    """Return seeds as an array, shape (n, 3), if growth from them is possible."""
    if not np.isfinite(flair).all():
        raise ValueError(
            "the image in which lesions are grown contains values that are not finite: set them "
            "to 0"
        )
    if not 0 < fraction < 1:
        raise ValueError(
            f"the threshold's fraction must lie between 0 (tissue) and 1 (lesion), got {fraction:g}"
        )
    seeds = np.reshape(np.asarray(seeds, int), (-1, 3))
    outside = ((seeds < 0) | (seeds >= flair.shape)).any(axis=1)
    if outside.any():
        raise ValueError(
            f"seeds outside the image: {np.count_nonzero(outside)} of {len(seeds)}, the first "
            f"at voxel {seeds[outside][0].tolist()}: check that their coordinates are in mm in the "
            "scanner's space (RAS+)"
        )
    return seeds


def _otsu(image):
    return threshold_otsu(image) if np.ptp(image) > 0 else -np.inf


def _box_around_seed(seed, shape, voxel_size, reach):
    """Return a box around a seed, and the distance of its voxels from the seed, mm."""
    box = []
    squares = []
    for index, size, side in zip(seed, shape, voxel_size, strict=True):
        start = max(int(index - reach // side), 0)
        stop = min(int(index + reach // side) + 1, size)
        box.append(slice(start, stop))
        squares.append(((np.arange(start, stop) - index) * side) ** 2)
    x, y, z = np.ix_(*squares)
    return tuple(box), np.sqrt(x + y + z)


def _stands_out(seed_value, tissue_values):
    if not tissue_values.size:
        return False
    median = np.median(tissue_values)
    return seed_value > median + _CONTRAST * robust_sd(tissue_values - median)


def _grow(image, seed, tissue, allowed, voxel_size, fraction):
    """Return the region that grows from a seed among the allowed voxels."""
    lesion_value = float(image[seed])
    tissue_value = float(np.median(image[tissue]))
    # A rater chose the seed: it belongs to the lesion even if the grown region is brighter.
    highest_threshold = np.nextafter(image[seed], -np.inf)
    region = np.zeros(image.shape, bool)
    region[seed] = True
    for _ in range(_ROUNDS):
        threshold = tissue_value + fraction * (lesion_value - tissue_value)
        bright = allowed & (image > min(threshold, highest_threshold))
        previous = region
        region = flood(bright.view(np.uint8), seed, connectivity=1)
        if np.array_equal(previous, region):
            break
        lesion_value = float(np.median(image[region]))
        shell = _shell(region, tissue, voxel_size)
        if shell.any():
            tissue_value = float(np.median(image[shell]))
    return region


def _shell(region, tissue, voxel_size):
    """Return tissue around a region but not next to it."""
    near, far = _SHELL
    box = box_around(region, [int(far // side) + 1 for side in voxel_size])
    distance = ndimage.distance_transform_edt(~region[box], sampling=voxel_size)
    shell = np.zeros(region.shape, bool)
    shell[box] = tissue[box] & (distance > near) & (distance <= far)
    return shell
