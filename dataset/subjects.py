"""Collect the processed scans of each subject, with the regions drawn on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

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
    TOTAL_FIELD_NOISE,
    susceptibility_error_map,
    susceptibility_map,
)
from .outputs import derivative_path
from .problems import DatasetError, Problem
from .protocol import HarmonizedScan
from .repeats import Protocol, number_scans, scan_protocol
from .scans import Scan
from .volumes import load_volume


@dataclass(frozen=True)
class DrawnScan:
    """An excluded scan on which regions or points were drawn.

    Attributes
    ----------
    entities : dict of str
        Entities of the scan, by their long names.
    magnitude, mask : pathlib.Path
        Combined magnitude and brain mask, from an earlier run.
    labels : multiqsm.dataset.labels.Labels or None
        Regions drawn on the scan, if they are needed.
    atria : tuple of tuple of float
        Points in the atria of the lateral ventricles in mm, if they are needed.
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
        """Columns that identify the scan in a table."""
        return {name: self.entities.get(name) for name in SCAN_ENTITIES}


@dataclass(frozen=True)
class ProcessedScan:
    """The derivatives of a scan.

    Attributes
    ----------
    entities : dict of str
        Entities of the scan, by their long names.
    site : str
        Where it was acquired.
    protocol : multiqsm.dataset.repeats.Protocol
        The protocol that repeats have in common.
    number : int
        Number of the scan among its repeats at the site, from 1.
    magnitude, mask : pathlib.Path
        Combined magnitude and brain mask.
    r2star : pathlib.Path or None
        R2* map; None for scans with fewer than three echoes.
    chi : dict of str to pathlib.Path
        Susceptibility maps by inversion.
    noise : dict of str to dict of str to pathlib.Path
        By inversion, the maps from which standard errors of regional means are computed: the
        standard errors of susceptibility (``chi_se``) and of the field (``field_se``), and the
        part of the latter due to noise (``field_noise``), if there is one. Maps made by
        other programs have none.
    labels : multiqsm.dataset.labels.Labels or None
        Regions drawn on this scan.
    atria : tuple of tuple of float
        The user's points in the atria of the lateral ventricles, in scanner mm; empty if none.
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
        """Columns that identify the scan in a table."""
        return {
            "subject": self.entities.get("subject"),
            "session": self.entities.get("session"),
            "run": self.entities.get("run"),
            **self.protocol.columns,
            "site": self.site,
            "scan": self.number,
        }


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
        A phantom's scans are not registered, so that each has its own regions.
    anatomy : multiqsm.dataset.anatomy.Anatomy
        Other images, FreeSurfer's labels and lesions. Phantoms have none.
    elsewhere : tuple of DrawnScan
        Excluded scans from which regions or points are propagated to these scans, if none of these
        has any. Phantoms have none.
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
    """Collect the processed scans of each subject.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        Scans that were processed, in this run or before.
    output_dir : path-like
        Root of the derivative dataset.
    methods : sequence of str
        Inversions whose maps are required.
    datasets : sequence of path-like
        Roots of the derivative datasets that may have drawn regions.
    standard_errors : sequence of str, optional
        Inversions whose standard errors are used if they exist; those of other inversions, which
        may remain from an earlier run, are ignored. All of `methods` by default.
    excluded_scans : sequence of dict of str
        Entities of further scans of these subjects, which a filter excluded or which could not be
        processed. Regions drawn only on them are propagated to the scans if an earlier run made
        their magnitude and mask.
    needs_atria : bool
        Whether to propagate points in the atria as well.

    Returns
    -------
    subjects : list of Subject
        Sorted by label.
    left_out : list of Problem
        Scans without derivatives, regions that cannot be propagated, and regions, anatomy or
        lesions that cannot be used; the scans are then processed without them.
    """
    repeats: list[tuple[Mapping[str, str], str, Protocol]] = []
    for scan in scans:
        repeats.append((scan.entities, scan.site, scan_protocol(scan, _voxel_size(scan))))
    numbers = number_scans(repeats)
    with_noise = methods if standard_errors is None else standard_errors
    scans_of: dict[str, list[Scan]] = {}
    processed_of: dict[str, list[ProcessedScan]] = {}
    left_out: list[Problem] = []
    absent = list(excluded_scans)
    for scan, (_, _, protocol), number in zip(scans, repeats, numbers, strict=True):
        processed = _processed(scan, protocol, number, output_dir, methods, with_noise)
        required = (processed.mask, processed.magnitude, *processed.chi.values())
        missing_files = [path for path in required if not path.exists()]
        if missing_files:
            cause = f"not processed: {missing_files[0].name} is missing"
            left_out.append(Problem.of(scan, "", cause, ""))
            absent.append(scan.entities)
            continue
        labels, atria = _drawn_on(scan, datasets, left_out)
        processed = replace(processed, labels=labels, atria=atria)
        scans_of.setdefault(scan.entities["subject"], []).append(scan)
        processed_of.setdefault(scan.entities["subject"], []).append(processed)
    subjects = []
    for label in sorted(scans_of):
        ordered = sorted(processed_of[label], key=lambda scan: (scan.site, scan.number))
        labels = _usable(label, f"sub-{label}", left_out, find_subject_labels, label, datasets)
        is_phantom = any(scan.is_phantom for scan in scans_of[label])
        subject = Subject(label, tuple(ordered), labels, is_phantom)
        if not is_phantom:
            anatomy, problems = _anatomy_of(scans_of[label][0], output_dir, datasets)
            subject = replace(subject, anatomy=anatomy)
            left_out += problems
            elsewhere, problems = _drawn_elsewhere(
                subject, absent, output_dir, datasets, needs_atria
            )
            subject = replace(subject, elsewhere=elsewhere)
            left_out += problems
        subjects.append(subject)
    return subjects, left_out


def check_regions(
    scans: Iterable[Scan], output_dir: PathLike, datasets: Sequence[PathLike]
) -> list[Problem]:
    """Find the regions, anatomy and lesions that cannot be used, before processing starts.

    Parameters
    ----------
    scans : sequence of multiqsm.dataset.scans.Scan
        Scans that will be processed.
    output_dir, datasets
        See `collect_subjects`.

    Returns
    -------
    list of Problem
        Warnings, as the scans will be processed without them, and images that are not used since
        ``.bidsignore`` or scans.tsv excludes them.
    """
    left_out: list[Problem] = []
    first_scans: dict[str, Scan] = {}
    for scan in scans:
        _drawn_on(scan, datasets, left_out)
        first_scans.setdefault(scan.entities["subject"], scan)
    for label, scan in first_scans.items():
        _usable(label, f"sub-{label}", left_out, find_subject_labels, label, datasets)
        if not scan.is_phantom:
            _, problems = _anatomy_of(scan, output_dir, datasets)
            left_out += problems
    problems = []
    for problem in left_out:
        if problem.severity == "error":
            problems.append(replace(problem, severity="warning"))
        elif problem.severity == "unused":
            problems.append(problem)
    return problems


def freesurfer_dir(output_dir: PathLike) -> Path:
    """Return the folder to which recon-all's results are written, and where they are read."""
    return Path(output_dir) / "sourcedata" / "freesurfer"


