"""The group level with a model: from tables of a simulated cohort to those of the study, and to its
report.
"""

import html
import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from helpers.datasets import validator_findings
from helpers.sidecars import columns_without_levels

from multiqsm import __version__
from multiqsm.bids_templates import load_template
from multiqsm.cli.app import main
from multiqsm.dataset.checklist import CHECKLIST, CHECKLIST_TEXT
from multiqsm.dataset.simulated.cohort import write_cohort
from multiqsm.dataset.simulated.layout import TRUTH
from multiqsm.dataset.tables import read_tsv
from multiqsm.pictures.regressions import forest_figure, partial_residual_figure, residual_figure
from multiqsm.reports.model import model_report
from multiqsm.simulation.cohort import draw_patients
from multiqsm.simulation.study import make_patient_design
from multiqsm.stats.model import run_model
from multiqsm.stats.specification import Node, StudyModel

PATIENTS = 60
ANALYSED = 57  # three of the first 60 patients have poor images
EVIL = "<script>alert('x')</script>"


def write_patients(root, *, seed=0, n=PATIENTS):
    patients = draw_patients(n, seed=seed)
    write_cohort(
        root / "raw",
        patients,
        make_patient_design(patients, voxel_size=None, flow_phase=0.0, seed=seed),
    )
    return root


def run(root, *options, model="thalamus", phenotype=True):
    arguments = [str(root / "raw"), str(root / "out"), "group", "--model", str(model)]
    arguments += ["-w", str(root / "work"), "--plugin", "Linear"]
    if phenotype:
        arguments += ["--phenotype", str(root / "raw" / TRUTH / "phenotype" / "thalamus.tsv")]
    return main([*arguments, *options])


def table(root, name, model="thalamus"):
    return read_tsv(root / "out" / "group" / f"model-{model}" / f"{name}.tsv")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = write_patients(tmp_path_factory.mktemp("study"))
    assert run(root) == 0
    return root


@pytest.mark.slow
def test_tables_1_and_2_are_those_of_statsmodels(study):
    """The whole level, from the files of the simulator to the tables."""
    clinic = pd.read_csv(study / "raw" / "participants.tsv", sep="\t")
    true = pd.read_csv(study / "raw" / TRUTH / "phenotype" / "thalamus.tsv", sep="\t")
    patients = clinic.merge(true, on="participant_id").query("image_quality == 'good'")
    adjusted = "age + C(sex) + disease_duration + therapy"
    first = table(study, "table1").set_index(["subset", "outcome", "adjusted"])
    younger = patients[patients["age"] <= 50]
    for subset, chosen in (("all", patients), ("50 years or younger", younger)):
        peer = smf.ols(
            f"np.log(t2_lesion_volume) ~ relative_susceptibility + {adjusted}", chosen
        ).fit()
        row = first.loc[subset, "log_t2_lesion_volume", True]
        assert row["coefficient"] == pytest.approx(peer.params["relative_susceptibility"], rel=1e-8)
        assert row["p"] == pytest.approx(peer.pvalues["relative_susceptibility"], rel=1e-8)
        assert row["n"] == len(chosen)
    second = table(study, "table2").set_index(["subset", "predictor", "adjusted"])
    for predictor in ("enhancing_lesions", "age"):
        for adjustment in (False, True):
            terms = predictor if not adjustment else f"{predictor} + {adjusted}"
            peer = smf.ols(f"relative_susceptibility ~ {terms}", patients).fit()
            row = second.loc["all", predictor, adjustment]
            interval = row[["ci_low", "ci_high"]].astype(float)
            np.testing.assert_allclose(interval, peer.conf_int().loc[predictor], rtol=1e-8)
    assert len(table(study, "patients")) == len(patients) == ANALYSED
    assert table(study, "problems").empty


