"""What scanners and converters do to images is measured as it was put in, and nothing is found where nothing is."""

import nibabel as nib
import numpy as np
import pytest

from multiqsm.core.artefacts import (
    MirroredEcho,
    alternating_axes,
    central_block,
    decay_steps,
    echo_alternation,
    jump_share,
    mirrored_magnitude,
    mirrored_phase,
    neighbour_coherence,
    noise_echoes,
)

SHAPE = (24, 20, 16)
TIMES = (0.005, 0.010, 0.015, 0.020)


def grid(shape=SHAPE):
    return np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))


def echoes(times=TIMES, *, alternating=0.0, noise=0.0, seed=0):
    """Echoes of a smooth field, even ones with an additional phase: magnitude and wrapped phase."""
    x, y, z = grid()
    field = 40 * z**2 + 30 * x * y
    signs = np.arange(len(times)) % 2
    phase = [0.4 + 2 * np.pi * field * te + sign * alternating for te, sign in zip(times, signs, strict=True)]
    random = np.random.default_rng(seed)
    signal = np.exp(-20 * np.reshape(times, (-1, 1, 1, 1)) + 1j * np.array(phase))
    signal = signal + noise * (random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape))
    return np.abs(signal), np.angle(signal)


def test_block_is_the_middle():
    block = central_block(np.arange(10 * 7 * 3).reshape(10, 7, 3), (4, 9, 1))
    assert block.shape == (4, 7, 1)
    assert block[0, 0, 0] == 3 * 21 + 1


@pytest.mark.parametrize("shape", [(10, 7, 3), (11, 8, 5)])
def test_block_of_the_mirror_image_is_the_blocks_mirror_image(shape):
    volume = np.random.default_rng(0).normal(size=shape)
    assert np.array_equal(central_block(volume[::-1, ::-1], (4, 4, 4)), central_block(volume, (4, 4, 4))[::-1, ::-1])


@pytest.mark.parametrize("degrees", [0, 30, 90, 150, 180])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_coherence_is_the_cosine_of_a_ramps_step(degrees, axis):
    step = np.zeros(3)
    step[axis] = np.radians(degrees)
    phase = np.einsum("i,ixyz", step, np.indices(SHAPE))
    expected = np.where(np.arange(3) == axis, np.cos(np.radians(degrees)), 1)
    assert neighbour_coherence(np.full(SHAPE, 3.0), phase) == pytest.approx(expected)


def test_coherence_needs_neighbours_with_signal():
    assert np.isnan(neighbour_coherence(np.ones((3, 3, 1)), np.zeros((3, 3, 1)))[2])
    assert np.isnan(neighbour_coherence(np.zeros(SHAPE), np.zeros(SHAPE))).all()


@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 1), (0, 1, 2)])
def test_axes_that_alternate_are_found_in_noise(axes):
    magnitude, phase = echoes(noise=0.2)
    turned = np.pi * sum((np.indices(SHAPE)[axis] % 2 for axis in axes), np.zeros(SHAPE))
    assert alternating_axes(magnitude[0], np.angle(np.exp(1j * (phase[0] + turned)))) == axes


def test_nothing_alternates_in_noise_alone():
    random = np.random.default_rng(0)
    assert alternating_axes(random.rayleigh(size=SHAPE), random.uniform(-np.pi, np.pi, SHAPE)) == ()


@pytest.mark.parametrize("n_echoes", [3, 4])
@pytest.mark.parametrize(("offset", "ramp"), [(0, 0), (0.6, 0), (0, 1.5), (-0.7, -2.4)])
def test_alternation_is_measured(n_echoes, offset, ramp):
    # From end to end of n voxels a ramp has n - 1 steps.
    alternating = offset + ramp / 2 * grid()[0] * (SHAPE[0] - 1) / SHAPE[0]
    magnitude, phase = echoes(TIMES[:n_echoes], alternating=alternating, noise=0.03)
    found = echo_alternation(magnitude, phase, TIMES[:n_echoes], SHAPE)
    assert found.offset == pytest.approx(offset, abs=0.02)
    assert found.ramp == pytest.approx((ramp, 0, 0), abs=0.05)


def test_ramp_is_that_of_the_whole_image():
    magnitude, phase = echoes(alternating=0.5 * grid()[1])
    half = echo_alternation(magnitude, phase, TIMES, (24, 20, 16))
    whole = echo_alternation(magnitude, phase, TIMES, (24, 40, 16))
    assert whole.ramp[1] == pytest.approx(2 * half.ramp[1])


