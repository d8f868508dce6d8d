"""Compare maps by every background removal and inversion with the truth they were simulated from.

python benchmarks/methods.py maps [--automatic-mask] [--sites A B C] [--keep DIR]
    A head at each site of the 2015 study with its protocol: every background removal with every
    inversion, and where the error of the default lies. With the pipeline's own mask: the default
    alone.

python benchmarks/methods.py timing [--realisations 5] [--keep DIR]
    Seconds and Fourier transforms of each inversion, on each head with so many realisations of the
    field's noise.

python benchmarks/methods.py streaking [--figure docs/streaking.png] [--keep DIR]
    Streaks around the strongest tube of the gadolinium phantom.

python benchmarks/methods.py picture DERIVATIVES_DIR --figure docs/inversions.png
    The maps that multiqsm wrote of a dataset, side by side.

`--keep` names a folder for simulated scans and maps, to be used again. Errors are NRMSE after
removing the mean; susceptibility of regions is relative to the lateral ventricles. λ is chosen by
rules that do not use the truth.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from background import METHODS
from heads import CORE_DEPTH, NUCLEI, nrmse, site_heads, stored
from matplotlib.figure import Figure
from scipy import fft, ndimage, stats

from multiqsm.core.background.removal import BackgroundRemoval
from multiqsm.core.dipole import b0_direction, dipole_kernel
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.parameters import SMALLEST_WEIGHT
from multiqsm.core.inversion.regularization import edge_mask, jump_mask
from multiqsm.core.inversion.weighted import iterative, zero_field_weight
from multiqsm.core.mask.shapes import erode
from multiqsm.core.phase.fieldfit import (
    combine_magnitude,
    fit_field,
    noise_weight,
    uniform_weight,
    weighted_variance,
)
from multiqsm.core.phase.unwrapping import unwrap_echoes
from multiqsm.simulation.phantom import HEIGHT, TUBE_SUSCEPTIBILITY, WATER_LABEL, tube_centres
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design

DEFAULT = ("tfi", "medi")
BACKGROUNDS = ("tfi", "PDF", "V-SHARP")  # those good enough to be worth a map
REFERENCE = "lateral_ventricle"
REGIONS = (*NUCLEI, "thalamus")
SURFACE_DEPTH = 2.0  # mm
STUDY_RATIO = (
    700  # seconds of the 2015 study's iterative inversion over those of its deterministic one
)
FIXED_LAMBDA = {"deterministic": 0.1, "iterative": 0.2}  # mm, about what cross-validation finds
MAGIC_ANGLE = np.degrees(np.arccos(1 / np.sqrt(3)))
CONE_WIDTH = 4.0  # degrees on either side
CONE_REACH = (12.0, 45.0)  # mm from a tube's end
SMALL_KERNEL = 0.05  # of 1/3 to 2/3
WINDOW = (-0.1, 0.15)  # ppm
METHOD_NAMES = ("deterministic", "iterative", "medi")


@dataclass(frozen=True)
class Problem:
    """A local field and what the inversions of the pipeline take beside it."""

    field: np.ndarray
    mask: np.ndarray
    standard_error: np.ndarray
    magnitude: np.ndarray
    voxel_size: tuple
    b0_dir: tuple
    period: float

    @classmethod
    def of(cls, scan, field, mask):
        """Of a simulated scan whose local field is known in a mask."""
        return cls(
            field,
            mask,
            scan.standard_error,
            scan.magnitude,
            scan.voxel_size,
            scan.b0_dir,
            scan.period,
        )

    @property
    def geometry(self):
        return {"voxel_size": self.voxel_size, "b0_dir": self.b0_dir}

    @property
    def edges(self):
        return edge_mask(self.magnitude, self.mask) | jump_mask(self.deterministic().chi, self.mask)

    def deterministic(self, **options):
        return deterministic(self.field, self.mask, **self.geometry, **options)

    def iterative(self, **options):
        variance = weighted_variance(
            self.standard_error, uniform_weight(self.standard_error, self.mask)
        )
        return iterative(
            self.field,
            self.mask,
            edges=self.edges,
            data_weight=noise_weight(self.standard_error, self.mask, SMALLEST_WEIGHT),
            exterior_weight=zero_field_weight(self.field, self.mask, variance),
            **self.geometry,
            **options,
        )

    def medi(self, **options):
        options = {"standard_error": self.standard_error, "period": self.period, **options}
        return medi(self.field, self.mask, edges=self.edges, **self.geometry, **options)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, function in (
        ("maps", maps),
        ("timing", timing),
        ("streaking", streaking),
        ("picture", picture),
    ):
        command = commands.add_parser(name)
        command.set_defaults(run=function)
        if name == "picture":
            command.add_argument("derivatives_dir", type=Path)
            command.add_argument("--figure", type=Path, required=True)
            continue
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--keep", type=Path)
        if name == "streaking":
            command.add_argument("--figure", type=Path)
        else:
            command.add_argument("--sites", nargs="+")
    commands.choices["maps"].add_argument("--automatic-mask", action="store_true")
    commands.choices["timing"].add_argument("--realisations", type=int, default=5)
    options = parser.parse_args()
    with fft.set_workers(getattr(options, "threads", 1)):
        options.run(options)


def maps(options):
    """Print the accuracy of every combination, and where the default's error lies."""
    rows = {}
    scans = {"sites": options.sites, "automatic_mask": options.automatic_mask, "keep": options.keep}
    for head in site_heads(options.threads, **scans):
        removals = {"none": true_field} | {name: METHODS[name] for name in BACKGROUNDS}
        if options.automatic_mask:
            removals = {"tfi": METHODS["tfi"]}
        for background, remove in removals.items():
            removal, chi_by_method = stored(
                options.keep,
                f"maps-{head.site}-{background}{'-automask' if options.automatic_mask else ''}",
                lambda head=head, remove=remove: map_by_all(head, remove),
            )
            for method, chi in chi_by_method.items():
                figures = judge(head, removal.mask, chi)
                if (background, method) == DEFAULT:
                    figures |= {"parts": error_by_part(head, chi)}
                rows.setdefault((background, method), []).append({"site": head.site, **figures})
    print_accuracy(
        {key: {"mean": mean_of(figures)} for key, figures in rows.items()}, "mean of the sites"
    )
    print_accuracy({DEFAULT: {f["site"]: f for f in rows[DEFAULT]}}, "each site")
    print_bias(rows)
    print_parts(rows[DEFAULT])


