"""References that no label can have are refused before any work."""

import pytest

from multiqsm.cli.app import main
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.references import check_reference


@pytest.fixture
def drawn(tmp_path):
    """A derivative dataset with the table of a drawn region."""
    folder = tmp_path / "rater" / "sub-01" / "anat"
    folder.mkdir(parents=True)
    (folder / "sub-01_desc-rois_dseg.tsv").write_text("index\tname\n1\tleft_pons\n2\tright_pons\n")
    return tmp_path / "rater"


@pytest.mark.parametrize("name", ["brain", "csf", "atrium", "left_pons", "pons", "left_thalamus"])
def test_possible_references(name, drawn):
    """Those without a label, a drawn region or both sides of it, a region of FreeSurfer."""
    check_reference(name, atlas=None, datasets=[drawn])


def test_region_of_the_atlas(drawn):
    check_reference("red_nucleus", atlas="pauli2017", datasets=[drawn])
    with pytest.raises(DatasetError, match="--reference red_nucleus: no drawn region"):
        check_reference("red_nucleus", atlas=None, datasets=[drawn])


def test_typing_error_names_the_drawn_regions(drawn):
    with pytest.raises(DatasetError, match=r"ponds: .*\(drawn regions: left_pons, right_pons\)"):
        check_reference("ponds", atlas="pauli2017", datasets=[drawn])


def test_unreadable_table_might_have_the_label(drawn):
    (drawn / "dseg.tsv").write_text("number\tname\n1\tponds\n")
    check_reference("ponds", atlas=None, datasets=[drawn])


@pytest.mark.parametrize("mode", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("--reference", "foo", "--reference foo"), ("--atlas", "foo", "no atlas of this name")],
)
def test_the_command_stops_before_any_work(
    mode, option, value, message, make_dataset, tmp_path, capsys
):
    out = tmp_path / "out"
    arguments = [str(make_dataset()), str(out), "participant", "-w", str(tmp_path / "work")]
    assert main([*arguments, option, value, *mode]) == 2
    assert message in capsys.readouterr().err
    assert not list(out.rglob("*.nii.gz"))
