"""Locks between runs, which end with the process that holds them, however it ends."""

import fcntl
import sys
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from ..dataset.problems import DatasetError


@contextmanager
def hold_subjects(output_dir, labels):
    """Keep subjects to this run: others may process other subjects into the same folder at the same
    time.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    labels : iterable of str
        Of the subjects, without ``sub-``.

    Raises
    ------
    DatasetError
        If another run holds one of them, or the file system knows no locks.
    """
    with _lock_file(Path(output_dir, "logs", "subjects.lock")) as stream:
        busy = [label for label in sorted(set(labels)) if not _take(stream, label, wait=False)]
        if busy:
            named = ", ".join(f"sub-{label}" for label in busy)
            raise DatasetError(
                f"{output_dir}: another run is processing {named} into this folder",
                "wait until it has ended, or leave them out with --participant-label",
            )
        yield


@contextmanager
def hold_work(work_dir, names):
    """Keep the intermediate files of items to this process; waits while another, such as a job
    given up for lost, still works on them.

    Parameters
    ----------
    work_dir : path-like
        Folder of intermediate files.
    names : iterable of str
        The items.
    """
    with _lock_file(Path(work_dir, "work.lock")) as stream:
        for name in sorted(names):  # in one order, so that two never wait for each other
            if not _take(stream, name, wait=False):
                print(f"waiting: another run works on {name} in {work_dir}", file=sys.stderr)
                _take(stream, name, wait=True)
        yield


@contextmanager
def _lock_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        yield stream


def _take(stream, name, *, wait):
    """Lock the byte that stands for a name, so that any number of names needs one open file; false
    if it is taken.
    """
    place = int.from_bytes(sha256(name.encode()).digest()[:7])
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise DatasetError(
            f"{stream.name}: the file system does not lock files ({error}), so that two runs could "
            "spoil each other's "
            "results",
            "choose a folder on another file system",
        ) from error
    return True
