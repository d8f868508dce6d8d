"""Regions of interest, and the reference that susceptibility is given relative to."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, isdefined, traits

from ..core.dipole import b0_direction
from ..core.grid import voxel_size_of
from ..core.regions.atrium import find_atria, sphere_mask
from ..core.regions.reference import find_csf, reference_region, right_direction
from ..core.regions.statistics import regions_measured, roi_statistics, subtract_reference
from ..core.regions.thalamus import smooth_labels, surface_veins
from ..core.regions.veins import vein_mask
from ..core.registration.resampling import resample_labels
from ..dataset.files import write_json
from ..dataset.labels import both_sides, without_side
from ..dataset.methods import METHOD_STEPS, N_REGIONS
from ..dataset.outputs import derivative_path
from ..dataset.tables import write_tsv
from .base import CoreInterface, ProvenanceInputSpec, ProvenanceOutputSpec
from .images import geometry, read_mask, read_volume, write_volume
from .registration import NOT_REGISTERED, read_transform
from .uncertainty import measured_standard_errors

INSTEAD_OF_CSF = "brain mask, since no CSF was found"
ATRIUM = "atrium"  # the name of the reference, and of a label that is drawn there
BY_R2STAR = "found by R2* and position"
WITH_SURFACE_VEINS = "thalamus"
FREESURFER = "FreeSurfer"
# What the text on methods calls references, other regions than these being labels, and drawn regions.
REFERENCE_STEPS = {"brain": "brain", "csf": "csf_label", ATRIUM: "atrium_label"}
DRAWN = "regions_drawn"


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
        mask, region = read_mask(self.inputs.mask_file), read_mask(self.inputs.region_file)
        referenced, offset, spread = subtract_reference(chi, mask, region)
        self._results["chi_file"] = write_volume(self.out_path(runtime, "chi"), referenced, image)
        self.record(ReferenceRegion=self.inputs.region_name, ReferenceOffset=offset, ReferenceStandardDeviation=spread)
        return runtime


class _DefineRegionsInputSpec(BaseInterfaceInputSpec):
    average_file = File(exists=True, mandatory=True, desc="mean magnitude in the subject space")
    mask_file = File(exists=True, mandatory=True, desc="brain mask in the subject space")
    transform_files = traits.List(traits.Str, mandatory=True, desc="subject space to each scan")
    r2star_files = traits.List(traits.Str, usedefault=True, desc="R2* of the scans that have it, in the subject space")
    drawn = traits.List(traits.Dict, mandatory=True, desc="of each scan, path and names of its regions; may be empty")
    drawn_for_subject = traits.Dict(usedefault=True, desc="path and names of regions in the subject space")
    atlas_file = File(exists=True, desc="an atlas' labels in the subject space, for want of drawn regions")
    atlas_names = traits.Dict(usedefault=True, desc="their names by label")
    atlas = traits.Str(desc="what the atlas is called")
    freesurfer_file = File(exists=True, desc="FreeSurfer's labels in the subject space, for want of drawn regions")
    freesurfer_names = traits.Dict(usedefault=True, desc="their names by label")
    freesurfer_record = traits.Dict(usedefault=True, desc="sidecar fields: how they were brought there")
    smoothing = traits.Float(0.0, usedefault=True, desc="of drawn regions' surfaces, full width at half maximum, mm")
    atria = traits.List(traits.List, usedefault=True, desc="of each scan, points in the atria that the user gives")
    drawn_elsewhere = traits.List(traits.Dict, usedefault=True, desc="regions on other scans, for want of any on these")
    atria_elsewhere = traits.List(traits.List, usedefault=True, desc="points in the atria on these other scans")
    transform_files_elsewhere = traits.List(traits.Str, usedefault=True, desc="subject space to each of these")
    radius = traits.Float(2.5, usedefault=True, desc="of the spheres in the atria, mm")
    reference = traits.Str(mandatory=True, desc="brain, csf, atrium or a label's name")


class _DefineRegionsOutputSpec(TraitedSpec):
    label_files = traits.List(traits.Str, desc="regions for each scan in the subject space; empty where there are none")
    names = traits.List(traits.Dict, desc="their names by label")
    sources = traits.List(traits.Str, desc="where they come from")
    steps = traits.List(traits.Str, desc="what the text on methods calls that")
    shared_file = File(desc="the regions that scans without their own share; empty if there are none")
    shared_names = traits.Dict(desc="their names by label")
    reference_file = File(desc="the reference region in the subject space")
    reference_files = traits.List(File, desc="the same once for each scan")
    reference = traits.Str(desc="its name")
    record = traits.Dict(desc="sidecar fields that say how the reference was found")


class DefineRegions(SimpleInterface):
    """Regions of each scan in the subject space: drawn on it, for the subject or on another scan, or of an atlas."""

    input_spec = _DefineRegionsInputSpec
    output_spec = _DefineRegionsOutputSpec

    def _run_interface(self, runtime):
        folder, grid, given = Path(runtime.cwd), nib.load(self.inputs.average_file), self.inputs
        own = self._carried(given.drawn, given.transform_files, grid, folder, "scan")
        elsewhere = self._carried(given.drawn_elsewhere, given.transform_files_elsewhere, grid, folder, "elsewhere")
        shared = _carry_labels(given.drawn_for_subject, None, grid, folder / "subject_labels.nii", given.smoothing)
        shared = shared or next((regions for regions in (*own, *elsewhere) if regions), None)
        shared = shared or self._of_freesurfer() or self._of_atlas()
        regions = [mine or shared or {"path": "", "names": {}, "source": "", "step": ""} for mine in own]
        self._results["label_files"] = [region["path"] for region in regions]
        self._results["names"] = [region["names"] for region in regions]
        self._results["sources"] = [region["source"] for region in regions]
        self._results["steps"] = [region["step"] for region in regions]
        if shared is None:  # an earlier run may have had some, and what is saved is to be this run's
            empty = write_volume(folder / "no_labels.nii", np.zeros(grid.shape[:3], np.int32), grid)
            self._results["shared_file"], self._results["shared_names"] = empty, {}
        else:
            self._results["shared_file"], self._results["shared_names"] = shared["path"], shared["names"]
        region, name, record = self._reference(shared, grid)
        self._results["reference_file"] = write_volume(folder / "reference.nii", region, grid)
        self._results["reference_files"] = [self._results["reference_file"]] * len(own)
        of_freesurfer = isdefined(self.inputs.freesurfer_file) and shared["path"] == self.inputs.freesurfer_file
        record |= self.inputs.freesurfer_record if of_freesurfer else {}
        self._results["reference"], self._results["record"] = name, record
        return runtime

    def _carried(self, drawn, transform_files, grid, folder, name):
        """Regions of some scans in the subject space."""
        files = enumerate(zip(drawn, transform_files, strict=True))
        return [
            _carry_labels(regions, transform, grid, folder / f"{name}{place}_labels.nii", self.inputs.smoothing)
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
        return {"path": self.inputs.atlas_file, "names": names, "source": self.inputs.atlas, "step": "regions_atlas"}

    def _reference(self, shared, grid):
        """The region, its name, and how it was found."""
        name, mask = self.inputs.reference, read_mask(self.inputs.mask_file)
        labels = np.zeros(mask.shape, int) if shared is None else read_labels(shared["path"])
        names = {} if shared is None else shared["names"]
        try:
            if name == ATRIUM and name not in names.values():
                return self._atria(labels, names, mask, grid)
            if name != "csf" or _has_csf(labels, names, mask):
                source = "brain mask" if name == "brain" else "label"
                record = {"ReferenceSource": source, METHOD_STEPS: [REFERENCE_STEPS.get(name, "label")]}
                return reference_region(name, labels, names, mask), name, record
            csf = self._find_csf(mask, grid)
        except _NoCsfError as cause:
            # Values relative to the brain are still values; what reads them is told by their name.
            record = {"ReferenceSource": f"{INSTEAD_OF_CSF}: {cause}", METHOD_STEPS: ["brain_instead"]}
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
        """Spheres in the atria: a label of them, at points that the user gives, or in the lateral ventricles."""
        drawn = [label for label, name in names.items() if without_side(name) == ATRIUM]
        region = np.isin(labels, drawn) & mask
        if region.any():
            return region, ATRIUM, {"ReferenceSource": "label", METHOD_STEPS: ["atrium_label"]}
        radius, points = self.inputs.radius, self._given_atria()
        record = {"ReferenceRadius": radius}
        if points:
            region = np.any([sphere_mask(point, grid.affine, mask.shape, radius) for point in points], axis=0) & mask
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
        given = self.inputs
        here = zip(given.atria, given.transform_files, strict=False)
        elsewhere = zip(given.atria_elsewhere, given.transform_files_elsewhere, strict=False)
        for points, transform in (*here, *elsewhere):
            if points and transform != NOT_REGISTERED:
                inverse = np.linalg.inv(read_transform(transform))
                return [(inverse @ [*point, 1])[:3].round(2).tolist() for point in points]
        return []

    def _ventricles(self, labels, names, mask, grid):
        """Lateral ventricles by the regions' labels, FreeSurfer's, or R2*; and by which."""
        if _has_csf(labels, names, mask):
            return reference_region("csf", labels, names, mask), "by their label"
        known = self._of_freesurfer()
        if known is not None:
            labels = read_labels(known["path"])
            if _has_csf(labels, known["names"], mask):
                return reference_region("csf", labels, known["names"], mask), "by FreeSurfer's labels"
        return self._find_csf(mask, grid).mask, BY_R2STAR

    def _find_csf(self, mask, grid):
        paths = [path for path in self.inputs.r2star_files if path != NOT_REGISTERED]
        if not paths:
            raise _NoCsfError("no scan has an R2* map; draw CSF as a label, or choose another reference")
        maps = np.stack([read_volume(path)[0] for path in paths])
        known = np.isfinite(maps)
        mean = np.where(known, maps, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        everywhere = mask & known.any(axis=0)
        average, _ = read_volume(self.inputs.average_file)
        voxel_size = geometry(grid)["voxel_size"]
        try:
            return find_csf(mean, average, everywhere, voxel_size, right=right_direction(grid.affine))
        except ValueError as error:
            raise _NoCsfError(f"{error}") from error


class _RegionsToScansInputSpec(BaseInterfaceInputSpec):
    label_files = traits.List(traits.Str, mandatory=True, desc="regions of each scan in the subject space")
    reference_files = traits.List(File(exists=True), mandatory=True, desc="reference region in the subject space")
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
        given, folder = self.inputs, Path(runtime.cwd)
        self._results["label_files"], self._results["reference_files"] = [], []
        files = zip(given.label_files, given.reference_files, given.transform_files, given.grid_files, strict=True)
        for place, (label_file, reference_file, transform_file, grid_file) in enumerate(files):
            grid, kinds = nib.load(grid_file), {"label": label_file, "reference": reference_file}
            for kind, path in kinds.items():
                out_file = NOT_REGISTERED
                if path and transform_file != NOT_REGISTERED:
                    inverse = np.linalg.inv(read_transform(transform_file))
                    out_file = _write_carried(path, inverse, grid, folder / f"scan{place}_{kind}.nii")
                self._results[f"{kind}_files"].append(out_file)
        return runtime


class _RelateMapsInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(traits.Str, mandatory=True, desc="susceptibility of each scan, ppm; empty: left out")
    reference_files = traits.List(traits.Str, mandatory=True, desc="reference region on each map's grid")
    mask_files = traits.List(
        traits.Str, usedefault=True, desc="where each is known, if it is not not-a-number elsewhere"
    )


class _RelateMapsOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="susceptibility relative to the region's mean")
    offsets = traits.List(traits.Dict, desc="of each map, the region's mean before, its SD and number of voxels")


class RelateMaps(SimpleInterface):
    """Give several maps relative to a reference region."""

    input_spec = _RelateMapsInputSpec
    output_spec = _RelateMapsOutputSpec

    def _run_interface(self, runtime):
        given, self._results["out_files"], self._results["offsets"] = self.inputs, [], []
        masks = given.mask_files or [None] * len(given.in_files)
        for place, (in_file, region_file, mask_file) in enumerate(
            zip(given.in_files, given.reference_files, masks, strict=True)
        ):
            out_file, offset = NOT_REGISTERED, {}
            if in_file != NOT_REGISTERED and region_file != NOT_REGISTERED:
                chi, image = read_volume(in_file)
                known, region = np.isfinite(chi), read_mask(region_file)
                if mask_file is not None:
                    known &= read_mask(mask_file)
                related, mean, spread = subtract_reference(np.where(known, chi, 0), known, region)
                related[~known] = np.nan
                out_file = write_volume(Path(runtime.cwd) / f"scan{place}.nii", related, image)
                offset = {"mean": mean, "sd": spread, "n_voxels": int((region & known).sum())}
            self._results["out_files"].append(out_file)
            self._results["offsets"].append(offset)
        return runtime


class _MeasureRegionsInputSpec(BaseInterfaceInputSpec):
    chi_files = traits.List(traits.Str, mandatory=True, desc="susceptibility of each scan, ppm; empty: left out")
    mask_files = traits.List(
        traits.Str, usedefault=True, desc="where each is known, if it is not not-a-number elsewhere"
    )
    label_files = traits.List(traits.Str, mandatory=True, desc="regions of each, on the same grid")
    names = traits.List(traits.Dict, mandatory=True, desc="their names by label")
    expected = traits.List(
        traits.Dict, usedefault=True, desc="of each scan, true susceptibility by region: a phantom's tubes"
    )
    offsets = traits.List(traits.Dict, usedefault=True, desc="of each, mean and sd of the reference region")
    noise = traits.List(
        traits.Dict, usedefault=True, desc="of each scan, files that tell of its noise; empty: there are none"
    )
    reference_files = traits.List(
        traits.Str, usedefault=True, desc="reference region on each map's grid; all of the map without it"
    )
    transform_files = traits.List(
        traits.Str, usedefault=True, desc="from the maps' space to each scan; they share one without it"
    )
    reference = traits.Str(mandatory=True, desc="name of the reference region")
    method = traits.Str(mandatory=True, desc="the inversion")
    erosion = traits.Float(0.0, usedefault=True, desc="of the regions, mm")
    exclude_veins = traits.Bool(False, usedefault=True, desc="leave veins out")


class _MeasureRegionsOutputSpec(TraitedSpec):
    rows = traits.List(traits.List(traits.Dict), desc="of each scan, the rows of its table")
    excluded_files = traits.List(traits.Str, desc="voxels of each that were left out as veins; empty: not measured")


class MeasureRegions(SimpleInterface):
    """Mean, SD and median of susceptibility in each region of each scan, for one inversion."""

    input_spec = _MeasureRegionsInputSpec
    output_spec = _MeasureRegionsOutputSpec

    def _run_interface(self, runtime):
        given, n = self.inputs, len(self.inputs.chi_files)
        scans = zip(
            given.chi_files,
            given.mask_files or [None] * n,
            given.label_files,
            given.names,
            given.expected or [{}] * n,
            given.offsets or [{}] * n,
            given.noise or [{}] * n,
            given.reference_files or [None] * n,
            given.transform_files or [None] * n,
            strict=True,
        )
        self._results["rows"], self._results["excluded_files"] = [], []
        for place, scan in enumerate(scans):
            rows, excluded_file = self._measure(Path(runtime.cwd) / f"scan{place}_excluded.nii", *scan)
            self._results["rows"].append(rows)
            self._results["excluded_files"].append(excluded_file)
        return runtime

    def _measure(
        self,
        excluded_file,
        chi_file,
        mask_file,
        label_file,
        names,
        expected,
        offset,
        noise,
        reference_file,
        transform_file,
    ):
        if NOT_REGISTERED in (chi_file, label_file):
            return [], NOT_REGISTERED
        chi, image = read_volume(chi_file)
        mask, labels = np.isfinite(chi), read_labels(label_file)
        if mask_file is not None:
            mask &= read_mask(mask_file)
        names, voxel_size = {int(label): name for label, name in names.items()}, geometry(image)["voxel_size"]
        chi = np.where(mask, chi, 0)
        veins = _veins(chi, labels, names, mask, image.affine) if self.inputs.exclude_veins else np.zeros_like(mask)
        choices = {"erosion": self.inputs.erosion, "exclude": veins}
        groups = [group for group in (names, both_sides(names)) if group]
        tables = [roi_statistics(chi, labels, group, mask, voxel_size, **choices) for group in groups]
        table = pd.concat(tables, ignore_index=True)
        table.insert(0, "method", self.inputs.method)
        errors = np.nan
        if noise:
            regions = (
                region for group in groups for region in regions_measured(labels, group, mask, voxel_size, **choices)
            )
            errors = measured_standard_errors(
                (_in_volume(kept, box, mask.shape) for _, box, kept, _ in regions),
                image,
                noise=noise,
                reference=None if reference_file is None else read_mask(reference_file) & mask,
                transform=None if transform_file is None else read_transform(transform_file),
            )
        table.insert(table.columns.get_loc("n_voxels"), "se", errors)
        table["unit"], table["reference"] = "ppm", self.inputs.reference
        table["reference_offset"] = offset.get("mean", 0.0)
        table["reference_sd"] = offset.get("sd", np.nan)
        if expected:
            table["expected"] = [expected.get(name, np.nan) for name in table["roi"]]
        return table.to_dict("records"), write_volume(excluded_file, veins, image)


class _SaveRoiTablesInputSpec(BaseInterfaceInputSpec):
    rows = traits.List(traits.List(traits.List(traits.Dict)), mandatory=True, desc="by method, by scan, the rows")
    entities = traits.List(traits.Dict, mandatory=True, desc="entities of each scan")
    labels = traits.List(traits.Dict, mandatory=True, desc="of each, the columns that tell which scan it is")
    sources = traits.List(traits.Str, mandatory=True, desc="where the regions of each come from")
    steps = traits.List(traits.Str, mandatory=True, desc="what the text on methods calls that")
    record = traits.Dict(usedefault=True, desc="sidecar fields: how the reference was found")
    columns = traits.Dict(mandatory=True, desc="what the columns mean")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveRoiTablesOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="the tables")


class SaveRoiTables(SimpleInterface):
    """Write the table of each scan."""

    input_spec = _SaveRoiTablesInputSpec
    output_spec = _SaveRoiTablesOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        given, self._results["out_files"] = self.inputs, []
        for place, entities in enumerate(given.entities):
            rows = [row for method in given.rows for row in method[place]]
            path = derivative_path(given.output_dir, entities, suffix="chi", desc="rois", extension=".tsv")
            if not rows:
                for earlier in (path, path.with_suffix(".json")):  # of regions that are no longer there
                    earlier.unlink(missing_ok=True)
                continue
            table = pd.DataFrame([{**given.labels[place], **row} for row in rows])
            write_tsv(path, table)
            known = {column: meaning for column, meaning in given.columns.items() if column in table}
            told = {
                "RegionsFrom": given.sources[place],
                N_REGIONS: table["roi"].nunique(),
                METHOD_STEPS: [*given.record.get(METHOD_STEPS, ()), given.steps[place]],
            }
            write_json(path.with_suffix(".json"), {**known, **given.record, **told})
            self._results["out_files"].append(str(path))
        return runtime


def read_labels(path):
    """Read a label image as integers."""
    return np.rint(read_volume(path)[0]).astype(np.int32)


def _veins(chi, labels, names, mask, affine):
    """Veins in regions, and those along the thalamus."""
    voxel_size = voxel_size_of(affine)
    veins = vein_mask(chi, labels, mask, voxel_size)
    beside = [label for label, name in names.items() if without_side(name) == WITH_SURFACE_VEINS]
    directions = {"right": right_direction(affine), "up": b0_direction(affine)}
    return veins | surface_veins(chi, np.isin(labels, beside), mask, voxel_size, **directions)


def _in_volume(part, box, shape):
    whole = np.zeros(shape, bool)
    whole[box] = part
    return whole


def _has_csf(labels, names, mask):
    try:
        reference_region("csf", labels, names, mask)
    except ValueError:
        return False
    return True


def _carry_labels(drawn, transform_file, grid, out_file, smoothing):
    """Regions in the subject space: path, names and source; None if there are none or their scan failed."""
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
    carried = resample_labels(labels, image.affine, grid.affine, grid.shape[:3], transform=transform)
    return write_volume(out_file, carried, grid)
