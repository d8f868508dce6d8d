"""Check the brain mask that the user provides."""

import math
from collections.abc import Mapping
from pathlib import Path

from ..images import ImageSummary, UnreadableImageError, summarize_image
from ..problems import Problem
from ..scans import Scan
from .grids import commonest_grid, grid_difference, grid_fault

FEWEST_IN_MASK = 27  # voxels


def check_brain_mask(
    scan: Scan, summaries: Mapping[Path, ImageSummary]
) -> tuple[ImageSummary | None, list[Problem]]:
    """Check that the user's mask, if there is one, is binary, not empty and on the scan's grid.

    Returns
    -------
    mask : multiqsm.dataset.images.ImageSummary or None
        None if there is no mask, or if it cannot be read.
    problems : list of Problem
    """
    if scan.brain_mask is None:
        return None, []
    try:
        mask = summarize_image(scan.brain_mask)
    except UnreadableImageError as error:
        return None, [Problem.of(scan, scan.brain_mask.name, error.cause, error.remedy)]
    return mask, _mask_problems(scan, mask, summaries)


def mask_decisions(mask: ImageSummary | None) -> list[str]:
    """State how voxels of the mask that are not finite are read."""
    if mask is None or not mask.not_finite.size:
        return []
    return [f"{mask.not_finite.size} voxels of the brain mask are NaN or infinite: read as 0"]


def _mask_problems(scan, mask, summaries):
    name = scan.brain_mask.name
    remedy = "make the mask on the grid of the scan, or remove it to have one made automatically"
    if mask.n_nonzero == 0:
        cause = "the brain mask is empty"
        remedy = "make it again, or remove it to have one made automatically"
        return [Problem.of(scan, name, cause, remedy)]
    if mask.n_nonzero < FEWEST_IN_MASK:
        cause = f"the brain mask has too few voxels ({mask.n_nonzero})"
        remedy = "make it again, or remove it to have one made automatically"
        return [Problem.of(scan, name, cause, remedy)]
    if not mask.is_binary:
        cause = f"the brain mask is not binary (values from {mask.minimum:g} to {mask.maximum:g})"
        remedy = "threshold it, so that it is 0 outside the brain and 1 inside"
        return [Problem.of(scan, name, cause, remedy)]
    usable = {path: image for path, image in summaries.items() if grid_fault(image) is None}
    if not usable:
        return []
    reference = commonest_grid(usable)
    difference = grid_difference(mask, usable[reference])
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
