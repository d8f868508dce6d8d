"""The thalamus's volume of interest: smooth edges, no veins; and the spheres that it is compared
with.
"""

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
def test_smoothing_takes_ragged_edges_off_and_keeps_the_volume(voxel_size):
    shape = tuple(int(40 / v) for v in voxel_size)
    distance = np.linalg.norm(
        points_of(shape, centred(shape, np.diag(voxel_size))), axis=1
    ).reshape(shape)
    ball = distance < 12
    ragged = np.where(np.abs(distance - 12) < 1.0, RNG.random(shape) < 0.5, ball)
    smooth = smooth_labels(ragged.astype(np.int16) * 7, voxel_size, 2.0)
    assert set(np.unique(smooth)) == {0, 7}
    assert smooth.dtype == np.int16
    assert np.count_nonzero(smooth) == pytest.approx(ball.sum(), rel=0.03)
    assert np.count_nonzero((smooth > 0) != ball) < 0.35 * np.count_nonzero(ragged != ball)


def test_labels_that_touch_still_do_and_no_width_changes_nothing():
    labels = np.zeros((30, 20, 20), int)
    labels[5:15, 5:15, 5:15], labels[15:25, 5:15, 5:15] = 1, 2
    smooth = smooth_labels(labels, (1, 1, 1), 2.0)
    assert (smooth[6:24, 10, 10] > 0).all()
    assert smooth[14, 10, 10] == 1
    assert smooth[15, 10, 10] == 2
    assert smooth[5, 5, 5] == 0  # a corner is rounded off
    np.testing.assert_array_equal(smooth_labels(labels, (1, 1, 1), 0), labels)
    with pytest.raises(ValueError, match="a width of -1 mm"):
        smooth_labels(labels, (1, 1, 1), -1)


TURNS = {
    "axial": np.diag([1.0, 1.0, 2.0]),
    "left to right": np.diag([-1.0, 1.0, 2.0]),
    "oblique": Rotation.from_euler("xyz", (8, -5, 4), degrees=True).as_matrix()
    @ np.diag([1.0, 1.0, 1.5]),
    "sagittal": np.array([[0, 0, 1.5], [-1.0, 0, 0], [0, 1.0, 0]]),
}


def two_thalami(linear, *, noise=0.004, chi=-0.03):
    """Two ellipsoids at -30 ppb in tissue of zero; veins along their medial, lower and lateral
    surfaces.
    """
    size = np.abs(linear) @ np.ones(3)
    shape = tuple(int(n) for n in np.ceil(np.abs(np.linalg.inv(linear)) @ np.array([76, 60, 50])))
    affine = centred(shape, linear)
    points = points_of(shape, affine)
    assert size.min() > 0
    sides = [
        np.linalg.norm((points - (side * 13, 0, 0)) / (8, 13, 10), axis=1) < 1 for side in (-1, 1)
    ]
    region = np.any(sides, axis=0)
    veins = {
        "medial": np.min(
            [segment_distance(points, (s * 5.5, -8, 2), (s * 5.5, 8, 2)) for s in (-1, 1)], axis=0
        )
        < 1.3,
        "lower": np.min(
            [segment_distance(points, (s * 13, -6, -8.8), (s * 13, 6, -8.8)) for s in (-1, 1)],
            axis=0,
        )
        < 1.3,
        "lateral": np.min(
            [segment_distance(points, (s * 20.5, -6, 0), (s * 20.5, 6, 0)) for s in (-1, 1)], axis=0
        )
        < 1.3,
    }
    image = np.where(region, chi, 0.0)
    for vein in veins.values():
        image[vein] = 0.2
    image = image + noise * np.random.default_rng(1).standard_normal(len(points))
    mask = np.linalg.norm(points / (36, 28, 23), axis=1) < 1
    return (
        *(array.reshape(shape) for array in (image, region, mask)),
        {k: v.reshape(shape) for k, v in veins.items()},
        affine,
    )


@pytest.mark.parametrize("turn", TURNS)
def test_veins_along_the_medial_and_lower_surface_are_left_out(turn):
    chi, region, mask, veins, affine = two_thalami(TURNS[turn])
    voxel_size = np.linalg.norm(affine[:3, :3], axis=0)
    directions = {"right": right_direction(affine), "up": b0_direction(affine)}
    found = surface_veins(chi, region, mask, voxel_size, **directions)
    for place, least in (("medial", 0.9), ("lower", 0.8)):
        inside = veins[place] & region
        assert inside.sum() > 30
        assert found[inside].mean() > least
    assert found[veins["lateral"] & region].mean() < 0.05
    healthy = region & ~np.any(list(veins.values()), axis=0)
    assert found[healthy].mean() < 0.02
    assert not found[~region].any()


