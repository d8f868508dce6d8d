"""The field of magnetised voxels.

It is computed in space, from the exact field of uniformly magnetised voxels, and not with the
continuous k-space kernel D(k) = 1/3 - (k·b)²/k² that inversions divide by. No reconstruction is
therefore tested with its own model.

Conventions: field and susceptibility in ppm, lengths in mm. The Lorentz-corrected field is that of
D(k): 0 inside a uniform sphere, χ/3 inside a long cylinder parallel to B0 and -χ/6 inside a long
cylinder perpendicular to it.
"""

from collections.abc import Sequence

import numpy as np
from scipy import fft, ndimage, sparse
from scipy.special import erf

from ..core.grid import Vector
from .grid import along_axis, coordinates

# Radius of the near field, in widths of the Gaussian that separates it: e^(-4.5²/2) = 4e-5.
NEAR_RADIUS = 4.5


def prism_field(offsets: Sequence[np.ndarray], voxel_size: Vector, b0_dir: Vector) -> np.ndarray:
    """Return the exact Lorentz-corrected field of a voxel of unit susceptibility.

    Parameters
    ----------
    offsets : sequence of three ndarrays
        Distances (mm) from the voxel's centre along its axes, broadcastable; none on an edge of the
        voxel.
    voxel_size : sequence of float
        Voxel size, mm.
    b0_dir : sequence of float
        Unit vector of B0 in voxel axes.

    Returns
    -------
    ndarray of float64
        1/3 (inside the voxel) - bᵀ N b, N being the demagnetising tensor of a rectangular prism.

    Notes
    -----
    With corners at (X, Y, Z) from the point and R their distance, summed with the sign of the
    corner, -4π Nxx = Σ ± arctan(YZ / XR) and 4π Nxy = Σ ± ln(Z + R).

    References
    ----------
    Joseph & Schlömann, J Appl Phys 36:1579 (1965); Newell, Williams & Dunlop, J Geophys Res 98:9551
    (1993), whose tensor is this one averaged over a second prism.
    """
    b = np.asarray(b0_dir, float)
    du, dv, dw = offsets
    hu, hv, hw = voxel_size
    demagnetising = np.zeros(np.broadcast_shapes(np.shape(du), np.shape(dv), np.shape(dw)))
    for i, j, k in np.ndindex(2, 2, 2):
        x = du + (i - 0.5) * hu
        y = dv + (j - 0.5) * hv
        z = dw + (k - 0.5) * hw
        r = np.sqrt(x**2 + y**2 + z**2)
        diagonal = (
            b[0] ** 2 * np.arctan(y * z / (x * r))
            + b[1] ** 2 * np.arctan(x * z / (y * r))
            + b[2] ** 2 * np.arctan(x * y / (z * r))
        )
        mixed = (
            b[0] * b[1] * np.log(z + r) + b[1] * b[2] * np.log(x + r) + b[0] * b[2] * np.log(y + r)
        )
        sign = (-1) ** (i + j + k)
        demagnetising += sign * (diagonal - 2 * mixed)
    is_inside = (np.abs(du) < hu / 2) & (np.abs(dv) < hv / 2) & (np.abs(dw) < hw / 2)
    return is_inside / 3 + demagnetising / (4 * np.pi)


def smeared_dipole_field(offsets: Sequence[np.ndarray], width: float, b0_dir: Vector) -> np.ndarray:
    """Return the Lorentz-corrected field per volume (1/mm³) of a unit dipole, smeared.

    Parameters
    ----------
    offsets : sequence of three ndarrays
        Distances (mm) from the dipole along the voxel axes, broadcastable.
    width : float
        Width (standard deviation, mm) of the Gaussian that smears the dipole; 0 for a point dipole.
    b0_dir : sequence of float
        Unit vector of B0 in voxel axes.

    Returns
    -------
    ndarray of float32
        0 at the origin.

    Notes
    -----
    The potential of a Gaussian charge ρ of width w is φ = erf(s) / 4πr with s = r / √2 w. The field
    bᵀ∇∇φ b + ρ/3 is then A(r) (3 cos² - 1) with A = -φ'/r - ρ/3 = [erf(s) - 2s e^(-s²)/√π] / 4πr³ -
    ρ/3.
    """
    x, y, z = (offset.astype(np.float32) for offset in offsets)
    r2 = x * x + y * y + z * z
    origin = r2 == 0
    r2[origin] = 1
    along = np.float32(b0_dir[0]) * x + np.float32(b0_dir[1]) * y + np.float32(b0_dir[2]) * z
    angular = 3 * along * along / r2 - 1
    angular[origin] = 0
    radial = 1 / (4 * np.pi * r2 * np.sqrt(r2))
    if width:
        s = np.sqrt(r2 / (2 * width**2))
        gaussian = np.exp(-s * s)
        radial *= erf(s) - 2 / np.sqrt(np.pi) * s * gaussian
        radial -= gaussian / (3 * (2 * np.pi) ** 1.5 * width**3)
    return radial * angular


