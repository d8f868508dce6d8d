"""Check a scan's sidecars and images before any work, so that what is wrong has a name and a remedy."""

import math
from dataclasses import dataclass
from itertools import compress, pairwise, permutations, product

import numpy as np

from ..core.artefacts.coherence import alternating_axes
from ..core.artefacts.echoes import EchoAlternation, decay_steps, echo_alternation, noise_echoes, phase_scale
from ..core.artefacts.mirroring import mirrored_magnitude, mirrored_phase
from ..core.artefacts.offsets import common_offset, echo_offsets, signal_background
from ..core.artefacts.ranges import jump_share, wrapped_range
from ..core.dipole import b0_direction, spans_space, turn_between
from ..core.grid import voxel_size_of
from ..core.phase.encoding import (
    BOTH_RADIANS,
    GYROMAGNETIC_RATIO,
    PhaseEncodingError,
    apply_sign,
    decode_phase,
    default_sign,
)
from .forms import SCANNER, Form
from .images import UnreadableImageError, read_image, summarize_image
from .problems import Problem
from .scans import Scan, as_number, echo_number, one_line

LONGEST_ECHO_TIME = 1  # s
HIGHEST_MHZ = 10_000
STRONGEST_TESLA = 30
CONTRADICTION = 0.2
SAME_PLACE = 0.05  # of the smallest voxel side: corners of two grids closer than this coincide
OTHER_RANGE = 0.1  # of a range: wrapped phase fills its own to some hundredths
LOST_FACTOR = 2**0.5  # between phases, or noise, of two echoes: half way to 2; scans as they are have up to 1.1
MOST_TURN = 1  # degree between two forms that are to give one direction of B0
SAME_SIZE = 0.01  # of a voxel size: what rounded headers make of one and the same
PARTNER = {"magnitude": "phase", "phase": "magnitude", "real": "imaginary", "imaginary": "real"}
FEWEST_IN_MASK = 27  # voxels
WRAPPED_SPAN = 1.2 * np.pi  # rad; noise around the head reaches 2π
SATURATED_SHARE, SATURATED_VOXELS = 1e-3, 50  # at the very maximum; of unsaturated images it is one or a few
RISE = 0.1  # of the magnitude from one echo to the next: more than inflow, fat in phase or noise make of it
DECAY_STEP = 0.15  # logarithm of a magnitude, off the line through its neighbours; real and simulated scans have 0.005
SWAPPED_JUMPS = 2e-3  # share of neighbours that jump: the smallest of the real phases is this, of magnitudes it is 0
LOPSIDED = 0.1  # share of the values on one side of 0: air has half of them on each
OFFSET = 1 / 3  # of the strongest values: what moves signals to one side of 0 is half of them
MASKED = 0.05  # share of voxels that are 0
RESTORE = "convert the scan again, or write the intercept into the header"
BIPOLAR_OFFSET, BIPOLAR_RAMP = 0.2, 0.5  # rad; monopolar scans have a tenth of that
SAME_IN_ALL_FILES = (
    "ManufacturersModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "RepetitionTime",
    "RepetitionTimeExcitation",
    "FlipAngle",
)
KINDS = {"magnitude": "M", "phase": "P"}


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
        Skewness of susceptibility deep in the brain, in a coarse map, if one was asked for and there is brain enough.
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
    """Check everything about a scan that can be known before processing, and say what its images turned out to be.

    Every file is read completely, one at a time.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan.
    check_sign : bool
        Whether to make a coarse map of a person's scan that has no errors, to see whether the phase has the right
        sign; that takes two to four seconds, and reads the images again.

    Returns
    -------
    Inspection
        No image data are kept in it.
    """
    remedy = "nothing needs doing if that is right"
    problems = [Problem.of(scan, "", note, remedy, "warning") for note in scan.notes]
    problems += _check_echoes(scan)
    problems += _check_echo_times(scan)
    problems += _check_frequency(scan)
    problems += _check_sidecars(scan)
    summaries, unreadable = _summarize(scan)
    problems += unreadable
    grid_problems = _check_grids(scan, summaries)
    problems += grid_problems
    problems += _check_values(scan, summaries)
    problems += _check_identical(scan, summaries)
    problems += _check_saturation(scan, summaries)
    encoding, encoding_problems = _check_phase_encoding(scan, summaries) if scan.phase else (None, [])
    problems += encoding_problems
    if scan.brain_mask is not None:
        problems += _check_brain_mask(scan, summaries)
    alternation = None
    # What compares images voxel by voxel is of no use where they do not fit together.
    if len(summaries) == len(scan.files) and not any(problem.severity == "error" for problem in grid_problems):
        blocks = _Blocks(scan, summaries, encoding)
        problems += _check_order_of_magnitudes(scan, blocks) or _check_decay(scan, blocks)
        problems += _check_noise(scan, blocks)
        problems += _check_exchange(scan, summaries)
        problems += _check_stored_alike(scan, summaries, encoding, blocks)
        problems += _check_alternating_voxels(scan, blocks)
        problems += _check_mirrored(scan, blocks)
        problems += _check_parts(scan, summaries)
        alternation, bipolar_problems = _check_readout(scan, blocks, summaries)
        problems += bipolar_problems
    asymmetry = None
    if check_sign and not scan.is_phantom and not any(problem.severity == "error" for problem in problems):
        asymmetry, sign_problems = _check_sign(scan, encoding, summaries)
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
    sound = {path: summary for path, summary in summaries.items() if _grid_fault(summary) is None}
    if not sound:
        return {}
    reference = sound[_commonest_grid(sound)]
    phases = [summaries[path] for path in scan.phase if path in summaries]
    shares = [_saturated_share(summaries[path]) for path in scan.magnitude if path in summaries]
    return {
        "matrix": reference.shape,
        "voxel_size": reference.voxel_size,
        "scanner": reference.scanner,
        "phase_range": (min(p.minimum for p in phases), max(p.maximum for p in phases)) if phases else None,
        "saturated": max(shares, default=None),
        "checksums": tuple(summary.checksum for summary in summaries.values()),
    }


