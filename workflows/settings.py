"""What a run does, as one value that is passed along; the studies' choices under their names."""

from dataclasses import dataclass

INVERSIONS = ("iterative", "deterministic")
BACKGROUNDS = ("pdf",)
REFERENCES = ("brain",)
UNWRAPPINGS = ("spatial", "temporal")
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
    reference : str
        Region whose mean susceptibility is zero.
    phase_sign : int
        Sign of the phase; 0 takes the manufacturer's.
    """

    inversions: tuple[str, ...] = INVERSIONS
    background: str = "pdf"
    unwrapping: str = "spatial"
    lambda_rule: str = "gcv"
    lambda_value: float | None = None
    edge_share: float = 0.1
    reference: str = "brain"
    phase_sign: int = 0


# The 2015 study: λ by the discrepancy principle; its edge mask as MEDI's, 30 % of the gradients.
PRESETS = {
    "default": Settings(),
    "lin2015": Settings(lambda_rule="discrepancy", edge_share=0.3),
}
