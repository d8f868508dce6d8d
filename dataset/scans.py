"""Find the gradient-echo scans of a BIDS dataset and put each one's files together by name."""

import csv
import json
import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from bids.layout import BIDSLayout, BIDSLayoutIndexer, Query

from ..bids_templates import load_template
from .derivatives import derivative_path, is_multiqsm_dataset, read_json, sidecar_path

PARTS = {"mag": "magnitude", "phase": "phase", "real": "real", "imag": "imaginary"}
SCAN_ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "task": "task",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "run": "run",
    "chunk": "chunk",
}
FILE_NAME = re.compile(r"([a-z]+-[a-zA-Z0-9+]+_)+[a-zA-Z0-9]+\.nii(\.gz)?")
NAMED_AT_MOST = 5
FILE_ENTITIES = ("echo", "part", "suffix", "datatype", "extension", "fmap")
CARRIED_METADATA = (
    "Manufacturer",
    "ManufacturersModelName",
    "MagneticFieldStrength",
    "ImagingFrequency",
    "InstitutionName",
    "StationName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "ReceiveCoilName",
    "PulseSequenceType",
    "ScanningSequence",
    "SequenceVariant",
    "SequenceName",
    "MRAcquisitionType",
    "RepetitionTime",
    "RepetitionTimeExcitation",
    "FlipAngle",
    "PixelBandwidth",
    "PartialFourier",
    "ParallelReductionFactorInPlane",
    "ParallelReductionFactorOutOfPlane",
)


class DatasetError(Exception):
    """The dataset, or what was asked of it, leaves nothing that can be processed; the message says why."""


class LeftOut(NamedTuple):
    """Something of the dataset that is not processed: what, why, and whether that is a scan which should have been."""

    what: str
    why: str
    is_fault: bool = False


@dataclass(frozen=True)
class Scan:
    """One multi-echo gradient-echo scan: its files, sorted by echo time, and what its sidecars say.

    Either `magnitude` and `phase` are there, or `real` and `imaginary`; the others are empty. A scan as found
    may lack a file of one echo: `multiqsm.dataset.preflight` says so.

    Attributes
    ----------
    entities : dict of str
        What identifies the scan, by the long names of BIDS, without echo and part.
    suffix : str
        ``MEGRE`` or ``T2starw``.
    magnitude, phase, real, imaginary : tuple of pathlib.Path
        One file for each echo.
    echo_times : tuple of float or None
        In seconds; None where no sidecar has it.
    sidecars : dict of dict
        Metadata of each file, inherited fields included, by file name.
    field_strength : float or None
        In tesla.
    imaging_frequency : float or None
        In MHz.
    manufacturer : str or None
        As the sidecar has it.
    units : str or None
        ``Units`` of the phase.
    brain_mask : pathlib.Path or None
        A mask that the user brought.
    site, site_source : str
        The site, and what told it.
    is_phantom : bool
        The participant's ``species`` in participants.tsv is phantom.
    notes : tuple of str
        Decisions taken while the files were put together, for the user to read.
    """

    entities: dict[str, str]
    suffix: str
    magnitude: tuple[Path, ...] = ()
    phase: tuple[Path, ...] = ()
    real: tuple[Path, ...] = ()
    imaginary: tuple[Path, ...] = ()
    echo_times: tuple[float | None, ...] = ()
    sidecars: dict[str, dict] = field(default_factory=dict, repr=False)
    field_strength: float | None = None
    imaging_frequency: float | None = None
    manufacturer: str | None = None
    units: str | None = None
    brain_mask: Path | None = None
    site: str = "unknown"
    site_source: str = "nothing in the dataset"
    is_phantom: bool = False
    notes: tuple[str, ...] = ()

    @property
    def parts(self):
        """The parts that the scan consists of: a dict of part to its files."""
        return {part: getattr(self, part) for part in PARTS.values() if getattr(self, part)}

    @property
    def files(self):
        """All image files, part by part."""
        return tuple(path for paths in self.parts.values() for path in paths)

    @property
    def label(self):
        """Readable label, such as ``sub-01_ses-A_acq-x_run-1``."""
        return scan_label(self.entities)

    @property
    def node_name(self):
        """The label as a name that Nipype accepts, such as ``sub_01_ses_A_acq_x_run_1``."""
        return self.label.replace("-", "_").replace("+", "plus")

    @property
    def metadata(self):
        """What the first file's sidecar says of the scanner and the sequence."""
        sidecar = self.sidecars.get(self.files[0].name, {}) if self.files else {}
        return {key: sidecar[key] for key in CARRIED_METADATA if key in sidecar}


