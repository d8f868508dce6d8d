"""The mask holds the brain and nothing else, whatever the voxels, and the volume's faces are no
border.
"""

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import centred_coordinates
from scipy import ndimage

from multiqsm.core.mask.brain import brain_mask
from multiqsm.core.mask.phantom import phantom_mask
from multiqsm.core.mask.reliability import exclude_unresolved, trim_unreliable
from multiqsm.core.mask.roughness import phase_roughness
from multiqsm.core.mask.shapes import EmptyMaskError, erode, largest_component
from multiqsm.core.phase.encoding import wrap_phase

VOXEL_SIZES = [(2.0, 2.0, 2.0), (1.5, 1.5, 3.0)]
FIELD_OF_VIEW = (150.0, 180.0, 150.0)
TIMES = np.array([0.005, 0.010, 0.015])


def ball(grid, centre, radii):
    return (
        sum(
            ((g - c) / r) ** 2
            for g, c, r in zip(grid, centre, np.broadcast_to(radii, 3), strict=True)
        )
        < 1
    )


def simulate_head(voxel_size, seed=0):
    """Brain with ventricle, dark nucleus and vein; skull without signal; scalp with fat's phase;
    eyes and muscle.
    """
    grid = centred_coordinates(
        [round(f / v) for f, v in zip(FIELD_OF_VIEW, voxel_size, strict=True)], voxel_size
    )
    brain = ball(grid, (0, -5, 0), (52, 65, 50))
    skull = ball(grid, (0, -5, 0), (59, 72, 57)) & ~brain
    scalp = ball(grid, (0, -5, 0), (66, 79, 64)) & ~brain & ~skull
    # Eyes and a muscle lie against the brain with no skull between, the hard case.
    parts = {
        "eye": ball(grid, (25, 66, -10), 11) & ~brain,
        "muscle": ball(grid, (-58, 10, -10), (7, 22, 22)) & ~brain,
        "ventricle": ball(grid, (8, 0, 8), (5, 18, 8)),
        "nucleus": ball(grid, (-18, 5, 0), (5, 9, 7)),
    }
    amplitude = brain * 1.0 + scalp * 1.2
    amplitude[parts["ventricle"]] = 0.7
    amplitude[parts["nucleus"]] = 0.3
    amplitude[parts["eye"]] = 0.6
    amplitude[parts["muscle"]] = 0.5
    amplitude *= 1 + 0.3 * grid[1] / 90  # receive coils
    field = 20 * np.sin(grid[0] / 30) + 10 * grid[2] / 50 + 60.0 * parts["nucleus"]
    field[scalp] += 430  # fat at 3 T
    signal = amplitude[..., None] * np.exp(
        2j * np.pi * field[..., None] * TIMES + 1j * (grid[1] / 40)[..., None]
    )
    rng = np.random.default_rng(seed)
    signal += 0.02 * (rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape))
    return np.abs(signal).astype(np.float32), np.angle(signal).astype(np.float32), brain, parts


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def load(shared, subject):
    """Magnitude and phase of all echoes of a real scan, and its voxel size."""
    folder = shared / "data" / "real_bids" / subject / "anat"
    magnitude, phase = (
        [nib.load(f) for f in sorted(folder.glob(f"*part-{p}_MEGRE.nii.gz"))]
        for p in ("mag", "phase")
    )
    stack = (
        np.stack([image.get_fdata(dtype=np.float32) for image in echoes], axis=-1)
        for echoes in (magnitude, phase)
    )
    return *stack, tuple(float(size) for size in magnitude[0].header.get_zooms()[:3])


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
@pytest.mark.parametrize("n_echoes", [3, 1])
def test_brain_in_and_the_rest_out(voxel_size, n_echoes):
    magnitude, phase, brain, parts = simulate_head(voxel_size)
    mask = brain_mask(magnitude[..., :n_echoes], phase[..., :n_echoes], voxel_size)
    assert mask.dtype == bool
    # One voxel of the surface is worth about 4 % of this brain.
    assert dice(mask, brain) > 0.96
    # All of the dark structures, and of the others no more than the rim of 3 mm where they touch
    # the brain.
    for name in ("ventricle", "nucleus"):
        assert mask[parts[name]].all(), name
    beyond_rim = ndimage.distance_transform_edt(~brain, sampling=voxel_size) > 5.0
    for name in ("eye", "muscle"):
        assert not mask[parts[name] & beyond_rim].any(), name


