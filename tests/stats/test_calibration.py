"""Calibration finds the slope of a phantom and divides in-vivo values by it."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from multiqsm.stats.calibration import (
    LIKELY_SLOPES,
    LOWEST_R_SQUARED,
    apply_calibration,
    calibrate,
    doubtful_lines,
)

EXPECTED = np.array([0, 0.41, 0.82, 1.22, 1.63, 2.04])


def phantom(measured, *, site="A", method="iterative"):
    """Rows from an array of scans by tubes."""
    runs, tubes = np.indices(np.shape(measured))
    return pd.DataFrame(
        {
            "subject": "phantom",
            "session": np.nan,
            "run": [f"{r + 1}" for r in runs.ravel()],
            "site": site,
            "method": method,
            "roi": [f"tube{t}" for t in tubes.ravel()],
            "mean": np.ravel(measured),
            "expected": EXPECTED[tubes.ravel()],
        }
    )


def in_vivo(**columns):
    return pd.DataFrame({"site": ["A", "B"], "method": "iterative", "mean": [0.09, 0.08]} | columns)


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(3)
    tables = []
    for method, loss in (("iterative", 0), ("deterministic", 0.1)):
        for site, slope in (("A", 0.91), ("B", 0.95), ("C", 0.88)):
            measured = (slope - loss) * EXPECTED - 0.04 + rng.normal(0, 0.01, (3, 6))
            tables.append(phantom(measured, site=site, method=method))
    return pd.concat(tables, ignore_index=True)


def test_an_exact_line_is_found():
    lines = calibrate(phantom(0.91 * EXPECTED[None] - 0.04)).set_index("site")
    for site in ("A", "all"):
        assert lines.loc[site, ["slope", "intercept", "r_squared"]].tolist() == pytest.approx(
            [0.91, -0.04, 1]
        )
        assert lines.loc[site, "residual_sd"] == pytest.approx(0, abs=1e-12)
        assert lines.loc[site, ["n_tubes", "n_points", "n_scans", "n_missing"]].tolist() == [
            6,
            6,
            1,
            0,
        ]


def test_fit_of_tube_means_equals_statsmodels(noisy):
    lines = calibrate(noisy).set_index(["method", "site"])
    assert list(lines.index.get_level_values("site")) == ["A", "B", "C", "all"] * 2
    for (method, site), row in lines.iterrows():
        rows = noisy[
            (noisy["method"] == method)
            & noisy["site"].isin(["A", "B", "C"] if site == "all" else [site])
        ]
        points = rows.groupby(["site", "roi"])[["mean", "expected"]].mean()
        peer = sm.OLS(points["mean"], sm.add_constant(points["expected"])).fit()
        interval = peer.conf_int().loc["expected"]
        assert row["slope"] == pytest.approx(peer.params["expected"], rel=1e-9)
        assert row["intercept"] == pytest.approx(peer.params["const"], rel=1e-9)
        assert [row["slope_se"], row["intercept_se"]] == pytest.approx(
            [peer.bse["expected"], peer.bse["const"]], rel=1e-6
        )
        assert [row["slope_ci_low"], row["slope_ci_high"]] == pytest.approx(
            interval.tolist(), rel=1e-6
        )
        assert row["r_squared"] == pytest.approx(peer.rsquared, rel=1e-9)
        assert row["residual_sd"] == pytest.approx(np.sqrt(peer.mse_resid), rel=1e-6)
        sites = 3 if site == "all" else 1
        assert row[["n_tubes", "n_points", "n_scans"]].tolist() == [6, 6 * sites, 3 * sites]


def test_repeats_do_not_make_it_surer():
    # The same phantom scanned again and again without noise is one measurement of six tubes.
    once = 0.91 * EXPECTED + 0.01 * np.array([1, -1, 0.5, -0.5, 1, -1])
    single, tenfold = calibrate(phantom(once[None])), calibrate(phantom(np.tile(once, (10, 1))))
    assert tenfold["slope_se"].to_numpy() == pytest.approx(single["slope_se"].to_numpy())
    peer = stats.linregress(EXPECTED, once)
    assert single["slope_se"].iloc[0] == pytest.approx(peer.stderr)
    assert tenfold["n_scans"].iloc[0] == 10


def test_missing_tubes_are_counted_and_impossible_fits_explained():
    measured = np.tile(0.9 * EXPECTED, (2, 1))
    measured[0, 2] = measured[:, 5] = np.nan
    table = pd.concat(
        [phantom(measured), phantom(np.where(EXPECTED > 0.5, np.nan, EXPECTED)[None], site="B")]
    )
    lines = calibrate(table).set_index("site")
    assert lines.loc["A", "slope"] == pytest.approx(0.9)
    assert lines.loc["A", ["n_tubes", "n_points", "n_scans", "n_missing"]].tolist() == [5, 5, 2, 3]
    assert np.isnan(lines.loc["B", "slope"])
    assert "rows with every value: 2" in lines.loc["B", "note"]
    assert lines.loc["B", "n_tubes"] == 2
    with pytest.raises(ValueError, match=r"\('iterative', 'B'\)"):
        apply_calibration(in_vivo(), lines.reset_index())


def test_calibrated_values_are_the_true_ones(noisy):
    lines = pd.concat(
        [phantom(s * EXPECTED[None] - 0.04, site=k) for k, s in (("A", 0.9), ("B", 0.8))]
    )
    corrected = apply_calibration(
        in_vivo(sd=0.018, median=0.09, se=0.0018, volume=2.0), calibrate(lines)
    )
    # the intercept cancels against the reference
    assert corrected["mean"].tolist() == pytest.approx([0.1, 0.1])
    assert corrected["sd"].tolist() == pytest.approx([0.02, 0.0225])
    assert corrected["median"].tolist() == pytest.approx([0.1, 0.1125])
    assert corrected["se"].tolist() == pytest.approx([0.002, 0.00225])
    assert corrected["volume"].tolist() == [2.0, 2.0]
    assert corrected["calibrated"].all()
    assert corrected["calibration_slope"].tolist() == pytest.approx([0.9, 0.8])


def test_phantom_rows_stay_and_the_input_is_not_changed():
    tubes = phantom(0.9 * EXPECTED[None])
    table = pd.concat([in_vivo()[:1], tubes], ignore_index=True)
    before = table.copy()
    corrected = apply_calibration(table, calibrate(table))
    pd.testing.assert_frame_equal(table, before)
    assert corrected["calibrated"].tolist() == [True] + [False] * 6
    assert corrected["mean"].tolist() == pytest.approx([0.1, *0.9 * EXPECTED])
    assert corrected["calibration_slope"].notna().tolist() == [True] + [False] * 6


def scattered(r_squared, slope=0.9, site="A"):
    """A phantom whose tubes scatter about a line with the requested R²."""
    rng = np.random.default_rng(1)
    line, noise = slope * EXPECTED, rng.normal(size=EXPECTED.size)
    design = np.column_stack([np.ones_like(EXPECTED), EXPECTED])
    noise -= design @ np.linalg.lstsq(design, noise, rcond=None)[0]
    scale = np.var(line) * (1 - r_squared) / r_squared / np.var(noise)
    return phantom((line + np.sqrt(scale) * noise)[None], site=site)


@pytest.mark.parametrize("r_squared", [0.0005, 0.3, 0.97])
def test_poor_fit_is_refused_and_warned_of(r_squared):
    lines = calibrate(
        pd.concat([scattered(r_squared), scattered(0.999, site="B")], ignore_index=True)
    )
    assert lines["r_squared"].iloc[0] == pytest.approx(r_squared)
    description = rf"site A, iterative: R² {r_squared:.4f} \(should be at least 0.98\), slope 0.90"
    with pytest.raises(ValueError, match=description) as refusal:
        apply_calibration(in_vivo(), lines)
    (warning,) = doubtful_lines(lines)
    for text in (str(refusal.value), warning):
        for place in ("mask", "map", "labels of its tubes", "susceptibility_ppm"):
            assert place in text
        assert "site B" not in text
    assert apply_calibration(in_vivo()[1:], lines)["calibrated"].all()  # nobody needs the poor line


def test_lines_of_good_phantoms_are_not_doubted(noisy):
    """The published phantom's, and simulated ones of either inversion at 2 mm."""
    assert doubtful_lines(calibrate(noisy)) == []
    lines = calibrate(
        pd.concat([scattered(0.986), scattered(0.9999, slope=0.67, site="B")], ignore_index=True)
    )
    assert doubtful_lines(lines) == []
    assert apply_calibration(in_vivo(), lines)["calibrated"].all()
    assert LOWEST_R_SQUARED == 0.98


