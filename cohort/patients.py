"""Collect one row per patient: clinical data, FreeSurfer's measures, measurements in the maps."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from ..dataset.content import exists, require_content
from ..dataset.exclusions import Exclusions, entities_of_file
from ..dataset.files import PathLike
from ..dataset.names import LESION_TABLE, QUALITY_TABLE, ROI_TABLE, find_tables
from ..dataset.outputs import LABEL
from ..dataset.participants import merge_repeats
from ..dataset.problems import DatasetError
from ..dataset.repeats import COLUMNS, match_protocols, read_protocol_columns
from ..dataset.sources import FREESURFER
from ..dataset.tables import read_text_table, read_tsv
from ..stats.protocols import choose_protocols
from . import freesurfer
from .roi_tables import read_roi_table, row_entities

PPB_IN_PPM = 1000
SUSCEPTIBILITY = "relative_susceptibility"
LESION_VOLUME = "t2_lesion_volume"
LESIONS = "t2_lesions"
UNITS = {**freesurfer.COLUMNS, SUSCEPTIBILITY: "ppb", LESION_VOLUME: "mL"}
FROM_FREESURFER = "FreeSurfer"
FROM_MAPS = "susceptibility maps"
FROM_LESIONS = "lesion tables"
MEASURED = (FROM_FREESURFER, FROM_MAPS, FROM_LESIONS)  # sources that should have every patient
LISTED_COLUMNS = ["participant", "what", "reason", "left_out"]
RUN_AGAIN = "remove the file and run the participant level again"
NO_MEASURES = ("participant_id", "species")
SCAN_KEYS = ("subject", "session", "run", "site", "scan", *COLUMNS, "unit")
TOTAL = "total"  # the last row of a table of lesions
MOST_INVALID = 0.5  # fraction of values in a column of numbers that may not be numbers
SIDES = {"left": "left", "l": "left", "lh": "left", "right": "right", "r": "right", "rh": "right"}


@dataclass(frozen=True)
class Patients:
    """Result of `collect_patients`.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per patient, indexed by label without ``sub-``; NaN where missing.
    sources : pandas.DataFrame
        Origin of the columns: ``column``, ``unit``, ``source``, ``n`` (patients with a value),
        ``used`` (no if another source of the same column was used instead).
    listed : pandas.DataFrame
        ``participant``, ``what``, ``reason``, ``left_out``: patients without data of a source, with
        several measurements, or missing in participants.tsv.
    problems : tuple of (str, str)
        Files that could not be used, and why.
    notes : tuple of str
        Remarks for the reader.
    """

    table: pd.DataFrame
    sources: pd.DataFrame
    listed: pd.DataFrame
    problems: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def collect_patients(
    bids_dir: PathLike,
    output_dir: PathLike,
    *,
    method: str = "medi",
    region: str = "thalamus",
    reference: str | None = None,
    phenotype: Iterable[PathLike] = (),
    freesurfer_dir: PathLike | None = None,
    exclusions: Exclusions | None = None,
) -> Patients:
    """Collect all data of the patients in one table.

    If several sources have a column, the last one with any value is used for all patients, in this
    order: quality tables, ``participants.tsv``, ``phenotype/*.tsv``, tables of `phenotype`,
    FreeSurfer, measurements in images. Repeated measurements of a patient are averaged, and listed.
    Of the scans at one site only those of one protocol are used: the commonest of the site, if the
    patient has a scan of it. Participants whose ``species`` is ``phantom`` are left out.

    Parameters
    ----------
    bids_dir, output_dir : path-like
        Roots of the raw and of the derivative dataset. ``relative_susceptibility`` (ppb) is the
        mean of the region in the tables of regional values, relative to their reference; two sides
        are weighted by their volumes. ``t2_lesion_volume`` (mL) and ``t2_lesions`` (count) are from
        ``*_desc-lesions_stats.tsv``.
    method, region : str
        Inversion and region of the susceptibility.
    reference : str, optional
        Reference of the susceptibility; the commonest by default. Patients with another reference
        are listed, and have no susceptibility.
    phenotype : iterable of path-like
        Further tables with the column ``participant_id``.
    freesurfer_dir : path-like, optional
        FreeSurfer's results; ``derivatives/freesurfer`` of the raw dataset by default.
    exclusions : multiqsm.dataset.exclusions.Exclusions, optional
        What the study excludes; nothing by default.

    Returns
    -------
    Patients

    Raises
    ------
    DatasetError
        If no source has any patient, or the content of participants.tsv is not available.
    """
    bids_dir = Path(bids_dir)
    output_dir = Path(output_dir)
    collection = _Collection(exclusions or Exclusions())
    participants = _clinical(collection, bids_dir, list(map(Path, phenotype)))
    folder = bids_dir / FREESURFER if freesurfer_dir is None else Path(freesurfer_dir)
    _freesurfer(collection, folder, is_required=freesurfer_dir is not None)
    _susceptibility(collection, output_dir, method, region, reference)
    _lesions(collection, output_dir)
    _quality(collection, output_dir)
    return collection.join(participants)


class _Collection:
    """Tables of all sources, and the problems, remarks and listed patients of each."""

    def __init__(self, exclusions):
        self.exclusions = exclusions
        self.tables = []
        self.listed = []
        self.problems = []
        self.notes = list(map(str, exclusions.problems))

    def is_included(self, source, entities, *, is_scan=True):
        """Return whether a scan or session counts; if not, list it with the reason."""
        problem = self.exclusions.verdict(entities, is_scan=is_scan)
        if problem is not None:
            self.list(entities["subject"], source, f"{problem.scan} excluded: {problem.text}")
        return problem is None

    def add(self, source, table):
        """Add a table that is not empty."""
        if len(table) and len(table.columns):
            self.tables.append((source, table))

    def list(self, participant, source, reason, left_out=False):
        """List a participant with a reason."""
        self.listed.append((participant, source, reason, left_out))

    def averaged(self, source, rows):
        """Average the numbers of patients with several rows."""
        for label, n in rows.index.value_counts(sort=False).items():
            if n > 1:
                self.list(label, source, f"measured {n} times; the mean is used")
        return rows.groupby(level=0).mean()

    def join(self, participants):
        """Join the tables; of a column in several sources the last one is used.

        `participants` is the table of ``participants.tsv``, or None.
        """
        labels = set()
        for _, table in self.tables:
            labels.update(table.index)
        if participants is not None:
            labels.update(participants.index)
            self._list_unregistered(participants)
            if "species" in participants:
                for label in sorted(participants.index[participants["species"] == "phantom"]):
                    self.list(label, "species", "a phantom, not a patient", left_out=True)
                    labels.remove(label)
        for label in sorted(labels):
            if problem := self.exclusions.verdict({"subject": label}, is_scan=False):
                self.list(label, "exclude", problem.text, left_out=True)
                labels.remove(label)
        if not labels:
            causes = "".join(f"; {source}: {cause}" for source, cause in self.problems)
            raise DatasetError(
                "there is no patient in participants.tsv, FreeSurfer's results or other "
                f"tables{causes}"
            )
        labels = pd.Index(sorted(labels), name="participant")
        self._list_absent(labels)
        columns, sources = self._columns(labels)
        return Patients(
            table=pd.DataFrame(columns, index=labels),
            sources=pd.DataFrame(sources, columns=["column", "unit", "source", "n", "used"]),
            listed=pd.DataFrame(self.listed, columns=LISTED_COLUMNS),
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )

    def _list_unregistered(self, participants):
        """List those who are in some table but not in ``participants.tsv``."""
        for source, table in self.tables:
            for label in table.index.difference(participants.index):
                self.list(label, source, "not in participants.tsv, so there are no data from it")

    def _list_absent(self, labels):
        """List those without data of a source, unless another reason is listed."""
        for source, table in self.tables:
            if source in MEASURED:
                listed = pd.DataFrame(self.listed, columns=LISTED_COLUMNS)
                listed_labels = set(listed["participant"][listed["what"] == source])
                for label in labels.difference(table.index):
                    if label not in listed_labels:
                        self.list(label, source, "no data of this patient")

    def _columns(self, labels):
        """Return the columns, each from its last source, and the rows of the table of sources."""
        columns = {}
        rows_of_column = {}
        for source, table in self.tables:
            for name in table:
                columns[name] = table[name].reindex(labels)
                row = {"column": name, "unit": UNITS.get(name, np.nan), "source": source}
                row |= {"n": int(columns[name].count()), "used": True}
                rows_of_column.setdefault(name, []).append(row)
        for name, (*earlier, last) in rows_of_column.items():
            for row in earlier:
                row["used"] = False
                self.notes.append(f"{name} is from {last['source']}, not from {row['source']}")
        return columns, list(chain.from_iterable(rows_of_column.values()))


def _clinical(collection, bids_dir, further_paths):
    """Read all tables of participants; return that of ``participants.tsv``, or None."""
    participants_path = bids_dir / "participants.tsv"
    participants = None
    paths = [*sorted((bids_dir / "phenotype").glob("*.tsv")), *further_paths]
    if exists(participants_path):
        paths.insert(0, participants_path)
    else:
        collection.notes.append(f"{participants_path}: missing, so it has no age and sex to use")
    for path in paths:
        # Full paths distinguish tables of the same name.
        name = path.relative_to(bids_dir).as_posix() if path.is_relative_to(bids_dir) else str(path)
        try:
            table = _read_clinical(path, name, collection)
        except DatasetError as error:
            collection.problems.append((name, str(error)))
            continue
        if path == participants_path:
            participants = table
        collection.add(name, table.drop(columns=list(NO_MEASURES), errors="ignore"))
    return participants


def _read_clinical(path, name, collection):
    table, remarks = read_text_table(path, ["participant_id"])
    for line, remark in remarks:
        collection.notes.append(f"{name}: line {line} {remark}")
    labels = table["participant_id"].str.removeprefix("sub-")
    is_valid = labels.map(_is_label).astype(bool)
    reason = "not a valid label (letters, digits, +), so its row is not used"
    for label in table["participant_id"][~is_valid]:
        collection.list(str(label), name, reason, left_out=True)
    table = table.drop(columns="participant_id").set_index(labels)[is_valid.to_numpy()]
    for label, n in table.index.value_counts(sort=False).items():
        if n > 1:
            collection.list(label, name, f"has {n} rows; values in which they agree are used")
    table, contradictions = merge_repeats(table)
    for label, column in contradictions:
        collection.list(label, name, f"its rows contradict each other: {column} was not used")
    columns = {column: _numbers(table[column], name, collection) for column in table}
    return pd.DataFrame(columns, index=table.index)


def _is_label(value):
    return isinstance(value, str) and LABEL.fullmatch(value) is not None


def _numbers(values, name, collection):
    """Convert a column to numbers if most of its values are numbers; the other values are listed,
    and become NaN.
    """
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    is_invalid = values.notna() & ~np.isfinite(numbers)
    if is_invalid.sum() > MOST_INVALID * values.notna().sum() or values.isna().all():
        return values
    for label, text in values[is_invalid].items():
        reason = f"{text!r:.60} is not a finite number, so it counts as missing"
        collection.list(label, f"{name}, {values.name}", reason)
    return numbers.mask(is_invalid)


def _freesurfer(collection, folder, *, is_required):
    source = FROM_FREESURFER
    if not (exists(folder) and folder.is_dir()):
        cause = (
            f"{folder}: no such folder, so there are no volumes and no cortical thickness from "
            "FreeSurfer"
        )
        if is_required:
            collection.problems.append((source, cause))
        else:
            collection.notes.append(cause)
        return
    runs, refused = freesurfer.find_statistics(folder)
    for name, cause in refused:
        collection.problems.append((f"{source}, {name}", cause))
    rows = []
    for run in runs:
        labels = {"subject": run.subject} | ({"session": run.session} if run.session else {})
        if not collection.is_included(source, labels, is_scan=False):
            continue
        try:
            rows.append({"participant": run.subject, **freesurfer.read_statistics(run.folder)})
        except DatasetError as error:
            collection.problems.append((f"{source}, {run.folder.parent.name}", str(error)))
            collection.list(run.subject, source, str(error))
    if rows:
        table = pd.DataFrame(rows).set_index("participant").dropna(axis="columns", how="all")
        collection.add(source, collection.averaged(source, table))


def _susceptibility(collection, output_dir, method, region, reference):
    source = FROM_MAPS
    rows = []
    has_subjects = False
    for path in find_tables(output_dir, ROI_TABLE):
        if not collection.is_included(source, entities_of_file(path.name)[0]):
            continue
        try:
            table = read_roi_table(path)
            is_phantom = "expected" in table and table["expected"].notna().any()
            if not is_phantom:
                rows += _region_values(table, method, region)
                has_subjects |= bool(table["subject"].notna().any())
        except (DatasetError, ValueError) as error:
            collection.problems.append((source, str(error)))
    if not has_subjects:
        return
    columns = ["participant", "site", "protocol", "reference", SUSCEPTIBILITY, "cause"]
    values = pd.DataFrame(rows, columns=columns)
    if reference is None and values[SUSCEPTIBILITY].notna().any():
        reference = values.loc[values[SUSCEPTIBILITY].notna(), "reference"].mode().get(0)
    differs = (values["reference"] != reference) & values[SUSCEPTIBILITY].notna()
    values.loc[differs, "cause"] = values["reference"].map(
        lambda reference_of_scan: f"relative to {reference_of_scan}, not to {reference}"
    )
    _select_protocols(collection, source, values)
    for row in values[values["cause"].notna()].itertuples():
        collection.list(row.participant, source, row.cause)
    usable = values[values["cause"].isna()].set_index("participant")[[SUSCEPTIBILITY]]
    if usable.empty:
        cause = f"no table has {region} in maps of {method}: {values['cause'].iloc[0]}"
        collection.problems.append((source, cause))
        return
    collection.notes.append(f"susceptibility of {region} relative to {reference}, {method}")
    collection.add(source, collection.averaged(source, usable))


def _select_protocols(collection, source, values):
    """Select one protocol for each patient and site.

    Scans of other protocols get a cause in `values`. Patients whose protocol is not the one of most
    patients at the site are listed.
    """
    values["protocol"] = list(map(str, match_protocols(values["protocol"].tolist())))
    usable = values[values["cause"].isna()]
    of_site = choose_protocols(usable["site"], usable["protocol"])
    places = list(zip(usable["participant"], usable["site"], strict=True))
    preferred = {(label, site): of_site[site] for label, site in places}
    selected = choose_protocols(places, usable["protocol"], preferred)
    for (label, site), protocol in selected.items():
        if protocol != of_site[site]:
            reason = f"scanned with {protocol}, while most at site {site} have {of_site[site]}"
            collection.list(label, source, reason)
    for row, place in zip(usable.itertuples(), places, strict=True):
        if row.protocol != selected[place]:
            cause = f"also scanned with {row.protocol}, which is not used"
            values.loc[row.Index, "cause"] = cause


def _region_values(table, method, region):
    """Return the region's value in each scan, in ppb: rows of participant, site, protocol,
    reference, value, and why there is no value.
    """
    rows = []
    keys = [key for key in ("subject", "session", "run") if key in table]
    for _, scan in table.groupby(keys, dropna=False, sort=False):
        first = scan.iloc[0]
        protocol = read_protocol_columns(first)
        rois = scan[scan["method"] == method]
        if rois.empty:
            value = np.nan
            cause = f"no map of {method}, only of {_listed(scan['method'])}"
        else:
            value, cause = _value_of_both_sides(rois, region)
        scan_columns = (first["subject"], first["site"], protocol, first["reference"])
        rows.append((*scan_columns, PPB_IN_PPM * value, cause))
    return rows


def _listed(names):
    return ", ".join(map(str, names.dropna().unique()))


def _value_of_both_sides(rois, region):
    """Return the value of a region, or of its two sides weighted by volume, and why there is
    none.
    """
    sides = {}
    for row in rois.itertuples():
        name, side = _split_side(row.roi)
        if name == _split_side(region)[0]:
            sides.setdefault(side, (row.mean, getattr(row, "volume", np.nan)))
    if not sides:
        return np.nan, f"no region {region}, only {_listed(rois['roi'])}"
    if "" in sides:
        value, _ = sides[""]
    elif "left" in sides and "right" in sides:
        left_value, left_volume = sides["left"]
        right_value, right_volume = sides["right"]
        total_volume = left_volume + right_volume
        value = (left_value * left_volume + right_value * right_volume) / total_volume
    else:
        return np.nan, f"{region} on the {next(iter(sides))} side only"
    return value, None if np.isfinite(value) else f"{region} has no value"


def _split_side(roi):
    """Split a region's name into the name without side, and the side.

    Examples
    --------
    >>> _split_side("Left-Thalamus-Proper"), _split_side("putamen")
    (('thalamus', 'left'), ('putamen', ''))
    """
    words = re.sub(r"[^a-z0-9]+", " ", str(roi).lower()).split()
    side = ""
    name = []
    for word in words:
        if word in SIDES:
            side = side or SIDES[word]
        elif word != "proper":
            name.append(word)
    return " ".join(name), side


def _lesions(collection, output_dir):
    source = FROM_LESIONS
    rows = []
    for path in find_tables(output_dir, LESION_TABLE):
        try:
            require_content(path)
            table = read_tsv(path)
            lesions = table[table["lesion"] != TOTAL]
            volume = lesions["volume"].astype(float).sum()
        except DatasetError as error:
            collection.problems.append((source, str(error)))
            continue
        except (OSError, ValueError, KeyError) as error:
            collection.problems.append((source, f"{path}: {error}; {RUN_AGAIN}"))
            continue
        n_lesions = float(len(lesions))
        rows.append({"participant": _subject(path), LESION_VOLUME: volume, LESIONS: n_lesions})
    if rows:
        table = pd.DataFrame(rows).set_index("participant")
        collection.add(source, collection.averaged(source, table))


def _quality(collection, output_dir):
    """Collect the numbers of the tables of image quality.

    They are inserted as the first source, so that they replace no measure.
    """
    source = "quality tables"
    tables = []
    for path in find_tables(output_dir, QUALITY_TABLE):
        try:
            require_content(path)
            table = read_tsv(path)
        except DatasetError as error:
            collection.problems.append((source, str(error)))
            continue
        except (OSError, ValueError) as error:
            collection.problems.append((source, f"{path}: {error}; {RUN_AGAIN}"))
            continue
        scans = list(map(row_entities, table.to_dict("records")))
        subject = {"subject": _subject(path)}
        table = table[[collection.is_included(source, subject | scan) for scan in scans]]
        numeric = table.select_dtypes("number").astype(float)
        numeric = numeric.drop(columns=list(SCAN_KEYS), errors="ignore")
        participant = pd.Index([_subject(path)] * len(numeric), name="participant")
        tables.append(numeric.set_axis(participant))
    if tables:
        table = collection.averaged(source, pd.concat(tables))
        collection.tables.insert(0, (source, table))


def _subject(path):
    return path.name.split("_")[0].removeprefix("sub-")
