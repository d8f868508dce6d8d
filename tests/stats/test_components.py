"""Components of variance: the analysis of variance, statsmodels' REML, a dense likelihood and known
truths.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize
from statsmodels.regression.mixed_linear_model import MixedLM

from multiqsm.stats.components import COMPONENTS, variance_components

TRUTH = {"subject": 100.0, "site": 25.0, "run": 4.0, "subject_site": 9.0, "residual": 16.0}


def roi_table(values):
    """Long table of ppb values of shape (subjects, sites, scans)."""
    s, a, i = np.indices(values.shape).reshape(3, -1)
    table = pd.DataFrame(
        {"subject": s, "site": a, "scan": i + 1, "mean": values.ravel() / 1000, "unit": "ppm"}
    )
    return table.astype({"subject": str, "site": str}).assign(method="iterative", roi="putamen")


def study(rng, shape=(9, 3, 5), **sd):
    sd = {name: np.sqrt(variance) for name, variance in TRUTH.items()} | sd
    s, a, i = shape
    return (
        50.0
        + rng.normal(0, sd["subject"], (s, 1, 1))
        + rng.normal(0, sd["site"], (1, a, 1))
        + rng.normal(0, sd["run"], (1, 1, i))
        + rng.normal(0, sd["subject_site"], (s, a, 1))
        + rng.normal(0, sd["residual"], (s, a, i))
    )


def lose(table, rng, n):
    return table.drop(index=rng.choice(table.index, n, replace=False))


def components(table):
    return variance_components(table).set_index("component")


def analysis_of_variance(y):
    """Components of balanced data from the expected mean squares."""
    s, a, i = y.shape
    grand, cell = y.mean(), y.mean(axis=2, keepdims=True)
    subject, site = y.mean(axis=(1, 2), keepdims=True), y.mean(axis=(0, 2), keepdims=True)
    run = y.mean(axis=(0, 1), keepdims=True)
    ms_subject = a * i * np.sum((subject - grand) ** 2) / (s - 1)
    ms_site = s * i * np.sum((site - grand) ** 2) / (a - 1)
    ms_run = s * a * np.sum((run - grand) ** 2) / (i - 1)
    ms_cell = i * np.sum((cell - subject - site + grand) ** 2) / ((s - 1) * (a - 1))
    ms_error = np.sum((y - cell - run + grand) ** 2) / ((s * a - 1) * (i - 1))
    return {
        "subject": (ms_subject - ms_cell) / (a * i),
        "site": (ms_site - ms_cell) / (s * i),
        "run": (ms_run - ms_error) / (s * a),
        "subject_site": (ms_cell - ms_error) / i,
        "residual": ms_error,
    }


@pytest.mark.parametrize("shape", [(9, 3, 5), (12, 4, 2)])
def test_balanced_data_agree_with_the_analysis_of_variance(shape):
    y = study(np.random.default_rng(0), shape)
    expected = analysis_of_variance(y)
    assert min(expected.values()) > 0
    estimates = components(roi_table(y))
    for name, variance in expected.items():
        row = estimates.loc[name]
        assert row["variance"] == pytest.approx(variance, rel=1e-6)
        assert row["sd"] ** 2 == pytest.approx(row["variance"])
        assert row["ci_low"] < row["variance"] < row["ci_high"]
        assert (row["sd_low"] ** 2, row["sd_high"] ** 2) == (
            pytest.approx(row["ci_low"]),
            pytest.approx(row["ci_high"]),
        )
    s, a, i = shape
    assert estimates["percent_of_variance"].sum() == pytest.approx(100)
    assert estimates["n_levels"].tolist() == [s, a, i, s * a, s * a * i]
    assert (estimates["n_scans"] == s * a * i).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_unbalanced_data_agree_with_statsmodels(seed):
    rng = np.random.default_rng(seed)
    table = lose(roi_table(study(rng)), rng, 40)
    variances = components(table)["variance"]
    data = table.assign(
        y=1000 * table["mean"], cell=table["subject"] + "-" + table["site"], whole=1
    )
    factors = {"subject": "subject", "site": "site", "run": "scan", "subject_site": "cell"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = MixedLM.from_formula(
            "y ~ 1", data, groups="whole", vc_formula={k: f"0 + C({v})" for k, v in factors.items()}
        ).fit(reml=True, method="powell", xtol=1e-10, ftol=1e-12)  # others stop early
    expected = dict(zip(fit.model.exog_vc.names, fit.vcomp, strict=True)) | {"residual": fit.scale}
    for name in COMPONENTS:
        assert variances[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-6)


def dense_deviance(variances, y, factors):
    """-2 restricted log-likelihood from the covariance matrix of the observations itself."""
    v = variances[-1] * np.eye(y.size)
    for variance, factor in zip(variances[:-1], factors, strict=True):
        v += variance * (factor[:, None] == factor)
    inverse, ones = np.linalg.inv(v), np.ones(y.size)
    residual = y - ones @ inverse @ y / (ones @ inverse @ ones)
    return np.linalg.slogdet(v)[1] + np.log(ones @ inverse @ ones) + residual @ inverse @ residual


def test_ends_of_intervals_are_where_the_profile_reaches_its_limit():
    rng = np.random.default_rng(3)
    table = lose(roi_table(study(rng, (6, 3, 3))), rng, 10)
    y = 1000 * table["mean"].to_numpy()
    factors = [table[c].to_numpy() for c in ("subject", "site", "scan")]
    factors.append((table["subject"] + table["site"]).to_numpy())
    intervals = components(table)

    estimates = intervals["variance"].to_numpy()

    def profile(name, value):
        """Deviance at one component's value, the others at their best."""
        k = COMPONENTS.index(name)
        bounds = [(0, None)] * 4 + [(1e-6, None)]
        start = estimates.copy()
        start[k], bounds[k] = value, (value, value)
        return optimize.minimize(
            dense_deviance,
            start,
            args=(y, factors),
            bounds=bounds,
            method="L-BFGS-B",
            options={"ftol": 1e-13},
        ).fun

    best = dense_deviance(estimates, y, factors)
    for name in COMPONENTS:
        assert profile(name, intervals.loc[name, "ci_high"]) - best == pytest.approx(
            3.8415, abs=2e-3
        )
        if intervals.loc[name, "ci_low"]:
            assert profile(name, intervals.loc[name, "ci_low"]) - best == pytest.approx(
                3.8415, abs=2e-3
            )
        else:
            assert profile(name, 0 if name != "residual" else 1e-6) - best < 3.8415


