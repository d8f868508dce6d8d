"""Find user-drawn regions of interest: label images and their lookup tables in derivative
datasets.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.grid import grid_shift, is_same_place
from .content import exists
from .entities import scan_label
from .files import PathLike
from .images import read_image
from .outputs import SUBJECT_SPACE, derivative_path
from .problems import DatasetError
from .sources import is_of_gradient_echo
from .tables import read_rows
from .volumes import load_volume

DESC = "rois"
ATRIUM = "atrium"  # name of a region; as a reference it can also be specified by points

# Entities of a label image, after the entities of its scan.
OWN_ENTITIES = re.compile(rf"(_seg-[a-zA-Z0-9+]+)?(_desc-{DESC})?")
SIDE = re.compile(r"^(left|right)_")
INDEX = re.compile(r"\d{1,9}")
# Names are used in tables, reports and file names.
NAME = re.compile(r"\w[\w.+ -]{0,63}")


@dataclass(frozen=True)
class Labels:
    """A label image, with the names of its labels.

    Attributes
    ----------
    path : pathlib.Path
        The label image.
    lookup : pathlib.Path
        The table that names its labels.
    names : dict of int to str
        Name of each label, in the table's order; labels without voxels may be included.
    space : {'scan', 'subject'}
        Whether the image is on its scan's own grid or in the subject's space.
    entities : dict of str
        Entities of the scan, or the subject alone.
    expected : dict of str to float
        True susceptibility in ppm by name, if the table has it; used for the tubes of phantoms.
    notes : tuple of str
        Remarks for the user.
    """

    path: Path
    lookup: Path
    names: dict[int, str]
    space: str
    entities: dict[str, str]
    expected: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_labels(
    entities: Mapping[str, str], datasets: Sequence[PathLike], *, image: PathLike | None = None
) -> Labels | None:
    """Find the regions of interest drawn on a scan.

    The image is ``sub-X/[ses-Y/]anat/*_dseg.nii[.gz]`` with the scan's entities, and optionally
    ``seg-<label>`` and ``desc-rois``. Its table is a ``dseg.tsv`` of the same name, or one that
    applies by the inheritance principle: in the image's folder or above, with no entities that the
    image does not have. The table in the closest folder is used.

    Images are ignored if their sidecar says that they were made from an image other than a
    gradient-echo scan. Images without ``seg``, ``desc`` and table are ignored as well, since
    segmentations of tissue classes by other programs have such names.

    Parameters
    ----------
    entities : dict of str
        The scan's entities by their long names.
    datasets : sequence of path-like
        Roots of derivative datasets, as from `multiqsm.dataset.sources.derivative_datasets`.
    image : path-like, optional
        An image of the scan; the labels must be on its grid.

    Returns
    -------
    Labels or None
        None if there are none.

    Raises
    ------
    DatasetError
        If there is more than one label image, or the image or its table cannot be used (for
        example because its content has not been fetched); the message says why.
    """
    return _find(entities, datasets, scan_label(entities), space=None, image=image)


def find_subject_labels(subject: str, datasets: Sequence[PathLike]) -> Labels | None:
    """Find the regions of interest drawn in a subject's space, which apply to all its scans.

    The image is ``sub-X/anat/sub-X_space-subject[_seg-<label>][_desc-rois]_dseg.nii[.gz]``.

    Parameters
    ----------
    subject : str
        The subject's label, without ``sub-``.
    datasets : sequence of path-like
        Roots of derivative datasets.

    Returns
    -------
    Labels or None
        None if there are none.

    Raises
    ------
    DatasetError
        See `find_labels`.
    """
    entities = {"subject": subject}
    return _find(entities, datasets, scan_label(entities), space=SUBJECT_SPACE, image=None)


def read_lookup(path: Path) -> tuple[dict[int, str], dict[str, float]]:
    """Read a BIDS lookup table.

    Parameters
    ----------
    path : pathlib.Path
        TSV with the columns ``index`` and ``name``, and optionally ``susceptibility_ppm``; other
        columns are ignored.

    Returns
    -------
    names : dict of int to str
        Name of each label except 0, which is background.
    expected : dict of str to float
        Susceptibility in ppm by name, for rows that have it.

    Raises
    ------
    DatasetError
        If the table is not UTF-8 text, lacks a column, has an invalid value, or has an index or
        name twice.
    """
    rows = read_rows(
        path, ("index", "name"), "a lookup table has the columns index and name, separated by tabs"
    )
    names: dict[int, str] = {}
    expected: dict[str, float] = {}
    for row in rows:
        try:
            index, name, susceptibility = _parse(row)
        except ValueError as error:
            raise DatasetError(f"{path}, line {row.line}: {error}") from error
        if index == 0:
            continue
        if index in names or name in names.values():
            duplicate = f"index {index}" if index in names else f"name {name!r}"
            raise DatasetError(
                f"{path}, line {row.line}: {duplicate} occurs twice",
                "give each region its own index and name",
            )
        names[index] = name
        if susceptibility is not None:
            expected[name] = susceptibility
    if not names:
        raise DatasetError(
            f"{path}: the table names no label", "add a row with index and name for each label"
        )
    return names, expected


def bilateral_names(names: Mapping[int, str]) -> dict[int, str]:
    """Map the labels of bilateral structures to the name without the side.

    Parameters
    ----------
    names : mapping of int to str
        Name of each label.

    Returns
    -------
    dict of int to str
        The name ``<structure>`` for each label called ``left_<structure>`` or
        ``right_<structure>``, if both exist and no label is called ``<structure>``.

    Examples
    --------
    >>> bilateral_names({10: "left_thalamus", 49: "right_thalamus", 11: "left_putamen", 4: "csf"})
    {10: 'thalamus', 49: 'thalamus'}
    """
    present = set(names.values())
    bilateral = {}
    for index, name in names.items():
        structure = without_side(name)
        has_both_sides = {f"left_{structure}", f"right_{structure}"} <= present
        if name != structure and has_both_sides and structure not in present:
            bilateral[index] = structure
    return bilateral


def without_side(name: str) -> str:
    """Return the name of a label without the prefix ``left_`` or ``right_``.

    Examples
    --------
    >>> without_side("left_thalamus")
    'thalamus'
    """
    return SIDE.sub("", name)


def _parse(row):
    """Return index, name and susceptibility (None if absent) of a row."""
    index = (row["index"] or "").strip()
    name = (row["name"] or "").strip()
    value = (row.get("susceptibility_ppm") or "").strip()
    if not INDEX.fullmatch(index):
        raise ValueError(f"index {index!r} is not a whole number of 0 or more")
    if not NAME.fullmatch(name):
        raise ValueError(
            f"name {name!r}: use up to 64 letters, digits, spaces and _ . + -, and begin with a "
            "letter, a digit or _"
        )
    if value in ("", "n/a"):
        return int(index), name, None
    try:
        susceptibility = float(value)
    except ValueError:
        susceptibility = math.nan
    if not math.isfinite(susceptibility):
        raise ValueError(f"susceptibility_ppm {value!r} is not a number; write ppm, or n/a")
    return int(index), name, susceptibility


def _find(entities, datasets, label, *, space, image):
    """Find the one label image with these entities, and read its table; None if there is none."""
    paths = []
    lookups = []
    for dataset in datasets:
        for path in _candidates(Path(dataset), entities, space):
            lookup = _find_lookup(path, Path(dataset))
            is_own = is_of_gradient_echo(path) or space is not None
            if is_own and (lookup or _is_named(path)):
                paths.append(path)
                lookups.append(lookup)
    if len(paths) > 1:
        raise DatasetError(
            f"{label}: more than one label image ({', '.join(map(str, paths))})",
            "put all regions into one image, choose the dataset to use with --derivatives, or "
            "remove all but one",
        )
    if not paths:
        return None
    path = paths[0]
    lookup = lookups[0]
    if lookup is None:
        raise DatasetError(
            f"{path}: no lookup table that names its labels",
            f"add {path.name.split('.')[0]}.tsv beside it, or dseg.tsv "
            "at the root of its dataset, with the columns index and name",
        )
    names, expected = read_lookup(lookup)
    values = _read_values(path, image)
    if values == [0]:
        raise DatasetError(
            f"{path}: the image has no labels", "draw the regions, or remove the file"
        )
    unnamed = sorted(set(values) - set(names) - {0})
    notes = [f"{path}: {_listed(unnamed)} not in {lookup.name} and ignored"] if unnamed else []
    kind = "scan" if space is None else "subject"
    return Labels(path, lookup, names, kind, dict(entities), expected, tuple(notes))


def _listed(indices):
    first = ", ".join(map(str, indices[:5])) + (", …" if len(indices) > 5 else "")
    return f"label{'s' if len(indices) > 1 else ''} {first} {'are' if len(indices) > 1 else 'is'}"


def _candidates(dataset, entities, space):
    """List the label images of a scan or subject in a dataset, sorted by name."""
    pattern = derivative_path(dataset, entities, suffix="dseg", space=space)
    if not exists(pattern.parent):
        return []
    stem = pattern.name.removesuffix("_dseg.nii.gz")
    name = re.compile(rf"{re.escape(stem)}{OWN_ENTITIES.pattern}_dseg\.nii(\.gz)?")
    return sorted(path for path in pattern.parent.iterdir() if name.fullmatch(path.name))


def _is_named(path):
    """Return whether a file name identifies regions, and not another program's tissue classes."""
    return re.search(r"_(seg|desc)-[^_]+_", path.name) is not None


def _find_lookup(path, dataset):
    """Find the table that applies to a label image by the inheritance principle.

    Of several, the one in the closest folder; of these, the one with most entities. None if there
    is none.
    """
    entities = set(path.name.split(".")[0].split("_")[:-1])
    folder = path.parent
    while True:
        applicable = []
        for table in folder.glob("*dseg.tsv"):
            *table_entities, suffix = table.stem.split("_")
            if entities.issuperset(table_entities) and suffix == "dseg":
                applicable.append((len(table_entities), table.name, table))
        if applicable:
            return max(applicable)[-1]
        if folder == dataset or folder == folder.parent:
            return None
        folder = folder.parent


def _read_values(path, image):
    """Return the distinct values of a label image, after checking its grid."""
    _, labels, data = read_image(path, np.float64)
    if image is not None:
        _check_grid(path, labels, load_volume(image))
    elif labels.ndim != 3:
        raise DatasetError(f"{path}: {labels.ndim} dimensions", "save the labels as one 3-D volume")
    # Every voxel is checked, since interpolation may leave only a few values that are not integers.
    values = np.unique(data)
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise DatasetError(
            f"{path}: some values are not integers", "save labels without interpolation or scaling"
        )
    if values[0] < 0:
        raise DatasetError(f"{path}: some labels are negative", "number regions from 1")
    return list(map(int, values))


def have_same_grid(first: PathLike, second: PathLike) -> bool:
    """Return whether two images have the same shape and voxel positions.

    Parameters
    ----------
    first, second : path-like
        The images.

    Returns
    -------
    bool
    """
    image = load_volume(first)
    reference = load_volume(second)
    return image.shape == reference.shape and is_same_place(
        image.shape[:3], image.affine, reference.affine
    )


def _check_grid(path, labels, image):
    if labels.shape != image.shape[:3]:
        raise DatasetError(
            f"{path}: {_times(labels.shape)} voxels, but the scan has {_times(image.shape)}",
            "draw on the scan itself, or resample with nearest-neighbour interpolation",
        )
    if not is_same_place(labels.shape, labels.affine, image.affine):
        shift = grid_shift(labels.shape, labels.affine, image.affine)
        raise DatasetError(
            f"{path}: its affine places voxels up to {shift:.3g} mm away from the scan's",
            "if the voxels are the scan's, copy the affine of the scan; otherwise resample with "
            "nearest-neighbour interpolation",
        )


def _times(shape):
    return "×".join(map(str, shape))
