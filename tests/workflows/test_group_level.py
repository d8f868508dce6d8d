"""The group level from the tables of all scans to those of a study and its report."""

import html
import json
import re
import shutil
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
from helpers.datasets import validator_findings
from helpers.pages import table_of
from helpers.tables import (
    SLOPES,
    WALL_TIMES,
    people_table,
    r2star_table,
    tubes_table,
    write_r2star,
    write_scans,
)

from multiqsm.cli.app import main
from multiqsm.dataset.methods import write_citation
from multiqsm.dataset.outputs import write_dataset_description
from multiqsm.dataset.tables import read_tsv, write_tsv
from multiqsm.dataset.times import times_path
from multiqsm.execution.completion import write_completion_record
from multiqsm.stats.reproducibility import imprecision
from multiqsm.workflows.settings import PRESETS

TABLES = {
    *("roi_chi", "tubes_chi", "calibration", "imprecision", "imprecision_summary"),
    *(
        "within_versus_cross",
        "equivalence",
        "between_rois",
        "between_methods",
        "within_subject_sd",
        "icc",
    ),
    *(
        "references",
        "components",
        "sdc",
        "sample_size",
        "bland_altman",
        "bland_altman_points",
        "harmonized",
    ),
    *("harmonization", "age", "times", "warnings"),
    *("roi_r2star", "tubes_r2star", "within_subject_sd_r2star", "icc_r2star", "nuclei"),
    *("imprecision_r2star", "imprecision_summary_r2star"),
}


def write_study(root, table, *, participants="participant_id\tage\tsex\n"):
    """Write a raw dataset without images, and a derivative dataset with only tables."""
    raw = root / "raw"
    out = root / "out"
    raw.mkdir()
    (raw / "dataset_description.json").write_text(
        json.dumps({"Name": "Study", "BIDSVersion": "1.10.0"})
    )
    if participants:
        (raw / "participants.tsv").write_text(participants)
    write_dataset_description(out, raw)
    write_citation(out)
    write_scans(out, table)
    return root


def run(root, *options):
    """Run the group level; return its exit code."""
    arguments = [str(root / "raw"), str(root / "out"), "group", "-w", str(root / "work")]
    return main([*arguments, "--plugin", "Linear", *options])


def group_table(root, name):
    return read_tsv(root / "out" / "group" / f"{name}.tsv")


@pytest.fixture(scope="module")
def whole():
    """People whose values follow the slope of their site, and the phantom that it is fitted to."""
    return pd.concat([people_table(slopes=SLOPES), tubes_table()], ignore_index=True)


@pytest.fixture(scope="module")
def study(tmp_path_factory, whole):
    ages = "".join(f"sub-{subject:02}\t{20 + 3 * subject}\tF\n" for subject in range(1, 5))
    root = write_study(
        tmp_path_factory.mktemp("group"), whole, participants=f"participant_id\tage\tsex\n{ages}"
    )
    write_r2star(root / "out", r2star_table(whole))
    assert run(root, "--plugin", "MultiProc", "--n-procs", "2", "-w", str(root / "other")) == 0
    return root


@pytest.mark.slow
def test_all_tables_are_written(study, whole):
    folder = study / "out" / "group"
    assert {path.stem for path in folder.glob("*.tsv")} == TABLES
    assert {path.stem for path in folder.glob("*.json")} == TABLES
    people = whole[whole["expected"].isna()]
    rois = group_table(study, "roi_chi")
    assert len(rois) == len(people)
    assert set(rois["age"]) == {23, 26, 29, 32}
    assert set(rois["sex"]) == {"F"}
    key = ["subject", "method", "roi"]
    expected = imprecision(people).sort_values(key, ignore_index=True)
    written = group_table(study, "imprecision").sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(written, expected)
    slopes = group_table(study, "calibration").set_index(["site", "method"])["slope"]
    for site, slope in SLOPES.items():
        assert slopes[site, "iterative"] == pytest.approx(slope)


