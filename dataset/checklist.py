"""The reporting checklist of the ISMRM consensus on QSM, filled in from sidecars.

The items, and the sidecar fields that answer each, are in the template ``checklist``. A value is
blank only if no sidecar of the scans has any of its fields, nor shows that a step was not done.
"""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from ..bids_templates import load_template
from .checklist_text import checklist_markdown
from .files import PathLike, read_json, write_json, write_text
from .methods import N_REGIONS, REGIONS_DESCRIPTION, method_steps
from .sidecars import sidecar_path
from .study_items import (
    AT_GROUP_LEVEL,
    calibration_text,
    excluded_text,
    generators_text,
    model_patients_texts,
    not_processed_text,
)
from .summaries import comparable, field_in_words, mean_and_sd, summarise
from .tables import write_tsv
from .values import counted, join_numbers

CHECKLIST = Path("logs", "checklist.tsv")
CHECKLIST_TEXT = Path("logs", "CHECKLIST.md")
COLUMNS = ("section", "item", "applies_to", "value", "fields")
MAP_NAME = re.compile(r"(?:_space-(?P<space>[a-zA-Z0-9]+))?_desc-(?P<desc>[a-z]+)_Chimap\.json$")
REGION_TABLE = "_desc-rois_chi.json"
REGION_STEPS = ("regions_drawn", "regions_freesurfer", "regions_atlas")
BRAIN = "brain"  # name of the reference region that is the whole mask
UNWRAPPING_STEPS = (
    "unwrapping",
    "temporal_unwrapping",
    "individual_unwrapping",
    "single_unwrapping",
)
# Fields of the steps before the inversion, which maps of one scan share if one run made them.
BEFORE_INVERSION = (
    "BrainMask",
    "PhaseSign",
    "UnwrappingMode",
    "BackgroundRemoval",
    "BackgroundEdgeRule",
    "BackgroundEdgeFraction",
    "HarmonizedVoxelSize",
    "HarmonizedEchoTimes",
)
PLANES = ("sagittal", "coronal", "axial")  # slices perpendicular to x, y, z of the scanner


class _Map:
    """A susceptibility map or its standard error: its sidecar, and its header if an item asks for
    it.
    """

    def __init__(self, path: Path, space: str | None, desc: str) -> None:
        self.path = path
        self.space = space
        self.is_standard_error = desc.endswith("se")
        self.inversion = desc.removesuffix("se")
        self.sidecar = read_json(path)
        self.scan = path.name.split("_space-" if space else "_desc-")[0]

    @property
    def scanner(self) -> str:
        """Site, manufacturer and model; phantoms, which have a protocol of their own, apart."""
        names = ("Manufacturer", "ManufacturersModelName")
        model = " ".join(str(self.sidecar[name]) for name in names if name in self.sidecar)
        site = f"site {self.sidecar.get('Site', 'unknown')}"
        label = f"{site}: {model}" if model else site
        return f"{label}{self.kind_of_object}"

    @property
    def all_scans(self) -> str:
        """Label of what applies to all scans."""
        return f"all scans{self.kind_of_object}"

    @property
    def kind_of_object(self) -> str:
        """What is added to the labels of phantoms' maps, so that they are reported apart."""
        return ", phantom" if "phantom" in self.sidecar.get("MethodSteps", ()) else ""

    @property
    def regions(self) -> "_Map":
        """A copy with the sidecar of the scan's table of regional values; empty without one."""
        measured = copy(self)
        measured.sidecar = read_json(self.path.with_name(f"{self.scan}{REGION_TABLE}"))
        return measured

    @cached_property
    def image(self) -> Any:
        """The image, of which only the header is read."""
        return nib.load(str(self.path).removesuffix(".json") + ".nii.gz")

    @property
    def matrix(self) -> Sequence[int]:
        """Voxels along the image's axes, as acquired: before harmonisation, if there was one."""
        return self.sidecar.get("OriginalMatrix") or self.image.shape[:3]

    @property
    def voxel_size(self) -> Sequence[float]:
        """Voxel size, mm, as acquired."""
        return self.sidecar.get("OriginalVoxelSize") or self.image.header.get_zooms()[:3]


