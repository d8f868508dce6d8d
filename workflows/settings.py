"""What a run does, as one value that is passed along; the studies' choices under their names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InversionMethod:
    """What graphs and options must know of an inversion.

    Attributes
    ----------
    needs_edges : bool
        Whether it takes the magnitude, for its edges.
    needs_variance : bool
        Whether its discrepancy principle takes the variance of the field's noise; MEDI's takes the standard error.
    standard_error : {"closed form", "realisations"} or None
        How the standard error of its map is found, if it is.
    lambda_option : str or None
        Which of the `Settings` fixes its λ, if it has one.
    is_default : bool
        Whether it is made if no other is asked for.
    """

    needs_edges: bool = False
    needs_variance: bool = False
    standard_error: str | None = None
    lambda_option: str | None = None
    is_default: bool = True


# The best first: it is shown where there is room for one.
INVERSIONS = {
    "medi": InversionMethod(needs_edges=True, standard_error="realisations", lambda_option="medi_lambda"),
    "iterative": InversionMethod(
        needs_edges=True, needs_variance=True, standard_error="realisations", lambda_option="lambda_value"
    ),
    "deterministic": InversionMethod(needs_variance=True, standard_error="closed form", lambda_option="lambda_value"),
    "tkd": InversionMethod(is_default=False),
}
DEFAULT_INVERSIONS = tuple(name for name, method in INVERSIONS.items() if method.is_default)
BACKGROUNDS = ("joint", "pdf", "vsharp", "sharp", "highpass")
ROI_SPACES = ("subject", "scan")
SUBJECT_SPACES = ("middle", "first")
UNWRAPPINGS = ("spatial", "temporal")
DATA_WEIGHTS = ("noise", "none")
LAMBDA_RULES = ("gcv", "discrepancy")
MEDI_DATA = ("nonlinear", "linear")


@dataclass(frozen=True)
class Settings:
    """Choices of a run; the defaults are what measured best.

    Attributes
    ----------
    inversions : tuple of str
        Which susceptibility maps to make; the first is shown where there is room for one.
    background : str
        Background field removal.
    unwrapping : str
        Later echoes follow a line in time. What that leaves is smooth in space (``spatial``), or less than half a turn
        (``temporal``).
    lambda_rule : str
        ``gcv`` or ``discrepancy``. MEDI knows no ``gcv``: its λ is then proportional to the residual.
    lambda_value : float or None
        A fixed λ of the quadratic inversions (all but MEDI) in mm, instead of a rule.
    medi_lambda : float or None
        A fixed λ of MEDI in ppm·mm, instead of a rule.
    medi_data : str
        ``nonlinear``: MEDI compares phase factors, which whole turns leave as they are; ``linear``: the field.
    model_error : bool
        Whether MEDI believes voxels less whose field no susceptibility explains.
    edge_share : float or None
        Share of the brain's magnitude gradients that count as edges, along each axis; None takes those that stand
        out of the noise.
    data_weight : str
        ``noise``: the iterative inversion believes noisy voxels less; ``none``: all alike.
    outside_weight : float or None
        How far the iterative inversion believes that the field outside the brain is zero, 0 to 1; None derives it
        from the field's noise and its size at the brain's surface.
    harmonize : bool
        Bring every head scan to what all head scans of the dataset have in common: voxel size, range of echo
        times, automatic mask.
    reference : str
        Region whose mean susceptibility is zero in tables and in the subject space: ``brain``, ``csf`` (a label, or
        the lateral ventricles found by themselves), ``atrium`` (small spheres in the atrium of each lateral
        ventricle) or the name of any label.
    atrium_radius : float
        Of these spheres, mm.
    subject_space : str
        ``middle``: the space in the middle of a person's scans; ``first``: the first scan's.
    atlas : str or None
        Atlas in MNI space, by name or label image, for people on whose scans no regions are drawn.
    template_warp : bool
        Whether the template is warped to the person as well, beyond an affine transform.
    roi_space : str
        Where regions are measured: ``subject``, on the maps carried there, or ``scan``, the regions carried to each.
    roi_erosion : float
        Depth in mm by which regions are eroded before they are measured.
    roi_smoothing : float
        Full width at half maximum, mm, of the Gaussian that smooths the surfaces of drawn and of FreeSurfer's regions.
    exclude_veins : bool
        Whether veins in a region are left out, and those along the thalamus's medial and lower surface.
    recon_all : bool
        Whether FreeSurfer is run for people without its labels.
    se_draws : int
        Realisations of noise from which standard errors are estimated where there is no closed form; 0 for none.
    phase_sign : int
        Sign of the phase; 0 takes the manufacturer's.
    """

    inversions: tuple[str, ...] = DEFAULT_INVERSIONS
    background: str = "joint"
    unwrapping: str = "spatial"
    lambda_rule: str = "gcv"
    lambda_value: float | None = None
    medi_lambda: float | None = None
    medi_data: str = "nonlinear"
    model_error: bool = True
    edge_share: float | None = None
    data_weight: str = "noise"
    outside_weight: float | None = None
    harmonize: bool = False
    reference: str = "csf"
    atrium_radius: float = 2.5
    subject_space: str = "middle"
    atlas: str | None = None
    template_warp: bool = False
    roi_space: str = "subject"
    roi_erosion: float = 0.0
    roi_smoothing: float = 0.0
    exclude_veins: bool = False
    recon_all: bool = False
    se_draws: int = 4
    phase_sign: int = 0

    @property
    def standard_errors(self):
        """Inversions whose maps come with a standard error: the closed form's costs nothing."""
        wanted = ("closed form", "realisations") if self.se_draws > 0 else ("closed form",)
        return tuple(name for name in self.inversions if INVERSIONS[name].standard_error in wanted)


# The 2015 study: λ by the discrepancy principle, its equation without data weights, and an edge mask as MEDI's,
# 30 % of the gradients. The 2018 study of the thalamus: MEDI as its publication has it, and its reference; smoothing by
# 1 mm and the automatic search for veins stand for the hand that drew.
PRESETS = {
    "default": Settings(),
    "lin2015": Settings(
        inversions=("iterative", "deterministic"),
        background="pdf",
        lambda_rule="discrepancy",
        edge_share=0.3,
        data_weight="none",
        outside_weight=1.0,
    ),
    "chiang2018": Settings(
        inversions=("medi",),
        background="pdf",
        lambda_rule="discrepancy",
        edge_share=0.3,
        model_error=False,
        reference="atrium",
        roi_smoothing=1.0,
        exclude_veins=True,
    ),
}
