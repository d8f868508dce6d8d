"""Model files in JSON and YAML; invalid content is reported with its place."""

import json
import re
from itertools import product

import pytest
import yaml

from multiqsm.bids_templates import SHIPPED_MODELS, load_template
from multiqsm.cohort.model_files import read_model
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.tables import read_tsv
from multiqsm.stats.filters import apply_filter, parse_filter
from multiqsm.stats.specification import ALL, Exclusion, Node, StudyModel, Subset
from multiqsm.stats.transformations import Transformation

CONTENT = {
    "Name": "study",
    "BIDSModelVersion": "1.0.0",
    "Description": "Words.",
    "Input": {"Method": "iterative", "Region": "putamen", "Reference": "atrium"},
    "Exclude": [
        {"Filter": "snr < 20", "Reason": "noise", "Apply": False},
        {"Filter": "motion > 2"},
        {"Filter": "quality == 'poor'", "Reason": "poor", "Apply": "if available"},
    ],
    "Describe": ["weight"],
    "Transformations": {
        "Transformer": "multiqsm",
        "Instructions": [
            {"Name": "Factor", "Input": ["sex"]},
            {"Name": "Log", "Input": ["a", "b"]},
            {"Name": "Power", "Input": "c", "Output": "d", "Value": 2},
        ],
    },
    "Subsets": [{"Name": "young", "Filter": "age <= 50"}],
    "Power": {"Correlation": 0.3, "Power": 0.9, "Alpha": 0.01},
    "Nodes": [
        {
            "Level": "Dataset",
            "Name": "table1",
            "Title": "Lesions",
            "Model": {"Type": "glm", "Y": ["log_a"], "X": [1, "chi"], "Adjust": ["sex.M"]},
        }
    ],
}
MODEL = StudyModel(
    name="study",
    description="Words.",
    method="iterative",
    region="putamen",
    reference="atrium",
    exclusions=(
        Exclusion(parse_filter("snr < 20"), "noise", False),
        Exclusion(parse_filter("motion > 2"), "motion > 2", True),
        Exclusion(parse_filter("quality == 'poor'"), "poor", True, is_optional=True),
    ),
    transformations=(
        Transformation("Factor", "sex", "sex"),
        Transformation("Log", "a", "log_a"),
        Transformation("Log", "b", "log_b"),
        Transformation("Power", "c", "d", {"Value": 2.0}),
    ),
    subsets=(Subset("young", parse_filter("age <= 50")),),
    described=("weight",),
    nodes=(Node("table1", "Lesions", ("log_a",), ("chi",), ("sex.M",)),),
    correlation=0.3,
    power=0.9,
    alpha=0.01,
)


@pytest.mark.parametrize("name", ["model.json", "model.yaml", "model.YML"])
def test_json_and_yaml_are_equivalent(tmp_path, name):
    path = tmp_path / name
    path.write_text(json.dumps(CONTENT) if name.endswith("json") else yaml.safe_dump(CONTENT))
    assert read_model(path) == MODEL


def test_byte_order_mark_is_ignored(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(CONTENT), encoding="utf-8-sig")
    assert read_model(tmp_path / "model.json") == MODEL


def test_filters_of_earlier_versions_hold_for_quality_tables_of_any(tmp_path):
    rule = {"Filter": "unresolved_share > 0.05 or age > 90", "Reason": "wraps"}
    path = write(tmp_path, lambda content: content.update(Exclude=[rule]))
    (exclusion,) = read_model(path).exclusions
    assert exclusion.condition.columns == ("unresolved_fraction", "age")
    for column in ("unresolved_share", "unresolved_fraction"):
        table = tmp_path / f"{column}.tsv"
        table.write_text(f"{column}\tage\n0.01\t40\n0.2\t40\n")
        holds, _ = apply_filter(exclusion.condition, read_tsv(table))
        assert holds.tolist() == [False, True]


