"""Noise is found in air or in finest differences, and told apart from systematic misfit."""

import numpy as np
import pytest

from multiqsm.core.phase.fieldfit import fit_field
from multiqsm.core.phase.noise import noise_of_air, noise_of_differences

SHAPE = (40, 40, 32)
TIMES = np.array([0.006, 0.012, 0.018, 0.024])
SIGMA = 2.0
SIGNAL = 200.0
F0 = 128.0
SPREAD = 8.0  # Hz, within a voxel


def ball(radius=12):
    x, y, z = np.indices(SHAPE) - (np.array(SHAPE) / 2).reshape(3, 1, 1, 1)
    return x**2 + y**2 + z**2 < radius**2


def images(channels=1, ringing=0.0):
    """Return magnitudes of a decaying ball in air, the root sum of squares of some channels."""
    random = np.random.default_rng(0)
    decay = np.exp(-20 * TIMES)
    signal = SIGNAL * ball()[..., None] * decay
    x = np.arange(SHAPE[0]).reshape(-1, 1, 1, 1)
    # at the edges of the image it is a tenth of the noise, next to the ball ten times that
    signal = signal + ringing * (-1.0) ** x * np.exp(-((x - 20) ** 2) / 100) * decay
    power = np.zeros(signal.shape)
    for _ in range(channels):
        noise = random.normal(0, SIGMA, (2, *signal.shape))
        power += (signal / np.sqrt(channels) + noise[0]) ** 2 + noise[1] ** 2
    return np.sqrt(power)


@pytest.mark.parametrize("channels", [1, 8])
def test_noise_of_air(channels):
    """Tens of thousands of voxels of air determine it to better than 1 %; the lowest of agreeing
    blocks are taken, which costs another 2 %.
    """
    noise = noise_of_air(images(channels))
    assert noise.sd == pytest.approx(SIGMA, rel=0.03)
    assert noise.of_echoes == pytest.approx([SIGMA] * 4, rel=0.04)


def test_ringing_around_the_object_is_no_noise():
    assert noise_of_air(images(ringing=20.0)).sd == pytest.approx(SIGMA, rel=0.08)


def test_images_without_air_have_no_noise_of_air():
    magnitude = images()
    inside = magnitude[14:26, 14:26, 10:22]
    assert noise_of_air(inside) is None
    assert noise_of_air(np.where(ball()[..., None], magnitude, 0)) is None
    assert noise_of_air(magnitude[..., :1]) is None


def test_finest_differences_of_noise_and_of_a_smooth_image():
    random = np.random.default_rng(0)
    noise = random.normal(0, SIGMA, SHAPE) + 1j * random.normal(0, SIGMA, SHAPE)
    smooth = SIGNAL * np.exp(0.1j * np.indices(SHAPE).sum(axis=0))
    assert noise_of_differences(noise + smooth, ball()) == pytest.approx(SIGMA, rel=0.03)
    assert noise_of_differences(noise.real, ball()) == pytest.approx(SIGMA, rel=0.03)


@pytest.fixture(scope="module")
def mixed():
    """Fit of voxels in which spins precess at three frequencies: the fit, and its error in ppm."""
    random = np.random.default_rng(1)
    mask = ball()
    hertz = random.normal(0, SPREAD, (3, *SHAPE))
    share = random.dirichlet((2, 2, 2), SHAPE)
    angle = 2 * np.pi * hertz[..., None] * TIMES
    signal = SIGNAL * np.einsum("xyzi,ixyzt->xyzt", share, np.exp(1j * angle))
    signal *= np.exp(-20 * TIMES) * mask[..., None]
    noise = random.normal(0, SIGMA, (2, *signal.shape))
    signal += noise[0] + 1j * noise[1]
    mean = np.einsum("xyzi,ixyz->xyz", share, hertz)
    fit = fit_field(np.angle(signal), np.abs(signal), TIMES, mask, centre_frequency=F0)
    return fit, (fit.field - mean / F0)[mask], mask


def test_mixed_voxels_have_errors_within_their_total_error(mixed):
    fit, error, mask = mixed
    covered = np.abs(error) < 1.96 * fit.total_error[mask]
    # Misfit must be significant to count, so that a little of it goes unnoticed.
    assert 0.86 < covered.mean() < 0.97
    assert (np.abs(error) < 1.96 * fit.noise_error[mask]).mean() < 0.6


def test_noise_part_is_that_of_the_noise(mixed):
    fit, _, mask = mixed
    assert fit.noise.source == "air"
    assert fit.noise.sd == pytest.approx(SIGMA, rel=0.05)
    parts = fit.noise_error**2 + fit.systematic_error**2
    np.testing.assert_allclose(np.sqrt(parts)[mask], fit.total_error[mask], rtol=1e-4)


def test_white_noise_has_no_systematic_part():
    """Its misfit would have to be as improbable as one in a thousand."""
    random = np.random.default_rng(0)
    noise = random.normal(0, SIGMA, (2, *SHAPE, 4))
    signal = SIGNAL * ball()[..., None] * np.exp(-20 * TIMES) + noise[0] + 1j * noise[1]
    fit = fit_field(np.angle(signal), np.abs(signal), TIMES, ball(), centre_frequency=F0)
    assert np.mean(fit.systematic_error[ball()] > 0) < 0.01


def test_two_echoes_show_no_systematic_misfit():
    magnitude = images()[..., :2]
    fit = fit_field(np.zeros_like(magnitude), magnitude, TIMES[:2], ball(), centre_frequency=F0)
    np.testing.assert_array_equal(fit.total_error, fit.noise_error)
