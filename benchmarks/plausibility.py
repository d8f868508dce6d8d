"""Quality figures of processed scans, from which the limits of docs/quality.md were chosen.

    python benchmarks/plausibility.py table DERIVATIVES_DIR [...]
    python benchmarks/plausibility.py widen BIDS_DIR DERIVATIVES_DIR MASKS_DIR --by MM

table:
    Print a row for each subject of each dataset: the range over its scans of mask volume, fraction
    of the image, voxels without weight, spread of the local field and its standard error.
widen:
    Write the brain masks of a processed dataset, widened on all sides, as a derivative dataset
    MASKS_DIR. With `multiqsm BIDS_DIR OUTPUT_DIR participant --derivatives MASKS_DIR` they replace
    the automatic ones, and `table OUTPUT_DIR` shows what a mask that is too wide does.
"""

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from multiqsm.core.grid import voxel_size_of
from multiqsm.core.mask.shapes import dilate
from multiqsm.dataset.files import read_json
from multiqsm.dataset.sidecars import read_sidecar

# By column: the sidecar's field, the factor to the column's unit, and decimals.
FIGURES = {
    "mask mL": ("BrainMaskVolume", 1, 0),
    "of the image": ("BrainMaskFractionOfImage", 1, 2),
    "without weight %": ("VoxelsWithoutWeightFraction", 100, 2),
    "local field SD, ppb": ("LocalFieldStandardDeviation", 1000, 1),
    "robust SD, ppb": ("LocalFieldRobustStandardDeviation", 1000, 1),
    "standard error, ppb": ("MedianFieldStandardError", 1000, 1),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("table")
    command.set_defaults(run=print_figures)
    command.add_argument("derivatives_dirs", type=Path, nargs="+")
    command = commands.add_parser("widen")
    command.set_defaults(run=widen_masks)
    command.add_argument("bids_dir", type=Path)
    command.add_argument("derivatives_dir", type=Path)
    command.add_argument("masks_dir", type=Path)
    command.add_argument("--by", type=float, required=True, metavar="MM")
    options = parser.parse_args()
    options.run(options)


def print_figures(options):
    """Print a table with a row for each subject."""
    columns = ("dataset", "subject", "scans", *FIGURES)
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for root in options.derivatives_dirs:
        for folder in sorted(root.glob("sub-*/")):
            sidecars = scan_sidecars(folder)
            if sidecars:
                cells = [figure_range(sidecars, *figure) for figure in FIGURES.values()]
                cells = [root.name, folder.name, str(len(sidecars)), *cells]
                print(f"| {' | '.join(cells)} |")


def scan_sidecars(folder):
    """Return a sidecar of each scan of a subject: that of any of its maps, as they agree."""
    by_scan = {}
    for path in sorted(folder.rglob("*_Chimap.json")):
        scan, _, method = path.name.removesuffix("_Chimap.json").partition("_desc-")
        if "_space-" not in scan and not method.endswith("se"):
            by_scan[scan] = read_sidecar(path)
    return list(by_scan.values())


def figure_range(sidecars, field, factor, decimals):
    """Return the range of a figure over scans, as a text."""
    values = [factor * sidecar[field] for sidecar in sidecars if field in sidecar]
    texts = [f"{value:.{decimals}f}" for value in (min(values), max(values))] if values else [""]
    return " to ".join(dict.fromkeys(texts))


def widen_masks(options):
    """Write the masks of all scans, widened."""
    description = {
        "Name": f"brain masks widened by {options.by:g} mm",
        "BIDSVersion": read_json(options.bids_dir / "dataset_description.json")["BIDSVersion"],
        "DatasetType": "derivative",
    }
    options.masks_dir.mkdir(parents=True, exist_ok=True)
    (options.masks_dir / "dataset_description.json").write_text(json.dumps(description))
    for path in sorted(options.derivatives_dir.glob("sub-*/**/*_desc-brain_mask.nii.gz")):
        if "_space-" in path.name:
            continue
        image = nib.load(path)
        mask = np.asanyarray(image.dataobj) > 0
        wide = dilate(mask, voxel_size_of(image.affine), options.by)
        widened_path = options.masks_dir / path.relative_to(options.derivatives_dir)
        widened_path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(wide.astype(np.uint8), image.affine, image.header), widened_path)


if __name__ == "__main__":
    main()
