"""The audit lists scans, their protocols and deviations, and problems, also by its exit code."""

import io
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.analytic import centred_coordinates
from helpers.datasets import bright_head

from multiqsm.cli.audit import main
from multiqsm.dataset.audit import (
    COLUMNS,
    PRINTED_COLUMNS,
    audit_problems,
    audit_table,
    inspect_scans,
    print_audit,
)
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.problems import Problem

SITES = {"01": "North", "02": "North", "03": "North", "04": "South", "05": "South", "06": "South"}


def study(make_dataset, **of_subject):
    """Six people at two sites; `of_subject` changes the metadata of some, as ``sub02={...}``."""
    for number, subject in enumerate(SITES):
        random = np.random.default_rng(number)  # different images
        root = make_dataset(
            subjects=(subject,),
            voxels=lambda part, te, random=random: random.uniform(
                *((-3, 3) if part == "phase" else (50, 100)), (6, 5, 4)
            ),
            metadata={
                "FlipAngle": 15,
                "RepetitionTime": 0.03,
                **of_subject.get(f"sub{subject}", {}),
            },
        )
    rows = [f"sub-{subject}\t{site}" for subject, site in SITES.items()]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tsite", *rows]) + "\n")
    return root


def audit(root, **options):
    scans, left_out = collect_scans(root, none_is_an_error=False)
    inspections = inspect_scans(scans, **options)
    problems = audit_problems(inspections, left_out)
    return audit_table(inspections, problems), problems


def printed(table, problems, stream=None):
    stream = stream or io.StringIO()
    print_audit(table, problems, stream)
    return stream.getvalue()


def test_row_of_a_scan(make_dataset):
    root = make_dataset(
        sessions=("A",),
        runs=("1",),
        metadata={
            "Manufacturer": "GE MEDICAL SYSTEMS",
            "ManufacturersModelName": "SIGNA",
            "SoftwareVersions": ["DV26"],
            "FlipAngle": 15,
            "RepetitionTimeExcitation": 0.03,
        },
    )
    table, problems = audit(root)
    assert problems == []
    assert list(table.columns) == list(COLUMNS)
    row = table.iloc[0].to_dict()
    expected = {
        "scan": "sub-01_ses-A_run-1",
        "subject": "01",
        "session": "A",
        "run": "1",
        "site": "A",
        "site_source": "the session label",
        "is_phantom": False,
        "suffix": "MEGRE",
        "n_echoes": 3,
        "echo_times": "6, 12, 18",
        "echo_time_range": "6…18",
        "repetition_time": 0.03,
        "flip_angle": 15,
        "field_strength": 3,
        "centre_frequency": 123.2,
        "centre_frequency_source": "ImagingFrequency",
        "manufacturer": "GE MEDICAL SYSTEMS",
        "model": "SIGNA",
        "software": "['DV26']",
        "phase_units": "rad",
        "phase_encoding": "radians, -π to π",
        "phase_sign": -1,
        "b0_dir": "0.0000, 0.0000, 1.0000",
        "b0_angle": 0,
        "matrix": "6×5×4",
        "voxel_size": "1×1×2",
        "mask": "auto",
        "verdict": "ok",
        "n_errors": 0,
    }
    assert {key: row[key] for key in expected} == expected
    assert "GE" in row["phase_sign_source"]
    low, high = map(float, row["phase_range"].split(" to "))
    assert -np.pi < low < 0 < high < np.pi
    assert row["saturated"] == pytest.approx(1 / 120)


def test_real_scans(shared):
    table, problems = audit(shared / "data" / "real_bids")
    assert problems == []
    assert list(table["verdict"]) == ["ok", "ok"]
    assert list(table["b0_angle"]) == pytest.approx([0, 3.49], abs=0.01)
    assert list(table["centre_frequency_source"]) == [
        "MagneticFieldStrength, nominal",
        "ImagingFrequency",
    ]
    assert table["is_bipolar"].to_list() == [False, None]
    assert abs(table["echo_offset"][0]) < 0.01


