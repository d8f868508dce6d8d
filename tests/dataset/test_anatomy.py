"""Anatomical images, FreeSurfer labels and lesions: which files are used, and what the nodes do
with them.
"""

import gzip
import json
import os
import stat

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from multiqsm.bids_templates import load_template
from multiqsm.dataset.anatomy import check_recon_all, find_anatomy, find_atria, read_points
from multiqsm.dataset.labels import bilateral_names
from multiqsm.dataset.problems import DatasetError
from multiqsm.interfaces.anatomy import LabelsFromFreeSurfer, RunReconAll
from multiqsm.interfaces.lesions import SaveLesions, SegmentLesions
from multiqsm.interfaces.quality import SaveQuality

AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1, 0, -18], [0, 0, 1.5, -15], [0, 0, 0, 1]])
SHAPE = (40, 36, 24)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(path.name.encode()))
    return path


@pytest.fixture
def raw(tmp_path):
    touch(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    touch(tmp_path / "sub-01/anat/sub-01_FLAIR.nii.gz")
    return tmp_path / "sub-01"


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "derivatives" / "some"


def test_no_files_give_an_empty_anatomy(dataset, tmp_path):
    anatomy, left_out = find_anatomy("01", None, [dataset])
    assert (anatomy.t1w, anatomy.flair, anatomy.freesurfer, anatomy.lesions) == (None,) * 4
    assert left_out == []
    assert find_anatomy("01", tmp_path / "sub-01", [])[0] == anatomy


@pytest.mark.parametrize(
    ("present", "chosen"),
    [
        (("orig.mgz", "T1.mgz", "brain.mgz"), "orig.mgz"),
        (("brain.mgz",), "brain.mgz"),
        ((), "T1w"),
    ],
)
def test_freesurfers_own_image_registers_its_labels_before_the_t1w(raw, dataset, present, chosen):
    for name in ("aseg.mgz", *present):
        touch(dataset / "sub-01" / "mri" / name)
    anatomy, left_out = find_anatomy("01", raw, [dataset])
    assert anatomy.freesurfer.image_source == chosen
    assert anatomy.freesurfer.image.name == (chosen if chosen in present else "sub-01_T1w.nii.gz")
    assert left_out == []


def test_flair_registers_the_labels_only_without_better_images(raw, dataset):
    touch(dataset / "sub-01_ses-1" / "mri" / "aseg.mgz")
    (raw / "anat/sub-01_T1w.nii.gz").unlink()
    assert find_anatomy("01", raw, [dataset])[0].freesurfer.image_source == "FLAIR"
    (raw / "anat/sub-01_FLAIR.nii.gz").unlink()
    anatomy, (problem,) = find_anatomy("01", raw, [dataset])
    assert anatomy.freesurfer is None
    assert problem.severity == "error"
    assert "no image to register these labels to the scans" in problem.text


def test_unfinished_and_ambiguous_freesurfer_results_are_reported(raw, dataset):
    (dataset / "sub-01" / "mri").mkdir(parents=True)
    (dataset / "sub-011" / "mri").mkdir(parents=True)
    anatomy, (problem,) = find_anatomy("01", raw, [dataset])
    assert anatomy.freesurfer is None
    assert "recon-all did not finish" in problem.text
    for name in ("sub-01", "sub-01_ses-2"):
        touch(dataset / name / "mri" / "aseg.mgz")
    _, (problem,) = find_anatomy("01", raw, [dataset])
    assert "more than one" in problem.text


def test_lesions_are_found_in_any_session(raw, dataset):
    folder = dataset / "sub-01" / "ses-1" / "anat"
    seeds = touch(folder / "sub-01_ses-1_desc-seeds_FLAIR.tsv")
    added = touch(folder / "sub-01_ses-1_desc-lesionadd_mask.nii.gz")
    # the truth of a simulation
    touch(dataset / "sub-01" / "anat" / "sub-01_desc-lesions_mask.nii.gz")
    anatomy, left_out = find_anatomy("01", raw, [dataset])
    lesions = anatomy.lesions
    assert (lesions.seeds, lesions.added, lesions.removed, lesions.ready) == (
        seeds,
        added,
        None,
        None,
    )
    assert lesions.flair.name == "sub-01_FLAIR.nii.gz"
    assert left_out == []


def test_complete_mask_has_precedence_over_seeds(raw, dataset):
    ready = touch(dataset / "sub-01" / "anat" / "sub-01_space-orig_label-lesion_mask.nii.gz")
    touch(dataset / "sub-01" / "anat" / "sub-01_desc-seeds_mask.nii.gz")
    anatomy, (problem,) = find_anatomy("01", raw, [dataset])
    assert (anatomy.lesions.ready, anatomy.lesions.seeds) == (ready, None)
    assert "there is a complete lesion mask" in problem.text
    assert problem.severity == "note"


def test_unusable_lesion_marks_are_reported(raw, dataset):
    folder = dataset / "sub-01" / "anat"
    touch(folder / "sub-01_desc-lesionremove_mask.nii.gz")
    anatomy, (problem,) = find_anatomy("01", raw, [dataset])
    assert anatomy.lesions is None
    assert "nothing to edit" in problem.text
    touch(folder / "sub-01_desc-seeds_FLAIR.tsv")
    (raw / "anat/sub-01_FLAIR.nii.gz").unlink()
    _, (problem,) = find_anatomy("01", raw, [dataset])
    assert "no FLAIR image" in problem.text
    touch(raw / "anat/sub-01_FLAIR.nii.gz")
    touch(folder / "sub-01_desc-seeds_mask.nii.gz")
    _, (problem,) = find_anatomy("01", raw, [dataset])
    assert "files of seeds: more than one" in problem.text


def test_first_of_several_images_is_used_and_a_note_names_the_others(raw, dataset):
    second_image = touch(raw / "ses-2/anat/sub-01_ses-2_FLAIR.nii.gz")
    assert find_anatomy("01", raw, [dataset])[1] == []
    touch(dataset / "sub-01" / "ses-3" / "anat" / "sub-01_ses-3_desc-seeds_mask.nii.gz")
    anatomy, (problem,) = find_anatomy("01", raw, [dataset])
    assert anatomy.lesions.flair == anatomy.flair == raw / "anat/sub-01_FLAIR.nii.gz"
    assert problem.scan == second_image.name
    assert problem.text.startswith("not used: sub-01_FLAIR.nii.gz is the first")


def test_lesion_marks_belong_to_the_flair_image_of_their_session(raw, dataset):
    own = touch(raw / "ses-2/anat/sub-01_ses-2_FLAIR.nii.gz")
    touch(dataset / "sub-01" / "ses-2" / "anat" / "sub-01_ses-2_desc-seeds_mask.nii.gz")
    anatomy, left_out = find_anatomy("01", raw, [dataset])
    assert anatomy.lesions.flair == own
    assert left_out == []


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-9], lambda b: b[:-8] + bytes(8)])
def test_damaged_files_are_reported_and_not_used(raw, dataset, damage):
    aseg = touch(dataset / "sub-01" / "mri" / "aseg.mgz")
    touch(dataset / "sub-01" / "mri" / "orig.mgz")
    seeds = touch(dataset / "sub-01" / "anat" / "sub-01_desc-seeds_mask.nii.gz")
    spoilt = [aseg, seeds, raw / "anat" / "sub-01_T1w.nii.gz"]
    for path in spoilt:
        path.write_bytes(damage(path.read_bytes()))
    anatomy, left_out = find_anatomy("01", raw, [dataset])
    assert (anatomy.freesurfer, anatomy.lesions, anatomy.t1w) == (None, None, None)
    assert anatomy.flair is not None
    assert len(left_out) == len(spoilt)
    for path in spoilt:
        (problem,) = [problem for problem in left_out if problem.text.startswith(f"{path}: ")]
        assert problem.severity == "error"
        assert "copy" in problem.text


