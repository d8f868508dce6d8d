"""Find the gradient-echo scans of a BIDS dataset and put each one's files together by name."""

import csv
import json
import math
import re
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ..bids_templates import load_template
from .content import MissingContentError, is_listed, is_lost_folder, is_there, require_content
from .derivatives import derivative_path, is_multiqsm_dataset, read_json, sidecar_path
from .problems import DatasetError, Problem

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
INDICES = ("run", "echo", "chunk")
LONG_NAMES = {short: name for name, short in SCAN_ENTITIES.items()}
READ_COLUMNS = ("site", "scanner", "species")  # of participants.tsv and sessions.tsv
FILE_NAME = re.compile(r"(?:[a-zA-Z]+-[a-zA-Z0-9+]+_)+([a-zA-Z0-9]+)(\.nii(?:\.gz)?)")
SIDECAR_NAME = re.compile(r"((?:[a-zA-Z]+-[a-zA-Z0-9+]+_)*)([a-zA-Z0-9]+)\.json")
SUFFIX = re.compile(r"(?:^|_)([a-zA-Z0-9+]+)\.nii(?:\.gz)?$")
NAMED_AT_MOST = 5
FILE_ENTITIES = ("echo", "part", "suffix", "datatype", "extension")
LARGEST_SIDECAR = 16 * 2**20  # bytes: what converters write is a thousandth of that
LONGEST_NAME = 100  # characters of a site's name
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
        """What the first file's sidecar says of the scanner and the sequence, in texts, numbers and lists of them."""
        sidecar = self.sidecars.get(self.files[0].name, {}) if self.files else {}
        return {key: _plain(sidecar[key]) for key in CARRIED_METADATA if key in sidecar and _is_plain(sidecar[key])}


def _is_plain(value):
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str | int | float) for item in items)


