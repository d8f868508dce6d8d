"""One person: registration to a common space, regions, regional values and variability."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from ..bids_templates import load_template
from ..dataset.entities import scan_title
from ..dataset.files import PathLike
from ..dataset.names import REGISTRATION
from ..dataset.subjects import Subject, freesurfer_dir
from ..interfaces.anatomy import LabelsFromFreeSurfer, RunReconAll
from ..interfaces.registration import RegisterScans, ResampleMaps, SaveRegistration
from ..interfaces.subject_figures import PlotRegistration
from ..interfaces.template import LabelsFromTemplate
from .connections import by_name
from .lesions import init_lesions_wf
from .memory import VolumeMemory
from .subject_maps import init_maps_wf
from .subject_nodes import (
    entities_of,
    magnitude_files,
    make_node,
    make_quality_node,
    make_tables_node,
    mask_files,
)
from .subject_r2star import connect_r2star_tables, r2star_files
from .subject_regions import (
    has_regions,
    make_reference_interface,
    make_regions_interface,
    needs_freesurfer,
)
from .subject_space import init_space_derivatives_wf
from .variability import kinds_of_variability

if TYPE_CHECKING:
    from .settings import Settings

REGISTER = "register"
SAVE_REGISTRATION = "save_registration"


def init_person_wf(
    subject: Subject, *, output_dir: PathLike, settings: Settings, gigabytes: VolumeMemory
) -> Workflow:
    """Build the workflow of one person: registration, regions, reference, regional values,
    variability, quality, lesions.

    Parameters
    ----------
    subject : multiqsm.dataset.subjects.Subject
        The person and the processed scans.
    output_dir : path-like
        Root of the derivative dataset.
    settings : Settings
        Choices of the run.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Returns
    -------
    nipype.pipeline.engine.Workflow
        Named after the subject.
    """
    register = _register_node(subject, settings, gigabytes)
    save_registration = _save_registration_node(subject, output_dir, gigabytes)
    plot_registration = _plot_registration_node(subject, output_dir, gigabytes)
    quality = make_quality_node(subject, output_dir, settings, gigabytes)
    derivatives = init_space_derivatives_wf(
        subject, output_dir=output_dir, settings=settings, gigabytes=gigabytes
    )
    rows = Node(Merge(len(settings.inversions), no_flatten=True), name="rows", mem_gb=gigabytes(0))
    tables = make_tables_node(subject, output_dir, settings, gigabytes)

    workflow = Workflow(name=subject.node_name)
    if subject.anatomy.lesions is not None:
        workflow.add_nodes([init_lesions_wf(subject, output_dir=output_dir)])
    template = _connect_template(workflow, register, settings, gigabytes)
    freesurfer = _connect_freesurfer(workflow, register, subject, output_dir, settings, gigabytes)
    r2star = _connect_r2star(workflow, register, subject, gigabytes)
    regions = _connect_regions(
        workflow, register, template, freesurfer, subject, settings, gigabytes
    )
    reference = _connect_reference(
        workflow, register, regions, freesurfer, r2star, subject, settings, gigabytes
    )
    # fmt: off
    workflow.connect([
        (register, save_registration, by_name(["motion", "motion_elsewhere"])),
        (register, plot_registration, by_name(["average_file", "mask_file", "transform_files"])),
        (register, quality, by_name(["motion"])),
        (register, derivatives, [
            ("average_file", "inputnode.average_file"), ("mask_file", "inputnode.mask_file"),
        ]),
        (reference, derivatives, [("reference_file", "inputnode.reference_file")]),
        (reference, tables, [("record", "record")]),
        (regions, tables, by_name(["sources", "steps"])),
        (rows, tables, [("out", "rows")]),
    ])
    if has_regions(subject, settings):
        workflow.connect([(regions, derivatives, [
            ("shared_file", "inputnode.label_file"), ("shared_names", "inputnode.lookup"),
        ])])
    for number, method in enumerate(settings.inversions, start=1):
        maps = init_maps_wf(
            subject, method, output_dir=output_dir, settings=settings, gigabytes=gigabytes,
        )
        workflow.connect([
            (register, maps, [
                ("transform_files", "inputnode.transform_files"),
                ("average_file", "inputnode.grid_file"),
                ("mask_file", "inputnode.mask_file"), ("steps", "inputnode.steps"),
            ]),
            (regions, maps, [
                ("label_files", "inputnode.label_files"), ("names", "inputnode.names"),
            ]),
            (reference, maps, [
                ("reference_files", "inputnode.reference_files"),
                ("reference", "inputnode.reference"), ("record", "inputnode.record"),
            ]),
            (derivatives, maps, [("outputnode.average_file", "inputnode.average_file")]),
            (maps, rows, [("outputnode.rows", f"in{number}")]),
        ])
        if template is not None and kinds_of_variability(subject):
            workflow.connect([(template, maps, [
                ("transform_file", "inputnode.template_transform_file"),
                ("from_template_file", "inputnode.from_template_file"),
            ])])
        if number == 1:
            connect_r2star_tables(
                workflow, r2star, regions, maps, subject, output_dir, settings, gigabytes,
            )
    # fmt: on
    return workflow


def _register_node(subject, settings, gigabytes):
    """Return the node that registers the scans to the subject space."""
    interface = RegisterScans(
        magnitude_files=magnitude_files(subject.scans),
        mask_files=mask_files(subject.scans),
        space=settings.subject_space,
        magnitude_files_elsewhere=magnitude_files(subject.elsewhere),
        mask_files_elsewhere=mask_files(subject.elsewhere),
    )
    n_scans = len(subject.scans) + len(subject.elsewhere)
    return make_node(interface, REGISTER, gigabytes(8 + 5 * n_scans))


def _save_registration_node(subject, output_dir, gigabytes):
    """Return the node that writes the table of the registrations."""
    interface = SaveRegistration(
        labels=[scan.columns for scan in (*subject.scans, *subject.elsewhere)],
        subject=subject.label,
        columns=load_template("registration_table"),
        output_dir=str(output_dir),
    )
    return Node(interface, name=SAVE_REGISTRATION, mem_gb=gigabytes(0))


def _plot_registration_node(subject, output_dir, gigabytes):
    """Return the node that draws the registered scans on their average."""
    interface = PlotRegistration(
        **REGISTRATION,
        entities={"subject": subject.label},
        output_dir=str(output_dir),
        magnitude_files=magnitude_files(subject.scans),
        titles=list(map(scan_title, entities_of(subject.scans))),
    )
    return Node(interface, name="plot_registration", mem_gb=gigabytes(12 + len(subject.scans)))


def _connect_template(workflow, register, settings, gigabytes):
    """Add the node that registers an atlas to the subject space; return None without an atlas."""
    if settings.atlas is None:
        return None
    interface = LabelsFromTemplate(atlas=settings.atlas, template_warp=settings.template_warp)
    template = make_node(interface, "template", gigabytes(60))
    workflow.connect([(register, template, by_name(["average_file", "mask_file"]))])
    return template


def _connect_freesurfer(workflow, register, subject, output_dir, settings, gigabytes):
    """Add the nodes that resample FreeSurfer's labels to the subject space, and run FreeSurfer
    first if there are none; return None if its labels are not needed.
    """
    if not needs_freesurfer(subject, settings):
        return None
    labels = LabelsFromFreeSurfer(smoothing=settings.roi_smoothing)
    labels = make_node(labels, "freesurfer", gigabytes(20) + 1.5)
    workflow.connect([(register, labels, by_name(["average_file", "mask_file"]))])
    existing = subject.anatomy.freesurfer
    if existing is not None:
        labels.inputs.aseg_file = str(existing.aseg)
        labels.inputs.image_file = str(existing.image)
        labels.inputs.image_source = existing.image_source
        return labels
    recon_all = RunReconAll(
        subject=subject.label,
        t1w_file=str(subject.anatomy.t1w),
        subjects_dir=str(freesurfer_dir(output_dir)),
    )
    labels.inputs.image_source = "orig.mgz"
    recon_all = Node(recon_all, name="recon_all", mem_gb=8)
    workflow.connect([(recon_all, labels, by_name(["aseg_file", "image_file"]))])
    return labels


def _connect_r2star(workflow, register, subject, gigabytes):
    """Add the node that resamples R2* maps to the subject space; return None if no scan has one."""
    in_files = r2star_files(subject.scans)
    if not any(in_files):
        return None
    interface = ResampleMaps(in_files=in_files, mask_files=mask_files(subject.scans))
    r2star = make_node(interface, "resample_r2star", gigabytes(12))
    # fmt: off
    workflow.connect([(register, r2star, [
        ("transform_files", "transform_files"), ("average_file", "grid_file"),
    ])])
    # fmt: on
    return r2star


def _connect_regions(workflow, register, template, freesurfer, subject, settings, gigabytes):
    """Add the node that defines the regions of each scan in the subject space."""
    n_scans = len(subject.scans) + len(subject.elsewhere)
    regions = make_regions_interface(subject, settings)
    regions = make_node(regions, "regions", gigabytes(10 + n_scans))
    # fmt: off
    workflow.connect([(register, regions, by_name([
        "average_file", "transform_files", "transform_files_elsewhere",
    ]))])
    if freesurfer is not None:
        workflow.connect([(freesurfer, regions, [
            ("labels_file", "freesurfer_file"), ("names", "freesurfer_names"),
            ("record", "freesurfer_record"),
        ])])
    if template is not None:
        regions.inputs.atlas = Path(settings.atlas).name
        workflow.connect(
            [(template, regions, [("labels_file", "atlas_file"), ("names", "atlas_names")])],
        )
    # fmt: on
    return regions


def _connect_reference(
    workflow, register, regions, freesurfer, r2star, subject, settings, gigabytes
):
    """Add the node that finds the region that susceptibility is given relative to."""
    reference = make_reference_interface(subject, settings)
    reference = make_node(reference, "reference", gigabytes(10 + len(subject.scans)))
    # fmt: off
    workflow.connect([
        (register, reference, by_name([
            "average_file", "mask_file", "transform_files", "transform_files_elsewhere",
        ])),
        (regions, reference, [
            ("shared_file", "label_file"), ("shared_names", "names"), ("record", "regions_record"),
        ]),
    ])
    if freesurfer is not None:
        workflow.connect([(freesurfer, reference, [
            ("labels_file", "freesurfer_file"), ("names", "freesurfer_names"),
        ])])
    if r2star is not None:
        workflow.connect([(r2star, reference, [("out_files", "r2star_files")])])
    # fmt: on
    return reference
