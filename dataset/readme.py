"""Write the README of the derivative dataset, unless the user has written or changed it."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

from .. import __version__
from ..bids_templates import load_template
from .content import is_listed
from .files import PathLike, read_json, write_text
from .values import join_words

README = "README.md"
# Names that BIDS allows; a dataset has one of them.
NAMES = (README, "README", "README.txt", "README.rst")
# The last line of a README that multiqsm wrote has a checksum of the text before it.
LAST_LINE = "<!-- Written by multiqsm ({checksum:08x}). If you change the text, it is kept. -->\n"
WRITTEN = re.compile(
    re.escape(LAST_LINE).replace(re.escape("{checksum:08x}"), "(?P<checksum>[0-9a-f]{8})")
)


def write_readme(output_dir: PathLike, choices: Sequence[str] = ()) -> Path | None:
    """Write ``README.md`` of the derivative dataset, which must have its description already.

    It lists what the folder has at this moment.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    choices : sequence of str
        Paragraphs on the options that maps and regional values were computed with.

    Returns
    -------
    pathlib.Path or None
        The README; None if there is one already that the user wrote or changed.
    """
    root = Path(output_dir)
    for name in NAMES:
        path = root / name
        if is_listed(path) and not _is_unchanged(path):
            return None
    text = "\n\n".join(_parts(root, choices)) + "\n\n"
    last_line = LAST_LINE.format(checksum=crc32(text.encode()))
    return write_text(root / README, text + last_line)


def _parts(root: Path, choices: Sequence[str]) -> Iterator[str]:
    """Yield the paragraphs, lists and tables of the README."""
    template = load_template("readme")
    description = read_json(root / "dataset_description.json")
    yield template["title"].format(name=description.get("Name", "Susceptibility maps"))
    kinds = [kind["text"] for kind in template["kinds"] if _has(root, kind["pattern"])]
    if kinds:
        yield template["summary"].format(kinds=join_words(kinds), version=__version__)
    if choices:
        yield template["choices"]
        yield from choices
        yield template["sidecars"]
    rows = []
    for place in template["places"]:
        if _has(root, place["pattern"]):
            rows.append(f"| `{place['path']}` | {place['text']} |")
    if rows:
        yield "\n".join([*template["content"], *rows])
        yield template["tables"]
    if _has(root, template["citation"]["pattern"]):
        yield "\n".join(template["citation"]["lines"])


def _has(root: Path, pattern: str) -> bool:
    return next(root.glob(pattern), None) is not None


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
