"""Unwrapped phase equals the true phase up to a constant multiple of 2π."""

import nibabel as nib
import numpy as np
import pytest
from skimage.restoration import unwrap_phase

from multiqsm.core.holes import fill_holes
from multiqsm.core.mask.reliability import exclude_unresolved
from multiqsm.core.phase.encoding import wrap_phase
from multiqsm.core.phase.fieldfit import fit_field
from multiqsm.core.phase.unwrapping import UNWRAPPINGS, unwrap_echoes
from multiqsm.workflows.field import init_field_wf

PREDICTING = ("spatial", "temporal")  # later echoes from earlier ones
TWO_PI = 2 * np.pi
SHAPE = (41, 36, 27)


def coordinates(shape=SHAPE):
    return np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")


@pytest.fixture
def head():
    """Return the mask of an ellipsoid, a field in Hz and a smooth phase offset.

    The phase of the field wraps several times at the later echoes.
    """
    x, y, z = coordinates()
    mask = x**2 + y**2 + z**2 < 0.9
    field = 90 * np.exp(-((x - 0.8) ** 2 + y**2 + (z + 0.6) ** 2) / 0.2) + 40 * x * y + 15 * z
    offset = 2.0 * np.sin(2 * x) + 1.5 * y
    return mask, field, offset


def acquire(field, offset, times, noise=0.0):
    """Return wrapped and true phase; both contain the noise."""
    true = TWO_PI * field[..., None] * np.asarray(times) + offset[..., None]
    true = (true + noise * np.random.default_rng(1).normal(size=true.shape)).astype(np.float32)
    return wrap_phase(true), true


def wraps_off(unwrapped, true, mask):
    """Return how many multiples of 2π each voxel is off, relative to the median of its echo."""
    wraps = np.rint((unwrapped - true)[mask] / TWO_PI).astype(int)
    return wraps - np.round(np.median(wraps, axis=0)).astype(int)


def assert_only_multiples_of_2pi_added(unwrapped, wrapped, mask):
    wraps = (unwrapped - wrapped)[mask] / TWO_PI
    # float32 rounds phases near 100 rad by 4e-6.
    np.testing.assert_allclose(wraps, np.rint(wraps), atol=1e-5)


@pytest.mark.parametrize("unwrapping", UNWRAPPINGS)
@pytest.mark.parametrize(
    "times",
    [
        (0.006, 0.012, 0.018, 0.024),
        (0.004, 0.009, 0.012, 0.026),
        (0.020, 0.004, 0.012),
        (0.0023, 0.0046),
    ],
    ids=["even", "uneven", "unordered", "two"],
)
def test_unwraps_to_the_truth(head, times, unwrapping):
    mask, field, offset = head
    wrapped, true = acquire(field, offset, times, noise=0.05)
    unwrapped = unwrap_echoes(wrapped, mask, times, unwrapping=unwrapping)
    assert unwrapped.dtype == np.float32
    assert not unwrapped[~mask].any()
    assert_only_multiples_of_2pi_added(unwrapped, wrapped, mask)
    assert not wraps_off(unwrapped, true, mask).any()


@pytest.mark.parametrize("unwrapping", UNWRAPPINGS)
def test_phase_is_linear_in_time(head, unwrapping):
    mask, field, offset = head
    times = np.array([0.006, 0.012, 0.018, 0.024, 0.030, 0.036])
    wrapped, _ = acquire(field, offset + 3.0, times)
    values = unwrap_echoes(wrapped, mask, times, unwrapping=unwrapping)[mask]
    slope, intercept = np.polyfit(times, values.T, 1)
    # Without noise, phase is exactly linear in time: the only residual is rounding, and the field
    # is right up to one constant.
    np.testing.assert_allclose(values, np.outer(slope, times) + intercept[:, None], atol=1e-3)
    aliases = (slope / TWO_PI - field[mask]) * 0.006
    np.testing.assert_allclose(aliases, np.rint(np.median(aliases)), atol=1e-3)


