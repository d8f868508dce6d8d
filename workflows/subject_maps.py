"""One inversion's maps of a person in one space, relative to the reference, and measured."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..dataset.names import REGIONS, variability_map
from ..dataset.outputs import SUBJECT_SPACE
from ..interfaces.derivatives import SaveSubjectMaps
from ..interfaces.reference import RelateMaps
from ..interfaces.regions import RegionsToScans
from ..interfaces.registration import ResampleMaps
from ..interfaces.subject_figures import PlotRegions
from .subject_nodes import make_measure_node, make_node
from .subject_regions import has_regions
from .variability import SD_MEANING, TEMPLATE_SPACE, connect_variability, kinds_of_variability


def init_maps_wf(subject, method, *, output_dir, settings, gigabytes):
    """One inversion's maps: in the subject space, relative to the reference, measured in regions
    and voxel by voxel.
    """
    scans = subject.scans
    masks = [str(scan.mask) for scan in subject.scans]
    native = [str(scan.chi[method]) for scan in scans]
    fields = [
        "transform_files",
        "grid_file",
        "mask_file",
        "label_files",
        "names",
        "reference_files",
        "reference",
    ]
    if settings.atlas is not None:
        fields += ["template_transform_file", "from_template_file"]
    inputnode = Node(
        IdentityInterface([*fields, "record", "steps", "average_file"]), name="inputnode"
    )
    outputnode = Node(IdentityInterface(["rows"]), name="outputnode")
    resample = make_node(ResampleMaps(in_files=native, mask_files=masks), "resample", gigabytes(12))
    relate = make_node(RelateMaps(), "relate", gigabytes(6))
    save = _save_maps_node(subject, method, output_dir, gigabytes)
    measure = make_measure_node(subject, method, settings, gigabytes)

    workflow = Workflow(name=method)
    # fmt: off
    workflow.connect([
        (inputnode, resample, [("transform_files", "transform_files"), ("grid_file", "grid_file")]),
        (inputnode, relate, [("reference_files", "reference_files")]),
        (resample, relate, [("out_files", "in_files")]),
        (inputnode, save, [
            ("transform_files", "transform_files"), ("reference", "reference"),
            ("record", "record"),
            ("steps", "steps"), ("average_file", "average_file"),
        ]),
        (relate, save, [("out_files", "in_files"), ("offsets", "offsets")]),
        (inputnode, measure, [("names", "names"), ("reference", "reference")]),
        (measure, outputnode, [("rows", "rows")]),
    ])
    # fmt: on
    if settings.roi_space == "subject":
        carried, related = _measure_in_space(workflow, inputnode, relate, measure)
    else:
        carried, related = _measure_on_scans(workflow, inputnode, measure, masks, native, gigabytes)
    if kinds_of_variability(subject):
        connect_variability(
            workflow,
            inputnode,
            relate,
            subject,
            method,
            output_dir,
            settings,
            gigabytes,
        )
    if method == settings.inversions[0] and has_regions(subject, settings):
        plot = _region_picture_node(subject, method, output_dir, gigabytes)
        # fmt: off
        workflow.connect([
            (related, plot, [("out_files", "chi_files")]),
            (carried, plot, [
                ("label_files", "label_files"), ("reference_files", "reference_files"),
            ]),
            (inputnode, plot, [("names", "names")]),
            (measure, plot, [("excluded_files", "excluded_files")]),
        ])
        # fmt: on
    return workflow


def _save_maps_node(subject, method, output_dir, gigabytes):
    """Save the maps in the subject space; maps of variability that an earlier run had go."""
    not_made = [
        {"entities": {"subject": subject.label}, **variability_map(method, kind), "space": space}
        for kind in SD_MEANING
        for space in (SUBJECT_SPACE, TEMPLATE_SPACE)
        if kind not in kinds_of_variability(subject)
    ]
    return Node(
        SaveSubjectMaps(
            native_files=[str(scan.chi[method]) for scan in subject.scans],
            entities=[dict(scan.entities) for scan in subject.scans],
            output_dir=str(output_dir),
            method=method,
            not_made=not_made,
        ),
        name="save_maps",
        mem_gb=gigabytes(6),
    )


def _measure_in_space(workflow, inputnode, relate, measure):
    """Measure regions in the subject space; returns what gives the regions and the maps."""
    # fmt: off
    workflow.connect([
        (inputnode, measure, [
            (field, field) for field in ("label_files", "reference_files", "transform_files")
        ]),
        (relate, measure, [("out_files", "chi_files"), ("offsets", "offsets")]),
    ])
    # fmt: on
    return inputnode, relate


def _measure_on_scans(workflow, inputnode, measure, masks, native, gigabytes):
    """Measure regions on each scan's own map; returns what gives the regions and the maps."""
    carried = make_node(RegionsToScans(grid_files=masks), "regions_to_scans", gigabytes(10))
    related = RelateMaps(in_files=native, mask_files=masks)
    related = make_node(related, "relate_native", gigabytes(6))
    measure.inputs.mask_files = masks
    # fmt: off
    workflow.connect([
        (inputnode, carried, [
            ("transform_files", "transform_files"), ("label_files", "label_files"),
            ("reference_files", "reference_files"),
        ]),
        (carried, related, [("reference_files", "reference_files")]),
        (carried, measure, [
            ("label_files", "label_files"), ("reference_files", "reference_files"),
        ]),
        (related, measure, [("out_files", "chi_files"), ("offsets", "offsets")]),
    ])
    # fmt: on
    return carried, related


def _region_picture_node(subject, method, output_dir, gigabytes):
    """A picture of the regions, of what was left out of them and of the reference, on the first
    scan's map.
    """
    plot = PlotRegions(
        output_dir=str(output_dir),
        entities={"subject": subject.label},
        **REGIONS,
        title=f"Susceptibility, {method}, relative to the reference",
    )
    return Node(plot, name="plot_regions", mem_gb=gigabytes(12))