@pytest.mark.parametrize("slope", [0.45, 1.9, 3.03, -0.9])
def test_implausible_slopes_are_warned_of(slope):
    """Such as those of twice the field strength."""
    (warning,) = doubtful_lines(calibrate(phantom(slope * EXPECTED[None] - 0.04)))
    least, most = LIKELY_SLOPES
    assert (
        f"calibration of site A, iterative: R² 1.0000, slope {slope:.2f} "
        f"(should be {least:g} to {most:g})" in warning
    )


def test_missing_fit_has_a_note_and_no_warning():
    lines = calibrate(phantom(np.where(EXPECTED > 0.5, np.nan, EXPECTED)[None]))
    assert lines["note"].notna().all()
    assert doubtful_lines(lines) == []


def test_bad_input_is_refused():
    lines = calibrate(phantom(0.9 * EXPECTED[None]))
    with pytest.raises(ValueError, match=r"\('iterative', 'B'\)"):
        apply_calibration(in_vivo(), lines)
    with pytest.raises(ValueError, match=r"\('medi', 'A'\)"):
        apply_calibration(in_vivo(method="medi"), lines)
    with pytest.raises(ValueError, match="no positive calibration slope"):  # a wrong phase sign
        apply_calibration(in_vivo()[:1], calibrate(phantom(-0.9 * EXPECTED[None])))
    once = apply_calibration(in_vivo()[:1], lines)
    with pytest.raises(ValueError, match="calibrated already"):
        apply_calibration(once, lines)
    with pytest.raises(ValueError, match="no row has an expected"):
        calibrate(phantom(EXPECTED[None]).assign(expected=np.nan))
    with pytest.raises(ValueError, match="no column expected"):
        calibrate(phantom(EXPECTED[None]).drop(columns="expected"))
    with pytest.raises(ValueError, match="called 'all'"):
        calibrate(phantom(EXPECTED[None], site="all"))
