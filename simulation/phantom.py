"""A cylinder of water with six tubes of gadolinium solution, which calibrates susceptibility.

The phantom of Lin et al. (AJNR 2015): 20 cm wide, 16 cm high, with six tubes of 1.8 cm and 20 cm
length along its axis, of 0 to 1.25 % of a 0.5 mol/L stock solution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ..core.grid import voxel_size_of
from .grid import affine_row, index_grid
from .tissue import Tissue, coverage, empty_space

AIR = 9.4  # ppm relative to water (Schenck, Med Phys 23:815, 1996)

# Lengths are mm.
RADIUS = 100.0  # of the water
HEIGHT = 160.0
WALL = 4.0  # thickness of the vessel
TUBE_RADIUS = 9.0
TUBE_LENGTH = 200.0
TUBE_CIRCLE = 55.0  # radius of the circle around the axis on which the tubes stand
TUBE_SUSCEPTIBILITY = (0.0, 0.41, 0.82, 1.22, 1.63, 2.04)  # ppm relative to water, tubes 1 to 6

WATER_LABEL = 7
WALL_LABEL = 8
BUBBLE_LABEL = 9

# ppm L/mol of gadolinium (de Rochefort et al., Magn Reson Med 60:1003, 2008)
SUSCEPTIBILITY_PER_MOLAR = 326.0
# L/(mmol s), Gd-DTPA in water at 3 T (Rohrer et al., Invest Radiol 40:715, 2005)
R1_RELAXIVITY = 3.1
R2_RELAXIVITY = 3.7
WATER_T1 = 2.8  # s
WATER_R2S = 1.0  # 1/s


@dataclass(frozen=True)
class Bubble:
    """A ball of air.

    Parameters
    ----------
    centre : tuple of float
        Its centre in the phantom's coordinates, mm.
    radius : float
        Its radius, mm.
    """

    centre: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Build:
    """How a phantom was built and filled; perfectly by default.

    Parameters
    ----------
    tilts : tuple of (float, float)
        Rotations of each tube about x and y around its middle, degrees; none for parallel tubes.
    bubbles : tuple of Bubble
        Bubbles of air in the water and in the tubes.
    susceptibility_factor : float
        Susceptibility of the solutions relative to their nominal one.
    """

    tilts: tuple[tuple[float, float], ...] = ()
    bubbles: tuple[Bubble, ...] = ()
    susceptibility_factor: float = 1.0


PERFECT = Build()


def label_names(build: Build = PERFECT) -> dict[int, str]:
    """Return the names of the labels of `phantom_model` by index; 0 is air."""
    tubes = {i: f"tube_{i}" for i in range(1, len(TUBE_SUSCEPTIBILITY) + 1)}
    bubbles = {BUBBLE_LABEL: "bubble"} if build.bubbles else {}
    return tubes | {WATER_LABEL: "water", WALL_LABEL: "wall"} | bubbles


def solution(chi: float) -> dict[str, float]:
    """Return the properties of a gadolinium solution, in the form that `Tissue.paint` expects.

    Parameters
    ----------
    chi : float
        Susceptibility, ppm relative to water.

    Examples
    --------
    >>> round(1 / solution(2.04)["t1"], 1)  # 6.3 mmol/L
    19.8
    """
    concentration = chi / SUSCEPTIBILITY_PER_MOLAR * 1000  # mmol/L
    r1 = 1 / WATER_T1 + R1_RELAXIVITY * concentration
    return {"chi": chi, "r2s": WATER_R2S + R2_RELAXIVITY * concentration, "pd": 1.0, "t1": 1 / r1}


def tube_centres() -> np.ndarray:
    """Return the positions (mm) of the tubes in the phantom, shape (6, 2)."""
    angle = 2 * np.pi * np.arange(len(TUBE_SUSCEPTIBILITY)) / len(TUBE_SUSCEPTIBILITY)
    return TUBE_CIRCLE * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def phantom_model(
    shape: Sequence[int],
    affine: np.ndarray,
    *,
    pose: np.ndarray | None = None,
    build: Build = PERFECT,
) -> Tissue:
    """Sample the phantom on any grid in the scanner.

    Parameters
    ----------
    shape : sequence of int
        Voxels of the grid.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    pose : ndarray, shape (4, 4), optional
        Rigid transform from the phantom's coordinates, z along the tubes, to the scanner's axes;
        identity by default.
    build : Build
        Tilt of its tubes, bubbles, and susceptibility of its solutions.

    Returns
    -------
    Tissue
        Labels as in `label_names`; the region of interest is the water with the tubes in it,
        without bubbles.
    """
    to_phantom = affine if pose is None else np.linalg.inv(pose) @ affine
    tissue = empty_space(shape, AIR)
    width = float(np.prod(voxel_size_of(to_phantom)) ** (1 / 3))
    for start in range(0, shape[0], 4):
        box = (slice(start, min(start + 4, shape[0])), slice(0, shape[1]), slice(0, shape[2]))
        _paint_slab(tissue, box, to_phantom, width, build)
    return tissue


def _paint_slab(tissue, box, to_phantom, width, build):
    """Paint the vessel, the water, the tubes and bubbles on a few planes."""
    grid = index_grid(box)
    x, y, z = (affine_row(row, grid) for row in to_phantom[:3])
    vessel = {**solution(0.0), "pd": 0.0}
    tissue.paint(
        box, _cylinder(x, y, z, RADIUS + WALL, HEIGHT + 2 * WALL, width), vessel, WALL_LABEL
    )
    water = _cylinder(x, y, z, RADIUS, HEIGHT, width)
    tissue.paint(box, water, solution(0.0), WATER_LABEL)
    tissue.region[box] = water
    tubes = zip(tube_centres(), TUBE_SUSCEPTIBILITY, strict=True)
    for label, (centre, chi) in enumerate(tubes, start=1):
        u, v = centre.astype(np.float32)
        axes = (x - u, y - v, z)
        if build.tilts:
            axes = _tilted(axes, build.tilts[label - 1])
        tube = _cylinder(*axes, TUBE_RADIUS, TUBE_LENGTH, width)
        spins = solution(chi)
        spins["chi"] *= build.susceptibility_factor
        tissue.paint(box, tube, spins, label)
    for bubble in build.bubbles:
        u, v, w = np.float32(bubble.centre)
        distance = np.sqrt((x - u) ** 2 + (y - v) ** 2 + (z - w) ** 2) - np.float32(bubble.radius)
        air = coverage(distance, width)
        tissue.paint(box, air, {**solution(0.0), "chi": AIR, "pd": 0.0}, BUBBLE_LABEL)
        tissue.region[box] *= 1 - air


def _tilted(axes, tilt):
    """Return coordinates along the axes of a tube that is tilted about x and y (degrees)."""
    to_tube = Rotation.from_rotvec([*tilt, 0.0], degrees=True).as_matrix().T.astype(np.float32)
    x, y, z = axes
    return [row[0] * x + row[1] * y + row[2] * z for row in to_tube]


def _cylinder(x, y, z, radius, height, width):
    """Return the fraction of each voxel within an upright cylinder around the origin."""
    side = coverage(np.sqrt(x * x + y * y) - np.float32(radius), width)
    return side * coverage(np.abs(z) - np.float32(height / 2), width)
