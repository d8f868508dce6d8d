"""Computation times of the inversions of a scan, in a file beside the derivatives.

Times differ from run to run, and all other results do not. They are therefore kept out of the
sidecars and of the completion records, in files of their own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .content import exists
from .files import PathLike, read_json, write_json
from .problems import DatasetError

TIMES = Path("logs", "times")
MEASURE_AGAIN = (
    "to measure the times, delete the completion record of the scan in logs/finished/scans and run "
    "the participant level again"
)


@dataclass(frozen=True)
class InversionTime:
    """How long one inversion of one scan took.

    Attributes
    ----------
    wall : float
        Elapsed time, s.
    cpu : float
        Processor time of all threads of the process, s.
    fft_pair : float
        Elapsed time of a forward and an inverse Fourier transform of the volume on which the
        inversion works, s.
    grid : tuple of int
        Shape of that volume.
    threads : int
        Threads of the Fourier transforms.
    processor : str
        Model of the processor.
    """

    wall: float
    cpu: float
    fft_pair: float
    grid: tuple[int, ...]
    threads: int
    processor: str

    @property
    def fft_pairs(self) -> float:
        """Number of FFT pairs that take as long as the inversion."""
        return self.wall / self.fft_pair

    @property
    def record(self) -> dict[str, Any]:
        """The fields of the file."""
        return {
            "WallTime": self.wall,
            "CPUTime": self.cpu,
            "FFTPairTime": self.fft_pair,
            "FFTPairs": self.fft_pairs,
            "GridShape": list(self.grid),
            "Threads": self.threads,
            "Processor": self.processor,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "InversionTime":
        """Return the times in the fields of a file.

        Raises
        ------
        ValueError
            If a field is missing or not possible.
        """
        for name in ("WallTime", "FFTPairTime"):
            if not _is_number(record.get(name)) or record[name] <= 0:
                raise ValueError(f"{name} is not a positive number")
        if not _is_number(record.get("CPUTime")) or record["CPUTime"] < 0:
            raise ValueError("CPUTime is not a number")
        shape = record.get("GridShape")
        if not isinstance(shape, list) or not all(map(_is_count, shape)):
            raise ValueError("GridShape is not a list of numbers of voxels")
        if not _is_count(record.get("Threads")):
            raise ValueError("Threads is not a number of threads")
        return cls(
            wall=float(record["WallTime"]),
            cpu=float(record["CPUTime"]),
            fft_pair=float(record["FFTPairTime"]),
            grid=tuple(shape),
            threads=record["Threads"],
            processor=str(record.get("Processor", "")),
        )


def _is_number(value):
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value)


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def times_path(output_dir: PathLike, label: str) -> Path:
    """Return the path of the file with the times of a scan.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    label : str
        Label of the scan.

    Returns
    -------
    pathlib.Path
    """
    return Path(output_dir, TIMES, f"{label}.json")


def write_times(output_dir: PathLike, label: str, times: Mapping[str, InversionTime]) -> Path:
    """Write the times of a scan's inversions.

    Parameters
    ----------
    output_dir, label
        As of `times_path`.
    times : dict of InversionTime
        By the name of the inversion.

    Returns
    -------
    pathlib.Path
        The file.
    """
    content = {method: time.record for method, time in times.items()}
    return write_json(times_path(output_dir, label), content)


def read_times(output_dir: PathLike, label: str) -> dict[str, InversionTime]:
    """Read the times of a scan's inversions.

    Parameters
    ----------
    output_dir, label
        As of `times_path`.

    Returns
    -------
    dict of InversionTime
        By the name of the inversion; empty if there is no file.

    Raises
    ------
    DatasetError
        If the file is damaged.
    """
    path = times_path(output_dir, label)
    if not exists(path):
        return {}
    content = read_json(path)
    if not content:
        raise DatasetError("no JSON object with computation times", MEASURE_AGAIN, path)
    times = {}
    for method, record in content.items():
        try:
            times[method] = InversionTime.from_record(record if isinstance(record, dict) else {})
        except ValueError as error:
            raise DatasetError(f"{method}: {error}", MEASURE_AGAIN, path) from error
    return times