def reporting_checklist(
    output_dir: PathLike, scans: Sequence[str] | None = None, excluded: Collection[str] = ()
) -> pd.DataFrame:
    """Fill in the checklist of the ISMRM consensus from the sidecars of a derivative dataset.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    scans : sequence of str, optional
        Labels of the scans to report; all by default.
    excluded : collection of str
        Labels of the scans that the study excludes.

    Returns
    -------
    DataFrame
        One row for each item and what it applies to:

        * section: acquisition or processing
        * item: as the consensus asks for it
        * applies_to: a scanner, an inversion (of a map or of its standard error), both, all scans,
          the study or a regression model (not if `scans` are selected); phantoms, which are not
          resampled to a subject's space, apart from people
        * value: text; if scans differ, each value with the number of scans, or the mean and
          standard deviation of numbers; empty if nothing is known
        * fields: the sidecar fields that the value is taken from

    References
    ----------
    QSM Consensus Organization Committee et al. Magn Reson Med 2024;91:1834-1862.
    doi:10.1002/mrm.30006
    """
    maps = [chi for chi in _find_maps(Path(output_dir), scans) if chi.scan not in excluded]
    rows = []
    for item in load_template("checklist")["items"]:
        fields = ", ".join(item["fields"])
        for label, value in _values(item, maps, Path(output_dir), scans).items():
            rows.append((item["section"], item["item"], label, value, fields))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_checklist(output_dir: PathLike, excluded: Collection[str] = ()) -> pd.DataFrame:
    """Write the checklist of a derivative dataset.

    It is written as ``logs/checklist.tsv`` with a sidecar, and as text in ``logs/CHECKLIST.md``.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    excluded : collection of str
        Labels of the scans that the study excludes.

    Returns
    -------
    DataFrame
        The checklist, as of `reporting_checklist`.
    """
    root = Path(output_dir)
    checklist = reporting_checklist(root, excluded=excluded)
    write_tsv(root / CHECKLIST, checklist)
    write_json(sidecar_path(root / CHECKLIST), load_template("checklist")["columns"])
    write_text(root / CHECKLIST_TEXT, checklist_markdown(checklist))
    return checklist


def _find_maps(root: Path, scans: Sequence[str] | None) -> list[_Map]:
    """Find the susceptibility maps of single scans and their standard errors."""
    subjects = ["sub-*"]
    if scans is not None:
        subjects = sorted({scan.split("_", 1)[0] for scan in scans})
    maps = []
    for subject in subjects:
        for path in sorted(root.glob(f"{subject}/**/anat/*_Chimap.json")):
            name = MAP_NAME.search(path.name)
            if name is None or name["desc"].endswith("sd"):
                continue
            chi = _Map(path, name["space"], name["desc"])
            if scans is None or chi.scan in scans:
                maps.append(chi)
    return maps


def _values(
    item: dict, maps: list[_Map], root: Path, scans: Sequence[str] | None
) -> dict[str, str]:
    """Answer an item for everything that it applies to."""
    models = model_patients_texts(root) if scans is None else {}
    if item["of"] == "model":
        return models
    values = {}
    if item.get("value") == "versions":
        values = dict.fromkeys(models, generators_text(root))
    for label, group in _groups(item["of"], maps).items():
        values[label] = _value(item, group, root, scans)
    return values


def _groups(kind: str, maps: Iterable[_Map]) -> dict[str, list[_Map]]:
    """Group maps by what an item applies to."""
    in_scan_space = []
    in_subject_space = []
    standard_errors = []
    map_of_scan = {}
    for chi in maps:
        if chi.is_standard_error:
            standard_errors.append(chi)
        elif chi.space is None:
            in_scan_space.append(chi)
            map_of_scan[chi.scan] = chi
        else:
            in_subject_space.append(chi)
    one_per_scan = list(map_of_scan.values())
    if kind in ("scanner", "scans") and _are_mixed(in_scan_space):
        prefix = operator.attrgetter("scanner" if kind == "scanner" else "all_scans")
        return _by_label(in_scan_space, lambda chi: f"{prefix(chi)}, {chi.inversion}")
    if kind == "scanner":
        return _by_label(one_per_scan, lambda chi: chi.scanner)
    if kind in ("scans", "regions"):
        groups = _by_label(one_per_scan, lambda chi: chi.all_scans)
        if kind == "regions":
            return {label: [chi.regions for chi in group] for label, group in groups.items()}
        return groups
    if kind == "scans in subject space":
        resampled = {chi.scan: chi for chi in in_subject_space}
        return _by_label(resampled.values(), lambda chi: "all scans")
    if kind == "study":
        return {"the study": one_per_scan} if one_per_scan else {}
    if kind == "standard error":
        return _by_label(standard_errors, lambda chi: f"{chi.inversion}{chi.kind_of_object}")
    if kind == "inversion and scanner":
        return _by_label(in_scan_space, lambda chi: f"{chi.inversion}, {chi.scanner}")
    if kind == "inversion":
        return _by_label(in_scan_space, lambda chi: f"{chi.inversion}{chi.kind_of_object}")
    resampled_maps = _by_label(in_subject_space, lambda chi: f"{chi.inversion}, subject space")
    if kind == "reference":
        phantoms = [chi for chi in in_scan_space if chi.kind_of_object]
        return resampled_maps | _by_label(
            phantoms, lambda chi: f"{chi.inversion}{chi.kind_of_object}"
        )
    return resampled_maps


