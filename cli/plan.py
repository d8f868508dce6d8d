"""The plan of a run, which a dry run prints in its place."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from ..dataset.scans import Scan
from ..dataset.values import counted
from ..execution.completion import recorded_settings
from ..workflows.presets import differences_from
from ..workflows.settings import Settings
from .machine import cores
from .readme import option_text


def describe_plan(
    scans: Sequence[Scan], n_refused: int, n_unused: int, settings: Settings, options: Namespace
) -> list[str]:
    """Describe what a run would do.

    Parameters
    ----------
    scans : sequence of Scan
        The scans that can be processed.
    n_refused : int
        Number of those that cannot.
    n_unused : int
        Number of those that are not needed or not selected.
    settings : Settings
        Choices of the run.
    options : argparse.Namespace
        Options of the command.

    Returns
    -------
    list of str
        Lines.
    """
    subjects = {scan.entities["subject"] for scan in scans}
    sites = {scan.site for scan in scans}
    n_masks = sum(scan.brain_mask is not None for scan in scans)
    differences = map(option_text, differences_from(options.preset, [asdict(settings)]))
    choices = ", ".join([f"preset {options.preset}", *differences])
    regions = "drawn ones and FreeSurfer's"
    if settings.atlas is not None:
        regions += f"; {settings.atlas} where there are none"
    rows = {
        "scans": f"{counted(len(scans), 'scan')} of {counted(len(subjects), 'subject')} at "
        f"{counted(len(sites), 'site')} would be processed, {n_refused} left out"
        + (f", {n_unused} not used" if n_unused else ""),
        "output": f"{options.output_dir} ({_state_of(options.output_dir, scans)})",
        "settings": choices,
        "field": f"unwrapping {settings.unwrapping}; background removal {settings.background}",
        "maps": f"{', '.join(settings.inversions)}; standard errors: "
        f"{', '.join(settings.standard_errors) or 'none'}",
        "masks": f"{n_masks} by the user, {len(scans) - n_masks} automatic",
        "regions": f"{regions}; reference {settings.reference}",
        "machine": f"{options.plugin}, {counted(cores(options), 'core')}; intermediate files in "
        f"{options.work_dir}",
    }
    return plan_lines(rows, "processed")


def plan_lines(rows: Mapping[str, str], done: str) -> list[str]:
    """Align the rows of a plan.

    Parameters
    ----------
    rows : mapping of str
        Text by title.
    done : str
        What a run does, as a participle.

    Returns
    -------
    list of str

    Examples
    --------
    >>> print(*plan_lines({"scans": "2 scans", "regions": "3"}, "written"), sep="\\n")
    scans:   2 scans
    regions: 3
    nothing was written; the same command without --dry-run runs it
    """
    width = max(map(len, rows)) + 1
    lines = [f"{title + ':':<{width}} {text}" for title, text in rows.items()]
    return [*lines, f"nothing was {done}; the same command without --dry-run runs it"]


def _state_of(output_dir, scans):
    """Return how many scans an earlier run has finished."""
    if not output_dir.exists():
        return "a new folder"
    finished = recorded_settings(output_dir, "scans")
    n_finished = sum(scan.label in finished for scan in scans)
    return f"has maps of {n_finished} of these scans, which are kept where nothing has changed"
