"""The tables of all scans are read as they were written, and participants are added."""

import numpy as np
import pandas as pd
import pytest
from helpers.tables import people_table, tubes_table, write_scans

from multiqsm.cohort.roi_tables import (
    add_participants,
    add_protocols,
    read_roi_table,
    read_roi_tables,
)
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.tables import read_tsv, write_tsv


def test_tables_of_all_scans(tmp_path):
    table = people_table(subjects=2)
    write_scans(tmp_path, table)
    read = read_roi_tables(tmp_path)
    columns = ["subject", "session", "run", "method", "roi"]
    pd.testing.assert_frame_equal(
        read.sort_values(columns, ignore_index=True), table.sort_values(columns, ignore_index=True)
    )


def test_labels_are_text_and_missing_ones_are_missing(tmp_path):
    """Subjects, sites and regions may be called 01, 1 or NA, and session and run may not be
    there.
    """
    table = people_table(subjects=2, sites="1", scans=1).assign(session=np.nan, run=np.nan)
    table = table.replace({"roi": {"putamen": "NA", "pallidum": "12"}})
    table.loc[0, "mean"] = np.nan
    write_scans(tmp_path, table)
    read = read_roi_tables(tmp_path)
    assert set(read["subject"]) == {"01", "02"}
    assert set(read["site"]) == {"1"}
    assert {"NA", "12"} < set(read["roi"])
    assert read[["session", "run"]].isna().all(axis=None)
    assert read["mean"].isna().sum() == 1
    assert read["mean"].dtype == float


def test_phantoms_bring_what_is_expected(tmp_path):
    write_scans(tmp_path, people_table(subjects=1, scans=1))
    write_scans(tmp_path, tubes_table())
    read = read_roi_tables(tmp_path)
    assert read["expected"].notna().tolist() == (read["subject"] == "phantom").tolist()


def test_no_table(tmp_path):
    with pytest.raises(DatasetError, match="run the participant level first, with regions drawn"):
        read_roi_tables(tmp_path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "No columns to parse"),
        (b"\xff\xfe\x00\x01", "codec can't decode"),
        (
            b"subject\tmean\n01\t0.1\n",
            "no column session, run, site, method, roi, unit, reference, scan",
        ),
    ],
)
def test_table_that_is_none_is_named(tmp_path, content, cause):
    path = tmp_path / "sub-01" / "anat" / "sub-01_desc-rois_chi.tsv"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for read, argument in ((read_roi_table, path), (read_roi_tables, tmp_path)):
        with pytest.raises(DatasetError, match=cause) as error:
            read(argument)
        assert path.name in str(error.value)
        assert "remove the file and run the participant level again" in str(error.value)


def test_round_trip_of_a_table(tmp_path):
    table = pd.DataFrame(
        {
            "roi": ["001", "NA"],
            "icc": [0.5, np.nan],
            "significant": [True, False],
            "note": ["nan", np.nan],
            "n": [1, 2],
        }
    )
    pd.testing.assert_frame_equal(read_tsv(write_tsv(tmp_path / "x.tsv", table)), table)


@pytest.fixture
def raw(tmp_path):
    def write(text):
        (tmp_path / "participants.tsv").write_text(text)
        return tmp_path

    return write


def ages(rois):
    return dict(rois.drop_duplicates("subject").set_index("subject")["age"])


def test_age_and_sex(raw):
    rois = people_table(subjects=3)
    root = raw(
        "participant_id\tsex\tage\nsub-03\tM\t41.5\nsub-01\tF\t23\nsub-02\tn/a\tn/a\nsub-09\tF\t1\n"
    )
    found, notes = add_participants(rois, root)
    assert notes == []
    assert ages(found) == {"01": 23, "02": pytest.approx(np.nan, nan_ok=True), "03": 41.5}
    assert found.groupby("subject")["sex"].agg(set).to_dict() == {
        "01": {"F"},
        "02": {np.nan},
        "03": {"M"},
    }
    assert list(found.columns) == [*rois.columns, "age", "sex"]
    assert "age" not in rois


def test_participants_without_prefix_and_strangers(raw):
    found, _ = add_participants(people_table(subjects=2), raw("participant_id\tage\n01\t30\n"))
    assert ages(found) == {"01": 30, "02": pytest.approx(np.nan, nan_ok=True)}


def test_what_is_not_known_of_participants_is_noted(raw):
    rois = people_table(subjects=2)
    found, notes = add_participants(rois, raw("participant_id\tage\nsub-01\t89+\nsub-02\t30\n"))
    assert notes == [
        "participants.tsv: no column sex",
        "participants.tsv: age '89+' is no number of years and was not used",
    ]
    assert ages(found) == {"01": pytest.approx(np.nan, nan_ok=True), "02": 30}


