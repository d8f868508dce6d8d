"""Filters: which images the user wants."""

import json
from collections.abc import Iterable, Mapping

from ..bids_templates import load_template
from .entities import INDICES
from .problems import DatasetError


def list_filters(
    session_label: Iterable[str] | None, bids_filter: Mapping[str, Mapping]
) -> list[tuple[str, str, object]]:
    """List the filters in the order in which they are applied, as (name, entity, value)."""
    queries = load_template("queries")
    unknown = set(bids_filter) - set(queries)
    if unknown:
        raise DatasetError(
            f"--bids-filter-file: no query {', '.join(unknown)}",
            f"it may have: {', '.join(queries)}",
        )
    wanted = bids_filter.get("megre", {})
    if not isinstance(wanted, dict):
        raise DatasetError(
            f"--bids-filter-file: megre is {wanted!r}", 'write entities, as in {"acquisition": "x"}'
        )
    sessions = [str(label).removeprefix("ses-") for label in session_label or ()]
    filters: list[tuple[str, str, object]] = []
    if sessions:
        filters.append((f"--session-label {' '.join(sessions)}", "session", sessions))
    for entity, value in wanted.items():
        filters.append((f"--bids-filter-file, {entity} {json.dumps(value)}", entity, value))
    return filters


def matches(name: str, value: object, wanted: object) -> bool:
    """Tell whether an entity has a value of a filter: one of a list, null for none, ``"*"`` for
    any.
    """
    if isinstance(wanted, list):
        return any(matches(name, value, item) for item in wanted)
    if wanted is None or value is None:
        return wanted is value
    if wanted == "*":
        return True
    # Indices are padded as the dataset's owner likes: a filter's 2 is 02 as well.
    if name in INDICES and str(wanted).isdecimal():
        return int(str(value)) == int(str(wanted))
    return value == wanted
