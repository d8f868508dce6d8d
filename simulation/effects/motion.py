"""Movements of the head during a scan: each line of k-space shows the head where it then is."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from ..grid import along_axis
from .lines import PHASE_AXIS, READOUT_AXIS, SLICE_AXIS, frequencies, of_lines

IN_PLANE = (PHASE_AXIS, READOUT_AXIS)
MOST_SUDDEN = 3  # movements in a scan
HEAD_RADIUS = 100.0  # mm from the brain's centre to the scalp
LONGEST_STEP = 0.15  # voxels by which a rotation moves the scalp from one rotated image to the next


@dataclass(frozen=True)
class Motion:
    """Slow drift and rare sudden movements within a scan.

    Parameters
    ----------
    drift_translation, drift_rotation : tuple of float
        Standard deviation of the drift along and about the scanner's axes in one minute, mm and
        degrees. It grows with the root of the time.
    sudden_rate : float
        Sudden movements per minute.
    sudden_translation, sudden_rotation : tuple of float
        Their standard deviation, mm and degrees.

    Notes
    -----
    Size: in the twelve minutes of a scan of the 2015 study the head drifts by about 0.3 mm and
    0.3°, mostly nodding, and one scan in four has a sudden movement. That is as much as from one
    scan to the next (`MOTION_SPREAD` in `simulation/study.py`), and little: in diffusion scans
    people move by 1 to 2 mm per minute, mostly anteroposterior and about the right-left axis
    (Schilling et al. 2025), and 17 of 77 children were more than 0.5 mm away, on average, from
    where the centre of k-space was acquired (Afacan et al. 2016). The people of the 2015 study are
    cooperative adults.

    What is left out: the receive sensitivity and the shim, which in a scanner stay in place, move
    with the head, and the head's field does not change with its orientation.

    References
    ----------
    Afacan O et al. Pediatr Radiol 46:1728-1735 (2016).
    Schilling KG et al. Head motion in diffusion MRI. Hum Brain Mapp (2025).
    """

    drift_translation: tuple[float, float, float] = (0.04, 0.08, 0.08)
    drift_rotation: tuple[float, float, float] = (0.08, 0.03, 0.03)
    sudden_rate: float = 0.025
    sudden_translation: tuple[float, float, float] = (0.15, 0.3, 0.3)
    sudden_rotation: tuple[float, float, float] = (0.3, 0.1, 0.1)

    def draw(self, rng: np.random.Generator, times: np.ndarray) -> "Path":
        """Draw the movements of one scan.

        Parameters
        ----------
        rng : numpy.random.Generator
            Draws drift and sudden movements.
        times : ndarray, shape (n_phase, n_slice)
            Times of the lines, s, in the order of the FFT.

        Returns
        -------
        Path
            The head is in its place when the centre of k-space is acquired.
        """
        last = float(times.max())
        centre = float(times[0, 0])
        steps = rng.standard_normal((2, 6))
        drift = np.multiply(steps, (*self.drift_translation, *self.drift_rotation))
        spread = (*self.sudden_translation, *self.sudden_rotation)
        jumps = np.multiply(rng.standard_normal((MOST_SUDDEN, 6)), spread)
        expected = np.cumsum(rng.exponential(size=MOST_SUDDEN))  # movements until each of them
        moments = expected[expected < self.sudden_rate * last / 60] * 60 / self.sudden_rate
        before = -drift[0] * np.sqrt(centre / 60)
        after = drift[1] * np.sqrt((last - centre) / 60)
        # Just before and just after each sudden movement there is a knot at the same time.
        knots = np.sort([0.0, centre, last, *moments, *moments])
        poses = np.zeros((len(knots), 6))
        for axis in range(6):
            poses[:, axis] = np.interp(knots, (0.0, centre, last), (before[axis], 0.0, after[axis]))
        for moment, jump in zip(moments, jumps, strict=False):
            second = np.searchsorted(knots, moment) + 1
            if moment <= centre:
                poses[:second] -= jump
            else:
                poses[second:] += jump
        return Path(knots, poses[:, :3], poses[:, 3:])


@dataclass(frozen=True)
class Path:
    """Poses of the head during a scan, between which it moves uniformly.

    Parameters
    ----------
    knots : ndarray, shape (n,)
        Times, s. Two are the same where the movement is sudden.
    translations, rotations : ndarray, shape (n, 3)
        Along and about the scanner's axes, mm and degrees.
    """

    knots: np.ndarray
    translations: np.ndarray
    rotations: np.ndarray

    @property
    def record(self) -> dict[str, object]:
        """The poses, for the truth's sidecar."""
        return {
            "Times": np.round(self.knots, 2).tolist(),
            "Translations": np.round(self.translations, 4).tolist(),
            "Rotations": np.round(self.rotations, 4).tolist(),
        }

    def refined(self, voxel_size: float) -> "Path":
        """Return the same path with more knots, between which rotations are small.

        Parameters
        ----------
        voxel_size : float
            Shortest edge of a voxel, mm.

        Returns
        -------
        Path
            From one knot to the next, rotation moves the scalp by at most `LONGEST_STEP` voxels,
            except in sudden movements. What `move` neglects is then at most 2.8 % at the scalp for
            the steepest frequency, and less in proportion to the squares of frequency and radius.
        """
        arcs = np.deg2rad(np.linalg.norm(np.diff(self.rotations, axis=0), axis=1)) * HEAD_RADIUS
        n_steps = np.maximum(np.ceil(arcs / (LONGEST_STEP * voxel_size)), 1).astype(int)
        n_steps[np.diff(self.knots) == 0] = 1  # a sudden movement has no poses in between
        states = np.column_stack([self.knots, self.translations, self.rotations])
        rows = [states[:1]]
        for before, after, n in zip(states[:-1], states[1:], n_steps, strict=True):
            fractions = np.arange(1, n)[:, None] / n
            rows.append(before + fractions * (after - before))
            rows.append(after[None])
        refined = np.concatenate(rows)
        return Path(refined[:, 0], refined[:, 1:4], refined[:, 4:])

    def weights(self, times: np.ndarray) -> np.ndarray:
        """Return how much of each pose each line has, shape (n, n_phase, n_slice)."""
        after = np.searchsorted(self.knots, times, side="right").clip(1, len(self.knots) - 1)
        before = after - 1
        interval = self.knots[after] - self.knots[before]
        fraction = (times - self.knots[before]) / np.where(interval > 0, interval, 1.0)
        weights = np.zeros((len(self.knots), *times.shape))
        np.put_along_axis(weights, before[None], (1 - fraction)[None], axis=0)
        np.put_along_axis(weights, after[None], fraction[None], axis=0)
        return weights

    def ramp(self, times: np.ndarray, affine: np.ndarray, n_readout: int) -> np.ndarray:
        """Return the factor of each sample of k-space by the head's translation.

        Parameters
        ----------
        times : ndarray, shape (n_phase, n_slice)
            Times of the lines, s.
        affine : ndarray, shape (4, 4)
            From voxels to the scanner's axes, mm.
        n_readout : int
            Voxels along the readout.

        Returns
        -------
        ndarray of complex64, shape (n_phase, n_readout, n_slice)
        """
        in_voxels = self.translations @ np.linalg.inv(affine[:3, :3]).T
        n_phase, n_slice = times.shape
        shape = (n_phase, n_readout, n_slice)
        angle = np.zeros(shape, np.float32)
        weights = self.weights(times)
        for axis in (PHASE_AXIS, READOUT_AXIS, SLICE_AXIS):
            shift = np.tensordot(in_voxels[:, axis], weights, 1)
            k = along_axis(frequencies(shape[axis]) / shape[axis], axis).astype(np.float32)
            angle -= np.float32(2 * np.pi) * k * of_lines(shift)
        return np.exp(1j * angle)


