"""Background field and susceptibility estimated together."""

from functools import partial

import numpy as np

from ..inversion.morphology import SparseGradients
from .projection import pdf
from .removal import BackgroundRemoval

# Of the splitting; the smaller the first, the sooner sources follow of which only the field inside
# the mask tells.
FIELD_PENALTY, GRADIENT_PENALTY = 0.005, 0.04

# Of the projections before and after: the first's faults are put right, and the last has little
# left to do.
PROJECTION_TOLERANCE = 5e-3


def tfi(
    field,
    mask,
    voxel_size,
    *,
    edges,
    standard_error=None,
    b0_dir=(0, 0, 1),
    margin=10.0,
    tolerance=5e-2,
    max_iterations=100,
):
    r"""Remove the background field while explaining the local one.

    A projection onto the fields of outside sources takes with it whatever part of the brain's own
    field outside sources can mimic, and deep nuclei lose up to a third of their susceptibility.
    Here sources inside and outside compete for the field: inside, susceptibility has sparse
    gradients except at the magnitude's edges, as in MEDI; outside it is free,

        min ½ ‖W (D∗χ - f)‖² + λ ‖W_e G χ‖₁,    W_e = 0 outside the mask, at edges and across the
        surface.

    The harmonic part of the field that either could explain goes to the inside as far as that makes
    a simpler map. It starts from a rough projection onto dipole fields, stops when the local field
    rests, and ends with a projection of what the inside does not explain, which clears the mask's
    rim of background.

    It assumes that susceptibility inside is piecewise constant between the magnitude's edges. Where
    it is not, as in a smooth gradient over the whole brain or in a lesion that the magnitude does
    not show, a smooth part of its field may be given to the background or taken from it. At the
    mask's surface, veins and their background stay ambiguous.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region whose local field is wanted.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    edges : ndarray of bool, shape (3, x, y, z)
        Differences that are not penalised, from `regularization.edge_mask`.
    standard_error : ndarray, shape (x, y, z), optional
        Standard error of the field, ppm, for the weights W. Uniform weights without it.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    margin : float
        Room for sources around the mask's bounding box, mm.
    tolerance : float
        Stop when the local field changed by less than this share of its own standard deviation in
        five iterations.
    max_iterations : int
        Stop after so many iterations in any case, beside those of the projection.

    Returns
    -------
    BackgroundRemoval

    Raises
    ------
    ValueError
        As `pdf`.

    References
    ----------
    Liu et al., Magn Reson Med 78:303-315 (2017), eq. 5: total field inversion; solved otherwise
    here, see `multiqsm.core.inversion.morphology.medi`.
    """
    project = partial(
        pdf,
        mask=mask,
        voxel_size=voxel_size,
        b0_dir=b0_dir,
        standard_error=standard_error,
        margin=margin,
        tolerance=PROJECTION_TOLERANCE,
    )
    start = project(field)
    solver = SparseGradients(
        start.local_field,
        mask,
        voxel_size,
        edges=edges,
        standard_error=standard_error,
        b0_dir=b0_dir,
        margin=margin,
        free_outside=True,
        field_penalty=FIELD_PENALTY,
        gradient_penalty=GRADIENT_PENALTY,
    )
    iterations = start.iterations + solver.converge(
        tolerance, max_iterations, watch=solver.local_field
    )
    left = np.zeros(mask.shape, np.float32)
    left[mask] = solver.unexplained()
    inside = solver.local_field() - left[mask]
    del solver, start
    rest = project(left)
    local = rest.local_field
    local[mask] += inside
    return BackgroundRemoval(local, mask, iterations + rest.iterations, rest.relative_residual)
