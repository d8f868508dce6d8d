"""How the checks name files, axes and shapes."""

from ..problems import Problem


def comma_separated(values):
    """Values with commas between them."""
    return ", ".join(str(value) for value in values)


def written_shape(summary):
    """An image's shape as in ``64×64×40``."""
    return "×".join(str(size) for size in summary.shape)


def of_files(scan, paths, cause, remedy, severity="error"):
    """One problem that several files have."""
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return Problem.of(scan, f"{paths[0].name}{others}", cause, remedy, severity)


def named_axes(axes):
    """Axes of an image in words, as in ``first and third axes``."""
    named = " and ".join(("first", "second", "third")[axis] for axis in axes)
    return f"{named} {'axis' if len(axes) == 1 else 'axes'}"