def _check_echoes(scan):
    """Every part must have every echo; a gap in the echoes' numbers is worth a word."""
    of_echo = {part: {echo_number(path): path for path in paths} for part, paths in scan.parts.items()}
    present = set().union(*of_echo.values())
    problems = []
    for part, other in permutations(of_echo, 2):
        for echo in sorted(set(of_echo[other]) - set(of_echo[part])):
            cause = f"no {part} image of echo {echo} stands beside it"
            remedy = "add that file, or leave the echo out with --bids-filter-file"
            problems.append(Problem.of(scan, of_echo[other][echo].name, cause, remedy))
    gaps = sorted(set(range(1, max(present) + 1)) - present)
    if gaps and scan.suffix == "MEGRE":
        cause = f"there are echoes {_listed(sorted(present))}, but no echo {_listed(gaps)}"
        remedy = "add the files if they got lost; nothing needs doing if the echo was left out on purpose"
        problems.append(Problem.of(scan, "", cause, remedy, "warning"))
    return problems


def _listed(values):
    return ", ".join(str(value) for value in values)


def _check_echo_times(scan):
    """Each echo needs one time, in seconds, longer than that of the echo before."""
    problems, times = [], {}
    for path in sorted(scan.files, key=echo_number):
        value, echo = scan.sidecars.get(path.name, {}).get("EchoTime"), echo_number(path)
        wrong = _echo_time_fault(value, known=scan.echo_times and None not in scan.echo_times)
        if wrong:
            problems.append(Problem.of(scan, path.name, *wrong))
        elif value is not None and not math.isclose(times.setdefault(echo, value), value, rel_tol=1e-4):
            cause = f"EchoTime {value} s, where another part of echo {echo} has {times[echo]} s"
            problems.append(Problem.of(scan, path.name, cause, "correct the sidecar that is wrong"))
    for (earlier, time), (later, following) in pairwise(sorted(times.items())):
        if following <= time:
            relation = "the same EchoTime as" if following == time else "a shorter EchoTime than"
            cause = f"echo {later} ({following} s) has {relation} echo {earlier} ({time} s)"
            remedy = "correct EchoTime in the sidecars: some may have been exchanged or copied"
            problems.append(Problem.of(scan, _file_of_echo(scan, later), cause, remedy))
    return problems


def _echo_time_fault(value, *, known):
    """Cause and remedy of an unusable echo time; None if it is usable, or if another part's sidecar has it."""
    remedy = "write EchoTime in seconds into the sidecar, such as 0.006"
    if value is None:
        return None if known else ("EchoTime is missing from its sidecar", remedy)
    if as_number(value) is None:
        return f"EchoTime is {value!r}, which is not a number", remedy
    if value <= 0:
        return f"EchoTime is {value} s, which cannot be", remedy
    if value > LONGEST_ECHO_TIME:
        return f"EchoTime is {value} s: it seems to be in milliseconds", remedy
    return None


def _file_of_echo(scan, echo):
    return next(path.name for path in scan.files if echo_number(path) == echo)


def _check_frequency(scan):
    """The field strength or the imaging frequency must be known, plausible, and the two agree."""
    problems = [
        problem for key in ("MagneticFieldStrength", "ImagingFrequency") for problem in _check_same_number(scan, key)
    ]
    field, frequency = scan.field_strength, scan.imaging_frequency
    file = scan.files[0].name
    if frequency is None and field is None:
        cause = "neither MagneticFieldStrength nor ImagingFrequency is in its sidecar"
        remedy = "add ImagingFrequency (MHz) or MagneticFieldStrength (T): ppm cannot be computed without"
        return [*problems, Problem.of(scan, file, cause, remedy)]
    if frequency is not None and not 0 < frequency < HIGHEST_MHZ:
        cause = f"ImagingFrequency is {frequency:g}, which no scanner has in MHz (is it in Hz?)"
        return [*problems, Problem.of(scan, file, cause, "write it in MHz, such as 123.2")]
    if field is not None and not 0 < field < STRONGEST_TESLA:
        cause = f"MagneticFieldStrength is {field:g}, which no scanner has in tesla"
        return [*problems, Problem.of(scan, file, cause, "write it in tesla, such as 3")]
    if frequency is not None and field is not None:
        expected = GYROMAGNETIC_RATIO * field
        if abs(frequency - expected) > CONTRADICTION * expected:
            cause = (
                f"ImagingFrequency is {frequency:g} MHz, but MagneticFieldStrength {field:g} T gives {expected:.4g} MHz"
            )
            return [*problems, Problem.of(scan, file, cause, "correct the field that is wrong")]
    return problems


