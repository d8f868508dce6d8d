"""The scanners and protocols of the studies that are simulated."""

from dataclasses import dataclass

from .protocol import Protocol, Receiver


@dataclass(frozen=True)
class Scanner:
    """One site's scanner.

    Parameters
    ----------
    site : str
        Label of the site, and of a participant's session there.
    vendor : {'siemens', 'ge'}
        Vendor whose encoding the images have.
    manufacturer, model : str
        Manufacturer and model as in the vendor's files.
    field_strength : float
        Nominal field strength, T.
    imaging_frequency : float
        Centre frequency, MHz.
    channels : int
        Channels of the head coil.
    snr : float
        Signal-to-noise ratio of the first echo.
    """

    site: str
    vendor: str
    manufacturer: str
    model: str
    field_strength: float
    imaging_frequency: float
    channels: int
    snr: float

    @property
    def receiver(self) -> Receiver:
        """The coil: Siemens magnitudes are the sum of squares, GE's are of the combination."""
        return Receiver(self.channels, sum_of_squares=self.vendor == "siemens")


SCANNERS = (
    Scanner("A", "siemens", "Siemens", "Skyra", 3.0, 123.2516, 16, 185.0),
    Scanner("B", "siemens", "Siemens", "Skyra", 3.0, 123.1938, 16, 165.0),
    Scanner("C", "ge", "GE MEDICAL SYSTEMS", "DISCOVERY MR750", 3.0, 127.7243, 8, 260.0),
)
HEAD_PROTOCOL = Protocol()
PHANTOM_PROTOCOL = Protocol(
    shape=(224, 216, 92),
    echo_times=(0.0026, 0.0066, 0.0106, 0.0146, 0.0186, 0.0226),
    repetition_time=0.03,
    flip_angle=30.0,
)
DEMO_PROTOCOL = Protocol(
    shape=(96, 112, 52),
    voxel_size=(2.0, 2.0, 2.5),
    echo_times=(0.006, 0.014, 0.022, 0.030),
    repetition_time=0.045,
)

# The whole brain in every head position.
COSMOS_PROTOCOL = Protocol(
    shape=(112, 128, 84),
    voxel_size=(2.0, 2.0, 2.0),
    echo_times=(0.006, 0.012, 0.018, 0.024, 0.030, 0.036),
)

# The first echo time is published. The later ones are our choice: as many as fit into the first
# half of the repetition time.
PATIENT_PROTOCOL = Protocol(
    shape=(320, 416, 64),
    voxel_size=(0.5, 0.5, 2.0),
    echo_times=(0.0043, 0.0091, 0.0139, 0.0187, 0.0235, 0.0283),
    repetition_time=0.057,
    flip_angle=20.0,
)
PATIENT_SITE = "C"
POOR_SNR = 20.0  # of patients whose images are too poor to be analysed


@dataclass(frozen=True)
class SiteProtocol:
    """Differences of a site's head scans from the design's, where protocols vary.

    Parameters
    ----------
    voxel_ratio : tuple of float
        Voxel size relative to the design's, along each axis. The field of view stays.
    echo_times : tuple of float or None
        s; None for the design's own.
    """

    voxel_ratio: tuple[float, float, float] = (1.0, 1.0, 1.0)
    echo_times: tuple[float, ...] | None = None


# Site A keeps the design's protocol. B has finer voxels in thicker slices and begins and ends
# earlier; C has coarser voxels in thinner slices, and fewer echoes.
SITE_PROTOCOLS = {
    "A": SiteProtocol(),
    "B": SiteProtocol((0.8, 0.8, 1.2), (0.004, 0.009, 0.014, 0.019, 0.024, 0.029, 0.034)),
    "C": SiteProtocol((1.2, 1.2, 0.8), (0.005, 0.012, 0.019, 0.026, 0.033)),
}
