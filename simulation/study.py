"""The designs of simulated studies: who is scanned where, how, and how often.

A design is a list of plans, one for each scan. A plan has everything that its scan depends on, and
its random numbers come from a key of its own (name of the draw; numbers of participant, site and
run). Any scan can therefore be simulated alone, in any order and by any number of processes, and a
study with fewer participants, sites or runs has the same scans as the whole study.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ..core.grid import Vector
from .cohort import Patient
from .effects import IDEAL, Effects
from .plan import Design, Participant, Placement, ScanPlan
from .protocol import Protocol
from .scanners import (
    COSMOS_PROTOCOL,
    DEMO_PROTOCOL,
    HEAD_PROTOCOL,
    PATIENT_PROTOCOL,
    PATIENT_SITE,
    PHANTOM_PROTOCOL,
    POOR_SNR,
    SCANNERS,
    SITE_PROTOCOLS,
    SiteProtocol,
)
from .seeds import derived_seed, generator
from .structural import FLAIR, T1W

# Where the middle of the image is prescribed, mm in the head's coordinates.
HEAD_CENTRE = (0.0, -18.0, 5.0)
PHANTOM_LABEL = "phantom"

# Standard deviations: about the axes x, y and z of the scanner in degrees, along them in mm.
POSITION_SPREAD = {
    "head": ((5.0, 2.0, 2.0), (4.0, 4.0, 6.0)),
    "phantom": ((0.7, 0.7, 5.0), (3.0, 3.0, 5.0)),
}
PRESCRIPTION_SPREAD = ((2.0, 1.0, 1.0), (2.0, 2.0, 2.0))
MOTION_SPREAD = {"head": ((0.3, 0.2, 0.2), (0.3, 0.3, 0.5)), "phantom": ((0.0,) * 3, (0.0,) * 3)}
DRIFT_SPREAD = 0.01  # of B0, ppm from one run of a session to the next

# Turns of the head in a study of several positions, degrees about the axes x, y and z of the
# scanner: about as far as a head coil allows. The sum of the squared dipole kernels is then nowhere
# less than a third of its largest value.
POSITIONS = ((0, 0, 0), (20, 0, 0), (-20, 0, 0), (0, 20, 0), (0, -20, 0))

# Nine people of 23 to 37 years, 28 ± 5, seven men. Further people repeat these ages and sexes.
AGES = (25, 34, 23, 28, 37, 24, 30, 26, 25)
SEXES = "MFMMMFMMM"


@dataclass(frozen=True)
class _Outline:
    """A design's numbers of people and runs, its sequences, its sites (all by default), and how the
    head is turned in each run (not at all by default).
    """

    subjects: int
    runs: int
    head: Protocol = HEAD_PROTOCOL
    phantom: Protocol | None = PHANTOM_PROTOCOL
    sites: tuple[str, ...] | None = None
    rotations: tuple[tuple[float, float, float], ...] = ()


OUTLINES = {
    "study": _Outline(subjects=9, runs=5),
    "phantom": _Outline(subjects=0, runs=5),
    "demo": _Outline(subjects=2, runs=2, head=DEMO_PROTOCOL, phantom=None),
    "cosmos": _Outline(
        subjects=1,
        runs=len(POSITIONS),
        head=COSMOS_PROTOCOL,
        phantom=None,
        sites=("A",),
        rotations=POSITIONS,
    ),
}


def make_design(
    name: str,
    *,
    subjects: int | None = None,
    runs: int | None = None,
    sites: Sequence[str] | None = None,
    voxel_size: Vector | None = None,
    vary_protocols: bool = False,
    flow_phase: float = 0.0,
    effects: Effects = IDEAL,
    seed: int = 0,
) -> Design:
    """Plan every scan of a study.

    Parameters
    ----------
    name : {'study', 'phantom', 'demo', 'cosmos'}
        ``study``: travelling heads at three sites, and the phantom at each. ``phantom``: the
        phantom alone. ``demo``: fewer and coarser heads. ``cosmos``: one head at one site, in each
        run turned to another of `POSITIONS`, and the image with it.
    subjects : int, optional
        Number of people, without the phantom; that of the design by default.
    runs : int, optional
        Scans in a session; the design's number by default.
    sites : sequence of str, optional
        Labels of the sites; all of them by default.
    voxel_size : sequence of float, optional
        Voxel size (mm) in the same field of view; the design's by default.
    vary_protocols : bool
        Scan heads at each site by the site's own protocol, see `SITE_PROTOCOLS`: voxel size and
        echo times differ. The phantom's protocol is the same everywhere.
    flow_phase : float
        Greatest phase (rad) of moving CSF, see `ScanPlan`.
    effects : Effects
        What makes the scans rougher than ideal ones.
    seed : int
        Seed of all random numbers.

    Returns
    -------
    Design

    Raises
    ------
    ValueError
        If there is no such design or site, if a number is below 1, or if a design without people is
        asked for people or varying protocols.

    Examples
    --------
    >>> design = make_design("study")
    >>> len(design.plans), design.plans[0].entities
    (150, {'subject': '01', 'session': 'A', 'run': '1'})

    One scan with its truth, which takes some seconds:

    >>> scan = simulate(make_design("demo").plans[0])  # doctest: +SKIP
    >>> scan.signal.shape[:3] == scan.chi.shape  # doctest: +SKIP
    True
    """
    if name not in OUTLINES:
        raise ValueError(
            f"no design {name!r}: choose one of {', '.join(OUTLINES)}; make_patient_design plans "
            "that of the thalamus, from the patients of draw_patients"
        )
    outline = OUTLINES[name]
    if subjects and not outline.subjects:
        raise ValueError(f"the design {name} has no subjects: leave out their number ({subjects})")
    if vary_protocols and not outline.subjects:
        raise ValueError(
            f"the design {name} has no heads: only protocols of heads can vary between sites"
        )
    if subjects is None:
        subjects = outline.subjects
    if runs is None:
        runs = outline.runs
    if subjects < min(1, outline.subjects) or runs < 1:
        raise ValueError(
            f"{subjects} subjects with {runs} runs: there must be at least one of each"
        )
    if outline.rotations and runs > len(outline.rotations):
        raise ValueError(
            f"the design {name} has {len(outline.rotations)} head positions, one for each run: "
            f"{runs} runs are too many"
        )
    if sites is None:
        sites = outline.sites
    protocols = {"head": outline.head, "phantom": outline.phantom}
    if voxel_size is not None:
        for model, protocol in protocols.items():
            protocols[model] = protocol and _resized(protocol, voxel_size)
    participants = []
    for n in range(subjects):
        age = AGES[n % len(AGES)]
        participants.append(Participant(f"{n + 1:02}", n, age=age, sex=SEXES[n % len(AGES)]))
    if outline.phantom is not None:
        # Its number is that of no person, whatever their number.
        participants.append(Participant(PHANTOM_LABEL, 2**31, model="phantom"))
    plans = []
    visits = product(participants, _numbered_scanners(sites), range(runs))
    for participant, (visit, scanner), run in visits:
        plan = _plan(participant, scanner, visit, run, protocols[participant.model], seed)
        plan = replace(plan, flow_phase=flow_phase, effects=effects)
        if outline.rotations:
            plan = _rotated(plan, outline.rotations[run])
        plans.append(_with_site_protocol(plan) if vary_protocols else plan)
    summary = _summary(name, voxel_size, flow_phase, effects, seed, vary_protocols=vary_protocols)
    return Design(name, summary, tuple(plans), effects)


def make_patient_design(
    patients: Sequence[Patient],
    *,
    voxel_size: Vector | None = None,
    flow_phase: float = 0.0,
    effects: Effects = IDEAL,
    seed: int = 0,
) -> Design:
    """Plan the scans of a cohort at one site: gradient echo, FLAIR and T1-weighted.

    Parameters
    ----------
    patients : sequence of multiqsm.simulation.cohort.Patient
        The cohort, from its first patient on.
    voxel_size : sequence of float, optional
        Voxel size (mm) of all images in the same fields of view; that of each protocol by default.
    flow_phase : float
        Greatest phase (rad) of moving CSF, see `ScanPlan`.
    effects : Effects
        What makes the scans rougher than ideal ones.
    seed : int
        Seed of all random numbers.

    Returns
    -------
    Design
        A design named ``thalamus`` with one plan for each patient.
    """
    protocol = PATIENT_PROTOCOL
    structural = (FLAIR, T1W)
    if voxel_size is not None:
        protocol = _resized(protocol, voxel_size)
        structural = (_resized(FLAIR, voxel_size), _resized(T1W, voxel_size))
    visit, scanner = _numbered_scanners([PATIENT_SITE])[0]
    plans = []
    for number, patient in enumerate(patients):
        participant = Participant(patient.label, number, age=patient.age, sex=patient.sex)
        plan = _plan(participant, scanner, visit, 0, protocol, seed)
        if patient.image_quality == "poor":
            plan = replace(plan, protocol=replace(plan.protocol, snr=POOR_SNR))
        plan = replace(
            plan,
            entities={"subject": patient.label},
            flow_phase=flow_phase,
            effects=effects,
            patient=patient,
            structural=structural,
        )
        plans.append(plan)
    summary = _summary("thalamus", voxel_size, flow_phase, effects, seed)
    return Design("thalamus", summary, tuple(plans), effects)


def _summary(name, voxel_size, flow_phase, effects, seed, *, vary_protocols=False):
    if voxel_size is None:
        sizes = "own voxels"
    else:
        x, y, z = voxel_size
        sizes = f"voxels of {x:g}×{y:g}×{z:g} mm"
    flow = f"flow phase {flow_phase:g} rad, " if flow_phase else ""
    varied = "protocols that differ between sites, " if vary_protocols else ""
    names = ", ".join(effects.switched_on()).replace("_", " ")
    rough = f"with {names}, " if names else ""
    return f"design {name}, {sizes}, {varied}{flow}{rough}seed {seed}"


def _plan(participant, scanner, visit, run, protocol, seed):
    """Plan one scan; `visit` is the number of the scanner's site, runs count from 0."""
    model = participant.model
    key = (participant.number, visit)
    centre = Placement(translation=HEAD_CENTRE if model == "head" else (0.0, 0.0, 0.0))
    settled = _draw_placement(generator(seed, "position", *key), POSITION_SPREAD[model])
    # Motion is relative to the first run.
    moved = Placement()
    if run:
        moved = _draw_placement(generator(seed, "motion", *key, run), MOTION_SPREAD[model])
    slip = _draw_placement(generator(seed, "prescription", *key), PRESCRIPTION_SPREAD)
    return ScanPlan(
        entities={"subject": participant.label, "session": scanner.site, "run": str(run + 1)},
        participant=participant,
        scanner=scanner,
        protocol=replace(protocol, imaging_frequency=scanner.imaging_frequency, snr=scanner.snr),
        anatomy_seed=derived_seed(seed, "anatomy", participant.number),
        scan_seed=derived_seed(seed, "scan", *key, run),
        position=moved.after(settled),
        prescription=settled.after(centre).after(slip),
        session_seed=derived_seed(seed, "session", *key),
        b0_drift=run * DRIFT_SPREAD * float(generator(seed, "drift", *key).standard_normal()),
    )


