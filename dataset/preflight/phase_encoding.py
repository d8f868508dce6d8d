"""Check that phase is in a known encoding, the same in all echoes."""

import math
from collections.abc import Mapping
from itertools import compress, pairwise
from pathlib import Path

import numpy as np

from ...core.artefacts.echoes import phase_scale
from ...core.artefacts.ranges import spread, wrapped_range
from ...core.phase.encoding import PhaseEncodingError, decode_phase
from ...core.phase.encodings import (
    BOTH_RADIANS,
    DEGREES,
    MILLIRADIANS,
    RADIANS,
    PhaseEncoding,
    phase_units,
)
from ..entities import echo_number
from ..images import ImageSummary
from ..problems import Problem
from ..scans import Scan
from ..values import one_line
from .echoes import are_rising
from .signal import SWAPPED_JUMPS, Blocks
from .wording import comma_separated_names

# Difference of two ranges, as a fraction: wrapped phase fills its range to some hundredths.
OTHER_RANGE = 0.1
# Ratio of the phase, or noise, of two echoes: half way to 2; unaltered scans have up to 1.1.
LOST_FACTOR = 2**0.5
# Factor between two units of phase, degrees and radians, as it can still be measured: it is 57.
OTHER_UNIT = 45
# The same between milliradians and degrees (17), for wrapped phase that fills its unit's range.
OTHER_UNIT_FILLED = 10
# Phase that grows this much faster than echo time, or falls to a fifth, has no physical cause.
NO_GROWTH = 5
WRAPPED_SPAN = 1.2 * np.pi  # rad; noise around the head reaches 2π


def check_phase_encoding(
    scan: Scan, summaries: Mapping[Path, ImageSummary]
) -> tuple[PhaseEncoding | None, list[Problem]]:
    """Check that the phase of all echoes together is in a known encoding.

    Returns
    -------
    encoding : PhaseEncoding or None
        None if it is not known.
    problems : list of Problem
        An error if the encoding is not known, a warning if the phase never wraps.
    """
    units = {path.name: scan.sidecars.get(path.name, {}).get("Units") for path in scan.phase}
    if len(set(map(_unit_symbol, units.values()))) > 1:
        units_by_file = ", ".join(f"{name} {one_line(repr(unit))}" for name, unit in units.items())
        cause = f"Units differ between the echoes: {units_by_file}"
        return None, [Problem.of(scan, scan.phase[0].name, cause, "correct the sidecars")]
    readable = []
    for path in scan.phase:
        if path in summaries and summaries[path].minimum < summaries[path].maximum:
            readable.append(path)
    if not readable:
        return None, []
    encoding, fault = _decode(scan, [summaries[path] for path in readable])
    if encoding is not None:
        minima, maxima = _extremes(readable, summaries)
        span = encoding.scale * (maxima.max() - minima.min())
        return encoding, [] if span > WRAPPED_SPAN else [_narrow_phase(scan, span)]
    faulty = []
    for path in readable:
        encoding_alone, _ = _decode(scan, [summaries[path]])
        if encoding_alone is None:
            faulty.append(path)
    names = comma_separated_names(faulty or readable)
    if len(faulty) < len(readable) and _ranges_differ(readable, summaries):
        fault = f"{fault} ({_stored_ranges(readable, summaries)})"
    return None, [Problem.of(scan, names, fault, "correct the images or their sidecars")]


def _unit_symbol(value):
    """Return a sidecar's unit by its symbol; any other value as it is written."""
    return phase_units(value) if isinstance(value, str) else repr(value)


def _stored_ranges(paths, summaries):
    """List the range of each echo's image, as in "echo 1: 0…4095, echo 2: -4096…4094"."""
    ranges = []
    for path in paths:
        lowest = summaries[path].minimum
        highest = summaries[path].maximum
        ranges.append(f"echo {echo_number(path)}: {lowest:.4g}…{highest:.4g}")
    return ", ".join(ranges)


def _extremes(paths, summaries):
    """Return the minima and the maxima of images as two arrays."""
    return np.array([(summaries[path].minimum, summaries[path].maximum) for path in paths]).T


def _ranges_differ(paths, summaries):
    minima, maxima = _extremes(paths, summaries)
    tolerance = OTHER_RANGE * (maxima - minima).max()
    return bool(np.ptp(minima) > tolerance or np.ptp(maxima) > tolerance)


def _narrow_phase(scan, span):
    cause = (
        f"the phase of all echoes spans only {span:.3g} rad, where wrapped phase spans 6.28, as if "
        "it had been scaled"
    )
    remedy = (
        "no action is needed if it is masked and hardly varies; otherwise convert the images again"
    )
    return Problem.of(scan, scan.phase[0].name, cause, remedy, "warning")


def _decode(scan, summaries):
    """Determine the encoding of phase images with these ranges.

    Returns the encoding or None, and None or why the images cannot be decoded.
    """
    values = []
    for summary in summaries:
        # A value that is not whole distinguishes radians from integers, as the voxels would.
        fraction = summary.minimum if summary.fraction is None else summary.fraction
        values.append([summary.minimum, summary.maximum, fraction])
    try:
        _, encoding = decode_phase(
            np.array(values), units=scan.units, manufacturer=scan.manufacturer, echo_axis=0
        )
    except PhaseEncodingError as error:
        return None, error.for_image.rstrip(".")
    return encoding, None


