"""Check that no echo is missing and that echo times increase."""

import re
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
# Longest echo time of a gradient echo in tissue or water, s; later there is no signal.
LONGEST_PLAUSIBLE = 0.2
# Shortest time that an ultrashort echo cannot have, s; in words of its sequence.
LONGEST_ULTRASHORT = 0.02
ULTRASHORT = re.compile(r"(?<![a-z])(ute|zte|petra|ultrashort|ultra-short)(?![a-z])")
SEQUENCE_FIELDS = (
    "PulseSequenceType",
    "PulseSequenceName",
    "PulseSequenceDetails",
    "SequenceName",
    "ScanningSequence",
    "ProtocolName",
    "SeriesDescription",
)
# Relative error of the field below which a difference of echo times does not matter; susceptibility
# has the same, and is imprecise by several percent.
FIELD_ERROR = 0.005


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
    """Check that each echo has one time, in seconds, and that no two have the same.

    Echoes whose numbers are not in the order of their times are sorted by time, with a warning.
    """
    problems = []
    times: dict[int, float] = {}
    is_complete = bool(scan.echo_times) and None not in scan.echo_times
    tolerance = _time_tolerance(scan)
    for path in sorted(scan.files, key=echo_number):
        value = scan.sidecars.get(path.name, {}).get("EchoTime")
        echo = echo_number(path)
        fault = _echo_time_fault(value, may_be_missing=is_complete)
        if fault:
            problems.append(Problem.of(scan, path.name, *fault))
        elif value is not None:
            first = times.setdefault(echo, value)
            if abs(value - first) > tolerance:
                cause = f"EchoTime is {value} s, but another part of echo {echo} has {first} s"
                remedy = "correct the sidecar that is wrong"
                problems.append(Problem.of(scan, path.name, cause, remedy))
    by_time = sorted(times.items(), key=lambda entry: (entry[1], entry[0]))
    for (earlier, time), (later, next_time) in pairwise(by_time):
        if next_time == time:
            cause = f"echo {later} ({next_time} s) has the same EchoTime as echo {earlier}"
            remedy = "correct EchoTime in the sidecars: values may have been copied"
            problems.append(Problem.of(scan, _file_of_echo(scan, later), cause, remedy))
    if problems:
        return problems
    return _check_unit(scan) or _check_order(scan)


def _check_unit(scan):
    """Check that echo times below 1 are not in milliseconds, as those of ultrashort echoes are."""
    times = [time for time in scan.echo_times if time is not None]
    if not times:
        return []
    sidecar = scan.sidecars.get(scan.files[0].name, {})
    latest = max(times)
    cause = ""
    for field in ("RepetitionTimeExcitation", "RepetitionTime"):
        repetition_time = as_number(sidecar.get(field))
        if repetition_time is not None and 0 < repetition_time <= latest:
            cause = f"EchoTime is {latest:g} s, but {field} {repetition_time:g} s"
    label = f"acq-{scan.entities.get('acquisition', '')}"
    words = " ".join([label, *(str(sidecar.get(field, "")) for field in SEQUENCE_FIELDS)])
    if not cause and latest > LONGEST_PLAUSIBLE:
        cause = f"EchoTime is {latest:g} s, when a gradient echo has no signal any more"
    elif not cause and ULTRASHORT.search(words.casefold()) and min(times) > LONGEST_ULTRASHORT:
        cause = f"EchoTime is {min(times):g} s, but the sequence has ultrashort echoes"
    if not cause:
        return []
    remedy = "write EchoTime in seconds into all sidecars, such as 0.00007 for 0.07 ms"
    cause += ": it seems to be in milliseconds"
    return [Problem.of(scan, scan.files[0].name, cause, remedy)]


def _check_order(scan):
    """Warn if the numbers of echoes are not in the order of their times."""
    if not are_disordered(scan):
        return []
    cause = f"the numbers of the echoes are not in the order of EchoTime: {_listed_order(scan)}"
    remedy = (
        "no action is needed for echoes of several interleaved trains: they are sorted by "
        "EchoTime; otherwise correct EchoTime in the sidecars"
    )
    return [Problem.of(scan, "", cause, remedy, "warning")]


def _listed_order(scan):
    """List the echoes' numbers and times in the order of the numbers."""
    times = dict(zip(numbers_by_time(scan), scan.echo_times, strict=True))
    echoes = [f"echo {number} at {1000 * times[number]:.4g} ms" for number in sorted(times)]
    return ", ".join(echoes)


def numbers_by_time(scan: Scan) -> list[int]:
    """Return the numbers of a scan's echoes in the order of their times."""
    longest = max(scan.parts.values(), key=len, default=())
    return list(map(echo_number, longest))


def are_disordered(scan: Scan) -> bool:
    """Return whether the numbers of a scan's echoes are not in the order of their times."""
    numbers = numbers_by_time(scan)
    is_sorted = numbers == sorted(numbers) or len(numbers) != len(scan.echo_times)
    return not is_sorted and are_rising(scan.echo_times)


def echo_decisions(scan: Scan) -> list[str]:
    """State how echoes were sorted, and which of two echo times that hardly differ is used."""
    decisions = []
    if are_disordered(scan):
        numbers = comma_separated(numbers_by_time(scan))
        decisions.append(f"echoes were sorted by EchoTime, which is the order {numbers}")
    difference = _largest_difference(scan)
    if 0 < difference <= _time_tolerance(scan):
        error = 100 * FIELD_ERROR * difference / _time_tolerance(scan)
        decisions.append(
            f"EchoTime differs by up to {1e6 * difference:.3g} µs between the parts of an echo; "
            f"the first is used ({', '.join(scan.parts)}), and changes the field by at most "
            f"{error:.2g} %"
        )
    return decisions


def _largest_difference(scan):
    """Return by how much the echo times of an echo's parts differ, s."""
    times_of_echo: dict[int, list[float]] = {}
    for path in scan.files:
        time = as_number(scan.sidecars.get(path.name, {}).get("EchoTime"))
        if time is not None:
            times_of_echo.setdefault(echo_number(path), []).append(time)
    return max((max(times) - min(times) for times in times_of_echo.values()), default=0.0)


def _time_tolerance(scan):
    """Return the error of echo times that changes the field by no more than `FIELD_ERROR`, s.

    The field is the slope of the phase over echo times, so the shortest spacing counts; the phase
    of a single echo grows from excitation on.
    """
    times = sorted(time for time in scan.echo_times if time is not None and time > 0)
    spacings = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return FIELD_ERROR * min(spacings or times, default=0.0)


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
    if value > 1000 * LONGEST_PLAUSIBLE:  # in milliseconds it would be too long as well
        remedy = "write EchoTime in seconds into the sidecar, such as 0.006 for 6000 µs"
        return f"EchoTime is {value:g} s: it seems to be in microseconds", remedy
    if value > LONGEST_ECHO_TIME:
        return f"EchoTime is {value:g} s: it seems to be in milliseconds", remedy
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
