"""The simulated scanner: its field against formulas, its images against what k-space and spins must
do.
"""

from dataclasses import replace

import numpy as np
import pytest
from helpers.fields import forward_field
from scipy.spatial.transform import Rotation

from multiqsm.core.grid import voxel_size_of
from multiqsm.core.phase.encoding import decode_phase
from multiqsm.simulation.acquisition import (
    acquire,
    kspace_crop,
    precess,
    shim_coefficients,
    spoiled_steady_state,
)
from multiqsm.simulation.encoding import ge_encoding, siemens_encoding
from multiqsm.simulation.field import SplitField, prism_field
from multiqsm.simulation.grid import block_mean, block_mode, scan_affine, subgrid_affine
from multiqsm.simulation.harmonics import solid_harmonics
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.tissue import coverage, empty_space

OBLIQUE = np.array([0.36, -0.48, 0.8])
GRIDS = [  # shape, voxel size (mm), B0
    ((48, 48, 48), (1, 1, 1), (0, 0, 1)),
    ((64, 63, 35), (0.7, 0.7, 1.3), (0, 0, 1)),
    ((45, 56, 33), (1.1, 0.9, 1.6), OBLIQUE),
]


def coordinates(shape, voxel_size, factor=1, centre=(0.0, 0.0, 0.0)):
    """Open arrays of voxel centres (mm) from `centre`, `factor` of them per voxel and axis."""
    axes = [
        ((np.arange(n * factor) + 0.5) / factor - n / 2) * h - c
        for n, h, c in zip(shape, voxel_size, centre, strict=True)
    ]
    return np.ix_(*axes)


def fractions(inside):
    """Return the partial volumes of a shape that is sampled eight times as finely."""
    return block_mean(inside.astype(np.float32), (8, 8, 8))


def ball_field(distances, b0_dir, radius, chi=1.0):
    """Field (ppm) of a ball at distances (mm, three open arrays) from its centre: none inside."""
    x, y, z = distances
    r = np.sqrt(x**2 + y**2 + z**2)
    cosine = (x * b0_dir[0] + y * b0_dir[1] + z * b0_dir[2]) / r
    return np.where(r < radius, 0, chi / 3 * (radius / r) ** 3 * (3 * cosine**2 - 1))


def ball_model(centre, radius, chi, exterior=0.0):
    """An object for `magnetize`: a ball of some susceptibility around a place in the scanner
    (mm).
    """

    def model(shape, affine):
        tissue = empty_space(shape, exterior)
        index = np.indices(shape).reshape(3, -1)
        offset = affine[:3, :3] @ index + affine[:3, 3:] - np.reshape(centre, (3, 1))
        distance = (np.linalg.norm(offset, axis=0) - radius).reshape(shape).astype(np.float32)
        alpha = coverage(distance, float(np.prod(voxel_size_of(affine)) ** (1 / 3)))
        tissue.paint((slice(None),) * 3, alpha, {"chi": chi, "r2s": 10.0, "pd": 1.0, "t1": 1.0}, 1)
        tissue.region[:] = coverage(distance + 4, 1.0)  # as a brain within its CSF
        return tissue

    return model


# ------------------------------------------------------------------------------
# Field
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "voxel_size", "b0_dir"), GRIDS)
def test_ball(shape, voxel_size, b0_dir):
    """Two voxels from its surface, inside and outside, the error is below 1 % of the peak field,
    2χ/3.
    """
    radius, centre = 11.0, (0.3, -0.2, 0.4)
    x, y, z = coordinates(shape, voxel_size, 8, centre)
    ball = fractions(x**2 + y**2 + z**2 < radius**2)
    field = forward_field(ball, voxel_size, b0_dir=b0_dir)
    distances = coordinates(shape, voxel_size, 1, centre)
    x, y, z = distances
    away = np.abs(np.sqrt(x**2 + y**2 + z**2) - radius) > 2 * max(voxel_size)
    error = np.abs(field - ball_field(distances, b0_dir, radius))
    assert error[away].max() < 0.01 * 2 / 3


