"""The scanner: from an object in the magnet to the multi-echo complex images of a gradient-echo
scan.

Spins precess on a grid finer than the scan, whose complex signal is then cropped in k-space, as a
scanner does: partial volume, dephasing within a voxel and Gibbs ringing are those of a measurement.

Conventions: field in ppm, lengths in mm, times in s. Phase grows with the field, φ(TE) = φ0 + 2π ·
f0 · field · TE, f0 being the centre frequency. The scanner's z axis is B0.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy import fft

from ..core.grid import voxel_size_of
from ..core.phase.encoding import GYROMAGNETIC_RATIO
from .grid import across, block_mean, block_mode, coordinates, subgrid_affine

WATER_SIGNAL = 1000.0  # of fully relaxed water at TE = 0 without receive bias, arbitrary units


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
        Mean first-echo magnitude in the region of interest over the standard deviation of the real
        part's noise.
    oversampling : tuple of int
        Fine voxels per voxel along each axis on which spins precess.
    """

    shape: tuple[int, int, int] = (256, 256, 64)
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 2.0)
    echo_times: tuple[float, ...] = (0.006, 0.012, 0.018, 0.024, 0.030, 0.036)
    repetition_time: float = 0.045
    flip_angle: float = 5.0
    imaging_frequency: float = 3.0 * GYROMAGNETIC_RATIO
    snr: float = 185.0
    oversampling: tuple[int, int, int] = (2, 2, 2)


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
        Mean over each voxel, ppm: with shim and drift, and from within ``mask`` alone. They are
        known in a box around the object and 0 in the rest of the image, where there is no signal.
    chi : ndarray of float32, shape (x, y, z)
        Mean susceptibility of each voxel, ppm relative to water.
    labels : ndarray of uint8, shape (x, y, z)
        Label of the largest part of each voxel.
    mask : ndarray of bool, shape (x, y, z)
        The region of interest: the brain, or the phantom's water.
    shim : ndarray, shape (9,)
        What was added to the object's field, ppm: coefficients of `solid_harmonics`, the drift
        included.
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


def spoiled_steady_state(pd, t1, repetition_time, flip_angle):
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


def solid_harmonics(points):
    """Solid harmonics up to second order, the fields of shim coils.

    In order 1, x, y, z, xy, yz, xz, z² - (x² + y²)/2, x² - y².

    Parameters
    ----------
    points : sequence of three ndarrays
        Coordinates along the scanner's axes, in units of 100 mm.
    """
    x, y, z = points
    return [
        np.ones_like(x),
        x,
        y,
        z,
        x * y,
        y * z,
        x * z,
        z * z - (x * x + y * y) / 2,
        x * x - y * y,
    ]


def _polynomial(coefficients, affine, shape):
    """Sum of solid harmonics on a grid."""
    harmonics = solid_harmonics(coordinates(affine, shape))
    return sum(np.float32(c) * h for c, h in zip(coefficients, harmonics, strict=True))


def shim_coefficients(total_field, mask, affine, error, rng):
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
    harmonics = solid_harmonics(coordinates(affine, mask.shape))
    basis = np.stack([h[mask] for h in harmonics], axis=1, dtype=float)
    # Normal equations without BLAS, whose threads would round differently.
    gram = np.einsum("im,in->mn", basis, basis)
    moments = np.einsum("im,i->m", basis, total_field[mask])
    fitted = np.linalg.solve(gram, moments)
    spread = np.where(basis.std(axis=0) > 0, basis.std(axis=0), 1.0)
    return error * rng.standard_normal(len(fitted)) / spread - fitted


