"""Tables of a study on R2* of regions, and its reproducibility."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .agreement import intraclass_correlation
from .reproducibility import (
    imprecision,
    require_columns,
    summarise_imprecision,
    within_subject_sd,
)

UNIT = "1/s"
_SCAN = ("subject", "session", "run", "site", "protocol", "scan")


def r2star_tables(
    r2star: pd.DataFrame, people: pd.DataFrame, tubes: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Compute the tables on R2*, from the scans that count in the statistics of susceptibility.

    Parameters
    ----------
    r2star : DataFrame
        Long table of R2* of regions: one row per scan and ROI with columns subject, session, run,
        site, scan, roi, mean (1/s), and protocol if the other tables have it.
    people, tubes : DataFrame
        Tables ``rois`` and ``tubes`` of `stats.study.study_tables`.

    Returns
    -------
    tables : dict of str to DataFrame
        ``roi_r2star`` (people) and ``tubes_r2star`` (phantoms); of people, without the region that
        susceptibility is relative to, ``imprecision_r2star`` (per subject),
        ``imprecision_summary_r2star``, ``within_subject_sd_r2star`` and ``icc_r2star``, with the
        columns of susceptibility's tables without ``method``, in 1/s. Those that have rows.
    notes : list of str
        How many scans have no R2*, and why a table could not be computed.

    Raises
    ------
    ValueError
        If a column is absent.
    """
    require_columns(r2star, ["subject", "session", "run", "site", "scan", "roi", "mean"])
    tables = {}
    notes = []
    for name, susceptibility in (("roi_r2star", people), ("tubes_r2star", tubes)):
        keys = [column for column in _SCAN if column in r2star and column in susceptibility]
        scans = susceptibility[keys].drop_duplicates()
        measured = r2star.merge(scans, on=keys, how="inner")[list(r2star)]
        n_missing = len(scans) - len(measured[keys].drop_duplicates())
        if not measured.empty:
            tables[name] = measured
        if n_missing:
            subjects = "people" if name == "roi_r2star" else "phantoms"
            notes.append(
                f"scans of {subjects} without R2*, which needs three echoes: {n_missing} of "
                f"{len(scans)}"
            )
    if "roi_r2star" in tables:
        exclude_rois = sorted(set(people["reference"]))
        further_tables, causes = _statistics(tables["roi_r2star"], exclude_rois)
        tables |= further_tables
        notes += causes
    return tables, notes


def _statistics(
    r2star: pd.DataFrame, exclude_rois: Sequence[str]
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Compute the statistics of R2* in people, and say why one could not be computed."""
    values = r2star.assign(method="r2star")
    functions = {
        "imprecision_r2star": imprecision,
        "within_subject_sd_r2star": within_subject_sd,
        "icc_r2star": intraclass_correlation,
    }
    tables = {}
    notes = []
    for name, function in functions.items():
        try:
            tables[name] = function(values, exclude_rois=exclude_rois, unit=UNIT)
        except ValueError as cause:
            statistic = name.removesuffix("_r2star").replace("_", " ")
            notes.append(f"{statistic} of R2*: not computed: {cause}")
    if "imprecision_r2star" in tables:
        summary = summarise_imprecision(tables["imprecision_r2star"])
        tables["imprecision_summary_r2star"] = summary
    return {name: table.drop(columns="method") for name, table in tables.items()}, notes
