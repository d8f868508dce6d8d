"""A subject's anatomical images, FreeSurfer labels and lesion markings."""

import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path

from .bidsignore import IgnoredFiles
from .content import exists
from .exclusions import excluded_images
from .files import PathLike
from .images import check_readable
from .index import ignored_text
from .problems import DatasetError, Problem
from .tables import read_rows

# Labels of FreeSurfer's aseg.mgz that are measured or serve as a reference, under the names that
# drawn regions and atlases use.
ASEG_NAMES = {
    4: "left_lateral_ventricle",
    43: "right_lateral_ventricle",
    10: "left_thalamus",
    49: "right_thalamus",
    11: "left_caudate_nucleus",
    50: "right_caudate_nucleus",
    12: "left_putamen",
    51: "right_putamen",
    13: "left_globus_pallidus",
    52: "right_globus_pallidus",
    17: "left_hippocampus",
    53: "right_hippocampus",
    18: "left_amygdala",
    54: "right_amygdala",
    26: "left_nucleus_accumbens",
    58: "right_nucleus_accumbens",
}
ASEG = Path("mri", "aseg.mgz")
# Images in the space of aseg.mgz, in order of preference: the less an image was processed, the more
# it resembles the scans that it is registered to.
SAME_SPACE = (
    "orig.mgz",
    "T1.mgz",
    "brain.mgz",
)
LESION_MASKS = {
    "seeds": "desc-seeds_*",
    "ready": "label-lesion_mask",
    "added": "desc-lesionadd_mask",
    "removed": "desc-lesionremove_mask",
}
ATRIUM = "desc-atrium_*"
IMAGE_EXTENSIONS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class FreeSurferLabels:
    """FreeSurfer's segmentation of a subject, and the image that registers it to the scans.

    Attributes
    ----------
    aseg : pathlib.Path
        ``mri/aseg.mgz``.
    image : pathlib.Path
        An image in the same space that is registered to the gradient-echo scans.
    image_source : str
        Which image that is: ``orig.mgz`` or another one of FreeSurfer's, ``T1w`` or ``FLAIR``.
    """

    aseg: Path
    image: Path
    image_source: str


@dataclass(frozen=True)
class LesionSources:
    """Files that mark a subject's lesions, all in the scanner space of the FLAIR image.

    Attributes
    ----------
    flair : pathlib.Path
        The image on which the lesions were marked.
    ready : pathlib.Path or None
        A complete lesion mask, used unchanged.
    seeds : pathlib.Path or None
        Seed points from which lesions are grown: a table of coordinates or a mask.
    added, removed : pathlib.Path or None
        Masks of voxels that the rater added to or removed from the lesions.
    """

    flair: Path
    ready: Path | None = None
    seeds: Path | None = None
    added: Path | None = None
    removed: Path | None = None


@dataclass(frozen=True)
class Anatomy:
    """A subject's data besides the gradient-echo scans.

    Attributes
    ----------
    t1w, flair : pathlib.Path or None
        Raw images; the first in order of path if there are several.
    freesurfer : FreeSurferLabels or None
        FreeSurfer's labels.
    lesions : LesionSources or None
        None if no lesions are marked.
    """

    t1w: Path | None = None
    flair: Path | None = None
    freesurfer: FreeSurferLabels | None = None
    lesions: LesionSources | None = None


def find_anatomy(
    subject: str, folder: PathLike | None, datasets: Sequence[PathLike]
) -> tuple[Anatomy, list[Problem]]:
    """Find a subject's anatomical images, FreeSurfer's labels and marked lesions.

    FreeSurfer's results are ``<dataset>/sub-X/mri/aseg.mgz``. Lesions are marked in
    ``<dataset>/sub-X/[ses-Y/]anat/``: seeds in ``*_desc-seeds_*.tsv`` (columns x, y, z in scanner
    mm) or ``*_desc-seeds_*.nii[.gz]``, voxels to add and remove in
    ``*_desc-lesionadd_mask.nii[.gz]`` and ``*_desc-lesionremove_mask.nii[.gz]``, and a complete
    mask in ``*_label-lesion_mask.nii[.gz]``. They belong to the FLAIR image of their session, or
    else to the subject's first one.

    Parameters
    ----------
    subject : str
        Label, without ``sub-``.
    folder : path-like or None
        The subject's folder in the raw dataset, if there is one.
    datasets : sequence of path-like
        Roots of derivative datasets.

    Returns
    -------
    anatomy : Anatomy
    left_out : list of Problem
        Files that cannot be used, with the reason, and which of several images was chosen.
    """
    left_out: list[Problem] = []
    images = {}
    for suffix in ("T1w", "FLAIR"):
        images[suffix] = _raw_images(subject, folder, suffix, left_out)
    freesurfer = _usable(
        "FreeSurfer's labels", subject, left_out, _find_freesurfer, datasets, images
    )
    lesions = _usable("lesions", subject, left_out, _find_lesions, datasets, images)
    t1w = _usable("the T1w image", subject, left_out, _find_image, images["T1w"])
    flair = _usable("the FLAIR image", subject, left_out, _find_image, images["FLAIR"])
    return Anatomy(t1w, flair, freesurfer, lesions), left_out


