"""Files as converters, archives and people write them are read rightly, or refused with the cause;
what was decided is in the audit's table.
"""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from helpers.datasets import SMOOTH, coordinates, smooth_head, write_dataset

from multiqsm.dataset.atlas import load_atlas
from multiqsm.dataset.audit import audit_problems, audit_table, inspect_scans
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.image_types import image_kinds
from multiqsm.dataset.images import read_image, summarize_image
from multiqsm.dataset.labels import have_same_grid
from multiqsm.dataset.volumes import load_volume
from multiqsm.interfaces.images import (
    read_canonical,
    read_labels,
    read_mask,
    read_single_volume,
    write_volume,
)
from multiqsm.workflows.scan import init_scan_wf
from multiqsm.workflows.settings import Settings

AFFINE = np.diag([2.0, 2, 3, 1])


def audit(root):
    """Return the row of the only scan and its problems."""
    scans, left_out = collect_scans(root)
    inspections = inspect_scans(scans)
    problems = audit_problems(inspections, left_out)
    return audit_table(inspections, problems).iloc[0], problems


def of_severity(problems, severity):
    return [str(problem) for problem in problems if problem.severity == severity]


def edit_sidecars(root, pattern, **fields):
    for path in (root / "sub-01/anat").glob(f"*{pattern}*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def save(path, voxels, *, affine=AFFINE, units=2):
    """Save an image with this code for the unit of space."""
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, 1)
    image.header["xyzt_units"] = units
    nib.save(image, path)


def edit_images(root, pattern, change):
    """Save images again with the voxels that a function returns."""
    for path in (root / "sub-01/anat").glob(f"*{pattern}*.nii.gz"):
        save(path, change(np.asanyarray(nib.load(path).dataobj)))


@pytest.fixture
def head(make_dataset):
    return make_dataset(shape=SMOOTH, affine=AFFINE, voxels=smooth_head)


@pytest.mark.parametrize("ones", [(1,), (1, 1)])
def test_further_dimensions_of_one(head, ones):
    edit_images(head, "sub", lambda voxels: voxels.reshape(*SMOOTH, *ones))
    row, problems = audit(head)
    assert problems == []
    assert row["matrix"] == "20×18×16"
    stored = "×".join(map(str, (*SMOOTH, *ones)))
    assert row["decisions"] == f"all images: stored as {stored}, read as 20×18×16"


def test_dimension_of_one_of_a_mask(head):
    voxels = np.zeros((*SMOOTH, 1), np.uint8)
    voxels[5:15, 5:15, 5:15] = 1
    user_mask(head, voxels)
    row, problems = audit(head)
    assert problems == []
    assert row["mask"] == "user"
    assert "1 of 7 images: stored as 20×18×16×1" in row["decisions"]


def test_dimension_of_one_and_metres_of_every_other_image(tmp_path):
    """Of labels, atlases, lesions, T1w and FLAIR, by the functions that read them."""
    labels = np.zeros((4, 5, 6, 1), np.int16)
    labels[1:3, 2, 3] = 1
    path = tmp_path / "labels.nii.gz"
    save(path, labels, affine=np.diag([0.002, 0.002, 0.003, 1]), units=1)
    (tmp_path / "labels.tsv").write_text("index\tname\n1\tiron\n")
    atlas = load_atlas(str(path))
    assert atlas.labels.shape == (4, 5, 6)
    np.testing.assert_allclose(atlas.affine, AFFINE, rtol=1e-6)
    for read in (read_labels, read_mask):
        assert (read(path) == (labels[..., 0] > 0)).all()
    for read in (read_canonical, read_single_volume):
        data, image = read(path)
        assert data.shape == image.shape == (4, 5, 6)
        np.testing.assert_allclose(image.affine, AFFINE, rtol=1e-6)
    assert write_volume(tmp_path / "copy.nii", data, image)
    assert nib.load(tmp_path / "copy.nii").header.get_xyzt_units()[0] == "mm"
    reference = tmp_path / "scan.nii.gz"
    save(reference, np.zeros((4, 5, 6), np.float32))
    assert have_same_grid(path, reference)


def test_single_slice_is_not_called_a_stack(head):
    edit_images(head, "echo-1_part-mag", lambda voxels: voxels[..., 0])
    _, problems = audit(head)
    assert "the image is 2-D (20×18)" in str(problems[0])


