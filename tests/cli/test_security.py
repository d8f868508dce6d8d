"""Datasets are untrusted input: no text in them leads to files outside the output folder, is run as
code, or stops the program.
"""

import ast
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.pages import assert_self_contained, roi_table

import multiqsm
from multiqsm.dataset.audit import audit_problems, audit_table, inspect_scans, print_audit
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.files import read_json, write_json
from multiqsm.dataset.outputs import derivative_path, is_multiqsm_dataset, write_dataset_description
from multiqsm.dataset.preflight.inspection import inspect_scan
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.values import as_number, one_line
from multiqsm.reports.subject import subject_report

HOSTILE = {
    "a path outside": "../../x",
    "HTML": "<script>alert(1)</script>",
    "a formula": "=cmd|' /C calc'!A0",
    "mathematics": "$\\frac{x^$",
    "two lines": "North\nSouth",
    "zero": "a\x00b",
    "a terminal's colours": "\x1b[31mred\x1b[2J",
    "right to left": "\u202enoitcerid",
    "a format": "%s{0}{x}",
    "quotes": "a'b`c\\d",
    "another script": "東京 Zürich",
    "very long": "x" * 20000,
}
ANAT = "sub-01/anat"
SIDECAR = f"{ANAT}/sub-01_echo-2_part-mag_MEGRE.json"


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def hostile(request):
    return request.param


def audit(root, capsys):
    """Audit a dataset as the command does; return the table and the problems."""
    scans, left_out = collect_scans(root, none_is_an_error=False)
    inspections = inspect_scans(scans)
    problems = audit_problems(inspections, left_out)
    table = audit_table(inspections, problems)
    capsys.readouterr()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        print_audit(table, problems, nowhere)
    return table, [str(problem) for problem in problems]


def is_printable(text):
    return text.isprintable()


def test_site_of_a_table(make_dataset, hostile, capsys):
    root = make_dataset()
    (root / "participants.tsv").write_text(
        f"participant_id\tsite\nsub-01\t{hostile}\n", encoding="utf-8"
    )
    table, _ = audit(root, capsys)
    site = table["site"][0]
    assert is_printable(site)
    assert len(site) < 130
    first_line, *_ = hostile.split("\n")
    assert site == one_line(first_line) or hostile.startswith("x")
    assert str(table.to_csv(sep="\t", index=False)).count("\n") == 2


@pytest.mark.parametrize(
    "key",
    ["InstitutionName", "Manufacturer", "SoftwareVersions", "Units", "ManufacturersModelName"],
)
def test_texts_of_a_sidecar(make_dataset, hostile, key, capsys):
    table, problems = audit(make_dataset(sessions=("A",), metadata={key: hostile}), capsys)
    assert len(table) == 1
    assert all(map(is_printable, map(str, table.iloc[0])))
    assert all(map(is_printable, problems))


def test_long_site_names_that_differ_at_their_end_are_different_sites(make_dataset):
    root = make_dataset(subjects=("01", "02"))
    name = "x" * 5000
    table = f"participant_id\tsite\nsub-01\t{name}1\nsub-02\t{name}2\n"
    (root / "participants.tsv").write_text(table)
    scans, _ = collect_scans(root)
    assert scans[0].site != scans[1].site