@pytest.mark.parametrize(("manufacturer", "sign"), [("Philips", 1), ("GE MEDICAL SYSTEMS", -1)])
def test_sign_of_a_real_head(shared, tmp_path, manufacturer, sign):
    root = tmp_path / "raw"
    shutil.copytree(shared / "data" / "real_bids", root, copy_function=shutil.copyfile)
    for path in root.rglob("sub-philips3T*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "Manufacturer": manufacturer}))
    table, problems = audit(root, check_sign=True)
    crop, head = table["sign_asymmetry"]
    assert np.isnan(crop)  # its volume is only 23 mL
    assert sign * head > 0.5
    assert [problem.scan for problem in problems] == ([] if sign == 1 else ["sub-philips3T"])


def test_tilt_and_mask_and_parts(make_dataset):
    angle = np.radians(10)
    affine = np.eye(4)
    affine[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    root = make_dataset(parts=("real", "imag"), affine=affine)
    mask = root / "derivatives/manual/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.uint8), affine), mask)
    table, _ = audit(root)
    assert table["b0_angle"][0] == pytest.approx(10)
    assert table["b0_dir"][0] == "0.0000, 0.1736, 0.9848"
    assert (table["mask"][0], table["phase_encoding"][0]) == ("user", "real and imaginary parts")


def test_sign_chosen_by_the_user_has_precedence(make_dataset):
    scans, _ = collect_scans(make_dataset())
    table = audit_table(inspect_scans(scans), [], phase_sign=-1)
    assert (table["phase_sign"][0], table["phase_sign_source"][0]) == (-1, "-1: given by the user")


def test_deviations_name_field_value_and_majority(make_dataset):
    changes = {"FlipAngle": 12, "MagneticFieldStrength": 1.5, "ImagingFrequency": 63.9}
    table, problems = audit(
        study(make_dataset, sub02={"FlipAngle": 20}, sub04=changes, sub05=changes, sub06=changes)
    )
    assert list(table["site_deviations"].fillna("")) == [
        "",
        "flip angle (°) 20.0, most have 15.0",
        "",
        "",
        "",
        "",
    ]
    assert [(problem.scan, problem.severity) for problem in problems] == [("sub-02", "warning")]
    assert (
        problems[0].cause
        == "differs from most scans of site North: flip angle (°) 20.0, most have 15.0"
    )
    assert list(table["verdict"]) == ["ok", "warning", "ok", "ok", "ok", "ok"]
    # Three of six have 3 T: that is no majority that the others could deviate from.
    assert table["study_deviations"].isna().all()


def test_site_that_differs_from_the_study_gives_no_warning(make_dataset):
    table, problems = audit(
        study(
            make_dataset, sub04={"FlipAngle": 12}, sub05={"FlipAngle": 12}, sub06={"FlipAngle": 15}
        )
    )
    assert [problem.scan for problem in problems] == ["sub-06"]
    assert table["study_deviations"].notna().to_list() == [False] * 3 + [True, True, False]


def test_phantoms_are_not_compared_with_people(make_dataset):
    root = study(make_dataset, sub03={"FlipAngle": 30})
    (root / "participants.tsv").write_text(
        "participant_id\tsite\tspecies\nsub-01\tN\tn/a\nsub-02\tN\tn/a\nsub-03\tN\tphantom\n"
        "sub-04\tN\tn/a\nsub-05\tN\tn/a\nsub-06\tN\tn/a\n"
    )
    table, problems = audit(root)
    assert problems == []
    assert table["is_phantom"].sum() == 1


def test_copy_of_another_scan_is_detected(make_dataset):
    root = study(make_dataset)
    for image in (root / "sub-01/anat").glob("*.nii.gz"):
        shutil.copy(image, root / "sub-04/anat" / image.name.replace("sub-01", "sub-04"))
    _, (problem,) = audit(root)
    assert str(problem).startswith(
        "sub-04: all its images are identical to those of sub-01; find out"
    )


def test_image_of_another_scan_is_detected(make_dataset):
    root = study(make_dataset)
    name = "sub-01/anat/sub-01_echo-2_part-mag_MEGRE.nii.gz"
    shutil.copy(root / name, root / name.replace("sub-01", "sub-04"))
    _, problems = audit(root)
    assert {(problem.scan, problem.cause) for problem in problems} == {
        ("sub-01", "some of its images are identical to those of sub-04"),
        ("sub-04", "some of its images are identical to those of sub-01"),
    }


def echoes_named_as_scans(make_dataset, echoes, *, suffix="T2starw", **options):
    """Write scans of one session with one echo each: label, echo time (ms) and echo number."""
    for place, (label, time, number) in enumerate(echoes):
        entity = "acquisitions" if label.startswith("te") else "runs"
        random = np.random.default_rng(place)
        root = make_dataset(
            sessions=("A",),
            suffix=suffix,
            echo_times=(time / 1000,),
            voxels=lambda part, te, random=random: random.uniform(
                *((-3, 3) if part == "phase" else (50, 100)), (6, 5, 4)
            ),
            metadata={"FlipAngle": 15, "EchoNumber": number},
            **{entity: (label,), **options},
        )
    return root


def echo_warnings(root):
    """Return causes and remedies, by scan, of the warnings about echoes."""
    _, problems = audit(root)
    warnings = {}
    for problem in problems:
        assert problem.severity == "warning"
        if "echo" in problem.cause.lower():
            warnings[problem.scan] = (problem.cause, problem.remedy)
    return warnings


# Label, echo time in ms, and EchoNumber of echoes that are named as scans.
NUMBERED = [("1", 6, 1), ("2", 14, 2), ("3", 22, 3), ("4", 30, 4)]
UNNUMBERED = [("1", 6, None), ("2", 14, None), ("3", 22, None), ("4", 30, None)]
NAMED_BY_ECHO = [("te1", 6, None), ("te2", 14, None), ("te3", 22, None), ("te4", 30, None)]
EQUAL_TIMES = [("1", 6, 1), ("2", 6, 2), ("3", 6, 3)]


@pytest.mark.parametrize(
    ("echoes", "suffix", "text"),
    [
        (NUMBERED, "T2starw", "EchoTime 6, 14, 22, 30 ms"),
        (UNNUMBERED, "T2starw", "EchoTime 6, 14, 22, 30 ms"),
        (NUMBERED[:3], "T2starw", "EchoTime 6, 14, 22 ms"),
        (UNNUMBERED, "MEGRE", "EchoTime 6, 14, 22, 30 ms"),
        (NAMED_BY_ECHO, "T2starw", "EchoTime 6, 14, 22, 30 ms"),
        ([("4", 6, None), ("3", 14, None)], "T2starw", "EchoTime 6, 14 ms"),
        (EQUAL_TIMES, "T2starw", "EchoNumber 1, 2, 3, EchoTime 6, 6, 6 ms"),
    ],
)
def test_echoes_named_as_scans_are_detected(make_dataset, echoes, suffix, text):
    warnings = echo_warnings(echoes_named_as_scans(make_dataset, echoes, suffix=suffix))
    assert len(warnings) == len(echoes)
    for label, (cause, remedy) in warnings.items():
        assert label in cause
        assert f"look like the echoes of one scan: {text}" in cause
        assert f"name them echo-1 to echo-{len(echoes)} of one scan" in remedy
        assert "none is a repeat of another" in remedy
        assert ("correct EchoTime" in remedy) == text.startswith("EchoNumber")


def test_repeated_echoes_named_as_runs_are_detected(make_dataset):
    echoes = [("1", 6, None), ("2", 14, None), ("3", 6, None), ("4", 14, None)]
    warnings = echo_warnings(echoes_named_as_scans(make_dataset, echoes))
    assert len(warnings) == 4
    for cause, _ in warnings.values():
        assert "the echoes of one scan and its repeats: EchoTime 6, 14 ms" in cause


@pytest.mark.parametrize(
    "echoes",
    [
        [("1", 6, None), ("2", 6, None)],
        [("1", 6, 1), ("2", 6, 1), ("3", 6, None)],
        [("1", 5.12, None), ("2", 5.08, None)],  # the shortest that the slab's angle allows
    ],
)
def test_repeats_are_not_mistaken_for_echoes(make_dataset, echoes):
    assert echo_warnings(echoes_named_as_scans(make_dataset, echoes)) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"FlipAngle": 20}},
        {"metadata": {"FlipAngle": 15, "ImagingFrequency": 123.2003}},
        {"affine": np.diag([1.0, 1, 2, 1])},
        {"shape": (6, 5, 5), "voxels": None},
    ],
)
def test_scans_that_differ_in_other_parameters_are_not_mistaken_for_echoes(make_dataset, changes):
    """Another flip angle, frequency, position or matrix: two acquisitions in one session."""
    echoes_named_as_scans(make_dataset, [("1", 6, None)])
    options = {"metadata": {"FlipAngle": 15}, **changes}
    root = make_dataset(
        sessions=("A",), runs=("2",), suffix="T2starw", echo_times=(0.014,), **options
    )
    assert echo_warnings(root) == {}


