"""How strong sources inside the brain come out: a haemorrhage and a calcification in simulated
heads.

    python benchmarks/lesions.py [--voxel-size 2 2 2] [--seven-tesla] [--background tfi pdf]
    [--holes-are-background] [--keep DIR]

A haemorrhage of 1.5 ppm and a calcification of -0.8 ppm, balls of 4 mm in white matter, in a head
at site A of the 2015 study with its protocol, or at 7 T with echoes from 4 to 20 ms. The
haemorrhage's own R2* is varied: what dephases its surroundings is its field in any case. All is by
the pipeline's defaults, in the pipeline's own mask.

Susceptibility is relative to the lateral ventricles, as a mean over the ball with the voxels that
it fills by half or more (true: below its own, from partial volume), and over those that it fills.
Error is the core's NRMSE in per cent, about the mean, and its ratio to that of the same head
without the two.

With --holes-are-background, voxels inside the brain whose phase could not be unwrapped are left out
of the mask, as if they were background, instead of staying in it with zero weight.
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from heads import fit_head, nrmse, stored
from methods import METHOD_NAMES, REFERENCE, Problem
from scipy import fft, ndimage

from multiqsm.core.background.projection import pdf
from multiqsm.core.background.total_field import tfi
from multiqsm.core.grid import voxel_size_of
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.grid import affine_row
from multiqsm.simulation.head import head_model
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.study import make_design
from multiqsm.simulation.tissue import coverage

RADIUS = 4.0  # mm
HAEMORRHAGE, CALCIFICATION = 200, 201  # labels
# mm, in the head's coordinates
PLACES = {
    HAEMORRHAGE: (-26.0, 22.0, 22.0),
    CALCIFICATION: (28.0, -38.0, 26.0),
}
SPINS = {
    HAEMORRHAGE: {"chi": 1.5, "pd": 0.8, "t1": 1.0},
    CALCIFICATION: {"chi": -0.8, "r2s": 40.0, "pd": 0.5, "t1": 1.0},
}
DECAYS = (15.0, 60.0, 200.0)  # 1/s, of the haemorrhage
SEVEN_TESLA = {"imaging_frequency": 298.0, "echo_times": (0.004, 0.008, 0.012, 0.016, 0.020)}


def main():
    """Print a table for each head."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voxel-size", type=float, nargs=3)
    parser.add_argument("--seven-tesla", action="store_true")
    parser.add_argument("--holes-are-background", action="store_true")
    parser.add_argument("--background", nargs="+", choices=("tfi", "pdf"), default=["tfi"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--keep", type=Path, help="folder where simulated heads are stored, to be used again"
    )
    options = parser.parse_args()
    print(
        "| background | R2* of haemorrhage | inversion | haemorrhage, filled voxels | "
        "calcification, filled | core |"
    )
    print("|" + "---|" * 6)
    with fft.set_workers(options.threads):
        for background in options.background:
            error_without = errors_without(options, background)
            for decay in DECAYS:
                head = lesioned(options, decay)
                for name, chi in maps(head, background).items():
                    error = nrmse(chi, head.chi, head.core & head.brain)
                    cells = [measured(head, chi, lesion) for lesion in (HAEMORRHAGE, CALCIFICATION)]
                    cells.append(f"{error:.1f} ({error / error_without[name]:.2f})")
                    print(
                        f"| {background} | {decay:g}/s | {name} | {' | '.join(cells)} |", flush=True
                    )


def errors_without(options, background):
    """Error of each map of the head without lesions."""
    head = lesioned(options, None)
    return {
        name: nrmse(chi, head.chi, head.core & head.brain)
        for name, chi in maps(head, background).items()
    }


def lesioned(options, decay):
    """The head with both lesions, or without if there is no decay."""
    size = "x".join(f"{side:g}" for side in options.voxel_size or ())
    name = "-".join(
        ["lesions", *([size] if size else []), *(["7T"] if options.seven_tesla else []), f"{decay}"]
    )
    head = stored(options.keep, name, lambda: simulate_lesioned(options, decay))
    if options.holes_are_background:
        return replace(head, mask=head.mask & np.isfinite(head.standard_error))
    return head


def simulate_lesioned(options, decay):
    """Simulate such a scan, and fit its field."""
    plan = lesioned_plan(options.voxel_size, seven_tesla=options.seven_tesla)
    spins = {} if decay is None else {**SPINS, HAEMORRHAGE: {**SPINS[HAEMORRHAGE], "r2s": decay}}
    return fit_head(scan_lesioned(plan, spins, options.threads), plan, automatic_mask=True)


def lesioned_plan(voxel_size, *, seven_tesla=False):
    """A scan of a head at site A of the 2015 study."""
    design = make_design("study", subjects=1, runs=1, sites=["A"], voxel_size=voxel_size)
    plan = next(plan for plan in design.plans if plan.participant.model == "head")
    return replace(plan, protocol=replace(plan.protocol, **SEVEN_TESLA)) if seven_tesla else plan


def scan_lesioned(plan, lesions, workers):
    """Make a scan of a head with lesions: what spins they are, by label."""
    model = partial(
        head_with, subject=plan.subject, pose=plan.position.matrix, lesions=lesions, workers=workers
    )
    protocol = plan.protocol
    specimen = magnetize(
        model, plan.affine, protocol.shape, oversampling=protocol.oversampling, workers=workers
    )
    return acquire(specimen, protocol, plan.scan_seed, b0_drift=plan.b0_drift, workers=workers)


def head_with(shape, affine, *, subject, pose, lesions, workers):
    """A head with balls painted into it; as of `simulation.head.head_model`."""
    tissue = head_model(subject, shape, affine, pose=pose, workers=workers)
    to_head = np.linalg.inv(pose) @ affine
    width = float(np.prod(voxel_size_of(to_head)) ** (1 / 3))
    grid = np.ix_(*(np.arange(n, dtype=np.float32) for n in shape))
    points = [affine_row(row, grid) for row in to_head[:3]]
    whole = tuple(slice(0, n) for n in shape)
    for label, spins in lesions.items():
        distance = np.sqrt(
            sum((p - np.float32(c)) ** 2 for p, c in zip(points, PLACES[label], strict=True))
        )
        tissue.paint(whole, coverage(distance - np.float32(RADIUS), width), spins, label)
    return tissue


def maps(head, background):
    """Susceptibility by each inversion."""
    options = {"standard_error": head.standard_error, "b0_dir": head.b0_dir}
    if background == "tfi":
        removal = tfi(*head.arguments, edges=edge_mask(head.magnitude, head.mask), **options)
    else:
        removal = pdf(*head.arguments, **options)
    problem = Problem.of(head, removal.local_field, removal.mask)
    return {name: getattr(problem, name)().chi for name in METHOD_NAMES}


def measured(head, chi, label):
    """Mean over a lesion, and over the voxels that it fills: measured and true."""
    ball = head.labels == label
    ventricle = head.region(REFERENCE)
    cells = []
    for voxels in (ball, ndimage.binary_erosion(ball)):
        measured_contrast, true_contrast = (
            image[voxels].mean() - image[ventricle].mean() for image in (chi, head.chi)
        )
        cells.append(f"{measured_contrast:.2f} of {true_contrast:.2f}")
    return ", ".join(cells)


if __name__ == "__main__":
    main()