def _plain(value):
    """The value with texts that can be written anywhere: JSON can say what UTF-8 cannot."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return one_line(value) if isinstance(value, str) else value


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


def collect_scans(
    bids_dir,
    *,
    participant_label=None,
    session_label=None,
    bids_filter=None,
    derivatives=None,
    none_is_an_error=True,
):
    """Collect the scans to process, each put together by the entities of its files.

    Parameters
    ----------
    bids_dir : path-like
        Root of the dataset.
    participant_label, session_label : sequence of str, optional
        Labels to keep, with or without ``sub-`` and ``ses-``.
    bids_filter : dict of dict, optional
        Content of the file behind ``--bids-filter-file``, such as ``{"megre": {"acquisition": "x"}}``. A value
        may be a list; null asks that the entity be absent and ``"*"`` that it be there. A field of the sidecars
        serves as an entity does.
    derivatives : sequence of path-like, optional
        Derivative datasets to look for brain masks in. By default all in the dataset's ``derivatives`` folder
        except those that multiqsm made.
    none_is_an_error : bool
        False if it is no error that none of the gradient-echo scans can be put together: the list is empty then.

    Returns
    -------
    scans : list of Scan
        Sorted by label.
    left_out : list of Problem
        What was not taken, and why: errors, and notes where that is as it should be.

    Raises
    ------
    DatasetError
        If no scan is left, naming the filter or the missing part that removed the last one; or if the dataset
        or the filter cannot be used.
    """
    root = Path(bids_dir).absolute()
    require_content(root / "dataset_description.json")
    if not (root / "dataset_description.json").is_file():
        raise DatasetError(
            f"{root}: no dataset_description.json", "give the root folder of a BIDS dataset, or add that file"
        )
    subjects = _participants(root, participant_label)
    images, left_out = _select(root, subjects, _filters(session_label, bids_filter or {}))
    scans, refused = _assemble_all(images)
    left_out += refused
    datasets, tables, completed = derivative_datasets(root, derivatives), _Tables(root), []
    left_out += _not_installed(root) if derivatives is None else []
    for scan in sorted(scans, key=lambda scan: scan.label):
        try:
            done, refused = _completed(scan, datasets, tables)
        except _Unusable as reason:
            left_out.append(Problem.from_error(scan.label, reason, scan.entities["subject"]))
        else:
            completed.append(done)
            left_out += refused
    if not completed and none_is_an_error:
        reasons = "\n".join(f"  {problem}" for problem in left_out)
        raise DatasetError(f"{root}: none of its gradient-echo scans can be processed\n{reasons}")
    return completed, left_out


def _completed(scan, datasets, tables):
    """The scan with what else the dataset says of it, and what was not taken."""
    brain_mask, refused = _find_brain_mask(scan, datasets)
    site, site_source = _find_site(scan, tables)
    done = replace(
        scan,
        brain_mask=brain_mask,
        site=site,
        site_source=site_source,
        is_phantom=_is_phantom(scan, tables),
        notes=(*scan.notes, *tables.notes(scan)),
    )
    return done, refused


def list_scans(bids_dir, subjects):
    """List the gradient-echo scans of some subjects by the names of their images, be they usable or not.

    Parameters
    ----------
    bids_dir : path-like
        Root of the dataset.
    subjects : iterable of str
        Their labels, without ``sub-``.

    Returns
    -------
    list of dict of str
        Entities of each scan, in the order of the names.
    """
    images, *_ = _find_images(Path(bids_dir).absolute(), sorted(subjects))
    found = {}
    for image in _matching(images, load_template("queries")["megre"]):
        entities = {name: label for name, label in image.entities.items() if name in SCAN_ENTITIES}
        found.setdefault(scan_label(entities), entities)
    return list(found.values())


def _participants(root, participant_label):
    """Labels of the participants asked for, or of all; each must have a folder."""
    present = sorted(path.name.removeprefix("sub-") for path in root.glob("sub-*") if _is_folder(path))
    wanted = [str(label).removeprefix("sub-") for label in participant_label or present]
    missing = [label for label in wanted if label not in present]
    if missing:
        raise DatasetError(
            f"--participant-label {' '.join(map(one_line, missing))}: not in {root}; its participants are: "
            + ", ".join(map(one_line, present))
        )
    if not wanted:
        raise DatasetError(f"{root}: no sub-* folder", "give the root folder of a BIDS dataset")
    return wanted


class _Image:
    """A gradient-echo image of the raw dataset, by its name; its sidecars are read when they are asked for."""

    def __init__(self, path, entities, sidecars):
        self.path = path
        self.filename = path.name
        self.entities = entities
        self._sidecars = sidecars

    @cached_property
    def metadata(self):
        return self._sidecars.merged(self)

    def value(self, name):
        """An entity, or else a field of the sidecars; None if it is absent."""
        if name in SCAN_ENTITIES or name in FILE_ENTITIES:
            return self.entities.get(name)
        try:
            return self.metadata.get(name)
        except _Unusable:
            return None


class _Sidecars:
    """Sidecars by the principle of inheritance: those of the folders above, the nearest and most specific last."""

    def __init__(self, root):
        self._root = root
        self._of_folder, self._shared = {}, {}

    def merged(self, image):
        """Merge the sidecars that apply to an image."""
        metadata, folders = {}, [image.path.parent]
        while folders[-1] != self._root:
            folders.append(folders[-1].parent)
        labels = set(image.filename.split("_")[:-1])
        for folder in reversed(folders):
            for needed, path in self._named(folder).get(image.entities["suffix"], ()):
                if needed <= labels:
                    metadata |= self._read(path, is_own=path == sidecar_path(image.path))
        return {key: value for key, value in metadata.items() if value is not None}

    def _named(self, folder):
        """Sidecars of a folder by suffix, each with the entities that it asks for, those that ask for least first."""
        if folder not in self._of_folder:
            found = defaultdict(list)
            for path in sorted(folder.glob("*.json")):
                if parsed := SIDECAR_NAME.fullmatch(path.name):
                    found[parsed[2]].append((set(parsed[1].split("_")[:-1]), path))
            self._of_folder[folder] = {
                suffix: sorted(named, key=lambda entry: len(entry[0])) for suffix, named in found.items()
            }
        return self._of_folder[folder]

    def _read(self, path, *, is_own):
        """Read a sidecar; one that several images share is read once, and refused as often as it is asked for."""
        if is_own:
            return _read_sidecar(path)
        if path not in self._shared:
            try:
                self._shared[path] = _read_sidecar(path)
            except _Unusable as reason:
                self._shared[path] = reason
        if isinstance(self._shared[path], _Unusable):
            raise self._shared[path]
        return self._shared[path]


def _read_sidecar(path):
    """Read a sidecar that strangers wrote: whatever is wrong with it makes the scan unusable, and no other."""
    try:
        require_content(path)
    except MissingContentError as error:
        raise _Unusable(f"{path.name}: {error.cause}", error.remedy) from error
    if not path.is_file():
        raise _Unusable(f"{path.name}: the sidecar is no file", "remove it, or save the sidecar there")
    if path.stat().st_size > LARGEST_SIDECAR:
        raise _Unusable(
            f"{path.name}: {path.stat().st_size / 2**20:.0f} MB, which is no sidecar",
            "write the sidecar again without what is not metadata",
        )
    contradictions = []

    def collect(pairs):
        # Called for each object, the outermost last: what lies deeper is not used.
        content, contradictions[:] = dict(pairs), ()
        if len(content) < len(pairs):
            contradictions[:] = sorted({key for key, value in pairs if repr(content[key]) != repr(value)})
        return content

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=collect)
    except UnicodeDecodeError as error:
        raise _Unusable(f"{path.name}: {error}", "save the file as UTF-8") from error
    except RecursionError as error:
        raise _Unusable(f"{path.name}: nested too deeply", "correct the file's JSON") from error
    except (OSError, ValueError) as error:
        raise _Unusable(f"{path.name}: {one_line(str(error))}", "correct the file's JSON") from error
    if not isinstance(content, dict):
        raise _Unusable(f"{path.name}: a sidecar is an object in braces, which this is not", "correct the file's JSON")
    if contradictions:
        names = ", ".join(map(one_line, contradictions))
        raise _Unusable(f"{path.name}: {names} is there twice with different values", "correct the file's JSON")
    return content


def _find_images(root, subjects):
    """Find the images in the anatomical folders of participants.

    Returns those whose names BIDS allows, the others as left out, and how many images there are of each suffix.
    """
    images, left_out, suffixes, sidecars = [], [], Counter(), _Sidecars(root)
    wanted = load_template("queries")["megre"]["suffix"]
    for subject in subjects:
        for folder, session in _anatomical_folders(root / f"sub-{subject}"):
            try:
                require_content(folder)
                paths = sorted(folder.iterdir())
            except MissingContentError as error:
                name = one_line(folder.relative_to(root).as_posix())
                cause = "the folder is a link to what is not here"
                left_out.append(Problem(name, "", cause, error.remedy, subject=subject))
                continue
            except OSError as error:
                left_out.append(Problem(one_line(str(folder)), "", error.strerror, "make it readable", subject=subject))
                continue
            for path in paths:
                suffix = SUFFIX.search(path.name)
                if suffix is None or path.name.startswith("."):
                    continue
                suffixes[suffix[1]] += 1
                try:
                    images.append(_Image(path, _parse_name(path.name, subject, session), sidecars))
                except _Unusable as reason:
                    if suffix[1] in wanted:
                        left_out.append(Problem.from_error(one_line(path.name), reason, subject))
    return images, left_out, suffixes


def _anatomical_folders(folder):
    """List a participant's ``anat`` folders, each with its session or None."""
    if is_lost_folder(folder):
        return [(folder, None)]
    sessions = sorted(path for path in folder.glob("ses-*") if _is_folder(path))
    found = [(folder / "anat", None)]
    for path in sessions:
        found.append((path if is_lost_folder(path) else path / "anat", path.name.removeprefix("ses-")))
    return [(path, session) for path, session in found if _is_folder(path)]


