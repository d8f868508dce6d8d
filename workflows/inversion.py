"""From the local field to susceptibility relative to the whole mask; a smaller reference is found for all scans."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..interfaces.inversion import Deterministic, Iterative, Medi
from ..interfaces.roi import SubtractReference
from ..interfaces.uncertainty import DeterministicStandardError, IterativeStandardError, MediStandardError
from .settings import MEDI_RULES

WHOLE_MASK = "mean of the whole mask"
WITH_EDGES = ("medi", "iterative")  # they need the magnitude, and realisations of noise for their standard error
WITH_VARIANCE = ("iterative", "deterministic")  # their discrepancy principle needs it; MEDI's takes the standard error
STANDARD_ERRORS = {
    "medi": MediStandardError,
    "iterative": IterativeStandardError,
    "deterministic": DeterministicStandardError,
}


def init_inversion_wf(*, method, settings, period, threads, gigabytes):
    """Build the workflow of one inversion, named after it.

    Parameters
    ----------
    method : {"medi", "iterative", "deterministic"}
        Which inversion.
    settings : Settings
        λ, edges and weights.
    period : float
        Field at which the scan's phase turns once from echo to echo, ppm.
    threads : int
        Threads of the Fourier transforms.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Inputs
    ------
    local_field_file, standard_error_file
        Local field and its standard error, ppm.
    magnitude_file
        All echoes, for the edges; only inversions in `WITH_EDGES` have it.
    noise_variance
        Variance of the field's noise, ppm²; only inversions in `WITH_VARIANCE` have it.
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
    chi_se_file
        Its standard error, ppm; of methods in ``settings.standard_errors``.
    chi_se_provenance
        Sidecar fields of that.
    """
    fields = ["local_field_file", "standard_error_file", "mask_file", "provenance"]
    if method in WITH_EDGES:
        fields.append("magnitude_file")
    if method in WITH_VARIANCE:
        fields.append("noise_variance")
    interface = _INTERFACES[method](settings, period)
    interface.inputs.num_threads = threads

    inputnode = Node(IdentityInterface(fields), name="inputnode")
    outputs = ["chi_file", "provenance"]
    if method in settings.standard_errors:
        outputs += ["chi_se_file", "chi_se_provenance"]
    outputnode = Node(IdentityInterface(outputs), name="outputnode")
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
    if method in settings.standard_errors:
        propagate = _standard_error_node(method, settings.se_draws, threads, gigabytes)
        wanted = ["standard_error_file", "mask_file"]
        if method in WITH_EDGES:
            wanted += ["magnitude_file", "local_field_file"]
        workflow.connect(
            [
                (inputnode, propagate, [(field, field) for field in wanted]),
                (invert, propagate, [("choices", "choices"), ("provenance", "provenance")]),
                (propagate, outputnode, [("chi_se_file", "chi_se_file"), ("provenance", "chi_se_provenance")]),
            ]
        )
    return workflow


def _deterministic(settings, _):
    return _with_lambda(Deterministic(lambda_rule=settings.lambda_rule), settings.lambda_value)


def _iterative(settings, _):
    interface = Iterative(lambda_rule=settings.lambda_rule, weigh_noise=settings.data_weight == "noise")
    if settings.outside_weight is not None:
        interface.inputs.outside_weight = settings.outside_weight
    return _with_lambda(_with_edges(interface, settings), settings.lambda_value)


def _medi(settings, period):
    interface = Medi(lambda_rule=MEDI_RULES[settings.lambda_rule], reduce_model_error=settings.model_error)
    if settings.medi_data == "nonlinear":
        interface.inputs.period = period
    return _with_lambda(_with_edges(interface, settings), settings.medi_lambda)


_INTERFACES = {"medi": _medi, "iterative": _iterative, "deterministic": _deterministic}


def _with_lambda(interface, value):
    if value is not None:
        interface.inputs.lambda_value = value
    return interface


def _with_edges(interface, settings):
    if settings.edge_share is not None:
        interface.inputs.edge_share = settings.edge_share
    return interface


def _standard_error_node(method, draws, threads, gigabytes):
    """What the inversion makes of the field's noise."""
    interface = STANDARD_ERRORS[method](num_threads=threads)
    if method in WITH_EDGES:
        interface.inputs.draws = draws
    return Node(interface, name="propagate_noise", mem_gb=gigabytes(25))
