"""From the scanner's files to magnitude and phase in radians, and to unwrapped phase."""

import numpy as np
from nipype.interfaces.base import File, InputMultiObject, isdefined, traits

from ..core.phase.encoding import (
    PhaseEncodingError,
    apply_sign,
    decode_phase,
    default_sign,
    from_real_imaginary,
)
from ..core.phase.unwrapping import MODES, unwrap_echoes
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec
from .images import read_mask, read_volume, write_volume


class _DecodeEchoesInputSpec(ProvenanceInputSpec):
    magnitude = InputMultiObject(File(exists=True), desc="magnitude, one file an echo")
    phase = InputMultiObject(File(exists=True), desc="phase, one file an echo")
    real = InputMultiObject(File(exists=True), desc="real part, one file an echo")
    imaginary = InputMultiObject(File(exists=True), desc="imaginary part, one file an echo")
    units = traits.Str(desc="Units of the phase, from its sidecar")
    manufacturer = traits.Str(desc="Manufacturer, from the sidecar")
    phase_sign = traits.Enum(
        0, 1, -1, usedefault=True, desc="sign of the phase; 0: the manufacturer's"
    )


class _DecodeEchoesOutputSpec(ProvenanceOutputSpec):
    magnitude_file = File(desc="magnitude, echoes along the fourth axis")
    phase_file = File(desc="wrapped phase, rad, echoes along the fourth axis")


class DecodeEchoes(CoreInterface):
    """Read a scan's echoes, whatever their encoding, as one magnitude and one phase image."""

    input_spec = _DecodeEchoesInputSpec
    output_spec = _DecodeEchoesOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        like = read_volume((inputs.phase or inputs.real)[0])[1]
        try:
            magnitude, phase, encoding, blanked = self._decoded()
        except PhaseEncodingError as error:
            raise PhaseEncodingError(f"{(inputs.phase or inputs.real)[0]}: {error}") from error
        sign, reason = default_sign(inputs.manufacturer if isdefined(inputs.manufacturer) else None)
        if inputs.phase_sign:
            sign = inputs.phase_sign
            reason = f"{inputs.phase_sign:+d}: given by the user"
        self._results["magnitude_file"] = write_volume(
            self.out_path(runtime, "magnitude"), magnitude, like
        )
        self._results["phase_file"] = write_volume(
            self.out_path(runtime, "phase"), apply_sign(phase, sign), like
        )
        self.record(
            PhaseEncoding=encoding,
            PhaseSign=sign,
            PhaseSignSource=reason,
            NonFiniteVoxelsSetToZero=blanked,
        )
        return runtime

    def _decoded(self):
        """Magnitude, phase, the encoding's name, and how many voxels were not finite (all in the
        background).
        """
        inputs = self.inputs
        if isdefined(inputs.real) and inputs.real:
            (real, n_real) = _stack(inputs.real)
            (imaginary, n_imaginary) = _stack(inputs.imaginary)
            return (
                *from_real_imaginary(real, imaginary),
                "real and imaginary parts",
                n_real + n_imaginary,
            )
        (magnitude, n_magnitude) = _stack(inputs.magnitude)
        (stored, n_phase) = _stack(inputs.phase)
        phase, encoding = decode_phase(
            stored,
            units=inputs.units if isdefined(inputs.units) else None,
            manufacturer=inputs.manufacturer if isdefined(inputs.manufacturer) else None,
            echo_axis=-1,
        )
        return magnitude, phase, encoding.name, n_magnitude + n_phase


def _stack(files):
    """Read the echoes; what is not finite becomes zero and is counted.

    Preflight has refused scans where that would touch a voxel with signal.
    """
    stack = np.stack([read_volume(f)[0] for f in files], axis=-1)
    blank = ~np.isfinite(stack)
    stack[blank] = 0
    return stack, int(np.count_nonzero(blank))


class _UnwrapInputSpec(ProvenanceInputSpec):
    phase_file = File(
        exists=True, mandatory=True, desc="wrapped phase, rad, echoes along the fourth axis"
    )
    mask_file = File(exists=True, mandatory=True, desc="where to unwrap")
    echo_times = traits.List(traits.Float, mandatory=True, desc="echo times, s")
    mode = traits.Enum(*MODES, usedefault=True, desc="how later echoes are unwrapped")


class _UnwrapOutputSpec(ProvenanceOutputSpec):
    unwrapped_file = File(desc="unwrapped phase, rad, echoes along the fourth axis")


class Unwrap(CoreInterface):
    """Unwrap the phase of all echoes in space and in time."""

    input_spec = _UnwrapInputSpec
    output_spec = _UnwrapOutputSpec

    def _run_interface(self, runtime):
        phase, image = read_volume(self.inputs.phase_file)
        mask = read_mask(self.inputs.mask_file)
        unwrapped = unwrap_echoes(phase, mask, self.inputs.echo_times, mode=self.inputs.mode)
        self._results["unwrapped_file"] = write_volume(
            self.out_path(runtime, "unwrapped"), unwrapped, image
        )
        mode = self.inputs.mode if len(self.inputs.echo_times) > 1 else "single"
        step = "unwrapping" if mode == "spatial" else f"{mode}_unwrapping"
        self.record(step, UnwrappingMode=self.inputs.mode)
        return runtime
