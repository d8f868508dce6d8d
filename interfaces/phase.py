"""From the scanner's files to magnitude and phase in radians, and to unwrapped phase."""

from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, InputMultiObject, isdefined, traits

from ..core.artefacts.coherence import undo_alternation
from ..core.phase.encoding import (
    PhaseEncodingError,
    apply_sign,
    decode_phase,
    default_sign,
    from_real_imaginary,
)
from ..core.phase.readout import fit_readout_phase, remove_readout_phase
from ..core.phase.unmeasured import background_without_phase
from ..core.phase.unwrapping import UNWRAPPINGS, unwrap_echoes
from ..core.scale import comfortable_scale
from ..dataset.entities import StackedEcho
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec, none_if_undefined
from .images import read_mask, read_single_volume, read_volume, write_volume

AXIS_NAMES = ("first axis", "second axis", "third axis")


class _DecodeEchoesInputSpec(ProvenanceInputSpec):
    magnitude = InputMultiObject(File(exists=True), desc="magnitude, one file for each echo")
    phase = InputMultiObject(File(exists=True), desc="phase, one file for each echo")
    real = InputMultiObject(File(exists=True), desc="real part, one file for each echo")
    imaginary = InputMultiObject(File(exists=True), desc="imaginary part, one file for each echo")
    volumes = traits.Dict(
        usedefault=True,
        desc="for parts whose files have several echoes along the fourth axis: place of each echo, "
        "from 0, or -1 for a file with one echo",
    )
    alternating_axes = traits.List(
        traits.Int,
        usedefault=True,
        desc="axes along which the sign of all echoes alternates from voxel to voxel",
    )
    units = traits.Str(desc="units of the phase, from its sidecar")
    manufacturer = traits.Str(desc="manufacturer, from the sidecar")
    phase_sign = traits.Enum(
        0, 1, -1, usedefault=True, desc="sign of the phase; 0: that of the manufacturer"
    )


class _DecodeEchoesOutputSpec(ProvenanceOutputSpec):
    magnitude_file = File(desc="magnitude, echoes along the fourth axis")
    phase_file = File(desc="wrapped phase, rad, echoes along the fourth axis")


class DecodeEchoes(CoreInterface):
    """Read a scan's echoes in any encoding, as one magnitude and one phase image."""

    input_spec = _DecodeEchoesInputSpec
    output_spec = _DecodeEchoesOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        first_file = (inputs.phase or inputs.real)[0]
        _, like = read_single_volume(first_file)
        try:
            magnitude, phase, encoding, record = self._decode()
        except PhaseEncodingError as error:
            raise PhaseEncodingError(f"{first_file}: {error.for_image}") from error
        if inputs.alternating_axes:
            phase = undo_alternation(phase, inputs.alternating_axes)
            record["AlternatingSignUndone"] = [AXIS_NAMES[axis] for axis in inputs.alternating_axes]
        scale = comfortable_scale(float(magnitude.max()))
        if scale != 1:
            magnitude = magnitude * np.float32(scale)
            record["MagnitudeScale"] = scale
        sign, source = default_sign(none_if_undefined(inputs.manufacturer))
        if inputs.phase_sign:
            sign = inputs.phase_sign
            source = f"{inputs.phase_sign:+d}: given by the user"
        self._results["magnitude_file"] = write_volume(
            self.out_path(runtime, "magnitude"), magnitude, like
        )
        self._results["phase_file"] = write_volume(
            self.out_path(runtime, "phase"), apply_sign(phase, sign), like
        )
        self.record(
            PhaseEncoding=encoding,
            PhaseSign=sign,
            PhaseSignSource=source,
            **record,
        )
        return runtime

    def _decode(self):
        """Return magnitude, phase, the encoding's name, and the numbers of voxels that were set to
        zero, by sidecar field.
        """
        inputs = self.inputs
        if isdefined(inputs.real) and inputs.real:
            real, n_real = self._read_echoes("real")
            imaginary, n_imaginary = self._read_echoes("imaginary")
            magnitude, phase = from_real_imaginary(real, imaginary)
            counts = {"NonFiniteVoxelsSetToZero": n_real + n_imaginary}
            return magnitude, phase, "real and imaginary parts", counts
        magnitude, n_magnitude = self._read_echoes("magnitude")
        stored_values, n_phase = self._read_echoes("phase")
        phase, encoding = decode_phase(
            stored_values,
            units=none_if_undefined(inputs.units),
            manufacturer=none_if_undefined(inputs.manufacturer),
            echo_axis=-1,
        )
        counts = {"NonFiniteVoxelsSetToZero": n_magnitude + n_phase}
        # Other programs mask phase but not magnitude. Without this, the constant phase of scalp and
        # air would look like a good one.
        background = background_without_phase(stored_values)
        if n_background := int(np.count_nonzero(magnitude[background].any(axis=-1))):
            magnitude[background] = 0
            counts["VoxelsWithoutPhase"] = n_background
        return magnitude, phase, encoding.name, counts

    def _read_echoes(self, part):
        """Read echoes along a fourth axis; set non-finite voxels to zero and return their number.

        The preflight checks have excluded scans that have such voxels outside the background.
        """
        files = getattr(self.inputs, part)
        echoes = []
        for file, place in zip(
            files, self.inputs.volumes.get(part, [-1] * len(files)), strict=True
        ):
            echo = file if place < 0 else StackedEcho(Path(file), place)
            echoes.append(read_single_volume(echo)[0])
        stack = np.stack(echoes, axis=-1)
        is_not_finite = ~np.isfinite(stack)
        stack[is_not_finite] = 0
        return stack, int(np.count_nonzero(is_not_finite))


