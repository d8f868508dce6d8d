"""The methods that there are, and what graphs and options must know of each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class InversionMethod:
    """What graphs and options must know of an inversion.

    Attributes
    ----------
    needs_edges : bool
        Whether it takes the magnitude, for its edges.
    needs_variance : bool
        Whether its discrepancy principle takes the variance of the field's noise; MEDI's takes the
        standard error.
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


@dataclass(frozen=True)
class BackgroundMethod:
    """What graphs must know of a method of background field removal.

    Attributes
    ----------
    needs_edges : bool
        Whether it takes the magnitude, for its edges.
    shrinks_mask : bool
        Whether it leaves the local field unknown in a part of the mask.
    """

    needs_edges: bool = False
    shrinks_mask: bool = False


# The best first: it is shown where there is room for one.
INVERSIONS = {
    "medi": InversionMethod(
        needs_edges=True, standard_error="realisations", lambda_option="medi_lambda"
    ),
    "iterative": InversionMethod(
        needs_edges=True,
        needs_variance=True,
        standard_error="realisations",
        lambda_option="lambda_value",
    ),
    "deterministic": InversionMethod(
        needs_variance=True, standard_error="closed form", lambda_option="lambda_value"
    ),
    "tkd": InversionMethod(is_default=False),
}
DEFAULT_INVERSIONS = tuple(name for name, method in INVERSIONS.items() if method.is_default)
BACKGROUNDS = {
    "joint": BackgroundMethod(needs_edges=True),
    "pdf": BackgroundMethod(),
    "vsharp": BackgroundMethod(shrinks_mask=True),
    "sharp": BackgroundMethod(shrinks_mask=True),
    "highpass": BackgroundMethod(),
}
