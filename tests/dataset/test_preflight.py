"""Problems of a scan are reported with file, cause and remedy before processing."""

import gzip
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from helpers.datasets import SMOOTH, coordinates, save_as_scanned, smooth_head

from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.images import UnreadableImageError, summarize_image
from multiqsm.dataset.preflight.inspection import inspect_scan

MAGNITUDE = "sub-01_echo-2_part-mag_MEGRE.nii.gz"
PHASE = "sub-01_echo-2_part-phase_MEGRE.nii.gz"


def check(root):
    (scan,), _ = collect_scans(root)
    return list(inspect_scan(scan).problems)


def errors_of(root):
    return [problem for problem in check(root) if problem.severity == "error"]


def errors(root):
    return list(map(str, errors_of(root)))


def with_cause(problems, text):
    """Problems whose cause contains a text."""
    return [problem for problem in problems if text in problem.cause]


def only_error(root):
    (error,) = errors(root)
    return error


def image(root, name):
    return root / "sub-01/anat" / name


def edit_sidecars(root, pattern, **fields):
    for path in (root / "sub-01/anat").glob(f"*{pattern}*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def edit_voxels(path, change):
    """Apply a function to the voxels of an image file."""
    loaded = nib.load(path)
    save_as_scanned(path, change(loaded.get_fdata(dtype=np.float32)), loaded.affine)


def edit_affine(path, affine):
    save_as_scanned(path, nib.load(path).get_fdata(dtype=np.float32), affine)


@pytest.mark.parametrize("parts", [("mag", "phase"), ("real", "imag")])
def test_good_scan(make_dataset, parts):
    assert check(make_dataset(parts=parts)) == []


def test_single_echo(make_dataset):
    assert check(make_dataset(suffix="T2starw", echo_times=(0.02,))) == []


def test_notes_are_reported(make_dataset):
    problems = check(make_dataset(parts=(None, "phase")))
    assert problems[0].severity == "warning"
    assert "sub-01: sub-01_echo-1_MEGRE.nii.gz: no part in the name" in str(problems[0])


def test_missing_phase_of_one_echo(make_dataset):
    root = make_dataset()
    image(root, PHASE).unlink()
    assert only_error(root).startswith(
        f"sub-01: {MAGNITUDE}: the phase image of echo 2 is missing; add"
    )


def test_missing_magnitude_of_one_echo(make_dataset):
    root = make_dataset()
    image(root, MAGNITUDE).unlink()
    assert only_error(root).startswith(f"sub-01: {PHASE}: the magnitude image of echo 2 is missing")


def test_gap_in_the_echoes_is_a_warning(make_dataset):
    root = make_dataset()
    image(root, MAGNITUDE).unlink()
    image(root, PHASE).unlink()
    (problem,) = check(root)
    assert problem.severity == "warning"
    assert "there are echoes 1, 3, but no echo 2" in str(problem)


@pytest.mark.parametrize("name", [MAGNITUDE, PHASE])
def test_one_slice_short(make_dataset, name):
    root = make_dataset()
    edit_voxels(image(root, name), lambda data: data[..., :-1])
    error = only_error(root)
    assert error.startswith(
        f"sub-01: {name}: 6×5×3 voxels, but 6×5×4 in sub-01_echo-1_part-mag_MEGRE.nii.gz"
    )


def test_first_echo_is_reported_if_it_differs(make_dataset):
    root = make_dataset()
    odd = "sub-01_echo-1_part-mag_MEGRE.nii.gz"
    edit_voxels(image(root, odd), lambda data: data[:-1])
    assert only_error(root).startswith(f"sub-01: {odd}: 5×5×4 voxels, but 6×5×4")


def test_affine_that_differs(make_dataset):
    root = make_dataset()
    affine = nib.load(image(root, PHASE)).affine.copy()
    affine[0, 3] += 0.5
    edit_affine(image(root, PHASE), affine)
    error = only_error(root)
    assert error.startswith(f"sub-01: {PHASE}: the affine puts its voxels up to 0.5 mm away from")


def test_rounding_of_an_affine_is_ignored(make_dataset):
    root = make_dataset()
    edit_affine(image(root, PHASE), nib.load(image(root, PHASE)).affine + 1e-4)
    assert errors(root) == []


def test_four_dimensions(make_dataset):
    root = make_dataset(suffix="T2starw", echo_times=(0.02,))
    name = "sub-01_part-mag_T2starw.nii.gz"
    edit_voxels(image(root, name), lambda data: np.stack([data, data], axis=3))
    assert (
        f"{name}: the image is 4-D (6×5×4×2), as if echoes were stacked; BIDS has one"
        in errors(root)[0]
    )


def test_singular_affine(make_dataset):
    root = make_dataset()
    affine = nib.load(image(root, MAGNITUDE)).affine.copy()
    affine[:3, 2] = affine[:3, 1]
    edit_affine(image(root, MAGNITUDE), affine)
    assert only_error(root).startswith(f"sub-01: {MAGNITUDE}: the affine in the header is singular")


def test_zero_voxel_size(make_dataset):
    root = make_dataset()
    path = image(root, MAGNITUDE)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[80:92] = np.array([1, 1, 0], "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))
    assert only_error(root).startswith(
        f"sub-01: {MAGNITUDE}: the header states a voxel size of 1.0, 1.0, 0.0 mm"
    )


def test_no_orientation_is_a_warning(make_dataset):
    root = make_dataset()
    for path in (root / "sub-01/anat").glob("*.nii.gz"):
        loaded = nib.load(path)
        loaded.header["sform_code"] = loaded.header["qform_code"] = 0
        data = loaded.get_fdata(dtype=np.float32)
        nib.save(nib.Nifti1Image(data, None, loaded.header), path)
    (problem,) = check(root)
    assert problem.severity == "warning"
    assert "no orientation" in problem.cause


@pytest.mark.parametrize(
    ("time", "cause"),
    [
        (12, "EchoTime is 12 s: it seems to be in milliseconds"),
        ("12 ms", "EchoTime is '12 ms', which is not a number"),
        (0, "EchoTime is 0 s, but must be positive"),
        (float("nan"), "EchoTime is nan, which is not a number"),
        (None, "EchoTime is missing from its sidecar"),
    ],
)
def test_unusable_echo_time(make_dataset, time, cause):
    root = make_dataset()
    edit_sidecars(root, "echo-2", EchoTime=time)
    magnitude_error, phase_error = errors(root)
    assert magnitude_error.startswith(f"sub-01: {MAGNITUDE}: {cause};")
    assert phase_error.startswith(f"sub-01: {PHASE}: {cause};")


def test_echo_time_in_one_parts_sidecar_is_enough(make_dataset):
    root = make_dataset()
    edit_sidecars(root, "part-phase", EchoTime=None)
    assert check(root) == []


def test_parts_contradict_each_other_on_echo_time(make_dataset):
    root = make_dataset()
    edit_sidecars(root, "echo-2_part-phase", EchoTime=0.013)
    assert only_error(root).startswith(
        f"sub-01: {PHASE}: EchoTime is 0.013 s, but another part of echo 2 has 0.012 s"
    )


def test_two_echoes_at_one_time(make_dataset):
    root = make_dataset(echo_times=(0.006, 0.006, 0.018))
    assert f"{MAGNITUDE}: echo 2 (0.006 s) has the same EchoTime as echo 1" in only_error(root)


def test_echo_times_exchanged(make_dataset):
    root = make_dataset(voxels=smooth_head)
    for echo, time in ((1, 0.012), (2, 0.006)):
        edit_sidecars(root, f"echo-{echo}", EchoTime=time)
    assert "decays in the order of the echoes' numbers, but not" in only_error(root)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        (
            {"MagneticFieldStrength": None, "ImagingFrequency": None},
            "neither MagneticFieldStrength nor ImagingFrequency is in its sidecar; add "
            "ImagingFrequency (MHz)",
        ),
        (
            {"ImagingFrequency": 123200000},
            "ImagingFrequency is 1.232e+08, which is implausible in MHz (is it in Hz?); write it "
            "in MHz",
        ),
        ({"ImagingFrequency": 0}, "ImagingFrequency is 0, which is implausible in MHz"),
        (
            {"ImagingFrequency": 63.9},
            "ImagingFrequency is 63.9 MHz, but MagneticFieldStrength 3 T gives 127.7 MHz",
        ),
        (
            {"MagneticFieldStrength": 30000, "ImagingFrequency": None},
            "MagneticFieldStrength is 30000, which is implausible",
        ),
    ],
)
def test_unusable_frequency(make_dataset, fields, cause):
    error = only_error(make_dataset(metadata=fields))
    assert error.startswith(f"sub-01: sub-01_echo-1_part-mag_MEGRE.nii.gz: {cause}")


