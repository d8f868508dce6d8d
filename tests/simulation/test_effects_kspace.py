"""Effects on lines of k-space: ghosts, shifts and point spreads where theory has them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special
from scipy.spatial.transform import Rotation

from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.effects import IDEAL, ROUGH, Effects, effect_generator
from multiqsm.simulation.effects.kspace import distort_lines
from multiqsm.simulation.effects.lines import line_times, modulate
from multiqsm.simulation.effects.motion import Motion, Path, move, rotated
from multiqsm.simulation.effects.physiology import (
    Breathing,
    Pulsation,
    displace,
    slice_displacement,
)
from multiqsm.simulation.effects.swallowing import Swallowing, close_pharynx
from multiqsm.simulation.effects.truncation import KSpace, Truncation, truncate
from multiqsm.simulation.grid import scan_affine
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.study import make_design
from multiqsm.simulation.tissue import coverage, empty_space

SHAPE = (48, 40, 32)
VOXEL_SIZE = (2.0, 2.0, 3.0)
AFFINE = scan_affine(SHAPE, VOXEL_SIZE)
PROTOCOL = Protocol(SHAPE, VOXEL_SIZE, (0.01, 0.03), snr=np.inf, oversampling=(1, 1, 1))
KSPACE_EFFECTS = ("breathing", "swallowing", "pulsation", "motion", "truncation")
ALL_LINES = np.ones((SHAPE[0], SHAPE[2]), bool)
TIMES = line_times(ALL_LINES, PROTOCOL.repetition_time)
REGULAR = {"scan_spread": 0.0, "rate_spread": 0.0, "breath_spread": 0.0}


def blob(place=(0.0, 0.0, 0.0), affine=AFFINE, width=(6.0, 7.5, 7.0), phase=0.02):
    """Image of a smooth object around a place (mm): no frequency beyond the sampled ones."""
    index = np.indices(SHAPE)
    points = np.tensordot(affine[:3, :3], index, 1) + affine[:3, 3, None, None, None]
    x, y, z = (p - c for p, c in zip(points, place, strict=True))
    squared = (x / width[0]) ** 2 + (y / width[1]) ** 2 + (z / width[2]) ** 2
    return (np.exp(-squared / 2) * np.exp(1j * phase * (x - y + z))).astype(np.complex64)


def sphere(shape, affine):
    """An object for `magnetize`: a ball of 30 mm."""
    tissue = empty_space(shape, 0.0)
    index = np.indices(shape).reshape(3, -1)
    points = affine[:3, :3] @ index + affine[:3, 3:]
    distance = (np.linalg.norm(points, axis=0) - 30).reshape(shape).astype(np.float32)
    tissue.paint(
        (slice(None),) * 3,
        coverage(distance, 2.0),
        {"chi": 0.1, "r2s": 10.0, "pd": 1.0, "t1": 1.0},
        1,
    )
    tissue.region[:] = coverage(distance + 4, 1.0)
    return tissue


@pytest.fixture(scope="module")
def specimen():
    return magnetize(sphere, AFFINE, SHAPE, oversampling=(1, 1, 1))


def test_constant_field_is_a_phase():
    """A field that is the same in all lines changes the image by exp(2πi f₀ b TE), no more. The
    expansion's error is φ³/6.
    """
    image = blob()
    pattern = Breathing().pattern(AFFINE, SHAPE, np.zeros(3))
    phase = 2 * np.pi * 123.25 * 0.005 * 0.03  # of 0.005 ppm at 123.25 MHz after 30 ms
    expected = image * np.exp(1j * phase * pattern)
    changed = modulate(image, pattern, np.full_like(TIMES, phase), 1.0)
    bound = (phase * np.abs(pattern - 1)).max() ** 3 / 6
    assert np.abs(changed - expected).max() < bound + 1e-6
    assert np.abs(changed - image).max() > 100 * bound


def test_field_of_the_lungs_is_a_dipole():
    """1 at the brain's centre; on the axis it falls with the cube of the distance, and it has no
    sources in the image.
    """
    pattern = Breathing(distance=300.0).pattern(np.diag([2.0, 2, 2, 1]), (5, 5, 60), (4, 4, 40))
    on_axis = (300 / (300 + 2 * np.arange(60) - 40)) ** 3
    np.testing.assert_allclose(pattern[2, 2], on_axis, rtol=1e-5)
    coarse = Breathing().pattern(np.diag([20.0, 20, 20, 1]), (3, 3, 3), (20, 20, 20))
    second = [np.diff(coarse.astype(float), 2, axis=axis) for axis in range(3)]
    laplacian = second[0][0, 1, 1] + second[1][1, 0, 1] + second[2][1, 1, 0]
    assert abs(laplacian) < 0.02 * abs(second[2][1, 1, 0])


def test_periodic_breathing_gives_ghosts():
    """A field b cos(2πft) in lines that are TR apart makes ghosts of i J₁(θ), θ = 2π f₀ b TE, at
    f·TR·n_phase voxels in the phase direction; the image itself is left with J₀(θ).

    The whole number of breaths in a pass through the phase direction makes every slice step alike.
    """
    n_phase = SHAPE[0]
    shift = 10  # voxels
    rate = shift / (n_phase * PROTOCOL.repetition_time)
    breathing = Breathing(field=0.03, rate=rate, **REGULAR)
    field, record = breathing.draw(np.random.default_rng(0), TIMES)
    assert record["FieldPeakToPeak"] == pytest.approx(0.03)
    theta = 2 * np.pi * 123.25 * 0.015 * 0.03
    image = blob(width=(4.0, 9.0, 7.0))
    uniform = np.ones(SHAPE, np.float32)
    ghosts = modulate(image, uniform, 2 * np.pi * 123.25 * 0.03 * field, 1.0)
    for order in range(3):
        for side in (-1, 1):
            moved = np.roll(image, side * order * shift, axis=0)
            amplitude = np.vdot(moved, ghosts) / np.vdot(moved, moved)
            assert abs(amplitude) == pytest.approx(special.jv(order, theta), abs=2e-3)
    assert np.linalg.norm(ghosts) == pytest.approx(np.linalg.norm(image), rel=1e-5)


def test_breathing_is_near_its_rate():
    """Whatever its breaths' durations, it has a rate near 0.25 Hz and the stated strength."""
    times = np.arange(0, 600, 0.045)
    field, record = Breathing().draw(np.random.default_rng(3), times)
    spectrum = np.abs(np.fft.rfft(field - field.mean())) ** 2
    frequency = np.fft.rfftfreq(len(times), 0.045)
    assert frequency[spectrum.argmax()] == pytest.approx(record["Rate"], rel=0.15)
    assert np.ptp(field) == pytest.approx(record["FieldPeakToPeak"], rel=0.5)
    longer, _ = Breathing().draw(np.random.default_rng(3), np.arange(0, 900, 0.045))
    np.testing.assert_array_equal(longer[: len(times)], field)


