"""The mask is the brain or the phantom, for all voxel sizes, up to the faces of the volume."""

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
    x, y, z = grid
    centre_x, centre_y, centre_z = centre
    radius_x, radius_y, radius_z = np.broadcast_to(radii, 3)
    distance_x = (x - centre_x) / radius_x
    distance_y = (y - centre_y) / radius_y
    distance_z = (z - centre_z) / radius_z
    return distance_x**2 + distance_y**2 + distance_z**2 < 1


def simulate_head(voxel_size, seed=0):
    """Return magnitude, phase, brain mask and masks of structures of a head.

    The brain has a ventricle and a dark nucleus. The skull has no signal, the scalp has the
    chemical shift of fat, and there are an eye and a muscle.
    """
    shape = np.rint(np.divide(FIELD_OF_VIEW, voxel_size)).astype(int)
    grid = centred_coordinates(shape.tolist(), voxel_size)
    brain = ball(grid, (0, -5, 0), (52, 65, 50))
    skull = ball(grid, (0, -5, 0), (59, 72, 57)) & ~brain
    scalp = ball(grid, (0, -5, 0), (66, 79, 64)) & ~brain & ~skull
    # The difficult case: eye and muscle touch the brain, without skull in between.
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
    phase = 2 * np.pi * field[..., None] * TIMES + (grid[1] / 40)[..., None]
    signal = amplitude[..., None] * np.exp(1j * phase)
    rng = np.random.default_rng(seed)
    signal += 0.02 * (rng.normal(size=signal.shape) + 1j * rng.normal(size=signal.shape))
    return np.abs(signal).astype(np.float32), np.angle(signal).astype(np.float32), brain, parts


def dice(mask_a, mask_b):
    in_both = np.count_nonzero(mask_a & mask_b)
    return 2 * in_both / (np.count_nonzero(mask_a) + np.count_nonzero(mask_b))


def load(folder):
    """Return magnitude and phase of all echoes of a scan, and its voxel size."""
    magnitude, _ = load_echoes(folder, "mag")
    phase, voxel_size = load_echoes(folder, "phase")
    return magnitude, phase, voxel_size


def load_echoes(folder, part):
    images = list(map(nib.load, sorted(folder.glob(f"*part-{part}_MEGRE.nii.gz"))))
    echoes = np.stack([image.get_fdata(dtype=np.float32) for image in images], axis=-1)
    return echoes, tuple(map(float, images[0].header.get_zooms()[:3]))


def real_scan(shared, subject):
    return load(shared / "data" / "real_bids" / subject / "anat")


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
@pytest.mark.parametrize("n_echoes", [3, 1])
def test_brain_is_in_the_mask_and_the_rest_is_not(voxel_size, n_echoes):
    magnitude, phase, brain, parts = simulate_head(voxel_size)
    mask = brain_mask(magnitude[..., :n_echoes], phase[..., :n_echoes], voxel_size)
    assert mask.dtype == bool
    # A layer of voxels at the surface is about 4 % of this brain.
    assert dice(mask, brain) > 0.96
    # The mask contains all of the dark structures, and of the others at most a rim where they touch
    # the brain.
    for name in ("ventricle", "nucleus"):
        assert mask[parts[name]].all(), name
    beyond_rim = ndimage.distance_transform_edt(~brain, sampling=voxel_size) > 5.0
    for name in ("eye", "muscle"):
        assert not mask[parts[name] & beyond_rim].any(), name


def test_brain_mask_of_a_slab():
    magnitude, phase, brain, _ = simulate_head((2.0, 2.0, 2.0))
    slab = slice(30, 46)  # 32 mm, which cuts the brain and every structure in it at both ends
    mask = brain_mask(magnitude[:, :, slab], phase[:, :, slab], (2.0, 2.0, 2.0))
    assert dice(mask, brain[:, :, slab]) > 0.96
    assert mask[:, :, 0].any()
    assert mask[:, :, -1].any()