@pytest.mark.parametrize("field", ["MagneticFieldStrength", "ImagingFrequency"])
def test_field_strength_or_frequency_may_be_missing(make_dataset, field):
    assert check(make_dataset(metadata={field: None})) == []


def test_frequency_of_a_siemens_scanner_may_differ_from_nominal_field_strength(make_dataset):
    assert (
        check(make_dataset(metadata={"ImagingFrequency": 123.2, "MagneticFieldStrength": 3})) == []
    )


def test_field_strength_that_is_not_a_number(make_dataset):
    root = make_dataset()
    edit_sidecars(root, "echo-2_part-mag", MagneticFieldStrength="3T")
    assert only_error(root).startswith(
        f"sub-01: {MAGNITUDE}: MagneticFieldStrength is '3T', which is not a number"
    )


def test_files_contradict_each_other_on_frequency(make_dataset):
    root = make_dataset()
    edit_sidecars(root, "echo-2_part-phase", ImagingFrequency=127.7)
    assert only_error(root).startswith(f"sub-01: {PHASE}: ImagingFrequency is 127.7, but")


def damage_missing(path):
    path.unlink()
    path.symlink_to(path.with_name("annexed"))


def damage_empty(path):
    path.write_bytes(b"")


def damage_text(path):
    path.write_text("not an image" * 100)


def damage_text_compressed(path):
    path.write_bytes(gzip.compress(b"not an image" * 100))


def damage_truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def damage_trailer(path):
    path.write_bytes(path.read_bytes()[:-8])


def damage_checksum(path):
    content = bytearray(path.read_bytes())
    content[-8] ^= 255
    path.write_bytes(bytes(content))


