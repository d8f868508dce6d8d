"""The scanner: from an object's susceptibility to the multi-echo complex images of a gradient-echo scan.

The field is computed in space, from the exact field of uniformly magnetised voxels, and not with the
continuous k-space kernel D(k) = 1/3 - (k·b)²/k² that inversions divide by. Spins precess on a grid finer than
the scan, whose complex signal is then cropped in k-space, as a scanner does: partial volume, dephasing within
a voxel and Gibbs ringing are those of a measurement, and no reconstruction is tested with its own model.

Conventions: field and susceptibility in ppm, lengths in mm, times in s. The Lorentz-corrected field is that
of D(k): none inside a uniform sphere, χ/3 inside a long cylinder along B0 and -χ/6 inside one across it.
Phase grows with the field, φ(TE) = φ0 + 2π · f0 · field · TE, f0 being the centre frequency. The scanner's z
axis is B0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage, sparse
from scipy.signal.windows import tukey
from scipy.special import erf

from ..core.dipole import b0_direction
from ..core.phase import GYROMAGNETIC_RATIO

NEAR_RADIUS = 4.5  # reach of the near field in widths of the Gaussian that splits it off: e^(-4.5²/2) = 4e-5
COARSE_VOXEL = 2.0  # mm, of the grid that carries the field of distant sources
SURROUNDINGS = 110.0  # mm beyond the image within which the object still acts on its field
WATER_SIGNAL = 1000.0  # of fully relaxed water at TE = 0 without receive bias, arbitrary units


# ----------------------------------------------------------------------------------------------------------
# What an object shows the scanner, and what the scanner returns
# ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tissue:
    """An object on a grid: what the spins are, and what they feel.

    Parameters
    ----------
    labels : ndarray of uint8, shape (x, y, z)
        Anatomical label of the largest part of each voxel, 0 outside.
    chi : ndarray of float32, shape (x, y, z)
        Susceptibility relative to water, ppm.
    r2s, pd, t1 : ndarray of float32, shape (x, y, z)
        Transverse decay rate R2* (1/s), proton density relative to water, longitudinal relaxation time (s).
    region : ndarray of float32, shape (x, y, z)
        Fraction of each voxel that is of interest: the brain, or the phantom's water.
    exterior : float
        Susceptibility of what surrounds the object to infinity, ppm relative to water.
    """

    labels: np.ndarray
    chi: np.ndarray
    r2s: np.ndarray
    pd: np.ndarray
    t1: np.ndarray
    region: np.ndarray
    exterior: float

    def paint(
        self, box: tuple[slice, ...], alpha: np.ndarray, spins: Mapping[str, float], label: int
    ) -> None:
        """Let a tissue take part of the voxels in a box, in place; relaxation mixes by the number of spins.

        Parameters
        ----------
        box : tuple of slice
            Voxels.
        alpha : ndarray of float32
            Part that the new tissue takes of each voxel, 0...1.
        spins : mapping
            ``chi``, ``r2s``, ``pd`` and ``t1`` of the new tissue.
        label : int
            Of voxels that are mostly the new tissue.
        """
        added = alpha * np.float32(spins["pd"])
        self.pd[box] *= 1 - alpha
        self.pd[box] += added
        share = added / np.maximum(self.pd[box], np.float32(1e-6))
        self.chi[box] += alpha * (np.float32(spins["chi"]) - self.chi[box])
        self.r2s[box] += share * (np.float32(spins["r2s"]) - self.r2s[box])
        self.t1[box] += share * (np.float32(spins["t1"]) - self.t1[box])
        self.labels[box][alpha > 0.5] = label


def empty_space(shape: Sequence[int], chi: float) -> Tissue:
    """A grid without spins and of one susceptibility (ppm relative to water), to paint an object on."""
    shape = tuple(int(n) for n in shape)
    r2s, pd, region = (np.zeros(shape, np.float32) for _ in range(3))
    chi_map, t1 = np.full(shape, chi, np.float32), np.ones(shape, np.float32)
    return Tissue(np.zeros(shape, np.uint8), chi_map, r2s, pd, t1, region, exterior=chi)


def coverage(distance: np.ndarray, width: float) -> np.ndarray:
    """Part of a voxel that lies inside a surface: 1/2 on it, 0 or 1 beyond half of `width` (mm) from it."""
    return np.clip(np.float32(0.5) - distance / np.float32(width), 0, 1)


def affine_row(row: Sequence[float], grid: Sequence[np.ndarray]) -> np.ndarray:
    """One coordinate of a grid's voxels: a row of an affine applied to open index arrays, as float32."""
    return sum(np.float32(r) * g for r, g in zip(row, grid, strict=False)) + np.float32(row[3])


Model = Callable[[tuple[int, int, int], np.ndarray], Tissue]


