"""The group level: the tables of all scans, the statistics of a study, its report; and the
regressions of a model.
"""

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
from ..cohort.model_files import SHIPPED, read_model
from ..cohort.patients import collect_patients
from ..cohort.roi_tables import add_participants, add_protocols, read_roi_table, read_roi_tables
from ..dataset.files import read_json, write_json, write_text
from ..dataset.methods import CITATION
from ..dataset.sidecars import sidecar_path
from ..dataset.tables import read_tsv, write_tsv
from ..reports.group import group_report
from ..reports.group_texts import KNOWN_TABLES
from ..reports.model import model_report
from ..stats.model import run_model
from ..stats.study import study_tables

GROUP = "group"
# what the report warns of, for those who only see the terminal
WARNINGS = Path(GROUP, "warnings.tsv")
FILE_NAMES = {"rois": "roi_chi", "tubes": "tubes_chi"}  # the other tables are called as they are


class _CollectRoiTablesInputSpec(BaseInterfaceInputSpec):
    bids_dir = Directory(exists=True, mandatory=True, desc="root of the raw dataset")
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")


class _CollectRoiTablesOutputSpec(TraitedSpec):
    out_file = File(desc="the table of all scans")
    notes = traits.List(traits.Str, desc="what the reader should know")


class CollectRoiTables(SimpleInterface):
    """Put the tables of all scans together, with their protocols, age and sex."""

    input_spec = _CollectRoiTablesInputSpec
    output_spec = _CollectRoiTablesOutputSpec
    _always_run = True  # there may be more scans than the last time

    def _run_interface(self, runtime):
        rois, of_protocols = add_protocols(read_roi_tables(self.inputs.output_dir))
        rois, of_participants = add_participants(rois, self.inputs.bids_dir)
        self._results["out_file"] = str(write_tsv(Path(runtime.cwd) / "rois.tsv", rois))
        self._results["notes"] = [*of_protocols, *of_participants]
        return runtime


class _StudyStatisticsInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="the table of all scans")
    notes = traits.List(traits.Str, usedefault=True, desc="what is known so far")
    calibrate = traits.Bool(
        False, usedefault=True, desc="correct by the phantom scans of each site"
    )


class _StudyStatisticsOutputSpec(TraitedSpec):
    tables = traits.Dict(desc="file of each table by its name")
    notes = traits.List(traits.Str, desc="what was left out or could not be computed")


class StudyStatistics(SimpleInterface):
    """Compute all tables of a study."""

    input_spec = _StudyStatisticsInputSpec
    output_spec = _StudyStatisticsOutputSpec

    def _run_interface(self, runtime):
        tables, notes = study_tables(
            read_roi_table(self.inputs.in_file), calibrated=self.inputs.calibrate
        )
        self._results["tables"] = {
            name: str(write_tsv(Path(runtime.cwd) / f"{name}.tsv", table))
            for name, table in tables.items()
        }
        self._results["notes"] = [*self.inputs.notes, *notes]
        return runtime


class _GroupReportInputSpec(BaseInterfaceInputSpec):
    tables = traits.Dict(mandatory=True, desc="file of each table by its name")
    notes = traits.List(traits.Str, desc="what the reader should know")
    calibrate = traits.Bool(
        False, usedefault=True, desc="values were corrected by the phantom scans"
    )
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")


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
            file = root / GROUP / f"{FILE_NAMES.get(name, name)}.tsv"
            if name not in self.inputs.tables:
                file.unlink(missing_ok=True)  # an earlier run's, that this one could not compute
                continue
            tables[name] = read_tsv(self.inputs.tables[name])
            write_tsv(file, tables[name])
            links[name] = file.relative_to(root).as_posix()
        notes = pd.DataFrame({"warning": list(self.inputs.notes)})
        write_tsv(root / WARNINGS, notes)
        citation = root / CITATION
        page = group_report(
            {**tables, "published": pd.DataFrame(load_template("published"))},
            study={
                "values": "calibrated by the phantom" if self.inputs.calibrate else "as measured"
            },
            warnings=list(self.inputs.notes),
            links=links,
            citation=citation.read_text(encoding="utf-8") if citation.exists() else "",
            versions={made["Name"]: made.get("Version", "") for made in _generators(root)},
        )
        self._results["out_file"] = str(write_text(root / "group.html", page).absolute())
        return runtime


