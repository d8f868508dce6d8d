"""Compare what methods of background field removal leave of the local field, by simulation.

    python benchmarks/background.py [--figure docs/background.png] [--voxel-size X Y Z] [--threads
    2] [--keep DIR]

Simulates a head at each site of the 2015 study with its protocol (or other voxels), fits the field,
trims the true mask as the pipeline does, removes the background by each method, and compares with
the true local field. Errors are NRMSE after removing the mean.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from heads import nrmse, site_heads
from matplotlib.figure import Figure
from scipy import fft, ndimage, stats

from multiqsm.core.background.highpass import high_pass
from multiqsm.core.background.mean_value import sharp, vsharp
from multiqsm.core.background.projection import pdf
from multiqsm.core.background.total_field import tfi
from multiqsm.core.dipole import frequencies
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.pictures.planes import add_bar


def remove_by_tfi(head):
    """Background and susceptibility together."""
    edges = edge_mask(head.magnitude, head.mask)
    return tfi(*head.arguments, edges=edges, b0_dir=head.b0_dir, standard_error=head.standard_error)


METHODS = {
    "tfi": remove_by_tfi,
    "PDF": lambda head: pdf(
        *head.arguments, b0_dir=head.b0_dir, standard_error=head.standard_error
    ),
    "V-SHARP": lambda head: vsharp(
        *head.arguments, b0_dir=head.b0_dir, standard_error=head.standard_error
    ),
    "SHARP": lambda head: sharp(*head.arguments),
    "high-pass": lambda head: high_pass(*head.arguments),
}
DEPTHS = (0, 2, 5, 10, 20, np.inf)  # mm from the mask's surface
WAVELENGTHS = (np.inf, 40, 20, 10, 5)  # mm
WINDOW = 0.03  # ppm, of fields and of errors


def main():
    """Print the tables and draw the figure of the first site."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--voxel-size", type=float, nargs=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--keep", type=Path, help="folder where simulated heads are kept, to be used again"
    )
    options = parser.parse_args()
    measured = {name: [] for name in METHODS}
    with fft.set_workers(options.threads):
        for head in site_heads(options.threads, voxel_size=options.voxel_size, keep=options.keep):
            removals = {name: remove(head) for name, remove in METHODS.items()}
            for name, removal in removals.items():
                measured[name].append(measure(head, removal))
            if options.figure and head.site == "A":
                draw(head, removals, options.figure)
    print_tables(measured)


def measure(head, removal):
    """All figures of one method on one head, by the table's columns."""
    field = removal.local_field
    truth = head.local_field
    mask = removal.mask
    nuclei = stats.linregress(truth[head.nuclei & mask], field[head.nuclei & mask])
    return {
        "site": head.site,
        "known": 100 * np.count_nonzero(mask) / np.count_nonzero(head.mask),
        "core": nrmse(field, truth, head.core),
        "core, known": nrmse(field, truth, head.core & mask),
        "all known": nrmse(field, truth, mask),
        "all": nrmse(field, truth, head.mask),
        "r": nuclei.rvalue,
        "slope": nuclei.slope,
        "depth": error_by_depth(head, removal),
        "wave": fraction_by_wavelength(head, field),
    }


def error_by_depth(head, removal):
    """Error in shells of the known mask, relative to the local field's spread in all of the mask,
    per cent.
    """
    depth = ndimage.distance_transform_edt(np.pad(head.mask, 1), sampling=head.voxel_size)[
        1:-1, 1:-1, 1:-1
    ]
    error = (removal.local_field - head.local_field) / head.local_field[head.mask].std()
    shells = [removal.mask & (depth > low) & (depth <= high) for low, high in pairwise(DEPTHS)]
    return [100 * error[shell].std() if shell.any() else np.nan for shell in shells]


