"""Nodes that persons and phantoms have in common, and lists of their scans' files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nipype.interfaces.base import BaseInterface
from nipype.pipeline.engine import Node

from ..bids_templates import load_template
from ..dataset.files import PathLike, read_json
from ..dataset.names import ROI_TABLE
from ..dataset.sidecars import sidecar_path
from ..dataset.subjects import DrawnScan, ProcessedScan, Subject
from ..interfaces.measurement import MeasureRegions, SaveRoiTables
from ..interfaces.quality import SaveQuality
from ..interfaces.regions import DRAWN
from .memory import VolumeMemory

if TYPE_CHECKING:
    from .settings import Settings


def magnitude_files(scans: Iterable[ProcessedScan | DrawnScan]) -> list[str]:
    """Return the paths of the scans' combined magnitude images."""
    return [str(scan.magnitude) for scan in scans]


def mask_files(scans: Iterable[ProcessedScan | DrawnScan]) -> list[str]:
    """Return the paths of the scans' brain masks."""
    return [str(scan.mask) for scan in scans]


def chi_files(scans: Iterable[ProcessedScan], method: str) -> list[str]:
    """Return the paths of the scans' susceptibility maps of an inversion."""
    return [str(scan.chi[method]) for scan in scans]


def entities_of(scans: Iterable[ProcessedScan]) -> list[dict[str, str]]:
    """Return the scans' entities."""
    return [dict(scan.entities) for scan in scans]


def make_node(interface: BaseInterface, name: str, mem_gb: float) -> Node:
    """Make a node that runs again if the content of its input files changes.

    Their dates do not count: each run writes the derivatives again.
    """
    node = Node(interface, name=name, mem_gb=mem_gb)
    node.config = {"execution": {"hash_method": "content"}}
    return node


def make_measure_node(
    subject: Subject,
    method: str,
    settings: Settings,
    gigabytes: VolumeMemory,
    name: str = "measure",
) -> Node:
    """Make the node that measures regions in the maps of one inversion."""
    noise_files = []
    expected = []
    for scan in subject.scans:
        errors = scan.noise.get(method, {})
        noise_files.append(dict(zip(errors, map(str, errors.values()), strict=True)))
        expected.append(dict(scan.labels.expected) if scan.labels else {})
    interface = MeasureRegions(
        method=method,
        noise=noise_files,
        expected=expected,
        erosion=settings.roi_erosion,
        exclude_veins=settings.exclude_veins,
    )
    return make_node(interface, name, gigabytes(25))


def make_tables_node(
    subject: Subject,
    output_dir: PathLike,
    settings: Settings,
    gigabytes: VolumeMemory,
    *,
    name: str = "save_tables",
    file_name: Mapping[str, str] = ROI_TABLE,
    template: str = "roi_table",
) -> Node:
    """Make the node that writes the table of regional values of each scan: by default that of
    susceptibility.
    """
    sources = []
    for scan in subject.scans:
        sources.append(scan.labels.path.name if scan.labels else "")
    interface = SaveRoiTables(
        entities=entities_of(subject.scans),
        labels=_columns(subject.scans),
        sources=sources,
        descriptions=_region_descriptions(subject),
        steps=[DRAWN] * len(subject.scans),
        columns=load_template(template),
        choices={
            "RegionsMeasuredIn": "scan" if subject.is_phantom else settings.roi_space,
            "RegionErosion": settings.roi_erosion,
            "RegionSmoothing": 0.0 if subject.is_phantom else settings.roi_smoothing,
            "VeinsExcluded": settings.exclude_veins,
        },
        file_name=dict(file_name),
        output_dir=str(output_dir),
    )
    return Node(interface, name=name, mem_gb=gigabytes(0))


def _region_descriptions(subject: Subject) -> dict[str, str]:
    """Return what the sidecars of the subject's label images say of them, by file name."""
    images = [subject.labels]
    images += [scan.labels for scan in subject.scans]
    images += [scan.labels for scan in subject.elsewhere]
    descriptions = {}
    for labels in filter(None, images):
        text = read_json(sidecar_path(labels.path)).get("Description")
        if isinstance(text, str) and text.strip():
            descriptions[labels.path.name] = " ".join(text.split())
    return descriptions


def make_quality_node(
    subject: Subject, output_dir: PathLike, settings: Settings, gigabytes: VolumeMemory
) -> Node:
    """Make the node that writes the table of the scans' quality."""
    maps = []
    for scan in subject.scans:
        maps.append({method: str(scan.chi[method]) for method in settings.inversions})
    interface = SaveQuality(
        maps=maps,
        magnitude_files=magnitude_files(subject.scans),
        mask_files=mask_files(subject.scans),
        labels=_columns(subject.scans),
        subject=subject.label,
        columns=load_template("quality_table"),
        output_dir=str(output_dir),
    )
    return Node(interface, name="save_quality", mem_gb=gigabytes(4))


def _columns(scans: Sequence[ProcessedScan]) -> list[dict[str, Any]]:
    """Return the columns that identify each scan in a table."""
    return [scan.columns for scan in scans]
