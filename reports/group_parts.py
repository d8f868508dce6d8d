"""The parts of a study's report: one for each kind of statistic, with notes that explain it."""

from collections.abc import Collection, Mapping

import pandas as pd

from ..pictures.agreement import bland_altman_figure, icc_figure, imprecision_figure
from ..pictures.drawing import PPB, readable
from ..pictures.regional import age_figure, calibration_figure, roi_figure
from ..pictures.variance import component_name, harmonization_figure, variance_figure
from .blocks import Block, Column, Details, KeyValues, Paragraph, Table
from .group_texts import COLUMNS, METHOD, NOTES, REFERENCE_NAMES, ROI
from .parts import picture_blocks


def study_parts(
    tables: Mapping[str, pd.DataFrame], links: Mapping[str, str], sites: Collection[str]
) -> dict[str, tuple[Block, ...]]:
    """Return the parts of the report, without those that surround them.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables that are not empty, by their names: see `multiqsm.reports.group.group_report`.
    links : dict of str to str
        Relative paths to the tables as files.
    sites : collection of str
        All sites of the study.

    Returns
    -------
    dict of str to tuple of Block
        By their titles; empty if the tables that a part needs do not exist.
    """
    return {
        "Regions": _regions(tables, links, sites),
        "Imprecision": _imprecision(tables, links),
        "Tests": _tests(tables, links),
        "Reference regions": _references(tables, links),
        "ICC": _icc(tables, links, sites),
        "Variance": _components(tables, links),
        "Detectable change": _detectable_change(tables, links),
        "Deep grey nuclei": _nuclei(tables, links),
        "Bland-Altman": _bland_altman(tables, links),
        "Calibration": _calibration(tables, links, sites),
        "Harmonisation": _harmonization(tables, links, sites),
        "Age": _age(tables, links),
        "R2*": _r2star(tables, links),
        "Computation time": _times(tables, links),
    }


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
    caption = "Regional susceptibility of every subject in all scans, by site."
    table_caption = "Susceptibility of the regions over all scans"
    return (
        Paragraph(NOTES["rois"], note=True),
        *picture_blocks(caption, roi_figure, rois, sites=sites),
        Table(_readable(table), table_caption, columns, links.get("rois")),
    )


def _imprecision(tables, links):
    if "imprecision" not in tables and "imprecision_summary" not in tables:
        return ()
    blocks = [Paragraph(NOTES["imprecision"], note=True)]
    if "imprecision_summary" in tables:
        summary = tables["imprecision_summary"]
        if "published" in tables:
            blocks.append(Paragraph(NOTES["published"], note=True))
            summary = _with_published(summary, tables["published"], ["method", "roi"])
        caption = "Imprecision, mean over subjects"
        blocks.append(
            statistics_table(
                {"imprecision_summary": summary}, "imprecision_summary", caption, links
            )
        )
    if "imprecision" in tables:
        caption = (
            "Within- and cross-site imprecision of each subject, with the P value (Bonferroni) of "
            "the paired test between them."
        )
        sources = (tables["imprecision"], tables.get("within_versus_cross"))
        blocks.extend(picture_blocks(caption, imprecision_figure, *sources))
        columns = [Column("subject")]
        for column in COLUMNS["imprecision_summary"]:
            if column.name != "n_subjects":
                columns.append(column)
        rows = _readable(tables["imprecision"])
        table = Table(rows, "Imprecision", columns, links.get("imprecision"))
        blocks.append(Details("Imprecision of each subject, as a table", (table,)))
    return tuple(blocks)


def _tests(tables, links):
    captions = {
        "within_versus_cross": "Cross-site versus within-site imprecision",
        "equivalence": "Equivalence of cross-site and within-site imprecision",
        "between_rois": "Differences in imprecision between regions",
        "between_methods": "Differences between inversions",
    }
    blocks = []
    for name, caption in captions.items():
        if name in tables:
            tests = tables[name].dropna(subset="p")
            part = [Paragraph(NOTES[name], note=True)]
            n_impossible = len(tables[name]) - len(tests)
            if n_impossible:
                part.append(Paragraph(f"{n_impossible} {NOTES['impossible_tests']}", note=True))
            if len(tests):
                part.append(statistics_table({name: tests}, name, caption, links))
            blocks.extend(
                part if name in ("within_versus_cross", "equivalence") else [Details(caption, part)]
            )
    if blocks:
        blocks.insert(0, Paragraph(NOTES["bonferroni"], note=True))
    return tuple(blocks)