def _check_same_number(scan, key):
    """Where the files of a scan state a field, they must state the same number."""
    problems, first = [], None
    for path in scan.files:
        value = scan.sidecars.get(path.name, {}).get(key)
        if value is None:
            continue
        if as_number(value) is None:
            cause = f"{key} is {value!r}, which is not a number"
            problems.append(Problem.of(scan, path.name, cause, "write one number into the sidecar"))
        elif first is None:
            first = path, value
        elif not math.isclose(value, first[1], rel_tol=1e-4):
            cause = f"{key} is {value}, where {first[0].name} has {first[1]}"
            problems.append(Problem.of(scan, path.name, cause, "correct the sidecar that is wrong"))
    return problems


def _check_sidecars(scan):
    """What the sidecars of one scan's files say must agree, and fit the files."""
    problems = []
    for path in scan.files:
        sidecar = scan.sidecars.get(path.name, {})
        if not sidecar:
            remedy = "add it: what other files' sidecars say is taken for this one as well"
            problems.append(Problem.of(scan, path.name, "no sidecar belongs to it", remedy, "warning"))
        number = as_number(sidecar.get("EchoNumber"))
        if number is not None and "_echo-" in path.name and number != echo_number(path):
            cause = f"EchoNumber is {number:g} in its sidecar"
            problems.append(Problem.of(scan, path.name, cause, "see whether echoes were exchanged", "warning"))
    problems += _check_same_value(scan, "Manufacturer", "error", "correct it: the sign of the phase depends on it")
    for key in SAME_IN_ALL_FILES:
        problems += _check_same_value(scan, key, "warning", "see whether the files are of one scan")
    return problems + _check_kinds(scan)


def _check_same_value(scan, key, severity, remedy):
    found = {}
    for path in scan.files:
        value = scan.sidecars.get(path.name, {}).get(key)
        if value is not None:
            found.setdefault(one_line(repr(value)), path)
    if len(found) < 2:
        return []
    (first, of_first), (other, of_other), *_ = found.items()
    cause = f"{key} is {other}, where {of_first.name} has {first}"
    return [Problem.of(scan, of_other.name, cause, remedy, severity)]


def _check_kinds(scan):
    """A magnitude's sidecar must not be a phase's, nor the other way round."""
    problems = []
    for part, other in (("magnitude", "phase"), ("phase", "magnitude")):
        for path in scan.parts.get(part, ()):
            sidecar = scan.sidecars.get(path.name, {})
            kinds = sidecar.get("ImageType")
            kinds = {str(kind).upper()[:1] for kind in kinds[2:]} if isinstance(kinds, list) else set()
            cause = ""
            if KINDS[other] in kinds and KINDS[part] not in kinds:
                cause = f"ImageType {one_line(str(sidecar['ImageType']))} is that of a {other}"
            elif part == "magnitude" and sidecar.get("Units") == "rad":
                cause = "Units is 'rad', which is that of a phase"
            if cause:
                remedy = "see whether the magnitude and phase files were exchanged"
                problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems


def _summarize(scan):
    """Read each file once; return the summaries by path, and the problems of those that cannot be read."""
    summaries, problems = {}, []
    for path in scan.files:
        try:
            summaries[path] = summarize_image(path)
        except UnreadableImageError as error:
            problems.append(Problem.of(scan, path.name, error.cause, error.remedy))
    return summaries, problems


def _check_grids(scan, summaries):
    """All images must be 3-D, with a usable affine, on the grid that most of them have."""
    problems = []
    for path, summary in summaries.items():
        wrong = _grid_fault(summary)
        if wrong:
            problems.append(Problem.of(scan, path.name, *wrong))
    if problems or not summaries:
        return problems
    reference = _commonest_grid(summaries)
    for path, summary in summaries.items():
        difference = _grid_difference(summary, summaries[reference])
        if difference:
            cause = f"{difference} {reference.name}"
            problems.append(Problem.of(scan, path.name, cause, "convert the scan again from its source"))
    return problems + _check_forms(scan, summaries, reference)


