"""Show the progress of a run."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, TextIO

from .graphs import parts_of, working_nodes

if TYPE_CHECKING:
    from nipype.pipeline.engine import Node, Workflow


@dataclass
class Progress:
    """Count finished steps and show the progress of a run.

    A terminal has one line, which is updated at every step. A log gets a line when a part ends.

    Attributes
    ----------
    part_of : dict of str to str
        The part of the run that each node belongs to, as from `parts_of`.
    remaining : dict of str to int
        Number of remaining steps of each part.
    kind : str
        Plural noun for the parts.
    stream : file-like
        Where progress is shown.
    labels : dict of str to str
        BIDS labels of parts; one without a label is shown by its name.
    started : float
        Time of the monotonic clock at the start of the run, s.
    """

    part_of: dict[str, str]
    remaining: dict[str, int]
    kind: str = "scans"
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    labels: Mapping[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.n_steps = sum(self.remaining.values())
        self.failed: set[str] = set()

    @classmethod
    def of(cls, workflow: Workflow, kind: str, labels: Mapping[str, str] | None = None) -> Self:
        """Count the nodes of a workflow that are run, by part."""
        part_of = parts_of(workflow)
        n_steps = Counter(map(part_of.__getitem__, working_nodes(workflow)))
        return cls(part_of, n_steps, kind, labels=labels or {})

    def __call__(self, node: Node, status: str) -> None:
        """Take note that a node has started, ended or failed, as Nipype's callback."""
        part = self.part_of[node.fullname]
        label = self.labels.get(part, part)
        if status == "end":
            self.remaining[part] -= 1
            if self.remaining[part] == 0:
                self._show(f"{label} done", ends_line=True)
            else:
                self._show(f"{label} {node.name}", ends_line=False)
        elif status == "exception" and part not in self.failed:
            self.failed.add(part)
            self._show(f"{label} failed", ends_line=True)

    def _show(self, event, *, ends_line):
        if self.stream.isatty():
            end = "\n" if ends_line else ""
            print(f"\r{self._summary()} {event:<48}", end=end, file=self.stream, flush=True)
        elif ends_line:
            print(f"{self._summary()} {event}", file=self.stream, flush=True)

    def _summary(self):
        n_parts = len(self.remaining)
        n_finished_parts = list(self.remaining.values()).count(0)
        n_remaining = sum(self.remaining.values())
        n_finished = self.n_steps - n_remaining
        elapsed = time.monotonic() - self.started
        items = [f"{n_finished_parts}/{n_parts} {self.kind}"]
        if self.failed:
            items.append(f"{len(self.failed)} failed")
        if self.n_steps > n_parts:
            items.append(f"{n_finished}/{self.n_steps} steps")
        items.append(f"{_clock(elapsed)} elapsed")
        if n_finished:
            items.append(f"about {_clock(elapsed / n_finished * n_remaining)} remaining")
        return f"[{', '.join(items)}]"


def _clock(seconds):
    """Write a time as on a clock, such as ``1:02:03`` or ``2:03``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
