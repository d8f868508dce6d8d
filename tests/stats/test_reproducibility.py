"""Imprecision equals hand-worked tables, its tests equal pingouin's, and the published table's
arithmetic follows.
"""

from itertools import product

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from multiqsm.stats.families import DEEP_GREY
from multiqsm.stats.reproducibility import (
    between_methods,
    between_rois,
    imprecision,
    roi_values,
    summarise_imprecision,
    within_subject_sd,
    within_versus_cross,
)

# Lin et al. 2015: imprecision (ppm) and percentage, within a site and across sites.
PUBLISHED = {
    ("iterative", "caudate"): (0.0054, 10.0, 0.0059, 11.0),
    ("iterative", "putamen"): (0.0037, 9.3, 0.0038, 9.5),
    ("iterative", "pallidum"): (0.0044, 3.4, 0.0054, 4.1),
    ("iterative", "red nucleus"): (0.0113, 18.4, 0.0115, 18.7),
    ("iterative", "nigra"): (0.0099, 15.2, 0.0121, 18.6),
    ("deterministic", "caudate"): (0.0087, 17.9, 0.0107, 21.9),
    ("deterministic", "putamen"): (0.0048, 8.3, 0.0061, 10.6),
    ("deterministic", "pallidum"): (0.0056, 3.4, 0.0068, 4.1),
    ("deterministic", "red nucleus"): (0.0091, 9.3, 0.0103, 10.6),
    ("deterministic", "nigra"): (0.0081, 8.2, 0.0108, 11.1),
}


def long_table(values, *, subject="01", method="iterative", roi="putamen"):
    """Rows from an array of sites by scans."""
    sites, scans = np.indices(np.shape(values))
    return pd.DataFrame(
        {
            "subject": subject,
            "site": np.array(list("ABCD"))[sites.ravel()],
            "scan": scans.ravel() + 1,
            "method": method,
            "roi": roi,
            "mean": np.ravel(values),
            "unit": "ppm",
        }
    )


def with_sds(mean, within, cross):
    """χ[a, i] = mean + a term of the site + a term of the scan: both imprecisions are known
    exactly.
    """
    scans, sites = np.array([-2, -1, 0, 1, 2]), np.array([-1, 0, 1])
    return mean + cross * (sites / sites.std(ddof=1))[:, None] + within * scans / scans.std(ddof=1)


@pytest.fixture(scope="module")
def study():
    rng = np.random.default_rng(1)
    rows = []
    for method, noise in (("iterative", 0.004), ("deterministic", 0.007)):
        for roi, level in (("caudate", 0.05), ("putamen", 0.04), ("nigra", 0.07)):
            for subject in range(9):
                sizes = noise * rng.uniform(0.5, 1.5, (3, 1))
                values = level + rng.normal(0, 0.01) + rng.normal(0, sizes, (3, 5))
                rows.append(long_table(values, subject=f"{subject:02d}", method=method, roi=roi))
    return pd.concat(rows, ignore_index=True)


def test_hand_worked_table():
    #          scans 1    2    3     SD
    # 0.01
    values = [
        [0.01, 0.03, 0.05],  # 0.02
        [0.02, 0.02, 0.02],  # 0
        [0.06, 0.04, 0.05],
    ]
    # SD over sites: of 1, 2, 6 √7; of 3, 2, 4 1; of 5, 2, 5 √3.
    row = imprecision(long_table(values)).iloc[0]
    assert row["within"] == pytest.approx(0.01)
    assert row["cross"] == pytest.approx(0.01 * (np.sqrt(7) + 1 + np.sqrt(3)) / 3)
    assert row["mean"] == pytest.approx(0.30 / 9)
    assert row["within_percent"] == pytest.approx(30)
    assert row[["n_sites", "n_scans", "n_within", "n_cross"]].tolist() == [3, 9, 3, 3]


def test_missing_scans_are_tolerated_and_counted():
    values = np.array([[0.01, 0.03, np.nan], [0.02, np.nan, np.nan], [0.06, np.nan, 0.05]])
    whole = long_table(values)
    for table in (whole, whole.dropna()):  # NaN or no row: the same
        row = imprecision(table).iloc[0]
        # B has one scan
        assert row["within"] == pytest.approx((np.sqrt(2) + np.sqrt(0.5)) / 2 * 0.01)
        assert row["cross"] == pytest.approx(0.01 * np.sqrt(7))  # scans 2 and 3 have one site
        assert row["mean"] == pytest.approx(0.034)
        assert row[["n_sites", "n_scans", "n_within", "n_cross"]].tolist() == [3, 5, 2, 1]


