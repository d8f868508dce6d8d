"""A model's regressions equal statsmodels' formula interface and hand-worked figures; nobody is
dropped silently.
"""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.diagnostic import het_breuschpagan
from statsmodels.stats.outliers_influence import OLSInfluence, variance_inflation_factor

from multiqsm.stats.filters import parse_filter
from multiqsm.stats.model import run_model
from multiqsm.stats.planning import correlation_power, detectable_correlation
from multiqsm.stats.regression import diagnose, ols
from multiqsm.stats.specification import Exclusion, Node, StudyModel, Subset, used_columns
from multiqsm.stats.transformations import Transformation

NODE = Node(
    "table1", "Lesions", ("log_lesions", "thickness"), ("chi",), ("age", "sex.M", "therapy")
)
STEPS = (Transformation("Factor", "sex", "sex"), Transformation("Log", "lesions", "log_lesions"))
MODEL = StudyModel(
    "study", (NODE,), transformations=STEPS, subsets=(Subset("young", parse_filter("age <= 45")),)
)


@pytest.fixture
def patients():
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {"age": rng.integers(20, 70, 80).astype(float)}, index=[f"{i:02}" for i in range(80)]
    )
    table["sex"] = np.where(rng.random(80) < 0.6, "F", "M")
    table["therapy"] = (rng.random(80) < 0.8).astype(float)
    table["chi"] = -29 + 0.3 * (table["age"] - 42) + rng.normal(0, 11, 80)
    table["lesions"] = np.exp(2 + 0.03 * table["chi"] + rng.normal(0, 1, 80))
    table["thickness"] = rng.normal(2.4, 0.16, 80)
    return table.rename_axis("participant")


def rows_of(tables, name, **keys):
    table = tables[name]
    for key, value in keys.items():
        table = table[table[key] == value]
    return table


@pytest.mark.parametrize("subset", ["all", "young"])
@pytest.mark.parametrize(
    ("outcome", "formula"), [("log_lesions", "np.log(lesions)"), ("thickness", "thickness")]
)
@pytest.mark.parametrize("adjusted", [False, True])
def test_regressions_equal_statsmodels_formulas(patients, subset, outcome, formula, adjusted):
    patients.loc["07", "therapy"] = patients.loc["11", "chi"] = np.nan
    tables = run_model(patients, MODEL)
    row = rows_of(tables, "coefficients", subset=subset, outcome=outcome, adjusted=adjusted).iloc[0]
    chosen = patients if subset == "all" else patients[patients["age"] <= 45]
    terms = " + age + C(sex) + therapy" if adjusted else ""
    peer = smf.ols(f"{formula} ~ chi{terms}", chosen).fit()
    expected = {"coefficient": peer.params, "se": peer.bse, "t": peer.tvalues, "p": peer.pvalues}
    for column, values in expected.items():
        assert row[column] == pytest.approx(values["chi"], rel=1e-8)
    np.testing.assert_allclose(
        row[["ci_low", "ci_high"]].astype(float), peer.conf_int().loc["chi"], rtol=1e-8
    )
    assert (row["r_squared"], row["adjusted_r_squared"]) == pytest.approx(
        (peer.rsquared, peer.rsquared_adj)
    )
    assert (row["n"], row["df"]) == (peer.nobs, peer.df_resid)
    assert row["n"] + row["n_missing"] == len(chosen)
    used = chosen.dropna(subset=["chi", "therapy"] if adjusted else ["chi"])
    z = used.assign(y=peer.model.endog, chi=(used["chi"] - used["chi"].mean()) / used["chi"].std())
    z["y"] = (z["y"] - z["y"].mean()) / z["y"].std()
    assert row["standardised"] == pytest.approx(
        smf.ols(f"y ~ chi{terms}", z).fit().params["chi"], rel=1e-8
    )


