"""Check a scan's sidecars and images before any work, so that what is wrong has a name and a remedy."""

import gzip
import math
import zlib
from dataclasses import dataclass
from itertools import pairwise, permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np

from ..core.phase import GYROMAGNETIC_RATIO, PhaseEncodingError, decode_phase
from .scans import as_number, echo_number

LONGEST_ECHO_TIME = 1  # s
HIGHEST_MHZ = 10_000
STRONGEST_TESLA = 30
CONTRADICTION = 0.2
SAME_PLACE = 0.05  # of the smallest voxel side: corners of two grids closer than this coincide
PARTNER = {"magnitude": "phase", "phase": "magnitude", "real": "imaginary", "imaginary": "real"}
LONGEST_HEADER = 540  # bytes, of NIfTI-2
CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Problem:
    """Something about a scan that stops it (an error) or that its owner should know (a warning).

    Attributes
    ----------
    scan : str
        Label of the scan.
    file : str
        Name of the file; empty where the scan as a whole is meant.
    cause, remedy : str
        What is wrong, and what to do.
    severity : {'error', 'warning'}
        An error makes the scan unusable.
    """

    scan: str
    file: str
    cause: str
    remedy: str
    severity: str = "error"

    def __str__(self):
        place = f"{self.scan}: {self.file}" if self.file else self.scan
        return f"{place}: {self.cause}; {self.remedy}"


class UnreadableImageError(Exception):
    """An image cannot be read. `cause` and `remedy` are for the user."""

    def __init__(self, path, cause, remedy):
        super().__init__(f"{path.name}: {cause}; {remedy}")
        self.cause = cause
        self.remedy = remedy


@dataclass(frozen=True)
class ImageSummary:
    """What one complete reading of an image found.

    Attributes
    ----------
    shape : tuple of int
        As in the header.
    affine : numpy.ndarray
        4 by 4, voxel to mm.
    voxel_size : tuple of float
        In mm, as the header states it (nibabel takes 1 for a 0).
    is_oriented : bool
        False if the header has neither sform nor qform, so that the affine is a guess.
    minimum, maximum : float
        Over the finite voxels; NaN if there are none.
    fraction : float or None
        Some value that is not a whole number; None if all are whole, as integers are.
    not_finite : numpy.ndarray
        Flat indices of the voxels that are NaN or infinite.
    n_nonzero : int
        Number of voxels that are finite and not zero.
    is_binary : bool
        There is no value but 0 and one other.
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    voxel_size: tuple[float, ...]
    is_oriented: bool
    minimum: float
    maximum: float
    fraction: float | None
    not_finite: np.ndarray
    n_nonzero: int
    is_binary: bool


def summarize_image(path):
    """Read an image to its last byte.

    Parameters
    ----------
    path : path-like
        A NIfTI file, compressed or not. A compressed one is read past its last voxel, for the checksum.

    Returns
    -------
    ImageSummary
        Its grid and the range of its scaled values.

    Raises
    ------
    UnreadableImageError
        If the file is missing, empty, not NIfTI, truncated or damaged.
    """
    header, image, data = _read(Path(path))
    finite = np.isfinite(data)
    values = data if finite.all() else data[finite]
    fractions = values[values != np.rint(values)]
    return ImageSummary(
        shape=image.shape,
        affine=image.affine,
        voxel_size=tuple(header["pixdim"][1:4].tolist()),
        is_oriented=bool(image.header["sform_code"] > 0 or image.header["qform_code"] > 0),
        minimum=float(values.min()) if values.size else math.nan,
        maximum=float(values.max()) if values.size else math.nan,
        fraction=float(fractions[0]) if fractions.size else None,
        not_finite=np.flatnonzero(~finite),
        n_nonzero=int(np.count_nonzero(values)),
        is_binary=bool(values.size and ((values == 0) | (values == values.max())).all()),
    )


def _read(path):
    """Return the header as stored, the image and its scaled voxels."""
    if not path.exists():
        raise UnreadableImageError(
            path, "the file is listed but its content is not here", "fetch it (datalad get) or restore the link"
        )
    if path.stat().st_size == 0:
        raise UnreadableImageError(path, "the file is empty", "copy or convert it again")
    again = "copy it again, or convert the image again"
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as stream:
            image_class = _image_class(stream.read(LONGEST_HEADER))
            stream.seek(0)
            header = image_class.header_class.from_fileobj(stream, check=False)
            stream.seek(0)
            image = image_class.from_stream(stream)
            data = image.get_fdata(dtype=np.float32, caching="unchanged")
            while stream.read(CHUNK_BYTES):
                pass
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as error:
        raise UnreadableImageError(path, f"not a NIfTI file ({error})", again) from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UnreadableImageError(path, f"the file is truncated or damaged ({error})", again) from error
    return header, image, data


def _image_class(start):
    """Tell the two NIfTI formats by a file's first bytes."""
    for image_class in (nib.Nifti1Image, nib.Nifti2Image):
        if image_class.header_class.may_contain_header(start):
            return image_class
    raise nib.filebasedimages.ImageFileError("its first bytes are no header")


