"""Artefacts of scanners and converters are measured as they were simulated, and clean images have
none.
"""

import nibabel as nib
import numpy as np
import pytest

from multiqsm.core.artefacts.coherence import alternating_axes, central_block, neighbour_coherence
from multiqsm.core.artefacts.echoes import decay_steps, echo_alternation, noise_echoes, phase_scale
from multiqsm.core.artefacts.mirroring import MirroredEcho, mirrored_magnitude, mirrored_phase
from multiqsm.core.artefacts.offsets import common_offset, echo_offsets, signal_background
from multiqsm.core.artefacts.ranges import jump_fraction, wrapped_range

SHAPE = (24, 20, 16)
TIMES = (0.005, 0.010, 0.015, 0.020)


def grid(shape=SHAPE):
    return np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))


def echoes(times=TIMES, *, alternating=0.0, noise=0.0, seed=0):
    """Echoes of a smooth field, even ones with an additional phase: magnitude and wrapped phase."""
    x, y, z = grid()
    field = 40 * z**2 + 30 * x * y
    signs = np.arange(len(times)) % 2
    phase = [
        0.4 + 2 * np.pi * field * te + sign * alternating
        for te, sign in zip(times, signs, strict=True)
    ]
    random = np.random.default_rng(seed)
    signal = np.exp(-20 * np.reshape(times, (-1, 1, 1, 1)) + 1j * np.array(phase))
    signal = signal + noise * (
        random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape)
    )
    return np.abs(signal), np.angle(signal)


def test_central_block_is_the_middle():
    block = central_block(np.arange(10 * 7 * 3).reshape(10, 7, 3), (4, 9, 1))
    assert block.shape == (4, 7, 1)
    assert block[0, 0, 0] == 3 * 21 + 1


@pytest.mark.parametrize("shape", [(10, 7, 3), (11, 8, 5)])
def test_block_of_the_mirror_image_is_the_blocks_mirror_image(shape):
    volume = np.random.default_rng(0).normal(size=shape)
    assert np.array_equal(
        central_block(volume[::-1, ::-1], (4, 4, 4)), central_block(volume, (4, 4, 4))[::-1, ::-1]
    )


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
    alternation = np.pi * (np.indices(SHAPE)[list(axes)] % 2).sum(axis=0)
    wrapped = np.angle(np.exp(1j * (phase[0] + alternation)))
    assert alternating_axes(magnitude[0], wrapped) == axes


def test_nothing_alternates_in_noise_alone():
    random = np.random.default_rng(0)
    assert alternating_axes(random.rayleigh(size=SHAPE), random.uniform(-np.pi, np.pi, SHAPE)) == ()


@pytest.mark.parametrize("n_echoes", [3, 4])
@pytest.mark.parametrize(("offset", "ramp"), [(0, 0), (0.6, 0), (0, 1.5), (-0.7, -2.4)])
def test_alternation_is_measured(n_echoes, offset, ramp):
    # From end to end of n voxels a ramp has n - 1 steps.
    alternating = offset + ramp / 2 * grid()[0] * (SHAPE[0] - 1) / SHAPE[0]
    magnitude, phase = echoes(TIMES[:n_echoes], alternating=alternating, noise=0.03)
    alternation = echo_alternation(magnitude, phase, TIMES[:n_echoes], SHAPE)
    assert alternation.offset == pytest.approx(offset, abs=0.02)
    assert alternation.ramp == pytest.approx((ramp, 0, 0), abs=0.05)


def test_ramp_is_that_of_the_whole_image():
    magnitude, phase = echoes(alternating=0.5 * grid()[1])
    half = echo_alternation(magnitude, phase, TIMES, (24, 20, 16))
    whole = echo_alternation(magnitude, phase, TIMES, (24, 40, 16))
    assert whole.ramp[1] == pytest.approx(2 * half.ramp[1])


def test_second_difference_of_constant_sign_is_no_alternation():
    magnitude, phase = echoes()
    # second difference 0.15 rad, always
    bent = phase + 3000 * np.reshape(TIMES, (-1, 1, 1, 1)) ** 2
    assert echo_alternation(magnitude, bent, TIMES, SHAPE).offset == pytest.approx(0, abs=1e-6)
    assert echo_alternation(magnitude[:3], bent[:3], TIMES[:3], SHAPE).offset == pytest.approx(
        -0.075, abs=1e-6
    )