@pytest.mark.parametrize("parallel", [True, False])
def test_long_cylinder(parallel):
    """χ/3 inside and nothing outside along B0; -χ/6 inside and χ/2 (a/r)² cos 2φ outside across it.

    The cylinder is 30 diameters long, whose ends act at its middle by less than 1e-3 of χ.
    """
    voxel_size, radius = (1.0, 1.2, 1.0), 6.0
    b0_dir = (0, 0, 1) if parallel else (0.6, 0.8, 0)
    x, y, _ = coordinates((48, 40, 1), voxel_size, 8, (0.2, 0.1, 0))
    section = fractions((x**2 + y**2 < radius**2) & np.ones((1, 1, 8), bool))
    field = forward_field(np.tile(section, (1, 1, 360)), voxel_size, b0_dir=b0_dir)[:, :, 180]
    x, y, _ = coordinates((48, 40, 1), voxel_size, 1, (0.2, 0.1, 0))
    x = x[..., 0]
    y = y[..., 0]
    r2 = x**2 + y**2
    if parallel:
        truth, peak = np.where(r2 < radius**2, 1 / 3, 0), 1 / 3
    else:
        twice = 2 * (0.6 * x + 0.8 * y) ** 2 / r2 - 1
        truth, peak = np.where(r2 < radius**2, -1 / 6, radius**2 / (2 * r2) * twice), 1 / 2
    away = np.abs(np.sqrt(r2) - radius) > 2.4
    assert np.abs(field - truth)[away].max() < 0.01 * peak


def test_field_depends_on_proportions_alone():
    chi = np.random.default_rng(1).standard_normal((11, 12, 9))
    small = forward_field(chi, (0.5, 1, 1.5), b0_dir=OBLIQUE)
    large = forward_field(chi, (2, 4, 6), b0_dir=OBLIQUE)
    np.testing.assert_allclose(small, large, atol=1e-5)


def test_rotating_object_and_b0_together_rotates_the_field():
    chi = np.random.default_rng(2).standard_normal((12, 9, 10))
    field = forward_field(chi, (1, 0.7, 1.3), b0_dir=(0.6, 0, 0.8))
    rotated = forward_field(chi.transpose(2, 0, 1), (1.3, 1, 0.7), b0_dir=(0.8, 0.6, 0))
    np.testing.assert_allclose(rotated, field.transpose(2, 0, 1), atol=1e-5)


def test_field_does_not_wrap_around():
    """An object in a corner has the same field whatever the grid's size."""
    chi = np.zeros((24, 20, 16), np.float32)
    chi[:4, :4, :4] = 1
    alone = forward_field(chi, (1, 1, 2), b0_dir=OBLIQUE)
    roomy = forward_field(np.pad(chi, ((30, 30), (30, 30), (20, 20))), (1, 1, 2), b0_dir=OBLIQUE)
    np.testing.assert_allclose(alone, roomy[30:54, 30:50, 20:36], atol=1e-5)


def test_prism_obeys_the_trace_and_becomes_a_dipole():
    """The fields for three perpendicular B0 sum to none everywhere; far away they are those of a
    dipole.
    """
    voxel_size = (0.5, 1.0, 2.0)
    offsets = np.array([[0.0, 0.5, 3.0, 30.0], [0.0, 2.0, -1.0, 20.0], [0.0, 2.0, 4.0, -25.0]])
    axes = Rotation.from_euler("xyz", [20, 50, 70], degrees=True).as_matrix()
    total = sum(prism_field(offsets, voxel_size, b) for b in axes)
    np.testing.assert_allclose(total, 0, atol=1e-12)
    r = np.linalg.norm(offsets[:, -1])
    cosine = offsets[:, -1] @ OBLIQUE / r
    dipole = np.prod(voxel_size) * (3 * cosine**2 - 1) / (4 * np.pi * r**3)
    assert prism_field(offsets, voxel_size, OBLIQUE)[-1] == pytest.approx(dipole, rel=5e-3)


@pytest.mark.parametrize("b0_dir", [(0, 0, 1), tuple(OBLIQUE)])
def test_split_field_is_the_field(b0_dir):
    """Against the direct sum over all voxels: rms 2e-4, maximum 1e-3 of the largest
    susceptibility.
    """
    rng = np.random.default_rng(3)
    voxel_size, blocks = (0.5, 0.5, 1.0), (4, 4, 2)
    chi = np.zeros((80, 96, 88), np.float32)
    chi[20:60, 24:70, 10:80] = -9.4
    chi[30:44, 40:60, 40:50] += 0.1 * rng.standard_normal((14, 20, 10))
    whole = forward_field(chi, voxel_size, b0_dir=b0_dir)
    coarse = block_mean(chi, blocks)
    box = slice(20, 68)  # fine planes; the others are known on the coarse grid alone
    operator = SplitField((80, 96, 48), voxel_size, blocks, coarse.shape, (0, 0, 10), b0_dir=b0_dir)
    reach = 14  # planes from the box's ends whose near field is incomplete
    error = (operator(chi[:, :, box], coarse) - whole[:, :, box])[:, :, reach:-reach]
    assert np.abs(error).max() < 1e-3 * 9.4
    assert error.std() < 2e-4 * 9.4


