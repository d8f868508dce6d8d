"""Regions of interest in the space of a subject's scans, and on each scan."""

from operator import itemgetter
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
from ..dataset.volumes import load_volume
from .base import names_by_label
from .images import geometry, read_labels, write_volume
from .registration import NOT_REGISTERED, read_transform

FREESURFER = "FreeSurfer"
DRAWN = "regions_drawn"  # key of a sentence in the methods text
NO_REGIONS = {"path": "", "names": {}, "source": "", "step": ""}


class _DefineRegionsInputSpec(BaseInterfaceInputSpec):
    average_file = File(exists=True, mandatory=True, desc="mean magnitude in the subject space")
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to each scan")
    drawn = traits.List(
        traits.Dict,
        mandatory=True,
        desc="path and names of the regions drawn on each scan; empty where there are none",
    )
    drawn_for_subject = traits.Dict(
        usedefault=True, desc="path and names of regions drawn in the subject space"
    )
    atlas_file = File(
        exists=True, desc="labels of an atlas in the subject space, used without drawn regions"
    )
    atlas_names = traits.Dict(usedefault=True, desc="names of the atlas by label")
    atlas = traits.Str(desc="name of the atlas")
    freesurfer_file = File(
        exists=True, desc="FreeSurfer's labels in the subject space, used without drawn regions"
    )
    freesurfer_names = traits.Dict(usedefault=True, desc="FreeSurfer's names by label")
    freesurfer_record = traits.Dict(
        usedefault=True, desc="sidecar fields on how FreeSurfer's labels were resampled"
    )
    smoothing = traits.Float(
        0.0,
        usedefault=True,
        desc="smoothing of the surfaces of drawn regions, full width at half maximum, mm",
    )
    drawn_elsewhere = traits.List(
        traits.Dict, usedefault=True, desc="regions drawn on other scans, used if these have none"
    )
    transform_files_elsewhere = traits.List(
        traits.Str, usedefault=True, desc="subject space to each of the other scans"
    )


class _DefineRegionsOutputSpec(TraitedSpec):
    label_files = traits.List(
        traits.Str, desc="regions of each scan in the subject space; empty where there are none"
    )
    names = traits.List(traits.Dict, desc="names of these regions by label")
    sources = traits.List(traits.Str, desc="file or atlas that the regions come from")
    steps = traits.List(traits.Str, desc="keys of the sentences on that in the methods text")
    shared_file = File(
        desc="regions shared by the scans without regions of their own; an image of zeros if there "
        "are none"
    )
    shared_names = traits.Dict(desc="names of the shared regions by label")
    record = traits.Dict(
        desc="sidecar fields on how FreeSurfer's labels were resampled, if they are used"
    )


class DefineRegions(SimpleInterface):
    """Define the regions of each scan in the subject space.

    In order of precedence: regions drawn on the scan itself, in the subject space, on the first
    other scan with any; FreeSurfer's labels; an atlas.
    """

    input_spec = _DefineRegionsInputSpec
    output_spec = _DefineRegionsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        folder = Path(runtime.cwd)
        grid = nib.load(inputs.average_file)
        own = self._drawn_regions(inputs.drawn, inputs.transform_files, grid, folder / "scan")
        elsewhere = self._drawn_regions(
            inputs.drawn_elsewhere, inputs.transform_files_elsewhere, grid, folder / "elsewhere"
        )
        for_subject = _resample_regions(
            inputs.drawn_for_subject, None, grid, folder / "subject_labels.nii", inputs.smoothing
        )
        drawn = filter(None, [for_subject, *own, *elsewhere])
        shared = next(drawn, None) or self._freesurfer_regions() or self._atlas_regions()
        regions = [scan_regions or shared or NO_REGIONS for scan_regions in own]
        self._results["label_files"] = list(map(itemgetter("path"), regions))
        self._results["names"] = list(map(itemgetter("names"), regions))
        self._results["sources"] = list(map(itemgetter("source"), regions))
        self._results["steps"] = list(map(itemgetter("step"), regions))
        if shared is None:  # an image all the same: it overwrites an earlier run's regions
            no_labels = np.zeros(grid.shape[:3], np.int32)
            self._results["shared_file"] = write_volume(folder / "no_labels.nii", no_labels, grid)
            self._results["shared_names"] = {}
        else:
            self._results["shared_file"] = shared["path"]
            self._results["shared_names"] = shared["names"]
        is_freesurfer = (
            isdefined(inputs.freesurfer_file) and shared["path"] == inputs.freesurfer_file
        )
        self._results["record"] = inputs.freesurfer_record if is_freesurfer else {}
        return runtime

    def _drawn_regions(self, drawn, transform_files, grid, stem):
        """Resample the regions drawn on several scans to the subject space."""
        regions = []
        for index, (labels, transform_file) in enumerate(zip(drawn, transform_files, strict=True)):
            out_file = stem.with_name(f"{stem.name}{index}_labels.nii")
            regions.append(
                _resample_regions(labels, transform_file, grid, out_file, self.inputs.smoothing)
            )
        return regions

    def _freesurfer_regions(self):
        if not isdefined(self.inputs.freesurfer_file):
            return None
        return {
            "path": self.inputs.freesurfer_file,
            "names": names_by_label(self.inputs.freesurfer_names),
            "source": FREESURFER,
            "step": "regions_freesurfer",
        }

    def _atlas_regions(self):
        if not isdefined(self.inputs.atlas_file):
            return None
        return {
            "path": self.inputs.atlas_file,
            "names": names_by_label(self.inputs.atlas_names),
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
    grid_files = traits.List(
        File(exists=True), mandatory=True, desc="an image on the grid of each scan"
    )


class _RegionsToScansOutputSpec(TraitedSpec):
    label_files = traits.List(traits.Str, desc="regions on each scan's grid")
    reference_files = traits.List(traits.Str, desc="reference region on each scan's grid")


class RegionsToScans(SimpleInterface):
    """Resample regions from the subject space to the grid of each scan."""

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
        for index, (label_file, reference_file, transform_file, grid_file) in enumerate(files):
            grid = nib.load(grid_file)
            kinds = {"label": label_file, "reference": reference_file}
            for kind, path in kinds.items():
                out_file = NOT_REGISTERED
                if path and transform_file != NOT_REGISTERED:
                    to_subject = np.linalg.inv(read_transform(transform_file))
                    out_file = _write_resampled(
                        path, to_subject, grid, folder / f"scan{index}_{kind}.nii"
                    )
                self._results[f"{kind}_files"].append(out_file)
        return runtime


def _resample_regions(drawn, transform_file, grid, out_file, smoothing):
    """Resample drawn regions to the subject space; None without any, or if their scan failed."""
    if not drawn or transform_file == NOT_REGISTERED:
        return None
    transform = None if transform_file is None else read_transform(transform_file)
    return {
        "path": _write_resampled(drawn["path"], transform, grid, out_file, smoothing),
        "names": names_by_label(drawn["names"]),
        "source": Path(drawn["path"]).name,
        "step": DRAWN,
    }


def _write_resampled(path, transform, grid, out_file, smoothing=0.0):
    """Resample labels to another grid and write them; smooth their surfaces on their own grid."""
    image = load_volume(path)
    labels = smooth_labels(read_labels(path), geometry(image)["voxel_size"], smoothing)
    labels = resample_labels(labels, image.affine, grid.affine, grid.shape[:3], transform=transform)
    return write_volume(out_file, labels, grid)
