"""Locks between runs, which are released when their process ends, even if it is killed."""

import fcntl
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from ..dataset.files import PathLike
from ..dataset.problems import DatasetError


@contextmanager
def hold_subjects(output_dir: PathLike, labels: Iterable[str]) -> Iterator[None]:
    """Reserve subjects for this run; other runs may process other subjects into the same folder at
    the same time.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    labels : iterable of str
        Labels of the subjects, without ``sub-``.

    Raises
    ------
    DatasetError
        If another run has reserved one of them, or the file system does not support locks.
    """
    with _lock_file(Path(output_dir, "logs", "subjects.lock")) as stream:
        busy = []
        for label in sorted(set(labels)):
            if not _lock(stream, label, wait=False):
                busy.append(f"sub-{label}")
        if busy:
            raise DatasetError(
                f"{output_dir}: another run is processing {', '.join(busy)} into this folder",
                "wait until it has ended, or exclude these subjects with --participant-label",
            )
        yield


@contextmanager
def hold_work(work_dir: PathLike, names: Iterable[str]) -> Iterator[None]:
    """Reserve the intermediate files of items for this process.

    Waits while another process, such as a job that was presumed lost, is still working on them.

    Parameters
    ----------
    work_dir : path-like
        Folder of intermediate files.
    names : iterable of str
        Names of the items.
    """
    with _lock_file(Path(work_dir, "work.lock")) as stream:
        for name in sorted(names):  # a fixed order prevents deadlocks between processes
            if not _lock(stream, name, wait=False):
                print(f"waiting: another run is working on {name} in {work_dir}", file=sys.stderr)
                _lock(stream, name, wait=True)
        yield


@contextmanager
def _lock_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        yield stream


def _lock(stream, name, *, wait):
    """Lock the byte of a file that stands for a name; false if another process holds it.

    One open file is enough for any number of names.
    """
    position = int.from_bytes(sha256(name.encode()).digest()[:7])
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, position)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise DatasetError(
            f"{stream.name}: the file system does not support locks ({error}), so two runs could "
            "overwrite each other's results",
            "choose a folder on another file system",
        ) from error
    return True
