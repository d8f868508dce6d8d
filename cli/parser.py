"""The parser of all commands: errors of one line, which name what may have been meant."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..dataset.values import did_you_mean
from .aliases import current_arguments
from .arguments import EXIT_NOTHING_TO_DO

DOCUMENTATION = "README.md and docs/ of the source distribution"
TROUBLESHOOTING = "each message is explained in docs/troubleshooting.md of the source distribution"


class CommandParser(argparse.ArgumentParser):
    """A parser that keeps the layout of its texts and reports an error in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        """Print an error in the command line, and end with exit code 2."""
        text = f"{self.prog}: {message} ({self.prog} --help lists all options)\n"
        self.exit(EXIT_NOTHING_TO_DO, text)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> argparse.Namespace:
        """Parse arguments, with earlier names of options and those of other BIDS Apps.

        The parameters are those of `argparse.ArgumentParser.parse_args`.
        """
        arguments = current_arguments(sys.argv[1:] if args is None else args)
        # Before anything else, since a misspelt option also makes its values look misplaced.
        self._refuse_unknown_options(arguments)
        options, unknown = self.parse_known_args(arguments, namespace)
        if unknown:
            self.error(f"unexpected argument: {' '.join(unknown)}")
        return options

    def _refuse_unknown_options(self, arguments):
        causes = []
        for argument in arguments:
            name = argument.partition("=")[0]
            is_known = any(option.startswith(name) for option in self._option_string_actions)
            if name.startswith("--") and not is_known:
                meant = did_you_mean(name, self._option_string_actions)
                causes.append(f"there is no option {name}{meant}")
        if causes:
            self.error("; ".join(causes))

    def _get_value(self, action, arg_string):
        """Convert a value; one of another type than the choices is refused as they are listed."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError:
            if action.choices is None:
                raise
            return arg_string

    def _check_value(self, action, value):
        """Refuse a value that is not one of the choices."""
        if action.choices is None or value in action.choices:
            return
        choices = list(map(str, action.choices))
        meant = did_you_mean(str(value), choices)
        raise argparse.ArgumentError(
            action, f"invalid value {value!r}{meant}; choose one of {', '.join(choices)}"
        )
