"""How far measured fields are from the dipole field of their truth, simulated and in vivo.

python benchmarks/roughness.py field [--effects NAME ...] [--each] [--snr SNR]
                                     [--in-vivo FOLDER ...]
    Simulate a slab of a head with voxels of 1 mm, ideal, with these effects (default: all) and, on
    request, with each of them alone. Print, in the core of the mask, the correlation r and the
    slope of the measured local field on the dipole field of the true susceptibility, the standard
    deviation of what is left, and its spectrum on the dipole kernel's cone, where no susceptibility
    has a field. The same of folders with local_field_ppm.nii.gz, cosmos_ppm.nii.gz and
    mask.nii.gz, whose truth is the map of several head positions (B0 along the third axis).

python benchmarks/roughness.py cosmos [--effects NAME ...] [--voxel-size 2 2 2]
    Simulate a head in five positions, ideal and with these effects, and compare the map of all
    positions with the truth, and maps of the first position with both. Fields are without solid
    harmonics, as a background removal leaves them.
"""

import argparse
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import fft

from multiqsm.core.dipole import b0_direction, convolve, dipole_kernel, frequencies
from multiqsm.core.grid import box_around, voxel_size_of
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.orientations import cosmos
from multiqsm.core.inversion.parameters import SMALLEST_WEIGHT
from multiqsm.core.inversion.problem import Inversion
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.core.inversion.weighted import iterative, zero_field_weight
from multiqsm.core.mask.reliability import trim_unreliable
from multiqsm.core.mask.shapes import depth_in
from multiqsm.core.phase.fieldfit import combine_magnitude, fit_field
from multiqsm.core.phase.unwrapping import unwrap_echoes
from multiqsm.core.registration.resampling import resample
from multiqsm.simulation.acquisition import Scan, solid_harmonics
from multiqsm.simulation.effects import IDEAL, ROUGH
from multiqsm.simulation.grid import coordinates, scan_affine
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.study import make_design

CORE_DEPTH = 8.0  # mm below the mask's surface and the faces of the slab
CONE = 0.06  # |D| below which a field is taken to be on the cone
SHELLS = (0.02, 0.04, 0.07, 0.11, 0.16, 0.22, 0.28, 0.34, 0.40, 0.50)  # 1/mm
# Spins precess on the voxels of the image, which is faster than on finer ones.
COARSE_SPINS = {"oversampling": (1, 1, 1)}
SLAB = {"shape": (160, 192, 64), "voxel_size": (1.0, 1.0, 1.0), **COARSE_SPINS}  # as in vivo


@dataclass(frozen=True)
class Measured:
    """A measured local field with what it should be explained by, all in ppm and on one grid."""

    field: np.ndarray
    explained: np.ndarray
    mask: np.ndarray
    voxel_size: np.ndarray
    b0_dir: np.ndarray

    @property
    def core(self) -> np.ndarray:
        """The voxels deeper than `CORE_DEPTH` below the mask's surface and the faces."""
        return depth_below_surface(self.mask, self.voxel_size) > CORE_DEPTH


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    field = commands.add_parser("field")
    field.add_argument("--in-vivo", type=Path, nargs="+", default=[], metavar="FOLDER")
    field.add_argument("--each", action="store_true")
    field.add_argument("--snr", type=float, help="of the first echo; by default as the study's")
    field.set_defaults(run=fields)
    several = commands.add_parser("cosmos")
    several.set_defaults(run=positions)
    several.add_argument("--voxel-size", nargs=3, type=float, metavar="MM")
    for command in (field, several):
        command.add_argument("--effects", nargs="+", metavar="NAME")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with fft.set_workers(options.threads):
        options.run(options)


# ------------------------------------------------------------------------------
# Fields
# ------------------------------------------------------------------------------


def fields(options):
    """Print the table of fields and of their spectra."""
    centres = [f"{(low + high) / 2:.3g}" for low, high in shells()]
    print(
        f"|  | r | slope | field (ppb) | left (ppb) | {' | '.join(centres)} | fall |\n"
        f"|---|---|---|---|---|{'---|' * len(centres)}---|"
    )
    for folder in options.in_vivo:
        print_row(folder.name, in_vivo(folder))
    rough = chosen_effects(options.effects)
    print_row("rough", simulated(rough, options))
    print_row("ideal", simulated(IDEAL, options))
    if options.each:
        for name in rough.switched_on():
            print_row(name, simulated(rough.only(name), options))
    print(
        "\nSpectrum of what is left on the cone, ppb per square root of voxel, in shells of |k| "
        "around these frequencies (1/mm); fall: the first over the last."
    )


