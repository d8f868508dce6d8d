"""How much maps vary between the scans of a subject."""

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
        traits.Str, mandatory=True, desc="maps in the subject space; empty: left out"
    )
    sites = traits.List(traits.Str, mandatory=True, desc="site of each")
    numbers = traits.List(traits.Int, mandatory=True, desc="number of each at its site")


class _MapVariabilityOutputSpec(TraitedSpec):
    within_file = File(desc="SD within sites; not-a-number where no site has two scans")
    across_file = File(
        desc="SD across sites; not-a-number where no scan number is there at two sites"
    )


class MapVariability(SimpleInterface):
    """Standard deviation of repeated maps, voxel by voxel, within and across sites."""

    input_spec = _MapVariabilityInputSpec
    output_spec = _MapVariabilityOutputSpec

    def _run_interface(self, runtime):
        inputs = self.inputs
        places = [place for place, path in enumerate(inputs.in_files) if path != NOT_REGISTERED]
        volumes = [read_volume(inputs.in_files[place]) for place in places]
        sites, numbers = (
            [named[place] for place in places] for named in (inputs.sites, inputs.numbers)
        )
        maps = map_variability([data for data, _ in volumes], sites, numbers)
        for name, deviation in zip(("within", "across"), maps, strict=True):
            if deviation is None:  # the scans that would repeat others were not registered
                deviation = np.full(volumes[0][0].shape, np.nan)
            path = Path(runtime.cwd) / f"{name}.nii"
            self._results[f"{name}_file"] = write_volume(path, deviation, volumes[0][1])
        return runtime