def damage_stream(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (
            damage_missing,
            "the file is listed, but its content is not available; fetch it with datalad get ",
        ),
        (damage_empty, "the file is empty; copy or convert it again"),
        (damage_text, "the file is truncated or damaged (Not a gzipped file"),
        (damage_text_compressed, "not a NIfTI file"),
        (damage_truncated, "the file is truncated or damaged"),
        (damage_trailer, "the file is truncated or damaged"),
        (damage_checksum, "the file is truncated or damaged (CRC check failed"),
        (damage_stream, "the file is truncated or damaged"),
    ],
)
def test_unreadable_file(make_dataset, damage, cause):
    root = make_dataset()
    damage(image(root, PHASE))
    assert only_error(root).startswith(f"sub-01: {PHASE}: {cause}")


def test_image_of_another_format(make_dataset):
    root = make_dataset()
    path = image(root, PHASE)
    mgh_image = nib.MGHImage(np.ones((6, 5, 4), np.float32), np.eye(4))
    nib.save(mgh_image, path.with_name("x.mgz"))
    shutil.move(path.with_name("x.mgz"), path)
    assert only_error(root).startswith(f"sub-01: {PHASE}: not a NIfTI file")


def test_truncated_uncompressed_image(tmp_path):
    path = tmp_path / "image.nii"
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.float32), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableImageError, match=r"image\.nii: the file is truncated or damaged"):
        summarize_image(path)


def set_first(value):
    def change(data):
        data.flat[:7] = value
        return data

    return change


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_inside(make_dataset, value):
    root = make_dataset()
    edit_voxels(image(root, PHASE), set_first(value))
    error = only_error(root)
    assert error.startswith(
        f"sub-01: {PHASE}: NaN or infinite in 7 voxels, 7 of them where {MAGNITUDE} has signal"
    )
    assert "inside the brain" in error


def test_not_finite_in_the_background_is_a_warning(make_dataset):
    root = make_dataset()
    edit_voxels(image(root, PHASE), set_first(np.nan))
    edit_voxels(image(root, MAGNITUDE), set_first(0))
    (problem,) = check(root)
    assert problem.severity == "warning"
    assert str(problem).startswith(
        f"sub-01: {PHASE}: NaN or infinite in 7 voxels, all without signal"
    )


def test_nothing_finite(make_dataset):
    root = make_dataset()
    edit_voxels(image(root, PHASE), lambda data: data * np.nan)
    assert only_error(root).startswith(f"sub-01: {PHASE}: no voxel is finite")


@pytest.mark.parametrize("name", [MAGNITUDE, PHASE])
@pytest.mark.parametrize("value", [0, 4])
def test_constant_image(make_dataset, name, value):
    root = make_dataset()
    edit_voxels(image(root, name), lambda data: np.full_like(data, value))
    assert f"sub-01: {name}: every voxel is {value}; convert the scan again" in errors(root)


def test_magnitude_and_phase_exchanged(make_dataset):
    root = make_dataset()
    magnitude = image(root, MAGNITUDE)
    phase = image(root, PHASE)
    spare = root / "spare"
    magnitude.rename(spare)
    phase.rename(magnitude)
    spare.rename(phase)
    assert errors(root)[0].startswith(f"sub-01: {MAGNITUDE}: values from -3.1")
    assert "exchanged" in errors(root)[0]


def test_phase_in_an_unknown_encoding_names_the_echo(make_dataset):
    root = make_dataset()
    edit_voxels(image(root, PHASE), lambda data: data * 100)
    error = only_error(root)
    assert error.startswith(f"sub-01: {PHASE}: Phase holds values from -31")
    assert "Units 'rad'" in error


def test_units_differ_between_echoes(make_dataset):
    root = make_dataset()
    edit_sidecars(root, "echo-2_part-phase", Units="arbitrary")
    assert (
        f"Units differ between the echoes: sub-01_echo-1_part-phase_MEGRE.nii.gz 'rad', {PHASE} "
        "'arb" in only_error(root)
    )


def test_siemens_integers(make_dataset):
    root = make_dataset(metadata={"Units": "arbitrary"})
    for path in (root / "sub-01/anat").glob("*part-phase*.nii.gz"):
        edit_voxels(
            path, lambda data: np.rint((data + np.pi) / (2 * np.pi) * 4095).astype(np.int16)
        )
    assert check(root) == []


def with_mask(root, mask, affine=None):
    path = root / "derivatives/manual/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    path.parent.mkdir(parents=True)
    affine = nib.load(image(root, PHASE)).affine if affine is None else affine
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), path)
    return root


def test_good_mask(make_dataset):
    mask = np.ones((6, 5, 4))
    mask[0, 0, 0] = 0
    assert check(with_mask(make_dataset(), mask)) == []


def test_mask_of_the_whole_image_is_a_warning(make_dataset):
    (problem,) = check(with_mask(make_dataset(), np.ones((6, 5, 4))))
    assert (problem.severity, problem.cause) == ("warning", "the brain mask covers the whole image")


def test_mask_of_a_few_voxels(make_dataset):
    mask = np.zeros((6, 5, 4))
    mask[3, 2, 2] = 1
    (problem,) = check(with_mask(make_dataset(), mask))
    assert (problem.severity, problem.cause) == (
        "error",
        "the brain mask has too few voxels (1)",
    )


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_phase_that_never_wraps(make_dataset, scale):
    root = make_dataset()
    for path in (root / "sub-01/anat").glob("*part-phase*.nii.gz"):
        edit_voxels(path, lambda data: (scale * data).astype(np.float32))
    (problem,) = check(root)
    assert problem.severity == "warning"
    assert "rad, where wrapped phase spans 6.28" in problem.cause


