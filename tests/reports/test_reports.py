"""Reports are one file, show what they were given, and believe no name; figures draw the tables'
numbers.
"""

import base64
import shutil
import subprocess
from functools import cache
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from helpers.pages import ROIS, Page, assert_self_contained, roi_table, table_of
from matplotlib.figure import Figure
from PIL import Image

from multiqsm.pictures import agreement, drawing, overlays, regional, slices, variance
from multiqsm.reports.blocks import (
    Badge,
    Column,
    Details,
    KeyValues,
    Paragraph,
    Picture,
    Section,
    Table,
    Warnings,
)
from multiqsm.reports.group import group_report
from multiqsm.reports.html import format_value, render_report
from multiqsm.reports.images import figure_uri, image_uri
from multiqsm.reports.subject import SCAN_BUDGET, subject_report
from multiqsm.stats.age import age_regression
from multiqsm.stats.agreement import bland_altman, bland_altman_points, intraclass_correlation
from multiqsm.stats.calibration import calibrate
from multiqsm.stats.components import variance_components
from multiqsm.stats.reproducibility import (
    between_methods,
    between_rois,
    imprecision,
    summarise_imprecision,
    within_subject_sd,
    within_versus_cross,
)

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


def tube_table(sites="ABC", methods=("iterative", "deterministic")):
    """A phantom's tubes at every site, with the published slope."""
    random = np.random.default_rng(1)
    rows = [
        (
            "phantom",
            site,
            "1",
            site,
            method,
            f"tube{i}",
            0.91 * x - 0.04 + random.normal(0, 0.01),
            x,
            1,
        )
        for site in sites
        for method in methods
        for i, x in enumerate((0, 0.41, 0.82, 1.22, 1.63, 2.04))
    ]
    return pd.DataFrame(
        rows,
        columns=["subject", "session", "run", "site", "method", "roi", "mean", "expected", "scan"],
    )


def study_tables(rois=None):
    """What the group level has: the tables as `stats` makes them."""
    rois = roi_table() if rois is None else rois
    tubes, per_subject = tube_table(), imprecision(rois)
    sdw = within_subject_sd(rois)
    scaled = sdw[["sdw", "ci_low", "ci_high"]] * 1.96 * np.sqrt(2)
    site_means = rois.groupby(["site", "method", "roi"])["mean"].transform("mean")
    all_means = rois.groupby(["method", "roi"])["mean"].transform("mean")
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
    }


def head_maps(shape=(48, 56, 40), seed=0):
    """An ellipsoid of brain with bright nuclei, and its mask."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    mask = (grid**2).sum(axis=0) < 0.85
    spots = sum(
        0.12 * np.exp(-(((grid - np.reshape(centre, (3, 1, 1, 1))) / 0.12) ** 2).sum(axis=0))
        for centre in ((0.25, 0.1, 0), (-0.25, 0.1, 0), (0.1, -0.1, -0.3), (-0.1, -0.1, -0.3))
    )
    return np.where(mask, spots + random.normal(0, 0.01, shape), 0).astype(np.float32), mask


def noise_png(side, seed=0):
    """The worst picture for any compression."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


@cache
def default_tables():
    return study_tables()


def full_group_report(**options):
    return group_report(
        default_tables(),
        study={"dataset": "three sites", "settings": "preset lin2015"},
        links={
            name: f"group/{name}.tsv"
            for name in ("rois", "imprecision_summary", "icc", "calibration")
        },
        citation="# Methods\n\nField by PDF [1].\n\n# References\n\n1. Liu. "
        "doi:10.1002/nbm.1670\n2. Lin.",
        versions={"multiqsm": "0.1.0", "numpy": "2.4"},
        **options,
    )


