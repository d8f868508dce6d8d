"""Deep grey nuclei are pooled by their degrees of freedom, each once, without other regions."""

import numpy as np
import pandas as pd
import pytest

from multiqsm.bids_templates import load_template
from multiqsm.stats.nuclei import NUCLEI, deep_grey_nuclei, nuclei_table


def sdw_table(values, definition="within_site"):
    """Return a table of SDw with 4 degrees of freedom of the first region and 2 of others."""
    table = pd.DataFrame({"roi": list(values), "sdw": list(values.values())})
    df = [4] + [2] * (len(values) - 1)
    return table.assign(method="medi", definition=definition, df=df)


def test_variances_are_pooled_by_degrees_of_freedom_without_thalamus_and_splenium():
    sdw = sdw_table({"putamen": 1.0, "red_nucleus": 4.0, "thalamus": 100.0, "splenium": 100.0})
    (row,) = nuclei_table({"within_subject_sd": sdw}).to_dict("records")
    assert row["sdw"] == pytest.approx(np.sqrt((4 * 1 + 2 * 16) / 6))
    assert row["df"] == 6
    assert row["nuclei"] == "putamen, red nucleus"
    assert (row["quantity"], row["method"], row["unit"]) == ("susceptibility", "medi", "ppb")


def test_a_nucleus_without_repeats_does_not_count_and_none_gives_nan():
    sdw = sdw_table({"putamen": np.nan, "red_nucleus": 3.0})
    assert nuclei_table({"within_subject_sd": sdw})["sdw"].item() == pytest.approx(3)
    sdw = sdw_table({"putamen": np.nan})
    assert np.isnan(nuclei_table({"within_subject_sd": sdw})["sdw"].item())
    assert nuclei_table({"within_subject_sd": sdw_table({"thalamus": 1.0})}).empty
    assert nuclei_table({}).empty


def test_sides_of_a_nucleus_count_only_without_the_whole():
    assert deep_grey_nuclei(["putamen", "left_putamen", "right_putamen"]) == ["putamen"]
    sides = ["left_dentate_nucleus", "right_dentate_nucleus"]
    assert deep_grey_nuclei(sides) == sides
    assert len(NUCLEI) == 7  # as many as in the study of travelling heads


def test_icc_is_the_mean_over_nuclei_of_agreement_between_single_scans():
    sdw = pd.concat([sdw_table({"putamen": 1.0}, name) for name in ("within_site", "all_scans")])
    rows = [
        ("putamen", "scans", "A", "ICC(2,1)", 0.9),
        ("putamen", "scans", "B", "ICC(2,1)", 0.7),
        ("putamen", "scans", "A", "ICC(3,1)", 0.1),
        ("putamen", "all", "all", "ICC(2,1)", 0.6),
        ("putamen", "sites", "all", "ICC(2,1)", 0.2),
        ("thalamus", "scans", "A", "ICC(2,1)", 0.0),
    ]
    icc = pd.DataFrame(rows, columns=["roi", "raters", "site", "form", "icc"])
    tables = {"within_subject_sd_r2star": sdw.drop(columns="method"), "icc_r2star": icc}
    table = nuclei_table(tables).set_index("definition")
    assert table["icc"].to_dict() == pytest.approx({"within_site": 0.8, "all_scans": 0.6})
    assert set(table["quantity"]) == {"R2*"}
    assert table["method"].isna().all()


def test_published_values_belong_to_rows_of_the_table():
    published = pd.DataFrame(load_template("published_nuclei"))
    assert set(published["quantity"]) == {"susceptibility", "R2*"}
    assert set(published["definition"]) == {"within_site", "all_scans"}
    assert not published.duplicated(["quantity", "definition"]).any()
