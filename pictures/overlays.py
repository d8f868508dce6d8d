"""Pictures of volumes on one another: registered scans on their average, regions on maps, lesions
on images.
"""

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .drawing import short_name
from .planes import CHI_WINDOW, add_bar, bounding_box, check_shapes, levels_of, plane_at, slice_of

TINT = (1.0, 0.82, 0.5)
REGION, EXCLUDED, REFERENCE = "#ffd166", "#ef476f", "#4cc9f0"


def registration_figure(average, images, voxel_size, *, mask=None, tiles=8, columns=5):
    """Draw each registered scan and the average as a checkerboard: edges that break show a
    misregistration.

    Parameters
    ----------
    average : ndarray, shape (x, y, z)
        Average of the registered scans, RAS+ orientation. Its squares are grey.
    images : dict of str to ndarray, shape (x, y, z)
        The registered scans by their titles. Their squares are tinted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    mask : ndarray of bool, shape (x, y, z), optional
        Crops the picture; without it everything is shown.
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
    size = np.array([(part.stop - part.start) * v for part, v in zip(box, voxel_size, strict=True)])
    square = max(size[:2]) / tiles
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width = 2.2
    heights = [width * size[up] / max(size[:2]) for up in (1, 2)]
    figure = Figure(
        figsize=(width * columns, rows * (sum(heights) + 0.35)),
        layout="constrained",
        facecolor="black",
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.05, wspace=0, hspace=0)
    axes = figure.subplots(
        2 * rows, columns, squeeze=False, gridspec_kw={"height_ratios": heights * rows}
    )
    for axis in axes.flat:
        axis.axis("off")
    still = _scaled(average[box])
    for number, (title, values) in enumerate(images.items()):
        row, column = divmod(number, columns)
        moved = _scaled(values[box])
        for axis, plane in zip(axes[2 * row : 2 * row + 2, column], (2, 0), strict=True):
            (one, aspect), (other, _) = (
                plane_at(v, plane, voxel_size, 0.5) for v in (still, moved)
            )
            spacing = [v for a, v in enumerate(voxel_size) if a != plane]
            index = [
                np.arange(n) * step // square
                for n, step in zip(one.shape, spacing[::-1], strict=True)
            ]
            odd = (np.add.outer(*index) % 2).astype(bool)
            board = np.where(odd[..., None], other[..., None] * np.array(TINT), one[..., None])
            axis.imshow(board, origin="lower", aspect=aspect)
        axes[2 * row, column].set_title(short_name(title), color="white", fontsize=9)
    return figure


def region_figure(
    chi, regions, excluded, reference, voxel_size, *, title, window=CHI_WINDOW, margin=15.0
):
    """Draw regions, what was left out of them and the reference on a susceptibility map, in
    radiological convention.

    Parameters
    ----------
    chi : ndarray, shape (x, y, z)
        Susceptibility in RAS+ orientation, ppm.
    regions, excluded, reference : ndarray of bool, shape (x, y, z)
        Regions whose outlines are drawn, voxels that are left out of them, and the reference
        region.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    title : str
    window : sequence of 2 floats
        Values shown black and white, ppm.
    margin : float
        What is shown around regions and reference, mm.

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
    shown = regions | reference
    room = [int(np.ceil(margin / side)) for side in voxel_size]
    box = tuple(
        slice(max(part.start - m, 0), part.stop + m)
        for part, m in zip(bounding_box({"the map": chi}, shown), room, strict=True)
    )
    chi, regions, excluded, reference = (
        volume[box] for volume in (chi, regions, excluded, reference)
    )
    planes = [(2, _level(regions, 2, share)) for share in (0.25, 0.5, 0.75)]
    planes += [(2, _fullest(reference, 2)), (1, _level(regions, 1, 0.5))]
    planes += [(0, _level(regions, 0, share)) for share in (0.15, 0.85)] + [
        (1, _fullest(reference, 1))
    ]
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
        left_out, _ = slice_of(excluded, plane, voxel_size, index)
        axis.imshow(_tinted(left_out, EXCLUDED), origin="lower", aspect=aspect)
        axis.axis("off")
    figure.suptitle(title, color="white", fontsize=12)
    add_bar(figure, image, axes, "ppm", 0.4)
    named = ((REGION, "region"), (EXCLUDED, "left out as veins"), (REFERENCE, "reference"))
    handles = [Patch(facecolor=colour, label=label) for colour, label in named]
    figure.legend(
        handles=handles,
        loc="outside lower right",
        ncols=3,
        frameon=False,
        labelcolor="white",
        fontsize=9,
    )
    return figure


def lesion_figure(flair, lesions, voxel_size, *, slices=6):
    """Draw lesions on axial planes of the FLAIR image, each plane with and without their outlines.

    Parameters
    ----------
    flair : ndarray, shape (x, y, z)
        Image in RAS+ orientation, any unit.
    lesions : ndarray of bool, shape (x, y, z)
        May be empty: then planes through the head are shown.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    slices : int
        How many planes, spread evenly over the lesions so that each has as much of their volume.

    Returns
    -------
    matplotlib.figure.Figure
        On black, in radiological convention.

    Raises
    ------
    ValueError
        If the shapes differ or the image is empty.
    """
    high = 1.3 * float(np.percentile(flair, 99.5))  # room above tissue, should lesions be few
    head = flair > 0.1 * high
    box = bounding_box({"the lesions": lesions}, head)
    flair = flair[box]
    lesions = lesions[box]
    area = lesions.sum(axis=(0, 1)) if lesions.any() else head[box].sum(axis=(0, 1))
    wanted = (np.arange(slices) + 0.5) / slices * area.sum()
    levels = np.searchsorted(np.cumsum(area), wanted)
    size = np.multiply(flair.shape[:2], voxel_size[:2])
    width = 2.2
    height = 2 * (width * size[1] / size[0] + 0.1) + 0.5
    figure = Figure(figsize=(width * slices, height), layout="constrained", facecolor="black")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    for column, level in zip(figure.subplots(2, slices, squeeze=False).T, levels, strict=True):
        picture, aspect = slice_of(flair, 2, voxel_size, level)
        outline, _ = slice_of(lesions, 2, voxel_size, level)
        for axis in column:
            axis.imshow(picture, cmap="gray", vmin=0, vmax=high, origin="lower", aspect=aspect)
            axis.axis("off")
        if outline.any():
            column[1].contour(outline, [0.5], colors=EXCLUDED, linewidths=0.9)
    figure.suptitle("FLAIR and lesions", color="white", fontsize=11)
    return figure


def _level(region, axis, share):
    """Index of the plane at a share of a region's extent."""
    used = levels_of(region, axis)
    return int(used[round(share * (used.size - 1))])


def _fullest(region, axis):
    """Index of the plane that holds most of a region; the first where it is empty."""
    return int(np.argmax(region.sum(axis=tuple(a for a in range(3) if a != axis))))


def _tinted(region, colour):
    """A picture of a colour where a region is, else transparent."""
    picture = np.zeros((*region.shape, 4))
    picture[region] = to_rgba(colour, 0.75)
    return picture


def _scaled(values):
    high = np.percentile(values, 99)
    return np.clip(values / high, 0, 1) if high > 0 else np.zeros(values.shape)
