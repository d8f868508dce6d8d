"""Reports are self-contained, complete, and safe with any names and labels."""

import itertools
import shutil
import subprocess
from functools import cache

import numpy as np
import pandas as pd
import pytest
from helpers.pages import (
    ROIS,
    Page,
    assert_self_contained,
    noise_png,
    roi_table,
    table_of,
    tube_table,
)
from helpers.tables import r2star_table

from multiqsm.bids_templates import load_template
from multiqsm.pictures import regional
from multiqsm.reports.blocks import Picture
from multiqsm.reports.group import group_report
from multiqsm.reports.subject import SCAN_BUDGET, subject_report
from multiqsm.stats.age import age_regression
from multiqsm.stats.agreement import bland_altman, bland_altman_points, intraclass_correlation
from multiqsm.stats.calibration import calibrate
from multiqsm.stats.components import variance_components
from multiqsm.stats.references import reference_stability
from multiqsm.stats.relaxation import r2star_tables
from multiqsm.stats.reproducibility import (
    between_methods,
    between_rois,
    imprecision,
    summarise_imprecision,
    within_subject_sd,
    within_versus_cross,
)
from multiqsm.stats.times import computation_times

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def study_tables(rois=None):
    """Return the tables of the group level as `stats` computes them."""
    rois = roi_table() if rois is None else rois
    tubes = tube_table()
    per_subject = imprecision(rois)
    sdw = within_subject_sd(rois)
    scaled = sdw[["sdw", "ci_low", "ci_high"]] * 1.96 * np.sqrt(2)
    site_means = rois.groupby(["site", "method", "roi"])["mean"].transform("mean")
    all_means = rois.groupby(["method", "roi"])["mean"].transform("mean")
    time = {"scan": "sub-01", "method": "medi", "wall": 9.0, "cpu": 9.0, "fft_pair": 0.1}
    times = pd.DataFrame([{**time, "fft_pairs": 90.0, "threads": 1, "processor": "a processor"}])
    published = pd.DataFrame(
        [("iterative", "putamen", 0.0037, 0.0038, 9.3, 9.5)],
        columns=["method", "roi", "within", "cross", "within_percent", "cross_percent"],
    )
    return {
        "rois": rois,
        "imprecision": per_subject,
        "imprecision_summary": summarise_imprecision(per_subject),
        "published": published,
        "within_versus_cross": within_versus_cross(per_subject),
        "between_rois": between_rois(per_subject),
        "between_methods": between_methods(per_subject),
        "references": reference_stability(rois.assign(reference_offset=0.009)),
        "icc": intraclass_correlation(rois),
        "components": variance_components(rois),
        "within_subject_sd": sdw,
        "sdc": sdw.assign(**scaled.rename(columns={"sdw": "sdc"})),
        "sample_size": pd.DataFrame(
            {"roi": list(ROIS), "effect_ppb": 5.0, "power": 0.8, "subjects": [9, 12, 10, 22, 20]}
        ),
        "bland_altman": bland_altman(rois),
        "bland_altman_points": bland_altman_points(rois),
        "tubes": tubes,
        "calibration": calibrate(tubes),
        "harmonized": rois.assign(mean=rois["mean"] - site_means + all_means),
        "age": age_regression(rois),
        **r2star_tables(r2star_table(rois), rois, tubes)[0],
        "times": computation_times(times),
    }


@cache
def default_tables():
    return study_tables()


def full_group_report(**options):
    return group_report(
        default_tables(),
        study={"dataset": "three sites", "settings": "preset lin2015"},
        links={
            "rois": "group/rois.tsv",
            "imprecision_summary": "group/imprecision_summary.tsv",
            "icc": "group/icc.tsv",
            "calibration": "group/calibration.tsv",
        },
        citation="# Methods\n\nField by PDF [1].\n\n# References\n\n1. Liu. "
        "doi:10.1002/nbm.1670\n2. Lin.",
        versions={"multiqsm": "0.1.0", "numpy": "2.4"},
        **options,
    )