def true_field(head):
    """No background removal: the true local field and the error of the fit, less what is the same
    everywhere.
    """
    error = head.field - head.total_field
    local = np.where(
        head.mask, head.local_field + error - np.median(error[head.mask]), np.float32(0)
    )
    return BackgroundRemoval(local.astype(np.float32), head.mask)


def map_by_all(head, remove):
    """What a background removal leaves, and its susceptibility by each inversion."""
    removal = remove(head)
    problem = Problem.of(head, removal.local_field, removal.mask)
    return removal, {name: getattr(problem, name)().chi for name in METHOD_NAMES}


def judge(head, mask, chi):
    """Errors of one map; regions in ppm relative to the reference, found and true."""
    brain = mask & head.brain
    deep = erode(mask, head.voxel_size, SURFACE_DEPTH)
    regions = {name: mean_in(head, mask, chi, name) for name in REGIONS}
    sides = [
        mean_in(head, mask, chi, f"{side}_{name}") for name in NUCLEI for side in ("left", "right")
    ]
    return {
        "core": nrmse(chi, head.chi, head.core & brain),
        "all": nrmse(chi, head.chi, brain),
        "deep": nrmse(chi, head.chi, deep & brain),
        "beyond": nrmse(chi, head.chi, mask),
        "slope": stats.linregress([true for _, true in sides], [value for value, _ in sides]).slope,
        "regions": regions,
    }


def mean_in(head, mask, chi, name):
    """Mean of a region relative to the reference: found and true, ppm."""
    region, reference = (head.region(n) & mask for n in (name, REFERENCE))
    return tuple(float(m[region].mean() - m[reference].mean()) for m in (chi, head.chi))


def error_by_part(head, chi):
    """Share of voxels and of the squared error, and the error, of parts of the mask."""
    brain = head.mask & head.brain
    error = (chi - head.chi) - (chi - head.chi)[brain].mean()
    square = np.where(brain, error**2, 0)
    surface = ~erode(head.mask, head.voxel_size, SURFACE_DEPTH)
    vein = head.region("vein")
    ventricle = head.region(REFERENCE)
    thick = head.region("csf")
    parts = {
        "veins to 2 mm": vein & surface,
        "CSF to 2 mm": thick & surface,
        "tissue to 2 mm": surface & ~vein & ~thick,
        "veins deeper": vein & ~surface,
        "CSF deeper": (thick | ventricle) & ~surface,
        "nuclei and thalamus": head.region(*REGIONS) & ~surface,
    }
    parts["white and cortical grey matter"] = ~np.logical_or.reduce(list(parts.values()))
    return {
        name: (
            100 * np.count_nonzero(part & brain) / np.count_nonzero(brain),
            100 * square[part].sum() / square.sum(),
            1000 * np.sqrt(square[part & brain].mean()),
        )
        for name, part in parts.items()
    }


