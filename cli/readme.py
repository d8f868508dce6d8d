"""The README of the output folder: with which options its maps and regional values were made."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..dataset.readme import write_readme
from ..dataset.values import counted
from ..execution.completion import recorded_files, recorded_settings
from ..workflows.presets import OF_REGIONS, Difference, nearest_preset
from ..workflows.settings import Settings

MOST_LABELS = 6  # scans or subjects that are named; of more, only the number is given


def update_readme(output_dir: Path) -> None:
    """Write the README of the output folder as it is now, unless the user has changed it.

    Parameters
    ----------
    output_dir : pathlib.Path
        Root of the derivative dataset.
    """
    write_readme(output_dir, describe_choices(output_dir))


def describe_choices(output_dir: Path) -> list[str]:
    """Describe the options of the maps and regional values that are in the output folder.

    They are read from the completion records, so that they are those of all runs so far.

    Parameters
    ----------
    output_dir : pathlib.Path
        Root of the derivative dataset.

    Returns
    -------
    list of str
        Paragraphs and lists in Markdown; empty if there are no maps.
    """
    scans = recorded_settings(output_dir, "scans")
    of_maps = {field.name for field in fields(Settings)} - set(OF_REGIONS)
    texts = list(_texts("Maps", "scan", scans, ignored=OF_REGIONS))
    files = recorded_files(output_dir, "scans")
    other_maps = []
    for path in sorted(output_dir.glob("sub-*/**/anat/*_Chimap.nii.gz")):
        is_of_scan = "_space-" not in path.name
        if is_of_scan and path.relative_to(output_dir).as_posix() not in files:
            other_maps.append(path.name)
    if other_maps:
        names = "" if len(other_maps) > MOST_LABELS else f" ({', '.join(other_maps)})"
        texts.append(
            f"{counted(len(other_maps), 'map')}{names}: not of the last run of their scan, or of "
            "one that failed; their sidecars say how they were computed."
        )
    subjects = recorded_settings(output_dir, "subjects")
    texts += _texts("Regional values", "subject", subjects, ignored=sorted(of_maps))
    return texts


def _texts(
    product: str, item: str, settings: Mapping[str, Mapping[str, Any]], *, ignored: Iterable[str]
) -> Iterable[str]:
    """Yield a text for all items that have the same choices."""
    groups: dict[tuple[str, tuple[Difference, ...]], list[str]] = {}
    for label, values in settings.items():
        preset, of_label = nearest_preset([values], ignored=tuple(ignored))
        groups.setdefault((preset, tuple(of_label)), []).append(label)
    for (preset, differences), labels in groups.items():
        items = f"all {counted(len(labels), item)}"
        if len(labels) == 1:
            items = f"{item} {labels[0]}"
        elif len(groups) > 1:
            items = counted(len(labels), item)
            if len(labels) <= MOST_LABELS:
                items = f"{items} ({', '.join(labels)})"
        settings_text = "the defaults of all options"
        if preset != "default":
            settings_text = f"the options of `--preset {preset}`"
        end = ", except:" if differences else "."
        lines = [f"{product} of {items}: {settings_text}{end}"]
        if differences:
            lines.append("")
            lines += [f"* `{option_text(difference)}`" for difference in differences]
        yield "\n".join(lines)


def option_text(difference: Difference) -> str:
    """Return an option with its value, as it is written on the command line.

    Parameters
    ----------
    difference : Difference
        The option, and the value that was used.

    Returns
    -------
    str

    Examples
    --------
    >>> option_text(Difference("--merit", "yes", "no"))
    '--no-merit'
    """
    if difference.used == "yes":
        return difference.option
    if difference.used == "no":
        return f"--no-{difference.option.removeprefix('--')}"
    return f"{difference.option} {difference.used}"
