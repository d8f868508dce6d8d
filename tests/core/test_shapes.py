"""Arrays that are not on one grid are refused with their names and shapes."""

import numpy as np
import pytest

import multiqsm as qsm

SHAPE = (8, 9, 10)
OTHER = (9, 9, 10)  # numpy's errors speak of indices or operands


@pytest.fixture
def volume():
    return np.ones(SHAPE, np.float32)


@pytest.fixture
def mask():
    inside = np.zeros(SHAPE, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    return inside


def edges(shape=SHAPE):
    return np.zeros((3, *shape), bool)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (qsm.medi, {"edges": edges(), "period": 1.0}),
        (qsm.iterative, {"edges": edges()}),
        (qsm.tfi, {"edges": edges()}),
        (qsm.deterministic, {}),
        (qsm.divide_field, {}),
        (qsm.pdf, {}),
        (qsm.vsharp, {}),
        (qsm.sharp, {}),
        (qsm.high_pass, {}),
    ],
)
def test_field_on_another_grid(function, options, mask):
    message = r"field has the shape \(9, 9, 10\), but the mask \(8, 9, 10\)"
    with pytest.raises(ValueError, match=message):
        function(np.ones(OTHER), mask, (1, 1, 1), **options)


@pytest.mark.parametrize("function", [qsm.medi, qsm.iterative, qsm.tfi])
@pytest.mark.parametrize("shape", [(*SHAPE, 3), SHAPE, (3, *OTHER)])
def test_edges_of_another_shape(function, shape, volume, mask):
    message = r"edges has the shape \(.*it must be \(3, 8, 9, 10\)"
    options = {"period": 1.0} if function is qsm.medi else {}
    with pytest.raises(ValueError, match=message):
        function(volume, mask, (1, 1, 1), edges=np.zeros(shape, bool), **options)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (qsm.medi, "standard_error"),
        (qsm.tfi, "standard_error"),
        (qsm.pdf, "standard_error"),
        (qsm.vsharp, "standard_error"),
        (qsm.iterative, "data_weight"),
        (qsm.deterministic, "measured"),
    ],
)
def test_other_volumes_on_another_grid(function, name, volume, mask):
    options = {name: np.ones(OTHER, bool if name == "measured" else np.float32)}
    if function in (qsm.medi, qsm.tfi, qsm.iterative):
        options["edges"] = edges()
    if function is qsm.medi:
        options["period"] = 1.0
    with pytest.raises(ValueError, match=rf"{name} has the shape \(9, 9, 10\), but the mask"):
        function(volume, mask, (1, 1, 1), **options)


def test_echoes_that_are_not_combined_have_no_edges(mask):
    with pytest.raises(ValueError, match=r"magnitude has the shape \(8, 9, 10, 4\)"):
        qsm.edge_mask(np.ones((*SHAPE, 4)), mask)


def test_mask_with_a_fourth_axis(volume, mask):
    with pytest.raises(ValueError, match=r"mask has the shape \(8, 9, 10, 1\)"):
        qsm.deterministic(volume, mask[..., np.newaxis], (1, 1, 1))


@pytest.mark.parametrize("voxel_size", [1.0, (1, 1), (1, 1, 1, 0.006)])
def test_voxel_size_of_another_length(voxel_size, volume, mask):
    with pytest.raises(ValueError, match="voxel size must be three numbers in mm"):
        qsm.deterministic(volume, mask, voxel_size)


def test_echo_times_in_milliseconds(mask):
    echoes = np.ones((*SHAPE, 3), np.float32)
    message = r"in seconds, got \[6.0, 14.0, 22.0\]: divide milliseconds by 1000"
    with pytest.raises(ValueError, match=message):
        qsm.fit_field(echoes, echoes, [6, 14, 22], mask, centre_frequency=123.2)
    with pytest.raises(ValueError, match=message):
        qsm.fit_r2star(echoes, [6, 14, 22], mask)
