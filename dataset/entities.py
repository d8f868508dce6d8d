"""Entities of BIDS: what file names say."""

import re
from collections.abc import Mapping
from pathlib import Path

from .problems import UnusableScanError
from .values import one_line

PARTS = {"mag": "magnitude", "phase": "phase", "real": "real", "imag": "imaginary"}
SCAN_ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "task": "task",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "run": "run",
    "chunk": "chunk",
}
INDICES = ("run", "echo", "chunk")
LONG_NAMES = {short: name for name, short in SCAN_ENTITIES.items()}
FILE_NAME = re.compile(r"(?:[a-zA-Z]+-[a-zA-Z0-9+]+_)+([a-zA-Z0-9]+)(\.nii(?:\.gz)?)")
SUFFIX = re.compile(r"(?:^|_)([a-zA-Z0-9+]+)\.nii(?:\.gz)?$")
FILE_ENTITIES = ("echo", "part", "suffix", "datatype", "extension")


def scan_label(entities: Mapping[str, str]) -> str:
    """Join entities as BIDS file names do.

    Parameters
    ----------
    entities : dict of str
        Entities by their long names.

    Returns
    -------
    str
        The label.

    Examples
    --------
    >>> scan_label({"run": "1", "subject": "01", "session": "A"})
    'sub-01_ses-A_run-1'
    """
    return "_".join(
        f"{key}-{entities[name]}" for name, key in SCAN_ENTITIES.items() if name in entities
    )


def scan_title(entities: Mapping[str, str]) -> str:
    """Name a scan among those of its subject.

    Parameters
    ----------
    entities : dict of str
        Entities by their long names.

    Returns
    -------
    str
        Its label without the subject's; ``scan`` if nothing else tells it apart.

    Examples
    --------
    >>> scan_title({"run": "1", "subject": "01", "session": "A"})
    'ses-A_run-1'
    """
    return (
        scan_label({name: label for name, label in entities.items() if name != "subject"}) or "scan"
    )


def echo_number(path: Path) -> int:
    """Read the echo entity of a file name.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    int
        The echo's number; 1 where the name has none, as single-echo files may.
    """
    found = re.search(r"_echo-(\d+)_", path.name)
    return int(found[1]) if found else 1


def parse_name(name: str, subject: str, session: str | None) -> dict[str, str]:
    """Entities of a file name by their long names; the name must say what its folders say."""
    parsed = FILE_NAME.fullmatch(name)
    if not parsed:
        raise UnusableScanError(
            "no BIDS name: labels have letters, digits and + only", "rename the file"
        )
    pairs = [pair.split("-", 1) for pair in name.split("_")[:-1]]
    labels = dict(pairs)
    if len(labels) < len(pairs):
        raise UnusableScanError("no BIDS name: an entity is in it twice", "rename the file")
    if (labels.get("sub"), labels.get("ses")) != (subject, session):
        folder = one_line(f"sub-{subject}" + (f"/ses-{session}" if session else ""))
        raise UnusableScanError(
            f"its name does not say what its folder {folder} says", "rename or move the file"
        )
    for index in INDICES:
        if not labels.get(index, "0").isdigit():
            raise UnusableScanError(
                f"no BIDS name: {index}-{labels[index]} is no whole number", "rename the file"
            )
    if labels.get("part", "mag") not in PARTS:
        raise UnusableScanError(
            f"no BIDS name: part-{labels['part']} is none of {', '.join(PARTS)}", "rename the file"
        )
    entities = {LONG_NAMES.get(key, key): label for key, label in labels.items()}
    return entities | {"suffix": parsed[1], "extension": parsed[2], "datatype": "anat"}