@pytest.mark.parametrize("tilt", [0, 25])
def test_object_outside_the_image_acts_on_it(tilt):
    """A ball of 9.4 ppm partly outside an oblique anisotropic image of odd size, against its
    formula.

    As scans have it: within 1 % of the peak, 2χ/3, two voxels of the image from the surface.
    """
    rotation = Rotation.from_euler("xy", [tilt, -tilt / 2], degrees=True).as_matrix()
    shape, voxel_size, centre, radius = (
        (31, 28, 13),
        (2.0, 2.0, 3.0),
        np.array([4.0, -3.0, 20.0]),
        18.0,
    )
    affine = scan_affine(shape, voxel_size, rotation=rotation)
    specimen = magnetize(ball_model(centre, radius, 9.4), affine, shape)
    fine = subgrid_affine(affine, (2, 2, 2), specimen.corner)
    index = np.indices(specimen.total_field.shape).reshape(3, -1)
    offset = (fine[:3, :3] @ index + fine[:3, 3:] - centre[:, None]).reshape(
        3, *specimen.total_field.shape
    )
    truth = ball_field(offset, (0, 0, 1), radius, 9.4)
    away = np.abs(np.linalg.norm(offset, axis=0) - radius) > 2 * max(voxel_size)
    assert np.abs(specimen.total_field - truth)[away].max() < 0.01 * 9.4 * 2 / 3


@pytest.mark.parametrize("tilt", [0, 25])
def test_long_cylinder_in_the_magnet(tilt):
    """Along B0, straight and oblique in the image: χ/3 inside, none outside, within 1 % of χ/3 two
    voxels away.

    It leaves the image on both sides, to end where nothing acts on the image any more: (a/L)²/2 =
    1e-3 of χ.
    """
    rotation = Rotation.from_euler("x", tilt, degrees=True).as_matrix()
    affine, radius = scan_affine((26, 26, 16), (1.0, 1.0, 1.0), rotation=rotation), 5.0

    def model(shape, affine):
        tissue = empty_space(shape, 0.0)
        x, y = (affine[:2, :3] @ np.indices(shape).reshape(3, -1) + affine[:2, 3:]).reshape(
            2, *shape
        )
        alpha = coverage(np.float32(np.hypot(x, y) - radius), float(voxel_size_of(affine)[0]))
        tissue.paint((slice(None),) * 3, alpha, {"chi": 1.0, "r2s": 10.0, "pd": 1.0, "t1": 1.0}, 1)
        return tissue

    specimen = magnetize(model, affine, (26, 26, 16))
    fine = subgrid_affine(affine, (2, 2, 2), specimen.corner)
    shape = specimen.total_field.shape
    x, y = (fine[:2, :3] @ np.indices(shape).reshape(3, -1) + fine[:2, 3:]).reshape(2, *shape)
    distance = np.hypot(x, y) - radius
    error = np.abs(specimen.total_field - np.where(distance < 0, 1 / 3, 0))
    assert error[np.abs(distance) > 2].max() < 0.01 / 3


def test_local_field_is_that_of_the_region_alone():
    """Water has no field of its own, whatever the air does; 0.1 ppm have that of the voxels of
    their mask.
    """
    shape, affine = (24, 24, 16), scan_affine((24, 24, 16), (2, 2, 3))
    water = magnetize(ball_model((0, 0, 0), 16.0, 0.0, exterior=9.4), affine, shape)
    assert np.abs(water.local_field).max() == 0
    assert np.abs(water.total_field).max() > 1
    paramagnetic = magnetize(ball_model((0, 0, 0), 16.0, 0.1, exterior=0.0), affine, shape)
    chi = np.zeros(paramagnetic.local_field.shape, np.float32)
    mask = block_mean(paramagnetic.tissue.region, (2, 2, 2)) >= 0.5
    chi[:] = (
        np.kron(mask, np.ones((2, 2, 2))) * paramagnetic.tissue.chi * paramagnetic.tissue.region
    )
    direct = forward_field(chi, (1, 1, 1.5))
    assert np.abs(paramagnetic.local_field - direct).max() < 1e-3 * 0.1


