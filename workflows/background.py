"""From the total field to the local field."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..interfaces.background import PDF

METHODS = {"pdf": PDF}


def init_background_wf(*, method, threads, gigabytes, name="background"):
    """Build the workflow that removes the background field.

    Parameters
    ----------
    method : {"pdf"}
        How it is removed.
    threads : int
        Threads of the Fourier transforms.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Inputs
    ------
    field_file, standard_error_file
        Total field and its standard error, ppm.
    mask_file
        Brain mask.
    provenance
        Sidecar fields so far.

    Outputs
    -------
    local_field_file
        Local field, ppm.
    provenance
        Sidecar fields.
    """
    fields = ["field_file", "standard_error_file", "mask_file", "provenance"]
    inputnode = Node(IdentityInterface(fields), name="inputnode")
    outputnode = Node(IdentityInterface(["local_field_file", "provenance"]), name="outputnode")
    remove = Node(METHODS[method](num_threads=threads), name=method, mem_gb=gigabytes(20))

    workflow = Workflow(name=name)
    workflow.connect(
        [
            (inputnode, remove, [(field, field) for field in fields]),
            (remove, outputnode, [("local_field_file", "local_field_file"), ("provenance", "provenance")]),
        ]
    )
    return workflow