@pytest.mark.parametrize("name", ["model.json", "model.yaml"])
def test_line_of_a_syntax_error(tmp_path, name):
    path = tmp_path / name
    path.write_text('{"Name": "study",\n "Nodes": [}\n')
    language = path.suffix[1:].upper()
    with pytest.raises(DatasetError, match=rf"{name}: not valid {language} \(line 2: ."):
        read_model(path)


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_shipped_models(name):
    model = read_model(name)
    assert (model.name, model.problems) == (name, ())
    regressions = set()
    for node in model.nodes:
        regressions.update(product(node.outcomes, node.predictors))
    published = load_template(f"published_{name}")
    subsets = {ALL, *(subset.name for subset in model.subsets)}
    for row in (*published["coefficients"], *published["covariates"]):
        assert (row["outcome"], row["predictor"]) in regressions
        assert row.get("subset", ALL) in subsets


def write(tmp_path, change):
    content = json.loads(json.dumps(CONTENT))
    change(content)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda c: c.pop("Name"), "Name None of the model"),
        (lambda c: c.update(Name="../x"), "Name '../x' of the model: use letters"),
        (lambda c: c.update(Exclud=[]), "the model: unknown key Exclud; valid keys are Name"),
        (
            lambda c: c.update(BIDSModelVersion="2.0"),
            "BIDSModelVersion '2.0': only 1.x is supported",
        ),
        (lambda c: c.update(Description=3), "Description: must be a text, not 3"),
        (
            lambda c: c["Input"].update(Task="rest"),
            "Input: unknown key Task; valid keys are Method, Region, Reference",
        ),
        (lambda c: c["Input"].update(Method=["medi"]), "Input, Method: must be a text"),
        (lambda c: c.update(Exclude={}), "Exclude: must be a list"),
        (lambda c: c["Exclude"][1].pop("Filter"), "Exclude, number 2: has no Filter"),
        (
            lambda c: c["Exclude"][0].update(Filter="os.system('x')"),
            "Exclude, number 1: filter .* cannot be read",
        ),
        (
            lambda c: c["Exclude"][0].update(Apply="yes"),
            "Exclude, number 1, Apply: must be true, false or 'if available', not 'yes'",
        ),
        (lambda c: c.update(Describe=3), "Describe: give a list of columns"),
        (
            lambda c: c["Subsets"].append(c["Subsets"][0]),
            "Subsets, number 2: there is already a subset 'young'",
        ),
        (lambda c: c["Subsets"][0].update(Name="all"), "there is already a subset 'all'"),
        (lambda c: c["Power"].update(Alpha=5), "Power, Alpha: must be between 0 and 1"),
        (lambda c: c["Power"].update(Power=True), "Power, Power: must be a number, not True"),
        (lambda c: c["Power"].update(Power=0.005), "the power must exceed Alpha"),
        (
            lambda c: c["Transformations"].update(Transformer="r"),
            "Transformer 'r': only 'multiqsm' is supported",
        ),
        (
            lambda c: c["Transformations"]["Instructions"][1].update(Name="Ln"),
            "number 2: 'Ln' is not a transformation",
        ),
        (
            lambda c: c["Transformations"]["Instructions"][1].update(Value=2),
            "number 2: Log has no Value",
        ),
        (
            lambda c: c["Transformations"]["Instructions"][2].pop("Value"),
            "number 3: Power needs a Value",
        ),
        (
            lambda c: c["Transformations"]["Instructions"][2].update(Value="x"),
            "number 3, Value: must be a number",
        ),
        (
            lambda c: c["Transformations"]["Instructions"][2].pop("Input"),
            "number 3, Input: give a list of columns",
        ),
        (
            lambda c: c["Transformations"]["Instructions"][1].update(Output=["x"]),
            "must have the same number of columns, not 2 and 1",
        ),
        (lambda c: c.update(Nodes=[]), "Nodes: give a list with at least one"),
        (lambda c: c["Nodes"][0].update(GroupBy=["x"]), "Nodes, number 1: unknown key GroupBy"),
        (lambda c: c["Nodes"][0].update(Level="Run"), "Nodes, number 1: Level 'Run': only Dataset"),
        (lambda c: c["Nodes"][0].update(Name="residuals"), "is the name of another table"),
        (lambda c: c["Nodes"][0].pop("Model"), "Nodes, number 1, Model: must have keys"),
        (lambda c: c["Nodes"][0]["Model"].update(Type="meta"), "Type 'meta': only glm"),
        (lambda c: c["Nodes"][0]["Model"].pop("Y"), "Nodes, number 1, Y: give a list of columns"),
        (lambda c: c["Nodes"][0]["Model"].update(X=[1]), "Nodes, number 1, X: has no column"),
        (
            lambda c: c["Nodes"][0]["Model"].update(X=[0, "a"]),
            "X: 0 is not a column; every regression has an intercept",
        ),
        (lambda c: c["Nodes"][0]["Model"].update(X=["a", "a"]), "X: has a column twice"),
    ],
)
def test_invalid_content_is_reported(tmp_path, change, cause):
    path = write(tmp_path, change)
    with pytest.raises(DatasetError, match=f"--model {re.escape(str(path))}: .*{cause}"):
        read_model(path)


