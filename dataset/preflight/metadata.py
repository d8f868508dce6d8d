"""Check that the sidecars of one scan do not contradict each other."""

from ...core.phase.vendors import vendor
from ..entities import echo_number
from ..image_types import image_kinds
from ..problems import Problem
from ..scans import Scan
from ..values import as_number, one_line

SAME_IN_ALL_FILES = (
    "ManufacturersModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "RepetitionTime",
    "RepetitionTimeExcitation",
    "FlipAngle",
)


def check_sidecars(scan: Scan) -> list[Problem]:
    """Check that the sidecars of a scan's files agree with each other and with the files."""
    problems = []
    for path in scan.files:
        sidecar = scan.sidecars.get(path.name, {})
        if not sidecar:
            remedy = "add one: metadata of the other files is used for this one as well"
            problems.append(Problem.of(scan, path.name, "it has no sidecar", remedy, "warning"))
        number = as_number(sidecar.get("EchoNumber"))
        if number is not None and "_echo-" in path.name and number != echo_number(path):
            cause = f"EchoNumber is {number:g} in its sidecar, which contradicts the file name"
            remedy = "check whether echoes were exchanged"
            problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    remedy = "correct the wrong sidecar: the sign of the phase depends on the manufacturer"
    problems += _check_same_value(scan, "Manufacturer", "error", remedy)
    remedy = "check whether all files belong to one scan"
    for key in SAME_IN_ALL_FILES:
        problems += _check_same_value(scan, key, "warning", remedy)
    return problems + _check_kinds(scan)


def _check_same_value(scan, key, severity, remedy):
    first_of_value = {}
    for path in scan.files:
        value = scan.sidecars.get(path.name, {}).get(key)
        if value is not None:
            first_of_value.setdefault(_same_for_all(key, value), (one_line(repr(value)), path))
    if len(first_of_value) < 2:
        return []
    (first_value, first_path), (second_value, second_path), *_ = first_of_value.values()
    cause = f"{key} is {second_value}, but {first_path.name} has {first_value}"
    return [Problem.of(scan, second_path.name, cause, remedy, severity)]


def _same_for_all(key, value):
    """Return what a value has in common with other ways to write it."""
    if not isinstance(value, str):
        number = as_number(value)
        return one_line(repr(value)) if number is None else f"{number:.6g}"
    return vendor(value) if key == "Manufacturer" else " ".join(value.split()).casefold()


def name_decisions(scan: Scan) -> list[str]:
    """State which name of the manufacturer is used, if the sidecars of a scan write it in several
    ways.
    """
    names = []
    for path in scan.files:
        name = scan.sidecars.get(path.name, {}).get("Manufacturer")
        if isinstance(name, str) and one_line(name) not in names:
            names.append(one_line(name))
    if len(names) < 2 or len(set(map(vendor, names))) > 1:
        return []
    return [f"{' and '.join(map(repr, names))} are read as one manufacturer, {vendor(names[0])}"]


def _check_kinds(scan):
    """Check that no image has the sidecar of another part, as of a phase image."""
    problems = []
    for part, paths in scan.parts.items():
        for path in paths:
            sidecar = scan.sidecars.get(path.name, {})
            stated_kinds = image_kinds(sidecar.get("ImageType"))
            cause = ""
            if stated_kinds and part not in stated_kinds:
                image_type = one_line(str(sidecar["ImageType"]))
                cause = f"ImageType {image_type} is that of a {stated_kinds[0]} image"
            elif part == "magnitude" and sidecar.get("Units") == "rad":
                cause = "Units is 'rad', which is that of a phase image"
            if cause:
                names = " and ".join(scan.parts)
                remedy = f"check whether the {names} files were exchanged"
                problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems
