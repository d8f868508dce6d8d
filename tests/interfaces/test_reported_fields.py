"""The reporting checklist has every parameter that sidecars record."""

import ast
from pathlib import Path

import pytest
from helpers.sidecars import BOOKKEEPING, unreported_fields

import multiqsm
from multiqsm.bids_templates import load_template
from multiqsm.dataset.scans import COPIED_METADATA
from multiqsm.interfaces.methods import edge_fields

ROOT = Path(multiqsm.__file__).parent
# What writes the fields of a scan's sidecars.
WRITERS = (
    *sorted((ROOT / "interfaces").glob("*.py")),
    *sorted((ROOT / "workflows").glob("*.py")),
    ROOT / "dataset" / "protocol.py",
)


def written_fields(path):
    """Return names in capitals that a module uses as keys of dicts or as keywords of calls."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            names |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
        elif isinstance(node, ast.Call):
            names |= {keyword.arg for keyword in node.keywords}
        elif is_assigned_item(node):
            names.add(node.slice.value)
    names = set(filter(None, names))
    return {name for name in names if str(name).isalnum() and str(name)[0].isupper()}


def is_assigned_item(node):
    """Return whether a node is an item with a constant key that a value is assigned to."""
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.slice, ast.Constant)
    )


@pytest.mark.parametrize("path", WRITERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_checklist_has_every_field_that_the_code_writes(path):
    assert unreported_fields(written_fields(path)) == set()


def test_checklist_has_every_field_that_is_copied_from_the_raw_sidecars():
    assert unreported_fields(COPIED_METADATA) == set()
    for prefix in ("", "Background"):
        for edge_fraction in (None, 0.3):
            assert unreported_fields(edge_fields(edge_fraction, prefix)) == set()


def test_a_field_is_either_reported_or_bookkeeping():
    reported = set()
    for item in load_template("checklist")["items"]:
        reported.update(item["fields"])
    assert reported.isdisjoint(BOOKKEEPING)
