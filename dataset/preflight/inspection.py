"""Check a scan's sidecars and images before any work, so that what is wrong has a name and a
remedy.
"""

from dataclasses import dataclass

from ...core.artefacts.echoes import EchoAlternation
from ..forms import Form
from ..images import UnreadableImageError, summarize_image
from ..problems import Problem
from ..scans import Scan
from .brain_mask import check_brain_mask
from .echoes import check_echo_times, check_echoes
from .frequency import check_frequency
from .grids import check_grids, commonest_grid, grid_fault
from .metadata import check_sidecars
from .parts import check_parts
from .phase_encoding import check_phase_encoding, check_stored_alike
from .readout import check_alternating_voxels, check_mirrored, check_readout
from .sign import check_phase_sign
from .signal import Blocks, check_decay, check_exchange, check_noise, check_order_of_magnitudes
from .values import check_identical, check_saturation, check_values, saturated_fraction


@dataclass(frozen=True)
class Inspection:
    """A scan, what is wrong with it, and what its images turned out to be.

    Attributes
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan.
    problems : tuple of Problem
        Errors and warnings; empty if all is well.
    matrix : tuple of int or None
        Voxels along the image's axes; None, as all that follows, where the images do not tell.
    voxel_size : tuple of float or None
        mm, along the image's axes.
    scanner : multiqsm.dataset.forms.Form or None
        The form of the header that gives the direction of B0.
    phase_range : tuple of float or None
        Lowest and highest stored value of all phase images.
    phase_encoding : str or None
        What the phase is stored as.
    saturated : float or None
        Greatest share of a magnitude's non-zero voxels that have its maximum.
    alternation : multiqsm.core.artefacts.echoes.EchoAlternation or None
        By how much even echoes depart from odd ones.
    sign_asymmetry : float or None
        Skewness of susceptibility deep in the brain, in a coarse map, if one was asked for and
        there is brain enough.
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
    def verdict(self):
        """``error``, ``warning`` or ``ok``: the worst of the problems."""
        severities = {problem.severity for problem in self.problems}
        return next((severity for severity in ("error", "warning") if severity in severities), "ok")


def inspect_scan(scan, *, check_sign=False):
    """Check everything about a scan that can be known before processing, and say what its images
    turned out to be.

    Every file is read completely, one at a time.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan.
    check_sign : bool
        Whether to make a coarse map of a person's scan that has no errors, to see whether the phase
        has the right sign; that takes two to four seconds, and reads the images again.

    Returns
    -------
    Inspection
        No image data are kept in it.
    """
    remedy = "nothing needs doing if that is right"
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
    encoding, encoding_problems = (
        check_phase_encoding(scan, summaries) if scan.phase else (None, [])
    )
    problems += encoding_problems
    if scan.brain_mask is not None:
        problems += check_brain_mask(scan, summaries)
    alternation = None
    # What compares images voxel by voxel is of no use where they do not fit together.
    if len(summaries) == len(scan.files) and not any(
        problem.severity == "error" for problem in grid_problems
    ):
        blocks = Blocks(scan, summaries, encoding)
        problems += check_order_of_magnitudes(scan, blocks) or check_decay(scan, blocks)
        problems += check_noise(scan, blocks)
        problems += check_exchange(scan, summaries)
        problems += check_stored_alike(scan, summaries, encoding, blocks)
        problems += check_alternating_voxels(scan, blocks)
        problems += check_mirrored(scan, blocks)
        problems += check_parts(scan, summaries)
        alternation, bipolar_problems = check_readout(scan, blocks, summaries)
        problems += bipolar_problems
    asymmetry = None
    if (
        check_sign
        and not scan.is_phantom
        and not any(problem.severity == "error" for problem in problems)
    ):
        asymmetry, sign_problems = check_phase_sign(scan, encoding, summaries)
        problems += sign_problems
    return Inspection(
        scan=scan,
        problems=tuple(dict.fromkeys(problems)),
        alternation=alternation,
        sign_asymmetry=asymmetry,
        phase_encoding=encoding.name if encoding else None,
        **_facts(scan, summaries),
    )


def _facts(scan, summaries):
    """What the audit's table says of the images."""
    sound = {path: summary for path, summary in summaries.items() if grid_fault(summary) is None}
    if not sound:
        return {}
    reference = sound[commonest_grid(sound)]
    phases = [summaries[path] for path in scan.phase if path in summaries]
    shares = [saturated_fraction(summaries[path]) for path in scan.magnitude if path in summaries]
    return {
        "matrix": reference.shape,
        "voxel_size": reference.voxel_size,
        "scanner": reference.scanner,
        "phase_range": (min(p.minimum for p in phases), max(p.maximum for p in phases))
        if phases
        else None,
        "saturated": max(shares, default=None),
        "checksums": tuple(summary.checksum for summary in summaries.values()),
    }


def _summarize(scan):
    """Read each file once; return the summaries by path, and the problems of those that cannot be
    read.
    """
    summaries = {}
    problems = []
    for path in scan.files:
        try:
            summaries[path] = summarize_image(path)
        except UnreadableImageError as error:
            problems.append(Problem.of(scan, path.name, error.cause, error.remedy))
    return summaries, problems
