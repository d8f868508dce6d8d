"""Tables of the susceptibility and of R2* of regions, one of each for each scan."""

from pathlib import Path

import numpy as np
import pandas as pd
from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits

from ..core.dipole import b0_direction
from ..core.grid import voxel_size_of
from ..core.regions.reference import right_direction
from ..core.regions.statistics import measured_regions, roi_statistics
from ..core.regions.thalamus import surface_veins
from ..core.regions.veins import vein_mask
from ..dataset.files import write_json
from ..dataset.labels import bilateral_names, without_side
from ..dataset.levels import add_levels
from ..dataset.methods import METHOD_STEPS, N_REGIONS, REGIONS_DESCRIPTION
from ..dataset.outputs import derivative_path
from ..dataset.tables import write_tsv
from .base import names_by_label
from .images import geometry, read_labels, read_mask, read_volume, write_volume
from .registration import NOT_REGISTERED, read_transform
from .uncertainty import measured_standard_errors

WITH_SURFACE_VEINS = "thalamus"


class _RegionsInputSpec(BaseInterfaceInputSpec):
    mask_files = traits.List(
        traits.Str, usedefault=True, desc="valid voxels of each map, unless others are NaN"
    )
    label_files = traits.List(traits.Str, mandatory=True, desc="regions on the grid of each map")
    names = traits.List(traits.Dict, mandatory=True, desc="names of the regions by label")
    erosion = traits.Float(0.0, usedefault=True, desc="erosion of the regions, mm")


class _MeasureRegionsInputSpec(_RegionsInputSpec):
    chi_files = traits.List(
        traits.Str, mandatory=True, desc="map of each scan, ppm; empty: the scan is left out"
    )
    expected = traits.List(
        traits.Dict,
        usedefault=True,
        desc="true susceptibility by region, of each scan of a phantom",
    )
    offsets = traits.List(
        traits.Dict, usedefault=True, desc="mean and SD of the reference region of each map"
    )
    noise = traits.List(
        traits.Dict,
        usedefault=True,
        desc="files of the standard errors of each scan; empty if there are none",
    )
    reference_files = traits.List(
        traits.Str,
        usedefault=True,
        desc="reference region on the grid of each map; default: the whole map",
    )
    transform_files = traits.List(
        traits.Str,
        usedefault=True,
        desc="from the space of the maps to each scan; default: they are the same",
    )
    reference = traits.Str(mandatory=True, desc="name of the reference region")
    method = traits.Str(mandatory=True, desc="name of the inversion")
    exclude_veins = traits.Bool(False, usedefault=True, desc="leave out veins")


class _MeasureRegionsOutputSpec(TraitedSpec):
    rows = traits.List(traits.List(traits.Dict), desc="rows of the table of each scan")
    excluded_files = traits.List(
        traits.Str, desc="voxels left out as veins, of each scan; empty if it was not measured"
    )


class MeasureRegions(SimpleInterface):
    """Measure mean, SD and median of susceptibility in the regions of each scan."""

    input_spec = _MeasureRegionsInputSpec
    output_spec = _MeasureRegionsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        n_scans = len(inputs.chi_files)
        scans = zip(
            inputs.chi_files,
            inputs.mask_files or [None] * n_scans,
            inputs.label_files,
            inputs.names,
            inputs.expected or [{}] * n_scans,
            inputs.offsets or [{}] * n_scans,
            inputs.noise or [{}] * n_scans,
            inputs.reference_files or [None] * n_scans,
            inputs.transform_files or [None] * n_scans,
            strict=True,
        )
        self._results["rows"] = []
        self._results["excluded_files"] = []
        for index, scan in enumerate(scans):
            rows, excluded_file = self._measure(
                Path(runtime.cwd) / f"scan{index}_excluded.nii", *scan
            )
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
        """Return the rows of a scan's table, and the file of its veins."""
        if NOT_REGISTERED in (chi_file, label_file):
            return [], NOT_REGISTERED
        chi, image = read_volume(chi_file)
        mask = np.isfinite(chi)
        labels = read_labels(label_file)
        if mask_file is not None:
            mask &= read_mask(mask_file)
        names = names_by_label(names)
        voxel_size = geometry(image)["voxel_size"]
        chi = np.where(mask, chi, 0)
        veins = np.zeros_like(mask)
        if self.inputs.exclude_veins:
            veins = _veins(chi, labels, names, mask, image.affine)
        options = {"erosion": self.inputs.erosion, "exclude": veins}
        tables = []
        for group in _groups(names):
            tables.append(roi_statistics(chi, labels, group, mask, voxel_size, **options))
        table = pd.concat(tables, ignore_index=True)
        table.insert(0, "method", self.inputs.method)
        errors = dict.fromkeys(("se", "se_noise", "se_systematic"), np.nan)
        if noise:
            errors = measured_standard_errors(
                _region_masks(labels, names, mask, voxel_size, **options),
                image,
                noise=noise,
                reference=None if reference_file is None else read_mask(reference_file) & mask,
                transform=None if transform_file is None else read_transform(transform_file),
            )
        for column, values in errors.items():
            table.insert(table.columns.get_loc("n_voxels"), column, values)
        table["unit"] = "ppm"
        table["reference"] = self.inputs.reference
        table["reference_offset"] = offset.get("mean", 0.0)
        table["reference_sd"] = offset.get("sd", np.nan)
        if expected:
            table["expected"] = [expected.get(name, np.nan) for name in table["roi"]]
        return table.to_dict("records"), write_volume(excluded_file, veins, image)


