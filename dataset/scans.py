"""A gradient-echo scan: its files and the metadata from its sidecars."""

from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from ..core.phase.encoding import GYROMAGNETIC_RATIO
from .entities import PARTS, scan_label
from .values import is_plain, plain

# Fields of the raw sidecars that are copied to those of the maps.
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
POLARITY_SOURCE = "phase of even echoes"  # how the polarity of the readout is determined


@dataclass(frozen=True)
class Scan:
    """A gradient-echo scan: its files, sorted by echo time, and the metadata from its sidecars.

    A scan has either `magnitude` and `phase` or `real` and `imaginary`; the other two are empty. If
    a part lacks the file of an echo, the checks in `multiqsm.dataset.preflight` report it.

    Attributes
    ----------
    entities : dict of str
        Entities that identify the scan, by the long names of BIDS, without echo and part.
    suffix : str
        ``MEGRE`` or ``T2starw``.
    magnitude, phase, real, imaginary : tuple of pathlib.Path
        One file for each echo.
    echo_times : tuple of float or None
        In seconds; None for echoes without an echo time in any sidecar.
    sidecars : dict of dict
        Metadata of each file including inherited fields, by file name.
    field_strength : float or None
        In tesla.
    imaging_frequency : float or None
        In MHz.
    manufacturer : str or None
        As in the sidecar.
    units : str or None
        ``Units`` of the phase.
    brain_mask : pathlib.Path or None
        The user's mask.
    site, site_source : str
        The site, and where it was read.
    is_phantom : bool
        Whether the participant's ``species`` in participants.tsv is phantom.
    readout_polarity : str or None
        ``monopolar`` or ``bipolar``, as the images of a checked scan show it; None if they do not.
    alternating_axes : tuple of int
        Axes along which the sign alternates from voxel to voxel in a checked scan; it is undone.
    notes : tuple of str
        Remarks for the user on how the files were grouped.
    decisions : tuple of str
        How files and sidecars were read where they could be read otherwise, for the audit's table
        and the sidecars of the maps.
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
    readout_polarity: str | None = None
    alternating_axes: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[Path, ...]]:
        """Files of each part that the scan has."""
        return {part: getattr(self, part) for part in PARTS.values() if getattr(self, part)}

    @property
    def files(self) -> tuple[Path, ...]:
        """All image files, part by part."""
        return tuple(chain.from_iterable(self.parts.values()))

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
        """Centre frequency in MHz, and the sidecar field it comes from; None and None if unknown.

        ImagingFrequency has precedence: the nominal field strength of some scanners is wrong by a
        few percent, and so would be all values in ppm.
        """
        if self.imaging_frequency is not None:
            return self.imaging_frequency, "ImagingFrequency"
        if self.field_strength is not None:
            return GYROMAGNETIC_RATIO * self.field_strength, "MagneticFieldStrength, nominal"
        return None, None

    @property
    def metadata(self) -> dict:
        """Scanner and sequence from the first file's sidecar: texts, numbers and lists of them."""
        sidecar = self.sidecars.get(self.files[0].name, {}) if self.files else {}
        metadata = {}
        for field_name in COPIED_METADATA:
            if field_name in sidecar and is_plain(sidecar[field_name]):
                metadata[field_name] = plain(sidecar[field_name])
        return metadata
