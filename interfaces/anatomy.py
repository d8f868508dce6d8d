"""FreeSurfer's labels in the space of a subject's scans, and FreeSurfer itself."""

from pathlib import Path

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from ..core.regions.thalamus import smooth_labels
from ..core.registration.mutual_information import register_rigid_nmi
from ..core.registration.resampling import resample_labels
from ..core.registration.transforms import itk_text
from ..dataset.anatomy import ASEG, ASEG_NAMES, check_recon_all
from ..dataset.content import exists
from .images import geometry, read_mask, read_volume, write_volume


class _LabelsFromFreeSurferInputSpec(BaseInterfaceInputSpec):
    aseg_file = File(exists=True, mandatory=True, desc="FreeSurfer's aseg.mgz")
    image_file = File(exists=True, mandatory=True, desc="image in the same space")
    image_source = traits.Str(mandatory=True, desc="what this image is, for the sidecar")
    average_file = File(exists=True, mandatory=True, desc="the subject's average magnitude")
    mask_file = File(exists=True, mandatory=True, desc="the subject's brain mask")
    smoothing = traits.Float(
        0.0, usedefault=True, desc="of the labels' surfaces, full width at half maximum, mm"
    )


class _LabelsFromFreeSurferOutputSpec(TraitedSpec):
    labels_file = File(desc="those of FreeSurfer's labels that are measured, on the subject's grid")
    names = traits.Dict(desc="name of each")
    transform_file = File(desc="from the subject's world to FreeSurfer's, ITK text")
    record = traits.Dict(desc="sidecar fields: how the labels were brought here")


class LabelsFromFreeSurfer(SimpleInterface):
    """Register FreeSurfer's image to a subject's scans and bring its labels onto their grid."""

    input_spec = _LabelsFromFreeSurferInputSpec
    output_spec = _LabelsFromFreeSurferOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        folder = Path(runtime.cwd)
        aseg, labelled = read_volume(inputs.aseg_file)
        labels = np.rint(aseg).astype(np.int32)
        labels[~np.isin(labels, list(ASEG_NAMES))] = 0
        present = set(np.unique(labels).tolist())
        if present == {0}:
            raise ValueError(
                f"{inputs.aseg_file}: none of the labels {', '.join(map(str, ASEG_NAMES))} is in "
                "it; run recon-all again"
            )
        image, moving = read_volume(inputs.image_file)
        average, grid = read_volume(inputs.average_file)
        fit = register_rigid_nmi(
            image, moving.affine, average, grid.affine, fixed_mask=read_mask(inputs.mask_file)
        )
        labels = smooth_labels(labels, geometry(labelled)["voxel_size"], inputs.smoothing)
        carried = resample_labels(
            labels, labelled.affine, grid.affine, grid.shape, transform=fit.matrix
        )
        transform = folder / "transform.txt"
        transform.write_text(itk_text(fit.matrix), encoding="utf-8")
        self._results |= {
            "labels_file": write_volume(folder / "labels.nii", carried, grid),
            "names": {label: name for label, name in ASEG_NAMES.items() if label in present},
            "transform_file": str(transform),
            "record": {
                "FreeSurferLabels": Path(inputs.aseg_file).name,
                "FreeSurferLabelsRegisteredBy": inputs.image_source,
                "FreeSurferRegistration": "rigid, normalised mutual information with the mean "
                "magnitude",
                "FreeSurferMutualInformation": fit.nmi,
            },
        }
        return runtime


class _RunReconAllInputSpec(BaseInterfaceInputSpec):
    subject = traits.Str(mandatory=True, desc="label of the subject, without sub-")
    t1w_file = File(exists=True, mandatory=True, desc="T1-weighted image")
    subjects_dir = traits.Directory(mandatory=True, desc="where FreeSurfer's results go")


class _RunReconAllOutputSpec(TraitedSpec):
    aseg_file = File(desc="FreeSurfer's aseg.mgz")
    image_file = File(desc="the image that it lies on")


class RunReconAll(SimpleInterface):
    """Run FreeSurfer's recon-all on a subject's T1-weighted image; what is there already stays."""

    input_spec = _RunReconAllInputSpec
    output_spec = _RunReconAllOutputSpec
    _always_run = True  # the results are the user's, and may have been removed since

    def _run_interface(self, runtime):
        from nipype.interfaces.freesurfer import ReconAll

        check_recon_all()
        subjects_dir = Path(self.inputs.subjects_dir)
        name = f"sub-{self.inputs.subject}"
        subjects_dir.mkdir(parents=True, exist_ok=True)
        if not exists(subjects_dir / name / ASEG):
            ReconAll(
                subject_id=name,
                directive="all",
                T1_files=[self.inputs.t1w_file],
                subjects_dir=str(subjects_dir),
            ).run()
        self._results["aseg_file"] = str(subjects_dir / name / ASEG)
        self._results["image_file"] = str(subjects_dir / name / "mri" / "orig.mgz")
        return runtime
