"""The page on both published studies is written from the tables of small simulated ones, with every
published number.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.pages import ROIS, roi_table, tube_table

from multiqsm.bids_templates import load_template
from multiqsm.cohort.model_files import read_model
from multiqsm.cohort.patients import collect_patients
from multiqsm.dataset.group_tables import write_group_table
from multiqsm.dataset.simulated.cohort import write_cohort
from multiqsm.dataset.simulated.layout import TRUTH
from multiqsm.dataset.tables import write_tsv
from multiqsm.simulation.cohort import draw_patients
from multiqsm.simulation.study import make_patient_design
from multiqsm.stats.model import run_model
from multiqsm.stats.study import study_tables
from multiqsm.stats.times import computation_times

DOCS = Path(__file__).parents[1] / "docs"

# Numbers of the 2015 study, as the page has to show them.
OF_2015 = (
    *("9 (7 men)", "28 ± 5 (23 to 37)", "135", "185", "165", "260"),
    *("256×256×64", "1×1×2 mm", "TR 45 ms", "6, 12, …, 36 ms", "angle 5°"),
    *("224×216×92", "TR 30 ms", "2.6, 6.6, …, 22.6 ms", "angle 30°", "20 cm wide", "16 cm high"),
    *("0, .25, .5, .75, 1 and 1.25 %", "0, .41, .82, 1.22, 1.63 and 2.04 ppm", "1.8 cm"),
    *("5.4 (10.0 %)", "5.9 (11.0 %)", "8.7 (17.9 %)", "10.7 (21.9 %)"),  # caudate nucleus
    *("3.7 (9.3 %)", "3.8 (9.5 %)", "4.8 (8.3 %)", "6.1 (10.6 %)"),  # putamen
    *("4.4 (3.4 %)", "5.4 (4.1 %)", "5.6 (3.4 %)", "6.8 (4.1 %)"),  # globus pallidus
    *("11.3 (18.4 %)", "11.5 (18.7 %)", "9.1 (9.3 %)", "10.3 (10.6 %)"),  # red nucleus
    *("9.9 (15.2 %)", "12.1 (18.6 %)", "8.1 (8.2 %)", "10.8 (11.1 %)"),  # substantia nigra
    *("| published | all | 6 | .91 | −.04 | > .999 |", "α = .01"),
    *("| .40 |", "| .35 |", "| .47 |", "| .20 |", "| none |", "| > .5 |", "| .02 |"),
    *("123 s", ".17 s", "| 123 | 700 |", "| .17 | 1 |", "nearly 700 times"),
)
OF_2018 = (
    *("| patients | 100 |", "5, poor image quality", "| analysed | 95 |", "two thirds"),
    *("0.5×0.5×2 mm", "416×320", "TR 57 ms", "TE1 4.3 ms", "angle 20°"),
    *("0.6×0.6×1.2 mm", "0.45×0.45×1.2 mm"),
    *("42 ± 10 (25 to 71)", "57 of 95", "9 of 95", "8.9 ± 7.8 (.3 to 33.7)"),
    *("11.0 ± 15.8 (.1 to 122.4)", "14.0 ± 2.1 (8.4 to 20.0)", "−29.0 ± 11.7 (−61.5 to 6.4)"),
    *("2.2 ± 2.2 (0.0 to 8.5)", "607 ± 67 (411 to 784)", "2.40 ± .16 (1.92 to 2.68)"),
    *("9.0 (−28.0 to 46.1) | .63", "9.4 (−28.9 to 47.7) | .63"),
    *("−860 (−2026 to 305) | .15", "−720 (−1731 to 291) | .16"),
    *("−.0007 (−.003 to .002) | .62", "−.00008 (−.003 to .002) | .95"),
    *(".026 (.0016 to .051) | .037", ".029 (.0057 to .053) | .015"),
    *("8.40 (.41 to 16.40) | .04", "10.68 (2.28 to 19.09) | .013"),
    *(".19 (−.037 to .42) | .099", ".27 (.031 to .52) | .02"),
    *(".75 (−4.36 to 5.85) | .77", "1.45 (−3.69 to 6.58) | .58"),
    *("−.57 (−5.46 to 4.32) | .82", ".44 (−4.43 to 5.32) | .86"),
    *("−.023 (−.33 to .28) | .88", "−.066 (−.39 to .26) | .69"),
    *("P = .036", "P = .028", "P = .63, .16 and .94", ".95 for the last"),
    *("| < .001 |", "| .25 |", "| .90 |", "| .81 |", "detect a correlation of .28 with 80 %"),
)


def load_page_module(monkeypatch):
    """Import docs/studies.py, whose siblings are imported from its folder."""
    monkeypatch.syspath_prepend(str(DOCS))
    spec = importlib.util.spec_from_file_location("studies_page", DOCS / "studies.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_study(root):
    """Write the tables of three people at three sites with three runs, calibrated."""
    people = roi_table(subjects=3, scans=3).assign(sex="M", reference_offset=0.009)
    splenium = people[people["roi"] == "putamen"].assign(roi="splenium", mean=lambda t: -t["mean"])
    tubes = tube_table().assign(reference="water")
    tables, _ = study_tables(
        pd.concat([people, splenium, tubes], ignore_index=True), calibrated=True
    )
    time = {"scan": "sub-01", "cpu": 9.0, "fft_pair": 0.1, "threads": 1, "processor": "x"}
    rows = []
    for method, wall in (("iterative", 30.0), ("deterministic", 0.5)):
        rows.append({**time, "method": method, "wall": wall, "fft_pairs": 10 * wall})
    tables["times"] = computation_times(pd.DataFrame(rows))
    for name, table in tables.items():
        write_group_table(root, name, table)
    write_truth(root)
    quality = pd.DataFrame({"site": ["A", "B", "C"], "snr_first_echo": [300.0, 200.0, 100.0]})
    write_table(root / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv", quality)
    return tables


def write_truth(root):
    """Write the true susceptibilities of three people, which are twice those of `ROIS`."""
    raw = root.parent / f"{root.name}-raw"
    description = {"DatasetLinks": {"raw": raw.as_uri()}}
    (root / "dataset_description.json").write_text(json.dumps(description))
    names = ["lateral_ventricle"]
    values = [0.001]
    for roi, (mean, _) in ROIS.items():
        names += [f"left_{roi}", f"right_{roi}"]
        values += [2 * mean, 2 * mean + 0.002]
    table = pd.DataFrame({"name": names, "susceptibility_ppm": values})
    for subject in ("sub-01", "sub-02", "sub-03"):
        anat = raw / TRUTH / subject / "ses-A" / "anat"
        write_table(anat / f"{subject}_ses-A_run-1_desc-truth_dseg.tsv", table)


def write_table(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tsv(path, table)


def write_model_tables(root):
    """Write the tables of the 2018 model of forty patients."""
    patients = draw_patients(40)
    write_cohort(root / "raw", patients, make_patient_design(patients))
    truth = root / "raw" / TRUTH / "phenotype" / "thalamus.tsv"
    (root / "out").mkdir()
    table = collect_patients(root / "raw", root / "out", phenotype=[truth]).table
    model = read_model("thalamus")
    tables = run_model(table, model)
    coefficients = tables.pop("coefficients")
    for node in model.nodes:
        tables[node.name] = coefficients[coefficients["node"] == node.name]
    for name, content in tables.items():
        write_table(root / "out" / "group" / "model-thalamus" / f"{name}.tsv", content)
    return tables, truth


def write_patient(root, truth):
    """Write the measured values of the first patient with images, and the true lesion volume."""
    subject = "sub-001"
    links = {"DatasetLinks": {"raw": f"file://{root / 'raw'}"}}
    (root / "images").mkdir()
    (root / "images" / "dataset_description.json").write_text(json.dumps(links))
    anat = root / "images" / subject / "anat"
    rois = pd.DataFrame({"roi": ["thalamus"], "mean": [-0.0305]})
    write_table(anat / f"{subject}_desc-rois_chi.tsv", rois)
    lesions = pd.DataFrame({"lesion": ["1", "total"], "volume": [2.0, 4.2]})
    write_table(anat / f"{subject}_desc-lesions_stats.tsv", lesions)
    sidecar = root / "raw" / TRUTH / subject / "anat" / f"{subject}_desc-lesions_mask.json"
    sidecar.parent.mkdir(parents=True)
    sidecar.write_text(json.dumps({"Volume": 4.0}))
    values = pd.read_csv(truth, sep="\t", index_col="participant_id")
    return values.loc[subject, "relative_susceptibility"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Return the page and the tables that it is of."""
    root = tmp_path_factory.mktemp("page")
    tables = write_study(root / "study")
    model_tables, truth = write_model_tables(root)
    true_chi = write_patient(root, truth)
    with pytest.MonkeyPatch.context() as monkeypatch:
        module = load_page_module(monkeypatch)
        text = module.studies_page(
            root / "study", root / "out", root / "images", commits="commit 0123456"
        )
    return text, {**tables, **model_tables}, true_chi


