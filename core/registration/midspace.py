"""The space in the middle of several scans of one subject, and their average in it."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize

from ..grid import voxel_size_of
from .least_squares import register_rigid, value_or_error
from .resampling import resample
from .transforms import displacement, rigid_mean


@dataclass(frozen=True)
class SubjectSpace:
    """Result of `mid_space` and `first_space`; lists have one entry a scan, in the order given.

    Attributes
    ----------
    affine : ndarray, shape (4, 4)
        From the grid's voxels to the subject's world, mm.
    shape : tuple of int
        Voxels of the grid.
    transforms : list of ndarray, shape (4, 4), or None
        From the subject's world to the scan's, mm; None for a scan that could not be registered.
    causes : list of str or None
        Why a scan could not be registered.
    average : ndarray of float32, shape `shape`
        Mean of the scans, each divided by its median in its mask; 0 where no scan reaches.
    mask : ndarray of bool, shape `shape`
        Where at least half of the scans' masks are.
    residuals : list of float
        See `mid_space`, mm; NaN for a scan that could not be registered.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]
    transforms: list
    causes: list
    average: np.ndarray
    mask: np.ndarray
    residuals: list


def mid_space(images, affines, masks, *, voxel_size=None, margin=5.0):
    """Find the space in the middle of several scans of one subject, in which none of them is
    favoured.

    1. Every scan is registered to one of them: the first, or, if most others do not register to it,
       the one that most others register to.
    2. The mid-space's world is the intrinsic mean of the scans' worlds: the transforms Tₖ from it
       to the scans have Σ log Tₖ = 0.
    3. The scans, resampled with one interpolation each and divided by their medians, are averaged;
       every scan is registered to the average; the transforms are centred again as in 2. The
       average returned is made with these.

    The grid's axes have the scans' mean orientation (those of a scan that lists its axes in other
    order or direction are matched to the first's), and its field of view covers all masks and a
    margin. A scan that cannot be registered is left out from there on, and its cause given. One
    scan alone stays as it is: its own grid and the identity.

    The residual of a scan is the mean distance, over the voxels of the mid-space's mask, between
    where its transform of step 3 and that of step 2, both centred over the scans that are left,
    take a point: how far apart the scan's registration to one scan and that to the average are. It
    tells of inconsistency (of noise, motion within a scan, distortion), not of errors that both
    registrations share.

    Parameters
    ----------
    images : sequence of ndarray, shape (x, y, z)
        Scans of one contrast; shapes may differ.
    affines : sequence of ndarray, shape (4, 4)
        From their voxels to their worlds, mm.
    masks : sequence of ndarray of bool
        Of the brain, shaped as the images.
    voxel_size : sequence of 3 floats, optional
        mm, along the first scan's axes; that of the first scan that can be used by default.
    margin : float
        Between masks and the edge of the field of view, mm.

    Returns
    -------
    SubjectSpace

    Raises
    ------
    ValueError
        If there is no scan, lists differ in length, no scan can be used, or no two of several
        register.

    References
    ----------
    Reuter et al., NeuroImage 61:1402-1418 (2012), for why no scan may be favoured; Pennec &
    Arsigny, in: Matrix Information Geometry (2013), pp. 123-166, for the mean of rigid transforms.
    """
    if not len(images) or not len(images) == len(affines) == len(masks):
        raise ValueError(
            f"as many images, affines and masks are needed, at least one: got {len(images)}, "
            f"{len(affines)} and "
            f"{len(masks)}"
        )
    scans = [
        (np.asarray(i, np.float32), np.asarray(a, float), np.asarray(m, bool))
        for i, a, m in zip(images, affines, masks, strict=True)
    ]
    causes = [_unusable(*scan) for scan in scans]
    usable = [k for k, cause in enumerate(causes) if cause is None]
    if not usable:
        raise ValueError(f"none of the scans can be used; the first: {causes[0]}")
    first = _register_to_one(scans, usable, causes)
    first = _centred_mean(first)
    size = (
        voxel_size_of(scans[usable[0]][1]) if voxel_size is None else np.asarray(voxel_size, float)
    )
    if len(scans) == 1 and voxel_size is None:
        grid = (scans[0][1], scans[0][0].shape)
    else:
        grid = _common_grid(scans, first, size, margin)
    average, mask = _average(scans, first, grid)
    refined = first
    if len(first) > 1:
        refined = _register_to_average(scans, first, average, mask, grid[0], causes)
        first = _centred_mean({k: first[k] for k in refined})
        refined = _centred_mean(refined)
        average, mask = _average(scans, refined, grid)
    points = np.argwhere(mask) @ grid[0][:3, :3].T + grid[0][:3, 3]
    numbers = range(len(scans))
    return SubjectSpace(
        affine=grid[0],
        shape=grid[1],
        transforms=[refined.get(k) for k in numbers],
        causes=causes,
        average=average,
        mask=mask,
        residuals=[
            displacement(first[k], refined[k], points) if k in refined else float("nan")
            for k in numbers
        ],
    )