def scan_label(entities):
    """Join entities as BIDS file names do.

    Parameters
    ----------
    entities : dict of str
        Entities by their long names.

    Returns
    -------
    str
        The label.

    Examples
    --------
    >>> scan_label({"run": "1", "subject": "01", "session": "A"})
    'sub-01_ses-A_run-1'
    """
    return "_".join(f"{key}-{entities[name]}" for name, key in SCAN_ENTITIES.items() if name in entities)


def echo_number(path):
    """Read the echo entity of a file name.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    int
        The echo's number; 1 where the name has none, as single-echo files may.
    """
    found = re.search(r"_echo-(\d+)_", path.name)
    return int(found[1]) if found else 1


def index_dataset(bids_dir, *, participant_label=None):
    """Index the anatomical folders of a dataset, with the metadata of its gradient-echo images.

    Parameters
    ----------
    bids_dir : path-like
        Root of the dataset.
    participant_label : sequence of str, optional
        Participants to index, with or without ``sub-``; all of them if not given.

    Returns
    -------
    bids.layout.BIDSLayout
        The index. Derivatives are not in it.

    Raises
    ------
    DatasetError
        If the folder is no BIDS dataset, a participant is not in it, or a sidecar is not JSON.
    """
    root = Path(bids_dir)
    if not (root / "dataset_description.json").is_file():
        raise DatasetError(
            f"{root}: no dataset_description.json; give the root folder of a BIDS dataset, or add that file"
        )
    subjects = _participants(root, participant_label)
    query = load_template("queries")["megre"]
    indexer = BIDSLayoutIndexer(
        validate=False,
        ignore=_ignored(subjects if participant_label else ()),
        suffix=list(query["suffix"]),
        extension=list(query["extension"]),
    )
    try:
        return BIDSLayout(root, validate=False, indexer=indexer)
    except OSError as error:
        raise DatasetError(f"{error}; correct the file's JSON") from error


def collect_scans(bids_dir, *, participant_label=None, session_label=None, bids_filter=None, derivatives=None):
    """Collect the scans to process, each put together by the entities of its files.

    Parameters
    ----------
    bids_dir : path-like
        Root of the dataset.
    participant_label, session_label : sequence of str, optional
        Labels to keep, with or without ``sub-`` and ``ses-``.
    bids_filter : dict of dict, optional
        Content of the file behind ``--bids-filter-file``, such as ``{"megre": {"acquisition": "x"}}``. A value
        may be a list; null asks that the entity be absent and ``"*"`` that it be there.
    derivatives : sequence of path-like, optional
        Derivative datasets to look for brain masks in. By default all in the dataset's ``derivatives`` folder
        except those that multiqsm made.

    Returns
    -------
    scans : list of Scan
        Sorted by label.
    left_out : list of LeftOut
        What was not taken, and why.

    Raises
    ------
    DatasetError
        If no scan is left, naming the filter or the missing part that removed the last one; or if the dataset
        or the filter cannot be used.
    """
    layout = index_dataset(bids_dir, participant_label=participant_label)
    subjects = _participants(Path(layout.root), participant_label)
    images, left_out = _select(layout, subjects, _filters(session_label, bids_filter or {}))
    scans, refused = _assemble_all(images)
    left_out += refused
    if not scans:
        reasons = "\n".join(f"  {what}: {why}" for what, why, _ in left_out)
        raise DatasetError(f"{layout.root}: none of its gradient-echo scans can be processed\n{reasons}")
    datasets = derivative_datasets(layout.root, derivatives)
    completed = []
    for scan in sorted(scans, key=lambda scan: scan.label):
        brain_mask, refused = _find_brain_mask(scan, datasets)
        left_out += refused
        site, site_source = _find_site(scan, Path(layout.root))
        is_phantom = _is_phantom(scan, Path(layout.root))
        completed.append(
            replace(scan, brain_mask=brain_mask, site=site, site_source=site_source, is_phantom=is_phantom)
        )
    return completed, left_out


def _participants(root, participant_label):
    """Labels of the participants asked for, or of all; each must have a folder."""
    present = sorted(path.name.removeprefix("sub-") for path in root.glob("sub-*") if path.is_dir())
    wanted = [str(label).removeprefix("sub-") for label in participant_label or present]
    missing = [label for label in wanted if label not in present]
    if missing:
        raise DatasetError(
            f"--participant-label {' '.join(missing)}: not in {root}; its participants are: {', '.join(present)}"
        )
    if not wanted:
        raise DatasetError(f"{root}: no sub-* folder; give the root folder of a BIDS dataset")
    return wanted