def find_atria(
    label: str, folder: PathLike, datasets: Sequence[PathLike]
) -> list[tuple[float, float, float]]:
    """Find the coordinates that the user provides for the atria of a scan's lateral ventricles.

    Parameters
    ----------
    label : str
        Label of the scan, such as ``sub-01_ses-A_run-1``.
    folder : path-like
        The scan's folder in a dataset, such as ``sub-01/ses-A``.
    datasets : sequence of path-like
        Roots of derivative datasets.

    Returns
    -------
    list of tuple of float
        Coordinates x, y, z of each point in scanner mm; empty if the scan has no
        ``*_desc-atrium_*.tsv``.

    Raises
    ------
    DatasetError
        If there is more than one table, or the table is not valid.
    """
    tables: list[Path] = []
    for dataset in datasets:
        anat = Path(dataset, folder, "anat")
        if exists(anat):
            tables += sorted(anat.glob(f"{label}_{ATRIUM}.tsv"))
    return read_points(_only(tables, f"{label}: tables of atria")) if tables else []


def read_points(path: PathLike) -> list[tuple[float, float, float]]:
    """Read a table of points.

    Parameters
    ----------
    path : path-like
        TSV with the columns x, y and z in scanner mm (RAS+); other columns are ignored.

    Returns
    -------
    list of tuple of float

    Raises
    ------
    DatasetError
        If the table cannot be read, lacks a column, has no rows, or a value is not a number.
    """
    rows = read_rows(path, "xyz", "name the columns x, y and z, separated by tabs")
    points: list[tuple[float, float, float]] = []
    for row in rows:
        x = _coordinate(row["x"], path, row.line)
        y = _coordinate(row["y"], path, row.line)
        z = _coordinate(row["z"], path, row.line)
        points.append((x, y, z))
    if not points:
        raise DatasetError(
            f"{path}: the table has no points",
            "add one row per point with x, y and z in mm, or remove the file",
        )
    return points


def check_recon_all() -> None:
    """Raise an error if FreeSurfer's recon-all is not installed.

    Raises
    ------
    DatasetError
        If it is not on the PATH.
    """
    if shutil.which("recon-all") is None:
        raise DatasetError(
            "--recon-all: FreeSurfer's recon-all is not on the PATH",
            "install FreeSurfer and source its SetUpFreeSurfer.sh; or put existing results into "
            "derivatives/freesurfer and omit --recon-all",
        )


def _coordinate(text, path, line):
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(
            f"{path}, line {line}: {text!r} is not a coordinate", "write a number in mm"
        )
    return value


def _usable(description, subject, left_out, find, *arguments):
    """Call `find` and check its files; on an error append a problem to `left_out` and return None,
    since the scans can be processed without this anatomy.
    """
    try:
        finding = find(subject, *arguments, left_out)
        for path in _files(finding):
            check_readable(path)
        return finding
    except DatasetError as error:
        left_out.append(Problem.from_error(f"{description} of sub-{subject}", error, subject))
        return None


def _files(finding):
    """Return a path itself, or those attributes of a dataclass that are paths."""
    values = vars(finding).values() if is_dataclass(finding) else [finding]
    return [value for value in values if isinstance(value, Path)]


def _find_image(subject, images, left_out):
    return next(iter(images), None)


