"""The group level with a model: regressions over the patients of a study, and their report."""

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

from ..bids_templates import SHIPPED_MODELS, load_template
from ..cohort.descriptions import (
    add_units,
    describe_columns,
    model_table_columns,
    whole_levels,
)
from ..cohort.included import study_exclusions
from ..cohort.model_files import read_model
from ..cohort.patients import collect_patients
from ..dataset.checklist import CHECKLIST, write_checklist
from ..dataset.checklist_text import merge_equal_values
from ..dataset.files import write_json, write_text
from ..dataset.group_tables import model_folder
from ..dataset.levels import add_levels
from ..dataset.methods import write_citation
from ..dataset.outputs import make_subject_folders
from ..dataset.sidecars import sidecar_path
from ..dataset.tables import read_tsv, stacked_tables, write_tsv
from ..pictures.drawing import readable
from ..reports.model import model_report
from ..stats.before_after import before_and_after
from ..stats.model import run_model
from .base import none_if_undefined
from .group_reports import (
    DIFFERENCE_COLUMNS,
    PresetInputSpec,
    citation_text,
    settings_text,
    software_versions,
    write_tables,
)


class _ModelStatisticsInputSpec(BaseInterfaceInputSpec):
    bids_dir = Directory(exists=True, mandatory=True, desc="root of the raw dataset")
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")
    model = traits.Str(mandatory=True, desc="file of the model, or its name")
    phenotype = traits.List(File(exists=True), desc="further tables of participants, TSV")
    freesurfer_dir = Directory(desc="FreeSurfer's subjects directory")
    exclude = File(exists=True, desc="the file of --exclude")


class _ModelStatisticsOutputSpec(TraitedSpec):
    tables = traits.Dict(desc="files of the tables, by name")
    notes = traits.List(traits.Str, desc="remarks for the reader")
    descriptions = traits.Dict(desc="descriptions of the columns of the table of patients")


class ModelStatistics(SimpleInterface):
    """Collect the variables of all patients, and fit the regressions of a model."""

    input_spec = _ModelStatisticsInputSpec
    output_spec = _ModelStatisticsOutputSpec
    _always_run = True  # the model or the tables of the patients may have changed since

    def _run_interface(self, runtime):
        inputs = self.inputs
        model = read_model(inputs.model)
        exclude = none_if_undefined(inputs.exclude)
        patients = collect_patients(
            inputs.bids_dir,
            inputs.output_dir,
            exclusions=study_exclusions(inputs.bids_dir, inputs.output_dir, exclude),
            method=model.method,
            region=model.region,
            reference=model.reference,
            phenotype=inputs.phenotype if isdefined(inputs.phenotype) else (),
            freesurfer_dir=none_if_undefined(inputs.freesurfer_dir),
        )
        tables = run_model(patients.table, model)
        descriptions = describe_columns(
            tables["patients"], patients.sources, model.transformations, inputs.bids_dir
        )
        tables["sources"] = add_units(patients.sources, descriptions)
        tables["excluded"] = stacked_tables(patients.listed, tables["excluded"])
        problems = pd.DataFrame(list(patients.problems), columns=["what", "problem"])
        tables["problems"] = stacked_tables(problems, tables["problems"])
        self._results["tables"] = write_tables(runtime.cwd, tables)
        self._results["notes"] = list(patients.notes)
        self._results["descriptions"] = descriptions
        return runtime


class _ModelReportInputSpec(PresetInputSpec):
    tables = traits.Dict(mandatory=True, desc="files of the tables, by name")
    model = traits.Str(mandatory=True, desc="file of the model, or its name")
    notes = traits.List(traits.Str, desc="remarks for the reader")
    descriptions = traits.Dict(
        mandatory=True, desc="descriptions of the columns of the table of patients"
    )
    output_dir = Directory(exists=True, mandatory=True, desc="root of the derivative dataset")


class _ModelReportOutputSpec(TraitedSpec):
    out_file = File(desc="the report")


class ModelReport(SimpleInterface):
    """Save the tables of a model with their sidecars, and write its report."""

    input_spec = _ModelReportInputSpec
    output_spec = _ModelReportOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        root = Path(self.inputs.output_dir)
        model = read_model(self.inputs.model)
        tables = {name: read_tsv(file) for name, file in self.inputs.tables.items()}
        folder = model_folder(root, model.name)
        for pattern in ("*.tsv", "*.json"):  # another version may have had other tables
            for path in folder.glob(pattern):
                path.unlink()
        published = _published(model)
        tables["before_and_after"] = before_and_after(
            tables["coefficients"], published.pop("coefficients", None)
        )
        links = {}
        for name, table in _as_files(tables, model).items():
            if name == "patients":
                columns = add_levels(self.inputs.descriptions, table)
                table = whole_levels(table, columns)
            else:
                columns = model_table_columns(name, table, model)
            file = write_tsv(folder / f"{name}.tsv", table)
            write_json(sidecar_path(file), columns)
            links[name] = file.relative_to(root).as_posix()
        make_subject_folders(root, tables["patients"]["participant"])
        checklist = write_checklist(root)  # after the tables, since it counts the patients
        links["checklist"] = CHECKLIST.as_posix()
        write_citation(root)  # after the tables, since they show what was computed
        page = model_report(
            {**tables, **{f"published_{name}": table for name, table in published.items()}},
            model,
            study=settings_text(self.inputs, len(self.inputs.differences)),
            differences=pd.DataFrame(self.inputs.differences, columns=DIFFERENCE_COLUMNS),
            method_differences=self.inputs.method_differences,
            warnings=list(self.inputs.notes),
            links=links,
            citation=citation_text(root),
            checklist=merge_equal_values(checklist),
            versions=software_versions(root),
        )
        self._results["out_file"] = str(
            write_text(root / f"group_model-{model.name}.html", page).absolute()
        )
        return runtime


def _published(model):
    """Return the published tables of a model that comes with the package, by name."""
    if model.name not in SHIPPED_MODELS:
        return {}
    tables = load_template(f"published_{model.name}")
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}


def _as_files(tables, model):
    """Return the tables of each file: the coefficients are split by the nodes of the model, and
    the variables that they are adjusted for are in words.
    """
    coefficients = tables["coefficients"]
    in_words = coefficients["adjusted_for"].map(readable, na_action="ignore")
    coefficients = coefficients.assign(adjusted_for=in_words)
    files = {}
    for node in model.nodes:
        files[node.name] = coefficients[coefficients["node"] == node.name]
    for name, table in tables.items():
        if name != "coefficients":
            files[name] = table
    return files