def mean_of(figures):
    """Means over sites of the plain figures."""
    return {
        key: np.mean([f[key] for f in figures])
        for key in ("core", "all", "deep", "beyond", "slope")
    }


def print_accuracy(rows, title):
    """Print errors and slopes; within rows by site."""
    print(
        f"\n{title}:\n\n| background | inversion | | core NRMSE % | all | all but "
        f"{SURFACE_DEPTH:g} mm",
        end="",
    )
    print(" | with what is not brain | slope, nuclei |\n|" + "---|" * 8)
    for (background, method), entries in rows.items():
        for site, f in entries.items():
            cells = (f"{f[key]:.1f}" for key in ("core", "all", "deep", "beyond"))
            print(f"| {background} | {method} | {site} | {' | '.join(cells)} | {f['slope']:.3f} |")


def print_bias(rows):
    """Print each region's bias, mean of the sites and, of the default, of each."""
    print(
        "\n| background | inversion | | "
        + " | ".join(REGIONS)
        + " |\n|"
        + "---|" * (3 + len(REGIONS))
    )
    for (background, method), figures in rows.items():
        entries = {"mean": figures}
        if (background, method) == DEFAULT and len(figures) > 1:
            entries |= {f["site"]: [f] for f in figures}
        for site, members in entries.items():
            cells = []
            for name in REGIONS:
                measured, true = np.mean([f["regions"][name] for f in members], axis=0)
                cells.append(
                    f"{100 * (measured / true - 1):+.0f} % ({1000 * (measured - true):+.1f} ppb)"
                )
            print(f"| {background} | {method} | {site} | " + " | ".join(cells) + " |")


def print_parts(figures):
    """Print the parts of the default's error, means over the sites."""
    print("\n| part | voxels % | squared error % | error, ppb |\n|---|---|---|---|")
    for name in figures[0]["parts"]:
        means = np.mean([f["parts"][name] for f in figures], axis=0)
        print(f"| {name} | {means[0]:.1f} | {means[1]:.1f} | {means[2]:.0f} |")


def timing(options):
    """Print seconds and Fourier transforms of each inversion of the true local field with noise."""
    fixed = FIXED_LAMBDA
    jobs = {
        "deterministic, λ fixed": lambda p: p.deterministic(lambda_value=fixed["deterministic"]),
        "deterministic, GCV": lambda p: p.deterministic(lambda_rule="gcv"),
        "deterministic": lambda p: p.deterministic(),
        "iterative, λ fixed": lambda p: p.iterative(lambda_value=fixed["iterative"]),
        "iterative, GCV": lambda p: p.iterative(lambda_rule="gcv"),
        "iterative": lambda p: p.iterative(),
        "MEDI, linear": lambda p: p.medi(medi_data="linear"),
        "MEDI": lambda p: p.medi(),
    }
    measured = {name: [] for name in jobs}
    n_scans = 0
    for head in site_heads(options.threads, sites=options.sites, keep=options.keep):
        for seed in range(options.realisations):
            n_scans += 1
            problem = Problem.of(head, with_noise(head, seed), head.mask)
            for name, job in jobs.items():
                measured[name].append(timed(job, problem))
    print(f"{n_scans} scans, {'×'.join(map(str, head.field.shape))}, {options.threads} threads\n")
    print(
        "| inversion | s, mean | s, SD | FFT pairs | iterations | ratio to deterministic, λ fixed |"
    )
    print("|---|---|---|---|---|---|")
    least = np.mean([pairs for _, pairs, _ in measured["deterministic, λ fixed"]])
    for name, rows in measured.items():
        seconds, pairs, iterations = np.mean(rows, axis=0)
        spread = np.std([row[0] for row in rows], ddof=1) if n_scans > 1 else np.nan
        print(
            f"| {name} | {seconds:.2f} | {spread:.2f} | {pairs:.1f} | {iterations:.0f} | "
            f"{pairs / least:.1f} |"
        )
    print(f"\nThe 2015 study's ratio: {STUDY_RATIO}.")


