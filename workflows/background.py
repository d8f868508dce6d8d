"""The background field: from the total field to the local field."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..interfaces.background import INTERFACES
from ..interfaces.methods import BACKGROUNDS
from .connections import by_name
from .memory import VolumeMemory


def init_background_wf(
    *,
    method: str,
    threads: int,
    gigabytes: VolumeMemory,
    edge_fraction: float | None = None,
    name: str = "background",
) -> Workflow:
    """Build the workflow that removes the background field.

    Parameters
    ----------
    method : str
        Background field removal, one of `BACKGROUNDS`.
    threads : int
        Threads of the Fourier transforms.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.
    edge_fraction : float, optional
        Fraction of the magnitude's gradients that count as edges, for methods that need edges. By
        default those above the noise count.

    name : str
        Name of the workflow.

    Inputs
    ------
    field_file, standard_error_file
        Total field and its standard error, ppm.
    mask_file
        Brain mask.
    magnitude_file
        All echoes, for the edges; only of methods that need edges.
    provenance
        Sidecar fields so far.

    Outputs
    -------
    local_field_file
        Local field, ppm.
    mask_file
        Voxels where the local field is valid: the brain mask, or the smaller mask of a method that
        shrinks it.
    provenance
        Sidecar fields.
    """
    fields = ["field_file", "standard_error_file", "mask_file", "provenance"]
    interface = INTERFACES[method](num_threads=threads)
    if BACKGROUNDS[method].needs_edges:
        fields.append("magnitude_file")
        if edge_fraction is not None:
            interface.inputs.edge_fraction = edge_fraction
    outputs = ["local_field_file", "mask_file", "provenance"]
    inputnode = Node(IdentityInterface(fields), name="inputnode")
    outputnode = Node(IdentityInterface(outputs), name="outputnode")
    remove = Node(interface, name=method, mem_gb=gigabytes(20))

    workflow = Workflow(name=name)
    workflow.connect(
        [
            (inputnode, remove, by_name(fields)),
            (remove, outputnode, by_name(outputs)),
        ]
    )
    return workflow
