"""Reception by an array of coils: their sensitivities, the combination of channels, the noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..grid import along_axis
from ..protocol import Receiver
from .gradients import unit_phasor
from .truncation import truncate

SAMPLE = 6.0  # mm between the points at which sensitivities are computed
LOWEST_POWER = 1e-3  # of a block's signal, relative to the mean of all: noise, where there is none
SIDES = 12  # of the polygon that stands for a loop
TINY = np.finfo(np.float32).tiny
SPEED_OF_LIGHT = 2.998e11  # mm/s
VACUUM_RESISTANCE = 376.7  # of a wave, ohm


# The vessel of the phantom has a radius of 104 mm; wires stay 2 cm away from it and more, wherever
# the phantom is placed. Its water conducts little, since the gadolinium is chelated (our choice).
PHANTOM_SEMIAXES = (140.0, 140.0, 130.0)  # mm
WATER_PERMITTIVITY = 78.0
SOLUTION_CONDUCTIVITY = 0.01  # S/m


@dataclass(frozen=True)
class Coils:
    """Loops around the head, whose signals are combined by what the images show of them.

    Loops of equal size cover an ellipsoid, open at the neck. By reciprocity (Hoult & Richards, J
    Magn Reson 24:71, 1976), a loop's sensitivity is Bx - i By of the field that a current in it
    would have, B0 being along z. A current element has the field (dl × r)/r³ (1 - ikr) exp(ikr) in
    a uniform medium with k² = (ω/c)² ε + iωμ₀σ, here that of the head throughout.

    Channels are combined at each echo with the weights w = <|ρ|² s v*>, the mean over a block of
    the products of each channel's image s ρ and of a virtual reference's v ρ (Walsh et al., Magn
    Reson Med 43:682, 2000; Parker et al., Magn Reson Med 72:563, 2014). The reference v is the sum
    of all channels, whose phases are equal in the middle of the image. Thus the image has the
    phase of v, which is not smooth near the coils, and errors where the mean over a block is not
    its middle, as at the surface, which differ from echo to echo as the weights |ρ|² do. The
    magnitude is normalised by the sensitivities, so that the noise grows with their distance.

    Parameters
    ----------
    semiaxes : tuple of float
        Semi-axes of the ellipsoid, mm; our choice, 2 to 4 cm from the scalp.
    permittivity : float
        Relative permittivity ε of the head, between that of grey (73) and of white matter (53) at
        128 MHz (Gabriel et al., Phys Med Biol 41:2271, 1996).
    conductivity : float
        Conductivity σ, S/m, between .59 and .34 (likewise).
    block : float
        Width of the block, mm; our choice.
    placement : float
        Standard deviation of the head's place in the coil along each axis, mm; our choice.
    """

    semiaxes: tuple[float, float, float] = (110.0, 130.0, 130.0)
    permittivity: float = 63.0
    conductivity: float = 0.47
    block: float = 18.0
    placement: float = 5.0

    def around_phantom(self) -> "Coils":
        """Return the coil for the phantom of water, none of whose loops touches the vessel."""
        return replace(
            self,
            semiaxes=PHANTOM_SEMIAXES,
            permittivity=WATER_PERMITTIVITY,
            conductivity=SOLUTION_CONDUCTIVITY,
        )

    def apply(
        self,
        images: np.ndarray,
        affine: np.ndarray,
        imaging_frequency: float,
        receiver: Receiver,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, Mapping[str, object]]:
        """Give images the phase of reception, in place.

        Parameters
        ----------
        images : ndarray of complex64, shape (n_echoes, x, y, z)
            Images of all echoes.
        affine : ndarray, shape (4, 4)
            From voxels to the scanner's axes, mm.
        imaging_frequency : float
            Centre frequency, MHz.
        receiver : Receiver
            Channels, and how they are combined.
        rng : numpy.random.Generator
            Draws the head's place in the coil.

        Returns
        -------
        noise_level : ndarray of float32, shape (x, y, z)
            Standard deviation of the noise, in units of one channel's.
        record : dict
            What was drawn.
        """
        shape = images.shape[1:]
        voxels, size = _sample_grid(affine, shape)
        middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
        shift = self.placement * rng.standard_normal(3)
        centres, normals, radius = loops(receiver.channels, self.semiaxes)
        centres = centres + middle + shift
        points = np.stack(np.meshgrid(*voxels, indexing="ij"))
        points = (
            np.einsum("ij,jabc->iabc", affine[:3, :3], points) + affine[:3, 3, None, None, None]
        )
        received = sensitivities(
            points.astype(np.float32),
            centres,
            normals,
            radius,
            self.wavenumber(imaging_frequency),
        )
        reference = _virtual_reference(received)
        total = np.sqrt((np.abs(received) ** 2).sum(axis=0))
        width = np.maximum(np.rint(self.block / size).astype(int), 1)
        for image in images:
            power = _block_means(np.abs(image) ** 2, voxels)
            power += np.float32(LOWEST_POWER) * power.mean()
            combined = _combination(received, reference, power, width) / total
            if receiver.sum_of_squares:
                combined /= np.abs(combined)
            image *= interpolate(combined, shape)
        level = interpolate(total.mean() / total, shape)
        return level, {"Displacement": shift.tolist()}

    def wavenumber(self, imaging_frequency: float) -> complex:
        """Return the wavenumber (1/mm) in the head at a frequency (MHz).

        Examples
        --------
        >>> wavenumber = Coils().wavenumber(127.7)
        >>> round(2 * np.pi / wavenumber.real)  # mm, a wavelength
        267
        """
        vacuum = 2 * np.pi * 1e6 * imaging_frequency / SPEED_OF_LIGHT
        loss = self.conductivity / 1000 * VACUUM_RESISTANCE / vacuum
        return complex(vacuum * np.sqrt(self.permittivity + 1j * loss))


def loops(channels: int, semiaxes: Sequence[float]) -> tuple[np.ndarray, np.ndarray, float]:
    """Return loops that cover an ellipsoid around the origin, but for its lowest tenth.

    Parameters
    ----------
    channels : int
        Number of loops.
    semiaxes : sequence of float
        Semi-axes of the ellipsoid, mm.

    Returns
    -------
    centres, normals : ndarray, shape (channels, 3)
        Centres (mm), and unit vectors along the axes of the loops.
    radius : float
        Radius of the loops, mm: neighbours overlap a little, as they do to be decoupled.
    """
    axes = np.asarray(semiaxes)
    golden = np.pi * (3 - np.sqrt(5))
    number = np.arange(channels)
    height = 1 - 1.8 * (number + 0.5) / channels
    angle = golden * number
    ring = np.sqrt(1 - height**2)
    sphere = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    normals = sphere / axes
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    area = 0.9 * 4 * np.pi * np.mean(axes**2)
    return sphere * axes, normals, float(1.15 * np.sqrt(area / channels / np.pi))


def sensitivities(
    points: np.ndarray,
    centres: np.ndarray,
    normals: np.ndarray,
    radius: float,
    wavenumber: complex = 0j,
) -> np.ndarray:
    """Return the sensitivities Bx - i By of loops in a uniform medium.

    Parameters
    ----------
    points : ndarray of float32, shape (3, ...)
        Where, mm along the scanner's axes.
    centres, normals : ndarray, shape (channels, 3)
        Centres (mm) and axes of the loops.
    radius : float
        Their radius, mm.
    wavenumber : complex
        That of a wave in the medium, 1/mm; 0 for the law of Biot and Savart.

    Returns
    -------
    ndarray of complex64, shape (channels, ...)
        Relative to the static field in the middle of a loop.
    """
    received = np.zeros((len(centres), *points.shape[1:]), np.complex64)
    angles = 2 * np.pi * (np.arange(SIDES) + 0.5) / SIDES
    for loop, centre, normal in zip(received, centres, normals, strict=True):
        turn, _ = Rotation.align_vectors([normal], [[0, 0, 1]])
        across, along = turn.apply([[1, 0, 0], [0, 1, 0]])
        for angle in angles:
            outwards = np.cos(angle) * across + np.sin(angle) * along
            # Times r / 2π, so that the field in the middle of the loop is 1.
            side = (np.cos(angle) * along - np.sin(angle) * across) / SIDES * radius**2
            dx, dy, dz = side.astype(np.float32)
            x, y, z = points - (centre + radius * outwards).astype(np.float32)[:, None, None, None]
            square = x * x + y * y + z * z
            field = _retarded(np.sqrt(square), wavenumber) / square
            loop += field * (dy * z - dz * y) - 1j * field * (dz * x - dx * z)
    return received


def _retarded(distance, wavenumber):
    """Return (1 - ikr) exp(ikr) / r for a distance r, as complex64."""
    factor = unit_phasor(np.float32(wavenumber.real) * distance)
    factor *= np.exp(np.float32(-wavenumber.imag) * distance) / distance
    return factor * (1 - np.complex64(1j * wavenumber) * distance)


def _virtual_reference(received):
    """Return the sum of all channels, with equal phases in the middle of the grid."""
    middle = received[(slice(None), *(n // 2 for n in received.shape[1:]))]
    aligned = middle.conj() / np.abs(middle)
    return np.einsum("c,cxyz->xyz", aligned, received)


def _combination(received, reference, power, width):
    """Return the sensitivity of the image that is combined with weights from blocks.

    Parameters
    ----------
    received : ndarray of complex64, shape (channels, x, y, z)
        Sensitivities.
    reference : ndarray of complex64, shape (x, y, z)
        That of the virtual reference.
    power : ndarray of float32, shape (x, y, z)
        Squared magnitude of the object's signal.
    width : sequence of int
        Width of the block along each axis.
    """
    total = np.zeros_like(reference)
    squares = np.zeros_like(power)
    weighting = power * reference.conj()
    for channel in received:
        product = weighting * channel
        weight = np.empty_like(product)
        weight.real = ndimage.uniform_filter(product.real, width, mode="nearest")
        weight.imag = ndimage.uniform_filter(product.imag, width, mode="nearest")
        total += weight.conj() * channel
        squares += np.abs(weight) ** 2
    return total / np.sqrt(squares)


def _sample_grid(affine, shape):
    """Return the indices of sample points along each axis, and their distances, mm."""
    size = np.linalg.norm(affine[:3, :3], axis=0)
    voxels = []
    for n, width in zip(shape, size, strict=True):
        n_samples = max(int(np.ceil((n - 1) * width / SAMPLE)) + 1, 2)
        # A sample of its own for each voxel, if voxels are coarser than samples.
        voxels.append(np.linspace(0, n - 1, min(n_samples, n)))
    steps = [indices[1] - indices[0] for indices in voxels]
    return voxels, np.array(steps) * size


def _block_means(values, voxels):
    """Return means over the voxels that are closest to each sample point."""
    for axis, indices in enumerate(voxels):
        edges = np.ceil((indices[:-1] + indices[1:]) / 2).astype(int)
        first = np.concatenate([[0], edges])
        counts = np.diff(first, append=values.shape[axis]).astype(np.float32)
        values = np.add.reduceat(values, first, axis=axis) / along_axis(counts, axis)
    return values


def interpolate(samples: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Interpolate linearly between samples, the first and last of which are at the grid's ends.

    Parameters
    ----------
    samples : ndarray, shape (i, j, k)
        At least two samples along each axis.
    shape : sequence of int
        Voxels of the grid.

    Returns
    -------
    ndarray, shape `shape`

    Examples
    --------
    >>> interpolate(np.arange(8.0).reshape(2, 2, 2), (2, 2, 3))[0].tolist()
    [[0.0, 0.5, 1.0], [2.0, 2.5, 3.0]]
    """
    # The first axis, whose planes are contiguous, is last: that takes least time.
    for axis in (2, 1, 0):
        n = shape[axis]
        place = np.arange(n) * ((samples.shape[axis] - 1) / max(n - 1, 1))
        below = np.minimum(place.astype(int), samples.shape[axis] - 2)
        fraction = along_axis((place - below).astype(samples.real.dtype), axis)
        lower = samples.take(below, axis)
        samples = lower + fraction * (samples.take(below + 1, axis) - lower)
    return samples


