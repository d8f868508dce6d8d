"""Values that strangers wrote into sidecars and tables, made safe to use and to print."""

import math


def is_plain(value: object) -> bool:
    """Whether a value is a text, a number or a list of them."""
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str | int | float) for item in items)


def plain(value: object) -> object:
    """The value with texts that can be written anywhere: JSON can say what UTF-8 cannot."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    return one_line(value) if isinstance(value, str) else value


def as_number(value: object) -> float | None:
    """Take a number from a sidecar.

    Parameters
    ----------
    value : object
        What the sidecar has.

    Returns
    -------
    float or None
        None for whatever is not a finite number: texts, lists, true and false, NaN.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:  # JSON's whole numbers have any length
        return None
    return number if math.isfinite(number) else None


def as_text(value: object) -> str | None:
    """A sidecar's text, safe to print; None for what is no text."""
    return one_line(value) if isinstance(value, str) else None


def one_line(text: str) -> str:
    """Make a text of the dataset safe to print: one line, and nothing in it that steers a terminal.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The same text if all of its characters are printable; the others are replaced by their
        escapes.

    Examples
    --------
    >>> one_line("North\\nSouth")
    'North\\\\nSouth'
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
