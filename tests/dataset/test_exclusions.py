"""What a study excludes in its tables or with --exclude is passed over, with the reason."""

import pandas as pd
import pytest
from helpers.datasets import write_dataset

from multiqsm.cli.app import main
from multiqsm.cli.faults import Faults
from multiqsm.cohort.roi_tables import add_participants
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.exclude_file import read_exclude_file
from multiqsm.dataset.exclusion_values import judge_row
from multiqsm.dataset.exclusions import Exclusion, read_exclusions
from multiqsm.dataset.problems import DatasetError

TABLES = {
    "participants.tsv": (  # in which quality may be that of sleep
        "participant_id\tExclude\treason\tquality\nsub-03\ttrue\twithdrew\t7\nsub-01\t\t\tpoor\n"
    ),
    "sub-02/sub-02_sessions.tsv": "session_id\texcluded\nses-B\tyes\nses-A\tno\n",
    "sub-01/ses-A/sub-01_ses-A_scans.tsv": (
        "filename\tquality\texclude\tcomment\n"
        "anat/sub-01_ses-A_run-2_part-mag_T2starw.nii.gz\tbad\tn/a\tmoved, twice\n"
        "anat/sub-01_ses-A_run-1_part-mag_T2starw.nii.gz\tbad\t0\t\n"
        "anat/sub-01_ses-A_run-1_T1w.nii.gz\tn/a\t1\t\n"
        "anat/sub-01_ses-A_run-9_T2starw.nii.gz\tn/a\t1\t\n"
    ),
    "sub-01/ses-B/sub-01_ses-B_scans.tsv": (
        "filename\texclude\nanat/sub-01_ses-B_run-1_part-mag_T2starw.nii.gz\tmaybe\n"
    ),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Return a dataset of twelve scans, some of which its tables exclude."""
    root = write_dataset(
        tmp_path_factory.mktemp("bids"),
        subjects=("01", "02", "03"),
        sessions=("A", "B"),
        runs=("1", "2"),
        suffix="T2starw",
        echo_times=(0.02,),
    )
    for name, text in TABLES.items():
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("row", "excludes"),
    [
        *[({"exclude": value}, True) for value in ("true", "1", "YES", "exclude", "1.0", " x ")],
        *[({"exclude": value}, False) for value in ("False", "0", "no", "n/a", "", None, "0.0")],
        ({"exclude": "yes: motion"}, True),
        ({"exclude": "motion"}, None),
        ({"exclude": "2"}, None),
        *[({"quality": value}, True) for value in ("exclude", "Bad", "0", "fail", "poor")],
        *[({"quality": value}, False) for value in ("good", "1", "n/a", "4", "so so")],
        ({"quality": "bad", "exclude": "no"}, False),
        ({"quality": "bad", "exclude": "n/a"}, True),
        ({"quality": "bad", "exclude": "motion"}, True),
        ({"quality": "good", "exclude": "motion"}, None),
        ({"age": "1"}, False),
    ],
)
def test_words_that_exclude(row, excludes):
    assert judge_row(row).excludes is excludes


def test_numbers_on_a_scale_are_no_verdict(tmp_path):
    root = write_dataset(tmp_path, subjects=("01", "02"), suffix="T2starw", echo_times=(0.02,))
    for subject, quality in (("01", 0), ("02", 3)):
        name = f"sub-{subject}_part-mag_T2starw.nii.gz"
        table = root / f"sub-{subject}" / f"sub-{subject}_scans.tsv"
        table.write_text(f"filename\tquality\nanat/{name}\t{quality}\n")
    scans, (warning,) = collect_scans(root)
    assert len(scans) == 2
    assert "'0' (sub-01_scans.tsv, line 2), '3' (sub-02_scans.tsv, line 2)" in warning.cause
    (root / "sub-02/sub-02_scans.tsv").unlink()
    (scan,), _ = collect_scans(root)  # 0 and 1 alone are no and yes
    assert scan.label == "sub-02"


def test_tables_exclude_scans_sessions_and_participants(dataset):
    scans, left_out = collect_scans(dataset)
    assert [scan.label for scan in scans] == [
        "sub-01_ses-A_run-1",
        "sub-01_ses-B_run-2",
        "sub-02_ses-A_run-1",
        "sub-02_ses-A_run-2",
    ]
    by_label = {problem.scan: problem for problem in left_out}
    scan = by_label["sub-01_ses-A_run-2"]
    reason = "quality is 'bad': moved, twice (sub-01_ses-A_scans.tsv, line 2)"
    assert (scan.severity, scan.cause) == ("excluded", reason)
    assert by_label["sub-02_ses-B_run-1"].cause == "excluded is 'yes' (sub-02_sessions.tsv, line 2)"
    assert by_label["sub-03_ses-B_run-2"].cause.startswith("Exclude is 'true': withdrew")
    unclear = by_label["sub-01_ses-B_run-1"]
    assert (unclear.severity, "exclude is 'maybe'" in unclear.cause) == ("error", True)
    stale = by_label["sub-01_ses-A_scans.tsv"]
    assert stale.severity == "warning"
    assert "line 5 excludes sub-01_ses-A_run-9, which is not in the dataset" in stale.cause


def test_dry_run_lists_what_is_excluded(dataset, tmp_path, capsys):
    listed = tmp_path / "exclude.tsv"
    listed.write_text("sub-02_ses-A_run-2\twrap\n")
    places = [str(dataset), str(tmp_path / "out"), "participant", "--dry-run"]
    assert main([*places, "--exclude", str(listed), "-w", str(tmp_path / "work")]) == 1  # maybe
    printed = capsys.readouterr().out
    assert "excluded: sub-02_ses-A_run-2: wrap (--exclude exclude.tsv, line 1)" in printed
    assert "3 scans of 2 subjects at 2 sites would be processed, 1 left out, 8 not used" in printed


KNOWN = [
    {"subject": "01", "session": "A", "run": "01"},
    {"subject": "01", "session": "A", "acquisition": "x", "run": "01"},
    {"subject": "02", "session": "B"},
    {"subject": "03"},
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sub-01", {0, 1}),
        ("01\n", {0, 1}),
        ("\ufeffsub-01/ses-A/\r\n", {0, 1}),
        ("sub-01_ses-A_run-01", {0}),
        ("sub-01_ses-A_acq-x", {1}),
        ("# all\nsub-01/ses-A/anat/sub-01_ses-A_run-01_echo-1_part-mag_MEGRE.nii.gz", {0}),
        ("ses-B", {2}),
        ("sub-03, motion\n\nsub-02; artefact", {2, 3}),
        ("participant_id\tsession_id\treason\nsub-01\tn/a\tx\nsub-02\tB\ty", {0, 1, 2}),
        ("scan,exclude\nsub-03,1\nsub-02,0", {3}),
        ("subject\tsession\tscan\n02\tB\t1", {2}),
    ],
)
def test_file_of_exclude(tmp_path, text, expected):
    path = tmp_path / "exclude.txt"
    path.write_text(text, encoding="utf-8", newline="")
    excluded = set()
    for entry, is_exact in read_exclude_file(path, KNOWN)[0]:
        exclusion = Exclusion(entry.entities, "", is_exact=is_exact)
        excluded |= {place for place, scan in enumerate(KNOWN) if exclusion.applies_to(scan)}
    assert excluded == expected


@pytest.mark.parametrize(
    "text", ["sub-02 motion\n", "sub-02\tmotion", "scan\treason\nsub-02\tmotion"]
)
def test_reasons_of_the_file(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    ((entry, _),), _ = read_exclude_file(tmp_path / "list.txt", KNOWN)
    assert entry.reason == "motion"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "\nsub-04\nsub-02_ses-A\n",
            r"sub-04 \(line 2\), sub-02_ses-A \(line 3\); correct the entries$",
        ),
        ("sub-02_ses-C", "did you mean sub-02_ses-B"),
        ("sub-0*", "line 1: 'sub-0\\*' is no gradient-echo scan"),
        ("sub-01_ses-A_T1w.nii.gz", "is no gradient-echo scan"),
        ("scan\texclude\nsub-01\tmaybe", "line 2: exclude is 'maybe'; write true or false"),
        ("\n# nothing\n", "lists nothing"),
    ],
)
def test_faults_of_the_file_are_found_before_work(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_exclude_file(tmp_path / "list.txt", KNOWN)


def test_entries_of_other_scans_of_the_study_are_warned_of(dataset, tmp_path):
    """The list of a whole study is used with a copy of a part of it."""
    (tmp_path / "list.txt").write_text("sub-09\tmotion\nsub-01_ses-A_run-1\nsub-01_ses-C\n")
    exclusions = read_exclusions(dataset, tmp_path / "list.txt")
    warnings = [str(problem) for problem in exclusions.problems if "list.txt" in problem.scan]
    assert [warning.split(";")[0] for warning in warnings] == [
        "--exclude list.txt: line 1 excludes sub-09, which is not in the dataset",
        "--exclude list.txt: line 3 excludes sub-01_ses-C, which is not in the dataset",
    ]
    scan = {"subject": "01", "session": "A", "run": "1"}
    assert exclusions.verdict(scan).severity == "excluded"
    scans, left_out = collect_scans(dataset, exclude=tmp_path / "list.txt")
    assert len(scans) == 3
    assert set(warnings) <= set(map(str, left_out))


def test_missing_file(dataset, tmp_path):
    with pytest.raises(DatasetError, match=r"--exclude .*No such file"):
        read_exclusions(dataset, tmp_path / "missing.txt")


def test_table_that_cannot_be_read_stops_its_session_alone(tmp_path):
    root = write_dataset(tmp_path, sessions=("A", "B"), suffix="T2starw", echo_times=(0.02,))
    (root / "sub-01/ses-A/sub-01_ses-A_scans.tsv").write_text("file\texclude\nx\t1\n")
    (scan,), (problem,) = collect_scans(root)
    assert scan.label == "sub-01_ses-B"
    assert (problem.scan, problem.severity) == ("sub-01_ses-A", "error")
    assert "no column filename" in problem.cause


def test_both_levels_say_that_rows_of_a_person_contradict_each_other(tmp_path):
    """A contradiction in age concerns the group level only, but is said before any work."""
    root = write_dataset(tmp_path, suffix="T2starw", echo_times=(0.02,))
    rows = "sub-01\t30\tF\nsub-01\t31\tn/a\n"
    (root / "participants.tsv").write_text(f"participant_id\tage\tsex\n{rows}")
    ((scan,), _) = collect_scans(root)
    rois, notes = add_participants(pd.DataFrame({"subject": ["01"]}), root)
    assert scan.notes == tuple(notes)
    assert "rows of sub-01 contradict each other: its age was not used" in notes[0]
    assert rois["sex"].tolist() == ["F"]
    assert rois["age"].isna().all()


def test_report_and_checklist_tell_of_excluded_scans(dataset):
    """The subject's report shows warnings; the checklist reads what was not processed."""
    _, left_out = collect_scans(dataset, participant_label=["01"])
    faults = Faults(left_out)
    reason = "quality is 'bad': moved, twice (sub-01_ses-A_scans.tsv, line 2)"
    assert f"sub-01_ses-A_run-2: excluded: {reason}" in faults.warnings["01"]
    assert "sub-01_ses-A_run-2" in [problem.scan for problem in faults.not_processed]
