"""Files are grouped to scans by name, and every file that is not used is reported with a reason."""

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.index import list_scans
from multiqsm.dataset.outputs import write_dataset_description
from multiqsm.dataset.problems import DatasetError, Problem


def labels(scans):
    return [scan.label for scan in scans]


def scans_of(problems):
    return [problem.scan for problem in problems]


def edit(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_scan_of_a_plain_dataset(make_dataset):
    scans, left_out = collect_scans(make_dataset())
    (scan,) = scans
    assert left_out == []
    assert scan.entities == {"subject": "01"}
    assert (scan.label, scan.node_name, scan.suffix) == ("sub-01", "sub_01", "MEGRE")
    assert scan.echo_times == (0.006, 0.012, 0.018)
    for echo, path in enumerate(scan.phase, start=1):
        assert path.name == f"sub-01_echo-{echo}_part-phase_MEGRE.nii.gz"
    assert (scan.field_strength, scan.imaging_frequency, scan.manufacturer) == (
        3.0,
        123.2,
        "Siemens",
    )
    assert scan.units == "rad"
    assert scan.metadata["Manufacturer"] == "Siemens"
    assert scan.brain_mask is None


def test_every_entity_distinguishes_scans(make_dataset):
    root = make_dataset(
        subjects=("01", "02"),
        sessions=("A", "B"),
        acquisitions=(None, "x"),
        reconstructions=("n",),
        runs=("1", "02"),
    )
    scans, left_out = collect_scans(root)
    assert left_out == []
    assert len(scans) == 16
    assert labels(scans)[:2] == [
        "sub-01_ses-A_acq-x_rec-n_run-02",
        "sub-01_ses-A_acq-x_rec-n_run-1",
    ]
    assert scans[0].node_name == "sub_01_ses_A_acq_x_rec_n_run_02"
    for scan in scans:
        assert len(scan.magnitude) == len(scan.phase) == 3
        assert all(path.name.startswith(f"{scan.label}_echo-") for path in scan.files)


def test_node_names_are_accepted_by_nipype(make_dataset):
    from nipype.pipeline.engine import Workflow

    (scan,), _ = collect_scans(make_dataset(subjects=("a+b",), acquisitions=("x",)))
    assert Workflow(name=scan.node_name).name == "sub_aplusb_acq_x"


def test_files_are_sorted_by_echo_time_not_by_name(make_dataset):
    times = tuple(0.002 * echo for echo in range(1, 12))
    (scan,), _ = collect_scans(make_dataset(echo_times=times))
    assert scan.echo_times == pytest.approx(times)
    assert scan.magnitude[-1].name == "sub-01_echo-11_part-mag_MEGRE.nii.gz"


def test_sidecars_are_inherited(make_dataset):
    root = make_dataset(
        sessions=("A",),
        metadata={"MagneticFieldStrength": None, "ImagingFrequency": None, "Manufacturer": None},
    )
    (root / "MEGRE.json").write_text(
        json.dumps({"MagneticFieldStrength": 7, "Manufacturer": "Philips"})
    )
    (root / "sub-01/sub-01_MEGRE.json").write_text(json.dumps({"Manufacturer": "GE"}))
    (scan,), _ = collect_scans(root)
    assert (scan.field_strength, scan.manufacturer) == (7.0, "GE")


def test_own_sidecar_has_precedence_over_others_in_its_folder(make_dataset):
    (scan,), _ = collect_scans(make_dataset(parts=(None, "phase")))
    for path in scan.phase:
        assert scan.sidecars[path.name]["Units"] == "rad"


def test_real_and_imaginary_images(make_dataset):
    (scan,), left_out = collect_scans(make_dataset(parts=("real", "imag")))
    assert left_out == []
    assert list(scan.parts) == ["real", "imaginary"]
    assert scan.magnitude == scan.phase == ()
    assert scan.imaginary[2].name == "sub-01_echo-3_part-imag_MEGRE.nii.gz"


def test_phase_is_preferred_with_a_note(make_dataset):
    (scan,), _ = collect_scans(make_dataset(parts=("mag", "phase", "real", "imag")))
    assert list(scan.parts) == ["magnitude", "phase"]
    assert "real and imaginary images not used" in scan.notes[0]


def test_single_echo(make_dataset):
    (scan,), _ = collect_scans(make_dataset(suffix="T2starw", echo_times=(0.02,)))
    assert (scan.suffix, scan.echo_times, len(scan.files)) == ("T2starw", (0.02,), 2)


def test_image_without_part_is_used_as_magnitude_with_a_note(make_dataset):
    (scan,), left_out = collect_scans(make_dataset(parts=(None, "phase")))
    assert left_out == []
    assert scan.magnitude[0].name == "sub-01_echo-1_MEGRE.nii.gz"
    assert scan.notes[0] == "sub-01_echo-1_MEGRE.nii.gz: no part in the name, used as the magnitude"


def test_image_without_part_beside_a_magnitude_is_left_out(make_dataset):
    (scan,), left_out = collect_scans(make_dataset(parts=("mag", None, "phase")))
    assert len(scan.magnitude) == 3
    assert left_out[0].scan == "sub-01_echo-1_MEGRE.nii.gz"
    assert "sub-01_echo-1_part-mag_MEGRE.nii.gz exists" in left_out[0].text


@pytest.mark.parametrize("part", ["mag", "phase", "real"])
def test_one_part_alone_is_left_out_with_its_files(make_dataset, part):
    root = make_dataset(subjects=("01", "02"))
    shutil.rmtree(root / "sub-02")
    make_dataset(subjects=("02",), parts=(part,))
    scans, left_out = collect_scans(root)
    assert labels(scans) == ["sub-01"]
    assert left_out[0].scan == "sub-02"
    assert left_out[0].severity == "error"
    assert f"sub-02_echo-3_part-{part}_MEGRE.nii.gz" in left_out[0].text
    assert "are needed" in left_out[0].text


def test_stack_of_echoes_is_left_out(make_dataset):
    root = make_dataset(subjects=("01", "02"))
    for part in ("mag", "phase"):
        first = root / f"sub-02/anat/sub-02_echo-1_part-{part}_MEGRE.nii.gz"
        stack = nib.Nifti1Image(np.stack([nib.load(first).get_fdata()] * 3, axis=3), np.eye(4))
        for path in first.parent.glob(f"*part-{part}*"):
            path.unlink()
        nib.save(stack, first.with_name(f"sub-02_part-{part}_MEGRE.nii.gz"))
    scans, left_out = collect_scans(root)
    assert labels(scans) == ["sub-01"]
    assert left_out[0].scan == "sub-02"
    assert "sub-02_part-mag_MEGRE.nii.gz" in left_out[0].text
    assert "4-D" in left_out[0].text


def test_two_files_of_one_echo_are_left_out(make_dataset):
    root = make_dataset(subjects=("01", "02"))
    image = root / "sub-02/anat/sub-02_echo-2_part-mag_MEGRE.nii.gz"
    nib.save(nib.load(image), image.with_suffix(""))
    scans, left_out = collect_scans(root)
    assert labels(scans) == ["sub-01"]
    assert "sub-02_echo-2_part-mag_MEGRE.nii.gz" in left_out[0].text
    assert "both the magnitude of echo 2" in left_out[0].text


def test_single_echo_scan_of_the_same_name_is_left_out(make_dataset):
    make_dataset(suffix="T2starw", echo_times=(0.02,))
    (scan,), left_out = collect_scans(make_dataset())
    assert scan.suffix == "MEGRE"
    assert "sub-01_part-mag_T2starw.nii.gz" in scans_of(left_out)


def test_entity_that_gradient_echo_scans_may_not_have(make_dataset):
    root = make_dataset(subjects=("01", "02"))
    for path in (root / "sub-02/anat").iterdir():
        path.rename(path.with_name(path.name.replace("_echo", "_inv-1_echo")))
    scans, left_out = collect_scans(root)
    assert labels(scans) == ["sub-01"]
    assert "sub-02_inv-1_echo-1_part-mag_MEGRE.nii.gz" in left_out[0].text
    assert "BIDS does not allow inv" in left_out[0].text


def test_labels_select_with_and_without_prefix(make_dataset):
    root = make_dataset(subjects=("01", "02", "010"), sessions=("A", "B"))
    scans, _ = collect_scans(root, participant_label=["sub-01"], session_label=["ses-B"])
    assert labels(scans) == ["sub-01_ses-B"]
    scans, _ = collect_scans(root, participant_label=["010", "02"], session_label=["A"])
    assert labels(scans) == ["sub-010_ses-A", "sub-02_ses-A"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("x", ["sub-01_acq-x"]),
        (["x", "y"], ["sub-01_acq-x", "sub-01_acq-y"]),
        (None, ["sub-01"]),
        ("*", ["sub-01_acq-x", "sub-01_acq-y"]),
    ],
)
def test_filter_file_selects(make_dataset, label, expected):
    root = make_dataset(acquisitions=(None, "x", "y"))
    scans, _ = collect_scans(root, bids_filter={"megre": {"acquisition": label}})
    assert labels(scans) == expected


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (
            {"participant_label": ["01", "03"]},
            ["--participant-label 03", "its participants are: 01, 02"],
        ),
        (
            {"session_label": ["C"]},
            ["--session-label C", "removed every remaining image (12)", "A (6), B (6)"],
        ),
        (
            {"session_label": ["A"], "bids_filter": {"megre": {"run": 2}}},
            ["--bids-filter-file, run 2", "removed every remaining image (6)", "(no run) (6)"],
        ),
        (
            {"bids_filter": {"megre": {"acq": "x"}}},
            ["--bids-filter-file, acq", "not a recognized entity"],
        ),
        ({"bids_filter": {"t1w": {"run": 1}}}, ["no query t1w", "megre"]),
        ({"bids_filter": {"megre": "x"}}, ["megre is 'x'", "write an object of entities"]),
        ({"bids_filter": {"megre": {"part": "mag"}}}, ["sub-02_ses-B", "only magnitude images"]),
        ({"derivatives": ["no/such/folder"]}, ["no/such/folder", "no such folder"]),
    ],
)
def test_error_names_the_filter_that_removed_the_last_image(make_dataset, options, messages):
    root = make_dataset(subjects=("01",), sessions=("A",), echo_times=(0.006, 0.012, 0.018))
    make_dataset(subjects=("02",), sessions=("B",))
    with pytest.raises(DatasetError) as error:
        collect_scans(root, **options)
    for message in messages:
        assert message in str(error.value)


