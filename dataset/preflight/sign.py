"""Check the sign of the phase with a coarse susceptibility map."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...core.artefacts.coherence import undo_alternation
from ...core.dipole import b0_direction
from ...core.phase.encoding import PhaseEncoding, apply_sign, default_sign
from ...core.scale import comfortable_scale
from ..images import ImageSummary, read_image
from ..problems import Problem
from ..scans import Scan
from .echoes import are_rising


def check_phase_sign(
    scan: Scan, encoding: PhaseEncoding | None, summaries: Mapping[Path, ImageSummary]
) -> tuple[float | None, list[Problem]]:
    """Check that deep nuclei and veins are bright in a coarse map, as they are if the phase has the
    right sign.

    Returns
    -------
    asymmetry : float or None
        Skewness of susceptibility deep in the brain; None if there is too little brain, or if
        echo times are not known.
    problems : list of Problem
        A warning if the sign looks wrong.
    """
    if not are_rising(scan.echo_times):
        return None, []
    # slow to import: not before it is needed
    from ...core.quality import (
        coarse_mask,
        coarse_signal,
        quick_sign_check,
    )

    sign, reason = default_sign(scan.manufacturer)
    reference = summaries[scan.files[0]]
    scale = _scale(scan, summaries)
    echoes = []
    for paths in zip(scan.real or scan.magnitude, scan.imaginary or scan.phase, strict=True):
        coarse, voxel_size = coarse_signal(
            scale * _read_signal(scan, paths, encoding, sign), reference.voxel_size
        )
        echoes.append(coarse)
    mask = None
    if scan.brain_mask is not None:
        # NaN and infinity are outside, as in processing.
        values = np.nan_to_num(read_image(scan.brain_mask)[2], posinf=0, neginf=0)
        mask = coarse_mask(values != 0, reference.voxel_size)
    sign_check = quick_sign_check(
        np.stack(echoes, axis=-1),
        scan.echo_times,
        voxel_size,
        b0_dir=b0_direction(reference.scanner.affine),
        mask=mask,
    )
    if not sign_check.looks_wrong:
        return sign_check.asymmetry, []
    cause = (
        "in a coarse map, susceptibility is skewed to negative values (skewness "
        f"{sign_check.asymmetry:.2f}), which suggests a wrong phase sign ({reason})"
    )
    remedy = "look at a map, and set --phase-sign if deep nuclei are dark in it"
    return sign_check.asymmetry, [Problem.of(scan, "", cause, remedy, "warning")]


def _read_signal(scan, paths, encoding, sign):
    """Read the complex signal of an echo: from magnitude and phase, or, without an encoding of
    phase, from real and imaginary parts.
    """
    first, second = map(_read_finite, paths)
    if encoding is None:
        signal = first + 1j * second
        magnitude = np.abs(signal)
        phase = np.angle(signal)
    else:
        magnitude = first
        phase = encoding.radians(second)
    phase = undo_alternation(phase, scan.alternating_axes)
    return magnitude * np.exp(1j * apply_sign(phase, sign))


def _scale(scan, summaries):
    """Return the factor that makes the magnitudes of all echoes safe to square."""
    largest = max(abs(summaries[path].maximum) for path in scan.magnitude or scan.real)
    return np.float32(comfortable_scale(largest))


def _read_finite(path):
    """Read the voxels of an image, with 0 for those that are not finite."""
    _, _, voxels = read_image(path)
    return np.nan_to_num(voxels, posinf=0, neginf=0)
