"""The methods that there are: what graphs and options must know of each, and what one did.

What an inversion did is a value. Its sidecar, the text on methods and its standard error are made
from it.
"""

from dataclasses import dataclass
from typing import ClassVar

from ..core.inversion.morphology import MERIT_THRESHOLD
from ..core.inversion.regularization import EDGE_SDS, JUMP_SDS, LambdaChoice
from ..core.inversion.weighted import SMALLEST_WEIGHT

# What sidecars call the weights.
NOISE_WEIGHT = "inverse standard error"
KNOWN_WEIGHT = "1 where the field is known, 0 elsewhere"
NO_WEIGHT = "none; where the field is not known, it is continued smoothly from around"


@dataclass(frozen=True)
class InversionRecord:
    """An inversion: what must be known of it before, and what it did.

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
        Which field of `multiqsm.workflows.settings.Settings` fixes its λ, if it has one.
    lambda_units : str
        Unit of λ, as sidecars have it.
    is_default : bool
        Whether it is made if no other is asked for.
    lam : multiqsm.core.inversion.regularization.LambdaChoice or None
        λ and how it was chosen; None of an inversion that has none.
    iterations : int
        Of the last solve; 0 for a closed form.
    residual : float
        Root mean square of the field that the map leaves unexplained, ppm.
    """

    needs_edges: ClassVar[bool] = False
    needs_variance: ClassVar[bool] = False
    standard_error: ClassVar[str | None] = None
    lambda_option: ClassVar[str | None] = None
    lambda_units: ClassVar[str] = "mm"
    is_default: ClassVar[bool] = True

    lam: LambdaChoice | None
    iterations: int
    residual: float

    @property
    def steps(self):
        """What the text on methods calls what was done."""
        raise NotImplementedError

    def sidecar(self):
        """Sidecar fields.

        Returns
        -------
        dict
        """
        told = {"InversionIterations": self.iterations, "InversionResidual": self.residual}
        if self.lam is not None:
            told |= {
                "Lambda": self.lam.value,
                "LambdaUnits": self.lambda_units,
                "LambdaRule": self.lam.rule,
                "LambdaAtBound": self.lam.at_bound,
            }
        return told | self._own()

    def _own(self):
        """Sidecar fields of this inversion alone."""
        raise NotImplementedError


@dataclass(frozen=True)
class DeterministicRecord(InversionRecord):
    """The closed form."""

    needs_variance: ClassVar[bool] = True
    standard_error: ClassVar[str | None] = "closed form"
    lambda_option: ClassVar[str | None] = "lambda_value"

    @property
    def steps(self):  # noqa: D102
        return "deterministic", self.lam.rule

    def _own(self):
        return {
            "Inversion": "deterministic: closed form, all gradients penalised",
            "DataWeight": NO_WEIGHT,
        }


@dataclass(frozen=True)
class IterativeRecord(InversionRecord):
    """The iterative inversion.

    Attributes
    ----------
    edge_fraction : float or None
        Fraction of the magnitude's gradients that were edges; None: those beyond the noise.
    weighs_noise : bool
        Whether noisy voxels were believed less.
    exterior_weight : float
        Weight of the zero field outside the mask.
    derives_exterior_weight : bool
        Whether that comes from the noise and the field.
    tolerance : float
        Relative residual at which it stopped.
    """

    needs_edges: ClassVar[bool] = True
    needs_variance: ClassVar[bool] = True
    standard_error: ClassVar[str | None] = "realisations"
    lambda_option: ClassVar[str | None] = "lambda_value"

    edge_fraction: float | None
    weighs_noise: bool
    exterior_weight: float
    derives_exterior_weight: bool
    tolerance: float

    @property
    def steps(self):  # noqa: D102
        options = {"weights": self.weighs_noise, "exterior_weight": self.derives_exterior_weight}
        asked = [step for step, is_used in options.items() if is_used]
        return *free_edge_steps(self.edge_fraction), "iterative", *asked, self.lam.rule

    def _own(self):
        told = {
            "Inversion": "iterative: conjugate gradients, gradients penalised where the magnitude "
            "has no edge",
            **described_edges(self.edge_fraction),
            "DataWeight": NOISE_WEIGHT if self.weighs_noise else KNOWN_WEIGHT,
            "ExteriorWeight": self.exterior_weight,
            "InversionTolerance": self.tolerance,
        }
        if self.weighs_noise:
            told["SmallestDataWeight"] = SMALLEST_WEIGHT
        return told


