"""The sources of a person's regions: drawn labels, FreeSurfer's labels, an atlas."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..dataset.labels import ATRIUM, Labels
from ..dataset.subjects import DrawnScan, ProcessedScan, Subject
from ..interfaces.reference import FindReference
from ..interfaces.regions import DefineRegions

if TYPE_CHECKING:
    from .settings import Settings


def make_regions_interface(subject: Subject, settings: Settings) -> DefineRegions:
    """Make the interface that defines regions, with all that were drawn."""
    interface = DefineRegions(
        drawn=_drawn_on(subject.scans),
        smoothing=settings.roi_smoothing,
        drawn_elsewhere=_drawn_on(subject.elsewhere),
    )
    if subject.labels is not None:
        interface.inputs.drawn_for_subject = _described(subject.labels)
    return interface


def make_reference_interface(subject: Subject, settings: Settings) -> FindReference:
    """Make the interface that finds the reference region, with the user's points in the atria."""
    return FindReference(
        atria=_points_in(subject.scans),
        atria_elsewhere=_points_in(subject.elsewhere),
        radius=settings.atrium_radius,
        reference=settings.reference,
    )


def _drawn_on(scans: Iterable[ProcessedScan | DrawnScan]) -> list[dict]:
    """Return the regions drawn on each scan; empty where there are none."""
    return [_described(scan.labels) if scan.labels else {} for scan in scans]


def _described(labels: Labels) -> dict:
    return {"path": str(labels.path), "names": dict(labels.names)}


def _points_in(scans: Iterable[ProcessedScan | DrawnScan]) -> list[list[list[float]]]:
    """Return the points in the atria that the user gives on each scan."""
    return [list(map(list, scan.atria)) for scan in scans]


def needs_freesurfer(subject: Subject, settings: Settings) -> bool:
    """Return whether FreeSurfer's labels are available, or can be made, and are of use.

    Drawn regions have precedence. The reference in the atria needs labels of the ventricles, which
    drawn regions may lack.
    """
    can_run = (
        settings.recon_all
        and subject.anatomy.t1w is not None
        and shutil.which("recon-all") is not None
    )
    is_available = subject.anatomy.freesurfer is not None or can_run
    return is_available and (settings.reference == ATRIUM or not _has_drawn_regions(subject))


def _has_drawn_regions(subject: Subject) -> bool:
    return (
        subject.labels is not None
        or any(_drawn_on(subject.scans))
        or any(_drawn_on(subject.elsewhere))
    )


def has_regions(subject: Subject, settings: Settings) -> bool:
    """Return whether there is any source of regions."""
    return (
        settings.atlas is not None
        or _has_drawn_regions(subject)
        or needs_freesurfer(subject, settings)
    )
