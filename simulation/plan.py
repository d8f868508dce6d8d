"""The plan of a simulated study as data, and the simulation of a single scan."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from scipy.spatial.transform import Rotation

from .acquisition import Scan, acquire
from .cohort import Patient, with_disease
from .effects import IDEAL, Effects, effect_generator
from .effects.pathology import findings_record, with_findings
from .effects.phantom_defects import build_record, draw_build
from .effects.skull_base import draw_skull_base, skull_base_record
from .effects.temperature import ThermalState, thermal_state
from .effects.white_matter import add_white_matter, white_matter_records
from .fibres import draw_fibres
from .grid import scan_affine
from .head import Subject, anatomy, draw_subject, head_model
from .phantom import PERFECT, Build, phantom_model
from .protocol import Protocol
from .scanners import Scanner
from .seeds import generator
from .specimen import magnetize
from .structural import Structural, simulate_structural
from .veins import blood_flow


@dataclass(frozen=True)
class Placement:
    """A rigid transform from an object's or an image's axes to the scanner's.

    Parameters
    ----------
    rotation : tuple of float
        Rotation vector, degrees.
    translation : tuple of float
        Translation after the rotation, mm.
    """

    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def matrix(self) -> np.ndarray:
        """The transform as an array of shape (4, 4)."""
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.from_rotvec(self.rotation, degrees=True).as_matrix()
        matrix[:3, 3] = self.translation
        return matrix

    def after(self, first: "Placement") -> "Placement":
        """Compose this transform with one that is applied before it.

        Examples
        --------
        >>> quarter = Placement(rotation=(0, 0, 90))
        >>> shifted = quarter.after(Placement(translation=(10, 0, 0)))
        >>> np.round(shifted.translation, 6).tolist()
        [0.0, 10.0, 0.0]
        """
        matrix = self.matrix @ first.matrix
        rotation = Rotation.from_matrix(matrix[:3, :3]).as_rotvec(degrees=True)
        return Placement(tuple(rotation.tolist()), tuple(matrix[:3, 3].tolist()))


@dataclass(frozen=True)
class Participant:
    """A person or a phantom that is scanned.

    Parameters
    ----------
    label : str
        Label of the participant, without ``sub-``.
    number : int
        Number of the participant, which seeds their anatomy and scans. It does not depend on who
        else takes part.
    model : {'head', 'phantom'}
        Object that is scanned.
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
    def species(self) -> str:
        """The value of the column ``species`` in ``participants.tsv``."""
        return "phantom" if self.model == "phantom" else "homo sapiens"


@dataclass(frozen=True)
class ScanPlan:
    """Everything that one scan depends on.

    Parameters
    ----------
    entities : dict of str
        ``subject``, and in a study of travelling people ``session`` and ``run``.
    participant : Participant
        The person or phantom that is scanned.
    scanner : Scanner
        The scanner.
    protocol : Protocol
        The design's sequence with the scanner's centre frequency and signal-to-noise ratio.
    anatomy_seed, scan_seed : int
        Seeds of the participant's anatomy, and of shim error, coil and noise of this scan.
    position : Placement
        Position of the object in the scanner during this scan.
    prescription : Placement
        Position of the image in the scanner.
    b0_drift : float
        Offset of B0 since the session began, ppm.
    flow_phase : float
        Greatest phase (rad) of moving CSF in a head's lateral ventricles, at the last echo.
    patient : multiqsm.simulation.cohort.Patient, optional
        Patient whose disease the head has.
    structural : tuple of multiqsm.simulation.structural.Structural
        Anatomical images that are acquired in addition.
    effects : multiqsm.simulation.effects.Effects
        What makes the scan rougher than the ideal one.
    session_seed : int
        Seed of what all scans of a participant at one site share.
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
    effects: Effects = IDEAL
    session_seed: int = 0

    @property
    def affine(self) -> np.ndarray:
        """The image's affine, from voxels to the scanner's axes (mm), shape (4, 4)."""
        rotation = self.prescription.matrix[:3, :3]
        centre = self.prescription.translation
        return scan_affine(
            self.protocol.shape, self.protocol.voxel_size, rotation=rotation, centre=centre
        )

    @cached_property
    def subject(self) -> Subject | None:
        """The person's head; None for a phantom. It is drawn once, and asked for by many."""
        if self.participant.model == "phantom":
            return None
        age = self.participant.age
        if age is None:
            raise ValueError(f"the head {self.participant.label} has no age to draw its anatomy by")
        person = draw_subject(self.anatomy_seed, age)
        if self.patient is not None:
            rng = generator(self.anatomy_seed, "lesions")
            person = with_disease(person, self.patient, rng)
        if self.effects.pathology is not None:
            rng = effect_generator(self.anatomy_seed, "pathology")
            person = with_findings(person, self.effects.pathology, rng)
        if self.effects.skull_base is not None:
            rng = effect_generator(self.anatomy_seed, "skull_base")
            person = replace(person, cavities=draw_skull_base(self.effects.skull_base, rng))
        return person

    @property
    def thermal_state(self) -> ThermalState | None:
        """The phantom's temperature; None for a head and at the temperature of the room."""
        temperature = self.effects.of(self.participant.model).temperature
        if temperature is None:
            return None
        rng = effect_generator(self.session_seed, "temperature")
        return thermal_state(temperature, self.protocol, int(self.entities.get("run", 1)), rng)

    @property
    def build(self) -> Build:
        """How the phantom was built, with the susceptibility that it has in this scan."""
        defects = self.effects.phantom_defects
        build = PERFECT
        if defects is not None:
            build = draw_build(defects, effect_generator(self.anatomy_seed, "phantom_defects"))
        if self.thermal_state is None:
            return build
        return replace(build, susceptibility_factor=self.thermal_state.susceptibility_factor)


