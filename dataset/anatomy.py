"""Anatomical images of a subject, and what was made of them: FreeSurfer's labels, and lesions
marked by a rater.
"""

import math
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path

from .content import exists
from .files import PathLike
from .images import check_readable
from .problems import DatasetError, Problem
from .tables import read_rows

# Labels of FreeSurfer's aseg.mgz that are measured or referred to, by the names that drawn regions
# and atlases have.
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
# images that lie in the space of aseg.mgz, the best known first
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
IMAGE = (".nii.gz", ".nii")


@dataclass(frozen=True)
class FreeSurferLabels:
    """FreeSurfer's segmentation of a subject, and the image that brings it to the scans.

    Attributes
    ----------
    aseg : pathlib.Path
        ``mri/aseg.mgz``.
    image : pathlib.Path
        An image in the same space that is registered to the gradient-echo scans.
    image_source : str
        What it is: ``orig.mgz`` or another of FreeSurfer's, ``T1w`` or ``FLAIR``.
    """

    aseg: Path
    image: Path
    image_source: str


@dataclass(frozen=True)
class LesionSources:
    """What is known of a subject's lesions; all of it lies in the scanner's space of the FLAIR
    image.

    Attributes
    ----------
    flair : pathlib.Path
        The image that they are seen in.
    ready : pathlib.Path or None
        A lesion mask that is taken as it is.
    seeds : pathlib.Path or None
        Points in lesions that are grown: a table of coordinates or a mask.
    added, removed : pathlib.Path or None
        Masks of voxels that are added and taken away by hand.
    """

    flair: Path
    ready: Path | None = None
    seeds: Path | None = None
    added: Path | None = None
    removed: Path | None = None


@dataclass(frozen=True)
class Anatomy:
    """What there is of a subject beside the gradient-echo scans.

    Attributes
    ----------
    t1w, flair : pathlib.Path or None
        Raw images; the first by path where there are several.
    freesurfer : FreeSurferLabels or None
        FreeSurfer's labels.
    lesions : LesionSources or None
        None if nobody has marked any.
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
    ``<dataset>/sub-X/[ses-Y/]anat/``: seeds in ``*_desc-seeds_*.tsv`` (columns x, y, z in the
    scanner's mm) or ``*_desc-seeds_*.nii[.gz]``, voxels to add and remove in
    ``*_desc-lesionadd_mask.nii[.gz]`` and ``*_desc-lesionremove_mask.nii[.gz]``, and a ready mask
    in ``*_label-lesion_mask.nii[.gz]``. They belong to the FLAIR image of their session, or else to
    the first.

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
        What cannot be used and why, and which of several images was taken.
    """
    left_out: list[Problem] = []
    images = {suffix: _raw_images(folder, suffix) for suffix in ("T1w", "FLAIR")}
    freesurfer = _usable(
        "FreeSurfer's labels", subject, left_out, _find_freesurfer, datasets, images
    )
    lesions = _usable("lesions", subject, left_out, _find_lesions, datasets, images)
    t1w, flair = (
        _usable(f"the {suffix} image", subject, left_out, _find_image, images[suffix])
        for suffix in images
    )
    return Anatomy(t1w, flair, freesurfer, lesions), left_out


def find_atria(
    label: str, folder: PathLike, datasets: Sequence[PathLike]
) -> list[tuple[float, float, float]]:
    """Find the coordinates that a user gives for the atria of a scan's lateral ventricles.

    Parameters
    ----------
    label : str
        Of the scan, such as ``sub-01_ses-A_run-1``.
    folder : path-like
        Its folder in a dataset, such as ``sub-01/ses-A``.
    datasets : sequence of path-like
        Roots of derivative datasets.

    Returns
    -------
    list of tuple of float
        x, y, z of each in the scanner's mm; empty if there is no ``*_desc-atrium_*.tsv`` of the
        scan.

    Raises
    ------
    DatasetError
        If there is more than one table, or it makes no sense.
    """
    folders = [Path(dataset, folder, "anat") for dataset in datasets]
    found = [
        path
        for folder in folders
        if exists(folder)
        for path in sorted(folder.glob(f"{label}_{ATRIUM}.tsv"))
    ]
    return read_points(_only(found, f"{label}: tables of atria")) if found else []


def read_points(path: PathLike) -> list[tuple[float, float, float]]:
    """Read a table of points.

    Parameters
    ----------
    path : path-like
        TSV with the columns x, y and z in the scanner's mm (RAS+); others are ignored.

    Returns
    -------
    list of tuple of float

    Raises
    ------
    DatasetError
        If the table cannot be read, lacks a column, has no row, or a value is no number.
    """
    rows = read_rows(path, "xyz", "points have x, y and z, with tabs between columns")
    points = [
        tuple(_coordinate(row.get(axis), path, number) for axis in "xyz")
        for number, row in enumerate(rows, 2)
    ]
    if not points:
        raise DatasetError(
            f"{path}: no point is there",
            "add a row with x, y and z in mm for each, or remove the file",
        )
    return points


