"""Types of command-line arguments, and exit codes of the commands."""

import argparse
import math
import os
import sys

EXIT_OK = 0
EXIT_FAILED_SCANS = 1
EXIT_NOTHING_TO_DO = 2
EXIT_INTERRUPTED = 130


def interrupted(command: str, *, continues: bool = True) -> int:
    """Print that a command was interrupted, as by Ctrl-C.

    Parameters
    ----------
    command : str
        Its name.
    continues : bool
        Whether the same command continues where this one ended.

    Returns
    -------
    int
        The exit code.
    """
    message = "interrupted"
    if continues:
        message = "interrupted; the same command continues from here"
    print(f"\n{command}: {message}", file=sys.stderr)
    return EXIT_INTERRUPTED


def positive(text: str) -> float:
    """Read a number above 0."""
    value = _number(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive and finite, got {text}")
    return value


def not_negative(text: str) -> float:
    """Read a number of at least 0."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be 0 or more and finite, got {text}")
    return value


def count(text: str) -> int:
    """Read a whole number of at least 1."""
    value = whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def count_from_zero(text: str) -> int:
    """Read a whole number of at least 0."""
    value = whole_number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return value


def fraction(text: str) -> float:
    """Read a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {text}")
    return value


def whole_number(text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error


def _number(text):
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from error


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