def test_a_thalamus_without_veins_keeps_its_voxels():
    chi, region, mask, _, affine = two_thalami(TURNS["axial"])
    noise = -0.03 + 0.005 * np.random.default_rng(2).standard_normal(chi.shape)
    directions = {"right": right_direction(affine), "up": b0_direction(affine)}
    assert surface_veins(noise, region, mask, (1, 1, 2), **directions)[region].mean() < 5e-3
    assert not surface_veins(noise, np.zeros_like(region), mask, (1, 1, 2), **directions).any()


def test_veins_need_arrays_of_one_shape_and_a_brain():
    chi, region, mask, _, _ = two_thalami(TURNS["axial"])
    options = {"voxel_size": (1, 1, 2), "right": (1, 0, 0), "up": (0, 0, 1)}
    with pytest.raises(ValueError, match="must have one shape"):
        surface_veins(chi[1:], region, mask, **options)
    with pytest.raises(ValueError, match="mask is empty"):
        surface_veins(chi, region, np.zeros_like(mask), **options)


TRIGONE = np.array([24.0, -38.0, 14.0])


def ventricles_of(linear):
    """Horns and body as tubes that are widest at the trigone, on both sides; a brain around
    them.
    """
    shape = tuple(
        int(n) for n in np.ceil(np.abs(np.linalg.inv(linear)) @ np.array([120, 150, 100]))
    )
    affine = centred(shape, linear)
    points = points_of(shape, affine)
    mirrored = points * (1, 1, 1)
    mirrored[:, 0] = np.abs(points[:, 0])
    chain = [(8, 25, 5, 5.0), (12, -8, 22, 5.5), (*TRIGONE, 8.0), (26, -66, 6, 3.0)]
    inside = np.zeros(len(points), bool)
    for (*start, near), (*end, far) in pairwise(chain):
        along = np.subtract(end, start)
        t = np.clip((mirrored - start) @ along / (along @ along), 0, 1)
        gap = np.linalg.norm(mirrored - start - t[:, None] * along, axis=1)
        inside |= gap < near + t * (far - near)
    mask = np.linalg.norm(points / (58, 74, 49), axis=1) < 1
    return inside.reshape(shape), mask.reshape(shape), affine


@pytest.mark.parametrize("turn", TURNS)
def test_spheres_lie_in_the_trigones(turn):
    ventricles, mask, affine = ventricles_of(TURNS[turn])
    found = find_atria(ventricles, affine, mask, radius=2.5)
    np.testing.assert_allclose(found.centres, [TRIGONE * (-1, 1, 1), TRIGONE], atol=4)
    np.testing.assert_allclose(found.depths, 8, atol=1.6)
    sphere = 4 / 3 * np.pi * 2.5**3 / abs(np.linalg.det(affine[:3, :3]))
    np.testing.assert_allclose(found.n_voxels, sphere, rtol=0.25)
    assert found.mask.sum() == sum(found.n_voxels)
    assert not (found.mask & ~ndimage.binary_erosion(ventricles)).any()


def test_a_sphere_wider_than_the_ventricle_stays_within():
    ventricles, mask, affine = ventricles_of(TURNS["axial"])
    found = find_atria(ventricles, affine, mask, radius=15)
    assert not (found.mask & ~ventricles).any()


def test_a_missing_ventricle_is_named():
    ventricles, mask, affine = ventricles_of(TURNS["axial"])
    ventricles[: ventricles.shape[0] // 2] = False
    with pytest.raises(ValueError, match="no voxel of the left lateral ventricle"):
        find_atria(ventricles, affine, mask)
    with pytest.raises(ValueError, match="a radius of 0 mm"):
        find_atria(ventricles, affine, mask, radius=0)
    with pytest.raises(ValueError, match="mask is empty"):
        find_atria(ventricles, affine, mask & False)


def test_a_sphere_at_a_point():
    affine = centred((41, 41, 21), TURNS["oblique"])
    centre = np.array([3.3, -4.2, 5.1])
    sphere = sphere_mask(centre, affine, (41, 41, 21), 5.0)
    assert sphere.sum() * 1.5 == pytest.approx(4 / 3 * np.pi * 125, rel=0.05)
    np.testing.assert_allclose(
        points_of(sphere.shape, affine)[sphere.ravel()].mean(axis=0), centre, atol=0.15
    )
    assert sphere_mask(centre, affine, (41, 41, 21), 0.01).sum() == 1
    with pytest.raises(ValueError, match=r"300\.0, 0\.0, 0\.0 mm lies outside the image"):
        sphere_mask((300, 0, 0), affine, (41, 41, 21), 5.0)
