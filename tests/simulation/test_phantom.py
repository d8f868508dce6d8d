"""The calibration phantom: sizes, solutions and what a scan of it shows."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from multiqsm.simulation.acquisition import acquire
from multiqsm.simulation.grid import scan_affine
from multiqsm.simulation.phantom import (
    AIR,
    HEIGHT,
    RADIUS,
    TUBE_CIRCLE,
    TUBE_LENGTH,
    TUBE_RADIUS,
    TUBE_SUSCEPTIBILITY,
    label_names,
    phantom_model,
    solution,
    tube_centres,
)
from multiqsm.simulation.protocol import Protocol
from multiqsm.simulation.specimen import magnetize

SHAPE, VOXEL = (112, 111, 70), (2.0, 2.0, 3.0)


@pytest.fixture(scope="module")
def phantom():
    return phantom_model(SHAPE, scan_affine(SHAPE, VOXEL))


@pytest.mark.parametrize("label", range(1, 7))
def test_volume_of_a_tube(phantom, label):
    """1.8 cm by 20 cm, to the 8 % that whole voxels of 2 mm can be off at its rim."""
    volume = (phantom.labels == label).sum() * np.prod(VOXEL)
    assert volume == pytest.approx(np.pi * TUBE_RADIUS**2 * TUBE_LENGTH, rel=0.08)


def test_volume_of_the_water(phantom):
    """20 cm by 16 cm, tubes included: partial volumes sum to it within 0.5 %."""
    volume = phantom.region.sum() * np.prod(VOXEL)
    assert volume == pytest.approx(np.pi * RADIUS**2 * HEIGHT, rel=5e-3)


def test_each_tube_holds_its_solution(phantom):
    """Labels 1 to 6 in the order of the susceptibilities; away from their walls voxels are pure."""
    i, j, k = (a - (n - 1) / 2 for a, n in zip(np.indices(SHAPE), SHAPE, strict=True))
    for label, ((u, v), chi) in enumerate(
        zip(tube_centres(), TUBE_SUSCEPTIBILITY, strict=True), start=1
    ):
        core = (np.hypot(2 * i - u, 2 * j - v) < 6) & (np.abs(3 * k) < 90)
        assert np.all(phantom.labels[core] == label)
        np.testing.assert_allclose(phantom.chi[core], chi, atol=1e-5)
        np.testing.assert_allclose(phantom.r2s[core], solution(chi)["r2s"], rtol=1e-4)
    assert set(np.unique(phantom.labels)) == {0, *label_names()}


def test_tubes_stand_apart():
    centres = tube_centres()
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[np.triu_indices(6, 1)]
    assert gaps.min() > 4 * TUBE_RADIUS
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), TUBE_CIRCLE)


def test_relaxivity():
    """A solution is one concentration: susceptibility, R1 and R2 grow in proportion."""
    water = solution(0.0)
    single = solution(1.0)
    double = solution(2.0)
    assert double["r2s"] - water["r2s"] == pytest.approx(2 * (single["r2s"] - water["r2s"]))
    r1 = 1 / single["t1"] - 1 / water["t1"]
    assert 1 / double["t1"] - 1 / water["t1"] == pytest.approx(2 * r1)


def test_pose_moves_the_phantom():
    """Rotating phantom and image together changes nothing."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("zyx", [30, 20, 10], degrees=True).as_matrix()
    pose[:3, 3] = 5, -6, 7
    affine = scan_affine((30, 31, 20), (8, 7, 12))
    still, moved = (
        phantom_model((30, 31, 20), affine),
        phantom_model((30, 31, 20), pose @ affine, pose=pose),
    )
    np.testing.assert_allclose(moved.chi, still.chi, atol=1e-3)
    assert (moved.labels != still.labels).mean() < 1e-3  # voxels that a surface halves


@pytest.fixture(scope="module")
def scan():
    protocol = Protocol(
        (75, 72, 74), (3.0, 3.0, 2.5), (0.0026, 0.0066, 0.0106), repetition_time=0.03, flip_angle=30
    )
    affine = scan_affine(protocol.shape, protocol.voxel_size)
    specimen = magnetize(phantom_model, affine, protocol.shape)
    return acquire(specimen, protocol, seed=1)


def test_field_of_the_tubes(scan):
    """Along B0 a tube's own field is a third of its susceptibility, less 1 % for its ends."""
    shape = scan.labels.shape
    i, j, _ = (a - (n - 1) / 2 for a, n in zip(np.indices(shape), shape, strict=True))
    middle = np.zeros(shape, bool)
    middle[:, :, 32:42] = True
    ring = middle & (np.hypot(3 * i, 3 * j) < 20)  # water between the tubes
    for (u, v), chi in zip(tube_centres(), TUBE_SUSCEPTIBILITY, strict=True):
        core = middle & (np.hypot(3 * i - u, 3 * j - v) < 4)
        own = scan.local_field[core].mean() - scan.local_field[ring].mean()
        assert own == pytest.approx(chi / 3, abs=0.02 * 2.04 / 3)


def test_tubes_shine_in_the_water(scan):
    """Gadolinium shortens T1: at 30 degrees tubes are brighter than water, in the order of their
    content.
    """
    magnitude = np.abs(scan.signal[..., 0])
    means = [
        magnitude[(scan.labels == label) & (scan.chi > 0.9 * chi - 0.01) & scan.mask].mean()
        for label, chi in enumerate(TUBE_SUSCEPTIBILITY, start=1)
    ]
    assert np.all(np.diff(means[:4]) > 0)
    assert min(means[1:]) > 3 * means[0]


def test_truth_of_the_scan(scan):
    """Air stays at its susceptibility; the mask is the water and has the solutions' values."""
    assert scan.chi[0, 0, 0] == pytest.approx(AIR)
    assert not scan.mask[0, 0, 0]
    assert scan.chi[scan.mask].max() <= max(TUBE_SUSCEPTIBILITY) + 1e-4
