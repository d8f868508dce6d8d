"""Reference regions, whose mean susceptibility is set to zero."""

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

from ..core.regions.atrium import find_atria, sphere_mask
from ..core.regions.reference import find_csf, reference_region, right_direction
from ..core.regions.statistics import subtract_reference
from ..dataset.labels import ATRIUM, without_side
from ..dataset.methods import METHOD_STEPS
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec, names_by_label
from .images import geometry, read_labels, read_mask, read_volume, write_volume
from .registration import NOT_REGISTERED, read_transform

INSTEAD_OF_CSF = "brain mask, since no CSF was found"
BY_R2STAR = "found by R2* and position"

# Keys of the sentences on references in the methods text; that of any other region is "label".
REFERENCE_STEPS = {"brain": "brain", "csf": "csf_label", ATRIUM: "atrium_label"}


class _NoCsfError(Exception):
    """No CSF was found that could be the reference; the message says why."""


class _SubtractReferenceInputSpec(ProvenanceInputSpec):
    chi_file = File(exists=True, mandatory=True, desc="susceptibility, ppm, up to a constant")
    mask_file = File(exists=True, mandatory=True, desc="valid voxels of the map")
    region_file = File(exists=True, mandatory=True, desc="the reference region")
    region_name = traits.Str(mandatory=True, desc="name of the region in the sidecar")


class _SubtractReferenceOutputSpec(ProvenanceOutputSpec):
    chi_file = File(desc="susceptibility relative to the region's mean, ppm")


class SubtractReference(CoreInterface):
    """Make susceptibility relative to the mean of a region."""

    input_spec = _SubtractReferenceInputSpec
    output_spec = _SubtractReferenceOutputSpec

    def _run_interface(self, runtime):
        chi, image = read_volume(self.inputs.chi_file)
        mask = read_mask(self.inputs.mask_file)
        region = read_mask(self.inputs.region_file)
        chi, offset, sd = subtract_reference(chi, mask, region)
        self._results["chi_file"] = write_volume(self.out_path(runtime, "chi"), chi, image)
        self.record(
            ReferenceRegion=self.inputs.region_name,
            ReferenceOffset=offset,
            ReferenceStandardDeviation=sd,
        )
        return runtime


class _FindReferenceInputSpec(BaseInterfaceInputSpec):
    average_file = File(exists=True, mandatory=True, desc="mean magnitude in the subject space")
    mask_file = File(exists=True, mandatory=True, desc="brain mask in the subject space")
    label_file = File(exists=True, mandatory=True, desc="regions in the subject space")
    names = traits.Dict(mandatory=True, desc="their names by label")
    regions_record = traits.Dict(usedefault=True, desc="sidecar fields of these regions")
    freesurfer_file = File(
        exists=True,
        desc="FreeSurfer's labels in the subject space, used if the regions have no ventricles",
    )
    freesurfer_names = traits.Dict(usedefault=True, desc="their names by label")
    r2star_files = traits.List(
        traits.Str, usedefault=True, desc="R2* maps in the subject space, of scans that have one"
    )
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to each scan")
    atria = traits.List(
        traits.List, usedefault=True, desc="points in the atria that the user marked on each scan"
    )
    atria_elsewhere = traits.List(
        traits.List, usedefault=True, desc="points in the atria marked on other scans"
    )
    transform_files_elsewhere = traits.List(
        traits.Str, usedefault=True, desc="subject space to each of these scans"
    )
    radius = traits.Float(2.5, usedefault=True, desc="radius of the spheres in the atria, mm")
    reference = traits.Str(mandatory=True, desc="brain, csf, atrium, or the name of a label")


class _FindReferenceOutputSpec(TraitedSpec):
    reference_file = File(desc="the reference region in the subject space")
    reference_files = traits.List(File, desc="the same file, repeated for each scan")
    reference = traits.Str(desc="name of the reference region")
    record = traits.Dict(desc="sidecar fields on how it was determined, and those of the regions")


