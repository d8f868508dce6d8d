"""Check that all images of a scan share a grid and that their headers give the direction of B0."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...core.dipole import rotation_between, spans_space
from ...core.grid import grid_shift, is_same_place, voxel_size_of
from ..forms import SCANNER
from ..images import ImageSummary
from ..incomplete import COMBINE
from ..problems import Problem
from ..scans import Scan
from ..volumes import VOXEL_SIZES, is_possible
from .wording import comma_separated, of_files, written_shape

MOST_ROTATION = 1  # degree between two forms that give one direction of B0
SAME_SIZE = 0.01  # of a voxel size, which rounding in headers changes
UNCOMBINED = "uncombined"
AGAIN = "convert the scan again"
AGAIN_FROM_SOURCE = "convert the scan again from its source"


def check_grids(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[Problem]:
    """Check that all images are 3-D, with a usable affine, on the grid that most of them have."""
    problems = []
    for path, summary in summaries.items():
        fault = grid_fault(summary)
        if fault and len(summary.shape) > 3:
            fault = _fault_of_volumes(scan, path, summaries) or fault
        if fault:
            problems.append(Problem.of(scan, path.name, *fault))
    if problems or not summaries:
        return problems
    reference = commonest_grid(summaries)
    for path, summary in summaries.items():
        difference = grid_difference(summary, summaries[reference])
        if difference:
            cause = f"{difference} {reference.name}"
            problems.append(Problem.of(scan, path.name, cause, AGAIN_FROM_SOURCE))
    return problems + _check_forms(scan, summaries, reference)


def _fault_of_volumes(scan, path, summaries):
    """Return cause and remedy of an image with several volumes that are not its echoes, or None."""
    shape = f"{len(summaries[path].shape)}-D ({written_shape(summaries[path])})"
    if _says_uncombined(scan, path):
        return f"the image is {shape}: its coils are not combined", COMBINE
    if path in scan.phase and _are_volumes(scan.magnitude, summaries):
        cause = (
            f"the image is {shape}, but the magnitude is 3-D: one combined magnitude for several "
            "phases, as if coils were not combined"
        )
        return cause, COMBINE
    if "_echo-" in path.name:
        cause = (
            f"the image is {shape}, but named as one echo: as if its volumes were coils that are "
            "not combined, or repeated measurements"
        )
        remedy = f"if they are coils, {COMBINE}; if they are repeats, name each as a run of its own"
        return cause, remedy
    return None


def _are_volumes(paths, summaries):
    """Check whether there are images of one part, all of them 3-D."""
    n_dimensions = {len(summaries[path].shape) for path in paths if path in summaries}
    return n_dimensions == {3}


def _says_uncombined(scan, path):
    """Return whether name or sidecar of an image say that it has one volume for each coil."""
    image_type = scan.sidecars.get(path.name, {}).get("ImageType", "")
    return UNCOMBINED in f"{path.name} {image_type}".casefold()


def _check_forms(scan, summaries, reference):
    """Check that the headers give the direction of B0 and the voxel size without contradiction."""
    paths_of_fault = {}
    for path, summary in summaries.items():
        for fault in _form_faults(summary):
            paths_of_fault.setdefault(fault, []).append(path)
    problems = []
    has_error = False
    for (cause, remedy, severity), paths in paths_of_fault.items():
        problems.append(of_files(scan, paths, cause, remedy, severity))
        has_error |= severity == "error"
    if has_error:
        return problems
    for path, summary in summaries.items():
        rotation = rotation_between(summary.scanner.affine, summaries[reference].scanner.affine)
        if rotation > MOST_ROTATION:
            cause = (
                f"its {summary.scanner} gives a direction of B0 that is rotated by {rotation:.3g}° "
                f"from that of {reference.name}"
            )
            problems.append(Problem.of(scan, path.name, cause, AGAIN_FROM_SOURCE))
    return problems


def _form_faults(summary):
    """Return cause, remedy and severity of each fault of an image's forms."""
    affines = []
    n_scanner_forms = 0
    for form in summary.forms:
        n_scanner_forms += form.code == SCANNER
        if spans_space(form.affine):
            affines.append(form.affine)
    rotation = rotation_between(*affines) if len(affines) == 2 else 0
    faults = []
    if n_scanner_forms == 2 and rotation > MOST_ROTATION:
        cause = (
            "sform and qform both claim to be in scanner coordinates (code 1), but differ by "
            f"{rotation:.3g}°"
        )
        remedy = (
            "set the code of the form that was rotated to 2 (aligned), or convert the scan again: "
            "the direction of B0 depends on it"
        )
        faults.append((cause, remedy, "error"))
    if not summary.forms:
        cause = (
            "the header has no orientation (sform and qform codes are 0), so B0 is assumed to be "
            "along the third axis"
        )
        remedy = "convert the scan again with its orientation if it is not axial"
        faults.append((cause, remedy, "warning"))
    elif n_scanner_forms == 0:
        cause = (
            f"the direction of B0 is taken from the {summary.scanner}, since no form of the header "
            "has code 1 (scanner)"
        )
        if rotation > MOST_ROTATION:
            cause += f", and the {summary.forms[1]} is rotated from it by {rotation:.3g}°"
        remedy = (
            "no action is needed if the image was not rotated after the scan; otherwise convert "
            "the scan again"
        )
        faults.append((cause, remedy, "warning"))
    if summary.unit.is_wrong:
        cause = (
            f"the header states {summary.unit.name} as its unit of space, in which voxels of "
            f"{_written_size(summary.voxel_size)} are impossible; they are read as mm"
        )
        remedy = "no action is needed if that is right; otherwise correct the header (xyzt_units)"
        faults.append((cause, remedy, "warning"))
    return faults + _size_faults(summary)


