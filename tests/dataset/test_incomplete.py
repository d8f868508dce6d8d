"""A magnitude without phase stops nothing where it is not needed; a lost part is looked for."""

import json
import re

import pytest
from helpers.datasets import write_dataset

from multiqsm.cli import audit
from multiqsm.dataset.collection import collect_scans

TWO_ECHOES = {"echo_times": (0.006, 0.012)}


def magnitude(root, **entities):
    """Add images without phase to a dataset."""
    write_dataset(root, parts=("mag",), **TWO_ECHOES | entities)


@pytest.fixture
def dataset(tmp_path):
    """Return a dataset of one complete scan."""
    return write_dataset(tmp_path, runs=("1",), **TWO_ECHOES)


@pytest.mark.parametrize(
    ("entities", "severity"),
    [
        ({"acquisitions": ("2D",), "suffix": "T2starw", "echo_times": (0.02,)}, "unused"),
        ({"suffix": "T2starw", "echo_times": (0.02,)}, "unused"),
        ({"reconstructions": ("norm",), "runs": ("1",)}, "unused"),
        ({"runs": ("2",), "metadata": {"ImageType": ["ORIGINAL", "M", "NORM"]}}, "warning"),
        ({"runs": ("2",)}, "warning"),
        # Another session, or another subject: a protocol of its own, or a lost phase.
        ({"subjects": ("02",), "acquisitions": ("2D",)}, "unused"),
        ({"subjects": ("02",), "runs": ("1",)}, "error"),
        ({"subjects": ("02",), "runs": ("7",)}, "error"),
    ],
)
def test_magnitude_beside_a_complete_scan(dataset, entities, severity):
    magnitude(dataset, **entities)
    (scan,), (problem,) = collect_scans(dataset)
    assert scan.label == "sub-01_run-1"
    assert problem.severity == severity
    assert problem.subject == entities.get("subjects", ("01",))[0]


@pytest.mark.parametrize(
    ("fields", "other_fields", "severity"),
    [
        ({"AcquisitionTime": "10:00:00"}, {"AcquisitionTime": "10:00:00"}, "unused"),
        ({"AcquisitionTime": "10:00:00"}, {"AcquisitionTime": "10:09:00"}, "warning"),
        ({"ImageType": ["M", "ND"]}, {"ImageType": ["M", "ND", "NORM"]}, "unused"),
    ],
)
def test_run_is_a_repeat_or_another_reconstruction(tmp_path, fields, other_fields, severity):
    write_dataset(tmp_path, runs=("1",), metadata=fields, **TWO_ECHOES)
    magnitude(tmp_path, runs=("2",), metadata=other_fields)
    _, (problem,) = collect_scans(tmp_path)
    assert problem.severity == severity


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (("_run-1", "_run-2"), "run"),
        (("_run-1", "_rec-norm_run-1"), "reconstruction"),
        (("_run-1", "_acq-phase_run-1"), "acquisition"),
        (("_run-1", ""), "run"),
    ],
)
def test_parts_under_different_labels_are_refused_with_the_place_of_the_other(
    dataset, change, name
):
    write_dataset(dataset, subjects=("02",), **TWO_ECHOES)
    for path in sorted((dataset / "sub-01/anat").glob("*part-phase*")):
        path.rename(path.with_name(path.name.replace(*change)))
    (scan,), left_out = collect_scans(dataset)
    assert scan.label == "sub-02"
    first, second = sorted(left_out, key=lambda problem: "only magnitude" not in problem.cause)
    assert [first.severity, second.severity] == ["error", "error"]
    phase = "sub-01_run-1_echo-1_part-phase_MEGRE.nii.gz".replace(*change)
    assert f"their phase is under another {name}: sub-01/anat/{phase}" in first.cause
    assert "sub-01/anat/sub-01_run-1_echo-1_part-mag_MEGRE.nii.gz" in second.cause
    assert re.search(rf"\bthe same {name}\b", first.remedy)


def test_magnitudes_and_phases_named_as_four_runs_are_paired(tmp_path):
    write_dataset(tmp_path, parts=("mag",), runs=("1", "3"), **TWO_ECHOES)
    write_dataset(tmp_path, parts=("phase",), runs=("2", "4"), **TWO_ECHOES)
    write_dataset(tmp_path, subjects=("02",), **TWO_ECHOES)
    _, left_out = collect_scans(tmp_path)
    partner = {problem.scan: re.search(r"run-\d", problem.cause)[0] for problem in left_out}
    assert [partner[f"sub-01_run-{run}"] for run in "1234"] == ["run-2", "run-1", "run-4", "run-3"]


