"""Collect the gradient-echo scans of a BIDS dataset, with their masks, sites and notes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .assembly import assemble_scans
from .exclusions import read_exclusions
from .files import PathLike
from .filters import list_filters
from .index import list_participants, select_images
from .participants import ParticipantTables, find_site, is_phantom
from .problems import DatasetError, Problem, UnusableScanError
from .root import check_root
from .scans import Scan
from .sources import derivative_datasets, find_brain_mask, list_missing_datasets


def collect_scans(
    bids_dir: PathLike,
    *,
    participant_label: Sequence[str] | None = None,
    session_label: Sequence[str] | None = None,
    bids_filter: Mapping[str, Mapping] | None = None,
    derivatives: Sequence[PathLike] | None = None,
    exclude: PathLike | None = None,
    none_is_an_error: bool = True,
) -> tuple[list[Scan], list[Problem]]:
    """Collect the scans to process, grouping files by their entities.

    Parameters
    ----------
    bids_dir : path-like
        Root of the dataset.
    participant_label, session_label : sequence of str, optional
        Labels to process, with or without ``sub-`` and ``ses-``.
    bids_filter : dict of dict, optional
        Content of the file behind ``--bids-filter-file``, such as ``{"megre": {"acquisition":
        "x"}}``. A value may be a list; null requires that the entity be absent and ``"*"`` that it
        be present. Fields of the sidecars can be used like entities.
    derivatives : sequence of path-like, optional
        Derivative datasets to search for brain masks. By default all in the dataset's
        ``derivatives`` folder except those that multiqsm made.
    exclude : path-like, optional
        The file of ``--exclude``, see `multiqsm.dataset.exclude_file.read_exclude_file`.
    none_is_an_error : bool
        If False, return an empty list instead of raising an error when no scan is usable.

    Returns
    -------
    scans : list of Scan
        Sorted by label.
    left_out : list of Problem
        Files and scans that are not used, and why: errors, or notes where that is intended.

    Raises
    ------
    DatasetError
        If no scan remains, naming the filter or the missing part that removed the last one; or if
        the dataset or the filter cannot be used.
    """
    root = check_root(bids_dir)
    subjects = list_participants(root, participant_label)
    exclusions = read_exclusions(root, exclude)
    filters = list_filters(session_label, bids_filter or {})
    images, left_out = select_images(root, subjects, filters, exclusions.verdict)
    for problem in exclusions.problems:
        if not problem.subject or problem.subject in subjects:
            left_out.append(problem)
    scans, unused = assemble_scans(images)
    left_out += unused
    datasets = derivative_datasets(root, derivatives)
    tables = ParticipantTables(root)
    completed = []
    left_out += list_missing_datasets(root) if derivatives is None else []
    for scan in sorted(scans, key=lambda scan: scan.label):
        try:
            completed_scan, unused = _complete(scan, datasets, tables)
        except UnusableScanError as error:
            left_out.append(Problem.from_error(scan.label, error, scan.entities["subject"]))
        else:
            completed.append(completed_scan)
            left_out += unused
    if not completed and none_is_an_error:
        reasons = "\n".join(f"  {problem}" for problem in left_out)
        raise DatasetError(f"{root}: none of its gradient-echo scans can be processed\n{reasons}")
    return completed, left_out


def _complete(scan, datasets, tables):
    """Add mask, site and notes to a scan; return also a note for each mask that is not used."""
    brain_mask, unused = find_brain_mask(scan, datasets)
    site, site_source = find_site(scan, tables)
    completed = replace(
        scan,
        brain_mask=brain_mask,
        site=site,
        site_source=site_source,
        is_phantom=is_phantom(scan, tables),
        notes=(*scan.notes, *tables.notes(scan)),
    )
    return completed, unused
