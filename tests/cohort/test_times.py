"""Computation times of a study's scans: missing and damaged files are reported and not fatal."""

import json

import pytest
from helpers.tables import people_table, write_scans

from multiqsm.cohort.times import collect_times
from multiqsm.dataset.files import remove_partial_files
from multiqsm.dataset.times import InversionTime, times_path, write_times

TIME = InversionTime(12.0, 20.0, 0.5, (40, 40, 45), 2, "a processor")


@pytest.fixture
def study(tmp_path):
    """Two scans of a person at each of two sites, with the times of both inversions."""
    rois = people_table(subjects=1, sites="AB", scans=2)
    write_scans(tmp_path, rois)
    return tmp_path, rois


def test_times_of_all_scans_and_inversions(study):
    root, rois = study
    write_times(root, "sub-01_ses-A_run-1", {"iterative": TIME, "deterministic": TIME})
    times, notes = collect_times(root, rois)
    assert notes == []
    assert len(times) == 8
    row = times[(times["scan"] == "sub-01_ses-A_run-1") & (times["method"] == "iterative")].iloc[0]
    expected = {"wall": 12, "cpu": 20, "fft_pair": 0.5, "fft_pairs": 24, "threads": 2}
    assert row[list(expected)].to_dict() == expected


def test_scans_and_inversions_without_values_are_not_counted(study):
    """They may have been left out of the statistics, or be those of an earlier run."""
    root, rois = study
    times, notes = collect_times(
        root, rois[(rois["site"] == "A") & (rois["method"] == "iterative")]
    )
    assert notes == []
    assert set(times["scan"]) == {"sub-01_ses-A_run-1", "sub-01_ses-A_run-2"}
    assert set(times["method"]) == {"iterative"}


def test_missing_times_are_reported(study):
    root, rois = study
    times_path(root, "sub-01_ses-A_run-1").unlink()
    write_times(root, "sub-01_ses-B_run-2", {"iterative": TIME})
    times, (note,) = collect_times(root, rois)
    assert len(times) == 8 - 2 - 1
    assert "of 2 scans are not known (sub-01_ses-A_run-1, sub-01_ses-B_run-2)" in note
    assert "run the participant level again" in note


def test_three_of_many_scans_without_times_are_named(tmp_path):
    rois = people_table(subjects=4, sites="AB", scans=2)
    _, (note,) = collect_times(tmp_path, rois)
    assert "of 16 scans are not known (" in note
    assert note.count("sub-") == 3
    assert " and 13 more);" in note


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "no JSON object"),
        ("[]", "no JSON object"),
        ('{"iterative": 3}', "iterative: WallTime is not a positive number"),
        ({"WallTime": -1.0}, "WallTime is not a positive number"),
        ({"WallTime": True}, "WallTime is not a positive number"),
        ({"CPUTime": "fast"}, "CPUTime is not a number"),
        ({"FFTPairTime": 0}, "FFTPairTime is not a positive number"),
        ({"GridShape": [40, 1.5]}, "GridShape is not a list of numbers of voxels"),
        ({"Threads": None}, "Threads is not a number of threads"),
    ],
)
def test_a_damaged_file_is_named_and_the_others_are_read(study, content, cause):
    root, rois = study
    path = times_path(root, "sub-01_ses-B_run-1")
    if isinstance(content, dict):
        content = json.dumps({"iterative": {**TIME.record, **content}})
    path.write_text(content)
    times, (note,) = collect_times(root, rois)
    assert len(times) == 6
    assert str(path) in note
    assert cause in note


def test_unfinished_files_of_a_killed_run_are_removed(tmp_path):
    path = write_times(tmp_path, "sub-01_ses-A", {"iterative": TIME})
    partial = path.with_name(f".{32 * 'a'}.{path.name}")
    partial.write_text("{")
    remove_partial_files(tmp_path, "sub-01")
    assert [path.name for path in path.parent.iterdir()] == ["sub-01_ses-A.json"]