def _ignored(subjects):
    """Patterns of the folders that need no look: all but ``anat``, and other participants than `subjects`."""
    patterns = [r"^/(?!sub-)[^/.]+$", r"^/\.", r"^/sub-[^/]+(/ses-[^/]+)?/(?!anat$|ses-[^/]*$)[^/.]+$"]
    if subjects:
        patterns.append(rf"^/sub-(?!({'|'.join(map(re.escape, subjects))})(/|$))")
    return [re.compile(pattern) for pattern in patterns]


def _filters(session_label, bids_filter):
    """List the filters in the order in which they are applied, as (name, entity, value)."""
    queries = load_template("queries")
    unknown = set(bids_filter) - set(queries)
    if unknown:
        raise DatasetError(f"--bids-filter-file: no query {', '.join(unknown)}; it may have: {', '.join(queries)}")
    wanted = bids_filter.get("megre", {})
    if not isinstance(wanted, dict):
        raise DatasetError(f'--bids-filter-file: megre is {wanted!r}; write entities, as in {{"acquisition": "x"}}')
    sessions = [str(label).removeprefix("ses-") for label in session_label or ()]
    filters = [(f"--session-label {' '.join(sessions)}", "session", sessions)] if sessions else []
    for entity, value in wanted.items():
        filters.append((f"--bids-filter-file, {entity} {json.dumps(value)}", entity, _query_value(value)))
    return filters


def _query_value(value):
    """Translate null and ``"*"`` of a filter file into what pybids calls them."""
    if isinstance(value, list):
        return [_query_value(item) for item in value]
    if value is None:
        return Query.NONE
    return Query.ANY if value == "*" else value


def _select(layout, subjects, filters):
    """Apply the filters one after another, so that the one that removes the last image can be named.

    Returns the images, and the participants left without any.
    """
    query = load_template("queries")["megre"]
    suffixes = " or ".join(query["suffix"])
    images = layout.get(**query)
    if not images:
        raise DatasetError(
            f"{layout.root}: no image with suffix {suffixes} in an anat folder of {_listed(subjects)}; "
            f"the suffixes there are: {_values(layout.get(extension=query['extension']), 'suffix')}"
        )
    left_out = _without_images(subjects, images, f"no image with suffix {suffixes} in an anat folder")
    for name, entity, value in filters:
        query[entity] = value
        try:
            left = layout.get(**query)
        except ValueError as error:
            raise DatasetError(f"{name}: {error}") from error
        if not left:
            raise DatasetError(
                f"{name} removed all {len(images)} images that were left; "
                f"the values of {entity} there are: {_values(images, entity)}"
            )
        left_out += _without_images({image.entities["subject"] for image in images}, left, f"removed by {name}")
        images = left
    return images, left_out


def _without_images(subjects, images, reason):
    having = {image.entities["subject"] for image in images}
    return [LeftOut(f"sub-{subject}", reason) for subject in sorted(set(subjects) - having)]


def _listed(subjects):
    """Name a few participants, or say how many they are."""
    few = len(subjects) <= NAMED_AT_MOST
    return ", ".join(f"sub-{subject}" for subject in subjects) if few else f"{len(subjects)} participants"


def _values(images, entity):
    """List an entity's values over images, each with its count."""
    counts = Counter(image.entities.get(entity, f"(no {entity})") for image in images)
    return ", ".join(f"{value} ({count})" for value, count in sorted(counts.items(), key=str)) or "none"


def _assemble_all(images):
    """Sort images into scans by the entities that they share."""
    grouped, scans, left_out = defaultdict(list), [], []
    for image in images:
        if not FILE_NAME.fullmatch(image.filename):
            reason = "no BIDS name: labels have letters, digits and + only; rename the file"
            left_out.append(LeftOut(image.filename, reason, is_fault=True))
            continue
        names = image.get_entities(metadata=False)
        entities = {name: str(value) for name, value in names.items() if name not in FILE_ENTITIES}
        grouped[tuple(sorted(entities.items()))].append(image)
    for key, members in grouped.items():
        try:
            scan, refused = _assemble(dict(key), members)
        except _Unusable as reason:
            left_out.append(LeftOut(scan_label(dict(key)), str(reason), is_fault=True))
        else:
            scans.append(scan)
            left_out += refused
    return scans, left_out


class _Unusable(Exception):
    """These files make no scan; the message says why."""