@pytest.mark.parametrize("subset", ["all", "young"])
def test_covariates_equal_statsmodels(patients, subset):
    patients.loc["07", "therapy"] = np.nan
    covariates = run_model(patients, MODEL)["covariates"]
    assert len(covariates) == 2 * 2 * 3  # subsets, outcomes, covariates
    rows = rows_of({"": covariates}, "", subset=subset, outcome="log_lesions").set_index("term")
    chosen = patients if subset == "all" else patients[patients["age"] <= 45]
    peer = smf.ols("np.log(lesions) ~ chi + age + C(sex) + therapy", chosen).fit()
    names = {"age": "age", "sex.M": "C(sex)[T.M]", "therapy": "therapy"}
    assert rows.index.tolist() == list(names)
    for term, name in names.items():
        row = rows.loc[term]
        ours = row[["coefficient", "se", "t", "p", "ci_low", "ci_high"]].astype(float)
        theirs = [values[name] for values in (peer.params, peer.bse, peer.tvalues, peer.pvalues)]
        np.testing.assert_allclose(ours, [*theirs, *peer.conf_int().loc[name]], rtol=1e-8)
        assert (row["predictor"], row["n"]) == ("chi", peer.nobs)


def test_predictor_is_not_a_covariate_of_itself(patients):
    node = Node("table2", "", ("chi",), ("age", "therapy"), ("age", "therapy"))
    covariates = run_model(patients, StudyModel("m", (node,)))["covariates"]
    assert covariates[["predictor", "term"]].to_numpy().tolist() == [
        ["age", "therapy"],
        ["therapy", "age"],
    ]
    unadjusted = run_model(patients, StudyModel("m", (Node("a", "", ("chi",), ("age",)),)))
    assert unadjusted["covariates"].empty


def test_diagnostics_equal_statsmodels(patients):
    tables = run_model(patients, MODEL)
    keys = {"subset": "all", "outcome": "log_lesions", "adjusted": True}
    diagnostics, points = (
        rows_of(tables, "diagnostics", **keys).iloc[0],
        rows_of(tables, "residuals", **keys),
    )
    peer = smf.ols("np.log(lesions) ~ chi + age + C(sex) + therapy", patients).fit()
    influence = OLSInfluence(peer)
    expected = {"leverage": influence.hat_matrix_diag, "cook": influence.cooks_distance[0]}
    expected |= {"studentised": influence.resid_studentized_external, "fitted": peer.fittedvalues}
    expected |= {"residual": peer.resid}
    for column, values in expected.items():
        np.testing.assert_allclose(points[column], values, rtol=1e-8, atol=1e-12)
    chi = patients["chi"]
    partial = peer.resid + peer.params["chi"] * (chi - chi.mean())
    np.testing.assert_allclose(points["partial_residual"], partial, rtol=1e-8, atol=1e-10)
    place = peer.model.exog_names.index("chi")
    assert diagnostics["variance_inflation"] == pytest.approx(
        variance_inflation_factor(peer.model.exog, place), rel=1e-8
    )
    statistic, p, *_ = het_breuschpagan(peer.resid, peer.model.exog)
    assert (diagnostics["breusch_pagan"], diagnostics["breusch_pagan_p"]) == (
        pytest.approx(statistic),
        pytest.approx(p),
    )
    assert diagnostics["breusch_pagan_df"] == 4
    assert diagnostics["cook_of"] == patients.index[np.argmax(influence.cooks_distance[0])]
    assert diagnostics["n_cook"] == np.sum(influence.cooks_distance[0] > 4 / 80)
    assert diagnostics["n_leverage"] == np.sum(influence.hat_matrix_diag > 2 * 5 / 80)


def test_diagnostics_by_hand():
    # x = 1..5 and y as in the regression's own test: residuals .8 -1 .2 -.6 .6, leverage .2 + (x -
    # 3)² / 10.
    diagnosis = diagnose(
        np.array([2, 1, 3, 3, 5]), pd.DataFrame({"x": [1, 2, 3, 4, 5]}, index=list("abcde"))
    )
    np.testing.assert_allclose(diagnosis.rows["leverage"], [0.6, 0.3, 0.2, 0.3, 0.6])
    # Cook: residual² leverage / ((1 - leverage)² · 2 · .8), for the first .64 · .6 / (.16 · 1.6).
    assert diagnosis.rows.loc["a", "cook"] == pytest.approx(1.5)
    # Without a: sum of squares 2.4 - .64 / .4 = .8 on 2 degrees of freedom; .8 / √(.4 · .4).
    assert diagnosis.rows.loc["a", "studentised"] == pytest.approx(2.0)
    assert diagnosis.variance_inflation["x"] == pytest.approx(1)