# ------------------------------------------------------------------------------
# Signal
# ------------------------------------------------------------------------------


def test_steady_state_is_greatest_at_the_ernst_angle():
    t1, tr = 1.0, 0.05
    flips = np.arange(1.0, 40.0, 0.1)
    signal = [float(spoiled_steady_state(np.float32(1), np.float32(t1), tr, f)) for f in flips]
    assert flips[np.argmax(signal)] == pytest.approx(
        np.rad2deg(np.arccos(np.exp(-tr / t1))), abs=0.15
    )


def test_precession_and_decay():
    """Phase grows by 2π f ΔTE, magnitude decays by R2*, at unevenly spaced echoes too."""
    te = (0.004, 0.009, 0.014, 0.030)
    frequency = np.array([20.0, -7.0], np.float32)
    echoes = np.array(list(precess(np.ones(2, np.complex64), np.float32([15, 40]), frequency, te)))
    expected = np.exp(np.outer(te, -np.array([15.0, 40.0]) + 2j * np.pi * frequency))
    np.testing.assert_allclose(echoes, expected, atol=2e-6)


@pytest.mark.parametrize("oversampling", [(1, 1, 1), (2, 2, 2), (3, 2, 4)])
@pytest.mark.parametrize("shape", [(16, 12, 10), (15, 13, 9)])
def test_waves_within_the_sampled_kspace_are_exact(shape, oversampling):
    """A plane wave on the fine grid comes back as that wave at the voxels' centres."""
    k = (3, -4, 2)
    np.testing.assert_allclose(
        image_of(wave(shape, k, oversampling), shape), wave(shape, k), atol=1e-5
    )


@pytest.mark.parametrize("k", [(9, 0, 0), (0, 0, -6)])
def test_waves_beyond_it_are_lost(k):
    """Where the phase changes by more than π per voxel, the echo has left the sampled k-space: no
    signal.
    """
    assert np.abs(image_of(wave((16, 12, 10), k, (2, 2, 2)), (16, 12, 10))).max() < 1e-5


def test_edges_ring():
    """Truncating k-space overshoots an edge by the 9 % of Gibbs, to be seen half a voxel beside the
    nodes.
    """
    fine = np.zeros((128, 2, 2), np.complex64)
    fine[32:96] = 1
    fine[32], fine[95] = 0.5, 0.5
    image = image_of(fine, (32, 1, 1))[:, 0, 0]
    assert 1.03 < np.abs(image).max() < 1.10


def wave(shape, k, factor=(1, 1, 1)):
    """A plane wave with k periods over the image, at the centres of voxels `factor` times finer."""
    axes = [
        (np.arange(n * f) + 0.5) / (n * f) * m for n, f, m in zip(shape, factor, k, strict=True)
    ]
    x, y, z = np.ix_(*axes)
    return np.exp(2j * np.pi * (x + y + z)).astype(np.complex64)


def image_of(fine, shape):
    """Image of a fine-grid signal by k-space cropping."""
    factor = np.floor_divide(fine.shape, shape)
    return np.fft.ifftn(kspace_crop(fine, shape, factor, (0, 1, 2)))


PROTOCOL = Protocol((24, 21, 15), (3.0, 3.0, 4.0), (0.004, 0.009, 0.020), snr=80.0)


@pytest.fixture(scope="module")
def specimen():
    """A ball of water in something of 1 ppm, oblique."""
    rotation = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    affine = scan_affine(PROTOCOL.shape, PROTOCOL.voxel_size, rotation=rotation)
    return magnetize(ball_model((0, 2, 1), 26.0, 0.0, exterior=1.0), affine, PROTOCOL.shape)


@pytest.mark.parametrize("snr", [20.0, 185.0])
def test_first_echo_has_the_requested_snr(specimen, snr):
    scan = acquire(specimen, replace(PROTOCOL, snr=snr), seed=5)
    clean = acquire(specimen, replace(PROTOCOL, snr=np.inf), seed=5)
    noise = scan.signal[..., 0] - clean.signal[..., 0]
    mean = np.abs(clean.signal[..., 0])[clean.mask].mean()
    assert mean / noise.real.std() == pytest.approx(snr, rel=0.05)
    assert mean / noise.imag.std() == pytest.approx(snr, rel=0.05)
    assert scan.noise_sigma == pytest.approx(mean / snr, rel=1e-4)


