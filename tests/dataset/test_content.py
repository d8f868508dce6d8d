"""A file without content is reported, with the command to fetch it, and not treated as absent."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.freesurfer import write_statistics
from helpers.tables import people_table, write_scans

from multiqsm.cli.app import main
from multiqsm.cli.audit import main as audit
from multiqsm.cohort.freesurfer import find_statistics, read_statistics
from multiqsm.cohort.model_files import read_model
from multiqsm.cohort.patients import collect_patients
from multiqsm.cohort.roi_tables import add_participants, read_roi_tables
from multiqsm.dataset.anatomy import find_anatomy, find_atria
from multiqsm.dataset.atlas import load_atlas
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.content import MissingContentError, exists, require_content
from multiqsm.dataset.labels import find_labels, find_subject_labels
from multiqsm.dataset.outputs import write_dataset_description
from multiqsm.dataset.preflight.inspection import inspect_scan
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.sources import derivative_datasets

DRAWN = Path("sub-01/anat/sub-01_desc-rois_dseg.nii.gz")
MISSING_CONTENT = "the file is listed, but its content is not available; fetch it with "
FETCHED_BY = {"link": "datalad get", "pointer": "datalad get", "Git LFS": "git lfs pull"}


def lose(path, how="link"):
    """Remove a file's content but keep its name; return the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if how == "link":
        path.symlink_to("../../.git/annex/objects/Xk/0p/SHA256E-s1234--00/SHA256E-s1234--00.nii.gz")
    elif how == "folder":
        path.symlink_to("../elsewhere")
    elif how == "pointer":
        path.write_text("/annex/objects/SHA256E-s1234--00.nii.gz\n")
    else:
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234\n")
    return path