def test_slabs_are_masked_as_the_whole_head_is():
    magnitude, phase, brain, _ = simulate_head((2.0, 2.0, 2.0))
    slab = slice(30, 46)  # 32 mm, which cuts the brain at both ends and every structure in it
    mask = brain_mask(magnitude[:, :, slab], phase[:, :, slab], (2.0, 2.0, 2.0))
    assert dice(mask, brain[:, :, slab]) > 0.96
    assert mask[:, :, 0].any()
    assert mask[:, :, -1].any()


def test_a_crop_inside_the_brain_is_kept_whole():
    magnitude, phase, brain, _ = simulate_head((2.0, 2.0, 2.0))
    crop = np.s_[20:50, 30:48, 27:48]  # one face cuts the dark nucleus
    assert brain[crop].all()
    assert brain_mask(magnitude[crop], phase[crop], (2.0, 2.0, 2.0)).all()


def test_units_of_magnitude_do_not_matter():
    magnitude, phase, _, _ = simulate_head((3.0, 3.0, 3.0))
    expected = brain_mask(magnitude, phase, (3.0, 3.0, 3.0))
    np.testing.assert_array_equal(brain_mask(magnitude * 2**20, phase, (3.0, 3.0, 3.0)), expected)


def test_nothing_deep_enough_is_an_error_with_figures():
    magnitude, phase, _, _ = simulate_head((3.0, 3.0, 3.0))
    with pytest.raises(EmptyMaskError, match=r"Otsu's threshold.*deeper than 80 mm.*derivatives"):
        brain_mask(magnitude, phase, (3.0, 3.0, 3.0), opening=80.0)


def test_noise_alone_is_an_error():
    rng = np.random.default_rng(0)
    shape = (30, 30, 30, 2)
    with pytest.raises(EmptyMaskError):
        brain_mask(rng.rayleigh(size=shape), rng.uniform(-np.pi, np.pi, shape), (2.0, 2.0, 2.0))


def test_no_signal_is_an_error():
    with pytest.raises(EmptyMaskError, match="0 have signal"):
        brain_mask(np.zeros((9, 9, 9, 2)), np.zeros((9, 9, 9, 2)), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    magnitude = np.ones((9, 9, 9, 2))
    magnitude[4, 4, 4] = value
    with pytest.raises(ValueError, match="finite"):
        brain_mask(magnitude, np.zeros((9, 9, 9, 2)), (1.0, 1.0, 1.0))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="n_echoes"):
        brain_mask(np.ones((9, 9, 9, 2)), np.ones((9, 9, 9, 3)), (1.0, 1.0, 1.0))


def test_roughness_of_noise_and_of_wraps():
    everywhere = np.ones((40, 41, 42), bool)
    noise = np.random.default_rng(0).uniform(-np.pi, np.pi, (*everywhere.shape, 1))
    rough = phase_roughness(noise, everywhere, (1.0, 1.0, 1.0))
    # The second difference of uniform phase is uniform in ±π after wrapping; averaging leaves a few
    # percent of spread.
    assert np.median(rough) == pytest.approx(np.pi / np.sqrt(3), rel=0.02)
    ramp = wrap_phase(2.5 * np.arange(40.0)[:, None, None, None] * np.ones((1, 41, 42, 1)))
    assert phase_roughness(ramp, everywhere, (1.0, 1.0, 1.0)).max() < 1e-4
    # Echoes with the same rough coil phase: the change between them is smooth.
    coils = np.repeat(noise, 2, axis=3)
    assert phase_roughness(coils, everywhere, (1.0, 1.0, 1.0)).max() < 1e-4


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (0.7, 1.0, 2.5)])
def test_erosion_is_in_mm(voxel_size):
    grid = centred_coordinates((61, 51, 33), voxel_size)
    radius = 14.0
    mask = ball(grid, (0, 0, 0), radius)
    eroded = erode(mask, voxel_size, 5.0)
    distance = np.sqrt(sum(g**2 for g in grid))
    # The surface lies up to one voxel's diagonal off its nominal place.
    tolerance = np.linalg.norm(voxel_size)
    assert eroded[distance < radius - 5.0 - tolerance].all()
    assert not eroded[distance > radius - 5.0 + tolerance].any()
    assert not (eroded & ~mask).any()
    np.testing.assert_array_equal(erode(mask, voxel_size, 0.0), mask)


