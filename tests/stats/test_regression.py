"""Regression equals statsmodels, pingouin and hand-worked tables, and repeated scans do not count
as people.
"""

import numpy as np
import pandas as pd
import pingouin
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from multiqsm.stats.age import AGE_ANALYSES, age_regression
from multiqsm.stats.mixed_effects import random_intercept
from multiqsm.stats.regression import ols


def people(rng, *, scans, slope=0.001, between=0.01, within=0.005, roi="putamen"):
    """ROI table of subjects with so many scans each (spread over sites) at one age each."""
    rows = []
    for subject, n in enumerate(scans):
        age = rng.uniform(23, 37)
        level = 0.02 + slope * age + rng.normal(0, between)
        rows += [
            {
                "subject": f"{subject:02d}",
                "site": "ABC"[i % 3],
                "scan": i // 3 + 1,
                "age": age,
                "mean": level + e,
            }
            for i, e in enumerate(rng.normal(0, within, n))
        ]
    return pd.DataFrame(rows).assign(method="iterative", roi=roi)


def analyses(table):
    return age_regression(table).set_index("analysis")


@pytest.fixture
def patients():
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"age": rng.normal(42, 10, 95), "female": rng.random(95) < 0.7})
    table["duration"] = 0.4 * table["age"] + rng.normal(0, 5, 95)
    table["therapy"] = rng.integers(0, 3, 95)
    table["chi"] = -29 + 0.27 * (table["age"] - 42) + rng.normal(0, 11, 95)
    return table


def test_ols_by_hand():
    # Σ(x - x̄)² = 10, Σ(x - x̄) y = 8: slope 0.8, intercept 2.8 - 0.8 · 3.
    fit = ols(np.array([2, 1, 3, 3, 5]), pd.DataFrame({"x": [1, 2, 3, 4, 5]}))
    slope = fit.coefficients.loc["x"]
    assert slope["coefficient"] == pytest.approx(0.8)
    assert fit.coefficients.loc["intercept", "coefficient"] == pytest.approx(0.4)
    # Residuals 0.8 -1 0.2 -0.6 0.6: sum of squares 2.4, of a total of 8.8.
    assert fit.residual_sd == pytest.approx(np.sqrt(2.4 / 3))
    assert slope["se"] == pytest.approx(np.sqrt(0.8 / 10))
    assert fit.r_squared == pytest.approx(6.4 / 8.8)
    assert slope["ci_high"] - slope["coefficient"] == pytest.approx(
        3.182446 * np.sqrt(0.08), rel=1e-6
    )
    assert (fit.n, fit.df, fit.n_missing) == (5, 3, 0)


def test_ols_equals_statsmodels_and_pingouin(patients):
    covariates = patients.drop(columns="chi")
    fit = ols(patients["chi"], covariates)
    peer = sm.OLS(patients["chi"], sm.add_constant(covariates.astype(float))).fit()
    coefficients = fit.coefficients
    assert coefficients.index.tolist() == ["intercept", "age", "female", "duration", "therapy"]
    for column, expected in (
        ("coefficient", peer.params),
        ("se", peer.bse),
        ("t", peer.tvalues),
        ("p", peer.pvalues),
    ):
        np.testing.assert_allclose(coefficients[column], expected, rtol=1e-8)
    np.testing.assert_allclose(coefficients[["ci_low", "ci_high"]], peer.conf_int(), rtol=1e-8)
    assert (fit.r_squared, fit.df, fit.n) == (pytest.approx(peer.rsquared), peer.df_resid, 95)
    second = pingouin.linear_regression(covariates.astype(float), patients["chi"])
    np.testing.assert_allclose(coefficients["se"], second["se"], rtol=1e-6)
    np.testing.assert_allclose(
        coefficients["p"], second.filter(regex="^p.?val").iloc[:, 0], rtol=1e-6
    )


def test_units_and_offsets_of_covariates_do_not_matter(patients):
    plain = ols(patients["chi"], patients[["age"]]).coefficients.loc["age"]
    shifted = ols(patients["chi"], 1e-6 * patients[["age"]] + 3).coefficients.loc["age"]
    assert shifted["coefficient"] == pytest.approx(1e6 * plain["coefficient"], rel=1e-6)
    assert shifted["p"] == pytest.approx(plain["p"], rel=1e-6)