@pytest.mark.parametrize(
    ("rows", "expected", "wrong"),
    [
        ("sub-01\t25\tF\nsub-01\t25\tF\n", {"age": 25, "sex": "F"}, []),
        ("sub-01\t25\tF\n01\tn/a\tF\n", {"age": 25, "sex": "F"}, []),
        ("sub-01\t25\tF\nsub-01\t26\tF\n", {"age": np.nan, "sex": "F"}, ["age"]),
        ("sub-01\t25\tF\nsub-01\t26\tM\n", {"age": np.nan, "sex": np.nan}, ["age", "sex"]),
    ],
)
def test_participant_who_is_there_twice(raw, rows, expected, wrong):
    """Rows that agree are one; what they contradict each other in is not used, and the others go
    on.
    """
    found, notes = add_participants(
        people_table(subjects=2), raw(f"participant_id\tage\tsex\n{rows}sub-02\t30\tM\n")
    )
    first, second = (found[found["subject"] == subject].iloc[0] for subject in ("01", "02"))
    for column, value in expected.items():
        assert first[column] == value or (value != value and pd.isna(first[column]))
    assert (second["age"], second["sex"]) == (30, "M")
    assert notes == [
        f"participants.tsv: rows of sub-01 contradict each other: its {column} was not used; "
        "remove all but one"
        for column in wrong
    ]


def test_no_participants(tmp_path):
    found, (note,) = add_participants(people_table(subjects=2), tmp_path)
    assert "age" not in found
    assert "participants.tsv: missing" in note


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("id\tage\n01\t3\n", "no column participant_id"),
        ("", "save the table as UTF-8 text"),
    ],
)
def test_participants_that_make_no_sense(raw, text, cause):
    with pytest.raises(DatasetError, match=cause):
        add_participants(people_table(subjects=1), raw(text))


def protocols_of(rois):
    """Protocol and number by subject, session and run."""
    scans = rois.drop_duplicates(["subject", "session", "run", "protocol", "scan"])
    return list(
        scans[["subject", "session", "run", "protocol", "scan"]].itertuples(index=False, name=None)
    )


def test_acquisitions_are_told_apart_and_counted_by_themselves(tmp_path):
    """As tables of this version, and as those of an earlier one, whose names alone have the
    label.
    """
    table = people_table(subjects=1, sites="A", scans=2, methods=("iterative",)).assign(run=np.nan)
    table = table.assign(acquisition=table["scan"].map({1: "fine", 2: "coarse"}))
    for told in (table, table.drop(columns="acquisition")):
        root = tmp_path / f"{len(told.columns)}"
        for acquisition, rows in told.groupby(table["acquisition"]):
            write_scans(root, rows, acquisition=acquisition)
        rois, notes = add_protocols(read_roi_tables(root))
        assert notes == []  # no scan repeats another one
        assert [row[3:] for row in protocols_of(rois)] == [("acq-coarse", 1), ("acq-fine", 1)]


def test_echoes_that_were_named_as_runs_do_not_count_as_repeats():
    table = people_table(subjects=1, sites="A", scans=3, methods=("iterative",))
    table = table.assign(
        echo_times=table["scan"].map({1: "6", 2: "14", 3: "22"}), voxel_size="4, 4, 4"
    )
    rois, notes = add_protocols(table)
    assert notes == []
    assert [row[3:] for row in protocols_of(rois)] == [
        ("TE 6 ms, 4×4×4 mm", 1),
        ("TE 14 ms, 4×4×4 mm", 1),
        ("TE 22 ms, 4×4×4 mm", 1),
    ]


def test_tables_of_an_earlier_version_are_one_protocol_with_a_word():
    table = people_table(subjects=2, scans=3)
    rois, (note,) = add_protocols(table)
    pd.testing.assert_frame_equal(rois.drop(columns="protocol"), table)
    assert set(rois["protocol"]) == {"no label"}
    assert note.startswith(
        "18 scans have tables of an earlier version, which tell neither echo times nor voxel size"
    )
    # there is nothing that repeats
    assert add_protocols(people_table(subjects=2, scans=1))[1] == []


def test_scans_that_runs_with_filters_numbered_alike():
    """Each session was processed on its own, as the first of its site."""
    table = people_table(subjects=1, sites="A", scans=3, methods=("iterative",))
    table = table.assign(
        session="A" + table["run"], run=np.nan, scan=1, echo_times="6, 14", voxel_size="1, 1, 2"
    )
    rois, notes = add_protocols(table)
    assert notes == []
    assert [(row[1], row[4]) for row in protocols_of(rois)] == [("A1", 1), ("A2", 2), ("A3", 3)]
