"""Harmonisation: cropping k-space gives the image of a coarser scan at the same position, and two
protocols become one.
"""

import json

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import sphere_field
from helpers.datasets import SCANNER, validator_findings, write_dataset
from helpers.sidecars import unreported_fields
from scipy.spatial.transform import Rotation

from multiqsm.cli.app import main
from multiqsm.core.harmonization import crop_kspace, cropped_affine, cropped_matrix
from multiqsm.core.phase.encoding import wrap_phase
from multiqsm.dataset.tables import read_tsv
from multiqsm.interfaces.harmonization import CropKSpace
from multiqsm.simulation.acquisition import kspace_crop

MATRICES = pytest.mark.parametrize(
    ("matrix", "cropped"),
    [
        ((12, 10, 8), (8, 6, 4)),  # even to even
        ((12, 10, 9), (7, 5, 3)),  # to odd
        ((11, 13, 9), (8, 10, 6)),  # odd to even
        ((11, 13, 9), (7, 13, 9)),  # one axis alone
        ((12, 10, 9), (11, 9, 8)),  # by one voxel
    ],
)


def plane_waves(matrix, waves):
    """Sum complex waves at the voxels' centres. Positions run from 0 to 1 over the field of view
    along each axis.
    """
    positions = [(np.arange(n) + 0.5) / n for n in matrix]
    x, y, z = np.meshgrid(*positions, indexing="ij")
    image = 0
    for (kx, ky, kz), amplitude in waves:
        image = image + amplitude * np.exp(2j * np.pi * (kx * x + ky * y + kz * z))
    return image


@MATRICES
def test_image_within_the_band_is_sampled_exactly(matrix, cropped):
    """Waves that both matrices sample: the result is their formula at the new voxels' centres."""
    random = np.random.default_rng(0)
    highest = (np.array(cropped) - 1) // 2
    waves = []
    for _ in range(20):
        wave = random.integers(-highest, highest + 1)
        amplitude = random.standard_normal() + 1j * random.standard_normal()
        waves.append((wave, amplitude))
    image = crop_kspace(plane_waves(matrix, waves), cropped)
    np.testing.assert_allclose(image, plane_waves(cropped, waves), atol=1e-12)


@MATRICES
def test_frequencies_that_the_coarser_scan_does_not_sample_are_removed(matrix, cropped):
    for axis in range(3):
        if cropped[axis] < matrix[axis] - 1:
            wave = [0, 0, 0]
            wave[axis] = cropped[axis] // 2 + 1
            assert np.abs(crop_kspace(plane_waves(matrix, [(wave, 1.0)]), cropped)).max() < 1e-12


def test_cropping_in_two_steps_agrees_with_one_step_of_the_simulated_scanner():
    """The simulated scanner is implemented otherwise: it crops a fine grid by integer factors."""
    random = np.random.default_rng(1)
    fine = (
        random.standard_normal((24, 12, 20)) + 1j * random.standard_normal((24, 12, 20))
    ).astype(np.complex64)

    def scan(shape):
        factor = np.floor_divide(fine.shape, shape).tolist()
        return np.fft.ifftn(kspace_crop(fine, shape, factor, (0, 1, 2)))

    np.testing.assert_allclose(
        crop_kspace(scan((12, 12, 10)), (6, 4, 5)), scan((6, 4, 5)), atol=1e-6
    )


def test_noise_falls_as_voxels_grow():
    """White noise stays white; its standard deviation falls with the root of the voxel volume."""
    random = np.random.default_rng(2)
    noise = (
        random.standard_normal((60, 61, 40)) + 1j * random.standard_normal((60, 61, 40))
    ).astype(np.complex64)
    cropped = crop_kspace(noise, (40, 45, 31))
    assert cropped.dtype == np.complex64
    ratio = np.prod(cropped.shape) / np.prod(noise.shape)
    assert cropped.real.std() == pytest.approx(np.sqrt(ratio), rel=0.02)
    correlation = np.corrcoef(cropped.real[1:].ravel(), cropped.real[:-1].ravel())[0, 1]
    assert abs(correlation) < 0.02


def oblique(voxel_size, offset=(-31.0, 22.0, 7.0)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", (24, -13, 35), degrees=True).as_matrix() * np.array(
        voxel_size
    )
    affine[:3, 3] = offset
    return affine


def world(affine, matrix):
    """Coordinates of all voxels, shape (3, x, y, z)."""
    voxels = np.indices(matrix).reshape(3, -1)
    return (affine[:3, :3] @ voxels + affine[:3, 3:]).reshape(3, *matrix)


