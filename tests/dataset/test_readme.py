"""The README of the derivatives is written, and never over one that the user wrote or changed."""

import json

import pytest

from multiqsm.dataset.readme import README, write_readme


@pytest.fixture
def root(tmp_path):
    (tmp_path / "dataset_description.json").write_text(json.dumps({"Name": "Maps of {heads}"}))
    return tmp_path


def test_readme_has_name_options_and_citation(root):
    path = write_readme(root, ["--background pdf"])
    assert path == root / README
    text = path.read_text()
    assert text.startswith("# Maps of {heads}\n")
    assert "* `--background pdf`" in text
    assert "`logs/CITATION.md`" in text


def test_a_later_run_replaces_the_readme_of_an_earlier_one(root):
    write_readme(root, ["--background pdf"])
    text = write_readme(root, []).read_text()
    assert "pdf" not in text
    assert "had their defaults" in text
    assert write_readme(root, []).read_text() == text


def test_a_run_without_maps_keeps_any_readme_and_writes_a_missing_one(root):
    first = write_readme(root)
    assert first is not None
    write_readme(root, ["--background pdf"])
    assert write_readme(root) is None
    assert "--background pdf" in (root / README).read_text()


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
    assert write_readme(root, ["--background pdf"]) is None
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