@pytest.mark.parametrize(("code", "millimetres"), [(1, 1000), (3, 0.001)])
@pytest.mark.parametrize("name", ["image.nii", "image.nii.gz"])
def test_positions_in_metres_and_micrometres(tmp_path, name, code, millimetres):
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4, 1)
    tilted = AFFINE @ [[0.8, -0.6, 0, -30], [0.6, 0.8, 0, 20], [0, 0, 1, 10], [0, 0, 0, 1]]
    affine = tilted.copy()
    affine[:3] /= millimetres
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, 1)
    image.header["xyzt_units"] = code + 8  # seconds
    nib.save(image, tmp_path / name)
    summary = summarize_image(tmp_path / name)
    opened = load_volume(tmp_path / name)
    for grid in (summary.affine, summary.scanner.affine, opened.affine, opened.get_qform()):
        np.testing.assert_allclose(grid, tilted, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(summary.voxel_size, (2, 2, 3), rtol=1e-6)
    assert summary.scanner.code == 1
    assert opened.header.get_xyzt_units() == ("mm", "sec")
    np.testing.assert_array_equal(opened.get_fdata(), voxels[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / name)[2], voxels[..., 0])


@pytest.mark.parametrize(
    ("size", "code", "voxel_size", "severity", "text"),
    [
        (0.002, 1, "2×2×2", None, "in metres, converted to mm"),
        (2000, 3, "2×2×2", None, "in micrometres, converted to mm"),
        (2, 0, "2×2×2", None, None),  # no unit
        (2, 7, "2×2×2", None, None),  # a code that NIfTI does not have
        (2, 1, "2×2×2", "warning", "read in mm, although the header states metres"),
        (0.002, 2, None, "error", "voxels of 0.002×0.002×0.002 mm"),
        (0.002, 0, None, "error", "if the numbers are in metres"),
        (20, 2, None, "error", "sizes of 0.1 to 10 mm are processed"),
        (0.1, 2, "0.1×0.1×0.1", None, None),
        (10, 2, "10×10×10", None, None),
    ],
)
def test_unit_of_space(make_dataset, size, code, voxel_size, severity, text):
    root = make_dataset(voxels=smooth_head)
    for path in (root / "sub-01/anat").glob("*.nii.gz"):
        voxels = nib.load(path).get_fdata(dtype=np.float32)
        save(path, voxels, affine=np.diag([size, size, size, 1]), units=code)
    row, problems = audit(root)
    assert {problem.severity for problem in problems} == ({severity} if severity else set())
    assert row["voxel_size"] == voxel_size
    if text:
        assert text in "".join(of_severity(problems, "error")) + str(row["decisions"])


@pytest.mark.parametrize("manufacturer", ["Philips Medical Systems", "GE MEDICAL SYSTEMS"])
def test_milliradians(head, manufacturer):
    edit_sidecars(head, "sub", Manufacturer=manufacturer, Units="arbitrary")
    edit_images(head, "part-phase", lambda phase: np.rint(1000 * phase).astype(np.int16))
    row, problems = audit(head)
    assert problems == []
    assert row["phase_encoding"] == "milliradians, -3142 to 3142"
    assert row["phase_sign"] == (-1 if "GE" in manufacturer else 1)


def test_milliradians_whose_slope_was_lost_in_one_echo(head):
    edit_sidecars(head, "sub", Manufacturer="Philips", Units="arbitrary")
    edit_images(head, "part-phase", lambda phase: 1000 * phase)
    edit_images(head, "echo-2_part-phase", lambda stored: np.rint((stored + 3142) / 1.53455))
    _, problems = audit(head)
    (error,) = of_severity(problems, "error")
    assert "echo 2: 2…4093, echo 3: -3142…" in error


# What each unit stores, from radians.
STORED_IN = {
    "rad": lambda phase: phase,
    "mrad": lambda phase: np.rint(1000 * phase).astype(np.int16),
    "deg": lambda phase: np.degrees(phase).astype(np.float32),
}


@pytest.fixture(scope="module")
def plain_heads(tmp_path_factory):
    """The smooth head in radians, for copies: phase that wraps, or only some tenths of a radian,
    and the latter masked.
    """

    def masked(part, time):
        return np.where(ball(0.7), smooth_head(part, time, start=0), 0).astype(np.float32)

    kinds = {
        "wrapped": (smooth_head, 0.006),
        "narrow": (smooth_head, 0.001),
        "masked": (masked, 0.001),
    }
    roots = {}
    for kind, (voxels, time) in kinds.items():
        root = tmp_path_factory.mktemp("heads") / kind
        times = (time, 2 * time, 3 * time)
        roots[kind] = write_dataset(
            root, shape=SMOOTH, affine=AFFINE, echo_times=times, voxels=voxels
        )
    return roots


@pytest.mark.parametrize(
    ("units", "odd", "unit", "manufacturer"),
    [
        (("mrad", "rad", "rad"), (2, 3), "arbitrary", "Philips"),
        (("rad", "mrad", "mrad"), (1,), "arbitrary", "Philips"),
        (("mrad", "mrad", "rad"), (3,), "mrad", "GE"),
        (("deg", "rad", "rad"), (2, 3), "deg", "GE"),
        (("rad", "rad", "deg"), (1, 2), "deg", "GE"),
        (("mrad", "deg", "mrad"), (2,), "mrad", "GE"),
    ],
)
def test_echoes_in_two_units(plain_heads, tmp_path, units, odd, unit, manufacturer):
    """The phase of one echo is 17 to 1000 times that of another."""
    root = shutil.copytree(plain_heads["wrapped"], tmp_path / "raw")
    edit_sidecars(root, "sub", Manufacturer=manufacturer)
    edit_sidecars(root, "part-phase", Units=unit)
    for echo, stored in enumerate(units, start=1):
        edit_images(root, f"echo-{echo}_part-phase", STORED_IN[stored])
    _, problems = audit(root)
    names = ", ".join(f"sub-01_echo-{echo}_part-phase_MEGRE.nii.gz" for echo in odd)
    (error,) = of_severity(problems, "error")
    assert f"{names}: phase is not stored in the same way in all echoes (echo 1: " in error


@pytest.mark.parametrize(
    ("kind", "units"),
    [("narrow", ("rad", "mrad")), ("narrow", ("rad", "deg")), ("masked", ("rad", "mrad"))],
)
def test_narrow_echoes_in_two_units(plain_heads, tmp_path, kind, units):
    """Phase that does not wrap fills the range of no unit, but differs as much."""
    root = shutil.copytree(plain_heads[kind], tmp_path / "raw")
    edit_sidecars(root, "part-phase", Units="deg" if "deg" in units else "mrad")
    for echo, stored in enumerate((*units, units[1]), start=1):
        edit_images(root, f"echo-{echo}_part-phase", STORED_IN[stored])
    (error,) = of_severity(audit(root)[1], "error")
    assert "phase is not stored in the same way in all echoes (echo 1: " in error


def test_voxel_beyond_the_range_hides_no_other_unit(plain_heads, tmp_path):
    root = shutil.copytree(plain_heads["narrow"], tmp_path / "raw")
    edit_sidecars(root, "part-phase", Units="mrad")
    edit_images(root, "echo-[23]_part-phase", STORED_IN["mrad"])

    def change(phase):
        phase = phase.copy()
        phase[0, 0, 0] = 3000
        return phase

    edit_images(root, "echo-1_part-phase", change)
    (error,) = of_severity(audit(root)[1], "error")
    assert "echo-1_part-phase_MEGRE.nii.gz: phase is not stored in the same way" in error


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("wrapped", "mrad"), ("narrow", "rad"), ("narrow", "deg"), ("masked", "mrad")],
)
def test_echoes_in_one_unit(plain_heads, tmp_path, kind, stored):
    """Little phase in all echoes, or in the first, is no other unit; nor is a voxel beyond it."""
    root = shutil.copytree(plain_heads[kind], tmp_path / "raw")
    edit_sidecars(root, "part-phase", Units=stored)

    def change(phase):
        phase = phase.copy()
        phase[10, 9, 8:10] = (-3, 3)
        return STORED_IN[stored](phase)

    edit_images(root, "echo-1_part-phase", change)
    edit_images(root, "echo-[23]_part-phase", STORED_IN[stored])
    assert of_severity(audit(root)[1], "error") == []


