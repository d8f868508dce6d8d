"""Background field removal by the mean value property: what comes from outside is its own mean over
any sphere.

The field of sources outside a sphere is harmonic in it, so its value at the centre is its mean over
the sphere. A field less its spherical mean is therefore free of all background wherever the sphere
lies inside the mask. What is left of the local field is filtered, and SHARP and V-SHARP differ in
how they undo that.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage, sparse

from ..dipole import convolve, dipole_kernel, frequencies, inverse_transform
from ..grid import WorkingGrid, field_in_mask
from ..linear_systems import conjugate_gradients
from ..phase.fieldfit import noise_weight
from .removal import BackgroundRemoval

# Means over so few voxels are cheaper as sums than by Fourier transforms.
FEW = 50
# voxel sizes are read as float32, and a sphere of whole voxels should reach these
_TOUCH = 1 + 1e-5


def sharp(field, mask, voxel_size, *, b0_dir=(0, 0, 1), radius=6.0, threshold=0.02):
    """Sophisticated harmonic artifact reduction for phase data, with one sphere.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region whose local field is wanted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Not used, as a sphere has no direction; here so that methods can take each other's place.
    radius : float
        Radius of the sphere, mm. A larger one keeps more of the low frequencies and loses more of
        the mask.
    threshold : float
        Spatial frequencies at which the filter leaves less than this share are not restored but
        left out.

    Returns
    -------
    multiqsm.core.background.removal.BackgroundRemoval
        Its mask holds the voxels whose sphere lies inside `mask`.

    Raises
    ------
    ValueError
        If the mask is empty, the field in it not finite, or no sphere fits into it.

    References
    ----------
    Schweser et al., NeuroImage 54:2789-2807 (2011), SHARP.
    """
    grid = WorkingGrid.around(mask, voxel_size, 2 * radius)  # the restored field would wrap around
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
    field,
    mask,
    voxel_size,
    *,
    b0_dir=(0, 0, 1),
    standard_error=None,
    radius=16.0,
    correlation_length=10.0,
    noise_fraction=0.003,
    tolerance=0.15,
    max_iterations=20,
):
    """SHARP with spheres as large as fit: small ones near the surface, large ones deep inside.

    With B the voxels that take a sphere, S its mean, and W the weights, the local field l that
    explains the filtered field f, min Σ ‖W B (1 - S) (l - f)‖² over all spheres at once, is found
    by conjugate gradients: every voxel is restored with the filter that it was filtered with. The
    preconditioner is the power spectrum that a local field has, that of a dipole's field, of
    susceptibility that is alike over some distance, and of noise. Stopping early is part of the
    method: what is likeliest as a local field is found first, and noise at the mask's surface last.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region whose local field is wanted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes, for the spectrum.
    standard_error : ndarray, shape (x, y, z), optional
        Standard error of the field, ppm, for the weights W, see `noise_weight`. Uniform weights
        without it.
    radius : float
        Largest radius, mm. It is halved down to a voxel, where the sphere is a voxel and its six
        neighbours.
    correlation_length : float
        Distance over which susceptibility is alike, mm: about the size of a nucleus.
    noise_fraction : float
        Power of the noise at a spatial frequency, relative to that of slow waves across B0. The
        default allows for noise of about the local field's own power in voxels of 1 x 1 x 2 mm.
    tolerance : float
        Stop when the residual of the normal equations has fallen to this share of its start.
    max_iterations : int
        Stop after so many iterations in any case.

    Returns
    -------
    multiqsm.core.background.removal.BackgroundRemoval
        Its mask holds the voxels that the smallest sphere reaches inside `mask`.

    Raises
    ------
    ValueError
        If the mask is empty, the field in it not finite, a standard error in it not positive, or if
        the mask is too thin for the smallest sphere.

    References
    ----------
    Wu et al., Magn Reson Med 67:137-147 (2012), spheres of varying size; Sun & Wilman, Magn Reson
    Med 71:1151-1157 (2014), deconvolution by least squares.
    """
    # no sphere leaves the mask, so nothing wraps around
    grid = WorkingGrid.around(mask, voxel_size, 0)
    inside = grid.embed(mask)
    weight = grid.embed(noise_weight(standard_error, mask))
    target = _centred(field, mask, grid)
    filters, which, known = _largest_spheres(inside, voxel_size, radius)
    large = []
    small = []
    for place, sphere in enumerate(filters, start=1):
        # Of white noise alone, every filtered field would be believed alike.
        believed = np.where(which == place, weight / np.float32(sphere.noise_gain), np.float32(0))
        if np.count_nonzero(sphere.weights) > FEW:
            large.append((sphere.high_pass(grid.shape), believed**2))
        else:
            small.append(sphere.high_pass_matrix(believed))
    few = sparse.vstack(small, format="csr") if small else None
    spectrum = _local_spectrum(grid.shape, voxel_size, b0_dir, correlation_length, noise_fraction)

    def normal(x):
        """The normal equations' operator."""
        waves = fft.rfftn(x)
        total = np.zeros_like(waves)
        for transfer, power in large:
            filtered = inverse_transform(transfer * waves, x.shape)
            filtered *= power
            back = fft.rfftn(filtered)
            back *= transfer
            total += back
        result = inverse_transform(total, x.shape)
        if few is not None:
            result += (few.T @ (few @ x.ravel())).reshape(x.shape)
        return result

    local, iterations, reached = conjugate_gradients(
        normal,
        normal(target),
        tolerance=tolerance,
        max_iterations=max_iterations,
        precondition=lambda residual: inside * convolve(spectrum, residual),
    )
    return BackgroundRemoval(
        grid.extract(np.where(known, local, np.float32(0))),
        grid.extract(known),
        iterations,
        reached,
    )