class _CorrectReadoutInputSpec(ProvenanceInputSpec):
    magnitude_file = File(
        exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis"
    )
    phase_file = File(
        exists=True, mandatory=True, desc="wrapped phase, rad, echoes along the fourth axis"
    )
    echo_times = traits.List(traits.Float, mandatory=True, desc="echo times, s, increasing")


class _CorrectReadoutOutputSpec(ProvenanceOutputSpec):
    magnitude_file = File(desc="magnitude, unchanged")
    phase_file = File(desc="wrapped phase, rad, without the phase of the readout")


class CorrectReadout(CoreInterface):
    """Remove the offset and the ramp of phase that a bipolar readout adds to even echoes."""

    input_spec = _CorrectReadoutInputSpec
    output_spec = _CorrectReadoutOutputSpec

    def _run_interface(self, runtime):
        magnitude, _ = read_volume(self.inputs.magnitude_file)
        phase, image = read_volume(self.inputs.phase_file)
        self._results["magnitude_file"] = self.inputs.magnitude_file
        readout = fit_readout_phase(magnitude, phase, self.inputs.echo_times)
        if readout is None:  # possible if harmonisation has left out some of the echoes
            self._results["phase_file"] = self.inputs.phase_file
            self.record(EvenEchoPhaseRemoved=False)
            return runtime
        corrected = remove_readout_phase(phase, readout)
        self._results["phase_file"] = write_volume(
            self.out_path(runtime, "phase"), corrected, image
        )
        self.record(
            "readout_phase",
            EvenEchoPhaseRemoved=True,
            EvenEchoPhaseOffset=readout.offset,
            EvenEchoPhaseRamp=list(readout.ramp),
            EvenEchoPhaseScatter=readout.scatter,
        )
        return runtime


class _UnwrapInputSpec(ProvenanceInputSpec):
    phase_file = File(
        exists=True, mandatory=True, desc="wrapped phase, rad, echoes along the fourth axis"
    )
    mask_file = File(exists=True, mandatory=True, desc="mask of the voxels to unwrap")
    echo_times = traits.List(traits.Float, mandatory=True, desc="echo times, s")
    unwrapping = traits.Enum(*UNWRAPPINGS, usedefault=True, desc="how later echoes are unwrapped")


class _UnwrapOutputSpec(ProvenanceOutputSpec):
    unwrapped_file = File(desc="unwrapped phase, rad, echoes along the fourth axis")


class Unwrap(CoreInterface):
    """Unwrap the phase of all echoes in space and in time."""

    input_spec = _UnwrapInputSpec
    output_spec = _UnwrapOutputSpec

    def _run_interface(self, runtime):
        phase, image = read_volume(self.inputs.phase_file)
        mask = read_mask(self.inputs.mask_file)
        unwrapping = self.inputs.unwrapping
        unwrapped = unwrap_echoes(phase, mask, self.inputs.echo_times, unwrapping=unwrapping)
        self._results["unwrapped_file"] = write_volume(
            self.out_path(runtime, "unwrapped"), unwrapped, image
        )
        if len(self.inputs.echo_times) == 1:
            step = "single_unwrapping"
        elif unwrapping == "spatial":
            step = "unwrapping"
        else:
            step = f"{unwrapping}_unwrapping"
        self.record(step, UnwrappingMode=unwrapping)
        return runtime