@pytest.mark.slow
def test_r2star_is_reported_beside_the_published_values(study, whole):
    people = r2star_table(whole[whole["expected"].isna()])
    r2star = group_table(study, "roi_r2star")
    assert len(r2star) == len(people)
    assert set(r2star["age"]) == {23, 26, 29, 32}
    sdw = group_table(study, "within_subject_sd_r2star").set_index(["roi", "definition"])["sdw"]
    putamen = people[people["roi"] == "putamen"]
    variances = putamen.groupby(["subject", "site"])["mean"].var(ddof=1)
    assert sdw["putamen", "within_site"] == pytest.approx(np.sqrt(variances.mean()))
    assert "csf" not in sdw.index.get_level_values("roi")  # the reference of susceptibility
    page = (study / "out" / "group.html").read_text()
    rows = table_of(page, "Within-subject SD and ICC of the deep grey nuclei together")
    published = {}
    for row in rows[1:]:
        published.setdefault((row[0], row[2]), row[4])
    assert published["susceptibility", "within site"] == "2.36"
    assert published["susceptibility", "all scans"] == "4.16"
    assert published["R2*", "within site"] == "0.97"
    assert published["R2*", "all scans"] == "1.27"
    nuclei = group_table(study, "nuclei").set_index(["quantity", "definition"])
    of_nuclei = nuclei.loc[("R2*", "within_site")]
    assert of_nuclei["nuclei"] == "putamen"
    assert of_nuclei["sdw"] == pytest.approx(sdw["putamen", "within_site"])
    assert "10.1002/nbm.4788" in page


@pytest.mark.slow
def test_study_without_r2star_has_all_other_tables(tmp_path, study, whole):
    """Tables of an earlier run are removed."""
    write_study(tmp_path, whole, participants=(study / "raw" / "participants.tsv").read_text())
    write_r2star(tmp_path / "out", r2star_table(whole))
    assert run(tmp_path) == 0
    for path in (tmp_path / "out").glob("sub-*/**/*_R2starmap.tsv"):
        path.unlink()
    assert run(tmp_path) == 0
    written = {file.name: file for file in (tmp_path / "out" / "group").glob("*.tsv")}
    assert set(written) == {f"{name}.tsv" for name in TABLES if "r2star" not in name}
    assert "without R2*" in written.pop("warnings.tsv").read_text()
    assert set(read_tsv(written.pop("nuclei.tsv"))["quantity"]) == {"susceptibility"}
    for name, file in written.items():
        assert file.read_bytes() == (study / "out" / "group" / name).read_bytes(), name
    page = (tmp_path / "out" / "group.html").read_text()
    assert "which was not computed: R2*" in page


@pytest.mark.slow
def test_computation_times_are_in_a_table_and_in_the_report(study):
    """Those of people: every scan was given the same times, so that their SD is 0."""
    times = group_table(study, "times").set_index("method")
    ratio = WALL_TIMES["iterative"] / WALL_TIMES["deterministic"]
    for method, wall in WALL_TIMES.items():
        row = times.loc[method]
        assert row["n_scans"] == row["n_ratio"] == 36
        assert (row["wall"], row["wall_sd"], row["cpu"]) == (wall, 0, 2 * wall)
        assert row["fft_pairs"] == wall / 0.25
    assert times.loc["iterative", "wall_ratio"] == ratio
    page = (study / "out" / "group.html").read_text()
    headings, *rows = table_of(page, "Computation time of an inversion, mean over scans")
    published = [headings.index("published (s)"), headings.index("published ratio")]
    for method, *cells in rows:
        expected = {"iterative": ["123", "700"], "deterministic": ["0.17", "1"]}[method]
        assert [cells[column - 1] for column in published] == expected
    assert "a processor" in page


@pytest.mark.slow
def test_computation_times_that_cannot_be_read_are_reported(tmp_path, capfd):
    write_study(tmp_path, people_table(subjects=2, scans=1))
    times_path(tmp_path / "out", "sub-01_ses-A_run-1").write_text("{")
    times_path(tmp_path / "out", "sub-02_ses-B_run-1").unlink()
    assert run(tmp_path) == 0
    assert (group_table(tmp_path, "times")["n_scans"] == 4).all()
    printed = capfd.readouterr().err
    assert "sub-01_ses-A_run-1.json: no JSON object with computation times" in printed
    assert "computation times of 1 scan are not known (sub-02_ses-B_run-1)" in printed
    shutil.rmtree(tmp_path / "out" / "logs" / "times")
    assert run(tmp_path) == 0
    assert not (tmp_path / "out" / "group" / "times.tsv").exists()
    assert not (tmp_path / "out" / "group" / "times.json").exists()


@pytest.mark.slow
def test_report_stands_alone(study):
    page = (study / "out" / "group.html").read_text()
    assert not re.search("https?:", page)
    for link in re.findall(r'href="([^"#:]+)"', page):
        assert (study / "out" / link).is_file(), link
    assert "not computed" not in page
    # These are in figures, beside the tables made of them, or in words.
    without_link = {"bland_altman_points", "harmonized", "tubes_chi", "warnings"}
    for name in TABLES - without_link:
        assert f"group/{name}.tsv" in page
    assert "as measured" in page


@pytest.mark.slow
def test_validator_accepts_tables_and_report(study):
    assert validator_findings(study / "out") == set()


