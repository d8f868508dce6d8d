"""Which scans repeat one another: those of one protocol."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .entities import SCAN_ENTITIES, scan_label
from .problems import DatasetError
from .values import as_number

if TYPE_CHECKING:
    from .scans import Scan

# Labels that tell the protocols of a session apart; sessions and runs are what repeats differ in.
LABELS = tuple(name for name in SCAN_ENTITIES if name not in ("subject", "session", "run"))
COLUMNS = (*LABELS, "echo_times", "echo_number", "voxel_size")
# Echo times that a scanner shortens as far as the slab's angle allows move by tenths of a
# millisecond, and the echoes of one scan lie further apart.
ECHO_TIME_TOLERANCE = 0.5  # ms
# A field of view that is fitted to the head changes voxels by a few percent; resolutions that
# people choose between differ by a tenth and more.
VOXEL_TOLERANCE = 0.05


@dataclass(frozen=True)
class Protocol:
    """What susceptibility depends on in a scan beside the person: scans that share it repeat one
    another.

    Attributes
    ----------
    labels : dict of str
        Those of the scan's entities that are in `LABELS`.
    echo_times : tuple of float
        ms; empty if they are not known.
    echo_number : int or None
        Which echo of its train a single echo is, where its sidecar says so.
    voxel_size : tuple of float
        mm, along the image's axes; empty if it is not known.
    """

    labels: dict[str, str] = field(default_factory=dict)
    echo_times: tuple[float, ...] = ()
    echo_number: int | None = None
    voxel_size: tuple[float, ...] = ()

    def is_repeated_by(self, other: Protocol) -> bool:
        """Tell whether scans of the two are repeats; what one of them does not tell is taken for
        the same.
        """
        same_voxels = _alike(self.voxel_size, other.voxel_size, _is_same_size)
        return self.labels == other.labels and same_voxels and self.has_echoes_of(other)

    def has_echoes_of(self, other: Protocol) -> bool:
        """Tell whether both have the same echoes, as far as they are known."""
        same_number = (
            None in (self.echo_number, other.echo_number) or self.echo_number == other.echo_number
        )
        return same_number and _alike(self.echo_times, other.echo_times, is_same_time)

    @property
    def is_complete(self) -> bool:
        """Whether echo times and voxel size are known, as they are not of tables of earlier
        versions.
        """
        return bool(self.echo_times and self.voxel_size)

    @property
    def columns(self) -> dict[str, str | None]:
        """The protocol as the columns `COLUMNS` of a table."""
        return {
            **{name: self.labels.get(name) for name in LABELS},
            "echo_times": _listed(self.echo_times),
            "echo_number": None if self.echo_number is None else str(self.echo_number),
            "voxel_size": _listed(self.voxel_size),
        }

    def __str__(self) -> str:
        parts = [
            f"{short}-{self.labels[name]}"
            for name, short in SCAN_ENTITIES.items()
            if name in self.labels
        ]
        if self.echo_times:
            parts.append(f"TE {_listed(self.echo_times)} ms")
        if self.echo_number is not None:
            parts.append(f"echo {self.echo_number}")
        if self.voxel_size:
            parts.append(f"{'×'.join(f'{size:.4g}' for size in self.voxel_size)} mm")
        return ", ".join(parts) or "no label"


def scan_protocol(scan: Scan, voxel_size: Sequence[float]) -> Protocol:
    """The protocol of a scan.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan, as it is processed.
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
    """The protocol that the columns of a table tell.

    Parameters
    ----------
    row : mapping of str
        Texts of those columns of `COLUMNS` that the table has; what is missing is None or
        not-a-number.

    Returns
    -------
    Protocol

    Raises
    ------
    DatasetError
        If a column holds no numbers where there should be some.
    """
    cells: dict[str, str] = {}
    for name in COLUMNS:
        cell = row.get(name)
        if isinstance(cell, str):
            cells[name] = cell
    try:
        numbers = {
            name: tuple(float(number) for number in cells[name].split(","))
            for name in ("echo_times", "echo_number", "voxel_size")
            if name in cells
        }
    except ValueError as error:
        raise DatasetError(
            f"echo times, echo number or voxel size of a protocol: {error}"
        ) from error
    return Protocol(
        labels={name: cells[name] for name in LABELS if name in cells},
        echo_times=numbers.get("echo_times", ()),
        echo_number=int(numbers["echo_number"][0]) if "echo_number" in numbers else None,
        voxel_size=numbers.get("voxel_size", ()),
    )


