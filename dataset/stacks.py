"""Split files that hold all echoes of a scan along a fourth axis into their echoes.

BIDS has one 3-D file for each echo, but scanners and converters also write one 4-D file. It is read
if the sidecar lists an echo time for each of its volumes.
"""

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from nibabel.filebasedimages import ImageFileError

from .content import MissingContentError, require_content
from .entities import StackedEcho, echo_number
from .index import RawImage
from .problems import UnusableScanError
from .values import as_number, counted, error_text, join_numbers
from .volumes import load_volume


class EchoImage(RawImage):
    """One echo of an image whose sidecar lists the times of all echoes.

    Parameters
    ----------
    image : multiqsm.dataset.index.RawImage
        The image.
    time : float
        The echo's time, s.
    index : int, optional
        Place of the echo along the fourth axis, from 0; None if the image has this echo alone.
    """

    def __init__(self, image: RawImage, time: float, index: int | None = None) -> None:
        super().__init__(Path(image.path), image.entities, image._sidecars, image.ignored_by)
        if index is not None:
            self.path = StackedEcho(Path(image.path), index)
            self.filename = self.path.name
        self.metadata = {**image.metadata, "EchoTime": time}


def split_stacks(images: Sequence[RawImage]) -> tuple[list[RawImage], list[str]]:
    """Replace each image that has all echoes of a scan by its echoes.

    Parameters
    ----------
    images : sequence of RawImage
        Images of one scan.

    Returns
    -------
    images : list of RawImage
        Images whose sidecar has one echo time, and the echoes of the others.
    decisions : list of str
        What was split, for the scan's record.

    Raises
    ------
    UnusableScanError
        If the number of listed times is not the number of volumes, or if the file cannot be opened.
    """
    n_files = Counter(_part(image) for image in images)
    echoes: list[RawImage] = []
    numbers_of_echoes = []
    for image in images:
        times = _listed_times(image.value("EchoTime"))
        if times is None:
            echoes.append(image)
        elif "_echo-" in image.filename:
            echoes.append(_echo_of_list(image, times, n_files[_part(image)]))
        else:
            _refuse_other_number(image, times)
            numbers_of_echoes.append(len(times))
            for index, time in enumerate(times):
                echoes.append(EchoImage(image, time, index if len(times) > 1 else None))
    decisions = []
    if max(numbers_of_echoes, default=0) > 1:
        decisions.append(
            f"{counted(len(numbers_of_echoes), 'file')} with all echoes along the fourth axis: "
            f"{max(numbers_of_echoes)} volumes, with the times that the sidecar lists"
        )
    return echoes, decisions


def _part(image):
    return image.entities.get("part", "mag")


def _listed_times(value: object) -> list[float] | None:
    """Return the echo times that a sidecar lists; None if its EchoTime is no list of numbers."""
    if not isinstance(value, list) or not value:
        return None
    times = []
    for item in value:
        time = as_number(item)
        if time is None:
            return None
        times.append(time)
    return times


def _echo_of_list(image, times, n_files):
    """Return an image named as one echo, with its own time of a list that all echoes share."""
    number = echo_number(image.path)
    if len(times) == 1:
        return EchoImage(image, times[0])
    if len(times) == n_files and 1 <= number <= n_files:
        return EchoImage(image, times[number - 1])
    raise UnusableScanError(
        f"{image.filename}: EchoTime lists {counted(len(times), 'time')} "
        f"({_milliseconds(times)} ms), but this part has {counted(n_files, 'file')}",
        "write the time of this echo alone into its sidecar",
    )


def _refuse_other_number(image: RawImage, times: Iterable[float]) -> None:
    n_volumes = _number_of_volumes(image)
    n_times = len(list(times))
    if n_volumes != n_times:
        raise UnusableScanError(
            f"{image.filename}: its sidecar lists {counted(n_times, 'echo time')} "
            f"({_milliseconds(times)} ms), but the image has {counted(n_volumes, 'volume')}",
            "correct EchoTime, or split the file into one 3-D file for each echo (fslsplit, "
            "mrconvert)",
        )


def _number_of_volumes(image):
    try:
        require_content(image.path)
        shape = load_volume(image.path).shape
    except MissingContentError as error:
        raise UnusableScanError(f"{image.filename}: {error.cause}", error.remedy) from error
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise UnusableScanError(
            f"{image.filename}: its header cannot be read ({error_text(error)})",
            "copy it again, or convert it again",
        ) from error
    if len(shape) < 4:
        return 1
    return shape[3] if len(shape) == 4 else 0


def _milliseconds(times):
    return join_numbers([1000 * time for time in times], ".4g")
