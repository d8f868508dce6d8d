"""Scans of several resolutions at one."""

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
    """Bring a scan to larger voxels by cropping the k-space of its complex images."""

    input_spec = _CropKSpaceInputSpec
    output_spec = _CropKSpaceOutputSpec

    def _run_interface(self, runtime):
        magnitude, image = read_volume(self.inputs.magnitude_file)
        phase, _ = read_volume(self.inputs.phase_file)
        with self.threads():
            # One echo at a time: the complex images of all would take as much memory again.
            echoes = [
                self._cropped(magnitude[..., e], phase[..., e]) for e in range(magnitude.shape[-1])
            ]
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

    def _cropped(self, magnitude, phase):
        return crop_kspace(magnitude * np.exp(1j * phase), self.inputs.matrix)
