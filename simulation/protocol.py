"""The sequence of a scan, and the receiver."""

from dataclasses import dataclass

from ..core.phase.encoding import GYROMAGNETIC_RATIO


@dataclass(frozen=True)
class Protocol:
    """A spoiled multi-echo gradient-echo scan.

    Parameters
    ----------
    shape : tuple of int
        Voxels of the image.
    voxel_size : tuple of float
        Voxel size, mm.
    echo_times : tuple of float
        Echo times, s.
    repetition_time : float
        Repetition time, s.
    flip_angle : float
        Flip angle, degrees.
    imaging_frequency : float
        Centre frequency, MHz.
    snr : float
        Mean first-echo magnitude in the region of interest over the standard deviation of the real
        part's noise.
    oversampling : tuple of int
        Fine voxels per voxel along each axis on which spins precess.
    """

    shape: tuple[int, int, int] = (256, 256, 64)
    voxel_size: tuple[float, float, float] = (1.0, 1.0, 2.0)
    echo_times: tuple[float, ...] = (0.006, 0.012, 0.018, 0.024, 0.030, 0.036)
    repetition_time: float = 0.045
    flip_angle: float = 5.0
    imaging_frequency: float = 3.0 * GYROMAGNETIC_RATIO
    snr: float = 185.0
    oversampling: tuple[int, int, int] = (2, 2, 2)


@dataclass(frozen=True)
class Receiver:
    """An array of receive coils.

    Parameters
    ----------
    channels : int
        Number of coils.
    sum_of_squares : bool
        Whether the magnitude is the sum of squares over the channels, and only the phase comes from
        their complex combination.
    """

    channels: int = 1
    sum_of_squares: bool = False

    @property
    def record(self) -> dict[str, object]:
        """The receiver as a sidecar describes it."""
        return {"Channels": self.channels, "SumOfSquares": self.sum_of_squares}


SINGLE_COIL = Receiver()
