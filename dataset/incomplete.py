"""Decide about images that lack their counterpart, such as a magnitude without phase."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .entities import COMPLEX_PAIRS, PARTS, SCAN_ENTITIES, scan_label
from .image_types import image_kinds
from .index import RawImage
from .problems import Problem, UnusableScanError
from .scans import Scan
from .values import as_number, join_words

COUNTERPARTS = dict(COMPLEX_PAIRS) | {second: first for first, second in COMPLEX_PAIRS}
COMBINE = (  # remedy
    "combine the coils of each echo to one complex image without the offsets of their phases (on "
    "the scanner, or by a method such as MCPC-3D-S)"
)
SAME_ECHO_TIME = 2e-4  # s; converters round the times of magnitude and phase differently
# Fields that are the same in two images that were reconstructed from one acquisition.
ACQUISITION_FIELDS = ("AcquisitionDateTime", "AcquisitionTime")


class IncompleteScanError(UnusableScanError):
    """Images share their entities, but are only one part of complex images."""


@dataclass(frozen=True)
class IncompleteScan:
    """Images that share their entities and lack their counterpart.

    Attributes
    ----------
    entities : dict of str
        Entities that the images share, by their long names.
    images : tuple of multiqsm.dataset.index.RawImage
        At least one.
    error : IncompleteScanError
        What is missing, in words.
    """

    entities: dict[str, str]
    images: tuple[RawImage, ...]
    error: IncompleteScanError

    @property
    def label(self) -> str:
        """Readable label, such as ``sub-01_ses-A_run-1``."""
        return scan_label(self.entities)

    @property
    def suffix(self) -> str:
        """``MEGRE`` or ``T2starw``."""
        return self.images[0].entities["suffix"]

    @property
    def parts(self) -> set[str]:
        """Parts that the images are, by their names, or else by their sidecars."""
        parts = set()
        for image in self.images:
            kinds = image_kinds(image.value("ImageType"))
            is_phase = "part" not in image.entities and "phase" in kinds
            parts.add("phase" if is_phase else PARTS[image.entities.get("part", "mag")])
        return parts

    @property
    def echo_times(self) -> list[float]:
        """Different echo times, in seconds, without those that are not known."""
        times = {as_number(image.value("EchoTime")) for image in self.images}
        return sorted(time for time in times if time is not None)

    def differences(self, other: "IncompleteScan | Scan") -> list[str]:
        """Return the names of the entities in which another scan differs, and ``suffix``."""
        names = []
        for name in SCAN_ENTITIES:
            if self.entities.get(name) != other.entities.get(name):
                names.append(name)
        return [*names, "suffix"] if other.suffix != self.suffix else names


def judge_incomplete(incomplete: Sequence[IncompleteScan], scans: Sequence[Scan]) -> list[Problem]:
    """Decide about images without counterpart: are they needed, and where may the rest be?

    Parameters
    ----------
    incomplete : sequence of IncompleteScan
        All such images of the selected participants.
    scans : sequence of multiqsm.dataset.scans.Scan
        The complete scans of these participants.

    Returns
    -------
    list of multiqsm.dataset.problems.Problem
        One for each of `incomplete`. An error, if the counterpart is there under other labels, or
        if it seems to be lost. ``unused``, if a scan of the session is complete, so that this is
        another reconstruction of it or a clinical scan without phase; or if no scan of this kind
        has phase. A warning, if this looks like a repeat of a complete scan.
    """
    of_subject: dict[str, list[IncompleteScan]] = defaultdict(list)
    for scan in incomplete:
        of_subject[scan.entities["subject"]].append(scan)
    partners: dict[str, IncompleteScan] = {}
    for of_one in of_subject.values():
        partners |= _find_partners(of_one)
    of_session: dict[tuple, list[Scan]] = defaultdict(list)
    for complete in scans:
        of_session[_session_of(complete)].append(complete)
    problems = []
    for scan in incomplete:
        apart = _apart_from_partner(scan, partners, incomplete)
        partner = partners.get(_key(scan))
        problems.append(_judge(scan, partner, apart, of_session[_session_of(scan)], scans))
    return problems


def _apart_from_partner(scan, partners, incomplete):
    """Return the error that the parts of a scan have different labels; None if it has no partner.

    If several scans have the same partner, no name fits all of them.
    """
    partner = partners.get(_key(scan))
    if partner is None:
        return None
    for single in (partner, scan):
        claimants = [other for other in incomplete if partners.get(_key(other)) is single]
        # Echoes of one image that were named as several scans have one partner as well.
        if len(claimants) > 1 and sum(len(each.images) for each in claimants) > len(single.images):
            break
    else:
        return _apart(scan, partner)
    part, *_ = claimants[0].parts
    names = ", ".join(claimant.label for claimant in claimants)
    if part in ("magnitude", "real"):
        cause = f"there are {len(claimants)} {part} images for one {COUNTERPARTS[part]} ({names})"
        remedy = (
            "name the one that belongs to it as its other part, and list the others in .bidsignore"
        )
        return _problem(scan, cause, remedy, "error")
    cause = (
        f"there is one combined {COUNTERPARTS[part]} for {len(claimants)} scans with {part} only "
        f"({names}): as if coils were not combined"
    )
    remedy = f"{COMBINE}; if they are scans of their own, add the {COUNTERPARTS[part]} of each"
    return _problem(scan, cause, remedy, "error")


def _find_partners(incomplete: Sequence[IncompleteScan]) -> dict[str, IncompleteScan]:
    """Find the partner of each scan of a subject that may have one.

    If several are equally close, as in a series of magnitude, phase, magnitude, phase that were
    named as four runs, it is one that is not yet the partner of another scan.
    """
    partners: dict[str, IncompleteScan] = {}
    for scan in incomplete:
        if _key(scan) in partners:
            continue
        candidates = [other for other in incomplete if _complete_each_other(scan, other)]
        ranks = {}
        for place, other in enumerate(candidates):
            ranks[place] = (len(scan.differences(other)), _key(other) in partners)
        if ranks:
            partner = candidates[min(ranks, key=ranks.__getitem__)]
            partners[_key(scan)] = partner
            partners.setdefault(_key(partner), scan)
    return partners


def _key(scan):
    return f"{scan.label} {scan.suffix}"


def _session_of(scan):
    return scan.entities["subject"], scan.entities.get("session")


def _judge(
    scan: IncompleteScan,
    partner: IncompleteScan | None,
    apart: Problem | None,
    in_session: Iterable[Scan],
    scans: Sequence[Scan],
) -> Problem:
    """Decide about one scan, by its partner and the complete scans of its session and study.

    `apart` is the error to return if the partner is closer than any complete scan.
    """

    def distance(other: IncompleteScan | Scan) -> int:
        return len(scan.differences(other))

    whole = min(in_session, key=distance, default=None)
    if partner and apart and not (whole and distance(whole) < distance(partner)):
        return apart
    is_magnitude = scan.parts == {"magnitude"}
    if whole and is_magnitude:
        return _beside(scan, whole)
    if whole and scan.differences(whole) == ["reconstruction"]:
        return _unused(scan, f"{whole.label} is complete")
    if is_magnitude and scans and not any(_is_of_kind(scan, other) for other in scans):
        return _unused(scan, "no scan with its labels has phase")
    return Problem.from_error(scan.label, scan.error, scan.entities["subject"])


def _complete_each_other(first, second):
    """Check whether two groups of a subject's images may be the parts of one scan."""
    if len(first.parts) > 1 or not second.parts.issuperset(map(COUNTERPARTS.get, first.parts)):
        return False
    times = sorted((first.echo_times, second.echo_times), key=len)
    if not all(times):
        return len(first.images) == len(second.images)
    distances = np.abs(np.subtract.outer(*times)).min(axis=1)
    return bool((distances < SAME_ECHO_TIME).all())