def _check_forms(scan, summaries, reference):
    """The headers must tell the direction of B0 and the size of the voxels without contradiction."""
    found = {}
    for path, summary in summaries.items():
        for fault in _form_faults(summary):
            found.setdefault(fault, []).append(path)
    problems = []
    for (cause, remedy, severity), paths in found.items():
        problems.append(_of_files(scan, paths, cause, remedy, severity))
    if any(problem.severity == "error" for problem in problems):
        return problems
    for path, summary in summaries.items():
        turn = turn_between(summary.scanner.affine, summaries[reference].scanner.affine)
        if turn > MOST_TURN:
            cause = f"its {summary.scanner} turns B0 by {turn:.3g}° against that of {reference.name}"
            problems.append(Problem.of(scan, path.name, cause, "convert the scan again from its source"))
    return problems


def _form_faults(summary):
    """What is wrong with an image's forms: cause, remedy and severity of each fault."""
    affines = [form.affine for form in summary.forms if spans_space(form.affine)]
    turn = turn_between(*affines) if len(affines) == 2 else 0
    marked = [form for form in summary.forms if form.code == SCANNER]
    faults = []
    if len(marked) == 2 and turn > MOST_TURN:
        cause = f"sform and qform both say that they are the scanner's (code 1), and differ by {turn:.3g}°"
        remedy = "set the code of the form that was turned to 2 (aligned), or convert the scan again: B0 depends on it"
        faults.append((cause, remedy, "error"))
    if not summary.forms:
        cause = "the header has no orientation (sform and qform codes are 0): B0 is taken along the third axis"
        faults.append((cause, "convert the scan again with its orientation if it is not axial", "warning"))
    elif not marked:
        apart = f", and the {summary.forms[1]} turns it by {turn:.3g}°" if turn > MOST_TURN else ""
        cause = f"B0 is taken from the {summary.scanner}, since no form of the header has code 1 (scanner)"
        remedy = "nothing needs doing if the head was not turned since the scan; else convert the scan again"
        faults.append((cause + apart, remedy, "warning"))
    return faults + _size_faults(summary)


def _size_faults(summary):
    """The sform states the voxel size once more."""
    sform = next((form for form in summary.forms if form.name == "sform"), None)
    if sform is None:
        return []
    sizes = voxel_size_of(sform.affine)
    if np.allclose(sizes, summary.voxel_size, rtol=SAME_SIZE, atol=0):
        return []
    by_sform, by_pixdim = ("×".join(f"{size:.4g}" for size in stated) for stated in (sizes, summary.voxel_size))
    cause = f"voxels of {by_sform} mm by its {sform}, and of {by_pixdim} mm by pixdim"
    if summary.scanner.name == "sform":
        return [(cause, "correct the one that is wrong (sform or pixdim), or convert the scan again", "error")]
    remedy = f"nothing needs doing if that form leads to a template: the {summary.scanner.name} is used"
    return [(cause, remedy, "warning")]


def _grid_fault(summary):
    """Cause and remedy of a grid that cannot be worked on, or None."""
    if len(summary.shape) != 3:
        cause = f"the image is {len(summary.shape)}-D ({_shape(summary)}), as if echoes were stacked"
        return cause, "BIDS has one 3-D file for each echo: split it (fslsplit, mrconvert)"
    if not all(size > 0 and math.isfinite(size) for size in summary.voxel_size):
        return f"the header gives voxels of {_listed(summary.voxel_size)} mm", "convert the scan again"
    if not np.isfinite(summary.affine).all() or not spans_space(summary.affine):
        return "the affine in the header is singular, so that voxels have no place", "convert the scan again"
    if not spans_space(summary.scanner.affine):
        return f"its {summary.scanner} holds no rotation, so that B0 has no direction", "convert the scan again"
    return None


def _shape(summary):
    return "×".join(str(size) for size in summary.shape)


def _commonest_grid(summaries):
    """Path of the first image whose grid the most images share."""
    return max(
        summaries,
        key=lambda path: sum(not _grid_difference(summaries[path], other) for other in summaries.values()),
    )


def _grid_difference(summary, reference):
    """Say how a grid differs from another, for the other's name to follow; empty if the grids coincide."""
    if summary.shape != reference.shape:
        return f"{_shape(summary)} voxels, against {_shape(reference)} in"
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in summary.shape))])
    shift = np.linalg.norm((corners @ (summary.affine - reference.affine).T)[:, :3], axis=1).max()
    if shift > SAME_PLACE * voxel_size_of(reference.affine).min():
        return f"the affine puts its voxels up to {shift:.3g} mm away from those of"
    return ""


def _check_values(scan, summaries):
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
    """Judge NaN and infinite voxels by the echo's other image: where that has signal, data are missing."""
    where = summaries[path].not_finite
    cause = f"{where.size} voxels are NaN or infinite"
    partner = next((p for p in scan.parts[PARTNER[part]] if echo_number(p) == echo_number(path)), None)
    if partner not in summaries or summaries[partner].shape != summaries[path].shape:
        return Problem.of(scan, path.name, cause, "convert the scan again")
    values = read_image(partner)[2].ravel()[where]
    inside = np.count_nonzero(np.isfinite(values) & (values != 0))
    if inside:
        cause += f", {inside} of them where {partner.name} has signal: NaNs inside the brain"
        return Problem.of(scan, path.name, cause, "convert the scan again, or set the voxels outside the brain to 0")
    remedy = "nothing needs doing if that is the background"
    return Problem.of(scan, path.name, f"{cause}, all without signal", remedy, "warning")


