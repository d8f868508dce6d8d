"""The skull base as it differs from person to person: sinuses, bone and many small air cells.

Susceptibility steps from bone to air close to the brain make the field below the midbrain and
above the ears stronger and sharper than a few smooth cavities do. Coordinates are MNI mm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..head import Feature, anatomy, load_templates
from ..shapes import MIRROR_ELLIPSOID, ellipsoid_distance, shape_distance, sides, tube_distance

# Structures of ``head.json`` that are the same in everyone.
KEPT = ("nasal_cavity", "pharynx", "mouth", "ear_canal")

# Right-hand sinuses: centre and relative semi-axes.
SINUSES = {
    "frontal": ((11.0, 75.0, -9.0), (1.0, 0.45, 1.1)),
    "sphenoid": ((9.0, 13.0, -41.0), (0.85, 1.25, 1.0)),
    "maxillary": ((29.0, 50.0, -68.0), (0.85, 1.05, 1.0)),
}
# Where small cells lie: envelopes on the right. The sphenoid's septum is at x = 0.
ENVELOPES = {
    "ethmoid": [(8.5, 44.0, -41.0, 8.0, 21.0, 12.0, 0.0, 0.0, 0.0)],
    "mastoid": [
        (50.0, -38.0, -51.0, 18.0, 20.0, 24.0, 0.0, 0.0, 0.0),
        (52.0, -24.0, -40.0, 12.0, 10.0, 8.0, 0.0, 0.0, 0.0),
    ],
    "petrous_apex": [(26.0, -20.0, -41.0, 12.0, 7.0, 7.0, 0.0, 0.0, 0.5)],
}
TEMPORAL_BONE = [
    [(54.0, -36.0, -47.0, 17.0), (40.0, -26.0, -44.0, 11.0), (20.0, -16.0, -40.0, 7.0)],
    [(54.0, -37.0, -48.0, 17.0), (51.0, -43.0, -62.0, 11.0)],
]
CELL_RADII = (1.2, 4.5)  # mm
CELL_WALL = 0.3  # mm of bone between two cells
PLATE = 2.2  # mm between a cell and the surface of the brain: CSF, meninges and a thin plate
SINUS_WALL = 1.5  # mm of bone around a sinus
CANDIDATES = 8000  # places of which cells are chosen
SIZES = 8  # of cells


@dataclass(frozen=True)
class SkullBase:
    """Air in the skull base: its volumes, and how they differ between people.

    Each volume is that of one side, mL: mean, and standard deviation over people.

    Parameters
    ----------
    frontal, maxillary : tuple of float
        Sinuses: 2.92 ± 2.57 and, up to 64 years, 14.81 ± 3.96 mL (CT of 201 people, PMID
        28341352).
    sphenoid : tuple of float
        The same source: 4.84 ± 1.97 mL up to 64 years. Both sides are separated by a septum.
    ethmoid : tuple of float
        Cells. Our choice.
    mastoid : tuple of float
        Cells: 7.9 ± 2.3 mL in 100 temporal bones (J Laryngol Otol 117:595, 2003).
    apex_fraction : float
        Fraction of petrous apices with cells (Virapongse et al., AJNR 6:551, 1985: 35 %).
    apex : float
        Greatest volume of these cells, mL. Our choice.
    asymmetry : float
        Standard deviation of the logarithm of a volume from side to side. Our choice; the sides
        are correlated (Karakas & Kavakli, Ann Saudi Med 25:41, 2005).
    """

    frontal: tuple[float, float] = (2.9, 2.6)
    maxillary: tuple[float, float] = (14.8, 4.0)
    sphenoid: tuple[float, float] = (4.8, 2.0)
    ethmoid: tuple[float, float] = (3.4, 0.8)
    mastoid: tuple[float, float] = (7.9, 2.3)
    apex_fraction: float = 0.35
    apex: float = 0.8
    asymmetry: float = 0.15


def draw_skull_base(skull_base: SkullBase, rng: np.random.Generator) -> list[Feature]:
    """Draw one person's bone and air of the skull base.

    Parameters
    ----------
    skull_base : SkullBase
        Volumes.
    rng : numpy.random.Generator
        Draws them, and the places of the cells.

    Returns
    -------
    list of multiqsm.simulation.head.Feature
        Bone first, then air.
    """
    volumes = draw_volumes(skull_base, rng)
    bone: list[Mapping[str, Any]] = sides({"ellipsoids": [], "tubes": TEMPORAL_BONE})
    air: list[Mapping[str, Any]] = []
    for name, (centre, axes) in SINUSES.items():
        for volume, ellipsoid in zip(volumes[name], _both_sides(centre), strict=True):
            radius = np.cbrt(3 * 1000 * volume / (4 * np.pi * np.prod(axes)))
            semi_axes = radius * np.array(axes)
            air.append(_ellipsoid((*ellipsoid[:3], *semi_axes, 0.0, 0.0, 0.0)))
            wall = _ellipsoid((*ellipsoid[:3], *(semi_axes + SINUS_WALL), 0.0, 0.0, 0.0))
            bone.append(wall)
    for name, envelope in ENVELOPES.items():
        for volume, mirror in zip(volumes[name], (-1, 1), strict=True):
            air.extend(_cells(envelope, volume, mirror, rng))
    for name in KEPT:
        air.extend(sides(anatomy()["cavities"][name]))
    tissues = anatomy()["tissues"]
    features = []
    for shape in bone:
        label = anatomy()["labels"]["skull"]
        features.append(Feature(shape, tissues["skull"], label, outside_brain=True))
    for shape in air:
        features.append(Feature(shape, tissues["air"], 0, outside_brain=True))
    return features


def draw_volumes(skull_base: SkullBase, rng: np.random.Generator) -> dict[str, list[float]]:
    """Draw the volumes (mL) of one person's sinuses and cells, left and right.

    Parameters
    ----------
    skull_base : SkullBase
        Means and standard deviations.
    rng : numpy.random.Generator
        Draws them.

    Returns
    -------
    dict of list
        Log-normal volumes, at most twice the mean.
    """
    volumes = {}
    for name in ("frontal", "maxillary", "sphenoid", "ethmoid", "mastoid"):
        mean, sd = getattr(skull_base, name)
        width = np.sqrt(np.log1p((sd / mean) ** 2))
        logarithm = np.log(mean) - width**2 / 2 + width * rng.standard_normal()
        both = np.exp(logarithm + skull_base.asymmetry * rng.standard_normal(2))
        volumes[name] = np.minimum(both, 2 * mean).tolist()
    has_cells = rng.random(2) < skull_base.apex_fraction
    volumes["petrous_apex"] = (has_cells * skull_base.apex * rng.uniform(0.2, 1, 2)).tolist()
    return volumes


def skull_base_record(features: Sequence[Feature]) -> dict[str, object]:
    """Return what the truth's sidecar states."""
    return {"AirVolume": air_volume(features)}


