"""The studies that are simulated, as data: who is scanned where, how, and how often.

A design is a list of plans, one a scan. Each plan has all that its scan depends on, and its random
numbers come from a key of its own (what is drawn; numbers of participant, site and run): any scan
can be made alone, in any order and by any number of processes, and fewer participants, sites or
runs leave the others' scans as they are.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from .acquisition import Protocol
from .plan import Design, Participant, Placement, ScanPlan
from .scanners import (
    DEMO_PROTOCOL,
    HEAD_PROTOCOL,
    PATIENT_PROTOCOL,
    PATIENT_SITE,
    PHANTOM_PROTOCOL,
    SCANNERS,
    SITE_PROTOCOLS,
    SiteProtocol,
)
from .seeds import derived_seed, generator
from .structural import FLAIR, T1W

# mm in the head's coordinates, where the middle of the image is prescribed
HEAD_CENTRE = (
    0.0,
    -18.0,
    5.0,
)


PHANTOM_LABEL = "phantom"

# Standard deviations: about the axes x, y and z of the scanner in degrees, along them in mm.
POSITION_SPREAD = {
    "head": ((5.0, 2.0, 2.0), (4.0, 4.0, 6.0)),
    "phantom": ((0.7, 0.7, 5.0), (3.0, 3.0, 5.0)),
}


PRESCRIPTION_SPREAD = ((2.0, 1.0, 1.0), (2.0, 2.0, 2.0))


MOTION_SPREAD = {"head": ((0.3, 0.2, 0.2), (0.3, 0.3, 0.5)), "phantom": ((0.0,) * 3, (0.0,) * 3)}


DRIFT_SPREAD = 0.01  # ppm from one run to the next, of B0 in a session

# Nine people of 23 to 37 years, 28 ± 5, seven men; more people repeat their ages and sexes.
AGES = (25, 34, 23, 28, 37, 24, 30, 26, 25)


SEXES = "MFMMMFMMM"


@dataclass(frozen=True)
class _Outline:
    """What a design's name stands for: how many take part, how often, and the sequences."""

    subjects: int
    runs: int
    head: Protocol = HEAD_PROTOCOL
    phantom: Protocol | None = PHANTOM_PROTOCOL


OUTLINES = {
    "study": _Outline(subjects=9, runs=5),
    "phantom": _Outline(subjects=0, runs=5),
    "demo": _Outline(subjects=2, runs=2, head=DEMO_PROTOCOL, phantom=None),
}


def make_design(
    name,
    *,
    subjects=None,
    runs=None,
    sites=None,
    voxel_size=None,
    vary_protocols=False,
    flow_phase=0.0,
    seed=0,
):
    """Plan every scan of a study.

    Parameters
    ----------
    name : {'study', 'phantom', 'demo'}
        ``study``: travelling heads at three sites, and the phantom at each. ``phantom``: the
        phantom alone. ``demo``: fewer and coarser heads.
    subjects : int, optional
        How many people; the design's own number by default. The phantom is no person.
    runs : int, optional
        Scans in a session; the design's own number by default.
    sites : sequence of str, optional
        Labels of the sites; all of them by default.
    voxel_size : sequence of float, optional
        mm; the design's own by default. The field of view stays.
    vary_protocols : bool
        Scan heads at each site by the site's own protocol, see `SITE_PROTOCOLS`: voxel size and
        echo times differ. The phantom's protocol is the same everywhere.
    flow_phase : float
        As of `ScanPlan`.
    seed : int
        What all random numbers derive from.

    Returns
    -------
    Design

    Raises
    ------
    ValueError
        If there is no such design or site, if a number is below 1, or if people are to be scanned,
        or protocols of heads to vary, in a design that has none.

    Examples
    --------
    >>> design = make_design("study")
    >>> len(design.plans), design.plans[0].entities
    (150, {'subject': '01', 'session': 'A', 'run': '1'})
    """
    if name not in OUTLINES:
        raise ValueError(f"no design {name!r}; there are {', '.join(OUTLINES)}")
    outline = OUTLINES[name]
    if subjects and not outline.subjects:
        raise ValueError(f"the design {name} has no subjects to be {subjects} of")
    if vary_protocols and not outline.subjects:
        raise ValueError(f"the design {name} has no heads, whose protocols could vary")
    subjects, runs = (
        own if n is None else n for n, own in ((subjects, outline.subjects), (runs, outline.runs))
    )
    if subjects < min(1, outline.subjects) or runs < 1:
        raise ValueError(
            f"{subjects} subjects with {runs} runs: there must be at least one of each"
        )
    protocols = {"head": outline.head, "phantom": outline.phantom}
    if voxel_size is not None:
        protocols = {
            model: _resized(protocol, voxel_size)
            for model, protocol in protocols.items()
            if protocol
        }
    participants = [
        Participant(f"{n + 1:02}", n, age=AGES[n % len(AGES)], sex=SEXES[n % len(AGES)])
        for n in range(subjects)
    ]
    if outline.phantom is not None:
        # Its number is no person's, however many take part.
        participants.append(Participant(PHANTOM_LABEL, 2**31, model="phantom"))
    visits = product(participants, _numbered_scanners(sites), range(runs))
    plans = [
        _plan(who, scanner, visit, run, protocols[who.model], seed)
        for who, (visit, scanner), run in visits
    ]
    plans = [replace(plan, flow_phase=flow_phase) for plan in plans]
    if vary_protocols:
        plans = [_at_sites_protocol(plan) for plan in plans]
    summary = _summary(name, voxel_size, flow_phase, seed, vary_protocols=vary_protocols)
    return Design(name, summary, tuple(plans))