def _check_identical(scan, summaries):
    """No two images of a scan have the same values."""
    problems, seen = [], {}
    for path, summary in summaries.items():
        if not summary.minimum < summary.maximum:
            continue  # a constant image has a problem of its own
        first = seen.setdefault((summary.shape, summary.minimum, summary.maximum, summary.checksum), path)
        if first is not path:
            cause = f"its values are those of {first.name}"
            problems.append(Problem.of(scan, path.name, cause, "copy or convert the right image to this name"))
    return problems


def _saturated_share(summary):
    return summary.n_at_maximum / summary.n_nonzero if summary.n_nonzero else 0.0


def _check_saturation(scan, summaries):
    """A magnitude that was cut off at its maximum has many voxels there."""
    cut = [
        path
        for path in scan.magnitude
        if path in summaries
        and summaries[path].minimum < summaries[path].maximum
        and not summaries[path].is_binary
        and summaries[path].n_at_maximum >= SATURATED_VOXELS
        and _saturated_share(summaries[path]) > SATURATED_SHARE
    ]
    if not cut:
        return []
    worst = max(cut, key=lambda path: _saturated_share(summaries[path]))
    cause = (
        f"{summaries[worst].n_at_maximum} voxels ({100 * _saturated_share(summaries[worst]):.2g} %) have the maximum "
        f"{summaries[worst].maximum:g}, as if brighter ones had been cut off"
    )
    remedy = "scan with less gain, or convert the scan again: R2* and the weights are wrong there"
    return [Problem.of(scan, _listed(path.name for path in cut), cause, remedy, "warning")]


def _check_phase_encoding(scan, summaries):
    """The phase of all echoes together must be in an encoding that is known; returns it, and the problems."""
    units = {path.name: scan.sidecars.get(path.name, {}).get("Units") for path in scan.phase}
    if len({repr(unit) for unit in units.values()}) > 1:
        listed = ", ".join(f"{name} {one_line(repr(unit))}" for name, unit in units.items())
        cause = f"Units differ between the echoes: {listed}"
        return None, [Problem.of(scan, scan.phase[0].name, cause, "correct the sidecars")]
    readable = [path for path in scan.phase if path in summaries and summaries[path].minimum < summaries[path].maximum]
    if not readable:
        return None, []
    encoding, fault = _decoded(scan, [summaries[path] for path in readable])
    if fault is None:
        extremes = [(summaries[path].minimum, summaries[path].maximum) for path in readable]
        span = encoding.scale * (max(high for _, high in extremes) - min(low for low, _ in extremes))
        return encoding, [] if span > WRAPPED_SPAN else [_narrow_phase(scan, span)]
    alone = [path for path in readable if _decoded(scan, [summaries[path]])[1]]
    names = _listed(path.name for path in alone or readable)
    if len(alone) < len(readable) and _ranges_differ(readable, summaries):
        fault = f"{fault} ({_stored_ranges(readable, summaries)})"
    return None, [Problem.of(scan, names, fault, "correct the images or their sidecars")]


def _stored_ranges(paths, summaries):
    """Say what range each echo's image has, as in "echo 1 is stored 0…4095, echo 2 -4096…4094"."""
    verbs = ["is stored ", *([""] * (len(paths) - 1))]
    return ", ".join(
        f"echo {echo_number(path)} {verb}{summaries[path].minimum:.4g}…{summaries[path].maximum:.4g}"
        for path, verb in zip(paths, verbs, strict=True)
    )


def _ranges_differ(paths, summaries):
    ends = np.array([(summaries[path].minimum, summaries[path].maximum) for path in paths])
    return bool((np.ptp(ends, axis=0) > OTHER_RANGE * np.ptp(ends, axis=1).max()).any())


def _narrow_phase(scan, span):
    cause = f"the phase of all echoes spans {span:.3g} rad of the 6.28 that wrapped phase has, as if it had been scaled"
    remedy = "nothing needs doing if it is masked and hardly varies; else convert the images again"
    return Problem.of(scan, scan.phase[0].name, cause, remedy, "warning")


def _decoded(scan, summaries):
    """Encoding of phase with these ranges, or why it cannot be decoded."""
    values = [[s.minimum, s.maximum, s.minimum if s.fraction is None else s.fraction] for s in summaries]
    try:
        _, encoding = decode_phase(np.array(values), units=scan.units, manufacturer=scan.manufacturer, echo_axis=0)
    except PhaseEncodingError as error:
        return None, str(error).rstrip(".")
    return encoding, None


