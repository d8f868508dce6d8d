"""Group images into scans by the entities that they share."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import chain

from .entities import (
    COIL_ENTITIES,
    COMPLEX_PAIRS,
    FILE_ENTITIES,
    PARTS,
    SCAN_ENTITIES,
    echo_number,
    scan_label,
)
from .incomplete import COMBINE, IncompleteScan, IncompleteScanError, judge_incomplete
from .index import RawImage
from .problems import Problem, UnusableScanError
from .scans import Scan
from .sidecars import without_placeholders
from .stacks import EchoImage, split_stacks
from .values import as_number, as_text, counted, one_line


def assemble_scans(images: Iterable[RawImage]) -> tuple[list[Scan], list[Problem]]:
    """Group images into scans by the entities that they share.

    Parameters
    ----------
    images : iterable of multiqsm.dataset.index.RawImage
        Images of any number of scans.

    Returns
    -------
    scans : list of multiqsm.dataset.scans.Scan
    left_out : list of multiqsm.dataset.problems.Problem
        What is wrong with each group of images that makes no scan, or why it is not needed; and a
        note for each image that its scan does not use.
    """
    grouped = defaultdict(list)
    scans = []
    incomplete = []
    left_out = []
    for image in images:
        grouped[_scan_key(image)].append(image)
    for key, members in grouped.items():
        entities = dict(key)
        try:
            scan, unused = _assemble(entities, members)
        except IncompleteScanError as error:
            for images in _by_suffix(members).values():
                incomplete.append(IncompleteScan(entities, tuple(images), error))
        except UnusableScanError as error:
            left_out.append(Problem.from_error(scan_label(entities), error, entities["subject"]))
        else:
            scans.append(scan)
            left_out += unused
    return scans, left_out + judge_incomplete(incomplete, scans)


def _scan_key(image):
    """Return an image's entities as sorted pairs, without those that differ between the files of a
    scan.
    """
    entities = dict(image.entities)
    for name in (*FILE_ENTITIES, *COIL_ENTITIES):
        entities.pop(name, None)
    return tuple(sorted(entities.items()))


def _assemble(entities, images):
    """Combine the images that share `entities` into a scan.

    Returns the scan, and a note for each image that it does not use.
    """
    images, unused_coils = _choose_combined(images, entities)
    if invalid := sorted(entities.keys() - SCAN_ENTITIES.keys()):
        raise UnusableScanError(
            f"{_names(images)}: BIDS does not allow {', '.join(invalid)} for a gradient-echo scan",
            "rename the files",
        )
    images, unused = _choose_suffix(images)
    unused += unused_coils
    suffix = images[0].entities["suffix"]
    images, decisions = split_stacks(images)
    parts, notes, duplicates = _sort_by_part(images)
    unused += duplicates
    parts, part_notes = _choose_parts(parts)
    notes += part_notes
    images = _flat(parts)
    if suffix == "MEGRE":
        _require_echo_entity(images)
    decisions += _leave_out_placeholders(images)
    sidecars = {image.filename: image.metadata for image in images}
    times = _echo_times(parts)
    if None in times.values():
        order = sorted(times)
    else:
        order = sorted(times, key=lambda echo: (times[echo], echo))
    manufacturer = _first(images, "Manufacturer")
    units = _first(parts.get("phase", {}).values(), "Units")
    for field, value in (("Manufacturer", manufacturer), ("Units", units)):
        if not isinstance(value, str | None):
            notes.append(f"{field} is {one_line(repr(value))} in the sidecar: not a text, not used")
    paths = {}
    for part, echoes in parts.items():
        paths[part] = tuple(echoes[echo].path for echo in order if echo in echoes)
    scan = Scan(
        entities=entities,
        suffix=suffix,
        echo_times=tuple(map(times.get, order)),
        sidecars=sidecars,
        field_strength=as_number(_first(images, "MagneticFieldStrength")),
        imaging_frequency=as_number(_first(images, "ImagingFrequency")),
        manufacturer=as_text(manufacturer),
        units=as_text(units),
        notes=tuple(notes),
        decisions=tuple(decisions),
        **paths,
    )
    return scan, unused


def _leave_out_placeholders(images):
    """Remove fields whose value is not known from the images' metadata; return the decisions."""
    counts = defaultdict(int)
    for image in images:
        image.metadata, left_out = without_placeholders(image.metadata)
        for field in left_out:
            counts[field] += 1
    decisions = []
    for field, count in counts.items():
        decisions.append(f"{field} counts as missing ({counted(count, 'file')} of {len(images)})")
    return decisions


def _names(images):
    return ", ".join(sorted(image.filename for image in images))


def _flat(parts):
    """Return the images of all parts in one list."""
    images = []
    for echoes in parts.values():
        images += echoes.values()
    return images


