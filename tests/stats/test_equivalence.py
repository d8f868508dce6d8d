"""Tests of equivalence of imprecision, against other implementations and by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from multiqsm.stats.equivalence import (
    detectable_difference,
    equivalence_power,
    equivalence_tests,
    sd_bias,
    unbiased_imprecision,
)
from multiqsm.stats.reproducibility import imprecision

MARGIN = 0.003  # ppm


def study(rng, n_subjects, *, site_sd=0.0, scan_sd=0.004, n_scans=5):
    """Simulate the published design for one region: three sites, five scans each, ppm."""
    rows = []
    for subject in range(n_subjects):
        for site in "ABC":
            offset = rng.normal(0, site_sd) if site_sd else 0.0
            for scan in range(n_scans):
                mean = 0.05 + offset + rng.normal(0, scan_sd)
                rows.append((f"{subject}", site, scan, "medi", "putamen", mean))
    return pd.DataFrame(rows, columns=["subject", "site", "scan", "method", "roi", "mean"])


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_bias_is_that_of_simulated_standard_deviations(n):
    rng = np.random.default_rng(n)
    sds = rng.normal(size=(200_000, n)).std(axis=1, ddof=1)
    assert sd_bias(n) == pytest.approx(sds.mean(), abs=4 * sds.std() / np.sqrt(200_000))


def test_without_site_effects_both_imprecisions_are_the_scan_sd():
    table = study(np.random.default_rng(1), 400)
    unbiased = unbiased_imprecision(table)[["within", "cross"]].mean()
    published = imprecision(table)[["within", "cross"]].mean()
    np.testing.assert_allclose(unbiased, 0.004, rtol=0.04)
    assert published["cross"] / published["within"] == pytest.approx(0.943, abs=0.04)


def test_tests_are_those_of_statsmodels():
    table = study(np.random.default_rng(2), 9, site_sd=0.002)
    imprecisions = unbiased_imprecision(table)
    (row,) = equivalence_tests(imprecisions, MARGIN).to_dict("records")
    p, *_ = ttost_paired(imprecisions["cross"], imprecisions["within"], -MARGIN, MARGIN)
    assert row["p"] == pytest.approx(p, abs=1e-12)
    difference = imprecisions["cross"] - imprecisions["within"]
    interval = stats.ttest_1samp(difference, 0).confidence_interval(0.9)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(interval))
    assert (row["n_subjects"], row["df"], row["margin"]) == (9, 8, MARGIN)


def test_size_at_the_margin_and_power_without_difference():
    n_studies = 20_000
    n = 9
    sd = 1.0
    margin = 1.2
    rng = np.random.default_rng(3)
    noise = rng.normal(0, sd, (n_studies, n))
    found = {}
    for true in (0.0, margin):
        se = noise.std(axis=1, ddof=1) / np.sqrt(n)
        t = (margin - np.abs(true + noise.mean(axis=1))) / se
        found[true] = np.mean(stats.t.sf(t, n - 1) < 0.05)
    error = 4 * np.sqrt(0.25 / n_studies)
    assert found[margin] <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / n_studies)
    assert equivalence_power(margin, sd, n) == pytest.approx(found[0.0], abs=error)


def test_detectable_difference_is_detected_with_its_power():
    effect = detectable_difference(2.0, 9, power=0.8)
    rng = np.random.default_rng(4)
    differences = rng.normal(effect, 2.0, (20_000, 9))
    p = stats.ttest_1samp(differences, 0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / 20_000))


def test_regions_without_margin_are_not_tested_and_impossible_tests_do_not_count():
    table = study(np.random.default_rng(5), 4)
    other = table.assign(roi="csf")
    single = table[table["subject"] == "0"].assign(roi="thalamus")
    imprecisions = unbiased_imprecision(pd.concat([table, other, single]))
    tests = equivalence_tests(imprecisions, {"putamen": MARGIN, "thalamus": MARGIN}).set_index(
        "roi"
    )
    assert list(tests.index) == ["putamen", "thalamus"]
    assert np.isnan(tests.loc["thalamus", "p"])
    assert tests.loc["putamen", "n_tests"] == 1


def test_margin_of_zero_is_refused():
    imprecisions = unbiased_imprecision(study(np.random.default_rng(6), 3))
    with pytest.raises(ValueError, match="margin of putamen must be positive"):
        equivalence_tests(imprecisions, 0.0)