def test_inflation_of_two_covariates_is_that_of_their_correlation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 2)) @ [[1, 0.7], [0, 1]]
    diagnosis = diagnose(rng.normal(size=50), pd.DataFrame(x, columns=["a", "b"]))
    r = np.corrcoef(x.T)[0, 1]
    np.testing.assert_allclose(diagnosis.variance_inflation, 1 / (1 - r**2))


def test_patient_on_whom_a_coefficient_depends_alone():
    """The only one with a covariate's value has leverage 1, and no residual to judge by."""
    rng = np.random.default_rng(0)
    diagnosis = diagnose(rng.normal(size=9), pd.DataFrame({"only": np.arange(9) == 4}))
    assert diagnosis.rows["leverage"].iloc[4] == pytest.approx(1)
    assert diagnosis.rows.loc[4, ["studentised", "cook"]].isna().all()
    assert diagnosis.rows.drop(index=4).notna().all(axis=None)


@pytest.mark.parametrize(
    ("outcome", "covariates", "cause"),
    [
        (
            np.arange(5.0) ** 2,
            pd.DataFrame(index=range(5)),
            "without covariates has nothing to diagnose",
        ),
        (2 * np.arange(5.0), pd.DataFrame({"x": np.arange(5.0)}), "the fit is perfect"),
    ],
)
def test_nothing_to_diagnose(outcome, covariates, cause):
    with pytest.raises(ValueError, match=cause):
        diagnose(outcome, covariates)


def test_adjusted_r_squared_by_hand():
    fit = ols(np.array([2, 1, 3, 3, 5]), pd.DataFrame({"x": [1, 2, 3, 4, 5]}))
    assert fit.adjusted_r_squared == pytest.approx(1 - (2.4 / 3) / (8.8 / 4))


def test_predictor_is_not_adjusted_for_itself_or_its_outcome(patients):
    node = Node("table2", "", ("chi",), ("age", "therapy"), ("age", "chi", "therapy"))
    tables = run_model(patients, StudyModel("m", (node,)))
    adjustments = tables["coefficients"].set_index(["predictor", "adjusted"])["adjusted_for"]
    assert (adjustments["age", True], adjustments["therapy", True]) == ("therapy", "age")
    assert used_columns(StudyModel("m", (node,))) == ["chi", "age", "therapy"]


def test_missing_values_are_listed_and_counted(patients):
    patients.loc["07", "therapy"] = patients.loc["11", "lesions"] = patients.loc["30", "age"] = (
        np.nan
    )
    tables = run_model(patients, MODEL)
    listed = tables["excluded"].set_index("participant")
    assert set(listed.index) == {"07", "11", "30"}
    assert not listed["left_out"].any()
    assert set(listed.loc["30", "what"]) == {"age", "subset young"}
    assert listed.loc["11", "what"] == "log_lesions"
    counts = rows_of(tables, "coefficients", subset="all").set_index(["outcome", "adjusted"])[
        "n_missing"
    ]
    assert counts.to_dict() == {
        ("log_lesions", False): 1,
        ("log_lesions", True): 3,
        ("thickness", False): 0,
        ("thickness", True): 2,
    }
    described = rows_of(tables, "descriptives", subset="all").set_index("column")
    assert described.loc["lesions", ["n", "n_missing"]].tolist() == [79, 1]
    assert described.loc["lesions", "mean"] == pytest.approx(patients["lesions"].mean())
    assert described.loc["sex.M", "count"] == (patients["sex"] == "M").sum()
    assert np.isnan(described.loc["lesions", "count"])
    assert described.loc["sex.M", "mean"] == pytest.approx((patients["sex"] == "M").mean())


