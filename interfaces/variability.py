"""Variability of maps between the scans of a subject."""

from itertools import compress
from pathlib import Path

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from ..core.variability import map_variability
from .images import read_volume, write_volume
from .registration import NOT_REGISTERED


class _MapVariabilityInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(
        traits.Str, mandatory=True, desc="maps in the subject space; empty: the scan is left out"
    )
    sites = traits.List(traits.Str, mandatory=True, desc="site of each scan")
    numbers = traits.List(traits.Int, mandatory=True, desc="number of each scan at its site")


class _MapVariabilityOutputSpec(TraitedSpec):
    within_file = File(desc="SD within sites; NaN if no site has two scans")
    across_file = File(desc="SD across sites; NaN if no scan number exists at two sites")


class MapVariability(SimpleInterface):
    """Compute the voxel-wise standard deviation of repeated maps, within and across sites."""

    input_spec = _MapVariabilityInputSpec
    output_spec = _MapVariabilityOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        is_registered = [path != NOT_REGISTERED for path in inputs.in_files]
        images = list(map(read_volume, compress(inputs.in_files, is_registered)))
        volumes = [volume for volume, _ in images]
        sites = list(compress(inputs.sites, is_registered))
        numbers = list(compress(inputs.numbers, is_registered))
        _, like = images[0]
        within, across = map_variability(volumes, sites, numbers)
        for name, deviation in {"within": within, "across": across}.items():
            if deviation is None:  # repetitions of a scan were not registered
                deviation = np.full(volumes[0].shape, np.nan)
            path = Path(runtime.cwd) / f"{name}.nii"
            self._results[f"{name}_file"] = write_volume(path, deviation, like)
        return runtime
