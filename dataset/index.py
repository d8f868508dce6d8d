"""Find the gradient-echo images of a dataset by their names, and apply filters to them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path

from ..bids_templates import load_template
from .bidsignore import FILE_NAME as IGNORE_FILE
from .bidsignore import IgnoredFiles
from .content import MissingContentError, is_broken_folder_link, require_content
from .entities import (
    FILE_ENTITIES,
    SCAN_ENTITIES,
    SUFFIX,
    ImagePath,
    parse_name,
    scan_label,
    strip_prefix,
)
from .files import PathLike
from .filters import matches
from .problems import DatasetError, Problem, UnusableScanError
from .sidecars import Sidecars
from .values import counted, one_line

MAX_LISTED_PARTICIPANTS = 5  # in a message


def list_scans(bids_dir: PathLike, subjects: Iterable[str]) -> list[dict[str, str]]:
    """List the gradient-echo scans of some subjects by the names of their images, whether or not
    they are usable.

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
    """List the labels of participants.

    Parameters
    ----------
    root : pathlib.Path
        Root of the dataset.
    participant_label : sequence of str or None
        Labels to process, with or without ``sub-``; None for all.

    Returns
    -------
    list of str
        Labels without ``sub-``.

    Raises
    ------
    DatasetError
        If a participant has no folder, or the dataset has no participants.
    """
    folders = sorted(filter(is_folder, root.glob("sub-*")))
    available = strip_prefix((folder.name for folder in folders), "sub-")
    labels = strip_prefix(participant_label or available, "sub-")
    unavailable = [label for label in labels if label not in available]
    if unavailable:
        raise DatasetError(
            f"--participant-label {' '.join(map(one_line, unavailable))}: not in {root}; its "
            "participants are: " + ", ".join(map(one_line, available))
        )
    if not labels:
        raise DatasetError(f"{root}: no sub-* folder", "specify the root folder of a BIDS dataset")
    return labels


