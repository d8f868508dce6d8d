"""Choices of a run: presets, options that contradict each other, and every background field removal
with MEDI.
"""

import inspect
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.commands import iron, run
from helpers.datasets import validator_findings
from helpers.sidecars import unreported_fields
from nipype.interfaces.base import isdefined

from multiqsm.bids_templates import load_template
from multiqsm.cli.app import make_parser
from multiqsm.cli.options import settings_table
from multiqsm.cli.participant import settings_of
from multiqsm.core.background.highpass import high_pass
from multiqsm.core.background.mean_value import sharp, vsharp
from multiqsm.core.background.projection import pdf
from multiqsm.core.background.total_field import tfi
from multiqsm.core.inversion.closed_form import deterministic, divide_field
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.parameters import LambdaChoice
from multiqsm.core.inversion.problem import Inversion
from multiqsm.core.inversion.regularization import edge_mask
from multiqsm.core.inversion.weighted import iterative
from multiqsm.core.phase.unwrapping import unwrap_echoes
from multiqsm.core.registration.template import register_template
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.problems import DatasetError
from multiqsm.interfaces.background import PDF, SHARP, TFI, VSHARP, HighPass
from multiqsm.interfaces.inversion import TKD, Deterministic, Iterative, Medi
from multiqsm.interfaces.methods import BACKGROUNDS, DEFAULT_INVERSIONS
from multiqsm.interfaces.phase import Unwrap
from multiqsm.interfaces.template import LabelsFromTemplate
from multiqsm.workflows.inversion import init_inversion_wf
from multiqsm.workflows.scan import init_scan_wf
from multiqsm.workflows.settings import PRESETS, Settings


def settings(*options):
    return settings_of(make_parser().parse_args(["raw", "out", "participant", *options]))


def inversion_inputs(method, **choices):
    """Return the inputs of the node that inverts, as the workflow has it."""
    workflow = init_inversion_wf(
        method=method, settings=Settings(**choices), period=1.5, threads=1, gigabytes=lambda n: n
    )
    return workflow.get_node("invert").inputs


@pytest.mark.parametrize(
    ("interface", "function"),
    [
        *((PDF, pdf), (VSHARP, vsharp), (SHARP, sharp), (HighPass, high_pass), (TFI, tfi)),
        *((Medi, medi), (Iterative, iterative), (Deterministic, deterministic)),
        (TKD, divide_field),
    ],
)
def test_nodes_have_the_defaults_of_their_functions(interface, function):
    inputs = interface().inputs
    parameters = inspect.signature(function).parameters
    compared = set()
    for name in inputs.copyable_trait_names():
        if name in parameters and isdefined(getattr(inputs, name)):
            assert getattr(inputs, name) == parameters[name].default, name
            compared.add(name)
    if interface is not Deterministic:
        assert compared & {"tolerance", "margin", "radius", "cutoff", "threshold"}


@pytest.mark.parametrize(
    ("interface", "function", "options"),
    [
        (Unwrap, unwrap_echoes, {"--unwrapping"}),
        (Medi, medi, {"--medi-lambda", "--lambda-rule", "--medi-data", "--merit"}),
        (Iterative, iterative, {"--lambda", "--lambda-rule", "--exterior-weight"}),
        (Deterministic, deterministic, {"--lambda", "--lambda-rule"}),
        *((Medi, edge_mask, {"--edge-fraction"}), (Iterative, edge_mask, {"--edge-fraction"})),
        (TFI, edge_mask, {"--edge-fraction"}),
        (LabelsFromTemplate, register_template, {"--template-warp"}),
    ],
)
def test_option_keeps_its_name_down_to_the_function(interface, function, options):
    names = set()
    for action in make_parser()._actions:
        if options & set(action.option_strings):
            names.add(action.dest)
    assert len(names) == len(options)
    assert names <= {choice.name for choice in fields(Settings)}
    assert names <= set(interface().inputs.copyable_trait_names())
    assert names <= set(inspect.signature(function).parameters)


def test_default_is_the_first_of_each():
    assert settings() == Settings()
    assert settings().inversions == DEFAULT_INVERSIONS
    assert settings().background == next(iter(BACKGROUNDS)) == "tfi"
    assert settings().standard_errors == DEFAULT_INVERSIONS
    assert settings("--se-draws", "0").standard_errors == ("deterministic",)


