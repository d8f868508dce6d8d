"""A mask that the user brought."""

import math

from ..images import UnreadableImageError, summarize_image
from ..problems import Problem
from .grids import commonest_grid, grid_difference

FEWEST_IN_MASK = 27  # voxels


def check_brain_mask(scan, summaries):
    """The user's mask must lie on the scan's grid, hold something, and say of each voxel yes or
    no.
    """
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
        cause = (
            f"the brain mask holds more values than two, from {mask.minimum:g} to {mask.maximum:g}"
        )
        return [Problem.of(scan, name, cause, "threshold it: 0 outside, 1 inside")]
    if not summaries:
        return []
    reference = commonest_grid(summaries)
    difference = grid_difference(mask, summaries[reference])
    if difference:
        return [Problem.of(scan, name, f"{difference} {reference.name}", remedy)]
    if mask.n_nonzero == math.prod(mask.shape):
        cause = "the brain mask covers the whole image"
        remedy = (
            "nothing needs doing if all of it is brain; else make the mask again, or remove it to "
            "have one made"
        )
        return [Problem.of(scan, name, cause, remedy, "warning")]
    return []