def save(path, values=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(120).reshape(6, 5, 4) % 2 if values is None else values
    image_class = nib.MGHImage if path.suffix == ".mgz" else nib.Nifti1Image
    nib.save(image_class(values.astype(np.float32), np.diag([1, 1, 2, 1])), path)
    return path


def labels(scans):
    return [scan.label for scan in scans]


def reports_missing_content(error, path):
    return f"{path}: {MISSING_CONTENT}datalad get {path}" in str(error)


@pytest.mark.parametrize("how", FETCHED_BY)
def test_listed_without_content(tmp_path, how):
    path = lose(tmp_path / "a" / "b.tsv", how)
    with pytest.raises(MissingContentError, match=f"{path}: {MISSING_CONTENT}{FETCHED_BY[how]}"):
        exists(path)


def test_file_in_a_folder_that_is_a_broken_link(tmp_path):
    folder = lose(tmp_path / "sub-01", "folder")
    with pytest.raises(MissingContentError, match=f"^{folder}: "):
        require_content(folder / "anat" / "mask.nii.gz")


def test_exists_for_present_and_absent_files(tmp_path):
    path = tmp_path / "a.txt"
    assert not exists(path)
    assert not exists(tmp_path / "no" / "such" / "folder")
    path.write_text("content")
    (tmp_path / "linked").symlink_to(path)
    (tmp_path / "empty").write_bytes(b"")
    assert all(exists(tmp_path / name) for name in ("a.txt", "linked", "empty", "."))


@pytest.mark.parametrize("how", ["link", "pointer"])
def test_mask_without_content_is_not_replaced_by_an_automatic_one(make_dataset, how, capsys):
    root = make_dataset(subjects=("01", "02"))
    mask = lose(root / "derivatives/masks/sub-01/anat/sub-01_desc-brain_mask.nii.gz", how)
    assert audit([str(root), "--n-procs", "1"]) == 1
    printed = capsys.readouterr().out
    assert f"error: sub-01: {mask.name}: {MISSING_CONTENT}datalad get {mask}" in printed
    assert "1 ok" in printed


@pytest.mark.parametrize("name", ["derivatives/masks/sub-01", "derivatives/masks/sub-01/anat"])
def test_folder_of_masks_that_is_a_broken_link(make_dataset, name):
    root = make_dataset(subjects=("01", "02"))
    folder = lose(root / name, "folder")
    scans, (problem,) = collect_scans(root)
    assert labels(scans) == ["sub-02"]
    assert (problem.scan, problem.severity) == ("sub-01", "error")
    assert reports_missing_content(problem.text, folder)


def test_sidecar_of_a_mask(make_dataset):
    """It would name the image from which the mask was made."""
    root = make_dataset(subjects=("01", "02"))
    mask = save(root / "derivatives/masks/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    sidecar = lose(mask.with_name(mask.name.replace(".nii.gz", ".json")))
    scans, (problem,) = collect_scans(root)
    assert labels(scans) == ["sub-02"]
    assert reports_missing_content(problem.text, sidecar)


def test_derivative_dataset(make_dataset):
    """Without its description, its masks may be the user's or not."""
    root = make_dataset()
    description = lose(root / "derivatives/masks/dataset_description.json")
    with pytest.raises(DatasetError) as error:
        collect_scans(root)
    assert reports_missing_content(error.value, description)
    shutil.rmtree(description.parent)
    folder = lose(root / "derivatives/masks", "folder")
    with pytest.raises(DatasetError) as error:
        derivative_datasets(root)
    assert reports_missing_content(error.value, folder)
    lose(folder)  # a file such as a README
    assert derivative_datasets(root) == []


def test_derivatives_behind_a_broken_link(make_dataset):
    """Such as a disk that is not mounted."""
    root = make_dataset()
    folder = lose(root / "derivatives", "folder")
    with pytest.raises(DatasetError) as error:
        collect_scans(root)
    assert reports_missing_content(error.value, folder)


def test_regions_without_content_are_reported_before_processing(make_dataset, capsys):
    root = make_dataset()
    image = save(root / "derivatives/rater" / DRAWN)
    image.with_name("sub-01_desc-rois_dseg.tsv").write_text("index\tname\n1\tputamen\n")
    description = {"Name": "Regions", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
    (root / "derivatives/rater/dataset_description.json").write_text(json.dumps(description))
    path = lose(image)
    assert main([str(root), str(root.parent / "out"), "participant", "--dry-run"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "regions of sub-01" in line]
    assert line.startswith("warning: ")
    assert reports_missing_content(line, path)


def test_dataset_of_masks_that_is_not_installed_is_reported(make_dataset):
    root = make_dataset()
    (root / "derivatives/masks").mkdir(parents=True)
    (root / ".gitmodules").write_text(
        '[submodule "m"]\n\tpath = derivatives/masks\n\turl = ./masks\n'
    )
    (scan,), (problem,) = collect_scans(root)
    assert (scan.brain_mask, problem.scan, problem.severity) == (None, "derivatives/masks", "note")
    assert problem.text.endswith("fetch it with datalad get -n derivatives/masks")


@pytest.mark.parametrize("how", ["link", "pointer"])
@pytest.mark.parametrize("name", ["dataset_description.json", "participants.tsv"])
def test_file_of_the_whole_dataset(make_dataset, name, how):
    root = make_dataset()
    path = lose(root / name, how)
    with pytest.raises(DatasetError) as error:
        collect_scans(root)
    assert reports_missing_content(error.value, path)


def test_table_of_sessions_without_content_affects_only_its_participant(make_dataset):
    root = make_dataset(subjects=("01", "02"), sessions=("A",))
    path = lose(root / "sub-01/sub-01_sessions.tsv")
    scans, (problem,) = collect_scans(root)
    assert labels(scans) == ["sub-02_ses-A"]
    assert (problem.scan, problem.severity) == ("sub-01_ses-A", "error")
    assert reports_missing_content(problem.text, path)


@pytest.mark.parametrize("how", ["link", "pointer"])
def test_image_and_sidecar(make_dataset, how):
    root = make_dataset(subjects=("01", "02"))
    image = lose(root / "sub-01/anat/sub-01_echo-2_part-phase_MEGRE.nii.gz", how)
    scans, _ = collect_scans(root)
    inspections = {scan.label: inspect_scan(scan) for scan in scans}
    assert (inspections["sub-01"].verdict, inspections["sub-02"].verdict) == ("error", "ok")
    assert f"{image.name}: {MISSING_CONTENT}datalad get {image}" in "\n".join(
        map(str, inspections["sub-01"].problems)
    )
    sidecar = lose(root / "sub-02/anat/sub-02_echo-1_part-mag_MEGRE.json", how)
    scans, (problem,) = collect_scans(root)
    assert labels(scans) == ["sub-01"]
    assert f"{sidecar.name}: {MISSING_CONTENT}datalad get {sidecar}" in problem.text


@pytest.mark.parametrize("name", ["sub-02", "sub-02/anat"])
def test_folder_of_a_participant(make_dataset, name):
    root = make_dataset(subjects=("01", "02"))
    folder = lose(root / name, "folder")
    scans, left_out = collect_scans(root)
    assert labels(scans) == ["sub-01"]
    assert left_out[0].severity == "error"
    assert f"datalad get {folder}" in left_out[0].text


@pytest.mark.parametrize("lost", [".nii.gz", ".tsv", ".json"])
@pytest.mark.parametrize("how", ["link", "pointer"])
def test_regions(tmp_path, lost, how):
    image = save(tmp_path / DRAWN)
    stem = image.name.removesuffix(".nii.gz")
    image.with_name(f"{stem}.tsv").write_text("index\tname\n1\tputamen\n")
    assert find_labels({"subject": "01"}, [tmp_path]).names == {1: "putamen"}
    path = lose(image.with_name(stem + lost), how)
    with pytest.raises(DatasetError) as error:
        find_labels({"subject": "01"}, [tmp_path])
    assert reports_missing_content(error.value, path)


@pytest.mark.parametrize("place", ["dseg.tsv", "sub-01/anat/sub-01_space-subject_dseg.tsv"])
def test_regions_of_a_subject_and_inherited_tables(tmp_path, place):
    save(tmp_path / "sub-01/anat/sub-01_space-subject_dseg.nii.gz")
    path = lose(tmp_path / place)
    with pytest.raises(DatasetError) as error:
        find_subject_labels("01", [tmp_path])
    assert reports_missing_content(error.value, path)


def anatomy_of(root):
    return find_anatomy("01", root / "raw/sub-01", [root / "fs"])


def with_anatomy(root):
    """T1w and FLAIR images, FreeSurfer's results and marked lesions."""
    for suffix in ("T1w", "FLAIR"):
        save(root / f"raw/sub-01/anat/sub-01_{suffix}.nii.gz")
    for name in ("aseg", "orig", "T1"):
        save(root / f"fs/sub-01/mri/{name}.mgz")
    (root / "fs/sub-01/anat").mkdir()
    (root / "fs/sub-01/anat/sub-01_desc-seeds_points.tsv").write_text("x\ty\tz\n1\t2\t3\n")
    save(root / "fs/sub-01/anat/sub-01_desc-lesionadd_mask.nii.gz")
    anatomy, left_out = anatomy_of(root)
    assert None not in (anatomy.t1w, anatomy.flair, anatomy.freesurfer, anatomy.lesions)
    assert left_out == []


@pytest.mark.parametrize("how", ["link", "pointer"])
@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("raw/sub-01/anat/sub-01_T1w.nii.gz", {"t1w"}),
        ("raw/sub-01/anat/sub-01_FLAIR.nii.gz", {"flair", "lesions"}),
        ("fs/sub-01/mri/aseg.mgz", {"freesurfer"}),
        ("fs/sub-01/mri/orig.mgz", {"freesurfer"}),
        ("fs/sub-01/anat/sub-01_desc-seeds_points.tsv", {"lesions"}),
        ("fs/sub-01/anat/sub-01_desc-lesionadd_mask.nii.gz", {"lesions"}),
    ],
)
def test_anatomy(tmp_path, name, without, how):
    with_anatomy(tmp_path)
    path = lose(tmp_path / name, how)
    anatomy, left_out = anatomy_of(tmp_path)
    for kind in ("t1w", "flair", "freesurfer", "lesions"):
        assert (getattr(anatomy, kind) is None) == (kind in without)
    assert len(left_out) == len(without)
    for problem in left_out:
        assert problem.severity == "error"
        assert reports_missing_content(problem.text, path)


@pytest.mark.parametrize("name", ["fs/sub-01", "fs/sub-01/mri"])
def test_results_of_freesurfer_elsewhere(tmp_path, name):
    with_anatomy(tmp_path)
    path = lose(tmp_path / name, "folder")
    anatomy, left_out = anatomy_of(tmp_path)
    assert anatomy.freesurfer is None
    assert reports_missing_content(left_out[0].text, path)


def test_points_in_the_atria(tmp_path):
    path = lose(tmp_path / "sub-01/anat/sub-01_desc-atrium_points.tsv")
    with pytest.raises(DatasetError) as error:
        find_atria("sub-01", "sub-01", [tmp_path])
    assert reports_missing_content(error.value, path)


def test_statistics_of_freesurfer(tmp_path):
    folder = write_statistics(tmp_path / "sub-01/stats")
    path = lose(folder / "lh.aparc.stats")
    with pytest.raises(DatasetError) as error:
        read_statistics(folder)
    assert reports_missing_content(error.value, path)
    stats = lose(folder, "folder")
    statistics, ((name, message),) = find_statistics(tmp_path)
    assert (statistics, name) == ([], "sub-01")
    assert reports_missing_content(message, stats)


def test_tables_of_the_group_level(tmp_path):
    rois = people_table(subjects=2)
    write_scans(tmp_path / "out", rois)
    participants = lose(tmp_path / "participants.tsv")
    for use in (
        lambda: add_participants(rois, tmp_path),
        lambda: collect_patients(tmp_path, tmp_path / "out"),
    ):
        with pytest.raises(DatasetError) as error:
            use()
        assert reports_missing_content(error.value, participants)
    table = lose(next((tmp_path / "out").glob("sub-*/**/*_chi.tsv")))
    with pytest.raises(DatasetError) as error:
        read_roi_tables(tmp_path / "out")
    assert reports_missing_content(error.value, table)


def test_questionnaire_without_content_does_not_affect_other_tables(tmp_path):
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t40\n")
    path = lose(tmp_path / "phenotype/scores.tsv")
    patients = collect_patients(tmp_path, tmp_path / "out")
    assert patients.table["age"].tolist() == [40]
    ((name, message),) = patients.problems
    assert name == "phenotype/scores.tsv"
    assert reports_missing_content(message, path)


def test_model_and_atlas(tmp_path):
    for path, use in (
        (tmp_path / "model.json", read_model),
        (tmp_path / "atlas.nii.gz", load_atlas),
    ):
        lose(path)
        with pytest.raises(DatasetError) as error:
            use(path)
        assert reports_missing_content(error.value, path)
    atlas = save(tmp_path / "named.nii.gz")
    lookup = lose(tmp_path / "named.tsv")
    with pytest.raises(DatasetError) as error:
        load_atlas(atlas)
    assert reports_missing_content(error.value, lookup)


def test_description_without_content_is_not_overwritten(make_dataset, tmp_path):
    root, out = make_dataset(), tmp_path / "out"
    write_dataset_description(out, root)
    path = lose(out / "dataset_description.json")
    with pytest.raises(DatasetError) as error:
        write_dataset_description(out, root)
    assert reports_missing_content(error.value, path)


def test_case_of_a_mask_in_the_annex(copy_case, capsys):
    root = copy_case("mask_broken_link")
    mask = root / "derivatives/masks/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    mask.symlink_to("../../../../.git/annex/objects/none.nii.gz")  # as its make_link.sh does
    assert audit([str(root), "--n-procs", "1"]) == 1
    assert f"{mask.name}: {MISSING_CONTENT}datalad get {mask}" in capsys.readouterr().out