@dataclass(frozen=True)
class Protocol:
    """A spoiled multi-echo gradient-echo scan.

    Parameters
    ----------
    shape : tuple of int
        Voxels of the image.
    voxel_size : tuple of float
        Voxel size, mm.
    echo_times : tuple of float
        Echo times, s.
    repetition_time : float
        Repetition time, s.
    flip_angle : float
        Flip angle, degrees.
    imaging_frequency : float
        Centre frequency, MHz.
    snr : float
        Mean first-echo magnitude in the region of interest over the standard deviation of the real part's
        noise.
    oversampling : tuple of int
        Fine voxels per voxel along each axis on which spins precess.
    apodization : float
        Fraction of k-space under the taper of a Tukey window; 0 is no window, 1 a Hann window.
    """

    shape: tuple[int, int, int] = (256, 256, 64)
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 2.0)
    echo_times: tuple[float, ...] = (0.006, 0.012, 0.018, 0.024, 0.030, 0.036)
    repetition_time: float = 0.045
    flip_angle: float = 5.0
    imaging_frequency: float = 3.0 * GYROMAGNETIC_RATIO
    snr: float = 185.0
    oversampling: tuple[int, int, int] = (2, 2, 2)
    apodization: float = 0.0


@dataclass(frozen=True)
class Specimen:
    """An object in the magnet: fine-grid tissue and the field it makes, before any sequence is run.

    Parameters
    ----------
    tissue : Tissue
        On the fine voxels of the image that hold the object.
    total_field, local_field : ndarray of float32
        On the same voxels, ppm: the whole object's field, and that of what lies within the region of
        interest.
    corner : tuple of int
        First fine voxel of the image that these arrays hold.
    shape : tuple of int
        Voxels of the image.
    oversampling : tuple of int
        Fine voxels per voxel along each axis.
    affine : ndarray, shape (4, 4)
        From voxels of the image to the scanner's axes, mm.
    """

    tissue: Tissue
    total_field: np.ndarray
    local_field: np.ndarray
    corner: tuple[int, int, int]
    shape: tuple[int, int, int]
    oversampling: tuple[int, int, int]
    affine: np.ndarray


@dataclass(frozen=True)
class Scan:
    """A simulated scan with its truth, everything on the image's grid.

    Parameters
    ----------
    signal : ndarray of complex64, shape (x, y, z, n_echoes)
        The images, each contiguous.
    noise_sigma : float
        Standard deviation of the noise of the real and of the imaginary part.
    total_field, local_field : ndarray of float32, shape (x, y, z)
        Mean over each voxel, ppm: with shim and drift, and from within ``mask`` alone.
    chi : ndarray of float32, shape (x, y, z)
        Mean susceptibility of each voxel, ppm relative to water.
    labels : ndarray of uint8, shape (x, y, z)
        Label of the largest part of each voxel.
    mask : ndarray of bool, shape (x, y, z)
        The region of interest: the brain, or the phantom's water.
    shim : ndarray, shape (9,)
        What was added to the object's field, ppm: coefficients of `solid_harmonics`, the drift included.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    """

    signal: np.ndarray
    noise_sigma: float
    total_field: np.ndarray
    local_field: np.ndarray
    chi: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    shim: np.ndarray
    affine: np.ndarray


# ----------------------------------------------------------------------------------------------------------
# Grids
# ----------------------------------------------------------------------------------------------------------


def voxel_size_of(affine: np.ndarray) -> np.ndarray:
    """Voxel size of a grid, mm."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def subgrid_affine(
    affine: np.ndarray, factor: Sequence[float], corner: Sequence[int] = (0, 0, 0)
) -> np.ndarray:
    """Affine of the grid with `factor` voxels per voxel of `affine`, from its voxel `corner` on.

    Voxel edges coincide, so that the mean of `factor` fine voxels is a voxel of the original grid.
    """
    factor = np.asarray(factor, float)
    scale = np.diag([*(1 / factor), 1.0])
    scale[:3, 3] = (np.asarray(corner) + 0.5) / factor - 0.5
    return affine @ scale


def scan_affine(
    shape: Sequence[int],
    voxel_size: Sequence[float],
    *,
    rotation: np.ndarray | None = None,
    centre: Sequence[float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Affine of an image whose middle lies at `centre`, turned by `rotation` from the scanner's axes.

    Parameters
    ----------
    shape : sequence of int
        Voxels.
    voxel_size : sequence of float
        mm.
    rotation : ndarray, shape (3, 3), optional
        Columns are the image's axes in the scanner's; an axial image by default.
    centre : sequence of float
        mm, in the scanner's axes.

    Returns
    -------
    ndarray, shape (4, 4)
    """
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if rotation is None else rotation) * np.asarray(voxel_size)
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


