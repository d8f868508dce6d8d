"""White matter's direction: its field against that of a magnetised ball, and what it depends on."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers.analytic import centred_coordinates
from scipy.spatial.transform import Rotation

from multiqsm.core.dipole import convolve, dipole_kernel
from multiqsm.simulation.effects import IDEAL, ROUGH
from multiqsm.simulation.effects.white_matter import (
    Anisotropy,
    Microstructure,
    add_white_matter,
    tensor_field,
)
from multiqsm.simulation.fibres import draw_fibres, orientation_along
from multiqsm.simulation.grid import block_mean, scan_affine
from multiqsm.simulation.head import draw_subject, head_model, label_names
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.study import make_design

SHAPE = (34, 40, 32)
VOXEL = (6.0, 6.0, 6.0)  # mm
OBLIQUE = np.array([0.36, -0.48, 0.8])
BOTH = {"anisotropy": Anisotropy(), "microstructure": Microstructure()}
SUBJECT = draw_subject(3, 30)
FIBRES = draw_fibres(np.random.default_rng(3))
CALLOSUM = np.float32([[0, -7, 27]]).T  # mm in MNI space


def specimen_of(rotation=(0, 0, 0), shape=SHAPE):
    """Return a head and its image, both rotated (degrees) in the scanner, and how it was made."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(rotation, degrees=True).as_matrix()
    model = partial(head_model, SUBJECT, pose=pose)
    affine = pose @ scan_affine(shape, VOXEL)
    specimen = magnetize(model, affine, shape, oversampling=(1, 1, 1))
    return specimen, model, pose


def effect_fields(effects, rotation=(0, 0, 0), shape=SHAPE):
    specimen, model, pose = specimen_of(rotation, shape)
    return add_white_matter(specimen, model, SUBJECT, FIBRES, pose=pose, **effects).effect_fields


@pytest.mark.parametrize(
    ("shape", "voxel_size", "b0_dir"),
    [((64, 64, 64), (1, 1, 1), (0, 0, 1)), ((64, 60, 45), (1, 1.1, 1.5), OBLIQUE)],
)
def test_ball_has_the_field_of_a_uniformly_magnetised_ball(shape, voxel_size, b0_dir):
    """Its moment is along M = χ b, not along B0."""
    tensor = np.array([[0.5, 0.3, -0.2], [0.3, -0.4, 0.6], [-0.2, 0.6, 1.0]])
    moment = tensor @ b0_dir
    x, y, z = centred_coordinates(shape, voxel_size)
    r = np.sqrt(x**2 + y**2 + z**2)
    radius = 8.0
    ball = np.clip((radius - r) + 0.5, 0, 1)  # partial volumes, so that it is nearly round
    field = tensor_field(moment.reshape(3, 1, 1, 1) * ball, voxel_size, b0_dir)
    direction = np.stack([x, y, z]) / r
    along_b0 = np.tensordot(b0_dir, direction, 1)
    along_moment = np.tensordot(moment, direction, 1)
    expected = (radius / r) ** 3 / 3 * (3 * along_b0 * along_moment - moment @ b0_dir)
    expected[r < radius] = 0
    apart = (np.abs(r - radius) > 2.5) & (r < 18)
    scale = np.abs(expected).max()
    # Gibbs ringing near the surface, and the images of the ball in the cyclic grid.
    assert np.abs(field - expected)[apart].max() < 0.06 * scale
    assert np.corrcoef(field[apart], expected[apart])[0, 1] > 0.995


def test_isotropic_tensor_has_the_dipole_field():
    rng = np.random.default_rng(0)
    shape = (21, 25, 15)  # odd: at the Nyquist frequency the sign of k would be arbitrary
    chi = rng.standard_normal(shape).astype(np.float32)
    field = tensor_field(OBLIQUE.reshape(3, 1, 1, 1) * chi, (1, 1, 2), OBLIQUE)
    expected = convolve(dipole_kernel(shape, (1, 1, 2), OBLIQUE), chi)
    np.testing.assert_allclose(field, expected, atol=1e-5)


def test_directions_are_distributions():
    """Their tensor is symmetric, positive and has the trace 1, also where the axes are turned."""
    rng = np.random.default_rng(1)
    points = rng.uniform(-60, 60, (3, 500)).astype(np.float32)
    turned = Rotation.from_rotvec([0.5, 0.2, -0.3]).as_matrix() * 1.1
    columns = [orientation_along(points, b, fibres=FIBRES, linear=turned) for b in np.eye(3)]
    tensor = np.moveaxis(np.stack(columns), -1, 0)
    np.testing.assert_allclose(tensor, tensor.transpose(0, 2, 1), atol=1e-5)
    np.testing.assert_allclose(np.trace(tensor, axis1=1, axis2=2), 1, atol=1e-5)
    assert np.linalg.eigvalsh(tensor).min() > 0


def test_left_mirrors_right():
    points = np.float32([[25, -15, 40], [12, 30, 5], [36, -40, 0]]).T
    mirrored = points * np.float32([[-1], [1], [1]])
    right = orientation_along(points, (0, 0, 1))
    left = orientation_along(mirrored, (0, 0, 1))
    np.testing.assert_allclose(left, right * np.float32([[-1], [1], [1]]), atol=1e-6)