def _assemble(entities, images):
    """Put the images that share `entities` together as a scan.

    Returns the scan and what of the images was not taken, as (file name, reason).
    """
    strange = [name for name in entities if name not in SCAN_ENTITIES]
    if strange:
        raise _Unusable(f"{_names(images)}: a gradient-echo scan has no {', '.join(strange)} in BIDS; rename the files")
    images, refused = _one_suffix(images)
    suffix = images[0].entities["suffix"]
    parts, notes, without_part = _sort_by_part(images)
    refused += without_part
    parts, note = _choose_parts(parts)
    notes += note
    if suffix == "MEGRE" and any("_echo-" not in image.filename for image in _flat(parts)):
        raise _Unusable(
            f"{_names(_flat(parts))}: no echo in the name, as if all echoes were stacked in one 4-D file; BIDS "
            "has one 3-D file for each echo: split it (fslsplit, mrconvert) and name the files echo-1, echo-2, …"
        )
    sidecars = {image.filename: _metadata(image) for image in _flat(parts)}
    times = _echo_times(parts, sidecars)
    known = None not in times.values()
    order = sorted(times, key=lambda echo: (times[echo], echo) if known else echo)
    phase_sidecars = [sidecars[image.filename] for image in parts.get("phase", {}).values()]
    scan = Scan(
        entities=entities,
        suffix=suffix,
        echo_times=tuple(times[echo] for echo in order),
        sidecars=sidecars,
        field_strength=as_number(_first(sidecars.values(), "MagneticFieldStrength")),
        imaging_frequency=as_number(_first(sidecars.values(), "ImagingFrequency")),
        manufacturer=_first(sidecars.values(), "Manufacturer"),
        units=_first(phase_sidecars, "Units"),
        notes=tuple(notes),
        **{part: tuple(Path(of[echo].path) for echo in order if echo in of) for part, of in parts.items()},
    )
    return scan, refused


def _metadata(image):
    """Merge the sidecars that apply to an image, its own last.

    Within one folder pybids lets the order of the listing decide, so that ``sub-01_echo-1_MEGRE.json`` could override
    ``sub-01_echo-1_part-phase_MEGRE.json``.
    """
    return dict(image.get_metadata()) | read_json(sidecar_path(image.path))


def _names(images):
    return ", ".join(sorted(image.filename for image in images))


def _flat(parts):
    return [image for echoes in parts.values() for image in echoes.values()]


def _one_suffix(images):
    """Keep the multi-echo images of a scan that is there as ``T2starw`` too: derivatives would share names."""
    megre = [image for image in images if image.entities["suffix"] == "MEGRE"]
    if not megre:
        return images, []
    reason = "the same entities as a MEGRE scan, which is taken; tell them apart with acq- to process both"
    return megre, [LeftOut(image.filename, reason) for image in images if image.entities["suffix"] != "MEGRE"]


def _sort_by_part(images):
    """Sort images into a dict of part to a dict of echo number to image."""
    parts, notes, refused = defaultdict(dict), [], []
    for image in sorted(images, key=lambda image: "part" not in image.entities):
        echo = echo_number(Path(image.path))
        part = PARTS[image.entities.get("part", "mag")]
        if echo not in parts[part]:
            parts[part][echo] = image
            if "part" not in image.entities:
                notes.append(f"{image.filename}: no part in the name, taken as the magnitude")
        elif "part" not in image.entities:
            refused.append(LeftOut(image.filename, f"no part in the name, and {parts[part][echo].filename} is there"))
        else:
            raise _Unusable(
                f"{parts[part][echo].filename} and {image.filename} are both the {part} of echo {echo}; remove one"
            )
    return {part: parts[part] for part in PARTS.values() if part in parts}, notes, refused


def _choose_parts(parts):
    """Keep magnitude with phase, else real with imaginary."""
    for pair in (("magnitude", "phase"), ("real", "imaginary")):
        if all(part in parts for part in pair):
            spare = [part for part in parts if part not in pair]
            note = [f"{' and '.join(spare)} images not used: {' and '.join(pair)} are there"] if spare else []
            return {part: parts[part] for part in pair}, note
    raise _Unusable(
        f"only {' and '.join(parts)} images, where magnitude and phase, or real and imaginary, are needed "
        f"({_names(_flat(parts))}); add part-phase files or convert the scan again with phase"
    )


def _echo_times(parts, sidecars):
    """Map each echo number to its echo time, from the first part whose sidecar has one."""
    numbers = sorted({echo for echoes in parts.values() for echo in echoes})
    return {
        echo: as_number(_first([sidecars[of[echo].filename] for of in parts.values() if echo in of], "EchoTime"))
        for echo in numbers
    }