def test_error_lists_the_suffixes_of_a_dataset_without_gradient_echo_images(make_dataset):
    root = make_dataset(suffix="T1w", echo_times=(0.003,), parts=(None,))
    with pytest.raises(
        DatasetError,
        match=r"no image with suffix MEGRE or T2starw in an anat folder of sub-01; "
        r"suffixes in these folders: T1w \(1\)",
    ):
        collect_scans(root)


def test_participants_without_scans_are_left_out_with_the_reason(make_dataset):
    root = make_dataset(subjects=("01",), sessions=("A",))
    make_dataset(subjects=("02",), sessions=("B",))
    make_dataset(subjects=("03",), suffix="T1w", echo_times=(0.003,), parts=(None,))
    scans, left_out = collect_scans(root, session_label=["A"])
    assert labels(scans) == ["sub-01_ses-A"]
    assert left_out == [
        Problem(
            "sub-03",
            "",
            "no image with suffix MEGRE or T2starw in an anat folder",
            "",
            "note",
            "03",
        ),
        Problem("sub-02_ses-B", "", "removed by --session-label A", "", "unused", "02"),
    ]


def test_label_that_bids_does_not_allow(make_dataset):
    root = make_dataset(sessions=("A", "2020-01-01"))
    scans, left_out = collect_scans(root)
    assert labels(scans) == ["sub-01_ses-A"]
    assert "sub-01_ses-2020-01-01_echo-1_part-mag_MEGRE.nii.gz" in scans_of(left_out)
    assert "letters, digits and +" in left_out[0].text


