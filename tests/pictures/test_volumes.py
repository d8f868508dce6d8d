"""Figures of volumes: planes, conventions, outlines and checkerboards."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from multiqsm.pictures import overlays, slices
from multiqsm.pictures.planes import mark_sides


def head_maps(shape=(48, 56, 40), seed=0):
    """Return a map of an ellipsoidal brain with bright nuclei, and its mask."""
    random = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n) for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    mask = (grid**2).sum(axis=0) < 0.85
    values = random.normal(0, 0.01, shape)
    for centre in ((0.25, 0.1, 0), (-0.25, 0.1, 0), (0.1, -0.1, -0.3), (-0.1, -0.1, -0.3)):
        distance = (grid - np.reshape(centre, (3, 1, 1, 1))) / 0.12
        values += 0.12 * np.exp(-(distance**2).sum(axis=0))
    return np.where(mask, values, 0).astype(np.float32), mask


def test_maps_are_drawn_in_radiological_convention():
    values, mask = head_maps()
    values[32:] += mask[32:]  # high x in RAS+ is the patient's right
    figure = slices.compare_maps_figure(
        {"one": values, "two": -values}, mask, (1, 1, 2), (-1, 1), "ppm"
    )
    axial = figure.axes[0].images[0].get_array()
    third = axial.shape[1] // 3
    assert np.nanmean(axial[:, :third]) > np.nanmean(axial[:, -third:]) + 0.5
    coronal = figure.axes[2]
    assert coronal.get_aspect() == 2
    assert coronal.images[0].get_array().shape[0] <= values.shape[2]
    windows = {"one": (-1, 1), "two": (-0.1, 0.1)}
    figure = slices.compare_maps_figure(
        {"one": values, "two": -values}, mask, (1, 1, 2), windows, "ppm"
    )
    assert [axis.images[0].get_clim() for axis in figure.axes[:2]] == [(-1, 1), (-0.1, 0.1)]
    with pytest.raises(ValueError, match="resample"):
        slices.compare_maps_figure({"one": values[1:]}, mask, (1, 1, 2), (-1, 1), "ppm")
    with pytest.raises(ValueError, match="mask is empty"):
        slices.compare_maps_figure({"one": values}, ~(mask | True), (1, 1, 2), (-1, 1), "ppm")


def test_difference_of_two_maps_is_drawn_next_to_them():
    values, mask = head_maps()
    figure = slices.susceptibility_figure({"one": values, "two": 0.5 * values}, mask, (1, 1, 2))
    assert [axis.get_title() for axis in figure.axes[:3]] == ["one", "two", "difference"]
    first, second, difference = (axis.images[0].get_array() for axis in figure.axes[:3])
    np.testing.assert_allclose(difference, first - second)
    assert [axis.images[0].get_clim() for axis in figure.axes[:3]] == [(-0.1, 0.15)] * 2 + [
        (-0.05, 0.05)
    ]
    several = slices.susceptibility_figure(dict.fromkeys("abc", values), mask, (1, 1, 2))
    assert [axis.get_title() for axis in several.axes[:3]] == ["a", "b", "c"]
    maps = {"medi": 3 * values, "iterative": 2 * values, "deterministic": values}
    four = slices.susceptibility_figure(maps, mask, (1, 1, 2)).axes[:4]
    assert four[3].get_title() == "iterative − deterministic"
    np.testing.assert_allclose(four[3].images[0].get_array(), four[2].images[0].get_array())
    assert four[3].images[0].get_clim() == (-0.05, 0.05)


def test_planes_intersect_a_mask_in_two_parts():
    values = np.zeros((40, 30, 20))
    mask = np.zeros(values.shape, bool)
    mask[2:6, 5:9, 3:7] = True
    mask[30:34, 20:24, 12:16] = True
    values[mask] = 1
    figure = slices.slices_figure(values, mask, (1, 1, 2), (0, 1), "an image", "ppm", True)
    planes = figure.axes[:9]
    assert all(axis.images[0].get_array().max() == 1 for axis in planes)
    assert all(axis.collections for axis in planes)
    assert [axis.get_aspect() for axis in planes[::3]] == [1, 2, 2]
    assert figure.get_suptitle() == "an image"
    plain = slices.slices_figure(values, mask, (1, 1, 2), (0, 1), "an image", "ppm", False)
    assert not any(axis.collections for axis in plain.axes[:9])
    with pytest.raises(ValueError, match="'an image' has the shape"):
        slices.slices_figure(values[1:], mask, (1, 1, 2), (0, 1), "an image", "ppm", True)


def test_sides_of_the_patient_are_marked_where_they_are():
    """The voxel at high x is on the patient's right, and that at high y in front."""
    values = np.zeros((40, 30, 20))
    mask = np.ones(values.shape, bool)
    values[39, :, :] = 1
    values[:, 29, :] += 2
    figure = slices.slices_figure(values, mask, (1, 1, 2), (0, 3), "an image", "ppm", False)
    for axis in figure.axes[:9]:
        left, right = axis.texts
        assert left.get_position()[0] < right.get_position()[0]
    axial, sagittal = figure.axes[0], figure.axes[8]
    assert [text.get_text() for text in axial.texts] == ["R", "L"]
    assert [text.get_text() for text in sagittal.texts] == ["P", "A"]
    picture = axial.images[0].get_array()
    assert picture[5, 0] == 1
    assert picture[5, -1] == 0
    assert sagittal.images[0].get_array()[5, -1] == 2


