"""What is simulated, as data, and the simulation of one scan of it."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.spatial.transform import Rotation

from .acquisition import Protocol, acquire
from .cohort import Patient, affected
from .grid import scan_affine
from .head import anatomy, draw_subject, head_model
from .phantom import phantom_model
from .scanners import Scanner
from .seeds import generator
from .specimen import magnetize
from .structural import Structural, simulate_structural


@dataclass(frozen=True)
class Placement:
    """A rigid transform from an object's or an image's axes to the scanner's.

    Parameters
    ----------
    rotation : tuple of float
        Rotation vector, degrees.
    translation : tuple of float
        mm, after the rotation.
    """

    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def matrix(self):
        """The transform as an array of shape (4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(self.rotation, degrees=True).as_matrix()
        matrix[:3, 3] = self.translation
        return matrix

    def after(self, first):
        """This transform after another."""
        matrix = self.matrix @ first.matrix
        turn = Rotation.from_matrix(matrix[:3, :3]).as_rotvec(degrees=True)
        return Placement(tuple(turn.tolist()), tuple(matrix[:3, 3].tolist()))


@dataclass(frozen=True)
class Participant:
    """Who is scanned.

    Parameters
    ----------
    label : str
        Of the participant, without ``sub-``.
    number : int
        Counted from 0, whoever else takes part.
    model : {'head', 'phantom'}
        What is scanned.
    age : float or None
        Years.
    sex : str or None
        ``M`` or ``F``.
    """

    label: str
    number: int
    model: str = "head"
    age: float | None = None
    sex: str | None = None

    @property
    def species(self):
        """As in the column ``species`` of ``participants.tsv``."""
        return "phantom" if self.model == "phantom" else "homo sapiens"


@dataclass(frozen=True)
class ScanPlan:
    """All that one scan depends on.

    Parameters
    ----------
    entities : dict of str
        ``subject``, and in a study of travelling people ``session`` and ``run``.
    participant : Participant
        Who is scanned.
    scanner : Scanner
        Where.
    protocol : Protocol
        How: the design's sequence with the scanner's centre frequency and signal-to-noise ratio.
    anatomy_seed, scan_seed : int
        Of the participant's anatomy, and of shim error, coil and noise of this scan.
    position : Placement
        Of the object in the scanner during this scan.
    prescription : Placement
        Of the image in the scanner.
    b0_drift : float
        Offset of B0 since the session began, ppm.
    flow_phase : float
        Greatest phase (rad) at the last echo of the CSF that moves in a head's lateral ventricles.
    patient : multiqsm.simulation.cohort.Patient, optional
        Whose disease the head has.
    structural : tuple of multiqsm.simulation.structural.Structural
        Anatomical images that are made with the scan.
    """

    entities: dict[str, str]
    participant: Participant
    scanner: Scanner
    protocol: Protocol
    anatomy_seed: int
    scan_seed: int
    position: Placement
    prescription: Placement
    b0_drift: float
    flow_phase: float = 0.0
    patient: Patient | None = None
    structural: tuple[Structural, ...] = ()

    @property
    def affine(self):
        """From the image's voxels to the scanner's axes (mm), shape (4, 4)."""
        rotation = self.prescription.matrix[:3, :3]
        centre = self.prescription.translation
        return scan_affine(
            self.protocol.shape, self.protocol.voxel_size, rotation=rotation, centre=centre
        )

    @property
    def subject(self):
        """The person, a `head.Subject`; None for a phantom."""
        if self.participant.model == "phantom":
            return None
        person = draw_subject(self.anatomy_seed, self.participant.age)
        if self.patient is None:
            return person
        return affected(person, self.patient, generator(self.anatomy_seed, "lesions"))


@dataclass(frozen=True)
class Design:
    """A study to simulate.

    Parameters
    ----------
    name : str
        ``study``, ``phantom``, ``demo`` or ``thalamus``.
    summary : str
        In words, what every scan of the design depends on: its name, voxel size, whether sites
        differ in protocol, flow (if any) and seed.
    plans : tuple of ScanPlan
        One a scan.
    """

    name: str
    summary: str
    plans: tuple[ScanPlan, ...]

    @property
    def participants(self):
        """Those who are scanned, in order, each once."""
        return tuple({plan.participant.label: plan.participant for plan in self.plans}.values())

    @property
    def sessions(self):
        """Scanners that each participant goes to, by the participant's label."""
        visits = {participant.label: {} for participant in self.participants}
        for plan in self.plans:
            visits[plan.participant.label][plan.scanner.site] = plan.scanner
        return {label: tuple(scanners.values()) for label, scanners in visits.items()}


def simulate(plan, *, workers=1):
    """Make one scan.

    Parameters
    ----------
    plan : ScanPlan
        The scan.
    workers : int
        Threads. The result does not depend on it.

    Returns
    -------
    multiqsm.simulation.acquisition.Scan
    """
    if plan.participant.model == "phantom":
        model = partial(phantom_model, pose=plan.position.matrix)
        flowing = ()
    else:
        flowing = (anatomy()["labels"]["lateral_ventricle"],)
        model = partial(head_model, plan.subject, pose=plan.position.matrix, workers=workers)
    protocol = plan.protocol
    specimen = magnetize(
        model, plan.affine, protocol.shape, oversampling=protocol.oversampling, workers=workers
    )
    return acquire(
        specimen,
        protocol,
        plan.scan_seed,
        b0_drift=plan.b0_drift,
        flow_phase=plan.flow_phase,
        flow_labels=flowing,
        workers=workers,
    )


def simulate_anatomy(plan, *, workers=1):
    """Make the anatomical images that go with a scan.

    Parameters
    ----------
    plan : ScanPlan
        The scan.
    workers : int
        Threads. The result does not depend on it.

    Yields
    ------
    sequence : multiqsm.simulation.structural.Structural
        Which image.
    image, labels, affine : ndarray
        As of `multiqsm.simulation.structural.simulate_structural`.
    """
    for number, sequence in enumerate(plan.structural):
        rng = generator(plan.scan_seed, "structural", number)
        where = (plan.position.matrix, plan.prescription.matrix)
        yield sequence, *simulate_structural(sequence, plan.subject, *where, rng, workers=workers)
