"""Background field removal."""

import numpy as np
from nipype.interfaces.base import File, isdefined, traits
from scipy.stats import median_abs_deviation

from ..core.background.highpass import high_pass
from ..core.background.mean_value import sharp, vsharp
from ..core.background.projection import pdf
from ..core.background.total_field import (
    FIELD_PENALTY,
    GRADIENT_PENALTY,
    PROJECTION_TOLERANCE,
    tfi,
)
from ..core.holes import interpolate_unmeasured
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec, none_if_undefined
from .images import b0_fields, geometry, read_mask, read_volume, write_volume
from .inversion import EdgeInputSpec, magnitude_edges
from .methods import edge_fields, edge_step


class _BackgroundInputSpec(ThreadedInputSpec):
    field_file = File(exists=True, mandatory=True, desc="total field, ppm")
    standard_error_file = File(exists=True, desc="standard error of the field, ppm")
    mask_file = File(exists=True, mandatory=True, desc="where the local field is computed")


class _BackgroundOutputSpec(ProvenanceOutputSpec):
    local_field_file = File(desc="local field, ppm")
    mask_file = File(desc="where the local field is valid")


class _BackgroundRemoval(CoreInterface):
    output_spec = _BackgroundOutputSpec

    def _run_interface(self, runtime):
        field, image = read_volume(self.inputs.field_file)
        mask = read_mask(self.inputs.mask_file)
        space = geometry(image)
        with self.threads():
            removal = self._remove(field, mask, **space)
        valid = removal.mask
        local_field = self._fill_unmeasured(removal.local_field, valid, space["voxel_size"])
        self._results["local_field_file"] = write_volume(
            self.out_path(runtime, "local_field"), local_field, image
        )
        self._results["mask_file"] = write_volume(self.out_path(runtime, "mask"), valid, image)
        n_lost = int(np.count_nonzero(mask & ~valid))
        values = local_field[valid]
        self.record(
            *self._steps(),
            **self._fields(removal),
            **b0_fields(image),
            BackgroundMaskVoxelsLost=n_lost,
            BackgroundMaskFractionLost=n_lost / int(np.count_nonzero(mask)),
            LocalFieldStandardDeviation=float(np.std(values, dtype=np.float64)),
            LocalFieldRobustStandardDeviation=float(median_abs_deviation(values, scale="normal")),
        )
        return runtime

    def _steps(self):
        return (self.step,)

    def _fill_unmeasured(self, local_field, mask, voxel_size):
        """Interpolate the local field in voxels where the total field was not measured.

        Inside the mask this changes nothing, since the background is harmonic. At the surface of a
        phantom, next to sources outside, the data do not constrain the background in such voxels.
        """
        if not isdefined(self.inputs.standard_error_file):
            return local_field
        measured = np.isfinite(self._standard_error())
        return interpolate_unmeasured(local_field, measured, mask, voxel_size)

    def _standard_error(self):
        return read_volume(self.inputs.standard_error_file)[0]


class _TFIInputSpec(EdgeInputSpec, _BackgroundInputSpec):
    tolerance = traits.Float(
        5e-2, usedefault=True, desc="relative change of the local field at which to stop"
    )
    margin = traits.Float(
        10.0, usedefault=True, desc="margin around the mask in which sources may lie, mm"
    )
    max_iterations = traits.Range(
        low=1, value=100, usedefault=True, desc="largest number of iterations"
    )


class TFI(_BackgroundRemoval):
    """Total field inversion (TFI): background sources and susceptibility from one equation."""

    input_spec = _TFIInputSpec
    step = "tfi"

    def _steps(self):
        return self.step, edge_step(none_if_undefined(self.inputs.edge_fraction))

    def _remove(self, field, mask, **space):
        inputs = self.inputs
        return tfi(
            field,
            mask,
            edges=magnitude_edges(
                inputs.magnitude_file, mask, none_if_undefined(inputs.edge_fraction)
            ),
            standard_error=self._standard_error(),
            margin=inputs.margin,
            tolerance=inputs.tolerance,
            max_iterations=inputs.max_iterations,
            **space,
        )

    def _fields(self, removal):
        return {
            "BackgroundRemoval": "sources outside and susceptibility inside estimated together "
            "(TFI)",
            **edge_fields(none_if_undefined(self.inputs.edge_fraction), "Background"),
            "BackgroundLambda": removal.lambda_value,
            "BackgroundLambdaUnits": "ppm*mm",
            "BackgroundLambdaRule": "scaled",
            "BackgroundFieldPenalty": FIELD_PENALTY,
            "BackgroundGradientPenalty": GRADIENT_PENALTY,
            "BackgroundProjectionTolerance": PROJECTION_TOLERANCE,
            "BackgroundMargin": self.inputs.margin,
            "BackgroundTolerance": self.inputs.tolerance,
            # named apart from the iterations of the projection onto dipole fields
            "BackgroundTFIIterationsAllowed": self.inputs.max_iterations,
            "BackgroundIterations": removal.iterations,
            "BackgroundRelativeResidual": removal.relative_residual,
        }