def kspace_crop(signal, shape, oversampling, axes):
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
        k-space in the order of the FFT, whose inverse is the image at the voxels' centres: a centre
        lies (n - 1)/2 fine voxels after the voxel's first one, hence the linear phase.
    """
    for axis in axes:
        n = shape[axis]
        factor = oversampling[axis]
        k = np.fft.fftfreq(n, 1 / n)
        shift = np.exp(1j * np.pi * k * (factor - 1) / (n * factor)) / factor
        kept = np.rint(k).astype(int) % (n * factor)
        signal = fft.fft(signal, axis=axis).take(kept, axis)
        signal = signal * across(shift.astype(np.complex64), axis)
    return signal


def precess(magnetization, r2s, frequency, echo_times, *, quadratic_phase=None):
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
    signal = magnetization
    elapsed = 0.0
    previous = None
    step = None
    for te in echo_times:
        interval = te - elapsed
        if previous is None or not np.isclose(interval, previous, rtol=1e-9, atol=0):
            angle = frequency * np.float32(2 * np.pi * interval)
            step = np.empty(angle.shape, np.complex64)
            decay = np.exp(r2s * np.float32(-interval))
            step.real = decay * np.cos(angle)
            step.imag = decay * np.sin(angle)
        signal = signal * step
        elapsed = te
        previous = interval
        yield (
            signal
            if quadratic_phase is None
            else signal * np.exp(1j * quadratic_phase * np.float32(te**2))
        )


def acquire(
    specimen,
    protocol,
    seed,
    *,
    b0_drift=0.0,
    shim_error=0.02,
    receive_phase=0.7,
    receive_bias=0.15,
    flow_phase=0.0,
    flow_labels=(),
    workers=1,
):
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
        Standard deviation of each coefficient of the receive phase at TE = 0, a smooth polynomial,
        rad.
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
    shim = shim_coefficients(
        truth["total_field"], truth["mask"], specimen.affine, shim_error, shim_rng
    )
    shim[0] += b0_drift
    # Elsewhere the object's field is not known, and the shim alone would pass for the whole.
    known = _held(specimen)
    truth["total_field"][known] += _polynomial(shim, specimen.affine, specimen.shape)[known]
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


def _truth(specimen):
    """Fields, susceptibility, labels and mask on the image's grid: means of its voxels, before any
    shim.
    """
    tissue = specimen.tissue
    factor = specimen.oversampling
    return {
        "total_field": _on_image(specimen, block_mean(specimen.total_field, factor)),
        "local_field": _on_image(specimen, block_mean(specimen.local_field, factor)),
        "chi": _on_image(specimen, block_mean(tissue.chi, factor), outside=tissue.exterior),
        "labels": _on_image(specimen, block_mode(tissue.labels, factor)),
        "mask": _on_image(specimen, block_mean(tissue.region, factor) >= 0.5),
    }


def _on_image(specimen, values, outside=0):
    """Values on the voxels that a specimen holds, set into the whole image."""
    image = np.full(specimen.shape, outside, values.dtype)
    image[_held(specimen)] = values
    return image


def _held(specimen):
    """Where in the image the voxels lie that a specimen holds."""
    first, extent = (
        np.floor_divide(n, specimen.oversampling)
        for n in (specimen.corner, specimen.tissue.chi.shape)
    )
    return tuple(slice(a, a + n) for a, n in zip(first, extent, strict=True))


def _flow(specimen, rate, labels, rng):
    """Phase in rad/s² of moving tissue: a smooth random pattern of velocities, at most `rate`."""
    if not rate or not len(labels):
        return None
    moving = np.isin(specimen.tissue.labels, labels)
    fine = subgrid_affine(specimen.affine, specimen.oversampling, specimen.corner)
    waves = rng.standard_normal((3, 3)) * 2 * np.pi / 0.4  # wavelengths near 40 mm
    x, y, z = coordinates(fine, moving.shape)
    pattern = (
        sum(np.sin(np.float32(a) * x + np.float32(b) * y + np.float32(c) * z) for a, b, c in waves)
        / 3
    )
    return np.float32(rate) * pattern * moving


def _echoes(specimen, protocol, shim, phase, bias, flow, workers):
    """Noise-free images of every echo, computed in sagittal slabs up to the last Fourier
    transform.
    """
    tissue = specimen.tissue
    factor = protocol.oversampling
    held = tissue.chi.shape
    fine = [n * f for n, f in zip(protocol.shape, factor, strict=True)]
    kspace = np.zeros((len(protocol.echo_times), fine[0], *protocol.shape[1:]), np.complex64)

    def fill(start):
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
            echo[corner[0] : corner[0] + shape[0]] = kspace_crop(
                whole, protocol.shape, factor, (2, 1)
            )

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, range(0, held[0], 4)))
    images = np.empty((len(kspace), *protocol.shape), np.complex64)
    for image, echo in zip(images, kspace, strict=True):
        image[:] = fft.ifftn(kspace_crop(echo, protocol.shape, factor, (0,)), workers=workers)
    return images
