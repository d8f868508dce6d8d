"""Tables of a study on R2* of regions, and its variation within subjects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .reproducibility import require_columns, within_subject_sd

UNIT = "1/s"
ALL_REGIONS = "all_regions"
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
        ``roi_r2star`` (people), ``tubes_r2star`` (phantoms) and ``within_subject_sd_r2star`` (see
        `r2star_within_subject_sd`, without the region that susceptibility is relative to), those
        that have rows.
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
        if measured.empty:
            continue
        tables[name] = measured
        n_missing = len(scans) - len(measured[keys].drop_duplicates())
        if n_missing:
            subjects = "people" if name == "roi_r2star" else "phantoms"
            notes.append(
                f"{n_missing} of {len(scans)} scans of {subjects} have no R2*, which needs three "
                "echoes"
            )
    if "roi_r2star" in tables:
        try:
            tables["within_subject_sd_r2star"] = r2star_within_subject_sd(
                tables["roi_r2star"], exclude_rois=sorted(set(people["reference"]))
            )
        except ValueError as cause:
            notes.append(f"within subject sd of R2*: not computed: {cause}")
    return tables, notes


def r2star_within_subject_sd(
    r2star: pd.DataFrame, *, exclude_rois: Sequence[str] = ()
) -> pd.DataFrame:
    """Compute the within-subject standard deviation (SDw) of R2*, within a site and across sites.

    Parameters
    ----------
    r2star : DataFrame
        Long table of R2* of regions: one row per scan and ROI with columns subject, site, scan,
        roi and mean (1/s).
    exclude_rois : sequence of str
        ROIs to leave out.

    Returns
    -------
    DataFrame
        The columns of `stats.reproducibility.within_subject_sd` without ``method``, in 1/s. Rows
        with the ROI ``all_regions`` pool the variances of all ROIs, weighted by their degrees of
        freedom. The ROIs of a scan are not independent, so that these have no confidence interval.
        The sides of a structure that is an ROI itself are not counted again.

    Raises
    ------
    ValueError
        See `stats.reproducibility.roi_values`.

    Examples
    --------
    Two scans at each of two sites, 1/s.

    >>> table = pd.DataFrame({"site": list("AABB"), "scan": [1, 2, 1, 2]})
    >>> table["mean"] = [20.0, 21.0, 22.0, 23.0]
    >>> sd = r2star_within_subject_sd(table.assign(subject="01", roi="putamen"))
    >>> sd.set_index(["roi", "definition"])["sdw"].round(3)["putamen"].to_dict()
    {'within_site': 0.707, 'all_scans': 1.291, 'site_means': 1.414}
    """
    values = r2star.assign(method="r2star")
    table = within_subject_sd(values, exclude_rois=exclude_rois, unit=UNIT)
    table = table.drop(columns="method")
    counted = table[table["roi"].isin(_counted_once(table["roi"].unique()))]
    pooled = []
    for definition, rows in counted.groupby("definition", sort=False):
        df = int(rows["df"].sum())
        squares = (rows["df"] * rows["sdw"] ** 2).sum()  # SDw without degrees of freedom is NaN
        pooled.append(
            {
                "roi": ALL_REGIONS,
                "definition": definition,
                "sdw": np.sqrt(squares / df) if df else np.nan,
                "ci_low": np.nan,
                "ci_high": np.nan,
                "df": df,
                "n_subjects": rows["n_subjects"].max(),
                "n_scans": rows["n_scans"].max(),
            }
        )
    return pd.concat([table, pd.DataFrame(pooled)], ignore_index=True)


def _counted_once(rois):
    """Return the ROIs without the sides of structures that are ROIs themselves."""
    once = []
    for roi in rois:
        structure = roi.removeprefix("left_").removeprefix("right_")
        if structure == roi or structure not in rois:
            once.append(roi)
    return once
