"""What was done, in words with the papers to cite, as the sidecars of a derivative dataset tell
it.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import __version__
from ..bids_templates import load_template
from .entities import LONG_NAMES, scan_label
from .files import PathLike, read_json, write_text

# sidecar field: names of the steps that an image went through, in the template `citation`
METHOD_STEPS = "MethodSteps"
N_REGIONS = "NumberOfRegions"  # sidecar field of a table of regional values
CITATION = Path("logs", "CITATION.md")
MAP = re.compile(r"_desc-(?!.*(se|sd)_)[a-z]+_Chimap")


def write_citation(output_dir: PathLike) -> Path:
    """Write ``logs/CITATION.md``: `methods_text` of all that the dataset holds.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.

    Returns
    -------
    pathlib.Path
        The text.
    """
    return write_text(Path(output_dir) / CITATION, methods_text(output_dir))


def methods_text(output_dir: PathLike, scans: Sequence[str] | None = None) -> str:
    """Tell what was done to the scans of a derivative dataset, by what their sidecars say.

    A step that not all scans (or people) went through is told with how many did.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    scans : sequence of str, optional
        Labels of the scans that are meant; all by default.

    Returns
    -------
    str
        Markdown.
    """
    made = _Made(scans)
    subjects = ["sub-*"] if scans is None else sorted({_subject(scan) for scan in scans})
    for subject in subjects:
        for path in sorted(Path(output_dir).glob(f"{subject}/**/anat/*.json")):
            made.take(path)
    return citation_text(made.steps(), **made.numbers())


def citation_text(steps: Mapping[str, str], **numbers: str) -> str:
    """Put the sentences of some steps together, with the papers to cite.

    Parameters
    ----------
    steps : mapping of str to str
        Steps by their names in the template ``citation``, each with a remark that ends its
        sentence, or nothing. Sentences are in the template's order. BIDS and Nipype are always
        named.
    **numbers
        What stands in braces in the template's texts.

    Returns
    -------
    str
        Markdown.

    Raises
    ------
    ValueError
        If a step has no text.
    """
    template = load_template("citation")
    if unknown := [step for step in steps if step not in template["steps"]]:
        raise ValueError(
            f"No citation for {', '.join(unknown)}: known are {', '.join(template['steps'])}"
        )
    told = {
        name: step
        for name, step in template["steps"].items()
        if name in ("bids", "nipype") or name in steps
    }
    cited = list(dict.fromkeys(key for step in told.values() for key in step["references"]))
    number = {key: place for place, key in enumerate(cited, start=1)}
    sentences = []
    for name, step in told.items():
        remark = steps.get(name, "")
        marks = ", ".join(str(number[key]) for key in step["references"])
        text = step["text"].format(**numbers)
        sentences.append(
            " ".join(part for part in (text, remark, marks and f"[{marks}]") if part) + "."
        )
    references = [f"{number[key]}. {template['references'][key]}" for key in cited]
    introduction = template["introduction"].format(version=__version__)
    blocks = ["# Methods", introduction, " ".join(sentences), "# References", "\n".join(references)]
    return "\n\n".join(blocks) + "\n"


class _Made:
    """What the sidecars tell: the scans (or people) that went through each step."""

    def __init__(self, scans):
        self._scans = scans
        self._went_through = defaultdict(set)
        self._of = _units()
        self._maps = set()
        self._carried = set()
        self._untold = set()
        self._n_regions = {}
        self._references = set()

    def take(self, path):
        """Take the sidecar of a map, or of a table of regional values; others tell nothing more."""
        labels = dict(pair.split("-", 1) for pair in path.stem.split("_") if "-" in pair)
        scan = scan_label(
            {LONG_NAMES[key]: label for key, label in labels.items() if key in LONG_NAMES}
        )
        suffix = path.stem.rsplit("_", 1)[-1]
        is_map = MAP.search(path.stem) is not None
        is_meant = self._scans is None or scan in self._scans
        if not (is_meant and (is_map or suffix in ("R2starmap", "chi"))):
            return
        told = read_json(path)
        steps = told.get(METHOD_STEPS)
        if not isinstance(steps, list):
            self._untold |= {scan} if is_map and "space" not in labels else set()
            return
        if is_map:
            (self._carried if "space" in labels else self._maps).add(scan)
        if N_REGIONS in told:
            self._n_regions[scan] = told[N_REGIONS]
        if "label" in steps and "ReferenceRegion" in told:
            self._references.add(str(told["ReferenceRegion"]))
        for step in steps:
            self._went_through[step].add(scan if self._of.get(step) == "scans" else _subject(scan))

    def steps(self):
        """Steps with their remarks."""
        phantoms = self._went_through["phantom"]
        people = {_subject(scan) for scan in self._maps - phantoms}
        together = {_subject(scan) for scan in self._carried}
        absent = {
            "apart": people - together,
            "unregistered": {
                scan for scan in self._maps - self._carried if _subject(scan) in together
            },
            "regions": set(self._n_regions),
            "no_regions": self._maps - set(self._n_regions),
            "untold": self._untold - self._maps,
        }
        totals = {"scans": len(self._maps | self._untold), "people": len(people)}
        done = {
            step: found
            for step, found in {**self._went_through, **absent}.items()
            if found and step in self._of
        }
        return {
            step: _remark(len(found), totals[self._of[step]], self._of[step])
            for step, found in done.items()
        }

    def numbers(self):
        """What the template's texts want to know."""
        n = sorted(set(self._n_regions.values()))
        regions = (
            f"{n[0]} to {n[-1]} regions"
            if len(n) > 1
            else f"{n[0]} region{'s' * (n[0] != 1)}"
            if n
            else ""
        )
        return {"regions": regions, "references": ", ".join(sorted(self._references))}


def _units():
    """Whether a step is one of scans or of people, by the step."""
    return {
        name: step.get("of", "scans") for name, step in load_template("citation")["steps"].items()
    }


def _subject(scan):
    return scan.split("_", 1)[0]


def _remark(n, total, what):
    return f"(in {n} of {total} {what})" if n < total else ""