def test_erosion_by_whole_voxels_takes_them():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 2:7, 2:7] = True
    expected = np.zeros_like(mask)
    expected[3:6, 3:6, 3:6] = True
    np.testing.assert_array_equal(erode(mask, np.float32([0.1, 0.1, 0.1]), 0.1), expected)


def test_the_volumes_faces_are_not_eroded():
    assert erode(np.ones((5, 6, 7), bool), (1.0, 1.0, 1.0), 3.0).all()
    mask = np.ones((5, 6, 7), bool)
    mask[0] = False
    kept = np.zeros_like(mask)
    kept[3:] = True
    np.testing.assert_array_equal(erode(mask, (1.0, 1.0, 1.0), 2.0), kept)


def test_largest_component():
    mask = np.zeros((9, 9, 9), bool)
    mask[:3] = True
    mask[5:7, 5, 5] = True
    np.testing.assert_array_equal(largest_component(mask), mask & (np.arange(9) < 4)[:, None, None])
    assert not largest_component(np.zeros((3, 3, 3), bool)).any()


@pytest.fixture
def cube():
    mask = np.zeros((24, 24, 24), bool)
    mask[2:22, 2:22, 2:22] = True
    return mask, np.random.default_rng(0).uniform(0.8, 1.2, mask.shape)


def test_trimming_takes_noise_off_the_surface_only(cube):
    mask, error = cube
    drop_out, nucleus, inside = (
        np.s_[2:6, 2:9, 2:9],
        np.s_[10:13, 10:13, 10:13],
        np.s_[15:17, 15:17, 15:17],
    )
    sinus = np.s_[20:22, 10:12, 4:20]
    error[drop_out], error[inside] = 30.0, np.nan
    error[nucleus], error[sinus] = 3.0, 4.0
    expected = mask.copy()
    expected[drop_out] = False
    np.testing.assert_array_equal(trim_unreliable(mask, error), expected)
    assert trim_unreliable(mask, error).sum() > trim_unreliable(mask, error, factor=3.0).sum()


def test_trimming_keeps_the_largest_component(cube):
    mask, error = cube
    error[15] = 100.0
    trimmed = trim_unreliable(mask, error)
    assert trimmed[2:15, 2:22, 2:22].all()
    assert not trimmed[15:].any()


def test_trimming_of_nothing_is_an_error(cube):
    mask, error = cube
    with pytest.raises(EmptyMaskError, match="0 voxels"):
        trim_unreliable(np.zeros_like(mask), error)
    with pytest.raises(EmptyMaskError, match="Raise the factor"):
        trim_unreliable(mask, error, factor=0.1)


def test_exclusion_takes_what_only_unresolved_voxels_connect(cube):
    # A plate inside leaves a hole; one across cuts a corner off; a second component stays what it
    # is.
    mask, _ = cube
    mask[23, 23] = True
    unresolved = np.zeros_like(mask)
    unresolved[10:12, 8:14, 8:14] = True
    unresolved[18, 18:, :] = unresolved[18:, 18, :] = True
    expected = mask & ~unresolved
    expected[19:22, 19:22, 2:22] = False
    np.testing.assert_array_equal(exclude_unresolved(mask, unresolved), expected)
    with pytest.raises(EmptyMaskError, match="unresolved"):
        exclude_unresolved(mask, np.ones_like(mask))