def test_exclusions_are_applied_on_request_and_always_listed(patients):
    patients["snr"] = np.where(patients.index == "05", 10.0, 50.0)
    patients.loc["06", "snr"] = np.nan
    rules = [Exclusion(parse_filter("snr < 20"), "noise", applied) for applied in (True, False)]
    for rule, n in zip(rules, (79, 80), strict=True):
        tables = run_model(
            patients, StudyModel("m", (NODE,), exclusions=(rule,), transformations=STEPS)
        )
        assert len(tables["patients"]) == n
        assert tables["coefficients"]["n"].max() == n
        listed = tables["excluded"].set_index("participant")
        assert listed.loc["05", ["what", "left_out"]].tolist() == ["noise (snr < 20)", rule.applied]
        assert listed.loc["06", "reason"] == "cannot be judged: snr not complete"
        assert tables["problems"].empty


def test_rule_without_its_column_is_a_problem_only_if_it_is_to_be_applied(patients):
    for applied in (True, False):
        rule = Exclusion(parse_filter("snr < 20"), "noise", applied)
        tables = run_model(
            patients, StudyModel("m", (NODE,), exclusions=(rule,), transformations=STEPS)
        )
        assert len(tables["problems"]) == applied
        assert (
            (tables["problems"] if applied else tables["excluded"])["what"]
            .str.contains("noise")
            .all()
        )
        assert tables["coefficients"]["coefficient"].notna().all()


def test_optional_rule_is_applied_only_where_its_column_exists(patients):
    """Without the column nobody is left out, which is listed and no problem. A rule that compares
    a column of numbers with a text is a problem nevertheless.
    """
    rule = Exclusion(parse_filter("quality == 'poor'"), "poor", is_optional=True)
    model = StudyModel("m", (NODE,), exclusions=(rule,), transformations=STEPS)
    tables = run_model(patients, model)
    assert tables["problems"].empty
    assert len(tables["patients"]) == len(patients)
    (row,) = tables["excluded"].to_dict("records")
    assert row["reason"] == "nobody can be judged: no column quality"
    assert not row["left_out"]
    rated = patients.assign(quality=np.where(patients.index.isin(["05", "06"]), "poor", "good"))
    tables = run_model(rated, model)
    assert set(patients.index) - set(tables["patients"]["participant"]) == {"05", "06"}
    assert tables["excluded"]["left_out"].tolist() == [True, True]
    tables = run_model(patients.assign(quality=1.0), model)
    assert "compared with a text" in tables["problems"]["problem"].item()


def test_described_columns_have_statistics_and_no_regression(patients):
    model = StudyModel("m", (NODE,), transformations=STEPS, described=("weight", "chi"))
    described = run_model(patients.assign(weight=70.0), model)["descriptives"]
    row = described[described["column"] == "weight"]
    assert row[["n", "mean"]].to_numpy().tolist() == [[len(patients), 70]]
    assert (described["column"] == "chi").sum() == 1
    without = run_model(patients, model)
    assert "weight" not in set(without["descriptives"]["column"])
    assert without["problems"].empty


@pytest.mark.parametrize(
    ("change", "adjust", "cause"),
    [
        ({}, ("weight",), "no column weight: run the participant level first"),
        ({"therapy": 1.0}, ("therapy",), "constant in the rows used: therapy; leave it out"),
        (
            {"years": lambda t: 2 * t["age"] + 1},
            ("age", "years"),
            "collinear: age, years; leave one of them out",
        ),
        ({"years": np.nan}, ("years",), "no patient has years"),
        (
            {"years": lambda t: t["age"].where(t.index < "03")},
            ("years",),
            "too few for 3 coefficients",
        ),
        ({"age": np.inf}, ("age",), "infinite values in age"),
        ({}, ("sex",), "sex is not numeric"),
        (
            {"lesions": 0.0},
            ("log_lesions",),
            "log_lesions could not be computed: Log of lesions: the logarithm",
        ),
    ],
)
def test_regression_that_cannot_be_computed_stops_no_other(patients, change, adjust, cause):
    nodes = (
        Node("one", "", ("thickness",), ("chi",), adjust),
        Node("two", "", ("thickness",), ("chi",)),
    )
    tables = run_model(patients.assign(**change), StudyModel("m", nodes, transformations=STEPS[1:]))
    coefficients = tables["coefficients"].set_index(["node", "adjusted"])
    with pytest.raises(ValueError, match=cause):
        raise ValueError(coefficients.loc[("one", True), "note"])
    assert coefficients["coefficient"].isna().tolist() == [False, True, False]
    problems = tables["problems"].set_index("what")["problem"]
    assert (
        problems["one [all]: thickness on chi (adjusted)"]
        == coefficients.loc[("one", True), "note"]
    )


