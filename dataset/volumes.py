"""Open images as other programs wrote them: as one 3-D volume with positions in mm.

Converters keep a fourth dimension of one, and NIfTI allows metres and micrometres for positions.
Readers that expect neither refuse the image or misplace it by a factor of a thousand.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.imageglobals import logger
from nibabel.spatialimages import SpatialImage

from .entities import StackedEcho
from .files import PathLike

#: Smallest and largest voxel size that is processed, mm.
VOXEL_SIZES = (0.1, 10)
SPACE_UNITS = 8  # a header's xyzt_units modulo this is its code for the unit of space
MILLIMETRES = {1: 1e3, 3: 1e-3}  # mm in the units that have these codes
UNIT_NAMES = {1: "metres", 3: "micrometres"}
# Header fields in the unit of space, besides the voxel size.
POSITIONS = ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


@dataclass(frozen=True)
class SpaceUnit:
    """How the positions in a header are read.

    Attributes
    ----------
    millimetres : float
        What they are multiplied by.
    name : str
        The unit that the header states, if it is not the millimetre.
    is_wrong : bool
        Whether the header states a unit in which its voxels have an impossible size, while they
        have a possible one in mm.
    """

    millimetres: float = 1.0
    name: str = ""
    is_wrong: bool = False


@contextmanager
def silent_about_headers() -> Iterator[None]:
    """Suppress what nibabel and numpy log or warn of a damaged header, without naming the file."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with np.errstate(invalid="ignore", over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def load_volume(path: PathLike | StackedEcho) -> SpatialImage:
    """Open an image as `nibabel.load` does, with positions in mm and without further dimensions
    of one.

    Parameters
    ----------
    path : path-like
        An image of any format that nibabel reads. Of an echo in a stack, only its volume is opened.

    Returns
    -------
    nibabel.spatialimages.SpatialImage
        Its voxels are read when they are needed.
    """
    with silent_about_headers():
        return as_volume(nib.load(os.fspath(path)), path)


def as_volume(image: SpatialImage, path: PathLike | StackedEcho = "") -> SpatialImage:
    """Return an image with positions in mm and without further dimensions of one.

    Parameters
    ----------
    image : nibabel.spatialimages.SpatialImage
        As opened.
    path : path-like
        Where it was opened. If it is an echo in a stack, only its volume is returned.

    Returns
    -------
    nibabel.spatialimages.SpatialImage
        The image itself if nothing changes.
    """
    voxels = image.dataobj
    shape = without_ones(image.shape)
    if isinstance(path, StackedEcho) and len(shape) == 4 and path.index < shape[3]:
        voxels = _one_volume(voxels, shape[:3], path.index)
    elif shape != image.shape:
        voxels = voxels.reshape(shape)
    header = image.header.copy()
    unit = SpaceUnit()
    if isinstance(header, nib.Nifti1Header):
        unit = space_unit(header)
        scale_positions(header, unit)
    if voxels is image.dataobj and unit.millimetres == 1:
        return image
    affine = image.affine if unit.millimetres == 1 else header.get_best_affine()
    return image.__class__(voxels, affine, header, file_map=image.file_map)


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the dimensions of one that follow the third.

    Examples
    --------
    >>> without_ones((64, 64, 40, 1)), without_ones((64, 64, 1, 1, 5))
    ((64, 64, 40), (64, 64, 1, 5))
    """
    return (*shape[:3], *(n for n in shape[3:] if n != 1))


def _one_volume(voxels, shape, index):
    """Return a volume of a 4-D image; of one that is not yet read, without reading the others."""
    if not isinstance(voxels, ArrayProxy):
        return np.asanyarray(voxels).reshape((*shape, -1))[..., index]
    # Volumes follow each other in the file.
    offset = voxels.offset + index * prod(shape) * voxels.dtype.itemsize
    place = (shape, voxels.dtype, offset, voxels.slope, voxels.inter)
    return ArrayProxy(voxels.file_like, place)


def space_unit(header: nib.Nifti1Header) -> SpaceUnit:
    """Determine the unit of the positions in a header.

    A stated unit is not believed if voxels would have an impossible size in it, and have a possible
    one in mm: most programs ignore the unit, so that a wrong one is not noticed.

    Parameters
    ----------
    header : nibabel.Nifti1Header
        Header of a NIfTI-1 or NIfTI-2 image.

    Returns
    -------
    SpaceUnit
    """
    code = int(header["xyzt_units"]) % SPACE_UNITS
    if code not in MILLIMETRES:
        return SpaceUnit()
    sizes = np.array(header["pixdim"][1:4], float)
    if is_possible(sizes) and not is_possible(MILLIMETRES[code] * sizes):
        return SpaceUnit(name=UNIT_NAMES[code], is_wrong=True)
    return SpaceUnit(MILLIMETRES[code], UNIT_NAMES[code])


def is_possible(voxel_size: np.ndarray) -> bool:
    """Return whether voxel sizes in mm are within `VOXEL_SIZES`."""
    smallest, largest = VOXEL_SIZES
    tolerance = 1e-4  # relative: headers store 32-bit floats
    return bool(
        np.all(
            (voxel_size >= smallest * (1 - tolerance)) & (voxel_size <= largest * (1 + tolerance))
        )
    )


def scale_positions(header: nib.Nifti1Header, unit: SpaceUnit) -> None:
    """Convert the positions in a header to mm, in place."""
    if unit.millimetres == 1:
        return
    header["pixdim"][1:4] *= unit.millimetres
    for field in POSITIONS:
        header[field] = header[field] * unit.millimetres
    time_units = int(header["xyzt_units"]) // SPACE_UNITS * SPACE_UNITS
    header["xyzt_units"] = time_units + 2  # mm
