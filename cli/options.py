"""Options of the command line that are made from the fields of `Settings`, and the README's table
of them.
"""

import argparse
from dataclasses import fields

from ..workflows.settings import Settings
from .arguments import count_from_zero, fraction, not_negative, positive

NUMBERS = {
    "positive": positive,
    "not_negative": not_negative,
    "fraction": fraction,
    "count_from_zero": count_from_zero,
}


def add_settings(parser: argparse._ActionsContainer) -> None:
    """Add an option for each field of `Settings`.

    An option that is not given is None, so that the preset's choice applies.

    Parameters
    ----------
    parser : argparse.ArgumentParser or argument group
        The parser or group that the options are added to.
    """
    groups = _exclusive_groups(parser)
    for choice in fields(Settings):
        group = groups.get(choice.name, parser)
        group.add_argument(_flag(choice), **_argument(choice))


def flag(name: str) -> str:
    """Return an option as it is written, by the name that its value has in the program.

    Examples
    --------
    >>> flag("lambda_value"), flag("work_dir")
    ('--lambda', '--work-dir')
    """
    for choice in fields(Settings):
        if choice.name == name:
            return _flag(choice)
    return f"--{name.replace('_', '-')}"


def settings_table() -> str:
    """Return the options made from `Settings` as a table in Markdown, as the README has it.

    Returns
    -------
    str
    """
    lines = ["| option | meaning (default) |", "|---|---|"]
    for choice in fields(Settings):
        page = choice.metadata["docs"]
        link = f" ([docs]({page}))" if page else ""
        meaning = f"{choice.metadata['meaning']} ({_default_text(choice)}){link}"
        lines.append(f"| `{_usage(choice)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _exclusive_groups(parser):
    """Return the groups of options that exclude each other, by the names of their fields."""
    groups = {}
    for choice in fields(Settings):
        if choice.metadata["instead_of"] is not None:
            group = parser.add_mutually_exclusive_group()
            groups[choice.name] = group
            groups[choice.metadata["instead_of"]] = group
    return groups


def _argument(choice):
    """Return the keyword arguments of `argparse.ArgumentParser.add_argument` for a field."""
    values = choice.metadata["values"]
    meaning = f"{choice.metadata['meaning']} (default: {_default_text(choice)})"
    argument = {"dest": choice.name, "default": None, "help": meaning.replace("%", "%%")}
    if isinstance(choice.default, bool):
        argument["action"] = argparse.BooleanOptionalAction
    elif isinstance(values, tuple):
        argument["choices"] = values
        argument["type"] = type(values[0])
    elif values is not None:
        argument["type"] = NUMBERS[values]
    if choice.metadata["metavar"] is not None:
        argument["metavar"] = choice.metadata["metavar"]
    if isinstance(choice.default, tuple):
        argument["nargs"] = "+"
    return argument


def _flag(choice):
    return choice.metadata["flag"] or f"--{choice.name.replace('_', '-')}"


def _usage(choice):
    """Return the option as it is written, with its values."""
    values = choice.metadata["values"]
    flag = _flag(choice)
    if isinstance(choice.default, bool):
        return f"--[no-]{flag.removeprefix('--')}"
    if isinstance(choice.default, tuple):
        return f"{flag} {' '.join(values)}"
    if isinstance(values, tuple):
        alternatives = "\\|".join(map(str, values))
        return f"{flag} {alternatives}"
    return f"{flag} {choice.metadata['metavar']}"


def _default_text(choice):
    """Return the default in words."""
    if choice.default is None:
        return choice.metadata["automatic"]
    if isinstance(choice.default, bool):
        return "yes" if choice.default else "no"
    if isinstance(choice.default, tuple):
        return ", ".join(choice.default)
    return f"{choice.default:g}" if isinstance(choice.default, float) else str(choice.default)
