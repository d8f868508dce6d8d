"""Find the user's derivative datasets, and brain masks in them."""

import re
from collections.abc import Sequence
from pathlib import Path

from .content import MissingContentError, exists, is_listed, require_content
from .files import PathLike, read_json
from .index import is_folder
from .names import BRAIN_MASK
from .outputs import derivative_path, is_multiqsm_dataset
from .problems import DatasetError, Problem, UnusableScanError
from .scans import Scan
from .sidecars import sidecar_path
from .values import one_line

FREESURFER = Path("derivatives", "freesurfer")  # below the raw dataset
GRADIENT_ECHO = re.compile(r"_(MEGRE|T2starw)\.")  # in a file name


def derivative_datasets(
    root: PathLike, derivatives: Sequence[PathLike] | None = None
) -> list[Path]:
    """List the derivative datasets to search for the user's masks and labels.

    Parameters
    ----------
    root : path-like
        Root of the raw dataset.
    derivatives : sequence of path-like, optional
        Datasets chosen by the user. By default all in the raw dataset's ``derivatives`` folder
        except those that multiqsm created.

    Returns
    -------
    list of pathlib.Path
        Their roots.

    Raises
    ------
    DatasetError
        If one of the folders does not exist, if ``derivatives`` is a broken link, or if a dataset's
        description is listed without its content, so that its origin is unknown.
    """
    # Paths are absolute, since Nipype nodes run in their own working directories.
    if derivatives is None:
        folder = Path(root, "derivatives").absolute()
        require_content(folder)
        paths = sorted(filter(is_folder, folder.glob("*")))
        return [path for path in paths if exists(path) and not is_multiqsm_dataset(path)]
    folders = []
    missing_folders = []
    for path in derivatives:
        if exists(path) and Path(path).is_dir():
            folders.append(Path(path).absolute())
        else:
            missing_folders.append(str(path))
    if missing_folders:
        raise DatasetError(
            f"{', '.join(missing_folders)}: no such folder of derivatives", "check --derivatives"
        )
    return folders


def list_missing_datasets(root: Path) -> list[Problem]:
    """List the subdatasets in the folder ``derivatives`` that datalad has not fetched, as notes."""
    modules = root / ".gitmodules"
    text = modules.read_text(encoding="utf-8", errors="replace") if modules.is_file() else ""
    names = re.findall(r"^\s*path\s*=\s*(derivatives/\S+)\s*$", text, re.MULTILINE)
    notes = []
    for name in names:
        folder = root / name
        if folder.is_dir() and not any(folder.iterdir()):
            label = one_line(name)
            cause = "a subdataset that has not been fetched"
            remedy = f"if it contains masks or regions, fetch it with datalad get -n {label}"
            notes.append(Problem(label, "", cause, remedy, "note"))
    return notes


def find_brain_mask(scan: Scan, datasets: Sequence[Path]) -> tuple[Path | None, list[Problem]]:
    """Find the user's brain mask of a scan.

    Masks that were made from another image, such as a T1w, are not used.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan, whose entities the mask must have.
    datasets : sequence of pathlib.Path
        Roots of derivative datasets.

    Returns
    -------
    brain_mask : pathlib.Path or None
    unused : list of multiqsm.dataset.problems.Problem
        A note for each mask of another image.

    Raises
    ------
    UnusableScanError
        If a mask's sidecar is listed without its content, or there is more than one mask.
    """
    if not datasets:
        return None, []
    compressed = derivative_path("", scan.entities, **BRAIN_MASK, extension=".nii.gz")
    own = []
    unused = []
    try:
        for dataset in datasets:
            for name in (compressed, compressed.with_suffix("")):
                path = dataset / name
                # A mask without content counts as well: the preflight checks report it.
                if not (is_listed(path) or exists(path)):
                    continue
                if is_of_gradient_echo(path):
                    own.append(path)
                    continue
                cause = "not used: its sidecar says that it was made from another image"
                subject = scan.entities["subject"]
                unused.append(Problem(one_line(str(path)), "", cause, "", "note", subject))
    except MissingContentError as error:
        raise UnusableScanError(error.cause, error.remedy, error.file) from error
    if len(own) > 1:
        raise UnusableScanError(
            f"there is more than one brain mask ({', '.join(map(str, own))})",
            "choose the dataset to use with --derivatives, or remove all but one",
        )
    return (own[0] if own else None), unused


def is_of_gradient_echo(image: Path) -> bool:
    """Return whether a mask or label image was made from a gradient-echo scan, by its sidecar.

    Parameters
    ----------
    image : pathlib.Path
        The mask or label image.

    Returns
    -------
    bool
        True if its sources are gradient-echo images, or if it names none, so that the file name
        alone shows what it belongs to.

    Raises
    ------
    MissingContentError
        If the sidecar is listed without its content.
    """
    sidecar = sidecar_path(image)
    metadata = read_json(sidecar) if exists(sidecar) else {}
    sources = metadata.get("Sources") or metadata.get("RawSources") or []
    if not isinstance(sources, list):
        sources = [sources]
    names = [source for source in sources if isinstance(source, str)]
    return not names or any(map(GRADIENT_ECHO.search, names))
