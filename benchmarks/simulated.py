"""Numbers of docs/simulation.md on what simulated heads and patients are like.

python benchmarks/simulated.py air [--people 25]
    Volume of the sinuses and cells of the skull base, as drawn and as placed.

python benchmarks/simulated.py gradient [--voxel-size 2 2 2.5]
    Gradient of the true background field in the nuclei and in the brain, with and without the
    effect skull_base, of two people of the demo.

python benchmarks/simulated.py kspace [--voxel-size 2 2 2.5]
    Change of the fitted field by each effect on lines of k-space, in one scan of the demo.

python benchmarks/simulated.py phases [--voxel-size 2 2 2.5]
    Phase of flow, eddy currents and coils, and the noise, in the same scan.

python benchmarks/simulated.py patients [--patients 20000] [--cohorts 150]
    Mean, standard deviation and range of the variables of a large cohort; and how often cohorts of
    the study's size show the relation of lesion volume and disease duration.
"""

import argparse

import numpy as np
from heads import NUCLEI, fit_head
from scipy import fft, stats

from multiqsm.core.grid import voxel_size_of
from multiqsm.simulation.cohort import PATIENTS, draw_patients
from multiqsm.simulation.effects import IDEAL, ROUGH, effect_generator
from multiqsm.simulation.effects.skull_base import SkullBase, air_volume, draw_skull_base
from multiqsm.simulation.effects.skull_base import draw_volumes as draw_air
from multiqsm.simulation.head import anatomy, label_names
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design

PPB = 1000
ON_LINES = ("breathing", "swallowing", "pulsation", "motion", "truncation")
ROBUST = 1.4826  # standard deviation of a normal distribution per median absolute deviation
COHORT_SEED = 1_000_000
SURFACE = 10.0  # mm, thickness of the brain's outer layer
MEASURES = ("t2_lesion_volume", "relative_susceptibility", "thalamic_volume", "grey_matter_volume")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    functions = {
        "air": air,
        "gradient": gradient,
        "kspace": kspace,
        "phases": phases,
        "patients": patients,
    }
    for name, function in functions.items():
        command = commands.add_parser(name)
        command.set_defaults(run=function)
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--voxel-size", nargs=3, type=float, default=(2.0, 2.0, 2.5))
    commands.choices["air"].add_argument("--people", type=int, default=25)
    commands.choices["patients"].add_argument("--patients", type=int, default=20_000)
    commands.choices["patients"].add_argument("--cohorts", type=int, default=150)
    options = parser.parse_args()
    with fft.set_workers(options.threads):
        options.run(options)


def plan_of(options, effects, *, site="C", person=0):
    """The first scan of a person of the demo at a site."""
    design = make_design(
        "demo", runs=1, sites=[site], voxel_size=options.voxel_size, effects=effects
    )
    return design.plans[person]


def air(options):
    """Print volumes of air that are drawn, and that find room."""
    asked = []
    placed = []
    for seed in range(options.people):
        drawn = draw_air(SkullBase(), effect_generator(seed, "skull_base"))
        asked.append(sum(sum(both_sides) for both_sides in drawn.values()))
        cavities = draw_skull_base(SkullBase(), effect_generator(seed, "skull_base"))
        placed.append(air_volume(cavities))
    for name, volumes in (("drawn", asked), ("placed", placed)):
        print(f"{name}: {np.mean(volumes):.1f} ± {np.std(volumes, ddof=1):.1f} mL")


def gradient(options):
    """Print the gradient of the background field, ideal and with the skull base."""
    print(f"| scan | air (mL) | {' | '.join(NUCLEI)} | 99th percentile in the brain |")
    print("|---|" + "---|" * (len(NUCLEI) + 2))
    for person in (0, 1):
        for name, effects in (("ideal", IDEAL), ("skull_base", ROUGH.only("skull_base"))):
            plan = plan_of(options, effects, site="A", person=person)
            scan = simulate(plan, workers=options.threads)
            size = voxel_size_of(scan.affine)
            slopes = np.gradient(PPB * (scan.total_field - scan.local_field), *size)
            steepness = np.sqrt(np.sum(np.square(slopes), axis=0))
            cells = [f"{steepness[region_of(scan, region)].mean():.1f}" for region in NUCLEI]
            volume = scan.effects.get("skull_base", {}).get("AirVolume")
            cells.insert(0, "" if volume is None else f"{volume:.0f}")
            cells.append(f"{np.percentile(steepness[scan.mask], 99):.0f}")
            print(f"| person {person + 1:02}, {name} | {' | '.join(cells)} |", flush=True)