def match_protocols(protocols: Sequence[Protocol]) -> list[Protocol]:
    """Give each of several protocols as the first one that it repeats, so that equal ones are
    equal.

    Parameters
    ----------
    protocols : sequence of Protocol
        In any order; where tolerances overlap, the first ones decide, and those that tell
        everything before others.

    Returns
    -------
    list of Protocol

    Examples
    --------
    >>> first, second, third = (Protocol(echo_times=(time,)) for time in (5.0, 5.1, 12.0))
    >>> [protocol.echo_times for protocol in match_protocols([first, second, third])]
    [(5.0,), (5.0,), (12.0,)]
    """
    distinct: list[Protocol] = []
    matched = list(protocols)
    for place in sorted(range(len(protocols)), key=lambda place: not protocols[place].is_complete):
        own = protocols[place]
        same = next((protocol for protocol in distinct if protocol.is_repeated_by(own)), None)
        if same is None:
            distinct.append(own)
        matched[place] = same or own
    return matched


def number_scans(scans: Sequence[tuple[Mapping[str, str], str, Protocol]]) -> list[int]:
    """Count the scans of each subject at each site, of each protocol by itself: i = 1, 2, … of the
    2015 study.

    The number is the run's where all scans of a subject and protocol at a site have different whole
    numbers as runs, so that a missing scan leaves the others theirs; else their place in the order
    of their labels. Where runs are of several protocols under the same labels, their numbers count
    something else.

    Parameters
    ----------
    scans : sequence of (dict of str, str, Protocol)
        Entities, site and protocol of each scan.

    Returns
    -------
    list of int

    Examples
    --------
    >>> number_scans([({"subject": "1", "run": run}, "A", Protocol()) for run in "13"])
    [1, 3]
    """
    matched = match_protocols([protocol for *_, protocol in scans])
    groups: dict[tuple, list[int]] = {}
    sharing: dict[tuple, set[str]] = {}
    for place, ((entities, site, _), protocol) in enumerate(zip(scans, matched, strict=True)):
        groups.setdefault((entities["subject"], site, str(protocol)), []).append(place)
        labels = entities["subject"], site, tuple(protocol.labels.items())
        sharing.setdefault(labels, set()).add(str(protocol))
    numbers = [0] * len(scans)
    for (subject, site, _), places in groups.items():
        runs = [scans[place][0].get("run") or "" for place in places]
        alone = len(sharing[subject, site, tuple(matched[places[0]].labels.items())]) == 1
        by_run = (
            alone
            and all(run.isdecimal() for run in runs)
            and max(Counter(map(int, runs)).values()) == 1
        )
        ordered = sorted(places, key=lambda place: _natural(scan_label(scans[place][0])))
        for count, place in enumerate(ordered, start=1):
            numbers[place] = int(scans[place][0]["run"]) if by_run else count
    return numbers


def is_same_time(one: float, other: float) -> bool:
    """Tell whether two echo times in ms are those of one protocol."""
    return abs(one - other) <= ECHO_TIME_TOLERANCE


def _is_same_size(one, other):
    return max(one, other) <= (1 + VOXEL_TOLERANCE) * min(one, other)


def _alike(ours, theirs, is_same):
    """Whether two lists are the same number by number; one that is empty is not known."""
    if not ours or not theirs:
        return True
    return len(ours) == len(theirs) and all(
        is_same(one, other) for one, other in zip(ours, theirs, strict=True)
    )


def _listed(numbers):
    return ", ".join(f"{number:.5g}" for number in numbers) or None


def _natural(text):
    """Sort key that reads numbers as numbers: run-10 comes after run-2."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)
    ]
