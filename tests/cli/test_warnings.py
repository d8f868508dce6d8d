"""Warnings about several scans: regions of scans that a filter excludes, subject spaces of other
scans, echoes stored as runs.
"""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from multiqsm.cli.app import main
from multiqsm.cohort.roi_tables import read_roi_table
from multiqsm.dataset.tables import read_tsv

OPTIONS = (
    *("--inversion", "deterministic", "--background", "highpass", "--se-draws", "0"),
    *("--reference", "brain", "--plugin", "Linear"),
)


def run(root, *options):
    out = str(root.parent / "out")
    work = str(root.parent / "work")
    return main([str(root), out, "participant", "-w", work, *OPTIONS, *options])


def iron(shape, voxel_size=(2.5, 2.5, 3)):
    """Return a label image of the ball of iron in `ball_head`."""
    centre = (np.array(shape) - 1) / 2
    indices = np.moveaxis(np.indices(shape), 0, -1)
    x, y, z = np.moveaxis((indices - centre) * voxel_size, -1, 0)
    return ((x - 5) ** 2 + y**2 + (z - 3) ** 2 < 6**2).astype(np.uint8)


def draw(root, session, head, name=None):
    """Draw the iron on the scan of a session, or under another name."""
    folder = root / "derivatives" / "rater" / "sub-01" / ("" if name else f"ses-{session}") / "anat"
    folder.mkdir(parents=True)
    (root / "derivatives" / "rater" / "dataset_description.json").write_text(
        json.dumps({"Name": "Rater", "BIDSVersion": "1.10.0", "DatasetType": "derivative"})
    )
    path = folder / f"sub-01_{name or f'ses-{session}_desc-rois'}_dseg.nii.gz"
    nib.save(nib.Nifti1Image(iron(head["shape"]), head["affine"]), path)
    path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text("index\tname\n1\tiron\n")
    return path


def table_of(root, session):
    return (
        root.parent
        / "out"
        / "sub-01"
        / f"ses-{session}"
        / "anat"
        / f"sub-01_ses-{session}_desc-rois_chi.tsv"
    )


@pytest.mark.slow
def test_regions_of_a_session_that_is_filtered_out(make_dataset, ball_head, capfd):
    """Without maps of that session its regions are reported as lost. With maps they are resampled
    to the other session, and nothing else of that session is used.
    """
    root = make_dataset(sessions=("1", "2"), **ball_head)
    drawn = draw(root, "1", ball_head)

    assert run(root, "--session-label", "2") == 1
    printed = capfd.readouterr()
    page = (root.parent / "out" / "sub-01.html").read_text()
    for text in ("regions of sub-01_ses-1", "process that scan as well"):
        assert text in printed.err
        assert text in page
    assert "1 error in registration, regions or reports" in printed.out
    assert "No problems" not in page
    assert not table_of(root, "2").exists()
    assert "No region was measured" in (root.parent / "out" / "logs" / "CITATION.md").read_text()

    assert run(root) == 0
    values_of_two = read_roi_table(table_of(root, "2"))
    table_of(root, "2").unlink()
    first = table_of(root, "1").read_bytes()
    capfd.readouterr()
    assert run(root, "--session-label", "2") == 0
    text = "sub-01: the maps of sub-01_ses-1 in the subject space are from an earlier run"
    assert f"warning: {text}" in capfd.readouterr().err
    page = (root.parent / "out" / "sub-01.html").read_text()
    assert "failed: " not in page
    assert text in page
    assert "no registration" in page
    assert "registered rigidly" not in page
    table = read_roi_table(table_of(root, "2"))
    # The two scans differ by noise alone, so that the region's value does not depend on whether the
    # subject space is that of one scan or of both.
    expected = values_of_two["mean"].to_numpy()
    assert table["mean"].to_numpy() == pytest.approx(expected, abs=0.005)
    sidecar = json.loads(table_of(root, "2").with_suffix(".json").read_text())
    assert sidecar["RegionsFrom"] == drawn.name
    assert table_of(root, "1").read_bytes() == first
    registration = read_tsv(
        root.parent / "out" / "sub-01" / "anat" / "sub-01_desc-registration_xfm.tsv"
    )
    assert registration["session"].tolist() == ["2", "1"]
    assert registration["site"].isna().tolist() == [False, True]
    assert registration["translation"].isna().tolist() == [True, False]
    assert registration["translation"].iloc[1] < 0.3
    quality = read_tsv(root.parent / "out" / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv")
    assert quality["session"].tolist() == ["2"]
    assert quality[["translation", "rotation", "displacement"]].isna().all(axis=None)


@pytest.mark.slow
def test_regions_in_a_space_of_other_scans(make_dataset, ball_head, capfd):
    """The subject space depends on the scans: regions on another grid are warned of."""
    root = make_dataset(sessions=("1",), **ball_head)
    path = draw(root, "1", ball_head, name="space-subject_desc-rois")
    assert run(root) == 0
    assert "on another grid" not in capfd.readouterr().err
    moved = ball_head["affine"].copy()
    moved[:3, 3] += 4
    nib.save(nib.Nifti1Image(iron(ball_head["shape"]), moved), path)
    assert run(root) == 0
    text = (
        f"sub-01: {path.name} is on another grid than "
        "sub-01_space-subject_desc-average_T2starw.nii.gz"
    )
    assert f"warning: {text}" in capfd.readouterr().err
    assert text in (root.parent / "out" / "sub-01.html").read_text()


@pytest.mark.slow
def test_echoes_stored_as_runs(tmp_path, shared, capfd):
    """Audit, dry run, run and report warn of them, and they are not taken for repeats."""
    root = tmp_path / "raw"
    shutil.copytree(shared / "cases" / "echoes_as_runs", root)
    labels = "sub-01_run-1, sub-01_run-2, sub-01_run-3, sub-01_run-4"
    text = f"{labels} look like the echoes of one scan: EchoTime 6, 14, 22, 30"
    run(root)  # some of its four scans may not be registered to one another
    assert capfd.readouterr().err.count(f"{text} ms; name them echo-1 to echo-4") == 4
    out = tmp_path / "out"
    assert text in (out / "sub-01.html").read_text()
    assert len(list(out.glob("sub-01/anat/sub-01_run-?_desc-deterministic_Chimap.nii.gz"))) == 4
    quality = read_tsv(out / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv")
    assert (quality["scan"] == 1).all()
    assert quality["echo_times"].tolist() == ["6", "14", "22", "30"]
    assert not list(out.glob("sub-01/anat/*sd_Chimap.nii.gz"))
    assert run(root, "--dry-run") == 0
    assert capfd.readouterr().out.count(text) == 4
