"""All statistics of a study at once: what is computed, what is left out and why."""

import numpy as np
import pandas as pd
import pytest
from helpers.tables import ROIS, SLOPES, people_table, tubes_table

from multiqsm.stats.components import variance_components
from multiqsm.stats.planning import change_sd, sample_size
from multiqsm.stats.reproducibility import imprecision, within_subject_sd
from multiqsm.stats.study import detectable_changes, sample_sizes, study_tables

ALWAYS = {
    "rois",
    "tubes",
    "imprecision",
    "imprecision_summary",
    "within_versus_cross",
    "between_rois",
    "references",
}
ALWAYS |= {
    "between_methods",
    "within_subject_sd",
    "icc",
    "components",
    "sdc",
    "sample_size",
    "bland_altman",
}
ALWAYS |= {"bland_altman_points", "harmonized", "harmonization"}


@pytest.fixture(scope="module")
def whole():
    people = people_table().assign(age=lambda table: 20 + 3.0 * table["subject"].astype(int))
    return people, *study_tables(pd.concat([people, tubes_table()], ignore_index=True))


def test_all_tables_of_a_whole_study(whole):
    people, tables, notes = whole
    assert notes == []
    assert set(tables) == ALWAYS | {"calibration", "age"}
    assert not any(table.empty for table in tables.values())
    assert len(tables["rois"]) == len(people)
    assert "expected" not in tables["rois"]
    assert (tables["tubes"]["subject"] == "phantom").all()
    pd.testing.assert_frame_equal(tables["imprecision"], imprecision(people))
    assert set(tables["imprecision"]["roi"]) == {roi for roi, level in ROIS.items() if level}
    slopes = tables["calibration"].set_index(["method", "site"])["slope"]
    assert slopes["iterative", "B"] == pytest.approx(SLOPES["B"])
    assert set(tables["age"]["method"]) == {"iterative", "deterministic"}


def test_without_age_and_phantom_there_is_nothing_of_them():
    tables, notes = study_tables(people_table())
    assert set(tables) == ALWAYS
    assert tables["tubes"].empty
    assert notes == []


def test_no_age_regression_without_any_age():
    tables, notes = study_tables(people_table().assign(age=np.nan))
    assert "age" not in tables
    assert notes == []


def test_one_inversion_is_compared_with_none():
    tables, notes = study_tables(people_table(methods=("iterative",)))
    assert set(tables) == ALWAYS - {"between_methods"}
    assert notes == []