def _drawn_on(scan, datasets, left_out):
    """Return the regions that were drawn on a scan, and the points in its atria."""
    usable = partial(_usable, scan.entities["subject"], scan.label, left_out)
    labels = usable(find_labels, scan.entities, datasets, image=scan.files[0])
    atria = usable(find_atria, scan.label, _folder(scan.entities), datasets)
    return labels, tuple(atria or ())


def _anatomy_of(scan, output_dir, datasets):
    """Return a person's anatomy besides the scans, and problems of files that cannot be used."""
    label = scan.entities["subject"]
    raw_folder = None  # if the image is not in a folder of the subject
    for folder in scan.files[0].parents:
        if folder.name == f"sub-{label}":
            raw_folder = folder
            break
    return find_anatomy(label, raw_folder, [*datasets, freesurfer_dir(output_dir)])


def _voxel_size(scan):
    if isinstance(scan, HarmonizedScan):
        return scan.voxel_size
    affine = scanner_form(load_volume(scan.files[0])).affine
    return tuple(voxel_size_of(affine).tolist())


def _folder(entities):
    """Return a scan's folder in a dataset, above ``anat``."""
    return derivative_path("", entities, **BRAIN_MASK).parents[1]


def _drawn_elsewhere(subject, excluded_scans, output_dir, datasets, needs_atria):
    """Find excluded scans on which regions or points were drawn that no scan of the subject has.

    Returns the scans from which these can be propagated, and problems of the other scans.
    """
    usable_scans = []
    unusable_scans = []
    left_out = []
    needs_labels = subject.labels is None and not _have_labels(subject.scans)
    needs_atria = needs_atria and not _have_atria(subject.scans)
    for entities in excluded_scans:
        if entities["subject"] != subject.label:
            continue
        label = scan_label(entities)
        usable = partial(_usable, subject.label, label, left_out)
        labels = usable(find_labels, entities, datasets) if needs_labels else None
        atria = usable(find_atria, label, _folder(entities), datasets) if needs_atria else None
        if not (labels or atria):
            continue
        magnitude = derivative_path(output_dir, entities, **MAGNITUDE_FILE)
        mask = derivative_path(output_dir, entities, **BRAIN_MASK)
        drawn = DrawnScan(dict(entities), magnitude, mask, labels, tuple(atria or ()))
        is_registrable = magnitude.exists() and mask.exists()
        (usable_scans if is_registrable else unusable_scans).append(drawn)
    for scan in unusable_scans:
        lost = []
        if scan.labels and not _have_labels(usable_scans):
            lost.append("regions")
        if scan.atria and not _have_atria(usable_scans):
            lost.append("points in the atria")
        if lost:
            left_out.append(_lost_drawing(scan, " and ".join(lost)))
    return tuple(usable_scans), left_out