def _is_folder(path):
    """Whether it is a folder, or a link that may have led to one: whoever opens that is told."""
    return path.is_dir() or is_lost_folder(path)


def _parse_name(name, subject, session):
    """Entities of a file name by their long names; the name must say what its folders say."""
    parsed = FILE_NAME.fullmatch(name)
    if not parsed:
        raise _Unusable("no BIDS name: labels have letters, digits and + only", "rename the file")
    pairs = [pair.split("-", 1) for pair in name.split("_")[:-1]]
    labels = dict(pairs)
    if len(labels) < len(pairs):
        raise _Unusable("no BIDS name: an entity is in it twice", "rename the file")
    if (labels.get("sub"), labels.get("ses")) != (subject, session):
        folder = one_line(f"sub-{subject}" + (f"/ses-{session}" if session else ""))
        raise _Unusable(f"its name does not say what its folder {folder} says", "rename or move the file")
    for index in INDICES:
        if not labels.get(index, "0").isdigit():
            raise _Unusable(f"no BIDS name: {index}-{labels[index]} is no whole number", "rename the file")
    if labels.get("part", "mag") not in PARTS:
        raise _Unusable(f"no BIDS name: part-{labels['part']} is none of {', '.join(PARTS)}", "rename the file")
    entities = {LONG_NAMES.get(key, key): label for key, label in labels.items()}
    return entities | {"suffix": parsed[1], "extension": parsed[2], "datatype": "anat"}


