"""Time every algorithm on a phantom with known truth, and measure its error.

    python benchmarks/run.py [PHANTOM_DIR] [--threads 2] [--repeats 3] [--rows PDF MEDI …]

Without a folder a head is simulated. A folder holds NIfTI files: mask, chi (ppm), local_true and
total_true (fields, ppm), local and total (the same with noise), phase0… (rad) and mag0… of the
echoes.

Each row is measured in a process of its own. An FFT pair is one scipy float32 rfftn + irfftn of the
phantom's volume with the same threads, timed right before and after. Errors are NRMSE after
removing the mean, in voxels more than 5 mm inside the mask (core) and in the whole mask (all). λ is
chosen without knowledge of the truth.
"""

import argparse
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import fft

from multiqsm.core.background.highpass import high_pass
from multiqsm.core.background.mean_value import sharp, vsharp
from multiqsm.core.background.projection import pdf
from multiqsm.core.background.total_field import tfi
from multiqsm.core.dipole import b0_direction
from multiqsm.core.grid import voxel_size_of
from multiqsm.core.inversion.closed_form import deterministic
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.parameters import SMALLEST_WEIGHT
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.core.inversion.weighted import iterative, zero_field_weight
from multiqsm.core.mask.shapes import erode
from multiqsm.core.phase.fieldfit import combine_magnitude, fit_field, noise_weight
from multiqsm.core.phase.unwrapping import unwrap_echoes
from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.grid import scan_affine
from multiqsm.simulation.head import average_subject, head_model
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.specimen import magnetize

CORE_DEPTH = 5.0  # mm
NOISE_PPM = 0.003  # of local and total
ECHO_TIMES = (0.004, 0.012, 0.020, 0.028)
CENTRE_FREQUENCY = 42.576 * 3.0
STUDY_EDGE_SHARE = 0.3


@dataclass(frozen=True)
class Phantom:
    """The phantom's files, read when asked for, so that a row's memory is its own."""

    folder: Path

    def __getitem__(self, name):
        return nib.load(self.folder / f"{name}.nii.gz").get_fdata(dtype=np.float32)

    @property
    def mask(self):
        return self["mask"] > 0

    @property
    def geometry(self):
        affine = nib.load(self.folder / "mask.nii.gz").affine
        return {"voxel_size": tuple(voxel_size_of(affine)), "b0_dir": tuple(b0_direction(affine))}

    def echoes(self, kind):
        return np.stack([self[f"{kind}{echo}"] for echo in range(len(ECHO_TIMES))], axis=-1)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("phantom_dir", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--rows", nargs="+", default=[""], help="only rows whose names begin with one of these"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.phantom_dir or in_a_process_of_its_own(simulate_phantom, Path(scratch))
        print("| step | s | FFT pairs | iterations | λ | core NRMSE % | all NRMSE % | peak MB |")
        print("|---|---|---|---|---|---|---|---|")
        for name in filter(lambda name: name.startswith(tuple(options.rows)), ROWS):
            print(
                in_a_process_of_its_own(measure, name, folder, options.threads, options.repeats),
                flush=True,
            )


def in_a_process_of_its_own(function, *arguments):
    """Call a function where its memory is its own."""
    from multiqsm.execution.plugins import KEEP_FREED_MEMORY

    os.environ.update(KEEP_FREED_MEMORY)  # as the pipeline's own processes have it
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def simulate_phantom(folder):
    """Write a simulated head in the layout of a phantom's folder."""
    shape = (112, 128, 60)
    voxel_size = (1.75, 1.75, 2.25)
    protocol = Protocol(
        shape,
        voxel_size,
        ECHO_TIMES,
        repetition_time=0.045,
        flip_angle=5,
        imaging_frequency=CENTRE_FREQUENCY,
        snr=185,
    )
    affine = scan_affine(shape, voxel_size, centre=(0, -18, 5))
    specimen = magnetize(
        partial(head_model, average_subject()), affine, shape, oversampling=protocol.oversampling
    )
    scan = acquire(specimen, protocol, seed=0)
    noise = np.random.default_rng(0).normal(0, NOISE_PPM, (2, *shape)).astype(np.float32)
    volumes = {
        "mask": scan.mask,
        "chi": scan.chi * scan.mask,
        "local_true": scan.local_field * scan.mask,
        "total_true": scan.total_field,
        "local": (scan.local_field + noise[0]) * scan.mask,
        "total": (scan.total_field + noise[1]) * scan.mask,
    }
    for echo in range(len(ECHO_TIMES)):
        volumes[f"phase{echo}"] = np.angle(scan.signal[..., echo])
        volumes[f"mag{echo}"] = np.abs(scan.signal[..., echo])
    for name, volume in volumes.items():
        nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), folder / f"{name}.nii.gz")
    return folder