def test_people_differ_more_in_breathing_than_their_scans():
    """The field is log-normal: .3 between people and .1 between the scans of one of them."""
    generators = map(np.random.default_rng, range(300))
    people = [Breathing().of_person(rng).field for rng in generators]
    assert np.log(people).mean() == pytest.approx(np.log(0.005), abs=0.06)  # ± .017
    assert np.log(people).std() == pytest.approx(0.3, rel=0.15)  # ± 4 %
    sizes = []
    for seed in range(3):
        images = np.stack([blob(), blob()])
        record = distort_lines(
            *(images, PROTOCOL, AFFINE, np.zeros(3), np.zeros(SHAPE)),
            *(ROUGH.only("breathing"), seed),
            person_seed=7,
        )
        sizes.append(record["breathing"]["FieldPeakToPeak"])
    own = Breathing().of_person(effect_generator(7, "breathing").spawn(1)[0]).field
    assert len(set(sizes)) == 3
    assert np.abs(np.log(np.divide(sizes, own))).max() < 0.4  # four standard deviations


def test_pharynx_has_the_field_of_a_ball_of_air():
    """On the axis its field falls with the cube of the distance, at 60 mm from 8 mL to 2/3 · 9.4
    ppm · (12.4/60)³, 12.4 mm being the ball's radius; across the axis it is minus half of that.
    While it is closed, this is missing.
    """
    swallowing = Swallowing(volume=8.0, ahead=0.0, depth=100.0)
    radius = (3 * 8000 / (4 * np.pi)) ** (1 / 3)
    change = swallowing.change(np.diag([20.0, 20, 20, 1]), (5, 5, 10), np.array([0.0, 0.0, 100.0]))
    heights = 20.0 * np.arange(2, 10)
    np.testing.assert_allclose(change[0, 0, 2:], -2 / 3 * 9.4 * (radius / heights) ** 3, rtol=1e-4)
    assert change[3, 0, 0] == pytest.approx(9.4 / 3 * (radius / 60) ** 3, rel=1e-4)


