"""Images put together as scans by the entities that they share."""

from collections import defaultdict
from collections.abc import Iterable

from .entities import FILE_ENTITIES, PARTS, SCAN_ENTITIES, echo_number, scan_label
from .index import RawImage
from .problems import Problem, UnusableScanError
from .scans import Scan
from .values import as_number, as_text, one_line


def assemble_scans(images: Iterable[RawImage]) -> tuple[list[Scan], list[Problem]]:
    """Sort images into scans by the entities that they share."""
    grouped = defaultdict(list)
    scans = []
    left_out = []
    for image in images:
        entities = {
            name: label for name, label in image.entities.items() if name not in FILE_ENTITIES
        }
        grouped[tuple(sorted(entities.items()))].append(image)
    for key, members in grouped.items():
        try:
            scan, refused = _assemble(dict(key), members)
        except UnusableScanError as reason:
            entities = dict(key)
            left_out.append(Problem.from_error(scan_label(entities), reason, entities["subject"]))
        else:
            scans.append(scan)
            left_out += refused
    return scans, left_out


def _assemble(entities, images):
    """Put the images that share `entities` together as a scan.

    Returns the scan and what of the images was not taken, as (file name, reason).
    """
    strange = [name for name in entities if name not in SCAN_ENTITIES]
    if strange:
        raise UnusableScanError(
            f"{_names(images)}: a gradient-echo scan has no {', '.join(strange)} in BIDS",
            "rename the files",
        )
    images, refused = _one_suffix(images)
    suffix = images[0].entities["suffix"]
    parts, notes, without_part = _sort_by_part(images)
    refused += without_part
    parts, note = _choose_parts(parts)
    notes += note
    if suffix == "MEGRE" and any("_echo-" not in image.filename for image in _flat(parts)):
        raise UnusableScanError(
            f"{_names(_flat(parts))}: no echo in the name, as if all echoes were stacked in one "
            "4-D file",
            "BIDS has one 3-D file for each echo: split it (fslsplit, mrconvert) and name the "
            "files echo-1, echo-2, …",
        )
    sidecars = {image.filename: image.metadata for image in _flat(parts)}
    times = _echo_times(parts, sidecars)
    known = None not in times.values()
    order = sorted(times, key=lambda echo: (times[echo], echo) if known else echo)
    phase_sidecars = [sidecars[image.filename] for image in parts.get("phase", {}).values()]
    manufacturer = _first(sidecars.values(), "Manufacturer")
    units = _first(phase_sidecars, "Units")
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
        manufacturer=as_text(manufacturer),
        units=as_text(units),
        notes=tuple(notes),
        **{
            part: tuple(of[echo].path for echo in order if echo in of) for part, of in parts.items()
        },
    )
    return scan, refused


def _names(images):
    return ", ".join(sorted(image.filename for image in images))


def _flat(parts):
    return [image for echoes in parts.values() for image in echoes.values()]


def _one_suffix(images):
    """Keep the multi-echo images of a scan that is there as ``T2starw`` too: derivatives would
    share names.
    """
    megre = [image for image in images if image.entities["suffix"] == "MEGRE"]
    if not megre:
        return images, []
    cause = "the same entities as a MEGRE scan, which is taken"
    remedy = "tell them apart with acq- to process both"
    others = [image for image in images if image.entities["suffix"] != "MEGRE"]
    return megre, [_not_taken(image, cause, remedy) for image in others]


def _sort_by_part(images):
    """Sort images into a dict of part to a dict of echo number to image."""
    parts = defaultdict(dict)
    notes = []
    refused = []
    for image in sorted(images, key=lambda image: "part" not in image.entities):
        echo = echo_number(image.path)
        part = PARTS[image.entities.get("part", "mag")]
        if echo not in parts[part]:
            parts[part][echo] = image
            if "part" not in image.entities:
                notes.append(f"{image.filename}: no part in the name, taken as the magnitude")
        elif "part" not in image.entities:
            refused.append(
                _not_taken(image, f"no part in the name, and {parts[part][echo].filename} is there")
            )
        else:
            raise UnusableScanError(
                f"{parts[part][echo].filename} and {image.filename} are both the {part} of echo "
                f"{echo}",
                "remove one",
            )
    return {part: parts[part] for part in PARTS.values() if part in parts}, notes, refused


def _not_taken(image, cause, remedy=""):
    return Problem(image.filename, "", cause, remedy, "note", image.entities["subject"])


def _choose_parts(parts):
    """Keep magnitude with phase, else real with imaginary."""
    for pair in (("magnitude", "phase"), ("real", "imaginary")):
        if all(part in parts for part in pair):
            spare = [part for part in parts if part not in pair]
            note = (
                [f"{' and '.join(spare)} images not used: {' and '.join(pair)} are there"]
                if spare
                else []
            )
            return {part: parts[part] for part in pair}, note
    raise UnusableScanError(
        f"only {' and '.join(parts)} images, where magnitude and phase, or real and imaginary, are "
        "needed "
        f"({_names(_flat(parts))})",
        "add part-phase files or convert the scan again with phase",
    )


def _echo_times(parts, sidecars):
    """Map each echo number to its echo time, from the first part whose sidecar has one."""
    numbers = sorted({echo for echoes in parts.values() for echo in echoes})
    return {
        echo: as_number(
            _first([sidecars[of[echo].filename] for of in parts.values() if echo in of], "EchoTime")
        )
        for echo in numbers
    }


def _first(sidecars, key):
    """First value of a field over sidecars."""
    return next((sidecar[key] for sidecar in sidecars if sidecar.get(key) is not None), None)