def full_subject_report(picture=None, **options):
    rois = roi_table(subjects=1)
    labels = [(f"ses-{site}", str(run), site) for site in "ABC" for run in range(1, 6)]
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
    picture = noise_png(300) if picture is None else picture
    given = {
        "maps": maps,
        "pictures": {
            f"{s}, run {r}": [Picture(picture, f"map {i}") for i in range(3)] for s, r, _ in labels
        },
        "registration": scans[["session", "run", "site"]].assign(
            translation=0.4, rotation=0.8, displacement=0.11
        ),
        "rois": rois,
        "variability_pictures": [Picture(picture, "voxel-wise SD, ppb")],
        "links": {"rois": "sub-01/anat/sub-01_desc-rois_chi.tsv"},
        "citation": "Field by PDF.",
        "versions": {"multiqsm": "0.1.0"},
    }
    return subject_report("01", scans, **(given | options))


@pytest.fixture(scope="module")
def group_html():
    return full_group_report(failures=[("sub-03 ses-B run-2", "phase scale is not known")])


@pytest.fixture(scope="module")
def subject_html():
    return full_subject_report(
        failures=[("ses-C run-6", "echo times differ")], warnings=["χ of the pallidum is negative"]
    )


@pytest.mark.slow
def test_group_report_is_one_whole_file(group_html):
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
    for anchor in ("bland-altman", "calibration", "harmonisation", "age", "methods"):
        assert f"#{anchor}" in names
    assert {"group/rois.tsv", "group/icc.tsv"} <= set(names)
    assert "phase scale is not known" in page.text
    assert "not computed" not in page.text
    assert "No figure" not in page.text
    assert len(group_html) < 5e6


def test_same_input_gives_the_same_page():
    first, second = (
        group_report({"rois": roi_table(subjects=2, scans=2), "published": pd.DataFrame()})
        for _ in range(2)
    )
    assert first == second


def test_failures_stand_before_everything_else(subject_html):
    page = assert_self_contained(subject_html)
    for early in ("echo times differ", "pallidum is negative"):
        assert page.text.index(early) < page.text.index("Scan parameters")
    assert "common values" in page.text
    assert "globus pallidus" in page.text
    assert "812" in page.text


def test_what_scans_share_is_said_once(subject_html):
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


def test_fifteen_scans_of_noise_stay_within_the_budget(subject_html):
    assert len(subject_html) < 10e6
    uris = [image["src"] for image in Page(subject_html).of("img")]
    scans = [uri for uri in uris if not uri.startswith("data:image/svg")][-45:]
    assert max(sum(map(len, scans[i : i + 3])) for i in range(0, 45, 3)) <= SCAN_BUDGET


def test_what_was_not_computed_is_named():
    html = group_report({"rois": roi_table(subjects=2, scans=1), "icc": pd.DataFrame()})
    page = assert_self_contained(html)
    assert "was not computed: Imprecision, Tests, ICC, Variance," in page.text
    assert "#icc" not in html


def test_too_little_data_for_one_figure_costs_no_report():
    rois = roi_table(subjects=2)
    table = age_regression(rois)
    html = group_report({"rois": rois.assign(age=np.nan), "age": table})
    assert "no region has both measurements with an age" in Page(html).text


def test_imprecision_stands_beside_the_published_one():
    rois = roi_table(subjects=3, scans=2)
    published = pd.DataFrame(
        {"method": ["iterative"], "roi": ["putamen"], "within": [0.0037], "cross": [0.0038]}
    )
    summary = summarise_imprecision(imprecision(rois))
    html = group_report({"rois": rois, "imprecision_summary": summary, "published": published})
    rows = table_of(html, "Imprecision, mean over subjects")
    within = rows[0].index("within-site (ppb)")
    expected = summary[(summary["method"] == "iterative") & (summary["roi"] == "putamen")].iloc[0]
    row = next(row for row in rows if row[:2] == ["iterative", "putamen"])
    assert row[within : within + 2] == [f"{1000 * expected['within']:.1f}", "3.7"]
    other = next(row for row in rows if row[:2] == ["deterministic", "putamen"])
    assert other[within + 1] == "n/a"


