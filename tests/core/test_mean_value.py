"""SHARP, V-SHARP and the high-pass filter: what they remove, what they preserve, and where they are
valid.
"""

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import GEOMETRIES, centred_coordinates, head, sphere_field
from scipy import ndimage

from multiqsm.core.background.highpass import high_pass
from multiqsm.core.background.mean_value import Sphere, sharp, vsharp
from multiqsm.core.background.projection import pdf
from multiqsm.core.dipole import convolve
from multiqsm.core.mask.shapes import erode
from multiqsm.interfaces.background import INTERFACES
from multiqsm.interfaces.methods import BACKGROUNDS

SPHERICAL = pytest.mark.parametrize("method", [sharp, vsharp])


@SPHERICAL
@GEOMETRIES
def test_outside_source_goes_and_inside_source_stays(method, shape, voxel_size, b0_dir):
    mask, core = head(shape, voxel_size)
    outside, _ = sphere_field(shape, voxel_size, b0_dir, radius=7, chi=9, center=(0, 34, -10))
    inside, _ = sphere_field(shape, voxel_size, b0_dir, radius=5, chi=0.1, center=(3, -4, 2))
    removal = method(outside + inside, mask, voxel_size, b0_dir=b0_dir)
    judged = core & removal.mask
    assert np.std((removal.local_field - inside)[judged]) < 0.3 * np.std(inside[judged])
    assert np.std(outside[judged]) > 4 * np.std(inside[judged])
    assert removal.local_field.dtype == np.float32
    assert not removal.local_field[~removal.mask].any()
    assert not (removal.mask & ~mask).any()


@SPHERICAL
def test_brain_that_touches_the_slab_ends(method):
    shape = (60, 60, 20)
    voxel_size = (1, 1, 2)
    mask, core = head(shape, voxel_size, radius=28)
    assert mask[:, :, 0].any()
    outside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=6, chi=9, center=(0, 10, 38))
    inside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=5, chi=0.1)
    core[:, :, [0, 1, -2, -1]] = False
    removal = method(outside + inside, mask, voxel_size)
    judged = core & removal.mask
    assert np.std((removal.local_field - inside)[judged]) < 0.3 * np.std(inside[judged])


@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (1, 1, 2), (0.5, 0.5, 2), (1.5, 1.2, 2)])
@pytest.mark.parametrize("radius", [0.5, 1, 2, 3.3, 6])
def test_mean_of_a_harmonic_function_is_its_value(voxel_size, radius):
    shape = (41, 40, 21)
    sphere = Sphere.of_radius(radius, voxel_size)
    centres = sphere.centres(np.ones(shape, bool))
    x, y, z = centred_coordinates(shape, voxel_size)
    transfer = sphere.high_pass(shape)
    for harmonic in (
        np.ones(shape),
        x - 2 * z,
        x**2 + y**2 - 2 * z**2,
        x * z,
        x**3 - 3 * x * y**2,
        x * y * z,
    ):
        rest = convolve(transfer, harmonic)
        assert np.abs(rest[centres]).max() < 1e-5 * np.abs(harmonic).max()
    # x² is not harmonic: its mean is greater than its value at the centre
    assert convolve(transfer, x**2)[centres].max() < 0
    dipole, _ = sphere_field(shape, voxel_size, (0, 0.3, 1), radius=3, chi=9, center=(0, 40, 5))
    assert np.abs(convolve(transfer, dipole)[centres]).max() < 2e-3 * np.ptp(dipole)


