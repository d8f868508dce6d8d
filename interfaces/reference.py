"""The region that susceptibility is given relative to."""

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
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec
from .images import geometry, read_labels, read_mask, read_volume, write_volume
from .registration import NOT_REGISTERED, read_transform

INSTEAD_OF_CSF = "brain mask, since no CSF was found"
BY_R2STAR = "found by R2* and position"

# What the text on methods calls references, other regions than these being labels, and drawn
# regions.
REFERENCE_STEPS = {"brain": "brain", "csf": "csf_label", ATRIUM: "atrium_label"}


class _NoCsfError(Exception):
    """There is no CSF to refer to; the message says why."""


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
        mask = read_mask(self.inputs.mask_file)
        region = read_mask(self.inputs.region_file)
        referenced, offset, spread = subtract_reference(chi, mask, region)
        self._results["chi_file"] = write_volume(self.out_path(runtime, "chi"), referenced, image)
        self.record(
            ReferenceRegion=self.inputs.region_name,
            ReferenceOffset=offset,
            ReferenceStandardDeviation=spread,
        )
        return runtime


class _FindReferenceInputSpec(BaseInterfaceInputSpec):
    average_file = File(exists=True, mandatory=True, desc="mean magnitude in the subject space")
    mask_file = File(exists=True, mandatory=True, desc="brain mask in the subject space")
    label_file = File(exists=True, mandatory=True, desc="regions in the subject space")
    names = traits.Dict(mandatory=True, desc="their names by label")
    regions_record = traits.Dict(usedefault=True, desc="sidecar fields of these regions")
    freesurfer_file = File(
        exists=True, desc="FreeSurfer's labels in the subject space, for want of ventricles there"
    )
    freesurfer_names = traits.Dict(usedefault=True, desc="their names by label")
    r2star_files = traits.List(
        traits.Str, usedefault=True, desc="R2* of the scans that have it, in the subject space"
    )
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to each scan")
    atria = traits.List(
        traits.List, usedefault=True, desc="of each scan, points in the atria that the user gives"
    )
    atria_elsewhere = traits.List(
        traits.List, usedefault=True, desc="points in the atria on other scans"
    )
    transform_files_elsewhere = traits.List(
        traits.Str, usedefault=True, desc="subject space to each of these"
    )
    radius = traits.Float(2.5, usedefault=True, desc="of the spheres in the atria, mm")
    reference = traits.Str(mandatory=True, desc="brain, csf, atrium or a label's name")


class _FindReferenceOutputSpec(TraitedSpec):
    reference_file = File(desc="the reference region in the subject space")
    reference_files = traits.List(File, desc="the same once for each scan")
    reference = traits.Str(desc="its name")
    record = traits.Dict(desc="sidecar fields that say how it was found, and those of the regions")


