"""Values: finite, varied, not cut off, and no copy of another image's."""

import math

import numpy as np

from ..entities import echo_number
from ..images import read_image
from ..problems import Problem
from .wording import comma_separated

PARTNER = {"magnitude": "phase", "phase": "magnitude", "real": "imaginary", "imaginary": "real"}
# at the very maximum; of unsaturated images it is one or a few
SATURATED_FRACTION, SATURATED_VOXELS = (
    1e-3,
    50,
)


def check_values(scan, summaries):
    """Images must hold finite values that differ; a magnitude must not be negative."""
    problems = []
    for part, paths in scan.parts.items():
        for path in paths:
            if path not in summaries:
                continue
            wrong = _value_fault(part, summaries[path])
            if wrong:
                problems.append(Problem.of(scan, path.name, *wrong))
            elif summaries[path].not_finite.size:
                problems.append(_not_finite_problem(scan, part, path, summaries))
    return problems


def _value_fault(part, summary):
    """Cause and remedy of values that carry nothing, or None."""
    if math.isnan(summary.minimum):
        return "not a single voxel is finite", "convert the scan again"
    if summary.minimum == summary.maximum:
        return f"every voxel is {summary.minimum + 0.0:g}", "convert the scan again"  # -0 + 0 is 0
    if part == "magnitude" and summary.minimum < -summary.maximum / 2:
        cause = f"values from {summary.minimum:g} to {summary.maximum:g}, which no magnitude has"
        return cause, "see whether the magnitude and phase files were exchanged"
    return None


def _not_finite_problem(scan, part, path, summaries):
    """Judge NaN and infinite voxels by the echo's other image: where that has signal, data are
    missing.
    """
    where = summaries[path].not_finite
    cause = f"{where.size} voxels are NaN or infinite"
    partner = next(
        (p for p in scan.parts[PARTNER[part]] if echo_number(p) == echo_number(path)), None
    )
    if partner not in summaries or summaries[partner].shape != summaries[path].shape:
        return Problem.of(scan, path.name, cause, "convert the scan again")
    values = read_image(partner)[2].ravel()[where]
    inside = np.count_nonzero(np.isfinite(values) & (values != 0))
    if inside:
        cause += f", {inside} of them where {partner.name} has signal: NaNs inside the brain"
        return Problem.of(
            scan,
            path.name,
            cause,
            "convert the scan again, or set the voxels outside the brain to 0",
        )
    remedy = "nothing needs doing if that is the background"
    return Problem.of(scan, path.name, f"{cause}, all without signal", remedy, "warning")


def check_identical(scan, summaries):
    """No two images of a scan have the same values."""
    problems = []
    seen = {}
    for path, summary in summaries.items():
        if not summary.minimum < summary.maximum:
            continue  # a constant image has a problem of its own
        first = seen.setdefault(
            (summary.shape, summary.minimum, summary.maximum, summary.checksum), path
        )
        if first is not path:
            cause = f"its values are those of {first.name}"
            problems.append(
                Problem.of(scan, path.name, cause, "copy or convert the right image to this name")
            )
    return problems


def saturated_fraction(summary):
    """Fraction of an image's non-zero voxels that have its maximum."""
    return summary.n_at_maximum / summary.n_nonzero if summary.n_nonzero else 0.0


def check_saturation(scan, summaries):
    """A magnitude that was cut off at its maximum has many voxels there."""
    cut = [
        path
        for path in scan.magnitude
        if path in summaries
        and summaries[path].minimum < summaries[path].maximum
        and not summaries[path].is_binary
        and summaries[path].n_at_maximum >= SATURATED_VOXELS
        and saturated_fraction(summaries[path]) > SATURATED_FRACTION
    ]
    if not cut:
        return []
    worst = max((summaries[path] for path in cut), key=saturated_fraction)
    cause = (
        f"{worst.n_at_maximum} voxels ({100 * saturated_fraction(worst):.2g} %) have the maximum "
        f"{worst.maximum:g}, as if brighter ones had been cut off"
    )
    remedy = "scan with less gain, or convert the scan again: R2* and the weights are wrong there"
    return [Problem.of(scan, comma_separated(path.name for path in cut), cause, remedy, "warning")]
