"""The mask of a brain, from magnitude and phase."""

import numpy as np
from skimage.filters import threshold_otsu

from ..holes import fill_holes
from .roughness import checked_echoes, phase_roughness, usual_roughness
from .shapes import EmptyMaskError, depth_in, dilate, erode, fill_pockets, largest_component
from .signal import tissue_signal


def brain_mask(
    magnitude, phase, voxel_size, *, max_roughness=None, opening=12.0, rim=3.0, closing=5.0
):
    """Mask of the brain from signal, phase quality and depth.

    1. Signal: combined magnitude above half of the local mean of tissue (Otsu's threshold finds
       tissue).
    2. Phase quality: `phase_roughness` below ``max_roughness``. It excludes the surface of the
       scalp, fat, air's surroundings, and what is noise in the skull. What it leaves out of the
       inside, around a haemorrhage, is filled: compact pockets that nothing connects to the
       outside. Else depth would be counted from there as well.
    3. Opening: the largest component of what lies deeper than ``opening``, grown back by as much.
       The brain is the largest such body in the head: eyes have a radius of 12 mm, and the muscles
       around the skull are thinner or apart.
    4. Rim: voxels with signal within ``rim`` of that, whatever their phase quality, which is lower
       at the brain's surface because the field is steep there. What is noise there is for
       `multiqsm.core.mask.reliability.trim_unreliable` to judge.
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
        In radians, see `phase_roughness`. The default follows echo time, field strength and SNR:
        the larger of Otsu's threshold over voxels with signal, and of the geometric mean of their
        median and pure noise.
    opening : float, optional
        In mm. The default parts the brain from eyes, muscle and scalp where they touch it.
    rim : float, optional
        In mm. The default takes back one coarse voxel or three fine ones.
    closing : float, optional
        In mm. The default closes sulci and the superior sagittal sinus, up to 10 mm wide.

    Returns
    -------
    ndarray of bool, shape (x, y, z)

    Raises
    ------
    EmptyMaskError
        If there is no signal, or nothing lies deeper than ``opening``.
    ValueError
        If shapes disagree or values are not finite.
    """
    magnitude, phase = checked_echoes(magnitude, phase)
    combined = np.linalg.norm(magnitude.astype(np.float32, copy=False), axis=3)
    # of a volume of three or four slices it would think colours
    otsu = float(threshold_otsu(combined.ravel()))
    signal = tissue_signal(combined, otsu / 2, voxel_size)
    roughness = phase_roughness(phase, signal, voxel_size)
    if max_roughness is None:
        max_roughness = usual_roughness(roughness[signal])
    trusted = fill_pockets(signal & (roughness < max_roughness), voxel_size)

    deep = depth_in(trusted, voxel_size) > opening
    if not deep.any():
        raise EmptyMaskError(
            f"No brain found: of {signal.size} voxels, {np.count_nonzero(signal)} have signal "
            "(Otsu's threshold "
            f"{otsu:.4g}, largest magnitude {combined.max():.4g}) and {np.count_nonzero(trusted)} "
            "also have "
            f"phase smoother than {max_roughness:.2g} rad, but none lies deeper than {opening:g} "
            "mm. Check that "
            "magnitude and phase belong together, or give a brain mask in a derivatives dataset."
        )
    mask = trusted & dilate(largest_component(deep), voxel_size, opening)
    mask = largest_component(signal & dilate(mask, voxel_size, rim))
    mask |= erode(dilate(mask, voxel_size, closing), voxel_size, closing)
    return fill_holes(mask)
