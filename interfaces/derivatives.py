"""Write results into the derivative dataset."""

import os
import uuid
from pathlib import Path

from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, isdefined, traits

from ..core.fieldfit import combine_magnitude
from ..core.phase import ppm_to_hz
from ..dataset.derivatives import derivative_path, write_sidecar
from .images import read_mask, read_volume, write_volume


class _SaveDerivativeInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image to save")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    entities = traits.Dict(mandatory=True, desc="entities of the scan, by their long names")
    suffix = traits.Str(mandatory=True, desc="BIDS suffix")
    desc = traits.Str(desc="BIDS desc entity")
    datatype = traits.Enum("anat", "fmap", usedefault=True, desc="BIDS datatype")
    metadata = traits.Dict(usedefault=True, desc="sidecar fields of this kind of image")
    provenance = traits.Dict(usedefault=True, desc="sidecar fields of the steps that made it")
    hz_per_ppm = traits.Float(desc="convert from ppm to Hz: the centre frequency in MHz")
    is_mask = traits.Bool(False, usedefault=True, desc="save as integers")
    combine_echoes = traits.Bool(False, usedefault=True, desc="save the root sum of squares over the echoes")


class _SaveDerivativeOutputSpec(TraitedSpec):
    out_file = File(desc="the saved image")


class SaveDerivative(SimpleInterface):
    """Save an image under its BIDS name, with its sidecar; a reader never meets half a file."""

    input_spec = _SaveDerivativeInputSpec
    output_spec = _SaveDerivativeOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        given = self.inputs
        path = derivative_path(
            given.output_dir,
            given.entities,
            suffix=given.suffix,
            desc=given.desc if isdefined(given.desc) else None,
            datatype=given.datatype,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{uuid.uuid4().hex}.nii.gz")
        try:
            self._write(partial)
            write_sidecar(path, {**given.provenance, **given.metadata})
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        self._results["out_file"] = str(Path(path).absolute())
        return runtime

    def _write(self, path):
        data, image = read_volume(self.inputs.in_file)
        if self.inputs.is_mask:
            data = read_mask(self.inputs.in_file)
        if self.inputs.combine_echoes:
            data = combine_magnitude(data)
        if isdefined(self.inputs.hz_per_ppm):
            data = ppm_to_hz(data, self.inputs.hz_per_ppm)
        write_volume(path, data, image)
