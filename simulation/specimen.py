"""An object in the magnet: its spins and the field that they feel, before any sequence is run."""

from dataclasses import dataclass, replace

import numpy as np

from ..core.dipole import b0_direction
from ..core.grid import voxel_size_of
from .field import NEAR_RADIUS, SplitField, split_width
from .grid import block_mean, subgrid_affine
from .tissue import Tissue

COARSE_VOXEL = 2.0  # mm, of the grid that carries the field of distant sources
SURROUNDINGS = 110.0  # mm beyond the image within which the object still acts on its field


@dataclass(frozen=True)
class Specimen:
    """An object in the magnet: fine-grid tissue and the field it makes, before any sequence is run.

    Parameters
    ----------
    tissue : Tissue
        On the fine voxels of the image that hold the object.
    total_field, local_field : ndarray of float32
        On the same voxels, ppm: the whole object's field, and that of what lies within the region
        of interest.
    corner : tuple of int
        First fine voxel of the image that these arrays hold.
    shape : tuple of int
        Voxels of the image.
    oversampling : tuple of int
        Fine voxels per voxel along each axis.
    affine : ndarray, shape (4, 4)
        From voxels of the image to the scanner's axes, mm.
    """

    tissue: Tissue
    total_field: np.ndarray
    local_field: np.ndarray
    corner: tuple[int, int, int]
    shape: tuple[int, int, int]
    oversampling: tuple[int, int, int]
    affine: np.ndarray


def magnetize(
    model,
    affine,
    shape,
    *,
    oversampling=(2, 2, 2),
    workers=1,
):
    """Put an object into the magnet: its tissue on the fine grid of an image, and its field there.

    Parameters
    ----------
    model : callable
        From a grid's shape and affine to the object's `Tissue`.
    affine : ndarray, shape (4, 4)
        Of the image, from voxels to the scanner's axes, mm. B0 is along the scanner's z.
    shape : sequence of int
        Voxels of the image.
    oversampling : sequence of int
        Fine voxels per voxel along each axis.
    workers : int
        Threads of the Fourier transforms.

    Returns
    -------
    Specimen
        Its local field is that of the region of interest's susceptibility (relative to water),
        within the voxels of the image that it fills at least half; all else is background.

    Raises
    ------
    ValueError
        If the object lies outside the image and its surroundings.
    """
    shape = np.asarray(shape)
    oversampling = np.asarray(oversampling)
    fine_affine = subgrid_affine(affine, oversampling)
    fine_size = voxel_size_of(fine_affine)
    blocks = np.maximum(np.rint(COARSE_VOXEL / fine_size).astype(int), 1)
    # Coarse voxels from `low` to `high` hold the object. Those from `box_low` to `box_high` are
    # known finely: the image with as much around it as the near field reaches.
    low, high = _support(model, affine, shape, blocks * fine_size)
    margin = np.ceil(NEAR_RADIUS * split_width(blocks * fine_size) / (blocks * fine_size)).astype(
        int
    )
    box_low = np.maximum(low, -margin)
    box_high = np.minimum(high, -(-shape * oversampling // blocks) + margin)
    corner = box_low * blocks
    box_shape = (box_high - box_low) * blocks
    tissue = model(tuple(box_shape), subgrid_affine(fine_affine, (1, 1, 1), corner))
    around = model(tuple(high - low), subgrid_affine(fine_affine, 1 / blocks, low)).chi
    operator = SplitField(
        box_shape,
        fine_size,
        blocks,
        high - low,
        box_low - low,
        b0_dir=b0_direction(affine),
        workers=workers,
    )
    total = operator(tissue.chi - np.float32(tissue.exterior), around - np.float32(tissue.exterior))
    # Whole voxels of the image within the box.
    first = np.maximum(-(-corner // oversampling), 0) * oversampling
    last = np.minimum(box_high * blocks // oversampling, shape) * oversampling
    held = tuple(slice(a, b) for a, b in zip(first - corner, last - corner, strict=True))
    mask = block_mean(tissue.region[held], oversampling) >= 0.5
    inside = np.zeros_like(tissue.chi)
    inside[held] = (
        tissue.chi[held] * tissue.region[held] * np.kron(mask, np.ones(oversampling, np.float32))
    )
    local = operator(inside, np.zeros_like(around))
    arrays = {
        name: getattr(tissue, name)[held] for name in ("labels", "chi", "r2s", "pd", "t1", "region")
    }
    return Specimen(
        tissue=replace(tissue, **arrays),
        total_field=total[held],
        local_field=local[held],
        corner=tuple(int(n) for n in first),
        shape=tuple(int(n) for n in shape),
        oversampling=tuple(int(n) for n in oversampling),
        affine=affine,
    )


def _support(model, affine, shape, coarse_voxel):
    """First and past-the-last coarse voxel, counted from the image's corner, that the object
    occupies.
    """
    voxel_size = voxel_size_of(affine)
    around = np.ceil(SURROUNDINGS / coarse_voxel).astype(int)
    extent = np.ceil(shape * voxel_size / coarse_voxel).astype(int)
    step = np.maximum(np.rint(8 / coarse_voxel).astype(int), 1)
    probe = subgrid_affine(subgrid_affine(affine, voxel_size / coarse_voxel, -around), 1 / step)
    tissue = model(tuple(-(-(extent + 2 * around) // step)), probe)
    occupied = np.argwhere((tissue.chi != tissue.exterior) | (tissue.pd > 0))
    if not len(occupied):
        raise ValueError("the object lies outside the image and its surroundings")
    return (occupied.min(axis=0) - 1) * step - around, (occupied.max(axis=0) + 2) * step - around
