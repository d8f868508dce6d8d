"""Signal from echo to echo: it decays, and its phase is not noise."""

import math
from itertools import pairwise

import numpy as np

from ...core.artefacts.echoes import decay_steps, noise_echoes
from ...core.artefacts.ranges import jump_fraction
from ..entities import echo_number
from ..problems import Problem
from .echoes import are_rising

# of the magnitude from one echo to the next: more than inflow, fat in phase or noise make of it
RISE = 0.1
# logarithm of a magnitude, off the line through its neighbours; real and simulated scans have 0.005
DECAY_STEP = 0.15
# share of neighbours that jump: the smallest of the real phases is this, of magnitudes it is 0
SWAPPED_JUMPS = 2e-3


class Blocks:
    """The middle of a scan's echoes: magnitude in the images' unit and phase in radians, echoes
    first.

    Either is None where it cannot be had.
    """

    def __init__(self, scan, summaries, encoding):
        parts = {
            part: [summaries[path].block for path in paths] for part, paths in scan.parts.items()
        }
        self.magnitude = self.phase = None
        if len({len(blocks) for blocks in parts.values()}) != 1:
            return
        if scan.real:
            signal = np.array(parts["real"]) + 1j * np.array(parts["imaginary"])
            self.magnitude = np.abs(signal)
            self.phase = np.angle(signal)
            return
        self.magnitude = np.clip(np.array(parts["magnitude"]), 0, None)
        if encoding is not None:
            self.phase = encoding.radians(np.array(parts["phase"]))


def check_order_of_magnitudes(scan, blocks):
    """The magnitude decays from echo to echo."""
    if blocks.magnitude is None:
        return []
    paths = scan.magnitude or scan.real
    means = blocks.magnitude.mean(axis=(1, 2, 3))
    problems = []
    for (path, mean), (following, next_mean) in pairwise(zip(paths, means, strict=True)):
        if next_mean > (1 + RISE) * mean:
            cause = (
                f"its magnitude is {100 * (next_mean / mean - 1) if mean else math.inf:.0f} % "
                f"above {path.name}'s"
            )
            remedy = "see whether echoes, or their EchoTime, were exchanged"
            problems.append(Problem.of(scan, following.name, cause, remedy, "warning"))
    return problems


def check_decay(scan, blocks):
    """No echo stands out of the decay that the others have."""
    if blocks.magnitude is None or not are_rising(scan.echo_times):
        return []
    inner = (scan.magnitude or scan.real)[1:-1]
    problems = []
    for path, step in zip(inner, decay_steps(blocks.magnitude, scan.echo_times), strict=True):
        if abs(step) > DECAY_STEP:
            cause = (
                f"its magnitude is {math.exp(step):.2g} times what the echoes before and after it "
                "let expect"
            )
            remedy = (
                "see whether one of the three was scaled, or has the wrong EchoTime: R2* and the "
                "weights are wrong"
            )
            problems.append(Problem.of(scan, path.name, cause, remedy, "warning"))
    return problems


def check_noise(scan, blocks):
    """The phase of no echo is noise where that of another is not."""
    if blocks.phase is None:
        return []
    cause = "its phase is noise, and that of other echoes is not"
    remedy = "convert that echo again, or remove it if there is no signal so late"
    paths = scan.phase or scan.real
    return [
        Problem.of(scan, paths[echo].name, cause, remedy, "warning")
        for echo in noise_echoes(blocks.magnitude, blocks.phase)
    ]


def check_exchange(scan, summaries):
    """Phase wraps and its noise fills the range: neighbours jump, which a magnitude's do not."""
    problems = []
    for magnitude in scan.magnitude:
        phase = next(
            (path for path in scan.phase if echo_number(path) == echo_number(magnitude)), None
        )
        if phase is None:
            continue
        both = summaries[magnitude], summaries[phase]
        jumps = [jump_fraction(s.block, s.minimum, s.maximum) for s in both]
        if (
            all(s.minimum < s.maximum for s in both)
            and jumps[0] > SWAPPED_JUMPS
            and jumps[1] < SWAPPED_JUMPS / 10
        ):
            cause = f"neighbouring voxels jump as a phase's do, and those of {phase.name} do not"
            remedy = "see whether the magnitude and phase files were exchanged"
            problems.append(Problem.of(scan, magnitude.name, cause, remedy))
    return problems
