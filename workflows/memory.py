"""Memory that nodes take."""

INTERPRETER_GB = 0.3  # what a process with the imported libraries takes before it has read anything


def volume_gigabytes(n_voxels, n_volumes):
    """Memory in GB of a node that holds a number of float32 volumes at its peak."""
    return round(INTERPRETER_GB + 4e-9 * n_voxels * n_volumes, 3)