def check_scan(scan):
    """Check everything about a scan that can be known before processing.

    Every file is read completely, one at a time.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan.

    Returns
    -------
    list of Problem
        Errors and warnings; empty if all is well.
    """
    remedy = "nothing needs doing if that is right"
    problems = [Problem(scan.label, "", note, remedy, "warning") for note in scan.notes]
    problems += _check_echoes(scan)
    problems += _check_echo_times(scan)
    problems += _check_frequency(scan)
    summaries, unreadable = _summarize(scan)
    problems += unreadable
    problems += _check_grids(scan, summaries)
    problems += _check_values(scan, summaries)
    if scan.phase:
        problems += _check_phase_encoding(scan, summaries)
    if scan.brain_mask is not None:
        problems += _check_brain_mask(scan, summaries)
    return problems


def _check_echoes(scan):
    """Every part must have every echo; a gap in the echoes' numbers is worth a word."""
    of_echo = {part: {echo_number(path): path for path in paths} for part, paths in scan.parts.items()}
    present = set().union(*of_echo.values())
    problems = []
    for part, other in permutations(of_echo, 2):
        for echo in sorted(set(of_echo[other]) - set(of_echo[part])):
            cause = f"no {part} image of echo {echo} stands beside it"
            remedy = "add that file, or leave the echo out with --bids-filter-file"
            problems.append(Problem(scan.label, of_echo[other][echo].name, cause, remedy))
    gaps = sorted(set(range(1, max(present) + 1)) - present)
    if gaps and scan.suffix == "MEGRE":
        cause = f"there are echoes {_listed(sorted(present))}, but no echo {_listed(gaps)}"
        remedy = "add the files if they got lost; nothing needs doing if the echo was left out on purpose"
        problems.append(Problem(scan.label, "", cause, remedy, "warning"))
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
            problems.append(Problem(scan.label, path.name, *wrong))
        elif value is not None and not math.isclose(times.setdefault(echo, value), value, rel_tol=1e-4):
            cause = f"EchoTime {value} s, where another part of echo {echo} has {times[echo]} s"
            problems.append(Problem(scan.label, path.name, cause, "correct the sidecar that is wrong"))
    for (earlier, time), (later, following) in pairwise(sorted(times.items())):
        if following <= time:
            relation = "the same EchoTime as" if following == time else "a shorter EchoTime than"
            cause = f"echo {later} ({following} s) has {relation} echo {earlier} ({time} s)"
            remedy = "correct EchoTime in the sidecars: some may have been exchanged or copied"
            problems.append(Problem(scan.label, _file_of_echo(scan, later), cause, remedy))
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
        return [*problems, Problem(scan.label, file, cause, remedy)]
    if frequency is not None and not 0 < frequency < HIGHEST_MHZ:
        cause = f"ImagingFrequency is {frequency:g}, which no scanner has in MHz (is it in Hz?)"
        return [*problems, Problem(scan.label, file, cause, "write it in MHz, such as 123.2")]
    if field is not None and not 0 < field < STRONGEST_TESLA:
        cause = f"MagneticFieldStrength is {field:g}, which no scanner has in tesla"
        return [*problems, Problem(scan.label, file, cause, "write it in tesla, such as 3")]
    if frequency is not None and field is not None:
        expected = GYROMAGNETIC_RATIO * field
        if abs(frequency - expected) > CONTRADICTION * expected:
            cause = (
                f"ImagingFrequency is {frequency:g} MHz, but MagneticFieldStrength {field:g} T gives {expected:.4g} MHz"
            )
            return [*problems, Problem(scan.label, file, cause, "correct the field that is wrong")]
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
            problems.append(Problem(scan.label, path.name, cause, "write one number into the sidecar"))
        elif first is None:
            first = path, value
        elif not math.isclose(value, first[1], rel_tol=1e-4):
            cause = f"{key} is {value}, where {first[0].name} has {first[1]}"
            problems.append(Problem(scan.label, path.name, cause, "correct the sidecar that is wrong"))
    return problems


def _summarize(scan):
    """Read each file once; return the summaries by path, and the problems of those that cannot be read."""
    summaries, problems = {}, []
    for path in scan.files:
        try:
            summaries[path] = summarize_image(path)
        except UnreadableImageError as error:
            problems.append(Problem(scan.label, path.name, error.cause, error.remedy))
    return summaries, problems