@pytest.mark.slow
def test_calibration_divides_by_the_slope_of_the_site(study, whole, capfd):
    """Without it, a later run in one process repeats the tables of two processes to the byte."""
    folder = study / "out" / "group"
    before = group_table(study, "roi_chi")
    content = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert run(study, "--calibrate") == 0
    after = group_table(study, "roi_chi")
    for column in ("mean", "sd", "median"):
        np.testing.assert_allclose(
            after[column], before[column] / before["site"].map(SLOPES), rtol=1e-6, atol=1e-9
        )
    assert after["calibrated"].all()
    assert "calibrated by the phantom" in (study / "out" / "group.html").read_text()
    assert f"report: {study / 'out' / 'group.html'}" in capfd.readouterr().out
    assert run(study) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == content


def record_settings(root, settings, n_scans):
    """Write the completion records of scans that were processed with some settings."""
    for number in range(n_scans):
        write_completion_record(
            *(root / "out", "scans", f"scan-{number}", "0", ()),
            software="0",
            settings=asdict(settings),
        )


@pytest.mark.slow
def test_preset_calibrates_by_phantoms_and_lists_choices_that_differ(tmp_path, whole):
    write_study(tmp_path, whole)
    n_scans = len(whole[["subject", "site", "scan"]].drop_duplicates())
    page = tmp_path / "out" / "group.html"
    # Nothing is known of how the scans were processed.
    assert run(tmp_path, "--preset", "lin2015") == 0
    assert f"not known of {n_scans} scans without a current" in page.read_text()
    record_settings(tmp_path, replace(PRESETS["lin2015"], background="vsharp"), n_scans)
    assert run(tmp_path, "--preset", "lin2015") == 0
    assert group_table(tmp_path, "roi_chi")["calibrated"].all()
    assert "preset Lin 2015, with 1 choice changed" in page.read_text()
    row = re.search(r"<tr>(?:(?!</tr>).)*--background.*?</tr>", page.read_text(), re.DOTALL)[0]
    assert re.findall(r">([^<>]+)</td>", row) == ["--background", "pdf", "vsharp"]
    # Without the preset on the command line, nothing is calibrated, and its name is not used.
    assert run(tmp_path) == 0
    assert "calibrated" not in group_table(tmp_path, "roi_chi")
    assert "Lin 2015, with" not in page.read_text()
    # All scans agree with the preset: the report says so unasked, and what differs after them.
    record_settings(tmp_path, PRESETS["lin2015"], n_scans)
    assert run(tmp_path) == 0
    assert "preset Lin 2015, with 1 choice changed" in page.read_text()
    assert "--calibrate" in page.read_text()
    assert run(tmp_path, "--preset", "lin2015") == 0
    assert "as Lin 2015" in page.read_text()
    assert "changed (listed below)" not in page.read_text()
    assert run(tmp_path, "--preset", "lin2015", "--no-calibrate") == 0
    assert "calibrated" not in group_table(tmp_path, "roi_chi")
    assert "--calibrate" in page.read_text()


@pytest.mark.slow
def test_preset_without_a_phantom_says_that_values_are_not_calibrated(tmp_path, capfd):
    write_study(tmp_path, people_table(slopes=SLOPES))
    assert run(tmp_path, "--preset", "lin2015") == 0
    assert "warning: values are not calibrated: there is no calibration" in capfd.readouterr().err
    assert "as measured" in (tmp_path / "out" / "group.html").read_text()
    written = {path.stem for path in (tmp_path / "out" / "group").iterdir()}
    assert written.isdisjoint({"tubes_chi", "tubes_r2star"})  # they would have no rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tubes", "cause"),
    [
        (tubes_table(slopes={"A": 0.9, "C": 1.1}), "'B'"),
        (None, "no phantom scan has tubes with expected"),
    ],
)
def test_calibration_without_a_phantom_is_refused(tmp_path, tubes, cause, capfd):
    write_study(tmp_path, people_table(scans=1))
    if tubes is not None:
        write_scans(tmp_path / "out", tubes)
    assert run(tmp_path, "--calibrate") == 2
    printed = capfd.readouterr().err
    assert "step statistics: ValueError" in printed
    assert cause in printed
    assert not (tmp_path / "out" / "group").exists()


