"""Harmonisation of voxel sizes."""

import numpy as np
from nipype.interfaces.base import File, traits

from ..core.harmonization import crop_kspace, cropped_affine
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec
from .images import on_another_grid, read_volume, write_volume


class _CropKSpaceInputSpec(ThreadedInputSpec):
    magnitude_file = File(
        exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis"
    )
    phase_file = File(
        exists=True, mandatory=True, desc="wrapped phase, rad, echoes along the fourth axis"
    )
    matrix = traits.List(
        traits.Int, minlen=3, maxlen=3, mandatory=True, desc="voxels to keep along each axis"
    )


class _CropKSpaceOutputSpec(ProvenanceOutputSpec):
    magnitude_file = File(desc="magnitude on the coarser grid, echoes along the fourth axis")
    phase_file = File(desc="wrapped phase on the coarser grid, rad, echoes along the fourth axis")


class CropKSpace(CoreInterface):
    """Resample a scan to larger voxels by cropping the k-space of its complex images."""

    input_spec = _CropKSpaceInputSpec
    output_spec = _CropKSpaceOutputSpec

    def _run_interface(self, runtime):
        magnitude, image = read_volume(self.inputs.magnitude_file)
        phase, _ = read_volume(self.inputs.phase_file)
        with self.threads():
            # One echo at a time, since complex images of all echoes would double the memory.
            echoes = []
            for echo in range(magnitude.shape[-1]):
                image_of_echo = magnitude[..., echo] * np.exp(1j * phase[..., echo])
                echoes.append(crop_kspace(image_of_echo, self.inputs.matrix))
        signal = np.stack(echoes, axis=-1)
        like = on_another_grid(
            image, lambda affine: cropped_affine(affine, image.shape[:3], self.inputs.matrix)
        )
        self._results["magnitude_file"] = write_volume(
            self.out_path(runtime, "magnitude"), np.abs(signal), like
        )
        self._results["phase_file"] = write_volume(
            self.out_path(runtime, "phase"), np.angle(signal), like
        )
        self.record(HarmonizedResolution="centre of k-space, not apodised")
        return runtime
