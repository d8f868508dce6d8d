"""Read ``.bidsignore``, in which a dataset lists the files that are not part of it."""

import re
from pathlib import Path

from pathspec import GitIgnoreSpec

from .content import require_content
from .problems import DatasetError
from .values import one_line

FILE_NAME = ".bidsignore"


class IgnoredFiles:
    """The files that ``.bidsignore`` lists, by the rules of ``.gitignore``, as in the validator.

    Parameters
    ----------
    root : pathlib.Path
        Root of the dataset.

    Raises
    ------
    DatasetError
        If the file cannot be read, or a line is no pattern.
    """

    def __init__(self, root: Path) -> None:
        path = root / FILE_NAME
        require_content(path)
        self._root = root
        text = ""
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8-sig", errors="replace")
            except OSError as error:
                raise DatasetError(f"{path}: {error}", "make it readable, or remove it") from error
        self._lines = list(filter(str.strip, text.splitlines()))
        for line in self._lines:
            try:
                GitIgnoreSpec.from_lines([line])
            except (ValueError, re.error) as error:  # such as a range of characters from z to a
                cause = f"{path}: {one_line(line)} is not a pattern: {error}"
                raise DatasetError(cause, "correct or remove the line") from error
        self._rules = GitIgnoreSpec.from_lines(self._lines)

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
        relative = path.relative_to(self._root)
        # A file cannot be part of the dataset if a folder above it is listed.
        folders = [f"{folder.as_posix()}/" for folder in reversed(relative.parents)]
        for place in (*folders, relative.as_posix()):
            decision = self._rules.check_file(place)
            if decision.include and decision.index is not None:
                return one_line(self._lines[decision.index].strip())
        return ""
