"""Compare susceptibility maps with the truth they were simulated from.

python benchmarks/accuracy.py head [--threads 2]
    Simulate a head at the 2015 study's resolution, invert its noiseless local field, and print each
    region's susceptibility relative to the lateral ventricles.

python benchmarks/accuracy.py scans RAW_DIR DERIVATIVES_DIR
    The same for every scan that multiqsm-simulate wrote to RAW_DIR and multiqsm processed to
    DERIVATIVES_DIR; of phantoms, the regression of measured on expected susceptibility over the
    tubes.
"""

import argparse
import csv
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import fft, stats

from multiqsm.core.dipole import b0_direction
from multiqsm.core.grid import voxel_size_of
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.core.inversion.weighted import iterative, zero_field_weight
from multiqsm.core.mask.shapes import erode
from multiqsm.core.phase.fieldfit import combine_magnitude
from multiqsm.dataset.collection import collect_scans
from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.grid import scan_affine
from multiqsm.simulation.head import average_subject, head_model, label_names
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.specimen import magnetize

METHODS = ("medi", "iterative", "deterministic")
REFERENCE = "lateral_ventricle"
REPORTED = ("caudate_nucleus", "putamen", "globus_pallidus", "red_nucleus", "substantia_nigra")
NOISE_PPM = 0.0015
CORE_DEPTH = 5.0  # mm
WALL = 3.0  # mm of a tube's radius and length that are left out


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, compare in (("head", noiseless_head), ("choices", noisy_head)):
        command = commands.add_parser(name)
        command.add_argument("--threads", type=int, default=2)
        command.set_defaults(run=lambda options, compare=compare: compare(options.threads))
    scans = commands.add_parser("scans")
    scans.add_argument("raw_dir", type=Path)
    scans.add_argument("derivatives_dir", type=Path)
    scans.set_defaults(
        run=lambda options: simulated_scans(options.raw_dir, options.derivatives_dir)
    )
    options = parser.parse_args()
    options.run(options)


def noiseless_head(threads):
    """Print the bias of the inversions on a head's own field."""
    scan, geometry = simulated_head(threads)
    edges = edge_mask(combine_magnitude(np.abs(scan.signal)), scan.mask)
    weight = zero_field_weight(scan.local_field, scan.mask, 1e-12)
    with fft.set_workers(threads):
        maps = {
            "medi": medi(scan.local_field, scan.mask, edges=edges, medi_data="linear", **geometry),
            "iterative": iterative(
                scan.local_field, scan.mask, edges=edges, exterior_weight=weight, **geometry
            ),
            "deterministic": deterministic(scan.local_field, scan.mask, **geometry),
        }
    print_regions(
        scan.chi,
        {name: inversion.chi for name, inversion in maps.items()},
        regions_of(scan.labels, scan.mask),
    )
    print(
        ", ".join(
            f"λ {name} {inversion.lambda_choice.value:.3g}" for name, inversion in maps.items()
        )
    )


def noisy_head(threads):
    """Print what the choice of edges and weights does to a map."""
    scan, geometry = simulated_head(threads)
    noise = np.random.default_rng(0).normal(0, NOISE_PPM, scan.mask.shape).astype(np.float32)
    field = scan.local_field + noise
    magnitude = combine_magnitude(np.abs(scan.signal))
    weight = zero_field_weight(field, scan.mask, NOISE_PPM**2)
    regions = regions_of(scan.labels, scan.mask)
    core = erode(scan.mask, geometry["voxel_size"], CORE_DEPTH)

    def report(name, inversion):
        error = 100 * np.std((inversion.chi - scan.chi)[core]) / np.std(scan.chi[core])
        biases = []
        for region in REPORTED:
            true, value = (
                m[regions[region]].mean() - m[regions[REFERENCE]].mean()
                for m in (scan.chi, inversion.chi)
            )
            biases.append(f"{100 * (value / true - 1):+.0f} %")
        print(
            f"| {name} | {inversion.lambda_choice.value:.3f} | {error:.1f} | "
            + " | ".join(biases)
            + " |",
            flush=True,
        )

    print(
        "| inversion | λ | core NRMSE % | "
        + " | ".join(REPORTED)
        + " |\n|---|---|---|"
        + "---|" * len(REPORTED)
    )
    with fft.set_workers(threads):
        for exterior_weight in (1.0, weight):
            for share in (None, 0.1, 0.2, 0.3):
                edges = edge_mask(magnitude, scan.mask, edge_fraction=share)
                edges_text = "by noise" if share is None else f"{share:.0%}"
                inversion = iterative(
                    field, scan.mask, edges=edges, exterior_weight=exterior_weight, **geometry
                )
                report(
                    f"iterative, exterior weight {exterior_weight:.2f}, edges {edges_text}",
                    inversion,
                )
        report("deterministic", deterministic(field, scan.mask, **geometry))


