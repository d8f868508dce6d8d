"""From echoes to the field: unwrapping, field fit, reliability, R2*."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..core.phase.fieldfit import ECHOES_FOR_R2STAR
from ..interfaces.fieldfit import FitField, FitR2star
from ..interfaces.mask import FillUnmeasured, TrimMask
from ..interfaces.phase import Unwrap


def init_field_wf(
    *, echo_times, centre_frequency, unwrapping, trim, gigabytes, is_phantom=False, name="field"
):
    """Build the workflow that fits the field of a scan.

    Parameters
    ----------
    echo_times : sequence of float
        Echo times, s. R2* is fitted to three or more.
    centre_frequency : float
        Centre frequency of the scanner, MHz.
    unwrapping : {"spatial", "temporal", "individual"}
        What a line in time leaves of later echoes: smooth in space, or less than half a turn.
    trim : bool
        Take unreliable voxels off the mask's surface.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.
    is_phantom : bool
        Voxels whose field is not known have no weight; in a phantom they do not leave the mask at
        its surface. A tube's wall has no signal, and without it the tube would be cut off.

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
        Total field and its standard error, ppm. Where the field is not known it is continued
        smoothly, and its standard error infinite.
    noise_variance
        Mean squared standard error of the fit over the whole mask, ppm².
    mask_file
        Brain mask, trimmed, without unresolved voxels at its surface, and with all that it
        encloses.
    provenance, mask_provenance
        Sidecar fields of the field and of the mask.
    r2star_file, r2star_provenance
        R2*, 1/s, where there are echoes enough.
    """
    n = len(echo_times)
    with_r2star = n >= ECHOES_FOR_R2STAR
    inputnode = Node(
        IdentityInterface(["magnitude_file", "phase_file", "mask_file", "provenance"]),
        name="inputnode",
    )
    outputs = [
        "field_file",
        "standard_error_file",
        "noise_variance",
        "mask_file",
        "provenance",
        "mask_provenance",
    ]
    outputs += ["r2star_file", "r2star_provenance"] if with_r2star else []
    outputnode = Node(IdentityInterface(outputs), name="outputnode")

    unwrap = Node(
        Unwrap(echo_times=list(echo_times), mode=unwrapping),
        name="unwrap",
        mem_gb=gigabytes(3 * n + 8),
    )
    fit = Node(
        FitField(echo_times=list(echo_times), centre_frequency=centre_frequency),
        name="fit",
        mem_gb=gigabytes(6 * n),
    )
    unknown = Node(FillUnmeasured(is_phantom=is_phantom), name="unknown", mem_gb=gigabytes(12))
    workflow = Workflow(name=name)
    # fmt: off
    workflow.connect([
        (inputnode, unwrap, [
            ("phase_file", "phase_file"), ("mask_file", "mask_file"), ("provenance", "provenance"),
        ]),
        (inputnode, fit, [("magnitude_file", "magnitude_file"), ("mask_file", "mask_file")]),
        (unwrap, fit, [("unwrapped_file", "unwrapped_file"), ("provenance", "provenance")]),
        (fit, unknown, [
            ("field_file", "field_file"),
            ("standard_error_file", "standard_error_file"),
            ("unresolved_file", "unresolved_file"),
        ]),
        (unknown, outputnode, [
            ("field_file", "field_file"),
            ("standard_error_file", "standard_error_file"),
            ("noise_variance", "noise_variance"),
            ("mask_file", "mask_file"),
            ("provenance", "provenance"),
            ("provenance", "mask_provenance"),
        ]),
    ])
    if trim:
        trim_mask = Node(TrimMask(), name="trim", mem_gb=gigabytes(8))
        workflow.connect([
            (inputnode, trim_mask, [("mask_file", "mask_file")]),
            (fit, trim_mask, [
                ("standard_error_file", "standard_error_file"), ("provenance", "provenance"),
            ]),
            (trim_mask, unknown, [("mask_file", "mask_file"), ("provenance", "provenance")]),
        ])
    else:
        workflow.connect([
            (inputnode, unknown, [("mask_file", "mask_file")]),
            (fit, unknown, [("provenance", "provenance")]),
        ])
    # fmt: on
    if with_r2star:
        _connect_r2star(workflow, inputnode, outputnode, echo_times, gigabytes)
    return workflow


def _connect_r2star(workflow, inputnode, outputnode, echo_times, gigabytes):
    """Fit R2* to the magnitude."""
    interface = FitR2star(echo_times=list(echo_times))
    r2star = Node(interface, name="r2star", mem_gb=gigabytes(4 * len(echo_times)))
    # fmt: off
    workflow.connect([
        (inputnode, r2star, [
            ("magnitude_file", "magnitude_file"),
            ("mask_file", "mask_file"),
            ("provenance", "provenance"),
        ]),
        (r2star, outputnode, [("r2star_file", "r2star_file"), ("provenance", "r2star_provenance")]),
    ])
    # fmt: on
