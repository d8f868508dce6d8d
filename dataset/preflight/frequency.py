"""Field strength and imaging frequency: known, plausible, and in agreement."""

import math

from ...core.phase.encoding import GYROMAGNETIC_RATIO
from ..problems import Problem
from ..values import as_number

HIGHEST_MHZ = 10_000
STRONGEST_TESLA = 30
CONTRADICTION = 0.2


def check_frequency(scan):
    """The field strength or the imaging frequency must be known, plausible, and the two agree."""
    problems = [
        problem
        for key in ("MagneticFieldStrength", "ImagingFrequency")
        for problem in _check_same_number(scan, key)
    ]
    field = scan.field_strength
    frequency = scan.imaging_frequency
    file = scan.files[0].name
    if frequency is None and field is None:
        cause = "neither MagneticFieldStrength nor ImagingFrequency is in its sidecar"
        remedy = (
            "add ImagingFrequency (MHz) or MagneticFieldStrength (T): ppm cannot be computed "
            "without"
        )
        return [*problems, Problem.of(scan, file, cause, remedy)]
    if frequency is not None and not 0 < frequency < HIGHEST_MHZ:
        cause = f"ImagingFrequency is {frequency:g}, which no scanner has in MHz (is it in Hz?)"
        return [*problems, Problem.of(scan, file, cause, "write it in MHz, such as 123.2")]
    if field is not None and not 0 < field < STRONGEST_TESLA:
        cause = f"MagneticFieldStrength is {field:g}, which no scanner has in tesla"
        return [*problems, Problem.of(scan, file, cause, "write it in tesla, such as 3")]
    if frequency is not None and field is not None:
        expected = GYROMAGNETIC_RATIO * field
        if abs(frequency - expected) > CONTRADICTION * expected:
            cause = (
                f"ImagingFrequency is {frequency:g} MHz, but MagneticFieldStrength {field:g} T "
                f"gives {expected:.4g} MHz"
            )
            return [*problems, Problem.of(scan, file, cause, "correct the field that is wrong")]
    return problems


def _check_same_number(scan, key):
    """Where the files of a scan state a field, they must state the same number."""
    problems = []
    first = None
    for path in scan.files:
        value = scan.sidecars.get(path.name, {}).get(key)
        if value is None:
            continue
        if as_number(value) is None:
            cause = f"{key} is {value!r}, which is not a number"
            problems.append(Problem.of(scan, path.name, cause, "write one number into the sidecar"))
        elif first is None:
            first = path, value
        elif not math.isclose(value, first[1], rel_tol=1e-4):
            cause = f"{key} is {value}, where {first[0].name} has {first[1]}"
            problems.append(Problem.of(scan, path.name, cause, "correct the sidecar that is wrong"))
    return problems
