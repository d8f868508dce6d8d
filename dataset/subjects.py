"""What is known of a subject once the scans have been processed: the maps on disk, and the regions
drawn on them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import nibabel as nib

from ..core.grid import voxel_size_of
from .anatomy import Anatomy, find_anatomy, find_atria
from .entities import SCAN_ENTITIES, scan_label
from .files import PathLike
from .forms import scanner_form
from .labels import Labels, find_labels, find_subject_labels
from .names import (
    BRAIN_MASK,
    MAGNITUDE_FILE,
    R2STAR,
    TOTAL_FIELD_ERROR,
    susceptibility_error_map,
    susceptibility_map,
)
from .outputs import derivative_path
from .problems import DatasetError, Problem
from .protocol import HarmonizedScan
from .repeats import Protocol, number_scans, scan_protocol
from .scans import Scan


@dataclass(frozen=True)
class DrawnScan:
    """A scan that is not among those brought together, but that regions or points were drawn on.

    Attributes
    ----------
    entities : dict of str
        Of the scan, by their long names.
    magnitude, mask : pathlib.Path
        Combined magnitude and brain mask, of an earlier run.
    labels : multiqsm.dataset.labels.Labels or None
        Regions drawn on it, if they are needed.
    atria : tuple of tuple of float
        Points in the atria of the lateral ventricles, in its mm, if they are needed.
    """

    entities: dict[str, str]
    magnitude: Path
    mask: Path
    labels: Labels | None = None
    atria: tuple[tuple[float, float, float], ...] = ()

    @property
    def label(self) -> str:
        """Readable label, such as ``sub-01_ses-A_run-1``."""
        return scan_label(self.entities)

    @property
    def columns(self) -> dict[str, str | None]:
        """Columns that tell in a table which scan it is."""
        return {name: self.entities.get(name) for name in SCAN_ENTITIES}


@dataclass(frozen=True)
class ProcessedScan:
    """A scan's derivatives.

    Attributes
    ----------
    entities : dict of str
        Of the scan, by their long names.
    site : str
        Where it was made.
    protocol : multiqsm.dataset.repeats.Protocol
        What it shares with its repeats.
    number : int
        Of the scan among its repeats at its site, from 1.
    magnitude, mask : pathlib.Path
        Combined magnitude and brain mask.
    r2star : pathlib.Path or None
        R2* map; there is none of fewer than three echoes.
    chi : dict of str to pathlib.Path
        Susceptibility maps by inversion.
    noise : dict of str to dict of str to pathlib.Path
        By inversion, what the standard error of its regional means is computed from: the standard
        errors of susceptibility (``chi_se``) and of the field (``field_se``). Maps that were made
        elsewhere have none.
    labels : multiqsm.dataset.labels.Labels or None
        Regions drawn on this scan.
    atria : tuple of tuple of float
        Points in the atria of the lateral ventricles that the user gives, in the scan's mm; empty
        if none.
    """

    entities: dict[str, str]
    site: str
    protocol: Protocol
    number: int
    magnitude: Path
    mask: Path
    r2star: Path | None
    chi: dict[str, Path]
    noise: dict[str, dict[str, Path]]
    labels: Labels | None = None
    atria: tuple[tuple[float, float, float], ...] = ()

    @property
    def label(self) -> str:
        """Readable label, such as ``sub-01_ses-A_run-1``."""
        return scan_label(self.entities)

    @property
    def columns(self) -> dict[str, str | int | None]:
        """Columns that tell in a table which scan it is."""
        own = {name: self.entities.get(name) for name in ("subject", "session", "run")}
        return {**own, **self.protocol.columns, "site": self.site, "scan": self.number}


@dataclass(frozen=True)
class Subject:
    """A subject and its processed scans.

    Attributes
    ----------
    label : str
        Without ``sub-``.
    scans : tuple of ProcessedScan
        Sorted by site and number.
    labels : multiqsm.dataset.labels.Labels or None
        Regions drawn in the subject's space.
    is_phantom : bool
        A phantom's scans are not registered: each has its own regions.
    anatomy : multiqsm.dataset.anatomy.Anatomy
        What there is beside these scans: other images, FreeSurfer's labels, lesions. A phantom has
        none.
    elsewhere : tuple of DrawnScan
        Other scans, whose drawn regions or points serve these scans for want of any of their own. A
        phantom has none.
    """

    label: str
    scans: tuple[ProcessedScan, ...]
    labels: Labels | None = None
    is_phantom: bool = False
    anatomy: Anatomy = field(default_factory=Anatomy)
    elsewhere: tuple[DrawnScan, ...] = ()

    @property
    def node_name(self) -> str:
        """The label as a name that Nipype accepts."""
        return f"sub_{self.label.replace('+', 'plus')}"


def collect_subjects(
    scans: Sequence[Scan],
    output_dir: PathLike,
    *,
    methods: Sequence[str],
    datasets: Sequence[PathLike],
    standard_errors: Sequence[str] | None = None,
    excluded_scans: Iterable[dict[str, str]] = (),
    needs_atria: bool = False,
) -> tuple[list[Subject], list[Problem]]:
    """Put the processed scans of each subject together.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        Scans that were processed, in this run or before.
    output_dir : path-like
        Root of the derivative dataset.
    methods : sequence of str
        Inversions whose maps are wanted.
    datasets : sequence of path-like
        Roots of the derivative datasets that may hold drawn regions.
    standard_errors : sequence of str, optional
        Inversions whose standard errors are wanted, if they are there: others may be left of an
        earlier run. All of `methods` by default.
    excluded_scans : sequence of dict of str
        Entities of further scans of these subjects, which a filter left out or which could not be
        processed. Regions that were drawn on them alone serve the scans if an earlier run made
        their magnitude and mask.
    needs_atria : bool
        Whether the same is wanted of points in the atria.

    Returns
    -------
    subjects : list of Subject
        Sorted by label.
    left_out : list of Problem
        Scans without derivatives, regions that are lost with scans that are not there, and regions,
        anatomy or lesions that cannot be used: the scans are taken without.
    """
    protocols = [scan_protocol(scan, _voxel_size(scan)) for scan in scans]
    numbers = number_scans(
        [
            (scan.entities, scan.site, protocol)
            for scan, protocol in zip(scans, protocols, strict=True)
        ]
    )
    with_noise = methods if standard_errors is None else standard_errors
    members: dict[str, list[tuple[Scan, ProcessedScan]]] = {}
    left_out = []
    absent = list(excluded_scans)
    for scan, protocol, number in zip(scans, protocols, numbers, strict=True):
        processed, missing = _processed(scan, protocol, number, output_dir, methods, with_noise)
        if missing:
            left_out.append(
                Problem.of(scan, "", f"not processed: {missing[0].name} is missing", "")
            )
            absent.append(scan.entities)
            continue
        labels, atria = _drawn_on(scan, datasets, left_out)
        processed = replace(processed, labels=labels, atria=atria)
        members.setdefault(scan.entities["subject"], []).append((scan, processed))
    subjects = []
    for label, found in sorted(members.items()):
        ordered = sorted(
            (processed for _, processed in found), key=lambda scan: (scan.site, scan.number)
        )
        drawn = _usable(f"sub-{label}", label, left_out, find_subject_labels, label, datasets)
        subject = Subject(label, tuple(ordered), drawn, any(scan.is_phantom for scan, _ in found))
        if not subject.is_phantom:
            anatomy, notes = _anatomy_of(found[0][0], output_dir, datasets)
            subject = replace(subject, anatomy=anatomy)
            left_out = left_out + notes
            elsewhere, notes = _drawn_elsewhere(subject, absent, output_dir, datasets, needs_atria)
            subject = replace(subject, elsewhere=elsewhere)
            left_out = left_out + notes
        subjects.append(subject)
    return subjects, left_out


def check_regions(
    scans: Iterable[Scan], output_dir: PathLike, datasets: Sequence[PathLike]
) -> list[Problem]:
    """Find the regions, anatomy and lesions that cannot be used, before hours of work go into the
    scans.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        Scans that will be processed.
    output_dir, datasets
        As of `collect_subjects`.

    Returns
    -------
    list of Problem
        Warnings: the scans will be taken without.
    """
    left_out: list[Problem] = []
    first: dict[str, Scan] = {}
    for scan in scans:
        _drawn_on(scan, datasets, left_out)
        first.setdefault(scan.entities["subject"], scan)
    for label, scan in first.items():
        _usable(f"sub-{label}", label, left_out, find_subject_labels, label, datasets)
        if not scan.is_phantom:
            _, notes = _anatomy_of(scan, output_dir, datasets)
            left_out += notes
    return [
        replace(problem, severity="warning") for problem in left_out if problem.severity == "error"
    ]


def freesurfer_dir(output_dir: PathLike) -> Path:
    """The folder that recon-all's results are written to and found in."""
    return Path(output_dir) / "sourcedata" / "freesurfer"


