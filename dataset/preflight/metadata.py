"""Check that the sidecars of one scan do not contradict each other."""

import re

from ...core.phase.vendors import vendor
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
# Words of DICOM's Image Type for the parts of a complex image.
KIND_WORDS = {
    "magnitude": ("M", "MAG", "MAGNITUDE"),
    "phase": ("P", "PHASE"),
    "real": ("R", "REAL"),
    "imaginary": ("I", "IMAG", "IMAGINARY"),
}


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


def image_kinds(image_type: object) -> list[str]:
    """Return the parts of a complex image that DICOM's Image Type names.

    Whole words count, and a letter before the name of a sequence, as in ``P_FFE``: PROTON_DENSITY,
    PRIMARY or MPR are no parts.

    Parameters
    ----------
    image_type : object
        The sidecar's ``ImageType``: a list, or a text with backslashes as in DICOM.

    Returns
    -------
    list of str
        Of ``magnitude``, ``phase``, ``real`` and ``imaginary``.

    Examples
    --------
    >>> image_kinds(["ORIGINAL", "PRIMARY", "P_FFE", "PROTON_DENSITY"])
    ['phase']
    """
    values = image_type.split("\\") if isinstance(image_type, str) else image_type
    kinds: list[str] = []
    for value in values if isinstance(values, list) else []:
        word = re.sub(r"\bPHASE[ _]MAP\b", "PHASE", str(value).strip().upper())
        letter_and_sequence = re.fullmatch(r"([MPRI])_(?:FFE|SE|IR|TSE|EPI|PCA|B0|B1)", word)
        if letter_and_sequence:
            word = letter_and_sequence[1]
        for kind, words in KIND_WORDS.items():
            if word in words and kind not in kinds:
                kinds.append(kind)
    return kinds