def test_table_of_points_is_read_and_validated(tmp_path):
    path = tmp_path / "points.tsv"
    path.write_text("name\tx\ty\tz\na\t1\t-2.5\t3e1\n")
    assert read_points(path) == [(1.0, -2.5, 30.0)]
    for text, cause in (
        ("x\ty\n1\t2\n", "no column z"),
        ("x\ty\tz\n", "the table has no points"),
        ("x\ty\tz\n1\t2\tn/a\n", "line 2: 'n/a' is not a coordinate"),
        ("x\ty\tz\n1\t2\n", "is not a coordinate"),
    ):
        path.write_text(text)
        with pytest.raises(DatasetError, match=cause):
            read_points(path)
    path.write_bytes(b"x\ty\tz\n1\t2\t\xff\n")
    with pytest.raises(DatasetError, match="line 2: '\ufffd' is not a coordinate"):
        read_points(path)


def test_points_in_the_atria_of_a_scan_are_found(dataset):
    assert find_atria("sub-01_run-1", "sub-01", [dataset]) == []
    path = touch(dataset / "sub-01" / "anat" / "sub-01_run-1_desc-atrium_points.tsv")
    path.write_text("x\ty\tz\n-22\t-40\t12\n24\t-41\t12\n")
    assert find_atria("sub-01_run-1", "sub-01", [dataset]) == [(-22, -40, 12), (24, -41, 12)]
    assert find_atria("sub-01_run-10", "sub-01", [dataset]) == []


