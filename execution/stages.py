"""The items of a run, such as scans: each is made once, as one job or step by step, and begun again
if it gets lost.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import disk_usage, rmtree
from typing import Any, ClassVar

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import read_json, remove_partial_files, write_json
from .code import software
from .completion import fingerprint, is_finished, write_completion_record
from .failures import Failure
from .graphs import parts_of, working_nodes
from .locks import hold_work
from .plugins import Runner, check_cluster_paths
from .run import run_with_progress, run_workflow

AT_ONCE = 1000  # items in one graph: its memory must not grow with the study
REMEDY = (
    "choose another folder with -w, make room, or have finished work removed with --clean-workdir"
)


@dataclass(frozen=True)
class Stage:
    """One stage of a run, and where it is.

    Attributes
    ----------
    kind : str
        What the items are called together, such as ``scans``.
    made_by : str
        Full name of the module that builds the graph, whose code the results depend on.
    output_dir, work_dir : pathlib.Path
        Roots of the derivative dataset and of intermediate files.
    settings : dataclass
        Choices of the run.
    clean : bool
        Whether to remove an item's intermediate files once it is finished.
    threads : int
        Threads of a step's Fourier transforms.
    """

    kind: ClassVar[str]
    made_by: ClassVar[str]

    output_dir: Path
    work_dir: Path
    settings: Any
    clean: bool = False
    threads: int = 1

    def build(self, items):
        """Build the workflow that processes some items: scans or subjects."""
        raise NotImplementedError

    @property
    def graph_dir(self):
        """Folder of the graphs' intermediate files.

        Nipype reuses what it finds by its inputs, not by the code that made it: other code starts
        afresh.
        """
        return self.work_dir / f"version-{software(self.made_by)}"

    @staticmethod
    def label(item):
        """What the user knows the item by."""
        return f"sub-{item.label}"

    @staticmethod
    def subject(item):
        """Label of the item's subject, without ``sub-``."""
        return item.label

    def fingerprint(self, item):
        """Digest of all that the item's results depend on."""
        return fingerprint(software(self.made_by), item, self.settings, *self.also(item))

    def also(self, item):
        """What the results depend on beside the item and the settings."""
        return ()

    def is_finished(self, item):
        """Whether the item's results are there, made as they would be made now."""
        return is_finished(self.output_dir, self.kind, self.label(item), self.fingerprint(item))

    def finish(self, item, made_of, files):
        """Note that an item is finished, and tidy up."""
        write_completion_record(
            self.output_dir,
            self.kind,
            self.label(item),
            made_of,
            files,
            made_by=software(self.made_by),
        )
        if self.clean:
            rmtree(self.item_dir(item), ignore_errors=True)

    def work_gigabytes(self, item):
        """Disk space in GB that the item's intermediate files take, at most."""
        raise NotImplementedError

    def item_dir(self, item):
        """Folder of the item's intermediate files."""
        workflow = self.build([item])
        return Path(workflow.base_dir, workflow.name, item.node_name)

    def resources(self, item):
        """Memory in GB and cores that the item's workflow takes when its steps run one after the
        other.
        """
        return max(node.mem_gb for node in working_nodes(self.build([item])).values()), self.threads


def run_stage(stage, items, *, runner, by_step, retries, run_dir, tell):
    """Process all items that are not finished.

    Parameters
    ----------
    stage : Stage
        What to make of them.
    items : sequence
        Scans or subjects.
    runner : Runner
        What runs the jobs.
    by_step : bool
        Whether every step is a job of its own, instead of every item.
    retries : int
        How often an item is begun again whose process or job was lost.
    run_dir : pathlib.Path
        Folder of the run, as of `multiqsm.execution.run.configure_nipype`.
    tell : callable
        Takes lines for the user.

    Returns
    -------
    list of Failure
        Empty if all went well.

    Raises
    ------
    ValueError
        If an item needs more memory, cores or disk space than there are.
    """
    waiting = [item for item in items if not stage.is_finished(item)]
    if len(waiting) < len(items):
        tell(
            f"{len(items) - len(waiting)} of {len(items)} {stage.kind} were finished before and "
            "are not made again"
        )
    if waiting:
        _check_disk(stage, waiting, tell)
    for subject in {f"sub-{stage.subject(item)}" for item in waiting}:
        remove_partial_files(stage.output_dir, subject)
    run = _run_steps if by_step else _run_jobs
    failures = []
    groups = [waiting[start : start + AT_ONCE] for start in range(0, len(waiting), AT_ONCE)]
    for attempt in range(retries + 1):
        found = []
        for place, group in enumerate(groups):
            if len(waiting) > AT_ONCE:
                tell(
                    f"{stage.label(group[0])} to {stage.label(group[-1])}, of {len(waiting)} "
                    f"{stage.kind} in all"
                )
            found += run(stage, group, runner, run_dir / f"{stage.kind}-{attempt}-{place}")
        lost = {failure.scan: failure.cause for failure in found if failure.is_lost}
        failures += [failure for failure in found if failure.scan not in lost or attempt == retries]
        if not lost or attempt == retries:
            break
        again = [item for item in waiting if item.node_name in lost]
        for item in again:
            tell(
                f"lost: {stage.label(item)}: {lost[item.node_name]}; it starts again "
                f"({attempt + 1} of {retries})"
            )
        # Where one process takes others with it when it dies, who was to blame shows when each is
        # alone.
        groups = [[item] for item in again] if runner.shares_fate else [again]
    _tell_of_full_disk(stage, failures, tell)
    return failures


