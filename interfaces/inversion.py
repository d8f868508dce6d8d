"""Susceptibility from the local field."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits

from ..core.inversion.closed_form import KERNEL_THRESHOLD, deterministic, divide_field
from ..core.inversion.morphology import medi
from ..core.inversion.parameters import SMALLEST_WEIGHT
from ..core.inversion.problem import working_grid
from ..core.inversion.regularization import edge_mask, jump_mask
from ..core.inversion.weighted import iterative, zero_field_weight
from ..core.phase.fieldfit import combine_magnitude, noise_weight, uniform_weight, weighted_variance
from ..dataset.files import PathLike
from ..dataset.times import InversionTime
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec, none_if_undefined
from .images import Geometry, b0_fields, geometry, read_mask, read_volume, write_volume
from .methods import DeterministicRecord, InversionRecord, IterativeRecord, MediRecord, TKDRecord
from .timing import timed

if TYPE_CHECKING:  # a graph's settings are in a layer above
    from ..workflows.settings import Settings


class EdgeInputSpec(BaseInterfaceInputSpec):
    """Inputs of a method that does not penalise gradients at edges of the magnitude."""

    magnitude_file = File(
        exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis, for its edges"
    )
    edge_fraction = traits.Float(
        desc="fraction of the gradients in the mask that count as edges; default: those above the "
        "noise"
    )


def magnitude_edges(
    magnitude_file: PathLike, mask: np.ndarray, edge_fraction: float | None = None
) -> np.ndarray:
    """Find the edges of a scan's magnitude, of all echoes combined.

    Parameters
    ----------
    magnitude_file : path-like
        Magnitude, echoes along the fourth axis.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    edge_fraction : float, optional
        As in `multiqsm.core.inversion.regularization.edge_mask`.

    Returns
    -------
    ndarray of bool, shape (3, x, y, z)
    """
    magnitude = combine_magnitude(read_volume(magnitude_file)[0])
    return edge_mask(magnitude, mask, edge_fraction=edge_fraction)


def free_edges(
    magnitude_file: PathLike,
    edge_fraction: float | None,
    field: np.ndarray,
    mask: np.ndarray,
    space: Geometry,
) -> np.ndarray:
    """Find the edges that an inversion does not penalise.

    These are the edges of the magnitude and, unless a fraction of them is fixed, large jumps of the
    closed form's map.

    Parameters
    ----------
    magnitude_file : path-like
        Magnitude, echoes along the fourth axis.
    edge_fraction : float or None
        As in `magnitude_edges`.
    field : ndarray, shape (x, y, z)
        Local field, ppm.
    mask : ndarray of bool, shape (x, y, z)
        Region of interest.
    space : dict
        Voxel size and direction of B0, as returned by `multiqsm.interfaces.images.geometry`.

    Returns
    -------
    ndarray of bool, shape (3, x, y, z)
    """
    edges = magnitude_edges(magnitude_file, mask, edge_fraction)
    if edge_fraction is not None:
        return edges
    return edges | jump_mask(deterministic(field, mask, **space).chi, mask)


def _with_lambda(interface, value):
    if value is not None:
        interface.inputs.lambda_value = value
    return interface


def _with_edges(interface, settings):
    if settings.edge_fraction is not None:
        interface.inputs.edge_fraction = settings.edge_fraction
    return interface


def iterative_weight(standard_error: np.ndarray, mask: np.ndarray, by_noise: bool) -> np.ndarray:
    """Return the data weight of the iterative inversion: by noise, or 1 in every measured voxel."""
    if by_noise:
        return noise_weight(standard_error, mask, SMALLEST_WEIGHT)
    return uniform_weight(standard_error, mask)


class _InversionInputSpec(ThreadedInputSpec):
    local_field_file = File(exists=True, mandatory=True, desc="local field, ppm")
    standard_error_file = File(exists=True, mandatory=True, desc="standard error of the field, ppm")
    mask_file = File(exists=True, mandatory=True, desc="where susceptibility is computed")


class _QuadraticInputSpec(_InversionInputSpec):
    lambda_rule = traits.Enum(
        "whitened", "gcv", "discrepancy", usedefault=True, desc="how λ is chosen"
    )
    lambda_value = traits.Float(desc="fixed λ, mm; default: chosen by the rule")


class _InversionOutputSpec(ProvenanceOutputSpec):
    chi_file = File(desc="susceptibility, ppm, up to a constant")
    record = traits.Instance(
        InversionRecord, desc="record of this inversion, from which it can be repeated"
    )
    time = traits.Instance(InversionTime, desc="its computation time, which is in no sidecar")


class _Inversion(CoreInterface):
    output_spec = _InversionOutputSpec

    def _run_interface(self, runtime):
        field, image = read_volume(self.inputs.local_field_file)
        mask = read_mask(self.inputs.mask_file)
        standard_error, _ = read_volume(self.inputs.standard_error_file)
        with self.threads():
            invert = self._prepare(field, mask, standard_error, image)
            grid = working_grid(mask, geometry(image)["voxel_size"]).shape
            inversion, self._results["time"] = timed(invert, grid)
        chi_file = write_volume(self.out_path(runtime, "chi"), inversion.chi, image)
        record = self._record(inversion)
        self._results["chi_file"] = chi_file
        self._results["record"] = record
        self.record(*record.steps, **b0_fields(image), **record.sidecar())
        return runtime

    def _prepare(self, field, mask, standard_error, image):
        """Return the inversion as a function without arguments, which is timed: edges and weights
        are computed here.
        """
        raise NotImplementedError


class _QuadraticInversion(_Inversion):
    def _options(self, image, standard_error, weight):
        """Return the keyword arguments that both quadratic inversions share.

        The discrepancy principle compares the weighted residual with the noise of the same voxels.
        """
        return {
            **geometry(image),
            "lambda_value": none_if_undefined(self.inputs.lambda_value),
            "lambda_rule": self.inputs.lambda_rule,
            "noise_variance": weighted_variance(standard_error, weight),
        }


class Deterministic(_QuadraticInversion):
    """The closed-form inversion."""

    input_spec = _QuadraticInputSpec

    @classmethod
    def from_settings(cls, settings: Settings, period: float) -> Deterministic:
        """Return the interface with the settings of a run; `period` is not used."""
        return _with_lambda(cls(lambda_rule=settings.lambda_rule), settings.lambda_value)

    def _prepare(self, field, mask, standard_error, image):
        options = self._options(image, standard_error, uniform_weight(standard_error, mask))
        return partial(deterministic, field, mask, measured=np.isfinite(standard_error), **options)

    def _record(self, inversion):
        return DeterministicRecord(
            inversion.lambda_choice, inversion.iterations, inversion.residual, inversion.converged
        )


class _IterativeInputSpec(EdgeInputSpec, _QuadraticInputSpec):
    data_weighting = traits.Enum(
        "noise", "none", usedefault=True, desc="data weights in the mask: by the noise, or none"
    )
    exterior_weight = traits.Float(
        desc="weight of the zero field outside the mask; default: from the noise and the field"
    )
    tolerance = traits.Float(5e-3, usedefault=True, desc="relative residual at which to stop")
    max_iterations = traits.Range(
        low=1, value=100, usedefault=True, desc="largest number of iterations"
    )


class Iterative(_QuadraticInversion):
    """The iterative inversion, which does not penalise edges of the magnitude."""

    input_spec = _IterativeInputSpec
    _exterior_weight: float | None = None  # set by the inversion

    @property
    def _weighs_noise(self):
        return self.inputs.data_weighting == "noise"

    @classmethod
    def from_settings(cls, settings: Settings, period: float) -> Iterative:
        """Return the interface with the settings of a run; `period` is not used."""
        interface = cls(lambda_rule=settings.lambda_rule, data_weighting=settings.data_weighting)
        if settings.exterior_weight is not None:
            interface.inputs.exterior_weight = settings.exterior_weight
        return _with_lambda(_with_edges(interface, settings), settings.lambda_value)

    def _prepare(self, field, mask, standard_error, image):
        inputs = self.inputs
        space = geometry(image)
        weight = iterative_weight(standard_error, mask, self._weighs_noise)
        self._exterior_weight = inputs.exterior_weight
        if not isdefined(inputs.exterior_weight):
            variance = weighted_variance(standard_error, uniform_weight(standard_error, mask))
            self._exterior_weight = zero_field_weight(field, mask, variance)
        return partial(
            iterative,
            field,
            mask,
            edges=free_edges(
                inputs.magnitude_file, none_if_undefined(inputs.edge_fraction), field, mask, space
            ),
            data_weight=weight,
            exterior_weight=self._exterior_weight,
            tolerance=inputs.tolerance,
            max_iterations=inputs.max_iterations,
            **self._options(image, standard_error, weight),
        )

    def _record(self, inversion):
        inputs = self.inputs
        return IterativeRecord(
            inversion.lambda_choice,
            inversion.iterations,
            inversion.residual,
            inversion.converged,
            edge_fraction=none_if_undefined(inputs.edge_fraction),
            weighs_noise=self._weighs_noise,
            exterior_weight=self._exterior_weight,
            derives_exterior_weight=not isdefined(inputs.exterior_weight),
            tolerance=inputs.tolerance,
            max_iterations=inputs.max_iterations,
        )


class _MediInputSpec(EdgeInputSpec, _InversionInputSpec):
    lambda_rule = traits.Enum("scaled", "discrepancy", usedefault=True, desc="how λ is chosen")
    medi_lambda = traits.Float(desc="fixed λ, ppm·mm; default: chosen by the rule")
    medi_data = traits.Enum(
        "nonlinear", "linear", usedefault=True, desc="data term: phase factors, or the field"
    )
    period = traits.Float(
        desc="field that wraps the phase once, ppm; needed by the nonlinear data term"
    )
    merit = traits.Bool(
        True,
        usedefault=True,
        desc="down-weight voxels that are inconsistent with the dipole model (MERIT)",
    )
    tolerance = traits.Float(2e-2, usedefault=True, desc="relative change of χ at which to stop")
    max_iterations = traits.Range(
        low=1, value=100, usedefault=True, desc="largest number of iterations"
    )


class Medi(_Inversion):
    """Morphology-enabled dipole inversion (MEDI)."""

    input_spec = _MediInputSpec
    # MEDI's rule for each rule of the settings; its own rules need no search for λ
    rules: ClassVar[dict[str, str]] = {
        "whitened": "scaled",
        "gcv": "scaled",
        "discrepancy": "discrepancy",
    }

    @classmethod
    def from_settings(cls, settings: Settings, period: float) -> Medi:
        """Return the interface with the settings of a run.

        Parameters
        ----------
        settings : multiqsm.workflows.settings.Settings
            Edges, data term and the rule for λ.
        period : float
            Field that wraps the phase once between echoes, ppm.
        """
        interface = cls(
            lambda_rule=cls.rules[settings.lambda_rule],
            medi_data=settings.medi_data,
            merit=settings.merit,
        )
        if settings.medi_data == "nonlinear":
            interface.inputs.period = period
        if settings.medi_lambda is not None:
            interface.inputs.medi_lambda = settings.medi_lambda
        return _with_edges(interface, settings)

    def _prepare(self, field, mask, standard_error, image):
        inputs = self.inputs
        space = geometry(image)
        return partial(
            medi,
            field,
            mask,
            edges=free_edges(
                inputs.magnitude_file, none_if_undefined(inputs.edge_fraction), field, mask, space
            ),
            standard_error=standard_error,
            medi_lambda=none_if_undefined(inputs.medi_lambda),
            lambda_rule=inputs.lambda_rule,
            **self._solver(),
            **space,
        )

    def _solver(self):
        """Return the keyword arguments of `medi` that its record holds as well."""
        inputs = self.inputs
        return {
            "medi_data": inputs.medi_data,
            "period": none_if_undefined(inputs.period),
            "merit": inputs.merit,
            "tolerance": inputs.tolerance,
            "max_iterations": inputs.max_iterations,
        }

    def _record(self, inversion):
        return MediRecord(
            inversion.lambda_choice,
            inversion.iterations,
            inversion.residual,
            inversion.converged,
            edge_fraction=none_if_undefined(self.inputs.edge_fraction),
            **self._solver(),
        )


class _TKDInputSpec(_InversionInputSpec):
    threshold = traits.Float(
        KERNEL_THRESHOLD,
        usedefault=True,
        desc="smallest magnitude of the dipole kernel; smaller values are replaced by it",
    )


class TKD(_Inversion):
    """Thresholded k-space division (TKD)."""

    input_spec = _TKDInputSpec

    @classmethod
    def from_settings(cls, settings: Settings, period: float) -> TKD:
        """Return the interface; no setting of a run applies to it."""
        return cls()

    def _prepare(self, field, mask, standard_error, image):
        options = {"threshold": self.inputs.threshold, **geometry(image)}
        return partial(divide_field, field, mask, **options)

    def _record(self, inversion):
        return TKDRecord(
            inversion.lambda_choice,
            inversion.iterations,
            inversion.residual,
            inversion.converged,
            threshold=self.inputs.threshold,
        )


INTERFACES = {"medi": Medi, "iterative": Iterative, "deterministic": Deterministic, "tkd": TKD}
