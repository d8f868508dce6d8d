"""Quantile-normal plots show each power of the ladder that is defined."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from multiqsm.pictures.regressions import ladder_figure
from multiqsm.stats.transformations import ladder_of_powers


def test_panels_hold_ordered_values_on_normal_quantiles():
    values = pd.Series(np.exp(np.random.default_rng(0).normal(2, 1, 95)), name="lesions")
    values.iloc[7] = np.nan
    ladder = ladder_of_powers(values)
    axes = ladder_figure(values, ladder).axes
    assert len(axes) == 9
    chosen = axes[4]
    assert chosen.get_title(loc="left").startswith("log x")
    points = chosen.lines[0]
    (theoretical, ordered), _ = stats.probplot(np.log(values.dropna()))
    np.testing.assert_allclose(points.get_ydata(), ordered)
    # Two conventions of plotting positions, which differ by less than half a rank.
    np.testing.assert_allclose(points.get_xdata(), theoretical, atol=0.2)
    assert points.get_color() != axes[0].lines[0].get_color()


def test_powers_that_are_not_defined_have_no_panel():
    values = pd.Series(np.append(np.random.default_rng(0).exponential(1, 50), 0), name="x")
    ladder = ladder_of_powers(values)
    assert len(ladder_figure(values, ladder).axes) == 4
    with pytest.raises(ValueError, match="ladder of powers"):
        ladder_figure(values, ladder.drop(columns="chi2"))
