"""Make values from sidecars and tables of a dataset safe to use and to print."""

import math
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

# Letters of what programs write in place of a name that is not known, or must not be.
PLACEHOLDERS = (
    *("anon", "anonymous", "anonymized", "anonymised", "deidentified", "removed", "redacted"),
    *("unknown", "none", "na", "nan", "null", "notprovided"),
)


def is_plain(value: object) -> bool:
    """Return whether a value is a text, a number or a list of them."""
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str | int | float) for item in items)


def plain(value: object) -> object:
    """Return a value with its texts safe to print; JSON can have characters that UTF-8 cannot."""
    if isinstance(value, list):
        return list(map(plain, value))
    return one_line(value) if isinstance(value, str) else value


def as_number(value: object) -> float | None:
    """Return a sidecar's value as a number.

    Parameters
    ----------
    value : object
        Value of a field.

    Returns
    -------
    float or None
        None if it is not a finite number: texts, lists, true and false, NaN.

    Examples
    --------
    >>> as_number(3), as_number("3"), as_number(True)
    (3.0, None, None)
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # integers in JSON may exceed the range of floats
        return None
    return number if math.isfinite(number) else None


def is_placeholder(value: object) -> bool:
    """Return whether a field of a sidecar is missing, or was replaced to protect privacy.

    Examples
    --------
    >>> is_placeholder("n/a"), is_placeholder(" "), is_placeholder("Siemens"), is_placeholder(7)
    (True, True, False, False)
    """
    if not isinstance(value, str):
        return not value
    return not value.strip() or re.sub("[^a-z]", "", value.lower()) in PLACEHOLDERS


def as_text(value: object) -> str | None:
    """Return a sidecar's text, safe to print; None if the value is not a text."""
    return one_line(value) if isinstance(value, str) else None


def join_numbers(numbers: Iterable[float], spec: str, separator: str = ", ") -> str:
    """Format numbers and join them to a text.

    Parameters
    ----------
    numbers : iterable of float
        Any numbers.
    spec : str
        Format of each number, such as ``.4g``.
    separator : str
        Text between the numbers.

    Returns
    -------
    str

    Examples
    --------
    >>> join_numbers((0.5, 0.5, 2.0), ".4g", "×")
    '0.5×0.5×2'
    """
    return separator.join(format(number, spec) for number in numbers)


def join_words(words: Sequence[str]) -> str:
    """Join words to a list in a sentence.

    Parameters
    ----------
    words : sequence of str
        At least one word or phrase.

    Returns
    -------
    str

    Examples
    --------
    >>> join_words(["maps", "tables", "reports"])
    'maps, tables and reports'
    """
    *first_words, last_word = words
    return f"{', '.join(first_words)} and {last_word}" if first_words else last_word


def counted(number: int, noun: str) -> str:
    """Write a number with its noun, in the plural unless it is one.

    Examples
    --------
    >>> counted(1, "scan"), counted(0, "scan")
    ('1 scan', '0 scans')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def did_you_mean(text: str, candidates: Iterable[str]) -> str:
    """Return a suggestion to add to an error, empty if no candidate is similar.

    Examples
    --------
    >>> did_you_mean("--paricipant-label", ["--participant-label", "--preset"])
    ': did you mean --participant-label?'
    >>> did_you_mean("slurm", ["SLURM", "SGE"])
    ': did you mean SLURM?'
    >>> did_you_mean("--xyz", ["--participant-label"])
    ''
    """
    as_written = {candidate.lower(): candidate for candidate in candidates}
    similar = get_close_matches(text.lower(), as_written, n=1, cutoff=0.65)
    return f": did you mean {as_written[similar[0]]}?" if similar else ""


def one_line(text: str) -> str:
    """Make a text safe to print: a single line without control characters.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The text, with characters that are not printable replaced by escape sequences.

    Examples
    --------
    >>> one_line("North\\nSouth")
    'North\\\\nSouth'
    """
    if text.isprintable():
        return text
    return "".join(map(_printable, text))


def error_text(error: Exception) -> str:
    """Return the message of a library's error in one line, safe to print.

    Examples
    --------
    >>> error_text(ValueError("too short\\n - is the file damaged?"))
    'too short - is the file damaged?'
    """
    return one_line(" ".join(str(error).split()))


def _printable(character):
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
