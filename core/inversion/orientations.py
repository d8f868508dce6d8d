"""COSMOS: susceptibility from the local fields of several head positions, without regularisation.

The dipole kernel of one direction of B0 vanishes on a cone, where the field tells nothing about the
susceptibility. The cones of three and more directions have no common line.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft

from ..dipole import dipole_kernel, inverse_transform
from ..grid import Vector, check_grid, field_in_mask
from ..linear_systems import conjugate_gradients
from .problem import Inversion, working_grid

WORST_CONDITION = 60.0  # of directions that still determine the susceptibility
FLOOR = 0.01  # of the summed power of the kernels, in the preconditioner


def condition_of_directions(b0_dirs: ArrayLike) -> float:
    """Return the condition number of the inversion of fields at several directions of B0.

    It is the square root of the ratio of the largest to the smallest Σ D² over all directions of k,
    where D is the dipole kernel. The standard deviation of noise in susceptibility is that in each
    field times the root mean square of (Σ D²)^-1/2.

    Parameters
    ----------
    b0_dirs : array_like, shape (n, 3)
        Directions of B0 relative to the head.

    Returns
    -------
    float
        Infinite for one direction and for two, whose cones always intersect; a large number here,
        since only 20000 directions of k are compared.

    References
    ----------
    Liu et al., Magn Reson Med 61:196-204 (2009).

    Examples
    --------
    Rotations by 60 and 120 degrees about one axis are the best three.

    >>> directions = [(0, np.sin(a), np.cos(a)) for a in np.deg2rad([0, 60, 120])]
    >>> round(condition_of_directions(directions), 2)
    2.03
    """
    directions = _unit_vectors(b0_dirs)
    n = 20000
    # A Fibonacci spiral covers the sphere evenly.
    index = np.arange(n) + 0.5
    height = 1 - 2 * index / n
    radius = np.sqrt(1 - height**2)
    longitude = np.pi * (1 + np.sqrt(5)) * index
    k = np.stack([radius * np.cos(longitude), radius * np.sin(longitude), height], axis=1)
    power = ((1 / 3 - (k @ directions.T) ** 2) ** 2).sum(axis=1)
    return float(np.sqrt(power.max() / power.min()))


def cosmos(
    fields: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    voxel_size: Vector,
    b0_dirs: Sequence[Vector],
    *,
    weights: Sequence[np.ndarray] | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 100,
) -> Inversion:
    """Invert the local fields of several head positions, min_χ Σ ‖W (F⁻¹ D F χ - b)‖².

    The susceptibility is zero outside the union of the masks, as that of a local field's sources.
    Nothing is regularised. Susceptibility is taken to be isotropic: where it is not, the result is
    near its mean over the directions.

    Parameters
    ----------
    fields : sequence of ndarrays, shape (x, y, z)
        Local field of each position, ppm, registered to one head position.
    masks : sequence of ndarrays of bool, shape (x, y, z)
        Where each field is valid.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dirs : sequence of sequences of 3 floats
        Direction of B0 in each position, in voxel axes of the registered head.
    weights : sequence of ndarrays, shape (x, y, z), optional
        Weight of each field's voxels, proportional to the inverse of its standard error; 1 by
        default.
    tolerance : float
        Residual of the normal equations, relative to their right-hand side, at which conjugate
        gradients stop.
    max_iterations : int
        Maximum number of iterations.

    Returns
    -------
    Inversion
        Without a λ; its residual is that of all fields.

    Raises
    ------
    ValueError
        If the numbers of fields, masks, directions and weights differ, there are fewer than three,
        the directions do not determine the susceptibility, shapes differ, a mask is empty, or a
        field is not finite in its mask.

    References
    ----------
    Liu et al., Magn Reson Med 61:196-204 (2009).

    Examples
    --------
    A ball in three fields, of which each alone would give streaks:

    >>> chi = np.zeros((24, 24, 24), np.float32)
    >>> chi[10:14, 10:14, 10:14] = 0.1
    >>> directions = [(0, np.sin(a), np.cos(a)) for a in np.deg2rad([0, 60, 120])]
    >>> from multiqsm.core.dipole import convolve
    >>> fields = [convolve(dipole_kernel(chi.shape, (1, 1, 1), b), chi) for b in directions]
    >>> whole = np.ones(chi.shape, bool)
    >>> inversion = cosmos(fields, [whole] * 3, (1, 1, 1), directions)
    >>> bool(np.abs(inversion.chi - inversion.chi[0, 0, 0] - chi).max() < 0.01)
    True
    """
    weights = [mask.astype(np.float32) for mask in masks] if weights is None else weights
    directions = _checked_directions(fields, masks, b0_dirs, weights)
    union = np.logical_or.reduce(masks)
    grid = _odd_grid(union, voxel_size)
    inside = grid.embed(union)
    kernels = [dipole_kernel(grid.shape, voxel_size, b) for b in directions]
    squared_weights = []
    masked = []
    for field, mask, weight in zip(fields, masks, weights, strict=True):
        squared_weights.append(grid.embed(np.where(mask, weight, 0).astype(np.float32) ** 2))
        masked.append(grid.embed(field_in_mask(mask, field)))
    power = _preconditioner_power(kernels, squared_weights, inside)

    def back_projected(weighted_fields):
        spectrum = np.zeros(kernels[0].shape, np.complex64)
        for kernel, weighted in zip(kernels, weighted_fields, strict=True):
            spectrum += kernel * fft.rfftn(weighted)
        return inverse_transform(spectrum, grid.shape) * inside

    def predicted(chi):
        spectrum = fft.rfftn(chi * inside)
        for kernel in kernels:
            yield inverse_transform(kernel * spectrum, grid.shape)

    def normal_operator(chi):
        return back_projected(map(np.multiply, squared_weights, predicted(chi)))

    def precondition(residual):
        return inverse_transform(fft.rfftn(residual * inside) / power, grid.shape) * inside

    chi, iterations, relative_residual = conjugate_gradients(
        normal_operator,
        back_projected(map(np.multiply, squared_weights, masked)),
        tolerance=tolerance,
        max_iterations=max_iterations,
        precondition=precondition,
    )
    squares = []
    for expected, field, weight in zip(predicted(chi), masked, squared_weights, strict=True):
        squares.append(np.square(expected - field)[weight > 0])
    rms = float(np.sqrt(np.concatenate(squares).mean(dtype=float)))
    converged = relative_residual <= tolerance
    return Inversion(grid.extract(chi) * union, None, iterations, rms, converged)


def _checked_directions(fields, masks, b0_dirs, weights):
    """Return unit vectors along B0 after checking all inputs."""
    numbers = {len(fields), len(masks), len(b0_dirs), len(weights)}
    if len(numbers) > 1:
        raise ValueError(
            "each head position needs a field, a mask, a direction of B0 and weights: there are "
            f"{len(fields)} fields, {len(masks)} masks, {len(b0_dirs)} directions and "
            f"{len(weights)} weights"
        )
    if len(fields) < 3:
        raise ValueError(
            f"COSMOS needs at least three head positions, got {len(fields)}: the cones on which "
            "two dipole kernels vanish always intersect"
        )
    for field, mask, weight in zip(fields, masks, weights, strict=True):
        check_grid(mask, field=field, weight=weight, first_mask=masks[0])
    directions = _unit_vectors(b0_dirs)
    condition = condition_of_directions(directions)
    if condition > WORST_CONDITION:
        raise ValueError(
            "the directions of B0 do not determine the susceptibility (condition number "
            f"{condition:.0f}, at most {WORST_CONDITION:g}): the head positions are too similar, "
            "or the directions not those of the registered head"
        )
    return directions


def _unit_vectors(b0_dirs):
    directions = np.asarray(b0_dirs, float)
    if directions.ndim != 2 or directions.shape[1] != 3:
        raise ValueError(f"the directions of B0 must be vectors of three numbers, got {b0_dirs}")
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise ValueError(f"a direction of B0 is zero or not finite: {b0_dirs}")
    return directions / lengths


def _odd_grid(mask, voxel_size):
    """Return the working grid with odd numbers of voxels.

    At the Nyquist frequency of an even number, the kernels of different directions lack what
    distinguishes them, see `dipole_kernel`.
    """
    grid = working_grid(mask, voxel_size)
    shape = []
    for n in grid.shape:
        odd = n + 1 - n % 2
        while fft.next_fast_len(odd, real=True) > odd:
            odd += 2
        shape.append(odd)
    return replace(grid, shape=tuple(shape))


def _preconditioner_power(kernels, squared_weights, inside):
    """Return the spectrum of the operator as if each field had its mean weight everywhere."""
    power = np.full(kernels[0].shape, FLOOR, np.float32)
    for kernel, weight in zip(kernels, squared_weights, strict=True):
        power += np.float32(weight[inside].mean(dtype=float)) * kernel**2
    power[0, 0, 0] = power.mean(dtype=float)  # of the constant, which only the mask determines
    return power