def _size_faults(summary):
    """Return the fault of an sform whose voxel size is not that of pixdim."""
    sforms = [form for form in summary.forms if form.name == "sform"]
    if not sforms:
        return []
    sform = sforms[0]
    sizes = voxel_size_of(sform.affine)
    if np.allclose(sizes, summary.voxel_size, rtol=SAME_SIZE, atol=0):
        return []
    cause = (
        f"the voxel size is {_written_size(sizes)} mm in its {sform}, but "
        f"{_written_size(summary.voxel_size)} mm in pixdim"
    )
    if summary.scanner.name == "sform":
        remedy = "correct the one that is wrong (sform or pixdim), or convert the scan again"
        return [(cause, remedy, "error")]
    remedy = (
        f"no action is needed if the sform maps to a template: the {summary.scanner.name} is used"
    )
    return [(cause, remedy, "warning")]


def _written_size(voxel_size):
    return "×".join(f"{size:.4g}" for size in voxel_size)


def grid_fault(summary: ImageSummary) -> tuple[str, str] | None:
    """Return cause and remedy of a grid that cannot be processed, or None."""
    if len(summary.shape) < 3:
        cause = f"the image is {len(summary.shape)}-D ({written_shape(summary)})"
        return cause, "QSM needs a volume: convert all slices of the scan to one 3-D file"
    if len(summary.shape) != 3:
        cause = (
            f"the image is {len(summary.shape)}-D ({written_shape(summary)}), as if echoes were "
            "stacked"
        )
        remedy = (
            "BIDS has one 3-D file for each echo: split it (fslsplit, mrconvert), or list the echo "
            "times of its volumes as EchoTime in the sidecar"
        )
        return cause, remedy
    voxel_size = np.array(summary.voxel_size)
    if not (np.isfinite(voxel_size) & (voxel_size > 0)).all():
        return f"the header states a voxel size of {comma_separated(summary.voxel_size)} mm", AGAIN
    if not is_possible(voxel_size):
        smallest, largest = VOXEL_SIZES
        unit = f" (stated in {summary.unit.name})" if summary.unit.name else ""
        cause = (
            f"the header gives voxels of {_written_size(voxel_size)} mm{unit}, but sizes of "
            f"{smallest:g} to {largest:g} mm are processed"
        )
        remedy = (
            "if the numbers are in metres or micrometres, state that unit in the header "
            "(xyzt_units); otherwise correct pixdim and the affine"
        )
        return cause, remedy
    if not np.isfinite(summary.affine).all() or not spans_space(summary.affine):
        return "the affine in the header is singular, so voxels have no position", AGAIN
    if not spans_space(summary.scanner.affine):
        return (
            f"its {summary.scanner} has no valid rotation, so the direction of B0 is undefined",
            AGAIN,
        )
    return None


def commonest_grid(summaries: Mapping[Path, ImageSummary]) -> Path:
    """Return the path of the first image whose grid most images share."""

    def n_same_grid(path):
        reference = summaries[path]
        differences = [grid_difference(reference, summary) for summary in summaries.values()]
        return differences.count("")

    return max(summaries, key=n_same_grid)


def grid_difference(summary: ImageSummary, reference: ImageSummary) -> str:
    """Describe how a grid differs from another, for the other image's name to follow.

    Returns
    -------
    str
        Such as ``6×5×3 voxels, but 6×5×4 in``; empty if the grids coincide.
    """
    if summary.shape != reference.shape:
        return f"{written_shape(summary)} voxels, but {written_shape(reference)} in"
    if not is_same_place(summary.shape, summary.affine, reference.affine):
        shift = grid_shift(summary.shape, summary.affine, reference.affine)
        return f"the affine puts its voxels up to {shift:.3g} mm away from those of"
    return ""
