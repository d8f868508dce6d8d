"""Anatomical images beside the gradient-echo scan: FLAIR (bright lesions) and T1-weighted."""

from dataclasses import dataclass

import numpy as np

from .acquisition import WATER_SIGNAL, spoiled_steady_state
from .grid import scan_affine
from .head import Subject, head_model
from .tissue import Tissue

# R2 as a fraction of R2*: T2* of 53 ms (white matter) and 66 ms (grey matter) becomes T2 of 71 and
# 88 ms, as measured at 3 T.
R2_OF_R2STAR = 0.75


@dataclass(frozen=True)
class Structural:
    """The sequence of an anatomical image.

    Parameters
    ----------
    suffix : {'FLAIR', 'T1w'}
        Suffix of the image in BIDS.
    shape : tuple of int
        Voxels of the image.
    voxel_size : tuple of float
        Voxel size, mm.
    echo_time, repetition_time : float
        Echo and repetition time, s.
    flip_angle : float
        Flip angle, degrees.
    inversion_time : float or None
        Inversion time (s) of FLAIR; None without inversion.
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


# FLAIR nulls CSF (T1 4 s).
FLAIR = Structural("FLAIR", (320, 400, 132), (0.6, 0.6, 1.2), 0.12, 8.0, 90.0, inversion_time=2.27)
T1W = Structural("T1w", (432, 528, 132), (0.45, 0.45, 1.2), 0.003, 0.025, 25.0)


def simulate_structural(
    sequence: Structural,
    subject: Subject,
    pose: np.ndarray,
    prescription: np.ndarray,
    rng: np.random.Generator,
    *,
    workers: int = 1,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate an anatomical image of a head.

    Parameters
    ----------
    sequence : Structural
        The image's sequence.
    subject : multiqsm.simulation.head.Subject
        The head.
    pose, prescription : ndarray, shape (4, 4)
        Rigid transforms to the scanner's axes, from those of the head and from those of the image
        around its middle.
    rng : numpy.random.Generator
        Draws the noise.
    workers : int
        Number of threads.

    Returns
    -------
    image : ndarray of float32, shape (x, y, z)
        Magnitude, arbitrary units.
    labels : ndarray of uint8, shape (x, y, z)
        Labels of `head_model`.
    affine : ndarray, shape (4, 4)
        From voxels to the scanner's axes, mm.
    """
    rotation = prescription[:3, :3]
    centre = prescription[:3, 3]
    affine = scan_affine(sequence.shape, sequence.voxel_size, rotation=rotation, centre=centre)
    tissue = head_model(subject, sequence.shape, affine, pose=pose, workers=workers)
    signal = np.float32(WATER_SIGNAL) * _weighted(sequence, tissue)
    sigma = np.float32(signal[tissue.region >= 0.5].mean(dtype=float) / sequence.snr)
    # Complex noise makes the magnitude Rician.
    signal += sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(signal.shape, dtype=np.float32)
    return np.hypot(signal, imaginary), tissue.labels, affine


def _weighted(sequence: Structural, tissue: Tissue) -> np.ndarray:
    """Return the magnitude without noise, relative to relaxed water."""
    if sequence.inversion_time is None:
        return spoiled_steady_state(
            tissue.pd, tissue.t1, sequence.repetition_time, sequence.flip_angle
        )
    inversion = np.float32(sequence.inversion_time)
    repetition = np.float32(sequence.repetition_time)
    recovered = np.abs(1 - 2 * np.exp(-inversion / tissue.t1) + np.exp(-repetition / tissue.t1))
    decay = np.exp(-np.float32(sequence.echo_time * R2_OF_R2STAR) * tissue.r2s)
    return tissue.pd * recovered * decay