def test_only_lines_of_swallows_are_of_another_field():
    """Their k-space is that of the head in the other field, all others are as they were; there are
    as many as swallows take time.
    """
    is_closed, record = Swallowing(rate=6.0, duration=0.5).draw(np.random.default_rng(2), TIMES)
    begins = np.array(record["Times"])
    assert len(begins) > 2
    assert np.diff(begins).min() > 0.5
    closed = np.minimum(begins + 0.5, TIMES.max()) - np.maximum(begins, 0)
    n_lines = closed.sum() / PROTOCOL.repetition_time
    assert is_closed.sum() == pytest.approx(n_lines, abs=len(begins))
    image = blob()
    change = np.linspace(-0.05, 0.05, image.size, dtype=np.float32).reshape(SHAPE)
    cycle = 2 * np.pi * 123.25 * 0.03
    kspace = np.fft.fft2(close_pharynx(image, change, is_closed, cycle), axes=(0, 2))
    open_field = np.fft.fft2(image, axes=(0, 2))
    other = np.fft.fft2(image * np.exp(1j * cycle * change), axes=(0, 2))
    wanted = np.where(is_closed[:, None, :], other, open_field)
    np.testing.assert_allclose(kspace, wanted, atol=1e-5 * np.abs(open_field).max())


def test_people_swallow_once_a_minute():
    """Poisson: in ten minutes 9.8 ± 3.1 times, for a person of the median rate."""
    times = np.arange(0, 600, 0.045)
    numbers = []
    for seed in range(100):
        _, record = Swallowing().draw(np.random.default_rng(seed), times)
        numbers.append(len(record["Times"]))
    assert np.mean(numbers) == pytest.approx(9.8, abs=1.0)  # ± .31
    assert np.std(numbers) == pytest.approx(3.1, rel=0.25)
    generators = map(np.random.default_rng, range(200))
    rates = [Swallowing().of_person(rng).rate for rng in generators]
    assert np.median(rates) == pytest.approx(0.98, rel=0.15)


def test_pulse_moves_the_brain_stem():
    """A displacement that does not change is a shift of the image, but the phase of a field at rest
    stays in its place.

    0.3 mm, one tenth of a voxel: the expansion's error is (0.05 π)³/6 in the steepest frequency.
    """
    uniform = np.ones(SHAPE, np.float32)
    shift = slice_displacement(AFFINE, np.full(TIMES.shape, 0.3))
    np.testing.assert_allclose(shift, -0.1)  # voxels of 3 mm, the slices being ordered upwards
    z = AFFINE[2, 2] * np.arange(SHAPE[2]) + AFFINE[2, 3]
    cycle = 2 * np.pi * 123.25 * 0.03
    field = (np.exp(1j * cycle * 0.01 * z)).astype(np.complex64)  # 0.01 ppm per mm
    gradient = np.full(SHAPE, 0.03, np.float32)
    moved = displace(blob(phase=0.0) * field, uniform, shift, gradient, cycle)
    expected = blob(place=(0, 0, -0.3), phase=0.0) * field
    assert np.abs(moved - expected).max() < 1e-3
    assert np.abs(moved - blob(phase=0.0) * field).max() > 0.02
    assert np.abs(np.angle(moved / expected)[np.abs(expected) > 0.1]).max() < 1e-3


