"""The architecture: every field of the graphs is connected, the layers import downwards only, files
and functions are short, and the examples in docstrings run.
"""

import ast
import doctest
import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.travelling import draw_regions, write_processed
from nipype.interfaces.utility import IdentityInterface

import multiqsm
from multiqsm.dataset.anatomy import Anatomy, FreeSurferLabels, LesionSources
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.subjects import collect_subjects
from multiqsm.interfaces.methods import DEFAULT_INVERSIONS, INVERSIONS
from multiqsm.workflows.group import init_study_wf
from multiqsm.workflows.model import init_model_wf
from multiqsm.workflows.reports import init_reports_wf
from multiqsm.workflows.scan import init_scan_wf
from multiqsm.workflows.settings import Settings
from multiqsm.workflows.subjects import init_subjects_wf

LONGEST_FILE = 500
LONGEST_FUNCTION = 80  # lines, without the docstring
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(multiqsm.__path__, "multiqsm.")
    if not module.name.startswith(("multiqsm.tests", "multiqsm.benchmarks"))
    and "__main__" not in module.name
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module)
    assert failed == 0


def test_layers():
    cli = pytest.importorskip("importlinter.cli")
    assert (
        cli.lint_imports(
            config_filename=str(Path(__file__).parents[1] / "setup.cfg"), no_cache=True
        )
        == 0
    )


def sources():
    """Yield the modules of the package and their texts."""
    root = Path(multiqsm.__file__).parent
    for name in MODULES:
        place = root.joinpath(*name.split(".")[1:])
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        yield name, path.read_text(encoding="utf-8")


def test_files_and_functions_are_short():
    """A file can be read in one go, and a function seen at a glance."""
    too_long = []
    for name, text in sources():
        if text.count("\n") > LONGEST_FILE:
            too_long.append(f"{name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and body_lines(node) > LONGEST_FUNCTION:
                too_long.append(f"{name}.{node.name}: {body_lines(node)} lines")
    assert too_long == []


def body_lines(function):
    """Return the number of lines of a function's body without its docstring."""
    has_docstring = ast.get_docstring(function) is not None
    first = function.body[0].end_lineno + 1 if has_docstring else function.body[0].lineno
    return function.end_lineno - first + 1


def test_no_function_has_the_name_of_its_module():
    """Otherwise an import of one would hide the other."""
    for name, text in sources():
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                assert node.name != name.rpartition(".")[2]


def workflows_within(workflow):
    yield workflow
    for node in workflow._graph.nodes():
        if hasattr(node, "_graph"):
            yield from workflows_within(node)


@pytest.fixture(
    params=[
        "all outputs",
        "user's mask",
        "two echoes",
        "one inversion",
        "V-SHARP",
        "PDF",
        "no draws",
    ]
)
def scan_wf(request, make_dataset, tmp_path):
    times = (0.006, 0.012) if request.param == "two echoes" else (0.006, 0.012, 0.018)
    root = make_dataset(echo_times=times)
    if request.param == "user's mask":
        folder = root / "derivatives" / "manual" / "sub-01" / "anat"
        folder.mkdir(parents=True)
        (folder.parents[1] / "dataset_description.json").write_text(
            '{"Name": "m", "BIDSVersion": "1.10.0", "DatasetType": "derivative", "GeneratedBy": '
            '[{"Name": "me"}]}'
        )
        image = nib.load(root / "sub-01" / "anat" / "sub-01_echo-1_part-mag_MEGRE.nii.gz")
        mask = nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine)
        nib.save(mask, folder / "sub-01_desc-brain_mask.nii.gz")
    (scan,), _ = collect_scans(root)
    assert (scan.brain_mask is not None) == (request.param == "user's mask")
    inversions = DEFAULT_INVERSIONS[:1] if request.param == "one inversion" else tuple(INVERSIONS)
    choices = {
        "V-SHARP": {"background": "vsharp"},
        "PDF": {"background": "pdf"},
        "no draws": {"se_draws": 0},
    }
    settings = Settings(inversions=inversions, **choices.get(request.param, {}))
    return init_scan_wf(
        scan, bids_dir=root, output_dir=tmp_path / "out", settings=settings, threads=1
    )


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    """The root of derivatives, and subjects: persons with different data, and a phantom."""
    root = tmp_path_factory.mktemp("subjects")
    out = root / "out"
    rater = root / "rater"
    scans = [write_processed(out, "A", "1", 0), write_processed(out, "A", "2", 1)]
    draw_regions(rater, "A", "1", 0)
    (person,), _ = collect_subjects(scans, out, methods=["deterministic"], datasets=[rater])
    complete = []
    bare = []
    for scan in person.scans:
        scan = replace(scan, chi=dict.fromkeys(DEFAULT_INVERSIONS, scan.mask))
        complete.append(scan)
        bare.append(replace(scan, labels=None, r2star=None))
    person = replace(person, scans=tuple(complete))
    bare = tuple(bare)
    return out, {
        "person": person,
        "regions on the scans": person,
        "no regions": replace(person, scans=bare),
        "one scan": replace(person, scans=person.scans[:1]),
        "patient": replace(person, scans=bare[:1], anatomy=_anatomy(person.scans[0].mask)),
        "phantom": replace(person, is_phantom=True),
    }


