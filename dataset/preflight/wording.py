"""How the checks name files, axes and shapes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..images import ImageSummary
from ..problems import Problem
from ..scans import Scan


def comma_separated(values: Iterable[object]) -> str:
    """Join values with commas.

    Examples
    --------
    >>> comma_separated([1, 3])
    '1, 3'
    """
    return ", ".join(map(str, values))


def comma_separated_names(paths: Iterable[Path]) -> str:
    """Join the names of files with commas."""
    return ", ".join(path.name for path in paths)


def written_shape(summary: ImageSummary) -> str:
    """Write an image's shape as in ``64×64×40``."""
    return "×".join(map(str, summary.shape))


def of_files(
    scan: Scan, paths: Sequence[Path], cause: str, remedy: str, severity: str = "error"
) -> Problem:
    """Return one problem that several files have, which names the first and counts the rest."""
    rest = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return Problem.of(scan, f"{paths[0].name}{rest}", cause, remedy, severity)


def named_axes(axes: Sequence[int]) -> str:
    """Name axes of an image.

    Examples
    --------
    >>> named_axes([0, 2])
    'first and third axes'
    """
    ordinals = ("first", "second", "third")
    names = " and ".join(ordinals[axis] for axis in axes)
    return f"{names} {'axis' if len(axes) == 1 else 'axes'}"
