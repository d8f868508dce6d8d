"""The scanner: from an object in the magnet to the multi-echo complex images of a gradient-echo
scan.

Spins precess on a grid finer than the scan, whose complex signal is then cropped in k-space, as a
scanner does: partial volume, dephasing within a voxel and Gibbs ringing are those of a measurement.

Conventions: field in ppm, lengths in mm, times in s. Phase grows with the field, φ(TE) = φ0 + 2π ·
f0 · field · TE, f0 being the centre frequency. The scanner's z axis is B0.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from scipy import fft

from ..core.grid import voxel_size_of
from .effects import IDEAL, Effects, Records, effect_generator
from .effects.coils import add_noise
from .effects.flow import BloodFlow, random_flow_phase
from .effects.kspace import distort_lines, sampled_lines
from .effects.phantom_defects import add_ghosts, drift_lines
from .effects.reception import receive
from .grid import along_axis, block_mean, block_mode, coordinates, subgrid_affine
from .harmonics import polynomial, solid_harmonics
from .protocol import SINGLE_COIL, Protocol, Receiver
from .specimen import Specimen

WATER_SIGNAL = 1000.0  # of fully relaxed water at TE = 0 without receive bias, arbitrary units


@dataclass(frozen=True)
class Scan:
    """A simulated scan with its truth, everything on the image's grid.

    Parameters
    ----------
    signal : ndarray of complex64, shape (x, y, z, n_echoes)
        The images, each contiguous.
    noise_sigma : float
        Standard deviation of the noise of the real and of the imaginary part; where it differs
        from voxel to voxel, the root mean square over ``mask``.
    total_field, local_field : ndarray of float32, shape (x, y, z)
        Mean over each voxel, ppm. The total field includes shim and drift; the local field has its
        sources within ``mask``. Both are computed in a box around the object and 0 in the rest of
        the image, where there is no signal.
    chi : ndarray of float32, shape (x, y, z)
        Mean susceptibility of each voxel, ppm relative to water.
    labels : ndarray of uint8, shape (x, y, z)
        Label of the largest part of each voxel.
    mask : ndarray of bool, shape (x, y, z)
        The region of interest: the brain, or the phantom's water.
    shim : ndarray, shape (9,)
        Coefficients of `solid_harmonics` (ppm) that were added to the object's field, drift
        included.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    effects : mapping
        What was drawn for each of the scan's effects, by the effect's name.
    effect_fields : mapping of str to ndarray of float32
        What effects have added to ``total_field``, ppm, by the effect's name; ``chi`` and
        ``local_field`` are those without it.
    effect_maps : mapping of str to ndarray of float32
        What other effects do at each place, by the effect's name, 0 in air. ``breathing``: change
        of the field from expiration to inspiration, ppm. ``flow``: phase of moving spins in the
        last echo, rad. ``eddy_currents``, ``bipolar`` and ``coils``: phase, rad, see
        `multiqsm.simulation.effects.reception.Reception`. ``noise``: standard deviation of the
        noise's real and imaginary part, in the signal's units.
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
    effects: Records = field(default_factory=dict)
    effect_fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    effect_maps: Mapping[str, np.ndarray] = field(default_factory=dict)


def spoiled_steady_state(
    pd: np.ndarray, t1: np.ndarray, repetition_time: float, flip_angle: float
) -> np.ndarray:
    """Return the transverse magnetisation just after the pulse of a spoiled gradient echo.

    Parameters
    ----------
    pd, t1 : ndarray
        Proton density relative to water; longitudinal relaxation time, s.
    repetition_time : float
        Repetition time, s.
    flip_angle : float
        Flip angle, degrees.

    References
    ----------
    Ernst & Anderson, Rev Sci Instrum 37:93 (1966).
    """
    recovered = np.exp(-np.float32(repetition_time) / t1)
    alpha = np.deg2rad(np.float32(flip_angle))
    return pd * np.sin(alpha) * (1 - recovered) / (1 - np.cos(alpha) * recovered)


