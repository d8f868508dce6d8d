"""Check that no echo is missing and that echo times increase."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise, permutations
from pathlib import Path
from typing import TypeGuard

from ..entities import echo_number
from ..problems import Problem
from ..scans import Scan
from ..values import as_number
from .wording import comma_separated

LONGEST_ECHO_TIME = 1  # s


def check_echoes(scan: Scan) -> list[Problem]:
    """Check that every part has every echo, and warn of gaps in the numbers of echoes."""
    paths_of_part = {}
    present: set[int] = set()
    for part, paths in scan.parts.items():
        paths_of_part[part] = path_of_echo(paths)
        present.update(paths_of_part[part])
    problems = []
    for part, complete in permutations(paths_of_part, 2):
        for echo in sorted(set(paths_of_part[complete]) - set(paths_of_part[part])):
            cause = f"the {part} image of echo {echo} is missing"
            remedy = "add that file, or leave the echo out with --bids-filter-file"
            path = paths_of_part[complete][echo]
            problems.append(Problem.of(scan, path.name, cause, remedy))
    gaps = sorted(set(range(1, max(present) + 1)) - present)
    if gaps and scan.suffix == "MEGRE":
        cause = (
            f"there are echoes {comma_separated(sorted(present))}, but no echo "
            f"{comma_separated(gaps)}"
        )
        remedy = "add the missing files; no action is needed if the echo was left out on purpose"
        problems.append(Problem.of(scan, "", cause, remedy, "warning"))
    return problems


def path_of_echo(paths: Iterable[Path]) -> dict[int, Path]:
    """Return the files of one part by the numbers of their echoes."""
    return {echo_number(path): path for path in paths}


def check_echo_times(scan: Scan) -> list[Problem]:
    """Check that each echo has one time, in seconds, longer than that of the echo before."""
    problems = []
    times: dict[int, float] = {}
    is_complete = bool(scan.echo_times) and None not in scan.echo_times
    for path in sorted(scan.files, key=echo_number):
        value = scan.sidecars.get(path.name, {}).get("EchoTime")
        echo = echo_number(path)
        fault = _echo_time_fault(value, may_be_missing=is_complete)
        if fault:
            problems.append(Problem.of(scan, path.name, *fault))
        elif value is not None:
            first = times.setdefault(echo, value)
            if not math.isclose(first, value, rel_tol=1e-4):
                cause = f"EchoTime is {value} s, but another part of echo {echo} has {first} s"
                remedy = "correct the sidecar that is wrong"
                problems.append(Problem.of(scan, path.name, cause, remedy))
    for (earlier, time), (later, next_time) in pairwise(sorted(times.items())):
        if next_time <= time:
            relation = "the same EchoTime as" if next_time == time else "a shorter EchoTime than"
            cause = f"echo {later} ({next_time} s) has {relation} echo {earlier} ({time} s)"
            remedy = "correct EchoTime in the sidecars: values may have been exchanged or copied"
            problems.append(Problem.of(scan, _file_of_echo(scan, later), cause, remedy))
    return problems


def _echo_time_fault(value, *, may_be_missing):
    """Return cause and remedy of an unusable echo time; None if it is usable or may be missing,
    since another part's sidecar has it.
    """
    remedy = "write EchoTime in seconds into the sidecar, such as 0.006"
    if value is None:
        return None if may_be_missing else ("EchoTime is missing from its sidecar", remedy)
    if as_number(value) is None:
        return f"EchoTime is {value!r}, which is not a number", remedy
    if value <= 0:
        return f"EchoTime is {value} s, but must be positive", remedy
    if value > LONGEST_ECHO_TIME:
        return f"EchoTime is {value} s: it seems to be in milliseconds", remedy
    return None


def _file_of_echo(scan, echo):
    for path in scan.files:
        if echo_number(path) == echo:
            return path.name
    raise ValueError(f"no file of echo {echo}")


def are_rising(times: Sequence[float | None]) -> TypeGuard[tuple[float, ...]]:
    """Check that all echo times are known and that each is longer than the one before.

    Examples
    --------
    >>> are_rising((0.004, 0.008)), are_rising((0.008, 0.004)), are_rising((0.004, None))
    (True, False, False)
    """
    stated = [time for time in times if time is not None]
    return len(stated) == len(times) and all(a < b for a, b in pairwise(stated))
