"""Files that a dataset names: whether they are there, not there, or listed without their
content.
"""

import os
from pathlib import Path

from .files import PathLike
from .problems import DatasetError

# What stands in a file's place until its content is fetched: of git-annex if it is unlocked, of Git
# LFS.
POINTERS = {b"/annex/objects/": "datalad get {path}", b"version https://git-lfs": "git lfs pull"}
LARGEST_POINTER = 32 * 2**10  # bytes, by git-annex's own rule
ANNEX = "annex/objects"  # in the target of a link that git-annex made


class MissingContentError(DatasetError):
    """A file is listed and its content is not here."""

    def __init__(self, path: PathLike, command: str = POINTERS[b"/annex/objects/"]) -> None:
        cause = "the file is listed but its content is not here"
        super().__init__(
            cause, f"fetch it with {command.format(path=path)}, or restore the link", path
        )


def require_content(path: PathLike) -> None:
    """Refuse a file that is listed without its content: it was meant to be used, and must not be
    passed over.

    Parameters
    ----------
    path : path-like
        A file or folder, which may well not be there.

    Raises
    ------
    MissingContentError
        If it, or a folder that it would lie in, is a link to what is not here; or if it is the
        pointer of git-annex or Git LFS to what was not fetched.
    """
    path = place = Path(path)
    while not is_listed(place) and place != place.parent:
        place = place.parent
    if place.is_symlink() and not place.exists():
        raise MissingContentError(place)
    if path.is_file() and path.stat().st_size <= LARGEST_POINTER and (command := _pointer(path)):
        raise MissingContentError(path, command)


def exists(path: PathLike) -> bool:
    """Tell whether there is a file or folder; arguments and errors as of `require_content`.

    Returns
    -------
    bool
        False if nothing has this name.
    """
    require_content(path)
    return Path(path).exists()


def is_listed(path: PathLike) -> bool:
    """Tell whether a name is there, be it without content."""
    return os.path.lexists(path)


def is_broken_folder_link(path: Path) -> bool:
    """Tell whether a link leads nowhere and may have led to a folder, as git-annex's never do.

    Parameters
    ----------
    path : pathlib.Path
        The link, or anything else.

    Returns
    -------
    bool
    """
    return (
        path.is_symlink() and not path.exists() and ANNEX not in Path(os.readlink(path)).as_posix()
    )


def _pointer(path):
    """What fetches the content that a file points to; None if it is no pointer, or cannot be
    read.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(max(map(len, POINTERS)))
    except OSError:  # who reads the file is told
        return None
    return next((command for mark, command in POINTERS.items() if start.startswith(mark)), None)
