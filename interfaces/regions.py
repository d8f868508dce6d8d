"""Regions of interest in the space of a subject's scans, and on each scan."""

from pathlib import Path

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

from ..core.regions.thalamus import smooth_labels
from ..core.registration.resampling import resample_labels
from .images import geometry, read_labels, write_volume
from .registration import NOT_REGISTERED, read_transform

FREESURFER = "FreeSurfer"
DRAWN = "regions_drawn"


class _DefineRegionsInputSpec(BaseInterfaceInputSpec):
    average_file = File(exists=True, mandatory=True, desc="mean magnitude in the subject space")
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to each scan")
    drawn = traits.List(
        traits.Dict,
        mandatory=True,
        desc="of each scan, path and names of its regions; may be empty",
    )
    drawn_for_subject = traits.Dict(
        usedefault=True, desc="path and names of regions in the subject space"
    )
    atlas_file = File(
        exists=True, desc="an atlas' labels in the subject space, for want of drawn regions"
    )
    atlas_names = traits.Dict(usedefault=True, desc="their names by label")
    atlas = traits.Str(desc="what the atlas is called")
    freesurfer_file = File(
        exists=True, desc="FreeSurfer's labels in the subject space, for want of drawn regions"
    )
    freesurfer_names = traits.Dict(usedefault=True, desc="their names by label")
    freesurfer_record = traits.Dict(
        usedefault=True, desc="sidecar fields: how they were brought there"
    )
    smoothing = traits.Float(
        0.0, usedefault=True, desc="of drawn regions' surfaces, full width at half maximum, mm"
    )
    drawn_elsewhere = traits.List(
        traits.Dict, usedefault=True, desc="regions on other scans, for want of any on these"
    )
    transform_files_elsewhere = traits.List(
        traits.Str, usedefault=True, desc="subject space to each of these"
    )


class _DefineRegionsOutputSpec(TraitedSpec):
    label_files = traits.List(
        traits.Str, desc="regions for each scan in the subject space; empty where there are none"
    )
    names = traits.List(traits.Dict, desc="their names by label")
    sources = traits.List(traits.Str, desc="where they come from")
    steps = traits.List(traits.Str, desc="what the text on methods calls that")
    shared_file = File(
        desc="the regions that scans without their own share; empty if there are none"
    )
    shared_names = traits.Dict(desc="their names by label")
    record = traits.Dict(
        desc="sidecar fields that say how they were brought to the subject space, if that is known"
    )


class DefineRegions(SimpleInterface):
    """Regions of each scan in the subject space: drawn on it, for the subject or on another scan,
    or of an atlas.
    """

    input_spec = _DefineRegionsInputSpec
    output_spec = _DefineRegionsOutputSpec

    def _run_interface(self, runtime):
        folder = Path(runtime.cwd)
        grid = nib.load(self.inputs.average_file)
        inputs = self.inputs
        own = self._carried(inputs.drawn, inputs.transform_files, grid, folder, "scan")
        elsewhere = self._carried(
            inputs.drawn_elsewhere, inputs.transform_files_elsewhere, grid, folder, "elsewhere"
        )
        shared = _carry_labels(
            inputs.drawn_for_subject, None, grid, folder / "subject_labels.nii", inputs.smoothing
        )
        shared = shared or next((regions for regions in (*own, *elsewhere) if regions), None)
        shared = shared or self._of_freesurfer() or self._of_atlas()
        regions = [
            mine or shared or {"path": "", "names": {}, "source": "", "step": ""} for mine in own
        ]
        self._results["label_files"] = [region["path"] for region in regions]
        self._results["names"] = [region["names"] for region in regions]
        self._results["sources"] = [region["source"] for region in regions]
        self._results["steps"] = [region["step"] for region in regions]
        if (
            shared is None
        ):  # an earlier run may have had some, and what is saved is to be this run's
            empty = write_volume(folder / "no_labels.nii", np.zeros(grid.shape[:3], np.int32), grid)
            self._results["shared_file"] = empty
            self._results["shared_names"] = {}
        else:
            self._results["shared_file"] = shared["path"]
            self._results["shared_names"] = shared["names"]
        of_freesurfer = (
            isdefined(inputs.freesurfer_file) and shared["path"] == inputs.freesurfer_file
        )
        self._results["record"] = inputs.freesurfer_record if of_freesurfer else {}
        return runtime

    def _carried(self, drawn, transform_files, grid, folder, name):
        """Regions of some scans in the subject space."""
        files = enumerate(zip(drawn, transform_files, strict=True))
        return [
            _carry_labels(
                regions,
                transform,
                grid,
                folder / f"{name}{place}_labels.nii",
                self.inputs.smoothing,
            )
            for place, (regions, transform) in files
        ]

    def _of_freesurfer(self):
        if not isdefined(self.inputs.freesurfer_file):
            return None
        names = {int(label): name for label, name in self.inputs.freesurfer_names.items()}
        file = self.inputs.freesurfer_file
        return {"path": file, "names": names, "source": FREESURFER, "step": "regions_freesurfer"}

    def _of_atlas(self):
        if not isdefined(self.inputs.atlas_file):
            return None
        names = {int(label): name for label, name in self.inputs.atlas_names.items()}
        return {
            "path": self.inputs.atlas_file,
            "names": names,
            "source": self.inputs.atlas,
            "step": "regions_atlas",
        }


