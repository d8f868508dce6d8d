"""FreeSurfer: its labels in the space of a subject's scans, and recon-all itself."""

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
from .images import geometry, read_mask, read_single_volume, read_volume, write_volume


class _LabelsFromFreeSurferInputSpec(BaseInterfaceInputSpec):
    aseg_file = File(exists=True, mandatory=True, desc="FreeSurfer's aseg.mgz")
    image_file = File(exists=True, mandatory=True, desc="image in the space of the aseg.mgz")
    image_source = traits.Str(mandatory=True, desc="description of this image for the sidecar")
    average_file = File(exists=True, mandatory=True, desc="the subject's average magnitude")
    mask_file = File(exists=True, mandatory=True, desc="the subject's brain mask")
    smoothing = traits.Float(
        0.0,
        usedefault=True,
        desc="smoothing of the surfaces of labels, full width at half maximum, mm",
    )


class _LabelsFromFreeSurferOutputSpec(TraitedSpec):
    labels_file = File(desc="the measured labels of FreeSurfer, on the subject's grid")
    names = traits.Dict(desc="names by label")
    transform_file = File(desc="transform from the subject's world to FreeSurfer's, ITK text")
    record = traits.Dict(desc="sidecar fields on the registration")


class LabelsFromFreeSurfer(SimpleInterface):
    """Register FreeSurfer's image to a subject's scans, and resample its labels to their grid."""

    input_spec = _LabelsFromFreeSurferInputSpec
    output_spec = _LabelsFromFreeSurferOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        folder = Path(runtime.cwd)
        aseg, aseg_image = read_single_volume(inputs.aseg_file)
        labels = np.rint(aseg).astype(np.int32)
        labels[~np.isin(labels, list(ASEG_NAMES))] = 0
        present_labels = set(np.unique(labels).tolist())
        if present_labels == {0}:
            raise ValueError(
                f"{inputs.aseg_file}: contains none of the labels "
                f"{', '.join(map(str, ASEG_NAMES))}; run recon-all again"
            )
        moving, moving_image = read_single_volume(inputs.image_file)
        average, grid = read_volume(inputs.average_file)
        fit = register_rigid_nmi(
            moving,
            moving_image.affine,
            average,
            grid.affine,
            fixed_mask=read_mask(inputs.mask_file),
        )
        labels = smooth_labels(labels, geometry(aseg_image)["voxel_size"], inputs.smoothing)
        labels = resample_labels(
            labels, aseg_image.affine, grid.affine, grid.shape, transform=fit.matrix
        )
        transform_file = folder / "transform.txt"
        transform_file.write_text(itk_text(fit.matrix), encoding="utf-8")
        names = {label: name for label, name in ASEG_NAMES.items() if label in present_labels}
        self._results |= {
            "labels_file": write_volume(folder / "labels.nii", labels, grid),
            "names": names,
            "transform_file": str(transform_file),
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
    subjects_dir = traits.Directory(
        mandatory=True, desc="FreeSurfer's subjects directory, where the results are written"
    )


class _RunReconAllOutputSpec(TraitedSpec):
    aseg_file = File(desc="FreeSurfer's aseg.mgz")
    image_file = File(desc="image in the space of the aseg.mgz")


class RunReconAll(SimpleInterface):
    """Run FreeSurfer's recon-all on a subject's T1-weighted image, unless its results exist."""

    input_spec = _RunReconAllInputSpec
    output_spec = _RunReconAllOutputSpec
    _always_run = True  # the user may have removed the results since

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
