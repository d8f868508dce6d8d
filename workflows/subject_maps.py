"""A person's maps of one inversion: in the subject space, relative to the reference, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..dataset.names import REGIONS, SITES, variability_map
from ..dataset.outputs import SUBJECT_SPACE
from ..dataset.subjects import Subject
from ..interfaces.derivatives import SaveSubjectMaps
from ..interfaces.reference import RelateMaps
from ..interfaces.regions import RegionsToScans
from ..interfaces.registration import ResampleMaps
from ..interfaces.subject_figures import PlotRegions, PlotSites
from .connections import by_name
from .flair import connect_flair
from .memory import VolumeMemory
from .subject_nodes import chi_files, entities_of, make_measure_node, make_node, mask_files
from .subject_regions import has_regions
from .variability import SD_MEANING, TEMPLATE_SPACE, connect_variability, kinds_of_variability

if TYPE_CHECKING:
    from .settings import Settings


def init_maps_wf(
    subject: Subject,
    method: str,
    *,
    output_dir: PathLike,
    settings: Settings,
    gigabytes: VolumeMemory,
) -> Workflow:
    """Build the workflow that resamples an inversion's maps to the subject space, applies the
    reference, and measures them in regions and voxel by voxel.

    Parameters
    ----------
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

    Inputs
    ------
    transform_files, grid_file, mask_file
        Transforms from the subject space to each scan, an image on its grid, and the brain mask.
    label_files, names
        Regions of each scan in the subject space, and their names.
    reference_files, reference
        Reference region of each scan in the subject space, and its name.
    template_transform_file, from_template_file
        Registration of the template to the subject space; only with an atlas.
    record, steps
        Sidecar fields of the reference, and steps for the text on methods.
    average_file
        Saved mean magnitude, the spatial reference of the maps.

    Outputs
    -------
    rows
        Rows of the tables of regional values, a list for each scan.
    label_files, excluded_files
        Of the first inversion: regions of each scan on the grid of the measured maps, and the
        voxels left out as veins.

    Returns
    -------
    nipype.pipeline.engine.Workflow
        Named after the inversion.
    """
    masks = mask_files(subject.scans)
    native_maps = chi_files(subject.scans, method)
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
    is_first = method == settings.inversions[0]
    outputs = ["rows", "label_files", "excluded_files"] if is_first else ["rows"]
    outputnode = Node(IdentityInterface(outputs), name="outputnode")
    resample = ResampleMaps(in_files=native_maps, mask_files=masks)
    resample = make_node(resample, "resample", gigabytes(12))
    relate = make_node(RelateMaps(), "relate", gigabytes(6))
    save = _save_maps_node(subject, method, output_dir, gigabytes)
    measure = make_measure_node(subject, method, settings, gigabytes)

    workflow = Workflow(name=method)
    # fmt: off
    workflow.connect([
        (inputnode, resample, by_name(["transform_files", "grid_file"])),
        (inputnode, relate, [("reference_files", "reference_files")]),
        (resample, relate, [("out_files", "in_files")]),
        (inputnode, save, by_name([
            "transform_files", "reference", "record", "steps", "average_file",
        ])),
        (relate, save, [("out_files", "in_files"), ("offsets", "offsets")]),
        (inputnode, measure, by_name(["names", "reference"])),
        (measure, outputnode, [("rows", "rows")]),
    ])
    # fmt: on
    if settings.roi_space == "subject":
        regions, maps = _measure_in_space(workflow, inputnode, relate, measure)
    else:
        regions, maps = _measure_on_scans(
            workflow, inputnode, measure, masks, native_maps, gigabytes
        )
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
    if is_first:
        _connect_site_picture(workflow, inputnode, relate, subject, output_dir, gigabytes)
        # fmt: off
        workflow.connect([
            (regions, outputnode, by_name(["label_files"])),
            (measure, outputnode, by_name(["excluded_files"])),
        ])
        # fmt: on
    if is_first and has_regions(subject, settings):
        plot_regions = _region_picture_node(subject, method, output_dir, gigabytes)
        plot_flair = connect_flair(
            workflow, inputnode, subject, method, output_dir, settings, gigabytes
        )
        for plot in (plot_regions, plot_flair):
            # fmt: off
            workflow.connect([
                (maps, plot, [("out_files", "chi_files")]),
                (regions, plot, by_name(["label_files", "reference_files"])),
                (inputnode, plot, [("names", "names")]),
                (measure, plot, [("excluded_files", "excluded_files")]),
            ])
            # fmt: on
    return workflow


def _save_maps_node(subject, method, output_dir, gigabytes):
    """Return the node that saves the maps in the subject space, and removes an earlier run's maps
    of variability that these scans do not allow.
    """
    entities = {"subject": subject.label}
    kinds = kinds_of_variability(subject)
    obsolete = []
    for kind in SD_MEANING:
        if kind in kinds:
            continue
        for space in (SUBJECT_SPACE, TEMPLATE_SPACE):
            obsolete.append({"entities": entities, **variability_map(method, kind), "space": space})
    save = SaveSubjectMaps(
        native_files=chi_files(subject.scans, method),
        entities=entities_of(subject.scans),
        output_dir=str(output_dir),
        method=method,
        obsolete=obsolete,
    )
    return Node(save, name="save_maps", mem_gb=gigabytes(6))


def _measure_in_space(workflow, inputnode, relate, measure):
    """Measure regions in the subject space; return the nodes with the regions and with the maps."""
    # fmt: off
    workflow.connect([
        (inputnode, measure, by_name(["label_files", "reference_files", "transform_files"])),
        (relate, measure, [("out_files", "chi_files"), ("offsets", "offsets")]),
    ])
    # fmt: on
    return inputnode, relate


def _measure_on_scans(workflow, inputnode, measure, masks, native_maps, gigabytes):
    """Measure regions in the space of each scan; return the nodes with the regions and with the
    maps.
    """
    regions = make_node(RegionsToScans(grid_files=masks), "regions_to_scans", gigabytes(10))
    relate = RelateMaps(in_files=native_maps, mask_files=masks)
    relate = make_node(relate, "relate_native", gigabytes(6))
    measure.inputs.mask_files = masks
    # fmt: off
    workflow.connect([
        (inputnode, regions, by_name(["transform_files", "label_files", "reference_files"])),
        (regions, relate, [("reference_files", "reference_files")]),
        (regions, measure, by_name(["label_files", "reference_files"])),
        (relate, measure, [("out_files", "chi_files"), ("offsets", "offsets")]),
    ])
    # fmt: on
    return regions, relate


def _region_picture_node(subject, method, output_dir, gigabytes):
    """Return the node that draws the regions, the voxels excluded from them and the reference on
    the first scan's map.
    """
    plot = PlotRegions(
        output_dir=str(output_dir),
        entities={"subject": subject.label},
        **REGIONS,
        title=f"Susceptibility, {method}, relative to the reference",
    )
    return Node(plot, name="plot_regions", mem_gb=gigabytes(12))


def _connect_site_picture(workflow, inputnode, relate, subject, output_dir, gigabytes):
    """Add the node that draws the map of the first scan of each site."""
    plot = PlotSites(
        output_dir=str(output_dir),
        entities={"subject": subject.label},
        **SITES,
        sites=[scan.site for scan in subject.scans],
    )
    n_sites = len(set(plot.inputs.sites))
    plot = Node(plot, name="plot_sites", mem_gb=gigabytes(8 + 2 * n_sites))
    # fmt: off
    workflow.connect([
        (inputnode, plot, [("mask_file", "mask_file")]),
        (relate, plot, [("out_files", "chi_files")]),
    ])
    # fmt: on
