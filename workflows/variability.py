"""How much the maps of a person's scans differ within and across sites."""

from nipype.interfaces.utility import Select
from nipype.pipeline.engine import Node

from ..dataset.names import variability_map
from ..dataset.outputs import bids_uri
from ..dataset.repeats import match_protocols
from ..interfaces.derivatives import SaveDerivative
from ..interfaces.figures import PlotSlices
from ..interfaces.template import MapToTemplate
from ..interfaces.variability import MapVariability
from ..stats.protocols import choose_protocols
from .subject_nodes import make_node
from .subject_space import spatial_reference

TEMPLATE_SPACE = "MNI152NLin2009aSym"  # as BIDS calls the template that nilearn brings
SD_WINDOW = (0.0, 0.03)  # ppm
SD_MEANING = {
    "within": "mean over sites of the SD over scans",
    "across": "mean over scans of the SD over sites",
}


def connect_variability(
    workflow, inputnode, relate, subject, method, output_dir, settings, gigabytes
):
    """Maps of the SD within and across sites, those of both that the subject's scans allow."""
    places = _repeats(subject.scans)
    kinds = kinds_of_variability(subject)
    scans = [subject.scans[place] for place in places]
    sites = [scan.site for scan in scans]
    numbers = [scan.number for scan in scans]
    repeats = Node(Select(index=places), name="repeats", mem_gb=gigabytes(0))
    variability = make_node(
        MapVariability(sites=sites, numbers=numbers), "variability", gigabytes(4 + 2 * len(scans))
    )
    workflow.connect(
        [
            (relate, repeats, [("out_files", "inlist")]),
            (repeats, variability, [("out", "in_files")]),
        ]
    )
    for kind in kinds:
        named = {
            "output_dir": str(output_dir),
            "entities": {"subject": subject.label},
            **variability_map(method, kind),
        }
        metadata = {
            "Description": f"Standard deviation of susceptibility, {method}: {SD_MEANING[kind]}",
            "Units": "ppm",
            "SkullStripped": True,
            "Sources": [bids_uri(scan.chi[method], output_dir, "") for scan in scans],
        }
        in_space = metadata | spatial_reference(subject, output_dir)
        save = Node(
            SaveDerivative(**named, metadata=in_space), name=f"save_{kind}", mem_gb=gigabytes(4)
        )
        title = f"SD of susceptibility {kind} sites, {method}"
        plot = Node(
            PlotSlices(**named, title=title, window=SD_WINDOW, unit="ppm"),
            name=f"plot_{kind}",
            mem_gb=gigabytes(8),
        )
        workflow.connect(
            [
                (variability, save, [(f"{kind}_file", "in_file")]),
                (variability, plot, [(f"{kind}_file", "in_file")]),
                (inputnode, plot, [("mask_file", "mask_file")]),
            ]
        )
        if settings.atlas is None:
            continue
        carry = make_node(MapToTemplate(), f"{kind}_to_template", gigabytes(20))
        save_carried = Node(
            SaveDerivative(**named | {"space": TEMPLATE_SPACE}, metadata=metadata),
            name=f"save_{kind}_in_template",
            mem_gb=gigabytes(4),
        )
        # fmt: off
        workflow.connect([
            (variability, carry, [(f"{kind}_file", "in_file")]),
            (inputnode, carry, [
                ("template_transform_file", "transform_file"),
                ("from_template_file", "from_template_file"),
            ]),
            (carry, save_carried, [("out_file", "in_file")]),
        ])


        # fmt: on


def _repeats(scans):
    """Places of the scans that repeat one another: at each site those of its commonest protocol."""
    protocols = [str(protocol) for protocol in match_protocols([scan.protocol for scan in scans])]
    chosen = choose_protocols([scan.site for scan in scans], protocols)
    found = zip(scans, protocols, strict=True)
    return [place for place, (scan, protocol) in enumerate(found) if protocol == chosen[scan.site]]


def kinds_of_variability(subject):
    """Whether scans repeat one another at a site, or at several."""
    scans = [subject.scans[place] for place in _repeats(subject.scans)]
    groups = {"within": [scan.site for scan in scans], "across": [scan.number for scan in scans]}
    return [kind for kind, group in groups.items() if len(set(group)) < len(group)]