@pytest.mark.parametrize(
    ("mask", "affine", "cause"),
    [
        (np.zeros((6, 5, 4)), None, "the brain mask is empty"),
        (np.ones((6, 5, 3)), None, "6×5×3 voxels, but 6×5×4 in"),
        (np.ones((6, 5, 4)), np.eye(4), "the affine puts its voxels up to"),
    ],
)
def test_bad_mask(make_dataset, mask, affine, cause):
    root = with_mask(make_dataset(), mask, affine)
    assert only_error(root).startswith(f"sub-01: sub-01_desc-brain_mask.nii.gz: {cause}")


def test_mask_is_compared_with_images_that_have_a_grid(make_dataset):
    root = with_mask(make_dataset(), np.ones((6, 5, 4)))
    path = image(root, PHASE)
    nib.save(nib.Nifti1Image(np.arange(5, dtype=np.float32), np.eye(4)), path)
    assert f"{path.name}: the image is 1-D (5)" in only_error(root)


def test_damaged_header_is_not_announced_without_the_name_of_its_file(make_dataset, capfd):
    root = make_dataset()
    path = image(root, PHASE)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[80:84] = bytes(4)  # the first voxel size
    path.write_bytes(gzip.compress(content))
    assert f"{path.name}: the header states a voxel size of 0.0" in only_error(root)
    assert capfd.readouterr().err == ""  # nibabel's lines name no file


