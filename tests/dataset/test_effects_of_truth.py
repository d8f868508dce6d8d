"""The truth of rough scans: settings, what was drawn, findings of people, and maps."""

import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.datasets import validator_errors

from multiqsm.bids_templates import load_template
from multiqsm.cli.simulate import main
from multiqsm.dataset.simulated.description import write_dataset_files
from multiqsm.dataset.simulated.effects import write_drawn, write_settings
from multiqsm.dataset.simulated.layout import is_complete
from multiqsm.dataset.simulated.scans import write_scan
from multiqsm.simulation.effects import ALL, ROUGH, Effects
from multiqsm.simulation.effects.pathology import Pathology
from multiqsm.simulation.effects.physiology import Breathing
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design

COARSE = {"subjects": 1, "runs": 1, "sites": ["A"], "voxel_size": (12.0, 12.0, 12.0)}
EFFECTS = Effects(**{**ALL.amplitudes(), "pathology": Pathology().only("haemorrhage")})


@pytest.fixture(scope="module")
def rough(tmp_path_factory):
    """One head and the phantom at a site, with every effect, written by this process."""
    root = tmp_path_factory.mktemp("rough")
    design = make_design("study", effects=EFFECTS, **COARSE)
    write_dataset_files(root, design)
    scans = {}
    for plan in design.plans:
        scan = simulate(plan)
        write_scan(root, plan, scan)
        assert is_complete(root, plan)
        scans[plan.participant.model] = plan, scan
    write_drawn(root)
    return root, scans


def truth_table(root, name):
    return pd.read_table(root / "derivatives" / "truth" / name, keep_default_na=False)


def test_truth_with_all_effects_is_valid(rough):
    root, _ = rough
    assert validator_errors(root / "derivatives" / "truth") == set()


def test_settings_of_all_effects_are_in_a_table_with_units_and_words(rough):
    root, _ = rough
    settings = truth_table(root, "settings.tsv")
    assert set(settings["effect"]) == set(EFFECTS.switched_on())
    value = settings.set_index(["effect", "setting"])["value"]
    assert float(value["breathing", "field"]) == EFFECTS.breathing.field
    assert float(value["anisotropy", "difference"]) == EFFECTS.anisotropy.difference
    assert float(value["microstructure", "g_ratio"]) == EFFECTS.microstructure.g_ratio
    assert float(value["pathology", "haemorrhage"]) == 1
    assert (settings["description"] != "n/a").all()


def test_what_was_drawn_for_each_scan_is_in_a_table_with_units_and_words(rough):
    """All of it: the table has each effect of the object, and each number of the sidecar."""
    root, scans = rough
    drawn = truth_table(root, "effects.tsv")
    assert (drawn["description"] != "n/a").all()
    for model, (plan, scan) in scans.items():
        label = "sub-{subject}_ses-{session}_run-{run}".format(**plan.entities)
        of_scan = drawn[drawn["scan"] == label].set_index(["effect", "quantity"])["value"]
        assert set(of_scan.index.get_level_values(0)) == set(EFFECTS.of(model).switched_on())
        assert len(of_scan) == sum(map(len, scan.effects.values()))
    coefficients = of_scan["eddy_currents", "HarmonicPhaseOfFirstEcho"].split(" ")
    expected = scan.effects["eddy_currents"]["HarmonicPhaseOfFirstEcho"]
    np.testing.assert_allclose(np.array(coefficients, float), expected, rtol=1e-5)


def test_findings_are_listed_by_person(rough):
    root, scans = rough
    (finding,) = truth_table(root, "findings.tsv").to_dict("records")
    (feature,) = [feature for feature in scans["head"][0].subject.features if feature.label == 24]
    assert (finding["participant_id"], finding["finding"]) == ("sub-01", "haemorrhage")
    assert finding["susceptibility_ppm"] == pytest.approx(feature.tissue["chi"], rel=1e-5)
    place = [finding[f"{axis}_mm"] for axis in "xyz"]
    np.testing.assert_allclose(place, feature.shape["ellipsoids"][0][:3], atol=0.06)