@dataclass(frozen=True)
class MediRecord(InversionRecord):
    """MEDI.

    Attributes
    ----------
    edge_fraction : float or None
        As of `IterativeRecord`.
    period : float or None
        Field at which phase turns once, ppm; None of a linear data term.
    merit : bool
        Whether voxels that are inconsistent with the dipole model were down-weighted (MERIT).
    tolerance : float
        Relative change of χ at which it stopped.
    max_iterations : int
        Iterations after which it would have stopped in any case.
    """

    needs_edges: ClassVar[bool] = True
    standard_error: ClassVar[str | None] = "realisations"
    lambda_option: ClassVar[str | None] = "medi_lambda"
    lambda_units: ClassVar[str] = "ppm*mm"
    weighs_noise: ClassVar[bool] = True

    edge_fraction: float | None
    period: float | None
    merit: bool
    tolerance: float
    max_iterations: int

    @property
    def steps(self):  # noqa: D102
        options = {
            "nonlinear": self.period is not None,
            "merit": self.merit,
        }
        asked = [step for step, is_used in options.items() if is_used]
        return *free_edge_steps(self.edge_fraction), "medi", *asked, f"medi_{self.lam.rule}"

    def _own(self):
        told = {
            "Inversion": "MEDI: absolute gradients penalised where the magnitude has no edge",
            **described_edges(self.edge_fraction),
            "DataWeight": NOISE_WEIGHT,
            "DataTerm": "linear: field" if self.period is None else "nonlinear: phase factors",
            "ModelErrorReduction": self.merit,
            "InversionTolerance": self.tolerance,
            "InversionIterationsAllowed": self.max_iterations,
        }
        if self.period is not None:
            told["FieldPeriod"] = self.period
        if self.merit:
            told["ModelErrorThreshold"] = MERIT_THRESHOLD
        return told


@dataclass(frozen=True)
class TKDRecord(InversionRecord):
    """Thresholded k-space division (TKD).

    Attributes
    ----------
    threshold : float
        Of the dipole kernel; smaller values were replaced by it.
    """

    is_default: ClassVar[bool] = False

    threshold: float

    @property
    def steps(self):  # noqa: D102
        return ("tkd",)

    def _own(self):
        return {
            "Inversion": "thresholded k-space division (TKD)",
            "DataWeight": NO_WEIGHT,
            "KernelThreshold": self.threshold,
        }


# The best first: it is shown where there is room for one.
INVERSIONS: dict[str, type[InversionRecord]] = {
    "medi": MediRecord,
    "iterative": IterativeRecord,
    "deterministic": DeterministicRecord,
    "tkd": TKDRecord,
}
DEFAULT_INVERSIONS = tuple(name for name, method in INVERSIONS.items() if method.is_default)


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


BACKGROUNDS = {
    "tfi": BackgroundMethod(needs_edges=True),
    "pdf": BackgroundMethod(),
    "vsharp": BackgroundMethod(shrinks_mask=True),
    "sharp": BackgroundMethod(shrinks_mask=True),
    "highpass": BackgroundMethod(),
}


@dataclass(frozen=True)
class NoiseModel:
    """What is known of the noise in a map of standard errors, as its sidecar tells it.

    Attributes
    ----------
    lam : float
        λ of the closed form whose noise is correlated as the map's, mm.
    weighs_noise : bool or None
        Whether noisy voxels were believed less; None of the closed form, which has no weights.
    smallest_weight : float
        The least that a voxel was believed.
    """

    lam: float
    weighs_noise: bool | None
    smallest_weight: float

    @classmethod
    def from_sidecar(cls, told):
        """Read it.

        Parameters
        ----------
        told : dict
            The sidecar of a map of standard errors.

        Returns
        -------
        NoiseModel
        """
        return cls(
            lam=told.get("ClosedFormLambda", told["Lambda"]),
            weighs_noise=told.get("DataWeightFollowsNoise"),
            smallest_weight=told.get("SmallestDataWeight", 0.0),
        )


def described_edges(edge_fraction, prefix=""):
    """Sidecar fields that say what counted as an edge.

    Parameters
    ----------
    edge_fraction : float or None
        Fraction of the gradients that counted; None: those beyond the noise.
    prefix : str
        Of the fields' names.

    Returns
    -------
    dict
    """
    if edge_fraction is None:
        rule = f"differences of the magnitude beyond {EDGE_SDS:g} robust standard deviations"
        if not prefix:
            rule += f", and of the closed form's map beyond {JUMP_SDS:g}"
        return {f"{prefix}EdgeRule": rule}
    return {f"{prefix}EdgeRule": "steepest differences", f"{prefix}EdgeFraction": edge_fraction}


def edge_step(edge_fraction):
    """What the text on methods calls the rule for edges."""
    return "edges" if edge_fraction is None else "edge_fraction"


def free_edge_steps(edge_fraction):
    """What the text on methods calls the rules for the edges that inversions leave free: jumps are
    among them.
    """
    return ("edges", "jumps") if edge_fraction is None else ("edge_fraction",)
