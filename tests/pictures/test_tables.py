"""Figures of tables draw the numbers of the tables."""

import numpy as np
import pandas as pd
import pytest
from helpers.pages import roi_table, tube_table

from multiqsm.pictures import agreement, drawing, regional, variance
from multiqsm.stats.age import age_regression
from multiqsm.stats.agreement import bland_altman, bland_altman_points, intraclass_correlation
from multiqsm.stats.calibration import calibrate
from multiqsm.stats.components import variance_components
from multiqsm.stats.reproducibility import imprecision


def test_site_has_the_same_colour_in_all_figures():
    styles = drawing.site_styles("CAB")
    assert [styles[site]["color"] for site in "ABC"] == list(drawing.PALETTE[:3])
    styles_of_many = pd.DataFrame(drawing.site_styles(range(56)).values())
    assert len(styles_of_many.drop_duplicates()) == 56
    only_b = roi_table(subjects=3, sites="B")
    axis = regional.roi_figure(only_b, sites="ABC").axes[0]
    assert {line.get_color() for line in axis.lines} == {styles["B"]["color"]}


def test_strip_plot_shows_all_scans_without_the_reference():
    rois = roi_table()
    reference = rois[rois["roi"] == "putamen"].assign(roi="csf", mean=1e-9)
    figure = regional.roi_figure(pd.concat([rois, reference]))
    assert len(figure.axes) == 5 * 2
    values = np.concatenate([line.get_ydata() for line in figure.axes[0].lines])
    chosen = rois[(rois["roi"] == "caudate_nucleus") & (rois["method"] == "iterative")]
    np.testing.assert_allclose(np.sort(values), np.sort(chosen["mean"] * 1000))
    figure = regional.roi_figure(rois[rois["subject"] == "04"])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["iterative", "deterministic"]
    assert figure.axes[0].get_xticklabels()[2].get_text() == "globus pallidus"


def test_bars_show_imprecision_in_ppb():
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
    names = ["subject", "method", "roi", "within", "cross"]
    rows = []
    for subject in "12":
        rows.append((subject, "iterative", "putamen", 0.001, 0.002))
        rows.append((subject, "iterative", "pallidum", 0.001, 0.002))
    tests = pd.DataFrame(
        {"method": "iterative", "roi": ["putamen", "pallidum"], "p_bonferroni": [0.031, np.nan]}
    )
    axes = agreement.imprecision_figure(pd.DataFrame(rows, columns=names), tests).axes
    titles = [axis.get_title(loc="left") for axis in axes]
    assert titles == ["putamen, iterative, P = .031", "pallidum, iterative"]


def test_labels_of_subjects_may_be_numbers():
    rois = roi_table(subjects=3)
    per_subject = imprecision(rois)
    table = age_regression(rois)
    numbered_rois = rois.assign(subject=rois["subject"].astype(int))
    numbered = per_subject.assign(subject=per_subject["subject"].astype(int))
    axis = agreement.imprecision_figure(numbered).axes[0]
    assert axis.patches[1].get_height() == pytest.approx(1000 * per_subject["within"].iloc[0])
    axis = regional.age_figure(numbered_rois, table, numbered).axes[0]
    assert np.isfinite(axis.containers[0][2][0].get_segments()).all()


def test_calibration_figure_has_the_fit_and_its_slope():
    tubes = tube_table()
    table = calibrate(tubes)
    axis = regional.calibration_figure(tubes, table).axes[0]
    fit = table[(table["method"] == "iterative") & (table["site"] == "B")].iloc[0]
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert f"B: slope {fit['slope']:.3f}, R² > 0.9999" in labels
    colour = drawing.site_styles("ABC")["B"]["color"]
    fit_lines = []
    for line in axis.lines:
        if line.get_color() == colour and line.get_linestyle() == "-" and len(line.get_xdata()):
            fit_lines.append(line)
    line = fit_lines[0]
    np.testing.assert_allclose(line.get_ydata(), fit["intercept"] + fit["slope"] * line.get_xdata())


def test_age_figure_has_lines_and_error_bars():
    rois = roi_table()
    table = age_regression(rois)
    per_subject = imprecision(rois)
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
    p = drawing.p_text(fit["p_bonferroni"])
    assert any(f"r = {fit['r']:.2f}, {p}" in label for label in labels)
    assert "corrected" in axis.get_legend().get_title().get_text()
    assert len(labels) == 3


def test_bland_altman_figure_of_many_sites_is_limited_to_six_pairs():
    rois = roi_table(subjects=4, sites="ABCDE", scans=1, methods=("iterative",))
    figure = agreement.bland_altman_figure(bland_altman_points(rois), bland_altman(rois))
    assert figure.get_suptitle() == "iterative: the first 6 of 10 pairs"
    assert len(figure.axes) == 6 * 5


def test_fractions_of_variance_sum_to_one_hundred_per_cent():
    components = variance_components(roi_table())
    axis = variance.variance_figure(components).axes[0]
    widths = np.array([bar.get_width() for bar in axis.patches]).reshape(-1, 5)
    np.testing.assert_allclose(widths.sum(axis=0), 100)


def test_icc_figure_has_one_form():
    table = intraclass_correlation(roi_table())
    axis = agreement.icc_figure(table).axes[0]
    chosen = table[
        (table["method"] == "iterative")
        & (table["form"] == "ICC(2,1)")
        & (table["raters"] == "sites")
    ]
    np.testing.assert_allclose(axis.containers[0].lines[0].get_xdata().astype(float), chosen["icc"])
    with pytest.raises(ValueError, match="choose one of"):
        agreement.icc_figure(table, form="ICC(9,9)")


def test_harmonisation_figure_shows_site_offsets_before_and_after():
    rois = roi_table()
    shift = rois["site"].map({"A": 0, "B": 0.1, "C": -0.1})
    figure = variance.harmonization_figure(rois.assign(mean=rois["mean"] + shift), rois)

    def bars(axis):
        bars = [line for line in axis.lines if line.get_color() == drawing.INK]
        return np.reshape([bar.get_ydata()[0] for bar in bars], (3, 5))

    before = bars(figure.axes[0])
    after = bars(figure.axes[1])
    np.testing.assert_allclose(before - after, np.outer([0, 100, -100], np.ones(5)), atol=1e-9)
