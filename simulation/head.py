"""A head that can be scanned at any position: MNI templates for the cortex, simple shapes for the
rest.

The anatomy lives in ``head.json``. It is evaluated at coordinates, so that any grid in any position
shows the same head: grey and white matter by interpolation in the templates, everything else from
the distance to ellipsoids, tubes and shells around the brain. Coordinates are mm, x to the right, y
to the front, z up.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..core.grid import voxel_size_of
from .grid import affine_row
from .tissue import coverage, empty_space

SLAB = 4  # sagittal planes evaluated at a time, few enough for the cache
SHARPENING = 2  # exponent that undoes some of the blur of a template averaged over people


@cache
def anatomy():
    """The parametric description of the head, ``head.json``."""
    return json.loads(files(__package__).joinpath("head.json").read_text(encoding="utf-8"))


def label_names():
    """Names of the labels of `head_model`, by index, such as ``left_putamen``; 0 is air."""
    names = {index: name for name, index in anatomy()["labels"].items()}
    for name, nucleus in anatomy()["nuclei"].items():
        names |= {
            index: f"{side}_{name}"
            for index, side in zip(nucleus["label"], ("left", "right"), strict=True)
        }
    return dict(sorted(names.items()))


@dataclass(frozen=True)
class Templates:
    """Tissue probability and distance to the brain's surface in MNI space.

    Parameters
    ----------
    grey, white : ndarray of float32, shape (x, y, z)
        Probabilities.
    distance : ndarray of float32, shape (x, y, z)
        From the brain's surface, mm, negative inside.
    affine : ndarray, shape (4, 4)
        From voxels to MNI mm.
    """

    grey: np.ndarray
    white: np.ndarray
    distance: np.ndarray
    affine: np.ndarray

    def brain_distance(self, points):
        """Distance (mm) from the brain's surface at MNI coordinates, shape (3, ...)."""
        return ndimage.map_coordinates(self.distance, self._index(points), order=1, mode="nearest")

    def mixture(self, points):
        """Fractions of grey matter, white matter and CSF at MNI coordinates, sharper than the
        template's.
        """
        index = self._index(points)
        grey, white = (ndimage.map_coordinates(t, index, order=1) for t in (self.grey, self.white))
        fractions = np.stack([grey, white, np.maximum(1 - grey - white, 0)]) ** SHARPENING
        return fractions / fractions.sum(axis=0)

    def _index(self, points):
        """Voxel coordinates, whose axes are those of MNI space at 1 mm."""
        return points - np.float32(self.affine[:3, 3]).reshape([3] + [1] * (points.ndim - 1))


@cache
def load_templates():
    """MNI152 grey and white matter as nilearn carries it along, with a margin around the brain."""
    from nilearn.datasets import (
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )

    t1 = load_mni152_template(resolution=1)
    inside = ndimage.binary_fill_holes(t1.get_fdata(dtype=np.float32) > 0)
    kept = ndimage.find_objects(inside.view(np.int8))[0]
    margin = 20  # voxels of 1 mm, wider than the shells around the brain
    inside = np.pad(inside[kept], margin)
    grey, white = (
        np.pad(load(resolution=1).get_fdata(dtype=np.float32)[kept], margin)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    affine = t1.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [s.start - margin for s in kept]
    return Templates(grey, white, np.float32(distance), affine)


# ------------------------------------------------------------------------------
# Subjects
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """One person's head.

    Parameters
    ----------
    age : float
        Years.
    chi : dict
        Susceptibility of each nucleus, ppm relative to CSF.
    affine : ndarray, shape (4, 4)
        From the head's coordinates to MNI space.
    wave_vectors, amplitudes : ndarray, shape (waves, 3)
        Mild warp: plane waves (rad/mm in the head's coordinates) of displacement (mm) added to the
        affine.
    phases : ndarray, shape (waves,)
        rad.
    lesions : sequence of nine floats each
        Ellipsoids in MNI space, as of `ellipsoid_distance`.
    """

    age: float
    chi: Mapping[str, float]
    affine: np.ndarray
    wave_vectors: np.ndarray
    amplitudes: np.ndarray
    phases: np.ndarray
    lesions: Sequence[Sequence[float]] = ()


def average_subject(age=None):
    """The template's own anatomy, with the mean susceptibilities at an age (years)."""
    age = anatomy()["reference_age"] if age is None else age
    return Subject(age, _mean_chi(age), np.eye(4), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))


