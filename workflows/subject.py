"""One subject, from the maps of all scans to maps in one space, regions, and how much the scans differ."""

import shutil
from pathlib import Path

from nipype.interfaces.utility import IdentityInterface, Merge, Select
from nipype.pipeline.engine import Node, Workflow

from ..bids_templates import load_template
from ..dataset.labels import SUBJECT_SPACE
from ..dataset.outputs import bids_uri, derivative_path
from ..dataset.repeats import match_protocols
from ..dataset.subjects import freesurfer_dir
from ..interfaces.anatomy import LabelsFromFreeSurfer, RunReconAll
from ..interfaces.derivatives import SaveDerivative, SaveSubjectMaps
from ..interfaces.figures import PlotRegions, PlotSlices
from ..interfaces.quality import SaveQuality
from ..interfaces.registration import RegisterScans, ResampleMaps, SaveRegistration
from ..interfaces.roi import ATRIUM, DRAWN, DefineRegions, MeasureRegions, RegionsToScans, RelateMaps, SaveRoiTables
from ..interfaces.template import LabelsFromTemplate, MapToTemplate
from ..interfaces.variability import MapVariability
from ..stats.protocols import choose_protocols
from .lesions import init_lesions_wf

# Only the whole can be a phantom's reference; the regression over its tubes has an intercept.
WHOLE_PHANTOM = "phantom"


TEMPLATE_SPACE = "MNI152NLin2009aSym"  # as BIDS calls the template that nilearn brings


SD_WINDOW = (0.0, 0.03)  # ppm


SD_MEANING = {"within": "mean over sites of the SD over scans", "across": "mean over scans of the SD over sites"}