def _rotated(plan, angles):
    """Return the plan with the head turned, and the image with it as prescribed on a scout."""
    rotation = Placement(rotation=angles)
    return replace(
        plan,
        position=rotation.after(plan.position),
        prescription=rotation.after(plan.prescription),
    )


def _with_site_protocol(plan):
    """Return the plan with its site's own protocol, if it is a head's."""
    if plan.participant.model != "head":
        return plan
    own = SITE_PROTOCOLS[plan.scanner.site]
    protocol = plan.protocol
    if own.echo_times is not None:
        protocol = replace(protocol, echo_times=own.echo_times)
    if own.voxel_ratio != SiteProtocol.voxel_ratio:
        protocol = _resized(protocol, np.multiply(protocol.voxel_size, own.voxel_ratio))
    return replace(plan, protocol=protocol)


def _numbered_scanners(sites):
    """Return the scanners of some sites with their numbers among all scanners."""
    labels = [scanner.site for scanner in SCANNERS]
    if sites is None:
        sites = labels
    unknown = [site for site in sites if site not in labels]
    if unknown:
        raise ValueError(f"no site {', '.join(unknown)}: choose from {', '.join(labels)}")
    return [(n, scanner) for n, scanner in enumerate(SCANNERS) if scanner.site in sites]


def _resized(protocol, voxel_size):
    """Sample the same field of view by an even number of other voxels along each axis."""
    extent = np.multiply(protocol.shape, protocol.voxel_size)
    shape = np.maximum(2 * np.rint(extent / np.asarray(voxel_size) / 2).astype(int), 2)
    return replace(protocol, shape=tuple(shape.tolist()), voxel_size=tuple(map(float, voxel_size)))


def _draw_placement(rng, spread):
    """Draw a rigid transform from its standard deviations."""
    rotation_sd, translation_sd = spread
    rotation = rotation_sd * rng.standard_normal(3)
    translation = translation_sd * rng.standard_normal(3)
    return Placement(tuple(rotation.tolist()), tuple(translation.tolist()))
