"""Lesion volumes and thalamic susceptibility of simulated patients against the truth.

    python benchmarks/patients.py lesions BIDS_DIR
    python benchmarks/patients.py thalamus BIDS_DIR DERIVATIVES_DIR [...]

BIDS_DIR was written by `multiqsm-simulate --design thalamus`.

lesions:
    Grow lesions from the seeds in each patient's FLAIR image with several rules for the threshold,
    and print the error of the total volume, and the Dice coefficient of the rule that `multiqsm`
    uses.
thalamus:
    Print for each derivative dataset the error of thalamic susceptibility relative to the atria, as
    its tables of regions have it.
"""

import argparse
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import flood, random_walker

from multiqsm.core.grid import voxel_size_of
from multiqsm.core.regions.lesions import grow_lesions
from multiqsm.dataset.anatomy import read_points
from multiqsm.dataset.simulated.layout import MANUAL, TRUTH
from multiqsm.dataset.tables import read_tsv

NEIGHBOURHOOD = 40.0  # mm around a seed, as in `grow_lesions`
SHELL = (2.0, 8.0)  # mm around a region
ROUNDS = 10
STIFFNESS = 130.0  # β of the random walker


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("lesions")
    command.set_defaults(run=print_lesions)
    command.add_argument("bids_dir", type=Path)
    command = commands.add_parser("thalamus")
    command.set_defaults(run=print_thalamus)
    command.add_argument("bids_dir", type=Path)
    command.add_argument("derivatives_dirs", type=Path, nargs="+")
    options = parser.parse_args()
    options.run(options)


def print_lesions(options):
    """Print errors of the total volume of each patient, a row for each rule."""
    rules = {
        "region's median, shell's median (chosen)": lambda *image: grow_lesions(*image)[0],
        "region's 75th percentile, shell's median": partial(grow, percentile=75),
        "region's median, median within 40 mm": partial(grow, follows_shell=False),
        "random walker, started from such regions": walk,
    }
    errors = {rule: [] for rule in rules}
    true_volumes = []
    dice = []
    for path in sorted(options.bids_dir.glob("sub-*/anat/*_FLAIR.nii.gz")):
        image = nib.load(path)
        flair = image.get_fdata(dtype=np.float32)
        label = path.name.removesuffix("_FLAIR.nii.gz")
        folder = path.relative_to(options.bids_dir).parent
        points = read_points(options.bids_dir / MANUAL / folder / f"{label}_desc-seeds_FLAIR.tsv")
        seeds = nib.affines.apply_affine(np.linalg.inv(image.affine), np.array(points))
        mask_path = options.bids_dir / TRUTH / folder / f"{label}_desc-lesions_mask.nii.gz"
        true_mask = np.asanyarray(nib.load(mask_path).dataobj) > 0
        n_true = np.count_nonzero(true_mask)
        voxel_size = voxel_size_of(image.affine)
        true_volumes.append(n_true * np.prod(voxel_size) / 1000)
        for rule, segment in rules.items():
            lesions = segment(flair, np.rint(seeds).astype(int), voxel_size)
            errors[rule].append(100 * (np.count_nonzero(lesions) / n_true - 1))
            if segment is rules["region's median, shell's median (chosen)"]:
                overlap = np.count_nonzero(lesions & true_mask)
                dice.append(2 * overlap / (np.count_nonzero(lesions) + n_true))
    print("| threshold half way between | error of the volume |\n|---|---|")
    for rule, values in errors.items():
        print(f"| {rule} | {', '.join(f'{value:+.1f}' for value in values)} % |")
    print(f"\nTrue volumes, mL: {', '.join(f'{volume:.2g}' for volume in true_volumes)}")
    print(f"Dice coefficients: {', '.join(f'{value:.2f}' for value in dice)}")