@pytest.mark.slow
def test_every_column_is_described(study):
    folder = study / "out" / "group" / "model-thalamus"
    for name in (
        *("table1", "table2", "before_and_after", "covariates"),
        *("diagnostics", "residuals", "ladder", "descriptives", "power"),
    ):
        assert (folder / f"{name}.tsv").exists()
    for path in folder.glob("*.tsv"):
        descriptions = json.loads(path.with_suffix(".json").read_text())
        columns = set(read_tsv(path).columns)
        assert set(descriptions) == columns, path.name
        for entry in descriptions.values():
            assert entry["Description"]
    patients = json.loads((folder / "patients.json").read_text())
    assert patients["age"] == {"Description": "Age", "Units": "year"}
    assert patients["cortical_thickness"]["Units"] == "mm"
    assert patients["sex.M"]["Description"] == "Whether sex is M"
    assert patients["log_t2_lesion_volume"]["Description"] == (
        "Natural logarithm of t2_lesion_volume (mL)"
    )
    covariates = json.loads((folder / "covariates.json").read_text())
    assert covariates["coefficient"]["Description"].startswith("Coefficient of the covariate")
    units = table(study, "sources").query("used").set_index("column")["unit"]
    assert units[["age", "disease_duration", "thalamic_volume"]].tolist() == ["year", "year", "mL"]
    assert columns_without_levels(study / "out") == set()
    written = (folder / "patients.tsv").read_text().splitlines()
    column = written[0].split("\t").index("therapy")
    assert (
        {row.split("\t")[column] for row in written[1:]}
        == {"0", "1"}
        == set(patients["therapy"]["Levels"])
    )


@pytest.mark.slow
def test_tables_of_the_paper_are_side_by_side_in_its_units(study):
    merged = table(study, "before_and_after")
    assert len(merged) == 2 * (4 + 5)  # subsets, and rows of tables 1 and 2
    assert merged["unit"].notna().all()
    first = table(study, "table1").set_index(["subset", "outcome", "adjusted"])["coefficient"]
    for row in merged[merged["node"] == "table1"].itertuples():
        factor = 1000 if row.outcome.endswith("_volume") and row.outcome[:3] != "log" else 1
        ours = [factor * first[row.subset, row.outcome, adjusted] for adjusted in (False, True)]
        assert [row.before, row.after] == pytest.approx(ours)
    younger = merged[merged["subset"] == "50 years or younger"]
    assert younger["published_after_p"].dropna().tolist() == [0.036]
    page = (study / "out" / "group_model-thalamus.html").read_text()
    for text in (
        "9.0 (−28.0 to 46.1)",
        "−860 (−2026 to 305)",
        "8.40 (.41 to 16.40)",
        "10.68 (2.28 to 19.09)",
        "<td class=short>.036</td>",
        "42 ± 10 (25 to 71)",
        "57 of 95",
    ):
        assert page.count(text) == 1, text
    clinic = pd.read_csv(study / "raw" / "participants.tsv", sep="\t")
    analysed = clinic.query("image_quality == 'good'")
    assert f"{analysed['therapy'].sum()} of {ANALYSED}" in page
    assert "which sex is coded as 1" in page
    assert "sex.M</td>" not in page
    assert "also contains age, sex (male), disease duration, therapy, except" in page
    adjustments = set(table(study, "table1")["adjusted_for"].dropna())
    assert adjustments == {"age, sex (male), disease duration, therapy"}
    assert "P = .028" in page  # the paper's text, where its table has .02
    assert "mL per ppb" in page
    assert "with a power of 80 % at a two-sided" in page
    assert page.count("<summary>Coefficients of the covariates: all</summary>") == 2


