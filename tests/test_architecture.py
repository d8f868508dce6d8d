"""The house: every wire is connected, the layers import downwards only, the examples in docstrings run."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nipype.interfaces.utility import IdentityInterface

import multiqsm
from multiqsm.dataset.scans import collect_scans
from multiqsm.workflows.scan import init_scan_wf
from multiqsm.workflows.settings import INVERSIONS, Settings

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(multiqsm.__path__, "multiqsm.")
    if not module.name.startswith(("multiqsm.tests", "multiqsm.benchmarks")) and "__main__" not in module.name
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module)
    assert failed == 0


def test_layers():
    cli = pytest.importorskip("importlinter.cli")
    assert cli.lint_imports(config_filename=str(Path(__file__).parents[1] / "setup.cfg"), no_cache=True) == 0


def workflows_within(workflow):
    yield workflow
    for node in workflow._graph.nodes():
        if hasattr(node, "_graph"):
            yield from workflows_within(node)


@pytest.fixture(params=["all outputs", "user's mask", "two echoes", "one inversion"])
def scan_wf(request, make_dataset, tmp_path):
    times = (0.006, 0.012) if request.param == "two echoes" else (0.006, 0.012, 0.018)
    root = make_dataset(echo_times=times)
    if request.param == "user's mask":
        folder = root / "derivatives" / "manual" / "sub-01" / "anat"
        folder.mkdir(parents=True)
        (folder.parents[1] / "dataset_description.json").write_text(
            '{"Name": "m", "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": [{"Name": "me"}]}'
        )
        image = nib.load(root / "sub-01" / "anat" / "sub-01_echo-1_part-mag_MEGRE.nii.gz")
        mask = nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine)
        nib.save(mask, folder / "sub-01_desc-brain_mask.nii.gz")
    (scan,), _ = collect_scans(root)
    assert (scan.brain_mask is not None) == (request.param == "user's mask")
    inversions = INVERSIONS[:1] if request.param == "one inversion" else INVERSIONS
    settings = Settings(inversions=inversions)
    return init_scan_wf(scan, bids_dir=root, output_dir=tmp_path / "out", settings=settings, threads=1)


def test_every_field_of_every_identity_node_is_wired(scan_wf):
    for workflow in workflows_within(scan_wf):
        for node in workflow._graph.nodes():
            if hasattr(node, "_graph") or not isinstance(node.interface, IdentityInterface):
                continue
            fields = set(node.inputs.copyable_trait_names())
            if node.name == "inputnode":
                used = {f for _, _, data in workflow._graph.out_edges(node, True) for f, _ in data["connect"]}
            else:
                used = {f for _, _, data in workflow._graph.in_edges(node, True) for _, f in data["connect"]}
            assert fields == used, f"{workflow.name}.{node.name}"


def test_every_wire_into_a_subworkflow_carries_all_its_inputs(scan_wf):
    for workflow in workflows_within(scan_wf):
        for node in workflow._graph.nodes():
            if not hasattr(node, "_graph"):
                continue
            inputnode = node.get_node("inputnode")
            wanted = {f"inputnode.{f}" for f in inputnode.inputs.copyable_trait_names()}
            given = {f for _, _, data in workflow._graph.in_edges(node, True) for _, f in data["connect"]}
            assert wanted == given, f"{workflow.name}.{node.name}"


def test_every_wire_ends_at_a_declared_field(scan_wf):
    for source, target, data in scan_wf._create_flat_graph().edges(data=True):
        for output, field in data["connect"]:
            assert output in source.outputs.copyable_trait_names(), f"{source.fullname}.{output}"
            assert field in target.inputs.copyable_trait_names(), f"{target.fullname}.{field}"


def test_every_working_node_states_its_memory(scan_wf):
    for node in scan_wf._create_flat_graph().nodes():
        if not isinstance(node.interface, IdentityInterface):
            assert node._mem_gb != 0.2, f"{node.fullname} has Nipype's default memory"