def _filters(session_label, bids_filter):
    """List the filters in the order in which they are applied, as (name, entity, value)."""
    queries = load_template("queries")
    unknown = set(bids_filter) - set(queries)
    if unknown:
        raise DatasetError(f"--bids-filter-file: no query {', '.join(unknown)}", f"it may have: {', '.join(queries)}")
    wanted = bids_filter.get("megre", {})
    if not isinstance(wanted, dict):
        raise DatasetError(f"--bids-filter-file: megre is {wanted!r}", 'write entities, as in {"acquisition": "x"}')
    sessions = [str(label).removeprefix("ses-") for label in session_label or ()]
    filters = [(f"--session-label {' '.join(sessions)}", "session", sessions)] if sessions else []
    for entity, value in wanted.items():
        filters.append((f"--bids-filter-file, {entity} {json.dumps(value)}", entity, value))
    return filters


def _matches(name, value, wanted):
    """Tell whether an entity has a value of a filter: one of a list, null for none, ``"*"`` for any."""
    if isinstance(wanted, list):
        return any(_matches(name, value, item) for item in wanted)
    if wanted is None or value is None:
        return wanted is value
    if wanted == "*":
        return True
    # Indices are padded as the dataset's owner likes: a filter's 2 is 02 as well.
    if name in INDICES and str(wanted).isdecimal():
        return int(value) == int(wanted)
    return value == wanted


def _select(root, subjects, filters):
    """Apply the filters one after another, so that the one that removes the last image can be named.

    Returns the images, and what was left out: participants without any, and images without a BIDS name.
    """
    query = load_template("queries")["megre"]
    suffixes = " or ".join(query["suffix"])
    present, misnamed, counts = _find_images(root, subjects)
    images = _matching(present, query)
    if not images and not misnamed:
        there = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(counts.items())) or "none"
        raise DatasetError(
            f"{root}: no image with suffix {suffixes} in an anat folder of {_listed(subjects)}",
            f"the suffixes there are: {there}",
        )
    left_out = misnamed + _without_images(subjects, images, f"no image with suffix {suffixes} in an anat folder")
    for name, entity, value in filters:
        if entity not in SCAN_ENTITIES and entity not in FILE_ENTITIES and not any(i.value(entity) for i in images):
            raise DatasetError(
                f"{name}: {entity!r} is not a recognized entity, nor a field of the sidecars",
                f"the entities are: {', '.join((*SCAN_ENTITIES, *FILE_ENTITIES))}",
            )
        query[entity] = value
        left = _matching(present, query)
        if not left:
            raise DatasetError(
                f"{name} removed all {len(images)} images that were left",
                f"the values of {entity} there are: {_values(images, entity)}",
            )
        left_out += _without_images({image.entities["subject"] for image in images}, left, f"removed by {name}")
        images = left
    return images, left_out


def _matching(images, query):
    return [image for image in images if all(_matches(name, image.value(name), value) for name, value in query.items())]


def _without_images(subjects, images, reason):
    having = {image.entities["subject"] for image in images}
    return [
        Problem(one_line(f"sub-{subject}"), "", reason, "", "note", subject)
        for subject in sorted(set(subjects) - having)
    ]


def _listed(subjects):
    """Name a few participants, or say how many they are."""
    few = len(subjects) <= NAMED_AT_MOST
    return ", ".join(one_line(f"sub-{subject}") for subject in subjects) if few else f"{len(subjects)} participants"


