"""Read ``.bidsignore``, in which a dataset lists the files that are not part of it."""

import re
from dataclasses import dataclass
from pathlib import Path

from .content import require_content
from .problems import DatasetError
from .values import one_line

FILE_NAME = ".bidsignore"
# What the parts of a pattern match; the longest are tried first.
TOKENS = re.compile(r"\\.|\*\*|\*|\?|\[[!^]?\]?[^]]*\]|.", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """A line of the file.

    Attributes
    ----------
    text : str
        The line.
    pattern : re.Pattern
        Matches paths relative to the dataset, with ``/`` between folders.
    is_exception : bool
        Whether the line begins with ``!``: what it matches is part of the dataset again.
    needs_folder : bool
        Whether it applies to folders only.
    """

    text: str
    pattern: re.Pattern[str]
    is_exception: bool
    needs_folder: bool


class IgnoredFiles:
    """The files that ``.bidsignore`` lists, by the rules of ``.gitignore``, as in the validator.

    Parameters
    ----------
    root : pathlib.Path
        Root of the dataset.

    Raises
    ------
    DatasetError
        If the file cannot be read.
    """

    def __init__(self, root: Path) -> None:
        path = root / FILE_NAME
        require_content(path)
        self._root = root
        self._rules: list[Rule] = []
        if not path.is_file():
            return
        try:
            text = path.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            raise DatasetError(f"{path}: {error}", "make it readable, or remove it") from error
        for line in text.splitlines():
            if rule := parse_rule(line):
                self._rules.append(rule)

    def rule_of(self, path: Path) -> str:
        """Return the line that lists a file.

        Parameters
        ----------
        path : pathlib.Path
            A file below the root.

        Returns
        -------
        str
            The line, or that of a folder above; empty if there is none.
        """
        if not self._rules:
            return ""
        relative = path.relative_to(self._root)
        folders = [*reversed(relative.parents)][1:]  # without the root itself
        for place in (*folders, relative):
            if rule := self._last_match(place.as_posix(), is_folder=place != relative):
                return one_line(rule)
        return ""

    def _last_match(self, name, *, is_folder):
        """Return the line that decides about a file or folder by itself; empty if it is not listed.

        Later lines have precedence.
        """
        for rule in reversed(self._rules):
            if (is_folder or not rule.needs_folder) and rule.pattern.fullmatch(name):
                return "" if rule.is_exception else rule.text
        return ""


def parse_rule(line: str) -> Rule | None:
    r"""Parse a line of the file.

    Parameters
    ----------
    line : str
        A pattern: ``*`` and ``?`` match within a name, ``**`` matches any number of folders. A
        pattern with a slash at its beginning or in its middle is relative to the dataset; others
        apply in every folder. A slash at the end requires a folder, and ``\`` makes the next
        character an ordinary one.

    Returns
    -------
    Rule or None
        None for an empty line or a comment, which begins with ``#``.

    Examples
    --------
    >>> bool(parse_rule("**/*acq-bad*").pattern.fullmatch("sub-01/anat/sub-01_acq-bad_T1w.nii"))
    True
    >>> parse_rule("# a comment") is None
    True
    """
    text = re.sub(r"(?<!\\)\s+$", "", line)
    if not text or text.startswith("#"):
        return None
    is_exception = text.startswith("!")
    pattern = text[1:] if is_exception else text
    needs_folder = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    if not pattern:
        return None
    if "/" not in pattern:
        pattern = f"**/{pattern}"
    try:
        compiled = re.compile(_expression(pattern.removeprefix("/")))
    except re.error:  # such as a range of characters in the wrong order, which matches nothing
        return None
    return Rule(text, compiled, is_exception, needs_folder)


def _expression(pattern):
    """Translate a pattern into a regular expression."""
    folders = pattern.split("/")
    parts = []
    for place, folder in enumerate(folders):
        is_last = place == len(folders) - 1
        if folder == "**":
            parts.append(".+" if is_last else "(?:[^/]+/)*")
        else:
            parts.append("".join(map(_token_expression, TOKENS.findall(folder))))
            parts.append("" if is_last else "/")
    return "".join(parts)


def _token_expression(token):
    if token in ("*", "**"):
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if token.startswith("[") and len(token) > 2:
        characters = token[1:-1].replace("\\", "\\\\")
        if characters[0] in "!^":
            return f"(?!/)[^{characters[1:]}]"
        return f"[{characters}]"
    return re.escape(token.removeprefix("\\") or token)
