"""The group level: the tables of all scans, the statistics of a study, its report."""

from pathlib import Path

import pandas as pd
from nipype.interfaces.base import BaseInterfaceInputSpec, Directory, File, SimpleInterface, TraitedSpec, traits

from ..bids_templates import load_template
from ..dataset.derivatives import read_json, write_text, write_tsv
from ..dataset.group import add_participants, read_roi_table, read_roi_tables, read_tsv
from ..reports.group import KNOWN_TABLES, group_report
from ..stats.study import study_tables

GROUP = "group"
FILE_NAMES = {"rois": "roi_chi", "tubes": "tubes_chi"}  # the other tables are called as they are


class _CollectRoiTablesInputSpec(BaseInterfaceInputSpec):
    bids_dir = Directory(exists=True, mandatory=True, desc="root of the raw dataset")
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")


class _CollectRoiTablesOutputSpec(TraitedSpec):
    out_file = File(desc="the table of all scans")
    notes = traits.List(traits.Str, desc="what the reader should know")


class CollectRoiTables(SimpleInterface):
    """Put the tables of all scans together, with age and sex."""

    input_spec = _CollectRoiTablesInputSpec
    output_spec = _CollectRoiTablesOutputSpec
    _always_run = True  # there may be more scans than the last time

    def _run_interface(self, runtime):
        rois, notes = add_participants(read_roi_tables(self.inputs.output_dir), self.inputs.bids_dir)
        self._results["out_file"] = str(write_tsv(Path(runtime.cwd) / "rois.tsv", rois))
        self._results["notes"] = notes
        return runtime


class _StudyStatisticsInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="the table of all scans")
    notes = traits.List(traits.Str, usedefault=True, desc="what is known so far")
    calibrate = traits.Bool(False, usedefault=True, desc="correct by the phantom scans of each site")


class _StudyStatisticsOutputSpec(TraitedSpec):
    tables = traits.Dict(desc="file of each table by its name")
    notes = traits.List(traits.Str, desc="what was left out or could not be computed")


class StudyStatistics(SimpleInterface):
    """Compute all tables of a study."""

    input_spec = _StudyStatisticsInputSpec
    output_spec = _StudyStatisticsOutputSpec

    def _run_interface(self, runtime):
        tables, notes = study_tables(read_roi_table(self.inputs.in_file), calibrated=self.inputs.calibrate)
        self._results["tables"] = {
            name: str(write_tsv(Path(runtime.cwd) / f"{name}.tsv", table)) for name, table in tables.items()
        }
        self._results["notes"] = [*self.inputs.notes, *notes]
        return runtime


class _GroupReportInputSpec(BaseInterfaceInputSpec):
    tables = traits.Dict(mandatory=True, desc="file of each table by its name")
    notes = traits.List(traits.Str, desc="what the reader should know")
    calibrate = traits.Bool(False, usedefault=True, desc="values were corrected by the phantom scans")
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")


class _GroupReportOutputSpec(TraitedSpec):
    out_file = File(desc="the report")


class GroupReport(SimpleInterface):
    """Save the tables of a study and write its report."""

    input_spec = _GroupReportInputSpec
    output_spec = _GroupReportOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        root, tables, links = Path(self.inputs.output_dir), {}, {}
        for name in KNOWN_TABLES:
            file = root / GROUP / f"{FILE_NAMES.get(name, name)}.tsv"
            if name not in self.inputs.tables:
                file.unlink(missing_ok=True)  # an earlier run's, that this one could not compute
                continue
            tables[name] = read_tsv(self.inputs.tables[name])
            write_tsv(file, tables[name])
            links[name] = file.relative_to(root).as_posix()
        citation = root / "logs" / "CITATION.md"
        page = group_report(
            {**tables, "published": pd.DataFrame(load_template("published"))},
            study={"values": "calibrated by the phantom" if self.inputs.calibrate else "as measured"},
            warnings=list(self.inputs.notes),
            links=links,
            citation=citation.read_text(encoding="utf-8") if citation.exists() else "",
            versions={made["Name"]: made.get("Version", "") for made in _generators(root)},
        )
        self._results["out_file"] = str(write_text(root / "group.html", page).absolute())
        return runtime


def _generators(root):
    return read_json(root / "dataset_description.json").get("GeneratedBy", [])
