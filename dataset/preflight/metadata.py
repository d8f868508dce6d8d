"""Check that the sidecars of one scan do not contradict each other."""

from ..entities import echo_number
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
KINDS = {"magnitude": "M", "phase": "P"}


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
    path_of_value = {}
    for path in scan.files:
        value = scan.sidecars.get(path.name, {}).get(key)
        if value is not None:
            path_of_value.setdefault(one_line(repr(value)), path)
    if len(path_of_value) < 2:
        return []
    (first_value, first_path), (second_value, second_path), *_ = path_of_value.items()
    cause = f"{key} is {second_value}, but {first_path.name} has {first_value}"
    return [Problem.of(scan, second_path.name, cause, remedy, severity)]


def _check_kinds(scan):
    """Check that no magnitude has the sidecar of a phase image, nor the other way round."""
    problems = []
    for part, opposite in (("magnitude", "phase"), ("phase", "magnitude")):
        for path in scan.parts.get(part, ()):
            sidecar = scan.sidecars.get(path.name, {})
            letters = _image_type_letters(sidecar.get("ImageType"))
            cause = ""
            if KINDS[opposite] in letters and KINDS[part] not in letters:
                image_type = one_line(str(sidecar["ImageType"]))
                cause = f"ImageType {image_type} is that of a {opposite} image"
            elif part == "magnitude" and sidecar.get("Units") == "rad":
                cause = "Units is 'rad', which is that of a phase image"
            if cause:
                remedy = "check whether the magnitude and phase files were exchanged"
                problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems


def _image_type_letters(image_type):
    """Return the first letters of DICOM's Image Type from its third value on, such as M or P."""
    letters = set()
    if isinstance(image_type, list):
        for value in image_type[2:]:
            letters.add(str(value).upper()[:1])
    return letters