@pytest.mark.parametrize("shift", np.arange(10) / 10)
def test_left_is_marked_by_an_l_at_any_height(shift):
    """The foot of the L, thinner than a pixel, was lost at some heights: it looked like an I."""
    figure = Figure(figsize=(0.5, 0.5), dpi=100, facecolor="black")
    axis = figure.add_axes([0, shift / 50, 1, 1])  # in steps of a tenth of a pixel
    axis.axis("off")
    mark_sides(axis, 2)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    letter = np.asarray(canvas.buffer_rgba())[:, 25:, 0] / 255
    columns = np.flatnonzero(letter.max(axis=0) > 0.25)
    assert columns.size > 3


def test_difference_has_the_window_that_is_asked_for():
    values, mask = head_maps()
    windows = {"window": (-0.5, 2.5), "difference_window": (-0.3, 0.3)}
    maps = {"iterative": values, "deterministic": values / 2}
    figure = slices.susceptibility_figure(maps, mask, (1, 1, 2), **windows)
    assert figure.axes[0].images[0].get_clim() == (-0.5, 2.5)
    assert figure.axes[2].images[0].get_clim() == (-0.3, 0.3)


def test_checkerboard_alternates_between_scan_and_average():
    _, mask = head_maps()
    average = np.where(mask, 1.0, 0.0)
    scan = np.where(mask, 2.0, 0.0)
    figure = overlays.registration_figure(average, {"scan": scan}, (1, 1, 2), mask=mask)
    board = figure.axes[0].images[0].get_array()
    inside = board[board[..., 0] > 0]
    tinted = np.isclose(inside, overlays.TINT).all(axis=1)
    assert 0.4 < tinted.mean() < 0.6
    assert np.isclose(inside[~tinted], 1).all()
    with pytest.raises(ValueError, match="no scan"):
        overlays.registration_figure(average, {}, (1, 1, 2))


def test_regions_excluded_voxels_and_reference_are_drawn():
    chi = np.zeros((30, 40, 20))
    region = np.zeros(chi.shape, bool)
    region[5:25, 15:25, 5:15] = True
    excluded = np.zeros(chi.shape, bool)
    excluded[5:10, 15:25, 5:15] = True
    reference = np.zeros(chi.shape, bool)
    reference[10:13, 3:6, 16:18] = True
    figure = overlays.region_figure(
        chi, region, excluded, reference, (1, 1, 2), title="somebody's map"
    )
    axes = figure.axes[:8]
    tinted = [axis.images[1].get_array()[..., 3].any() for axis in axes]
    # The sagittal plane through the right end of the region has no excluded voxels.
    assert tinted == [True, True, True, False, True, True, False, False]
    assert all(axis.collections for axis in axes)
    assert figure.get_suptitle() == "somebody's map"
    # In radiological convention the excluded voxels, at low x, are on the right of the picture.
    picture = axes[1].images[1].get_array()[..., 3]
    assert np.flatnonzero(picture.any(axis=0)).min() > picture.shape[1] / 2
    with pytest.raises(ValueError, match="'the map' has the shape"):
        overlays.region_figure(chi[1:], region, excluded, reference, (1, 1, 2), title="")
    with pytest.raises(ValueError, match="mask is empty"):
        overlays.region_figure(chi, region & False, excluded, reference, (1, 1, 2), title="")


def test_lesions_are_outlined_in_the_planes_of_their_volume():
    flair = np.full((20, 24, 30), 100.0)
    lesions = np.zeros(flair.shape, bool)
    lesions[5:9, 5:9, 10:20] = True
    figure = overlays.lesion_figure(flair, lesions, (1, 1, 2), slices=5)
    plain = figure.axes[:5]
    outlined = figure.axes[5:]
    assert len(outlined) == 5
    assert not any(axis.collections for axis in plain)
    assert all(axis.collections for axis in outlined)
    empty = overlays.lesion_figure(flair, lesions & False, (1, 1, 2))
    assert not any(axis.collections for axis in empty.axes)
    with pytest.raises(ValueError, match="'the lesions' has the shape"):
        overlays.lesion_figure(flair, lesions[1:], (1, 1, 2))
