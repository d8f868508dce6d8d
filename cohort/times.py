"""Computation times of the inversions of all scans of a study."""

from collections.abc import Iterable

import pandas as pd

from ..dataset.entities import SCAN_ENTITIES, scan_label
from ..dataset.files import PathLike
from ..dataset.problems import DatasetError
from ..dataset.times import MEASURE_AGAIN, InversionTime, read_times
from .roi_tables import row_entities

COLUMNS = ("scan", "method", "wall", "cpu", "fft_pair", "fft_pairs", "threads", "processor")


def collect_times(output_dir: PathLike, rois: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Read the computation times of the scans and inversions in a table of regional values.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    rois : pandas.DataFrame
        Long table of regional values; it determines the scans and inversions.

    Returns
    -------
    times : pandas.DataFrame
        A row for each inversion of each scan whose time is known: ``scan``, its label; ``method``;
        ``wall``, ``cpu`` and ``fft_pair``, s; ``fft_pairs``; ``threads``; ``processor``.
    notes : list of str
        Which times are missing, and which files are damaged.
    """
    labels = [name for name in SCAN_ENTITIES if name in rois]
    scans = rois[[*labels, "method"]].drop_duplicates()
    rows = []
    notes = []
    unknown = []
    for label, methods in _methods_of_scans(scans.to_dict("records")).items():
        try:
            times = read_times(output_dir, label)
        except DatasetError as error:
            notes.append(f"computation times: {error}")
            continue
        for method in methods:
            if method in times:
                rows.append(_row(label, method, times[method]))
        if not times.keys() >= set(methods):
            unknown.append(label)
    if unknown:
        notes.append(
            f"computation times of {len(unknown)} scan{'s' * (len(unknown) != 1)} are not known "
            f"({_first_labels(unknown)}); {MEASURE_AGAIN}"
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)), notes


def _first_labels(labels: list[str]) -> str:
    """Name the first three of some scans, and how many more there are."""
    names = ", ".join(labels[:3])
    n_more = len(labels) - 3
    return f"{names} and {n_more} more" if n_more > 0 else names


def _methods_of_scans(rows: Iterable[dict]) -> dict[str, list[str]]:
    """Return the inversions of each scan, by its label."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        methods.setdefault(scan_label(row_entities(row)), []).append(row["method"])
    return methods


def _row(label: str, method: str, time: InversionTime) -> tuple:
    """Return the columns of one time."""
    return (
        *(label, method, time.wall, time.cpu, time.fft_pair, time.fft_pairs),
        *(time.threads, time.processor),
    )
