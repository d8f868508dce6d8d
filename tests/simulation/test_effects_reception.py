"""Reception: sensitivities of loops, noise of several channels, signal-to-noise ratio."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.effects import Effects
from multiqsm.simulation.effects.coils import (
    Coils,
    MultichannelNoise,
    add_noise,
    loops,
    sensitivities,
)
from multiqsm.simulation.grid import scan_affine
from multiqsm.simulation.protocol import Protocol, Receiver
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.tissue import coverage, empty_space

PROTOCOL = Protocol((32, 30, 22), (5.0, 5.0, 6.0), (0.006, 0.016, 0.026), snr=np.inf)
EFFECTS = Effects(coils=Coils(), noise=MultichannelNoise())
SIEMENS = Receiver(16, sum_of_squares=True)
GE = Receiver(8, sum_of_squares=False)


@pytest.fixture(scope="module")
def specimen():
    """A ball of water, of the size of a head."""

    def model(shape, affine):
        tissue = empty_space(shape, 0.0)
        index = np.indices(shape).reshape(3, -1)
        points = affine[:3, :3] @ index + affine[:3, 3:]
        distance = np.linalg.norm(points, axis=0).reshape(shape).astype(np.float32) - 65
        water = {"chi": 0.0, "r2s": 15.0, "pd": 1.0, "t1": 1.0}
        tissue.paint((slice(None),) * 3, coverage(distance, 3.0), water, 1)
        tissue.region[:] = coverage(distance + 5, 3.0)
        return tissue

    return magnetize(model, scan_affine(PROTOCOL.shape, PROTOCOL.voxel_size), PROTOCOL.shape)


# ------------------------------------------------------------------------------
# Sensitivity
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("wavenumber", [0j, 0.025 + 0.01j])
def test_field_on_the_axis_of_a_loop(wavenumber):
    """R³/(R² + x²)^(3/2) (1 - ikr) exp(ikr), along its axis x, r being the distance of its wire."""
    radius = 40.0
    x = np.array([0.0, 10.0, 40.0, 150.0])
    points = np.zeros((3, 4, 1, 1), np.float32)
    points[0, :, 0, 0] = x
    along_x = sensitivities(points, np.zeros((1, 3)), np.eye(3)[:1], radius, wavenumber)
    r = np.hypot(radius, x)
    expected = (radius / r) ** 3 * (1 - 1j * wavenumber * r) * np.exp(1j * wavenumber * r)
    np.testing.assert_allclose(along_x.ravel(), expected, rtol=1e-4)
    # A loop in the transverse plane has its field along B0 there, and receives nothing.
    points = points[[2, 1, 0]]
    along_b0 = sensitivities(points, np.zeros((1, 3)), np.eye(3)[2:], radius, wavenumber)
    assert np.abs(along_b0).max() < 1e-4


def test_loop_is_a_dipole_far_away():
    """Bx of a loop about the x axis, to first order: R³ (3 cos² - 1)/(2 r³)."""
    place = np.array([300.0, 200.0, -250.0])
    points = place.reshape(3, 1, 1, 1).astype(np.float32)
    received = sensitivities(points, np.zeros((1, 3)), np.eye(3)[:1], 10.0)
    r = np.linalg.norm(place)
    expected = 3 * place[0] * place[:2] / r**2 - [1, 0]
    expected = 10.0**3 / (2 * r**3) * (expected[0] - 1j * expected[1])
    assert complex(received[0, 0, 0, 0]) == pytest.approx(complex(expected), rel=0.01)


@pytest.mark.parametrize("channels", [8, 16])
def test_loops_cover_the_helmet(channels):
    centres, normals, radius = loops(channels, (110, 130, 130))
    np.testing.assert_allclose(np.linalg.norm(centres / [110, 130, 130], axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    gaps = np.linalg.norm(centres[:, None] - centres, axis=2) + 1e3 * np.eye(channels)
    # Neighbours overlap, and none is nearly on top of another.
    assert (gaps.min(axis=1) < 2 * radius).all()
    assert gaps.min() > radius


def test_phase_of_reception_is_the_same_at_all_echoes_within_small_errors(specimen):
    """It grows to some tenths of a radian towards the coils, its errors to some hundredths."""
    ideal = acquire(specimen, PROTOCOL, seed=2)
    scan = acquire(specimen, PROTOCOL, seed=2, receiver=GE, effects=EFFECTS.only("coils"))
    ratio = scan.signal / ideal.signal
    phase = np.angle(ratio[scan.mask])
    assert 0.1 < np.ptp(np.unwrap(np.sort(phase[:, 0]))) < 3
    error = np.angle(ratio[scan.mask] * ratio[scan.mask][:, :1].conj())
    assert np.abs(error).max() < 0.1
    # Weights from blocks lose little of the signal.
    assert np.abs(ratio[scan.mask]).min() > 0.95
    assert np.abs(ratio[scan.mask]).max() < 1 + 1e-5
    sum_of_squares = acquire(
        specimen, PROTOCOL, seed=2, receiver=replace(GE, sum_of_squares=True), effects=EFFECTS
    )
    # Between the points of the coarse grid, the phasor is shorter by an eighth of the squared step.
    magnitude = np.abs(sum_of_squares.signal[scan.mask])
    np.testing.assert_allclose(magnitude, np.abs(ideal.signal[scan.mask]), rtol=2e-3)


# ------------------------------------------------------------------------------
# Noise
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 8, 16])
@pytest.mark.parametrize("signal", [0.0, 4.0, 40.0])
def test_sum_of_squares_is_non_central_chi(channels, signal):
    """M²/σ² has 2n degrees of freedom and the noncentrality S²/σ²."""
    images = np.full((1, 60, 60, 30), signal * np.exp(0.7j), np.complex64)
    all_lines = np.ones((60, 30), bool)
    add_noise(images, 1.0, all_lines, np.random.default_rng(1), silent_channels=channels - 1)
    square = np.abs(images.ravel().astype(complex)) ** 2
    expected = stats.ncx2(2 * channels, signal**2) if signal else stats.chi2(2 * channels)
    mean, variance, kurtosis = expected.stats("mvk")
    n = square.size
    assert square.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / n))
    assert square.var() == pytest.approx(variance, abs=4 * variance * np.sqrt((kurtosis + 2) / n))
    assert stats.kstest(square, expected.cdf).pvalue > 1e-3


def test_phase_comes_from_the_combination():
    """Its standard deviation is that of one complex image, σ/S, however many channels there are."""
    images = np.full((1, 60, 60, 30), 50 * np.exp(0.7j), np.complex64)
    all_lines = np.ones((60, 30), bool)
    add_noise(images, 1.0, all_lines, np.random.default_rng(2), silent_channels=15)
    phase = np.angle(images * np.exp(-0.7j))
    assert phase.std() == pytest.approx(1 / 50, rel=0.01)


@pytest.mark.parametrize("snr", [60.0, 185.0])
def test_first_echo_has_the_requested_snr(specimen, snr):
    """The noise grows with the distance from the coils; over the region it is as requested."""
    protocol = replace(PROTOCOL, snr=snr)
    options = {"seed": 5, "receiver": GE, "effects": EFFECTS}
    scan = acquire(specimen, protocol, **options)
    clean = acquire(specimen, PROTOCOL, **options)
    noise = (scan.signal - clean.signal)[scan.mask]
    deviation = np.sqrt((noise.real**2 + noise.imag**2).mean() / 2)
    mean = np.abs(clean.signal[..., 0])[clean.mask].mean()
    assert mean / deviation == pytest.approx(snr, rel=0.02)
    assert scan.noise_sigma == pytest.approx(mean / snr, rel=1e-4)
    middle = np.abs((scan.signal - clean.signal)[14:18, 13:17, 9:13]).std()
    surface = np.abs((scan.signal - clean.signal)[4:7, 13:17, 9:13]).std()
    assert middle > 1.2 * surface


def test_same_seed_same_scan_on_any_number_of_threads(specimen):
    protocol = replace(PROTOCOL, snr=100.0)
    options = {"seed": [6, 1], "receiver": SIEMENS, "effects": EFFECTS}
    scan = acquire(specimen, protocol, **options)
    threaded = acquire(specimen, protocol, workers=3, **options)
    np.testing.assert_array_equal(scan.signal, threaded.signal)
    assert np.isfinite(scan.signal).all()
    assert json.loads(json.dumps(scan.effects)) == scan.effects


@pytest.mark.parametrize("voxel_size", [(9.0, 9.0, 9.0), (2.0, 7.0, 12.0)])
def test_voxels_may_be_coarser_than_the_grid_of_sensitivities(voxel_size):
    images = np.ones((2, 12, 11, 7), np.complex64)
    affine = scan_affine(images.shape[1:], voxel_size)
    rng = np.random.default_rng(0)
    with np.errstate(all="raise"):
        level, _ = Coils().apply(images, affine, 123.2, SIEMENS, rng)
    # The magnitude is normalised by the sensitivities, and the noise grows where they are small.
    np.testing.assert_allclose(np.abs(images), 1, atol=0.02)
    assert np.isfinite(level).all()
    assert level.min() > 0
