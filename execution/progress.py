"""How far a run is."""

import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from .graphs import parts_of, working_nodes


@dataclass
class Progress:
    """Counts finished steps and says how far the run is, on one line of a terminal or now and then
    in a log.

    Attributes
    ----------
    part_of : dict of str to str
        The part of the run that each node belongs to, as from `parts_of`.
    left : dict of int
        Steps left of each part.
    kind : str
        What the parts are called.
    """

    part_of: dict[str, str]
    left: dict[str, int]
    kind: str = "scans"
    stream: object = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self.total = sum(self.left.values())
        self.failed = set()

    @classmethod
    def of(cls, workflow, kind):
        """Prepare for the nodes of a workflow that do work."""
        part_of = parts_of(workflow)
        return cls(part_of, Counter(part_of[name] for name in working_nodes(workflow)), kind)

    def __call__(self, node, status):
        """Take Nipype's word that a node has started, ended or failed."""
        part = self.part_of[node.fullname]
        if status == "end":
            self.left[part] -= 1
            self._tell(
                f"{part} done" if self.left[part] == 0 else f"{part} {node.name}",
                last=self.left[part] == 0,
            )
        elif status == "exception" and part not in self.failed:
            self.failed.add(part)
            self._tell(f"{part} failed", last=True)

    def _tell(self, news, *, last):
        if self.stream.isatty():
            print(
                f"\r{self._line()} {news:<48}",
                end="\n" if last else "",
                file=self.stream,
                flush=True,
            )
        elif last:
            print(f"{self._line()} {news}", file=self.stream, flush=True)

    def _line(self):
        complete = sum(n == 0 for n in self.left.values())
        done = self.total - sum(self.left.values())
        elapsed = time.monotonic() - self.started
        parts = [f"{complete}/{len(self.left)} {self.kind}"]
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        if self.total > len(self.left):
            parts.append(f"{done}/{self.total} steps")
        parts.append(f"{_clock(elapsed)} gone")
        if done:
            parts.append(f"about {_clock(elapsed / done * (self.total - done))} left")
        return f"[{', '.join(parts)}]"


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
