"""Compare the group level's results on a simulated study with what is known of it.

python benchmarks/reproducibility.py RAW_DIR DERIVATIVES_DIR

RAW_DIR was written by multiqsm-simulate, DERIVATIVES_DIR by both levels of multiqsm. Printed are,
as Markdown tables: how far registration is from the true head positions; imprecision beside the
published one, with the tests; the variance components of subjects and sites beside those of the
true susceptibility, measured in the same regions; the phantom; and the age regressions.
"""

import argparse
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd

from multiqsm.bids_templates import load_template
from multiqsm.core.regions.reference import reference_region
from multiqsm.core.regions.statistics import roi_statistics
from multiqsm.core.registration.resampling import resample_labels
from multiqsm.core.registration.transforms import displacement, read_itk_text
from multiqsm.dataset.files import read_json
from multiqsm.dataset.labels import read_lookup
from multiqsm.dataset.sidecars import sidecar_path
from multiqsm.dataset.tables import read_tsv
from multiqsm.stats.components import variance_components


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("raw_dir", type=Path)
    parser.add_argument("derivatives_dir", type=Path)
    options = parser.parse_args()
    group = options.derivatives_dir / "group"
    print_registration(options.raw_dir, options.derivatives_dir)
    print_imprecision(group)
    print_components(true_values(options.raw_dir, options.derivatives_dir), group)
    print_calibration(group)
    print_age(group)


def scans_of(derivatives_dir):
    """Transform to each registered scan, and its label, by subject."""
    subjects = {}
    for path in sorted(derivatives_dir.glob("sub-*/**/*_from-scan_to-subject_mode-image_xfm.txt")):
        label = path.name.split("_from-")[0]
        subjects.setdefault(label.split("_")[0], {})[label] = (
            path,
            read_itk_text(path.read_text()),
        )
    return subjects


def true_path(raw_dir, label, name, datatype="anat"):
    session = label.split("_")[1]
    return (
        raw_dir
        / "derivatives"
        / "truth"
        / label.split("_")[0]
        / session
        / datatype
        / f"{label}_{name}"
    )


def print_registration(raw_dir, derivatives_dir):
    """Print the distance between estimated and true relative positions of all pairs of a subject's
    scans.
    """
    print("| subject | scans | pairs | mean error (mm) | largest (mm) |\n|---|---|---|---|---|")
    for subject, scans in scans_of(derivatives_dir).items():
        errors = []
        positions = {}
        for label in scans:
            sidecar = sidecar_path(true_path(raw_dir, label, "desc-truth_Chimap.nii.gz"))
            positions[label] = np.array(read_json(sidecar)["ObjectToScanner"])
        for a, b in combinations(scans, 2):
            mask = nib.load(next(scans[a][0].parent.glob(f"{a}_desc-brain_mask.nii.gz")))
            points = (
                np.argwhere(np.asanyarray(mask.dataobj))[::17] @ mask.affine[:3, :3].T
                + mask.affine[:3, 3]
            )
            estimated = scans[b][1] @ np.linalg.inv(scans[a][1])
            errors.append(
                displacement(estimated, positions[b] @ np.linalg.inv(positions[a]), points)
            )
        if errors:
            print(
                f"| {subject} | {len(scans)} | {len(errors)} | {np.mean(errors):.3f} | "
                f"{np.max(errors):.3f} |"
            )


def true_values(raw_dir, derivatives_dir):
    """The ROI table of the true susceptibility, in the regions that the maps were measured in."""
    tables = []
    for subject, scans in scans_of(derivatives_dir).items():
        drawn = nib.load(
            derivatives_dir / subject / "anat" / f"{subject}_space-subject_desc-rois_dseg.nii.gz"
        )
        names, _ = read_lookup(
            derivatives_dir / subject / "anat" / f"{subject}_space-subject_desc-rois_dseg.tsv"
        )
        for label, (path, transform) in scans.items():
            chi = nib.load(true_path(raw_dir, label, "desc-truth_Chimap.nii.gz"))
            labels = resample_labels(
                np.asanyarray(drawn.dataobj).astype(np.int32),
                drawn.affine,
                chi.affine,
                chi.shape,
                transform=np.linalg.inv(transform),
            )
            values = chi.get_fdata(dtype=np.float32)
            mask = np.ones(chi.shape, bool)
            zero = values[reference_region("csf", labels, names, mask)].mean()
            table = roi_statistics(
                values - zero, labels, names, mask, nib.affines.voxel_sizes(chi.affine)
            )
            measured = read_tsv(path.parent / f"{label}_desc-rois_chi.tsv").iloc[0]
            keys = {
                key: measured[key]
                for key in ("subject", "session", "run", "site", "scan", "unit", "reference")
            }
            tables.append(table.assign(**keys, method="truth"))
    return pd.concat(tables, ignore_index=True)


