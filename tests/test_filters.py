"""A filter chooses scans; what was drawn on the others serves those that are chosen, or its loss is told."""

import json

import nibabel as nib
import numpy as np
import pytest

from multiqsm.cli.app import main
from multiqsm.dataset.group import read_roi_table, read_tsv

OPTIONS = ("--inversion", "deterministic", "--background", "highpass", "--se-draws", "0", "--reference", "brain")
OPTIONS += ("--plugin", "Linear")


def run(root, *options):
    out, work = root.parent / "out", root.parent / "work"
    return main([str(root), str(out), "participant", "-w", str(work), *OPTIONS, *options])


def iron(shape, voxel_size=(2.5, 2.5, 3)):
    """The ball of iron in `ball_head`, as a label image."""
    axes = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(shape, voxel_size, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return ((x - 5) ** 2 + y**2 + (z - 3) ** 2 < 6**2).astype(np.uint8)


def draw(root, session, head):
    """Draw the iron on the scan of a session."""
    folder = root / "derivatives" / "rater" / "sub-01" / f"ses-{session}" / "anat"
    folder.mkdir(parents=True)
    (root / "derivatives" / "rater" / "dataset_description.json").write_text(
        json.dumps({"Name": "Rater", "BIDSVersion": "1.10.0", "DatasetType": "derivative"})
    )
    path = folder / f"sub-01_ses-{session}_desc-rois_dseg.nii.gz"
    nib.save(nib.Nifti1Image(iron(head["shape"]), head["affine"]), path)
    path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text("index\tname\n1\tiron\n")
    return path


def table_of(root, session):
    return root.parent / "out" / "sub-01" / f"ses-{session}" / "anat" / f"sub-01_ses-{session}_desc-rois_chi.tsv"


@pytest.mark.slow
def test_regions_of_a_session_that_is_filtered_out(make_dataset, ball_head, capfd):
    """Without its maps they are lost, and told of; once there are some, they are carried, and it has no other part."""
    root = make_dataset(sessions=("1", "2"), **ball_head)
    drawn = draw(root, "1", ball_head)

    assert run(root, "--session-label", "2") == 1
    said, page = capfd.readouterr(), (root.parent / "out" / "sub-01.html").read_text()
    for text in ("regions of sub-01_ses-1", "they are lost to"):
        assert text in said.err
        assert text in page
    assert "1 faults after the maps were made" in said.out
    assert "All well" not in page
    assert not table_of(root, "2").exists()
    assert "No region was measured" in (root.parent / "out" / "logs" / "CITATION.md").read_text()

    assert run(root) == 0
    both = read_roi_table(table_of(root, "2"))
    table_of(root, "2").unlink()
    first = table_of(root, "1").read_bytes()
    assert run(root, "--session-label", "2") == 0
    page = (root.parent / "out" / "sub-01.html").read_text()
    assert "All well" in page
    table = read_roi_table(table_of(root, "2"))
    # The same person, whose two scans differ by noise alone: a space of one scan or of both is the same for the region.
    assert table["mean"].to_numpy() == pytest.approx(both["mean"].to_numpy(), abs=0.005)
    told = json.loads(table_of(root, "2").with_suffix(".json").read_text())
    assert told["RegionsFrom"] == drawn.name
    assert table_of(root, "1").read_bytes() == first
    registration = read_tsv(root.parent / "out" / "sub-01" / "anat" / "sub-01_desc-registration_xfm.tsv")
    assert registration["session"].tolist() == ["2", "1"]
    assert registration["site"].isna().tolist() == [False, True]
    assert registration["translation"].isna().tolist() == [True, False]
    assert registration["translation"].iloc[1] < 0.3
    quality = read_tsv(root.parent / "out" / "sub-01" / "anat" / "sub-01_desc-quality_stats.tsv")
    assert quality["session"].tolist() == ["2"]
    assert quality[["translation", "rotation", "displacement"]].isna().all(axis=None)


@pytest.mark.slow
def test_regions_of_a_scan_that_cannot_be_processed(make_dataset, ball_head, capfd):
    """The same loss without any filter."""
    root = make_dataset(sessions=("1", "2"), **ball_head)
    draw(root, "1", ball_head)
    for path in (root / "sub-01" / "ses-1").rglob("*part-phase*"):
        path.unlink()
    assert run(root) == 1
    assert "failed: regions of sub-01_ses-1: they were drawn on a scan" in capfd.readouterr().err


@pytest.mark.slow
def test_what_is_not_needed_is_not_lost(make_dataset, ball_head, capfd):
    """The chosen session has regions of its own."""
    root = make_dataset(sessions=("1", "2"), **ball_head)
    for session in "12":
        draw(root, session, ball_head)
    assert run(root, "--session-label", "2") == 0
    assert "lost" not in capfd.readouterr().err
