"""Blocks that several reports have in common."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from .blocks import (
    Badge,
    Block,
    Column,
    Details,
    Heading,
    KeyValues,
    Paragraph,
    Picture,
    Table,
    Warnings,
)

CHECKLIST_NOTE = (
    "What the ISMRM consensus on QSM of the brain (doi:10.1002/mrm.30006) asks authors to report. "
    "The values come from the sidecars and headers of the maps, and from the tables of the study; "
    "where they hold nothing, the value is blank."
)
CHECKLIST_COLUMNS = (Column("item"), Column("applies_to", "applies to"), Column("value"))


def counted_badge(number: int, noun: str) -> Badge:
    """Return a badge with a number of things, in the singular if there is one.

    Examples
    --------
    >>> counted_badge(1, "site").label, counted_badge(3, "site").label
    ('site', 'sites')
    """
    return Badge(str(number), noun if number == 1 else f"{noun}s")


def methods_blocks(citation: str, versions: Mapping[str, str]) -> tuple[Block, ...]:
    """Return blocks with the methods text and the versions of the software.

    Parameters
    ----------
    citation : str
        Markdown with one heading, paragraph or reference per line, such as ``logs/CITATION.md``.
    versions : dict of str to str

    Returns
    -------
    tuple of Block
    """
    blocks: list[Block] = []
    for line in map(str.strip, citation.splitlines()):
        if line.startswith("#"):
            if line != "# Methods":  # the section of the report has this title already
                blocks.append(Heading(line.lstrip("#").strip()))
        elif line:
            blocks.append(Paragraph(line))
    if versions:
        blocks.append(KeyValues(versions, "Software"))
    return tuple(blocks)


def preset_blocks(
    differences: pd.DataFrame | None, method_differences: Sequence[str]
) -> list[Block]:
    """Return blocks that list the choices that differ from a preset, and how its methods differ
    from the study's.

    Parameters
    ----------
    differences : DataFrame or None
        Columns ``option``, ``preset`` and ``used``.
    method_differences : sequence of str
        A sentence each.

    Returns
    -------
    list of Block
        Empty if there are no differences.
    """
    blocks: list[Block] = []
    if differences is not None and len(differences):
        columns = (
            Column("option"),
            Column("preset", "value of the preset"),
            Column("used", "value used"),
        )
        blocks.append(Table(differences, "Choices that differ from the preset", columns))
    if method_differences:
        paragraphs = tuple(map(Paragraph, method_differences))
        blocks.append(Details("How these methods differ from those of the study", paragraphs))
    return blocks


def checklist_blocks(checklist: pd.DataFrame | None, link: str | None) -> tuple[Block, ...]:
    """Return blocks with the reporting checklist, a table for each of its sections.

    Parameters
    ----------
    checklist : DataFrame or None
        Columns ``section``, ``item``, ``applies_to`` and ``value``.
    link : str or None
        Relative path from the report to the checklist as a file.

    Returns
    -------
    tuple of Block
        None if there is no checklist.
    """
    if checklist is None or checklist.empty:
        return ()
    blocks: list[Block] = [Paragraph(CHECKLIST_NOTE, note=True)]
    for section, rows in checklist.groupby("section", sort=False):
        blocks.append(Table(rows, str(section), CHECKLIST_COLUMNS, link))
    return tuple(blocks)


def message_blocks(failures: Sequence[tuple[str, str]], warnings: Sequence[str]) -> list[Warnings]:
    """Return blocks with the scans that failed and the warnings; none if there are neither.

    Parameters
    ----------
    failures : sequence of (str, str)
        Each scan that failed, and the cause.
    warnings : sequence of str

    Returns
    -------
    list of Warnings
    """
    blocks = []
    if failures:
        messages = list(itertools.starmap("{}: {}".format, failures))
        blocks.append(Warnings(messages, "Scans that failed", "error"))
    if warnings:
        blocks.append(Warnings(warnings))
    return blocks


def picture_blocks(
    caption: str,
    draw: Callable[..., Figure],
    *tables: pd.DataFrame | None,
    format: Literal["svg", "webp"] = "svg",
    **options: Any,
) -> tuple[Picture | Paragraph]:
    """Draw a figure, or state why there is none.

    Parameters
    ----------
    caption : str
        Caption of the picture.
    draw : callable
        Function that returns the figure of `tables` and raises ValueError if they have too little
        data, for which the report must not fail.
    *tables : DataFrame
    format : {'svg', 'webp'}
        Format that the figure is saved in.
    **options
        Keyword arguments of `draw`.

    Returns
    -------
    tuple of one Block
    """
    try:
        return (Picture(draw(*tables, **options), caption, format=format),)
    except ValueError as error:
        return (Paragraph(f"No figure ({caption.rstrip('.')}): {error}.", note=True),)


def first_version(versions: Mapping[str, str]) -> str:
    """Return the name and version of the first software, for the foot of a report.

    Examples
    --------
    >>> first_version({"multiqsm": "0.1.0", "numpy": "2.4"})
    'multiqsm 0.1.0'
    """
    if not versions:
        return ""
    name = next(iter(versions))
    return f"{name} {versions[name]}"
