"""A digital head: MNI templates for grey and white matter, simple shapes for everything else.

The anatomy is described in ``head.json``. It is evaluated at coordinates, so that any grid at any
position shows the same head: grey and white matter by interpolation in the templates, everything
else from the distance to ellipsoids, tubes and shells around the brain. Coordinates are in mm, x to
the right, y to the front, z up.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from ..core.grid import voxel_size_of
from .shapes import bounds, pieces, shape_distance, sides
from .tissue import Tissue, coverage, empty_space
from .warp import warped_coordinates

SLAB = 4  # sagittal planes evaluated at a time, few enough for the cache
SHARPENING = 2  # exponent that undoes some of the blur of a template averaged over people


@cache
def anatomy() -> dict[str, Any]:
    """Return the parametric description of the head, ``head.json``."""
    return json.loads(files(__package__).joinpath("head.json").read_text(encoding="utf-8"))


def label_names() -> dict[int, str]:
    """Return the names of the labels of `head_model` by index, such as ``left_putamen``.

    0 is air.
    """
    names = {index: name for name, index in anatomy()["labels"].items()}
    for name, nucleus in anatomy()["nuclei"].items():
        left, right = nucleus["label"]
        names[left] = f"left_{name}"
        names[right] = f"right_{name}"
    names |= {part["label"]: name for name, part in anatomy()["parts"].items()}
    return dict(sorted(names.items()))


@dataclass(frozen=True)
class Templates:
    """Tissue probability and distance to the brain's surface in MNI space.

    Parameters
    ----------
    grey, white : ndarray of float32, shape (x, y, z)
        Probabilities of the tissues.
    distance : ndarray of float32, shape (x, y, z)
        Distance from the brain's surface, mm, negative inside.
    affine : ndarray, shape (4, 4)
        From voxels to MNI mm.
    """

    grey: np.ndarray
    white: np.ndarray
    distance: np.ndarray
    affine: np.ndarray

    def brain_distance(self, points: np.ndarray) -> np.ndarray:
        """Return the distance (mm) from the brain's surface at MNI coordinates, shape (3, ...)."""
        return ndimage.map_coordinates(self.distance, self._index(points), order=1, mode="nearest")

    def mixture(self, points: np.ndarray) -> np.ndarray:
        """Return fractions of grey matter, white matter and CSF at MNI coordinates, shape (3, ...).

        They are sharper than those of the templates.
        """
        index = self._index(points)
        grey = ndimage.map_coordinates(self.grey, index, order=1)
        white = ndimage.map_coordinates(self.white, index, order=1)
        fractions = np.stack([grey, white, np.maximum(1 - grey - white, 0)]) ** SHARPENING
        return fractions / fractions.sum(axis=0)

    def _index(self, points):
        """Return voxel coordinates; voxels are 1 mm along the axes of MNI space."""
        return points - np.float32(self.affine[:3, 3]).reshape([3] + [1] * (points.ndim - 1))


@cache
def load_templates() -> Templates:
    """Load nilearn's MNI152 grey and white matter, with a margin around the brain."""
    from nilearn.datasets import (
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )

    t1 = load_mni152_template(resolution=1)
    inside = ndimage.binary_fill_holes(t1.get_fdata(dtype=np.float32) > 0)
    box = ndimage.find_objects(inside.view(np.int8))[0]
    margin = 20  # voxels of 1 mm, wider than the shells around the brain
    inside = np.pad(inside[box], margin)
    grey = load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    grey = np.pad(grey[box], margin)
    white = load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    white = np.pad(white[box], margin)
    distance = ndimage.distance_transform_edt(~inside) - ndimage.distance_transform_edt(inside)
    affine = t1.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start - margin for side in box]
    return Templates(grey, white, distance.astype(np.float32), affine)


# ------------------------------------------------------------------------------
# Subjects
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Feature:
    """A structure that a head has beyond the template's anatomy.

    Parameters
    ----------
    shape : mapping
        Its ``ellipsoids`` and ``tubes`` in MNI space, see
        `multiqsm.simulation.shapes.shape_distance`.
    tissue : mapping
        ``chi``, ``r2s``, ``pd`` and ``t1`` as in ``head.json``.
    label : int
        Label of its voxels.
    outside_brain : bool
        Whether it ends at the CSF around the brain.
    """

    shape: Mapping[str, Any]
    tissue: Mapping[str, Any]
    label: int
    outside_brain: bool = False


@dataclass(frozen=True)
class Subject:
    """One person's head.

    Parameters
    ----------
    age : float
        Years.
    chi : mapping of str to float
        Susceptibility of each nucleus, ppm relative to CSF.
    affine : ndarray, shape (4, 4)
        From the head's coordinates to MNI space.
    wave_vectors, amplitudes : ndarray, shape (waves, 3)
        Plane waves of the mild warp that is added to the affine: wave vectors (rad/mm in the head's
        coordinates) and displacements (mm).
    phases : ndarray, shape (waves,)
        Phases of the waves, rad.
    lesions : sequence of nine floats each
        Ellipsoids in MNI space, see `multiqsm.simulation.shapes.ellipsoid_distance`.
    rims : sequence of Feature
        Rims of lesions, which nuclei cover as they cover lesions.
    features : sequence of Feature
        Other findings, in the order in which they replace the tissue.
    cavities : sequence of Feature, optional
        Bone and air of the skull base, in place of the cavities of ``head.json``.
    """

    age: float
    chi: Mapping[str, float]
    affine: np.ndarray
    wave_vectors: np.ndarray
    amplitudes: np.ndarray
    phases: np.ndarray
    lesions: Sequence[Sequence[float]] = ()
    rims: Sequence[Feature] = ()
    features: Sequence[Feature] = ()
    cavities: Sequence[Feature] | None = None


