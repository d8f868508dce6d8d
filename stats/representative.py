"""Which person represents a study: the one nearest to its medians."""

import numpy as np
import pandas as pd

from ..core.robust import robust_sd


def representative_subject(rois: pd.DataFrame) -> str | None:
    """Choose the person who is shown as an example of a study.

    It is one of the subjects with the most sites: the one whose regional means are nearest to the
    study's medians, that is, with the smallest root mean square of the deviations from these
    medians, each divided by its robust standard deviation over the subjects. Of several that are
    equally near, it is the first by label.

    Parameters
    ----------
    rois : DataFrame
        Long ROI table: columns ``subject``, ``site``, ``method``, ``roi`` and ``mean``.

    Returns
    -------
    str or None
        The subject's label; None if there is no regional mean.

    Examples
    --------
    >>> rois = pd.DataFrame({"subject": ["1", "2", "3"], "mean": [0.01, 0.05, 0.06]})
    >>> representative_subject(rois.assign(site="A", method="medi", roi="putamen"))
    '2'
    """
    rois = rois.dropna(subset=["mean"])
    if rois.empty:
        return None
    means = rois.pivot_table(index="subject", columns=["method", "roi"], values="mean")
    deviations = means - means.median()
    for column in deviations:
        spread = robust_sd(deviations[column].dropna().to_numpy())
        # Regions without spread, such as the reference, do not distinguish subjects.
        deviations[column] = deviations[column] / spread if spread > 0 else np.nan
    distances = np.sqrt((deviations**2).mean(axis=1)).fillna(np.inf)
    n_sites = rois.groupby("subject")["site"].nunique()
    candidates = distances[n_sites == n_sites.max()].sort_index()
    # Rounding errors do not decide between subjects that are equally near.
    nearest = candidates.index[np.isclose(candidates, candidates.min())]
    return str(nearest[0])
