"""Check the brain mask that the user provides."""

import math
from collections.abc import Mapping
from pathlib import Path

from ..images import ImageSummary, UnreadableImageError, summarize_image
from ..problems import Problem
from ..scans import Scan
from .grids import commonest_grid, grid_difference

FEWEST_IN_MASK = 27  # voxels


def check_brain_mask(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[Problem]:
    """Check that the user's mask, if there is one, is binary, not empty and on the scan's grid."""
    if scan.brain_mask is None:
        return []
    name = scan.brain_mask.name
    try:
        mask = summarize_image(scan.brain_mask)
    except UnreadableImageError as error:
        return [Problem.of(scan, name, error.cause, error.remedy)]
    remedy = "make the mask on the grid of the scan, or remove it to have one made automatically"
    if mask.n_nonzero == 0 or mask.not_finite.size:
        return [Problem.of(scan, name, "the brain mask is empty or contains NaN", remedy)]
    if mask.n_nonzero < FEWEST_IN_MASK:
        cause = f"the brain mask has too few voxels ({mask.n_nonzero})"
        remedy = "make it again, or remove it to have one made automatically"
        return [Problem.of(scan, name, cause, remedy)]
    if not mask.is_binary:
        cause = f"the brain mask is not binary (values from {mask.minimum:g} to {mask.maximum:g})"
        remedy = "threshold it, so that it is 0 outside the brain and 1 inside"
        return [Problem.of(scan, name, cause, remedy)]
    if not summaries:
        return []
    reference = commonest_grid(summaries)
    difference = grid_difference(mask, summaries[reference])
    if difference:
        return [Problem.of(scan, name, f"{difference} {reference.name}", remedy)]
    if mask.n_nonzero == math.prod(mask.shape):
        cause = "the brain mask covers the whole image"
        remedy = (
            "no action is needed if all of it is brain; otherwise make the mask again, or remove "
            "it to have one made automatically"
        )
        return [Problem.of(scan, name, cause, remedy, "warning")]
    return []
