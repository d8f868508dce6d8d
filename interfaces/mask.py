"""Brain masks."""

import numpy as np
from nipype.interfaces.base import File, traits

from ..core.mask import EmptyMaskError, brain_mask, exclude_unresolved, phantom_mask, trim_unreliable
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec
from .images import geometry, read_mask, read_volume, write_volume


class _MaskOutputSpec(ProvenanceOutputSpec):
    mask_file = File(desc="brain mask")


class _BrainMaskInputSpec(ProvenanceInputSpec):
    magnitude_file = File(exists=True, mandatory=True, desc="magnitude, echoes along the fourth axis")
    phase_file = File(exists=True, mandatory=True, desc="wrapped phase, rad, echoes along the fourth axis")


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
    """Mask a phantom by its phase."""

    input_spec = _BrainMaskInputSpec
    output_spec = _MaskOutputSpec

    def _run_interface(self, runtime):
        phase, image = read_volume(self.inputs.phase_file)
        mask = phantom_mask(phase, geometry(image)["voxel_size"])
        self._results["mask_file"] = write_volume(self.out_path(runtime, "mask"), mask, image)
        self.record("phantom_mask", BrainMask="of a phantom, from phase quality")
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
        mask, image = read_mask(self.inputs.user_mask_file), read_volume(self.inputs.magnitude_file)[1]
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


class _ExcludeUnresolvedInputSpec(ProvenanceInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="brain mask")
    unresolved_file = File(exists=True, mandatory=True, desc="voxels whose phase is not unwrapped for certain")


class ExcludeUnresolved(CoreInterface):
    """Take out of the mask what could not be unwrapped, and count it."""

    input_spec = _ExcludeUnresolvedInputSpec
    output_spec = _MaskOutputSpec

    def _run_interface(self, runtime):
        mask, unresolved = read_mask(self.inputs.mask_file), read_mask(self.inputs.unresolved_file)
        kept = exclude_unresolved(mask, unresolved)
        image = read_volume(self.inputs.mask_file)[1]
        self._results["mask_file"] = write_volume(self.out_path(runtime, "resolved"), kept, image)
        self.record(BrainMaskVoxelsUnresolved=int(np.count_nonzero(mask & ~kept)))
        return runtime
