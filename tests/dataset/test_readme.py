"""The README of the derivatives is written, and never over one that the user wrote or changed."""

import json

import pytest

from multiqsm.dataset.readme import README, write_readme


@pytest.fixture
def root(tmp_path):
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "Maps of {heads}"}))
    return tmp_path


def add(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


MAP = "sub-01/ses-A/anat/sub-01_ses-A_desc-medi_Chimap.nii.gz"


def test_readme_has_name_choices_and_citation(root):
    add(root, MAP, "logs/CITATION.md")
    path = write_readme(root, ["Maps of all 2 scans: `--preset lin2015`."])
    assert path == root / README
    text = path.read_text()
    assert text.startswith("# Maps of {heads}\n")
    assert "\n\nMaps of all 2 scans: `--preset lin2015`.\n\n" in text
    assert "## How to cite" in text
    assert write_readme(root, ["Maps of all 2 scans: `--preset lin2015`."]).read_text() == text


def test_readme_lists_what_the_folder_has_at_the_moment(root):
    add(root, "group/model-thalamus/coefficients.tsv", "group_model-thalamus.html")
    of_tables = write_readme(root).read_text()
    assert "This folder has regressions of a study model, computed by" in of_tables
    for absent in ("Chimap", "maps", "sub-X", "CITATION", "options", "sidecar of each image"):
        assert absent not in of_tables
    add(root, MAP, "sub-01.html", "group.html")
    of_all = write_readme(root, ["Maps of scan sub-01_ses-A: the defaults."]).read_text()
    assert "maps of magnetic susceptibility, statistics of a study and regressions" in of_all
    assert "| `sub-X.html` | report of a subject |" in of_all
    (root / MAP).unlink()
    assert "Chimap" not in write_readme(root).read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("# Maps", "# My maps"),
        lambda text: f"{text}Please ask before you use them.\n",
        lambda text: text.rsplit("\n", 2)[0] + "\n",  # without the last line
        lambda text: "",
        lambda text: "\x00\ud800",
    ],
)
def test_changed_readme_is_kept(root, change):
    path = write_readme(root, [])
    content = change(path.read_text()).encode(errors="surrogatepass")
    path.write_bytes(content)
    assert write_readme(root, ["Maps of scan sub-01: other options."]) is None
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["README", "README.txt", "README.rst", "README.md"])
def test_readme_of_the_user_is_kept_and_gets_no_second_one(root, name):
    (root / name).write_text("Mine.\n")
    assert write_readme(root, []) is None
    assert {path.name for path in root.glob("README*")} == {name}
    assert (root / name).read_text() == "Mine.\n"


def test_broken_link_counts_as_a_readme(root):
    (root / README).symlink_to(".git/annex/objects/absent")
    assert write_readme(root, []) is None
    assert (root / README).is_symlink()
