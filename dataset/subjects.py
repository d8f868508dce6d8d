"""What is known of a subject once the scans have been processed: the maps on disk, and the regions drawn on them."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from .anatomy import Anatomy, find_anatomy, find_atria
from .derivatives import derivative_path
from .labels import Labels, find_labels, find_subject_labels
from .scans import DatasetError, LeftOut, scan_label


@dataclass(frozen=True)
class ProcessedScan:
    """A scan's derivatives.

    Attributes
    ----------
    entities : dict of str
        Of the scan, by their long names.
    site : str
        Where it was made.
    number : int
        Of the scan at its site, from 1.
    magnitude, mask : pathlib.Path
        Combined magnitude and brain mask.
    r2star : pathlib.Path or None
        R2* map; there is none of fewer than three echoes.
    chi : dict of str to pathlib.Path
        Susceptibility maps by inversion.
    noise : dict of str to dict of str to pathlib.Path
        By inversion, what the standard error of its regional means is computed from: the standard errors of
        susceptibility (``chi_se``) and of the field (``field_se``). Maps that were made elsewhere have none.
    labels : multiqsm.dataset.labels.Labels or None
        Regions drawn on this scan.
    atria : tuple of tuple of float
        Points in the atria of the lateral ventricles that the user gives, in the scan's mm; empty if none.
    """

    entities: dict[str, str]
    site: str
    number: int
    magnitude: Path
    mask: Path
    r2star: Path | None
    chi: dict[str, Path]
    noise: dict[str, dict[str, Path]]
    labels: Labels | None = None
    atria: tuple[tuple[float, float, float], ...] = ()

    @property
    def label(self):
        """Readable label, such as ``sub-01_ses-A_run-1``."""
        return scan_label(self.entities)


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
        What there is beside these scans: other images, FreeSurfer's labels, lesions. A phantom has none.
    """

    label: str
    scans: tuple[ProcessedScan, ...]
    labels: Labels | None = None
    is_phantom: bool = False
    anatomy: Anatomy = field(default_factory=Anatomy)

    @property
    def node_name(self):
        """The label as a name that Nipype accepts."""
        return f"sub_{self.label.replace('+', 'plus')}"


def collect_subjects(scans, output_dir, *, methods, datasets, standard_errors=None):
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
        Inversions whose standard errors are wanted, if they are there: others may be left of an earlier run. All of
        `methods` by default.

    Returns
    -------
    subjects : list of Subject
        Sorted by label.
    left_out : list of LeftOut
        Scans without derivatives, and regions, anatomy or lesions that cannot be used: the scans are taken without.
    """
    numbers = number_scans([(scan.entities, scan.site) for scan in scans])
    with_noise = methods if standard_errors is None else standard_errors
    members, left_out = {}, []
    for scan, number in zip(scans, numbers, strict=True):
        processed, missing = _processed(scan, number, output_dir, methods, with_noise)
        if missing:
            left_out.append(LeftOut(scan.label, f"not processed: {missing[0].name} is missing", is_fault=True))
            continue
        labels = _usable(scan.label, left_out, find_labels, scan.entities, datasets, image=scan.files[0])
        folder = processed.magnitude.parents[1].relative_to(output_dir)
        atria = _usable(scan.label, left_out, find_atria, scan.label, folder, datasets) or ()
        processed = replace(processed, labels=labels, atria=tuple(atria))
        members.setdefault(scan.entities["subject"], []).append((scan, processed))
    subjects = []
    for label, found in sorted(members.items()):
        ordered = sorted((processed for _, processed in found), key=lambda scan: (scan.site, scan.number))
        drawn = _usable(f"sub-{label}", left_out, find_subject_labels, label, datasets)
        subject = Subject(label, tuple(ordered), drawn, any(scan.is_phantom for scan, _ in found))
        if not subject.is_phantom:
            own = [*datasets, freesurfer_dir(output_dir)]
            anatomy, notes = find_anatomy(label, _raw_folder(label, found[0][0].files[0]), own)
            subject, left_out = replace(subject, anatomy=anatomy), left_out + notes
        subjects.append(subject)
    return subjects, left_out


def freesurfer_dir(output_dir):
    """The folder that recon-all's results are written to and found in."""
    return Path(output_dir) / "sourcedata" / "freesurfer"


def number_scans(scans):
    """Count the scans of each subject at each site: i = 1, 2, … of the 2015 study.

    The number is the run's where all of a subject's scans at a site have different whole numbers as runs, so that a
    missing scan leaves the others theirs; else their place in the order of their labels.

    Parameters
    ----------
    scans : sequence of (dict of str, str)
        Entities and site of each scan.

    Returns
    -------
    list of int

    Examples
    --------
    >>> number_scans([({"subject": "1", "run": "1"}, "A"), ({"subject": "1", "run": "3"}, "A")])
    [1, 3]
    """
    groups = {}
    for place, (entities, site) in enumerate(scans):
        groups.setdefault((entities["subject"], site), []).append(place)
    numbers = [0] * len(scans)
    for places in groups.values():
        runs = [scans[place][0].get("run", "") for place in places]
        by_run = all(run.isdecimal() for run in runs) and max(Counter(map(int, runs)).values()) == 1
        ordered = sorted(places, key=lambda place: _natural(scan_label(scans[place][0])))
        for count, place in enumerate(ordered, start=1):
            numbers[place] = int(scans[place][0]["run"]) if by_run else count
    return numbers


def _processed(scan, number, output_dir, methods, with_noise):
    """The scan's derivatives, and which of those that every scan has are missing."""

    def path(suffix, **named):
        return derivative_path(output_dir, scan.entities, suffix=suffix, **named)

    chi = {method: path("Chimap", desc=method) for method in methods}
    magnitude, mask, r2star = path("magnitude", datatype="fmap"), path("mask", desc="brain"), path("R2starmap")
    missing = [file for file in (mask, magnitude, *chi.values()) if not file.exists()]
    field_se = path("fieldmap", desc="totalse", datatype="fmap")
    noise = {method: {"chi_se": path("Chimap", desc=f"{method}se"), "field_se": field_se} for method in with_noise}
    noise = {method: files for method, files in noise.items() if all(file.exists() for file in files.values())}
    found = ProcessedScan(
        scan.entities, scan.site, number, magnitude, mask, r2star if r2star.exists() else None, chi, noise
    )  # fmt: skip
    return found, missing


def _usable(what, left_out, find, *arguments, **options):
    """Labels, or None with the reason among what is left out: one bad file stops nobody else's scans."""
    try:
        labels = find(*arguments, **options)
    except DatasetError as error:
        left_out.append(LeftOut(f"regions of {what}", str(error), is_fault=True))
        return None
    if isinstance(labels, Labels):
        left_out += [LeftOut(f"regions of {what}", note) for note in labels.notes]
    return labels


def _raw_folder(label, image):
    """The subject's folder that a raw image lies in; None if the image lies elsewhere."""
    return next((folder for folder in image.parents if folder.name == f"sub-{label}"), None)


def _natural(text):
    """Sort key that reads numbers as numbers: run-10 comes after run-2."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]
