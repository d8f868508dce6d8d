"""What a run does, as one value that is passed along; the studies' choices under their names."""

from dataclasses import dataclass

INVERSIONS = ("iterative", "deterministic")
BACKGROUNDS = ("pdf",)
ROI_SPACES = ("subject", "scan")
SUBJECT_SPACES = ("middle", "first")
UNWRAPPINGS = ("spatial", "temporal")
DATA_WEIGHTS = ("noise", "none")
LAMBDA_RULES = ("gcv", "discrepancy")


@dataclass(frozen=True)
class Settings:
    """Choices of a run; the defaults are what measured best.

    Attributes
    ----------
    inversions : tuple of str
        Which susceptibility maps to make.
    background : str
        Background field removal.
    unwrapping : str
        ``spatial`` unwraps every echo in space, ``temporal`` carries later echoes by time.
    lambda_rule : str
        ``gcv`` or ``discrepancy``.
    lambda_value : float or None
        A fixed λ in mm, instead of a rule.
    edge_share : float
        Share of the brain's magnitude gradients that count as edges, along each axis.
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
        the lateral ventricles found by themselves) or the name of any label.
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
    exclude_veins : bool
        Whether veins in a region are left out.
    phase_sign : int
        Sign of the phase; 0 takes the manufacturer's.
    """

    inversions: tuple[str, ...] = INVERSIONS
    background: str = "pdf"
    unwrapping: str = "spatial"
    lambda_rule: str = "gcv"
    lambda_value: float | None = None
    edge_share: float = 0.2
    data_weight: str = "noise"
    outside_weight: float | None = None
    harmonize: bool = False
    reference: str = "csf"
    subject_space: str = "middle"
    atlas: str | None = None
    template_warp: bool = False
    roi_space: str = "subject"
    roi_erosion: float = 0.0
    exclude_veins: bool = False
    phase_sign: int = 0


# The 2015 study: λ by the discrepancy principle, its equation without data weights, and an edge mask as MEDI's,
# 30 % of the gradients.
PRESETS = {
    "default": Settings(),
    "lin2015": Settings(lambda_rule="discrepancy", edge_share=0.3, data_weight="none", outside_weight=1.0),
}