def test_counts_of_scans_show_what_is_missing():
    rois = roi_table(subjects=3, scans=2)
    rois.loc[(rois["subject"] == "02") & (rois["site"] == "C") & (rois["scan"] == 2), "mean"] = (
        np.nan
    )
    rows = table_of(group_report({"rois": rois}), "Scans of each subject at each site")
    assert rows[0] == ["subject", "site A", "site B", "site C", "total"]
    assert rows[2] == ["02", "2", "2", "1", "5"]
    assert rows[-1] == ["total", "6", "6", "5", "17"]


def test_scans_by_regions_with_mean_and_sd(subject_html):
    rows = table_of(subject_html, "Mean susceptibility (ppb), iterative")
    rois = roi_table(subjects=1)
    values = rois[(rois["method"] == "iterative") & (rois["roi"] == "red_nucleus")]["mean"] * 1000
    column = rows[0].index("red nucleus")
    assert len(rows) == 1 + 15 + 2
    assert [row[column] for row in rows[1:16]] == [f"{value:.1f}" for value in values]
    assert rows[-2][column] == f"{values.mean():.1f}"
    assert rows[-1][column] == f"{values.std(ddof=1):.1f}"


@pytest.mark.slow
def test_names_are_not_believed():
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


@pytest.mark.parametrize(
    "link", ["https://example.org/x.tsv", "javascript:alert(1)", "//host/x", "/etc/passwd", "a\\b"]
)
def test_links_lead_to_files_beside_the_report_only(link):
    with pytest.raises(ValueError, match="is not a relative path"):
        render_report("x", [Section("a", (Table(pd.DataFrame({"a": [1]}), link=link),))])


def test_blocks_and_anchors():
    figure = Figure(figsize=(2, 1))
    blocks = (
        Paragraph("text"),
        Warnings(("careful",), level="info"),
        KeyValues({"echo_times": [6, 12.5], "mask": None}),
        Details(
            "more",
            (
                Table(pd.DataFrame({"ok": [True], "name": ["a"], "x": [1.5]})),
                Picture(figure, "none"),
            ),
        ),
    )
    titles = ("Über alles", "Über alles", "Top")
    sections = [*(Section(title, blocks) for title in titles), Section("empty", ())]
    html = render_report("Größe", sections, badges=[Badge("3", "sites")])
    page = assert_self_contained(html)
    assert [a["href"] for a in page.of("a")][:3] == ["#uber-alles", "#uber-alles-2", "#top-2"]
    assert "6, 12.5" in page.text
    assert "n/a" in page.text
    assert "<td class=short>yes</td><td class=short>a</td><td class=number>1.5</td>" in html
    with pytest.raises(TypeError, match="str is not a block"):
        render_report("x", [Section("a", ("text",))])
    with pytest.raises(ValueError, match="level 'loud' is unknown"):
        render_report("x", [Section("a", (Warnings(("a",), level="loud"),))])


def test_columns_choose_order_heading_and_unit():
    data = pd.DataFrame({"p": [0.0001, 0.2], "chi": [-0.0421, np.nan], "secret": ["s", "t"]})
    columns = (Column("chi", "χ (ppb)", "+.1f", 1000), Column("p", "P", "p"), Column("absent"))
    html = render_report("x", [Section("a", (Table(data, "numbers", columns, "t a.tsv"),))])
    assert table_of(html, "numbers") == [["χ (ppb)", "P"], ["−42.1", "&lt; .001"], ["n/a", ".200"]]
    assert 'href="t%20a.tsv"' in html
    assert "secret" not in html


def test_values_as_a_reader_writes_them():
    assert format_value(-1234.5678, ".2f") == "−1234.57"
    assert format_value(-0.0001, ".2f") == "0.00"
    assert format_value(np.int64(3)) == "3"
    assert format_value(3.0, "d") == "3"
    assert format_value(0.04567, "p") == ".046"
    assert format_value(np.True_) == "yes"
    assert format_value(pd.NaT) == format_value(None) == format_value(np.nan) == "n/a"