@pytest.mark.parametrize("order", [(1, 3, 2), (3, 1, 2), (3, 2, 1)])
def test_numbers_of_echoes_in_any_order(tmp_path, order, make_dataset):
    times = tuple(0.006 * number for number in order)
    row, problems = audit(make_dataset(echo_times=times, voxels=smooth_head))
    (warning,) = map(str, problems)
    assert "not in the order of EchoTime: echo 1 at" in warning
    assert row["echo_times"] == "6, 12, 18"
    numbers = ", ".join(str(order.index(number) + 1) for number in (1, 2, 3))
    assert row["decisions"] == f"echoes were sorted by EchoTime, which is the order {numbers}"


@pytest.mark.parametrize(
    ("difference", "is_used"), [(1e-6, True), (2.9e-5, True), (3.1e-5, False), (1e-3, False)]
)
def test_echo_times_of_magnitude_and_phase(head, difference, is_used):
    # With a spacing of 6 ms, 30 µs change the field by half a percent.
    edit_sidecars(head, "echo-2_part-phase", EchoTime=0.012 + difference)
    row, problems = audit(head)
    assert bool(of_severity(problems, "error")) != is_used
    if is_used:
        assert f"differs by up to {1e6 * difference:.3g} µs" in row["decisions"]


def test_names_of_a_manufacturer(head):
    edit_sidecars(head, "part-phase", Manufacturer="SIEMENS Healthineers")
    row, problems = audit(head)
    assert problems == []
    assert row["decisions"] == (
        "'Siemens' and 'SIEMENS Healthineers' are read as one manufacturer, Siemens"
    )