def _are_mixed(maps: Iterable[_Map]) -> bool:
    """Return whether maps of one scan are from runs with different steps before the inversion."""
    steps_of_scan: dict[str, str] = {}
    for chi in maps:
        steps = repr([chi.sidecar.get(field) for field in BEFORE_INVERSION])
        if steps_of_scan.setdefault(chi.scan, steps) != steps:
            return True
    return False


def _by_label(maps: Iterable[_Map], label: Callable[[_Map], str]) -> dict[str, list[_Map]]:
    groups: dict[str, list[_Map]] = {}
    for chi in maps:
        groups.setdefault(label(chi), []).append(chi)
    return dict(sorted(groups.items()))


def _value(item: dict, maps: list[_Map], root: Path, scans: Sequence[str] | None) -> str:
    """Answer an item, with the function that it names or with its sidecar fields."""
    fields = item["fields"]
    name = item.get("value")
    if name == "not_processed":
        subjects = None if scans is None else {scan.split("_", 1)[0] for scan in scans}
        return not_processed_text(root, subjects)
    if name in ("excluded", "calibration"):
        if scans is not None:
            return AT_GROUP_LEVEL
        return excluded_text(root) if name == "excluded" else calibration_text(root)
    if name == "steps":
        return summarise([_step_texts(chi, item["steps"]) for chi in maps])
    if name == "n_scans":
        return str(len(maps))
    if name == "first":
        return _first(maps, fields)
    if name == "mean_sd":
        return _mean_and_sd(maps, fields[0])
    if name == "by_reference":
        return _by_reference(maps, fields[0])
    if name is None:
        return _fields_text(maps, fields) or _known_without_fields(item, maps)
    answer = _ANSWERS[name]
    return summarise([answer(chi, fields) for chi in maps])


def _fields_text(maps: list[_Map], fields: Sequence[str]) -> str:
    """Give the values of all fields; with the names of the fields if there are several."""
    template = load_template("checklist")
    unit_fields = template["unit_fields"].values()
    parts = []
    for field in fields:
        summary = "" if field in unit_fields else _field_text(maps, field)
        if summary:
            name = template["names"].get(field) or field_in_words(field)
            parts.append(summary if len(fields) == 1 else f"{name}: {summary}")
    return "; ".join(parts)


def _field_text(maps: list[_Map], field: str) -> str:
    """Give the values of a field with their unit, which another field may hold."""
    template = load_template("checklist")
    words = template["words"].get(field, {})
    unit_field = template["unit_fields"].get(field)
    values_by_unit: dict[str, list[Any]] = {}
    for chi in maps:
        unit = template["units"].get(field, "")
        if unit_field is not None:
            unit = str(chi.sidecar.get(unit_field, "")).replace("*", "·")
        value = comparable(chi.sidecar.get(field))
        values_by_unit.setdefault(unit, []).append(words.get(value, value))
    summaries = [summarise(values, unit) for unit, values in values_by_unit.items()]
    return "; ".join(filter(None, summaries))


def _known_without_fields(item: dict, maps: list[_Map]) -> str:
    """Answer an item that no sidecar has fields of, because the step was not done.

    Only the record of all steps shows that a step was not done.
    """
    if any(method_steps(chi.sidecar) is None for chi in maps):
        return ""
    return item.get("without_fields", {}).get(maps[0].inversion, item.get("otherwise", ""))


def _mean_and_sd(maps: list[_Map], field: str) -> str:
    return mean_and_sd([float(chi.sidecar[field]) for chi in maps if field in chi.sidecar])


