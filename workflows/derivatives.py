"""Derivatives of a scan: its images under their BIDS names, and pictures of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from nipype.interfaces.utility import IdentityInterface, Merge
from nipype.pipeline.engine import Node, Workflow

from ..dataset.files import PathLike
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
from .memory import VolumeMemory


def init_scan_derivatives_wf(
    *,
    entities: Mapping[str, str],
    output_dir: PathLike,
    centre_frequency: float,
    metadata: Mapping[str, Any],
    inversions: Sequence[str],
    standard_errors: Sequence[str],
    with_r2star: bool,
    gigabytes: VolumeMemory,
    reduced_mask: str | None = None,
    name: str = "derivatives",
) -> Workflow:
    """Build the workflow that saves and draws the images of a scan.

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
        Inversions that the scan has a susceptibility map of.
    standard_errors : sequence of str
        Those among them whose map has a standard error.
    with_r2star : bool
        Whether the scan has an R2* map.
    gigabytes : callable
        Memory in GB of a number of float32 volumes.
    reduced_mask : str, optional
        Name of the background field removal, if its local field is not valid in all of the brain
        mask.
    name : str
        Name of the workflow.

    Inputs
    ------
    magnitude_file
        All echoes; their root sum of squares is saved.
    mask_file, field_file, standard_error_file, local_field_file, r2star_file, {inversion}_chi_file
        Images to save; fields in ppm.
    reduced_mask_file
        The part of the mask where the local field is valid; only if `reduced_mask` is given.
    {inversion}_chi_se_file
        Standard errors of the susceptibility maps, of inversions in `standard_errors`.
    {image}_provenance
        Sidecar fields of each image.
    """
    common: dict[str, Any] = {"output_dir": str(output_dir), "entities": dict(entities)}
    saved = _saved_images(
        centre_frequency, metadata, inversions, standard_errors, with_r2star, reduced_mask
    )
    drawn = _drawn_images(inversions)
    fields = []
    for image in saved:
        fields += [f"{image}_file", f"{image}_provenance"]
    inputnode = Node(IdentityInterface(fields), name="inputnode")
    workflow = Workflow(name=name)
    # fmt: off
    for image, options in saved.items():
        save = SaveDerivative(**common, **options)
        save = Node(save, name=f"save_{image}", mem_gb=gigabytes(8))
        workflow.connect([(inputnode, save, [
            (f"{image}_file", "in_file"), (f"{image}_provenance", "provenance"),
        ])])
    for image, options in drawn.items():
        plot = PlotSlices(**common, **options)
        plot = Node(plot, name=f"plot_{image}", mem_gb=gigabytes(8))
        workflow.connect([(inputnode, plot, [
            (f"{image}_file", "in_file"), ("mask_file", "mask_file"),
        ])])
    # fmt: on
    _connect_maps_picture(workflow, inputnode, inversions, common, gigabytes)
    return workflow


def _saved_images(
    centre_frequency: float,
    metadata: Mapping[str, Any],
    inversions: Sequence[str],
    standard_errors: Sequence[str],
    with_r2star: bool,
    reduced_mask: str | None,
) -> dict[str, dict[str, Any]]:
    """Return the options of `SaveDerivative` of each image, by its name on the input node."""
    field = {"hz_per_ppm": centre_frequency, "metadata": {**metadata, "Units": "Hz"}}
    saved: dict[str, dict[str, Any]] = {
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
        description = "Part of the brain mask in which the local field is known"
        saved["reduced_mask"] = {
            **reduced_mask_name(reduced_mask),
            "is_mask": True,
            "metadata": {**metadata, "Type": "Brain", "Description": description},
        }
    if with_r2star:
        saved["r2star"] = R2STAR | {"metadata": {**metadata, "Units": "1/s"}}
    for method in inversions:
        chi = {"metadata": {**metadata, "Units": "ppm"}}
        saved[f"{method}_chi"] = susceptibility_map(method) | chi
        if method in standard_errors:
            saved[f"{method}_chi_se"] = susceptibility_error_map(method) | chi
    return saved


def _drawn_images(inversions: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the options of `PlotSlices` of each image that is drawn, by its name on the input
    node.
    """
    drawn: dict[str, dict[str, Any]] = {
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
        drawn[f"{method}_chi"] = {
            **susceptibility_map(method),
            "title": f"Susceptibility, {method}",
            "window": (-0.15, 0.15),
            "unit": "ppm",
        }
    return drawn


def _connect_maps_picture(workflow, inputnode, inversions, common, gigabytes):
    """Draw the maps of all inversions side by side."""
    maps = Node(Merge(len(inversions)), name="maps", mem_gb=gigabytes(0))
    plot = PlotMaps(**common, **MAPS, methods=list(inversions))
    plot = Node(plot, name="plot_maps", mem_gb=gigabytes(8 + 3 * len(inversions)))
    for number, method in enumerate(inversions, start=1):
        workflow.connect(inputnode, f"{method}_chi_file", maps, f"in{number}")
    # fmt: off
    workflow.connect([
        (inputnode, plot, [("mask_file", "mask_file")]),
        (maps, plot, [("out", "chi_files")]),
    ])
    # fmt: on
