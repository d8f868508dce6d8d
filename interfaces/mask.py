"""Brain masks."""

import numpy as np
from nipype.interfaces.base import File, traits

from ..core.mask.brain import brain_mask
from ..core.mask.phantom import phantom_mask
from ..core.mask.reliability import fill_unmeasured, trim_unreliable
from ..core.mask.shapes import EmptyMaskError
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec
from .images import geometry, read_mask, read_volume, write_volume


class _MaskOutputSpec(ProvenanceOutputSpec):
    mask_file = File(desc="brain mask")


class _BrainMaskInputSpec(ProvenanceInputSpec):
    magnitude_file = File(
        exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis"
    )
    phase_file = File(
        exists=True, mandatory=True, desc="wrapped phase, rad, echoes along the fourth axis"
    )


class BrainMask(CoreInterface):
    """Mask the brain from magnitude and phase quality."""

    input_spec = _BrainMaskInputSpec
    output_spec = _MaskOutputSpec

    def _run_interface(self, runtime):
        magnitude, image = read_volume(self.inputs.magnitude_file)
        phase, _ = read_volume(self.inputs.phase_file)
        mask = brain_mask(magnitude, phase, geometry(image)["voxel_size"])
        self._results["mask_file"] = write_volume(self.out_path(runtime, "mask"), mask, image)
        self.record("mask", BrainMask="from magnitude and phase quality")
        return runtime


class PhantomMask(CoreInterface):
    """Mask a phantom from magnitude and phase quality."""

    input_spec = _BrainMaskInputSpec
    output_spec = _MaskOutputSpec

    def _run_interface(self, runtime):
        magnitude, image = read_volume(self.inputs.magnitude_file)
        phase, _ = read_volume(self.inputs.phase_file)
        mask = phantom_mask(magnitude, phase, geometry(image)["voxel_size"])
        self._results["mask_file"] = write_volume(self.out_path(runtime, "mask"), mask, image)
        self.record("phantom_mask", BrainMask="of a phantom, from magnitude and phase quality")
        return runtime


class _UserMaskInputSpec(ProvenanceInputSpec):
    user_mask_file = File(exists=True, mandatory=True, desc="brain mask that the user brought")
    magnitude_file = File(exists=True, mandatory=True, desc="image whose space it is in")
    source = traits.Str(mandatory=True, desc="URI of the mask, for the sidecar")


class UserMask(CoreInterface):
    """Take the brain mask that the user brought, as it is."""

    input_spec = _UserMaskInputSpec
    output_spec = _MaskOutputSpec

    def _run_interface(self, runtime):
        mask = read_mask(self.inputs.user_mask_file)
        image = read_volume(self.inputs.magnitude_file)[1]
        if not mask.any():
            raise EmptyMaskError(f"{self.inputs.user_mask_file}: the brain mask is empty")
        self._results["mask_file"] = write_volume(self.out_path(runtime, "mask"), mask, image)
        self.record("user_mask", BrainMask=f"given by the user: {self.inputs.source}")
        return runtime


class _TrimMaskInputSpec(ProvenanceInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="brain mask")
    standard_error_file = File(exists=True, mandatory=True, desc="standard error of the field")


class TrimMask(CoreInterface):
    """Take voxels off the mask's surface where the field is noise."""

    input_spec = _TrimMaskInputSpec
    output_spec = _MaskOutputSpec

    def _run_interface(self, runtime):
        standard_error, image = read_volume(self.inputs.standard_error_file)
        mask = read_mask(self.inputs.mask_file)
        trimmed = trim_unreliable(mask, standard_error)
        self._results["mask_file"] = write_volume(self.out_path(runtime, "mask"), trimmed, image)
        self.record(BrainMaskVoxelsTrimmed=int(np.count_nonzero(mask & ~trimmed)))
        return runtime


class _FillUnmeasuredInputSpec(ProvenanceInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="brain mask")
    field_file = File(exists=True, mandatory=True, desc="field, ppm")
    standard_error_file = File(exists=True, mandatory=True, desc="standard error of the field, ppm")
    unresolved_file = File(
        exists=True, mandatory=True, desc="voxels whose phase is not unwrapped for certain"
    )
    is_phantom = traits.Bool(
        False, usedefault=True, desc="keep the surface, and distrust noisy voxels too"
    )


class _FillUnmeasuredOutputSpec(_MaskOutputSpec):
    field_file = File(desc="field, ppm, continued smoothly into voxels where it is not known")
    standard_error_file = File(desc="standard error of the field, ppm, infinite there")
    noise_variance = traits.Float(
        desc="mean squared standard error of the fit over the whole mask, ppm²"
    )


class FillUnmeasured(CoreInterface):
    """Leave voxels whose field is not known out of the mask at its surface, and without weight
    inside.

    What the mask encloses belongs to the inside. A phantom's surface stays as it is.
    """

    input_spec = _FillUnmeasuredInputSpec
    output_spec = _FillUnmeasuredOutputSpec

    def _run_interface(self, runtime):
        mask = read_mask(self.inputs.mask_file)
        unresolved = read_mask(self.inputs.unresolved_file)
        field, image = read_volume(self.inputs.field_file)
        standard_error, _ = read_volume(self.inputs.standard_error_file)
        voxel_size = geometry(image)["voxel_size"]
        found = fill_unmeasured(
            field,
            standard_error,
            mask,
            unresolved,
            voxel_size,
            is_phantom=self.inputs.is_phantom,
        )
        for name in ("mask", "field", "standard_error"):
            path = self.out_path(runtime, name)
            self._results[f"{name}_file"] = write_volume(path, getattr(found, name), image)
        fitted = standard_error[mask & np.isfinite(standard_error)]
        self._results["noise_variance"] = float(np.mean(fitted**2, dtype=np.float64))
        n_unknown = int(np.count_nonzero(np.isinf(found.standard_error)))
        n_given = int(np.count_nonzero(mask))
        n_left_out = int(np.count_nonzero(mask & ~found.mask))
        self.record(
            *(["unknown"] if n_unknown else []),
            BrainMaskVoxelsUnresolved=n_left_out,
            BrainMaskFractionUnresolved=n_left_out / n_given,
            BrainMaskVoxelsFilled=int(np.count_nonzero(found.mask & ~mask)),
            VoxelsWithoutWeight=n_unknown,
            VoxelsWithoutWeightFraction=n_unknown / int(np.count_nonzero(found.mask)),
            BrainMaskVolume=n_given
            * float(np.prod(voxel_size))
            / 1000,  # mL, before anything is left out
            BrainMaskFractionOfImage=n_given / mask.size,
        )
        return runtime
