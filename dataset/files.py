"""Read JSON files, and write text and JSON files atomically."""

import json
import math
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np

from .values import error_text

PathLike = str | os.PathLike[str]


def read_json(path: Path) -> dict:
    """Read a JSON object from a file that may be missing.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    dict
        Its content; empty if the file is missing, unreadable or not a JSON object.
    """
    if not path.is_file():  # reading from a named pipe would block
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def reading_failure(error: Exception) -> str:
    """Return in words why a JSON or YAML file of a user could not be read.

    Parameters
    ----------
    error : Exception
        The error of opening or parsing the file.

    Returns
    -------
    str
        For invalid JSON or YAML with the line.

    Examples
    --------
    >>> try:
    ...     json.loads('{"megre": \\n x}')
    ... except ValueError as error:
    ...     reading_failure(error)
    'not valid JSON (line 2: Expecting value)'
    """
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON (line {error.lineno}: {error.msg})"
    place = getattr(error, "problem_mark", None)  # of an error of YAML
    if place is not None:
        return f"not valid YAML (line {place.line + 1}: {getattr(error, 'problem', '')})"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeDecodeError):
        return "not text in UTF-8"
    return error_text(error)


def write_json(path: Path, content: dict | list) -> Path:
    """Write a JSON file atomically.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is created if missing.
    content : dict or list
        Numpy scalars and arrays, tuples and paths are converted; NaN and infinity become null.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    TypeError
        If a value cannot be converted to JSON.
    """
    return write_text(path, json.dumps(_json_safe(content), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is created if missing.
    text : str
        Its content.

    Returns
    -------
    pathlib.Path
        The file.
    """
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    return path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file atomically: it gets its name only once it is complete.

    Readers see either the earlier file or the new one, never a part. If writing fails, nothing
    changes.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is created if missing.

    Yields
    ------
    pathlib.Path
        Temporary name to write to, in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(output_dir: PathLike, subject: str) -> None:
    """Remove the temporary files that a killed run left for a subject.

    No other process may be writing files of this subject at the same time.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    subject : str
        Such as ``sub-01``.
    """
    root = Path(output_dir)
    name = re.compile(rf"\.[0-9a-f]{{32}}\.{re.escape(subject)}[._].*")
    hidden_files = chain(
        root.glob(".*"),
        root.glob("logs/finished/*/.*"),
        root.glob("logs/times/.*"),
        root.joinpath(subject).rglob(".*"),
    )
    for path in hidden_files:
        if name.fullmatch(path.name):
            path.unlink(missing_ok=True)


def _json_safe(value):
    """Convert values of numpy and pathlib, and numbers that are not finite, for JSON."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return list(map(_json_safe, value))
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