def test_calibration_comes_before_everything():
    people = people_table(slopes=SLOPES)
    plain = people_table()
    tables, notes = study_tables(
        pd.concat([people, tubes_table()], ignore_index=True), calibrated=True
    )
    assert notes == []
    np.testing.assert_allclose(tables["rois"]["mean"], plain["mean"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(tables["rois"]["sd"], plain["sd"] / people["site"].map(SLOPES))
    assert tables["rois"]["calibrated"].all()
    np.testing.assert_allclose(
        tables["imprecision"]["cross"], imprecision(plain)["cross"], rtol=1e-6
    )
    uncalibrated, _ = study_tables(people)
    assert (uncalibrated["imprecision"]["cross"] > 1.5 * tables["imprecision"]["cross"]).all()


def test_calibration_that_cannot_be_done_is_refused():
    people = people_table()
    with pytest.raises(ValueError, match="no phantom scan has tubes with expected susceptibility"):
        study_tables(people, calibrated=True)
    two = tubes_table(slopes={"A": 0.9, "B": 0.8})
    with pytest.raises(ValueError, match=r"no phantom was measured for .*'C'"):
        study_tables(pd.concat([people, two], ignore_index=True), calibrated=True)


def test_a_poor_line_of_one_inversion_leaves_the_calibration_of_the_other():
    """The tubes of the deterministic map scatter at site B; its values stay as measured at all."""
    people = people_table(slopes=SLOPES)
    tubes = tubes_table()
    is_poor = (tubes["method"] == "deterministic") & (tubes["site"] == "B")
    tubes.loc[is_poor, "mean"] += [0.1, -0.1, 0.1, -0.1]
    values = pd.concat([people, tubes], ignore_index=True)
    tables, notes = study_tables(values, calibrated=True)
    rois = tables["rois"]
    is_iterative = rois["method"] == "iterative"
    assert (rois["calibrated"] == is_iterative).all()
    expected = people["mean"].where(~is_iterative, people["mean"] / people["site"].map(SLOPES))
    np.testing.assert_allclose(rois["mean"], expected)
    (note,) = [note for note in notes if note.startswith("deterministic: values are as measured")]
    assert "site B, deterministic: R²" in note
    # Inversions are compared only if both are calibrated or neither is.
    assert "between_methods" not in tables
    for name in ("bland_altman", "bland_altman_points"):
        assert set(tables[name]["comparison"]) == {"sites"}
        assert set(tables[name]["method"]) == {"iterative", "deterministic"}
    # The tables of the calibrated inversion are those of it alone.
    alone, _ = study_tables(values[values["method"] == "iterative"], calibrated=True)
    summary = tables["imprecision_summary"].query("method == 'iterative'")
    pd.testing.assert_frame_equal(summary.reset_index(drop=True), alone["imprecision_summary"])


def test_values_relative_to_another_region_are_left_out_and_counted():
    people = people_table(subjects=5)
    is_moved = (people["subject"] == "02") & (people["site"] == "B")
    people.loc[is_moved, "reference"] = "brain"
    tables, (note,) = study_tables(people)
    assert (
        note == "3 scans left out of all statistics: relative to another region than csf (sub-02)"
    )
    pd.testing.assert_frame_equal(tables["rois"], people[~is_moved])
    pd.testing.assert_frame_equal(tables["imprecision"], imprecision(people[~is_moved]))


def test_what_cannot_be_computed_is_noted_and_leaves_the_rest():
    """One person once: there is nothing to repeat, compare or extrapolate, but the table itself."""
    people = people_table(subjects=1, sites="A", scans=1)
    tables, notes = study_tables(people)
    pd.testing.assert_frame_equal(tables["rois"], people)
    for name in ("components", "harmonized"):
        assert any(note.startswith(f"{name}: not computed: ") for note in notes), notes
        assert name not in tables
    assert "sample_size" not in tables
    assert not any("nan" in note for note in notes)


def test_tube_without_expected_value_belongs_to_its_phantom():
    tubes = tubes_table()
    tubes.loc[tubes["roi"] == "tube 1", "expected"] = np.nan
    tables, notes = study_tables(pd.concat([people_table(), tubes], ignore_index=True))
    assert notes == []
    assert len(tables["tubes"]) == len(tubes)
    assert (tables["calibration"].set_index("site").loc["A", "n_tubes"] == 3).all()
    assert set(tables["rois"]["subject"]) == {"01", "02", "03", "04"}


def test_a_table_of_tubes_alone():
    tables, notes = study_tables(tubes_table())
    assert set(tables) == {"tubes", "rois", "calibration"}
    assert tables["rois"].empty
    assert notes == []


def test_table_that_is_none():
    with pytest.raises(ValueError, match="no column mean, reference"):
        study_tables(people_table().drop(columns=["mean", "reference"]))


def test_detectable_changes_are_1_96_root_2_of_the_sd():
    within = within_subject_sd(people_table())
    changes = detectable_changes(within)
    assert set(changes["definition"]) == {"within_site", "all_scans"}
    key = ["method", "roi", "definition"]
    sdw = within.set_index(key)["sdw"].loc[list(changes[key].itertuples(index=False, name=None))]
    np.testing.assert_allclose(changes["sdc"], 1.96 * np.sqrt(2) * sdw, rtol=1e-4)
    assert (changes["ci_low"] < changes["sdc"]).all()
    assert (changes["sdc"] < changes["ci_high"]).all()


def test_sample_sizes_follow_the_components():
    components = variance_components(people_table(subjects=6))
    sizes = sample_sizes(components)
    assert set(sizes["effect"]) == {5.0, 10.0}
    sd = components.set_index(["method", "roi", "component"])["sd"].sort_index()
    for row in sizes.itertuples():
        parts = sd[row.method, row.roi]
        same = change_sd(parts["residual"], subject_site_sd=parts["subject_site"])
        assert row.change == sample_size(row.effect, same, design="change")
        assert row.change <= row.change_across_sites
    by_effect = sizes.pivot(index=["method", "roi"], columns="effect", values="group")
    assert (by_effect[5.0] > by_effect[10.0]).all()


def test_sample_sizes_of_one_site_say_nothing_of_others():
    sizes = sample_sizes(variance_components(people_table(subjects=6, sites="A")))
    assert sizes["change_across_sites"].isna().all()
    assert sizes["change"].notna().all()