def test_beat():
    """In every beat the displacement reaches its size once, at no more than 2 mm/s."""
    times = np.arange(0, 10, 1e-3)
    pulsation = Pulsation(rate_spread=0.0, beat_spread=0.0)
    displacement, record = pulsation.draw(np.random.default_rng(1), times)
    assert displacement.max() == pytest.approx(pulsation.displacement, rel=1e-3)
    greatest = displacement > 0.999 * displacement.max()
    assert np.diff(greatest.astype(int)).clip(0).sum() == round(10 * record["Rate"])
    assert np.gradient(displacement, times).max() == pytest.approx(1.9, rel=0.05)  # mm/s


@pytest.mark.parametrize("rotation", [(0.0, 0.0, 0.0), (5.0, -3.0, 4.0)])
def test_constant_translation_is_a_shift(rotation):
    """A head that lies elsewhere for the whole scan gives the shifted image, also if oblique."""
    turn = Rotation.from_rotvec(rotation, degrees=True).as_matrix()
    affine = scan_affine(SHAPE, VOXEL_SIZE, rotation=turn)
    shift = (1.3, -0.8, 2.1)
    path = Path(np.array([0.0, TIMES.max()]), np.array([shift, shift]), np.zeros((2, 3)))
    ramp = path.ramp(TIMES, affine, SHAPE[1])
    moved = move(blob(affine=affine), path, TIMES, affine, ramp, np.zeros(3))
    np.testing.assert_allclose(moved, blob(shift, affine), atol=1e-5)


def test_rotation_is_that_of_the_object():
    """An object off the pivot is rotated as points are; for ω = 1° places are wrong by ω² r, here
    0.004 mm, and the steepest slope is 0.1 per mm.
    """
    place = np.array([12.0, -9.0, 10.0])
    pivot = np.array([2.0, 1.0, -3.0])
    vector = np.array([0.6, 0.5, 0.62])  # degrees
    turn = Rotation.from_rotvec(vector, degrees=True)
    width = (7.0, 7.0, 7.0)
    image = blob(place, width=width, phase=0.0)
    expected = blob(turn.apply(place - pivot) + pivot, width=width, phase=0.0)
    turned = rotated(image, vector, AFFINE, pivot)
    assert np.abs(turned - expected).max() < 5e-4
    assert np.abs(image - expected).max() > 20 * 5e-4
    still = rotated(image, np.zeros(3), AFFINE, pivot)
    np.testing.assert_allclose(still, image, atol=1e-6)


def test_sudden_movement_mixes_two_images():
    """Lines before the movement are of one place, those after it of the other; no energy is lost by
    translations.
    """
    moment = float(TIMES.max()) * 0.7
    knots = np.array([0.0, moment, moment, TIMES.max()])
    shifts = np.array([[0, 0, 0], [0, 0, 0], [2.0, 0, 0], [2.0, 0, 0]])
    path = Path(knots, shifts, np.zeros((4, 3)))
    moved = move(blob(), path, TIMES, AFFINE, path.ramp(TIMES, AFFINE, SHAPE[1]), np.zeros(3))
    first = np.fft.fftn(blob())
    second = np.fft.fftn(blob((2.0, 0, 0)))
    expected = np.where((moment > TIMES)[:, None, :], first, second)
    np.testing.assert_allclose(np.fft.fftn(moved), expected, atol=1e-3 * np.abs(first).max())
    assert np.linalg.norm(moved) == pytest.approx(np.linalg.norm(blob()), rel=1e-5)


def test_drawn_movements_are_relative_to_the_centre_of_kspace():
    """There the head is in its place; sudden movements are as many as expected, and the drift grows
    with the root of the time.
    """
    motion = Motion(sudden_rate=2.0)
    duration = TIMES.max() / 60
    numbers = []
    ends = []
    for seed in range(400):
        path = motion.draw(np.random.default_rng(seed), TIMES)
        at_centre = path.knots == TIMES[0, 0]
        assert at_centre.sum() == 1
        assert not path.translations[at_centre].any()
        numbers.append((len(path.knots) - 3) / 2)
        still = replace(motion, sudden_rate=0.0).draw(np.random.default_rng(seed), TIMES)
        ends.append(still.rotations[-1, 0])
    expected = np.minimum(np.random.default_rng(0).poisson(2 * duration, 100000), 3).mean()
    assert np.mean(numbers) == pytest.approx(expected, rel=0.1)
    spread = motion.drift_rotation[0] * np.sqrt(duration / 2)
    assert np.std(ends) == pytest.approx(spread, rel=0.1)  # 400 draws: 3.5 %