@pytest.mark.parametrize(
    ("matrix", "voxel_size", "cropped"),
    [
        ((64, 60, 40), (0.8, 0.8, 2.4), (43, 40, 40)),
        ((63, 61, 45), (1.0, 1.0, 2.0), (48, 52, 33)),
        ((64, 64, 64), (1.0, 1.0, 1.0), (32, 63, 47)),
    ],
)
def test_a_point_keeps_its_world_coordinates(matrix, voxel_size, cropped):
    """The centroid of a small blob on an oblique grid moves by less than 0.01 voxel."""
    affine = oblique(voxel_size)
    new = cropped_affine(affine, matrix, cropped)
    new_size = np.linalg.norm(new[:3, :3], axis=0)
    centre = (affine @ [*(0.47 * np.array(matrix) + 0.3), 1])[:3]
    distance = np.linalg.norm(world(affine, matrix) - centre[:, None, None, None], axis=0)
    blob = np.exp(-((distance / (1.5 * new_size.max())) ** 2) / 2 + 0.7j)
    weight = np.real(crop_kspace(blob, cropped) * np.exp(-0.7j))
    centroid = (world(new, cropped) * weight).sum(axis=(1, 2, 3)) / weight.sum()
    error = np.linalg.solve(new[:3, :3], centroid - centre)
    assert np.abs(error).max() < 0.01


@MATRICES
def test_field_of_view_keeps_its_corners(matrix, cropped):
    before = oblique((0.7, 1.1, 2.3))
    after = cropped_affine(before, matrix, cropped)
    for corner in np.ndindex(2, 2, 2):
        old_voxel = np.multiply(corner, matrix) - 0.5
        new_voxel = np.multiply(corner, cropped) - 0.5
        np.testing.assert_allclose(after @ [*new_voxel, 1], before @ [*old_voxel, 1], atol=1e-9)


def test_matrix_is_the_integer_nearest_to_the_target():
    random = np.random.default_rng(3)
    for _ in range(200):
        matrix = random.integers(8, 400, 3)
        size = random.uniform(0.4, 3, 3)
        target = size * random.uniform(1, 3, 3)
        cropped = np.array(cropped_matrix(matrix, size, target))
        assert (cropped <= matrix).all()
        assert (np.abs(matrix * size / cropped - target) <= target / (2 * cropped) + 1e-9).all()
        assert cropped_matrix(matrix, size, size) == tuple(matrix)
        # The voxel size may be the target but for the single precision of the affine.
        assert cropped_matrix(matrix, size, size * (1 - 1e-6)) == tuple(matrix)


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, np.nan, 1), (1, 1), (1, 1, -2)])
def test_invalid_voxel_sizes_are_refused(bad):
    with pytest.raises(ValueError, match="three positive numbers"):
        cropped_matrix((8, 8, 8), (1, 1, 1), bad)


@pytest.mark.parametrize("matrix", [(9, 8, 8), (8, 0, 8), (8, 8)])
def test_invalid_matrices_are_refused(matrix):
    with pytest.raises(ValueError, match="cannot be cropped"):
        crop_kspace(np.ones((8, 8, 8), complex), matrix)


def test_a_real_image_is_refused():
    with pytest.raises(ValueError, match="complex"):
        crop_kspace(np.ones((8, 8, 8)), (4, 4, 4))


def test_node_crops_wrapped_phase_of_all_echoes(tmp_path):
    """A phase ramp that wraps many times gives the wrapped ramp on the coarser grid."""
    matrix = (20, 17, 12)
    cropped = (14, 17, 9)
    affine = oblique((1.0, 2.0, 1.5))
    waves_of_echoes = [[((3, -2, 1), 5.0)], [((-5, 4, 2), 2.0)]]
    echoes = np.stack([plane_waves(matrix, waves) for waves in waves_of_echoes], axis=-1)
    for name, part in (("magnitude", np.abs(echoes)), ("phase", np.angle(echoes))):
        image = nib.Nifti1Image(part.astype(np.float32), affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 0)
        nib.save(image, tmp_path / f"in_{name}.nii")
    node = CropKSpace(
        magnitude_file=str(tmp_path / "in_magnitude.nii"),
        phase_file=str(tmp_path / "in_phase.nii"),
        matrix=list(cropped),
        provenance={"Site": "A"},
    )
    outputs = node.run(cwd=str(tmp_path)).outputs
    magnitude = nib.load(outputs.magnitude_file)
    phase = nib.load(outputs.phase_file)
    expected = np.stack([plane_waves(cropped, waves) for waves in waves_of_echoes], axis=-1)
    np.testing.assert_allclose(magnitude.get_fdata(), np.abs(expected), rtol=1e-5)
    assert np.abs(wrap_phase(phase.get_fdata() - np.angle(expected))).max() < 1e-5
    np.testing.assert_allclose(phase.affine, cropped_affine(affine, matrix, cropped), atol=1e-5)
    assert int(phase.header["qform_code"]) == 1
    assert outputs.provenance == {
        "Site": "A",
        "HarmonizedResolution": "centre of k-space, not apodised",
    }


# ------------------------------------------------------------------------------
# From two protocols to maps
# ------------------------------------------------------------------------------


