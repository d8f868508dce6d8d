"""Rigid registration recovers known motions.

The moving image is an analytic head evaluated at moved points, without any resampling.
"""

import numpy as np
import pytest
from helpers.analytic_head import FLIPPED, POSES, SHAPE, affine_of, motion, points_of, scan

from multiqsm.core.phase.fieldfit import combine_magnitude
from multiqsm.core.registration.least_squares import register_rigid
from multiqsm.core.registration.transforms import displacement
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design


@pytest.mark.parametrize("pose", POSES)
@pytest.mark.parametrize("axes", [None, FLIPPED])
def test_motion_between_two_sites(pose, axes):
    """The error is below 0.05 mm with voxels of 3 mm.

    Head position, prescription, coil, noise and gain differ.
    """
    fixed, fixed_affine, mask = scan(bias=0.3, noise=0.02, seed=1)
    shape = SHAPE if axes is not FLIPPED else (64, 44, 60)
    prescription = affine_of((3, 2, -4), pose[:3, 3], shape, axes)
    moving, moving_affine, _ = scan(pose, prescription, bias=0.3, noise=0.02, seed=2, shape=shape)
    fit = register_rigid(70 * moving, moving_affine, fixed, fixed_affine, fixed_mask=mask)
    assert displacement(fit.matrix, pose, points_of(fixed_affine, mask)) < 0.05
    np.testing.assert_allclose(fit.matrix[:3, :3] @ fit.matrix[:3, :3].T, np.eye(3), atol=1e-9)
    assert fit.correlation > 0.95
    assert fit.residual < 0.05
    assert fit.overlap > 0.9


def test_signal_void_and_vessels_hardly_matter():
    """They are in one image only, and shift the result by less than 0.1 mm.

    The void is as above the sinuses.
    """
    pose = POSES[0]
    fixed, affine, mask = scan(noise=0.01, seed=1)
    moving, moving_affine, _ = scan(pose, affine_of(centre=pose[:3, 3]), noise=0.01, seed=2)
    moving[18:34, 40:52, 4:16] *= 0.2
    rng = np.random.default_rng(3)
    x, y, z = (rng.integers(0, size, 400) for size in SHAPE)
    moving[x, y, z] *= 2.5
    fit = register_rigid(moving, moving_affine, fixed, affine, fixed_mask=mask)
    assert displacement(fit.matrix, pose, points_of(affine, mask)) < 0.1


def test_bias_must_be_modelled():
    fixed, affine, mask = scan()
    moving, _, _ = scan(bias=0.6, seed=5)
    points = points_of(affine, mask)

    def error(bias_degree):
        fit = register_rigid(
            moving, affine, fixed, affine, fixed_mask=mask, bias_degree=bias_degree
        )
        return displacement(fit.matrix, np.eye(4), points)

    assert error(bias_degree=3) < 0.02
    assert error(bias_degree=0) > 3 * error(bias_degree=3)


def test_scanner_with_a_distant_origin():
    """Images that do not overlap at first are aligned by their centres of intensity."""
    fixed, affine, mask = scan()
    pose = motion((3, 4, -2), (400, -300, 900))
    moving, moving_affine, _ = scan(pose, affine_of(centre=(400, -300, 900)))
    fit = register_rigid(moving, moving_affine, fixed, affine, fixed_mask=mask)
    assert displacement(fit.matrix, pose, points_of(affine, mask)) < 0.02


def test_good_start_needs_few_steps():
    fixed, affine, mask = scan()
    moving, moving_affine, _ = scan(POSES[0], affine_of(centre=POSES[0][:3, 3]))
    images = (moving, moving_affine, fixed, affine)
    near = register_rigid(*images, fixed_mask=mask, start=POSES[0])
    far = register_rigid(*images, fixed_mask=mask)
    assert near.n_iterations < far.n_iterations
    assert displacement(near.matrix, far.matrix, points_of(affine, mask)) < 5e-3


def test_failures_say_why():
    fixed, affine, mask = scan()
    noise = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    with pytest.raises(ValueError, match=r"correlate|converge|overlap"):
        register_rigid(noise, affine, fixed, affine, fixed_mask=mask)
    with pytest.raises(ValueError, match="overlap"):
        register_rigid(fixed[:12], affine, fixed, affine, fixed_mask=mask)
    with pytest.raises(ValueError, match="mask is empty"):
        register_rigid(fixed, affine, fixed, affine, fixed_mask=~np.ones(SHAPE, bool))
    with pytest.raises(ValueError, match="not finite"):
        register_rigid(np.full(SHAPE, np.nan), affine, fixed, affine, fixed_mask=mask)
    with pytest.raises(ValueError, match="shape"):
        register_rigid(fixed, affine, fixed, affine, fixed_mask=mask[1:])
    with pytest.raises(ValueError, match="rigid"):
        register_rigid(fixed, affine, fixed, affine, fixed_mask=mask, start=np.diag([2.0, 1, 1, 1]))


@pytest.mark.slow
def test_simulated_scans_of_two_sites():
    """Scans of two scanners with coils, shim, noise and drop-outs are registered to 0.1 mm."""
    plans = make_design(
        "demo", subjects=1, runs=1, sites=["A", "C"], voxel_size=(4.0, 4.0, 4.0)
    ).plans
    scans = [simulate(plan) for plan in plans]
    fixed, moving = (combine_magnitude(np.abs(s.signal)) for s in scans)
    fit = register_rigid(moving, scans[1].affine, fixed, scans[0].affine, fixed_mask=scans[0].mask)
    truth = plans[1].position.matrix @ np.linalg.inv(plans[0].position.matrix)
    points = points_of(scans[0].affine, scans[0].mask)
    assert displacement(truth, np.eye(4), points) > 3
    assert displacement(truth, fit.matrix, points) < 0.1