def test_the_impossible_is_nan_not_dropped():
    tables = [
        long_table([[0.01, 0.03]], subject="one site"),
        long_table([[np.nan]], subject="nothing"),
    ]
    imprecisions = imprecision(
        pd.concat([*tables, long_table([[0.1], [0.2]], subject="one scan")])
    ).set_index("subject")
    assert len(imprecisions) == 3
    assert np.isfinite(imprecisions.loc["one site", "within"])
    assert np.isnan(imprecisions.loc["one site", "cross"])
    assert np.isnan(imprecisions.loc["one scan", "within"])
    assert np.isfinite(imprecisions.loc["one scan", "cross"])
    assert imprecisions.loc["nothing", ["mean", "within", "cross", "within_percent"]].isna().all()
    assert imprecisions.loc["nothing", "n_scans"] == 0
    summary = summarise_imprecision(imprecisions.reset_index()).iloc[0]
    assert summary[["n_subjects", "n_within", "n_cross"]].tolist() == [2, 1, 1]
    assert np.isnan(summary["within_sd"])


def test_order_of_rows_does_not_matter(study):
    key = ["subject", "method", "roi"]
    shuffled = imprecision(study.sample(frac=1, random_state=0)).sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(shuffled, imprecision(study).sort_values(key, ignore_index=True))


@pytest.mark.parametrize(("method", "roi"), PUBLISHED)
def test_arithmetic_of_the_published_table(method, roi):
    within, within_percent, cross, cross_percent = PUBLISHED[method, roi]
    # ROI means that give both percentages, the imprecisions being rounded to 0.0001 ppm, the
    # percentages to 0.1.
    pairs = ((within, within_percent), (cross, cross_percent))
    lowest = max(100 * (size - 5e-5) / (percent + 0.05) for size, percent in pairs)
    highest = min(100 * (size + 5e-5) / (percent - 0.05) for size, percent in pairs)
    assert lowest < highest  # one divisor for both: the percentages are ratios of averages
    level = (lowest + highest) / 2
    if method == "iterative":
        implied = {
            "caudate": 0.054,
            "putamen": 0.040,
            "pallidum": 0.129,
            "red nucleus": 0.061,
            "nigra": 0.065,
        }
        assert lowest - 0.0005 < implied[roi] < highest + 0.0005

    factor = 1 + 0.6 * np.linspace(-1, 1, 9)  # mean 1 over the nine subjects
    table = pd.concat(
        long_table(
            with_sds(level / f * np.mean(1 / factor) ** -1, within * f, cross * f), subject=f"{s}"
        )
        for s, f in enumerate(factor)
    )
    summary = summarise_imprecision(imprecision(table)).iloc[0]
    assert summary["mean"] == pytest.approx(level)
    for kind, size, percent in (
        ("within", within, within_percent),
        ("cross", cross, cross_percent),
    ):
        assert summary[kind] == pytest.approx(size)
        assert summary[f"{kind}_percent"] == pytest.approx(percent, abs=0.05 + 100 * 5e-5 / level)
        assert summary[f"{kind}_sd"] == pytest.approx(size * factor.std(ddof=1))
        assert summary[f"{kind}_sd_percent"] == pytest.approx(
            100 * size * factor.std(ddof=1) / level
        )
    # The average of the subjects' own percentages is another number.
    assert imprecision(table)["within_percent"].mean() > 1.1 * summary["within_percent"]


def test_percent_of_a_diamagnetic_region():
    table = long_table(with_sds(-0.02, 0.002, 0.004))
    assert imprecision(table)["within_percent"].iloc[0] == pytest.approx(10)
    assert summarise_imprecision(imprecision(table))["cross_percent"].iloc[0] == pytest.approx(20)


def test_within_versus_cross_equals_pingouin(study):
    imprecisions = imprecision(study)
    tests = within_versus_cross(imprecisions)
    assert len(tests) == 6
    assert (tests["n_tests"] == 3).all()
    for row in tests.itertuples():
        rows = imprecisions[
            (imprecisions["method"] == row.method) & (imprecisions["roi"] == row.roi)
        ]
        expected = stats.ttest_rel(rows["cross"], rows["within"])
        assert (row.statistic, row.df, row.p) == pytest.approx(
            (expected.statistic, expected.df, expected.pvalue)
        )
        interval = expected.confidence_interval(0.95)
        assert (row.ci_low, row.ci_high) == pytest.approx((interval.low, interval.high))
        peer = pingouin.ttest(rows["cross"], rows["within"], paired=True).iloc[0]
        assert (row.statistic, row.p) == pytest.approx(
            (peer["T"], peer.filter(regex="^p.val").iloc[0]), rel=1e-6
        )
    for _, family in tests.groupby("method"):
        reject, corrected = pingouin.multicomp(family["p"].to_numpy(), method="bonf")
        assert family["p_bonferroni"].to_numpy() == pytest.approx(corrected)
        assert (family["significant"] == reject).all()


