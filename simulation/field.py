"""The field of magnetised voxels.

It is computed in space, from the exact field of uniformly magnetised voxels, and not with the
continuous k-space kernel D(k) = 1/3 - (k·b)²/k² that inversions divide by: no reconstruction is
tested with its own model.

Conventions: field and susceptibility in ppm, lengths in mm. The Lorentz-corrected field is that of
D(k): none inside a uniform sphere, χ/3 inside a long cylinder along B0 and -χ/6 inside one across
it.
"""

import numpy as np
from scipy import fft, ndimage, sparse
from scipy.special import erf

from .grid import across

NEAR_RADIUS = (
    4.5  # reach of the near field in widths of the Gaussian that splits it off: e^(-4.5²/2) = 4e-5
)


def prism_field(offsets, voxel_size, b0_dir):
    """Exact Lorentz-corrected field of a voxel of unit susceptibility, at offsets from its centre.

    Parameters
    ----------
    offsets : sequence of three ndarrays
        Distances along the voxel axes, mm, broadcastable; none on an edge of the voxel.
    voxel_size : sequence of float
        mm.
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
    shape = np.broadcast_shapes(*(np.shape(o) for o in offsets))
    demagnetising = np.zeros(shape)
    for corner in np.ndindex(2, 2, 2):
        sign = (-1) ** sum(corner)
        x, y, z = (o + (c - 0.5) * h for o, c, h in zip(offsets, corner, voxel_size, strict=True))
        r = np.sqrt(x**2 + y**2 + z**2)
        solid_angles = [np.arctan(q) for q in (y * z / (x * r), x * z / (y * r), x * y / (z * r))]
        diagonal = sum(c**2 * angle for c, angle in zip(b, solid_angles, strict=True))
        mixed = (
            b[0] * b[1] * np.log(z + r) + b[1] * b[2] * np.log(x + r) + b[0] * b[2] * np.log(y + r)
        )
        demagnetising += sign * (diagonal - 2 * mixed)
    x, y, z = (np.abs(o) < h / 2 for o, h in zip(offsets, voxel_size, strict=True))
    return (x & y & z) / 3 + demagnetising / (4 * np.pi)


def smeared_dipole_field(offsets, width, b0_dir):
    """Lorentz-corrected field per volume (1/mm³) of a unit dipole smeared by a Gaussian of some
    width (mm).

    A width of 0 makes a point. Offsets (mm) are three arrays that broadcast, `b0_dir` a unit vector
    in voxel axes.

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
    x, y, z = (o.astype(np.float32) for o in offsets)
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


def cyclic_kernel(padded, voxel_size, b0_dir, width):
    """Field of a smeared voxel on a cyclic grid, in slabs: temporary arrays stay in the cache."""
    kernel = np.empty(padded, np.float32)
    x, y, z = (np.fft.fftfreq(n, 1 / n) * h for n, h in zip(padded, voxel_size, strict=True))
    for start in range(0, padded[0], 8):
        rows = slice(start, start + 8)
        kernel[rows] = smeared_dipole_field(np.ix_(x[rows], y, z), width, b0_dir)
    kernel *= np.float32(np.prod(voxel_size))
    return kernel


def near_kernel(padded, reach, voxel_size, width, b0_dir):
    """Field of a voxel less that of the same voxel smeared, on a cyclic grid up to `reach` voxels
    from it.
    """
    steps = [np.arange(-n, n + 1) for n in reach]
    offsets = np.ix_(*(s * h for s, h in zip(steps, voxel_size, strict=True)))
    smeared = np.prod(voxel_size) * smeared_dipole_field(offsets, width, b0_dir)
    kernel = np.zeros(padded, np.float32)
    kernel[np.ix_(*steps)] = prism_field(offsets, voxel_size, b0_dir) - smeared
    return kernel


def even_spectrum(kernel, workers):
    """Spectrum of an even cyclic kernel, which is real."""
    return fft.rfftn(kernel, workers=workers).real.copy()


def convolve_padded(source, spectrum, padded, workers):
    """Field of `source` on its own grid; the zeros up to `padded` keep its images away."""
    product = fft.rfftn(source, padded, workers=workers)
    product *= spectrum
    product = fft.irfftn(product, padded, workers=workers, overwrite_x=True)
    return product[tuple(slice(n) for n in source.shape)].copy()