def check_recon_all() -> None:
    """Raise an error if FreeSurfer's recon-all is not installed.

    Raises
    ------
    DatasetError
        What to do.
    """
    if shutil.which("recon-all") is None:
        raise DatasetError(
            "--recon-all: FreeSurfer's recon-all is not on the PATH",
            "install FreeSurfer and source its "
            "SetUpFreeSurfer.sh, or put its results into derivatives/freesurfer and leave "
            "--recon-all out",
        )


def _coordinate(text, path, number):
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DatasetError(f"{path}, line {number}: {text!r} is no coordinate", "write mm")
    return value


def _usable(what, subject, left_out, find, *arguments):
    """What was found, or None with the reason among what is left out: the scans are processed
    without.
    """
    try:
        found = find(subject, *arguments, left_out)
        for path in _files(found):
            check_readable(path)
        return found
    except DatasetError as error:
        left_out.append(Problem.from_error(f"{what} of sub-{subject}", error, subject))
        return None


def _files(found):
    """What was found, or those of its attributes that are files."""
    values = vars(found).values() if is_dataclass(found) else [found]
    return [value for value in values if isinstance(value, Path)]


def _find_image(subject, images, left_out):
    return next(iter(images), None)


def _raw_images(folder, suffix):
    if folder is None:
        return []
    return sorted(
        path for ending in IMAGE for path in Path(folder).glob(f"**/anat/*_{suffix}{ending}")
    )


def _first(images, left_out):
    """The first of some images; that there are others is told."""
    if len(images) > 1:
        others = ", ".join(path.name for path in images[1:])
        left_out.append(
            Problem(others, "", f"{images[0].name} is taken, the first of these images", "", "note")
        )
    return images[0]


def _find_freesurfer(subject, datasets, images, left_out):
    name = re.compile(rf"sub-{re.escape(subject)}(_ses-[a-zA-Z0-9+]+)?")
    beside = [path for dataset in datasets for path in sorted(Path(dataset).glob("sub-*"))]
    folders = [path for path in beside if name.fullmatch(path.name) and exists(path / "mri")]
    done = [path for path in folders if exists(path / ASEG)]
    if not done:
        for folder in folders:
            cause = f"no {ASEG}: recon-all did not end"
            left_out.append(Problem(str(folder), "", cause, "run it again", subject=subject))
        return None
    folder = _only(done, f"sub-{subject}: results of FreeSurfer")
    for name in SAME_SPACE:
        if exists(folder / "mri" / name):
            return FreeSurferLabels(folder / ASEG, folder / "mri" / name, name)
    for suffix, found in images.items():
        if found:
            return FreeSurferLabels(folder / ASEG, _first(found, left_out), suffix)
    raise DatasetError(
        f"{folder / ASEG}: no image brings these labels to the scans",
        f"keep mri/{SAME_SPACE[0]} beside them, "
        "or put the T1w image into the subject's anat folder",
    )


def _find_lesions(subject, datasets, images, left_out):
    found = {kind: _marked(subject, datasets, name) for kind, name in LESION_MASKS.items()}
    if not (found["ready"] or found["seeds"]):
        for kind in ("added", "removed"):
            for path in found[kind]:
                cause = "nothing to edit: there are neither seeds nor a lesion mask"
                left_out.append(Problem(str(path), "", cause, "", "note", subject))
        return None
    if not images["FLAIR"]:
        raise DatasetError(
            f"{(found['ready'] or found['seeds'])[0]}: there is no FLAIR image of the subject to "
            "see lesions in",
            "put it into the subject's anat folder",
        )
    chosen = {
        kind: _only(paths, f"sub-{subject}: files of {kind}") if paths else None
        for kind, paths in found.items()
    }
    if chosen["ready"] and chosen["seeds"]:
        cause = f"the ready mask {chosen['ready'].name} is taken"
        left_out.append(Problem(str(chosen["seeds"]), "", cause, "", "note", subject))
        chosen["seeds"] = None
    # The marks of a session were made on its image.
    session = (chosen["ready"] or chosen["seeds"]).parents[1].name
    own = [path for path in images["FLAIR"] if path.parents[1].name == session]
    return LesionSources(_first(own or images["FLAIR"], left_out), **chosen)


def _marked(subject, datasets, name):
    endings = (*IMAGE, ".tsv") if name.endswith("*") else IMAGE
    folders = [folder for dataset in datasets if exists(folder := Path(dataset, f"sub-{subject}"))]
    return sorted(
        path
        for f in folders
        for e in endings
        for path in f.glob(f"**/anat/sub-{subject}_*{name}{e}")
    )


def _only(paths, what):
    if len(paths) > 1:
        listed = ", ".join(map(str, paths))
        raise DatasetError(
            f"{what}: more than one ({listed})",
            "remove the others, or say with --derivatives whose to use",
        )
    return paths[0]
