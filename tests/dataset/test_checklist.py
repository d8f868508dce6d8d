"""The reporting checklist is filled in from sidecars, and says nothing that they do not say."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from multiqsm.bids_templates import load_template
from multiqsm.dataset.checklist import (
    CHECKLIST,
    CHECKLIST_TEXT,
    reporting_checklist,
    write_checklist,
)
from multiqsm.dataset.checklist_text import checklist_markdown, merge_equal_values
from multiqsm.dataset.files import read_json
from multiqsm.dataset.group_tables import model_folder, write_group_table
from multiqsm.dataset.not_processed import write_not_processed
from multiqsm.dataset.problems import Problem
from multiqsm.dataset.sidecars import sidecar_path
from multiqsm.dataset.study_items import AT_GROUP_LEVEL, NOT_RUN
from multiqsm.dataset.summaries import mean_and_sd
from multiqsm.dataset.tables import read_tsv, write_tsv

LAMBDA = "Regularisation parameter λ, or threshold of the dipole kernel"
SIDECAR = {
    "Site": "A",
    "Manufacturer": "Siemens",
    "ManufacturersModelName": "Skyra",
    "MagneticFieldStrength": 3.0,
    "CentreFrequency": 123.2,
    "EchoTimes": [0.006, 0.014, 0.022],
    "RepetitionTime": 0.045,
    "ScanOptions": ["PFP", "FC"],
    "Units": "ppm",
    "Inversion": "MEDI",
    "Lambda": 1e-3,
    "MERIT": True,
    "MethodSteps": ["mask", "medi"],
    "ProcessingSoftware": {"multiqsm": "1.0", "numpy": "2.0"},
}


def save_map(root, scan, sidecar, inversion="medi", space="", affine=None):
    """Save a map of 4×5×6 voxels, of 1×1×2 mm unless the affine says otherwise."""
    folder = root / scan.split("_")[0] / "anat"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{scan}{space}_desc-{inversion}_Chimap"
    (folder / f"{stem}.json").write_text(json.dumps(sidecar))
    affine = np.diag([1.0, 1, 2, 1]) if affine is None else affine
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), affine), folder / f"{stem}.nii.gz")


def value(checklist, item, applies_to=None):
    rows = checklist[checklist["item"] == item]
    if applies_to is not None:
        rows = rows[rows["applies_to"] == applies_to]
    (only,) = rows["value"]
    return only


def test_values_come_from_sidecar_and_header(tmp_path):
    save_map(tmp_path, "sub-01_run-1", SIDECAR)
    checklist = reporting_checklist(tmp_path)
    assert value(checklist, "Field strength (T)", "site A: Siemens Skyra") == "3"
    assert value(checklist, "Centre frequency, mean ± SD (MHz)") == "123.2 (1 scan)"
    assert value(checklist, "Number of echoes, TE1 : ΔTE : TEmax (ms)") == "3, 6 : 8 : 22"
    assert value(checklist, "Repetition time (s)") == "0.045"
    assert value(checklist, "Voxel size (mm)") == "1×1×2"
    assert value(checklist, "Matrix") == "4×5×6"
    assert value(checklist, "Field of view (mm)") == "4×5×12"
    assert value(checklist, "Orientation") == "axial"
    assert value(checklist, "Flow compensation, partial echo (scan options)") == "PFP, FC"
    assert value(checklist, "Toolbox and versions") == "multiqsm 1.0, numpy 2.0"
    assert value(checklist, "Data term and weights", "medi, site A: Siemens Skyra") == "MERIT: yes"


def test_every_sidecar_field_has_its_value_where_the_checklist_asks_for_it(tmp_path):
    # Each field holds a value that occurs nowhere else, so a value can be traced to its field.
    fields = sorted(
        {field for item in load_template("checklist")["items"] for field in item["fields"]}
        - {
            "CentreFrequency",
            "BrainMaskVolume",
            "ReferenceOffset",
            "EchoTimes",
            "EchoesLeftOut",
            "OriginalMatrix",
            "OriginalVoxelSize",
            "ReferenceStandardDeviation",
            "ProcessingSoftware",
            "B0Direction",
            "MethodSteps",
        }
    )
    sidecar = {field: f"<{field}>" for field in fields}
    for space in ("", "_space-subject"):
        save_map(tmp_path, "sub-01", sidecar | {"Site": "A"}, space=space)
    save_map(tmp_path, "sub-01", sidecar, inversion="medise")
    table = tmp_path / "sub-01" / "anat" / "sub-01_desc-rois_chi.json"
    table.write_text(json.dumps(sidecar))
    checklist = reporting_checklist(tmp_path)
    for row in checklist.itertuples():
        item_fields = [field for field in row.fields.split(", ") if field in fields]
        if row.item == "Repetition time (s)":
            item_fields = item_fields[:1]
        assert [field for field in fields if f"<{field}>" in row.value] == sorted(item_fields)


def test_what_no_sidecar_says_is_blank(tmp_path):
    save_map(tmp_path, "sub-01", {"Site": "A"})
    checklist = reporting_checklist(tmp_path)
    answered = ("Orientation", "Field of view (mm)", "Matrix", "Voxel size (mm)", "Number of scans")
    answered += ("Regions", "Calibration by the phantom", "Scans excluded from statistics")
    answered += ("Inclusion criteria, and scans not processed",)
    for row in checklist.itertuples():
        assert bool(row.value) == (row.item in answered), row.item


def test_scans_that_differ_are_counted_and_many_numbers_averaged(tmp_path):
    for n in range(6):
        sidecar = SIDECAR | {
            "CentreFrequency": 123.0 + n / 10,
            "FlipAngle": 5.0 if n else 25.0,
            "Lambda": 1.0 + n,
        }
        save_map(tmp_path, f"sub-01_run-{n + 1}", sidecar)
    checklist = reporting_checklist(tmp_path)
    assert value(checklist, "Flip angle (°)") == "5 (5 of 6 scans); 25 (1 of 6 scans)"
    # The SD of 0, 0.1, …, 0.5 is 0.187; that of 1, …, 6 is 1.87.
    assert value(checklist, "Centre frequency, mean ± SD (MHz)") == "123.25 ± 0.19 (6 scans)"
    assert value(checklist, LAMBDA) == "λ: 3.5 ± 1.9 (6 scans)"


def test_numbers_of_three_scans_that_all_differ_are_averaged(tmp_path):
    for n in range(3):
        save_map(tmp_path, f"sub-01_run-{n + 1}", SIDECAR | {"Lambda": 1.0 + n})
    assert value(reporting_checklist(tmp_path), LAMBDA) == "λ: 2.0 ± 1.0 (3 scans)"


@pytest.mark.parametrize(
    ("rotation", "orientation"),
    [
        (np.eye(3), "axial"),
        (np.eye(3)[[2, 0, 1]], "sagittal"),
        (np.array([[1, 0, 0], [0, 0, -1.0], [0, 1, 0]]), "coronal"),
        (np.array([[1, 0, 0], [0, 0.98, -0.199], [0, 0.199, 0.98]]), "axial, oblique"),
    ],
)
def test_orientation_is_that_of_the_slices(tmp_path, rotation, orientation):
    affine = np.eye(4)
    affine[:3, :3] = rotation
    save_map(tmp_path, "sub-01", SIDECAR, affine=affine)
    assert value(reporting_checklist(tmp_path), "Orientation") == orientation


def test_phantoms_are_listed_apart_and_standard_errors_left_out(tmp_path):
    save_map(tmp_path, "sub-01", SIDECAR)
    save_map(tmp_path, "sub-01", SIDECAR | {"Inversion": "of the noise"}, inversion="medise")
    save_map(tmp_path, "sub-p", SIDECAR | {"MethodSteps": ["phantom"]})
    checklist = reporting_checklist(tmp_path)
    scanners = set(checklist.loc[checklist["item"] == "Matrix", "applies_to"])
    assert scanners == {"site A: Siemens Skyra", "site A: Siemens Skyra, phantom"}
    for kind in ("", ", phantom"):
        assert value(checklist, "Dipole inversion", f"medi{kind}") == "MEDI"
        assert value(checklist, "Number of scans", f"all scans{kind}") == "1"
    merged = merge_equal_values(checklist).set_index("item")["applies_to"]
    assert merged["Matrix"] == "all scanners, people and phantoms"
    assert merged["Dipole inversion"] == "all inversions, people and phantoms"
    of_one_scan = reporting_checklist(tmp_path, ["sub-p"])
    assert value(of_one_scan, "Number of scans") == "1"


def test_equal_values_are_merged_for_people_and_written(tmp_path):
    save_map(tmp_path, "sub-01", SIDECAR)
    save_map(tmp_path, "sub-02", SIDECAR | {"Site": "B|C", "FlipAngle": 5})
    merged = merge_equal_values(reporting_checklist(tmp_path))
    assert list(merged.loc[merged["item"] == "Matrix", "applies_to"]) == ["all scanners"]
    assert len(merged[merged["item"] == "Flip angle (°)"]) == 2
    checklist = write_checklist(tmp_path)
    pd.testing.assert_frame_equal(checklist, reporting_checklist(tmp_path))
    text = (tmp_path / CHECKLIST_TEXT).read_text(encoding="utf-8")
    assert text == checklist_markdown(checklist)
    assert "site B\\|C" in text
    pd.testing.assert_frame_equal(read_tsv(tmp_path / CHECKLIST), checklist)
    assert list(read_json(sidecar_path(tmp_path / CHECKLIST))) == list(checklist)


def test_harmonised_scans_are_reported_as_acquired(tmp_path):
    harmonised = {
        "EchoTimes": [0.014, 0.022],
        "EchoesLeftOut": [0.006, 0.030],
        "OriginalMatrix": [8, 10, 6],
        "OriginalVoxelSize": [0.5, 0.5, 2.0],
        "HarmonizedVoxelSize": [1.0, 1.0, 2.0],
    }
    save_map(tmp_path, "sub-01", SIDECAR | harmonised)
    checklist = reporting_checklist(tmp_path)
    assert value(checklist, "Number of echoes, TE1 : ΔTE : TEmax (ms)") == "4, 6 : 8 : 30"
    assert value(checklist, "Matrix") == "8×10×6"
    assert value(checklist, "Voxel size (mm)") == "0.5×0.5×2"
    assert value(checklist, "Field of view (mm)") == "4×5×12"
    assert "harmonized voxel size: 1, 1, 2" in value(checklist, "Harmonisation of protocols")


def test_single_echo_and_unknown_manufacturer(tmp_path):
    save_map(tmp_path, "sub-01", {"Site": "A", "EchoTimes": [0.02]})
    checklist = reporting_checklist(tmp_path)
    echoes = "Number of echoes, TE1 : ΔTE : TEmax (ms)"
    assert value(checklist, echoes, "site A") == "1, 20"
    assert value(checklist, "Readout polarity") == ""


def test_parameters_of_the_standard_error_are_those_of_its_map(tmp_path):
    save_map(tmp_path, "sub-01", SIDECAR)
    error = SIDECAR | {"StandardErrorFrom": "realisations of the noise", "NoiseRealisations": 4}
    save_map(tmp_path, "sub-01", error, inversion="medise")
    text = value(reporting_checklist(tmp_path), "Standard error of susceptibility", "medi")
    assert text == "standard error from: realisations of the noise; noise realisations: 4"


def test_scans_excluded_from_statistics_are_counted_once_there_are_statistics(tmp_path):
    save_map(tmp_path, "sub-01", SIDECAR)
    item = "Scans excluded from statistics"
    assert value(reporting_checklist(tmp_path), item) == NOT_RUN
    write_group_table(tmp_path, "warnings", pd.DataFrame({"warning": []}))
    assert value(reporting_checklist(tmp_path), item) == "none in the last run of the group level"
    excluded = pd.DataFrame({"reason": ["other protocol", "other protocol", "other reference"]})
    write_group_table(tmp_path, "excluded", excluded)
    expected = "other protocol (2 scans); other reference (1 scan)"
    assert value(reporting_checklist(tmp_path), item).endswith(f": {expected}")


def test_a_persons_checklist_says_the_same_of_statistics_before_and_after_them(tmp_path):
    save_map(tmp_path, "sub-01", SIDECAR)
    before = reporting_checklist(tmp_path, ["sub-01"])
    write_group_table(tmp_path, "warnings", pd.DataFrame({"warning": []}))
    write_group_table(tmp_path, "excluded", pd.DataFrame({"reason": ["other protocol"]}))
    pd.testing.assert_frame_equal(reporting_checklist(tmp_path, ["sub-01"]), before)
    for item in ("Scans excluded from statistics", "Calibration by the phantom"):
        assert value(before, item) == AT_GROUP_LEVEL


def test_patients_of_each_model_are_counted_with_those_it_excludes(tmp_path):
    save_map(tmp_path, "sub-01", SIDECAR)
    item = "Patients of a regression model, and those excluded from regressions"
    assert item not in set(reporting_checklist(tmp_path)["item"])
    folder = model_folder(tmp_path, "thalamus")
    rule = ("snr below 30 (snr < 30)", "left out by the model", True)
    unused = ("age above 90 (age > 90)", "nobody can be judged: no column age", False)
    missing = ("edss", "missing", False)
    rows = [("03", *rule), ("02", *rule), (None, *unused), ("04", *missing), ("04", *missing)]
    columns = ["participant", "what", "reason", "left_out"]
    write_tsv(folder / "excluded.tsv", pd.DataFrame(rows, columns=columns))
    write_tsv(folder / "patients.tsv", pd.DataFrame({"participant": ["01", "04"]}))
    assert value(reporting_checklist(tmp_path), item, "model thalamus") == (
        "2 patients in the analysis; snr below 30 (snr < 30), left out by the model (2 patients); "
        "age above 90 (age > 90), nobody can be judged: no column age; edss, missing (1 patient)"
    )
    assert item not in set(reporting_checklist(tmp_path, ["sub-01"])["item"])


def test_trimming_of_the_mask_is_given_with_how_much_it_removed(tmp_path):
    item = "Parameters of the brain mask"
    save_map(tmp_path, "sub-01", SIDECAR)
    assert value(reporting_checklist(tmp_path), item) == ""  # as earlier versions recorded
    save_map(tmp_path, "sub-01", SIDECAR | {"BrainMaskTrimmingRule": "none"})
    assert value(reporting_checklist(tmp_path), item) == "trimming rule: none"
    trimmed = {"BrainMaskTrimmingRule": "noisy voxels", "BrainMaskFractionTrimmed": 0.02}
    save_map(tmp_path, "sub-01", SIDECAR | trimmed)
    text = value(reporting_checklist(tmp_path), item)
    assert text == "trimming rule: noisy voxels; fraction trimmed: 0.02"


def test_calibration_is_given_by_site_and_whether_values_were_corrected(tmp_path):
    save_map(tmp_path, "sub-01", SIDECAR)
    write_group_table(tmp_path, "warnings", pd.DataFrame({"warning": []}))
    item = "Calibration by the phantom"
    assert "no phantom scan" in value(reporting_checklist(tmp_path), item)
    line = {"method": "medi", "slope": 0.91, "intercept": -0.04, "r_squared": 0.9995}
    lines = [line | {"site": site, "n_points": 6} for site in ("A", "all")]
    write_group_table(tmp_path, "calibration", pd.DataFrame(lines))
    text = value(reporting_checklist(tmp_path), item)
    line_text = "medi, site A: slope 0.9100, intercept -0.0400 ppm, R² 0.99950, 6 points, values "
    assert text == f"in the last run of the group level: {line_text}not corrected"
    rois = pd.DataFrame({"method": ["medi"], "site": ["A"], "calibration_slope": [0.91]})
    write_group_table(tmp_path, "rois", rois)
    text = value(reporting_checklist(tmp_path), item)
    assert text.endswith(f": {line_text}divided by the slope")


def test_scans_that_were_not_processed_are_listed_with_the_reason(tmp_path):
    item = "Inclusion criteria, and scans not processed"
    save_map(tmp_path, "sub-01_run-1", SIDECAR)
    save_map(tmp_path, "sub-02", SIDECAR)
    assert value(reporting_checklist(tmp_path), item).endswith("not processed: none")
    problems = [Problem(f"sub-01_run-{n}", "x.nii.gz", "no phase", "add it") for n in (2, 3)]
    write_not_processed(tmp_path, "01", problems)
    texts = [f"sub-01_run-{n}: x.nii.gz: no phase; add it" for n in (2, 3)]
    assert value(reporting_checklist(tmp_path), item).endswith(f"not processed: {'; '.join(texts)}")
    assert texts[0] in value(reporting_checklist(tmp_path, ["sub-01_run-1"]), item)
    assert value(reporting_checklist(tmp_path, ["sub-02"]), item).endswith("not processed: none")
    # A run that selects only scan 2, which is processed now, says nothing of scan 3.
    write_not_processed(tmp_path, "01", [], scans=["sub-01_run-2"])
    assert value(reporting_checklist(tmp_path), item).endswith(f"not processed: {texts[1]}")
    path = write_not_processed(tmp_path, "01", [])
    assert not path.exists()
    assert not sidecar_path(path).exists()


def test_registration_and_regions_are_described(tmp_path):
    steps = {"MethodSteps": ["mask", "medi", "registration", "csf_label"]}
    reference = {"ReferenceRegion": "csf", "ReferenceSource": "label"}
    save_map(tmp_path, "sub-01", SIDECAR)
    assert value(reporting_checklist(tmp_path), "Regions") == "no region was measured"
    save_map(tmp_path, "sub-01", SIDECAR | steps | reference, space="_space-subject")
    regions = {"MethodSteps": ["csf_label", "regions_drawn"], "NumberOfRegions": 8}
    regions |= {"RegionsMeasuredIn": "subject", "RegionErosion": 0.5, "VeinsExcluded": True}
    (tmp_path / "sub-01" / "anat" / "sub-01_desc-rois_chi.json").write_text(json.dumps(regions))
    checklist = reporting_checklist(tmp_path)
    texts = load_template("citation")["steps"]
    registration = value(checklist, "Registration of a subject's scans")
    assert registration == texts["registration"]["text"]
    assert value(checklist, "Regions") == f"{texts['regions_drawn']['text']} (8 regions)"
    measurement = value(checklist, "Measurement of regions")
    assert measurement.endswith("; eroded by: 0.5 mm; veins excluded: yes")
    region = value(checklist, "Reference region")
    assert "cerebrospinal fluid (CSF) of the lateral ventricles" in region
    regions["RegionsDescription"] = "Nuclei, made from the true labels"
    (tmp_path / "sub-01" / "anat" / "sub-01_desc-rois_chi.json").write_text(json.dumps(regions))
    checklist = reporting_checklist(tmp_path)
    assert value(checklist, "Regions") == "Nuclei, made from the true labels (8 regions)"


def test_phantoms_have_a_reference_of_their_own(tmp_path):
    """Their maps are not resampled, so that the reference is that of the scan's map."""
    reference = {"ReferenceRegion": "csf", "ReferenceOffset": 0.01}
    save_map(tmp_path, "sub-01", SIDECAR)
    save_map(tmp_path, "sub-01", SIDECAR | reference, space="_space-subject")
    phantom = {"MethodSteps": ["phantom"], "ReferenceRegion": "mean of the whole mask"}
    save_map(tmp_path, "sub-p", SIDECAR | phantom | {"ReferenceOffset": 0.02})
    checklist = reporting_checklist(tmp_path)
    of_phantom = value(checklist, "Reference region", "medi, phantom")
    assert of_phantom == "reference region: mean of the whole mask"
    of_people = value(checklist, "Reference region", "medi, subject space")
    assert of_people == "reference region: cerebrospinal fluid (CSF) of the lateral ventricles"
    item = "Reference region relative to the whole mask, mean ± SD over scans (ppm)"
    assert value(checklist, item, "medi, phantom").startswith("0.02")
    assert value(checklist, item, "medi, subject space").startswith("0.01")
    of_interpolation = checklist[checklist["item"] == "Interpolation"]
    assert list(of_interpolation["applies_to"]) == ["medi, subject space"]


