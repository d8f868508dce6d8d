"""The gradient-echo images of a dataset, by their names."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from ..bids_templates import load_template
from .content import MissingContentError, is_broken_folder_link, require_content
from .entities import FILE_ENTITIES, SCAN_ENTITIES, SUFFIX, parse_name, scan_label
from .files import PathLike
from .filters import matches
from .problems import DatasetError, Problem, UnusableScanError
from .sidecars import Sidecars
from .values import one_line

NAMED_AT_MOST = 5


def list_scans(bids_dir: PathLike, subjects: Iterable[str]) -> list[dict[str, str]]:
    """List the gradient-echo scans of some subjects by the names of their images, be they usable or
    not.

    Parameters
    ----------
    bids_dir : path-like
        Root of the dataset.
    subjects : iterable of str
        Their labels, without ``sub-``.

    Returns
    -------
    list of dict of str
        Entities of each scan, in the order of the names.
    """
    images, *_ = find_images(Path(bids_dir).absolute(), sorted(subjects))
    scans: dict[str, dict[str, str]] = {}
    for image in _matching(images, load_template("queries")["megre"]):
        entities = {name: label for name, label in image.entities.items() if name in SCAN_ENTITIES}
        scans.setdefault(scan_label(entities), entities)
    return list(scans.values())


def list_participants(root: Path, participant_label: Sequence[str] | None) -> list[str]:
    """Labels of the participants asked for, or of all; each must have a folder."""
    present = sorted(
        path.name.removeprefix("sub-") for path in root.glob("sub-*") if is_folder(path)
    )
    wanted = [str(label).removeprefix("sub-") for label in participant_label or present]
    missing = [label for label in wanted if label not in present]
    if missing:
        raise DatasetError(
            f"--participant-label {' '.join(map(one_line, missing))}: not in {root}; its "
            "participants are: " + ", ".join(map(one_line, present))
        )
    if not wanted:
        raise DatasetError(f"{root}: no sub-* folder", "give the root folder of a BIDS dataset")
    return wanted


class RawImage:
    """A gradient-echo image of the raw dataset, by its name; its sidecars are read when they are
    asked for.
    """

    def __init__(self, path: Path, entities: dict[str, str], sidecars: Sidecars) -> None:
        self.path = path
        self.filename = path.name
        self.entities = entities
        self._sidecars = sidecars

    @cached_property
    def metadata(self) -> dict:
        """Fields of the sidecars that apply to the image."""
        return self._sidecars.merged(self.path, self.entities["suffix"])

    def value(self, name: str) -> object:
        """An entity, or else a field of the sidecars; None if it is absent."""
        if name in SCAN_ENTITIES or name in FILE_ENTITIES:
            return self.entities.get(name)
        try:
            return self.metadata.get(name)
        except UnusableScanError:
            return None


def find_images(
    root: Path, subjects: Iterable[str]
) -> tuple[list[RawImage], list[Problem], Counter[str]]:
    """Find the images in the anatomical folders of participants.

    Returns those whose names BIDS allows, the others as left out, and how many images there are of
    each suffix.
    """
    images = []
    left_out = []
    suffixes: Counter[str] = Counter()
    sidecars = Sidecars(root)
    wanted = load_template("queries")["megre"]["suffix"]
    for subject in subjects:
        for folder, session in _anatomical_folders(root / f"sub-{subject}"):
            try:
                require_content(folder)
                paths = sorted(folder.iterdir())
            except MissingContentError as error:
                name = one_line(folder.relative_to(root).as_posix())
                cause = "the folder is a link to what is not here"
                left_out.append(Problem(name, "", cause, error.remedy, subject=subject))
                continue
            except OSError as error:
                left_out.append(
                    Problem(
                        one_line(str(folder)),
                        "",
                        error.strerror or str(error),
                        "make it readable",
                        subject=subject,
                    )
                )
                continue
            for path in paths:
                suffix = SUFFIX.search(path.name)
                if suffix is None or path.name.startswith("."):
                    continue
                suffixes[suffix[1]] += 1
                try:
                    images.append(RawImage(path, parse_name(path.name, subject, session), sidecars))
                except UnusableScanError as reason:
                    if suffix[1] in wanted:
                        left_out.append(Problem.from_error(one_line(path.name), reason, subject))
    return images, left_out, suffixes


def _anatomical_folders(folder):
    """List a participant's ``anat`` folders, each with its session or None."""
    if is_broken_folder_link(folder):
        return [(folder, None)]
    sessions = sorted(path for path in folder.glob("ses-*") if is_folder(path))
    found = [(folder / "anat", None)]
    for path in sessions:
        found.append(
            (path if is_broken_folder_link(path) else path / "anat", path.name.removeprefix("ses-"))
        )
    return [(path, session) for path, session in found if is_folder(path)]


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link that may have led to one: whoever opens that is told."""
    return path.is_dir() or is_broken_folder_link(path)


def select_images(
    root: Path, subjects: Sequence[str], filters: Iterable[tuple[str, str, object]]
) -> tuple[list[RawImage], list[Problem]]:
    """Apply the filters one after another, so that the one that removes the last image can be
    named.

    Returns the images, and what was left out: participants without any, and images without a BIDS
    name.
    """
    query = load_template("queries")["megre"]
    suffixes = " or ".join(query["suffix"])
    present, misnamed, counts = find_images(root, subjects)
    images = _matching(present, query)
    if not images and not misnamed:
        there = (
            ", ".join(f"{suffix} ({count})" for suffix, count in sorted(counts.items())) or "none"
        )
        raise DatasetError(
            f"{root}: no image with suffix {suffixes} in an anat folder of {_listed(subjects)}",
            f"the suffixes there are: {there}",
        )
    left_out = misnamed + _without_images(
        subjects, images, f"no image with suffix {suffixes} in an anat folder"
    )
    for name, entity, value in filters:
        if (
            entity not in SCAN_ENTITIES
            and entity not in FILE_ENTITIES
            and not any(i.value(entity) for i in images)
        ):
            raise DatasetError(
                f"{name}: {entity!r} is not a recognized entity, nor a field of the sidecars",
                f"the entities are: {', '.join((*SCAN_ENTITIES, *FILE_ENTITIES))}",
            )
        query[entity] = value
        left = _matching(present, query)
        if not left:
            raise DatasetError(
                f"{name} removed all {len(images)} images that were left",
                f"the values of {entity} there are: {_values(images, entity)}",
            )
        left_out += _without_images(
            {image.entities["subject"] for image in images}, left, f"removed by {name}"
        )
        images = left
    return images, left_out


def _matching(images, query):
    return [
        image
        for image in images
        if all(matches(name, image.value(name), value) for name, value in query.items())
    ]


def _without_images(subjects, images, reason):
    having = {image.entities["subject"] for image in images}
    return [
        Problem(one_line(f"sub-{subject}"), "", reason, "", "note", subject)
        for subject in sorted(set(subjects) - having)
    ]


def _listed(subjects):
    """Name a few participants, or say how many they are."""
    few = len(subjects) <= NAMED_AT_MOST
    return (
        ", ".join(one_line(f"sub-{subject}") for subject in subjects)
        if few
        else f"{len(subjects)} participants"
    )


def _values(images, entity):
    """List an entity's values over images, each with its count."""
    found = [image.value(entity) for image in images]
    counts = Counter(f"(no {entity})" if value is None else one_line(str(value)) for value in found)
    return (
        ", ".join(f"{value} ({count})" for value, count in sorted(counts.items(), key=str))
        or "none"
    )