def simulated_head(threads):
    """A noiseless scan of the average head with the 2015 study's protocol, and its geometry."""
    protocol = Protocol(snr=np.inf)
    affine = scan_affine(protocol.shape, protocol.voxel_size, centre=(0, -18, 5))
    model = partial(head_model, average_subject())
    specimen = magnetize(
        model, affine, protocol.shape, oversampling=protocol.oversampling, workers=threads
    )
    scan = acquire(specimen, protocol, seed=0, workers=threads)
    return scan, {"voxel_size": protocol.voxel_size, "b0_dir": b0_direction(affine)}


def simulated_scans(raw_dir, derivatives_dir):
    """Print each scan's table."""
    scans, _ = collect_scans(raw_dir)
    for scan in scans:
        print(f"\n{scan.label}")
        folder = Path(
            f"sub-{scan.entities['subject']}", *(["ses-" + scan.entities["session"]]), "anat"
        )
        truth = raw_dir / "derivatives" / "truth" / folder
        paths = {
            name: derivatives_dir / folder / f"{scan.label}_desc-{name}_Chimap.nii.gz"
            for name in METHODS
        }
        maps = {name: nib.load(path).get_fdata() for name, path in paths.items() if path.exists()}
        mask = (
            nib.load(derivatives_dir / folder / f"{scan.label}_desc-brain_mask.nii.gz").get_fdata()
            > 0
        )
        labels = nib.load(truth / f"{scan.label}_desc-truth_dseg.nii.gz")
        if scan.is_phantom:
            with (truth / f"{scan.label}_desc-truth_dseg.tsv").open(newline="") as lines:
                print_tubes(maps, labels, mask, list(csv.DictReader(lines, delimiter="\t")))
        else:
            chi = nib.load(truth / f"{scan.label}_desc-truth_Chimap.nii.gz").get_fdata()
            print_regions(chi, maps, regions_of(labels.get_fdata(), mask))


def regions_of(labels, mask):
    """Voxels of the reference and of the nuclei, left and right together, by name."""
    names = {}
    for index, name in label_names().items():
        plain = name.removeprefix("left_").removeprefix("right_")
        if plain != name or name == REFERENCE:
            names.setdefault(plain, []).append(index)
    return {name: np.isin(labels, indices) & mask for name, indices in names.items()}


def print_regions(truth, maps, regions):
    """Print each region's mean relative to the reference, in ppm, and its bias."""
    print("| region | truth | " + " | ".join(f"{name} | bias" for name in maps) + " |")
    print("|---|---|" + "---|---|" * len(maps))
    reference = regions.pop(REFERENCE)
    for name, region in regions.items():
        true = truth[region].mean() - truth[reference].mean()
        cells = []
        for chi in maps.values():
            value = chi[region].mean() - chi[reference].mean()
            cells += [
                f"{value:.4f}",
                f"{100 * (value / true - 1):+.0f} % ({1000 * (value - true):+.1f} ppb)",
            ]
        print(f"| {name} | {true:.4f} | " + " | ".join(cells) + " |")


def print_tubes(maps, labels, mask, lookup):
    """Print the regression of measured on expected susceptibility over the tubes."""
    voxel_size = voxel_size_of(labels.affine)
    tubes = {row["name"]: row for row in lookup if row["susceptibility_ppm"] not in ("", "n/a")}
    expected = [float(row["susceptibility_ppm"]) for row in tubes.values()]
    for name, chi in maps.items():
        measured = []
        for row in tubes.values():
            tube = erode((labels.get_fdata() == int(row["index"])) & mask, voxel_size, WALL)
            measured.append(chi[middle_half(tube)].mean())
        fit = stats.linregress(expected, measured)
        print(
            f"{name}: "
            + ", ".join(f"{e:.2f} → {m:.3f}" for e, m in zip(expected, measured, strict=True))
        )
        print(
            f"  slope {fit.slope:.3f}, intercept {fit.intercept:+.3f} ppm, R² {fit.rvalue**2:.5f}"
        )


def middle_half(tube):
    """The tube without its ends, where its field is not that of a long cylinder."""
    slices = np.flatnonzero(tube.any(axis=(0, 1)))
    quarter = slices.size // 4
    middle = np.zeros_like(tube)
    middle[:, :, slices[quarter : slices.size - quarter]] = True
    return tube & middle


if __name__ == "__main__":
    main()
