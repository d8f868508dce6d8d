"""Registry of the methods that can be chosen, and records of what an inversion did.

Graphs and options read the properties of each method here. The map's sidecar, the methods text and
the standard error are made from the record of its inversion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..core.inversion.parameters import (
    EDGE_SDS,
    JUMP_SDS,
    MERIT_THRESHOLD,
    SMALLEST_WEIGHT,
    LambdaChoice,
)

# How sidecars describe the data weights.
NOISE_WEIGHT = "inverse standard error"
UNIFORM_WEIGHT = "1 where the field is known, 0 elsewhere"
DATA_TERMS = {"nonlinear": "nonlinear: phase factors", "linear": "linear: field"}
NO_WEIGHT = "none; where the field is not known, it is continued smoothly from around"


@dataclass(frozen=True)
class InversionRecord:
    """Properties of an inversion that graphs need before it runs, and the record of what it did.

    Attributes
    ----------
    needs_edges : bool
        Whether it needs the magnitude, for its edges.
    standard_error : {"closed form", "realisations"} or None
        How the standard error of its map is computed; None if it is not.
    lambda_option : str or None
        The field of `multiqsm.workflows.settings.Settings` that fixes its λ, if it has one.
    lambda_units : str
        Unit of λ, as in sidecars.
    is_default : bool
        Whether it runs unless other inversions are chosen.
    lambda_choice : multiqsm.core.inversion.parameters.LambdaChoice or None
        λ and how it was chosen; None of an inversion without λ.
    iterations : int
        Number of iterations of the last solve; 0 for a closed form.
    residual : float
        Root mean square of the part of the field that the map does not explain, ppm.
    converged : bool
        Whether the last solve met its tolerance within the iterations allowed.
    """

    needs_edges: ClassVar[bool] = False
    standard_error: ClassVar[Literal["closed form", "realisations"] | None] = None
    lambda_option: ClassVar[str | None] = None
    lambda_units: ClassVar[str] = "mm"
    is_default: ClassVar[bool] = True

    lambda_choice: LambdaChoice | None
    iterations: int
    residual: float
    converged: bool

    @property
    def steps(self) -> tuple[str, ...]:
        """Keys of the sentences on this inversion in the methods text."""
        raise NotImplementedError

    def sidecar(self) -> dict[str, Any]:
        """Return the sidecar fields.

        Returns
        -------
        dict
        """
        fields: dict[str, Any] = {
            "InversionIterations": self.iterations,
            "InversionResidual": self.residual,
        }
        if self.iterations:
            fields["InversionConverged"] = self.converged
        if self.lambda_choice is not None:
            fields |= {
                "Lambda": self.lambda_choice.value,
                "LambdaUnits": self.lambda_units,
                "LambdaRule": self.lambda_choice.rule,
                "LambdaAtBound": self.lambda_choice.at_bound,
            }
            if self.lambda_choice.error_amplitudes is not None:
                coarse, fine = self.lambda_choice.error_amplitudes
                fields["FieldErrorAtLowFrequency"] = coarse
                fields["FieldErrorAtHighFrequency"] = fine
        return fields | self._own_fields()

    def _own_fields(self) -> dict[str, Any]:
        """Return the sidecar fields of this kind of inversion alone."""
        raise NotImplementedError


@dataclass(frozen=True)
class DeterministicRecord(InversionRecord):
    """The closed form."""

    standard_error: ClassVar[Literal["closed form", "realisations"] | None] = "closed form"
    lambda_option: ClassVar[str | None] = "lambda_value"

    lambda_choice: LambdaChoice

    @property
    def steps(self) -> tuple[str, ...]:
        """Return the names of the steps; see `InversionRecord.steps`."""
        return "deterministic", self.lambda_choice.rule

    def _own_fields(self):
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
        Fraction of the magnitude's gradients that counted as edges; None if those above the noise
        did.
    weighs_noise : bool
        Whether noisy voxels were down-weighted.
    exterior_weight : float
        Weight of the zero field outside the mask.
    derives_exterior_weight : bool
        Whether that weight was derived from the noise and the field.
    tolerance : float
        Relative residual at which the solver stops.
    max_iterations : int
        Largest number of iterations.
    """

    needs_edges: ClassVar[bool] = True
    standard_error: ClassVar[Literal["closed form", "realisations"] | None] = "realisations"
    lambda_option: ClassVar[str | None] = "lambda_value"

    lambda_choice: LambdaChoice
    edge_fraction: float | None
    weighs_noise: bool
    exterior_weight: float
    derives_exterior_weight: bool
    tolerance: float
    max_iterations: int

    @property
    def steps(self) -> tuple[str, ...]:
        """Return the names of the steps; see `InversionRecord.steps`."""
        steps = [*free_edge_steps(self.edge_fraction), "iterative"]
        if self.weighs_noise:
            steps.append("weights")
        if self.derives_exterior_weight:
            steps.append("exterior_weight")
        return *steps, self.lambda_choice.rule

    def _own_fields(self):
        fields = {
            "Inversion": "iterative: conjugate gradients, gradients penalised where the magnitude "
            "has no edge",
            **edge_fields(self.edge_fraction),
            "DataWeight": NOISE_WEIGHT if self.weighs_noise else UNIFORM_WEIGHT,
            "ExteriorWeight": self.exterior_weight,
            "InversionTolerance": self.tolerance,
            "InversionIterationsAllowed": self.max_iterations,
        }
        if self.weighs_noise:
            fields["SmallestDataWeight"] = SMALLEST_WEIGHT
        return fields


