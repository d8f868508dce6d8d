"""Coefficients side by side are those of the regressions, in the unit of the published ones."""

import numpy as np
import pandas as pd
import pytest

from multiqsm.bids_templates import load_template
from multiqsm.cohort.model_files import read_model
from multiqsm.stats.before_after import before_and_after

COLUMNS = ["node", "subset", "outcome", "predictor", "adjusted", "coefficient", "ci_low", "ci_high"]


def coefficients():
    rows = []
    for subset in ("all", "50 years or younger"):
        for adjusted in (False, True):
            rows += [
                ("table1", subset, "thalamic_volume", "chi", adjusted, 0.01 + adjusted, -1.0, 2.0),
                ("table1", subset, "thickness", "chi", adjusted, 5.0, 4.0, 6.0),
            ]
    return pd.DataFrame(rows, columns=COLUMNS).assign(p=0.5)


def test_ours_has_the_published_unit_and_stays_beside_it():
    published = pd.DataFrame(
        {
            "outcome": "thalamic_volume",
            "predictor": "chi",
            "adjusted": [False, True],
            "published": [9.0, 9.4],
            "published_low": [-28.0, -28.9],
            "published_high": [46.1, 47.7],
            "published_p": [0.63, 0.64],
            "published_text": ["9.0 (−28.0 to 46.1)", "9.4 (−28.9 to 47.7)"],
            "unit": "mm³ per ppb",
            "factor": 1000,
        }
    )
    in_subset = published[1:].assign(subset="50 years or younger", published_p=0.036)
    in_subset[["published", "published_low", "published_high"]] = np.nan
    published = pd.concat([published, in_subset])
    table = before_and_after(coefficients(), published)
    assert len(table) == 4
    volume = table[(table["outcome"] == "thalamic_volume") & (table["subset"] == "all")].iloc[0]
    np.testing.assert_allclose([volume["before"], volume["after"]], [10, 1010])
    np.testing.assert_allclose([volume["after_low"], volume["after_high"]], [-1000, 2000])
    assert volume["before_p"] == 0.5  # P has no unit
    assert volume["unit"] == "mm³ per ppb"
    assert (volume["published_before"], volume["published_after_p"]) == (9.0, 0.64)
    thickness = table[table["outcome"] == "thickness"].iloc[0]
    assert thickness["before"] == 5.0
    assert np.isnan(thickness["published_before"])
    younger = table[table["subset"] != "all"]
    assert younger["published_before"].isna().all()
    assert younger["published_after_p"].iloc[0] == 0.036
    np.testing.assert_allclose(younger["before"].iloc[0], 10)


def test_without_published_coefficients_ours_keep_their_units():
    table = before_and_after(coefficients())
    assert table["unit"].isna().all()
    assert table["after"].tolist() == [1.01, 5.0] * 2
    assert not [name for name in table if name.startswith("published")]


def test_contradictory_published_coefficients_are_refused():
    row = {"outcome": "thickness", "predictor": "chi", "adjusted": True, "published": 1.0}
    row |= {"published_low": 0.0, "published_high": 2.0, "published_p": 0.5, "factor": 1}
    row["published_text"] = "1.0 (.0 to 2.0)"
    units = pd.DataFrame([{**row, "unit": "mm"}, {**row, "unit": "cm", "subset": "young"}])
    twice = pd.DataFrame([{**row, "unit": "mm"}, {**row, "unit": "mm"}])
    for published in (units, twice):
        with pytest.raises(ValueError, match="many-to-one"):
            before_and_after(coefficients(), published)


def test_every_regression_of_the_2018_study_is_published_beside_ours():
    published = pd.DataFrame(load_template("published_thalamus")["coefficients"])
    # Of the younger patients, the paper has one P only.
    younger = published[published["subset"].notna()]
    assert younger["published_p"].tolist() == [0.036]
    assert younger["subset"].tolist() == [subset.name for subset in read_model("thalamus").subsets]
    published = published[published["subset"].isna()]
    assert len(published) == 18
    expected = set()
    for node in read_model("thalamus").nodes:
        for outcome in node.outcomes:
            for predictor in node.predictors:
                expected |= {(outcome, predictor, False), (outcome, predictor, True)}
    keys = published[["outcome", "predictor", "adjusted"]]
    assert set(keys.itertuples(index=False, name=None)) == expected
    # Intervals of least squares are symmetric: one that is not was copied wrongly. Two printed
    # digits of a limit allow for the difference.
    middle = (published["published_low"] + published["published_high"]) / 2
    width = published["published_high"] - published["published_low"]
    assert ((published["published"] - middle).abs() < 0.1 * width).all()