def rows_below(text, heading):
    """Return the cells of the first table below a heading, by its rows without the headings."""
    part = text[text.index(f"\n### {heading}\n") :]
    part = part[part.index("\n|") + 1 :]
    lines = part.split("\n\n")[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines[2:]]


@pytest.mark.parametrize(("study", "texts"), [("2015", OF_2015), ("2018", OF_2018)])
def test_every_published_number_is_on_the_page(page, study, texts):
    text, _, _ = page
    before, after = text.split("## The 2018 study")
    part = " ".join((before if study == "2015" else after).split())
    assert [number for number in texts if number not in part] == []


def test_template_is_filled_and_its_tables_are_rectangular(page):
    text, _, _ = page
    assert "{" not in text
    assert "nan" not in text.lower()
    assert "commit 0123456" in text
    n_cells = None
    for line in text.splitlines():
        if not line.startswith("|"):
            n_cells = None
            continue
        cells = line.strip("|").split("|")
        assert n_cells in (None, len(cells)), line
        n_cells = len(cells)


def test_measured_values_are_those_of_the_tables(page):
    text, tables, _ = page
    summary = tables["imprecision_summary"].set_index(["method", "roi"])
    row = rows_below(text, "Imprecision")[0]
    assert row[:2] == ["iterative", "caudate nucleus"]
    ours = summary.loc[("iterative", "caudate_nucleus")]
    assert row[5] == f"{1000 * ours['within']:.1f} ({ours['within_percent']:.1f} %)"
    implied = [float(row[4]) for row in rows_below(text, "Imprecision")[:5]]
    np.testing.assert_allclose(implied, [54, 40, 129, 61, 65])  # ppb, iterative
    lines = tables["age"].set_index(["method", "roi", "analysis"])
    for row in rows_below(text, "Age"):
        naive = lines.loc[("iterative", row[0].replace(" ", "_"), "naive")]
        assert float(row[2].replace("−", "-")) == pytest.approx(naive["r"], abs=0.005)


