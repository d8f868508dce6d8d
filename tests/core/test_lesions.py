"""Lesions grown from seeds: their volume, seeds that do not grow, and the table."""

import numpy as np
import pandas as pd
import pytest

from multiqsm.core.regions.lesions import grow_lesions, lesion_table

VOXEL = (1.0, 1.0, 1.5)
SHAPE = (80, 80, 50)
TISSUE = 100.0
CORTEX = 120.0
LESION = 190.0


def coverage(centre, radius, *, shape=SHAPE, voxel_size=VOXEL):
    """Return the fraction of each voxel that a ball fills, by 64 samples in each voxel.

    The centre is in mm from the volume's middle.
    """
    middle = (np.array(shape) - 1) / 2
    index = np.moveaxis(np.indices(shape), 0, -1)
    total = np.zeros(shape)
    for corner in np.ndindex(4, 4, 4):
        within_voxel = (np.array(corner) + 0.5) / 4 - 0.5
        offset = (index - middle + within_voxel) * voxel_size - centre
        total += np.einsum("...i,...i", offset, offset) < radius**2
    return total / 64


def flair_of(balls, *, noise=3.0, seed=0):
    """Return a head of tissue in air with lesions, a cortex-like half and fluid in the middle."""
    head = coverage((0, 0, 0), 36)
    image = np.full(SHAPE, TISSUE)
    image[:, : SHAPE[1] // 2 - 12] = CORTEX
    for centre, radius in balls:
        fraction = coverage(centre, radius)
        image += fraction * (LESION - image)
    image[39:41] = 10
    rng = np.random.default_rng(seed)
    real = head * image + noise * rng.standard_normal(SHAPE)
    return np.hypot(real, noise * rng.standard_normal(SHAPE))


def voxel_of(point):
    return np.rint(np.divide(point, VOXEL) + (np.array(SHAPE) - 1) / 2).astype(int).tolist()


def volume(radius):
    return 4 / 3 * np.pi * radius**3 / 1000


BALLS = [((-18, 5, 0), 8.0), ((15, 12, 6), 4.0), ((20, -2, -12), 2.5), ((-12, -14, 10), 5.0)]


def test_volumes_are_those_of_the_balls():
    seeds = [voxel_of(centre) for centre, _ in BALLS]
    lesions, grown = grow_lesions(flair_of(BALLS), seeds, VOXEL)
    table, labels = lesion_table(lesions, np.diag([*VOXEL, 1]), seeds=seeds)
    assert grown.all()
    assert len(table) == len(BALLS) + 1
    expected = sorted((volume(radius) for _, radius in BALLS), reverse=True)
    np.testing.assert_allclose(table["volume"][:-1], expected, rtol=0.1)
    assert table["volume"].iloc[-1] == pytest.approx(sum(expected), rel=0.03)
    assert table["n_seeds"].tolist() == [1, 1, 1, 1, 4]
    assert set(np.unique(labels)) == set(range(5))


def test_shading_does_not_change_the_volume():
    x = np.linspace(-1, 1, SHAPE[0])[:, None, None]
    (centre, radius), *_ = BALLS
    shaded = flair_of(BALLS[:1]) * (1 + 0.4 * x)
    lesions, _ = grow_lesions(shaded, [voxel_of(centre)], VOXEL)
    assert lesions.sum() * np.prod(VOXEL) / 1000 == pytest.approx(volume(radius), rel=0.05)


def test_two_seeds_in_one_lesion_grow_the_same_lesion():
    (centre, _), *_ = BALLS
    seed = voxel_of(centre)
    peripheral_seed = voxel_of(np.add(centre, (4, -3, 2)))
    flair = flair_of(BALLS[:1])
    lesion, _ = grow_lesions(flair, [seed], VOXEL)
    lesion_of_two, _ = grow_lesions(flair, [peripheral_seed, seed], VOXEL)
    np.testing.assert_array_equal(lesion, lesion_of_two)
    table, _ = lesion_table(lesion_of_two, np.eye(4), seeds=[peripheral_seed, seed])
    assert table["n_seeds"].tolist() == [2, 2]


def test_a_seed_in_tissue_does_not_grow():
    flair = flair_of(BALLS[:1])
    lesion = voxel_of(BALLS[0][0])
    lesions, grown = grow_lesions(flair, [lesion, voxel_of((20, 10, 0)), [0, 0, 0]], VOXEL)
    assert grown.tolist() == [True, False, False]
    np.testing.assert_array_equal(lesions, grow_lesions(flair, [lesion], VOXEL)[0])


def test_without_seeds_there_are_no_lesions():
    lesions, grown = grow_lesions(flair_of([]), np.zeros((0, 3), int), VOXEL)
    assert not lesions.any()
    assert grown.size == 0
    table, _ = lesion_table(lesions, np.eye(4))
    assert table["lesion"].tolist() == ["total"]
    assert table["volume"].tolist() == [0.0]


def test_a_lesion_is_limited_by_the_reach():
    flair = np.zeros((60, 30, 30))
    flair[2:-2, 2:-2, 2:-2] = TISSUE
    flair[5:55, 12:18, 12:18] = LESION
    seed = [10, 15, 15]
    lesions, _ = grow_lesions(flair, [seed], (1, 1, 1), reach=20)
    assert np.argwhere(lesions)[:, 0].max() <= 30
    assert lesions[5:28, 15, 15].all()


def test_centres_and_order_of_the_table():
    """There are two lesions on an oblique grid, one of which is connected by a corner only."""
    affine = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, -3], [0, 0, 3.0, 7], [0, 0, 0, 1]])
    lesions = np.zeros((10, 10, 10), bool)
    lesions[1, 1, 1] = True
    lesions[4:6, 4:6, 4] = lesions[6, 6, 5] = True
    table, labels = lesion_table(lesions, affine)
    expected = pd.DataFrame(
        {"lesion": ["1", "2", "total"], "volume": [0.03, 0.006, 0.036], "n_voxels": [5, 1, 6]}
    )
    pd.testing.assert_frame_equal(table[["lesion", "volume", "n_voxels"]], expected)
    assert table.loc[1, ["x", "y", "z"]].tolist() == [3.0, -2.0, 10.0]
    assert labels[6, 6, 5] == 1
    assert labels[1, 1, 1] == 2
    assert table.loc[2, ["x", "y", "z"]].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"seeds": [[1, 1, 1], [80, 0, 0]]},
            r"seeds outside the image: 1 of 2, the first at voxel \[80, 0, 0\]",
        ),
        ({"fraction": 1.0}, "got 1"),
        ({"flair": np.full(SHAPE, np.nan)}, "not finite"),
    ],
)
def test_unusable_input_is_refused(change, message):
    arguments = {"flair": np.ones(SHAPE), "seeds": [[1, 1, 1]], "voxel_size": VOXEL} | change
    with pytest.raises(ValueError, match=message):
        grow_lesions(**arguments)
