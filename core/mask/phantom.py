"""The mask of a phantom, from magnitude and phase."""

import numpy as np

from .roughness import checked_echoes, phase_roughness, weak_signal_roughness
from .shapes import (
    EmptyMaskError,
    depth_in,
    dilate,
    fill_body,
    heaviest_component,
    largest_component,
)
from .signal import signal_above_ghosts

# Roughness of a phantom's phase is below a limit between these: water's is below 0.3, noise's is
# seldom below 1.4.
_SMOOTH = (0.7, 1.4)


def phantom_mask(magnitude, phase, voxel_size, *, max_roughness=None, opening=3.0, rim=3.0):
    """Mask of a phantom from phase quality and signal.

    A phantom's parts may differ tenfold in signal (gadolinium shortens T1), so that no threshold on
    magnitude finds the dim ones and leaves the air. Air's phase is noise, whatever the signal
    beside it; but ghosts, and ringing around the phantom, have its phase at a tenth of its signal.
    So:

    1. Phase quality: the region of smooth phase with the most signal, opened. It is the phantom
       with its halo.
    2. Signal: of that, what has more than a quarter of the phantom's usual signal within 25 mm, and
       lies further from noise than from that. What is usual is a geometric mean, so that a few
       bright tubes do not make their water look dim, and follows the coils: it begins as one value
       for all of the region, half of whose signal's square root lies in brighter voxels, and is
       found again where there is signal until that rests.
    3. Rim: voxels with signal within ``rim``, whatever their phase quality, which air beside them
       lowers.
    4. Filling: what the phantom encloses, be it bright, dim or noise. What leaves it at its ends,
       such as a tube, is inside as far as it is enclosed in a plane, unless it is noise and wider
       than twice ``opening``.

    A part at the phantom's surface that has less than a quarter of the signal beside it is taken
    for a ghost, unless it is so large that it sets the usual signal: a dim bath around a bright
    ball is the phantom, a dim layer is not.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude images in any unit.
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians.
    voxel_size : tuple of 3 floats
        In mm.
    max_roughness : float, optional
        In radians, see `phase_roughness`. The default is 0.7, which a signal of five times the
        noise passes, or up to 1.4 where signals are weaker: the geometric mean of their median and
        pure noise.
    opening : float, optional
        In mm. What is thinner than twice this is cut off.
    rim : float, optional
        In mm. The default takes back one coarse voxel or three fine ones.

    Returns
    -------
    ndarray of bool, shape (x, y, z)
        The largest component, filled.

    Raises
    ------
    EmptyMaskError
        If no such region is found.
    ValueError
        If shapes disagree or values are not finite.
    """
    magnitude, phase = checked_echoes(magnitude, phase)
    combined = np.linalg.norm(magnitude.astype(np.float32, copy=False), axis=3)
    roughness = phase_roughness(phase, np.ones(combined.shape, bool), voxel_size)
    if max_roughness is None:
        max_roughness = np.clip(weak_signal_roughness(combined, roughness), *_SMOOTH)
    smooth = (roughness < max_roughness) & (combined > 0)  # blanked air is as smooth as can be
    body = signal = np.zeros_like(smooth)
    deep = depth_in(smooth, voxel_size) > opening
    if deep.any():
        region = heaviest_component(smooth & dilate(deep, voxel_size, opening), np.sqrt(combined))
        noise = float(np.median(combined[~smooth])) if not smooth.all() else 0.0
        signal, deep = signal_above_ghosts(combined, region, noise, voxel_size, opening)
        body = largest_component(region & signal & dilate(deep, voxel_size, opening))
    if not body.any():
        raise EmptyMaskError(
            f"No phantom found: of {smooth.size} voxels, {np.count_nonzero(smooth)} have phase "
            "smoother than "
            f"{max_roughness:.2g} rad and {np.count_nonzero(smooth & signal)} also have signal, "
            "but none lies deeper "
            f"than {opening:g} mm. Check that magnitude and phase belong together, or give a mask "
            "in a derivatives "
            "dataset."
        )
    body = largest_component(signal & dilate(body, voxel_size, rim))
    return fill_body(body, smooth | signal, voxel_size, opening)
