"""Anatomical images beside the gradient-echo scan: FLAIR, where lesions are bright, and
T1-weighted.
"""

from dataclasses import dataclass

import numpy as np

from .acquisition import WATER_SIGNAL, spoiled_steady_state
from .grid import scan_affine
from .head import head_model

R2_OF_R2STAR = (
    0.75  # makes T2 71 ms in white and 88 ms in grey matter of T2* 53 and 66 ms, as measured at 3 T
)


@dataclass(frozen=True)
class Structural:
    """An anatomical image.

    Parameters
    ----------
    suffix : {'FLAIR', 'T1w'}
        What kind, as BIDS names it.
    shape : tuple of int
        Voxels.
    voxel_size : tuple of float
        mm.
    echo_time, repetition_time : float
        s.
    inversion_time : float or None
        s, of FLAIR.
    flip_angle : float
        Degrees.
    snr : float
        Mean signal of the brain over the noise's standard deviation.
    """

    suffix: str
    shape: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    echo_time: float
    repetition_time: float
    flip_angle: float
    inversion_time: float | None = None
    snr: float = 40.0


# CSF (T1 4 s) is nulled.
FLAIR = Structural("FLAIR", (320, 400, 132), (0.6, 0.6, 1.2), 0.12, 8.0, 90.0, inversion_time=2.27)
T1W = Structural("T1w", (432, 528, 132), (0.45, 0.45, 1.2), 0.003, 0.025, 25.0)


def simulate_structural(sequence, subject, pose, prescription, rng, *, workers=1):
    """Make an anatomical image of a head.

    Parameters
    ----------
    sequence : Structural
        The image.
    subject : multiqsm.simulation.head.Subject
        The head.
    pose, prescription : ndarray, shape (4, 4)
        Rigid transforms from the head's axes, and from those of the image around its middle, to the
        scanner's.
    rng : numpy.random.Generator
        Of the noise.
    workers : int
        Threads.

    Returns
    -------
    image : ndarray of float32, shape (x, y, z)
        Magnitude, arbitrary units.
    labels : ndarray of uint8, shape (x, y, z)
        As of `head_model`.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    """
    rotation = prescription[:3, :3]
    centre = prescription[:3, 3]
    affine = scan_affine(sequence.shape, sequence.voxel_size, rotation=rotation, centre=centre)
    tissue = head_model(subject, sequence.shape, affine, pose=pose, workers=workers)
    signal = np.float32(WATER_SIGNAL) * _weighted(sequence, tissue)
    sigma = np.float32(signal[tissue.region >= 0.5].mean(dtype=float) / sequence.snr)
    signal += sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return (
        np.hypot(signal, sigma * rng.standard_normal(signal.shape, dtype=np.float32)),
        tissue.labels,
        affine,
    )


def _weighted(sequence, tissue):
    """Magnitude without noise, relative to relaxed water."""
    if sequence.inversion_time is None:
        return spoiled_steady_state(
            tissue.pd, tissue.t1, sequence.repetition_time, sequence.flip_angle
        )
    inversion, repetition = (
        np.float32(t) for t in (sequence.inversion_time, sequence.repetition_time)
    )
    recovered = np.abs(1 - 2 * np.exp(-inversion / tissue.t1) + np.exp(-repetition / tissue.t1))
    return (
        tissue.pd * recovered * np.exp(-np.float32(sequence.echo_time * R2_OF_R2STAR) * tissue.r2s)
    )