def test_sessions_are_not_mistaken_for_echoes(make_dataset):
    for session, time in (("A", 0.006), ("B", 0.014)):
        root = make_dataset(sessions=(session,), suffix="T2starw", echo_times=(time,))
    assert echo_warnings(root) == {}


def test_runs_with_different_echo_times_are_detected(make_dataset):
    """Interleaved echoes look like one scan. If the last echo is missing, runs are not repeats."""
    for run, times in (("1", (0.006, 0.018)), ("2", (0.012, 0.024))):
        root = make_dataset("interleaved", runs=(run,), echo_times=times, voxels=_random(run))
    warnings = echo_warnings(root)
    for cause, _ in warnings.values():
        assert "look like the echoes of one scan: EchoTime 6, 12, 18, 24 ms" in cause
    for run, times in (("1", (0.006, 0.012, 0.018)), ("2", (0.006, 0.012))):
        root = make_dataset("cut", runs=(run,), echo_times=times, voxels=_random(run))
    warnings = echo_warnings(root)
    cause = "runs differ only in their echo times: sub-01_run-1 6, 12, 18 ms; sub-01_run-2 6, 12 ms"
    causes, _ = zip(*warnings.values(), strict=True)
    assert set(causes) == {cause}
    # Different acq- labels mean two protocols, which need not agree.
    for name, times in (("a", (0.006, 0.012, 0.018)), ("b", (0.006, 0.012))):
        root = make_dataset("two", acquisitions=(name,), echo_times=times, voxels=_random(name))
    assert echo_warnings(root) == {}


