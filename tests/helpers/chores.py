"""A stage whose nodes take no time, and succeed or fail as requested."""

import os
import signal
import time
from pathlib import Path

from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits
from nipype.pipeline.engine import Node, Workflow

from multiqsm.execution.completion import fingerprint
from multiqsm.execution.stages import Stage


class _InputSpec(BaseInterfaceInputSpec):
    deed = traits.Enum("work", "die", "err", "die once", usedefault=True)
    folder = traits.Directory()


class Worker(SimpleInterface):
    """Write a file, fail, or kill its process, as requested."""

    input_spec = _InputSpec
    output_spec = TraitedSpec
    _always_run = True

    def _run_interface(self, runtime):
        died = Path(self.inputs.folder, "died")
        if self.inputs.deed == "die" or (self.inputs.deed == "die once" and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.inputs.deed == "err":
            raise ValueError("no brain in it")
        time.sleep(0.3)
        Path(self.inputs.folder, f"{runtime.cwd.rsplit('/', 2)[-2]}.txt").write_text("done")
        return runtime


class Item:
    """What a stage needs of a scan."""

    def __init__(self, name, deed):
        self.node_name = self.label = name
        self.deed = deed


class Chores(Stage):
    """A stage that processes items quickly."""

    kind = "chores"
    graph_module = "multiqsm.execution.stages"

    @staticmethod
    def label(item):
        return item.label

    def build(self, items):
        workflow = Workflow(self.kind, base_dir=str(self.work_dir))
        for item in items:
            scan = Workflow(item.node_name)
            scan.add_nodes(
                [Node(Worker(deed=item.deed, folder=str(self.output_dir)), name="work", mem_gb=0.1)]
            )
            workflow.add_nodes([scan])
        return workflow

    def fingerprint(self, item):
        return fingerprint(item.label)

    def work_gigabytes(self, item):
        return 0.0