@pytest.mark.parametrize(
    ("entity", "combined"),
    [("reconstructions", "mag"), ("runs", "mag"), ("acquisitions", "phase")],
)
def test_one_image_for_several_of_the_other_part(tmp_path, entity, combined):
    """A rename would give several files the same name."""
    other = {"mag": "phase", "phase": "mag"}[combined]
    write_dataset(tmp_path, parts=(combined,), **TWO_ECHOES)
    write_dataset(tmp_path, parts=(other,), **{entity: ("1", "2")}, **TWO_ECHOES)
    write_dataset(tmp_path, subjects=("02",), acquisitions=("whole",), **TWO_ECHOES)
    _, left_out = collect_scans(tmp_path)
    assert [problem.severity for problem in left_out] == ["error"] * 3
    text = {"mag": "as if coils were not combined", "phase": "2 magnitude images for one phase"}
    assert all(text[combined] in problem.cause for problem in left_out)
    assert not any("rename the files" in problem.remedy for problem in left_out)


def test_echoes_of_one_scan_under_several_labels(tmp_path):
    """Their common name is the remedy."""
    write_dataset(tmp_path, parts=("mag",), **TWO_ECHOES)
    write_dataset(tmp_path, parts=("phase",), **TWO_ECHOES)
    for echo in (1, 2):
        for path in sorted((tmp_path / "sub-01/anat").glob(f"*echo-{echo}_part-phase*")):
            path.rename(path.with_name(path.name.replace("_echo", f"_rec-{echo}_echo")))
    write_dataset(tmp_path, subjects=("02",), **TWO_ECHOES)
    _, left_out = collect_scans(tmp_path)
    assert len(left_out) == 3
    assert all("is under another reconstruction" in problem.cause for problem in left_out)


def test_parts_under_different_suffixes(dataset):
    write_dataset(dataset, subjects=("02",), **TWO_ECHOES)
    for path in sorted((dataset / "sub-01/anat").glob("*part-phase*")):
        path.rename(path.with_name(path.name.replace("MEGRE", "T2starw")))
    _, left_out = collect_scans(dataset)
    assert all("under another suffix" in problem.cause for problem in left_out)


def test_phase_without_part_in_its_name_is_recognised_by_its_sidecar(dataset):
    write_dataset(dataset, subjects=("02",), parts=("mag",), **TWO_ECHOES)
    write_dataset(
        dataset,
        subjects=("02",),
        parts=(None,),
        runs=("2",),
        metadata={"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
        **TWO_ECHOES,
    )
    _, left_out = collect_scans(dataset)
    of_magnitude = left_out[0]
    assert "their phase is under another run" in of_magnitude.cause
    assert of_magnitude.remedy.endswith("part-phase")


@pytest.mark.parametrize("parts", [("phase",), ("real",), ("mag", "real"), ("phase", "imag")])
def test_further_reconstruction_need_not_be_complete(dataset, parts):
    """A scanner may store a filtered phase, or a real part, besides the images of the scan."""
    for label in ("rec", "acq"):
        names = {"rec": {"reconstructions": ("x",)}, "acq": {"acquisitions": ("x",)}}[label]
        write_dataset(dataset, runs=("1",), parts=parts, **names, **TWO_ECHOES)
    _, left_out = collect_scans(dataset)
    severities = {problem.scan: problem.severity for problem in left_out}
    assert severities == {"sub-01_rec-x_run-1": "unused", "sub-01_acq-x_run-1": "error"}


def test_partner_must_have_the_same_echoes(dataset):
    magnitude(dataset, subjects=("02",), acquisitions=("a",), runs=("1",))
    write_dataset(dataset, subjects=("02",), parts=("phase",), echo_times=(0.02,), suffix="T2starw")
    _, left_out = collect_scans(dataset)
    assert not any("is under another" in problem.cause for problem in left_out)


def test_the_complete_suffix_of_two_is_used(tmp_path):
    write_dataset(tmp_path, suffix="T2starw", echo_times=(0.02,))
    magnitude(tmp_path)
    (scan,), _ = collect_scans(tmp_path)
    assert scan.suffix == "T2starw"


def test_audit_has_a_row_for_what_is_not_used(dataset, tmp_path, capsys):
    magnitude(dataset, reconstructions=("norm",), runs=("1",))
    table = tmp_path / "audit.tsv"
    audit.main([str(dataset), "--no-sign-check", "--output", str(table)])
    heading, row, _ = (line.split("\t") for line in table.read_text().splitlines())
    cells = dict(zip(heading, row, strict=True))
    assert (cells["scan"], cells["subject"]) == ("sub-01_rec-norm_run-1", "01")
    assert cells["verdict"] == "unused"
    assert "magnitude without phase; sub-01_run-1 is complete" in cells["problems"]
    printed = capsys.readouterr().out
    assert "2 scans: " in printed
    assert "1 not used" in printed


def test_sidecars_may_be_broken(dataset):
    magnitude(dataset, reconstructions=("norm",), runs=("1",))
    broken = dataset / "sub-01/anat/sub-01_rec-norm_run-1_echo-1_part-mag_MEGRE.json"
    broken.write_text(json.dumps([1]))
    (scan,), (problem,) = collect_scans(dataset)
    assert scan.label == "sub-01_run-1"
    assert problem.severity == "unused"
