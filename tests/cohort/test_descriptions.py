"""Every column of a table of patients has a description, from the best source there is."""

import json

import numpy as np
import pandas as pd
import pytest

from multiqsm.cohort.descriptions import (
    add_units,
    describe_columns,
    model_table_columns,
    whole_levels,
)
from multiqsm.cohort.model_files import read_model
from multiqsm.cohort.patients import collect_patients
from multiqsm.stats.transformations import TRANSFORMATIONS, Transformation


@pytest.fixture
def raw(tmp_path):
    rows = "participant_id\tage\tsex\tedss\nsub-01\t40\tF\t2\nsub-02\t50\tM\t3\n"
    (tmp_path / "participants.tsv").write_text(rows)
    sidecar = {"age": {"Description": "Age at the scan", "Units": "month"}, "sex": {"Levels": {}}}
    (tmp_path / "participants.json").write_text(json.dumps(sidecar))
    return tmp_path


def test_columns_of_the_dataset_are_described_by_its_sidecar(raw):
    patients = collect_patients(raw, raw / "out")
    columns = describe_columns(patients.table, patients.sources, (), raw)
    assert columns["age"] == {"Description": "Age at the scan", "Units": "month"}
    assert columns["edss"] == {"Description": "From participants.tsv, where it is not described"}
    assert columns["sex"] == {**columns["edss"], "Levels": {}}
    sources = add_units(patients.sources, columns).set_index("column")
    assert sources.loc["age", "unit"] == "month"
    assert np.isnan(sources.loc["edss", "unit"])


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_result_of_each_transformation_is_described(raw, name):
    patients = collect_patients(raw, raw / "out")
    options = {"Value": 2.0} if name == "Power" else {}
    step = Transformation(name, "age", "result", options)
    column = "result.40" if name == "Factor" else "result"
    description = describe_columns([column], patients.sources, (step,), raw)[column]["Description"]
    assert "age" in description
    assert "{" not in description


def test_coefficients_of_covariates_have_their_own_description():
    table = pd.DataFrame(columns=["term", "coefficient", "p"])
    model = read_model("thalamus")
    covariates = model_table_columns("covariates", table, model)
    assert covariates["coefficient"]["Description"].startswith("Coefficient of the covariate")
    coefficients = model_table_columns("table1", table, model)
    assert coefficients["coefficient"]["Description"].startswith("Coefficient of the predictor")
    with pytest.raises(KeyError, match="weight"):
        model_table_columns("table1", pd.DataFrame(columns=["weight"]), model)


def test_nodes_and_subsets_of_the_model_are_levels():
    table = pd.DataFrame(columns=["node", "subset", "coefficient"])
    columns = model_table_columns("table1", table, read_model("thalamus"))
    assert list(columns["node"]["Levels"]) == ["table1", "table2"]
    assert columns["subset"]["Levels"] == {
        "all": "all patients",
        "50 years or younger": "age <= 50",
    }
    assert "Levels" not in columns["coefficient"]


def test_levels_of_patients_are_the_numbers_of_the_table():
    patients = pd.DataFrame({"therapy": [0.0, 1.0, np.nan], "age": [40.0, 50.0, 60.0]})
    columns = {"therapy": {"Levels": {"0": "no", "1": "yes"}}, "age": {"Description": "Age"}}
    written = whole_levels(patients, columns)
    assert set(written["therapy"].dropna().astype(str)) == set(columns["therapy"]["Levels"])
    pd.testing.assert_series_equal(written["age"], patients["age"])
    graded = pd.DataFrame({"edss": [1.5, 2.0]})  # 1.5 is no whole number
    pd.testing.assert_frame_equal(whole_levels(graded, {"edss": {"Levels": {}}}), graded)
