"""Read the failures of a graph from Nipype's crash files."""

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .plugins import LOST

# Exceptions of this package whose messages are written for the user.
OWN_ERRORS = (
    "DatasetError",
    "MissingContentError",
    "UnreadableImageError",
    "UnusableScanError",
    "EmptyMaskError",
    "NoOverlapError",
    "PhaseEncodingError",
)


@dataclass(frozen=True)
class Failure:
    """A step that failed.

    Attributes
    ----------
    scan : str
        Name of the scan's or subject's workflow.
    step : str
        Name of the step within it.
    kind : str
        Name of the exception's class; empty if the crash file has none.
    message : str
        Message of the exception.
    crash_file : pathlib.Path
        Nipype's file with the traceback and the inputs of the step.
    """

    scan: str
    step: str
    kind: str
    message: str
    crash_file: Path

    @property
    def is_lost(self) -> bool:
        """Whether the process or job that ran it was killed, which need not be due to the scan."""
        return self.kind == LOST

    @property
    def is_disk_full(self) -> bool:
        """Whether the disk was full."""
        return self.kind == "OSError" and self.message.startswith(f"[Errno {errno.ENOSPC}]")

    @property
    def cause(self) -> str:
        """The message, with the kind of an exception that is not this package's."""
        if not self.kind or self.kind in OWN_ERRORS:
            return self.message
        return f"{self.kind}: {self.message}"

    def __str__(self) -> str:
        return f"step {self.step}: {self.cause}\n        details: {self.crash_file}"


def read_crash(path: Path, part_of: Mapping[str, str]) -> Failure:
    """Read scan, step and error from one of Nipype's crash files.

    Parameters
    ----------
    path : pathlib.Path
        A crash file in text form.
    part_of : dict of str to str
        The part of the run that each node belongs to, as from `multiqsm.execution.graphs.parts_of`.

    Returns
    -------
    Failure
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    node = re.search(r"^Node: (\S+)", text, re.MULTILINE)
    name = node[1] if node else "?"
    part = part_of.get(name, name)
    errors = re.findall(r"^\s*([\w.]+(?:Error|Exception|Interrupt)): (.*)$", text, re.MULTILINE)
    lines = list(filter(None, map(str.strip, text.splitlines())))
    kind = ""
    message = lines[-1] if lines else "the crash file is empty"
    for error_kind, error_message in errors:
        if "NodeExecution" not in error_kind:  # Nipype raises that after the error of the step
            kind = error_kind.split(".")[-1]
            message = error_message
            break
    # Empty if the part is a single node.
    name_within_part = name.partition(f".{part}")[2].removeprefix(".")
    step = name_within_part or part
    return Failure(scan=part, step=step, kind=kind, message=message, crash_file=path)
