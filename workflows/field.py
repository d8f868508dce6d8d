"""From echoes to the field: unwrapping, field fit, reliability, R2*."""

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline.engine import Node, Workflow

from ..core.fieldfit import ECHOES_FOR_R2STAR
from ..interfaces.fieldfit import FitField, FitR2star
from ..interfaces.mask import ExcludeUnresolved, TrimMask
from ..interfaces.phase import Unwrap


def init_field_wf(*, echo_times, centre_frequency, unwrapping, trim, gigabytes, exclude_unresolved=None, name="field"):
    """Build the workflow that fits the field of a scan.

    Parameters
    ----------
    echo_times : sequence of float
        Echo times, s. R2* is fitted to three or more.
    centre_frequency : float
        Centre frequency of the scanner, MHz.
    unwrapping : {"spatial", "temporal"}
        What a line in time leaves of later echoes: smooth in space, or less than half a turn.
    trim : bool
        Take unreliable voxels off the mask's surface.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.
    exclude_unresolved : bool, optional
        Take voxels out of the mask that could not be unwrapped for certain; they are counted in any case. As ``trim``
        by default. Not for phantoms: a tube's wall has no signal, and without it the tube would be cut off.

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
        Total field and its standard error, ppm.
    mask_file
        Brain mask, trimmed and without unresolved voxels.
    provenance, mask_provenance
        Sidecar fields of the field and of the mask.
    r2star_file, r2star_provenance
        R2*, 1/s, where there are echoes enough.
    """
    n = len(echo_times)
    with_r2star = n >= ECHOES_FOR_R2STAR
    inputnode = Node(IdentityInterface(["magnitude_file", "phase_file", "mask_file", "provenance"]), name="inputnode")
    outputs = ["field_file", "standard_error_file", "mask_file", "provenance", "mask_provenance"]
    outputs += ["r2star_file", "r2star_provenance"] if with_r2star else []
    outputnode = Node(IdentityInterface(outputs), name="outputnode")

    unwrap = Node(Unwrap(echo_times=list(echo_times), mode=unwrapping), name="unwrap", mem_gb=gigabytes(3 * n + 8))
    fit = Node(
        FitField(echo_times=list(echo_times), centre_frequency=centre_frequency), name="fit", mem_gb=gigabytes(6 * n)
    )
    workflow = Workflow(name=name)
    # fmt: off
    workflow.connect([
        (inputnode, unwrap, [("phase_file", "phase_file"), ("mask_file", "mask_file"), ("provenance", "provenance")]),
        (inputnode, fit, [("magnitude_file", "magnitude_file"), ("mask_file", "mask_file")]),
        (unwrap, fit, [("unwrapped_file", "unwrapped_file"), ("provenance", "provenance")]),
        (fit, outputnode, [("field_file", "field_file"), ("standard_error_file", "standard_error_file")]),
    ])
    # fmt: on
    last, mask_source = fit, inputnode
    if trim:
        trim_mask = Node(TrimMask(), name="trim", mem_gb=gigabytes(8))
        # fmt: off
        workflow.connect([
            (inputnode, trim_mask, [("mask_file", "mask_file")]),
            (fit, trim_mask, [("standard_error_file", "standard_error_file"), ("provenance", "provenance")]),
        ])
        # fmt: on
        last = mask_source = trim_mask
    if trim if exclude_unresolved is None else exclude_unresolved:
        exclude = Node(ExcludeUnresolved(), name="exclude_unresolved", mem_gb=gigabytes(8))
        # fmt: off
        workflow.connect([
            (mask_source, exclude, [("mask_file", "mask_file")]),
            (fit, exclude, [("unresolved_file", "unresolved_file")]),
            (last, exclude, [("provenance", "provenance")]),
        ])
        # fmt: on
        last = mask_source = exclude
    # fmt: off
    workflow.connect([
        (last, outputnode, [("provenance", "provenance")]),
        (mask_source, outputnode, [("mask_file", "mask_file"), ("provenance", "mask_provenance")]),
    ])
    # fmt: on
    if with_r2star:
        r2star = Node(FitR2star(echo_times=list(echo_times)), name="r2star", mem_gb=gigabytes(4 * n))
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
    return workflow
