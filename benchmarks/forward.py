"""The pipeline on a phantom that another program simulated: qsm-forward, by its command.

    python benchmarks/forward.py --command qsm-forward --work DIR

qsm-forward (https://github.com/astewartau/qsm-forward, PyPI) has its own equations of the field and
of the signal. It is installed in an environment of its own and only run. The phantom is its
`simple` one: a cylinder of 0.005 ppm along B0 with four thinner ones of 0.05 to 0.5 ppm, 1 mm, four
echoes at 3 T, with its receive phase, shim field and noise. All is by the pipeline's defaults, in
its own mask; there are no sources outside.

Values are means over the voxels of a cylinder that are not at its wall, less the mean of the large
one. NRMSE in per cent is over the mask, about the mean.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from multiqsm import __version__

METHODS = ("medi", "iterative", "deterministic")
LARGE = 0.005  # ppm, of the cylinder around the others
SMALL = (0.05, 0.1, 0.2, 0.5)
OPTIONS = (
    "--B0 3 --TR 0.05 --TEs 0.004 0.012 0.020 0.028 --flip_angle 15 --peak-snr 100 "
    "--random-seed 1 --save-chi --save-mask"
)


def main():
    """Simulate, process, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--command", default="qsm-forward", help="qsm-forward, or its path")
    parser.add_argument("--work", type=Path, required=True, help="folder of scans and maps")
    options = parser.parse_args()
    command = shutil.which(options.command)
    if command is None:
        parser.error(
            f"{options.command} was not found: `pip install qsm-forward` in an environment of its "
            "own, and give the path of its command"
        )
    raw = options.work / "forward"
    processed = options.work / "forward-out"
    if not (raw / "dataset_description.json").is_file():
        run([command, "simple", str(raw), *OPTIONS.split()])
    run([sys.executable, "-m", "multiqsm", str(raw), str(processed), "participant"])
    [generator] = json.loads(
        (raw / "derivatives" / "qsm-forward" / "dataset_description.json").read_text()
    )["GeneratedBy"]
    print(f"qsm-forward {generator['Version']}, options {OPTIONS}; multiqsm {__version__}")
    print_errors(raw / "derivatives" / "qsm-forward" / "sub-1" / "anat", processed / "sub-1")


def run(words):
    """Run a command; what it prints goes to the standard error."""
    print(" ".join(words), file=sys.stderr)
    subprocess.run(words, check=True, stdout=sys.stderr)


def print_errors(truth, maps):
    """Print a row for each inversion."""
    chi = read(truth / "sub-1_Chimap.nii")
    inside = read(truth / "sub-1_mask.nii") > 0
    print("| method | " + " | ".join(f"{value:g} ppm" for value in SMALL) + " | slope | NRMSE |")
    print("|---|" + "---|" * (len(SMALL) + 2))
    for method in METHODS:
        estimate = read(maps / "anat" / f"sub-1_desc-{method}_Chimap.nii.gz")
        mask = inside & (estimate != 0)
        reference = estimate[mask & np.isclose(chi, LARGE)].mean()
        values = []
        for value in SMALL:
            core = ndimage.binary_erosion(np.isclose(chi, value)) & mask
            values.append(estimate[core].mean() - reference)
        expected = np.subtract(SMALL, LARGE)
        slope = np.polyfit([0, *expected], [0, *values], 1)[0]
        cells = [f"{value + LARGE:.3f}" for value in values]
        deviation = chi[mask] - chi[mask].mean()
        error = np.linalg.norm(estimate[mask] - estimate[mask].mean() - deviation)
        nrmse = 100 * error / np.linalg.norm(deviation)
        print(f"| {method} | " + " | ".join(cells) + f" | {slope:.3f} | {nrmse:.1f} |")
    print(f"{mask.sum() / inside.sum():.0%} of the phantom is in the mask")


def read(path):
    """Read the voxels of an image."""
    return nib.load(path).get_fdata(dtype=np.float32)


if __name__ == "__main__":
    main()