def _raw_images(subject, folder, suffix, left_out):
    """Return the subject's raw images that neither ``.bidsignore`` nor scans.tsv excludes."""
    if folder is None:
        return []
    folder = Path(folder)
    ignored = IgnoredFiles(folder.parent)
    excluded = excluded_images(folder)
    images = []
    for path in _glob_all([folder], f"**/anat/*_{suffix}", IMAGE_EXTENSIONS):
        rule = ignored.rule_of(path)
        reason = ignored_text(rule) if rule else excluded.get(path.name)
        if reason:
            label = f"the {suffix} image of sub-{subject}"
            left_out.append(Problem(label, path.name, reason, "", "unused", subject))
        else:
            images.append(path)
    return images


def _glob_all(folders, pattern, extensions):
    """Return all files below some folders that match a pattern with one of the extensions,
    sorted.
    """
    paths = []
    for folder in folders:
        for extension in extensions:
            paths += folder.glob(f"{pattern}{extension}")
    return sorted(paths)


def _first(images, left_out):
    """Return the first image, and add a note to `left_out` that names the unused ones."""
    if len(images) > 1:
        unused = ", ".join(path.name for path in images[1:])
        cause = f"not used: {images[0].name} is the first of these images"
        left_out.append(Problem(unused, "", cause, "", "note"))
    return images[0]


def _find_freesurfer(subject, datasets, images, left_out):
    folder_name = re.compile(rf"sub-{re.escape(subject)}(_ses-[a-zA-Z0-9+]+)?")
    complete = []
    incomplete = []
    for dataset in datasets:
        for folder in sorted(Path(dataset).glob("sub-*")):
            if folder_name.fullmatch(folder.name) and exists(folder / "mri"):
                (complete if exists(folder / ASEG) else incomplete).append(folder)
    if not complete:
        for folder in incomplete:
            cause = f"{ASEG} is missing: recon-all did not finish"
            left_out.append(Problem(str(folder), "", cause, "run it again", subject=subject))
        return None
    folder = _only(complete, f"sub-{subject}: FreeSurfer results")
    for name in SAME_SPACE:
        if exists(folder / "mri" / name):
            return FreeSurferLabels(folder / ASEG, folder / "mri" / name, name)
    for suffix, paths in images.items():
        if paths:
            return FreeSurferLabels(folder / ASEG, _first(paths, left_out), suffix)
    raise DatasetError(
        f"{folder / ASEG}: there is no image to register these labels to the scans",
        f"keep mri/{SAME_SPACE[0]} beside them, "
        "or put the T1w image into the subject's anat folder",
    )


def _find_lesions(subject, datasets, images, left_out):
    marks = {}
    for kind, name in LESION_MASKS.items():
        marks[kind] = _find_marks(subject, datasets, name)
    if not (marks["ready"] or marks["seeds"]):
        for path in (*marks["added"], *marks["removed"]):
            cause = "nothing to edit: there are neither seeds nor a lesion mask"
            left_out.append(Problem(str(path), "", cause, "", "note", subject))
        return None
    if not images["FLAIR"]:
        raise DatasetError(
            f"{(marks['ready'] or marks['seeds'])[0]}: the subject has no FLAIR image on which "
            "lesions could be segmented",
            "put one into the subject's anat folder",
        )
    sources = {}
    for kind, paths in marks.items():
        sources[kind] = _only(paths, f"sub-{subject}: files of {kind}") if paths else None
    if sources["ready"] and sources["seeds"]:
        cause = f"not used: there is a complete lesion mask, {sources['ready'].name}"
        left_out.append(Problem(str(sources["seeds"]), "", cause, "", "note", subject))
        sources["seeds"] = None
    # Lesions are marked on the FLAIR image of the session in whose folder the marks are.
    session = (sources["ready"] or sources["seeds"]).parents[1].name
    of_session = [path for path in images["FLAIR"] if path.parents[1].name == session]
    return LesionSources(_first(of_session or images["FLAIR"], left_out), **sources)


def _find_marks(subject, datasets, name):
    """Find a subject's lesion files whose names end in `name`; with a ``*`` they may be tables."""
    extensions = (*IMAGE_EXTENSIONS, ".tsv") if name.endswith("*") else IMAGE_EXTENSIONS
    folders = []
    for dataset in datasets:
        folder = Path(dataset, f"sub-{subject}")
        if exists(folder):
            folders.append(folder)
    return _glob_all(folders, f"**/anat/sub-{subject}_*{name}", extensions)


def _only(paths, description):
    if len(paths) > 1:
        listed = ", ".join(map(str, paths))
        raise DatasetError(
            f"{description}: more than one ({listed})",
            "remove all but one, or choose the dataset to use with --derivatives",
        )
    return paths[0]
