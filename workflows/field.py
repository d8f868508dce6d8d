"""From echoes to the field: unwrapping, field fit, reliability, R2*."""

from collections.abc import Sequence

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..core.phase.fieldfit import ECHOES_FOR_R2STAR
from ..interfaces.fieldfit import FitField, FitR2star
from ..interfaces.mask import FillUnmeasured, TrimMask
from ..interfaces.phase import Unwrap
from .connections import by_name
from .memory import VolumeMemory


def init_field_wf(
    *,
    echo_times: Sequence[float],
    centre_frequency: float,
    unwrapping: str,
    trim: bool,
    gigabytes: VolumeMemory,
    is_phantom: bool = False,
    name: str = "field",
) -> Workflow:
    """Build the workflow that estimates the total field of a scan.

    Parameters
    ----------
    echo_times : sequence of float
        Echo times, s. R2* is fitted to three or more.
    centre_frequency : float
        Centre frequency of the scanner, MHz.
    unwrapping : {"spatial", "temporal", "individual"}
        How later echoes are unwrapped: predicted linearly in echo time, with the remainder
        unwrapped in space (spatial) or taken to be less than half a wrap (temporal); or every echo
        in three dimensions (individual).
    trim : bool
        Remove unreliable voxels from the mask's surface.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.
    is_phantom : bool
        Keep voxels without a valid field in the mask at its surface too; they have no weight. The
        wall of a phantom's tube has no signal, and without it the tube would be cut off.
    name : str
        Name of the workflow.

    Inputs
    ------
    magnitude_file, phase_file
        All echoes; phase in rad.
    mask_file
        Brain mask.
    provenance
        Sidecar fields so far.

    Outputs
    -------
    field_file, standard_error_file
        Total field and the standard error by which methods weight its voxels, ppm. Where the field
        is not valid it is filled smoothly from its surroundings, and its standard error is
        infinite.
    total_error_file, noise_error_file
        Standard error of the total field, of noise and systematic misfit together, and its part due
        to noise, ppm.
    mask_file
        Brain mask, trimmed, without unresolved voxels at its surface and without holes.
    provenance, mask_provenance
        Sidecar fields of the field and of the mask.
    r2star_file, r2star_provenance
        R2*, 1/s; only of `ECHOES_FOR_R2STAR` echoes or more.
    """
    n_echoes = len(echo_times)
    with_r2star = n_echoes >= ECHOES_FOR_R2STAR
    inputs = ["magnitude_file", "phase_file", "mask_file", "provenance"]
    outputs = [
        "field_file",
        "standard_error_file",
        "total_error_file",
        "noise_error_file",
        "mask_file",
        "provenance",
        "mask_provenance",
    ]
    if with_r2star:
        outputs += ["r2star_file", "r2star_provenance"]
    inputnode = Node(IdentityInterface(inputs), name="inputnode")
    outputnode = Node(IdentityInterface(outputs), name="outputnode")

    unwrap = Node(
        Unwrap(echo_times=list(echo_times), unwrapping=unwrapping),
        name="unwrap",
        mem_gb=gigabytes(3 * n_echoes + 8),
    )
    fit = Node(
        FitField(echo_times=list(echo_times), centre_frequency=centre_frequency),
        name="fit",
        mem_gb=gigabytes(6 * n_echoes),
    )
    fill = Node(FillUnmeasured(is_phantom=is_phantom), name="unknown", mem_gb=gigabytes(12))
    workflow = Workflow(name=name)
    # fmt: off
    workflow.connect([
        (inputnode, unwrap, by_name(["phase_file", "mask_file", "provenance"])),
        (inputnode, fit, by_name(["magnitude_file", "mask_file"])),
        (unwrap, fit, by_name(["unwrapped_file", "provenance"])),
        (fit, fill, by_name([
            "field_file", "standard_error_file", "total_error_file", "noise_error_file",
            "unresolved_file",
        ])),
        (fill, outputnode, by_name([
            "field_file", "standard_error_file", "total_error_file", "noise_error_file",
            "mask_file", "provenance",
        ])),
        (fill, outputnode, [("provenance", "mask_provenance")]),
    ])
    if trim:
        trim_mask = Node(TrimMask(), name="trim", mem_gb=gigabytes(8))
        workflow.connect([
            (inputnode, trim_mask, [("mask_file", "mask_file")]),
            (fit, trim_mask, by_name(["standard_error_file", "provenance"])),
            (trim_mask, fill, by_name(["mask_file", "provenance"])),
        ])
    else:
        workflow.connect([
            (inputnode, fill, [("mask_file", "mask_file")]),
            (fit, fill, [("provenance", "provenance")]),
        ])
    # fmt: on
    if with_r2star:
        _connect_r2star(workflow, inputnode, outputnode, echo_times, gigabytes)
    return workflow


def _connect_r2star(workflow, inputnode, outputnode, echo_times, gigabytes):
    """Add the node that fits R2* to the magnitude."""
    interface = FitR2star(echo_times=list(echo_times))
    r2star = Node(interface, name="r2star", mem_gb=gigabytes(4 * len(echo_times)))
    # fmt: off
    workflow.connect([
        (inputnode, r2star, by_name(["magnitude_file", "mask_file", "provenance"])),
        (r2star, outputnode, [("r2star_file", "r2star_file"), ("provenance", "r2star_provenance")]),
    ])
    # fmt: on