def test_damaged_mask(make_dataset):
    root = with_mask(make_dataset(), np.ones((6, 5, 4)))
    damage_checksum(root / "derivatives/manual/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    assert "sub-01_desc-brain_mask.nii.gz: the file is truncated or damaged" in only_error(root)


def test_real_scans_are_good(shared):
    scans, _ = collect_scans(shared / "data" / "real_bids")
    first, second = map(inspect_scan, scans)
    assert first.problems == second.problems == ()


def test_stray_slope_of_a_real_file(make_dataset, shared):
    root = make_dataset(suffix="T2starw", echo_times=(0.004,), metadata={"Units": "rad"})
    for part, name in (("mag", "romeo_mag"), ("phase", "romeo_phase")):
        first = nib.load(shared / "data" / "quirks" / f"{name}.nii.gz").slicer[..., 0]
        nib.save(first, root / f"sub-01/anat/sub-01_part-{part}_T2starw.nii.gz")
    error = only_error(root)
    assert error.startswith(
        "sub-01: sub-01_part-phase_T2starw.nii.gz: Phase holds values from -0.0036"
    )


def inspect(root):
    (scan,), _ = collect_scans(root)
    return inspect_scan(scan)


@pytest.mark.parametrize("parts", [("mag", "phase"), ("real", "imag")])
def test_smooth_head_is_good(make_dataset, parts):
    inspection = inspect(make_dataset(parts=parts, shape=SMOOTH, voxels=smooth_head))
    assert (inspection.problems, inspection.verdict) == ((), "ok")
    assert inspection.matrix == SMOOTH
    assert inspection.voxel_size == (1, 1, 2)
    assert abs(inspection.alternation.offset) < 0.01
    if parts[0] == "mag":
        assert inspection.phase_encoding == "radians, -π to π"
        assert inspection.phase_range == pytest.approx((-np.pi, np.pi), abs=0.01)
        assert 0 < inspection.saturated < 0.001


@pytest.mark.parametrize("parts", [("mag", "phase"), ("real", "imag")])
def test_chopped_slices_of_some_echoes(make_dataset, parts):
    root = make_dataset(
        parts=parts, voxels=lambda part, te: smooth_head(part, te, chopped=te < 0.012)
    )
    error = only_error(root)
    assert (
        "the phase of every second voxel along the third axis is shifted by π in some echoes"
        in error
    )
    assert "negate every second slice" in error


@pytest.mark.parametrize("parts", [("mag", "phase"), ("real", "imag")])
def test_bipolar_readout_is_a_note(make_dataset, parts):
    ramp = np.linspace(-1, 1, SMOOTH[0]).reshape(-1, 1, 1)
    root = make_dataset(
        parts=parts, voxels=lambda part, te: smooth_head(part, te, alternating=0.5 + ramp)
    )
    (problem,) = check(root)
    assert problem.severity == "note"
    assert (
        "departs from a straight line through the odd ones by 0.5 rad, plus a ramp of 2.1 rad from "
        "end to end of the first" in str(problem)
    )
    assert "removes it" in problem.remedy
    (scan,), _ = collect_scans(root)
    assert inspect_scan(scan).scan.readout_polarity == "bipolar"


@pytest.mark.parametrize(
    ("echo_times", "polarity"),
    [
        ((0.006, 0.012, 0.018), "monopolar"),
        ((0.006, 0.012), None),  # two echoes do not show it
        ((0.006, 0.012, 0.020), None),  # nor do echoes at unequal distances
    ],
)
def test_polarity_of_the_readout(make_dataset, echo_times, polarity):
    root = make_dataset(echo_times=echo_times, voxels=smooth_head)
    (scan,), _ = collect_scans(root)
    assert scan.readout_polarity is None
    assert inspect_scan(scan).scan.readout_polarity == polarity


@pytest.mark.parametrize("echo", [1, 2, 3])
@pytest.mark.parametrize("axes", [(0,), (1, 2)])
def test_mirrored_phase_is_a_warning(make_dataset, echo, axes):
    root = make_dataset(voxels=smooth_head)
    name = PHASE.replace("echo-2", f"echo-{echo}")
    edit_voxels(image(root, name), lambda data: np.flip(data, axes))
    # There is a note as well, since the readout looks bipolar.
    (problem,) = with_cause(check(root), "mirroring")
    assert (problem.severity, problem.file) == ("warning", name)
    along = {(0,): "its first axis", (1, 2): "its second and third axes"}[axes]
    assert (
        problem.cause
        == f"its phase agrees with the other echoes only after mirroring along {along}"
    )


def test_mirrored_magnitude_is_a_warning(make_dataset):
    received = np.linspace(0.5, 1, SMOOTH[0], dtype=np.float32).reshape(-1, 1, 1)
    sensitivity = {"mag": received, "phase": np.float32(1)}
    root = make_dataset(voxels=lambda part, te: sensitivity[part] * smooth_head(part, te))
    edit_voxels(image(root, MAGNITUDE), lambda data: data[::-1])
    (problem,) = with_cause(check(root), "mirroring")
    assert (problem.severity, problem.file) == ("warning", MAGNITUDE)
    assert problem.cause.startswith(
        "its magnitude agrees with the other echoes only after mirroring along its first"
    )


def test_mirrored_complex_echo_is_a_warning(make_dataset):
    root = make_dataset(parts=("real", "imag"), voxels=smooth_head)
    names = [MAGNITUDE.replace("mag", "real"), MAGNITUDE.replace("mag", "imag")]
    for name in names:
        edit_voxels(image(root, name), lambda data: data[:, ::-1])
    (problem,) = with_cause(check(root), "mirroring")
    assert (problem.severity, problem.file) == ("warning", names[0])
    assert "mirroring along its second axis" in problem.cause


@pytest.mark.parametrize("echo", [1, 2, 3])
def test_phase_of_one_echo_that_is_noise_is_a_warning(make_dataset, echo):
    root = make_dataset(voxels=smooth_head)
    name = PHASE.replace("echo-2", f"echo-{echo}")
    edit_voxels(
        image(root, name),
        lambda data: np.random.default_rng(0).uniform(-np.pi, np.pi, data.shape).astype("f4"),
    )
    (problem,) = with_cause(check(root), "noise")
    assert (problem.severity, problem.file) == ("warning", name)


@pytest.mark.parametrize(
    ("echo", "reported_echo", "cause"),
    [(1, 2, "% higher"), (2, 3, "% higher"), (3, 2, "is 1.4 times what")],
)
def test_scale_of_one_magnitude_is_a_warning(make_dataset, echo, reported_echo, cause):
    root = make_dataset(voxels=smooth_head)
    edit_voxels(image(root, MAGNITUDE.replace("echo-2", f"echo-{echo}")), lambda data: 0.5 * data)
    (problem,) = check(root)
    assert (problem.severity, problem.file) == (
        "warning",
        MAGNITUDE.replace("echo-2", f"echo-{reported_echo}"),
    )
    assert cause in problem.cause


def test_saturated_magnitude_is_a_warning(make_dataset):
    root = make_dataset(voxels=smooth_head)
    edit_voxels(image(root, MAGNITUDE), lambda data: data.clip(max=np.percentile(data, 97)))
    (problem,) = check(root)
    assert problem.severity == "warning"
    assert str(problem).startswith(f"sub-01: {MAGNITUDE}: 173 voxels (3 %) have the maximum")


def test_two_echoes_with_the_same_image(make_dataset):
    root = make_dataset(voxels=smooth_head)
    shutil.copy(image(root, PHASE), image(root, PHASE.replace("echo-2", "echo-3")))
    assert only_error(root).startswith(
        f"sub-01: {PHASE.replace('echo-2', 'echo-3')}: its values are identical to those of "
        f"{PHASE}; copy or convert the right image"
    )


def test_images_of_two_echoes_exchanged(make_dataset):
    root = make_dataset(voxels=smooth_head)
    first = MAGNITUDE.replace("echo-2", "echo-1")
    spare = root / "spare"
    for old, new in ((image(root, first), spare), (image(root, MAGNITUDE), image(root, first))):
        old.rename(new)
    spare.rename(image(root, MAGNITUDE))
    (problem,) = check(root)
    assert problem.severity == "warning"
    assert str(problem).startswith(
        f"sub-01: {MAGNITUDE}: its magnitude is 13 % higher than that of {first}"
    )


def test_background_set_to_zero_is_no_sign_of_an_exchange(make_dataset):
    shape = (14, 14, 14)

    def masked_ball(part, echo_time):
        x, y, z = np.meshgrid(*[np.linspace(-1.4, 1.4, 14)] * 3, indexing="ij")
        distance = np.sqrt(x**2 + y**2 + z**2)
        smooth = 100 * echo_time * x * (1 - distance)  # 0 at the surface
        return np.where(distance < 1, 100 if part == "mag" else smooth, 0).astype(np.float32)

    problems = check(make_dataset(shape=shape, voxels=masked_ball))
    assert not [problem for problem in problems if "exchanged" in problem.remedy]


def test_siemens_magnitude_and_phase_exchanged(make_dataset):
    def voxels(part, te):
        values = smooth_head(part, te)
        return np.rint((values + np.pi) / (2 * np.pi) * 4095 if part == "phase" else values).astype(
            np.int16
        )

    root = make_dataset(voxels=voxels, metadata={"Units": "arbitrary"})
    assert check(root) == []
    for magnitude in (root / "sub-01/anat").glob("*part-mag*.nii.gz"):
        phase = magnitude.with_name(magnitude.name.replace("part-mag", "part-phase"))
        spare = root / "spare"
        magnitude.rename(spare)
        phase.rename(magnitude)
        spare.rename(phase)
    cause = f"it jumps between neighbouring voxels as phase images do, and {PHASE} does not"
    assert f"sub-01: {MAGNITUDE}: {cause}" in "\n".join(errors(root))


def test_phase_of_zeros(make_dataset):
    root = make_dataset(voxels=lambda part, te: smooth_head(part, te) * (part == "mag"))
    messages = errors(root)
    assert len(messages) == 3
    assert all("every voxel is 0; convert the scan again" in message for message in messages)


@pytest.mark.parametrize(
    ("pattern", "fields", "severity", "cause"),
    [
        ("echo-2_part-phase", {"Manufacturer": "GE"}, "error", "Manufacturer is 'GE', but"),
        ("echo-2_part-phase", {"FlipAngle": 15}, None, None),
        ("echo-2_part-mag", {"EchoNumber": 3}, "warning", "EchoNumber is 3 in its sidecar"),
        ("echo-2_part-mag", {"EchoNumber": 2}, None, None),
        (
            "echo-2_part-mag",
            {"Units": "rad"},
            "warning",
            "Units is 'rad', which is that of a phase",
        ),
        ("echo-2_part-mag", {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]}, None, None),
        (
            "echo-2_part-mag",
            {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
            "warning",
            "that of a phase",
        ),
        ("echo-2_part-phase", {"ImageType": ["DERIVED", "PRIMARY", "PHASE"]}, None, None),
        (
            "echo-2_part-phase",
            {"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE"]},
            "warning",
            "that of a magnitude",
        ),
    ],
)
def test_sidecar_that_contradicts(make_dataset, pattern, fields, severity, cause):
    root = make_dataset(voxels=smooth_head)
    edit_sidecars(root, pattern, **fields)
    problems = check(root)
    assert [problem.severity for problem in problems] == ([severity] if severity else [])
    if cause:
        assert cause in str(problems[0])