def _is_of_kind(scan, other):
    """Check whether a scan has the same labels as another one but subject, session and run."""
    return set(scan.differences(other)) <= {"subject", "session", "run"}


def _apart(scan, partner):
    """Return the error that the parts of a scan have different labels."""
    (part,) = scan.parts
    file = partner.images[0]
    where = f"{file.path.parent.parent.name}/{file.path.parent.name}/{file.filename}"
    others = ", …" if len(partner.images) > 1 else ""
    names = join_words(scan.differences(partner) or ["part"])
    cause = f"it has only {part} images; their {COUNTERPARTS[part]} is under another {names}: "
    remedy = f"rename the files so that all of one scan have the same {names}"
    if "part" not in file.entities and COUNTERPARTS[part] == "phase":
        remedy += ", and those of the phase part-phase"
    return _problem(scan, f"{cause}{where}{others}", remedy, "error")


def _beside(scan, whole):
    """Return what to say of a magnitude beside a complete scan."""
    if scan.differences(whole) == ["run"] and not _is_of_one_acquisition(scan, whole):
        cause = (
            f"not used: it has magnitude only, and differs from the complete scan {whole.label} "
            "in its run alone, as if it were a repeat whose phase is missing"
        )
        remedy = "convert it again with phase; if it has none, list it in .bidsignore"
        return _problem(scan, cause, remedy, "warning")
    return _unused(scan, f"{whole.label} is complete")


def _is_of_one_acquisition(scan, whole):
    """Check whether a magnitude is another reconstruction of a complete scan, by its sidecar."""
    first_image = (whole.magnitude or whole.files)[0]
    sidecar = whole.sidecars.get(first_image.name, {})
    image = min(scan.images, key=lambda image: as_number(image.value("EchoTime")) or 0)
    for field in ACQUISITION_FIELDS:
        if sidecar.get(field) is not None:
            return image.value(field) == sidecar[field]
    types = (image.value("ImageType"), sidecar.get("ImageType"))
    return None not in types and types[0] != types[1]


def _unused(scan, reason):
    missing = {COUNTERPARTS[part] for part in scan.parts}
    cause = f"{join_words(sorted(scan.parts))} without {join_words(sorted(missing))}; {reason}"
    return _problem(scan, cause, "", "unused")


def _problem(scan, cause, remedy, severity):
    return Problem(scan.label, "", cause, remedy, severity, scan.entities["subject"])
