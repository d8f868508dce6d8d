"""Write the README of the derivative dataset, unless the user has written or changed it."""

import re
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

from .. import __version__
from ..bids_templates import load_template
from .content import is_listed
from .files import PathLike, read_json, write_text

README = "README.md"
# Names that BIDS allows; a dataset has one of them.
NAMES = (README, "README", "README.txt", "README.rst")
# The last line of a README that multiqsm wrote has a checksum of the text before it.
LAST_LINE = "<!-- Written by multiqsm ({checksum:08x}). If you change the text, it is kept. -->\n"
WRITTEN = re.compile(
    re.escape(LAST_LINE).replace(re.escape("{checksum:08x}"), "(?P<checksum>[0-9a-f]{8})")
)


def write_readme(output_dir: PathLike, choices: Sequence[str] | None = None) -> Path | None:
    """Write ``README.md`` of the derivative dataset, which must have its description already.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    choices : sequence of str, optional
        Options of the run that makes the maps, with their values, where they differ from the
        defaults. None of a run that makes no maps: it keeps the README of the one that did.

    Returns
    -------
    pathlib.Path or None
        The README; None if there is one already that is kept: one that the user wrote or changed
        or, without `choices`, any.
    """
    root = Path(output_dir)
    for name in NAMES:
        path = root / name
        if is_listed(path) and (choices is None or not _is_unchanged(path)):
            return None
    text = "\n".join(load_template("readme")).format(
        name=read_json(root / "dataset_description.json").get("Name", "Susceptibility maps"),
        version=__version__,
        choices=_choices_text(choices),
    )
    last_line = LAST_LINE.format(checksum=crc32(text.encode()))
    return write_text(root / README, text + last_line)


def _choices_text(choices: Sequence[str] | None) -> str:
    if choices is None:
        return "The sidecars and `logs/finished` have the options that maps were made with."
    if not choices:
        return "All options of `multiqsm participant` had their defaults."
    lines = ["These options of `multiqsm participant` differed from their defaults:", ""]
    for choice in choices:
        lines.append(f"* `{choice}`")
    return "\n".join(lines)


def _is_unchanged(path: Path) -> bool:
    """Return whether multiqsm wrote a README and nobody has changed it since."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return False
    last_line = WRITTEN.search(text)
    if last_line is None or last_line.end() < len(text):
        return False
    checksum = crc32(text[: last_line.start()].encode())
    return int(last_line["checksum"], 16) == checksum
