"""Real and imaginary parts: both signs, a background of 0, one scale."""

from itertools import compress

import numpy as np

from ...core.artefacts.offsets import common_offset, echo_offsets, signal_background
from ...core.artefacts.ranges import jump_fraction
from ..problems import Problem
from .echoes import are_rising
from .phase_encoding import LOST_FACTOR
from .signal import SWAPPED_JUMPS
from .wording import of_files

LOPSIDED = 0.1  # share of the values on one side of 0: air has half of them on each
OFFSET = 1 / 3  # of the strongest values: what moves signals to one side of 0 is half of them
MASKED = 0.05  # share of voxels that are 0
RESTORE = "convert the scan again, or write the intercept into the header"


def check_parts(scan, summaries):
    """Real and imaginary parts have both signs, lie about a background of 0, and share one
    scale.
    """
    paths = (*scan.real, *scan.imaginary)
    if not paths or len(scan.real) != len(scan.imaginary):
        return []
    if unsigned := [path for path in paths if _is_unsigned(summaries[path])]:
        cause = (
            "no value is negative, and neighbours jump from end to end of the range, as if "
            "negative ones were wrapped"
        )
        return [
            of_files(
                scan, unsigned, cause, "convert the scan again, to signed integers or to floats"
            )
        ]
    images = np.array([summaries[path].sample for path in paths], float)
    background = signal_background(images)
    if background is not None and background.is_off_zero.any():
        off = list(compress(paths, background.is_off_zero))
        level = background.level[background.is_off_zero][0]
        cause = (
            f"its background lies at {level:.4g} and not at 0, as if the header had lost its "
            "intercept (scl_inter)"
        )
        return [of_files(scan, off, cause, RESTORE)]
    problems = _check_balance(scan, paths, images)
    if background is not None and background.noise.all():
        ratios = background.noise / np.median(background.noise)
        for path, ratio in zip(paths, ratios, strict=True):
            if not 1 / LOST_FACTOR < ratio < LOST_FACTOR:
                cause = (
                    f"its noise is {ratio:.2g} times that of the other images, as if it had been "
                    "scaled"
                )
                remedy = "see its scl_slope, or convert it again"
                problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems


def _check_balance(scan, paths, images):
    """Signals turn about 0, so that the images of a head hold both signs."""
    is_lopsided = np.array([_smaller_side(image) < LOPSIDED for image in images])
    real, imaginary = np.split(images, 2)
    offsets = _offsets(real + 1j * imaginary, scan.echo_times)
    cause = (
        "its values have one sign, or nearly so, as if the header had lost its intercept "
        "(scl_inter)"
    )
    is_off = is_lopsided & (offsets > OFFSET * np.percentile(np.abs(images), 99, axis=1))
    if is_off.any():
        return [of_files(scan, list(compress(paths, is_off)), cause, RESTORE)]
    if not is_lopsided.all():
        return []  # a phase near 0 makes one of the parts positive, at early echoes
    if len(real) > 1 and (images == 0).mean() < MASKED:
        return [of_files(scan, paths, cause, RESTORE)]
    remedy = f"nothing needs doing if the phase hardly varies so early; else {RESTORE}"
    return [of_files(scan, paths, cause, remedy, "warning")]


def _offsets(signal, echo_times):
    """What was added to each real and imaginary image, to all of them or to one echo; 0 where it
    cannot be told.
    """
    if not are_rising(echo_times):
        return np.zeros(2 * len(signal))
    common = common_offset(signal, echo_times)
    own = echo_offsets(signal, echo_times)
    alternatives = np.array([np.full(len(signal), 0 if common is None else common), own])
    return np.hstack([np.abs(alternatives.real), np.abs(alternatives.imag)]).max(axis=0)


def _is_unsigned(summary):
    """Negative values that lost their sign lie at the other end of the range: neighbours jump there
    and back.
    """
    inside = np.where(summary.block == 0, np.nan, summary.block)
    is_one_sided = summary.minimum >= 0 or summary.maximum <= 0
    return is_one_sided and jump_fraction(inside, summary.minimum, summary.maximum) > SWAPPED_JUMPS


def _smaller_side(values):
    """Share of the values on the side of 0 that has fewer; a half if all are 0."""
    sides = [np.count_nonzero(values < 0), np.count_nonzero(values > 0)]
    return min(sides) / sum(sides) if any(sides) else 0.5
