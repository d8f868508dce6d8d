"""Check a scan's sidecars and images before processing, and report each fault with its cause and a
remedy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core.artefacts.echoes import EchoAlternation
from ..forms import Form
from ..images import ImageSummary, UnreadableImageError, summarize_image
from ..problems import Problem
from ..scans import Scan
from .brain_mask import check_brain_mask, mask_decisions
from .decisions import background_decisions, image_decisions, scale_decisions
from .echoes import check_echo_times, check_echoes, echo_decisions
from .frequency import check_frequency
from .grids import check_grids, commonest_grid, grid_fault
from .metadata import check_sidecars, name_decisions
from .parts import check_parts
from .phase_encoding import check_phase_encoding, check_stored_alike
from .readout import (
    alternation_decisions,
    check_alternating_voxels,
    check_mirrored,
    check_readout,
    looks_bipolar,
)
from .sign import check_phase_sign
from .signal import Blocks, check_decay, check_exchange, check_noise, check_order_of_magnitudes
from .values import check_identical, check_saturation, check_values, saturated_fraction


@dataclass(frozen=True)
class Inspection:
    """A scan, its problems, and the properties of its images.

    Attributes
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan, with the polarity of its readout if it can be determined, and with what was
        decided about its images.
    problems : tuple of Problem
        Errors and warnings; empty if there are none.
    matrix : tuple of int or None
        Voxels along the image's axes. None, as all properties below, if it cannot be determined.
    voxel_size : tuple of float or None
        mm, along the image's axes.
    scanner : multiqsm.dataset.forms.Form or None
        The form of the header that gives the direction of B0.
    phase_range : tuple of float or None
        Lowest and highest stored value of all phase images.
    phase_encoding : str or None
        How the phase is stored.
    saturated : float or None
        Largest fraction of a magnitude's non-zero voxels that have its maximum.
    alternation : multiqsm.core.artefacts.echoes.EchoAlternation or None
        By how much the phase of even echoes differs from that of odd ones.
    sign_asymmetry : float or None
        Skewness of susceptibility deep in the brain, in a coarse map, if requested and if there is
        enough brain.
    checksums : tuple of int
        CRC-32 of the values of each image that could be read.
    """

    scan: Scan
    problems: tuple[Problem, ...]
    matrix: tuple[int, ...] | None = None
    voxel_size: tuple[float, ...] | None = None
    scanner: Form | None = None
    phase_range: tuple[float, float] | None = None
    phase_encoding: str | None = None
    saturated: float | None = None
    alternation: EchoAlternation | None = None
    sign_asymmetry: float | None = None
    checksums: tuple[int, ...] = ()

    @property
    def verdict(self) -> str:
        """``error``, ``warning`` or ``ok``: the worst of the problems."""
        for severity in ("error", "warning"):
            if _has_severity(self.problems, severity):
                return severity
        return "ok"


def inspect_scan(scan: Scan, *, check_sign: bool = False) -> Inspection:
    """Check everything about a scan that can be checked before processing.

    Every file is read completely, one at a time.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan.
    check_sign : bool
        Whether to check the sign of the phase in a coarse map, if the scan is of a person and has
        no errors. This takes two to four seconds and reads the images again.

    Returns
    -------
    Inspection
        Problems and properties of the images, but no image data.
    """
    remedy = "no action is needed if that is right"
    problems = [Problem.of(scan, "", note, remedy, "warning") for note in scan.notes]
    problems += check_echoes(scan)
    problems += check_echo_times(scan)
    problems += check_frequency(scan)
    problems += check_sidecars(scan)
    summaries, unreadable = _summarize(scan)
    problems += unreadable
    grid_problems = check_grids(scan, summaries)
    problems += grid_problems
    problems += check_values(scan, summaries)
    problems += check_identical(scan, summaries)
    problems += check_saturation(scan, summaries)
    encoding = None
    if scan.phase:
        encoding, encoding_problems = check_phase_encoding(scan, summaries)
        problems += encoding_problems
    mask, mask_problems = check_brain_mask(scan, summaries)
    problems += mask_problems
    alternation = None
    # Images can be compared voxel by voxel only if all of them were read and share a grid.
    if len(summaries) == len(scan.files) and not _has_severity(grid_problems, "error"):
        blocks = Blocks(scan, summaries, encoding)
        axes, alternation_problems = check_alternating_voxels(scan, blocks)
        problems += alternation_problems
        blocks.undo_alternation(axes)
        scan = replace(scan, alternating_axes=axes)
        problems += check_order_of_magnitudes(scan, blocks) or check_decay(scan, blocks)
        problems += check_noise(scan, blocks)
        problems += check_exchange(scan, summaries)
        problems += check_stored_alike(scan, summaries, encoding, blocks)
        problems += check_mirrored(scan, blocks)
        problems += check_parts(scan, summaries)
        alternation, bipolar_problems = check_readout(scan, blocks, summaries)
        problems += bipolar_problems
    asymmetry = None
    if check_sign and not scan.is_phantom and not _has_severity(problems, "error"):
        asymmetry, sign_problems = check_phase_sign(scan, encoding, summaries)
        problems += sign_problems
    return Inspection(
        scan=replace(
            scan,
            readout_polarity=_polarity(alternation),
            decisions=_decisions(scan, summaries, mask),
        ),
        problems=tuple(dict.fromkeys(problems)),
        alternation=alternation,
        sign_asymmetry=asymmetry,
        phase_encoding=encoding.name if encoding else None,
        **_image_properties(scan, summaries),
    )


def _decisions(scan, summaries, mask):
    """State how files and images of a scan were read where they could be read otherwise."""
    images = summaries if mask is None else {**summaries, scan.brain_mask: mask}
    return (
        *scan.decisions,
        *name_decisions(scan),
        *echo_decisions(scan),
        *image_decisions(images),
        *scale_decisions(scan, summaries),
        *background_decisions(scan, summaries),
        *mask_decisions(mask),
        *alternation_decisions(scan.alternating_axes),
    )


def _polarity(alternation: EchoAlternation | None) -> str | None:
    if alternation is None:
        return None
    return "bipolar" if looks_bipolar(alternation) else "monopolar"


def _has_severity(problems, severity):
    return any(problem.severity == severity for problem in problems)


def _image_properties(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> dict[str, Any]:
    """Return those attributes of an `Inspection` that follow from its images."""
    usable = {}
    for path, summary in summaries.items():
        if grid_fault(summary) is None:
            usable[path] = summary
    if not usable:
        return {}
    reference = usable[commonest_grid(usable)]
    phases = _summaries_of(scan.phase, summaries)
    magnitudes = _summaries_of(scan.magnitude, summaries)
    phase_range = None
    if phases:
        minimum = min(phase.minimum for phase in phases)
        maximum = max(phase.maximum for phase in phases)
        phase_range = (minimum, maximum)
    return {
        "matrix": reference.shape,
        "voxel_size": reference.voxel_size,
        "scanner": reference.scanner,
        "phase_range": phase_range,
        "saturated": max(map(saturated_fraction, magnitudes), default=None),
        "checksums": tuple(summary.checksum for summary in summaries.values()),
    }


def _summaries_of(paths, summaries):
    return [summaries[path] for path in paths if path in summaries]


def _summarize(scan):
    """Read each file once.

    Returns the summaries of images by path, and the problems of those that cannot be read.
    """
    summaries = {}
    problems = []
    for path in scan.files:
        try:
            summaries[path] = summarize_image(path)
        except UnreadableImageError as error:
            problems.append(Problem.of(scan, path.name, error.cause, error.remedy))
    return summaries, problems