def test_frequency_of_the_corpus_callosum_follows_sin2_of_its_angle_to_b0():
    """Its fibres run from left to right; a few run otherwise, which scales and shifts sin²θ."""
    angles = np.deg2rad([0, 30, 45, 60, 90])
    frequency = []
    for angle in angles:
        b0_dir = (np.cos(angle), 0, np.sin(angle))
        frequency.append(1 - b0_dir @ orientation_along(CALLOSUM, b0_dir)[:, 0])
    contrast = frequency[-1] - frequency[0]
    assert contrast > 0.8
    expected = frequency[0] + contrast * np.sin(angles) ** 2
    np.testing.assert_allclose(frequency, expected, atol=0.01)


def test_microstructure_of_all_directions_of_b0_averages_to_two_thirds():
    """sin² of the angles to three perpendicular directions adds up to 2, whatever the fibres."""
    effect = {"microstructure": Microstructure()}
    fields = []
    for rotation in ((0, 0, 0), (90, 0, 0), (0, 90, 0)):
        fields.append(effect_fields(effect, rotation)["microstructure"])
    specimen, _, _ = specimen_of()
    is_white = specimen.tissue.labels == name_to_label("white_matter")
    total = sum(fields)
    assert is_white.sum() > 1000
    np.testing.assert_allclose(total[is_white], 2 * Microstructure().amplitude, rtol=1e-3)
    assert not total[~is_white & (specimen.tissue.labels != name_to_label("splenium"))].any()
    assert np.ptp(fields[0][is_white]) > 0.5 * abs(Microstructure().amplitude)


def name_to_label(name):
    return {label: index for index, label in label_names().items()}[name]


def test_hollow_cylinder_perpendicular_to_b0():
    """3/4 χ_A ln(1/g) in the axon, half of which is the mean over the axon and as much outside."""
    effect = Microstructure(myelin_anisotropy=-0.12, g_ratio=0.7, axonal_fraction=0.5)
    assert effect.amplitude == pytest.approx(-0.5 * 0.75 * 0.12 * np.log(1 / 0.7))
    assert replace(effect, g_ratio=1.0).amplitude == 0  # no myelin


@pytest.mark.parametrize("half_turn", [(0, 0, 180), (180, 0, 0)])
def test_half_turns_that_keep_the_axis_of_b0_keep_the_fields(half_turn):
    for name, values in effect_fields(BOTH, half_turn).items():
        expected = effect_fields(BOTH)[name]
        np.testing.assert_allclose(values, expected, atol=2e-5 * np.abs(expected).max())


def test_tilting_the_head_changes_the_fields():
    upright = effect_fields(BOTH)
    for name, values in effect_fields(BOTH, (20, 0, 0)).items():
        difference = (values - upright[name]).std()
        assert 0.05 * upright[name].std() < difference < upright[name].std()


def test_field_has_sources_beyond_the_image():
    """A slab's field is that of the whole brain, not of the white matter in the slab alone."""
    whole = effect_fields({"anisotropy": Anisotropy()})["anisotropy"]
    specimen, _, _ = specimen_of()
    thin_specimen, _, _ = specimen_of(shape=(34, 40, 8))
    slab = effect_fields({"anisotropy": Anisotropy()}, shape=(34, 40, 8))["anisotropy"]
    middle = np.array([0, 0, 12])  # the thin slab is the middle of the image
    offset = middle + np.subtract(thin_specimen.corner, specimen.corner)
    box = tuple(map(slice, offset, np.add(offset, slab.shape)))
    # Two paddings of the same sources.
    np.testing.assert_allclose(slab, whole[box], atol=0.03 * whole.std())


def test_only_the_total_field_has_the_effects():
    specimen, model, pose = specimen_of()
    rough = add_white_matter(specimen, model, SUBJECT, FIBRES, pose=pose, **BOTH)
    assert rough.tissue is specimen.tissue
    assert rough.local_field is specimen.local_field
    added = sum(rough.effect_fields.values())
    np.testing.assert_allclose(
        block_mean(rough.total_field - specimen.total_field, (1, 1, 1)), added, atol=1e-6
    )
    # Field of a tensor without trace: at most its greatest principal value, 2/3 of the difference,
    # where fibres are parallel; less where they cross.
    strongest = np.abs(rough.effect_fields["anisotropy"]).max()
    assert 0.1 * Anisotropy().difference < strongest < 2 / 3 * Anisotropy().difference


def test_without_effects_the_specimen_is_the_ideal_one():
    specimen, model, pose = specimen_of()
    assert add_white_matter(specimen, model, SUBJECT, FIBRES, pose=pose) is specimen


def test_fibres_are_those_of_the_person():
    """Another scan of a person has the same fibres, another person has others."""
    design = make_design(
        "demo",
        subjects=2,
        runs=1,
        sites=["A"],
        voxel_size=(8, 8, 8),
        effects=ROUGH.only(*BOTH),
    )
    plan = design.plans[0]
    first = simulate(plan)
    again = simulate(replace(plan, scan_seed=plan.scan_seed + 1))
    for name in BOTH:
        np.testing.assert_array_equal(first.effect_fields[name], again.effect_fields[name])
    ideal = simulate(replace(plan, effects=IDEAL))
    for name in ("chi", "labels", "mask", "local_field"):
        np.testing.assert_array_equal(getattr(first, name), getattr(ideal, name))
    assert not ideal.effect_fields
    other = simulate(replace(plan, anatomy_seed=plan.anatomy_seed + 1))
    assert other.effect_fields["anisotropy"].shape == first.effect_fields["anisotropy"].shape
    assert (other.effect_fields["anisotropy"] != first.effect_fields["anisotropy"]).any()