class _PDFInputSpec(_BackgroundInputSpec):
    tolerance = traits.Float(
        1e-3,
        usedefault=True,
        desc="relative decrease of the local field's power at which to stop",
    )
    margin = traits.Float(
        10.0, usedefault=True, desc="margin around the mask in which sources may lie, mm"
    )


class PDF(_BackgroundRemoval):
    """Projection onto dipole fields (PDF)."""

    input_spec = _PDFInputSpec
    step = "pdf"

    def _remove(self, field, mask, **space):
        options = {"margin": self.inputs.margin, "tolerance": self.inputs.tolerance}
        return pdf(field, mask, standard_error=self._standard_error(), **space, **options)

    def _fields(self, removal):
        return {
            "BackgroundRemoval": "projection onto dipole fields (PDF)",
            "BackgroundMargin": self.inputs.margin,
            "BackgroundTolerance": self.inputs.tolerance,
            "BackgroundIterations": removal.iterations,
            "BackgroundRelativeResidual": removal.relative_residual,
        }


class _VSHARPInputSpec(_BackgroundInputSpec):
    radius = traits.Float(16.0, usedefault=True, desc="largest radius of the spheres, mm")
    tolerance = traits.Float(0.15, usedefault=True, desc="relative residual at which to stop")


class VSHARP(_BackgroundRemoval):
    """Spherical means over the largest spheres that fit into the mask (V-SHARP)."""

    input_spec = _VSHARPInputSpec
    step = "vsharp"

    def _remove(self, field, mask, **space):
        options = {"radius": self.inputs.radius, "tolerance": self.inputs.tolerance}
        return vsharp(field, mask, standard_error=self._standard_error(), **space, **options)

    def _fields(self, removal):
        return {
            "BackgroundRemoval": "spherical means of variable radius, deconvolved by least squares "
            "(V-SHARP)",
            "BackgroundRadius": self.inputs.radius,
            "BackgroundTolerance": self.inputs.tolerance,
            "BackgroundIterations": removal.iterations,
            "BackgroundRelativeResidual": removal.relative_residual,
        }


class _SHARPInputSpec(_BackgroundInputSpec):
    radius = traits.Float(6.0, usedefault=True, desc="radius of the sphere, mm")
    threshold = traits.Float(
        0.02, usedefault=True, desc="smallest gain at which a spatial frequency is restored"
    )


class SHARP(_BackgroundRemoval):
    """Spherical means of a single radius (SHARP)."""

    input_spec = _SHARPInputSpec
    step = "sharp"

    def _remove(self, field, mask, **space):
        return sharp(
            field, mask, radius=self.inputs.radius, threshold=self.inputs.threshold, **space
        )

    def _fields(self, removal):
        return {
            "BackgroundRemoval": "spherical means, deconvolved by truncation (SHARP)",
            "BackgroundRadius": self.inputs.radius,
            "BackgroundThreshold": self.inputs.threshold,
        }


class _HighPassInputSpec(_BackgroundInputSpec):
    cutoff = traits.Float(
        16.0, usedefault=True, desc="wavelength at which the gain is one half, mm"
    )


class HighPass(_BackgroundRemoval):
    """Gaussian high-pass filter, as a baseline for comparison."""

    input_spec = _HighPassInputSpec
    step = "highpass"

    def _remove(self, field, mask, **space):
        return high_pass(field, mask, cutoff=self.inputs.cutoff, **space)

    def _fields(self, removal):
        return {
            "BackgroundRemoval": "Gaussian high-pass filter",
            "BackgroundCutoff": self.inputs.cutoff,
        }


INTERFACES = {"tfi": TFI, "pdf": PDF, "vsharp": VSHARP, "sharp": SHARP, "highpass": HighPass}
