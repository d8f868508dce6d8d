"""Regions drawn by a user: which files are used, which table names them, and which are refused."""

import json

import nibabel as nib
import numpy as np
import pytest

from multiqsm.dataset.labels import find_labels, find_subject_labels, have_same_grid, read_lookup
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.sources import derivative_datasets

SCAN = {"subject": "01", "session": "A", "acquisition": "x", "run": "1"}
STEM = "sub-01/ses-A/anat/sub-01_ses-A_acq-x_run-1"
AFFINE = np.array([[0.9, 0, 0.3, -3], [0, 1, 0, -2], [-0.3, 0, 1.8, -4], [0, 0, 0, 1]])
MOVED = AFFINE.copy()
MOVED[0, 3] += 0.2
LOOKUP = "index\tname\n1\tputamen\n2\tcsf\n"


def draw(
    dataset,
    stem=f"{STEM}_desc-rois",
    *,
    values=(0, 1, 2),
    shape=(3, 4, 5),
    affine=AFFINE,
    lookup=None,
    dtype="u1",
):
    """Write a label image, and its table if there is one."""
    path = dataset / f"{stem}_dseg.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.resize(np.array(values, dtype), shape)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    if lookup is not None:
        path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text(lookup)
    return path


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "derivatives" / "rater"


@pytest.fixture
def image(tmp_path):
    """An image of the scan."""
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), AFFINE), path)
    return path


def test_labels_on_a_scan(dataset, image):
    path = draw(dataset, lookup=LOOKUP)
    labels = find_labels(SCAN, [dataset], image=image)
    assert (labels.path, labels.lookup) == (
        path,
        path.with_name(path.name.replace(".nii.gz", ".tsv")),
    )
    assert labels.names == {1: "putamen", 2: "csf"}
    assert (labels.space, labels.entities, labels.expected, labels.notes) == ("scan", SCAN, {}, ())


def test_no_labels(dataset):
    assert find_labels(SCAN, []) is None
    assert find_labels(SCAN, [dataset]) is None
    assert find_subject_labels("01", [dataset]) is None
    assert derivative_datasets(dataset.parent.parent) == []


@pytest.mark.parametrize("own", ["", "_desc-rois", "_seg-nuclei", "_seg-nuclei_desc-rois"])
def test_names_of_label_images(dataset, own):
    draw(dataset, STEM + own, lookup=LOOKUP)
    assert find_labels(SCAN, [dataset]).names[1] == "putamen"


@pytest.mark.parametrize(
    "stem",
    [
        f"{STEM}_desc-truth",
        f"{STEM}_space-MNI152_desc-rois",
        "sub-01/ses-A/anat/sub-01_ses-A_acq-x_run-2_desc-rois",
        "sub-01/ses-A/anat/sub-01_ses-A_acq-x_desc-rois",
        "sub-01/ses-B/anat/sub-01_ses-B_acq-x_run-1_desc-rois",
        "sub-01/anat/sub-01_space-subject_desc-rois",
    ],
)
def test_labels_of_another_image_are_not_used(dataset, stem):
    draw(dataset, stem, lookup=LOOKUP)
    assert find_labels(SCAN, [dataset]) is None


def test_labels_in_the_subjects_space(dataset):
    draw(dataset, "sub-01/anat/sub-01_space-subject_seg-nuclei_desc-rois", lookup=LOOKUP)
    draw(dataset, "sub-02/anat/sub-02_space-subject", lookup=LOOKUP)
    labels = find_subject_labels("01", [dataset])
    assert (labels.space, labels.entities) == ("subject", {"subject": "01"})
    assert find_subject_labels("02", [dataset]).names == {1: "putamen", 2: "csf"}
    assert find_subject_labels("03", [dataset]) is None


