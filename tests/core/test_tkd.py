"""Thresholded k-space division: a ball's susceptibility, how much of it is lost, and what is
refused.
"""

import numpy as np
import pytest
from helpers.analytic import sphere_field

from multiqsm.core.inversion.closed_form import divide_field

SHAPE = (48, 44, 36)
VOXEL = (1.0, 1.2, 1.5)
TILTED = (0.3, -0.2, 0.93)


def ball_found(chi, *, threshold=0.2, b0_dir=TILTED):
    """Mean over the inside of a ball, less that over its surroundings, and the result."""
    field, share = sphere_field(SHAPE, VOXEL, b0_dir, radius=8, chi=chi)
    whole = np.ones(SHAPE, bool)
    found = divide_field(field, whole, VOXEL, b0_dir=b0_dir, threshold=threshold)
    return found.chi[share > 0.99].mean() - found.chi[share == 0].mean(), found


@pytest.mark.parametrize("b0_dir", [TILTED, (0, 0, 1)])
def test_a_ball_comes_out_too_low_the_more_so_the_higher_the_threshold(b0_dir):
    """In a share 1.7 t of all directions |D| is below t, and a part |D|/t of the source is found:
    half on average.

    The volume's faces cut the field off, which takes a few per cent more.
    """
    for threshold in (0.1, 0.2, 0.3):
        fraction, _ = ball_found(1.0, threshold=threshold, b0_dir=b0_dir)
        assert fraction == pytest.approx(1 - 0.87 * threshold, abs=0.06)


def test_it_is_linear_and_turns_with_the_field():
    one, _ = ball_found(1.0)
    assert ball_found(-0.3)[0] == pytest.approx(-0.3 * one, rel=1e-4)


def test_what_is_left_unexplained_is_less_with_a_lower_threshold():
    assert ball_found(1.0, threshold=0.05)[1].residual < ball_found(1.0, threshold=0.3)[1].residual


def test_nothing_outside_the_mask():
    field, _ = sphere_field(SHAPE, VOXEL, TILTED, radius=8, chi=1)
    mask = np.zeros(SHAPE, bool)
    mask[10:40, 8:36, 6:30] = True
    assert not divide_field(field, mask, VOXEL, b0_dir=TILTED).chi[~mask].any()


@pytest.mark.parametrize("threshold", [0, -0.1, 0.7])
def test_a_threshold_that_makes_no_sense_is_refused(threshold):
    with pytest.raises(ValueError, match="between 0 and 2/3"):
        divide_field(np.zeros((4, 4, 4)), np.ones((4, 4, 4), bool), VOXEL, threshold=threshold)
