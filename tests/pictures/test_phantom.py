"""The picture of a phantom shows the plane that contains the axes of two tubes."""

import numpy as np
import pytest

from multiqsm.pictures.phantom import tube_plane, tubes_figure

SHAPE = (40, 44, 30)
VOXEL_SIZE = (1.0, 1.0, 2.0)
# Centres in voxels: the strongest, one beside it, and one in front of it and a little to the side.
CENTRES = {1: (20, 12), 2: (8, 14), 3: (23, 32)}


def upright_tubes(shear=0.0):
    """Label three tubes along z; a shear tilts them towards +x."""
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    labels = np.zeros(SHAPE, int)
    for label, (u, v) in CENTRES.items():
        labels[np.hypot(x - u - shear * (z - 14.5), y - v) < 3] = label
    return labels


@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_plane_holds_the_axes_of_both_tubes(shear):
    labels = upright_tubes(shear)
    origin, along, across = tube_plane(labels, VOXEL_SIZE, strongest=1)
    normal = np.cross(along, across)
    np.testing.assert_allclose([along @ across, np.linalg.norm(normal)], [0, 1], atol=1e-12)
    # Half a voxel: the axes are those of tubes made of whole voxels.
    for label in (1, 3):
        points = np.argwhere(labels == label) * VOXEL_SIZE
        for z in (2.0, 28.0, 56.0):
            centre = points[points[:, 2] == z].mean(axis=0)
            assert abs((centre - origin) @ normal) < 0.5
    assert across[1] > 0.9
    assert along[2] > 0.9


def test_two_rows_show_each_map_in_two_windows():
    labels = upright_tubes()
    maps = {"iterative": labels * 1.0, "deterministic": labels * 0.5}
    figure = tubes_figure(maps, np.ones(SHAPE, bool), labels, VOXEL_SIZE, strongest=1)
    images = [axis.images[0] for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in figure.axes[:2]] == ["iterative", "deterministic"]
    wide = images[0]
    narrow = images[2]
    assert wide.get_clim()[1] > 2 > narrow.get_clim()[1]
    plane = wide.get_array()
    # The plane runs through tubes 1 and 3, each 5 voxels of 1 mm wide or more, and not through 2.
    labels_in_plane, counts = np.unique(np.rint(plane.compressed()), return_counts=True)
    assert {1, 3} <= set(labels_in_plane[counts > 100])
    assert plane.shape[0] == 59  # 30 slices of 2 mm, from centre to centre, in steps of 1 mm


@pytest.mark.parametrize("strongest", [1, 9])
def test_one_tube_has_no_plane(strongest):
    labels = np.where(upright_tubes() == 1, 1, 0)
    with pytest.raises(ValueError, match="a plane needs tube"):
        tube_plane(labels, VOXEL_SIZE, strongest)
