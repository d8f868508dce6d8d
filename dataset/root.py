"""The root folder of a BIDS dataset, before anything in it is read."""

from itertools import islice
from pathlib import Path

from .content import exists, require_content
from .files import PathLike
from .problems import DatasetError

DICOM_MAGIC = b"DICM"  # after a preamble of 128 bytes
DICOM_SUFFIXES = (".dcm", ".ima")
PROBED_FILES = 50


def check_root(bids_dir: PathLike) -> Path:
    """Check that a folder is the root of a BIDS dataset.

    Parameters
    ----------
    bids_dir : path-like
        The folder.

    Returns
    -------
    pathlib.Path
        Its absolute path.

    Raises
    ------
    DatasetError
        If there is no such folder, it is a file, it holds DICOM files, or it has no
        dataset_description.json; the message says what to do.
    """
    root = Path(bids_dir).absolute()
    if not exists(root):
        raise DatasetError(f"{root}: no such folder", "give the root folder of a BIDS dataset")
    if not root.is_dir():
        raise DatasetError(
            f"{root}: a file, not a folder", "give the root folder of a BIDS dataset"
        )
    description = root / "dataset_description.json"
    require_content(description)
    if description.is_file():
        return root
    if dicom := find_dicom(root):
        raise DatasetError(
            f"{root}: a folder of DICOM files ({dicom.relative_to(root)}, …), not a BIDS dataset",
            "convert them to BIDS, for example with dcm2bids or heudiconv",
        )
    raise DatasetError(
        f"{root}: no dataset_description.json",
        "specify the root folder of a BIDS dataset, or add that file",
    )


def find_dicom(folder: Path) -> Path | None:
    """Return a DICOM file among the first files of a folder, if there is one."""
    for path in islice(sorted(folder.rglob("*"), key=lambda path: len(path.parts)), PROBED_FILES):
        if not path.is_file():
            continue
        if path.suffix.lower() in DICOM_SUFFIXES:
            return path
        try:
            with path.open("rb") as stream:
                if stream.read(132)[128:] == DICOM_MAGIC:
                    return path
        except OSError:
            continue
    return None
