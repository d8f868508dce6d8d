"""PDF removes the field of sources outside the mask and preserves that of sources inside."""

import numpy as np
import pytest
from helpers.analytic import GEOMETRIES, centred_coordinates, head, sphere_field

from multiqsm.core.background.projection import pdf


@GEOMETRIES
def test_outside_source_goes_and_inside_source_stays(shape, voxel_size, b0_dir):
    mask, core = head(shape, voxel_size)
    outside, _ = sphere_field(shape, voxel_size, b0_dir, radius=7, chi=9, center=(0, 34, -10))
    inside, _ = sphere_field(shape, voxel_size, b0_dir, radius=5, chi=0.1, center=(3, -4, 2))
    local = pdf(outside + inside, mask, voxel_size, b0_dir=b0_dir, tolerance=1e-3).local_field
    # PDF also removes about a tenth of the field of the source inside, as sources outside can
    # explain it.
    assert np.std((local - inside)[core]) < 0.2 * np.std(inside[core])
    assert np.std(outside[core]) > 5 * np.std(inside[core])
    assert not local[~mask].any()


def test_brain_that_touches_the_slab_ends():
    # The head is longer than the field of view: without padding the field wraps around.
    shape = (60, 60, 20)
    voxel_size = (1, 1, 2)
    mask, core = head(shape, voxel_size, radius=28)
    assert mask[:, :, 0].any()
    outside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=6, chi=9, center=(0, 10, 38))
    inside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=5, chi=0.1)
    core[:, :, [0, 1, -2, -1]] = False
    local = pdf(outside + inside, mask, voxel_size).local_field
    assert np.std((local - inside)[core]) < 0.2 * np.std(inside[core])


def test_noisy_voxels_have_little_influence():
    shape = (48, 48, 48)
    voxel_size = (1, 1, 1)
    mask, core = head(shape, voxel_size, radius=20)
    outside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=5, chi=9, center=(0, 26, 0))
    se = np.where(centred_coordinates(shape, voxel_size)[0] > 8, 1.0, 0.01).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, se).astype(np.float32)
    clean = core & (se < 0.1)
    weighted = pdf(outside + noise, mask, voxel_size, standard_error=se).local_field
    plain = pdf(outside + noise, mask, voxel_size).local_field
    assert np.std((weighted - noise)[clean]) < 0.5 * np.std((plain - noise)[clean])


def test_bad_input_is_refused():
    mask = np.ones((8, 8, 8), bool)
    with pytest.raises(ValueError, match="empty"):
        pdf(np.zeros((8, 8, 8)), ~mask, (1, 1, 1))
    with pytest.raises(ValueError, match="not finite"):
        pdf(np.full((8, 8, 8), np.nan), mask, (1, 1, 1))
    with pytest.raises(ValueError, match="positive"):
        pdf(np.zeros((8, 8, 8)), mask, (1, 1, 1), standard_error=np.zeros((8, 8, 8)))


def test_field_of_zero_needs_no_iteration():
    mask = np.zeros((12, 12, 12), bool)
    mask[3:9, 3:9, 3:9] = True
    removal = pdf(np.zeros((12, 12, 12)), mask, (1, 1, 1))
    assert removal.iterations == 0
    assert not removal.local_field.any()
