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
    TOTAL_FIELD_NOISE,
    reduced_mask_name,
    susceptibility_error_map,
    susceptibility_map,
)
from ..dataset.outputs import bids_uri, derivative_path
from ..interfaces.derivatives import SaveDerivative
from ..interfaces.figures import PlotMaps, PlotSlices
from .memory import VolumeMemory

FIELDS = {
    "field": TOTAL_FIELD,
    "total_error": TOTAL_FIELD_ERROR,
    "noise_error": TOTAL_FIELD_NOISE,
    "local_field": LOCAL_FIELD,
}
# Values shown as black and as white, ppm; the tubes of a phantom have up to 2 ppm.
HEAD_WINDOWS = {"local_field": (-0.05, 0.05), "chi": (-0.15, 0.15)}
PHANTOM_WINDOWS = {
    "local_field": (-0.2, 0.2),
    "chi": (-0.5, 2.5),
    "difference": (-0.5, 0.5),
}
DESCRIPTIONS = {
    "mask": "Voxels of the brain, or of the phantom, that were processed",
    "reduced_mask": "Part of the brain mask in which the local field is known",
    "magnitude": "Root sum of squares of the echoes",
    "field": "Field, relative to the centre frequency",
    "total_error": "Standard error of the field, from the noise of the images and from phase "
    "that is not linear in echo time",
    "noise_error": "Part of the field's standard error that the noise of the images explains",
    "local_field": "Field of the sources inside the mask",
    "r2star": "Transverse relaxation rate R2*",
    "chi": "Magnetic susceptibility relative to the mean of the mask, by the inversion {method}",
    "chi_se": "Standard error of susceptibility, from that of the field, by the inversion {method}",
}


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
    is_phantom: bool = False,
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
    is_phantom : bool
        Whether the scan is of a phantom, whose pictures show a wider range of values.
    name : str
        Name of the workflow.

    Inputs
    ------
    magnitude_file
        All echoes; their root sum of squares is saved.
    mask_file, field_file, total_error_file, noise_error_file, local_field_file, r2star_file,
    {inversion}_chi_file
        Images to save; fields in ppm.
    reduced_mask_file
        The part of the mask where the local field is valid; only if `reduced_mask` is given.
    {inversion}_chi_se_file
        Standard errors of the susceptibility maps, of inversions in `standard_errors`.
    {image}_provenance
        Sidecar fields of each image.
    """
    common: dict[str, Any] = {"output_dir": str(output_dir), "entities": dict(entities)}
    magnitude = derivative_path(output_dir, entities, **MAGNITUDE_FILE)
    saved = _saved_images(
        centre_frequency,
        metadata,
        inversions,
        standard_errors,
        with_r2star,
        reduced_mask,
        {"SpatialReference": bids_uri(magnitude, output_dir, "")},
    )
    drawn = _drawn_images(inversions, PHANTOM_WINDOWS if is_phantom else HEAD_WINDOWS)
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
    plot_maps = PlotMaps(**common, **MAPS, methods=list(inversions))
    if is_phantom:
        plot_maps.inputs.window = PHANTOM_WINDOWS["chi"]
        plot_maps.inputs.difference_window = PHANTOM_WINDOWS["difference"]
    _connect_maps_picture(workflow, inputnode, inversions, plot_maps, gigabytes)
    return workflow


def _saved_images(
    centre_frequency: float,
    metadata: Mapping[str, Any],
    inversions: Sequence[str],
    standard_errors: Sequence[str],
    with_r2star: bool,
    reduced_mask: str | None,
    space: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
    """Return the options of `SaveDerivative` of each image, by its name on the input node.

    `space` are the sidecar fields that BIDS recommends for masks.
    """

    def described(description: str, **fields: Any) -> dict[str, Any]:
        return {"metadata": {**metadata, "Description": description, **fields}}

    field = {"hz_per_ppm": centre_frequency}
    mask = {"is_mask": True}
    of_mask = {"Type": "Brain", **space}
    saved: dict[str, dict[str, Any]] = {
        "mask": BRAIN_MASK | mask | described(DESCRIPTIONS["mask"], **of_mask),
        "magnitude": MAGNITUDE_FILE
        | {"combine_echoes": True}
        | described(DESCRIPTIONS["magnitude"], SkullStripped=False),
    }
    for image, names in FIELDS.items():
        saved[image] = names | field | described(DESCRIPTIONS[image], Units="Hz")
    if reduced_mask is not None:
        metadata_of_mask = described(DESCRIPTIONS["reduced_mask"], **of_mask)
        saved["reduced_mask"] = {**reduced_mask_name(reduced_mask), **mask, **metadata_of_mask}
    if with_r2star:
        saved["r2star"] = R2STAR | described(DESCRIPTIONS["r2star"], Units="1/s")
    for method in inversions:
        description = DESCRIPTIONS["chi"].format(method=method)
        saved[f"{method}_chi"] = susceptibility_map(method) | described(description, Units="ppm")
        if method in standard_errors:
            description = DESCRIPTIONS["chi_se"].format(method=method)
            saved[f"{method}_chi_se"] = susceptibility_error_map(method) | described(
                description, Units="ppm"
            )
    return saved


def _drawn_images(
    inversions: Sequence[str], windows: Mapping[str, tuple[float, float]]
) -> dict[str, dict[str, Any]]:
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
            "window": windows["local_field"],
            "unit": "ppm",
        },
    }
    for method in inversions:
        drawn[f"{method}_chi"] = {
            **susceptibility_map(method),
            "title": f"Susceptibility, {method}",
            "window": windows["chi"],
            "unit": "ppm",
        }
    return drawn


def _connect_maps_picture(workflow, inputnode, inversions, plot_maps, gigabytes):
    """Draw the maps of all inversions side by side."""
    maps = Node(Merge(len(inversions)), name="maps", mem_gb=gigabytes(0))
    plot = Node(plot_maps, name="plot_maps", mem_gb=gigabytes(8 + 3 * len(inversions)))
    for number, method in enumerate(inversions, start=1):
        workflow.connect(inputnode, f"{method}_chi_file", maps, f"in{number}")
    # fmt: off
    workflow.connect([
        (inputnode, plot, [("mask_file", "mask_file")]),
        (maps, plot, [("out", "chi_files")]),
    ])
    # fmt: on
