"""Mutual information recovers known motions between contrasts.

The moving image is an analytic head evaluated at moved points, without any resampling.
"""

import numpy as np
import pytest
from helpers.analytic_head import POSES, SHAPE, affine_of, motion, points_of, scan

from multiqsm.core.registration.mutual_information import register_affine_nmi, register_rigid_nmi
from multiqsm.core.registration.transforms import displacement


@pytest.mark.parametrize("bias", [0.0, 0.4])
def test_motion_across_contrasts(bias):
    """The error is below 0.2 mm with voxels of 3 mm, also if a coil shades one image."""
    pose = POSES[0]
    fixed, affine, mask = scan(bias=bias, noise=0.02, seed=1)
    prescription = affine_of((-2, 3, 4), pose[:3, 3] + 3)
    moving, moving_affine, _ = scan(pose, prescription, contrast="t1w", noise=0.02, seed=2)
    fit = register_rigid_nmi(moving, moving_affine, fixed, affine, fixed_mask=mask)
    assert displacement(fit.matrix, pose, points_of(affine, mask)) < 0.2
    assert 1.05 < fit.nmi < 2
    assert fit.overlap > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("degrees_of_freedom", [9, 12])
def test_head_of_a_different_size(degrees_of_freedom):
    pose = motion((3, -4, 2), (5, -8, 6))
    stretch = np.diag([1.05, 0.96, 1.03, 1.0])
    if degrees_of_freedom == 12:
        stretch[0, 1] = 0.03
    fixed, affine, mask = scan(noise=0.01, seed=1)
    moving, moving_affine, _ = scan(
        pose, affine_of(centre=(5, -8, 6)), contrast="t1w", stretch=stretch, noise=0.01
    )
    options = {"fixed_mask": mask, "degrees_of_freedom": degrees_of_freedom}
    fit = register_affine_nmi(moving, moving_affine, fixed, affine, **options)
    assert displacement(fit.matrix, pose @ stretch, points_of(affine, mask)) < 0.3
    rigid = register_rigid_nmi(moving, moving_affine, fixed, affine, fixed_mask=mask)
    assert rigid.nmi < fit.nmi


def test_registration_is_reproducible():
    fixed, affine, mask = scan(noise=0.02)
    moving, _, _ = scan(contrast="t1w", noise=0.02, seed=1)
    options = {"fixed_mask": mask, "fwhm": (12.0, 6.0)}
    first = register_rigid_nmi(moving, affine, fixed, affine, **options)
    second = register_rigid_nmi(moving, affine, fixed, affine, **options)
    np.testing.assert_array_equal(first.matrix, second.matrix)


def test_failures_say_why():
    fixed, affine, mask = scan()
    with pytest.raises(ValueError, match="degrees of freedom"):
        register_affine_nmi(fixed, affine, fixed, affine, fixed_mask=mask, degrees_of_freedom=7)
    with pytest.raises(ValueError, match="constant"):
        register_rigid_nmi(np.ones(SHAPE), affine, fixed, affine, fixed_mask=mask)
    noise = np.random.default_rng(0).uniform(0, 1, SHAPE).astype(np.float32)
    with pytest.raises(ValueError, match="normalised mutual information"):
        register_rigid_nmi(noise, affine, fixed, affine, fixed_mask=mask, fwhm=(3.0,), min_nmi=1.03)