def test_equal_weights_would_let_background_through():
    voxel_size = (1, 1, 2)
    shape = (21, 21, 11)
    x, _, z = centred_coordinates(shape, voxel_size)
    sphere = Sphere.of_radius(2, voxel_size)
    equal = (sphere.weights != 0) / np.count_nonzero(sphere.weights)
    block = []
    for n, n_sphere in zip(shape, sphere.weights.shape, strict=True):
        block.append(slice((n - n_sphere) // 2, (n + n_sphere) // 2))
    harmonic = (x**2 - z**2)[tuple(block)]
    assert abs(np.sum(sphere.weights * harmonic)) < 1e-6
    assert abs(np.sum(equal * harmonic)) > 0.1


@pytest.mark.parametrize("radius", [1, 2, 3.3])
def test_sums_over_few_voxels_are_the_convolution(radius):
    rng = np.random.default_rng(0)
    shape = (15, 14, 11)
    sphere = Sphere.of_radius(radius, (1, 1.2, 2))
    weight = np.where(sphere.centres(np.ones(shape, bool)), rng.choice([0, 0.5, 2], shape), 0)
    volume = rng.normal(size=shape)
    sums = sphere.high_pass_matrix(weight) @ volume.ravel()
    expected = (weight * convolve(sphere.high_pass(shape), volume))[weight > 0]
    np.testing.assert_allclose(sums, expected, atol=1e-5)


@pytest.mark.parametrize("voxel_size", [(1, 1, 1), (0.7, 1, 2)])
@pytest.mark.parametrize("radius", [0.5, 1, 3, 4.2, 12])
def test_centres_are_where_no_voxel_of_the_sphere_is_outside(radius, voxel_size):
    mask = np.random.default_rng(0).random((24, 21, 17)) > 1e-3
    sphere = Sphere.of_radius(radius, voxel_size)
    # a sphere's own centre has no weight
    centres = ndimage.binary_erosion(mask, sphere.weights != 0) & mask
    assert np.array_equal(sphere.centres(mask), centres)
    assert centres.any() == (radius < 12)


def test_sharp_is_valid_in_the_mask_eroded_by_its_sphere():
    mask, _ = head((60, 60, 40), (1, 1, 2))
    mask[:, :, :2] = True  # at the volume's face, beyond which there is no mask
    removal = sharp(np.zeros(mask.shape), mask, (1, 1, 2), radius=4)
    padded = erode(np.pad(mask, 4), (1, 1, 2), 4)[4:-4, 4:-4, 4:-4]
    assert np.array_equal(removal.mask, padded)


def test_vsharp_is_valid_where_smallest_spheres_reach():
    mask, _ = head((60, 60, 40), (1, 1, 2))
    mask[30, 30, :] = True  # extends beyond the ball, too thin for any sphere
    removal = vsharp(np.zeros(mask.shape), mask, (1, 1, 2))
    assert removal.mask.sum() > 0.98 * mask.sum()
    assert not removal.mask[30, 30, [0, 1, -2, -1]].any()


def test_noisy_voxels_have_little_influence():
    shape = (48, 48, 48)
    voxel_size = (1, 1, 1)
    mask, core = head(shape, voxel_size, radius=20)
    outside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=5, chi=9, center=(0, 26, 0))
    se = np.where(centred_coordinates(shape, voxel_size)[0] > 8, 1.0, 0.01).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, se).astype(np.float32)
    clean = core & (se < 0.1)
    weighted = vsharp(outside + noise, mask, voxel_size, standard_error=se).local_field
    plain = vsharp(outside + noise, mask, voxel_size).local_field
    assert np.std((weighted - noise)[clean]) < 0.7 * np.std((plain - noise)[clean])


def test_high_pass_halves_a_wave_of_the_cutoff_and_removes_slower_ones():
    # The study's objection: slow variation of the tissue's own field is removed too.
    shape = (96, 40, 24)
    voxel_size = (1, 1, 2)
    mask = np.ones(shape, bool)
    x = centred_coordinates(shape, voxel_size)[0]
    middle = (slice(40, 56), slice(10, 30), slice(6, 18))
    for wavelength in (6, 12, 24):
        wave = np.cos(2 * np.pi * x / wavelength)
        filtered = high_pass(wave, mask, voxel_size, cutoff=12).local_field
        amplitude = np.sum((filtered * wave)[middle]) / np.sum((wave**2)[middle])
        assert amplitude == pytest.approx(1 - 0.5 ** ((12 / wavelength) ** 2), abs=0.02)