def draw_subject(seed, age):
    """Draw a person: susceptibilities from the normal range at an age, anatomy by an affine and a
    mild warp.

    Parameters
    ----------
    seed : int or sequence of int
        Of this person.
    age : float
        Years.

    Returns
    -------
    Subject
        Head sizes and shears vary by 3 % and 1 % (standard deviations), tilts by 1.5 degrees; six
        waves of 70 to 150 mm move the anatomy by about 0.7 mm each, too gently to fold it.
    """
    rng = np.random.default_rng(seed)
    chi = {
        name: mean + anatomy()["nuclei"][name]["chi_sd"] * rng.standard_normal()
        for name, mean in _mean_chi(age).items()
    }
    stretch = np.eye(3) + 0.01 * rng.standard_normal((3, 3))
    stretch[np.diag_indices(3)] = np.exp(0.03 * rng.standard_normal(3))
    affine = np.eye(4)
    affine[:3, :3] = (
        Rotation.from_rotvec(np.deg2rad(1.5) * rng.standard_normal(3)).as_matrix() @ stretch
    )
    direction = rng.standard_normal((6, 3))
    wave_vectors = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    wave_vectors *= 2 * np.pi / rng.uniform(70, 150, (6, 1))
    amplitudes = 0.4 * rng.standard_normal((6, 3))
    return Subject(age, chi, affine, wave_vectors, amplitudes, rng.uniform(0, 2 * np.pi, 6))


def _mean_chi(age):
    """Mean susceptibility of each nucleus at an age."""
    years = age - anatomy()["reference_age"]
    return {
        name: n["chi_mean"] + years * n["chi_per_year"] for name, n in anatomy()["nuclei"].items()
    }


# ------------------------------------------------------------------------------
# Shapes
# ------------------------------------------------------------------------------


def ellipsoid_distance(points, ellipsoid):
    """Distance (mm) from an ellipsoid's surface, negative inside, to first order near the surface.

    Parameters
    ----------
    points : ndarray, shape (3, ...)
        mm.
    ellipsoid : sequence of nine floats
        Centre (mm), semi-axes (mm), and the rotation vector (rad) that turns its axes into place.
    """
    centre, axes, turn = np.reshape(ellipsoid, (3, 3))
    into = Rotation.from_rotvec(turn).as_matrix().T.astype(np.float32)
    u, v, w = points
    level2 = slope2 = 0
    for row, shift, axis in zip(into, into @ centre, axes, strict=True):
        q = (row[0] * u + row[1] * v + row[2] * w - np.float32(shift)) / np.float32(axis)
        level2 = level2 + q * q
        slope2 = slope2 + (q / np.float32(axis)) ** 2
    level = np.sqrt(level2)
    return level * (level - 1) / np.maximum(np.sqrt(slope2), np.float32(1e-6))


def tube_distance(points, tube):
    """Distance (mm) from the surface of a chain of cones with round ends, negative inside.

    Parameters
    ----------
    points : ndarray, shape (3, ...)
        mm.
    tube : sequence of (x, y, z, radius)
        Points of its axis, mm. Radii change linearly from point to point.
    """
    distance = np.float32(np.inf)
    for start, end in zip(np.float32(tube[:-1]), np.float32(tube[1:]), strict=True):
        along = end[:3] - start[:3]
        offset = [p - s for p, s in zip(points, start, strict=False)]
        t = sum(o * a for o, a in zip(offset, along, strict=True)) / (along @ along)
        t = np.clip(t, 0, 1)
        gap = np.sqrt(sum((o - t * a) ** 2 for o, a in zip(offset, along, strict=True)))
        distance = np.minimum(distance, gap - start[3] - t * (end[3] - start[3]))
    return distance


