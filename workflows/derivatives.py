"""Results of a scan under their BIDS names, and pictures of them."""

from nipype.interfaces.utility import IdentityInterface, Merge
from nipype.pipeline.engine import Node, Workflow

from ..dataset.names import (
    BRAIN_MASK,
    LOCAL_FIELD,
    LOCAL_FIELD_PICTURE,
    MAGNITUDE,
    MAGNITUDE_FILE,
    MAPS,
    R2STAR,
    TOTAL_FIELD,
    TOTAL_FIELD_ERROR,
    reduced_mask_name,
    susceptibility_error_map,
    susceptibility_map,
)
from ..interfaces.derivatives import SaveDerivative
from ..interfaces.figures import PlotMaps, PlotSlices


def init_scan_derivatives_wf(
    *,
    entities,
    output_dir,
    centre_frequency,
    metadata,
    inversions,
    standard_errors,
    with_r2star,
    gigabytes,
    reduced_mask=None,
    name="derivatives",
):
    """Build the workflow that saves what a scan's processing gave.

    Parameters
    ----------
    entities : dict of str
        Entities of the scan, by their long names.
    output_dir : path-like
        Root of the derivative dataset.
    centre_frequency : float
        Centre frequency, MHz, for field maps in Hz.
    metadata : dict
        Sidecar fields that all of the scan's derivatives have.
    inversions : sequence of str
        Which susceptibility maps there are.
    standard_errors : sequence of str
        Which of them have a standard error.
    with_r2star : bool
        Whether there is an R2* map.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.
    reduced_mask : str, optional
        Name of the background field removal, if it does not know the local field in all of the
        brain mask.

    Inputs
    ------
    magnitude_file
        All echoes; their root sum of squares is saved.
    mask_file, field_file, standard_error_file, local_field_file, r2star_file, {inversion}_chi_file
        Images to save; fields in ppm.
    reduced_mask_file
        The part of the mask where the local field is known; only if `reduced_mask` is given.
    {inversion}_chi_se_file
        The same, of inversions in `standard_errors`.
    {image}_provenance
        Their sidecar fields.
    """
    common = {"output_dir": str(output_dir), "entities": dict(entities)}
    field = {"hz_per_ppm": centre_frequency, "metadata": {**metadata, "Units": "Hz"}}
    # What is saved: the image's name on the input node, and what SaveDerivative is told of it.
    saved = {
        "mask": {**BRAIN_MASK, "is_mask": True, "metadata": {**metadata, "Type": "Brain"}},
        "magnitude": {
            **MAGNITUDE_FILE,
            "combine_echoes": True,
            "metadata": {**metadata, "SkullStripped": False},
        },
        "field": TOTAL_FIELD | field,
        "standard_error": TOTAL_FIELD_ERROR | field,
        "local_field": LOCAL_FIELD | field,
    }
    if reduced_mask is not None:
        about = {
            "Type": "Brain",
            "Description": "Part of the brain mask in which the local field is known",
        }
        saved["reduced_mask"] = {
            **reduced_mask_name(reduced_mask),
            "is_mask": True,
            "metadata": {**metadata, **about},
        }
    if with_r2star:
        saved["r2star"] = R2STAR | {"metadata": {**metadata, "Units": "1/s"}}
    for method in inversions:
        chi = {"metadata": {**metadata, "Units": "ppm"}}
        saved[f"{method}_chi"] = susceptibility_map(method) | chi
        if method in standard_errors:
            saved[f"{method}_chi_se"] = susceptibility_error_map(method) | chi
    fields = [f for image in saved for f in (f"{image}_file", f"{image}_provenance")]
    inputnode = Node(IdentityInterface(fields), name="inputnode")
    workflow = Workflow(name=name)
    for image, options in saved.items():
        node = Node(SaveDerivative(**common, **options), name=f"save_{image}", mem_gb=gigabytes(8))
        wires = [(f"{image}_file", "in_file"), (f"{image}_provenance", "provenance")]
        workflow.connect([(inputnode, node, wires)])
    for image, options in _shown(inversions).items():
        node = Node(PlotSlices(**common, **options), name=f"plot_{image}", mem_gb=gigabytes(8))
        workflow.connect(
            [(inputnode, node, [(f"{image}_file", "in_file"), ("mask_file", "mask_file")])]
        )
    _connect_maps_picture(workflow, inputnode, inversions, common, gigabytes)
    return workflow


def _shown(inversions):
    """Which images are drawn, and what PlotSlices is told of each."""
    shown = {
        "magnitude": {
            **MAGNITUDE,
            "title": "Magnitude, first echo, and brain mask",
            "outline": True,
        },
        "local_field": {
            **LOCAL_FIELD_PICTURE,
            "title": "Local field",
            "window": (-0.05, 0.05),
            "unit": "ppm",
        },
    }
    for method in inversions:
        title = f"Susceptibility, {method}"
        window = (-0.15, 0.15)
        shown[f"{method}_chi"] = {
            **susceptibility_map(method),
            "title": title,
            "window": window,
            "unit": "ppm",
        }
    return shown


def _connect_maps_picture(workflow, inputnode, inversions, common, gigabytes):
    """Draw the maps of all inversions side by side."""
    maps = Node(Merge(len(inversions)), name="maps", mem_gb=gigabytes(0))
    plot = PlotMaps(**common, **MAPS, methods=list(inversions))
    plot = Node(plot, name="plot_maps", mem_gb=gigabytes(8 + 3 * len(inversions)))
    to_merge = [
        (f"{method}_chi_file", f"in{place}") for place, method in enumerate(inversions, start=1)
    ]
    # fmt: off
    workflow.connect([
        (inputnode, maps, to_merge),
        (inputnode, plot, [("mask_file", "mask_file")]),
        (maps, plot, [("out", "chi_files")]),
    ])
    # fmt: on
