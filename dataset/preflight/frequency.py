"""Check field strength and imaging frequency: stated, plausible, and in agreement."""

import math

from ...core.phase.encoding import GYROMAGNETIC_RATIO
from ..problems import Problem
from ..scans import Scan
from ..values import as_number

HIGHEST_MHZ = 10_000
STRONGEST_TESLA = 30
CONTRADICTION = 0.2


def check_frequency(scan: Scan) -> list[Problem]:
    """Check that field strength or imaging frequency is stated and plausible, and that the two
    agree.
    """
    problems = _check_same_number(scan, "MagneticFieldStrength")
    problems += _check_same_number(scan, "ImagingFrequency")
    fault = _frequency_fault(scan.imaging_frequency, scan.field_strength)
    if fault is not None:
        problems.append(Problem.of(scan, scan.files[0].name, *fault))
    return problems


def _frequency_fault(frequency, field):
    """Return cause and remedy of an unusable frequency (MHz) or field strength (T), or None."""
    if frequency is None and field is None:
        cause = "neither MagneticFieldStrength nor ImagingFrequency is in its sidecar"
        remedy = (
            "add ImagingFrequency (MHz) or MagneticFieldStrength (T), without which ppm cannot be "
            "computed"
        )
        return cause, remedy
    if frequency is not None and not 0 < frequency < HIGHEST_MHZ:
        cause = f"ImagingFrequency is {frequency:g}, which is implausible in MHz (is it in Hz?)"
        return cause, "write it in MHz, such as 123.2"
    if field is not None and not 0 < field < STRONGEST_TESLA:
        cause = f"MagneticFieldStrength is {field:g}, which is implausible in tesla"
        return cause, "write it in tesla, such as 3"
    if frequency is not None and field is not None:
        expected = GYROMAGNETIC_RATIO * field
        if abs(frequency - expected) > CONTRADICTION * expected:
            cause = (
                f"ImagingFrequency is {frequency:g} MHz, but MagneticFieldStrength {field:g} T "
                f"gives {expected:.4g} MHz"
            )
            return cause, "correct whichever of the two is wrong"
    return None


def _check_same_number(scan, key):
    """Check that the files of a scan that state a value state the same number."""
    problems = []
    first_path = None
    first_value = None
    for path in scan.files:
        value = scan.sidecars.get(path.name, {}).get(key)
        if value is None:
            continue
        if as_number(value) is None:
            cause = f"{key} is {value!r}, which is not a number"
            problems.append(Problem.of(scan, path.name, cause, "write one number into the sidecar"))
        elif first_path is None:
            first_path = path
            first_value = value
        elif not math.isclose(value, first_value, rel_tol=1e-4):
            cause = f"{key} is {value}, but {first_path.name} has {first_value}"
            problems.append(Problem.of(scan, path.name, cause, "correct the sidecar that is wrong"))
    return problems