def test_a_crop_inside_the_brain_is_all_brain():
    magnitude, phase, brain, _ = simulate_head((2.0, 2.0, 2.0))
    crop = np.s_[20:50, 30:48, 27:48]  # one face cuts the dark nucleus
    assert brain[crop].all()
    assert brain_mask(magnitude[crop], phase[crop], (2.0, 2.0, 2.0)).all()


def test_units_of_magnitude_do_not_matter():
    magnitude, phase, _, _ = simulate_head((3.0, 3.0, 3.0))
    expected = brain_mask(magnitude, phase, (3.0, 3.0, 3.0))
    np.testing.assert_array_equal(brain_mask(magnitude * 2**20, phase, (3.0, 3.0, 3.0)), expected)


def test_no_voxel_deep_enough_is_an_error_with_figures():
    magnitude, phase, _, _ = simulate_head((3.0, 3.0, 3.0))
    with pytest.raises(EmptyMaskError, match=r"Otsu's threshold.*deeper than 80 mm.*derivatives"):
        brain_mask(magnitude, phase, (3.0, 3.0, 3.0), opening=80.0)


def test_noise_only_is_an_error():
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
    distance = np.linalg.norm(grid, axis=0)
    # The surface of a mask deviates from the ball's by up to a voxel's diagonal.
    tolerance = np.linalg.norm(voxel_size)
    assert eroded[distance < radius - 5.0 - tolerance].all()
    assert not eroded[distance > radius - 5.0 + tolerance].any()
    assert not (eroded & ~mask).any()
    np.testing.assert_array_equal(erode(mask, voxel_size, 0.0), mask)


def test_erosion_by_one_voxel_removes_one_layer():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 2:7, 2:7] = True
    expected = np.zeros_like(mask)
    expected[3:6, 3:6, 3:6] = True
    np.testing.assert_array_equal(erode(mask, np.float32([0.1, 0.1, 0.1]), 0.1), expected)


def test_faces_of_the_volume_are_not_eroded():
    assert erode(np.ones((5, 6, 7), bool), (1.0, 1.0, 1.0), 3.0).all()
    mask = np.ones((5, 6, 7), bool)
    mask[0] = False
    expected = np.zeros_like(mask)
    expected[3:] = True
    np.testing.assert_array_equal(erode(mask, (1.0, 1.0, 1.0), 2.0), expected)


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


def test_trimming_removes_noise_at_the_surface_only(cube):
    mask, error = cube
    drop_out = np.s_[2:6, 2:9, 2:9]
    nucleus = np.s_[10:13, 10:13, 10:13]
    hole = np.s_[15:17, 15:17, 15:17]
    sinus = np.s_[20:22, 10:12, 4:20]
    error[drop_out] = 30.0
    error[hole] = np.nan
    error[nucleus] = 3.0
    error[sinus] = 4.0
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


def test_trimming_that_removes_all_voxels_is_an_error(cube):
    mask, error = cube
    with pytest.raises(EmptyMaskError, match="0 voxels"):
        trim_unreliable(np.zeros_like(mask), error)
    with pytest.raises(EmptyMaskError, match="Raise the factor"):
        trim_unreliable(mask, error, factor=0.1)


def test_excluding_unresolved_voxels(cube):
    """An unresolved plate inside is excluded, and so is a corner that only such a plate connects.

    A second component does not change.
    """
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
    magnitude, phase, voxel_size = real_scan(shared, "sub-philips3T")
    mask = brain_mask(magnitude, phase, voxel_size)
    # The volume of an adult's brain with CSF; with eyes, muscle or scalp it would exceed 2 L.
    assert 1.3 < mask.sum() * np.prod(voxel_size) / 1e6 < 1.7
    # Positions on the scan: cerebrum, cerebellum and thalamus; eyes, neck and nose.
    assert mask[40, 40, 40]
    assert mask[36, 26, 12]
    assert mask[38, 38, 28]
    for eye in ((28, 61, 18), (52, 61, 18)):
        assert not mask[eye]
    assert not mask[:, :12, :4].any()
    assert not mask[:, 66:, :20].any()


