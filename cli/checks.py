"""Checks of the command line that need no image, before any work; a dry run has the same."""

from argparse import Namespace
from pathlib import Path

from ..dataset.problems import DatasetError
from ..dataset.root import check_root
from .machine import DEFAULT_PLUGIN, open_runner


def check_command(options: Namespace) -> None:
    """Check folders and plugin of a run.

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