def chosen_effects(names):
    """Return the effects of a rough head; all by default."""
    rough = ROUGH if names is None else ROUGH.only(*names)
    return rough.of("head")


def in_vivo(folder):
    """Return the field of a head with the dipole field of its map of several positions."""
    image = nib.load(folder / "local_field_ppm.nii.gz")
    mask = nib.load(folder / "mask.nii.gz").get_fdata() > 0
    chi = nib.load(folder / "cosmos_ppm.nii.gz").get_fdata(dtype=np.float32) * mask
    size = voxel_size_of(image.affine)
    field = image.get_fdata(dtype=np.float32) * mask
    return cropped(field, dipole_field(chi, size, (0, 0, 1)), mask, size, (0, 0, 1))


def simulated(effects, options):
    """Return the field that is fitted to a simulated scan, without its true background."""
    plan = make_design(
        "study", subjects=1, runs=1, sites=["A"], effects=effects, seed=options.seed
    ).plans[0]
    volume = np.prod(SLAB["voxel_size"]) / np.prod(plan.protocol.voxel_size)
    snr = options.snr or plan.protocol.snr * float(volume)
    protocol = replace(plan.protocol, **SLAB, snr=snr)
    plan = replace(plan, protocol=protocol)
    scan = simulate(plan, workers=options.threads)
    field, mask, _ = measured_local_field(scan, plan.protocol)
    size = voxel_size_of(scan.affine)
    return cropped(field, scan.local_field, mask, size, b0_direction(scan.affine))


def measured_local_field(scan, protocol):
    """Return the fitted field less the true background (ppm), its mask and standard error."""
    phase = np.angle(scan.signal)
    magnitude = np.abs(scan.signal)
    unwrapped = unwrap_echoes(phase, scan.mask, list(protocol.echo_times))
    fit = fit_field(
        unwrapped,
        magnitude,
        list(protocol.echo_times),
        scan.mask,
        centre_frequency=protocol.imaging_frequency,
    )
    mask = trim_unreliable(scan.mask, fit.standard_error) & ~fit.unresolved
    background = scan.total_field - scan.local_field
    for values in scan.effect_fields.values():
        background = background - values
    field = np.where(mask, fit.field - background, 0)
    return field.astype(np.float32), mask, fit.standard_error


def cropped(field, explained, mask, voxel_size, b0_dir):
    """Return the mask's bounding box, with both fields as a background removal leaves them."""
    box = box_around(mask)
    inside = mask[box]
    return Measured(
        without_harmonics(field[box], inside, voxel_size),
        without_harmonics(explained[box], inside, voxel_size),
        inside,
        np.asarray(voxel_size),
        np.asarray(b0_dir),
    )


def without_harmonics(field, mask, voxel_size):
    """Return a field less the solid harmonics up to second order that fit it in the mask.

    They have no sources inside: a background removal takes those of eddy currents, and of a local
    field, for background.
    """
    harmonics = solid_harmonics(coordinates(scan_affine(mask.shape, voxel_size), mask.shape))
    basis = np.stack([np.broadcast_to(h, mask.shape)[mask] for h in harmonics], axis=1)
    fitted = np.linalg.lstsq(basis, field[mask], rcond=None)[0]
    remaining = np.zeros(mask.shape, np.float32)
    remaining[mask] = field[mask] - basis @ fitted
    return remaining


def dipole_field(chi, voxel_size, b0_dir, margin=32):
    """Return the field of susceptibility in empty surroundings."""
    padded = np.pad(chi, margin)
    inner = tuple(slice(margin, margin + n) for n in chi.shape)
    return convolve(dipole_kernel(padded.shape, voxel_size, b0_dir), padded)[inner]


