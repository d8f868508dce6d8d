"""Checks of the command line that need no image, before any work; a dry run has the same."""

import sys
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from ..dataset.problems import DatasetError
from ..dataset.root import check_root
from ..workflows.settings import Settings
from .machine import DEFAULT_PLUGIN, DEFAULT_RETRIES, JOBS, open_runner
from .options import flag

# Options that only one level has, in the order of --help.
SELECTION = ("participant_label", "session_label", "bids_filter_file")
GROUP_ONLY = ("calibrate", "equivalence_margin", "model", "phenotype", "freesurfer_dir")
NOT_OF_MODELS = ("equivalence_margin",)
PARTICIPANT_ONLY = ("derivatives", "jobs", "retries", "clean_workdir")
DEFAULTS = {"jobs": JOBS[0], "retries": DEFAULT_RETRIES, "clean_workdir": False}  # others: None


def check_command(options: Namespace) -> None:
    """Check folders and plugin of a run, and warn of options that its level does not have.

    Parameters
    ----------
    options : argparse.Namespace
        Options of ``multiqsm``.

    Raises
    ------
    DatasetError
        If the dataset's folder is none, results or intermediate files would lie among the raw
        data, or the plugin cannot be used.
    """
    root = check_root(options.bids_dir).resolve()
    _check_output_dir(options.output_dir, root)
    if _lies_in(options.work_dir, root):
        raise DatasetError(
            f"{options.work_dir}: intermediate files would lie in the dataset",
            "choose a directory outside the dataset with -w",
        )
    if options.use_plugin is not None or options.plugin != DEFAULT_PLUGIN:
        with open_runner(options):
            pass  # opening it raises the errors of the plugin and of its file
    _warn_of_options_without_effect(options)


def _warn_of_options_without_effect(options):
    if options.analysis_level == "participant":
        _warn(options, GROUP_ONLY, "at the participant level; give it at the group level")
        return
    settings = (choice.name for choice in fields(Settings))
    others = (*PARTICIPANT_ONLY, *settings)
    _warn(options, SELECTION, "at the group level; to leave out scans, use --exclude")
    _warn(options, others, "at the group level; give it at the participant level")
    if options.model is not None:
        _warn(options, NOT_OF_MODELS, "with --model; the test of equivalence is not part of it")


def _warn(options: Namespace, names: Iterable[str], where: str) -> None:
    """Warn of those of some options that are given."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value != DEFAULTS.get(name):
            option = flag(name)
            if value is False:
                option = f"--no-{option.removeprefix('--')}"
            print(f"warning: {option} has no effect {where}", file=sys.stderr)


def _check_output_dir(output_dir, root):
    """Refuse results among the raw data; the folder of derivatives is their place in BIDS."""
    if output_dir.exists() and not output_dir.is_dir():
        raise DatasetError(f"{output_dir}: a file, not a folder", "choose another output folder")
    derivatives = root / "derivatives"
    inside = _lies_in(output_dir, root)
    if inside and (not _lies_in(output_dir, derivatives) or output_dir.resolve() == derivatives):
        raise DatasetError(
            f"{output_dir}: results would lie among the raw data",
            f"choose a folder outside the dataset, or {derivatives / 'multiqsm'}",
        )


def _lies_in(folder: Path, parent: Path) -> bool:
    """Check whether a folder, which may not exist yet, is another one or inside it."""
    return folder.resolve().is_relative_to(parent)
