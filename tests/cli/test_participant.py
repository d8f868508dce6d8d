"""The command, from a dataset to its derivatives, and what it says when it cannot."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids import BIDSLayout, BIDSLayoutIndexer
from helpers.commands import SERIAL, iron, run
from helpers.datasets import bright_head, validator_findings, write_dataset

from multiqsm.cli.app import main
from multiqsm.cohort.roi_tables import read_roi_table
from multiqsm.dataset.outputs import derivative_path, write_dataset_description
from multiqsm.dataset.tables import read_tsv
from multiqsm.dataset.times import TIMES
from multiqsm.execution.completion import COMPLETION_RECORDS
from multiqsm.interfaces.methods import DEFAULT_INVERSIONS


@pytest.fixture(scope="module")
def processed(tmp_path_factory, ball_head):
    """Derivatives of two subjects, with regions drawn on one of them, made with two processes."""
    root = write_dataset(
        tmp_path_factory.mktemp("study") / "raw",
        subjects=("01", "02"),
        sessions=("A",),
        **ball_head,
    )
    labels = iron(ball_head["shape"]).astype(np.uint8)
    drawn = (
        root / "derivatives" / "rater" / "sub-01" / "ses-A" / "anat" / "sub-01_ses-A_dseg.nii.gz"
    )
    drawn.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(labels, ball_head["affine"]), drawn)
    drawn.with_name("sub-01_ses-A_dseg.tsv").write_text("index\tname\n1\tiron\n")
    assert run(root, "--n-procs", "2") == 0
    return root


@pytest.mark.slow
def test_all_derivatives_have_sidecars_and_are_valid(processed):
    out = processed.parent / "out"
    for subject in ("01", "02"):
        folder = out / f"sub-{subject}" / "ses-A"
        stem = f"sub-{subject}_ses-A"
        names = [
            f"anat/{stem}_desc-brain_mask",
            f"anat/{stem}_R2starmap",
            f"fmap/{stem}_magnitude",
            f"fmap/{stem}_desc-total_fieldmap",
            f"fmap/{stem}_desc-totalse_fieldmap",
            f"fmap/{stem}_desc-totalnoise_fieldmap",
            f"fmap/{stem}_desc-local_fieldmap",
        ]
        for method in DEFAULT_INVERSIONS:
            names += [f"anat/{stem}_desc-{method}_Chimap", f"anat/{stem}_desc-{method}se_Chimap"]
        for name in names:
            assert (folder / f"{name}.nii.gz").is_file()
            assert json.loads((folder / f"{name}.json").read_text())["Sources"]
        for method in DEFAULT_INVERSIONS:
            assert (folder / f"anat/{stem}_space-subject_desc-{method}_Chimap.nii.gz").is_file()
        for name in ("space-subject_desc-average_T2starw.nii.gz", "desc-registration_xfm.tsv"):
            assert (out / f"sub-{subject}" / "anat" / f"sub-{subject}_{name}").is_file()
        assert (folder / f"anat/{stem}_from-scan_to-subject_mode-image_xfm.txt").is_file()
        figures = out / f"sub-{subject}" / "figures"
        for name in ("magnitude", "desc-local_fieldmap", "desc-maps_Chimap"):
            assert (figures / f"{stem}_{name}.png").is_file()
        for method in DEFAULT_INVERSIONS:
            assert (figures / f"{stem}_desc-{method}_Chimap.png").is_file()
        assert (figures / f"sub-{subject}_space-subject_desc-average_T2starw.png").is_file()
        assert (out / f"sub-{subject}.html").is_file()
    table = read_roi_table(
        out / "sub-01" / "ses-A" / "anat" / "sub-01_ses-A_desc-rois_chi.tsv"
    ).set_index("method")
    assert list(table.index) == list(DEFAULT_INVERSIONS)
    # Each mean is more precise than a voxel, and not exact.
    assert table["se"].between(1e-5, 0.02).all()
    assert (table["reference"] == "brain").all()  # there are no ventricles in a ball
    assert table.loc["iterative", "mean"] > 0.2
    assert not list(out.glob("sub-02/**/*_chi.tsv"))
    citation = (out / "logs" / "CITATION.md").read_text()
    for text in ("dipole fields", "MEDI", "scaled lasso", "generalised cross-validation"):
        assert text in citation
    assert validator_findings(out) == set()


@pytest.mark.slow
def test_pybids_finds_the_derivatives_by_their_entities(processed):
    indexer = BIDSLayoutIndexer(validate=False, index_metadata=True)
    layout = BIDSLayout(
        processed.parent / "out", validate=False, config=["bids", "derivatives"], indexer=indexer
    )
    query = {"suffix": "Chimap", "extension": ".nii.gz", "session": "A", "return_type": "filename"}
    out = processed.parent / "out"
    entities = {"subject": "02", "session": "A"}
    for method in DEFAULT_INVERSIONS:
        paths = layout.get(subject="02", desc=method, **query)
        (path,) = (path for path in paths if "space-" not in Path(path).name)
        assert Path(path) == derivative_path(out, entities, suffix="Chimap", desc=method)
    assert set(layout.get_subjects()) == {"01", "02"}
    assert set(layout.get_sessions()) == {"A"}


@pytest.mark.slow
def test_map_shows_the_iron_and_the_sidecar_says_how(processed):
    folder = processed.parent / "out" / "sub-01" / "ses-A" / "anat"
    image = nib.load(folder / "sub-01_ses-A_desc-iterative_Chimap.nii.gz")
    chi = image.get_fdata()
    # A ball of 0.3 ppm and 8 mm radius. PDF gives part of its field to the background and λ
    # smooths, the more so in a head so small and coarse; a wrong sign, unit or B0 direction would
    # be far outside these bounds.
    assert 0.2 < chi[iron(chi.shape)].mean() < 0.33
    sidecar = json.loads((folder / "sub-01_ses-A_desc-iterative_Chimap.json").read_text())
    assert sidecar["Units"] == "ppm"
    assert sidecar["LambdaRule"] == "whitened"
    assert sidecar["ReferenceRegion"] == "mean of the whole mask"
    assert sidecar["PhaseSign"] == 1
    assert sidecar["CentreFrequencySource"] == "ImagingFrequency"
    np.testing.assert_allclose(
        sidecar["B0Direction"], [0, np.sin(np.radians(10)), np.cos(np.radians(10))], atol=1e-6
    )


@pytest.mark.slow
def test_one_process_gives_the_same_files_as_two(processed):
    root = processed
    serial_out = root.parent / "serial"
    work = root.parent / "work1"
    assert main([str(root), str(serial_out), "participant", "-w", str(work), *SERIAL]) == 0
    n_files = 0
    for path in serial_out.rglob("*"):
        file = path.relative_to(serial_out)
        if path.suffix not in (".gz", ".json", ".tsv", ".txt"):
            continue
        if file.is_relative_to(COMPLETION_RECORDS):  # they have folders and times
            continue
        if file.is_relative_to(TIMES):  # no computation takes the same time twice
            assert (root.parent / "out" / file).is_file()
            continue
        assert (root.parent / "out" / file).read_bytes() == path.read_bytes(), file
        n_files += 1
    assert n_files > 50


@pytest.mark.slow
def test_a_failed_scan_is_reported_and_the_others_are_processed(make_dataset, ball_head, capfd):
    root = make_dataset(subjects=("01", "02"), **ball_head)
    random = np.random.default_rng(0)
    # There is no brain in noise, so that the mask is empty.
    for path in (root / "sub-02" / "anat").glob("*part-phase*.nii.gz"):
        noise = random.uniform(-np.pi, np.pi, ball_head["shape"]).astype(np.float32)
        nib.save(nib.Nifti1Image(noise, ball_head["affine"]), path)
    assert run(root) == 1
    printed = capfd.readouterr()
    assert "failed: sub-02 (sub-02_echo-1_part-mag_MEGRE.nii.gz" in printed.err
    assert "step mask: No brain found" in printed.err
    assert "1 scan processed, 1 failed, 0 left out" in printed.out
    assert (root.parent / "out" / "sub-01.html").is_file()
    (row,) = read_tsv(root.parent / "out" / "logs" / "not_processed" / "sub-02.tsv").to_dict(
        "records"
    )
    assert row["scan"] == "sub-02"
    assert row["reason"].startswith("No brain found")
    report = (root.parent / "out" / "sub-02.html").read_text()  # of a subject that has nothing else
    assert "step mask: No brain found" in report
    assert "All scans were processed" not in report
    assert (
        root.parent / "out" / "sub-01" / "anat" / "sub-01_desc-iterative_Chimap.nii.gz"
    ).is_file()


@pytest.mark.slow
def test_deleted_derivatives_are_made_again(processed):
    map_file = (
        processed.parent
        / "out"
        / "sub-01"
        / "ses-A"
        / "anat"
        / "sub-01_ses-A_desc-iterative_Chimap.nii.gz"
    )
    before = map_file.read_bytes()
    map_file.unlink()
    assert run(processed, "--participant-label", "01") == 0
    assert map_file.read_bytes() == before


@pytest.mark.slow
def test_a_refused_scan_is_in_the_report_of_its_subject(make_dataset, ball_head):
    root = make_dataset(sessions=("A", "B"), **ball_head)
    sidecar = next((root / "sub-01" / "ses-B" / "anat").glob("*echo-2_part-phase*.json"))
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "EchoTime": "twelve"}))
    assert run(root, "--inversion", "deterministic") == 1
    page = (root.parent / "out" / "sub-01.html").read_text()
    assert "ses-B" in page
    assert "EchoTime is &#39;twelve&#39;, which is not a number" in page
    table = root.parent / "out" / "logs" / "not_processed" / "sub-01.tsv"
    (row,) = read_tsv(table).to_dict("records")
    assert row["scan"] == "sub-01_ses-B"
    assert "EchoTime is 'twelve', which is not a number" in row["reason"]
    checklist = (root.parent / "out" / "logs" / "CHECKLIST.md").read_text()
    assert f"not processed: sub-01_ses-B: {row['reason']}" in checklist
    sidecar.write_text(json.dumps({**json.loads(sidecar.read_text()), "EchoTime": 0.01}))
    assert run(root, "--inversion", "deterministic", "--session-label", "A") == 0
    assert table.exists()  # this run said nothing of session B


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["scan", "step"])
def test_finished_scans_are_removed_from_the_work_folder_and_not_processed_again(
    make_dataset, ball_head, jobs, capsys
):
    root = make_dataset(**ball_head)
    options = ["--inversion", "deterministic", "--clean-workdir", "--jobs", jobs]
    assert run(root, *options) == 0
    assert not list((root.parent / "work").rglob("*.nii"))
    files = list(filter(Path.is_file, (root.parent / "out").rglob("sub-01*")))
    times = [path.stat().st_mtime_ns for path in files]
    assert len(files) > 20
    capsys.readouterr()
    assert run(root, *options) == 0
    printed = capsys.readouterr().err
    for kind in ("scans", "subjects", "reports"):
        assert f"{kind} already finished and skipped: 1 of 1" in printed
    assert [path.stat().st_mtime_ns for path in files] == times
    # Other settings give other results.
    assert run(root, *options, "--lambda", "0.2") == 0
    assert "already finished" not in capsys.readouterr().err


@pytest.mark.slow
def test_real_and_imaginary_pairs_and_the_study_preset(make_dataset, ball_head):
    root = make_dataset(parts=("real", "imag"), **ball_head)
    assert run(root, "--preset", "lin2015", "--inversion", "deterministic") == 0
    folder = root.parent / "out" / "sub-01" / "anat"
    assert not (folder / "sub-01_desc-iterative_Chimap.nii.gz").exists()
    sidecar = json.loads((folder / "sub-01_desc-deterministic_Chimap.json").read_text())
    assert sidecar["PhaseEncoding"] == "real and imaginary parts"
    assert sidecar["LambdaRule"] == "discrepancy"


@pytest.mark.slow
@pytest.mark.parametrize("echo_times", [(0.010,), (0.005, 0.010)])
def test_one_and_two_echoes_give_maps_but_no_r2star(make_dataset, ball_head, echo_times):
    suffix = "T2starw" if len(echo_times) == 1 else "MEGRE"
    root = make_dataset(echo_times=echo_times, suffix=suffix, **ball_head)
    assert run(root, "--lambda", "0.2", "--unwrapping", "temporal") == 0
    folder = root.parent / "out" / "sub-01" / "anat"
    chi = nib.load(folder / "sub-01_desc-iterative_Chimap.nii.gz").get_fdata()
    assert chi[iron(chi.shape)].mean() > 0.15
    assert json.loads((folder / "sub-01_desc-iterative_Chimap.json").read_text())["Lambda"] == 0.2
    assert not list(folder.glob("*R2star*"))
    assert (
        "regularisation parameter of the L2 penalty was fixed"
        in (root.parent / "out" / "logs" / "CITATION.md").read_text()
    )


@pytest.mark.slow
def test_the_users_mask_is_used_without_unresolved_voxels(make_dataset, ball_head):
    root = make_dataset(runs=("1",), acquisitions=("hi+res",), **ball_head)
    image = nib.load(
        root / "sub-01" / "anat" / "sub-01_acq-hi+res_run-1_echo-1_part-mag_MEGRE.nii.gz"
    )
    mask = np.zeros(image.shape, np.uint8)
    mask[8:-8, 8:-8, 6:-6] = 1
    user_mask = save_mask(
        root.parent / "masks", image, mask, "sub-01_acq-hi+res_run-1_desc-brain_mask.nii.gz"
    )
    out = root / "derivatives" / "qsm"
    options = [
        "--derivatives",
        str(root.parent / "masks"),
        "-w",
        str(root.parent / "work"),
        *SERIAL,
    ]
    assert main([str(root), str(out), "participant", "--inversion", "deterministic", *options]) == 0
    path = out / "sub-01" / "anat" / user_mask.name
    saved_mask = nib.load(path).get_fdata()
    assert (saved_mask <= mask).all()
    sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
    n_removed = mask.sum() - saved_mask.sum()
    assert n_removed == sidecar["BrainMaskVoxelsUnresolved"] < 0.005 * mask.sum()
    assert user_mask.absolute().as_uri() in sidecar["Sources"]
    assert validator_findings(out) == set()


def save_mask(dataset, like, mask, name):
    folder = dataset / "sub-01" / "anat"
    folder.mkdir(parents=True)
    description = {"Name": "Masks", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (dataset / "dataset_description.json").write_text(
        json.dumps({**description, "GeneratedBy": [{"Name": "manual"}]})
    )
    nib.save(nib.Nifti1Image(mask, like.affine), folder / name)
    return folder / name


def sign_checks(root):
    """Return the asymmetry and the verdict in the sidecar of a map, the asymmetry in the quality
    table, and whether the report warns of the sign.
    """
    out = root.parent / "out"
    sidecar = json.loads((out / "sub-01/anat/sub-01_desc-deterministic_Chimap.json").read_text())
    table = read_tsv(out / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv")
    is_in_report = "susceptibility is skewed to negative" in (out / "sub-01.html").read_text()
    return (
        sidecar.get("SignAsymmetry"),
        sidecar.get("SignLooksWrong"),
        table["sign_asymmetry"][0],
        is_in_report,
    )


QUICK = (
    *("--inversion", "deterministic", "--background", "pdf"),
    *("--se-draws", "0", "--reference", "brain"),
)


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["1", "-1"])
def test_a_wrong_phase_sign_is_reported(make_dataset, capfd, sign):
    root = make_dataset(voxels=bright_head, affine=np.diag([3, 3, 3, 1]))
    assert run(root, "--phase-sign", sign, *QUICK) == 0
    asymmetry, looks_wrong, tabled, is_in_report = sign_checks(root)
    assert int(sign) * asymmetry > 0.5
    assert tabled == pytest.approx(asymmetry, rel=1e-3)
    is_wrong = sign == "-1"
    assert (looks_wrong, is_in_report) == (is_wrong, is_wrong)
    assert ("sub-01: susceptibility is skewed to negative" in capfd.readouterr().err) == is_wrong


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["1", "-1"])
def test_a_wrong_phase_sign_of_a_real_head_is_reported(shared, tmp_path, capfd, sign):
    folders = [
        str(shared / "data" / "real_bids"),
        str(tmp_path / "out"),
        "participant",
        "-w",
        str(tmp_path / "work"),
    ]
    assert main([*folders, "--phase-sign", sign, *QUICK, *SERIAL]) == 0
    printed = capfd.readouterr().err
    assert ("sub-philips3T: susceptibility is skewed to negative" in printed) == (sign == "-1")
    assert "sub-crop7T: susceptibility" not in printed  # 23 mL are too little to judge the sign


@pytest.mark.slow
def test_the_sign_of_a_small_brain_is_not_judged(make_dataset, ball_head, capfd):
    root = make_dataset(**ball_head)  # 150 mL
    assert run(root, "--phase-sign", "-1", *QUICK) == 0
    asymmetry, looks_wrong, tabled, is_in_report = sign_checks(root)
    assert asymmetry is None
    assert looks_wrong is None
    assert np.isnan(tabled)
    assert not is_in_report
    assert "skewed to negative" not in capfd.readouterr().err


@pytest.mark.slow
def test_the_sign_of_a_phantom_is_not_judged(make_dataset, capfd):
    root = make_dataset(voxels=bright_head, affine=np.diag([3, 3, 3, 1]))
    (root / "participants.tsv").write_text("participant_id\tspecies\nsub-01\tphantom\n")
    assert run(root, "--phase-sign", "-1", *QUICK) == 0
    sidecar = json.loads(
        next(root.parent.glob("out/**/*_desc-deterministic_Chimap.json")).read_text()
    )
    assert "SignAsymmetry" not in sidecar
    assert "skewed to negative" not in capfd.readouterr().err


def edit_json(path, **changes):
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def phase_in_degrees(anat):
    for path in anat.glob("*part-phase*.nii.gz"):
        image = nib.load(path)
        nib.save(
            nib.Nifti1Image(np.degrees(image.get_fdata()).astype(np.float32), image.affine), path
        )


def one_slice_short(anat):
    path = anat / "sub-01_echo-2_part-mag_MEGRE.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata()[..., :-1], image.affine), path)


def nan_in_the_brain(anat):
    path = anat / "sub-01_echo-2_part-phase_MEGRE.nii.gz"
    image = nib.load(path)
    data = image.get_fdata()
    data[3, 2, 2] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine), path)


def corrupt_gzip(anat):
    path = anat / "sub-01_echo-3_part-mag_MEGRE.nii.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def without_field_strength(anat):
    for path in anat.glob("*.json"):
        edit_json(path, MagneticFieldStrength=None, ImagingFrequency=None)


def mask_of(value):
    def add_mask(anat):
        image = nib.load(anat / "sub-01_echo-1_part-mag_MEGRE.nii.gz")
        mask = np.full(image.shape, value, np.float32)
        mask[0] *= 0.5  # of an empty mask this is empty too
        save_mask(
            anat.parents[1] / "derivatives" / "manual", image, mask, "sub-01_desc-brain_mask.nii.gz"
        )

    return add_mask


def same_echo_time(anat):
    for path in anat.glob("*echo-2*.json"):
        edit_json(path, EchoTime=0.006)


BAD_INPUT = {
    "phase in an unknown range": (phase_in_degrees, "part-phase_MEGRE.nii.gz", "Known encodings"),
    "an echo missing": (
        lambda anat: (anat / "sub-01_echo-2_part-mag_MEGRE.nii.gz").unlink(),
        "sub-01_echo-2_part-phase_MEGRE.nii.gz",
        "the magnitude image of echo 2 is missing",
    ),
    "one slice short": (
        one_slice_short,
        "sub-01_echo-2_part-mag_MEGRE.nii.gz",
        "6×5×3 voxels, but 6×5×4",
    ),
    "two echoes with the same TE": (
        same_echo_time,
        "sub-01_echo-2_part-mag_MEGRE.nii.gz",
        "the same EchoTime as",
    ),
    "NaN in the brain": (
        nan_in_the_brain,
        "sub-01_echo-2_part-phase_MEGRE.nii.gz",
        "inside the brain",
    ),
    "corrupt gzip": (corrupt_gzip, "sub-01_echo-3_part-mag_MEGRE.nii.gz", "truncated or damaged"),
    "no field strength": (
        without_field_strength,
        "sub-01_echo-1_part-mag_MEGRE.nii.gz",
        "neither MagneticFieldStrength",
    ),
    "empty mask": (mask_of(0), "sub-01_desc-brain_mask.nii.gz", "mask is empty"),
    "probabilities as a mask": (
        mask_of(1),
        "sub-01_desc-brain_mask.nii.gz",
        "is not binary",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_before_processing(case, make_dataset, capsys):
    damage, file, cause = BAD_INPUT[case]
    root = make_dataset()
    damage(root / "sub-01" / "anat")
    assert run(root) != 0
    printed = capsys.readouterr().err
    assert any(file in line and cause in line for line in printed.splitlines()), printed
    assert not (root.parent / "work").exists()
    assert not (root.parent / "out").exists()


def test_dataset_without_megre(make_dataset, capsys):
    root = make_dataset(suffix="T1w", parts=(None,))
    assert run(root) == 2
    assert "no image with suffix MEGRE or T2starw" in capsys.readouterr().err


def test_dry_run_prints_the_plan_and_writes_nothing(make_dataset, capsys):
    root = make_dataset(subjects=("01", "02"))
    assert run(root, "--dry-run", "--participant-label", "02", "--lambda", "0.2") == 0
    printed = capsys.readouterr().out
    assert "sub-02  unknown  3  6…18" in printed
    assert "sub-01" not in printed
    assert "settings: preset default, --lambda 0.2\n" in printed
    assert not (root.parent / "out").exists()


def test_results_of_two_datasets_are_kept_apart(make_dataset, capsys):
    root = make_dataset()
    write_dataset_description(root.parent / "out", make_dataset("other"))
    assert run(root) == 2
    assert "contains the results of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plugin", "Abacus"], "no plugin Abacus"),
        (["--mem-gb", "0.1"], "GB of memory, but the limit is 0.1"),
    ],
)
def test_impossible_machine_options_are_refused(make_dataset, options, message, capsys):
    assert run(make_dataset(), *options) == 2
    assert message in capsys.readouterr().err


def test_work_folder_inside_the_dataset_is_refused(make_dataset, capsys):
    root = make_dataset()
    assert main([str(root), str(root.parent / "out"), "participant", "-w", str(root / "work")]) == 2
    assert "-w" in capsys.readouterr().err


def test_participants_that_a_filter_excludes_are_no_fault(make_dataset):
    root = make_dataset(sessions=("A",))
    make_dataset(subjects=("02",), sessions=("B",))
    assert run(root, "--dry-run", "--session-label", "A") == 0


def test_folder_of_another_dataset_is_not_written_to(make_dataset, capsys):
    root = make_dataset()
    out = root.parent / "out"
    out.mkdir()
    (out / "dataset_description.json").write_text('{"Name": "Mine", "BIDSVersion": "1.10.0"}')
    assert run(root) == 2
    assert "multiqsm did not create" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--lambda", "-1"],
        ["--n-procs", "0"],
        ["--edge-fraction", "2"],
        ["--lambda", "1", "--lambda-rule", "gcv"],
        ["--se-draws", "-1"],
        ["--medi-lambda", "0"],
    ],
)
def test_invalid_options_are_refused(make_dataset, options, capsys):
    with pytest.raises(SystemExit):
        run(make_dataset(), *options)
    assert options[0] in capsys.readouterr().err


def test_package_runs_as_a_module():
    process = subprocess.run(
        [sys.executable, "-m", "multiqsm", "--version"], capture_output=True, text=True, check=True
    )
    assert process.stdout.startswith("multiqsm ")