def _first(sidecars, key):
    """First value of a field over sidecars."""
    return next((sidecar[key] for sidecar in sidecars if sidecar.get(key) is not None), None)


def as_number(value):
    """Take a number from a sidecar.

    Parameters
    ----------
    value : object
        What the sidecar has.

    Returns
    -------
    float or None
        None for whatever is not a finite number: texts, lists, true and false, NaN.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def derivative_datasets(root, derivatives=None):
    """List the derivative datasets to look for a user's masks and labels in.

    Parameters
    ----------
    root : path-like
        Root of the raw dataset.
    derivatives : sequence of path-like, optional
        The datasets to take. By default all in the dataset's ``derivatives`` folder except those that multiqsm made.

    Returns
    -------
    list of pathlib.Path
        Their roots.

    Raises
    ------
    DatasetError
        If one of them does not exist.
    """
    # Nodes work in folders of their own: what is found there is named in full.
    if derivatives is None:
        beside = sorted(path for path in Path(root, "derivatives").absolute().glob("*") if path.is_dir())
        return [path for path in beside if not is_multiqsm_dataset(path)]
    missing = [str(path) for path in derivatives if not Path(path).is_dir()]
    if missing:
        raise DatasetError(f"{', '.join(missing)}: no such folder of derivatives")
    return [Path(path).absolute() for path in derivatives]


def _find_brain_mask(scan, datasets):
    """Find the mask with the scan's entities; one made from another image, such as a T1w, is not the scan's."""
    candidates = [
        derivative_path(dataset, scan.entities, suffix="mask", desc="brain", extension=extension)
        for dataset in datasets
        for extension in (".nii.gz", ".nii")
    ]
    found = [path for path in candidates if path.exists()]
    foreign = [path for path in found if not is_of_gradient_echo(path)]
    own = [path for path in found if path not in foreign]
    if len(own) > 1:
        raise DatasetError(
            f"{scan.label}: more than one brain mask ({', '.join(map(str, own))}); "
            "say with --derivatives whose masks to use, or remove all but one"
        )
    refused = [LeftOut(str(path), "its sidecar says that it was made from another image") for path in foreign]
    return (own[0] if own else None), refused


def is_of_gradient_echo(image):
    """Tell by its sidecar whether a mask or label image was made from a gradient-echo scan.

    Parameters
    ----------
    image : pathlib.Path
        The mask or label image.

    Returns
    -------
    bool
        True if its sources are gradient-echo images, or if it names none: then it is taken at its file name.
    """
    metadata = read_json(sidecar_path(image))
    sources = metadata.get("Sources") or metadata.get("RawSources") or []
    return not sources or any(re.search(r"_(MEGRE|T2starw)\.", source) for source in sources)


def _find_site(scan, root):
    """Return the scan's site and what told it."""
    subject, session = f"sub-{scan.entities['subject']}", scan.entities.get("session")
    tables = [(root / "participants.tsv", "participant_id", subject)]
    if session is not None:
        tables.insert(0, (root / subject / f"{subject}_sessions.tsv", "session_id", f"ses-{session}"))
    for table, key, name in tables:
        row = _table_row(table, key, name)
        for column in ("site", "scanner"):
            if row.get(column) not in (None, "", "n/a"):
                return row[column], f"column {column} of {table.name}"
    return _site_of_sidecar(scan, session)


def _site_of_sidecar(scan, session):
    """The institution with its scanner, since an institution may have two; else the session."""
    metadata = scan.metadata
    fields = ["InstitutionName", "StationName" if metadata.get("StationName") else "DeviceSerialNumber"]
    named = [key for key in fields if metadata.get(key)]
    if named:
        return " ".join(str(metadata[key]) for key in named), f"{' and '.join(named)} of the sidecar"
    if session is not None:
        return session, "the session label"
    return Scan.site, Scan.site_source


def _is_phantom(scan, root):
    row = _table_row(root / "participants.tsv", "participant_id", f"sub-{scan.entities['subject']}")
    return (row.get("species") or "").strip().lower() == "phantom"


def _table_row(table, key, name):
    """Row of a TSV table, with or without the entity's prefix in its key; empty if there is none."""
    if not table.exists():
        return {}
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.DictReader(lines, delimiter="\t"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table}: {error}; save the table as UTF-8 text with tabs between columns") from error
    wanted = (name, name.split("-", 1)[1])
    return next((row for row in rows if row.get(key) in wanted), {})
