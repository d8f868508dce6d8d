"""Planning agrees with statsmodels, with published tables and with simulated studies."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import power as reference

from multiqsm.stats.planning import (
    change_sd,
    correlation_power,
    detectable_correlation,
    group_sd,
    power,
    sample_size,
    smallest_detectable_change,
)


def test_smallest_detectable_change():
    change = smallest_detectable_change([5.0, 0.0], df=36)
    assert change.value == pytest.approx([1.959964 * np.sqrt(2) * 5, 0], rel=1e-6)
    # 36 df: chi-squared quantiles 21.336 and 54.437 from a printed table.
    assert change.ci_low[0] == pytest.approx(change.value[0] * np.sqrt(36 / 54.437), rel=1e-4)
    assert change.ci_high[0] == pytest.approx(change.value[0] * np.sqrt(36 / 21.336), rel=1e-4)
    assert np.isnan(smallest_detectable_change(5.0).ci_low)


@pytest.mark.slow
def test_interval_of_the_smallest_detectable_change_covers():
    rng = np.random.default_rng(0)
    sdw = rng.normal(0, 3.0, (4000, 9, 5)).std(axis=2, ddof=1)
    change = smallest_detectable_change(np.sqrt((sdw**2).mean(axis=1)), df=36)
    truth = 1.959964 * np.sqrt(2) * 3
    assert np.mean((change.ci_low < truth) & (truth < change.ci_high)) == pytest.approx(
        0.95, abs=0.012
    )


@pytest.mark.parametrize("effect", [0.15, 0.5, 1.2])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_power_agrees_with_statsmodels(effect, alpha):
    for n in (4, 20, 90):
        paired = reference.TTestPower().power(effect, n, alpha)
        groups = reference.TTestIndPower().power(effect, n, alpha)
        assert power(-2 * effect, 2.0, n, design="change", alpha=alpha) == pytest.approx(
            paired, abs=1e-9
        )
        assert power(effect, 1.0, n, design="groups", alpha=alpha) == pytest.approx(
            groups, abs=1e-9
        )


def test_power_of_a_very_large_effect_is_one():
    # Where scipy's tail on the other side underflows, and statsmodels gives NaN.
    assert power(4.0, 1.0, 20, design="change") == pytest.approx(1)
    assert power(50.0, 1.0, 90, design="groups") == pytest.approx(1)


@pytest.mark.parametrize("target", [0.8, 0.95])
@pytest.mark.parametrize("effect", [0.08, 0.3, 0.9, 5.0])
def test_sample_size_agrees_with_statsmodels(effect, target):
    # Above two subjects, which statsmodels' root finding does not go below either.
    paired = np.ceil(reference.TTestPower().solve_power(effect, power=target, alpha=0.05))
    groups = np.ceil(reference.TTestIndPower().solve_power(effect, power=target, alpha=0.05))
    assert sample_size(effect, 1.0, design="change", power=target) == max(paired, 2)
    assert sample_size(effect, 1.0, design="groups", power=target) == max(groups, 2)


@pytest.mark.parametrize(("design", "n_sites"), [("change", 1), ("change", 4), ("groups", 3)])
def test_sample_size_is_the_fewest(design, n_sites):
    n = sample_size(0.6, 1.1, design=design, n_sites=n_sites, power=0.9)
    assert power(0.6, 1.1, n, design=design, n_sites=n_sites) >= 0.9
    assert power(0.6, 1.1, n - 1, design=design, n_sites=n_sites) < 0.9


def test_a_large_effect_needs_few_subjects():
    assert sample_size(1e3, 1.0, design="groups", n_sites=5) == 5
    assert sample_size(1e5, 1.0, design="change", n_sites=5) == 6


def simulated_groups(rng, n, n_sites, effect):
    """P-value of the group difference with the site as a factor, every site scanning as many of
    each group.
    """
    group, site = np.repeat([0.0, 1.0], n), np.tile(np.arange(n) % n_sites, 2)
    y = (
        effect * group
        + rng.normal(0, 7.0, n_sites)[site]
        + rng.normal(0, 3.0, 2 * n)
        + rng.normal(0, 1.0, 2 * n)
        + rng.normal(0, 2.0, (2 * n, 4)).mean(axis=1)
    )
    design = np.column_stack([group, *(site == s for s in range(n_sites))])
    beta, rss, _, _ = np.linalg.lstsq(design, y)
    df = 2 * n - 1 - n_sites
    error = np.sqrt(rss[0] / df * np.linalg.inv(design.T @ design)[0, 0])
    return 2 * stats.t.sf(abs(beta[0]) / error, df)


@pytest.mark.slow
def test_simulated_multisite_comparison_has_the_power():
    sd = group_sd(3.0, 2.0, n_scans=4, subject_site_sd=1.0)
    n = sample_size(3.0, sd, design="groups", n_sites=3)
    n += -n % 3
    rng = np.random.default_rng(1)
    rate = np.mean([simulated_groups(rng, n, 3, 3.0) < 0.05 for _ in range(3000)])
    assert rate == pytest.approx(power(3.0, sd, n, design="groups", n_sites=3), abs=0.025)


def test_simulated_change_has_the_sd_and_the_power():
    rng = np.random.default_rng(2)
    n, n_scans = 14, 3
    site, interaction = rng.normal(0, 2.0, (2, 4000, n)), rng.normal(0, 1.0, (2, 4000, n))
    scans = rng.normal(0, 1.5, (2, 4000, n, n_scans)).mean(axis=3)
    values = site + interaction + scans
    change = rng.normal(2.0, 0.5, (4000, n)) + values[1] - values[0]
    sd = change_sd(1.5, n_scans=n_scans, subject_site_sd=1.0, site_sd=2.0, true_change_sd=0.5)
    assert change.std() == pytest.approx(sd, rel=0.01)
    rate = np.mean(stats.ttest_1samp(change, 0, axis=1).pvalue < 0.05)
    assert rate == pytest.approx(power(2.0, sd, n, design="change"), abs=0.025)


def test_scans_of_one_session_average_only_the_residual():
    assert change_sd(3.0, n_scans=9) == pytest.approx(np.sqrt(2))
    assert change_sd(0.0, n_scans=9, subject_site_sd=1.0) == pytest.approx(np.sqrt(2))
    assert group_sd(3.0, 4.0) == pytest.approx(5)
    assert group_sd(2.0, 0.0, site_sd=1.0, subject_site_sd=2.0) == pytest.approx(3)


def test_95_patients_detect_the_published_correlation():
    # Chiang et al., AJNR 2018: r = .28 at 80 % power, two-sided alpha .05.
    assert round(detectable_correlation(95), 2) == 0.28
    assert correlation_power(0.28, 95) == pytest.approx(0.8, abs=0.02)


def test_power_of_a_correlation():
    # G*Power's exact test, bivariate normal model: r = .3, 80 %, two-sided .05 needs 84 subjects.
    assert correlation_power(0.3, 84) >= 0.8 > correlation_power(0.3, 83)
    assert correlation_power(-0.3, 84) == correlation_power(0.3, 84)
    assert correlation_power(0.0, 20) == pytest.approx(0.05)
    assert correlation_power(0.999, 50) == pytest.approx(1)
    assert correlation_power(detectable_correlation(10, power=0.9), 10) == pytest.approx(0.9)


def test_simulated_correlation_has_the_power():
    rng = np.random.default_rng(3)
    x, noise = rng.normal(size=(2, 20000, 12))
    y = 0.6 * x + 0.8 * noise
    rate = np.mean(stats.pearsonr(x, y, axis=1).pvalue < 0.05)
    assert correlation_power(0.6, 12) == pytest.approx(rate, abs=0.01)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="negative"):
        smallest_detectable_change(-1)
    with pytest.raises(ValueError, match="degrees of freedom"):
        smallest_detectable_change(1, df=0)
    with pytest.raises(ValueError, match="confidence"):
        smallest_detectable_change(1, confidence=95)
    with pytest.raises(ValueError, match="negative"):
        change_sd(-1)
    with pytest.raises(ValueError, match="one scan"):
        group_sd(1, 1, n_scans=0)
    with pytest.raises(ValueError, match="unknown"):
        power(1, 1, 10, design="paired")
    with pytest.raises(ValueError, match="positive"):
        power(1, 0, 10, design="change")
    with pytest.raises(ValueError, match="degree of freedom"):
        power(1, 1, 3, design="change", n_sites=3)
    with pytest.raises(ValueError, match="one site"):
        sample_size(1, 1, design="change", n_sites=0)
    with pytest.raises(ValueError, match="zero"):
        sample_size(0, 1, design="change")
    with pytest.raises(ValueError, match="too small"):
        sample_size(1e-6, 1, design="change")
    with pytest.raises(ValueError, match="between -1 and 1"):
        correlation_power(1, 10)
    with pytest.raises(ValueError, match="three subjects"):
        correlation_power(0.5, 2)
    with pytest.raises(ValueError, match="four subjects"):
        detectable_correlation(3)
    with pytest.raises(ValueError, match="without any"):
        detectable_correlation(30, power=0.04)