def test_texts_that_utf8_cannot_encode(make_dataset, capsys):
    root = make_dataset(
        metadata={"InstitutionName": "\ud800", "Manufacturer": "\ud800", "StationName": "\udfff"}
    )
    table, _ = audit(root, capsys)
    table.to_csv().encode()
    (scan,), _ = collect_scans(root)
    json.dumps(scan.metadata, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "value",
    [
        True,
        [],
        {},
        [1, [2]],
        {"a": {"b": 1}},
        "",
        "3T",
        -1,
        0,
        1e308,
        float("nan"),
        float("inf"),
        10**400,
        -(10**400),
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize(
    "key",
    [
        "EchoTime",
        "MagneticFieldStrength",
        "ImagingFrequency",
        "Manufacturer",
        "Units",
        "InstitutionName",
        "StationName",
        "RepetitionTime",
        "FlipAngle",
        "EchoNumber",
        "ImageType",
        "SoftwareVersions",
    ],
)
def test_values_of_other_types(make_dataset, key, value, capsys):
    table, problems = audit(make_dataset(metadata={key: value}), capsys)
    assert len(table) == 1
    assert all(map(is_printable, problems))
    # An empty text counts as missing; the field strength then follows from the frequency, or the
    # frequency from the field strength.
    is_missing = value == "" and key != "EchoTime"
    if key in ("EchoTime", "MagneticFieldStrength", "ImagingFrequency") and not is_missing:
        assert table["verdict"][0] == "error"


def test_numbers_beyond_floats_are_none():
    assert as_number(10**400) is None
    assert as_number(json.loads("1e400")) is None
    assert as_number(True) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "nested too deeply"),
        (b'{"EchoTime": ' + b"9" * 5000 + b"}", "correct the file's JSON"),
        (b'[{"EchoTime": 0.012}]', "not a JSON object (in braces)"),
        (b'"EchoTime"', "not a JSON object (in braces)"),
        (b"null", "not a JSON object (in braces)"),
        (b"", "correct the file's JSON"),
        (b"\x00" * 100, "correct the file's JSON"),
        ('{"EchoTime": 0.012, "x": "Zürich"}'.encode("latin-1"), "save the file as UTF-8"),
        ('{"EchoTime": 0.012}'.encode("utf-16"), "save the file as UTF-8"),
        (b'{"EchoTime": 0.012, "EchoTime": 12}', "EchoTime occurs twice with different values"),
    ],
    ids=[
        "deep list",
        "deep object",
        "digits",
        "list",
        "text",
        "null",
        "empty",
        "zeros",
        "Latin-1",
        "UTF-16",
        "twice",
    ],
)
def test_invalid_sidecar(make_dataset, content, reason):
    root = make_dataset(subjects=("01", "02"))
    (root / SIDECAR).write_bytes(content)
    scans, left_out = collect_scans(root)
    assert [scan.label for scan in scans] == ["sub-02"]
    assert left_out[0].severity == "error"
    assert reason in left_out[0].text


def test_sidecar_of_a_hundred_megabytes_is_not_read(make_dataset):
    root = make_dataset(subjects=("01", "02"))
    os.truncate(root / SIDECAR, 100 * 2**20)
    scans, left_out = collect_scans(root)
    assert [scan.label for scan in scans] == ["sub-02"]
    assert "100 MB is too large for a sidecar" in left_out[0].text


@pytest.mark.parametrize(
    "content", [b'\xef\xbb\xbf{"EchoTime": 0.012}', b'{"EchoTime": 0.012, "EchoTime": 0.012}']
)
def test_sidecar_that_is_harmless(make_dataset, content):
    root = make_dataset()
    (root / SIDECAR).write_bytes(content)
    (scan,), _ = collect_scans(root)
    assert scan.echo_times[1] == 0.012


def test_own_json_keys_are_not_entities(make_dataset):
    (scan,), _ = collect_scans(
        make_dataset(metadata={"subject": "../../x", "echo": 7, "part": "phase", "__class__": "x"})
    )
    assert scan.entities == {"subject": "01"}


def test_pipes_and_folders_in_place_of_files(make_dataset):
    root = make_dataset(subjects=("01", "02", "03"))
    (root / SIDECAR).unlink()
    os.mkfifo(root / SIDECAR)
    image = root / SIDECAR.replace("sub-01", "sub-02").replace(".json", ".nii.gz")
    image.unlink()
    os.mkfifo(image)
    folder = root / SIDECAR.replace("sub-01", "sub-03").replace(".json", ".nii.gz")
    folder.unlink()
    folder.mkdir()
    scans, left_out = collect_scans(root)
    assert [scan.label for scan in scans] == ["sub-02", "sub-03"]
    assert "not a file" in left_out[0].text
    for scan in scans:
        assert "this is not a regular file" in " ".join(map(str, inspect_scan(scan).problems))


