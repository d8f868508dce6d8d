"""Facts about a scan from its images and sidecars: a row of the audit's table."""

from typing import Any

import numpy as np

from ..core.dipole import b0_direction
from ..core.phase.encoding import default_sign
from .preflight.inspection import Inspection
from .preflight.readout import looks_bipolar
from .values import as_number, join_numbers, one_line

MISSING = "n/a"
REAL_AND_IMAGINARY = "real and imaginary parts"


def scan_facts(inspection: Inspection, phase_sign: int = 0) -> dict[str, Any]:
    """Return the row of a scan, without the columns that compare it with other scans.

    Parameters
    ----------
    inspection : multiqsm.dataset.preflight.inspection.Inspection
        Of the scan.
    phase_sign : {0, 1, -1}
        Phase sign chosen by the user; 0 for the manufacturer's convention.

    Returns
    -------
    dict
        By columns of `multiqsm.dataset.audit.audit_table`; None for what is not available.
    """
    scan = inspection.scan
    metadata = inspection.scan.metadata
    frequency, frequency_source = scan.centre_frequency
    sign, sign_source = default_sign(scan.manufacturer)
    if phase_sign:
        sign = phase_sign
        sign_source = f"{phase_sign:+d}: given by the user"
    repetition_time = as_number(metadata.get("RepetitionTimeExcitation")) or as_number(
        metadata.get("RepetitionTime")
    )
    phase_range = inspection.phase_range
    asymmetry = inspection.sign_asymmetry
    matrix = inspection.matrix
    voxel_size = inspection.voxel_size
    return {
        "scan": scan.label,
        "subject": scan.entities.get("subject"),
        "session": scan.entities.get("session"),
        "run": scan.entities.get("run"),
        "site": scan.site,
        "site_source": scan.site_source,
        "is_phantom": scan.is_phantom,
        "suffix": scan.suffix,
        "n_echoes": len(scan.echo_times),
        "echo_times": ", ".join(map(_milliseconds, scan.echo_times)),
        "echo_time_range": _range(scan.echo_times),
        "repetition_time": repetition_time,
        "flip_angle": as_number(metadata.get("FlipAngle")),
        "field_strength": scan.field_strength,
        "centre_frequency": frequency,
        "centre_frequency_source": frequency_source,
        "manufacturer": scan.manufacturer,
        "model": _text(metadata.get("ManufacturersModelName")),
        "software": _text(metadata.get("SoftwareVersions")),
        "phase_units": scan.units,
        "phase_range": phase_range and "{:.6g} to {:.6g}".format(*phase_range),
        "phase_encoding": REAL_AND_IMAGINARY if scan.real else inspection.phase_encoding,
        "phase_sign": sign,
        "phase_sign_source": sign_source,
        "sign_asymmetry": None if asymmetry is None else round(asymmetry, 3),
        **_b0_facts(inspection.scanner),
        "matrix": matrix and "×".join(map(str, matrix)),
        "voxel_size": voxel_size and join_numbers(voxel_size, ".3g", "×"),
        "saturated": inspection.saturated,
        **_alternation_facts(inspection.alternation),
        "mask": "auto" if scan.brain_mask is None else "user",
        "decisions": "; ".join(scan.decisions) or None,
    }


def _milliseconds(echo_time):
    return MISSING if echo_time is None else f"{1000 * echo_time:.4g}"


def _range(echo_times):
    """Return the first and the last echo time in ms, or the only one; None if there is none."""
    ends = dict.fromkeys((*echo_times[:1], *echo_times[-1:]))
    return "…".join(map(_milliseconds, ends)) or None


def _text(value):
    return None if value is None else one_line(str(value))


def _b0_facts(scanner_form):
    """Return the direction of B0, its angle with the third voxel axis, and where it was read."""
    if scanner_form is None:
        return dict.fromkeys(("b0_dir", "b0_angle", "b0_source"))
    direction = b0_direction(scanner_form.affine)
    # Rounding may make the third component of a unit vector larger than 1.
    angle = np.degrees(np.arccos(min(1, abs(direction[2]))))
    return {
        "b0_dir": join_numbers(direction, ".4f"),
        "b0_angle": float(angle.round(2)),
        "b0_source": str(scanner_form),
    }


def _alternation_facts(alternation):
    """Return by how much even echoes differ from odd ones, and whether the readout looks
    bipolar.
    """
    if alternation is None:
        return dict.fromkeys(("echo_offset", "echo_ramp", "is_bipolar"))
    ramp = max(alternation.ramp, key=abs)
    return {
        "echo_offset": round(alternation.offset, 4),
        "echo_ramp": round(ramp, 4),
        "is_bipolar": looks_bipolar(alternation),
    }
