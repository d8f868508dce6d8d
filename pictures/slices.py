"""Pictures of volumes in three planes: one image, or maps side by side."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..core.grid import Vector
from .drawing import short_name
from .planes import (
    CHI_WINDOW,
    add_bar,
    bounding_box,
    box_size,
    check_shapes,
    levels_of,
    mark_sides,
    plane_at,
    slice_of,
)

PLANES = (2, 1, 0)  # axes that axial, coronal and sagittal planes are perpendicular to
# Position of each plane as a fraction of the mask's extent, by the axis perpendicular to it. In a
# mask of the whole brain, the axial plane lies at the height of the globus pallidus.
FRACTIONS = {0: 0.5, 1: 0.5, 2: 0.45}
COMPARED = ("iterative", "deterministic")  # maps whose difference is shown, first minus second
DIFFERENCE_WINDOW = (-0.05, 0.05)  # ppm
# Positions of the nine planes and of the colour bar in the figure.
PLACES = {"left": 0.01, "right": 0.87, "bottom": 0.01, "top": 0.95, "wspace": 0.02, "hspace": 0.02}
BAR = (0.895, 0.3, 0.02, 0.4)


def slices_figure(
    data: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    window: Sequence[float],
    title: str,
    unit: str,
    outline: bool,
) -> Figure:
    """Draw a volume in RAS+ orientation in three planes, at a third, half and two thirds of the
    mask's extent.

    Parameters
    ----------
    data : ndarray, shape (x, y, z)
    mask : ndarray of bool, shape (x, y, z)
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    window : sequence of 2 floats
        Values shown as black and as white.
    title, unit : str
    outline : bool
        Draw the mask's outline.

    Returns
    -------
    matplotlib.figure.Figure
        On black, in radiological convention.

    Raises
    ------
    ValueError
        If the shapes differ or the mask is empty.
    """
    check_shapes({title: data}, mask)
    # Positions are fixed, because a layout engine would take longer than the drawing itself.
    figure = Figure(figsize=(9, 9), facecolor="black")
    axes = figure.subplots(3, 3, gridspec_kw=PLACES)
    for row, plane in zip(axes, PLANES, strict=True):
        levels = levels_of(mask, plane)
        for axis, fraction in zip(row, (0.35, 0.5, 0.65), strict=True):
            index = levels[int(fraction * (levels.size - 1))]
            picture, aspect = slice_of(data, plane, voxel_size, index)
            inside, _ = slice_of(mask, plane, voxel_size, index)
            image = axis.imshow(
                picture, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", aspect=aspect
            )
            if outline and inside.any() and not inside.all():
                axis.contour(inside, [0.5], colors="tab:red", linewidths=0.8)
            mark_sides(axis, plane)
            axis.axis("off")
    figure.suptitle(title, color="white")
    bar = figure.colorbar(image, cax=figure.add_axes(BAR))
    bar.set_label(unit, color="white")
    bar.ax.tick_params(colors="white")
    return figure


def susceptibility_figure(
    maps: Mapping[str, np.ndarray],
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    window: Sequence[float] = CHI_WINDOW,
    difference_window: Sequence[float] = DIFFERENCE_WINDOW,
) -> Figure:
    """Draw a scan's susceptibility maps side by side, with a difference in a window of its own.

    The difference is that of the iterative and the deterministic map, as in Lin 2015, figure 3, or
    that of the two maps if there are only two.

    Parameters
    ----------
    maps : dict of str to ndarray, shape (x, y, z)
        Maps in RAS+ orientation by their titles, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Voxels that are shown; the picture is cropped to them.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    window, difference_window : sequence of 2 floats
        Values shown as black and as white, of the maps and of the difference, ppm.

    Returns
    -------
    matplotlib.figure.Figure
        See `compare_maps_figure`.

    Raises
    ------
    ValueError
        If there is no map, a shape differs from the mask's, or the mask is empty.
    """
    panels = dict(maps)
    windows = dict.fromkeys(maps, tuple(window))
    pair = compared_maps(maps)
    if pair is not None:
        title = "difference" if len(maps) == 2 else f"{pair[0]} − {pair[1]}"
        panels[title] = maps[pair[0]] - maps[pair[1]]
        windows[title] = tuple(difference_window)
    return compare_maps_figure(panels, mask, voxel_size, windows, "ppm")


def compared_maps(titles: Iterable[str]) -> tuple[str, str] | None:
    """Return the two maps of a scan whose difference is shown; None if there are no such two.

    Examples
    --------
    >>> compared_maps(["medi", "iterative", "deterministic"])
    ('iterative', 'deterministic')
    """
    titles = list(titles)
    if len(titles) == 2:
        return titles[0], titles[1]
    return COMPARED if set(COMPARED) <= set(titles) else None


def compare_maps_figure(
    maps: Mapping[str, np.ndarray],
    mask: np.ndarray,
    voxel_size: Vector,
    window: Sequence[float] | Mapping[str, Sequence[float]],
    unit: str,
) -> Figure:
    """Draw the same three planes of several maps side by side, in radiological convention.

    The planes lie in the middle of the mask; the axial one somewhat lower, at the height of the
    globus pallidus.

    Parameters
    ----------
    maps : dict of str to ndarray, shape (x, y, z)
        Maps in RAS+ orientation by their titles.
    mask : ndarray of bool, shape (x, y, z)
        Voxels that are shown; the picture is cropped to them.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    window : sequence of 2 floats, or dict of str to sequence of 2 floats
        Values shown as black and as white: one window for all maps, or one for each title.
    unit : str
        Unit of the values.

    Returns
    -------
    matplotlib.figure.Figure
        One column per map, on black.

    Raises
    ------
    ValueError
        If there is no map, a shape differs from the mask's, or the mask is empty.
    """
    box = bounding_box(maps, mask)
    windows = dict(window) if isinstance(window, Mapping) else dict.fromkeys(maps, tuple(window))
    size = box_size(box, voxel_size)
    width = 3.0
    heights = [width * size[up] / max(size[0], size[1]) for up in (1, 2, 2)]
    figure = Figure(figsize=(width * len(maps) + 0.2, sum(heights) + 0.9), facecolor="black")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.05, wspace=0, hspace=0)
    axes = figure.subplots(3, len(maps), squeeze=False, gridspec_kw={"height_ratios": heights})
    inside = mask[box]
    images = []
    for column, (title, values) in zip(axes.T, maps.items(), strict=True):
        masked = np.where(inside, values[box], np.nan)
        for axis, plane in zip(column, PLANES, strict=True):
            picture, aspect = plane_at(masked, plane, voxel_size, FRACTIONS[plane])
            low, high = windows[title]
            image = axis.imshow(
                picture, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect
            )
            mark_sides(axis, plane)
            axis.axis("off")
        column[0].set_title(short_name(title), color="white", fontsize=11)
        images.append(image)
    if len(set(map(tuple, windows.values()))) == 1:
        add_bar(figure, images[0], axes, unit, 0.5 / len(maps) if len(maps) > 1 else 0.7)
    else:
        for image, column in zip(images, axes.T, strict=True):
            add_bar(figure, image, column, unit, 0.7)
    return figure