@pytest.mark.parametrize("unwrapping", UNWRAPPINGS)
def test_single_echo(head, unwrapping):
    mask, field, offset = head
    wrapped, true = acquire(field, offset, [0.02], noise=0.05)
    unwrapped = unwrap_echoes(wrapped, mask, [0.02], unwrapping=unwrapping)
    assert_only_multiples_of_2pi_added(unwrapped, wrapped, mask)
    assert not wraps_off(unwrapped, true, mask).any()


def test_agrees_with_reliability_sorting(head):
    mask, field, offset = head
    wrapped, _ = acquire(field, offset, [0.03], noise=0.1)
    reference = unwrap_phase(np.ma.array(wrapped[..., 0], mask=~mask), rng=0)
    unwrapped = unwrap_echoes(wrapped, mask, [0.03])
    assert not wraps_off(unwrapped, np.asarray(reference)[..., None], mask).any()


def test_phase_without_wraps_is_unchanged(head):
    mask, field, _ = head
    small = (field / np.abs(field).max())[..., None].astype(np.float32)
    np.testing.assert_array_equal(unwrap_echoes(small, mask, [0.01])[mask], small[mask])


@pytest.mark.parametrize("unwrapping", UNWRAPPINGS)
def test_fields_of_separate_components_are_consistent(head, unwrapping):
    _, field, offset = head
    mask = np.zeros(SHAPE, bool)
    mask[3:18, 5:30, 4:22] = True
    mask[22:38, 5:30, 4:22] = True
    mask[20, 2, 2] = True
    times = [0.005, 0.010, 0.015]
    wrapped, true = acquire(field, offset, times)
    unwrapped = unwrap_echoes(wrapped, mask, times, unwrapping=unwrapping)
    # A component may be off by the same multiple of 2π at all echoes: that belongs to its phase
    # offset and not to the field.
    wraps = np.rint((unwrapped - true)[mask] / TWO_PI)
    np.testing.assert_array_equal(np.diff(wraps, axis=1), 0)


def test_bipolar_readouts_need_the_spatial_mode(head):
    # Even echoes have an additional ramp along the readout, less than π per voxel but several
    # multiples of 2π from end to end.
    mask, field, offset = head
    times = np.array([0.005, 0.010, 0.015, 0.020])
    ramp = 7.0 * coordinates()[0]
    _, true = acquire(field, offset, times)
    true[..., 1::2] += ramp[..., None].astype(np.float32)
    unwrapped = unwrap_echoes(wrap_phase(true), mask, times)
    assert not wraps_off(unwrapped, true, mask).any()


@pytest.mark.parametrize("unwrapping", PREDICTING)
def test_fringes_too_dense_for_space_are_unwrapped_in_time(unwrapping):
    # 70 Hz per voxel: 0.28 cycles between echoes, which can be unwrapped in space, but 1.7 cycles
    # at the last echo, which cannot.
    shape = (24, 12, 10)
    field = 70.0 * np.arange(24)[:, None, None] * np.ones(shape)
    times = 0.004 * np.arange(1, 7)
    wrapped, true = acquire(field, np.full(shape, 0.7), times, noise=0.02)
    mask = np.ones(shape, bool)
    assert not wraps_off(
        unwrap_echoes(wrapped, mask, times, unwrapping=unwrapping), true, mask
    ).any()


def test_every_echo_is_unwrapped_in_space_if_individually(head):
    # Noise in the first two echoes, from which the other ways predict the third. Unwrapped
    # individually, the third echo is as right there as anywhere.
    mask, field, offset = head
    times = [0.006, 0.012, 0.018]
    wrapped, true = acquire(field, offset, times, noise=0.05)
    lost = np.zeros(SHAPE, bool)
    lost[14:26, 12:24, 8:19] = True
    wrapped[lost, :2] = np.random.default_rng(3).uniform(-np.pi, np.pi, wrapped[lost, :2].shape)
    third = {}
    for unwrapping in UNWRAPPINGS:
        unwrapped = unwrap_echoes(wrapped, mask, times, unwrapping=unwrapping)
        third[unwrapping] = wraps_off(unwrapped, true, mask)[:, 2]
    assert not third["individual"].any()
    assert third["temporal"].any()


