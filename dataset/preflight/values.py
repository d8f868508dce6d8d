"""Check voxel values: finite, varied, not clipped, and not a copy of another image's."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...core.phase.unmeasured import reaching_the_edge
from ..entities import echo_number
from ..images import ImageSummary, read_image
from ..problems import Problem
from ..scans import Scan
from ..values import counted
from .echoes import path_of_echo
from .wording import comma_separated_names, of_files

PARTNER = {"magnitude": "phase", "phase": "magnitude", "real": "imaginary", "imaginary": "real"}
# Voxels at the very maximum of a clipped image; without clipping it is one or a few.
SATURATED_FRACTION = 1e-3
SATURATED_VOXELS = 50
# Voxels above this fraction of the strongest magnitudes have signal; air has less, unless the
# signal-to-noise ratio is below 10.
SIGNAL = 0.3
STRONG_PERCENTILE = 95
SMALLEST_BACKGROUND = 0.1  # of the voxels, that a mask leaves out


def check_values(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[Problem]:
    """Check that images have finite values that vary, and that a magnitude is not negative."""
    problems = []
    paths_of_fault: dict[tuple[str, str, str], list[Path]] = {}
    for part, paths in scan.parts.items():
        for path in paths:
            if path not in summaries:
                continue
            if fault := _value_fault(part, summaries[path]):
                problems.append(Problem.of(scan, path.name, *fault))
            elif summaries[path].not_finite.size:
                fault_of_voxels = _not_finite_fault(scan, part, path, summaries)
                paths_of_fault.setdefault(fault_of_voxels, []).append(path)
    for (cause, remedy, severity), files in paths_of_fault.items():
        problems.append(of_files(scan, files, cause, remedy, severity))
    return problems


def _value_fault(part, summary):
    """Return cause and remedy of values without information, or None."""
    if math.isnan(summary.minimum):
        return "no voxel is finite", "convert the scan again"
    if summary.minimum == summary.maximum:
        return f"every voxel is {summary.minimum + 0.0:g}", "convert the scan again"  # -0 + 0 is 0
    if part == "magnitude" and summary.minimum < -summary.maximum / 2:
        cause = (
            f"values from {summary.minimum:g} to {summary.maximum:g}, though a magnitude cannot be "
            "negative"
        )
        return cause, "check whether the magnitude and phase files were exchanged"
    return None


def _not_finite_fault(scan, part, path, summaries):
    """Return cause, remedy and severity of NaN and infinite voxels, by where they are.

    Outside the head they are background, and where the echo's other image has signal, data are
    missing.
    """
    where = summaries[path].not_finite
    cause = f"NaN or infinite in {counted(where.size, 'voxel')}"
    partner = path_of_echo(scan.parts[PARTNER[part]]).get(echo_number(path))
    if partner not in summaries or summaries[partner].shape != summaries[path].shape:
        return cause, "convert the scan again", "error"
    remedy = "no action is needed if that is the background"
    if _is_mask(scan, part, path, summaries):
        cause += ", the same in all echoes and around the rest: a background that was masked"
        return cause, remedy, "warning"
    inside = _number_with_signal(scan, where, partner, summaries)
    if inside:
        cause += f", {inside} of them where {partner.name} has signal, thus inside the brain"
        remedy = "convert the scan again, or set these voxels to 0 if they are outside the brain"
        return cause, remedy, "error"
    return f"{cause}, all without signal", remedy, "warning"


def _is_mask(scan, part, path, summaries):
    """Check whether voxels that are not finite are the same in all echoes, enclose nothing but the
    rest, and are as many as a mask leaves out.
    """
    where = summaries[path].not_finite
    shape = summaries[path].shape
    if len(shape) != 3 or where.size < SMALLEST_BACKGROUND * math.prod(shape):
        return False
    for other in scan.parts[part]:
        if other not in summaries or not np.array_equal(summaries[other].not_finite, where):
            return False
    region = np.zeros(shape, bool)
    region.ravel()[where] = True
    return bool(reaching_the_edge(region).sum() == where.size)


def _number_with_signal(scan, where, partner, summaries):
    """Return how many of some voxels have signal in the magnitude, and a value in the echo's other
    part.

    The magnitude is averaged over the echoes; air has noise. Voxels without any magnitude are
    inside if the others surround them.
    """
    paths = [path for path in scan.magnitude if path in summaries] or [partner]
    shape = summaries[partner].shape
    total = np.zeros(shape)
    count = np.zeros(shape, int)
    for path in paths:
        if summaries[path].shape == shape:
            values = np.abs(read_image(path)[2].astype(float))
            is_finite = np.isfinite(values)
            total = total + np.where(is_finite, values, 0)
            count = count + is_finite
    mean = total / np.maximum(count, 1)
    strong = np.percentile(mean[mean > 0], STRONG_PERCENTILE) if (mean > 0).any() else math.inf
    is_inside = mean > SIGNAL * strong
    if len(shape) == 3:
        is_inside |= (count == 0) & ~reaching_the_edge(count == 0)
    values = read_image(partner)[2].ravel()[where]
    return int(np.count_nonzero(is_inside.ravel()[where] & np.isfinite(values) & (values != 0)))


def check_identical(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[Problem]:
    """Check that no two images of a scan have the same values."""
    problems = []
    path_of_values: dict[tuple, Path] = {}
    for path, summary in summaries.items():
        if not summary.minimum < summary.maximum:
            continue  # a constant image has a problem of its own
        values = (summary.shape, summary.minimum, summary.maximum, summary.checksum)
        first = path_of_values.setdefault(values, path)
        if first is not path:
            cause = f"its values are identical to those of {first.name}"
            remedy = "copy or convert the right image to this name"
            problems.append(Problem.of(scan, path.name, cause, remedy))
    return problems


def saturated_fraction(summary: ImageSummary) -> float:
    """Return the fraction of an image's non-zero voxels that have its maximum."""
    return summary.n_at_maximum / summary.n_nonzero if summary.n_nonzero else 0.0


def check_saturation(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[Problem]:
    """Check that magnitudes were not clipped, which leaves many voxels at the maximum."""
    clipped = {}
    for path in scan.magnitude:
        if path in summaries and _is_clipped(summaries[path]):
            clipped[path] = summaries[path]
    if not clipped:
        return []
    worst = max(clipped.values(), key=saturated_fraction)
    cause = (
        f"{worst.n_at_maximum} voxels ({100 * saturated_fraction(worst):.2g} %) have the maximum "
        f"{worst.maximum:g}, as if brighter values had been clipped"
    )
    remedy = (
        "scan with a lower gain, or convert the scan again: R2* and the weights of echoes are "
        "wrong in these voxels"
    )
    return [Problem.of(scan, comma_separated_names(clipped), cause, remedy, "warning")]


def _is_clipped(summary):
    return (
        summary.minimum < summary.maximum
        and not summary.is_binary
        and summary.n_at_maximum >= SATURATED_VOXELS
        and saturated_fraction(summary) > SATURATED_FRACTION
    )
