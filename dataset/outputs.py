"""File names of derivatives, and the description of the derivative dataset."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bids.layout.writing import build_path

from .. import __version__
from ..bids_templates import load_template
from .content import exists
from .files import PathLike, read_json, write_json, write_text

SUBJECT_SPACE = "subject"  # label of the space that a person's scans are resampled to
NOT_IN_FMAP = {"task": "task", "ceagent": "ce", "reconstruction": "rec"}
LABEL = re.compile(r"[a-zA-Z0-9+]+")


def derivative_path(
    output_dir: PathLike,
    entities: Mapping[str, str],
    *,
    suffix: str,
    desc: str | None = None,
    space: str | None = None,
    segmentation: str | None = None,
    datatype: str = "anat",
    extension: str | None = None,
) -> Path:
    """Name a file of the derivative dataset.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    entities : dict of str
        Entities of the scan by their long names: ``subject``, and any of ``session``, ``task``,
        ``acquisition``, ``ceagent``, ``reconstruction``, ``run``, ``part`` (in ``anat``) and
        ``chunk``.
    suffix : str
        ``Chimap``, ``R2starmap``, ``T2starw``, ``mask``, ``dseg`` or ``chi`` in ``anat``;
        ``magnitude`` or ``fieldmap`` in ``fmap``; ``xfm`` in ``xfm``; any in ``figures``.
    desc, space, segmentation : str, optional
        Further entities of the derivative.
    datatype : {'anat', 'fmap', 'figures', 'xfm'}
        BIDS does not allow ``task``, ``ce`` and ``rec`` for field maps: in ``fmap`` they are
        appended to ``acq``. ``xfm`` stands for transforms of scans to a space and the subject's
        table of them, which are in the folder ``anat``.
    extension : str, optional
        Default: ``.nii.gz``; ``.svg`` for figures, ``.txt`` for transforms, ``.tsv`` for the table
        of transforms.

    Returns
    -------
    pathlib.Path
        Path below `output_dir`. Nothing is created.

    Raises
    ------
    ValueError
        If a label is not alphanumeric, so that no label can point outside `output_dir`; if a link
        points outside; or if BIDS has no name for this combination of entities, suffix, datatype
        and extension.

    Examples
    --------
    >>> scan = {"subject": "01", "run": "1"}
    >>> derivative_path("out", scan, suffix="Chimap", desc="iterative").as_posix()
    'out/sub-01/anat/sub-01_run-1_desc-iterative_Chimap.nii.gz'
    """
    scan_entities = _fmap_entities(entities) if datatype == "fmap" else dict(entities)
    own = {"suffix": suffix, "desc": desc, "space": space, "segmentation": segmentation}
    labels: dict[str, str] = {}
    for name, label in {**scan_entities, **own}.items():
        if label is not None:
            labels[name] = str(label)
    for name, label in labels.items():
        if not LABEL.fullmatch(label):
            raise ValueError(
                f"{name} {label!r} is not a BIDS label: use only letters, digits and +"
            )
    patterns = load_template("derivatives")
    if datatype not in patterns:
        raise ValueError(
            f"There are no derivatives of datatype {datatype!r}: choose one of "
            f"{', '.join(patterns)}"
        )
    relative = build_path({**labels, "extension": extension}, patterns[datatype], strict=True)
    if relative is None:
        raise ValueError(
            f"BIDS has no {datatype} file name for {labels} with extension {extension!r}"
        )
    path = Path(output_dir) / relative
    if not path.parent.resolve().is_relative_to(Path(output_dir).resolve()):
        raise ValueError(
            f"{path}: a link points outside the output folder; remove the link or choose another "
            "folder"
        )
    return path


def make_subject_folders(output_dir: PathLike, labels: Iterable[str]) -> None:
    """Make an empty folder of each subject, unless a subject's folder has content.

    A dataset of tables alone needs them, since BIDS expects a folder of each subject: the official
    validator warns if there is none.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    labels : iterable of str
        Labels of the subjects; of those that are no BIDS label there is no folder.
    """
    root = Path(output_dir)
    if any(root.glob("sub-*/*")):
        return
    for label in filter(LABEL.fullmatch, labels):
        (root / f"sub-{label}").mkdir(exist_ok=True)


def _fmap_entities(entities):
    """Move the labels of entities that field maps may not have to the end of ``acq``."""
    allowed = dict(entities)
    appended = ""
    for name, short in NOT_IN_FMAP.items():
        if label := allowed.pop(name, None):
            appended += f"{short}{label}"
    if appended:
        allowed["acquisition"] = f"{entities.get('acquisition') or ''}{appended}"
    return allowed


def bids_uri(path: PathLike, dataset_root: PathLike, name: str = "raw") -> str:
    """Return the BIDS URI of a file.

    Parameters
    ----------
    path : path-like
        A file inside the dataset. Links are not followed, since git-annex links point outside.
    dataset_root : path-like
        Root of the dataset.
    name : str
        Key of the dataset in ``DatasetLinks``; empty for the dataset in which the URI is used.

    Returns
    -------
    str
        The URI.

    Raises
    ------
    ValueError
        If the file is not inside the dataset.

    Examples
    --------
    >>> bids_uri("/data/sub-01/anat/sub-01_T2starw.nii.gz", "/data")
    'bids:raw:sub-01/anat/sub-01_T2starw.nii.gz'
    """
    relative = Path(os.path.abspath(path)).relative_to(os.path.abspath(dataset_root))
    return f"bids:{name}:{relative.as_posix()}"


def write_dataset_description(output_dir: PathLike, bids_dir: PathLike) -> Path:
    """Write ``dataset_description.json`` and ``.bidsignore`` of the derivative dataset.

    Of an earlier description, ``Authors`` are kept.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset, created if missing.
    bids_dir : path-like
        Root of the raw dataset, called ``raw`` in BIDS URIs.

    Returns
    -------
    pathlib.Path
        The description.

    Raises
    ------
    ValueError
        If `output_dir` contains a dataset of another program, or results of another raw dataset.
        Writing there would make its records false.
    MissingContentError
        If there is a description whose content has not been fetched.
    """
    path = Path(output_dir) / "dataset_description.json"
    if exists(path) and not is_multiqsm_dataset(output_dir):
        raise ValueError(
            f"{path}: this folder contains a dataset that multiqsm did not create; choose another "
            "output folder"
        )
    link = _dataset_link(bids_dir, output_dir)
    existing = read_json(path)
    links = existing.get("DatasetLinks")
    earlier = links.get("raw", link) if isinstance(links, dict) else link
    if earlier != link:
        raise ValueError(
            f"{path}: this folder contains the results of {earlier}; choose another output folder"
        )
    raw = read_json(Path(bids_dir) / "dataset_description.json")
    source = {"URL": link, "DOI": raw.get("DatasetDOI")}
    description = load_template("dataset_description")
    description["Name"] = f"{description['Name']} of {raw.get('Name', Path(bids_dir).name)}"
    description["GeneratedBy"][0]["Version"] = __version__
    description["SourceDatasets"] = [{key: value for key, value in source.items() if value}]
    description["DatasetLinks"] = {"raw": source["URL"]}
    if "License" in raw:
        description["License"] = raw["License"]
    if "Authors" in existing:  # added by the user, who alone knows them
        description["Authors"] = existing["Authors"]
    write_text(Path(output_dir) / ".bidsignore", "\n".join(load_template("bidsignore")) + "\n")
    return write_json(path, description)


def is_multiqsm_dataset(dataset_dir: PathLike) -> bool:
    """Return whether a derivative dataset was created by this package.

    Parameters
    ----------
    dataset_dir : path-like
        Root of the dataset.

    Returns
    -------
    bool
        True if multiqsm is among the ``GeneratedBy`` of its description.

    Raises
    ------
    MissingContentError
        If the description is listed without its content.
    """
    path = Path(dataset_dir) / "dataset_description.json"
    generators = read_json(path).get("GeneratedBy") if exists(path) else None
    if not isinstance(generators, list):
        return False
    return any(isinstance(tool, dict) and tool.get("Name") == "multiqsm" for tool in generators)


def _dataset_link(bids_dir, output_dir):
    """Return a link to the raw dataset.

    It is relative if the raw dataset contains the derivatives, so that both can be moved together.
    """
    raw = Path(os.path.abspath(bids_dir))
    derivative = Path(os.path.abspath(output_dir))
    if derivative.is_relative_to(raw):
        return os.path.relpath(raw, derivative).replace(os.sep, "/")
    return raw.as_uri()
