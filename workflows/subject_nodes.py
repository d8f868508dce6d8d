"""Nodes that persons and phantoms share."""

from nipype.pipeline.engine import Node

from ..bids_templates import load_template
from ..interfaces.measurement import MeasureRegions, SaveRoiTables
from ..interfaces.quality import SaveQuality
from ..interfaces.regions import DRAWN


def make_node(interface, name, mem_gb):
    """A node whose inputs count by what they hold: a run writes derivatives anew, with another
    date.
    """
    node = Node(interface, name=name, mem_gb=mem_gb)
    node.config = {"execution": {"hash_method": "content"}}
    return node


def make_measure_node(subject, method, settings, gigabytes, name="measure"):
    """Node that measures regions in the maps of one inversion."""
    interface = MeasureRegions(
        method=method,
        noise=[
            {name: str(path) for name, path in scan.noise.get(method, {}).items()}
            for scan in subject.scans
        ],
        expected=[dict(scan.labels.expected) if scan.labels else {} for scan in subject.scans],
        erosion=settings.roi_erosion,
        exclude_veins=settings.exclude_veins,
    )
    return make_node(interface, name, gigabytes(25))


def make_tables_node(subject, output_dir, gigabytes):
    """Node that writes the table of regional values of each scan."""
    interface = SaveRoiTables(
        entities=[dict(scan.entities) for scan in subject.scans],
        labels=[scan.columns for scan in subject.scans],
        sources=[scan.labels.path.name if scan.labels else "" for scan in subject.scans],
        steps=[DRAWN] * len(subject.scans),
        columns=load_template("roi_table"),
        output_dir=str(output_dir),
    )
    return Node(interface, name="save_tables", mem_gb=gigabytes(0))


def make_quality_node(subject, output_dir, settings, gigabytes):
    """Node that writes the table of the scans' quality."""
    interface = SaveQuality(
        maps=[
            {method: str(scan.chi[method]) for method in settings.inversions}
            for scan in subject.scans
        ],
        magnitude_files=[str(scan.magnitude) for scan in subject.scans],
        mask_files=[str(scan.mask) for scan in subject.scans],
        labels=[scan.columns for scan in subject.scans],
        subject=subject.label,
        columns=load_template("quality_table"),
        output_dir=str(output_dir),
    )
    return Node(interface, name="save_quality", mem_gb=gigabytes(4))