def test_real_head(shared):
    magnitude, phase, voxel_size = load(shared, "sub-philips3T")
    mask = brain_mask(magnitude, phase, voxel_size)
    # An adult's brain with its CSF; with eyes, muscle or scalp it would be 2 L and more.
    assert 1.3 < mask.sum() * np.prod(voxel_size) / 1e6 < 1.7
    # Places seen on the scan: cerebrum, cerebellum, thalamus; eyes, neck and nose.
    assert mask[40, 40, 40]
    assert mask[36, 26, 12]
    assert mask[38, 38, 28]
    for eye in ((28, 61, 18), (52, 61, 18)):
        assert not mask[eye]
    assert not mask[:, :12, :4].any()
    assert not mask[:, 66:, :20].any()


@pytest.mark.parametrize("radius", [5, 8, 11])
def test_a_haemorrhage_in_a_real_head_stays_in(shared, radius):
    """What it dephases lies 22 mm below the surface, less than twice what opening takes."""
    magnitude, phase, voxel_size = load(shared, "sub-philips3T")
    whole = brain_mask(magnitude, phase, voxel_size)
    places = np.indices(whole.shape) * np.reshape(voxel_size, (3, 1, 1, 1))
    depth = ndimage.distance_transform_edt(whole, sampling=voxel_size)
    centre = np.argwhere((depth > 21) & (depth < 24))[0] * voxel_size
    ball = ((places - centre[:, None, None, None]) ** 2).sum(0) < radius**2
    rng = np.random.default_rng(radius)
    phase = np.where(ball[..., None], rng.uniform(-np.pi, np.pi, phase.shape), phase)
    magnitude = np.where(ball[..., None], 0.05 * magnitude, magnitude)
    mask = brain_mask(magnitude, phase, voxel_size)
    assert mask[ball].all()
    assert np.count_nonzero(mask ^ whole) < 0.005 * np.count_nonzero(whole)


@pytest.mark.parametrize("echo", [slice(None), slice(0, 1), slice(2, 3)])
def test_real_crop_is_brain_all_over(shared, echo):
    magnitude, phase, voxel_size = load(shared, "sub-crop7T")
    assert brain_mask(magnitude[..., echo], phase[..., echo], voxel_size).mean() > 0.98


def ringing(signal):
    """The image of k-space cut off at 80 %: what is sharp rings."""
    for axis in (0, 1):
        kept = np.abs(np.fft.fftfreq(signal.shape[axis])) < 0.4
        spectrum = np.fft.fft(signal, axis=axis) * np.expand_dims(
            kept, [a for a in range(4) if a != axis]
        )
        signal = np.fft.ifft(spectrum, axis=axis)
    return signal


def ghosted(share, *shifts):
    """Copies of the signal, shifted along the second axis and turned in phase, as of motion or
    Nyquist ghosts.
    """
    return lambda signal: (
        signal + sum(share * np.exp(1j * n) * np.roll(signal, n, axis=1) for n in shifts)
    )


def scan_phantom(
    amplitude, grid, *, times=TIMES, noise=0.01, artefact=lambda signal: signal, jump=0.0
):
    """Magnitude and phase of a phantom in a field that varies slowly, with ``jump`` (Hz) in some
    part of it.
    """
    field = 12 * np.sin(grid[0] / 40) + grid[1] / 8 - grid[2] / 10 + jump
    phase = 2 * np.pi * field[..., None] * times + 0.5 + (grid[1] / 90)[..., None]
    signal = artefact(amplitude[..., None] * np.exp(1j * phase))
    random = np.random.default_rng(0)
    signal = signal + noise * (
        random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape)
    )
    return np.abs(signal).astype(np.float32), np.angle(signal).astype(np.float32)


def assert_is(mask, body, voxel_size):
    """No voxel is further than one voxel from the body, and none is missing that is deeper than
    two.
    """
    widest = max(voxel_size)
    assert not (
        mask & (ndimage.distance_transform_edt(~body, sampling=voxel_size) > 1.01 * widest)
    ).any()
    inside = np.pad(body, 1, mode="edge")  # faces are no border
    depth = (
        ndimage.distance_transform_edt(inside, sampling=voxel_size)[1:-1, 1:-1, 1:-1]
        if not body.all()
        else np.inf
    )
    assert mask[body & (depth > 2.01 * widest)].all()


