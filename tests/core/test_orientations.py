"""COSMOS: exact for ideal fields, noise as its condition predicts, and bad head positions."""

import numpy as np
import pytest
from helpers.analytic import distance_from_middle, sphere_field
from scipy.spatial.transform import Rotation

from multiqsm.core.dipole import convolve, dipole_kernel
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.orientations import condition_of_directions, cosmos

SHAPE = (48, 44, 36)
VOXEL = (1.0, 1.2, 1.5)
FIVE = ((0, 0, 0), (20, 0, 0), (-20, 0, 0), (0, 20, 0), (0, -20, 0))  # degrees
BEST_THREE = ((0, 0, 0), (60, 0, 0), (120, 0, 0))


def directions(rotations):
    """Return B0 relative to a head that is rotated (degrees)."""
    return Rotation.from_rotvec(rotations, degrees=True).apply((0, 0, 1))


def fields_of(chi, b0_dirs, *, margin=24):
    """Return the fields of a susceptibility in empty surroundings."""
    padded = np.pad(chi, (margin, margin + 1))  # odd: no Nyquist frequency, where D is ambiguous
    inner = tuple(slice(margin, margin + n) for n in chi.shape)
    kernels = [dipole_kernel(padded.shape, VOXEL, b) for b in b0_dirs]
    return [convolve(kernel, padded)[inner] for kernel in kernels]


def ball_with_inclusions(seed=0):
    """Return the mask of a ball, and a random susceptibility in it."""
    mask = distance_from_middle(SHAPE, VOXEL) < 19
    rng = np.random.default_rng(seed)
    return mask, (0.05 * rng.standard_normal(SHAPE) * mask).astype(np.float32)


def core_error(chi, truth, mask):
    """Return the root mean square difference in a ball, up to a constant."""
    core = mask & (distance_from_middle(SHAPE, VOXEL) < 14)
    return float(np.std((chi - truth)[core]))


@pytest.mark.parametrize("rotations", [FIVE, BEST_THREE])
def test_ideal_fields_give_the_susceptibility_exactly(rotations):
    """Even of voxels that differ at random, which no single field determines.

    What is left are the fields of the sources' images in the cyclic grids.
    """
    mask, chi = ball_with_inclusions()
    b0_dirs = directions(rotations)
    fields = fields_of(chi, b0_dirs)
    inversion = cosmos(fields, [mask] * len(fields), VOXEL, b0_dirs, tolerance=1e-4)
    assert core_error(inversion.chi, chi, mask) < 0.02 * chi[mask].std()
    assert inversion.residual < 0.01 * np.std(fields[0][mask])
    assert not inversion.chi[~mask].any()
    single = deterministic(fields[0], mask, VOXEL, b0_dir=b0_dirs[0], lambda_value=1e-3)
    assert core_error(single.chi, chi, mask) > 0.2 * chi[mask].std()


def test_ball_of_analytic_fields():
    """Of continuous physics, not of the kernel that is inverted."""
    b0_dirs = directions(FIVE)
    fields = [sphere_field(SHAPE, VOXEL, b, radius=8, chi=0.1)[0] for b in b0_dirs]
    _, fraction = sphere_field(SHAPE, VOXEL, b0_dirs[0], radius=8, chi=0.1)
    mask = distance_from_middle(SHAPE, VOXEL) < 20
    chi = cosmos(fields, [mask] * 5, VOXEL, b0_dirs).chi
    contrast = chi[fraction > 0.99].mean() - chi[(fraction == 0) & mask].mean()
    assert contrast == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("rotations", [FIVE, BEST_THREE])
def test_noise_is_as_large_as_the_kernels_predict(rotations):
    """White noise σ in each field gives χ the variance σ² times the mean of 1 / Σ D²."""
    b0_dirs = directions(rotations)
    rng = np.random.default_rng(1)
    mask = np.ones(SHAPE, bool)
    noise = [rng.normal(0, 0.002, SHAPE).astype(np.float32) for _ in b0_dirs]
    chi = cosmos(noise, [mask] * len(noise), VOXEL, b0_dirs, tolerance=1e-4).chi
    odd = (49, 45, 37)  # without a Nyquist frequency
    power = sum(dipole_kernel(odd, VOXEL, b) ** 2 for b in b0_dirs)
    power[0, 0, 0] = power.mean()
    expected = 0.002 * np.sqrt(np.mean(1 / power))
    middle = distance_from_middle(SHAPE, VOXEL) < 14
    # Outside the volume the susceptibility is zero, which constrains it a little inside.
    assert np.std(chi[middle]) == pytest.approx(expected, rel=0.1)


def test_a_field_without_weight_has_no_influence():
    mask, chi = ball_with_inclusions()
    b0_dirs = directions(FIVE)
    fields = fields_of(chi, b0_dirs)
    weights = [mask.astype(np.float32)] * 5
    expected = cosmos(fields[:4], [mask] * 4, VOXEL, b0_dirs[:4], weights=weights[:4]).chi
    fields[4] = np.full_like(fields[4], 7)
    weights[4] = np.zeros(SHAPE, np.float32)
    chi = cosmos(fields, [mask] * 5, VOXEL, b0_dirs, weights=weights).chi
    np.testing.assert_allclose(chi, expected, atol=1e-5)


def test_condition_depends_on_relative_directions_only():
    turned = Rotation.from_rotvec([0.4, -0.7, 0.2])
    expected = condition_of_directions(directions(FIVE))
    assert condition_of_directions(turned.apply(directions(FIVE))) == pytest.approx(
        expected, rel=1e-2
    )
    # The cones of three directions at right angles meet in k = (1, 1, 1).
    assert condition_of_directions(np.eye(3)) > 60


@pytest.mark.parametrize(
    ("rotations", "message"),
    [
        (((0, 0, 0),), "at least three head positions, got 1"),
        (((0, 0, 0), (30, 0, 0)), "at least three head positions, got 2"),
        (((0, 0, 0), (0, 0, 40), (0, 0, -40)), "do not determine the susceptibility"),
        (((0, 0, 0), (1, 0, 0), (0, 1, 0)), "too similar"),
    ],
)
def test_head_positions_that_do_not_suffice(rotations, message):
    mask = np.ones((6, 6, 6), bool)
    n = len(rotations)
    with pytest.raises(ValueError, match=message):
        cosmos([np.zeros(mask.shape)] * n, [mask] * n, VOXEL, directions(rotations))


def test_each_position_needs_all_inputs_on_one_grid():
    mask = np.ones((6, 6, 6), bool)
    fields = [np.zeros(mask.shape)] * 3
    with pytest.raises(ValueError, match="3 fields, 2 masks, 3 directions"):
        cosmos(fields, [mask] * 2, VOXEL, directions(BEST_THREE))
    with pytest.raises(ValueError, match="field has the shape"):
        cosmos([*fields[:2], np.zeros((6, 6, 7))], [mask] * 3, VOXEL, directions(BEST_THREE))
    with pytest.raises(ValueError, match="zero or not finite"):
        cosmos(fields, [mask] * 3, VOXEL, np.zeros((3, 3)))