def test_weights_of_poses_sum_to_one():
    path = Motion(sudden_rate=5.0).draw(np.random.default_rng(2), TIMES)
    weights = path.weights(TIMES)
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_allclose(np.tensordot(path.knots, weights, 1), TIMES, atol=1e-9)


def test_a_slow_rotation_is_followed():
    """From knot to knot of the refined path the scalp moves by at most .15 voxels, and the image is
    that of a path with many more knots: an object at the scalp differs by less than φ²/8, with
    φ = .15 · π for the steepest frequency. Sudden movements stay sudden.
    """
    end = float(TIMES.max())
    knots = np.array([0.0, 0.6 * end, 0.6 * end, end])
    rotations = np.zeros((4, 3))
    rotations[:, 0] = (0.0, 1.0, 0.5, 1.5)  # degrees
    coarse = Path(knots, 0.1 * rotations, rotations)
    path = coarse.refined(min(VOXEL_SIZE))
    assert set(knots) <= set(path.knots)
    gradual = np.diff(path.knots) > 0
    arcs = np.deg2rad(np.diff(path.rotations[:, 0])) * 100
    assert np.abs(arcs[gradual]).max() <= 0.15 * 2.0 * (1 + 1e-9)
    assert (~gradual).sum() == 1
    np.testing.assert_allclose(
        np.tensordot(path.rotations[:, 0], path.weights(TIMES), 1),
        np.tensordot(coarse.rotations[:, 0], coarse.weights(TIMES), 1),
        atol=1e-9,
    )
    image = blob((0.0, 24.0, 24.0), width=(4.0, 4.0, 5.0), phase=0.0)
    pivot = np.array([0.0, -52.0, -42.0])  # 107 mm from the object
    images = []
    for followed in (coarse, path, coarse.refined(min(VOXEL_SIZE) / 6)):
        ramp = followed.ramp(TIMES, AFFINE, SHAPE[1])
        images.append(move(image, followed, TIMES, AFFINE, ramp, pivot))
    errors = [np.linalg.norm(moved - images[2]) for moved in images[:2]]
    assert errors[1] < (0.15 * np.pi) ** 2 / 8 * np.linalg.norm(images[2])
    assert errors[0] > 5 * errors[1]


def test_point_spread_of_partial_fourier():
    """A point's image is the sum of the acquired frequencies: sin(πpx)/(n sin(πx/n)) in size, p of
    n lines, as their centre only adds a phase.
    """
    n = SHAPE[0]
    lines = KSpace(partial_fourier=0.75).sampled(SHAPE)
    assert lines.sum(axis=0).tolist() == [0.75 * n] * SHAPE[2]
    point = np.zeros(SHAPE, np.complex64)
    point[0, 0, 0] = 1
    x = np.arange(1, n)
    expected = np.abs(np.sin(np.pi * 0.75 * x) / (n * np.sin(np.pi * x / n)))
    spread = truncate(point, lines)
    assert abs(spread[0, 0, 0]) == pytest.approx(0.75)
    np.testing.assert_allclose(np.abs(spread[1:, 0, 0]), expected, atol=1e-6)
    assert np.linalg.norm(spread) ** 2 == pytest.approx(0.75, rel=1e-5)


def test_acquired_part_of_kspace():
    """Interpolation leaves out both ends; an ellipse is π/4 of the rectangle."""
    big = (256, 1, 128)
    assert KSpace(phase_resolution=0.875).sampled(big).sum(axis=0)[0] == 224
    assert KSpace(slice_resolution=0.75).sampled(big).sum(axis=1)[0] == 96
    assert KSpace(elliptical=True).sampled(big).mean() == pytest.approx(np.pi / 4, abs=0.005)
    assert KSpace().sampled(big).all()
    both = KSpace(partial_fourier=0.75, phase_resolution=0.5 + 0.25).sampled(big)
    assert both.sum(axis=0)[0] == 0.75 * 192
    with pytest.raises(ValueError, match=r"partial_fourier is 0\.5"):
        KSpace(partial_fourier=0.5).sampled(big)