@pytest.mark.slow
def test_a_poor_calibration_is_warned_of_and_refused(tmp_path, capfd):
    """The tubes of site B scatter about their line, as if their labels were exchanged."""
    tubes = tubes_table()
    exchanged = {"tube 1": 0.6, "tube 2": 0.2, "tube 3": 0.8, "tube 4": 0.4}
    at_b = tubes["site"] == "B"
    tubes.loc[at_b, "expected"] = tubes.loc[at_b, "roi"].map(exchanged)
    write_study(tmp_path, pd.concat([people_table(), tubes], ignore_index=True))
    assert run(tmp_path) == 0
    page = tmp_path / "out" / "group.html"
    line = "calibration of site B, iterative: R² 0.0000 (should be at least 0.98)"
    assert f"warning: {line}" in capfd.readouterr().err
    assert line in page.read_text()
    assert "site A, iterative" not in page.read_text()
    assert run(tmp_path, "--calibrate") == 2
    assert f"ValueError: no line to calibrate by: {line}" in capfd.readouterr().err
    # The preset calibrates if it is possible: that it was refused is no choice of the user's.
    assert run(tmp_path, "--preset", "lin2015") == 0
    row = re.search(r"<tr>(?:(?!</tr>).)*--calibrate.*?</tr>", page.read_text(), re.DOTALL)[0]
    used = html.unescape(re.findall(r">([^<>]+)</td>", row)[-1])
    assert used.startswith(f"refused of iterative: no line to calibrate by: {line}")


@pytest.mark.slow
def test_a_poor_line_of_one_inversion_leaves_the_other_calibrated(tmp_path, capfd):
    tubes = tubes_table()
    is_poor = (tubes["method"] == "deterministic") & (tubes["site"] == "B")
    tubes.loc[is_poor, "mean"] += [0.1, -0.1, 0.1, -0.1]
    write_study(tmp_path, pd.concat([people_table(slopes=SLOPES), tubes], ignore_index=True))
    for options in (("--calibrate",), ("--preset", "lin2015")):
        assert run(tmp_path, *options) == 0
        printed = capfd.readouterr().err
        assert "warning: deterministic: values are as measured, and not compared" in printed
        calibrated = group_table(tmp_path, "roi_chi").groupby("method")["calibrated"].all()
        assert calibrated.to_dict() == {"iterative": True, "deterministic": False}
        page = (tmp_path / "out" / "group.html").read_text()
        assert "calibrated by the phantom: iterative; as measured: deterministic" in page
    # The preset's choice, which was asked for, and why it was refused.
    assert "only of iterative; refused of deterministic: no line to calibrate by" in page


@pytest.mark.slow
def test_scans_that_are_no_repeats(tmp_path, shared, capfd):
    """One person has two acquisitions of one scan each, and two rows in participants.tsv. The
    echoes of another were stored as runs.
    """
    for folder in ("bids", "out"):
        shutil.copytree(shared / "cases" / "group_repeats" / folder, tmp_path / folder)
    (tmp_path / "bids").rename(tmp_path / "raw")
    shutil.copy(
        shared / "cases" / "group_repeats" / "participants_twice.tsv",
        tmp_path / "raw" / "participants.tsv",
    )
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert run(tmp_path) == 0
    printed = capfd.readouterr().err
    page = html.unescape((tmp_path / "out" / "group.html").read_text())
    for text in (
        "participants.tsv: rows of sub-multi contradict each other: its age was not used",
        "1 scan (acq-a) left out of all statistics",
        "1 scan (acq-b) left out of all statistics",
        "3 scans with tables of an earlier version, without echo times and voxel size",
    ):
        assert f"warning: {text}" in printed
        assert text in page
    values = group_table(tmp_path, "imprecision").set_index("subject")
    assert "multi" not in values.index
    assert (values.loc["runs", "n_scans"] == 3).all()
    assert list(group_table(tmp_path, "excluded")["protocol"]) == ["acq-a", "acq-b"]
    # Tables of this version have columns of the echoes as well.
    for number, time in (("1", 6), ("2", 14), ("3", 22)):
        path = tmp_path / "out/sub-runs/anat" / f"sub-runs_run-{number}_desc-rois_chi.tsv"
        write_tsv(path, read_tsv(path).assign(echo_times=str(time), voxel_size="4, 4, 4"))
    assert run(tmp_path) == 0
    assert "tables of an earlier version" not in capfd.readouterr().err
    values = group_table(tmp_path, "imprecision")
    assert (values["n_scans"] == 1).all()
    assert (values["n_within"] == 0).all()


@pytest.mark.slow
def test_phantom_alone_is_a_study(tmp_path):
    write_study(tmp_path, tubes_table())
    assert run(tmp_path) == 0
    slopes = group_table(tmp_path, "calibration").set_index(["site", "method"])["slope"]
    assert slopes["B", "iterative"] == pytest.approx(SLOPES["B"])
    assert "calibration.tsv" in (tmp_path / "out" / "group.html").read_text()


