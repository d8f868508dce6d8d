"""Text for the values that several scans have in a sidecar field."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np


def summarise(values: Sequence[Any], unit: str = "") -> str:
    """Summarise the values of several scans.

    Equal values are given once. Up to four different ones are given with their numbers of scans.
    More numbers than that, and three or more of which no two are equal, are given as mean ±
    standard deviation.

    Parameters
    ----------
    values : sequence
        A value for each scan, as of `comparable`; None or "" where it is not known.
    unit : str
        Unit that is written after each value.

    Returns
    -------
    str
        Empty if no value is known.

    Examples
    --------
    >>> summarise([5.0, 5.0, 25.0], "mm")
    '5 mm (2 of 3 scans); 25 mm (1 of 3 scans)'
    """
    values = ["" if value is None else value for value in values]
    counts = Counter(values)
    if set(counts) <= {""}:
        return ""
    if len(counts) == 1:
        return _text(values[0], unit)
    numbers = [value for value in values if isinstance(value, float)]
    are_many = len(counts) > 4 or len(counts) == len(values) > 2
    if are_many and len(numbers) == len(values):
        return mean_and_sd(numbers, unit)
    parts = []
    for value, count in counts.most_common():
        parts.append(f"{_text(value, unit)} ({count} of {len(values)} scans)")
    return "; ".join(parts)


def mean_and_sd(numbers: Sequence[float], unit: str = "") -> str:
    """Write mean ± standard deviation; the last digit of both is the second of the deviation.

    Parameters
    ----------
    numbers : sequence of float
        A number for each scan. Those that differ by rounding errors only are equal, and are
        written with nine digits: a setting, such as the centre frequency, has that many.
    unit : str
        Unit of the numbers.

    Returns
    -------
    str
        Empty without numbers.

    Examples
    --------
    >>> mean_and_sd([1.0, 2.0, 3.0], "mm")
    '2.0 ± 1.0 mm (3 scans)'
    >>> mean_and_sd([123.2516] * 9)
    '123.2516 ± 0 (9 scans)'
    """
    if not len(numbers):
        return ""
    unit = f" {unit}" if unit else ""
    if len(numbers) == 1:
        return f"{numbers[0]:.7g}{unit} (1 scan)"
    # The mean and the deviation of equal numbers have rounding errors, so that neither is used.
    if np.ptp(numbers) <= 1e-9 * np.max(np.abs(numbers)):
        return f"{numbers[0]:.9g} ± 0{unit} ({len(numbers)} scans)"
    sd = np.std(numbers, ddof=1)
    decimals = max(0, 1 - math.floor(math.log10(sd)))
    mean = np.mean(numbers)
    return f"{mean:.{decimals}f} ± {sd:.{decimals}f}{unit} ({len(numbers)} scans)"


def comparable(value: Any) -> Any:
    """Make a sidecar's value comparable: numbers as float, truth as a word, others as text.

    Parameters
    ----------
    value : object
        Value of a field; None if the sidecar does not have it.

    Returns
    -------
    float, str or None

    Examples
    --------
    >>> comparable([1, True])
    '1, yes'
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, list):
        return ", ".join(map(_text, map(comparable, value)))
    return str(value)


def field_in_words(field: str) -> str:
    """Write the name of a sidecar field in words.

    Parameters
    ----------
    field : str
        Name of the field.

    Returns
    -------
    str

    Examples
    --------
    >>> field_in_words("BackgroundEdgeRule")
    'background edge rule'
    >>> field_in_words("MRAcquisitionType")
    'MR acquisition type'
    """
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z][a-z0-9]+|[A-Z]+|[a-z0-9]+", field)
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)


def _text(value, unit=""):
    if value == "":
        return "not stated"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}" if unit else text
