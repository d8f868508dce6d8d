"""Readout: voxels that alternate, mirrored echoes, even echoes that depart from odd ones."""

from ...core.artefacts.coherence import alternating_axes
from ...core.artefacts.echoes import echo_alternation
from ...core.artefacts.mirroring import mirrored_magnitude, mirrored_phase
from ..problems import Problem
from .echoes import are_rising
from .wording import named_axes

BIPOLAR_OFFSET, BIPOLAR_RAMP = 0.2, 0.5  # rad; monopolar scans have a tenth of that


def check_alternating_voxels(scan, blocks):
    """Slices that alternate by half a turn come of chopping; voxels within a slice, of a shifted
    k-space.
    """
    if blocks.phase is None:
        return []
    axes = alternating_axes(blocks.magnitude[0], blocks.phase[0])
    if not axes:
        return []
    cause = (
        f"every second voxel along the {named_axes(axes)} is turned by half a turn, as by slice "
        "chopping (GE) or by "
        "k-space whose centre was taken for its corner"
    )
    remedy = (
        "undo it in all echoes: negate every second slice of the real and imaginary images (add π "
        "to the phase)"
    )
    return [Problem.of(scan, (scan.phase or scan.real)[0].name, cause, remedy)]


def check_mirrored(scan, blocks):
    """All echoes see the same head, the same way round."""
    phase = None
    if blocks.phase is not None and are_rising(scan.echo_times):
        phase = mirrored_phase(blocks.magnitude, blocks.phase, scan.echo_times)
    magnitude = None if blocks.magnitude is None else mirrored_magnitude(blocks.magnitude)
    remedy = "convert that echo again: its voxels lie in another order than its header says"
    problems = []
    for kind, found, paths in (
        ("phase", phase, scan.phase),
        ("magnitude", magnitude, scan.magnitude),
    ):
        if found is not None:
            cause = (
                f"its {kind} fits that of the other echoes when it is mirrored along its "
                f"{named_axes(found.axes)}"
            )
            problems.append(
                Problem.of(scan, (paths or scan.real)[found.echo].name, cause, remedy, "warning")
            )
    return problems


def check_readout(scan, blocks, summaries):
    """Even and odd echoes of a bipolar readout lie on two lines; returns by how much, and a
    warning.
    """
    times = scan.echo_times
    if blocks.phase is None or not are_rising(times):
        return None, []
    shape = summaries[scan.files[0]].shape
    found = echo_alternation(blocks.magnitude, blocks.phase, times, shape)
    if found is None:
        return None, []
    ramp = max(found.ramp, key=abs)
    if abs(found.offset) < BIPOLAR_OFFSET and abs(ramp) < BIPOLAR_RAMP:
        return found, []
    cause = (
        f"even echoes depart from the line through odd ones by {found.offset:.2g} rad, and by "
        f"{ramp:.2g} rad from end "
        f"to end of the {named_axes([found.ramp.index(ramp)])}, as with a bipolar readout"
    )
    remedy = "map it with --unwrapping spatial, which gives each echo an offset of its own"
    return found, [Problem.of(scan, "", cause, remedy, "warning")]