def test_missing_values_are_listed(patients):
    patients.index = [f"sub-{i:02d}" for i in range(95)]
    patients.loc["sub-07", "chi"] = patients.loc["sub-20", "age"] = np.nan
    patients["duration"] = (
        patients["duration"].round().astype("Int64").mask(patients.index == "sub-50")
    )
    fit = ols(patients["chi"], patients[["age", "duration"]])
    assert fit.missing_rows == ("sub-07", "sub-20", "sub-50")
    assert (fit.n, fit.n_missing) == (92, 3)
    rest = patients.drop(index=list(fit.missing_rows))
    pd.testing.assert_frame_equal(
        fit.coefficients, ols(rest["chi"], rest[["age", "duration"]]).coefficients
    )


def test_perfect_and_empty_relations():
    x = pd.DataFrame({"x": [1.0, 2, 3, 4]})
    perfect = ols(2 * x["x"] + 1, x)
    assert perfect.r_squared == pytest.approx(1)
    assert perfect.coefficients.loc["x", "p"] < 1e-10
    assert ols(np.array([1.0, -1, -1, 1]), x).r_squared == pytest.approx(0, abs=1e-12)
    assert np.isnan(ols(np.ones(4), x).r_squared)


def test_bad_designs_are_refused_by_name(patients):
    chi = patients["chi"]
    with pytest.raises(ValueError, match="constant in the rows used: site, drug;"):
        ols(chi, patients[["age"]].assign(site=3, drug=0.1))
    twin = patients[["age", "duration", "therapy"]].assign(
        onset=patients["age"] - patients["duration"]
    )
    with pytest.raises(ValueError, match="collinear: age, duration, onset;"):
        ols(chi, twin)
    with pytest.raises(
        ValueError,
        match=r"rows with every value: 3, too few for 3 coefficients \(intercept, age, dur",
    ):
        ols(chi[:3], patients[["age", "duration"]][:3])
    with pytest.raises(ValueError, match="sex is not numeric"):
        ols(chi, patients[["age"]].assign(sex="f"))
    with pytest.raises(ValueError, match="infinite values in outcome, age"):
        ols(chi.replace(chi[0], -np.inf), patients[["age"]].replace(patients["age"][3], np.inf))
    with pytest.raises(ValueError, match="different indices"):
        ols(chi[::-1], patients[["age"]])
    with pytest.raises(ValueError, match="5 outcomes and 95 rows"):
        ols(np.ones(5), patients[["age"]])
    with pytest.raises(ValueError, match="names must differ"):
        ols(chi, patients[["age"]].rename(columns={"age": "intercept"}))


def restricted_deviance(theta, y, x, groups):
    """-2 restricted log likelihood with dense matrices, after Patterson & Thompson; up to a
    constant.
    """
    v = np.eye(len(y)) + theta * (groups[:, None] == groups)
    vi = np.linalg.inv(v)
    gram = x.T @ vi @ x
    r = y - x @ np.linalg.solve(gram, x.T @ vi @ y)
    return (
        (len(y) - x.shape[1]) * np.log(r @ vi @ r)
        + np.linalg.slogdet(v)[1]
        + np.linalg.slogdet(gram)[1]
    )


@pytest.mark.parametrize(
    "scans", [[15] * 9, [15, 15, 14, 3, 1, 10, 15, 6, 2, 12], [2, 1, 1, 2, 3, 1, 2]]
)
def test_random_intercept_equals_statsmodels(scans):
    rng = np.random.default_rng(11)
    table = people(rng, scans=scans)
    table["scan_number"] = rng.normal(0, 1, len(table))  # varies within people
    y, x = 100 * table["mean"], table[["age", "scan_number"]]
    fit = random_intercept(y, x, table["subject"])
    peer = MixedLM(y, sm.add_constant(x), groups=table["subject"]).fit(
        reml=True, method="bfgs", gtol=1e-10
    )
    assert fit.between_variance > 0
    np.testing.assert_allclose(fit.coefficients["coefficient"], peer.fe_params, rtol=1e-6)
    # statsmodels takes standard errors from the joint Hessian with the variances; the usual ones
    # are those of generalised least squares with the variances as known.
    same = table["subject"].to_numpy()[:, None] == table["subject"].to_numpy()
    covariance = peer.scale * np.eye(len(y)) + peer.cov_re.iloc[0, 0] * same
    np.testing.assert_allclose(
        fit.coefficients["se"], sm.GLS(y, sm.add_constant(x), sigma=covariance).fit().bse, rtol=1e-6
    )
    np.testing.assert_allclose(fit.coefficients["se"], peer.bse_fe, rtol=0.01)
    assert fit.within_variance == pytest.approx(peer.scale, rel=1e-6)
    assert fit.between_variance == pytest.approx(peer.cov_re.iloc[0, 0], rel=1e-6)
    assert (fit.n, fit.n_groups, fit.df) == (sum(scans), len(scans), len(scans) - 3)


