"""The stages of the participant level: maps of each scan; results and report of each subject."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar

import nibabel as nib
from nipype.pipeline.engine import Workflow

from ..dataset.scans import Scan
from ..dataset.subjects import Subject
from ..dataset.volumes import load_volume
from ..execution.completion import completion_record_path
from ..execution.stages import Stage
from ..workflows.reports import init_reports_wf
from ..workflows.scans import init_scans_wf
from ..workflows.subjects import init_subjects_wf


@dataclass(frozen=True)
class ScansStage(Stage):
    """The maps of each scan."""

    kind: ClassVar[str] = "scans"
    graph_module: ClassVar[str] = init_scans_wf.__module__

    bids_dir: Path = Path()

    @staticmethod
    def label(item: Scan) -> str:
        """Return the label of a scan."""
        return item.label

    @staticmethod
    def subject(item: Scan) -> str:
        """Return the label of a scan's subject."""
        return item.entities["subject"]

    def build(self, items: Sequence[Scan]) -> Workflow:
        """Build the graph of some scans."""
        return init_scans_wf(
            items,
            bids_dir=self.bids_dir,
            output_dir=self.output_dir,
            work_dir=self.graph_dir,
            settings=self.settings,
            threads=self.threads,
        )

    def work_gigabytes(self, item: Scan) -> float:
        """Estimate the disk space of the intermediate files, GB."""
        # The decoded echoes, their unwrapped phase and the fit; for each inversion the map, its
        # standard error and three intermediate volumes.
        n_volumes = 5 * len(item.echo_times) + 8 + 5 * len(self.settings.inversions)
        return 4e-9 * prod(load_volume(item.files[0]).shape) * n_volumes


@dataclass(frozen=True)
class SubjectsStage(Stage):
    """Registration, regional values and variability of each subject."""

    kind: ClassVar[str] = "subjects"
    graph_module: ClassVar[str] = init_subjects_wf.__module__

    def build(self, items: Sequence[Subject]) -> Workflow:
        """Build the graph of some subjects."""
        return init_subjects_wf(
            items, output_dir=self.output_dir, work_dir=self.graph_dir, settings=self.settings
        )

    def dependencies(self, item: Subject) -> tuple:
        """Return what the result depends on besides the item, the settings and the code."""
        return (Path(self.settings.atlas or ""),)

    def work_gigabytes(self, item: Subject) -> float:
        """Estimate the disk space of the intermediate files, GB."""
        n_volumes = 6 + 3 * len(self.settings.inversions)  # for each scan
        n_voxels = sum(prod(nib.load(scan.mask).shape) for scan in item.scans)
        return 4e-9 * n_voxels * n_volumes


@dataclass(frozen=True)
class ReportsStage(Stage):
    """The report of each subject."""

    kind: ClassVar[str] = "reports"
    graph_module: ClassVar[str] = init_reports_wf.__module__

    failures: tuple = ()
    warnings: tuple = ()
    sites: tuple[str, ...] = ()

    def dependencies(self, item: Subject) -> tuple:
        """Return what the result depends on besides the item, the settings and the code."""
        scan_records = []
        for scan in item.scans:
            record = completion_record_path(self.output_dir, ScansStage.kind, scan.label)
            scan_records.append(record)
        subject_record = completion_record_path(
            self.output_dir, SubjectsStage.kind, self.label(item)
        )
        failures = dict(self.failures).get(item.label, ())
        warnings = dict(self.warnings).get(item.label, ())
        return failures, warnings, self.sites, subject_record, scan_records

    def build(self, items: Sequence[Subject]) -> Workflow:
        """Build the graph of some subjects."""
        return init_reports_wf(
            items,
            failures=dict(self.failures),
            warnings=dict(self.warnings),
            sites=self.sites,
            output_dir=self.output_dir,
            work_dir=self.graph_dir,
            settings=self.settings,
        )

    def work_gigabytes(self, item: Subject) -> float:
        """Estimate the disk space of the intermediate files, GB."""
        return 0.0