@pytest.mark.parametrize("n_scans", [9, 45])
@pytest.mark.parametrize("frequency", [123.2516, 123.1938, 298.042138])
def test_equal_numbers_have_no_deviation_whatever_the_rounding_of_their_mean(n_scans, frequency):
    assert mean_and_sd([frequency] * n_scans) == f"{frequency} ± 0 ({n_scans} scans)"
    last_bit = np.nextafter(frequency, np.inf)
    assert mean_and_sd([frequency, last_bit], "MHz") == f"{frequency} ± 0 MHz (2 scans)"
    assert mean_and_sd([0.0] * n_scans) == f"0 ± 0 ({n_scans} scans)"


def test_what_was_not_done_is_stated_where_all_steps_are_recorded(tmp_path):
    save_map(tmp_path, "sub-01", SIDECAR, inversion="deterministic")
    checklist = reporting_checklist(tmp_path)
    assert value(checklist, "Harmonisation of protocols") == "none"
    assert value(checklist, "Edges") == "none: all gradients are penalised"


def test_numbers_are_beside_their_units_and_options_are_in_words(tmp_path):
    fields = {"LambdaUnits": "ppm*mm", "LambdaRule": "gcv", "FieldPeriod": 1.5}
    save_map(tmp_path, "sub-01", SIDECAR | fields | {"BackgroundMargin": 10})
    save_map(tmp_path, "sub-02", SIDECAR | fields | {"BackgroundMargin": 10, "Lambda": 2e-3})
    checklist = reporting_checklist(tmp_path)
    in_scans = "0.001 ppm·mm (1 of 2 scans); 0.002 ppm·mm (1 of 2 scans)"
    rule = "rule of λ: generalised cross-validation"
    assert value(checklist, LAMBDA) == f"λ: {in_scans}; {rule}"
    assert "field period: 1.5 ppm;" in value(checklist, "Data term and weights")
    parameters = value(checklist, "Parameters of background field removal")
    assert parameters == "background margin: 10 mm"
    assert "; model: Skyra" in value(checklist, "Scanner")