def test_phase_of_the_images_is_the_true_field(specimen):
    """Phase between echoes is 2π f0 · field · ΔTE, and grows where the field is higher."""
    scan = acquire(specimen, replace(PROTOCOL, snr=np.inf), seed=6)
    phase = np.angle(scan.signal[..., 1] * scan.signal[..., 0].conj())
    expected = 2 * np.pi * PROTOCOL.imaging_frequency * scan.total_field * 0.005
    error = np.angle(np.exp(1j * (phase - expected)))[scan.mask]
    assert np.sqrt(np.mean(error**2)) < 0.03  # what ringing leaves 4 mm below the surface


def test_same_seed_same_scan_on_any_number_of_threads(specimen):
    scan = acquire(specimen, PROTOCOL, seed=[7, 1])
    threaded = acquire(specimen, PROTOCOL, seed=[7, 1], workers=3)
    reseeded = acquire(specimen, PROTOCOL, seed=[7, 2])
    ball = ball_model((0, 2, 1), 26.0, 0.0, exterior=1.0)
    again = magnetize(ball, specimen.affine, PROTOCOL.shape, workers=3)
    np.testing.assert_array_equal(again.total_field, specimen.total_field)
    np.testing.assert_array_equal(scan.signal, threaded.signal)
    np.testing.assert_array_equal(scan.total_field, threaded.total_field)
    assert np.abs(scan.shim - reseeded.shim).max() > 0


def test_drift_moves_the_field_by_its_value(specimen):
    still = acquire(specimen, PROTOCOL, seed=8)
    moved = acquire(specimen, PROTOCOL, seed=8, b0_drift=0.05)
    np.testing.assert_allclose((moved.total_field - still.total_field)[still.mask], 0.05, atol=1e-5)
    assert np.ptp(moved.local_field - still.local_field) == 0


def test_field_is_nothing_where_it_is_not_known():
    """Far from a small ball in a large image: no shim polynomial passes for the field."""
    protocol = Protocol((48, 48, 40), (4.0, 4.0, 4.0), (0.004, 0.009))
    ball = ball_model((0, 0, 0), 20.0, 0.0, exterior=1.0)
    scan = acquire(
        magnetize(ball, scan_affine(protocol.shape, protocol.voxel_size), protocol.shape),
        protocol,
        seed=3,
    )
    assert np.all(scan.total_field[scan.mask] != 0)
    for field in (scan.total_field, scan.local_field):
        assert not field[0].any()
        assert not field[:, :, -1].any()


def test_flow_changes_only_the_phase_of_moving_tissue(specimen):
    """The phase error grows with TE² and stays below the requested maximum."""
    options = {"receive_phase": 0.0, "receive_bias": 0.0}
    quiet = replace(PROTOCOL, snr=np.inf)
    still = acquire(specimen, quiet, seed=9, **options)
    moving = acquire(specimen, quiet, seed=9, flow_phase=0.5, flow_labels=(1,), **options)
    elsewhere = acquire(specimen, quiet, seed=9, flow_phase=0.5, flow_labels=(2,), **options)
    np.testing.assert_array_equal(elsewhere.signal, still.signal)
    error = np.angle(moving.signal * still.signal.conj())[still.mask].T
    assert 0.1 < np.percentile(np.abs(error[2]), 95) < 0.55
    ratio = np.median(np.abs(error[2])) / np.median(np.abs(error[1]))
    assert ratio == pytest.approx((0.020 / 0.009) ** 2, rel=0.05)


def test_specimen_of_another_grid_is_refused(specimen):
    with pytest.raises(ValueError, match="grid"):
        acquire(specimen, replace(PROTOCOL, oversampling=(3, 3, 3)), seed=0)


def test_object_far_from_the_image_is_refused():
    with pytest.raises(ValueError, match="outside"):
        magnetize(ball_model((900, 0, 0), 10.0, 1.0), scan_affine((8, 8, 8), (2, 2, 2)), (8, 8, 8))


def test_shim_removes_what_its_coils_can_make():
    affine = scan_affine((20, 22, 14), (9, 8, 11), centre=(5, -9, 4))
    index = np.indices((20, 22, 14)).reshape(3, -1)
    points = ((affine[:3, :3] @ index + affine[:3, 3:]) / 100).reshape(3, 20, 22, 14)
    truth = np.arange(9) / 10 - 0.3
    total = sum(c * h for c, h in zip(truth, solid_harmonics(points), strict=True)).astype(
        np.float32
    )
    mask = np.linalg.norm(points, axis=0) < 0.7
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(shim_coefficients(total, mask, affine, 0.0, rng), -truth, atol=1e-4)


