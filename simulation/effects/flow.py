"""Phase of moving spins: blood in the veins, CSF in the ventricles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..grid import coordinates
from ..harmonics import weighted_harmonics
from ..protocol import Protocol

# Function from the labels of a grid, its affine (from voxels to the scanner's axes, mm) and the
# wall shear rate (1/s) to the flat indices of the voxels with flowing blood and their velocities
# (mm/s along the scanner's axes), shape (voxels, 3).
BloodFlow = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Flow:
    """Spins that move while the phase of an echo builds up.

    A spin of velocity v comes from places with another field: at the echo it has the phase 2π f0 ·
    (field · TE - (v · ∇field) TE²/2), where ∇field is taken along its way up to the last echo. The
    first moment of an uncompensated unipolar readout adds a phase to all echoes that is the same in
    each, since readout and flyback from one echo to the next are symmetric in time; it is part of
    the phase at TE = 0 and left out, as are inflow and pulsation.

    Parameters
    ----------
    wall_shear : float
        Shear rate at the wall of veins, 1/s: the mean velocity in a vein of radius r is
        ``wall_shear`` · r / 4, that in its middle twice as high. The value gives 443 mL/min at the
        end of the superior sagittal sinus, as measured by Gideon et al. (Acta Radiol 37:171, 1996).
        One shear rate for all veins follows from the principle of minimum work (Murray, Proc Natl
        Acad Sci 12:207, 1926).
    wall_shear_spread : float
        Relative standard deviation from scan to scan; our choice.
    csf_velocity : float
        Greatest velocity of CSF in the lateral ventricles, along the scanner's z axis, mm/s.
        Published averages reach from 0.25 (root mean square, 4D flow: Fluids Barriers CNS 21,
        2024, doi:10.1186/s12987-024-00570-4) to 3.1 (velocity-selective labelling: medRxiv
        2024.12.09.24318672).
    """

    wall_shear: float = 110.0
    wall_shear_spread: float = 0.1
    csf_velocity: float = 3.1

    def quadratic_phase(
        self,
        labels: np.ndarray,
        field: np.ndarray,
        affine: np.ndarray,
        protocol: Protocol,
        *,
        shim: np.ndarray,
        blood_flow: BloodFlow | None,
        csf_labels: Sequence[int],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, Mapping[str, object]]:
        """Return the phase (rad/s²) that grows with TE², and what was drawn.

        Parameters
        ----------
        labels : ndarray of int, shape (x, y, z)
            Labels of the object on a fine grid.
        field : ndarray of float32, shape (x, y, z)
            Field of the object there, ppm.
        affine : ndarray, shape (4, 4)
            From voxels of that grid to the scanner's axes, mm.
        protocol : Protocol
            The sequence.
        shim : ndarray, shape (9,)
            Coefficients of `solid_harmonics` that are added to the object's field, ppm.
        blood_flow : callable, optional
            Velocities in the veins, see `BloodFlow`; none by default.
        csf_labels : sequence of int
            Labels of moving CSF.
        rng : numpy.random.Generator
            Draws the shear rate, and the pattern of flow in CSF.

        Returns
        -------
        phase : ndarray of float32, shape (x, y, z)
        record : dict
        """
        wall_shear = self.wall_shear * (1 + self.wall_shear_spread * float(rng.standard_normal()))
        index = np.flatnonzero(np.isin(labels, csf_labels))
        csf = np.zeros((len(index), 3), np.float32)
        csf[:, 2] = self.csf_velocity * smooth_pattern(
            _points(affine, np.array(np.unravel_index(index, labels.shape), np.float32)), rng
        )
        phase = np.zeros(labels.shape, np.float32)
        streams = [(index, csf)]
        if blood_flow is not None:
            streams.append(blood_flow(labels, affine, wall_shear))
        duration = protocol.echo_times[-1]
        for place, velocities in streams:
            decrease = _upstream_difference(
                field, affine, shim, place, velocities * np.float32(duration)
            )
            rate = decrease / np.float32(duration)  # ppm/s that the spin's field rises
            phase.reshape(-1)[place] = np.float32(-np.pi * protocol.imaging_frequency) * rate
        return phase, {"WallShearRate": wall_shear}


def _upstream_difference(field, affine, shim, voxels, displacement):
    """Return the field (ppm) at some voxels minus that where their spins come from.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Field of the object, ppm.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    shim : ndarray, shape (9,)
        Coefficients of the shim's field, ppm.
    voxels : ndarray of int, shape (n,)
        Flat indices.
    displacement : ndarray, shape (n, 3)
        From where their spins come from to the voxels, mm along the scanner's axes.
    """
    positions = np.array(np.unravel_index(voxels, field.shape), np.float32)
    to_voxels = np.linalg.inv(affine[:3, :3]).astype(np.float32)
    upstream = positions - np.einsum("ij,nj->in", to_voxels, displacement)
    difference = field.reshape(-1)[voxels] - ndimage.map_coordinates(
        field, upstream, order=1, mode="nearest"
    )
    difference += weighted_harmonics(shim, _points(affine, positions))
    return difference - weighted_harmonics(shim, _points(affine, upstream))


def _points(affine, voxels):
    """Return voxel indices, shape (3, voxels), as scanner coordinates in units of 100 mm."""
    to_scanner = (affine / 100).astype(np.float32)
    return np.einsum("ij,jn->in", to_scanner[:3, :3], voxels) + to_scanner[:3, 3:]


def smooth_pattern(
    points: Sequence[np.ndarray] | np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return a smooth random pattern between -1 and 1, of wavelengths near 40 mm.

    Parameters
    ----------
    points : sequence of three ndarrays
        Coordinates along the scanner's axes, in units of 100 mm.
    rng : numpy.random.Generator
        Draws the pattern.
    """
    waves = rng.standard_normal((3, 3)) * 2 * np.pi / 0.4
    x, y, z = points
    pattern = np.zeros(np.shape(x), np.float32)
    for wave in waves:
        a, b, c = map(np.float32, wave)
        pattern += np.sin(a * x + b * y + c * z)
    return pattern / 3


def random_flow_phase(
    labels: np.ndarray,
    affine: np.ndarray,
    rate: float,
    flow_labels: Sequence[int],
    rng: np.random.Generator,
) -> np.ndarray | None:
    """Return the phase (rad/s²) of tissue with smooth random velocities, at most `rate`.

    Parameters
    ----------
    labels : ndarray of int, shape (x, y, z)
        Labels of the object on a fine grid.
    affine : ndarray, shape (4, 4)
        From its voxels to the scanner's axes, mm.
    rate : float
        Greatest phase, rad/s².
    flow_labels : sequence of int
        Labels of moving tissue.
    rng : numpy.random.Generator
        Draws the pattern.

    Returns
    -------
    ndarray of float32, shape (x, y, z), or None
        None if nothing moves.
    """
    if not rate or not len(flow_labels):
        return None
    pattern = smooth_pattern(coordinates(affine, labels.shape), rng)
    return np.float32(rate) * pattern * np.isin(labels, flow_labels)
