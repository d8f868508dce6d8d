"""The group level: tables of all scans, statistics of a study, regressions of a model, reports."""

from pathlib import Path

import pandas as pd
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from ..bids_templates import load_template
from ..cohort.roi_tables import read_roi_table, row_entities
from ..cohort.study import collect_values, study_results, times_tables
from ..dataset.checklist import CHECKLIST, write_checklist
from ..dataset.checklist_text import merge_equal_values
from ..dataset.entities import scan_label
from ..dataset.files import write_text
from ..dataset.group_tables import remove_group_table, write_group_table
from ..dataset.tables import read_tsv, write_tsv
from ..reports.group import group_report
from ..reports.group_texts import KNOWN_TABLES
from .base import none_if_undefined
from .group_pictures import person_pictures, phantom_pictures
from .group_reports import (
    DIFFERENCE_COLUMNS,
    PresetInputSpec,
    citation_text,
    settings_text,
    software_versions,
    write_tables,
)

CALIBRATED = "calibrated by the phantom"
AS_MEASURED = "as measured"


class _CollectRoiTablesInputSpec(BaseInterfaceInputSpec):
    bids_dir = Directory(exists=True, mandatory=True, desc="root of the raw dataset")
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")
    exclude = File(exists=True, desc="the file of --exclude")


class _CollectRoiTablesOutputSpec(TraitedSpec):
    out_file = File(desc="the table of all scans that are not excluded")
    excluded_file = File(desc="the table of excluded scans; without rows if there are none")
    r2star_file = File(desc="the table of R2* of all scans; without rows if there is none")
    notes = traits.List(traits.Str, desc="remarks for the reader")


class CollectRoiTables(SimpleInterface):
    """Concatenate the tables of all scans, with their protocols, age and sex."""

    input_spec = _CollectRoiTablesInputSpec
    output_spec = _CollectRoiTablesOutputSpec
    _always_run = True  # scans may have been added since the last run

    def _run_interface(self, runtime):
        exclude = none_if_undefined(self.inputs.exclude)
        values = collect_values(self.inputs.bids_dir, self.inputs.output_dir, exclude)
        folder = Path(runtime.cwd)
        self._results["out_file"] = str(write_tsv(folder / "rois.tsv", values.rois))
        self._results["excluded_file"] = str(write_tsv(folder / "excluded.tsv", values.excluded))
        self._results["r2star_file"] = str(write_tsv(folder / "r2star.tsv", values.r2star))
        self._results["notes"] = list(values.notes)
        return runtime


class _StudyStatisticsInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="the table of all scans")
    r2star_file = File(exists=True, mandatory=True, desc="the table of R2* of all scans")
    excluded_file = File(exists=True, desc="the table of the scans that the study excludes")
    notes = traits.List(traits.Str, usedefault=True, desc="remarks of the steps before")
    calibrate = traits.Enum(
        "no",
        "yes",
        "if possible",
        usedefault=True,
        desc="calibrate by the phantom scans of each site",
    )
    equivalence_margin = traits.Float(
        desc="margin of the tests of equivalence, ppb; default: the published imprecision of each "
        "region"
    )


class _StudyStatisticsOutputSpec(TraitedSpec):
    tables = traits.Dict(desc="files of the tables, by name")
    notes = traits.List(
        traits.Str, desc="remarks: scans left out, statistics that could not be computed"
    )
    calibration_refusals = traits.Dict(
        desc="why values stay as measured although they should be calibrated, by inversion"
    )


class StudyStatistics(SimpleInterface):
    """Compute the statistical tables of a study."""

    input_spec = _StudyStatisticsInputSpec
    output_spec = _StudyStatisticsOutputSpec

    def _run_interface(self, runtime):
        excluded = None
        if isdefined(self.inputs.excluded_file):
            excluded = read_tsv(self.inputs.excluded_file)
        results = study_results(
            read_roi_table(self.inputs.in_file),
            read_tsv(self.inputs.r2star_file),
            calibrate=self.inputs.calibrate,
            equivalence_margin=none_if_undefined(self.inputs.equivalence_margin),
            excluded=excluded,
        )
        self._results["tables"] = write_tables(runtime.cwd, results.tables)
        self._results["notes"] = [*self.inputs.notes, *results.notes]
        self._results["calibration_refusals"] = results.calibration_refusals
        return runtime


def _methods_by_calibration(rois):
    """List the methods whose values are calibrated, and those as measured."""
    if rois is None or rois.empty or "calibrated" not in rois:
        return {AS_MEASURED: ()}
    methods = {}
    for method, is_calibrated in rois.groupby("method", sort=False)["calibrated"].any().items():
        methods.setdefault(CALIBRATED if is_calibrated else AS_MEASURED, []).append(method)
    return methods


class _ComputationTimesInputSpec(BaseInterfaceInputSpec):
    tables = traits.Dict(mandatory=True, desc="files of the other tables, by name")
    notes = traits.List(traits.Str, usedefault=True, desc="remarks of the steps before")
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")


