"""Quality control: does a map look as physics says it must?"""

from dataclasses import dataclass

import numpy as np
from skimage.measure import block_reduce

from .background.projection import pdf
from .holes import interpolate_unmeasured
from .inversion.closed_form import deterministic
from .mask.brain import brain_mask
from .mask.reliability import FilledField, fill_unmeasured, trim_unreliable
from .mask.shapes import EmptyMaskError, erode
from .phase.fieldfit import fit_field
from .phase.unwrapping import unwrap_echoes
from .robust import robust_sd

COARSE = 3.0  # mm; nuclei are still several voxels, and a map takes seconds
ROUGH = 1e-2  # tolerance of background removal; a sign needs no better

DEEP = 10.0  # mm; nearer to the brain's surface, what background removal has left would decide
SMALLEST_BRAIN = 400e3  # mm³; a piece of a brain may hold no nuclei
SMALLEST_DEEP = (
    250e3  # mm³ of it that lie deep; the lowest slices of a head have less and no nuclei
)

# Values further from the median than this, in robust standard deviations, count as if they were
# this far: nuclei and veins, which reach further, fill more than one voxel in a hundred, and
# lesions seldom do.
FURTHEST = 5.0

# About half of the least that whole heads of the right sign have, and beyond what water has;
# docs/audit.md has figures.
WRONG_SIGN = -0.25


@dataclass(frozen=True)
class SignCheck:
    """Whether phase has the right sign.

    Attributes
    ----------
    asymmetry : float or None
        Skewness of susceptibility deep in the brain, positive if the sign is right; None if it
        cannot be judged.
    """

    asymmetry: float | None

    @property
    def looks_wrong(self):
        """Whether the asymmetry is so far below 0 that the sign must be wrong."""
        return self.asymmetry is not None and self.asymmetry < WRONG_SIGN


def check_sign(local_field, mask, voxel_size, *, b0_dir):
    """Tell a phase of wrong sign: susceptibility deep in the brain is skewed to the dark side.

    Deep grey nuclei and veins are paramagnetic and stand far above the brain's median; nothing
    healthy that is as large stands so far below. A phase of the wrong sign turns that around. The
    map that is judged is the closed form's, whatever maps are wanted: it turns round with the
    field, and water's is hardly skewed, whereas MEDI's, which is flat but for some edges, may be
    skewed either way.

    Parameters
    ----------
    local_field : ndarray, shape (x, y, z)
        Field of a brain without background, in any unit that grows with the field if the sign is
        right.
    mask : ndarray of bool, shape (x, y, z)
        Where it is known; what lies deeper than 10 mm counts.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.

    Returns
    -------
    SignCheck
        Without a verdict if the mask has less than 400 mL or less than 250 mL of it lie deep.
    """
    deep = _judged(mask, voxel_size)
    if deep is None:
        return SignCheck(None)
    return SignCheck(
        clipped_skewness(deterministic(local_field, mask, voxel_size, b0_dir=b0_dir).chi[deep])
    )


def check_sign_of_total(field, mask, voxel_size, *, standard_error, b0_dir):
    """`check_sign` of a total field, coarse and with its background removed by `pdf`, whatever maps
    are made from.

    Other methods may leave less of the nuclei's field, and fine voxels would take minutes.

    Parameters
    ----------
    field, standard_error : ndarray, shape (x, y, z)
        Total field and its standard error, in any unit that grows with the field if the sign is
        right. The error is infinite where the field is not known.
    mask, voxel_size, b0_dir
        As of `check_sign`.

    Returns
    -------
    SignCheck
    """
    if _judged(mask, voxel_size) is None:
        return SignCheck(None)
    total, sides = _coarse_field(field, standard_error, mask, voxel_size)
    where = {"voxel_size": sides, "b0_dir": b0_dir}
    removal = pdf(
        total.field, total.mask, standard_error=total.standard_error, tolerance=ROUGH, **where
    )
    return check_sign(removal.local_field, removal.mask, **where)


def clipped_skewness(values):
    """Skewness after clipping at five robust standard deviations about the median.

    Outliers count, but not by how far they lie out: a strong lesion of some voxels does not decide.

    Parameters
    ----------
    values : ndarray
        In any unit.

    Returns
    -------
    float
        0 if more than half of the values are the same.

    Examples
    --------
    >>> round(clipped_skewness(np.array([-2, -1, 0, 1, 2, 1000.0])), 2)
    1.47
    """
    departure = values - np.median(values)
    spread = robust_sd(departure)
    if spread == 0:
        return 0.0
    clipped = np.clip(departure / spread, -FURTHEST, FURTHEST).astype(np.float64)
    clipped -= clipped.mean()
    return float(np.mean(clipped**3) / np.mean(clipped**2) ** 1.5)


