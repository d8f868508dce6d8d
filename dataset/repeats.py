"""Determine which scans are repeats of each other, that is, have the same protocol."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .entities import SCAN_ENTITIES, scan_label
from .problems import DatasetError
from .values import as_number, join_numbers

if TYPE_CHECKING:
    from .scans import Scan

# Entities that distinguish protocols; repeats differ only in session and run.
LABELS = tuple(name for name in SCAN_ENTITIES if name not in ("subject", "session", "run"))
NUMBERS = ("echo_times", "echo_number", "voxel_size")
COLUMNS = (*LABELS, *NUMBERS)
# If a scanner chooses the minimal echo times, they depend on the angle of the slab and vary by
# tenths of a millisecond. The echoes of one scan are further apart.
ECHO_TIME_TOLERANCE = 0.5  # ms
# If the field of view is adjusted to the head, voxel sizes vary by a few percent. Resolutions that
# are chosen on purpose differ by at least a tenth.
VOXEL_TOLERANCE = 0.05


@dataclass(frozen=True)
class Protocol:
    """Those properties of a scan that affect susceptibility; repeats have them in common.

    Attributes
    ----------
    labels : dict of str
        Those of the scan's entities that are in `LABELS`.
    echo_times : tuple of float
        ms; empty if unknown.
    echo_number : int or None
        Number of a single echo in its echo train, if the sidecar has it.
    voxel_size : tuple of float
        mm, along the image's axes; empty if unknown.
    """

    labels: dict[str, str] = field(default_factory=dict)
    echo_times: tuple[float, ...] = ()
    echo_number: int | None = None
    voxel_size: tuple[float, ...] = ()

    def is_repeated_by(self, protocol: Protocol) -> bool:
        """Return whether scans of two protocols are repeats.

        A property that is unknown in one of them counts as equal.
        """
        has_same_voxels = _agree(self.voxel_size, protocol.voxel_size, _is_same_size)
        return self.labels == protocol.labels and has_same_voxels and self.has_echoes_of(protocol)

    def has_echoes_of(self, protocol: Protocol) -> bool:
        """Return whether two protocols have the same echoes, as far as these are known."""
        has_same_number = (
            None in (self.echo_number, protocol.echo_number)
            or self.echo_number == protocol.echo_number
        )
        return has_same_number and _agree(self.echo_times, protocol.echo_times, is_same_time)

    @property
    def is_complete(self) -> bool:
        """Whether echo times and voxel size are known; tables of earlier versions lack them."""
        return bool(self.echo_times and self.voxel_size)

    @property
    def columns(self) -> dict[str, str | None]:
        """The protocol as texts for the columns `COLUMNS` of a table."""
        return {
            **dict.fromkeys(LABELS),
            **self.labels,
            "echo_times": join_numbers(self.echo_times, ".5g") or None,
            "echo_number": None if self.echo_number is None else str(self.echo_number),
            "voxel_size": join_numbers(self.voxel_size, ".5g") or None,
        }

    def __str__(self) -> str:
        parts = []
        for name, short in SCAN_ENTITIES.items():
            if name in self.labels:
                parts.append(f"{short}-{self.labels[name]}")
        if self.echo_times:
            parts.append(f"TE {join_numbers(self.echo_times, '.5g')} ms")
        if self.echo_number is not None:
            parts.append(f"echo {self.echo_number}")
        if self.voxel_size:
            parts.append(f"{join_numbers(self.voxel_size, '.4g', '×')} mm")
        return ", ".join(parts) or "no label"


def scan_protocol(scan: Scan, voxel_size: Sequence[float]) -> Protocol:
    """Return the protocol of a scan.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan as it is processed, after harmonisation.
    voxel_size : sequence of float
        mm, along the image's axes.

    Returns
    -------
    Protocol
    """
    labels = {name: scan.entities[name] for name in LABELS if scan.entities.get(name)}
    times = tuple(1000 * time for time in scan.echo_times if time is not None)
    if len(times) < len(scan.echo_times):
        times = ()
    first_sidecar = next(iter(scan.sidecars.values()), {})
    number = first_sidecar.get("EchoNumber") if len(times) == 1 else None
    number = None if number is None or as_number(number) is None else int(number)
    return Protocol(labels, times, number, tuple(voxel_size))


def read_protocol_columns(row: Mapping[str, str | None]) -> Protocol:
    """Return the protocol in the columns of a table.

    Parameters
    ----------
    row : mapping of str
        Texts of those columns of `COLUMNS` that the table has; missing cells are None or NaN.

    Returns
    -------
    Protocol

    Raises
    ------
    DatasetError
        If echo times, echo number or voxel size are not numbers.
    """
    labels = {}
    numbers: dict[str, tuple[float, ...]] = {}
    for name in COLUMNS:
        cell = row.get(name)
        if not isinstance(cell, str):
            continue
        if name in LABELS:
            labels[name] = cell
            continue
        try:
            numbers[name] = tuple(map(float, cell.split(",")))
        except ValueError as error:
            raise DatasetError(
                f"echo times, echo number or voxel size of a protocol: {error}"
            ) from error
    return Protocol(
        labels=labels,
        echo_times=numbers.get("echo_times", ()),
        echo_number=int(numbers["echo_number"][0]) if "echo_number" in numbers else None,
        voxel_size=numbers.get("voxel_size", ()),
    )


def match_protocols(protocols: Sequence[Protocol]) -> list[Protocol]:
    """Replace each protocol by the first one that it repeats, so that repeats compare equal.

    Parameters
    ----------
    protocols : sequence of Protocol
        In any order. As tolerances may overlap, earlier protocols have precedence, and complete
        ones come before incomplete ones.

    Returns
    -------
    list of Protocol
        In the same order.

    Examples
    --------
    >>> first, second, third = (Protocol(echo_times=(time,)) for time in (5.0, 5.1, 12.0))
    >>> [protocol.echo_times for protocol in match_protocols([first, second, third])]
    [(5.0,), (5.0,), (12.0,)]
    """
    distinct: list[Protocol] = []
    matched = list(protocols)
    complete_first = sorted(
        range(len(protocols)), key=lambda index: not protocols[index].is_complete
    )
    for index in complete_first:
        repeated = _first_repeated(distinct, protocols[index])
        if repeated is None:
            distinct.append(protocols[index])
        else:
            matched[index] = repeated
    return matched


def _first_repeated(candidates, protocol):
    for candidate in candidates:
        if candidate.is_repeated_by(protocol):
            return candidate
    return None


def number_scans(scans: Sequence[tuple[Mapping[str, str], str, Protocol]]) -> list[int]:
    """Number the repeats of each subject, site and protocol: i = 1, 2, … of the 2015 study.

    If all repeats have different whole numbers as run labels, these are the numbers, so that
    numbers do not change if a scan is missing. Otherwise, scans are counted in the order of their
    labels. This applies also if scans with the same labels except the run have several protocols,
    as their runs then do not count repeats.

    Parameters
    ----------
    scans : sequence of (dict of str, str, Protocol)
        Entities, site and protocol of each scan.

    Returns
    -------
    list of int
        The number of each scan.

    Examples
    --------
    >>> number_scans([({"subject": "1", "run": run}, "A", Protocol()) for run in "13"])
    [1, 3]
    """
    matched = match_protocols([protocol for *_, protocol in scans])
    repeats = defaultdict(list)  # indices of scans by subject, site and protocol
    protocols_of = defaultdict(set)  # by subject, site and labels
    for index, (entities, site, _) in enumerate(scans):
        protocol = matched[index]
        repeats[entities["subject"], site, str(protocol)].append(index)
        labels = tuple(protocol.labels.items())
        protocols_of[entities["subject"], site, labels].add(str(protocol))
    numbers = [0] * len(scans)
    for (subject, site, _), indices in repeats.items():
        labels = tuple(matched[indices[0]].labels.items())
        has_one_protocol = len(protocols_of[subject, site, labels]) == 1
        entities_of = [scans[index][0] for index in indices]
        runs = _run_numbers(entities_of) if has_one_protocol else None
        for index, number in zip(indices, runs or _ranks(entities_of), strict=True):
            numbers[index] = number
    return numbers


def _run_numbers(scans):
    """Return the runs of scans as numbers; None unless all are numbers and different."""
    runs = [entities.get("run") or "" for entities in scans]
    if not all(map(str.isdecimal, runs)):
        return None
    numbers = list(map(int, runs))
    return numbers if len(set(numbers)) == len(numbers) else None


def _ranks(scans):
    """Return the rank of each scan, from 1, in the order of their labels."""
    labels = list(map(scan_label, scans))
    order = sorted(range(len(scans)), key=lambda index: _natural_key(labels[index]))
    ranks = [0] * len(scans)
    for rank, index in enumerate(order, start=1):
        ranks[index] = rank
    return ranks


def is_same_time(first: float, second: float) -> bool:
    """Return whether two echo times in ms agree within the tolerance."""
    return abs(first - second) <= ECHO_TIME_TOLERANCE


def _is_same_size(first, second):
    return max(first, second) <= (1 + VOXEL_TOLERANCE) * min(first, second)


def _agree(first, second, is_same):
    """Return whether two sequences agree number by number; an empty one agrees with any."""
    if not first or not second:
        return True
    return len(first) == len(second) and all(map(is_same, first, second))


def _natural_key(text):
    """Return a sort key that compares numbers by value: run-10 comes after run-2."""
    key = []
    for part in re.split(r"(\d+)", text):
        key.append((int(part), "") if part.isdecimal() else (-1, part))
    return key
