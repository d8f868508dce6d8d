"""Quality control: check that phase has the right sign, by the skewness of susceptibility."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.measure import block_reduce

from .background.projection import pdf
from .grid import Vector
from .holes import interpolate_unmeasured
from .inversion.closed_form import deterministic
from .mask.brain import brain_mask
from .mask.reliability import FilledField, fill_unmeasured, trim_unreliable
from .mask.shapes import EmptyMaskError, erode
from .phase.fieldfit import fit_field
from .phase.unwrapping import unwrap_echoes
from .robust import robust_sd

COARSE = 3.0  # mm; nuclei are still several voxels wide, and a map takes seconds
ROUGH_TOLERANCE = 1e-2  # tolerance of background removal; the sign needs no better

# Depth below the mask's surface, mm. Nearer to the surface, residual background would dominate.
DEEP = 10.0
SMALLEST_BRAIN = 400e3  # mm³; a smaller piece of a brain may hold no nuclei
# Volume of the deep part, mm³. The lowest slices of a head have less of it, and no nuclei.
SMALLEST_DEEP = 250e3

# Deviations from the median are clipped to this many robust standard deviations. Nuclei and veins
# exceed it in more than one voxel in a hundred, which lesions seldom do.
CLIP_SDS = 5.0

# About half of the least asymmetry of whole heads with the right sign, and beyond that of water;
# see the figures in docs/audit.md.
WRONG_SIGN = -0.25


@dataclass(frozen=True)
class SignCheck:
    """Evidence for the sign of the phase.

    Attributes
    ----------
    asymmetry : float or None
        Skewness of susceptibility deep in the brain, positive if the sign is right; None if it
        cannot be judged.
    """

    asymmetry: float | None

    @property
    def looks_wrong(self) -> bool:
        """Whether the asymmetry is so negative that the sign must be wrong."""
        return self.asymmetry is not None and self.asymmetry < WRONG_SIGN


def check_sign(
    local_field: np.ndarray, mask: np.ndarray, voxel_size: Vector, *, b0_dir: Vector
) -> SignCheck:
    """Check the sign of the phase by the skewness of susceptibility deep in the brain.

    Deep grey nuclei and veins are paramagnetic and lie far above the brain's median susceptibility;
    no healthy structure of that size lies as far below. With the wrong sign of the phase, the skew
    is reversed. The skewness is always that of the closed-form inversion, whichever inversion makes
    the maps: it is linear, so the map changes sign with the field, and it is nearly unskewed for
    water. MEDI's piecewise constant maps may be skewed either way.

    Parameters
    ----------
    local_field : ndarray, shape (x, y, z)
        Local field, in any unit that increases with the field if the sign is right.
    mask : ndarray of bool, shape (x, y, z)
        Where the field is valid. Only voxels deeper than 10 mm are used.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.

    Returns
    -------
    SignCheck
        Without an asymmetry if the mask has less than 400 mL, or its deep part less than 250 mL.
    """
    deep = _deep_part(mask, voxel_size)
    if deep is None:
        return SignCheck(None)
    chi = deterministic(local_field, mask, voxel_size, b0_dir=b0_dir).chi
    return SignCheck(clipped_skewness(chi[deep]))


def check_sign_of_total(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    standard_error: np.ndarray,
    b0_dir: Vector,
) -> SignCheck:
    """Check the sign of a total field: `check_sign` on coarse voxels after `pdf`.

    PDF is used whichever background removal makes the maps, since other methods may remove more of
    the nuclei's field. The voxels are averaged to coarse ones, as fine ones would take minutes.

    Parameters
    ----------
    field, standard_error : ndarray, shape (x, y, z)
        Total field and its standard error, in any unit that increases with the field if the sign is
        right. The error is infinite where the field is not measured.
    mask, voxel_size, b0_dir
        As of `check_sign`.

    Returns
    -------
    SignCheck
    """
    if _deep_part(mask, voxel_size) is None:
        return SignCheck(None)
    total, block_size = _coarse_field(field, standard_error, mask, voxel_size)
    removal = pdf(
        total.field,
        total.mask,
        block_size,
        b0_dir=b0_dir,
        standard_error=total.standard_error,
        tolerance=ROUGH_TOLERANCE,
    )
    return check_sign(removal.local_field, removal.mask, block_size, b0_dir=b0_dir)


def clipped_skewness(values: np.ndarray) -> float:
    """Return the skewness of values clipped to five robust standard deviations about the median.

    Clipping bounds the influence of each outlier, so that a few voxels of a strong lesion do not
    determine the result.

    Parameters
    ----------
    values : ndarray
        Any unit.

    Returns
    -------
    float
        0 if more than half of the values are the same.

    Examples
    --------
    >>> round(clipped_skewness(np.array([-2, -1, 0, 1, 2, 1000.0])), 2)
    1.47
    """
    deviation = values - np.median(values)
    spread = robust_sd(deviation)
    if spread == 0:
        return 0.0
    clipped = np.clip(deviation / spread, -CLIP_SDS, CLIP_SDS).astype(np.float64)
    clipped -= clipped.mean()
    return float(np.mean(clipped**3) / np.mean(clipped**2) ** 1.5)


def coarse_signal(
    signal: np.ndarray, voxel_size: Vector, size: float = COARSE
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Average an echo's complex signal over blocks of voxels.

    Parameters
    ----------
    signal : ndarray of complex, shape (x, y, z)
        Any unit.
    voxel_size : sequence of 3 floats
        mm.
    size : float
        Greatest side length of a block, mm. A voxel that is larger is a block of its own.

    Returns
    -------
    signal : ndarray of complex64
        Means over the blocks. Those that reach beyond the volume are padded with zeros.
    voxel_size : tuple of 3 floats
        Side lengths of the blocks, mm.

    Examples
    --------
    >>> blocks, sides = coarse_signal(np.ones((10, 9, 4)), (1, 1.2, 2.5))
    >>> blocks.shape, sides
    ((4, 5, 4), (3.0, 2.4, 2.5))
    """
    factors, block_size = _blocks(voxel_size, size)
    return block_reduce(np.asarray(signal, np.complex64), factors, np.mean), block_size