def _drawn_on(scan, datasets, left_out):
    """Regions that were drawn on a scan, and points in its atria."""
    subject = scan.entities["subject"]
    labels = _usable(
        scan.label, subject, left_out, find_labels, scan.entities, datasets, image=scan.files[0]
    )
    atria = _usable(
        scan.label, subject, left_out, find_atria, scan.label, _folder(scan.entities), datasets
    )
    return labels, tuple(atria or ())


def _anatomy_of(scan, output_dir, datasets):
    """What there is beside a person's scans, and what of it cannot be used."""
    label = scan.entities["subject"]
    return find_anatomy(
        label, _raw_folder(label, scan.files[0]), [*datasets, freesurfer_dir(output_dir)]
    )


def _voxel_size(scan):
    if isinstance(scan, HarmonizedScan):
        return scan.voxel_size
    affine = scanner_form(nib.load(scan.files[0])).affine
    return tuple(voxel_size_of(affine).tolist())


def _folder(entities):
    """A scan's folder in a dataset, above ``anat``."""
    return derivative_path("", entities, **BRAIN_MASK).parents[1]


def _drawn_elsewhere(subject, others, output_dir, datasets, needs_atria):
    """What was drawn on scans that are not there and on none that are: the scans to carry it from,
    and what is lost.
    """
    found = []
    absent = []
    left_out = []
    needs_labels = subject.labels is None and not any(scan.labels for scan in subject.scans)
    needs_atria = needs_atria and not any(scan.atria for scan in subject.scans)
    for entities in others:
        if entities["subject"] != subject.label:
            continue
        what = scan_label(entities)
        labels = (
            _usable(what, entities["subject"], left_out, find_labels, entities, datasets)
            if needs_labels
            else None
        )
        atria = (
            _usable(
                what, entities["subject"], left_out, find_atria, what, _folder(entities), datasets
            )
            if needs_atria
            else None
        )
        if not (labels or atria):
            continue
        magnitude = derivative_path(output_dir, entities, **MAGNITUDE_FILE)
        mask = derivative_path(output_dir, entities, **BRAIN_MASK)
        drawn = DrawnScan(dict(entities), magnitude, mask, labels, tuple(atria or ()))
        (found if magnitude.exists() and mask.exists() else absent).append(drawn)
    for scan in absent:
        lost = []
        if scan.labels and not any(other.labels for other in found):
            lost.append("regions")
        if scan.atria and not any(other.atria for other in found):
            lost.append("points in the atria")
        if lost:
            what = f"{' and '.join(lost)} of {scan.label}"
            left_out.append(Problem(what, "", *_why_lost(scan), subject=scan.entities["subject"]))
    return tuple(found), left_out