def _random(seed):
    random = np.random.default_rng(ord(seed))
    return lambda part, te: random.uniform(*((-3, 3) if part == "phase" else (50, 100)), (6, 5, 4))


def test_the_case_of_echoes_as_runs(shared):
    warnings = echo_warnings(shared / "cases" / "echoes_as_runs")
    assert sorted(warnings) == [f"sub-01_run-{run}" for run in range(1, 5)]


def test_files_of_no_scan_have_a_row(make_dataset):
    root = study(make_dataset)
    (root / "sub-02/anat/sub-02_echo-1_part-mag_MEGRE.json").write_text("[1]")
    stray = root / "sub-03/anat/sub-03_echo-1_part-mag_x_MEGRE.nii.gz"
    shutil.copy(root / "sub-03/anat/sub-03_echo-1_part-mag_MEGRE.nii.gz", stray)
    table, problems = audit(root)
    assert list(table["scan"]) == sorted([*(f"sub-{subject}" for subject in SITES), stray.name])
    verdicts = table.set_index("scan")["verdict"]
    assert set(verdicts[verdicts == "error"].index) == {"sub-02", stray.name}
    assert table["site"].isna().sum() == 2
    assert {problem.remedy for problem in problems} == {
        "correct the file's JSON",
        "rename the file",
    }


def test_problem_without_a_remedy_gets_a_general_one():
    (problem,) = audit_problems(
        [],
        [
            Problem("sub-01", "", "strange", ""),
            Problem("sub-02", "", "removed by a filter", "", "note"),
        ],
    )
    assert (problem.cause, problem.severity) == ("strange", "error")
    assert problem.remedy


def test_number_of_processes_does_not_change_the_table(make_dataset):
    root = study(make_dataset, sub02={"FlipAngle": 20})
    alone, together = audit(root), audit(root, n_procs=2)
    pd.testing.assert_frame_equal(alone[0], together[0])
    assert alone[1] == together[1]


