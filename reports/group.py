"""The report of a study: reproducibility across sites, in tables and figures with a sentence on
each statistic.
"""

import pandas as pd

from ..pictures.agreement import bland_altman_figure, icc_figure, imprecision_figure
from ..pictures.drawing import PPB, readable
from ..pictures.regional import age_figure, calibration_figure, roi_figure
from ..pictures.variance import component_name, harmonization_figure, variance_figure
from ..stats.reproducibility import require_columns
from .blocks import Badge, Column, Details, KeyValues, Paragraph, Picture, Section, Table, Warnings
from .group_texts import COLUMNS, KNOWN_TABLES, METHOD, NOTES, ROI
from .html import render_report
from .subject import methods_blocks


def group_report(
    tables,
    *,
    title="Reproducibility across sites",
    study=None,
    failures=(),
    warnings=(),
    links=None,
    citation="",
    versions=None,
):
    """Write the report of a study.

    Parameters
    ----------
    tables : dict of str to DataFrame
        ``rois``, the long ROI table of people, or ``tubes`` must be there; the others make their
        part of the report: ``imprecision`` (per subject), ``imprecision_summary``,
        ``within_versus_cross``, ``between_rois``, ``between_methods`` and ``within_subject_sd`` of
        `stats.reproducibility`; ``published`` (method, roi, within, cross in ppm, within_percent,
        cross_percent) to set beside the summary; ``icc``, ``bland_altman`` and
        ``bland_altman_points`` of `stats.agreement`; ``components`` of `stats.components`; ``sdc``
        (method, roi, sdc, ci_low, ci_high, ppb); ``sample_size`` (any columns); ``tubes`` (the
        phantom's ROI table) and ``calibration`` of `stats.calibration`; ``harmonized`` (the ROI
        table of the harmonised scans, to compare with ``rois``) and ``harmonization`` (any
        columns); ``age`` of `stats.regression`; ``excluded``, the scans that were left out of all
        others.
    title : str
    study : dict, optional
        What else to say of the study, by name.
    failures : sequence of (str, str)
        Scans that failed, and why.
    warnings : sequence of str
    links : dict of str to str, optional
        Relative paths from the report to the tables as files, by the names of `tables`.
    citation : str
        What was done, in words, with the papers to cite.
    versions : dict of str to str, optional
        Versions of the software.

    Returns
    -------
    str
        One HTML page. What was not computed is named in its overview.

    Raises
    ------
    ValueError
        If both ROI tables are missing, a table is unknown or lacks a column, or a link is not
        relative.
    """
    unknown = sorted(set(tables) - set(KNOWN_TABLES))
    if unknown:
        raise ValueError(
            f"no part of the report shows {', '.join(unknown)}: known are {', '.join(KNOWN_TABLES)}"
        )
    tables = {
        name: table for name, table in tables.items() if table is not None and not table.empty
    }
    if not {"rois", "tubes"} & set(tables):
        raise ValueError(
            "a report needs the ROI table of people or of phantoms, with at least one row"
        )
    rois = tables.get("rois", tables.get("tubes"))
    links = links or {}
    versions = versions or {}
    require_columns(rois, ["subject", "site", "scan", "method", "roi", "mean"])
    failures = list(failures)
    warnings = list(warnings)
    sites = {
        str(site)
        for name in ("rois", "tubes")
        if name in tables
        for site in tables[name]["site"].dropna()
    }
    parts = {
        "Regions": _regions(tables, links, sites),
        "Imprecision": _imprecision(tables, links),
        "Tests": _tests(tables, links),
        "ICC": _icc(tables, links, sites),
        "Variance": _components(tables, links),
        "Detectable change": _detectable_change(tables, links),
        "Bland-Altman": _bland_altman(tables, links),
        "Calibration": _calibration(tables, links, sites),
        "Harmonisation": _harmonization(tables, links, sites),
        "Age": _age(tables, links),
    }
    absent = [name for name, blocks in parts.items() if not blocks]
    overview = _overview(rois, study or {}, failures, warnings, absent)
    if "excluded" in tables:
        overview = (
            *overview,
            _table(tables, "excluded", "Scans left out of all statistics", links),
        )
    report = [
        Section("Overview", overview),
        *(Section(name, blocks) for name, blocks in parts.items()),
    ]
    scans = _scan_count(rois)
    badges = [
        Badge(str(rois["subject"].nunique()), "subjects"),
        Badge(str(rois["site"].nunique()), "sites"),
        Badge(str(int(scans.sum())), "scans"),
        Badge(str(rois["roi"].nunique()), "regions"),
        Badge(str(len(failures)), "failed", "error" if failures else ""),
    ]
    return render_report(
        title,
        [*report, Section("Methods", methods_blocks(citation, versions))],
        subtitle="Quantitative susceptibility mapping",
        badges=badges,
        footer=", ".join(f"{name} {version}" for name, version in list(versions.items())[:1]),
    )