def point_dipole(
    affine: np.ndarray, shape: tuple, place: np.ndarray, moment: float, *, nearest: float = 0.0
) -> np.ndarray:
    """Return the field of a distant source in the voxels of an image, B0 along the scanner's z.

    Parameters
    ----------
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    shape : tuple of int
        Voxels of the image.
    place : ndarray, shape (3,)
        Middle of the source in the scanner's axes, mm.
    moment : float
        Strength of the source, in the unit of the result times (100 mm)³; Δχ V / 4π in ppm for the
        field in ppm.
    nearest : float
        Distances below this one, mm, count as this one.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        moment · (3 cos²θ - 1) / r³, r and θ being those from the source, r in units of 100 mm.
    """
    middle = np.asarray(place) / 100
    x, y, z = coordinates(affine, shape)
    along = z - np.float32(middle[2])
    squared = (x - np.float32(middle[0])) ** 2 + (y - np.float32(middle[1])) ** 2 + along**2
    squared = np.maximum(squared, np.float32((nearest / 100) ** 2))
    return np.float32(moment) * (3 * along**2 / squared - 1) / (squared * np.sqrt(squared))


def cyclic_kernel(
    padded: Sequence[int], voxel_size: Vector, b0_dir: Vector, width: float
) -> np.ndarray:
    """Return the field of a smeared voxel on a cyclic grid, with the voxel at its origin.

    The parameters are those of `smeared_dipole_field`; `padded` is the shape of the grid.
    """
    kernel = np.empty(padded, np.float32)
    x, y, z = (np.fft.fftfreq(n, 1 / n) * h for n, h in zip(padded, voxel_size, strict=True))
    for start in range(0, padded[0], 8):  # slabs whose temporary arrays stay in the cache
        rows = slice(start, start + 8)
        kernel[rows] = smeared_dipole_field(np.ix_(x[rows], y, z), width, b0_dir)
    kernel *= np.float32(np.prod(voxel_size))
    return kernel


def near_kernel(
    padded: Sequence[int],
    reach: Sequence[int] | np.ndarray,
    voxel_size: Vector,
    width: float,
    b0_dir: Vector,
) -> np.ndarray:
    """Return the field of a voxel minus that of the same voxel smeared, on a cyclic grid.

    It is computed up to `reach` voxels from the voxel and 0 beyond. The other parameters are those
    of `cyclic_kernel`.
    """
    steps = [np.arange(-n, n + 1) for n in reach]
    offsets = np.ix_(*(step * h for step, h in zip(steps, voxel_size, strict=True)))
    smeared = np.prod(voxel_size) * smeared_dipole_field(offsets, width, b0_dir)
    kernel = np.zeros(padded, np.float32)
    kernel[np.ix_(*steps)] = prism_field(offsets, voxel_size, b0_dir) - smeared
    return kernel


def even_spectrum(kernel: np.ndarray, workers: int) -> np.ndarray:
    """Return the spectrum of an even cyclic kernel, which is real."""
    return fft.rfftn(kernel, workers=workers).real.copy()


def convolve_padded(
    source: np.ndarray, spectrum: np.ndarray, padded: Sequence[int], workers: int
) -> np.ndarray:
    """Return the field of `source` on its own grid.

    The source is padded with zeros to the shape `padded`, that of the kernel, so that its periodic
    images do not reach it.
    """
    product = fft.rfftn(source, padded, workers=workers)
    product *= spectrum
    product = fft.irfftn(product, padded, workers=workers, overwrite_x=True)
    return product[tuple(map(slice, source.shape))].copy()


