"""Harmonise the protocols of a study's head scans.

If a study was not planned as one, its sites differ in voxel size and echo times, and susceptibility
depends on both. All scans are reduced to what they have in common: the coarsest voxel size along
each axis, and the echoes within the range of echo times that all of them cover. No scan is
interpolated to smaller voxels or further echo times.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
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
from .values import join_numbers
from .volumes import load_volume

AXES = ("right-left", "anterior-posterior", "inferior-superior")
ROUNDING = 1e-3  # relative: rounding of headers and oblique affines changes voxel sizes by less
ECHO_TIME_TOLERANCE = 0.5e-3  # s: echoes this close to the range belong to it


@dataclass(frozen=True)
class ScanProtocol:
    """The parameters of a scan that harmonisation compares.

    Attributes
    ----------
    scan : str
        Label of the scan.
    matrix : tuple of int
        Numbers of voxels along the image's axes.
    voxel_size : tuple of float
        mm, along the image's axes.
    axes : tuple of int
        For each of the image's axes, the index of the closest of `AXES`; a permutation.
    echo_times : tuple of float
        s, in ascending order.
    """

    scan: str
    matrix: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    axes: tuple[int, int, int]
    echo_times: tuple[float, ...]


@dataclass(frozen=True)
class CommonProtocol:
    """The protocol that all head scans of a study can be reduced to.

    Attributes
    ----------
    voxel_size : tuple of float
        Largest voxel size of all scans along each of `AXES`, mm.
    echo_range : tuple of float
        Latest first echo and earliest last echo, s.
    decided_by : tuple of str
        Labels of the scans that these voxel sizes, first echo and last echo come from; the first
        scan if several have the same.
    n_scans : int
        Number of scans that were compared.
    """

    voxel_size: tuple[float, float, float]
    echo_range: tuple[float, float]
    decided_by: tuple[str, ...]
    n_scans: int

    def __str__(self) -> str:
        *of_axes, of_first, of_last = self.decided_by
        voxels = []
        for size, axis, scan in zip(self.voxel_size, AXES, of_axes, strict=True):
            voxels.append(f"{size:.4g} mm {axis} (as {scan})")
        first, last = self.echo_range
        return (
            f"common protocol of {self.n_scans} head scans: voxels of {', '.join(voxels)}; echoes "
            f"from {_milliseconds(first)} (as {of_first}) to {_milliseconds(last)} ms "
            f"(as {of_last})"
        )

    @property
    def record(self) -> dict[str, object]:
        """Content of the sidecar field ``HarmonizedTo``."""
        return {
            "VoxelSize": list(self.voxel_size),
            "VoxelSizeAxes": list(AXES),
            "EchoTimeRange": list(self.echo_range),
            "NumberOfScans": self.n_scans,
        }


@dataclass(frozen=True)
class HarmonizedScan(Scan):
    """A scan that is harmonised to a common protocol, with the echoes and the grid to use.

    Its files and echo times are only those that are used, and it has no user mask.

    Attributes
    ----------
    matrix, original_matrix : tuple of int
        Numbers of voxels along the image's axes, after cropping k-space and as acquired.
    voxel_size, original_voxel_size : tuple of float
        mm, along the image's axes.
    echoes_left_out : tuple of float
        Echo times of the echoes that are not used, s.
    mask_left_out : pathlib.Path or None
        The user's mask. It is not used, since all scans are masked by the same method.
    common : CommonProtocol
        The protocol that the scan is harmonised to.
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
        """Whether the images must be resampled to another grid, by cropping k-space."""
        return self.matrix != self.original_matrix

    @property
    def record(self) -> dict[str, object]:
        """Sidecar fields that document the harmonisation."""
        record: dict[str, object] = {
            "HarmonizedTo": self.common.record,
            "HarmonizedVoxelSize": list(self.voxel_size),
            "HarmonizedMatrix": list(self.matrix),
            "HarmonizedEchoTimes": list(self.echo_times),
            "OriginalVoxelSize": list(self.original_voxel_size),
            "OriginalMatrix": list(self.original_matrix),
            "EchoesLeftOut": list(self.echoes_left_out),
        }
        if self.mask_left_out is not None:
            record["UserBrainMaskNotUsed"] = self.mask_left_out.name
        return record

    @property
    def changes(self) -> tuple[str, ...]:
        """Descriptions of what harmonisation changes; empty if the scan has the common protocol."""
        changes = []
        if self.is_cropped:
            changes.append(
                f"voxels {join_numbers(self.original_voxel_size, '.4g', '×')} → "
                f"{join_numbers(self.voxel_size, '.4g', '×')} mm"
            )
        if self.echoes_left_out:
            times = ", ".join(map(_milliseconds, self.echoes_left_out))
            n_used = len(self.echo_times)
            changes.append(f"echoes at {times} ms left out, {n_used} used")
            if n_used < ECHOES_FOR_R2STAR <= n_used + len(self.echoes_left_out):
                changes.append("too few echoes for an R2* map")
        if self.mask_left_out is not None:
            changes.append(
                f"brain mask {self.mask_left_out} not used: all scans get the automatic mask"
            )
        return tuple(changes)