def test_labels_of_other_images_or_programs_are_ignored(dataset):
    path = draw(dataset, lookup=LOOKUP)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(
        json.dumps({"Sources": ["bids:raw:a_T1w.nii.gz"]})
    )
    draw(dataset, STEM)
    assert find_labels(SCAN, [dataset]) is None


def test_more_than_one_label_image_is_an_error(dataset):
    draw(dataset, lookup=LOOKUP)
    draw(dataset.with_name("other"), f"{STEM}_seg-csf", lookup=LOOKUP)
    with pytest.raises(
        DatasetError, match=r"sub-01_ses-A_acq-x_run-1: more than one label image .*seg-csf"
    ):
        find_labels(SCAN, [dataset, dataset.with_name("other")])


def test_closest_applicable_table_is_used(dataset):
    def named(stem):
        (dataset / f"{stem}dseg.tsv").write_text(
            f"index\tname\n1\t{stem or 'plain'}\n".replace("/", "_")
        )
        return find_labels(SCAN, [dataset]).names[1]

    path = draw(dataset, f"{STEM}_seg-nuclei_desc-rois")
    (dataset / "desc-truth_dseg.tsv").write_text("index\tname\n1\tno\n")
    (dataset / "seg-csf_dseg.tsv").write_text("index\tname\n1\tno\n")
    (dataset / "xdseg.tsv").write_text("index\tname\n1\tno\n")
    with pytest.raises(
        DatasetError,
        match=r"no lookup table.*sub-01_ses-A_acq-x_run-1_seg-nuclei_desc-rois_dseg.tsv",
    ):
        find_labels(SCAN, [dataset])
    assert named("") == "plain"
    assert named("desc-rois_") == "desc-rois_"
    assert named("seg-nuclei_") == "seg-nuclei_"
    assert named("sub-01/sub-01_") == "sub-01_sub-01_"
    path.with_name(path.name.replace(".nii.gz", ".tsv")).write_text("index\tname\n1\town\n")
    assert find_labels(SCAN, [dataset]).names[1] == "own"


def test_table_of_a_phantom(tmp_path):
    table = tmp_path / "dseg.tsv"
    table.write_text(
        "name\tcolor\tindex\tsusceptibility_ppm\ntube_1\tred\t1\t0\nwater\tn/a\t7\tn/a\nair\tblue\t0\t9\n"
    )
    assert read_lookup(table) == ({1: "tube_1", 7: "water"}, {"tube_1": 0.0})


def test_table_with_a_byte_order_mark_is_read(tmp_path):
    table = tmp_path / "dseg.tsv"
    table.write_text(
        "\ufeffindex\tname\r\n1\tnucleus caudatus (li)\r\n".replace(" (li)", ""), encoding="utf-8"
    )
    assert read_lookup(table)[0] == {1: "nucleus caudatus"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("index,name\n1,putamen\n", "no column index, name"),
        ("index\tlabel\n1\tputamen\n", "no column name"),
        ("", "no column index, name"),
        ("index\tname\n", "the table names no label"),
        ("index\tname\n1\ta\n1\tb\n", "line 3: index 1 occurs twice"),
        ("index\tname\n1\ta\n2\ta\n", "line 3: name 'a' occurs twice"),
        ("index\tname\n1.5\ta\n", "line 2: index '1.5' is not a whole number"),
        ("index\tname\n-1\ta\n", "index '-1' is not a whole number"),
        ("index\tname\n1\n", "name ''"),
        ("index\tname\n1\t<script>\n", "name '<script>'"),
        ("index\tname\n1\t../../etc\n", "name '../../etc'"),
        ("index\tname\n1\t=1+1\n", "name '=1.1'"),
        ("index\tname\n1\t" + "a" * 65 + "\n", "up to 64 letters"),
        (
            "index\tname\tsusceptibility_ppm\n1\ta\thigh\n",
            "susceptibility_ppm 'high' is not a number",
        ),
        (
            "index\tname\tsusceptibility_ppm\n1\ta\tinf\n",
            "susceptibility_ppm 'inf' is not a number",
        ),
    ],
)
def test_invalid_tables_are_refused(tmp_path, content, message):
    table = tmp_path / "dseg.tsv"
    table.write_text(content)
    with pytest.raises(DatasetError, match=message) as refusal:
        read_lookup(table)
    assert str(table) in str(refusal.value)


