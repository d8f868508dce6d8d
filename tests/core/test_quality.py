"""The sign of the phase is recognised from a map, and from the echoes alone."""

import numpy as np
import pytest
from helpers.analytic import centred_coordinates, iron_head, sphere_field

from multiqsm.bids_templates import load_template
from multiqsm.core.quality import (
    DEEP,
    SMALLEST_BRAIN,
    SMALLEST_DEEP,
    WRONG_SIGN,
    SignCheck,
    check_sign,
    clipped_skewness,
    coarse_mask,
    coarse_signal,
    quick_sign_check,
)

TIMES = (0.005, 0.012, 0.019)
SHAPE = (37, 42, 34)
VOXEL_SIZE = (3.2, 2.8, 3.5)
TILTED = (0.1736, 0, 0.9848)


def echoes(*, times=TIMES, b0_dir=TILTED, chi=0.2, radius=50, noise=2.0, seed=0, lesion_field=0):
    """Signal of a ball of brain with three balls of iron, above a ball of air; echoes last."""
    random = np.random.default_rng(seed)
    field, brain = iron_head(SHAPE, VOXEL_SIZE, b0_dir, chi=chi, radius=radius)
    air, _ = sphere_field(SHAPE, VOXEL_SIZE, b0_dir, radius=10, chi=9, center=(0, 30, -65))
    field = field + lesion_field + air
    signal = [100 * brain * np.exp((-20 + 2j * np.pi * 123.2 * field) * te + 0.4j) for te in times]
    return np.stack(signal, -1) + noise * (
        random.normal(size=(*SHAPE, 2 * len(times))).view(complex)
    )


def asymmetry(signal, times=TIMES, b0_dir=TILTED):
    return quick_sign_check(signal, times, VOXEL_SIZE, b0_dir=b0_dir).asymmetry


@pytest.mark.parametrize("times", [TIMES, (0.004, 0.009, 0.02, 0.024), (0.008, 0.02), (0.02,)])
@pytest.mark.parametrize("b0_dir", [(0, 0, 1), TILTED])
def test_sign_is_determined_from_the_echoes(times, b0_dir):
    signal = echoes(times=times, b0_dir=b0_dir)
    right = quick_sign_check(signal, times, VOXEL_SIZE, b0_dir=b0_dir)
    wrong = quick_sign_check(signal.conj(), times, VOXEL_SIZE, b0_dir=b0_dir)
    assert right.asymmetry > 0.5
    assert wrong.asymmetry == pytest.approx(-right.asymmetry, abs=0.02)
    assert (right.looks_wrong, wrong.looks_wrong) == (False, True)


def test_diamagnetic_balls_look_like_the_wrong_sign():
    assert quick_sign_check(echoes(chi=-0.2), TIMES, VOXEL_SIZE, b0_dir=TILTED).looks_wrong


@pytest.mark.parametrize("seed", range(4))
def test_ball_of_water_has_no_asymmetry(seed):
    assert abs(asymmetry(echoes(chi=0, seed=seed))) < 0.25


def test_one_strong_calcification_does_not_reverse_the_asymmetry():
    # -1 ppm, five times as far from the brain as the iron, and a tenth of its volume.
    lesion, _ = sphere_field(SHAPE, VOXEL_SIZE, TILTED, radius=4, chi=-1, center=(5, 22, 18))
    assert asymmetry(echoes(lesion_field=lesion)) > 0.25


def test_too_little_brain_has_no_asymmetry():
    assert asymmetry(echoes(radius=40)) is None  # 270 mL
    noise = np.random.default_rng(0).normal(size=(*SHAPE, 6)).view(complex)
    assert asymmetry(noise) is None
    assert not SignCheck(None).looks_wrong


def test_flat_piece_of_brain_has_no_asymmetry():
    # 490 mL, nearly all of it near the surface.
    x, y, z = centred_coordinates((60, 60, 16), (3, 3, 3))
    mask = (np.hypot(x, y) < 75) & (np.abs(z) < 14)
    field = np.random.default_rng(0).normal(size=mask.shape)
    assert check_sign(field, mask, (3, 3, 3), b0_dir=(0, 0, 1)).asymmetry is None