def _why_lost(scan):
    """Cause and remedy."""
    cause = (
        f"they were drawn on a scan that is not among those processed, and {scan.magnitude.name} "
        f"or {scan.mask.name}, "
        "which would carry them to the others, is missing: they are lost to these"
    )
    remedy = (
        "process that scan as well (without --session-label and --bids-filter-file), or draw them "
        "on one of these"
    )
    return cause, remedy


def _processed(scan, protocol, number, output_dir, methods, with_noise):
    """The scan's derivatives, and which of those that every scan has are missing."""

    def path(named):
        return derivative_path(output_dir, scan.entities, **named)

    chi = {method: path(susceptibility_map(method)) for method in methods}
    magnitude = path(MAGNITUDE_FILE)
    mask = path(BRAIN_MASK)
    r2star = path(R2STAR)
    missing = [file for file in (mask, magnitude, *chi.values()) if not file.exists()]
    field_se = path(TOTAL_FIELD_ERROR)
    noise = {
        method: {"chi_se": path(susceptibility_error_map(method)), "field_se": field_se}
        for method in with_noise
    }
    noise = {
        method: files
        for method, files in noise.items()
        if all(file.exists() for file in files.values())
    }
    r2star = r2star if r2star.exists() else None
    found = ProcessedScan(
        scan.entities, scan.site, protocol, number, magnitude, mask, r2star, chi, noise
    )
    return found, missing


def _usable(what, subject, left_out, find, *arguments, **options):
    """Labels, or None with the reason among what is left out: one bad file stops nobody else's
    scans.
    """
    try:
        labels = find(*arguments, **options)
    except DatasetError as error:
        left_out.append(Problem.from_error(f"regions of {what}", error, subject))
        return None
    if isinstance(labels, Labels):
        left_out += [
            Problem(f"regions of {what}", "", note, "", "note", subject) for note in labels.notes
        ]
    return labels


def _raw_folder(label, image):
    """The subject's folder that a raw image lies in; None if the image lies elsewhere."""
    return next((folder for folder in image.parents if folder.name == f"sub-{label}"), None)
