"""Levels of the columns of tables that have few possible values, for their sidecars."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..bids_templates import load_template

# Columns that have the levels of another one.
SAME_LEVELS = {"method_1": "method", "method_2": "method"}


def add_levels(columns: Mapping[str, Any], table: pd.DataFrame) -> dict[str, Any]:
    """Add the levels of columns, by the template ``column_levels``.

    Parameters
    ----------
    columns : dict of str
        Descriptions of columns for the sidecar of a table; other entries are left as they are.
    table : DataFrame
        The table. Values that the template does not foresee, such as a reference region that the
        user named, become levels if the template has a text for them.

    Returns
    -------
    dict of str
        The same, with ``Levels`` where the template has them and the description does not.

    Examples
    --------
    >>> described = add_levels({"sex": {"Description": "Sex"}}, pd.DataFrame({"sex": ["F"]}))
    >>> described["sex"]["Levels"]["F"]
    'female'
    """
    template = load_template("column_levels")
    with_levels = dict(columns)
    for name, entry in columns.items():
        known = template.get(SAME_LEVELS.get(name, name))
        if known is None or name not in table or "Levels" in entry:
            continue
        levels = dict(known["Levels"])
        if "Other" in known:
            for value in sorted(set(map(str, table[name].dropna())) - set(levels)):
                levels[value] = known["Other"]
        with_levels[name] = {**entry, "Levels": levels}
    return with_levels
