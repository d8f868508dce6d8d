"""Directions of white-matter fibres: a smooth analytic field in MNI space.

The bundles are described in ``fibres.json``. Where several of them cross, their directions v are
averaged as the orientation tensor Q = Σ w v vᵀ / Σ w, whose trace is 1; a constant weight without
direction stands for dispersion. Coordinates are in mm, x to the right, y to the front, z up.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from ..core.grid import Vector


@cache
def bundles() -> dict[str, Any]:
    """Return the description of the fibres, ``fibres.json``."""
    return json.loads(files(__package__).joinpath("fibres.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Fibres:
    """What is individual about a person's fibres: a smooth change of their directions.

    Parameters
    ----------
    wave_vectors : ndarray, shape (waves, 3)
        Plane waves in MNI space, rad/mm.
    amplitudes : ndarray, shape (waves, 3)
        What each wave adds to the unit vectors along the fibres.
    phases : ndarray, shape (waves,)
        Phases of the waves, rad.
    """

    wave_vectors: np.ndarray
    amplitudes: np.ndarray
    phases: np.ndarray


AVERAGE = Fibres(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))


def draw_fibres(rng: np.random.Generator) -> Fibres:
    """Draw the change of one person's fibres: 16 degrees over some centimetres, 12 over one."""
    wave_vectors = []
    amplitudes = []
    for variation in bundles()["variation"]:
        waves = variation["waves"]
        direction = rng.standard_normal((waves, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        shortest, longest = variation["wavelengths"]
        wave_vectors.append(2 * np.pi / rng.uniform(shortest, longest, (waves, 1)) * direction)
        size = variation["amplitude"] * np.sqrt(2 / waves)
        amplitudes.append(size * rng.standard_normal((waves, 3)))
    phases = rng.uniform(0, 2 * np.pi, sum(map(len, amplitudes)))
    return Fibres(np.concatenate(wave_vectors), np.concatenate(amplitudes), phases)


def orientation_along(
    points: np.ndarray,
    direction: Vector,
    *,
    fibres: Fibres = AVERAGE,
    linear: np.ndarray | None = None,
) -> np.ndarray:
    """Return the product of the orientation tensor with a direction, Q b.

    Parameters
    ----------
    points : ndarray of float32, shape (3, ...)
        MNI coordinates, mm.
    direction : sequence of 3 floats
        Unit vector b in the axes that `linear` leads to.
    fibres : Fibres
        The person's fibres; those of the template by default.
    linear : ndarray, shape (3, 3), optional
        From directions in MNI space to those of other axes, such as the scanner's.

    Returns
    -------
    ndarray of float32, shape (3, ...)
        In the same axes. Parallel fibres along v have (v·b) v, fibres in all directions b / 3.

    Examples
    --------
    In the middle of the corpus callosum, fibres run from left to right.

    >>> middle = np.float32([[0, -7, 27]]).T
    >>> np.round(orientation_along(middle, (1, 0, 0)).ravel(), 1)
    array([0.9, 0. , 0. ], dtype=float32)
    """
    linear = np.eye(3, dtype=np.float32) if linear is None else linear.astype(np.float32)
    b = np.asarray(direction, np.float32)
    right = np.stack([np.abs(points[0]), points[1], points[2]])
    side = np.where(points[0] < 0, np.float32(-1), np.float32(1))
    change = _change(points, fibres)
    isotropic = np.float32(bundles()["isotropic_weight"])
    total = np.full(points.shape[1:], isotropic, np.float32)
    product = np.zeros(points.shape, np.float32)
    product += (isotropic / 3 * b).reshape(3, *[1] * (points.ndim - 1))
    for bundle in bundles()["bundles"].values():
        weight, along = KINDS[bundle["kind"]](right, bundle)
        along = _unit(along)
        along[0] *= side
        # The change is added before the axes are: it belongs to the person.
        along = _unit(np.tensordot(linear, _unit(along + change), 1))
        product += weight * np.tensordot(b, along, 1) * along
        total += weight
    return product / total


def _change(points, fibres):
    """Return what a person's fibres add to the unit vectors along them."""
    change = np.zeros(points.shape, np.float32)
    waves = zip(fibres.wave_vectors, fibres.amplitudes, fibres.phases, strict=True)
    for wave_vector, amplitude, phase in waves:
        wave = np.sin(np.tensordot(wave_vector.astype(np.float32), points, 1) + np.float32(phase))
        for axis in range(3):
            change[axis] += np.float32(amplitude[axis]) * wave
    return change


def _unit(vectors):
    return vectors / np.maximum(np.sqrt((vectors**2).sum(axis=0)), np.float32(1e-6))


def _gaussian(distance, width):
    return np.exp(-(distance**2) / np.float32(2 * width**2))


def _ellipse(points, bundle):
    """Return the distance (mm) from an ellipse in the sagittal plane, and its outward normal."""
    centre_y, centre_z = bundle["centre"]
    axis_y, axis_z = bundle["axes"]
    y = (points[1] - np.float32(centre_y)) / np.float32(axis_y)
    z = (points[2] - np.float32(centre_z)) / np.float32(axis_z)
    level = np.sqrt(y**2 + z**2)
    normal_y = y / np.float32(axis_y)
    normal_z = z / np.float32(axis_z)
    slope = np.maximum(np.sqrt(normal_y**2 + normal_z**2), np.float32(1e-6))
    return level * (level - 1) / slope, normal_y / slope, normal_z / slope


def _arch(points, bundle):
    """Return weight and direction of fibres that leave an ellipse sideways and turn outwards."""
    x = points[0]
    distance, normal_y, normal_z = _ellipse(points, bundle)
    inwards = np.maximum(np.float32(bundle["radius"]) - distance, 0)
    from_circle = np.sqrt(inwards**2 + x**2) - np.float32(bundle["radius"])
    # The ellipse is open below.
    is_above = np.clip((normal_z - np.float32(bundle["lowest"])) * 4, 0, 1)
    weight = _gaussian(from_circle, bundle["width"]) * is_above
    return weight, np.stack([inwards, x * normal_y, x * normal_z])


def _ring(points, bundle):
    """Return weight and direction of fibres along an ellipse in a sagittal plane."""
    distance, normal_y, normal_z = _ellipse(points, bundle)
    across = points[0] - np.float32(bundle["x"])
    weight = _gaussian(np.sqrt(distance**2 + across**2), bundle["width"])
    return weight, np.stack([np.zeros_like(across), normal_z, -normal_y])


def _arc(points, bundle):
    """Return weight and direction of fibres along a circle in an axial plane, open behind."""
    centre_y, height = bundle["centre"]
    y = points[1] - np.float32(centre_y)
    radius = np.sqrt(points[0] ** 2 + y**2)
    offset = np.sqrt(
        (radius - np.float32(bundle["radius"])) ** 2 + (points[2] - np.float32(height)) ** 2
    )
    weight = _gaussian(offset, bundle["width"]) * (y > 0)
    return weight, np.stack([y, -points[0], np.zeros_like(y)])


def _fan(points, bundle):
    """Return weight and direction of fibres that spread from an apex."""
    axis = np.asarray(bundle["axis"], np.float32)
    axis /= np.linalg.norm(axis)
    x, y, z = _from(points, bundle["apex"])
    along = axis[0] * x + axis[1] * y + axis[2] * z
    length = np.maximum(np.sqrt(x**2 + y**2 + z**2), np.float32(1e-6))
    angle = np.arccos(np.clip(along / length, -1, 1))
    begun = np.clip(along / np.float32(bundle["start"]), 0, 1)
    is_lateral = np.clip((points[0] - np.float32(bundle["medial"])) / 8, 0, 1)
    return _gaussian(angle, bundle["spread"]) * begun * is_lateral, np.stack([x, y, z])


def _straight(points, bundle):
    """Return weight and direction of parallel fibres in an ellipsoid."""
    offsets = _from(points, bundle["core"])
    level = np.zeros(points.shape[1:], np.float32)
    for offset, axis in zip(offsets, bundle["axes"], strict=True):
        level += (offset / np.float32(axis)) ** 2
    direction = np.zeros(points.shape, np.float32)
    for axis, component in enumerate(bundle["direction"]):
        direction[axis] = component
    return np.exp(-level / 2), direction


def _radial(points, bundle):
    """Return weight and direction of fibres that leave a centre, far from it."""
    offsets = np.stack(_from(points, bundle["centre"]))
    distance = np.sqrt((offsets**2).sum(axis=0))
    begun = np.clip((distance - np.float32(bundle["start"])) / 20, 0, 1)
    return np.float32(bundle["weight"]) * begun, offsets


def _from(points, place):
    return [coordinate - np.float32(p) for coordinate, p in zip(points, place, strict=True)]


Bundle = Callable[[np.ndarray, Mapping[str, Any]], Sequence[np.ndarray]]
KINDS: Mapping[str, Bundle] = {
    "arch": _arch,
    "ring": _ring,
    "arc": _arc,
    "fan": _fan,
    "straight": _straight,
    "radial": _radial,
}
