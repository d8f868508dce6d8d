"""Variability of susceptibility: how much a person's maps differ within and across sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nipype.interfaces.utility import Select
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..dataset.names import variability_map
from ..dataset.outputs import bids_uri
from ..dataset.repeats import match_protocols
from ..dataset.subjects import ProcessedScan, Subject
from ..interfaces.derivatives import SaveDerivative
from ..interfaces.figures import PlotSlices
from ..interfaces.template import MapToTemplate
from ..interfaces.variability import MapVariability
from ..stats.protocols import choose_protocols
from .memory import VolumeMemory
from .subject_nodes import make_node
from .subject_space import spatial_reference

if TYPE_CHECKING:
    from .settings import Settings

TEMPLATE_SPACE = "MNI152NLin2009aSym"  # the BIDS name of the template in nilearn
SD_WINDOW = (0.0, 0.03)  # ppm
SD_MEANING = {
    "within": "mean over sites of the SD over scans",
    "across": "mean over scans of the SD over sites",
}


def connect_variability(
    workflow: Workflow,
    inputnode: Node,
    relate: Node,
    subject: Subject,
    method: str,
    output_dir: PathLike,
    settings: Settings,
    gigabytes: VolumeMemory,
) -> None:
    """Map, save and draw the SD within and across sites, as far as the subject's scans allow.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The workflow of an inversion's maps, to which the nodes are added.
    inputnode : nipype.pipeline.engine.Node
        Its inputs: the mask and, with an atlas, the transforms to the template.
    relate : nipype.pipeline.engine.Node
        The node whose ``out_files`` are the maps relative to the reference, a map of each scan.
    subject : multiqsm.dataset.subjects.Subject
        The person and the processed scans.
    method : str
        The inversion.
    output_dir : path-like
        Root of the derivative dataset.
    settings : Settings
        Choices of the run.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.
    """
    indices = _indices_of_repeats(subject.scans)
    repeats = [subject.scans[index] for index in indices]
    select = Node(Select(index=indices), name="repeats", mem_gb=gigabytes(0))
    variability = MapVariability(sites=_sites(repeats), numbers=_numbers(repeats))
    variability = make_node(variability, "variability", gigabytes(4 + 2 * len(repeats)))
    workflow.connect(
        [
            (relate, select, [("out_files", "inlist")]),
            (select, variability, [("out", "in_files")]),
        ]
    )
    sources = [bids_uri(scan.chi[method], output_dir, "") for scan in repeats]
    for kind in kinds_of_variability(subject):
        derivative = {
            "output_dir": str(output_dir),
            "entities": {"subject": subject.label},
            **variability_map(method, kind),
        }
        metadata = {
            "Description": f"Standard deviation of susceptibility, {method}: {SD_MEANING[kind]}",
            "Units": "ppm",
            "SkullStripped": True,
            "Sources": sources,
        }
        save = SaveDerivative(
            **derivative, metadata=metadata | spatial_reference(subject, output_dir)
        )
        save = Node(save, name=f"save_{kind}", mem_gb=gigabytes(4))
        title = f"SD of susceptibility {kind} sites, {method}"
        plot = PlotSlices(**derivative, title=title, window=SD_WINDOW, unit="ppm")
        plot = Node(plot, name=f"plot_{kind}", mem_gb=gigabytes(8))
        workflow.connect(
            [
                (variability, save, [(f"{kind}_file", "in_file")]),
                (variability, plot, [(f"{kind}_file", "in_file")]),
                (inputnode, plot, [("mask_file", "mask_file")]),
            ]
        )
        if settings.atlas is None:
            continue
        to_template = make_node(MapToTemplate(), f"{kind}_to_template", gigabytes(20))
        save_in_template = SaveDerivative(
            **derivative | {"space": TEMPLATE_SPACE}, metadata=metadata
        )
        save_in_template = Node(
            save_in_template, name=f"save_{kind}_in_template", mem_gb=gigabytes(4)
        )
        # fmt: off
        workflow.connect([
            (variability, to_template, [(f"{kind}_file", "in_file")]),
            (inputnode, to_template, [
                ("template_transform_file", "transform_file"),
                ("from_template_file", "from_template_file"),
            ]),
            (to_template, save_in_template, [("out_file", "in_file")]),
        ])
        # fmt: on


def kinds_of_variability(subject: Subject) -> list[str]:
    """Return the kinds of variability that the subject's scans allow, of ``within`` and ``across``.

    The SD within sites needs scans repeated at a site, that across sites scans repeated at several.
    """
    repeats = [subject.scans[index] for index in _indices_of_repeats(subject.scans)]
    kinds = []
    if _has_duplicates(_sites(repeats)):
        kinds.append("within")
    if _has_duplicates(_numbers(repeats)):
        kinds.append("across")
    return kinds


def _indices_of_repeats(scans: Sequence[ProcessedScan]) -> list[int]:
    """Return which scans repeat one another: at each site those of its most common protocol."""
    sites = _sites(scans)
    protocols = list(map(str, match_protocols([scan.protocol for scan in scans])))
    protocol_of_site = choose_protocols(sites, protocols)
    indices = []
    for index, (site, protocol) in enumerate(zip(sites, protocols, strict=True)):
        if protocol == protocol_of_site[site]:
            indices.append(index)
    return indices


def _sites(scans: Sequence[ProcessedScan]) -> list[str]:
    return [scan.site for scan in scans]


def _numbers(scans: Sequence[ProcessedScan]) -> list[int]:
    return [scan.number for scan in scans]


def _has_duplicates(values: Sequence) -> bool:
    return len(set(values)) < len(values)