@pytest.mark.parametrize("times", [(0.005,), (0.005, 0.010), (0.005, 0.010, 0.018)])
def test_no_alternation_without_three_equally_spaced_echoes(times):
    magnitude, phase = echoes(times, alternating=0.6)
    assert echo_alternation(magnitude, phase, times, SHAPE) is None


def test_no_alternation_of_noise_or_nothing():
    random = np.random.default_rng(0)
    noise = random.rayleigh(size=(3, *SHAPE)), random.uniform(-np.pi, np.pi, (3, *SHAPE))
    assert echo_alternation(*noise, TIMES[:3], SHAPE) is None
    assert echo_alternation(np.zeros((3, *SHAPE)), noise[1], TIMES[:3], SHAPE) is None


def test_jumps_do_not_depend_on_the_scale_of_the_values():
    values = np.random.default_rng(0).uniform(-1, 1, (6, 6, 6)).astype(np.float32)
    huge = values * np.float32(3e38)  # differences exceed the range of 32 bits
    expected = jump_fraction(values, values.min(), values.max())
    assert jump_fraction(huge, float(huge.min()), float(huge.max())) == expected


def test_jumps_distinguish_phase_from_magnitude():
    magnitude, phase = echoes(noise=0.05)
    assert jump_fraction(magnitude[3], magnitude[3].min(), magnitude[3].max()) == 0
    assert jump_fraction(phase[3], -np.pi, np.pi) > 0.005
    noise = np.random.default_rng(0).uniform(0, 4095, (40, 40, 40))
    assert jump_fraction(noise, 0, 4095) == pytest.approx(0.04, abs=0.002)  # (1 - 0.8)²
    assert jump_fraction(np.ones((2, 2, 2)), 1, 1) == 0


@pytest.mark.parametrize("echo", [0, 1, 3])
def test_echo_of_noise_is_found(echo):
    magnitude, phase = echoes(noise=0.2)
    assert noise_echoes(magnitude, phase) == ()
    phase[echo] = np.random.default_rng(0).uniform(-np.pi, np.pi, SHAPE)
    assert noise_echoes(magnitude, phase) == (echo,)


def test_scan_that_is_all_noise_or_alternates_has_no_echo_of_noise():
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
    fraction = (times[1] - times[0]) / (times[2] - times[0])
    assert steps == pytest.approx([-fraction * np.log(1.5), np.log(1.5)], abs=0.01)


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
    signal = np.array(
        [inside * np.exp(-decay * te + 1j * (0.4 + 2 * np.pi * field * te)) for te in times]
    )
    signal = signal + noise * (
        random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape)
    )
    return np.abs(signal), np.angle(signal)


def mirrored(images, echo, axes):
    changed = images.copy()
    changed[echo] = np.flip(images[echo], axes)
    return changed


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("echo", [0, 1, 2, 3])
def test_mirrored_echo_is_identified(echo, axes):
    magnitude, phase = head()
    assert mirrored_phase(magnitude, mirrored(phase, echo, axes), TIMES) == MirroredEcho(echo, axes)
    assert mirrored_magnitude(mirrored(magnitude, echo, axes)) == MirroredEcho(echo, axes)
    both_mirrored = mirrored_phase(
        mirrored(magnitude, echo, axes), mirrored(phase, echo, axes), TIMES
    )
    assert both_mirrored == MirroredEcho(echo, axes)


@pytest.mark.parametrize("noise", [0, 0.02, 0.3, 10])
def test_nothing_is_mirrored_in_a_head_or_in_noise(noise):
    magnitude, phase = head(noise=noise)
    assert mirrored_phase(magnitude, phase, TIMES) is None
    assert mirrored_magnitude(magnitude) is None


def test_symmetric_head_is_never_mirrored():
    # a ball whose field is that of its mirror image along the third axis
    magnitude, phase = echoes(noise=0.02)
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
    parts = []
    for part in ("mag", "phase"):
        paths = [folder / f"sub-crop7T_echo-{n}_part-{part}_MEGRE.nii.gz" for n in (1, 2, 3)]
        parts.append(np.array([nib.load(path).get_fdata() for path in paths]))
    return *parts, (0.004, 0.008, 0.012)