def tilted(voxel_size, degrees):
    """Affine of a grid that is rotated about the x axis."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("x", degrees, degrees=True).as_matrix() * np.array(
        voxel_size
    )
    return affine


def ball(shape, voxel_size, degrees=10):
    """Options of `write_dataset` for a ball of brain with a ball of iron, like the fixture
    `ball_head`, on any grid.
    """
    affine = tilted(voxel_size, degrees)
    b0_dir = affine[2, :3] / voxel_size
    iron, _ = sphere_field(shape, voxel_size, b0_dir, radius=8, chi=0.3, center=(5, 0, 3))
    air, _ = sphere_field(shape, voxel_size, b0_dir, radius=8, chi=9, center=(0, 0, -50))
    _, brain = sphere_field(shape, voxel_size, b0_dir, radius=33, chi=0)
    noise = np.random.default_rng(0)

    def voxels(part, echo_time):
        phase = 0.5 + 2 * np.pi * SCANNER["ImagingFrequency"] * (iron + air) * echo_time
        signal = 100 * brain * np.exp(-20 * echo_time + 1j * phase)
        signal = signal + noise.normal(0, 1, shape) + 1j * noise.normal(0, 1, shape)
        return {"mag": np.abs, "phase": np.angle}[part](signal).astype(np.float32)

    return {"shape": shape, "affine": affine, "voxels": voxels}


def iron_in_world(image):
    """Return the mean of an image in the middle of the ball of iron."""
    size = np.linalg.norm(image.affine[:3, :3], axis=0)
    centre = (np.array(image.shape) - 1) / 2
    voxels = np.moveaxis(np.indices(image.shape), 0, -1)
    x, y, z = np.moveaxis((voxels - centre) * size, -1, 0)
    return image.get_fdata()[(x - 5) ** 2 + y**2 + (z - 3) ** 2 < 5**2].mean()


@pytest.mark.slow
def test_two_protocols_become_one(tmp_path, capsys):
    """Two heads differ in voxels, echoes and mask rule, and agree after harmonisation. Both maps
    show the iron.
    """
    root = tmp_path / "raw"
    out = tmp_path / "out"
    protocols = {
        "01": {**ball((33, 32, 27), (2.5, 2.5, 3.0)), "echo_times": (0.006, 0.012, 0.018)},
        "02": {
            **ball((42, 40, 23), (2.0, 2.0, 3.5), degrees=-7),
            "echo_times": (0.004, 0.010, 0.016, 0.022),
        },
    }
    for subject, options in protocols.items():
        write_dataset(root, subjects=(subject,), **options)
    options = ["--inversion", "iterative", "--plugin", "Linear", "-w", str(tmp_path / "work")]
    # λ would follow the noise, which differs between the protocols, and the bias would follow λ.
    options += ["--lambda", "0.3"]
    assert main([str(root), str(out), "participant", "--harmonize", *options]) == 0
    assert (
        "sub-02: voxels 2×2×3.5 → 2.471×2.5×3.5 mm; echoes at 4, 22 ms left out, 2 used"
        in capsys.readouterr().out
    )
    first = nib.load(out / "sub-01/anat/sub-01_desc-iterative_Chimap.nii.gz")
    second = nib.load(out / "sub-02/anat/sub-02_desc-iterative_Chimap.nii.gz")
    np.testing.assert_allclose(first.header.get_zooms(), [2.5, 2.5, 3.52], atol=0.01)
    np.testing.assert_allclose(second.header.get_zooms(), [2.47, 2.5, 3.5], atol=0.01)
    # One protocol gives the same bias, but the two rotated grids sample the ball differently.
    assert 0.15 < iron_in_world(first) < 0.33
    assert iron_in_world(second) == pytest.approx(iron_in_world(first), rel=0.1)
    of_first = json.loads((out / "sub-01/anat/sub-01_desc-brain_mask.json").read_text())
    of_second = json.loads((out / "sub-02/anat/sub-02_desc-brain_mask.json").read_text())
    assert of_first["HarmonizedTo"] == of_second["HarmonizedTo"]
    assert of_first["HarmonizedTo"]["EchoTimeRange"] == [0.006, 0.018]
    assert of_second["HarmonizedEchoTimes"] == [0.010, 0.016]
    assert of_second["EchoesLeftOut"] == [0.004, 0.022]
    assert of_second["OriginalMatrix"] == [42, 40, 23]
    sidecar = json.loads((out / "sub-02/anat/sub-02_desc-iterative_Chimap.json").read_text())
    assert unreported_fields(sidecar) == set()
    # The checklist has the protocol as acquired.
    checklist = read_tsv(out / "logs" / "checklist.tsv").set_index("item")["value"]
    assert checklist["Voxel size (mm)"] == "2.5×2.5×3 (1 of 2 scans); 2×2×3.5 (1 of 2 scans)"
    page = (out / "sub-02.html").read_text()
    assert 'href="logs/checklist.tsv"' in page
    assert "4, 4 : 6 : 22" in page
    assert "3, 6 : 6 : 18" not in page  # of the other subject
    assert of_second["HarmonizedMatrix"] == list(second.shape)
    assert len(of_second["Sources"]) == 2 * 2
    assert not list((out / "sub-02").rglob("*R2star*"))
    assert list((out / "sub-01").rglob("*R2starmap.nii.gz"))
    assert "centre of k-space" in (out / "logs" / "CITATION.md").read_text()
    assert validator_findings(out) == set()
