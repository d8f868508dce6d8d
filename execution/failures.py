"""What failed in a graph, read out of Nipype's crash files."""

import errno
import re
from dataclasses import dataclass
from pathlib import Path

from .plugins import LOST


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
        The error, in its own words.
    crash_file : pathlib.Path
        Where the whole story is.
    """

    scan: str
    step: str
    kind: str
    message: str
    crash_file: Path

    @property
    def is_lost(self):
        """Whether the process or job that ran it was killed: then nothing is wrong with the scan,
        for all we know.
        """
        return self.kind == LOST

    @property
    def is_disk_full(self):
        """Whether the disk was full."""
        return self.kind == "OSError" and self.message.startswith(f"[Errno {errno.ENOSPC}]")

    @property
    def cause(self):
        """Kind and message."""
        return f"{self.kind}: {self.message}" if self.kind else self.message

    def __str__(self):
        return f"step {self.step}: {self.cause}\n        the whole story: {self.crash_file}"


def read_crash(path, part_of):
    """Read scan, step and error out of one of Nipype's crash files.

    Parameters
    ----------
    path : pathlib.Path
        A crash file in text form.
    part_of : dict of str to str
        The part of the run that each node belongs to.

    Returns
    -------
    Failure
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    node = re.search(r"^Node: (\S+)", text, re.MULTILINE)
    name = node[1] if node else "?"
    part = part_of.get(name, name)
    errors = re.findall(r"^\s*([\w.]+(?:Error|Exception|Interrupt)): (.*)$", text, re.MULTILINE)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # that one is Nipype's
    own = [(kind, message) for kind, message in errors if "NodeExecution" not in kind]
    kind, message = own[0] if own else ("", lines[-1] if lines else "the crash file is empty")
    # empty where the part is a node by itself
    own_name = name.partition(f".{part}")[2].removeprefix(".")
    step = own_name or part
    return Failure(scan=part, step=step, kind=kind.split(".")[-1], message=message, crash_file=path)
