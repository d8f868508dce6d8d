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
        if option in ALIASES:
            argument = ALIASES[option] + equals + value
            _announce(option, ALIASES[option])
        elif equals and f"{option} {value}" in ALIASES:
            argument = ALIASES[f"{option} {value}"].replace(" ", "=")
            _announce(f"{option} {value}", ALIASES[f"{option} {value}"])
        elif current and f"{current[-1]} {argument}" in ALIASES:
            earlier = f"{current[-1]} {argument}"
            argument = ALIASES[earlier].split()[1]
            _announce(earlier, ALIASES[earlier])
        current.append(argument)
    return current


def _announce(earlier: str, current: str) -> None:
    print(f"note: {earlier} is now called {current}", file=sys.stderr)