def test_names_of_a_manufacturer_in_several_scans(make_dataset):
    root = make_dataset(subjects=("01", "02", "03"))
    edit_sidecars(root, "sub", Manufacturer="SIEMENS")
    scans, _ = collect_scans(root)
    rows = audit_table(inspect_scans(scans), [])
    assert rows["site_deviations"].isna().all()


def ball(size=0.8):
    x, y, z = coordinates()
    return x**2 + y**2 + z**2 < size**2


def head_in_air(part, echo_time):
    """The smooth head as a ball, with noise outside."""
    noise = np.random.default_rng(round(1e7 * echo_time)).normal(0, 20, (*SMOOTH, 2))
    signal = ball() * smooth_head("mag", echo_time) * np.exp(1j * smooth_head("phase", echo_time))
    signal = signal + (~ball()) * noise.view(complex)[..., 0]
    return {"mag": np.abs, "phase": np.angle, "real": np.real, "imag": np.imag}[part](
        signal
    ).astype(np.float32)


@pytest.fixture(scope="module")
def airy(tmp_path_factory):
    """A head in air, and its decoded images, for copies."""
    root = tmp_path_factory.mktemp("airy") / "raw"
    write_dataset(root, shape=SMOOTH, affine=AFFINE, voxels=head_in_air)
    return root, decoded(root)


@pytest.mark.parametrize(
    ("value", "parts", "size"),
    [
        (np.nan, ("phase",), 0.8),
        (np.nan, ("phase",), 0.6),
        (np.nan, ("mag",), 0.8),
        (np.inf, ("mag", "phase"), 0.8),
        (0, ("phase",), 0.6),
        (0, ("mag",), 0.8),
        (0, ("mag", "phase"), 0.8),
    ],
)
def test_values_outside_the_head(airy, tmp_path, value, parts, size):
    """Whatever masked it, also more tightly than the head: the rest is as it was."""
    root, expected = airy
    root = shutil.copytree(root, tmp_path / "raw")
    for part in parts:
        edit_images(root, f"part-{part}", lambda voxels: np.where(ball(size), voxels, value))
    row, problems = audit(root)
    assert of_severity(problems, "error") == []
    if "phase" in parts and value == 0:
        assert "% of the phase is 0 in all echoes, as after masking" in row["decisions"]
    elif value != 0:
        assert "voxels of an image: read as 0" in row["decisions"]
    magnitude, phase = decoded(root)
    assert np.isfinite([magnitude, phase]).all()
    for values, true in zip((magnitude, phase), expected, strict=True):
        np.testing.assert_array_equal(values[ball(size)], true[ball(size)])
    assert (magnitude[~ball(size)] == 0).all()


@pytest.mark.parametrize("background", [0, 2048])
def test_integers_in_a_cropped_field_of_view(make_dataset, background):
    """A background of zeros, or of a constant, in magnitude and phase that hardly wraps."""

    def voxels(part, time):
        values = smooth_head(part, 0.1 * time)
        if part == "phase":
            return np.where(ball(), np.rint(2048 + 652 * values), background).astype(np.int16)
        return np.where(ball(), values, 0 if background else 5000).astype(np.int16)

    root = make_dataset(
        shape=SMOOTH, voxels=voxels, metadata={"Units": "arbitrary", "Manufacturer": "Siemens"}
    )
    assert "exchanged" not in "".join(of_severity(audit(root)[1], "error"))


def test_masked_phase_is_no_exchanged_magnitude(make_dataset):
    """A magnitude that falls from head to air within a voxel jumps more than a masked phase."""

    def voxels(part, time):
        if part == "phase":
            return np.where(ball(), np.clip(smooth_head(part, 0.001), -2, 2), 0).astype(np.float32)
        return (ball() * smooth_head(part, time)).astype(np.float32)

    root = make_dataset(suffix="T2starw", echo_times=(0.006,), voxels=voxels)
    assert of_severity(audit(root)[1], "error") == []


@pytest.mark.parametrize("part", ["mag", "phase"])
def test_nan_in_the_air_of_one_echo(airy, tmp_path, part):
    root = shutil.copytree(airy[0], tmp_path / "raw")
    edit_images(root, f"echo-2_part-{part}", lambda voxels: np.where(ball(1), voxels, np.nan))
    _, problems = audit(root)
    assert {problem.severity for problem in problems} == {"warning"}


