"""Reproducibility of the deep grey nuclei together, as studies of travelling heads report it."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from .families import DEEP_GREY

# The thalamus is left out: it is larger and less iron-rich than the others, and white matter is
# part of it.
NUCLEI = (*DEEP_GREY, "subthalamic_nucleus", "dentate_nucleus")
SUSCEPTIBILITY = "susceptibility"
R2STAR = "R2*"
# Definitions of SDw, and the raters of the corresponding ICC.
RATERS = {"within_site": "scans", "all_scans": "all"}


def nuclei_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Pool the within-subject SD (SDw) of the deep grey nuclei, and average their ICC(2,1).

    Variances are pooled over nuclei, weighted by their degrees of freedom. The nuclei of a scan are
    not independent, so that the result has no confidence interval.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of a study: ``within_subject_sd`` and ``icc`` of susceptibility, and
        ``within_subject_sd_r2star`` and ``icc_r2star``, as far as they were computed.

    Returns
    -------
    DataFrame
        One row per quantity, method and definition, without those that have no nucleus:

        * quantity: susceptibility or R2*; method: its inversion, missing for R2*
        * definition: within_site (scans at one site) or all_scans (scans at any sites)
        * sdw: SDw, ppb or 1/s; unit; df: its degrees of freedom
        * icc: ICC(2,1) of single scans, mean over nuclei, and over sites within a site; NaN if it
          was not computed
        * n_nuclei, nuclei: their number and names

    Examples
    --------
    >>> sdw = pd.DataFrame({"roi": ["putamen", "red_nucleus", "thalamus"], "sdw": [1.0, 3.0, 9.0]})
    >>> sdw = sdw.assign(method="medi", definition="within_site", df=4)
    >>> float(nuclei_table({"within_subject_sd": sdw})["sdw"].item())  # √((1 + 9) / 2)
    2.23606797749979
    """
    quantities = ((SUSCEPTIBILITY, "ppb", ""), (R2STAR, "1/s", "_r2star"))
    rows = []
    for quantity, unit, suffix in quantities:
        sdw = tables.get(f"within_subject_sd{suffix}")
        if sdw is None:
            continue
        icc = tables.get(f"icc{suffix}")
        if suffix:
            sdw = sdw.assign(method="")
            icc = None if icc is None else icc.assign(method="")
        for (method, definition), part in sdw.groupby(["method", "definition"], sort=False):
            nuclei = deep_grey_nuclei(part["roi"])
            if definition not in RATERS or not nuclei:
                continue
            names = {"quantity": quantity, "method": method or None, "definition": definition}
            pooled = {**_pooled(part[part["roi"].isin(nuclei)]), "unit": unit}
            correlation = _mean_icc(icc, method, RATERS[definition], nuclei)
            regions = {"n_nuclei": len(nuclei), "nuclei": ", ".join(nuclei).replace("_", " ")}
            rows.append({**names, **pooled, "icc": correlation, **regions})
    columns = ["quantity", "method", "definition", "sdw", "unit", "df", "icc", "n_nuclei", "nuclei"]
    return pd.DataFrame(rows, columns=columns)


def deep_grey_nuclei(rois: Iterable[str]) -> list[str]:
    """Return the deep grey nuclei among regions, each once.

    The sides of a nucleus count if there is no region of both.

    Examples
    --------
    >>> deep_grey_nuclei(["putamen", "left_putamen", "left_red_nucleus", "thalamus", "csf"])
    ['putamen', 'left_red_nucleus']
    """
    names = list(dict.fromkeys(rois))
    nuclei = []
    for roi in names:
        structure = roi.removeprefix("left_").removeprefix("right_")
        if structure in NUCLEI and (structure == roi or structure not in names):
            nuclei.append(roi)
    return nuclei


def _pooled(part):
    measured = part.dropna(subset=["sdw"])
    df = int(measured["df"].sum())
    squares = (measured["df"] * measured["sdw"] ** 2).sum()
    return {"sdw": np.sqrt(squares / df) if df else np.nan, "df": df}


def _mean_icc(icc, method, raters, nuclei):
    if icc is None:
        return np.nan
    is_chosen = (icc["method"] == method) & (icc["raters"] == raters) & (icc["form"] == "ICC(2,1)")
    return icc.loc[is_chosen & icc["roi"].isin(nuclei), "icc"].mean()
