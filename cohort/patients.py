"""One row per patient: what the clinic knows, what FreeSurfer measured and what was measured in the
maps.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..dataset.content import exists, require_content
from ..dataset.names import LESION_TABLE, QUALITY_TABLE, ROI_TABLE, find_tables
from ..dataset.outputs import LABEL
from ..dataset.participants import merge_repeats
from ..dataset.problems import DatasetError
from ..dataset.repeats import COLUMNS, match_protocols, read_protocol_columns
from ..dataset.sources import FREESURFER
from ..dataset.tables import read_text_table, read_tsv
from ..stats.protocols import choose_protocols
from . import freesurfer
from .roi_tables import read_roi_table

PPB_IN_PPM = 1000
SUSCEPTIBILITY, LESION_VOLUME, LESIONS = "relative_susceptibility", "t2_lesion_volume", "t2_lesions"
UNITS = {**freesurfer.COLUMNS, SUSCEPTIBILITY: "ppb", LESION_VOLUME: "mL"}
FROM_FREESURFER, FROM_MAPS, FROM_LESIONS = "FreeSurfer", "susceptibility maps", "lesion tables"
MEASURED = (FROM_FREESURFER, FROM_MAPS, FROM_LESIONS)  # sources that every patient should be in
NO_MEASURES = ("participant_id", "species")
SCAN_KEYS = ("subject", "session", "run", "site", "scan", *COLUMNS, "unit")
TOTAL = "total"  # the last row of a table of lesions
MOST_STRAYS = 0.5  # share of a column's values that may be no numbers in a column of numbers


@dataclass(frozen=True)
class Patients:
    """Result of `collect_patients`.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per patient, indexed by label without ``sub-``; NaN where missing.
    sources : pandas.DataFrame
        Where columns come from: ``column``, ``unit``, ``source``, ``n`` (patients with a value),
        ``used`` (no if another source of the same column was taken instead).
    listed : pandas.DataFrame
        ``participant``, ``what``, ``reason``, ``left_out``: who lacks a source, who is there more
        than once, who is unknown.
    problems : tuple of (str, str)
        Files that could not be used, and why.
    notes : tuple of str
        What the reader should know.
    """

    table: pd.DataFrame
    sources: pd.DataFrame
    listed: pd.DataFrame
    problems: tuple
    notes: tuple


def collect_patients(
    bids_dir,
    output_dir,
    *,
    method="medi",
    region="thalamus",
    reference=None,
    phenotype=(),
    freesurfer_dir=None,
):
    """Bring all that is known of the patients together.

    Where a column is in several sources, the last of these that has any value of it is used for all
    patients: quality tables, ``participants.tsv``, ``phenotype/*.tsv``, tables of `phenotype`,
    FreeSurfer, measurements in images. Repeated measurements of a patient are averaged, and listed;
    of scans at one site those of one protocol alone, the site's commonest if the patient has any of
    it. A participant whose ``species`` is ``phantom`` is left out.

    Parameters
    ----------
    bids_dir, output_dir : path-like
        Roots of the raw and of the derivative dataset. ``relative_susceptibility`` (ppb) is the
        mean of the region, in tables of regional values, relative to their reference: both sides
        weighted by their volumes where they are apart; ``t2_lesion_volume`` (mL) and ``t2_lesions``
        (count) are of ``*_desc-lesions_stats.tsv``.
    method, region : str
        Inversion and region of the susceptibility.
    reference : str, optional
        Its reference; the commonest if not given. Patients with another are listed, and have none.
    phenotype : sequence of path-like
        Further tables with the column ``participant_id``.
    freesurfer_dir : path-like, optional
        FreeSurfer's results; ``derivatives/freesurfer`` of the raw dataset if not given.

    Returns
    -------
    Patients

    Raises
    ------
    DatasetError
        If nobody is known from any source, or the content of participants.tsv is not here.
    """
    bids_dir = Path(bids_dir)
    output_dir = Path(output_dir)
    gathering = _Gathering()
    known = _clinical(gathering, bids_dir, [Path(path) for path in phenotype])
    folder = bids_dir / FREESURFER if freesurfer_dir is None else Path(freesurfer_dir)
    _freesurfer(gathering, folder, asked=freesurfer_dir is not None)
    _susceptibility(gathering, output_dir, method, region, reference)
    _lesions(gathering, output_dir)
    _quality(gathering, output_dir)
    return gathering.together(known)


class _Gathering:
    """Collects the tables of all sources, and whatever has to be said of them."""

    def __init__(self):
        self.tables = []
        self.listed = []
        self.problems = []
        self.notes = []

    def add(self, source, table):
        if len(table) and len(table.columns):
            self.tables.append((source, table))

    def list(self, participant, what, reason, left_out=False):
        self.listed.append((participant, what, reason, left_out))

    def averaged(self, source, rows):
        """Average the numbers of patients who are there more than once."""
        for label, n in rows.index.value_counts(sort=False).items():
            if n > 1:
                self.list(label, source, f"measured {n} times: their mean is used")
        return rows.groupby(level=0).mean()

    def together(self, known):
        """Join the tables, the last source of a column before the others."""
        labels = {label for _, table in self.tables for label in table.index}
        if known is not None:
            labels |= set(known.index)
            self._list_strangers(known)
            if "species" in known:
                phantoms = set(known.index[known["species"] == "phantom"])
                self.listed += [
                    (label, "species", "a phantom, not a patient", True)
                    for label in sorted(phantoms)
                ]
                labels -= phantoms
        if not labels:
            causes = "".join(f"; {what}: {cause}" for what, cause in self.problems)
            raise DatasetError(
                "no patient is known: no participants.tsv, FreeSurfer's or other table has "
                f"one{causes}"
            )
        labels = pd.Index(sorted(labels), name="participant")
        self._list_absent(labels)
        columns, sources = self._columns(labels)
        return Patients(
            table=pd.DataFrame(columns, index=labels),
            sources=pd.DataFrame(sources, columns=["column", "unit", "source", "n", "used"]),
            listed=pd.DataFrame(self.listed, columns=["participant", "what", "reason", "left_out"]),
            problems=tuple(self.problems),
            notes=tuple(self.notes),
        )

    def _list_strangers(self, known):
        for source, table in self.tables:
            for label in table.index.difference(known.index):
                self.list(
                    label,
                    source,
                    "not in participants.tsv: nothing is known but what other sources say",
                )

    def _list_absent(self, labels):
        for source, table in self.tables:
            if source in MEASURED:
                told = {label for label, what, *_ in self.listed if what == source}
                for label in labels.difference(table.index):
                    if label not in told:
                        self.list(label, source, "nothing there for this patient")

    def _columns(self, labels):
        columns = {}
        sources = {}
        for source, table in self.tables:
            for name in table:
                columns[name] = table[name].reindex(labels)
                row = {"column": name, "unit": UNITS.get(name, np.nan), "source": source}
                sources.setdefault(name, []).append(
                    {**row, "n": int(columns[name].count()), "used": True}
                )
        for name, (*others, last) in sources.items():
            for row in others:
                row["used"] = False
                self.notes.append(
                    f"{name} is of {last['source']}; that of {row['source']} was not used"
                )
        return columns, [row for rows in sources.values() for row in rows]


def _clinical(gathering, bids_dir, further):
    """Read all tables of participants; return that of ``participants.tsv``, or None."""
    participants = bids_dir / "participants.tsv"
    known = None
    has_participants = exists(participants)
    if not has_participants:
        gathering.notes.append(
            f"{participants}: missing, so nothing is known of age and sex from there"
        )
    paths = [participants] if has_participants else []
    for path in [*paths, *sorted((bids_dir / "phenotype").glob("*.tsv")), *further]:
        # Full paths where two tables have the same name.
        name = path.relative_to(bids_dir).as_posix() if path.is_relative_to(bids_dir) else str(path)
        try:
            table = _read_clinical(path, name, gathering)
        except DatasetError as error:
            gathering.problems.append((name, str(error)))
            continue
        if path == participants:
            known = table
        gathering.add(
            name, table.drop(columns=[column for column in NO_MEASURES if column in table])
        )
    return known


def _read_clinical(path, name, gathering):
    table = read_text_table(path, ["participant_id"])
    labels = table["participant_id"].str.removeprefix("sub-")
    valid = labels.map(
        lambda label: isinstance(label, str) and LABEL.fullmatch(label) is not None
    ).astype(bool)
    for label in table["participant_id"][~valid]:
        gathering.list(
            str(label),
            name,
            "is no label of a participant (letters, digits, +): its row is not used",
            True,
        )
    table = table.drop(columns="participant_id").set_index(labels)[valid.to_numpy()]
    for label, n in table.index.value_counts(sort=False).items():
        if n > 1:
            gathering.list(label, name, f"there {n} times: what its rows agree in is used")
    table, contradictions = merge_repeats(table)
    for label, column in contradictions:
        gathering.list(label, name, f"its rows contradict each other: {column} was not used")
    return pd.DataFrame(
        {column: _numbers(table[column], name, gathering) for column in table}, index=table.index
    )


def _numbers(values, name, gathering):
    """Numbers, if the column has mostly numbers; what is none among them is listed and missing."""
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    strays = values.notna() & ~np.isfinite(numbers)
    if strays.sum() > MOST_STRAYS * values.notna().sum() or values.isna().all():
        return values
    for label, text in values[strays].items():
        gathering.list(
            label, f"{name}, {values.name}", f"{text!r:.60} is no finite number: missing"
        )
    return numbers.mask(strays)


def _freesurfer(gathering, folder, *, asked):
    source = FROM_FREESURFER
    rows = []
    if not (exists(folder) and folder.is_dir()):
        missing = (
            f"{folder}: no such folder, so there are no volumes and no cortical thickness of "
            "FreeSurfer's"
        )
        (gathering.problems.append((source, missing)) if asked else gathering.notes.append(missing))
        return
    found, refused = freesurfer.find_statistics(folder)
    gathering.problems += [(f"{source}, {name}", cause) for name, cause in refused]
    for run in found:
        try:
            rows.append({"participant": run.subject, **freesurfer.read_statistics(run.folder)})
        except DatasetError as error:
            gathering.problems.append((f"{source}, {run.folder.parent.name}", str(error)))
            gathering.list(run.subject, source, str(error))
    if rows:
        table = pd.DataFrame(rows).set_index("participant").dropna(axis="columns", how="all")
        gathering.add(source, gathering.averaged(source, table))


def _susceptibility(gathering, output_dir, method, region, reference):
    source = FROM_MAPS
    rows = []
    scans = []
    for path in find_tables(output_dir, ROI_TABLE):
        try:
            table = read_roi_table(path)
            if (
                "expected" not in table or table["expected"].isna().all()
            ):  # a phantom's tubes have it
                rows += _region_values(table, method, region)
                scans += sorted(set(table["subject"].dropna()))
        except (DatasetError, ValueError) as error:
            gathering.problems.append((source, str(error)))
    if not scans:
        return
    values = pd.DataFrame(
        rows, columns=["participant", "site", "protocol", "reference", SUSCEPTIBILITY, "cause"]
    )
    if reference is None and values[SUSCEPTIBILITY].notna().any():
        reference = values.loc[values[SUSCEPTIBILITY].notna(), "reference"].mode().get(0)
    differs = (values["reference"] != reference) & values[SUSCEPTIBILITY].notna()
    values.loc[differs, "cause"] = values["reference"].map(
        lambda other: f"relative to {other}, not to {reference}"
    )
    _keep_one_protocol(gathering, source, values)
    for row in values[values["cause"].notna()].itertuples():
        gathering.list(row.participant, source, row.cause)
    kept = values[values["cause"].isna()].set_index("participant")[[SUSCEPTIBILITY]]
    if kept.empty:
        gathering.problems.append(
            (source, f"no table has {region} in maps of {method}: {values['cause'].iloc[0]}")
        )
        return
    gathering.notes.append(f"susceptibility of {region} relative to {reference}, {method}")
    gathering.add(source, gathering.averaged(source, kept))


def _keep_one_protocol(gathering, source, values):
    """Give a cause to a patient's scans of other protocols than the one that counts; list whose
    differs from most.
    """
    values["protocol"] = [
        str(protocol) for protocol in match_protocols(values["protocol"].tolist())
    ]
    known = values[values["cause"].isna()]
    of_site = choose_protocols(known["site"], known["protocol"])
    places = list(zip(known["participant"], known["site"], strict=True))
    chosen = choose_protocols(
        places, known["protocol"], {place: of_site[place[1]] for place in places}
    )
    for (label, site), protocol in chosen.items():
        if protocol != of_site[site]:
            gathering.list(
                label, source, f"scanned with {protocol}, most at site {site} with {of_site[site]}"
            )
    for row, place in zip(known.itertuples(), places, strict=True):
        if row.protocol != chosen[place]:
            values.loc[row.Index, "cause"] = (
                f"scanned with {row.protocol} as well, which is not used"
            )


def _region_values(table, method, region):
    """The region's value in each scan, in ppb: rows of participant, site, protocol, reference,
    value, cause.
    """
    rows = []
    keys = [key for key in ("subject", "session", "run") if key in table]
    for _, scan in table.groupby(keys, dropna=False, sort=False):
        first = scan.iloc[0]
        told = (first["subject"], first["site"], read_protocol_columns(first), first["reference"])
        chosen = scan[scan["method"] == method]
        if chosen.empty:
            there = ", ".join(map(str, scan["method"].dropna().unique()))
            rows.append((*told, np.nan, f"no map of {method}, but of {there}"))
            continue
        value, cause = _of_both_sides(chosen, region)
        rows.append((*told, PPB_IN_PPM * value, cause))
    return rows


def _of_both_sides(scan, region):
    sides = {}
    for row in scan.itertuples():
        name, side = _side(row.roi)
        if name == _side(region)[0]:
            sides.setdefault(side, (row.mean, getattr(row, "volume", np.nan)))
    if "" in sides:
        value = sides[""][0]
    elif {"left", "right"} <= set(sides):
        (left, left_volume) = sides["left"]
        (right, right_volume) = sides["right"]
        value = (left * left_volume + right * right_volume) / (left_volume + right_volume)
    elif sides:
        return np.nan, f"{region} on the {next(iter(sides))} side only"
    else:
        there = ", ".join(map(str, scan["roi"].dropna().unique()))
        return np.nan, f"no region {region}, but {there}"
    return value, None if np.isfinite(value) else f"no value of {region}"


def _side(roi):
    """A region's name without its side, and the side: ``Left-Thalamus-Proper`` is the left
    thalamus.
    """
    words = re.sub(r"[^a-z0-9]+", " ", str(roi).lower()).split()
    sides = {
        "left": "left",
        "l": "left",
        "lh": "left",
        "right": "right",
        "r": "right",
        "rh": "right",
    }
    side = next((sides[word] for word in words if word in sides), "")
    return " ".join(word for word in words if word not in sides and word != "proper"), side


def _lesions(gathering, output_dir):
    source = FROM_LESIONS
    rows = []
    for path in find_tables(output_dir, LESION_TABLE):
        try:
            require_content(path)
            table = read_tsv(path)
            lesions = table[table["lesion"] != TOTAL]
            volume = lesions["volume"].astype(float).sum()
        except DatasetError as error:
            gathering.problems.append((source, str(error)))
            continue
        except (OSError, ValueError, KeyError) as error:
            gathering.problems.append(
                (source, f"{path}: {error}; remove the file and run the participant level again")
            )
            continue
        rows.append(
            {"participant": _subject(path), LESION_VOLUME: volume, LESIONS: float(len(lesions))}
        )
    if rows:
        gathering.add(
            source, gathering.averaged(source, pd.DataFrame(rows).set_index("participant"))
        )


def _quality(gathering, output_dir):
    """Numbers of the tables of image quality; first of all sources, so that they replace no
    measure.
    """
    source = "quality tables"
    tables = []
    for path in find_tables(output_dir, QUALITY_TABLE):
        try:
            require_content(path)
            table = read_tsv(path)
        except DatasetError as error:
            gathering.problems.append((source, str(error)))
            continue
        except (OSError, ValueError) as error:
            gathering.problems.append(
                (source, f"{path}: {error}; remove the file and run the participant level again")
            )
            continue
        numeric = table.select_dtypes("number").astype(float)
        numeric = numeric[[name for name in numeric if name not in SCAN_KEYS]]
        tables.append(
            numeric.set_axis(pd.Index([_subject(path)] * len(numeric), name="participant"))
        )
    if tables:
        table = gathering.averaged(source, pd.concat(tables))
        gathering.tables.insert(0, (source, table))


def _subject(path):
    return path.name.split("_")[0].removeprefix("sub-")
