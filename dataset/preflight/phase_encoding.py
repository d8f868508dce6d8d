"""Phase: in an encoding that is known, the same in all echoes."""

import math
from itertools import pairwise

import numpy as np

from ...core.artefacts.echoes import phase_scale
from ...core.artefacts.ranges import wrapped_range
from ...core.phase.encoding import BOTH_RADIANS, PhaseEncodingError, decode_phase
from ..entities import echo_number
from ..problems import Problem
from ..values import one_line
from .echoes import are_rising
from .signal import SWAPPED_JUMPS
from .wording import comma_separated

OTHER_RANGE = 0.1  # of a range: wrapped phase fills its own to some hundredths
# between phases, or noise, of two echoes: half way to 2; scans as they are have up to 1.1
LOST_FACTOR = 2**0.5
WRAPPED_SPAN = 1.2 * np.pi  # rad; noise around the head reaches 2π


def check_phase_encoding(scan, summaries):
    """The phase of all echoes together must be in an encoding that is known; returns it, and the
    problems.
    """
    units = {path.name: scan.sidecars.get(path.name, {}).get("Units") for path in scan.phase}
    if len({repr(unit) for unit in units.values()}) > 1:
        listed = ", ".join(f"{name} {one_line(repr(unit))}" for name, unit in units.items())
        cause = f"Units differ between the echoes: {listed}"
        return None, [Problem.of(scan, scan.phase[0].name, cause, "correct the sidecars")]
    readable = [
        path
        for path in scan.phase
        if path in summaries and summaries[path].minimum < summaries[path].maximum
    ]
    if not readable:
        return None, []
    encoding, fault = _decoded(scan, [summaries[path] for path in readable])
    if fault is None:
        extremes = [(summaries[path].minimum, summaries[path].maximum) for path in readable]
        span = encoding.scale * (
            max(high for _, high in extremes) - min(low for low, _ in extremes)
        )
        return encoding, [] if span > WRAPPED_SPAN else [_narrow_phase(scan, span)]
    alone = [path for path in readable if _decoded(scan, [summaries[path]])[1]]
    names = comma_separated(path.name for path in alone or readable)
    if len(alone) < len(readable) and _ranges_differ(readable, summaries):
        fault = f"{fault} ({_stored_ranges(readable, summaries)})"
    return None, [Problem.of(scan, names, fault, "correct the images or their sidecars")]


def _stored_ranges(paths, summaries):
    """Say what range each echo's image has, as in "echo 1 is stored 0…4095, echo 2 -4096…4094"."""
    verbs = ["is stored ", *([""] * (len(paths) - 1))]
    return ", ".join(
        f"echo {echo_number(path)} "
        f"{verb}{summaries[path].minimum:.4g}…{summaries[path].maximum:.4g}"
        for path, verb in zip(paths, verbs, strict=True)
    )


def _ranges_differ(paths, summaries):
    ends = np.array([(summaries[path].minimum, summaries[path].maximum) for path in paths])
    return bool((np.ptp(ends, axis=0) > OTHER_RANGE * np.ptp(ends, axis=1).max()).any())


def _narrow_phase(scan, span):
    cause = (
        f"the phase of all echoes spans {span:.3g} rad of the 6.28 that wrapped phase has, as if "
        "it had been scaled"
    )
    remedy = "nothing needs doing if it is masked and hardly varies; else convert the images again"
    return Problem.of(scan, scan.phase[0].name, cause, remedy, "warning")


def _decoded(scan, summaries):
    """Encoding of phase with these ranges, or why it cannot be decoded."""
    values = [
        [s.minimum, s.maximum, s.minimum if s.fraction is None else s.fraction] for s in summaries
    ]
    try:
        _, encoding = decode_phase(
            np.array(values), units=scan.units, manufacturer=scan.manufacturer, echo_axis=0
        )
    except PhaseEncodingError as error:
        return None, str(error).rstrip(".")
    return encoding, None


def check_stored_alike(scan, summaries, encoding, blocks):
    """The phase of each echo must be stored as that of all echoes together was taken to be."""
    varies = all(summaries[path].minimum < summaries[path].maximum for path in scan.phase)
    if encoding is None or blocks.phase is None or not are_rising(scan.echo_times) or not varies:
        return []
    bounds = phase_scale(blocks.magnitude, blocks.phase, scan.echo_times)
    if odd := _stored_otherwise(scan, summaries, encoding, bounds):
        cause = (
            f"the phase of the echoes is not stored alike: {_stored_ranges(scan.phase, summaries)}"
        )
        remedy = (
            "convert the scan again, or write the scale of each into its header (scl_slope, "
            "scl_inter)"
        )
        return [Problem.of(scan, comma_separated(path.name for path in odd), cause, remedy)]
    problems = []
    if encoding == BOTH_RADIANS:
        cause = f"{_stored_ranges(scan.phase, summaries)}, which are the same modulo 2π"
        remedy = (
            "nothing needs doing if they are radians; if integers were scaled there, one range is "
            "half a turn off"
        )
        problems.append(Problem.of(scan, scan.phase[0].name, cause, remedy, "warning"))
    for (earlier, later), lowest, highest in zip(pairwise(scan.phase), *bounds, strict=True):
        if lowest > LOST_FACTOR or highest < 1 / LOST_FACTOR:
            times = lowest if lowest > 1 else highest
            cause = (
                f"its phase varies {times:.2g} times as much as {earlier.name} and both EchoTimes "
                "let expect"
            )
            remedy = "see whether one of the two was scaled, or has the wrong EchoTime"
            problems.append(Problem.of(scan, later.name, cause, remedy, "warning"))
    return problems


def _stored_otherwise(scan, summaries, encoding, bounds):
    """Echoes whose phase is not in the encoding that was found for all."""
    rounded = [
        path for path in scan.phase if encoding.scale == 1 and summaries[path].fraction is None
    ]
    if rounded or not _ranges_differ(scan.phase, summaries):
        return rounded
    # An encoding that an echo's range alone would have, and what it makes of the echo's scale.
    alone = [_decoded(scan, [summaries[path]])[0] or encoding for path in scan.phase]
    scales = np.array([own.scale / encoding.scale for own in alone])
    certain = [
        path
        for path, own in zip(scan.phase, alone, strict=True)
        if _turns_elsewhere(summaries[path], encoding)
        or (own.scale != encoding.scale and _fills(summaries[path], own))
    ]
    corrected = [bound * scales[1:] / scales[:-1] for bound in bounds]
    if certain or _misfit(*bounds) - _misfit(*corrected) < math.log(LOST_FACTOR):
        return certain
    return [path for path, scale in zip(scan.phase, scales, strict=True) if scale != 1]


def _turns_elsewhere(summary, encoding):
    """Whether an image's phase turns around within another range than the encoding's."""
    turn = wrapped_range(summary.block, SWAPPED_JUMPS)
    return turn is not None and abs(encoding.scale * turn / (2 * np.pi) - 1) > OTHER_RANGE


def _fills(summary, encoding):
    return encoding.scale * (summary.maximum - summary.minimum) > (1 - OTHER_RANGE / 2) * 2 * np.pi


def _misfit(lowest, highest):
    """How far scales are from 1 at least, as a logarithm, echoes together."""
    outside = np.maximum(np.log(lowest), -np.log(highest))
    return np.nansum(np.maximum(outside, 0))