def test_flip_angles_that_differ(make_dataset):
    root = make_dataset(metadata={"FlipAngle": 15})
    edit_sidecars(root, "echo-3_part-mag", FlipAngle=20)
    (problem,) = check(root)
    assert problem.severity == "warning"
    assert "FlipAngle is 20, but sub-01_echo-1_part-mag_MEGRE.nii.gz has 15" in str(problem)


def test_image_without_a_sidecar_is_a_warning(make_dataset):
    root = make_dataset()
    image(root, PHASE.replace(".nii.gz", ".json")).unlink()
    problems = check(root)
    assert f"sub-01: {PHASE}: it has no sidecar" in str(problems[0])
    assert problems[0].severity == "warning"


@pytest.mark.parametrize(
    ("dtype", "cause"),
    [
        (np.complex64, "its voxels are complex64"),
        ([("R", "u1"), ("G", "u1"), ("B", "u1")], "integers or real"),
    ],
)
def test_voxels_that_are_not_real_numbers(make_dataset, dtype, cause):
    root = make_dataset()
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), dtype), np.eye(4)), image(root, PHASE))
    assert cause in only_error(root)


def test_header_that_claims_more_than_memory(make_dataset):
    root = make_dataset()
    path = image(root, PHASE)
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(content)))
    assert "its header claims 3.52e+13 voxels, more than any scan has" in only_error(root)


@pytest.mark.parametrize(
    ("values", "is_binary"),
    [
        ([0, 0, 1, 1], True),
        ([0, 0, 255, 255], True),
        ([0, 0, -1, -1], False),
        ([0, 1, 2, 2], False),
        ([3, 3, 3, 3], True),
    ],
)
def test_masks_have_two_values(tmp_path, values, is_binary):
    path = tmp_path / "mask.nii"
    nib.save(nib.Nifti1Image(np.array(values, np.int16).reshape(4, 1, 1), np.eye(4)), path)
    assert summarize_image(path).is_binary == is_binary


SIEMENS = {"Units": "arbitrary", "Manufacturer": "Siemens"}
STORED = {
    "unsigned": lambda phase: np.rint((phase + np.pi) / (2 * np.pi) * 4095),
    "signed": lambda phase: 2 * np.rint(phase / np.pi * 2047.5),
    "12 bits": lambda phase: np.rint(phase / np.pi * 2047),
    "radians": lambda phase: phase,
    "positive": lambda phase: phase % (2 * np.pi),
    "half": lambda phase: phase / 2,
    "whole": np.rint,
}