def _references(tables, links):
    if "references" not in tables:
        return ()
    caption = "Imprecision of reference regions, and of deep grey regions relative to them"
    named = tables["references"].replace({"reference": REFERENCE_NAMES})
    return (
        Paragraph(NOTES["references"], note=True),
        statistics_table({"references": named}, "references", caption, links),
    )


def _icc(tables, links, sites):
    if "icc" not in tables:
        return ()
    caption = "ICC(2,1), absolute agreement of a single measurement."
    blocks = [
        Paragraph(NOTES["icc"], note=True),
        *picture_blocks(caption, icc_figure, tables["icc"], sites=sites),
    ]
    table = statistics_table(tables, "icc", "Intraclass correlations", links)
    return (*blocks, Details("All intraclass correlations, as a table", (table,)))


def _components(tables, links):
    if "components" not in tables:
        return ()
    caption = "Fraction of a region's variance that is due to each component."
    table = statistics_table(tables, "components", "Variance components", links)
    return (
        Paragraph(NOTES["components"], note=True),
        *picture_blocks(caption, variance_figure, tables["components"]),
        Details("Variance components, as a table", (table,)),
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
            part = (
                Paragraph(NOTES[name], note=True),
                statistics_table(tables, name, caption, links),
            )
            blocks.extend([Details(caption, part)] if name == "within_subject_sd" else part)
    return tuple(blocks)


def _bland_altman(tables, links):
    if "bland_altman" not in tables:
        return ()
    limits = tables["bland_altman"]
    blocks = [Paragraph(NOTES["bland_altman"], note=True)]
    if "bland_altman_points" in tables:
        points = tables["bland_altman_points"]
        comparisons = points[["comparison", "method"]].drop_duplicates().to_numpy().tolist()
        for number, (comparison, method) in enumerate(comparisons):
            title = f"Sites, {readable(method)}" if comparison == "sites" else "Methods"
            caption = f"{title}: differences against means, bias and limits of agreement."
            choice = {"comparison": comparison, "method": method}
            part = picture_blocks(caption, bland_altman_figure, points, limits, **choice)
            blocks.extend(part if number == 0 else [Details(title, part)])
    table = statistics_table(tables, "bland_altman", "Bias and limits of agreement", links)
    return (*blocks, Details("Bias and limits of agreement, as a table", (table,)))


def _calibration(tables, links, sites):
    if "calibration" not in tables:
        return ()
    blocks = [Paragraph(NOTES["calibration"], note=True)]
    if "tubes" in tables:
        caption = "Measured against expected susceptibility of the phantom's tubes."
        fits = tables["calibration"]
        blocks += picture_blocks(caption, calibration_figure, tables["tubes"], fits, sites=sites)
    lines = tables["calibration"]
    if "published_calibration" in tables:
        blocks.append(Paragraph(NOTES["published_calibration"], note=True))
        lines = _with_published(lines, tables["published_calibration"], ["site"])
    return (*blocks, statistics_table({"calibration": lines}, "calibration", "Calibration", links))


def _harmonization(tables, links, sites):
    if "harmonized" not in tables and "harmonization" not in tables:
        return ()
    blocks = [Paragraph(NOTES["harmonization"], note=True)]
    if "harmonized" in tables:
        caption = (
            "Differences between scans and the mean of their subject, before and after "
            "harmonisation."
        )
        harmonized = tables["harmonized"]
        blocks += picture_blocks(
            caption, harmonization_figure, tables["rois"], harmonized, sites=sites
        )
    if "harmonization" in tables:
        blocks.append(statistics_table(tables, "harmonization", "Harmonisation", links))
    return tuple(blocks)


def _age(tables, links):
    if "age" not in tables:
        return ()
    blocks = [Paragraph(NOTES["age"], note=True)]
    for number, method in enumerate(pd.unique(tables["age"]["method"])):
        title = f"Susceptibility against age, {readable(method)}"
        sources = (tables["rois"], tables["age"], tables.get("imprecision"))
        part = picture_blocks(f"{title}.", age_figure, *sources, method=method)
        blocks.extend(part if number == 0 else [Details(title, part)])
    notes = [Paragraph(NOTES["bonferroni"], note=True)]
    lines = tables["age"]
    if "published_age" in tables:
        notes.append(Paragraph(NOTES["published_age"], note=True))
        lines = _with_published(lines, tables["published_age"], ["method", "roi", "analysis"])
    table = statistics_table({"age": lines}, "age", "Regression on age", links)
    return (*blocks, Details("Regressions on age, as a table", (*notes, table)))


def _r2star(tables, links):
    captions = {"roi_r2star": "R2* of the regions", "tubes_r2star": "R2* of the phantom's tubes"}
    blocks = []
    for name, caption in captions.items():
        if name in tables:
            values = tables[name].groupby("roi", sort=False)["mean"]
            table = values.agg(["mean", "std", "min", "max", "count"]).reset_index()
            columns = COLUMNS["roi_r2star"]
            blocks.append(
                Table(_readable(table), f"{caption}, all scans", columns, links.get(name))
            )
    if blocks:
        blocks.insert(0, Paragraph(NOTES["r2star"], note=True))
    captions = {
        "imprecision_summary_r2star": "Imprecision of R2*, mean over subjects",
        "imprecision_r2star": "Imprecision of R2* of each subject",
        "within_subject_sd_r2star": "Within-subject standard deviation of R2*",
        "icc_r2star": "Intraclass correlations of R2*",
    }
    for name, caption in captions.items():
        if name in tables:
            table = statistics_table(tables, name, caption, links)
            statistic = name.removesuffix("_r2star").removesuffix("_summary")
            note = Paragraph(NOTES[statistic], note=True)
            is_main = name == "imprecision_summary_r2star"
            blocks.extend((note, table) if is_main else [Details(caption, (note, table))])
    return tuple(blocks)


def _nuclei(tables, links):
    if "nuclei" not in tables:
        return ()
    nuclei = tables["nuclei"]
    notes = ["nuclei"]
    if "published_nuclei" in tables:
        notes.append("published_nuclei")
        nuclei = _with_published(nuclei, tables["published_nuclei"], ["quantity", "definition"])
    caption = "Within-subject SD and ICC of the deep grey nuclei together"
    blocks = [Paragraph(NOTES[name], note=True) for name in notes]
    return (*blocks, statistics_table({"nuclei": nuclei}, "nuclei", caption, links))


def _times(tables, links):
    if "times" not in tables:
        return ()
    times = tables["times"]
    machine = {}
    for column in ("processor", "threads"):
        machine[column] = ", ".join(map(str, times[column].dropna().unique()))
    blocks = [Paragraph(NOTES["times"], note=True)]
    if "published_times" in tables:
        blocks.append(Paragraph(NOTES["published_times"], note=True))
        times = _with_published(times, tables["published_times"], ["method"])
    caption = "Computation time of an inversion, mean over scans"
    blocks.append(statistics_table({"times": times}, "times", caption, links))
    return (*blocks, KeyValues(machine, "Timed on"))


def _with_published(table, published, keys):
    """Return a table with the published values of its rows in columns of their own."""
    published = published.set_index(keys).add_prefix("published_").reset_index()
    return table.merge(published, on=keys, how="left")


def statistics_table(
    tables: Mapping[str, pd.DataFrame], name: str, caption: str, links: Mapping[str, str]
) -> Table:
    """Return a table of statistics as a block, with labels in words.

    Parameters
    ----------
    tables : dict of str to DataFrame
        Tables by their names.
    name : str
        That of the table.
    caption : str
    links : dict of str to str
        Relative paths to the tables as files.

    Returns
    -------
    Table
    """
    return Table(_readable(tables[name]), caption, COLUMNS.get(name), links.get(name))


def _readable(table):
    """Return a table with its labels as words, by method and region in the order of their first
    rows.
    """
    keys = [name for name in ("comparison", "method", "measure", "roi") if name in table]
    if keys:
        ranks = table[keys].apply(lambda labels: pd.factorize(labels)[0])
        table = table.loc[ranks.sort_values(keys, kind="stable").index]
    names = table.columns.intersection(
        ("method", "roi", "roi_1", "roi_2", "reference", "definition", "analysis", "family")
    )
    table = table.assign(**table[names].map(readable, na_action="ignore"))
    if "note" in table and table["note"].isna().all():
        table = table.drop(columns="note")
    if "component" in table:
        table = table.assign(component=table["component"].map(component_name))
    return table