def shape_distance(points, shape):
    """Distance (mm) from the union of a structure's ellipsoids and tubes, negative inside."""
    distance = np.float32(np.inf)
    for ellipsoid in shape["ellipsoids"]:
        distance = np.minimum(distance, ellipsoid_distance(points, ellipsoid))
    for tube in shape["tubes"]:
        distance = np.minimum(distance, tube_distance(points, tube))
    return distance


def _sides(shape):
    """A structure's shapes on each side, the left one first; the structure itself if it is not
    mirrored.
    """
    if not shape.get("mirrored", True):
        return [shape]
    flip = np.array([-1, 1, 1])
    left = {
        # A mirrored rotation vector keeps its x and turns the other way around y and z.
        "ellipsoids": [
            [*flip * e[:3], *e[3:6], *-flip * e[6:]] for e in np.asarray(shape["ellipsoids"])
        ],
        "tubes": [[[-x, *rest] for x, *rest in tube] for tube in shape["tubes"]],
    }
    return [left, shape]


def _bounds(shape):
    """Corners (mm) of a box around a structure."""
    balls = [[*e[:3], max(e[3:6])] for e in shape["ellipsoids"]] + [
        p for tube in shape["tubes"] for p in tube
    ]
    centres, radii = np.split(np.array(balls), [3], axis=1)
    return (centres - radii).min(axis=0), (centres + radii).max(axis=0)


def _pieces(shape):
    """One structure per segment of each tube, whose boxes are small."""
    return [
        {"ellipsoids": [], "tubes": [t[i : i + 2]]}
        for t in shape["tubes"]
        for i in range(len(t) - 1)
    ]


# ------------------------------------------------------------------------------
# The head on a grid
# ------------------------------------------------------------------------------


def head_model(subject, shape, affine, *, pose=None, workers=1):
    """A subject's head on any grid in the scanner.

    Parameters
    ----------
    subject : Subject
        Of `draw_subject`.
    shape : sequence of int
        Voxels.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    pose : ndarray, shape (4, 4), optional
        Rigid transform from the head's coordinates to the scanner's axes; the identity by default.
    workers : int
        Threads.

    Returns
    -------
    Tissue
        Labels as in `label_names`; the region of interest is the brain with the CSF around and in
        it. Voxels on a surface mix the tissues on its sides, spins by their proton density.
    """
    to_head = affine if pose is None else np.linalg.inv(pose) @ affine
    canvas = _Canvas(subject, tuple(int(n) for n in shape), to_head)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(canvas.paint_slab, range(0, shape[0], SLAB)))
    labels = anatomy()["labels"]
    tissues = anatomy()["tissues"]
    for lesion in subject.lesions:
        canvas.paint_shape(
            {"ellipsoids": [lesion], "tubes": []}, tissues["lesion"], labels["lesion"]
        )
    for name, nucleus in anatomy()["nuclei"].items():
        tissue = {**nucleus, "chi": subject.chi[name]}
        for side, label in zip(_sides(nucleus), nucleus["label"], strict=True):
            canvas.paint_shape(side, tissue, label)
    for side in _sides(anatomy()["lateral_ventricle"]):
        canvas.paint_ventricle(side)
    for vein in anatomy()["veins"].values():
        for piece in (p for side in _sides(vein) for p in _pieces(side)):
            canvas.paint_shape(piece, tissues["vein"], labels["vein"])
    for eye in _sides(anatomy()["eyes"]["eye"]):
        canvas.paint_shape(eye, tissues["eye"], labels["eye"], outside_brain=True)
    for cavity in anatomy()["cavities"].values():
        for side in _sides(cavity):
            canvas.paint_shape(side, tissues["air"], 0, outside_brain=True)
    return canvas.tissue