def stored_as(make_dataset, kinds, *, masked=False, spacing=0.006, **options):
    """Simulate a smooth head whose echoes are stored in different ways.

    Nothing wraps in three echoes with a spacing of 1 ms.
    """
    times = spacing * np.arange(1, len(kinds) + 1)
    x, y, _ = coordinates()
    inside = np.hypot(x, y) < 0.7

    def voxels(part, te):
        values = smooth_head(part, te)
        if part == "phase":
            values = STORED[kinds[int(np.argmin(np.abs(times - te)))]](values)
        return np.where(inside | (not masked), values, 0).astype(np.float32)

    return make_dataset(voxels=voxels, echo_times=tuple(times.tolist()), **options)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("kinds", "odd", "ranges"),
    [
        (
            ("unsigned", "signed", "signed"),
            [1],
            "echo 1: 0…4095, echo 2: -4094…4094, echo 3: -4094…4094",
        ),
        (
            ("signed", "unsigned", "unsigned"),
            [2, 3],
            "echo 1: -4094…4094, echo 2: 0…4095, echo 3: 0…4095",
        ),
        (("signed", "signed", "unsigned"), [3], "echo 3: 0…4095"),
        (("unsigned", "12 bits"), [1, 2], "echo 1: 0…4095, echo 2: -2047…2047"),
        (("signed", "12 bits"), [2], "echo 2: -2047…2047"),
    ],
)
def test_integers_of_two_encodings(make_dataset, kinds, odd, ranges, masked):
    root = stored_as(make_dataset, kinds, masked=masked, metadata=SIEMENS)
    error = only_error(root)
    names = ", ".join(PHASE.replace("echo-2", f"echo-{echo}") for echo in odd)
    start = f"sub-01: {names}: phase is not stored in the same way in all echoes (echo 1: "
    assert error.startswith(start)
    # Wrapped phase almost reaches the limits of its range.
    limits = np.array(re.findall(r"-?\d+(?=…)|(?<=…)-?\d+", error), float)
    expected = np.array(re.findall(r"-?\d+(?=…)|(?<=…)-?\d+", ranges), float)
    distances = np.abs(np.subtract.outer(expected, limits))
    assert (distances.min(axis=1) < 300).all()


@pytest.mark.parametrize("kind", ["unsigned", "signed", "radians", "positive"])
@pytest.mark.parametrize(("n_echoes", "masked"), [(3, False), (24, True)])
def test_single_encoding_is_accepted(make_dataset, kind, n_echoes, masked):
    """First echoes hardly vary in phase, and their background may be 0; late echoes wrap."""
    fields = {} if kind in ("radians", "positive") else SIEMENS
    spacing = 0.018 / n_echoes
    problems = check(
        stored_as(make_dataset, (kind,) * n_echoes, masked=masked, spacing=spacing, metadata=fields)
    )
    assert with_cause(problems, "stored") + with_cause(problems, "varies") == []


@pytest.mark.parametrize(
    "kinds", [("radians", "unsigned", "unsigned"), ("unsigned", "radians", "radians")]
)
@pytest.mark.parametrize("units", ["rad", "arbitrary", None])
def test_radians_and_integers(make_dataset, kinds, units):
    error = only_error(stored_as(make_dataset, kinds, metadata=SIEMENS | {"Units": units}))
    assert "echo 1: " in error
    assert "4095" in error


def test_radians_from_0_and_from_minus_pi_are_equivalent(make_dataset):
    (problem,) = check(stored_as(make_dataset, ("positive", "radians", "radians")))
    assert problem.severity == "warning"
    assert "are the same modulo 2π" in problem.cause


def test_radians_that_were_rounded(make_dataset):
    error = only_error(stored_as(make_dataset, ("radians", "whole", "radians")))
    assert error.startswith(
        f"sub-01: {PHASE}: phase is not stored in the same way in all echoes (echo 1: "
    )


@pytest.mark.parametrize("echo", [1, 2, 3])
def test_echo_whose_scale_was_lost(make_dataset, echo):
    kinds = ["radians"] * 3
    kinds[echo - 1] = "half"
    error = only_error(stored_as(make_dataset, kinds))
    assert error.startswith(
        f"sub-01: {PHASE.replace('echo-2', f'echo-{echo}')}: phase is not stored in the same way"
    )


@pytest.mark.parametrize(("echo", "reported_echo", "ratio"), [(1, 2, 2), (2, 2, 0.5), (3, 3, 0.5)])
def test_scaled_echo_that_does_not_wrap_is_a_warning(make_dataset, echo, reported_echo, ratio):
    kinds = ["radians"] * 3
    kinds[echo - 1] = "half"
    problems = check(stored_as(make_dataset, kinds, spacing=0.001))
    problem, *_ = with_cause(problems, "varies")
    file = PHASE.replace("echo-2", f"echo-{reported_echo}")
    assert (problem.severity, problem.file) == ("warning", file)
    assert float(problem.cause.split()[3]) == pytest.approx(ratio, rel=0.2)


def test_case_of_mixed_encodings(copy_case):
    error = only_error(copy_case("mixed_phase_encodings"))
    assert (
        "sub-01_echo-1_part-phase_MEGRE.nii.gz: phase is not stored in the same way in all "
        "echoes (echo 1: " in error
    )
    assert "echo 1: 165…3846, echo 2: -4084…3998" in error


def parts_of(
    make_dataset, change=None, *, air=True, masked=False, narrow=False, n_echoes=3, name="raw"
):
    """Simulate a head in air as real and imaginary parts.

    `change` replaces an image, and is called with its part, the number of its echo and its values.
    """
    x, y, _ = coordinates()
    inside = np.hypot(x, y) < (0.7 if air else 2)

    def voxels(part, te):
        echo = round(te / 0.006)
        values = smooth_head(part, 0.1 * te, start=0) if narrow else smooth_head(part, te)
        noise = np.random.default_rng([echo, part == "real"]).normal(0, 0 if masked else 20, SMOOTH)
        values = np.where(inside, values, noise)
        return (values if change is None else change(part, echo, values)).astype(np.float32)

    times = tuple((0.006 * np.arange(1, n_echoes + 1)).tolist())
    return make_dataset(name, parts=("real", "imag"), voxels=voxels, echo_times=times)