def coarse_signal(signal, voxel_size, size=COARSE):
    """Average an echo's complex signal over blocks of voxels.

    Parameters
    ----------
    signal : ndarray of complex, shape (x, y, z)
        Any unit.
    voxel_size : sequence of 3 floats
        mm.
    size : float
        What the blocks' sides come to at most, mm; a voxel that is larger stays as it is.

    Returns
    -------
    signal : ndarray of complex64
        Blocks that reach over the end are filled with 0.
    voxel_size : tuple of 3 floats
        Of the blocks.

    Examples
    --------
    >>> blocks, sides = coarse_signal(np.ones((10, 9, 4)), (1, 1.2, 2.5))
    >>> blocks.shape, sides
    ((4, 5, 4), (3.0, 2.4, 2.5))
    """
    factors, sides = _blocks(voxel_size, size)
    return block_reduce(np.asarray(signal, np.complex64), factors, np.mean), sides


def coarse_mask(mask, voxel_size, size=COARSE):
    """A mask on the grid of `coarse_signal`: blocks that it fills by half or more, ndarray of
    bool.
    """
    factors, _ = _blocks(voxel_size, size)
    return block_reduce(mask.astype(np.float32), factors, np.mean) >= 0.5


def quick_sign_check(signal, echo_times, voxel_size, *, b0_dir, mask=None):
    """Tell a phase of wrong sign from the echoes alone: `check_sign` of a coarse field that takes
    seconds.

    The field is made as others are, by `brain_mask`, `unwrap_echoes`, `fit_field`,
    `trim_unreliable`, `fill_unmeasured` and `pdf`; a mask that the user brought is not trimmed.

    Parameters
    ----------
    signal : ndarray of complex, shape (x, y, z, n_echoes)
        Of all echoes, coarse as from `coarse_signal`; its phase grows with the field if the sign is
        right.
    echo_times : sequence of float
        s.
    voxel_size : sequence of 3 floats
        mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    mask : ndarray of bool, shape (x, y, z), optional
        Brain mask that the user brought; one is made by default.

    Returns
    -------
    SignCheck
        Without a verdict if no brain is found, or too little of it.
    """
    magnitude = np.abs(signal)
    phase = np.angle(signal)
    try:
        brain = brain_mask(magnitude, phase, voxel_size) if mask is None else mask
        if not brain.any():
            return SignCheck(None)
        unwrapped = unwrap_echoes(phase, brain, echo_times, mode="temporal")
        # The asymmetry is a ratio: any frequency will do.
        fit = fit_field(unwrapped, magnitude, echo_times, brain, centre_frequency=128.0)
        trimmed = trim_unreliable(brain, fit.standard_error) if mask is None else brain
        total = fill_unmeasured(fit.field, fit.standard_error, trimmed, fit.unresolved, voxel_size)
    except EmptyMaskError:
        return SignCheck(None)
    where = {"voxel_size": voxel_size, "b0_dir": b0_dir}
    return check_sign_of_total(
        total.field, total.mask, standard_error=total.standard_error, **where
    )


def _coarse_field(field, standard_error, mask, voxel_size):
    """Means over blocks of what is known of a field, a `FilledField`, and the blocks' sides in
    mm.
    """
    factors, sides = _blocks(voxel_size, COARSE)

    def total(values):
        return block_reduce(np.where(known, values, 0).astype(np.float64), factors, np.sum)

    known = mask & np.isfinite(standard_error)
    n_known = total(1)
    coarse = coarse_mask(mask, voxel_size)
    some = np.maximum(n_known, 1)
    error = np.where(n_known > 0, np.sqrt(total(np.square(standard_error))) / some, np.inf)
    filled = interpolate_unmeasured(total(field) / some, n_known > 0, coarse, sides)
    return FilledField(coarse, filled, np.where(coarse, error, 0).astype(np.float32)), sides


def _blocks(voxel_size, size):
    """How many voxels a block has along each axis, and its sides in mm."""
    factors = tuple(max(1, int(size / side + 1e-3)) for side in voxel_size)
    return factors, tuple(
        factor * float(side) for factor, side in zip(factors, voxel_size, strict=True)
    )


def _judged(mask, voxel_size):
    """What of a brain tells the sign: its deep part, or None if there is too little of it."""
    deep = erode(mask, voxel_size, DEEP)
    brain_volume, deep_volume = (
        np.count_nonzero(part) * np.prod(voxel_size) for part in (mask, deep)
    )
    return deep if brain_volume >= SMALLEST_BRAIN and deep_volume >= SMALLEST_DEEP else None
