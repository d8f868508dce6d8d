"""Pictures for the visual check of a scan, and the base of all nodes that draw a picture."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from ..core.grid import voxel_size_of
from ..dataset.files import atomic_write
from ..dataset.names import picture_path
from ..pictures.phantom import tubes_figure
from ..pictures.planes import CHI_WINDOW
from ..pictures.slices import DIFFERENCE_WINDOW, slices_figure, susceptibility_figure
from .base import names_by_label, none_if_undefined
from .images import read_canonical

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class PlotInputSpec(BaseInterfaceInputSpec):
    """Inputs from which the file name of a picture is made."""

    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    entities = traits.Dict(
        mandatory=True, desc="entities of the scan or subject, with their long names as keys"
    )
    suffix = traits.Str(mandatory=True, desc="BIDS suffix of the image that is shown")
    desc = traits.Str(desc="BIDS desc entity of the image that is shown")
    space = traits.Str(desc="BIDS space entity of the image that is shown")


class PlotOutputSpec(TraitedSpec):
    """File of the picture."""

    out_file = File(desc="the picture, PNG; undefined if there is nothing to show")


class PlotInterface(SimpleInterface):
    """Draw one picture and save it in the derivative dataset; the file is written atomically.

    Subclasses implement `draw`. If it returns None, the picture of an earlier run is removed.
    """

    input_spec = PlotInputSpec
    output_spec = PlotOutputSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def draw(self) -> Figure | None:
        """Return the figure, or None if there is nothing to show."""
        raise NotImplementedError

    def _run_interface(self, runtime):
        inputs = self.inputs
        path = picture_path(
            inputs.output_dir,
            inputs.entities,
            suffix=inputs.suffix,
            desc=none_if_undefined(inputs.desc),
            space=none_if_undefined(inputs.space),
        )
        figure = self.draw()
        if figure is None:
            path.unlink(missing_ok=True)
            return runtime
        # Draw to memory first: on a full disk, writing bytes raises an error that names the cause,
        # whereas Matplotlib's may hide it.
        picture = BytesIO()
        figure.savefig(picture, format="png", facecolor=figure.get_facecolor(), dpi=100)
        with atomic_write(path) as partial:
            partial.write_bytes(picture.getvalue())
        self._results["out_file"] = str(path.absolute())
        return runtime


class _PlotSlicesInputSpec(PlotInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image to show; the first volume of several")
    mask_file = File(exists=True, mandatory=True, desc="mask on which the planes are centred")
    title = traits.Str(mandatory=True, desc="title of the picture")
    window = traits.Tuple(
        traits.Float,
        traits.Float,
        desc="values shown in black and white; default: 1st and 99th percentile",
    )
    window_mask_file = File(
        exists=True, desc="mask in which the percentiles are computed; default: mask_file"
    )
    unit = traits.Str("", usedefault=True, desc="unit beside the colour bar")
    outline = traits.Bool(False, usedefault=True, desc="draw the mask's outline")


class PlotSlices(PlotInterface):
    """Draw three slices of an image in each of three planes, in radiological convention."""

    input_spec = _PlotSlicesInputSpec

    def draw(self) -> Figure:
        """Draw three slices in each of three planes."""
        inputs = self.inputs
        data, image = read_canonical(inputs.in_file)
        if data.ndim == 4:
            data = data[..., 0]
        mask = read_canonical(inputs.mask_file)[0] > 0
        if not mask.any():  # show the middle of the whole image
            mask = np.ones_like(mask)
        window_mask = mask
        if isdefined(inputs.window_mask_file):
            window_mask = read_canonical(inputs.window_mask_file)[0] > 0
        window = inputs.window
        if not isdefined(window):
            window = np.percentile(data[window_mask], [1, 99])
        voxel_size = voxel_size_of(image.affine)
        return slices_figure(
            data, mask, voxel_size, window, inputs.title, inputs.unit, inputs.outline
        )


class _PlotMapsInputSpec(PlotInputSpec):
    chi_files = traits.List(
        File(exists=True), mandatory=True, desc="map of the scan by each inversion, ppm"
    )
    mask_file = File(exists=True, mandatory=True, desc="brain mask; voxels outside are not shown")
    methods = traits.List(traits.Str, mandatory=True, desc="names of the inversions")
    window = traits.Tuple(
        CHI_WINDOW, usedefault=True, desc="values of the maps shown in black and white, ppm"
    )
    difference_window = traits.Tuple(
        DIFFERENCE_WINDOW, usedefault=True, desc="the same of the difference of two maps, ppm"
    )


class PlotMaps(PlotInterface):
    """Draw the susceptibility maps of a scan side by side, with the difference of two of them."""

    input_spec = _PlotMapsInputSpec

    def draw(self) -> Figure:
        """Draw the maps and the difference of two of them."""
        inputs = self.inputs
        mask, image = read_canonical(inputs.mask_file)
        files = zip(inputs.methods, inputs.chi_files, strict=True)
        maps = {method: read_canonical(file)[0] for method, file in files}
        return susceptibility_figure(
            maps,
            mask > 0,
            voxel_size_of(image.affine),
            window=inputs.window,
            difference_window=inputs.difference_window,
        )


class _PlotTubesInputSpec(PlotInputSpec):
    chi_files = traits.List(
        File(exists=True), mandatory=True, desc="a phantom scan's map of each inversion, ppm"
    )
    mask_file = File(exists=True, mandatory=True, desc="mask of the phantom")
    methods = traits.List(traits.Str, mandatory=True, desc="the inversions")
    label_file = File(exists=True, desc="the tubes on the same grid; undefined if none are drawn")
    names = traits.Dict(usedefault=True, desc="their names by label")
    expected = traits.Dict(
        usedefault=True, desc="expected susceptibility of those tubes for which it is known, ppm"
    )


class PlotTubes(PlotInterface):
    """Draw a phantom's maps in the plane through the strongest tube and another one, relative to
    the water; fewer than two tubes with expected susceptibility have no picture.
    """

    input_spec = _PlotTubesInputSpec

    def draw(self) -> Figure | None:
        """Draw the plane through two tubes; None without two labelled tubes."""
        inputs = self.inputs
        if not isdefined(inputs.label_file):
            return None
        mask, image = read_canonical(inputs.mask_file)
        labels, _ = read_canonical(inputs.label_file)
        names = names_by_label(inputs.names)
        present = set(np.unique(labels).tolist())
        expected = {}
        for label, name in names.items():
            if label in present and name in inputs.expected:
                expected[label] = inputs.expected[name]
        if len(expected) < 2:
            return None
        water = (mask > 0) & (labels == 0)
        maps = {}
        for method, file in zip(inputs.methods, inputs.chi_files, strict=True):
            chi, _ = read_canonical(file)
            maps[method] = chi - np.median(chi[water]) if water.any() else chi
        tubes = np.where(np.isin(labels, list(expected)), labels, 0).astype(np.int32)
        return tubes_figure(
            maps,
            mask > 0,
            tubes,
            voxel_size_of(image.affine),
            strongest=max(expected, key=expected.__getitem__),
        )
