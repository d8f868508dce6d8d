"""The words in which tables exclude scans, sessions and participants."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .values import one_line

EXCLUDE = ("exclude", "excluded")  # headings, in any case
QUALITY = ("quality",)
REASONS = (
    *("exclude_reason", "exclusion_reason", "reason"),
    *("comment", "comments", "note", "notes"),
)
MISSING = ("", "n/a", "na", "nan")
YES = ("1", "true", "t", "yes", "y", "x", "exclude", "excluded")
NO = ("0", "false", "f", "no", "n", "include", "included", "keep", "kept")
BAD = (
    *("exclude", "excluded", "bad", "poor", "fail", "failed", "unusable", "insufficient"),
    *("reject", "rejected", "0", "false", "no"),
)
GOOD = (
    *("include", "included", "good", "fair", "moderate", "excellent", "pass", "passed", "ok"),
    *("okay", "usable", "acceptable", "sufficient", "accept", "accepted", "1", "true", "yes"),
)


@dataclass(frozen=True)
class Judgement:
    """What a row of a table says about exclusion.

    Attributes
    ----------
    excludes : bool or None
        None if the value in a column ``exclude`` is neither yes nor no.
    reason : str
        The column and its value, and the reason that the row gives, if any.
    unclear_quality : str
        A value in a column ``quality`` that says nothing about exclusion; empty if there is none.
    """

    excludes: bool | None
    reason: str = ""
    unclear_quality: str = ""


def has_judgement(names: Iterable[str], *, with_quality: bool = True) -> bool:
    """Return whether a table with these headings has a column that excludes.

    Parameters
    ----------
    names : iterable of str
        Headings.
    with_quality : bool
        Whether a column ``quality`` counts: in tables of scans, but not of people, of whom it may
        be anything.
    """
    headings = (*EXCLUDE, *QUALITY) if with_quality else EXCLUDE
    return any(name.strip().lower() in headings for name in names)


def is_rating(row: Mapping[str, str | None]) -> bool:
    """Return whether the quality in a row is a number other than 0 and 1."""
    _, value = _cell(row, QUALITY)
    if value in ("0", "1"):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return value not in MISSING


def judge_row(
    row: Mapping[str, str | None], *, has_ratings: bool = False, with_quality: bool = True
) -> Judgement:
    """Read what a row says about exclusion.

    A column ``exclude`` has precedence over ``quality``, unless its cell is empty, or is neither
    yes nor no while ``quality`` excludes: then it is taken for the reason.

    Parameters
    ----------
    row : mapping of str
        Cells by column.
    has_ratings : bool
        Whether qualities of the study are numbers on a scale, so that 0 and 1 are not no and yes.
    with_quality : bool
        Whether a column ``quality`` counts.

    Returns
    -------
    Judgement

    Examples
    --------
    >>> judge_row({"exclude": "1", "reason": "motion"}).reason
    "exclude is '1': motion"
    >>> judge_row({"quality": "good"}).excludes
    False
    >>> judge_row({"exclude": "motion", "quality": "bad"}).reason
    "quality is 'bad', exclude is 'motion'"
    """
    name, value = _cell(row, EXCLUDE)
    words: tuple[tuple[str, ...], tuple[str, ...]] = (YES, NO)
    if value in MISSING:
        name, value = _cell(row, QUALITY) if with_quality else ("", "")
        words = (BAD, GOOD)
        if value in ("0", "1") and has_ratings:
            return Judgement(False, unclear_quality=value)
    if value in MISSING or value in words[1]:
        return Judgement(False)
    reason = f"{name} is {one_line(value)!r}"
    if value in words[0]:
        _, text = _cell(row, REASONS, as_written=True)
        is_given = text.lower() not in MISSING
        return Judgement(True, f"{reason}: {one_line(text)}" if is_given else reason)
    if name.strip().lower() in EXCLUDE:
        word = re.split("[^a-z0-9]", value, maxsplit=1)[0]  # as in "yes: motion"
        if word in words[0]:
            return Judgement(True, reason)
        if word in words[1]:
            return Judgement(False, reason)
        by_quality = _judge_quality(row, has_ratings) if with_quality else None
        if by_quality is not None:
            return Judgement(True, f"{by_quality}, {reason}")
        return Judgement(None, reason)
    return Judgement(False, unclear_quality=one_line(value))


def _judge_quality(row, has_ratings):
    """Return the column ``quality`` with its value if it excludes; otherwise None."""
    name, value = _cell(row, QUALITY)
    is_rating_of_scale = value == "0" and has_ratings
    if value in BAD and not is_rating_of_scale:
        return f"{name} is {one_line(value)!r}"
    return None


def _cell(row, headings, *, as_written=False):
    """Return the heading and the text of the first cell under some headings that is not empty."""
    columns = {}
    for name in row:
        columns.setdefault(name.strip().lower(), name)
    for heading in headings:
        name = columns.get(heading)
        text = (row[name] or "").strip() if name is not None else ""
        if text.lower() not in MISSING:
            return name, text if as_written else _plain(text)
    return "", ""


def _plain(text):
    """Return a value in lower case, with 1.0 and 0.0, as programs write them, as 1 and 0."""
    text = text.lower().strip("'\"")
    return text.removesuffix(".0") if text in ("1.0", "0.0") else text
