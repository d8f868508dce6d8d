"""What has been made, and of what: a completion record for each finished item, so that no run
makes it again.
"""

import json
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ..dataset.files import read_json, write_json
from ..dataset.sidecars import sidecar_path

COMPLETION_RECORDS = Path("logs", "finished")


def fingerprint(*values):
    """Digest of what a result depends on.

    Parameters
    ----------
    *values
        Dataclasses, dicts, sequences, arrays and scalars. A path stands for its file, by name, size
        and time of modification.

    Returns
    -------
    str
        Hexadecimal; the same in every process.
    """
    text = json.dumps([_described(value) for value in values], sort_keys=True, default=repr)
    return sha256(text.encode()).hexdigest()


def is_finished(output_dir, kind, label, expected):
    """Tell whether an item was finished as it would be now, and its files are still there.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    kind, label : str
        What was made, such as ``scans``, and of which.
    expected : str
        Its `fingerprint`.

    Returns
    -------
    bool
    """
    record = read_json(completion_record_path(output_dir, kind, label))
    files = record.get("Files")
    if record.get("Fingerprint") != expected or not isinstance(files, dict):
        return False
    return all(_size(Path(output_dir) / name) == size for name, size in files.items())


def write_completion_record(output_dir, kind, label, made_of, files, *, made_by):
    """Note that an item is finished.

    Parameters
    ----------
    output_dir, kind, label
        As of `is_finished`.
    made_of : str
        Its `fingerprint`, taken before it was made: what changed meanwhile makes the result stale.
    files : iterable of path-like
        The files that were written below `output_dir`; sidecars are found by themselves.
    made_by : str
        The software that made it, as of `multiqsm.execution.code.software`.

    Returns
    -------
    pathlib.Path
        The completion record.
    """
    root = Path(output_dir).absolute()
    written = {Path(file).absolute() for file in files}
    written |= {sidecar for sidecar in map(sidecar_path, written) if sidecar.exists()}
    sizes = {path.relative_to(root).as_posix(): _size(path) for path in sorted(written)}
    content = {"Software": made_by, "Fingerprint": made_of, "Files": sizes}
    return write_json(completion_record_path(output_dir, kind, label), content)


def completion_record_path(output_dir, kind, label):
    """Path of an item's completion record; arguments as of `is_finished`."""
    return Path(output_dir, COMPLETION_RECORDS, kind, f"{label}.json")


def _size(path):
    return path.stat().st_size if path.is_file() else None


def _described(value):
    if is_dataclass(value):
        content = {field.name: _described(getattr(value, field.name)) for field in fields(value)}
        return {"of": type(value).__name__, **content}
    if isinstance(value, Path):
        if not value.is_file():
            return [value.as_posix(), None]
        found = value.stat()
        return [value.as_posix(), found.st_size, found.st_mtime_ns]
    if isinstance(value, dict):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value