def _overview(rois, study, failures, warnings, absent):
    blocks = []
    if failures:
        blocks.append(
            Warnings(
                tuple(f"{scan}: {cause}" for scan, cause in failures), "Scans that failed", "error"
            )
        )
    if warnings:
        blocks.append(Warnings(tuple(warnings)))
    if study:
        blocks.append(KeyValues(study))
    if "protocol" in rois:
        protocols = (
            rois[["site", "protocol"]].drop_duplicates().sort_values("site").itertuples(index=False)
        )
        blocks.append(
            KeyValues({f"site {site}": protocol for site, protocol in protocols}, "Protocols")
        )
    counts = _scan_count(rois).unstack("site", fill_value=0).sort_index()
    counts["total"] = counts.sum(axis=1)
    columns = [
        Column("subject"),
        *(Column(s, f"site {s}" if s != "total" else s, "d") for s in counts.columns),
    ]
    total = counts.sum().to_frame().T.assign(subject="total")
    blocks.append(
        Table(
            counts.reset_index(), "Scans of each subject at each site", tuple(columns), footer=total
        )
    )
    if absent:
        blocks.append(
            Paragraph(
                f"Not in this report, because it was not computed: {', '.join(absent)}.", note=True
            )
        )
    return tuple(blocks)


def _scan_count(rois):
    """Scans by subject and site; those whose regions are all missing are none."""
    known = rois.dropna(subset=["mean"]).drop_duplicates(["subject", "site", "scan"])
    return known.groupby(["subject", "site"]).size()


def _regions(tables, links, sites):
    if "rois" not in tables:
        return ()
    rois = tables["rois"]
    table = (
        rois.groupby(["method", "roi"], sort=False)["mean"]
        .agg(["mean", "std", "min", "max", "count"])
        .reset_index()
    )
    columns = (
        METHOD,
        ROI,
        Column("mean", "mean (ppb)", ".1f", PPB),
        Column("std", "SD of all scans (ppb)", ".1f", PPB),
        Column("min", "smallest (ppb)", ".1f", PPB),
        Column("max", "largest (ppb)", ".1f", PPB),
        Column("count", "scans", "d"),
    )
    return (
        Paragraph(NOTES["rois"], note=True),
        *_drawn(
            "Regional susceptibility of every subject in all scans, by site.",
            roi_figure,
            rois,
            sites=sites,
        ),
        Table(
            _named(table),
            "Susceptibility of the regions over all scans",
            columns,
            links.get("rois"),
        ),
    )


def _imprecision(tables, links):
    if "imprecision" not in tables and "imprecision_summary" not in tables:
        return ()
    blocks = [Paragraph(NOTES["imprecision"], note=True)]
    if "imprecision_summary" in tables:
        summary = tables["imprecision_summary"]
        if "published" in tables:
            blocks.append(Paragraph(NOTES["published"], note=True))
            published = (
                tables["published"]
                .set_index(["method", "roi"])
                .add_prefix("published_")
                .reset_index()
            )
            summary = summary.merge(published, on=["method", "roi"], how="left")
        caption = "Imprecision, mean over subjects"
        blocks.append(
            _table({"imprecision_summary": summary}, "imprecision_summary", caption, links)
        )
    if "imprecision" in tables:
        caption = "Within- and cross-site imprecision of each subject."
        blocks.extend(_drawn(caption, imprecision_figure, tables["imprecision"]))
        columns = [
            column for column in COLUMNS["imprecision_summary"] if column.name != "n_subjects"
        ]
        table = Table(
            _named(tables["imprecision"]),
            "Imprecision",
            (Column("subject"), *columns),
            links.get("imprecision"),
        )
        blocks.append(Details("Imprecision of each subject, as a table", (table,)))
    return tuple(blocks)


def _tests(tables, links):
    captions = {
        "within_versus_cross": "Cross-site against within-site imprecision",
        "between_rois": "Imprecision between regions",
        "between_methods": "Between inversions",
    }
    blocks = []
    for name, caption in captions.items():
        if name in tables:
            shown = (Paragraph(NOTES[name], note=True), _table(tables, name, caption, links))
            blocks.extend(shown if name == "within_versus_cross" else [Details(caption, shown)])
    if blocks:
        text = (
            "Bonferroni: P times the number of tests of its family, which keeps the family's false "
            "alarms at 5 %."
        )
        blocks.insert(0, Paragraph(text, note=True))
    return tuple(blocks)


def _icc(tables, links, sites):
    if "icc" not in tables:
        return ()
    caption = "ICC(2,1), absolute agreement of a single measurement."
    blocks = [
        Paragraph(NOTES["icc"], note=True),
        *_drawn(caption, icc_figure, tables["icc"], sites=sites),
    ]
    table = _table(tables, "icc", "Intraclass correlations", links)
    return (*blocks, Details("All intraclass correlations, as a table", (table,)))


