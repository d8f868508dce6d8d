"""Answers of the reporting checklist that come from tables of the study, and not from sidecars."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from .files import PathLike, read_json
from .group_tables import GROUP, MODEL_PREFIX, group_table_path
from .not_processed import read_not_processed
from .tables import read_tsv
from .values import counted

# What a person's checklist says of statistics, whether or not they have been computed.
AT_GROUP_LEVEL = "applies at the group level: see the checklist of the study"
NOT_RUN = "the group level had not been run when this checklist was written"
LAST_RUN = "in the last run of the group level"
INCLUDED = (
    "included: gradient-echo scans with magnitude and phase (or real and imaginary part) that "
    "passed the checks of their images and sidecars"
)


def not_processed_text(output_dir: PathLike, subjects: Iterable[str] | None = None) -> str:
    """Say which scans were included, and which were refused or failed, and why.

    Parameters
    ----------
    output_dir, subjects
        As of `read_not_processed`.

    Returns
    -------
    str
    """
    table = read_not_processed(output_dir, subjects)
    texts = [f"{row.scan}: {row.reason}" for row in table.itertuples()]
    return f"{INCLUDED}; not processed: {'; '.join(texts) or 'none'}"


def excluded_text(output_dir: PathLike) -> str:
    """Count the scans that the group level excluded from statistics, by reason.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.

    Returns
    -------
    str
    """
    path = group_table_path(output_dir, "excluded")
    if not path.exists():
        return f"none {LAST_RUN}" if _has_statistics(output_dir) else NOT_RUN
    counts = read_tsv(path)["reason"].value_counts()
    parts = []
    for reason, count in counts.items():
        parts.append(f"{reason} ({counted(count, 'scan')})")
    return f"{LAST_RUN}: {'; '.join(parts)}"


def model_patients_texts(output_dir: PathLike) -> dict[str, str]:
    """Count the patients of each regression model, and those whom it excludes, by reason.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.

    Returns
    -------
    dict of str to str
        Text by model, such as ``model thalamus``; empty if no model was computed.
    """
    texts = {}
    for path in sorted(Path(output_dir, GROUP).glob(f"{MODEL_PREFIX}*/excluded.tsv")):
        n_patients = len(read_tsv(path.with_name("patients.tsv")))
        counts = read_tsv(path).groupby(["what", "reason"], sort=False)["participant"].nunique()
        parts = [f"{counted(n_patients, 'patient')} in the analysis"]
        for (subject, reason), n_listed in counts.items():
            # A rule whose column no table has is listed without a patient.
            number = f" ({counted(n_listed, 'patient')})" if n_listed else ""
            parts.append(f"{subject}, {reason}{number}")
        texts[f"model {path.parent.name.removeprefix(MODEL_PREFIX)}"] = "; ".join(parts)
    return texts


def generators_text(output_dir: PathLike) -> str:
    """Give the software that made a derivative dataset, with versions.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.

    Returns
    -------
    str
        Empty without a description of the dataset.
    """
    description = read_json(Path(output_dir) / "dataset_description.json")
    tools = description.get("GeneratedBy")
    texts = []
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and "Name" in tool:
            texts.append(f"{tool['Name']} {tool.get('Version', '')}".strip())
    return ", ".join(texts)


def calibration_text(output_dir: PathLike) -> str:
    """Give the calibration lines of each inversion and site, and whether values were corrected.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.

    Returns
    -------
    str
    """
    if not _has_statistics(output_dir):
        return NOT_RUN
    path = group_table_path(output_dir, "calibration")
    if not path.exists():
        return f"none {LAST_RUN}: there was no phantom scan with known susceptibility"
    lines = read_tsv(path)
    calibrated = _calibrated_methods(output_dir)
    texts = []
    for line in lines[lines["site"] != "all"].itertuples():
        use = "values divided by the slope" if line.method in calibrated else "values not corrected"
        texts.append(
            f"{line.method}, site {line.site}: slope {line.slope:.4f}, intercept "
            f"{line.intercept:+.4f} ppm, R² {line.r_squared:.5f}, {line.n_points} points, {use}"
        )
    return f"{LAST_RUN}: {'; '.join(texts)}"


def _has_statistics(output_dir: PathLike) -> bool:
    return group_table_path(output_dir, "warnings").exists()


def _calibrated_methods(output_dir: PathLike) -> set[str]:
    path = group_table_path(output_dir, "rois")
    table = read_tsv(path) if path.exists() else pd.DataFrame()
    if "calibration_slope" not in table:
        return set()
    return set(table.loc[table["calibration_slope"].notna(), "method"])