def test_real_scan_has_no_artefacts(real_echoes):
    magnitude, phase, times = real_echoes
    assert neighbour_coherence(magnitude[0], phase[0]).min() > 0.98
    alternation = echo_alternation(magnitude, phase, times, phase.shape[1:])
    assert abs(alternation.offset) < 0.02
    assert np.abs(alternation.ramp).max() < 0.05
    assert mirrored_phase(magnitude, phase, times) is None
    assert mirrored_magnitude(magnitude) is None
    assert noise_echoes(magnitude, phase) == ()
    assert np.abs(decay_steps(magnitude, times)).max() < 0.02


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("echo", [0, 1, 2])
def test_mirrored_echo_of_a_real_scan_is_identified(real_echoes, echo, axes):
    magnitude, phase, times = real_echoes
    assert mirrored_phase(magnitude, mirrored(phase, echo, axes), times) == MirroredEcho(echo, axes)
    assert mirrored_magnitude(mirrored(magnitude, echo, axes)) == MirroredEcho(echo, axes)


def test_alternation_added_to_a_real_scan_is_measured(real_echoes):
    magnitude, phase, times = real_echoes
    shape = phase.shape[1:]
    assert alternating_axes(magnitude[0], phase[0] + np.pi * (np.arange(shape[2]) % 2)) == (2,)
    phase[1] += 0.5 + np.linspace(-1, 1, shape[0]).reshape(-1, 1, 1)
    alternation = echo_alternation(magnitude, phase, times, shape)
    # the signal is not in the middle of the image
    assert alternation.offset == pytest.approx(0.5, abs=0.1)
    assert alternation.ramp == pytest.approx((2.04, 0, 0), abs=0.1)


@pytest.mark.parametrize("scale", [0.5, 1, 2])
@pytest.mark.parametrize("noise", [0, 0.02])
def test_scale_of_an_echos_phase_lies_between_its_bounds(scale, noise):
    """Phase differs by at most 0.4 rad between neighbours, and does not wrap if doubled."""
    magnitude, phase = echoes(noise=noise)
    unwrapped = phase[2]
    for axis in range(3):
        unwrapped = np.unwrap(unwrapped, axis=axis)
    phase[2] = np.angle(np.exp(1j * scale * unwrapped))
    lowest, highest = phase_scale(magnitude, phase, TIMES)
    expected = np.array([1, scale, 1 / scale])
    assert (lowest <= expected * 1.02).all()
    assert (highest >= expected * 0.98).all()
    assert (highest / lowest < (1.01 if noise == 0 else 1.5)).all()


def test_scale_of_noise_or_without_signal_is_undetermined():
    random = np.random.default_rng(0)
    magnitude = np.ones((3, *SHAPE))
    noise = random.uniform(-np.pi, np.pi, (3, *SHAPE))
    lowest, highest = phase_scale(magnitude, noise, TIMES[:3])
    assert (lowest < 0.75).all()
    assert np.isinf(highest).all()
    assert np.isnan(phase_scale(0 * magnitude, 0 * noise, TIMES[:3])).all()
    assert phase_scale(magnitude[:1], noise[:1], TIMES[:1])[0].size == 0


@pytest.mark.parametrize(("low", "high"), [(-np.pi, np.pi), (0, 4095), (-2048, 2047)])
def test_range_of_wrapped_phase_is_its_period(low, high):
    _, phase = echoes()
    stored = low + (phase[3] + np.pi) / (2 * np.pi) * (high - low)
    assert wrapped_range(stored, 0.002) == pytest.approx(high - low, rel=0.05)
    # the background has one value, wherever it lies
    masked = np.where(np.hypot(*grid()[:2]) < 0.8, stored, low - 5)
    assert wrapped_range(masked, 0.002) == pytest.approx(high - low, rel=0.05)


def test_phase_without_wraps_has_no_period():
    x, *_ = grid()
    # neighbours at the mask's rim are far apart
    narrow = np.where(np.hypot(*grid()[:2]) < 0.8, 2 + 0.1 * x, 0)
    assert wrapped_range(narrow, 0.002) is None
    assert wrapped_range(np.zeros(SHAPE), 0.002) is None


