"""The FLAIR image of a person: registered to the scans, and drawn with their susceptibility."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from ..core.grid import box_around, voxel_size_of
from ..core.registration.mutual_information import register_rigid_nmi
from ..core.registration.resampling import resample, resample_labels
from ..core.registration.transforms import itk_text
from ..dataset.volumes import load_volume
from ..pictures.fusion import fusion_figure
from .figures import PlotInterface
from .images import read_labels, read_mask, read_single_volume, read_volume
from .registration import read_transform
from .subject_figures import PlotRegionsInputSpec, first_measured, thalamus_or_all

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 15.0  # mm around the regions and the reference


class _RegisterFlairInputSpec(BaseInterfaceInputSpec):
    flair_file = File(exists=True, mandatory=True, desc="FLAIR image")
    average_file = File(exists=True, mandatory=True, desc="mean magnitude in the subject space")
    mask_file = File(exists=True, mandatory=True, desc="brain mask in the subject space")


class _RegisterFlairOutputSpec(TraitedSpec):
    transform_file = File(desc="from the subject's world to that of the FLAIR image, ITK text")


class RegisterFlair(SimpleInterface):
    """Register the FLAIR image rigidly to the mean magnitude of a person's scans."""

    input_spec = _RegisterFlairInputSpec
    output_spec = _RegisterFlairOutputSpec

    def _run_interface(self, runtime):
        flair, moving = read_single_volume(self.inputs.flair_file)
        average, fixed = read_volume(self.inputs.average_file)
        fit = register_rigid_nmi(
            np.nan_to_num(flair),
            moving.affine,
            average,
            fixed.affine,
            fixed_mask=read_mask(self.inputs.mask_file),
        )
        transform_file = Path(runtime.cwd) / "subject_to_flair.txt"
        transform_file.write_text(itk_text(fit.matrix), encoding="utf-8")
        self._results["transform_file"] = str(transform_file)
        return runtime


class _PlotFlairInputSpec(PlotRegionsInputSpec):
    flair_file = File(exists=True, desc="FLAIR image; undefined if there is none")
    transform_file = File(exists=True, desc="from the subject's world to that of the FLAIR image")
    transform_files = traits.List(
        traits.Str, usedefault=True, desc="subject space to each map, if a map is in another space"
    )


class PlotFlair(PlotInterface):
    """Draw the first measured map fused with FLAIR, with regions, the voxels excluded from them and
    the reference, on the grid of the FLAIR image.
    """

    input_spec = _PlotFlairInputSpec

    def draw(self) -> Figure | None:
        """Draw map and FLAIR fused; None without FLAIR, measured scan or regions."""
        inputs = self.inputs
        scan = first_measured(inputs)
        if scan is None or not isdefined(inputs.flair_file):
            return None
        chi_file, label_file, excluded_file, reference_file, names = scan
        labels = read_labels(label_file)
        regions = thalamus_or_all(labels, names)
        if not regions.any():
            return None
        flair = nib.as_closest_canonical(load_volume(inputs.flair_file))
        to_map = self._flair_to_map(inputs.chi_files.index(chi_file))
        affine = nib.load(label_file).affine
        masks = []
        for mask in (regions, regions & read_mask(excluded_file), read_mask(reference_file)):
            mask = resample_labels(
                mask.view(np.uint8), affine, flair.affine, flair.shape[:3], transform=to_map
            )
            masks.append(mask > 0)
        regions, _, reference = masks
        if not regions.any():
            return None  # the field of view of the FLAIR image does not reach the regions
        voxel_size = voxel_size_of(flair.affine)
        margin = np.ceil(MARGIN / voxel_size).astype(int).tolist()
        box = box_around(regions | reference, margin)
        flair = flair.slicer[box]
        regions, excluded, reference = (mask[box] for mask in masks)
        chi, image = read_volume(chi_file)
        chi = resample(
            chi,
            image.affine,
            flair.affine,
            flair.shape[:3],
            transform=to_map,
            order=1,
            mask=np.isfinite(chi),
        )
        return fusion_figure(
            np.nan_to_num(flair.get_fdata(dtype=np.float32)),
            chi,
            regions,
            excluded,
            reference,
            voxel_size,
            image_name="FLAIR",
            title=inputs.title,
        )

    def _flair_to_map(self, index):
        """Return the transform from the world of the FLAIR image to that of a scan's map."""
        flair_to_subject = np.linalg.inv(read_transform(self.inputs.transform_file))
        if not self.inputs.transform_files:
            return flair_to_subject
        return read_transform(self.inputs.transform_files[index]) @ flair_to_subject