def make_patient_design(patients, *, voxel_size=None, flow_phase=0.0, seed=0):
    """Plan the scans of a cohort at one site: gradient echo, FLAIR and T1-weighted.

    Parameters
    ----------
    patients : sequence of multiqsm.simulation.cohort.Patient
        The cohort, from the first patient on.
    voxel_size : sequence of float, optional
        mm, of all images; their own by default. The fields of view stay.
    flow_phase : float
        As of `ScanPlan`.
    seed : int
        What all random numbers derive from.

    Returns
    -------
    Design
        Named ``thalamus``, one plan a patient.
    """
    sequences = (PATIENT_PROTOCOL, FLAIR, T1W)
    if voxel_size is not None:
        sequences = (_resized(sequence, voxel_size) for sequence in sequences)
    protocol, *structural = sequences
    visit, scanner = _numbered_scanners([PATIENT_SITE])[0]
    plans = []
    for number, patient in enumerate(patients):
        who = Participant(patient.label, number, age=patient.age, sex=patient.sex)
        plan = _plan(who, scanner, visit, 0, protocol, seed)
        entities = {"subject": patient.label}
        own = {"flow_phase": flow_phase, "patient": patient, "structural": tuple(structural)}
        plans.append(replace(plan, entities=entities, **own))
    return Design("thalamus", _summary("thalamus", voxel_size, flow_phase, seed), tuple(plans))


def _summary(name, voxel_size, flow_phase, seed, *, vary_protocols=False):
    sizes = (
        "own voxels"
        if voxel_size is None
        else f"voxels of {'×'.join(f'{v:g}' for v in voxel_size)} mm"
    )
    flow = f"flow phase {flow_phase:g} rad, " if flow_phase else ""
    varied = "protocols that differ between sites, " if vary_protocols else ""
    return f"design {name}, {sizes}, {varied}{flow}seed {seed}"


def _plan(participant, scanner, visit, run, protocol, seed):
    """Plan one scan: who, where (and the site's number), which run (counted from 0) and how."""
    model = participant.model
    key = (participant.number, visit)
    centre = Placement(translation=HEAD_CENTRE if model == "head" else (0.0, 0.0, 0.0))
    settled = _draw_placement(generator(seed, "position", *key), POSITION_SPREAD[model])
    # The first run finds the participant as positioned; motion is that since.
    moved = (
        _draw_placement(generator(seed, "motion", *key, run), MOTION_SPREAD[model])
        if run
        else Placement()
    )
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
        b0_drift=run * DRIFT_SPREAD * float(generator(seed, "drift", *key).standard_normal()),
    )


def _at_sites_protocol(plan):
    """The plan with its site's own protocol, if it is a head's."""
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
    """The scanners of some sites with their numbers among all."""
    labels = [scanner.site for scanner in SCANNERS]
    unknown = [site for site in sites or () if site not in labels]
    if unknown:
        raise ValueError(f"no site {', '.join(unknown)}; there are {', '.join(labels)}")
    return [
        (n, scanner) for n, scanner in enumerate(SCANNERS) if sites is None or scanner.site in sites
    ]


def _resized(protocol, voxel_size):
    """The same field of view in other voxels, an even number of them along each axis."""
    extent = np.multiply(protocol.shape, protocol.voxel_size)
    shape = np.maximum(2 * np.rint(extent / np.asarray(voxel_size) / 2).astype(int), 2)
    return replace(
        protocol, shape=tuple(shape.tolist()), voxel_size=tuple(float(v) for v in voxel_size)
    )


def _draw_placement(rng, spread):
    """Draw a rigid transform from its standard deviations."""
    rotation, translation = (
        tuple((np.asarray(sd) * rng.standard_normal(3)).tolist()) for sd in spread
    )
    return Placement(rotation, translation)
