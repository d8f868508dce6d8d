"""Read JSON sidecars by the BIDS inheritance principle, and write them."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from .content import MissingContentError, require_content
from .files import PathLike, write_json
from .problems import UnusableScanError
from .values import is_placeholder, one_line

SIDECAR_NAME = re.compile(r"((?:[a-zA-Z]+-[a-zA-Z0-9+]+_)*)([a-zA-Z0-9]+)\.json")
# Fields that describe a scan: those of its files are compared, or one stands for all.
SCAN_FIELDS = (
    *("Manufacturer", "ManufacturersModelName", "DeviceSerialNumber", "SoftwareVersions"),
    *("MagneticFieldStrength", "ImagingFrequency", "EchoTime", "EchoNumber", "Units", "ImageType"),
    *("RepetitionTime", "RepetitionTimeExcitation", "FlipAngle"),
)
LARGEST_SIDECAR = 16 * 2**20  # bytes, a thousand times what converters write


class Sidecars:
    """The sidecars of a dataset, combined by the inheritance principle.

    Parameters
    ----------
    root : pathlib.Path
        Root of the dataset.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._of_folder: dict[Path, dict] = {}
        self._shared: dict[Path, dict | UnusableScanError] = {}

    def merged(self, image: Path, suffix: str) -> dict:
        """Merge the sidecars that apply to an image.

        Sidecars in folders closer to the image and sidecars with more entities have precedence.

        Parameters
        ----------
        image : pathlib.Path
            The image, below the root.
        suffix : str
            Its suffix.

        Returns
        -------
        dict
            Fields without those that are null.

        Raises
        ------
        UnusableScanError
            If a sidecar cannot be read.
        """
        metadata: dict = {}
        folders = [image.parent]
        while folders[-1] != self._root:
            folders.append(folders[-1].parent)
        labels = set(image.name.split("_")[:-1])
        for folder in reversed(folders):
            for required_labels, path in self._list_folder(folder).get(suffix, ()):
                if required_labels <= labels:
                    metadata |= self._read(path, is_own=path == sidecar_path(image))
        return {key: value for key, value in metadata.items() if value is not None}

    def _list_folder(self, folder):
        """List a folder's sidecars by suffix, as pairs of labels and path, fewest labels first."""
        if folder not in self._of_folder:
            by_suffix = defaultdict(list)
            for path in sorted(folder.glob("*.json")):
                if match := SIDECAR_NAME.fullmatch(path.name):
                    labels = set(match[1].split("_")[:-1])
                    by_suffix[match[2]].append((labels, path))
            for sidecars in by_suffix.values():
                sidecars.sort(key=lambda entry: len(entry[0]))
            self._of_folder[folder] = by_suffix
        return self._of_folder[folder]

    def _read(self, path, *, is_own):
        """Read a sidecar. One that several images share is read only once; if it is not valid, the
        error is raised again for each image.
        """
        if is_own:
            return read_sidecar(path)
        if path not in self._shared:
            try:
                self._shared[path] = read_sidecar(path)
            except UnusableScanError as error:
                self._shared[path] = error
        if isinstance(self._shared[path], UnusableScanError):
            raise self._shared[path]
        return self._shared[path]


def read_sidecar(path: Path) -> dict:
    """Read and validate a sidecar of the raw dataset.

    Parameters
    ----------
    path : pathlib.Path
        The sidecar.

    Returns
    -------
    dict
        Its fields.

    Raises
    ------
    UnusableScanError
        If it is missing, without content, too large, not valid JSON, not an object, or has a field
        twice with different values. Only scans to which it applies become unusable.
    """
    try:
        require_content(path)
    except MissingContentError as error:
        raise UnusableScanError(f"{path.name}: {error.cause}", error.remedy) from error
    if not path.is_file():
        raise UnusableScanError(
            f"{path.name}: the sidecar is not a file", "remove it, or replace it by the sidecar"
        )
    if path.stat().st_size > LARGEST_SIDECAR:
        raise UnusableScanError(
            f"{path.name}: {path.stat().st_size / 2**20:.0f} MB is too large for a sidecar",
            "write the sidecar again with metadata only",
        )
    contradictory: set[str] = set()

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        # Called for each object of the file, the outermost last. Nested objects are not used, so
        # that only the contradictions of the outermost one matter.
        content = dict(pairs)
        contradictory.clear()
        if len(content) < len(pairs):
            for key, value in pairs:
                if repr(content[key]) != repr(value):
                    contradictory.add(key)
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
            f"{path.name}: the content is not a JSON object (in braces)",
            "correct the file's JSON",
        )
    if contradictory:
        names = ", ".join(map(one_line, sorted(contradictory)))
        raise UnusableScanError(
            f"{path.name}: {names} occurs twice with different values", "correct the file's JSON"
        )
    return content


def without_placeholders(metadata: Mapping[str, object]) -> tuple[dict[str, object], list[str]]:
    """Leave out the fields of a scan that only say that their value is not known.

    Parameters
    ----------
    metadata : dict
        Fields of the sidecars of an image.

    Returns
    -------
    metadata : dict
        Without the fields of `SCAN_FIELDS` whose text stands for a missing value.
    left_out : list of str
        Such as ``Manufacturer 'n/a'``.

    Examples
    --------
    >>> without_placeholders({"Manufacturer": "n/a", "EchoTime": 0.006})
    ({'EchoTime': 0.006}, ["Manufacturer 'n/a'"])
    """
    known = {}
    left_out = []
    for field, value in metadata.items():
        if field in SCAN_FIELDS and isinstance(value, str) and is_placeholder(value):
            left_out.append(f"{field} {one_line(repr(value))}")
        else:
            known[field] = value
    return known, left_out


FIRST_IN_SIDECAR = ("Description", "Units", "Type", "SkullStripped", "SpatialReference", "Sources")


def sidecar_path(path: PathLike) -> Path:
    """Return the path of the JSON sidecar of an image or table.

    Parameters
    ----------
    path : path-like
        A data file, or its sidecar.

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
    """Write the JSON sidecar of a data file atomically.

    Parameters
    ----------
    path : path-like
        The data file, or its sidecar.
    metadata : dict
        Numpy scalars and arrays, tuples and paths are converted; NaN and infinity become null.
        Fields are sorted by name, after those that describe the image.

    Returns
    -------
    pathlib.Path
        The sidecar.

    Raises
    ------
    TypeError
        If a value cannot be converted to JSON.
    """

    def order(field: tuple[str, object]) -> tuple[int, str]:
        name, _ = field
        is_first = name in FIRST_IN_SIDECAR
        return (FIRST_IN_SIDECAR.index(name) if is_first else len(FIRST_IN_SIDECAR), name)

    return write_json(sidecar_path(path), dict(sorted(metadata.items(), key=order)))