def grow(flair, seeds, voxel_size, *, percentile=50, follows_shell=True):
    """Grow lesions as `grow_lesions`, but with another intensity of the lesion or of the tissue."""
    lesions = np.zeros(flair.shape, bool)
    tissue = flair > threshold_otsu(flair)
    for seed in map(tuple, seeds):
        near = distance_from(seed, flair.shape, voxel_size) <= NEIGHBOURHOOD
        lesion_value = flair[seed]
        tissue_value = np.median(flair[tissue & near])
        region = np.zeros(flair.shape, bool)
        for _ in range(ROUNDS):
            threshold = min((lesion_value + tissue_value) / 2, np.nextafter(flair[seed], -np.inf))
            previous = region
            bright = near & (flair > threshold)
            region = flood(bright.view(np.uint8), seed, connectivity=1)
            if np.array_equal(previous, region):
                break
            lesion_value = np.percentile(flair[region], percentile)
            if follows_shell:
                tissue_value = np.median(flair[tissue & shell_of(region, voxel_size)])
        lesions |= region
    return lesions


def walk(flair, seeds, voxel_size):
    """Segment lesions by a random walker from the inside of grown lesions and their surroundings.

    Each lesion is walked in a box of its own; voxels at its surface are undecided at first.
    """
    grown = grow_lesions(flair, seeds, voxel_size)[0]
    pieces, _ = ndimage.label(grown)
    distance = ndimage.distance_transform_edt(~grown, sampling=voxel_size)
    inside = ndimage.binary_erosion(grown)
    inside[tuple(seeds.T)] = True
    lesions = np.zeros(flair.shape, bool)
    for box in ndimage.find_objects(pieces):
        wide = tuple(slice(max(part.start - 6, 0), part.stop + 6) for part in box)
        markers = np.zeros(flair[wide].shape, np.int8)
        markers[distance[wide] > SHELL[0]] = 1
        markers[inside[wide]] = 2
        if not {1, 2} <= set(np.unique(markers)):
            lesions[wide] |= grown[wide]
            continue
        image = flair[wide] / flair[wide].std()
        labels = random_walker(image, markers, beta=STIFFNESS, mode="cg_j", spacing=voxel_size)
        lesions[wide] |= labels == 2
    return lesions


def distance_from(seed, shape, voxel_size):
    """Return the distance of all voxels from one, mm."""
    axes = []
    for index, n, size in zip(seed, shape, voxel_size, strict=True):
        axes.append(((np.arange(n, dtype=np.float32) - index) * size) ** 2)
    x, y, z = np.ix_(*axes)
    return np.sqrt(x + y + z)


def shell_of(region, voxel_size):
    """Return the voxels around a region, but not next to it."""
    distance = ndimage.distance_transform_edt(~region, sampling=voxel_size)
    return (distance > SHELL[0]) & (distance <= SHELL[1])


def print_thalamus(options):
    """Print the errors of each dataset, and the true values."""
    path = next((options.bids_dir / TRUTH / "phenotype").glob("*.tsv"))
    truth = read_tsv(path).set_index("participant_id")["relative_susceptibility"]
    print("| dataset | voxels, mm | error of the thalamus, ppb |\n|---|---|---|")
    subjects = []
    for root in options.derivatives_dirs:
        errors = []
        for table_path in sorted(root.glob("sub-*/anat/*_desc-rois_chi.tsv")):
            table = read_tsv(table_path)
            thalamus = table[(table["roi"] == "thalamus") & (table["method"] == "medi")].iloc[0]
            if thalamus["reference"] != "atrium":
                raise SystemExit(f"{table_path}: values must be relative to the atria")
            subject = table_path.name.split("_")[0]
            subjects.append(subject)
            errors.append(1000 * thalamus["mean"] - float(truth[subject]))
        texts = ", ".join(f"{error:+.1f}" for error in errors)
        print(f"| {root.name} | {thalamus['voxel_size']} | {texts} |")
    true_values = ", ".join(f"{float(truth[subject]):.1f}" for subject in dict.fromkeys(subjects))
    print(f"\nTrue values, ppb: {true_values}")


if __name__ == "__main__":
    main()
