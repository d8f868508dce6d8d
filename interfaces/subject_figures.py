"""Pictures to judge by how a subject's scans were registered, and where regions and lesions lie."""

import numpy as np
from nipype.interfaces.base import File, traits

from ..core.grid import voxel_size_of
from ..core.registration.resampling import resample
from ..dataset.labels import without_side
from ..pictures.overlays import lesion_figure, region_figure, registration_figure
from ..pictures.planes import CHI_WINDOW
from ..pictures.slices import compare_maps_figure
from .figures import PlotInputSpec, PlotInterface
from .images import read_canonical, read_volume
from .registration import NOT_REGISTERED, read_transform


class _PlotRegistrationInputSpec(PlotInputSpec):
    average_file = File(exists=True, mandatory=True, desc="mean magnitude in the subject space")
    mask_file = File(exists=True, mandatory=True, desc="brain mask in the subject space")
    magnitude_files = traits.List(File(exists=True), mandatory=True, desc="magnitude of each scan")
    transform_files = traits.List(
        traits.Str, mandatory=True, desc="subject space to scan; empty: not registered"
    )
    titles = traits.List(traits.Str, mandatory=True, desc="what each scan is called")


class PlotRegistration(PlotInterface):
    """Draw each registered scan's magnitude and the average as a checkerboard; a single scan has no
    picture.
    """

    input_spec = _PlotRegistrationInputSpec

    def draw(self):  # noqa: D102
        inputs = self.inputs
        images = {}
        average, grid = read_canonical(inputs.average_file)
        scans = zip(inputs.titles, inputs.magnitude_files, inputs.transform_files, strict=True)
        for title, magnitude_file, transform_file in scans:
            if transform_file:
                magnitude, image = read_volume(magnitude_file)
                transform = read_transform(transform_file)
                images[title] = resample(
                    magnitude, image.affine, grid.affine, grid.shape, transform=transform, order=1
                )
        if len(inputs.titles) < 2 or not images:
            return None
        mask = read_canonical(inputs.mask_file)[0] > 0
        return registration_figure(average, images, voxel_size_of(grid.affine), mask=mask)


class _PlotSitesInputSpec(PlotInputSpec):
    chi_files = traits.List(
        traits.Str, mandatory=True, desc="map of each scan in the subject space, ppm; empty: none"
    )
    mask_file = File(exists=True, mandatory=True, desc="brain mask in the subject space")
    sites = traits.List(traits.Str, mandatory=True, desc="site of each scan")


class PlotSites(PlotInterface):
    """Draw the first registered map of each site side by side; a single site has no picture."""

    input_spec = _PlotSitesInputSpec

    def draw(self):  # noqa: D102
        inputs = self.inputs
        first_files = {}
        for site, file in zip(inputs.sites, inputs.chi_files, strict=True):
            if file != NOT_REGISTERED:
                first_files.setdefault(f"site {site}", file)
        if len(first_files) < 2:
            return None
        mask, image = read_canonical(inputs.mask_file)
        maps = {}
        for title, file in first_files.items():
            maps[title], _ = read_canonical(file)
        voxel_size = voxel_size_of(image.affine)
        return compare_maps_figure(maps, mask > 0, voxel_size, CHI_WINDOW, "ppm")


class _PlotRegionsInputSpec(PlotInputSpec):
    chi_files = traits.List(
        traits.Str, mandatory=True, desc="map of each scan, ppm; empty: there is none"
    )
    label_files = traits.List(traits.Str, mandatory=True, desc="regions of each, on the same grid")
    names = traits.List(traits.Dict, mandatory=True, desc="their names by label")
    excluded_files = traits.List(
        traits.Str, mandatory=True, desc="voxels that were left out of them"
    )
    reference_files = traits.List(
        traits.Str, mandatory=True, desc="reference region on the same grid"
    )
    title = traits.Str(mandatory=True, desc="what the picture shows")


class PlotRegions(PlotInterface):
    """Draw regions, what was left out of them and the reference on the first map that was
    measured.
    """

    input_spec = _PlotRegionsInputSpec

    def draw(self):  # noqa: D102
        inputs = self.inputs
        files = (
            inputs.chi_files,
            inputs.label_files,
            inputs.excluded_files,
            inputs.reference_files,
        )
        scans = zip(*files, inputs.names, strict=True)
        chosen = next((scan for scan in scans if all(scan)), None)
        if chosen is None:
            return None
        *paths, names = chosen
        (chi, image), (labels, _), (excluded, _), (reference, _) = (
            read_canonical(file) for file in paths
        )
        shown = _thalami_or_all(labels, names)
        if not shown.any():
            return None
        voxel_size = voxel_size_of(image.affine)
        return region_figure(
            chi, shown, shown & (excluded > 0), reference > 0, voxel_size, title=inputs.title
        )


def _thalami_or_all(labels, names):
    """The thalamus, if it is one of the regions, else all of them."""
    thalami = np.isin(
        labels, [int(label) for label, name in names.items() if without_side(name) == "thalamus"]
    )
    return thalami if thalami.any() else np.isin(labels, [int(label) for label in names])


class _PlotLesionsInputSpec(PlotInputSpec):
    flair_file = File(exists=True, mandatory=True, desc="the image that the lesions are seen in")
    mask_file = File(exists=True, mandatory=True, desc="all lesions, on the same grid")


class PlotLesions(PlotInterface):
    """Draw lesions on the FLAIR image."""

    input_spec = _PlotLesionsInputSpec

    def draw(self):  # noqa: D102
        flair, image = read_canonical(self.inputs.flair_file)
        lesions, _ = read_canonical(self.inputs.mask_file)
        return lesion_figure(flair, lesions > 0, voxel_size_of(image.affine))