class FindReference(SimpleInterface):
    """Find the reference region in the subject space.

    It is a label, CSF segmented by R2*, spheres in the atria, or the brain.
    """

    input_spec = _FindReferenceInputSpec
    output_spec = _FindReferenceOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        grid = nib.load(inputs.average_file)
        labels = read_labels(inputs.label_file)
        names = names_by_label(inputs.names)
        mask = read_mask(inputs.mask_file)
        region, name, record = self._reference(labels, names, mask, grid)
        file = write_volume(Path(runtime.cwd) / "reference.nii", region, grid)
        self._results["reference_file"] = file
        self._results["reference_files"] = [file] * len(inputs.transform_files)
        self._results["reference"] = name
        self._results["record"] = record | inputs.regions_record
        return runtime

    def _reference(self, labels, names, mask, grid):
        """Return the region, its name, and sidecar fields on how it was determined."""
        name = self.inputs.reference
        try:
            if name == ATRIUM and name not in names.values():
                return self._atria(labels, names, mask, grid)
            if name != "csf" or _has_csf(labels, names, mask):
                region = reference_region(name, labels, names, mask)
                record = {
                    "ReferenceSource": "brain mask" if name == "brain" else "label",
                    METHOD_STEPS: [REFERENCE_STEPS.get(name, "label")],
                }
                return region, name, record
            csf = self._find_csf(mask, grid)
        except _NoCsfError as cause:
            # Values relative to the brain are still useful. The name of the reference, which goes
            # into all tables, keeps them from being mistaken for values relative to CSF.
            record = {
                "ReferenceSource": f"{INSTEAD_OF_CSF}: {cause}",
                METHOD_STEPS: ["brain_as_fallback"],
            }
            return mask, "brain", record
        record = {
            "ReferenceSource": BY_R2STAR,
            METHOD_STEPS: ["csf_automatic"],
            "ReferenceMeanR2star": csf.mean_r2star,
            "ReferenceVolumeLeft": csf.volume_left,
            "ReferenceVolumeRight": csf.volume_right,
        }
        return csf.mask, name, record

    def _atria(self, labels, names, mask, grid):
        """Return the atria: a label, or spheres at the user's points or in the ventricles."""
        atrium_labels = [label for label, name in names.items() if without_side(name) == ATRIUM]
        region = np.isin(labels, atrium_labels) & mask
        if region.any():
            return region, ATRIUM, {"ReferenceSource": "label", METHOD_STEPS: ["atrium_label"]}
        radius = self.inputs.radius
        record = {"ReferenceRadius": radius}
        points = self._user_points()
        if points:
            region = np.zeros_like(mask)
            for point in points:
                region |= sphere_mask(point, grid.affine, mask.shape, radius)
            region &= mask
            record |= {METHOD_STEPS: ["atrium_points"], "ReferenceCentres": points}
            return region, ATRIUM, record | {"ReferenceSource": "spheres at given points"}
        ventricles, source = self._ventricles(labels, names, mask, grid)
        try:
            atria = find_atria(ventricles, grid.affine, mask, radius=radius)
        except ValueError as error:
            raise _NoCsfError(f"{error}") from error
        record |= {
            METHOD_STEPS: ["atrium_automatic"],
            "ReferenceSource": f"spheres in the atrium of each lateral ventricle, {source}",
            "ReferenceCentres": atria.centres.round(2).tolist(),
            "ReferenceDepths": atria.depths.round(2).tolist(),
            "ReferenceVoxelsOfSides": list(atria.n_voxels),
        }
        return atria.mask, ATRIUM, record

    def _user_points(self):
        """Return the user's points in the subject space, of the first registered scan with any."""
        inputs = self.inputs
        scans = [
            *zip(inputs.atria, inputs.transform_files, strict=False),
            *zip(inputs.atria_elsewhere, inputs.transform_files_elsewhere, strict=False),
        ]
        for points, transform_file in scans:
            if points and transform_file != NOT_REGISTERED:
                to_subject = np.linalg.inv(read_transform(transform_file))
                return [(to_subject @ [*point, 1])[:3].round(2).tolist() for point in points]
        return []

    def _ventricles(self, labels, names, mask, grid):
        """Return the lateral ventricles, and whether labels, FreeSurfer or R2* determined them."""
        if _has_csf(labels, names, mask):
            return reference_region("csf", labels, names, mask), "by their label"
        if isdefined(self.inputs.freesurfer_file):
            labels = read_labels(self.inputs.freesurfer_file)
            names = names_by_label(self.inputs.freesurfer_names)
            if _has_csf(labels, names, mask):
                return reference_region("csf", labels, names, mask), "by FreeSurfer's labels"
        return self._find_csf(mask, grid).mask, BY_R2STAR

    def _find_csf(self, mask, grid):
        """Segment CSF by the mean R2* of the scans."""
        paths = [path for path in self.inputs.r2star_files if path != NOT_REGISTERED]
        if not paths:
            raise _NoCsfError(
                "no scan has an R2* map; draw CSF as a label, or choose another reference"
            )
        maps = np.stack([read_volume(path)[0] for path in paths])
        is_valid = np.isfinite(maps)
        mean = np.where(is_valid, maps, 0).sum(axis=0) / np.maximum(is_valid.sum(axis=0), 1)
        average, _ = read_volume(self.inputs.average_file)
        voxel_size = geometry(grid)["voxel_size"]
        try:
            return find_csf(
                mean,
                average,
                mask & is_valid.any(axis=0),
                voxel_size,
                right=right_direction(grid.affine),
            )
        except ValueError as error:
            raise _NoCsfError(f"{error}") from error


class _RelateMapsInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(
        traits.Str, mandatory=True, desc="map of each scan, ppm; empty: the scan is left out"
    )
    reference_files = traits.List(
        traits.Str, mandatory=True, desc="reference region on each map's grid"
    )
    mask_files = traits.List(
        traits.Str, usedefault=True, desc="valid voxels of each map, unless others are NaN"
    )


class _RelateMapsOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="susceptibility relative to the region's mean")
    offsets = traits.List(
        traits.Dict, desc="mean (before), SD and number of voxels of the region in each map"
    )


class RelateMaps(SimpleInterface):
    """Make several maps relative to the mean of a reference region."""

    input_spec = _RelateMapsInputSpec
    output_spec = _RelateMapsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        self._results["out_files"] = []
        self._results["offsets"] = []
        mask_files = inputs.mask_files or [None] * len(inputs.in_files)
        scans = zip(inputs.in_files, inputs.reference_files, mask_files, strict=True)
        for index, (in_file, region_file, mask_file) in enumerate(scans):
            out_file = NOT_REGISTERED
            offset = {}
            if NOT_REGISTERED not in (in_file, region_file):
                chi, image = read_volume(in_file)
                is_valid = np.isfinite(chi)
                region = read_mask(region_file)
                if mask_file is not None:
                    is_valid &= read_mask(mask_file)
                chi, mean, sd = subtract_reference(np.where(is_valid, chi, 0), is_valid, region)
                chi[~is_valid] = np.nan
                out_file = write_volume(Path(runtime.cwd) / f"scan{index}.nii", chi, image)
                n_voxels = int((region & is_valid).sum())
                offset = {"mean": mean, "sd": sd, "n_voxels": n_voxels}
            self._results["out_files"].append(out_file)
            self._results["offsets"].append(offset)
        return runtime


def _has_csf(labels, names, mask):
    try:
        reference_region("csf", labels, names, mask)
    except ValueError:
        return False
    return True
