"""Simulation of scans."""

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from ..dataset.simulated.scans import write_scan
from ..dataset.simulated.structural import write_structural
from ..simulation.plan import ScanPlan, simulate, simulate_anatomy


class _SimulateScanInputSpec(BaseInterfaceInputSpec):
    plan = traits.Instance(ScanPlan, mandatory=True, desc="the scan to simulate")
    output_dir = traits.Directory(mandatory=True, desc="root of the dataset")
    num_threads = traits.Range(
        low=1, value=1, usedefault=True, nohash=True, desc="number of threads"
    )


class _SimulateScanOutputSpec(TraitedSpec):
    out_files = traits.List(File(), desc="images of the scan and of its ground truth")


class SimulateScan(SimpleInterface):
    """Simulate a scan and its anatomical images, and write them with their ground truth."""

    input_spec = _SimulateScanInputSpec
    output_spec = _SimulateScanOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        root = self.inputs.output_dir
        plan = self.inputs.plan
        workers = self.inputs.num_threads
        paths = []
        for structural in simulate_anatomy(plan, workers=workers):
            paths.append(write_structural(root, plan, *structural))
        paths += write_scan(root, plan, simulate(plan, workers=workers))
        self._results["out_files"] = [str(path.absolute()) for path in paths]
        return runtime
