"""B0 is read from the scanner form in every step, and images keep their position."""

import json
import shutil
from itertools import product

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multiqsm.cli.app import main
from multiqsm.core.dipole import b0_direction, rotation_between
from multiqsm.dataset.audit import audit_table, inspect_scans
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.forms import scanner_form
from multiqsm.dataset.preflight.inspection import inspect_scan
from multiqsm.dataset.protocol import read_protocol
from multiqsm.interfaces.background import HighPass
from multiqsm.interfaces.harmonization import CropKSpace
from multiqsm.interfaces.images import geometry, write_volume
from multiqsm.interfaces.inversion import Deterministic
from multiqsm.interfaces.phase import DecodeEchoes

VOXEL_SIZE = (2.5, 2.5, 3.0)
GEOMETRIES = (nib.Nifti1Image, nib.Nifti2Image)


def turned(degrees, *, voxel_size=VOXEL_SIZE, mirrored=False):
    """Affine of voxels that are rotated about two axes."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler(
        "xy", (degrees, degrees / 2), degrees=True
    ).as_matrix() * np.array(voxel_size)
    affine[:3, 3] = -40, -30, -20
    return affine @ np.diag([-1 if mirrored else 1, 1, 1, 1])


SCANNED, MOVED = turned(10), turned(35)
DEGREES = rotation_between(SCANNED, MOVED)


def image_with(
    sform=None,
    sform_code=0,
    qform=None,
    qform_code=0,
    *,
    shape=(6, 5, 4),
    image_class=nib.Nifti1Image,
):
    """An image of noise with these forms."""
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    image = image_class(values, SCANNED)
    image.set_qform(SCANNED if qform is None else qform, qform_code)
    image.set_sform(SCANNED if sform is None else sform, sform_code)
    return image


def set_forms(root, **forms):
    """Replace the forms of all images of a dataset."""
    for path in root.glob("sub-*/**/*.nii.gz"):
        values = nib.load(path).get_fdata(dtype=np.float32)
        image = image_with(**forms, shape=values.shape)
        nib.save(nib.Nifti1Image(values, None, image.header), path)


def centre_index(image):
    return np.append((np.array(image.shape[:3]) - 1) / 2, 1)


def inspect(root):
    (scan,), _ = collect_scans(root)
    return inspect_scan(scan)


@pytest.mark.parametrize("image_class", GEOMETRIES)
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("codes", "name"),
    [
        ((2, 1), "qform"),
        ((3, 1), "qform"),
        ((4, 1), "qform"),
        ((0, 1), "qform"),
        ((1, 2), "sform"),
        ((1, 0), "sform"),
    ],
)
def test_b0_is_read_from_the_scanner_form(codes, name, mirrored, image_class, tmp_path):
    scanned, moved = turned(10, mirrored=mirrored), turned(35, mirrored=mirrored)
    forms = {"sform": moved, "qform": moved} | {name: scanned}
    image = image_with(**forms, sform_code=codes[0], qform_code=codes[1], image_class=image_class)
    nib.save(image, tmp_path / "image.nii")
    image = nib.load(tmp_path / "image.nii")
    form = scanner_form(image)
    assert (form.name, form.code, str(form)) == (name, 1, f"{name} (code 1, scanner)")
    np.testing.assert_allclose(geometry(image)["b0_dir"], b0_direction(scanned), atol=1e-6)
    np.testing.assert_allclose(geometry(image)["voxel_size"], VOXEL_SIZE, rtol=1e-6)


@pytest.mark.parametrize(
    ("codes", "name"), [((2, 0), "sform"), ((0, 2), "qform"), ((2, 2), "sform"), ((4, 3), "sform")]
)
def test_without_a_scanner_form_the_affine_is_used(codes, name):
    image = image_with(SCANNED, codes[0], SCANNED if name == "qform" else MOVED, codes[1])
    assert scanner_form(image).name == name
    np.testing.assert_allclose(geometry(image)["b0_dir"], b0_direction(image.affine), atol=1e-6)


def test_image_without_forms_or_of_another_format():
    image = image_with()
    assert str(scanner_form(image)) == "neither form: the third axis of the voxels"
    np.testing.assert_allclose(geometry(image)["b0_dir"], (0, 0, 1))
    mgh_image = nib.MGHImage(np.zeros((4, 4, 4), np.float32), SCANNED)
    np.testing.assert_allclose(geometry(mgh_image)["b0_dir"], b0_direction(SCANNED), atol=1e-6)


def test_voxel_size_is_that_in_the_scanner():
    """A registration to a template with twelve degrees of freedom scales and shears voxels."""
    sheared = MOVED @ np.array([[1.2, 0.1, 0, 0], [0, 0.9, 0, 0], [0, 0, 1.1, 0], [0, 0, 0, 1]])
    image = image_with(sheared, 4, SCANNED, 1)
    np.testing.assert_allclose(geometry(image)["voxel_size"], VOXEL_SIZE, rtol=1e-6)
    np.testing.assert_allclose(geometry(image)["b0_dir"], b0_direction(SCANNED), atol=1e-6)


@pytest.mark.parametrize("codes", list(product((0, 1, 2, 4), repeat=2)))
def test_written_volume_keeps_both_forms_of_its_template(codes, tmp_path):
    like = image_with(MOVED, codes[0], SCANNED, codes[1])
    nib.save(like, tmp_path / "like.nii.gz")
    like = nib.load(tmp_path / "like.nii.gz")
    written = nib.load(write_volume(tmp_path / "made.nii.gz", np.zeros((6, 5, 4, 2)), like))
    for name in ("get_sform", "get_qform"):
        affine, code = getattr(written, name)(coded=True)
        expected_affine, expected_code = getattr(like, name)(coded=True)
        assert code == expected_code
        if expected_affine is not None:
            np.testing.assert_allclose(affine, expected_affine, atol=1e-5)
    np.testing.assert_allclose(written.affine, like.affine, atol=1e-5)
    assert geometry(written) == geometry(like)


@pytest.mark.parametrize(
    ("forms", "cause"),
    [
        ((SCANNED, 1, SCANNED, 1), None),
        (
            (SCANNED, 1, turned(10.5), 1),
            None,
        ),  # rounding and resampling change angles by up to half a degree
        ((MOVED, 2, SCANNED, 1), None),
        ((SCANNED, 1, MOVED, 2), None),
        (
            (MOVED, 1, SCANNED, 1),
            "sform and qform both claim to be in scanner coordinates (code 1), but differ by 27.9°",
        ),
        ((turned(10, mirrored=True), 1, SCANNED, 1), "but differ by 180°"),
        ((turned(12), 1, SCANNED, 1), "but differ by 2.24°"),
    ],
)
def test_two_scanner_forms_must_agree(make_dataset, forms, cause):
    root = make_dataset()
    set_forms(root, **dict(zip(("sform", "sform_code", "qform", "qform_code"), forms, strict=True)))
    problems = inspect(root).problems
    assert [problem.severity for problem in problems] == (["error"] if cause else [])
    assert all(cause in problem.cause and "and 5 more" in problem.file for problem in problems)


@pytest.mark.parametrize(
    ("forms", "cause"),
    [
        (
            (SCANNED, 2, None, 0),
            "B0 is taken from the sform (code 2, aligned), since no form of the header has code 1",
        ),
        (
            (None, 0, SCANNED, 2),
            "B0 is taken from the qform (code 2, aligned), since no form of the header has code 1",
        ),
        (
            (SCANNED, 4, MOVED, 3),
            "code 1 (scanner), and the qform (code 3, Talairach) is rotated from it by 27.9°",
        ),
        ((None, 0, None, 0), "no orientation"),
    ],
)
def test_missing_scanner_form_gives_a_warning(make_dataset, forms, cause):
    root = make_dataset()
    set_forms(root, **dict(zip(("sform", "sform_code", "qform", "qform_code"), forms, strict=True)))
    (problem,) = inspect(root).problems
    assert (problem.severity, problem.remedy[:7]) in (
        ("warning", "no acti"),
        ("warning", "convert"),
    )
    assert cause in problem.cause


@pytest.mark.parametrize(
    ("code", "qform_code", "severity"),
    [(1, 0, "error"), (2, 0, "error"), (4, 1, "warning"), (2, 1, "warning")],
)
def test_two_voxel_sizes(make_dataset, code, qform_code, severity):
    root = make_dataset()
    set_forms(
        root,
        sform=turned(10, voxel_size=(2.5, 2.5, 4)),
        sform_code=code,
        qform=SCANNED,
        qform_code=qform_code,
    )
    (problem,) = [problem for problem in inspect(root).problems if "mm" in problem.cause]
    assert problem.severity == severity
    assert "the voxel size is 2.5×2.5×4 mm in its sform" in problem.cause
    assert "2.5×2.5×3 mm in pixdim" in problem.cause


def test_form_without_a_valid_rotation_is_an_error(make_dataset):
    root = make_dataset()
    path = next(root.glob("sub-01/anat/*echo-2_part-mag*.nii.gz"))
    image = nib.load(path)
    header, values = image.header.copy(), image.get_fdata(dtype=np.float32)
    header["qform_code"], header["sform_code"], header["quatern_b"] = 1, 2, 3
    nib.save(nib.Nifti1Image(values, None, header), path)
    (problem,) = [problem for problem in inspect(root).problems if problem.severity == "error"]
    assert str(problem).startswith(
        f"sub-01: {path.name}: its qform (code 1, scanner) has no valid rotation"
    )


def test_images_of_one_scan_must_agree_on_b0(make_dataset):
    """Their sforms agree, but their qforms, which are the scanner forms, do not."""
    root = make_dataset()
    set_forms(root, sform=MOVED, sform_code=2, qform=SCANNED, qform_code=1)
    path = next(root.glob("sub-01/anat/*echo-2_part-phase*.nii.gz"))
    values = nib.load(path).get_fdata(dtype=np.float32)
    nib.save(nib.Nifti1Image(values, None, image_with(MOVED, 2, MOVED, 1).header), path)
    (problem,) = inspect(root).problems
    assert (problem.severity, problem.file) == ("error", path.name)
    assert "a direction of B0 that is rotated by 27.9° from" in problem.cause


def test_audit_has_the_angle_and_the_form(make_dataset):
    root = make_dataset()
    set_forms(root, sform=turned(34), sform_code=2, qform=turned(0), qform_code=1)
    scans, _ = collect_scans(root)
    row = audit_table(inspect_scans(scans), []).iloc[0]
    assert (row["b0_angle"], row["b0_source"]) == (
        pytest.approx(0, abs=0.05),
        "qform (code 1, scanner)",
    )
    assert read_protocol(scans[0]).voxel_size == pytest.approx(VOXEL_SIZE)


def test_b0_survives_decoding_cropping_background_and_inversion(
    make_dataset, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    root = make_dataset(shape=(12, 12, 10))
    set_forms(root, sform=MOVED, sform_code=2, qform=SCANNED, qform_code=1)
    (scan,), _ = collect_scans(root)
    parts = {part: list(map(str, paths)) for part, paths in scan.parts.items()}
    decoded = DecodeEchoes(**parts, units="rad").run().outputs
    files = {"magnitude_file": decoded.magnitude_file, "phase_file": decoded.phase_file}
    (tmp_path / "cropped").mkdir()
    cropped = CropKSpace(**files, matrix=[8, 12, 5]).run(cwd=str(tmp_path / "cropped")).outputs
    for file, before, size in (
        (decoded.phase_file, scan.files[0], VOXEL_SIZE),
        (cropped.phase_file, scan.files[0], (3.75, 2.5, 6)),
    ):
        image, before = nib.load(file), nib.load(before)
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (2, 1)
        assert rotation_between(image.affine, MOVED) < 0.01
        np.testing.assert_allclose(geometry(image)["b0_dir"], b0_direction(SCANNED), atol=1e-5)
        np.testing.assert_allclose(geometry(image)["voxel_size"], size, rtol=1e-5)
        # By both forms the centre of the field of view does not move.
        for form in ("get_sform", "get_qform"):
            centre = getattr(image, form)() @ centre_index(image)
            np.testing.assert_allclose(
                centre, getattr(before, form)() @ centre_index(before), atol=1e-4
            )
    mask = write_volume("mask.nii", np.ones((12, 12, 10), bool), nib.load(decoded.phase_file))
    field = write_volume(
        "field.nii", nib.load(decoded.phase_file).get_fdata()[..., 0], nib.load(decoded.phase_file)
    )
    local = HighPass(field_file=field, mask_file=mask).run().outputs
    chi = Deterministic(
        local_field_file=local.local_field_file,
        standard_error_file=field,
        mask_file=mask,
        lambda_value=0.1,
    )
    outputs = chi.run().outputs
    for provenance in (local.provenance, outputs.provenance):
        np.testing.assert_allclose(provenance["B0Direction"], b0_direction(SCANNED), atol=1e-5)
        assert provenance["B0DirectionSource"] == "qform (code 1, scanner)"


@pytest.mark.slow
def test_map_does_not_change_if_the_head_was_registered_to_another_image(make_dataset, ball_head):
    """The registration changes no value, and the maps are where the images are."""
    options = (
        "--inversion",
        "deterministic",
        "--background",
        "highpass",
        "--se-draws",
        "0",
        "--plugin",
        "Linear",
    )
    straight, maps = make_dataset("straight", **ball_head), []
    shutil.copytree(straight, straight.with_name("moved"))
    set_forms(
        straight.with_name("moved"),
        sform=MOVED,
        sform_code=2,
        qform=ball_head["affine"],
        qform_code=1,
    )
    for name, source in (("straight", "sform"), ("moved", "qform")):
        root, out = straight.with_name(name), straight.with_name(f"{name}-out")
        assert main([str(root), str(out), "participant", "-w", f"{root}-work", *options]) == 0
        path = out / "sub-01/anat/sub-01_desc-deterministic_Chimap.nii.gz"
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        maps.append(nib.load(path))
        assert sidecar["B0DirectionSource"] == f"{source} (code 1, scanner)"
    straight, moved = maps
    np.testing.assert_allclose(moved.get_fdata(), straight.get_fdata(), atol=1e-4)
    np.testing.assert_allclose(moved.affine, MOVED, atol=1e-4)
    np.testing.assert_allclose(moved.get_qform(), ball_head["affine"], atol=1e-4)
    assert (int(moved.header["sform_code"]), int(moved.header["qform_code"])) == (2, 1)


def test_case_of_forms_that_differ(copy_case):
    scans, _ = collect_scans(copy_case("sform_qform_differ"))
    row = audit_table(inspect_scans(scans), []).iloc[0]
    assert row["b0_angle"] == pytest.approx(9.93, abs=0.01)
    assert row["b0_source"] == "qform (code 1, scanner)"
