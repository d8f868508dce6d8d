"""Background field removal."""

from nipype.interfaces.base import File, traits

from ..core.background import pdf
from .base import CoreInterface, ProvenanceOutputSpec, ThreadedInputSpec
from .images import geometry, read_mask, read_volume, write_volume


class _PDFInputSpec(ThreadedInputSpec):
    field_file = File(exists=True, mandatory=True, desc="total field, ppm")
    standard_error_file = File(exists=True, desc="standard error of the field, ppm")
    mask_file = File(exists=True, mandatory=True, desc="where the local field is wanted")
    tolerance = traits.Float(2e-3, usedefault=True, desc="relative residual at which to stop")
    margin = traits.Float(10.0, usedefault=True, desc="room for sources around the mask, mm")


class _PDFOutputSpec(ProvenanceOutputSpec):
    local_field_file = File(desc="local field, ppm")


class PDF(CoreInterface):
    """Projection onto dipole fields."""

    input_spec = _PDFInputSpec
    output_spec = _PDFOutputSpec

    def _run_interface(self, runtime):
        field, image = read_volume(self.inputs.field_file)
        standard_error, _ = read_volume(self.inputs.standard_error_file)
        where = geometry(image)
        with self.threads():
            found = pdf(
                field,
                read_mask(self.inputs.mask_file),
                where["voxel_size"],
                b0_dir=where["b0_dir"],
                standard_error=standard_error,
                margin=self.inputs.margin,
                tolerance=self.inputs.tolerance,
            )
        path = self.out_path(runtime, "local_field")
        self._results["local_field_file"] = write_volume(path, found.local_field, image)
        self.record(
            BackgroundRemoval="projection onto dipole fields (PDF)",
            BackgroundMargin=self.inputs.margin,
            BackgroundTolerance=self.inputs.tolerance,
            BackgroundIterations=found.iterations,
            BackgroundRelativeResidual=found.relative_residual,
            B0Direction=list(where["b0_dir"]),
        )
        return runtime
