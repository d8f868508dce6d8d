"""Transformations by hand, in their order, and the ladder that finds the power that values were
made with.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from multiqsm.stats.transformations import (
    Transformation,
    apply_transformations,
    ladder_of_powers,
    power,
)


def step(name, column="x", output="y", **options):
    return Transformation(name, column, output, options)


@pytest.mark.parametrize(
    ("transformation", "expected"),
    [
        (step("Log"), [0, np.log(4), np.nan]),
        (step("Sqrt"), [1, 2, np.nan]),
        (step("Reciprocal"), [1, 0.25, np.nan]),
        (step("Power", Value=2), [1, 16, np.nan]),
        (step("Power", Value=-0.5), [1, 0.5, np.nan]),
        (step("Power", Value=0), [0, np.log(4), np.nan]),
        (step("Center"), [-1.5, 1.5, np.nan]),
        (step("Center", Value=2), [-1, 2, np.nan]),
        (step("Scale"), [-np.sqrt(0.5), np.sqrt(0.5), np.nan]),
    ],
)
def test_by_hand(transformation, expected):
    table, _, problems = apply_transformations(
        pd.DataFrame({"x": [1.0, 4.0, np.nan]}), [transformation]
    )
    assert problems == {}
    np.testing.assert_allclose(table["y"], expected)


def test_levels_become_columns():
    table = pd.DataFrame({"sex": ["M", "F", None, "M"], "stage": [1.0, 2.0, 2.5, 1.0]})
    transformed, _, _ = apply_transformations(
        table, [step("Factor", "sex", "sex"), step("Factor", "stage", "s")]
    )
    assert list(transformed.columns) == ["sex", "stage", "sex.F", "sex.M", "s.1", "s.2", "s.2.5"]
    np.testing.assert_array_equal(transformed["sex.M"], [1, 0, np.nan, 1])


def test_later_ones_see_earlier_ones():
    steps = [step("Log", "x", "log"), step("Center", "log", "centred")]
    table, _, _ = apply_transformations(pd.DataFrame({"x": np.exp([1.0, 3.0])}), steps)
    np.testing.assert_allclose(table["centred"], [-1, 1])


@pytest.mark.parametrize(
    ("steps", "output", "cause"),
    [
        ([step("Log", "weight")], "y", "no column weight; there are x, sex"),
        ([step("Log")], "y", r"the logarithm of x is not defined for 0 \(b\): choose another"),
        ([step("Reciprocal")], "y", "the power -1 of x is not defined for 0"),
        ([step("Scale", "one")], "y", "it is constant"),
        ([step("Sqrt", "sex")], "y", "it holds texts: code them as numbers by Factor"),
        ([step("Factor", "one", "one")], "one", "it has 1 level"),
        ([step("Center", output="sex")], "sex", "there is a column sex already"),
        ([step("Ladder")], "y", "needs 20 values, not 3"),
        ([step("Log", output="z"), step("Scale", "z")], "y", "z could not be computed: Log of x"),
    ],
)
def test_what_cannot_be_made_is_named_and_stops_nothing(steps, output, cause):
    table = pd.DataFrame({"x": [1.0, 0.0, 2.0], "sex": list("FMF"), "one": 1.0}, index=list("abc"))
    transformed, _, problems = apply_transformations(
        table, [*steps, step("Center", "x", "centred")]
    )
    assert "centred" in transformed
    with pytest.raises(ValueError, match=cause):
        raise ValueError(problems[output])


def test_powers_of_negative_values():
    values = pd.Series([-2.0, 2.0], name="x")
    np.testing.assert_allclose(power(values, 2), [4, 4])
    np.testing.assert_allclose(power(values, -1), [-0.5, 0.5])
    with pytest.raises(ValueError, match=r"the power 0\.5 of x is not defined for -2"):
        power(values, 0.5)


@pytest.mark.parametrize("exponent", [-3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0])
def test_ladder_finds_the_power(exponent):
    """Values whose power is normal, to the quantile: no other rung comes closer to normality."""
    normal = 20 + 4 * stats.norm.ppf((np.arange(300) + 0.5) / 300)
    values = np.exp(normal / 4) if exponent == 0 else normal ** (1 / exponent)
    table = ladder_of_powers(pd.Series(values, name="x"))
    assert table.loc[table["chosen"], "power"].item() == exponent
    row = table[table["chosen"]].iloc[0]
    chi2, p = stats.normaltest(normal)
    assert (row["chi2"], row["p"], row["n"]) == (
        pytest.approx(chi2, abs=1e-9),
        pytest.approx(p),
        300,
    )


def test_ladder_of_log_normal_values_is_applied_on_request():
    values = pd.DataFrame({"x": np.exp(np.random.default_rng(0).normal(2, 1, 95))})
    values.loc[3, "x"] = np.nan
    table, ladders, problems = apply_transformations(values, [step("Ladder")])
    assert problems == {}
    assert ladders.loc[ladders["chosen"], "formula"].item() == "log x"
    assert ladders["n"].eq(94).all()
    np.testing.assert_allclose(table["y"], np.log(values["x"]))


def test_ladder_leaves_powers_out_that_change_the_order():
    rng = np.random.default_rng(0)
    signed = ladder_of_powers(pd.Series(rng.normal(0, 1, 50), name="x"))
    assert signed.loc[signed["chi2"].notna(), "power"].tolist() == [1, 3]
    notes = signed.set_index("power")["note"]
    assert notes[2.0] == "changes the order of negative values"
    assert notes[0.5] == notes[0.0] == "not defined for negative values"
    assert notes[[1.0, 3.0]].isna().all()
    zeros = ladder_of_powers(pd.Series(np.append(rng.exponential(1, 50), 0), name="x"))
    assert zeros.loc[zeros["chi2"].notna(), "power"].tolist() == [0.5, 1, 2, 3]
    assert set(zeros.loc[zeros["power"] <= 0, "note"]) == {"not defined for zero"}


def test_ladder_of_constant_values():
    with pytest.raises(ValueError, match="x is constant"):
        ladder_of_powers(pd.Series(np.ones(30), name="x"))
