"""Objects on grids: susceptibility and relaxation of each voxel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Tissue:
    """An object on a grid: the susceptibility, relaxation and anatomy of each voxel.

    Parameters
    ----------
    labels : ndarray of uint8, shape (x, y, z)
        Anatomical label of the largest part of each voxel, 0 outside.
    chi : ndarray of float32, shape (x, y, z)
        Susceptibility relative to water, ppm.
    r2s, pd, t1 : ndarray of float32, shape (x, y, z)
        Transverse decay rate R2* (1/s), proton density relative to water, longitudinal relaxation
        time (s).
    region : ndarray of float32, shape (x, y, z)
        Fraction of each voxel that is of interest: the brain, or the phantom's water.
    exterior : float
        Susceptibility of the medium that surrounds the object, ppm relative to water.
    whole_of : mapping of int to int
        For each label that is only a part of a tissue, the label of this tissue.
    """

    labels: np.ndarray
    chi: np.ndarray
    r2s: np.ndarray
    pd: np.ndarray
    t1: np.ndarray
    region: np.ndarray
    exterior: float
    whole_of: Mapping[int, int] = field(default_factory=dict)

    def paint(
        self, box: tuple[slice, ...], alpha: np.ndarray, spins: Mapping[str, float], label: int
    ) -> None:
        """Mix a tissue into the voxels of a box, in place.

        Relaxation is averaged with proton density as the weight.

        Parameters
        ----------
        box : tuple of slice
            Voxels to paint.
        alpha : ndarray of float32
            Fraction of each voxel that becomes the new tissue, 0...1.
        spins : mapping
            ``chi``, ``r2s``, ``pd`` and ``t1`` of the new tissue.
        label : int
            Label of voxels that become mostly the new tissue.
        """
        added = alpha * np.float32(spins["pd"])
        self.pd[box] *= 1 - alpha
        self.pd[box] += added
        fraction = added / np.maximum(self.pd[box], np.float32(1e-6))
        self.chi[box] += alpha * (np.float32(spins["chi"]) - self.chi[box])
        self.r2s[box] += fraction * (np.float32(spins["r2s"]) - self.r2s[box])
        self.t1[box] += fraction * (np.float32(spins["t1"]) - self.t1[box])
        self.labels[box][alpha > 0.5] = label


def empty_space(
    shape: Sequence[int], chi: float, whole_of: Mapping[int, int] | None = None
) -> Tissue:
    """Return an empty grid of uniform susceptibility (ppm relative to water), to paint on.

    `whole_of` has the labels that are parts of a tissue, see `Tissue`.
    """
    shape = tuple(map(int, shape))
    r2s = np.zeros(shape, np.float32)
    pd = np.zeros(shape, np.float32)
    region = np.zeros(shape, np.float32)
    chi_map = np.full(shape, chi, np.float32)
    t1 = np.ones(shape, np.float32)
    labels = np.zeros(shape, np.uint8)
    return Tissue(labels, chi_map, r2s, pd, t1, region, exterior=chi, whole_of=dict(whole_of or {}))


def coverage(distance: np.ndarray, width: float) -> np.ndarray:
    """Return the fraction of each voxel that lies inside a surface.

    It is 1/2 on the surface, and 1 or 0 beyond half of `width` (mm) inside or outside it.

    Examples
    --------
    >>> coverage(np.array([-2.0, -0.25, 0.0, 2.0]), 1.0).tolist()
    [1.0, 0.75, 0.5, 0.0]
    """
    return np.clip(np.float32(0.5) - distance / np.float32(width), 0, 1)
