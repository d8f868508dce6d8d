"""Background field removal by the spherical mean value property: SHARP and V-SHARP.

The field of sources outside a sphere is harmonic inside it, so that its value at the centre equals
its mean over the sphere. Subtracting spherical means therefore removes the background completely
wherever the sphere lies inside the mask. The local field that remains is filtered, and SHARP and
V-SHARP differ in how they undo the filter.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, sparse

from ..dipole import convolve, dipole_kernel, frequencies, inverse_transform
from ..grid import Vector, WorkingGrid, check_grid, field_in_mask
from ..linear_systems import conjugate_gradients
from ..phase.fieldfit import noise_weight
from .removal import BackgroundRemoval

# Means over at most this many voxels are faster as sums than by Fourier transforms.
FEW = 50
# Relative tolerance of distances: voxel sizes are rounded to float32 in image headers, and a sphere
# whose radius is a whole number of voxels should include the outermost ones.
_TOLERANCE = 1 + 1e-5


def sharp(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    b0_dir: Vector = (0, 0, 1),
    radius: float = 6.0,
    threshold: float = 0.02,
) -> BackgroundRemoval:
    """Apply sophisticated harmonic artifact reduction for phase data (SHARP), with one sphere.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Ignored, as a sphere has no direction. Accepted so that all methods have one interface.
    radius : float
        Radius of the sphere, mm. A larger sphere preserves lower spatial frequencies, but more of
        the mask is lost.
    threshold : float
        Spatial frequencies whose amplitude the filter reduces below this fraction are not restored
        but set to zero, as the division would amplify their noise.

    Returns
    -------
    BackgroundRemoval
        Its mask contains the voxels whose sphere lies inside `mask`.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field in it not finite, or no sphere fits into it.

    References
    ----------
    Schweser et al., NeuroImage 54:2789-2807 (2011), SHARP.
    """
    check_grid(mask, field=field)
    # Without a margin the restored field would wrap around.
    grid = WorkingGrid.around(mask, voxel_size, 2 * radius)
    sphere = Sphere.of_radius(radius, voxel_size)
    centres = sphere.centres(grid.embed(mask))
    if not centres.any():
        raise ValueError(f"no sphere of {radius:g} mm fits into the mask: give a smaller radius")
    transfer = sphere.high_pass(grid.shape)
    filtered = np.where(centres, convolve(transfer, _centred(field, mask, grid)), np.float32(0))
    restored = np.divide(
        1, transfer, out=np.zeros_like(transfer), where=np.abs(transfer) > threshold
    )
    local = np.where(centres, convolve(restored, filtered), np.float32(0))
    return BackgroundRemoval(grid.extract(local), grid.extract(centres))


def vsharp(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    b0_dir: Vector = (0, 0, 1),
    standard_error: np.ndarray | None = None,
    radius: float = 16.0,
    correlation_length: float = 10.0,
    noise_fraction: float = 0.003,
    tolerance: float = 0.15,
    max_iterations: int = 20,
) -> BackgroundRemoval:
    """Apply V-SHARP: SHARP with large spheres deep inside the mask and small ones near its surface.

    Let B be the voxels at which a sphere is used, S its mean, W the weights, and f the field. The
    local field l minimises Σ ‖W B (1 - S) (l - f)‖² over all spheres at once, so that each voxel is
    restored with the filter that was applied to it.

    It is found by conjugate gradients. The preconditioner is the power spectrum expected of a local
    field: that of a dipole field, times that of susceptibility with a correlation length, plus
    noise. Early stopping is part of the method: components that are likely in a local field
    converge first, and noise at the mask's surface last.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes, for the preconditioner.
    standard_error : ndarray, shape (x, y, z), optional
        Standard error of the field, ppm, for the weights W; see `noise_weight`. Uniform weights by
        default.
    radius : float
        Largest radius, mm. Smaller spheres have a half, a quarter and so on of it; the smallest is
        a voxel with its six neighbours.
    correlation_length : float
        Correlation length of susceptibility, mm: about the size of a nucleus.
    noise_fraction : float
        Power of the noise at any spatial frequency, relative to that of low frequencies across B0.
        The default corresponds to noise of about the power of the local field in voxels of 1 x 1 x
        2 mm.
    tolerance : float
        Stop when the residual of the normal equations has fallen to this fraction of its initial
        value.
    max_iterations : int
        Maximum number of iterations.

    Returns
    -------
    BackgroundRemoval
        Its mask contains the voxels that are covered by spheres of the smallest size inside `mask`.

    Raises
    ------
    ValueError
        If shapes differ, the mask is empty, the field in it not finite, a standard error in it not
        positive, or if the mask is too thin for the smallest sphere.

    References
    ----------
    Wu et al., Magn Reson Med 67:137-147 (2012), spheres of varying size; Sun & Wilman, Magn Reson
    Med 71:1151-1157 (2014), deconvolution by least squares.
    """
    check_grid(mask, field=field, standard_error=standard_error)
    # No margin is needed: no sphere extends beyond the mask, so nothing wraps around.
    grid = WorkingGrid.around(mask, voxel_size, 0)
    inside = grid.embed(mask)
    weight = grid.embed(noise_weight(standard_error, mask))
    target = _centred(field, mask, grid)
    spheres, sphere_of_voxel, covered = _largest_spheres(inside, voxel_size, radius)
    large = []
    small = []
    for number, sphere in enumerate(spheres, start=1):
        # Small spheres average less, so that a field filtered with them has more noise. Dividing by
        # the noise gain gives filtered white noise the same weighted power everywhere.
        sphere_weight = weight / np.float32(sphere.noise_gain)
        sphere_weight = np.where(sphere_of_voxel == number, sphere_weight, np.float32(0))
        if np.count_nonzero(sphere.weights) > FEW:
            large.append((sphere.high_pass(grid.shape), sphere_weight**2))
        else:
            small.append(sphere.high_pass_matrix(sphere_weight))
    matrix = sparse.vstack(small, format="csr") if small else None
    spectrum = _local_spectrum(grid.shape, voxel_size, b0_dir, correlation_length, noise_fraction)

    def normal(x):
        """Apply Σ (1 - S)ᴴ B W² B (1 - S), the operator of the normal equations."""
        # 1 - S is symmetric, hence a real transfer function and its own transpose.
        waves = fft.rfftn(x)
        total = np.zeros_like(waves)
        for transfer, squared_weight in large:
            filtered = inverse_transform(transfer * waves, x.shape)
            filtered *= squared_weight
            filtered_spectrum = fft.rfftn(filtered)
            filtered_spectrum *= transfer
            total += filtered_spectrum
        result = inverse_transform(total, x.shape)
        if matrix is not None:
            result += (matrix.T @ (matrix @ x.ravel())).reshape(x.shape)
        return result

    local, iterations, relative_residual = conjugate_gradients(
        normal,
        # The minimum is where the normal operator of l equals that of f.
        normal(target),
        tolerance=tolerance,
        max_iterations=max_iterations,
        # Zero outside the mask, where no field is to be estimated.
        precondition=lambda residual: inside * convolve(spectrum, residual),
    )
    return BackgroundRemoval(
        grid.extract(np.where(covered, local, np.float32(0))),
        grid.extract(covered),
        iterations,
        relative_residual,
    )


@dataclass(frozen=True)
class Sphere:
    """A weighted mean over the voxels around a voxel, which is exact for harmonic functions.

    Equal weights are inaccurate for spheres of a few voxels: with voxels of 1 x 1 x 2 mm, they
    extend further along one axis than along the others, and background passes the filter. The
    weights used here are the smallest that sum to 1 and have the same second moment along each
    axis, which makes the mean exact for harmonic polynomials up to degree 3. The central voxel has
    no weight.

    Attributes
    ----------
    voxel_size : tuple of 3 floats
        Voxel size, mm.
    weights : ndarray, odd sizes
        Weights of the voxels around the centre.
    """

    voxel_size: tuple[float, ...]
    weights: np.ndarray

    @classmethod
    def of_radius(cls, radius: float, voxel_size: Vector) -> "Sphere":
        """Compute the weights of a sphere, which includes at least the six neighbours.

        Parameters
        ----------
        radius : float
            Radius, mm.
        voxel_size : sequence of 3 floats
            Voxel size, mm.

        Returns
        -------
        Sphere

        Examples
        --------
        >>> sphere = Sphere.of_radius(1, (1, 1, 2))  # the discrete Laplacian
        >>> bool(np.isclose(sphere.weights[0, 1, 1], 4 * sphere.weights[1, 1, 0]))
        True
        """
        half_axes = tuple(max(radius, size) for size in voxel_size)
        axes = []
        for half_axis, size in zip(half_axes, voxel_size, strict=True):
            n = int(half_axis / size * _TOLERANCE)
            axes.append(np.arange(-n, n + 1) * size)
        offsets = np.ix_(*axes)
        distance = sum((x / a) ** 2 for x, a in zip(offsets, half_axes, strict=True))
        within = (distance > 0) & (distance <= _TOLERANCE**2)
        x, y, z = (np.broadcast_to(x, within.shape)[within] / max(half_axes) for x in offsets)
        weights = np.zeros(within.shape)
        weights[within] = _harmonic_mean_weights(x, y, z)
        return cls(tuple(voxel_size), weights)

    def centres(self, mask: np.ndarray) -> np.ndarray:
        """Find the voxels around which the sphere lies inside a mask.

        Parameters
        ----------
        mask : ndarray of bool, shape (x, y, z)
            Everything beyond the faces of the volume counts as outside the mask.

        Returns
        -------
        ndarray of bool, shape (x, y, z)
        """
        # Padded by the sphere's radius, with ones, so that nothing wraps around.
        padded_shape = []
        for n, width in zip(mask.shape, self.weights.shape, strict=True):
            padded_shape.append(fft.next_fast_len(n + width // 2, real=True))
        outside = np.ones(padded_shape, np.float32)
        volume = tuple(map(slice, mask.shape))
        outside[volume] = ~mask
        kernel = fft.rfftn(_around_origin(self.weights != 0, outside.shape))
        n_outside = convolve(kernel, outside)  # number of the sphere's voxels, up to rounding
        return mask & (n_outside[volume] < 0.5)

    def reach(self, centres: np.ndarray) -> np.ndarray:
        """Return the voxels of the spheres around some centres.

        Parameters
        ----------
        centres : ndarray of bool, shape (x, y, z)

        Returns
        -------
        ndarray of bool, shape (x, y, z)
        """
        return ndimage.binary_dilation(centres, self.weights != 0)

    def high_pass(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return the transfer function of 1 - S, which subtracts the spherical mean.

        Parameters
        ----------
        shape : tuple of 3 ints
            Shape of the volume.

        Returns
        -------
        ndarray of float32, shape (x, y, z // 2 + 1)
            On the half spectrum of ``scipy.fft.rfftn``; real, as the sphere is symmetric.
        """
        kernel = _around_origin(-self.weights, shape)
        kernel[0, 0, 0] += 1
        return np.ascontiguousarray(fft.rfftn(kernel).real)

    def high_pass_matrix(self, weight: np.ndarray) -> sparse.csr_array:
        """Return weighted rows of 1 - S as a sparse matrix that acts on a flattened volume.

        Parameters
        ----------
        weight : ndarray, shape (x, y, z)
            Weight of each voxel's row. Spheres around voxels with weight must lie in the volume.

        Returns
        -------
        scipy.sparse.csr_array of float32, shape (n, x * y * z)
            A row for each voxel whose weight is not zero.
        """
        centres = np.flatnonzero(weight)
        is_used = self.weights != 0
        offsets = np.argwhere(is_used) - np.array(self.weights.shape) // 2
        strides = np.cumprod([1, *weight.shape[:0:-1]])[::-1]
        # Each row has 1 at its voxel, followed by the negative weights of the sphere.
        columns = centres[:, None] + np.concatenate([[0], offsets @ strides])
        values = weight.ravel()[centres, None] * np.concatenate([[1], -self.weights[is_used]])
        rows = np.arange(0, columns.size + 1, columns.shape[1])
        return sparse.csr_array(
            (
                values.ravel().astype(np.float32),
                columns.ravel().astype(np.int32),
                rows.astype(np.int32),
            ),
            shape=(len(centres), weight.size),
        )

    @property
    def noise_gain(self) -> float:
        """SD of white noise after subtracting its spherical mean, relative to its SD before."""
        return float(np.sqrt(1 + np.sum(self.weights**2)))