def test_further_regions_do_not_change_the_corrected_p_of_the_deep_grey_nuclei():
    """As in the 2015 study, its five nuclei are a family; so are ten pairs of them."""
    rng = np.random.default_rng(8)
    regions = [*DEEP_GREY, "thalamus", "splenium"]
    rows = list(product("123456", ["iterative"], regions))
    imprecisions = pd.DataFrame(rows, columns=["subject", "method", "roi"])
    imprecisions["within"], imprecisions["cross"] = rng.gamma(9, 0.001, (2, len(rows)))
    alone = imprecisions[imprecisions["roi"].isin(DEEP_GREY)]
    for test, n_nuclei, n_others in ((within_versus_cross, 5, 2), (between_rois, 10, 11)):
        together = test(imprecisions)
        is_nucleus = together["family"] == "deep_grey"
        assert set(together.loc[is_nucleus, "n_tests"]) == {n_nuclei}
        assert set(together.loc[~is_nucleus, "n_tests"]) == {n_others}
        expected = test(alone)
        compared = together.loc[is_nucleus, expected.columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(compared, expected)
    # Without one of the nuclei all regions are one family.
    without = within_versus_cross(imprecisions[imprecisions["roi"] != "putamen"])
    assert set(without["n_tests"]) == {6}
    assert set(without["family"]) == {"all"}


def test_between_rois_equals_scipy(study):
    imprecisions = imprecision(study)
    tests = between_rois(imprecisions)
    assert len(tests) == 2 * 2 * 3
    assert (tests["n_tests"] == 3).all()
    row = tests[
        (tests["method"] == "iterative")
        & (tests["measure"] == "cross")
        & (tests["roi_2"] == "nigra")
    ].iloc[1]
    assert row["roi_1"] == "putamen"
    values = imprecisions[imprecisions["method"] == "iterative"].pivot(
        index="subject", columns="roi", values="cross"
    )
    expected = stats.ttest_rel(values["putamen"], values["nigra"])
    assert (row["statistic"], row["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert row["mean_difference"] == pytest.approx((values["putamen"] - values["nigra"]).mean())


def test_between_methods_equals_scipy(study):
    imprecisions = imprecision(study)
    tests = between_methods(imprecisions)
    assert len(tests) == 3 * 3
    assert (tests["n_tests"] == 3).all()
    for row in tests.itertuples():
        values = imprecisions[imprecisions["roi"] == row.roi].pivot(
            index="subject", columns="method", values=row.measure
        )
        expected = stats.ttest_rel(values["iterative"], values["deterministic"])
        assert (row.statistic, row.p) == pytest.approx((expected.statistic, expected.pvalue))
    worse = tests[tests["measure"] == "within"]
    assert (worse["mean_difference"] < 0).all()
    assert worse["significant"].any()


def test_subjects_are_paired_by_name_and_missing_ones_left_out_of_n(study):
    imprecisions = imprecision(study)
    gone = (
        (imprecisions["subject"] == "03")
        & (imprecisions["roi"] == "nigra")
        & (imprecisions["method"] == "iterative")
    )
    blank = imprecisions.copy()
    blank.loc[gone, ["mean", "within", "cross"]] = np.nan
    for table in (imprecisions[~gone], blank):
        first = within_versus_cross(table).set_index(["method", "roi"])["n_subjects"]
        assert first["iterative", "nigra"] == 8
        assert first["iterative", "putamen"] == 9
        pairs = between_rois(table.sample(frac=1, random_state=2))
        nigra = (pairs["roi_1"] == "nigra") | (pairs["roi_2"] == "nigra")
        assert (
            pairs["n_subjects"] == np.where(nigra & (pairs["method"] == "iterative"), 8, 9)
        ).all()
        methods = between_methods(table)
        assert (methods["n_subjects"] == np.where(methods["roi"] == "nigra", 8, 9)).all()


def test_impossible_tests_do_not_count(study):
    imprecisions = imprecision(study)
    single = imprecisions.drop(
        imprecisions[(imprecisions["roi"] == "nigra") & (imprecisions["subject"] != "00")].index
    )
    tests = within_versus_cross(single)
    nigra = tests["roi"] == "nigra"
    assert tests.loc[nigra, ["p", "statistic", "ci_low", "p_bonferroni"]].isna().all(axis=None)
    assert not tests.loc[nigra, "significant"].any()
    assert (tests["n_tests"] == 2).all()
    same = imprecisions.assign(cross=imprecisions["within"] + 0.001)  # differences without spread
    assert within_versus_cross(same)["p"].isna().all()
    assert within_versus_cross(same)["mean_difference"].to_numpy() == pytest.approx(0.001)
    single_roi = imprecisions[
        (imprecisions["roi"] == "nigra") & (imprecisions["method"] == "iterative")
    ]
    assert between_rois(single_roi).empty
    assert between_methods(single_roi).empty
    assert "p_bonferroni" in between_methods(single_roi).columns


def test_alpha_is_the_family_wise_error():
    imprecisions = pd.concat(
        pd.DataFrame(
            {
                "subject": range(9),
                "method": "m",
                "roi": roi,
                "within": 0.0,
                "cross": np.arange(9) - shift,
            }
        )
        for roi, shift in (("x", 1.65), ("y", 4))
    )
    row = within_versus_cross(imprecisions).iloc[0]
    assert 0.025 < row["p"] < 0.05  # below .05, not below .05 / 2
    assert not row["significant"]
    assert within_versus_cross(imprecisions, alpha=0.1)["significant"].iloc[0]


def test_within_subject_sd_by_hand():
    # ppb; subject 1: site variances 2 and 8, means 1 and 6; subject 2: 0 and 2, means 3 and 5.
    first, second = np.array([[0, 2], [4, 8]]) / 1000, np.array([[3, 3], [4, 6]]) / 1000
    deviations = within_subject_sd(
        pd.concat([long_table(first, subject="1"), long_table(second, subject="2")])
    )
    deviations = deviations.set_index("definition")
    assert deviations.loc["within_site", "sdw"] == pytest.approx(np.sqrt((2 + 8 + 0 + 2) / 4))
    assert deviations.loc["all_scans", "sdw"] == pytest.approx(
        np.sqrt((np.var([0, 2, 4, 8]) * 4 + np.var([3, 3, 4, 6]) * 4) / 6)
    )
    assert deviations.loc["site_means", "sdw"] == pytest.approx(np.sqrt((12.5 + 2) / 2))
    assert deviations["df"].to_dict() == {"within_site": 4, "all_scans": 6, "site_means": 2}
    assert (deviations["n_scans"] == 8).all()
    assert (deviations["n_subjects"] == 2).all()
    # 4 df: chi-squared quantiles 0.4844 and 11.143 from a printed table.
    assert deviations.loc["within_site", "ci_low"] == pytest.approx(np.sqrt(12 / 11.143), rel=1e-4)
    assert deviations.loc["within_site", "ci_high"] == pytest.approx(np.sqrt(12 / 0.4844), rel=1e-4)


def test_within_subject_sd_is_the_anova_mean_square(study):
    # The residual mean square of an ANOVA on the factor whose means are taken away, with scans
    # missing.
    table = study[study["roi"] == "nigra"].drop(
        index=study.index[study["roi"] == "nigra"][[3, 20, 21, 22, 40]]
    )
    deviations = within_subject_sd(table).set_index(["method", "definition"])
    for method, rows in table.groupby("method"):
        cell = rows["subject"] + rows["site"]
        for definition, factor in (("within_site", cell), ("all_scans", rows["subject"])):
            anova = pingouin.anova(
                rows.assign(factor=factor), dv="mean", between="factor", detailed=True
            )
            expected = 1000 * np.sqrt(anova.set_index("Source").loc["Within", "MS"])
            assert deviations.loc[(method, definition), "sdw"] == pytest.approx(expected, rel=1e-6)


def test_within_subject_sd_without_repeats_is_nan():
    deviations = within_subject_sd(long_table([[0.1], [0.2]])).set_index("definition")
    assert np.isnan(deviations.loc["within_site", "sdw"])
    assert deviations.loc["within_site", "df"] == 0
    assert deviations.loc["site_means", "sdw"] == pytest.approx(1000 * 0.1 / np.sqrt(2))


def test_reference_and_excluded_regions_are_left_out():
    tables = [
        long_table(np.full((3, 5), 1e-9), roi="csf"),
        long_table([[0.1, 0.2]]),
        long_table([[0.1, 0.3]], roi="x"),
    ]
    table = pd.concat(tables)
    assert imprecision(table)["roi"].tolist() == ["putamen", "x"]
    assert imprecision(table, exclude_rois=["x"])["roi"].tolist() == ["putamen"]
    with pytest.raises(ValueError, match="no ROI remains"):
        imprecision(table, exclude_rois=["x", "putamen"])


def test_bad_tables_are_refused():
    table = long_table([[0.1, 0.2], [0.3, 0.4]])
    with pytest.raises(ValueError, match="no column scan"):
        imprecision(table.drop(columns="scan"))
    with pytest.raises(ValueError, match=r"appears twice: subject 01, site A, scan 1"):
        imprecision(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match="site: every row"):
        imprecision(table.assign(site=np.nan))
    with pytest.raises(ValueError, match="ppm, got ppb"):
        imprecision(table.assign(unit="ppb"))
    with pytest.raises(ValueError, match="mixed"):
        roi_values(table.assign(expected=[0.4, np.nan, np.nan, np.nan]))
    assert len(roi_values(table.assign(expected=np.nan))) == 4