def test_lines_have_at_most_120_columns(make_dataset):
    long = "x" * 60
    root = make_dataset(
        subjects=(long,),
        sessions=(long,),
        echo_times=tuple(0.0123456 + 0.001 * n for n in range(11)),
        affine=np.diag([0.46875, 0.46875, 0.46875, 1]),
        metadata={"InstitutionName": "Universitätsklinikum " * 5},
    )
    table, _ = audit(root)
    lines = printed(table, []).splitlines()
    assert max(map(len, lines)) <= 120
    assert sum(width for _, _, width in PRINTED_COLUMNS) + 2 * (len(PRINTED_COLUMNS) - 1) <= 120
    assert "0.469×0.469×…" in lines[1] or "0.469×0.469×0" in lines[1]
    assert lines[-1] == "1 scan: 1 ok, 0 with warnings, 0 with errors"


def test_problems_are_printed_below_the_table_with_remedies(make_dataset):
    text = printed(
        *audit(study(make_dataset, sub02={"FlipAngle": 20}, sub05={"ImagingFrequency": 0}))
    )
    lines = text.splitlines()
    assert (
        " ".join(lines[0].split())
        == "scan site n TE (ms) T matrix voxel (mm) B0° phase ± mask verdict"
    )
    assert " ".join(lines[1].split()) == "sub-01 North 3 6…18 3 6×5×4 1×1×2 0 radians +1 auto ok"
    (error,) = filter(re.compile("error: sub-05: ").match, lines)
    assert error.endswith("write it in MHz, such as 123.2")
    assert lines[-1] == "6 scans: 4 ok, 1 with warnings, 1 with errors"


def test_printing_to_an_ascii_stream_replaces_characters(make_dataset):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_audit(*audit(make_dataset()), stream)
    stream.flush()
    assert b"6?5?4" in raw.getvalue()


@pytest.mark.parametrize(
    ("fields", "options", "code"),
    [
        ({}, [], 0),
        ({}, ["--strict"], 0),
        ({"FlipAngle": 20}, [], 0),
        ({"FlipAngle": 20}, ["--strict"], 1),
        ({"ImagingFrequency": 0}, [], 1),
        ({"FlipAngle": 20}, ["--strict", "--participant-label", "01", "03"], 0),
    ],
)
def test_exit_codes(make_dataset, fields, options, code, capsys):
    root = study(make_dataset, sub02=fields)
    assert main([str(root), "--n-procs", "1", *options]) == code
    assert " scans: " in capsys.readouterr().out


def test_all_scans_unusable_is_an_error(make_dataset, capsys):
    assert main([str(make_dataset(parts=("mag",))), "--n-procs", "1"]) == 1
    assert "1 scan: 0 ok, 0 with warnings, 1 with errors" in capsys.readouterr().out


def test_dataset_without_scans_is_an_error(tmp_path, make_dataset, capsys):
    assert main([str(tmp_path)]) == 2
    assert main([str(make_dataset(suffix="T1w", echo_times=(0.003,), parts=(None,)))]) == 2
    assert capsys.readouterr().err.count("multiqsm-audit: ") == 2


def test_filter_files_that_cannot_be_read(make_dataset, tmp_path, capsys):
    root = str(make_dataset())
    broken = tmp_path / "filter.json"
    broken.write_text('{"megre":\n {"session" "A"}}')
    assert main([root, "--bids-filter-file", str(broken)]) == 2
    cause = "not valid JSON (line 2: Expecting ':' delimiter)"
    assert f"--bids-filter-file {broken}: {cause}" in capsys.readouterr().err
    absent = tmp_path / "absent.json"
    assert main([root, "--bids-filter-file", str(absent)]) == 2
    assert f"--bids-filter-file {absent}: no such file" in capsys.readouterr().err


def test_table_is_written_and_read_back(make_dataset, tmp_path, capsys):
    output = tmp_path / "new folder" / "audit.tsv"
    chosen = tmp_path / "filter.json"
    chosen.write_text(json.dumps({"megre": {"session": "A"}}))
    root = make_dataset(sessions=("A", "B"))
    assert (
        main([str(root), "-o", str(output), "--n-procs", "1", "--bids-filter-file", str(chosen)])
        == 0
    )
    table = pd.read_csv(output, sep="\t", na_values="n/a")
    assert list(table.columns) == list(COLUMNS)
    assert list(table["scan"]) == ["sub-01_ses-A", "sub-01_ses-B"]
    assert list(table["verdict"]) == ["ok", "unused"]
    assert list(output.parent.iterdir()) == [output]
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main([str(root), "-o", str(blocked / "audit.tsv"), "--n-procs", "1"]) == 2


