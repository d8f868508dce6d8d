"""A study's regressions as a model says them: outcomes on predictors, before and after adjustment,
in subsets.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .filters import Filter, apply_filter
from .planning import correlation_power, detectable_correlation
from .regression import diagnose, ols
from .transformations import Transformation, apply_transformations, ladder_of_powers

ALL = "all"  # the subset of everybody
KEYS = ("node", "subset", "outcome", "predictor", "adjusted")


@dataclass(frozen=True)
class Exclusion:
    """A rule by which patients are left out.

    Attributes
    ----------
    condition : Filter
        Holds for those who are to be left out.
    reason : str
        Why.
    applied : bool
        Whether they are left out, or only listed.
    """

    condition: Filter
    reason: str
    applied: bool = True


@dataclass(frozen=True)
class Subset:
    """A part of the patients in which all regressions are repeated.

    Attributes
    ----------
    name : str
    condition : Filter
        Holds for those who are in it.
    """

    name: str
    condition: Filter


@dataclass(frozen=True)
class Node:
    """Regressions that make one table: every outcome on every predictor.

    Attributes
    ----------
    name, title : str
        Of the table's file, and of its part of the report.
    outcomes, predictors, adjust : tuple of str
        Columns. Each outcome is regressed on each predictor alone, and on it with all others of
        `adjust`.
    """

    name: str
    title: str
    outcomes: tuple
    predictors: tuple
    adjust: tuple = ()


@dataclass(frozen=True)
class StudyModel:
    """What is to be computed of a table of patients.

    Attributes
    ----------
    name, description : str
    method, region, reference : str or None
        Inversion, region and reference of the susceptibility; the commonest reference if not given.
    exclusions, transformations, subsets, nodes : tuple
        Of `Exclusion`, `Transformation`, `Subset` and `Node`.
    correlation, power, alpha : float
        Of the statement of power: the correlation that it is given for, the power that the
        detectable correlation is given for, and the two-sided significance level.
    problems : tuple of (str, str)
        What of the model cannot be computed, and why.
    """

    name: str
    nodes: tuple
    description: str = ""
    method: str = "medi"
    region: str = "thalamus"
    reference: str | None = None
    exclusions: tuple[Exclusion, ...] = ()
    transformations: tuple[Transformation, ...] = ()
    subsets: tuple[Subset, ...] = ()
    correlation: float = 0.28
    power: float = 0.8
    alpha: float = 0.05
    problems: tuple = ()


def run_model(patients, model):
    """Compute a model's regressions, and what is needed to judge them.

    Exclusions come first, then transformations of everybody who is left, then subsets. A regression
    that cannot be computed stops no other one.

    Parameters
    ----------
    patients : DataFrame, shape (n, ...)
        One row per patient, indexed by label; NaN where missing.
    model : StudyModel

    Returns
    -------
    dict of str to DataFrame
        * ``coefficients``: one row per regression: ``node``, ``subset``, ``outcome``,
          ``predictor``, ``adjusted``, ``adjusted_for``; ``coefficient``, ``se``, ``ci_low``,
          ``ci_high`` (95 %, unit of the outcome by that of the predictor), ``t``, ``df``, ``p`` of
          the predictor; ``standardised``, ``standardised_low``, ``standardised_high``: the same by
          the SDs of predictor and outcome; ``r_squared``, ``adjusted_r_squared``; ``n``,
          ``n_missing`` (patients of the subset that lack a value); ``note``: why there is no
          result, else NaN
        * ``diagnostics``: one row per regression: ``leverage`` and ``cook`` (largest, with
          ``leverage_of``, ``cook_of``), ``n_leverage`` (above 2 p / n), ``n_cook`` (above 4 / n),
          ``studentised`` (largest in size, with ``studentised_of``), ``variance_inflation`` (of the
          predictor), ``most_inflated`` and its ``most_variance_inflation``, ``shapiro_w``,
          ``shapiro_p``, ``breusch_pagan``, ``breusch_pagan_df``, ``breusch_pagan_p``; of
          regressions with a diagnosis
        * ``residuals``: one row per regression and patient: ``participant``, ``predictor_value``,
          ``outcome_value``, ``fitted``, ``residual``, ``partial_residual`` (residual and the
          predictor's part, about the predictor's mean), ``leverage``, ``studentised``, ``cook``
        * ``ladder``: as of `ladder_of_powers`, of the columns that outcomes are made of
        * ``descriptives``: by subset and column, ``n``, ``n_missing``, ``mean``, ``sd``,
          ``median``, ``minimum``, ``maximum``
        * ``power``: by subset, ``n``, ``alpha``, ``correlation`` and its ``power``,
          ``detectable_correlation`` with ``wanted_power``
        * ``excluded``: ``participant``, ``what``, ``reason``, ``left_out`` (bool): exclusions,
          applied or not, missing values, and who could not be judged
        * ``patients``: those left, with the transformed columns
        * ``problems``: ``what``, ``problem``
    """
    excluded = []
    problems = [*model.problems]
    kept = _apply_exclusions(patients, model.exclusions, excluded, problems)
    table, ladders, unmade = apply_transformations(kept, model.transformations)
    problems += [(f"transformation {name}", reason) for name, reason in unmade.items()]
    _list_missing(table, model, excluded)
    subsets = _subsets(table, model.subsets, excluded, problems)
    fits = [
        _fit(members, table, unmade, keys)
        for name, members in subsets.items()
        for keys in _regressions(model.nodes, name)
    ]
    problems += [(" ".join(_words(row)), row["note"]) for row, _, _ in fits if "note" in row]
    return {
        "coefficients": pd.DataFrame([row for row, _, _ in fits], columns=COEFFICIENTS),
        "diagnostics": pd.DataFrame([row for _, row, _ in fits if row], columns=DIAGNOSTICS),
        "residuals": _stack([rows for _, _, rows in fits if rows is not None], RESIDUALS),
        "ladder": _ladders(ladders, kept, model),
        "descriptives": _descriptives(table, subsets, model),
        "power": _power(subsets, model),
        "excluded": pd.DataFrame(excluded, columns=["participant", "what", "reason", "left_out"]),
        "patients": table.rename_axis("participant").reset_index(),
        "problems": pd.DataFrame(problems, columns=["what", "problem"]),
    }


def used_columns(model):
    """Columns that a model's regressions are about, in their order.

    Parameters
    ----------
    model : StudyModel

    Returns
    -------
    list of str
    """
    names = [
        name for node in model.nodes for name in (*node.outcomes, *node.predictors, *node.adjust)
    ]
    return list(dict.fromkeys(names))


COEFFICIENTS = [
    *KEYS,
    *("adjusted_for", "coefficient", "se", "ci_low", "ci_high", "t", "df", "p"),
    *("standardised", "standardised_low", "standardised_high", "r_squared", "adjusted_r_squared"),
    *("n", "n_missing", "note"),
]
DIAGNOSTICS = [
    *KEYS,
    *(
        "leverage",
        "leverage_of",
        "n_leverage",
        "cook",
        "cook_of",
        "n_cook",
        "studentised",
        "studentised_of",
    ),
    *("variance_inflation", "most_variance_inflation", "most_inflated"),
    *("shapiro_w", "shapiro_p", "breusch_pagan", "breusch_pagan_df", "breusch_pagan_p"),
]
RESIDUALS = [
    *KEYS,
    *("participant", "predictor_value", "outcome_value", "fitted", "residual", "partial_residual"),
    *("leverage", "studentised", "cook"),
]


def _apply_exclusions(patients, exclusions, excluded, problems):
    """Leave out whom the rules say; list everybody whom a rule concerns or cannot judge."""
    left_out = pd.Series(False, index=patients.index)
    for rule in exclusions:
        what = f"{rule.reason} ({rule.condition.text})"
        try:
            holds, unknown = apply_filter(rule.condition, patients)
        except ValueError as reason:
            if rule.applied:
                problems.append((f"exclusion for {what}", str(reason)))
            else:
                missing = [name for name in rule.condition.columns if name not in patients]
                cause = f"no column {', '.join(missing)}" if missing else reason
                excluded.append((np.nan, what, f"nobody can be judged: {cause}", False))
            continue
        effect = (
            "left out by the model"
            if rule.applied
            else "listed only: the model does not apply this rule"
        )
        excluded += [(label, what, effect, rule.applied) for label in patients.index[holds]]
        unjudged = f"cannot be judged: {', '.join(rule.condition.columns)} not complete"
        excluded += [(label, what, unjudged, False) for label in patients.index[unknown]]
        left_out |= holds & rule.applied
    return patients[~left_out]


def _list_missing(table, model, excluded):
    reason = "missing: not in the regressions that need it"
    for name in used_columns(model):
        if name in table:
            excluded += [(label, name, reason, False) for label in table.index[table[name].isna()]]


def _subsets(table, subsets, excluded, problems):
    """Labels of the patients of each subset, everybody first."""
    members = {ALL: table.index}
    for subset in subsets:
        try:
            holds, unknown = apply_filter(subset.condition, table)
        except ValueError as error:
            problems.append((f"subset {subset.name}", str(error)))
            continue
        reason = f"not in this subset: {', '.join(subset.condition.columns)} not complete"
        excluded += [
            (label, f"subset {subset.name}", reason, False) for label in table.index[unknown]
        ]
        members[subset.name] = table.index[holds]
    return members


def _regressions(nodes, subset):
    for node in nodes:
        for outcome in node.outcomes:
            for predictor in node.predictors:
                others = tuple(name for name in node.adjust if name not in (predictor, outcome))
                yield (node.name, subset, outcome, predictor, False), ()
                if others:
                    yield (node.name, subset, outcome, predictor, True), others


def _fit(members, table, unmade, regression):
    """Rows of the coefficients' and the diagnostics' table, and the residuals; of a regression that
    fails, its note.
    """
    keys, others = regression
    named = dict(zip(KEYS, keys, strict=True))
    row = {**named, "adjusted_for": ", ".join(others) or np.nan}
    columns = [named["outcome"], named["predictor"], *others]
    try:
        _check_columns(columns, table, unmade)
        chosen = table.loc[members, columns]
        row |= {"n": len(chosen.dropna()), "n_missing": len(chosen) - len(chosen.dropna())}
        outcome = chosen[columns[0]]
        covariates = chosen[columns[1:]]
        if not pd.api.types.is_numeric_dtype(outcome):
            raise ValueError(
                f"{columns[0]} is not numeric ({outcome.dtype}): an outcome must be a number"
            )
        fit = ols(outcome, covariates)
    except ValueError as reason:
        return {**row, "note": str(reason)}, None, None
    found = fit.coefficients.loc[named["predictor"]]
    spread = chosen.dropna().std()
    ratio = (
        spread[named["predictor"]] / spread[named["outcome"]]
        if spread[named["outcome"]] > 0
        else np.nan
    )
    row |= {name: found[name] for name in ("coefficient", "se", "ci_low", "ci_high", "t", "p")}
    row |= {"standardised": found["coefficient"] * ratio, "df": fit.df}
    row |= {f"standardised_{end}": found[f"ci_{end}"] * ratio for end in ("low", "high")}
    row |= {"r_squared": fit.r_squared, "adjusted_r_squared": fit.adjusted_r_squared}
    try:
        diagnosis = diagnose(outcome, covariates)
    except ValueError:  # a perfect fit has coefficients and no residuals
        return row, None, None
    return (
        row,
        {**named, **_diagnosis(diagnosis, named)},
        _residuals(diagnosis, named, chosen, found["coefficient"]),
    )


def _check_columns(columns, table, unmade):
    for name in columns:
        cause = next(
            (
                reason
                for made, reason in unmade.items()
                if name == made or name.startswith(f"{made}.")
            ),
            None,
        )
        if name not in table and cause:
            raise ValueError(f"{name} could not be made: {cause}")
    missing = [name for name in columns if name not in table]
    if missing:
        raise ValueError(
            f"no column {', '.join(missing)}; there are {', '.join(map(str, table.columns))}"
        )
    empty = [name for name in columns if table[name].isna().all()]
    if empty:
        raise ValueError(f"no patient has {', '.join(empty)}")


def _diagnosis(diagnosis, named):
    rows = diagnosis.rows
    inflation = diagnosis.variance_inflation
    n = len(rows)
    p = len(inflation) + 1
    found = {}
    for name in ("leverage", "cook", "studentised"):
        sizes = rows[name].abs()
        largest = sizes.idxmax() if sizes.notna().any() else None
        found |= {
            name: np.nan if largest is None else rows.loc[largest, name],
            f"{name}_of": largest,
        }
    return {
        **found,
        "n_leverage": int((rows["leverage"] > 2 * p / n).sum()),
        "n_cook": int((rows["cook"] > 4 / n).sum()),
        "variance_inflation": inflation[named["predictor"]],
        "most_variance_inflation": inflation.max(),
        "most_inflated": inflation.idxmax(),
        "shapiro_w": diagnosis.shapiro_w,
        "shapiro_p": diagnosis.shapiro_p,
        "breusch_pagan": diagnosis.breusch_pagan,
        "breusch_pagan_df": diagnosis.breusch_pagan_df,
        "breusch_pagan_p": diagnosis.breusch_pagan_p,
    }


def _residuals(diagnosis, named, chosen, slope):
    rows = diagnosis.rows
    values = chosen.loc[rows.index, named["predictor"]].astype(float)
    partial = rows["residual"] + slope * (values - values.mean())
    labelled = (
        rows.rename(columns={"outcome": "outcome_value"}).rename_axis("participant").reset_index()
    )
    return labelled.assign(
        **named, predictor_value=values.to_numpy(), partial_residual=partial.to_numpy()
    )


def _stack(tables, columns):
    return (
        pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)
    )


def _words(row):
    adjusted = " (adjusted)" if row["adjusted"] else ""
    return row["node"], f"[{row['subset']}]:", row["outcome"], "on", f"{row['predictor']}{adjusted}"


def _ladders(asked, patients, model):
    """The ladders that the model asked for, and those of all other outcomes, for information."""
    made_of = {step.output: step.column for step in model.transformations if step.name != "Factor"}
    tables = [asked] if len(asked) else []
    known = set(asked["column"])
    for name in dict.fromkeys(name for node in model.nodes for name in node.outcomes):
        while name in made_of:
            name = made_of[name]
        if (
            name in known
            or name not in patients
            or not pd.api.types.is_numeric_dtype(patients[name])
        ):
            continue
        known.add(name)
        try:
            tables.append(ladder_of_powers(patients[name].astype(float)))
        except ValueError:  # too few or constant: the regression itself says so
            continue
    return pd.concat(tables, ignore_index=True) if tables else asked


def _descriptives(table, subsets, model):
    names = used_columns(model)
    names += [step.column for step in model.transformations if step.column not in names]
    rows = []
    for subset, members in subsets.items():
        for name in names:
            if name not in table or not pd.api.types.is_numeric_dtype(table[name]):
                continue
            values = table.loc[members, name].astype(float)
            row = {
                "subset": subset,
                "column": name,
                "n": values.count(),
                "n_missing": values.isna().sum(),
            }
            with np.errstate(
                invalid="ignore"
            ):  # infinite values have no spread; the regressions name them
                row |= {"mean": values.mean(), "sd": values.std(), "median": values.median()}
            rows.append({**row, "minimum": values.min(), "maximum": values.max()})
    columns = ["subset", "column", "n", "n_missing", "mean", "sd", "median", "minimum", "maximum"]
    return pd.DataFrame(rows, columns=columns)


def _power(subsets, model):
    rows = []
    for subset, members in subsets.items():
        if (n := len(members)) < 4:
            continue
        detectable = detectable_correlation(n, power=model.power, alpha=model.alpha)
        row = {"subset": subset, "n": n, "alpha": model.alpha, "correlation": model.correlation}
        row |= {"power": correlation_power(model.correlation, n, alpha=model.alpha)}
        rows.append({**row, "detectable_correlation": detectable, "wanted_power": model.power})
    columns = [
        "subset",
        "n",
        "alpha",
        "correlation",
        "power",
        "detectable_correlation",
        "wanted_power",
    ]
    return pd.DataFrame(rows, columns=columns)
