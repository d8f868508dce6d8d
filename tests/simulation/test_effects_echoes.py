"""Effects on single echoes: phase of flow, of eddy currents and of a bipolar readout."""

import json
from dataclasses import replace

import numpy as np
import pytest

from multiqsm.core.artefacts.echoes import echo_alternation
from multiqsm.core.artefacts.offsets import common_offset
from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.effects import Effects, effect_generator
from multiqsm.simulation.effects.flow import Flow
from multiqsm.simulation.effects.gradients import Bipolar, EddyCurrents
from multiqsm.simulation.effects.pathology import Pathology, with_findings
from multiqsm.simulation.grid import block_mean, scan_affine, subgrid_affine
from multiqsm.simulation.head import average_subject, head_model
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.tissue import empty_space
from multiqsm.simulation.veins import blood_flow

PROTOCOL = Protocol((24, 20, 16), (3.0, 3.0, 4.0), (0.006, 0.012, 0.018, 0.024), snr=np.inf)
WATER = {"chi": 0.0, "r2s": 10.0, "pd": 1.0, "t1": 1.0}
CALM = {"shim_error": 0.0, "receive_phase": 0.0, "receive_bias": 0.0}


def water_model(shape, affine):
    """A box of water: |x|, |y| and |z| below 27, 24 and 24 mm."""
    tissue = empty_space(shape, 0.0)
    index = np.indices(shape).reshape(3, -1)
    x, y, z = np.abs(affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)
    alpha = ((x < 27) & (y < 24) & (z < 24)).astype(np.float32)
    tissue.paint((slice(None),) * 3, alpha, WATER, 1)
    tissue.region[:] = alpha
    return tissue


@pytest.fixture(scope="module")
def specimen():
    """A box of water in a field of no object."""
    return magnetize(water_model, scan_affine(PROTOCOL.shape, PROTOCOL.voxel_size), PROTOCOL.shape)


# ------------------------------------------------------------------------------
# Flow
# ------------------------------------------------------------------------------


def flow_phase(specimen, field, shim, velocity):
    """Return the quadratic phase (rad/s²) if all water of the box flows with the same velocity."""

    def all_water(labels, affine, wall_shear):
        index = np.flatnonzero(labels == 1)
        return index, np.tile(np.float32(velocity), (len(index), 1))

    affine = subgrid_affine(specimen.affine, specimen.oversampling, specimen.corner)
    phase, _ = Flow().quadratic_phase(
        specimen.tissue.labels,
        field,
        affine,
        PROTOCOL,
        shim=shim,
        blood_flow=all_water,
        csf_labels=(),
        rng=effect_generator(0, "flow"),
    )
    return phase


def test_spins_along_a_gradient_lose_half_of_what_they_gain(specimen):
    """Velocity v along a gradient g: -2π f0 g v TE²/2, as from the integral of the field on the
    way.
    """
    gradient = 0.004  # ppm/mm
    velocity = np.array([30.0, 0.0, 80.0], np.float32)  # mm/s
    planes = np.arange(specimen.total_field.shape[2], dtype=np.float32) * 2.0  # mm
    tilted = np.zeros_like(specimen.total_field) + np.float32(gradient) * planes
    phase = flow_phase(specimen, tilted, np.zeros(9), velocity)
    expected = -np.pi * PROTOCOL.imaging_frequency * gradient * velocity[2]
    # Spins from beyond the box have not been in the gradient for the whole time.
    downstream = phase[2:, :, 2:][specimen.tissue.labels[2:, :, 2:] == 1]
    np.testing.assert_allclose(downstream, expected, rtol=1e-3)


def test_the_shim_is_a_gradient_as_well(specimen):
    """A shim of 0.1 ppm per 100 mm along x acts as the same field of the object does."""
    shim = np.zeros(9)
    shim[1] = 0.1
    phase = flow_phase(specimen, specimen.total_field, shim, [50, 0, 0])
    expected = -np.pi * PROTOCOL.imaging_frequency * 0.1 / 100 * 50
    np.testing.assert_allclose(phase[specimen.tissue.labels == 1], expected, rtol=1e-3)


