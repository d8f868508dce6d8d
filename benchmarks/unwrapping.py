"""How many voxels are unwrapped wrongly, in simulated heads and in a real scan.

    python benchmarks/unwrapping.py heads [--cases TEXT ...] [--voxel-size 1 1 2] [--threads 2]
    python benchmarks/unwrapping.py real BIDS_DIR [--participant-label LABEL ...]

heads:
    A head at site A of the 2015 study, scanned with several choices of echo times and noise. For
    each case, the number of voxels in which any echo is a wrap or more off the phase of the true
    field, in the true mask and in the automatic one, before it is trimmed: by multiqsm, by a
    spanning tree with the weights of ROMEO (Dymerska et al., Magn Reson Med 85:2294, 2021) on each
    echo, and by scikit-image on each echo. Of multiqsm also: how many of the wrong voxels are
    excluded as unresolved, and how many right ones that trimming would keep.
real:
    Scans of a dataset with three equally spaced echoes: the fraction of voxels in which an echo is
    a wrap off the straight line through the others, for each choice of --unwrapping, without a
    mask.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy import fft
from skimage.restoration import unwrap_phase

from multiqsm.core.grid import neighbours
from multiqsm.core.mask.brain import brain_mask
from multiqsm.core.mask.reliability import exclude_unresolved, trim_unreliable
from multiqsm.core.phase.encoding import decode_phase, wrap_phase
from multiqsm.core.phase.fieldfit import fit_field
from multiqsm.core.phase.unwrapping import UNWRAPPINGS, _wraps_along_tree, unwrap_echoes
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.images import read_image
from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.head import head_model
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.study import make_design

TWO_PI = 2 * np.pi
# Echo times in ms, and the signal-to-noise ratio if it is not the design's.
CASES = {
    "6…36 ms": ((6, 12, 18, 24, 30, 36), None),
    "6…36 ms, SNR 30": ((6, 12, 18, 24, 30, 36), 30.0),
    "20…38 ms": ((20, 26, 32, 38), None),
    "20 and 40 ms": ((20, 40), None),
    "one echo, 40 ms": ((40,), None),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("heads")
    command.set_defaults(run=print_heads)
    command.add_argument("--cases", nargs="+", default=[""], help="those with any of these texts")
    command.add_argument("--voxel-size", type=float, nargs=3)
    command.add_argument("--threads", type=int, default=2)
    command = commands.add_parser("real")
    command.set_defaults(run=print_real)
    command.add_argument("bids_dir", type=Path)
    command.add_argument("--participant-label", nargs="+")
    options = parser.parse_args()
    options.run(options)


def print_heads(options):
    """Print wrong voxels of each case, in the true mask and in the automatic one."""
    design = make_design(
        "study",
        subjects=1,
        runs=1,
        sites=["A"],
        voxel_size=options.voxel_size and tuple(options.voxel_size),
    )
    plan = next(plan for plan in design.plans if plan.participant.model == "head")
    protocol = plan.protocol
    model = partial(head_model, plan.subject, pose=plan.position.matrix, workers=options.threads)
    specimen = magnetize(
        model,
        plan.affine,
        protocol.shape,
        oversampling=protocol.oversampling,
        workers=options.threads,
    )
    print(
        "| case | multiqsm | ROMEO's weights, each echo | skimage | wrong voxels that are excluded "
        "| right voxels excluded beyond trimming |"
    )
    print("|" + "---|" * 6)
    with fft.set_workers(options.threads):
        for case, (milliseconds, snr) in CASES.items():
            if not any(text in case for text in options.cases):
                continue
            echo_times = tuple(time / 1000 for time in milliseconds)
            changed = replace(protocol, echo_times=echo_times, snr=snr or protocol.snr)
            scan, true_phase = scan_with_truth(specimen, changed, plan, options.threads)
            rows = [judge_head(scan, true_phase, changed, automatic) for automatic in (False, True)]
            cells = [" / ".join(pair) for pair in zip(*rows, strict=True)]
            print(f"| {case} | {' | '.join(cells)} |", flush=True)


def scan_with_truth(specimen, protocol, plan, workers):
    """Scan a specimen; return the scan and its phase in radians without wraps and noise.

    The receive phase, which the scan does not state, is that of a second scan with the same seed
    and an echo time of almost zero.
    """
    scan_at = partial(acquire, specimen, seed=plan.scan_seed, workers=workers)
    scan = scan_at(protocol)
    at_once = scan_at(replace(protocol, echo_times=(1e-7,), snr=1e6))
    offset = unwrap_echoes(np.angle(at_once.signal), scan.mask, [1e-7])
    cycles = protocol.imaging_frequency * scan.total_field[..., None] * protocol.echo_times
    return scan, TWO_PI * cycles + offset


def judge_head(scan, true_phase, protocol, automatic):
    """Return the cells of a case's row for one of the two masks."""
    phase = np.angle(scan.signal)
    magnitude = np.abs(scan.signal)
    voxel_size = protocol.voxel_size
    mask = brain_mask(magnitude, phase, voxel_size) if automatic else scan.mask
    judged = mask & scan.mask  # the true phase is known in the brain
    unwrapped = unwrap_echoes(phase, mask, protocol.echo_times)
    by_method = {
        "multiqsm": unwrapped,
        "romeo": unwrap_by_romeo(phase, magnitude, mask, protocol.echo_times),
        "skimage": unwrap_by_skimage(phase, mask),
    }
    wrong = {name: off_by_a_wrap(values, true_phase, judged) for name, values in by_method.items()}
    cells = [str(np.count_nonzero(is_wrong)) for is_wrong in wrong.values()]

    fit = fit_field(
        unwrapped,
        magnitude,
        protocol.echo_times,
        mask,
        centre_frequency=protocol.imaging_frequency,
    )
    trimmed = trim_unreliable(mask, fit.standard_error)[judged]
    resolved = exclude_unresolved(mask, fit.unresolved)[judged]
    is_wrong = wrong["multiqsm"]
    n_wrong = max(np.count_nonzero(is_wrong), 1)
    cells.append(f"{np.count_nonzero(is_wrong & ~resolved) / n_wrong:.0%}")
    lost = np.count_nonzero(trimmed & ~resolved & ~is_wrong)
    cells.append(f"{100 * lost / np.count_nonzero(~is_wrong):.2f} %")
    return cells


