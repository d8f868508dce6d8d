"""The report of a study: tables and figures of reproducibility across sites, each statistic
explained in a note.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from ..stats.reproducibility import require_columns
from .blocks import Badge, Column, Details, KeyValues, Paragraph, Picture, Section, Table
from .group_parts import statistics_table, study_parts
from .group_texts import KNOWN_TABLES
from .html import render_report
from .parts import (
    checklist_blocks,
    counted_badge,
    first_version,
    message_blocks,
    methods_blocks,
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
    parts = study_parts(filled, links, sites)
    absent = [name for name, blocks in parts.items() if not blocks]
    overview = _overview(rois, study or {}, failures, list(warnings), absent)
    overview.extend(preset_blocks(differences, list(method_differences)))
    if "excluded" in filled:
        overview.append(
            statistics_table(filled, "excluded", "Scans excluded from all statistics", links)
        )
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
