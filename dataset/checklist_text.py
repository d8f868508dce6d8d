"""The reporting checklist as text that people read."""

from collections.abc import Sequence

import pandas as pd

from ..bids_templates import load_template

PHANTOM = ", phantom"  # end of the labels of what applies to phantoms


def checklist_markdown(checklist: pd.DataFrame) -> str:
    """Write a checklist as Markdown, with a table for each section.

    Parameters
    ----------
    checklist : DataFrame
        As `reporting_checklist` returns it.

    Returns
    -------
    str
        Markdown.
    """
    lines = ["# Reporting checklist", "", load_template("checklist")["source"]]
    for section, rows in merge_equal_values(checklist).groupby("section", sort=False):
        lines += ["", f"## {section}", "", "| item | applies to | value |", "|---|---|---|"]
        for row in rows.itertuples():
            cells = map(_escape, (row.item, row.applies_to, row.value))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def merge_equal_values(checklist: pd.DataFrame) -> pd.DataFrame:
    """Merge the rows of an item that have the same value, for tables that are read by people.

    Parameters
    ----------
    checklist : DataFrame
        As `reporting_checklist` returns it.

    Returns
    -------
    DataFrame
        The same columns; applies_to names all scanners or inversions, in words such as "all
        scanners, people and phantoms" if all of an item have one value.
    """
    kinds = {item["item"]: item["of"] for item in load_template("checklist")["items"]}
    merged = []
    for item, rows in checklist.groupby("item", sort=False):
        for _, same in rows.groupby("value", sort=False):
            row = same.iloc[0].copy()
            is_common = len(same) == len(rows) > 1
            names = list(same["applies_to"])
            row["applies_to"] = _all_of(kinds[item], names) if is_common else "; ".join(names)
            merged.append(row)
    return pd.DataFrame(merged, columns=checklist.columns)


def _all_of(kind: str, names: Sequence[str]) -> str:
    """Name all groups that an item applies to, and whether people, phantoms or both are meant."""
    words = load_template("checklist")["all"][kind]
    n_phantoms = sum(PHANTOM in name for name in names)
    if n_phantoms == 0:
        return words
    return f"{words}, {'phantoms' if n_phantoms == len(names) else 'people and phantoms'}"


def _escape(text):
    return str(text).replace("|", "\\|")