def intercept(value, part=None, echo=None):
    """Return a change that adds a value to all images, or to those of a part or an echo."""
    return lambda p, e, values: values + value * (part in (None, p) and echo in (None, e))


LOST = {
    "all": (intercept(1000), 6),
    "negative": (intercept(-1000), 6),
    "real": (intercept(1000, "real"), 3),
    "imaginary": (intercept(-1000, "imag"), 3),
    "first echo": (intercept(1000, echo=1), 2),
    "second echo": (intercept(1000, echo=2), 2),
    "last echo": (intercept(1000, echo=3), 2),
    "one image": (intercept(-1000, "imag", 2), 1),
    "some are left on the other side": (intercept(850), 6),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", LOST)
def test_lost_intercept_is_detected_from_the_background(make_dataset, kind, masked):
    change, n = LOST[kind]
    (problem,) = errors_of(parts_of(make_dataset, change, masked=masked))
    assert "background is at" in problem.cause
    assert problem.file.endswith(f"and {n - 1} more") or n == 1


@pytest.mark.parametrize("kind", LOST)
def test_lost_intercept_is_detected_without_background(make_dataset, kind):
    """Without air, equally spaced echoes are a geometric sequence only if nothing was added."""
    change, n = LOST[kind]
    (problem,) = errors_of(parts_of(make_dataset, change, air=False))
    assert problem.cause.startswith("nearly all of its values have the same sign")
    assert problem.file.endswith(f"and {n - 1} more") or n == 1 or kind.startswith("some")


@pytest.mark.parametrize(
    ("n_echoes", "masked", "severity"),
    [(2, False, "error"), (1, False, "warning"), (2, True, "warning")],
)
def test_all_of_one_sign_without_further_evidence(make_dataset, n_echoes, masked, severity):
    """The phase of one echo may be in one quadrant, and so may that of a masked head in two."""

    def change(part, echo, values):
        return np.where(values == 0, 0, values + 1000)

    root = parts_of(make_dataset, change, air=masked, masked=masked, n_echoes=n_echoes)
    (problem,) = with_cause(check(root), "same sign")
    assert problem.severity == severity


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("air", [False, True])
def test_negative_values_that_wrapped_around(make_dataset, bits, air):
    root = parts_of(make_dataset, lambda part, echo, values: np.rint(values) % 2**bits, air=air)
    (problem,) = errors_of(root)
    assert "as if negative values had wrapped around" in problem.cause
    assert problem.file.endswith("and 5 more")


@pytest.mark.parametrize(
    "options", [{}, {"masked": True}, {"air": False}, {"masked": True, "narrow": True}]
)
def test_parts_as_scanned_are_good(make_dataset, options):
    """A phase near 0 makes the real part positive, but the background is 0, or there is none."""
    assert check(parts_of(make_dataset, **options)) == []
    turned = parts_of(make_dataset, lambda part, echo, values: -values, name="turned", **options)
    assert check(turned) == []


@pytest.mark.parametrize("scale", [2, 0.5])
def test_scaled_part_is_detected_from_its_noise(make_dataset, scale):
    root = parts_of(
        make_dataset,
        lambda part, echo, values: values * (scale if (part, echo) == ("imag", 2) else 1),
    )
    (problem,) = with_cause(check(root), "noise")
    assert (problem.severity, problem.file) == ("warning", "sub-01_echo-2_part-imag_MEGRE.nii.gz")
    ratio = float(problem.cause.split("its noise is ")[1].split(" times")[0])
    assert ratio == pytest.approx(scale, rel=0.2)


def test_case_of_lost_intercepts(copy_case):
    error = only_error(copy_case("realimag_offset"))
    assert error.startswith(
        "sub-01: sub-01_echo-1_part-real_MEGRE.nii.gz and 7 more: nearly all of its values have "
        "the same sign"
    )
    assert "scl_inter" in error


@pytest.mark.parametrize("name", ["sub-philips3T", "sub-crop7T"])
def test_real_scans_as_real_and_imaginary_parts_are_good(shared, tmp_path, name):
    source = shared / "data" / "real_bids" / name / "anat"
    folder = tmp_path / "raw" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (tmp_path / "raw" / "dataset_description.json").write_text("{}")
    for path in source.glob("*part-mag*.nii.gz"):
        magnitude = nib.load(path)
        phase = nib.load(str(path).replace("mag", "phase"))
        signal = magnitude.get_fdata() * np.exp(1j * phase.get_fdata())
        for part, values in (("real", signal.real), ("imag", signal.imag)):
            file_name = path.name.replace(name, "sub-01").replace("part-mag", f"part-{part}")
            image = nib.Nifti1Image(values.astype(np.float32), None, magnitude.header)
            nib.save(image, folder / file_name)
            sidecar = str(path).replace(".nii.gz", ".json")
            shutil.copy(sidecar, folder / file_name.replace(".nii.gz", ".json"))
    assert errors(tmp_path / "raw") == []
