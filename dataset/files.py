"""Texts and JSON in files that appear whole or not at all."""

import json
import math
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

PathLike = str | os.PathLike[str]


def read_json(path: Path) -> dict:
    """Read a description or sidecar that may well not be there.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    dict
        Its content; empty if the file is missing, unreadable or no JSON object.
    """
    if not path.is_file():  # a pipe would be waited for
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_json(path: Path, content: dict | list) -> Path:
    """Write a JSON file in one step, so that no reader meets half of it.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is made if missing.
    content : dict or list
        Numpy scalars and arrays, tuples and paths are converted; a number that is not finite
        becomes null.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    TypeError
        If a value has no form in JSON.
    """
    return write_text(path, json.dumps(_json_safe(content), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> Path:
    """Write a text file in one step, so that no reader meets half of it.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is made if missing.
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
    """Let a file appear under its name when all of it is written, and not at all if that fails.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is made if missing.

    Yields
    ------
    pathlib.Path
        The name to write it under, in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(output_dir: PathLike, subject: str) -> None:
    """Remove what a killed run was just writing of a subject, which nobody else may be writing at
    the time.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    subject : str
        Such as ``sub-01``.
    """
    root = Path(output_dir)
    name = re.compile(rf"\.[0-9a-f]{{32}}\.{re.escape(subject)}[._].*")
    for place in (
        root.glob(".*"),
        root.glob("logs/finished/*/.*"),
        root.joinpath(subject).rglob(".*"),
    ):
        for path in place:
            if name.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _json_safe(value):
    """Convert what numpy and pathlib bring into what JSON can say."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