@pytest.mark.slow
def test_report_stands_alone(study):
    page = (study / "out" / "group_model-thalamus.html").read_text()
    assert not re.search("https?:", page)
    links = re.findall(r'href="([^"#:]+)"', page)
    assert {"group/model-thalamus/table1.tsv", "group/model-thalamus/table2.tsv"} < set(links)
    for link in links:
        assert (study / "out" / link).is_file(), link
    for text in ("P, published", "Breusch-Pagan", "Ladder of powers", "50 years or younger"):
        assert text in page, text
    citation = (study / "out" / "logs" / "CITATION.md").read_text()
    for text in ("ordinary least squares", "ladder of powers", "2018;39(3):467-472"):
        assert text in citation, text
        assert text in page, text
    assert "No figure" not in page
    # Two tables in two subsets: forest, partial residuals before and after, residuals; and the
    # ladder of powers of five columns.
    assert page.count("<img") == 16 + 5


@pytest.mark.slow
def test_patients_with_poor_images_are_left_out_and_listed(study):
    excluded = table(study, "excluded")
    left_out = excluded[excluded["left_out"]]
    assert left_out["participant"].tolist() == ["014", "044", "045"]
    assert set(left_out["what"]) == {"poor image quality (image_quality == 'poor')"}
    assert not set(left_out["participant"]) & set(table(study, "patients")["participant"])
    described = table(study, "descriptives").query("subset == 'all' and column == 'edss'")
    assert described["n"].tolist() == [ANALYSED]
    # They are counted in the reporting checklist, also in the report.
    checklist = read_tsv(study / "out" / CHECKLIST)
    assert checklist["applies_to"].tolist() == ["model thalamus"] * 2
    software, text = checklist["value"]
    assert software == f"multiqsm {__version__}"
    assert text.startswith(f"{ANALYSED} patients in the analysis; ")
    assert (
        "poor image quality (image_quality == 'poor'), left out by the model (3 patients)" in text
    )
    assert text in (study / "out" / CHECKLIST_TEXT).read_text()
    page = (study / "out" / "group_model-thalamus.html").read_text()
    assert text in html.unescape(page)


@pytest.mark.slow
def test_validator_accepts_tables_and_report(study):
    assert validator_findings(study / "out") == set()
    assert not list((study / "out").glob("sub-*/*"))


@pytest.mark.slow
def test_patients_with_missing_values_are_listed(tmp_path, capfd):
    root = write_patients(tmp_path)
    participants = root / "raw" / "participants.tsv"
    rows = participants.read_text().splitlines()
    rows[3] = re.sub(r"\t[01]\t[01]\t", "\tn/a\t0\t", rows[3])
    participants.write_text("\n".join([*rows[:5], *rows[6:], rows[7]]) + "\n")
    freesurfer = root / "raw" / "derivatives" / "freesurfer"
    (freesurfer / "sub-010" / "stats" / "aseg.stats").unlink()
    (freesurfer / "sub-011").rename(freesurfer / "sub-011.long.sub-011")
    assert run(root) == 1
    printed = capfd.readouterr()
    assert "problem: FreeSurfer, sub-010" in printed.err
    assert "longitudinal stream" in printed.err
    reasons = table(root, "excluded").groupby("participant")["what"].agg(list)
    assert reasons["003"] == ["therapy"]
    assert "participants.tsv" in reasons["007"]  # listed there twice
    assert "phenotype" in "".join(reasons["005"])  # not among the participants
    assert {"FreeSurfer", "thalamic_volume"} <= set(reasons["010"]) & set(reasons["011"])
    first = table(root, "table1").query("subset == 'all' and adjusted").set_index("outcome")
    assert first["n"].to_dict() == {
        "thalamic_volume": ANALYSED - 4,
        "grey_matter_volume": ANALYSED - 4,
        "cortical_thickness": ANALYSED - 4,
        "log_t2_lesion_volume": ANALYSED - 2,
    }
    page = (root / "out" / "group_model-thalamus.html").read_text()
    assert "Parts that could not be computed" in page
    assert "longitudinal stream" in page