def _check_stored_alike(scan, summaries, encoding, blocks):
    """The phase of each echo must be stored as that of all echoes together was taken to be."""
    varies = all(summaries[path].minimum < summaries[path].maximum for path in scan.phase)
    if encoding is None or blocks.phase is None or not _rising(scan.echo_times) or not varies:
        return []
    bounds = phase_scale(blocks.magnitude, blocks.phase, scan.echo_times)
    if odd := _stored_otherwise(scan, summaries, encoding, bounds):
        cause = f"the phase of the echoes is not stored alike: {_stored_ranges(scan.phase, summaries)}"
        remedy = "convert the scan again, or write the scale of each into its header (scl_slope, scl_inter)"
        return [Problem.of(scan, _listed(path.name for path in odd), cause, remedy)]
    problems = []
    if encoding == BOTH_RADIANS:
        cause = f"{_stored_ranges(scan.phase, summaries)}, which are the same modulo 2π"
        remedy = "nothing needs doing if they are radians; if integers were scaled there, one range is half a turn off"
        problems.append(Problem.of(scan, scan.phase[0].name, cause, remedy, "warning"))
    for (earlier, later), lowest, highest in zip(pairwise(scan.phase), *bounds, strict=True):
        if lowest > LOST_FACTOR or highest < 1 / LOST_FACTOR:
            times = lowest if lowest > 1 else highest
            cause = f"its phase varies {times:.2g} times as much as {earlier.name} and both EchoTimes let expect"
            remedy = "see whether one of the two was scaled, or has the wrong EchoTime"
            problems.append(Problem.of(scan, later.name, cause, remedy, "warning"))
    return problems


