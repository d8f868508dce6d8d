"""The report of a study: tables and figures of reproducibility across sites, each statistic
explained in a note.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ..pictures.agreement import bland_altman_figure, icc_figure, imprecision_figure
from ..pictures.drawing import PPB, readable
from ..pictures.regional import age_figure, calibration_figure, roi_figure
from ..pictures.variance import component_name, harmonization_figure, variance_figure
from ..stats.reproducibility import require_columns
from .blocks import Badge, Column, Details, KeyValues, Paragraph, Picture, Section, Table
from .group_texts import COLUMNS, KNOWN_TABLES, METHOD, NOTES, REFERENCE_NAMES, ROI
from .html import render_report
from .parts import (
    checklist_blocks,
    counted_badge,
    first_version,
    message_blocks,
    methods_blocks,
    picture_blocks,
    preset_blocks,
)


def group_report(
    tables: Mapping[str, pd.DataFrame | None],
    *,
    title: str = "Reproducibility across sites",
    study: Mapping[str, object] | None = None,
    differences: pd.DataFrame | None = None,
    method_differences: Iterable[str] = (),
    failures: Iterable[tuple[str, str]] = (),
    warnings: Iterable[str] = (),
    pictures: Sequence[Picture] = (),
    phantom_pictures: Mapping[str, Picture] | None = None,
    links: Mapping[str, str] | None = None,
    citation: str = "",
    checklist: pd.DataFrame | None = None,
    versions: Mapping[str, str] | None = None,
) -> str:
    """Write the report of a study.

    Parameters
    ----------
    tables : dict of str to DataFrame
        ``rois``, the long ROI table of people, or ``tubes`` is required; each of the others adds
        its part to the report: ``imprecision`` (per subject), ``imprecision_summary``,
        ``within_versus_cross``, ``between_rois``, ``between_methods`` and ``within_subject_sd`` of
        `stats.reproducibility`; ``references`` of `stats.references`; ``published`` (method, roi,
        within, cross in ppm, within_percent, cross_percent) to show next to the summary; ``icc``,
        ``bland_altman`` and ``bland_altman_points`` of `stats.agreement`; ``components`` of
        `stats.components`; ``sdc`` (method, roi, sdc, ci_low, ci_high, ppb); ``sample_size`` (any
        columns); ``tubes`` (the phantom's ROI table) and ``calibration`` of `stats.calibration`;
        ``harmonized`` (the ROI table of the harmonised scans, to compare with ``rois``) and
        ``harmonization`` (any columns); ``age`` of `stats.regression`; ``roi_r2star``,
        ``tubes_r2star``, ``imprecision_r2star``, ``imprecision_summary_r2star``,
        ``within_subject_sd_r2star`` and ``icc_r2star`` of `stats.relaxation`; ``nuclei`` of
        `stats.nuclei`, with ``published_nuclei`` (quantity, definition, sdw, icc) to show next to
        it; ``excluded``, the scans that were excluded from all other tables; ``times`` of
        `stats.times`, with ``published_times`` (method, wall in s, wall_ratio) to show next to it;
        likewise ``published_calibration`` (site, slope, intercept, r_squared as texts) and
        ``published_age`` (method, roi, analysis, r, p as texts).
    title : str
    study : dict, optional
        Further information about the study, by name.
    differences : DataFrame, optional
        Choices that differ from the preset of a published study: columns ``option``, ``preset`` and
        ``used``.
    method_differences : sequence of str
        How the methods of the preset differ from the study's.
    failures : sequence of (str, str)
        Each scan that failed, and the cause.
    warnings : sequence of str
    pictures : sequence of Picture
        Maps of a person.
    phantom_pictures : dict of str to Picture, optional
        Maps of a phantom by site.
    links : dict of str to str, optional
        Relative paths from the report to the tables as files, by the names of `tables`, and to the
        ``checklist``.
    citation : str
        The methods text, with the papers to cite.
    checklist : DataFrame, optional
        The reporting checklist: columns ``section``, ``item``, ``applies_to`` and ``value``.
    versions : dict of str to str, optional
        Versions of the software.

    Returns
    -------
    str
        One HTML page. Its overview names the parts that were not computed.

    Raises
    ------
    ValueError
        If both ROI tables are missing, a table is unknown or lacks a column, or a link is not
        relative.
    """
    unknown = sorted(set(tables) - set(KNOWN_TABLES))
    if unknown:
        raise ValueError(
            f"no part of the report shows {', '.join(unknown)}: choose tables from "
            f"{', '.join(KNOWN_TABLES)}"
        )
    filled = {}
    sites: set[str] = set()
    for name, table in tables.items():
        if table is not None and not table.empty:
            filled[name] = table
            if name in ("rois", "tubes"):
                sites.update(map(str, table["site"].dropna()))
    if "rois" not in filled and "tubes" not in filled:
        raise ValueError(
            "a report needs the ROI table of people or of phantoms, with at least one row"
        )
    rois = filled["rois"] if "rois" in filled else filled["tubes"]
    links = links or {}
    versions = versions or {}
    require_columns(rois, ["subject", "site", "scan", "method", "roi", "mean"])
    failures = list(failures)
    parts = {
        "Regions": _regions(filled, links, sites),
        "Imprecision": _imprecision(filled, links),
        "Tests": _tests(filled, links),
        "Reference regions": _references(filled, links),
        "ICC": _icc(filled, links, sites),
        "Variance": _components(filled, links),
        "Detectable change": _detectable_change(filled, links),
        "Deep grey nuclei": _nuclei(filled, links),
        "Bland-Altman": _bland_altman(filled, links),
        "Calibration": _calibration(filled, links, sites),
        "Harmonisation": _harmonization(filled, links, sites),
        "Age": _age(filled, links),
        "R2*": _r2star(filled, links),
        "Computation time": _times(filled, links),
    }
    absent = [name for name, blocks in parts.items() if not blocks]
    overview = _overview(rois, study or {}, failures, list(warnings), absent)
    overview.extend(preset_blocks(differences, list(method_differences)))
    if "excluded" in filled:
        overview.append(_table(filled, "excluded", "Scans excluded from all statistics", links))
    sections = [
        Section("Overview", overview),
        Section("Maps", _maps("rois" in filled, pictures, phantom_pictures or {})),
        *itertools.starmap(Section, parts.items()),
        Section("Methods", methods_blocks(citation, versions)),
        Section("Reporting checklist", checklist_blocks(checklist, links.get("checklist"))),
    ]
    n_scans = int(_scan_count(rois).sum())
    badges = [
        counted_badge(rois["subject"].nunique(), "subject"),
        counted_badge(rois["site"].nunique(), "site"),
        counted_badge(n_scans, "scan"),
        counted_badge(rois["roi"].nunique(), "region"),
        Badge(str(len(failures)), "failed", "error" if failures else ""),
    ]
    return render_report(
        title,
        sections,
        subtitle="Quantitative susceptibility mapping",
        badges=badges,
        footer=first_version(versions),
    )


def _overview(rois, study, failures, warnings, absent):
    blocks = message_blocks(failures, warnings)
    if study:
        blocks.append(KeyValues(study))
    if "protocol" in rois:
        protocols = rois[["site", "protocol"]].drop_duplicates().sort_values("site")
        sites = [f"site {site}" for site in protocols["site"]]
        items = dict(zip(sites, protocols["protocol"], strict=True))
        blocks.append(KeyValues(items, "Protocols"))
    counts = _scan_count(rois).unstack("site", fill_value=0).sort_index()
    counts["total"] = counts.sum(axis=1)
    columns = [Column("subject")]
    for site in counts.columns:
        heading = site if site == "total" else f"site {site}"
        columns.append(Column(site, heading, "d"))
    total = counts.sum().to_frame().T.assign(subject="total")
    caption = "Scans of each subject at each site"
    blocks.append(Table(counts.reset_index(), caption, columns, footer=total))
    if absent:
        text = f"This report lacks the following, which was not computed: {', '.join(absent)}."
        blocks.append(Paragraph(text, note=True))
    return blocks


def _maps(has_people, pictures, phantom_pictures):
    blocks = list(pictures)
    if has_people and not pictures:
        text = "The participant level wrote no picture of the person who would be shown here."
        blocks.append(Paragraph(text, note=True))
    for number, (site, picture) in enumerate(phantom_pictures.items()):
        blocks.append(Details(f"Phantom at site {site}", (picture,), open=number == 0))
    return tuple(blocks)


def _scan_count(rois):
    """Return the number of scans by subject and site, of those with a value in any region."""
    scans = rois.dropna(subset=["mean"]).drop_duplicates(["subject", "site", "scan"])
    return scans.groupby(["subject", "site"]).size()


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
            _table({"imprecision_summary": summary}, "imprecision_summary", caption, links)
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
                part.append(_table({name: tests}, name, caption, links))
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
        _table({"references": named}, "references", caption, links),
    )


def _icc(tables, links, sites):
    if "icc" not in tables:
        return ()
    caption = "ICC(2,1), absolute agreement of a single measurement."
    blocks = [
        Paragraph(NOTES["icc"], note=True),
        *picture_blocks(caption, icc_figure, tables["icc"], sites=sites),
    ]
    table = _table(tables, "icc", "Intraclass correlations", links)
    return (*blocks, Details("All intraclass correlations, as a table", (table,)))


def _components(tables, links):
    if "components" not in tables:
        return ()
    caption = "Fraction of a region's variance that is due to each component."
    table = _table(tables, "components", "Variance components", links)
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
            part = (Paragraph(NOTES[name], note=True), _table(tables, name, caption, links))
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
    table = _table(tables, "bland_altman", "Bias and limits of agreement", links)
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
    return (*blocks, _table({"calibration": lines}, "calibration", "Calibration", links))


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
        blocks.append(_table(tables, "harmonization", "Harmonisation", links))
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
    table = _table({"age": lines}, "age", "Regression on age", links)
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
            table = _table(tables, name, caption, links)
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
    return (*blocks, _table({"nuclei": nuclei}, "nuclei", caption, links))


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
    blocks.append(_table({"times": times}, "times", caption, links))
    return (*blocks, KeyValues(machine, "Timed on"))


def _with_published(table, published, keys):
    """Return a table with the published values of its rows in columns of their own."""
    published = published.set_index(keys).add_prefix("published_").reset_index()
    return table.merge(published, on=keys, how="left")


def _table(tables, name, caption, links):
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
