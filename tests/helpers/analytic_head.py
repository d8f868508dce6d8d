"""An analytic head, which gives images at any pose without resampling."""

import numpy as np
from scipy.spatial.transform import Rotation

SHAPE = (52, 60, 40)
VOXEL = (3.0, 3.0, 3.5)
AXES = np.array([70.0, 85.0, 62.0]) * 0.8
# Brightness of fluid and of two tissues.
TISSUES = {"gre": (0.45, 0.7, 1.0), "t1w": (0.3, 1.0, 0.65)}


def motion(rotation, translation):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rotation, degrees=True).as_matrix()
    matrix[:3, 3] = translation
    return matrix


def affine_of(rotation=(0, 0, 0), centre=(0, 0, 0), shape=SHAPE, axes=None):
    affine = np.eye(4)
    axes = np.eye(3) if axes is None else axes
    affine[:3, :3] = Rotation.from_rotvec(rotation, degrees=True).as_matrix() @ axes * VOXEL
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def depth(points):
    """Return the depth at points, which is 1 at the centre of the brain and 0 at its surface."""
    return 1 - np.linalg.norm(points / AXES[:, None], axis=0)


def anatomy(points, contrast="gre"):
    """Return the head's brightness at points in mm, shape (3, n).

    It is an ellipsoid with folds and two ventricles, and a shell around it.
    """
    fluid, tissue_a, tissue_b = TISSUES[contrast]
    x, y, z = points
    folds = np.sin(x / 9 + np.sin(z / 14))
    folds = folds + np.sin(y / 11 + 1 + np.sin(x / 17))
    folds = folds + np.sin(z / 10 + y / 30)
    fraction_b = 1 / (1 + np.exp(-3 * folds))
    value = tissue_a + (tissue_b - tissue_a) * fraction_b
    for side in (-1, 1):
        offset = points - np.array([[side * 13.0], [4.0], [6.0]])
        distance = np.linalg.norm(offset / [[7.0], [22.0], [9.0]], axis=0)
        value = fluid + (value - fluid) / (1 + np.exp(-12 * (distance - 1)))
    brain_depth = depth(points)
    brain = 1 / (1 + np.exp(-60 * brain_depth))
    scalp = np.exp(-(((brain_depth + 0.17) / 0.05) ** 2))
    return value * brain + 0.8 * scalp


def scan(
    pose=None,
    affine=None,
    *,
    contrast="gre",
    bias=0.0,
    noise=0.0,
    seed=0,
    shape=SHAPE,
    stretch=None,
):
    """Return an image of the head at a pose in the scanner, its affine and its mask.

    Voxels are means of eight samples.
    """
    pose = np.eye(4) if pose is None else pose
    affine = affine_of() if affine is None else affine
    to_head = np.linalg.inv(pose if stretch is None else pose @ stretch)
    index = np.indices(shape).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    image = 0
    for corner in np.ndindex(2, 2, 2):
        points = affine[:3, :3] @ (index + np.reshape(corner, (3, 1)) / 2 - 0.25) + affine[:3, 3:]
        image = image + anatomy(to_head[:3, :3] @ points + to_head[:3, 3:], contrast) / 8
    rng = np.random.default_rng(seed)
    a, b, c, d = bias * rng.standard_normal(4)
    x, y, z = world / 100
    image = image * np.exp(a * x + b * y + c * z + d * (x**2 - z**2))
    image += noise * rng.standard_normal(image.shape)
    inside = depth(to_head[:3, :3] @ world + to_head[:3, 3:]) > 0
    return image.reshape(shape).astype(np.float32), affine, inside.reshape(shape)


def points_of(affine, mask):
    return np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]


POSES = [motion((4, -6, 5), (6, -9, 12)), motion((-8, 3, 2), (-5, 4, -10))]
FLIPPED = np.array([[0, 0, -1.0], [-1, 0, 0], [0, 1, 0]])