def test_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match=r"no dataset_description\.json"):
        collect_scans(tmp_path)


def test_dataset_without_participants(make_dataset):
    root = make_dataset(subjects=())
    with pytest.raises(DatasetError, match=r"no sub-\* folder"):
        collect_scans(root)


def test_broken_sidecar_affects_only_its_own_scan(make_dataset):
    root = make_dataset(subjects=("01", "02"))
    (root / "sub-02/anat/sub-02_echo-2_part-mag_MEGRE.json").write_text('{"EchoTime": 0.012,}')
    scans, left_out = collect_scans(root)
    assert labels(scans) == ["sub-01"]
    assert (left_out[0].scan, left_out[0].severity) == ("sub-02", "error")
    assert left_out[0].text.startswith("sub-02_echo-2_part-mag_MEGRE.json: ")


def test_missing_scans_need_not_be_an_error(make_dataset):
    root = make_dataset(parts=("mag",))
    scans, left_out = collect_scans(root, none_is_an_error=False)
    assert scans == []
    assert "only magnitude images" in left_out[0].text


@pytest.mark.parametrize(
    "folder", ["sub-other", "sub-other_x/ses-Z", "run-7", "anat", "x_acq-y", "echo-9_part-imag"]
)
def test_sidecars_above_the_dataset_are_ignored(make_dataset, folder):
    root = make_dataset(f"{folder}/raw", sessions=("A",))
    ((scan,), left_out) = collect_scans(root)
    assert scan.entities == {"subject": "01", "session": "A"}
    assert left_out == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("sub-01_part-magnitude_T2starw", "part-magnitude is none of mag, phase"),
        ("sub-01_run-1a_part-mag_T2starw", "run-1a is not a whole number"),
        ("sub-02_part-mag_T2starw", "its name contradicts its folder, sub-01"),
        ("sub-01_ses-A_part-mag_T2starw", "its name contradicts its folder, sub-01"),
        ("sub-01_acq-a_acq-b_part-mag_T2starw", "it has an entity twice"),
        ("sub-01_part-mag_a b_T2starw", "letters, digits and +"),
        ("sub-01_acq-é_part-mag_T2starw", "letters, digits and +"),
    ],
)
def test_names_that_bids_does_not_allow_are_left_out(make_dataset, name, reason):
    root = make_dataset()
    image = root / "sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz"
    shutil.copy(image, image.with_name(f"{name}.nii.gz"))
    scans, left_out = collect_scans(root)
    assert len(scans[0].files) == 6
    assert scans_of(left_out) == [f"{name}.nii.gz"]
    assert reason in left_out[0].text
    assert left_out[0].severity == "error"