def test_cause_of_several_failures_is_one_problem_and_lists_all_patients(patients):
    node = Node("one", "", ("thickness", "chi"), ("weight",), ("age",))
    tables = run_model(patients, StudyModel("m", (node,)))
    assert tables["problems"]["what"].tolist() == ["4 regressions"]
    assert (
        tables["coefficients"]["note"].unique().tolist() == tables["problems"]["problem"].tolist()
    )
    lacking = tables["excluded"].query("what == 'weight'")["participant"]
    assert lacking.tolist() == patients.index.tolist()


def test_outcome_that_is_a_text_and_subset_without_its_column(patients):
    subset = Subset("heavy", parse_filter("weight > 80"))
    tables = run_model(
        patients, StudyModel("m", (Node("one", "", ("sex",), ("chi",)),), subsets=(subset,))
    )
    problems = tables["problems"].set_index("what")["problem"]
    assert "no column weight" in problems["subset heavy"]
    assert "an outcome must be a number" in problems["one [all]: sex on chi"]
    assert tables["residuals"].empty
    assert tables["diagnostics"].empty


def test_perfect_fit_has_coefficients_and_no_diagnostics(patients):
    patients["twice"] = 2 * patients["chi"]
    tables = run_model(patients, StudyModel("m", (Node("a", "", ("twice",), ("chi",)),)))
    assert tables["coefficients"]["coefficient"].item() == pytest.approx(2)
    assert tables["diagnostics"].empty


def test_ladder_is_reported_and_not_applied(patients):
    tables = run_model(patients, MODEL)
    ladder = tables["ladder"]
    assert set(ladder["column"]) == {"lesions", "thickness"}
    assert ladder[ladder["chosen"] & (ladder["column"] == "lesions")]["formula"].item() == "log x"
    plain = run_model(patients, StudyModel("m", (Node("a", "", ("lesions",), ("chi",)),)))
    peer = smf.ols("lesions ~ chi", patients).fit()
    assert plain["coefficients"]["coefficient"].item() == pytest.approx(peer.params["chi"])


def test_ladder_of_the_model_is_applied(patients):
    steps = (Transformation("Ladder", "lesions", "best"),)
    tables = run_model(
        patients, StudyModel("m", (Node("a", "", ("best",), ("chi",)),), transformations=steps)
    )
    assert tables["ladder"]["column"].unique().tolist() == ["lesions"]
    peer = smf.ols("np.log(lesions) ~ chi", patients).fit()
    assert tables["coefficients"]["coefficient"].item() == pytest.approx(peer.params["chi"])


def test_power_statement_of_the_study():
    """95 patients detect r = .28 with 80 %: 79.2 % to be exact, and 80 % from r = .283 on, or 97
    patients.
    """
    assert correlation_power(0.28, 95) == pytest.approx(0.792, abs=5e-4)
    assert round(correlation_power(0.28, 95), 1) == 0.8
    assert round(detectable_correlation(95), 2) == 0.28
    assert correlation_power(0.28, 96) < 0.8 < correlation_power(0.28, 97)
    table = pd.DataFrame({"y": np.random.default_rng(0).normal(size=95), "x": np.arange(95.0)})
    row = run_model(table, StudyModel("m", (Node("a", "", ("y",), ("x",)),)))["power"].iloc[0]
    assert (row["n"], row["power"]) == (95, pytest.approx(correlation_power(0.28, 95)))
    assert row["detectable_correlation"] == pytest.approx(detectable_correlation(95))