def measure(name, folder, threads, repeats):
    """Run one row of the table in this process and format it."""
    phantom = Phantom(folder)
    prepare, judge = ROWS[name]
    job = prepare(phantom)
    seconds = []
    pairs = []
    with fft.set_workers(threads):
        for _ in range(repeats):
            before = time_fft_pair(phantom)
            start = time.perf_counter()
            result = job()
            seconds.append(time.perf_counter() - start)
            pairs.append(seconds[-1] / statistics.median([*before, *time_fft_pair(phantom)]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    iterations = getattr(result, "iterations", "")
    lambda_value = f"{result.lambda_choice.value:.3g}" if hasattr(result, "lambda_choice") else ""
    core, whole = judge(phantom, result)
    return (
        f"| {name} | {statistics.median(seconds):.2f} | {statistics.median(pairs):.0f} | "
        f"{iterations} | {lambda_value} "
        f"| {core} | {whole} | {peak:.0f} |"
    )


def time_fft_pair(phantom, n=10):
    """Seconds of each of `n` pairs of Fourier transforms of the phantom's volume."""
    volume = phantom["total"]
    times = []
    for _ in range(n):
        start = time.perf_counter()
        fft.irfftn(fft.rfftn(volume), volume.shape)
        times.append(time.perf_counter() - start)
    return times


def nrmse(estimate, truth, region):
    """Error relative to the truth's spread, both about their means over a region, in per cent."""
    difference = (estimate - truth)[region]
    return 100 * difference.std() / truth[region].std()


def judge_map(truth_name, attribute):
    """Judge one map of a result against the phantom's truth."""

    def judge(phantom, result):
        mask = phantom.mask
        voxel_size = phantom.geometry["voxel_size"]
        estimate = getattr(result, attribute)
        truth = phantom[truth_name]
        core = erode(mask, voxel_size, CORE_DEPTH)
        return f"{nrmse(estimate, truth, core):.1f}", f"{nrmse(estimate, truth, mask):.1f}"

    return judge


def judge_field(phantom, fit):
    """Root mean square error of the fitted field relative to what its noise allows."""
    mask = phantom.mask
    core = erode(mask, phantom.geometry["voxel_size"], CORE_DEPTH)
    error = fit.field - phantom["total_true"]
    ratios = [
        np.sqrt(np.mean(error[r] ** 2) / np.mean(fit.standard_error[r] ** 2)) for r in (core, mask)
    ]
    return tuple(f"{ratio:.2f} × noise" for ratio in ratios)


def judge_unwrapping(phantom, unwrapped):
    """Voxels whose echoes are not where the true field puts them, apart from one constant."""
    mask = phantom.mask
    true_change = (
        2 * np.pi * CENTRE_FREQUENCY * phantom["total_true"] * (ECHO_TIMES[-1] - ECHO_TIMES[0])
    )
    wrong = np.abs(unwrapped[..., -1] - unwrapped[..., 0] - true_change)[mask] > np.pi
    return "", f"{np.count_nonzero(wrong)} of {mask.sum()} voxels wrong"


def unwrapping(mode):
    def prepare(phantom):
        phase = phantom.echoes("phase")
        mask = phantom.mask
        return lambda: unwrap_echoes(phase, mask, ECHO_TIMES, unwrapping=mode)

    return prepare


def field(mode):
    def prepare(phantom):
        phase = phantom.echoes("phase")
        magnitude = phantom.echoes("mag")
        mask = phantom.mask
        return lambda: fit_field(
            unwrap_echoes(phase, mask, ECHO_TIMES, unwrapping=mode),
            magnitude,
            ECHO_TIMES,
            mask,
            centre_frequency=CENTRE_FREQUENCY,
        )

    return prepare


def background(remove):
    def prepare(phantom):
        total = phantom["total"]
        mask = phantom.mask
        return lambda: remove(total, mask, **phantom.geometry)

    return prepare


def closed_form(**options):
    def prepare(phantom):
        local = phantom["local"]
        mask = phantom.mask
        return lambda: deterministic(local, mask, **phantom.geometry, **options)

    return prepare


def together(phantom):
    total = phantom["total"]
    mask = phantom.mask
    magnitude = phantom["mag0"]
    return lambda: tfi(total, mask, edges=edge_mask(magnitude, mask), **phantom.geometry)


def edge_preserving(share=None, exterior_weight=None, **options):
    def prepare(phantom):
        local = phantom["local"]
        mask = phantom.mask
        magnitude = phantom["mag0"]

        def job():
            edges = edge_mask(magnitude, mask, edge_fraction=share)
            weight = (
                zero_field_weight(local, mask, NOISE_PPM**2)
                if exterior_weight is None
                else exterior_weight
            )
            return iterative(
                local, mask, edges=edges, exterior_weight=weight, **phantom.geometry, **options
            )

        return job

    return prepare


def sparse(**options):
    def prepare(phantom):
        local = phantom["local"]
        mask = phantom.mask
        magnitude = phantom["mag0"]
        return lambda: medi(
            local, mask, edges=edge_mask(magnitude, mask), **phantom.geometry, **options
        )

    return prepare


def chain(remove, invert):
    """From the echoes to susceptibility, as the pipeline does it in the true mask."""

    def prepare(phantom):
        phase = phantom.echoes("phase")
        magnitude = phantom.echoes("mag")
        mask = phantom.mask

        def job():
            unwrapped = unwrap_echoes(phase, mask, ECHO_TIMES)
            fit = fit_field(
                unwrapped, magnitude, ECHO_TIMES, mask, centre_frequency=CENTRE_FREQUENCY
            )
            edges = edge_mask(combine_magnitude(magnitude), mask)
            return invert(
                remove(fit.field, fit, mask, edges, phantom.geometry),
                fit,
                mask,
                edges,
                phantom.geometry,
            )

        return job

    return prepare


def chain_pdf(field, fit, mask, edges, geometry):
    return pdf(field, mask, standard_error=fit.standard_error, **geometry).local_field


def chain_tfi(field, fit, mask, edges, geometry):
    return tfi(field, mask, edges=edges, standard_error=fit.standard_error, **geometry).local_field


def chain_iterative(local, fit, mask, edges, geometry):
    weights = {
        "data_weight": noise_weight(fit.standard_error, mask, SMALLEST_WEIGHT),
        "exterior_weight": zero_field_weight(local, mask, np.mean(fit.standard_error[mask] ** 2)),
    }
    return iterative(local, mask, edges=edges, **weights, **geometry)


def chain_medi(local, fit, mask, edges, geometry):
    period = 1 / (CENTRE_FREQUENCY * np.diff(ECHO_TIMES).min())
    return medi(
        local, mask, edges=edges, standard_error=fit.standard_error, period=period, **geometry
    )


DISCREPANCY = {"lambda_rule": "discrepancy", "noise_variance": NOISE_PPM**2}
CHI = judge_map("chi", "chi")
LOCAL = judge_map("local_true", "local_field")
ROWS = {
    "unwrapping, 4 echoes, spatial": (unwrapping("spatial"), judge_unwrapping),
    "unwrapping, 4 echoes, temporal": (unwrapping("temporal"), judge_unwrapping),
    "unwrapping (spatial) + field fit": (field("spatial"), judge_field),
    "PDF": (background(pdf), LOCAL),
    "V-SHARP": (background(vsharp), LOCAL),
    "SHARP": (background(sharp), LOCAL),
    "high-pass": (background(high_pass), LOCAL),
    "tfi": (together, LOCAL),
    "deterministic": (closed_form(), CHI),
    "deterministic, GCV": (closed_form(lambda_rule="gcv"), CHI),
    "deterministic, discrepancy": (closed_form(**DISCREPANCY), CHI),
    "deterministic, λ fixed": (closed_form(lambda_value=0.1), CHI),
    "iterative": (edge_preserving(), CHI),
    "iterative, GCV": (edge_preserving(lambda_rule="gcv"), CHI),
    "iterative, lin2015": (edge_preserving(STUDY_EDGE_SHARE, 1.0, **DISCREPANCY), CHI),
    "iterative, λ fixed": (edge_preserving(lambda_value=0.2), CHI),
    "MEDI": (sparse(medi_data="linear"), CHI),
    "MEDI, nonlinear": (sparse(period=0.98), CHI),
    "MEDI, λ fixed": (sparse(medi_data="linear", medi_lambda=5e-4), CHI),
    "chain: PDF, iterative": (chain(chain_pdf, chain_iterative), CHI),
    "chain: TFI, iterative": (chain(chain_tfi, chain_iterative), CHI),
    "chain: TFI, MEDI (default)": (chain(chain_tfi, chain_medi), CHI),
}

if __name__ == "__main__":
    main()
