"""Handle voxels of a mask whose field is unreliable or not measured.

At the surface of the mask they are removed. Inside they stay, but without weight.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..grid import Vector, check_grid
from ..holes import fill_holes, interpolate_unmeasured
from .shapes import EmptyMaskError, largest_component

# Tissue has a lower standard error than this multiple of the median, see `trim_unreliable`.
UNRELIABLE = 5.0


def trim_unreliable(
    mask: np.ndarray, standard_error: np.ndarray, *, factor: float = UNRELIABLE
) -> np.ndarray:
    """Remove voxels with an unreliable field from the surface of a mask.

    A voxel is unreliable if the standard error of its field exceeds ``factor`` times the median in
    the mask. Only unreliable voxels that are connected to the outside are removed. Those inside
    have a very small weight, and the little information that they contain about a strong source is
    useful.

    Parameters
    ----------
    mask : ndarray of bool, shape (x, y, z)
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, in any unit. Voxels where it is not finite are unreliable.
    factor : float, optional
        The standard error is proportional to 1/signal. Iron-rich nuclei, with two to three times
        the R2* of white matter, reach 2 to 3 times the median, and veins at 7 T about 4: with the
        default they stay. A factor of 5 means a fifth of the brain's signal, as in the drop-outs
        above the nasal and ear cavities.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        The largest component of the remaining voxels.

    Raises
    ------
    EmptyMaskError
        If no voxel remains or the mask is empty.
    ValueError
        If shapes differ.
    """
    mask = np.asarray(mask, dtype=bool)
    check_grid(mask, standard_error=standard_error)
    limit = _highest_reliable(mask, standard_error, factor)
    unreliable = mask & ~(standard_error <= limit)
    labels, n_labels = ndimage.label(~mask | unreliable)
    reaches_outside = np.zeros(n_labels + 1, bool)
    reaches_outside[labels[~mask]] = True
    trimmed = mask & ~(unreliable & reaches_outside[labels])
    if not trimmed.any():
        raise EmptyMaskError(
            f"All {np.count_nonzero(mask)} voxels of the mask have a standard error above "
            f"{limit:.4g}, which is {factor:g} times the median. Raise the factor."
        )
    return largest_component(trimmed)


def exclude_unresolved(mask: np.ndarray, unresolved: np.ndarray) -> np.ndarray:
    """Remove voxels whose phase is ambiguous, and parts that are connected only through them.

    A noisy voxel has a very small weight, but a voxel whose phase is wrong by a multiple of 2π may
    look certain. Removal inside the mask leaves a hole; see `multiqsm.core.holes` for how holes are
    handled.

    Parameters
    ----------
    mask, unresolved : ndarray of bool, shape (x, y, z)

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        The largest piece of every component of the mask. Between the pieces of a component, phase
        is ambiguous by the same multiples of 2π as in the voxels that separate them.

    Raises
    ------
    EmptyMaskError
        If no voxel remains.

    Examples
    --------
    >>> mask = np.ones((1, 1, 7), bool)
    >>> unresolved = np.zeros((1, 1, 7), bool)
    >>> unresolved[..., 4] = True
    >>> exclude_unresolved(mask, unresolved).astype(int).ravel().tolist()
    [1, 1, 1, 1, 0, 0, 0]
    """
    mask = np.asarray(mask, dtype=bool)
    pieces, n_pieces = ndimage.label(mask & ~np.asarray(unresolved, dtype=bool))
    if n_pieces == 0:
        raise EmptyMaskError(
            f"All {np.count_nonzero(mask)} voxels of the mask are unresolved: phase is noise, or "
            "fringes are less than two voxels apart. Check the phase images and echo times."
        )
    components = ndimage.label(mask)[0]
    piece_sizes = np.bincount(pieces.ravel())
    component_of = np.zeros(n_pieces + 1, int)
    component_of[pieces.ravel()] = components.ravel()
    by_size = np.argsort(-piece_sizes[1:], kind="stable") + 1
    # The first, that is the largest, piece of each component.
    largest = by_size[np.unique(component_of[by_size], return_index=True)[1]]
    return np.isin(pieces, largest)


def reliable_voxels(
    mask: np.ndarray,
    unresolved: np.ndarray,
    standard_error: np.ndarray,
    *,
    factor: float = UNRELIABLE,
) -> np.ndarray:
    """Mark the voxels of a phantom whose field is reliable.

    Their phase is resolved, and the standard error of their field is at most ``factor`` times the
    median in the mask. At the walls of tubes with ten times the signal of the water around them,
    phase is not linear in time, and neither the standard error of the fit nor its misfit shows how
    wrong the field is. Elsewhere a phantom is homogeneous, so little information is lost.

    Parameters
    ----------
    mask, unresolved : ndarray of bool, shape (x, y, z)
    standard_error : ndarray, shape (x, y, z)
        Standard error of the field, in any unit. Voxels where it is not finite are unreliable.
    factor : float, optional
        See `trim_unreliable`.

    Returns
    -------
    ndarray of bool, shape (x, y, z)

    Raises
    ------
    EmptyMaskError
        If no voxel is reliable.
    """
    limit = _highest_reliable(mask, standard_error, factor)
    reliable = mask & ~unresolved & (standard_error <= limit)
    if not reliable.any():
        raise EmptyMaskError(
            f"None of the {np.count_nonzero(mask)} voxels of the mask has a phase that could be "
            "unwrapped unambiguously. Check the phase images and echo times."
        )
    return reliable


@dataclass(frozen=True)
class FilledField:
    """A field whose unmeasured voxels are filled in; maps have shape (x, y, z).

    Attributes
    ----------
    mask : ndarray of bool
        The region of interest, including its holes.
    field : ndarray of float32
        The field in the mask; interpolated where it is not measured.
    standard_error : ndarray of float32
        Its standard error; infinite where it is not measured, zero outside the mask.
    """

    mask: np.ndarray
    field: np.ndarray
    standard_error: np.ndarray


def fill_unmeasured(
    field: np.ndarray,
    standard_error: np.ndarray,
    mask: np.ndarray,
    unresolved: np.ndarray,
    voxel_size: Vector,
    *,
    is_phantom: bool = False,
) -> FilledField:
    """Remove unmeasured voxels at the surface of a mask, and interpolate the field of those inside.

    Interpolated voxels have an infinite standard error, and so no weight.

    Parameters
    ----------
    field, standard_error : ndarray, shape (x, y, z)
        From a fit in the mask, any unit.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    unresolved : ndarray of bool, shape (x, y, z)
        Voxels whose phase could not be unwrapped unambiguously.
    voxel_size : sequence of 3 floats
        In mm.
    is_phantom : bool
        If true, no voxel is removed at the surface, and all except the `reliable_voxels` are
        interpolated. If false, unresolved voxels are handled by `exclude_unresolved`.

    Returns
    -------
    FilledField

    Raises
    ------
    EmptyMaskError
        If no voxel is measured.
    ValueError
        If shapes differ.
    """
    check_grid(mask, field=field, standard_error=standard_error, unresolved=unresolved)
    if is_phantom:
        measured = reliable_voxels(mask, unresolved, standard_error)
        whole = fill_holes(mask)
    else:
        resolved = exclude_unresolved(mask, unresolved)
        measured = resolved & np.isfinite(standard_error)
        whole = fill_holes(resolved)
    if not measured.any():
        raise EmptyMaskError(
            f"None of the {np.count_nonzero(mask)} voxels of the mask has a measured field: there "
            "is no signal. Check the magnitude images, or provide another mask."
        )
    error = np.where(measured, standard_error, np.where(whole, np.inf, 0)).astype(np.float32)
    return FilledField(whole, interpolate_unmeasured(field, measured, whole, voxel_size), error)


def _highest_reliable(mask, standard_error, factor):
    """Return the highest standard error of a reliable voxel."""
    finite = mask & np.isfinite(standard_error)
    if not finite.any():
        raise EmptyMaskError(
            f"The mask has {np.count_nonzero(mask)} voxels, none with a finite standard error. "
            "Provide another mask."
        )
    return factor * np.median(standard_error[finite])
