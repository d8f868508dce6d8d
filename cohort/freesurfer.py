"""FreeSurfer's tables of statistics, versions 5 to 8: volumes of thalamus, grey matter and head,
cortical thickness.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..dataset.content import MissingContentError, exists, is_listed, require_content
from ..dataset.problems import DatasetError

COLUMNS = {
    "thalamic_volume_left": "mL",
    "thalamic_volume_right": "mL",
    "thalamic_volume": "mL",
    "grey_matter_volume": "mL",
    "cortical_thickness": "mm",
    "intracranial_volume": "mL",
}
NAME = re.compile(r"sub-(?P<subject>[a-zA-Z0-9+]+)(_ses-(?P<session>[a-zA-Z0-9+]+))?")

# The same structure or measure as the versions call it; the newest name first.
THALAMUS = ("{side}-Thalamus", "{side}-Thalamus-Proper", "{side}-Thalamus-Proper*")
INTRACRANIAL = ("eTIV", "ICV")
# what hemispheres are weighted by: areas, or vertices without them
AREAS = (
    "WhiteSurfArea",
    "SurfArea",
    "NumVert",
)
LARGEST = 10_000_000  # bytes; a table of statistics has some ten thousand
MM3_IN_ML = 1000


@dataclass(frozen=True)
class Statistics:
    """The folder of statistics of one run of FreeSurfer.

    Attributes
    ----------
    subject : str
        Label of the participant.
    session : str or None
        Label of the session.
    folder : pathlib.Path
        Holds ``aseg.stats``, ``lh.aparc.stats`` and ``rh.aparc.stats``.
    """

    subject: str
    session: str | None
    folder: Path


def find_statistics(freesurfer_dir):
    """Find the tables of all participants in FreeSurfer's folder.

    Parameters
    ----------
    freesurfer_dir : path-like
        FreeSurfer's ``SUBJECTS_DIR`` with folders ``sub-X`` or ``sub-X_ses-Y``.

    Returns
    -------
    found : list of Statistics
        Sorted by label. Folders that are no participant's, such as ``fsaverage``, are not in it.
    refused : list of (str, str)
        Folder, and why it was not used: runs of the longitudinal stream, whose measures do not
        compare with those of others, participants' folders without statistics, and links to what is
        not here.
    """
    found = []
    refused = []
    folders = sorted(Path(freesurfer_dir).iterdir()) if Path(freesurfer_dir).is_dir() else []
    for folder in folders:
        if not folder.name.startswith("sub-"):
            continue
        try:
            is_run = exists(folder) and folder.is_dir()
            has_statistics = is_run and exists(folder / "stats")
        except MissingContentError as error:
            refused.append((folder.name, str(error)))
            continue
        if not is_run:
            continue
        match = NAME.fullmatch(folder.name)
        if ".long." in folder.name or is_listed(folder / "base-tps"):
            cause = (
                "is of FreeSurfer's longitudinal stream, whose measures do not compare with those "
                "of single runs"
            )
            refused.append(
                (folder.name, f"{folder}: {cause}; run recon-all on each session by itself")
            )
        elif match is None:
            refused.append(
                (folder.name, f"{folder}: is called neither sub-X nor sub-X_ses-Y; rename it")
            )
        elif not has_statistics:
            refused.append(
                (folder.name, f"{folder}: no folder stats; recon-all did not come to its end")
            )
        else:
            found.append(Statistics(match["subject"], match["session"], folder / "stats"))
    return found, refused


def read_statistics(folder):
    """Read the measures of one run of FreeSurfer.

    Parameters
    ----------
    folder : path-like
        Its folder ``stats``.

    Returns
    -------
    dict of str to float
        ``thalamic_volume_left``, ``thalamic_volume_right`` and their sum ``thalamic_volume``,
        ``grey_matter_volume`` (cortex, subcortex and cerebellum) in mL; ``cortical_thickness`` in
        mm, the mean of both hemispheres weighted by the area of their white surface, or by vertices
        where that is not given; ``intracranial_volume``, FreeSurfer's estimate, in mL, or NaN where
        it is not given.

    Raises
    ------
    DatasetError
        If a file is missing or cannot be read, with its line; or if a measure is missing.
    """
    folder = Path(folder)
    measures, structures = _read_table(folder / "aseg.stats")
    left, right = (_thalamus(structures, side, folder / "aseg.stats") for side in ("Left", "Right"))
    grey = _measure(measures, ("TotalGrayVol",), folder / "aseg.stats")
    inside = next((measures[name] for name in INTRACRANIAL if name in measures), float("nan"))
    volumes = {
        "thalamic_volume_left": left,
        "thalamic_volume_right": right,
        "thalamic_volume": left + right,
    }
    volumes |= {"grey_matter_volume": grey, "intracranial_volume": inside}
    return {name: value / MM3_IN_ML for name, value in volumes.items()} | {
        "cortical_thickness": _thickness(folder)
    }


def _thalamus(structures, side, path):
    for name in (pattern.format(side=side) for pattern in THALAMUS):
        if name in structures:
            return structures[name]
    raise DatasetError(
        f"{path}: no row {side}-Thalamus or {side}-Thalamus-Proper", "run recon-all again"
    )


def _measure(measures, names, path):
    for name in names:
        if name in measures:
            return measures[name]
    raise DatasetError(f"{path}: no measure {' or '.join(names)}", "run recon-all again")


def _thickness(folder):
    paths = [folder / f"{side}.aparc.stats" for side in ("lh", "rh")]
    sides = [_read_table(path)[0] for path in paths]
    thickness = [
        _measure(side, ("MeanThickness",), path) for side, path in zip(sides, paths, strict=True)
    ]
    shared = [name for name in AREAS if all(name in side for side in sides)]
    if not shared:
        raise DatasetError(
            f"{folder}: no measure {' or '.join(AREAS)} of both hemispheres to weight them by"
        )
    weights = [side[shared[0]] for side in sides]
    if sum(weights) <= 0:
        raise DatasetError(
            f"{folder}: {shared[0]} of the hemispheres is not positive", "run recon-all again"
        )
    return sum(t * w for t, w in zip(thickness, weights, strict=True)) / sum(weights)


def _read_table(path):
    """Measures of the head by their short names, and volumes of the structures by theirs."""
    require_content(path)
    try:
        if path.stat().st_size > LARGEST:
            raise DatasetError(f"{path}: larger than {LARGEST} bytes: no table of statistics")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: {error}", "run recon-all again") from error
    measures = {}
    structures = {}
    columns = None
    for number, line in enumerate(lines, start=1):
        if line.startswith("# Measure "):
            fields = [field.strip() for field in line.removeprefix("# Measure ").split(",")]
            if len(fields) != 5:
                raise DatasetError(
                    f"{path}, line {number}: a measure has 5 fields, this one {len(fields)}: "
                    f"{line!r}"
                )
            measures[fields[1]] = _number(fields[-2], path, number)
        elif line.startswith("# ColHeaders"):
            columns = line.split()[2:]
        elif (
            line.strip()
            and not line.startswith("#")
            and columns
            and {"StructName", "Volume_mm3"} <= set(columns)
        ):
            cells = line.split()
            if len(cells) != len(columns):
                raise DatasetError(
                    f"{path}, line {number}: {len(cells)} cells below {len(columns)} headings: "
                    f"{line!r}"
                )
            row = dict(zip(columns, cells, strict=True))
            structures[row["StructName"]] = _number(row["Volume_mm3"], path, number)
    return measures, structures


def _number(text, path, number):
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise DatasetError(
            f"{path}, line {number}: {text!r:.60} is no measure", "run recon-all again"
        )
    return value