class _ModelStatisticsInputSpec(BaseInterfaceInputSpec):
    bids_dir = Directory(exists=True, mandatory=True, desc="root of the raw dataset")
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")
    model = traits.Str(mandatory=True, desc="the model's file, or its name")
    phenotype = traits.List(File(exists=True), desc="further tables of participants")
    freesurfer_dir = Directory(desc="FreeSurfer's results")


class _ModelStatisticsOutputSpec(TraitedSpec):
    tables = traits.Dict(desc="file of each table by its name")
    notes = traits.List(traits.Str, desc="what the reader should know")


class ModelStatistics(SimpleInterface):
    """Bring together what is known of the patients, and compute a model's regressions."""

    input_spec = _ModelStatisticsInputSpec
    output_spec = _ModelStatisticsOutputSpec
    _always_run = True  # the model, or what is known of the patients, may have changed since

    def _run_interface(self, runtime):
        model = read_model(self.inputs.model)
        inputs = self.inputs
        patients = collect_patients(
            inputs.bids_dir,
            inputs.output_dir,
            method=model.method,
            region=model.region,
            reference=model.reference,
            phenotype=inputs.phenotype if isdefined(inputs.phenotype) else (),
            freesurfer_dir=inputs.freesurfer_dir if isdefined(inputs.freesurfer_dir) else None,
        )
        tables = run_model(patients.table, model)
        tables["sources"] = patients.sources
        tables["excluded"] = _stacked(patients.listed, tables["excluded"])
        unread = pd.DataFrame(list(patients.problems), columns=["what", "problem"])
        tables["problems"] = _stacked(unread, tables["problems"])
        self._results["tables"] = {
            name: str(write_tsv(Path(runtime.cwd) / f"{name}.tsv", table))
            for name, table in tables.items()
        }
        self._results["notes"] = list(patients.notes)
        return runtime


class _ModelReportInputSpec(BaseInterfaceInputSpec):
    tables = traits.Dict(mandatory=True, desc="file of each table by its name")
    model = traits.Str(mandatory=True, desc="the model's file, or its name")
    notes = traits.List(traits.Str, desc="what the reader should know")
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")


class _ModelReportOutputSpec(TraitedSpec):
    out_file = File(desc="the report")


class ModelReport(SimpleInterface):
    """Save the tables of a model with a sidecar each, and write its report."""

    input_spec = _ModelReportInputSpec
    output_spec = _ModelReportOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        root = Path(self.inputs.output_dir)
        model = read_model(self.inputs.model)
        tables = {name: read_tsv(file) for name, file in self.inputs.tables.items()}
        folder = root / GROUP / f"model-{model.name}"
        links = {}
        for earlier in [*folder.glob("*.tsv"), *folder.glob("*.json")]:
            earlier.unlink()  # another version of the model may have had other tables
        for name, table in _as_files(tables, model).items():
            file = write_tsv(folder / f"{name}.tsv", table)
            described = load_template("model_tables")
            write_json(
                sidecar_path(file),
                {column: described[column] for column in table if column in described},
            )
            links[name] = file.relative_to(root).as_posix()
        if model.name in SHIPPED:
            tables["published"] = pd.DataFrame(load_template(f"published_{model.name}"))
        citation = root / CITATION
        page = model_report(
            tables,
            model,
            warnings=list(self.inputs.notes),
            links=links,
            citation=citation.read_text(encoding="utf-8") if citation.exists() else "",
            versions={made["Name"]: made.get("Version", "") for made in _generators(root)},
        )
        self._results["out_file"] = str(
            write_text(root / f"group_model-{model.name}.html", page).absolute()
        )
        return runtime


def _as_files(tables, model):
    """The tables as they are saved: coefficients by the model's nodes."""
    coefficients = tables["coefficients"]
    nodes = {node.name: coefficients[coefficients["node"] == node.name] for node in model.nodes}
    return nodes | {name: table for name, table in tables.items() if name != "coefficients"}


def _stacked(first, second):
    """Rows of both tables; pandas would warn of one without any."""
    filled = [table for table in (first, second) if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else first


def _generators(root):
    return read_json(root / "dataset_description.json").get("GeneratedBy", [])