def test_presets_are_the_methods_of_the_studies():
    lin = settings("--preset", "lin2015")
    chiang = settings("--preset", "chiang2018")
    assert (lin.inversions, lin.background) == (("iterative", "deterministic"), "pdf")
    assert (chiang.inversions, chiang.background) == (("medi",), "pdf")
    assert (lin.edge_fraction, chiang.edge_fraction) == (0.3, 0.3)
    assert (lin.lambda_rule, chiang.lambda_rule) == ("discrepancy", "discrepancy")
    assert (chiang.merit, chiang.medi_data) == (False, "nonlinear")
    assert settings("--preset", "chiang2018", "--merit", "--background", "sharp").merit
    assert set(PRESETS) == {"default", "lin2015", "chiang2018"}


def test_readme_has_every_option_of_the_method():
    assert settings_table() in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_options_that_exclude_each_other():
    with pytest.raises(SystemExit):
        settings("--lambda", "1", "--lambda-rule", "gcv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--inversion", "deterministic", "--medi-lambda", "1e-3"], "MEDI, which is not selected"),
        (["--preset", "lin2015", "--medi-lambda", "1e-3"], "give --lambda in mm"),
        (["--preset", "chiang2018", "--lambda", "0.2"], "give --medi-lambda in ppm·mm"),
    ],
)
def test_lambda_that_no_inversion_uses_is_refused(options, message, make_dataset, capsys):
    with pytest.raises(DatasetError, match=message):
        settings(*options)
    assert run(make_dataset(), *options) == 2
    assert message in capsys.readouterr().err


def test_dry_run_lists_the_options_that_differ_from_the_preset(make_dataset, capsys):
    root = make_dataset()
    chosen = ["--preset", "lin2015", "--background", "vsharp", "--harmonize"]
    assert run(root, "--dry-run", *chosen) == 0
    assert "settings: preset lin2015, --background vsharp, --harmonize\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, {"lambda_rule": "scaled", "medi_data": "nonlinear", "period": 1.5, "merit": True}),
        ({"lambda_rule": "discrepancy"}, {"lambda_rule": "discrepancy"}),
        ({"medi_lambda": 0.001, "lambda_value": 0.2}, {"medi_lambda": 0.001}),
        (
            {"edge_fraction": 0.3, "merit": False},
            {"edge_fraction": 0.3, "merit": False},
        ),
    ],
)
def test_choices_reach_medi(choices, expected):
    inputs = inversion_inputs("medi", **choices)
    for name, value in expected.items():
        assert getattr(inputs, name) == value
    assert isdefined(inputs.edge_fraction) == ("edge_fraction" in choices)
    assert not isdefined(inversion_inputs("medi", medi_data="linear").period)


def test_lambda_in_mm_is_the_quadratic_inversions():
    choices = {"medi_lambda": 0.001, "lambda_value": 0.2}
    assert inversion_inputs("iterative", **choices).lambda_value == 0.2
    assert inversion_inputs("deterministic", **choices).lambda_value == 0.2
    assert not isdefined(inversion_inputs("medi", lambda_value=0.2).medi_lambda)
    assert not isdefined(inversion_inputs("iterative", medi_lambda=0.001).lambda_value)


def recorded_steps(*options):
    """Return the steps that the inversions of a run record for the text on methods."""
    chosen = settings(*options)
    steps = set()
    for method in chosen.inversions:
        workflow = init_inversion_wf(
            method=method, settings=chosen, period=1.5, threads=1, gigabytes=lambda n: n
        )
        interface = workflow.get_node("invert").interface
        inversion = Inversion(
            chi=None,
            lambda_choice=LambdaChoice(1.0, interface.inputs.lambda_rule),
            iterations=1,
            residual=0.0,
            converged=True,
        )
        steps |= set(interface._record(inversion).steps)
    return steps


def test_inversions_record_their_steps():
    """Steps are recorded by the names of their texts in the template, which has all of them."""
    default = recorded_steps()
    chiang = recorded_steps("--preset", "chiang2018")
    lin = recorded_steps("--preset", "lin2015")
    assert default == {
        *("edges", "strong_source_edges", "medi", "nonlinear", "merit", "medi_scaled"),
        *("iterative", "deterministic", "whitened", "weights", "exterior_weight"),
    }
    assert chiang == {"edge_fraction", "medi", "nonlinear", "medi_discrepancy"}
    assert lin == {"edge_fraction", "iterative", "deterministic", "discrepancy"}
    assert default | chiang | lin <= set(load_template("citation")["steps"])
    for interface in (PDF, SHARP, VSHARP, HighPass, TFI):
        assert interface.step in load_template("citation")["steps"]


