"""Pictures for the visual check of a subject's registration, regions and lesions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from nipype.interfaces.base import File, traits

from ..core.grid import voxel_size_of
from ..core.registration.resampling import resample
from ..dataset.labels import without_side
from ..pictures.overlays import lesion_figure, region_figure, registration_figure
from ..pictures.planes import CHI_WINDOW
from ..pictures.slices import compare_maps_figure
from .base import names_by_label
from .figures import PlotInputSpec, PlotInterface
from .images import read_canonical, read_volume
from .registration import NOT_REGISTERED, read_transform

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class _PlotRegistrationInputSpec(PlotInputSpec):
    average_file = File(exists=True, mandatory=True, desc="mean magnitude in the subject space")
    mask_file = File(exists=True, mandatory=True, desc="brain mask in the subject space")
    magnitude_files = traits.List(File(exists=True), mandatory=True, desc="magnitude of each scan")
    transform_files = traits.List(
        traits.Str, mandatory=True, desc="subject space to each scan; empty: not registered"
    )
    titles = traits.List(traits.Str, mandatory=True, desc="title of each scan")


class PlotRegistration(PlotInterface):
    """Draw a checkerboard of each registered scan and the average; none of a single scan."""

    input_spec = _PlotRegistrationInputSpec

    def draw(self) -> Figure | None:
        """Draw the checkerboards; None for a single scan."""
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

    def draw(self) -> Figure | None:
        """Draw the maps side by side; None for a single site."""
        inputs = self.inputs
        first_files: dict[str, str] = {}
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


class PlotRegionsInputSpec(PlotInputSpec):
    """Inputs of pictures of regions on a susceptibility map."""

    chi_files = traits.List(
        traits.Str, mandatory=True, desc="map of each scan, ppm; empty if there is none"
    )
    label_files = traits.List(traits.Str, mandatory=True, desc="regions on the grid of each map")
    names = traits.List(traits.Dict, mandatory=True, desc="names of the regions by label")
    excluded_files = traits.List(
        traits.Str, mandatory=True, desc="voxels excluded from the regions"
    )
    reference_files = traits.List(
        traits.Str, mandatory=True, desc="reference region on the grid of each map"
    )
    title = traits.Str(mandatory=True, desc="title of the picture")


class PlotRegions(PlotInterface):
    """Draw regions, the voxels excluded from them and the reference on the first measured map."""

    input_spec = PlotRegionsInputSpec

    def draw(self) -> Figure | None:
        """Draw the regions on the first map that was measured; None if no scan has regions."""
        inputs = self.inputs
        scan = first_measured(inputs)
        if scan is None:
            return None
        *files, names = scan
        (chi, image), (labels, _), (excluded, _), (reference, _) = map(read_canonical, files)
        regions = thalamus_or_all(labels, names)
        if not regions.any():
            return None
        return region_figure(
            chi,
            regions,
            regions & (excluded > 0),
            reference > 0,
            voxel_size_of(image.affine),
            title=inputs.title,
        )


def first_measured(inputs: PlotRegionsInputSpec) -> tuple[str, str, str, str, dict] | None:
    """Choose the first scan that was measured.

    Parameters
    ----------
    inputs : PlotRegionsInputSpec
        Inputs of a node that draws regions.

    Returns
    -------
    tuple or None
        Files of the map, the regions, the excluded voxels and the reference, and the names of the
        regions; None if no scan was measured.
    """
    scans = zip(
        inputs.chi_files,
        inputs.label_files,
        inputs.excluded_files,
        inputs.reference_files,
        inputs.names,
        strict=True,
    )
    measured = filter(all, scans)  # scans with all files and with names of regions
    return next(measured, None)


def thalamus_or_all(labels: np.ndarray, names: Mapping[str, str] | Mapping[int, str]) -> np.ndarray:
    """Return the voxels of the thalamus if it is one of the regions, otherwise of all regions.

    Parameters
    ----------
    labels : ndarray
        Label image.
    names : dict of str
        Names of the regions by label.

    Returns
    -------
    ndarray of bool
    """
    names = names_by_label(names)
    thalamus_labels = [label for label, name in names.items() if without_side(name) == "thalamus"]
    thalamus = np.isin(labels, thalamus_labels)
    return thalamus if thalamus.any() else np.isin(labels, list(names))


class _PlotLesionsInputSpec(PlotInputSpec):
    flair_file = File(
        exists=True, mandatory=True, desc="FLAIR image in which the lesions were segmented"
    )
    mask_file = File(
        exists=True, mandatory=True, desc="all lesions, on the grid of the FLAIR image"
    )


class PlotLesions(PlotInterface):
    """Draw lesions on the FLAIR image."""

    input_spec = _PlotLesionsInputSpec

    def draw(self) -> Figure:
        """Draw the lesions on FLAIR."""
        flair, image = read_canonical(self.inputs.flair_file)
        lesions, _ = read_canonical(self.inputs.mask_file)
        return lesion_figure(flair, lesions > 0, voxel_size_of(image.affine))
