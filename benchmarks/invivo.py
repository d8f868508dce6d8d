"""Compare maps of one head position with COSMOS or the truth, in vivo and simulated.

python benchmarks/invivo.py FOLDER [--subjects NAME ...] [--methods NAME ...] [--rules NAME ...]
    [--scan] [--edges map|magnitude|none] [--crop MM] [--figure FILE]
    Invert the local field of each head in the folder by every method with its rules for λ, and
    print how the maps agree with the reference. `--scan` also tries multiples of the default λ, and
    prints the best of them and what the rule loses to it.

python benchmarks/invivo.py FOLDER --simulate 10 [--effects NAME ...]
    First write so many simulated heads to the folder: five head positions each, with all effects
    or these, ideal registration, and the true background subtracted.

A head is a folder with local_field_ppm.nii.gz, mask.nii.gz and the reference: chi_ppm.nii.gz, the
truth, or cosmos_ppm.nii.gz, the map of several head positions. Used if present:
magnitude.nii.gz, standard_error_ppm.nii.gz. B0 is along the scanner's z axis.

Core: voxels deeper than 8 mm below the mask's surface and the faces of the volume. Deep grey: those
of them above .06 ppm in the reference, nuclei and veins. Slopes are of the map on the reference;
NRMSE is lowest for maps that are shrunk towards zero, so read it beside the slope. The columns
NRMSE (detrended), HFEN and XSIM are of the whole mask as on the QSM-CI leaderboard; they need its
scorer (pip install qsm-ci) and are empty without it.
"""

import argparse
import importlib.util
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import nibabel as nib
import numpy as np
from heads import nrmse
from matplotlib.figure import Figure
from roughness import CORE_DEPTH, chosen_effects, depth_below_surface, head_positions
from scipy import fft

from multiqsm.core.dipole import b0_direction
from multiqsm.core.grid import box_around, voxel_size_of
from multiqsm.core.inversion.closed_form import deterministic, divide_field
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.parameters import SMALLEST_WEIGHT
from multiqsm.core.inversion.regularization import edge_mask, jump_mask
from multiqsm.core.inversion.weighted import iterative, zero_field_weight
from multiqsm.core.phase.fieldfit import noise_weight
from multiqsm.simulation.effects import ROUGH
from multiqsm.simulation.study import make_design

DEEP_GREY = 0.06  # ppm
SCAN = (0.25, 0.35, 0.5, 0.71, 1.41, 2, 2.83, 4)  # multiples of the default λ
RULES = {  # the default first
    "deterministic": ("whitened", "gcv"),
    "iterative": ("whitened", "gcv"),
    "medi": ("scaled",),
    "tkd": (None,),
}
COLUMNS = (
    "core NRMSE %",
    "slope",
    "slope, deep grey",
    "mask NRMSE %",
    "detrended %",
    "HFEN %",
    "XSIM",
)
WINDOW = (-0.1, 0.15)  # ppm
HAS_SCORER = importlib.util.find_spec("qsm_ci") is not None


