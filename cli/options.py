"""Options of the command line that are made from the fields of `Settings`, and the README's table
of them.
"""

import argparse
from dataclasses import fields

from ..workflows.settings import Settings
from .arguments import count_from_zero, not_negative, positive, share

NUMBERS = {
    "positive": positive,
    "not_negative": not_negative,
    "fraction": share,
    "count_from_zero": count_from_zero,
}


def add_settings(parser):
    """Add an option for each field of `Settings`; one that is not given is None, so that a preset's
    choice stands.

    Parameters
    ----------
    parser : argparse.ArgumentParser or argument group
        Takes the options.
    """
    groups = _exclusive_groups(parser)
    for choice in fields(Settings):
        told = choice.metadata
        default = _default_text(choice)
        meaning = f"{told['meaning']} (default: {default})" if default else told["meaning"]
        given = {"dest": choice.name, "default": None, "help": meaning.replace("%", "%%")}
        if isinstance(choice.default, bool):
            given["action"] = argparse.BooleanOptionalAction
        elif isinstance(told["values"], tuple):
            given |= {"choices": told["values"], "type": type(told["values"][0])}
        elif told["values"] is not None:
            given["type"] = NUMBERS[told["values"]]
        if told["metavar"] is not None:
            given["metavar"] = told["metavar"]
        if isinstance(choice.default, tuple):
            given["nargs"] = "+"
        groups.get(choice.name, parser).add_argument(_flag(choice), **given)


def settings_table():
    """The options made from `Settings` as a table in Markdown, as the README has it.

    Returns
    -------
    str
    """
    lines = ["| option | meaning (default) |", "|---|---|"]
    for choice in fields(Settings):
        told = choice.metadata
        page = f" ([docs]({told['docs']}))" if told["docs"] else ""
        default = _default_text(choice)
        meaning = told["meaning"] + (f" ({default})" if default else "") + page
        lines.append(f"| `{_usage(choice)}` | {meaning} |")
    return "\n".join(lines) + "\n"


def _exclusive_groups(parser):
    """Groups of options of which one at most may be given, by the names of their fields."""
    groups = {}
    for choice in fields(Settings):
        if choice.metadata["instead_of"] is not None:
            group = parser.add_mutually_exclusive_group()
            groups |= {choice.name: group, choice.metadata["instead_of"]: group}
    return groups


def _flag(choice):
    return choice.metadata["flag"] or f"--{choice.name.replace('_', '-')}"


def _usage(choice):
    """The option as it is written, with its values."""
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
    """The default in words; empty where the meaning tells it."""
    if choice.default is None:
        return ""
    if isinstance(choice.default, bool):
        return "yes" if choice.default else "no"
    if isinstance(choice.default, tuple):
        return ", ".join(choice.default)
    return f"{choice.default:g}" if isinstance(choice.default, float) else str(choice.default)