class _RegionsToScansInputSpec(BaseInterfaceInputSpec):
    label_files = traits.List(
        traits.Str, mandatory=True, desc="regions of each scan in the subject space"
    )
    reference_files = traits.List(
        File(exists=True), mandatory=True, desc="reference region in the subject space"
    )
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to each scan")
    grid_files = traits.List(File(exists=True), mandatory=True, desc="an image of each scan")


class _RegionsToScansOutputSpec(TraitedSpec):
    label_files = traits.List(traits.Str, desc="regions on each scan's grid")
    reference_files = traits.List(traits.Str, desc="reference region on each scan's grid")


class RegionsToScans(SimpleInterface):
    """Carry regions from the subject space to each scan."""

    input_spec = _RegionsToScansInputSpec
    output_spec = _RegionsToScansOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        folder = Path(runtime.cwd)
        self._results["label_files"] = []
        self._results["reference_files"] = []
        files = zip(
            inputs.label_files,
            inputs.reference_files,
            inputs.transform_files,
            inputs.grid_files,
            strict=True,
        )
        for place, (label_file, reference_file, transform_file, grid_file) in enumerate(files):
            grid = nib.load(grid_file)
            kinds = {"label": label_file, "reference": reference_file}
            for kind, path in kinds.items():
                out_file = NOT_REGISTERED
                if path and transform_file != NOT_REGISTERED:
                    inverse = np.linalg.inv(read_transform(transform_file))
                    out_file = _write_carried(
                        path, inverse, grid, folder / f"scan{place}_{kind}.nii"
                    )
                self._results[f"{kind}_files"].append(out_file)
        return runtime


def _carry_labels(drawn, transform_file, grid, out_file, smoothing):
    """Regions in the subject space: path, names and source; None if there are none or their scan
    failed.
    """
    if not drawn or transform_file == NOT_REGISTERED:
        return None
    transform = None if transform_file is None else read_transform(transform_file)
    names = {int(label): name for label, name in drawn["names"].items()}
    return {
        "path": _write_carried(drawn["path"], transform, grid, out_file, smoothing),
        "names": names,
        "source": Path(drawn["path"]).name,
        "step": DRAWN,
    }


def _write_carried(path, transform, grid, out_file, smoothing=0.0):
    """Carry labels to another grid and write them, their surfaces smoothed on their own."""
    image = nib.load(path)
    labels = smooth_labels(read_labels(path), geometry(image)["voxel_size"], smoothing)
    carried = resample_labels(
        labels, image.affine, grid.affine, grid.shape[:3], transform=transform
    )
    return write_volume(out_file, carried, grid)