@pytest.mark.parametrize(("species", "excluded"), [("homo sapiens", True), ("phantom", False)])
def test_unresolved_voxels_leave_heads_surface_and_stay_in_phantoms(
    make_dataset, tmp_path, species, excluded
):
    root = make_dataset()
    (root / "participants.tsv").write_text(f"participant_id\tspecies\nsub-01\t{species}\n")
    (scan,), _ = collect_scans(root)
    workflow = init_scan_wf(
        scan, bids_dir=root, output_dir=tmp_path / "out", settings=Settings(), threads=1
    )
    assert workflow.get_node("field").get_node("unknown").inputs.is_phantom != excluded


@pytest.mark.slow
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_medi_of_every_background(background, make_dataset, ball_head):
    root = make_dataset(**ball_head)
    assert run(root, "--background", background, "--inversion", "medi", "--se-draws", "2") == 0
    out = root.parent / "out"
    folder = out / "sub-01" / "anat"
    chi = nib.load(folder / "sub-01_desc-medi_Chimap.nii.gz").get_fdata()
    error = nib.load(folder / "sub-01_desc-medise_Chimap.nii.gz").get_fdata()
    # The high-pass filter, offered for comparison, removes most of the field of a ball that is as
    # wide as its kernel.
    low = 0.03 if background == "highpass" else 0.2
    assert low < chi[iron(chi.shape)].mean() < 0.33
    assert np.median(error[error > 0]) < 0.02
    sidecar = json.loads((folder / "sub-01_desc-medi_Chimap.json").read_text())
    assert (sidecar["LambdaRule"], sidecar["LambdaUnits"]) == ("scaled", "ppm*mm")
    assert sidecar["FieldPeriod"] == pytest.approx(1 / (123.2 * 0.006))
    assert "EdgeFraction" not in sidecar
    assert ("BackgroundEdgeRule" in sidecar) == (background == "tfi")
    assert sidecar["DataTerm"].startswith("nonlinear")
    assert sidecar["ReadoutPolarity"] == "monopolar"
    assert sidecar["ReadoutPolaritySource"] == "phase of even echoes"
    assert unreported_fields(sidecar) == set()
    of_error = json.loads((folder / "sub-01_desc-medise_Chimap.json").read_text())
    assert of_error["NoiseRealisations"] == 2
    assert 0.01 < of_error["ClosedFormLambda"] < 10
    assert unreported_fields(of_error) == set()
    assert validator_findings(out) == set()
    assert (
        f"* `--background {background}`" in (out / "README.md").read_text() or background == "tfi"
    )


@pytest.mark.slow
def test_preset_of_the_thalamus_study(make_dataset, ball_head):
    root = make_dataset(**ball_head)
    assert run(root, "--preset", "chiang2018", "--se-draws", "0") == 0
    folder = root.parent / "out" / "sub-01" / "anat"
    (path,) = folder.glob("sub-01_desc-*_Chimap.nii.gz")
    assert path.name == "sub-01_desc-medi_Chimap.nii.gz"
    sidecar = json.loads((folder / "sub-01_desc-medi_Chimap.json").read_text())
    assert sidecar["LambdaRule"] == "discrepancy"
    assert sidecar["EdgeFraction"] == 0.3
    assert sidecar["MERIT"] is False
    assert "MERITThreshold" not in sidecar
    assert "PDF" in sidecar["BackgroundRemoval"]
    chi = nib.load(folder / "sub-01_desc-medi_Chimap.nii.gz").get_fdata()
    assert 0.2 < chi[iron(chi.shape)].mean() < 0.33


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"background": "joint"}, "background='joint': use one of tfi, pdf"),
        ({"inversions": "medi"}, "inversions='medi': use a tuple of medi"),
        ({"inversions": ("medi", "star")}, "use a tuple of medi"),
        ({"merit": "no"}, "merit='no': use True or False"),
        ({"lambda_value": 0}, "lambda_value=0: use a number above 0"),
        ({"edge_fraction": 30}, "edge_fraction=30: use a number from 0 to 1"),
        ({"roi_erosion": -1.0}, "use a number of 0 or more"),
        ({"se_draws": 2.5}, "use a whole number"),
        ({"phase_sign": 2}, "use one of 1, -1, 0"),
        ({"reference": None}, "reference=None: use a text"),
    ],
)
def test_values_that_a_choice_cannot_have(choices, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**choices)


@pytest.mark.parametrize(("polarity", "corrected"), [("bipolar", True), ("monopolar", False)])
def test_phase_of_a_bipolar_readout_is_removed(make_dataset, tmp_path, polarity, corrected):
    root = make_dataset()
    (scan,), _ = collect_scans(root)
    workflow = init_scan_wf(
        replace(scan, readout_polarity=polarity),
        bids_dir=root,
        output_dir=tmp_path / "out",
        settings=Settings(),
        threads=1,
    )
    assert ("readout" in workflow.list_node_names()) == corrected
