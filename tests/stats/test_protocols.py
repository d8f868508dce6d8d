"""Statistics of a site are of the scans of one protocol; the others are told of."""

import pandas as pd
import pytest
from helpers.tables import SLOPES, people_table, tubes_table

from multiqsm.stats.protocols import choose_protocols, scans_of
from multiqsm.stats.reproducibility import imprecision
from multiqsm.stats.study import study_tables


@pytest.mark.parametrize(
    ("scans", "preferred", "expected"),
    [
        ("Aa Aa Ab Ba Bb Bb", {}, {"A": "a", "B": "b"}),  # a vendor's own label
        ("Aa Ab Ba", {}, {"A": "a", "B": "a"}),  # as many of both: the same across sites
        ("Ab Aa Ba", {}, {"A": "a", "B": "a"}),
        ("Ab Aa", {}, {"A": "b"}),  # the first
        ("Aa Aa Ab", {"A": "b"}, {"A": "b"}),
        ("Aa Aa Ab", {"A": "c", "B": "b"}, {"A": "a"}),
        ("", {}, {}),
    ],
)
def test_commonest_at_a_site(scans, preferred, expected):
    """A scan is a letter of its site and one of its protocol."""
    sites = scans.replace(" ", "")[::2]
    protocols = scans.replace(" ", "")[1::2]
    assert choose_protocols(sites, protocols, preferred) == expected


def two_protocols(**coarse):
    """Four people with three scans at each of three sites, and one more scan of another protocol at
    site A.
    """
    fine = people_table().assign(protocol="acq-fine, 1×1×2 mm")
    extra = people_table(sites="A", scans=1, seed=9).assign(
        protocol="acq-coarse, 2×2×2 mm", **coarse
    )
    return fine, pd.concat([fine, extra], ignore_index=True)


def test_other_protocols_are_left_out_with_a_note():
    fine, mixture = two_protocols()
    tables, (note,) = study_tables(mixture)
    assert note == (
        "4 scans (acq-coarse, 2×2×2 mm) left out of all statistics: not of the protocol that "
        "counts at site A: "
        "acq-fine, 1×1×2 mm, 12 scans (sub-01, sub-02, sub-03, sub-04); only scans of one "
        "protocol are repeats: to compare "
        "the others, process them into another folder with --bids-filter-file"
    )
    pd.testing.assert_frame_equal(tables["imprecision"], imprecision(fine))
    assert (tables["imprecision"]["n_within"] == 3).all()
    assert len(tables["rois"]) == len(fine)
    excluded = tables["excluded"]
    assert excluded["subject"].tolist() == ["01", "02", "03", "04"]
    assert set(excluded["protocol"]) == {"acq-coarse, 2×2×2 mm"}
    assert excluded["reason"].str.startswith("not of the protocol that counts at site A").all()


def test_two_acquisitions_of_a_person_are_no_test_and_retest():
    """One scan of each is one scan: there is nothing to repeat."""
    mixture = people_table(subjects=1, sites="A", scans=2).assign(
        protocol=lambda table: table["scan"].map({1: "acq-a", 2: "acq-b"}), scan=1
    )
    tables, notes = study_tables(mixture)
    assert (tables["imprecision"]["n_scans"] == 1).all()
    assert (tables["imprecision"]["n_within"] == 0).all()
    assert any(note.startswith("1 scan (acq-b) left out") for note in notes)


def test_sites_may_have_protocols_of_their_own():
    people = people_table()
    names = {"A": "acq-x", "B": "acq-y", "C": "acq-x"}
    tables, notes = study_tables(people.assign(protocol=people["site"].map(names)))
    assert notes == []
    assert "excluded" not in tables
    pd.testing.assert_frame_equal(tables["imprecision"], imprecision(people))


def test_phantom_scans_have_the_protocol_of_people():
    """It was scanned more often with another one, whose slope is half as large."""
    people = people_table(slopes=SLOPES).assign(protocol="acq-fine, 1×1×2 mm")
    tubes = tubes_table().assign(protocol="acq-fine, 1×1×2 mm")
    halved = {site: slope / 2 for site, slope in SLOPES.items()}
    rest = [
        tubes_table(slopes=halved).assign(protocol="acq-coarse", scan=scan, run=str(scan))
        for scan in (1, 2)
    ]
    tables, notes = study_tables(
        pd.concat([people, tubes, *rest], ignore_index=True), calibrated=True
    )
    slopes = tables["calibration"].set_index(["method", "site"])["slope"]
    assert slopes["iterative", "B"] == pytest.approx(SLOPES["B"])
    assert sum("(acq-coarse) left out" in note and "sub-phantom" in note for note in notes) == 3
    assert tables["rois"]["mean"].to_numpy() == pytest.approx(
        people_table()["mean"].to_numpy(), abs=1e-9
    )


def test_scans_of_a_table():
    assert len(scans_of(people_table(subjects=2))) == 18
    assert list(scans_of(people_table(subjects=2)).columns) == ["subject", "session", "run", "site"]
    assert len(scans_of(two_protocols()[1])) == 40