def init_person_wf(subject, *, output_dir, settings, gigabytes):
    """Build the workflow of one person: scans brought together, reference, regions, variability, quality, lesions.

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
    n, masks = len(subject.scans) + len(subject.elsewhere), [str(scan.mask) for scan in subject.scans]
    register = _node(
        RegisterScans(
            magnitude_files=[str(scan.magnitude) for scan in subject.scans],
            mask_files=masks,
            space=settings.subject_space,
            magnitude_files_elsewhere=[str(scan.magnitude) for scan in subject.elsewhere],
            mask_files_elsewhere=[str(scan.mask) for scan in subject.elsewhere],
        ),
        "register",
        gigabytes(8 + 5 * n),
    )
    regions = _node(_regions_interface(subject, settings), "regions", gigabytes(10 + n))
    derivatives = _init_space_derivatives_wf(subject, output_dir=output_dir, settings=settings, gigabytes=gigabytes)
    rows = Node(Merge(len(settings.inversions), no_flatten=True), name="rows", mem_gb=gigabytes(0))
    tables = _tables_node(subject, output_dir, gigabytes)
    save_registration = Node(
        SaveRegistration(
            labels=[scan.columns for scan in (*subject.scans, *subject.elsewhere)],
            subject=subject.label,
            columns=load_template("registration_table"),
            output_dir=str(output_dir),
        ),
        name="save_registration",
        mem_gb=gigabytes(0),
    )

    quality = _quality_node(subject, output_dir, settings, gigabytes)

    workflow = Workflow(name=subject.node_name)
    if subject.anatomy.lesions is not None:
        workflow.add_nodes([init_lesions_wf(subject, output_dir=output_dir)])
    # fmt: off
    workflow.connect([
        (register, save_registration, [("found", "found"), ("found_elsewhere", "found_elsewhere")]),
        (register, quality, [("found", "found")]),
        (register, regions, [
            ("average_file", "average_file"), ("mask_file", "mask_file"), ("transform_files", "transform_files"),
            ("transform_files_elsewhere", "transform_files_elsewhere"),
        ]),
        (register, derivatives, [("average_file", "inputnode.average_file"), ("mask_file", "inputnode.mask_file")]),
        (regions, derivatives, [("reference_file", "inputnode.reference_file")]),
        (regions, tables, [("record", "record"), ("sources", "sources"), ("steps", "steps")]),
        (rows, tables, [("out", "rows")]),
    ])
    if any(scan.r2star for scan in subject.scans):
        r2star = _node(
            ResampleMaps(in_files=[str(scan.r2star or "") for scan in subject.scans], mask_files=masks),
            "resample_r2star",
            gigabytes(12),
        )
        workflow.connect([
            (register, r2star, [("transform_files", "transform_files"), ("average_file", "grid_file")]),
            (r2star, regions, [("out_files", "r2star_files")]),
        ])
    if _needs_freesurfer(subject, settings):
        freesurfer = _connect_freesurfer(workflow, subject, output_dir, settings, gigabytes)
        workflow.connect([
            (register, freesurfer, [("average_file", "average_file"), ("mask_file", "mask_file")]),
            (freesurfer, regions, [
                ("labels_file", "freesurfer_file"), ("names", "freesurfer_names"), ("record", "freesurfer_record"),
            ]),
        ])
    template = None
    if settings.atlas is not None:
        template = _node(
            LabelsFromTemplate(atlas=settings.atlas, nonlinear=settings.template_warp), "template", gigabytes(60)
        )
        regions.inputs.atlas = Path(settings.atlas).name
        workflow.connect([
            (register, template, [("average_file", "average_file"), ("mask_file", "mask_file")]),
            (template, regions, [("labels_file", "atlas_file"), ("names", "atlas_names")]),
        ])
    if _has_regions(subject, settings):
        workflow.connect([(regions, derivatives, [
            ("shared_file", "inputnode.label_file"), ("shared_names", "inputnode.lookup"),
        ])])
    for place, method in enumerate(settings.inversions, start=1):
        maps = _init_maps_wf(subject, method, output_dir=output_dir, settings=settings, gigabytes=gigabytes)
        workflow.connect([
            (register, maps, [
                ("transform_files", "inputnode.transform_files"), ("average_file", "inputnode.grid_file"),
                ("mask_file", "inputnode.mask_file"), ("steps", "inputnode.steps"),
            ]),
            (regions, maps, [
                (field, f"inputnode.{field}")
                for field in ("label_files", "names", "reference_files", "reference", "record")
            ]),
            (derivatives, maps, [("outputnode.average_file", "inputnode.average_file")]),
            (maps, rows, [("outputnode.rows", f"in{place}")]),
        ])
        if template is not None and _kinds_of_variability(subject):
            workflow.connect([(template, maps, [
                ("transform_file", "inputnode.template_transform_file"),
                ("from_template_file", "inputnode.from_template_file"),
            ])])
    # fmt: on
    return workflow


def init_phantom_wf(subject, *, output_dir, settings, gigabytes):
    """Build the workflow of a phantom: the regions drawn on each scan, measured there, and its quality.

    Parameters, returned value: as of `init_person_wf`.
    """
    rows = Node(Merge(len(settings.inversions), no_flatten=True), name="rows", mem_gb=gigabytes(0))
    tables = _tables_node(subject, output_dir, gigabytes)
    workflow = Workflow(name=subject.node_name)
    workflow.add_nodes([_quality_node(subject, output_dir, settings, gigabytes)])
    workflow.connect(rows, "out", tables, "rows")
    for place, method in enumerate(settings.inversions, start=1):
        measure = _measure_node(subject, method, settings, gigabytes, name=f"measure_{method}")
        measure.inputs.chi_files = [str(scan.chi[method]) for scan in subject.scans]
        measure.inputs.mask_files = [str(scan.mask) for scan in subject.scans]
        measure.inputs.label_files = [str(scan.labels.path) if scan.labels else "" for scan in subject.scans]
        measure.inputs.names = [dict(scan.labels.names) if scan.labels else {} for scan in subject.scans]
        measure.inputs.reference = WHOLE_PHANTOM
        workflow.connect(measure, "rows", rows, f"in{place}")
    return workflow


def _init_maps_wf(subject, method, *, output_dir, settings, gigabytes):
    """One inversion's maps: in the subject space, relative to the reference, measured in regions and voxel by voxel."""
    scans, masks = subject.scans, [str(scan.mask) for scan in subject.scans]
    native = [str(scan.chi[method]) for scan in scans]
    entities = [dict(scan.entities) for scan in scans]
    fields = ["transform_files", "grid_file", "mask_file", "label_files", "names", "reference_files", "reference"]
    if settings.atlas is not None:
        fields += ["template_transform_file", "from_template_file"]
    inputnode = Node(IdentityInterface([*fields, "record", "steps", "average_file"]), name="inputnode")
    outputnode = Node(IdentityInterface(["rows"]), name="outputnode")
    resample = _node(ResampleMaps(in_files=native, mask_files=masks), "resample", gigabytes(12))
    relate = _node(RelateMaps(), "relate", gigabytes(6))
    not_made = [
        {"entities": {"subject": subject.label}, "suffix": "Chimap", "space": space, "desc": f"{method}{kind}sd"}
        for kind in SD_MEANING
        for space in (SUBJECT_SPACE, TEMPLATE_SPACE)
        if kind not in _kinds_of_variability(subject)
    ]
    save = Node(
        SaveSubjectMaps(
            native_files=native, entities=entities, output_dir=str(output_dir), method=method, not_made=not_made
        ),
        name="save_maps",
        mem_gb=gigabytes(6),
    )
    measure = _measure_node(subject, method, settings, gigabytes)

    workflow = Workflow(name=method)
    # fmt: off
    workflow.connect([
        (inputnode, resample, [("transform_files", "transform_files"), ("grid_file", "grid_file")]),
        (inputnode, relate, [("reference_files", "reference_files")]),
        (resample, relate, [("out_files", "in_files")]),
        (inputnode, save, [
            ("transform_files", "transform_files"), ("reference", "reference"), ("record", "record"),
            ("steps", "steps"), ("average_file", "average_file"),
        ]),
        (relate, save, [("out_files", "in_files"), ("offsets", "offsets")]),
        (inputnode, measure, [("names", "names"), ("reference", "reference")]),
        (measure, outputnode, [("rows", "rows")]),
    ])
    related, carried = relate, inputnode
    if settings.roi_space == "subject":
        workflow.connect([
            (inputnode, measure, [(field, field) for field in ("label_files", "reference_files", "transform_files")]),
            (relate, measure, [("out_files", "chi_files"), ("offsets", "offsets")]),
        ])
    else:
        carried = _node(RegionsToScans(grid_files=masks), "regions_to_scans", gigabytes(10))
        related = _node(RelateMaps(in_files=native, mask_files=masks), "relate_native", gigabytes(6))
        measure.inputs.mask_files = masks
        workflow.connect([
            (inputnode, carried, [
                ("transform_files", "transform_files"), ("label_files", "label_files"),
                ("reference_files", "reference_files"),
            ]),
            (carried, related, [("reference_files", "reference_files")]),
            (carried, measure, [("label_files", "label_files"), ("reference_files", "reference_files")]),
            (related, measure, [("out_files", "chi_files"), ("offsets", "offsets")]),
        ])
    if _kinds_of_variability(subject):
        _connect_variability(workflow, inputnode, relate, subject, method, output_dir, settings, gigabytes)
    if method == settings.inversions[0] and _has_regions(subject, settings):
        plot = _region_picture_node(subject, method, output_dir, gigabytes)
        workflow.connect([
            (related, plot, [("out_files", "chi_files")]),
            (carried, plot, [("label_files", "label_files"), ("reference_files", "reference_files")]),
            (inputnode, plot, [("names", "names")]),
            (measure, plot, [("excluded_files", "excluded_files")]),
        ])
    # fmt: on
    return workflow


