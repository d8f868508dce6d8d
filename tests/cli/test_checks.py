"""What can be known from the command line is checked before any work, also by a dry run."""

import pytest

from multiqsm.cli.app import main


def run(dataset, output_dir, *options, level="participant"):
    work_dir = dataset.parent / "work"
    return main([str(dataset), str(output_dir), level, "-w", str(work_dir), *options])


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize("place", [".", "sub-01", "sub-01/anat", "code", "derivatives"])
def test_results_never_lie_among_the_raw_data(make_dataset, place, dry_run, capsys):
    dataset = make_dataset()
    before = sorted(dataset.rglob("*"))
    assert run(dataset, dataset / place, *dry_run) == 2
    error = capsys.readouterr().err
    assert "results would lie among the raw data" in error
    assert "derivatives/multiqsm" in error
    assert sorted(dataset.rglob("*")) == before


def test_a_link_to_the_raw_data_is_refused_as_well(make_dataset, tmp_path, capsys):
    dataset = make_dataset()
    link = tmp_path / "link"
    link.symlink_to(dataset)
    assert run(dataset, link, "--dry-run") == 2
    assert "results would lie among the raw data" in capsys.readouterr().err


def test_a_folder_of_derivatives_is_a_place_for_results(make_dataset, capsys):
    dataset = make_dataset()
    assert run(dataset, dataset / "derivatives" / "multiqsm", "--dry-run") == 0
    assert "(a new folder)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["--plugin", "Sulrm"], "no plugin Sulrm: did you mean SLURM?; choose one of"),
        (["--use-plugin", "absent.yaml"], "--use-plugin absent.yaml: no such file"),
        (["--reference", "nowhere"], "--reference nowhere"),
        (["--atlas", "absent.nii"], "absent.nii"),
        (["--participant-label", "99"], "--participant-label 99"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(make_dataset, tmp_path, options, cause, capsys):
    dataset = make_dataset()
    for dry_run in ([], ["--dry-run"]):
        assert run(dataset, tmp_path / "out", *options, *dry_run) == 2
        assert cause in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("level", "options", "without_effect"),
    [
        (
            "participant",
            "--model thalamus --phenotype x --no-calibrate --equivalence-margin 2 -v",
            ["--no-calibrate", "--equivalence-margin", "--model", "--phenotype"],
        ),
        ("participant", "--freesurfer-dir x --se-draws 0", ["--freesurfer-dir"]),
        (
            "group",
            "--session-label A --se-draws 0 --no-merit --retries 0 --jobs auto --calibrate",
            ["--session-label", "--retries", "--no-merit", "--se-draws"],
        ),
        ("group", "--model thalamus --equivalence-margin 2", ["--equivalence-margin"]),
    ],
)
def test_options_without_effect_are_named(
    make_dataset, tmp_path, level, options, without_effect, capsys
):
    run(make_dataset(), tmp_path / "out", *options.split(), "--dry-run", level=level)
    named = []
    for line in capsys.readouterr().err.splitlines():
        if "has no effect" in line:
            named.append(line.split()[1])
    assert sorted(named) == sorted(without_effect)


@pytest.mark.parametrize("level", ["participant", "group"])
@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("absent", None, "no such folder"),
        ("IM_0001", b"\0" * 128 + b"DICM", "a folder of DICOM files (IM_0001"),
        ("scan.IMA", b"\0", "convert them to BIDS"),
        ("notes.txt", b"text", "no dataset_description.json"),
    ],
)
def test_a_folder_that_is_no_dataset_is_refused_by_its_kind(
    tmp_path, level, name, content, cause, capsys
):
    folder = tmp_path / "data"
    if content is not None:
        folder.mkdir()
        (folder / name).write_bytes(content)
    assert run(folder, tmp_path / "out", level=level) == 2
    fault, where_to_read = capsys.readouterr().err.splitlines()
    assert cause in fault
    assert "docs/troubleshooting.md" in where_to_read


def test_a_file_in_place_of_the_dataset_is_refused(tmp_path, capsys):
    path = tmp_path / "scan.nii.gz"
    path.touch()
    assert run(path, tmp_path / "out") == 2
    assert "a file, not a folder" in capsys.readouterr().err


def test_a_dry_run_ends_in_a_plan(make_dataset, tmp_path, capsys):
    options = ("--background", "pdf", "--se-draws", "0")
    assert run(make_dataset(), tmp_path / "out", *options, "--dry-run") == 0
    plan = capsys.readouterr().out.split("errors\n", 1)[1]
    rows = dict(line.split(":", 1) for line in plan.splitlines()[:-1])
    assert rows["scans"].strip() == "1 scan of 1 subject at 1 site would be processed, 0 left out"
    assert rows["settings"].strip() == "preset default, --background pdf, --se-draws 0"
    assert rows["maps"].strip().endswith("standard errors: deterministic")
    assert "without --dry-run" in plan.splitlines()[-1]
    assert not (tmp_path / "out").exists()
