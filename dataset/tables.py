"""Tables as tab-separated text."""

import pandas as pd

from .files import write_text
from .repeats import COLUMNS


def write_tsv(path, table):
    """Write a table as BIDS has them in one step: tabs, and ``n/a`` for what is missing.

    Parameters
    ----------
    path : pathlib.Path
        The file; its folder is made if missing.
    table : pandas.DataFrame
        Its index is not written.

    Returns
    -------
    pathlib.Path
        The file.
    """
    return write_text(path, table.to_csv(sep="\t", index=False, na_rep="n/a", lineterminator="\n"))


REQUIRED = ("subject", "session", "run", "site", "method", "roi", "unit", "reference")
TEXT_COLUMNS = (*REQUIRED, *COLUMNS, "protocol")

# Labels of a model's tables, which may look like numbers.
MODEL_LABELS = ("participant", "node", "subset", "outcome", "predictor", "adjusted_for", "column", "what", "source")


def read_tsv(path):
    """Read a table that this package wrote: labels are text, ``n/a`` is missing.

    Parameters
    ----------
    path : path-like
        The table.

    Returns
    -------
    pandas.DataFrame
    """
    labels = dict.fromkeys((*TEXT_COLUMNS, *MODEL_LABELS), str)
    return pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False, dtype=labels)