def test_hidden_files_are_ignored(make_dataset):
    root = make_dataset()
    image = root / "sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz"
    shutil.copy(image, image.with_name(f"._{image.name}"))
    assert collect_scans(root)[1] == []


def test_closest_and_most_specific_sidecar_has_precedence(make_dataset):
    root = make_dataset(sessions=("A",), echo_times=(0.006, 0.012))
    subject, anat = root / "sub-01", root / "sub-01/ses-A/anat"
    for path, angle in (
        (root / "MEGRE.json", 1),
        (root / "echo-1_MEGRE.json", 2),
        (subject / "sub-01_echo-2_MEGRE.json", 3),
        (anat / "sub-01_ses-A_echo-2_MEGRE.json", 4),
        (root / "acq-x_MEGRE.json", 9),
        (root / "T2starw.json", 9),
    ):
        path.write_text(json.dumps({"FlipAngle": angle, "Null": None}))
    edit(anat / "sub-01_ses-A_echo-2_part-phase_MEGRE.json", FlipAngle=5)
    ((scan,), _) = collect_scans(root)
    angles = {path.name: scan.sidecars[path.name]["FlipAngle"] for path in scan.files}
    assert list(angles.values()) == [2, 4, 2, 5]  # magnitudes, then phases
    assert "Null" not in scan.sidecars[scan.files[0].name]