def _values(images, entity):
    """List an entity's values over images, each with its count."""
    found = [image.value(entity) for image in images]
    counts = Counter(f"(no {entity})" if value is None else one_line(str(value)) for value in found)
    return ", ".join(f"{value} ({count})" for value, count in sorted(counts.items(), key=str)) or "none"


def _assemble_all(images):
    """Sort images into scans by the entities that they share."""
    grouped, scans, left_out = defaultdict(list), [], []
    for image in images:
        entities = {name: label for name, label in image.entities.items() if name not in FILE_ENTITIES}
        grouped[tuple(sorted(entities.items()))].append(image)
    for key, members in grouped.items():
        try:
            scan, refused = _assemble(dict(key), members)
        except _Unusable as reason:
            entities = dict(key)
            left_out.append(Problem.from_error(scan_label(entities), reason, entities["subject"]))
        else:
            scans.append(scan)
            left_out += refused
    return scans, left_out


class _Unusable(DatasetError):
    """These files make no scan; others may."""


def _assemble(entities, images):
    """Put the images that share `entities` together as a scan.

    Returns the scan and what of the images was not taken, as (file name, reason).
    """
    strange = [name for name in entities if name not in SCAN_ENTITIES]
    if strange:
        raise _Unusable(
            f"{_names(images)}: a gradient-echo scan has no {', '.join(strange)} in BIDS", "rename the files"
        )
    images, refused = _one_suffix(images)
    suffix = images[0].entities["suffix"]
    parts, notes, without_part = _sort_by_part(images)
    refused += without_part
    parts, note = _choose_parts(parts)
    notes += note
    if suffix == "MEGRE" and any("_echo-" not in image.filename for image in _flat(parts)):
        raise _Unusable(
            f"{_names(_flat(parts))}: no echo in the name, as if all echoes were stacked in one 4-D file",
            "BIDS has one 3-D file for each echo: split it (fslsplit, mrconvert) and name the files echo-1, echo-2, …",
        )
    sidecars = {image.filename: image.metadata for image in _flat(parts)}
    times = _echo_times(parts, sidecars)
    known = None not in times.values()
    order = sorted(times, key=lambda echo: (times[echo], echo) if known else echo)
    phase_sidecars = [sidecars[image.filename] for image in parts.get("phase", {}).values()]
    manufacturer, units = _first(sidecars.values(), "Manufacturer"), _first(phase_sidecars, "Units")
    notes += [
        f"{field} is {one_line(repr(value))} in the sidecar, which is no text and not used"
        for field, value in (("Manufacturer", manufacturer), ("Units", units))
        if value is not None and not isinstance(value, str)
    ]
    scan = Scan(
        entities=entities,
        suffix=suffix,
        echo_times=tuple(times[echo] for echo in order),
        sidecars=sidecars,
        field_strength=as_number(_first(sidecars.values(), "MagneticFieldStrength")),
        imaging_frequency=as_number(_first(sidecars.values(), "ImagingFrequency")),
        manufacturer=_as_text(manufacturer),
        units=_as_text(units),
        notes=tuple(notes),
        **{part: tuple(of[echo].path for echo in order if echo in of) for part, of in parts.items()},
    )
    return scan, refused


def _names(images):
    return ", ".join(sorted(image.filename for image in images))


def _flat(parts):
    return [image for echoes in parts.values() for image in echoes.values()]


def _one_suffix(images):
    """Keep the multi-echo images of a scan that is there as ``T2starw`` too: derivatives would share names."""
    megre = [image for image in images if image.entities["suffix"] == "MEGRE"]
    if not megre:
        return images, []
    cause = "the same entities as a MEGRE scan, which is taken"
    remedy = "tell them apart with acq- to process both"
    others = [image for image in images if image.entities["suffix"] != "MEGRE"]
    return megre, [_not_taken(image, cause, remedy) for image in others]


def _sort_by_part(images):
    """Sort images into a dict of part to a dict of echo number to image."""
    parts, notes, refused = defaultdict(dict), [], []
    for image in sorted(images, key=lambda image: "part" not in image.entities):
        echo = echo_number(image.path)
        part = PARTS[image.entities.get("part", "mag")]
        if echo not in parts[part]:
            parts[part][echo] = image
            if "part" not in image.entities:
                notes.append(f"{image.filename}: no part in the name, taken as the magnitude")
        elif "part" not in image.entities:
            refused.append(_not_taken(image, f"no part in the name, and {parts[part][echo].filename} is there"))
        else:
            raise _Unusable(
                f"{parts[part][echo].filename} and {image.filename} are both the {part} of echo {echo}", "remove one"
            )
    return {part: parts[part] for part in PARTS.values() if part in parts}, notes, refused


