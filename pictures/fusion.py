"""Picture of a susceptibility map fused with another image, such as FLAIR."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy import ndimage

from ..core.grid import Vector
from .planes import (
    CHI_WINDOW,
    EXCLUDED,
    REFERENCE,
    REGION,
    add_bar,
    check_shapes,
    fullest_level,
    level_at,
    mark_sides,
    region_legend,
    slice_of,
    tinted,
)

COLOURS = matplotlib.colormaps["RdBu_r"]
COLOUR_WINDOW = (-0.1, 0.1)  # ppm; colours are opaque at its ends and transparent at zero
OPACITY = 0.8
BRIGHTNESS = 1.3  # end of the grey scale over the bright voxels, so that colours are visible
N_REFERENCES = 2  # parts of the reference that are shown, such as the atria of both sides
FRACTIONS = (0.15, 0.4, 0.6, 0.85)  # of the regions' extent, at which the planes lie


def fusion_figure(
    image: np.ndarray,
    chi: np.ndarray,
    regions: np.ndarray,
    excluded: np.ndarray,
    reference: np.ndarray,
    voxel_size: Vector,
    *,
    image_name: str,
    title: str,
) -> Figure:
    """Draw a susceptibility map fused with another image, in axial planes through regions, as the
    reader of Chiang 2018 saw them.

    Parameters
    ----------
    image : ndarray, shape (x, y, z)
        The other image in RAS+ orientation, any unit.
    chi : ndarray, shape (x, y, z)
        Susceptibility on the same grid, ppm, relative to the reference.
    regions, excluded, reference : ndarray of bool, shape (x, y, z)
        Regions, the voxels excluded from them, and the reference region, on the same grid.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    image_name, title : str
        Name of the image, and title of the picture.

    Returns
    -------
    matplotlib.figure.Figure
        One column for each plane, from below: four through the regions, and one through each of the
        two largest parts of the reference, such as the atria of both sides. Rows: the image; the
        image with the map in colour; the map. On black, in radiological convention.

    Raises
    ------
    ValueError
        If a shape differs, or there is no region.
    """
    volumes = {
        "the excluded voxels": excluded,
        "the reference": reference,
        "the map": chi,
        image_name: image,
    }
    check_shapes(volumes, regions)
    levels = _levels(regions, reference)
    size = np.multiply(image.shape[:2], voxel_size[:2])
    width = 2.7
    figure = Figure(
        figsize=(width * len(levels), 3 * width * size[1] / size[0] + 1.6), facecolor="black"
    )
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(3, len(levels), squeeze=False)
    low, high = np.percentile(image, (1, 99.5))
    high = low + BRIGHTNESS * (high - low)
    for column, level in zip(axes.T, levels, strict=True):
        picture, aspect = slice_of(image, 2, voxel_size, level)
        chi_picture, _ = slice_of(chi, 2, voxel_size, level)
        for axis in column[:2]:
            axis.imshow(picture, cmap="gray", vmin=low, vmax=high, origin="lower", aspect=aspect)
        column[1].imshow(_coloured(chi_picture), origin="lower", aspect=aspect)
        grey = column[2].imshow(
            chi_picture,
            cmap="gray",
            vmin=CHI_WINDOW[0],
            vmax=CHI_WINDOW[1],
            origin="lower",
            aspect=aspect,
        )
        for axis in column:
            _draw_regions(axis, regions, excluded, reference, voxel_size, level)
            mark_sides(axis, 2)
            axis.axis("off")
    row_titles = (image_name, f"{image_name} and susceptibility", "susceptibility")
    for axis, row_title in zip(axes[:, 0], row_titles, strict=True):
        place = {"x": -0.04, "y": 0.5, "rotation": 90, "ha": "center", "va": "center"}
        axis.text(s=row_title, **place, color="white", fontsize=9, transform=axis.transAxes)
    figure.suptitle(title, color="white", fontsize=12)
    colours = ScalarMappable(Normalize(*COLOUR_WINDOW), COLOURS)
    add_bar(figure, colours, axes[1], "ppm, in colour", 0.3)
    add_bar(figure, grey, axes[2], "ppm", 0.3)
    region_legend(figure)
    return figure


def _levels(regions, reference):
    """Return the indices of the axial planes, in order, each once."""
    levels = {level_at(regions, 2, fraction) for fraction in FRACTIONS}
    parts, n_parts = ndimage.label(reference)
    sizes = np.bincount(parts.ravel(), minlength=n_parts + 1)[1:]
    for part in np.argsort(-sizes, kind="stable")[:N_REFERENCES] + 1:
        levels.add(fullest_level(parts == part, 2))
    return sorted(levels)


def _coloured(chi):
    """Return a map as an RGBA picture, the more transparent, the nearer a voxel is to zero."""
    low, high = COLOUR_WINDOW
    picture = COLOURS((chi - low) / (high - low))
    picture[..., 3] = OPACITY * np.clip(np.abs(chi) / high, 0, 1)
    return picture


def _draw_regions(axis: Axes, regions, excluded, reference, voxel_size, level):
    """Draw the outlines of regions and reference in a plane, and tint the excluded voxels."""
    for volume, colour in ((regions, REGION), (reference, REFERENCE)):
        outline, _ = slice_of(volume, 2, voxel_size, level)
        if outline.any() and not outline.all():
            axis.contour(outline, [0.5], colors=colour, linewidths=1.0)
    excluded_plane, aspect = slice_of(excluded, 2, voxel_size, level)
    axis.imshow(tinted(excluded_plane, EXCLUDED), origin="lower", aspect=aspect)
