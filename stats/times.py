"""Computation times of the inversions of a study."""

import pandas as pd

from .reproducibility import require_columns

BASELINE = "deterministic"


def computation_times(times: pd.DataFrame) -> pd.DataFrame:
    """Average the computation times of each inversion over scans.

    Parameters
    ----------
    times : DataFrame
        A row for each inversion of each scan: ``scan``, ``method``, ``wall``, ``cpu`` and
        ``fft_pair`` (s), ``fft_pairs``, ``threads``, ``processor``.

    Returns
    -------
    DataFrame
        A row for each inversion:

        * method, n_scans
        * wall, cpu: mean elapsed and processor time, s; wall_sd, cpu_sd: their SD over scans, with
          n − 1
        * fft_pairs, fft_pairs_sd: mean and SD of the elapsed time in FFT pairs
        * fft_pair: mean elapsed time of an FFT pair, s
        * wall_ratio, cpu_ratio, fft_pairs_ratio: mean elapsed time, processor time and elapsed time
          in FFT pairs, divided by that of the deterministic inversion, over the n_ratio scans that
          have both
        * threads, processor: of all scans, separated by commas where they differ

    Raises
    ------
    ValueError
        If columns are missing or there are no times.
    """
    measures = ["wall", "cpu", "fft_pair", "fft_pairs"]
    require_columns(times, ["scan", "method", *measures, "threads", "processor"])
    if times.empty:
        raise ValueError("no times of any scan are known")
    baseline = times[times["method"] == BASELINE]
    rows = []
    for method, group in times.groupby("method", sort=False):
        means = group[measures].mean()
        sds = group[measures].std(ddof=1)
        of_both = group.merge(baseline, on="scan", suffixes=("", "_baseline"))
        ratios = {}
        for name in ("wall", "cpu", "fft_pairs"):
            ratios[name] = pd.NA
            if len(of_both):
                ratios[name] = of_both[name].mean() / of_both[f"{name}_baseline"].mean()
        rows.append(
            {
                "method": method,
                "n_scans": len(group),
                "wall": means["wall"],
                "wall_sd": sds["wall"],
                "cpu": means["cpu"],
                "cpu_sd": sds["cpu"],
                "fft_pairs": means["fft_pairs"],
                "fft_pairs_sd": sds["fft_pairs"],
                "fft_pair": means["fft_pair"],
                "wall_ratio": ratios["wall"],
                "cpu_ratio": ratios["cpu"],
                "fft_pairs_ratio": ratios["fft_pairs"],
                "n_ratio": len(of_both),
                "threads": _values(group["threads"]),
                "processor": _values(group["processor"]),
            }
        )
    return pd.DataFrame(rows)


def _values(column: pd.Series) -> str:
    """Return the different values of a column in order, separated by commas."""
    return ", ".join(map(str, sorted(column.unique())))
