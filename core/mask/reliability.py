"""Voxels of a mask whose field is not known: trimmed off at the surface, without weight inside."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..holes import fill_holes, interpolate_unmeasured
from .shapes import EmptyMaskError, largest_component

# A standard error of so many times its median is no longer that of tissue, see `trim_unreliable`.
UNRELIABLE = 5.0


def trim_unreliable(mask, standard_error, *, factor=UNRELIABLE):
    """Take voxels off the mask's surface where the field is not known.

    A voxel is unreliable if the field's standard error exceeds ``factor`` times its median in the
    mask. Only unreliable voxels connected to the outside go. Those inside have next to no weight,
    and the little that they tell of a strong source is worth having.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, in any unit. What is not finite is unreliable.
    factor : float, optional
        The standard error goes as 1/signal. Iron-rich nuclei, with two to three times the R2* of
        white matter, reach 2 to 3 times the median, and veins at 7 T about 4: they stay. 5 times
        means a fifth of the brain's signal, as in the drop-outs above the nasal and ear cavities.

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
            f"All {np.count_nonzero(mask)} voxels of the mask have a standard error above "
            f"{limit:.4g}, "
            f"which is {factor:g} times the median. Raise the factor."
        )
    return largest_component(kept)


def exclude_unresolved(mask, unresolved):
    """Take out the voxels whose phase could not be unwrapped for certain, and what only they
    connect.

    Unlike a noisy voxel, which has next to no weight, one that is whole turns off may look certain.
    Where it lies inside a hole is left, which belongs to the inside but tells nothing, see `holes`.

    Parameters
    ----------
    mask, unresolved : ndarray of bool, shape (x, y, z)

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        Of every component of the mask the largest piece: turns between pieces are as open as the
        voxels that part them.

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
            f"All {np.count_nonzero(mask)} voxels of the mask are unresolved: phase is noise, or "
            "fringes are closer "
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

    Those whose phase is resolved and whose field's standard error is at most ``factor`` times its
    median in the mask. At the walls of tubes that shine ten times brighter than the water around
    them, phase is not linear in time, and neither the fit's error nor its misfit says how wrong the
    field is. A phantom is alike everywhere else, so that little is lost.

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
    reliable = (
        mask & ~unresolved & (standard_error <= _unreliable_from(mask, standard_error, factor))
    )
    if not reliable.any():
        raise EmptyMaskError(
            f"None of the {np.count_nonzero(mask)} voxels of the mask has a phase that could be "
            "unwrapped for certain. "
            "Check the phase images and echo times."
        )
    return reliable


@dataclass(frozen=True)
class FilledField:
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


def fill_unmeasured(field, standard_error, mask, unresolved, voxel_size, *, is_phantom=False):
    """Leave voxels whose field is not known out of the mask at its surface, and without weight
    inside.

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
        A phantom keeps its surface, and what is not among its `reliable_voxels` has no weight. Of a
        brain, `exclude_unresolved` tells what is known.

    Returns
    -------
    FilledField

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
            f"None of the {np.count_nonzero(mask)} voxels of the mask has a known field: there is "
            "no signal. Check the "
            "magnitude images, or give another mask."
        )
    error = np.where(known, standard_error, np.where(whole, np.inf, 0)).astype(np.float32)
    return FilledField(whole, interpolate_unmeasured(field, known, whole, voxel_size), error)


def _unreliable_from(mask, standard_error, factor):
    """The standard error above which a voxel is unreliable."""
    finite = mask & np.isfinite(standard_error)
    if not finite.any():
        raise EmptyMaskError(
            f"The mask has {np.count_nonzero(mask)} voxels, none with a finite standard error. "
            "Give another mask."
        )
    return factor * np.median(standard_error[finite])
