"""Is a reversed sign of the phase detected, without false alarms?

    python benchmarks/sign.py [--bids-dirs DIR …] [--fields DIR …] [--only TEXT …]

Prints a table with a row for each scan: the volume of its mask and of the part deeper than 10 mm,
and the asymmetry of its susceptibility as a run computes it from the total field
(`check_sign_of_total`) and as the audit does (`quick_sign_check`), each with the phase as it is and
with the opposite sign. The scans are simulated heads and phantoms, those of BIDS datasets, and
local fields that were computed by others (in the first column), each in a folder with
`local_field_ppm` and `mask` (.nii.gz). Phantoms are judged as if they were heads, as happens if
participants.tsv does not identify them, and the simulated one also in its true mask, as if the user
had supplied it. A dash means that the sign is not judged.

Lines below the table name scans with a false alarm, and whole heads whose reversed sign is not
detected; the exit code is 1 if there is one.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from heads import fit_valid
from lesions import CALCIFICATION, HAEMORRHAGE, SPINS, lesioned_plan, scan_lesioned
from scipy import fft

from multiqsm.core.dipole import b0_direction
from multiqsm.core.mask.shapes import EmptyMaskError, erode
from multiqsm.core.phase.encoding import apply_sign, decode_phase, default_sign
from multiqsm.core.quality import (
    DEEP,
    SignCheck,
    check_sign,
    check_sign_of_total,
    coarse_mask,
    coarse_signal,
    quick_sign_check,
)
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.images import read_image, summarize_image
from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.cohort import draw_patients
from multiqsm.simulation.grid import affine_row
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.specimen import magnetize
from multiqsm.simulation.study import make_design, make_patient_design
from multiqsm.simulation.tissue import coverage, empty_space

COLUMNS = ("scan", "voxels (mm)", "mask (mL)", "deep (mL)")
KINDS = ("run", "audit")
BALL = 80.0  # mm, radius of the ball of water
LOW_SNR = 30.0
PIECE, IN_ITS_MASK = "site A, 40 mm of the head", "in its own mask"
# mm: thickness, and how far above the image's usual middle
SLAB = 40
SLAB_HEIGHTS = (-40, -20, 0, 20, 40)
CALCIUM = SPINS[CALCIFICATION]
BLOOD = {**SPINS[HAEMORRHAGE], "r2s": 60.0}
WATER = {"chi": 0.0, "r2s": 1.0, "pd": 1.0, "t1": 2.8}


@dataclass(frozen=True)
class Echoes:
    """Complex echoes, whose phase grows with the field, and how they were measured (s, mm, MHz)."""

    signal: np.ndarray
    echo_times: tuple
    voxel_size: tuple
    b0_dir: tuple
    centre_frequency: float
    mask: np.ndarray | None = None  # one that the user brought

    @property
    def reversed(self):
        return replace(self, signal=self.signal.conj())

    @property
    def measurement(self):
        return self.signal, self.echo_times, self.voxel_size, self.centre_frequency

    @property
    def geometry(self):
        return {"voxel_size": self.voxel_size, "b0_dir": self.b0_dir}


@dataclass(frozen=True)
class Judgement:
    """What is said of a scan: volumes in mL, and the check of each kind with the phase as it is and
    turned.
    """

    mask: float
    deep: float
    checks: dict


def main():
    """Print the table and what is wrong in it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bids-dirs", type=Path, nargs="+", default=[])
    parser.add_argument("--fields", type=Path, nargs="+", default=[])
    parser.add_argument(
        "--only", nargs="+", default=[""], help="simulated scans with any of these in their names"
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    columns = [*COLUMNS, *(cell for kind in KINDS for cell in (kind, "turned"))]
    print(f"| {' | '.join(columns)} |")
    print("|" + "---|" * len(columns))
    faults = []
    with fft.set_workers(options.threads):
        for name, is_whole, size, judge in cases(options):
            judgement = judge()
            volumes = [f"{volume:.0f}" for volume in (judgement.mask, judgement.deep)]
            asymmetries = [written(check) for pair in judgement.checks.values() for check in pair]
            print(f"| {' | '.join([name, size, *volumes, *asymmetries])} |", flush=True)
            faults += [f"{name}: {fault}" for fault in faults_of(judgement, is_whole)]
    print("\n" + ("\n".join(faults) or "No fault."))
    sys.exit(bool(faults))


def faults_of(judgement, is_whole):
    """A right sign must raise no alarm; the wrong one must in a whole head, where there is a
    verdict.
    """
    for kind, (right, wrong) in judgement.checks.items():
        if right.looks_wrong:
            yield f"{kind}, alarm at {right.asymmetry:+.2f} with the phase as it is"
        if is_whole and wrong.asymmetry is not None and not wrong.looks_wrong:
            yield f"{kind}, no alarm at {wrong.asymmetry:+.2f} with the sign turned"


def written(check):
    return "–" if check.asymmetry is None else f"{check.asymmetry:+.2f}"


def cases(options):
    """Name, whether it is a whole head, voxel size and what judges it, of every scan."""
    for name, plan, scan in simulated(options.threads):
        if any(text in name for text in options.only):
            is_whole = plan.participant.model == "head" and PIECE not in name
            judge = partial(judge_simulated, plan, scan, in_its_mask=IN_ITS_MASK in name)
            yield name, is_whole, sides(plan.protocol.voxel_size), judge
    for scan in (scan for root in options.bids_dirs for scan in collect_scans(root)[0]):
        echoes = read_echoes(scan)
        judge = partial(judge_echoes, echoes)
        yield scan.label, not scan.is_phantom, sides(echoes.voxel_size), judge
    for folder in options.fields:
        field, mask = (nib.load(folder / f"{name}.nii.gz") for name in ("local_field_ppm", "mask"))
        judge = partial(judge_field, field, mask)
        yield folder.name, True, sides(field.header.get_zooms()), judge


def sides(voxel_size):
    return "×".join(f"{side:.2g}" for side in voxel_size)


def simulated(threads):
    """Name, plan and what makes the scan, of each simulated one."""
    make = partial(partial, simulate, workers=threads)
    for size in ((2, 2, 2), (3, 3, 3)):
        for plan in travelling(size):
            yield f"site {plan.scanner.site}, {plan.participant.age} years", plan, make(plan)
    for site, size in (("A", (1.3, 1.3, 1.3)), ("C", None)):
        plan = heads(make_design("study", subjects=1, runs=1, sites=[site], voxel_size=size))[0]
        yield f"site {site}", plan, make(plan)
    plan = heads(make_design("demo", subjects=1, runs=1, sites=["B"]))[0]
    yield "demo, site B", plan, make(plan)
    patients = sorted(draw_patients(), key=lambda patient: patient.measures["t2_lesion_volume"])
    for plan in make_patient_design([patients[-1], patients[0]], voxel_size=(1, 1, 2)).plans:
        yield (
            f"thalamus, {plan.patient.measures['t2_lesion_volume']:.1f} mL of lesions",
            plan,
            make(plan),
        )
    head = lesioned_plan((2, 2, 2))
    for age in (8, 75):
        plan = replace(head, participant=replace(head.participant, age=age))
        yield f"site A, {age} years", plan, make(plan)
    plan = replace(head, protocol=replace(head.protocol, snr=LOW_SNR))
    yield f"site A, signal-to-noise ratio of {LOW_SNR:g}", plan, make(plan)
    for times in ((0.0023, 0.0046), (0.020,)):
        plan = replace(head, protocol=replace(head.protocol, echo_times=times))
        yield (
            f"site A, echoes at {', '.join(f'{1000 * time:g}' for time in times)} ms",
            plan,
            make(plan),
        )
    high_field = lesioned_plan((2, 2, 2), seven_tesla=True)
    yield "7 T", high_field, make(high_field)
    for head_name, plan in (("site A", head), ("7 T", high_field)):
        yield (
            f"{head_name}, calcification",
            plan,
            partial(scan_lesioned, plan, {CALCIFICATION: CALCIUM}, threads),
        )
        both = {CALCIFICATION: CALCIUM, HAEMORRHAGE: BLOOD}
        yield (
            f"{head_name}, haemorrhage and calcification",
            plan,
            partial(scan_lesioned, plan, both, threads),
        )
    for height in SLAB_HEIGHTS:
        plan = slab(head, height)
        yield f"{PIECE} at {height:+d} mm", plan, make(plan)
    plan = make_design("phantom", runs=1, sites=["A"], voxel_size=(2, 2, 2)).plans[0]
    yield "phantom", plan, make(plan)
    yield f"phantom, {IN_ITS_MASK}", plan, make(plan)
    yield "ball of water", plan, partial(scan_ball, plan, threads)


def travelling(voxel_size):
    """A person at each site."""
    plans = heads(make_design("study", subjects=3, runs=1, voxel_size=voxel_size))
    return [
        plan for number, site in enumerate("ABC") for plan in plans if is_at(plan, number, site)
    ]


def is_at(plan, number, site):
    return plan.participant.number == number and plan.scanner.site == site


def slab(plan, height):
    """The plan of a few slices of the same head."""
    protocol = plan.protocol
    prescription = plan.prescription
    n_slices = round(SLAB / protocol.voxel_size[2])
    moved = replace(
        prescription, translation=tuple(np.add(prescription.translation, (0, 0, height)).tolist())
    )
    return replace(
        plan, protocol=replace(protocol, shape=(*protocol.shape[:2], n_slices)), prescription=moved
    )


def heads(design):
    return [plan for plan in design.plans if plan.participant.model == "head"]


def scan_ball(plan, workers):
    """A scan of nothing but water."""
    protocol = plan.protocol
    specimen = magnetize(
        ball, plan.affine, protocol.shape, oversampling=protocol.oversampling, workers=workers
    )
    return acquire(specimen, protocol, plan.scan_seed, workers=workers)


def ball(shape, affine):
    """A ball of water in air."""
    tissue = empty_space(shape, 9.4)
    grid = np.ix_(*(np.arange(n, dtype=np.float32) for n in shape))
    distance = np.sqrt(sum(affine_row(row, grid) ** 2 for row in affine[:3]))
    whole = tuple(slice(0, n) for n in shape)
    inside = coverage(distance - np.float32(BALL), abs(np.linalg.det(affine[:3, :3])) ** (1 / 3))
    tissue.paint(whole, inside, WATER, 1)
    tissue.region[:] = inside
    return tissue


def judge_simulated(plan, make, *, in_its_mask):
    """All checks of a simulated scan."""
    scan = make()
    protocol = plan.protocol
    geometry = (protocol.voxel_size, tuple(b0_direction(plan.affine)))
    mask = scan.mask if in_its_mask else None
    return judge_echoes(
        Echoes(scan.signal, protocol.echo_times, *geometry, protocol.imaging_frequency, mask)
    )


def read_echoes(scan):
    """Echoes of a scan of a BIDS dataset, stored as magnitude and phase; an unknown frequency is
    taken as 128 MHz.
    """
    magnitude, stored = (
        np.stack([read_image(path)[2] for path in paths], axis=-1)
        for paths in (scan.magnitude, scan.phase)
    )
    phase, _ = decode_phase(stored, units=scan.units, manufacturer=scan.manufacturer, echo_axis=-1)
    image = summarize_image(scan.magnitude[0])
    signal = magnitude * np.exp(1j * apply_sign(phase, default_sign(scan.manufacturer)[0]))
    b0_dir = tuple(b0_direction(image.scanner.affine))
    return Echoes(
        signal, scan.echo_times, image.voxel_size, b0_dir, scan.imaging_frequency or 128.0
    )


def judge_echoes(echoes):
    """Both checks of a scan."""
    (mask, right), (_, wrong) = (
        run_check(measured_echoes) for measured_echoes in (echoes, echoes.reversed)
    )
    audit = tuple(audit_check(measured_echoes) for measured_echoes in (echoes, echoes.reversed))
    return Judgement(
        *volumes_of(mask, echoes.voxel_size), dict(zip(KINDS, ((right, wrong), audit), strict=True))
    )


def run_check(echoes):
    """The mask of a run, and its check."""
    try:
        total = fit_valid(*echoes.measurement, mask=echoes.mask)
    except EmptyMaskError:
        return np.zeros(echoes.signal.shape[:3], bool), SignCheck(None)
    check = check_sign_of_total(
        total.field, total.mask, standard_error=total.standard_error, **echoes.geometry
    )
    return total.mask, check


def audit_check(echoes):
    """The check of a coarse field."""
    blocks = [coarse_signal(echo, echoes.voxel_size) for echo in np.moveaxis(echoes.signal, -1, 0)]
    signal = np.stack([block for block, _ in blocks], axis=-1)
    voxel_size = blocks[0][1]
    mask = None if echoes.mask is None else coarse_mask(echoes.mask, echoes.voxel_size)
    return quick_sign_check(signal, echoes.echo_times, voxel_size, b0_dir=echoes.b0_dir, mask=mask)


def judge_field(field, mask):
    """The check of a local field that was made elsewhere, as it is and turned; it has no echoes to
    audit.
    """
    inside = mask.get_fdata() > 0
    voxel_size = tuple(map(float, field.header.get_zooms()))
    local = field.get_fdata(dtype=np.float32)
    b0_dir = tuple(b0_direction(field.affine))
    pair = tuple(check_sign(sign * local, inside, voxel_size, b0_dir=b0_dir) for sign in (1, -1))
    checks = dict(zip(KINDS, (pair, (SignCheck(None), SignCheck(None))), strict=True))
    return Judgement(*volumes_of(inside, voxel_size), checks)


def volumes_of(mask, voxel_size):
    """Volumes (mL) of a mask and of what of it lies deep."""
    return tuple(
        np.count_nonzero(part) * np.prod(voxel_size) / 1000
        for part in (mask, erode(mask, voxel_size, DEEP))
    )


if __name__ == "__main__":
    main()