def _require_echo_entity(images):
    for image in images:
        if "_echo-" in image.filename or isinstance(image, EchoImage):
            continue
        raise UnusableScanError(
            f"{_names(images)}: no echo in the name; all echoes may be stacked in one 4-D file",
            "list the echo times of its volumes as EchoTime in the sidecar, or split the file "
            "(fslsplit, mrconvert) and name the files echo-1, echo-2, …",
        )


def _choose_combined(images, entities):
    """Leave out the images of single coils if the scan also has combined ones."""
    combined = []
    coils = defaultdict(list)
    for image in images:
        names = [name for name in COIL_ENTITIES if name in image.entities]
        label = "_".join(f"{name}-{image.entities[name]}" for name in names)
        (coils[label] if names else combined).append(image)
    if not coils:
        return images, []
    n_images = sum(map(len, coils.values()))
    if _is_complete(combined):
        cause = f"{counted(n_images, 'image')} of single coils not used: there are combined images"
        return combined, [Problem(scan_label(entities), "", cause, "", "note", entities["subject"])]
    cause = f"{counted(n_images, 'image')} of single coils ({_first_and_last(coils)})"
    parts = {PARTS[image.entities.get("part", "mag")] for image in combined}
    if parts:
        cause += f" with one combined {' and '.join(sorted(parts))}"
    raise UnusableScanError(
        f"{cause}: the coils are not combined",
        f"{COMBINE}, and name magnitude and phase without coil",
    )


def _first_and_last(labels):
    first, *_ = sorted(labels)
    *_, last = sorted(labels)
    return first if first == last else f"{first} … {last}"


def _by_suffix(images):
    """Sort images into a dict of suffix to images, those of MEGRE first."""
    by_suffix = defaultdict(list)
    for image in sorted(images, key=lambda image: image.entities["suffix"] != "MEGRE"):
        by_suffix[image.entities["suffix"]].append(image)
    return by_suffix


def _choose_suffix(images):
    """Choose the images of one suffix if a scan exists under two, since names of derivatives do
    not have the suffix and would collide: the complete scan, or else ``MEGRE``.
    """
    by_suffix = _by_suffix(images)
    complete = [suffix for suffix, members in by_suffix.items() if _is_complete(members)]
    suffix = next(iter([*complete, *by_suffix]))
    chosen = by_suffix.pop(suffix)
    unused = []
    for image in chain.from_iterable(by_suffix.values()):
        cause = f"not used: a {suffix} scan has the same entities"
        unused.append(_unused(image, cause, "to process both, give them different acq- labels"))
    return chosen, unused


def _is_complete(images):
    parts = {PARTS[image.entities.get("part", "mag")] for image in images}
    return any(parts.issuperset(pair) for pair in COMPLEX_PAIRS)


def _sort_by_part(images):
    """Sort images into a dict of part to a dict of echo number to image."""
    parts = defaultdict(dict)
    notes = []
    unused = []
    for image in sorted(images, key=lambda image: "part" not in image.entities):
        echo = echo_number(image.path)
        part = PARTS[image.entities.get("part", "mag")]
        if echo not in parts[part]:
            parts[part][echo] = image
            if "part" not in image.entities:
                notes.append(f"{image.filename}: no part in the name, used as the magnitude")
        elif "part" not in image.entities:
            cause = f"not used: its name has no part, and {parts[part][echo].filename} exists"
            unused.append(_unused(image, cause))
        else:
            raise UnusableScanError(
                f"{parts[part][echo].filename} and {image.filename} are both the {part} of echo "
                f"{echo}",
                "remove one",
            )
    return {part: parts[part] for part in PARTS.values() if part in parts}, notes, unused


def _unused(image, cause, remedy=""):
    return Problem(image.filename, "", cause, remedy, "note", image.entities["subject"])


def _choose_parts(parts):
    """Choose magnitude with phase, else real with imaginary; return them and notes on the rest."""
    for first, second in COMPLEX_PAIRS:
        if first in parts and second in parts:
            unused = dict(parts)
            chosen = {first: unused.pop(first), second: unused.pop(second)}
            notes = []
            if unused:
                notes.append(
                    f"{' and '.join(unused)} images not used: there are {first} and {second}"
                )
            return chosen, notes
    raise IncompleteScanError(
        f"only {' and '.join(parts)} images ({_names(_flat(parts))}), but magnitude and phase, or "
        "real and imaginary, are needed",
        "add part-phase files or convert the scan again with phase",
    )


def _echo_times(parts):
    """Map each echo number to its echo time, from the first part whose sidecar has one."""
    images_of_echo = defaultdict(list)
    for echoes in parts.values():
        for echo, image in echoes.items():
            images_of_echo[echo].append(image)
    times = {}
    for echo in sorted(images_of_echo):
        times[echo] = as_number(_first(images_of_echo[echo], "EchoTime"))
    return times


def _first(images, field):
    """Return the first value of a field in the images' sidecars; None if none has it."""
    for image in images:
        if image.metadata.get(field) is not None:
            return image.metadata[field]
    return None