def with_noise(head, seed):
    """The true local field with a realisation of the noise."""
    noise = np.random.default_rng(seed).standard_normal(head.mask.shape, np.float32)
    measured = head.mask & np.isfinite(head.standard_error)
    return head.local_field + noise * np.where(measured, head.standard_error, np.float32(0))


def timed(job, problem):
    """Seconds, pairs of Fourier transforms in the same time, and iterations of one inversion."""
    before = time_fft_pair(problem.field)
    start = time.perf_counter()
    iterations = job(problem).iterations
    seconds = time.perf_counter() - start
    return seconds, seconds / np.median([*before, *time_fft_pair(problem.field)]), iterations


def time_fft_pair(volume, n=5):
    """Seconds of each of `n` pairs of Fourier transforms of a volume."""
    times = []
    for _ in range(n):
        start = time.perf_counter()
        fft.irfftn(fft.rfftn(volume), volume.shape)
        times.append(time.perf_counter() - start)
    return times


@dataclass(frozen=True)
class PhantomScan:
    """A simulated scan of the phantom; `points` are its voxels in the phantom's own axes, mm."""

    field: np.ndarray
    standard_error: np.ndarray
    magnitude: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    chi: np.ndarray
    local_field: np.ndarray
    total_field: np.ndarray
    voxel_size: tuple
    b0_dir: tuple
    period: float
    points: np.ndarray


def simulate_phantom(threads):
    """Simulate the phantom at the first site and fit its field."""
    plan = make_design("phantom", runs=1).plans[0]
    scan = simulate(plan, workers=threads)
    times = plan.protocol.echo_times
    frequency = plan.protocol.imaging_frequency
    phase = unwrap_echoes(np.angle(scan.signal), scan.mask, times)
    magnitude = np.abs(scan.signal)
    fit = fit_field(phase, magnitude, times, scan.mask, centre_frequency=frequency)
    to_phantom = np.linalg.inv(plan.position.matrix) @ plan.affine
    indices = np.stack(np.indices(scan.mask.shape, dtype=np.float32), axis=-1)
    return PhantomScan(
        field=fit.field,
        standard_error=fit.standard_error,
        magnitude=combine_magnitude(magnitude),
        mask=scan.mask,
        labels=scan.labels,
        chi=scan.chi,
        local_field=scan.local_field * scan.mask,
        total_field=scan.total_field,
        voxel_size=plan.protocol.voxel_size,
        b0_dir=tuple(b0_direction(plan.affine)),
        period=float(1 / (frequency * np.diff(times).min())),
        points=(indices @ to_phantom[:3, :3].T + to_phantom[:3, 3]).astype(np.float32),
    )


def streaking(options):
    """Print how far water varies on the cones of the magic angle that start from the strongest
    tube's ends.
    """
    scan = stored(options.keep, "phantom", lambda: simulate_phantom(options.threads))
    chi_by_method = stored(options.keep, "maps-phantom", lambda: map_by_all(scan, true_field))[1]
    water = water_within(scan)
    (cone, beside) = cones_and_beside(scan)
    ill = frequencies_without_field(scan)
    print("| inversion | SD of water on the cones, ppb | beside, ppb | all, ppb ", end="")
    print(f"| power where \\|D\\| < {SMALL_KERNEL:g} % | these alone, ppb | slope of tubes |")
    print("|---|---|---|---|---|---|---|")
    for name, chi in chi_by_method.items():
        sds = [1000 * chi[region].std() for region in (cone, beside, water)]
        power = np.abs(fft.rfftn(np.where(water, chi - chi[water].mean(), np.float32(0)))) ** 2
        print(f"| {name} | {sds[0]:.1f} | {sds[1]:.1f} | {sds[2]:.1f} ", end="")
        fraction = power[ill].sum() / power.sum()
        print(f"| {100 * fraction:.0f} | {sds[2] * np.sqrt(fraction):.1f} ", end="")
        print(f"| {tube_slope(scan, chi):.3f} |")
    print(f"\nOf all frequencies these are {100 * ill.mean():.0f} %.")
    if options.figure:
        draw_streaking(scan, chi_by_method, options.figure)


def water_within(scan):
    """Water away from the tubes and from the surface."""
    return erode(scan.mask & (scan.labels == WATER_LABEL), scan.voxel_size, CORE_DEPTH)


def frequencies_without_field(scan):
    """Spatial frequencies of which next to nothing reaches the field: what streaks are made of."""
    return np.abs(dipole_kernel(scan.mask.shape, scan.voxel_size, scan.b0_dir)) < SMALL_KERNEL


