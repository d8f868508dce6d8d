"""Mask a brain by magnitude and phase."""

import numpy as np
from skimage.filters import threshold_otsu

from ..grid import Vector
from ..holes import fill_holes
from .roughness import checked_echoes, phase_roughness, tissue_roughness_limit
from .shapes import EmptyMaskError, depth_in, dilate, erode, fill_pockets, largest_component
from .signal import tissue_signal


def brain_mask(
    magnitude: np.ndarray,
    phase: np.ndarray,
    voxel_size: Vector,
    *,
    max_roughness: float | None = None,
    opening: float = 12.0,
    rim: float = 3.0,
    closing: float = 5.0,
) -> np.ndarray:
    """Mask the brain by signal, phase quality and depth below the surface.

    1. Signal: combined magnitude above half of the local mean of tissue. Tissue is separated from
       the background by Otsu's threshold.
    2. Phase quality: `phase_roughness` below ``max_roughness``. This excludes the surface of the
       scalp, fat, the surroundings of air, and noise in the skull. It also excludes voxels inside
       the brain, such as those around a haemorrhage; these compact, enclosed pockets are filled
       again. Otherwise depth (step 3) would be measured from them as well.
    3. Opening: the largest component of voxels deeper than ``opening``, dilated by the same
       distance. The brain is the largest such body in the head: eyes have a radius of 12 mm, and
       the muscles around the skull are thinner or not connected.
    4. Rim: voxels with signal within the distance ``rim`` of these are added, whatever their phase
       quality: it is low at the surface of the brain, where the field is steep. Voxels with noisy
       phase are removed later, by `multiqsm.core.mask.reliability.trim_unreliable`.
    5. Closing and filling, so that sulci, sinuses, ventricles and dark deep grey matter are inside.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude images in any unit.
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians.
    voxel_size : tuple of 3 floats
        In mm.
    max_roughness : float, optional
        In radians, see `phase_roughness`. The default adapts to echo time, field strength and SNR:
        it is Otsu's threshold over voxels with signal or, if larger, the geometric mean of their
        median and the roughness of pure noise.
    opening : float, optional
        In mm. The default separates the brain from eyes, muscle and scalp where they touch it.
    rim : float, optional
        In mm. The default adds one layer of coarse voxels or three of fine ones.
    closing : float, optional
        In mm. The default closes sulci and the superior sagittal sinus, up to 10 mm wide.

    Returns
    -------
    ndarray of bool, shape (x, y, z)

    Raises
    ------
    EmptyMaskError
        If there is no signal, or no voxel lies deeper than ``opening``.
    ValueError
        If shapes disagree or values are not finite.
    """
    magnitude, phase = checked_echoes(magnitude, phase)
    combined = np.linalg.norm(magnitude.astype(np.float32, copy=False), axis=3)
    # Flattened, because scikit-image takes a last axis of three or four slices for colours.
    otsu = float(threshold_otsu(combined.ravel()))
    signal = tissue_signal(combined, otsu / 2, voxel_size)
    roughness = phase_roughness(phase, signal, voxel_size)
    if max_roughness is None:
        max_roughness = tissue_roughness_limit(roughness[signal])
    coherent = fill_pockets(signal & (roughness < max_roughness), voxel_size)

    deep = depth_in(coherent, voxel_size) > opening
    if not deep.any():
        raise EmptyMaskError(
            f"No brain found: of {signal.size} voxels, {np.count_nonzero(signal)} have signal "
            f"(Otsu's threshold {otsu:.4g}, largest magnitude {combined.max():.4g}) and "
            f"{np.count_nonzero(coherent)} also have a phase roughness below {max_roughness:.2g} "
            f"rad, but none lies deeper than {opening:g} mm. Check that magnitude and phase belong "
            "together, or provide a brain mask in a derivatives dataset."
        )
    mask = coherent & dilate(largest_component(deep), voxel_size, opening)
    mask = largest_component(signal & dilate(mask, voxel_size, rim))
    mask |= erode(dilate(mask, voxel_size, closing), voxel_size, closing)
    return fill_holes(mask)