def coarse_mask(mask: np.ndarray, voxel_size: Vector, size: float = COARSE) -> np.ndarray:
    """Return a mask on the grid of `coarse_signal`: the blocks of which it fills at least half.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    voxel_size, size
        As of `coarse_signal`.

    Returns
    -------
    ndarray of bool
    """
    factors, _ = _blocks(voxel_size, size)
    return block_reduce(mask.astype(np.float32), factors, np.mean) >= 0.5


def quick_sign_check(
    signal: np.ndarray,
    echo_times: Sequence[float],
    voxel_size: Vector,
    *,
    b0_dir: Vector,
    mask: np.ndarray | None = None,
) -> SignCheck:
    """Check the sign of the phase from coarse echoes, within seconds.

    The total field is made as that of the maps: by `brain_mask`, `unwrap_echoes`, `fit_field`,
    `trim_unreliable` and `fill_unmeasured`, then judged by `check_sign_of_total`. A mask supplied
    by the user is not trimmed.

    Parameters
    ----------
    signal : ndarray of complex, shape (x, y, z, n_echoes)
        Echoes, coarse as from `coarse_signal`. The phase increases with the field if the sign is
        right.
    echo_times : sequence of float
        Echo times, s.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    mask : ndarray of bool, shape (x, y, z), optional
        Brain mask supplied by the user. Computed from the echoes by default.

    Returns
    -------
    SignCheck
        Without an asymmetry if no brain is found, or too little of it.
    """
    magnitude = np.abs(signal)
    phase = np.angle(signal)
    try:
        brain = brain_mask(magnitude, phase, voxel_size) if mask is None else mask
        if not brain.any():
            return SignCheck(None)
        unwrapped = unwrap_echoes(phase, brain, echo_times, unwrapping="temporal")
        # The skewness has no unit, so any centre frequency will do.
        fit = fit_field(unwrapped, magnitude, echo_times, brain, centre_frequency=128.0)
        trimmed = trim_unreliable(brain, fit.standard_error) if mask is None else brain
        total = fill_unmeasured(fit.field, fit.standard_error, trimmed, fit.unresolved, voxel_size)
    except EmptyMaskError:
        return SignCheck(None)
    return check_sign_of_total(
        total.field, total.mask, voxel_size, standard_error=total.standard_error, b0_dir=b0_dir
    )


def _coarse_field(field, standard_error, mask, voxel_size):
    """Average the measured voxels of a field over blocks.

    Returns a `FilledField`, and the side lengths of the blocks in mm.
    """
    factors, block_size = _blocks(voxel_size, COARSE)
    measured = mask & np.isfinite(standard_error)

    def sum_measured(values):
        return block_reduce(np.where(measured, values, 0).astype(np.float64), factors, np.sum)

    n_measured = sum_measured(1)
    coarse = coarse_mask(mask, voxel_size)
    divisor = np.maximum(n_measured, 1)
    error_of_mean = np.sqrt(sum_measured(np.square(standard_error))) / divisor
    error = np.where(n_measured > 0, error_of_mean, np.inf)
    filled = interpolate_unmeasured(
        sum_measured(field) / divisor, n_measured > 0, coarse, block_size
    )
    return FilledField(coarse, filled, np.where(coarse, error, 0).astype(np.float32)), block_size


def _blocks(voxel_size, size):
    """Return how many voxels a block has along each axis, and its side lengths in mm."""
    factors = []
    block_size = []
    for side in voxel_size:
        factor = max(1, int(size / side + 1e-3))
        factors.append(factor)
        block_size.append(factor * float(side))
    return tuple(factors), tuple(block_size)


def _deep_part(mask, voxel_size):
    """Return the part of a brain that the sign is judged by, or None if it is too small."""
    deep = erode(mask, voxel_size, DEEP)
    voxel_volume = np.prod(voxel_size)
    brain_volume = np.count_nonzero(mask) * voxel_volume
    deep_volume = np.count_nonzero(deep) * voxel_volume
    return deep if brain_volume >= SMALLEST_BRAIN and deep_volume >= SMALLEST_DEEP else None
