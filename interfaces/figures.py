"""Pictures to judge a scan by."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from nibabel import as_closest_canonical
from nibabel import load as load_image
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, isdefined, traits

from ..dataset.derivatives import derivative_path


class _PlotSlicesInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image to show; of several volumes the first")
    mask_file = File(exists=True, mandatory=True, desc="its outline is drawn, and the planes lie around it")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    entities = traits.Dict(mandatory=True, desc="entities of the scan, by their long names")
    suffix = traits.Str(mandatory=True, desc="BIDS suffix of what is shown")
    desc = traits.Str(desc="BIDS desc entity of what is shown")
    space = traits.Str(desc="BIDS space entity of what is shown")
    title = traits.Str(mandatory=True, desc="what the picture shows")
    window = traits.Tuple(traits.Float, traits.Float, desc="values shown black and white; 1st and 99th percentile")
    unit = traits.Str("", usedefault=True, desc="unit beside the colour bar")
    outline = traits.Bool(False, usedefault=True, desc="draw the mask's outline")


class _PlotSlicesOutputSpec(TraitedSpec):
    out_file = File(desc="the picture, PNG")


class PlotSlices(SimpleInterface):
    """Draw an image in three planes, three slices each, in radiological convention."""

    input_spec = _PlotSlicesInputSpec
    output_spec = _PlotSlicesOutputSpec
    _always_run = True  # as the derivatives that the picture stands beside

    def _run_interface(self, runtime):
        given = self.inputs
        path = derivative_path(
            given.output_dir,
            given.entities,
            suffix=given.suffix,
            desc=given.desc if isdefined(given.desc) else None,
            space=given.space if isdefined(given.space) else None,
            datatype="figures",
            extension=".png",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        image = as_closest_canonical(load_image(given.in_file))
        mask = as_closest_canonical(load_image(given.mask_file)).get_fdata(dtype=np.float32) > 0
        mask = mask if mask.any() else np.ones_like(mask)  # no region here: the middle of the whole image
        data = np.nan_to_num(image.get_fdata(dtype=np.float32))
        data = data[..., 0] if data.ndim == 4 else data
        window = given.window if isdefined(given.window) else np.percentile(data[mask], [1, 99])
        figure = plot_slices(data, mask, image.header.get_zooms()[:3], window, given.title, given.unit, given.outline)
        figure.savefig(path, facecolor="black", dpi=100)
        self._results["out_file"] = str(Path(path).absolute())
        return runtime


def plot_slices(data, mask, voxel_size, window, title, unit, outline):
    """Draw a volume in RAS+ orientation in three planes, at a third, half and two thirds of the mask's extent.

    Parameters
    ----------
    data : ndarray, shape (x, y, z)
    mask : ndarray of bool, shape (x, y, z)
    voxel_size : sequence of 3 floats
        Voxel size, mm.
    window : sequence of 2 floats
        Values shown black and white.
    title, unit : str
    outline : bool
        Draw the mask's outline.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots(3, 3)
    for row, plane in zip(axes, (2, 1, 0), strict=True):
        extent = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != plane)))
        rest = [v for axis, v in enumerate(voxel_size) if axis != plane]
        for axis, share in zip(row, (0.35, 0.5, 0.65), strict=True):
            index = extent[int(share * (extent.size - 1))]
            # Left of the picture is right of the patient, or the back of the head in sagittal planes.
            shown, inside = (np.take(v, index, axis=plane).T for v in (data, mask))
            flip = slice(None, None, 1 if plane == 0 else -1)
            drawn = axis.imshow(
                shown[:, flip], cmap="gray", vmin=window[0], vmax=window[1], origin="lower", aspect=rest[1] / rest[0]
            )
            if outline and inside.any() and not inside.all():
                axis.contour(inside[:, flip], [0.5], colors="tab:red", linewidths=0.8)
            axis.axis("off")
    figure.suptitle(title, color="white")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.4)
    bar.set_label(unit, color="white")
    bar.ax.tick_params(colors="white")
    return figure