def print_imprecision(group):
    """Print imprecision beside the published one, and the test of cross against within."""
    summary = read_tsv(group / "imprecision_summary.tsv").set_index(["method", "roi"])
    tests = read_tsv(group / "within_versus_cross.tsv").set_index(["method", "roi"])
    published = pd.DataFrame(load_template("published")).set_index(["method", "roi"])
    print(
        "\n| method | region | mean (ppb) | within (ppb) | published | cross (ppb) | published | "
        "P, Bonferroni |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (method, roi), row in summary.iterrows():
        published_row = published.loc[(method, roi)] if (method, roi) in published.index else None
        cells = []
        for kind in ("within", "cross"):
            cells.append(f"{1000 * row[kind]:.1f} ({row[f'{kind}_percent']:.1f} %)")
            cells.append(
                ""
                if published_row is None
                else f"{1000 * published_row[kind]:.1f} ({published_row[f'{kind}_percent']:.1f} %)"
            )
        p = tests.loc[(method, roi), "p_bonferroni"]
        print(
            f"| {method} | {roi} | {1000 * row['mean']:.1f} | "
            + " | ".join(cells)
            + f" | {p:.3f} |"
        )


def print_components(truth, group):
    """Print the variance components as SDs with their intervals, beside those of the truth."""
    true = variance_components(truth).set_index(["roi", "component"])["sd"]
    components = read_tsv(group / "components.tsv")
    print(
        "\n| method | region | component | SD (ppb) | 95 % | of the truth | inside "
        "|\n|---|---|---|---|---|---|---|"
    )
    for row in components.itertuples():
        cells = [
            row.method,
            row.roi,
            row.component,
            f"{row.sd:.2f}",
            f"{row.sd_low:.2f} to {row.sd_high:.2f}",
        ]
        true_sd = true.get((row.roi, row.component), np.nan)
        if row.component in (
            "subject",
            "site",
            "subject_site",
        ):  # the others hold noise, which the truth has not
            cells += [f"{true_sd:.2f}", "yes" if row.sd_low <= true_sd <= row.sd_high else "no"]
        print("| " + " | ".join(cells) + " |")


def print_calibration(group):
    """Print the phantom's regression."""
    path = group / "calibration.tsv"
    if not path.exists():
        return
    print("\n| method | site | slope (95 %) | intercept (ppm) | R² |\n|---|---|---|---|---|")
    for _, row in read_tsv(path).iterrows():
        interval = f"{row['slope']:.3f} ({row['slope_ci_low']:.3f} to {row['slope_ci_high']:.3f})"
        print(
            f"| {row['method']} | {row['site']} | {interval} | {row['intercept']:+.3f} | "
            f"{row['r_squared']:.5f} |"
        )


def print_age(group):
    """Print the age regressions."""
    path = group / "age.tsv"
    if not path.exists():
        return
    print(
        "\n| method | region | analysis | slope (ppb a year, 95 %) | r | P "
        "|\n|---|---|---|---|---|---|"
    )
    for _, row in read_tsv(path).iterrows():
        interval = (
            f"{1000 * row['slope']:.2f} ({1000 * row['ci_low']:.2f} to {1000 * row['ci_high']:.2f})"
        )
        print(
            f"| {row['method']} | {row['roi']} | {row['analysis']} | {interval} | {row['r']:.2f} | "
            f"{row['p']:.3f} |"
        )


if __name__ == "__main__":
    main()
