"""Write the methods text of a derivative dataset, with references, from its sidecars."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import __version__
from ..bids_templates import load_template
from .entities import LONG_NAMES, scan_label
from .files import PathLike, read_json, write_text
from .group_tables import GROUP, MODEL_PREFIX
from .tables import read_tsv
from .values import counted

# Sidecar field: the processing steps of an image, by their names in the template `citation`.
METHOD_STEPS = "MethodSteps"
# Names of steps in sidecars of earlier versions, and their names today.
EARLIER_STEPS = {
    "unknown": "unmeasured_voxels",
    "jumps": "strong_source_edges",
    "csf_found": "csf_automatic",
    "atrium_found": "atrium_automatic",
    "brain_instead": "brain_as_fallback",
}
N_REGIONS = "NumberOfRegions"  # sidecar field of a table of regional values
# Sidecar field of the same: the description in the sidecar of the user's label image.
REGIONS_DESCRIPTION = "RegionsDescription"
CITATION = Path("logs", "CITATION.md")
# Steps of a regression model, and the table that shows that it was done.
MODEL_STEPS = {"regressions": "diagnostics", "ladder": "ladder", "correlation_power": "power"}
MAP = re.compile(r"_desc-(?!.*(se|sd)_)[a-z]+_Chimap")


def write_citation(output_dir: PathLike) -> Path:
    """Write the methods text of a dataset, its scans and models, to ``logs/CITATION.md``.

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


def method_steps(sidecar: Mapping[str, Any]) -> list[str] | None:
    """Return the processing steps that a sidecar records, by their names in the template.

    Parameters
    ----------
    sidecar : mapping
        Sidecar of an image or a table. It may be of an earlier version, in which some steps had
        other names.

    Returns
    -------
    list of str or None
        None if there is no record.

    Examples
    --------
    >>> method_steps({"MethodSteps": ["mask", "csf_found"]})
    ['mask', 'csf_automatic']
    """
    steps = sidecar.get(METHOD_STEPS)
    if not isinstance(steps, list):
        return None
    names = map(str, steps)
    return [EARLIER_STEPS.get(name, name) for name in names]


def methods_text(output_dir: PathLike, scans: Sequence[str] | None = None) -> str:
    """Describe the processing of a derivative dataset's scans, as recorded in their sidecars.

    A step that was not applied to all scans (or people) is described with the number of those that
    it was applied to.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.
    scans : sequence of str, optional
        Labels of the scans to describe; by default all, and the regression models as well.

    Returns
    -------
    str
        Markdown.
    """
    summary = _ProcessingSummary(scans)
    subjects = ["sub-*"] if scans is None else sorted(_subjects(scans))
    for subject in subjects:
        for path in sorted(Path(output_dir).glob(f"{subject}/**/anat/*.json")):
            summary.add(path)
    steps = summary.steps()
    if scans is None:
        steps.update(dict.fromkeys(model_steps(output_dir), ""))
    return citation_text(steps, **summary.placeholders())


def model_steps(output_dir: PathLike) -> list[str]:
    """Return the steps of a dataset's regression models, by their names in the template.

    Parameters
    ----------
    output_dir : path-like
        Root of the derivative dataset.

    Returns
    -------
    list of str
        Empty if no model was computed.
    """
    template = load_template("citation")["steps"]
    steps = []
    for folder in sorted(Path(output_dir, GROUP).glob(f"{MODEL_PREFIX}*")):
        for step, table in MODEL_STEPS.items():
            path = folder / f"{table}.tsv"
            rows = read_tsv(path) if path.exists() else pd.DataFrame()
            if rows.empty:
                continue
            steps.append(step)
            if step == "regressions" and (rows["adjusted"].astype(str) == "True").any():
                steps.append("adjustment")
        # A text "model" with an underscore would make maps depend on the templates model_*.json.
        published = folder.name.replace("-", "_", 1)
        if published in template:
            steps.append(published)
    return steps


