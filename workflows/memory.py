"""Memory that nodes need."""

from collections.abc import Callable

INTERPRETER_GB = 0.3  # a process with the imported libraries, before it has read anything

VolumeMemory = Callable[[int], float]  # memory in GB of a number of float32 volumes of one shape


def volume_gigabytes(n_voxels: int, n_volumes: int) -> float:
    """Return the memory in GB of a node that holds a number of float32 volumes at its peak."""
    return round(INTERPRETER_GB + 4e-9 * n_voxels * n_volumes, 3)
