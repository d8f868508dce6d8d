"""Planes of volumes in radiological convention.

The left of the picture is the patient's right; in sagittal planes it is the back of the head.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from ..core.grid import Vector
from .drawing import GREY

CHI_WINDOW = (-0.1, 0.15)  # ppm
# Left and right of the picture, by the axis perpendicular to the plane.
SIDES = (("P", "A"), ("R", "L"), ("R", "L"))
REGION = "#ffd166"  # colours of regions, of the voxels excluded from them, and of the reference
EXCLUDED = "#ef476f"
REFERENCE = "#4cc9f0"


def check_shapes(volumes: Mapping[str, np.ndarray], mask: np.ndarray) -> None:
    """Check that volumes can be drawn together with a mask.

    Parameters
    ----------
    volumes : mapping of str to ndarray, shape (x, y, z)
        Volumes by their titles.
    mask : ndarray of bool, shape (x, y, z)

    Raises
    ------
    ValueError
        If there is no volume, a shape differs from the mask's, or the mask is empty.
    """
    if not volumes:
        raise ValueError("there is no map to draw")
    for title, values in volumes.items():
        if values.shape != mask.shape:
            raise ValueError(
                f"{title!r} has the shape {values.shape}, but the mask has {mask.shape}: "
                "resample one of them to the grid of the other"
            )
    if not mask.any():
        raise ValueError("the mask is empty")


def bounding_box(volumes: Mapping[str, np.ndarray], mask: np.ndarray) -> tuple[slice, ...]:
    """Return the box around a mask as slices, after `check_shapes` of the volumes."""
    check_shapes(volumes, mask)
    box = []
    for axis in range(3):
        levels = levels_of(mask, axis)
        box.append(slice(levels[0], levels[-1] + 1))
    return tuple(box)


def box_size(box: Iterable[slice], voxel_size: Vector) -> np.ndarray:
    """Return the sides of a box of voxels in mm."""
    sides = [(part.stop - part.start) * v for part, v in zip(box, voxel_size, strict=True)]
    return np.array(sides)


def axes_in_plane(plane: int) -> tuple[int, int]:
    """Return the two axes of a volume that span a plane, by the axis perpendicular to it.

    Examples
    --------
    >>> axes_in_plane(1)
    (0, 2)
    """
    first, second = np.delete(np.arange(3), plane).tolist()
    return first, second


def levels_of(region: np.ndarray, axis: int) -> np.ndarray:
    """Return the indices along an axis of the planes that hold voxels of a region, in order."""
    return np.flatnonzero(region.any(axis=axes_in_plane(axis)))


def level_at(region: np.ndarray, axis: int, fraction: float) -> int:
    """Return the index of the plane at a fraction of a region's extent along an axis."""
    occupied = levels_of(region, axis)
    return int(occupied[round(fraction * (occupied.size - 1))])


def fullest_level(region: np.ndarray, axis: int) -> int:
    """Return the index of the plane that holds most of a region; 0 if the region is empty."""
    return int(np.argmax(region.sum(axis=axes_in_plane(axis))))


def plane_at(
    values: np.ndarray, plane: int, voxel_size: Vector, fraction: float
) -> tuple[np.ndarray, float]:
    """Return the plane at a fraction of the volume's extent, as `slice_of` does."""
    return slice_of(values, plane, voxel_size, int(fraction * (values.shape[plane] - 1)))


def slice_of(
    values: np.ndarray, plane: int, voxel_size: Vector, index: int
) -> tuple[np.ndarray, float]:
    """Return a plane of a volume as a picture, and the aspect ratio of its pixels.

    Parameters
    ----------
    values : ndarray, shape (x, y, z)
        Volume in RAS+ orientation.
    plane : int
        Axis perpendicular to the plane.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    index : int
        Index along that axis.

    Returns
    -------
    picture : ndarray
        The first row is the lowest. The left is the patient's right, or the back of the head in
        sagittal planes.
    aspect : float
        Height of a pixel divided by its width.
    """
    picture = np.take(values, index, axis=plane).T
    across, up = axes_in_plane(plane)
    # RAS+ runs from the patient's left to right; the picture has the patient's right on its left.
    return picture if plane == 0 else picture[:, ::-1], voxel_size[up] / voxel_size[across]


def mark_sides(axis: Axes, plane: int) -> None:
    """Write at the upper corners of a plane which side of the patient is there.

    Parameters
    ----------
    axis : matplotlib.axes.Axes
        Axes of a picture from `slice_of`.
    plane : int
        Axis perpendicular to the plane: R and L in coronal and axial planes, P and A in sagittal
        ones.
    """
    for x, side, alignment in zip((0.02, 0.98), SIDES[plane], ("left", "right"), strict=True):
        text = axis.text(x, 0.98, side, color="white", fontsize=8, ha=alignment, va="top")
        text.set_transform(axis.transAxes)
        text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
        text.set_snap(False)  # a path of right angles, as L, would be snapped to pixels: to an I


def tinted(region: np.ndarray, colour: str) -> np.ndarray:
    """Return an RGBA picture in one colour inside a region and transparent outside."""
    picture = np.zeros((*region.shape, 4))
    picture[region] = to_rgba(colour, 0.75)
    return picture


def region_legend(figure: Figure) -> None:
    """Name the colours of regions, excluded voxels and reference below a black figure."""
    handles = [
        Patch(facecolor=REGION, label="region"),
        Patch(facecolor=EXCLUDED, label="excluded as veins"),
        Patch(facecolor=REFERENCE, label="reference"),
    ]
    figure.legend(
        handles=handles,
        loc="outside lower right",
        ncols=3,
        frameon=False,
        labelcolor="white",
        fontsize=9,
    )


def add_bar(figure: Figure, image: Any, axes: Axes | np.ndarray, unit: str, shrink: float) -> None:
    """Put a colour bar below axes of a black figure, its length the fraction `shrink` of theirs."""
    bar = figure.colorbar(
        image, ax=axes, orientation="horizontal", shrink=shrink, aspect=30, pad=0.02
    )
    bar.set_label(unit, color="white", fontsize=9)
    bar.ax.tick_params(colors="white", labelsize=8)
    bar.outline.set_edgecolor(GREY)
