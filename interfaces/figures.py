"""Pictures to judge a scan by."""

from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from nibabel import as_closest_canonical
from nibabel import load as load_image
from nipype.interfaces.base import BaseInterfaceInputSpec, File, SimpleInterface, TraitedSpec, isdefined, traits

from ..dataset.files import in_one_step
from ..dataset.labels import without_side
from ..dataset.outputs import derivative_path
from ..pictures.slices import region_figure

# Of the figure: nine planes, and the colour bar beside them.
PLACES = {"left": 0.01, "right": 0.87, "bottom": 0.01, "top": 0.95, "wspace": 0.02, "hspace": 0.02}
BAR = (0.895, 0.3, 0.02, 0.4)


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
    window_mask_file = File(exists=True, desc="where these percentiles are taken, if not in mask_file")
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
        image = as_closest_canonical(load_image(given.in_file))
        mask = as_closest_canonical(load_image(given.mask_file)).get_fdata(dtype=np.float32) > 0
        mask = mask if mask.any() else np.ones_like(mask)  # no region here: the middle of the whole image
        data = np.nan_to_num(image.get_fdata(dtype=np.float32))
        data = data[..., 0] if data.ndim == 4 else data
        measured = mask
        if isdefined(given.window_mask_file):
            measured = as_closest_canonical(load_image(given.window_mask_file)).get_fdata(dtype=np.float32) > 0
        window = given.window if isdefined(given.window) else np.percentile(data[measured], [1, 99])
        figure = plot_slices(data, mask, image.header.get_zooms()[:3], window, given.title, given.unit, given.outline)
        save_figure(figure, path)
        self._results["out_file"] = str(Path(path).absolute())
        return runtime


class _PlotRegionsInputSpec(BaseInterfaceInputSpec):
    chi_files = traits.List(traits.Str, mandatory=True, desc="map of each scan, ppm; empty: there is none")
    label_files = traits.List(traits.Str, mandatory=True, desc="regions of each, on the same grid")
    names = traits.List(traits.Dict, mandatory=True, desc="their names by label")
    excluded_files = traits.List(traits.Str, mandatory=True, desc="voxels that were left out of them")
    reference_files = traits.List(traits.Str, mandatory=True, desc="reference region on the same grid")
    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    entities = traits.Dict(mandatory=True, desc="entities of what is shown")
    suffix = traits.Str(mandatory=True, desc="BIDS suffix of what is shown")
    desc = traits.Str(mandatory=True, desc="BIDS desc entity of what is shown")
    space = traits.Str(mandatory=True, desc="BIDS space entity of what is shown")
    title = traits.Str(mandatory=True, desc="what the picture shows")


class _PlotRegionsOutputSpec(TraitedSpec):
    out_file = File(desc="the picture, PNG; nothing if no scan was measured")


class PlotRegions(SimpleInterface):
    """Draw regions, what was left out of them and the reference on the first map that was measured."""

    input_spec = _PlotRegionsInputSpec
    output_spec = _PlotRegionsOutputSpec
    _always_run = True  # as the derivatives that the picture stands beside

    def _run_interface(self, runtime):
        given = self.inputs
        named = {"suffix": given.suffix, "desc": given.desc, "space": given.space}
        path = derivative_path(given.output_dir, given.entities, **named, datatype="figures", extension=".png")
        files = (given.chi_files, given.label_files, given.excluded_files, given.reference_files)
        scans = zip(*files, given.names, strict=True)
        chosen = next((scan for scan in scans if all(scan)), None)
        if chosen is None:  # an earlier run may have had regions
            path.unlink(missing_ok=True)
            return runtime
        *paths, names = chosen
        images = [as_closest_canonical(load_image(file)) for file in paths]
        chi, labels, excluded, reference = (np.nan_to_num(image.get_fdata(dtype=np.float32)) for image in images)
        shown = _thalami_or_all(labels, names)
        if not shown.any():
            path.unlink(missing_ok=True)
            return runtime
        voxel_size = images[0].header.get_zooms()[:3]
        figure = region_figure(chi, shown, shown & (excluded > 0), reference > 0, voxel_size, title=given.title)
        save_figure(figure, path)
        self._results["out_file"] = str(path.absolute())
        return runtime


def _thalami_or_all(labels, names):
    """The thalamus, if it is one of the regions, else all of them."""
    thalami = np.isin(labels, [int(label) for label, name in names.items() if without_side(name) == "thalamus"])
    return thalami if thalami.any() else np.isin(labels, [int(label) for label in names])


def save_figure(figure, path):
    """Save a picture as PNG so that a reader never meets half of it; its folder is made if missing."""
    picture = BytesIO()  # a disk that is full is told plainly when bytes are written, and not by the drawing
    figure.savefig(picture, format="png", facecolor="black", dpi=100)
    with in_one_step(path) as partial:
        partial.write_bytes(picture.getvalue())


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
    # Places are given, not searched for: that takes longer than all the rest.
    figure = Figure(figsize=(9, 9))
    axes = figure.subplots(3, 3, gridspec_kw=PLACES)
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
    bar = figure.colorbar(drawn, cax=figure.add_axes(BAR))
    bar.set_label(unit, color="white")
    bar.ax.tick_params(colors="white")
    return figure