def region_of(scan, name):
    """Voxels of a nucleus on both sides."""
    indices = [index for index, label in label_names().items() if label.endswith(name)]
    return np.isin(scan.labels, indices)


def kspace(options):
    """Print what effects on lines of k-space change in the fitted field."""
    ideal = fitted(options, IDEAL)
    print("| effect | standard deviation (ppb) | robust |\n|---|---|---|")
    for names in (*((name,) for name in ON_LINES), ON_LINES):
        rough = fitted(options, ROUGH.only(*names))
        inside = ideal.mask & rough.mask
        change = PPB * (rough.field - ideal.field)[inside]
        change = change - np.median(change)
        robust = ROBUST * np.median(np.abs(change))
        print(f"| {', '.join(names)} | {change.std():.1f} | {robust:.1f} |", flush=True)


def fitted(options, effects):
    """The field of one scan, as it is fitted."""
    plan = plan_of(options, effects)
    return fit_head(simulate(plan, workers=options.threads), plan)


def phases(options):
    """Print the sizes of the phases of one scan."""
    plan = plan_of(options, ROUGH.only("flow", "eddy_currents", "coils", "noise"))
    scan = simulate(plan, workers=options.threads)
    maps = scan.effect_maps
    vein = np.abs(maps["flow"][scan.labels == anatomy()["labels"]["vein"]])
    ventricle = np.abs(maps["flow"][scan.labels == anatomy()["labels"]["lateral_ventricle"]])
    print(
        f"flow, last echo, veins: median {np.median(vein):.2f} rad, 5 % above "
        f"{np.percentile(vein, 95):.2f} rad; ventricles: at most {ventricle.max():.4f} rad"
    )
    times = np.array(plan.protocol.echo_times)
    decay = np.exp((times[0] - times) / ROUGH.eddy_currents.decay)
    slope = np.polyfit(times, decay, 1)[0] * ROUGH.eddy_currents.amplitude  # rad/s
    field = PPB * abs(slope) / (2 * np.pi * plan.protocol.imaging_frequency)
    print(f"eddy currents, one coefficient, fitted field at 100 mm: {field:.1f} ppb")
    depth = fit_depth(scan)
    inner = depth > np.percentile(depth[scan.mask], 90)
    outer = scan.mask & (depth < SURFACE)
    coils = maps["coils"] - np.median(maps["coils"][inner])
    print(f"coils, first echo, surface against middle: up to {np.abs(coils[outer]).max():.2f} rad")
    ratio = np.sqrt(np.mean(maps["noise"][inner] ** 2) / np.mean(maps["noise"][outer] ** 2))
    print(f"noise, middle over surface: {ratio:.1f}")


def fit_depth(scan):
    """Depth (mm) below the brain's surface."""
    from multiqsm.core.mask.shapes import depth_in

    return depth_in(scan.mask, voxel_size_of(scan.affine))


def patients(options):
    """Print the distributions of a cohort, and the power of its relation with duration."""
    cohort = draw_patients(options.patients, seed=COHORT_SEED)
    good = [patient for patient in cohort if patient.image_quality != "poor"]
    print(f"{len(good)} patients with good images\n\n| variable | mean ± SD (range) |\n|---|---|")
    columns = {name: [getattr(p, name) for p in good] for name in ("age", "disease_duration")}
    columns["edss"] = [patient.edss for patient in good]
    for name in (*MEASURES, "cortical_thickness"):
        columns[name] = [patient.measures[name] for patient in good]
    for name, values in columns.items():
        spread = np.std(values, ddof=1)
        extent = f"{np.min(values):.2f} to {np.max(values):.2f}"
        print(f"| {name} | {np.mean(values):.2f} ± {spread:.2f} ({extent}) |")
    p_values = []
    for seed in range(options.cohorts):
        cohort = [p for p in draw_patients(PATIENTS, seed=seed) if p.image_quality != "poor"]
        volumes = np.log([patient.measures["t2_lesion_volume"] for patient in cohort])
        durations = [patient.disease_duration for patient in cohort]
        p_values.append(stats.linregress(durations, volumes).pvalue)
    significant = 100 * np.mean(np.array(p_values) < 0.001)
    print(
        f"\nlog lesion volume on disease duration, {options.cohorts} cohorts: median P "
        f"{np.median(p_values):.4f}, P < .001 in {significant:.0f} %"
    )


if __name__ == "__main__":
    main()
