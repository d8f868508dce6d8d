"""What --harmonize does to the agreement of sites whose protocols differ, in scans with known
truth.

python benchmarks/harmonization.py OUTPUT_DIR [--n-procs 2]

Simulates three heads at three sites, twice each, with voxels and echo times that differ between the
sites; makes maps with and without --harmonize; and prints for each region the within-subject
standard deviation (SDw) across sites and within them. What OUTPUT_DIR holds already is not
simulated again.

A region's value is its mean relative to the lateral ventricles. Regions are those of the true head
in its place on the grid of the map, each voxel being of the tissue that takes its largest part.
With x[p, a, i] a value of person p at site a in run i, SDw across sites is the root of the mean
over p and i of the variance over a, and SDw within sites that of the mean over p and a of the
variance over i.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from accuracy import METHODS, REFERENCE, REPORTED, regions_of

from multiqsm.cli.app import main as process
from multiqsm.cli.simulate import main as simulate
from multiqsm.dataset.outputs import derivative_path
from multiqsm.simulation.grid import block_mode, subgrid_affine
from multiqsm.simulation.head import head_model
from multiqsm.simulation.scanners import SITE_PROTOCOLS
from multiqsm.simulation.study import make_design

SUBJECTS = 3
RUNS = 2
SITES = len(SITE_PROTOCOLS)
VOXEL_SIZE = (1.6, 1.6, 2.0)  # mm, of the site that keeps the design's protocol
WAYS = {"as scanned": (), "harmonised": ("--harmonize",)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--n-procs", default="2")
    options = parser.parse_args()
    raw = options.output_dir / "raw"
    machine = ("-w", str(options.output_dir / "work"), "--n-procs", options.n_procs)
    design = (
        "--design",
        "demo",
        "--subjects",
        str(SUBJECTS),
        "--runs",
        str(RUNS),
        "--vary-protocols",
        "--ideal",
    )
    if simulate([str(raw), *design, "--voxel-size", *map(str, VOXEL_SIZE), *machine]):
        raise SystemExit("the simulation failed")
    values = {}
    for way, choice in WAYS.items():
        maps = options.output_dir / way.replace(" ", "_")
        if process([str(raw), str(maps), "participant", *choice, *machine]):
            raise SystemExit(f"processing {way} failed")
        values[way] = region_values(maps)
    print_table(values)


def region_values(maps):
    """Values of all scans: arrays of shape (subjects, sites, runs) by method and region."""
    values = {(method, region): [] for method in METHODS for region in REPORTED}
    design = make_design(
        "demo", subjects=SUBJECTS, runs=RUNS, voxel_size=VOXEL_SIZE, vary_protocols=True
    )
    for plan in design.plans:  # in the order of subject, site and run
        mask = nib.load(derivative_path(maps, plan.entities, suffix="mask", desc="brain"))
        regions = regions_of(true_labels(plan, mask), mask.get_fdata() > 0)
        for method in METHODS:
            chi = nib.load(
                derivative_path(maps, plan.entities, suffix="Chimap", desc=method)
            ).get_fdata()
            for region in REPORTED:
                values[method, region].append(
                    chi[regions[region]].mean() - chi[regions[REFERENCE]].mean()
                )
    return {
        key: np.reshape(scan_values, (SUBJECTS, SITES, RUNS)) for key, scan_values in values.items()
    }


def true_labels(plan, image):
    """Labels of a scan's true head on the grid of an image."""
    factor = (2, 2, 2)
    shape = np.multiply(image.shape, factor)
    tissue = head_model(
        plan.subject, shape, subgrid_affine(image.affine, factor), pose=plan.position.matrix
    )
    return block_mode(tissue.labels, factor, tissue.whole_of)


def print_table(values):
    """Print the deviations in ppb, without and with harmonisation."""
    columns = (
        "method",
        "region",
        "mean",
        "across sites",
        "harmonised",
        "within sites",
        "harmonised",
    )
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for method in METHODS:
        for region in REPORTED:
            values_by_way = [values[way][method, region] for way in WAYS]
            cells = [deviation(x, axis) for axis in (1, 2) for x in values_by_way]
            mean = 1000 * values_by_way[0].mean()
            print(
                f"| {method} | {region} | {mean:.0f} | "
                + " | ".join(f"{cell:.1f}" for cell in cells)
                + " |"
            )
        over_regions = [
            np.sqrt(
                np.mean([deviation(values[way][method, region], axis) ** 2 for region in REPORTED])
            )
            for axis in (1, 2)
            for way in WAYS
        ]
        print(
            f"| {method} | all (RMS) | | "
            + " | ".join(f"{cell:.1f}" for cell in over_regions)
            + " |"
        )


def deviation(values, axis):
    """Root mean variance along an axis, ppb."""
    return 1000 * np.sqrt(values.var(axis=axis, ddof=1).mean())


if __name__ == "__main__":
    main()
