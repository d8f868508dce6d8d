"""Earlier names of options and of their values, which go on working."""

import sys
from collections.abc import Sequence

# An option, or an option with one of its values, and what is written for it today.
ALIASES = {
    "--background joint": "--background tfi",
    "--data-weight": "--data-weighting",
    "--edge-share": "--edge-fraction",
    "--model-error": "--merit",
    "--no-model-error": "--no-merit",
    "--outside-weight": "--exterior-weight",
}


def current_arguments(arguments: Sequence[str]) -> list[str]:
    """Replace earlier names of options and values by today's, and print each replacement.

    Both spellings therefore give the same settings, and the same completion record.

    Parameters
    ----------
    arguments : sequence of str
        Arguments of the command line.

    Returns
    -------
    list of str

    Examples
    --------
    >>> current_arguments(["--edge-fraction=0.3", "--background", "tfi"])
    ['--edge-fraction=0.3', '--background', 'tfi']
    """
    current: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        spelled = argument.replace("=", " ", 1)
        before = f"{current[-1]} {argument}" if current else ""
        if option in ALIASES:
            argument = _announced(option) + equals + value
        elif spelled in ALIASES:
            argument = _announced(spelled).replace(" ", "=")
        elif before in ALIASES:
            argument = _announced(before).split()[1]
        current.append(argument)
    return current


def _announced(earlier: str) -> str:
    """Return today's name after printing it."""
    print(f"note: {earlier} is now called {ALIASES[earlier]}", file=sys.stderr)
    return ALIASES[earlier]