@dataclass(frozen=True)
class Head:
    """A local field and its reference, in ppm, in the bounding box of the mask."""

    name: str
    field: np.ndarray
    mask: np.ndarray
    reference: np.ndarray
    voxel_size: np.ndarray
    b0_dir: np.ndarray
    magnitude: np.ndarray | None
    standard_error: np.ndarray | None

    @cached_property
    def core(self):
        return depth_below_surface(self.mask, self.voxel_size) > CORE_DEPTH

    @cached_property
    def deep_grey(self):
        return self.core & (self.reference > DEEP_GREY)

    @property
    def arguments(self):
        return self.field, self.mask, self.voxel_size

    @cached_property
    def noise(self):
        """Standard deviation of the field's noise, ppm.

        Without a standard error, that of the finest differences: the smallest of the three axes',
        since tissue adds to all.
        """
        if self.standard_error is not None:
            return float(np.median(self.standard_error[self.mask]))
        levels = []
        for axis in range(3):
            inside = np.diff(self.mask.astype(np.int8), 2, axis=axis) == 0
            inside &= np.take(self.mask, range(1, self.mask.shape[axis] - 1), axis=axis)
            differences = np.abs(np.diff(self.field, 2, axis=axis)[inside])
            levels.append(1.4826 * np.median(differences) / np.sqrt(6))
        return float(min(levels))

    def edges(self, kind):
        """Return differences that are not penalised: of a first map, the magnitude, or none."""
        if kind == "none":
            return np.zeros((3, *self.mask.shape), bool)
        chi = deterministic(*self.arguments, b0_dir=self.b0_dir).chi
        if kind == "map":
            return edge_mask(chi, self.mask)
        if self.magnitude is None:
            sys.exit(f"{self.name} has no magnitude.nii.gz: use --edges map or none")
        return edge_mask(self.magnitude, self.mask) | jump_mask(chi, self.mask)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--simulate", type=int, metavar="N")
    parser.add_argument("--effects", nargs="+", metavar="NAME", choices=ROUGH.switched_on())
    parser.add_argument("--voxel-size", type=float, nargs=3, help="of simulated heads")
    parser.add_argument("--subjects", nargs="+", metavar="NAME")
    parser.add_argument("--methods", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--rules", nargs="+", metavar="NAME", help="only these rules for λ")
    parser.add_argument("--scan", action="store_true", help="also multiples of the default λ")
    parser.add_argument(
        "--quadratic-penalty", type=float, default=0.0, metavar="MM2", help="MEDI's"
    )
    parser.add_argument("--edges", choices=("map", "magnitude", "none"), default="map")
    parser.add_argument("--crop", type=float, metavar="MM", help="side of a cube in the middle")
    parser.add_argument("--figure", type=Path, help="picture of the maps of the first head")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with fft.set_workers(options.threads):
        if options.simulate:
            simulate_heads(options)
        compare(options)


# ------------------------------------------------------------------------------
# Comparison
# ------------------------------------------------------------------------------


def compare(options):
    """Print a row of each map."""
    if not HAS_SCORER:
        print("The leaderboard's columns are empty: pip install qsm-ci for its scorer.\n")
    print(f"| head | method | λ | rule | {' | '.join(COLUMNS)} |")
    print("|---" * (4 + len(COLUMNS)) + "|")
    losses = []
    for number, name in enumerate(head_names(options)):
        head = read_head(options.folder / name, options.crop)
        edges = head.edges(options.edges)
        maps = {}
        for method in options.methods:
            errors, chi = compare_method(head, method, edges, options)
            if chi is not None:
                maps[method] = chi
            if options.scan and len(errors) > 1:
                losses.append((head.name, method, *best_of(errors)))
        if options.figure and number == 0:
            draw(head, maps, options.figure)
    for name, method, factor, loss in losses:
        print(f"\n{name}, {method}: best at {factor:g} × the default λ, {loss:.1f} points lower")


def head_names(options):
    """Return the names of the heads to compare."""
    present = sorted(path.parent.name for path in options.folder.glob("*/local_field_ppm.nii.gz"))
    missing = set(options.subjects or []) - set(present)
    if missing or not present:
        lacking = ", ".join(sorted(missing)) or "a head"
        sys.exit(f"{options.folder} has no {lacking}: it needs NAME/local_field_ppm.nii.gz")
    return options.subjects or present


def read_head(folder, crop=None):
    """Read a head; `crop` is the side of a cube in its middle, mm."""

    def volume(name):
        path = folder / f"{name}.nii.gz"
        return nib.load(path).get_fdata(dtype=np.float32) if path.exists() else None

    image = nib.load(folder / "mask.nii.gz")
    voxel_size = voxel_size_of(image.affine)
    mask = volume("mask") > 0
    box = box_around(mask)
    if crop is not None:
        box = middle(box, crop, voxel_size)
    names = ("local_field_ppm", "chi_ppm", "cosmos_ppm", "magnitude", "standard_error_ppm")
    volumes = {name: volume(name) for name in names}
    cut = {name: None if values is None else values[box] for name, values in volumes.items()}
    reference = cut["cosmos_ppm"] if cut["chi_ppm"] is None else cut["chi_ppm"]
    return Head(
        name=folder.name,
        field=cut["local_field_ppm"] * mask[box],
        mask=mask[box],
        reference=reference * mask[box],
        voxel_size=voxel_size,
        b0_dir=b0_direction(image.affine),
        magnitude=cut["magnitude"],
        standard_error=cut["standard_error_ppm"],
    )


def middle(box, side, voxel_size):
    """Return the part of a box within a cube in its middle."""
    parts = []
    for extent, size in zip(box, voxel_size, strict=True):
        n = min(int(side / size), extent.stop - extent.start)
        start = (extent.start + extent.stop - n) // 2
        parts.append(slice(start, start + n))
    return tuple(parts)


def compare_method(head, method, edges, options):
    """Print the rows of one method; return errors by multiple of λ, and the default's map."""
    errors = {}
    first = None
    extra = {"quadratic_penalty": options.quadratic_penalty} if method == "medi" else {}
    for rule in RULES[method]:
        if rule is not None and options.rules and rule not in options.rules:
            continue
        inversion = invert(head, method, edges, lambda_rule=rule, **extra)
        figures = print_row(head, method, inversion, rule or "–")
        if first is None:
            first = inversion
            errors[1] = figures[0]
    if first is not None and options.scan and first.lambda_choice is not None:
        for factor in SCAN:
            value = factor * first.lambda_choice.value
            inversion = invert(head, method, edges, lambda_value=value, **extra)
            errors[factor] = print_row(head, method, inversion, f"× {factor:g}")[0]
    return errors, None if first is None else first.chi


def best_of(errors):
    """Return the multiple of the default λ with the least error, and what the default loses."""
    factor = min(errors, key=errors.get)
    return factor, errors[1] - errors[factor]


def invert(head, method, edges, *, lambda_rule=None, lambda_value=None, **extra):
    """Invert a head's field by a method."""
    rule = {} if lambda_rule is None else {"lambda_rule": lambda_rule}
    space = {"b0_dir": head.b0_dir}
    if method == "tkd":
        return divide_field(*head.arguments, **space)
    if method == "deterministic":
        return deterministic(*head.arguments, lambda_value=lambda_value, **space, **rule)
    if method == "iterative":
        weight = None
        if head.standard_error is not None:
            weight = noise_weight(head.standard_error, head.mask, SMALLEST_WEIGHT)
        return iterative(
            *head.arguments,
            edges=edges,
            data_weight=weight,
            exterior_weight=zero_field_weight(head.field, head.mask, head.noise**2),
            lambda_value=lambda_value,
            **space,
            **rule,
        )
    return medi(
        *head.arguments,
        edges=edges,
        standard_error=head.standard_error,
        medi_lambda=lambda_value,
        medi_data="linear",
        **extra,
        **space,
        **rule,
    )


def print_row(head, method, inversion, rule):
    """Print how a map agrees with the reference; return the figures."""
    figures = score(head, inversion.chi)
    value = "–" if inversion.lambda_choice is None else f"{inversion.lambda_choice.value:.3g}"
    cells = [f"{figure:.1f}" for figure in figures]
    for column in (1, 2, 6):
        cells[column] = f"{figures[column]:.2f}"
    cells = ["" if cell == "nan" else cell for cell in cells]
    print(f"| {head.name} | {method} | {value} | {rule} | {' | '.join(cells)} |", flush=True)
    return figures


def score(head, chi):
    """Return the figures of a map, in the order of the columns."""
    figures = [nrmse(chi, head.reference, head.core)]
    for region in (head.core, head.deep_grey):
        is_empty = np.count_nonzero(region) < 2
        slope = np.nan if is_empty else np.polyfit(head.reference[region], chi[region], 1)[0]
        figures.append(slope)
    figures.append(nrmse(chi, head.reference, head.mask))
    if not HAS_SCORER:
        return [*figures, np.nan, np.nan, np.nan]
    from qsm_ci.qsm_eval import score_arrays

    scores = score_arrays(chi.astype(float), head.reference.astype(float), head.mask)[0]
    return [*figures, scores["nrmse_detrend"], scores["hfen"], scores["xsim"]]


def draw(head, maps, path):
    """Draw the maps beside the reference in the plane with most deep grey matter."""
    panels = {"reference": head.reference, **maps}
    plane = int(head.deep_grey.sum(axis=(1, 2)).argmax())
    figure = Figure(figsize=(3 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    centre = head.reference[head.core].mean()
    for axis, (name, chi) in zip(axes, panels.items(), strict=True):
        shown = chi - chi[head.core].mean() + centre
        shown = np.where(head.mask, shown, 0)[plane].T
        image = axis.imshow(shown, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], origin="lower")
        axis.set_title(name)
        axis.set_axis_off()
    figure.colorbar(image, ax=axes, label="ppm", shrink=0.8)
    figure.savefig(path, dpi=110)


# ------------------------------------------------------------------------------
# Simulation
# ------------------------------------------------------------------------------


def simulate_heads(options):
    """Write simulated heads to the folder, except those that it already has."""
    for seed in range(options.simulate):
        folder = options.folder / f"simulated-{seed:02d}"
        if (folder / "local_field_ppm.nii.gz").exists():
            continue
        effects = chosen_effects(options.effects)
        plans = make_design("cosmos", effects=effects, seed=seed).plans
        if options.voxel_size:
            plans = [coarser(plan, options.voxel_size) for plan in plans]
        positions = head_positions(plans, options.threads)
        scan = positions.first
        volumes = {
            "chi_ppm": scan.chi,
            "cosmos_ppm": positions.cosmos.chi,
            "mask": positions.mask,
            "magnitude": np.linalg.norm(np.abs(scan.signal), axis=-1),
            "standard_error_ppm": positions.error,
            "local_field_ppm": positions.field,
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, values in volumes.items():
            image = nib.Nifti1Image(values.astype(np.float32), scan.affine)
            nib.save(image, folder / f"{name}.nii.gz")


def coarser(plan, voxel_size):
    """Return a plan with other voxels and the same field of view."""
    extent = np.multiply(plan.protocol.shape, plan.protocol.voxel_size)
    shape = tuple(int(n) for n in np.round(extent / voxel_size))
    protocol = replace(plan.protocol, shape=shape, voxel_size=tuple(voxel_size))
    return replace(plan, protocol=protocol)


if __name__ == "__main__":
    main()