class RawImage:
    """A gradient-echo image of the raw dataset; its sidecars are read on first use.

    Parameters
    ----------
    path : pathlib.Path
        The image.
    entities : dict of str
        Its entities by their long names.
    sidecars : multiqsm.dataset.sidecars.Sidecars
        Reader of the dataset's sidecars.
    ignored_by : str
        The line of ``.bidsignore`` that lists the image; empty if there is none.
    """

    def __init__(
        self, path: Path, entities: dict[str, str], sidecars: Sidecars, ignored_by: str = ""
    ) -> None:
        self.path: ImagePath = path
        self.filename = path.name
        self.entities = entities
        self.ignored_by = ignored_by
        self._sidecars = sidecars
        self._file = path

    @property
    def scan_label(self) -> str:
        """Label of the scan that the image belongs to."""
        return scan_label(self.entities)

    @cached_property
    def metadata(self) -> dict:
        """Fields of the sidecars that apply to the image."""
        return self._sidecars.merged(self._file, self.entities["suffix"])

    def value(self, name: str) -> object:
        """Return the value of an entity or else of a field of the sidecars; None if absent."""
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

    Parameters
    ----------
    root : pathlib.Path
        Root of the dataset.
    subjects : iterable of str
        Labels of the participants, without ``sub-``.

    Returns
    -------
    images : list of RawImage
        Images with a valid BIDS name, also those that ``.bidsignore`` lists.
    left_out : list of multiqsm.dataset.problems.Problem
        Unreadable folders, and gradient-echo images without a valid name.
    suffixes : collections.Counter
        Number of images of each suffix.
    """
    images: list[RawImage] = []
    left_out: list[Problem] = []
    suffixes: Counter[str] = Counter()
    sidecars = Sidecars(root)
    ignored = IgnoredFiles(root)
    megre_suffixes = load_template("queries")["megre"]["suffix"]
    for subject in subjects:
        for folder, session in _anatomical_folders(root / f"sub-{subject}"):
            paths = _list_folder(folder, root, subject, left_out)
            for path in paths:
                suffix = SUFFIX.search(path.name)
                if suffix is None or path.name.startswith("."):
                    continue
                suffixes[suffix[1]] += 1
                rule = ignored.rule_of(path)
                try:
                    entities = parse_name(path.name, subject, session)
                except UnusableScanError as error:
                    if suffix[1] not in megre_suffixes:
                        continue
                    if rule:
                        cause = ignored_text(rule)
                        left_out.append(_passed_over(one_line(path.name), cause, subject))
                    else:
                        left_out.append(Problem.from_error(one_line(path.name), error, subject))
                else:
                    images.append(RawImage(path, entities, sidecars, rule))
    return images, left_out, suffixes


def _list_folder(folder, root, subject, left_out):
    """List the files of a folder; if it cannot be read, append a problem to `left_out`."""
    try:
        require_content(folder)
        return sorted(folder.iterdir())
    except MissingContentError as error:
        name = one_line(folder.relative_to(root).as_posix())
        cause = "the folder is a broken link"
        left_out.append(Problem(name, "", cause, error.remedy, subject=subject))
    except OSError as error:
        cause = error.strerror or str(error)
        remedy = "make it readable"
        left_out.append(Problem(one_line(str(folder)), "", cause, remedy, subject=subject))
    return []


def _anatomical_folders(folder):
    """List a participant's ``anat`` folders, each with its session or None.

    A folder that is a broken link is listed itself, so that it is reported.
    """
    if is_broken_folder_link(folder):
        return [(folder, None)]
    folders = []
    if is_folder(folder / "anat"):
        folders.append((folder / "anat", None))
    for path in sorted(filter(is_folder, folder.glob("ses-*"))):
        anat = path if is_broken_folder_link(path) else path / "anat"
        if is_folder(anat):
            folders.append((anat, path.name.removeprefix("ses-")))
    return folders


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, or a broken link to what may have been one.

    Opening such a link raises an error, whereas ignoring it would lose data silently.
    """
    return path.is_dir() or is_broken_folder_link(path)


def select_images(
    root: Path,
    subjects: Sequence[str],
    filters: Iterable[tuple[str, str, object]],
    verdict: Callable[[dict[str, str]], Problem | None] | None = None,
) -> tuple[list[RawImage], list[Problem]]:
    """Select the gradient-echo images that pass all filters.

    Filters are applied one after another, so that the error can name the one that removes the last
    image.

    Parameters
    ----------
    root : pathlib.Path
        Root of the dataset.
    subjects : sequence of str
        Labels of the participants, without ``sub-``.
    filters : iterable of (str, str, object)
        As from `multiqsm.dataset.filters.list_filters`.
    verdict : callable, optional
        Returns why a scan is excluded or cannot be judged, from its entities, see
        `multiqsm.dataset.exclusions.Exclusions.verdict`.

    Returns
    -------
    images : list of RawImage
    left_out : list of multiqsm.dataset.problems.Problem
        Images without a valid BIDS name, scans that ``.bidsignore`` or a filter excludes, and
        participants without images.

    Raises
    ------
    DatasetError
        If ``.bidsignore`` or a filter removes the last image.
    """
    query = load_template("queries")["megre"]
    suffixes = " or ".join(query["suffix"])
    found_images, left_out, counts = find_images(root, subjects)
    all_images = _matching(found_images, query)
    if not all_images and not left_out:
        raise DatasetError(
            f"{root}: no image with suffix {suffixes} in an anat folder of {_listed(subjects)}",
            f"suffixes in these folders: {_counts_text(sorted(counts.items()))}",
        )
    for subject in sorted(set(subjects) - _subjects(all_images)):
        cause = f"no image with suffix {suffixes} in an anat folder"
        left_out.append(Problem(one_line(f"sub-{subject}"), "", cause, "", "note", subject))
    images = [image for image in all_images if not image.ignored_by]
    if all_images and not images:
        rules = sorted({image.ignored_by for image in all_images})
        raise DatasetError(
            f"{root / IGNORE_FILE} lists every image ({', '.join(rules)})",
            f"remove the lines that match gradient-echo images of {_listed(subjects)}",
        )
    reasons = {image: ignored_text(image.ignored_by) for image in all_images if image.ignored_by}
    judged = {} if verdict is None else _judge_scans(images, verdict)
    left_out += judged.values()
    images = [image for image in images if image.scan_label not in judged]
    if not images:  # the reasons are in `left_out`
        return [], left_out + _list_passed_over(reasons, images)
    entities = (*SCAN_ENTITIES, *FILE_ENTITIES)
    for name, entity, value in filters:
        if entity not in entities and not any(image.value(entity) for image in images):
            raise DatasetError(
                f"{name}: {entity!r} is not a recognized entity, nor a field of the sidecars",
                f"the entities are: {', '.join(entities)}",
            )
        query[entity] = value  # in place of the default, so that a filter may name other suffixes
        remaining = []
        for image in _matching(found_images, query):
            if not image.ignored_by and image.scan_label not in judged:
                remaining.append(image)
        if not remaining:
            raise DatasetError(
                f"{name} removed every remaining image ({len(images)})",
                f"their values of {entity} are: {_values_text(images, entity)}",
            )
        for image in set(images).difference(remaining):
            reasons[image] = f"removed by {name}"
        images = remaining
    return images, left_out + _list_passed_over(reasons, images)


