"""R2* of the regions of a subject's scans, in tables of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nipype.interfaces.utility import Merge
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
from ..dataset.methods import METHOD_STEPS
from ..dataset.names import R2STAR_TABLE
from ..dataset.subjects import ProcessedScan, Subject
from ..interfaces.measurement import MeasureR2star
from .connections import by_name
from .memory import VolumeMemory
from .subject_nodes import make_node, make_tables_node, mask_files

if TYPE_CHECKING:
    from .settings import Settings

STEP = "roi_r2star"  # key of a sentence in the methods text


def add_r2star_tables(
    workflow: Workflow,
    subject: Subject,
    output_dir: PathLike,
    settings: Settings,
    gigabytes: VolumeMemory,
) -> tuple[Node, Node]:
    """Add the nodes that measure R2* in the regions of each scan, and write a table of each.

    Scans without an R2* map, which needs three echoes, have no table; that of an earlier run is
    removed.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The graph of a subject.
    subject : multiqsm.dataset.subjects.Subject
        The subject and its processed scans.
    output_dir : path-like
        Root of the derivative dataset.
    settings : Settings
        Choices of the run.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Returns
    -------
    measure : nipype.pipeline.engine.Node
        It measures the scans' own maps, unless other ``r2star_files`` are connected, and lacks
        ``label_files``, ``names`` and ``excluded_files``.
    tables : nipype.pipeline.engine.Node
        It states that regions were drawn on each scan, unless ``sources`` and ``steps`` are
        connected.
    """
    interface = MeasureR2star(
        r2star_files=r2star_files(subject.scans), erosion=settings.roi_erosion
    )
    if subject.is_phantom or settings.roi_space == "scan":
        interface.inputs.mask_files = mask_files(subject.scans)
    measure = make_node(interface, "measure_r2star", gigabytes(12))
    rows = Node(Merge(1, no_flatten=True), name="r2star_rows", mem_gb=gigabytes(0))
    tables = make_tables_node(
        subject,
        output_dir,
        settings,
        gigabytes,
        name="save_r2star_tables",
        file_name=R2STAR_TABLE,
        template="roi_r2star_table",
    )
    tables.inputs.record = {METHOD_STEPS: [STEP]}
    workflow.connect(measure, "rows", rows, "in1")
    workflow.connect(rows, "out", tables, "rows")
    return measure, tables


def connect_r2star_tables(
    workflow: Workflow,
    resampled: Node | None,
    regions: Node,
    maps: Workflow,
    subject: Subject,
    output_dir: PathLike,
    settings: Settings,
    gigabytes: VolumeMemory,
) -> None:
    """Add the tables of R2* of a person's scans, in the voxels of a susceptibility map.

    Parameters
    ----------
    workflow : nipype.pipeline.engine.Workflow
        The graph of a person.
    resampled : nipype.pipeline.engine.Node or None
        The node that resamples R2* maps to the subject space; None if no scan has one.
    regions : nipype.pipeline.engine.Node
        The node that defines the regions.
    maps : nipype.pipeline.engine.Workflow
        The graph of an inversion's maps, with the regions on their grid and the excluded voxels.
    subject, output_dir, settings, gigabytes
        As in `add_r2star_tables`.
    """
    measure, tables = add_r2star_tables(workflow, subject, output_dir, settings, gigabytes)
    # fmt: off
    workflow.connect([
        (regions, measure, by_name(["names"])),
        (regions, tables, by_name(["sources", "steps"])),
        (maps, measure, [
            ("outputnode.label_files", "label_files"),
            ("outputnode.excluded_files", "excluded_files"),
        ]),
    ])
    if resampled is not None and settings.roi_space == "subject":
        workflow.connect([(resampled, measure, [("out_files", "r2star_files")])])
    # fmt: on


def r2star_files(scans: Iterable[ProcessedScan]) -> list[str]:
    """Return the paths of the scans' R2* maps; empty where there is none."""
    return [str(scan.r2star or "") for scan in scans]
