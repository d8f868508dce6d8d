"""Option files in YAML hold what JSON can express, so that nothing else reaches a message or a
comparison.
"""

import json

import pytest
import yaml

from multiqsm.dataset.structured import parse_structured


def test_yaml_and_json_are_read_alike():
    content = {"megre": {"run": [1, 2], "session": "A", "acquisition": None}}
    assert parse_structured(json.dumps(content), is_yaml=False) == content
    assert parse_structured(yaml.safe_dump(content), is_yaml=True) == content


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("megre: {session: 2020-01-01}", "2020-01-01 is neither a text nor a number"),
        ("megre: {1: 2}", "the key 1 is not a text"),
        ("megre: {run: !!set {1, 2}}", "neither a text nor a number"),
        ("megre: {run: !!binary aGFsbG8=}", "neither a text nor a number"),
        ("megre: &a {run: [*a]}", "aliases"),
        ("megre: {}\nmegre: {}", "'megre' occurs twice"),
    ],
)
def test_what_json_cannot_express_is_refused(text, cause):
    with pytest.raises((ValueError, yaml.YAMLError), match=cause):
        parse_structured(text, is_yaml=True)