def test_maps_have_units_and_are_those_of_the_scan(rough):
    root, scans = rough
    plan, scan = scans["head"]
    folder = root / "derivatives" / "truth" / "sub-01" / "ses-A"
    rad = {name: scan.effect_maps[name] for name in ("flow", "eddy_currents", "bipolar", "coils")}
    for name, values in rad.items():
        desc = {"eddy_currents": "eddyCurrents"}.get(name, name)
        (path,) = folder.rglob(f"*_part-phase_desc-{desc}_T2starw.nii.gz")
        np.testing.assert_array_equal(nib.load(path).get_fdata(dtype=np.float32), values)
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert sidecar["Units"] == "rad"
        assert sidecar["EchoTime"] in plan.protocol.echo_times
        assert np.abs(values).max() > 0
    assert not scan.effect_maps["flow"][scan.labels == 0].any()
    (path,) = folder.rglob("*_desc-breathing_fieldmap.nii.gz")
    centre = tuple(np.argwhere(scan.mask).mean(axis=0).round().astype(int))
    hertz = scan.effects["breathing"]["FieldPeakToPeak"] * plan.scanner.imaging_frequency
    # A voxel of 12 mm is up to 10 mm from the centre, where the field of a dipole 300 mm away
    # changes by 3 · 10/300.
    assert nib.load(path).get_fdata()[centre] == pytest.approx(hertz, rel=0.1)
    noise = scan.effect_maps["noise"][scan.mask]
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(scan.noise_sigma, rel=1e-4)


def test_warm_water_has_a_map(rough):
    """On the axis, half of what the axis is warmer than the rim; the mean is that of the scan."""
    _, scans = rough
    _, scan = scans["phantom"]
    settings = EFFECTS.temperature
    excess = scan.effects["temperature"]["TemperatureAboveRoom"]
    on_axis = settings.coefficient * settings.core_excess * excess / 2
    middle = tuple(np.argwhere(scan.mask).mean(axis=0).round().astype(int))
    assert scan.effect_fields["temperature"][middle] == pytest.approx(on_axis, rel=0.05)


def test_a_dataset_with_other_settings_is_refused(tmp_path):
    write_dataset_files(tmp_path, make_design("demo", effects=ROUGH.only("breathing"), **COARSE))
    stronger = Effects(breathing=Breathing(field=2 * ROUGH.breathing.field))
    with pytest.raises(ValueError, match=r"settings\.tsv.*other settings"):
        write_dataset_files(tmp_path, make_design("demo", effects=stronger, **COARSE))


def test_every_setting_has_units_and_a_description(tmp_path):
    """A setting that is added to an effect needs its words in the template."""
    write_settings(tmp_path, ALL)
    described = load_template("simulated_effects")
    assert set(described) == set(ALL.amplitudes())
    table = truth_table(tmp_path, "settings.tsv")
    missing = table[table["description"] == "n/a"]
    assert missing.empty, missing[["effect", "setting"]].to_string()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--design", "phantom", "--effects", "breathing"], "no heads.*--effects breathing"),
        (["--design", "demo", "--effects", "temperature"], "no phantom.*--effects temperature"),
        (["--design", "phantom", "--pathology", "cavernoma"], "no heads: leave out --pathology"),
        (["--design", "demo", "--pathology", "lesion_rims"], "needs lesions"),
        (["--pathology", "pineal", "--without-effects", "pathology"], "contradict"),
    ],
)
def test_effects_that_a_design_cannot_have_are_refused(tmp_path, capsys, options, message):
    assert main([str(tmp_path / "raw"), *options]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "raw").exists()


def test_findings_are_chosen_by_an_option(tmp_path):
    options = ("--design", "thalamus", "--tables-only", "--subjects", "1", "--ideal")
    assert main([str(tmp_path), *options, "--pathology", "cavernoma", "burr_hole"]) == 0
    value = truth_table(tmp_path, "settings.tsv").set_index("setting")["value"]
    certain = {name for name in ("pineal", "choroid", "microbleed", "haemorrhage", "cavernoma")}
    chosen = {name for name in (*certain, "burr_hole") if value[name] == "1"}
    assert chosen == {"cavernoma", "burr_hole"}
    assert value["rim_veins"] == "0"
