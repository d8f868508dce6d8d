"""Completion records: what a finished item was computed from, so that later runs can skip it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset.files import PathLike, read_json, write_json
from ..dataset.sidecars import sidecar_path

COMPLETION_RECORDS = Path("logs", "finished")


def fingerprint(*values: object) -> str:
    """Return a digest of what a result depends on.

    Parameters
    ----------
    *values
        Dataclasses, dicts, sequences, arrays and scalars. A path stands for its file, with name,
        size and time of modification.

    Returns
    -------
    str
        Hexadecimal; the same in every process.

    Examples
    --------
    >>> fingerprint({"lambda": 0.1, "runs": [1, 2]})[:8]
    'ee785b7d'
    """
    text = json.dumps(list(map(_described, values)), sort_keys=True, default=repr)
    return sha256(text.encode()).hexdigest()


def is_finished(output_dir: PathLike, kind: str, label: str, expected: str) -> bool:
    """Check whether an item was finished with this fingerprint, and its files are unchanged in
    size.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    kind, label : str
        Kind of the item, such as ``scans``, and its label.
    expected : str
        Its `fingerprint` in this run.

    Returns
    -------
    bool
    """
    record = read_json(completion_record_path(output_dir, kind, label))
    return record.get("Fingerprint") == expected and _has_unchanged_files(record, output_dir)


def write_completion_record(
    output_dir: PathLike,
    kind: str,
    label: str,
    item_fingerprint: str,
    files: Iterable[PathLike],
    *,
    software: str,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Record that an item is finished.

    Parameters
    ----------
    output_dir, kind, label
        As of `is_finished`.
    item_fingerprint : str
        Its `fingerprint`, computed before the item was processed, so that inputs which changed in
        the meantime make the result outdated.
    files : iterable of path-like
        The files that were written below `output_dir`; their sidecars are added if they exist.
    software : str
        The code that it was computed by, as from `multiqsm.execution.code.software`.
    settings : mapping, optional
        Choices of the run, for readers of the record and for `recorded_settings`.

    Returns
    -------
    pathlib.Path
        The completion record.
    """
    root = Path(output_dir).absolute()
    paths = {Path(file).absolute() for file in files}
    sidecars = set(map(sidecar_path, paths))
    paths.update(filter(Path.exists, sidecars))
    sizes = {path.relative_to(root).as_posix(): _size(path) for path in sorted(paths)}
    content = {"Software": software, "Fingerprint": item_fingerprint, "Files": sizes}
    if settings is not None:
        content["Settings"] = dict(settings)
    return write_json(completion_record_path(output_dir, kind, label), content)


def recorded_settings(output_dir: PathLike, kind: str) -> dict[str, dict[str, Any]]:
    """Read the settings that finished items were processed with.

    Parameters
    ----------
    output_dir, kind
        As of `is_finished`.

    Returns
    -------
    dict of str to dict
        Settings by the label of the item; without items whose record has none, as those of earlier
        versions, or whose files have been removed or changed in size.
    """
    settings = {}
    for path in sorted(Path(output_dir, COMPLETION_RECORDS, kind).glob("*.json")):
        record = read_json(path)
        recorded = record.get("Settings")
        if isinstance(recorded, dict) and _has_unchanged_files(record, output_dir):
            settings[path.stem] = recorded
    return settings


def recorded_files(output_dir: PathLike, kind: str) -> set[str]:
    """Return the files of finished items, relative to the output folder.

    Parameters
    ----------
    output_dir, kind
        As of `is_finished`.

    Returns
    -------
    set of str
        Without those of items whose files have been removed or changed in size.
    """
    files: set[str] = set()
    for path in Path(output_dir, COMPLETION_RECORDS, kind).glob("*.json"):
        record = read_json(path)
        if _has_unchanged_files(record, output_dir):
            files.update(record["Files"])
    return files


def completion_record_path(output_dir: PathLike, kind: str, label: str) -> Path:
    """Return the path of an item's completion record; parameters as of `is_finished`."""
    return Path(output_dir, COMPLETION_RECORDS, kind, f"{label}.json")


def _has_unchanged_files(record: Mapping[str, Any], output_dir: PathLike) -> bool:
    """Return whether the files that a record lists exist with the sizes that it lists."""
    files = record.get("Files")
    if not isinstance(files, dict):
        return False
    return all(_size(Path(output_dir) / name) == size for name, size in files.items())


def _size(path):
    return path.stat().st_size if path.is_file() else None


def _described(value):
    """Describe a value in lists, dicts and scalars that JSON can represent."""
    if is_dataclass(value):
        content = {field.name: _described(getattr(value, field.name)) for field in fields(value)}
        return {"of": type(value).__name__, **content}
    if isinstance(value, Path):
        if not value.is_file():
            return [value.as_posix(), None]
        status = value.stat()
        return [value.as_posix(), status.st_size, status.st_mtime_ns]
    if isinstance(value, dict):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_described, value))
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value