def test_noise_does_not_affect_its_surroundings(head):
    # A block of pure noise must not shift the voxels around it.
    mask, field, offset = head
    times = [0.006, 0.012, 0.018]
    wrapped, true = acquire(field, offset, times, noise=0.05)
    noisy = np.zeros(SHAPE, bool)
    noisy[16:24, 14:22, 10:17] = True
    wrapped[noisy] = np.random.default_rng(2).uniform(-np.pi, np.pi, wrapped[noisy].shape)
    unwrapped = unwrap_echoes(wrapped, mask, times)
    assert_only_multiples_of_2pi_added(unwrapped, wrapped, mask)
    assert not wraps_off(unwrapped, true, mask & ~noisy).any()


def test_memory_order_does_not_matter(head):
    mask, field, offset = head
    times = [0.006, 0.012, 0.018]
    wrapped, _ = acquire(field, offset, times, noise=0.3)
    expected = unwrap_echoes(wrapped, mask, times)
    fortran = unwrap_echoes(np.asfortranarray(wrapped), np.asfortranarray(mask), times)
    np.testing.assert_array_equal(fortran, expected)


@pytest.mark.parametrize("shape", [(30, 17, 1), (1, 1, 40)])
def test_thin_volumes(shape):
    field = 400.0 * coordinates(shape)[np.argmax(shape)]
    times = [0.005, 0.011]
    wrapped, true = acquire(field, np.zeros(shape), times)
    mask = np.ones(shape, bool)
    assert not wraps_off(unwrap_echoes(wrapped, mask, times), true, mask).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"echo_times": [0.006]}, "there must be n_echoes echo times"),
        ({"echo_times": [0.006, 0.006]}, "must differ"),
        ({"mask": np.zeros(SHAPE, bool)}, "mask is empty"),
        ({"mask": np.ones((3, 3, 3), bool)}, r"mask \(3, 3, 3\)"),
        ({"unwrapping": "laplacian"}, "unwrapping must be one of"),
        ({"phase": np.full((*SHAPE, 2), np.nan)}, "not finite"),
    ],
)
def test_unusable_input_is_refused(change, message):
    arguments = {
        "phase": np.zeros((*SHAPE, 2)),
        "mask": np.ones(SHAPE, bool),
        "echo_times": [0.006, 0.012],
    }
    with pytest.raises(ValueError, match=message):
        unwrap_echoes(**(arguments | change))


@pytest.mark.parametrize(
    ("unwrapping", "tolerated"), [("spatial", 1e-4), ("temporal", 1e-4), ("individual", 2e-3)]
)
def test_real_scan_is_linear_in_time(shared, unwrapping, tolerated):
    # 7 T; echo times 4, 8 and 12 ms; no mask. A wrong multiple of 2π at one echo changes the second
    # difference by 2π or 4π. Echoes that are unwrapped individually are not corrected in single
    # voxels.
    folder = shared / "data" / "real_bids" / "sub-crop7T" / "anat"
    files = sorted(folder.glob("*part-phase_MEGRE.nii.gz"))
    wrapped = np.stack([nib.load(f).get_fdata(dtype=np.float32) for f in files], axis=-1)
    mask = np.ones(wrapped.shape[:3], bool)
    unwrapped = unwrap_echoes(wrapped, mask, [0.004, 0.008, 0.012], unwrapping=unwrapping)
    assert_only_multiples_of_2pi_added(unwrapped, wrapped, mask)
    second_difference = unwrapped[..., 0] - 2 * unwrapped[..., 1] + unwrapped[..., 2]
    assert np.mean(np.abs(second_difference - np.median(second_difference)) > np.pi) < tolerated