@pytest.mark.parametrize("parts", [("mag", "phase"), ("real", "imag")])
@pytest.mark.parametrize(
    ("manufacturer", "is_right"), [("Siemens", True), ("GE MEDICAL SYSTEMS", False)]
)
def test_sign_of_the_phase_is_checked_in_a_coarse_map(make_dataset, parts, manufacturer, is_right):
    root = make_dataset(
        parts=parts,
        affine=np.diag([3, 3, 3, 1]),
        voxels=bright_head,
        metadata={"Manufacturer": manufacturer},
    )
    table, problems = audit(root, check_sign=True)
    assert (table["sign_asymmetry"][0] > 0.25) == is_right
    assert (table["sign_asymmetry"][0] < -0.25) != is_right
    assert bool(problems) != is_right
    for problem in problems:
        assert problem.severity == "warning"
        assert (
            "which suggests a wrong phase sign (-1: Manufacturer is 'GE MEDICAL SYSTEMS'"
            in problem.cause
        )
        assert "--phase-sign" in problem.remedy
    assert audit(root)[0]["sign_asymmetry"].isna().all()


def test_sign_is_not_checked_in_phantoms_and_scans_with_errors(make_dataset):
    root = make_dataset(
        voxels=bright_head,
        affine=np.diag([3, 3, 3, 1]),
        metadata={"Manufacturer": "GE MEDICAL SYSTEMS"},
    )
    (root / "participants.tsv").write_text("participant_id\tspecies\nsub-01\tphantom\n")
    table, problems = audit(root, check_sign=True)
    assert table["is_phantom"].all()
    assert table["sign_asymmetry"].isna().all()
    assert problems == []
    (root / "participants.tsv").unlink()
    next(root.rglob("*echo-2_part-phase*.json")).write_text("[]")
    table, _ = audit(root, check_sign=True)
    assert (table["verdict"][0], table["sign_asymmetry"].isna().all()) == ("error", True)


def test_sign_is_checked_in_the_users_mask(make_dataset):
    root = make_dataset(
        voxels=bright_head,
        affine=np.diag([3, 3, 3, 1]),
        metadata={"Manufacturer": "GE MEDICAL SYSTEMS"},
    )
    path = root / "derivatives/manual/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    path.parent.mkdir(parents=True)
    (root / "derivatives/manual/dataset_description.json").write_text(
        '{"Name": "Masks", "BIDSVersion": "1.10.0"}'
    )
    image = nib.load(next(root.rglob("*echo-1_part-mag*.nii.gz")))
    distance = sum(c**2 for c in centred_coordinates(image.shape, (3, 3, 3))) ** 0.5
    # 110 and 520 mL; NaN is outside as well.
    for radius, is_enough, outside in ((30, False, np.nan), (50, True, 0)):
        mask = np.where(distance < radius, 1, outside).astype(np.float32)
        nib.save(nib.Nifti1Image(mask, image.affine), path)
        table, problems = audit(root, check_sign=True)
        assert table["mask"][0] == "user"
        assert (table["sign_asymmetry"].notna().all(), bool(problems)) == (is_enough, is_enough)


@pytest.mark.parametrize(("option", "is_checked"), [((), True), (("--no-sign-check",), False)])
def test_sign_check_can_be_left_out(make_dataset, tmp_path, capsys, option, is_checked):
    root = make_dataset(
        voxels=bright_head,
        affine=np.diag([3, 3, 3, 1]),
        metadata={"Manufacturer": "GE MEDICAL SYSTEMS"},
    )
    assert main([str(root), "-o", str(tmp_path / "audit.tsv"), "--strict", *option]) == int(
        is_checked
    )
    assert ("wrong phase sign" in capsys.readouterr().out) == is_checked
    assert (
        pd.read_csv(tmp_path / "audit.tsv", sep="\t")["sign_asymmetry"].notna().all() == is_checked
    )
