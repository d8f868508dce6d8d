"""Computation times of a study: hand-computed means, standard deviations and ratios."""

import numpy as np
import pandas as pd
import pytest

from multiqsm.stats.times import computation_times

ROWS = [  # scan, method, wall, cpu, time of an FFT pair
    ("sub-01", "iterative", 100.0, 150.0, 0.5),
    ("sub-02", "iterative", 140.0, 210.0, 0.5),
    ("sub-03", "iterative", 60.0, 90.0, 0.25),
    ("sub-01", "deterministic", 1.0, 2.0, 0.5),
    ("sub-02", "deterministic", 2.0, 2.0, 0.25),
]


def table(rows=ROWS):
    times = pd.DataFrame(rows, columns=["scan", "method", "wall", "cpu", "fft_pair"])
    return times.assign(fft_pairs=times["wall"] / times["fft_pair"], threads=2, processor="P")


def test_means_and_ratios_by_hand():
    result = computation_times(table()).set_index("method")
    iterative = result.loc["iterative"]
    assert iterative["n_scans"] == 3
    assert iterative["wall"] == pytest.approx(100)
    assert iterative["wall_sd"] == pytest.approx(40)  # √((0² + 40² + 40²) / 2)
    assert iterative["cpu"] == pytest.approx(150)
    assert iterative["cpu_sd"] == pytest.approx(60)
    assert iterative["fft_pairs"] == pytest.approx((200 + 280 + 240) / 3)
    assert iterative["fft_pairs_sd"] == pytest.approx(40)
    assert iterative["fft_pair"] == pytest.approx(1.25 / 3)
    # The third scan has no deterministic inversion.
    assert iterative["n_ratio"] == 2
    assert iterative["wall_ratio"] == pytest.approx(120 / 1.5)
    assert iterative["cpu_ratio"] == pytest.approx(180 / 2)
    assert iterative["fft_pairs_ratio"] == pytest.approx(240 / 5)
    assert result.loc["deterministic", "wall_ratio"] == 1
    assert result.loc["deterministic", "fft_pairs_ratio"] == 1
    assert list(result.index) == ["iterative", "deterministic"]


def test_ratio_of_fft_pairs_does_not_depend_on_the_speed_of_the_machine():
    slower = [(scan, method, *(7 * seconds for seconds in times)) for scan, method, *times in ROWS]
    here = computation_times(table())
    there = computation_times(table(slower))
    np.testing.assert_allclose(there["wall"], 7 * here["wall"])
    for column in ("fft_pairs", "fft_pairs_sd", "fft_pairs_ratio", "cpu_ratio"):
        np.testing.assert_allclose(there[column].astype(float), here[column].astype(float))


def test_without_the_deterministic_inversion_there_is_no_ratio():
    result = computation_times(table(ROWS[:1])).iloc[0]
    assert result["wall"] == 100
    assert np.isnan(result["wall_sd"])
    assert pd.isna(result["wall_ratio"])
    assert result["n_ratio"] == 0


def test_machines_are_named():
    times = table().assign(threads=[1, 2, 2, 1, 2], processor=["A", "B", "B", "A", "B"])
    result = computation_times(times)
    assert set(result["threads"]) == {"1, 2"}
    assert set(result["processor"]) == {"A, B"}


def test_no_times_are_an_error():
    with pytest.raises(ValueError, match="no times of any scan"):
        computation_times(table([]))
    with pytest.raises(ValueError, match="fft_pairs"):
        computation_times(table().drop(columns="fft_pairs"))
