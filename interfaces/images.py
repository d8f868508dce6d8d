"""Read and write the images that pass between nodes."""

from pathlib import Path

import nibabel as nib
import numpy as np

from ..core.dipole import b0_direction
from ..core.grid import voxel_size_of
from ..dataset.forms import FORMS, scanner_form

# Of a header: where its voxels lie, by either form.
PLACE = (
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


def read_volume(path):
    """Read an image as float32, and what its header says of the geometry.

    Parameters
    ----------
    path : path-like
        NIfTI file.

    Returns
    -------
    data : ndarray of float32
    image : nibabel.Nifti1Image
        For its affine and header.
    """
    image = nib.load(path)
    return image.get_fdata(dtype=np.float32, caching="unchanged"), image


def read_canonical(path):
    """Read an image as it is drawn: in RAS+ orientation, float32, zero where a value is not a
    number.

    Arguments and returned values as of `read_volume`.
    """
    image = nib.as_closest_canonical(nib.load(path))
    return np.nan_to_num(image.get_fdata(dtype=np.float32, caching="unchanged")), image


def read_mask(path):
    """Read an image as booleans: True where it is not zero."""
    return read_volume(path)[0] != 0


def read_labels(path):
    """Read a label image as integers."""
    return np.rint(read_volume(path)[0]).astype(np.int32)


def geometry(image):
    """Voxel size (mm) and direction of B0 in voxel axes, as keyword arguments of the core's
    functions.

    Both are those in the scanner, wherever the image's affine has moved its voxels since.
    """
    affine = scanner_form(image).affine
    size = tuple(float(v) for v in voxel_size_of(affine))
    return {"voxel_size": size, "b0_dir": tuple(b0_direction(affine).tolist())}


def described_b0(image):
    """Sidecar fields that say what B0 was taken to be, and what told it."""
    return {
        "B0Direction": list(geometry(image)["b0_dir"]),
        "B0DirectionSource": str(scanner_form(image)),
    }


def write_volume(path, data, like):
    """Write an array in the space of another image: float32, integers as they are, booleans as
    uint8.

    Only the geometry is taken from the other image, both forms of it, so that the volume lies where
    that image lies for every reader, and keeps its B0: free text and scaling of the header stay
    behind.

    Parameters
    ----------
    path : path-like
        File to write.
    data : ndarray
        The volume, or volumes along a fourth axis.
    like : nibabel.Nifti1Image
        The image whose space this is.

    Returns
    -------
    str
        Absolute path of the file.
    """
    dtype = {"b": np.uint8, "i": data.dtype, "u": data.dtype}.get(data.dtype.kind, np.float32)
    image = nib.Nifti1Image(data.astype(dtype, copy=False), like.affine)
    for field in (*PLACE, *(f"{form}_code" for form in FORMS)):
        image.header[field] = like.header[field]
    image.header["pixdim"][:4] = like.header["pixdim"][:4]  # the first is the qform's handedness
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return str(Path(path).absolute())


def on_another_grid(image, change):
    """An image of one voxel, to write images on another grid like: both forms of an image are
    there, changed.

    Parameters
    ----------
    image : nibabel.Nifti1Image
        The image whose space this is.
    change : callable
        Makes an affine of the new grid out of one of the old.

    Returns
    -------
    nibabel.Nifti1Image
        Its codes are the image's.
    """
    like = nib.Nifti1Image(np.zeros((1, 1, 1), np.float32), change(image.affine))
    for form in reversed(FORMS):  # the affine is to be the sform's in the end, if it has a code
        code = int(image.header[f"{form}_code"])
        affine = getattr(image.header, f"get_{form}")() if code else image.affine
        getattr(like, f"set_{form}")(change(affine), code)
    return like