def _region_picture_node(subject, method, output_dir, gigabytes):
    """A picture of the regions, of what was left out of them and of the reference, on the first scan's map."""
    plot = PlotRegions(
        output_dir=str(output_dir),
        entities={"subject": subject.label},
        suffix="Chimap",
        space=SUBJECT_SPACE,
        desc="regions",
        title=f"Susceptibility, {method}, relative to the reference",
    )
    return Node(plot, name="plot_regions", mem_gb=gigabytes(12))


def _connect_freesurfer(workflow, subject, output_dir, settings, gigabytes):
    """Bring FreeSurfer's labels to the subject space; where they are not there yet, run it first."""
    known = subject.anatomy.freesurfer
    labels = _node(LabelsFromFreeSurfer(smoothing=settings.roi_smoothing), "freesurfer", gigabytes(20) + 1.5)
    if known is not None:
        labels.inputs.aseg_file, labels.inputs.image_file = str(known.aseg), str(known.image)
        labels.inputs.image_source = known.image_source
        return labels
    recon_all = RunReconAll(
        subject=subject.label, t1w_file=str(subject.anatomy.t1w), subjects_dir=str(freesurfer_dir(output_dir))
    )
    labels.inputs.image_source = "orig.mgz"
    recon_all = Node(recon_all, name="recon_all", mem_gb=8)
    workflow.connect([(recon_all, labels, [("aseg_file", "aseg_file"), ("image_file", "image_file")])])
    return labels