@pytest.mark.parametrize("radius", [5, 8, 11])
def test_a_haemorrhage_in_a_real_head_is_in_the_mask(shared, radius):
    """It dephases a ball 22 mm below the surface, less than twice the width of the opening."""
    magnitude, phase, voxel_size = real_scan(shared, "sub-philips3T")
    whole = brain_mask(magnitude, phase, voxel_size)
    points = np.indices(whole.shape) * np.reshape(voxel_size, (3, 1, 1, 1))
    depth = ndimage.distance_transform_edt(whole, sampling=voxel_size)
    centre = np.argwhere((depth > 21) & (depth < 24))[0] * voxel_size
    lesion = ((points - centre[:, None, None, None]) ** 2).sum(0) < radius**2
    rng = np.random.default_rng(radius)
    phase = np.where(lesion[..., None], rng.uniform(-np.pi, np.pi, phase.shape), phase)
    magnitude = np.where(lesion[..., None], 0.05 * magnitude, magnitude)
    mask = brain_mask(magnitude, phase, voxel_size)
    assert mask[lesion].all()
    assert np.count_nonzero(mask ^ whole) < 0.005 * np.count_nonzero(whole)


@pytest.mark.parametrize("echo", [slice(None), slice(0, 1), slice(2, 3)])
def test_real_crop_is_all_brain(shared, echo):
    magnitude, phase, voxel_size = real_scan(shared, "sub-crop7T")
    assert brain_mask(magnitude[..., echo], phase[..., echo], voxel_size).mean() > 0.98


def ringing(signal):
    """Return the signal after k-space was truncated to 80 % along two axes."""
    size_x, size_y = signal.shape[:2]
    sampled_x = np.abs(np.fft.fftfreq(size_x)) < 0.4
    sampled_y = np.abs(np.fft.fftfreq(size_y)) < 0.4
    sampled = sampled_x[:, None, None, None] & sampled_y[None, :, None, None]
    spectrum = np.fft.fft2(signal, axes=(0, 1))
    return np.fft.ifft2(spectrum * sampled, axes=(0, 1))


def ghosts(fraction, *shifts):
    """Return a function that adds ghosts to a signal, as caused by motion or at half the field.

    They are copies, shifted along the second axis and with another phase.
    """

    def add_ghosts(signal):
        ghosted = signal.copy()
        for shift in shifts:
            ghosted += fraction * np.exp(1j * shift) * np.roll(signal, shift, axis=1)
        return ghosted

    return add_ghosts


def scan_phantom(
    amplitude, grid, *, times=TIMES, noise=0.01, artefact=lambda signal: signal, jump=0.0
):
    """Return magnitude and phase of a phantom in a smooth field, plus ``jump`` (Hz)."""
    field = 12 * np.sin(grid[0] / 40) + grid[1] / 8 - grid[2] / 10 + jump
    phase = 2 * np.pi * field[..., None] * times + 0.5 + (grid[1] / 90)[..., None]
    signal = artefact(amplitude[..., None] * np.exp(1j * phase))
    random = np.random.default_rng(0)
    signal = signal + noise * (
        random.normal(size=signal.shape) + 1j * random.normal(size=signal.shape)
    )
    return np.abs(signal).astype(np.float32), np.angle(signal).astype(np.float32)


def assert_masks_body(mask, body, voxel_size):
    """Assert that the mask extends at most one voxel beyond the body.

    It must also contain all of the body's voxels that are deeper than two voxels.
    """
    widest = max(voxel_size)
    outside = ndimage.distance_transform_edt(~body, sampling=voxel_size)
    assert not mask[outside > 1.01 * widest].any()
    if body.all():
        assert mask.all()
        return
    padded = np.pad(body, 1, mode="edge")  # faces of the volume are not borders
    depth = ndimage.distance_transform_edt(padded, sampling=voxel_size)[1:-1, 1:-1, 1:-1]
    assert mask[depth > 2.01 * widest].all()


