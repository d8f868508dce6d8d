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
from ..cohort.included import excluded_scans, exclusion_notes, study_exclusions
from ..cohort.roi_tables import (
    add_participants,
    add_protocols,
    read_r2star_tables,
    read_roi_table,
    read_roi_tables,
    row_entities,
)
from ..cohort.sites import session_site_notes
from ..cohort.times import collect_times
from ..dataset.checklist import CHECKLIST, write_checklist
from ..dataset.checklist_text import merge_equal_values
from ..dataset.entities import scan_label
from ..dataset.files import write_text
from ..dataset.group_tables import remove_group_table, write_group_table
from ..dataset.tables import read_tsv, write_tsv
from ..reports.group import group_report
from ..reports.group_texts import KNOWN_TABLES
from ..stats.calibration import calibration_refusals
from ..stats.nuclei import nuclei_table
from ..stats.relaxation import r2star_tables
from ..stats.study import study_tables
from ..stats.times import computation_times
from .base import none_if_undefined
from .group_pictures import person_pictures, phantom_pictures
from .group_reports import (
    DIFFERENCE_COLUMNS,
    PresetInputSpec,
    citation_text,
    settings_text,
    software_versions,
    stacked_tables,
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
        root = self.inputs.output_dir
        exclude = none_if_undefined(self.inputs.exclude)
        exclusions = study_exclusions(self.inputs.bids_dir, root, exclude)
        excluded, excluded_problems = excluded_scans(root, exclusions)
        folder = Path(runtime.cwd)
        self._results["excluded_file"] = str(write_tsv(folder / "excluded.tsv", excluded))
        rois, protocol_notes = add_protocols(read_roi_tables(root, exclusions))
        rois, participant_notes = add_participants(rois, self.inputs.bids_dir)
        self._results["out_file"] = str(write_tsv(folder / "rois.tsv", rois))
        r2star, r2star_notes = read_r2star_tables(root, rois, exclusions)
        self._results["r2star_file"] = str(write_tsv(folder / "r2star.tsv", r2star))
        notes = exclusion_notes(exclusions, excluded_problems)
        notes += session_site_notes(root, rois)
        self._results["notes"] = [*notes, *protocol_notes, *participant_notes, *r2star_notes]
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
        rois = read_roi_table(self.inputs.in_file)
        margin = none_if_undefined(self.inputs.equivalence_margin)
        margins = _published_imprecision() if margin is None else margin / 1000
        tables, notes = _study_tables(rois, self.inputs.calibrate, margins)
        r2star = read_tsv(self.inputs.r2star_file)
        tables_of_r2star, r2star_notes = r2star_tables(r2star, tables["rois"], tables["tubes"])
        tables |= tables_of_r2star
        if isdefined(self.inputs.excluded_file):
            excluded = read_tsv(self.inputs.excluded_file)
            excluded = stacked_tables(excluded, tables.pop("excluded", excluded[:0]))
            tables |= {"excluded": excluded} if len(excluded) else {}
        nuclei = nuclei_table(tables)
        if not nuclei.empty:
            tables["nuclei"] = nuclei
        self._results["tables"] = write_tables(runtime.cwd, tables)
        self._results["notes"] = [*self.inputs.notes, *notes, *r2star_notes]
        self._results["calibration_refusals"] = {}
        if self.inputs.calibrate != "no" and "calibration" in tables:
            as_measured = tables["rois"].drop(columns="calibrated", errors="ignore")
            refusals = calibration_refusals(as_measured, tables["calibration"])
            self._results["calibration_refusals"] = refusals
        return runtime


def _methods_by_calibration(rois):
    """List the methods whose values are calibrated, and those as measured."""
    if rois is None or rois.empty or "calibrated" not in rois:
        return {AS_MEASURED: ()}
    methods = {}
    for method, is_calibrated in rois.groupby("method", sort=False)["calibrated"].any().items():
        methods.setdefault(CALIBRATED if is_calibrated else AS_MEASURED, []).append(method)
    return methods


def _study_tables(rois, calibrate, margins):
    """Compute the tables; return them with the remarks."""
    if calibrate == "no":
        return study_tables(rois, equivalence_margins=margins)
    try:
        return study_tables(rois, calibrated=True, equivalence_margins=margins)
    except ValueError as reason:
        if calibrate == "yes":
            raise
        tables, notes = study_tables(rois, equivalence_margins=margins)
        return tables, [*notes, f"values are not calibrated: {reason}"]


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
        times, notes = collect_times(self.inputs.output_dir, rois)
        tables = {} if times.empty else {"times": computation_times(times)}
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


def _published_imprecision():
    """Return the imprecision within a site, ppm, of each region in the 2015 study (iterative)."""
    published = pd.DataFrame(load_template("published"))
    iterative = published[published["method"] == "iterative"]
    return dict(zip(iterative["roi"], iterative["within"], strict=True))
