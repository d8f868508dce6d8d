"""Check the signal from echo to echo: its magnitude decays, and its phase is not noise."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...core.artefacts.coherence import undo_alternation
from ...core.artefacts.echoes import decay_steps, noise_echoes
from ...core.artefacts.ranges import jump_fraction, without_background
from ...core.phase.encoding import PhaseEncoding
from ...core.scale import comfortable_scale
from ..entities import echo_number
from ..images import ImageSummary
from ..problems import Problem
from ..scans import Scan
from .echoes import are_disordered, are_rising, path_of_echo

# Increase of the magnitude from one echo to the next: more than inflow or fat in phase cause.
RISE = 0.1
# Distance of a log magnitude from the line through its neighbours; real and simulated scans have
# 0.005.
DECAY_STEP = 0.15
# Fraction of neighbouring voxels with a jump: the smallest of real phase images; magnitudes have 0.
SWAPPED_JUMPS = 2e-3
# Fraction of the maximum below which an image goes only if it is no magnitude.
NEGATIVE = 0.1


class Blocks:
    """The central blocks of a scan's echoes.

    Attributes
    ----------
    magnitude : ndarray, shape (n_echoes, x, y, z), or None
        In the unit of the images or a power of two of it; None if the parts do not have the same
        echoes.
    phase : ndarray, shape (n_echoes, x, y, z), or None
        In radians; None as well if the phase has no known encoding.
    """

    def __init__(
        self,
        scan: Scan,
        summaries: Mapping[Path, ImageSummary],
        encoding: PhaseEncoding | None,
    ) -> None:
        self.magnitude: np.ndarray | None = None
        self.phase: np.ndarray | None = None
        blocks = {}
        for part, paths in scan.parts.items():
            blocks[part] = [summaries[path].block for path in paths]
        if len(set(map(len, blocks.values()))) != 1:
            return
        if scan.real:
            real = np.array(blocks["real"])
            scale = np.float32(comfortable_scale(float(np.abs(real).max())))
            signal = scale * (real + 1j * np.array(blocks["imaginary"]))
            self.magnitude = np.abs(signal)
            self.phase = np.angle(signal)
            return
        magnitude = np.clip(np.array(blocks["magnitude"]), 0, None)
        self.magnitude = magnitude * np.float32(comfortable_scale(float(magnitude.max())))
        if encoding is not None:
            self.phase = encoding.radians(np.array(blocks["phase"]))

    def undo_alternation(self, axes: Sequence[int]) -> None:
        """Remove from the phase a sign that alternates from voxel to voxel along some axes."""
        if self.phase is not None and axes:
            self.phase = np.stack([undo_alternation(echo, axes) for echo in self.phase])


def check_order_of_magnitudes(scan: Scan, blocks: Blocks) -> list[Problem]:
    """Check that the magnitude decays from echo to echo."""
    if blocks.magnitude is None:
        return []
    paths = scan.magnitude or scan.real
    means = blocks.magnitude.mean(axis=(1, 2, 3), dtype=float)
    if are_disordered(scan) and len(paths) == len(means):
        by_number = [mean for _, mean in sorted(zip(map(echo_number, paths), means, strict=True))]
        if _decays(by_number) and not _decays(means):
            cause = (
                "the magnitude decays in the order of the echoes' numbers, but not in that of "
                "their EchoTimes"
            )
            remedy = "correct EchoTime in the sidecars: values may have been exchanged"
            return [Problem.of(scan, "", cause, remedy)]
    problems = []
    for (path, mean), (next_path, next_mean) in pairwise(zip(paths, means, strict=True)):
        if next_mean > (1 + RISE) * mean:
            rise = 100 * (next_mean / mean - 1) if mean else math.inf
            cause = f"its magnitude is {rise:.0f} % higher than that of {path.name}"
            remedy = "check whether echoes or their EchoTimes were exchanged"
            problems.append(Problem.of(scan, next_path.name, cause, remedy, "warning"))
    return problems


def _decays(means):
    """Return whether no mean rises from one echo to the next by more than `RISE`."""
    return all(later <= (1 + RISE) * earlier for earlier, later in pairwise(means))


def check_decay(scan: Scan, blocks: Blocks) -> list[Problem]:
    """Check that no echo deviates from the decay of its neighbours."""
    if blocks.magnitude is None or not are_rising(scan.echo_times):
        return []
    inner = (scan.magnitude or scan.real)[1:-1]
    remedy = (
        "check whether one of the three was scaled or has the wrong EchoTime, since R2* and the "
        "weights of echoes depend on them"
    )
    problems = []
    for path, step in zip(inner, decay_steps(blocks.magnitude, scan.echo_times), strict=True):
        if abs(step) > DECAY_STEP:
            cause = (
                f"its magnitude is {math.exp(step):.2g} times what is expected from the echoes "
                "before and after it"
            )
            problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems


def check_noise(scan: Scan, blocks: Blocks) -> list[Problem]:
    """Check that no echo's phase is noise where that of another is not."""
    if blocks.magnitude is None or blocks.phase is None:
        return []
    cause = "its phase is noise, while that of other echoes is not"
    remedy = "convert that echo again, or remove it if there is no signal at this echo time"
    paths = scan.phase or scan.real
    problems = []
    for echo in noise_echoes(blocks.magnitude, blocks.phase):
        problems.append(Problem.of(scan, paths[echo].name, cause, remedy, "warning"))
    return problems


def check_exchange(scan: Scan, summaries: Mapping[Path, ImageSummary]) -> list[Problem]:
    """Check that magnitude and phase were not exchanged: only phase jumps between neighbouring
    voxels, where it wraps and where it is noise.
    """
    phase_of_echo = path_of_echo(scan.phase)
    problems = []
    for magnitude in scan.magnitude:
        phase = phase_of_echo.get(echo_number(magnitude))
        if phase is None:
            continue
        if not (_is_varied(summaries[magnitude]) and _is_varied(summaries[phase])):
            continue
        if summaries[phase].minimum < -NEGATIVE * summaries[phase].maximum:
            continue  # no magnitude; that the phase hardly jumps may be the work of a mask
        images = (summaries[magnitude], summaries[phase])
        magnitude_jumps, phase_jumps = _jump_fractions(images)
        if magnitude_jumps > SWAPPED_JUMPS and phase_jumps < SWAPPED_JUMPS / 10:
            cause = (
                "it jumps between neighbouring voxels as phase images do, and "
                f"{phase.name} does not"
            )
            remedy = "check whether the magnitude and phase files were exchanged"
            problems.append(Problem.of(scan, magnitude.name, cause, remedy))
    return problems


def _is_varied(summary):
    return summary.minimum < summary.maximum


def _jump_fractions(images):
    """Return the fraction of jumps of each image, where none of them has a constant background.

    From a background that was set to a constant to the head, magnitudes jump as well. If only the
    phase was masked, the magnitude jumps between head and air, where the phase is not known.
    """
    blocks = []
    for image in images:
        blocks.append(without_background(np.where(image.block == 0, np.nan, image.block)))
    is_unknown = np.isnan(blocks).any(axis=0)
    fractions = []
    for image, block in zip(images, blocks, strict=True):
        values = np.where(is_unknown, np.nan, block)
        fractions.append(jump_fraction(values, image.minimum, image.maximum))
    return fractions
