"""The phase that a bipolar readout adds to even echoes is measured and removed."""

import numpy as np
import pytest

from multiqsm.core.phase.encoding import wrap_phase
from multiqsm.core.phase.fieldfit import fit_field
from multiqsm.core.phase.readout import fit_readout_phase, remove_readout_phase
from multiqsm.core.phase.unwrapping import unwrap_echoes

SHAPE = (24, 20, 16)
TIMES = (0.005, 0.010, 0.015, 0.020)
OFFSET = 0.6
RAMP = (1.2, -0.5, 0.3)
SNR = 50.0


def echoes(offset, ramp, times=TIMES):
    """Return magnitude and wrapped phase of a ball in air; the field is off its centre."""
    places = []
    for n in SHAPE:
        places.append((np.arange(n) + 0.5) / n - 0.5)
    x, y, z = np.meshgrid(*places, indexing="ij")
    ball = (x - 0.08) ** 2 + y**2 + z**2 < 0.16
    field = 40 * z**2 + 60 * x * y + 20 * y  # Hz
    t = np.array(times)
    phase = 0.4 + x[..., None] + 2 * np.pi * field[..., None] * t
    added = offset + ramp[0] * x + ramp[1] * y + ramp[2] * z
    phase[..., 1::2] += added[..., None]
    signal = SNR * ball[..., None] * np.exp(-20 * t + 1j * phase)
    random = np.random.default_rng(0)
    signal = signal + random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape)
    return np.abs(signal), np.angle(signal), ball


def median_error(magnitude, phase, ball, times=TIMES):
    unwrapped = unwrap_echoes(phase, ball, times)
    fit = fit_field(unwrapped, magnitude, times, ball, centre_frequency=128.0)
    return np.median(fit.standard_error[ball])


@pytest.mark.parametrize("n_echoes", [3, 4])
def test_plane_is_that_of_the_whole_image(n_echoes):
    """Noise of 1/50 of the signal in 3000 voxels leaves an error of less than .005 rad."""
    magnitude, phase, _ = echoes(OFFSET, RAMP, TIMES[:n_echoes])
    readout = fit_readout_phase(magnitude, phase, TIMES[:n_echoes])
    assert readout.offset == pytest.approx(OFFSET, abs=0.005)
    assert readout.ramp == pytest.approx(RAMP, abs=0.02)
    assert readout.scatter < 2 / SNR


def test_outliers_do_not_move_the_plane():
    magnitude, phase, ball = echoes(OFFSET, RAMP)
    flowing = ball & (np.arange(SHAPE[1]) > 13)[:, None]
    assert 0.1 < flowing.sum() / ball.sum() < 0.3
    phase[flowing, 1] = wrap_phase(phase[flowing, 1] + 1.0)
    readout = fit_readout_phase(magnitude, phase, TIMES)
    assert readout.offset == pytest.approx(OFFSET, abs=0.01)
    assert readout.ramp == pytest.approx(RAMP, abs=0.05)


def test_without_it_the_field_is_as_certain_as_with_a_monopolar_readout():
    monopolar = median_error(*echoes(0.0, (0.0, 0.0, 0.0)))
    magnitude, phase, ball = echoes(OFFSET, RAMP)
    corrected = remove_readout_phase(phase, fit_readout_phase(magnitude, phase, TIMES))
    assert median_error(magnitude, phase, ball) > 5 * monopolar
    assert median_error(magnitude, corrected, ball) == pytest.approx(monopolar, rel=0.05)


def test_offset_is_determined_up_to_half_a_cycle():
    magnitude, phase, _ = echoes(OFFSET + np.pi, RAMP)
    assert fit_readout_phase(magnitude, phase, TIMES).offset == pytest.approx(OFFSET, abs=0.01)


def test_odd_echoes_stay_as_they_are():
    magnitude, phase, _ = echoes(OFFSET, RAMP)
    corrected = remove_readout_phase(phase, fit_readout_phase(magnitude, phase, TIMES))
    np.testing.assert_array_equal(corrected[..., ::2], phase[..., ::2].astype(np.float32))
    assert np.abs(corrected).max() <= np.float32(np.pi)


@pytest.mark.parametrize("times", [(0.005, 0.010), (0.005, 0.010, 0.018)])
def test_two_echoes_and_unequal_spacing_do_not_show_it(times):
    magnitude, phase, _ = echoes(OFFSET, RAMP, times)
    assert fit_readout_phase(magnitude, phase, times) is None
