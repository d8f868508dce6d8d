"""Echoes of one scan that are named as if they were scans of their own."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

from .facts import scan_facts
from .preflight.inspection import Inspection
from .repeats import is_same_time, scan_protocol


def find_split_echoes(inspections: Iterable[Inspection]) -> dict[str, tuple[str, str]]:
    """Map the label of each scan that differs from others of its session in nothing but echoes to
    cause and remedy.
    """
    groups = defaultdict(list)
    found: dict[str, tuple[str, str]] = {}
    for inspection in inspections:
        if inspection.scanner is not None and None not in inspection.scan.echo_times:
            groups[_all_but_echoes(inspection)].append(inspection.scan)
    for scans in groups.values():
        echoes = _distinct_echoes(scans)
        times = sorted(time for protocol in echoes for time in protocol.echo_times)
        are_apart = not any(is_same_time(*pair) for pair in pairwise(times))
        if len(echoes) > 1 and (are_apart or len(times) == len(echoes)):
            found |= dict.fromkeys(
                (scan.label for scan in scans), _echoes_of_one(scans, echoes, are_apart)
            )
        elif len(echoes) > 1:
            found |= _runs_of_other_echoes(scans)
    return found


def _all_but_echoes(inspection):
    """What the echoes of one scan share, whatever labels tell them apart."""
    scan = inspection.scan
    facts = scan_facts(inspection)
    labels = [scan.entities.get(name) for name in ("subject", "session", "ceagent", "chunk")]
    alike = (
        "suffix",
        "repetition_time",
        "flip_angle",
        "field_strength",
        "manufacturer",
        "model",
        "software",
        "matrix",
    )
    # MHz: scanners tune anew for each scan
    frequency = scan.imaging_frequency and round(scan.imaging_frequency, 6)
    return (
        *labels,
        *(facts[name] for name in alike),
        frequency,
        tuple(inspection.scanner.affine.round(3).ravel()),
    )


def _distinct_echoes(scans):
    """Protocols of scans that differ in echoes, by echo time and number."""
    distinct = []
    for protocol in (scan_protocol(scan, ()) for scan in scans):
        if not any(protocol.has_echoes_of(other) for other in distinct):
            distinct.append(protocol)
    return sorted(distinct, key=lambda protocol: (protocol.echo_times, protocol.echo_number or 0))


def _echoes_of_one(scans, echoes, are_apart):
    """Cause and remedy where scans look like the echoes of one."""
    times = ", ".join(
        f"{time:.4g}"
        for time in sorted(time for protocol in echoes for time in protocol.echo_times)
    )
    numbers = ", ".join(str(protocol.echo_number) for protocol in echoes)
    told = f"EchoTime {times} ms" if are_apart else f"EchoNumber {numbers}, EchoTime {times} ms"
    whole = "one scan" if len(scans) == len(echoes) else "one scan and its repeats"
    n = sum(len(protocol.echo_times) for protocol in echoes)
    remedy = f"name them echo-1 to echo-{n} of one scan"
    remedy += "" if are_apart else " and correct EchoTime"
    cause = f"{', '.join(scan.label for scan in scans)} look like the echoes of {whole}: {told}"
    return (
        cause,
        f"{remedy}; as they are, each is processed as a scan of its own, and none is a repeat of "
        "another",
    )


def _runs_of_other_echoes(scans):
    """Cause and remedy of runs that share some of their echo times."""
    series = defaultdict(list)
    found = {}
    for scan in scans:
        series[
            tuple((name, label) for name, label in scan.entities.items() if name != "run")
        ].append(scan)
    for runs in series.values():
        if len(_distinct_echoes(runs)) > 1:
            told = "; ".join(
                f"{scan.label} {', '.join(f'{1000 * time:.4g}' for time in scan.echo_times)} ms"
                for scan in runs
            )
            cause = f"runs differ in nothing but their echo times: {told}"
            remedy = "see whether echoes are missing; runs of other echo times are no repeats"
            found |= dict.fromkeys((scan.label for scan in runs), (cause, remedy))
    return found
