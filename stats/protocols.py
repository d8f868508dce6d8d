"""The choice of one protocol for each site: only scans of one protocol are repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd


def choose_protocols(
    sites: Sequence[str] | pd.Series,
    protocols: Sequence[str] | pd.Series,
    preferred: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Choose one protocol for each site: that of most of its scans.

    If several protocols have equally many scans at a site, the one with more scans in the study is
    chosen, and then the first.

    Parameters
    ----------
    sites, protocols : sequence of str
        Site and protocol of each scan.
    preferred : dict of str to str, optional
        For each site, the protocol to choose if any scan there has it. A phantom's scans should
        have the protocol of people's scans.

    Returns
    -------
    dict of str to str
        The protocol of each site.

    Examples
    --------
    >>> choose_protocols(["A", "A", "B"], ["fine", "coarse", "coarse"])
    {'A': 'coarse', 'B': 'coarse'}
    """
    ranks: dict[str, dict[str, tuple[bool, int, int]]] = {}
    of_study = Counter(protocols)
    for (site, protocol), n in Counter(zip(sites, protocols, strict=True)).items():
        is_preferred = (preferred or {}).get(site) == protocol
        ranks.setdefault(site, {})[protocol] = (is_preferred, n, of_study[protocol])
    return {site: max(ranking, key=ranking.__getitem__) for site, ranking in ranks.items()}


def scans_of(table: pd.DataFrame) -> pd.DataFrame:
    """List the scans of a table of regional values, one row each.

    Parameters
    ----------
    table : DataFrame
        Long ROI table with columns subject, session, run, site and optionally protocol.

    Returns
    -------
    DataFrame
        Those columns, one row for each scan.

    Examples
    --------
    >>> table = pd.DataFrame({"subject": ["01", "01"], "session": "A", "run": "1", "site": "A"})
    >>> len(scans_of(table.assign(roi=["putamen", "thalamus"])))
    1
    """
    columns = [name for name in ("subject", "session", "run", "site", "protocol") if name in table]
    return table[columns].drop_duplicates()
