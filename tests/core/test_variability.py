"""The SD of repeated maps, voxel by voxel, as the 2015 study defines it within and across sites."""

import numpy as np
import pandas as pd
import pytest

from multiqsm.core.variability import map_variability
from multiqsm.stats.reproducibility import imprecision

SHAPE = (3, 4, 2)


def maps_of(sites="ABC", numbers=(1, 2, 3), seed=0):
    random = np.random.default_rng(seed)
    keys = [(site, number) for site in sites for number in numbers]
    return [random.normal(0, 0.02, SHAPE) for _ in keys], [s for s, _ in keys], [n for _, n in keys]


def test_a_hand_worked_voxel():
    """Site A: 1, 3, 5 (SD 2); site B: 2, 2 (SD 0). By number: 1, 2 and 3, 2 (each 1/√2); 5 is
    alone.
    """
    values, sites, numbers = [1.0, 3.0, 5.0, 2.0, 2.0], list("AAABB"), [1, 2, 3, 1, 2]
    within, across = map_variability([np.full((1, 1, 1), v) for v in values], sites, numbers)
    assert within.item() == pytest.approx(1)
    assert across.item() == pytest.approx(1 / np.sqrt(2))
    assert within.dtype == across.dtype == np.float32


def test_voxels_have_what_the_statistics_give_regions():
    """Every voxel as a region of the table: the same definitions by other code."""
    maps, sites, numbers = maps_of()
    within, across = map_variability(maps, sites, numbers)
    rows = [
        {
            "subject": "01",
            "session": s,
            "run": str(n),
            "site": s,
            "scan": n,
            "method": "m",
            "roi": str(i),
            "mean": v,
        }
        for m, s, n in zip(maps, sites, numbers, strict=True)
        for i, v in enumerate(m.ravel())
    ]
    found = (
        imprecision(pd.DataFrame(rows)).set_index("roi").loc[[str(i) for i in range(within.size)]]
    )
    np.testing.assert_allclose(within.ravel(), found["within"], rtol=1e-5)
    np.testing.assert_allclose(across.ravel(), found["cross"], rtol=1e-5)


def test_constants_of_a_site_or_a_scan_number_are_seen_by_one_of_the_two():
    maps, sites, numbers = maps_of()
    offset, drift = {"A": 0, "B": 0.1, "C": -0.3}, {1: 0, 2: 0.2, 3: -0.1}
    within, across = map_variability(maps, sites, numbers)
    shifted = [m + offset[s] for m, s in zip(maps, sites, strict=True)]
    drifting = [m + drift[n] for m, n in zip(maps, numbers, strict=True)]
    np.testing.assert_allclose(map_variability(shifted, sites, numbers)[0], within, rtol=1e-5)
    np.testing.assert_allclose(map_variability(drifting, sites, numbers)[1], across, rtol=1e-5)
    assert (map_variability(shifted, sites, numbers)[1] > 0.1).all()


def test_what_is_not_known_is_left_out_where_it_is_not_known():
    maps, sites, numbers = maps_of()
    whole = map_variability(maps, sites, numbers)
    maps[0][0] = np.nan  # A's first scan does not reach the first plane
    for m in maps:
        m[1, 0, 0] = np.nan  # nor any scan this voxel
    part = map_variability(maps, sites, numbers)
    without = map_variability(maps[1:], sites[1:], numbers[1:])
    for found, all_known, one_less in zip(part, whole, without, strict=True):
        np.testing.assert_allclose(found[0], one_less[0], rtol=1e-6)
        np.testing.assert_allclose(found[2], all_known[2], rtol=1e-6)
        assert np.isnan(found[1, 0, 0])
        assert np.isfinite(np.delete(found.ravel(), np.ravel_multi_index((1, 0, 0), SHAPE))).all()


@pytest.mark.parametrize(
    ("sites", "numbers", "known"),
    [
        ("AA", (1, 2), (True, False)),
        ("AB", (1, 1), (False, True)),
        ("AB", (1, 2), (False, False)),
        ("A", (1,), (False, False)),
    ],
)
def test_no_map_where_nothing_was_repeated(sites, numbers, known):
    found = map_variability([np.zeros(SHAPE)] * len(sites), list(sites), list(numbers))
    assert tuple(deviation is not None for deviation in found) == known


def test_one_map_known_in_a_voxel_gives_no_number_there():
    within, across = map_variability([np.zeros(SHAPE), np.full(SHAPE, np.nan)], ["A", "A"], [1, 2])
    assert np.isnan(within).all()
    assert across is None


def test_bad_input():
    with pytest.raises(ValueError, match="2 maps, 2 sites and 1 numbers"):
        map_variability([np.zeros(SHAPE)] * 2, ["A", "B"], [1])
    with pytest.raises(ValueError, match="the same site and number"):
        map_variability([np.zeros(SHAPE)] * 2, ["A", "A"], [1, 1])
