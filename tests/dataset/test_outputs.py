"""Derivatives have BIDS names, and the official validator accepts the dataset."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.datasets import validator_errors

from multiqsm.bids_templates import load_template
from multiqsm.dataset.entities import SCAN_ENTITIES
from multiqsm.dataset.files import write_text
from multiqsm.dataset.methods import write_citation
from multiqsm.dataset.outputs import (
    bids_uri,
    derivative_path,
    is_multiqsm_dataset,
    write_dataset_description,
)
from multiqsm.dataset.sidecars import sidecar_path, write_sidecar

PLAIN = {"subject": "01"}
FULL = {"subject": "01", "session": "A", "acquisition": "x", "reconstruction": "n", "run": "02"}


@pytest.mark.parametrize(
    ("entities", "options", "expected"),
    [
        (
            PLAIN,
            {"suffix": "Chimap", "desc": "iterative"},
            "sub-01/anat/sub-01_desc-iterative_Chimap.nii.gz",
        ),
        (
            FULL,
            {"suffix": "Chimap", "desc": "medi", "space": "subject"},
            "sub-01/ses-A/anat/sub-01_ses-A_acq-x_rec-n_run-02_space-subject_desc-medi_Chimap.nii.gz",
        ),
        (
            {"subject": "01", "session": "Y", "run": "1"},
            {"suffix": "mask", "desc": "brain"},
            "sub-01/ses-Y/anat/sub-01_ses-Y_run-1_desc-brain_mask.nii.gz",
        ),
        (PLAIN, {"suffix": "R2starmap"}, "sub-01/anat/sub-01_R2starmap.nii.gz"),
        (
            PLAIN,
            {"suffix": "dseg", "segmentation": "deepgrey", "extension": ".tsv"},
            "sub-01/anat/sub-01_seg-deepgrey_dseg.tsv",
        ),
        (
            PLAIN,
            {"suffix": "chi", "desc": "rois", "extension": ".tsv"},
            "sub-01/anat/sub-01_desc-rois_chi.tsv",
        ),
        (PLAIN, {"suffix": "magnitude", "datatype": "fmap"}, "sub-01/fmap/sub-01_magnitude.nii.gz"),
        (
            FULL,
            {"suffix": "fieldmap", "desc": "total", "datatype": "fmap"},
            "sub-01/ses-A/fmap/sub-01_ses-A_acq-xrecn_run-02_desc-total_fieldmap.nii.gz",
        ),
        (
            {"subject": "01", "session": "A"},
            {"suffix": "mask", "desc": "brain", "datatype": "figures"},
            "sub-01/figures/sub-01_ses-A_desc-brain_mask.svg",
        ),
        (
            FULL,
            {"suffix": "xfm", "space": "subject", "datatype": "xfm"},
            "sub-01/ses-A/anat/sub-01_ses-A_acq-x_rec-n_run-02_from-scan_to-subject_mode-image_xfm.txt",
        ),
        (
            PLAIN,
            {"suffix": "xfm", "desc": "registration", "datatype": "xfm"},
            "sub-01/anat/sub-01_desc-registration_xfm.tsv",
        ),
    ],
)
def test_names_of_derivatives(entities, options, expected):
    assert derivative_path("out", entities, **options) == Path("out") / expected


@pytest.mark.parametrize(
    ("entities", "options", "cause"),
    [
        ({"subject": "../01"}, {"suffix": "Chimap"}, "subject '../01' is not a BIDS label"),
        (PLAIN, {"suffix": "Chimap", "desc": "a/../../b"}, "desc 'a/../../b' is not a BIDS label"),
        (PLAIN, {"suffix": "Chimap", "desc": "two_words"}, "desc 'two_words'"),
        (PLAIN, {"suffix": "chimap"}, "no anat file name"),
        (PLAIN, {"suffix": "fieldmap"}, "no anat file name"),
        (PLAIN | {"inversion": "1"}, {"suffix": "Chimap"}, "inversion"),
        (PLAIN, {"suffix": "Chimap", "extension": "/../../x"}, "extension"),
        ({"session": "A"}, {"suffix": "Chimap"}, "no anat file name"),
        (
            PLAIN,
            {"suffix": "Chimap", "datatype": "dwi"},
            "choose one of anat, fmap, figures, tables, xfm",
        ),
    ],
)
def test_invalid_names_are_refused(entities, options, cause):
    with pytest.raises(ValueError, match=cause):
        derivative_path("out", entities, **options)


def test_bids_uri(tmp_path):
    assert bids_uri(tmp_path / "sub-01/anat/x.nii.gz", tmp_path) == "bids:raw:sub-01/anat/x.nii.gz"
    assert bids_uri(tmp_path / "a/../x.nii.gz", tmp_path, name="") == "bids::x.nii.gz"
    with pytest.raises(ValueError, match="not in the subpath"):
        bids_uri("/elsewhere/x.nii.gz", tmp_path)


def test_bids_uri_does_not_follow_links(tmp_path):
    link = tmp_path / "raw" / "x.nii.gz"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "annex" / "x.nii.gz")
    assert bids_uri(link, tmp_path / "raw") == "bids:raw:x.nii.gz"


def test_sidecar(tmp_path):
    path = write_sidecar(
        tmp_path / "new" / "sub-01_desc-x_Chimap.nii.gz",
        {
            "Lambda": np.float32(0.25),
            "Units": "ppm",
            "B0Direction": np.array([0, 0, 1]),
            "Residual": np.nan,
            "Converged": np.bool_(True),
            "Sources": (Path("a/b"),),
            "Nested": {"λ": [np.int64(3)]},
        },
    )
    assert path.name == "sub-01_desc-x_Chimap.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {
        "Units": "ppm",
        "Sources": ["a/b"],
        "B0Direction": [0, 0, 1],
        "Converged": True,
        "Lambda": 0.25,
        "Nested": {"λ": [3]},
        "Residual": None,
    }
    assert list(content)[:3] == ["Units", "Sources", "B0Direction"]
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_failed_write_keeps_the_earlier_sidecar(tmp_path):
    path = write_sidecar(tmp_path / "x.json", {"Units": "ppm"})
    with pytest.raises(TypeError):
        write_sidecar(path, {"Units": object()})
    assert json.loads(path.read_text()) == {"Units": "ppm"}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_files_are_readable_by_the_group(tmp_path):
    umask = os.umask(0o022)
    try:
        path = write_sidecar(tmp_path / "x.json", {})
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o644


def test_description(make_dataset, tmp_path):
    raw, output = make_dataset(), tmp_path / "out"
    (raw / "dataset_description.json").write_text(
        json.dumps(
            {"Name": "Heads", "BIDSVersion": "1.8.0", "DatasetDOI": "doi:10.1/x", "License": "CC0"}
        )
    )
    path = write_dataset_description(output, raw)
    first = path.read_text()
    write_dataset_description(output, raw)
    assert path.read_text() == first
    description = json.loads(first)
    assert description["DatasetType"] == "derivative"
    assert description["Name"].endswith("of Heads")
    assert description["GeneratedBy"][0]["Name"] == "multiqsm"
    assert description["GeneratedBy"][0]["Version"]
    assert description["SourceDatasets"] == [{"URL": raw.as_uri(), "DOI": "doi:10.1/x"}]
    assert description["DatasetLinks"] == {"raw": raw.as_uri()}
    assert description["License"] == "CC0"
    assert is_multiqsm_dataset(output)
    assert "*.html" in (output / ".bidsignore").read_text().splitlines()


def test_authors_that_the_user_added_are_kept(make_dataset, tmp_path):
    raw = make_dataset()
    path = write_dataset_description(tmp_path / "out", raw)
    description = json.loads(path.read_text()) | {"Authors": ["A. Author"]}
    path.write_text(json.dumps(description))
    write_dataset_description(tmp_path / "out", raw)
    assert json.loads(path.read_text()) == description


def test_derivatives_inside_the_dataset_are_linked_relatively(make_dataset):
    raw = make_dataset()
    path = write_dataset_description(raw / "derivatives" / "multiqsm", raw)
    assert json.loads(path.read_text())["DatasetLinks"] == {"raw": "../.."}


@pytest.mark.parametrize("content", ['{"Name": "Raw"}', "broken"])
def test_description_of_another_dataset_is_not_replaced(make_dataset, content):
    raw = make_dataset()
    (raw / "dataset_description.json").write_text(content)
    with pytest.raises(
        ValueError, match=r"dataset_description\.json: this folder contains a dataset"
    ):
        write_dataset_description(raw, raw)
    assert (raw / "dataset_description.json").read_text() == content


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"GeneratedBy": {"Name": "x"}}', '{"GeneratedBy": [{"Name": "x"}]}']
)
def test_datasets_of_other_programs_are_recognized(tmp_path, content):
    (tmp_path / "dataset_description.json").write_text(content)
    assert not is_multiqsm_dataset(tmp_path)


def write_derivative(path, metadata, dtype=np.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.ones((4, 4, 3), dtype), np.diag([1, 1, 2, 1]))
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    write_sidecar(path, metadata)


@pytest.fixture
def output(make_dataset, tmp_path):
    """A derivative dataset with every kind of file that a run writes, for scans with all kinds of
    names.
    """
    raw, root = make_dataset(sessions=("A",)), tmp_path / "out"
    write_dataset_description(root, raw)
    write_citation(root)
    sources = [bids_uri(raw / "sub-01/ses-A/anat/sub-01_ses-A_echo-1_part-mag_MEGRE.nii.gz", raw)]
    stripped = {"SkullStripped": True, "Sources": sources}
    whole = stripped | {"SkullStripped": False}
    aligned = {
        "SpatialReference": "bids::sub-01/anat/sub-01_space-subject_desc-average_T2starw.nii.gz"
    }
    images = (
        ({"suffix": "mask", "desc": "brain"}, {"Type": "Brain", "Sources": sources}, np.uint8),
        ({"suffix": "Chimap", "desc": "iterative"}, stripped | {"Units": "ppm"}, np.float32),
        (
            {"suffix": "Chimap", "desc": "iterative", "space": "subject"},
            stripped | aligned,
            np.float32,
        ),
        ({"suffix": "R2starmap"}, stripped | {"Units": "1/s"}, np.float32),
        ({"suffix": "T2starw", "desc": "average", "space": "subject"}, whole | aligned, np.float32),
        (
            {"suffix": "mask", "desc": "brain", "space": "subject"},
            aligned | {"Type": "Brain"},
            np.uint8,
        ),
        (
            {"suffix": "Chimap", "desc": "iterativewithinsd", "space": "subject"},
            stripped | aligned,
            np.float32,
        ),
        ({"suffix": "dseg", "desc": "rois", "space": "subject"}, aligned, np.uint8),
        ({"suffix": "magnitude", "datatype": "fmap"}, whole, np.float32),
        (
            {"suffix": "fieldmap", "desc": "total", "datatype": "fmap"},
            whole | {"Units": "Hz"},
            np.float32,
        ),
        (
            {"suffix": "fieldmap", "desc": "local", "datatype": "fmap"},
            stripped | {"Units": "Hz"},
            np.float32,
        ),
    )
    scans = (PLAIN, {"subject": "02", "session": "A", "run": "1"}, FULL | {"subject": "03"})
    for entities in scans:
        for names, metadata, dtype in images:
            write_derivative(derivative_path(root, entities, **names), metadata, dtype)
        table = derivative_path(root, entities, suffix="chi", desc="rois", extension=".tsv")
        table.write_text("roi\tmean\nputamen\t0.04\n")
        write_sidecar(table, {"mean": {"Units": "ppm"}})
        lookup = derivative_path(
            root, entities, suffix="dseg", desc="rois", space="subject", extension=".tsv"
        )
        lookup.write_text("index\tname\n1\tputamen\n")
        transform = derivative_path(root, entities, suffix="xfm", space="subject", datatype="xfm")
        transform.write_text("#Insight Transform File V1.0\n")
        whose = {"subject": entities["subject"]}
        registration = derivative_path(
            root, whose, suffix="xfm", desc="registration", datatype="xfm"
        )
        write_text(registration, "site\ttranslation\nA\t0.4\n")
        write_sidecar(registration, {"translation": {"Units": "mm"}})
        figure = derivative_path(
            root, entities, suffix="Chimap", desc="iterative", datatype="figures"
        )
        figure.parent.mkdir(exist_ok=True)
        figure.write_text("<svg/>")
        (root / f"sub-{entities['subject']}.html").write_text("<html/>")
    (root / "group").mkdir()
    (root / "group" / "roi_chi.tsv").write_text("subject\n01\n")
    (root / "group.html").write_text("<html/>")
    return root


@pytest.mark.slow
def test_validator_accepts_the_dataset(output):
    assert validator_errors(output) == set()


@pytest.mark.slow
def test_validator_reports_an_invalid_dataset(output):
    """The validator sees the files: it objects if required fields or files are missing."""
    write_sidecar(derivative_path(output, PLAIN, suffix="R2starmap"), {})
    magnitude = derivative_path(output, PLAIN, suffix="magnitude", datatype="fmap")
    magnitude.unlink()
    sidecar_path(magnitude).unlink()
    write_sidecar(
        derivative_path(output, PLAIN, suffix="Chimap", desc="iterative", space="subject"), {}
    )
    assert validator_errors(output) == {
        ("SIDECAR_KEY_REQUIRED", "SkullStripped"),
        ("SIDECAR_KEY_REQUIRED", "SpatialReference"),
        ("FIELDMAP_WITHOUT_MAGNITUDE_FILE", None),
    }


@pytest.mark.parametrize("template", ["roi_table", "roi_r2star_table"])
def test_sidecars_of_a_scan_describe_no_label_of_the_file_name(template):
    """Readers such as pybids take a description of `subject` for another subject."""
    assert not set(load_template(template)) & set(SCAN_ENTITIES)
