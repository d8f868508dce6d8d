"""Echoes: none may be missing, and their times must rise."""

import math
from itertools import pairwise, permutations

from ..entities import echo_number
from ..problems import Problem
from ..values import as_number
from .wording import comma_separated

LONGEST_ECHO_TIME = 1  # s


def check_echoes(scan):
    """Every part must have every echo; a gap in the echoes' numbers is worth a word."""
    of_echo = {
        part: {echo_number(path): path for path in paths} for part, paths in scan.parts.items()
    }
    present = set().union(*of_echo.values())
    problems = []
    for part, other in permutations(of_echo, 2):
        for echo in sorted(set(of_echo[other]) - set(of_echo[part])):
            cause = f"no {part} image of echo {echo} stands beside it"
            remedy = "add that file, or leave the echo out with --bids-filter-file"
            problems.append(Problem.of(scan, of_echo[other][echo].name, cause, remedy))
    gaps = sorted(set(range(1, max(present) + 1)) - present)
    if gaps and scan.suffix == "MEGRE":
        cause = (
            f"there are echoes {comma_separated(sorted(present))}, but no echo "
            f"{comma_separated(gaps)}"
        )
        remedy = (
            "add the files if they got lost; nothing needs doing if the echo was left out on "
            "purpose"
        )
        problems.append(Problem.of(scan, "", cause, remedy, "warning"))
    return problems


def check_echo_times(scan):
    """Each echo needs one time, in seconds, longer than that of the echo before."""
    problems = []
    times = {}
    for path in sorted(scan.files, key=echo_number):
        value = scan.sidecars.get(path.name, {}).get("EchoTime")
        echo = echo_number(path)
        wrong = _echo_time_fault(value, known=scan.echo_times and None not in scan.echo_times)
        if wrong:
            problems.append(Problem.of(scan, path.name, *wrong))
        elif value is not None and not math.isclose(
            times.setdefault(echo, value), value, rel_tol=1e-4
        ):
            cause = f"EchoTime {value} s, where another part of echo {echo} has {times[echo]} s"
            problems.append(Problem.of(scan, path.name, cause, "correct the sidecar that is wrong"))
    for (earlier, time), (later, following) in pairwise(sorted(times.items())):
        if following <= time:
            relation = "the same EchoTime as" if following == time else "a shorter EchoTime than"
            cause = f"echo {later} ({following} s) has {relation} echo {earlier} ({time} s)"
            remedy = "correct EchoTime in the sidecars: some may have been exchanged or copied"
            problems.append(Problem.of(scan, _file_of_echo(scan, later), cause, remedy))
    return problems


def _echo_time_fault(value, *, known):
    """Cause and remedy of an unusable echo time; None if it is usable, or if another part's sidecar
    has it.
    """
    remedy = "write EchoTime in seconds into the sidecar, such as 0.006"
    if value is None:
        return None if known else ("EchoTime is missing from its sidecar", remedy)
    if as_number(value) is None:
        return f"EchoTime is {value!r}, which is not a number", remedy
    if value <= 0:
        return f"EchoTime is {value} s, which cannot be", remedy
    if value > LONGEST_ECHO_TIME:
        return f"EchoTime is {value} s: it seems to be in milliseconds", remedy
    return None


def _file_of_echo(scan, echo):
    return next(path.name for path in scan.files if echo_number(path) == echo)


def are_rising(times):
    """Whether all echo times are known and each is longer than the one before."""
    return None not in times and all(a < b for a, b in pairwise(times))
