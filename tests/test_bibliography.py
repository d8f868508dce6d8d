"""The list of references in the docs has every paper that the code cites."""

import ast
import re
from pathlib import Path

import multiqsm
from multiqsm.bids_templates import load_template
from multiqsm.dataset.files import read_json

ROOT = Path(multiqsm.__file__).parent  # of the code, which may be installed
LIST = Path(__file__).parents[1] / "docs" / "references.md"
PAGES = (LIST.parents[1] / "README.md", *sorted(LIST.parent.glob("*.md")))
# Volume and first page, as in 36:467, 36(3):467 and 25B:65.
PLACE = re.compile(r"\b(\d{1,3})B?(?:\(\d+\))?:(e?\d+)")


DOI = re.compile(r"\b10\.\d{4,}/[A-Za-z0-9./_()-]*[A-Za-z0-9]")


def places(text):
    """Return the volume and first page of each paper that a text cites."""
    text = " ".join(text.split())
    return set(PLACE.findall(re.sub(r"eq\. \d+:\d+", "", text)))


def references_of(docstring):
    """Return the section on references of a docstring; empty if there is none."""
    _, _, rest = (docstring or "").partition("References\n----------\n")
    return re.split(r"\n[A-Z][a-z]+\n---", rest)[0]


def listed():
    return places(LIST.read_text(encoding="utf-8"))


def cited_in_docstrings():
    cited = set()
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for path in sorted(ROOT.rglob("*.py")):
        if not is_code(path):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kinds):
                cited |= places(references_of(ast.get_docstring(node)))
    return cited


def is_code(path):
    """Check whether a file is of the package, and not of the tests, a build or an environment."""
    folders = path.relative_to(ROOT).parts
    is_hidden = any(name.startswith(".") for name in folders)
    return not is_hidden and not {"tests", "build"} & set(folders)


def dois():
    """Return the files, outside the list and the tests, that a doi occurs in, by doi."""
    paths = [path for path in PAGES if path != LIST]
    for suffix in (".py", ".json"):
        paths += filter(is_code, sorted(ROOT.rglob(f"*{suffix}")))
    files = {}
    for path in paths:
        for doi in DOI.findall(path.read_text(encoding="utf-8")):
            files.setdefault(doi.lower(), set()).add(path.name)
    return files


def test_papers_cited_by_doi_are_listed():
    text = LIST.read_text(encoding="utf-8")
    listed_dois = {doi.lower() for doi in DOI.findall(text)}
    cited = dois()
    assert "group_texts.py" in cited["10.1002/nbm.4788"]
    assert len(cited) > 20
    assert {doi: files for doi, files in cited.items() if doi not in listed_dois} == {}


def test_papers_in_docstrings_are_listed():
    cited = cited_in_docstrings()
    assert ("36", "467") in cited  # the 2015 study
    assert len(cited) > 40
    assert cited <= listed()


def test_papers_of_the_methods_text_are_listed():
    cited = places(" ".join(load_template("citation")["references"].values()))
    assert len(cited) > 20
    assert cited <= listed()
    assert places(load_template("checklist")["source"]) <= listed()


def test_papers_of_the_simulated_tissues_are_listed():
    tissues = read_json(ROOT / "simulation" / "head.json")
    sources = " ".join(re.findall(r"'source': [\"'](.*?)[\"'][,}]", str(tissues)))
    cited = places(sources)
    assert len(cited) > 8
    assert cited <= listed()
