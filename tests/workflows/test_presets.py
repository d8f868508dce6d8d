"""A report says as which study scans were processed, and lists each choice that differs."""

import json
from argparse import Namespace
from dataclasses import asdict, fields, replace

import pytest

from multiqsm.bids_templates import load_template
from multiqsm.cli.group import compare_with_preset
from multiqsm.execution.completion import write_completion_record
from multiqsm.workflows.group import init_group_wf
from multiqsm.workflows.model import init_model_wf
from multiqsm.workflows.presets import (
    CALIBRATED,
    NOT_COMPARED,
    Difference,
    differences_from,
    method_differences,
    preset_of,
    preset_title,
)
from multiqsm.workflows.settings import PRESETS, Settings


def recorded(settings):
    """Settings as they are read from a completion record."""
    return json.loads(json.dumps(asdict(settings)))


@pytest.mark.parametrize("name", ["lin2015", "chiang2018"])
def test_a_run_with_a_preset_is_recognised(name):
    settings = [recorded(PRESETS[name])] * 3
    assert differences_from(name, settings) == []
    assert preset_of(settings) == name


def test_a_run_with_the_defaults_is_none_of_the_studies():
    assert preset_of([recorded(Settings())]) is None
    assert preset_of([]) is None


def test_each_choice_that_differs_is_listed_with_its_option():
    changed = replace(
        PRESETS["lin2015"], lambda_value=0.1, inversions=("medi",), exclude_veins=True
    )
    assert differences_from("lin2015", [recorded(changed)]) == [
        Difference("--inversion", "iterative deterministic", "medi"),
        Difference("--lambda", "automatic", "0.1"),
        Difference("--exclude-veins", "no", "yes"),
    ]
    assert preset_of([recorded(changed)]) is None


def test_scans_that_differ_from_each_other_are_counted():
    original = recorded(PRESETS["lin2015"])
    settings = [original, original, recorded(replace(PRESETS["lin2015"], background="sharp"))]
    (difference,) = differences_from("lin2015", settings)
    assert difference == Difference(
        "--background", "pdf", "pdf (2 of 3 scans), sharp (1 of 3 scans)"
    )


def test_an_option_that_did_not_exist_yet_is_not_compared():
    settings = recorded(PRESETS["lin2015"])
    del settings["unwrapping"]
    assert differences_from("lin2015", [settings]) == []


def test_every_field_of_the_settings_can_differ():
    for field in fields(Settings):
        settings = recorded(PRESETS["lin2015"]) | {field.name: "something else"}
        (difference,) = differences_from("lin2015", [settings])
        assert difference.used == "something else"


def test_a_study_is_recognised_whatever_its_standard_errors_are_computed_from():
    settings = [recorded(replace(PRESETS["lin2015"], se_draws=0))]
    assert preset_of(settings) == "lin2015"
    # A run of one's own says that the choice is not the preset's.
    (difference,) = differences_from("lin2015", settings)
    assert difference == Difference("--se-draws", "4", "0")
    assert differences_from("lin2015", settings, ignored=NOT_COMPARED) == []


def test_studies_have_a_title_and_say_how_methods_differ():
    studies = set(PRESETS) - {"default"}
    assert set(load_template("presets")) == studies
    assert preset_title("lin2015") == "Lin 2015"
    assert all(method_differences(name) for name in studies)
    assert set(CALIBRATED) <= studies


def test_methods_of_changed_choices_are_not_compared_with_the_study():
    changed = [Difference("--lambda-rule", "discrepancy", "whitened")]
    texts = set(method_differences("lin2015"))
    remaining = set(method_differences("lin2015", changed))
    (omitted,) = texts - remaining
    assert omitted.startswith("Discrepancy principle")


def test_choices_of_a_preset_that_its_study_does_not_state_are_listed():
    options = {}
    for name in set(PRESETS) - {"default"}:
        entries = load_template("presets")[name]["Differences"]
        options[name] = {entry["Option"] for entry in entries if "Option" in entry}
        assert options[name] <= {choice.option for choice in choices_of(name)}
        text = " ".join(method_differences(name))
        assert "Brain mask: " in text
        assert "phase is ambiguous" in text
    # Of the 2015 study, PDF and the equation without data weights are known.
    assert len(options["lin2015"]) == 4
    assert len(options["chiang2018"]) == len(choices_of("chiang2018")) == 8
    assert "Deterministic inversion" in " ".join(method_differences("lin2015"))


def choices_of(preset):
    return differences_from("default", [recorded(PRESETS[preset])])


@pytest.mark.parametrize("init_wf", [init_group_wf, init_model_wf])
def test_reports_of_a_study_and_of_a_model_compare_the_scans_with_a_preset(tmp_path, init_wf):
    raw = tmp_path / "raw"
    out = tmp_path / "out"
    raw.mkdir()
    own = {"output_dir": out}
    if init_wf is init_model_wf:
        own |= {"work_dir": tmp_path, "model": "thalamus"}
    changed = replace(PRESETS["chiang2018"], merit=True)
    for number, settings in enumerate([PRESETS["chiang2018"], changed]):
        write_completion_record(
            *(out, "scans", f"scan-{number}", "0", ()), software="0", settings=asdict(settings)
        )
    comparison = compare_with_preset(Namespace(output_dir=out, preset="chiang2018"), 3)
    workflow = init_wf(bids_dir=raw, **own, **comparison)
    (report,) = [node for node in workflow._get_all_nodes() if node.name == "report"]
    assert report.inputs.preset == "Chiang 2018"
    assert report.inputs.n_unrecorded == 1
    assert report.inputs.differences == [("--merit", "no", "no (1 of 2 scans), yes (1 of 2 scans)")]
    assert not any(text.startswith("MERIT") for text in report.inputs.method_differences)
    assert len(report.inputs.method_differences) == 10