@pytest.mark.parametrize("seed", range(8))
def test_variance_ratio_minimises_the_restricted_likelihood(seed):
    rng = np.random.default_rng(seed)
    scans = rng.integers(1, 6, rng.integers(4, 10))
    table = people(rng, scans=scans, between=rng.choice([0, 0.002, 0.03]))
    fit = random_intercept(table["mean"], table[["age"]], table["subject"])
    ratio = fit.between_variance / fit.within_variance
    dense = (
        table["mean"].to_numpy(),
        np.column_stack([np.ones(len(table)), table["age"]]),
        table["subject"].to_numpy(),
    )
    best = restricted_deviance(ratio, *dense)
    for theta in [0, *np.logspace(-4, 5, 60), ratio * 1.01, ratio * 0.99]:
        assert restricted_deviance(theta, *dense) >= best - 1e-9


def test_balanced_random_intercept_is_the_anova_and_the_subject_means():
    table = people(np.random.default_rng(2), scans=[15] * 9)
    lines = analyses(table)
    means, mixed = lines.loc["subject_means"], lines.loc["random_intercept"]
    for column in ("slope", "se", "ci_low", "ci_high", "statistic", "df", "p", "intercept"):
        assert mixed[column] == pytest.approx(means[column], rel=1e-6)
    within = table["mean"] - table.groupby("subject")["mean"].transform("mean")
    assert mixed["within_variance"] == pytest.approx((within**2).sum() / (9 * 14))
    residual_variance = (
        ols(
            *(lambda p: (p["mean"], p[["age"]]))(table.groupby("subject")[["mean", "age"]].mean())
        ).residual_sd
        ** 2
    )
    assert mixed["between_variance"] == pytest.approx(
        residual_variance - mixed["within_variance"] / 15
    )


def test_no_variance_between_people_is_ordinary_least_squares():
    table = people(np.random.default_rng(0), scans=[6] * 6, between=0)
    table["mean"] -= (
        table.groupby("subject")["mean"].transform("mean") - 0.05 - 0.001 * table["age"]
    )
    fit = random_intercept(table["mean"], table[["age"]], table["subject"])
    plain = ols(table["mean"], table[["age"]])
    assert fit.between_variance == 0
    np.testing.assert_allclose(fit.coefficients["se"], plain.coefficients["se"])
    assert fit.df == 4


def test_random_intercept_refuses_inseparable_variances():
    table = people(np.random.default_rng(0), scans=[3] * 4)
    with pytest.raises(ValueError, match="vary within any group"):
        random_intercept(table["mean"], table[["age"]], table.index)
    with pytest.raises(ValueError, match="vary within any group"):
        random_intercept(table["age"] ** 2, table[["age"]], table["subject"])
    with pytest.raises(ValueError, match="2 groups are too few for 2 coefficients"):
        random_intercept(table["mean"][:6], table[["age"]][:6], table["subject"][:6])
    with pytest.raises(ValueError, match="every row needs a group"):
        random_intercept(table["mean"], table[["age"]], table["subject"].mask(table.index == 2))
    with pytest.raises(ValueError, match="3 groups for 12 rows"):
        random_intercept(table["mean"], table[["age"]], [1, 2, 3])


