"""Regional values of all scans, with protocols and participants."""

import numpy as np
import pandas as pd
import pytest
from helpers.tables import people_table, r2star_table, tubes_table, write_r2star, write_scans

from multiqsm.cohort.roi_tables import (
    add_participants,
    add_protocols,
    read_r2star_tables,
    read_roi_table,
    read_roi_tables,
)
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.tables import read_tsv, write_tsv


def test_tables_of_all_scans(tmp_path):
    table = people_table(subjects=2)
    write_scans(tmp_path, table)
    rois = read_roi_tables(tmp_path)
    columns = ["subject", "session", "run", "method", "roi"]
    pd.testing.assert_frame_equal(
        rois.sort_values(columns, ignore_index=True), table.sort_values(columns, ignore_index=True)
    )


def test_labels_are_text_and_missing_ones_are_missing(tmp_path):
    """Subjects, sites and regions may be called 01, 1 or NA; session and run may be missing."""
    table = people_table(subjects=2, sites="1", scans=1).assign(session=np.nan, run=np.nan)
    table = table.replace({"roi": {"putamen": "NA", "pallidum": "12"}})
    table.loc[0, "mean"] = np.nan
    write_scans(tmp_path, table)
    rois = read_roi_tables(tmp_path)
    assert set(rois["subject"]) == {"01", "02"}
    assert set(rois["site"]) == {"1"}
    assert {"NA", "12"} < set(rois["roi"])
    assert rois[["session", "run"]].isna().all(axis=None)
    assert rois["mean"].isna().sum() == 1
    assert rois["mean"].dtype == float


def test_only_phantoms_have_expected_values(tmp_path):
    write_scans(tmp_path, people_table(subjects=1, scans=1))
    write_scans(tmp_path, tubes_table())
    rois = read_roi_tables(tmp_path)
    assert rois["expected"].notna().tolist() == (rois["subject"] == "phantom").tolist()


def test_r2star_has_numbers_and_participants_of_the_table_of_susceptibility(tmp_path):
    """Two protocols at a site are numbered separately for susceptibility, and so they are here,
    although a scan of two echoes has no R2*.
    """
    table = people_table(subjects=1, sites="A", scans=4, methods=("iterative",))
    is_long = table["run"].isin(["2", "4"])
    table["echo_times"] = np.where(is_long, "6, 14, 22", "4, 8, 12")
    rois, _ = add_protocols(table)
    rois = rois.assign(age=30.0)
    written = r2star_table(table[table["run"] != "3"])
    write_r2star(tmp_path, written)
    r2star, notes = read_r2star_tables(tmp_path, rois)
    assert notes == []
    assert len(r2star) == len(written)
    number = r2star.set_index("run")["scan"]
    assert (number["1"] == 1).all()
    assert (number["2"] == 1).all()
    assert (number["4"] == 2).all()
    assert (r2star["age"] == 30).all()
    assert r2star["protocol"].nunique() == 2
    scan_and_region = ["run", "roi"]
    means = r2star.sort_values(scan_and_region)["mean"]
    np.testing.assert_allclose(means, written.sort_values(scan_and_region)["mean"])


def test_r2star_without_a_table_of_susceptibility_is_noted(tmp_path):
    table = people_table(subjects=1, scans=1, methods=("iterative",))
    write_r2star(tmp_path, r2star_table(table))
    r2star, notes = read_r2star_tables(tmp_path, table[table["site"] != "B"])
    assert set(r2star["site"]) == {"A", "C"}
    assert len(notes) == 1
    assert notes[0].startswith("1 table of R2* not used")


def test_study_without_r2star(tmp_path):
    r2star, notes = read_r2star_tables(tmp_path, people_table())
    assert r2star.empty
    assert notes == []


def test_invalid_table_of_r2star_is_left_out_with_a_note(tmp_path):
    path = tmp_path / "sub-01" / "anat" / "sub-01_desc-rois_R2starmap.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("subject\tmean\n01\t20\n")
    cause = "R2starmap.tsv: no column session, run, site, scan, roi, unit"
    r2star, (note,) = read_r2star_tables(tmp_path, people_table())
    assert r2star.empty
    assert note.startswith("R2* of sub-01 not used: ")
    assert cause in note


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
def test_invalid_table_is_reported(tmp_path, content, cause):
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
    table, notes = add_participants(rois, root)
    assert notes == []
    assert ages(table) == {"01": 23, "02": pytest.approx(np.nan, nan_ok=True), "03": 41.5}
    assert table.groupby("subject")["sex"].agg(set).to_dict() == {
        "01": {"F"},
        "02": {np.nan},
        "03": {"M"},
    }
    assert list(table.columns) == [*rois.columns, "age", "sex"]
    assert "age" not in rois


def test_labels_without_prefix_and_subjects_without_a_row(raw):
    table, _ = add_participants(people_table(subjects=2), raw("participant_id\tage\n01\t30\n"))
    assert ages(table) == {"01": 30, "02": pytest.approx(np.nan, nan_ok=True)}