def average_subject(age: float | None = None) -> Subject:
    """Return the template's own anatomy, with the mean susceptibilities at an age (years)."""
    age = anatomy()["reference_age"] if age is None else age
    return Subject(age, _mean_chi(age), np.eye(4), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))


def draw_subject(seed: int | Sequence[int], age: float) -> Subject:
    """Draw a person's susceptibilities and anatomy.

    Susceptibilities come from the normal range at an age. The anatomy is that of the template,
    changed by an affine and a mild warp.

    Parameters
    ----------
    seed : int or sequence of int
        Seed of this person.
    age : float
        Years.

    Returns
    -------
    Subject
        Head sizes and shears vary by 3 % and 1 % (standard deviations), tilts by 1.5 degrees; six
        waves of 70 to 150 mm move the anatomy by about 0.7 mm each, too gently to fold it.
    """
    rng = np.random.default_rng(seed)
    chi = {}
    for name, mean in _mean_chi(age).items():
        chi[name] = mean + anatomy()["nuclei"][name]["chi_sd"] * rng.standard_normal()
    stretch = np.eye(3) + 0.01 * rng.standard_normal((3, 3))
    stretch[np.diag_indices(3)] = np.exp(0.03 * rng.standard_normal(3))
    tilt = Rotation.from_rotvec(np.deg2rad(1.5) * rng.standard_normal(3))
    affine = np.eye(4)
    affine[:3, :3] = tilt.as_matrix() @ stretch
    direction = rng.standard_normal((6, 3))
    wave_vectors = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    wave_vectors *= 2 * np.pi / rng.uniform(70, 150, (6, 1))
    amplitudes = 0.4 * rng.standard_normal((6, 3))
    return Subject(age, chi, affine, wave_vectors, amplitudes, rng.uniform(0, 2 * np.pi, 6))


def _mean_chi(age):
    """Return the mean susceptibility of each nucleus at an age."""
    years = age - anatomy()["reference_age"]
    chi = {}
    for name, nucleus in anatomy()["nuclei"].items():
        chi[name] = nucleus["chi_mean"] + years * nucleus["chi_per_year"]
    return chi


# ------------------------------------------------------------------------------
# The head on a grid
# ------------------------------------------------------------------------------


def head_model(
    subject: Subject,
    shape: Sequence[int],
    affine: np.ndarray,
    *,
    pose: np.ndarray | None = None,
    workers: int = 1,
) -> Tissue:
    """Sample a subject's head on any grid in the scanner.

    Parameters
    ----------
    subject : Subject
        The person, see `draw_subject`.
    shape : sequence of int
        Voxels of the grid.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    pose : ndarray, shape (4, 4), optional
        Rigid transform from the head's coordinates to the scanner's axes; the identity by default.
    workers : int
        Number of threads.

    Returns
    -------
    Tissue
        Labels as in `label_names`; the region of interest is the brain with its CSF. Voxels on a
        surface mix the tissues on both sides; relaxation is weighted by proton density.
    """
    to_head = affine if pose is None else np.linalg.inv(pose) @ affine
    canvas = _Canvas(subject, tuple(map(int, shape)), to_head)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(canvas.paint_slab, range(0, shape[0], SLAB)))
    labels = anatomy()["labels"]
    tissues = anatomy()["tissues"]
    for lesion in subject.lesions:
        canvas.paint_shape(
            {"ellipsoids": [lesion], "tubes": []}, tissues["lesion"], labels["lesion"]
        )
    for rim in subject.rims:
        canvas.paint_feature(rim)
    for name, nucleus in anatomy()["nuclei"].items():
        tissue = {**nucleus, "chi": subject.chi[name]}
        for side, label in zip(sides(nucleus), nucleus["label"], strict=True):
            canvas.paint_shape(side, tissue, label)
    for side in sides(anatomy()["lateral_ventricle"]):
        canvas.paint_ventricle(side)
    for vein in anatomy()["veins"].values():
        for side in sides(vein):
            for piece in pieces(side):
                canvas.paint_shape(piece, tissues["vein"], labels["vein"])
    for feature in subject.features:
        canvas.paint_feature(feature)
    for eye in sides(anatomy()["eyes"]["eye"]):
        canvas.paint_shape(eye, tissues["eye"], labels["eye"], outside_brain=True)
    for cavity in usual_cavities() if subject.cavities is None else subject.cavities:
        canvas.paint_feature(cavity)
    for part in anatomy()["parts"].values():
        canvas.label_part(part)
    return canvas.tissue


