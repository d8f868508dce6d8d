"""The inversion: from the local field to susceptibility relative to the mean of the whole mask.

A smaller reference region is applied later, to all scans of a subject together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..interfaces.inversion import INTERFACES
from ..interfaces.methods import INVERSIONS
from ..interfaces.reference import SubtractReference
from ..interfaces.uncertainty import STANDARD_ERRORS
from .connections import by_name
from .memory import VolumeMemory

if TYPE_CHECKING:
    from .settings import Settings

WHOLE_MASK = "mean of the whole mask"


def init_inversion_wf(
    *, method: str, settings: Settings, period: float, threads: int, gigabytes: VolumeMemory
) -> Workflow:
    """Build the workflow of one inversion, named after it.

    Parameters
    ----------
    method : str
        One of `INVERSIONS`.
    settings : Settings
        λ, edges and weights.
    period : float
        Field at which the scan's phase wraps once between two echoes, ppm, see
        `multiqsm.workflows.scan.phase_period`.
    threads : int
        Threads of the Fourier transforms.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.

    Inputs
    ------
    local_field_file, standard_error_file
        Local field and the standard error by which its voxels are weighted, ppm.
    total_error_file
        Standard error of the field, ppm; of methods in ``settings.standard_errors``.
    magnitude_file
        All echoes, for the edges; only of inversions that need edges.
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
    time
        Computation time.
    chi_se_file
        Its standard error, ppm; of methods in ``settings.standard_errors``.
    chi_se_provenance
        Sidecar fields of the standard error.
    """
    fields = ["local_field_file", "standard_error_file", "mask_file", "provenance"]
    inversion = INVERSIONS[method]
    if inversion.needs_edges:
        fields.append("magnitude_file")
    interface = INTERFACES[method].from_settings(settings, period)
    interface.inputs.num_threads = threads

    of_errors = ["total_error_file"] if method in settings.standard_errors else []
    inputnode = Node(IdentityInterface(fields + of_errors), name="inputnode")
    outputs = ["chi_file", "provenance", "time"]
    if method in settings.standard_errors:
        outputs += ["chi_se_file", "chi_se_provenance"]
    outputnode = Node(IdentityInterface(outputs), name="outputnode")
    invert = Node(interface, name="invert", mem_gb=gigabytes(25))
    reference = Node(
        SubtractReference(region_name=WHOLE_MASK), name="reference", mem_gb=gigabytes(12)
    )

    workflow = Workflow(name=method)
    workflow.connect(
        [
            (inputnode, invert, by_name(fields)),
            (inputnode, reference, [("mask_file", "mask_file"), ("mask_file", "region_file")]),
            (invert, reference, by_name(["chi_file", "provenance"])),
            (reference, outputnode, by_name(["chi_file", "provenance"])),
            (invert, outputnode, by_name(["time"])),
        ]
    )
    if method in settings.standard_errors:
        propagate = _standard_error_node(method, settings.se_draws, threads, gigabytes)
        noise_fields = ["standard_error_file", "total_error_file", "mask_file"]
        if inversion.standard_error == "realisations":
            noise_fields += ["magnitude_file", "local_field_file"]
        workflow.connect(
            [
                (inputnode, propagate, by_name(noise_fields)),
                (invert, propagate, by_name(["record", "provenance"])),
                (
                    propagate,
                    outputnode,
                    [("chi_se_file", "chi_se_file"), ("provenance", "chi_se_provenance")],
                ),
            ]
        )
    return workflow


def _standard_error_node(method, draws, threads, gigabytes):
    """Return the node that propagates the noise of the field through the inversion."""
    interface = STANDARD_ERRORS[method](num_threads=threads)
    if INVERSIONS[method].standard_error == "realisations":
        interface.inputs.draws = draws
    return Node(interface, name="propagate_noise", mem_gb=gigabytes(25))