@pytest.mark.parametrize(
    ("label", "n_scans"), [(2, 2), ("2", 2), ([1, 2], 3), ("02", 2), (None, 1), ("*", 3)]
)
def test_indices_match_regardless_of_padding(make_dataset, label, n_scans):
    root = make_dataset(runs=("1", "2", "02", None))
    assert len(collect_scans(root, bids_filter={"megre": {"run": label}})[0]) == n_scans


def test_filter_by_a_field_of_the_sidecars(make_dataset):
    root = make_dataset(subjects=("01",), metadata={"FlipAngle": 15})
    make_dataset(subjects=("02",), metadata={"FlipAngle": 20})
    assert labels(collect_scans(root, bids_filter={"megre": {"FlipAngle": 20}})[0]) == ["sub-02"]


def test_metadata_for_derivatives_is_plain(make_dataset):
    fields = {
        "SequenceName": {"a": 1},
        "SoftwareVersions": ["x", "y\n"],
        "FlipAngle": 15,
        "StationName": "\ud800",
    }
    ((scan,), _) = collect_scans(make_dataset(metadata=fields))
    carried = {key: scan.metadata[key] for key in fields if key in scan.metadata}
    assert carried == {"SoftwareVersions": ["x", "y\\n"], "FlipAngle": 15, "StationName": "\\ud800"}


def test_broken_sidecar_is_named(make_dataset):
    root = make_dataset()
    (root / "sub-01/anat/sub-01_echo-2_part-mag_MEGRE.json").write_text('{"EchoTime": 0.012,}')
    with pytest.raises(
        DatasetError, match=r"sub-01_echo-2_part-mag_MEGRE\.json.*correct the file's JSON"
    ):
        collect_scans(root)


def test_other_folders_are_not_indexed(make_dataset):
    root = make_dataset()
    for folder in ("sub-01/func", "derivatives/x/sub-01/anat", "sourcedata/sub-01/anat"):
        (root / folder).mkdir(parents=True)
        shutil.copy(
            root / "sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz",
            root / folder / "sub-01_bad_MEGRE.nii.gz",
        )
    scans, left_out = collect_scans(root)
    assert (len(scans), left_out) == (1, [])


