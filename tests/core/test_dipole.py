"""The dipole kernel and the direction of B0."""

import numpy as np
import pytest
from helpers.analytic import centred_coordinates, sphere_field
from scipy import fft

from multiqsm.core.dipole import b0_direction, convolve, dipole_kernel, inverse_transform


def rotation_about_x(degrees):
    cosine = np.cos(np.radians(degrees))
    sine = np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


@pytest.mark.parametrize("b0_dir", [(0, 0, 1), (0, 0.5, 0.8), (1, 1, 1)])
@pytest.mark.parametrize(
    ("shape", "voxel_size"), [((96, 96, 96), (1, 1, 1)), ((95, 97, 49), (1, 1, 2))]
)
def test_kernel_gives_the_field_of_a_ball(shape, voxel_size, b0_dir):
    # An oblique kernel's mixed terms jump at the Nyquist frequency, so it rings near the ball's
    # surface, by up to 6 % of the peak field; away from axial that is what sampling k-space costs.
    # On average it does not matter.
    worst = 0.015 if b0_dir == (0, 0, 1) else 0.065
    expected, fraction = sphere_field(shape, voxel_size, b0_dir, radius=12, chi=1)
    field = convolve(dipole_kernel(shape, voxel_size, b0_dir), fraction)
    error = (field - expected) / expected.max()
    r = np.sqrt(sum(c**2 for c in centred_coordinates(shape, voxel_size)))
    for region in (r < 12 - 2 * max(voxel_size), (r > 12 + 2 * max(voxel_size)) & (r < 40)):
        assert np.abs(error[region]).max() < worst
        assert np.sqrt(np.mean(error[region] ** 2)) < 0.02


@pytest.mark.parametrize("shape", [(8, 6, 10), (7, 6, 9), (8, 7, 10)])
def test_convolution_is_symmetric_for_any_direction(shape):
    rng = np.random.default_rng(0)
    kernel = dipole_kernel(shape, (1, 1.2, 2), (0.3, -0.5, 0.8))
    a, b = rng.normal(size=(2, *shape))
    assert np.vdot(a, convolve(kernel, b)) == pytest.approx(
        np.vdot(convolve(kernel, a), b), rel=1e-6
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(8, 6, 10), (7, 5, 9)])
def test_inverse_transform_restores_the_volume(shape, dtype):
    volume = np.random.default_rng(0).normal(size=shape).astype(dtype)
    back = inverse_transform(fft.rfftn(volume), shape)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, volume, atol=10 * np.finfo(dtype).eps)


def test_b0_of_an_oblique_anisotropic_scan():
    # The scanner's z axis in the axes of a volume that was tilted about x.
    affine = np.eye(4)
    affine[:3, :3] = rotation_about_x(20) @ np.diag([0.5, 0.5, 2])
    np.testing.assert_allclose(
        b0_direction(affine), [0, np.sin(np.radians(20)), np.cos(np.radians(20))], atol=1e-12
    )


def test_b0_of_a_sagittal_left_handed_scan():
    affine = np.array([[0, 0, 1.2, 5], [0.9, 0, 0, 7], [0, -0.9, 0, 3], [0, 0, 0, 1]])
    np.testing.assert_allclose(b0_direction(affine), [0, -1, 0], atol=1e-12)


def test_degenerate_affine_is_refused():
    with pytest.raises(ValueError, match="three dimensions"):
        b0_direction(np.diag([1, 1, 0, 1]))