@dataclass(frozen=True)
class MultichannelNoise:
    """Noise of several channels, in their combination and in the sum of squares.

    Without this effect, the real and imaginary parts have noise of one standard deviation
    throughout, and the magnitude is that of the complex image.

    With unit weights along the sensitivities, the combined image is S + σ ε, ε being complex
    normal. The other n - 1 combinations that are orthogonal to it have no signal, so that the sum
    of squares over all channels is |S + σ ε|² + σ² χ²(2(n - 1)): the magnitude follows a
    non-central χ distribution of 2n degrees of freedom (Constantinides et al., Magn Reson Med
    38:852, 1997). The channels' noise is white and uncorrelated.
    """


def add_noise(
    images: np.ndarray,
    level: np.ndarray | float,
    sampled: np.ndarray,
    rng: np.random.Generator,
    *,
    silent_channels: int = 0,
    workers: int = 1,
) -> None:
    """Add noise to images in place, and leave out lines of k-space that are not acquired.

    Parameters
    ----------
    images : ndarray of complex64, shape (n_echoes, x, y, z)
        Images of all echoes.
    level : ndarray of float32, shape (x, y, z), or float
        Standard deviation of the real and of the imaginary part in the images.
    sampled : ndarray of bool
        Lines that are acquired, see `truncate`.
    rng : numpy.random.Generator
        Draws the noise.
    silent_channels : int
        Combinations of channels without signal, which contribute to a sum of squares.
    workers : int
        Number of threads of the Fourier transforms.
    """
    sigma = np.asarray(level, np.float32)
    # The image has the noise of the lines that are acquired.
    spread = sigma / np.float32(np.sqrt(sampled.mean()))
    for image in images:
        image.real += rng.standard_normal(image.shape, dtype=np.float32) * spread
        image.imag += rng.standard_normal(image.shape, dtype=np.float32) * spread
        if not sampled.all():
            image[:] = truncate(image, sampled, workers=workers)
        if silent_channels:
            silent = 2 * rng.standard_gamma(silent_channels, image.shape, dtype=np.float32)
            square = image.real**2 + image.imag**2
            # Where the image is 0 to the last bit, so is the noise.
            image *= np.sqrt(1 + sigma**2 * silent / np.maximum(square, TINY))