def test_invalid_node_is_left_out(tmp_path):
    path = write(
        tmp_path, lambda c: c["Nodes"].append({**c["Nodes"][0], "Name": "table2", "Filtre": "x"})
    )
    model = read_model(path)
    assert model.nodes == MODEL.nodes
    ((where, problem),) = model.problems
    assert where == "Nodes, number 2"
    assert (
        problem == "Nodes, number 2: unknown key Filtre; valid keys are Level, Name, Title, Model"
    )
    again = write(tmp_path, lambda c: c["Nodes"].append(c["Nodes"][0]))
    assert "there is already a node table1" in read_model(again).problems[0][1]


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("m.json", "", "Expecting value"),
        ("m.json", "[1]", "the model: must have keys and values"),
        ("m.json", '{"Name": "a", "Name": "b"}', "the key 'Name' occurs twice"),
        ("m.json", "[" * 100_000, "recursion"),
        (
            "m.json",
            '{"Name": "x", "Power": {"Alpha": 1e400}, "Nodes": []}',
            "Power, Alpha: must be a number, not inf",
        ),
        ("m.yaml", "Name: a\nName: b\n", "the key 'Name' occurs twice"),
        ("m.yaml", "Name: &a [1]\nNodes: *a\n", "aliases .* are not supported"),
        (
            "m.yaml",
            "Name: !!python/object/apply:os.system [x]\n",
            "could not determine a constructor",
        ),
        ("m.yaml", "? [1, 2]\n: 3\n", "unhashable"),
        ("m.yaml", "Name: [", r"not valid YAML \(line 1"),
        ("m.yaml", "x" * 1_000_001, "larger than 1000000 bytes, so not a model file"),
    ],
)
def test_invalid_files(tmp_path, name, text, cause):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=f"(?s){name}: .*{cause}"):
        read_model(tmp_path / name)


def test_missing_file(tmp_path):
    with pytest.raises(
        DatasetError, match=r"nothing\.json.*models that come with multiqsm: thalamus"
    ):
        read_model(tmp_path / "nothing.json")


def test_column_regressed_on_itself_is_refused_before_any_work(tmp_path):
    """Such a table is left out with the reason; without another one, the file is refused."""
    itself = {**CONTENT["Nodes"][0], "Name": "itself", "Model": {"Y": ["chi"], "X": [1, "chi"]}}
    model = read_model(write(tmp_path, lambda c: c["Nodes"].append(itself)))
    assert model.nodes == MODEL.nodes
    ((_, problem),) = model.problems
    assert "table itself: chi is both an outcome and a predictor" in problem
    with pytest.raises(DatasetError, match=r"model.*chi is both an outcome and a predictor"):
        read_model(write(tmp_path, lambda c: c.update(Nodes=[itself])))