def _not_taken(image, cause, remedy=""):
    return Problem(image.filename, "", cause, remedy, "note", image.entities["subject"])


def _choose_parts(parts):
    """Keep magnitude with phase, else real with imaginary."""
    for pair in (("magnitude", "phase"), ("real", "imaginary")):
        if all(part in parts for part in pair):
            spare = [part for part in parts if part not in pair]
            note = [f"{' and '.join(spare)} images not used: {' and '.join(pair)} are there"] if spare else []
            return {part: parts[part] for part in pair}, note
    raise _Unusable(
        f"only {' and '.join(parts)} images, where magnitude and phase, or real and imaginary, are needed "
        f"({_names(_flat(parts))})",
        "add part-phase files or convert the scan again with phase",
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
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's whole numbers have any length
        return None
    return number if math.isfinite(number) else None


def _as_text(value):
    return one_line(value) if isinstance(value, str) else None


def one_line(text):
    """Make a text of the dataset safe to print: one line, and nothing in it that steers a terminal.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The same text if all of its characters are printable; the others are replaced by their escapes.

    Examples
    --------
    >>> one_line("North\\nSouth")
    'North\\\\nSouth'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


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
        If one of them does not exist, if ``derivatives`` is a link to what is not here, or if a dataset's description
        is listed without its content, so that nobody knows whose it is.
    """
    # Nodes work in folders of their own: what is found there is named in full.
    if derivatives is None:
        require_content(Path(root, "derivatives").absolute())
        beside = sorted(path for path in Path(root, "derivatives").absolute().glob("*") if _is_folder(path))
        return [path for path in beside if is_there(path) and not is_multiqsm_dataset(path)]
    missing = [str(path) for path in derivatives if not (is_there(path) and Path(path).is_dir())]
    if missing:
        raise DatasetError(f"{', '.join(missing)}: no such folder of derivatives")
    return [Path(path).absolute() for path in derivatives]


def _not_installed(root):
    """Folders of derivatives that belong to datasets of their own, which datalad has not fetched."""
    modules = root / ".gitmodules"
    text = modules.read_text(encoding="utf-8", errors="replace") if modules.is_file() else ""
    names = re.findall(r"^\s*path\s*=\s*(derivatives/\S+)\s*$", text, re.MULTILINE)
    empty = [name for name in names if (root / name).is_dir() and not any((root / name).iterdir())]
    cause = "a dataset of its own that is not here"
    remedy = "if it holds masks or regions, fetch it with datalad get -n {}"
    return [Problem(one_line(name), "", cause, remedy.format(one_line(name)), "note") for name in empty]


def _find_brain_mask(scan, datasets):
    """Find the mask with the scan's entities; one made from another image, such as a T1w, is not the scan's."""
    if not datasets:
        return None, []
    names = [
        derivative_path("", scan.entities, suffix="mask", desc="brain", extension=extension)
        for extension in (".nii.gz", ".nii")
    ]
    candidates = [dataset / name for dataset in datasets for name in names]
    try:
        # One whose content is not here is the scan's as well: preflight tells that it cannot be read.
        found = [path for path in candidates if is_listed(path) or is_there(path)]
        foreign = [path for path in found if not is_of_gradient_echo(path)]
    except MissingContentError as error:
        raise _Unusable(error.cause, error.remedy, error.file) from error
    own = [path for path in found if path not in foreign]
    if len(own) > 1:
        raise DatasetError(
            f"{scan.label}: more than one brain mask ({', '.join(map(str, own))})",
            "say with --derivatives whose masks to use, or remove all but one",
        )
    reason = "its sidecar says that it was made from another image"
    subject = scan.entities["subject"]
    refused = [Problem(one_line(str(path)), "", reason, "", "note", subject) for path in foreign]
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

    Raises
    ------
    MissingContentError
        If the sidecar is listed without its content.
    """
    sidecar = sidecar_path(image)
    metadata = read_json(sidecar) if is_there(sidecar) else {}
    sources = metadata.get("Sources") or metadata.get("RawSources") or []
    sources = [source for source in (sources if isinstance(sources, list) else [sources]) if isinstance(source, str)]
    return not sources or any(re.search(r"_(MEGRE|T2starw)\.", source) for source in sources)


class _Tables:
    """The tables of a dataset's participants and sessions, each read once."""

    def __init__(self, root):
        self._root = root
        self._rows = {}

    def participant(self, scan):
        """Row of the scan's participant; empty if there is none."""
        return self._row(self._root / "participants.tsv", "participant_id", "sub", scan.entities["subject"])

    def session(self, scan):
        """Row of the scan's session, and the name of the table."""
        subject = f"sub-{scan.entities['subject']}"
        path = self._root / subject / f"{subject}_sessions.tsv"
        try:
            return self._row(path, "session_id", "ses", scan.entities["session"]), path.name
        except DatasetError as error:  # of one participant: the others' scans have tables of their own
            raise _Unusable(error.cause, error.remedy, error.file) from error

    def _row(self, path, key, entity, label):
        """Row of a table, with or without the entity's prefix in its key; several must not contradict each other."""
        if path not in self._rows:
            rows = defaultdict(list)
            for row in _read_table(path, key):
                rows[(row[key] or "").removeprefix(f"{entity}-")].append(row)
            self._rows[path] = rows
        rows = self._rows[path].get(label, [{}])
        told = {column: {row[column] for row in rows if _is_told(row.get(column))} for column in READ_COLUMNS}
        if wrong := [column for column, values in told.items() if len(values) > 1]:
            raise _Unusable(
                f"{path.name}: rows of {entity}-{label} contradict each other ({', '.join(wrong)})",
                "remove all but one",
            )
        return {**rows[0], **{column: values.pop() for column, values in told.items() if values}}

    def notes(self, scan):
        """What the scan's owner should know of its participant's row."""
        row, name = self.participant(scan), f"sub-{scan.entities['subject']}"
        if not row:
            return (f"{name} is not in participants.tsv",) if (self._root / "participants.tsv").exists() else ()
        notes = []
        if None in row.values():
            notes.append(
                f"the row of {name} in participants.tsv is shorter than the header: the rest is taken as missing"
            )
        if any(not value.isprintable() for value in row.values() if isinstance(value, str)):
            notes.append(f"the row of {name} in participants.tsv holds characters that cannot be printed")
        return tuple(notes)


def _read_table(path, key):
    if not is_there(path):
        return []
    if not path.is_file():
        raise DatasetError(f"{path}: no file", "remove it, or save the table there")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            table = csv.DictReader(lines, delimiter="\t", strict=True)
            names, rows = table.fieldnames or (), list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: {error}", "save the table as UTF-8 text with tabs between columns") from error
    if key not in names:
        raise DatasetError(f"{path}: has no column {key}", "save the table with its header and tabs between columns")
    return rows


def _find_site(scan, tables):
    """Return the scan's site and what told it."""
    session, rows = scan.entities.get("session"), [(tables.participant(scan), "participants.tsv")]
    if session is not None:
        rows.insert(0, tables.session(scan))
    for row, table in rows:
        for column in ("site", "scanner"):
            if _is_told(row.get(column)):
                return _site_name(row[column]), f"column {column} of {table}"
    return _site_of_sidecar(scan, session)


def _is_told(value):
    return value not in (None, "", "n/a")


def _site_of_sidecar(scan, session):
    """The institution with its scanner, since an institution may have two; else the session."""
    metadata = scan.metadata
    fields = ["InstitutionName", "StationName" if metadata.get("StationName") else "DeviceSerialNumber"]
    named = [key for key in fields if metadata.get(key)]
    if named:
        return _site_name(" ".join(str(metadata[key]) for key in named)), f"{' and '.join(named)} of the sidecar"
    if session is not None:
        return session, "the session label"
    return Scan.site, Scan.site_source


def _site_name(text):
    """A name of one line; of an endless one the start, with what tells it from others that start alike."""
    name = one_line(text)
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}… ({zlib.crc32(name.encode()):08x})"


def _is_phantom(scan, tables):
    return (tables.participant(scan).get("species") or "").strip().lower() == "phantom"
