"""Grids: all images of a scan lie in one place, and their headers tell the direction of B0."""

import math

import numpy as np

from ...core.dipole import rotation_between, spans_space
from ...core.grid import grid_shift, is_same_place, voxel_size_of
from ..forms import SCANNER
from ..problems import Problem
from .wording import comma_separated, of_files, written_shape

MOST_TURN = 1  # degree between two forms that are to give one direction of B0
SAME_SIZE = 0.01  # of a voxel size: what rounded headers make of one and the same


def check_grids(scan, summaries):
    """All images must be 3-D, with a usable affine, on the grid that most of them have."""
    problems = []
    for path, summary in summaries.items():
        wrong = grid_fault(summary)
        if wrong:
            problems.append(Problem.of(scan, path.name, *wrong))
    if problems or not summaries:
        return problems
    reference = commonest_grid(summaries)
    for path, summary in summaries.items():
        difference = grid_difference(summary, summaries[reference])
        if difference:
            cause = f"{difference} {reference.name}"
            problems.append(
                Problem.of(scan, path.name, cause, "convert the scan again from its source")
            )
    return problems + _check_forms(scan, summaries, reference)


def _check_forms(scan, summaries, reference):
    """The headers must tell the direction of B0 and the size of the voxels without
    contradiction.
    """
    found = {}
    for path, summary in summaries.items():
        for fault in _form_faults(summary):
            found.setdefault(fault, []).append(path)
    problems = []
    for (cause, remedy, severity), paths in found.items():
        problems.append(of_files(scan, paths, cause, remedy, severity))
    if any(problem.severity == "error" for problem in problems):
        return problems
    for path, summary in summaries.items():
        turn = rotation_between(summary.scanner.affine, summaries[reference].scanner.affine)
        if turn > MOST_TURN:
            cause = (
                f"its {summary.scanner} turns B0 by {turn:.3g}° against that of {reference.name}"
            )
            problems.append(
                Problem.of(scan, path.name, cause, "convert the scan again from its source")
            )
    return problems


def _form_faults(summary):
    """What is wrong with an image's forms: cause, remedy and severity of each fault."""
    affines = [form.affine for form in summary.forms if spans_space(form.affine)]
    turn = rotation_between(*affines) if len(affines) == 2 else 0
    marked = [form for form in summary.forms if form.code == SCANNER]
    faults = []
    if len(marked) == 2 and turn > MOST_TURN:
        cause = (
            "sform and qform both say that they are the scanner's (code 1), and differ by "
            f"{turn:.3g}°"
        )
        remedy = (
            "set the code of the form that was turned to 2 (aligned), or convert the scan again: "
            "B0 depends on it"
        )
        faults.append((cause, remedy, "error"))
    if not summary.forms:
        cause = (
            "the header has no orientation (sform and qform codes are 0): B0 is taken along the "
            "third axis"
        )
        faults.append(
            (cause, "convert the scan again with its orientation if it is not axial", "warning")
        )
    elif not marked:
        apart = f", and the {summary.forms[1]} turns it by {turn:.3g}°" if turn > MOST_TURN else ""
        cause = (
            f"B0 is taken from the {summary.scanner}, since no form of the header has code 1 "
            "(scanner)"
        )
        remedy = (
            "nothing needs doing if the head was not turned since the scan; else convert the scan "
            "again"
        )
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
    by_sform, by_pixdim = (
        "×".join(f"{size:.4g}" for size in stated) for stated in (sizes, summary.voxel_size)
    )
    cause = f"voxels of {by_sform} mm by its {sform}, and of {by_pixdim} mm by pixdim"
    if summary.scanner.name == "sform":
        return [
            (
                cause,
                "correct the one that is wrong (sform or pixdim), or convert the scan again",
                "error",
            )
        ]
    remedy = (
        f"nothing needs doing if that form leads to a template: the {summary.scanner.name} is used"
    )
    return [(cause, remedy, "warning")]


def grid_fault(summary):
    """Cause and remedy of a grid that cannot be worked on, or None."""
    if len(summary.shape) != 3:
        cause = (
            f"the image is {len(summary.shape)}-D ({written_shape(summary)}), as if echoes were "
            "stacked"
        )
        return cause, "BIDS has one 3-D file for each echo: split it (fslsplit, mrconvert)"
    if not all(size > 0 and math.isfinite(size) for size in summary.voxel_size):
        return (
            f"the header gives voxels of {comma_separated(summary.voxel_size)} mm",
            "convert the scan again",
        )
    if not np.isfinite(summary.affine).all() or not spans_space(summary.affine):
        return (
            "the affine in the header is singular, so that voxels have no place",
            "convert the scan again",
        )
    if not spans_space(summary.scanner.affine):
        return (
            f"its {summary.scanner} holds no rotation, so that B0 has no direction",
            "convert the scan again",
        )
    return None


def commonest_grid(summaries):
    """Path of the first image whose grid the most images share."""
    return max(
        summaries,
        key=lambda path: sum(
            not grid_difference(summaries[path], other) for other in summaries.values()
        ),
    )


def grid_difference(summary, reference):
    """Say how a grid differs from another, for the other's name to follow; empty if the grids
    coincide.
    """
    if summary.shape != reference.shape:
        return f"{written_shape(summary)} voxels, against {written_shape(reference)} in"
    if not is_same_place(summary.shape, summary.affine, reference.affine):
        shift = grid_shift(summary.shape, summary.affine, reference.affine)
        return f"the affine puts its voxels up to {shift:.3g} mm away from those of"
    return ""
