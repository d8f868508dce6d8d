"""What is wrong with a dataset or a scan, as values: audit, dry run, terminal and reports tell of
the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from .files import PathLike


class DatasetError(Exception):
    """The dataset, or what was asked of it, leaves nothing that can be processed.

    Attributes
    ----------
    cause, remedy : str
        What is wrong, and what to do; the remedy may be empty.
    file : str
        Path of the file that is meant; empty if there is none, or if the cause names it.
    """

    def __init__(self, cause: str, remedy: str = "", file: PathLike = "") -> None:
        super().__init__(cause, remedy, file)
        self.cause = cause
        self.remedy = remedy
        self.file = str(file)

    def __str__(self) -> str:
        return _told(self.file, self.cause, self.remedy)


class LabelledScan(Protocol):
    """What a problem needs of a scan, as `multiqsm.dataset.scans.Scan` has it."""

    @property
    def label(self) -> str:
        """Label of the scan."""
        ...

    @property
    def entities(self) -> Mapping[str, str]:
        """Entities of the scan by their long names."""
        ...


@dataclass(frozen=True)
class Problem:
    """Something about a scan or a file that stops it (an error) or that its owner should know.

    Attributes
    ----------
    scan : str
        Label of the scan, or name of what is no scan: a subject, a folder, a file.
    file : str
        Name of the scan's file; empty where the whole is meant.
    cause, remedy : str
        What is wrong, and what to do; the remedy may be empty.
    severity : {'error', 'warning', 'note'}
        An error makes the scan unusable, or leaves out what should have been there. A note says
        what was not taken, as it should be.
    subject : str
        Label of the subject in whose report it stands; empty if there is none.
    """

    scan: str
    file: str
    cause: str
    remedy: str
    severity: str = "error"
    subject: str = ""

    @classmethod
    def of(
        cls, scan: LabelledScan, file: str, cause: str, remedy: str, severity: str = "error"
    ) -> Self:
        """Take label and subject of a `multiqsm.dataset.scans.Scan`."""
        return cls(scan.label, file, cause, remedy, severity, scan.entities["subject"])

    @classmethod
    def from_error(cls, what: str, error: DatasetError, subject: str = "") -> Self:
        """Take a `DatasetError` that leaves something out: a scan, or what goes with one."""
        return cls(what, error.file, error.cause, error.remedy, "error", subject)

    @property
    def text(self) -> str:
        """What is wrong with which file and what to do, without the scan's name."""
        return _told(self.file, self.cause, self.remedy)

    def __str__(self) -> str:
        return f"{self.scan}: {self.text}"


def _told(file, cause, remedy):
    told = f"{cause}; {remedy}" if remedy else cause
    return f"{file}: {told}" if file else told


class UnusableScanError(DatasetError):
    """These files make no scan; others may."""
