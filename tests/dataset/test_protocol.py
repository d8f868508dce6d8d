"""The common protocol of all head scans of a dataset, and scans reduced to it."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from helpers.datasets import write_dataset, write_json

from multiqsm.cli.app import main
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.protocol import (
    AXES,
    HarmonizedScan,
    ScanProtocol,
    common_protocol,
    harmonize,
    study_protocol,
)
from multiqsm.dataset.sidecars import write_sidecar
from multiqsm.workflows.scan import init_scan_wf
from multiqsm.workflows.settings import Settings

# Scan, voxel size along the image's axes, which anatomical axis each of these is, echo times in ms.
TABLE = [
    ("sub-01", (1.0, 1.0, 2.0), (0, 1, 2), (6, 12, 18, 24, 30, 36)),
    ("sub-02", (0.8, 0.8, 2.4), (0, 1, 2), (4, 9, 14, 19, 24, 29, 34)),
    ("sub-03", (1.2, 1.2, 1.6), (0, 1, 2), (5, 12, 19, 26, 33)),
    ("sub-04", (1.1, 0.9, 1.5), (1, 2, 0), (5, 20, 36)),  # sagittal: through-plane is right-left
]


def protocols(*rows):
    result = []
    for scan, size, axes, times in rows:
        seconds = tuple((np.array(times) / 1000).tolist())
        result.append(ScanProtocol(scan, (100, 100, 50), size, axes, seconds))
    return result


def test_coarsest_voxels_and_the_range_that_all_echoes_cover():
    common = common_protocol(protocols(*TABLE[:3]))
    assert common.voxel_size == (1.2, 1.2, 2.4)
    assert common.echo_range == (0.006, 0.033)
    assert common.decided_by == ("sub-03", "sub-03", "sub-02", "sub-01", "sub-03")
    assert common.n_scans == 3
    assert "2.4 mm inferior-superior (as sub-02)" in str(common)
    assert "echoes from 6 (as sub-01) to 33 ms (as sub-03)" in str(common)


def test_voxel_sizes_are_compared_along_anatomical_axes():
    """The sagittal scan's third axis is right-left: 1.5 mm there, 1.1 and 0.9 mm along the other
    two.
    """
    common = common_protocol(protocols(TABLE[0], TABLE[3]))
    assert common.voxel_size == (1.5, 1.1, 2.0)


def test_order_of_the_scans_does_not_matter():
    forward, backward = (common_protocol(protocols(*rows)) for rows in (TABLE, TABLE[::-1]))
    assert (forward.voxel_size, forward.echo_range) == (backward.voxel_size, backward.echo_range)


def test_rounding_of_voxel_sizes_does_not_matter():
    alike = protocols(
        ("sub-01", (1.0, 1.0, 2.0), (0, 1, 2), (6, 12)),
        ("sub-02", (1.0000001, 1, 2), (0, 1, 2), (6, 12)),
    )
    assert common_protocol(alike).decided_by == ("sub-01",) * 5


def test_scans_without_a_common_echo_range_are_named_in_the_error():
    early, late = (
        ("sub-01", (1, 1, 2), (0, 1, 2), (2, 4, 6)),
        ("sub-02", (1, 1, 2), (0, 1, 2), (10, 20)),
    )
    with pytest.raises(
        DatasetError,
        match=r"sub-02 has its first echo at 10 ms, after the last echo of sub-01 at 6 ms",
    ):
        common_protocol(protocols(early, late))


def test_single_echoes_within_the_tolerance_are_one_range():
    near = [("sub-01", (1, 1, 2), (0, 1, 2), (20.0,)), ("sub-02", (1, 1, 2), (0, 1, 2), (20.4,))]
    assert common_protocol(protocols(*near)).echo_range == pytest.approx((0.0204, 0.020))


# ------------------------------------------------------------------------------
# Scans of a dataset
# ------------------------------------------------------------------------------

AXIAL = np.array([[-1.0, 0, 0, 90], [0, 1, 0, -120], [0, 0, 2, -60], [0, 0, 0, 1]])
# Voxel axes run along anterior-posterior, inferior-superior and right-left.
SAGITTAL = np.array([[0, 0, 3.0, -80], [0.5, 0, 0, -120], [0, 0.5, 0, -60], [0, 0, 0, 1]])


@pytest.fixture
def mixed(tmp_path):
    """An axial head, a sagittal head with other echo times, and a phantom with coarser voxels."""
    root = tmp_path / "raw"
    write_dataset(
        root,
        subjects=("01",),
        affine=AXIAL,
        shape=(12, 10, 8),
        echo_times=(0.006, 0.012, 0.018, 0.024),
    )
    write_dataset(
        root,
        subjects=("02",),
        affine=SAGITTAL,
        shape=(20, 32, 7),
        echo_times=(0.0055, 0.0115, 0.0175, 0.030),
    )
    write_dataset(root, subjects=("03",), affine=np.diag([5.0, 5, 5, 1]), echo_times=(0.040, 0.050))
    species = {"01": "homo sapiens", "02": "homo sapiens", "03": "phantom"}
    rows = "".join(f"sub-{label}\t{kind}\n" for label, kind in species.items())
    (root / "participants.tsv").write_text(f"participant_id\tspecies\n{rows}")
    return root


def harmonized(root):
    scans, _ = collect_scans(root)
    common, _ = study_protocol(scans)
    return harmonize(scans, common)


def test_scans_are_reduced_to_the_common_protocol(mixed):
    (axial, sagittal, phantom), problems = harmonized(mixed)
    assert problems == []
    assert axial.common.voxel_size == (3, 1, 2)
    assert axial.common.echo_range == (0.006, 0.024)
    # 12 mm in voxels of 3 mm; the other axes are not cropped.
    assert (axial.original_matrix, axial.matrix) == ((12, 10, 8), (4, 10, 8))
    assert axial.voxel_size == (3, 1, 2)
    # 10 mm anterior-posterior and 16 mm inferior-superior.
    assert (sagittal.original_matrix, sagittal.matrix) == ((20, 32, 7), (10, 8, 7))
    assert sagittal.voxel_size == (1, 2, 3)
    # Half a millisecond is within the tolerance.
    assert sagittal.echo_times == (0.0055, 0.0115, 0.0175)
    assert sagittal.echoes_left_out == (0.030,)
    for part in ("magnitude", "phase"):
        assert [path.name.split("echo-")[1][0] for path in getattr(sagittal, part)] == [
            "1",
            "2",
            "3",
        ]
    assert not isinstance(phantom, HarmonizedScan)


def test_harmonization_is_described_in_words_and_in_the_sidecar(mixed, tmp_path):
    axial, sagittal, _ = harmonized(mixed)[0]
    assert axial.changes == ("voxels 1×1×2 → 3×1×2 mm",)
    assert sagittal.changes == ("voxels 0.5×0.5×3 → 1×2×3 mm", "echoes at 30 ms left out, 3 used")
    path = write_sidecar(tmp_path / "x_Chimap.nii.gz", sagittal.record)
    assert json.loads(path.read_text()) == {
        "EchoesLeftOut": [0.030],
        "HarmonizedEchoTimes": [0.0055, 0.0115, 0.0175],
        "HarmonizedMatrix": [10, 8, 7],
        "HarmonizedTo": {
            "EchoTimeRange": [0.006, 0.024],
            "NumberOfScans": 2,
            "VoxelSize": [3.0, 1.0, 2.0],
            "VoxelSizeAxes": list(AXES),
        },
        "HarmonizedVoxelSize": [1.0, 2.0, 3.0],
        "OriginalMatrix": [20, 32, 7],
        "OriginalVoxelSize": [0.5, 0.5, 3.0],
    }


def test_workflow_crops_only_scans_with_another_grid(mixed, tmp_path):
    scans, _ = harmonized(mixed)
    workflows = {}
    for scan in scans:
        workflows[scan.label] = init_scan_wf(
            scan, bids_dir=mixed, output_dir=tmp_path / "out", settings=Settings(), threads=1
        )
    assert workflows["sub-02"].get_node("harmonize").interface.inputs.matrix == [10, 8, 7]
    assert workflows["sub-03"].get_node("harmonize") is None
    flat = workflows["sub-02"]._create_flat_graph()
    (decode,) = (node for node in flat.nodes() if node.name == "decode")
    assert [node.name for node in flat.successors(decode)] == ["harmonize"]
    # The mask is made on the cropped images, in less memory than the original would need.
    own, _ = collect_scans(mixed)
    as_scanned = init_scan_wf(
        own[1], bids_dir=mixed, output_dir=tmp_path / "out", settings=Settings(), threads=1
    )
    assert workflows["sub-02"].get_node("mask")._mem_gb <= as_scanned.get_node("mask")._mem_gb


def test_unused_user_mask_is_reported(mixed, tmp_path):
    folder = tmp_path / "masks" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    write_json(
        tmp_path / "masks" / "dataset_description.json", {"Name": "m", "BIDSVersion": "1.10.0"}
    )
    nib.save(
        nib.Nifti1Image(np.ones((12, 10, 8), np.uint8), AXIAL),
        folder / "sub-01_desc-brain_mask.nii.gz",
    )
    scans, _ = collect_scans(mixed, derivatives=[tmp_path / "masks"])
    axial = harmonize(scans, study_protocol(scans)[0])[0][0]
    assert axial.brain_mask is None
    assert any("sub-01_desc-brain_mask.nii.gz not used" in change for change in axial.changes)
    assert axial.record["UserBrainMaskNotUsed"] == "sub-01_desc-brain_mask.nii.gz"


def test_selecting_participants_does_not_change_the_common_protocol(mixed, capsys):
    command = [str(mixed), str(mixed.parent / "out"), "participant", "--harmonize", "--dry-run"]
    printed = []
    for choice in ((), ("--participant-label", "02")):
        assert main([*command, *choice]) == 0
        lines = capsys.readouterr().out.splitlines()
        printed.append(list(filter(re.compile("--harmonize|sub-02: voxels").match, lines)))
    whole, part = printed
    assert whole == part
    assert part[0].startswith(
        "--harmonize: common protocol of 2 head scans: voxels of 3 mm right-left (as sub-02)"
    )
    assert "sub-02: voxels 0.5×0.5×3 → 1×2×3 mm; echoes at 30 ms left out, 3 used" in part


def test_nothing_changes_without_the_option(mixed, capsys):
    assert main([str(mixed), str(mixed.parent / "out"), "participant", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "sub-02  unknown  4  5.5…30" in printed
    assert "--harmonize" not in printed


def test_a_scan_without_an_echo_in_the_range_is_excluded_with_an_error(tmp_path, capsys):
    root = tmp_path / "raw"
    write_dataset(root, subjects=("01",), echo_times=(0.004, 0.020))
    write_dataset(root, subjects=("02",), echo_times=(0.010, 0.014))
    assert main([str(root), str(tmp_path / "out"), "participant", "--harmonize", "--dry-run"]) == 1
    printed = capsys.readouterr()
    assert "error: sub-01: no echo lies between 10 and 14 ms" in printed.err
    assert "1 scan of 1 subject at 1 site would be processed" in printed.out


def test_harmonization_reports_if_too_few_echoes_remain_for_r2star(tmp_path):
    root = tmp_path / "raw"
    write_dataset(root, subjects=("01",), echo_times=(0.005, 0.010, 0.015))
    write_dataset(root, subjects=("02",), echo_times=(0.008, 0.016))
    first, second = harmonized(root)[0]
    assert first.changes[-1] == "too few echoes for an R2* map"
    assert second.changes == ("echoes at 16 ms left out, 1 used",)


def test_scans_without_a_readable_protocol_do_not_affect_the_common_one(tmp_path):
    root = tmp_path / "raw"
    write_dataset(root, subjects=("01",))
    write_dataset(
        root, subjects=("02",), metadata={"EchoTime": None}, affine=np.diag([4.0, 4, 4, 1])
    )
    write_dataset(root, subjects=("03",), echo_times=(6, 12))
    write_dataset(root, subjects=("04",), metadata={"EchoTime": 0.01})
    write_dataset(root, subjects=("05",))
    for path in (root / "sub-05" / "anat").glob("*.nii.gz"):
        path.write_bytes(b"nothing")
    common, not_counted = study_protocol(collect_scans(root)[0])
    assert (common.n_scans, common.voxel_size) == (1, (1, 1, 2))
    causes = dict(not_counted)
    assert set(causes) == {"sub-02", "sub-03", "sub-04", "sub-05"}
    assert causes["sub-02"] == "its sidecars do not have the echo times in seconds"
    assert causes["sub-03"] == "its sidecars do not have the echo times in seconds"
    assert causes["sub-04"] == "two of its echoes have the same echo time"
    assert causes["sub-05"].startswith("sub-05_echo-1_part-mag_MEGRE.nii.gz cannot be read")


def test_phantoms_are_not_harmonized(tmp_path, capsys):
    root = write_dataset(tmp_path / "raw")
    (root / "participants.tsv").write_text("participant_id\tspecies\nsub-01\tphantom\n")
    assert main([str(root), str(tmp_path / "out"), "participant", "--harmonize", "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "there is no head scan to harmonise" in printed.err
    assert "sub-01  unknown  3  6…18" in printed.out
