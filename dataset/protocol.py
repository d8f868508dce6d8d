"""What the head scans of a study have in common, and a scan reduced to it.

Sites of a study that nobody planned together differ in voxel size and echo times, and
susceptibility depends on both. What every scan can be brought to is the coarsest voxel along each
axis, and the echoes within the range that all of them cover. Nothing is made finer, and no echo is
invented.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from ..core.harmonization import cropped_affine, cropped_matrix
from ..core.phase.fieldfit import ECHOES_FOR_R2STAR
from .forms import scanner_form
from .preflight.echoes import LONGEST_ECHO_TIME
from .problems import DatasetError, Problem
from .scans import Scan

AXES = ("right-left", "anterior-posterior", "inferior-superior")
ROUNDING = 1e-3  # of a voxel size: what headers and oblique affines make of one and the same
ECHO_TIME_TOLERANCE = 0.5e-3  # s: echoes that lie no further outside of the range belong to it


@dataclass(frozen=True)
class ScanProtocol:
    """What counts of a scan when scans are compared.

    Attributes
    ----------
    scan : str
        Label of the scan.
    matrix : tuple of int
        Voxels along the image's axes.
    voxel_size : tuple of float
        mm, along the image's axes.
    axes : tuple of int
        For each of the image's axes, which of `AXES` it runs along most.
    echo_times : tuple of float
        s, rising.
    """

    scan: str
    matrix: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    axes: tuple[int, int, int]
    echo_times: tuple[float, ...]


@dataclass(frozen=True)
class CommonProtocol:
    """What the head scans of a study have in common.

    Attributes
    ----------
    voxel_size : tuple of float
        Largest voxel size of all scans along each of `AXES`, mm.
    echo_range : tuple of float
        Latest first echo and earliest last echo, s.
    decided_by : tuple of str
        Labels of the scans (the first of several) that have these voxel sizes, this first and this
        last echo.
    n_scans : int
        How many scans were compared.
    """

    voxel_size: tuple[float, float, float]
    echo_range: tuple[float, float]
    decided_by: tuple[str, ...]
    n_scans: int

    def __str__(self) -> str:
        *of_axes, of_first, of_last = self.decided_by
        voxels = ", ".join(
            f"{size:.4g} mm {axis} (as {scan})"
            for size, axis, scan in zip(self.voxel_size, AXES, of_axes, strict=True)
        )
        first, last = (f"{1000 * te:.4g}" for te in self.echo_range)
        return (
            f"what {self.n_scans} head scans have in common: voxels of {voxels}; "
            f"echoes from {first} (as {of_first}) to {last} ms (as {of_last})"
        )

    @property
    def record(self) -> dict[str, object]:
        """As a field of sidecars."""
        return {
            "VoxelSize": list(self.voxel_size),
            "VoxelSizeAxes": list(AXES),
            "EchoTimeRange": list(self.echo_range),
            "NumberOfScans": self.n_scans,
        }


@dataclass(frozen=True)
class HarmonizedScan(Scan):
    """A scan that is brought to a common protocol: what of its echoes is used, and the grid to
    bring them to.

    The files and echo times of the scan are those that are used; it has no mask of the user's.

    Attributes
    ----------
    matrix, original_matrix : tuple of int
        Voxels along the image's axes, to be had by cropping k-space, and as scanned.
    voxel_size, original_voxel_size : tuple of float
        mm, along the image's axes.
    echoes_left_out : tuple of float
        Echo times of the echoes that are not used, s.
    mask_left_out : pathlib.Path or None
        The user's mask that is not used, since every scan gets a mask by the same rule.
    common : CommonProtocol
        What the scan is brought to.
    """

    matrix: tuple[int, int, int] = (0, 0, 0)
    original_matrix: tuple[int, int, int] = (0, 0, 0)
    voxel_size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    original_voxel_size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    echoes_left_out: tuple[float, ...] = ()
    mask_left_out: Path | None = None
    common: CommonProtocol = field(repr=False, kw_only=True)

    @property
    def is_cropped(self) -> bool:
        """Whether the images must be brought to another grid."""
        return self.matrix != self.original_matrix

    @property
    def record(self) -> dict[str, object]:
        """Sidecar fields that say what was decided."""
        mask = (
            {} if self.mask_left_out is None else {"UserBrainMaskNotUsed": self.mask_left_out.name}
        )
        return {
            "HarmonizedTo": self.common.record,
            "HarmonizedVoxelSize": list(self.voxel_size),
            "HarmonizedMatrix": list(self.matrix),
            "HarmonizedEchoTimes": list(self.echo_times),
            "OriginalVoxelSize": list(self.original_voxel_size),
            "OriginalMatrix": list(self.original_matrix),
            "EchoesLeftOut": list(self.echoes_left_out),
            **mask,
        }

    @property
    def changes(self) -> tuple[str, ...]:
        """What is done to the scan and what follows, in words; empty if it has the common protocol
        already.
        """
        changes = []
        if self.is_cropped:
            changes.append(
                f"voxels {_size_text(self.original_voxel_size)} → {_size_text(self.voxel_size)} mm"
            )
        if self.echoes_left_out:
            times = ", ".join(f"{1000 * te:.4g}" for te in self.echoes_left_out)
            changes.append(f"echoes at {times} ms left out, {len(self.echo_times)} used")
            if (
                len(self.echo_times)
                < ECHOES_FOR_R2STAR
                <= len(self.echo_times) + len(self.echoes_left_out)
            ):
                changes.append("too few echoes for R2*: no map of it")
        if self.mask_left_out is not None:
            changes.append(
                f"brain mask {self.mask_left_out} not used: all scans get the automatic one"
            )
        return tuple(changes)


def common_protocol(protocols: Sequence[ScanProtocol]) -> CommonProtocol:
    """Find what all scans can be brought to.

    Parameters
    ----------
    protocols : sequence of ScanProtocol
        At least one.

    Returns
    -------
    CommonProtocol

    Raises
    ------
    DatasetError
        If there is no range of echo times that all scans have echoes on both sides of.
    """
    sizes = np.array([[p.voxel_size[p.axes.index(axis)] for axis in range(3)] for p in protocols])
    first = np.array([p.echo_times[0] for p in protocols])
    last = np.array([p.echo_times[-1] for p in protocols])
    # Of scans that are alike the first, not the one whose header's rounding is highest.
    coarsest = (sizes > sizes.max(axis=0) * (1 - ROUNDING)).argmax(axis=0)
    deciding = [*coarsest, first.argmax(), last.argmin()]
    common = CommonProtocol(
        voxel_size=tuple(sizes.max(axis=0).tolist()),
        echo_range=(float(first.max()), float(last.min())),
        decided_by=tuple(protocols[i].scan for i in deciding),
        n_scans=len(protocols),
    )
    if common.echo_range[1] < common.echo_range[0] - ECHO_TIME_TOLERANCE:
        *_, of_first, of_last = common.decided_by
        raise DatasetError(
            f"--harmonize: {of_first} has its first echo at {1000 * common.echo_range[0]:.4g} ms, "
            "after the last of "
            f"{of_last} at {1000 * common.echo_range[1]:.4g} ms: the scans have no range of echo "
            "times in common",
            "leave one kind of them out with --bids-filter-file, or go without --harmonize",
        )
    return common


def study_protocol(scans: Iterable[Scan]) -> tuple[CommonProtocol | None, list[tuple[str, str]]]:
    """Find what the head scans of a dataset have in common, from their sidecars and headers alone.

    A scan whose voxels turn out to be damaged counts here: repairing it changes nothing for the
    others.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        All scans of the dataset. Phantoms do not count.

    Returns
    -------
    common : CommonProtocol or None
        None if there is no head scan whose protocol can be read.
    not_counted : list of tuple of str
        Label of each head scan whose protocol cannot be read, and why.

    Raises
    ------
    DatasetError
        As of `common_protocol`.
    """
    protocols = []
    not_counted = []
    for scan in scans:
        if scan.is_phantom:
            continue
        try:
            protocols.append(read_protocol(scan))
        except ValueError as error:
            not_counted.append((scan.label, str(error)))
    return (common_protocol(protocols) if protocols else None), not_counted


def read_protocol(scan: Scan) -> ScanProtocol:
    """Read a scan's protocol from its sidecars and its first image's header.

    Parameters
    ----------
    scan : multiqsm.dataset.scans.Scan
        The scan.

    Returns
    -------
    ScanProtocol

    Raises
    ------
    ValueError
        If they do not tell.
    """
    times = tuple(te for te in scan.echo_times if te is not None and 0 < te <= LONGEST_ECHO_TIME)
    if len(times) < len(scan.echo_times):
        raise ValueError("its sidecars do not give the echo times in seconds")
    if any(after <= before for before, after in pairwise(times)):
        raise ValueError("two of its echoes have the same echo time")
    try:
        image = nib.load(scan.files[0])
    except (OSError, EOFError, zlib.error, ImageFileError) as error:
        raise ValueError(f"{scan.files[0].name} cannot be read ({error})") from error
    axes = scanner_form(image).affine[:3, :3]
    if len(image.shape) != 3 or not np.isfinite(axes).all() or np.linalg.matrix_rank(axes) < 3:
        raise ValueError(f"{scan.files[0].name} has no usable grid")
    return ScanProtocol(
        scan=scan.label,
        matrix=image.shape,
        voxel_size=tuple(np.linalg.norm(axes, axis=0).tolist()),
        axes=tuple(nib.io_orientation(image.affine)[:, 0].astype(int).tolist()),
        echo_times=times,
    )


def harmonize(scans: Iterable[Scan], common: CommonProtocol) -> tuple[list[Scan], list[Problem]]:
    """Bring head scans to a common protocol; phantoms are left as they are.

    A phantom says what a scanner and a method make of a known susceptibility. Its tubes are wide
    beside any voxel, and its echo times are its own, so that there is nothing to share with heads.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        Scans that `multiqsm.dataset.preflight.inspection.inspect_scan` finds no error in.
    common : CommonProtocol
        Of all head scans of the dataset.

    Returns
    -------
    harmonized : list of multiqsm.dataset.scans.Scan
        The phantoms as they are, of the heads each a `HarmonizedScan`; in order.
    problems : list of multiqsm.dataset.problems.Problem
        An error for each scan that is missing among them, having no echo in the range.
    """
    harmonized = []
    problems = []
    for scan in scans:
        done = scan if scan.is_phantom else _harmonized(scan, common)
        if done.echo_times:
            harmonized.append(done)
        else:
            first, last = (f"{1000 * te:.4g}" for te in common.echo_range)
            cause = (
                f"no echo lies between {first} and {last} ms, the range of echo times that all "
                "head scans cover"
            )
            remedy = "leave the scan out with --bids-filter-file, or go without --harmonize"
            problems.append(Problem.of(scan, "", cause, remedy))
    return harmonized, problems


def _harmonized(scan, common):
    own = read_protocol(scan)
    target = [common.voxel_size[axis] for axis in own.axes]
    matrix = cropped_matrix(own.matrix, own.voxel_size, target)
    affine = cropped_affine(np.diag([*own.voxel_size, 1.0]), own.matrix, matrix)
    used = [_is_within(te, common.echo_range) for te in own.echo_times]
    kept = {f.name: getattr(scan, f.name) for f in fields(Scan)}
    kept |= {part: _where(used, paths) for part, paths in scan.parts.items()}
    kept |= {"echo_times": _where(used, own.echo_times), "brain_mask": None}
    return HarmonizedScan(
        **kept,
        matrix=matrix,
        original_matrix=own.matrix,
        voxel_size=tuple(np.diag(affine)[:3].tolist()),
        original_voxel_size=own.voxel_size,
        echoes_left_out=_where([not keep for keep in used], own.echo_times),
        mask_left_out=scan.brain_mask,
        common=common,
    )


def _is_within(echo_time, echo_range):
    # A tolerance of half a millisecond includes it, whatever binary fractions make of it.
    margin = ECHO_TIME_TOLERANCE * (1 + 1e-6)
    return echo_range[0] - margin <= echo_time <= echo_range[1] + margin


def _where(kept, values):
    return tuple(value for value, keep in zip(values, kept, strict=True) if keep)


def _size_text(voxel_size):
    return "×".join(f"{size:.4g}" for size in voxel_size)