class SplitField:
    """The field of an object that is sampled finely inside a box and coarsely around it.

    As in Ewald summation, a voxel's field is split into a far and a near field. The far field is
    that of its susceptibility smeared by a Gaussian, smooth enough for the coarse grid. The near
    field is the remainder, which vanishes beyond `NEAR_RADIUS` widths, so that the fine grid needs
    only that much padding. Their sum is the field of all voxels at a fraction of the cost.

    Parameters
    ----------
    shape : sequence of int
        Fine voxels of the box, multiples of `blocks`.
    voxel_size : sequence of float
        Voxel size of the fine grid, mm.
    blocks : sequence of int
        Fine voxels per coarse voxel.
    coarse_shape : sequence of int
        Voxels of the coarse grid.
    corner : sequence of int
        Coarse voxel at which the box starts.
    b0_dir : sequence of float
        Unit vector of B0 in voxel axes.
    workers : int
        Number of threads of the Fourier transforms.

    References
    ----------
    Essmann et al., J Chem Phys 103:8577 (1995): smooth particle mesh Ewald, for charges.
    """

    def __init__(
        self,
        shape: Sequence[int] | np.ndarray,
        voxel_size: Vector,
        blocks: Sequence[int] | np.ndarray,
        coarse_shape: Sequence[int] | np.ndarray,
        corner: Sequence[int] | np.ndarray,
        *,
        b0_dir: Vector = (0, 0, 1),
        workers: int = 1,
    ) -> None:
        fine = np.asarray(voxel_size)
        coarse = np.multiply(voxel_size, blocks)
        width = split_width(coarse)
        self.blocks = blocks
        self.workers = workers
        self.box = tuple(map(slice, corner, np.add(corner, np.floor_divide(shape, blocks))))
        reach = np.ceil(NEAR_RADIUS * width / fine).astype(int)
        needed = np.maximum(np.add(shape, reach), 2 * reach + 1)
        self.near_padded = [fft.next_fast_len(n, real=True) for n in needed.tolist()]
        self.near = even_spectrum(
            near_kernel(self.near_padded, reach, fine, width, b0_dir), workers
        )
        self.far_padded = [fft.next_fast_len(2 * (n + 4), real=True) for n in coarse_shape]
        self.far = even_spectrum(cyclic_kernel(self.far_padded, coarse, b0_dir, width), workers)
        for axis, n in enumerate(self.far_padded):
            # The splines blur along each axis twice, on the way to the coarse grid and back.
            # Dividing by their spectrum undoes that.
            blur = (2 + np.cos(2 * np.pi * np.fft.fftfreq(n))) / 3
            self.far /= np.float32(along_axis(blur[: self.far.shape[axis]] ** 2, axis))
        self.splines = list(map(_spline_weights, shape, blocks, corner, coarse_shape))

    def __call__(self, chi: np.ndarray, surroundings: np.ndarray) -> np.ndarray:
        """Return the field (ppm) on the fine grid.

        Parameters
        ----------
        chi : ndarray of float32
            Susceptibility inside the box, on the fine grid, ppm.
        surroundings : ndarray
            Susceptibility on the coarse grid, ppm; its voxels inside the box are ignored.
        """
        outside = surroundings.astype(np.float32)
        outside[self.box] = 0
        outside = np.pad(outside, 2)
        inside = chi
        for axis, (weights, blocks) in enumerate(zip(self.splines, self.blocks, strict=True)):
            outside = ndimage.convolve1d(outside, np.array([1, 4, 1]) / 6, axis, mode="constant")
            inside = _apply_along(weights.T / np.float32(blocks), inside, axis)
        total = convolve_padded(outside + inside, self.far, self.far_padded, self.workers)
        for axis in (2, 1, 0):  # the longest arrays last, where they are contiguous
            total = _apply_along(self.splines[axis], total, axis)
        total += convolve_padded(chi, self.near, self.near_padded, self.workers)
        return total


def _spline_weights(n, blocks, corner, coarse):
    """Return the cubic B-splines of the coarse grid at the centres of n fine voxels.

    The coarse grid is two voxels wider on each side, so that each fine voxel has all four splines.
    """
    position = corner + 2 + (np.arange(n) + 0.5) / blocks - 0.5
    first = np.floor(position).astype(int) - 1
    columns = first[:, None] + np.arange(4)
    distance = np.abs(position[:, None] - columns)
    weights = np.where(
        distance < 1, 2 / 3 - distance**2 * (1 - distance / 2), (2 - distance) ** 3 / 6
    )
    on_grid = (columns >= 0) & (columns < coarse + 4)
    rows = np.broadcast_to(np.arange(n)[:, None], columns.shape)
    entries = weights[on_grid].astype(np.float32)
    return sparse.csr_array((entries, (rows[on_grid], columns[on_grid])), (n, coarse + 4))


def _apply_along(matrix, values, axis):
    """Apply a matrix along one axis."""
    moved = np.moveaxis(values, axis, 0)
    product = matrix @ moved.reshape(len(moved), -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


def split_width(coarse_voxel_size: Vector) -> float:
    """Return the width (mm) of the narrowest Gaussian that a grid of these voxels resolves."""
    return 1.5 * float(np.max(coarse_voxel_size))