def test_high_pass_removes_less_background_and_more_tissue_field_than_the_others():
    shape = (44, 44, 44)
    voxel_size = (1, 1, 1)
    mask, core = head(shape, voxel_size, radius=19)
    outside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=5, chi=9, center=(0, 26, -8))
    inside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=4, chi=0.1, center=(3, -4, 2))
    errors = {}
    for method in (high_pass, pdf, vsharp):
        background = method(outside, mask, voxel_size).local_field
        tissue = method(inside, mask, voxel_size).local_field
        errors[method] = [np.std(background[core]), np.std((tissue - inside)[core])]
    for method in (pdf, vsharp):
        assert np.less(errors[method], np.multiply(0.7, errors[high_pass])).all(), errors


@pytest.mark.parametrize("method", [sharp, vsharp, high_pass])
def test_bad_input_is_refused(method):
    mask = np.zeros((20, 20, 20), bool)
    with pytest.raises(ValueError, match="empty"):
        method(np.zeros(mask.shape), mask, (1, 1, 1))
    mask[1:-1, 1:-1, 1:-1] = True
    with pytest.raises(ValueError, match="not finite"):
        method(np.full(mask.shape, np.nan), mask, (1, 1, 1))


def test_mask_that_no_sphere_fits_into_is_refused():
    plane = np.zeros((12, 12, 12), bool)
    plane[:, :, 5] = True
    with pytest.raises(ValueError, match="no sphere of 6 mm"):
        sharp(np.zeros(plane.shape), plane, (1, 1, 1))
    with pytest.raises(ValueError, match="too thin"):
        vsharp(np.zeros(plane.shape), plane, (1, 1, 1))
    with pytest.raises(ValueError, match="positive"):
        vsharp(np.zeros(plane.shape), ~plane, (1, 1, 1), standard_error=np.zeros(plane.shape))


@pytest.mark.parametrize("method", [sharp, vsharp, high_pass])
def test_constant_field_is_background(method):
    mask = np.ones((16, 16, 16), bool)
    constant = np.full(mask.shape, 3.0)
    assert np.abs(method(constant, mask, (1, 1, 1)).local_field).max() < 1e-6


def test_every_background_has_a_node():
    assert set(INTERFACES) == set(BACKGROUNDS)


@pytest.mark.parametrize("name", INTERFACES)
def test_node_writes_the_field_where_it_is_valid_and_records_the_lost_voxels(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shape = (40, 40, 20)
    voxel_size = (1, 1, 2)
    mask, _ = head(shape, voxel_size, radius=18)
    field, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=4, chi=0.1)
    volumes = {
        "field": field,
        "mask": mask.astype(np.uint8),
        "standard_error": np.full(shape, 0.01, np.float32),
    }
    for kind, volume in volumes.items():
        nib.save(nib.Nifti1Image(volume, np.diag([*voxel_size, 1])), f"{kind}.nii")
    files = {f"{kind}_file": str(tmp_path / f"{kind}.nii") for kind in volumes}
    interface = INTERFACES[name](provenance={"Site": "A"}, **files)
    if "magnitude_file" in interface.inputs.copyable_trait_names():
        echoes = np.stack([mask, mask], axis=-1).astype(np.float32)
        nib.save(nib.Nifti1Image(echoes, np.diag([*voxel_size, 1])), "magnitude.nii")
        interface.inputs.magnitude_file = str(tmp_path / "magnitude.nii")
    outputs = interface.run().outputs

    valid = np.asanyarray(nib.load(outputs.mask_file).dataobj) != 0
    local = np.asanyarray(nib.load(outputs.local_field_file).dataobj)
    assert local.dtype == np.float32
    assert not local[~valid].any()
    lost = np.count_nonzero(mask) - np.count_nonzero(valid)
    assert outputs.provenance["BackgroundMaskVoxelsLost"] == lost
    assert outputs.provenance["BackgroundMaskFractionLost"] == pytest.approx(lost / mask.sum())
    assert outputs.provenance["Site"] == "A"
    assert (lost > 0) == BACKGROUNDS[name].shrinks_mask