def test_structures_with_both_sides():
    names = {
        1: "left_a",
        2: "right_a",
        3: "left_b",
        4: "left_c",
        5: "right_c",
        6: "c",
        7: "left d",
        8: "right d",
    }
    assert bilateral_names(names) == {1: "a", 2: "a"}


# ------------------------------------------------------------------------------
# Nodes
# ------------------------------------------------------------------------------


def flair_with_balls(centres, radius=5.0):
    points = np.indices(SHAPE).reshape(3, -1).T @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    image = np.where(np.linalg.norm(points / (18, 16, 15), axis=1) < 1, 100.0, 0)
    inside = np.zeros(len(points), bool)
    for centre in centres:
        inside |= np.linalg.norm(points - centre, axis=1) < radius
    image[inside] = 180
    rng = np.random.default_rng(0)
    return (image + rng.normal(0, 2, len(points))).reshape(SHAPE), inside.reshape(SHAPE)


def save(path, data, affine=AFFINE):
    nib.save(
        nib.Nifti1Image(np.asarray(data, np.uint8 if data.dtype == bool else np.float32), affine),
        path,
    )
    return str(path)


CENTRES = [(-8.0, 2.0, 3.0), (7.0, -3.0, -3.0)]


@pytest.fixture
def marked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, lesions = flair_with_balls(CENTRES)
    seeds = tmp_path / "seeds.tsv"
    seeds.write_text(
        "x\ty\tz\n" + "".join("\t".join(map(str, c)) + "\n" for c in [*CENTRES, (0, 10, 0)])
    )
    return (
        {"flair_file": save(tmp_path / "flair.nii", image), "seeds_file": str(seeds)},
        lesions,
        tmp_path,
    )


def test_seeds_in_mm_grow_into_the_lesions(marked):
    files, lesions, _ = marked
    outputs = SegmentLesions(**files).run().outputs
    np.testing.assert_array_equal(nib.load(outputs.mask_file).get_fdata() > 0, lesions)
    assert outputs.record["Seeds"] == 3
    np.testing.assert_allclose(outputs.record["SeedsNotGrown"], [[0, 10, 0]], atol=1)


def test_seeds_may_be_a_mask(marked):
    files, lesions, folder = marked
    points = np.zeros(SHAPE, bool)
    for centre in CENTRES:
        index = np.rint(np.linalg.inv(AFFINE) @ [*centre, 1])[:3].astype(int)
        points[tuple(slice(i - 1, i + 2) for i in index)] = True
    files["seeds_file"] = save(folder / "seeds.nii", points)
    outputs = SegmentLesions(**files).run().outputs
    assert len(outputs.seeds) == 2
    np.testing.assert_array_equal(nib.load(outputs.mask_file).get_fdata() > 0, lesions)