@pytest.mark.slow
def test_small_study_has_notes_where_it_has_no_statistics(tmp_path):
    """Numbers as labels, no session and run, another reference, and an invalid age do not prevent
    other statistics.
    """
    people = people_table(subjects=3, sites="1", scans=1).assign(session=np.nan, run=np.nan)
    people.loc[people["subject"] == "02", "reference"] = "brain"
    write_study(tmp_path, people, participants="participant_id\tage\nsub-01\told\n")
    assert run(tmp_path) == 0
    assert set(group_table(tmp_path, "roi_chi")["subject"]) == {"01", "03"}
    page = (tmp_path / "out" / "group.html").read_text()
    for note in (
        "1 scan left out of all statistics: relative to another region than",
        "components: not computed",
        "age &#39;old&#39; is not a number of years and was not used",
        "no column sex",
    ):
        assert note in page, note
    assert not (tmp_path / "out" / "group" / "components.tsv").exists()


@pytest.mark.slow
def test_tables_of_an_earlier_run_are_removed(tmp_path):
    write_study(
        tmp_path, pd.concat([people_table(subjects=1, scans=2), tubes_table()], ignore_index=True)
    )
    assert run(tmp_path) == 0
    assert (tmp_path / "out" / "group" / "calibration.tsv").exists()
    for path in (tmp_path / "out").glob("sub-phantom/**/*_chi.tsv"):
        path.unlink()
    assert run(tmp_path) == 0
    names = {path.name for path in (tmp_path / "out" / "group").iterdir()}
    assert not names & {"calibration.tsv", "calibration.json"}


def test_group_before_participants(tmp_path, capsys):
    root = write_study(tmp_path, people_table(subjects=1, scans=1))
    assert main([str(root / "raw"), str(root / "nowhere"), "group", "-w", str(root / "work")]) == 2
    assert (
        "nowhere: no multiqsm results here; run the participant level first"
        in capsys.readouterr().err
    )
    for path in (root / "out").rglob("*_chi.tsv"):
        path.unlink()
    assert run(root) == 2
    assert "no table of regional values" in capsys.readouterr().err
    assert not (root / "work").exists()


def test_missing_dataset_is_refused(tmp_path, capsys):
    root = write_study(tmp_path, people_table(subjects=1, scans=1))
    arguments = [str(root / "elsewhere"), str(root / "out"), "group", "-w", str(root / "work")]
    assert main([*arguments, "--plugin", "Linear"]) == 2
    assert "elsewhere" in capsys.readouterr().err


def test_work_folder_inside_the_dataset_is_refused(tmp_path, capsys):
    root = write_study(tmp_path, people_table(subjects=1, scans=1))
    assert run(root, "-w", str(root / "raw" / "work")) == 2
    assert "-w" in capsys.readouterr().err
    assert not (root / "raw" / "work").exists()


@pytest.mark.slow
def test_invalid_table_of_participants_is_refused(tmp_path, capfd):
    root = write_study(
        tmp_path, people_table(subjects=1, scans=1), participants="name\tage\n01\t3\n"
    )
    assert run(root) == 2
    assert "participants.tsv: no column participant_id" in capfd.readouterr().err


def test_dry_run_counts_and_writes_nothing(tmp_path, capsys):
    people = people_table(subjects=2).assign(echo_times="5", voxel_size="4, 4, 4")
    is_other = (people["subject"] == "01") & (people["site"] == "A") & (people["run"] == "1")
    people.loc[is_other, "echo_times"] = "5, 10"
    root = write_study(tmp_path, people)
    assert run(root, "--dry-run") == 0
    printed, warnings = capsys.readouterr()
    rows = dict(line.split(":", 1) for line in printed.splitlines()[:-1])
    assert rows["scans"].strip() == "18 scans of 2 subjects at 3 sites, 0 excluded"
    assert rows["sites"].strip() == "A (6 scans), B (6 scans), C (6 scans)"
    assert rows["left out"].strip().startswith("1 scan (sub-01): not of the protocol that counts")
    assert "warning: 1 scan (" in warnings  # the run's warning of the same scan
    assert rows["regions"].strip() == "3 (csf, pallidum, putamen)"
    assert rows["values"].strip() == "as measured; no phantom scans"
    assert "icc" in rows["tables"]
    assert "age (no ages)" in rows["not made"]
    assert "harmonized" in rows["not made"]
    assert "warning: harmonized: not computed: " in warnings
    assert run(root, "--dry-run", "--calibrate") == 2
    assert "there is no calibration: no phantom scan" in capsys.readouterr().err
    assert not (root / "work").exists()
    assert not (root / "out" / "group").exists()
