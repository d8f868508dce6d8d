"""Registration to MNI space: atlas labels for a subject, and maps on the template's grid."""

from pathlib import Path

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from ..core.registration.template import (
    DisplacementField,
    labels_from_template,
    map_to_template,
    register_template,
)
from ..core.registration.transforms import itk_text
from ..dataset.atlas import load_atlas, load_mni_template
from .images import read_mask, read_volume, write_volume
from .registration import read_transform

# From RAS to ITK's world coordinates, where x points to the left and y to the back.
_TO_LPS = np.array([-1, -1, 1], np.float32)


class _LabelsFromTemplateInputSpec(BaseInterfaceInputSpec):
    average_file = File(exists=True, mandatory=True, desc="the subject's average magnitude")
    mask_file = File(exists=True, mandatory=True, desc="the subject's brain mask")
    atlas = traits.Str(mandatory=True, desc="name of an atlas, or path of its label image")
    template_warp = traits.Bool(
        False,
        usedefault=True,
        desc="register nonlinearly after the affine registration; needs dipy",
    )


class _LabelsFromTemplateOutputSpec(TraitedSpec):
    labels_file = File(desc="labels of the atlas on the subject's grid")
    names = traits.Dict(desc="name of each label")
    notes = traits.List(traits.Str, desc="remarks on the atlas for the user")
    transform_file = File(desc="affine transform from the subject's world to MNI, ITK text")
    to_template_file = traits.Either(
        None, File, desc="warp applied after the affine transform, ITK displacement field"
    )
    from_template_file = traits.Either(
        None, File, desc="inverse of the warp, ITK displacement field"
    )
    nmi = traits.Float(desc="normalised mutual information of the affine registration")


class LabelsFromTemplate(SimpleInterface):
    """Register MNI152 to a subject and resample an atlas to the subject's grid.

    The labels are interpolated once.
    """

    input_spec = _LabelsFromTemplateInputSpec
    output_spec = _LabelsFromTemplateOutputSpec

    def _run_interface(self, runtime):
        atlas = load_atlas(self.inputs.atlas)
        average, image = read_volume(self.inputs.average_file)
        fit = register_template(
            *load_mni_template(),
            average,
            image.affine,
            read_mask(self.inputs.mask_file),
            template_warp=self.inputs.template_warp,
        )
        labels = labels_from_template(
            atlas.labels,
            atlas.affine,
            image.affine,
            image.shape,
            fit.matrix,
            to_template=fit.to_template,
        )
        folder = Path(runtime.cwd)
        transform = folder / "transform.txt"
        transform.write_text(itk_text(fit.matrix), encoding="utf-8")
        self._results |= {
            "labels_file": write_volume(folder / "labels.nii", labels, image),
            "names": atlas.names,
            "notes": list(atlas.notes),
            "transform_file": str(transform),
            "to_template_file": _write_warp(folder / "to_template.nii.gz", fit.to_template),
            "from_template_file": _write_warp(folder / "from_template.nii.gz", fit.from_template),
            "nmi": fit.nmi,
        }
        return runtime


class _MapToTemplateInputSpec(BaseInterfaceInputSpec):
    in_file = File(
        exists=True, mandatory=True, desc="map in the subject space or the space of a scan"
    )
    mask_file = File(exists=True, desc="valid voxels of the map; default: finite ones")
    transform_file = File(
        exists=True,
        mandatory=True,
        desc="affine transform from the subject's world to MNI, ITK text",
    )
    from_template_file = traits.Either(
        None, File(exists=True), usedefault=True, desc="warp, ITK displacement field"
    )
    scan_transform_file = File(
        exists=True, desc="from the subject's world to the scan's, for a map in a scan's space"
    )
    resolution = traits.Enum(2, 1, usedefault=True, desc="voxel size of the template, mm")


class _MapToTemplateOutputSpec(TraitedSpec):
    out_file = File(desc="the map in MNI space, NaN where it is not valid")


class MapToTemplate(SimpleInterface):
    """Resample a map of a subject to the grid of the MNI152 template, interpolating once."""

    input_spec = _MapToTemplateInputSpec
    output_spec = _MapToTemplateOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        data, image = read_volume(inputs.in_file)
        mask = read_mask(inputs.mask_file) if inputs.mask_file else np.isfinite(data)
        matrix = read_transform(inputs.transform_file)
        if inputs.scan_transform_file:
            matrix = matrix @ np.linalg.inv(read_transform(inputs.scan_transform_file))
        warp = _read_warp(inputs.from_template_file) if inputs.from_template_file else None
        t1, affine, _ = load_mni_template(inputs.resolution)
        resampled = map_to_template(
            data, image.affine, affine, t1.shape, matrix, from_template=warp, mask=mask, fill=np.nan
        )
        like = nib.Nifti1Image(t1, affine)
        like.set_sform(affine, "mni")
        self._results["out_file"] = write_volume(
            Path(runtime.cwd) / "in_template.nii", resampled, like
        )
        return runtime


def _write_warp(path, field):
    """Write a displacement field in ITK's format (five dimensions, LPS), which ANTs reads too.

    Returns the path, or None without a field.
    """
    if field is None:
        return None
    image = nib.Nifti1Image((field.vectors * _TO_LPS)[:, :, :, None], field.affine)
    image.header.set_intent("vector")
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return str(path)


def _read_warp(path):
    """Read a displacement field that `_write_warp` wrote."""
    vectors, image = read_volume(path)
    return DisplacementField(vectors[:, :, :, 0] * _TO_LPS, image.affine)
