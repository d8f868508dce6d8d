"""Brain masks."""

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from ..core.mask.brain import brain_mask
from ..core.mask.phantom import phantom_mask
from ..core.mask.reliability import UNRELIABLE, fill_unmeasured, trim_unreliable
from ..core.mask.shapes import EmptyMaskError
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec
from .images import geometry, read_mask, read_volume, write_volume

NOT_TRIMMED = "none"
TRIMMING_RULE = (
    f"from the surface, voxels whose standard error of the field exceeds {UNRELIABLE:g} times the "
    "median in the mask"
)


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
        self.record(
            "phantom_mask",
            BrainMask="of a phantom, from magnitude and phase quality",
            BrainMaskTrimmingRule=NOT_TRIMMED,
        )
        return runtime


class _UserMaskInputSpec(ProvenanceInputSpec):
    user_mask_file = File(exists=True, mandatory=True, desc="the user's brain mask")
    magnitude_file = File(exists=True, mandatory=True, desc="image in the same space")
    source = traits.Str(mandatory=True, desc="URI of the mask, for the sidecar")


class UserMask(CoreInterface):
    """Use the user's brain mask unchanged."""

    input_spec = _UserMaskInputSpec
    output_spec = _MaskOutputSpec

    def _run_interface(self, runtime):
        mask = read_mask(self.inputs.user_mask_file)
        _, image = read_volume(self.inputs.magnitude_file)
        if not mask.any():
            raise EmptyMaskError(
                f"{self.inputs.user_mask_file}: the brain mask has no voxels; correct it, or "
                "remove it to have the brain masked automatically"
            )
        self._results["mask_file"] = write_volume(self.out_path(runtime, "mask"), mask, image)
        self.record(
            "user_mask",
            BrainMask=f"given by the user: {self.inputs.source}",
            BrainMaskTrimmingRule=NOT_TRIMMED,
        )
        return runtime


class _TrimMaskInputSpec(ProvenanceInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="brain mask")
    standard_error_file = File(exists=True, mandatory=True, desc="standard error of the field")


class TrimMask(CoreInterface):
    """Remove voxels from the mask's surface where the field is dominated by noise."""

    input_spec = _TrimMaskInputSpec
    output_spec = _MaskOutputSpec

    def _run_interface(self, runtime):
        standard_error, image = read_volume(self.inputs.standard_error_file)
        mask = read_mask(self.inputs.mask_file)
        trimmed = trim_unreliable(mask, standard_error)
        self._results["mask_file"] = write_volume(self.out_path(runtime, "mask"), trimmed, image)
        n_trimmed = int(np.count_nonzero(mask & ~trimmed))
        self.record(
            BrainMaskTrimmingRule=TRIMMING_RULE,
            BrainMaskVoxelsTrimmed=n_trimmed,
            BrainMaskFractionTrimmed=n_trimmed / max(np.count_nonzero(mask), 1),
        )
        return runtime


class _FillUnmeasuredInputSpec(ProvenanceInputSpec):
    mask_file = File(exists=True, mandatory=True, desc="brain mask")
    field_file = File(exists=True, mandatory=True, desc="field, ppm")
    standard_error_file = File(exists=True, mandatory=True, desc="standard error of the field, ppm")
    total_error_file = File(exists=True, desc="total error of the field, ppm")
    noise_error_file = File(exists=True, desc="part of the total error due to noise, ppm")
    unresolved_file = File(
        exists=True, mandatory=True, desc="voxels whose phase may be unwrapped wrongly"
    )
    is_phantom = traits.Bool(
        False, usedefault=True, desc="keep the surface, and treat noisy voxels as not measured"
    )


class _FillUnmeasuredOutputSpec(_MaskOutputSpec):
    field_file = File(desc="field, ppm, interpolated in voxels where it was not measured")
    standard_error_file = File(desc="standard error of the field, ppm, infinite in these voxels")
    total_error_file = File(desc="total error of the field, ppm, infinite in these voxels")
    noise_error_file = File(desc="part of it due to noise, ppm, infinite in these voxels")


class FillUnmeasured(CoreInterface):
    """Remove unmeasured voxels at the mask's surface, and give those inside no weight.

    Holes in the mask are filled. The surface of a phantom is kept.
    """

    input_spec = _FillUnmeasuredInputSpec
    output_spec = _FillUnmeasuredOutputSpec

    def _run_interface(self, runtime):
        mask = read_mask(self.inputs.mask_file)
        unresolved = read_mask(self.inputs.unresolved_file)
        field, image = read_volume(self.inputs.field_file)
        standard_error, _ = read_volume(self.inputs.standard_error_file)
        voxel_size = geometry(image)["voxel_size"]
        filled = fill_unmeasured(
            field,
            standard_error,
            mask,
            unresolved,
            voxel_size,
            is_phantom=self.inputs.is_phantom,
        )
        for name in ("mask", "field", "standard_error"):
            path = self.out_path(runtime, name)
            self._results[f"{name}_file"] = write_volume(path, getattr(filled, name), image)
        self._fill_errors(runtime, filled.standard_error, image)
        n_voxels = int(np.count_nonzero(mask))  # before any are removed
        n_removed = int(np.count_nonzero(mask & ~filled.mask))
        n_without_weight = int(np.count_nonzero(np.isinf(filled.standard_error)))
        steps = ["unmeasured_voxels"] if n_without_weight else []
        self.record(
            *steps,
            BrainMaskVoxelsUnresolved=n_removed,
            BrainMaskFractionUnresolved=n_removed / n_voxels,
            BrainMaskVoxelsFilled=int(np.count_nonzero(filled.mask & ~mask)),
            VoxelsWithoutWeight=n_without_weight,
            VoxelsWithoutWeightFraction=n_without_weight / int(np.count_nonzero(filled.mask)),
            BrainMaskVolume=n_voxels * float(np.prod(voxel_size)) / 1000,  # mL
            BrainMaskFractionOfImage=n_voxels / mask.size,
        )
        return runtime

    def _fill_errors(self, runtime, standard_error, image):
        """Make the total error and its part infinite in the same voxels as the standard error."""
        is_measured = np.isfinite(standard_error) & (standard_error > 0)
        for name in ("total_error", "noise_error"):
            path = getattr(self.inputs, f"{name}_file")
            if isdefined(path):
                error, _ = read_volume(path)
                self._results[f"{name}_file"] = write_volume(
                    self.out_path(runtime, name),
                    np.where(is_measured, error, standard_error),
                    image,
                )