CUBE = ((46, 46, 40), (3, 3, 3))
FLAT = ((58, 58, 10), (2.2, 2.2, 3))
LONG = ((46, 30, 40), (3, 3, 3))


@pytest.mark.parametrize("n_echoes", [3, 1])
@pytest.mark.parametrize(
    ("volume", "artefact"),
    [
        (CUBE, ringing),
        (CUBE, ghosts(0.1, 23)),  # by half the field of view, which overlaps the ball
        (LONG, ghosts(0.1, 15)),  # with more overlap
        (CUBE, ghosts(0.06, -7, 7, -12, 12)),
        (FLAT, ghosts(0.08, 29)),
        (((90, 90, 20), (1.5, 1.5, 6)), ringing),
    ],
)
def test_halo_and_ghosts_of_a_phantom_are_outside(volume, artefact, n_echoes):
    shape, voxel_size = volume
    grid = centred_coordinates(shape, voxel_size)
    body = ball(grid, (0, 0, 0), 42)
    magnitude, phase = scan_phantom(
        body, grid, times=TIMES[:n_echoes], noise=0.003, artefact=artefact
    )
    assert_masks_body(phantom_mask(magnitude, phase, voxel_size), body, voxel_size)


@pytest.mark.parametrize("tube", [1.0, 0.3, 0.1, 10.0])
def test_tubes_that_extend_beyond_the_water(tube):
    # A wall without signal separates tube and water from end to end.
    voxel_size = (2.5, 2.5, 2.5)
    shape = (50, 50, 60)
    grid = centred_coordinates(shape, voxel_size)
    water = (np.hypot(grid[0], grid[1]) < 50) & (np.abs(grid[2]) < 50)
    from_axis = np.hypot(grid[0] - 20, grid[1])
    inside = water | ((from_axis < 11) & (np.abs(grid[2]) < 62))
    amplitude = np.where(from_axis < 14, 0.0, 1.0 * water)
    amplitude[inside & (from_axis < 11)] = tube
    magnitude, phase = scan_phantom(amplitude, grid, jump=20.0 * (from_axis < 11))
    mask = phantom_mask(magnitude, phase, voxel_size)
    assert mask[water & (np.abs(grid[2]) < 45) & (from_axis < 14)].all()  # the wall as well
    assert_masks_body(mask & water, water, voxel_size)
    assert not mask[~inside & (from_axis > 16) & (np.abs(grid[2]) > 55)].any()


@pytest.mark.parametrize("content", [0.3, 0.05, 0.0])
def test_enclosed_structures_are_in_the_mask(content):
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 50)
    amplitude = np.where(ball(grid, (10, 5, 0), 16), content, 1.0 * body)
    assert_masks_body(phantom_mask(*scan_phantom(amplitude, grid), CUBE[1]), body, CUBE[1])


@pytest.mark.parametrize("bath", [0.5, 0.1])
def test_a_bath_darker_than_its_contents_is_in_the_mask(bath):
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 56)
    amplitude = np.where(ball(grid, (0, 0, 0), 28), 1.0, bath * body)
    assert_masks_body(
        phantom_mask(*scan_phantom(amplitude, grid, noise=0.004), CUBE[1]), body, CUBE[1]
    )


@pytest.mark.parametrize("n_echoes", [3, 1])
def test_a_surface_coil_does_not_hide_the_far_side(n_echoes):
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 45)
    amplitude = body * np.exp(-(grid[1] + 45) / 30)  # a twentieth at the far side
    magnitude, phase = scan_phantom(
        amplitude, grid, times=TIMES[:n_echoes], noise=0.003, artefact=ringing
    )
    assert_masks_body(phantom_mask(magnitude, phase, CUBE[1]), body, CUBE[1])


