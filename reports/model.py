"""The report of a study's regressions, with the diagnostics needed to judge them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ..pictures.drawing import readable
from ..pictures.regressions import (
    forest_figure,
    ladder_figure,
    partial_residual_figure,
    residual_figure,
)
from ..stats.reproducibility import require_columns
from ..stats.specification import ALL, StudyModel
from .blocks import (
    Badge,
    Column,
    Details,
    Heading,
    KeyValues,
    Paragraph,
    Section,
    Table,
    Warnings,
)
from .html import render_report
from .parts import checklist_blocks, first_version, methods_blocks, picture_blocks, preset_blocks
from .side_by_side import BEFORE_AND_AFTER, before_and_after_texts, descriptive_text

_REGRESSION = (Column("outcome"), Column("predictor"), Column("adjusted"))
_TESTS = (
    Column("unit"),
    Column("coefficient", "coefficient", ".3g"),
    Column("ci_low", "95 % CI from", ".3g"),
    Column("ci_high", "to", ".3g"),
    Column("p", "P", "p"),
    Column("standardised", "standardised", "+.2f"),
    Column("r_squared", "R²", ".3f"),
    Column("adjusted_r_squared", "adjusted R²", ".3f"),
    Column("n", "n", "d"),
    Column("n_missing", "missing", "d"),
    Column("note"),
)
_COVARIATES = (
    Column("outcome"),
    Column("predictor"),
    Column("term", "covariate"),
    Column("coefficient", "coefficient", ".3g"),
    Column("se", "standard error", ".3g"),
    Column("ci_low", "95 % CI from", ".3g"),
    Column("ci_high", "to", ".3g"),
    Column("t", "t", ".2f"),
    Column("p", "P", "p"),
    Column("published_p", "P, published"),
    Column("n", "n", "d"),
)
_DIAGNOSTICS = (
    Column("subset"),
    *_REGRESSION,
    Column("variance_inflation", "VIF", ".2f"),
    Column("most_variance_inflation", "largest VIF", ".2f"),
    Column("leverage", "largest leverage", ".3f"),
    Column("leverage_of", "patient"),
    Column("cook", "largest Cook's D", ".3f"),
    Column("cook_of", "patient"),
    Column("n_cook", "Cook's D above 4/n", "d"),
    Column("studentised", "largest studentised residual", "+.2f"),
    Column("studentised_of", "patient"),
    Column("shapiro_w", "Shapiro-Wilk W", ".3f"),
    Column("shapiro_p", "P", "p"),
    Column("breusch_pagan", "Breusch-Pagan χ²", ".2f"),
    Column("breusch_pagan_p", "P", "p"),
)
_DESCRIPTIVES = (
    Column("subset"),
    Column("column"),
    Column("unit"),
    Column("number", "number of patients"),
    Column("mean", "mean", ".4g"),
    Column("sd", "SD", ".4g"),
    Column("median", "median", ".4g"),
    Column("minimum", "smallest", ".4g"),
    Column("maximum", "largest", ".4g"),
    Column("n", "n", "d"),
    Column("n_missing", "missing", "d"),
    Column("published", "published: mean ± SD (range) or number"),
)
_POWER = (
    Column("subset"),
    Column("n", "n", "d"),
    Column("alpha", "two-sided α", ".2g"),
    Column("correlation", "correlation", ".2f"),
    Column("power", "power", ".3f"),
    Column("detectable_correlation", "detectable correlation", ".3f"),
    Column("target_power", "with a power of", ".2f"),
)
_LADDER = (
    Column("column"),
    Column("formula", "transformation"),
    Column("chi2", "χ²(2)", ".2f"),
    Column("p", "P", "p"),
    Column("n", "n", "d"),
    Column("chosen", "most normal"),
    Column("note"),
)
NOTES = {
    "coefficients": (
        "Ordinary least squares. A coefficient is the change of the outcome per unit of the "
        "predictor. A standardised coefficient is the change in standard deviations of the outcome "
        "per standard deviation of the predictor. Before adjustment, the model contains the "
        "predictor alone."
    ),
    "adjustment": (
        "After adjustment, the model also contains {variables}, except the predictor or outcome "
        "itself."
    ),
    "before_and_after": (
        "Coefficient (95 % confidence interval) and P. Where published coefficients are beside "
        "them, ours are converted to their unit; the others have the units of the columns."
    ),
    "covariates": (
        "Coefficients of the variables for which a regression is adjusted, from the regression of "
        "the outcome on the predictor and all of them."
    ),
    "standardised": (
        "Confidence intervals of standardised coefficients neglect the uncertainty of the two "
        "standard deviations."
    ),
    "partial": (
        "Partial residuals are the outcome minus the fitted effects of the other variables; the "
        "line is the fitted effect of the predictor. Curvature suggests that a variable should be "
        "transformed. Coloured points are patients with a Cook's distance above 4/n."
    ),
    "residuals": (
        "Left: there should be neither a trend nor a funnel shape. Middle: normally distributed "
        "residuals lie on the line. Right: a patient far to the right and far from zero has a "
        "strong influence on the fit."
    ),
    "diagnostics": (
        "A variance inflation factor (VIF) above 5 indicates that a predictor is nearly "
        "collinear with the others. A small P value indicates that residuals are not normally "
        "distributed (Shapiro-Wilk) or that their variance is not constant (Breusch-Pagan)."
    ),
    "ladder": (
        "The ladder of powers compares transformations by how normally distributed they make a "
        "variable (D'Agostino-Pearson K²; the smallest χ² is best). It is for information only: "
        "the regressions use only the transformations that the model specifies."
    ),
    "power": (
        "Power of the two-sided test of a correlation between two normally distributed variables, "
        "computed exactly for the number of patients."
    ),
    "excluded": (
        "All patients to whom an exclusion rule applies, or for whom a value is missing, are "
        "listed here."
    ),
}
KNOWN_TABLES = (
    "coefficients",
    "before_and_after",
    "covariates",
    "diagnostics",
    "residuals",
    "ladder",
    "descriptives",
    "power",
    "excluded",
    "patients",
    "problems",
    "sources",
    "published_covariates",
    "published_variables",
    "published_remarks",
)


def model_report(
    tables: Mapping[str, pd.DataFrame],
    model: StudyModel,
    *,
    study: Mapping[str, object] | None = None,
    differences: pd.DataFrame | None = None,
    method_differences: Sequence[str] = (),
    warnings: Iterable[str] = (),
    links: Mapping[str, str] | None = None,
    citation: str = "",
    checklist: pd.DataFrame | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """Write the report of a study's regressions.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables of `stats.model.run_model`; ``coefficients`` is required. Optionally ``sources`` of
        `cohort.patients.collect_patients`, and ``before_and_after`` of
        `stats.before_after.before_and_after`. To be shown next to ours: ``published_covariates``
        (subset, outcome, predictor, term, published_p) and ``published_variables`` (column, and
        those of `side_by_side.descriptive_text`) of all patients, and ``published_remarks``
        (``text``, and ``about``: the predictor, or power, that it is about).
    model : multiqsm.stats.specification.StudyModel
        The specified model.
    study : dict, optional
        How the scans were processed, by name.
    differences : DataFrame, optional
        Choices that differ from the preset of a published study: columns ``option``, ``preset`` and
        ``used``.
    method_differences : sequence of str
        How the methods of the preset differ from the study's.
    warnings : sequence of str
    links : dict of str to str, optional
        Relative paths from the report to the tables as files, by the names of `tables` and nodes,
        and to the ``checklist``.
    citation : str
        The methods text of the preceding analyses, with the papers to cite.
    checklist : DataFrame, optional
        The reporting checklist: columns ``section``, ``item``, ``applies_to`` and ``value``.
    versions : dict of str to str, optional
        Versions of the software.

    Returns
    -------
    str
        One HTML page.

    Raises
    ------
    ValueError
        If a table is unknown, or the table of coefficients is missing or lacks a column.
    """
    unknown = sorted(set(tables) - set(KNOWN_TABLES))
    if unknown:
        raise ValueError(
            f"no part of the report shows {', '.join(unknown)}: choose tables from "
            f"{', '.join(KNOWN_TABLES)}"
        )
    coefficients = tables.get("coefficients", pd.DataFrame())
    require_columns(
        coefficients, ["node", "subset", "outcome", "predictor", "adjusted", "coefficient", "n"]
    )
    tables = {name: table for name, table in tables.items() if not table.empty}
    links = links or {}
    versions = versions or {}
    n_failed = int(coefficients["coefficient"].isna().sum())
    node_sections = [Section(node.title, _node(tables, node, model, links)) for node in model.nodes]
    diagnostics = _noted(tables, "diagnostics", "Diagnostics", _DIAGNOSTICS, links)
    ladder = _ladder(tables, links)
    power = (
        *_noted(tables, "power", "Power and detectable correlation", _POWER, links),
        *_remarks(tables, ["power"]),
    )
    overview = _overview(tables, model, list(warnings), links)
    if study:
        overview.append(KeyValues(study, "Scans"))
    overview += preset_blocks(differences, method_differences)
    sections = [
        Section("Overview", overview),
        *node_sections,
        Section("Patients", _patients(tables, links)),
        Section("Diagnostics", diagnostics),
        Section("Ladder of powers", ladder),
        Section("Power", power),
        Section("Excluded or missing", _excluded(tables, links)),
        Section("Methods", methods_blocks(citation, versions)),
        Section("Reporting checklist", checklist_blocks(checklist, links.get("checklist"))),
    ]
    badges = [
        Badge(str(len(tables.get("patients", ()))), "patients"),
        Badge(str(len(coefficients) - n_failed), "regressions"),
        Badge(str(n_failed), "not computed", "error" if n_failed else ""),
    ]
    return render_report(
        f"Model {model.name}",
        sections,
        subtitle="Quantitative susceptibility mapping",
        badges=badges,
        footer=first_version(versions),
    )


def _overview(tables, model, warnings, links):
    blocks = []
    if "problems" in tables:
        problems = tables["problems"][["what", "problem"]].to_numpy().tolist()
        messages = list(itertools.starmap("{}: {}".format, problems))
        blocks.append(Warnings(messages, "Parts that could not be computed", "error"))
    if warnings:
        blocks.append(Warnings(warnings))
    if model.description:
        blocks.append(Paragraph(model.description))
    items = {
        "transformations": "; ".join(map(_transformation_text, model.transformations)) or "none",
        "exclusions": "; ".join(map(_exclusion_text, model.exclusions)) or "none",
        "subsets": "; ".join(map(_subset_text, model.subsets)) or "none",
    }
    blocks.append(KeyValues(items, "Model"))
    if "sources" in tables:
        caption = "Sources of the columns"
        table = Table(tables["sources"], caption, link=links.get("sources"))
        blocks.append(Details(caption, (table,)))
    return blocks


def _exclusion_text(rule):
    return f"{rule.condition.text}: {'excluded' if rule.applied else 'only listed'}"


def _subset_text(subset):
    return f"{subset.name}: {subset.condition.text}"


def _transformation_text(step):
    value = f" {step.options['Value']:g}" if "Value" in step.options else ""
    return f"{step.output} = {step.name}{value} of {step.column}"


def _node(tables, node, model, links):
    if "coefficients" not in tables:
        return ()
    coefficients = tables["coefficients"]
    coefficients = coefficients[coefficients["node"] == node.name]
    if coefficients.empty:
        return ()
    blocks = [Paragraph(NOTES["coefficients"], note=True)]
    if node.adjust:
        variables = readable(", ".join(node.adjust))
        blocks.append(Paragraph(NOTES["adjustment"].format(variables=variables), note=True))
    for subset in coefficients["subset"].unique():
        rows = coefficients[coefficients["subset"] == subset]
        blocks += _node_in_subset(tables, node, subset, rows, model, links)
    return tuple(blocks)


def _node_in_subset(tables, node, subset, rows, model, links):
    title = f"{node.title}: {subset}"
    blocks = [] if subset == ALL else [Heading(f"Patients: {subset}")]
    blocks += _side_by_side(tables, node, subset, links)
    blocks += picture_blocks(f"{title}. {NOTES['standardised']}", forest_figure, rows)
    rows = rows.assign(unit=_units(rows, tables, model))
    blocks.append(Table(_readable(rows), title, (*_REGRESSION, *_TESTS), links.get(node.name)))
    blocks += _covariates(tables, node, subset, links)
    if "residuals" not in tables:
        return blocks
    of_node = _of_node(tables, "residuals", node, subset)
    for adjusted, stage in ((True, "after adjustment"), (False, "before adjustment")):
        part = of_node[of_node["adjusted"] == adjusted]
        if part.empty:
            continue
        pictures = [
            Paragraph(NOTES["partial"], note=True),
            *picture_blocks(f"Partial residuals {stage}.", partial_residual_figure, part),
        ]
        if adjusted or not of_node["adjusted"].any():
            pictures.append(Paragraph(NOTES["residuals"], note=True))
            caption = f"Residuals {stage}."
            pictures += picture_blocks(caption, residual_figure, part, format="webp")
        is_open = subset == ALL and adjusted
        blocks.append(Details(f"Residuals {stage}: {subset}", pictures, is_open))
    return blocks


def _of_node(tables, name, node, subset):
    table = tables[name]
    return table[(table["node"] == node.name) & (table["subset"] == subset)]


def _side_by_side(tables, node, subset, links):
    if "before_and_after" not in tables:
        return []
    texts = before_and_after_texts(_of_node(tables, "before_and_after", node, subset))
    caption = f"{node.title}, before and after adjustment: {subset}"
    table = Table(_readable(texts), caption, BEFORE_AND_AFTER, links.get("before_and_after"))
    remarks = _remarks(tables, texts["predictor"])
    return [Paragraph(NOTES["before_and_after"], note=True), *remarks, table]


def _remarks(tables, subjects):
    """Return the remarks on published results about one of the subjects."""
    if "published_remarks" not in tables:
        return []
    remarks = tables["published_remarks"]
    texts = remarks.loc[remarks["about"].isin(subjects), "text"]
    return [Paragraph(text, note=True) for text in texts]


def _units(rows, tables, model):
    """Return the unit of each coefficient; empty where that of the outcome is not known."""
    if "sources" not in tables:
        return ""
    sources_with_unit = tables["sources"].query("used").dropna(subset=["unit"])
    units = sources_with_unit.set_index("column")["unit"].to_dict()
    for step in model.transformations:
        if step.name == "Log" and step.column in units:
            units[step.output] = f"log {units[step.column]}"
    texts = []
    for row in rows.itertuples():
        unit = units.get(row.outcome, "")
        per = units.get(row.predictor)
        texts.append(f"{unit} per {per}" if unit and per else unit)
    return texts


def _covariates(tables, node, subset, links):
    if "covariates" not in tables:
        return []
    rows = _of_node(tables, "covariates", node, subset)
    if rows.empty:
        return []
    if "published_covariates" in tables:
        keys = ["subset", "outcome", "predictor", "term"]
        rows = rows.merge(tables["published_covariates"], on=keys, how="left")
        rows = rows.dropna(axis="columns", how="all")
    caption = f"Coefficients of the covariates: {subset}"
    table = Table(_readable(rows), caption, _COVARIATES, links.get("covariates"))
    return [Details(caption, (Paragraph(NOTES["covariates"], note=True), table))]


def _patients(tables, links):
    if "descriptives" not in tables:
        return ()
    table = tables["descriptives"]
    if "count" in table:
        table = _as_numbers_of_patients(table)
    if "sources" in tables:
        units = tables["sources"].query("used").set_index("column")["unit"]
        table = table.assign(unit=table["column"].map(units).astype(object).fillna(""))
    if "published_variables" in tables:
        published = tables["published_variables"].assign(subset=ALL)
        table = table.merge(published, on=["subset", "column"], how="left")
        table = table.assign(published=table.apply(descriptive_text, axis="columns"))
    caption = "Variables of the model"
    return (Table(_readable(table), caption, _DESCRIPTIVES, links.get("descriptives")),)


def _as_numbers_of_patients(table):
    """Show the number of ones instead of the mean and SD of columns of 0 and 1."""
    is_count = table["count"].notna()
    numbers = table["count"].map("{:.0f}".format) + " of " + table["n"].map(str)
    table = table.assign(number=numbers.where(is_count, ""))
    table.loc[is_count, ["mean", "sd", "median", "minimum", "maximum"]] = np.nan
    return table


def _excluded(tables, links):
    blocks = _noted(tables, "excluded", "Patients", None, links)
    return blocks or (Paragraph("No patient was excluded and no value is missing.", note=True),)


def _ladder(tables, links):
    if "ladder" not in tables:
        return ()
    blocks = list(_noted(tables, "ladder", "Ladder of powers", _LADDER, links))
    patients = tables.get("patients", pd.DataFrame())
    for column, rungs in tables["ladder"].groupby("column", sort=False):
        if column in patients:
            title = f"Quantile-normal plots of {readable(column)}"
            caption = f"{title} after each power; the most normal one is coloured."
            pictures = picture_blocks(caption, ladder_figure, patients[column], rungs)
            blocks.append(Details(title, pictures))
    return tuple(blocks)


def _noted(tables, name, caption, columns, links):
    if name not in tables:
        return ()
    table = Table(_readable(tables[name]), caption, columns, links.get(name))
    return (Paragraph(NOTES[name], note=True), table)


def _readable(table):
    """Return a table with its labels as words, and without its notes if there are none."""
    labels = ("outcome", "predictor", "term", "column", "adjusted_for")
    names = table.columns.intersection(labels)
    table = table.assign(**table[names].map(readable, na_action="ignore"))
    if "note" in table and table["note"].isna().all():
        table = table.drop(columns="note")
    return table