def test_first_echo_is_correct_where_the_second_is_noise(head):
    # Signal that dephases after the first echo: the difference, unwrapped first, is noise there.
    mask, field, offset = head
    times = [0.006, 0.012, 0.018]
    wrapped, true = acquire(field, offset, times, noise=0.05)
    lost = np.zeros(SHAPE, bool)
    lost[14:26, 12:24, 8:19] = True
    wrapped[lost, 1:] = np.random.default_rng(3).uniform(-np.pi, np.pi, wrapped[lost, 1:].shape)
    unwrapped = unwrap_echoes(wrapped, mask, times)
    assert not wraps_off(unwrapped, true, mask)[:, 0].any()
    assert not wraps_off(unwrapped, true, mask & ~lost).any()


@pytest.mark.parametrize("unwrapping", PREDICTING)
def test_late_first_echo_is_unwrapped_with_the_trend_of_the_difference(unwrapping):
    # 60 Hz per voxel: 1.2 cycles at the first echo, 0.24 between two echoes.
    shape = (24, 12, 10)
    field = 60.0 * np.arange(24)[:, None, None] * np.ones(shape)
    times = [0.020, 0.024, 0.028]
    wrapped, true = acquire(field, np.full(shape, 0.7), times, noise=0.02)
    mask = np.ones(shape, bool)
    assert not wraps_off(
        unwrap_echoes(wrapped, mask, times, unwrapping=unwrapping), true, mask
    ).any()


def sinus(times, snr, shape=(40, 36, 28)):
    """Return signal around a ball of air, its phase, its field in Hz and its mask.

    Close to the ball, phase changes by more than π per voxel.
    """
    x, y, z = np.meshgrid(*[np.arange(n) - 0.5 * n + 0.5 for n in shape], indexing="ij")
    distance = np.sqrt(x**2 + y**2 + (z + 13) ** 2)
    field = 330.0 * (6 / distance) ** 3 * (3 * (z + 13) ** 2 / distance**2 - 1) / 2
    rng = np.random.default_rng(4)
    te = np.asarray(times)
    true = TWO_PI * field[..., None] * te + 0.4 * np.sin(x / 9)[..., None]
    signal = np.exp(1j * true - 20 * te)
    signal += (rng.normal(size=true.shape) + 1j * rng.normal(size=true.shape)) / snr
    return signal, true, field, distance > 6


@pytest.mark.parametrize(
    ("times", "snr"),
    [
        ([0.006, 0.012, 0.018, 0.024], 100),
        ([0.006, 0.012, 0.018, 0.024], 30),
        ([0.015, 0.025, 0.035], 100),
    ],
    ids=["usual", "low SNR", "late"],
)
def test_ambiguous_voxels_near_air_are_excluded_and_the_rest_is_exact(times, snr):
    signal, true, field, mask = sinus(times, snr)
    unwrapped = unwrap_echoes(wrap_phase(np.angle(signal)), mask, times)
    magnitude = np.abs(signal).astype(np.float32)
    fit = fit_field(unwrapped, magnitude, times, mask, centre_frequency=1.0)
    resolved = exclude_unresolved(mask, fit.unresolved)
    # The measured phase plus the multiple of 2π that brings it closest to the truth.
    expected = np.angle(signal) + TWO_PI * np.rint((true - np.angle(signal)) / TWO_PI)
    wrong = np.zeros(mask.shape, bool)
    wrong[mask] = wraps_off(unwrapped, expected, mask).any(axis=1)
    assert not (wrong & resolved).any()
    # Voxels are only excluded where phase at the first echo changes by about π per voxel, or next
    # to such voxels.
    steep = np.max(np.abs(np.gradient(field)), axis=0) * times[0] > 0.3
    assert fit.unresolved.any()
    assert not (fit.unresolved & ~steep).any()
    assert np.count_nonzero(mask & ~resolved) < 0.08 * np.count_nonzero(mask)