@dataclass(frozen=True)
class Sphere:
    """A mean over the voxels within a radius of one, weighted so that a harmonic function's is its
    value there.

    Equal weights would not do where the sphere is a few voxels wide: with voxels of 1 x 1 x 2 mm
    they reach further along one axis than along others and let background through. The weights are
    the smallest that sum to 1 and have the same second moment along each axis, which makes the mean
    exact for harmonic polynomials up to degree 3. The voxel itself is left out.

    Attributes
    ----------
    voxel_size : tuple of 3 floats
        Voxel size, mm.
    weights : ndarray, odd sizes
        Weights around the centre.
    """

    voxel_size: tuple[float, ...]
    weights: np.ndarray

    @classmethod
    def of_radius(cls, radius, voxel_size):
        """Weigh the voxels of a sphere.

        Parameters
        ----------
        radius : float
            In mm.
        voxel_size : sequence of 3 floats
            In mm.

        Examples
        --------
        >>> sphere = Sphere.of_radius(1, (1, 1, 2))  # the discrete Laplacian
        >>> bool(np.isclose(sphere.weights[0, 1, 1], 4 * sphere.weights[1, 1, 0]))
        True
        """
        half_axes = tuple(max(radius, size) for size in voxel_size)
        reach = [
            int(axis / size * _TOUCH) for axis, size in zip(half_axes, voxel_size, strict=True)
        ]
        axes = np.ix_(
            *[np.arange(-n, n + 1) * size for n, size in zip(reach, voxel_size, strict=True)]
        )
        distance = sum((x / a) ** 2 for x, a in zip(axes, half_axes, strict=True))
        within = (distance > 0) & (distance <= _TOUCH**2)
        x, y, z = (np.broadcast_to(c, within.shape)[within] / max(half_axes) for c in axes)
        weights = np.zeros(within.shape)
        weights[within] = _harmonic_mean_weights(x, y, z)
        return cls(tuple(voxel_size), weights)

    def centres(self, mask):
        """Voxels around which the sphere lies inside the mask; beyond the volume's faces there is
        no mask.
        """
        # so that nothing wraps around
        room = [n + m // 2 for n, m in zip(mask.shape, self.weights.shape, strict=True)]
        outside = np.ones([fft.next_fast_len(n, real=True) for n in room], np.float32)
        whole = tuple(slice(n) for n in mask.shape)
        outside[whole] = ~mask
        touched = convolve(fft.rfftn(_around_origin(self.weights != 0, outside.shape)), outside)
        return mask & (touched[whole] < 0.5)

    def reach(self, centres):
        """Voxels of the spheres around some centres."""
        return ndimage.binary_dilation(centres, self.weights != 0)

    def high_pass(self, shape):
        """Transfer function of 1 - S on the half spectrum: a volume less its spherical mean."""
        kernel = _around_origin(-self.weights, shape)
        kernel[0, 0, 0] += 1
        return np.ascontiguousarray(fft.rfftn(kernel).real)

    def high_pass_matrix(self, weight):
        """1 - S as a matrix on the flattened volume: a row, times its weight, for each voxel that
        has one.
        """
        centres = np.flatnonzero(weight)
        offsets = [
            index - n // 2
            for index, n in zip(np.nonzero(self.weights), self.weights.shape, strict=True)
        ]
        strides = np.cumprod([1, *weight.shape[:0:-1]])[::-1]
        columns = centres[:, None] + np.concatenate([[0], strides @ offsets])
        values = weight.ravel()[centres, None] * np.concatenate(
            [[1], -self.weights[self.weights != 0]]
        )
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
    def noise_gain(self):
        """Standard deviation of white noise less its spherical mean, relative to the noise."""
        return float(np.sqrt(1 + np.sum(self.weights**2)))


def _around_origin(weights, shape):
    """A kernel of odd sizes on a volume, wrapped around its first voxel."""
    kernel = np.zeros(shape, np.float32)
    where = [np.arange(n) - n // 2 for n in weights.shape]
    kernel[np.ix_(*[index % n for index, n in zip(where, shape, strict=True)])] = weights
    return kernel


def _centred(field, mask, grid):
    """The field on the grid about its mean in the mask, so that single precision is spent on what
    varies.
    """
    target = grid.embed(field_in_mask(mask, field))
    inside = grid.embed(mask)
    values = target[inside]
    target[inside] = values - values.mean(dtype=np.float64)
    return target


def _harmonic_mean_weights(x, y, z):
    """Smallest weights that sum to 1 and have the same second moment along each axis.

    The value at the origin is then the mean of every harmonic polynomial of degree 2, and of degree
    3 by symmetry.
    """
    conditions = np.array([np.ones_like(x), x**2 - y**2, x**2 - z**2])
    return np.linalg.pinv(conditions)[:, 0]


def _largest_spheres(mask, voxel_size, radius):
    """Spheres from large to small, which of them is the first to fit around each voxel, and the
    voxels they reach.

    Spheres count from 1; 0 is where none fits.
    """
    smallest = min(voxel_size)
    radii = [radius / 2**n for n in range(int(np.log2(max(radius / smallest, 1))) + 1)]
    ladder = [
        Sphere.of_radius(r, voxel_size)
        for r in [*(r for r in radii if r > smallest * _TOUCH), smallest]
    ]
    used = []
    which = np.zeros(mask.shape, np.uint8)
    for sphere in ladder:
        first = sphere.centres(mask) & (which == 0)
        if first.any():
            used.append(sphere)
            which[first] = len(used)
    if not used:
        raise ValueError(
            "the mask is too thin for the smallest sphere, a voxel and its neighbours: give "
            "another mask"
        )
    return used, which, ladder[-1].reach(which > 0)


def _local_spectrum(shape, voxel_size, b0_dir, correlation_length, noise_fraction):
    """Power that a local field has at each spatial frequency, 1 for slow waves across B0."""
    slowness = 1 / (
        1
        + (2 * np.pi * correlation_length) ** 2 * sum(k**2 for k in frequencies(shape, voxel_size))
    )
    return (3 * dipole_kernel(shape, voxel_size, b0_dir)) ** 2 * slowness + np.float32(
        noise_fraction
    )
