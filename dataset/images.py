"""Images as files: read to their last byte, so that no damaged one is taken for whole."""

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
from .files import PathLike
from .forms import Form, header_forms, scanner_form
from .problems import DatasetError

AGAIN = "copy it again, or make it again"
COMPRESSED = (".gz", ".mgz")
LONGEST_HEADER = 540  # bytes, of NIfTI-2
CHUNK_BYTES = 2**20
SAMPLE = 2**15  # voxels
MOST_VOXELS = 2**30
MOST_BYTES_BEHIND = 2**30  # the last voxel


class UnreadableImageError(DatasetError):
    """An image cannot be read."""

    def __init__(self, path: PathLike, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy, path)


@dataclass(frozen=True)
class ImageSummary:
    """What one complete reading of an image found.

    Attributes
    ----------
    shape : tuple of int
        As in the header.
    affine : numpy.ndarray
        4 by 4, voxel to mm.
    voxel_size : tuple of float
        In mm, as the header states it (nibabel takes 1 for a 0).
    forms : tuple of multiqsm.dataset.forms.Form
        The header's forms that have a code; without any the affine is a guess.
    scanner : multiqsm.dataset.forms.Form
        The form that gives the direction of B0.
    minimum, maximum : float
        Over the finite voxels; NaN if there are none.
    fraction : float or None
        Some value that is not a whole number; None if all are whole, as integers are.
    not_finite : numpy.ndarray
        Flat indices of the voxels that are NaN or infinite.
    n_nonzero : int
        Number of voxels that are finite and not zero.
    is_binary : bool
        There is no value but 0 and one other.
    n_at_maximum : int
        Number of voxels that have the maximum.
    checksum : int
        CRC-32 of the values as 32-bit floats.
    block : numpy.ndarray or None
        The middle of the image, with 0 for what is not finite; None unless the image is 3-D.
    sample : numpy.ndarray or None
        Voxels from all over the image, at the same places in images of the same shape; the rest as
        of `block`.
    """

    shape: tuple[int, ...]
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


def summarize_image(path: PathLike) -> ImageSummary:
    """Read an image to its last byte.

    Parameters
    ----------
    path : path-like
        A NIfTI file, compressed or not. A compressed one is read past its last voxel, for the
        checksum.

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
    finite = np.isfinite(data)
    values = data if finite.all() else data[finite]
    fractions = values[values != np.rint(values)]
    n_nonzero = int(np.count_nonzero(values))
    maximum = float(values.max()) if values.size else math.nan
    n_at_maximum = int(np.count_nonzero(values == maximum))
    return ImageSummary(
        shape=image.shape,
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
    """Evenly spaced voxels, some ten thousand."""
    step = max(1, math.ceil((data.size / SAMPLE) ** (1 / 3)))
    return data[::step, ::step, ::step].ravel()


def read_image(
    path: PathLike, dtype: DTypeLike = np.float32
) -> tuple[nib.Nifti1Header, nib.Nifti1Image, np.ndarray]:
    """Read an image past its last voxel, to where a compressed file has the checksum.

    Parameters
    ----------
    path : path-like
        A NIfTI file, compressed or not.
    dtype : numpy type
        Of the voxels; 64-bit floats keep every label as it is, 32-bit ones those up to 2²⁴.

    Returns
    -------
    header : nibabel.Nifti1Header
        As it is stored.
    image : nibabel.Nifti1Image
        For its shape, affine and type; its voxels can no longer be read from it.
    data : ndarray
        The scaled voxels.

    Raises
    ------
    UnreadableImageError
        If the file is missing, empty, not NIfTI, truncated or damaged.
    """
    path = Path(path)
    _refuse_file(path)
    try:
        with _unpacked(path) as stream:
            image_class = _image_class(stream.read(LONGEST_HEADER))
            stream.seek(0)
            header = image_class.header_class.from_fileobj(stream, check=False)
            stream.seek(0)
            image = image_class.from_stream(stream)
            _refuse_header(path, image)
            data = image.get_fdata(dtype=dtype, caching="unchanged")
            behind = 0
            while chunk := stream.read(CHUNK_BYTES):
                behind += len(chunk)
                if behind > MOST_BYTES_BEHIND:
                    raise OSError("there is no end of data behind the last voxel")
    except (ImageFileError, HeaderDataError) as error:
        raise UnreadableImageError(path, f"not a NIfTI file ({error})", AGAIN) from error
    except MemoryError as error:
        cause = "there is too little memory to read it"
        raise UnreadableImageError(path, cause, "free some, or take a machine with more") from error
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise UnreadableImageError(
            path, f"the file is truncated or damaged ({error})", AGAIN
        ) from error
    return header, image, data


def _unpacked(path):
    return (gzip.open if path.suffix in COMPRESSED else open)(path, "rb")


def _refuse_file(path):
    try:
        if not exists(path):
            raise UnreadableImageError(path, "there is no such file", "put the image there")
    except MissingContentError as error:
        raise UnreadableImageError(path, error.cause, error.remedy) from error
    if not path.is_file():
        raise UnreadableImageError(path, "this is no regular file", "put the image there")
    if path.stat().st_size == 0:
        raise UnreadableImageError(path, "the file is empty", "copy or convert it again")


def _refuse_header(path, image):
    """What no image has is refused before memory is asked for."""
    kind = image.get_data_dtype().kind
    if kind not in "iuf":
        cause = f"its voxels are {image.get_data_dtype().name}, where one number each is needed"
        raise UnreadableImageError(
            path, cause, "write real and imaginary parts, or magnitude and phase, as two images"
        )
    if math.prod(image.shape) > MOST_VOXELS:
        cause = f"its header claims {math.prod(image.shape):.3g} voxels, more than any scan has"
        raise UnreadableImageError(path, cause, AGAIN)


def _image_class(start):
    """Tell the two NIfTI formats by a file's first bytes."""
    for image_class in (nib.Nifti1Image, nib.Nifti2Image):
        if image_class.header_class.may_contain_header(start):
            return image_class
    raise ImageFileError("its first bytes are no header")


def check_readable(path: PathLike) -> None:
    """Read a file to its last byte, where a compressed one has its checksum.

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
        with _unpacked(path) as stream:
            while stream.read(CHUNK_BYTES):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise UnreadableImageError(
            path, f"the file is truncated or damaged ({error})", AGAIN
        ) from error