def test_means_are_beside_the_truth(page):
    """The true mean is that of left and right, relative to the ventricles."""
    text, tables, _ = page
    summary = tables["imprecision_summary"].set_index(["method", "roi"])["mean"]
    rows = rows_below(text, "Means and the truth")
    assert [float(row[1]) for row in rows] == [1000 * 2 * mean for mean, _ in ROIS.values()]
    for row, (roi, (mean, _)) in zip(rows, ROIS.items(), strict=True):
        for method, error in (("iterative", row[3]), ("deterministic", row[6])):
            percent = float(error.removesuffix(" %").replace("−", "-"))
            assert percent == pytest.approx(100 * (summary[method, roi] / (2 * mean) - 1), abs=0.51)


def test_remarks_count_what_the_tables_show(page):
    text, tables, _ = page
    words = " ".join(text.split())
    tests = tables["within_versus_cross"]
    tests = tests[tests["roi"].isin(ROIS)]  # and not the splenium
    n_positive = (tests["mean_difference"] > 0).sum()
    assert f"Of the {len(tests)} differences, {n_positive} are positive" in words
    rows = rows_below(text, "Tests between regions")
    n_negative = sum(row[4].startswith("−") for row in rows)
    assert f"{len(rows) - n_negative} of {len(rows)} differences have the published sign" in words


def test_regions_near_the_skull_base_are_compared_in_one_direction(page):
    """Positive: less precise than putamen and pallidum, whichever is first in the table."""
    text, tables, _ = page
    values = tables["imprecision"].pivot(
        index=["method", "subject"], columns="roi", values=["within", "cross"]
    )
    rows = rows_below(text, "Tests between regions")
    assert len(rows) == 2 * 2 * 4
    for method, measure, regions, n, difference, *_ in rows:
        near, far = (name.replace(" ", "_") for name in regions.split(" − "))
        of_method = values.loc[method][measure.removesuffix("-site")]
        expected = 1000 * (of_method[near] - of_method[far]).mean()
        assert float(difference.replace("−", "-")) == pytest.approx(expected, abs=0.005)
        assert n == "3"


def test_patients_with_images_are_beside_the_truth(page):
    text, _, true_chi = page
    (row,) = rows_below(text, "Patients with images")
    assert row[:2] == ["sub-001", "−30.5"]
    assert float(row[3].replace("−", "-")) == pytest.approx(-30.5 - true_chi, abs=0.051)
    assert row[4:] == ["4.20", "4.00", "+5.0 %"]


def test_covariates_of_lesion_volume_are_beside_the_published_p(page):
    text, _, _ = page
    published = {}
    for row in rows_below(text, "Covariates of lesion volume"):
        published[row[0]] = row[3]
    assert published == {
        "age": ".25",
        "sex (male)": ".90",
        "disease duration": "< .001",
        "therapy": ".81",
    }
    assert len(published) == len(load_template("published_thalamus")["covariates"])


def test_scans_processed_before_the_first_echo_had_an_snr_are_said_to_be(
    page, tmp_path, monkeypatch
):
    text, _, _ = page
    sentence = "processed before the measured SNR of the first echo was recorded"
    assert sentence not in " ".join(text.split())
    write_study(tmp_path)
    without_column = pd.DataFrame({"site": ["A"], "snr": [100.0]})
    write_table(tmp_path / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv", without_column)
    module = load_page_module(monkeypatch)
    parts = module.study_parts(module.group_tables(tmp_path / "group"), tmp_path)
    assert sentence in " ".join(parts["snr_note"].split())
    assert [line.split(" | ")[-1] for line in parts["scanners"].splitlines()[2:]] == ["– |"] * 3