@pytest.mark.slow
def test_regression_that_fails_leaves_the_others(tmp_path, capfd):
    root = write_patients(tmp_path, n=30)
    content = load_template("model_thalamus")
    content["Name"] = "mine"
    content["Nodes"][0]["Model"]["Adjust"] = ["age", "weight"]
    content["Nodes"].append({"Name": "odd", "Model": {"Z": 1}})
    model = root / "mine.json"
    model.write_text(json.dumps(content))
    assert run(root, model=model) == 1
    assert "Nodes, number 3, Model: unknown key Z" in capfd.readouterr().err
    rows = table(root, "table1", "mine").query("subset == 'all'")
    notes = rows.set_index(["outcome", "adjusted"])["note"]
    assert "no column weight" in notes["thalamic_volume", True]
    assert (rows["coefficient"].notna() == ~rows["adjusted"].astype(bool)).all()
    assert table(root, "table2", "mine")["coefficient"].notna().all()
    # The tables of an earlier version of the model are removed.
    content["Nodes"] = content["Nodes"][1:2]
    model.write_text(json.dumps(content))
    assert run(root, model=model) == 0
    names = {path.stem for path in (root / "out" / "group" / "model-mine").iterdir()}
    assert "table1" not in names
    assert "table2" in names


def test_measure_that_nobody_has_is_one_line(tmp_path, capfd):
    root = write_patients(tmp_path, n=14)
    assert run(root, phenotype=False) == 1
    printed = capfd.readouterr()
    problems = [line for line in printed.err.splitlines() if line.startswith("problem: ")]
    assert problems == [
        "problem: 36 regressions: no column relative_susceptibility: run the participant level "
        "first, or give a table that has it with --phenotype"
    ]
    assert "1 of 14 patients left out by rules of the model" in printed.out
    assert "without relative_susceptibility: 13 of 13 patients" in printed.out
    assert "\n14 patients excluded from a regression" in printed.out


def test_dry_run_writes_nothing(tmp_path, capsys):
    root = write_patients(tmp_path, n=2)
    assert run(root, "--dry-run") == 1  # as a run: no regression can be computed of two patients
    printed, problems = capsys.readouterr()
    assert "2 patients; columns: age, sex, disease_duration" in printed
    assert "problem: " in problems
    assert "\npatients:    2 patients, " in printed
    assert "\nregressions: 0 of " in printed
    assert "(a new folder)" in printed
    assert not (root / "out").exists()
    assert not (root / "work").exists()


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--model", "nothing.json"], "--model nothing.json: no such file; models that"),
        (["--model", "thalamus", "--calibrate"], "--calibrate cannot be combined with --model"),
        (["--model", "thalamus", "--phenotype", "x.tsv"], "--phenotype x.tsv: no such file"),
        (["--model", "thalamus", "--freesurfer-dir", "x"], "--freesurfer-dir x: no such folder"),
        (["--phenotype", "x.tsv"], "--phenotype needs --model"),
        (["--freesurfer-dir", "x"], "--freesurfer-dir needs --model"),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, cause, capsys):
    root = write_patients(tmp_path, n=2)
    arguments = [str(root / "raw"), str(root / "out"), "group", "-w", str(root / "work"), *options]
    assert main(arguments) == 2
    assert cause in capsys.readouterr().err
    assert not (root / "out").exists()


