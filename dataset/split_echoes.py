"""Detect echoes of one scan that are named as if they were separate scans."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from ..core.phase.vendors import vendor
from .facts import scan_facts
from .preflight.inspection import Inspection
from .repeats import is_same_time, scan_protocol
from .values import join_numbers


def find_split_echoes(inspections: Iterable[Inspection]) -> dict[str, tuple[str, str]]:
    """Find scans of a session that differ from others only in their echoes.

    Parameters
    ----------
    inspections : iterable of multiqsm.dataset.preflight.inspection.Inspection
        Of all scans.

    Returns
    -------
    dict of str to (str, str)
        Cause and remedy by the label of the scan.
    """
    groups = defaultdict(list)
    problems: dict[str, tuple[str, str]] = {}
    for inspection in inspections:
        if inspection.scanner is not None and None not in inspection.scan.echo_times:
            groups[_all_but_echoes(inspection)].append(inspection.scan)
    for scans in groups.values():
        protocols = _distinct_echoes(scans)
        if len(protocols) == 1:
            continue
        times = _all_echo_times(protocols)
        have_distinct_times = not any(is_same_time(*pair) for pair in pairwise(times))
        are_single_echoes = len(times) == len(protocols)
        if have_distinct_times or are_single_echoes:
            problem = _echoes_of_one_scan(scans, protocols, have_distinct_times)
            problems |= dict.fromkeys(_labels(scans), problem)
        else:
            problems |= _runs_with_different_echoes(scans)
    return problems


def _all_but_echoes(inspection):
    """Return the properties that the echoes of one scan have in common, whatever their labels."""
    scan = inspection.scan
    facts = scan_facts(inspection)
    return (
        scan.entities.get("subject"),
        scan.entities.get("session"),
        scan.entities.get("ceagent"),
        scan.entities.get("chunk"),
        facts["suffix"],
        facts["repetition_time"],
        facts["flip_angle"],
        facts["field_strength"],
        vendor(scan.manufacturer),
        facts["model"],
        facts["software"],
        facts["matrix"],
        # Scanners adjust the frequency before each scan, so that separate scans differ by some Hz.
        scan.imaging_frequency and round(scan.imaging_frequency, 6),
        tuple(inspection.scanner.affine.round(3).ravel()),
    )


def _distinct_echoes(scans):
    """Return those protocols of scans that differ in echoes, sorted by echo time and number."""
    distinct = []
    for scan in scans:
        protocol = scan_protocol(scan, ())
        if not any(map(protocol.has_echoes_of, distinct)):
            distinct.append(protocol)
    return sorted(distinct, key=lambda protocol: (protocol.echo_times, protocol.echo_number or 0))


def _all_echo_times(protocols):
    times: list[float] = []
    for protocol in protocols:
        times += protocol.echo_times
    return sorted(times)


def _echoes_of_one_scan(scans, protocols, have_distinct_times):
    """Return cause and remedy for scans that look like the echoes of one scan."""
    times = _all_echo_times(protocols)
    evidence = f"EchoTime {join_numbers(times, '.4g')} ms"
    if not have_distinct_times:
        numbers = ", ".join(str(protocol.echo_number) for protocol in protocols)
        evidence = f"EchoNumber {numbers}, {evidence}"
    whole = "one scan" if len(scans) == len(protocols) else "one scan and its repeats"
    cause = f"{', '.join(_labels(scans))} look like the echoes of {whole}: {evidence}"
    remedy = f"name them echo-1 to echo-{len(times)} of one scan"
    if not have_distinct_times:
        remedy += " and correct EchoTime"
    remedy += "; otherwise each is processed as a separate scan, and none is a repeat of another"
    return cause, remedy


def _runs_with_different_echoes(scans):
    """Return cause and remedy, by label, for runs that have only some echo times in common."""
    series = defaultdict(list)
    for scan in scans:
        entities = dict(scan.entities)
        entities.pop("run", None)
        series[tuple(entities.items())].append(scan)
    problems = {}
    for runs in series.values():
        if len(_distinct_echoes(runs)) == 1:
            continue
        echoes = []
        for scan in runs:
            times = join_numbers(1000 * np.array(scan.echo_times), ".4g")
            echoes.append(f"{scan.label} {times} ms")
        cause = f"runs differ only in their echo times: {'; '.join(echoes)}"
        remedy = "check whether echoes are missing; runs with different echo times are not repeats"
        problems |= dict.fromkeys(_labels(runs), (cause, remedy))
    return problems


def _labels(scans):
    return [scan.label for scan in scans]