def _tell_of_full_disk(stage, failures, tell):
    if any(failure.is_disk_full for failure in failures):
        free = {path: disk_usage(path).free / 1e9 for path in (stage.work_dir, stage.output_dir)}
        tell(
            "the disk is full: "
            f"{', '.join(f'{path} has {gb:.2f} GB left' for path, gb in free.items())}; {REMEDY}"
        )


def _check_disk(stage, items, tell):
    """Refuse what cannot end well, and warn of what may not: hours later the disk is full."""
    needs = [stage.work_gigabytes(item) for item in items]
    free = disk_usage(stage.work_dir).free / 1e9
    said = f"{stage.work_dir} has {free:.1f} GB left"
    if max(needs) > free:
        raise ValueError(
            f"{said}, and one of the {stage.kind} needs up to {max(needs):.1f} GB; {REMEDY}"
        )
    if sum(needs) > free and not stage.clean:
        tell(
            f"warning: {said}, and {len(items)} {stage.kind} need up to {sum(needs):.0f} GB "
            f"together; {REMEDY}"
        )


def _run_steps(stage, items, runner, run_dir):
    """Every step a job of its own."""
    workflow = stage.build(items)
    made_of = {item.node_name: stage.fingerprint(item) for item in items}
    watch = _Watch(stage.output_dir, workflow)
    with hold_work(stage.work_dir, [_work_name(stage, item) for item in items]):
        failures = run_with_progress(
            workflow, runner, stage.kind, crash_dir=run_dir / "crash", watch=watch
        )
    failed = {failure.scan for failure in failures}
    for item in items:
        if item.node_name not in failed:
            stage.finish(item, made_of[item.node_name], watch.files.get(item.node_name, ()))
    return failures


def _run_jobs(stage, items, runner, run_dir):
    """Every item a job."""
    if runner.is_cluster:
        check_cluster_paths(run_dir)
    workflow = Workflow(name="jobs", base_dir=str(run_dir))
    for item in items:
        gigabytes, threads = stage.resources(item)
        job = RunGraph(stage=stage, item=item, crash_dir=str(run_dir / "crash" / item.node_name))
        job.inputs.outcome_file = str(_outcome_path(run_dir, item))
        workflow.add_nodes([Node(job, name=item.node_name, mem_gb=gigabytes, n_procs=threads)])
    ended = run_with_progress(workflow, runner, stage.kind, crash_dir=run_dir / "lost")
    of_job = {failure.scan: failure for failure in ended}
    failures = []
    for item in items:
        outcome = _outcome_path(run_dir, item)
        if outcome.exists():
            failures += [
                Failure(**{**fields, "crash_file": Path(fields["crash_file"])})
                for fields in read_json(outcome)["Failures"]
            ]
        elif item.node_name in of_job:
            failures.append(of_job[item.node_name])
    return failures


class _RunGraphInputSpec(BaseInterfaceInputSpec):
    stage = traits.Instance(Stage, mandatory=True, nohash=True, desc="what to make")
    item = traits.Any(mandatory=True, nohash=True, desc="of what")
    crash_dir = traits.Directory(mandatory=True, desc="takes the crash files")
    outcome_file = File(
        mandatory=True, desc="takes what failed; it is not there until the job has ended by itself"
    )


class RunGraph(SimpleInterface):
    """Run the whole graph of one scan or subject in this process."""

    input_spec = _RunGraphInputSpec
    output_spec = TraitedSpec
    _always_run = True

    def _run_interface(self, runtime):
        inputs = self.inputs
        failures, seconds = _run_item(inputs.stage, inputs.item, Path(inputs.crash_dir))
        outcome = {"Failures": [asdict(failure) for failure in failures], "Seconds": seconds}
        write_json(Path(inputs.outcome_file), outcome)
        if failures:
            raise RuntimeError(str(failures[0]))
        return runtime


def _run_item(stage, item, crash_dir):
    """Returns what failed, and the seconds that each step took."""
    with hold_work(stage.work_dir, [_work_name(stage, item)]):
        if stage.is_finished(item):  # by a job that had been given up for lost
            return [], {}
        made_of = stage.fingerprint(item)
        workflow = stage.build([item])
        watch = _Watch(stage.output_dir, workflow)
        failures = run_workflow(workflow, Runner("Linear", {}), crash_dir=crash_dir, callback=watch)
        if not failures:
            stage.finish(item, made_of, watch.files.get(item.node_name, ()))
    return failures, watch.seconds


def _work_name(stage, item):
    return f"{stage.kind} {stage.label(item)}"


class _Watch:
    """Collects, as Nipype's callback, the derivatives that steps have written, by scan, and how
    long steps took.
    """

    def __init__(self, output_dir, workflow):
        self.root = Path(output_dir).absolute()
        self.part_of = parts_of(workflow)
        self.files = {}
        self.seconds = {}

    def __call__(self, node, status):
        if status != "end" or not node.result:
            return
        self.seconds[node.fullname] = node.result.runtime.duration
        if node.interface.always_run:
            found = _files(node.result.outputs.get().values())
            self.files.setdefault(self.part_of[node.fullname], set()).update(
                path for path in found if path.is_relative_to(self.root) and path.is_file()
            )


def _files(values):
    for value in values:
        if isinstance(value, str):
            yield Path(value)
        elif isinstance(value, list | tuple):
            yield from _files(value)


def _outcome_path(run_dir, item):
    return run_dir / "outcomes" / f"{item.node_name}.json"