def first_space(space, images, affines, masks):
    """See the registration of `mid_space` from the first scan that it holds: the world and the grid
    are that scan's.

    Parameters
    ----------
    space : SubjectSpace
        From `mid_space`.
    images, affines, masks
        The scans that it was made of.

    Returns
    -------
    SubjectSpace
        The first registered scan's transform is the identity; residuals are as they were.
    """
    registered = [k for k, transform in enumerate(space.transforms) if transform is not None]
    first = registered[0]
    back = np.linalg.inv(space.transforms[registered[0]])
    transforms = {k: np.eye(4) if k == first else space.transforms[k] @ back for k in registered}
    scans = list(zip(images, affines, masks, strict=True))
    grid = (np.asarray(affines[first], float), images[first].shape)
    average, mask = _average(scans, transforms, grid)
    return replace(
        space,
        affine=grid[0],
        shape=grid[1],
        transforms=[transforms.get(k) for k in range(len(scans))],
        average=average,
        mask=mask,
    )


def register_to_space(space, image, affine, mask):
    """Register one more scan to a subject's space, which stays as it is.

    Parameters
    ----------
    space : SubjectSpace
        From `mid_space` or `first_space`.
    image, affine, mask
        The scan, as of `mid_space`.

    Returns
    -------
    ndarray, shape (4, 4)
        From the subject's world to the scan's, mm.

    Raises
    ------
    ValueError
        If the scan cannot be used, or does not register to the average.
    """
    scan = np.asarray(image, np.float32), np.asarray(affine, float), np.asarray(mask, bool)
    if cause := _unusable(*scan):
        raise ValueError(cause)
    return _register_scan(scan, space.average, space.affine, space.mask)


def _register_to_one(scans, usable, causes):
    """Transforms from one scan's world to the others', by scan; the causes of failures are
    entered.
    """
    best = None
    for reference in usable:
        fixed, affine, mask = scans[reference]
        fits = {
            k: np.eye(4)
            if k == reference
            else value_or_error(_register_scan, scans[k], fixed, affine, mask)
            for k in usable
        }
        found = {k: fit for k, fit in fits.items() if not isinstance(fit, ValueError)}
        if best is None or len(found) > len(best[0]):
            best = (
                found,
                {k: fit for k, fit in fits.items() if isinstance(fit, ValueError)},
                reference,
            )
        if 2 * len(found) > len(usable):
            break
    found, failed, reference = best
    if len(found) == 1 < len(usable):
        cause = next(iter(failed.values()))
        raise ValueError(
            f"no two of the {len(usable)} scans register with one another; the first to fail: "
            f"{cause}"
        )
    for k, error in failed.items():
        causes[k] = f"not registered to scan {reference + 1}: {error}"
    return found


