"""State how the images of a scan were read, where other programs might read them otherwise."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ...core.scale import comfortable_scale
from ..images import ImageSummary
from ..scans import Scan
from ..values import counted, join_numbers

# A value that more of the voxels than this share in all echoes comes from a mask.
CONSTANT = 0.01


def image_decisions(summaries: Mapping[Path, ImageSummary]) -> list[str]:
    """State how shapes and units in the headers of a scan's images were read.

    Parameters
    ----------
    summaries : dict of pathlib.Path to multiqsm.dataset.images.ImageSummary
        Of the echoes, and of the user's mask.

    Returns
    -------
    list of str
        A sentence for each decision, with the number of images that it is about.
    """
    return counted_decisions(map(_reading, summaries.values()), len(summaries))


def scale_decisions(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[str]:
    """State whether magnitudes are multiplied by a power of two, to be safe to square."""
    largest = 0.0
    for path in scan.magnitude or (*scan.real, *scan.imaginary):
        if path in summaries:
            largest = max(largest, summaries[path].maximum)
    if comfortable_scale(largest) == 1:
        return []
    return [f"magnitudes, of up to {largest:.2g}, are multiplied by a power of two"]


def background_decisions(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[str]:
    """State which voxels of a scan count as background because they have no phase."""
    samples = []
    for path in scan.phase:
        sample = summaries[path].sample if path in summaries else None
        if sample is not None:
            samples.append(sample)
    decisions = []
    n_not_finite = max((summary.not_finite.size for summary in summaries.values()), default=0)
    if n_not_finite:
        decisions.append(
            f"NaN or infinite values, up to {counted(n_not_finite, 'voxel')} of an image: read as 0"
        )
    if len({sample.size for sample in samples}) != 1:
        return decisions
    stored = np.stack(samples, axis=-1)
    is_constant = (stored == stored[:, :1]).all(axis=1)
    values, counts = np.unique(stored[is_constant, 0], return_counts=True)
    if counts.size and counts.max() > CONSTANT * len(stored):
        percent = 100 * counts.max() / len(stored)
        decisions.append(
            f"{percent:.0f} % of the phase is {values[counts.argmax()]:g} in all echoes, as after "
            "masking: where this reaches the edge of the image, it is background"
        )
    return decisions


def _reading(summary: ImageSummary) -> list[str]:
    """Return what was decided about one image."""
    decisions = []
    n_dimensions = len(summary.stored_shape)
    if n_dimensions > len(summary.shape):
        stored = join_numbers(summary.stored_shape, "d", "×")
        decisions.append(f"stored as {stored}, read as {join_numbers(summary.shape, 'd', '×')}")
    unit = summary.unit
    if unit.is_wrong:
        decisions.append(f"positions are read in mm, although the header states {unit.name}")
    elif unit.name:
        decisions.append(f"positions in the header are in {unit.name}, converted to mm")
    return decisions


def counted_decisions(decisions_by_image: Iterable[Iterable[str]], n_images: int) -> list[str]:
    """Join equal decisions about several images, each with the number of images.

    Examples
    --------
    >>> counted_decisions([["masked"], ["masked"], []], 3)
    ['2 of 3 images: masked']
    """
    counts: dict[str, int] = {}
    for decisions in decisions_by_image:
        for decision in decisions:
            counts[decision] = counts.get(decision, 0) + 1
    sentences = []
    for decision, count in counts.items():
        scope = "all images" if count == n_images else f"{count} of {n_images} images"
        sentences.append(f"{scope}: {decision}")
    return sentences
