"""Atlases: which labels are used, what their names are, and which files are refused."""

import json
import shutil
from types import SimpleNamespace

import nibabel as nib
import nilearn.datasets
import numpy as np
import pytest

from multiqsm.dataset.atlas import PAULI_NAMES, load_atlas, load_mni_template
from multiqsm.dataset.problems import DatasetError

AFFINE = np.array([[-0.7, 0, 0, 20], [0, 0.7, 0, -30], [0, 0, 0.7, -25], [0, 0, 0, 1]])
LOOKUP = "index\tname\n1\tputamen\n5\tred_nucleus\n"


def save(path, values, lookup=LOOKUP):
    nib.save(nib.Nifti1Image(np.resize(values, (3, 4, 5)), AFFINE), path)
    if lookup is not None:
        path.with_name(f"{path.name.split('.')[0]}.tsv").write_text(lookup)
    return path


@pytest.mark.parametrize("name", ["nuclei.nii", "nuclei.nii.gz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_atlas_from_a_file(tmp_path, name, dtype):
    values = np.array([0, 1, 5, 1], dtype)
    atlas = load_atlas(save(tmp_path / name, values))
    assert atlas.names == {1: "putamen", 5: "red_nucleus"}
    assert (atlas.name, atlas.notes) == (name, ())
    np.testing.assert_array_equal(atlas.labels, np.resize(values, (3, 4, 5)))
    assert atlas.labels.dtype == np.int32
    np.testing.assert_allclose(atlas.affine, AFFINE, atol=1e-6)


def test_large_labels_are_read_exactly(tmp_path):
    large = 2**24 + 1  # in single precision it would be even
    lookup = f"index\tname\n1\tputamen\n{large}\tred_nucleus\n"
    atlas = load_atlas(save(tmp_path / "a.nii.gz", np.array([0, 1, large], np.int32), lookup))
    assert np.unique(atlas.labels).tolist() == [0, 1, large]


def test_labels_without_a_name_are_ignored(tmp_path):
    atlas = load_atlas(str(save(tmp_path / "a.nii", np.array([0, 1, 2, 3], np.int16))))
    assert np.unique(atlas.labels).tolist() == [0, 1]
    assert "ignored (2, 3)" in atlas.notes[0]


@pytest.mark.parametrize(
    ("values", "lookup", "cause"),
    [
        (np.array([0, 1], np.uint8), None, "no lookup table"),
        (np.array([0, 1], np.uint8), "index\n1\n", "no column name"),
        (np.array([0, 2], np.uint8), LOOKUP, "none of the labels"),
        (np.array([0, 0.5], np.float32), LOOKUP, "whole numbers"),
        (np.array([0, -1], np.int16), LOOKUP, "whole numbers"),
    ],
)
def test_invalid_atlases_are_refused(tmp_path, values, lookup, cause):
    with pytest.raises(DatasetError, match=cause):
        load_atlas(save(tmp_path / "a.nii.gz", values, lookup))


def test_files_that_are_not_label_images_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="no atlas of this name"):
        load_atlas("pauli2018")
    (tmp_path / "a.txt").write_text("1")
    with pytest.raises(DatasetError, match="no such NIfTI file"):
        load_atlas(tmp_path / "a.txt")
    path = save(tmp_path / "a.nii.gz", np.array([0, 1], np.uint8))
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2, 3), np.uint8), AFFINE), path)
    with pytest.raises(DatasetError, match="4 dimensions"):
        load_atlas(path)
    path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="copy it again, or create it again"):
        load_atlas(path)


def test_pauli_2017_with_the_names_of_the_nuclei(tmp_path, monkeypatch):
    """As nilearn returns it: labels are numbered from 1 in the order of the list."""
    abbreviations = list(PAULI_NAMES)
    path = save(tmp_path / "maps.nii.gz", np.arange(17, dtype=np.uint8), None)
    monkeypatch.setattr(
        nilearn.datasets,
        "fetch_atlas_pauli_2017",
        lambda **options: SimpleNamespace(maps=str(path), labels=abbreviations),
    )
    atlas = load_atlas("pauli2017")
    assert len(atlas.names) == len(set(atlas.names.values())) == 14
    source = np.resize(np.arange(17), (3, 4, 5))
    for index, abbreviation in enumerate(abbreviations, start=1):
        (label,) = np.unique(atlas.labels[source == index])
        assert atlas.names[label] == PAULI_NAMES[abbreviation]
    assert not atlas.labels[source == 0].any()
    assert {
        "caudate_nucleus",
        "putamen",
        "globus_pallidus",
        "red_nucleus",
        "substantia_nigra",
    } < set(atlas.names.values())


def test_failed_download_tells_what_to_do(monkeypatch):
    def offline(**options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(nilearn.datasets, "fetch_atlas_pauli_2017", offline)
    with pytest.raises(DatasetError, match=r"no route to host.*fetch_atlas_pauli_2017.*path"):
        load_atlas("pauli2017")


@pytest.mark.parametrize("resolution", [1, 2])
def test_template_and_its_mask_have_the_same_grid(resolution):
    t1, affine, mask = load_mni_template(resolution)
    assert t1.shape == mask.shape
    assert mask.dtype == bool
    np.testing.assert_allclose(np.diag(affine)[:3], resolution)
    assert 1.5e6 < mask.sum() * resolution**3 < 2.2e6  # mm³ of a brain


def test_big_brain(shared, tmp_path):
    """A published atlas with voxels of 0.5 mm: left and right are not confused."""
    folder = shared / "data" / "atlas_bigbrain"
    if not folder.is_dir():
        pytest.skip("no BigBrain atlas among the shared data")
    shutil.copy(folder / "bigbrain.nii.gz", tmp_path)
    names = json.loads((folder / "bigbrain.json").read_text())["labels"]
    rows = [f"{index}\t{name}" for index, name in enumerate(names) if name]
    (tmp_path / "bigbrain.tsv").write_text("\n".join(["index\tname", *rows]) + "\n")
    atlas = load_atlas(tmp_path / "bigbrain.nii.gz")
    assert len(atlas.names) == 22
    for index, name in atlas.names.items():
        x = (
            np.argwhere(atlas.labels[::4, ::4, ::4] == index) * 4 @ atlas.affine[:3, :3].T
            + atlas.affine[:3, 3]
        )[:, 0]
        assert np.median(x) * (-1 if name.startswith("Left") else 1) > 2