def full_subject_report(picture=None, **options):
    rois = roi_table(subjects=1)
    labels = []
    pictures = {}
    png = noise_png(300) if picture is None else picture
    for site, run in itertools.product("ABC", "12345"):
        labels.append((f"ses-{site}", run, site))
        pictures[f"ses-{site}, run {run}"] = [Picture(png, f"map {i}") for i in range(3)]
    scans = pd.DataFrame(labels, columns=["session", "run", "site"]).assign(
        echo_times=[[6, 12, 18, 24, 30, 36]] * 15,
        voxel_size=[[1, 1, 2]] * 15,
        field_strength=3.0,
        phase_sign=-1,
        phase_sign_source="manufacturer",
        mask_source="automatic",
        mask_volume=np.arange(15) + 1342.0,
    )
    maps = scans[["session", "run", "site"]].merge(
        pd.DataFrame(
            {
                "method": ["medi", "iterative", "deterministic"],
                "lambda_units": ["ppm*mm", "mm", "mm"],
            }
        ),
        how="cross",
    )
    maps = maps.assign(
        lambda_value=0.0312,
        lambda_rule="gcv",
        iterations=12,
        reference="csf",
        reference_voxels=812,
        offset=np.linspace(-0.02, 0.02, 45),
        reference_sd=0.021,
    )
    defaults = {
        "maps": maps,
        "pictures": pictures,
        "registration": scans[["session", "run", "site"]].assign(
            translation=0.4, rotation=0.8, displacement=0.11
        ),
        "rois": rois,
        "variability_pictures": [Picture(png, "voxel-wise SD, ppb")],
        "links": {"rois": "sub-01/anat/sub-01_desc-rois_chi.tsv"},
        "citation": "Field by PDF.",
        "versions": {"multiqsm": "0.1.0"},
    }
    return subject_report("01", scans, **(defaults | options))


@pytest.fixture(scope="module")
def group_html():
    return full_group_report(failures=[("sub-03 ses-B run-2", "phase scale is not known")])


@pytest.fixture(scope="module")
def subject_html():
    return full_subject_report(
        failures=[("ses-C run-6", "echo times differ")], warnings=["χ of the pallidum is negative"]
    )


@pytest.mark.slow
def test_group_report_is_complete_and_self_contained(group_html):
    page = assert_self_contained(group_html)
    names = [a.get("href") for a in page.of("a")]
    for anchor in (
        "overview",
        "regions",
        "imprecision",
        "tests",
        "icc",
        "variance",
        "detectable-change",
    ):
        assert f"#{anchor}" in names
    for anchor in ("bland-altman", "calibration", "harmonisation", "age", "r2", "methods"):
        assert f"#{anchor}" in names
    assert {"group/rois.tsv", "group/icc.tsv"} <= set(names)
    assert "phase scale is not known" in page.text
    # These tables lack the pool of the deep grey nuclei.
    assert "not computed" not in page.text.replace("not computed: Deep grey nuclei", "")
    assert "No figure" not in page.text
    assert len(group_html) < 5e6


def test_same_input_gives_the_same_page():
    tables = {"rois": roi_table(subjects=2, scans=2), "published": pd.DataFrame()}
    assert group_report(tables) == group_report(tables)


def test_failures_and_warnings_come_first(subject_html):
    page = assert_self_contained(subject_html)
    for message in ("echo times differ", "pallidum is negative"):
        assert page.text.index(message) < page.text.index("Scan parameters")
    assert "common values" in page.text
    assert "globus pallidus" in page.text
    assert "812" in page.text


def test_values_common_to_all_scans_are_stated_once(subject_html):
    assert subject_html.count("manufacturer") == 1
    assert table_of(subject_html, "Scan parameters: values that differ")[1] == [
        "ses-A",
        "1",
        "A",
        "1342",
    ]
    alike = pd.DataFrame({"run": ["1", "2"], "phase_sign": [-1, -1]})
    text = Page(subject_report("01", alike)).text
    assert "run 1; run 2" in text
    assert text.count("−1") == 1