@pytest.mark.parametrize("part", ["mag", "phase"])
@pytest.mark.parametrize("echoes", ["echo", "echo-2"])
def test_nan_inside_the_head(airy, tmp_path, part, echoes):
    root = shutil.copytree(airy[0], tmp_path / "raw")
    edit_images(root, f"{echoes}*part-{part}", lambda voxels: np.where(ball(0.3), np.nan, voxels))
    errors = of_severity(audit(root)[1], "error")
    n_inside = sum("inside the brain" in error for error in errors)
    assert n_inside == len(errors) > 0


@pytest.mark.parametrize(
    ("times", "fields", "cause"),
    [
        ((0.00007, 0.0022), {}, None),
        ((0.00007, 0.0022), {"SequenceName": "UTE", "RepetitionTime": 0.005}, None),
        ((0.07, 0.5), {}, "EchoTime is 0.5 s, when a gradient echo has no signal any more"),
        ((0.03, 0.06), {"RepetitionTime": 0.05}, "but RepetitionTime 0.05 s: it seems"),
        ((0.07, 0.14), {"SeriesDescription": "3D_UTE_head"}, "the sequence has ultrashort echoes"),
        ((0.03, 0.06), {"SeriesDescription": "minute scan"}, None),
        ((0.07, 2.2), {}, "EchoTime is 2.2 s: it seems to be in milliseconds"),
    ],
)
def test_ultrashort_echo_times_in_milliseconds(make_dataset, times, fields, cause):
    root = make_dataset(echo_times=times, metadata=fields, shape=SMOOTH, voxels=decaying_slowly)
    errors = of_severity(audit(root)[1], "error")
    assert bool(errors) == bool(cause)
    assert not cause or cause in errors[0]


def decaying_slowly(part, echo_time):
    return smooth_head(part, echo_time if echo_time < 0.025 else echo_time / 10)


SCALES = (1e-16, 1e12)


