"""Lesions that are bright in FLAIR images: grown from seeds, counted and measured."""

import numpy as np
import pandas as pd
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import flood

from ..mask.shapes import CORNERS
from ..robust import robust_sd

# Whether a seed stands out is judged by the median of tissue within this distance in mm: with a
# hundred lesions that is still healthy for the most part, and shading by receive coils varies
# little.
_NEIGHBOURHOOD = 40.0
_CONTRAST = 3.0  # robust standard deviations by which it must

# The border of a lesion is judged by what lies around it, mm from it: nearer voxels are mixed.
_SHELL = (2.0, 8.0)
_ROUNDS = 10  # of growth and what it says of the intensities; they settle within three or four


def grow_lesions(flair, seeds, voxel_size, *, reach=40.0, share=0.5):
    """Grow lesions from seeds by similar intensity.

    A lesion is what is connected with its seed and at least as bright as the border: the tissue's
    intensity plus a share of the difference between the lesion's and the tissue's. With one half, a
    voxel belongs to the lesion if more than half of it does, so that mixed voxels balance. The
    lesion's intensity is first the seed's and then the median of the grown region; the tissue's is
    the median within 40 mm of the seed and then that of 2 to 8 mm around the region; until it grows
    no more. Air and fluid, dark by Otsu's threshold, are no tissue.

    Parameters
    ----------
    flair : ndarray, shape (x, y, z)
        Image in which lesions are brighter than tissue and fluid is dark, any unit.
    seeds : array_like of int, shape (n, 3)
        A voxel in each lesion; several may lie in one.
    voxel_size : sequence of 3 floats
        In mm.
    reach : float
        How far from its seed a lesion may extend, mm.
    share : float
        Where between the surroundings (0) and the lesion (1) the border's intensity lies.

    Returns
    -------
    lesions : ndarray of bool, shape (x, y, z)
        All lesions.
    grown : ndarray of bool, shape (n,)
        Which seeds grew: one that stands out of its surroundings by less than three robust standard
        deviations does not.

    Raises
    ------
    ValueError
        If a seed lies outside the image, the image is not finite, or `share` is not between 0 and
        1.

    References
    ----------
    Chiang et al., AJNR Am J Neuroradiol 39:467-472 (2018), for regions grown from a seed at each
    lesion's centre; Adams & Bischof, IEEE Trans Pattern Anal Mach Intell 16:641-647 (1994), for
    growing by a region's own intensity.

    Examples
    --------
    >>> flair = np.full((20, 1, 1), 100.0)
    >>> flair[:4], flair[10:13, 0, 0] = 0, [160, 200, 120]
    >>> lesions, _ = grow_lesions(flair, [[11, 0, 0]], (1, 1, 1))
    >>> np.flatnonzero(lesions).tolist()
    [10, 11]
    """
    seeds = _checked(flair, seeds, share)
    lesions = np.zeros(flair.shape, bool)
    grown = np.zeros(len(seeds), bool)
    tissue = flair > _otsu(flair)
    for number, seed in enumerate(seeds):
        box, distance = _ball(seed, flair.shape, voxel_size, max(reach, _NEIGHBOURHOOD))
        image = flair[box]
        centre = tuple(s - b.start for s, b in zip(seed, box, strict=True))
        near = tissue[box] & (distance <= _NEIGHBOURHOOD)
        if _stands_out(image[centre], image[near]):
            grown[number] = True
            lesions[box] |= _grow(image, centre, near, distance <= reach, voxel_size, share)
    return lesions, grown


