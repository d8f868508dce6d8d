"""The report of a study's regressions, with what is needed to judge them."""

import pandas as pd

from ..pictures.drawing import readable
from ..pictures.regressions import forest_figure, partial_residual_figure, residual_figure
from ..stats.model import ALL
from ..stats.reproducibility import require_columns
from .blocks import (
    Badge,
    Column,
    Details,
    Heading,
    KeyValues,
    Paragraph,
    Picture,
    Section,
    Table,
    Warnings,
)
from .html import render_report
from .subject import methods_blocks

_REGRESSION = (Column("outcome"), Column("predictor"), Column("adjusted"))
_TESTS = (
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
_PUBLISHED = (
    Column("published", "published", ".3g"),
    Column("published_low", "95 % CI from", ".3g"),
    Column("published_high", "to", ".3g"),
    Column("published_p", "P, published", "p"),
)
_DIAGNOSTICS = (
    Column("subset"),
    *_REGRESSION,
    Column("variance_inflation", "VIF", ".2f"),
    Column("most_variance_inflation", "largest VIF", ".2f"),
    Column("leverage", "largest leverage", ".3f"),
    Column("leverage_of", "of"),
    Column("cook", "largest Cook's D", ".3f"),
    Column("cook_of", "of"),
    Column("n_cook", "above 4/n", "d"),
    Column("studentised", "largest studentised", "+.2f"),
    Column("studentised_of", "of"),
    Column("shapiro_w", "Shapiro-Wilk W", ".3f"),
    Column("shapiro_p", "P", "p"),
    Column("breusch_pagan", "Breusch-Pagan χ²", ".2f"),
    Column("breusch_pagan_p", "P", "p"),
)
_DESCRIPTIVES = (
    Column("subset"),
    Column("column"),
    Column("unit"),
    Column("mean", "mean", ".4g"),
    Column("sd", "SD", ".4g"),
    Column("median", "median", ".4g"),
    Column("minimum", "smallest", ".4g"),
    Column("maximum", "largest", ".4g"),
    Column("n", "n", "d"),
    Column("n_missing", "missing", "d"),
)
_POWER = (
    Column("subset"),
    Column("n", "n", "d"),
    Column("alpha", "two-sided α", ".2g"),
    Column("correlation", "correlation", ".2f"),
    Column("power", "its power", ".3f"),
    Column("detectable_correlation", "detectable correlation", ".3f"),
    Column("wanted_power", "with power", ".2f"),
)
_LADDER = (
    Column("column"),
    Column("formula", "transformation"),
    Column("chi2", "χ²(2)", ".2f"),
    Column("p", "P", "p"),
    Column("n", "n", "d"),
    Column("chosen", "most normal"),
)
NOTES = {
    "coefficients": (
        "Ordinary least squares. A coefficient is the change of the outcome for one unit of the "
        "predictor; "
        "standardised, for one standard deviation, in standard deviations. Before adjustment the "
        "predictor stands "
        "alone; after it, with the other variables of its row in the table as a file."
    ),
    "standardised": "Intervals of standardised coefficients take both standard deviations as "
    "known.",
    "partial": (
        "Partial residuals are what is left of the outcome once the other variables are taken "
        "away, and the line is "
        "the predictor's coefficient: a curve here asks for a transformation. Patients in colour "
        "have a Cook's "
        "distance above 4 / n."
    ),
    "residuals": (
        "Left: no trend and no funnel are to be seen. Middle: normal residuals lie on the line. "
        "Right: a patient far "
        "to the right and far from zero decides the fit alone."
    ),
    "diagnostics": (
        "A variance inflation factor (VIF) above 5 says that a predictor can hardly be told from "
        "the others. Small P "
        "of Shapiro-Wilk speaks against normal residuals, of Breusch-Pagan against equal variances."
    ),
    "ladder": (
        "The ladder of powers tests which transformation makes a variable most normal "
        "(D'Agostino-Pearson K²; the "
        "smallest χ²). It is for information: no transformation is applied but those that the "
        "model names."
    ),
    "power": "Power of the two-sided test of a correlation, exact for two normal variables, with "
    "so many patients.",
    "excluded": "Nobody is left out silently: everybody whom a rule or a missing value concerns is "
    "listed here.",
}
KNOWN_TABLES = (
    *(
        "coefficients",
        "diagnostics",
        "residuals",
        "ladder",
        "descriptives",
        "power",
        "excluded",
        "patients",
    ),
    *("problems", "sources", "published"),
)


def model_report(tables, model, *, warnings=(), links=None, citation="", versions=None):
    """Write the report of a study's regressions.

    Parameters
    ----------
    tables : dict of str to DataFrame
        As of `stats.model.run_model`; ``coefficients`` must be there. Further ``sources`` of
        `cohort.patients.collect_patients`, and ``published`` (outcome, predictor, adjusted,
        published, published_low, published_high, published_p) to set beside the coefficients of all
        patients.
    model : multiqsm.stats.model.StudyModel
        What was asked for.
    warnings : sequence of str
    links : dict of str to str, optional
        Relative paths from the report to the tables as files, by the names of `tables` and nodes.
    citation : str
        What was done before, in words, with the papers to cite.
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
            f"no part of the report shows {', '.join(unknown)}: known are {', '.join(KNOWN_TABLES)}"
        )
    coefficients = tables.get("coefficients", pd.DataFrame())
    require_columns(
        coefficients, ["node", "subset", "outcome", "predictor", "adjusted", "coefficient", "n"]
    )
    tables = {name: table for name, table in tables.items() if not table.empty}
    links = links or {}
    versions = versions or {}
    failed = int(coefficients["coefficient"].isna().sum())
    sections = [
        Section("Overview", _overview(tables, model, list(warnings), links)),
        *(Section(node.title, _node(tables, node, links)) for node in model.nodes),
        Section("Patients", _patients(tables, links)),
        Section("Diagnostics", _diagnostics(tables, links)),
        Section("Ladder of powers", _noted(tables, "ladder", "Ladder of powers", _LADDER, links)),
        Section(
            "Power", _noted(tables, "power", "Power and detectable correlation", _POWER, links)
        ),
        Section("Left out or missing", _excluded(tables, links)),
        Section("Methods", methods_blocks(citation, versions)),
    ]
    badges = [
        Badge(str(len(tables.get("patients", ()))), "patients"),
        Badge(str(len(coefficients) - failed), "regressions"),
        Badge(str(failed), "not computed", "error" if failed else ""),
    ]
    return render_report(
        f"Model {model.name}",
        sections,
        subtitle="Quantitative susceptibility mapping",
        badges=badges,
        footer=", ".join(f"{name} {version}" for name, version in list(versions.items())[:1]),
    )


def _overview(tables, model, warnings, links):
    blocks = []
    if "problems" in tables:
        messages = tuple(f"{row.what}: {row.problem}" for row in tables["problems"].itertuples())
        blocks.append(Warnings(messages, "What could not be computed", "error"))
    if warnings:
        blocks.append(Warnings(tuple(warnings)))
    if model.description:
        blocks.append(Paragraph(model.description))
    steps = [_step(step) for step in model.transformations]
    rules = [
        f"{rule.condition.text}: {'left out' if rule.applied else 'listed only'}"
        for rule in model.exclusions
    ]
    subsets = [f"{subset.name}: {subset.condition.text}" for subset in model.subsets]
    asked = {"transformations": steps, "exclusions": rules, "subsets": subsets}
    blocks.append(
        KeyValues({name: "; ".join(texts) or "none" for name, texts in asked.items()}, "The model")
    )
    if "sources" in tables:
        table = Table(tables["sources"], "Where each column comes from", link=links.get("sources"))
        blocks.append(Details("Where each column comes from", (table,)))
    return tuple(blocks)


def _step(step):
    value = f" {step.options['Value']:g}" if "Value" in step.options else ""
    return f"{step.output} = {step.name}{value} of {step.column}"


def _node(tables, node, links):
    coefficients = (
        tables["coefficients"] if "coefficients" in tables else pd.DataFrame(columns=["node"])
    )
    coefficients = coefficients[coefficients["node"] == node.name]
    if coefficients.empty:
        return ()
    blocks = [Paragraph(NOTES["coefficients"], note=True)]
    for subset in coefficients["subset"].unique():
        blocks += _node_in_subset(
            tables, node, subset, coefficients[coefficients["subset"] == subset], links
        )
    return tuple(blocks)


def _node_in_subset(tables, node, subset, rows, links):
    shown = rows
    columns = (*_REGRESSION, *_TESTS)
    if subset == ALL and "published" in tables:
        shown = rows.merge(tables["published"], on=["outcome", "predictor", "adjusted"], how="left")
        if shown["published"].notna().any():
            columns = (*_REGRESSION, *_TESTS[:4], *_PUBLISHED, *_TESTS[4:])
    link = links.get(node.name)
    blocks = [] if subset == ALL else [Heading(f"Patients: {subset}")]
    blocks += _drawn(f"{node.title}: {subset}. {NOTES['standardised']}", forest_figure, rows)
    blocks.append(Table(_named(shown), f"{node.title}: {subset}", columns, link))
    if "residuals" not in tables:
        return blocks
    of_node = tables["residuals"]
    of_node = of_node[(of_node["node"] == node.name) & (of_node["subset"] == subset)]
    for adjusted, what in ((True, "after adjustment"), (False, "before adjustment")):
        part = of_node[of_node["adjusted"] == adjusted]
        if part.empty:
            continue
        pictures = [
            Paragraph(NOTES["partial"], note=True),
            *_drawn(f"Partial residuals {what}.", partial_residual_figure, part),
        ]
        if adjusted or not of_node["adjusted"].any():
            pictures.append(Paragraph(NOTES["residuals"], note=True))
            pictures += _drawn(f"Residuals {what}.", residual_figure, part, format="webp")
        blocks.append(
            Details(f"Residuals {what}: {subset}", tuple(pictures), subset == ALL and adjusted)
        )
    return blocks


def _patients(tables, links):
    if "descriptives" not in tables:
        return ()
    table = tables["descriptives"]
    if "sources" in tables:
        units = tables["sources"].query("used").set_index("column")["unit"]
        table = table.assign(unit=table["column"].map(units).astype(object).fillna(""))
    return (
        Table(_named(table), "Variables of the model", _DESCRIPTIVES, links.get("descriptives")),
    )


def _diagnostics(tables, links):
    if "diagnostics" not in tables:
        return ()
    table = Table(
        _named(tables["diagnostics"]), "Diagnostics", _DIAGNOSTICS, links.get("diagnostics")
    )
    return (Paragraph(NOTES["diagnostics"], note=True), table)


def _excluded(tables, links):
    blocks = _noted(tables, "excluded", "Patients", None, links)
    return blocks or (Paragraph("Nobody: every patient has every value.", note=True),)


def _noted(tables, name, caption, columns, links):
    if name not in tables:
        return ()
    return Paragraph(NOTES[name], note=True), Table(
        _named(tables[name]), caption, columns, links.get(name)
    )


def _named(table):
    names = [name for name in ("outcome", "predictor", "column", "adjusted_for") if name in table]
    table = table.assign(**{name: table[name].map(readable, na_action="ignore") for name in names})
    return table.drop(columns="note") if "note" in table and table["note"].isna().all() else table


def _drawn(caption, draw, table, *, format="svg"):
    """A picture, or the reason why there is none: too little data for one figure must not cost the
    report.
    """
    try:
        return (Picture(draw(table), caption, format=format),)
    except ValueError as reason:
        return (Paragraph(f"No figure ({caption.rstrip('.')}): {reason}.", note=True),)
