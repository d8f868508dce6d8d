"""Find the space in the middle of several scans of one subject, and average the scans in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from ..grid import Vector, voxel_size_of
from .least_squares import register_rigid, value_or_error
from .resampling import resample
from .transforms import displacement, rigid_mean


@dataclass(frozen=True)
class SubjectSpace:
    """Result of `mid_space` and `first_space`; lists have one entry per scan, in their order.

    Attributes
    ----------
    affine : ndarray, shape (4, 4)
        From the grid's voxels to the subject's world, mm.
    shape : tuple of int
        Shape of the grid.
    transforms : list of ndarray, shape (4, 4), or None
        From the subject's world to the scan's, mm; None for a scan that could not be registered.
    causes : list of str or None
        Why a scan could not be registered.
    average : ndarray of float32, shape `shape`
        Mean of the scans, each divided by its median in its mask; 0 where there is no scan.
    mask : ndarray of bool, shape `shape`
        Where at least half of the scans' masks are.
    residuals : list of float
        See `mid_space`, mm; NaN for a scan that could not be registered.
    """

    affine: np.ndarray
    shape: tuple[int, int, int]
    transforms: list[np.ndarray | None]
    causes: list[str | None]
    average: np.ndarray
    mask: np.ndarray
    residuals: list[float]


class _Scan(NamedTuple):
    image: np.ndarray
    affine: np.ndarray
    mask: np.ndarray


class _Grid(NamedTuple):
    affine: np.ndarray
    shape: tuple[int, int, int]


def mid_space(
    images: Sequence[ArrayLike],
    affines: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    voxel_size: Vector | None = None,
    margin: float = 5.0,
) -> SubjectSpace:
    """Find a space in the middle of several scans of one subject, which favours none of them.

    1. Every scan is registered to a reference scan. This is the first scan or, if most others do
       not register to it, the scan to which the most others do.
    2. The world of the mid-space is the intrinsic mean of the scans' worlds: the transforms Tₖ from
       it to the scans satisfy Σ log Tₖ = 0.
    3. The scans are resampled with one interpolation each, divided by their medians, and averaged.
       Every scan is registered to the average, and the transforms are centred again as in 2. The
       returned average is made with these.

    The axes of the grid have the scans' mean orientation. Those of a scan with another order or
    direction of axes are first matched to the first scan's. The field of view covers all masks and
    a margin. A scan that cannot be registered is left out from then on, and its cause recorded. A
    single scan keeps its own grid, and its transform is the identity.

    The residual of a scan is the mean distance that a point of the mid-space's mask moves when the
    transform of step 2 is replaced by that of step 3, both centred over the remaining scans. It
    shows how well the registration to one scan agrees with that to the average. It includes the
    effects of noise, motion within a scan and distortion, but no errors that both registrations
    have in common.

    Parameters
    ----------
    images : sequence of ndarray, shape (x, y, z)
        Scans of one contrast; shapes may differ.
    affines : sequence of ndarray, shape (4, 4)
        From their voxels to their worlds, mm.
    masks : sequence of ndarray of bool
        Of the brain, shaped as the images.
    voxel_size : sequence of 3 floats, optional
        mm, along the first scan's axes; by default that of the first usable scan.
    margin : float
        Between masks and the edge of the field of view, mm.

    Returns
    -------
    SubjectSpace

    Raises
    ------
    ValueError
        If there is no scan, lists differ in length, no scan is usable, or no two of several scans
        register with one another.

    References
    ----------
    Reuter et al., NeuroImage 61:1402-1418 (2012), for why no scan should be favoured; Pennec &
    Arsigny, in: Matrix Information Geometry (2013), pp. 123-166, for the mean of rigid transforms.
    """
    if not len(images) or not len(images) == len(affines) == len(masks):
        raise ValueError(
            f"{len(images)} images, {len(affines)} affines and {len(masks)} masks: give at least "
            "one image, with an affine and a mask for each"
        )
    scans = list(map(_as_scan, images, affines, masks))
    causes = list(map(_why_unusable, scans))
    usable = [k for k, cause in enumerate(causes) if cause is None]
    if not usable:
        raise ValueError(f"none of the scans can be used; the first: {causes[0]}")
    first = scans[usable[0]]
    transforms = _centred_mean(_register_to_one(scans, usable, causes))
    if len(scans) == 1 and voxel_size is None:
        grid = _Grid(first.affine, first.image.shape)
    else:
        voxel_size = voxel_size_of(first.affine) if voxel_size is None else voxel_size
        grid = _common_grid(scans, transforms, np.asarray(voxel_size, float), margin)
    average, mask = _average(scans, transforms, grid)
    refined = transforms
    if len(transforms) > 1:
        refined = _register_to_average(scans, transforms, average, mask, grid.affine, causes)
        transforms = _centred_mean({k: transforms[k] for k in refined})
        refined = _centred_mean(refined)
        average, mask = _average(scans, refined, grid)
    points = np.argwhere(mask) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    residuals = [float("nan")] * len(scans)
    for k, transform in refined.items():
        residuals[k] = displacement(transforms[k], transform, points)
    return SubjectSpace(
        affine=grid.affine,
        shape=grid.shape,
        transforms=_by_scan(refined, scans),
        causes=causes,
        average=average,
        mask=mask,
        residuals=residuals,
    )


def first_space(
    space: SubjectSpace,
    images: Sequence[ArrayLike],
    affines: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
) -> SubjectSpace:
    """Express a mid-space in the world and on the grid of its first registered scan.

    Parameters
    ----------
    space : SubjectSpace
        From `mid_space`.
    images, affines, masks
        The scans from which it was computed.

    Returns
    -------
    SubjectSpace
        The first registered scan's transform is the identity; residuals are unchanged.
    """
    registered = {k: t for k, t in enumerate(space.transforms) if t is not None}
    first = min(registered)
    to_mid_space = np.linalg.inv(registered[first])
    transforms = {}
    for k, transform in registered.items():
        transforms[k] = np.eye(4) if k == first else transform @ to_mid_space
    scans = [_as_scan(*scan) for scan in zip(images, affines, masks, strict=True)]
    grid = _Grid(scans[first].affine, scans[first].image.shape)
    average, mask = _average(scans, transforms, grid)
    return replace(
        space,
        affine=grid.affine,
        shape=grid.shape,
        transforms=_by_scan(transforms, scans),
        average=average,
        mask=mask,
    )


def register_to_space(
    space: SubjectSpace, image: ArrayLike, affine: ArrayLike, mask: ArrayLike
) -> np.ndarray:
    """Register another scan to a subject's space, which does not change.

    Parameters
    ----------
    space : SubjectSpace
        From `mid_space` or `first_space`.
    image, affine, mask
        The scan, as in `mid_space`.

    Returns
    -------
    ndarray, shape (4, 4)
        From the subject's world to the scan's, mm.

    Raises
    ------
    ValueError
        If the scan is not usable, or does not register to the average.
    """
    scan = _as_scan(image, affine, mask)
    if cause := _why_unusable(scan):
        raise ValueError(cause)
    return _register_scan(scan, space.average, space.affine, space.mask)


def _as_scan(image, affine, mask):
    return _Scan(np.asarray(image, np.float32), np.asarray(affine, float), np.asarray(mask, bool))


def _by_scan(transforms, scans):
    """Return a list with the transform of each scan, or None for a scan without one."""
    return list(map(transforms.get, range(len(scans))))


def _register_to_one(scans, usable, causes):
    """Register scans to a reference scan, and record in `causes` why others failed.

    Return transforms from the reference scan's world to the scans', by the scans' numbers.
    """
    transforms = {}
    errors = {}
    for candidate in usable:
        trial, trial_errors = _register_all(scans, usable, candidate)
        if len(trial) > len(transforms):
            reference = candidate
            transforms = trial
            errors = trial_errors
        if 2 * len(trial) > len(usable):
            break
    if len(transforms) == 1 < len(usable):
        raise ValueError(
            f"no two of the {len(usable)} scans register with one another; the first failure: "
            f"{next(iter(errors.values()))}"
        )
    for k, error in errors.items():
        causes[k] = f"not registered to scan {reference + 1}: {error}"
    return transforms


def _register_all(scans, usable, reference):
    """Register each usable scan to one of them. Return transforms, and errors of those that fail.

    Both are by the scans' numbers.
    """
    fixed, affine, mask = scans[reference]
    transforms = {}
    errors = {}
    for k in usable:
        if k == reference:
            transforms[k] = np.eye(4)
            continue
        transform = value_or_error(_register_scan, scans[k], fixed, affine, mask)
        if isinstance(transform, ValueError):
            errors[k] = transform
        else:
            transforms[k] = transform
    return transforms, errors


def _register_to_average(scans, transforms, average, mask, affine, causes):
    """Register scans to their average, and record in `causes` why others failed.

    Return transforms from the mid-space's world to the scans', by the scans' numbers.
    """
    refined = {}
    for k, start in transforms.items():
        transform = value_or_error(
            _register_scan, scans[k], average, affine, mask, start=start, fwhm=(6.0, 3.0)
        )
        if isinstance(transform, ValueError):
            causes[k] = f"not registered to the average of the scans: {transform}"
        else:
            refined[k] = transform
    if not refined:
        first = min(transforms)
        raise ValueError(
            f"no scan registers to the average of the scans; the first: {causes[first]}"
        )
    return refined


def _register_scan(scan, fixed, affine, mask, **options):
    return register_rigid(scan.image, scan.affine, fixed, affine, fixed_mask=mask, **options).matrix


def _centred_mean(transforms):
    """Move the common origin of transforms to their mean, where their logarithms add up to 0."""
    mean = rigid_mean(list(map(np.linalg.inv, transforms.values())))
    return {k: transform @ mean for k, transform in transforms.items()}


def _common_grid(scans, transforms, voxel_size, margin):
    """Return a grid in the mid-space that covers all masks, along the scans' mean axes."""
    orientations = []
    corners = []
    for k, transform in transforms.items():
        to_world = np.linalg.inv(transform) @ scans[k].affine
        orientation = _nearest_rotation(to_world[:3, :3] / voxel_size_of(to_world))
        if orientations:
            orientation = _matched_axes(orientation, orientations[0])
        orientations.append(orientation)
        index = np.argwhere(scans[k].mask)
        corners.append(index @ to_world[:3, :3].T + to_world[:3, 3])
    axes = _nearest_rotation(np.mean(orientations, axis=0))
    coordinates = np.concatenate(corners) @ axes  # along the grid's axes, mm
    low = coordinates.min(axis=0)
    high = coordinates.max(axis=0)
    shape = np.ceil((high - low + 2 * margin) / voxel_size).astype(int) + 1
    affine = np.eye(4)
    affine[:3, :3] = axes * voxel_size
    affine[:3, 3] = axes @ ((low + high) / 2 - voxel_size * (shape - 1) / 2)
    return _Grid(affine, tuple(shape.tolist()))


