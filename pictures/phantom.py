"""Picture of a phantom in the plane through two of its tubes."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from ..core.grid import Vector
from .drawing import short_name
from .planes import add_bar, check_shapes, mark_sides

WINDOW = (-0.5, 2.5)  # ppm; the tubes of Lin 2015 have 0 to 2.04 ppm
STREAK_WINDOW = (-0.3, 0.3)  # ppm; the same planes again, so that streaks in the water are visible
ANTERIOR = np.array([0.0, 1.0, 0.0])  # RAS+


def tubes_figure(
    maps: Mapping[str, np.ndarray],
    mask: np.ndarray,
    labels: np.ndarray,
    voxel_size: Vector,
    *,
    strongest: int,
) -> Figure:
    """Draw the maps of a phantom in the plane through two tubes, where streaks are seen best.

    The plane contains the axes of the tube with the strongest susceptibility and of the tube that
    lies most nearly anterior or posterior to it, as the sagittal plane of Lin 2015, figure 2. The
    second row has the same planes in a narrow window.

    Parameters
    ----------
    maps : dict of str to ndarray, shape (x, y, z)
        Maps in RAS+ orientation by their titles, ppm, relative to the water.
    mask : ndarray of bool, shape (x, y, z)
        The phantom.
    labels : ndarray of int, shape (x, y, z)
        A label for each tube, 0 elsewhere.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    strongest : int
        Label of the tube with the strongest susceptibility.

    Returns
    -------
    matplotlib.figure.Figure
        One column per map, on black.

    Raises
    ------
    ValueError
        If there are fewer than two tubes, the strongest is not among them, or a shape differs.
    """
    check_shapes({**maps, "labels": labels}, mask)
    origin, along, across = tube_plane(labels, voxel_size, strongest)
    points = _plane_points(mask, np.asarray(voxel_size, dtype=float), origin, along, across)
    inside = _sample(mask.astype(np.float32), points) > 0.5
    height, width = inside.shape
    scale = 4.0 / max(height, width)
    figure = Figure(
        figsize=(scale * width * len(maps) + 0.9, 2 * scale * height + 0.9), facecolor="black"
    )
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.05, wspace=0, hspace=0)
    axes = figure.subplots(2, len(maps), squeeze=False)
    for row, (low, high) in zip(axes, (WINDOW, STREAK_WINDOW), strict=True):
        for axis, values in zip(row, maps.values(), strict=True):
            plane = np.where(inside, _sample(values, points), np.nan)
            image = axis.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower")
            mark_sides(axis, 0)  # to the left is the back, to the right the front
            axis.axis("off")
        add_bar(figure, image, row, "ppm", 0.7)
    for axis, title in zip(axes[0], maps, strict=True):
        axis.set_title(short_name(title), color="white", fontsize=11)
    return figure


def tube_plane(
    labels: np.ndarray, voxel_size: Vector, strongest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the plane through the strongest tube and the one most nearly in front of or behind it.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
        A label for each tube, in RAS+ orientation.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    strongest : int
        Label of the first tube.

    Returns
    -------
    origin, along, across : ndarray, shape (3,)
        A point of the plane in mm from the first voxel; unit vectors along the tubes (upwards) and
        from one tube to the other (forwards).

    Raises
    ------
    ValueError
        If there are fewer than two tubes, or the strongest is not among them.
    """
    size = np.asarray(voxel_size, dtype=float)
    numbers = np.setdiff1d(np.unique(labels), [0])
    if strongest not in numbers or numbers.size < 2:
        raise ValueError(f"a plane needs tube {strongest} and another one, not {numbers.tolist()}")
    along = _tube_direction(labels == strongest, size)
    origin = _centre(labels == strongest, size)
    directions = []
    for number in np.setdiff1d(numbers, [strongest]):
        offset = _centre(labels == number, size) - origin
        offset -= (offset @ along) * along
        directions.append(offset / np.linalg.norm(offset))
    across = max(directions, key=lambda direction: abs(direction @ ANTERIOR))
    return origin, along, across if across @ ANTERIOR >= 0 else -across


def _centre(tube, size):
    return np.argwhere(tube).mean(axis=0) * size


def _tube_direction(tube, size):
    """Return the principal axis of a tube, pointing upwards."""
    points = np.argwhere(tube) * size
    direction = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)[2][0]
    return direction if direction[2] >= 0 else -direction


def _plane_points(mask, size, origin, along, across):
    """Return voxel coordinates of the plane's pixels, shape (3, height, width), within the mask."""
    step = size.min()
    offsets = np.argwhere(mask) * size - origin
    height = _steps(offsets @ along, step)
    width = _steps(offsets @ across, step)
    millimetres = (
        origin[:, None, None]
        + along[:, None, None] * height[None, :, None]
        + across[:, None, None] * width[None, None, :]
    )
    return millimetres / size[:, None, None]


def _steps(distances, step):
    return np.arange(distances.min(), distances.max() + step / 2, step)


def _sample(values, points):
    return ndimage.map_coordinates(np.asarray(values, dtype=np.float32), points, order=1)