def cones_and_beside(scan):
    """Water on the cones of the magic angle from the strongest tube's ends, and as far from these
    at other angles.
    """
    strongest = int(np.argmax(TUBE_SUSCEPTIBILITY))
    water = water_within(scan)
    cone = False
    beside = False
    for end in (-HEIGHT / 2, HEIGHT / 2):
        offset = scan.points - np.float32([*tube_centres()[strongest], end])
        reach = np.linalg.norm(offset, axis=-1)
        angle = np.degrees(np.arccos(np.abs(offset[..., 2]) / np.maximum(reach, 1e-3)))
        near = water & (reach > CONE_REACH[0]) & (reach < CONE_REACH[1])
        off = np.abs(angle - MAGIC_ANGLE)
        cone = cone | (near & (off < CONE_WIDTH))
        beside = beside | (near & (off > 2 * CONE_WIDTH))
    return cone, beside & ~cone


def tube_slope(scan, chi):
    """Slope of measured on true susceptibility over the tubes' middles, relative to water."""
    water = chi[water_within(scan)].mean()
    middle = np.abs(scan.points[..., 2]) < HEIGHT / 4
    tubes = [
        erode(scan.labels == n + 1, scan.voxel_size, 3) & middle
        for n in range(len(TUBE_SUSCEPTIBILITY))
    ]
    return stats.linregress(TUBE_SUSCEPTIBILITY, [chi[tube].mean() - water for tube in tubes]).slope


def draw_streaking(scan, chi_by_method, path):
    """Draw the sagittal plane through the strongest tube by each inversion."""
    strongest = int(np.argmax(TUBE_SUSCEPTIBILITY)) + 1
    x = int(np.median(np.nonzero((scan.labels == strongest) & scan.mask)[0]))
    (box,) = ndimage.find_objects(scan.mask.astype(np.uint8))
    aspect = scan.voxel_size[2] / scan.voxel_size[1]
    water = water_within(scan)
    figure = Figure(figsize=(10, 3.4), layout="constrained", facecolor="black")
    for axis, (name, chi) in zip(
        figure.subplots(1, len(chi_by_method)), chi_by_method.items(), strict=True
    ):
        plane = np.where(scan.mask, chi - chi[water].mean(), 0)[x, box[1], box[2]].T
        axis.imshow(
            plane,
            cmap="gray",
            origin="lower",
            aspect=aspect,
            vmin=-0.2,
            vmax=0.2,
            interpolation="nearest",
        )
        axis.set_title(name, color="white", fontsize=10)
        axis.set_axis_off()
    figure.savefig(path, dpi=75, pil_kwargs={"optimize": True})


def picture(options):
    """Draw what a run wrote: each participant's maps in three planes."""
    paths = sorted(options.derivatives_dir.glob("sub-*/**/anat/*_desc-medi_Chimap.nii.gz"))
    paths = [path for path in paths if "_space-" not in path.name]
    if not paths:
        raise SystemExit(f"no map desc-medi_Chimap in {options.derivatives_dir}")
    figure = Figure(figsize=(5.5 * len(paths), 6), layout="constrained", facecolor="black")
    for part, path in zip(np.atleast_1d(figure.subfigures(1, len(paths))), paths, strict=True):
        part.set_facecolor("black")
        part.suptitle(path.name.split("_")[0], color="white", fontsize=10)
        for axes, method in zip(part.subplots(len(METHOD_NAMES), 3), METHOD_NAMES, strict=True):
            draw_planes(axes, Path(str(path).replace("desc-medi", f"desc-{method}")), method)
    figure.savefig(options.figure, dpi=110, pil_kwargs={"optimize": True})


def draw_planes(axes, path, title):
    """Draw the middle axial, coronal and sagittal plane of a map's brain."""
    image = nib.as_closest_canonical(nib.load(path))
    chi = image.get_fdata(dtype=np.float32)
    sizes = image.header.get_zooms()
    (box,) = ndimage.find_objects((chi != 0).astype(np.uint8))
    chi = chi[box]
    for axis, across in zip(axes, (2, 1, 0), strict=True):
        plane = np.take(chi, chi.shape[across] // 2, across).T
        width, height = np.delete(sizes, across)
        limits = {"vmin": WINDOW[0], "vmax": WINDOW[1]}
        axis.imshow(
            plane,
            cmap="gray",
            origin="lower",
            aspect=height / width,
            interpolation="nearest",
            **limits,
        )
        axis.set_axis_off()
    axes[0].set_title(title, color="white", fontsize=9, loc="left")


if __name__ == "__main__":
    main()