@dataclass(frozen=True)
class MediRecord(InversionRecord):
    """Morphology-enabled dipole inversion (MEDI).

    Attributes
    ----------
    edge_fraction : float or None
        As in `IterativeRecord`.
    medi_data : {"nonlinear", "linear"}
        Data term: complex phase factors, or the field.
    period : float or None
        Field that wraps the phase once, ppm; None of the linear data term.
    merit : bool
        Whether voxels that are inconsistent with the dipole model were down-weighted (MERIT).
    tolerance : float
        Relative change of χ at which the solver stops.
    max_iterations : int
        Largest number of iterations.
    """

    needs_edges: ClassVar[bool] = True
    standard_error: ClassVar[Literal["closed form", "realisations"] | None] = "realisations"
    lambda_option: ClassVar[str | None] = "medi_lambda"
    lambda_units: ClassVar[str] = "ppm*mm"
    weighs_noise: ClassVar[bool] = True

    lambda_choice: LambdaChoice
    edge_fraction: float | None
    medi_data: str
    period: float | None
    merit: bool
    tolerance: float
    max_iterations: int

    @property
    def steps(self) -> tuple[str, ...]:
        """Return the names of the steps; see `InversionRecord.steps`."""
        steps = [*free_edge_steps(self.edge_fraction), "medi"]
        if self.medi_data == "nonlinear":
            steps.append("nonlinear")
        if self.merit:
            steps.append("merit")
        return *steps, f"medi_{self.lambda_choice.rule}"

    def _own_fields(self):
        fields = {
            "Inversion": "MEDI: absolute gradients penalised where the magnitude has no edge",
            **edge_fields(self.edge_fraction),
            "DataWeight": NOISE_WEIGHT,
            "DataTerm": DATA_TERMS[self.medi_data],
            "MERIT": self.merit,
            "InversionTolerance": self.tolerance,
            "InversionIterationsAllowed": self.max_iterations,
        }
        if self.medi_data == "nonlinear":
            fields["FieldPeriod"] = self.period
        if self.merit:
            fields["MERITThreshold"] = MERIT_THRESHOLD
        return fields


@dataclass(frozen=True)
class TKDRecord(InversionRecord):
    """Thresholded k-space division (TKD).

    Attributes
    ----------
    threshold : float
        Smallest magnitude of the dipole kernel; smaller values were replaced by it.
    """

    is_default: ClassVar[bool] = False

    threshold: float

    @property
    def steps(self) -> tuple[str, ...]:
        """Return the names of the steps; see `InversionRecord.steps`."""
        return ("tkd",)

    def _own_fields(self):
        return {
            "Inversion": "thresholded k-space division (TKD)",
            "DataWeight": NO_WEIGHT,
            "KernelThreshold": self.threshold,
        }


# The best one first: it is shown where there is room for a single map.
INVERSIONS: dict[str, type[InversionRecord]] = {
    "medi": MediRecord,
    "iterative": IterativeRecord,
    "deterministic": DeterministicRecord,
    "tkd": TKDRecord,
}
DEFAULT_INVERSIONS = tuple(name for name, method in INVERSIONS.items() if method.is_default)


@dataclass(frozen=True)
class BackgroundMethod:
    """Properties of a method of background field removal that graphs need.

    Attributes
    ----------
    needs_edges : bool
        Whether it needs the magnitude, for its edges.
    shrinks_mask : bool
        Whether the local field is valid in a part of the mask only.
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
    """How the noise of a susceptibility map is modelled, as recorded with its standard errors.

    Attributes
    ----------
    lambda_value : float
        λ of the closed form whose noise has the same correlation as the map's, mm.
    weighs_noise : bool or None
        Whether noisy voxels were down-weighted; None of the closed form, which has no weights.
    smallest_weight : float
        Lower limit of the data weight.
    """

    lambda_value: float
    weighs_noise: bool | None
    smallest_weight: float

    @classmethod
    def from_sidecar(cls, sidecar: Mapping[str, Any]) -> "NoiseModel":
        """Return the model that a sidecar describes.

        Parameters
        ----------
        sidecar : dict
            The sidecar of a map of standard errors.

        Returns
        -------
        NoiseModel
        """
        return cls(
            lambda_value=sidecar.get("ClosedFormLambda", sidecar["Lambda"]),
            weighs_noise=sidecar.get("DataWeightFollowsNoise"),
            smallest_weight=sidecar.get("SmallestDataWeight", 0.0),
        )


def edge_fields(edge_fraction: float | None, prefix: str = "") -> dict[str, Any]:
    """Return the sidecar fields that say what counted as an edge.

    Parameters
    ----------
    edge_fraction : float or None
        Fraction of the gradients that counted as edges; None if those above the noise did.
    prefix : str
        Prefix of the fields' names.

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


def edge_step(edge_fraction: float | None) -> str:
    """Return the key of the sentence on edges in the methods text."""
    return "edges" if edge_fraction is None else "edge_fraction"


def free_edge_steps(edge_fraction: float | None) -> tuple[str, ...]:
    """Return the keys of the sentences on edges that an inversion does not penalise.

    Without a fixed fraction of edges, jumps of the closed form's map are among them.
    """
    return ("edges", "strong_source_edges") if edge_fraction is None else ("edge_fraction",)