def test_shim_fields_are_harmonic():
    """A field in free space has no Laplacian, or coils could not make it."""
    grid = np.meshgrid(*(np.arange(5.0),) * 3, indexing="ij")
    for harmonic in solid_harmonics(grid):
        x = np.diff(harmonic, 2, axis=0)[:, 1:-1, 1:-1]
        y = np.diff(harmonic, 2, axis=1)[1:-1, :, 1:-1]
        z = np.diff(harmonic, 2, axis=2)[1:-1, 1:-1, :]
        laplacian = x + y + z
        np.testing.assert_allclose(laplacian, 0, atol=1e-12)


# ------------------------------------------------------------------------------
# Grids and vendors
# ------------------------------------------------------------------------------


def test_fine_voxels_tile_the_voxel():
    affine = scan_affine(
        (7, 8, 9), (1, 2, 3), rotation=Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix()
    )
    fine = subgrid_affine(affine, (2, 3, 4))
    corners = np.stack(np.meshgrid(*(np.arange(n) for n in (2, 3, 4)), indexing="ij"), -1).reshape(
        -1, 3
    )
    mean = corners.mean(axis=0) @ fine[:3, :3].T + fine[:3, 3]
    np.testing.assert_allclose(mean, affine[:3, 3], atol=1e-12)
    np.testing.assert_allclose(voxel_size_of(fine), (0.5, 2 / 3, 0.75))


def test_scan_affine_is_centred():
    affine = scan_affine((10, 21, 8), (1, 1, 2), centre=(3, 4, 5))
    np.testing.assert_allclose(affine @ [4.5, 10, 3.5, 1], [3, 4, 5, 1])


def test_block_mode_is_the_most_frequent_label():
    labels = np.zeros((2, 2, 4), np.uint8)
    labels[:, :, 0], labels[0, :, 1], labels[1, 0, 1], labels[1, 1, 1] = 5, 9, 1, 2
    labels[:, :, 2:] = 7
    assert block_mode(labels, (2, 2, 2)).ravel().tolist() == [5, 7]


def test_a_part_counts_as_its_tissue_and_leaves_all_other_labels_as_they_are():
    """Label 4 is a part of tissue 3."""
    labels = np.random.default_rng(0).integers(1, 5, (20, 20, 20)).astype(np.uint8)
    mode = block_mode(labels, (2, 2, 2), {4: 3})
    merged = np.where(labels == 4, 3, labels).astype(np.uint8)
    np.testing.assert_array_equal(np.where(mode == 4, 3, mode), block_mode(merged, (2, 2, 2)))
    n_part = 8 * block_mean(labels == 4, (2, 2, 2))
    n_tissue = 8 * block_mean(merged == 3, (2, 2, 2))
    has_part = (block_mode(merged, (2, 2, 2)) == 3) & (n_part > n_tissue / 2)
    assert has_part.any()
    np.testing.assert_array_equal(mode == 4, has_part)


def test_siemens_integers_decode_to_the_phase():
    signal = random_signal()
    magnitude, phase = siemens_encoding(signal)
    assert phase.dtype == magnitude.dtype == np.uint16
    assert (phase.max(), magnitude.max()) == (4095, 4095)
    radians, _ = decode_phase(phase, units="arbitrary", manufacturer="Siemens")
    error = np.angle(np.exp(1j * (radians - np.angle(signal))))
    assert np.abs(error).max() < 1.01 * np.pi / 4096
    np.testing.assert_allclose(
        magnitude / 4095, np.abs(signal) / np.abs(signal).max(), atol=0.51 / 4095
    )


def test_ge_pairs_have_the_opposite_phase():
    signal = random_signal()
    real, imaginary = ge_encoding(signal)
    assert real.dtype == imaginary.dtype == np.int16
    stored = (real + 1j * imaginary) / 32767 * np.abs(signal).max()
    np.testing.assert_allclose(stored, signal.conj(), atol=1e-4 * np.abs(signal).max())


def random_signal():
    """Complex numbers of every phase."""
    rng = np.random.default_rng(4)
    signal = rng.standard_normal((2, 40, 30, 20)) + 1j * rng.standard_normal((2, 40, 30, 20))
    return signal.astype(np.complex64)
