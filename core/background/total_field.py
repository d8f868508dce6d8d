"""Background field removal by total field inversion (TFI): sources inside the mask and outside are
estimated together.
"""

from functools import partial

import numpy as np

from ..grid import Vector, check_grid
from ..inversion.morphology import SparseGradients
from .projection import pdf
from .removal import BackgroundRemoval

# Penalties of the splitting, ρ and η in mm². With a small ρ, sources adapt quickly where only their
# field inside the mask constrains them.
FIELD_PENALTY = 0.005
GRADIENT_PENALTY = 0.04

# Tolerance of the projections before and after. The errors of the first are corrected by the
# inversion, and the last has little field left to explain.
PROJECTION_TOLERANCE = 5e-3


def tfi(
    field: np.ndarray,
    mask: np.ndarray,
    voxel_size: Vector,
    *,
    edges: np.ndarray,
    standard_error: np.ndarray | None = None,
    b0_dir: Vector = (0, 0, 1),
    margin: float = 10.0,
    tolerance: float = 5e-2,
    max_iterations: int = 100,
) -> BackgroundRemoval:
    r"""Separate the background from the local field by total field inversion.

    A projection onto dipole fields (`pdf`) also removes any part of the brain's own field that
    sources outside can produce, and deep nuclei lose up to a third of their susceptibility. Here,
    sources inside and outside compete for the field: inside, susceptibility has sparse gradients
    except at edges of the magnitude, as in MEDI; outside it is unpenalised,

        min ½ ‖W (D∗χ - f)‖² + λ ‖W_e G χ‖₁,    W_e = 0 outside the mask, at edges and across the
        surface.

    The harmonic part of the field, which either could explain, is assigned to sources inside as far
    as this makes a simpler map. The inversion starts from a rough projection onto dipole fields,
    and stops when the local field no longer changes. A final projection of the field that sources
    inside do not explain removes residual background from the mask's rim.

    Susceptibility inside is assumed to be piecewise constant between the magnitude's edges. Where
    it is not, as for a smooth gradient over the whole brain or for a lesion that is invisible in
    the magnitude, a smooth part of the field may be assigned to the wrong side. At the mask's
    surface, veins and background remain ambiguous.

    Parameters
    ----------
    field : ndarray, shape (x, y, z)
        Total field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    edges : ndarray of bool, shape (3, x, y, z)
        Differences that are not penalised, from `regularization.edge_mask`.
    standard_error : ndarray, shape (x, y, z), optional
        Standard error of the field, ppm, for the weights W; see `noise_weight`. Uniform weights by
        default.
    b0_dir : sequence of 3 floats
        Direction of B0 in voxel axes.
    margin : float
        Margin for sources around the mask's bounding box, mm.
    tolerance : float
        Stop when the change of the local field over five iterations is less than this fraction of
        its standard deviation.
    max_iterations : int
        Maximum number of iterations, not counting those of the projections.

    Returns
    -------
    BackgroundRemoval

    Raises
    ------
    ValueError
        As `pdf`, or if the edges are on another grid.

    References
    ----------
    Liu et al., Magn Reson Med 78:303-315 (2017), eq. 5, for total field inversion. The solver is
    another one here, see `multiqsm.core.inversion.morphology.medi`.
    """
    check_grid(mask, edges=edges)
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
    residual = np.zeros(mask.shape, np.float32)
    residual[mask] = solver.unexplained()
    explained = solver.local_field() - residual[mask]  # by sources inside
    lambda_value = solver.lambda_value
    del solver, start  # release their memory
    final = project(residual)
    local = final.local_field
    local[mask] += explained
    n_iterations = iterations + final.iterations
    return BackgroundRemoval(local, mask, n_iterations, final.relative_residual, lambda_value)
