"""The sign of the phase, by a coarse map."""

import numpy as np

from ...core.dipole import b0_direction
from ...core.phase.encoding import apply_sign, default_sign
from ..images import read_image
from ..problems import Problem


def check_phase_sign(scan, encoding, summaries):
    """Deep nuclei and veins are bright in a map if the sign is right; returns the asymmetry, and a
    warning.
    """
    # slow to import: not before it is needed
    from ...core.quality import (
        coarse_mask,
        coarse_signal,
        quick_sign_check,
    )

    sign, reason = default_sign(scan.manufacturer)
    reference = summaries[scan.files[0]]
    echoes = []
    for pair in zip(scan.real or scan.magnitude, scan.imaginary or scan.phase, strict=True):
        first, second = (np.nan_to_num(read_image(path)[2], posinf=0, neginf=0) for path in pair)
        if scan.real:
            signal = first + 1j * apply_sign(second, sign)
        else:
            signal = first * np.exp(1j * apply_sign(encoding.radians(second), sign))
        coarse, voxel_size = coarse_signal(signal, reference.voxel_size)
        echoes.append(coarse)
    signal = np.stack(echoes, axis=-1)
    b0_dir = b0_direction(reference.scanner.affine)
    mask = None
    if scan.brain_mask is not None:
        mask = coarse_mask(read_image(scan.brain_mask)[2] != 0, reference.voxel_size)
    found = quick_sign_check(signal, scan.echo_times, voxel_size, b0_dir=b0_dir, mask=mask)
    if not found.looks_wrong:
        return found.asymmetry, []
    cause = (
        "in a coarse map dark values reach further than bright ones (skewness "
        f"{found.asymmetry:+.2f}), as if the "
        f"phase had the wrong sign ({reason})"
    )
    remedy = "make a map, and give --phase-sign if deep nuclei are dark in it"
    return found.asymmetry, [Problem.of(scan, "", cause, remedy, "warning")]
