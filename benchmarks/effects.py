"""What each effect of the rough simulator does to a scan and to the reproducibility of regions.

python benchmarks/effects.py each [--runs 4] [--voxel-size 2 2 2] [--keep DIR]
    Scans of one person at one site, repeated, with each effect alone, with all effects and with
    none. Printed are, for each region and effect, the standard deviation over the repeats of the
    change that the effect makes, and the mean change: by the background removal and the inversion
    of the 2015 study (PDF, iterative).

python benchmarks/effects.py lines [--draws 12] [--lambdas .1 .2 .4 .8] [--voxel-size 2 2 2]
    What breathing, pulse, movements and swallowing cost, each alone, and the first three together
    (swallowing is on request only): the standard deviation over many draws of one scan without
    noise, of a person who breathes as the median does; those who swallow differ. It is that of the
    change of the fitted field without solid harmonics up to second order, inverted by the closed
    form with each λ (mm).

python benchmarks/effects.py picture --figure docs/effects.png [--keep DIR]
    One scan: the change that each effect makes to field, magnitude and susceptibility.

python benchmarks/effects.py sites --figure docs/rough_scans.png
    One scan of each site, ideal and rough side by side.

Repeats have the same shim, coils and noise with and without an effect, so that the change is the
effect's own; only `noise` has another noise, and is therefore no part of `all`. Values are relative
to the lateral ventricles. `--keep` names a folder for simulated scans and maps, to be used again by
the same commit.
"""

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
from background import METHODS
from heads import NUCLEI, Head, simulate_head, stored
from matplotlib.figure import Figure
from methods import REFERENCE, Problem
from roughness import COARSE_SPINS, without_harmonics
from scipy import fft

from multiqsm.core.dipole import b0_direction
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.simulation.effects import ALL as EVERY_EFFECT
from multiqsm.simulation.effects import IDEAL, ROUGH
from multiqsm.simulation.effects.kspace import distort_lines
from multiqsm.simulation.head import label_names
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design

PPB = 1000
FIELD_WINDOW = 10.0  # ppb
MAGNITUDE_WINDOW = 0.1  # of the mean magnitude
MAP_WINDOW = 30.0  # ppb
BACKGROUND = 0.06  # of the bright tissue: less is noise, and has no phase
ALL = "all"
NONE = "none"
OF_LINES = ("breathing", "pulsation", "motion")
FAINT = 0.1  # of the median magnitude at the last echo: voxels with less have no reliable phase


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, function in (
        ("each", each),
        ("lines", lines),
        ("picture", picture),
        ("sites", sites),
    ):
        command = commands.add_parser(name)
        command.set_defaults(run=function)
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--keep", type=Path)
        command.add_argument("--voxel-size", nargs=3, type=float, default=(2.0, 2.0, 2.0))
        command.add_argument("--figure", type=Path)
    commands.choices["each"].add_argument("--runs", type=int, default=4)
    commands.choices["lines"].add_argument("--draws", type=int, default=12)
    commands.choices["lines"].add_argument(
        "--lambdas", nargs="+", type=float, default=(0.1, 0.2, 0.4, 0.8)
    )
    options = parser.parse_args()
    with fft.set_workers(options.threads):
        options.run(options)


def variants():
    """Effects by the name of a row: none, each alone, all."""
    alone = {name: ROUGH.only(name) for name in ROUGH.of("head").switched_on()}
    return {NONE: IDEAL, **alone, ALL: ROUGH.without("noise")}


def commit():
    """The commit of this checkout, with a plus sign if files differ from it."""
    arguments = ("git", "describe", "--always", "--dirty=+")
    return subprocess.run(
        arguments, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    ).stdout.strip()


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
            f"effect-{name}-{size}-run-{plan.entities['run']}-{commit()}",
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


def lines(options):
    """Print what breathing, pulse and movements cost, by many draws of one scan without noise."""
    design = make_design(
        "study", subjects=1, runs=1, sites=["A"], voxel_size=options.voxel_size, effects=IDEAL
    )
    plan = design.plans[0]
    plan = replace(plan, protocol=replace(plan.protocol, snr=np.inf, **COARSE_SPINS))
    scan = simulate(plan, workers=options.threads)
    still = np.ascontiguousarray(np.moveaxis(scan.signal, -1, 0))
    last = np.abs(still[-1])
    mask = scan.mask & (last > FAINT * np.median(last[scan.mask]))
    names = label_names().items()
    regions = []
    for region in (REFERENCE, *NUCLEI):
        labels = [index for index, name in names if name.endswith(region)]
        regions.append(mask & np.isin(scan.labels, labels))
    columns = " | ".join(region.replace("_", " ") for region in NUCLEI)
    print(f"\nSD (ppb) over {options.draws} draws\n\n| λ (mm) | effect | {columns} |")
    print("|---|---|" + "---|" * len(NUCLEI), flush=True)
    for names_alone in (*((name,) for name in (*OF_LINES, "swallowing")), OF_LINES):
        effects = replace(EVERY_EFFECT, breathing=replace(ROUGH.breathing, field_spread=0.0))
        effects = effects.only(*names_alone)
        values = []
        for seed in range(options.draws):
            change = field_change(plan, scan, still, mask, effects, seed, options.threads)
            values.append(values_by_lambda(change, mask, regions, plan, options.lambdas))
        for value, spread in zip(options.lambdas, np.std(values, axis=0, ddof=1), strict=True):
            cells = " | ".join(f"{cell:.1f}" for cell in spread)
            print(f"| {value:g} | {', '.join(names_alone)} | {cells} |", flush=True)


def field_change(plan, scan, still, mask, effects, seed, threads):
    """Return what one draw of effects on lines of k-space changes in the fitted field, ppm."""
    protocol = plan.protocol
    moved = still.copy()
    background = scan.total_field - scan.local_field
    centre = scan.affine[:3] @ (*np.argwhere(scan.mask).mean(axis=0), 1)
    distort_lines(
        *(moved, protocol, scan.affine, centre, background, effects, seed),
        workers=threads,
    )
    phase = np.angle(moved * still.conj())[:, mask]
    weight = np.abs(still[:, mask]) ** 2
    times = np.array(protocol.echo_times)[:, None]
    centred = times - (weight * times).sum(axis=0) / weight.sum(axis=0)
    slope = (weight * centred * phase).sum(axis=0) / (weight * centred**2).sum(axis=0)
    change = np.zeros(mask.shape, np.float32)
    change[mask] = slope / (2 * np.pi * protocol.imaging_frequency)
    return change


def values_by_lambda(change, mask, regions, plan, lambdas):
    """Return the change (ppb) of each nucleus relative to the reference, a row for each λ."""
    space = {"voxel_size": plan.protocol.voxel_size, "b0_dir": b0_direction(plan.affine)}
    field = without_harmonics(change, mask, plan.protocol.voxel_size)
    rows = []
    for value in lambdas:
        chi = deterministic(field, mask, lambda_value=value, **space).chi
        reference, *nuclei = (chi[region].mean() for region in regions)
        rows.append(PPB * (np.array(nuclei) - reference))
    return rows


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
    figure = Figure(figsize=(9, 7.3), layout="constrained")
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
            phase = np.where(magnitude > BACKGROUND * bright, np.angle(last), np.nan)
            phase_axes.imshow(phase.T, cmap="gray", vmin=-np.pi, vmax=np.pi, origin="lower")
            phase_axes.set_title(f"site {site}, {title}: phase", fontsize=8)
    for axes in rows.flat:
        axes.set_axis_off()
    figure.savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
