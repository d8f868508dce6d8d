"""From the local field to susceptibility relative to the whole mask; a smaller reference is found for all scans."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..interfaces.inversion import Deterministic, Iterative
from ..interfaces.roi import SubtractReference

WHOLE_MASK = "mean of the whole mask"


def init_inversion_wf(*, method, settings, threads, gigabytes):
    """Build the workflow of one inversion, named after it.

    Parameters
    ----------
    method : {"iterative", "deterministic"}
        Which inversion.
    settings : Settings
        λ, edges and weights.
    threads : int
        Threads of the Fourier transforms.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Inputs
    ------
    local_field_file, standard_error_file
        Local field and its standard error, ppm.
    magnitude_file
        All echoes, for the edges; only the iterative inversion has it.
    mask_file
        Brain mask.
    provenance
        Sidecar fields so far.

    Outputs
    -------
    chi_file
        Susceptibility relative to the mask's mean, ppm.
    provenance
        Sidecar fields.
    """
    fields = ["local_field_file", "standard_error_file", "mask_file", "provenance"]
    if method == "iterative":
        fields.append("magnitude_file")
        interface = Iterative(edge_share=settings.edge_share, weigh_noise=settings.data_weight == "noise")
        if settings.outside_weight is not None:
            interface.inputs.outside_weight = settings.outside_weight
    else:
        interface = Deterministic()
    interface.inputs.lambda_rule = settings.lambda_rule
    interface.inputs.num_threads = threads
    if settings.lambda_value is not None:
        interface.inputs.lambda_value = settings.lambda_value

    inputnode = Node(IdentityInterface(fields), name="inputnode")
    outputnode = Node(IdentityInterface(["chi_file", "provenance"]), name="outputnode")
    invert = Node(interface, name="invert", mem_gb=gigabytes(25))
    reference = Node(SubtractReference(region_name=WHOLE_MASK), name="reference", mem_gb=gigabytes(12))

    workflow = Workflow(name=method)
    workflow.connect(
        [
            (inputnode, invert, [(field, field) for field in fields]),
            (inputnode, reference, [("mask_file", "mask_file"), ("mask_file", "region_file")]),
            (invert, reference, [("chi_file", "chi_file"), ("provenance", "provenance")]),
            (reference, outputnode, [("chi_file", "chi_file"), ("provenance", "provenance")]),
        ]
    )
    return workflow