def _components(tables, links):
    if "components" not in tables:
        return ()
    caption = "Share of each component in a region's variance."
    return (
        Paragraph(NOTES["components"], note=True),
        *_drawn(caption, variance_figure, tables["components"]),
        Details(
            "Variance components, as a table",
            (_table(tables, "components", "Variance components", links),),
        ),
    )


def _detectable_change(tables, links):
    captions = {
        "sdc": "Smallest detectable change",
        "sample_size": "Sample size",
        "within_subject_sd": "Within-subject standard deviation",
    }
    blocks = []
    for name, caption in captions.items():
        if name in tables:
            shown = (Paragraph(NOTES[name], note=True), _table(tables, name, caption, links))
            blocks.extend([Details(caption, shown)] if name == "within_subject_sd" else shown)
    return tuple(blocks)


def _bland_altman(tables, links):
    if "bland_altman" not in tables:
        return ()
    limits = tables["bland_altman"]
    points = tables.get("bland_altman_points")
    blocks = [Paragraph(NOTES["bland_altman"], note=True)]
    shown = (
        []
        if points is None
        else points[["comparison", "method"]].drop_duplicates().to_numpy().tolist()
    )
    for number, (comparison, method) in enumerate(shown):
        what = f"Sites, {readable(method)}" if comparison == "sites" else "Methods"
        caption = f"{what}: differences on means, bias and limits of agreement."
        drawn = _drawn(
            caption, bland_altman_figure, points, limits, comparison=comparison, method=method
        )
        blocks.extend(drawn if number == 0 else [Details(what, drawn)])
    table = _table(tables, "bland_altman", "Bias and limits of agreement", links)
    return (*blocks, Details("Bias and limits of agreement, as a table", (table,)))


def _calibration(tables, links, sites):
    if "calibration" not in tables:
        return ()
    blocks = [Paragraph(NOTES["calibration"], note=True)]
    if "tubes" in tables:
        caption = "Measured on expected susceptibility of the phantom's tubes."
        blocks.extend(
            _drawn(caption, calibration_figure, tables["tubes"], tables["calibration"], sites=sites)
        )
    return (*blocks, _table(tables, "calibration", "Calibration", links))


def _harmonization(tables, links, sites):
    if "harmonized" not in tables and "harmonization" not in tables:
        return ()
    blocks = [Paragraph(NOTES["harmonization"], note=True)]
    if "harmonized" in tables:
        caption = "Differences of scans from their subject's mean, before and after harmonisation."
        blocks.extend(
            _drawn(caption, harmonization_figure, tables["rois"], tables["harmonized"], sites=sites)
        )
    if "harmonization" in tables:
        blocks.append(_table(tables, "harmonization", "Harmonisation", links))
    return tuple(blocks)


def _age(tables, links):
    if "age" not in tables:
        return ()
    blocks = [Paragraph(NOTES["age"], note=True)]
    for number, method in enumerate(pd.unique(tables["age"]["method"])):
        caption = f"Susceptibility on age, {readable(method)}."
        drawn = _drawn(
            caption,
            age_figure,
            tables["rois"],
            tables["age"],
            tables.get("imprecision"),
            method=method,
        )
        blocks.extend(drawn if number == 0 else [Details(caption.rstrip("."), drawn)])
    return (
        *blocks,
        Details(
            "Regressions on age, as a table", (_table(tables, "age", "Regression on age", links),)
        ),
    )


def _table(tables, name, caption, links):
    return Table(_named(tables[name]), caption, COLUMNS.get(name), links.get(name))


def _named(table):
    """The table by method and region in the order of their first rows, with its labels as words."""
    keys = [name for name in ("comparison", "method", "measure", "roi") if name in table]
    order = pd.DataFrame({name: pd.factorize(table[name])[0] for name in keys}, index=table.index)
    table = table.loc[order.sort_values(keys, kind="stable").index] if keys else table
    labels = [
        n for n in ("method", "roi", "roi_1", "roi_2", "definition", "analysis") if n in table
    ]
    named = {name: table[name].map(readable, na_action="ignore") for name in labels}
    if "note" in table and table["note"].isna().all():
        table = table.drop(columns="note")
    if "component" in table:
        named["component"] = table["component"].map(component_name)
    return table.assign(**named)


def _drawn(caption, draw, *tables, **options):
    """A picture, or the reason why there is none: too little data for one figure must not cost the
    report.
    """
    try:
        return (Picture(draw(*tables, **options), caption),)
    except ValueError as reason:
        return (Paragraph(f"No figure ({caption.rstrip('.')}): {reason}.", note=True),)