@pytest.mark.parametrize("create", [os.mkfifo, os.mkdir])
def test_participants_table_that_is_no_file(make_dataset, create):
    root = make_dataset()
    create(root / "participants.tsv")
    with pytest.raises(DatasetError, match=r"participants\.tsv: not a file"):
        collect_scans(root)


@pytest.mark.parametrize(
    "name",
    ["with space", "quo'te\"", "$HOME", "100%s", "Zürich", "new\nline", "semi;colon&", "-rf", "*"],
)
def test_folder_names(make_dataset, name, capsys):
    table, problems = audit(make_dataset(f"{name}/raw"), capsys)
    assert list(table["verdict"]) == ["ok"]
    assert problems == []


@pytest.mark.parametrize("label", ["a b", "é", "x'y", "$(id)", "a\nb", "-", "<b>", ".."])
def test_participant_folders_with_odd_names(make_dataset, label, capsys):
    root = make_dataset()
    folder = root / f"sub-{label}" / "anat"
    folder.mkdir(parents=True)
    (folder / f"sub-{label}_echo-1_part-mag_MEGRE.nii.gz").write_bytes(b"x")
    table, problems = audit(root, capsys)
    assert table.set_index("scan")["verdict"]["sub-01"] == "ok"
    assert len(problems) == 1
    assert is_printable(problems[0])


@pytest.mark.parametrize("label", ["../01", "01/../01", "", "*", "0?", "01\n", "$HOME", "sub-"])
def test_invalid_participant_labels_of_the_command(make_dataset, label):
    with pytest.raises(DatasetError, match="--participant-label") as error:
        collect_scans(make_dataset(), participant_label=[label])
    assert is_printable(str(error.value))


@pytest.mark.parametrize("label", ["../x", "a/b", "a\\b", "", "a b", "a\n", "é", ".", "x" + "\x00"])
@pytest.mark.parametrize("name", ["subject", "session", "acquisition"])
def test_labels_that_bids_does_not_allow_name_no_derivative(tmp_path, name, label):
    with pytest.raises(ValueError, match="not a BIDS label"):
        derivative_path(tmp_path, {"subject": "01", name: label}, suffix="mask", desc="brain")


def test_data_may_be_links_to_files_outside_the_dataset(make_dataset, tmp_path, capsys):
    root = make_dataset()
    annex = tmp_path / "annex"
    annex.mkdir()
    for number, path in enumerate(sorted((root / ANAT).iterdir())):
        key = annex / f"{number}"
        path.rename(key)
        path.symlink_to(key)
    table, problems = audit(root, capsys)
    assert (table["verdict"][0], problems) == ("ok", [])


def test_folder_that_links_to_itself(make_dataset, capsys):
    root = make_dataset()
    (root / ANAT / "anat").symlink_to(root / ANAT)
    (root / "sub-01" / "ses-1").symlink_to(root / "sub-01")
    table, problems = audit(root, capsys)
    assert table.set_index("scan")["verdict"]["sub-01"] == "ok"
    # Files behind the link have no session in their names, but are in the folder of one.
    for problem in problems:
        assert "its name contradicts its folder, sub-01/ses-1" in problem


def test_sources_of_a_mask_may_be_anything(make_dataset):
    root = make_dataset()
    mask = root / "derivatives/manual/sub-01/anat/sub-01_desc-brain_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    nib.save(nib.Nifti1Image(np.ones((6, 5, 4), np.uint8), np.eye(4)), mask)
    for sources in (5, "x", {"a": 1}, [5, None, ["sub-01_MEGRE.nii.gz"]], True):
        mask.with_name("sub-01_desc-brain_mask.json").write_text(json.dumps({"Sources": sources}))
        collect_scans(root)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph")  # the font draws a box