def test_voxels_are_added_and_removed_by_hand(marked):
    files, lesions, folder = marked
    added, removed = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    added[2:4, 2:4, 2:4] = removed[:20] = True
    edits = {
        "added_file": save(folder / "add.nii", added),
        "removed_file": save(folder / "remove.nii", removed),
    }
    outputs = SegmentLesions(**files, **edits).run().outputs
    np.testing.assert_array_equal(
        nib.load(outputs.mask_file).get_fdata() > 0, (lesions | added) & ~removed
    )
    assert outputs.record["VoxelsByAddedMask"] == 8
    assert outputs.record["VoxelsByRemovedMask"] == np.count_nonzero((lesions | added) & removed)


def test_complete_mask_may_have_any_grid(marked):
    files, lesions, folder = marked
    files.pop("seeds_file")
    turned = lesions[::-1].transpose(1, 0, 2)
    affine = AFFINE @ np.array(
        [[0, -1.0, 0, SHAPE[0] - 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    outputs = (
        SegmentLesions(**files, ready_file=save(folder / "ready.nii", turned, affine)).run().outputs
    )
    np.testing.assert_array_equal(nib.load(outputs.mask_file).get_fdata() > 0, lesions)
    assert "as it is" in outputs.record["LesionSource"]


def test_lesions_are_saved_with_their_table(marked):
    files, lesions, folder = marked
    outputs = SegmentLesions(**files).run().outputs
    SaveLesions(
        mask_file=outputs.mask_file,
        seeds=outputs.seeds,
        record=outputs.record,
        flair_file=files["flair_file"],
        flair_uri="bids:raw:sub-01/anat/sub-01_FLAIR.nii.gz",
        columns=load_template("lesion_table"),
        subject="01",
        output_dir=str(folder / "out"),
    ).run()
    anat = folder / "out" / "sub-01" / "anat"
    table = pd.read_csv(anat / "sub-01_desc-lesions_stats.tsv", sep="\t")
    assert list(table) == list(load_template("lesion_table"))
    assert table["lesion"].tolist() == ["1", "2", "total"]
    assert table["volume"].iloc[-1] == pytest.approx(lesions.sum() * 1.5 / 1000)
    points = sorted(table[["x", "y", "z"]][:2].to_numpy().tolist())
    np.testing.assert_allclose(points, sorted(CENTRES), atol=0.3)
    saved = nib.load(anat / "sub-01_space-FLAIR_label-lesion_mask.nii.gz")
    np.testing.assert_array_equal(saved.get_fdata() > 0, lesions)
    np.testing.assert_allclose(saved.affine, AFFINE)


def test_freesurfer_labels_without_any_region_are_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    aseg = tmp_path / "aseg.mgz"
    nib.save(nib.MGHImage(np.full((4, 4, 4), 2, np.int32), np.eye(4)), aseg)
    image = save(tmp_path / "image.nii", np.ones((4, 4, 4)))
    node = LabelsFromFreeSurfer(
        aseg_file=str(aseg),
        image_file=image,
        image_source="T1w",
        average_file=image,
        mask_file=image,
    )
    with pytest.raises(ValueError, match="none of the labels"):
        node.run()


def test_missing_recon_all_is_reported(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DatasetError, match="not on the PATH; install FreeSurfer"):
        check_recon_all()


def test_recon_all_is_run_once(tmp_path, monkeypatch):
    """A stand-in writes FreeSurfer's results, with the command line and folders of FreeSurfer."""
    program = tmp_path / "bin" / "recon-all"
    program.parent.mkdir()
    log = tmp_path / "calls"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\nfor last; do sd=$last; done\n'
        'mkdir -p "$sd/sub-01/mri" && touch "$sd/sub-01/mri/aseg.mgz" "$sd/sub-01/mri/orig.mgz"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    t1w = touch(tmp_path / "sub-01_T1w.nii.gz")
    node = {"subject": "01", "t1w_file": str(t1w), "subjects_dir": str(tmp_path / "freesurfer")}
    for _ in range(2):
        outputs = RunReconAll(**node).run().outputs
        assert outputs.aseg_file == str(tmp_path / "freesurfer" / "sub-01" / "mri" / "aseg.mgz")
        assert outputs.image_file.endswith("orig.mgz")
    calls = [line for line in log.read_text().splitlines() if "-subjid" in line]
    assert len(calls) == 1
    assert "-all" in calls[0]
    assert str(t1w) in calls[0]


def test_table_of_quality_has_one_row_per_scan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 1:4, 1:5] = True
    chi = save(tmp_path / "chi.nii", np.zeros(mask.shape))
    sidecar = {
        "MagnitudeNoiseStandardDeviation": 2.0,
        "UnresolvedVoxels": 6,
        "MedianFieldStandardError": 0.001,
        "FirstEchoSignalToNoise": 120.0,
    }
    sidecar |= {"Lambda": 1e4, "LambdaUnits": "mm", "LocalFieldStandardDeviation": 0.07}
    (tmp_path / "chi.json").write_text(json.dumps(sidecar))
    second_map = save(tmp_path / "other.nii", np.zeros(mask.shape))
    (tmp_path / "other.json").write_text(json.dumps(sidecar | {"LambdaAtBound": True}))
    bare = save(tmp_path / "bare.nii", np.zeros(mask.shape))
    motion = [{"translation": 1.0, "rotation": 0.5, "displacement": 0.1}, {"cause": "too far"}]
    SaveQuality(
        maps=[{"medi": chi, "iterative": second_map}, {"medi": bare}],
        magnitude_files=[save(tmp_path / "magnitude.nii", np.full(mask.shape, 300.0))] * 2,
        mask_files=[save(tmp_path / "mask.nii", mask)] * 2,
        motion=motion,
        labels=[{"run": run, "acquisition": "x", "site": "A", "scan": int(run)} for run in "12"],
        subject="01",
        columns=load_template("quality_table"),
        output_dir=str(tmp_path / "out"),
    ).run()
    path = tmp_path / "out/sub-01/anat/sub-01_desc-quality_stats.tsv"
    table = pd.read_csv(path, sep="\t", na_values="n/a", keep_default_na=False)
    assert list(table) == list(load_template("quality_table"))
    first, second = table.to_dict("records")
    assert (first["snr"], first["snr_first_echo"], first["field_se"]) == (150, 120, 0.001)
    assert (first["acquisition"], first["site"], first["scan"]) == ("x", "A", 1)
    assert first["unresolved_fraction"] == pytest.approx(6 / 30)
    assert first["mask_volume"] == pytest.approx(24 * 1.5 / 1000)
    assert first["displacement"] == 0.1
    assert first["local_field_sd"] == 0.07
    assert (first["lambda_at_bound"], first["doubts"]) == (
        "iterative",
        "local_field_sd, lambda_at_bound",
    )
    assert (second["lambda_at_bound"], second["doubts"]) == ("none", "none")
    assert np.isnan(second["snr"])
    assert second["cause"] == "too far"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (".bidsignore", "**/*_T1w*\n", "listed in .bidsignore (**/*_T1w*)"),
        (
            "sub-01/sub-01_scans.tsv",
            "filename\texclude\tcomment\nanat/sub-01_T1w.nii.gz\t1\tblurred\n",
            "exclude is '1': blurred (sub-01_scans.tsv, line 2)",
        ),
    ],
)
def test_images_that_the_study_excludes_are_not_used(raw, name, text, reason):
    (raw.parent / name).write_text(text)
    anatomy, (problem,) = find_anatomy("01", raw, [])
    assert anatomy.t1w is None
    assert anatomy.flair is not None
    assert (problem.severity, problem.cause) == ("unused", reason)
    assert problem.scan == "the T1w image of sub-01"