def test_report_of_fifteen_scans_is_within_the_budget(subject_html):
    assert len(subject_html) < 10e6
    uris = [image["src"] for image in Page(subject_html).of("img")]
    sizes = [len(uri) for uri in uris if not uri.startswith("data:image/svg")]
    assert np.reshape(sizes[-45:], (15, 3)).sum(axis=1).max() <= SCAN_BUDGET


def test_overview_names_the_parts_that_were_not_computed():
    html = group_report({"rois": roi_table(subjects=2, scans=1), "icc": pd.DataFrame()})
    page = assert_self_contained(html)
    assert "was not computed: Imprecision, Tests, Reference regions, ICC, Variance," in page.text
    assert "#icc" not in html


def test_maps_of_a_person_and_of_phantoms_are_shown():
    content = noise_png(40)
    html = group_report(
        {"rois": roi_table(subjects=2, scans=1), "tubes": tube_table()},
        pictures=[Picture(content, "sub-01 at three sites")],
        phantom_pictures={site: Picture(content, f"tubes at {site}") for site in "AB"},
    )
    text = assert_self_contained(html).text
    captions = ("sub-01 at three sites", "Phantom at site A", "tubes at A", "Phantom at site B")
    positions = [text.index(caption) for caption in captions]
    assert positions == sorted(positions)
    assert "no picture" not in text
    assert "wrote no picture of the person" in Page(group_report({"rois": roi_table()})).text
    assert "wrote no picture" not in Page(group_report({"tubes": tube_table()})).text


def test_report_is_written_despite_a_figure_without_data():
    rois = roi_table(subjects=2)
    table = age_regression(rois)
    html = group_report({"rois": rois.assign(age=np.nan), "age": table})
    assert "no region has both measurements with an age" in Page(html).text


def test_published_imprecision_is_next_to_the_measured():
    rois = roi_table(subjects=3, scans=2)
    published = pd.DataFrame(
        {"method": ["iterative"], "roi": ["putamen"], "within": [0.0037], "cross": [0.0038]}
    )
    summary = summarise_imprecision(imprecision(rois))
    html = group_report({"rois": rois, "imprecision_summary": summary, "published": published})
    rows = table_of(html, "Imprecision, mean over subjects")
    within = rows[0].index("within-site (ppb)")
    expected = summary[(summary["method"] == "iterative") & (summary["roi"] == "putamen")].iloc[0]
    by_label = {tuple(row[:2]): row for row in rows}
    row = by_label["iterative", "putamen"]
    assert row[within : within + 2] == [f"{1000 * expected['within']:.1f}", "3.7"]
    assert by_label["deterministic", "putamen"][within + 1] == "n/a"


def test_published_age_and_calibration_are_next_to_the_measured():
    """Each number of the paper is beside the analysis that it is of, and nowhere else."""
    rois = roi_table(subjects=3, scans=2)
    tubes = tube_table()
    tables = {"rois": rois, "age": age_regression(rois)}
    tables |= {"tubes": tubes, "calibration": calibrate(tubes)}
    for name in ("published_age", "published_calibration"):
        tables[name] = pd.DataFrame(load_template(name))
    page = group_report(tables)
    published = {}
    headings, *rows = table_of(page, "Regression on age")
    for row in rows:
        texts = [row[n] for n, heading in enumerate(headings) if heading == "published"]
        if texts != ["n/a", "n/a"]:
            published[tuple(row[:3])] = texts
    assert published == {
        ("iterative", "caudate nucleus", "naive"): ["none", "&gt; .5"],
        ("iterative", "putamen", "naive"): [".40", "&lt; .001"],
        ("iterative", "globus pallidus", "naive"): [".35", "&lt; .001"],
        ("iterative", "red nucleus", "naive"): [".47", "&lt; .001"],
        ("iterative", "substantia nigra", "naive"): [".20", ".02"],
    }
    headings, *rows = table_of(page, "Calibration")
    columns = [n for n, heading in enumerate(headings) if heading.startswith("published")]
    for row in rows:
        is_pooled = row[1] == "all"
        expected = [".91", "−.04", "&gt; .999"] if is_pooled else ["n/a"] * 3
        assert [row[n] for n in columns] == expected


