"""Connections of nodes whose fields have the same names."""

from collections.abc import Iterable


def by_name(fields: Iterable[str]) -> list[tuple[str, str]]:
    """Return the connections of outputs to the inputs of the same names.

    Examples
    --------
    >>> by_name(["mask_file", "provenance"])
    [('mask_file', 'mask_file'), ('provenance', 'provenance')]
    """
    return [(field, field) for field in fields]