def _judge_scans(images, verdict):
    """Return the problem of each scan that is excluded or cannot be judged, by its label."""
    entities_of_scan = {}
    for image in images:
        entities = {name: label for name, label in image.entities.items() if name in SCAN_ENTITIES}
        entities_of_scan.setdefault(image.scan_label, entities)
    judged = {}
    for label, entities in entities_of_scan.items():
        if problem := verdict(entities):
            judged[label] = problem
    return judged


def ignored_text(rule: str) -> str:
    """Return the reason why a scan is passed over that a line of ``.bidsignore`` lists."""
    return f"listed in {IGNORE_FILE} ({rule})"


def _list_passed_over(reasons, images):
    """Return what happened to each scan of which some images are not among the selected ones."""
    numbers = Counter()
    subject_of = {}
    for image, reason in reasons.items():
        numbers[image.scan_label, reason] += 1
        subject_of[image.scan_label] = image.entities["subject"]
    remaining = {image.scan_label for image in images}
    problems = []
    for (label, reason), number in sorted(numbers.items()):
        if label in remaining:
            cause = f"{counted(number, 'image')} not used: {reason}"
            problems.append(Problem(label, "", cause, "", "note", subject_of[label]))
        else:
            problems.append(_passed_over(label, reason, subject_of[label]))
    return problems


def _passed_over(label, cause, subject):
    return Problem(label, "", cause, "", "unused", subject)


def _matching(images, query):
    return [image for image in images if _passes(image, query)]


def _passes(image, query):
    return all(matches(name, image.value(name), required) for name, required in query.items())


def _subjects(images):
    return {image.entities["subject"] for image in images}


def _listed(subjects):
    """List a few participants by name, or give their number."""
    if len(subjects) > MAX_LISTED_PARTICIPANTS:
        return f"{len(subjects)} participants"
    return ", ".join(one_line(f"sub-{subject}") for subject in subjects)


def _values_text(images, entity):
    """List the values of an entity in some images, each with its count."""
    counts = Counter()
    for image in images:
        value = image.value(entity)
        counts[f"(no {entity})" if value is None else one_line(str(value))] += 1
    return _counts_text(sorted(counts.items(), key=str))


def _counts_text(counts):
    return ", ".join(f"{value} ({count})" for value, count in counts) or "none"
