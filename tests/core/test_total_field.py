"""Total field inversion preserves the tissue's own field, better than PDF."""

import numpy as np
import pytest
from helpers.analytic import centred_coordinates, sphere_field

from multiqsm.core.background.projection import pdf
from multiqsm.core.background.total_field import tfi
from multiqsm.core.inversion.morphology import medi
from multiqsm.core.inversion.regularization import edge_mask

TILTED = (0, 0.34, 0.94)
GEOMETRIES = pytest.mark.parametrize(
    ("shape", "voxel_size", "b0_dir"),
    [
        ((60, 60, 60), (1, 1, 1), (0, 0, 1)),
        ((59, 61, 33), (1, 1, 2), TILTED),
        ((40, 41, 31), (1.5, 1.5, 2), (1, 1, 1)),
    ],
)


def head_with_nuclei(shape, voxel_size, b0_dir, noise=0.002):
    """Analytic fields of two balls in a spherical head and of strong sources around it, and a
    magnitude.
    """
    r = np.sqrt(sum(c**2 for c in centred_coordinates(shape, voxel_size)))
    mask = r < 26
    inside = 0
    magnitude = 1.0
    chi = 0
    for center, value in (((9, -4, 2), 0.1), ((-9, 5, -3), 0.15)):
        field, fraction = sphere_field(
            shape, voxel_size, b0_dir, radius=6, chi=value, center=center
        )
        inside = inside + field
        magnitude = magnitude + 0.3 * fraction
        chi = chi + value * fraction
    outside = 0
    for center in ((0, 34, -10), (30, -20, 0)):
        outside = (
            outside + sphere_field(shape, voxel_size, b0_dir, radius=7, chi=9, center=center)[0]
        )
    rng = np.random.default_rng(0)
    total = inside + outside + rng.normal(0, noise, shape).astype(np.float32)
    edges = edge_mask(magnitude + rng.normal(0, 0.01, shape), mask)
    return total, inside, chi, mask, edges


@GEOMETRIES
def test_tissue_keeps_more_of_its_field_than_with_pdf(shape, voxel_size, b0_dir):
    total, inside, _, mask, edges = head_with_nuclei(shape, voxel_size, b0_dir, noise=0.0005)
    inverted = tfi(total, mask, voxel_size, b0_dir=b0_dir, edges=edges).local_field
    projected = pdf(total, mask, voxel_size, b0_dir=b0_dir).local_field
    assert np.std((inverted - inside)[mask]) < 0.65 * np.std((projected - inside)[mask])
    assert not inverted[~mask].any()


@GEOMETRIES
def test_nuclei_keep_their_susceptibility(shape, voxel_size, b0_dir):
    total, _, chi, mask, edges = head_with_nuclei(shape, voxel_size, b0_dir)
    local = tfi(total, mask, voxel_size, b0_dir=b0_dir, edges=edges).local_field
    inverted = medi(local, mask, voxel_size, b0_dir=b0_dir, edges=edges, medi_data="linear").chi
    tissue = mask & (chi == 0)
    for value in (0.1, 0.15):
        nucleus = np.abs(chi - value) < 1e-6
        assert inverted[nucleus].mean() - inverted[tissue].mean() == pytest.approx(value, rel=0.08)


def test_empty_head_stays_empty():
    # Without sources inside, the local field is noise, and none of the background is assigned to
    # susceptibility inside.
    shape = (48, 48, 48)
    voxel_size = (1, 1, 1)
    r = np.sqrt(sum(c**2 for c in centred_coordinates(shape, voxel_size)))
    mask = r < 20
    outside, _ = sphere_field(shape, voxel_size, (0, 0, 1), radius=5, chi=9, center=(0, 26, 0))
    noise = np.random.default_rng(0).normal(0, 0.002, shape).astype(np.float32)
    edges = np.zeros((3, *shape), bool)
    local = tfi(outside + noise, mask, voxel_size, edges=edges).local_field
    core = r < 15
    assert np.std((local - noise)[core]) < 0.5 * np.std(noise[core])
    assert np.std(outside[core]) > 10 * np.std(noise[core])


def test_unreliable_voxels_have_little_influence():
    total, inside, _, mask, edges = head_with_nuclei((60, 60, 60), (1, 1, 1), (0, 0, 1))
    unreliable = centred_coordinates(mask.shape, (1, 1, 1))[0] > 14
    noise = np.random.default_rng(1).normal(0, 0.3, mask.shape)
    total = total + np.where(unreliable, noise, 0).astype(np.float32)
    se = np.where(unreliable, 0.3, 0.002).astype(np.float32)
    weighted = tfi(total, mask, (1, 1, 1), edges=edges, standard_error=se).local_field
    plain = tfi(total, mask, (1, 1, 1), edges=edges).local_field
    good = mask & ~unreliable
    assert np.std((weighted - inside)[good]) < 0.5 * np.std((plain - inside)[good])


def test_bad_input_is_refused():
    mask = np.ones((8, 8, 8), bool)
    edges = np.zeros((3, *mask.shape), bool)
    with pytest.raises(ValueError, match="empty"):
        tfi(np.zeros(mask.shape), ~mask, (1, 1, 1), edges=edges)
    with pytest.raises(ValueError, match="not finite"):
        tfi(np.full(mask.shape, np.nan), mask, (1, 1, 1), edges=edges)