def _register_to_average(scans, transforms, average, mask, affine, causes):
    """Transforms from the mid-space's world to the scans', by scan; the causes of failures are
    entered.
    """
    found = {}
    for k, start in transforms.items():
        fit = value_or_error(
            _register_scan, scans[k], average, affine, mask, start=start, fwhm=(6.0, 3.0)
        )
        if isinstance(fit, ValueError):
            causes[k] = f"not registered to the average of the scans: {fit}"
        else:
            found[k] = fit
    if not found:
        raise ValueError(
            "no scan registers to the average of the scans; the first: "
            f"{causes[next(iter(transforms))]}"
        )
    return found


def _register_scan(scan, fixed, affine, mask, **options):
    return register_rigid(scan[0], scan[1], fixed, affine, fixed_mask=mask, **options).matrix


def _centred_mean(transforms):
    """Move the common origin of transforms into their middle, where their logarithms sum to
    nothing.
    """
    middle = rigid_mean([np.linalg.inv(t) for t in transforms.values()])
    return {k: t @ middle for k, t in transforms.items()}


def _common_grid(scans, transforms, voxel_size, margin):
    """Affine and shape of a grid in the mid-space that covers all masks."""
    axes = []
    corners = []
    for k, transform in transforms.items():
        _, affine, mask = scans[k]
        into = np.linalg.inv(transform) @ affine
        turned = _nearest_rotation(into[:3, :3] / voxel_size_of(into))
        axes.append(turned if not axes else _matched(turned, axes[0]))
        index = np.argwhere(mask)
        corners.append(index @ into[:3, :3].T + into[:3, 3])
    mean = _nearest_rotation(np.mean(axes, axis=0))
    along = np.concatenate(corners) @ mean  # coordinates along the axes
    low = along.min(axis=0)
    high = along.max(axis=0)
    shape = np.ceil((high - low + 2 * margin) / voxel_size).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = mean * voxel_size
    affine[:3, 3] = mean @ ((low + high) / 2 - voxel_size * (shape - 1) / 2)
    return affine, tuple(shape.tolist())


def _nearest_rotation(matrix):
    """Orthogonal matrix nearest to a matrix, of the same handedness."""
    u, _, v = np.linalg.svd(matrix)
    return u @ v


def _matched(axes, model):
    """Axes in that order and direction in which they are nearest to others."""
    cosine = axes.T @ model
    rows, columns = optimize.linear_sum_assignment(-np.abs(cosine))
    out = np.empty_like(axes)
    out[:, columns] = axes[:, rows] * np.sign(cosine[rows, columns])
    return out


def _average(scans, transforms, grid):
    """Mean of the scans where they reach, and where at least half of the masks are."""
    total, count, share = (np.zeros(grid[1], np.float32) for _ in range(3))
    for k, transform in transforms.items():
        image, affine, mask = scans[k]
        scaled = image / np.float32(np.median(image[mask]))
        own = len(scans) == 1 and np.array_equal(affine, grid[0]) and image.shape == grid[1]
        moved = scaled if own else resample(scaled, affine, *grid, transform=transform, fill=np.nan)
        known = np.isfinite(moved)
        total += np.where(known, moved, 0)
        count += known
        share += resample(mask.astype(np.float32), affine, *grid, transform=transform, order=1)
    return total / np.maximum(count, 1), share >= 0.5 * len(transforms) - 1e-4


def _unusable(image, affine, mask):
    """Why a scan cannot be used, or None."""
    if image.ndim != 3 or mask.shape != image.shape:
        return f"image {image.shape} and mask {mask.shape} must have one shape of three dimensions"
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        return f"the affine must be an invertible 4 x 4 matrix, got {affine.tolist()}"
    if not mask.any():
        return "the mask is empty"
    if not np.isfinite(image).all():
        return "the image holds values that are not finite"
    if not np.median(image[mask]) > 0:
        return "the image has no signal in its mask"
    return None
