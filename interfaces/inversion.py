"""Susceptibility from the local field."""

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from ..core.fieldfit import combine_magnitude, noise_weight
from ..core.inversion import deterministic, iterative, zero_field_weight
from ..core.regularization import edge_mask
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec
from .images import geometry, read_mask, read_volume, write_volume


class _InversionInputSpec(ThreadedInputSpec):
    local_field_file = File(exists=True, mandatory=True, desc="local field, ppm")
    standard_error_file = File(exists=True, mandatory=True, desc="standard error of the field, ppm")
    mask_file = File(exists=True, mandatory=True, desc="where susceptibility is wanted")
    lambda_rule = traits.Enum("gcv", "discrepancy", usedefault=True, desc="how λ is chosen")
    lambda_value = traits.Float(desc="fixed λ, mm; chosen by the rule if not given")


class _InversionOutputSpec(ProvenanceOutputSpec):
    chi_file = File(desc="susceptibility, ppm, up to a constant")


class _Inversion(CoreInterface):
    output_spec = _InversionOutputSpec

    def _run_interface(self, runtime):
        field, image = read_volume(self.inputs.local_field_file)
        mask = read_mask(self.inputs.mask_file)
        standard_error, _ = read_volume(self.inputs.standard_error_file)
        with self.threads():
            found = self._invert(field, mask, standard_error, image)
        self._results["chi_file"] = write_volume(self.out_path(runtime, "chi"), found.chi, image)
        self.record(
            B0Direction=list(geometry(image)["b0_dir"]),
            InversionIterations=found.iterations,
            InversionResidual=found.residual,
            Lambda=found.lam.value,
            LambdaRule=found.lam.rule,
            LambdaAtBound=found.lam.at_bound,
            **self._described(),
        )
        return runtime

    def _options(self, mask, standard_error, image):
        """Keyword arguments that both inversions share."""
        known = standard_error[mask & np.isfinite(standard_error)]
        return {
            "b0_dir": geometry(image)["b0_dir"],
            "voxel_size": geometry(image)["voxel_size"],
            "lam": self.inputs.lambda_value if isdefined(self.inputs.lambda_value) else None,
            "rule": self.inputs.lambda_rule,
            "noise_variance": float(np.mean(known**2, dtype=np.float64)) if known.size else None,
        }


class Deterministic(_Inversion):
    """The closed-form inversion."""

    input_spec = _InversionInputSpec

    def _invert(self, field, mask, standard_error, image):
        return deterministic(field, mask, **self._options(mask, standard_error, image))

    def _described(self):
        return {"Inversion": "deterministic: closed form, all gradients penalised"}


class _IterativeInputSpec(_InversionInputSpec):
    magnitude_file = File(exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis, for its edges")
    edge_share = traits.Float(0.2, usedefault=True, desc="share of the mask's gradients that count as edges")
    weigh_noise = traits.Bool(True, usedefault=True, desc="believe noisy voxels less")
    outside_weight = traits.Float(desc="weight of the zero field outside the mask; from noise and field if not given")
    tolerance = traits.Float(5e-3, usedefault=True, desc="relative residual at which to stop")


class Iterative(_Inversion):
    """The inversion that leaves the magnitude's edges free."""

    input_spec = _IterativeInputSpec

    def _invert(self, field, mask, standard_error, image):
        magnitude = combine_magnitude(read_volume(self.inputs.magnitude_file)[0])
        edges = edge_mask(magnitude, mask, share=self.inputs.edge_share)
        options = self._options(mask, standard_error, image)
        self._outside_weight = self.inputs.outside_weight
        if not isdefined(self.inputs.outside_weight):
            self._outside_weight = zero_field_weight(field, mask, options["noise_variance"])
        return iterative(
            field,
            mask,
            edges=edges,
            data_weight=noise_weight(standard_error, mask) if self.inputs.weigh_noise else None,
            outside_weight=self._outside_weight,
            tolerance=self.inputs.tolerance,
            **options,
        )

    def _described(self):
        return {
            "Inversion": "iterative: conjugate gradients, gradients penalised where the magnitude has no edge",
            "EdgeShare": self.inputs.edge_share,
            "DataWeight": "inverse standard error" if self.inputs.weigh_noise else "none",
            "OutsideFieldWeight": self._outside_weight,
            "InversionTolerance": self.inputs.tolerance,
        }