def test_lines_that_are_left_out_take_no_time():
    lines = KSpace(partial_fourier=0.75, elliptical=True).sampled(SHAPE)
    times = line_times(lines, 0.05)
    np.testing.assert_allclose(np.sort(times[lines]), 0.05 * np.arange(lines.sum()))


def test_switched_off_leaves_the_scan(specimen):
    scan = acquire(specimen, PROTOCOL, seed=4)
    again = acquire(specimen, PROTOCOL, seed=4, effects=ROUGH.without(*ROUGH.amplitudes()))
    assert scan.signal.tobytes() == again.signal.tobytes()
    assert again.effects == {}
    nothing = Effects(
        breathing=Breathing(field=0.0),
        swallowing=Swallowing(volume=0.0),
        pulsation=Pulsation(displacement=0.0),
        motion=Motion((0.0,) * 3, (0.0,) * 3, sudden_rate=0.0),
        truncation=Truncation(siemens=KSpace()),
    )
    still = acquire(specimen, PROTOCOL, seed=4, effects=nothing)
    np.testing.assert_allclose(still.signal, scan.signal, atol=1e-5 * np.abs(scan.signal).max())


@pytest.mark.parametrize("name", KSPACE_EFFECTS)
def test_each_effect_changes_the_scan_by_itself(specimen, name):
    """A few per cent, in any number of threads the same, and by what it draws when alone."""
    scan = acquire(specimen, PROTOCOL, seed=4)
    rough = replace(ROUGH, swallowing=Swallowing(rate=6.0))  # several times in this short scan
    alone = acquire(specimen, PROTOCOL, seed=4, effects=rough.only(name))
    threaded = acquire(specimen, PROTOCOL, seed=4, effects=rough.only(name), workers=3)
    assert alone.signal.tobytes() == threaded.signal.tobytes()
    change = np.abs(alone.signal - scan.signal)[scan.mask].max() / np.abs(scan.signal).max()
    assert 0.002 < change < 0.3
    if name != "truncation":
        others = rough.only(*KSPACE_EFFECTS).without("truncation")
        together = acquire(specimen, PROTOCOL, seed=4, effects=others)
        assert together.effects[name] == alone.effects[name]
        assert effect_generator(4, name).random() == effect_generator(4, name).random()


def test_noise_is_that_of_the_image(specimen):
    """Thermal noise has the stated standard deviation although a part of k-space has none."""
    noisy = replace(PROTOCOL, snr=5.0)
    scan = acquire(specimen, noisy, seed=4, effects=ROUGH.only("truncation"), vendor="ge")
    clean = acquire(specimen, PROTOCOL, seed=4, effects=ROUGH.only("truncation"), vendor="ge")
    noise = scan.signal - clean.signal
    assert noise.real.std() == pytest.approx(scan.noise_sigma, rel=0.02)
    lines = ROUGH.truncation.of("ge").sampled(SHAPE)
    kspace = np.fft.fftn(scan.signal, axes=(0, 2)).swapaxes(1, 2)
    assert np.abs(kspace[~lines]).max() < 1e-5 * np.abs(kspace).max()


def test_shorter_echoes_change_less():
    """The field acts by its phase, 2π f₀ b TE: the change of the image grows with the echo time."""
    images = np.stack([blob(), blob()])
    quiet = ROUGH.only("breathing")
    distort_lines(images, PROTOCOL, AFFINE, np.zeros(3), np.zeros(SHAPE), quiet, 5)
    change = np.linalg.norm((images - blob()).reshape(2, -1), axis=1)
    assert change[1] / change[0] == pytest.approx(3, rel=0.02)


def test_phantoms_do_not_breathe():
    """A phantom has the vendor's k-space only."""
    design = make_design("phantom", runs=1, sites=["C"], voxel_size=(6, 6, 6), effects=ROUGH)
    scan = simulate(design.plans[0])
    assert not {"breathing", "swallowing", "pulsation", "motion"} & set(scan.effects)
    assert scan.effects["truncation"]["PhaseResolution"] == 0.875
    ideal = simulate(replace(design.plans[0], effects=IDEAL))
    assert scan.signal.tobytes() != ideal.signal.tobytes()