def test_phase_of_flow_grows_with_the_square_of_echo_time(specimen):
    """In the images, at every echo, as the mean over the middle of the box."""

    def all_water(labels, affine, wall_shear):
        index = np.flatnonzero(labels == 1)
        return index, np.tile(np.float32([0, 0, 60]), (len(index), 1))

    options = {**CALM, "shim_error": 0.05, "blood_flow": all_water}
    still = acquire(specimen, PROTOCOL, seed=1, **options)
    moving = acquire(specimen, PROTOCOL, seed=1, effects=Effects(flow=Flow()), **options)
    change = np.angle(moving.signal * still.signal.conj())
    rate = block_mean(
        flow_phase(specimen, specimen.total_field, still.shim, [0, 0, 60]), specimen.oversampling
    )
    middle = (slice(8, 16), slice(7, 13), slice(6, 10))
    corner = np.floor_divide(specimen.corner, specimen.oversampling)
    of_specimen = []
    for side, first in zip(middle, corner, strict=True):
        of_specimen.append(slice(side.start - first, side.stop - first))
    expected = rate[tuple(of_specimen)].mean() * np.array(PROTOCOL.echo_times) ** 2
    np.testing.assert_allclose(change[middle].mean(axis=(0, 1, 2)), expected, rtol=0.02)
    assert moving.effect_maps["flow"][middle].mean() == pytest.approx(expected[-1], rel=1e-5)


def test_blood_in_veins_at_the_surface_flows_along_them():
    """These veins are not those of the template. Their axis is the direction of flow, and the
    velocity in the middle is that of the shear rate at the wall.
    """
    pathology = replace(Pathology().only("surface_veins"), vein_radius=(1.5, 1.5))
    subject = with_findings(average_subject(), pathology, np.random.default_rng(5))
    start, end = np.array(subject.features[2].shape["tubes"][0])
    middle = (start + end)[:3] / 2
    affine = scan_affine((16, 16, 16), (0.5, 0.5, 0.5), centre=middle)
    labels = head_model(subject, (16, 16, 16), affine).labels
    index, velocity = blood_flow(subject, np.eye(4), labels, affine, Flow().wall_shear)
    speed = np.linalg.norm(velocity, axis=1)
    in_middle = index == np.ravel_multi_index((8, 8, 8), labels.shape)
    assert speed[in_middle] == pytest.approx(110 / 2 * 1.5, rel=0.1)
    along = (end - start)[:3] / np.linalg.norm((end - start)[:3])
    np.testing.assert_allclose(velocity[in_middle][0] / speed[in_middle], along, atol=0.02)
    average = average_subject()
    _, others = blood_flow(average, np.eye(4), labels, affine, Flow().wall_shear)
    assert np.linalg.norm(others, axis=1).max() < 0.1 * speed.max()


def test_blood_of_a_sinus_flows_as_measured():
    """Through a section of the superior sagittal sinus flow 443 mL/min, downwards."""
    subject = average_subject()
    affine = scan_affine((60, 60, 8), (0.4, 0.4, 0.5), centre=(0.0, -99.0, -1.0))
    labels = head_model(subject, (60, 60, 8), affine).labels
    index, velocity = blood_flow(subject, np.eye(4), labels, affine, Flow().wall_shear)
    through = np.zeros(labels.size)
    through[index] = velocity[:, 2]
    flux = through.reshape(labels.shape)[:, :, 4].sum() * 0.4**2 * 60 / 1000  # mL/min
    # The sinus has nearly its largest radius, 4.4 mm, there.
    assert flux == pytest.approx(-443, rel=0.05)
    assert np.linalg.norm(velocity, axis=1).max() == pytest.approx(2 * 110 * 4.4 / 4, rel=0.05)


# ------------------------------------------------------------------------------
# Gradients
# ------------------------------------------------------------------------------

TIMES = np.array([0.006, 0.012, 0.018, 0.024, 0.030, 0.036])


def precessing_images(shape):
    """Return images of six echoes whose frequency falls along z, from 60 to -60 Hz."""
    frequency = np.linspace(60, -60, shape[2])
    phase = 2 * np.pi * TIMES[:, None, None, None] * frequency
    return np.broadcast_to(np.exp(1j * phase), (6, *shape)).astype(np.complex64)


