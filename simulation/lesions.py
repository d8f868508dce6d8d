"""Lesions of white matter: balls whose visible volume, all together, is a given one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from .head import Subject, anatomy, average_subject, head_model, load_templates
from .tissue import coverage

FEWEST_LESIONS = 3  # in one head
MOST_LESIONS = 150
USUAL_VOLUME = 300.0  # mm³
VOLUME_SPREAD = 0.8  # standard deviation of the logarithm of lesions' volumes
CANDIDATES = 50  # sites that are tried for each lesion
# Where lesions may be centred:
WHITE_MATTER = 0.7  # least probability of white matter
DEPTH = 8.0  # mm below the brain's surface
LOWEST = -15.0  # z in MNI space, mm
MARGIN = 20  # mm around all sites, more than the largest radius
TOLERANCE = 0.002  # relative error of the total volume, on the grid that it is computed on
MOST_STEPS = 20

Lesion = tuple[float, ...]  # an ellipsoid in MNI space, see `multiqsm.simulation.head.Subject`


@dataclass(frozen=True)
class _Room:
    """White matter in MNI space.

    Parameters
    ----------
    sites : ndarray, shape (n, 3)
        Points at which a lesion may be centred (mm), those with the most room first.
    radii : ndarray, shape (n,)
        Radius (mm) of the largest ball around each that lies within white and grey matter.
    is_hidden : ndarray of bool, shape (x, y, z)
        Voxels of 1 mm of nuclei, ventricles and veins, which hide a lesion.
    origin : ndarray, shape (3,)
        Centre of the first voxel, mm.
    """

    sites: np.ndarray
    radii: np.ndarray
    is_hidden: np.ndarray
    origin: np.ndarray


@cache
def lesion_sites() -> np.ndarray:
    """Return the voxels (MNI, mm) at which a lesion may be centred, shape (n, 3)."""
    templates = load_templates()
    index = np.argwhere((templates.white > WHITE_MATTER) & (templates.distance < -DEPTH))
    points = index + templates.affine[:3, 3]
    return points[points[:, 2] > LOWEST]


def draw_lesions(subject: Subject, volume: float, rng: np.random.Generator) -> tuple[Lesion, ...]:
    """Draw lesions in deep white matter.

    Each is placed at the first of 50 random sites where it touches no earlier one, or else where it
    overlaps least. Larger ones come first, and only at sites with room for them, if there are any.
    Finally all radii are scaled: balls that overlap or reach into a nucleus, a ventricle or a vein
    have less volume together than each alone.

    Parameters
    ----------
    subject : multiqsm.simulation.head.Subject
        The head that gets the lesions.
    volume : float
        Volume of all lesions in the head, mm³, as far as they are visible.
    rng : numpy.random.Generator
        Draws sizes and sites.

    Returns
    -------
    tuple of lesions
        Balls in MNI space, as `multiqsm.simulation.head.Subject` has them.
    """
    # Lesions are placed in MNI space, but their volume is that in the head.
    radii = _draw_radii(volume * np.linalg.det(subject.affine[:3, :3]), rng)
    centres = np.zeros((0, 3))
    for number, radius in enumerate(radii):
        sites = _sites(radius)
        candidates = sites[rng.integers(len(sites), size=CANDIDATES)]
        distances = np.linalg.norm(candidates[:, None] - centres, axis=2)
        gaps = (distances - radii[:number]).min(axis=1, initial=np.inf) - radius
        is_clear = gaps >= 0
        chosen = np.argmax(is_clear) if is_clear.any() else np.argmax(gaps)
        centres = np.vstack([centres, candidates[chosen]])
    for _ in range(MOST_STEPS):
        lesions = _balls(centres, radii)
        ratio = volume / visible_volume(subject, lesions)
        if abs(ratio - 1) < TOLERANCE:
            break
        radii = radii * np.cbrt(ratio)
    return lesions


def visible_volume(subject: Subject, lesions: Sequence[Lesion]) -> float:
    """Return the volume (mm³) that lesions have together in a head.

    Volume that is in several lesions counts once, and none that nuclei, ventricles or veins hide.

    Parameters
    ----------
    subject : multiqsm.simulation.head.Subject
        The head.
    lesions : sequence of lesions
        Ellipsoids in MNI space.
    """
    room = _room()
    fraction = np.zeros(room.is_hidden.shape, np.float32)
    for lesion in lesions:
        centre = lesion[:3] - room.origin
        radius = lesion[3]
        low = np.maximum(np.floor(centre - radius).astype(int), 0)
        high = np.minimum(np.ceil(centre + radius).astype(int) + 1, fraction.shape)
        box = tuple(map(slice, low, high))
        axes = np.ogrid[box]
        distance = np.sqrt(sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True))) - radius
        # The fractions of a ball's voxels add up to the volume of r³ + r/4 instead of r³.
        inside = coverage(distance + 1 / (12 * radius), 1.0)
        np.maximum(fraction[box], inside, out=fraction[box])
    fraction[room.is_hidden] = 0
    index = np.argwhere(fraction > 0)
    expansion = _expansion(subject, index + room.origin)
    return float((fraction[tuple(index.T)] / expansion).sum(dtype=float))


def _draw_radii(volume, rng):
    """Draw radii (mm), the largest first, of balls whose volumes (mm³) add up to `volume`."""
    number = int(np.clip(volume / USUAL_VOLUME, FEWEST_LESIONS, MOST_LESIONS))
    volumes = np.exp(VOLUME_SPREAD * rng.standard_normal(number))
    return np.sort(np.cbrt(3 / (4 * np.pi) * volume * volumes / volumes.sum()))[::-1]


def _sites(radius):
    """Return the sites with room for a ball, or the roomiest if there are too few to choose."""
    room = _room()
    n_roomy = np.count_nonzero(room.radii >= radius)
    return room.sites[: max(n_roomy, CANDIDATES)]


def _balls(centres, radii):
    balls = []
    for centre, radius in zip(centres, radii, strict=True):
        balls.append((*centre.tolist(), *[float(radius)] * 3, 0.0, 0.0, 0.0))
    return tuple(balls)


def _expansion(subject, points):
    """Return the volume in MNI space per volume in the head at MNI points (mm), shape (n, 3).

    The warp moves points by much less than its wavelengths: its gradient is taken at the point
    without warp.
    """
    inverse = np.linalg.inv(subject.affine)
    in_head = points @ inverse[:3, :3].T + inverse[:3, 3]
    jacobian = np.broadcast_to(subject.affine[:3, :3], (len(points), 3, 3)).copy()
    waves = zip(subject.wave_vectors, subject.amplitudes, subject.phases, strict=True)
    for wave, amplitude, phase in waves:
        slope = np.cos(in_head @ wave + phase)
        jacobian += slope[:, None, None] * np.outer(amplitude, wave)
    return np.linalg.det(jacobian)


@cache
def _room():
    """Return the white matter of the average head."""
    points = lesion_sites()
    origin = points.min(axis=0) - MARGIN
    shape = (points.max(axis=0) + MARGIN - origin).astype(int) + 1
    affine = np.eye(4)
    affine[:3, 3] = origin
    labels = head_model(average_subject(), shape, affine).labels
    numbers = anatomy()["labels"]
    hiding = [numbers["lateral_ventricle"], numbers["vein"]]
    for nucleus in anatomy()["nuclei"].values():
        hiding.extend(nucleus["label"])
    parenchyma = [numbers["white_matter"], numbers["grey_matter"]]
    parenchyma += [part["label"] for part in anatomy()["parts"].values()]
    distance = ndimage.distance_transform_edt(np.isin(labels, parenchyma))
    radii = distance[tuple((points - origin).astype(int).T)]
    order = np.argsort(-radii, kind="stable")
    return _Room(points[order], radii[order], np.isin(labels, hiding), origin)
