"""Every table of the group level leaves out what the study excludes, and lists it."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.tables import people_table, r2star_table, tubes_table, write_r2star, write_scans

from multiqsm.cli.app import main
from multiqsm.cohort.included import study_exclusions
from multiqsm.cohort.patients import collect_patients
from multiqsm.dataset.outputs import write_dataset_description
from multiqsm.dataset.tables import read_tsv, write_tsv
from multiqsm.interfaces.group import CollectRoiTables, ComputationTimes, StudyStatistics

PARTICIPANTS = (
    "participant_id\tspecies\tage\texclude\tsite\n"
    "sub-01\thuman\t30\tno\tA\nsub-02\thuman\t40\tyes\tA\nsub-04\thuman\t50\tno\tA\n"
    "sub-04\thuman\t50\tno\tB\n"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study whose tables exclude a person, a session and two scans, one of a phantom;
    the rows of sub-04 contradict each other, and the table of a scan of sub-01 is damaged.
    """
    root = tmp_path_factory.mktemp("study")
    raw = root / "raw"
    scans_tsv = raw / "sub-03/ses-B/sub-03_ses-B_scans.tsv"
    scans_tsv.parent.mkdir(parents=True)
    (raw / "dataset_description.json").write_text(
        json.dumps({"Name": "Study", "BIDSVersion": "1.10.0"})
    )
    (raw / "participants.tsv").write_text(PARTICIPANTS)
    (raw / "sub-03/sub-03_sessions.tsv").write_text("session_id\texclude\nses-A\t1\n")
    image = "anat/sub-03_ses-B_run-2_part-mag_MEGRE.nii.gz"
    scans_tsv.write_text(f"filename\tquality\n{image}\tbad\n")
    (root / "exclude.txt").write_text("sub-phantom_ses-C\tbubbles\n")
    whole = pd.concat([people_table(), tubes_table()], ignore_index=True)
    write_dataset_description(root / "out", raw)
    write_scans(root / "out", whole)
    write_r2star(root / "out", r2star_table(whole))
    damaged = "sub-01/ses-C/anat/sub-01_ses-C_run-3_desc-rois"
    (root / f"out/{damaged}_chi.tsv").write_text("subject\tmean\n")
    (root / "out/sub-01/ses-C/anat/sub-01_ses-C_run-2_desc-rois_R2starmap.tsv").write_bytes(b"")
    return root


def scans_in(table):
    return set(table[["subject", "session", "run"]].itertuples(index=False, name=None))


def test_no_table_has_excluded_scans(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {"bids_dir": str(study / "raw"), "output_dir": str(study / "out")}
    collect = CollectRoiTables(**folders, exclude=str(study / "exclude.txt"))
    collected = collect.run(cwd=tmp_path).outputs
    statistics = StudyStatistics(
        in_file=collected.out_file,
        r2star_file=collected.r2star_file,
        excluded_file=collected.excluded_file,
    )
    files = statistics.run(cwd=tmp_path).outputs.tables
    times = ComputationTimes(tables=files, output_dir=str(study / "out"))
    files = times.run(cwd=tmp_path).outputs.tables
    tables = {name: read_tsv(file) for name, file in files.items()}
    excluded = {("03", "A", run) for run in "123"} | {("03", "B", "2"), ("phantom", "C", "1")}
    excluded.add(("01", "C", "3"))
    for subject in ("02", "04"):
        excluded |= {(subject, site, run) for site in "ABC" for run in "123"}
    assert scans_in(tables["excluded"]) == excluded
    reasons = tables["excluded"].set_index(["subject", "session", "run"])["reason"]
    assert reasons["02", "A", "1"] == "exclude is 'yes' (participants.tsv, line 3)"
    assert reasons["03", "A", "2"] == "exclude is '1' (sub-03_sessions.tsv, line 2)"
    assert reasons["03", "B", "2"] == "quality is 'bad' (sub-03_ses-B_scans.tsv, line 2)"
    assert reasons["phantom", "C", "1"] == "bubbles (--exclude exclude.txt, line 1)"
    assert "rows of sub-04 contradict each other in column site" in reasons["04", "A", "1"]
    assert "no column session" in reasons["01", "C", "3"]
    assert set(tables["excluded"]["site"].dropna()) == set("ABC")
    n_checked = 0
    for name, table in tables.items():
        if {"subject", "session", "run"} <= set(table) and name != "excluded":
            assert not scans_in(table) & excluded, name
            n_checked += 1
        elif "subject" in table and name != "excluded":
            assert not set(table["subject"]) & {"02", "04"}, name
            n_checked += 1
    assert n_checked > 5
    assert set(tables["times"]["n_scans"]) == {2 * 9 - 5}
    of_site = tables["calibration"].set_index("site")["n_scans"]
    assert "C" not in of_site.index
    notes = "\n".join(collected.notes)
    assert "R2* of sub-01_ses-C_run-2 not used: " in notes
    assert "14 scans excluded by the study: " in notes
    assert (
        "10 scans left out, since a table cannot be used: sub-01_ses-C_run-3, sub-04_ses-A" in notes
    )


def test_dry_run_gives_the_same_verdict_before_work(study, tmp_path, capsys):
    places = [str(study / "raw"), str(study / "out"), "group", "-w", str(tmp_path / "work")]
    assert main([*places, "--dry-run"]) == 1  # sub-01, sub-04
    printed, warnings = capsys.readouterr()
    assert "warning: participants.tsv: no column sex" in warnings
    assert "excluded: sub-03_ses-B_run-2: quality is 'bad'" in printed
    assert "error: sub-04_ses-A_run-1: participants.tsv: rows of sub-04 contradict" in printed
    assert "16 scans of 3 subjects at 3 sites, 23 excluded" in printed
    missing = tmp_path / "list.txt"
    missing.write_text("sub-05\n")
    assert main([*places, "--exclude", str(missing)]) == 2
    assert "no entry is in the dataset: sub-05 (line 1)" in capsys.readouterr().err
    missing.write_text("sub-01\nsub-03\nsub-phantom\n")
    assert main([*places, "--exclude", str(missing)]) == 2
    assert "every scan with regional values is excluded (39 scans)" in capsys.readouterr().err
    assert not (study / "out" / "group").exists()


def test_patients_of_a_model(study):
    """Three scans of sub-03 remain at each of two sites, less one; the means are of these."""
    out = study / "out"
    quality = pd.DataFrame({"subject": "03", "session": ["A", "B"], "run": ["1", "1"]})
    write_tsv(out / "sub-03/anat/sub-03_desc-quality_stats.tsv", quality.assign(snr=[9.0, 50.0]))
    exclusions = study_exclusions(study / "raw", out, study / "exclude.txt")
    options = {"method": "iterative", "region": "putamen", "exclusions": exclusions}
    patients = collect_patients(study / "raw", out, **options)
    assert patients.table.index.tolist() == ["01", "03"]
    rows = people_table()
    rows = rows[(rows["method"] == "iterative") & (rows["roi"] == "putamen")]
    rows = rows[(rows["subject"] == "03") & (rows["session"] != "A")]
    rows = rows[(rows["session"] != "B") | (rows["run"] != "2")]
    expected = 1000 * rows["mean"].mean()
    np.testing.assert_allclose(patients.table.loc["03", "relative_susceptibility"], expected)
    assert patients.table.loc["03", "snr"] == 50
    listed = patients.listed[patients.listed["left_out"]].set_index("participant")["reason"]
    assert listed["02"] == "exclude is 'yes' (participants.tsv, line 3)"
    assert "contradict each other" in listed["04"]