def _stored_otherwise(scan, summaries, encoding, bounds):
    """Echoes whose phase is not in the encoding that was found for all."""
    rounded = [path for path in scan.phase if encoding.scale == 1 and summaries[path].fraction is None]
    if rounded or not _ranges_differ(scan.phase, summaries):
        return rounded
    # An encoding that an echo's range alone would have, and what it makes of the echo's scale.
    alone = [_decoded(scan, [summaries[path]])[0] or encoding for path in scan.phase]
    scales = np.array([own.scale / encoding.scale for own in alone])
    certain = [
        path
        for path, own in zip(scan.phase, alone, strict=True)
        if _turns_elsewhere(summaries[path], encoding) or (own.scale != encoding.scale and _fills(summaries[path], own))
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


class _Blocks:
    """The middle of a scan's echoes: magnitude in the images' unit and phase in radians, echoes first.

    Either is None where it cannot be had.
    """

    def __init__(self, scan, summaries, encoding):
        parts = {part: [summaries[path].block for path in paths] for part, paths in scan.parts.items()}
        self.magnitude = self.phase = None
        if len({len(blocks) for blocks in parts.values()}) != 1:
            return
        if scan.real:
            signal = np.array(parts["real"]) + 1j * np.array(parts["imaginary"])
            self.magnitude, self.phase = np.abs(signal), np.angle(signal)
            return
        self.magnitude = np.clip(np.array(parts["magnitude"]), 0, None)
        if encoding is not None:
            self.phase = encoding.radians(np.array(parts["phase"]))


def _check_order_of_magnitudes(scan, blocks):
    """The magnitude decays from echo to echo."""
    if blocks.magnitude is None:
        return []
    paths, means = scan.magnitude or scan.real, blocks.magnitude.mean(axis=(1, 2, 3))
    problems = []
    for (path, mean), (following, next_mean) in pairwise(zip(paths, means, strict=True)):
        if next_mean > (1 + RISE) * mean:
            cause = f"its magnitude is {100 * (next_mean / mean - 1) if mean else math.inf:.0f} % above {path.name}'s"
            remedy = "see whether echoes, or their EchoTime, were exchanged"
            problems.append(Problem.of(scan, following.name, cause, remedy, "warning"))
    return problems


def _check_decay(scan, blocks):
    """No echo stands out of the decay that the others have."""
    if blocks.magnitude is None or not _rising(scan.echo_times):
        return []
    inner, problems = (scan.magnitude or scan.real)[1:-1], []
    for path, step in zip(inner, decay_steps(blocks.magnitude, scan.echo_times), strict=True):
        if abs(step) > DECAY_STEP:
            cause = f"its magnitude is {math.exp(step):.2g} times what the echoes before and after it let expect"
            remedy = "see whether one of the three was scaled, or has the wrong EchoTime: R2* and the weights are wrong"
            problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems


def _check_noise(scan, blocks):
    """The phase of no echo is noise where that of another is not."""
    if blocks.phase is None:
        return []
    cause = "its phase is noise, and that of other echoes is not"
    remedy = "convert that echo again, or remove it if there is no signal so late"
    paths = scan.phase or scan.real
    return [
        Problem.of(scan, paths[echo].name, cause, remedy, "warning")
        for echo in noise_echoes(blocks.magnitude, blocks.phase)
    ]


def _check_exchange(scan, summaries):
    """Phase wraps and its noise fills the range: neighbours jump, which a magnitude's do not."""
    problems = []
    for magnitude in scan.magnitude:
        phase = next((path for path in scan.phase if echo_number(path) == echo_number(magnitude)), None)
        if phase is None:
            continue
        both = summaries[magnitude], summaries[phase]
        jumps = [jump_share(s.block, s.minimum, s.maximum) for s in both]
        if all(s.minimum < s.maximum for s in both) and jumps[0] > SWAPPED_JUMPS and jumps[1] < SWAPPED_JUMPS / 10:
            cause = f"neighbouring voxels jump as a phase's do, and those of {phase.name} do not"
            remedy = "see whether the magnitude and phase files were exchanged"
            problems.append(Problem.of(scan, magnitude.name, cause, remedy))
    return problems


def _check_alternating_voxels(scan, blocks):
    """Slices that alternate by half a turn come of chopping; voxels within a slice, of a shifted k-space."""
    if blocks.phase is None:
        return []
    axes = alternating_axes(blocks.magnitude[0], blocks.phase[0])
    if not axes:
        return []
    cause = (
        f"every second voxel along the {_named_axes(axes)} is turned by half a turn, as by slice chopping (GE) or by "
        "k-space whose centre was taken for its corner"
    )
    remedy = "undo it in all echoes: negate every second slice of the real and imaginary images (add π to the phase)"
    return [Problem.of(scan, (scan.phase or scan.real)[0].name, cause, remedy)]


def _check_parts(scan, summaries):
    """Real and imaginary parts have both signs, lie about a background of 0, and share one scale."""
    paths = (*scan.real, *scan.imaginary)
    if not paths or len(scan.real) != len(scan.imaginary):
        return []
    if unsigned := [path for path in paths if _is_unsigned(summaries[path])]:
        cause = (
            "no value is negative, and neighbours jump from end to end of the range, as if negative ones were wrapped"
        )
        return [_of_files(scan, unsigned, cause, "convert the scan again, to signed integers or to floats")]
    images = np.array([summaries[path].sample for path in paths], float)
    background = signal_background(images)
    if background is not None and background.is_off_zero.any():
        off = list(compress(paths, background.is_off_zero))
        level = background.level[background.is_off_zero][0]
        cause = f"its background lies at {level:.4g} and not at 0, as if the header had lost its intercept (scl_inter)"
        return [_of_files(scan, off, cause, RESTORE)]
    problems = _check_balance(scan, paths, images)
    if background is not None and background.noise.all():
        ratios = background.noise / np.median(background.noise)
        for path, ratio in zip(paths, ratios, strict=True):
            if not 1 / LOST_FACTOR < ratio < LOST_FACTOR:
                cause = f"its noise is {ratio:.2g} times that of the other images, as if it had been scaled"
                remedy = "see its scl_slope, or convert it again"
                problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems


def _check_balance(scan, paths, images):
    """Signals turn about 0, so that the images of a head hold both signs."""
    is_lopsided = np.array([_smaller_side(image) < LOPSIDED for image in images])
    real, imaginary = np.split(images, 2)
    offsets = _offsets(real + 1j * imaginary, scan.echo_times)
    cause = "its values have one sign, or nearly so, as if the header had lost its intercept (scl_inter)"
    is_off = is_lopsided & (offsets > OFFSET * np.percentile(np.abs(images), 99, axis=1))
    if is_off.any():
        return [_of_files(scan, list(compress(paths, is_off)), cause, RESTORE)]
    if not is_lopsided.all():
        return []  # a phase near 0 makes one of the parts positive, at early echoes
    if len(real) > 1 and (images == 0).mean() < MASKED:
        return [_of_files(scan, paths, cause, RESTORE)]
    remedy = f"nothing needs doing if the phase hardly varies so early; else {RESTORE}"
    return [_of_files(scan, paths, cause, remedy, "warning")]


def _offsets(signal, echo_times):
    """What was added to each real and imaginary image, to all of them or to one echo; 0 where it cannot be told."""
    if not _rising(echo_times):
        return np.zeros(2 * len(signal))
    common, own = common_offset(signal, echo_times), echo_offsets(signal, echo_times)
    alternatives = np.array([np.full(len(signal), 0 if common is None else common), own])
    return np.hstack([np.abs(alternatives.real), np.abs(alternatives.imag)]).max(axis=0)


def _is_unsigned(summary):
    """Negative values that lost their sign lie at the other end of the range: neighbours jump there and back."""
    inside = np.where(summary.block == 0, np.nan, summary.block)
    is_one_sided = summary.minimum >= 0 or summary.maximum <= 0
    return is_one_sided and jump_share(inside, summary.minimum, summary.maximum) > SWAPPED_JUMPS


def _smaller_side(values):
    """Share of the values on the side of 0 that has fewer; a half if all are 0."""
    sides = [np.count_nonzero(values < 0), np.count_nonzero(values > 0)]
    return min(sides) / sum(sides) if any(sides) else 0.5


def _of_files(scan, paths, cause, remedy, severity="error"):
    """One problem that several files have."""
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return Problem.of(scan, f"{paths[0].name}{others}", cause, remedy, severity)


def _check_mirrored(scan, blocks):
    """All echoes see the same head, the same way round."""
    phase = None
    if blocks.phase is not None and _rising(scan.echo_times):
        phase = mirrored_phase(blocks.magnitude, blocks.phase, scan.echo_times)
    magnitude = None if blocks.magnitude is None else mirrored_magnitude(blocks.magnitude)
    remedy = "convert that echo again: its voxels lie in another order than its header says"
    problems = []
    for kind, found, paths in (("phase", phase, scan.phase), ("magnitude", magnitude, scan.magnitude)):
        if found is not None:
            cause = f"its {kind} fits that of the other echoes when it is mirrored along its {_named_axes(found.axes)}"
            problems.append(Problem.of(scan, (paths or scan.real)[found.echo].name, cause, remedy, "warning"))
    return problems


def _named_axes(axes):
    named = " and ".join(("first", "second", "third")[axis] for axis in axes)
    return f"{named} {'axis' if len(axes) == 1 else 'axes'}"


def _rising(times):
    return None not in times and all(a < b for a, b in pairwise(times))


def _check_readout(scan, blocks, summaries):
    """Even and odd echoes of a bipolar readout lie on two lines; returns by how much, and a warning."""
    times = scan.echo_times
    if blocks.phase is None or not _rising(times):
        return None, []
    shape = summaries[scan.files[0]].shape
    found = echo_alternation(blocks.magnitude, blocks.phase, times, shape)
    if found is None:
        return None, []
    ramp = max(found.ramp, key=abs)
    if abs(found.offset) < BIPOLAR_OFFSET and abs(ramp) < BIPOLAR_RAMP:
        return found, []
    cause = (
        f"even echoes depart from the line through odd ones by {found.offset:.2g} rad, and by {ramp:.2g} rad from end "
        f"to end of the {_named_axes([found.ramp.index(ramp)])}, as with a bipolar readout"
    )
    remedy = "map it with --unwrapping spatial, which gives each echo an offset of its own"
    return found, [Problem.of(scan, "", cause, remedy, "warning")]


def _check_sign(scan, encoding, summaries):
    """Deep nuclei and veins are bright in a map if the sign is right; returns the asymmetry, and a warning."""
    from ..core.quality import coarse_mask, coarse_signal, quick_sign_check  # slow to import: not before it is needed

    sign, reason = default_sign(scan.manufacturer)
    reference = summaries[scan.files[0]]
    echoes = []
    for pair in zip(scan.real or scan.magnitude, scan.imaginary or scan.phase, strict=True):
        first, second = (np.nan_to_num(read_image(path)[2], posinf=0, neginf=0) for path in pair)
        if scan.real:
            signal = first + 1j * apply_sign(second, sign)
        else:
            signal = first * np.exp(1j * apply_sign(encoding.radians(second), sign))
        coarse, voxel_size = coarse_signal(signal, reference.voxel_size)
        echoes.append(coarse)
    signal, b0_dir = np.stack(echoes, axis=-1), b0_direction(reference.scanner.affine)
    mask = None
    if scan.brain_mask is not None:
        mask = coarse_mask(read_image(scan.brain_mask)[2] != 0, reference.voxel_size)
    found = quick_sign_check(signal, scan.echo_times, voxel_size, b0_dir=b0_dir, mask=mask)
    if not found.looks_wrong:
        return found.asymmetry, []
    cause = (
        f"in a coarse map dark values reach further than bright ones (skewness {found.asymmetry:+.2f}), as if the "
        f"phase had the wrong sign ({reason})"
    )
    remedy = "make a map, and give --phase-sign if deep nuclei are dark in it"
    return found.asymmetry, [Problem.of(scan, "", cause, remedy, "warning")]


def _check_brain_mask(scan, summaries):
    """The user's mask must lie on the scan's grid, hold something, and say of each voxel yes or no."""
    name = scan.brain_mask.name
    try:
        mask = summarize_image(scan.brain_mask)
    except UnreadableImageError as error:
        return [Problem.of(scan, name, error.cause, error.remedy)]
    remedy = "make the mask on the scan's own grid, or remove it to have one made"
    if mask.n_nonzero == 0 or mask.not_finite.size:
        return [Problem.of(scan, name, "the brain mask is empty or holds NaN", remedy)]
    if mask.n_nonzero < FEWEST_IN_MASK:
        cause = f"the brain mask holds no more than {mask.n_nonzero} voxels"
        return [Problem.of(scan, name, cause, "make it again, or remove it to have one made")]
    if not mask.is_binary:
        cause = f"the brain mask holds more values than two, from {mask.minimum:g} to {mask.maximum:g}"
        return [Problem.of(scan, name, cause, "threshold it: 0 outside, 1 inside")]
    if not summaries:
        return []
    reference = _commonest_grid(summaries)
    difference = _grid_difference(mask, summaries[reference])
    if difference:
        return [Problem.of(scan, name, f"{difference} {reference.name}", remedy)]
    if mask.n_nonzero == math.prod(mask.shape):
        cause = "the brain mask covers the whole image"
        remedy = "nothing needs doing if all of it is brain; else make the mask again, or remove it to have one made"
        return [Problem.of(scan, name, cause, remedy, "warning")]
    return []
