"""Parse the JSON and YAML files in which users write options, filters and models."""

import json
from collections.abc import Iterable
from typing import Any

import yaml


class _StrictLoader(yaml.SafeLoader):
    """Load YAML without duplicate keys, and without aliases, by which a small file can expand to a
    huge one.
    """

    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported: repeat the value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        _unique(zip(keys, keys, strict=True))
        return super().construct_mapping(node, deep=deep)


def parse_structured(text: str, *, is_yaml: bool) -> Any:
    """Parse a text in JSON or YAML that may hold only what JSON can express.

    Parameters
    ----------
    text : str
        The text.
    is_yaml : bool
        Whether it is YAML; else JSON.

    Returns
    -------
    object
        Dicts whose keys are texts, lists, texts, numbers, true, false and None.

    Raises
    ------
    ValueError, TypeError, RecursionError, yaml.YAMLError
        If it cannot be parsed, has a key twice, or is YAML with dates, sets, binary values, aliases
        or keys that are not texts.
    """
    if not is_yaml:
        return json.loads(text, object_pairs_hook=_unique)
    content = yaml.load(text, _StrictLoader)
    _require_plain(content)
    return content


def _require_plain(content):
    """Refuse what YAML reads as a date, a set or bytes, since a text was probably meant."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not a text; put it in quotes")
            _require_plain(value)
    elif isinstance(content, list):
        for item in content:
            _require_plain(item)
    elif not isinstance(content, str | int | float | None):
        raise ValueError(f"{content} is neither a text nor a number; put it in quotes")


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict:
    """Return pairs of keys and values as a dict; refuse keys that occur twice."""
    mapping = {}
    for key, value in pairs:
        if key in mapping:
            raise ValueError(f"the key {key!r} occurs twice")
        mapping[key] = value
    return mapping
