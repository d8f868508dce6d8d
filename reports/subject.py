"""The report of one subject: its scans, their processing, the results, and warnings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from ..pictures.drawing import PPB, readable
from ..pictures.regional import roi_figure
from .blocks import (
    Badge,
    Column,
    Details,
    KeyValues,
    Paragraph,
    Picture,
    Section,
    Table,
    Warnings,
)
from .html import format_cell, render_report
from .parts import (
    checklist_blocks,
    counted_badge,
    first_version,
    message_blocks,
    methods_blocks,
)

SCAN_BUDGET = 480_000  # bytes of the report that the pictures of one scan may occupy
LABELS = ("session", "task", "acquisition", "ceagent", "reconstruction", "run", "chunk", "site")
LABEL_COLUMNS = tuple(map(Column, LABELS))
SCAN_COLUMNS = (
    *LABEL_COLUMNS,
    Column("scanner"),
    Column("field_strength", "field (T)", ".2f"),
    Column("echo_times", "echo times (ms)", ".4g"),
    Column("voxel_size", "voxel size (mm)", ".3g"),
    Column("phase_sign", "phase sign", "+d"),
    Column("phase_sign_source", "phase sign determined by"),
    Column("phase_encoding", "phase stored as"),
    Column("mask_source", "mask"),
    Column("mask_volume", "mask volume (mL)", ".0f"),
    Column("roi_source", "regions from"),
)
MAP_COLUMNS = (
    *LABEL_COLUMNS,
    Column("method"),
    Column("lambda_value", "λ", ".3g"),
    Column("lambda_units", "unit of λ"),
    Column("lambda_rule", "λ chosen by"),
    Column("iterations", "iterations", "d"),
    Column("reference", "reference region"),
    Column("reference_voxels", "reference voxels", "d"),
    Column("offset", "subtracted reference mean (ppb)", "+.1f", PPB),
    Column("reference_sd", "reference SD (ppb)", ".1f", PPB),
)
REGISTRATION_COLUMNS = (
    *LABEL_COLUMNS,
    Column("translation", "translation (mm)", ".2f"),
    Column("rotation", "rotation (°)", ".2f"),
    Column("displacement", "residual displacement (mm)", ".2f"),
    Column("correlation", "correlation with the average", ".4f"),
)

QUALITY_COLUMNS = (
    *LABEL_COLUMNS,
    Column("snr_first_echo", "SNR, first echo", ".0f"),
    Column("snr", "SNR, all echoes", ".0f"),
    Column("field_se", "standard error of the field (ppb)", ".2f", PPB),
    Column("field_se_noise", "of which noise (ppb)", ".2f", PPB),
    Column("field_se_systematic", "of which systematic misfit (ppb)", ".2f", PPB),
    Column("local_field_sd", "SD of the local field (ppb)", ".1f", PPB),
    Column("local_field_robust_sd", "robust SD of the local field (ppb)", ".1f", PPB),
    Column("unresolved_voxels", "voxels not unwrapped", ".0f"),
    Column("unresolved_fraction", "voxels not unwrapped (%)", ".2f", 100),
    Column("without_weight", "mask voxels without weight (%)", ".2f", 100),
    Column("mask_volume", "mask volume (mL)", ".0f"),
    Column("lambda_at_bound", "λ at a bound"),
    Column("not_converged", "not converged"),
    Column("sign_asymmetry", "skewness in the deep brain", "+.2f"),
    Column("displacement", "residual displacement (mm)", ".2f"),
    Column("doubts", "implausible values"),
)
LESION_COLUMNS = (
    Column("lesion"),
    Column("volume", "volume (mL)", ".3f"),
    Column("n_voxels", "voxels", "d"),
    Column("x", "x (mm)", ".1f"),
    Column("y", "y (mm)", ".1f"),
    Column("z", "z (mm)", ".1f"),
    Column("n_seeds", "seeds", "d"),
)
MAX_LESIONS = 20  # rows of the table in the report; the file has all lesions


def subject_report(
    subject: str,
    scans: pd.DataFrame,
    *,
    maps: pd.DataFrame | None = None,
    failures: Iterable[tuple[str, str]] = (),
    warnings: Iterable[str] = (),
    pictures: Mapping[str, Sequence[Picture]] | None = None,
    registration: pd.DataFrame | None = None,
    registration_picture: Picture | None = None,
    quality: pd.DataFrame | None = None,
    lesions: pd.DataFrame | None = None,
    lesion_source: str = "",
    lesion_picture: Picture | None = None,
    rois: pd.DataFrame | None = None,
    r2star: pd.DataFrame | None = None,
    region_pictures: Sequence[Picture] = (),
    variability_pictures: Sequence[Picture] = (),
    links: Mapping[str, str] | None = None,
    citation: str = "",
    checklist: pd.DataFrame | None = None,
    versions: Mapping[str, str] | None = None,
    sites: Iterable[object] | None = None,
) -> str:
    """Write the report of one subject.

    Parameters
    ----------
    subject : str
        The subject's label.
    scans : DataFrame
        One row per processed scan, with any of the columns of `SCAN_COLUMNS`. ``echo_times`` and
        ``voxel_size`` may contain lists.
    maps : DataFrame, optional
        One row per scan and inversion, see `MAP_COLUMNS`; ``offset`` and ``reference_sd`` in ppm.
    failures : sequence of (str, str)
        Each scan that failed, and the cause.
    warnings : sequence of str
        Messages to the reader about what should be checked.
    pictures : dict of str to sequence of Picture, optional
        Pictures of each scan by the scan's title. They are compressed until those of a scan occupy
        less than half a megabyte.
    registration : DataFrame, optional
        One row per scan, see `REGISTRATION_COLUMNS`.
    registration_picture : Picture, optional
    quality : DataFrame, optional
        One row per scan, see `QUALITY_COLUMNS`.
    lesions : DataFrame, optional
        One row per lesion and a last row with the total, see `LESION_COLUMNS`.
    lesion_source : str
        How the lesions were segmented.
    lesion_picture : Picture, optional
    rois : DataFrame, optional
        The ROI table of the subject: columns ``session``, ``run``, ``site``, ``method``, ``roi``,
        ``mean`` (ppm).
    r2star : DataFrame, optional
        The table of R2* of the same regions: the same columns without ``method``; ``mean`` in 1/s.
    region_pictures : sequence of Picture
        Pictures of the regions and the reference region.
    variability_pictures : sequence of Picture
        Maps of the voxel-wise SD across scans.
    links : dict of str to str, optional
        Relative paths of the tables as files: ``scans``, ``maps``, ``registration``, ``rois``;
        ``checklist``, that of all scans.
    citation : str
        The methods text, with the papers to cite.
    checklist : DataFrame, optional
        The reporting checklist of the subject's scans: columns ``section``, ``item``,
        ``applies_to`` and ``value``.
    versions : dict of str to str, optional
        Versions of the software.
    sites : iterable of str, optional
        All sites of the study, which determine the colours; by default those of `rois`.

    Returns
    -------
    str
        One HTML page.

    Raises
    ------
    ValueError
        If a table lacks a column that its figure needs, a link is not relative, or a picture is not
        in a supported format.
    """
    links = links or {}
    versions = versions or {}
    failures = list(failures)
    warnings = list(warnings)
    report = [
        Section("Summary", _summary(scans, maps, failures, warnings, links)),
        Section("Regions", _regions(subject, rois, r2star, region_pictures, links, sites)),
        Section("Lesions", _lesions(lesions, lesion_source, lesion_picture)),
        Section("Image quality", _quality(quality)),
        Section("Registration", _registration(registration, registration_picture, links)),
        Section("Variability", _variability(variability_pictures)),
        Section("Scans", _scan_pictures(pictures or {})),
        Section("Methods", methods_blocks(citation, versions)),
        Section("Reporting checklist", checklist_blocks(checklist, links.get("checklist"))),
    ]
    n_sites = _n_sites(scans)
    badges = [
        Badge(str(len(scans)), "scan processed" if len(scans) == 1 else "scans processed"),
        counted_badge(n_sites, "site"),
        Badge(str(len(failures)), "failed", "error" if failures else ""),
        Badge(
            str(len(warnings)),
            "warning" if len(warnings) == 1 else "warnings",
            "warning" if warnings else "",
        ),
    ]
    return render_report(
        f"Subject {subject}",
        report,
        subtitle="Quantitative susceptibility mapping",
        badges=badges,
        footer=first_version(versions),
    )


def _summary(scans, maps, failures, warnings, links):
    blocks = message_blocks(failures, warnings)
    if not blocks:
        text = "All scans were processed without warnings."
        blocks.append(Warnings((text,), "No problems", "info"))
    if not scans.empty:
        blocks += _common_and_differing(scans, "Scan parameters", SCAN_COLUMNS, links.get("scans"))
    if maps is not None:
        relation = "Values are relative to the mean of the whole mask."
        if "reference" in maps:
            relation = "Values are relative to the reference region, whose mean was subtracted."
        text = f"Susceptibility is determined only up to a constant. {relation}"
        blocks.append(Paragraph(text, note=True))
        blocks += _common_and_differing(maps, "Susceptibility maps", MAP_COLUMNS, links.get("maps"))
    return tuple(blocks)


def _regions(subject, rois, r2star, pictures, links, sites):
    if rois is None or rois.empty:
        return tuple(pictures)
    rois = rois.assign(subject=subject)
    text = (
        "Each point is one scan. The scans of each site are shown in order, so that drifts are "
        "visible."
    )
    blocks = [
        Paragraph(text, note=True),
        Picture(
            roi_figure(rois, sites=sites),
            "Mean susceptibility of each region in every scan, by site.",
            f"Strip plot of regional susceptibility of subject {subject}",
        ),
    ]
    for method, table in rois.groupby("method", sort=False):
        caption = f"Mean susceptibility (ppb), {readable(method)}"
        blocks.append(_scans_by_rois(table, caption, PPB, links.get("rois")))
    if r2star is not None and not r2star.empty:
        blocks.append(_scans_by_rois(r2star, "Mean R2* (1/s)", 1, links.get("r2star")))
    else:
        text = "There is no R2* of these regions: it needs scans of three or more echoes."
        blocks.append(Paragraph(text, note=True))
    return (*blocks, *pictures)


def _scans_by_rois(table, caption, factor, link):
    """Return a table with a row for each scan, and the mean and SD over scans below."""
    labels = _label_columns(table)
    rois = list(pd.unique(table["roi"]))
    wide = table.assign(**table[labels].fillna(""))
    wide = wide.pivot_table(index=labels, columns="roi", values="mean", sort=True, dropna=False)
    wide = wide.dropna(how="all")[rois] if labels else wide[rois]
    footer = pd.DataFrame([wide.mean(), wide.std(ddof=1)]).assign(**dict.fromkeys(labels[1:], ""))
    footer[labels[0]] = ["mean", "SD over scans"]
    columns = list(map(Column, labels))
    for roi in rois:
        columns.append(Column(roi, readable(roi), ".1f", factor))
    return Table(wide.reset_index(), caption, tuple(columns), link, footer)


def _lesions(table, source, picture):
    if table is None:
        return ()
    total = table.iloc[-1]
    rows = table.iloc[:-1]
    items = {"lesions": str(len(rows)), "volume (mL)": f"{total['volume']:.3f}"}
    blocks = [KeyValues(items, "T2 lesions"), Paragraph(source, note=True)]
    if len(rows):
        is_long = len(rows) > MAX_LESIONS
        caption = f"The {MAX_LESIONS} largest lesions" if is_long else "Lesions"
        blocks.append(Table(rows.head(MAX_LESIONS), caption, LESION_COLUMNS))
    if picture is not None:
        blocks.append(picture)
    return tuple(blocks)


def _quality(table):
    if table is None:
        return ()
    text = (
        "No scan was excluded on the basis of these measures. A study model can exclude scans by "
        "them."
    )
    blocks = _common_and_differing(table, "Quality of the scans", QUALITY_COLUMNS, None)
    return (Paragraph(text, note=True), *blocks)


def _registration(table, picture, links):
    blocks = []
    if table is not None and len(table) == 1 and table["translation"].isna().all():
        text = "There is only one scan, which needs no registration."
        blocks.append(Paragraph(text, note=True))
    elif table is not None and not table.empty:
        text = (
            "The residual displacement says how far the pairwise registrations of the scans "
            "disagree. It should be well below the voxel size."
        )
        blocks.append(Paragraph(text, note=True))
        caption = "Rigid motion between each scan and the average"
        rows = _without_empty_labels(table)
        blocks.append(Table(rows, caption, REGISTRATION_COLUMNS, links.get("registration")))
    if picture is not None:
        blocks.append(replace(picture, budget=SCAN_BUDGET))
    return tuple(blocks)


def _variability(pictures):
    if not pictures:
        return ()
    text = "Voxel-wise standard deviation of susceptibility across the registered scans."
    blocks = [Paragraph(text, note=True)]
    for picture in pictures:
        blocks.append(replace(picture, budget=SCAN_BUDGET // len(pictures)))
    return tuple(blocks)


def _scan_pictures(pictures):
    blocks = []
    for title, pictures_of_scan in pictures.items():
        budget = SCAN_BUDGET // max(len(pictures_of_scan), 1)
        small_pictures = []
        for picture in pictures_of_scan:
            smaller_budget = min(budget, picture.budget)
            small_pictures.append(replace(picture, budget=smaller_budget, wide=False))
        blocks.append(Details(title, small_pictures, open=not blocks))
    return tuple(blocks)


def _common_and_differing(table, caption, columns, link):
    """Return blocks that state what all scans have in common once, and a table of the rest."""
    data_columns = []
    common = {}
    for column in columns:
        if column.name in LABELS or column.name == "method" or column.name not in table:
            continue
        data_columns.append(column)
        texts = {format_cell(value, column) for value in table[column.name]}
        if len(texts) == 1 and len(table) > 1:
            common[column] = texts.pop()
    items = {column.heading or column.name: text for column, text in common.items()}
    if data_columns and len(common) == len(data_columns):
        return [KeyValues({"scans": _scan_names(table), **items}, caption)]
    rows = _without_empty_labels(table.drop(columns=[column.name for column in common]))
    if not common:
        return [Table(rows, caption, columns, link)]
    return [
        KeyValues(items, f"{caption}: common values"),
        Table(rows, f"{caption}: values that differ", columns, link),
    ]


def _scan_names(table):
    labels = table[_label_columns(table)].drop_duplicates().fillna("").astype(str)
    names = []
    for row in labels.to_dict("records"):
        words = [f"{name} {label}" for name, label in row.items() if label]
        names.append(" ".join(words))
    return "; ".join(names)


def _label_columns(table):
    """Return the names of those columns of labels that have a label in any row."""
    return [name for name in LABELS if name in table and not _is_empty(table[name])]


def _without_empty_labels(table):
    empty = [name for name in LABELS if name in table and _is_empty(table[name])]
    return table.drop(columns=empty)


def _is_empty(labels):
    return labels.isna().all() or set(labels.dropna()) <= {"n/a", ""}


def _n_sites(scans):
    return scans["site"].nunique() if "site" in scans else min(len(scans), 1)