def test_echoes_are_judged_in_the_mask_of_the_user():
    field, brain = iron_head(SHAPE, VOXEL_SIZE, TILTED)
    space = {"voxel_size": VOXEL_SIZE, "b0_dir": TILTED}
    signal = echoes()
    for sign, phase in ((1, signal), (-1, signal.conj())):
        assert sign * quick_sign_check(phase, TIMES, mask=brain > 0.5, **space).asymmetry > 0.5
    small = sum(c**2 for c in centred_coordinates(SHAPE, VOXEL_SIZE)) < 40**2
    assert check_sign(field, small, **space).asymmetry is None
    eight_voxels = small & (field > np.sort(field[small])[-9])
    for mask in (small, brain > 1, eight_voxels):  # 270 mL, none, and eight voxels
        assert quick_sign_check(signal, TIMES, mask=mask, **space).asymmetry is None


def test_templates_have_the_limits_of_the_code():
    description = load_template("quality_table")["sign_asymmetry"]["Description"]
    limits = (
        f"{DEEP:g} mm",
        f"{SMALLEST_BRAIN / 1e3:g} mL",
        f"{SMALLEST_DEEP / 1e3:g} mL",
        f"{WRONG_SIGN:g}".replace("-", "−"),
    )
    for limit in limits:
        assert limit in description
    rules = [rule["Filter"] for rule in load_template("model_thalamus")["Exclude"]]
    assert f"sign_asymmetry < {WRONG_SIGN:g}" in rules


def test_asymmetry_changes_sign_with_the_field_and_does_not_depend_on_units():
    field, brain = iron_head(SHAPE, VOXEL_SIZE, TILTED)
    field = field + 1e-3 * np.random.default_rng(0).normal(size=SHAPE)

    def scaled_asymmetry(factor):
        return check_sign(factor * field, brain > 0.5, VOXEL_SIZE, b0_dir=TILTED).asymmetry

    right = scaled_asymmetry(1)
    assert right > 0.5
    assert scaled_asymmetry(-1) == pytest.approx(-right)
    assert scaled_asymmetry(123) == pytest.approx(right, rel=1e-3)


def test_skewness_of_known_distributions():
    random = np.random.default_rng(0)
    assert clipped_skewness(random.normal(size=100_000)) == pytest.approx(0, abs=0.05)
    # An exponential distribution is clipped at 5 x 1.4826 x 0.4812 above its median, ln 2.
    tail = np.clip(random.exponential(size=1_000_000), 0, np.log(2) + 5 * 1.4826 * 0.4812)
    expected = np.mean((tail - tail.mean()) ** 3) / tail.std() ** 3
    assert clipped_skewness(random.exponential(size=100_000)) == pytest.approx(expected, abs=0.05)
    values = random.gumbel(size=10_000)
    assert clipped_skewness(-3 * values + 7) == pytest.approx(-clipped_skewness(values))
    assert clipped_skewness(np.zeros(9)) == 0


def test_blocks_average_complex_signal():
    signal = np.exp(1j * np.linspace(0, 3, 6)).reshape(6, 1, 1) * np.ones((6, 2, 2))
    coarse, voxel_size = coarse_signal(signal, (1, 3, 4))
    assert voxel_size == (3, 3, 4)
    np.testing.assert_allclose(
        coarse[:, 0, 0], [signal[:3, 0, 0].mean(), signal[3:, 0, 0].mean()], rtol=1e-6
    )


def test_coarse_mask_has_the_blocks_that_are_mostly_filled():
    mask = np.zeros((6, 2, 2), bool)
    mask[:2] = True
    mask[3] = True
    assert coarse_mask(mask, (1, 3, 4)).tolist() == [[[True] * 2] * 2, [[False] * 2] * 2]
