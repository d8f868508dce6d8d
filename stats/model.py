"""The regressions of a study as its model specifies them.

Outcomes are regressed on predictors, before and after adjustment, in all patients and in subsets.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .filters import apply_filter
from .planning import correlation_power, detectable_correlation
from .regression import diagnose, ols
from .specification import ALL, Node, StudyModel, used_columns
from .transformations import apply_transformations, ladder_of_powers

KEYS = ("node", "subset", "outcome", "predictor", "adjusted")


@dataclass(frozen=True)
class _Regression:
    """A regression of one outcome on one predictor in a subset."""

    node: str
    subset: str
    outcome: str
    predictor: str
    adjusted_for: tuple[str, ...] = ()

    def __str__(self):
        adjusted = " (adjusted)" if self.adjusted_for else ""
        return f"{self.node} [{self.subset}]: {self.outcome} on {self.predictor}{adjusted}"

    @property
    def keys(self) -> dict[str, str | bool]:
        """The regression's values of the columns `KEYS`."""
        values = (self.node, self.subset, self.outcome, self.predictor, bool(self.adjusted_for))
        return dict(zip(KEYS, values, strict=True))


def run_model(patients: pd.DataFrame, model: StudyModel) -> dict[str, pd.DataFrame]:
    """Compute a model's regressions, with diagnostics and power.

    Exclusions come first, then transformations of the remaining patients, then subsets. If one
    regression fails, the others are computed nevertheless.

    Parameters
    ----------
    patients : DataFrame, shape (n, ...)
        One row per patient, indexed by label; NaN where missing.
    model : StudyModel
        The analysis.

    Returns
    -------
    dict of str to DataFrame
        * ``coefficients``: one row per regression: ``node``, ``subset``, ``outcome``,
          ``predictor``, ``adjusted``, ``adjusted_for``; ``coefficient``, ``se``, ``ci_low``,
          ``ci_high`` (95 %, unit of the outcome by that of the predictor), ``t``, ``df``, ``p`` of
          the predictor; ``standardised``, ``standardised_low``, ``standardised_high``: coefficient
          and interval in units of the SDs of predictor and outcome; ``r_squared``,
          ``adjusted_r_squared``; ``n``, ``n_missing`` (patients of the subset that lack a value);
          ``note``: the reason for a missing result, else NaN
        * ``covariates``: one row per adjusted regression and covariate (``term``):
          ``coefficient``, ``se``, ``ci_low``, ``ci_high``, ``t``, ``p`` of the covariate; ``n``
        * ``diagnostics``: one row per regression: ``leverage`` and ``cook`` (largest, with
          ``leverage_of``, ``cook_of``), ``n_leverage`` (above 2 p / n), ``n_cook`` (above 4 / n),
          ``studentised`` (largest in size, with ``studentised_of``), ``variance_inflation`` (of the
          predictor), ``most_inflated`` and its ``most_variance_inflation``, ``shapiro_w``,
          ``shapiro_p``, ``breusch_pagan``, ``breusch_pagan_df``, ``breusch_pagan_p``
        * ``residuals``: one row per regression and patient: ``participant``, ``predictor_value``,
          ``outcome_value``, ``fitted``, ``residual``, ``partial_residual`` (residual plus the
          effect of the predictor, relative to its mean), ``leverage``, ``studentised``, ``cook``
        * ``ladder``: results of `ladder_of_powers` for the columns from which outcomes are computed
        * ``descriptives``: by subset and column, ``n``, ``n_missing``, ``mean``, ``sd``,
          ``median``, ``minimum``, ``maximum``; ``count`` of ones in columns of 0 and 1, else NaN
        * ``power``: by subset, ``n``, ``alpha``, ``correlation`` and its ``power``,
          ``detectable_correlation`` with ``target_power``
        * ``excluded``: ``participant``, ``what``, ``reason``, ``left_out`` (bool): exclusions,
          applied or not, missing values, and patients for whom a condition is undefined
        * ``patients``: the remaining patients, with the transformed columns
        * ``problems``: ``what``, ``problem``; regressions that fail for the same cause share a row
    """
    excluded: list[tuple] = []
    problems = [*model.problems]
    included = _apply_exclusions(patients, model.exclusions, excluded, problems)
    table, ladders, failures = apply_transformations(included, model.transformations)
    for name, reason in failures.items():
        problems.append((f"transformation {name}", reason))
    _list_missing(table, model, excluded)
    subsets = _subsets(table, model.subsets, excluded, problems)
    coefficients = []
    covariates = [pd.DataFrame(columns=COVARIATES)]
    diagnostics = []
    residuals = [pd.DataFrame(columns=RESIDUALS)]
    regressions_by_cause: dict[str, list[_Regression]] = {}
    for subset, members in subsets.items():
        for regression in _regressions(model.nodes, subset):
            row, fit, diagnosis = _fit(members, table, failures, regression)
            coefficients.append(row)
            if fit is not None and regression.adjusted_for:
                covariates.append(_covariates(fit, regression))
            if "note" in row:
                regressions_by_cause.setdefault(row["note"], []).append(regression)
            if diagnosis is not None:
                diagnostics.append(_diagnostics_row(diagnosis, regression))
                residuals.append(_residuals(diagnosis, regression, table, row["coefficient"]))
    for cause, failed in regressions_by_cause.items():
        subject = str(failed[0]) if len(failed) == 1 else f"{len(failed)} regressions"
        problems.append((subject, cause))
    return {
        "coefficients": pd.DataFrame(coefficients, columns=COEFFICIENTS),
        "covariates": pd.concat(covariates[1:] or covariates, ignore_index=True)[COVARIATES],
        "diagnostics": pd.DataFrame(diagnostics, columns=DIAGNOSTICS),
        "residuals": pd.concat(residuals[1:] or residuals, ignore_index=True)[RESIDUALS],
        "ladder": _ladders(ladders, included, model),
        "descriptives": _descriptives(table, subsets, model),
        "power": _power(subsets, model),
        "excluded": pd.DataFrame(excluded, columns=["participant", "what", "reason", "left_out"]),
        "patients": table.rename_axis("participant").reset_index(),
        "problems": pd.DataFrame(problems, columns=["what", "problem"]),
    }