def test_a_component_that_is_not_there_is_zero_with_an_upper_limit():
    y = study(np.random.default_rng(4))
    y -= y.mean(axis=(0, 1))  # less of both than the residual alone makes
    y -= (
        y.mean(axis=2, keepdims=True)
        - y.mean(axis=(1, 2), keepdims=True)
        - y.mean(axis=(0, 2), keepdims=True)
    )
    expected = analysis_of_variance(y)
    assert max(expected["run"], expected["subject_site"]) < 0
    estimates = components(roi_table(y))
    for name in ("run", "subject_site"):
        assert estimates.loc[name, "variance"] == 0
        assert estimates.loc[name, "ci_low"] == 0
        assert 0 < estimates.loc[name, "ci_high"] < 10
    assert estimates.loc["residual", "variance"] == pytest.approx(16, rel=0.3)


def test_offsets_of_sites_and_scans_go_to_their_components():
    y = study(np.random.default_rng(5))
    moved = components(roi_table(y + np.array([0, 80, -40])[:, None] + np.array([0, 0, 0, 30, 0])))[
        "variance"
    ]
    before = components(roi_table(y))["variance"]
    assert moved["site"] > 50 * before["site"]
    assert moved["run"] > 20 * before["run"]
    for name in ("subject", "subject_site", "residual"):
        assert moved[name] == pytest.approx(before[name], rel=1e-6)


def test_missing_values_are_absent_scans():
    rng = np.random.default_rng(6)
    table = roi_table(study(rng))
    fewer = lose(table, rng, 20)
    nan = table.copy()
    nan.loc[~nan.index.isin(fewer.index), "mean"] = np.nan
    pd.testing.assert_frame_equal(variance_components(nan), variance_components(fewer))
    assert (variance_components(nan)["n_scans"] == 115).all()


def test_components_that_a_design_cannot_show():
    y = study(np.random.default_rng(7))
    one_site = components(roi_table(y[:, :1]))["variance"]
    assert one_site.isna().to_dict() == dict.fromkeys(COMPONENTS, False) | {
        "site": True,
        "subject_site": True,
    }
    one_scan = components(roi_table(y[:, :, :1]))["variance"]
    assert one_scan.isna().to_dict() == dict.fromkeys(COMPONENTS, False) | {
        "run": True,
        "subject_site": True,
    }
    cells = y[:, :, 0]
    error = cells - cells.mean(axis=0) - cells.mean(axis=1)[:, None] + cells.mean()
    assert one_scan["residual"] == pytest.approx(np.sum(error**2) / 16, rel=1e-6)


def test_components_of_every_roi_and_method():
    rng = np.random.default_rng(8)
    putamen, caudate = roi_table(study(rng)), roi_table(study(rng)).assign(roi="caudate")
    csf = roi_table(np.zeros((9, 3, 5))).assign(roi="csf")
    table = variance_components(pd.concat([putamen, caudate, csf], ignore_index=True))
    assert table.groupby("roi", sort=False)["component"].agg(list).to_dict() == {
        "putamen": list(COMPONENTS),
        "caudate": list(COMPONENTS),
    }
    pd.testing.assert_frame_equal(table.iloc[:5], variance_components(putamen))


def test_data_that_say_nothing_are_refused():
    with pytest.raises(ValueError, match=r"putamen \(iterative\).*values are equal"):
        variance_components(roi_table(np.full((3, 3, 3), 7.0)))
    y = study(np.random.default_rng(9), (2, 2, 2))
    few = roi_table(y).iloc[[0, 1, 2, 4]]
    with pytest.raises(ValueError, match="too few scans"):
        variance_components(few)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 25])
def test_intervals_cover_the_truth(lost):
    rng = np.random.default_rng(10)
    covered = []
    for _ in range(100):
        estimates = components(lose(roi_table(study(rng)), rng, lost))
        covered.append(
            [
                estimates.loc[k, "ci_low"] <= v <= estimates.loc[k, "ci_high"]
                for k, v in TRUTH.items()
            ]
        )
    # Within three standard errors of 95 %.
    assert (np.mean(covered, axis=0) >= 0.88).all(), np.mean(covered, axis=0)
