"""Every column of a study's tables is described, and measures have units."""

import pandas as pd
import pytest
from helpers.sidecars import columns_without_levels
from helpers.tables import SLOPES, people_table, r2star_table, tubes_table

from multiqsm.bids_templates import load_template
from multiqsm.dataset.files import read_json
from multiqsm.dataset.group_tables import (
    describe_group_table,
    group_table_path,
    remove_group_table,
    write_group_table,
)
from multiqsm.dataset.sidecars import sidecar_path
from multiqsm.interfaces.methods import INVERSIONS
from multiqsm.reports.group_texts import KNOWN_TABLES
from multiqsm.stats.nuclei import nuclei_table
from multiqsm.stats.relaxation import r2star_tables
from multiqsm.stats.study import study_tables
from multiqsm.stats.times import computation_times

# Numbers without a unit: labels, counts, ratios, and statistics of tests.
DIMENSIONLESS = {
    *("scan", "index", "calibrated", "significant"),
    *("slope", "slope_se", "slope_ci_low", "slope_ci_high", "calibration_slope", "r_squared"),
    *("icc", "f", "df", "df1", "df2", "statistic", "p", "p_bonferroni", "r", "ratio", "power"),
    *("change", "change_across_sites", "group"),  # numbers of subjects
    *("fft_pairs", "fft_pairs_sd", "wall_ratio", "cpu_ratio", "fft_pairs_ratio"),
}


@pytest.fixture(scope="module")
def tables():
    """All tables of a study with every optional column and an excluded scan."""
    people = people_table(subjects=5, slopes=SLOPES)
    people["age"] = people["subject"].astype(int) * 5 + 20
    values = pd.concat([people, tubes_table()], ignore_index=True)
    values = values.assign(
        **dict.fromkeys(("task", "ceagent", "reconstruction", "chunk"), None),
        acquisition="x",
        echo_times="6, 14, 22",
        echo_number=None,
        voxel_size="1, 1, 2",
        protocol="acq-x, 6, 14, 22 ms",
        sex="F",
        se=0.001,
    )
    other_protocol = (values["subject"] == "05") & (values["session"] == "C")
    values.loc[other_protocol, "protocol"] = "acq-y"
    tables, _ = study_tables(values, calibrated=True, equivalence_margins=0.005)
    tables_of_r2star, _ = r2star_tables(r2star_table(values), tables["rois"], tables["tubes"])
    time = {"scan": "sub-01", "method": "medi", "wall": 9.0, "cpu": 9.0, "fft_pair": 0.1}
    times = pd.DataFrame([{**time, "fft_pairs": 90.0, "threads": 1, "processor": "a processor"}])
    tables = tables | tables_of_r2star | {"times": computation_times(times)}
    return tables | {"nuclei": nuclei_table(tables)}


def test_the_study_has_every_table_of_the_template(tables):
    assert {*tables, "warnings"} == set(load_template("group_tables")["tables"])


def test_the_template_has_every_table_that_the_group_level_writes():
    published = {name for name in KNOWN_TABLES if name.startswith("published")}
    # These are read from templates, and not written.
    own_tables = ("nuclei", "times", "calibration", "age")
    assert published == {"published", *(f"published_{name}" for name in own_tables)}
    assert set(KNOWN_TABLES) - published <= set(load_template("group_tables")["tables"])


def test_every_column_is_described(tables):
    for name, table in tables.items():
        sidecar = describe_group_table(name, table.columns)
        assert list(sidecar) == ["Description", *table.columns], name
        for column in table:
            assert sidecar[column]["Description"], (name, column)


def test_every_measure_has_a_unit_unless_it_is_a_pure_number(tables):
    for name, table in tables.items():
        sidecar = describe_group_table(name, table.columns)
        for column in table.dropna(axis=1, how="all").select_dtypes("number"):
            has_no_unit = column in DIMENSIONLESS or column.startswith("n_")
            is_ratio = name in ("icc", "icc_r2star") and column.startswith("ci_")
            is_slope_on_age = name == "age" and column == "slope"
            expects_unit = is_slope_on_age or not (has_no_unit or is_ratio)
            assert ("Units" in sidecar[column]) == expects_unit, (name, column)


def test_levels_are_those_that_occur(tables):
    n_columns = 0
    for name, table in tables.items():
        for column, description in describe_group_table(name, table.columns).items():
            if "Levels" in description:
                n_columns += 1
                values = set(map(str, table[column].dropna()))  # as they are written
                assert values <= set(description["Levels"]), (name, column)
    assert n_columns > 8


def test_texts_from_a_list_have_levels(tables, tmp_path):
    for name, table in tables.items():
        write_group_table(tmp_path, name, table)
    assert columns_without_levels(tmp_path) == set()
    # A reference that the user named, and the values of sex that the user's table has.
    named = tables["rois"].assign(reference="fornix", sex="woman")
    sidecar = read_json(sidecar_path(write_group_table(tmp_path, "rois", named)))
    assert sidecar["reference"]["Levels"]["fornix"] == "the region with this name"
    assert sidecar["sex"]["Levels"]["woman"] == "as in participants.tsv"
    assert columns_without_levels(tmp_path) == set()


def test_inversions_have_a_text_as_levels():
    assert set(load_template("column_levels")["method"]["Levels"]) == set(INVERSIONS)


def test_a_table_and_its_sidecar_are_written_and_removed_together(tables, tmp_path):
    path = write_group_table(tmp_path, "rois", tables["rois"])
    assert path == group_table_path(tmp_path, "rois")
    assert path.name == "roi_chi.tsv"
    assert read_json(sidecar_path(path))["mean"]["Units"] == "ppm"
    remove_group_table(tmp_path, "rois")
    assert list(path.parent.iterdir()) == []
    remove_group_table(tmp_path, "rois")