def move(
    image: np.ndarray,
    path: Path,
    times: np.ndarray,
    affine: np.ndarray,
    ramp: np.ndarray,
    pivot: np.ndarray,
    *,
    workers: int = 1,
) -> np.ndarray:
    """Return the image of a head that moves during the scan.

    The translation of each line is exact. Rotated images are made for the knots of the path, see
    `Path.refined`; lines between two knots interpolate linearly between their k-spaces. At a sample
    where the two differ by a phase φ this leaves a relative error of at most φ²/8.

    Parameters
    ----------
    image : ndarray of complex64, shape (x, y, z)
        Image of the head at rest.
    path : Path
        Poses of the head.
    times : ndarray, shape (n_phase, n_slice)
        Times of the lines, s, in the order of the FFT.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    ramp : ndarray of complex64, shape (x, y, z)
        What `Path.ramp` returns; it is the same for all echoes.
    pivot : ndarray, shape (3,)
        Centre of the rotations in the scanner's axes, mm.
    workers : int
        Number of threads of the Fourier transforms.

    Returns
    -------
    ndarray of complex64, shape (x, y, z)
    """
    kspace = np.zeros_like(image)
    for weight, rotation in zip(path.weights(times), path.rotations, strict=True):
        # A pose has lines in some steps of the slice direction only.
        steps = np.flatnonzero(weight.any(axis=PHASE_AXIS))
        if len(steps):
            pose = _turned(image, rotation, affine, pivot, workers)[..., steps]
            pose = fft.fftn(pose, axes=IN_PLANE, workers=workers, overwrite_x=True)
            pose *= of_lines(weight[:, steps])
            kspace[..., steps] += pose
    kspace *= ramp
    return fft.ifftn(kspace, workers=workers, overwrite_x=True)


