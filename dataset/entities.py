"""Read the BIDS entities in file names."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .problems import UnusableScanError
from .values import one_line

PARTS = {"mag": "magnitude", "phase": "phase", "real": "real", "imag": "imaginary"}
COMPLEX_PAIRS = (("magnitude", "phase"), ("real", "imaginary"))
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
LONG_NAMES = dict(zip(SCAN_ENTITIES.values(), SCAN_ENTITIES, strict=True))
FILE_NAME = re.compile(r"(?:[a-zA-Z]+-[a-zA-Z0-9+]+_)+([a-zA-Z0-9]+)(\.nii(?:\.gz)?)")
SUFFIX = re.compile(r"(?:^|_)([a-zA-Z0-9+]+)\.nii(?:\.gz)?$")
# Entities of datasets whose coils are not combined; BIDS has none for them.
COIL_ENTITIES = ("coil", "channel", "ch", "rx")
FILE_ENTITIES = ("echo", "part", "suffix", "datatype", "extension")


@dataclass(frozen=True)
class StackedEcho(os.PathLike[str]):
    """An echo in a file that has all echoes of a scan along its fourth axis.

    It has the attributes of a path that checks and messages use; opened as a file, it is the whole
    stack.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    index : int
        Place of the echo along the fourth axis, from 0.
    """

    path: Path
    index: int

    @property
    def name(self) -> str:
        """The file's name, with the number of the volume for messages."""
        return f"{self.path.name} (volume {self.index + 1})"

    @property
    def suffix(self) -> str:
        """The end of the file's name, such as ``.gz``."""
        return self.path.suffix

    @property
    def parents(self) -> Sequence[Path]:
        """The folders above the file."""
        return self.path.parents

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


ImagePath = Path | StackedEcho


def scan_label(entities: Mapping[str, str]) -> str:
    """Join the entities of a scan in the order of BIDS file names.

    Parameters
    ----------
    entities : dict of str
        Entities by their long names; those that a scan does not have are ignored.

    Returns
    -------
    str
        The label.

    Examples
    --------
    >>> scan_label({"run": "1", "subject": "01", "session": "A"})
    'sub-01_ses-A_run-1'
    """
    parts = []
    for name, key in SCAN_ENTITIES.items():
        if name in entities:
            parts.append(f"{key}-{entities[name]}")
    return "_".join(parts)


def scan_title(entities: Mapping[str, str]) -> str:
    """Return the label of a scan without its subject.

    Parameters
    ----------
    entities : dict of str
        Entities by their long names.

    Returns
    -------
    str
        Label of the other entities; ``scan`` if there are none.

    Examples
    --------
    >>> scan_title({"run": "1", "subject": "01", "session": "A"})
    'ses-A_run-1'
    """
    without_subject = {**entities}
    without_subject.pop("subject", None)
    return scan_label(without_subject) or "scan"


def strip_prefix(labels: Iterable[object], prefix: str) -> list[str]:
    """Return labels as texts without a prefix, which some of them may have.

    Examples
    --------
    >>> strip_prefix(["sub-01", "02"], "sub-")
    ['01', '02']
    """
    return [str(label).removeprefix(prefix) for label in labels]


def echo_number(path: ImagePath) -> int:
    """Return the echo number in a file name.

    Parameters
    ----------
    path : pathlib.Path or StackedEcho
        The file.

    Returns
    -------
    int
        The echo number, in a stack that of the volume; 1 if the name has none, as names of
        single-echo files may.

    Examples
    --------
    >>> echo_number(Path("sub-01_echo-02_part-phase_MEGRE.nii.gz"))
    2
    """
    if isinstance(path, StackedEcho):
        return path.index + 1
    echo = re.search(r"_echo-(\d+)_", path.name)
    return int(echo[1]) if echo else 1


def parse_name(name: str, subject: str, session: str | None) -> dict[str, str]:
    """Read the entities in the name of an image.

    Parameters
    ----------
    name : str
        The file name, without folder.
    subject, session : str
        Labels of the folders that the file lies in; `session` is None if there is no such folder.

    Returns
    -------
    dict of str
        Entities by their long names, with suffix, extension and datatype.

    Raises
    ------
    UnusableScanError
        If the name is not a BIDS name or contradicts the folders.
    """
    match = FILE_NAME.fullmatch(name)
    if not match:
        raise UnusableScanError(
            "not a BIDS name: labels may contain only letters, digits and +", "rename the file"
        )
    pairs = [pair.split("-", 1) for pair in name.split("_")[:-1]]
    labels = dict(pairs)
    if len(labels) < len(pairs):
        raise UnusableScanError("not a BIDS name: it has an entity twice", "rename the file")
    if (labels.get("sub"), labels.get("ses")) != (subject, session):
        folder = one_line(f"sub-{subject}" + (f"/ses-{session}" if session else ""))
        raise UnusableScanError(
            f"its name contradicts its folder, {folder}", "rename or move the file"
        )
    for index in INDICES:
        if not labels.get(index, "0").isdigit():
            raise UnusableScanError(
                f"not a BIDS name: {index}-{labels[index]} is not a whole number",
                "rename the file",
            )
    if labels.get("part", "mag") not in PARTS:
        raise UnusableScanError(
            f"not a BIDS name: part-{labels['part']} is none of {', '.join(PARTS)}",
            "rename the file",
        )
    entities = {LONG_NAMES.get(key, key): label for key, label in labels.items()}
    return entities | {"suffix": match[1], "extension": match[2], "datatype": "anat"}
