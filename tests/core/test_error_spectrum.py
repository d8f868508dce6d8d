"""The spectrum of the field's error, read on the dipole kernel's cone, and the λ that it gives."""

import numpy as np
import pytest
from helpers.analytic import centred_coordinates, sphere_field
from scipy import fft

from multiqsm.core.dipole import dipole_kernel, frequencies
from multiqsm.core.grid import WorkingGrid
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.error_spectrum import TAPER_DEPTH, ErrorSpectrum, surface_taper
from multiqsm.core.inversion.problem import MARGIN

VOXEL_SIZE = (1.5, 1.5, 2)
SHAPE = (54, 55, 41)
NOISE = 0.001  # ppm
OBLIQUE = (0.3, 0.0, 0.95)


def filtered(noise, power_at):
    """Noise whose power is multiplied by a function of |k|."""
    length = np.sqrt(sum(k**2 for k in frequencies(noise.shape, VOXEL_SIZE)))
    return fft.irfftn(fft.rfftn(noise) * np.sqrt(power_at(length)), noise.shape)


def smooth(length):
    """Power that falls from 50² to 1.4² times that of white noise, as in vivo."""
    return 1 + (0.5 / np.maximum(length, 0.037)) ** 3


@pytest.fixture(scope="module")
def balls():
    """The field of two balls in an oblique B0, the mask, and noise."""
    field = np.zeros(SHAPE, np.float32)
    truth = np.zeros(SHAPE, np.float32)
    for centre, radius, chi in (
        ((-12, 0, 0), 8, 0.1),
        ((14, 4, 0), 6, -0.1),
        ((0, -18, 8), 3, 0.2),
    ):
        ball_field, fraction = sphere_field(
            SHAPE, VOXEL_SIZE, OBLIQUE, radius=radius, chi=chi, center=centre
        )
        field += ball_field
        truth += chi * fraction
    mask = sum(c**2 for c in centred_coordinates(SHAPE, VOXEL_SIZE)) < 39**2
    noise = np.random.default_rng(0).normal(0, NOISE, SHAPE)
    return field, truth, mask, noise


def spectrum_of(field, mask):
    grid = WorkingGrid.around(mask, VOXEL_SIZE, MARGIN)
    inside = grid.embed(mask)
    kernel = dipole_kernel(grid.shape, VOXEL_SIZE, OBLIQUE)
    embedded = grid.embed(np.where(mask, field, 0).astype(np.float32))
    return ErrorSpectrum(embedded, inside.astype(np.float32), kernel, VOXEL_SIZE)


def test_white_noise_is_found_white_and_with_its_variance(balls):
    _, _, mask, noise = balls
    coarse, fine = spectrum_of(noise, mask).amplitudes
    # The outermost shells have at least 50 frequencies on the cone, of which the window leaves
    # about a fifth independent: a standard deviation of their power of .3, of the amplitude of .15.
    assert coarse == pytest.approx(NOISE, rel=0.45)
    assert fine == pytest.approx(NOISE, rel=0.3)


def test_smooth_error_is_told_from_the_field_of_sources(balls):
    field, _, mask, noise = balls
    alone = spectrum_of(filtered(noise, smooth), mask)
    measured = spectrum_of(field + filtered(noise, smooth), mask)
    for coarse, fine in (alone.amplitudes, measured.amplitudes):
        assert fine == pytest.approx(1.4 * NOISE, rel=0.3)
        assert 10 * fine < coarse < 50 * fine  # 35, less what shells and window average


def test_error_over_its_own_spectrum_is_white(balls):
    _, _, mask, noise = balls
    error = filtered(noise, smooth)
    grid = WorkingGrid.around(mask, VOXEL_SIZE, MARGIN)
    embedded = grid.embed(np.where(mask, error, 0).astype(np.float32))
    whitened = spectrum_of(error, mask).whitened(embedded)
    length = np.sqrt(sum(k**2 for k in frequencies(grid.shape, VOXEL_SIZE)))
    for low, high in ((0.05, 0.1), (0.1, 0.2), (0.2, 0.4)):
        shell = (length >= low) & (length < high)
        assert whitened[shell].mean() == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize("power_at", [np.ones_like, smooth])
def test_rule_comes_close_to_the_best_lambda_whatever_the_error(balls, power_at):
    field, truth, mask, noise = balls
    measured = (field + filtered(noise, power_at)).astype(np.float32)

    def error(**rule):
        chi = deterministic(measured, mask, VOXEL_SIZE, b0_dir=OBLIQUE, **rule).chi
        return 100 * np.std((chi - truth)[mask]) / np.std(truth[mask])

    best = min(error(lambda_value=value) for value in np.geomspace(0.05, 0.6, 8))
    whitened = error(lambda_rule="whitened")
    plain = error(lambda_rule="gcv")
    assert whitened < best + 2
    if power_at is smooth:
        assert plain > whitened + 2
    else:
        assert plain == pytest.approx(whitened, abs=1)


def test_lambda_does_not_depend_on_the_unit_of_the_field(balls):
    field, _, mask, noise = balls
    lambdas = []
    for unit in (1, 1000):
        measured = (unit * (field + noise)).astype(np.float32)
        lambdas.append(deterministic(measured, mask, VOXEL_SIZE).lambda_choice.value)
    assert lambdas[0] == pytest.approx(lambdas[1], rel=1e-3)


def test_taper_rises_from_the_surface_to_one_in_the_depth():
    mask = np.zeros((40, 40, 40), bool)
    mask[:, :, 10:] = True  # a flat face
    taper = surface_taper(mask, (1, 1, 1))[20, 20]
    assert not taper[:10].any()
    # The centre of the first voxel inside lies half a voxel below the face.
    depth = np.arange(10) + 0.5
    expected = np.sin(np.pi / 2 * np.clip(depth / (TAPER_DEPTH + 0.5), 0, 1)) ** 2
    np.testing.assert_allclose(taper[10:20], expected, atol=1e-5)


def test_mask_without_depth_keeps_its_weight():
    sheet = np.zeros((20, 20, 20), bool)
    sheet[:, :, 10] = True
    np.testing.assert_array_equal(surface_taper(sheet, (1, 1, 1)), sheet)
