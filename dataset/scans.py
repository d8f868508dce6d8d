"""A gradient-echo scan: its files, and what its sidecars say."""

from dataclasses import dataclass, field
from pathlib import Path

from ..core.phase.encoding import GYROMAGNETIC_RATIO
from .entities import PARTS, scan_label
from .values import is_plain, plain

COPIED_METADATA = (
    "Manufacturer",
    "ManufacturersModelName",
    "MagneticFieldStrength",
    "ImagingFrequency",
    "InstitutionName",
    "StationName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "ReceiveCoilName",
    "CoilCombinationMethod",
    "PulseSequenceType",
    "PulseSequenceDetails",
    "ScanningSequence",
    "SequenceVariant",
    "SequenceName",
    "MRAcquisitionType",
    "RepetitionTime",
    "RepetitionTimeExcitation",
    "FlipAngle",
    "PixelBandwidth",
    "ScanOptions",
    "PartialFourier",
    "PartialFourierDirection",
    "ParallelAcquisitionTechnique",
    "ParallelReductionFactorInPlane",
    "ParallelReductionFactorOutOfPlane",
)


@dataclass(frozen=True)
class Scan:
    """One multi-echo gradient-echo scan: its files, sorted by echo time, and what its sidecars say.

    Either `magnitude` and `phase` are there, or `real` and `imaginary`; the others are empty. A
    scan as found may lack a file of one echo: `multiqsm.dataset.preflight.brain_mask` says so.

    Attributes
    ----------
    entities : dict of str
        What identifies the scan, by the long names of BIDS, without echo and part.
    suffix : str
        ``MEGRE`` or ``T2starw``.
    magnitude, phase, real, imaginary : tuple of pathlib.Path
        One file for each echo.
    echo_times : tuple of float or None
        In seconds; None where no sidecar has it.
    sidecars : dict of dict
        Metadata of each file, inherited fields included, by file name.
    field_strength : float or None
        In tesla.
    imaging_frequency : float or None
        In MHz.
    manufacturer : str or None
        As the sidecar has it.
    units : str or None
        ``Units`` of the phase.
    brain_mask : pathlib.Path or None
        A mask that the user brought.
    site, site_source : str
        The site, and what told it.
    is_phantom : bool
        The participant's ``species`` in participants.tsv is phantom.
    notes : tuple of str
        Decisions taken while the files were put together, for the user to read.
    """

    entities: dict[str, str]
    suffix: str
    magnitude: tuple[Path, ...] = ()
    phase: tuple[Path, ...] = ()
    real: tuple[Path, ...] = ()
    imaginary: tuple[Path, ...] = ()
    echo_times: tuple[float | None, ...] = ()
    sidecars: dict[str, dict] = field(default_factory=dict, repr=False)
    field_strength: float | None = None
    imaging_frequency: float | None = None
    manufacturer: str | None = None
    units: str | None = None
    brain_mask: Path | None = None
    site: str = "unknown"
    site_source: str = "nothing in the dataset"
    is_phantom: bool = False
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[Path, ...]]:
        """The parts that the scan consists of: a dict of part to its files."""
        return {part: getattr(self, part) for part in PARTS.values() if getattr(self, part)}

    @property
    def files(self) -> tuple[Path, ...]:
        """All image files, part by part."""
        return tuple(path for paths in self.parts.values() for path in paths)

    @property
    def label(self) -> str:
        """Readable label, such as ``sub-01_ses-A_acq-x_run-1``."""
        return scan_label(self.entities)

    @property
    def node_name(self) -> str:
        """The label as a name that Nipype accepts, such as ``sub_01_ses_A_acq_x_run_1``."""
        return self.label.replace("-", "_").replace("+", "plus")

    @property
    def centre_frequency(self) -> tuple[float, str] | tuple[None, None]:
        """Centre frequency in MHz, and what it was taken from; None and None if nothing tells it.

        A nominal field strength is off by percents on some scanners, and ppm with it, so
        ImagingFrequency comes first.
        """
        if self.imaging_frequency is not None:
            return self.imaging_frequency, "ImagingFrequency"
        if self.field_strength is not None:
            return GYROMAGNETIC_RATIO * self.field_strength, "MagneticFieldStrength, nominal"
        return None, None

    @property
    def metadata(self) -> dict:
        """What the first file's sidecar says of the scanner and the sequence, in texts, numbers and
        lists of them.
        """
        sidecar = self.sidecars.get(self.files[0].name, {}) if self.files else {}
        return {
            key: plain(sidecar[key])
            for key in COPIED_METADATA
            if key in sidecar and is_plain(sidecar[key])
        }