def test_pictures_are_packed_until_they_fit():
    def pixels(uri):
        return Image.open(BytesIO(base64.b64decode(uri.split(",")[1])))

    small = noise_png(40)
    assert image_uri(small) == "data:image/png;base64," + base64.b64encode(small).decode()
    packed = image_uri(noise_png(500), budget=50_000)
    assert len(packed) <= 50_000
    assert pixels(packed).size[0] < 500
    smooth = BytesIO()
    ramp = np.add.outer(np.arange(900), np.arange(900)) // 8
    Image.fromarray(ramp.astype(np.uint8)).save(smooth, format="bmp")
    with pytest.raises(ValueError, match="neither PNG"):
        image_uri(smooth.getvalue())
    forty = [image_uri(noise_png(60, seed), budget=4000) for seed in range(2)]
    assert max(map(len, forty)) <= 4000
    drawing = b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    assert image_uri(drawing).startswith("data:image/svg+xml;base64,")
    figure = Figure(figsize=(5, 5))
    figure.subplots().imshow(np.random.default_rng(0).random((400, 400)))
    for kind in ("png", "jpeg", "webp"):
        uri = figure_uri(figure, kind, budget=100_000)
        assert uri.startswith("data:image/")
        assert len(uri) <= 100_000
    with pytest.raises(ValueError, match="not 'gif'"):
        figure_uri(figure, "gif")


def test_a_site_keeps_its_colour():
    styles = drawing.site_styles("CAB")
    assert [styles[site]["color"] for site in "ABC"] == list(drawing.PALETTE[:3])
    assert len({(s["color"], s["marker"]) for s in drawing.site_styles(range(56)).values()}) == 56
    only_b = roi_table(subjects=3, sites="B")
    axis = regional.roi_figure(only_b, sites="ABC").axes[0]
    assert {line.get_color() for line in axis.lines} == {styles["B"]["color"]}


def test_strip_plot_shows_every_scan_but_the_reference():
    rois = roi_table()
    reference = rois[rois["roi"] == "putamen"].assign(roi="csf", mean=1e-9)
    figure = regional.roi_figure(pd.concat([rois, reference]))
    assert len(figure.axes) == 5 * 2
    shown = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    chosen = rois[(rois["roi"] == "caudate_nucleus") & (rois["method"] == "iterative")]
    np.testing.assert_allclose(np.sort(shown), np.sort(chosen["mean"] * 1000))
    one = regional.roi_figure(rois[rois["subject"] == "04"])
    assert [axis.get_title(loc="left") for axis in one.axes] == ["iterative", "deterministic"]
    assert [label.get_text() for label in one.axes[0].get_xticklabels()][2] == "globus pallidus"


def test_bars_are_the_imprecision_in_ppb():
    per_subject = imprecision(roi_table())
    axis = agreement.imprecision_figure(per_subject).axes[0]
    heights = [bar.get_height() for bar in axis.patches if bar.get_width() == pytest.approx(0.4)]
    chosen = per_subject[
        (per_subject["roi"] == "caudate_nucleus") & (per_subject["method"] == "iterative")
    ]
    np.testing.assert_allclose(heights[:9], chosen["within"] * 1000)
    assert heights[9] == pytest.approx(chosen["within"].mean() * 1000)
    np.testing.assert_allclose(heights[10:19], chosen["cross"] * 1000)


def test_titles_of_the_imprecision_figure_have_the_corrected_p_value():
    per_subject = pd.DataFrame(
        [(s, "iterative", roi, 0.001, 0.002) for s in "12" for roi in ("putamen", "pallidum")],
        columns=["subject", "method", "roi", "within", "cross"],
    )
    tests = pd.DataFrame(
        {"method": "iterative", "roi": ["putamen", "pallidum"], "p_bonferroni": [0.031, np.nan]}
    )
    axes = agreement.imprecision_figure(per_subject, tests).axes
    titles = [axis.get_title(loc="left") for axis in axes]
    assert titles == ["putamen, iterative, P = .031", "pallidum, iterative"]


