"""Draw regions on a simulated scan, as a rater would."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from ...core.grid import voxel_size_of
from ...core.mask.shapes import erode
from ...simulation import head, phantom
from ...simulation.plan import ScanPlan
from ..files import PathLike
from ..outputs import bids_uri
from ..sidecars import write_sidecar
from .files import lookup_table, write_image, write_table
from .layout import drawn_path, raw_paths

# The true labels that each region consists of, left and right together; regions in the order of
# their own labels.
DRAWN_REGIONS = {
    "caudate_nucleus": ("left_caudate_nucleus", "right_caudate_nucleus"),
    "putamen": ("left_putamen", "right_putamen"),
    "globus_pallidus": ("left_globus_pallidus", "right_globus_pallidus"),
    "red_nucleus": ("left_red_nucleus", "right_red_nucleus"),
    "substantia_nigra": ("left_substantia_nigra", "right_substantia_nigra"),
    "thalamus": ("left_thalamus", "right_thalamus"),
    "csf": ("lateral_ventricle",),
    "splenium": ("splenium",),
}
TUBE_MARGIN = 3.0  # mm between a tube's wall and the region


def write_drawn_regions(
    output_dir: PathLike, plan: ScanPlan, labels: np.ndarray, mask: np.ndarray
) -> Path:
    """Write regions of interest as a rater would draw them, with their lookup table.

    Parameters
    ----------
    output_dir : path-like
        Root of the raw dataset.
    plan : multiqsm.simulation.plan.ScanPlan
        The scan that they are drawn on.
    labels : ndarray of int, shape (x, y, z)
        The scan's true labels.
    mask : ndarray of bool, shape (x, y, z)
        The scan's true mask.

    Returns
    -------
    pathlib.Path
        The label image. Of a head: deep grey nuclei, left and right together, the CSF of the
        lateral ventricles without its border in the plane, and the splenium. Of a phantom: the
        middle half of each tube without 3 mm at its wall.
    """
    path = drawn_path(output_dir, plan)
    is_phantom = plan.participant.model == "phantom"
    if is_phantom:
        drawn = _draw_tubes(labels, mask, voxel_size_of(plan.affine))
        rows = [row for row in lookup_table(plan) if row["susceptibility_ppm"] is not None]
    else:
        drawn = _draw_head(labels)
        rows = []
        for index, name in enumerate(DRAWN_REGIONS, start=1):
            rows.append({"index": index, "name": name})
    write_image(path, drawn, plan.affine)
    sources = [bids_uri(path, output_dir) for path in raw_paths(output_dir, plan).values()]
    regions = "Deep grey nuclei, CSF of the lateral ventricles and splenium of the corpus callosum"
    if is_phantom:
        regions = "Middle half of each tube"
    description = f"{regions}, as a rater would draw them: made from the true labels"
    write_sidecar(path, {"Description": description, "Sources": sources})
    write_table(drawn_path(output_dir, plan, extension=".tsv"), rows)
    return path


def _draw_head(labels):
    index_of = {name: index for index, name in head.label_names().items()}
    drawn = np.zeros(labels.shape, np.uint8)
    for number, (name, parts) in enumerate(DRAWN_REGIONS.items(), start=1):
        region = np.isin(labels, [index_of[part] for part in parts])
        if name == "csf":
            # Voxels on the border are mixed with tissue.
            region = ndimage.binary_erosion(
                region, ndimage.generate_binary_structure(2, 1)[..., None]
            )
        drawn[region] = number
    return drawn


def _draw_tubes(labels, mask, voxel_size):
    tubes = np.isin(labels, range(1, len(phantom.TUBE_SUSCEPTIBILITY) + 1)) & mask
    inner = erode(tubes, voxel_size, TUBE_MARGIN)
    slices = np.flatnonzero(inner.any(axis=(0, 1)))
    # Near its ends, a tube's field is not that of a long cylinder.
    quarter = slices.size // 4
    drawn = np.zeros(labels.shape, np.uint8)
    middle = (..., slices[quarter : slices.size - quarter])
    drawn[middle] = np.where(inner[middle], labels[middle], 0)
    return drawn
