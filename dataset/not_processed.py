"""Record which scans were refused or failed, and why: a table for each subject that has any."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..bids_templates import load_template
from .files import PathLike, write_json
from .problems import Problem
from .sidecars import sidecar_path
from .tables import read_tsv, write_tsv

NOT_PROCESSED = Path("logs", "not_processed")
COLUMNS = ["scan", "reason"]


def write_not_processed(
    output_dir: PathLike,
    subject: str,
    problems: Iterable[Problem],
    *,
    scans: Iterable[str] | None = None,
) -> Path:
    """Write the scans of a subject that were refused or failed.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    subject : str
        The subject's label, without ``sub-``.
    problems : iterable of Problem
        Why scans were refused or failed in this run.
    scans : iterable of str, optional
        Labels of the scans that this run selected: what an earlier run recorded of others is kept.
        By default, the run selected all.

    Returns
    -------
    pathlib.Path
        ``logs/not_processed/sub-X.tsv``; it does not exist if there is no such scan.
    """
    path = Path(output_dir, NOT_PROCESSED, f"sub-{subject}.tsv")
    rows = [(problem.scan, problem.text) for problem in problems]
    table = pd.DataFrame(rows, columns=COLUMNS)
    if scans is not None and path.exists():
        earlier = read_tsv(path)
        selected = {*scans, *table["scan"]}
        table = pd.concat([earlier[~earlier["scan"].isin(selected)], table])
    table = table.drop_duplicates().sort_values("scan", kind="stable")
    if table.empty:
        path.unlink(missing_ok=True)
        sidecar_path(path).unlink(missing_ok=True)
        return path
    write_json(sidecar_path(path), load_template("not_processed_table"))
    return write_tsv(path, table)


def read_not_processed(output_dir: PathLike, subjects: Iterable[str] | None = None) -> pd.DataFrame:
    """Read which scans of a derivative dataset were refused or failed.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    subjects : iterable of str, optional
        Labels of the subjects, with ``sub-``; all by default.

    Returns
    -------
    DataFrame
        Columns ``scan`` and ``reason``; a row for each reason.
    """
    folder = Path(output_dir, NOT_PROCESSED)
    paths = sorted(folder.glob("sub-*.tsv"))
    if subjects is not None:
        labels = set(subjects)
        paths = [path for path in paths if path.stem in labels]
    return pd.concat([pd.DataFrame(columns=COLUMNS), *map(read_tsv, paths)], ignore_index=True)