def _by_reference(maps: list[_Map], field: str) -> str:
    """Give mean ± standard deviation, apart for each region that scans are relative to."""
    groups: dict[str, list[_Map]] = {}
    for chi in maps:
        groups.setdefault(str(chi.sidecar.get("ReferenceRegion", "")), []).append(chi)
    words = load_template("checklist")["words"]["ReferenceRegion"]
    parts = []
    for region, group in sorted(groups.items()):
        sizes = [abs(chi.sidecar.get(field, np.inf)) for chi in group]
        # The mean over the mask relative to itself is zero but for rounding errors.
        if region == BRAIN and field == "ReferenceOffset" and max(sizes) < 1e-9:
            summary = "0: the reference is the whole mask"
        else:
            summary = _mean_and_sd(group, field)
        if summary:
            is_named = len(groups) > 1
            name = words.get(region, region) or "no reference"
            parts.append(f"{name}: {summary}" if is_named else summary)
    return "; ".join(parts)


def _unwrapping(chi: _Map, fields: Sequence[str]) -> Any:
    """Give the sentence of the methods text on unwrapping; the option if no step is recorded."""
    texts = load_template("citation")["steps"]
    for step in method_steps(chi.sidecar) or ():
        if step in UNWRAPPING_STEPS:
            return texts[step]["text"]
    return comparable(chi.sidecar.get(fields[-1]))


def _step_texts(chi: _Map, steps: Sequence[str]) -> str:
    """Give the sentences of the methods text on those of some steps that were done."""
    texts = load_template("citation")["steps"]
    done = method_steps(chi.sidecar) or ()
    return ". ".join(texts[step]["text"] for step in steps if step in done)


def _regions(chi: _Map, _) -> str:
    """Say where the regions come from, in the words of their own sidecar if it has any, and how
    many there are.
    """
    source = chi.sidecar.get(REGIONS_DESCRIPTION) or _step_texts(chi, REGION_STEPS)
    number = chi.sidecar.get(N_REGIONS)
    if number is None:
        return source or "no region was measured"
    return f"{source or 'source not recorded'} ({counted(number, 'region')})"


def _first(maps: list[_Map], fields: Sequence[str]) -> str:
    """Give the value of the first field that a sidecar has."""
    values = []
    for chi in maps:
        field = next(filter(chi.sidecar.__contains__, fields), None)
        values.append(None if field is None else comparable(chi.sidecar[field]))
    return summarise(values)


def _echo_times(chi: _Map, fields: Sequence[str]) -> str | None:
    """Give the number of echoes with TE1 : ΔTE : TEmax, or all times if their spacing varies.

    The fields hold the echoes that were used and those that harmonisation left out.
    """
    acquired = []
    for field in fields:
        acquired += chi.sidecar.get(field, ())
    times = 1000 * np.sort(np.array(acquired, dtype=float))
    if not times.size:
        return None
    if times.size == 1:
        return f"1, {times[0]:.4g}"
    spacing = np.diff(times)
    if np.ptp(spacing) > 0.01 * np.mean(spacing):
        return f"{times.size}, {join_numbers(times, '.4g')}"
    return f"{times.size}, {times[0]:.4g} : {np.mean(spacing):.4g} : {times[-1]:.4g}"


def _orientation(chi: _Map, _) -> str:
    """Name the plane perpendicular to the third voxel axis, and how oblique it is."""
    affine = chi.image.affine
    normal = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    axis = int(np.argmax(np.abs(normal)))
    angle = np.degrees(np.arccos(min(1.0, abs(normal[axis]))))
    return PLANES[axis] if angle < 0.5 else f"{PLANES[axis]}, oblique"


def _voxel_size(chi: _Map, _) -> str:
    return _product(chi.voxel_size)


def _matrix(chi: _Map, _) -> str:
    return _product(chi.matrix)


def _field_of_view(chi: _Map, _) -> str:
    return _product(np.multiply(chi.matrix, chi.voxel_size))


def _product(numbers: Iterable[float]) -> str:
    return join_numbers(numbers, ".4g", "×")


def _versions(chi: _Map, fields: Sequence[str]) -> str:
    versions = chi.sidecar.get(fields[0], {})
    return ", ".join(f"{name} {version}" for name, version in versions.items())


_ANSWERS: dict[str, Callable[[_Map, Sequence[str]], Any]] = {
    "echo_times": _echo_times,
    "field_of_view": _field_of_view,
    "matrix": _matrix,
    "orientation": _orientation,
    "regions": _regions,
    "unwrapping": _unwrapping,
    "versions": _versions,
    "voxel_size": _voxel_size,
}