def test_labels_may_be_numbers():
    rois = roi_table(subjects=3)
    per_subject, table = imprecision(rois), age_regression(rois)
    numbers = {
        name: t.assign(subject=t["subject"].astype(int))
        for name, t in (("r", rois), ("i", per_subject))
    }
    axis = agreement.imprecision_figure(numbers["i"]).axes[0]
    assert axis.patches[1].get_height() == pytest.approx(1000 * per_subject["within"].iloc[0])
    bars = (
        regional.age_figure(numbers["r"], table, numbers["i"])
        .axes[0]
        .containers[0][2][0]
        .get_segments()
    )
    assert np.isfinite(bars).all()


def test_calibration_draws_the_fit_and_names_it():
    tubes = tube_table()
    table = calibrate(tubes)
    axis = regional.calibration_figure(tubes, table).axes[0]
    fit = table[(table["method"] == "iterative") & (table["site"] == "B")].iloc[0]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert f"B: slope {fit['slope']:.3f}, R² > 0.9999" in labels
    colour = drawing.site_styles("ABC")["B"]["color"]
    line = next(
        ln
        for ln in axis.lines
        if ln.get_color() == colour and ln.get_linestyle() == "-" and len(ln.get_xdata())
    )
    np.testing.assert_allclose(line.get_ydata(), fit["intercept"] + fit["slope"] * line.get_xdata())


def test_age_draws_lines_and_error_bars():
    rois = roi_table()
    table, per_subject = age_regression(rois), imprecision(rois)
    axis = regional.age_figure(rois, table, per_subject).axes[1]
    bars = axis.containers[0][2][0].get_segments()
    chosen = per_subject[(per_subject["roi"] == "putamen") & (per_subject["method"] == "iterative")]
    np.testing.assert_allclose([np.ptp(bar[:, 1]) / 2 for bar in bars], chosen["cross"] * 1000)
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    fit = table[
        (table["roi"] == "putamen")
        & (table["method"] == "iterative")
        & (table["analysis"] == "naive")
    ].iloc[0]
    assert any(f"r = {fit['r']:.2f}" in label for label in labels)
    assert len(labels) == 3


def test_bland_altman_of_many_sites_says_what_it_leaves_out():
    rois = roi_table(subjects=4, sites="ABCDE", scans=1, methods=("iterative",))
    figure = agreement.bland_altman_figure(bland_altman_points(rois), bland_altman(rois))
    assert figure.get_suptitle() == "iterative: the first 6 of 10 pairs"
    assert len(figure.axes) == 6 * 5


def test_variance_shares_add_up():
    components = variance_components(roi_table())
    axis = variance.variance_figure(components).axes[0]
    widths = np.array([bar.get_width() for bar in axis.patches]).reshape(-1, 5)
    np.testing.assert_allclose(widths.sum(axis=0), 100)


def test_icc_draws_one_form():
    table = intraclass_correlation(roi_table())
    axis = agreement.icc_figure(table).axes[0]
    chosen = table[
        (table["method"] == "iterative")
        & (table["form"] == "ICC(2,1)")
        & (table["raters"] == "sites")
    ]
    np.testing.assert_allclose(axis.containers[0].lines[0].get_xdata().astype(float), chosen["icc"])
    with pytest.raises(ValueError, match="no form"):
        agreement.icc_figure(table, form="ICC(9,9)")


def test_harmonisation_removes_a_sites_offset():
    rois = roi_table()
    shift = rois["site"].map({"A": 0, "B": 0.1, "C": -0.1})
    figure = variance.harmonization_figure(rois.assign(mean=rois["mean"] + shift), rois)

    def bars(axis):
        return np.array(
            [line.get_ydata()[0] for line in axis.lines if line.get_color() == drawing.INK]
        )

    before, after = (bars(axis).reshape(3, 5) for axis in figure.axes[:2])
    np.testing.assert_allclose(before - after, np.outer([0, 100, -100], np.ones(5)), atol=1e-9)