def test_eddy_currents_decay_and_their_field_is_a_background_field():
    """The slope of phase on echo time changes by a harmonic function, which has no source inside:
    nothing that a removed background field does not contain.
    """
    shape = (12, 11, 10)
    affine = scan_affine(shape, (9.0, 8.0, 11.0))
    clean = precessing_images(shape)
    images = clean.copy()
    eddy = EddyCurrents()
    rng = effect_generator(3, "eddy_currents")
    eddy.apply(images, TIMES, affine, rng)
    phase = np.angle(images * clean.conj()).astype(float)
    decay = np.exp(-(TIMES - TIMES[0]) / eddy.decay)
    for echo in range(6):
        np.testing.assert_allclose(phase[echo], phase[0] * decay[echo], atol=1e-6)
    centred = TIMES - TIMES.mean()
    slope = np.einsum("e,exyz->xyz", centred, phase) / (centred @ centred)
    x, y, z = (np.diff(slope, 2, axis=axis) / size**2 for axis, size in enumerate((9, 8, 11)))
    laplacian = x[:, 1:-1, 1:-1] + y[1:-1, :, 1:-1] + z[1:-1, 1:-1, :]
    # Of a field that changes by its own size within 100 mm; phase is known to about 3e-7 rad.
    assert np.abs(laplacian).max() < 1e-2 * np.abs(slope).max() / 100**2 + 1e-6 / 8**2 / 0.03
    assert 0.01 < np.abs(phase[0]).max() < 1


def test_bipolar_readout_alternates_and_is_detected():
    """Odd echoes are unchanged, even ones all have the same phase, which the check finds."""
    shape = (32, 20, 16)
    clean = precessing_images(shape)
    images = clean.copy()
    Bipolar(offset=0.6, ramp=1.2).apply(images)
    np.testing.assert_array_equal(images[::2], clean[::2])
    added = np.angle(images[1::2] * clean[1::2].conj())
    np.testing.assert_allclose(added, np.broadcast_to(added[:1, :1, :, :1], added.shape), atol=1e-6)
    np.testing.assert_allclose(added[0, 0, [0, -1], 0], [0.6 - 0.57, 0.6 + 0.57], atol=1e-6)
    measured = echo_alternation(np.abs(images), np.angle(images), TIMES, shape)
    assert measured.offset == pytest.approx(0.6, abs=0.01)
    np.testing.assert_allclose(measured.ramp, [0, 1.2, 0], atol=0.05)
    # It is not mistaken for a constant that was added to the images.
    assert common_offset(images.reshape(6, -1), TIMES) is None


def test_maps_are_the_phases_that_are_added(specimen):
    """Between scans with and without the effects, in each echo, where there is signal."""
    effects = Effects(eddy_currents=EddyCurrents(), bipolar=Bipolar())
    ideal = acquire(specimen, PROTOCOL, seed=4, **CALM)
    rough = acquire(specimen, PROTOCOL, seed=4, effects=effects, **CALM)
    added = np.angle(rough.signal * ideal.signal.conj())[rough.mask]
    eddy, bipolar = (rough.effect_maps[name][rough.mask] for name in ("eddy_currents", "bipolar"))
    decay = np.exp(-(PROTOCOL.echo_times[1] - PROTOCOL.echo_times[0]) / effects.eddy_currents.decay)
    np.testing.assert_allclose(added[:, 0], eddy, atol=1e-5)
    np.testing.assert_allclose(added[:, 1], eddy * decay + bipolar, atol=1e-5)


def test_effects_of_no_size_leave_the_scan_as_it_is(specimen):
    """Their random numbers are their own: shim, coils and noise remain those of the ideal scan."""
    protocol = replace(PROTOCOL, snr=50.0)
    ideal = acquire(specimen, protocol, seed=4)
    effects = Effects(
        flow=Flow(wall_shear=0.0, csf_velocity=0.0),
        eddy_currents=EddyCurrents(amplitude=0.0),
        bipolar=Bipolar(offset=0.0, ramp=0.0),
    )
    scan = acquire(specimen, protocol, seed=4, effects=effects, flow_labels=(1,))
    np.testing.assert_array_equal(scan.signal, ideal.signal)
    np.testing.assert_array_equal(scan.shim, ideal.shim)
    assert set(scan.effects) == {"flow", "eddy_currents", "bipolar"}
    assert json.loads(json.dumps(scan.effects)) == scan.effects