def check_stored_alike(
    scan: Scan,
    summaries: Mapping[Path, ImageSummary],
    encoding: PhaseEncoding | None,
    blocks: Blocks,
) -> list[Problem]:
    """Check that the phase of each echo is in the encoding that was determined from all echoes
    together.
    """
    if encoding is None or blocks.magnitude is None or blocks.phase is None:
        return []
    minima, maxima = _extremes(scan.phase, summaries)
    if not (minima < maxima).all() or not are_rising(scan.echo_times):
        return []
    bounds = phase_scale(blocks.magnitude, blocks.phase, scan.echo_times)
    ranges = _stored_ranges(scan.phase, summaries)
    if deviating := _stored_otherwise(scan, summaries, encoding, bounds):
        cause = f"phase is not stored in the same way in all echoes ({ranges})"
        remedy = (
            "convert the scan again, or correct the scaling in each header (scl_slope, scl_inter)"
        )
        return [Problem.of(scan, comma_separated_names(deviating), cause, remedy)]
    problems = []
    if encoding == BOTH_RADIANS:
        cause = f"the ranges of echoes differ, but are the same modulo 2π ({ranges})"
        remedy = (
            "no action is needed if all echoes are in radians; if they were scaled from integers, "
            "one range is off by π"
        )
        problems.append(Problem.of(scan, scan.phase[0].name, cause, remedy, "warning"))
    for (earlier, later), lowest, highest in zip(pairwise(scan.phase), *bounds, strict=True):
        if lowest > LOST_FACTOR or highest < 1 / LOST_FACTOR:
            ratio = lowest if lowest > 1 else highest
            cause = (
                f"its phase varies {ratio:.2g} times as much as expected from {earlier.name} and "
                "the two EchoTimes"
            )
            remedy = "check whether one of the two images was scaled or has the wrong EchoTime"
            problems.append(Problem.of(scan, later.name, cause, remedy, "warning"))
    return problems


def _stored_otherwise(scan, summaries, encoding, bounds):
    """Return the echoes whose phase is not in the encoding of all echoes together."""
    rounded = []
    for path in scan.phase:
        if encoding.scale == 1 and summaries[path].fraction is None:
            rounded.append(path)
    if rounded or not _ranges_differ(scan.phase, summaries):
        return rounded
    if misread := _in_other_unit(scan, summaries, encoding, bounds):
        return misread
    certain = []
    scale_ratios = []
    for path in scan.phase:
        # The encoding that this echo's range would have by itself.
        alternative = _decode(scan, [summaries[path]])[0] or encoding
        scale_ratios.append(alternative.scale / encoding.scale)
        fills_alternative = alternative.scale != encoding.scale and _fills(
            summaries[path], alternative
        )
        if _wraps_elsewhere(summaries[path], encoding) or fills_alternative:
            certain.append(path)
    scales = np.array(scale_ratios)
    lowest, highest = bounds
    # Would the echoes have the same scale if each were in the encoding of its own range?
    corrected = _misfit(lowest * scales[1:] / scales[:-1], highest * scales[1:] / scales[:-1])
    if certain or _misfit(lowest, highest) - corrected < math.log(LOST_FACTOR):
        return certain
    return list(compress(scan.phase, scales != 1))


def _in_other_unit(scan, summaries, encoding, bounds):
    """Return the echoes whose phase is so much smaller than that of another that its unit differs.

    From one echo to the next, phase that is stored alike spreads at most as echo time grows, and
    less if it wraps or is noise. Where the field is small, all echoes have little phase. Range and
    spread must agree, since the range may be due to a single voxel and the spread to the mask; or
    else the spread and the bounds of the scale, which no single voxel changes.
    """
    minima, maxima = _extremes(scan.phase, summaries)
    ranges = maxima - minima
    spreads = np.array([spread(summaries[path].sample) for path in scan.phase])
    is_filled = np.array([_fills_other_unit(extent, encoding) for extent in ranges])
    is_smaller_filled = np.where(ranges[1:] < ranges[:-1], is_filled[1:], is_filled[:-1])
    factor = np.where(is_smaller_filled, OTHER_UNIT_FILLED, OTHER_UNIT)
    growth = _ratios(np.array(scan.echo_times))
    differ = []
    for extents in (ranges, spreads):
        ratios = _ratios(extents)
        exceeds = ratios > np.maximum(factor, NO_GROWTH * growth)
        falls = ratios < np.minimum(growth / factor, 1 / NO_GROWTH)
        differ.append(exceeds | falls)
    ranges_differ, spreads_differ = differ
    lowest, highest = bounds
    is_scaled = (lowest > OTHER_UNIT) | (highest < 1 / OTHER_UNIT)
    if not (spreads_differ & (ranges_differ | is_scaled)).any():
        return []
    # The encoding is that of the largest values: those of another unit are misread.
    return list(compress(scan.phase, spreads < np.nanmax(spreads) / NO_GROWTH))


def _ratios(values):
    with np.errstate(divide="ignore", invalid="ignore"):
        return values[1:] / values[:-1]


def _fills_other_unit(extent, encoding):
    """Check whether a range is that of wrapped phase in another unit than that of the encoding."""
    for unit in (RADIANS, DEGREES, MILLIRADIANS):
        cycles = unit.scale * extent / (2 * np.pi)
        if unit.scale != encoding.scale and 1 - OTHER_RANGE < cycles < 1 + OTHER_RANGE / 10:
            return True
    return False


def _wraps_elsewhere(summary, encoding):
    """Check whether an image's phase wraps at other values than those of the encoding."""
    period = wrapped_range(summary.block, SWAPPED_JUMPS)
    return period is not None and abs(encoding.scale * period / (2 * np.pi) - 1) > OTHER_RANGE


def _fills(summary, encoding):
    return encoding.scale * (summary.maximum - summary.minimum) > (1 - OTHER_RANGE / 2) * 2 * np.pi


def _misfit(lowest, highest):
    """Return how far scales are from 1 at least, as a logarithm, summed over the echoes."""
    outside = np.maximum(np.log(lowest), -np.log(highest))
    return np.nansum(np.maximum(outside, 0))