def off_by_a_wrap(unwrapped, true_phase, mask):
    """Return for the voxels of a mask whether any echo is a wrap off, relative to its median."""
    wraps = np.rint((unwrapped - true_phase)[mask] / TWO_PI)
    return (wraps != np.round(np.median(wraps, axis=0))).any(axis=-1)


def unwrap_by_skimage(phase, mask):
    """Unwrap each echo in three dimensions by scikit-image."""
    unwrapped = np.zeros_like(phase)
    for echo in range(phase.shape[-1]):
        masked = np.ma.masked_array(phase[..., echo], ~mask)
        unwrapped[..., echo] = unwrap_phase(masked, rng=0).filled(0)
    return unwrapped


def unwrap_by_romeo(phase, magnitude, mask, echo_times):
    """Unwrap each echo along the spanning tree of the edges that ROMEO's weights favour."""
    nodes = np.cumsum(mask.ravel()) - 1
    tail, head = edges_of(mask)
    unwrapped = np.zeros_like(phase)
    for echo in range(phase.shape[-1]):
        values = phase[..., echo].ravel()
        step = np.rint((values[tail] - values[head]) / TWO_PI)
        quality = romeo_quality(phase, magnitude, mask, echo_times, echo, tail, head)
        wraps = _wraps_along_tree(
            nodes[tail], nodes[head], step, 1 - quality, np.count_nonzero(mask)
        )
        unwrapped[..., echo][mask] = phase[..., echo][mask] + TWO_PI * wraps
    return unwrapped


def edges_of(mask):
    """Return the flat indices of both voxels of each pair of neighbours in a mask."""
    index = np.arange(mask.size).reshape(mask.shape)
    tails = []
    heads = []
    for axis in range(3):
        near, far = neighbours(axis)
        inside = mask[near] & mask[far]
        tails.append(index[near][inside])
        heads.append(index[far][inside])
    return np.concatenate(tails), np.concatenate(heads)


def romeo_quality(phase, magnitude, mask, echo_times, echo, tail, head):
    """Return the product of ROMEO's weights of each edge, 0 to 1, large where it is reliable."""
    values = phase[..., echo].ravel()
    gradient = wrap_phase(values[head] - values[tail])
    quality = 1 - np.abs(gradient) / np.pi  # spatial coherence
    if phase.shape[-1] > 1:  # temporal coherence with a neighbouring echo
        other = echo + 1 if echo + 1 < phase.shape[-1] else echo - 1
        others = phase[..., other].ravel()
        ratio = echo_times[echo] / echo_times[other]
        disagreement = gradient - ratio * wrap_phase(others[head] - others[tail])
        quality = quality * np.clip(1 - np.abs(disagreement), 0, 1)
    quality = quality * linearity(values, mask, tail, head)
    strength = magnitude[..., echo].ravel()
    low = np.minimum(strength[tail], strength[head])
    high = np.maximum(strength[tail], strength[head])
    half = strength[mask.ravel()].max() / 2
    quality = quality * (low / np.maximum(high, 1e-12)) ** 2  # magnitude coherence
    quality = quality * (0.5 + 0.5 * np.minimum(1, low / half))
    return quality * (0.5 + 0.5 * np.minimum(1, half / np.maximum(high, 1e-12)))


def linearity(values, mask, tail, head):
    """Return ROMEO's weight of phase that is linear in space, on both sides of each edge."""
    step = head - tail
    product = np.ones(len(tail))
    flat = mask.ravel()
    for voxel, direction in ((tail, -step), (head, step)):
        beyond = np.clip(voxel + direction, 0, values.size - 1)
        opposite = voxel - direction
        second = wrap_phase(values[beyond] - values[voxel]) - wrap_phase(
            values[voxel] - values[opposite]
        )
        product *= np.where(flat[beyond], np.clip(1 - np.abs(second) / 2, 0, 1), 0.5)
    return product


def print_real(options):
    """Print the fraction of voxels with an echo that is a wrap off, for each way of unwrapping."""
    print("| scan | unwrapping | voxels with a wrong echo % |\n|---|---|---|")
    for scan in collect_scans(options.bids_dir, participant_label=options.participant_label)[0]:
        times = np.array(scan.echo_times)
        if len(times) != 3 or not np.isclose(*np.diff(times)):
            continue
        stored = np.stack([read_image(path)[2] for path in scan.phase], axis=-1)
        phase, _ = decode_phase(stored, units=scan.units, manufacturer=scan.manufacturer)
        mask = np.ones(phase.shape[:3], bool)
        for unwrapping in UNWRAPPINGS:
            first, second, third = np.moveaxis(
                unwrap_echoes(phase, mask, times, unwrapping=unwrapping), -1, 0
            )
            difference = first - 2 * second + third
            wrong = np.abs(difference - np.median(difference)) > np.pi
            print(f"| {scan.label} | {unwrapping} | {100 * wrong.mean():.3f} |", flush=True)


if __name__ == "__main__":
    main()