class _Canvas:
    """A grid that tissues are painted on one after the other."""

    def __init__(self, subject, shape, to_head):
        self.subject = subject
        self.to_head = to_head
        self.templates = load_templates()
        self.width = float(np.prod(voxel_size_of(to_head)) ** (1 / 3))
        self.tissue = empty_space(shape, anatomy()["tissues"]["air"]["chi"])

    def points(self, box):
        """MNI coordinates (mm) of the voxels in a box, shape (3, x, y, z)."""
        grid = np.ix_(*(np.arange(s.start, s.stop, dtype=np.float32) for s in box))
        linear = self.subject.affine @ self.to_head
        points = np.stack([affine_row(row, grid) for row in linear[:3]])
        waves = self.subject.wave_vectors @ self.to_head[:3]
        waves[:, 3] += self.subject.phases
        for wave, amplitude in zip(waves, np.float32(self.subject.amplitudes), strict=True):
            displacement = np.sin(affine_row(wave, grid))
            for axis in range(3):
                points[axis] += amplitude[axis] * displacement
        return points

    def box(self, shape):
        """Voxels that may hold a structure; empty where it lies outside the grid."""
        low, high = _bounds(shape)
        corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1)
        inverse = np.linalg.inv(self.subject.affine @ self.to_head)
        index = inverse[:3, :3] @ corners + inverse[:3, 3:]
        reach = np.abs(self.subject.amplitudes).sum(axis=0).max(initial=0) * 1.2 + self.width
        margin = np.abs(inverse[:3, :3]).sum(axis=1) * reach
        first = np.maximum(np.floor(index.min(axis=1) - margin).astype(int), 0)
        last = np.minimum(
            np.ceil(index.max(axis=1) + margin).astype(int) + 1, self.tissue.chi.shape
        )
        return tuple(slice(a, max(a, b)) for a, b in zip(first, last, strict=True))

    def paint_shape(self, shape, tissue, label, *, outside_brain=False):
        """Paint a structure, if asked only where it keeps clear of the brain."""
        box = self.box(shape)
        points = self.points(box)
        alpha = coverage(shape_distance(points, shape), self.width)
        if outside_brain:
            alpha *= coverage(
                np.float32(anatomy()["shells"]["csf"]) - self.templates.brain_distance(points),
                self.width,
            )
        self.tissue.paint(box, alpha, tissue, label)

    def paint_ventricle(self, shape):
        """Paint a ventricle: the template's CSF within a generous shape."""
        box = self.box(shape)
        points = self.points(box)
        csf = self.templates.mixture(points)[2]
        alpha = coverage(shape_distance(points, shape), self.width) * csf
        self.tissue.paint(
            box, alpha, anatomy()["tissues"]["csf"], anatomy()["labels"]["lateral_ventricle"]
        )

    def paint_slab(self, start):
        """Paint soft tissue, skull, CSF and the brain's grey and white matter on a few planes."""
        nx, ny, nz = self.tissue.chi.shape
        box = (slice(start, min(start + SLAB, nx)), slice(0, ny), slice(0, nz))
        points = self.points(box)
        distance = self.templates.brain_distance(points)
        shells, tissues, labels = (anatomy()[key] for key in ("shells", "tissues", "labels"))
        outer = distance - np.float32(shells["soft_tissue"])
        for part in anatomy()["soft_tissue"].values():
            outer = np.minimum(outer, shape_distance(points, part))
        self.tissue.paint(
            box, coverage(outer, self.width), tissues["soft_tissue"], labels["soft_tissue"]
        )
        for name in ("skull", "csf"):
            alpha = coverage(distance - np.float32(shells[name]), self.width)
            self.tissue.paint(box, alpha, tissues[name], labels[name])
        self.tissue.region[box] = coverage(distance, self.width)
        inside = np.nonzero(distance < self.width)
        mixture = np.zeros((2, *distance.shape), np.float32)
        mixture[(slice(None), *inside)] = self.templates.mixture(points[(slice(None), *inside)])[:2]
        mixture *= self.tissue.region[box]
        rest = np.maximum(1 - mixture[1], np.float32(1e-6))
        self.tissue.paint(
            box, np.minimum(mixture[0] / rest, 1), tissues["grey_matter"], labels["grey_matter"]
        )
        self.tissue.paint(box, mixture[1], tissues["white_matter"], labels["white_matter"])
