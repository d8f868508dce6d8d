"""Check whether files are present, absent, or listed without content (git-annex, Git LFS)."""

import os
from pathlib import Path

from .files import PathLike
from .problems import DatasetError

# Until its content is fetched, an unlocked file of git-annex or a file of Git LFS is a short text.
# Here are the texts' distinctive parts, with the command that fetches the content.
POINTERS = {b"/annex/objects/": "datalad get {path}", b"version https://git-lfs": "git lfs pull"}
LARGEST_POINTER = 32 * 2**10  # bytes, as git-annex defines it
ANNEX = "annex/objects"  # part of the target of every link that git-annex makes


class MissingContentError(DatasetError):
    """A file is listed, but its content has not been fetched."""

    def __init__(self, path: PathLike, command: str = POINTERS[b"/annex/objects/"]) -> None:
        cause = "the file is listed, but its content is not available"
        super().__init__(
            cause, f"fetch it with {command.format(path=path)}, or restore the link", path
        )


def require_content(path: PathLike) -> None:
    """Raise an error if a file is listed without its content.

    Such a file was meant to be used. If it were treated as absent, results would change silently.

    Parameters
    ----------
    path : path-like
        A file or folder, which may also be absent.

    Raises
    ------
    MissingContentError
        If the path or one of its parent folders is a broken link, or if the file is a pointer of
        git-annex or Git LFS whose content has not been fetched.
    """
    path = Path(path)
    closest = path  # the path itself, or else the closest parent folder that is listed
    while not is_listed(closest) and closest != closest.parent:
        closest = closest.parent
    if closest.is_symlink() and not closest.exists():
        raise MissingContentError(closest)
    if path.is_file() and path.stat().st_size <= LARGEST_POINTER:
        command = _fetch_command(path)
        if command is not None:
            raise MissingContentError(path, command)


def exists(path: PathLike) -> bool:
    """Return whether a file or folder exists.

    Parameters
    ----------
    path : path-like
        A file or folder.

    Returns
    -------
    bool

    Raises
    ------
    MissingContentError
        If it is listed without its content; see `require_content`.
    """
    require_content(path)
    return Path(path).exists()


def is_listed(path: PathLike) -> bool:
    """Return whether a path is listed in its folder, with or without content."""
    return os.path.lexists(path)


def is_broken_folder_link(path: Path) -> bool:
    """Return whether a path is a broken link whose target may have been a folder.

    Links of git-annex do not count: it links files only.

    Parameters
    ----------
    path : pathlib.Path
        Any path.

    Returns
    -------
    bool
    """
    return (
        path.is_symlink() and not path.exists() and ANNEX not in Path(os.readlink(path)).as_posix()
    )


def _fetch_command(path):
    """Return the command that fetches a pointer's content; None if the file is no pointer."""
    try:
        with path.open("rb") as stream:
            start = stream.read(max(map(len, POINTERS)))
    except OSError:  # the error is reported by whoever needs the file's content
        return None
    for mark, command in POINTERS.items():
        if start.startswith(mark):
            return command
    return None