def test_what_keeps_its_sign_does_not_alternate():
    magnitude, phase = echoes()
    bent = phase + 3000 * np.reshape(TIMES, (-1, 1, 1, 1)) ** 2  # second difference 0.15 rad, always
    assert echo_alternation(magnitude, bent, TIMES, SHAPE).offset == pytest.approx(0, abs=1e-6)
    assert echo_alternation(magnitude[:3], bent[:3], TIMES[:3], SHAPE).offset == pytest.approx(-0.075, abs=1e-6)


@pytest.mark.parametrize("times", [(0.005,), (0.005, 0.010), (0.005, 0.010, 0.018)])
def test_no_alternation_without_three_equally_spaced_echoes(times):
    magnitude, phase = echoes(times, alternating=0.6)
    assert echo_alternation(magnitude, phase, times, SHAPE) is None


def test_no_alternation_of_noise_or_nothing():
    random = np.random.default_rng(0)
    noise = random.rayleigh(size=(3, *SHAPE)), random.uniform(-np.pi, np.pi, (3, *SHAPE))
    assert echo_alternation(*noise, TIMES[:3], SHAPE) is None
    assert echo_alternation(np.zeros((3, *SHAPE)), noise[1], TIMES[:3], SHAPE) is None


def test_jumps_tell_phase_from_magnitude():
    magnitude, phase = echoes(noise=0.05)
    assert jump_share(magnitude[3], magnitude[3].min(), magnitude[3].max()) == 0
    assert jump_share(phase[3], -np.pi, np.pi) > 0.005
    noise = np.random.default_rng(0).uniform(0, 4095, (40, 40, 40))
    assert jump_share(noise, 0, 4095) == pytest.approx(0.04, abs=0.002)  # (1 - 0.8)²
    assert jump_share(np.ones((2, 2, 2)), 1, 1) == 0


@pytest.mark.parametrize("echo", [0, 1, 3])
def test_echo_of_noise_is_found(echo):
    magnitude, phase = echoes(noise=0.2)
    assert noise_echoes(magnitude, phase) == ()
    phase[echo] = np.random.default_rng(0).uniform(-np.pi, np.pi, SHAPE)
    assert noise_echoes(magnitude, phase) == (echo,)


def test_what_is_all_noise_or_alternates_has_no_echo_of_noise():
    magnitude, phase = echoes()
    noise = np.random.default_rng(0).uniform(-np.pi, np.pi, phase.shape)
    assert noise_echoes(magnitude, noise) == ()
    assert noise_echoes(0 * magnitude, phase) == ()
    assert noise_echoes(magnitude, phase + np.pi * (np.indices(SHAPE).sum(axis=0) % 2)) == ()


@pytest.mark.parametrize("times", [TIMES, (0.004, 0.01, 0.013, 0.03)])
def test_decay_that_is_exponential_has_no_steps(times):
    magnitude, _ = head(times)
    assert np.abs(decay_steps(magnitude, times)).max() < 0.01
    magnitude[2] *= 1.5  # between its neighbours it is too strong, and so they seem too weak
    steps = decay_steps(magnitude, times)
    share = (times[1] - times[0]) / (times[2] - times[0])
    assert steps == pytest.approx([-share * np.log(1.5), np.log(1.5)], abs=0.01)


def test_steps_of_decay_need_three_echoes_with_signal():
    magnitude, _ = head()
    assert decay_steps(magnitude[:2], TIMES[:2]).size == 0
    assert np.isnan(decay_steps(0 * magnitude, TIMES)).all()


AXES = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]


def head(times=TIMES, *, noise=0.02):
    """Echoes of a head that no mirror maps onto itself: magnitude and wrapped phase."""
    x, y, z = grid()
    inside = (x**2 + (y - 0.1) ** 2 + z**2 < 0.8) * (1 - 0.3 * x - 0.2 * y - 0.3 * z)
    field = 40 * (z - 0.2) ** 2 + 30 * (x - 0.1) * (y + 0.2)
    decay = 20 + 15 * (x + 0.5 * y + 0.3 * z)
    random = np.random.default_rng(0)
    signal = np.array([inside * np.exp(-decay * te + 1j * (0.4 + 2 * np.pi * field * te)) for te in times])
    signal = signal + noise * (random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape))
    return np.abs(signal), np.angle(signal)