CUBE, FLAT, LONG = (
    ((46, 46, 40), (3, 3, 3)),
    ((58, 58, 10), (2.2, 2.2, 3)),
    ((46, 30, 40), (3, 3, 3)),
)


@pytest.mark.parametrize("n_echoes", [3, 1])
@pytest.mark.parametrize(
    ("volume", "artefact"),
    [
        (CUBE, ringing),
        (CUBE, ghosted(0.1, 23)),  # half the field of view: beside the ball and over it
        (LONG, ghosted(0.1, 15)),  # more of it over the ball
        (CUBE, ghosted(0.06, -7, 7, -12, 12)),
        (FLAT, ghosted(0.08, 29)),
        (((90, 90, 20), (1.5, 1.5, 6)), ringing),
    ],
)
def test_halo_and_ghosts_of_a_phantom_stay_out(volume, artefact, n_echoes):
    shape, voxel_size = volume
    grid = centred_coordinates(shape, voxel_size)
    body = ball(grid, (0, 0, 0), 42)
    magnitude, phase = scan_phantom(
        body, grid, times=TIMES[:n_echoes], noise=0.003, artefact=artefact
    )
    assert_is(phantom_mask(magnitude, phase, voxel_size), body, voxel_size)


@pytest.mark.parametrize("tube", [1.0, 0.3, 0.1, 10.0])
def test_tubes_that_leave_the_water_stay_in(tube):
    # Between tube and water is a wall without signal, from end to end.
    shape, voxel_size = (50, 50, 60), (2.5, 2.5, 2.5)
    grid = centred_coordinates(shape, voxel_size)
    water = (np.hypot(grid[0], grid[1]) < 50) & (np.abs(grid[2]) < 50)
    across = np.hypot(grid[0] - 20, grid[1])
    inside = water | ((across < 11) & (np.abs(grid[2]) < 62))
    amplitude = np.where(across < 14, 0.0, 1.0 * water)
    amplitude[inside & (across < 11)] = tube
    magnitude, phase = scan_phantom(amplitude, grid, jump=20.0 * (across < 11))
    mask = phantom_mask(magnitude, phase, voxel_size)
    assert mask[water & (np.abs(grid[2]) < 45) & (across < 14)].all()  # wall and all
    assert_is(mask & water, water, voxel_size)
    assert not mask[~inside & (across > 16) & (np.abs(grid[2]) > 55)].any()


@pytest.mark.parametrize("content", [0.3, 0.05, 0.0])
def test_what_a_phantom_encloses_stays_in(content):
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 50)
    amplitude = np.where(ball(grid, (10, 5, 0), 16), content, 1.0 * body)
    assert_is(phantom_mask(*scan_phantom(amplitude, grid), CUBE[1]), body, CUBE[1])


@pytest.mark.parametrize("bath", [0.5, 0.1])
def test_a_bath_that_is_dimmer_than_what_stands_in_it_stays_in(bath):
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 56)
    amplitude = np.where(ball(grid, (0, 0, 0), 28), 1.0, bath * body)
    assert_is(phantom_mask(*scan_phantom(amplitude, grid, noise=0.004), CUBE[1]), body, CUBE[1])


@pytest.mark.parametrize("n_echoes", [3, 1])
def test_a_surface_coil_does_not_hide_the_far_side(n_echoes):
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 45)
    amplitude = body * np.exp(-(grid[1] + 45) / 30)  # a twentieth is left at the far side
    magnitude, phase = scan_phantom(
        amplitude, grid, times=TIMES[:n_echoes], noise=0.003, artefact=ringing
    )
    assert_is(phantom_mask(magnitude, phase, CUBE[1]), body, CUBE[1])


@pytest.mark.parametrize("noise", [0.1, 0.25])
def test_phantom_in_noise(noise):
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 45)
    found = phantom_mask(*scan_phantom(body, grid, noise=noise), CUBE[1])
    assert dice(found, body) > 0.97  # a layer of voxels at the surface is 18 % of them
    assert not (found & (ndimage.distance_transform_edt(~body, sampling=CUBE[1]) > 6)).any()


