"""State how the images of a scan were read, where other programs might read them otherwise."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ..images import ImageSummary
from ..values import join_numbers


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
