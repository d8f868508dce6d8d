"""Brain mask from magnitude and phase, and what is done to masks later.

The mask decides the map: background removal believes every voxel in it, so an eye or a muscle with fat's
phase in the mask ruins the field around it. All distances are in mm between voxel centres, whatever the
voxel's shape.

The volume's faces are no border anywhere here: tissue that reaches a face is taken to continue beyond it. A
slab that cuts the brain, or a crop inside it, is thus neither thinned nor lost at its ends.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from .holes import fill_holes, interpolate_unknown
from .phase import wrap_phase

# Receive coils vary smoothly over some 5 cm; tissue is what gives half the signal usual around it. Skull, at
# half a voxel of partial volume, does not.
_NEIGHBOURHOOD = 50.0
_SIGNAL_FRACTION = 0.5

# Phase quality is averaged over about the width of the thinnest skull (FWHM 3.5 mm), so that it means the
# same for small voxels as for large ones, and a single vein does not count.
_QUALITY_SMOOTHING = 1.5

# Dark or noisy specks below this volume in mm³ are vessels or small bleeds. Skull, sinuses and air hang
# together and are far larger.
_SPECK = 300.0

# A pocket of rough phase is compact if its volume is below so many times that of the largest ball in it. Where a strong
# source dephases its surroundings it is 1.2 to 1.6 times; the largest pocket of a real skull, which is thin, has 8.
_COMPACT = 3.0
_LARGEST_POCKET = 15.0  # mm, radius of that ball; a brain whose phase is all noise is none

# Roughness in rad of pure noise, which is uniform in ±π.
_NOISE_ROUGHNESS = np.pi / np.sqrt(3)

# A standard error of so many times its median is no longer that of tissue, see `trim_unreliable`.
UNRELIABLE = 5.0

# Roughness of a phantom's phase is below a limit between these: water's is below 0.3, noise's is seldom below 1.4.
_SMOOTH = (0.7, 1.4)

# Ghosts and ringing have up to a sixth of the signal beside them.
_ABOVE_GHOSTS = 0.25

# After so many passes of 25 mm what is usual has followed the coils across any phantom.
_MOST_PASSES = 20


class EmptyMaskError(ValueError):
    """No voxel is left in a mask."""


def brain_mask(magnitude, phase, voxel_size, *, max_roughness=None, opening=12.0, rim=3.0, closing=5.0):
    """Mask of the brain from signal, phase quality and depth.

    1. Signal: combined magnitude above half of the local mean of tissue (Otsu's threshold finds tissue).
    2. Phase quality: `phase_roughness` below ``max_roughness``. It excludes the surface of the scalp, fat,
       air's surroundings, and what is noise in the skull. What it leaves out of the inside, around a haemorrhage, is
       filled: compact pockets that nothing connects to the outside. Else depth would be counted from there as well.
    3. Opening: the largest component of what lies deeper than ``opening``, grown back by as much. The brain
       is the largest such body in the head: eyes have a radius of 12 mm, and the muscles around the skull are
       thinner or apart.
    4. Rim: voxels with signal within ``rim`` of that, whatever their phase quality, which is lower at the
       brain's surface because the field is steep there. What is noise there is for `trim_unreliable` to judge.
    5. Closing and filling, so that sulci, sinuses, ventricles and dark deep grey matter are inside.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude images in any unit.
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians.
    voxel_size : tuple of 3 floats
        In mm.
    max_roughness : float, optional
        In radians, see `phase_roughness`. The default follows echo time, field strength and SNR: the larger of
        Otsu's threshold over voxels with signal, and of the geometric mean of their median and pure noise.
    opening : float, optional
        In mm. The default parts the brain from eyes, muscle and scalp where they touch it.
    rim : float, optional
        In mm. The default takes back one coarse voxel or three fine ones.
    closing : float, optional
        In mm. The default closes sulci and the superior sagittal sinus, up to 10 mm wide.

    Returns
    -------
    ndarray of bool, shape (x, y, z)

    Raises
    ------
    EmptyMaskError
        If there is no signal, or nothing lies deeper than ``opening``.
    ValueError
        If shapes disagree or values are not finite.
    """
    magnitude, phase = _checked_echoes(magnitude, phase)
    combined = np.linalg.norm(magnitude.astype(np.float32, copy=False), axis=3)
    otsu = float(threshold_otsu(combined.ravel()))  # of a volume of three or four slices it would think colours
    signal = _signal(combined, otsu / 2, voxel_size)
    roughness = phase_roughness(phase, signal, voxel_size)
    if max_roughness is None:
        max_roughness = _usual_roughness(roughness[signal])
    trusted = _fill_within(signal & (roughness < max_roughness), voxel_size)

    deep = _depth(trusted, voxel_size) > opening
    if not deep.any():
        raise EmptyMaskError(
            f"No brain found: of {signal.size} voxels, {np.count_nonzero(signal)} have signal (Otsu's threshold "
            f"{otsu:.4g}, largest magnitude {combined.max():.4g}) and {np.count_nonzero(trusted)} also have "
            f"phase smoother than {max_roughness:.2g} rad, but none lies deeper than {opening:g} mm. Check that "
            "magnitude and phase belong together, or give a brain mask in a derivatives dataset."
        )
    mask = trusted & _within(largest_component(deep), voxel_size, opening)
    mask = largest_component(signal & _within(mask, voxel_size, rim))
    mask |= erode(_within(mask, voxel_size, closing), voxel_size, closing)
    return fill_holes(mask)


def phantom_mask(magnitude, phase, voxel_size, *, max_roughness=None, opening=3.0, rim=3.0):
    """Mask of a phantom from phase quality and signal.

    A phantom's parts may differ tenfold in signal (gadolinium shortens T1), so that no threshold on magnitude finds
    the dim ones and leaves the air. Air's phase is noise, whatever the signal beside it; but ghosts, and ringing
    around the phantom, have its phase at a tenth of its signal. So:

    1. Phase quality: the region of smooth phase with the most signal, opened. It is the phantom with its halo.
    2. Signal: of that, what has more than a quarter of the phantom's usual signal within 25 mm, and lies further from
       noise than from that. What is usual is a geometric mean, so that a few bright tubes do not make their water look
       dim, and follows the coils: it begins as one value for all of the region, half of whose signal's square root
       lies in brighter voxels, and is found again where there is signal until that rests.
    3. Rim: voxels with signal within ``rim``, whatever their phase quality, which air beside them lowers.
    4. Filling: what the phantom encloses, be it bright, dim or noise. What leaves it at its ends, such as a tube, is
       inside as far as it is enclosed in a plane, unless it is noise and wider than twice ``opening``.

    A part at the phantom's surface that has less than a quarter of the signal beside it is taken for a ghost, unless
    it is so large that it sets the usual signal: a dim bath around a bright ball is the phantom, a dim layer is not.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude images in any unit.
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians.
    voxel_size : tuple of 3 floats
        In mm.
    max_roughness : float, optional
        In radians, see `phase_roughness`. The default is 0.7, which a signal of five times the noise passes, or up to
        1.4 where signals are weaker: the geometric mean of their median and pure noise.
    opening : float, optional
        In mm. What is thinner than twice this is cut off.
    rim : float, optional
        In mm. The default takes back one coarse voxel or three fine ones.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        The largest component, filled.

    Raises
    ------
    EmptyMaskError
        If no such region is found.
    ValueError
        If shapes disagree or values are not finite.
    """
    magnitude, phase = _checked_echoes(magnitude, phase)
    combined = np.linalg.norm(magnitude.astype(np.float32, copy=False), axis=3)
    roughness = phase_roughness(phase, np.ones(combined.shape, bool), voxel_size)
    if max_roughness is None:
        max_roughness = np.clip(_weak_signal_roughness(combined, roughness), *_SMOOTH)
    smooth = (roughness < max_roughness) & (combined > 0)  # blanked air is as smooth as can be
    body = signal = np.zeros_like(smooth)
    deep = _depth(smooth, voxel_size) > opening
    if deep.any():
        region = _component_of_most(smooth & _within(deep, voxel_size, opening), np.sqrt(combined))
        noise = float(np.median(combined[~smooth])) if not smooth.all() else 0.0
        signal, deep = _signal_above_ghosts(combined, region, noise, voxel_size, opening)
        body = largest_component(region & signal & _within(deep, voxel_size, opening))
    if not body.any():
        raise EmptyMaskError(
            f"No phantom found: of {smooth.size} voxels, {np.count_nonzero(smooth)} have phase smoother than "
            f"{max_roughness:.2g} rad and {np.count_nonzero(smooth & signal)} also have signal, but none lies deeper "
            f"than {opening:g} mm. Check that magnitude and phase belong together, or give a mask in a derivatives "
            "dataset."
        )
    body = largest_component(signal & _within(body, voxel_size, rim))
    return _fill_inside(body, smooth | signal, voxel_size, opening)


def phase_roughness(phase, signal, voxel_size):
    """Local root mean square of phase's second differences: how far phase is from smooth.

    The phase change between the first two echoes is taken, free of the coils' own phase, or the phase of an
    only echo. Second differences between neighbours are taken modulo 2π, so nothing is unwrapped and a steep
    but steady field does not count. They are averaged over the axes and over 3.5 mm of voxels with signal.

    Parameters
    ----------
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians.
    signal : ndarray of bool, shape (x, y, z)
        Voxels that count.
    voxel_size : tuple of 3 floats
        In mm.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        In radians. Noise gives π/√3 = 1.8, brain at 3 T less than 0.2. Infinite far from any signal.

    Examples
    --------
    >>> ramp = wrap_phase(np.arange(8.0)[:, None, None, None] * np.ones((8, 8, 8, 1)))
    >>> float(phase_roughness(ramp, np.ones((8, 8, 8), bool), (1, 1, 1)).max()) < 1e-5
    True
    """
    phase = np.asarray(phase, dtype=np.float32)
    change = phase[..., 1] - phase[..., 0] if phase.shape[3] > 1 else phase[..., 0]
    square = np.zeros(change.shape, np.float32)
    for axis in range(3):
        if change.shape[axis] > 2:
            square += _second_difference(change, axis) ** 2
    sigma = [_QUALITY_SMOOTHING / size for size in voxel_size]
    weight = ndimage.gaussian_filter(signal.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(signal, square / 3, np.float32(0)), sigma)
    return np.sqrt(np.divide(total, weight, out=np.full_like(total, np.inf), where=weight > 1e-6))


def trim_unreliable(mask, standard_error, *, factor=UNRELIABLE):
    """Take voxels off the mask's surface where the field is not known.

    A voxel is unreliable if the field's standard error exceeds ``factor`` times its median in the mask. Only
    unreliable voxels connected to the outside go. Those inside have next to no weight, and the little that they tell
    of a strong source is worth having.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, in any unit. What is not finite is unreliable.
    factor : float, optional
        The standard error goes as 1/signal. Iron-rich nuclei, with two to three times the R2* of white matter,
        reach 2 to 3 times the median, and veins at 7 T about 4: they stay. 5 times means a fifth of the brain's
        signal, as in the drop-outs above the nasal and ear cavities.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        The largest component of what is left.

    Raises
    ------
    EmptyMaskError
        If nothing is left or the mask is empty.
    """
    mask = np.asarray(mask, dtype=bool)
    limit = _unreliable_from(mask, standard_error, factor)
    unreliable = mask & ~(standard_error <= limit)
    labels, n_labels = ndimage.label(~mask | unreliable)
    reaches_outside = np.zeros(n_labels + 1, bool)
    reaches_outside[labels[~mask]] = True
    kept = mask & ~(unreliable & reaches_outside[labels])
    if not kept.any():
        raise EmptyMaskError(
            f"All {np.count_nonzero(mask)} voxels of the mask have a standard error above {limit:.4g}, "
            f"which is {factor:g} times the median. Raise the factor."
        )
    return largest_component(kept)


def exclude_unresolved(mask, unresolved):
    """Take out the voxels whose phase could not be unwrapped for certain, and what only they connect.

    Unlike a noisy voxel, which has next to no weight, one that is whole turns off may look certain. Where it lies
    inside a hole is left, which belongs to the inside but tells nothing, see `holes`.

    Parameters
    ----------
    mask, unresolved : ndarray of bool, shape (x, y, z)

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        Of every component of the mask the largest piece: turns between pieces are as open as the voxels that
        part them.

    Raises
    ------
    EmptyMaskError
        If nothing is left.

    Examples
    --------
    >>> mask, unresolved = np.ones((1, 1, 7), bool), np.zeros((1, 1, 7), bool)
    >>> unresolved[..., 4] = True
    >>> exclude_unresolved(mask, unresolved).astype(int).ravel().tolist()
    [1, 1, 1, 1, 0, 0, 0]
    """
    mask = np.asarray(mask, dtype=bool)
    pieces, n_pieces = ndimage.label(mask & ~np.asarray(unresolved, dtype=bool))
    if n_pieces == 0:
        raise EmptyMaskError(
            f"All {np.count_nonzero(mask)} voxels of the mask are unresolved: phase is noise, or fringes are closer "
            "than two voxels. Check the phase images and echo times."
        )
    components = ndimage.label(mask)[0]
    piece_sizes = np.bincount(pieces.ravel())
    component_of = np.zeros(n_pieces + 1, int)
    component_of[pieces.ravel()] = components.ravel()
    by_size = np.argsort(-piece_sizes[1:], kind="stable") + 1
    largest = by_size[np.unique(component_of[by_size], return_index=True)[1]]
    return np.isin(pieces, largest)


def reliable_voxels(mask, unresolved, standard_error, *, factor=UNRELIABLE):
    """Voxels of a phantom's mask whose field is known.

    Those whose phase is resolved and whose field's standard error is at most ``factor`` times its median in the mask.
    At the walls of tubes that shine ten times brighter than the water around them, phase is not linear in time, and
    neither the fit's error nor its misfit says how wrong the field is. A phantom is alike everywhere else, so that
    little is lost.

    Parameters
    ----------
    mask, unresolved : ndarray of bool, shape (x, y, z)
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, in any unit. What is not finite is unreliable.
    factor : float, optional
        As of `trim_unreliable`.

    Returns
    -------
    ndarray of bool, shape (x, y, z)

    Raises
    ------
    EmptyMaskError
        If nothing is left.
    """
    reliable = mask & ~unresolved & (standard_error <= _unreliable_from(mask, standard_error, factor))
    if not reliable.any():
        raise EmptyMaskError(
            f"None of the {np.count_nonzero(mask)} voxels of the mask has a phase that could be unwrapped for certain. "
            "Check the phase images and echo times."
        )
    return reliable


@dataclass(frozen=True)
class KnownField:
    """A field whose unknown voxels are set apart; maps have shape (x, y, z).

    Attributes
    ----------
    mask : ndarray of bool
        The region of interest with all that it encloses.
    field : ndarray of float32
        The field in the mask; where it is not known, continued from around.
    standard_error : ndarray of float32
        Its standard error, infinite where it is not known, zero outside the mask.
    """

    mask: np.ndarray
    field: np.ndarray
    standard_error: np.ndarray


def set_unknown_apart(field, standard_error, mask, unresolved, voxel_size, *, is_phantom=False):
    """Leave voxels whose field is not known out of the mask at its surface, and without weight inside.

    Parameters
    ----------
    field, standard_error : ndarray, shape (x, y, z)
        Of a fit in the mask, any unit.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    unresolved : ndarray of bool, shape (x, y, z)
        Voxels whose phase could not be unwrapped for certain.
    voxel_size : sequence of 3 floats
        In mm.
    is_phantom : bool
        A phantom keeps its surface, and what is not among its `reliable_voxels` has no weight. Of a brain,
        `exclude_unresolved` tells what is known.

    Returns
    -------
    KnownField

    Raises
    ------
    EmptyMaskError
        If no voxel is known.
    """
    if is_phantom:
        known = reliable_voxels(mask, unresolved, standard_error)
        whole = fill_holes(mask)
    else:
        kept = exclude_unresolved(mask, unresolved)
        known = kept & np.isfinite(standard_error)
        whole = fill_holes(kept)
    if not known.any():
        raise EmptyMaskError(
            f"None of the {np.count_nonzero(mask)} voxels of the mask has a known field: there is no signal. Check the "
            "magnitude images, or give another mask."
        )
    error = np.where(known, standard_error, np.where(whole, np.inf, 0)).astype(np.float32)
    return KnownField(whole, interpolate_unknown(field, known, whole, voxel_size), error)


def erode(mask, voxel_size, distance):
    """Remove voxels within a distance of the outside.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    voxel_size : tuple of 3 floats
        In mm.
    distance : float
        In mm, from voxel centre to the nearest centre outside. The volume's faces are not outside.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        May be empty.

    Examples
    --------
    >>> mask = np.zeros((1, 1, 7), bool)
    >>> mask[..., 1:6] = True
    >>> erode(mask, (1, 1, 2), 2).astype(int).ravel().tolist()
    [0, 0, 1, 1, 1, 0, 0]
    """
    # A little more: voxel sizes are read as float32, and a distance of whole voxels should take these.
    return np.asarray(mask, dtype=bool) & (_depth(mask, voxel_size) > distance * (1 + 1e-5))


def largest_component(mask):
    """Keep the largest component of voxels that share faces.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        Empty if the mask is.
    """
    labels, n_labels = ndimage.label(mask)
    if n_labels == 0:
        return np.zeros_like(labels, dtype=bool)
    return labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1


def _unreliable_from(mask, standard_error, factor):
    """The standard error above which a voxel is unreliable."""
    finite = mask & np.isfinite(standard_error)
    if not finite.any():
        raise EmptyMaskError(
            f"The mask has {np.count_nonzero(mask)} voxels, none with a finite standard error. Give another mask."
        )
    return factor * np.median(standard_error[finite])


def _checked_echoes(magnitude, phase):
    magnitude, phase = np.asarray(magnitude), np.asarray(phase)
    if magnitude.ndim != 4 or magnitude.shape != phase.shape:
        raise ValueError(f"magnitude {magnitude.shape} and phase {phase.shape} must be (x, y, z, n_echoes) both")
    if not (np.isfinite(magnitude).all() and np.isfinite(phase).all()):
        raise ValueError("magnitude and phase must be finite")
    return magnitude, phase


def _signal(combined, floor, voxel_size):
    """Voxels with at least half of the mean of nearby tissue, tissue being what exceeds the floor."""
    tissue = combined > floor
    size = [max(1, round(_NEIGHBOURHOOD / side)) for side in voxel_size]
    share = ndimage.uniform_filter(tissue.astype(np.float32), size, mode="constant")
    mean = ndimage.uniform_filter(np.where(tissue, combined, np.float32(0)), size, mode="constant")
    return tissue & (combined * share > _SIGNAL_FRACTION * mean)


def _usual_roughness(roughness):
    """The limit between tissue's roughness and that of scalp, skull and drop-outs, from all voxels with signal."""
    if not roughness.size:
        return 0.0
    # Otsu's threshold would cut through tissue where there is nothing else; the geometric mean never does.
    return max(float(threshold_otsu(roughness)), float(np.sqrt(np.median(roughness) * _NOISE_ROUGHNESS)))


def _weak_signal_roughness(combined, roughness):
    """The limit between the roughness of a phantom and that of noise, if its signal is weak."""
    levels = np.log(combined[combined > 0])
    if not levels.size:
        return 0.0
    # Of logarithms, since parts of a phantom may differ more from each other than the dimmest from noise.
    signal = combined > np.exp(threshold_otsu(levels))
    return float(np.sqrt(np.median(roughness[signal]) * _NOISE_ROUGHNESS)) if signal.any() else 0.0


def _signal_above_ghosts(combined, region, noise, voxel_size, opening):
    """Voxels with the signal of a phantom, and those of them in a region of smooth phase that lie deep in it."""
    usual, deep = _usual_signal(combined[region]), np.zeros_like(region)
    for _ in range(_MOST_PASSES):
        signal = combined > usual * np.maximum(_ABOVE_GHOSTS, np.sqrt(noise / usual))
        known, deep = deep, _depth(region & signal, voxel_size) > opening
        if not deep.any() or np.array_equal(known, deep):
            break
        usual = _signal_around(combined, deep, voxel_size)
    return signal, deep


def _usual_signal(values):
    """The value that halves the sum of square roots: neither wide ghosts nor a few bright tubes decide it."""
    values = np.sort(values)
    share = np.cumsum(np.sqrt(values), dtype=np.float64)
    return values[np.searchsorted(share, share[-1] / 2)]


def _signal_around(combined, where, voxel_size):
    """Geometric mean of a signal, as far as it is there, in each voxel's neighbourhood; infinite far from it."""
    size = [max(1, round(_NEIGHBOURHOOD / side)) for side in voxel_size]
    share = ndimage.uniform_filter(where.astype(np.float32), size, mode="constant")
    logarithms = np.where(where, np.log(combined, where=where, out=np.zeros_like(combined)), np.float32(0))
    mean = ndimage.uniform_filter(logarithms, size, mode="constant")
    any_voxel = share > 0.5 / np.prod(size)
    return np.exp(np.divide(mean, share, out=np.full_like(mean, np.inf), where=any_voxel))


def _second_difference(phase, axis):
    """Wrapped second difference along an axis; the ends take their neighbour's."""
    first = wrap_phase(np.diff(phase, axis=axis))
    pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    return np.pad(wrap_phase(np.diff(first, axis=axis)), pad, mode="edge")


def _depth(mask, voxel_size):
    """Distance of each voxel in the mask from the outside, in mm; infinite if the volume has no outside."""
    if np.all(mask):
        return np.full(mask.shape, np.inf, np.float32)
    return ndimage.distance_transform_edt(mask, sampling=voxel_size)


def _component_of_most(mask, weight):
    """The component of voxels that share faces whose weights have the largest sum."""
    labels, _ = ndimage.label(mask)
    sums = np.bincount(labels.ravel(), weights=weight.ravel())
    return labels == np.argmax(sums[1:]) + 1


def _within(mask, voxel_size, distance):
    """Voxels no further than a distance in mm from the mask."""
    return _depth(~mask, voxel_size) <= distance * (1 + 1e-5)


def _fill_within(mask, voxel_size):
    """Fill specks and pockets: what is enclosed, compact and not large, as a dephased region is and a skull is not."""
    # Corners connect here: a thin skull in coarse voxels must not fall into specks.
    labels, n_labels = ndimage.label(~mask, np.ones((3, 3, 3)))
    volume = np.bincount(labels.ravel(), minlength=n_labels + 1) * np.prod(voxel_size)
    is_filled = volume < _SPECK
    is_enclosed = ~is_filled
    for axis in range(3):
        is_enclosed[np.unique(np.take(labels, (0, -1), axis))] = False
    is_filled[0] = is_enclosed[0] = False
    if is_enclosed.any():
        depth = _depth(is_enclosed[labels], voxel_size)
        radius = ndimage.maximum(depth, labels, index=np.arange(n_labels + 1))
        is_compact = volume < _COMPACT * 4 / 3 * np.pi * radius**3
        is_filled |= is_enclosed & is_compact & (radius < _LARGEST_POCKET)
    return mask | is_filled[labels]


def _fill_inside(body, measured, voxel_size, opening):
    """Fill what the body encloses, and what it encloses in a plane if that is thin or was measured."""
    filled = body.copy()
    for axis in range(3):
        planes = np.moveaxis(filled, axis, 0)
        for plane, of_body in zip(planes, np.moveaxis(body, axis, 0), strict=True):
            plane |= ndimage.binary_fill_holes(of_body)
    labels, n_labels = ndimage.label(filled & ~ndimage.binary_fill_holes(body))
    depth = _depth(labels > 0, voxel_size)
    deepest = ndimage.maximum(depth, labels, index=np.arange(n_labels + 1))
    # Noise of a wall makes the phase rough at its sides, so that the middle is judged.
    middle = depth > deepest[labels] / 2
    n_middle, n_measured = (np.bincount(labels[v], minlength=n_labels + 1) for v in (middle, middle & measured))
    is_air = (deepest > opening) & (2 * n_measured < n_middle)
    return filled & ~is_air[labels]
