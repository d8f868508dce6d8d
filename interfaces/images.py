"""Read and write the images that pass between nodes."""

from pathlib import Path

import nibabel as nib
import numpy as np

from ..core.dipole import b0_direction


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


def read_mask(path):
    """Read an image as booleans: True where it is not zero."""
    return read_volume(path)[0] != 0


def geometry(image):
    """Voxel size (mm) and direction of B0 in voxel axes, as keyword arguments of the core's functions."""
    size = tuple(float(v) for v in np.linalg.norm(image.affine[:3, :3], axis=0))
    return {"voxel_size": size, "b0_dir": tuple(b0_direction(image.affine).tolist())}


def write_volume(path, data, like):
    """Write an array in the space of another image: float32, integers as they are, booleans as uint8.

    Only the geometry is taken from the other image: free text and scaling of its header stay behind.

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
    image.set_qform(like.affine, int(like.header["qform_code"]))
    image.set_sform(like.affine, int(like.header["sform_code"]) or 1)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return str(Path(path).absolute())