class _ComputationTimesOutputSpec(TraitedSpec):
    tables = traits.Dict(desc="files of all tables, by name")
    notes = traits.List(traits.Str, desc="remarks, also on times that are not known")


class ComputationTimes(SimpleInterface):
    """Average the computation times of the scans in the statistics: people's, or else phantoms'."""

    input_spec = _ComputationTimesInputSpec
    output_spec = _ComputationTimesOutputSpec
    _always_run = True  # scans may have been processed again since the last run

    def _run_interface(self, runtime):
        rois = read_tsv(self.inputs.tables["rois"])
        if rois.empty:
            rois = read_tsv(self.inputs.tables["tubes"])
        tables, notes = times_tables(self.inputs.output_dir, rois)
        self._results["tables"] = {**self.inputs.tables, **write_tables(runtime.cwd, tables)}
        self._results["notes"] = [*self.inputs.notes, *notes]
        return runtime


class _GroupReportInputSpec(PresetInputSpec):
    tables = traits.Dict(mandatory=True, desc="files of the tables, by name")
    notes = traits.List(traits.Str, desc="remarks for the reader")
    preset_calibrates = traits.Bool(
        False, usedefault=True, desc="whether the preset calibrates where there are phantoms"
    )
    calibration_refusals = traits.Dict(
        usedefault=True,
        desc="why values stay as measured although they should be calibrated, by inversion",
    )
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")
    excluded_file = File(exists=True, desc="the table of the scans that the study excludes")


class _GroupReportOutputSpec(TraitedSpec):
    out_file = File(desc="the report")


class GroupReport(SimpleInterface):
    """Save the tables of a study and write its report."""

    input_spec = _GroupReportInputSpec
    output_spec = _GroupReportOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        root = Path(self.inputs.output_dir)
        tables = {}
        links = {}
        for name in KNOWN_TABLES:
            table = None
            if name in self.inputs.tables:
                table = read_tsv(self.inputs.tables[name])
            if table is None or (name == "tubes" and table.empty):  # a study without a phantom
                remove_group_table(root, name)  # from an earlier run, with other scans
                continue
            tables[name] = table
            file = write_group_table(root, name, tables[name])
            links[name] = file.relative_to(root).as_posix()
        # The command line shows the report's warnings as well.
        write_group_table(root, "warnings", pd.DataFrame({"warning": list(self.inputs.notes)}))
        # After the tables, since it counts the excluded scans.
        checklist = write_checklist(root, self._excluded_labels())
        links["checklist"] = CHECKLIST.as_posix()
        calibration = _methods_by_calibration(tables.get("rois"))
        differences = self._differences(calibration)
        page = group_report(
            tables | _published_reproducibility(),
            study=self._study(differences, calibration),
            differences=differences,
            method_differences=self.inputs.method_differences,
            warnings=list(self.inputs.notes),
            pictures=person_pictures(root, tables["rois"]) if "rois" in tables else (),
            phantom_pictures=phantom_pictures(root, tables["tubes"]) if "tubes" in tables else {},
            links=links,
            citation=citation_text(root),
            checklist=merge_equal_values(checklist),
            versions=software_versions(root),
        )
        self._results["out_file"] = str(write_text(root / "group.html", page).absolute())
        return runtime

    def _excluded_labels(self):
        """Return the labels of the scans that the study excludes."""
        if not isdefined(self.inputs.excluded_file):
            return []
        rows = read_tsv(self.inputs.excluded_file).to_dict("records")
        return [scan_label(row_entities(row)) for row in rows]

    def _study(self, differences, calibration):
        """Say how the study was processed, for the overview."""
        study = {"values": " or ".join(calibration)}
        if len(calibration) > 1:
            parts = [f"{state}: {', '.join(methods)}" for state, methods in calibration.items()]
            study["values"] = "; ".join(parts)
        return study | settings_text(self.inputs, len(differences))

    def _differences(self, calibration):
        """Return the choices that differ from the preset, with that of calibration."""
        differences = list(self.inputs.differences)
        has_phantom = "calibration" in self.inputs.tables
        if self.inputs.preset_calibrates and has_phantom and AS_MEASURED in calibration:
            parts = []
            if CALIBRATED in calibration:
                parts.append(f"only of {', '.join(calibration[CALIBRATED])}")
            for method, reason in self.inputs.calibration_refusals.items():
                parts.append(f"refused of {method}: {reason}")
            used = "; ".join(parts) or "no"
            differences.append(("--calibrate", "yes, if there are phantom scans", used))
        return pd.DataFrame(differences, columns=DIFFERENCE_COLUMNS)


def _published_reproducibility():
    """Return the published values that the report of a study compares with."""
    names = ("published", "published_nuclei", "published_times")
    names += ("published_calibration", "published_age")
    return {name: pd.DataFrame(load_template(name)) for name in names}