def _nearest_rotation(matrix):
    """Return the orthogonal matrix nearest to a matrix, with the same handedness."""
    u, _, v = np.linalg.svd(matrix)
    return u @ v


def _matched_axes(axes, reference):
    """Permute and flip axes, the columns of a rotation, so that they are nearest to a reference."""
    cosine = axes.T @ reference
    rows, columns = optimize.linear_sum_assignment(-np.abs(cosine))
    out = np.empty_like(axes)
    out[:, columns] = axes[:, rows] * np.sign(cosine[rows, columns])
    return out


def _average(scans, transforms, grid):
    """Return the mean of the scans where they are, and where at least half of the masks are."""
    total = np.zeros(grid.shape, np.float32)
    count = np.zeros(grid.shape, np.float32)
    mask_count = np.zeros(grid.shape, np.float32)
    for k, transform in transforms.items():
        image, affine, mask = scans[k]
        scaled = image / np.float32(np.median(image[mask]))
        is_own_grid = np.array_equal(affine, grid.affine) and image.shape == grid.shape
        if len(scans) == 1 and is_own_grid:
            resampled = scaled
        else:
            resampled = resample(scaled, affine, *grid, transform=transform, fill=np.nan)
        valid = np.isfinite(resampled)
        total += np.where(valid, resampled, 0)
        count += valid
        mask_count += resample(mask.astype(np.float32), affine, *grid, transform=transform, order=1)
    # Slightly less than half, for rounding in the interpolation.
    return total / np.maximum(count, 1), mask_count >= 0.5 * len(transforms) - 1e-4


def _why_unusable(scan):
    """Return why a scan cannot be used, or None."""
    image, affine, mask = scan
    if image.ndim != 3 or mask.shape != image.shape:
        return f"image {image.shape} and mask {mask.shape} must have one shape of three dimensions"
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        return f"the affine must be an invertible 4 x 4 matrix, got {affine.tolist()}"
    if not mask.any():
        return "the mask is empty"
    if not np.isfinite(image).all():
        return "the image contains values that are not finite"
    if not np.median(image[mask]) > 0:
        return "the image has no signal in its mask"
    return None
