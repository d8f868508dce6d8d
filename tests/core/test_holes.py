"""Voxels inside a mask whose field is not measured."""

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import sphere_field
from nipype import Node

from multiqsm.core.background.highpass import high_pass
from multiqsm.core.background.mean_value import sharp, vsharp
from multiqsm.core.background.projection import pdf
from multiqsm.core.background.total_field import tfi
from multiqsm.core.holes import fill_holes, interpolate_unmeasured
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.regularization import jump_mask
from multiqsm.core.inversion.weighted import iterative
from multiqsm.core.mask.shapes import erode
from multiqsm.interfaces.background import PDF

VOXEL = (1.5, 1.0, 2.0)


def test_harmonic_field_is_interpolated_exactly():
    x, y, z = np.indices((21, 22, 17)) * np.reshape(VOXEL, (3, 1, 1, 1))
    field = (x**2 + y**2 - 2 * z**2 + 3 * x).astype(np.float32)
    measured = np.ones(field.shape, bool)
    measured[6:14, 7:15, 5:12] = False
    # Also where a face of the mask cuts the hole, for a field that does not change across it.
    filled = interpolate_unmeasured(
        np.where(measured, field, np.nan), measured, np.ones_like(measured), VOXEL
    )
    np.testing.assert_allclose(filled, field, atol=1e-3 * field.std())


def test_interpolated_values_lie_between_the_measured_ones():
    rng = np.random.default_rng(0)
    measured = rng.random((12, 11, 10)) > 0.3
    values = rng.uniform(2, 3, measured.shape)
    filled = interpolate_unmeasured(values, measured, np.ones_like(measured), VOXEL)
    assert filled.min() >= 2 - 1e-3
    assert filled.max() <= 3 + 1e-3
    np.testing.assert_array_equal(filled[measured], values.astype(np.float32)[measured])


def test_unconnected_voxels_get_the_median():
    mask = np.zeros((9, 9, 9), bool)
    mask[:4] = mask[6, 6, 6] = mask[8, 2:4, 2] = True
    measured = mask.copy()
    measured[5:] = False
    values = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    filled = interpolate_unmeasured(values, measured, mask, VOXEL)
    assert set(filled[5:][mask[5:]].tolist()) == {float(np.median(values[measured]))}
    assert not filled[~mask].any()


def test_at_least_one_voxel_must_be_measured():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match="no voxel of the mask is measured"):
        interpolate_unmeasured(np.zeros(mask.shape), ~mask, mask, VOXEL)


def test_only_enclosed_holes_are_filled():
    mask = np.ones((9, 9, 9), bool)
    mask[4, 4, 4] = mask[0, 4, 4] = False  # inside, and cut by a face
    mask[2, 2, :] = False  # a channel from face to face
    filled = fill_holes(mask)
    assert filled[4, 4, 4]
    assert filled[0, 4, 4]
    open_box = np.ones((9, 9, 9), bool)
    open_box[3:6, 3:6, 3:] = False
    open_box = np.pad(open_box, 2)
    assert not fill_holes(open_box)[7, 7, 9]


@pytest.fixture(scope="module")
def bleeding():
    """A ball of brain around a strong source; the source and its surroundings are not measured.

    Fields in ppm.
    """
    shape = (44, 48, 30)
    b0_dir = (0, 0.2, 0.98)
    place = (4, -3, 2)
    source, fraction = sphere_field(shape, VOXEL, b0_dir, radius=4, chi=1.5, center=place)
    background, _ = sphere_field(shape, VOXEL, b0_dir, radius=6, chi=9, center=(0, 0, -44))
    inside = fraction > 0.5
    brain = sphere_field(shape, VOXEL, b0_dir, radius=24, chi=0)[1] > 0.5
    dark = sphere_field(shape, VOXEL, b0_dir, radius=5.5, chi=0, center=place)[1] > 0.5
    noise = np.random.default_rng(1).normal(0, 1e-3, shape)
    measured = brain & ~dark
    error = np.where(measured, 1e-3, np.inf)
    total = np.where(measured, source + background + noise, np.nan)
    field = interpolate_unmeasured(total, measured, brain, VOXEL)
    local = np.where(measured, source + noise, np.nan)
    local = interpolate_unmeasured(local, measured, brain, VOXEL)
    space = {"voxel_size": VOXEL, "b0_dir": b0_dir}
    edges = np.zeros((3, *shape), bool)
    for axis in range(3):
        edges[axis] = inside ^ np.roll(inside, -1, axis)
    return {
        "field": field,
        "local": local,
        "true": source,
        "mask": brain,
        "measured": measured,
        "inside": inside,
        "error": error.astype(np.float32),
        "space": space,
        "edges": edges,
        "chi": 1.5 * fraction,
    }