def test_age_regression_naive_and_means_equal_scipy():
    rng = np.random.default_rng(4)
    table = pd.concat(
        [people(rng, scans=[15] * 9), people(rng, scans=[15] * 9, slope=-0.002, roi="caudate")]
    )
    lines = age_regression(table).set_index(["roi", "analysis"])
    assert lines.index.get_level_values("analysis").tolist() == list(AGE_ANALYSES) * 2
    for roi, rows in table.groupby("roi"):
        points = {"naive": rows, "subject_means": rows.groupby("subject")[["mean", "age"]].mean()}
        for analysis, sample in points.items():
            row, line = lines.loc[roi, analysis], stats.linregress(sample["age"], sample["mean"])
            r, p = stats.pearsonr(sample["age"], sample["mean"])
            assert (row["r"], row["p"]) == pytest.approx((r, p), rel=1e-6)
            assert (row["slope"], row["intercept"], row["se"]) == pytest.approx(
                (line.slope, line.intercept, line.stderr)
            )
            assert row["df"] == len(sample) - 2
    assert lines["n_scans"].eq(135).all()
    assert lines["n_subjects"].eq(9).all()
    assert lines["n_missing"].eq(0).all()
    assert lines["note"].isna().all()


def test_p_values_are_corrected_for_the_regions_of_an_analysis():
    rng = np.random.default_rng(5)
    regions = []
    for roi, slope in (("putamen", 0.002), ("caudate nucleus", 0.0), ("red nucleus", 0.001)):
        regions.append(people(rng, scans=[5] * 8, slope=slope).assign(roi=roi))
    lines = age_regression(pd.concat(regions, ignore_index=True))
    assert (lines["n_tests"] == 3).all()
    np.testing.assert_allclose(lines["p_bonferroni"], np.minimum(1, 3 * lines["p"]))
    assert (lines["significant"] == (3 * lines["p"] < 0.05)).all()
    # A region in which nobody has an age is not tested.
    regions[1] = regions[1].assign(age=np.nan)
    lines = age_regression(pd.concat(regions, ignore_index=True))
    assert (lines["n_tests"] == 2).all()


def test_missing_scans_and_ages_are_counted():
    table = people(np.random.default_rng(6), scans=[15] * 9)
    table.loc[[0, 40, 41], "mean"] = np.nan
    table.loc[table["subject"] == "08", "age"] = np.nan
    lines = analyses(table)
    assert lines["n_scans"].eq(117).all()
    assert lines["n_subjects"].eq(8).all()
    assert lines["n_missing"].eq(18).all()
    assert lines["df"].to_dict() == {"naive": 115, "subject_means": 6, "random_intercept": 6}
    pd.testing.assert_frame_equal(
        lines.drop(columns="n_missing"), analyses(table.dropna()).drop(columns="n_missing")
    )


def test_impossible_analyses_say_why():
    table = people(np.random.default_rng(7), scans=[5, 5])
    lines = analyses(table)
    assert np.isfinite(lines.loc["naive", "slope"])
    assert lines.loc[["subject_means", "random_intercept"], "slope"].isna().all()
    assert "rows with every value: 2, too few" in lines.loc["subject_means", "note"]
    assert "2 groups" in lines.loc["random_intercept", "note"]
    assert (
        analyses(table.assign(age=30.0))["note"]
        .str.contains("constant in the rows used: age|few")
        .all()
    )
    assert analyses(table.assign(age=np.nan))["note"].str.contains("value: 0").all()
    with pytest.raises(ValueError, match="age is not numeric"):
        age_regression(table.assign(age="89+"))
    with pytest.raises(ValueError, match="no column age"):
        age_regression(table.drop(columns="age"))


def test_regression_leaves_out_the_reference():
    table = people(np.random.default_rng(8), scans=[4] * 5)
    tables = pd.concat([table, table.assign(roi="csf", mean=0.0), table.assign(roi="other")])
    assert age_regression(tables, exclude_rois=["other"])["roi"].unique().tolist() == ["putamen"]


@pytest.mark.slow
def test_only_analyses_per_person_keep_their_error_rate():
    # No effect of age, people differ: how often is p < .05?
    rng = np.random.default_rng(9)
    tests = pd.concat(
        age_regression(people(rng, scans=[15, 15, 9, 15, 4, 15, 15, 7, 15], slope=0))
        for _ in range(200)
    )
    rate = (tests["p"] < 0.05).groupby(tests["analysis"]).mean()
    assert rate["naive"] > 0.4
    assert rate["subject_means"] == pytest.approx(0.05, abs=0.035)
    assert rate["random_intercept"] == pytest.approx(0.05, abs=0.035)