COEFFICIENTS = [
    *KEYS,
    *("adjusted_for", "coefficient", "se", "ci_low", "ci_high", "t", "df", "p"),
    *("standardised", "standardised_low", "standardised_high", "r_squared", "adjusted_r_squared"),
    *("n", "n_missing", "note"),
]
COVARIATES = [
    *("node", "subset", "outcome", "predictor", "term"),
    *("coefficient", "se", "ci_low", "ci_high", "t", "p", "n"),
]
DIAGNOSTICS = [
    *KEYS,
    *("leverage", "leverage_of", "n_leverage", "cook", "cook_of", "n_cook"),
    *("studentised", "studentised_of"),
    *("variance_inflation", "most_variance_inflation", "most_inflated"),
    *("shapiro_w", "shapiro_p", "breusch_pagan", "breusch_pagan_df", "breusch_pagan_p"),
]
RESIDUALS = [
    *KEYS,
    *("participant", "predictor_value", "outcome_value", "fitted", "residual", "partial_residual"),
    *("leverage", "studentised", "cook"),
]
DESCRIPTIVES = ["subset", "column", "n", "n_missing", "count"]
DESCRIPTIVES += ["mean", "sd", "median", "minimum", "maximum"]
POWER = [
    *("subset", "n", "alpha", "correlation", "power"),
    *("detectable_correlation", "target_power"),
]


def _apply_exclusions(patients, exclusions, excluded, problems):
    """Return the patients without those whom a rule excludes.

    Everybody for whom a rule holds or is undefined is listed in `excluded`.
    """
    left_out = pd.Series(False, index=patients.index)
    for rule in exclusions:
        subject = f"{rule.reason} ({rule.condition.text})"
        try:
            holds, unknown = apply_filter(rule.condition, patients)
        except ValueError as reason:
            absent = [name for name in rule.condition.columns if name not in patients]
            if rule.applied and not (rule.is_optional and absent):
                problems.append((f"exclusion for {subject}", str(reason)))
            else:
                cause = f"no column {', '.join(absent)}" if absent else reason
                excluded.append((np.nan, subject, f"nobody can be judged: {cause}", False))
            continue
        effect = "listed only: the model does not apply this rule"
        if rule.applied:
            effect = "left out by the model"
        for label in patients.index[holds]:
            excluded.append((label, subject, effect, rule.applied))
        columns = ", ".join(rule.condition.columns)
        for label in patients.index[unknown]:
            excluded.append((label, subject, f"cannot be judged: {columns} not complete", False))
        left_out |= holds & rule.applied
    return patients[~left_out]