def test_output_folder_of_another_dataset_is_refused(tmp_path, capsys):
    root = write_patients(tmp_path, n=2)
    (root / "out").mkdir()
    (root / "out" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    assert run(root) == 2
    assert "contains a dataset that multiqsm did not create" in capsys.readouterr().err


@pytest.fixture
def small():
    rng = np.random.default_rng(0)
    labels = pd.RangeIndex(30).map("{:02}".format)
    patients = pd.DataFrame(rng.normal(size=(30, 3)), columns=["y", "x", EVIL], index=labels)
    model = StudyModel(
        "m", (Node("one", EVIL, ("y",), ("x", EVIL), ("x", EVIL)),), EVIL, problems=((EVIL, EVIL),)
    )
    return run_model(patients, model), model


def test_report_escapes_names(small):
    tables, model = small
    tables["sources"] = pd.DataFrame(
        {"column": [EVIL], "unit": [np.nan], "source": [EVIL], "n": [3], "used": [True]}
    )
    page = model_report(
        tables,
        model,
        study={"settings": EVIL},
        differences=pd.DataFrame({"option": ["--merit"], "preset": ["no"], "used": [EVIL]}),
        method_differences=[f"Edges: {EVIL}"],
        warnings=[EVIL],
        citation=EVIL,
        versions={EVIL: EVIL},
    )
    for text in ("settings", "--merit", "Edges: "):  # how scans differ from a study's preset
        assert text in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_report_of_failed_regressions_has_their_reasons(small):
    tables, model = small
    failed = tables["coefficients"].assign(coefficient=np.nan, standardised=np.nan, note="too few")
    page = model_report({"coefficients": failed, "problems": tables["problems"]}, model)
    assert "No figure" in page
    assert "too few" in page
    with pytest.raises(ValueError, match="no part of the report shows x"):
        model_report({"x": failed}, model)
    with pytest.raises(ValueError, match="coefficient"):
        model_report({}, model)


def test_figures_show_the_numbers(small):
    tables, _ = small
    coefficients = tables["coefficients"]
    axis = forest_figure(coefficients).axes[0]
    drawn = []
    for line in axis.lines:
        if line.get_marker() in ("o", "s"):
            drawn.append(line.get_xdata()[0])
    np.testing.assert_allclose(sorted(drawn), sorted(coefficients["standardised"]))
    residuals = tables["residuals"]
    adjusted = residuals[residuals["adjusted"]]
    panels = partial_residual_figure(adjusted).axes
    assert len(panels) == 2
    slope = np.ptp(panels[0].lines[-1].get_ydata()) / np.ptp(panels[0].lines[-1].get_xdata())
    adjusted_coefficients = coefficients[coefficients["adjusted"]]["coefficient"]
    assert slope == pytest.approx(abs(adjusted_coefficients.iloc[0]))
    assert sum(len(line.get_xdata()) for line in panels[0].lines[:2]) == 30
    assert len(residual_figure(adjusted).axes) == 6
    with pytest.raises(ValueError, match="no regression has a result"):
        forest_figure(coefficients.assign(standardised=np.nan))
    with pytest.raises(ValueError, match="no rows"):
        residual_figure(residuals[:0])


@pytest.mark.slow
def test_intervals_cover_the_true_coefficients():
    """In 40 cohorts, intervals cover the truth within three standard errors of 95 %.

    Cohorts are independent, but not the 18 coefficients of each. The coverage of a single
    coefficient, binomial with n = 40, is below 30 (75 %) once in 340,000 times, and so the least of
    18 once in 19,000.
    """
    coverage = SimpleNamespace(
        **runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "coverage.py"))
    )
    estimates = coverage.estimates(range(40))
    truth = coverage.true_coefficients()
    by_coefficient = coverage.coverage(estimates, truth)
    merged = estimates.merge(truth, on=coverage.REGRESSION)
    is_covered = (merged["ci_low"] <= merged["truth"]) & (merged["truth"] <= merged["ci_high"])
    by_cohort = is_covered.groupby(merged["seed"]).mean()
    assert abs(by_cohort.mean() - 0.95) < 3 * by_cohort.std() / np.sqrt(40)
    assert by_coefficient["covered"].min() >= 0.75
    # Where the design is linear, the population's coefficients are those of the design.
    lines = by_coefficient[~by_coefficient["outcome"].str.startswith("log")]
    lines = lines[(lines["predictor"] != "disease_duration") | lines["adjusted"]]
    estimates["width"] = estimates["ci_high"] - estimates["ci_low"]
    width = estimates.groupby(coverage.REGRESSION)["width"].median()
    for row in lines.itertuples():
        assert abs(row.truth - row.design) < 0.02 * width[row.outcome, row.predictor, row.adjusted]
