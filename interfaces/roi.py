"""Regions of interest."""

from nipype.interfaces.base import File, traits

from ..core.quality import sign_asymmetry
from ..core.roi import subtract_reference
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec
from .images import geometry, read_mask, read_volume, write_volume


class _SubtractReferenceInputSpec(ProvenanceInputSpec):
    chi_file = File(exists=True, mandatory=True, desc="susceptibility, ppm, up to a constant")
    mask_file = File(exists=True, mandatory=True, desc="where susceptibility is known")
    region_file = File(exists=True, mandatory=True, desc="the reference region")
    region_name = traits.Str(mandatory=True, desc="what the region is called in the sidecar")


class _SubtractReferenceOutputSpec(ProvenanceOutputSpec):
    chi_file = File(desc="susceptibility relative to the region's mean, ppm")


class SubtractReference(CoreInterface):
    """Give susceptibility relative to a region's mean."""

    input_spec = _SubtractReferenceInputSpec
    output_spec = _SubtractReferenceOutputSpec

    def _run_interface(self, runtime):
        chi, image = read_volume(self.inputs.chi_file)
        mask, region = read_mask(self.inputs.mask_file), read_mask(self.inputs.region_file)
        referenced, offset, spread = subtract_reference(chi, mask, region)
        self._results["chi_file"] = write_volume(self.out_path(runtime, "chi"), referenced, image)
        self.record(
            ReferenceRegion=self.inputs.region_name,
            ReferenceOffset=offset,
            ReferenceStandardDeviation=spread,
            SignAsymmetry=sign_asymmetry(chi, mask, geometry(image)["voxel_size"]),
        )
        return runtime
