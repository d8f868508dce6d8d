"""Read image files to their last byte, so that damage is always detected."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import DTypeLike

from ..core.artefacts.coherence import central_block
from .content import MissingContentError, exists
from .entities import StackedEcho
from .files import PathLike
from .forms import Form, header_forms, scanner_form
from .problems import DatasetError
from .values import error_text
from .volumes import SpaceUnit, as_volume, scale_positions, silent_about_headers, space_unit

REMEDY = "copy it again, or create it again"
COMPRESSED = (".gz", ".mgz")
LONGEST_HEADER = 540  # bytes, of NIfTI-2
CHUNK_BYTES = 2**20
SAMPLE = 2**15  # voxels
MAX_VOXELS = 2**30
MAX_TRAILING_BYTES = 2**30  # after the last voxel: a compressed file can expand without end


class UnreadableImageError(DatasetError):
    """An image cannot be read."""

    def __init__(self, path: PathLike, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy, path)


@dataclass(frozen=True)
class ImageSummary:
    """Grid and statistics of an image, from one complete read.

    Attributes
    ----------
    shape : tuple of int
        Without dimensions of one that follow the third.
    stored_shape : tuple of int
        As in the header.
    unit : multiqsm.dataset.volumes.SpaceUnit
        How the positions in the header are read.
    affine : numpy.ndarray
        4 by 4, from voxels to mm.
    voxel_size : tuple of float
        In mm, as stated by the header (nibabel would replace 0 by 1).
    forms : tuple of multiqsm.dataset.forms.Form
        The header's forms that have a code; if there are none, the affine is an assumption.
    scanner : multiqsm.dataset.forms.Form
        The form that gives the direction of B0.
    minimum, maximum : float
        Over the finite voxels; NaN if there are none.
    fraction : float or None
        The first value that is not a whole number; None if there is none.
    not_finite : numpy.ndarray
        Flat indices of the voxels that are NaN or infinite.
    n_nonzero : int
        Number of voxels that are finite and not zero.
    is_binary : bool
        Whether there is at most one value besides 0.
    n_at_maximum : int
        Number of voxels that have the maximum.
    checksum : int
        CRC-32 of the values as 32-bit floats.
    block : numpy.ndarray or None
        Central block of the image, with 0 in voxels that are not finite; None unless the image is
        3-D.
    sample : numpy.ndarray or None
        Evenly spaced voxels of the whole image, at the same positions in images of the same shape;
        0 and None as in `block`.
    """

    shape: tuple[int, ...]
    stored_shape: tuple[int, ...]
    unit: SpaceUnit
    affine: np.ndarray
    voxel_size: tuple[float, ...]
    forms: tuple[Form, ...]
    scanner: Form
    minimum: float
    maximum: float
    fraction: float | None
    not_finite: np.ndarray
    n_nonzero: int
    is_binary: bool
    n_at_maximum: int
    checksum: int
    block: np.ndarray | None
    sample: np.ndarray | None


def summarize_image(path: PathLike | StackedEcho) -> ImageSummary:
    """Read an image to its last byte, and summarise its grid and values.

    Parameters
    ----------
    path : path-like
        A NIfTI file, compressed or not. A compressed file is read beyond its last voxel, so that
        its checksum is verified.

    Returns
    -------
    ImageSummary
        Its grid and the range of its scaled values.

    Raises
    ------
    UnreadableImageError
        If the file is missing, empty, not NIfTI, truncated or damaged.
    """
    header, image, data = read_image(path)
    unit = space_unit(header)
    scale_positions(header, unit)
    with silent_about_headers():
        stored_shape = tuple(header.get_data_shape())
    finite = np.isfinite(data)
    values = data if finite.all() else data[finite]
    fractions = values[values != np.rint(values)]
    n_nonzero = int(np.count_nonzero(values))
    maximum = float(values.max()) if values.size else math.nan
    n_at_maximum = int(np.count_nonzero(values == maximum))
    return ImageSummary(
        shape=image.shape,
        stored_shape=stored_shape,
        unit=unit,
        affine=image.affine,
        voxel_size=tuple(header["pixdim"][1:4].tolist()),
        forms=header_forms(image.header),
        scanner=scanner_form(image),
        minimum=float(values.min()) if values.size else math.nan,
        maximum=maximum,
        fraction=float(fractions[0]) if fractions.size else None,
        not_finite=np.flatnonzero(~finite),
        n_nonzero=n_nonzero,
        is_binary=bool(values.size and n_nonzero == (n_at_maximum if maximum else 0)),
        n_at_maximum=n_at_maximum,
        checksum=zlib.crc32(np.ascontiguousarray(data.T).data),
        block=np.nan_to_num(central_block(data), posinf=0, neginf=0) if data.ndim == 3 else None,
        sample=np.nan_to_num(_every_nth(data), posinf=0, neginf=0) if data.ndim == 3 else None,
    )


def _every_nth(data):
    """Return some ten thousand evenly spaced voxels."""
    step = max(1, math.ceil((data.size / SAMPLE) ** (1 / 3)))
    return data[::step, ::step, ::step].ravel()


def read_image(
    path: PathLike | StackedEcho, dtype: DTypeLike = np.float32
) -> tuple[nib.Nifti1Header, nib.Nifti1Image, np.ndarray]:
    """Read an image beyond its last voxel, so that the checksum of a compressed file is verified.

    Parameters
    ----------
    path : path-like
        A NIfTI file, compressed or not. Of an echo in a stack, its volume alone is returned.
    dtype : numpy type
        Type of the returned voxels. 64-bit floats represent every label exactly, 32-bit floats
        only labels up to 2²⁴.

    Returns
    -------
    header : nibabel.Nifti1Header
        As stored in the file.
    image : nibabel.Nifti1Image
        For its shape, affine in mm and data type, without dimensions of one that follow the third.
        The file is closed, so that voxels cannot be read from
        it any more.
    data : ndarray
        The scaled voxels.

    Raises
    ------
    UnreadableImageError
        If the file is missing, empty, not NIfTI, truncated or damaged.
    """
    file = Path(path)
    _refuse_file(file)
    try:
        with _open(file) as stream, silent_about_headers():
            image_class = _image_class(stream.read(LONGEST_HEADER))
            stream.seek(0)
            header = image_class.header_class.from_fileobj(stream, check=False)
            stream.seek(0)
            image = image_class.from_stream(stream)
            _refuse_header(file, image)
            image = as_volume(image, path)
            data = image.get_fdata(dtype=dtype, caching="unchanged")
            n_trailing_bytes = 0
            while chunk := stream.read(CHUNK_BYTES):
                n_trailing_bytes += len(chunk)
                if n_trailing_bytes > MAX_TRAILING_BYTES:
                    raise OSError("too much data after the last voxel")
    except (ImageFileError, HeaderDataError) as error:
        raise UnreadableImageError(
            path, f"not a NIfTI file ({error_text(error)})", REMEDY
        ) from error
    except MemoryError as error:
        cause = "there is too little memory to read it"
        raise UnreadableImageError(path, cause, "free memory, or use a larger machine") from error
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise UnreadableImageError(
            path, f"the file is truncated or damaged ({error_text(error)})", REMEDY
        ) from error
    return header, image, data


def _open(path):
    return (gzip.open if path.suffix in COMPRESSED else open)(path, "rb")


def _refuse_file(path):
    try:
        if not exists(path):
            raise UnreadableImageError(path, "there is no such file", "restore the image")
    except MissingContentError as error:
        raise UnreadableImageError(path, error.cause, error.remedy) from error
    if not path.is_file():
        raise UnreadableImageError(path, "this is not a regular file", "replace it by the image")
    if path.stat().st_size == 0:
        raise UnreadableImageError(path, "the file is empty", "copy or convert it again")


def _refuse_header(path, image):
    """Refuse voxels that are not real numbers, and absurd shapes, before memory is allocated."""
    dtype = image.get_data_dtype()
    if dtype.kind not in "iuf":
        cause = f"its voxels are {dtype.name}, but must be integers or real numbers"
        raise UnreadableImageError(
            path, cause, "write real and imaginary parts, or magnitude and phase, as two images"
        )
    if math.prod(image.shape) > MAX_VOXELS:
        cause = f"its header claims {math.prod(image.shape):.3g} voxels, more than any scan has"
        raise UnreadableImageError(path, cause, REMEDY)


def _image_class(start):
    """Detect by a file's first bytes whether it is NIfTI-1 or NIfTI-2."""
    for image_class in (nib.Nifti1Image, nib.Nifti2Image):
        if image_class.header_class.may_contain_header(start):
            return image_class
    raise ImageFileError("its first bytes are not a header")


def check_readable(path: PathLike) -> None:
    """Read a file to its last byte, so that the checksum of a compressed file is verified.

    Parameters
    ----------
    path : path-like
        An image of any format; compressed by gzip if its name ends in ``.gz`` or ``.mgz``.

    Raises
    ------
    UnreadableImageError
        If it is missing, empty, truncated or damaged.
    """
    path = Path(path)
    _refuse_file(path)
    try:
        with _open(path) as stream:
            while stream.read(CHUNK_BYTES):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableImageError(
            path, f"the file is truncated or damaged ({error_text(error)})", REMEDY
        ) from error
