"""Susceptibility from the local field."""

from typing import ClassVar

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from ..core.inversion.closed_form import KERNEL_THRESHOLD, deterministic, divide_field
from ..core.inversion.morphology import medi
from ..core.inversion.regularization import EDGE_SDS, JUMP_SDS, edge_mask, jump_mask
from ..core.inversion.weighted import SMALLEST_WEIGHT, iterative, zero_field_weight
from ..core.phase.fieldfit import combine_magnitude, known_weight, noise_weight, weighted_variance
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec
from .images import described_b0, geometry, read_mask, read_volume, write_volume

# What sidecars call the weights.
NOISE_WEIGHT = "inverse standard error"
KNOWN_WEIGHT = "1 where the field is known, 0 elsewhere"
NO_WEIGHT = "none; where the field is not known, it is continued smoothly from around"


def magnitude_edges(magnitude_file, mask, share=None):
    """Edges of a scan's magnitude, all echoes together.

    Parameters
    ----------
    magnitude_file : path-like
        Magnitude, echoes along the fourth axis.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    share : float, optional
        As for `core.regularization.edge_mask`; None and undefined inputs are the same.

    Returns
    -------
    ndarray of bool, shape (3, x, y, z)
    """
    magnitude = combine_magnitude(read_volume(magnitude_file)[0])
    return edge_mask(magnitude, mask, share=share if isdefined(share) else None)


def free_edges(magnitude_file, share, field, mask, space):
    """Differences of susceptibility that an inversion leaves free.

    The magnitude's edges and, unless a share of them is asked for, jumps of the closed form's map that stand far out.

    Parameters
    ----------
    magnitude_file, share
        As of `magnitude_edges`.
    field : ndarray, shape (x, y, z)
        Local field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    space : dict
        As of `interfaces.images.geometry`.

    Returns
    -------
    ndarray of bool, shape (3, x, y, z)
    """
    edges = magnitude_edges(magnitude_file, mask, share)
    if share is not None and isdefined(share):
        return edges
    return edges | jump_mask(deterministic(field, mask, **space).chi, mask)


def _with_lambda(interface, value):
    if value is not None:
        interface.inputs.lambda_value = value
    return interface


def _with_edges(interface, settings):
    if settings.edge_share is not None:
        interface.inputs.edge_share = settings.edge_share
    return interface


def _or_none(value):
    return value if isdefined(value) else None


def iterative_weight(standard_error, mask, by_noise):
    """Data weight of the iterative inversion: by noise, or 1 wherever the field is known."""
    if by_noise:
        return noise_weight(standard_error, mask, SMALLEST_WEIGHT)
    return known_weight(standard_error, mask)


def described_edges(share, prefix=""):
    """Sidecar fields that say what counted as an edge."""
    if share is None or not isdefined(share):
        rule = f"differences of the magnitude beyond {EDGE_SDS:g} robust standard deviations"
        if not prefix:
            rule += f", and of the closed form's map beyond {JUMP_SDS:g}"
        return {f"{prefix}EdgeRule": rule}
    return {f"{prefix}EdgeRule": "steepest differences", f"{prefix}EdgeShare": share}


def free_edge_steps(share):
    """What the text on methods calls the rules of `free_edges`."""
    step = edge_step(share)
    return (step, "jumps") if step == "edges" else (step,)


def edge_step(share):
    """What the text on methods calls the rule for edges."""
    return "edges" if share is None or not isdefined(share) else "edge_share"


class _InversionInputSpec(ThreadedInputSpec):
    local_field_file = File(exists=True, mandatory=True, desc="local field, ppm")
    standard_error_file = File(exists=True, mandatory=True, desc="standard error of the field, ppm")
    mask_file = File(exists=True, mandatory=True, desc="where susceptibility is wanted")


class _QuadraticInputSpec(_InversionInputSpec):
    noise_variance = traits.Float(desc="variance of the field's noise, ppm²; the discrepancy principle needs it")
    lambda_rule = traits.Enum("gcv", "discrepancy", usedefault=True, desc="how λ is chosen")
    lambda_value = traits.Float(desc="fixed λ, mm; chosen by the rule if not given")


class _InversionOutputSpec(ProvenanceOutputSpec):
    chi_file = File(desc="susceptibility, ppm, up to a constant")
    choices = traits.Dict(desc="λ and what else it takes to invert another field in the same way")