def citation_text(steps: Mapping[str, str], **placeholders: str) -> str:
    """Combine the sentences of some processing steps, with numbered references.

    Parameters
    ----------
    steps : mapping of str to str
        Steps by their names in the template ``citation``, each with a remark for the end of its
        sentence, which may be empty. Sentences are in the template's order. BIDS and Nipype are
        always cited.
    **placeholders : str
        Texts for the placeholders in braces in the template.

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
    if unknown := sorted(steps.keys() - template["steps"].keys()):
        raise ValueError(
            f"No citation for {', '.join(unknown)}: the template has {', '.join(template['steps'])}"
        )
    numbers: dict[str, int] = {}  # of references, in the order of their first citation
    sentences = []
    for name, step in template["steps"].items():
        if name not in steps and name not in ("bids", "nipype"):
            continue
        parts = [step["text"].format(**placeholders)]
        if remark := steps.get(name):
            parts.append(remark)
        citations = [numbers.setdefault(key, len(numbers) + 1) for key in step["references"]]
        if citations:
            parts.append(str(citations))  # such as [1, 2]
        sentences.append(f"{' '.join(parts)}.")
    references = [f"{number}. {template['references'][key]}" for key, number in numbers.items()]
    introduction = template["introduction"].format(version=__version__)
    blocks = ["# Methods", introduction, " ".join(sentences), "# References", "\n".join(references)]
    return "\n\n".join(blocks) + "\n"


class _ProcessingSummary:
    """Which scans (or people) went through each processing step, collected from sidecars.

    Parameters
    ----------
    scans : sequence of str or None
        Labels of the scans to include; None for all.
    """

    def __init__(self, scans):
        self._scans = scans
        self._units = _step_units()
        self._processed = defaultdict(set)  # scans or people by step
        self._maps = set()  # scans with a map that has a record of its steps
        self._unrecorded = set()  # scans with a map that has none
        self._in_subject_space = set()
        self._n_regions = {}
        self._references = set()

    def add(self, path: Path) -> None:
        """Add the sidecar of a map or of a table of regional values; ignore others."""
        labels = dict(pair.split("-", 1) for pair in path.stem.split("_") if "-" in pair)
        scan = _scan_of(labels)
        suffix = path.stem.rsplit("_", 1)[-1]
        is_map = MAP.search(path.stem) is not None
        is_selected = self._scans is None or scan in self._scans
        if not (is_selected and (is_map or suffix in ("R2starmap", "chi"))):
            return
        sidecar = read_json(path)
        steps = method_steps(sidecar)
        if steps is None:
            if is_map and "space" not in labels:
                self._unrecorded.add(scan)
            return
        if is_map:
            (self._in_subject_space if "space" in labels else self._maps).add(scan)
        if N_REGIONS in sidecar:
            self._n_regions[scan] = sidecar[N_REGIONS]
        if "label" in steps and "ReferenceRegion" in sidecar:
            self._references.add(str(sidecar["ReferenceRegion"]))
        for step in steps:
            is_of_scan = self._units.get(step) == "scans"
            self._processed[step].add(scan if is_of_scan else _subject(scan))

    def steps(self) -> dict[str, str]:
        """Return the steps with remarks on how many scans or people they were applied to."""
        people = _subjects(self._maps - self._processed["phantom"])
        registered = _subjects(self._in_subject_space)
        not_in_subject_space = self._maps - self._in_subject_space
        # Steps of the template that no sidecar records, since they describe what is missing.
        processed = self._processed | {
            "not_aligned": people - registered,
            "unregistered": {scan for scan in not_in_subject_space if _subject(scan) in registered},
            "regions": set(self._n_regions),
            "no_regions": self._maps - set(self._n_regions),
            "no_record": self._unrecorded - self._maps,
        }
        totals = {"scans": len(self._maps | self._unrecorded), "people": len(people)}
        remarks = {}
        for step, members in processed.items():
            if members and step in self._units:
                unit = self._units[step]
                remarks[step] = _remark(len(members), totals[unit], unit)
        return remarks

    def placeholders(self) -> dict[str, str]:
        """Return texts for the placeholders of the template."""
        counts = self._n_regions.values()
        if len(set(counts)) > 1:
            regions = f"{min(counts)} to {max(counts)} regions"
        elif counts:
            n_regions = min(counts)
            regions = counted(n_regions, "region")
        else:
            regions = ""
        return {"regions": regions, "references": ", ".join(sorted(self._references))}


def _step_units():
    """Return for each step whether it is applied to scans or to people."""
    steps = load_template("citation")["steps"]
    return {name: step.get("of", "scans") for name, step in steps.items()}


def _scan_of(labels):
    """Return the label of the scan that a file with these entities belongs to."""
    entities = {LONG_NAMES[key]: labels[key] for key in labels.keys() & LONG_NAMES.keys()}
    return scan_label(entities)


def _subjects(scans):
    return set(map(_subject, scans))


def _subject(scan):
    return scan.split("_", 1)[0]


def _remark(n, total, unit):
    return f"(in {n} of {total} {unit})" if n < total else ""
