"""Field map and R2* map of a scan."""

import numpy as np
from nipype.interfaces.base import File, traits

from ..core.phase.fieldfit import fit_field, fit_r2star
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec
from .images import geometry, read_mask, read_volume, write_volume

# Images of a fit that the node writes.
_IMAGES = (
    "field",
    "standard_error",
    "total_error",
    "noise_error",
    "phase_offset",
    "residual",
    "unresolved",
)


class _EchoesInputSpec(ProvenanceInputSpec):
    magnitude_file = File(
        exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis"
    )
    mask_file = File(exists=True, mandatory=True, desc="mask of the voxels to fit")
    echo_times = traits.List(traits.Float, mandatory=True, desc="echo times, s")


class _FitFieldInputSpec(_EchoesInputSpec):
    unwrapped_file = File(
        exists=True, mandatory=True, desc="unwrapped phase, rad, echoes along the fourth axis"
    )
    centre_frequency = traits.Float(mandatory=True, desc="centre frequency of the scanner, MHz")


class _FitFieldOutputSpec(ProvenanceOutputSpec):
    field_file = File(desc="field, ppm")
    standard_error_file = File(desc="standard error of the field, to weight voxels by, ppm")
    total_error_file = File(desc="standard error of the field, of noise and systematic misfit, ppm")
    noise_error_file = File(desc="part of the total error that noise explains, ppm")
    phase_offset_file = File(desc="phase offset: phase at TE = 0, rad")
    residual_file = File(desc="weighted root mean square of measured minus fitted phase, rad")
    unresolved_file = File(desc="voxels whose phase may be unwrapped wrongly")


class FitField(CoreInterface):
    """Fit the field to the unwrapped phase of all echoes."""

    input_spec = _FitFieldInputSpec
    output_spec = _FitFieldOutputSpec

    def _run_interface(self, runtime):
        phase, image = read_volume(self.inputs.unwrapped_file)
        magnitude, _ = read_volume(self.inputs.magnitude_file)
        mask = read_mask(self.inputs.mask_file)
        fit = fit_field(
            phase,
            magnitude,
            self.inputs.echo_times,
            mask,
            centre_frequency=self.inputs.centre_frequency,
            voxel_size=geometry(image)["voxel_size"],
        )
        has_several_echoes = len(self.inputs.echo_times) > 1
        for name in _IMAGES:
            path = self.out_path(runtime, name)
            self._results[f"{name}_file"] = write_volume(path, getattr(fit, name), image)
        self.record(
            "fieldmap" if has_several_echoes else "single_fieldmap",
            FieldFit="weighted least squares of phase on echo time"
            + (", with intercept" if has_several_echoes else ", through zero"),
            EchoTimes=list(self.inputs.echo_times),
            MagnitudeNoiseStandardDeviation=fit.noise.sd,
            MagnitudeNoiseOfEchoes=list(fit.noise.of_echoes),
            MagnitudeNoiseSource=fit.noise.source,
            **_snr(magnitude[..., 0], mask, fit.noise),
            UnresolvedVoxels=int(np.count_nonzero(fit.unresolved)),
            MedianFieldStandardError=float(np.median(fit.total_error[mask])),
            MedianFieldNoiseError=float(np.median(fit.noise_error[mask])),
            MedianFieldSystematicError=float(np.median(fit.systematic_error[mask])),
        )
        return runtime


def _snr(first_echo, mask, noise):
    """Return the sidecar field of the first echo's signal-to-noise ratio, unless noise is zero."""
    if not (noise.sd and mask.any()):
        return {}
    signal = float(np.mean(first_echo[mask], dtype=np.float64))
    return {"FirstEchoSignalToNoise": signal / noise.sd}


class _FitR2starOutputSpec(ProvenanceOutputSpec):
    r2star_file = File(desc="R2*, 1/s")


class FitR2star(CoreInterface):
    """Fit R2* to the magnitude of all echoes."""

    input_spec = _EchoesInputSpec
    output_spec = _FitR2starOutputSpec

    def _run_interface(self, runtime):
        magnitude, image = read_volume(self.inputs.magnitude_file)
        r2star = fit_r2star(magnitude, self.inputs.echo_times, read_mask(self.inputs.mask_file))
        self._results["r2star_file"] = write_volume(self.out_path(runtime, "r2star"), r2star, image)
        self.record(
            "r2star",
            R2starFit="weighted least squares of log magnitude on echo time",
            EchoTimes=list(self.inputs.echo_times),
        )
        return runtime
