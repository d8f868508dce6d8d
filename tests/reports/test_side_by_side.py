"""Results beside published ones have the digits that their precision allows, and no others."""

import re

import numpy as np
import pandas as pd
import pytest

from multiqsm.bids_templates import load_template
from multiqsm.reports.side_by_side import (
    before_and_after_texts,
    descriptive_text,
    of_width,
)
from multiqsm.stats.before_after import before_and_after

NAMES = ["node", "subset", "outcome", "predictor", "adjusted"]


def one_regression():
    rows = [
        ("table1", "all", "thalamic_volume", "relative_susceptibility", False),
        ("table1", "all", "thalamic_volume", "relative_susceptibility", True),
    ]
    values = {"coefficient": [0.01234, 0.0094], "ci_low": -0.03, "ci_high": 0.045, "p": [0.5, 0.04]}
    return pd.DataFrame(rows, columns=NAMES).assign(**values)


@pytest.mark.parametrize("width", [7.41e-4, 0.0494, 1.0, 74.1, 999.4, 2331.0, 5e5])
def test_rounding_changes_an_interval_by_less_than_a_hundredth(width):
    decimals = of_width(0, -width / 2, width / 2)
    assert 10.0**-decimals <= max(width / 100, 1)
    assert decimals == 0 or 10.0**-decimals > width / 1000


def test_published_coefficients_are_printed_as_in_the_paper():
    """The texts hold the numbers that are compared with ours, and nothing more."""
    coefficients = load_template("published_thalamus")["coefficients"]
    printed = [row for row in coefficients if "published" in row]
    assert len(printed) == 18
    for row in printed:
        numbers = re.findall(r"−?[\d.]+", row["published_text"])
        values = [float(number.replace("−", "-")) for number in numbers]
        assert values == [row["published"], row["published_low"], row["published_high"]]
    assert printed[8]["published_text"] == "8.40 (.41 to 16.40)"  # with the zeros of the paper


def test_coefficients_are_beside_the_published_ones_in_their_unit():
    published = pd.DataFrame(load_template("published_thalamus")["coefficients"])
    row = before_and_after_texts(before_and_after(one_regression(), published)).iloc[0]
    assert row["unit"] == "mm³ per ppb"
    assert row["before"] == "12.3 (−30.0 to 45.0)"
    assert (row["published_after"], row["published_after_p"]) == ("9.4 (−28.9 to 47.7)", ".63")
    assert row["after_p"] == 0.04


def test_columns_without_values_are_left_out():
    unadjusted = one_regression()[:1]
    texts = before_and_after_texts(before_and_after(unadjusted))
    assert set(texts) == {"outcome", "predictor", "before", "before_p"}


def test_published_descriptives_are_as_in_the_paper():
    rows = pd.DataFrame(load_template("published_thalamus")["variables"]).set_index("column")
    texts = rows.apply(descriptive_text, axis="columns")
    assert texts["relative_susceptibility"] == "−29.0 ± 11.7 (−61.5 to 6.4)"
    assert texts["cortical_thickness"] == "2.40 ± 0.16 (1.92 to 2.68)"
    assert texts["t2_lesion_volume"] == "11.0 ± 15.8 (0.1 to 122.4)"
    assert texts["enhancing_lesions"] == "9 of 95"
    assert descriptive_text(pd.Series({"published_mean": np.nan})) == "n/a"
    # a mean lies within its range, which is several standard deviations wide
    known = rows.dropna(subset=["published_mean"])
    assert (known["published_minimum"] < known["published_mean"]).all()
    assert (known["published_mean"] < known["published_maximum"]).all()
    width = known["published_maximum"] - known["published_minimum"]
    assert (width > 3 * known["published_sd"]).all()
