"""What each effect of the rough simulator does to a scan and to the reproducibility of regions.

python benchmarks/effects.py each [--runs 4] [--voxel-size 2 2 2] [--keep DIR]
    Scans of one person at one site, repeated, with each effect alone, with all effects and with
    none. Printed are, for each region and effect, the standard deviation over the repeats of the
    change that the effect makes, and the mean change: by the background removal and the inversion
    of the 2015 study (PDF, iterative).

python benchmarks/effects.py picture --figure docs/effects.png [--keep DIR]
    One scan: the change that each effect makes to field, magnitude and susceptibility.

python benchmarks/effects.py sites --figure docs/rough_scans.png
    One scan of each site, ideal and rough side by side.

Repeats have the same noise, shim and coils with and without an effect, so that the change is the
effect's own. Values are relative to the lateral ventricles. `--keep` names a folder for simulated
scans and maps, to be used again.
"""

import argparse
from pathlib import Path

import numpy as np
from background import METHODS
from heads import NUCLEI, Head, simulate_head, stored
from matplotlib.figure import Figure
from methods import REFERENCE, Problem
from scipy import fft

from multiqsm.simulation.effects import IDEAL, ROUGH
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design

PPB = 1000
FIELD_WINDOW = 10.0  # ppb
MAGNITUDE_WINDOW = 0.1  # of the mean magnitude
MAP_WINDOW = 30.0  # ppb
ALL = "all"
NONE = "none"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, function in (("each", each), ("picture", picture), ("sites", sites)):
        command = commands.add_parser(name)
        command.set_defaults(run=function)
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--keep", type=Path)
        command.add_argument("--voxel-size", nargs=3, type=float, default=(2.0, 2.0, 2.0))
        command.add_argument("--figure", type=Path)
    commands.choices["each"].add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    with fft.set_workers(options.threads):
        options.run(options)


def variants():
    """Effects by the name of a row: none, each alone, all."""
    alone = {name: ROUGH.only(name) for name in ROUGH.of("head").switched_on()}
    return {NONE: IDEAL, **alone, ALL: ROUGH}


def heads_of(options, name, effects, runs):
    """Yield the repeats of one person at one site, each with its map."""
    design = make_design(
        "study",
        subjects=1,
        runs=runs,
        sites=["A"],
        voxel_size=options.voxel_size,
        effects=effects,
    )
    for plan in design.plans:
        if plan.participant.model != "head":
            continue
        size = "x".join(f"{edge:g}" for edge in options.voxel_size)
        yield stored(
            options.keep,
            f"effect-{name}-{size}-run-{plan.entities['run']}",
            lambda plan=plan: mapped(simulate_head(plan, options.threads)),
        )


def mapped(head: Head):
    """A scan and its susceptibility by PDF and the iterative inversion."""
    removal = METHODS["PDF"](head)
    return head, Problem.of(head, removal.local_field, removal.mask).iterative().chi


def each(options):
    """Print what each effect costs in reproducibility."""
    values = {}
    for name, effects in variants().items():
        values[name] = []
        for head, chi in heads_of(options, name, effects, options.runs):
            values[name].append(regional_values(head, chi))
        print(f"{name} simulated", flush=True)
    ideal = np.array(values[NONE])
    print(f"\nSD (ppb) over {options.runs} repeats, mean change in brackets\n")
    print(f"| effect | {' | '.join(region.replace('_', ' ') for region in NUCLEI)} |")
    print("|---|" + "---|" * len(NUCLEI))
    spreads = ideal.std(axis=0, ddof=1)
    print(f"| {NONE} | {' | '.join(f'{spread:.2f}' for spread in spreads)} |")
    for name, repeats in values.items():
        if name == NONE:
            continue
        change = np.array(repeats) - ideal
        cells = []
        for spread, mean in zip(change.std(axis=0, ddof=1), change.mean(axis=0), strict=True):
            cells.append(f"{spread:.2f} ({mean:+.1f})")
        print(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")


def regional_values(head, chi):
    """Susceptibility (ppb) of each nucleus relative to the lateral ventricles."""
    reference = chi[head.region(REFERENCE)].mean()
    return [PPB * (chi[head.region(name)].mean() - reference) for name in NUCLEI]


def picture(options):
    """Draw what each effect changes in one scan."""
    (ideal, ideal_chi), *_ = heads_of(options, NONE, IDEAL, 1)
    changed = {}
    for name, effects in variants().items():
        if name != NONE:
            (changed[name],) = heads_of(options, name, effects, 1)
    figure = Figure(figsize=(7.5, 2.0 * len(changed)), layout="constrained")
    rows = figure.subplots(len(changed), 3, squeeze=False)
    level = ideal.mask.shape[2] // 2
    mean_magnitude = ideal.magnitude[ideal.mask].mean()
    for row, (name, (head, chi)) in zip(rows, changed.items(), strict=True):
        inside = head.mask & ideal.mask
        images = (
            (PPB * (head.field - ideal.field), FIELD_WINDOW, "field (ppb)"),
            ((head.magnitude - ideal.magnitude) / mean_magnitude, MAGNITUDE_WINDOW, "magnitude"),
            (PPB * (chi - ideal_chi), MAP_WINDOW, "χ (ppb)"),
        )
        for axes, (image, window, title) in zip(row, images, strict=True):
            centred = image - np.median(image[inside])
            shown = np.where(inside, centred, 0)[:, :, level].T
            drawn = axes.imshow(shown, cmap="RdBu_r", vmin=-window, vmax=window, origin="lower")
            axes.set_title(f"{name.replace('_', ' ')}: {title}", fontsize=8)
            axes.set_axis_off()
            figure.colorbar(drawn, ax=axes, shrink=0.7)
    figure.savefig(options.figure, dpi=110)


def sites(options):
    """Draw one scan of each site, ideal and rough."""
    figure = Figure(figsize=(9, 10), layout="constrained")
    rows = figure.subplots(3, 4)
    for columns, effects, title in (((0, 1), IDEAL, "ideal"), ((2, 3), ROUGH, "rough")):
        design = make_design(
            "study", subjects=1, runs=1, voxel_size=options.voxel_size, effects=effects
        )
        heads = [plan for plan in design.plans if plan.participant.model == "head"]
        for row, plan in zip(rows, heads, strict=True):
            scan = simulate(plan, workers=options.threads)
            last = scan.signal[:, :, scan.signal.shape[2] // 2, -1]
            magnitude = np.abs(last)
            bright = np.percentile(magnitude, 99.5)
            site = plan.scanner.site
            magnitude_axes = row[columns[0]]
            magnitude_axes.imshow(magnitude.T, cmap="gray", vmin=0, vmax=bright, origin="lower")
            magnitude_axes.set_title(f"site {site}, {title}: magnitude", fontsize=8)
            phase_axes = row[columns[1]]
            phase_axes.imshow(np.angle(last).T, cmap="gray", origin="lower")
            phase_axes.set_title(f"site {site}, {title}: phase", fontsize=8)
    for axes in rows.flat:
        axes.set_axis_off()
    figure.savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
