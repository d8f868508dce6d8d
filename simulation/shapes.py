"""Simple shapes: ellipsoids and chains of cones, their distances, mirror images and bounds."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

# Mirroring at the midsagittal plane negates x. A rotation vector keeps its x and is negated in y
# and z.
MIRROR_ELLIPSOID = (-1, 1, 1, 1, 1, 1, 1, -1, -1)
MIRROR_TUBE = (-1, 1, 1, 1)


def ellipsoid_distance(points: np.ndarray, ellipsoid: Sequence[float]) -> np.ndarray:
    """Return the distance (mm) from an ellipsoid's surface, negative inside.

    It is exact on the surface and correct to first order near it.

    Parameters
    ----------
    points : ndarray, shape (3, ...)
        Coordinates, mm.
    ellipsoid : sequence of nine floats
        Centre (mm), semi-axes (mm) and rotation vector (rad) of its axes.

    Examples
    --------
    Points on the axes of an ellipsoid: its tips, and one 0.1 mm beyond.

    >>> points = np.float32([[4, 0, 0], [0, 5, 0], [0, 0, 6.1]]).T
    >>> np.round(ellipsoid_distance(points, [0, 0, 0, 4, 5, 6, 0, 0, 0]), 3)
    array([0. , 0. , 0.1], dtype=float32)
    """
    centre, axes, rotation = np.reshape(ellipsoid, (3, 3))
    to_axes = Rotation.from_rotvec(rotation).as_matrix().T.astype(np.float32)
    u, v, w = points
    # The level function is 1 on the surface. Its value there divided by its slope is the distance.
    squared_level = np.zeros(u.shape, np.float32)
    squared_slope = np.zeros(u.shape, np.float32)
    for row, shift, axis in zip(to_axes, to_axes @ centre, axes, strict=True):
        q = (row[0] * u + row[1] * v + row[2] * w - np.float32(shift)) / np.float32(axis)
        squared_level = squared_level + q * q
        squared_slope = squared_slope + (q / np.float32(axis)) ** 2
    level = np.sqrt(squared_level)
    return level * (level - 1) / np.maximum(np.sqrt(squared_slope), np.float32(1e-6))


def tube_distance(points: np.ndarray, tube: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the distance (mm) from a chain of cones with round ends, negative inside.

    Parameters
    ----------
    points : ndarray, shape (3, ...)
        Coordinates, mm.
    tube : sequence of (x, y, z, radius)
        Points of its axis, mm. Radii change linearly from point to point.

    Examples
    --------
    A cone whose radius grows from 1 to 3 mm: beside its middle, and beyond its end.

    >>> cone = [(0, 0, 0, 1.0), (10, 0, 0, 3.0)]
    >>> tube_distance(np.float32([[5, 2, 0], [14, 0, 0]]).T, cone).tolist()
    [0.0, 1.0]
    """
    u, v, w = points
    distance = np.asarray(np.inf, np.float32)
    for start, end in pairwise(np.asarray(tube, np.float32)):
        axis = end[:3] - start[:3]
        x = u - start[0]
        y = v - start[1]
        z = w - start[2]
        t = np.clip((x * axis[0] + y * axis[1] + z * axis[2]) / (axis @ axis), 0, 1)
        gap = np.sqrt((x - t * axis[0]) ** 2 + (y - t * axis[1]) ** 2 + (z - t * axis[2]) ** 2)
        distance = np.minimum(distance, gap - start[3] - t * (end[3] - start[3]))
    return distance


def shape_distance(points: np.ndarray, shape: Mapping[str, Any]) -> np.ndarray:
    """Return the distance (mm) from the union of ellipsoids and tubes, negative inside.

    Parameters
    ----------
    points : ndarray, shape (3, ...)
        Coordinates, mm.
    shape : mapping
        A structure's ``ellipsoids`` and ``tubes``, see `ellipsoid_distance` and `tube_distance`.
    """
    distance = np.asarray(np.inf, np.float32)
    for ellipsoid in shape["ellipsoids"]:
        distance = np.minimum(distance, ellipsoid_distance(points, ellipsoid))
    for tube in shape["tubes"]:
        distance = np.minimum(distance, tube_distance(points, tube))
    return distance


def sides(shape: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a structure's shapes on the left and on the right.

    A structure that is not mirrored has only one shape.
    """
    if not shape.get("mirrored", True):
        return [shape]
    left = {
        "ellipsoids": [
            np.multiply(ellipsoid, MIRROR_ELLIPSOID) for ellipsoid in shape["ellipsoids"]
        ],
        "tubes": [np.multiply(tube, MIRROR_TUBE) for tube in shape["tubes"]],
    }
    return [left, shape]


def bounds(shape: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (mm) of a box around a structure."""
    balls = []
    for ellipsoid in shape["ellipsoids"]:
        balls.append([*ellipsoid[:3], max(ellipsoid[3:6])])
    for tube in shape["tubes"]:
        balls.extend(tube)
    centres, radii = np.split(np.array(balls), [3], axis=1)
    return (centres - radii).min(axis=0), (centres + radii).max(axis=0)


def pieces(shape: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Split tubes into structures of one segment each, whose boxes are small."""
    pieces = []
    for tube in shape["tubes"]:
        for segment in pairwise(tube):
            pieces.append({"ellipsoids": [], "tubes": [segment]})
    return pieces
