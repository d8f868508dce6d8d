"""Derivative datasets of the user: brain masks, and images made from a gradient-echo scan."""

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


def derivative_datasets(
    root: PathLike, derivatives: Sequence[PathLike] | None = None
) -> list[Path]:
    """List the derivative datasets to look for a user's masks and labels in.

    Parameters
    ----------
    root : path-like
        Root of the raw dataset.
    derivatives : sequence of path-like, optional
        The datasets to take. By default all in the dataset's ``derivatives`` folder except those
        that multiqsm made.

    Returns
    -------
    list of pathlib.Path
        Their roots.

    Raises
    ------
    DatasetError
        If one of them does not exist, if ``derivatives`` is a link to what is not here, or if a
        dataset's description is listed without its content, so that nobody knows whose it is.
    """
    # Nodes work in folders of their own: what is found there is named in full.
    if derivatives is None:
        require_content(Path(root, "derivatives").absolute())
        beside = sorted(
            path for path in Path(root, "derivatives").absolute().glob("*") if is_folder(path)
        )
        return [path for path in beside if exists(path) and not is_multiqsm_dataset(path)]
    missing = [str(path) for path in derivatives if not (exists(path) and Path(path).is_dir())]
    if missing:
        raise DatasetError(f"{', '.join(missing)}: no such folder of derivatives")
    return [Path(path).absolute() for path in derivatives]


def list_missing_datasets(root: Path) -> list[Problem]:
    """Folders of derivatives that belong to datasets of their own, which datalad has not
    fetched.
    """
    modules = root / ".gitmodules"
    text = modules.read_text(encoding="utf-8", errors="replace") if modules.is_file() else ""
    names = re.findall(r"^\s*path\s*=\s*(derivatives/\S+)\s*$", text, re.MULTILINE)
    empty = [name for name in names if (root / name).is_dir() and not any((root / name).iterdir())]
    cause = "a dataset of its own that is not here"
    remedy = "if it holds masks or regions, fetch it with datalad get -n {}"
    return [
        Problem(one_line(name), "", cause, remedy.format(one_line(name)), "note") for name in empty
    ]


def find_brain_mask(scan: Scan, datasets: Sequence[Path]) -> tuple[Path | None, list[Problem]]:
    """Find the mask with the scan's entities; one made from another image, such as a T1w, is not
    the scan's.
    """
    if not datasets:
        return None, []
    names = [
        derivative_path("", scan.entities, **BRAIN_MASK, extension=extension)
        for extension in (".nii.gz", ".nii")
    ]
    candidates = [dataset / name for dataset in datasets for name in names]
    try:
        # One whose content is not here is the scan's as well: preflight tells that it cannot be
        # read.
        found = [path for path in candidates if is_listed(path) or exists(path)]
        foreign = [path for path in found if not is_of_gradient_echo(path)]
    except MissingContentError as error:
        raise UnusableScanError(error.cause, error.remedy, error.file) from error
    own = [path for path in found if path not in foreign]
    if len(own) > 1:
        raise DatasetError(
            f"{scan.label}: more than one brain mask ({', '.join(map(str, own))})",
            "say with --derivatives whose masks to use, or remove all but one",
        )
    reason = "its sidecar says that it was made from another image"
    subject = scan.entities["subject"]
    refused = [Problem(one_line(str(path)), "", reason, "", "note", subject) for path in foreign]
    return (own[0] if own else None), refused


def is_of_gradient_echo(image: Path) -> bool:
    """Tell by its sidecar whether a mask or label image was made from a gradient-echo scan.

    Parameters
    ----------
    image : pathlib.Path
        The mask or label image.

    Returns
    -------
    bool
        True if its sources are gradient-echo images, or if it names none: then it is taken at its
        file name.

    Raises
    ------
    MissingContentError
        If the sidecar is listed without its content.
    """
    sidecar = sidecar_path(image)
    metadata = read_json(sidecar) if exists(sidecar) else {}
    sources = metadata.get("Sources") or metadata.get("RawSources") or []
    sources = [
        source
        for source in (sources if isinstance(sources, list) else [sources])
        if isinstance(source, str)
    ]
    return not sources or any(re.search(r"_(MEGRE|T2starw)\.", source) for source in sources)