def air_volume(features: Sequence[Feature]) -> float:
    """Return the volume of a skull base's sinuses and cells, mL, without airways and ear canals.

    Parameters
    ----------
    features : sequence of multiqsm.simulation.head.Feature
        As from `draw_skull_base`.
    """
    volume = 0.0
    usual = [side for name in KEPT for side in sides(anatomy()["cavities"][name])]
    for feature in features[: len(features) - len(usual)]:
        if feature.label == 0:
            for ellipsoid in feature.shape["ellipsoids"]:
                volume += 4 / 3 * np.pi * float(np.prod(ellipsoid[3:6])) / 1000
    return volume


def _both_sides(centre):
    right = (*centre, 0, 0, 0, 0, 0, 0)
    return [np.multiply(right, MIRROR_ELLIPSOID).tolist(), list(right)]


def _ellipsoid(parameters):
    return {"ellipsoids": [tuple(map(float, parameters))], "tubes": []}


def _cells(envelope, volume, mirror, rng):
    """Return balls of air within an envelope that do not overlap, the largest first.

    The largest ones are placed first, so that small ones fill the gaps. Cells keep clear of the
    brain and of the sigmoid sinus. If the envelope is full, their volume is smaller than asked.
    """
    if not volume:
        return []
    envelopes = np.array(envelope)
    low = (envelopes[:, :3] - envelopes[:, 3:6]).min(axis=0)
    high = (envelopes[:, :3] + envelopes[:, 3:6]).max(axis=0)
    points = rng.uniform(low, high, (CANDIDATES, 3))
    room = _room(points, envelope)
    remaining = 1000 * volume
    shapes = []
    for largest in np.geomspace(CELL_RADII[1], CELL_RADII[0], SIZES):
        while True:
            # The last cell is as large as what remains.
            radius = min(largest, np.cbrt(3 / (4 * np.pi) * remaining))
            fitting = np.flatnonzero(room >= radius)
            if radius < CELL_RADII[0] or not fitting.size:
                break
            x, y, z = points[rng.choice(fitting)].tolist()
            shapes.append(_ellipsoid((mirror * x, y, z, radius, radius, radius, 0, 0, 0)))
            distance = np.linalg.norm(points - (x, y, z), axis=1)
            room = np.minimum(room, distance - radius - CELL_WALL)
            remaining -= 4 / 3 * np.pi * radius**3
    return shapes


def _room(points, envelope):
    """Return the distance (mm) of points on the right to what a cell must not touch."""
    coordinates = np.float32(points.T)
    outside = np.inf
    for ellipsoid in envelope:
        outside = np.minimum(outside, ellipsoid_distance(coordinates, ellipsoid))
    brain = load_templates().brain_distance(coordinates) - PLATE
    sinus = anatomy()["veins"]["transverse_sinus"]["tubes"][0]
    canal = shape_distance(coordinates, anatomy()["cavities"]["ear_canal"])
    return np.min([-outside, brain, tube_distance(coordinates, sinus) - 1.0, canal], axis=0)
