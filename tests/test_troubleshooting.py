"""docs/troubleshooting.md explains every message that a user can meet, and no other."""

import re
from pathlib import Path

import pytest
from helpers.messages import messages

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
# Lines at the terminal that report progress, or introduce the messages that follow them.
PROGRESS = (
    "simulating two people",
    "making susceptibility maps",
    "comparing the scans",
    "left out: …",
)


@pytest.fixture(scope="module")
def source():
    return [(place, text) for place, text in messages() if not text.startswith(PROGRESS)]


@pytest.fixture(scope="module")
def quotes():
    """The messages that the page quotes: in tables in the first column, else anywhere in a line."""
    text = PAGE.read_text(encoding="utf-8")
    quoted = []
    for line in text.partition("\n## Command line")[2].splitlines():
        cell = line.split(" | ")[0] if line.startswith("| ") else line
        quoted += re.findall("`([^`]+)`", cell) if line.startswith(("| ", "`")) else []
    return quoted


def test_source_has_the_messages_that_are_known_to_be_there(source):
    texts = [text for _, text in source]
    assert len(texts) > 250
    for known in (
        "…: no dataset_description.json",  # raised
        "its phase is noise, while that of other echoes is not",  # assigned to a cause
        "no voxel is finite",  # returned with its remedy
        "the file is truncated or damaged (…)",  # the second argument of an error
        "Phase cannot have these units:",  # of the numerical core
    ):
        assert known in texts


def test_every_message_has_an_entry(source, quotes):
    missing = []
    for place, text in source:
        if not any(quote in text for quote in quotes):
            missing.append(f"{place}: {text}")
    assert missing == [], f"add an entry to {PAGE.name}"


def test_every_entry_is_a_message(source, quotes):
    texts = [text for _, text in source]
    stale = []
    for quote in quotes:
        if not any(quote in text for text in texts):
            stale.append(quote)
    assert stale == [], f"correct or remove the entry in {PAGE.name}"