def lesion_table(lesions, affine, *, seeds=()):
    """Count lesions and measure their volumes.

    Parameters
    ----------
    lesions : ndarray of bool, shape (x, y, z)
        All lesions; what touches, corners included, is one.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's mm.
    seeds : array_like of int, shape (n, 3)
        Voxels of seeds, to be counted.

    Returns
    -------
    table : pandas.DataFrame
        One row a lesion, the largest first, and the total in the end, with the columns

        * ``lesion``: number from 1 on, or ``total``;
        * ``volume``: mL;
        * ``n_voxels``;
        * ``x``, ``y``, ``z``: centre of mass in the scanner's mm, not-a-number in the total;
        * ``n_seeds``: how many seeds lie in it.
    labels : ndarray of int32, shape (x, y, z)
        The lesions by their numbers in the table.

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
    held = np.bincount([labels[tuple(seed)] for seed in seeds], minlength=n + 1)[1:]
    columns = {
        "lesion": [*map(str, range(1, n + 1)), "total"],
        "volume": volume * np.append(counts[order], counts.sum()),
        "n_voxels": np.append(counts[order], counts.sum()),
    }
    columns |= {
        axis: np.append(values, np.nan) for axis, values in zip("xyz", points.T, strict=True)
    }
    return pd.DataFrame(columns | {"n_seeds": np.append(held, held.sum())}), labels


def _checked(flair, seeds, share):
    if not np.isfinite(flair).all():
        raise ValueError(
            "the image in which lesions are grown holds values that are not finite: set them to 0"
        )
    if not 0 < share < 1:
        raise ValueError(
            f"a share of {share:g}: the border's intensity lies between 0 (tissue) and 1 (lesion)"
        )
    seeds = np.reshape(np.asarray(seeds, int), (-1, 3))
    outside = ((seeds < 0) | (seeds >= flair.shape)).any(axis=1)
    if outside.any():
        raise ValueError(
            f"{np.count_nonzero(outside)} of {len(seeds)} seeds lie outside the image, the first "
            "at voxel "
            f"{seeds[outside][0].tolist()}: check that their coordinates are mm of the scanner's "
            "space (RAS+)"
        )
    return seeds


def _otsu(image):
    return threshold_otsu(image) if np.ptp(image) > 0 else -np.inf


def _ball(seed, shape, voxel_size, reach):
    """Slices around a seed and the distance in mm from it in them."""
    box = tuple(
        slice(max(int(s - reach // v), 0), min(int(s + reach // v) + 1, n))
        for s, n, v in zip(seed, shape, voxel_size, strict=True)
    )
    offsets = [
        (np.arange(b.start, b.stop) - s) * v for b, s, v in zip(box, seed, voxel_size, strict=True)
    ]
    return box, np.sqrt(sum(square for square in np.ix_(*(o**2 for o in offsets))))


def _stands_out(own, around):
    if not around.size:
        return False
    usual = np.median(around)
    return own > usual + _CONTRAST * robust_sd(around - usual)


def _grow(image, seed, tissue, allowed, voxel_size, share):
    """The region of a seed among the voxels allowed."""
    own = float(image[seed])
    usual = float(np.median(image[tissue]))
    region = np.zeros(image.shape, bool)
    region[seed] = True
    for _ in range(_ROUNDS):
        # The seed is the rater's word: it stays, should the lesion become brighter than it.
        bright = allowed & (
            image > min(usual + share * (own - usual), np.nextafter(image[seed], -np.inf))
        )
        before = region
        region = flood(bright.view(np.uint8), seed, connectivity=1)
        if np.array_equal(before, region):
            break
        own = float(np.median(image[region]))
        around = _shell(region, tissue, voxel_size)
        usual = float(np.median(image[around])) if around.any() else usual
    return region


def _shell(region, tissue, voxel_size):
    """Tissue around a region but not next to it."""
    near, far = _SHELL
    box = tuple(
        slice(max(s.start - int(far // v) - 1, 0), s.stop + int(far // v) + 1)
        for s, v in zip(ndimage.find_objects(region.view(np.uint8))[0], voxel_size, strict=True)
    )
    distance = ndimage.distance_transform_edt(~region[box], sampling=voxel_size)
    around = np.zeros(region.shape, bool)
    around[box] = tissue[box] & (distance > near) & (distance <= far)
    return around
