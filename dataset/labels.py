"""Regions of interest that the user has drawn: label images with their lookup tables, in derivative
datasets.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
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

DESC = "rois"
ATRIUM = "atrium"  # a label, and the reference that points may be given for

# What stands between the scan's own entities and the suffix.
OWN_ENTITIES = re.compile(rf"(_seg-[a-zA-Z0-9+]+)?(_desc-{DESC})?")
SIDE = re.compile(r"^(left|right)_")
INDEX = re.compile(r"\d{1,9}")
# Names end up in tables, reports and file names.
NAME = re.compile(r"\w[\w.+ -]{0,63}")


@dataclass(frozen=True)
class Labels:
    """A label image and what its labels are.

    Attributes
    ----------
    path : pathlib.Path
        The label image.
    lookup : pathlib.Path
        The table that names its labels.
    names : dict of int to str
        Name of each label, in the table's order; some may have no voxel.
    space : {'scan', 'subject'}
        Whether the image lies on its scan's own grid or in the subject's space.
    entities : dict of str
        Of the scan, or the subject's alone.
    expected : dict of str to float
        True susceptibility in ppm by name, where the table has it; a phantom's tubes.
    notes : tuple of str
        What the user should know.
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

    The image is ``sub-X/[ses-Y/]anat/*_dseg.nii[.gz]`` with the scan's entities, and
    ``seg-<label>`` and ``desc-rois`` if one likes. Its table is a ``dseg.tsv`` of the same name, or
    one that applies by the inheritance principle: in the image's folder or above, with no other
    entities than the image's; the nearest is taken.

    Images whose sidecar says that they were made from something else than a gradient-echo scan are
    passed over, and so are those with neither ``seg`` nor ``desc`` that have no table, as other
    programs write of tissue classes.

    Parameters
    ----------
    entities : dict of str
        The scan's entities by their long names.
    datasets : sequence of path-like
        Roots of derivative datasets, as of `multiqsm.dataset.sources.derivative_datasets`.
    image : path-like, optional
        An image of the scan, whose grid the labels must have.

    Returns
    -------
    Labels or None
        None if there are none.

    Raises
    ------
    DatasetError
        If there is more than one label image, or the image or its table cannot be used, be it for
        want of content; the message says why.
    """
    return _find(entities, datasets, scan_label(entities), space=None, image=image)


def find_subject_labels(subject: str, datasets: Sequence[PathLike]) -> Labels | None:
    """Find the regions of interest drawn once for a subject, in the subject's space.

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
        As of `find_labels`.
    """
    entities = {"subject": subject}
    return _find(entities, datasets, scan_label(entities), space=SUBJECT_SPACE, image=None)


def read_lookup(path: Path) -> tuple[dict[int, str], dict[str, float]]:
    """Read a BIDS lookup table.

    Parameters
    ----------
    path : pathlib.Path
        TSV with the columns ``index`` and ``name``, and ``susceptibility_ppm`` if one likes; others
        are ignored.

    Returns
    -------
    names : dict of int to str
        Name of each label but 0, which is background.
    expected : dict of str to float
        Susceptibility in ppm by name, where the table has it.

    Raises
    ------
    DatasetError
        If the table is no UTF-8 text, a column lacks, or an index, a name or a susceptibility makes
        no sense or comes twice.
    """
    rows = read_rows(
        path, ("index", "name"), "a lookup table has index and name, with tabs between columns"
    )
    names: dict[int, str] = {}
    expected = {}
    for number, row in enumerate(rows, start=2):
        try:
            index, name, susceptibility = _parse(row)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}") from error
        if index == 0:
            continue
        if index in names or name in names.values():
            twice = f"index {index}" if index in names else f"name {name!r}"
            raise DatasetError(
                f"{path}, line {number}: {twice} is there twice", "each region needs its own"
            )
        names[index] = name
        if susceptibility is not None:
            expected[name] = susceptibility
    if not names:
        raise DatasetError(f"{path}: no label is named", "add a row with index and name for each")
    return names, expected


def bilateral_names(names: Mapping[int, str]) -> dict[int, str]:
    """Name structures of which both sides are labelled.

    Parameters
    ----------
    names : mapping of int to str
        Name of each label.

    Returns
    -------
    dict of int to str
        Labels called ``left_<structure>`` and ``right_<structure>`` by the name of the structure
        alone, where both are there and no label has that name.

    Examples
    --------
    >>> bilateral_names({10: "left_thalamus", 49: "right_thalamus", 11: "left_putamen", 4: "csf"})
    {10: 'thalamus', 49: 'thalamus'}
    """
    plain = {
        index: without_side(name) for index, name in names.items() if without_side(name) != name
    }
    present = set(names.values())
    return {
        index: name
        for index, name in plain.items()
        if {f"left_{name}", f"right_{name}"} <= present and name not in present
    }


def without_side(name: str) -> str:
    """Name of a label without ``left_`` or ``right_`` before it.

    Examples
    --------
    >>> without_side("left_thalamus")
    'thalamus'
    """
    return SIDE.sub("", name)


def _parse(row):
    """Index, name and susceptibility (None where there is none) of a row."""
    texts = {
        column: (row.get(column) or "").strip()
        for column in ("index", "name", "susceptibility_ppm")
    }
    if not INDEX.fullmatch(texts["index"]):
        raise ValueError(f"index {texts['index']!r} is no whole number from 0 on")
    if not NAME.fullmatch(texts["name"]):
        raise ValueError(
            f"name {texts['name']!r}: use up to 64 letters, digits, spaces and _ . + -, and begin "
            "with one"
        )
    value = texts["susceptibility_ppm"]
    if value in ("", "n/a"):
        return int(texts["index"]), texts["name"], None
    try:
        susceptibility = float(value)
    except ValueError:
        susceptibility = math.nan
    if not math.isfinite(susceptibility):
        raise ValueError(f"susceptibility_ppm {value!r} is no number; write ppm, or n/a")
    return int(texts["index"]), texts["name"], susceptibility


def _find(entities, datasets, label, *, space, image):
    found = []
    for dataset in datasets:
        for path in _candidates(Path(dataset), entities, space):
            lookup = _find_lookup(path, Path(dataset))
            own = is_of_gradient_echo(path) or space is not None
            if own and (lookup or _is_named(path)):
                found.append((path, lookup))
    if len(found) > 1:
        listed = ", ".join(str(path) for path, _ in found)
        raise DatasetError(
            f"{label}: more than one label image ({listed})",
            "put all regions into one, say with --derivatives whose to use, or remove the others",
        )
    if not found:
        return None
    path, lookup = found[0]
    if lookup is None:
        raise DatasetError(
            f"{path}: no lookup table that names its labels",
            f"add {path.name.split('.')[0]}.tsv beside it, or dseg.tsv "
            "at the root of its dataset, with the columns index and name",
        )
    names, expected = read_lookup(lookup)
    values = _values(path, image)
    if values == [0]:
        raise DatasetError(
            f"{path}: there is no label in it", "draw the regions, or remove the file"
        )
    unnamed = sorted(set(values) - set(names) - {0})
    notes = [f"{path}: {_listed(unnamed)} not in {lookup.name} and left out"] if unnamed else []
    kind = "scan" if space is None else "subject"
    return Labels(path, lookup, names, kind, dict(entities), expected, tuple(notes))


def _listed(indices):
    few = ", ".join(map(str, indices[:5])) + (", …" if len(indices) > 5 else "")
    return f"label{'s' if len(indices) > 1 else ''} {few} {'are' if len(indices) > 1 else 'is'}"


def _candidates(dataset, entities, space):
    """Label images of a scan or subject in a dataset, sorted by name."""
    pattern = derivative_path(dataset, entities, suffix="dseg", space=space)
    if not exists(pattern.parent):
        return []
    stem = pattern.name.removesuffix("_dseg.nii.gz")
    name = re.compile(rf"{re.escape(stem)}{OWN_ENTITIES.pattern}_dseg\.nii(\.gz)?")
    return sorted(path for path in pattern.parent.iterdir() if name.fullmatch(path.name))


def _is_named(path):
    """Tell whether the file says that it is about regions, and not some program's tissue
    classes.
    """
    return re.search(r"_(seg|desc)-[^_]+_", path.name) is not None


def _find_lookup(path, dataset):
    """The table that applies to a label image, the nearest and of those the most particular; None
    if none does.
    """
    parts = set(path.name.split(".")[0].split("_")[:-1])
    folder = path.parent
    while True:
        tables = {table: table.stem.split("_")[:-1] for table in folder.glob("*dseg.tsv")}
        applicable = [
            table
            for table, own in tables.items()
            if parts.issuperset(own) and table.stem.split("_")[-1] == "dseg"
        ]
        if applicable:
            return max(applicable, key=lambda table: (len(tables[table]), table.name))
        if folder == dataset or folder == folder.parent:
            return None
        folder = folder.parent


def _values(path, image):
    """The different values of a label image, after a look at its grid."""
    _, labels, data = read_image(path, np.float64)
    if image is not None:
        _check_grid(path, labels, nib.load(image))
    elif labels.ndim != 3:
        raise DatasetError(f"{path}: {labels.ndim} dimensions", "labels are one volume of three")
    # Label images are small once they are packed, and a value that is no integer may be anywhere.
    values = np.unique(data)
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise DatasetError(
            f"{path}: values that are no integers", "save labels without interpolation or scaling"
        )
    if values[0] < 0:
        raise DatasetError(f"{path}: negative labels", "number regions from 1 on")
    return [int(value) for value in values]


def have_same_grid(first: PathLike, second: PathLike) -> bool:
    """Tell whether the voxels of two images lie at the same places.

    Parameters
    ----------
    first, second : path-like
        The images.

    Returns
    -------
    bool
    """
    image = nib.load(first)
    reference = nib.load(second)
    return image.shape == reference.shape and is_same_place(
        image.shape[:3], image.affine, reference.affine
    )


def _check_grid(path, labels, image):
    if labels.shape != image.shape[:3]:
        raise DatasetError(
            f"{path}: {_times(labels.shape)} voxels, but the scan has {_times(image.shape)}",
            "draw on the scan itself, or resample without interpolation",
        )
    if not is_same_place(labels.shape, labels.affine, image.affine):
        shift = grid_shift(labels.shape, labels.affine, image.affine)
        raise DatasetError(
            f"{path}: its affine puts its voxels up to {shift:.3g} mm away from the scan's",
            "copy the scan's geometry if the voxels are the scan's, else resample without "
            "interpolation",
        )


def _times(shape):
    return "×".join(map(str, shape))
