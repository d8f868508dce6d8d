"""Sidecars of one scan must not contradict each other."""

from ..entities import echo_number
from ..problems import Problem
from ..values import as_number, one_line

SAME_IN_ALL_FILES = (
    "ManufacturersModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "RepetitionTime",
    "RepetitionTimeExcitation",
    "FlipAngle",
)
KINDS = {"magnitude": "M", "phase": "P"}


def check_sidecars(scan):
    """What the sidecars of one scan's files say must agree, and fit the files."""
    problems = []
    for path in scan.files:
        sidecar = scan.sidecars.get(path.name, {})
        if not sidecar:
            remedy = "add it: what other files' sidecars say is taken for this one as well"
            problems.append(
                Problem.of(scan, path.name, "no sidecar belongs to it", remedy, "warning")
            )
        number = as_number(sidecar.get("EchoNumber"))
        if number is not None and "_echo-" in path.name and number != echo_number(path):
            cause = f"EchoNumber is {number:g} in its sidecar"
            problems.append(
                Problem.of(scan, path.name, cause, "see whether echoes were exchanged", "warning")
            )
    problems += _check_same_value(
        scan, "Manufacturer", "error", "correct it: the sign of the phase depends on it"
    )
    for key in SAME_IN_ALL_FILES:
        problems += _check_same_value(scan, key, "warning", "see whether the files are of one scan")
    return problems + _check_kinds(scan)


def _check_same_value(scan, key, severity, remedy):
    found = {}
    for path in scan.files:
        value = scan.sidecars.get(path.name, {}).get(key)
        if value is not None:
            found.setdefault(one_line(repr(value)), path)
    if len(found) < 2:
        return []
    (first, of_first), (other, of_other), *_ = found.items()
    cause = f"{key} is {other}, where {of_first.name} has {first}"
    return [Problem.of(scan, of_other.name, cause, remedy, severity)]


def _check_kinds(scan):
    """A magnitude's sidecar must not be a phase's, nor the other way round."""
    problems = []
    for part, other in (("magnitude", "phase"), ("phase", "magnitude")):
        for path in scan.parts.get(part, ()):
            sidecar = scan.sidecars.get(path.name, {})
            kinds = sidecar.get("ImageType")
            kinds = (
                {str(kind).upper()[:1] for kind in kinds[2:]} if isinstance(kinds, list) else set()
            )
            cause = ""
            if KINDS[other] in kinds and KINDS[part] not in kinds:
                cause = f"ImageType {one_line(str(sidecar['ImageType']))} is that of a {other}"
            elif part == "magnitude" and sidecar.get("Units") == "rad":
                cause = "Units is 'rad', which is that of a phase"
            if cause:
                remedy = "see whether the magnitude and phase files were exchanged"
                problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems
