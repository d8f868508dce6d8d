"""Read and write the images that pass between nodes."""

from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike

from ..core.dipole import b0_direction
from ..core.grid import voxel_size_of
from ..dataset.files import PathLike
from ..dataset.forms import FORMS, scanner_form
from ..dataset.volumes import load_volume

# Header fields that hold the affines: the quaternion (qform) and the matrix (sform).
AFFINE_FIELDS = (
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
)


class Geometry(TypedDict):
    """Voxel size and direction of B0, as keyword arguments of the core's functions.

    Attributes
    ----------
    voxel_size : tuple of 3 floats
        Voxel size, mm.
    b0_dir : tuple of 3 floats
        Unit vector along B0 in voxel axes.
    """

    voxel_size: tuple[float, float, float]
    b0_dir: tuple[float, float, float]


def read_volume(path: PathLike) -> tuple[np.ndarray, nib.Nifti1Image]:
    """Read an image that another node made, as float32.

    Parameters
    ----------
    path : path-like
        NIfTI file.

    Returns
    -------
    data : ndarray of float32
    image : nibabel.Nifti1Image
        The image, with its affine and header.
    """
    image = nib.load(path)
    return image.get_fdata(dtype=np.float32, caching="unchanged"), image


def read_single_volume(path: PathLike) -> tuple[np.ndarray, nib.Nifti1Image]:
    """Read an image of any program as one volume in mm, without further dimensions of one.

    Parameters and returned values are those of `read_volume`.
    """
    image = load_volume(path)
    return image.get_fdata(dtype=np.float32, caching="unchanged"), image


def read_canonical(path: PathLike) -> tuple[np.ndarray, nib.Nifti1Image]:
    """Read an image for drawing: float32, in RAS+ orientation, with NaN replaced by zero.

    Parameters and returned values are those of `read_volume`.
    """
    image = nib.as_closest_canonical(load_volume(path))
    return np.nan_to_num(image.get_fdata(dtype=np.float32, caching="unchanged")), image


def read_mask(path: PathLike) -> np.ndarray:
    """Read a mask: True where the image is not zero; NaN and infinity are outside."""
    values = read_single_volume(path)[0]
    return np.isfinite(values) & (values != 0)


def read_labels(path: PathLike) -> np.ndarray:
    """Read a label image as int32."""
    return np.rint(read_single_volume(path)[0]).astype(np.int32)


def geometry(image: nib.Nifti1Image) -> Geometry:
    """Return voxel size and direction of B0 as keyword arguments of the core's functions.

    Both are those in the scanner, even if the image's affine has been changed since, for instance
    by a registration.
    """
    affine = scanner_form(image).affine
    voxel_x, voxel_y, voxel_z = map(float, voxel_size_of(affine))
    b0_x, b0_y, b0_z = map(float, b0_direction(affine))
    return {"voxel_size": (voxel_x, voxel_y, voxel_z), "b0_dir": (b0_x, b0_y, b0_z)}


def b0_fields(image: nib.Nifti1Image) -> dict[str, list[float] | str]:
    """Return sidecar fields: the direction of B0 and the source from which it was determined."""
    return {
        "B0Direction": list(geometry(image)["b0_dir"]),
        "B0DirectionSource": str(scanner_form(image)),
    }


def write_volume(path: PathLike, data: np.ndarray, like: nib.Nifti1Image) -> str:
    """Write an array as an image in the space of another image.

    Booleans are saved as uint8, integers in their own type, and all else as float32. Only qform and
    sform are copied from the other image, so that the volume has the same position and the same
    direction of B0 for every reader. Free text and scaling of its header are not copied.

    Parameters
    ----------
    path : path-like
        File to write.
    data : ndarray
        The volume, or several volumes along a fourth axis.
    like : nibabel.Nifti1Image
        An image in the same space.

    Returns
    -------
    str
        Absolute path of the file.
    """
    dtype: DTypeLike = np.float32
    if data.dtype.kind == "b":
        dtype = np.uint8
    elif data.dtype.kind in "iu":
        dtype = data.dtype
    image = nib.Nifti1Image(data.astype(dtype, copy=False), like.affine)
    for field in AFFINE_FIELDS:
        image.header[field] = like.header[field]
    for form in FORMS:
        image.header[f"{form}_code"] = like.header[f"{form}_code"]
    # pixdim[0] is the handedness of the qform; 1 to 3 are the voxel sizes
    image.header["pixdim"][:4] = like.header["pixdim"][:4]
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return str(Path(path).absolute())


def on_another_grid(
    image: nib.Nifti1Image, change: Callable[[np.ndarray], np.ndarray]
) -> nib.Nifti1Image:
    """Make a template image for `write_volume` whose qform and sform are changed alike.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        Image on the old grid.
    change : callable
        Returns the affine of the new grid for an affine of the old grid.

    Returns
    -------
    nibabel.Nifti1Image
        A single voxel with both changed affines, and the codes of `image`.
    """
    like = nib.Nifti1Image(np.zeros((1, 1, 1), np.float32), change(image.affine))
    # nibabel takes the image's affine from the form set last: the sform, if it has a code
    for form in reversed(FORMS):
        code = int(image.header[f"{form}_code"])
        affine = getattr(image.header, f"get_{form}")() if code else image.affine
        getattr(like, f"set_{form}")(change(affine), code)
    return like