def test_phantom_that_reaches_the_faces_and_air_that_is_blanked():
    grid = centred_coordinates(*CUBE)
    cylinder, crop = np.hypot(grid[0], grid[1]) < 48, np.ones(CUBE[0], bool)
    for body in (cylinder, crop):
        magnitude, phase = scan_phantom(
            body, grid, artefact=ghosted(0.08, 23) if body is cylinder else ringing
        )
        assert_is(phantom_mask(magnitude, phase, CUBE[1]), body, CUBE[1])
    body = ball(grid, (0, 0, 0), 40)
    magnitude, phase = scan_phantom(body, grid)
    magnitude[~body], phase[~body] = 0, 0
    assert_is(phantom_mask(magnitude, phase, CUBE[1]), body, CUBE[1])


def test_air_that_a_phantom_does_not_close_in_stays_out():
    grid = centred_coordinates(*CUBE)
    water = (np.hypot(grid[0], grid[1]) < 56) & (np.abs(grid[2]) < 45)
    bore = water & ~(np.hypot(grid[0], grid[1]) < 20)
    under_bubble = ball(grid, (0, 0, 0), 50) & (grid[1] < 30)
    for body in (bore, under_bubble):
        assert_is(phantom_mask(*scan_phantom(body, grid), CUBE[1]), body, CUBE[1])


@pytest.mark.parametrize("echoes", [slice(None), slice(0, 1), slice(2, 4)])
def test_real_phantom_without_its_halo(shared, echoes):
    folder = shared / "data" / "sphere_3T" / "sub-phantomsphere" / "anat"
    images = {
        part: [nib.load(f) for f in sorted(folder.glob(f"*part-{part}_MEGRE.nii.gz"))]
        for part in ("mag", "phase")
    }
    magnitude, stored = (
        np.stack([np.asanyarray(i.dataobj, np.float32) for i in images[p]], -1) for p in images
    )
    voxel_size = tuple(float(size) for size in images["mag"][0].header.get_zooms()[:3])
    magnitude, phase = magnitude[..., echoes], (stored * (2 * np.pi / 4096) - np.pi)[..., echoes]
    combined = np.linalg.norm(magnitude, axis=3)
    water = largest_component(
        combined > 0.5 * np.median(combined[combined > 0.5 * np.percentile(combined, 99)])
    )
    mask = phantom_mask(magnitude, phase, voxel_size)
    assert dice(mask, water) > 0.98
    # a voxel's diagonal
    beyond = mask & (ndimage.distance_transform_edt(~water, sampling=voxel_size) > 3.1)
    assert np.count_nonzero(beyond) < 5  # the halo has 1600 voxels


def test_phantom_of_very_different_signals():
    # Dim water and a tube ten times as bright, of so high a susceptibility that phase jumps by 3
    # rad at its wall. Otsu's threshold would find the tube alone.
    voxel_size, shape = (1.5, 1.5, 2), (63, 62, 41)
    x, y, z = centred_coordinates(shape, voxel_size)
    body = (x**2 + y**2 < 40**2) & (np.abs(z) < 36)
    tube = (x - 16) ** 2 + y**2 < 7**2
    rng = np.random.default_rng(0)
    phase = (0.02 * x + 3.0 * tube)[..., None] * np.array([1, 2, 3])
    signal = (body * np.where(tube, 100.0, 10.0))[..., None] * np.exp(1j * phase)
    signal = signal + rng.normal(0, 0.5, signal.shape) + 1j * rng.normal(0, 0.5, signal.shape)
    found = phantom_mask(np.abs(signal), np.angle(signal), voxel_size)
    assert found[tube & (np.abs(z) < 32)].all()
    assert_is(found, body, voxel_size)
    noise = rng.normal(size=(*shape, 6)).view(complex)
    with pytest.raises(EmptyMaskError, match="No phantom"):
        phantom_mask(np.abs(noise), np.angle(noise), voxel_size)
