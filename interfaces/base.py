"""Base classes of the nodes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from nipype.interfaces.base.support import Bunch
from scipy import fft

from ..dataset.methods import METHOD_STEPS

_Value = TypeVar("_Value")


def none_if_undefined(value: _Value) -> _Value | None:
    """Return an input's value, or None if it is not set."""
    return value if isdefined(value) else None


class ProvenanceInputSpec(BaseInterfaceInputSpec):
    """Inputs of a step that passes sidecar fields on with its image."""

    provenance = traits.Dict(usedefault=True, desc="sidecar fields of the steps before this one")


class ProvenanceOutputSpec(TraitedSpec):
    """Outputs of a step that passes sidecar fields on with its image."""

    provenance = traits.Dict(desc="sidecar fields of all steps up to this one")


class ThreadedInputSpec(ProvenanceInputSpec):
    """Inputs of a step that spends most of its time in Fourier transforms."""

    num_threads = traits.Range(
        low=1, value=1, usedefault=True, nohash=True, desc="threads of the Fourier transforms"
    )


class CoreInterface(SimpleInterface):
    """A node around one function of the core."""

    def record(self, *steps: str, **fields: Any) -> None:
        """Add this step's sidecar fields to those of the steps before it.

        Parameters
        ----------
        *steps
            Keys of the sentences on this step in the methods text
            (``bids_templates/citation.json``).
        **fields
            Sidecar fields of this step.
        """
        earlier = self.inputs.provenance
        if steps:
            fields[METHOD_STEPS] = [*earlier.get(METHOD_STEPS, ()), *steps]
        self._results["provenance"] = {**earlier, **fields}

    def out_path(self, runtime: Bunch, name: str) -> Path:
        """Return the path of an output in the node's working directory.

        The file is not compressed, since only other nodes read it.
        """
        return Path(runtime.cwd) / f"{name}.nii"

    @contextmanager
    def threads(self) -> Iterator[None]:
        """Let the Fourier transforms use the node's threads.

        Results do not depend on the number of threads.
        """
        with fft.set_workers(self.inputs.num_threads):
            yield


def names_by_label(names: Mapping[str, str] | Mapping[int, str]) -> dict[int, str]:
    """Return names by integer label; dictionaries that pass between nodes may have text as keys.

    >>> names_by_label({"1": "caudate nucleus"})
    {1: 'caudate nucleus'}
    """
    return {int(label): name for label, name in names.items()}
