"""Mask a phantom by magnitude and phase."""

import numpy as np

from ..grid import Vector
from .roughness import checked_echoes, phase_roughness, weak_signal_roughness_limit
from .shapes import (
    EmptyMaskError,
    depth_in,
    dilate,
    fill_body,
    heaviest_component,
    largest_component,
)
from .signal import signal_above_ghosts

# Range in rad of the largest roughness that is still accepted as a phantom's phase. Water has a
# roughness below 0.3; noise seldom has one below 1.4.
_SMOOTH = (0.7, 1.4)


def phantom_mask(
    magnitude: np.ndarray,
    phase: np.ndarray,
    voxel_size: Vector,
    *,
    max_roughness: float | None = None,
    opening: float = 3.0,
    rim: float = 3.0,
) -> np.ndarray:
    """Mask a phantom by phase quality and signal.

    The signal of a phantom's parts may differ tenfold (gadolinium shortens T1), so no threshold on
    magnitude includes the dim parts and excludes the air. Phase in air is noise. But ghosts, and
    ringing around the phantom, have smooth phase at a tenth of the phantom's signal. Hence:

    1. Phase quality: of the regions of smooth phase, opened, the one with the most signal. It
       contains the phantom and a halo of ghosts and ringing around it.
    2. Signal: of this region, voxels with more than a quarter of the signal that is typical within
       25 mm, and whose distance from noise exceeds that from the typical signal (on a logarithmic
       scale). The typical signal is a geometric mean, so a few bright tubes do not make the water
       around them look dim. It is first a single value for the whole region, and then computed
       again, locally, from the voxels selected so far, until the selection no longer changes. In
       this way it follows the sensitivity of the coils.
    3. Rim: voxels with signal within the distance ``rim`` are added, whatever their phase quality,
       which neighbouring air reduces.
    4. Filling: everything that the phantom encloses is included, whether bright, dim or noise. A
       part that is open at its ends, such as a tube, is included where it is enclosed in a plane,
       unless it is noise and wider than twice ``opening``.

    A part at the surface with less than a quarter of the signal next to it is regarded as a ghost,
    unless it is so large that it determines the typical signal: a dim bath around a bright ball
    belongs to the phantom, a dim layer does not.

    Parameters
    ----------
    magnitude : ndarray, shape (x, y, z, n_echoes)
        Magnitude images in any unit.
    phase : ndarray, shape (x, y, z, n_echoes)
        Wrapped phase in radians.
    voxel_size : tuple of 3 floats
        In mm.
    max_roughness : float, optional
        In radians, see `phase_roughness`. The default is 0.7, which is sufficient for signal above
        five times the noise. For weaker signals it is up to 1.4: the geometric mean of their median
        roughness and that of pure noise.
    opening : float, optional
        In mm. Parts that are thinner than twice this are cut off.
    rim : float, optional
        In mm. The default adds one layer of coarse voxels or three of fine ones.

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
        max_roughness = np.clip(weak_signal_roughness_limit(combined, roughness), *_SMOOTH)
    smooth = (roughness < max_roughness) & (combined > 0)  # air set to zero has smooth phase
    body = np.zeros_like(smooth)
    signal = np.zeros_like(smooth)
    deep = depth_in(smooth, voxel_size) > opening
    if deep.any():
        region = heaviest_component(smooth & dilate(deep, voxel_size, opening), np.sqrt(combined))
        noise = float(np.median(combined[~smooth])) if not smooth.all() else 0.0
        signal, deep = signal_above_ghosts(combined, region, noise, voxel_size, opening)
        body = largest_component(region & signal & dilate(deep, voxel_size, opening))
    if not body.any():
        raise EmptyMaskError(
            f"No phantom found: of {smooth.size} voxels, {np.count_nonzero(smooth)} have a phase "
            f"roughness below {max_roughness:.2g} rad and {np.count_nonzero(smooth & signal)} also "
            f"have signal, but none lies deeper than {opening:g} mm. Check that magnitude and "
            "phase belong together, or provide a mask in a derivatives dataset."
        )
    body = largest_component(signal & dilate(body, voxel_size, rim))
    return fill_body(body, smooth | signal, voxel_size, opening)