def test_table_that_is_not_utf8_is_refused(tmp_path):
    table = tmp_path / "dseg.tsv"
    table.write_bytes(b"\xff\xfei\x00n\x00d\x00e\x00x\x00")
    with pytest.raises(DatasetError, match="save the table as UTF-8"):
        read_lookup(table)


def test_labels_without_a_name_are_ignored_with_a_note(dataset):
    draw(dataset, values=(0, 1, 4, 9), lookup=LOOKUP)
    (note,) = find_labels(SCAN, [dataset]).notes
    assert "labels 4, 9 are not in" in note


def test_large_labels_are_read_exactly(dataset):
    # single precision would make it even
    draw(dataset, values=(0, 1, 2**24 + 1), dtype="i4", lookup=LOOKUP)
    (note,) = find_labels(SCAN, [dataset]).notes
    assert f" {2**24 + 1} " in note


def test_whole_numbers_stored_as_floats_are_labels(dataset):
    draw(dataset, values=(0.0, 1.0, 2.0), dtype="f4", lookup=LOOKUP)
    assert find_labels(SCAN, [dataset]).notes == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": (0, 0.5, 1), "dtype": "f4"}, "not integers"),
        ({"values": (0, np.nan), "dtype": "f4"}, "not integers"),
        ({"values": (0, -1), "dtype": "i2"}, "some labels are negative"),
        ({"shape": (3, 4, 6)}, "3×4×6 voxels, but the scan has 3×4×5"),
        ({"affine": MOVED}, "places voxels up to 0.2 mm away"),
    ],
)
def test_invalid_label_images_are_refused(dataset, image, change, message):
    draw(dataset, lookup=LOOKUP, **change)
    with pytest.raises(DatasetError, match=message):
        find_labels(SCAN, [dataset], image=image)


def test_rounding_of_the_affine_does_not_matter(dataset, image):
    draw(dataset, lookup=LOOKUP, affine=AFFINE + 5e-4 * (np.arange(16).reshape(4, 4) == 3))
    assert find_labels(SCAN, [dataset], image=image) is not None


def test_damaged_and_four_dimensional_images_are_refused(dataset):
    path = draw(dataset, lookup=LOOKUP, shape=(3, 4, 5, 2))
    with pytest.raises(DatasetError, match="4 dimensions"):
        find_labels(SCAN, [dataset])
    path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="copy it again, or create it again"):
        find_labels(SCAN, [dataset])
    draw(dataset)
    content = path.read_bytes()
    for damaged in (content[:-20], content[:-8] + bytes(8)):  # cut off; whole, but for its checksum
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match="copy it again, or create it again"):
            find_labels(SCAN, [dataset])


def test_paths_of_labels_are_absolute(dataset, monkeypatch):
    draw(dataset, lookup=LOOKUP)
    monkeypatch.chdir(dataset.parent)
    assert find_labels(SCAN, derivative_datasets(".", [dataset.name])).path.is_absolute()
    (dataset.parent / "derivatives").mkdir()
    dataset.rename(dataset.parent / "derivatives" / dataset.name)
    (folder,) = derivative_datasets(".")
    assert find_labels(SCAN, [folder]).path.is_absolute()


def test_grids_are_compared(dataset):
    labels = draw(dataset, "one")
    rounded = AFFINE + 1e-5
    assert have_same_grid(labels, draw(dataset, "same", affine=rounded))
    assert not have_same_grid(labels, draw(dataset, "moved", affine=MOVED))
    assert not have_same_grid(labels, draw(dataset, "larger", shape=(3, 4, 6)))