def clipped(voxels):
    return np.minimum(voxels, np.percentile(voxels, 95))


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (lambda voxels, echo: voxels, ""),
        (lambda voxels, echo: voxels * (0.85 if echo == 2 else 1), "what is expected from the"),
        (lambda voxels, echo: voxels[::-1] if echo == 2 else voxels, "mirror"),
        (lambda voxels, echo: clipped(voxels), "have the"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_checks_of_magnitudes_of_any_scale(tmp_path, fault, cause):
    """Each fault causes the same warnings at every scale, and a good scan none."""
    x, _, _ = coordinates()
    reports = []
    for scale in (1, *SCALES):

        def voxels(part, time, scale=scale):
            image = smooth_head(part, time)
            if part == "phase":
                return image
            image = fault(image * np.float32(1 + 0.5 * x), round(time / 0.006))
            return (scale * image.astype(float)).astype(np.float32)

        root = write_dataset(tmp_path / f"{scale:g}", shape=SMOOTH, voxels=voxels)
        _, problems = audit(root)
        reports.append([problem.cause.split(" maximum ")[0] for problem in problems])
        assert any(cause in text for text in reports[-1]) or not (cause or problems)
    assert all(report == reports[0] for report in reports)


@pytest.mark.parametrize("parts", [("mag", "phase"), ("real", "imag")])
@pytest.mark.filterwarnings("error")
def test_magnitudes_of_any_scale_are_decoded(tmp_path, parts):
    """Only a power of two is multiplied, so that all later steps are the same."""
    outputs = {}
    for scale in (1.0, 2.0**-53, 2.0**40):

        def voxels(part, time, scale=scale):
            image = smooth_head(part, time)
            return image if part == "phase" else image * np.float32(scale)

        root = write_dataset(tmp_path / f"{scale:g}", parts=parts, shape=SMOOTH, voxels=voxels)
        outputs[scale] = decoded(root)
    magnitude, phase = outputs.pop(1.0)
    for scaled_magnitude, scaled_phase in outputs.values():
        factor = scaled_magnitude.max() / magnitude.max()
        assert np.log2(factor).is_integer()
        assert 0.01 < scaled_magnitude.max() < 1e6
        np.testing.assert_array_equal(scaled_magnitude, factor * magnitude)
        np.testing.assert_allclose(scaled_phase, phase, atol=1e-6)


def chop(voxels, part, axis):
    """Change the sign of every second voxel along an axis."""
    is_odd = np.moveaxis((np.arange(SMOOTH[axis]) % 2 == 1).reshape(-1, 1, 1), 0, axis)
    if part in ("real", "imag"):
        return np.where(is_odd, -voxels, voxels).astype(np.float32)
    shifted = np.angle(np.exp(1j * (voxels + np.pi * is_odd)))
    return voxels if part == "mag" else shifted.astype(np.float32)


@pytest.mark.parametrize(
    ("parts", "axis", "name"),
    [(("mag", "phase"), 2, "third axis"), (("real", "imag"), 0, "first axis")],
)
def test_sign_that_alternates_in_all_echoes_is_undone(tmp_path, parts, axis, name):
    options = {"parts": parts, "shape": SMOOTH, "metadata": {"Manufacturer": "GE MEDICAL SYSTEMS"}}
    true = write_dataset(tmp_path / "true", voxels=smooth_head, **options)
    chopped = write_dataset(
        tmp_path / "chopped",
        voxels=lambda part, te: chop(smooth_head(part, te), part, axis),
        **options,
    )
    row, problems = audit(chopped)
    assert problems == []
    assert row["decisions"] == (
        f"the sign alternates from voxel to voxel along the {name} in all echoes: undone"
    )
    magnitude, phase = decoded(chopped)
    true_magnitude, true_phase = decoded(true)
    np.testing.assert_allclose(magnitude, true_magnitude, rtol=1e-6)
    np.testing.assert_allclose(np.exp(1j * phase), np.exp(1j * true_phase), atol=1e-5)


@pytest.mark.parametrize(("manufacturer", "is_undone"), [("GE", True), ("Siemens", False)])
def test_sign_that_alternates_in_a_single_echo(make_dataset, manufacturer, is_undone):
    """It may be a steep field, unless the scanner is known to chop."""
    root = make_dataset(
        suffix="T2starw",
        echo_times=(0.006,),
        metadata={"Manufacturer": manufacturer},
        voxels=lambda part, te: chop(smooth_head(part, te), part, 2),
    )
    row, problems = audit(root)
    assert bool(of_severity(problems, "error")) != is_undone
    assert ("undone" in str(row["decisions"])) == is_undone


def test_steep_field_is_no_alternating_sign(make_dataset):
    """A gradient by which the first echo changes by half a cycle from slice to slice."""

    def steep(part, te):
        ramp = np.pi * (te / 0.006) * 0.97 * np.arange(SMOOTH[2])
        phase = np.angle(np.exp(1j * (smooth_head("phase", te) + ramp)))
        return phase.astype(np.float32) if part == "phase" else smooth_head(part, te)

    row, problems = audit(make_dataset(voxels=steep))
    assert len(of_severity(problems, "error")) == 1
    assert "undone" not in str(row["decisions"])


@pytest.mark.parametrize(
    ("image_type", "kinds"),
    [
        (["ORIGINAL", "PRIMARY", "PROTON_DENSITY", "NONE"], []),
        (["ORIGINAL", "PRIMARY", "MPR", "PRECONTRAST", "IR", "MIXED"], []),
        (["ORIGINAL", "PRIMARY", "M", "ND", "NORM"], ["magnitude"]),
        (["ORIGINAL", "PRIMARY", "P_FFE", "P", "FFE"], ["phase"]),
        (["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"], ["phase"]),
        ("DERIVED\\PRIMARY\\PHASE", ["phase"]),
        (["DERIVED", "SECONDARY", "real"], ["real"]),
        (["ORIGINAL", "PRIMARY", "IMAGINARY"], ["imaginary"]),
        (None, []),
        (7, []),
    ],
)
def test_image_type_is_read_word_by_word(image_type, kinds):
    assert image_kinds(image_type) == kinds


def test_magnitude_weighted_by_proton_density(head):
    edit_sidecars(head, "part-mag", ImageType=["DERIVED", "PRIMARY", "PROTON_DENSITY"])
    assert audit(head)[1] == []


def stack(root, part, times, *, order=(0, 1, 2), ones=()):
    """Replace the files of a part by one with all echoes, and list their times."""
    paths = sorted((root / "sub-01/anat").glob(f"*part-{part}*.nii.gz"))
    voxels = [np.asanyarray(nib.load(paths[place]).dataobj) for place in order]
    sidecar = json.loads(paths[0].with_suffix("").with_suffix(".json").read_text())
    for path in paths:
        path.unlink()
        path.with_suffix("").with_suffix(".json").unlink()
    target = root / f"sub-01/anat/sub-01_part-{part}_MEGRE.nii.gz"
    voxels = np.stack(voxels, axis=-1)
    save(target, voxels.reshape(*SMOOTH, *ones, voxels.shape[-1]))
    target.with_suffix("").with_suffix(".json").write_text(
        json.dumps({**sidecar, "EchoTime": times})
    )


TIMES = [0.006, 0.012, 0.018]


@pytest.fixture(scope="module")
def decoded_head(tmp_path_factory):
    """Magnitude and phase of the head in files of one echo."""
    root = tmp_path_factory.mktemp("apart") / "raw"
    return decoded(write_dataset(root, shape=SMOOTH, affine=AFFINE, voxels=smooth_head))


@pytest.mark.parametrize(
    ("stacked_parts", "ones"), [(("mag", "phase"), ()), (("mag", "phase"), (1,)), (("phase",), ())]
)
def test_all_echoes_in_one_file(head, decoded_head, stacked_parts, ones):
    """Every echo of the stack is decoded as if it were a file of its own."""
    for part in stacked_parts:
        stack(head, part, TIMES, ones=ones)
    row, problems = audit(head)
    assert problems == []
    assert (row["n_echoes"], row["echo_times"], row["matrix"]) == (3, "6, 12, 18", "20×18×16")
    assert "with all echoes along the fourth axis: 3 volumes" in row["decisions"]
    for stacked, apart in zip(decoded(head), decoded_head, strict=True):
        np.testing.assert_array_equal(stacked, apart)


def test_all_echoes_in_one_file_in_another_order(head, decoded_head):
    for part in ("mag", "phase"):
        stack(head, part, [0.012, 0.006, 0.018], order=(1, 0, 2))
    row, problems = audit(head)
    assert of_severity(problems, "error") == []
    assert row["echo_times"] == "6, 12, 18"
    for stacked, apart in zip(decoded(head), decoded_head, strict=True):
        np.testing.assert_array_equal(stacked, apart)


def decoded(root):
    """Decode magnitude and phase of the only scan."""
    (scan,), _ = collect_scans(root)
    (inspection,) = inspect_scans([scan])
    workflow = init_scan_wf(
        inspection.scan,
        bids_dir=root,
        output_dir=root.parent / "out",
        settings=Settings(),
        threads=1,
    )
    decode = workflow.get_node("decode").interface
    folder = root.parent / "decoded"
    folder.mkdir(exist_ok=True)
    outputs = decode.run(cwd=str(folder)).outputs
    assert outputs.provenance.get("InputDecisions", []) == list(inspection.scan.decisions)
    return [nib.load(outputs.magnitude_file).get_fdata(), nib.load(outputs.phase_file).get_fdata()]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.006, 0.012], "lists 2 echo times (6, 12 ms), but the image has 3 volumes"),
        ([0.006], "lists 1 echo time (6 ms), but the image has 3 volumes"),
        (0.006, "no echo in the name; all echoes may be stacked"),
        ([0.006, "12 ms", 0.018], "no echo in the name; all echoes may be stacked"),
    ],
)
def test_times_that_do_not_fit_a_stack(head, times, message):
    for part in ("mag", "phase"):
        stack(head, part, times)
    _, left_out = collect_scans(head, none_is_an_error=False)
    assert message in str(left_out[0])


