"""Agreement: published examples, pingouin, and intervals that cover what they should."""

import numpy as np
import pandas as pd
import pingouin
import pytest

from multiqsm.stats.agreement import bland_altman, bland_altman_points, intraclass_correlation

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
)
# Peak expiratory flow of 17 subjects, large and mini meter: Bland and Altman, Lancet 1:307-310
# (1986).
LARGE = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


def roi_table(values, method="iterative", roi="putamen"):
    """Long table of ppb values of shape (subjects, sites, scans)."""
    s, a, i = np.indices(values.shape).reshape(3, -1)
    return pd.DataFrame(
        {
            "subject": [f"{n:02d}" for n in s],
            "site": np.array(list("ABCDEF"))[a],
            "scan": i + 1,
            "method": method,
            "roi": roi,
            "mean": values.ravel() / 1000,
            "unit": "ppm",
        }
    )


def study(rng, n=9, subject=10.0, site=3.0, interaction=2.0, residual=4.0, mean=50.0):
    return (
        mean
        + rng.normal(0, subject, (n, 1, 1))
        + rng.normal(0, site, (1, 3, 1))
        + rng.normal(0, interaction, (n, 3, 1))
        + rng.normal(0, residual, (n, 3, 5))
    )


def pick(rows, **names):
    for name, value in names.items():
        rows = rows[rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_shrout_and_fleiss():
    icc = intraclass_correlation(roi_table(SHROUT_FLEISS[:, :, None]))
    agreement = pick(icc, raters="sites", form="ICC(2,1)")
    consistency = pick(icc, raters="sites", form="ICC(3,1)")
    assert round(agreement.icc, 2) == 0.29
    assert round(consistency.icc, 2) == 0.71
    assert round(agreement.ci_low, 2) == 0.02
    assert round(agreement.ci_high, 2) == 0.76
    assert round(consistency.ci_low, 2) == 0.34
    assert round(consistency.ci_high, 2) == 0.95
    assert (consistency.f, consistency.df1, consistency.df2) == (
        pytest.approx(11.03, abs=0.005),
        5,
        15,
    )


@pytest.mark.parametrize("raters", ["sites", "scans", "all"])
def test_icc_agrees_with_pingouin(raters):
    table = roi_table(study(np.random.default_rng(0)))
    ratings, site = table.assign(rater=table["site"] + table["scan"].astype(str)), "all"
    if raters == "sites":
        ratings = (
            table.groupby(["subject", "site"], as_index=False)["mean"]
            .mean()
            .rename(columns={"site": "rater"})
        )
    if raters == "scans":
        ratings, site = ratings[ratings["site"] == "B"], "B"
    reference = pingouin.intraclass_corr(ratings, targets="subject", raters="rater", ratings="mean")
    icc = intraclass_correlation(table)
    interval = next(c for c in reference.columns if c.startswith("CI95"))
    for form, theirs in (("ICC(2,1)", reference.iloc[1]), ("ICC(3,1)", reference.iloc[2])):
        ours = pick(icc, raters=raters, site=site, form=form)
        assert ours.icc == pytest.approx(theirs["ICC"], abs=1e-9)
        assert (ours.f, ours.p) == (
            pytest.approx(theirs["F"]),
            pytest.approx(theirs["pval"], rel=1e-6),
        )
        assert (ours.df1, ours.df2) == (theirs["df1"], theirs["df2"])
        # rounded there
        assert [ours.ci_low, ours.ci_high] == pytest.approx(theirs[interval], abs=0.0051)
        assert (ours.n_subjects, ours.n_left_out, ours.n_raters_left_out) == (9, 0, 0)


def test_offsets_of_sites_count_only_in_agreement():
    values = study(np.random.default_rng(1), site=0)
    moved = values + np.array([0, 30, -20])[:, None]
    before, after = (intraclass_correlation(roi_table(v)) for v in (values, moved))
    consistency = {"raters": "sites", "form": "ICC(3,1)"}
    assert pick(after, **consistency).icc == pytest.approx(pick(before, **consistency).icc)
    agreement = {"raters": "sites", "form": "ICC(2,1)"}
    assert pick(after, **agreement).icc < 0.3 < 0.8 < pick(before, **agreement).icc


def test_incomplete_subjects_and_rare_scans_are_counted():
    values = study(np.random.default_rng(2))
    whole = roi_table(values)
    extra = whole.iloc[[0]].assign(scan=6)
    lost = (whole["subject"] == "03") & (whole["site"] == "B") & (whole["scan"] == 2)
    whole.loc[lost, "mean"] = np.nan
    icc = intraclass_correlation(pd.concat([whole, extra]))
    without = intraclass_correlation(roi_table(np.delete(values, 3, axis=0)))
    for raters, site in (("scans", "B"), ("all", "all")):
        row = pick(icc, raters=raters, site=site, form="ICC(2,1)")
        assert row.icc == pytest.approx(
            pick(without, raters=raters, site=site, form="ICC(2,1)").icc
        )
        assert (row.n_subjects, row.n_left_out) == (8, 1)
    assert pick(icc, raters="all", form="ICC(3,1)").n_raters_left_out == 1
    assert pick(icc, raters="scans", site="A", form="ICC(3,1)").n_subjects == 9
    # The mean of the scans that a site has is there still.
    assert pick(icc, raters="sites", form="ICC(2,1)").n_left_out == 0


def test_icc_that_cannot_be_had():
    alone = intraclass_correlation(roi_table(study(np.random.default_rng(3))[:1]))
    assert alone["icc"].isna().all()
    assert (alone["n_subjects"] == 1).all()
    one_scan = intraclass_correlation(roi_table(study(np.random.default_rng(3))[:, :, :1]))
    assert one_scan.loc[one_scan["raters"] == "scans", "icc"].isna().all()
    assert one_scan.loc[one_scan["raters"] != "scans", "icc"].notna().all()


def test_perfect_agreement():
    icc = intraclass_correlation(
        roi_table(np.broadcast_to([[[10.0]], [[20.0]], [[40.0]]], (3, 3, 5)))
    )
    assert icc["icc"].tolist() == pytest.approx([1] * len(icc))
    assert icc["ci_low"].tolist() == pytest.approx([1] * len(icc))


@pytest.mark.slow
def test_icc_intervals_cover():
    rng = np.random.default_rng(4)
    truth = {"ICC(2,1)": 100 / (100 + 9 + 16), "ICC(3,1)": 100 / (100 + 16)}
    covered = {form: [] for form in truth}
    for _ in range(300):
        icc = intraclass_correlation(roi_table(study(rng, n=20, interaction=0)[:, :, :1]))
        for form, value in truth.items():
            row = pick(icc, raters="sites", form=form)
            covered[form].append(row.ci_low < value < row.ci_high)
    assert 0.92 < np.mean(covered["ICC(3,1)"]) < 0.98
    # What three sites say of the variance between sites is too little for the approximation.
    assert 0.85 < np.mean(covered["ICC(2,1)"]) < 0.98


def test_bland_and_altman_1986():
    values = np.stack([LARGE, MINI], axis=1)[:, :, None]
    row = pick(bland_altman(roi_table(values)), comparison="sites")
    assert (row["first"], row["second"]) == ("A", "B")
    assert row.bias == pytest.approx(-2.1, abs=0.05)
    assert row.sd == pytest.approx(38.8, abs=0.05)
    # The paper rounds the multiplier to 2; its interval of the bias, -22.0 to 17.8, uses t.
    assert row.lower == pytest.approx(-2.1 - 1.96 * 38.8, abs=0.1)
    assert row.upper == pytest.approx(-2.1 + 1.96 * 38.8, abs=0.1)
    assert row.bias_low == pytest.approx(-22.0, abs=0.1)
    assert row.bias_high == pytest.approx(17.8, abs=0.1)
    # Symmetric approximations there: lower -114.3 to -45.1, upper 40.9 to 110.1. The exact ones
    # lean outwards.
    assert row.lower_low < -114.3 < row.lower_high < -45.1
    assert 40.9 < row.upper_low < 110.1 < row.upper_high
    assert (row.n_subjects, row.n_differences, row.n_left_out) == (17, 17, 0)


def test_sites_are_compared_on_subject_means():
    values = study(np.random.default_rng(5))
    limits = bland_altman(roi_table(values))
    assert limits[["first", "second"]].to_numpy().tolist() == [["A", "B"], ["A", "C"], ["B", "C"]]
    d = values[:, 0].mean(axis=1) - values[:, 2].mean(axis=1)
    row = pick(limits, first="A", second="C")
    assert (row.bias, row.sd) == (pytest.approx(d.mean()), pytest.approx(d.std(ddof=1)))


def two_methods(rng, n=9, between=4.0, within=3.0, bias=6.0):
    first = study(rng, n=n)
    second = first - bias - rng.normal(0, between, (n, 1, 1)) - rng.normal(0, within, first.shape)
    return pd.concat(
        [roi_table(first), roi_table(second, method="deterministic")], ignore_index=True
    )


def test_methods_are_compared_with_the_anova_of_their_differences():
    table = two_methods(np.random.default_rng(6))
    d = table["mean"][:135].to_numpy() - table["mean"][135:].to_numpy()
    d = 1000 * d.reshape(9, 15)
    ms_within = d.var(axis=1, ddof=1).mean()
    ms_between = 15 * d.mean(axis=1).var(ddof=1)
    # components of a one-way analysis of variance
    sd = np.sqrt((ms_between - ms_within) / 15 + ms_within)
    row = pick(bland_altman(table), comparison="methods")
    assert (row["first"], row["second"], row["method"]) == ("iterative", "deterministic", "all")
    assert (row.bias, row.sd) == (pytest.approx(d.mean()), pytest.approx(sd))
    assert (row.lower, row.upper) == (
        pytest.approx(d.mean() - 1.959964 * sd),
        pytest.approx(d.mean() + 1.959964 * sd),
    )
    assert (row.n_subjects, row.n_differences) == (9, 135)


def test_one_difference_per_subject_needs_no_components():
    table = two_methods(np.random.default_rng(7))
    single = table[(table["site"] == "A") & (table["scan"] == 1)]
    row = pick(bland_altman(single), comparison="methods")
    d = 1000 * (single["mean"].to_numpy()[:9] - single["mean"].to_numpy()[9:])
    assert row.sd == pytest.approx(d.std(ddof=1))
    assert row.lower_low < row.lower < row.lower_high < row.upper_low < row.upper < row.upper_high


def test_missing_scans_are_counted():
    table = two_methods(np.random.default_rng(8))
    table = table.drop(index=[3, 4]).reset_index(drop=True)  # of the first method
    table.loc[(table["subject"] == "02") & (table["site"] == "C"), "mean"] = np.nan
    limits = bland_altman(table)
    methods = pick(limits, comparison="methods")
    assert (methods.n_subjects, methods.n_differences, methods.n_left_out) == (9, 135 - 2 - 5, 2)
    sites = pick(limits, comparison="sites", method="deterministic", first="A", second="C")
    assert (sites.n_subjects, sites.n_left_out) == (8, 1)


def test_limits_are_computed_from_the_points():
    table = two_methods(np.random.default_rng(9))
    points, limits = bland_altman_points(table), bland_altman(table)
    assert len(points) == 2 * 3 * 9 + 135
    names = ["comparison", "method", "roi", "first", "second"]
    assert points.groupby(names)["difference"].mean().to_dict() == pytest.approx(
        limits.set_index(names)["bias"].to_dict()
    )
    first = points[points["comparison"] == "methods"].iloc[0]
    a, b = 1000 * table["mean"][0], 1000 * table["mean"][135]
    assert (first["mean"], first["difference"]) == (
        pytest.approx((a + b) / 2),
        pytest.approx(a - b),
    )
    assert (first["subject"], first["site"], first["scan"]) == ("00", "A", 1)
    assert points.loc[points["comparison"] == "sites", "scan"].isna().all()


def test_nothing_to_compare():
    table = roi_table(study(np.random.default_rng(10))[:, :1])
    assert bland_altman(table).empty
    assert bland_altman_points(table).empty
    single = bland_altman(roi_table(study(np.random.default_rng(10))[:1])).iloc[0]
    assert np.isfinite(single.bias)
    assert np.isnan(single.sd)
    assert single.n_subjects == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("comparison", "sd"), [("sites", np.sqrt(2 * (2**2 + 4**2 / 5))), ("methods", 5.0)]
)
def test_intervals_of_the_limits_cover(comparison, sd):
    rng = np.random.default_rng(11)
    bias = {"sites": 0.0, "methods": 6.0}[comparison]
    inside = []
    for _ in range(300):
        values = study(rng, site=0.0)
        table = two_methods(rng) if comparison == "methods" else roi_table(values)
        row = bland_altman(table)[lambda t: t["comparison"] == comparison].iloc[0]
        truth = {"bias": bias, "lower": bias - 1.959964 * sd, "upper": bias + 1.959964 * sd}
        inside.append([row[f"{k}_low"] < v < row[f"{k}_high"] for k, v in truth.items()])
    coverage = np.mean(inside, axis=0)
    assert (coverage > 0.92).all()
    assert (coverage < 0.98).all()
