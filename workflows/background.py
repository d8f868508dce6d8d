"""From the total field to the local field."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..interfaces.background import INTERFACES
from ..interfaces.methods import BACKGROUNDS


def init_background_wf(*, method, threads, gigabytes, edge_fraction=None, name="background"):
    """Build the workflow that removes the background field.

    Parameters
    ----------
    method : str
        How it is removed, of `BACKGROUNDS`.
    threads : int
        Threads of the Fourier transforms.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.
    edge_fraction : float, optional
        Fraction of the magnitude's gradients that count as edges; by the noise if not given. For
        methods that need them.

    Inputs
    ------
    field_file, standard_error_file
        Total field and its standard error, ppm.
    mask_file
        Brain mask.
    magnitude_file
        All echoes, for the edges; if the method needs it.
    provenance
        Sidecar fields so far.

    Outputs
    -------
    local_field_file
        Local field, ppm.
    mask_file
        Where it is known: the brain mask or, with a method that shrinks it, less.
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
            (inputnode, remove, [(field, field) for field in fields]),
            (remove, outputnode, [(output, output) for output in outputs]),
        ]
    )
    return workflow