def head_parts(offsets=0, *, times=TIMES, masked=False, noise=0.02):
    """Real and imaginary parts of a head in air, echo by echo, with offsets added; images first,
    then voxels.
    """
    magnitude, phase = echoes(times)
    random = np.random.default_rng(0)
    inside = np.hypot(*grid()[:2]) < 0.8
    signal = inside * magnitude * np.exp(1j * phase)
    signal = signal + noise * (
        random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape)
    )
    signal = np.where(inside | (not masked), signal, 0).reshape(len(times), -1)
    return np.concatenate([signal.real, signal.imag]) + np.reshape(offsets, (-1, 1))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "offsets",
    [
        np.zeros(8),
        np.ones(8),
        -np.ones(8),
        0.3 * np.ones(8),
        np.eye(8)[0],
        np.eye(8)[6],
        np.repeat([0, 2], 4),
    ],
)
def test_background_has_the_offsets_that_were_added(offsets, masked):
    background = signal_background(head_parts(offsets, masked=masked))
    assert background.level == pytest.approx(offsets, abs=0.01)
    assert background.noise == pytest.approx(0 if masked else 0.02, rel=0.2)
    assert background.is_off_zero.tolist() == (offsets != 0).tolist()


def test_noise_is_scaled_with_its_image():
    scales = np.array([1, 1, 2, 1, 1, 1, 1, 0.5])
    background = signal_background(head_parts() * scales[:, None])
    assert background.noise / 0.02 == pytest.approx(scales, rel=0.2)


def test_tissue_is_no_background(real_echoes):
    magnitude, phase, _ = real_echoes
    signal = (magnitude * np.exp(1j * phase)).reshape(3, -1)
    assert signal_background(np.concatenate([signal.real, signal.imag])) is None
    assert signal_background(np.zeros((4, 100))) is None


def signal_of(images):
    real, imaginary = np.split(images, 2)
    return real + 1j * imaginary


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("offset", [0, 1, -1j, 0.5 + 0.5j])
def test_offset_of_all_echoes_is_found(offset, masked):
    signal = signal_of(head_parts(masked=masked)) + offset
    assert common_offset(signal, TIMES) == pytest.approx(offset, abs=0.05)


@pytest.mark.parametrize("alternating", [0, 0.6])
@pytest.mark.parametrize("echo", [0, 1, 2, 3])
def test_offset_of_one_echo_is_found_with_a_bipolar_readout_too(echo, alternating):
    magnitude, phase = echoes(alternating=alternating, noise=0.02)
    signal = (magnitude * np.exp(1j * phase)).reshape(4, -1)
    assert echo_offsets(signal, TIMES) == pytest.approx(np.zeros(4))
    signal[echo] += 1 - 0.5j
    assert echo_offsets(signal, TIMES) == pytest.approx((1 - 0.5j) * np.eye(4)[echo], abs=0.05)


def test_offset_added_to_a_real_scan_without_background_is_measured(real_echoes):
    magnitude, phase, times = real_echoes
    signal = (magnitude * np.exp(1j * phase)).reshape(3, -1)
    assert abs(common_offset(signal, times)) < 0.02
    assert common_offset(signal + 0.4 - 0.3j, times) == pytest.approx(0.4 - 0.3j, abs=0.02)
    assert echo_offsets(signal, times) == pytest.approx(np.zeros(3))


@pytest.mark.parametrize("spread", [1, 3])
@pytest.mark.parametrize("alternating", [0, 0.3, 1.2])
def test_phase_that_hardly_changes_is_no_offset(spread, alternating):
    """Signals of all echoes are then close to one value, which might as well be an offset."""
    random = np.random.default_rng(0)
    field = random.normal(0, spread, 5000)
    density = random.uniform(0.6, 1, 5000)
    times = np.array([0.002, 0.004, 0.006])[:, None]
    phase = 0.3 + 2 * np.pi * field * times + alternating * np.array([[0], [1], [0]])
    signal = density * np.exp(-25 * times + 1j * phase) + 0.02 * random.normal(size=(3, 5000))
    assert common_offset(signal, times.ravel()) is None
    assert not echo_offsets(signal, times.ravel()).any()


def test_offset_needs_equally_spaced_echoes():
    signal = signal_of(head_parts(times=(0.004, 0.009, 0.02))) + 1
    assert common_offset(signal, (0.004, 0.009, 0.02)) is None
    assert not echo_offsets(signal, (0.004, 0.009, 0.02)).any()
