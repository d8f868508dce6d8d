"""A map, and the echoes before there is one, tell whether the phase has the right sign."""

import numpy as np
import pytest
from analytic import iron_head, sphere_field

from multiqsm.core.quality import coarse_signal, quick_sign_asymmetry, sign_asymmetry

TIMES = (0.005, 0.012, 0.019)
SHAPE, VOXEL_SIZE = (37, 42, 34), (3.2, 2.8, 3.5)
TILTED = (0.1736, 0, 0.9848)


def echoes(*, times=TIMES, b0_dir=TILTED, chi=0.2, radius=50, noise=2.0, seed=0):
    """Complex signal of a ball of brain with three balls of iron in it, above a ball of air, echoes last."""
    random = np.random.default_rng(seed)
    field, brain = iron_head(SHAPE, VOXEL_SIZE, b0_dir, chi=chi, radius=radius)
    field = field + sphere_field(SHAPE, VOXEL_SIZE, b0_dir, radius=10, chi=9, center=(0, 30, -65))[0]
    signal = [100 * brain * np.exp((-20 + 2j * np.pi * 123.2 * field) * te + 0.4j) for te in times]
    return np.stack(signal, -1) + noise * (random.normal(size=(*SHAPE, 2 * len(times))).view(complex))


@pytest.mark.parametrize("times", [TIMES, (0.004, 0.009, 0.02, 0.024), (0.008, 0.02), (0.02,)])
@pytest.mark.parametrize("b0_dir", [(0, 0, 1), TILTED])
def test_sign_is_told_from_the_echoes(times, b0_dir):
    signal = echoes(times=times, b0_dir=b0_dir)
    right = quick_sign_asymmetry(signal, times, VOXEL_SIZE, b0_dir=b0_dir)
    wrong = quick_sign_asymmetry(signal.conj(), times, VOXEL_SIZE, b0_dir=b0_dir)
    assert right > 0.2
    assert wrong == pytest.approx(-right, abs=0.02)


def test_diamagnetic_balls_look_like_the_wrong_sign():
    assert quick_sign_asymmetry(echoes(chi=-0.2), TIMES, VOXEL_SIZE, b0_dir=TILTED) < 0


def test_too_little_brain_tells_nothing():
    assert quick_sign_asymmetry(echoes(radius=40), TIMES, VOXEL_SIZE, b0_dir=TILTED) is None  # 270 mL
    noise = np.random.default_rng(0).normal(size=(*SHAPE, 6)).view(complex)
    assert quick_sign_asymmetry(noise, TIMES, VOXEL_SIZE, b0_dir=TILTED) is None


def test_asymmetry_of_a_map_turns_with_its_sign_and_knows_no_reference():
    chi = np.random.default_rng(0).gumbel(size=(30, 30, 30))  # its tail of high values is the longer
    mask = np.ones(chi.shape, bool)
    found = sign_asymmetry(chi, mask, (2, 2, 2))
    assert found > 0.2
    assert sign_asymmetry(-chi, mask, (2, 2, 2)) == pytest.approx(-found)
    assert sign_asymmetry(3 * chi + 7, mask, (2, 2, 2)) == pytest.approx(found)
    assert sign_asymmetry(np.ones(chi.shape), mask, (2, 2, 2)) == 0


def test_blocks_average_complex_signal():
    signal = np.exp(1j * np.linspace(0, 3, 6)).reshape(6, 1, 1) * np.ones((6, 2, 2))
    coarse, voxel_size = coarse_signal(signal, (1, 3, 4))
    assert voxel_size == (3, 3, 4)
    np.testing.assert_allclose(coarse[:, 0, 0], [signal[:3, 0, 0].mean(), signal[3:, 0, 0].mean()], rtol=1e-6)