def test_times_of_a_stack_in_milliseconds(head):
    for part in ("mag", "phase"):
        stack(head, part, [6, 12, 18])
    _, problems = audit(head)
    assert "EchoTime is 6 s: it seems to be in milliseconds" in str(problems[0])


def test_list_of_times_that_all_echoes_share(head):
    edit_sidecars(head, "sub", EchoTime=TIMES)
    row, problems = audit(head)
    assert (problems, row["echo_times"]) == ([], "6, 12, 18")
    edit_sidecars(head, "sub", EchoTime=TIMES[:2])
    _, left_out = collect_scans(head, none_is_an_error=False)
    assert "lists 2 times (6, 12 ms), but this part has 3 files" in str(left_out[0])


def coil_images(root, pattern, *, keep, entity="coil"):
    """Copy images to two coils; keep the combined ones or not."""
    for path in list((root / "sub-01/anat").glob(f"*{pattern}*")):
        for coil in ("01", "02"):
            name = path.name.replace("sub-01_", f"sub-01_{entity}-{coil}_")
            path.with_name(name).write_bytes(path.read_bytes())
        if not keep:
            path.unlink()


@pytest.mark.parametrize(
    ("pattern", "entity", "message"),
    [
        (
            "sub",
            "coil",
            "12 images of single coils (coil-01 … coil-02): the coils are not combined",
        ),
        (
            "phase",
            "coil",
            "6 images of single coils (coil-01 … coil-02) with one combined magnitude:",
        ),
        ("phase", "channel", "(channel-01 … channel-02) with one combined magnitude:"),
    ],
)
def test_coils_that_are_not_combined(head, pattern, entity, message):
    coil_images(head, pattern, keep=False, entity=entity)
    _, (problem,) = collect_scans(head, none_is_an_error=False)
    assert (problem.scan, problem.severity) == ("sub-01", "error")
    assert message in problem.cause
    assert "combine the coils of each echo" in problem.remedy