def rotated(
    image: np.ndarray,
    rotation: np.ndarray,
    affine: np.ndarray,
    pivot: np.ndarray,
    *,
    workers: int = 1,
) -> np.ndarray:
    """Return an image of the object after a small rotation.

    The rotation is a shear along each axis of the image, made by Fourier shifts. For an angle ω
    places are wrong by up to ω² times their distance from the pivot: 0.003 mm for 0.3° at 100 mm.

    Parameters
    ----------
    image : ndarray of complex64, shape (x, y, z)
        Image before the rotation.
    rotation : ndarray, shape (3,)
        Rotation vector in the scanner's axes, degrees.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    pivot : ndarray, shape (3,)
        Centre of the rotation in the scanner's axes, mm.
    workers : int
        Number of threads of the Fourier transforms.

    Returns
    -------
    ndarray of complex64, shape (x, y, z)
        A new array.
    """
    turned = _turned(image, rotation, affine, pivot, workers)
    return fft.ifft(turned, axis=SLICE_AXIS, workers=workers, overwrite_x=True)


def _turned(image, rotation, affine, pivot, workers):
    """Return an image after a small rotation, transformed along the slice direction."""
    x, y, z = np.deg2rad(rotation)
    turn = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    inverse = np.linalg.inv(affine)
    shear = inverse[:3, :3] @ turn @ affine[:3, :3]
    centre = inverse[:3, :3] @ pivot + inverse[:3, 3]
    for axis in (*IN_PLANE, SLICE_AXIS):
        if axis != SLICE_AXIS and not shear[axis].any():
            continue
        k = 2 * np.pi * frequencies(image.shape[axis]) / image.shape[axis]
        image = fft.fft(image, axis=axis, workers=workers)
        for across in {0, 1, 2} - {axis}:
            if shear[axis, across]:
                place = np.arange(image.shape[across]) - centre[across]
                angle = along_axis(k, axis) * along_axis(shear[axis, across] * place, across)
                image *= np.exp(-1j * angle).astype(np.complex64)
        if axis != SLICE_AXIS:
            image = fft.ifft(image, axis=axis, workers=workers, overwrite_x=True)
    return image