def _list_missing(table, model, excluded):
    """List the patients who lack a value that a regression needs."""
    reason = "missing: not in the regressions that need it"
    for name in used_columns(model):
        is_missing = table[name].isna() if name in table else pd.Series(True, index=table.index)
        for label in table.index[is_missing]:
            excluded.append((label, name, reason, False))


def _subsets(table, subsets, excluded, problems):
    """Return the labels of the patients of each subset, that of all patients first."""
    members = {ALL: table.index}
    for subset in subsets:
        try:
            holds, unknown = apply_filter(subset.condition, table)
        except ValueError as error:
            problems.append((f"subset {subset.name}", str(error)))
            continue
        reason = f"not in this subset: {', '.join(subset.condition.columns)} not complete"
        for label in table.index[unknown]:
            excluded.append((label, f"subset {subset.name}", reason, False))
        members[subset.name] = table.index[holds]
    return members


def _regressions(nodes: Sequence[Node], subset: str) -> Iterator[_Regression]:
    """Yield the regressions of a subset, each without and then with adjustment."""
    for node in nodes:
        for outcome in node.outcomes:
            for predictor in node.predictors:
                covariates = [name for name in node.adjust if name not in (predictor, outcome)]
                yield _Regression(node.name, subset, outcome, predictor)
                if covariates:
                    yield _Regression(node.name, subset, outcome, predictor, tuple(covariates))


def _fit(members, table, failures, regression):
    """Return a regression's row of coefficients, its fit and its diagnostics.

    A regression that fails has a note in its row and no fit. Diagnostics are None without
    residuals.
    """
    row = {**regression.keys, "adjusted_for": ", ".join(regression.adjusted_for) or np.nan}
    columns = [regression.outcome, regression.predictor, *regression.adjusted_for]
    try:
        _check_columns(columns, table, failures)
        values = table.loc[members, columns]
        complete = values.dropna()
        row |= {"n": len(complete), "n_missing": len(values) - len(complete)}
        outcome = values[columns[0]]
        covariates = values[columns[1:]]
        if not pd.api.types.is_numeric_dtype(outcome):
            raise ValueError(
                f"{columns[0]} is not numeric ({outcome.dtype}): an outcome must be a number"
            )
        fit = ols(outcome, covariates)
    except ValueError as reason:
        return {**row, "note": str(reason)}, None, None
    coefficient = fit.coefficients.loc[regression.predictor]
    spread = complete.std()
    ratio = np.nan
    if spread[regression.outcome] > 0:
        ratio = spread[regression.predictor] / spread[regression.outcome]
    row |= {
        **coefficient,
        "df": fit.df,
        "standardised": coefficient["coefficient"] * ratio,
        "standardised_low": coefficient["ci_low"] * ratio,
        "standardised_high": coefficient["ci_high"] * ratio,
        "r_squared": fit.r_squared,
        "adjusted_r_squared": fit.adjusted_r_squared,
    }
    try:
        return row, fit, diagnose(outcome, covariates)
    except ValueError:  # a perfect fit has coefficients and no residuals
        return row, fit, None


def _check_columns(columns, table, failures):
    """Refuse a regression whose columns are absent or empty, with the cause."""
    absent = [name for name in columns if name not in table]
    for name in absent:
        for output, reason in failures.items():
            if name == output or name.startswith(f"{output}."):
                raise ValueError(f"{name} could not be computed: {reason}")
    if absent:
        raise ValueError(
            f"no column {', '.join(absent)}: run the participant level first, or give a table that "
            "has it with --phenotype"
        )
    empty = [name for name in columns if table[name].isna().all()]
    if empty:
        raise ValueError(f"no patient has {', '.join(empty)}")


def _covariates(fit, regression):
    """Return the coefficients of the variables that a regression is adjusted for."""
    rows = fit.coefficients.loc[list(regression.adjusted_for)]
    return rows.rename_axis("term").reset_index().assign(**regression.keys, n=fit.n)