class _MeasureR2starInputSpec(_RegionsInputSpec):
    r2star_files = traits.List(
        traits.Str, mandatory=True, desc="R2* map of each scan, 1/s; empty if there is none"
    )
    excluded_files = traits.List(
        traits.Str,
        mandatory=True,
        desc="voxels left out as veins, of each scan; empty: susceptibility was not measured",
    )


class _MeasureR2starOutputSpec(TraitedSpec):
    rows = traits.List(traits.List(traits.Dict), desc="rows of the table of each scan")


class MeasureR2star(SimpleInterface):
    """Measure mean, SD and median of R2* in the regions of each scan.

    The voxels are those in which susceptibility was measured. No reference is subtracted.
    """

    input_spec = _MeasureR2starInputSpec
    output_spec = _MeasureR2starOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        scans = zip(
            inputs.r2star_files,
            inputs.mask_files or [None] * len(inputs.r2star_files),
            inputs.label_files,
            inputs.names,
            inputs.excluded_files,
            strict=True,
        )
        self._results["rows"] = [self._measure(*scan) for scan in scans]
        return runtime

    def _measure(self, r2star_file, mask_file, label_file, names, excluded_file):
        """Return the rows of a scan's table; none without a map, or if susceptibility was not
        measured.
        """
        if NOT_REGISTERED in (r2star_file, excluded_file):
            return []
        r2star, image = read_volume(r2star_file)
        mask = np.isfinite(r2star)
        if mask_file is not None:
            mask &= read_mask(mask_file)
        r2star = np.where(mask, r2star, 0)
        labels = read_labels(label_file)
        options = {"erosion": self.inputs.erosion, "exclude": read_mask(excluded_file)}
        tables = []
        for group in _groups(names_by_label(names)):
            tables.append(
                roi_statistics(
                    r2star, labels, group, mask, geometry(image)["voxel_size"], **options
                )
            )
        table = pd.concat(tables, ignore_index=True)
        table["unit"] = "1/s"
        return table.to_dict("records")


class _SaveRoiTablesInputSpec(BaseInterfaceInputSpec):
    rows = traits.List(
        traits.List(traits.List(traits.Dict)), mandatory=True, desc="rows by map and scan"
    )
    entities = traits.List(traits.Dict, mandatory=True, desc="entities of each scan")
    labels = traits.List(
        traits.Dict, mandatory=True, desc="columns that identify the scan, of each"
    )
    sources = traits.List(traits.Str, mandatory=True, desc="file or atlas of the regions of each")
    descriptions = traits.Dict(
        usedefault=True, desc="descriptions in the sidecars of label images, by file name"
    )
    steps = traits.List(
        traits.Str, mandatory=True, desc="keys of the sentences on that in the methods text"
    )
    record = traits.Dict(usedefault=True, desc="sidecar fields on the reference region")
    choices = traits.Dict(usedefault=True, desc="sidecar fields on how regions were measured")
    columns = traits.Dict(mandatory=True, desc="descriptions of the columns")
    file_name = traits.Dict(mandatory=True, desc="names of the files, as of `derivative_path`")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")


class _SaveRoiTablesOutputSpec(TraitedSpec):
    out_files = traits.List(traits.Str, desc="the tables")


class SaveRoiTables(SimpleInterface):
    """Write the table of each scan with its sidecar."""

    input_spec = _SaveRoiTablesInputSpec
    output_spec = _SaveRoiTablesOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        self._results["out_files"] = []
        for index, entities in enumerate(inputs.entities):
            path = derivative_path(inputs.output_dir, entities, **inputs.file_name)
            sidecar = path.with_suffix(".json")
            rows = []
            for map_rows in inputs.rows:
                for row in map_rows[index]:
                    rows.append({**inputs.labels[index], **row})
            if not rows:  # an earlier run may have had regions on this scan
                path.unlink(missing_ok=True)
                sidecar.unlink(missing_ok=True)
                continue
            table = pd.DataFrame(rows)
            write_tsv(path, table)
            columns = {name: text for name, text in inputs.columns.items() if name in table}
            fields = {
                **inputs.choices,
                "RegionsFrom": inputs.sources[index],
                N_REGIONS: table["roi"].nunique(),
                METHOD_STEPS: [*inputs.record.get(METHOD_STEPS, ()), inputs.steps[index]],
            }
            if inputs.sources[index] in inputs.descriptions:
                fields[REGIONS_DESCRIPTION] = inputs.descriptions[inputs.sources[index]]
            write_json(sidecar, {**add_levels(columns, table), **inputs.record, **fields})
            self._results["out_files"].append(str(path))
        return runtime


def _groups(names):
    """Return names of the regions, and of those of both sides together if there are any."""
    return list(filter(None, [names, bilateral_names(names)]))


def _region_masks(labels, names, mask, voxel_size, **options):
    """Yield the voxels of each region that are measured, in the order of the table's rows."""
    for group in _groups(names):
        for _, box, region, _ in measured_regions(labels, group, mask, voxel_size, **options):
            volume = np.zeros(mask.shape, bool)
            volume[box] = region
            yield volume


def _veins(chi, labels, names, mask, affine):
    """Find veins in regions, and those along the thalamus."""
    voxel_size = voxel_size_of(affine)
    veins = vein_mask(chi, labels, mask, voxel_size)
    thalami = [label for label, name in names.items() if without_side(name) == WITH_SURFACE_VEINS]
    directions = {"right": right_direction(affine), "up": b0_direction(affine)}
    return veins | surface_veins(chi, np.isin(labels, thalami), mask, voxel_size, **directions)