@pytest.mark.parametrize("method", [tfi, pdf, vsharp, sharp, high_pass])
def test_no_background_removal_treats_a_hole_as_outside(bleeding, method):
    options = dict(bleeding["space"])
    if method in (tfi, pdf, vsharp):
        options["standard_error"] = bleeding["error"]
    if method is tfi:
        options["edges"] = bleeding["edges"]
    removal = method(bleeding["field"], bleeding["mask"], **options)
    assert removal.mask[bleeding["inside"]].all()
    near = bleeding["measured"] & removal.mask & (np.abs(bleeding["true"]) > 0.05)
    slope = np.polyfit(bleeding["true"][near], removal.local_field[near], 1)[0]
    # A high-pass filter removes part of any local field; the others preserve that of the source.
    assert slope > (0.5 if method is high_pass else 0.85)


def test_inversions_recover_a_source_in_a_hole(bleeding):
    space = bleeding["space"]
    mask = bleeding["mask"]
    measured = bleeding["measured"]
    weighted = iterative(
        bleeding["local"],
        mask,
        edges=bleeding["edges"],
        data_weight=measured.astype(np.float32),
        exterior_weight=0.2,
        lambda_value=0.1,
        **space,
    ).chi
    sparse = medi(
        bleeding["local"],
        mask,
        edges=bleeding["edges"],
        standard_error=bleeding["error"],
        medi_data="linear",
        **space,
    ).chi
    inside = bleeding["inside"]
    tissue = measured & (np.abs(bleeding["true"]) < 0.02)
    closed = deterministic(bleeding["local"], mask, measured=measured, **space).chi
    true = bleeding["chi"][inside].mean()

    def recovered(chi):
        return float(chi[inside].mean() - np.median(chi[tissue])) / true

    assert recovered(weighted) == pytest.approx(1, rel=0.1)
    # With sparse gradients, voxels without data change slowly, and the iterations stop before they
    # have converged.
    assert recovered(sparse) > 0.7
    # The closed form has no weights, and the field inside a source differs from the interpolated
    # one.
    assert recovered(closed) > 0.5


def test_values_in_a_hole_do_not_matter(bleeding):
    local = bleeding["local"]
    noise = np.random.default_rng(2).normal(0, 1, local.shape)
    noise_in_hole = np.where(bleeding["measured"], local, noise)
    options = {
        "edges": bleeding["edges"],
        "data_weight": bleeding["measured"].astype(np.float32),
        "lambda_value": 0.1,
        "tolerance": 1e-4,
        **bleeding["space"],
    }
    maps = []
    for field in (local, noise_in_hole):
        maps.append(iterative(field.astype(np.float32), bleeding["mask"], **options).chi)
    np.testing.assert_allclose(*maps, atol=1e-5)


def test_local_field_of_unmeasured_surface_voxels_is_interpolated(bleeding, tmp_path):
    """PDF's background is unconstrained in such a voxel, which lies beside free sources."""
    mask = bleeding["mask"]
    space = bleeding["space"]
    rim = mask & ~erode(mask, VOXEL, 2.5)
    measured = bleeding["measured"] & ~(rim & (np.random.default_rng(3).random(mask.shape) < 0.3))
    field = interpolate_unmeasured(bleeding["field"], measured, mask, VOXEL)
    angle = np.arctan2(space["b0_dir"][1], space["b0_dir"][2])
    rotation = [[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]]
    affine = nib.affines.from_matvec(np.transpose(rotation) @ np.diag(VOXEL))
    images = {"field": field, "standard_error": np.where(measured, 1e-3, np.inf), "mask": mask}
    for name, data in images.items():
        nib.save(nib.Nifti1Image(np.asarray(data, np.float32), affine), tmp_path / f"{name}.nii")
    files = {f"{name}_file": str(tmp_path / f"{name}.nii") for name in images}
    outputs = Node(PDF(**files), name="pdf", base_dir=tmp_path).run().outputs
    local = nib.load(outputs.local_field_file).get_fdata()
    assert outputs.provenance["LocalFieldStandardDeviation"] == pytest.approx(
        local[mask].std(), rel=1e-4
    )
    bare = pdf(field, mask, standard_error=images["standard_error"], **space).local_field
    unmeasured_rim = rim & ~measured

    def rms_error(values):
        return np.sqrt(np.mean((values - bleeding["true"])[unmeasured_rim] ** 2))

    assert rms_error(local) < 0.6 * rms_error(bare)
    deep = mask & ~rim & ~measured
    np.testing.assert_allclose(local[deep], bare[deep], atol=0.01)


def test_only_a_strong_source_is_a_jump():
    """Neither noise nor steps between tissues reach thirty standard deviations."""
    noise = np.random.default_rng(0).normal(0, 0.01, (24, 26, 20))
    _, ball = sphere_field(noise.shape, (1, 1, 1), (0, 0, 1), radius=4, chi=0)
    mask = np.ones(noise.shape, bool)
    inside = ball > 0.5
    assert not jump_mask(noise + 0.1 * inside, mask).any()
    jumps = jump_mask(noise + 1.5 * inside, mask)
    for axis in range(3):
        outline = inside ^ np.roll(inside, -1, axis)
        np.testing.assert_array_equal(jumps[axis], outline)