def test_missing_scans_are_not_counted():
    rois = roi_table(subjects=3, scans=2)
    rois.loc[(rois["subject"] == "02") & (rois["site"] == "C") & (rois["scan"] == 2), "mean"] = (
        np.nan
    )
    rows = table_of(group_report({"rois": rois}), "Scans of each subject at each site")
    assert rows[0] == ["subject", "site A", "site B", "site C", "total"]
    assert rows[2] == ["02", "2", "2", "1", "5"]
    assert rows[-1] == ["total", "6", "6", "5", "17"]


def test_table_of_scans_by_regions_has_mean_and_sd(subject_html):
    rows = table_of(subject_html, "Mean susceptibility (ppb), iterative")
    rois = roi_table(subjects=1)
    values = rois[(rois["method"] == "iterative") & (rois["roi"] == "red_nucleus")]["mean"] * 1000
    column = rows[0].index("red nucleus")
    assert len(rows) == 1 + 15 + 2
    assert [row[column] for row in rows[1:16]] == [f"{value:.1f}" for value in values]
    assert rows[-2][column] == f"{values.mean():.1f}"
    assert rows[-1][column] == f"{values.std(ddof=1):.1f}"


@pytest.mark.slow
def test_names_are_escaped():
    rois = roi_table(subjects=2, sites=["A", EVIL], methods=[EVIL, "$x_$"]).replace(
        {"putamen": EVIL, "01": EVIL}
    )
    html = group_report(
        study_tables(rois),
        title=EVIL,
        study={EVIL: EVIL},
        failures=[(EVIL, EVIL)],
        warnings=[EVIL],
        citation=EVIL,
        versions={EVIL: EVIL},
        links={"rois": f"group/{EVIL}.tsv"},
    )
    page = assert_self_contained(html)
    assert "No figure" not in page.text
    assert "<script" not in html
    assert "<script>alert('x')</script>" in page.text  # as text
    rois = rois[rois["subject"] == "02"]
    scans = (
        rois[["session", "run", "site"]]
        .drop_duplicates()
        .assign(phase_sign_source=EVIL, mask_source=EVIL)
    )
    pictures = {EVIL: [Picture(noise_png(40), EVIL, EVIL)]}
    html = subject_report(
        EVIL, scans, rois=rois, pictures=pictures, failures=[(EVIL, EVIL)], versions={EVIL: EVIL}
    )
    assert_self_contained(html)
    assert "<script" not in html


def test_single_scan_has_no_registration():
    labels = {"session": ["A"], "run": ["1"], "site": ["A"]}
    table = pd.DataFrame(
        {**labels, "translation": [np.nan], "rotation": [np.nan], "displacement": [np.nan]}
    )
    text = Page(subject_report("01", pd.DataFrame(labels), registration=table)).text
    assert "There is only one scan, which needs no registration." in text
    assert "0.00" not in text
    assert "Rigid motion" not in text
    moved = table.assign(translation=0.4, rotation=0.1, displacement=0.02)
    assert "0.40" in Page(subject_report("01", pd.DataFrame(labels), registration=moved)).text


def test_scans_that_differ_in_acquisition_are_not_averaged():
    rois = pd.DataFrame(
        {
            "site": "A",
            "acquisition": ["fine", "coarse"],
            "method": "medi",
            "roi": "putamen",
            "mean": [0.02, 0.04],
        }
    )
    html = subject_report("01", rois[["site", "acquisition"]], rois=rois)
    rows = table_of(html, "Mean susceptibility (ppb), medi")
    assert [row[-1] for row in rows] == ["putamen", "40.0", "20.0", "30.0", "14.1"]
    assert [row[0] for row in rows[1:3]] == ["coarse", "fine"]