@dataclass(frozen=True)
class Design:
    """A study to simulate.

    Parameters
    ----------
    name : str
        ``study``, ``phantom``, ``demo``, ``cosmos`` or ``thalamus``.
    summary : str
        The design in words: its name, voxel size, whether sites differ in protocol, flow (if any)
        and seed.
    plans : tuple of ScanPlan
        One plan for each scan.
    effects : multiqsm.simulation.effects.Effects
        What makes its scans rougher than ideal ones.
    """

    name: str
    summary: str
    plans: tuple[ScanPlan, ...]
    effects: Effects = IDEAL

    @property
    def participants(self) -> tuple[Participant, ...]:
        """All participants in the order of their scans."""
        participants = {plan.participant.label: plan.participant for plan in self.plans}
        return tuple(participants.values())

    @property
    def sessions(self) -> dict[str, tuple[Scanner, ...]]:
        """Scanners that each participant visits, by the participant's label."""
        visits: dict[str, dict[str, Scanner]] = {}
        for plan in self.plans:
            scanners = visits.setdefault(plan.participant.label, {})
            scanners[plan.scanner.site] = plan.scanner
        return {label: tuple(scanners.values()) for label, scanners in visits.items()}


def simulate(plan: ScanPlan, *, workers: int = 1) -> Scan:
    """Simulate one scan.

    Parameters
    ----------
    plan : ScanPlan
        The scan.
    workers : int
        Number of threads. The result does not depend on it.

    Returns
    -------
    multiqsm.simulation.acquisition.Scan
    """
    subject = plan.subject
    pose = plan.position.matrix
    flow_labels: tuple[int, ...] = ()
    veins = None
    if subject is None:
        model = partial(phantom_model, pose=pose, build=plan.build)
    else:
        model = partial(head_model, subject, pose=pose, workers=workers)
        flow_labels = (anatomy()["labels"]["lateral_ventricle"],)
        veins = partial(blood_flow, subject, pose)
    protocol = plan.protocol
    specimen = magnetize(
        model, plan.affine, protocol.shape, oversampling=protocol.oversampling, workers=workers
    )
    if subject is not None:
        # A person's fibres are the same in all scans.
        fibres = draw_fibres(effect_generator(plan.anatomy_seed, "anisotropy"))
        specimen = add_white_matter(
            specimen,
            model,
            subject,
            fibres,
            pose=pose,
            anisotropy=plan.effects.anisotropy,
            microstructure=plan.effects.microstructure,
        )
    thermal = plan.thermal_state
    if thermal is not None:
        specimen = thermal.warm(specimen, pose)
    scan = acquire(
        specimen,
        protocol,
        plan.scan_seed,
        b0_drift=plan.b0_drift + (thermal.offset if thermal else 0.0),
        flow_phase=plan.flow_phase,
        flow_labels=flow_labels,
        blood_flow=veins,
        receiver=plan.scanner.receiver,
        field_drift=thermal.drift if thermal else 0.0,
        effects=plan.effects.of(plan.participant.model),
        session_seed=plan.session_seed,
        person_seed=plan.anatomy_seed,
        vendor=plan.scanner.vendor,
        workers=workers,
    )
    records = _object_records(plan)
    if subject is not None:
        records |= white_matter_records(
            scan.effect_fields, scan.mask, plan.effects.anisotropy, plan.effects.microstructure
        )
    for name, record in scan.effects.items():
        records[name] = {**records.get(name, {}), **record}
    return replace(scan, effects=records)


def _object_records(plan):
    """Return what was drawn for the object of a scan, by the effect's name."""
    records = {}
    effects = plan.effects.of(plan.participant.model)
    if effects.pathology is not None:
        records["pathology"] = findings_record(plan.subject)
    if effects.skull_base is not None:
        records["skull_base"] = skull_base_record(plan.subject.cavities)
    if effects.phantom_defects is not None:
        records["phantom_defects"] = build_record(plan.build)
    if effects.temperature is not None:
        records["temperature"] = plan.thermal_state.record
    return records


def simulate_anatomy(
    plan: ScanPlan, *, workers: int = 1
) -> Iterator[tuple[Structural, np.ndarray, np.ndarray, np.ndarray]]:
    """Simulate the anatomical images that are acquired with a scan.

    Parameters
    ----------
    plan : ScanPlan
        The scan.
    workers : int
        Number of threads. The result does not depend on it.

    Yields
    ------
    sequence : multiqsm.simulation.structural.Structural
        The image's sequence.
    image, labels, affine : ndarray
        The image, see `multiqsm.simulation.structural.simulate_structural`.

    Raises
    ------
    ValueError
        If the plan is a phantom's and has anatomical images.
    """
    subject = plan.subject
    position = plan.position.matrix
    prescription = plan.prescription.matrix
    for number, sequence in enumerate(plan.structural):
        if subject is None:
            raise ValueError("anatomical images are simulated of heads, not of phantoms")
        rng = generator(plan.scan_seed, "structural", number)
        image, labels, affine = simulate_structural(
            sequence, subject, position, prescription, rng, workers=workers
        )
        yield sequence, image, labels, affine
