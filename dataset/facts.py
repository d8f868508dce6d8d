"""What a scan's images and sidecars tell, as the audit's table has it."""

from typing import Any

import numpy as np

from ..core.dipole import b0_direction
from ..core.phase.encoding import default_sign
from .preflight.inspection import Inspection
from .preflight.readout import BIPOLAR_OFFSET, BIPOLAR_RAMP
from .values import as_number, one_line

MISSING = "n/a"
REAL_AND_IMAGINARY = "real and imaginary parts"


def scan_facts(inspection: Inspection, phase_sign: int = 0) -> dict[str, Any]:
    """Row of a scan, without what others have to do with it."""
    scan = inspection.scan
    metadata = inspection.scan.metadata
    frequency, source = scan.centre_frequency
    sign, reason = default_sign(scan.manufacturer)
    if phase_sign:
        sign = phase_sign
        reason = f"{phase_sign:+d}: given by the user"
    alternation = _alternation_facts(inspection.alternation)
    b0_dir = None if inspection.scanner is None else b0_direction(inspection.scanner.affine)
    repetition = as_number(metadata.get("RepetitionTimeExcitation")) or as_number(
        metadata.get("RepetitionTime")
    )
    return {
        "scan": scan.label,
        **{name: scan.entities.get(name) for name in ("subject", "session", "run")},
        "site": scan.site,
        "site_source": scan.site_source,
        "is_phantom": scan.is_phantom,
        "suffix": scan.suffix,
        "n_echoes": len(scan.echo_times),
        "echo_times": ", ".join(
            MISSING if te is None else f"{1000 * te:.4g}" for te in scan.echo_times
        ),
        "repetition_time": repetition,
        "flip_angle": as_number(metadata.get("FlipAngle")),
        "field_strength": scan.field_strength,
        "centre_frequency": frequency,
        "centre_frequency_source": source,
        "manufacturer": scan.manufacturer,
        "model": _text(metadata.get("ManufacturersModelName")),
        "software": _text(metadata.get("SoftwareVersions")),
        "phase_units": scan.units,
        "phase_range": inspection.phase_range
        and "{:.6g} to {:.6g}".format(*inspection.phase_range),
        "phase_encoding": REAL_AND_IMAGINARY if scan.real else inspection.phase_encoding,
        "phase_sign": sign,
        "phase_sign_source": reason,
        "sign_asymmetry": None
        if inspection.sign_asymmetry is None
        else round(inspection.sign_asymmetry, 3),
        "b0_dir": None if b0_dir is None else ", ".join(f"{part:.4f}" for part in b0_dir),
        "b0_angle": None
        if b0_dir is None
        else float(np.degrees(np.arccos(min(1, abs(b0_dir[2])))).round(2)),
        "b0_source": inspection.scanner and str(inspection.scanner),
        "matrix": inspection.matrix and "×".join(map(str, inspection.matrix)),
        "voxel_size": inspection.voxel_size
        and "×".join(f"{size:.3g}" for size in inspection.voxel_size),
        "saturated": inspection.saturated,
        **alternation,
        "mask": "auto" if scan.brain_mask is None else "user",
    }


def _text(value):
    return None if value is None else one_line(str(value))


def _alternation_facts(alternation):
    """Return by how much even echoes depart from odd ones, and whether that is much."""
    if alternation is None:
        return dict.fromkeys(("echo_offset", "echo_ramp", "is_bipolar"))
    ramp = max(alternation.ramp, key=abs)
    return {
        "echo_offset": round(alternation.offset, 4),
        "echo_ramp": round(ramp, 4),
        "is_bipolar": abs(alternation.offset) >= BIPOLAR_OFFSET or abs(ramp) >= BIPOLAR_RAMP,
    }
