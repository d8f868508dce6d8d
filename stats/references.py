"""How steady reference regions are: susceptibility is known up to a constant, which they set."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .families import DEEP_GREY
from .reproducibility import imprecision, require_columns, summarise_imprecision

WHOLE_BRAIN = "brain"
REFERENCES = ("csf", "splenium", WHOLE_BRAIN)

_SCAN = ["subject", "site", "scan"]


def reference_stability(
    table: pd.DataFrame,
    *,
    references: Sequence[str] = REFERENCES,
    regions: Sequence[str] = DEEP_GREY,
) -> pd.DataFrame:
    """Compare reference regions: imprecision of each, and of other regions relative to it.

    Values are relative to the mean of the reference region R that was used, whose own mean relative
    to the whole mask is their `reference_offset`. In each scan, a region's value relative to the
    whole mask is therefore χ + offset, and relative to another region its value less that of this
    region. No map has to be measured again.

    Parameters
    ----------
    table : DataFrame
        Long ROI table, see `reproducibility.roi_values`, with the columns reference and
        reference_offset (ppm). If its values are calibrated, offsets are divided by the same
        calibration_slope.
    references : sequence of str
        Regions to compare; ``brain`` is the whole mask. The reference that was used is added if it
        is not among them. Those without values in the table are left out.
    regions : sequence of str
        Regions whose imprecision is averaged; the five of the 2015 study by default.

    Returns
    -------
    DataFrame
        One row per method and reference region:

        * method, reference, n_subjects
        * mean: its susceptibility relative to the whole mask, mean over subjects, ppm
        * within, cross: its within-site and cross-site imprecision relative to the whole mask, mean
          over subjects, ppm; NaN for the whole brain, which is zero by definition
        * n_regions: how many of `regions` the table has
        * regions_within, regions_cross: imprecision of these regions relative to the reference,
          mean over subjects and then over regions, ppm

    Raises
    ------
    ValueError
        If a column is missing, or values are relative to several regions; and see
        `reproducibility.roi_values`.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015), for the definition of imprecision.

    Examples
    --------
    Two scans at one site. The CSF, to which the values refer, varies; the putamen does not.

    >>> table = pd.DataFrame({"scan": [1, 2], "mean": [0.041, 0.039]})
    >>> table = table.assign(subject="01", site="A", method="medi", roi="putamen")
    >>> table = table.assign(reference="csf", reference_offset=[0.009, 0.011])
    >>> reference_stability(table)[["reference", "within", "regions_within"]].round(4)
      reference  within  regions_within
    0       csf  0.0014          0.0014
    1     brain     NaN          0.0000
    """
    require_columns(table, [*_SCAN, "method", "roi", "mean", "reference", "reference_offset"])
    used = table["reference"].unique()
    if len(used) != 1:
        raise ValueError(
            f"values are relative to several regions ({', '.join(map(str, used))}): select those "
            "of one reference"
        )
    candidates = list(dict.fromkeys([*references, *used]))
    rows = []
    for method, group in table.groupby("method", sort=False):
        chi = _relative_to_mask(group, used[0])
        measured = [region for region in regions if region in chi]
        for reference in candidates:
            if reference not in chi:
                continue
            row = {"method": method, "reference": reference}
            row |= _own_imprecision(chi[[reference]], reference)
            row["n_regions"] = len(measured)
            referred = chi[measured].sub(chi[reference], axis=0)
            row |= _mean_imprecision(referred)
            rows.append(row)
    return pd.DataFrame(rows)


def _relative_to_mask(group, used):
    """Return the susceptibility of each region (columns) relative to the whole mask in each scan
    (rows).
    """
    offset = group["reference_offset"]
    if "calibration_slope" in group:
        offset = offset / group["calibration_slope"].fillna(1)
    offset = offset.groupby([group[column] for column in _SCAN]).first()
    chi = group.pivot(index=_SCAN, columns="roi", values="mean").add(offset, axis=0)
    chi[used] = offset
    chi[WHOLE_BRAIN] = 0.0
    return chi


def _own_imprecision(chi, reference):
    """Return the columns of a reference's own mean and imprecision, relative to the mask."""
    if reference == WHOLE_BRAIN:
        n_subjects = chi.index.get_level_values("subject").nunique()
        return {"n_subjects": n_subjects, "mean": 0.0, "within": np.nan, "cross": np.nan}
    summary = _summary(chi).iloc[0]
    return summary[["n_subjects", "mean", "within", "cross"]].to_dict()


def _mean_imprecision(chi):
    """Return the columns of the mean imprecision over regions."""
    if chi.columns.empty:
        return {"regions_within": np.nan, "regions_cross": np.nan}
    summary = _summary(chi)
    return {
        "regions_within": summary["within"].mean(),
        "regions_cross": summary["cross"].mean(),
    }


def _summary(chi):
    """Return the imprecision of each column, averaged over subjects."""
    values = chi.melt(var_name="roi", value_name="mean", ignore_index=False).reset_index()
    return summarise_imprecision(imprecision(values.assign(method="")))