def test_names_in_reports(hostile):
    rois = roi_table(subjects=1, sites=["A", hostile], scans=2, methods=("iterative",)).replace(
        {"putamen": hostile}
    )
    scans = (
        rois[["session", "run", "site"]]
        .drop_duplicates()
        .assign(phase_sign_source=hostile, mask_source=hostile)
    )
    html = subject_report(
        hostile, scans, rois=rois, failures=[(hostile, hostile)], versions={hostile: hostile}
    )
    assert_self_contained(html)
    assert "<script" not in html


PACKAGE = Path(multiqsm.__file__).parent
NOT_INSTALLED = {"tests", "benchmarks", "docs", "build"}
SOURCES = []
for path in sorted(PACKAGE.rglob("*.py")):
    if path.relative_to(PACKAGE).parts[0] not in NOT_INSTALLED:
        SOURCES.append(path)
RUNS_CODE = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = {("os", "system"), ("os", "popen"), ("pd", "read_pickle"), ("np", "fromregex")}
FORBIDDEN_IMPORTS = {"pickle", "dill", "marshal", "shelve", "joblib", "cloudpickle"}
UNSAFE_YAML = {
    "Loader",
    "FullLoader",
    "UnsafeLoader",
    "full_load",
    "unsafe_load",
    "full_load_all",
    "unsafe_load_all",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_nothing_evaluates_or_unpickles(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not modules & FORBIDDEN_IMPORTS
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "yaml":
            assert node.attr not in UNSAFE_YAML
        if isinstance(node, ast.Call):
            check_call(node)


def check_call(node):
    name = getattr(node.func, "id", None) or (
        getattr(getattr(node.func, "value", None), "id", ""),
        getattr(node.func, "attr", ""),
    )
    assert name not in RUNS_CODE | FORBIDDEN_CALLS
    for keyword in node.keywords:
        is_true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        assert not (keyword.arg in ("allow_pickle", "shell") and is_true)


def test_no_derivative_is_written_through_a_link_out_of_the_output(tmp_path):
    output = tmp_path / "out"
    elsewhere = tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (output / "sub-01").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="link"):
        derivative_path(output, {"subject": "01"}, suffix="mask", desc="brain")


def test_output_folder_may_be_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    path = derivative_path(tmp_path / "out", {"subject": "01"}, suffix="mask", desc="brain")
    assert path.is_relative_to(tmp_path / "out")


def test_link_in_place_of_a_file_is_replaced(tmp_path):
    outside = tmp_path / "precious.json"
    outside.write_text("precious")
    link = tmp_path / "out.json"
    link.symlink_to(outside)
    write_json(link, {})
    assert outside.read_text() == "precious"
    assert not link.is_symlink()


def test_description_that_is_nested_too_deeply(tmp_path):
    path = tmp_path / "dataset_description.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    assert read_json(path) == {}


@pytest.mark.parametrize("generators", [5, None, "x", {}])
def test_generators_of_other_types(tmp_path, generators):
    (tmp_path / "dataset_description.json").write_text(json.dumps({"GeneratedBy": generators}))
    assert not is_multiqsm_dataset(tmp_path)


def test_invalid_dataset_links_of_an_output(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    description = {"GeneratedBy": [{"Name": "multiqsm"}], "DatasetLinks": ["x"]}
    (output / "dataset_description.json").write_text(json.dumps(description))
    write_dataset_description(output, tmp_path)


@pytest.mark.parametrize("name", ["\ud800", "Zürich\udcff"])
def test_texts_that_utf8_cannot_encode_are_written(tmp_path, name):
    path = write_json(tmp_path / "x.json", {"Name": name})
    assert json.loads(path.read_text(encoding="utf-8"))["Name"] == name
