"""Filters that select images by their entities."""

import json
from collections.abc import Iterable, Mapping

from ..bids_templates import load_template
from .entities import INDICES, strip_prefix
from .problems import DatasetError
from .values import one_line


def list_filters(
    session_label: Iterable[str] | None, bids_filter: Mapping[str, Mapping]
) -> list[tuple[str, str, object]]:
    """List the filters in the order in which they are applied.

    Parameters
    ----------
    session_label : iterable of str or None
        Sessions of ``--session-label``, with or without ``ses-``.
    bids_filter : dict of dict
        Content of the file behind ``--bids-filter-file``.

    Returns
    -------
    list of (str, str, object)
        Name of the filter for messages, the entity, and its required value.

    Raises
    ------
    DatasetError
        If the filter file has an unknown query, or one that is not an object.
    """
    queries = load_template("queries")
    unknown = sorted(set(bids_filter) - set(queries))
    if unknown:
        raise DatasetError(
            f"--bids-filter-file: there is no query {', '.join(map(one_line, unknown))}",
            f"use: {', '.join(queries)}",
        )
    megre = bids_filter.get("megre", {})
    if not isinstance(megre, dict):
        raise DatasetError(
            f"--bids-filter-file: megre is {megre!r}",
            'write an object of entities, such as {"acquisition": "x"}',
        )
    sessions = strip_prefix(session_label or (), "ses-")
    filters: list[tuple[str, str, object]] = []
    if sessions:
        filters.append((f"--session-label {' '.join(sessions)}", "session", sessions))
    for entity, value in megre.items():
        filters.append(
            (f"--bids-filter-file, {one_line(entity)} {json.dumps(value)}", entity, value)
        )
    return filters


def matches(name: str, value: object, required: object) -> bool:
    """Return whether an entity's value passes a filter.

    Parameters
    ----------
    name : str
        The entity, by its long name.
    value : object
        The entity's value; None if it is absent.
    required : object
        Value of the filter: a list of alternatives, None for absent, ``"*"`` for any, or the value
        itself.

    Returns
    -------
    bool

    Examples
    --------
    >>> matches("run", "02", [1, 2]), matches("acquisition", None, "*")
    (True, False)
    """
    if isinstance(required, list):
        return any(matches(name, value, item) for item in required)
    if required is None or value is None:
        return required is value
    if required == "*":
        return True
    # Datasets may pad indices with zeros: a filter for run 2 also selects run-02.
    if name in INDICES and str(required).isdecimal():
        return int(str(value)) == int(str(required))
    return value == required