@pytest.mark.parametrize("noise", [0.1, 0.25])
def test_phantom_in_noise(noise):
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 45)
    mask = phantom_mask(*scan_phantom(body, grid, noise=noise), CUBE[1])
    assert dice(mask, body) > 0.97  # a layer of voxels at the surface is 18 % of them
    assert not mask[ndimage.distance_transform_edt(~body, sampling=CUBE[1]) > 6].any()


def test_phantom_that_extends_to_the_faces():
    grid = centred_coordinates(*CUBE)
    cylinder = np.hypot(grid[0], grid[1]) < 48
    crop = np.ones(CUBE[0], bool)
    for body, artefact in ((cylinder, ghosts(0.08, 23)), (crop, ringing)):
        magnitude, phase = scan_phantom(body, grid, artefact=artefact)
        assert_masks_body(phantom_mask(magnitude, phase, CUBE[1]), body, CUBE[1])


def test_phantom_in_blanked_air():
    grid = centred_coordinates(*CUBE)
    body = ball(grid, (0, 0, 0), 40)
    magnitude, phase = scan_phantom(body, grid)
    magnitude[~body] = 0
    phase[~body] = 0
    assert_masks_body(phantom_mask(magnitude, phase, CUBE[1]), body, CUBE[1])


def test_air_that_a_phantom_does_not_enclose_is_outside():
    grid = centred_coordinates(*CUBE)
    water = (np.hypot(grid[0], grid[1]) < 56) & (np.abs(grid[2]) < 45)
    bore = water & ~(np.hypot(grid[0], grid[1]) < 20)
    under_bubble = ball(grid, (0, 0, 0), 50) & (grid[1] < 30)
    for body in (bore, under_bubble):
        assert_masks_body(phantom_mask(*scan_phantom(body, grid), CUBE[1]), body, CUBE[1])


@pytest.mark.parametrize("echoes", [slice(None), slice(0, 1), slice(2, 4)])
def test_real_phantom_has_no_halo(shared, echoes):
    folder = shared / "data" / "sphere_3T" / "sub-phantomsphere" / "anat"
    magnitude, stored, voxel_size = load(folder)
    phase = (stored * (2 * np.pi / 4096) - np.pi)[..., echoes]
    magnitude = magnitude[..., echoes]
    combined = np.linalg.norm(magnitude, axis=3)
    bright = combined[combined > 0.5 * np.percentile(combined, 99)]
    water = largest_component(combined > 0.5 * np.median(bright))
    mask = phantom_mask(magnitude, phase, voxel_size)
    assert dice(mask, water) > 0.98
    voxel_diagonal = 3.1
    halo = ndimage.distance_transform_edt(~water, sampling=voxel_size) > voxel_diagonal
    assert np.count_nonzero(mask & halo) < 5  # the halo has 1600 voxels


def test_phantom_of_very_different_signals():
    # Dark water, and a tube ten times as bright with a high susceptibility: phase jumps by 3 rad at
    # its wall. With Otsu's threshold alone, the mask would be only the tube.
    voxel_size = (1.5, 1.5, 2)
    shape = (63, 62, 41)
    x, y, z = centred_coordinates(shape, voxel_size)
    body = (x**2 + y**2 < 40**2) & (np.abs(z) < 36)
    tube = (x - 16) ** 2 + y**2 < 7**2
    rng = np.random.default_rng(0)
    phase = (0.02 * x + 3.0 * tube)[..., None] * np.array([1, 2, 3])
    signal = (body * np.where(tube, 100.0, 10.0))[..., None] * np.exp(1j * phase)
    signal = signal + rng.normal(0, 0.5, signal.shape) + 1j * rng.normal(0, 0.5, signal.shape)
    mask = phantom_mask(np.abs(signal), np.angle(signal), voxel_size)
    assert mask[tube & (np.abs(z) < 32)].all()
    assert_masks_body(mask, body, voxel_size)
    noise = rng.normal(size=(*shape, 6)).view(complex)
    with pytest.raises(EmptyMaskError, match="No phantom"):
        phantom_mask(np.abs(noise), np.angle(noise), voxel_size)