def _check_grids(scan, summaries):
    """All images must be 3-D, with a usable affine, on the grid that most of them have."""
    problems = []
    for path, summary in summaries.items():
        wrong = _grid_fault(summary)
        if wrong:
            problems.append(Problem(scan.label, path.name, *wrong))
    if problems or not summaries:
        return problems
    reference = _commonest_grid(summaries)
    for path, summary in summaries.items():
        difference = _grid_difference(summary, summaries[reference])
        if difference:
            cause = f"{difference} {reference.name}"
            problems.append(Problem(scan.label, path.name, cause, "convert the scan again from its source"))
    if not summaries[reference].is_oriented:
        cause = "the header has no orientation (sform and qform codes are 0): B0 is taken along the third axis"
        remedy = "convert the scan again with its orientation if it is not axial"
        problems.append(Problem(scan.label, reference.name, cause, remedy, "warning"))
    return problems


def _grid_fault(summary):
    """Cause and remedy of a grid that cannot be worked on, or None."""
    if len(summary.shape) != 3:
        cause = f"the image is {len(summary.shape)}-D ({_shape(summary)}), as if echoes were stacked"
        return cause, "BIDS has one 3-D file for each echo: split it (fslsplit, mrconvert)"
    if not all(size > 0 and math.isfinite(size) for size in summary.voxel_size):
        return f"the header gives voxels of {_listed(summary.voxel_size)} mm", "convert the scan again"
    axes = summary.affine[:3, :3]
    if not np.isfinite(summary.affine).all() or np.linalg.matrix_rank(axes) < 3:
        return "the affine in the header is singular, so that voxels have no place", "convert the scan again"
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
    if shift > SAME_PLACE * np.linalg.norm(reference.affine[:3, :3], axis=0).min():
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
                problems.append(Problem(scan.label, path.name, *wrong))
            elif summaries[path].not_finite.size:
                problems.append(_not_finite_problem(scan, part, path, summaries))
    return problems


def _value_fault(part, summary):
    """Cause and remedy of values that carry nothing, or None."""
    if math.isnan(summary.minimum):
        return "not a single voxel is finite", "convert the scan again"
    if summary.minimum == summary.maximum:
        return f"every voxel is {summary.minimum:g}", "convert the scan again"
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
        return Problem(scan.label, path.name, cause, "convert the scan again")
    values = _read(partner)[2].ravel()[where]
    inside = np.count_nonzero(np.isfinite(values) & (values != 0))
    if inside:
        cause += f", {inside} of them where {partner.name} has signal: NaNs inside the brain"
        return Problem(scan.label, path.name, cause, "convert the scan again, or set the voxels outside the brain to 0")
    remedy = "nothing needs doing if that is the background"
    return Problem(scan.label, path.name, f"{cause}, all without signal", remedy, "warning")


def _check_phase_encoding(scan, summaries):
    """The phase of all echoes together must be in an encoding that is known."""
    units = {path.name: scan.sidecars.get(path.name, {}).get("Units") for path in scan.phase}
    if len(set(units.values())) > 1:
        cause = "Units differ between the echoes: " + ", ".join(f"{name} {unit!r}" for name, unit in units.items())
        return [Problem(scan.label, scan.phase[0].name, cause, "correct the sidecars")]
    readable = [path for path in scan.phase if path in summaries and summaries[path].minimum < summaries[path].maximum]
    fault = _encoding_fault(scan, [summaries[path] for path in readable])
    if fault is None:
        return []
    alone = [path for path in readable if _encoding_fault(scan, [summaries[path]])]
    names = _listed(path.name for path in alone or readable)
    return [Problem(scan.label, names, fault, "correct the images or their sidecars")]


def _encoding_fault(scan, summaries):
    """Say why phase with these ranges cannot be decoded; None if it can."""
    values = [[s.minimum, s.maximum, s.minimum if s.fraction is None else s.fraction] for s in summaries]
    if not values:
        return None
    try:
        decode_phase(np.array(values), units=scan.units, manufacturer=scan.manufacturer)
    except PhaseEncodingError as error:
        return str(error).rstrip(".")
    return None


def _check_brain_mask(scan, summaries):
    """The user's mask must lie on the scan's grid, hold something, and say of each voxel yes or no."""
    name = scan.brain_mask.name
    try:
        mask = summarize_image(scan.brain_mask)
    except UnreadableImageError as error:
        return [Problem(scan.label, name, error.cause, error.remedy)]
    remedy = "make the mask on the scan's own grid, or remove it to have one made"
    if mask.n_nonzero == 0 or mask.not_finite.size:
        return [Problem(scan.label, name, "the brain mask is empty or holds NaN", remedy)]
    if not mask.is_binary:
        cause = f"the brain mask holds more values than two, from {mask.minimum:g} to {mask.maximum:g}"
        return [Problem(scan.label, name, cause, "threshold it: 0 outside, 1 inside")]
    if not summaries:
        return []
    reference = _commonest_grid(summaries)
    difference = _grid_difference(mask, summaries[reference])
    return [Problem(scan.label, name, f"{difference} {reference.name}", remedy)] if difference else []
