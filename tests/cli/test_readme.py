"""The README of the output says with which options the maps that it has were made."""

import json
from dataclasses import asdict, replace

import pytest

from multiqsm.cli.readme import describe_choices, update_readme
from multiqsm.dataset.readme import README
from multiqsm.execution.completion import write_completion_record
from multiqsm.workflows.settings import PRESETS, Settings


@pytest.fixture
def root(tmp_path):
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "Maps"}))
    return tmp_path


def finish_scan(root, label, settings):
    """Write a map of a scan and its completion record, and that of its subject."""
    folder = root / label.split("_")[0] / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / f"{label}_desc-medi_Chimap.nii.gz"
    image.write_text("map")
    image.with_name(image.name.replace(".nii.gz", ".json")).write_text("{}")
    options = {"software": "1", "settings": asdict(settings)}
    write_completion_record(root, "scans", label, "1", [image], **options)
    subject = label.split("_")[0]
    write_completion_record(root, "subjects", subject, "1", [], **options)
    return image


def test_defaults_are_stated_for_maps_and_regions(root):
    for label in ("sub-01_run-1", "sub-01_run-2"):
        finish_scan(root, label, Settings())
    assert describe_choices(root) == [
        "Maps of all 2 scans: the defaults of all options.",
        "Regional values of subject sub-01: the defaults of all options.",
    ]


@pytest.mark.parametrize("preset", ["lin2015", "chiang2018"])
def test_preset_is_named_with_the_options_that_differ(root, preset):
    finish_scan(root, "sub-01", replace(PRESETS[preset], background="vsharp", merit=True))
    maps, regions = describe_choices(root)
    assert maps.startswith(f"Maps of scan sub-01: the options of `--preset {preset}`, except:\n")
    assert "* `--background vsharp`" in maps
    assert ("* `--merit`" in maps) == (not PRESETS[preset].merit)
    # In what concerns regions, lin2015 has the choices of the defaults. They are not named: the run
    # as a whole is one with the preset.
    assert regions == f"Regional values of subject sub-01: the options of `--preset {preset}`."


def test_a_run_of_some_scans_with_other_options_leaves_the_readme_true(root):
    for label in ("sub-01", "sub-02", "sub-03"):
        finish_scan(root, label, Settings())
    finish_scan(root, "sub-02", Settings(background="pdf", roi_erosion=1.0))
    update_readme(root)
    text = (root / README).read_text()
    assert "Maps of 2 scans (sub-01, sub-03): the defaults of all options.\n" in text
    assert (
        "Maps of scan sub-02: the defaults of all options, except:\n\n* `--background pdf`" in text
    )
    assert "values of subject sub-02: the defaults of all options, except:\n\n* `--roi-er" in text


def test_maps_that_no_longer_agree_with_their_record_are_not_described_by_it(root):
    finish_scan(root, "sub-01", Settings())
    image = finish_scan(root, "sub-02", Settings(background="pdf"))
    image.write_text("another map")
    texts = describe_choices(root)
    assert "pdf" not in texts[0]
    assert texts[1].startswith("1 map (sub-02_desc-medi_Chimap.nii.gz): not of the last run")
    image.unlink()
    assert not any("not of the last run" in text for text in describe_choices(root))


def test_maps_that_a_run_without_their_inversion_left_are_named(root):
    image = finish_scan(root, "sub-01", Settings())
    image.with_name("sub-01_desc-tkd_Chimap.nii.gz").write_text("of a run with --inversion tkd")
    maps, left, _ = describe_choices(root)
    assert maps == "Maps of scan sub-01: the defaults of all options."
    assert left.startswith("1 map (sub-01_desc-tkd_Chimap.nii.gz): not of the last run")


def test_a_folder_without_maps_has_no_text_on_options(root):
    assert describe_choices(root) == []
