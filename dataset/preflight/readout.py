"""Check for effects of the readout: alternating voxels, mirrored echoes, bipolar gradients."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...core.artefacts.coherence import common_alternation
from ...core.artefacts.echoes import EchoAlternation, echo_alternation
from ...core.artefacts.mirroring import mirrored_magnitude, mirrored_phase
from ...core.phase.vendors import vendor
from ..images import ImageSummary
from ..problems import Problem
from ..scans import Scan
from .echoes import are_rising
from .signal import Blocks
from .wording import named_axes

# rad; monopolar scans have a tenth of these
BIPOLAR_OFFSET = 0.2
BIPOLAR_RAMP = 0.5


def looks_bipolar(alternation: EchoAlternation) -> bool:
    """Return whether the phase of even echoes departs from that of odd ones as with a bipolar
    readout.
    """
    ramp = max(map(abs, alternation.ramp))
    return abs(alternation.offset) >= BIPOLAR_OFFSET or ramp >= BIPOLAR_RAMP


def check_alternating_voxels(scan: Scan, blocks: Blocks) -> tuple[tuple[int, ...], list[Problem]]:
    """Check whether the phase of every second voxel is shifted by π.

    From slice to slice this is RF chopping that was not undone, within a slice it is k-space that
    was shifted by half its width. It is certain, and undone, if all of several echoes have it; of
    single echoes, if the scanner is one of GE, since a steep field may have the same effect.

    Returns
    -------
    axes : tuple of int
        Axes along which it is undone.
    problems : list of Problem
        An error if it is not certain.
    """
    if blocks.magnitude is None or blocks.phase is None:
        return (), []
    axes, is_common = common_alternation(blocks.magnitude, blocks.phase)
    if not axes:
        return (), []
    is_chopped = vendor(scan.manufacturer) == "GE" and len(axes) == 1
    if is_common and (len(blocks.phase) > 1 or is_chopped):
        return axes, []
    where = "" if is_common else " in some echoes"
    cause = (
        f"the phase of every second voxel along the {named_axes(axes)} is shifted by π{where}, as "
        "when slice chopping (GE) is not undone or when the centre of k-space is taken for its "
        "corner"
    )
    remedy = (
        "correct all echoes: negate every second slice of the real and imaginary images, which "
        "adds π to the phase"
    )
    return (), [Problem.of(scan, (scan.phase or scan.real)[0].name, cause, remedy)]


def alternation_decisions(axes: Sequence[int]) -> list[str]:
    """State along which axes an alternating sign is undone."""
    if not axes:
        return []
    where = named_axes(axes)
    return [f"the sign alternates from voxel to voxel along the {where} in all echoes: undone"]


def check_mirrored(scan: Scan, blocks: Blocks) -> list[Problem]:
    """Check that no echo is mirrored relative to the others."""
    phase = None
    magnitude = None
    if blocks.magnitude is not None:
        magnitude = mirrored_magnitude(blocks.magnitude)
        if blocks.phase is not None and are_rising(scan.echo_times):
            phase = mirrored_phase(blocks.magnitude, blocks.phase, scan.echo_times)
    remedy = "convert that echo again: its voxels are not in the order that its header states"
    problems = []
    for kind, mirrored, paths in (
        ("phase", phase, scan.phase),
        ("magnitude", magnitude, scan.magnitude),
    ):
        if mirrored is not None:
            cause = (
                f"its {kind} agrees with the other echoes only after mirroring along its "
                f"{named_axes(mirrored.axes)}"
            )
            file = (paths or scan.real)[mirrored.echo].name
            problems.append(Problem.of(scan, file, cause, remedy, "warning"))
    return problems


def check_readout(
    scan: Scan, blocks: Blocks, summaries: Mapping[Path, ImageSummary]
) -> tuple[EchoAlternation | None, list[Problem]]:
    """Check whether the phase of even echoes is offset from that of odd ones, as with a bipolar
    readout.

    Returns
    -------
    alternation : EchoAlternation or None
        Offset and ramp of the even echoes; None if they cannot be determined.
    problems : list of Problem
        A note if they are so large that they are removed from the phase.
    """
    times = scan.echo_times
    if blocks.magnitude is None or blocks.phase is None or not are_rising(times):
        return None, []
    shape = summaries[scan.files[0]].shape
    alternation = echo_alternation(blocks.magnitude, blocks.phase, times, shape)
    if alternation is None:
        return None, []
    if not looks_bipolar(alternation):
        return alternation, []
    ramp = max(alternation.ramp, key=abs)
    axis = named_axes([alternation.ramp.index(ramp)])
    cause = (
        "the phase of even echoes departs from a straight line through the odd ones by "
        f"{alternation.offset:.2g} rad, plus a ramp of {ramp:.2g} rad from end to end of the "
        f"{axis}, as with a bipolar readout"
    )
    remedy = "multiqsm estimates this phase and removes it before the field is fitted"
    return alternation, [Problem.of(scan, "", cause, remedy, "note")]
