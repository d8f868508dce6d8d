"""Check real and imaginary parts: both signs, a background of 0, one scale."""

from collections.abc import Mapping
from itertools import compress
from pathlib import Path

import numpy as np

from ...core.artefacts.offsets import common_offset, echo_offsets, signal_background
from ...core.artefacts.ranges import jump_fraction
from ..images import ImageSummary
from ..problems import Problem
from ..scans import Scan
from .echoes import are_rising
from .phase_encoding import LOST_FACTOR
from .signal import SWAPPED_JUMPS
from .wording import of_files

# Fraction of the values on the rarer side of 0; air has half of them on each side.
LOPSIDED = 0.1
# Offset as a fraction of the strongest values: one that moves all signals to one side of 0 is half
# of them.
OFFSET = 1 / 3
MASKED = 0.05  # fraction of voxels that are 0
RESTORE = "convert the scan again, or restore the intercept in the header"


def check_parts(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[Problem]:
    """Check that real and imaginary parts have both signs, a background of 0 and one scale."""
    paths = (*scan.real, *scan.imaginary)
    if not paths or len(scan.real) != len(scan.imaginary):
        return []
    if unsigned := [path for path in paths if _is_unsigned(summaries[path])]:
        cause = (
            "no value is negative, and neighbouring voxels jump between the ends of the range, as "
            "if negative values had wrapped around"
        )
        remedy = "convert the scan again, to signed integers or floats"
        return [of_files(scan, unsigned, cause, remedy)]
    images = np.array([summaries[path].sample for path in paths], float)
    background = signal_background(images)
    if background is not None and background.is_off_zero.any():
        off_zero = list(compress(paths, background.is_off_zero))
        level = background.level[background.is_off_zero][0]
        cause = (
            f"its background is at {level:.4g} instead of 0, as if the intercept (scl_inter) had "
            "been lost from the header"
        )
        return [of_files(scan, off_zero, cause, RESTORE)]
    problems = _check_balance(scan, paths, images)
    if background is not None and background.noise.all():
        problems += _check_noise_levels(scan, paths, background.noise)
    return problems


def _check_noise_levels(scan, paths, noise):
    """Check that all images have about the same noise, as they do if they have one scale."""
    remedy = "check its scl_slope, or convert it again"
    problems = []
    for path, ratio in zip(paths, noise / np.median(noise), strict=True):
        if not 1 / LOST_FACTOR < ratio < LOST_FACTOR:
            cause = (
                f"its noise is {ratio:.2g} times that of the other images, as if it had been scaled"
            )
            problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems


def _check_balance(scan, paths, images):
    """Check that images have values of both signs: over a head, phase takes all values."""
    is_lopsided = np.array(list(map(_rarer_sign_fraction, images))) < LOPSIDED
    real, imaginary = np.split(images, 2)
    offsets = _offsets(real + 1j * imaginary, scan.echo_times)
    cause = (
        "nearly all of its values have the same sign, as if the intercept (scl_inter) had been "
        "lost from the header"
    )
    is_off = is_lopsided & (offsets > OFFSET * np.percentile(np.abs(images), 99, axis=1))
    if is_off.any():
        return [of_files(scan, list(compress(paths, is_off)), cause, RESTORE)]
    if not is_lopsided.all():
        return []  # a phase near 0 makes one of the parts positive, at early echoes
    if len(real) > 1 and (images == 0).mean() < MASKED:
        return [of_files(scan, paths, cause, RESTORE)]
    remedy = (
        "no action is needed if the phase hardly varies at such a short echo time; otherwise "
        f"{RESTORE}"
    )
    return [of_files(scan, paths, cause, remedy, "warning")]


def _offsets(signal, echo_times):
    """Estimate what was added to each real and imaginary image, whether to all of them or to one
    echo; 0 where that cannot be determined.
    """
    if not are_rising(echo_times):
        return np.zeros(2 * len(signal))
    common = common_offset(signal, echo_times)
    separate = echo_offsets(signal, echo_times)
    alternatives = np.array([np.full(len(signal), 0 if common is None else common), separate])
    return np.hstack([np.abs(alternatives.real), np.abs(alternatives.imag)]).max(axis=0)


def _is_unsigned(summary):
    """Detect negative values that became large positive ones: then neighbouring voxels jump between
    the ends of the range.
    """
    inside = np.where(summary.block == 0, np.nan, summary.block)
    is_one_sided = summary.minimum >= 0 or summary.maximum <= 0
    return is_one_sided and jump_fraction(inside, summary.minimum, summary.maximum) > SWAPPED_JUMPS


def _rarer_sign_fraction(values):
    """Return the fraction of non-zero values that have the rarer sign; a half if all are 0."""
    n_negative = np.count_nonzero(values < 0)
    n_positive = np.count_nonzero(values > 0)
    total = n_negative + n_positive
    return min(n_negative, n_positive) / total if total else 0.5
