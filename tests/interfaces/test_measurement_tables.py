"""The sidecar of a table of regional values says where its regions are from."""

import json

from multiqsm.dataset.files import read_json
from multiqsm.dataset.labels import Labels
from multiqsm.dataset.sidecars import sidecar_path
from multiqsm.dataset.subjects import Subject
from multiqsm.workflows.settings import Settings
from multiqsm.workflows.subject_nodes import make_tables_node

IMAGE = "sub-01_desc-rois_dseg.nii.gz"


def sidecar_of_table(root, source):
    """Write the table of one region of a scan, and return its sidecar."""
    labels = Labels(root / IMAGE, root / "names.tsv", {1: "putamen"}, "subject", {})
    node = make_tables_node(Subject("01", (), labels), root, Settings(), lambda n: 0.1)
    node.inputs.entities = [{"subject": "01"}]
    node.inputs.labels = [{"subject": "01"}]
    node.inputs.rows = [[[{"roi": "putamen", "mean": 0.04}]]]
    node.inputs.sources = [source]
    node.inputs.steps = ["regions_drawn"]
    (path,) = node.interface.run(**node.inputs.get_traitsfree()).outputs.out_files
    return read_json(sidecar_path(path))


def test_regions_have_the_description_of_their_label_image(tmp_path):
    text = "Nuclei,\nmade from the true labels"
    (tmp_path / IMAGE.replace(".nii.gz", ".json")).write_text(json.dumps({"Description": text}))
    assert sidecar_of_table(tmp_path, IMAGE)["RegionsDescription"] == " ".join(text.split())
    assert "RegionsDescription" not in sidecar_of_table(tmp_path, "pauli2017")


def test_regions_without_a_description(tmp_path):
    (tmp_path / IMAGE.replace(".nii.gz", ".json")).write_text(json.dumps({"Description": 3}))
    assert "RegionsDescription" not in sidecar_of_table(tmp_path, IMAGE)