def test_group_report_compares_reference_regions():
    """In ppb; the whole brain has no imprecision of its own."""
    references = pd.DataFrame(
        {
            "method": "medi",
            "reference": ["csf", "brain"],
            "n_subjects": 9,
            "mean": [0.0096, 0.0],
            "within": [0.00052, np.nan],
            "cross": [0.00131, np.nan],
            "n_regions": 5,
            "regions_within": [0.00084, 0.00089],
            "regions_cross": [0.00147, 0.00133],
        }
    )
    html = group_report({"rois": roi_table(subjects=1), "references": references})
    caption = "Imprecision of reference regions, and of deep grey regions relative to them"
    rows = table_of(html, caption)
    assert rows[1] == ["medi", "CSF", "9", "+9.6", "0.52", "1.31", "5", "0.84", "1.47"]
    assert rows[2] == ["medi", "whole brain", "9", "+0.0", "n/a", "n/a", "5", "0.89", "1.33"]


def test_group_report_lists_protocols_and_excluded_scans():
    rois = roi_table(subjects=2, scans=2)
    rois["protocol"] = "acq-" + rois["site"]
    names = ["subject", "session", "run", "site", "protocol", "reason"]
    excluded = pd.DataFrame([["02", "A", "3", "A", "acq-x", "y"]], columns=names)
    html = group_report({"rois": rois, "excluded": excluded})
    rows = table_of(html, "Scans excluded from all statistics")
    assert rows[1] == ["02", "A", "3", "A", "acq-x", "y"]
    assert "acq-B" in Page(html).text


def test_subject_report_has_lesions_and_quality():
    rows = [(str(n), 0.1 * (30 - n), 10, 1.0, 2.0, 3.0, 1) for n in range(1, 26)]
    total = ("total", 42.5, 250, np.nan, np.nan, np.nan, 25)
    lesions = pd.DataFrame(
        [*rows, total], columns=["lesion", "volume", "n_voxels", "x", "y", "z", "n_seeds"]
    )
    quality = pd.DataFrame(
        {"session": ["n/a"], "run": ["n/a"], "site": ["A"], "snr": [178.7], "field_se": [0.0009]}
    )
    scans = pd.DataFrame({"site": ["A"]})
    page = Page(
        subject_report(
            "01", scans, lesions=lesions, lesion_source="grown from seeds", quality=quality
        )
    ).text
    assert "The 20 largest lesions" in page
    assert "42.500" in page
    assert "grown from seeds" in page
    assert "179" in page
    assert "T2 lesions" not in Page(subject_report("01", scans)).text


def test_unsuitable_tables_raise_an_error():
    rois = roi_table(subjects=2)
    with pytest.raises(ValueError, match="no column mean"):
        regional.roi_figure(rois.drop(columns="mean"))
    with pytest.raises(ValueError, match="no rows"):
        regional.roi_figure(rois.iloc[:0])
    with pytest.raises(ValueError, match="choose one of iterative, deterministic"):
        regional.age_figure(rois, age_regression(rois), method="medi")
    with pytest.raises(ValueError, match="no part of the report shows extra"):
        group_report({"rois": rois, "extra": rois})
    with pytest.raises(ValueError, match="no column scan"):
        group_report({"rois": rois.drop(columns="scan")})
    with pytest.raises(ValueError, match="needs the ROI table"):
        group_report({})


@pytest.mark.slow
def test_browser_shows_reports_without_errors(group_html, subject_html, tmp_path):
    browsers = list(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    )
    if not browsers:
        pytest.skip("no Chromium is installed")
    for name, html in (("group", group_html), ("subject", subject_html)):
        path = tmp_path / f"{name}.html"
        path.write_text(html, encoding="utf-8")
        options = (
            "--headless --no-sandbox --disable-gpu --disable-background-networking "
            "--disable-component-update"
        )
        command = [
            browsers[0],
            *options.split(),
            "--no-first-run",
            f"--user-data-dir={tmp_path / name}",
        ]
        command += ["--enable-logging=stderr", "--dump-dom", path.as_uri()]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in run.stderr
        assert run.stdout.count("<section") == html.count("<section")
