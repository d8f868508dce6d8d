"""Problems of a dataset or a scan as values, which audit, dry run, terminal and reports share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from .files import PathLike
from .values import one_line


class DatasetError(Exception):
    """The dataset, or a file or option that applies to it, cannot be used.

    Attributes
    ----------
    cause, remedy : str
        What is wrong, and what to do; the remedy may be empty.
    file : str
        Path of the file; empty if the error is not about one file, or if the cause names it.
    """

    def __init__(self, cause: str, remedy: str = "", file: PathLike = "") -> None:
        super().__init__(cause, remedy, file)
        self.cause = cause
        self.remedy = remedy
        self.file = str(file)

    def __str__(self) -> str:
        return _message(self.file, self.cause, self.remedy)


class LabelledScan(Protocol):
    """The attributes of a scan that a problem needs; see `multiqsm.dataset.scans.Scan`."""

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
    """An error, warning or note about a scan or a file.

    Attributes
    ----------
    scan : str
        Label of the scan, or name of a subject, folder or file if it is not about a scan.
    file : str
        Name of the scan's file; empty if it is about the whole scan.
    cause, remedy : str
        What is wrong, and what to do; the remedy may be empty.
    severity : {'error', 'warning', 'note', 'unused', 'excluded'}
        An error makes the scan, or data that belong to it, unusable. A note reports what was not
        used as intended, so that nothing needs to be done. A scan that is passed over is unused if
        it is not needed or not selected, and excluded if the study says so.
    subject : str
        Label of the subject whose report shows the problem; empty if there is none.
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
        """Create a problem with the label and subject of a scan."""
        return cls(scan.label, file, cause, remedy, severity, scan.entities["subject"])

    @classmethod
    def from_error(cls, scan: str, error: DatasetError, subject: str = "") -> Self:
        """Create a problem from the error that makes a scan, or data of it, unusable."""
        return cls(scan, error.file, error.cause, error.remedy, "error", subject)

    @property
    def text(self) -> str:
        """File, cause and remedy in one line, without the scan's label."""
        return _message(self.file, self.cause, self.remedy)

    def __str__(self) -> str:
        return f"{self.scan}: {self.text}"


def _message(file, cause, remedy):
    message = f"{cause}; {remedy}" if remedy else cause
    # Names of files and texts in them may have characters that control a terminal.
    return "\n".join(map(one_line, (f"{file}: {message}" if file else message).split("\n")))


class UnusableScanError(DatasetError):
    """A scan cannot be processed; other scans of the dataset are not affected."""