def common_protocol(protocols: Sequence[ScanProtocol]) -> CommonProtocol:
    """Find the protocol that all scans can be reduced to.

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
        If the ranges of echo times of all scans do not overlap.
    """
    # Of each scan the voxel sizes in the order of AXES: argsort inverts the permutation.
    sizes = np.array([np.take(p.voxel_size, np.argsort(p.axes)) for p in protocols])
    first, last = np.array([(p.echo_times[0], p.echo_times[-1]) for p in protocols]).T
    # Scans that differ only by rounding are equal, so that the first of them decides.
    coarsest = (sizes > sizes.max(axis=0) * (1 - ROUNDING)).argmax(axis=0)
    deciding = [*coarsest, first.argmax(), last.argmin()]
    common = CommonProtocol(
        voxel_size=tuple(sizes.max(axis=0).tolist()),
        echo_range=(float(first.max()), float(last.min())),
        decided_by=tuple(protocols[i].scan for i in deciding),
        n_scans=len(protocols),
    )
    earliest, latest = common.echo_range
    if latest < earliest - ECHO_TIME_TOLERANCE:
        *_, of_first, of_last = common.decided_by
        raise DatasetError(
            f"--harmonize: {of_first} has its first echo at {_milliseconds(earliest)} ms, after "
            f"the last echo of {of_last} at {_milliseconds(latest)} ms: the scans have no common "
            "range of echo times",
            "exclude one kind of scan with --bids-filter-file, or omit --harmonize",
        )
    return common


def study_protocol(scans: Iterable[Scan]) -> tuple[CommonProtocol | None, list[tuple[str, str]]]:
    """Find the common protocol of a dataset's head scans from their sidecars and headers.

    Scans with damaged voxels count as well. Otherwise the common protocol, and with it the results
    of all scans, would change once they are repaired.

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
        See `common_protocol`.
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
        If the sidecars lack valid echo times, or the image cannot be read or has no valid grid.
    """
    times = tuple(te for te in scan.echo_times if te is not None and 0 < te <= LONGEST_ECHO_TIME)
    if len(times) < len(scan.echo_times):
        raise ValueError("its sidecars do not have the echo times in seconds")
    if (np.diff(times) <= 0).any():
        raise ValueError("two of its echoes have the same echo time")
    try:
        image = load_volume(scan.files[0])
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
    """Harmonise head scans to a common protocol; phantoms are not changed.

    Phantoms show how scanners and methods reproduce a known susceptibility. Voxel size matters
    little to them, as their tubes are much wider than voxels, and their echo times need not agree
    with those of heads.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        Scans in which `multiqsm.dataset.preflight.inspection.inspect_scan` finds no error.
    common : CommonProtocol
        Common protocol of all head scans of the dataset.

    Returns
    -------
    harmonized : list of multiqsm.dataset.scans.Scan
        Phantoms unchanged, and heads as `HarmonizedScan`; in the order of `scans`.
    problems : list of multiqsm.dataset.problems.Problem
        An error for each scan that has no echo in the range, and is therefore not returned.
    """
    harmonized: list[Scan] = []
    problems = []
    for scan in scans:
        result = scan if scan.is_phantom else _harmonize(scan, common)
        if result.echo_times:
            harmonized.append(result)
        else:
            first, last = map(_milliseconds, common.echo_range)
            cause = (
                f"no echo lies between {first} and {last} ms, the range of echo times that all "
                "head scans cover"
            )
            remedy = "exclude the scan with --bids-filter-file, or omit --harmonize"
            problems.append(Problem.of(scan, "", cause, remedy))
    return harmonized, problems


def _harmonize(scan, common):
    own = read_protocol(scan)
    target = np.take(common.voxel_size, own.axes)
    matrix = cropped_matrix(own.matrix, own.voxel_size, target)
    affine = cropped_affine(np.diag([*own.voxel_size, 1.0]), own.matrix, matrix)
    # The margin makes a difference of exactly the tolerance count as within, despite rounding.
    margin = ECHO_TIME_TOLERANCE * (1 + 1e-6)
    first, last = common.echo_range
    is_used = [first - margin <= te <= last + margin for te in own.echo_times]
    attributes = {attribute.name: getattr(scan, attribute.name) for attribute in fields(Scan)}
    for part, paths in scan.parts.items():
        attributes[part] = _select(paths, is_used)
    attributes["echo_times"] = _select(own.echo_times, is_used)
    attributes["brain_mask"] = None
    return HarmonizedScan(
        **attributes,
        matrix=matrix,
        original_matrix=own.matrix,
        voxel_size=tuple(np.diag(affine)[:3].tolist()),
        original_voxel_size=own.voxel_size,
        echoes_left_out=_select(own.echo_times, np.logical_not(is_used)),
        mask_left_out=scan.brain_mask,
        common=common,
    )


def _select(values, is_selected):
    return tuple(value for value, select in zip(values, is_selected, strict=True) if select)


def _milliseconds(seconds):
    return f"{1000 * seconds:.4g}"