def block_mean(values: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Mean over blocks of `factor` voxels, which must divide the shape."""
    for axis, n in enumerate(factor):
        split = (*values.shape[:axis], values.shape[axis] // n, n, *values.shape[axis + 1 :])
        values = values.reshape(split).mean(axis=axis + 1)
    return values


def block_mode(labels: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    """Most frequent label in blocks of `factor` voxels, which must divide the shape."""
    counts, mode = 0, 0
    offsets = [labels[i :: factor[0], j :: factor[1], k :: factor[2]] for i, j, k in np.ndindex(*factor)]
    for candidate in offsets:
        votes = sum((candidate == other).view(np.uint8) for other in offsets)
        mode = np.where(votes > counts, candidate, mode)
        counts = np.maximum(votes, counts)
    return mode.astype(labels.dtype)


# ----------------------------------------------------------------------------------------------------------
# Field
# ----------------------------------------------------------------------------------------------------------


def prism_field(
    offsets: Sequence[np.ndarray], voxel_size: Sequence[float], b0_dir: Sequence[float]
) -> np.ndarray:
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
    With corners at (X, Y, Z) from the point and R their distance, summed with the sign of the corner,
    -4π Nxx = Σ ± arctan(YZ / XR) and 4π Nxy = Σ ± ln(Z + R).

    References
    ----------
    Joseph & Schlömann, J Appl Phys 36:1579 (1965); Newell, Williams & Dunlop, J Geophys Res 98:9551 (1993),
    whose tensor is this one averaged over a second prism.
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
        mixed = b[0] * b[1] * np.log(z + r) + b[1] * b[2] * np.log(x + r) + b[0] * b[2] * np.log(y + r)
        demagnetising += sign * (diagonal - 2 * mixed)
    x, y, z = (np.abs(o) < h / 2 for o, h in zip(offsets, voxel_size, strict=True))
    return (x & y & z) / 3 + demagnetising / (4 * np.pi)


def smeared_dipole_field(offsets: Sequence[np.ndarray], width: float, b0_dir: Sequence[float]) -> np.ndarray:
    """Lorentz-corrected field per volume (1/mm³) of a unit dipole smeared by a Gaussian of some width (mm).

    A width of 0 makes a point. Offsets (mm) are three arrays that broadcast, `b0_dir` a unit vector in voxel
    axes.

    Returns
    -------
    ndarray of float32
        0 at the origin.

    Notes
    -----
    The potential of a Gaussian charge ρ of width w is φ = erf(s) / 4πr with s = r / √2 w. The field
    bᵀ∇∇φ b + ρ/3 is then A(r) (3 cos² - 1) with A = -φ'/r - ρ/3 = [erf(s) - 2s e^(-s²)/√π] / 4πr³ - ρ/3.
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


def _cyclic_kernel(
    padded: Sequence[int], voxel_size: Sequence[float], b0_dir: Sequence[float], width: float
) -> np.ndarray:
    """Field of a smeared voxel on a cyclic grid, in slabs: temporary arrays stay in the cache."""
    kernel = np.empty(padded, np.float32)
    x, y, z = (np.fft.fftfreq(n, 1 / n) * h for n, h in zip(padded, voxel_size, strict=True))
    for start in range(0, padded[0], 8):
        rows = slice(start, start + 8)
        kernel[rows] = smeared_dipole_field(np.ix_(x[rows], y, z), width, b0_dir)
    kernel *= np.float32(np.prod(voxel_size))
    return kernel


def _near_kernel(
    padded: Sequence[int],
    reach: Sequence[int],
    voxel_size: Sequence[float],
    width: float,
    b0_dir: Sequence[float],
) -> np.ndarray:
    """Field of a voxel less that of the same voxel smeared, on a cyclic grid up to `reach` voxels from it."""
    steps = [np.arange(-n, n + 1) for n in reach]
    offsets = np.ix_(*(s * h for s, h in zip(steps, voxel_size, strict=True)))
    smeared = np.prod(voxel_size) * smeared_dipole_field(offsets, width, b0_dir)
    kernel = np.zeros(padded, np.float32)
    kernel[np.ix_(*steps)] = prism_field(offsets, voxel_size, b0_dir) - smeared
    return kernel


def _spectrum(kernel: np.ndarray, workers: int) -> np.ndarray:
    """Spectrum of an even cyclic kernel, which is real."""
    return fft.rfftn(kernel, workers=workers).real.copy()


def _convolve(source: np.ndarray, spectrum: np.ndarray, padded: Sequence[int], workers: int) -> np.ndarray:
    """Field of `source` on its own grid; the zeros up to `padded` keep its images away."""
    product = fft.rfftn(source, padded, workers=workers)
    product *= spectrum
    product = fft.irfftn(product, padded, workers=workers, overwrite_x=True)
    return product[tuple(slice(n) for n in source.shape)].copy()


def forward_field(
    chi: np.ndarray, voxel_size: Sequence[float], *, b0_dir: Sequence[float] = (0, 0, 1), workers: int = 1
) -> np.ndarray:
    """Field of voxels of given susceptibility, at their centres, in empty surroundings.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility relative to that of the surroundings, ppm.
    voxel_size : sequence of float
        mm.
    b0_dir : sequence of float
        Unit vector of B0 in voxel axes.
    workers : int
        Threads of the Fourier transforms.

    Returns
    -------
    ndarray of float32, shape (x, y, z)
        Lorentz-corrected relative field, ppm.

    Notes
    -----
    The sum over voxels of exact prism fields, point dipoles beyond eight voxels where the two agree, is a
    convolution on a grid padded to twice the size: nothing wraps.

    Examples
    --------
    A cube demagnetises its centre like a sphere:

    >>> abs(float(forward_field(np.ones((1, 1, 1)), (1, 1, 1))[0, 0, 0])) < 1e-6
    True
    """
    padded = [fft.next_fast_len(2 * n, real=True) for n in chi.shape]
    reach = [min(round(8 * max(voxel_size) / h), n - 1) for n, h in zip(chi.shape, voxel_size, strict=True)]
    kernel = _cyclic_kernel(padded, voxel_size, b0_dir, 0.0)
    kernel += _near_kernel(padded, reach, voxel_size, 0.0, b0_dir)
    return _convolve(chi.astype(np.float32), _spectrum(kernel, workers), padded, workers)


class SplitField:
    """The field of an object that is known finely inside a box and coarsely around it.

    A voxel's field is split, as in Ewald's sums, into that of its susceptibility smeared by a Gaussian,
    smooth enough for the coarse grid, and the rest, which ends within `NEAR_RADIUS` widths and needs that
    little padding on the fine grid. The sum agrees with `forward_field` at a fraction of its cost.

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
        shape: Sequence[int],
        voxel_size: Sequence[float],
        blocks: Sequence[int],
        coarse_shape: Sequence[int],
        corner: Sequence[int],
        *,
        b0_dir: Sequence[float] = (0, 0, 1),
        workers: int = 1,
    ) -> None:
        fine, coarse = np.asarray(voxel_size), np.multiply(voxel_size, blocks)
        width = split_width(coarse)
        self.blocks, self.workers = blocks, workers
        self.box = tuple(slice(c, c + n // m) for c, n, m in zip(corner, shape, blocks, strict=True))
        reach = np.ceil(NEAR_RADIUS * width / fine).astype(int)
        self.near_padded = [
            fft.next_fast_len(max(n + r, 2 * r + 1), real=True) for n, r in zip(shape, reach, strict=True)
        ]
        self.near = _spectrum(_near_kernel(self.near_padded, reach, fine, width, b0_dir), workers)
        self.far_padded = [fft.next_fast_len(2 * (n + 4), real=True) for n in coarse_shape]
        self.far = _spectrum(_cyclic_kernel(self.far_padded, coarse, b0_dir, width), workers)
        for axis, n in enumerate(self.far_padded):
            # The splines blur twice along each axis, on the way to the coarse grid and back.
            blur = (2 + np.cos(2 * np.pi * np.fft.fftfreq(n))) / 3
            self.far /= np.float32(_across(blur[: self.far.shape[axis]] ** 2, axis))
        self.splines = [
            _spline_weights(*axis) for axis in zip(shape, blocks, corner, coarse_shape, strict=True)
        ]

    def __call__(self, chi: np.ndarray, surroundings: np.ndarray) -> np.ndarray:
        """Field (ppm) on the fine grid: of `chi` there and of `surroundings`, coarse, outside the box."""
        outside = surroundings.astype(np.float32)
        outside[self.box] = 0
        outside, inside = np.pad(outside, 2), chi
        for axis, (weights, blocks) in enumerate(zip(self.splines, self.blocks, strict=True)):
            outside = ndimage.convolve1d(outside, np.array([1, 4, 1]) / 6, axis, mode="constant")
            inside = _along(weights.T / np.float32(blocks), inside, axis)
        total = _convolve(outside + inside, self.far, self.far_padded, self.workers)
        for axis in (2, 1, 0):  # the longest arrays last, where they are contiguous
            total = _along(self.splines[axis], total, axis)
        total += _convolve(chi, self.near, self.near_padded, self.workers)
        return total


def _spline_weights(n: int, blocks: int, corner: int, coarse: int) -> sparse.csr_array:
    """Cubic B-splines of the coarse grid, two voxels wider on each side, at the centres of n fine voxels."""
    position = corner + 2 + (np.arange(n) + 0.5) / blocks - 0.5
    first = np.floor(position).astype(int) - 1
    columns = first[:, None] + np.arange(4)
    distance = np.abs(position[:, None] - columns)
    weights = np.where(distance < 1, 2 / 3 - distance**2 * (1 - distance / 2), (2 - distance) ** 3 / 6)
    kept = (columns >= 0) & (columns < coarse + 4)
    rows = np.broadcast_to(np.arange(n)[:, None], columns.shape)
    return sparse.csr_array((weights[kept].astype(np.float32), (rows[kept], columns[kept])), (n, coarse + 4))


def _across(values: np.ndarray, axis: int) -> np.ndarray:
    """A vector laid along one axis of three, to broadcast."""
    return values.reshape([-1 if a == axis else 1 for a in range(3)])


def _along(matrix: sparse.sparray, values: np.ndarray, axis: int) -> np.ndarray:
    """Apply a matrix along one axis."""
    moved = np.moveaxis(values, axis, 0)
    product = matrix @ moved.reshape(len(moved), -1)
    return np.moveaxis(product.reshape(-1, *moved.shape[1:]), 0, axis)


def split_width(coarse_voxel_size: Sequence[float]) -> float:
    """Width (mm) of the Gaussian whose field a grid of these voxels carries."""
    return 1.5 * float(np.max(coarse_voxel_size))


def magnetize(
    model: Model,
    affine: np.ndarray,
    shape: Sequence[int],
    *,
    oversampling: Sequence[int] = (2, 2, 2),
    workers: int = 1,
) -> Specimen:
    """Put an object into the magnet: its tissue on the fine grid of an image, and its field there.

    Parameters
    ----------
    model : callable
        From a grid's shape and affine to the object's `Tissue`.
    affine : ndarray, shape (4, 4)
        Of the image, from voxels to the scanner's axes, mm. B0 is along the scanner's z.
    shape : sequence of int
        Voxels of the image.
    oversampling : sequence of int
        Fine voxels per voxel along each axis.
    workers : int
        Threads of the Fourier transforms.

    Returns
    -------
    Specimen
        Its local field is that of the region of interest's susceptibility (relative to water), within the
        voxels of the image that it fills at least half; all else is background.

    Raises
    ------
    ValueError
        If the object lies outside the image and its surroundings.
    """
    shape, oversampling = np.asarray(shape), np.asarray(oversampling)
    fine_affine = subgrid_affine(affine, oversampling)
    fine_size = voxel_size_of(fine_affine)
    blocks = np.maximum(np.rint(COARSE_VOXEL / fine_size).astype(int), 1)
    # Coarse voxels from `low` to `high` hold the object. Those from `box_low` to `box_high` are known finely:
    # the image with as much around it as the near field reaches.
    low, high = _support(model, affine, shape, blocks * fine_size)
    margin = np.ceil(NEAR_RADIUS * split_width(blocks * fine_size) / (blocks * fine_size)).astype(int)
    box_low = np.maximum(low, -margin)
    box_high = np.minimum(high, -(-shape * oversampling // blocks) + margin)
    corner = box_low * blocks
    box_shape = (box_high - box_low) * blocks
    tissue = model(tuple(box_shape), subgrid_affine(fine_affine, (1, 1, 1), corner))
    around = model(tuple(high - low), subgrid_affine(fine_affine, 1 / blocks, low)).chi
    operator = SplitField(
        box_shape, fine_size, blocks, high - low, box_low - low, b0_dir=b0_direction(affine), workers=workers
    )
    total = operator(tissue.chi - np.float32(tissue.exterior), around - np.float32(tissue.exterior))
    # Whole voxels of the image within the box.
    first = np.maximum(-(-corner // oversampling), 0) * oversampling
    last = np.minimum(box_high * blocks // oversampling, shape) * oversampling
    held = tuple(slice(a, b) for a, b in zip(first - corner, last - corner, strict=True))
    mask = block_mean(tissue.region[held], oversampling) >= 0.5
    inside = np.zeros_like(tissue.chi)
    inside[held] = tissue.chi[held] * tissue.region[held] * np.kron(mask, np.ones(oversampling, np.float32))
    local = operator(inside, np.zeros_like(around))
    arrays = {name: getattr(tissue, name)[held] for name in ("labels", "chi", "r2s", "pd", "t1", "region")}
    return Specimen(
        tissue=replace(tissue, **arrays),
        total_field=total[held],
        local_field=local[held],
        corner=tuple(int(n) for n in first),
        shape=tuple(int(n) for n in shape),
        oversampling=tuple(int(n) for n in oversampling),
        affine=affine,
    )


def _support(
    model: Model, affine: np.ndarray, shape: np.ndarray, coarse_voxel: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-last coarse voxel, counted from the image's corner, that the object occupies."""
    voxel_size = voxel_size_of(affine)
    around = np.ceil(SURROUNDINGS / coarse_voxel).astype(int)
    extent = np.ceil(shape * voxel_size / coarse_voxel).astype(int)
    step = np.maximum(np.rint(8 / coarse_voxel).astype(int), 1)
    probe = subgrid_affine(subgrid_affine(affine, voxel_size / coarse_voxel, -around), 1 / step)
    tissue = model(tuple(-(-(extent + 2 * around) // step)), probe)
    occupied = np.argwhere((tissue.chi != tissue.exterior) | (tissue.pd > 0))
    if not len(occupied):
        raise ValueError("the object lies outside the image and its surroundings")
    return (occupied.min(axis=0) - 1) * step - around, (occupied.max(axis=0) + 2) * step - around


# ----------------------------------------------------------------------------------------------------------
# Signal
# ----------------------------------------------------------------------------------------------------------


def spoiled_steady_state(
    pd: np.ndarray, t1: np.ndarray, repetition_time: float, flip_angle: float
) -> np.ndarray:
    """Transverse magnetisation just after the pulse of a spoiled gradient-echo sequence.

    Parameters
    ----------
    pd, t1 : ndarray
        Proton density relative to water; longitudinal relaxation time, s.
    repetition_time : float
        s.
    flip_angle : float
        Degrees.

    References
    ----------
    Ernst & Anderson, Rev Sci Instrum 37:93 (1966).
    """
    recovered = np.exp(-np.float32(repetition_time) / t1)
    alpha = np.deg2rad(np.float32(flip_angle))
    return pd * np.sin(alpha) * (1 - recovered) / (1 - np.cos(alpha) * recovered)


def solid_harmonics(points: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Solid harmonics up to second order, the fields of shim coils.

    In order 1, x, y, z, xy, yz, xz, z² - (x² + y²)/2, x² - y².

    Parameters
    ----------
    points : sequence of three ndarrays
        Coordinates along the scanner's axes, in units of 100 mm.
    """
    x, y, z = points
    return [np.ones_like(x), x, y, z, x * y, y * z, x * z, z * z - (x * x + y * y) / 2, x * x - y * y]


def _coordinates(affine: np.ndarray, shape: Sequence[int]) -> list[np.ndarray]:
    """Coordinates of a grid along the scanner's axes in units of 100 mm, as float32."""
    grid = np.ix_(*(np.arange(n, dtype=np.float32) for n in shape))
    return [affine_row(row / 100, grid) for row in affine[:3]]


def _polynomial(coefficients: np.ndarray, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Sum of solid harmonics on a grid."""
    harmonics = solid_harmonics(_coordinates(affine, shape))
    return sum(np.float32(c) * h for c, h in zip(coefficients, harmonics, strict=True))


def shim_coefficients(
    total_field: np.ndarray, mask: np.ndarray, affine: np.ndarray, error: float, rng: np.random.Generator
) -> np.ndarray:
    """What a shim up to second order adds to the field, the imperfection of a real one included.

    Parameters
    ----------
    total_field : ndarray, shape (x, y, z)
        Of the object, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Where it is shimmed.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    error : float
        Standard deviation over `mask` of each term's random error, ppm.
    rng : numpy.random.Generator
        Draws the error.

    Returns
    -------
    ndarray, shape (9,)
        Coefficients of `solid_harmonics`, ppm.
    """
    harmonics = solid_harmonics(_coordinates(affine, mask.shape))
    basis = np.stack([h[mask] for h in harmonics], axis=1, dtype=float)
    # Normal equations without BLAS, whose threads would round differently.
    gram, moments = np.einsum("im,in->mn", basis, basis), np.einsum("im,i->m", basis, total_field[mask])
    fitted = np.linalg.solve(gram, moments)
    spread = np.where(basis.std(axis=0) > 0, basis.std(axis=0), 1.0)
    return error * rng.standard_normal(len(fitted)) / spread - fitted


def kspace_crop(
    signal: np.ndarray, shape: Sequence[int], oversampling: Sequence[int], axes: Sequence[int]
) -> np.ndarray:
    """Transform some axes of a fine-grid signal to k-space and keep what the scan samples.

    Parameters
    ----------
    signal : ndarray of complex64, shape (x, y, z)
        On the fine grid along `axes`, with `oversampling` fine voxels per voxel.
    shape, oversampling : sequence of int
        Voxels of the image, and fine voxels per voxel.
    axes : sequence of int
        Those to transform.

    Returns
    -------
    ndarray of complex64
        k-space in the order of the FFT, whose inverse is the image at the voxels' centres: a centre lies
        (n - 1)/2 fine voxels after the voxel's first one, hence the linear phase.
    """
    for axis in axes:
        n, factor = shape[axis], oversampling[axis]
        k = np.fft.fftfreq(n, 1 / n)
        shift = np.exp(1j * np.pi * k * (factor - 1) / (n * factor)) / factor
        kept = np.rint(k).astype(int) % (n * factor)
        signal = fft.fft(signal, axis=axis).take(kept, axis)
        signal = signal * _across(shift.astype(np.complex64), axis)
    return signal


def _window(shape: Sequence[int], apodization: float) -> np.ndarray:
    """Separable Tukey window over k-space in the order of the FFT."""
    windows = [np.fft.ifftshift(tukey(n + 1 - n % 2, apodization)[:n]) for n in shape]
    return (windows[0][:, None, None] * windows[1][:, None] * windows[2]).astype(np.complex64)


def precess(
    magnetization: np.ndarray,
    r2s: np.ndarray,
    frequency: np.ndarray,
    echo_times: Sequence[float],
    *,
    quadratic_phase: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Complex signal of every echo in turn: decay by R2* and precession at the local frequency.

    Parameters
    ----------
    magnetization : ndarray of complex64
        At TE = 0.
    r2s, frequency : ndarray of float32
        R2* in 1/s, frequency offset in Hz.
    echo_times : sequence of float
        s.
    quadratic_phase : ndarray of float32, optional
        Phase in rad/s² that grows with TE², as that of flow along an uncompensated readout does.

    Yields
    ------
    ndarray of complex64
    """
    signal, elapsed, previous, step = magnetization, 0.0, None, None
    for te in echo_times:
        interval = te - elapsed
        if previous is None or not np.isclose(interval, previous, rtol=1e-9, atol=0):
            angle = frequency * np.float32(2 * np.pi * interval)
            step = np.empty(angle.shape, np.complex64)
            decay = np.exp(r2s * np.float32(-interval))
            step.real, step.imag = decay * np.cos(angle), decay * np.sin(angle)
        signal = signal * step
        elapsed, previous = te, interval
        yield signal if quadratic_phase is None else signal * np.exp(1j * quadratic_phase * np.float32(te**2))


def acquire(
    specimen: Specimen,
    protocol: Protocol,
    seed: int | Sequence[int],
    *,
    b0_drift: float = 0.0,
    shim_error: float = 0.02,
    receive_phase: float = 0.7,
    receive_bias: float = 0.15,
    flow_phase: float = 0.0,
    flow_labels: Sequence[int] = (),
    workers: int = 1,
) -> Scan:
    """Scan a specimen.

    Parameters
    ----------
    specimen : Specimen
        Of `magnetize`, on the image's grid.
    protocol : Protocol
        The sequence.
    seed : int or sequence of int
        Of this scan: shim error, receive phase and bias, flow and noise.
    b0_drift : float
        Offset of B0 since the centre frequency was set, ppm.
    shim_error : float
        Standard deviation of each shim term's error over the region of interest, ppm.
    receive_phase : float
        Standard deviation of each coefficient of the receive phase at TE = 0, a smooth polynomial, rad.
    receive_bias : float
        Likewise of the logarithm of the receive sensitivity.
    flow_phase : float
        Greatest phase (rad) at the last echo of spins that move, growing with TE².
    flow_labels : sequence of int
        Labels of the tissue that moves, such as the ventricles'.
    workers : int
        Threads. The result does not depend on it.

    Returns
    -------
    Scan

    Raises
    ------
    ValueError
        If `specimen` was prepared for another image.
    """
    prepared = (*specimen.shape, *specimen.oversampling, *voxel_size_of(specimen.affine))
    if not np.allclose(prepared, (*protocol.shape, *protocol.oversampling, *protocol.voxel_size)):
        raise ValueError("the specimen's grid is not that of the protocol")
    shim_rng, coil_rng, flow_rng, noise_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(4)
    )
    truth = _truth(specimen)
    shim = shim_coefficients(truth["total_field"], truth["mask"], specimen.affine, shim_error, shim_rng)
    shim[0] += b0_drift
    truth["total_field"] += _polynomial(shim, specimen.affine, specimen.shape)
    phase = receive_phase * coil_rng.standard_normal(9)
    bias = receive_bias * coil_rng.standard_normal(9)
    flow = _flow(specimen, flow_phase / protocol.echo_times[-1] ** 2, flow_labels, flow_rng)
    signal = _echoes(specimen, protocol, shim, phase, bias, flow, workers)
    sigma = float(np.abs(signal[0])[truth["mask"]].mean(dtype=float)) / protocol.snr
    for echo in signal:
        echo.real += noise_rng.standard_normal(echo.shape, dtype=np.float32) * np.float32(sigma)
        echo.imag += noise_rng.standard_normal(echo.shape, dtype=np.float32) * np.float32(sigma)
    signal = np.moveaxis(signal, 0, -1)
    return Scan(signal=signal, noise_sigma=sigma, shim=shim, affine=specimen.affine, **truth)


def _truth(specimen: Specimen) -> dict[str, np.ndarray]:
    """Fields, susceptibility, labels and mask on the image's grid: means of its voxels, before any shim."""
    tissue, factor = specimen.tissue, specimen.oversampling
    return {
        "total_field": _on_image(specimen, block_mean(specimen.total_field, factor)),
        "local_field": _on_image(specimen, block_mean(specimen.local_field, factor)),
        "chi": _on_image(specimen, block_mean(tissue.chi, factor), outside=tissue.exterior),
        "labels": _on_image(specimen, block_mode(tissue.labels, factor)),
        "mask": _on_image(specimen, block_mean(tissue.region, factor) >= 0.5),
    }


def _on_image(specimen: Specimen, values: np.ndarray, outside: float = 0) -> np.ndarray:
    """Values on the voxels that a specimen holds, set into the whole image."""
    image = np.full(specimen.shape, outside, values.dtype)
    first = np.asarray(specimen.corner) // specimen.oversampling
    image[tuple(slice(a, a + n) for a, n in zip(first, values.shape, strict=True))] = values
    return image


def _flow(
    specimen: Specimen, rate: float, labels: Sequence[int], rng: np.random.Generator
) -> np.ndarray | None:
    """Phase in rad/s² of moving tissue: a smooth random pattern of velocities, at most `rate`."""
    if not rate or not len(labels):
        return None
    moving = np.isin(specimen.tissue.labels, labels)
    fine = subgrid_affine(specimen.affine, specimen.oversampling, specimen.corner)
    waves = rng.standard_normal((3, 3)) * 2 * np.pi / 0.4  # wavelengths near 40 mm
    x, y, z = _coordinates(fine, moving.shape)
    pattern = sum(np.sin(np.float32(a) * x + np.float32(b) * y + np.float32(c) * z) for a, b, c in waves) / 3
    return np.float32(rate) * pattern * moving


def _echoes(
    specimen: Specimen,
    protocol: Protocol,
    shim: np.ndarray,
    phase: np.ndarray,
    bias: np.ndarray,
    flow: np.ndarray | None,
    workers: int,
) -> np.ndarray:
    """Noise-free images of every echo, computed in sagittal slabs up to the last Fourier transform."""
    tissue, factor = specimen.tissue, protocol.oversampling
    held = tissue.chi.shape
    fine = [n * f for n, f in zip(protocol.shape, factor, strict=True)]
    kspace = np.zeros((len(protocol.echo_times), fine[0], *protocol.shape[1:]), np.complex64)

    def fill(start: int) -> None:
        rows = slice(start, min(start + 4, held[0]))
        corner = np.add(specimen.corner, (start, 0, 0))
        shape = (rows.stop - start, *held[1:])
        affine = subgrid_affine(specimen.affine, factor, corner)
        offset = specimen.total_field[rows] + _polynomial(shim, affine, shape)
        density = spoiled_steady_state(
            tissue.pd[rows], tissue.t1[rows], protocol.repetition_time, protocol.flip_angle
        ) * np.exp(_polynomial(bias, affine, shape) + 1j * _polynomial(phase, affine, shape))
        echoes = precess(
            np.float32(WATER_SIGNAL) * density,
            tissue.r2s[rows],
            offset * np.float32(protocol.imaging_frequency),
            protocol.echo_times,
            quadratic_phase=None if flow is None else flow[rows],
        )
        whole = np.zeros((shape[0], *fine[1:]), np.complex64)
        place = tuple(slice(c, c + n) for c, n in zip(corner[1:], shape[1:], strict=True))
        for echo, signal in zip(kspace, echoes, strict=True):
            whole[:, place[0], place[1]] = signal
            echo[corner[0] : corner[0] + shape[0]] = kspace_crop(whole, protocol.shape, factor, (2, 1))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, range(0, held[0], 4)))
    images = np.empty((len(kspace), *protocol.shape), np.complex64)
    window = _window(protocol.shape, protocol.apodization)
    for image, echo in zip(images, kspace, strict=True):
        cropped = kspace_crop(echo, protocol.shape, factor, (0,))
        image[:] = fft.ifftn(cropped * window, workers=workers)
    return images


# ----------------------------------------------------------------------------------------------------------
# What vendors write
# ----------------------------------------------------------------------------------------------------------


def siemens_encoding(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude and phase as 12-bit integers.

    Parameters
    ----------
    signal : ndarray of complex
        All echoes of a scan: they share one scale of the magnitude.

    Returns
    -------
    magnitude, phase : ndarray of uint16
        Both in 0...4095; a phase of p radians in [-π, π) is (p + π) · 4096 / 2π rounded, 4096 being 0 again.
    """
    magnitude = np.abs(signal)
    magnitude *= 4095 / magnitude.max()
    phase = np.rint((np.angle(signal) + np.pi) * (4096 / (2 * np.pi))).astype(np.uint16) % 4096
    return np.rint(magnitude).astype(np.uint16), phase


def ge_encoding(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Real and imaginary parts as 16-bit integers, phase falling where the field is higher.

    Parameters
    ----------
    signal : ndarray of complex
        All echoes of a scan: they share one scale.

    Returns
    -------
    real, imaginary : ndarray of int16
    """
    scale = 32767 / np.abs(signal).max()
    return np.rint(signal.real * scale).astype(np.int16), np.rint(-signal.imag * scale).astype(np.int16)
