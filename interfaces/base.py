"""What the nodes have in common."""

from contextlib import contextmanager
from pathlib import Path

from nipype.interfaces.base import BaseInterfaceInputSpec, SimpleInterface, TraitedSpec, traits
from scipy import fft

from ..dataset.methods import METHOD_STEPS


class ProvenanceInputSpec(BaseInterfaceInputSpec):
    """Inputs of a step whose record travels with the image."""

    provenance = traits.Dict(usedefault=True, desc="sidecar fields of the steps so far")


class ProvenanceOutputSpec(TraitedSpec):
    """Outputs of a step whose record travels with the image."""

    provenance = traits.Dict(desc="sidecar fields of the steps so far and of this one")


class ThreadedInputSpec(ProvenanceInputSpec):
    """Inputs of a step that is mostly Fourier transforms."""

    num_threads = traits.Range(
        low=1, value=1, usedefault=True, nohash=True, desc="threads of the Fourier transform"
    )


class CoreInterface(SimpleInterface):
    """A node around one function of the core."""

    def record(self, *steps, **fields):
        """Add this step's sidecar fields to those of the steps before it, and what the text on
        methods calls it.
        """
        earlier = self.inputs.provenance
        if steps:
            fields[METHOD_STEPS] = [*earlier.get(METHOD_STEPS, ()), *steps]
        self._results["provenance"] = {**earlier, **fields}

    def out_path(self, runtime, name):
        """Path of an output in the node's working directory; uncompressed, since only nodes read
        it.
        """
        return Path(runtime.cwd) / f"{name}.nii"

    @contextmanager
    def threads(self):
        """Let the Fourier transforms use the node's threads; their results do not depend on how
        many.
        """
        with fft.set_workers(self.inputs.num_threads):
            yield
