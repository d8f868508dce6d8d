"""Tests of the interfaces of the inversions."""

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import ball_in_head

from multiqsm.interfaces.images import write_volume
from multiqsm.interfaces.inversion import INTERFACES

VOXEL_SIZE = (2, 2, 2)
NOISE = 0.004  # ppm


@pytest.mark.parametrize("method", ["deterministic", "iterative"])
def test_discrepancy_principle_counts_noise_where_the_field_has_weight(method, tmp_path):
    """A phantom's walls have no valid field: they are part of neither residual nor noise."""
    field, mask, magnitude, _, _ = ball_in_head(VOXEL_SIZE, (0, 0, 1), 0, radius=10.0, head=48.0)
    rng = np.random.default_rng(0)
    standard_error = np.full(mask.shape, NOISE)
    standard_error[rng.random(mask.shape) < 0.1] = np.inf
    like = nib.Nifti1Image(field.astype(np.float32), np.diag([*VOXEL_SIZE, 1]))
    files = {}
    volumes = {
        "local_field": field + rng.normal(0, NOISE, field.shape),
        "standard_error": standard_error,
        "mask": mask,
        "magnitude": magnitude[..., None],
    }
    for name, volume in volumes.items():
        files[f"{name}_file"] = write_volume(tmp_path / f"{name}.nii", volume, like)
    interface = INTERFACES[method](lambda_rule="discrepancy", provenance={})
    for name, path in files.items():
        if name in interface.inputs.copyable_trait_names():
            setattr(interface.inputs, name, path)
    record = interface.run(cwd=str(tmp_path)).outputs.record
    assert record.residual == pytest.approx(NOISE, rel=0.05)
