"""A cylinder of water with six tubes of gadolinium solution, which calibrates susceptibility.

The phantom of Lin et al. (AJNR 2015): 20 cm wide, 16 cm high, with six tubes of 1.8 cm and 20 cm
length along its axis, of 0 to 1.25 % of a 0.5 mol/L stock solution.
"""

from collections.abc import Sequence

import numpy as np

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

# ppm L/mol of gadolinium (de Rochefort et al., Magn Reson Med 60:1003, 2008)
SUSCEPTIBILITY_PER_MOLAR = 326.0
# L/(mmol s), Gd-DTPA in water at 3 T (Rohrer et al., Invest Radiol 40:715, 2005)
R1_RELAXIVITY = 3.1
R2_RELAXIVITY = 3.7
WATER_T1 = 2.8  # s
WATER_R2S = 1.0  # 1/s


def label_names() -> dict[int, str]:
    """Return the names of the labels of `phantom_model` by index; 0 is air."""
    tubes = {i: f"tube_{i}" for i in range(1, len(TUBE_SUSCEPTIBILITY) + 1)}
    return tubes | {WATER_LABEL: "water", WALL_LABEL: "wall"}


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
    shape: Sequence[int], affine: np.ndarray, *, pose: np.ndarray | None = None
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

    Returns
    -------
    Tissue
        Labels as in `label_names`; the region of interest is the water with the tubes in it.
    """
    to_phantom = affine if pose is None else np.linalg.inv(pose) @ affine
    tissue = empty_space(shape, AIR)
    width = float(np.prod(voxel_size_of(to_phantom)) ** (1 / 3))
    for start in range(0, shape[0], 4):
        box = (slice(start, min(start + 4, shape[0])), slice(0, shape[1]), slice(0, shape[2]))
        _paint_slab(tissue, box, to_phantom, width)
    return tissue


def _paint_slab(tissue, box, to_phantom, width):
    """Paint the vessel, the water and the tubes on a few planes."""
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
        tube = _cylinder(x - u, y - v, z, TUBE_RADIUS, TUBE_LENGTH, width)
        tissue.paint(box, tube, solution(chi), label)


def _cylinder(x, y, z, radius, height, width):
    """Return the fraction of each voxel within an upright cylinder around the origin."""
    side = coverage(np.sqrt(x * x + y * y) - np.float32(radius), width)
    return side * coverage(np.abs(z) - np.float32(height / 2), width)
