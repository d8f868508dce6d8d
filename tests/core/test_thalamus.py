"""The thalamus's region of interest: smooth edges, no veins; and its reference in the atria."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from multiqsm.core.dipole import b0_direction
from multiqsm.core.regions.atrium import find_atria, sphere_mask
from multiqsm.core.regions.reference import right_direction
from multiqsm.core.regions.thalamus import smooth_labels, surface_veins

RNG = np.random.default_rng(0)


def points_of(shape, affine):
    return np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]


def centred(shape, linear):
    affine = np.eye(4)
    affine[:3, :3] = linear
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def segment_distance(points, start, end):
    along = np.subtract(end, start)
    t = np.clip((points - start) @ along / (along @ along), 0, 1)
    return np.linalg.norm(points - start - t[:, None] * along, axis=1)


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (0.5, 0.5, 2.0)])
def test_smoothing_removes_ragged_edges_and_preserves_the_volume(voxel_size):
    shape = tuple(np.divide(40, voxel_size).astype(int).tolist())
    points = points_of(shape, centred(shape, np.diag(voxel_size)))
    distance = np.linalg.norm(points, axis=1).reshape(shape)
    ball = distance < 12
    ragged = np.where(np.abs(distance - 12) < 1.0, RNG.random(shape) < 0.5, ball)
    smooth = smooth_labels(ragged.astype(np.int16) * 7, voxel_size, 2.0)
    assert set(np.unique(smooth)) == {0, 7}
    assert smooth.dtype == np.int16
    assert np.count_nonzero(smooth) == pytest.approx(ball.sum(), rel=0.03)
    assert np.count_nonzero((smooth > 0) != ball) < 0.35 * np.count_nonzero(ragged != ball)


def test_adjacent_labels_remain_adjacent():
    labels = np.zeros((30, 20, 20), int)
    labels[5:15, 5:15, 5:15] = 1
    labels[15:25, 5:15, 5:15] = 2
    smooth = smooth_labels(labels, (1, 1, 1), 2.0)
    assert (smooth[6:24, 10, 10] > 0).all()
    assert smooth[14, 10, 10] == 1
    assert smooth[15, 10, 10] == 2
    assert smooth[5, 5, 5] == 0  # a corner is rounded


def test_width_of_the_smoothing():
    labels = np.eye(3, dtype=int)[..., None]
    np.testing.assert_array_equal(smooth_labels(labels, (1, 1, 1), 0), labels)
    with pytest.raises(ValueError, match="must not be negative, got -1 mm"):
        smooth_labels(labels, (1, 1, 1), -1)


ORIENTATIONS = {
    "axial": np.diag([1.0, 1.0, 2.0]),
    "flipped": np.diag([-1.0, 1.0, 2.0]),
    "oblique": Rotation.from_euler("xyz", (8, -5, 4), degrees=True).as_matrix()
    @ np.diag([1.0, 1.0, 1.5]),
    "sagittal": np.array([[0, 0, 1.5], [-1.0, 0, 0], [0, 1.0, 0]]),
}


def shape_that_covers(size, linear):
    """Return the shape of a grid with the given axes that covers a box of a size in mm."""
    return tuple(np.ceil(np.abs(np.linalg.inv(linear)) @ size).astype(int).tolist())


def two_thalami(linear, *, noise=0.004, chi=-0.03):
    """Return susceptibility, region, mask, veins by their place, and affine.

    Two ellipsoids have -30 ppb in tissue of zero. Veins run along their medial, lower and lateral
    surfaces.
    """
    shape = shape_that_covers((76, 60, 50), linear)
    affine = centred(shape, linear)
    points = points_of(shape, affine)
    mirrored = points.copy()
    mirrored[:, 0] = np.abs(points[:, 0])  # both sides are mirror images
    region = np.linalg.norm((mirrored - (13, 0, 0)) / (8, 13, 10), axis=1) < 1
    veins = {
        "medial": segment_distance(mirrored, (5.5, -8, 2), (5.5, 8, 2)) < 1.3,
        "lower": segment_distance(mirrored, (13, -6, -8.8), (13, 6, -8.8)) < 1.3,
        "lateral": segment_distance(mirrored, (20.5, -6, 0), (20.5, 6, 0)) < 1.3,
    }
    image = np.where(region, chi, 0.0)
    for place, vein in veins.items():
        image[vein] = 0.2
        veins[place] = vein.reshape(shape)
    image = image + noise * np.random.default_rng(1).standard_normal(len(points))
    mask = np.linalg.norm(points / (36, 28, 23), axis=1) < 1
    return image.reshape(shape), region.reshape(shape), mask.reshape(shape), veins, affine


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_veins_along_the_medial_and_lower_surface_are_left_out(orientation):
    chi, region, mask, veins, affine = two_thalami(ORIENTATIONS[orientation])
    voxel_size = np.linalg.norm(affine[:3, :3], axis=0)
    directions = {"right": right_direction(affine), "up": b0_direction(affine)}
    found_veins = surface_veins(chi, region, mask, voxel_size, **directions)
    for place, min_fraction in (("medial", 0.9), ("lower", 0.8)):
        inside = veins[place] & region
        assert inside.sum() > 30
        assert found_veins[inside].mean() > min_fraction
    assert found_veins[veins["lateral"] & region].mean() < 0.05
    healthy = region & ~np.any(list(veins.values()), axis=0)
    assert found_veins[healthy].mean() < 0.02
    assert not found_veins[~region].any()


def test_hardly_any_voxel_of_a_thalamus_without_veins_is_left_out():
    chi, region, mask, _, affine = two_thalami(ORIENTATIONS["axial"])
    noise = -0.03 + 0.005 * np.random.default_rng(2).standard_normal(chi.shape)
    directions = {"right": right_direction(affine), "up": b0_direction(affine)}
    assert surface_veins(noise, region, mask, (1, 1, 2), **directions)[region].mean() < 5e-3
    assert not surface_veins(noise, np.zeros_like(region), mask, (1, 1, 2), **directions).any()


def test_unusable_input_is_refused():
    chi, region, mask, _, _ = two_thalami(ORIENTATIONS["axial"])
    options = {"voxel_size": (1, 1, 2), "right": (1, 0, 0), "up": (0, 0, 1)}
    with pytest.raises(ValueError, match="must have the same shape"):
        surface_veins(chi[1:], region, mask, **options)
    with pytest.raises(ValueError, match="mask is empty"):
        surface_veins(chi, region, np.zeros_like(mask), **options)


TRIGONE = np.array([24.0, -38.0, 14.0])


def ventricles_of(linear):
    """Return lateral ventricles, mask and affine.

    Body and horns are tubes that are widest at the trigone.
    """
    shape = shape_that_covers((120, 150, 100), linear)
    affine = centred(shape, linear)
    points = points_of(shape, affine)
    mirrored = points.copy()
    mirrored[:, 0] = np.abs(points[:, 0])
    chain = [(8, 25, 5, 5.0), (12, -8, 22, 5.5), (*TRIGONE, 8.0), (26, -66, 6, 3.0)]
    inside = np.zeros(len(points), bool)
    for (*start, start_radius), (*end, end_radius) in pairwise(chain):
        along = np.subtract(end, start)
        t = np.clip((mirrored - start) @ along / (along @ along), 0, 1)
        distance = np.linalg.norm(mirrored - start - t[:, None] * along, axis=1)
        inside |= distance < start_radius + t * (end_radius - start_radius)
    mask = np.linalg.norm(points / (58, 74, 49), axis=1) < 1
    return inside.reshape(shape), mask.reshape(shape), affine


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_spheres_lie_in_the_trigones(orientation):
    ventricles, mask, affine = ventricles_of(ORIENTATIONS[orientation])
    atria = find_atria(ventricles, affine, mask, radius=2.5)
    np.testing.assert_allclose(atria.centres, [TRIGONE * (-1, 1, 1), TRIGONE], atol=4)
    np.testing.assert_allclose(atria.depths, 8, atol=1.6)
    sphere = 4 / 3 * np.pi * 2.5**3 / abs(np.linalg.det(affine[:3, :3]))
    np.testing.assert_allclose(atria.n_voxels, sphere, rtol=0.25)
    assert atria.mask.sum() == sum(atria.n_voxels)
    assert not (atria.mask & ~ndimage.binary_erosion(ventricles)).any()


def test_a_sphere_wider_than_the_ventricle_is_restricted_to_it():
    ventricles, mask, affine = ventricles_of(ORIENTATIONS["axial"])
    atria = find_atria(ventricles, affine, mask, radius=15)
    assert not (atria.mask & ~ventricles).any()


def test_a_missing_ventricle_is_reported():
    ventricles, mask, affine = ventricles_of(ORIENTATIONS["axial"])
    ventricles[: ventricles.shape[0] // 2] = False
    with pytest.raises(ValueError, match="no voxel of the left lateral ventricle"):
        find_atria(ventricles, affine, mask)
    with pytest.raises(ValueError, match="must be positive, got 0 mm"):
        find_atria(ventricles, affine, mask, radius=0)
    with pytest.raises(ValueError, match="mask is empty"):
        find_atria(ventricles, affine, mask & False)


def test_a_sphere_at_given_coordinates():
    affine = centred((41, 41, 21), ORIENTATIONS["oblique"])
    centre = np.array([3.3, -4.2, 5.1])
    sphere = sphere_mask(centre, affine, (41, 41, 21), 5.0)
    assert sphere.sum() * 1.5 == pytest.approx(4 / 3 * np.pi * 125, rel=0.05)
    np.testing.assert_allclose(
        points_of(sphere.shape, affine)[sphere.ravel()].mean(axis=0), centre, atol=0.15
    )
    assert sphere_mask(centre, affine, (41, 41, 21), 0.01).sum() == 1
    with pytest.raises(ValueError, match=r"300\.0, 0\.0, 0\.0 mm lies outside the image"):
        sphere_mask((300, 0, 0), affine, (41, 41, 21), 5.0)