def test_coils_beside_combined_images(head):
    coil_images(head, "sub", keep=True)
    (scan,), (problem,) = collect_scans(head)
    assert scan.label == "sub-01"
    assert (problem.severity, problem.cause) == (
        "note",
        "12 images of single coils not used: there are combined images",
    )


def test_coils_along_the_fourth_axis(head):
    edit_sidecars(head, "sub", ImageType=["ORIGINAL", "PRIMARY", "UNCOMBINED"])
    edit_images(head, "sub", lambda voxels: np.stack([voxels, voxels], axis=-1))
    _, problems = audit(head)
    assert "the image is 4-D (20×18×16×2): its coils are not combined" in str(problems[0])


def test_case_of_coils(copy_case):
    _, (problem,) = collect_scans(copy_case("uncombined_coils"), none_is_an_error=False)
    assert "8 images of single coils (coil-01 … coil-02): the coils are not combined" in str(
        problem
    )


@pytest.mark.parametrize(
    ("case", "column", "text"),
    [
        ("singleton_dimension", "decisions", "read as 20×20×12"),
        ("milliradians_philips", "phase_encoding", "milliradians, -3142 to 3142"),
        ("interleaved_echoes", "decisions", "which is the order 1, 3, 2, 4"),
        ("manufacturer_case", "decisions", "read as one manufacturer, Siemens"),
        ("voxels_in_metres", "voxel_size", "4×4×4"),
    ],
)
def test_cases(copy_case, case, column, text):
    row, problems = audit(copy_case(case))
    assert of_severity(problems, "error") == []
    assert text in row[column]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("sub", "but named as one echo: as if its volumes were coils that are not combined"),
        ("phase", "but the magnitude is 3-D: one combined magnitude for several phases"),
    ],
)
def test_volumes_of_an_image_named_as_one_echo(head, pattern, text):
    edit_images(head, pattern, lambda voxels: np.stack([voxels] * 4, axis=-1))
    _, problems = audit(head)
    errors = of_severity(problems, "error")
    assert len(errors) == (6 if pattern == "sub" else 3)
    assert all(text in error and "combine the coils" in error for error in errors)
    assert "stacked" not in "".join(errors)


@pytest.mark.parametrize("value", ["n/a", "", "Anonymized"])
def test_values_that_stand_for_a_missing_one(head, value):
    edit_sidecars(
        head,
        "echo-2",
        Manufacturer=value,
        FlipAngle=value,
        ManufacturersModelName=value,
        ImagingFrequency=value,
    )
    edit_sidecars(
        head, "echo-1", Manufacturer="Siemens", FlipAngle=15, ManufacturersModelName="Prisma"
    )
    row, problems = audit(head)
    assert problems == []
    assert row["manufacturer"] == "Siemens"
    assert f"Manufacturer {value!r} counts as missing (2 files of 6)" in row["decisions"]


def user_mask(root, voxels):
    path = root / "derivatives/masks/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    path.parent.mkdir(parents=True)
    description = {"Name": "Masks", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (root / "derivatives/masks/dataset_description.json").write_text(json.dumps(description))
    save(path, voxels)
    return path


def test_mask_that_is_nan_outside_the_head(head):
    path = user_mask(head, np.where(ball(), np.float32(1), np.float32(np.nan)))
    row, problems = audit(head)
    assert problems == []
    n_outside = np.count_nonzero(~ball())
    assert (
        row["decisions"] == f"{n_outside} voxels of the brain mask are NaN or infinite: read as 0"
    )
    np.testing.assert_array_equal(read_mask(path), ball())


def test_mask_of_nan_alone_is_empty(head):
    user_mask(head, np.full(SMOOTH, np.float32(np.nan)))
    (error,) = of_severity(audit(head)[1], "error")
    assert "the brain mask is empty; make it again" in error


def test_echo_times_in_microseconds(make_dataset):
    _, problems = audit(make_dataset(echo_times=(6000, 12000, 18000)))
    errors = of_severity(problems, "error")
    assert all("it seems to be in microseconds" in error for error in errors)


def test_nan_of_several_images_is_one_warning(head):
    edit_images(head, "phase", lambda phase: np.where(ball(), phase, np.float32(np.nan)))
    _, problems = audit(head)
    (warning,) = of_severity(problems, "warning")
    assert "echo-1_part-phase_MEGRE.nii.gz and 2 more: " in warning
