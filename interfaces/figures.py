"""Pictures to judge a scan by; what a node needs to draw one."""

from io import BytesIO

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
from ..pictures.slices import slices_figure, susceptibility_figure
from .images import read_canonical
from .regions import names_by_label


class PlotInputSpec(BaseInterfaceInputSpec):
    """Inputs that name a picture."""

    output_dir = traits.Directory(mandatory=True, desc="root of the derivative dataset")
    entities = traits.Dict(
        mandatory=True, desc="entities of the scan or subject, by their long names"
    )
    suffix = traits.Str(mandatory=True, desc="BIDS suffix of what is shown")
    desc = traits.Str(desc="BIDS desc entity of what is shown")
    space = traits.Str(desc="BIDS space entity of what is shown")


class PlotOutputSpec(TraitedSpec):
    """The picture's file."""

    out_file = File(desc="the picture, PNG; nothing if there is nothing to show")


class PlotInterface(SimpleInterface):
    """Draw one picture into the derivative dataset, so that a reader never meets half of it.

    What is drawn is the figure that `draw` returns. If it returns None, the picture of an earlier
    run is removed.
    """

    input_spec = PlotInputSpec
    output_spec = PlotOutputSpec
    _always_run = True  # as the derivatives that the picture stands beside

    def draw(self):
        """Draw the figure; None if there is nothing to show."""
        raise NotImplementedError

    def _run_interface(self, runtime):
        inputs = self.inputs
        named = {
            name: getattr(inputs, name)
            for name in ("desc", "space")
            if isdefined(getattr(inputs, name))
        }
        path = picture_path(inputs.output_dir, inputs.entities, suffix=inputs.suffix, **named)
        figure = self.draw()
        if figure is None:
            path.unlink(missing_ok=True)
            return runtime
        # a disk that is full is told plainly when bytes are written, and not by the drawing
        picture = BytesIO()
        figure.savefig(picture, format="png", facecolor=figure.get_facecolor(), dpi=100)
        with atomic_write(path) as partial:
            partial.write_bytes(picture.getvalue())
        self._results["out_file"] = str(path.absolute())
        return runtime


class _PlotSlicesInputSpec(PlotInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image to show; of several volumes the first")
    mask_file = File(
        exists=True, mandatory=True, desc="its outline is drawn, and the planes lie around it"
    )
    title = traits.Str(mandatory=True, desc="what the picture shows")
    window = traits.Tuple(
        traits.Float, traits.Float, desc="values shown black and white; 1st and 99th percentile"
    )
    window_mask_file = File(
        exists=True, desc="where these percentiles are taken, if not in mask_file"
    )
    unit = traits.Str("", usedefault=True, desc="unit beside the colour bar")
    outline = traits.Bool(False, usedefault=True, desc="draw the mask's outline")


class PlotSlices(PlotInterface):
    """Draw an image in three planes, three slices each, in radiological convention."""

    input_spec = _PlotSlicesInputSpec

    def draw(self):  # noqa: D102
        inputs = self.inputs
        data, image = read_canonical(inputs.in_file)
        data = data[..., 0] if data.ndim == 4 else data
        mask = read_canonical(inputs.mask_file)[0] > 0
        # no region here: the middle of the whole image
        mask = mask if mask.any() else np.ones_like(mask)
        measured = (
            read_canonical(inputs.window_mask_file)[0] > 0
            if isdefined(inputs.window_mask_file)
            else mask
        )
        window = (
            inputs.window if isdefined(inputs.window) else np.percentile(data[measured], [1, 99])
        )
        voxel_size = voxel_size_of(image.affine)
        return slices_figure(
            data, mask, voxel_size, window, inputs.title, inputs.unit, inputs.outline
        )


class _PlotMapsInputSpec(PlotInputSpec):
    chi_files = traits.List(
        File(exists=True), mandatory=True, desc="a scan's map of each inversion, ppm"
    )
    mask_file = File(exists=True, mandatory=True, desc="brain mask; what is shown")
    methods = traits.List(traits.Str, mandatory=True, desc="the inversions")


class PlotMaps(PlotInterface):
    """Draw the susceptibility maps of a scan side by side, and their difference if there are
    two.
    """

    input_spec = _PlotMapsInputSpec

    def draw(self):  # noqa: D102
        inputs = self.inputs
        mask, image = read_canonical(inputs.mask_file)
        files = zip(inputs.methods, inputs.chi_files, strict=True)
        maps = {method: read_canonical(file)[0] for method, file in files}
        return susceptibility_figure(maps, mask > 0, voxel_size_of(image.affine))


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

    def draw(self):  # noqa: D102
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
