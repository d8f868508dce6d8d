"""Where a person's regions come from."""

import shutil

from ..dataset.labels import ATRIUM
from ..interfaces.reference import FindReference
from ..interfaces.regions import DefineRegions


def make_regions_interface(subject, settings):
    """Interface that defines regions, told of all that are drawn."""
    interface = DefineRegions(
        drawn=[_drawn(scan.labels) for scan in subject.scans],
        smoothing=settings.roi_smoothing,
        drawn_elsewhere=[_drawn(scan.labels) for scan in subject.elsewhere],
    )
    if subject.labels is not None:
        interface.inputs.drawn_for_subject = _drawn(subject.labels)
    return interface


def make_reference_interface(subject, settings):
    """Interface that finds the reference region, told of the points that the user gives."""
    return FindReference(
        atria=[[list(point) for point in scan.atria] for scan in subject.scans],
        atria_elsewhere=[[list(point) for point in scan.atria] for scan in subject.elsewhere],
        radius=settings.atrium_radius,
        reference=settings.reference,
    )


def _drawn(labels):
    """What a node is told of drawn regions."""
    return {} if labels is None else {"path": str(labels.path), "names": dict(labels.names)}


def _is_drawn(subject):
    return subject.labels is not None or any(
        scan.labels for scan in (*subject.scans, *subject.elsewhere)
    )


def needs_freesurfer(subject, settings):
    """Whether its labels are there or can be made, and wanted: drawn regions come first, but may
    lack ventricles.
    """
    can_be_made = (
        settings.recon_all
        and subject.anatomy.t1w is not None
        and shutil.which("recon-all") is not None
    )
    is_there = subject.anatomy.freesurfer is not None or can_be_made
    return is_there and (settings.reference == ATRIUM or not _is_drawn(subject))


def has_regions(subject, settings):
    """Whether there is any source of regions."""
    return settings.atlas is not None or _is_drawn(subject) or needs_freesurfer(subject, settings)