def _connect_variability(workflow, inputnode, relate, subject, method, output_dir, settings, gigabytes):
    """Maps of the SD within and across sites, those of both that the subject's scans allow."""
    places, kinds = _repeats(subject.scans), _kinds_of_variability(subject)
    scans = [subject.scans[place] for place in places]
    sites, numbers = [scan.site for scan in scans], [scan.number for scan in scans]
    repeats = Node(Select(index=places), name="repeats", mem_gb=gigabytes(0))
    variability = _node(MapVariability(sites=sites, numbers=numbers), "variability", gigabytes(4 + 2 * len(scans)))
    workflow.connect([(relate, repeats, [("out_files", "inlist")]), (repeats, variability, [("out", "in_files")])])
    for kind in kinds:
        named = {
            "output_dir": str(output_dir),
            "entities": {"subject": subject.label},
            "suffix": "Chimap",
            "space": SUBJECT_SPACE,
            "desc": f"{method}{kind}sd",
        }
        metadata = {
            "Description": f"Standard deviation of susceptibility, {method}: {SD_MEANING[kind]}",
            "Units": "ppm",
            "SkullStripped": True,
            "Sources": [bids_uri(scan.chi[method], output_dir, "") for scan in scans],
        }
        in_space = metadata | _spatial_reference(subject, output_dir)
        save = Node(SaveDerivative(**named, metadata=in_space), name=f"save_{kind}", mem_gb=gigabytes(4))
        title = f"SD of susceptibility {kind} sites, {method}"
        plot = Node(
            PlotSlices(**named, title=title, window=SD_WINDOW, unit="ppm"), name=f"plot_{kind}", mem_gb=gigabytes(8)
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
        carry = _node(MapToTemplate(), f"{kind}_to_template", gigabytes(20))
        save_carried = Node(
            SaveDerivative(**named | {"space": TEMPLATE_SPACE}, metadata=metadata),
            name=f"save_{kind}_in_template",
            mem_gb=gigabytes(4),
        )
        # fmt: off
        workflow.connect([
            (variability, carry, [(f"{kind}_file", "in_file")]),
            (inputnode, carry, [
                ("template_transform_file", "transform_file"), ("from_template_file", "from_template_file"),
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


def _kinds_of_variability(subject):
    """Whether scans repeat one another at a site, or at several."""
    scans = [subject.scans[place] for place in _repeats(subject.scans)]
    groups = {"within": [scan.site for scan in scans], "across": [scan.number for scan in scans]}
    return [kind for kind, group in groups.items() if len(set(group)) < len(group)]


def _init_space_derivatives_wf(subject, *, output_dir, settings, gigabytes):
    """Save what shows the subject space: the average magnitude, the brain mask and the regions."""
    space = _spatial_reference(subject, output_dir)
    sources = space | {
        "SkullStripped": False,
        "Sources": [bids_uri(scan.magnitude, output_dir, "") for scan in subject.scans],
    }
    average_metadata = sources | {"Description": "Mean of the scans' magnitudes, each over its median in the brain"}
    mask_metadata = sources | {"Type": "Brain", "Description": "Brain in half of the scans or more"}
    common = {"output_dir": str(output_dir), "entities": {"subject": subject.label}, "space": SUBJECT_SPACE}
    average = {**common, "suffix": "T2starw", "desc": "average"}
    mask = {**common, "suffix": "mask", "desc": "brain", "is_mask": True}
    inputnode = Node(
        IdentityInterface(["average_file", "mask_file", "reference_file", "label_file", "lookup"]), name="inputnode"
    )
    outputnode = Node(IdentityInterface(["average_file"]), name="outputnode")
    save_average = Node(SaveDerivative(**average, metadata=average_metadata), name="save_average", mem_gb=gigabytes(4))
    save_mask = Node(SaveDerivative(**mask, metadata=mask_metadata), name="save_mask", mem_gb=gigabytes(4))
    plot = Node(
        PlotSlices(**average, title="Mean magnitude of all scans, and brain mask", outline=True),
        name="plot_average",
        mem_gb=gigabytes(8),
    )
    outlined = {**common, "suffix": "dseg", "outline": True}
    plot_reference = Node(
        PlotSlices(**outlined, desc="reference", title="Mean magnitude and reference region"),
        name="plot_reference",
        mem_gb=gigabytes(8),
    )
    workflow = Workflow(name="space_derivatives")
    # fmt: off
    workflow.connect([
        (inputnode, save_average, [("average_file", "in_file")]),
        (inputnode, save_mask, [("mask_file", "in_file")]),
        (inputnode, plot, [("average_file", "in_file"), ("mask_file", "mask_file")]),
        (inputnode, plot_reference, [
            ("average_file", "in_file"), ("reference_file", "mask_file"), ("mask_file", "window_mask_file"),
        ]),
        (save_average, outputnode, [("out_file", "average_file")]),
    ])
    if _has_regions(subject, settings):
        save_regions = Node(
            SaveDerivative(
                **common, suffix="dseg", desc="rois", metadata=space | {"Description": "Regions of interest"}
            ),
            name="save_regions",
            mem_gb=gigabytes(4),
        )
        plot_regions = Node(
            PlotSlices(**outlined, desc="rois", title="Mean magnitude and regions"),
            name="plot_regions",
            mem_gb=gigabytes(8),
        )
        workflow.connect([
            (inputnode, save_regions, [("label_file", "in_file"), ("lookup", "lookup")]),
            (inputnode, plot_regions, [
                ("average_file", "in_file"), ("label_file", "mask_file"), ("mask_file", "window_mask_file"),
            ]),
        ])
    # fmt: on
    return workflow


def _node(interface, name, mem_gb):
    """A node whose inputs count by what they hold: a run writes derivatives anew, with another date."""
    node = Node(interface, name=name, mem_gb=mem_gb)
    node.config = {"execution": {"hash_method": "content"}}
    return node


def _regions_interface(subject, settings):
    interface = DefineRegions(
        drawn=[_drawn(scan.labels) for scan in subject.scans],
        smoothing=settings.roi_smoothing,
        atria=[[list(point) for point in scan.atria] for scan in subject.scans],
        drawn_elsewhere=[_drawn(scan.labels) for scan in subject.elsewhere],
        atria_elsewhere=[[list(point) for point in scan.atria] for scan in subject.elsewhere],
        radius=settings.atrium_radius,
        reference=settings.reference,
    )
    if subject.labels is not None:
        interface.inputs.drawn_for_subject = _drawn(subject.labels)
    return interface


def _measure_node(subject, method, settings, gigabytes, name="measure"):
    interface = MeasureRegions(
        method=method,
        noise=[{name: str(path) for name, path in scan.noise.get(method, {}).items()} for scan in subject.scans],
        expected=[dict(scan.labels.expected) if scan.labels else {} for scan in subject.scans],
        erosion=settings.roi_erosion,
        exclude_veins=settings.exclude_veins,
    )
    return _node(interface, name, gigabytes(25))


def _tables_node(subject, output_dir, gigabytes):
    interface = SaveRoiTables(
        entities=[dict(scan.entities) for scan in subject.scans],
        labels=[scan.columns for scan in subject.scans],
        sources=[scan.labels.path.name if scan.labels else "" for scan in subject.scans],
        steps=[DRAWN] * len(subject.scans),
        columns=load_template("roi_table"),
        output_dir=str(output_dir),
    )
    return Node(interface, name="save_tables", mem_gb=gigabytes(0))


def _quality_node(subject, output_dir, settings, gigabytes):
    interface = SaveQuality(
        maps=[{method: str(scan.chi[method]) for method in settings.inversions} for scan in subject.scans],
        magnitude_files=[str(scan.magnitude) for scan in subject.scans],
        mask_files=[str(scan.mask) for scan in subject.scans],
        labels=[scan.columns for scan in subject.scans],
        subject=subject.label,
        columns=load_template("quality_table"),
        output_dir=str(output_dir),
    )
    return Node(interface, name="save_quality", mem_gb=gigabytes(4))


def _spatial_reference(subject, output_dir):
    """The sidecar field that BIDS asks of whatever lies in a space of one's own."""
    average = {"suffix": "T2starw", "space": SUBJECT_SPACE, "desc": "average"}
    path = derivative_path(output_dir, {"subject": subject.label}, **average)
    return {"SpatialReference": bids_uri(path, output_dir, "")}


def _drawn(labels):
    """What a node is told of drawn regions."""
    return {} if labels is None else {"path": str(labels.path), "names": dict(labels.names)}


def _is_drawn(subject):
    return subject.labels is not None or any(scan.labels for scan in (*subject.scans, *subject.elsewhere))


def _needs_freesurfer(subject, settings):
    """Whether its labels are there or can be made, and wanted: drawn regions come first, but may lack ventricles."""
    can_be_made = settings.recon_all and subject.anatomy.t1w is not None and shutil.which("recon-all") is not None
    is_there = subject.anatomy.freesurfer is not None or can_be_made
    return is_there and (settings.reference == ATRIUM or not _is_drawn(subject))


def _has_regions(subject, settings):
    return settings.atlas is not None or _is_drawn(subject) or _needs_freesurfer(subject, settings)
