"""The SD of repeated maps, voxel by voxel, as the 2015 study defines it within and across sites."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from multiqsm.core.variability import map_variability
from multiqsm.stats.reproducibility import imprecision

SHAPE = (3, 4, 2)


def maps_of(sites="ABC", numbers=(1, 2, 3), seed=0):
    """Return noise maps, with the site and the number of each."""
    random = np.random.default_rng(seed)
    keys = list(product(sites, numbers))
    maps = [random.normal(0, 0.02, SHAPE) for _ in keys]
    site_of_map, number_of_map = map(list, zip(*keys, strict=True))
    return maps, site_of_map, number_of_map


def test_a_hand_worked_voxel():
    """Site A has 1, 3, 5 (SD 2), site B 2, 2 (SD 0). Number 1 has 1, 2, number 2 has 3, 2 (SD 1/√2
    each), and number 3 only 5.
    """
    maps = [np.full((1, 1, 1), value) for value in (1.0, 3.0, 5.0, 2.0, 2.0)]
    within, across = map_variability(maps, list("AAABB"), [1, 2, 3, 1, 2])
    assert within.item() == pytest.approx(1)
    assert across.item() == pytest.approx(1 / np.sqrt(2))
    assert within.dtype == across.dtype == np.float32


def test_voxels_have_the_variability_that_the_statistics_give_regions():
    """Every voxel as a region of the table: the same definitions in other code."""
    maps, sites, numbers = maps_of()
    within, across = map_variability(maps, sites, numbers)
    scans = []
    for volume, site, number in zip(maps, sites, numbers, strict=True):
        scan = pd.DataFrame({"roi": np.arange(volume.size).astype(str), "mean": volume.ravel()})
        scans.append(
            scan.assign(
                subject="01", session=site, run=str(number), site=site, scan=number, method="m"
            )
        )
    table = imprecision(pd.concat(scans, ignore_index=True)).set_index("roi")
    table = table.loc[np.arange(within.size).astype(str)]
    np.testing.assert_allclose(within.ravel(), table["within"], rtol=1e-5)
    np.testing.assert_allclose(across.ravel(), table["cross"], rtol=1e-5)


def test_offset_of_a_site_or_a_scan_number_affects_one_of_the_two():
    maps, sites, numbers = maps_of()
    offset = {"A": 0, "B": 0.1, "C": -0.3}
    drift = {1: 0, 2: 0.2, 3: -0.1}
    within, across = map_variability(maps, sites, numbers)
    shifted = [m + offset[s] for m, s in zip(maps, sites, strict=True)]
    drifting = [m + drift[n] for m, n in zip(maps, numbers, strict=True)]
    np.testing.assert_allclose(map_variability(shifted, sites, numbers)[0], within, rtol=1e-5)
    np.testing.assert_allclose(map_variability(drifting, sites, numbers)[1], across, rtol=1e-5)
    assert (map_variability(shifted, sites, numbers)[1] > 0.1).all()


def test_values_that_are_nan_are_ignored():
    maps, sites, numbers = maps_of()
    complete = map_variability(maps, sites, numbers)
    maps[0][0] = np.nan  # A's first scan does not cover the first plane
    for volume in maps:
        volume[1, 0, 0] = np.nan  # and no scan covers this voxel
    incomplete = map_variability(maps, sites, numbers)
    without_first = map_variability(maps[1:], sites[1:], numbers[1:])
    for index in range(2):
        deviation = incomplete[index]
        np.testing.assert_allclose(deviation[0], without_first[index][0], rtol=1e-6)
        np.testing.assert_allclose(deviation[2], complete[index][2], rtol=1e-6)
        is_nan = np.isnan(deviation)
        assert is_nan[1, 0, 0]
        assert is_nan.sum() == 1


@pytest.mark.parametrize(
    ("sites", "numbers", "has_deviations"),
    [
        ("AA", (1, 2), (True, False)),
        ("AB", (1, 1), (False, True)),
        ("AB", (1, 2), (False, False)),
        ("A", (1,), (False, False)),
    ],
)
def test_no_map_without_repetition(sites, numbers, has_deviations):
    within, across = map_variability([np.zeros(SHAPE)] * len(sites), list(sites), list(numbers))
    assert (within is not None, across is not None) == has_deviations


def test_voxel_with_one_value_has_no_variability():
    within, across = map_variability([np.zeros(SHAPE), np.full(SHAPE, np.nan)], ["A", "A"], [1, 2])
    assert np.isnan(within).all()
    assert across is None


def test_bad_input():
    with pytest.raises(ValueError, match="2 maps, 2 sites and 1 numbers"):
        map_variability([np.zeros(SHAPE)] * 2, ["A", "B"], [1])
    with pytest.raises(ValueError, match="the same site and number"):
        map_variability([np.zeros(SHAPE)] * 2, ["A", "A"], [1, 1])
