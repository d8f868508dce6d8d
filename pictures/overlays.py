"""Overlays of volumes: registered scans on their average, regions on maps, lesions on images."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..core.grid import Vector
from .drawing import short_name
from .planes import (
    CHI_WINDOW,
    EXCLUDED,
    REFERENCE,
    REGION,
    add_bar,
    axes_in_plane,
    bounding_box,
    box_size,
    check_shapes,
    fullest_level,
    level_at,
    mark_sides,
    plane_at,
    region_legend,
    slice_of,
    tinted,
)

TINT = (1.0, 0.82, 0.5)


def registration_figure(
    average: np.ndarray,
    images: Mapping[str, np.ndarray],
    voxel_size: Vector,
    *,
    mask: np.ndarray | None = None,
    tiles: int = 8,
    columns: int = 5,
) -> Figure:
    """Draw each registered scan and the average as a checkerboard.

    Edges that are discontinuous between squares indicate misregistration.

    Parameters
    ----------
    average : ndarray, shape (x, y, z)
        Average of the registered scans, RAS+ orientation. Its squares are grey.
    images : dict of str to ndarray, shape (x, y, z)
        The registered scans by their titles. Their squares are tinted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    mask : ndarray of bool, shape (x, y, z), optional
        Region that the picture is cropped to, by default the whole volume.
    tiles : int
        Squares along the longer side of the axial plane.
    columns : int
        Scans in one row.

    Returns
    -------
    matplotlib.figure.Figure
        An axial and a sagittal plane of every scan, on black.

    Raises
    ------
    ValueError
        If there is no scan, a shape differs from the average's, or the mask is empty.
    """
    region = np.ones(average.shape, bool) if mask is None else mask
    box = bounding_box({"average": average, **images}, region)
    if not images:
        raise ValueError("there is no scan to compare with the average")
    size = box_size(box, voxel_size)
    square = max(size[:2]) / tiles
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width = 2.2
    heights = [width * size[up] / max(size[:2]) for up in (1, 2)]
    figure = Figure(figsize=(width * columns, rows * (sum(heights) + 0.35)), facecolor="black")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.05, wspace=0, hspace=0)
    axes = figure.subplots(
        2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": heights * rows}
    )
    for axis in axes.flat:
        axis.axis("off")
    fixed = _scaled(average[box])
    for number, (title, values) in enumerate(images.items()):
        row, column = divmod(number, columns)
        moving = _scaled(values[box])
        for axis, plane in zip(axes[2 * row : 2 * row + 2, column], (2, 0), strict=True):
            grey, aspect = plane_at(fixed, plane, voxel_size, 0.5)
            tinted, _ = plane_at(moving, plane, voxel_size, 0.5)
            across, up = axes_in_plane(plane)
            rows_of_squares = np.arange(grey.shape[0]) * voxel_size[up] // square
            columns_of_squares = np.arange(grey.shape[1]) * voxel_size[across] // square
            odd = (np.add.outer(rows_of_squares, columns_of_squares) % 2).astype(bool)
            board = np.where(odd[..., None], tinted[..., None] * np.array(TINT), grey[..., None])
            axis.imshow(board, origin="lower", aspect=aspect)
            mark_sides(axis, plane)
        axes[2 * row, column].set_title(short_name(title), color="white", fontsize=9)
    return figure


def region_figure(
    chi: np.ndarray,
    regions: np.ndarray,
    excluded: np.ndarray,
    reference: np.ndarray,
    voxel_size: Vector,
    *,
    title: str,
    window: Sequence[float] = CHI_WINDOW,
    margin: float = 15.0,
) -> Figure:
    """Draw regions, the voxels excluded from them and the reference on a susceptibility map, in
    radiological convention.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility in RAS+ orientation, ppm.
    regions, excluded, reference : ndarray of bool, shape (x, y, z)
        Regions whose outlines are drawn, voxels excluded from them, and the reference
        region.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    title : str
    window : sequence of 2 floats
        Values shown as black and as white, ppm.
    margin : float
        Margin around the regions and the reference, mm.

    Returns
    -------
    matplotlib.figure.Figure
        Three axial, one coronal and two sagittal planes through the regions; an axial and a coronal
        one through the reference.

    Raises
    ------
    ValueError
        If a shape differs, or there is no region.
    """
    volumes = {"the excluded voxels": excluded, "the reference": reference, "the map": chi}
    check_shapes(volumes, regions)
    tight_box = bounding_box({"the map": chi}, regions | reference)
    parts = []
    for part, side in zip(tight_box, voxel_size, strict=True):
        n_voxels = int(np.ceil(margin / side))
        parts.append(slice(max(part.start - n_voxels, 0), part.stop + n_voxels))
    box = tuple(parts)
    chi = chi[box]
    regions = regions[box]
    excluded = excluded[box]
    reference = reference[box]
    planes = (
        (2, level_at(regions, 2, 0.25)),
        (2, level_at(regions, 2, 0.5)),
        (2, level_at(regions, 2, 0.75)),
        (2, fullest_level(reference, 2)),
        (1, level_at(regions, 1, 0.5)),
        (0, level_at(regions, 0, 0.15)),
        (0, level_at(regions, 0, 0.85)),
        (1, fullest_level(reference, 1)),
    )
    figure = Figure(figsize=(13, 7.6), layout="constrained", facecolor="black")
    axes = figure.subplots(2, 4)
    for axis, (plane, index) in zip(axes.flat, planes, strict=True):
        picture, aspect = slice_of(chi, plane, voxel_size, index)
        image = axis.imshow(
            picture, cmap="gray", vmin=window[0], vmax=window[1], origin="lower", aspect=aspect
        )
        for volume, colour in ((regions, REGION), (reference, REFERENCE)):
            outline, _ = slice_of(volume, plane, voxel_size, index)
            if outline.any() and not outline.all():
                axis.contour(outline, [0.5], colors=colour, linewidths=1.0)
        excluded_plane, _ = slice_of(excluded, plane, voxel_size, index)
        axis.imshow(tinted(excluded_plane, EXCLUDED), origin="lower", aspect=aspect)
        mark_sides(axis, plane)
        axis.axis("off")
    figure.suptitle(title, color="white", fontsize=12)
    add_bar(figure, image, axes, "ppm", 0.4)
    region_legend(figure)
    return figure


def lesion_figure(
    flair: np.ndarray, lesions: np.ndarray, voxel_size: Vector, *, slices: int = 6
) -> Figure:
    """Draw lesions on axial planes of the FLAIR image, each plane with and without their outlines.

    Parameters
    ----------
    flair : ndarray, shape (x, y, z)
        Image in RAS+ orientation, any unit.
    lesions : ndarray of bool, shape (x, y, z)
        Lesions. If there are none, planes through the head are shown.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    slices : int
        Number of planes. Each represents an equal part of the lesions' volume.

    Returns
    -------
    matplotlib.figure.Figure
        On black, in radiological convention.

    Raises
    ------
    ValueError
        If the shapes differ or the image is empty.
    """
    high = 1.3 * float(np.percentile(flair, 99.5))  # so that lesions, if few, are not saturated
    head = flair > 0.1 * high
    box = bounding_box({"the lesions": lesions}, head)
    flair = flair[box]
    lesions = lesions[box]
    area = lesions.sum(axis=(0, 1)) if lesions.any() else head[box].sum(axis=(0, 1))
    # The plane in the middle of each of `slices` equal parts of the lesions' volume.
    middles = (np.arange(slices) + 0.5) / slices * area.sum()
    levels = np.searchsorted(np.cumsum(area), middles)
    size = np.multiply(flair.shape[:2], voxel_size[:2])
    width = 2.2
    height = 2 * (width * size[1] / size[0] + 0.1) + 0.5
    figure = Figure(figsize=(width * slices, height), facecolor="black")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for column, level in zip(figure.subplots(2, slices, squeeze=False).T, levels, strict=True):
        picture, aspect = slice_of(flair, 2, voxel_size, level)
        outline, _ = slice_of(lesions, 2, voxel_size, level)
        for axis in column:
            axis.imshow(picture, cmap="gray", vmin=0, vmax=high, origin="lower", aspect=aspect)
            mark_sides(axis, 2)
            axis.axis("off")
        if outline.any():
            column[1].contour(outline, [0.5], colors=EXCLUDED, linewidths=0.9)
    figure.suptitle("FLAIR and lesions", color="white", fontsize=11)
    return figure


def _scaled(values):
    high = np.percentile(values, 99)
    return np.clip(values / high, 0, 1) if high > 0 else np.zeros(values.shape)