def mirrored(images, echo, axes):
    changed = images.copy()
    changed[echo] = np.flip(images[echo], axes)
    return changed


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("echo", [0, 1, 2, 3])
def test_mirrored_echo_is_named(echo, axes):
    magnitude, phase = head()
    assert mirrored_phase(magnitude, mirrored(phase, echo, axes), TIMES) == MirroredEcho(echo, axes)
    assert mirrored_magnitude(mirrored(magnitude, echo, axes)) == MirroredEcho(echo, axes)
    whole = mirrored(magnitude, echo, axes), mirrored(phase, echo, axes)
    assert mirrored_phase(*whole, TIMES) == MirroredEcho(echo, axes)


@pytest.mark.parametrize("noise", [0, 0.02, 0.3, 10])
def test_nothing_is_mirrored_in_a_head_or_in_noise(noise):
    magnitude, phase = head(noise=noise)
    assert mirrored_phase(magnitude, phase, TIMES) is None
    assert mirrored_magnitude(magnitude) is None


def test_symmetric_head_is_never_mirrored():
    magnitude, phase = echoes(noise=0.02)  # a ball whose field is that of its mirror image along the third axis
    assert mirrored_phase(magnitude, phase, TIMES) is None
    assert mirrored_magnitude(magnitude) is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_bipolar_readout_is_not_mirrored(axis):
    magnitude, phase = head()
    phase[1::2] += 0.5 + 1.5 * grid()[axis]
    assert mirrored_phase(magnitude, phase, TIMES) is None


def test_mirrored_echo_needs_three_equally_spaced():
    times = (0.005, 0.010, 0.018, 0.028, 0.038)
    magnitude, phase = head(times)
    assert mirrored_phase(magnitude, mirrored(phase, 0, (0,)), times) is None
    assert mirrored_phase(magnitude, mirrored(phase, 4, (0,)), times) == MirroredEcho(4, (0,))
    assert mirrored_phase(magnitude[:2], mirrored(phase[:2], 0, (0,)), times[:2]) is None
    assert mirrored_magnitude(mirrored(magnitude[:2], 0, (0,))) is None


def test_nothing_is_mirrored_without_signal():
    magnitude, phase = head()
    assert mirrored_phase(0 * magnitude, phase, TIMES) is None
    assert mirrored_magnitude(0 * magnitude) is None


@pytest.fixture
def real_echoes(shared):
    """Magnitude and phase of three echoes of a brain at 7 T, and their times."""
    folder = shared / "data" / "real_bids" / "sub-crop7T" / "anat"
    parts = [
        np.array([nib.load(folder / f"sub-crop7T_echo-{n}_part-{part}_MEGRE.nii.gz").get_fdata() for n in (1, 2, 3)])
        for part in ("mag", "phase")
    ]
    return *parts, (0.004, 0.008, 0.012)


def test_real_scan_is_free_of_both(real_echoes):
    magnitude, phase, times = real_echoes
    assert neighbour_coherence(magnitude[0], phase[0]).min() > 0.98
    found = echo_alternation(magnitude, phase, times, phase.shape[1:])
    assert abs(found.offset) < 0.02
    assert np.abs(found.ramp).max() < 0.05
    assert mirrored_phase(magnitude, phase, times) is None
    assert mirrored_magnitude(magnitude) is None
    assert noise_echoes(magnitude, phase) == ()
    assert np.abs(decay_steps(magnitude, times)).max() < 0.02


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("echo", [0, 1, 2])
def test_mirrored_echo_of_a_real_scan_is_named(real_echoes, echo, axes):
    magnitude, phase, times = real_echoes
    assert mirrored_phase(magnitude, mirrored(phase, echo, axes), times) == MirroredEcho(echo, axes)
    assert mirrored_magnitude(mirrored(magnitude, echo, axes)) == MirroredEcho(echo, axes)


def test_what_is_put_into_a_real_scan_is_found(real_echoes):
    magnitude, phase, times = real_echoes
    shape = phase.shape[1:]
    assert alternating_axes(magnitude[0], phase[0] + np.pi * (np.arange(shape[2]) % 2)) == (2,)
    phase[1] += 0.5 + np.linspace(-1, 1, shape[0]).reshape(-1, 1, 1)
    found = echo_alternation(magnitude, phase, times, shape)
    assert found.offset == pytest.approx(0.5, abs=0.1)  # the signal is not in the middle of the image
    assert found.ramp == pytest.approx((2.04, 0, 0), abs=0.1)
