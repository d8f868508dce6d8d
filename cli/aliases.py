"""Earlier names of options and of their values, and those of other BIDS Apps, which all work."""

import sys
from collections.abc import Sequence

# An option, or an option with one of its values, and its name today.
ALIASES = {
    "--background joint": "--background tfi",
    "--data-weight": "--data-weighting",
    "--edge-share": "--edge-fraction",
    "--model-error": "--merit",
    "--no-model-error": "--no-merit",
    "--outside-weight": "--exterior-weight",
}

# Names of the same options in other BIDS Apps. Underscores may also stand for hyphens.
BIDS_APPS = {
    "--nprocs": "--n-procs",
    "--n-cpus": "--n-procs",
    "--mem": "--mem-gb",
}


def current_arguments(arguments: Sequence[str]) -> list[str]:
    """Replace earlier names of options and values by today's, and print each replacement.

    Names of other BIDS Apps are replaced as well. All spellings therefore give the same settings,
    and the same completion record.

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
    >>> current_arguments(["--participant_label", "01", "--nprocs", "2"])
    ['--participant-label', '01', '--n-procs', '2']
    """
    current: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option.startswith("--"):
            option = option.replace("_", "-")
            option = BIDS_APPS.get(option, option)
            argument = option + equals + value
        option_and_value = argument.replace("=", " ", 1)
        value_of_option = f"{current[-1]} {argument}" if current else ""
        if option in ALIASES:
            argument = _announce(option) + equals + value
        elif option_and_value in ALIASES:
            argument = _announce(option_and_value).replace(" ", "=")
        elif value_of_option in ALIASES:
            argument = _announce(value_of_option).split()[1]
        current.append(argument)
    return current


def _announce(earlier: str) -> str:
    """Print and return today's name of an option."""
    print(f"note: {earlier} is now called {ALIASES[earlier]}", file=sys.stderr)
    return ALIASES[earlier]