def test_maps_stand_in_radiological_convention():
    values, mask = head_maps()
    values[32:] += mask[32:]  # in RAS+, the side of high x is the patient's right
    figure = slices.compare_maps_figure(
        {"one": values, "two": -values}, mask, (1, 1, 2), (-1, 1), "ppm"
    )
    axial = figure.axes[0].images[0].get_array()
    assert (
        np.nanmean(axial[:, : axial.shape[1] // 3])
        > np.nanmean(axial[:, -(axial.shape[1] // 3) :]) + 0.5
    )
    coronal = figure.axes[2]
    assert coronal.get_aspect() == 2
    assert coronal.images[0].get_array().shape[0] <= values.shape[2]
    windows = {"one": (-1, 1), "two": (-0.1, 0.1)}
    figure = slices.compare_maps_figure(
        {"one": values, "two": -values}, mask, (1, 1, 2), windows, "ppm"
    )
    assert [axis.images[0].get_clim() for axis in figure.axes[:2]] == [(-1, 1), (-0.1, 0.1)]
    with pytest.raises(ValueError, match="resample"):
        slices.compare_maps_figure({"one": values[1:]}, mask, (1, 1, 2), (-1, 1), "ppm")
    with pytest.raises(ValueError, match="mask is empty"):
        slices.compare_maps_figure({"one": values}, ~(mask | True), (1, 1, 2), (-1, 1), "ppm")


def test_two_maps_stand_beside_their_difference():
    values, mask = head_maps()
    figure = slices.susceptibility_figure({"one": values, "two": 0.5 * values}, mask, (1, 1, 2))
    assert [axis.get_title() for axis in figure.axes[:3]] == ["one", "two", "difference"]
    first, second, difference = (axis.images[0].get_array() for axis in figure.axes[:3])
    np.testing.assert_allclose(difference, first - second)
    assert [axis.images[0].get_clim() for axis in figure.axes[:3]] == [(-0.1, 0.15)] * 2 + [
        (-0.05, 0.05)
    ]
    several = slices.susceptibility_figure(dict.fromkeys("abc", values), mask, (1, 1, 2))
    assert [axis.get_title() for axis in several.axes[:3]] == ["a", "b", "c"]
    maps = {"medi": 3 * values, "iterative": 2 * values, "deterministic": values}
    four = slices.susceptibility_figure(maps, mask, (1, 1, 2)).axes[:4]
    assert four[3].get_title() == "iterative − deterministic"
    np.testing.assert_allclose(four[3].images[0].get_array(), four[2].images[0].get_array())
    assert four[3].images[0].get_clim() == (-0.05, 0.05)


def test_planes_lie_in_the_mask_whatever_is_between_its_parts():
    values, mask = np.zeros((40, 30, 20)), np.zeros((40, 30, 20), bool)
    mask[2:6, 5:9, 3:7] = mask[30:34, 20:24, 12:16] = True
    values[mask] = 1
    figure = slices.slices_figure(values, mask, (1, 1, 2), (0, 1), "an image", "ppm", True)
    planes = figure.axes[:9]
    assert all(axis.images[0].get_array().max() == 1 for axis in planes)
    assert all(axis.collections for axis in planes)
    assert [axis.get_aspect() for axis in planes[::3]] == [1, 2, 2]
    assert figure.get_suptitle() == "an image"
    plain = slices.slices_figure(values, mask, (1, 1, 2), (0, 1), "an image", "ppm", False)
    assert not any(axis.collections for axis in plain.axes[:9])
    with pytest.raises(ValueError, match="'an image' has the shape"):
        slices.slices_figure(values[1:], mask, (1, 1, 2), (0, 1), "an image", "ppm", True)


def test_checkerboard_holds_squares_of_both():
    _, mask = head_maps()
    average, scan = np.where(mask, 1.0, 0.0), np.where(mask, 2.0, 0.0)
    figure = overlays.registration_figure(average, {"scan": scan}, (1, 1, 2), mask=mask)
    board = figure.axes[0].images[0].get_array()
    inside = board[board[..., 0] > 0]
    tinted = np.isclose(inside, overlays.TINT).all(axis=1)
    assert 0.4 < tinted.mean() < 0.6
    assert np.isclose(inside[~tinted], 1).all()
    with pytest.raises(ValueError, match="no scan"):
        overlays.registration_figure(average, {}, (1, 1, 2))


def test_regions_what_is_left_out_of_them_and_the_reference_are_outlined():
    chi = np.zeros((30, 40, 20))
    region, excluded, reference = (np.zeros(chi.shape, bool) for _ in range(3))
    region[5:25, 15:25, 5:15] = excluded[5:10, 15:25, 5:15] = reference[10:13, 3:6, 16:18] = True
    figure = overlays.region_figure(
        chi, region, excluded, reference, (1, 1, 2), title="somebody's map"
    )
    axes = figure.axes[:8]
    tinted = [axis.images[1].get_array()[..., 3].any() for axis in axes]
    # the right end of the region has none
    assert tinted == [
        True,
        True,
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    assert all(axis.collections for axis in axes)
    assert figure.get_suptitle() == "somebody's map"
    # Right is on the left: what is left out lies at low x.
    picture = axes[1].images[1].get_array()[..., 3]
    assert np.flatnonzero(picture.any(axis=0)).min() > picture.shape[1] / 2
    with pytest.raises(ValueError, match="'the map' has the shape"):
        overlays.region_figure(chi[1:], region, excluded, reference, (1, 1, 2), title="")
    with pytest.raises(ValueError, match="mask is empty"):
        overlays.region_figure(chi, region & False, excluded, reference, (1, 1, 2), title="")


def test_lesions_are_outlined_where_most_of_them_is():
    flair = np.full((20, 24, 30), 100.0)
    lesions = np.zeros(flair.shape, bool)
    lesions[5:9, 5:9, 10:20] = True
    figure = overlays.lesion_figure(flair, lesions, (1, 1, 2), slices=5)
    plain, outlined = figure.axes[:5], figure.axes[5:]
    assert len(outlined) == 5
    assert not any(axis.collections for axis in plain)
    assert all(axis.collections for axis in outlined)
    assert not any(
        axis.collections for axis in overlays.lesion_figure(flair, lesions & False, (1, 1, 2)).axes
    )
    with pytest.raises(ValueError, match="'the lesions' has the shape"):
        overlays.lesion_figure(flair, lesions[1:], (1, 1, 2))


def test_registration_of_a_single_scan_is_none():
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


def test_scans_that_acquisitions_tell_apart_are_not_averaged():
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


def test_group_report_names_protocols_and_who_is_left_out():
    rois = roi_table(subjects=2, scans=2)
    rois["protocol"] = "acq-" + rois["site"]
    excluded = pd.DataFrame(
        [
            {
                "subject": "02",
                "session": "A",
                "run": "3",
                "site": "A",
                "protocol": "acq-x",
                "reason": "y",
            }
        ]
    )
    html = group_report({"rois": rois, "excluded": excluded})
    assert table_of(html, "Scans excluded from all statistics")[1] == [
        "02",
        "A",
        "3",
        "A",
        "acq-x",
        "y",
    ]
    assert "acq-B" in Page(html).text


def test_lesions_and_quality_in_a_subjects_report():
    rows = [(str(n), 0.1 * (30 - n), 10, 1.0, 2.0, 3.0, 1) for n in range(1, 26)]
    total = ("total", sum(row[1] for row in rows), 250, np.nan, np.nan, np.nan, 25)
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


def test_tables_that_cannot_be_drawn_are_refused():
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
def test_browser_shows_reports_without_complaint(group_html, subject_html, tmp_path):
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        pytest.skip("no Chromium is installed")
    for name, html in (("group", group_html), ("subject", subject_html)):
        path = tmp_path / f"{name}.html"
        path.write_text(html, encoding="utf-8")
        options = (
            "--headless --no-sandbox --disable-gpu --disable-background-networking "
            "--disable-component-update"
        )
        command = [
            browser,
            *options.split(),
            "--no-first-run",
            f"--user-data-dir={tmp_path / name}",
        ]
        command += ["--enable-logging=stderr", "--dump-dom", path.as_uri()]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "CONSOLE" not in run.stderr
        assert run.stdout.count("<section") == html.count("<section")