def _around_origin(weights, shape):
    """Embed a kernel of odd sizes into a volume, with its centre at the first voxel."""
    kernel = np.zeros(shape, np.float32)
    indices = []
    for width, n in zip(weights.shape, shape, strict=True):
        indices.append((np.arange(width) - width // 2) % n)
    kernel[np.ix_(*indices)] = weights
    return kernel


def _centred(field, mask, grid):
    """Return the field on the grid minus its mean in the mask.

    The mean is background anyway. Subtracting it leaves more of single precision for variation.
    """
    target = grid.embed(field_in_mask(mask, field))
    inside = grid.embed(mask)
    values = target[inside]
    target[inside] = values - values.mean(dtype=np.float64)
    return target


def _harmonic_mean_weights(x, y, z):
    """Return the smallest weights that sum to 1 and have the same second moment along each axis.

    The weighted mean of any harmonic polynomial of degree 2 then equals its value at the origin,
    and so does that of degree 1 or 3, by symmetry.
    """
    conditions = np.array([np.ones_like(x), x**2 - y**2, x**2 - z**2])
    # Minimum-norm solution for a sum of 1 and equal moments: the first column.
    return np.linalg.pinv(conditions)[:, 0]


def _largest_spheres(mask, voxel_size, radius):
    """Find the largest sphere that fits around each voxel.

    Returns the spheres that are used, from large to small; for each voxel the number of its sphere,
    counted from 1, or 0 if none fits; and the voxels that are covered by smallest spheres.
    """
    smallest = min(voxel_size)
    n_halvings = int(np.log2(max(radius / smallest, 1)))
    radii = radius / 2.0 ** np.arange(n_halvings + 1)
    radii = [*radii[radii > smallest * _TOLERANCE].tolist(), smallest]
    used = []
    number = np.zeros(mask.shape, np.uint8)
    for sphere_radius in radii:
        sphere = Sphere.of_radius(sphere_radius, voxel_size)
        is_first_fit = sphere.centres(mask) & (number == 0)
        if is_first_fit.any():
            used.append(sphere)
            number[is_first_fit] = len(used)
    if not used:
        raise ValueError(
            "the mask is too thin for the smallest sphere, a voxel and its six neighbours: give "
            "another mask"
        )
    # The last sphere is the smallest. It fits wherever a larger one does.
    return used, number, sphere.reach(number > 0)


def _local_spectrum(shape, voxel_size, b0_dir, correlation_length, noise_fraction):
    """Return the expected power spectrum of a local field; 1 for low frequencies across B0."""
    squared_frequency = sum(k**2 for k in frequencies(shape, voxel_size))
    susceptibility = 1 / (1 + (2 * np.pi * correlation_length) ** 2 * squared_frequency)
    dipole = (3 * dipole_kernel(shape, voxel_size, b0_dir)) ** 2
    return dipole * susceptibility + np.float32(noise_fraction)
