"""Reproducibility of R2* equals a calculation by hand, and that of equal numbers in ppm."""

import numpy as np
import pandas as pd
import pytest
from helpers.tables import people_table, r2star_table

from multiqsm.stats.agreement import intraclass_correlation
from multiqsm.stats.relaxation import r2star_tables
from multiqsm.stats.reproducibility import imprecision


def long_table(values, roi="putamen", subject="01"):
    """Return rows of an array of sites by scans, 1/s."""
    sites, scans = np.indices(np.shape(values))
    table = pd.DataFrame({"site": np.array(list("ABC"))[sites.ravel()], "scan": scans.ravel() + 1})
    return table.assign(subject=subject, roi=roi, mean=np.ravel(values), unit="1/s")


def tables_of(table):
    """Return the tables on R2*, of scans that all count in the statistics of susceptibility."""
    table = table.assign(session=table["site"], run=table["scan"].astype(str))
    tables, _ = r2star_tables(table, table.assign(reference="csf"), table.iloc[:0])
    return tables


def sdw_of(table):
    return tables_of(table)["within_subject_sd_r2star"].set_index(["roi", "definition"])


def test_sdw_by_hand():
    """Subject 1 has variances of 2 and 0 at its sites, subject 2 of 8 and 2, each of one degree of
    freedom. About the means over sites, 22 and 32, squares sum to 4 + 0 + 1 + 1 and 4 + 4 + 1 + 1.
    """
    first = long_table([[20.0, 22.0], [23.0, 23.0]])
    second = long_table([[30.0, 34.0], [31.0, 33.0]], subject="02")
    sdw = sdw_of(pd.concat([first, second], ignore_index=True)).loc["putamen"]
    assert sdw.loc["within_site", "sdw"] == pytest.approx(np.sqrt((2 + 0 + 8 + 2) / 4))
    assert sdw.loc["within_site", "df"] == 4
    assert sdw.loc["all_scans", "sdw"] == pytest.approx(np.sqrt((4 + 0 + 1 + 1 + 10) / 6))
    assert sdw.loc["all_scans", "df"] == 6
    # Site means are 21 and 23 of the first, and 32 and 32 of the second subject.
    assert sdw.loc["site_means", "sdw"] == pytest.approx(np.sqrt((2 + 0) / 2))
    assert (sdw["n_subjects"] == 2).all()
    assert (sdw["n_scans"] == 8).all()


def test_without_repeats_there_is_no_sdw_within_a_site():
    sdw = sdw_of(long_table([[20.0], [22.0]]))
    assert sdw.loc[("putamen", "within_site"), "df"] == 0
    assert np.isnan(sdw.loc[("putamen", "within_site"), "sdw"])
    assert sdw.loc[("putamen", "all_scans"), "sdw"] == pytest.approx(np.sqrt(2))


def test_values_in_another_unit_are_refused():
    with pytest.raises(ValueError, match="values must be in 1/s, got 1/ms"):
        imprecision(long_table([[20.0, 22.0]]).assign(unit="1/ms", method="r2star"), unit="1/s")


def test_imprecision_and_icc_are_those_of_susceptibility_of_the_same_numbers():
    r2star = r2star_table(people_table())
    tables = tables_of(r2star)
    as_ppm = r2star.assign(method="medi", unit="ppm")
    for name, function in (("imprecision", imprecision), ("icc", intraclass_correlation)):
        expected = function(as_ppm, exclude_rois=["csf"]).drop(columns="method")
        pd.testing.assert_frame_equal(tables[f"{name}_r2star"], expected)
    summary = tables["imprecision_summary_r2star"].set_index("roi")
    within = tables["imprecision_r2star"].groupby("roi")["within"].mean()
    assert summary["within"].to_dict() == pytest.approx(within.to_dict())


def test_only_scans_that_count_for_susceptibility_are_used():
    """Site C has none of these, and one scan at B has no R2*: it had two echoes."""
    people = people_table()
    r2star = r2star_table(people)
    has_two_echoes = (r2star["subject"] == "01") & (r2star["site"] == "B") & (r2star["scan"] == 2)
    people = people[people["site"] != "C"]
    tables, notes = r2star_tables(r2star[~has_two_echoes], people, people.iloc[:0])
    names = ("imprecision", "imprecision_summary", "within_subject_sd", "icc", "roi")
    assert set(tables) == {f"{name}_r2star" for name in names}
    assert set(tables["roi_r2star"]["site"]) == {"A", "B"}
    n_scans = 4 * 2 * 3
    expected = f"scans of people without R2*, which needs three echoes: 1 of {n_scans}"
    assert notes == [expected]
    sdw = tables["within_subject_sd_r2star"]
    assert set(sdw["roi"]) == {"putamen", "pallidum"}
    assert set(sdw["n_scans"]) == {n_scans - 1}


def test_study_without_r2star_has_no_tables_and_says_so():
    people = people_table()
    tables, notes = r2star_tables(r2star_table(people).iloc[:0], people, people.iloc[:0])
    assert tables == {}
    (note,) = notes
    n_scans = len(people[["subject", "site", "scan"]].drop_duplicates())
    assert note == f"scans of people without R2*, which needs three echoes: {n_scans} of {n_scans}"
