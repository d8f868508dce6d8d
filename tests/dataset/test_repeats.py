"""Repeats are scans with the same labels (except session and run), echo times and voxel size."""

import pytest

from multiqsm.dataset.assembly import Scan
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.repeats import (
    COLUMNS,
    Protocol,
    match_protocols,
    number_scans,
    read_protocol_columns,
    scan_protocol,
)

MULTI = Protocol({"acquisition": "a"}, (6.0, 14.0, 22.0), None, (1.0, 1.0, 2.0))


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (MULTI, True),
        (
            Protocol({"acquisition": "a"}, (6.1, 14.2, 21.8), None, (1.02, 0.99, 2.0)),
            True,
        ),  # a scanner's own choice
        (Protocol({"acquisition": "a"}), True),  # nothing else is known
        (Protocol({"acquisition": "b"}, (6.0, 14.0, 22.0), None, (1.0, 1.0, 2.0)), False),
        (Protocol({}, (6.0, 14.0, 22.0), None, (1.0, 1.0, 2.0)), False),
        (
            Protocol(
                {"acquisition": "a", "reconstruction": "x"},
                (6.0, 14.0, 22.0),
                None,
                (1.0, 1.0, 2.0),
            ),
            False,
        ),
        (Protocol({"acquisition": "a"}, (6.0, 14.0), None, (1.0, 1.0, 2.0)), False),
        (Protocol({"acquisition": "a"}, (7.0, 14.0, 22.0), None, (1.0, 1.0, 2.0)), False),
        (Protocol({"acquisition": "a"}, (6.0, 14.0, 22.0), None, (1.0, 1.0, 1.0)), False),
        (Protocol({"acquisition": "a"}, (6.0, 14.0, 22.0), None, (1.1, 1.1, 2.0)), False),
    ],
)
def test_repeats_are_scans_of_one_protocol(protocol, expected):
    assert MULTI.is_repeated_by(protocol) is expected
    assert protocol.is_repeated_by(MULTI) is expected


def test_single_echoes_with_different_numbers_are_not_repeats():
    first = Protocol(echo_times=(6.0,), echo_number=1)
    second = Protocol(echo_times=(6.0,), echo_number=2)
    unknown = Protocol(echo_times=(6.0,))
    assert not first.is_repeated_by(second)
    assert first.is_repeated_by(unknown)


def test_protocol_of_a_scan():
    entities = {"subject": "01", "session": "A", "acquisition": "x", "run": "2", "chunk": "1"}
    sidecars = {"one": {"EchoNumber": 3}}
    scan = Scan(entities, "T2starw", echo_times=(0.022,), sidecars=sidecars)
    protocol = scan_protocol(scan, (1, 1, 2))
    assert protocol == Protocol(
        {"acquisition": "x", "chunk": "1"}, (pytest.approx(22),), 3, (1, 1, 2)
    )
    assert str(protocol) == "acq-x, chunk-1, TE 22 ms, echo 3, 1×1×2 mm"
    assert (
        scan_protocol(
            Scan(entities, "MEGRE", echo_times=(0.01, 0.02), sidecars=sidecars), ()
        ).echo_number
        is None
    )
    assert (
        scan_protocol(Scan({"subject": "01"}, "MEGRE", echo_times=(None, 0.02)), ()) == Protocol()
    )
    assert str(Protocol()) == "no label"


@pytest.mark.parametrize(
    "protocol", [MULTI, Protocol(), Protocol({"task": "rest"}, (6.0,), 1, (0.46875, 1.0, 2.0))]
)
def test_protocol_survives_a_round_trip_through_columns(protocol):
    row = protocol.columns
    assert list(row) == list(COLUMNS)
    assert read_protocol_columns(row) == protocol
    assert read_protocol_columns(dict.fromkeys(COLUMNS, float("nan"))) == Protocol()


def test_invalid_columns_are_refused():
    with pytest.raises(DatasetError, match="could not convert"):
        read_protocol_columns({"echo_times": "6, soon"})


def test_incomplete_protocols_match_the_first_compatible_one():
    near = Protocol(echo_times=(6.2,))
    far = Protocol(echo_times=(14.0,))
    complete = Protocol(echo_times=(6.0,), voxel_size=(1, 1, 1))
    matched = match_protocols([Protocol(), near, far, complete])
    assert matched == [complete, complete, far, complete]
    assert match_protocols([]) == []


def scans(*rows):
    """Entities, site and protocol of a person's scans given as (run, echo time, acquisition)."""
    result = []
    for run, time, acquisition in rows:
        labels = {"acquisition": acquisition} if acquisition else {}
        result.append(({"subject": "01", "run": run, **labels}, "A", Protocol(labels, (time,))))
    return result


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("1", 6, "a"), ("2", 6, "a"), ("1", 6, "b"), ("3", 6, "b")], [1, 2, 1, 3]),
        ([("1", 6, ""), ("2", 14, ""), ("3", 22, "")], [1, 1, 1]),  # echoes that were named as runs
        ([("1", 6, ""), ("2", 14, ""), ("3", 6, ""), ("4", 14, "")], [1, 1, 2, 2]),
        ([("2", 6, ""), ("3", 6, "")], [2, 3]),
    ],
)
def test_repeats_are_numbered_within_one_protocol(rows, expected):
    assert number_scans(scans(*rows)) == expected