def usual_cavities() -> list[Feature]:
    """Return the cavities of ``head.json``: sinuses, airways, ear canals and mastoid cells."""
    cavities = []
    for cavity in anatomy()["cavities"].values():
        for side in sides(cavity):
            cavities.append(Feature(side, anatomy()["tissues"]["air"], 0, outside_brain=True))
    return cavities


class _Canvas:
    """A grid that tissues are painted on one after the other."""

    def __init__(self, subject: Subject, shape: tuple[int, ...], to_head: np.ndarray) -> None:
        self.subject = subject
        self.to_head = to_head
        self.templates = load_templates()
        self.width = float(np.prod(voxel_size_of(to_head)) ** (1 / 3))
        labels = anatomy()["labels"]
        whole_of = {part["label"]: labels[part["whole"]] for part in anatomy()["parts"].values()}
        self.tissue = empty_space(shape, anatomy()["tissues"]["air"]["chi"], whole_of)

    def points(self, box: Sequence[slice]) -> np.ndarray:
        """Return the MNI coordinates (mm) of the voxels in a box, shape (3, x, y, z)."""
        person = self.subject
        return warped_coordinates(
            box,
            self.to_head,
            person.affine,
            person.wave_vectors,
            person.amplitudes,
            person.phases,
        )

    def box(self, shape: Mapping[str, Any]) -> tuple[slice, ...]:
        """Return a box of voxels around a structure, empty if it lies outside the grid."""
        low, high = bounds(shape)
        corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1)
        inverse = np.linalg.inv(self.subject.affine @ self.to_head)
        index = inverse[:3, :3] @ corners + inverse[:3, 3:]
        # The warp is not inverted: the margin covers its greatest displacement, with some to spare
        # for the affine.
        reach = np.abs(self.subject.amplitudes).sum(axis=0).max(initial=0) * 1.2 + self.width
        margin = np.abs(inverse[:3, :3]).sum(axis=1) * reach
        first = np.maximum(np.floor(index.min(axis=1) - margin).astype(int), 0)
        last = np.minimum(
            np.ceil(index.max(axis=1) + margin).astype(int) + 1, self.tissue.chi.shape
        )
        return tuple(map(slice, first, np.maximum(first, last)))

    def paint_shape(
        self,
        shape: Mapping[str, Any],
        tissue: Mapping[str, float],
        label: int,
        *,
        outside_brain: bool = False,
    ) -> None:
        """Paint a structure; on request only outside the brain and the CSF around it."""
        box = self.box(shape)
        points = self.points(box)
        alpha = coverage(shape_distance(points, shape), self.width)
        if outside_brain:
            alpha *= coverage(
                np.float32(anatomy()["shells"]["csf"]) - self.templates.brain_distance(points),
                self.width,
            )
        self.tissue.paint(box, alpha, tissue, label)

    def paint_feature(self, feature: Feature) -> None:
        """Paint a structure with its own tissue and label."""
        self.paint_shape(
            feature.shape, feature.tissue, feature.label, outside_brain=feature.outside_brain
        )

    def paint_ventricle(self, shape: Mapping[str, Any]) -> None:
        """Paint a ventricle: the template's CSF within a shape larger than the ventricle."""
        box = self.box(shape)
        points = self.points(box)
        csf = self.templates.mixture(points)[2]
        alpha = coverage(shape_distance(points, shape), self.width) * csf
        self.tissue.paint(
            box, alpha, anatomy()["tissues"]["csf"], anatomy()["labels"]["lateral_ventricle"]
        )

    def label_part(self, part: Mapping[str, Any]) -> None:
        """Label a part of a tissue; other tissues within its shape keep their labels."""
        box = self.box(part)
        labels = self.tissue.labels[box]
        is_inside = shape_distance(self.points(box), part) < 0
        labels[is_inside & (labels == self.tissue.whole_of[part["label"]])] = part["label"]

    def paint_slab(self, start: int) -> None:
        """Paint soft tissue, skull, CSF and the brain's grey and white matter on a few planes."""
        nx, ny, nz = self.tissue.chi.shape
        box = (slice(start, min(start + SLAB, nx)), slice(0, ny), slice(0, nz))
        points = self.points(box)
        distance = self.templates.brain_distance(points)
        shells = anatomy()["shells"]
        tissues = anatomy()["tissues"]
        labels = anatomy()["labels"]
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
        is_near = distance < self.width
        mixture = np.zeros((2, *distance.shape), np.float32)
        mixture[:, is_near] = self.templates.mixture(points[:, is_near])[:2]
        mixture *= self.tissue.region[box]
        # White matter is painted last and covers some of the grey matter. Grey matter is painted in
        # excess, so that its fraction is correct afterwards.
        remainder = np.maximum(1 - mixture[1], np.float32(1e-6))
        grey = np.minimum(mixture[0] / remainder, 1)
        self.tissue.paint(box, grey, tissues["grey_matter"], labels["grey_matter"])
        self.tissue.paint(box, mixture[1], tissues["white_matter"], labels["white_matter"])