def _have_labels(scans):
    return any(scan.labels for scan in scans)


def _have_atria(scans):
    return any(scan.atria for scan in scans)


def _lost_drawing(scan, drawing):
    """Return the problem that a drawing on an excluded scan cannot be propagated."""
    return Problem(
        f"{drawing} of {scan.label}",
        "",
        "cannot be used: they were drawn on a scan that is not processed, and to propagate them to "
        f"the other scans, {scan.magnitude.name} and {scan.mask.name} are needed, of which at "
        "least one is missing",
        "process that scan as well (without --session-label and --bids-filter-file), or draw them "
        "on a scan that is processed",
        subject=scan.entities["subject"],
    )


def _processed(scan, protocol, number, output_dir, methods, with_noise):
    """Return the scan's derivatives; those that every scan has are not checked for existence."""

    def path(name: Mapping[str, str]) -> Path:
        return derivative_path(output_dir, scan.entities, **name)

    chi = {method: path(susceptibility_map(method)) for method in methods}
    r2star = path(R2STAR)
    field_se = path(TOTAL_FIELD_ERROR)
    field_noise = path(TOTAL_FIELD_NOISE)
    noise = {}
    for method in with_noise:
        chi_se = path(susceptibility_error_map(method))
        if chi_se.exists() and field_se.exists():
            noise[method] = {"chi_se": chi_se, "field_se": field_se}
            if field_noise.exists():
                noise[method]["field_noise"] = field_noise
    return ProcessedScan(
        entities=scan.entities,
        site=scan.site,
        protocol=protocol,
        number=number,
        magnitude=path(MAGNITUDE_FILE),
        mask=path(BRAIN_MASK),
        r2star=r2star if r2star.exists() else None,
        chi=chi,
        noise=noise,
    )


def _usable(subject, label, left_out, find, *arguments, **options):
    """Call `find` for drawn regions or points; on an error append a problem to `left_out` and
    return None, so that one invalid file does not stop the processing of all scans.
    """
    try:
        drawing = find(*arguments, **options)
    except DatasetError as error:
        left_out.append(Problem.from_error(f"regions of {label}", error, subject))
        return None
    if isinstance(drawing, Labels):
        for note in drawing.notes:
            left_out.append(Problem(f"regions of {label}", "", note, "", "note", subject))
    return drawing
