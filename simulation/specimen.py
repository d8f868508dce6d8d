"""An object in the magnet: its tissue and its field, before any sequence is run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.dipole import b0_direction
from ..core.grid import voxel_size_of
from .field import NEAR_RADIUS, SplitField, split_width
from .grid import block_mean, subgrid_affine
from .tissue import Tissue

COARSE_VOXEL = 2.0  # mm, of the grid on which the field of distant sources is computed
SURROUNDINGS = 110.0  # mm beyond the image, within which the object still affects its field


@dataclass(frozen=True)
class Specimen:
    """An object in the magnet: its tissue and its field on a fine grid.

    Parameters
    ----------
    tissue : Tissue
        Tissue on a box of the image's fine voxels around the object.
    total_field, local_field : ndarray of float32
        Fields on the same voxels, ppm: of the whole object, and of the region of interest alone.
    corner : tuple of int
        First fine voxel of the image in these arrays.
    shape : tuple of int
        Voxels of the image.
    oversampling : tuple of int
        Fine voxels per voxel along each axis.
    affine : ndarray, shape (4, 4)
        From voxels of the image to the scanner's axes, mm.
    effect_fields : mapping of str to ndarray of float32
        What effects have added to the total field, mean over each voxel of the image in the box,
        ppm, by the effect's name.
    """

    tissue: Tissue
    total_field: np.ndarray
    local_field: np.ndarray
    corner: tuple[int, int, int]
    shape: tuple[int, int, int]
    oversampling: tuple[int, int, int]
    affine: np.ndarray
    effect_fields: Mapping[str, np.ndarray] = field(default_factory=dict)


def magnetize(
    model: Callable[[Sequence[int], np.ndarray], Tissue],
    affine: np.ndarray,
    shape: Sequence[int],
    *,
    oversampling: Sequence[int] = (2, 2, 2),
    workers: int = 1,
) -> Specimen:
    """Compute an object's tissue on the fine grid of an image, and its field there.

    Parameters
    ----------
    model : callable
        Function from a grid's shape and affine to the object's `Tissue`.
    affine : ndarray, shape (4, 4)
        Affine of the image, from voxels to the scanner's axes, mm. B0 is along the scanner's z.
    shape : sequence of int
        Voxels of the image.
    oversampling : sequence of int
        Fine voxels per voxel along each axis.
    workers : int
        Number of threads of the Fourier transforms.

    Returns
    -------
    Specimen
        The sources of its local field are the region of interest's susceptibility (relative to
        water) in those voxels of the image that the region fills at least half. All other sources
        are background.

    Raises
    ------
    ValueError
        If the object lies outside the image and its surroundings.
    """
    extent = np.asarray(shape)
    factor = np.asarray(oversampling)
    fine_affine = subgrid_affine(affine, factor)
    fine_size = voxel_size_of(fine_affine)
    blocks = np.maximum(np.rint(COARSE_VOXEL / fine_size).astype(int), 1)
    # Coarse voxels from `low` to `high` contain the object. Those from `box_low` to `box_high` are
    # sampled finely: the image, and around it as much as the near field reaches.
    low, high = _support(model, affine, extent, blocks * fine_size)
    margin = np.ceil(NEAR_RADIUS * split_width(blocks * fine_size) / (blocks * fine_size)).astype(
        int
    )
    box_low = np.maximum(low, -margin)
    box_high = np.minimum(high, -(-extent * factor // blocks) + margin)
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
    # The specimen has the whole voxels of the image within the box.
    first = np.maximum(-(-corner // factor), 0) * factor
    last = np.minimum(box_high * blocks // factor, extent) * factor
    whole = tuple(map(slice, first - corner, last - corner))
    mask = block_mean(tissue.region[whole], factor) >= 0.5
    inside = np.zeros_like(tissue.chi)
    inside[whole] = (
        tissue.chi[whole] * tissue.region[whole] * np.kron(mask, np.ones(factor, np.float32))
    )
    local = operator(inside, np.zeros_like(around))
    cropped = replace(
        tissue,
        labels=tissue.labels[whole],
        chi=tissue.chi[whole],
        r2s=tissue.r2s[whole],
        pd=tissue.pd[whole],
        t1=tissue.t1[whole],
        region=tissue.region[whole],
    )
    return Specimen(
        tissue=cropped,
        total_field=total[whole],
        local_field=local[whole],
        corner=tuple(first.tolist()),
        shape=tuple(extent.tolist()),
        oversampling=tuple(factor.tolist()),
        affine=affine,
    )


def _support(model, affine, shape, coarse_voxel):
    """Return the first and the past-the-last coarse voxel that the object occupies.

    They count from the image's corner. The object is sampled about every 8 mm, so the box has a
    margin of one sample.
    """
    voxel_size = voxel_size_of(affine)
    around = np.ceil(SURROUNDINGS / coarse_voxel).astype(int)
    extent = np.ceil(shape * voxel_size / coarse_voxel).astype(int)
    step = np.maximum(np.rint(8 / coarse_voxel).astype(int), 1)
    probe = subgrid_affine(subgrid_affine(affine, voxel_size / coarse_voxel, -around), 1 / step)
    tissue = model(tuple(-(-(extent + 2 * around) // step)), probe)
    occupied = np.argwhere((tissue.chi != tissue.exterior) | (tissue.pd > 0))
    if not len(occupied):
        raise ValueError(
            f"the object lies outside the image and its surroundings of {SURROUNDINGS:g} mm: check "
            "the image's affine and the object's pose"
        )
    return (occupied.min(axis=0) - 1) * step - around, (occupied.max(axis=0) + 2) * step - around