class _Inversion(CoreInterface):
    output_spec = _InversionOutputSpec
    lambda_units = "mm"

    def _run_interface(self, runtime):
        field, image = read_volume(self.inputs.local_field_file)
        mask = read_mask(self.inputs.mask_file)
        standard_error, _ = read_volume(self.inputs.standard_error_file)
        with self.threads():
            found = self._invert(field, mask, standard_error, image)
        self._results["chi_file"] = write_volume(self.out_path(runtime, "chi"), found.chi, image)
        lam = found.lam
        self._results["choices"] = {**({"lam": lam.value} if lam else {}), **self._choices()}
        self.record(
            *self._steps(lam and lam.rule),
            **described_b0(image),
            InversionIterations=found.iterations,
            InversionResidual=found.residual,
            **(self._described_lambda(lam) if lam else {}),
            **self._described(),
        )
        return runtime

    def _described_lambda(self, lam):
        return {
            "Lambda": lam.value,
            "LambdaUnits": self.lambda_units,
            "LambdaRule": lam.rule,
            "LambdaAtBound": lam.at_bound,
        }

    def _fixed_lambda(self):
        return self.inputs.lambda_value if isdefined(self.inputs.lambda_value) else None


class _QuadraticInversion(_Inversion):
    def _options(self, image):
        """Keyword arguments that both quadratic inversions share."""
        return {
            **geometry(image),
            "lam": self._fixed_lambda(),
            "rule": self.inputs.lambda_rule,
            "noise_variance": self.inputs.noise_variance if isdefined(self.inputs.noise_variance) else None,
        }


class Deterministic(_QuadraticInversion):
    """The closed-form inversion."""

    input_spec = _QuadraticInputSpec

    @classmethod
    def chosen(cls, settings, period):
        """The node's interface with a run's choices."""
        return _with_lambda(cls(lambda_rule=settings.lambda_rule), settings.lambda_value)

    def _invert(self, field, mask, standard_error, image):
        return deterministic(field, mask, known=np.isfinite(standard_error), **self._options(image))

    def _choices(self):
        return {}

    def _steps(self, rule):
        return "deterministic", rule

    def _described(self):
        return {
            "Inversion": "deterministic: closed form, all gradients penalised",
            "DataWeight": NO_WEIGHT,
        }