def test_unwrapping_is_described_by_the_sentence_of_its_step(tmp_path):
    steps = {"UnwrappingMode": "spatial", "MethodSteps": ["mask", "unwrapping"]}
    save_map(tmp_path, "sub-01", SIDECAR | steps)
    text = value(reporting_checklist(tmp_path), "Unwrapping")
    assert text == load_template("citation")["steps"]["unwrapping"]["text"]


def test_scanners_are_not_pooled_in_what_is_measured_for_each_scan(tmp_path):
    for site, volume in (("A", 24.0), ("B", 1672.0)):
        save_map(tmp_path, f"sub-{site}", SIDECAR | {"Site": site, "BrainMaskVolume": volume})
    checklist = reporting_checklist(tmp_path)
    for site, volume in (("A", 24), ("B", 1672)):
        scanner = f"site {site}: Siemens Skyra"
        assert value(checklist, "Volume of the mask (mL)", scanner) == f"{volume} (1 scan)"
        assert value(checklist, LAMBDA, f"medi, {scanner}") == "λ: 0.001"


def test_maps_of_one_scan_by_different_runs_are_reported_apart(tmp_path):
    of_first_run = SIDECAR | {"BackgroundRemoval": "TFI"}
    save_map(tmp_path, "sub-01", of_first_run)
    save_map(tmp_path, "sub-01", SIDECAR | {"BackgroundRemoval": "PDF"}, inversion="iterative")
    checklist = reporting_checklist(tmp_path)
    item = "Background field removal"
    assert value(checklist, item, "all scans, medi") == "TFI"
    assert value(checklist, item, "all scans, iterative") == "PDF"
    save_map(tmp_path, "sub-01", of_first_run, inversion="iterative")
    assert value(reporting_checklist(tmp_path), item, "all scans") == "TFI"


def test_references_are_not_pooled_and_the_whole_mask_differs_from_itself_by_nothing(tmp_path):
    space = "_space-subject"
    for n, offset in enumerate((0.006, 0.008)):
        fields = {"ReferenceRegion": "csf", "ReferenceOffset": offset}
        save_map(tmp_path, f"sub-0{n + 1}", SIDECAR | fields, space=space)
    item = "Reference region relative to the whole mask, mean ± SD over scans (ppm)"
    assert value(reporting_checklist(tmp_path), item) == "0.0070 ± 0.0014 (2 scans)"
    fields = {"ReferenceRegion": "brain", "ReferenceOffset": -3e-10}
    save_map(tmp_path, "sub-03", SIDECAR | fields, space=space)
    whole, csf = value(reporting_checklist(tmp_path), item).split("; ")
    assert whole == "whole brain mask: 0: the reference is the whole mask"
    assert csf.startswith("cerebrospinal fluid (CSF)")
    assert csf.endswith(": 0.0070 ± 0.0014 (2 scans)")


def test_no_map_gives_an_empty_checklist(tmp_path):
    assert reporting_checklist(tmp_path).empty