class SplitField:
    """The field of an object that is known finely inside a box and coarsely around it.

    A voxel's field is split, as in Ewald's sums, into that of its susceptibility smeared by a
    Gaussian, smooth enough for the coarse grid, and the rest, which ends within `NEAR_RADIUS`
    widths and needs that little padding on the fine grid. The sum is that of all voxels' fields at
    a fraction of its cost.

    Parameters
    ----------
    shape : sequence of int
        Fine voxels of the box, multiples of `blocks`.
    voxel_size : sequence of float
        Of the fine grid, mm.
    blocks : sequence of int
        Fine voxels per coarse voxel.
    coarse_shape : sequence of int
        Voxels of the coarse grid.
    corner : sequence of int
        Coarse voxel at which the box starts.
    b0_dir : sequence of float
        Unit vector of B0 in voxel axes.
    workers : int
        Threads of the Fourier transforms.

    References
    ----------
    Essmann et al., J Chem Phys 103:8577 (1995): smooth particle mesh Ewald, for charges.
    """

    def __init__(
        self,
        shape,
        voxel_size,
        blocks,
        coarse_shape,
        corner,
        *,
        b0_dir=(0, 0, 1),
        workers=1,
    ):
        fine = np.asarray(voxel_size)
        coarse = np.multiply(voxel_size, blocks)
        width = split_width(coarse)
        self.blocks = blocks
        self.workers = workers
        self.box = tuple(
            slice(c, c + n // m) for c, n, m in zip(corner, shape, blocks, strict=True)
        )
        reach = np.ceil(NEAR_RADIUS * width / fine).astype(int)
        self.near_padded = [
            fft.next_fast_len(max(n + r, 2 * r + 1), real=True)
            for n, r in zip(shape, reach, strict=True)
        ]
        self.near = even_spectrum(
            near_kernel(self.near_padded, reach, fine, width, b0_dir), workers
        )
        self.far_padded = [fft.next_fast_len(2 * (n + 4), real=True) for n in coarse_shape]
        self.far = even_spectrum(cyclic_kernel(self.far_padded, coarse, b0_dir, width), workers)
        for axis, n in enumerate(self.far_padded):
            # The splines blur twice along each axis, on the way to the coarse grid and back.
            blur = (2 + np.cos(2 * np.pi * np.fft.fftfreq(n))) / 3
            self.far /= np.float32(across(blur[: self.far.shape[axis]] ** 2, axis))
        self.splines = [
            _spline_weights(*axis) for axis in zip(shape, blocks, corner, coarse_shape, strict=True)
        ]

    def __call__(self, chi, surroundings):
        """Field (ppm) on the fine grid: of `chi` there and of `surroundings`, coarse, outside the
        box.
        """
        outside = surroundings.astype(np.float32)
        outside[self.box] = 0
        outside = np.pad(outside, 2)
        inside = chi
        for axis, (weights, blocks) in enumerate(zip(self.splines, self.blocks, strict=True)):
            outside = ndimage.convolve1d(outside, np.array([1, 4, 1]) / 6, axis, mode="constant")
            inside = _along(weights.T / np.float32(blocks), inside, axis)
        total = convolve_padded(outside + inside, self.far, self.far_padded, self.workers)
        for axis in (2, 1, 0):  # the longest arrays last, where they are contiguous
            total = _along(self.splines[axis], total, axis)
        total += convolve_padded(chi, self.near, self.near_padded, self.workers)
        return total


def _spline_weights(n, blocks, corner, coarse):
    """Cubic B-splines of the coarse grid, two voxels wider on each side, at the centres of n fine
    voxels.
    """
    position = corner + 2 + (np.arange(n) + 0.5) / blocks - 0.5
    first = np.floor(position).astype(int) - 1
    columns = first[:, None] + np.arange(4)
    distance = np.abs(position[:, None] - columns)
    weights = np.where(
        distance < 1, 2 / 3 - distance**2 * (1 - distance / 2), (2 - distance) ** 3 / 6
    )
    kept = (columns >= 0) & (columns < coarse + 4)
    rows = np.broadcast_to(np.arange(n)[:, None], columns.shape)
    return sparse.csr_array(
        (weights[kept].astype(np.float32), (rows[kept], columns[kept])), (n, coarse + 4)
    )


def _along(matrix, values, axis):
    """Apply a matrix along one axis."""
    moved = np.moveaxis(values, axis, 0)
    product = matrix @ moved.reshape(len(moved), -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


def split_width(coarse_voxel_size):
    """Width (mm) of the Gaussian whose field a grid of these voxels carries."""
    return 1.5 * float(np.max(coarse_voxel_size))
