"""Blood flow in the veins of a head."""

from itertools import pairwise

import numpy as np

from ..core.grid import voxel_size_of
from .head import Subject, anatomy
from .shapes import MIRROR_TUBE


def blood_flow(
    subject: Subject, pose: np.ndarray, labels: np.ndarray, affine: np.ndarray, wall_shear: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the velocities of blood on a grid that a head was sampled on.

    Each voxel of a vein belongs to the closest of the cones that the veins consist of, whose axis
    is the direction of flow. The profile is parabolic, its mean ``wall_shear`` · r / 4.

    Parameters
    ----------
    subject : Subject
        The person.
    pose : ndarray, shape (4, 4)
        Rigid transform from the head's coordinates to the scanner's axes.
    labels : ndarray of int, shape (x, y, z)
        Labels of the grid's voxels.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    wall_shear : float
        Shear rate at the veins' wall, 1/s.

    Returns
    -------
    index : ndarray of int, shape (voxels,)
        Flat indices of the voxels of veins.
    velocity : ndarray of float32, shape (voxels, 3)
        Along the scanner's axes, mm/s.
    """
    index = np.flatnonzero(labels == anatomy()["labels"]["vein"])
    voxels = np.array(np.unravel_index(index, labels.shape), np.float32)
    to_head = np.linalg.inv(pose) @ affine
    points = _mni_points(subject, to_head, voxels)
    velocity = np.zeros((len(index), 3), np.float32)
    # Voxels of the wall can lie just outside the cone.
    distance = np.full(len(index), voxel_size_of(affine).max(), np.float32)
    to_scanner = (pose @ np.linalg.inv(subject.affine))[:3, :3]
    for tube in _tubes(subject):
        for start, end in pairwise(tube):
            gap, radius, is_near = _cone(points, start, end, distance)
            distance[is_near] = gap - radius
            direction = to_scanner @ (end[:3] - start[:3])
            direction /= np.linalg.norm(direction)
            speed = wall_shear / 2 * radius * np.maximum(1 - (gap / radius) ** 2, 0)
            velocity[is_near] = np.outer(speed, direction)
    return index, velocity


def _tubes(subject):
    """Return the chains of cones of all veins; blood flows from first to last.

    They are those of the template on both sides, and those that the person has beyond it.
    """
    tubes = []
    for vein in anatomy()["veins"].values():
        for tube in vein["tubes"]:
            tubes.append(np.asarray(tube, np.float32))
            if vein.get("mirrored", True):
                tubes.append(np.multiply(tube, MIRROR_TUBE).astype(np.float32))
    for feature in subject.features:
        if feature.label == anatomy()["labels"]["vein"]:
            tubes += [np.asarray(tube, np.float32) for tube in feature.shape["tubes"]]
    return tubes


def _mni_points(subject, to_head, voxels):
    """Return MNI coordinates (mm) of voxel indices, both of shape (3, voxels)."""
    linear = (subject.affine @ to_head).astype(np.float32)
    points = np.einsum("ij,jn->in", linear[:3, :3], voxels) + linear[:3, 3:]
    waves = subject.wave_vectors @ to_head[:3]
    waves[:, 3] += subject.phases
    for wave, amplitude in zip(waves.astype(np.float32), subject.amplitudes, strict=True):
        moved = np.sin(np.einsum("j,jn->n", wave[:3], voxels) + wave[3])
        points += np.outer(amplitude.astype(np.float32), moved)
    return points


def _cone(points, start, end, distance):
    """Return how points lie in a cone, if it is closer to them than others are.

    Returns
    -------
    gap, radius : ndarray of float32
        Distance from the axis, and the cone's radius there, mm.
    is_near : ndarray of bool
        The points that these are given for: closer to the cone's surface than ``distance``.
    """
    axis = end[:3] - start[:3]
    reach = max(start[3], end[3]) + np.linalg.norm(axis) + distance.max()
    offset = points - start[:3, None]
    is_near = (np.abs(offset) <= reach).all(axis=0)
    offset = offset[:, is_near]
    t = np.clip(np.einsum("i,in->n", axis, offset) / (axis @ axis), 0, 1)
    gap = np.linalg.norm(offset - np.outer(axis, t), axis=0)
    radius = start[3] + t * (end[3] - start[3])
    is_closer = gap - radius < distance[is_near]
    is_near[is_near] = is_closer
    return gap[is_closer], radius[is_closer], is_near