def print_row(name, measured):
    """Print a row of the table of fields."""
    field = measured.field[measured.core].astype(float)
    explained = measured.explained[measured.core].astype(float)
    r = np.corrcoef(field, explained)[0, 1]
    slope = np.polyfit(explained, field, 1)[0]
    residual = field - np.polyval(np.polyfit(explained, field, 1), explained)
    spectrum = cone_spectrum(measured, slope)
    cells = [f"{r:.3f}", f"{slope:.2f}", f"{1e3 * field.std():.1f}", f"{1e3 * residual.std():.2f}"]
    cells += [f"{value:.1f}" for value in spectrum]
    cells.append(f"{spectrum[0] / spectrum[-1]:.0f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def shells():
    """Return the limits of the shells of |k|, 1/mm."""
    return list(pairwise(SHELLS))


def cone_spectrum(measured, slope):
    """Return the amplitude of what is left on the cone in each shell, ppb per √voxel.

    The mask's edge is smoothed over the depth of the core, so that no edge is seen on the cone.
    """
    depth = depth_below_surface(measured.mask, measured.voxel_size)
    taper = np.sin(np.clip(depth / CORE_DEPTH, 0, 1) * np.pi / 2) ** 2
    residual = measured.field - slope * measured.explained
    residual = residual - np.average(residual, weights=taper)
    spectrum = fft.rfftn((residual * taper).astype(np.float32))
    power = (spectrum.real**2 + spectrum.imag**2) / np.sum(taper**2)
    k = frequencies(taper.shape, measured.voxel_size)
    length = np.sqrt(sum(ki**2 for ki in k))
    kernel = dipole_kernel(taper.shape, measured.voxel_size, measured.b0_dir)
    on_cone = np.abs(kernel) < CONE
    amplitudes = []
    for low, high in shells():
        in_shell = on_cone & (length >= low) & (length < high)
        amplitudes.append(1e3 * float(np.sqrt(power[in_shell].mean(dtype=float))))
    return amplitudes


def depth_below_surface(mask, voxel_size):
    """Return the depth (mm) of voxels below the mask's surface; faces of the volume count."""
    inner = (slice(1, -1),) * 3
    return depth_in(np.pad(mask, 1), voxel_size)[inner]


# ------------------------------------------------------------------------------
# Several head positions
# ------------------------------------------------------------------------------


def positions(options):
    """Print how maps of one and of all head positions compare with the truth.

    Slopes are those in the core, and in its voxels with more than .06 ppm (nuclei and veins).
    """
    print(
        "| effects | map | NRMSE % of truth | slope on truth | above .06 | NRMSE % of COSMOS | "
        "slope on COSMOS | above .06 |\n|---|---|---|---|---|---|---|---|"
    )
    for name, effects in (("rough", chosen_effects(options.effects)), ("ideal", IDEAL)):
        compare_positions(name, effects, options)


@dataclass(frozen=True)
class Positions:
    """A simulated head in several positions: the measured field of the first one, and the map of
    all. `first` is the scan of the first position, and `protocol` its protocol.
    """

    first: Scan
    protocol: Protocol
    field: np.ndarray
    mask: np.ndarray
    error: np.ndarray
    cosmos: Inversion


def head_positions(plans, threads, *, has_harmonics=True):
    """Simulate a head in the positions of some plans, and combine them with ideal registration.

    Without harmonics, fields are as a background removal leaves them.
    """
    scans = []
    for turned in plans:
        plan = replace(turned, protocol=replace(turned.protocol, **COARSE_SPINS))
        scan = simulate(plan, workers=threads)
        field, mask, error = measured_local_field(scan, plan.protocol)
        if not has_harmonics:
            field = without_harmonics(field, mask, voxel_size_of(scan.affine))
        scans.append((plan, scan, field, mask, error))
    first_plan, first, field, mask, error = scans[0]
    size = voxel_size_of(first.affine)
    registered = []
    masks = []
    weights = []
    for plan, scan, local, valid, uncertainty in scans:
        # From the first position's world to this one's: the true motion of the head.
        motion = plan.position.matrix @ np.linalg.inv(first_plan.position.matrix)
        grid = (scan.affine, first.affine, mask.shape)
        values = resample(local, *grid, transform=motion, mask=valid, fill=np.nan)
        masks.append(np.isfinite(values))
        registered.append(np.nan_to_num(values))
        weight = inverse_error(uncertainty, valid, size)
        weights.append(resample(weight, *grid, transform=motion, order=1))
    b0_dirs = relative_directions(plans, first.affine)
    several = cosmos(registered, masks, size, b0_dirs, weights=weights)
    return Positions(first, first_plan.protocol, field, mask, error, several)


def compare_positions(name, effects, options):
    """Print the rows of one simulation."""
    voxels = {"voxel_size": options.voxel_size, "seed": options.seed}
    plans = make_design("cosmos", effects=effects, **voxels).plans
    positions = head_positions(plans, options.threads, has_harmonics=False)
    first = positions.first
    several = positions.cosmos
    field = positions.field
    mask = positions.mask
    size = voxel_size_of(first.affine)
    core = depth_below_surface(mask, size) > CORE_DEPTH
    strong = core & (first.chi > 0.06)
    maps = {"COSMOS": several.chi}
    maps |= single_maps(first, positions.protocol, field, mask, positions.error)
    for method, chi in maps.items():
        cells = []
        for reference in (first.chi, several.chi):
            cells += agreement(chi, reference, core, strong)
        print(f"| {name} | {method} | {' | '.join(cells)} |", flush=True)
    explained = dipole_field(several.chi, size, b0_direction(first.affine))
    explained = without_harmonics(explained, mask, size)
    r = np.corrcoef(field[core], explained[core])[0, 1]
    slope = np.polyfit(explained[core], field[core], 1)[0]
    left = np.std(field[core] - slope * explained[core])
    print(
        f"\n{name}: local field of the first position on the dipole field of COSMOS: r {r:.3f}, "
        f"slope {slope:.2f}, left {1e3 * left:.2f} ppb; residual of COSMOS "
        f"{1e3 * several.residual:.2f} ppb in {several.iterations} iterations\n",
        flush=True,
    )


def inverse_error(error, mask, voxel_size):
    """Return data weights: 1 over the standard error, and 0 in the outermost layer of the mask.

    There the background is so steep that its mean over the voxel is not what was measured.
    """
    is_inner = depth_below_surface(mask, voxel_size) > 1.5 * float(np.max(voxel_size))
    weight = np.where(is_inner, np.median(error[mask]) / np.maximum(error, 1e-12), 0)
    return np.minimum(weight, 1).astype(np.float32)


def relative_directions(plans, affine):
    """Return B0 of each head position in the voxel axes of the first."""
    to_first = plans[0].position.matrix[:3, :3]
    axes = affine[:3, :3] / voxel_size_of(affine)
    directions = []
    for plan in plans:
        in_first = to_first @ np.linalg.inv(plan.position.matrix[:3, :3]) @ [0, 0, 1]
        directions.append(np.linalg.solve(axes, in_first))
    return directions


def single_maps(scan, protocol, field, mask, error):
    """Return maps of one position by the default methods."""
    space = {"voxel_size": voxel_size_of(scan.affine), "b0_dir": b0_direction(scan.affine)}
    edges = edge_mask(combine_magnitude(np.abs(scan.signal)), mask)
    weight = np.maximum(inverse_error(error, mask, space["voxel_size"]), SMALLEST_WEIGHT)
    weighted_error = np.median(error[mask]) / weight
    outside = zero_field_weight(field, mask, float(np.median(error[mask]) ** 2))
    period = 1 / (protocol.imaging_frequency * float(np.diff(protocol.echo_times).min()))
    noise = {"standard_error": weighted_error, "period": period}
    weights = {"data_weight": weight, "exterior_weight": outside}
    return {
        "MEDI": medi(field, mask, edges=edges, **noise, **space).chi,
        "iterative": iterative(field, mask, edges=edges, **weights, **space).chi,
        "deterministic": deterministic(field, mask, **space).chi,
    }


def agreement(chi, reference, core, strong):
    """Return NRMSE (%) without the mean, and slopes in the core and in its strong sources."""
    difference = (chi - chi[core].mean()) - (reference - reference[core].mean())
    nrmse = 100 * np.sqrt(np.mean(difference[core] ** 2)) / np.std(reference[core])
    slopes = []
    for region in (core, strong):
        slopes.append(np.polyfit(reference[region], chi[region], 1)[0])
    return [f"{nrmse:.1f}", f"{slopes[0]:.2f}", f"{slopes[1]:.2f}"]


if __name__ == "__main__":
    main()