class _IterativeInputSpec(_QuadraticInputSpec):
    magnitude_file = File(exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis, for its edges")
    edge_share = traits.Float(desc="share of the mask's gradients that count as edges; by their noise if not given")
    weigh_noise = traits.Bool(True, usedefault=True, desc="believe noisy voxels less")
    outside_weight = traits.Float(desc="weight of the zero field outside the mask; from noise and field if not given")
    tolerance = traits.Float(5e-3, usedefault=True, desc="relative residual at which to stop")


class Iterative(_QuadraticInversion):
    """The inversion that leaves the magnitude's edges free."""

    input_spec = _IterativeInputSpec

    @classmethod
    def chosen(cls, settings, period):
        """The node's interface with a run's choices."""
        interface = cls(lambda_rule=settings.lambda_rule, weigh_noise=settings.data_weight == "noise")
        if settings.outside_weight is not None:
            interface.inputs.outside_weight = settings.outside_weight
        return _with_lambda(_with_edges(interface, settings), settings.lambda_value)

    def _invert(self, field, mask, standard_error, image):
        given, space = self.inputs, geometry(image)
        weight = iterative_weight(standard_error, mask, given.weigh_noise)
        options = self._options(image)
        if given.weigh_noise:
            options["noise_variance"] = weighted_variance(standard_error, weight)
        self._outside_weight = given.outside_weight
        if not isdefined(given.outside_weight):
            variance = weighted_variance(standard_error, known_weight(standard_error, mask))
            self._outside_weight = zero_field_weight(field, mask, variance)
        return iterative(
            field,
            mask,
            edges=free_edges(given.magnitude_file, given.edge_share, field, mask, space),
            data_weight=weight,
            outside_weight=self._outside_weight,
            tolerance=given.tolerance,
            **options,
        )

    def _choices(self):
        return {
            "edge_share": _or_none(self.inputs.edge_share),
            "weigh_noise": self.inputs.weigh_noise,
            "outside_weight": self._outside_weight,
        }

    def _steps(self, rule):
        given = self.inputs
        options = {"weights": given.weigh_noise, "outside_weight": not isdefined(given.outside_weight)}
        asked = [step for step, is_used in options.items() if is_used]
        return *free_edge_steps(given.edge_share), "iterative", *asked, rule

    def _described(self):
        told = {
            "Inversion": "iterative: conjugate gradients, gradients penalised where the magnitude has no edge",
            **described_edges(self.inputs.edge_share),
            "DataWeight": NOISE_WEIGHT if self.inputs.weigh_noise else KNOWN_WEIGHT,
            "OutsideFieldWeight": self._outside_weight,
            "InversionTolerance": self.inputs.tolerance,
        }
        if self.inputs.weigh_noise:
            told["SmallestDataWeight"] = SMALLEST_WEIGHT
        return told


class _MediInputSpec(_InversionInputSpec):
    magnitude_file = File(exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis, for its edges")
    edge_share = traits.Float(desc="share of the mask's gradients that count as edges; by their noise if not given")
    lambda_rule = traits.Enum("scaled", "discrepancy", usedefault=True, desc="how λ is chosen")
    lambda_value = traits.Float(desc="fixed λ, ppm·mm; chosen by the rule if not given")
    period = traits.Float(desc="field at which phase turns once, ppm; the data term is linear if not given")
    reduce_model_error = traits.Bool(True, usedefault=True, desc="believe voxels less that nothing explains")
    model_error = traits.Float(3.0, usedefault=True, desc="which those are: residual in robust standard deviations")
    tolerance = traits.Float(2e-2, usedefault=True, desc="relative change of χ at which to stop")
    max_iterations = traits.Range(low=1, value=100, usedefault=True, desc="iterations after which to stop in any case")


class Medi(_Inversion):
    """Morphology-enabled dipole inversion."""

    input_spec = _MediInputSpec
    lambda_units = "ppm*mm"
    rules: ClassVar = {"gcv": "scaled", "discrepancy": "discrepancy"}  # MEDI's own rules need no search

    @classmethod
    def chosen(cls, settings, period):
        """The node's interface with a run's choices; `period` is the field at which phase turns once, ppm."""
        interface = cls(lambda_rule=cls.rules[settings.lambda_rule], reduce_model_error=settings.model_error)
        if settings.medi_data == "nonlinear":
            interface.inputs.period = period
        return _with_lambda(_with_edges(interface, settings), settings.medi_lambda)

    def _invert(self, field, mask, standard_error, image):
        given, space = self.inputs, geometry(image)
        return medi(
            field,
            mask,
            edges=free_edges(given.magnitude_file, given.edge_share, field, mask, space),
            standard_error=standard_error,
            lam=self._fixed_lambda(),
            rule=given.lambda_rule,
            **self._solver(),
            **space,
        )

    def _solver(self):
        """What decides on the solution but edges and λ, as `core.inversion.morphology.medi` takes it."""
        given = self.inputs
        return {
            "period": _or_none(given.period),
            "model_error": given.model_error if given.reduce_model_error else None,
            "tolerance": given.tolerance,
            "max_iterations": given.max_iterations,
        }

    def _choices(self):
        return {"edge_share": _or_none(self.inputs.edge_share), **self._solver()}

    def _steps(self, rule):
        given = self.inputs
        options = {"nonlinear": isdefined(given.period), "model_error": given.reduce_model_error}
        asked = [step for step, is_used in options.items() if is_used]
        return *free_edge_steps(given.edge_share), "medi", *asked, f"medi_{rule}"

    def _described(self):
        given = self.inputs
        told = {
            "Inversion": "MEDI: absolute gradients penalised where the magnitude has no edge",
            **described_edges(given.edge_share),
            "DataWeight": NOISE_WEIGHT,
            "DataTerm": "nonlinear: phase factors" if isdefined(given.period) else "linear: field",
            "ModelErrorReduction": given.reduce_model_error,
            "InversionTolerance": given.tolerance,
            "InversionIterationsAllowed": given.max_iterations,
        }
        if isdefined(given.period):
            told["FieldPeriod"] = given.period
        if given.reduce_model_error:
            told["ModelErrorThreshold"] = given.model_error
        return told


class _TKDInputSpec(_InversionInputSpec):
    threshold = traits.Float(
        KERNEL_THRESHOLD, usedefault=True, desc="of the dipole kernel; smaller values are replaced by it"
    )


class TKD(_Inversion):
    """Thresholded k-space division."""

    input_spec = _TKDInputSpec

    @classmethod
    def chosen(cls, settings, period):
        """The node's interface; there is nothing to choose."""
        return cls()

    def _invert(self, field, mask, standard_error, image):
        return divide_field(field, mask, threshold=self.inputs.threshold, **geometry(image))

    def _choices(self):
        return {"threshold": self.inputs.threshold}

    def _steps(self, rule):
        return ("tkd",)

    def _described(self):
        return {
            "Inversion": "thresholded k-space division (TKD)",
            "DataWeight": NO_WEIGHT,
            "KernelThreshold": self.inputs.threshold,
        }


INTERFACES = {"medi": Medi, "iterative": Iterative, "deterministic": Deterministic, "tkd": TKD}
