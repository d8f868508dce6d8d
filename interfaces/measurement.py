"""Susceptibility of regions, in a table of each scan."""

from pathlib import Path

import numpy as np
import pandas as pd
from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits

from ..core.dipole import b0_direction
from ..core.grid import voxel_size_of
from ..core.regions.reference import right_direction
from ..core.regions.statistics import regions_measured, roi_statistics
from ..core.regions.thalamus import surface_veins
from ..core.regions.veins import vein_mask
from ..dataset.files import write_json
from ..dataset.labels import bilateral_names, without_side
from ..dataset.methods import METHOD_STEPS, N_REGIONS
from ..dataset.names import ROI_TABLE
from ..dataset.outputs import derivative_path
from ..dataset.tables import write_tsv
from .images import geometry, read_labels, read_mask, read_volume, write_volume
from .registration import NOT_REGISTERED, read_transform
from .uncertainty import measured_standard_errors

WITH_SURFACE_VEINS = "thalamus"


class _MeasureRegionsInputSpec(BaseInterfaceInputSpec):
    chi_files = traits.List(
        traits.Str, mandatory=True, desc="susceptibility of each scan, ppm; empty: left out"
    )
    mask_files = traits.List(
        traits.Str, usedefault=True, desc="where each is known, if it is not not-a-number elsewhere"
    )
    label_files = traits.List(traits.Str, mandatory=True, desc="regions of each, on the same grid")
    names = traits.List(traits.Dict, mandatory=True, desc="their names by label")
    expected = traits.List(
        traits.Dict,
        usedefault=True,
        desc="of each scan, true susceptibility by region: a phantom's tubes",
    )
    offsets = traits.List(
        traits.Dict, usedefault=True, desc="of each, mean and sd of the reference region"
    )
    noise = traits.List(
        traits.Dict,
        usedefault=True,
        desc="of each scan, files that tell of its noise; empty: there are none",
    )
    reference_files = traits.List(
        traits.Str,
        usedefault=True,
        desc="reference region on each map's grid; all of the map without it",
    )
    transform_files = traits.List(
        traits.Str,
        usedefault=True,
        desc="from the maps' space to each scan; they share one without it",
    )
    reference = traits.Str(mandatory=True, desc="name of the reference region")
    method = traits.Str(mandatory=True, desc="the inversion")
    erosion = traits.Float(0.0, usedefault=True, desc="of the regions, mm")
    exclude_veins = traits.Bool(False, usedefault=True, desc="leave veins out")


class _MeasureRegionsOutputSpec(TraitedSpec):
    rows = traits.List(traits.List(traits.Dict), desc="of each scan, the rows of its table")
    excluded_files = traits.List(
        traits.Str, desc="voxels of each that were left out as veins; empty: not measured"
    )


class MeasureRegions(SimpleInterface):
    """Mean, SD and median of susceptibility in each region of each scan, for one inversion."""

    input_spec = _MeasureRegionsInputSpec
    output_spec = _MeasureRegionsOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        n = len(self.inputs.chi_files)
        scans = zip(
            inputs.chi_files,
            inputs.mask_files or [None] * n,
            inputs.label_files,
            inputs.names,
            inputs.expected or [{}] * n,
            inputs.offsets or [{}] * n,
            inputs.noise or [{}] * n,
            inputs.reference_files or [None] * n,
            inputs.transform_files or [None] * n,
            strict=True,
        )
        self._results["rows"] = []
        self._results["excluded_files"] = []
        for place, scan in enumerate(scans):
            rows, excluded_file = self._measure(
                Path(runtime.cwd) / f"scan{place}_excluded.nii", *scan
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
        if NOT_REGISTERED in (chi_file, label_file):
            return [], NOT_REGISTERED
        chi, image = read_volume(chi_file)
        mask = np.isfinite(chi)
        labels = read_labels(label_file)
        if mask_file is not None:
            mask &= read_mask(mask_file)
        names = {int(label): name for label, name in names.items()}
        voxel_size = geometry(image)["voxel_size"]
        chi = np.where(mask, chi, 0)
        veins = (
            _veins(chi, labels, names, mask, image.affine)
            if self.inputs.exclude_veins
            else np.zeros_like(mask)
        )
        choices = {"erosion": self.inputs.erosion, "exclude": veins}
        groups = [group for group in (names, bilateral_names(names)) if group]
        tables = [
            roi_statistics(chi, labels, group, mask, voxel_size, **choices) for group in groups
        ]
        table = pd.concat(tables, ignore_index=True)
        table.insert(0, "method", self.inputs.method)
        errors = np.nan
        if noise:
            regions = (
                region
                for group in groups
                for region in regions_measured(labels, group, mask, voxel_size, **choices)
            )
            errors = measured_standard_errors(
                (_in_volume(kept, box, mask.shape) for _, box, kept, _ in regions),
                image,
                noise=noise,
                reference=None if reference_file is None else read_mask(reference_file) & mask,
                transform=None if transform_file is None else read_transform(transform_file),
            )
        table.insert(table.columns.get_loc("n_voxels"), "se", errors)
        table["unit"] = "ppm"
        table["reference"] = self.inputs.reference
        table["reference_offset"] = offset.get("mean", 0.0)
        table["reference_sd"] = offset.get("sd", np.nan)
        if expected:
            table["expected"] = [expected.get(name, np.nan) for name in table["roi"]]
        return table.to_dict("records"), write_volume(excluded_file, veins, image)


class _SaveRoiTablesInputSpec(BaseInterfaceInputSpec):
    rows = traits.List(
        traits.List(traits.List(traits.Dict)), mandatory=True, desc="by method, by scan, the rows"
    )
    entities = traits.List(traits.Dict, mandatory=True, desc="entities of each scan")
    labels = traits.List(
        traits.Dict, mandatory=True, desc="of each, the columns that tell which scan it is"
    )
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
        inputs = self.inputs
        self._results["out_files"] = []
        for place, entities in enumerate(inputs.entities):
            rows = [row for method in inputs.rows for row in method[place]]
            path = derivative_path(inputs.output_dir, entities, **ROI_TABLE)
            if not rows:
                for earlier in (
                    path,
                    path.with_suffix(".json"),
                ):  # of regions that are no longer there
                    earlier.unlink(missing_ok=True)
                continue
            table = pd.DataFrame([{**inputs.labels[place], **row} for row in rows])
            write_tsv(path, table)
            known = {
                column: meaning for column, meaning in inputs.columns.items() if column in table
            }
            told = {
                "RegionsFrom": inputs.sources[place],
                N_REGIONS: table["roi"].nunique(),
                METHOD_STEPS: [*inputs.record.get(METHOD_STEPS, ()), inputs.steps[place]],
            }
            write_json(path.with_suffix(".json"), {**known, **inputs.record, **told})
            self._results["out_files"].append(str(path))
        return runtime


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