def write_mask(root, dataset, name, sidecar=None):
    path = root / "derivatives" / dataset / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.uint8), np.eye(4)), path)
    if sidecar is not None:
        Path(str(path).replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    return path


def test_brain_mask_of_the_user_is_found_by_entities(make_dataset):
    root = make_dataset(sessions=("A",), runs=("1", "2"))
    mask = write_mask(root, "manual", "sub-01/ses-A/anat/sub-01_ses-A_run-2_desc-brain_mask.nii.gz")
    scans, left_out = collect_scans(root)
    assert [scan.brain_mask for scan in scans] == [None, mask]
    assert left_out == []


def test_mask_of_an_earlier_run_is_not_a_user_mask(make_dataset):
    root = make_dataset()
    write_dataset_description(root / "derivatives/multiqsm", root)
    mask = write_mask(root, "multiqsm", "sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    (scan,), _ = collect_scans(root)
    assert scan.brain_mask is None
    (scan,), _ = collect_scans(root, derivatives=[root / "derivatives/multiqsm"])
    assert scan.brain_mask == mask


def test_mask_made_from_a_t1w_is_left_out(make_dataset):
    root = make_dataset()
    name = "sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    write_mask(root, "fmriprep", name, {"RawSources": ["sub-01/anat/sub-01_T1w.nii.gz"]})
    mask = write_mask(
        root,
        "manual",
        name,
        {"Sources": ["bids:raw:sub-01/anat/sub-01_echo-1_part-mag_MEGRE.nii.gz"]},
    )
    (scan,), left_out = collect_scans(root)
    assert scan.brain_mask == mask
    assert "fmriprep" in left_out[0].scan
    assert "another image" in left_out[0].text


def test_two_masks_are_an_error_of_their_scan_alone(make_dataset):
    root = make_dataset(subjects=("01", "02"))
    for dataset in ("one", "two"):
        write_mask(root, dataset, "sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    scans, (problem,) = collect_scans(root)
    assert [scan.label for scan in scans] == ["sub-02"]
    assert re.search(r"sub-01: .*more than one brain mask .*one.*two.*--derivatives", str(problem))


def test_site_of_the_sessions_table(make_dataset):
    root = make_dataset(sessions=("A", "B", "C"), metadata={"InstitutionName": "Clinic"})
    (root / "sub-01/sub-01_sessions.tsv").write_text(
        "session_id\tsite\nses-A\tNorth\nB\tSouth\nses-C\tn/a\n"
    )
    scans, _ = collect_scans(root)
    assert [scan.site for scan in scans] == ["North", "South", "Clinic"]
    assert scans[0].site_source == "column site of sub-01_sessions.tsv"


def test_site_of_the_participants_table(make_dataset):
    root = make_dataset()
    (root / "participants.tsv").write_text("participant_id\tscanner\nsub-01\tPrisma2\n")
    (scan,), _ = collect_scans(root)
    assert (scan.site, scan.site_source) == ("Prisma2", "column scanner of participants.tsv")


@pytest.mark.parametrize(
    ("sidecar", "sessions", "site", "source"),
    [
        ({"InstitutionName": "Clinic"}, ("A",), "Clinic", "InstitutionName of the sidecar"),
        (
            {"InstitutionName": "Clinic", "StationName": "MR1", "DeviceSerialNumber": "7"},
            ("A",),
            "Clinic MR1",
            "InstitutionName and StationName of the sidecar",
        ),
        ({"DeviceSerialNumber": "41"}, ("A",), "41", "DeviceSerialNumber of the sidecar"),
        ({}, ("A",), "A", "the session label"),
        ({}, (None,), "unknown", "nothing in the dataset"),
    ],
)
def test_site_without_a_table(make_dataset, sidecar, sessions, site, source):
    (scan,), _ = collect_scans(make_dataset(sessions=sessions, metadata=sidecar))
    assert (scan.site, scan.site_source) == (site, source)


def test_invalid_echo_time_is_none(make_dataset):
    root = make_dataset()
    for part in ("mag", "phase"):
        edit(root / f"sub-01/anat/sub-01_echo-2_part-{part}_MEGRE.json", EchoTime="12 ms")
    (scan,), _ = collect_scans(root)
    assert scan.echo_times == (0.006, None, 0.018)


def test_real_scans(shared):
    scans, left_out = collect_scans(shared / "data" / "real_bids")
    assert labels(scans) == ["sub-crop7T", "sub-philips3T"]
    assert scans[1].echo_times == (0.0023, 0.0046)
    assert scans[1].imaging_frequency == pytest.approx(127.748512)
    assert left_out == []


def test_phantom_is_recognized_by_its_species(make_dataset):
    root = make_dataset(subjects=("01", "phantom"))
    (root / "participants.tsv").write_text(
        "participant_id\tspecies\nsub-01\thomo sapiens\nsub-phantom\tphantom\n"
    )
    scans, _ = collect_scans(root)
    assert [scan.is_phantom for scan in scans] == [False, True]


@pytest.mark.parametrize(
    "content", ["participant_id\tage\tspecies\nsub-01\t30\n", "participant_id\n"]
)
def test_ragged_participants_table_is_read(make_dataset, content):
    root = make_dataset()
    (root / "participants.tsv").write_text(content)
    ((scan,), _) = collect_scans(root)
    assert not scan.is_phantom


@pytest.mark.parametrize(
    ("row", "note"),
    [
        ("sub-01", "is shorter than the header"),
        ("sub-01\tA\x00B", "characters that cannot be printed"),
    ],
)
def test_damaged_row_of_a_participant_is_reported(make_dataset, row, note):
    root = make_dataset()
    (root / "participants.tsv").write_text(f"participant_id\tsite\n{row}\n")
    ((scan,), _) = collect_scans(root)
    assert any(note in text for text in scan.notes)


@pytest.mark.parametrize("rows", ["", "sub-02\tNorth\n"])
def test_participant_without_a_row_is_reported(make_dataset, rows):
    root = make_dataset()
    assert collect_scans(root)[0][0].notes == ()  # there is no table
    (root / "participants.tsv").write_text(f"participant_id\tsite\n{rows}")
    assert collect_scans(root)[0][0].notes == ("sub-01 is not in participants.tsv",)


def test_participants_table_in_another_encoding_is_named(make_dataset):
    root = make_dataset()
    (root / "participants.tsv").write_bytes(
        "participant_id\tsite\nsub-01\tZürich\n".encode("latin-1")
    )
    ((scan,), _) = collect_scans(root)
    assert scan.site == "Z\ufffdrich"
    assert any("line 2 of participants.tsv" in note and "not UTF-8" in note for note in scan.notes)


def test_quotes_mean_nothing_in_a_table(make_dataset):
    root = make_dataset(subjects=("01", "02"))
    (root / "participants.tsv").write_text(
        'participant_id\tcomment\tsite\nsub-01\t"a bit" restless\tNorth\nsub-02\t"late\t"South"\n'
    )
    scans, left_out = collect_scans(root)
    assert [scan.site for scan in scans] == ["North", '"South"']
    assert not left_out


def test_columns_that_nobody_reads_may_be_twice(make_dataset):
    root = make_dataset()
    (root / "participants.tsv").write_text(
        "participant_id\tnote\tsite\tnote\nsub-01\ta\tNorth\tb\tc\n"
    )
    ((scan,), _) = collect_scans(root)
    assert scan.site == "North"
    assert any("more cells than there are headings" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("rows", "usable"),
    [
        (
            "sub-01\tA\thomo sapiens\t25\nsub-01\tA\thomo sapiens\t26\n",
            True,
        ),  # the age is not used
        ("sub-01\tn/a\thomo sapiens\t25\n01\tA\thomo sapiens\t25\n", True),
        ("sub-01\tA\thomo sapiens\t25\nsub-01\tB\thomo sapiens\t25\n", False),
        ("sub-01\tA\thomo sapiens\t25\nsub-01\tA\tphantom\t25\n", False),
    ],
)
def test_participant_with_two_rows(make_dataset, rows, usable):
    """Equal rows are merged. Rows that contradict each other make only that participant's scans
    unusable.
    """
    root = make_dataset(subjects=("01", "02"))
    (root / "participants.tsv").write_text(
        f"participant_id\tsite\tspecies\tage\n{rows}sub-02\tB\thomo sapiens\t30\n"
    )
    scans, left_out = collect_scans(root)
    assert labels(scans) == (["sub-01", "sub-02"] if usable else ["sub-02"])
    if usable:
        assert (scans[0].site, left_out) == ("A", [])
    else:
        assert (left_out[0].scan, left_out[0].severity == "error") == ("sub-01", True)
        assert (
            "participants.tsv: rows of sub-01 contradict each other in column " in left_out[0].text
        )


def test_session_with_two_rows(make_dataset):
    root = make_dataset(sessions=("1", "2"))
    table = root / "sub-01" / "sub-01_sessions.tsv"
    table.write_text("session_id\tscanner\nses-1\tPrisma\nses-1\tSkyra\nses-2\tSkyra\n")
    scans, (problem,) = collect_scans(root)
    assert labels(scans) == ["sub-01_ses-2"]
    assert (problem.scan, problem.severity) == ("sub-01_ses-1", "error")
    assert "rows of ses-1 contradict each other in column scanner" in problem.text


def test_all_scans_are_listed_by_name(make_dataset):
    """Scans are listed whether they are usable or not; other images are ignored."""
    root = make_dataset(subjects=("01", "02", "03"), sessions=("1", "2"), acquisitions=("x",))
    for path in root.glob("sub-02/ses-2/anat/*part-phase*"):
        path.unlink()
    (root / "sub-01" / "ses-1" / "anat" / "sub-01_ses-1_T1w.nii.gz").touch()
    listed = list_scans(root, ["02", "01"])
    assert pd.DataFrame(listed).to_numpy().tolist() == [
        ["01", "1", "x"],
        ["01", "2", "x"],
        ["02", "1", "x"],
        ["02", "2", "x"],
    ]
    assert set(listed[0]) == {"subject", "session", "acquisition"}
