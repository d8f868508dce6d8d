"""Sidecars of images: read by the principle of inheritance, and written."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from .content import MissingContentError, require_content
from .files import PathLike, write_json
from .problems import UnusableScanError
from .values import one_line

SIDECAR_NAME = re.compile(r"((?:[a-zA-Z]+-[a-zA-Z0-9+]+_)*)([a-zA-Z0-9]+)\.json")
LARGEST_SIDECAR = 16 * 2**20  # bytes: what converters write is a thousandth of that


class Sidecars:
    """Sidecars by the principle of inheritance: those of the folders above, the nearest and most
    specific last.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._of_folder: dict[Path, dict] = {}
        self._shared: dict[Path, dict | UnusableScanError] = {}

    def merged(self, image: Path, suffix: str) -> dict:
        """Merge the sidecars that apply to an image with this suffix."""
        metadata: dict = {}
        folders = [image.parent]
        while folders[-1] != self._root:
            folders.append(folders[-1].parent)
        labels = set(image.name.split("_")[:-1])
        for folder in reversed(folders):
            for needed, path in self._named(folder).get(suffix, ()):
                if needed <= labels:
                    metadata |= self._read(path, is_own=path == sidecar_path(image))
        return {key: value for key, value in metadata.items() if value is not None}

    def _named(self, folder):
        """Sidecars of a folder by suffix, each with the entities that it asks for, those that ask
        for least first.
        """
        if folder not in self._of_folder:
            found = defaultdict(list)
            for path in sorted(folder.glob("*.json")):
                if parsed := SIDECAR_NAME.fullmatch(path.name):
                    found[parsed[2]].append((set(parsed[1].split("_")[:-1]), path))
            self._of_folder[folder] = {
                suffix: sorted(named, key=lambda entry: len(entry[0]))
                for suffix, named in found.items()
            }
        return self._of_folder[folder]

    def _read(self, path, *, is_own):
        """Read a sidecar; one that several images share is read once, and refused as often as it is
        asked for.
        """
        if is_own:
            return read_sidecar(path)
        if path not in self._shared:
            try:
                self._shared[path] = read_sidecar(path)
            except UnusableScanError as reason:
                self._shared[path] = reason
        if isinstance(self._shared[path], UnusableScanError):
            raise self._shared[path]
        return self._shared[path]


def read_sidecar(path: Path) -> dict:
    """Read a sidecar that strangers wrote: whatever is wrong with it makes the scan unusable, and
    no other.
    """
    try:
        require_content(path)
    except MissingContentError as error:
        raise UnusableScanError(f"{path.name}: {error.cause}", error.remedy) from error
    if not path.is_file():
        raise UnusableScanError(
            f"{path.name}: the sidecar is no file", "remove it, or save the sidecar there"
        )
    if path.stat().st_size > LARGEST_SIDECAR:
        raise UnusableScanError(
            f"{path.name}: {path.stat().st_size / 2**20:.0f} MB, which is no sidecar",
            "write the sidecar again without what is not metadata",
        )
    contradictions: list[str] = []

    def collect(pairs):
        # Called for each object, the outermost last: what lies deeper is not used.
        content = dict(pairs)
        contradictions[:] = ()
        if len(content) < len(pairs):
            contradictions[:] = sorted(
                {key for key, value in pairs if repr(content[key]) != repr(value)}
            )
        return content

    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=collect)
    except UnicodeDecodeError as error:
        raise UnusableScanError(f"{path.name}: {error}", "save the file as UTF-8") from error
    except RecursionError as error:
        raise UnusableScanError(
            f"{path.name}: nested too deeply", "correct the file's JSON"
        ) from error
    except (OSError, ValueError) as error:
        raise UnusableScanError(
            f"{path.name}: {one_line(str(error))}", "correct the file's JSON"
        ) from error
    if not isinstance(content, dict):
        raise UnusableScanError(
            f"{path.name}: a sidecar is an object in braces, which this is not",
            "correct the file's JSON",
        )
    if contradictions:
        names = ", ".join(map(one_line, contradictions))
        raise UnusableScanError(
            f"{path.name}: {names} is there twice with different values", "correct the file's JSON"
        )
    return content


FIRST_IN_SIDECAR = ("Description", "Units", "Type", "SkullStripped", "SpatialReference", "Sources")


def sidecar_path(path: PathLike) -> Path:
    """Name the JSON sidecar of an image or table.

    Parameters
    ----------
    path : path-like
        A data file, or a sidecar already.

    Returns
    -------
    pathlib.Path
        The same name with every extension replaced by ``.json``.

    Examples
    --------
    >>> sidecar_path("sub-01_Chimap.nii.gz").name
    'sub-01_Chimap.json'
    """
    path = Path(path)
    return path.with_name(path.name.split(".", 1)[0] + ".json")


def write_sidecar(path: PathLike, metadata: Mapping[str, object]) -> Path:
    """Write the JSON sidecar of a data file in one step, so that no reader meets half a file.

    Parameters
    ----------
    path : path-like
        The data file, or its sidecar.
    metadata : dict
        Numpy scalars and arrays, tuples and paths are converted; a number that is not finite
        becomes null.

    Returns
    -------
    pathlib.Path
        The sidecar.

    Raises
    ------
    TypeError
        If a value has no form in JSON.
    """
    order = {key: place for place, key in enumerate(FIRST_IN_SIDECAR)}
    keys = sorted(metadata, key=lambda key: (order.get(key, len(order)), key))
    return write_json(sidecar_path(path), {key: metadata[key] for key in keys})