def _anatomy(image):
    freesurfer = FreeSurferLabels(image, image, "T1w")
    return Anatomy(
        flair=image, freesurfer=freesurfer, lesions=LesionSources(flair=image, seeds=image)
    )


GRAPHS = (
    "person",
    "regions on the scans",
    "no regions",
    "one scan",
    "patient",
    "phantom",
    "reports",
    "group",
    "model",
)


@pytest.fixture(params=GRAPHS)
def later_wf(request, subjects, tmp_path):
    """The graphs after those of the scans."""
    out, subject_of = subjects
    common = {"output_dir": out, "work_dir": tmp_path}
    if request.param == "group":
        return init_study_wf(bids_dir=tmp_path, **common)
    if request.param == "model":
        return init_model_wf(bids_dir=tmp_path, model="thalamus", **common)
    settings = Settings(roi_space="scan" if request.param == "regions on the scans" else "subject")
    if request.param == "reports":
        return init_reports_wf(
            [subject_of["person"]], failures={}, warnings={}, sites=[], settings=settings, **common
        )
    return init_subjects_wf([subject_of[request.param]], settings=settings, **common)


# Fields of input nodes that are not connected if there are no regions, or no repeated scans.
ONLY_FOR_SOME = {
    "space_derivatives": {"label_file", "lookup"},
    **{method: {"mask_file"} for method in DEFAULT_INVERSIONS},
}


def test_every_field_of_every_identity_node_is_connected(scan_wf):
    check_identity_nodes(scan_wf)


def test_every_field_of_every_later_identity_node_is_connected(later_wf, request):
    partial = request.node.callspec.params["later_wf"] in ("no regions", "one scan", "patient")
    check_identity_nodes(later_wf, may_be_idle=ONLY_FOR_SOME if partial else {})


def check_identity_nodes(whole, may_be_idle=None):
    for workflow in workflows_within(whole):
        for node in workflow._graph.nodes():
            if hasattr(node, "_graph") or not isinstance(node.interface, IdentityInterface):
                continue
            fields = set(node.inputs.copyable_trait_names())
            if node.name == "inputnode":
                connected = outputs_from(workflow, node)
            else:
                connected = inputs_to(workflow, node)
            idle = fields - connected
            assert idle <= (may_be_idle or {}).get(workflow.name, set()), (
                f"{workflow.name}.{node.name}: {idle}"
            )


def inputs_to(workflow, node):
    """Return the inputs of a node that are connected."""
    inputs = set()
    for _, _, data in workflow._graph.in_edges(node, True):
        inputs.update(target for _, target in data["connect"])
    return inputs


def outputs_from(workflow, node):
    """Return the outputs of a node that are connected."""
    outputs = set()
    for _, _, data in workflow._graph.out_edges(node, True):
        outputs.update(source for source, _ in data["connect"])
    return outputs


def test_all_inputs_of_a_subworkflow_are_connected(scan_wf):
    check_subworkflows(scan_wf)


def test_all_inputs_of_a_later_subworkflow_are_connected(later_wf, request):
    partial = request.node.callspec.params["later_wf"] == "no regions"
    check_subworkflows(later_wf, may_be_idle=ONLY_FOR_SOME if partial else {})


def check_subworkflows(whole, may_be_idle=None):
    for workflow in workflows_within(whole):
        for node in workflow._graph.nodes():
            if not hasattr(node, "_graph") or node.get_node("inputnode") is None:
                continue
            inputnode = node.get_node("inputnode")
            inputs = {f"inputnode.{field}" for field in inputnode.inputs.copyable_trait_names()}
            connected = inputs_to(workflow, node)
            assert connected <= inputs, f"{workflow.name}.{node.name}"
            idle = (may_be_idle or {}).get(node.name, set())
            assert {field.removeprefix("inputnode.") for field in inputs - connected} <= idle, (
                f"{workflow.name}.{node.name}"
            )


def test_every_connection_is_between_declared_fields(scan_wf):
    check_connections(scan_wf)


def test_every_later_connection_is_between_declared_fields(later_wf):
    check_connections(later_wf)


def check_connections(whole):
    for source, target, data in whole._create_flat_graph().edges(data=True):
        for output, field in data["connect"]:
            assert output in source.outputs.copyable_trait_names(), f"{source.fullname}.{output}"
            assert field in target.inputs.copyable_trait_names(), f"{target.fullname}.{field}"


def test_every_working_node_states_its_memory(scan_wf):
    check_memory(scan_wf)


def test_every_later_working_node_states_its_memory(later_wf):
    check_memory(later_wf)


def check_memory(whole):
    for node in whole._create_flat_graph().nodes():
        if not isinstance(node.interface, IdentityInterface):
            assert node._mem_gb != 0.2, f"{node.fullname} has Nipype's default memory"