def shim_coefficients(
    total_field: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    error: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the field that a shim up to second order adds, with the errors of a real shim.

    Parameters
    ----------
    total_field : ndarray, shape (x, y, z)
        Field of the object, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Voxels over which the field is shimmed.
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


def kspace_crop(
    signal: np.ndarray, shape: Sequence[int], oversampling: Sequence[int], axes: Sequence[int]
) -> np.ndarray:
    """Transform a fine-grid signal to k-space and keep the frequencies that the scan samples.

    Parameters
    ----------
    signal : ndarray of complex64, shape (x, y, z)
        On the fine grid along `axes`, with `oversampling` fine voxels per voxel.
    shape, oversampling : sequence of int
        Voxels of the image, and fine voxels per voxel.
    axes : sequence of int
        Axes to transform.

    Returns
    -------
    ndarray of complex64
        k-space in the order of the FFT. Its inverse transform is the image at the voxels' centres.
    """
    for axis in axes:
        n = shape[axis]
        factor = oversampling[axis]
        k = np.fft.fftfreq(n, 1 / n)
        # A voxel's centre lies (factor - 1)/2 fine voxels after its first fine voxel. The linear
        # phase moves the image by that distance.
        shift = np.exp(1j * np.pi * k * (factor - 1) / (n * factor)) / factor
        sampled = np.rint(k).astype(int) % (n * factor)
        signal = fft.fft(signal, axis=axis).take(sampled, axis)
        signal = signal * along_axis(shift.astype(np.complex64), axis)
    return signal


def precess(
    magnetization: np.ndarray,
    r2s: np.ndarray,
    frequency: np.ndarray,
    echo_times: Sequence[float],
    *,
    quadratic_phase: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield the complex signal of each echo, after decay by R2* and precession.

    Parameters
    ----------
    magnetization : ndarray of complex64
        At TE = 0.
    r2s, frequency : ndarray of float32
        R2* in 1/s, local frequency offset in Hz.
    echo_times : sequence of float
        Echo times, s.
    quadratic_phase : ndarray of float32, optional
        Phase in rad/s² that grows with TE², as that of flow along a field gradient does.

    Yields
    ------
    ndarray of complex64
        Signal at one echo time.
    """
    signal = magnetization
    if quadratic_phase is not None:
        moving = np.nonzero(quadratic_phase)
        at_rest = magnetization[moving]  # signal of the moving spins without that phase
        quadratic = quadratic_phase[moving]
    elapsed = 0.0
    previous = np.nan  # close to no interval, so that the first echo computes its step
    for te in echo_times:
        interval = te - elapsed
        # Evenly spaced echoes share one step: exponentials and sines cost more than the product.
        if not np.isclose(interval, previous, rtol=1e-9, atol=0):
            angle = frequency * np.float32(2 * np.pi * interval)
            step = np.empty(angle.shape, np.complex64)
            decay = np.exp(r2s * np.float32(-interval))
            step.real = decay * np.cos(angle)
            step.imag = decay * np.sin(angle)
        signal = signal * step
        elapsed = te
        previous = interval
        if quadratic_phase is not None:
            at_rest = at_rest * step[moving]
            signal[moving] = at_rest * np.exp(1j * quadratic * np.float32(te**2))
        yield signal


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
    blood_flow: BloodFlow | None = None,
    field_drift: float = 0.0,
    receiver: Receiver = SINGLE_COIL,
    effects: Effects = IDEAL,
    session_seed: int | Sequence[int] | None = None,
    person_seed: int | Sequence[int] | None = None,
    vendor: str = "siemens",
    workers: int = 1,
) -> Scan:
    """Scan a specimen.

    Parameters
    ----------
    specimen : Specimen
        An object in the magnet on the image's grid, see `magnetize`.
    protocol : Protocol
        The sequence.
    seed : int or sequence of int
        Seed of this scan's shim error, receive phase and bias, flow and noise.
    b0_drift : float
        Offset of B0 since the centre frequency was set, ppm.
    shim_error : float
        Standard deviation of each shim term's error over the region of interest, ppm.
    receive_phase : float
        Standard deviation (rad) of each coefficient of the receive phase at TE = 0, a sum of solid
        harmonics.
    receive_bias : float
        Standard deviation of each coefficient of the logarithm of the receive sensitivity, likewise
        a sum of solid harmonics.
    flow_phase : float
        Greatest phase (rad) of moving spins at the last echo. It grows with TE².
    flow_labels : sequence of int
        Labels of moving CSF, such as the ventricles.
    blood_flow : callable, optional
        Velocities of blood, see `multiqsm.simulation.effects.flow.BloodFlow`; blood at rest by
        default.
    field_drift : float
        Change of B0 from the first to the last line of k-space, ppm.
    receiver : Receiver
        The coil, which matters to the effects of reception only.
    effects : Effects
        What makes the scan rougher than the ideal one.
    session_seed : int or sequence of int, optional
        Seed of what stays the same in all scans of a session: eddy currents, and the head's
        position in the coil. By default `seed`.
    person_seed : int or sequence of int, optional
        Seed of what stays the same in all scans of a person: how strongly they breathe. By default
        `seed`.
    vendor : {'siemens', 'ge'}
        Vendor of the scanner, by which `effects` may truncate k-space.
    workers : int
        Number of threads. The result does not depend on it.

    Returns
    -------
    Scan

    Raises
    ------
    ValueError
        If `specimen` was prepared for another image.
    """
    _check_grid(specimen, protocol)
    seeds = np.random.SeedSequence(seed).spawn(4)
    shim_rng, coil_rng, flow_rng, noise_rng = map(np.random.default_rng, seeds)
    truth = _truth(specimen)
    shim = shim_coefficients(
        truth["total_field"], truth["mask"], specimen.affine, shim_error, shim_rng
    )
    shim[0] += b0_drift
    # Outside the box the object's field was not computed: the shim's field alone would be taken
    # for the total field.
    box = _image_box(specimen)
    truth["total_field"][box] += polynomial(shim, specimen.affine, specimen.shape)[box]
    phase = receive_phase * coil_rng.standard_normal(9)
    bias = receive_bias * coil_rng.standard_normal(9)
    records: Records = {}
    maps = {}
    rate = flow_phase / protocol.echo_times[-1] ** 2
    fine = subgrid_affine(specimen.affine, specimen.oversampling, specimen.corner)
    flow = random_flow_phase(specimen.tissue.labels, fine, rate, flow_labels, flow_rng)
    if effects.flow is not None:
        moved, records["flow"] = _moved(
            specimen, protocol, shim, blood_flow, flow_labels, effects.flow, seed
        )
        flow = moved if flow is None else flow + moved
    if flow is not None:
        of_last_echo = block_mean(flow, specimen.oversampling) * protocol.echo_times[-1] ** 2
        maps["flow"] = _on_image(specimen, of_last_echo)
    signal = _echoes(specimen, protocol, shim, phase, bias, flow, workers)
    sampled = sampled_lines(effects, vendor, protocol.shape)
    centre = specimen.affine[:3] @ (*np.argwhere(truth["mask"]).mean(axis=0), 1)
    records |= distort_lines(
        signal,
        protocol,
        specimen.affine,
        centre,
        _background(truth),
        effects,
        seed,
        person_seed=person_seed,
        vendor=vendor,
        workers=workers,
    )
    if effects.breathing is not None:
        pattern = effects.breathing.pattern(specimen.affine, protocol.shape, centre)
        maps["breathing"] = pattern * records["breathing"]["FieldPeakToPeak"]
    if field_drift:
        drift_lines(signal, protocol, sampled, field_drift)
    if effects.phantom_defects:
        rng = effect_generator(seed, "phantom_defects")
        records["phantom_defects"] = add_ghosts(
            signal, protocol.echo_times, effects.phantom_defects, rng
        )
    of_session = seed if session_seed is None else session_seed
    reception = receive(signal, protocol, specimen.affine, receiver, effects, of_session)
    level = reception.noise_level
    records |= reception.records
    maps |= reception.phases
    sigma = float(np.abs(signal[0])[truth["mask"]].mean(dtype=float)) / protocol.snr
    if effects.noise is None:
        add_noise(signal, sigma, sampled, noise_rng, workers=workers)
    else:
        records["noise"] = receiver.record
        spread = sigma if level is None else _scaled_to(sigma, level, truth["mask"])
        maps["noise"] = np.broadcast_to(np.float32(spread), protocol.shape)
        rng = effect_generator(seed, "noise")
        n_silent = receiver.channels - 1 if receiver.sum_of_squares else 0
        add_noise(signal, spread, sampled, rng, silent_channels=n_silent, workers=workers)
    signal = np.moveaxis(signal, 0, -1)
    return Scan(
        signal=signal,
        noise_sigma=sigma,
        shim=shim,
        affine=specimen.affine,
        effects=records,
        effect_maps=_in_object(maps, truth["labels"]),
        **truth,
    )


def _check_grid(specimen, protocol):
    """Raise a `ValueError` if a specimen was prepared for another image than the protocol's."""
    prepared = (*specimen.shape, *specimen.oversampling, *voxel_size_of(specimen.affine))
    if not np.allclose(prepared, (*protocol.shape, *protocol.oversampling, *protocol.voxel_size)):
        raise ValueError(
            "the specimen's grid is not that of the protocol: magnetize the object on the "
            "protocol's shape, voxel size and oversampling"
        )


def _moved(specimen, protocol, shim, blood_flow, csf_labels, effect, seed):
    """Return the phase (rad/s²) of moving spins, and what was drawn."""
    return effect.quadratic_phase(
        specimen.tissue.labels,
        specimen.total_field,
        subgrid_affine(specimen.affine, specimen.oversampling, specimen.corner),
        protocol,
        shim=shim,
        blood_flow=blood_flow,
        csf_labels=csf_labels,
        rng=effect_generator(seed, "flow"),
    )


def _truth(specimen):
    """Return fields (before the shim), susceptibility, labels and mask on the image's grid."""
    tissue = specimen.tissue
    factor = specimen.oversampling
    return {
        "total_field": _on_image(specimen, block_mean(specimen.total_field, factor)),
        "local_field": _on_image(specimen, block_mean(specimen.local_field, factor)),
        "chi": _on_image(specimen, block_mean(tissue.chi, factor), outside=tissue.exterior),
        "labels": _on_image(specimen, block_mode(tissue.labels, factor, tissue.whole_of)),
        "mask": _on_image(specimen, block_mean(tissue.region, factor) >= 0.5),
        "effect_fields": _effect_fields(specimen),
    }


def _background(truth):
    """Return the field of what does not move with the brain: skull, air and shim."""
    background = truth["total_field"] - truth["local_field"]
    for values in truth["effect_fields"].values():
        background -= values
    return background


def _effect_fields(specimen):
    """Return what effects have added to the total field, on the image's grid."""
    return {name: _on_image(specimen, values) for name, values in specimen.effect_fields.items()}


def _on_image(specimen, values, outside=0):
    """Insert values of a specimen's box into the whole image."""
    image = np.full(specimen.shape, outside, values.dtype)
    image[_image_box(specimen)] = values
    return image


def _image_box(specimen):
    """Return the box of image voxels that a specimen's arrays cover."""
    first = np.floor_divide(specimen.corner, specimen.oversampling)
    extent = np.floor_divide(specimen.tissue.chi.shape, specimen.oversampling)
    return tuple(map(slice, first, first + extent))


def _in_object(maps, labels):
    """Return maps that are 0 in air."""
    is_object = labels > 0
    return {name: np.where(is_object, values, np.float32(0)) for name, values in maps.items()}


def _scaled_to(sigma, level, mask):
    """Return the noise's level, scaled so that its root mean square over a mask is `sigma`."""
    power = np.mean(level[mask] ** 2, dtype=float)
    return level * np.float32(sigma / np.sqrt(power))


def _echoes(specimen, protocol, shim, phase, bias, flow, workers):
    """Return the noise-free images of all echoes.

    Everything up to the Fourier transform along the first axis is done in sagittal slabs, to save
    memory: the whole fine grid of every echo would not fit.
    """
    tissue = specimen.tissue
    factor = protocol.oversampling
    extent = tissue.chi.shape
    fine = np.multiply(protocol.shape, factor)
    kspace = np.zeros((len(protocol.echo_times), fine[0], *protocol.shape[1:]), np.complex64)

    def fill(start: int) -> None:
        rows = slice(start, min(start + 4, extent[0]))
        corner = np.add(specimen.corner, (start, 0, 0))
        shape = (rows.stop - start, *extent[1:])
        affine = subgrid_affine(specimen.affine, factor, corner)
        offset = specimen.total_field[rows] + polynomial(shim, affine, shape)
        density = spoiled_steady_state(
            tissue.pd[rows], tissue.t1[rows], protocol.repetition_time, protocol.flip_angle
        ) * np.exp(polynomial(bias, affine, shape) + 1j * polynomial(phase, affine, shape))
        echoes = precess(
            np.float32(WATER_SIGNAL) * density,
            tissue.r2s[rows],
            offset * np.float32(protocol.imaging_frequency),
            protocol.echo_times,
            quadratic_phase=None if flow is None else flow[rows],
        )
        slab = np.zeros((shape[0], *fine[1:]), np.complex64)
        planes, columns, slices = map(slice, corner, np.add(corner, shape))
        for echo, signal in zip(kspace, echoes, strict=True):
            slab[:, columns, slices] = signal
            echo[planes] = kspace_crop(slab, protocol.shape, factor, (2, 1))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, range(0, extent[0], 4)))
    images = np.empty((len(kspace), *protocol.shape), np.complex64)
    for image, echo in zip(images, kspace, strict=True):
        image[:] = fft.ifftn(kspace_crop(echo, protocol.shape, factor, (0,)), workers=workers)
    return images