def _diagnostics_row(diagnosis, regression):
    """Summarise the diagnostics of a regression."""
    rows = diagnosis.rows
    inflation = diagnosis.variance_inflation
    n = len(rows)
    p = len(inflation) + 1
    row = regression.keys
    for name in ("leverage", "cook", "studentised"):
        sizes = rows[name].abs()
        row |= {name: np.nan, f"{name}_of": None}
        if sizes.notna().any():
            largest = sizes.idxmax()
            row |= {name: rows.loc[largest, name], f"{name}_of": largest}
    return row | {
        "n_leverage": int((rows["leverage"] > 2 * p / n).sum()),
        "n_cook": int((rows["cook"] > 4 / n).sum()),
        "variance_inflation": inflation[regression.predictor],
        "most_variance_inflation": inflation.max(),
        "most_inflated": inflation.idxmax(),
        "shapiro_w": diagnosis.shapiro_w,
        "shapiro_p": diagnosis.shapiro_p,
        "breusch_pagan": diagnosis.breusch_pagan,
        "breusch_pagan_df": diagnosis.breusch_pagan_df,
        "breusch_pagan_p": diagnosis.breusch_pagan_p,
    }


def _residuals(diagnosis, regression, table, slope):
    """Return the rows of a regression's residuals and partial residuals."""
    rows = diagnosis.rows
    values = table.loc[rows.index, regression.predictor].astype(float)
    partial = rows["residual"] + slope * (values - values.mean())
    labelled = rows.rename(columns={"outcome": "outcome_value"}).rename_axis("participant")
    return labelled.reset_index().assign(
        **regression.keys, predictor_value=values.to_numpy(), partial_residual=partial.to_numpy()
    )


def _ladders(requested, patients, model):
    """Return the ladders of the model, and those of all other outcomes, for information.

    The ladder of a transformed outcome is that of the column from which it is computed.
    """
    sources = {}
    for step in model.transformations:
        if step.name != "Factor":
            sources[step.output] = step.column
    tables = [requested] if len(requested) else []
    tested = set(requested["column"])
    for node in model.nodes:
        for name in node.outcomes:
            while name in sources:
                name = sources[name]
            if name in tested or name not in patients:
                continue
            tested.add(name)
            if pd.api.types.is_numeric_dtype(patients[name]):
                # Too few or equal values are noted by the regression itself.
                with suppress(ValueError):
                    tables.append(ladder_of_powers(patients[name].astype(float)))
    return pd.concat(tables, ignore_index=True) if tables else requested


def _descriptives(table, subsets, model):
    """Return descriptive statistics of all numeric columns in each subset."""
    names = [*used_columns(model), *(step.column for step in model.transformations)]
    names = list(dict.fromkeys([*names, *model.described]))
    rows = []
    for subset, members in subsets.items():
        for name in names:
            if name not in table or not pd.api.types.is_numeric_dtype(table[name]):
                continue
            values = table.loc[members, name].astype(float)
            row = {"subset": subset, "column": name, "n": values.count()}
            row |= {"n_missing": values.isna().sum(), "count": _count_of_ones(values)}
            # Infinite values have no spread; the regressions report them.
            with np.errstate(invalid="ignore"):
                row |= {"mean": values.mean(), "sd": values.std(), "median": values.median()}
            rows.append({**row, "minimum": values.min(), "maximum": values.max()})
    return pd.DataFrame(rows, columns=DESCRIPTIVES)


def _count_of_ones(values):
    """Return the number of ones in a column of 0 and 1, and NaN for other columns."""
    return values.sum() if values.dropna().isin((0, 1)).all() else np.nan


def _power(subsets, model):
    """Return the power of each subset of four patients or more."""
    rows = []
    for subset, members in subsets.items():
        n = len(members)
        if n < 4:
            continue
        row = {
            "subset": subset,
            "n": n,
            "alpha": model.alpha,
            "correlation": model.correlation,
            "power": correlation_power(model.correlation, n, alpha=model.alpha),
            "detectable_correlation": detectable_correlation(
                n, power=model.power, alpha=model.alpha
            ),
            "target_power": model.power,
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=POWER)
