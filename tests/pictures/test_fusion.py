"""The picture of a map fused with another image."""

import numpy as np
import pytest

from multiqsm.pictures.fusion import COLOUR_WINDOW, OPACITY, fusion_figure

SHAPE = (30, 36, 24)
VOXEL_SIZE = (1.0, 1.0, 2.0)
NAMES = {"image_name": "FLAIR", "title": "FLAIR and susceptibility"}


def volumes():
    """Return image, map, a region with excluded voxels at its low end of x, and two references."""
    image = np.random.default_rng(0).uniform(50, 100, SHAPE)
    regions = np.zeros(SHAPE, bool)
    regions[5:25, 10:20, 4:14] = True
    excluded = regions.copy()
    excluded[8:] = False
    reference = np.zeros(SHAPE, bool)
    reference[4:7, 25:28, 16:19] = True
    reference[22:26, 25:29, 18:22] = True
    chi = np.where(regions, COLOUR_WINDOW[0], 0.0)
    return image, chi, regions, excluded, reference


def panels(figure, n_columns):
    return np.reshape(figure.axes[: 3 * n_columns], (3, n_columns))


def test_planes_lie_in_regions_and_in_both_references():
    image, chi, regions, excluded, reference = volumes()
    figure = fusion_figure(image, chi, regions, excluded, reference, VOXEL_SIZE, **NAMES)
    axes = panels(figure, 6)  # four planes through the region, one through each reference
    outlined = [[bool(axis.collections) for axis in row] for row in axes]
    assert outlined == [[True] * 6] * 3
    tints = [axis.images[-1].get_array()[..., 3].any() for axis in axes[0]]
    assert tints == [True] * 4 + [False] * 2
    # In radiological convention the excluded voxels, at low x, are on the right of the picture.
    tinted_columns = np.flatnonzero(axes[0, 0].images[-1].get_array()[..., 3].any(axis=0))
    assert tinted_columns.min() > SHAPE[0] / 2
    assert figure.get_suptitle() == "FLAIR and susceptibility"


def test_map_is_transparent_at_zero_and_opaque_at_the_end_of_the_window():
    image, chi, regions, excluded, reference = volumes()
    figure = fusion_figure(image, chi, regions, excluded, reference, VOXEL_SIZE, **NAMES)
    colours = panels(figure, 6)[1, 0].images[1].get_array()
    inside = colours[15, 15]
    np.testing.assert_allclose(colours[30, 15, 3], 0)
    np.testing.assert_allclose(inside[3], OPACITY)
    assert inside[2] > inside[0]  # diamagnetic tissue is blue


def test_reference_in_a_plane_of_the_region_has_no_second_column():
    image, chi, regions, excluded, reference = volumes()
    reference = np.zeros(SHAPE, bool)
    figure = fusion_figure(image, chi, regions, excluded, reference, VOXEL_SIZE, **NAMES)
    assert len(figure.axes) == 3 * 4 + 2  # and two colour bars
    reference[4:7, 25:28, 5] = True  # the lowest plane of the region that is shown
    figure = fusion_figure(image, chi, regions, excluded, reference, VOXEL_SIZE, **NAMES)
    assert len(figure.axes) == 3 * 4 + 2


def test_shapes_and_region_are_checked():
    image, chi, regions, excluded, reference = volumes()
    with pytest.raises(ValueError, match="'FLAIR' has the shape"):
        fusion_figure(image[1:], chi, regions, excluded, reference, VOXEL_SIZE, **NAMES)
    with pytest.raises(ValueError, match="mask is empty"):
        fusion_figure(image, chi, regions & False, excluded, reference, VOXEL_SIZE, **NAMES)
