"""Read FreeSurfer's statistics, versions 5 to 8: volumes of thalamus, grey matter and head, and
cortical thickness.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ..dataset.content import MissingContentError, exists, is_listed, require_content
from ..dataset.files import PathLike
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

# Names of the same structure or measure in different versions, the newest first.
THALAMUS = ("{side}-Thalamus", "{side}-Thalamus-Proper", "{side}-Thalamus-Proper*")
INTRACRANIAL = ("eTIV", "ICV")
AREAS = ("WhiteSurfArea", "SurfArea", "NumVert")  # weights of hemispheres: areas, else vertices
LARGEST = 10_000_000  # bytes; a table of statistics has about ten thousand
MM3_IN_ML = 1000


@dataclass(frozen=True)
class Statistics:
    """Location of the statistics of one run of FreeSurfer.

    Attributes
    ----------
    subject : str
        Label of the participant.
    session : str or None
        Label of the session.
    folder : pathlib.Path
        Contains ``aseg.stats``, ``lh.aparc.stats`` and ``rh.aparc.stats``.
    """

    subject: str
    session: str | None
    folder: Path


def find_statistics(freesurfer_dir: PathLike) -> tuple[list[Statistics], list[tuple[str, str]]]:
    """Find the statistics of all participants in FreeSurfer's folder.

    Parameters
    ----------
    freesurfer_dir : path-like
        FreeSurfer's ``SUBJECTS_DIR`` with folders ``sub-X`` or ``sub-X_ses-Y``.

    Returns
    -------
    runs : list of Statistics
        Sorted by label, without folders of no participant, such as ``fsaverage``.
    refused : list of (str, str)
        Folder, and why it is not used: runs of the longitudinal stream, whose measures are not
        comparable with those of other runs, folders of participants without statistics, and links
        to content that is not available.
    """
    runs = []
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
                f"{folder}: is from FreeSurfer's longitudinal stream, whose measures are not "
                "comparable with those of single runs; run recon-all on each session separately"
            )
            refused.append((folder.name, cause))
        elif match is None:
            cause = f"{folder}: its name is neither sub-X nor sub-X_ses-Y; rename it"
            refused.append((folder.name, cause))
        elif not has_statistics:
            cause = f"{folder}: no folder stats; let recon-all finish, or run it again"
            refused.append((folder.name, cause))
        else:
            runs.append(Statistics(match["subject"], match["session"], folder / "stats"))
    return runs, refused


def read_statistics(folder: PathLike) -> dict[str, float]:
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
        if it has no area; ``intracranial_volume``, FreeSurfer's estimate, in mL, or NaN if it has
        none.

    Raises
    ------
    DatasetError
        If a file is missing or cannot be read (with the line), or if a measure is missing.
    """
    folder = Path(folder)
    path = folder / "aseg.stats"
    measures, structures = _read_table(path)
    left_thalamus = _thalamus(structures, "Left", path)
    right_thalamus = _thalamus(structures, "Right", path)
    volumes = {
        "thalamic_volume_left": left_thalamus,
        "thalamic_volume_right": right_thalamus,
        "thalamic_volume": left_thalamus + right_thalamus,
        "grey_matter_volume": _measure(measures, ("TotalGrayVol",), path),
        "intracranial_volume": _intracranial_volume(measures),
    }
    statistics = {name: volume / MM3_IN_ML for name, volume in volumes.items()}
    statistics["cortical_thickness"] = _thickness(folder)
    return statistics


def _intracranial_volume(measures):
    for name in INTRACRANIAL:
        if name in measures:
            return measures[name]
    return float("nan")


def _thalamus(structures, side, path):
    for pattern in THALAMUS:
        name = pattern.format(side=side)
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
    """Return the mean thickness of both hemispheres, weighted by their areas."""
    left_path = folder / "lh.aparc.stats"
    right_path = folder / "rh.aparc.stats"
    left_measures, _ = _read_table(left_path)
    right_measures, _ = _read_table(right_path)
    left_thickness = _measure(left_measures, ("MeanThickness",), left_path)
    right_thickness = _measure(right_measures, ("MeanThickness",), right_path)
    shared = [name for name in AREAS if name in left_measures and name in right_measures]
    if not shared:
        raise DatasetError(
            f"{folder}: no measure {' or '.join(AREAS)} of both hemispheres to weight them by",
            "run recon-all again",
        )
    left_area = left_measures[shared[0]]
    right_area = right_measures[shared[0]]
    total = left_area + right_area
    if total <= 0:
        raise DatasetError(
            f"{folder}: {shared[0]} of the hemispheres is not positive", "run recon-all again"
        )
    return (left_thickness * left_area + right_thickness * right_area) / total


def _read_table(path):
    """Return the measures and the volumes of structures in a table, by their short names."""
    require_content(path)
    try:
        if path.stat().st_size > LARGEST:
            raise DatasetError(f"{path}: larger than {LARGEST} bytes, so not a table of statistics")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: {error}", "run recon-all again") from error
    measures = {}
    structures = {}
    columns = None
    for number, line in enumerate(lines, start=1):
        if line.startswith("# Measure "):
            fields = list(map(str.strip, line.removeprefix("# Measure ").split(",")))
            if len(fields) != 5:
                raise DatasetError(
                    f"{path}, line {number}: a measure has 5 fields, but this one has "
                    f"{len(fields)}: {line!r}"
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
            f"{path}, line {number}: {text!r:.60} is not a valid measure", "run recon-all again"
        )
    return value