class FindReference(SimpleInterface):
    """The reference region in the subject space: a label, CSF found by R2*, spheres in the atria,
    or the brain.
    """

    input_spec = _FindReferenceInputSpec
    output_spec = _FindReferenceOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        grid = nib.load(self.inputs.average_file)
        labels = read_labels(inputs.label_file)
        names = _by_label(inputs.names)
        mask = read_mask(inputs.mask_file)
        region, name, record = self._reference(labels, names, mask, grid)
        file = write_volume(Path(runtime.cwd) / "reference.nii", region, grid)
        self._results["reference_file"] = file
        self._results["reference_files"] = [file] * len(inputs.transform_files)
        self._results["reference"] = name
        self._results["record"] = record | inputs.regions_record
        return runtime

    def _reference(self, labels, names, mask, grid):
        """The region, its name, and how it was found."""
        name = self.inputs.reference
        try:
            if name == ATRIUM and name not in names.values():
                return self._atria(labels, names, mask, grid)
            if name != "csf" or _has_csf(labels, names, mask):
                source = "brain mask" if name == "brain" else "label"
                record = {
                    "ReferenceSource": source,
                    METHOD_STEPS: [REFERENCE_STEPS.get(name, "label")],
                }
                return reference_region(name, labels, names, mask), name, record
            csf = self._find_csf(mask, grid)
        except _NoCsfError as cause:
            # Values relative to the brain are still values; what reads them is told by their name.
            record = {
                "ReferenceSource": f"{INSTEAD_OF_CSF}: {cause}",
                METHOD_STEPS: ["brain_instead"],
            }
            return mask, "brain", record
        return (
            csf.mask,
            name,
            {
                "ReferenceSource": BY_R2STAR,
                METHOD_STEPS: ["csf_found"],
                "ReferenceMeanR2star": csf.mean_r2star,
                "ReferenceVolumeLeft": csf.volume_left,
                "ReferenceVolumeRight": csf.volume_right,
            },
        )

    def _atria(self, labels, names, mask, grid):
        """Spheres in the atria: a label of them, at points that the user gives, or in the lateral
        ventricles.
        """
        drawn = [label for label, name in names.items() if without_side(name) == ATRIUM]
        region = np.isin(labels, drawn) & mask
        if region.any():
            return region, ATRIUM, {"ReferenceSource": "label", METHOD_STEPS: ["atrium_label"]}
        radius = self.inputs.radius
        points = self._given_atria()
        record = {"ReferenceRadius": radius}
        if points:
            region = (
                np.any(
                    [sphere_mask(point, grid.affine, mask.shape, radius) for point in points],
                    axis=0,
                )
                & mask
            )
            record |= {METHOD_STEPS: ["atrium_points"], "ReferenceCentres": points}
            return region, ATRIUM, record | {"ReferenceSource": "spheres at given points"}
        ventricles, source = self._ventricles(labels, names, mask, grid)
        try:
            found = find_atria(ventricles, grid.affine, mask, radius=radius)
        except ValueError as error:
            raise _NoCsfError(f"{error}") from error
        record |= {
            METHOD_STEPS: ["atrium_found"],
            "ReferenceSource": f"spheres in the atrium of each lateral ventricle, {source}",
            "ReferenceCentres": found.centres.round(2).tolist(),
            "ReferenceDepths": found.depths.round(2).tolist(),
            "ReferenceVoxelsOfSides": list(found.n_voxels),
        }
        return found.mask, ATRIUM, record

    def _given_atria(self):
        """Points in the subject space, of the first registered scan that has any."""
        inputs = self.inputs
        here = zip(inputs.atria, inputs.transform_files, strict=False)
        elsewhere = zip(inputs.atria_elsewhere, inputs.transform_files_elsewhere, strict=False)
        for points, transform in (*here, *elsewhere):
            if points and transform != NOT_REGISTERED:
                inverse = np.linalg.inv(read_transform(transform))
                return [(inverse @ [*point, 1])[:3].round(2).tolist() for point in points]
        return []

    def _ventricles(self, labels, names, mask, grid):
        """Lateral ventricles by the regions' labels, FreeSurfer's, or R2*; and by which."""
        if _has_csf(labels, names, mask):
            return reference_region("csf", labels, names, mask), "by their label"
        if isdefined(self.inputs.freesurfer_file):
            labels = read_labels(self.inputs.freesurfer_file)
            names = _by_label(self.inputs.freesurfer_names)
            if _has_csf(labels, names, mask):
                return reference_region("csf", labels, names, mask), "by FreeSurfer's labels"
        return self._find_csf(mask, grid).mask, BY_R2STAR

    def _find_csf(self, mask, grid):
        paths = [path for path in self.inputs.r2star_files if path != NOT_REGISTERED]
        if not paths:
            raise _NoCsfError(
                "no scan has an R2* map; draw CSF as a label, or choose another reference"
            )
        maps = np.stack([read_volume(path)[0] for path in paths])
        known = np.isfinite(maps)
        mean = np.where(known, maps, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        everywhere = mask & known.any(axis=0)
        average, _ = read_volume(self.inputs.average_file)
        voxel_size = geometry(grid)["voxel_size"]
        try:
            return find_csf(
                mean, average, everywhere, voxel_size, right=right_direction(grid.affine)
            )
        except ValueError as error:
            raise _NoCsfError(f"{error}") from error


class _RelateMapsInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(
        traits.Str, mandatory=True, desc="susceptibility of each scan, ppm; empty: left out"
    )
    reference_files = traits.List(
        traits.Str, mandatory=True, desc="reference region on each map's grid"
    )
    mask_files = traits.List(
        traits.Str, usedefault=True, desc="where each is known, if it is not not-a-number elsewhere"
    )


class _RelateMapsOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="susceptibility relative to the region's mean")
    offsets = traits.List(
        traits.Dict, desc="of each map, the region's mean before, its SD and number of voxels"
    )


class RelateMaps(SimpleInterface):
    """Give several maps relative to a reference region."""

    input_spec = _RelateMapsInputSpec
    output_spec = _RelateMapsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        self._results["out_files"] = []
        self._results["offsets"] = []
        masks = inputs.mask_files or [None] * len(inputs.in_files)
        for place, (in_file, region_file, mask_file) in enumerate(
            zip(inputs.in_files, inputs.reference_files, masks, strict=True)
        ):
            out_file = NOT_REGISTERED
            offset = {}
            if in_file != NOT_REGISTERED and region_file != NOT_REGISTERED:
                chi, image = read_volume(in_file)
                known = np.isfinite(chi)
                region = read_mask(region_file)
                if mask_file is not None:
                    known &= read_mask(mask_file)
                related, mean, spread = subtract_reference(np.where(known, chi, 0), known, region)
                related[~known] = np.nan
                out_file = write_volume(Path(runtime.cwd) / f"scan{place}.nii", related, image)
                offset = {"mean": mean, "sd": spread, "n_voxels": int((region & known).sum())}
            self._results["out_files"].append(out_file)
            self._results["offsets"].append(offset)
        return runtime


def _has_csf(labels, names, mask):
    try:
        reference_region("csf", labels, names, mask)
    except ValueError:
        return False
    return True


def _by_label(names):
    """Names by whole numbers: what passes between nodes as JSON has texts for keys."""
    return {int(label): name for label, name in names.items()}