@pytest.mark.parametrize(("trim", "is_phantom"), [(True, False), (False, False), (False, True)])
def test_workflow_gives_unmeasured_voxels_no_weight(tmp_path, trim, is_phantom):
    times = [0.015, 0.025, 0.035]
    signal, _, _, mask = sinus(times, 100)
    mask = mask.copy()
    mask[..., :5] = False  # the ball of air opens to the outside
    signal[14:16, 12:14, 20, 2] *= -1  # phase is not linear in time in a few voxels deep inside
    files = {}
    for name, data in (("magnitude", np.abs(signal)), ("phase", np.angle(signal)), ("mask", mask)):
        files[f"{name}_file"] = tmp_path / f"{name}.nii"
        nib.save(nib.Nifti1Image(data.astype(np.float32), np.eye(4)), files[f"{name}_file"])
    workflow = init_field_wf(
        echo_times=times,
        centre_frequency=1.0,
        unwrapping="spatial",
        trim=trim,
        is_phantom=is_phantom,
        gigabytes=lambda volumes: 0.1,
    )
    workflow.base_dir = tmp_path
    workflow.config["execution"] = {"crashdump_dir": str(tmp_path)}
    workflow.inputs.inputnode.provenance = {}
    for name, path in files.items():
        setattr(workflow.inputs.inputnode, name, str(path))
    nodes = {node.name: node for node in workflow.run().nodes()}
    assert nodes["fit"].result.outputs.provenance["UnresolvedVoxels"] > 0
    outputs = nodes["unknown"].result.outputs
    before = nib.load(nodes["unknown"].inputs.mask_file).get_fdata() > 0
    after = nib.load(outputs.mask_file).get_fdata() > 0
    error = nib.load(outputs.standard_error_file).get_fdata()
    unresolved = nib.load(nodes["fit"].result.outputs.unresolved_file).get_fdata() > 0
    assert np.isinf(error[after & unresolved]).all()
    assert np.isfinite(nib.load(outputs.field_file).get_fdata()[after]).all()
    provenance = outputs.provenance
    assert provenance["BrainMaskVoxelsUnresolved"] == np.count_nonzero(before & ~after)
    assert provenance["VoxelsWithoutWeight"] == np.count_nonzero(np.isinf(error[after])) > 0
    assert provenance["VoxelsWithoutWeightFraction"] == pytest.approx(np.isinf(error[after]).mean())
    if is_phantom:
        np.testing.assert_array_equal(after, fill_holes(before))
    else:
        # Unresolved voxels at the surface, above the ball of air, are removed from the mask.
        assert provenance["BrainMaskVoxelsUnresolved"] > 0


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_echoes_are_consistent_behind_the_wall_of_a_tube(noise):
    """Water with a tube along B0 whose field is χ/3: 84 Hz for 2.04 ppm at 3 T, constant inside.

    From the second echo on its phase jumps by more than π at the wall, so that unwrapping in space
    cannot know how many wraps lie between; in time there are less than π from echo to echo.
    """
    shape = (48, 48, 12)
    x, y, _ = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    in_tube = np.hypot(x - 6, y) < 9
    field = 84.0 * in_tube + 0.2 * x
    times = np.array([2.6, 6.6, 10.6, 14.6, 18.6, 22.6]) / 1000
    wrapped, true = acquire(field, 0.02 * y, times, noise=noise)
    mask = np.hypot(x, y) < 22
    unwrapped = unwrap_echoes(wrapped, mask, times, unwrapping="individual")
    assert_only_multiples_of_2pi_added(unwrapped, wrapped, mask)
    assert not wraps_off(unwrapped, true, mask).any()
