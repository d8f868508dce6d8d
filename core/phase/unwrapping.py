"""Unwrap the phase of multi-echo scans, in space and in time.

The field is the rate at which phase changes with echo time. Its estimate must not depend on the
phase offset that receive coils add to all echoes alike. The difference of two echoes has no such
offset, but it has twice the noise variance, and where signal decays it suffers from the weak later
echo. The difference therefore only serves to estimate the offset, which is smooth in space. Spatial
unwrapping is done on the first echo, and later echoes are unwrapped in time: each is predicted from
the echoes before it. Voxels where this remains ambiguous are reported by
`multiqsm.core.phase.fieldfit.FieldFit`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from .encoding import wrap_phase
from .spatial import Region

UNWRAPPINGS = ("spatial", "temporal", "individual")

# Side lengths in voxels of the boxes over which offsets are averaged. Receive phase varies over
# many more voxels than that, and within a box the few wrong voxels near air are outnumbered.
_OFFSET_SMOOTHING = 9
_REMAINDER_SMOOTHING = 7

# An echo is predicted from all earlier ones, each weighted by this power of its echo time. A high
# power favours the latest echoes: where the signal dephases, phase is not linear in time, and the
# nearest echoes extrapolate best. Some averaging of noise remains.
_LATENESS = 8

# The trend is removed before spatial unwrapping if the first echo time exceeds this many echo
# spacings: the fringes of the first echo are then that many times denser than the difference's.
_LATE = 1.5


def unwrap_echoes(
    phase: np.ndarray,
    mask: np.ndarray,
    echo_times: ArrayLike,
    *,
    unwrapping: Literal["spatial", "temporal", "individual"] = "spatial",
) -> np.ndarray:
    """Unwrap the phase of all echoes so that it is continuous in space and linear in time.

    1. Offset: the difference of the two echoes that are closest in time is unwrapped in space and
       extrapolated back to TE = 0. What this leaves of the earlier echo's phase is the phase
       offset. Only its smooth part is used, so errors in single voxels have no effect.
    2. First echo: it has most signal and fewest fringes. It is unwrapped in space after the offset
       has been subtracted, along a spanning tree. The tree prefers edges where the phase gradient
       is small and steady and agrees with the gradient of the difference. If the first echo comes
       late, the spatial trend of the difference is subtracted first, because its fringes are dense.
    3. Later echoes: each is predicted by extrapolating phase linearly in echo time, mostly from the
       echoes shortly before it, and moved by the multiple of 2π that brings it closest.

    With 'individual', which the study of Lin et al. used, all echoes are unwrapped in space
    instead, each on its own, and then made consistent in time.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians; a single echo is allowed.
    mask : ndarray of bool, shape (x, y, z)
        Voxels to unwrap. It may have several components and may touch the faces of the volume.
    echo_times : sequence of float, length n_echoes
        Echo times in s, all different, in any order; their spacing may vary.
    unwrapping : {'spatial', 'temporal', 'individual'}
        After extrapolating phase linearly in echo time, how the remainder of later echoes is
        unwrapped. 'spatial' unwraps the smooth part of the remainder in space and adds it to the
        prediction. This handles phase that is not linear in time, such as the alternating offset of
        bipolar readouts. 'temporal' assumes that the remainder lies within ±π. It is faster, and
        sufficient when phase is linear in time. 'individual' predicts nothing: every echo is
        unwrapped in space, and then each connected component of the mask, and each compact region
        within it, is moved by the multiple of 2π that makes it consistent with the other echoes.
        Fringes of late echoes are dense, so this has more errors; a single voxel in which an echo
        is a wrap off stays so.

    Returns
    -------
    ndarray of float32, shape (x, y, z, n_echoes)
        Unwrapped phase in radians: the input plus multiples of 2π inside the mask, 0 outside.

    Raises
    ------
    ValueError
        If shapes disagree, echo times repeat, the mask is empty, the way of unwrapping is unknown,
        or phase inside the mask is not finite.

    Notes
    -----
    Wrapped phase determines the result only up to a constant multiple of 2π in every connected
    component of the mask. It is chosen as follows. The median of the phase at TE = 0 lies within
    ±π. So does the median phase change over one echo spacing in the largest component; in every
    other component it lies within ±π of the largest component's.

    References
    ----------
    Lin et al., AJNR 36:467-474 (2015).

    Examples
    --------
    >>> field = np.linspace(-60, 60, 16)[:, None, None] * np.ones((16, 8, 8))  # Hz
    >>> times = [0.004, 0.012, 0.020]
    >>> true = 2 * np.pi * field[..., None] * times + 0.5
    >>> unwrapped = unwrap_echoes(wrap_phase(true), np.ones(field.shape, bool), times)
    >>> bool(np.allclose(unwrapped, true, atol=1e-4))
    True
    """
    phase, mask, times = _checked(phase, mask, echo_times, unwrapping)
    region = Region(mask)
    # A row for each echo, a column for each voxel of the mask.
    echoes = np.ascontiguousarray(phase[mask].T, dtype=np.float32)

    if unwrapping == "individual":
        unwrapped = _individually(echoes, times, region)
    else:
        unwrapped = _predicted_in_time(echoes, times, region, unwrapping)

    result = np.zeros(phase.shape, np.float32)
    result[mask] = unwrapped.T
    return result


def _checked(phase, mask, echo_times, unwrapping):
    phase = np.asarray(phase)
    mask = np.asarray(mask, dtype=bool)
    times = np.asarray(echo_times, dtype=np.float64)
    if phase.ndim != 4 or phase.shape[:3] != mask.shape or times.shape != phase.shape[3:]:
        raise ValueError(
            f"shapes disagree: phase {phase.shape} must be (x, y, z, n_echoes), the mask "
            f"{mask.shape} must be (x, y, z), and there must be n_echoes echo times, not "
            f"{times.shape}"
        )
    if len(np.unique(times)) != len(times):
        raise ValueError(f"echo times must differ from each other: {times.tolist()}")
    if unwrapping not in UNWRAPPINGS:
        raise ValueError(f"unwrapping must be one of {UNWRAPPINGS}, not {unwrapping!r}")
    if not mask.any():
        raise ValueError("the mask is empty: there is no voxel to unwrap")
    if not np.isfinite(phase[mask]).all():
        raise ValueError("phase inside the mask is not finite: remove NaN and infinite values")
    return phase, mask, times


def _predicted_in_time(echoes, times, region, unwrapping):
    """Unwrap the first echo in space, and each later one after predicting it from those before.

    Rows of the array are replaced by unwrapped phase one after the other, in the order of echo
    times.
    """
    by_time = np.argsort(times)
    first = by_time[0]
    offset, echoes[first] = _first_echo(echoes, times, region)
    # Phase without any offset, that is, proportional to echo time where the field alone made it.
    linear = np.empty_like(echoes)
    linear[first] = echoes[first] - offset
    for n in range(1, len(by_time)):
        earlier = by_time[:n]
        echo = by_time[n]
        predicted = _extrapolated(linear, times, earlier, echo) + offset
        own_offset = np.float32(0)
        # The common offset is that of the first two echoes, so only later ones have one of their
        # own (even echoes of a bipolar readout differ from odd ones).
        if unwrapping == "spatial" and n > 1:
            remainder = region.smooth(echoes[echo] - predicted, _REMAINDER_SMOOTHING)
            own_offset = region.centre(region.unwrap(remainder))
        echoes[echo] = _closest_to(predicted + own_offset, echoes[echo])
        linear[echo] = echoes[echo] - offset - own_offset
    return echoes


def _individually(wrapped, times, region):
    """Unwrap every echo in space on its own, then make the echoes consistent in time.

    The multiple of 2π of a component is free in every echo. The two echoes that are closest in time
    fix two of them: their difference, and the phase at TE = 0 that it implies, as in the other
    ways. The other echoes are moved to the line through these two.

    Where the field jumps, as at the wall of a tube, the phase of a late echo jumps by more than π.
    Everything behind the wall is then a whole wrap off in this echo and not in others. Such regions
    are moved to the line too.
    """
    echoes = np.stack([region.unwrap(echo) for echo in wrapped])
    if len(times) == 1:
        return region.centre(echoes[0])[None]
    earlier, later = _closest_echoes(times)
    spacing = times[later] - times[earlier]
    difference = region.centre(echoes[later] - echoes[earlier], relative=True)
    change = difference * np.float32(times[earlier] / spacing)  # since TE = 0
    offset = region.centre(echoes[earlier] - change)
    echoes[earlier] = offset + change
    echoes[later] = echoes[earlier] + difference
    for echo in np.argsort(np.abs(times - times[earlier])):
        if echo not in (earlier, later):
            predicted = offset + difference * np.float32(times[echo] / spacing)
            echoes[echo] = predicted + region.centre(echoes[echo] - predicted)
    return _with_consistent_regions(echoes, times, *_line(wrapped, times, region), region)


def _with_consistent_regions(echoes, times, offset, difference, region):
    """Move each compact region of an echo that is a wrap off from what earlier echoes predict.

    The first echo is predicted by the difference of the two closest ones.
    """
    by_time = np.argsort(times)
    linear = np.empty_like(echoes)
    for n, echo in enumerate(by_time):
        if n == 0:
            earlier, later = _closest_echoes(times)
            predicted = difference * np.float32(times[echo] / (times[later] - times[earlier]))
        else:
            predicted = _extrapolated(linear, times, by_time[:n], echo)
        remainder = echoes[echo] - offset - predicted
        # Multiples of 2π have no effect on the smooth part, an offset that this echo may have.
        own_offset = region.unwrap(region.smooth(remainder, _REMAINDER_SMOOTHING))
        wraps = np.rint((remainder - own_offset) * np.float32(1 / (2 * np.pi)))
        wraps -= np.median(wraps)  # the multiple of the whole has been chosen before
        echoes[echo] -= np.float32(2 * np.pi) * region.in_bulk(wraps)
        linear[echo] = echoes[echo] - offset - region.centre(own_offset)
    return echoes


def _extrapolated(linear, times, earlier, echo):
    """Return the weighted mean of what each earlier echo alone, as a line through 0, predicts."""
    weight = times[earlier] ** _LATENESS
    line = (weight * (times[echo] / times[earlier]) / np.sum(weight)).astype(np.float32)
    return line @ linear[earlier]


def _line(wrapped, times, region):
    """Return the smooth phase at TE = 0 and the unwrapped difference of the two closest echoes.

    The difference is small where the field jumps, so that it is unwrapped more safely than a late
    echo.
    """
    earlier, later = _closest_echoes(times)
    spacing = times[later] - times[earlier]
    difference = wrap_phase(wrapped[later] - wrapped[earlier])
    unwrapped = region.centre(region.unwrap(difference), relative=True)
    at_zero = wrapped[earlier] - unwrapped * np.float32(times[earlier] / spacing)
    # Where the difference is noise, so is its extrapolation: a second pass fills these voxels in.
    offset = region.centre(region.unwrap(region.smooth(at_zero, _OFFSET_SMOOTHING, passes=2)))
    return offset, unwrapped


def _closest_echoes(times):
    """Return the indices of the two echoes that are closest in time, the earlier first."""
    by_time = np.argsort(times)
    # Rounded, so that among equal spacings the first wins and not floating-point error decides.
    first = np.argmin(np.round(np.diff(times[by_time]), 9))
    return by_time[first : first + 2]


def _first_echo(wrapped, times, region):
    """Return the smooth phase offset (phase at TE = 0) and the unwrapped phase of the first echo.

    With a single echo the offset cannot be determined and is set to zero.
    """
    if len(times) == 1:
        return np.float32(0), region.centre(region.unwrap(wrapped[0]))
    earlier, later = _closest_echoes(times)
    first = np.argmin(times)
    spacing = times[later] - times[earlier]
    difference = wrap_phase(wrapped[later] - wrapped[earlier])
    offset, unwrapped = _line(wrapped, times, region)
    echo = wrap_phase(wrapped[first] - offset)
    time_ratio = np.float32(times[first] / spacing)  # of phase in the first echo to the difference
    if times[first] > _LATE * spacing:
        trend = region.trend(unwrapped)
        echo_trend = trend * time_ratio
        reference_phase = wrap_phase(difference - trend)
    else:
        echo_trend = np.float32(0)
        reference_phase = difference
    detrended = wrap_phase(echo - echo_trend)
    echo = echo_trend + region.unwrap(
        detrended, reference_phase=reference_phase, ratio=1 / time_ratio
    )
    # Each component may still be off by a multiple of 2π, which is determined by the difference,
    # scaled to the first echo time.
    scaled = unwrapped * time_ratio
    return offset, _closest_to(scaled + region.centre(echo - scaled) + offset, wrapped[first])


def _closest_to(estimate, wrapped):
    """Add the multiples of 2π to wrapped phase that bring it closest to an estimate."""
    return wrapped + np.float32(2 * np.pi) * np.rint(
        (estimate - wrapped) * np.float32(1 / (2 * np.pi))
    )