def test_missing_and_invalid_data_of_participants_are_noted(raw):
    rois = people_table(subjects=2)
    table, notes = add_participants(rois, raw("participant_id\tage\nsub-01\t89+\nsub-02\t30\n"))
    assert notes == [
        "participants.tsv: no column sex",
        "participants.tsv: age '89+' is not a number of years and was not used",
    ]
    assert ages(table) == {"01": pytest.approx(np.nan, nan_ok=True), "02": 30}


@pytest.mark.parametrize(
    ("rows", "expected", "contradictory"),
    [
        ("sub-01\t25\tF\nsub-01\t25\tF\n", {"age": 25, "sex": "F"}, []),
        ("sub-01\t25\tF\n01\tn/a\tF\n", {"age": 25, "sex": "F"}, []),
        ("sub-01\t25\tF\nsub-01\t26\tF\n", {"age": np.nan, "sex": "F"}, ["age"]),
        ("sub-01\t25\tF\nsub-01\t26\tM\n", {"age": np.nan, "sex": np.nan}, ["age", "sex"]),
    ],
)
def test_participant_with_two_rows(raw, rows, expected, contradictory):
    """Contradictory values are not used; other values and other participants are unaffected."""
    table, notes = add_participants(
        people_table(subjects=2), raw(f"participant_id\tage\tsex\n{rows}sub-02\t30\tM\n")
    )
    first = table[table["subject"] == "01"].iloc[0]
    second = table[table["subject"] == "02"].iloc[0]
    for column, value in expected.items():
        assert first[column] == value or (value != value and pd.isna(first[column]))
    assert (second["age"], second["sex"]) == (30, "M")
    assert notes == [
        f"participants.tsv: rows of sub-01 contradict each other: its {column} was not used; "
        "remove all but one"
        for column in contradictory
    ]


def test_no_participants(tmp_path):
    table, (note,) = add_participants(people_table(subjects=2), tmp_path)
    assert "age" not in table
    assert "participants.tsv: missing" in note


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("id\tage\n01\t3\n", "no column participant_id"),
        ("", "save the table as UTF-8 text"),
    ],
)
def test_invalid_table_of_participants(raw, text, cause):
    with pytest.raises(DatasetError, match=cause):
        add_participants(people_table(subjects=1), raw(text))


def scans_of(rois):
    """Subject, session, run, protocol and number of each scan."""
    return rois[["subject", "session", "run", "protocol", "scan"]].drop_duplicates()


def test_acquisitions_are_distinguished_and_numbered_separately(tmp_path):
    """In tables of this version, and of an earlier one, which have the label in the name only."""
    table = people_table(subjects=1, sites="A", scans=2, methods=("iterative",)).assign(run=np.nan)
    table = table.assign(acquisition=table["scan"].map({1: "fine", 2: "coarse"}))
    for version in (table, table.drop(columns="acquisition")):
        root = tmp_path / f"{len(version.columns)}"
        for acquisition, rows in version.groupby(table["acquisition"]):
            write_scans(root, rows, acquisition=acquisition)
        rois, notes = add_protocols(read_roi_tables(root))
        assert notes == []  # no scan is a repeat of another
        scans = scans_of(rois)
        assert scans["protocol"].tolist() == ["acq-coarse", "acq-fine"]
        assert scans["scan"].tolist() == [1, 1]


def test_echoes_that_were_named_as_runs_do_not_count_as_repeats():
    table = people_table(subjects=1, sites="A", scans=3, methods=("iterative",))
    table = table.assign(
        echo_times=table["scan"].map({1: "6", 2: "14", 3: "22"}), voxel_size="4, 4, 4"
    )
    rois, notes = add_protocols(table)
    assert notes == []
    scans = scans_of(rois)
    assert scans["protocol"].tolist() == [
        "TE 6 ms, 4×4×4 mm",
        "TE 14 ms, 4×4×4 mm",
        "TE 22 ms, 4×4×4 mm",
    ]
    assert scans["scan"].tolist() == [1, 1, 1]


def test_tables_of_an_earlier_version_are_one_protocol_with_a_note():
    table = people_table(subjects=2, scans=3)
    rois, (note,) = add_protocols(table)
    pd.testing.assert_frame_equal(rois.drop(columns="protocol"), table)
    assert set(rois["protocol"]) == {"no label"}
    assert note.startswith(
        "18 scans with tables of an earlier version, without echo times and voxel size"
    )
    # Single scans have no repeats, so there is no note.
    assert add_protocols(people_table(subjects=2, scans=1))[1] == []


def test_scans_with_the_same_number_are_numbered_anew():
    """Each session was processed by a separate run, as the first of its site."""
    table = people_table(subjects=1, sites="A", scans=3, methods=("iterative",))
    table = table.assign(
        session="A" + table["run"], run=np.nan, scan=1, echo_times="6, 14", voxel_size="1, 1, 2"
    )
    rois, notes = add_protocols(table)
    assert notes == []
    scans = scans_of(rois)
    assert scans["session"].tolist() == ["A1", "A2", "A3"]
    assert scans["scan"].tolist() == [1, 2, 3]