def fraction_by_wavelength(head, field):
    """Return the percentage of the local field's waves that remains in the core, by regression of
    the estimated waves on the true ones.
    """
    k = np.sqrt(sum(ki**2 for ki in frequencies(head.mask.shape, head.voxel_size)))
    waves = [
        fft.rfftn(np.where(head.core, f - f[head.core].mean(), 0))
        for f in (field, head.local_field)
    ]
    shared = np.real(waves[0] * np.conj(waves[1]))
    power = np.abs(waves[1]) ** 2
    limits = [*(1 / length for length in WAVELENGTHS), np.inf]
    bands = [(k > low) & (k <= high) for low, high in pairwise(limits)]
    return [100 * shared[band].sum() / power[band].sum() for band in bands]


def print_tables(measured):
    """Print errors by site, and the means over sites of what depends on depth and wavelength."""
    sites = [figures["site"] for figures in next(iter(measured.values()))]
    columns = ("core", "core, known", "all known", "all")
    print(
        "| method | mask known % | "
        + " | ".join(f"{column} NRMSE %, {'/'.join(sites)}" for column in columns),
        end="",
    )
    print(" | nuclei: r | slope |\n|---|---|" + "---|" * (len(columns) + 2))
    for name, heads in measured.items():
        errors = [" / ".join(f"{figures[column]:.1f}" for figures in heads) for column in columns]
        means = [
            np.mean([figures[column] for figures in heads]) for column in ("known", "r", "slope")
        ]
        print(
            f"| {name} | {means[0]:.1f} | "
            + " | ".join(errors)
            + f" | {means[1]:.3f} | {means[2]:.3f} |"
        )
    depths = [f"to {depth:g} mm" for depth in DEPTHS[1:-1]]
    print_means("error % by depth", [*depths, "deeper"], "depth", measured)
    lengths = [f"from {length:g} mm" for length in WAVELENGTHS[1:]]
    print_means("recovered % by wavelength", [*lengths, "shorter"], "wave", measured)


def print_means(title, columns, figure, measured):
    """Print one figure that has several columns, its means over the sites."""
    print(f"\n| {title} | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, heads in measured.items():
        means = np.mean([figures[figure] for figures in heads], axis=0)
        print(
            f"| {name} | "
            + " | ".join("–" if np.isnan(mean) else f"{mean:.0f}" for mean in means)
            + " |"
        )


def draw(head, removals, path):
    """Draw the true local field, each method's and its error, in an axial and a sagittal plane
    through the nuclei.
    """
    across, _, along = np.nonzero(head.nuclei)
    # of one side, and at the height of most
    x = int(np.quantile(across, 0.25))
    z = int(np.median(along))
    (box,) = ndimage.find_objects(head.mask.astype(np.uint8))
    planes = {
        "axial": (
            lambda volume: volume[box[0], box[1], z].T,
            head.voxel_size[1] / head.voxel_size[0],
        ),
        "sagittal": (
            lambda volume: volume[x, box[1], box[2]].T,
            head.voxel_size[2] / head.voxel_size[1],
        ),
    }
    columns = len(removals) + 1
    heights = [
        np.shape(take(head.mask))[0] / np.shape(take(head.mask))[1] * aspect
        for take, aspect in planes.values()
    ]
    size = (1.9 * columns, 2 * sum(1.9 * height + 0.3 for height in heights))
    figure = Figure(figsize=size, layout="constrained", facecolor="black")
    axes = figure.subplots(4, columns, height_ratios=np.repeat(heights, 2))
    for row, (take, aspect) in enumerate(planes.values()):
        for column, name in enumerate(["truth", *removals]):
            local = head.local_field if name == "truth" else removals[name].local_field
            mask = head.mask if name == "truth" else removals[name].mask
            panels = [(name, local)]
            if name != "truth":
                panels.append((f"{name}: error", np.where(mask, local - head.local_field, 0)))
            for line, (title, volume) in enumerate(panels):
                axis = axes[2 * row + line, column]
                limits = {"vmin": -WINDOW, "vmax": WINDOW}
                image = axis.imshow(
                    take(volume),
                    cmap="gray",
                    origin="lower",
                    aspect=aspect,
                    interpolation="nearest",
                    **limits,
                )
                axis.set_title(title, color="white", fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    add_bar(figure, image, axes, "ppm", 0.3)
    figure.savefig(path, dpi=75, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main()
